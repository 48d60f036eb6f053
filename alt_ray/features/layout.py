"""What a part of a feature store looks like: its columns, and what its metadata say of the encoder. No torch, no files.

One row is one view of a clip; all views of a clip stand in one part, view 0 first.

V test views, A training views, T frames, R tokens of a frame (index 0 the class token), N patches, D joint dimension.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from alt_ray.errors import FeatureError
from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import FORMAT_KEY, byte_stamp, check_metadata

STORE_KEY = b"alt_ray_store"
SMALL_COLUMNS = ("video_id", "view", "augmented", "uri", "start_s", "end_s", "label", "split", "group")
PROBE_COLUMNS = ("duration_s", "fps", "width", "height", "codec", "frames_damaged")


@dataclass(frozen=True)
class StoreRecord:
    """What a whole store is of. `encoder` is models.checkpoint.EncoderRecord as a dictionary, `sampling` how clips were decoded.

    Two parts belong to one store only if all of it is the same.
    """

    encoder: dict[str, Any]
    dtype: str  # that the encoder ran in; stored is float16
    sampling: dict[str, Any]  # frames, views, train_views, seed
    num_regions: int  # R, with the class token
    num_patches: int  # N

    @property
    def num_frames(self) -> int:
        return int(self.sampling["frames"])

    @property
    def dim(self) -> int:
        return int(self.encoder["dim"])

    @property
    def views_per_clip(self) -> int:
        """V + A."""
        return int(self.sampling["views"]) + int(self.sampling["train_views"])

    @property
    def has_align(self) -> bool:
        """Whether regions are aligned by other features than their tokens, which are stored beside them then."""
        return self.encoder["region_features"] != "final"

    @cached_property
    def tensors(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Number format and shape of each tensor column."""
        T, R, N, D = self.num_frames, self.num_regions, self.num_patches, self.dim
        half = np.dtype(np.float16)
        found = {
            "regions": (half, (T, R, D)),
            "sizes": (np.dtype(np.uint16), (T, R)),
            "region_of_patch": (np.dtype(np.int16), (T, N)),
            "pooled": (half, (T, D)),
        }
        return {**found, "align": (half, (T, R, D))} if self.has_align else found

    @property
    def bytes_per_view(self) -> int:
        return sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in self.tensors.values())

    @property
    def bytes_per_clip(self) -> int:
        return self.bytes_per_view * self.views_per_clip

    def schema(self) -> pa.Schema:
        """The columns of a part."""
        return pa.schema(
            [
                pa.field("video_id", pa.string(), nullable=False),
                pa.field("view", pa.int32(), nullable=False),
                pa.field("augmented", pa.bool_(), nullable=False),
                pa.field("uri", pa.string(), nullable=False),
                pa.field("start_s", pa.float64()),
                pa.field("end_s", pa.float64()),
                pa.field("label", pa.string()),
                pa.field("split", pa.string()),
                pa.field("group", pa.string()),
                *(
                    pa.field(name, pa.fixed_shape_tensor(pa.from_numpy_dtype(dtype), shape), nullable=False)
                    for name, (dtype, shape) in self.tensors.items()
                ),
                pa.field("duration_s", pa.float64()),
                pa.field("fps", pa.float64()),
                pa.field("width", pa.int32()),
                pa.field("height", pa.int32()),
                pa.field("codec", pa.string()),
                pa.field("frames_damaged", pa.int32()),
            ],
            metadata={
                **byte_stamp(FORMAT_VERSION),
                STORE_KEY: json.dumps(asdict(self), sort_keys=True).encode(),
            },
        )

    @classmethod
    def of_metadata(cls, metadata: Mapping[bytes, bytes] | None, where: str) -> "StoreRecord":
        """Read the record of a part. Raises FeatureError for a file that is none, or of a newer version."""
        found = metadata or {}
        if STORE_KEY not in found or FORMAT_KEY not in found:
            raise FeatureError(f"{where} holds no region features; `alt-ray encode SOURCE --out DIR` writes them")
        check_metadata(found, FORMAT_VERSION, where, error=FeatureError)
        return cls(**json.loads(found[STORE_KEY]))

    def difference(self, other: "StoreRecord") -> str:
        """Say in what two records differ; "" if in nothing."""
        mine, theirs = flat(asdict(self)), flat(asdict(other))
        names = sorted(set(mine) | set(theirs))
        return "; ".join(
            f"{name} {mine.get(name)} and {theirs.get(name)}" for name in names if mine.get(name) != theirs.get(name)
        )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one level: {"a": {"b": 1}} gives {"a.b": 1}."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
