"""What one worker does with one batch when regions are stored: encode clips, then write them. Knows nothing of Ray.

B clips, V views (test views, then training views), T frames, R tokens of a frame, N patches, D joint dimension.
"""

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from alt_ray.engine.request import EncodeRequest, PreparedEncoder
from alt_ray.engine.sinks import TEMPORARY, new_part_name
from alt_ray.engine.stages import Batch
from alt_ray.features.layout import StoreRecord
from alt_ray.features.writer import write_part
from alt_ray.schema import written_schema
from alt_ray.video.uris import child_uri

NOT_FINITE = "the encoder's answer is not finite in float16; try --dtype float32"


class EncodeClips:
    """Add to a batch of decoded clips the tensors of `record` [B, V, ...]; a clip that is not finite becomes a failure.

    machine: says where this worker is; called once, and added as a column.
    """

    def __init__(
        self,
        request: EncodeRequest,
        prepared: PreparedEncoder,
        record: StoreRecord,
        machine: Callable[[], str] = platform.node,
    ) -> None:
        from alt_ray.engine.encoding import build_feeder  # torch: the driver imports this module and must stay light

        self.record = record
        self.machine = machine()
        self.feeder = build_feeder(request, prepared)

    def __call__(self, batch: Batch) -> Batch:
        from alt_ray.engine.encoding import encode_views

        frames_BVTHW3 = batch.pop("frames")
        is_decoded = batch["error"] == ""
        B, V = frames_BVTHW3.shape[:2]
        found = {name: np.zeros((B, V, *shape), dtype) for name, (dtype, shape) in self.record.tensors.items()}
        if is_decoded.any():
            tensors = encode_views(self.feeder, frames_BVTHW3[is_decoded], self.record)
            for name, values in tensors.items():
                found[name][is_decoded] = values
        is_finite = np.isfinite(found["regions"]).all(axis=(1, 2, 3, 4)) & np.isfinite(found["pooled"]).all(
            axis=(1, 2, 3)
        )
        errors = {name: batch[name].astype(object) for name in ("error", "stage", "message")}
        for i in np.flatnonzero(is_decoded & ~is_finite):
            errors["error"][i], errors["stage"][i] = "not_finite", "encode"
            errors["message"][i] = f"{batch['uri'][i]}: {NOT_FINITE}"
        batch["machine"] = np.array([self.machine] * B)
        return {**batch, **{name: values.astype(str) for name, values in errors.items()}, **found}


class WriteRegions:
    """Write the clips of a batch as one part beside the store, and answer with rows of schema.written_schema."""

    def __init__(self, folder_uri: str, record: StoreRecord) -> None:
        self.folder_uri = child_uri(folder_uri, TEMPORARY)
        self.record = record

    def __call__(self, batch: Batch) -> pa.Table:
        is_good = batch["error"] == ""
        columns: dict[str, Any] = {
            name: batch[name].tolist()
            for name in ("video_id", "uri", "stage", "error", "message", "attempts", "machine")
        }
        for name in ("stage", "error", "message"):
            columns[name] = [value or None for value in columns[name]]
        part, num_bytes = None, 0
        if is_good.any():
            part = new_part_name()
            size = write_part(
                self.folder_uri, part, {name: values[is_good] for name, values in batch.items()}, self.record
            )
            num_bytes = size // int(is_good.sum())
        columns["part"] = [part if good else None for good in is_good]
        columns["num_bytes"] = [num_bytes if good else None for good in is_good]
        schema = written_schema()
        return pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema)
