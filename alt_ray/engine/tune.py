"""The tune job: stores, trials on Ray Tune, the best once more over seeds, and what was found. Knows nothing of the command line.

The truth about trials is what lies in OUT/trials; Ray Tune decides which run, when, and which are stopped. A search that goes on
gives Tune the same trials again, and those that have ended answer at once (engine/tune_trial.py).
"""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from alt_ray.config_tune import TuneOptions
from alt_ray.engine.cluster import cluster, versions
from alt_ray.engine.progress import announce
from alt_ray.engine.runfolder import RUN_FILE, RunFolder
from alt_ray.engine.tune_experiment import Experiments
from alt_ray.engine.tune_report import BEST, TuneReport, publish_best, track
from alt_ray.engine.tune_search import (
    DEFAULT_TRIALS,
    StopWhen,
    begun_before,
    grid_of,
    plan_trials,
    quiet_tune,
    random_of,
    repeated,
    scheduler,
    searcher,
    space_of,
    sweep_of,
)
from alt_ray.engine.tune_setup import job_of, measured_speeds, settings_of
from alt_ray.engine.tune_stores import Arm, open_arms, sources_of
from alt_ray.engine.tune_trial import TRIALS
from alt_ray.errors import JobError
from alt_ray.evaluation.outcome import Outcome, outcome_of
from alt_ray.evaluation.selection import Objective
from alt_ray.evaluation.trials import TrialSettings, read_trial, write_table
from alt_ray.features.store import FeatureStore
from alt_ray.remote.folder import RemoteFolder
from alt_ray.remote.mirror import Mirror
from alt_ray.tracking import recorded, tracked

Draw = Callable[[Path, Outcome], list[Path]]  # pictures and the page of what was found, into a folder


def no_pictures(folder: Path, outcome: Outcome) -> list[Path]:
    """Draw nothing."""
    return []


def tune(options: TuneOptions, *, draw: Draw = no_pictures) -> TuneReport:
    """Search, and return what was found, which also stands in OUT.

    Raises UsageError (nothing was begun), JobError, or KeyboardInterrupt when it was asked to stop: what was finished is in OUT
    then, and the same call goes on from there.
    """
    objective = Objective.parse(options.objective)
    folder = RunFolder(options.out, left_out=(TRIALS,))
    quiet_tune()
    begun_s = time.time()
    with folder.lock(), cluster(options.cluster.address, options.cluster.wanted) as machines:
        arms, clips = open_arms(sources_of(options, folder), quiet=options.output.quiet)
        plan = plan_trials(machines, options)
        trials = trials_of(folder)
        job = job_of(options, arms, clips, plan, folder)
        objective.choose(
            [0.0] * len(job.gflops), list(job.gflops.values())
        )  # a limit that nothing keeps is refused now
        settings = settings_of(options, job, arms)
        folder.check(settings)
        key = _run_key(folder.path)
        record = {
            "command": "tune",
            "settings": settings,
            "options": recorded(options),
            "versions": versions(),
            "run_key": key,
        }
        folder.write_run({**record, "status": "running"})
        with tracked(options.tracking, "tune", spool_folder=folder.spool_folder, key=key) as run:
            run.tags({"versions": versions(), "weights_digest": arms[0].record.encoder["weights_digest"]})
            for arm in arms:
                run.lineage(f"features {arm.name}", arm.uri, arm.digest, FeatureStore(arm.uri).run_reference())
            job = replace(job, origin={"tracking": run.reference(), "protocol_options": asdict(options.protocol)})
            runs = Experiments(job, plan, folder.path, trials, run, options.output.quiet)
            search = _Search(options, objective, arms, runs, folder, draw, begun_s)
            try:
                report = search.run()
            except BaseException as exc:
                status = "interrupted" if isinstance(exc, KeyboardInterrupt) else "failed"
                folder.write_run({**record, "status": status, "tracking": run.reference()})
                raise
            status = "done" if report.is_whole else "interrupted" if search.runs.was_asked else "out of time"
            folder.write_run({**record, "status": status, "tracking": run.reference()})
            if search.runs.was_asked:
                raise KeyboardInterrupt
    _refuse_failed(options, report)
    return report


def _refuse_failed(options: TuneOptions, report: TuneReport) -> None:
    failed, total = report.outcome.counts()["failed"], len(report.outcome.search)
    if report.outcome.best is None:
        raise JobError(f"no trial finished ({failed} of {total} failed); {report.out}/trials.csv says why")
    if failed > options.inputs.max_failed * max(total, 1):
        raise JobError(
            f"{failed} of {total} trials failed, more than --max-failed {options.inputs.max_failed:g} allows; "
            f"{report.out}/trials.csv says why"
        )


