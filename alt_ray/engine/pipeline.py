"""The stages that jobs over clips have in common, on Ray Data: decoders, encoders, and the stream of what comes out.

    clips --> shards --> decoders (many processes) --> frames --> encoders (few, with the GPUs) --> results, in any order

Knows nothing of what results are, nor of how they are published.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray.data

from alt_ray.engine.resources import Resources
from alt_ray.engine.stages import DecodeClips, DecodeSettings

# Clips that one task of a decoder takes: few, so that results come early and the last tasks end together, but never so few that
# Ray has more tasks to keep in mind than it does well.
MAX_SHARD_CLIPS, SHARDS_PER_DECODER, MAX_SHARDS = 64, 32, 20_000
DECODE_BATCH_CLIPS = 8  # decoded before they are handed on: 10 MB at 8 frames of 224 pixels
INPUT_COLUMNS = ["video_id", "uri", "start_s", "end_s"]


def decoded_clips(
    clips: pa.Table, decode: DecodeSettings, plan: Resources, columns: list[str] = INPUT_COLUMNS
) -> ray.data.Dataset:
    """The lazy first stage of a job: `columns` of the clips, with their frames (stages.DecodeClips)."""
    shards = _shards(clips.select(columns), plan)
    return ray.data.from_arrow(shards).map_batches(
        DecodeClips,
        fn_constructor_args=(decode,),
        batch_size=DECODE_BATCH_CLIPS,
        batch_format="numpy",
        compute=pool(plan.num_decoders, plan.most_decoders, len(shards)),
        num_cpus=plan.decoder_cpus,
    )


def through_encoders(
    dataset: ray.data.Dataset, stage: type, arguments: tuple[Any, ...], num_clips: int, plan: Resources
) -> ray.data.Dataset:
    """Add the stage that holds a model. Two pools of actors are never fused into one, so it overlaps with decoding."""
    num_batches = -(-num_clips // plan.batch_clips)  # a small job waits for few models to load
    return dataset.map_batches(
        stage,
        fn_constructor_args=arguments,
        batch_size=plan.batch_clips,
        batch_format="numpy",
        compute=pool(plan.num_encoders, plan.most_encoders, num_batches),
        num_cpus=plan.encoder_cpus,
        num_gpus=plan.encoder_gpus or None,
    )


def pool(size: int, most: int, num_tasks: int) -> ray.data.ActorPoolStrategy:
    """Actors for so many tasks: `size` of them, and up to `most` as machines come, where Ray Data sees that they have work."""
    size, most = min(size, num_tasks), min(most, num_tasks)
    return ray.data.ActorPoolStrategy(min_size=size, max_size=most, max_tasks_in_flight_per_actor=2)


def results_of(dataset: ray.data.Dataset) -> Iterator[pa.Table]:
    """Run the pipeline, and yield its blocks as they come, in any order."""
    yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)


def _shards(clips: pa.Table, plan: Resources) -> list[pa.Table]:
    even = clips.num_rows // (plan.most_decoders * SHARDS_PER_DECODER)
    size = max(min(even, MAX_SHARD_CLIPS), clips.num_rows // MAX_SHARDS, 1)
    size = -(-size // plan.batch_clips) * plan.batch_clips  # whole batches, so that no encoder gets the rest of one
    # One chunk each, made shard by shard: of all clips together, a column of text may be too long for one.
    return [clips.slice(start, size).combine_chunks() for start in range(0, clips.num_rows, size)]
