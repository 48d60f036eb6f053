"""Small feature stores for tests, of random regions that carry their label: written as `encode` writes them, without videos."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from alt_ray.features.layout import StoreRecord
from alt_ray.features.writer import write_part
from alt_ray.models.checkpoint import EncoderRecord, load_checkpoint

LABELS = ("walking", "running", "waving", "playing guitar")


def pocket_record(num_frames: int = 4, views: int = 1, train_views: int = 0, **changes: Any) -> StoreRecord:
    """A record of the pocket's encoder, whose texts are there without loading anything else."""
    encoder: EncoderRecord = load_checkpoint("pocket").config.encoder
    sampling = {"frames": num_frames, "views": views, "train_views": train_views}
    record = StoreRecord({**asdict(encoder)}, "float32", sampling, num_regions=5, num_patches=64)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in record.encoder.items()}
    return replace(record, encoder={**plain, **changes})


def write_store(
    folder: Path,
    num_clips: int,
    record: StoreRecord | None = None,
    *,
    part_clips: int = 10,
    splits: bool = True,
    seed: int = 0,
    noise: float = 0.5,
) -> Path:
    """Write `num_clips` clips, the label of clip i being LABELS[i % 4], in parts. Every fourth clip of a label is a test clip."""
    record = record or pocket_record()
    (folder / "regions").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).normal(size=(len(LABELS), 1, 1, record.dim))
    V = record.views_per_clip
    T, R, D = record.num_frames, record.num_regions, record.dim
    for start in range(0, num_clips, part_clips):
        index = np.arange(start, min(start + part_clips, num_clips))
        label = index % len(LABELS)
        regions = kinds[label][:, None] + noise * rng.normal(size=(len(index), V, T, R, D))
        batch: dict[str, Any] = {
            "video_id": np.array([f"id{i:06d}" for i in index]),
            "uri": np.array([f"/videos/{i}.mp4" for i in index]),
            "start_s": np.full(len(index), np.nan),
            "end_s": np.full(len(index), np.nan),
            "label": np.array([LABELS[k] for k in label]),
            "split": np.array([("test" if i // 4 % 4 == 3 else "train") if splits else None for i in index], object),
            "group": np.array([f"g{i // 4 % 5}" for i in index]),
            "regions": regions,
            "align": regions[:, :, :, ::-1],
            "sizes": np.ones((len(index), V, T, R)),
            "region_of_patch": np.ones((len(index), V, T, record.num_patches)),
            "pooled": regions.mean(3),
            "duration_s": np.ones(len(index)),
            "fps": np.full(len(index), 25.0),
            "width": np.full(len(index), 64),
            "height": np.full(len(index), 64),
            "codec": np.array(["h264"] * len(index)),
            "frames_damaged": np.zeros(len(index), int),
        }
        write_part(str(folder / "regions"), f"part-{start:06d}.parquet", batch, record)
    return folder
