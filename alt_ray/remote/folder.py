"""A folder on an object store or another remote file system: whole writes, listing, patience. Knows nothing of what is in it.

An object appears when its upload ends, whole, so on an object store a file is written under its own name at once. Other file
systems (hdfs, fsspec's) show a file while it grows: there it is written beside the folder's files and renamed. What is tried
again after an error of the network can be done twice without harm.
"""

import random
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

from pyarrow import fs as arrow_fs

from alt_ray.errors import UsageError
from alt_ray.video.sources import remote_errors, resolve
from alt_ray.video.uris import canonical_uri, local_path, scheme_of

OBJECT_STORES = frozenset({"s3", "gs", "gcs", "abfs", "abfss"})
# What the store's own client does is over after 6 s where nobody answers (100 s where nobody speaks): less than it takes to
# start a server again.
PATIENCE_S = 60.0
_PASSING = (
    *("NETWORK_CONNECTION", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "INTERNAL_FAILURE", "REQUEST_TIMEOUT", "THROTTLING"),
    *("HTTP status 500", "HTTP status 502", "HTTP status 503", "HTTP status 504"),
)
_Value = TypeVar("_Value")
_given_up_s = [float("-inf")]  # when this process last gave up


def is_remote(uri: str) -> bool:
    """Whether `uri` names something that is not in this machine's own file system."""
    return local_path(uri) is None


def may_pass(error: BaseException) -> bool:
    """Whether an error is the network's or a busy server's, and may be over soon."""
    return isinstance(error, ConnectionError | TimeoutError) or any(mark in str(error) for mark in _PASSING)


def patiently(action: Callable[[], _Value]) -> _Value:
    """Return action(), tried again for PATIENCE_S while it fails by the network. It must be harmless to do twice.

    Once that was in vain, others are tried once only for as long: what ends a job does not wait again at each of its steps.
    """
    begun_s, pause_s = time.monotonic(), 0.5
    while True:
        try:
            return action()
        except OSError as exc:
            now_s = time.monotonic()
            is_over = now_s + pause_s > begun_s + PATIENCE_S
            if not may_pass(exc) or is_over or now_s < _given_up_s[0] + PATIENCE_S:
                _given_up_s[0] = now_s if is_over else _given_up_s[0]
                raise
        time.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, 8.0)


class RemoteFolder:
    """A folder on a file system, made where that takes making. Names in it may have slashes.

    Raises UsageError if it can't be used; the methods raise OSError. `guard` is called before each try to change something, and
    raises where that is not ours to do any more.
    """

    guard: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, uri: str) -> None:
        self.uri = canonical_uri(uri)
        self.is_object_store = scheme_of(self.uri) in OBJECT_STORES
        try:
            location = resolve(self.uri)
            self.filesystem: arrow_fs.FileSystem = location.filesystem
            self.path = location.path.rstrip("/")
            self._make()
        except remote_errors() as exc:
            raise UsageError(f"{uri} can't be used: {exc}") from exc

    def _make(self) -> None:
        if not self.is_object_store:
            self.filesystem.create_dir(self.path, recursive=True)
            return
        bucket = self.path.partition("/")[0]
        found = self.filesystem.get_file_info(bucket)  # at once: a wrong address fails now, not in a minute
        if found.type == arrow_fs.FileType.NotFound:
            raise FileNotFoundError(f"there is no bucket {bucket!r}; make it first")

    def write(self, name: str, data: bytes) -> None:
        """Let `name` hold `data`. Readers see the old content or the new one, never a part."""
        final = f"{self.path}/{name}"
        if self.is_object_store:
            patiently(lambda: self._put(final, data))
            return
        self.guard()
        self.filesystem.create_dir(final.rpartition("/")[0], recursive=True)
        temporary = f"{final}.{uuid.uuid4().hex[:8]}.temporary"
        self._put(temporary, data)
        self.filesystem.move(temporary, final)

    def _put(self, path: str, data: bytes) -> None:
        self.guard()
        # No `with`: after an error it would close the stream, which publishes what was sent so far.
        stream = self.filesystem.open_output_stream(path)
        stream.write(data)
        stream.close()

    def read(self, name: str) -> bytes | None:
        """What `name` holds, None if there is no such file."""

        def action() -> bytes | None:
            try:
                with self.filesystem.open_input_stream(f"{self.path}/{name}") as file:
                    return bytes(file.read())
            except FileNotFoundError:
                return None

        return patiently(action)

    def move(self, source: str, target: str) -> None:
        """Rename within the folder: on an object store a copy by the server, whole when it is seen, and a removal."""

        def action() -> None:
            if num_tries and not self._has(source) and self._has(target):
                return  # the try before had done it, and only its answer was lost
            num_tries.append(1)
            self.guard()
            self.filesystem.move(f"{self.path}/{source}", f"{self.path}/{target}")

        num_tries: list[int] = []
        patiently(action)

    def remove(self, name: str) -> None:
        """Remove a file; nothing happens if there is none."""

        def action() -> None:
            self.guard()
            try:
                self.filesystem.delete_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return

        patiently(action)

    def infos(self, name: str = "", *, recursive: bool = False) -> dict[str, arrow_fs.FileInfo]:
        """The files below the folder, or below one within it, by their names from there."""
        top = f"{self.path}/{name}" if name else self.path
        selector = arrow_fs.FileSelector(top, allow_not_found=True, recursive=recursive)
        found = patiently(lambda: self.filesystem.get_file_info(selector))
        return {info.path[len(top) + 1 :]: info for info in found if info.type == arrow_fs.FileType.File}

    def _has(self, name: str) -> bool:
        return self.filesystem.get_file_info(f"{self.path}/{name}").type == arrow_fs.FileType.File
