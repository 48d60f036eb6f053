"""The relabel job: as `label`, from stored regions. No video is opened, and no encoder runs.

    parts of the store --> read, align, adapt (a few processes) --> driver --> Parquet parts

Knows nothing of the command line.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
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
from alt_ray.engine.job import ClipJob, Summary, on_a_worker, results_of
from alt_ray.engine.label import made_of_adapter, notes_of
from alt_ray.engine.progress import announce
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.engine.resources import Resources, plan_cluster
from alt_ray.engine.sinks import OutputFolder
from alt_ray.engine.writers import ResultWriter
from alt_ray.errors import UsageError
from alt_ray.features.layout import StoreRecord
from alt_ray.features.store import FeatureStore
from alt_ray.schema import label_schema
from alt_ray.video.manifest import Inputs


def relabel(options: RelabelOptions) -> Summary:
    """Label everything in the store `options.source`, and return the balance, which also stands in run.json.

    Raises UsageError (nothing was begun; a store of another encoder than the adapter's, for one) or JobError.
    """
    store = FeatureStore(options.source)
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
    clips = store.clips()
    inputs = Inputs(clips, store.uri, {}, 0)
    quiet = options.output.quiet
    announce(f"relabel: {clips.num_rows} inputs; starting or joining Ray", quiet=quiet)
    with folder.lock(), cluster(options.cluster.address) as available:
        plan = plan_cluster(available, options.cluster, "cpu" if options.cluster.gpus_per_actor == 0 else "auto")
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
                "features": (store.uri, store.digest, store.run_reference()),
                **made_of_adapter(adapter, prepared),
            },
            settings=settings,
            stream=stream,
            writer=lambda: ResultWriter(folder, label_schema(prepared.dim)),
            notes=notes_of(settings, has_adapter=adapter is not None),
            record={"model_digest": prepared.model_digest, "resources": asdict(replace(plan, num_decoders=0))},
        ).run()


def adapter_for(adapter: str | None, record: StoreRecord) -> str | None:
    """The adapter to use: the one named, none for "none", and by default the pocket's for features of its encoder."""
    if adapter is None:
        return bundled.POCKET if record.encoder["pretrained"] == bundled.POCKET else None
    return None if adapter == "none" else adapter


def prepare(request: ModelRequest, record: StoreRecord, plan: Resources) -> PreparedModel:
    """Embed labels and entities on a worker, where that is needed. Raises what prepare_relabel raises."""

    def task() -> PreparedModel:
        from alt_ray.engine.relabeling import prepare_relabel  # torch stays out of the driver

        return prepare_relabel(request, record)

    return on_a_worker(task, plan, "the model could not be loaded")


class RelabelStage:
    """relabeling.RelabelParts, built on the worker: it loads torch, and this module is the driver's."""

    def __init__(self, request: ModelRequest, prepared: PreparedModel, record: StoreRecord) -> None:
        from alt_ray.engine.relabeling import RelabelParts

        self._label = RelabelParts(request, prepared, record)

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        yield from self._label(batch)


def relabel_dataset(
    store: FeatureStore, clips: pa.Table, request: ModelRequest, prepared: PreparedModel, plan: Resources
) -> ray.data.Dataset:
    """The lazy pipeline: one row per part that holds some of the clips, through a pool of actors."""
    parts = store.parts_of(clips)
    shards = [parts.slice(i, 1) for i in range(parts.num_rows)]
    return ray.data.from_arrow(shards).map_batches(
        RelabelStage,
        fn_constructor_args=(request, prepared, store.record),
        batch_size=1,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(size=min(plan.num_encoders, len(shards)), max_tasks_in_flight_per_actor=2),
        num_cpus=plan.encoder_cpus,
        num_gpus=plan.encoder_gpus or None,
    )
