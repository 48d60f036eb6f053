"""The label job: inputs in, one row of labels or of failure for each out, on Ray Data, resumable and balanced.

    inputs --> decode (many processes) --> frames --> encode and label (few, with the GPUs) --> driver --> Parquet parts

Rows are small: a batch of clips is a few tens of megabytes in the object store, a result a few kilobytes, and only results
reach the driver, which publishes them. Knows nothing of the command line.
"""

import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
import ray.exceptions

import alt_ray
from alt_ray import bundled
from alt_ray.config import LabelOptions
from alt_ray.corpus.entities import read_templates
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.labels import read_labels
from alt_ray.engine.cluster import cluster, versions
from alt_ray.engine.progress import Progress, announce
from alt_ray.engine.request import ModelRequest, PreparedModel
from alt_ray.engine.resources import Resources, plan_resources
from alt_ray.engine.sinks import OutputFolder, Published, ResultWriter, refuse_other_settings
from alt_ray.engine.stages import DecodeClips, DecodeSettings, LabelClips
from alt_ray.errors import JobError, UsageError
from alt_ray.schema import label_schema
from alt_ray.video.isolation import DECODE_FUNCTION
from alt_ray.video.manifest import Inputs, read_source
from alt_ray.video.sampling import ClipSpec

ZERO_SHOT_NOTE = "no adapter: labels are frozen CLIP, zero-shot: the mean of the frames' image embeddings"
POCKET_NOTE = (
    "the encoder is the pocket's: tiny, and of a drawn world (docs/pocket.md); real videos need a real encoder"
)
RANDOM_NOTE = "random weights: the labels mean nothing"

# Clips that one task of a decoder takes: few, so that results come early and the last tasks end together, but never so few that
# Ray has more tasks to keep in mind than it does well.
MAX_SHARD_CLIPS, SHARDS_PER_DECODER, MAX_SHARDS = 64, 32, 20_000
DECODE_BATCH_CLIPS = 8  # decoded before they are handed on: 10 MB at 8 frames of 224 pixels
MAX_PASSES = 3  # what a pass left out (results lost with a node) is done in another
INPUT_COLUMNS = ["video_id", "uri", "start_s", "end_s"]


@dataclass
class Summary:
    """The balance of one run. `inputs = labelled + failed + already_done`, or the run has failed."""

    inputs: int
    labelled: int = 0
    failed: int = 0
    already_done: int = 0
    videos_per_s: float = 0.0

    @property
    def is_balanced(self) -> bool:
        return self.inputs == self.labelled + self.failed + self.already_done


def label(options: LabelOptions, *, decode_function: str = DECODE_FUNCTION) -> Summary:
    """Label everything in `options.source`, and return the balance, which also stands in run.json.

    Raises UsageError (nothing was begun) or JobError (what was finished is kept; the same call goes on from there). Whether too
    many inputs failed is the caller's to judge. `decode_function` is another decoder only in tests of faults.
    """
    inputs = read_source(options.source, root=options.inputs.root, limit=options.inputs.limit)
    labels = read_labels(options.labels) if options.labels is not None else None
    templates = read_templates(options.entity_templates)
    corpus = None if options.adapter and options.corpus is None else load_corpus(options.corpus, templates)
    folder = OutputFolder(options.out)
    folder.read_run()  # a folder of something newer is refused before anything is waited for
    quiet = options.output.quiet
    announce(f"label: {inputs.table.num_rows} inputs; starting or joining Ray", quiet=quiet)
    with folder.lock(), cluster(options.cluster.address) as available:
        plan = plan_resources(
            available.get("CPU", 0),
            available.get("GPU", 0),
            available.get("memory", 0),
            options.cluster,
            options.encoder.device,
        )
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
        )
        announce(f"label: loading the model; {plan}", quiet=quiet)
        prepared = prepare(request, plan)
        settings = {**prepared.identity, "views": options.sampling.views}
        if (recorded := folder.read_run()) is not None:  # under the lock: another run may just have ended
            refuse_other_settings(recorded.get("settings", {}), settings, folder.uri)
        decode = DecodeSettings(
            ClipSpec(
                num_frames=prepared.num_frames,
                num_views=options.sampling.views,
                image_size=prepared.image_size,
                resize_mode=prepared.resize_mode,
                interpolation=prepared.interpolation,
            ),
            time_limit_s=options.sampling.decode_limit_s,
            function=decode_function,
        )
        return _LabelJob(options, inputs, folder, request, prepared, plan, settings, decode).run()


def prepare(request: ModelRequest, plan: Resources) -> PreparedModel:
    """Load the model on a worker and return what the job must know of it. Raises what prepare_model raises."""

    def task() -> PreparedModel:
        from alt_ray.engine.model import prepare_model  # torch stays out of the driver: it is 1 GB of memory there

        return prepare_model(request)

    remote = ray.remote(num_cpus=plan.encoder_cpus, num_gpus=plan.encoder_gpus, max_retries=1)(task)
    try:
        return ray.get(remote.remote())
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, UsageError):
            raise exc.cause from None
        raise JobError(f"the model could not be loaded: {exc.cause}") from exc
    except ray.exceptions.RayError as exc:
        raise JobError(f"the model could not be loaded: {exc}") from exc


