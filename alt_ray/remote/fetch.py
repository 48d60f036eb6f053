"""Files of an object store as local ones, fetched once per machine into the cache folder. Knows nothing of what they hold.

Their place there is named after the address and what the store says of each file (name, size, time of change), so what changes is
fetched again. It appears whole: processes that come at once may fetch the same twice, and one of them wins.
"""

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path

from pyarrow import fs as arrow_fs

from alt_ray.errors import SourceError
from alt_ray.remote.cache import cache_folder
from alt_ray.remote.folder import is_remote, patiently
from alt_ray.video.sources import remote_errors, resolve
from alt_ray.video.uris import canonical_uri

COPY_BYTES = 1 << 20


def fetched(uri: str, names: tuple[str, ...] = ()) -> Path:
    """The local path of the file `uri`, or of the folder `uri` with those of its files `names` that are there.

    A local path is returned as it is. Raises SourceError for what is not there or can't be read.
    """
    uri = canonical_uri(uri)
    if not is_remote(uri):
        return Path(uri)
    try:
        location = resolve(uri)
        top = location.path.rstrip("/")
        paths = [f"{top}/{name}" for name in names] or [top]
        infos = patiently(lambda: location.filesystem.get_file_info(paths))
        found = [info for info in infos if info.type == arrow_fs.FileType.File]
        if not found:
            raise FileNotFoundError(f"no {' or '.join(names)} there" if names else "no such file")
        says = "\n".join(f"{info.path} {info.size} {info.mtime_ns}" for info in found)
        place = cache_folder() / "fetched" / hashlib.sha256(f"{uri}\n{says}".encode()).hexdigest()
        if not place.is_dir():
            _fetch(location.filesystem, found, place)
    except remote_errors() as exc:
        raise SourceError(f"{uri} can't be fetched: {exc}") from exc
    return place if names else place / top.rpartition("/")[2]


def _fetch(filesystem: arrow_fs.FileSystem, infos: list[arrow_fs.FileInfo], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".fetching-", dir=place.parent))
    try:
        for info in infos:
            patiently(lambda info=info: _copy(filesystem, info, scratch / info.base_name))  # type: ignore[misc]
        with contextlib.suppress(OSError):  # another process was faster
            scratch.rename(place)
        if not place.is_dir():
            raise OSError(f"{place} can't be written")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy(filesystem: arrow_fs.FileSystem, info: arrow_fs.FileInfo, file: Path) -> None:
    with filesystem.open_input_stream(info.path) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
    if file.stat().st_size != info.size:
        raise ConnectionError(f"{info.path} ended after {file.stat().st_size} of {info.size} bytes")