class _Search:
    """One run of a search: the experiments of Ray Tune, and what is made of them."""

    def __init__(
        self,
        options: TuneOptions,
        objective: Objective,
        arms: list[Arm],
        runs: Experiments,
        folder: RunFolder,
        draw: Draw,
        begun_s: float,
    ) -> None:
        self.options, self.objective, self.arms, self.runs = options, objective, arms, runs
        self.job, self.plan, self.tracker = runs.job, runs.plan, runs.tracker
        self.folder, self.draw, self.begun_s = folder, draw, begun_s
        self.deadline_s = None if options.budget_hours is None else begun_s + 3600 * options.budget_hours
        self.speeds: dict[str, float] = {}

    def run(self) -> TuneReport:
        options, names = self.options, [arm.name for arm in self.arms]
        if not self.runs.have_begun():  # MLflow refuses parameters that change, such as --trials
            self.tracker.params({**recorded(options), "resources": str(self.plan)})
        self.speeds = measured_speeds(options, self.arms, self.plan, self.folder)
        points: Sequence[TrialSettings] = []
        if options.sweep is not None:
            points = sweep_of(options, names, self.job.base)
        else:
            self._run_search(names)
            points = [] if self.runs.was_asked else self._candidates()
        finals = repeated(points, options.final_seeds)
        if finals:
            what = "values of the sweep" if options.sweep else "candidates"
            announce(f"tune: {len(points)} {what}, {options.final_seeds} seeds each", quiet=options.output.quiet)
            # A search has left time for its candidates; a sweep is all that there is.
            stop = StopWhen(self.deadline_s if options.sweep else None, 0, self.plan.slots)
            self.runs.run("sweep" if options.sweep else "final", stop, len(finals), tuple(finals))
        return self._report(finals)

    def _run_search(self, names: list[str]) -> None:
        options, base = self.options, self.job.base
        total = options.trials or DEFAULT_TRIALS
        stop = StopWhen(self.deadline_s, options.final_seeds * options.final_candidates, self.plan.slots)
        if options.search == "optuna":
            space, before = space_of(options, names), begun_before(self.folder.path)[:total]
            suggests = searcher(options, space, before, total)
            self.runs.run("search", stop, total, (), suggests, self._scheduler(()))
            return
        points = grid_of(options, names, base) if options.search == "grid" else random_of(options, names, base, total)
        self.runs.run("search", stop, len(points), tuple(points), schedule=self._scheduler(tuple(points)))

    def _scheduler(self, listed: tuple[TrialSettings, ...]) -> Any:
        job = replace(self.job, listed=listed)
        return scheduler(self.options, lambda config: job.settings_of(config).arm)

    def _candidates(self) -> list[TrialSettings]:
        done = [r for r in self.runs.records() if r.status == "finished" and r.val is not None]
        if not self.objective.allowed([r.gflops for r in done]) or not self.options.final_seeds:
            return []
        chosen = self.objective.candidates(
            [r.val or 0.0 for r in done], [r.gflops for r in done], self.options.final_candidates
        )
        return [done[i].settings for i in chosen]

    def _report(self, finals: Sequence[TrialSettings]) -> TuneReport:
        self.runs.forget_states()
        records = [] if self.options.sweep else self.runs.records()
        again = [read_trial(self.job.folder_of(settings)) for settings in finals]
        ended = [record for record in again if record is not None]
        task = self.job.task
        outcome = outcome_of(
            records,
            ended,
            self.objective,
            self.speeds,
            protocol=task.description,
            num_val=len(task.val),
            num_test=sum(map(len, task.tests.values())),
            sweep=self.options.sweep,
        )
        is_whole = not (self.runs.was_asked or self.runs.was_late) and len(ended) == len(finals)
        out = self.folder.path
        report = TuneReport(
            outcome,
            str(out) if self.folder.mirror is None else self.folder.uri,
            wall_s=time.time() - self.begun_s,
            own_s=self.runs.own_s,
            cpu_s=self.runs.cpu_s,
            tune_s=self.runs.tune_s,
            slots=self.plan.slots,
            is_whole=is_whole,
        )
        write_table(out / "trials.csv", outcome.all_records, self.speeds)
        if outcome.best is not None:
            publish_best(self.job.folder_of(outcome.best.settings) / BEST, out / BEST)
        self.folder.write("metrics.json", report.as_json())
        if outcome.all_records:
            files = self.draw(out, outcome)
            self.folder.send()
            track(self.tracker, out, report, files)
        return report


def trials_of(folder: RunFolder) -> Mirror | None:
    """The copy, filled, of what trials of a remote search have left, without their states; None if all see one folder."""
    if folder.mirror is None:
        return None
    trials = Mirror(RemoteFolder(folder.child(TRIALS)), folder.path / TRIALS, left_out=("checkpoints",))
    trials.pull()
    return trials


def _run_key(out: Path) -> str:
    """Our name of the search's MLflow run: that of the run which goes on, or a new one."""
    try:
        return str(json.loads((out / RUN_FILE).read_text())["run_key"])
    except (OSError, ValueError, KeyError):
        return uuid.uuid4().hex
