"""Text of more than 2 GiB is looked up, taken and put together; parts that are read side by side come as if read in turn."""

import threading
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs as arrow_fs

from alt_ray.engine.job import digest_of_ids
from alt_ray.engine.sinks import FAILURES, OutputFolder
from alt_ray.schema import failure_schema
from alt_ray.tables import LOCAL_AT_ONCE, each_part, index_in, is_in, take, wide_column

NUM_CHUNKS, MIB = 33, 2**20


@pytest.fixture(scope="module")
def long_ids() -> pa.ChunkedArray:
    """64 texts of 1 MiB, 33 times: 2.06 GiB as Arrow counts, 64 MiB of memory, since all chunks are one."""
    chunk = pa.array([f"{i:064d}" * (MIB // 64) for i in range(64)])
    column = pa.chunked_array([chunk] * NUM_CHUNKS)
    assert column.nbytes > 2**31
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        column.combine_chunks()
    return column


def test_columns_of_more_than_2_gib_are_looked_up_and_taken_from(long_ids: pa.ChunkedArray) -> None:
    last = len(long_ids) - 1
    found = take(pa.table({"id": long_ids}), [last, 0])["id"]
    assert found.type == pa.large_string()
    assert [value.as_py()[:64] for value in found] == [f"{63:064d}", f"{0:064d}"]
    assert index_in(found, long_ids).to_pylist() == [63, 0]
    assert sum(is_in(long_ids, found).to_pylist()) == 2 * NUM_CHUNKS
    assert wide_column(long_ids).nbytes > 2**31


def test_what_is_published_of_more_than_2_gib_of_ids_is_known(long_ids: pa.ChunkedArray, tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    row = {
        "video_id": long_ids[5].as_py(),
        "uri": "u",
        "stage": "open",
        "error": "not_found",
        "message": "m",
        "attempts": 1,
    }
    folder.publish(pa.Table.from_pylist([row], failure_schema()), FAILURES)
    published = folder.published(long_ids)
    assert published.failures == {"not_found": 1}
    assert [i for i, is_done in enumerate(published.is_done.to_pylist()) if is_done] == list(
        range(5, 64 * NUM_CHUNKS, 64)
    )


def test_a_digest_of_ids_depends_on_neither_their_order_nor_their_chunks() -> None:
    one = digest_of_ids(pa.chunked_array([["b", "a"], ["c"]]))
    assert (
        one
        == digest_of_ids(pa.chunked_array([["c", "b", "a"]]))
        == digest_of_ids(wide_column(pa.array(["a", "b", "c"])))
    )
    assert one != digest_of_ids(pa.chunked_array([["a", "b"]]))


def test_parts_come_in_order_and_several_are_read_at_once() -> None:
    together = threading.Barrier(LOCAL_AT_ONCE, timeout=60)  # passes only if as many are in work at one time

    def read(part: int) -> int:
        together.wait()
        return -part

    parts = range(2 * LOCAL_AT_ONCE)
    assert list(each_part(read, parts, arrow_fs.LocalFileSystem())) == [-part for part in parts]


def test_the_first_error_in_order_is_raised_and_little_is_begun_after_it() -> None:
    begun: list[int] = []

    def read(part: int) -> int:
        begun.append(part)
        if part in (3, 4):
            raise ValueError(f"part {part}")
        return part

    found = []
    with pytest.raises(ValueError, match="part 3"):
        for part in each_part(read, range(100_000), arrow_fs.LocalFileSystem()):
            found.append(part)
    assert found == [0, 1, 2]
    assert len(begun) < 100_000
