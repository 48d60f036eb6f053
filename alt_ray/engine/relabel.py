"""The relabel job: as `label`, from stored regions. No video is opened, and no encoder runs.

    shards of rows of the store --> read, align, adapt (a few processes) --> driver --> Parquet parts

The driver keeps what the balance needs of each clip, its id, and where it stands: 30 bytes or so.
Knows nothing of the command line.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import ray.data

from alt_ray import bundled
from alt_ray.config import EncoderOptions
from alt_ray.config_features import RelabelOptions
from alt_ray.corpus.entities import read_templates
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.cluster import cluster
from alt_ray.engine.job import ClipJob, Summary
from alt_ray.engine.label import made_of_adapter, notes_of
from alt_ray.engine.pipeline import pool, results_of
from alt_ray.engine.progress import announce
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.engine.resources import Resources, plan_cluster
from alt_ray.engine.sinks import OutputFolder
from alt_ray.engine.startup import Startup
from alt_ray.engine.workers import machine_name, on_a_worker
from alt_ray.engine.writers import ResultWriter
from alt_ray.errors import UsageError
from alt_ray.features.layout import StoreRecord
from alt_ray.features.ranges import shards_of
from alt_ray.features.store import FeatureStore
from alt_ray.schema import label_schema
from alt_ray.video.manifest import Inputs
from alt_ray.video.shards import Shard, in_shard

# What a task of a worker reads: little, so that results come early and the last tasks end together, but enough of it that Ray's
# own work, a hundredth of a second a task, is small beside it.
MAX_SHARD_BYTES, MAX_SHARD_CLIPS, SHARDS_PER_WORKER, MAX_SHARDS = 64 * 2**20, 1024, 8, 20_000
# Regions that the model takes at once.
CPU_BATCH_BYTES, GPU_BATCH_BYTES, MAX_BATCH_CLIPS = 16 * 2**20, 128 * 2**20, 256


def relabel(options: RelabelOptions, *, startup: Startup | None = None) -> Summary:
    """Label everything in the store `options.source`, and return the balance, which also stands in run.json.

    Raises UsageError (nothing was begun; a store of another encoder than the adapter's, for one) or JobError.
    """
    startup = startup or Startup()
    store = open_store(options.source, options.inputs.limit, options.inputs.part)
    adapter = adapter_for(options.adapter, store.record)
    if adapter is None and options.labels is None:
        raise UsageError("say what to look for: --labels FILE, or --labels 'walking,running', or an --adapter")
    labels = read_labels(options.labels) if options.labels is not None else None
    corpus = (
        None
        if adapter and options.corpus is None
        else load_corpus(options.corpus, read_templates(options.entity_templates))
    )
    folder = OutputFolder(options.out)
    folder.read_run()  # a folder of something newer is refused before anything is waited for
    inputs = Inputs(store.clips, store.uri, {}, 0)
    quiet = options.output.quiet
    startup.end("reading the store")
    announce(f"relabel: {store.clips.num_rows} inputs; starting or joining Ray", quiet=quiet)
    with folder.lock(), cluster(options.cluster.address, options.cluster.wanted) as available:
        startup.end("joining Ray")
        plan = plan_cluster(available, options.cluster, options.place.device)
        num_clips = options.cluster.batch_clips or batch_clips(store.record, plan)
        plan = replace(plan, num_decoders=0, more_decoders=0, batch_clips=num_clips)
        request = ModelRequest(
            encoder=EncoderOptions(pretrained=options.pretrained),
            device=plan.device,
            labels=labels,
            template=options.template,
            corpus=corpus,
            adapter=adapter,
            temperature=options.temperature,
            top_labels=options.top_labels,
            top_entities=options.top_entities,
            num_threads=plan.encoder_threads,
        )
        announce(f"relabel: loading the model; {plan.num_encoders} workers", quiet=quiet)
        prepared = prepare(request, store.record, plan)
        startup.end("embedding the texts")

        def stream(remaining: pa.Table) -> Iterator[pa.Table]:
            return results_of(relabel_dataset(store, remaining, request, prepared, plan))

        settings = {**prepared.identity, "views": store.record.sampling["views"]}
        return ClipJob(
            command="relabel",
            options=options,
            input_options=options.inputs,
            output_options=options.output,
            inputs=inputs,
            folder=folder,
            tracking=options.tracking,
            made_of={
                "features": (store.uri, store.digest, store.made_by),
                **made_of_adapter(adapter, prepared),
            },
            settings=settings,
            stream=stream,
            machines_for=plan.machines_for,
            startup=startup,
            writer=lambda: ResultWriter(folder, label_schema(prepared.dim)),
            notes=notes_of(settings, has_adapter=adapter is not None),
            record={"model_digest": prepared.model_digest, "resources": asdict(plan)},
        ).run()


@dataclass(frozen=True)
class OpenStore:
    """What the job keeps of a store. `clips` is FeatureStore.places; `made_by` the tracked run that made it, if it says so."""

    uri: str
    record: StoreRecord
    digest: str
    made_by: dict[str, Any] | None
    part_uris: list[str]
    clips: pa.Table


def open_store(uri: str, limit: int | None = None, shard: Shard | None = None) -> OpenStore:
    """Open a store, the first `limit` clips of it and of those the part `shard`, and let go of its index. Raises FeatureError."""
    store = FeatureStore(uri)
    clips = store.places().slice(0, limit)
    if shard is not None:
        clips = clips.filter(pa.array(in_shard(clips["video_id"], shard)))
    opened = OpenStore(store.uri, store.record, store.digest, store.run_reference(), store.part_uris(), clips)
    del store
    pa.default_memory_pool().release_unused()  # Ray and the results use it again, instead of more
    return opened


def batch_clips(record: StoreRecord, plan: Resources) -> int:
    """How many clips the model takes at once."""
    bytes_per_clip = record.bytes_per_view * int(record.sampling["views"])
    most = (CPU_BATCH_BYTES if plan.device == "cpu" else GPU_BATCH_BYTES) // bytes_per_clip
    return max(1, min(most, MAX_BATCH_CLIPS))


def shard_clips(num_clips: int, record: StoreRecord, plan: Resources) -> int:
    """How many clips a task takes: whole batches."""
    most = min(MAX_SHARD_BYTES // (record.bytes_per_view * int(record.sampling["views"])), MAX_SHARD_CLIPS)
    even = num_clips // (plan.most_encoders * SHARDS_PER_WORKER)
    size = max(min(even, most), num_clips // MAX_SHARDS, 1)
    return -(-size // plan.batch_clips) * plan.batch_clips


def adapter_for(adapter: str | None, record: StoreRecord) -> str | None:
    """The adapter to use: the one named, none for "none", and by default the pocket's for features of its encoder."""
    if adapter is None:
        return bundled.POCKET if record.encoder["pretrained"] == bundled.POCKET else None
    return None if adapter == "none" else adapter


def prepare(request: ModelRequest, record: StoreRecord, plan: Resources) -> PreparedModel:
    """Embed labels and entities on a worker, where that is needed. Raises what prepare_relabel raises."""

    def task() -> PreparedModel:
        from alt_ray.engine.relabeling import prepare_relabel  # torch stays out of the driver

        # Nothing else of the job runs meanwhile: the threads of all workers, as far as they are here.
        threads = min(plan.num_encoders * plan.encoder_threads, os.cpu_count() or 1)
        return prepare_relabel(replace(request, num_threads=threads), record)

    return on_a_worker(task, plan, "the model could not be loaded")


class RelabelStage:
    """relabeling.RelabelRanges, built on the worker: it loads torch, and this module is the driver's."""

    def __init__(self, request: ModelRequest, prepared: PreparedModel, record: StoreRecord, batch_clips: int) -> None:
        from alt_ray.engine.relabeling import RelabelRanges

        self._label = RelabelRanges(request, prepared, record, batch_clips, machine_name())

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        yield from self._label(batch)


def relabel_dataset(
    store: OpenStore, clips: pa.Table, request: ModelRequest, prepared: PreparedModel, plan: Resources
) -> ray.data.Dataset:
    """The lazy pipeline: a block of row ranges for each shard of the clips, through a pool of actors."""
    size = shard_clips(clips.num_rows, store.record, plan)
    shards = shards_of(clips, store.part_uris, store.record.views_per_clip, size)
    return ray.data.from_arrow(shards).map_batches(
        RelabelStage,
        fn_constructor_args=(request, prepared, store.record, plan.batch_clips),
        batch_size=None,
        batch_format="numpy",
        compute=pool(plan.num_encoders, plan.most_encoders, len(shards)),
        num_cpus=plan.encoder_cpus,
        num_gpus=plan.encoder_gpus or None,
    )
