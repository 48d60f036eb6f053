"""The tune job: stores, trials on Ray Tune, the best once more over seeds, and what was found. Knows nothing of the command line.

The truth about trials is what lies in OUT/trials; Ray Tune decides which run, when, and which are stopped. A search that goes on
gives Tune the same trials again, and those that have ended answer at once (engine/tune_trial.py).
"""

import json
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune as ray_tune

import alt_ray
from alt_ray.config_tune import TuneOptions
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.cluster import cluster, versions
from alt_ray.engine.progress import announce
from alt_ray.engine.runfolder import RunFolder
from alt_ray.engine.train import corpus_for
from alt_ray.engine.tune_search import (
    DEFAULT_TRIALS,
    StopWhen,
    TrialResources,
    begun_before,
    corpus_part,
    dimensions,
    grid_of,
    plan_trials,
    quiet_tune,
    repeated,
    scheduler,
    searcher,
    space_of,
    sweep_of,
)
from alt_ray.engine.tune_stores import Arm, open_arms, sources_of
from alt_ray.engine.tune_trial import FULL, TRIALS, TrialJob, run_trial
from alt_ray.engine.tune_watch import Watch
from alt_ray.errors import JobError, UsageError
from alt_ray.evaluation.outcome import Outcome, outcome_of
from alt_ray.evaluation.protocols import training_tasks
from alt_ray.evaluation.selection import Objective
from alt_ray.evaluation.trials import TrialRecord, TrialSettings, read_trial, write_table
from alt_ray.features.store import FeatureStore
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.cost import cost
from alt_ray.tracking import Tracker, recorded, tracked

SPEED_FILE, TUNE_FOLDER, BEST = "speed.json", ".tune", "best"
MAX_FAILURES = 2  # of a trial whose worker died: it goes on from its last epoch

Draw = Callable[[Path, Outcome], list[Path]]  # pictures and the page of what was found, into a folder


def no_pictures(folder: Path, outcome: Outcome) -> list[Path]:
    """Draw nothing."""
    return []


@dataclass(frozen=True)
class TuneReport:
    """What a search found, and what it took: `own_s` are the trials' own seconds, the rest of slots * wall_s is overhead."""

    outcome: Outcome
    out: str
    wall_s: float
    own_s: float
    tune_s: float
    slots: int
    is_whole: bool

    @property
    def overhead_share(self) -> float | None:
        """Time of the slots in which no trial worked, as a share of the time in which one did; None if none ran."""
        return (self.tune_s * self.slots - self.own_s) / self.own_s if self.own_s > 1 else None

    def table(self) -> str:
        """What a person reads."""
        outcome, lines = self.outcome, [f"protocol: {self.outcome.protocol}"]
        if outcome.search:
            counts = ", ".join(f"{count} {kind}" for kind, count in outcome.counts().items() if count)
            lines += [f"{len(outcome.search)} trials: {counts}"]
        if outcome.search and outcome.front:
            lines += ["", "front of accuracy and cost, one training each:", outcome.front_table()]
        if outcome.candidates:
            seeds = len(outcome.candidates[0].runs)
            what = f"values of --sweep {outcome.sweep}" if outcome.sweep else "final candidates"
            lines += ["", f"{what}, mean ± standard deviation over {seeds} other seeds; * beyond the noise:"]
            lines += [outcome.candidate_table()]
        lines += ["", *(f"- {finding}" for finding in outcome.findings())]
        if outcome.best is not None:
            lines.append(f"best by {outcome.objective}: {outcome.best.name}, in {self.out}/{BEST}")
        share = self.overhead_share
        if share is not None:
            lines.append(
                f"{self.wall_s:.0f} s in all; {self.own_s:.0f} s of trials in {self.slots} slots of {self.tune_s:.0f} s, "
                f"{share:.1%} on top"
            )
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        share = self.overhead_share
        return {
            **self.outcome.as_json(),
            "out": self.out,
            "is_whole": self.is_whole,
            "wall_s": round(self.wall_s, 2),
            "tune_s": round(self.tune_s, 2),
            "trials_s": round(self.own_s, 2),
            "slots": self.slots,
            "overhead_share": None if share is None else round(share, 4),
        }


