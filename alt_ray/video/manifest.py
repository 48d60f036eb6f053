"""From what a user calls a source to one table of inputs. Knows nothing of what is inside the files: none is opened.

The table is columnar from end to end; the only work in Python for each row is its video id.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alt_ray.errors import SourceError
from alt_ray.tables import take
from alt_ray.video.listing import is_glob, list_videos
from alt_ray.video.manifest_formats import BATCH_ROWS, MANIFEST_EXTENSIONS, Columns, Manifest, open_manifest
from alt_ray.video.shards import Shard, in_shard
from alt_ray.video.sources import kind_of, remote_errors
from alt_ray.video.uris import VIDEO_EXTENSIONS, canonical_uri, canonical_uris, extension_of, parent_uri

INPUTS_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
    ]
)
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Inputs:
    """What a source holds. `table` has INPUTS_SCHEMA, one row per clip, in the order of the source.

    `other_files` counts, by extension, the files of a folder that are no inputs (with a limit: those that were met
    before it was reached). `duplicates` counts the rows that were dropped because an earlier one has the same video id. `given`
    are those of label, split and group that the source has a column for, be it empty; a folder has none.
    """

    table: pa.Table
    source: str
    other_files: dict[str, int]
    duplicates: int
    given: frozenset[str] = frozenset()


def read_source(
    source: str, *, root: str | None = None, limit: int | None = None, shard: Shard | None = None
) -> Inputs:
    """Read a folder, a glob, one video or a manifest; of `limit` inputs the first ones, and of those the part `shard`.

    A part may be empty. The parts together are what there is without `shard`.

    Relative paths in a manifest are below `root`, or below the manifest's folder. That a listed file is missing is no
    error here. Raises SourceError for a source without inputs and for a value that can't be, with file and line.
    """
    if limit is not None and limit < 1:
        raise SourceError(f"limit {limit} leaves no inputs; expected 1 or more")
    uri = canonical_uri(source)
    try:
        kind = kind_of(uri)
    except remote_errors() as exc:
        raise SourceError(f"{source} can't be read: {exc}") from exc
    extension = extension_of(uri)
    if kind == "folder" or (kind is None and is_glob(uri)):
        return _read_listing(source, uri, limit, shard)
    if kind is None:
        raise SourceError(f"{source} does not exist; {_ACCEPTED}")
    if extension in VIDEO_EXTENSIONS:
        table, _, _ = _collect(iter([{"path": pa.array([uri])}]), "/", lambda row: source, limit, shard)
        return Inputs(table, uri, {}, 0)
    if extension in MANIFEST_EXTENSIONS:
        folder = parent_uri(uri) if root is None else canonical_uri(root.rstrip("/") or "/")
        return _read_manifest(source, open_manifest(uri), folder, limit, shard)
    raise SourceError(f"{source} is neither a video nor a manifest; {_ACCEPTED}")


_ACCEPTED = (
    f"a source is a folder, a glob, a video ({' '.join(sorted(VIDEO_EXTENSIONS))}) "
    f"or a manifest ({' '.join(MANIFEST_EXTENSIONS)})"
)


def video_id(uri: str, start_s: float | None = None, end_s: float | None = None) -> str:
    """The id of a clip: 24 hexadecimal digits that depend on its canonical uri and its bounds alone.

    96 bits: among 100 million clips two share an id with a probability of 1e-13.
    """
    bounds = f"{'' if start_s is None else repr(start_s)}\n{'' if end_s is None else repr(end_s)}"
    return hashlib.blake2b(f"{uri}\n{bounds}".encode(), digest_size=12).hexdigest()


def _read_listing(source: str, uri: str, limit: int | None, shard: Shard | None) -> Inputs:
    other_files: Counter[str] = Counter()
    uris = itertools.islice(list_videos(uri, other_files), limit)

    def batches() -> Iterator[Columns]:
        while block := list(itertools.islice(uris, BATCH_ROWS)):
            yield {"path": pa.array(block, pa.string())}

    table, duplicates, columns = _collect(batches(), "/", lambda row: source, limit, shard)
    if not columns:
        counts = ", ".join(f"{count} {extension}" for extension, count in other_files.most_common(20))
        found = f"no videos in {source}, only other files: {counts}" if counts else f"no files in {source}"
        raise SourceError(f"{found}; videos end in {' '.join(sorted(VIDEO_EXTENSIONS))}, and hidden files are left out")
    return Inputs(table, uri, dict(sorted(other_files.items())), duplicates)


def _read_manifest(source: str, manifest: Manifest, folder: str, limit: int | None, shard: Shard | None) -> Inputs:
    try:
        table, duplicates, columns = _collect(manifest.batches(), folder, manifest.where, limit, shard)
    except OSError as exc:  # a connection that broke
        raise SourceError(f"{source} can't be read to its end: {exc}") from exc
    if not columns:
        raise SourceError(f"{source} holds no rows; a manifest has one video in each")
    return Inputs(table, manifest.uri, {}, duplicates, columns & {"label", "split", "group"})


def _collect(
    batches: Iterator[Columns], folder: str, where: Callable[[int], str], limit: int | None, shard: Shard | None
) -> tuple[pa.Table, int, frozenset[str]]:
    """Check the rows of all batches, until `limit` different ones were met, and keep those of `shard`; also return the number of
    duplicates and the columns that were met (none: there was no row)."""
    if limit is not None and shard is not None:
        first, *others = _collect(batches, folder, where, limit, None)
        return first.filter(pa.array(in_shard(first["video_id"], shard))), *others
    checked: list[pa.RecordBatch] = []
    columns: set[str] = set()
    keys: list[np.ndarray] = []
    rows: list[np.ndarray] = []  # which of the source they are, with a shard
    num_met = num_rows = 0
    is_first = np.zeros(0, dtype=bool)

    def where_kept(row: int) -> str:
        return where(row if shard is None else int(np.concatenate(rows)[row]))

    for raw in batches:
        batch = _check(raw, folder, lambda row, before=num_met: where(before + row))  # type: ignore[misc]
        columns |= raw.keys() if batch.num_rows else set()
        start, num_met = num_met, num_met + batch.num_rows
        if shard is not None:
            mark = in_shard(batch.column("video_id"), shard)
            batch = batch.filter(pa.array(mark))
            rows.append(start + np.flatnonzero(mark))
        checked.append(batch)
        # Python's own hash (64 bits, of this process only) finds the few rows that may be duplicates.
        keys.append(np.fromiter(map(hash, batch.column("video_id").to_pylist()), np.int64, batch.num_rows))
        num_rows += batch.num_rows
        if limit is not None and num_rows >= limit:
            is_first = _first_of_each(pa.Table.from_batches(checked), np.concatenate(keys), where_kept)
            if is_first.sum() >= limit:
                break
    table = pa.Table.from_batches(checked, INPUTS_SCHEMA)
    if num_rows and len(is_first) != num_rows:
        is_first = _first_of_each(table, np.concatenate(keys), where_kept)
    if limit is not None and is_first.sum() >= limit:
        num_rows = int(np.flatnonzero(is_first)[limit - 1]) + 1
        table, is_first = table.slice(0, num_rows), is_first[:num_rows]
    num_kept = int(is_first.sum())
    kept = table if num_kept == num_rows else table.filter(pa.array(is_first))
    return kept, num_rows - num_kept, frozenset(columns)


def _first_of_each(table: pa.Table, keys: np.ndarray, where: Callable[[int], str]) -> np.ndarray:
    """Mark the rows whose video id no earlier row has. Raises SourceError if two sources or bounds share one."""
    order = np.argsort(keys, kind="stable")
    is_start = np.concatenate([[True], np.diff(keys[order]) != 0])
    starts = np.flatnonzero(is_start)
    is_first = np.ones(len(keys), dtype=bool)
    repeats = np.flatnonzero(~is_start)
    if not len(repeats):
        return is_first
    later = order[repeats]
    earlier = order[starts[np.searchsorted(starts, repeats, side="right") - 1]]
    compared = table.select(["video_id", "uri", "start_s", "end_s"])
    left, right = take(compared, later), take(compared, earlier)

    def same(column: str) -> np.ndarray:
        a, b = left[column], right[column]
        equal = pc.or_(pc.fill_null(pc.equal(a, b), False), pc.and_(pc.is_null(a), pc.is_null(b)))
        return equal.to_numpy()

    same_id = same("video_id")
    conflicts = np.flatnonzero(same_id & ~(same("uri") & same("start_s") & same("end_s")))
    if len(conflicts):
        row = int(conflicts[np.argmin(later[conflicts])])
        raise SourceError(
            f"id {left['video_id'][row].as_py()!r} stands for two sources: {right['uri'][row].as_py()} "
            f"({where(int(earlier[row]))}) and {left['uri'][row].as_py()} ({where(int(later[row]))}); "
            "an id names one source with one pair of bounds"
        )
    is_first[later[same_id]] = False
    return is_first


def _check(raw: Columns, folder: str, where: Callable[[int], str]) -> pa.RecordBatch:
    """Turn raw columns into those of INPUTS_SCHEMA. Raises SourceError at the first value that can't be."""
    num_rows = len(raw["path"])
    text = {name: _text(raw.get(name), name, num_rows, where) for name in ("label", "split", "group", "id")}
    paths = _as_strings(raw["path"], "path", where)
    _refuse(pc.equal(pc.utf8_trim_whitespace(pc.fill_null(paths, "")), ""), paths, "no path", where)
    start_s, end_s = (_seconds(raw.get(name), name, num_rows, where) for name in ("start_s", "end_s"))
    too_early = pc.less_equal(end_s, pc.fill_null(start_s, 0.0))
    _refuse(too_early, end_s, "end_s is {}; expected more than start_s (0 where there is none)", where)
    uris = canonical_uris(paths, folder)
    ids = text["id"]
    if ids.null_count:
        made = map(video_id, uris.to_pylist(), start_s.to_pylist(), end_s.to_pylist())
        ids = pc.coalesce(ids, pa.array(made, pa.string()))
    split = _splits(text["split"], where)
    return pa.record_batch([ids, uris, start_s, end_s, text["label"], split, text["group"]], schema=INPUTS_SCHEMA)


