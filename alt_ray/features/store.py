"""Open a feature store: what it is of, which clips it holds, and the regions of some of them. No torch, no Ray.

Small columns are read once into an index; regions only when they are asked for, row by row, from the parts that hold them.

K rows asked for, T frames, R tokens of a frame, N patches, D joint dimension.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from alt_ray.errors import FeatureError
from alt_ray.features.annotations import laid_over, read_annotations
from alt_ray.features.layout import SMALL_COLUMNS, StoreRecord
from alt_ray.remote.folder import patiently
from alt_ray.tables import each_part, wide
from alt_ray.video.sources import remote_errors, resolve
from alt_ray.video.uris import canonical_uri, child_uri

REGIONS = "regions"
DIGEST_ROWS = 4096
# Parts whose clips are mixed with each other in training, and so must be open together; an open part is a few megabytes.
WINDOW_PARTS = 16
MAX_OPEN_PARTS = 2 * WINDOW_PARTS  # the next window is read ahead while the last batches of one are waited for


class FeatureStore:
    """A folder that `alt-ray encode` wrote. `rows` is its index, one row per view, sorted by video id and view.

    `rows` has SMALL_COLUMNS (label, split and group as they are now: features.annotations) and where each stands: part (index
    into `parts`), row. Raises FeatureError for a folder without parts, with parts of different encoders, or with a part that
    can't be read.
    """

    def __init__(self, uri: str) -> None:
        self.uri = canonical_uri(uri)
        try:
            location = resolve(self.uri)
            self._filesystem: arrow_fs.FileSystem = location.filesystem
            folder = f"{location.path.rstrip('/')}/{REGIONS}"
            found = self._filesystem.get_file_info(arrow_fs.FileSelector(folder, allow_not_found=True))
        except remote_errors() as exc:
            raise FeatureError(f"{uri} can't be read: {exc}") from exc
        self.parts = sorted(info.path for info in found if info.extension == "parquet")
        if not self.parts:
            raise FeatureError(
                f"{uri} is no feature store: it has no {REGIONS}/*.parquet; `alt-ray encode SOURCE --out {uri}` makes one"
            )
        self._files: OrderedDict[int, _OpenPart] = OrderedDict()
        self._lock = Lock()
        tables = []
        for number, (table, record) in enumerate(each_part(self._read_index, range(len(self.parts)), self._filesystem)):
            if number == 0:
                self.record = record
            elif record != self.record:
                raise FeatureError(
                    f"{uri} mixes parts of different stores: {self.parts[0]}, {self.parts[number]}: "
                    f"{self.record.difference(record)}"
                )
            tables.append(table)
        order = [("video_id", "ascending"), ("view", "ascending")]
        rows = wide(pa.concat_tables(tables)).sort_by(order).combine_chunks()
        self.rows = laid_over(rows, read_annotations(self._filesystem, location.path.rstrip("/"))).combine_chunks()
        self._refuse_missing_views()

    @cached_property
    def digest(self) -> str:
        """Tells stores apart that hold other clips, other labels, or regions of another encoder or sampling."""
        found = hashlib.sha256(json.dumps(asdict(self.record), sort_keys=True).encode())
        for name in ("video_id", "label", "split", "group"):
            for start in range(0, self.rows.num_rows, DIGEST_ROWS):
                found.update(json.dumps(self.rows[name].slice(start, DIGEST_ROWS).to_pylist()).encode())
        return "sha256:" + found.hexdigest()

    def run_reference(self) -> dict[str, Any] | None:
        """What run.json says of the tracked run that made the store, for lineage; None if it says nothing."""
        location = resolve(self.uri)
        try:
            with location.filesystem.open_input_stream(f"{location.path.rstrip('/')}/run.json") as file:
                return json.loads(file.read()).get("tracking")
        except (OSError, ValueError):
            return None

    def clips(self) -> pa.Table:
        """One row per clip: video_id, uri, start_s, end_s, label, split, group, and `first_row`, that of its view 0 in `rows`.

        The other views of the clip follow it in `rows`.
        """
        first = pc.equal(self.rows["view"], 0)
        table = self.rows.append_column("first_row", pa.array(np.arange(self.rows.num_rows)))
        return table.filter(first).select(
            ["video_id", "uri", "start_s", "end_s", "label", "split", "group", "first_row"]
        )

    def read(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Return the tensors of K rows of the index, [K, ...] each, in the order asked for; `columns` None means all of them.

        Several threads may read at once. Raises FeatureError for a part that can't be read any more.
        """
        wanted = np.asarray(rows, np.int64)
        names = list(columns or self.record.tensors)
        kinds = {name: self.record.tensors[name] for name in names}
        found = {name: np.empty((len(wanted), *shape), dtype) for name, (dtype, shape) in kinds.items()}
        parts = self._part_of_row[wanted]
        places = self._row_in_part[wanted]
        for i, (part, place) in enumerate(zip(parts.tolist(), places.tolist(), strict=True)):
            opened = self._open(part)
            group = int(np.searchsorted(opened.starts, place, side="right")) - 1
            try:
                with opened.lock:
                    table = patiently(partial(opened.file.read_row_group, group, columns=names, use_threads=False))
            except (OSError, ValueError) as exc:
                raise FeatureError(f"{self.parts[part]} can't be read: {exc}") from exc
            offset = place - int(opened.starts[group])
            for name, (dtype, shape) in kinds.items():
                found[name][i] = _values(table[name].chunk(0), dtype, shape)[offset]
        return found

    def part_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices into `parts` [K] of some rows of the index."""
        return self._part_of_row[rows]

    def places(self) -> pa.Table:
        """One row per clip: video_id, part (index into `part_uris`), row (where its view 0 stands there); all that is needed to
        go through the store once (features.ranges). It shares no memory with `rows`.
        """
        table = self.rows.select(["video_id", "part", "row"]).filter(pc.equal(self.rows["view"], 0))
        return table.cast(pa.schema([table.schema.field(0), ("part", pa.int32()), ("row", pa.int32())]))

    def part_uris(self) -> list[str]:
        """The addresses of `parts`, by which workers find them."""
        return [child_uri(self.uri, f"{REGIONS}/{path.rsplit('/', 1)[1]}") for path in self.parts]

    def _read_index(self, number: int) -> tuple[pa.Table, StoreRecord]:
        path = self.parts[number]
        try:
            with pq.ParquetFile(path, filesystem=self._filesystem) as file:
                record = StoreRecord.of_metadata(file.schema_arrow.metadata, path)
                table = file.read(list(SMALL_COLUMNS)).combine_chunks()  # from a chunk for each row group
        except (OSError, ValueError) as exc:
            raise FeatureError(f"{path} can't be read ({exc}); delete it and run `alt-ray encode` again") from exc
        places = {"part": pa.array(np.full(table.num_rows, number)), "row": pa.array(np.arange(table.num_rows))}
        for name, values in places.items():
            table = table.append_column(name, values)
        return table.replace_schema_metadata(), record

    def _refuse_missing_views(self) -> None:
        self._part_of_row = self.rows["part"].to_numpy()
        self._row_in_part = self.rows["row"].to_numpy()
        views = self.rows["view"].to_numpy()
        per_clip = self.record.views_per_clip
        has_all = not (self.rows.num_rows % per_clip or (views != np.arange(self.rows.num_rows) % per_clip).any())
        first = self.rows["video_id"].filter(pc.equal(self.rows["view"], 0))
        if not has_all or pc.count_distinct(first).as_py() < len(first):
            raise FeatureError(f"{self.uri} lacks views of some clips, or has clips twice: expected {per_clip} of each")

    def _open(self, part: int) -> "_OpenPart":
        with self._lock:
            if part in self._files:
                self._files.move_to_end(part)
                return self._files[part]
            try:
                file = patiently(partial(pq.ParquetFile, self.parts[part], filesystem=self._filesystem))
            except (OSError, ValueError) as exc:
                raise FeatureError(f"{self.parts[part]} can't be read: {exc}") from exc
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self._files[part] = _OpenPart(file, np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64), Lock())
            if len(self._files) > MAX_OPEN_PARTS:
                self._files.popitem(last=False)
            return self._files[part]


@dataclass(frozen=True)
class _OpenPart:
    file: pq.ParquetFile
    starts: np.ndarray  # the first row of each row group
    lock: Lock  # a file may be read by one thread at a time


def encoder_of_store(uri: str) -> str | None:
    """Return the `pretrained` of the encoder that a folder holds features of, None if it is no store: a look at one file."""
    try:
        location = resolve(canonical_uri(uri))
        folder = f"{location.path.rstrip('/')}/{REGIONS}"
        for info in location.filesystem.get_file_info(arrow_fs.FileSelector(folder, allow_not_found=True)):
            if info.extension == "parquet":
                schema = pq.read_schema(info.path, filesystem=location.filesystem)
                return str(StoreRecord.of_metadata(schema.metadata, info.path).encoder["pretrained"])
    except remote_errors():
        return None
    except (ValueError, FeatureError):
        return None
    return None


def tensor_values(column: pa.ChunkedArray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor column as an array [rows, *shape]."""
    chunks = [_values(chunk, dtype, shape) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks) if chunks else np.empty((0, *shape), dtype)


def _values(chunk: pa.Array, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    storage = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    return storage.flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False).reshape(-1, *shape)
