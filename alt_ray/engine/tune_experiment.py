"""One experiment of Ray Tune after the other, over trials that lie in a folder, and what they took. Knows no search.

What has ended lies with the trials (engine/tune_trial.py): Tune's own record of an experiment is thrown away.
"""

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

from alt_ray.engine.interrupts import first_interrupt
from alt_ray.engine.progress import announce
from alt_ray.engine.tune_search import WAITING_CPUS, StopWhen, TrialResources
from alt_ray.engine.tune_trial import TRIALS, TrialJob, run_trial
from alt_ray.engine.tune_watch import Watch
from alt_ray.errors import JobError
from alt_ray.evaluation.trials import TRIAL_FILE, TrialRecord, TrialSettings, read_trial
from alt_ray.remote.mirror import Mirror
from alt_ray.tracking import Tracker

TUNE_FOLDER, STATES = ".tune", "checkpoints"
MAX_FAILURES = 2  # of a trial whose worker died: it goes on from its last epoch


@dataclass
class Experiments:
    """Runs trials of `job` on `plan`, and counts: seconds of Tune, of the trials themselves and of the processor.

    `path`: of the search, where TRIALS lies. `trials`: its mirror, if the search is remote.
    """

    job: TrialJob
    plan: TrialResources
    path: Path
    trials: Mirror | None
    tracker: Tracker
    quiet: bool = False
    was_asked: bool = field(default=False, init=False)  # to end
    was_late: bool = field(default=False, init=False)
    tune_s: float = field(default=0.0, init=False)
    own_s: float = field(default=0.0, init=False)
    cpu_s: float = field(default=0.0, init=False)

    def run(
        self,
        phase: str,
        stop: StopWhen,
        total: int,
        listed: tuple[TrialSettings, ...],
        search: Any = None,
        schedule: Any = None,
    ) -> None:
        """Run trials until all have ended or `stop` says so. With `listed` these are the trials, in their order.

        Raises JobError where Tune can't run them.
        """
        plan, workers = self.plan, self.job.workers
        job = replace(self.job, listed=listed)
        if self._has_ended(total, listed):
            announce(f"tune: {phase}: all {total} trials were done before", quiet=self.quiet)
            return
        watch = Watch(job, self.tracker, total, phase, stop, self.trials, quiet=self.quiet)
        # Several workers are Ray Train's, which asks for their CPUs itself: the trial only waits for them.
        own = {"cpu": plan.cpus, "gpu": plan.gpus} if workers == 1 else {"cpu": WAITING_CPUS}
        storage = self.path / TUNE_FOLDER
        shutil.rmtree(storage, ignore_errors=True)
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(ray_tune.with_parameters(run_trial, job=job), own),
            param_space={"number": ray_tune.grid_search(list(range(total)))} if listed else {},
            tune_config=ray_tune.TuneConfig(
                num_samples=1 if listed else total,
                search_alg=search,
                scheduler=schedule,
                max_concurrent_trials=plan.slots,
                # A worker keeps its process for the next trial: importing torch takes longer than a small trial. Ray Train's
                # workers end with the trial that started them, and only with its process.
                reuse_actors=workers == 1,
            ),
            run_config=ray_tune.RunConfig(
                name=phase,
                storage_path=str(storage),
                verbose=0,
                callbacks=[watch],
                stop=stop,
                failure_config=ray_tune.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        begun_s = time.perf_counter()
        try:
            with first_interrupt(stop.ask):
                tuner.fit()
        except (ray.exceptions.RayError, ray_tune.TuneError) as exc:
            raise JobError(f"the trials could not be run ({exc}); run the same command again to go on") from exc
        finally:
            self.was_asked |= stop.is_asked
            self.was_late |= stop.is_late
            watch.close()
            shutil.rmtree(storage, ignore_errors=True)
            self.tune_s += time.perf_counter() - begun_s
            self.own_s += watch.own_s
            self.cpu_s += watch.cpu_s

    def _has_ended(self, total: int, listed: tuple[TrialSettings, ...]) -> bool:
        """Whether nothing is left to do: Tune, and workers for it, need not be started then."""
        before = [read_trial(self.job.folder_of(settings)) for settings in listed] if listed else self.records()
        ended = [r for r in before if r is not None and not (r.status == "failed" and self.job.retry_failed)]
        return len(ended) >= total

    def records(self) -> list[TrialRecord]:
        """What has ended, of the search alone: its seed is no final one's."""
        folders = sorted((self.path / TRIALS).glob("*"), key=lambda path: path.name)
        found = [record for path in folders if (record := read_trial(path)) is not None]
        return [record for record in found if record.settings.seed == self.job.base.seed]

    def have_begun(self) -> bool:
        """Whether a trial has ended, in this run or in an earlier one."""
        return any((self.path / TRIALS).glob(f"*/{TRIAL_FILE}"))

    def forget_states(self) -> None:
        """Remove the states of trials that were stopped early: nothing goes on from them. Not while trials run."""
        for record in self.records():
            if record.status == "stopped":
                folder = self.job.folder_of(record.settings)
                shutil.rmtree(folder / STATES, ignore_errors=True)
                if self.trials is not None:
                    for name in self.trials.remote.infos(f"{folder.name}/{STATES}", recursive=True):
                        self.trials.remote.remove(f"{folder.name}/{STATES}/{name}")
