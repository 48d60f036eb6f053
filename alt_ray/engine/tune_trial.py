"""One trial on a worker of Ray Tune: a training on a stored arm, whose epochs are reported as they end. Knows no search.

What a trial leaves lies in its own folder (training.states, task.json): a trial that was cut off goes on from there, and one that
has ended is not trained again but tells Tune what it told before. So whatever is killed when, Tune itself need remember nothing.
"""

import contextlib
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import ray.tune

from alt_ray.config_train import LearningOptions, ModelOptions
from alt_ray.corpus.entities import Corpus
from alt_ray.engine.tune_stores import Arm
from alt_ray.engine.workers import machine_name
from alt_ray.errors import AltRayError
from alt_ray.evaluation.task import Task
from alt_ray.evaluation.trials import TrialSettings, read_trial
from alt_ray.remote.folder import RemoteFolder
from alt_ray.remote.lease import Lease
from alt_ray.remote.mirror import Mirror, working_copy
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import stamp
from alt_ray.video.uris import child_uri

if TYPE_CHECKING:
    from alt_ray.training.texts import Texts

TRIALS, SETTINGS_FILE, LEASES = "trials", "settings.json", ".leases"
FULL = "all"


@dataclass(frozen=True)
class TrialJob:
    """What all trials share; it is put into Ray's object store once. `base` are the settings where a trial's say nothing.

    texts: reference to the Texts of the whole corpus. corpora: the corpus by the name of a subset. listed: settings by number,
    for trials that are given one. gflops: per view, by arm and blocks. out: the driver's folder, which all machines see, unless
    the search has an `address`: then each trial works on a copy of its own.
    """

    arms: dict[str, Arm]
    task: Task
    texts: Any
    corpora: dict[str, Corpus]
    model: ModelOptions
    learning: LearningOptions
    base: TrialSettings
    gflops: dict[tuple[str, int, str], float]
    out: str
    address: str | None = None
    num_threads: int = 1
    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    retry_failed: bool = False
    listed: tuple[TrialSettings, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)

    def settings_of(self, config: dict[str, Any]) -> TrialSettings:
        """What Tune chose, as the settings of a trial."""
        return self.listed[config["number"]] if "number" in config else replace(self.base, **config)

    def folder_of(self, settings: TrialSettings) -> Path:
        return Path(self.out) / TRIALS / settings.name

    def cost_of(self, settings: TrialSettings) -> float:
        return self.gflops[settings.arm, settings.blocks, settings.corpus_subset]


def run_trial(config: dict[str, Any], job: TrialJob) -> None:
    """Train and test with the settings in `config`, or repeat what an earlier run of the same settings reported."""
    from alt_ray.training.run import RESULT_FILE  # torch: the driver imports this module and must stay light

    settings = job.settings_of(config)
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    best, machine = float("-inf"), machine_name()

    def report(entry: dict[str, Any], **more: Any) -> None:
        nonlocal best
        best = max(best, entry.get("val_top_1", best))
        took: dict[str, Any] = {"seconds": time.perf_counter() - begun_s, "cpu_s": time.process_time() - begun_cpu_s}
        took["machine"] = machine
        ray.tune.report({"gflops": job.cost_of(settings), "val": best, **took, **entry, **more})

    with _folder_of(job, settings) as (folder, mirror):
        before = read_trial(folder)
        if before is not None and before.status == "failed" and not job.retry_failed:
            report({"epoch": 0, "val_top_1": 0.0}, error=before.error)
            return
        if before is not None and before.history and before.status != "failed":
            for entry in before.history:
                report(entry)
            return
        if not (folder / RESULT_FILE).exists():
            write_settings(folder, config, settings)
            if mirror is not None:
                mirror.push()
        # The last epoch is held back until the tests are done: a scheduler ends a trial when it hears of the last one.
        held: dict[str, Any] = {}

        def hear(entry: dict[str, Any]) -> None:
            nonlocal held
            if "task" in entry:
                held = {name: value for name, value in entry.items() if name not in ("task", "of")}
                if int(held["epoch"]) < job.learning.epochs:
                    report(held)

        try:
            result = _train(job, settings, folder, mirror, hear)
        except AltRayError as exc:  # it would only fail again; all else is Tune's to try once more
            report(held or {"epoch": 0, "val_top_1": 0.0}, error=f"{type(exc).__name__}: {exc}")
            return
        for state in folder.glob("checkpoints"):
            shutil.rmtree(state, ignore_errors=True)  # of no use any more, and several times as large as the adapter
        if mirror is not None:
            mirror.push()
        if result["history"]:
            best = max(entry["val_top_1"] for entry in result["history"])
            report(result["history"][-1])


