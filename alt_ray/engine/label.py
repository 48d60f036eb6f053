"""The label job: decode, encode, align and adapt in one streaming pass; one row of labels or of failure for each input.

Rows are small: a batch of clips is a few tens of megabytes in the object store, a result a few kilobytes, and only results
reach the driver, which publishes them. Knows nothing of the command line.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray.data

from alt_ray import bundled
from alt_ray.config import LabelOptions
from alt_ray.corpus.entities import read_templates
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.cluster import cluster
from alt_ray.engine.job import ClipJob, Summary
from alt_ray.engine.pipeline import decoded_clips, results_of, through_encoders
from alt_ray.engine.progress import announce
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.engine.resources import Resources, plan_cluster
from alt_ray.engine.sinks import OutputFolder
from alt_ray.engine.stages import DecodeSettings, LabelClips
from alt_ray.engine.startup import Startup
from alt_ray.engine.workers import machine_name, on_a_worker
from alt_ray.engine.writers import ResultWriter
from alt_ray.schema import label_schema
from alt_ray.video.isolation import DECODE_FUNCTION
from alt_ray.video.manifest import read_source
from alt_ray.video.sampling import ClipSpec

ZERO_SHOT_NOTE = "no adapter: labels are frozen CLIP, zero-shot: the mean of the frames' image embeddings"
POCKET_NOTE = (
    "the encoder is the pocket's: tiny, and of a drawn world (docs/pocket.md); real videos need a real encoder"
)
RANDOM_NOTE = "random weights: the labels mean nothing"


def label(options: LabelOptions, *, decode_function: str = DECODE_FUNCTION, startup: Startup | None = None) -> Summary:
    """Label everything in `options.source`, and return the balance, which also stands in run.json.

    Raises UsageError (nothing was begun) or JobError (what was finished is kept; the same call goes on from there). Whether too
    many inputs failed is the caller's to judge. `decode_function` is another decoder only in tests of faults. `startup`: what
    passed before, if it is to count.
    """
    startup = startup or Startup()
    inputs = read_source(options.source, **options.inputs.chosen)
    labels = read_labels(options.labels) if options.labels is not None else None
    templates = read_templates(options.entity_templates)
    corpus = None if options.adapter and options.corpus is None else load_corpus(options.corpus, templates)
    folder = OutputFolder(options.out)
    folder.read_run()  # a folder of something newer is refused before anything is waited for
    quiet = options.output.quiet
    startup.end("reading the source")
    announce(f"label: {inputs.table.num_rows} inputs; starting or joining Ray", quiet=quiet)
    with folder.lock(), cluster(options.cluster.address, options.cluster.wanted) as available:
        startup.end("joining Ray")
        plan = plan_cluster(available, options.cluster, options.encoder.device)
        request = ModelRequest(
            encoder=options.encoder,
            device=plan.device,
            labels=labels,
            template=options.template,
            corpus=corpus,
            adapter=options.adapter,
            temperature=options.temperature,
            num_frames=options.sampling.frames,
            top_labels=options.top_labels,
            top_entities=options.top_entities,
            num_threads=plan.encoder_threads,
            seed=options.seed,
            gpu_share=plan.encoder_gpus,
        )
        announce(f"label: loading the model; {plan}", quiet=quiet)
        prepared = prepare(request, plan)
        startup.end("loading the model")
        decode = DecodeSettings(
            ClipSpec(
                num_frames=prepared.num_frames,
                num_views=options.sampling.views,
                num_crops=options.sampling.crops,
                image_size=prepared.image_size,
                resize_mode=prepared.resize_mode,
                interpolation=prepared.interpolation,
            ),
            time_limit_s=options.sampling.decode_limit_s,
            function=decode_function,
        )

        def stream(clips: pa.Table) -> Iterator[pa.Table]:
            return results_of(label_dataset(clips, decode, request, prepared, plan))

        settings = {**prepared.identity, "views": decode.spec.test_views}
        if decode.spec.num_crops > 1:
            settings["crops"] = decode.spec.num_crops
        return ClipJob(
            command="label",
            options=options,
            input_options=options.inputs,
            output_options=options.output,
            inputs=inputs,
            folder=folder,
            tracking=options.tracking,
            made_of=made_of_adapter(options.adapter, prepared),
            settings=settings,
            stream=stream,
            machines_for=plan.machines_for,
            startup=startup,
            writer=lambda: ResultWriter(folder, label_schema(prepared.dim)),
            notes=notes_of(settings, has_adapter=options.adapter is not None),
            record={
                "model_digest": prepared.model_digest,
                "resources": {**asdict(plan), "frames_per_batch": prepared.frames_per_batch},
            },
        ).run()


def prepare(request: ModelRequest, plan: Resources) -> PreparedModel:
    """Load the model on a worker and return what the job must know of it. Raises what prepare_model raises."""

    def task() -> PreparedModel:
        from alt_ray.engine.model import prepare_model  # torch stays out of the driver: it is 1 GB of memory there

        return prepare_model(request)

    return on_a_worker(task, plan, "the model could not be loaded")


def label_dataset(
    clips: pa.Table, decode: DecodeSettings, request: ModelRequest, prepared: PreparedModel, plan: Resources
) -> ray.data.Dataset:
    """The lazy pipeline."""
    decoded = decoded_clips(clips, decode, plan)
    return through_encoders(decoded, LabelClips, (request, prepared, machine_name), clips.num_rows, plan)


def made_of_adapter(adapter: str | None, prepared: PreparedModel) -> dict[str, tuple[str, str, dict[str, Any] | None]]:
    """The lineage of labels: the adapter that they were made with, and the tracked run that trained it."""
    if adapter is None:
        return {}
    return {"checkpoint": (adapter, str(prepared.identity["adapter_digest"]), prepared.trained_by)}


def notes_of(settings: dict[str, Any], *, has_adapter: bool) -> list[str]:
    """What must be known of labels that were made with these settings."""
    notes = [] if has_adapter else [ZERO_SHOT_NOTE]
    if settings["pretrained"] == "none":
        notes.append(RANDOM_NOTE)
    if settings["pretrained"] == bundled.POCKET:
        notes.append(POCKET_NOTE)
    return notes
