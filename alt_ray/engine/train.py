"""The train job: features (or videos, encoded first), a protocol's tasks, workers, results. Knows nothing of the command line.

Driver: reads the index of the store, makes the tasks, has the texts embedded, starts the workers or trains itself, shows what
they say, and puts the results together.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from alt_ray import bundled
from alt_ray.config_train import TrainJobOptions
from alt_ray.corpus.entities import Corpus, read_templates
from alt_ray.corpus.files import default_corpus_path, load_corpus
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.cluster import cluster, versions
from alt_ray.engine.feature_source import FEATURES, is_store, store_named, store_of_videos
from alt_ray.engine.progress import announce
from alt_ray.engine.report_runs import TrainingReport, say_entry, summary_of
from alt_ray.engine.runfolder import RunFolder
from alt_ray.engine.train_checks import check_videos, settings_of
from alt_ray.errors import JobError
from alt_ray.evaluation.names import disclosure
from alt_ray.evaluation.protocols import training_tasks
from alt_ray.evaluation.task import Task
from alt_ray.features.store import FeatureStore
from alt_ray.tracking import Tracker, recorded, tracked
from alt_ray.training.job import TrainingJob, run_tasks
from alt_ray.training.owner import Owner
from alt_ray.training.place import Place, local_device
from alt_ray.training.run import BEST
from alt_ray.training.texts import Texts, embed_texts

Draw = Callable[[Path, np.ndarray, Sequence[str]], None]  # a confusion matrix [C, C] and its labels, into a file


def no_picture(file: Path, confusion_CC: np.ndarray, labels: Sequence[str]) -> None:
    """Draw nothing."""


def train(options: TrainJobOptions, *, draw: Draw = no_picture) -> TrainingReport:
    """Train and test by the protocol, and return the results, which also stand in metrics.json.

    Raises UsageError (nothing was begun) or JobError (what was trained is kept; the same call goes on from there).
    """
    folder = RunFolder(options.out)
    quiet = options.output.quiet
    with folder.lock():
        labels = read_labels(options.labels) if options.labels is not None else None
        if is_store(options.source):
            store = store_named("train", options)
        else:
            features = folder.child(FEATURES)
            store = store_of_videos(
                "train",
                options,
                features,
                lambda inputs: check_videos(options, labels, folder, features, inputs),
                train_views=options.train_views,
            )
        tasks = training_tasks(store.clips(), labels, options.protocol)
        corpus = corpus_for(store, options.model.corpus, options.model.entity_templates)
        settings = settings_of(options, store, corpus, tasks[0].labels)
        folder.check(settings)
        announce(f"train: {len(tasks)} trainings, {tasks[0].description}", quiet=quiet)
        begun_s = time.time()
        record = {
            "command": "train",
            "settings": settings,
            "options": recorded(options),
            "versions": versions(),
        }
        folder.write_run({**record, "status": "running"})
        with (
            _says_how_it_ended(folder, record),
            tracked(options.tracking, "train", spool_folder=folder.spool_folder) as run,
        ):
            run.params(recorded(options))
            digests = {"weights_digest": settings["weights_digest"], "corpus_digest": corpus.digest}
            run.tags({"versions": versions(), **digests})
            run.lineage("features", store.uri, store.digest, store.run_reference())
            run.dataset("features", store.uri, store.digest, context="training", rows=store.rows.num_rows)
            origin = {
                "features": store.uri,
                "features_digest": store.digest,
                "protocol_options": asdict(options.protocol),
                "tracking": run.reference(),
            }
            with _Listener(run, len(tasks), quiet) as listener:
                results = _run(options, store, tasks, corpus, folder, listener.hear, origin)
            asked = {label for task in tasks for names in task.test_labels.values() for label in names}
            in_corpus = disclosure(sorted(asked), entity_names(corpus))
            report = summary_of(results, store.record, options.model.method, in_corpus, time.time() - begun_s)
            folder.write("metrics.json", report.as_json())
            draw_confusions(folder.path, tasks, draw)
            folder.send()
            _track(run, folder.path, report)
            folder.write_run({**record, "status": "done", "tracking": run.reference()})
    return report


@contextlib.contextmanager
def _says_how_it_ended(folder: RunFolder, record: dict[str, Any]) -> Iterator[None]:
    """Leave no run.json that says "running" behind, whatever ends the block."""
    try:
        yield
    except BaseException as exc:
        status = "interrupted" if isinstance(exc, KeyboardInterrupt) else "failed"
        with contextlib.suppress(OSError, JobError):  # a full disk must not hide what happened
            folder.write_run({**record, "status": status})
        raise


class _Listener:
    """Says what trainings say, and tracks it: a run for each, within the whole one where there are several. A block's context."""

    def __init__(self, run: Tracker, num_tasks: int, quiet: bool) -> None:
        self.run, self.num_tasks, self.quiet = run, num_tasks, quiet
        self._of_task: dict[str, Tracker] = {}

    def hear(self, entry: dict[str, Any]) -> None:
        say_entry(entry, num_tasks=self.num_tasks, quiet=self.quiet)
        if "task" not in entry:
            return
        if entry["task"] not in self._of_task:
            self._of_task[entry["task"]] = self.run if self.num_tasks == 1 else self.run.child(entry["task"])
        numbers = {name: value for name, value in entry.items() if isinstance(value, int | float)}
        self._of_task[entry["task"]].metrics(numbers, step=int(entry["epoch"]))

    def __enter__(self) -> "_Listener":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._of_task.values():
            if tracker is not self.run:
                tracker.finish("FAILED" if kind else "FINISHED")