def _train(
    job: TrialJob,
    settings: TrialSettings,
    folder: Path,
    mirror: Mirror | None,
    hear: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    from alt_ray.features.held import HeldStore
    from alt_ray.features.store import FeatureStore
    from alt_ray.training.place import Place
    from alt_ray.training.run import TaskRun, threads

    arm = job.arms[settings.arm]
    task = replace(job.task, name=settings.name, seed=settings.seed)
    texts = subset_texts(ray.get(job.texts), job.corpora[settings.corpus_subset])
    model = replace(job.model, temperature=settings.temperature, blocks=settings.blocks)
    learning = replace(job.learning, lr=settings.lr)
    origin = {**job.origin, "features": arm.uri, "features_digest": arm.digest, "trial": asdict(settings)}
    if job.workers > 1:
        out = str(folder) if mirror is None else mirror.remote.uri
        found = _train_together(job, arm, task, texts, model, learning, out, hear, origin)
        if mirror is not None:
            mirror.pull()
        return found
    device = "cuda" if job.gpus_per_worker else "cpu"
    store = FeatureStore(arm.uri) if arm.held is None else HeldStore(arm.uri, ray.get(arm.held))
    with threads(job.num_threads):
        run = TaskRun(
            task,
            store,
            texts,
            model,
            learning,
            folder,
            Place(device=device, say=hear, writing=partial(_sending, mirror)),
            arm.clip_rows,
            origin,
        )
        result = run.run()
    assert result is not None
    return result


def _train_together(
    job: TrialJob,
    arm: Arm,
    task: Task,
    texts: "Texts",
    model: ModelOptions,
    learning: LearningOptions,
    out: str,
    hear: Callable[[dict[str, Any]], None],
    origin: dict[str, Any],
) -> dict[str, Any]:
    """The same by several workers of Ray Train."""
    from alt_ray.engine.train_workers import train_on_workers
    from alt_ray.training.job import TrainingJob
    from alt_ray.training.owner import Owner

    shared = TrainingJob(
        arm.uri, (task,), texts, model, learning, out, max(1, int(job.cpus_per_worker)), origin, arm.clip_rows
    )
    own = Owner.begin(out)
    return train_on_workers(shared, own, job.workers, job.cpus_per_worker, job.gpus_per_worker, hear)[0]


def write_settings(folder: Path, config: dict[str, Any], settings: TrialSettings) -> None:
    """Say that a trial has begun, with what: a search that goes on gives these to its searcher first."""
    file = folder / SETTINGS_FILE
    if not file.exists():
        part = folder / f".{SETTINGS_FILE}"
        begun = {"begun_s": time.time(), "config": config, "settings": asdict(settings)}
        part.write_text(json.dumps({**stamp(FORMAT_VERSION), **begun}))
        part.replace(file)


def subset_texts(texts: "Texts", corpus: Corpus) -> "Texts":
    """The embeddings of those entities that `corpus` has."""
    wanted = {entity.name for entity in corpus.entities}
    kept = [k for k, name in enumerate(texts.entity_names) if name in wanted]
    return replace(
        texts,
        entity_names=tuple(texts.entity_names[k] for k in kept),
        entity_categories=tuple(texts.entity_categories[k] for k in kept),
        entities_KD=texts.entities_KD[kept],
        corpus_digest=corpus.digest,
    )


@contextlib.contextmanager
def _folder_of(job: TrialJob, settings: TrialSettings) -> Iterator[tuple[Path, Mirror | None]]:
    """The trial's folder, with no other trial in it, and if it is a copy of a remote one, how to send what changes."""
    if job.address is None:
        folder = job.folder_of(settings)
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / ".lock"):
            yield folder, None
        return
    remote = RemoteFolder(child_uri(job.address, f"{TRIALS}/{settings.name}"))
    with Lease(remote, LEASES).held(waits=True), working_copy(remote) as mirror:
        mirror.pull()
        yield mirror.path, mirror


@contextlib.contextmanager
def _sending(mirror: Mirror | None) -> Iterator[None]:
    """A block after which what it wrote is sent."""
    yield
    if mirror is not None:
        mirror.push()


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Wait until no other trial with the same settings is in such a block: a search may choose them twice."""
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
