"""Go through a whole store in pieces: clips cut into shards of rows of parts, which are read a little ahead. No torch, no Ray.

Knows nothing of what is made of the rows. Nothing here is as large as the store: a shard names rows by where they begin and end.

V test views of a clip, which stand first among its views.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alt_ray.errors import FeatureError
from alt_ray.features.layout import StoreRecord
from alt_ray.remote.folder import patiently
from alt_ray.video.sources import resolve

READ_AHEAD = 2  # pieces that wait to be taken, beside the one that is being read


@dataclass(frozen=True)
class RowRange:
    """Rows `start` to `stop` (not included) of the part at `uri`: whole clips, all views of each."""

    uri: str
    start: int
    stop: int


def shards_of(clips: pa.Table, uris: Sequence[str], views_per_clip: int, clips_per_shard: int) -> list[pa.Table]:
    """Cut clips into shards of `clips_per_shard` (the last one may be smaller), each a table of row ranges: uri, start, stop.

    clips: part (index into `uris`) and row (that of view 0), as FeatureStore.places has them. Clips are taken in the order in
    which they stand on disk, so a shard is a few ranges, of one part or of several small ones.
    """
    part, row = clips["part"].to_numpy(), clips["row"].to_numpy()
    order = np.lexsort((row, part))
    part, row = part[order], row[order]
    begins = np.ones(len(part), bool)
    begins[1:] = (part[1:] != part[:-1]) | (row[1:] != row[:-1] + views_per_clip)
    begins[::clips_per_shard] = True
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(part)) - 1
    ranges = pa.table(
        {
            "uri": pa.array([uris[i] for i in part[first].tolist()], pa.string()),
            "start": row[first].astype(np.int64),
            "stop": row[last].astype(np.int64) + views_per_clip,
        }
    )
    starts = np.flatnonzero(np.diff(first // clips_per_shard, prepend=-1)).tolist()
    return [ranges.slice(a, b - a) for a, b in zip(starts, [*starts[1:], len(first)], strict=True)]


def read_ranges(
    ranges: Iterable[RowRange],
    record: StoreRecord,
    columns: Sequence[str],
    clips_at_once: int,
    *,
    num_threads: int = 1,
) -> Iterator[pa.Table]:
    """Yield the test views of the clips in some ranges, in order, up to `clips_at_once` clips (V rows each) at a time.

    The next ones are read by other threads meanwhile. `columns` need not hold "view", which is read to check what is found.
    Raises FeatureError for a part that can't be read, or that is not as its store said when it was opened.
    """
    V, step = int(record.sampling["views"]), clips_at_once * record.views_per_clip
    names = list(dict.fromkeys(("video_id", "view", *columns)))
    pieces = (
        RowRange(whole.uri, start, min(start + step, whole.stop))
        for whole in ranges
        for start in range(whole.start, whole.stop, step)
    )
    reader = _PartReader()
    waiting: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        try:
            for piece in pieces:
                rows = np.arange(piece.start, piece.stop)
                rows = rows[(rows - piece.start) % record.views_per_clip < V]
                waiting.append(pool.submit(reader.read, piece.uri, rows, names))
                if len(waiting) >= READ_AHEAD + num_threads:
                    yield _checked(waiting.popleft().result(), V)
            while waiting:
                yield _checked(waiting.popleft().result(), V)
        finally:
            for future in waiting:
                future.cancel()


def _checked(table: pa.Table, V: int) -> pa.Table:
    views, ids = table["view"].to_numpy(), table["video_id"].to_pylist()
    if (views != np.arange(len(views)) % V).any() or any(ids[i] != ids[i - i % V] for i in range(len(ids))):
        raise FeatureError(
            "a part of the store does not hold the views of its clips one after another; encode it again"
        )
    return table


class _PartReader:
    """Reads rows of parts in several threads; each keeps the part that it read last open."""

    def __init__(self) -> None:
        self._open = threading.local()

    def read(self, uri: str, rows: np.ndarray, columns: list[str]) -> pa.Table:
        """Return some rows (ascending) of a part. Only the row groups that hold them are read."""
        try:
            if getattr(self._open, "uri", None) != uri:
                location = resolve(uri)
                self._open.file = patiently(partial(pq.ParquetFile, location.path, filesystem=location.filesystem))
                sizes = [self._open.file.metadata.row_group(i).num_rows for i in range(self._open.file.num_row_groups)]
                self._open.starts, self._open.uri = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), uri
            starts = self._open.starts
            if rows[-1] >= starts[-1]:
                raise FeatureError(f"{uri} has {starts[-1]} rows, row {rows[-1]} was expected: it changed meanwhile")
            group = np.searchsorted(starts, rows, side="right") - 1
            groups, place = np.unique(group, return_inverse=True)
            read = partial(self._open.file.read_row_groups, groups.tolist(), columns=columns, use_threads=False)
            found = patiently(read)
        except (OSError, ValueError) as exc:
            raise FeatureError(f"{uri} can't be read: {exc}") from exc
        counts = starts[groups + 1] - starts[groups]
        wanted = (np.cumsum(counts) - counts)[place] + rows - starts[group]
        if len(wanted) == found.num_rows:
            return found
        return (
            found.take(pa.array(wanted))
            if len(wanted) <= wanted[-1] - wanted[0]
            else found.slice(wanted[0], len(wanted))
        )
