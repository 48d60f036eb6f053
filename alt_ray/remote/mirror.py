"""A local copy of a folder on an object store, for code that works on files: fetched once, then sent back file by file.

What is sent becomes visible in an order that a kill may interrupt anywhere: first the data, then the JSON files that say of data
that they are whole, those nearest to the top last; then what is not there any more is removed. Where JSON stands without its
data, or beside data of another digest, a run was interrupted. Names that begin with a dot are scratch and stay where they are.
Knows nothing of what the files hold.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from alt_ray.errors import JobError
from alt_ray.remote.folder import RemoteFolder


class Mirror:
    """Of `remote`, in the local folder `path`, without the folders of the names `left_out`. For one thread at a time."""

    def __init__(self, remote: RemoteFolder, path: Path, left_out: tuple[str, ...] = ()) -> None:
        self.remote, self.path, self.left_out = remote, path, left_out
        self._here: dict[str, tuple[int, int]] = {}  # as it was when it was fetched or sent: time of change, size
        self._there: dict[str, tuple[object, int]] = {}  # the same of what was fetched, as the store says

    def pull(self) -> None:
        """Make the local folder what the remote one is. Raises JobError."""
        with self._says_what_failed("reading from"):
            found = {name: info for name, info in self.remote.infos(recursive=True).items() if self._counts(name)}
            for name, info in found.items():
                mark = (info.mtime_ns, info.size)
                if self._there.get(name) == mark and self._mark(name) == self._here.get(name):
                    continue
                data = self.remote.read(name)
                if data is not None:  # else it was removed just now
                    self._write(name, data)
                    self._there[name] = mark
            for name in self._local_names():
                if name not in found:
                    (self.path / name).unlink()
                    self._forget(name)

    def push(self) -> None:
        """Send what has changed here since it was fetched or sent, and remove there what was removed here. Raises JobError."""
        with self._says_what_failed("writing to"):
            here = self._local_names()
            changed = [name for name in here if self._here.get(name) != self._mark(name)]
            for name in sorted(changed, key=_order):
                mark = self._mark(name)
                assert mark is not None  # nobody else removes files here
                self.remote.write(name, (self.path / name).read_bytes())
                self._here[name] = mark
                self._there.pop(name, None)
            for name in sorted(
                self._here.keys() - set(here), key=_order, reverse=True
            ):  # JSON first: it speaks for the rest
                self.remote.remove(name)
                self._forget(name)

    def _local_names(self) -> list[str]:
        found = [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]
        return [name for name in found if self._counts(name)]

    def _counts(self, name: str) -> bool:
        parts = name.split("/")
        return not any(part.startswith(".") or part in self.left_out for part in parts)

    def _mark(self, name: str) -> tuple[int, int] | None:
        try:
            status = (self.path / name).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size

    def _write(self, name: str, data: bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}")
        temporary.write_bytes(data)
        temporary.replace(file)
        mark = self._mark(name)
        assert mark is not None
        self._here[name] = mark

    def _forget(self, name: str) -> None:
        self._here.pop(name, None)
        self._there.pop(name, None)

    @contextlib.contextmanager
    def _says_what_failed(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise JobError(f"{doing} {self.remote.uri} failed: {exc}; run the same command again to go on") from exc


@contextlib.contextmanager
def working_copy(remote: RemoteFolder, left_out: tuple[str, ...] = ()) -> Iterator[Mirror]:
    """An empty mirror in a temporary folder, which ends with the block."""
    path = Path(tempfile.mkdtemp(prefix="alt_ray_run_"))
    try:
        yield Mirror(remote, path, left_out)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _order(name: str) -> tuple[bool, int, str]:
    return name.endswith(".json"), -name.count("/"), name