def stream_labels(
    clips: pa.Table,
    decode: DecodeSettings,
    request: ModelRequest,
    prepared: PreparedModel,
    plan: Resources,
) -> Iterator[pa.Table]:
    """Yield the results (rows of schema.result_schema) of `clips` (INPUT_COLUMNS) as they come, in any order."""
    dataset = label_dataset(clips, decode, request, prepared, plan)
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def label_dataset(
    clips: pa.Table,
    decode: DecodeSettings,
    request: ModelRequest,
    prepared: PreparedModel,
    plan: Resources,
) -> ray.data.Dataset:
    """The lazy pipeline. Both stages are actor pools: two of those are never fused into one, so they overlap."""
    shards = _shards(clips.select(INPUT_COLUMNS), plan)
    num_encoders = min(
        plan.num_encoders, -(-clips.num_rows // plan.batch_clips)
    )  # a small job waits for few models to load
    return (
        ray.data.from_arrow(shards)
        .map_batches(
            DecodeClips,
            fn_constructor_args=(decode,),
            batch_size=DECODE_BATCH_CLIPS,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(
                size=min(plan.num_decoders, len(shards)), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=plan.decoder_cpus,
        )
        .map_batches(
            LabelClips,
            fn_constructor_args=(request, prepared),
            batch_size=plan.batch_clips,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=num_encoders, max_tasks_in_flight_per_actor=2),
            num_cpus=plan.encoder_cpus,
            num_gpus=plan.encoder_gpus or None,
        )
    )


def _shards(clips: pa.Table, plan: Resources) -> list[pa.Table]:
    even = clips.num_rows // (plan.num_decoders * SHARDS_PER_DECODER)
    size = max(min(even, MAX_SHARD_CLIPS), clips.num_rows // MAX_SHARDS, 1)
    size = -(-size // plan.batch_clips) * plan.batch_clips  # whole batches, so that no encoder gets the rest of one
    clips = clips.combine_chunks()
    return [clips.slice(start, size) for start in range(0, clips.num_rows, size)]


@dataclass
class _LabelJob:
    """One run, once its settings are known and its cluster is up."""

    options: LabelOptions
    inputs: Inputs
    folder: OutputFolder
    request: ModelRequest
    prepared: PreparedModel
    plan: Resources
    settings: dict[str, Any]
    decode: DecodeSettings
    startup_s: float | None = None

    def run(self) -> Summary:
        started_s = time.time()
        if self.options.inputs.retry_failed:
            self.folder.forget_failures()
        before = now = self._published()
        summary = Summary(inputs=self.inputs.table.num_rows, already_done=before.num_done)
        self._record("running", summary, before, started_s)
        status = "failed"
        try:
            for _ in range(MAX_PASSES):
                if now.num_done == summary.inputs:
                    break
                self._pass(self.inputs.table.filter(pc.invert(now.is_done)), summary)
                now = self._published()
            status = "done"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            now = self._published()
            summary.labelled = now.labelled - before.labelled
            summary.failed = now.failed - before.failed
            if status == "done" and (not summary.is_balanced or now.num_twice):
                status = "failed"
            self._record(status, summary, now, started_s)
        if status != "done":
            raise JobError(
                f"the balance does not hold: {summary.inputs} inputs, but {summary.labelled} labelled, {summary.failed} failed, "
                f"{summary.already_done} done before, {now.num_twice} twice; run the same command again to go on"
            )
        return summary

    def _pass(self, clips: pa.Table, summary: Summary) -> None:
        with (
            ResultWriter(self.folder, label_schema(self.prepared.dim)) as writer,
            Progress("label", clips.num_rows, quiet=self.options.output.quiet) as progress,
        ):
            try:
                for results in stream_labels(clips, self.decode, self.request, self.prepared, self.plan):
                    labelled, failed = writer.add(results)
                    progress.add(labelled + failed, failed)
            except ray.exceptions.RayError as exc:
                cause = getattr(exc, "cause", None) or exc
                raise JobError(
                    f"a worker failed ({type(cause).__name__}: {cause}); what was finished is kept in {self.folder.uri}"
                ) from exc
            finally:
                summary.videos_per_s = round(progress.videos_per_s, 3)
                self.startup_s = self.startup_s or progress.startup_s

    def _published(self) -> Published:
        return self.folder.published(self.inputs.table["video_id"])

    def _record(self, status: str, summary: Summary, published: Published, started_s: float) -> None:
        notes = [] if self.options.adapter else [ZERO_SHOT_NOTE]
        if self.settings["pretrained"] == "none":
            notes.append(RANDOM_NOTE)
        if self.settings["pretrained"] == bundled.POCKET:
            notes.append(POCKET_NOTE)
        self.folder.write_run(
            {
                "command": "label",
                "alt_ray_version": alt_ray.__version__,
                "status": status,
                "notes": notes,
                "summary": asdict(summary),
                "failures": published.failures,
                "inputs": {
                    "source": self.inputs.source,
                    "other_files": self.inputs.other_files,
                    "duplicate_rows": self.inputs.duplicates,
                },
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_s)),
                "wall_s": round(time.time() - started_s, 2),
                "seconds_to_first_result": self.startup_s and round(self.startup_s, 2),
                "model_digest": self.prepared.model_digest,
                "settings": self.settings,
                "options": asdict(self.options),
                "resources": asdict(self.plan),
                "driver_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "versions": versions(),
            }
        )
