"""Write encoded clips as one part of a feature store, under a temporary name. Runs where the encoder runs; publishes nothing.

Knows nothing of Ray. B clips of a batch, V views of each (test views, then training views).
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alt_ray.errors import JobError
from alt_ray.features.layout import PROBE_COLUMNS, StoreRecord
from alt_ray.remote.folder import patiently
from alt_ray.video.sources import resolve

CLIP_COLUMNS = ("video_id", "uri", "start_s", "end_s", "label", "split", "group")
# A row group for each row, so that one clip is read without its neighbours: training takes them in random order.
MIN_GROUP_BYTES = 1 << 16


def write_part(folder_uri: str, file: str, batch: dict[str, Any], record: StoreRecord) -> int:
    """Write the views of B clips to `folder_uri`/`file` and return the size in bytes.

    batch: CLIP_COLUMNS and PROBE_COLUMNS [B] and the tensors of `record` [B, V, ...]. Region features hardly compress (8 %, and
    reading takes three times as long), so they are stored as they are. Raises JobError where the part can't be written.
    """
    B, V = batch["regions"].shape[:2]
    num_test = int(record.sampling["views"])
    schema = record.schema()
    columns: dict[str, Any] = {
        name: pa.array(_repeat(batch[name], V), schema.field(name).type) for name in (*CLIP_COLUMNS, *PROBE_COLUMNS)
    }
    columns["view"] = pa.array(np.tile(np.arange(V, dtype=np.int32), B))
    columns["augmented"] = pa.array(np.tile(np.arange(V) >= num_test, B))
    for name, (dtype, shape) in record.tensors.items():
        columns[name] = _tensor_array(batch[name].astype(dtype, copy=False).reshape(B * V, *shape))
    table = pa.table([columns[name] for name in schema.names], schema=schema)
    location = resolve(folder_uri)
    path = f"{location.path.rstrip('/')}/{file}"

    def write() -> int:
        pq.write_table(
            table,
            path,
            filesystem=location.filesystem,
            compression="none",
            use_dictionary=["uri", "label", "split", "group", "codec"],
            write_statistics=False,
            row_group_size=max(1, MIN_GROUP_BYTES // record.bytes_per_view),
        )
        return int(location.filesystem.get_file_info(path).size)

    try:
        return patiently(write)
    except OSError as exc:
        raise JobError(f"writing to {folder_uri} failed: {exc}; run the same command again to go on") from exc


def _repeat(values: Any, times: int) -> list[Any]:
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [None if isinstance(value, float) and value != value else value for value in plain for _ in range(times)]


def _tensor_array(values: np.ndarray) -> pa.Array:
    """Return an array of fixed-shape tensors over the same memory."""
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:])
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    return pa.ExtensionArray.from_storage(kind, storage)
