"""What the trials of a search share: the task, texts, features in memory, costs. Knows nothing of searching or of Ray Tune."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import ray

from alt_ray.config_tune import TuneOptions
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.progress import announce
from alt_ray.engine.runfolder import RunFolder
from alt_ray.engine.train import corpus_for
from alt_ray.engine.tune_search import TrialResources, corpus_part, dimensions
from alt_ray.engine.tune_stores import Arm
from alt_ray.engine.tune_trial import FULL, TrialJob
from alt_ray.engine.workers import errors_of_workers
from alt_ray.errors import UsageError
from alt_ray.evaluation.protocols import training_tasks
from alt_ray.evaluation.trials import TrialSettings
from alt_ray.features.store import FeatureStore
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.cost import cost
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import read_stamped

SPEED_FILE = "speed.json"
HELD_SHARE = 0.3  # of Ray's object store, for regions that trials would else read from files in every epoch


def job_of(options: TuneOptions, arms: list[Arm], clips: pa.Table, plan: TrialResources, folder: RunFolder) -> TrialJob:
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
    arms = _held(arms, plan) if options.workers == 1 else arms
    names = sorted({label for asked in (task.labels, *task.test_labels.values()) for label in asked})
    pretrained, template = options.encoder.pretrained, model.template

    def texts() -> Any:
        from alt_ray.training.texts import embed_texts  # loads the text tower, which the driver has no use for

        return embed_texts(record, names, template, corpus, pretrained=pretrained)

    announce(f"tune: {len(arms)} mergings, {plan}; {task.description}", quiet=options.output.quiet)
    return TrialJob(
        arms={arm.name: arm for arm in arms},
        task=task,
        texts=ref_on_worker(texts, plan, "the texts could not be embedded"),
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
        out=str(folder.path),
        address=None if folder.mirror is None else folder.uri,
        num_threads=max(1, int(plan.cpus)),
        workers=options.workers,
        cpus_per_worker=plan.cpus,
        gpus_per_worker=plan.gpus,
        retry_failed=options.inputs.retry_failed,
    )


def _held(arms: list[Arm], plan: TrialResources) -> list[Arm]:
    """Read the stores once, into Ray's object store, if all of them fit there with room to spare."""
    if sum(arm.num_bytes for arm in arms) > HELD_SHARE * ray.cluster_resources().get("object_store_memory", 0):
        return arms

    def reader(uri: str) -> Callable[[], Any]:
        def read() -> Any:
            from alt_ray.features.held import hold

            return hold(FeatureStore(uri))

        return read

    what = "the features could not be read"
    return [replace(arm, held=ref_on_worker(reader(arm.uri), plan, what)) for arm in arms]


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


def settings_of(options: TuneOptions, job: TrialJob, arms: list[Arm]) -> dict[str, Any]:
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


def measured_speeds(options: TuneOptions, arms: list[Arm], plan: TrialResources, folder: RunFolder) -> dict[str, float]:
    """Videos/s of the encoder by arm: measured once and kept."""
    wanted = {arm.name: arm.schedule for arm in arms}
    if (known := known_speeds(folder, set(wanted))) is not None:
        return known
    announce("tune: measuring the encoder's speed at each merging", quiet=options.output.quiet)
    record, pretrained = arms[0].record, options.encoder.pretrained
    device = "cuda" if plan.gpus else "cpu"

    def task() -> dict[str, float]:
        from alt_ray.engine.tune_speed import measure_speed

        return measure_speed(record, wanted, pretrained=pretrained, device=device)

    found = on_worker(task, plan, "the encoder's speed could not be measured")
    folder.write(SPEED_FILE, {"videos_per_s": found, "device": device})
    return found


def known_speeds(folder: RunFolder, wanted: set[str]) -> dict[str, float] | None:
    """What was measured before, None if that lacks an arm. What a newer version measured is measured again."""
    with contextlib.suppress(FileNotFoundError, UsageError):
        known = read_stamped(folder.path / SPEED_FILE, FORMAT_VERSION, missing=1)["videos_per_s"]
        if set(known) >= wanted:
            return {name: known[name] for name in wanted}
    return None


def on_worker(function: Callable[[], Any], plan: TrialResources, what: str) -> Any:
    return ray.get(ref_on_worker(function, plan, what))


def ref_on_worker(function: Callable[[], Any], plan: TrialResources, what: str) -> Any:
    """Run a function on a worker, and return a reference to what it returns. Raises UsageError as it does, else JobError."""
    remote = ray.remote(num_cpus=plan.cpus, num_gpus=plan.gpus, max_retries=1)(function)
    ref = remote.remote()
    with errors_of_workers(what):
        ray.wait([ref], fetch_local=False)
        # Raises what the function raised, and brings nothing here.
        ray.get(ray.remote(num_cpus=0)(lambda value: None).remote(ref))
    return ref