def tune(options: TuneOptions, *, draw: Draw = no_pictures) -> TuneReport:
    """Search, and return what was found, which also stands in OUT.

    Raises UsageError (nothing was begun), JobError, or KeyboardInterrupt when it was asked to stop: what was finished is in OUT
    then, and the same call goes on from there.
    """
    objective = Objective.parse(options.objective)
    folder = RunFolder(options.out)
    quiet_tune()
    begun_s = time.time()
    with folder.lock(), cluster(options.cluster.address) as available:
        arms, clips = open_arms(sources_of(options, folder.path), quiet=options.output.quiet)
        plan = plan_trials(available, options)
        job = _job(options, arms, clips, plan, folder.path)
        settings = _settings(options, job, arms)
        folder.check(settings)
        key = _run_key(folder.path)
        record = {
            "command": "tune",
            "alt_ray_version": alt_ray.__version__,
            "settings": settings,
            "options": recorded(options),
            "versions": versions(),
            "run_key": key,
        }
        folder.write_run({**record, "status": "running"})
        with tracked(options.tracking, "tune", spool_folder=folder.path, key=key) as run:
            run.tags({"versions": versions(), "weights_digest": arms[0].record.encoder["weights_digest"]})
            for arm in arms:
                run.lineage(f"features {arm.name}", arm.uri, arm.digest, FeatureStore(arm.uri).run_reference())
            job = replace(job, origin={"tracking": run.reference(), "protocol_options": asdict(options.protocol)})
            search = _Search(options, objective, job, arms, plan, folder, run, draw, begun_s)
            try:
                report = search.run()
            except BaseException as exc:
                status = "interrupted" if isinstance(exc, KeyboardInterrupt) else "failed"
                folder.write_run({**record, "status": status, "tracking": run.reference()})
                raise
            status = "done" if report.is_whole else "interrupted" if search.stop.is_asked else "out of time"
            folder.write_run({**record, "status": status, "tracking": run.reference()})
            if search.stop.is_asked:
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
        job: TrialJob,
        arms: list[Arm],
        plan: TrialResources,
        folder: RunFolder,
        run: Tracker,
        draw: Draw,
        begun_s: float,
    ) -> None:
        self.options, self.objective, self.job, self.arms, self.plan = options, objective, job, arms, plan
        self.folder, self.tracker, self.draw, self.begun_s = folder, run, draw, begun_s
        deadline = None if options.budget_hours is None else begun_s + 3600 * options.budget_hours
        self.stop = StopWhen(deadline, options.final_seeds * options.final_candidates, plan.slots)
        self.tune_s = self.own_s = 0.0
        self.speeds: dict[str, float] = {}

    def run(self) -> TuneReport:
        options, names = self.options, [arm.name for arm in self.arms]
        self.tracker.params({**recorded(options), "resources": str(self.plan)}) if not self._has_begun() else None
        self.speeds = self._measured_speeds()
        points: Sequence[TrialSettings] = []
        if options.sweep is not None:
            points = sweep_of(options, names, self.job.base)
        else:
            self._run_search(names)
            if not self.stop.is_asked:
                points = self._candidates()
        finals = repeated(points, options.final_seeds) if not self.stop.is_asked else []
        if finals:
            what = "values of the sweep" if options.sweep else "candidates"
            announce(f"tune: {len(points)} {what}, {options.final_seeds} seeds each", quiet=options.output.quiet)
            self._experiment("sweep" if options.sweep else "final", {}, len(finals), tuple(finals), None, None)
        return self._report(finals)

    def _run_search(self, names: list[str]) -> None:
        options = self.options
        if options.search == "grid":
            grid = tuple(grid_of(options, names, self.job.base))
            self._experiment("search", {}, len(grid), grid, None, scheduler(options))
            return
        space, total = space_of(options, names), options.trials or DEFAULT_TRIALS
        before = begun_before(self.folder.path)[:total]
        self._experiment("search", space, total, (), searcher(options, space, before, total), scheduler(options))

    def _experiment(
        self,
        phase: str,
        space: dict[str, Any],
        total: int,
        listed: tuple[TrialSettings, ...],
        search: Any,
        schedule: Any,
    ) -> None:
        """Run trials until all have ended or `stop` says so. With `listed` these are the trials, in their order."""
        options, plan = self.options, self.plan
        job = replace(self.job, listed=listed)
        if listed:
            space, num_samples = {"number": ray_tune.grid_search(list(range(total)))}, 1
        else:
            num_samples = total
        watch = Watch(job, self.tracker, total, phase, self.stop, quiet=options.output.quiet)
        # Several workers are Ray Train's, which asks for their CPUs itself: the trial only waits for them.
        own: dict[str, float] = {"cpu": plan.cpus, "gpu": plan.gpus} if options.workers == 1 else {"cpu": 0}
        storage = self.folder.path / TUNE_FOLDER
        shutil.rmtree(storage, ignore_errors=True)
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(ray_tune.with_parameters(run_trial, job=job), own),
            param_space=space,
            tune_config=ray_tune.TuneConfig(
                num_samples=num_samples,
                search_alg=search,
                scheduler=schedule,
                max_concurrent_trials=plan.slots,
                # A worker keeps its process for the next trial: importing torch takes longer than a small trial. Ray Train's
                # workers end with the trial that started them, and only with its process.
                reuse_actors=options.workers == 1,
            ),
            run_config=ray_tune.RunConfig(
                name=phase,
                storage_path=str(storage),
                verbose=0,
                callbacks=[watch],
                stop=self.stop,
                failure_config=ray_tune.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        begun_s = time.perf_counter()
        try:
            with _first_interrupt(self.stop.ask):
                tuner.fit()
        finally:
            watch.close()
            shutil.rmtree(storage, ignore_errors=True)
            self.tune_s += time.perf_counter() - begun_s
            self.own_s += watch.own_s

    def _candidates(self) -> list[TrialSettings]:
        done = [r for r in self._records() if r.status == "finished" and r.val is not None]
        if not done or not self.options.final_seeds or self.options.final_candidates < 1:
            return []
        chosen = self.objective.candidates(
            [r.val or 0.0 for r in done], [r.gflops for r in done], self.options.final_candidates
        )
        return [done[i].settings for i in chosen]

    def _records(self, seed: int | None = None) -> list[TrialRecord]:
        """What has ended, of the search alone: its seed is no final one's."""
        seed = self.job.base.seed if seed is None else seed
        folders = sorted((self.folder.path / TRIALS).glob("*"), key=lambda path: path.name)
        found = [record for path in folders if (record := read_trial(path)) is not None]
        return [record for record in found if record.settings.seed == seed]

    def _report(self, finals: Sequence[TrialSettings]) -> TuneReport:
        records = [] if self.options.sweep else self._records()
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
        is_whole = not (self.stop.is_asked or self.stop.is_late) and len(ended) == len(finals)
        out = self.folder.path
        report = TuneReport(
            outcome, str(out), time.time() - self.begun_s, self.own_s, self.tune_s, self.plan.slots, is_whole
        )
        write_table(out / "trials.csv", outcome.all_records, self.speeds)
        if outcome.best is not None:
            _publish_best(self.job.folder_of(outcome.best.settings) / BEST, out / BEST)
        self.folder.write("metrics.json", report.as_json())
        if outcome.all_records:
            files = self.draw(out, outcome)
            _track(self.tracker, out, report, files)
        return report

    def _has_begun(self) -> bool:
        return any((self.folder.path / TRIALS).glob("*/trial.json"))

    def _measured_speeds(self) -> dict[str, float]:
        """Videos/s of the encoder by arm: measured once and kept."""
        file = self.folder.path / SPEED_FILE
        wanted = {arm.name: arm.schedule for arm in self.arms}
        if file.exists() and set(known := json.loads(file.read_text())["videos_per_s"]) >= set(wanted):
            return {name: known[name] for name in wanted}
        announce("tune: measuring the encoder's speed at each merging", quiet=self.options.output.quiet)
        record, pretrained = self.arms[0].record, self.options.encoder.pretrained
        device, threads = ("cuda" if self.plan.gpus else "cpu"), max(1, int(ray.cluster_resources().get("CPU", 1)))

        def task() -> dict[str, float]:
            from alt_ray.engine.tune_speed import measure_speed

            return measure_speed(record, wanted, pretrained=pretrained, device=device, num_threads=threads)

        found = _on_worker(task, self.plan, "the encoder's speed could not be measured")
        self.folder.write(SPEED_FILE, {"videos_per_s": found, "device": device, "threads": threads})
        return found


def _job(options: TuneOptions, arms: list[Arm], clips: Any, plan: TrialResources, out: Path) -> TrialJob:
    store = FeatureStore(arms[0].uri)
    record, model = store.record, options.model
    labels = read_labels(options.labels) if options.labels is not None else None
    task = training_tasks(clips, labels, options.protocol)[0]
    if not len(task.val):
        raise UsageError(
            "a search chooses by validation accuracy, and no clip is for validation: give a --val-share above 0, or clips of the "
            f"split val ({task.description})"
        )
    corpus = corpus_for(store, model.corpus, model.entity_templates)
    corpora = {name: corpus_part(corpus, name) for name in options.corpus_subsets or (FULL,)}
    base = TrialSettings(
        arms[0].name, model.temperature, model.blocks, options.learning.lr, next(iter(corpora)), options.seed
    )
    names = sorted({label for asked in (task.labels, *task.test_labels.values()) for label in asked})
    pretrained, template = options.encoder.pretrained, model.template

    def texts() -> Any:
        from alt_ray.training.texts import embed_texts  # loads the text tower, which the driver has no use for

        return embed_texts(record, names, template, corpus, pretrained=pretrained)

    announce(f"tune: {len(arms)} mergings, {plan}; {task.description}", quiet=options.output.quiet)
    return TrialJob(
        arms={arm.name: arm for arm in arms},
        task=task,
        texts=_ref_on_worker(texts, plan, "the texts could not be embedded"),
        corpora=corpora,
        model=model,
        learning=options.learning,
        base=base,
        gflops={
            (arm.name, blocks, part): _gflops(options, arm, blocks, len(corpora[part]))
            for arm in arms
            for blocks in (options.depths or (model.blocks,))
            for part in corpora
        },
        out=str(out),
        num_threads=max(1, int(plan.cpus)),
        workers=options.workers,
        cpus_per_worker=plan.cpus,
        gpus_per_worker=plan.gpus,
        retry_failed=options.inputs.retry_failed,
    )


def _gflops(options: TuneOptions, arm: Arm, blocks: int, num_entities: int) -> float:
    """Encoder, alignment and adapter for one view, in 1e9 multiply-adds."""
    model, encoder = options.model, arm.record.encoder
    changes: dict[str, Any] = {"num_blocks": blocks, "conv": model.conv, "conv_over": model.conv_over}
    changes["queries"] = "learned" if model.method == "learned-queries" else "entity"
    if model.width is not None:
        changes["width"] = model.width
    return cost(
        encoder["model_config"],
        list(arm.schedule),
        adapter=AdapterConfig.for_model(encoder["model_config"], **changes),
        num_frames=arm.record.num_frames,
        num_entities=num_entities,
        region_features=encoder["region_features"],
    ).gflops_per_view


def _settings(options: TuneOptions, job: TrialJob, arms: list[Arm]) -> dict[str, Any]:
    """What trials depend on: a folder holds those of one search. How many there are, and what is best, may change."""
    model = {n: v for n, v in asdict(options.model).items() if n not in ("corpus", "entity_templates")}
    return {
        "features": {arm.name: arm.digest for arm in arms},
        "weights_digest": arms[0].record.encoder["weights_digest"],
        "corpus_digests": {name: corpus.digest for name, corpus in job.corpora.items()},
        "labels": list(job.task.labels),
        "model": model,
        "learning": {n: v for n, v in asdict(options.learning).items() if n != "accumulate"},
        "protocol": asdict(options.protocol),
        "search": options.search,
        "sweep": options.sweep,
        "space": {name: list(values) for name, values in dimensions(options, [arm.name for arm in arms]).items()},
        "asha": [options.asha, options.grace_epochs],
    }


def _run_key(out: Path) -> str:
    """Our name of the search's MLflow run: that of the run which goes on, or a new one."""
    try:
        return str(json.loads((out / "run.json").read_text())["run_key"])
    except (OSError, ValueError, KeyError):
        return uuid.uuid4().hex


def _on_worker(function: Callable[[], Any], plan: TrialResources, what: str) -> Any:
    return ray.get(_ref_on_worker(function, plan, what))


def _ref_on_worker(function: Callable[[], Any], plan: TrialResources, what: str) -> Any:
    """Run a function on a worker, and return a reference to what it returns. Raises UsageError as it does, else JobError."""
    remote = ray.remote(num_cpus=plan.cpus, num_gpus=plan.gpus, max_retries=1)(function)
    ref = remote.remote()
    try:
        ray.wait([ref], fetch_local=False)
        ray.get(
            ray.remote(num_cpus=0)(lambda value: None).remote(ref)
        )  # raises what the function raised, brings nothing here
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, UsageError):
            raise exc.cause from None
        raise JobError(f"{what}: {exc.cause}") from exc
    except ray.exceptions.RayError as exc:
        raise JobError(f"{what}: {exc}") from exc
    return ref