def _track(run: Tracker, out: Path, report: TrainingReport) -> None:
    run.metrics(report.flat())
    run.artifact(out / "metrics.json")
    for picture in sorted(out.glob("*.png")):
        run.artifact(picture, "plots")
    if (out / BEST).is_dir():
        from alt_ray.tracking.pyfunc import log_model

        run.artifact(out / BEST, "checkpoint")
        log_model(run, out / BEST)


def corpus_for(store: FeatureStore, corpus: str | None, templates: tuple[str, ...]) -> Corpus:
    """The corpus named, or the default: that of the drawn world for features of its encoder, else the one of real actions."""
    if corpus is None and store.record.encoder["pretrained"] == bundled.POCKET:
        corpus = str(default_corpus_path().with_name("pocket.jsonl"))
    return load_corpus(corpus, read_templates(templates))


def _run(
    options: TrainJobOptions,
    store: FeatureStore,
    tasks: list[Task],
    corpus: Corpus,
    folder: RunFolder,
    hear: Callable[[dict[str, Any]], None],
    origin: dict[str, Any],
) -> list[dict[str, Any]]:
    names = sorted(
        {label for task in tasks for labels in (task.labels, *task.test_labels.values()) for label in labels}
    )
    record, model, pretrained = store.record, options.model, options.encoder.pretrained
    path, mirror = folder.path, folder.mirror
    out = str(path) if mirror is None else folder.uri

    def texts() -> Texts:
        return embed_texts(record, names, model.template, corpus, pretrained=pretrained)

    def job(embedded: Texts, threads: int, out: str) -> TrainingJob:
        return TrainingJob(store.uri, tuple(tasks), embedded, model, options.learning, out, threads, origin)

    if not options.uses_ray:
        writing = partial(Owner.begin(out).writing, mirror)
        place = Place(device=local_device(options.encoder.device), say=hear, writing=writing)
        return run_tasks(job(texts(), os.cpu_count() or 1, str(path)), place)

    from alt_ray.engine.resources import plan_training
    from alt_ray.engine.train_workers import PROGRESS_FILE, kept, train_on_workers

    with cluster(options.cluster.address, options.cluster.wanted) as machines:
        plan = plan_training(machines, options.workers, options.cpus_per_worker, options.encoder.device)
        announce(f"train: {plan}", quiet=options.output.quiet)
        results = train_on_workers(
            job(texts(), max(1, int(plan.cpus_per_worker)), out),
            Owner.begin(out),
            options.workers,
            plan.cpus_per_worker,
            plan.gpus_per_worker,
            kept(path / PROGRESS_FILE, hear),
        )
    folder.send()
    folder.fetch()
    return results


def entity_names(corpus: Corpus) -> tuple[str, ...]:
    """Names and aliases."""
    return tuple(name for entity in corpus.entities for name in (entity.name, *entity.aliases))


def draw_confusions(out: Path, tasks: Sequence[Task], draw: Draw) -> None:
    """Draw the confusion matrices, summed over the tasks that ask for the same labels."""
    sums: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for task in tasks:
        folder = out if len(tasks) == 1 else out / task.name
        for name, labels in task.test_labels.items():
            file = folder / f"confusion-{name}.csv"
            if not file.exists():
                continue
            matrix = np.loadtxt(file, dtype=np.int64, delimiter=",", ndmin=2)
            known = sums.get(name)
            if known is None:
                sums[name] = labels, matrix
            elif known[0] == labels:
                sums[name] = labels, known[1] + matrix
    for name, (labels, matrix) in sums.items():
        draw(out / f"confusion-{name}.png", matrix, labels)