def _refuse(bad: pa.Array, values: pa.Array, message: str, where: Callable[[int], str]) -> None:
    row = pc.index(bad, True).as_py()
    if row >= 0:
        raise SourceError(f"{where(row)}: {message.format(repr(values[row].as_py()))}")


def _as_strings(values: pa.Array, name: str, where: Callable[[int], str]) -> pa.Array:
    try:
        return pc.cast(values, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise SourceError(f"{where(0)}: column {name!r} is {values.type} ({exc}); expected text") from exc


def _text(values: pa.Array | None, name: str, num_rows: int, where: Callable[[int], str]) -> pa.Array:
    """Text without blanks around it; null for none."""
    if values is None:
        return pa.nulls(num_rows, pa.string())
    trimmed = pc.utf8_trim_whitespace(_as_strings(values, name, where))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _seconds(values: pa.Array | None, name: str, num_rows: int, where: Callable[[int], str]) -> pa.Array:
    """Seconds as float64, null for none (also for NaN, as pandas writes it)."""
    if values is None:
        return pa.nulls(num_rows, pa.float64())
    expected = f"{name} is {{}}; expected a number of seconds, 0 or more"
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        values = _text(values, name, num_rows, where)
        number = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^(?i:nan)$"
        _refuse(pc.invert(pc.match_substring_regex(values, number)), values, expected, where)
        values = pc.utf8_ltrim(values, "+")
    seconds = pc.cast(values, pa.float64())
    seconds = pc.if_else(pc.is_nan(seconds), pa.scalar(None, pa.float64()), seconds)
    _refuse(pc.or_(pc.less(seconds, 0.0), pc.is_inf(seconds)), seconds, expected, where)
    return pc.add(seconds, 0.0)  # -0.0 becomes 0.0, which is written otherwise in a video id


def _splits(values: pa.Array, where: Callable[[int], str]) -> pa.Array:
    lower = pc.utf8_lower(values)
    known = pc.is_in(lower, pa.array(SPLITS))
    _refuse(
        pc.and_not(pc.is_valid(values), known), values, f"split is {{}}; expected one of {', '.join(SPLITS)}", where
    )
    return pc.take(pa.array(SPLITS.values()), pc.index_in(lower, pa.array(SPLITS)))
