"""Where sources lie: the file system of a uri, and opening it as a seekable file. Knows nothing of video formats."""

import functools
import io
import socket
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast

from pyarrow import fs as arrow_fs

from alt_ray.errors import DecodeError, DecodeReason
from alt_ray.video.uris import local_path, refuse_secret, scheme_of, split_options

READ_AHEAD_BYTES = 1 << 20
"""Read from a remote file at once: at 100 MB/s as long (10 ms) as the request itself takes at best, so a seek to a
frame wastes little, and a file that is read from end to end needs few requests."""

_ARROW_SCHEMES = frozenset({"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss"})
_T = TypeVar("_T")


@dataclass(frozen=True)
class Location:
    """A file system and a path in it. `uri_of` turns other paths of the same file system into uris."""

    filesystem: arrow_fs.FileSystem
    path: str
    head: str = ""
    num_skipped: int = 0  # characters at the start of each path that `head` already says
    tail: str = ""

    def uri_of(self, path: str) -> str:
        return f"{self.head}{path[self.num_skipped :]}{self.tail}"


@functools.lru_cache(maxsize=256)
def _arrow_root(root: str) -> tuple[arrow_fs.FileSystem, str]:
    # Cached: to make one costs a request for the region of the bucket.
    if root.lower().startswith("s3:"):  # a small object is one request instead of three
        root += ("&" if "?" in root else "?") + "allow_delayed_open=true"
    return cast(tuple[arrow_fs.FileSystem, str], arrow_fs.FileSystem.from_uri(root))


def resolve(uri: str) -> Location:
    """Find the file system of `uri` and the path in it. Keys of object stores are taken as written, never decoded.

    Raises one of `remote_errors()`: unknown scheme, a package that is missing, no access; SourceError for a secret in it.
    """
    path, scheme = local_path(uri), scheme_of(uri)
    if path is not None:
        return Location(arrow_fs.LocalFileSystem(), path)
    if scheme in _ARROW_SCHEMES:
        refuse_secret(uri)
        uri, tail = split_options(uri)
        authority, _, key = uri[len(scheme) + len("://") :].partition("/")
        head = f"{scheme}://{authority}"
        filesystem, top = _arrow_root(f"{head}/{tail}")
        top = top.rstrip("/")
        return Location(filesystem, f"{top}/{key}", head, len(top), tail)

    import fsspec  # kept out of the import of this module: most sources never need it

    filesystem, path = fsspec.core.url_to_fs(uri)
    first, chain, rest = uri.partition("::")  # fsspec's chains: zip://clip.mp4::https://host/archive.zip
    first = first if path.endswith("/") else first.rstrip("/")  # as most of fsspec's file systems write a folder
    head = first.removesuffix(path) if first.endswith(path) else f"{scheme}://"
    return Location(arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(filesystem)), path, head, tail=chain + rest)


def remote_errors() -> tuple[type[Exception], ...]:
    """What opening, listing or reading a source raises. A function: `except remote_errors()` imports only on error."""
    import aiohttp

    # ArrowInvalid is a ValueError; fsspec raises ValueError for an unknown scheme, ImportError for a missing package.
    return OSError, ValueError, ImportError, NotImplementedError, aiohttp.ClientError


def kind_of(uri: str) -> Literal["folder", "file"] | None:
    """What lies at `uri`, None for nothing. Anything that is not a folder is a file. Raises `remote_errors()`."""
    path = local_path(uri)
    if path is not None:
        try:
            return "folder" if stat.S_ISDIR(Path(path).stat().st_mode) else "file"
        except PermissionError:
            raise
        except (OSError, ValueError):  # missing, below a file, too long for a name, or a NUL in it
            return None
    if scheme_of(uri) in ("http", "https") and uri.endswith("/"):
        return "folder"  # the web has no folders, but servers list them under such addresses
    location = resolve(uri)
    found = location.filesystem.get_file_info(location.path.rstrip("/")).type
    if found == arrow_fs.FileType.NotFound:
        return None
    return "folder" if found == arrow_fs.FileType.Directory else "file"


def open_seekable(uri: str) -> BinaryIO:
    """Open `uri` for reading, as a binary file with read, seek, tell and close, whose reads raise OSError alone.

    Raises DecodeError, stage "open": "not_found" for a missing file, bucket or host; "unreadable" for a folder, no
    permission, no connection, or a scheme that nothing here opens.
    """
    try:
        path = local_path(uri)
        return _open_remote(uri) if path is None else open(path, "rb")
    except remote_errors() as exc:
        # fsspec says "not found" of every failed web request: what really happened is the cause of it.
        cause = exc.__cause__ or exc
        message = f"{uri} can't be opened: {str(cause) or type(cause).__name__}"
        raise DecodeError(_reason(exc), message, stage="open") from exc


def _open_remote(uri: str) -> BinaryIO:
    location = resolve(uri)
    filesystem, path = location.filesystem, location.path
    if not isinstance(filesystem, arrow_fs.PyFileSystem):
        file = _RemoteFile(filesystem.open_input_file(path), copy_to=None)
    else:
        opener = filesystem.handler.fs
        raw = opener.open(path, "rb", block_size=READ_AHEAD_BYTES, cache_type="none")  # the buffer below is the cache
        file = _RemoteFile(raw, copy_to=functools.partial(opener.get_file, path))
    return io.BufferedReader(file, READ_AHEAD_BYTES)


def _reason(error: BaseException) -> DecodeReason:
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(cause, "status", None)  # aiohttp.ClientResponseError
        if isinstance(status, int):
            return "not_found" if status in (404, 410) else "unreadable"
        if isinstance(cause, socket.gaierror):
            return "not_found"
        if isinstance(cause, ConnectionError | TimeoutError):
            return "unreadable"
        cause = cause.__cause__ or cause.__context__
    return "not_found" if isinstance(error, FileNotFoundError | NotADirectoryError) else "unreadable"


class _RemoteFile(io.RawIOBase):
    """A remote file of any library as a raw Python file. One that can't seek is copied to a temporary file, once."""

    def __init__(self, file: Any, copy_to: Callable[[Any], None] | None) -> None:
        self._file = file
        self._copy_to = copy_to

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        data = self._try(lambda file: file.read(len(view)))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._try(lambda file: file.read())  # io's own asks for 8 KiB at a time

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._try(lambda file: file.seek(offset, whence))
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _try(self, action: Callable[[Any], _T]) -> _T:
        try:
            try:
                return action(self._file)
            except ValueError:  # what fsspec says of a web server without byte ranges, when it is asked to seek
                if self._copy_to is None:
                    raise
            whole = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this file)
            self._copy_to(whole)
            whole.seek(self.tell())
            self._file.close()
            self._file, self._copy_to = whole, None
            return action(self._file)
        except OSError:
            raise
        except remote_errors() as exc:
            raise OSError(f"{type(exc).__name__}: {exc}") from exc
