"""Where results go: Parquet parts that appear whole or not at all, and the record of a run. Knows nothing of Ray or of models.

Rows are published by one process alone: written to a temporary name and renamed, or, on an object store, written under their own
name at once, since an object appears whole. Parts that workers wrote are renamed (there: by a copy on the server). What is
published is done; what is not has never been. So whatever is killed when, a second run finds each input either finished or not
begun.
"""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from alt_ray.errors import JobError, UsageError
from alt_ray.features.layout import flat
from alt_ray.remote.folder import RemoteFolder, is_remote, may_pass, patiently
from alt_ray.remote.lease import LEASE_PREFIX, Lease
from alt_ray.schema import FORMAT_VERSION, failure_schema
from alt_ray.tables import each_part, is_in, wide_column
from alt_ray.versions import check_format, check_metadata, stamp
from alt_ray.video.sources import remote_errors, resolve
from alt_ray.video.uris import canonical_uri, local_path

LABELS, REGIONS, FAILURES = "labels", "regions", "failures"
RUN_FILE, TEMPORARY, LOCK_FILE = "run.json", "_temporary", "lock"


class OutputFolder:
    """A folder of results, local or on an object store. Raises UsageError if it can't be used.

    `results` names what is in it beside failures: LABELS or REGIONS.
    """

    def __init__(self, uri: str, results: str = LABELS) -> None:
        self.uri = canonical_uri(uri)
        self.results = results
        self._remote: RemoteFolder | None = None
        if is_remote(self.uri):
            self._remote = RemoteFolder(self.uri)
            self.filesystem, self.path = self._remote.filesystem, self._remote.path
            if not self._remote.is_object_store:  # where a folder is no more than how names begin
                for name in (results, FAILURES, TEMPORARY):
                    self.filesystem.create_dir(f"{self.path}/{name}", recursive=True)
            return
        try:
            location = resolve(self.uri)
            self.filesystem = location.filesystem
            self.path = location.path.rstrip("/")
            for name in (results, FAILURES, TEMPORARY):
                self.filesystem.create_dir(f"{self.path}/{name}", recursive=True)
        except remote_errors() as exc:
            raise UsageError(f"--out {uri} can't be used: {exc}") from exc

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other runs out of the folder until the block ends, or this process however it ends, and clear away what a
        killed run left unpublished. A remote folder is free for others soon after that (remote.lease).

        Raises UsageError if another run is in it.
        """
        if self._remote is not None:
            with Lease(self._remote, TEMPORARY).held():
                with self._says_what_failed():
                    self._clean()
                yield
            return
        path = local_path(self.uri)
        import fcntl

        with open(f"{path}/{TEMPORARY}/{LOCK_FILE}", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise UsageError(f"another run is writing to {self.uri}; wait for it, or choose another --out") from exc
            self._clean()
            yield

    def _clean(self) -> None:
        if self._remote is not None:
            for name in self._remote.infos(TEMPORARY):
                if not name.startswith(LEASE_PREFIX):
                    self._remote.remove(f"{TEMPORARY}/{name}")
            return
        for info in self.filesystem.get_file_info(arrow_fs.FileSelector(f"{self.path}/{TEMPORARY}")):
            if info.base_name != LOCK_FILE:
                self.filesystem.delete_file(info.path)

    @contextlib.contextmanager
    def _says_what_failed(self) -> Iterator[None]:
        """Turn an error of the store into a JobError."""
        try:
            yield
        except OSError as exc:
            raise JobError(f"writing to {self.uri} failed: {exc}; run the same command again to go on") from exc

    def parts(self, name: str) -> list[str]:
        """Paths of the published parts of `name`, the folder's `results` or FAILURES."""
        return sorted(info.path for info in self.part_infos(name))

    def part_infos(self, name: str) -> list[arrow_fs.FileInfo]:
        selector = arrow_fs.FileSelector(f"{self.path}/{name}", allow_not_found=True)
        try:
            infos = patiently(lambda: self.filesystem.get_file_info(selector))
        except OSError as exc:
            raise JobError(f"{self.uri}/{name} can't be listed ({exc}); run the same command again to go on") from exc
        return [info for info in infos if info.extension == "parquet"]

    def ids(self, name: str) -> pa.ChunkedArray:
        """The video ids in the published parts of `name`, once for all views. Raises JobError for a part that can't be read."""
        chunks = [chunk for ids in each_part(self._ids_of, self.parts(name), self.filesystem) for chunk in ids.chunks]
        return wide_column(pa.chunked_array(chunks, pa.string()))

    def _ids_of(self, part: str) -> pa.ChunkedArray:
        def read() -> tuple[pa.Table, bool]:
            with pq.ParquetFile(part, filesystem=self.filesystem) as file:
                check_metadata(file.schema_arrow.metadata, FORMAT_VERSION, part)
                has_views = "view" in file.schema_arrow.names
                # Threads would keep memory of their own, of each part.
                return file.read(["video_id", "view"] if has_views else ["video_id"], use_threads=False), has_views

        try:
            table, has_views = patiently(read)
        except (OSError, ValueError) as exc:
            if may_pass(exc):
                raise JobError(f"{part} can't be read now ({exc}); run the same command again to go on") from exc
            raise JobError(f"{part} can't be read ({exc}); delete it, and its videos are done again") from exc
        table = table.filter(pc.equal(table["view"], 0)) if has_views else table
        # Of regions, each row is a chunk: millions of them would be most of the work.
        return table.combine_chunks()["video_id"]

    def published(self, inputs: pa.ChunkedArray) -> "Published":
        """What is published of the inputs with these video ids."""
        results, failures = self.ids(self.results), self.ids(FAILURES)
        failed = pads.dataset(self.parts(FAILURES), schema=failure_schema(), filesystem=self.filesystem)
        errors = patiently(lambda: failed.to_table(columns=["video_id", "error"]))  # messages are most of it
        errors = errors.filter(is_in(errors["video_id"], inputs))["error"]
        everything = pa.chunked_array([*results.chunks, *failures.chunks], pa.large_string())
        return Published(
            is_done=is_in(inputs, everything),
            labelled=pc.sum(is_in(inputs, results)).as_py() or 0,
            failures={row["values"]: row["counts"] for row in pc.value_counts(errors).to_pylist()},
            num_twice=_num_twice(everything),
        )

    def publish(self, table: pa.Table, name: str, file: str | None = None) -> None:
        """Write one part, under a name of its own unless one is given. Readers see all of it or none."""
        file = file or new_part_name()
        with self._says_what_failed():
            if self._remote is not None:
                sink = pa.BufferOutputStream()
                pq.write_table(table, sink, compression="zstd")
                self._remote.write(f"{name}/{file}", sink.getvalue().to_pybytes())
                return
            temporary = f"{self.path}/{TEMPORARY}/{file}"
            pq.write_table(table, temporary, filesystem=self.filesystem, compression="zstd")
            self.filesystem.move(temporary, f"{self.path}/{name}/{file}")

    def publish_written(self, file: str) -> None:
        """Publish a part of results that a worker wrote under the folder's temporary name `file`."""
        with self._says_what_failed():
            if self._remote is not None:
                self._remote.move(f"{TEMPORARY}/{file}", f"{self.results}/{file}")
                return
            self.filesystem.move(f"{self.path}/{TEMPORARY}/{file}", f"{self.path}/{self.results}/{file}")

    def forget_failures(self) -> int:
        """Unpublish every failure, so that those inputs count as not begun, and return their number."""
        number = len(self.ids(FAILURES))
        with self._says_what_failed():
            for part in self.parts(FAILURES):
                if self._remote is not None:
                    self._remote.remove(f"{FAILURES}/{part.rpartition('/')[2]}")
                else:
                    self.filesystem.delete_file(part)
        return number

    def read_run(self) -> dict[str, Any] | None:
        """The record of the last run, None before the first. Raises UsageError for one of a newer version or a broken one."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{RUN_FILE}") as file:
                record = json.loads(file.read())
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise JobError(f"{self.uri}/{RUN_FILE} can't be read ({exc}); run the same command again to go on") from exc
        except ValueError as exc:
            raise UsageError(f"{self.uri}/{RUN_FILE} is not JSON ({exc}); choose another --out") from exc
        check_format(record, FORMAT_VERSION, f"{self.uri}/{RUN_FILE}")
        return record

    def write_run(self, record: dict[str, Any]) -> None:
        data = json.dumps({**stamp(FORMAT_VERSION), **record}, indent=2, ensure_ascii=False).encode()
        if self._remote is not None:
            with self._says_what_failed():
                self._remote.write(RUN_FILE, data)
            return
        temporary = f"{self.path}/{TEMPORARY}/{RUN_FILE}"
        with self.filesystem.open_output_stream(temporary) as file:
            file.write(data)
        self.filesystem.move(temporary, f"{self.path}/{RUN_FILE}")


@dataclass(frozen=True)
class Published:
    """What is published of a run's inputs. `is_done` is a mask over them; `failures` counts by error."""

    is_done: pa.ChunkedArray
    labelled: int
    failures: dict[str, int]
    num_twice: int  # ids in the folder that stand there more than once: never, unless two runs wrote at the same time

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def num_done(self) -> int:
        return self.labelled + self.failed


def _num_twice(ids: pa.ChunkedArray) -> int:
    """How many ids are there again. Hashes tell in nearly every case that none is, in a quarter of the memory of a set of ids."""
    hashes = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), 4096):
        some = ids.slice(start, 4096).to_pylist()
        hashes[start : start + len(some)] = np.fromiter(map(hash, some), np.int64, len(some))
    hashes.sort()
    if not (hashes[1:] == hashes[:-1]).any():
        return 0
    return len(ids) - pc.count_distinct(ids).as_py()


def new_part_name() -> str:
    return f"part-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:12]}.parquet"


def refuse_other_settings(recorded: dict[str, Any], settings: dict[str, Any], where: str) -> None:
    """Raise UsageError if a folder holds results of other settings, and say which differ."""
    recorded, settings = flat(recorded), flat(settings)
    names = sorted(set(recorded) | set(settings))
    differences = [
        f"  {name}: {_short(recorded.get(name))} there, {_short(settings.get(name))} now"
        for name in names
        if recorded.get(name) != settings.get(name)
    ]
    if differences:
        raise UsageError(
            f"{where} holds results of other settings; choose another --out, or give the same:\n"
            + "\n".join(differences)
        )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."
