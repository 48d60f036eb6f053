"""Tables put together from many parts: read side by side, with text that may outgrow 2 GiB. Knows no column's meaning.

Arrow's plain strings have 32-bit offsets: one array of them ends at 2 GiB, which 35 million video ids of 64 bytes are. A column
in many chunks may be longer, but whatever makes one array of it (take, sort, combine_chunks, the set of is_in and index_in,
unique) raises or overflows. So text is made large_string, chunk by chunk, before any of these; these functions do that.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs as arrow_fs

# Parts that are read at once. From an object store reading one is a handful of requests that each wait, so many more than there
# are cores. On a disk little waits, and each holds a footer of several megabytes while it is read.
REMOTE_AT_ONCE, LOCAL_AT_ONCE = 16, 4

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def wide_type(kind: pa.DataType) -> pa.DataType:
    """The type for columns of any length: large_string for string and for a dictionary of strings, else the same."""
    if pa.types.is_dictionary(kind):
        return wide_type(kind.value_type)
    return pa.large_string() if pa.types.is_string(kind) else kind


def wide_column(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """A column with its text as large_string, chunk by chunk; others stay as they are."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    return chunked if chunked.type == wide_type(chunked.type) else chunked.cast(wide_type(chunked.type))


def wide(table: pa.Table) -> pa.Table:
    """A table with all its text as large_string, chunk by chunk."""
    return pa.table({name: wide_column(table[name]) for name in table.column_names})


def take(table: pa.Table, rows: Any) -> pa.Table:
    """The rows (indices) of a table, in their order, its text as large_string."""
    return wide(table).take(pa.array(rows))


def is_in(column: pa.ChunkedArray, among: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """Mark the values of a text column that are among others."""
    return pc.is_in(wide_column(column), value_set=wide_column(among))


def index_in(column: pa.ChunkedArray, among: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
    """Where each value of a text column first stands among others: int32, null for nowhere."""
    return pc.index_in(wide_column(column), value_set=wide_column(among))


def each_part(
    function: Callable[[_Part], _Result], parts: Sequence[_Part], filesystem: arrow_fs.FileSystem
) -> Iterator[_Result]:
    """Yield function(part) of all parts of a file system in their order, several of them in work at a time.

    The first error in that order is raised, as by a loop; nothing more is begun then, nor when the caller stops asking.
    """
    at_once = LOCAL_AT_ONCE if isinstance(filesystem, arrow_fs.LocalFileSystem) else REMOTE_AT_ONCE
    with ThreadPoolExecutor(at_once) as pool:
        try:
            yield from pool.map(function, parts)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
