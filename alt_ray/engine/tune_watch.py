"""What the driver hears of trials: a record of each that ends, a nested MLflow run, a line for people. Chooses nothing."""

import hashlib
import sys
from typing import Any

from ray import tune

from alt_ray.engine.tune_search import StopWhen
from alt_ray.engine.tune_trial import TrialJob
from alt_ray.evaluation.trials import TrialRecord, TrialSettings, read_trial
from alt_ray.remote.mirror import Mirror
from alt_ray.schema import FORMAT_VERSION
from alt_ray.tracking import Tracker
from alt_ray.versions import read_stamped

RESULT_FILE = "task.json"


class Watch(tune.Callback):
    """Hears of the trials of one experiment. `own_s` and `cpu_s` sum what they took, `num_ended` counts them.

    trials: the driver's copy of the trials' folders, where these are remote.
    """

    def __init__(
        self,
        job: TrialJob,
        run: Tracker,
        total: int,
        phase: str,
        stop: StopWhen,
        trials: Mirror | None = None,
        *,
        quiet: bool,
    ) -> None:
        self.job, self.run, self.total, self.phase, self.stop, self.quiet = job, run, total, phase, stop, quiet
        self.own_s, self.cpu_s, self.num_ended = 0.0, 0.0, 0
        self.trials = trials
        self._trackers: dict[str, Tracker] = {}
        self._histories: dict[str, list[dict[str, Any]]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        settings = self.job.settings_of(trial.config)
        if read_trial(self.job.folder_of(settings)) is not None or trial.trial_id in self._trackers:
            return
        tracker = self.run.child(
            settings.name, {"alt_ray.phase": self.phase}, key=child_key(self.run.key, settings.name)
        )
        tracker.params(
            {**settings.__dict__, "merge_ratio": round(self.job.arms[settings.arm].merge_ratio, 4), "phase": self.phase}
        )
        self._trackers[trial.trial_id] = tracker

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        entry = {name: result[name] for name in _LOGGED if name in result}
        history = self._histories.setdefault(trial.trial_id, [])
        if not history or history[-1]["epoch"] < entry["epoch"]:
            history.append(entry)
        if trial.trial_id in self._trackers:
            numbers = {name: value for name, value in entry.items() if isinstance(value, int | float)}
            self._trackers[trial.trial_id].metrics(numbers, step=int(entry["epoch"]))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, (trial.last_result or {}).get("error", ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        lines = [line for line in (trial.error_msg or "the worker died").strip().splitlines() if line.strip()]
        self._end(trial, lines[-1].strip() if lines else "the worker died")

    def __reduce__(self) -> tuple[object, ...]:
        return (
            tune.Callback,
            (),
        )  # Tune pickles what it may restore, which it never does here: it has nothing to remember

    def close(self) -> None:
        """End the runs of trials that were cut off."""
        for tracker in self._trackers.values():
            tracker.finish("KILLED")

    def _end(self, trial: Any, error: str) -> None:
        settings = self.job.settings_of(trial.config)
        folder = self.job.folder_of(settings)
        last = trial.last_result or {}
        self.own_s += float(last.get("seconds", 0.0))
        self.cpu_s += float(last.get("cpu_s", 0.0))
        if self.trials is not None:
            self.trials.pull()
        record = before = read_trial(folder)
        is_new = before is None or (before.status == "failed" and self.job.retry_failed)
        finished = folder / RESULT_FILE
        if is_new and (error or finished.exists() or not self.stop.is_ending):
            result = read_stamped(finished, FORMAT_VERSION, missing=1) if finished.exists() else None
            record = self._record(settings, last, result, error, self._histories.get(trial.trial_id, []))
            record.write(folder)
            if self.trials is not None:
                self.trials.push()
        elif is_new:
            return  # cut off: nothing is recorded, so that it goes on
        self.num_ended += 1
        assert record is not None
        tracker = self._trackers.pop(trial.trial_id, None)
        if tracker is not None:
            tracker.metrics({f"{test}_top_1": value for test, value in record.tests.items()}, step=record.epochs)
            tracker.metrics({"best_val_top_1": record.val, "gflops_per_view": record.gflops}, step=record.epochs)
            tracker.tags({"alt_ray.trial": record.status, **({"error": record.error} if record.error else {})})
            tracker.finish("FAILED" if record.status == "failed" else "FINISHED")
        self._say(record, is_new=is_new)

    def _record(
        self,
        settings: TrialSettings,
        last: dict[str, Any],
        result: dict[str, Any] | None,
        error: str,
        history: list[dict[str, Any]],
    ) -> TrialRecord:
        arm = self.job.arms[settings.arm]
        if result is not None:
            history = result["history"]
        values = [entry["val_top_1"] for entry in history if "val_top_1" in entry]
        return TrialRecord(
            settings=settings,
            status="finished" if result is not None else "failed" if error else "stopped",
            merge_ratio=arm.merge_ratio,
            merge_r=arm.merge_r,
            gflops=self.job.cost_of(settings),
            epochs=int(history[-1]["epoch"]) if history else 0,
            best_epoch=result["best_epoch"] if result else 1 + values.index(max(values)) if values else 0,
            val=max(values) if values and not (error and result is None) else None,
            tests={name: figures["top_1"] for name, figures in result["tests"].items()} if result else {},
            seconds=float(last.get("seconds", 0.0)),
            cpu_s=float(last.get("cpu_s", 0.0)),
            machine=str(last.get("machine", "")),
            error="" if result is not None else error,
            history=history,
        )

    def _say(self, record: TrialRecord, *, is_new: bool) -> None:
        if self.quiet:
            return
        settings = record.settings
        parts = [f"merged {record.merge_ratio:.2f}", f"temperature {settings.temperature:.3g}"]
        if self.job.base.blocks != settings.blocks:
            parts.append(f"{settings.blocks} blocks")
        if self.job.base.lr != settings.lr:
            parts.append(f"lr {settings.lr:.2g}")
        if self.job.base.corpus_subset != settings.corpus_subset:
            parts.append(settings.corpus_subset)
        if self.phase != "search":
            parts.append(f"seed {settings.seed}")
        said = {
            "failed": f"failed: {record.error[:160]}",
            "stopped": f"stopped early at epoch {record.epochs}, validation {record.val or 0:.3f}",
            "finished": f"validation {record.val or 0:.3f}, {record.seconds:.1f} s",
        }[record.status]
        again = "" if is_new else " (done before)"
        print(
            f"tune: {self.phase} {self.num_ended} of {self.total}: {', '.join(parts)}: {said}{again}",
            file=sys.stderr,
            flush=True,
        )


_LOGGED = ("epoch", "loss", "accuracy", "lr", "val_top_1", "clips_per_s", "data_wait_share")


def child_key(parent: str, name: str) -> str:
    """The same run for the same trial of the same search, also when it goes on another day."""
    return hashlib.sha256(f"{parent}/{name}".encode()).hexdigest()[:32]
