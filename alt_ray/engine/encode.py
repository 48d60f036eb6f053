"""The encode job: decode and encode once, and store the region features, for training, tuning and labelling again and again.

    inputs --> decode --> encode (the GPUs) --> write a part beside the store --> driver: publish it by renaming

Features are large, so they never reach the driver: workers write parts under temporary names, and only their names come back.
Knows nothing of the command line, nor of what the features are for.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from alt_ray.config_features import EncodeOptions
from alt_ray.engine.annotate import annotate
from alt_ray.engine.cluster import cluster
from alt_ray.engine.encode_stages import EncodeClips, WriteRegions
from alt_ray.engine.job import ClipJob, Summary
from alt_ray.engine.label import POCKET_NOTE, RANDOM_NOTE
from alt_ray.engine.pipeline import INPUT_COLUMNS, decoded_clips, results_of, through_encoders
from alt_ray.engine.progress import announce
from alt_ray.engine.request import EncodeRequest, PreparedEncoder
from alt_ray.engine.resources import Resources, plan_cluster
from alt_ray.engine.sinks import REGIONS, OutputFolder
from alt_ray.engine.stages import DecodeSettings
from alt_ray.engine.startup import Startup
from alt_ray.engine.workers import machine_name, on_a_worker
from alt_ray.engine.writers import PartPublisher
from alt_ray.errors import JobError
from alt_ray.features.layout import StoreRecord
from alt_ray.tables import take
from alt_ray.video.augment import Augmentation
from alt_ray.video.isolation import DECODE_FUNCTION
from alt_ray.video.manifest import Inputs, read_source
from alt_ray.video.sampling import ClipSpec
from alt_ray.video.uris import local_path

STORE_COLUMNS = [*INPUT_COLUMNS, "label", "split", "group"]
# A part is published whole: small ones lose less when the job is killed, large ones are fewer files.
MAX_PART_BYTES, MAX_PART_CLIPS, PARTS_PER_JOB = 64 * 2**20, 256, 32


@dataclass
class EncodeSummary(Summary):
    """The balance of an encode run. `encoded` is `labelled` by another name; sizes are bytes a clip.

    `annotated`: how many clips that were encoded before got another label, split and group.
    """

    encoded: int = 0
    annotated: dict[str, int] = field(default_factory=dict)
    bytes_per_clip: int = 0
    predicted_bytes_per_clip: int = 0


def encode(
    options: EncodeOptions,
    *,
    inputs: Inputs | None = None,
    decode_function: str = DECODE_FUNCTION,
    startup: Startup | None = None,
) -> EncodeSummary:
    """Encode everything in `options.source` into the store `options.out`, and return the balance, which is in run.json, too.

    Clips that are there already get the labels, splits and groups that the source says now. `inputs`: the source, if it was read
    already. Raises UsageError (nothing was begun) or JobError (what was finished is kept; the same call goes on from there).
    """
    startup = startup or Startup()
    inputs = inputs or read_source(options.source, **options.inputs.chosen)
    folder = OutputFolder(options.out, REGIONS)
    folder.read_run()  # a folder of something newer is refused before anything is waited for
    quiet = options.output.quiet
    startup.end("reading the source")
    announce(f"encode: {inputs.table.num_rows} inputs; starting or joining Ray", quiet=quiet)
    with folder.lock(), cluster(options.cluster.address, options.cluster.wanted) as available:
        startup.end("joining Ray")
        plan = plan_cluster(available, options.cluster, options.encoder.device)
        request = EncodeRequest(
            encoder=options.encoder,
            device=plan.device,
            adapter=options.adapter,
            num_frames=options.sampling.frames,
            num_threads=plan.encoder_threads,
            seed=options.seed,
            gpu_share=plan.encoder_gpus,
        )
        announce(f"encode: loading the encoder; {plan}", quiet=quiet)
        prepared = prepare(request, plan)
        startup.end("loading the encoder")
        spec = clip_spec(options, prepared)
        record = store_record(options, prepared, spec)
        _say_size(options, record, inputs.table.num_rows, folder)
        decode = DecodeSettings(spec, time_limit_s=options.sampling.decode_limit_s, function=decode_function)

        def stream(clips: pa.Table) -> Iterator[pa.Table]:
            # Sources are often sorted by label, and training mixes the clips of a few parts at a time: parts must be mixed.
            mixed = take(clips, np.random.default_rng(0).permutation(clips.num_rows))
            return results_of(encode_dataset(mixed, decode, request, prepared, record, folder.uri, plan))

        publishers: list[PartPublisher] = []

        def publisher() -> PartPublisher:
            publishers.append(PartPublisher(folder))
            return publishers[-1]

        job = ClipJob(
            command="encode",
            options=options,
            input_options=options.inputs,
            output_options=options.output,
            inputs=inputs,
            folder=folder,
            tracking=options.tracking,
            made_of={},
            settings=asdict(record),
            stream=stream,
            machines_for=plan.machines_for,
            startup=startup,
            writer=publisher,
            notes=_notes(prepared),
            record={
                "resources": {**asdict(plan), "frames_per_batch": prepared.frames_per_batch},
                "predicted_bytes_per_clip": record.bytes_per_clip,
            },
        )
        job.check()
        annotated = annotate(folder, inputs, quiet=quiet)
        job.record["annotated"] = annotated
        balance = job.run()
        written = sum(publisher.num_bytes for publisher in publishers)
        return EncodeSummary(
            **asdict(balance),
            encoded=balance.labelled,
            annotated=annotated,
            bytes_per_clip=round(written / balance.labelled) if balance.labelled else 0,
            predicted_bytes_per_clip=record.bytes_per_clip,
        )


def prepare(request: EncodeRequest, plan: Resources) -> PreparedEncoder:
    """Load the encoder on a worker and return what the job must know of it. Raises what prepare_encoder raises."""

    def task() -> PreparedEncoder:
        from alt_ray.engine.encoding import prepare_encoder  # torch stays out of the driver: it is 1 GB of memory there

        return prepare_encoder(request)

    return on_a_worker(task, plan, "the encoder could not be loaded")


def clip_spec(options: EncodeOptions, prepared: PreparedEncoder) -> ClipSpec:
    """How clips are decoded for this encoder."""
    preprocess = prepared.record["preprocess"]
    return ClipSpec(
        num_frames=prepared.num_frames,
        num_views=options.sampling.views,
        num_crops=options.sampling.crops,
        image_size=prepared.record["image_size"],
        resize_mode=preprocess["resize_mode"],
        interpolation=preprocess["interpolation"],
        train_views=options.train_views,
        seed=options.seed,
        augmentation=Augmentation(flip=not options.no_flip),
    )


def store_record(options: EncodeOptions, prepared: PreparedEncoder, spec: ClipSpec) -> StoreRecord:
    """What the store is of."""
    sampling: dict[str, Any] = {
        "frames": spec.num_frames,
        "views": spec.test_views,
        "train_views": spec.train_views,
    }
    if spec.num_crops > 1:
        sampling["crops"] = spec.num_crops
    if spec.train_views:
        sampling |= {"seed": spec.seed, "augmentation": asdict(spec.augmentation)}
    return StoreRecord(
        encoder={name: list(value) if isinstance(value, tuple) else value for name, value in prepared.record.items()},
        dtype=options.encoder.dtype,
        sampling=sampling,
        num_regions=prepared.num_regions,
        num_patches=prepared.num_patches,
    )


def encode_dataset(
    clips: pa.Table,
    decode: DecodeSettings,
    request: EncodeRequest,
    prepared: PreparedEncoder,
    record: StoreRecord,
    folder_uri: str,
    plan: Resources,
) -> ray.data.Dataset:
    """The lazy pipeline. Its last stage runs where encoders run, and takes no CPU from Ray's view: it waits for the disk."""
    decoded = decoded_clips(clips, decode, plan, STORE_COLUMNS)
    encoded = through_encoders(decoded, EncodeClips, (request, prepared, record, machine_name), clips.num_rows, plan)
    return encoded.map_batches(
        WriteRegions(folder_uri, record).__call__,
        batch_size=_part_clips(clips.num_rows, record, plan),
        batch_format="numpy",
        compute=ray.data.TaskPoolStrategy(size=plan.most_encoders),
        num_cpus=0,
    )


