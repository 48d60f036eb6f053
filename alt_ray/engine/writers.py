"""How results are published by the driver: rows that it collects, or parts that workers wrote. Knows nothing of Ray."""

import contextlib
import time
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa
import pyarrow.compute as pc

from alt_ray.engine.sinks import FAILURES, OutputFolder
from alt_ray.errors import JobError
from alt_ray.schema import failure_schema

# Between two commits: a part for each would be many small files, and what lies between them is lost when the driver is killed.
# Growing with the run bounds both: at most a fiftieth of the work so far, at most a minute.
MIN_COMMIT_S, MAX_COMMIT_S, COMMIT_SHARE = 3.0, 60.0, 0.02
MAX_BUFFERED_BYTES = 4 * 2**20  # a few thousand rows of labels; publishing holds them three times


class Writer(Protocol):
    """Takes results as they come, and publishes them by the time that its block ends, however it ends."""

    def add(self, results: pa.Table) -> tuple[int, int]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ResultWriter:
    """Collects rows and publishes them in parts, results and failures apart, every few seconds. A block's context.

    `results` is the schema of the rows that are no failures; None: every row is one.
    """

    def __init__(self, folder: OutputFolder, results: pa.Schema | None) -> None:
        self.folder = folder
        self.results = results
        self._buffer: list[pa.Table] = []
        self._num_buffered = self._buffered_bytes = 0
        self._started_s = self._committed_s = time.monotonic()

    def add(self, results: pa.Table) -> tuple[int, int]:
        """Take rows of schema.result_schema, and return how many of them are results and failures."""
        failed = results.num_rows - results["error"].null_count
        self._buffer.append(results)
        self._num_buffered += results.num_rows
        self._buffered_bytes += results.nbytes
        now_s = time.monotonic()
        interval_s = min(max(MIN_COMMIT_S, COMMIT_SHARE * (now_s - self._started_s)), MAX_COMMIT_S)
        if self._buffered_bytes >= MAX_BUFFERED_BYTES or now_s - self._committed_s >= interval_s:
            self.commit()
        return results.num_rows - failed, failed

    def commit(self) -> None:
        """Publish what was collected."""
        if self._num_buffered:
            rows = pa.concat_tables(self._buffer)
            is_result = pc.is_null(rows["error"])
            has_failures = rows["error"].null_count < rows.num_rows
            if has_failures:
                self._publish(rows.filter(pc.invert(is_result)), FAILURES, failure_schema())
            if self.results is not None:
                self._publish(rows.filter(is_result) if has_failures else rows, self.folder.results, self.results)
            del rows, is_result
        self._buffer, self._num_buffered, self._buffered_bytes = [], 0, 0
        pa.default_memory_pool().release_unused()  # or the next ones come to lie beside what these took
        self._committed_s = time.monotonic()

    def _publish(self, rows: pa.Table, name: str, schema: pa.Schema) -> None:
        if rows.num_rows:
            self.folder.publish(rows.select(schema.names).cast(schema), name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Whatever ended the block, what was finished is worth keeping; but a full disk must not hide why we got here.
        with contextlib.suppress(JobError) if kind else contextlib.nullcontext():
            self.commit()


class PartPublisher:
    """Publishes parts that workers wrote beside the folder (features.writer), each as soon as it is whole. A block's context.

    Results are too large to go through the driver: what comes are rows of schema.written_schema, which name their parts.
    """

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder
        self.num_bytes = 0
        self._failures = ResultWriter(folder, None)

    def add(self, results: pa.Table) -> tuple[int, int]:
        """Take rows of schema.written_schema, all those of a part at once, and return how many are results and failures."""
        is_written = pc.is_null(results["error"])
        written = results.filter(is_written)
        for part in pc.unique(written["part"]).to_pylist():
            self.folder.publish_written(part)
        self.num_bytes += pc.sum(written["num_bytes"]).as_py() or 0
        failed = results.num_rows - written.num_rows
        if failed:
            self._failures.add(results.filter(pc.invert(is_written)))
        return written.num_rows, failed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._failures.__exit__(kind, error, trace)