@contextmanager
def _first_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Turn the first ctrl-C or SIGTERM into a call of `ask`; the next one interrupts as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        for other, handler in before.items():
            signal.signal(other, handler)
        ask()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _publish_best(source: Path, target: Path) -> None:
    """Copy a checkpoint folder; a reader finds the old one or the new one, or for a moment none, never half of one."""
    if not source.is_dir():
        return
    part = target.with_name(f".{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def _track(run: Tracker, out: Path, report: TuneReport, files: Sequence[Path]) -> None:
    best = report.outcome.best
    if best is not None:
        run.metrics(
            {
                "best_val_top_1": best.val,
                **{f"best_{n}_top_1": v for n, v in best.tests.items()},
                "best_gflops": best.gflops,
            }
        )
        run.tags({"best_trial": best.name})
    run.metrics(
        {"overhead_share": report.overhead_share, "wall_s": report.wall_s, "trials": len(report.outcome.all_records)}
    )
    for name in ("metrics.json", "trials.csv"):
        run.artifact(out / name)
    for file in files:
        run.artifact(file, "plots" if file.suffix == ".png" else None)
    if (out / BEST).is_dir():
        from alt_ray.tracking.pyfunc import log_model

        run.artifact(out / BEST, "checkpoint")
        log_model(run, out / BEST)