def _part_clips(num_clips: int, record: StoreRecord, plan: Resources) -> int:
    most = max(1, min(MAX_PART_BYTES // record.bytes_per_clip, MAX_PART_CLIPS))
    return min(most, max(plan.batch_clips, num_clips // PARTS_PER_JOB))


def _say_size(options: EncodeOptions, record: StoreRecord, num_clips: int, folder: OutputFolder) -> None:
    """Say what the store will take before anything is decoded, and refuse what the disk can't hold."""
    needed = record.bytes_per_clip * num_clips
    text = f"encode: {record.bytes_per_clip / 1e6:.3g} MB a clip, {needed / 1e9:.3g} GB for {num_clips}"
    path = local_path(folder.uri)
    if path is not None:
        free = shutil.disk_usage(path).free
        text += f"; {free / 1e9:.3g} GB free"
        done = sum(info.size for info in folder.part_infos(REGIONS))
        if needed - done > free:
            raise JobError(
                f"{text}: the store does not fit into {folder.uri}; choose another --out, fewer --frames or --views, or merge "
                "more (--merge-r)"
            )
    announce(text, quiet=options.output.quiet)


def _notes(prepared: PreparedEncoder) -> list[str]:
    kinds = {"none": RANDOM_NOTE.replace("labels mean", "regions mean"), "pocket": POCKET_NOTE}
    note = kinds.get(prepared.record["pretrained"])
    return [note] if note else []
