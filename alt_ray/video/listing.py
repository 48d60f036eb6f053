"""The videos of a folder or a glob, in one fixed order. Knows names only: no file is opened, no manifest is read.

A folder is the glob `**` below it. In a glob, `*`, `?` and `[...]` match within one name, a component `**` matches any
number of folders, and only files are matched. Each folder is walked once however many links lead to it: links to
folders wait until every real folder has been walked. Names that start with a dot are hidden: such files are counted
among the others, such folders are not entered.
"""

import fnmatch
import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs as arrow_fs

from alt_ray.errors import SourceError
from alt_ray.video.sources import kind_of, remote_errors, resolve
from alt_ray.video.uris import (
    VIDEO_EXTENSIONS,
    canonical_uri,
    extension_of,
    local_path,
    scheme_of,
    split_options,
    storable,
)

_States = frozenset[int]


def is_glob(uri: str) -> bool:
    """Whether `uri` has a glob character. `?` is none on the web, where it starts the query."""
    _, _, path = _split(uri)
    return re.search(r"[*\[]" if scheme_of(uri) in ("http", "https") else r"[*?\[]", path) is not None


def list_videos(uri: str, other_files: Counter[str]) -> Iterator[str]:
    """Yield the canonical uris of the videos in a folder (recursively) or of a glob; what exists literally is no glob.

    Sorted by path, but for linked folders, which come last. Files that are not inputs are counted in `other_files` by
    extension, "(none)" without one, as the iteration goes; only the names of one local folder are held at a time. A
    dangling link with a video's name is yielded: it fails when it is opened, which is better than silence.
    Raises SourceError if a folder can't be listed.
    """
    try:
        uri = canonical_uri(uri)
        base, glob = (uri, _Glob("**")) if kind_of(uri) == "folder" else _split_glob(uri)
        path = local_path(base)
        for found in _walk_remote(base, glob) if path is None else _walk_local(path, glob):
            name, extension = split_options(found)[0].rpartition("/")[2], extension_of(found)
            if extension in VIDEO_EXTENSIONS and not name.startswith("."):
                yield found if path is None else storable(found)
            else:
                other_files[extension.encode(errors="replace").decode() or "(none)"] += 1
    except remote_errors() as exc:
        raise SourceError(f"{uri} can't be listed: {exc}; name what can be read by a glob or a manifest") from exc


class _Glob:
    """A pattern that is matched one name at a time, so that folders in which nothing can match are not entered.

    A state is the number of components that were matched; a walk holds the set of all that are possible.
    """

    def __init__(self, pattern: str) -> None:
        components = [component for component in pattern.split("/") if component]
        self._names = [None if name == "**" else re.compile(fnmatch.translate(name)) for name in components]
        self.is_flat = len(components) == 1 and components != ["**"]
        self.start = self._close({0})

    def _close(self, states: set[int]) -> _States:
        for state in sorted(states):
            while state < len(self._names) and self._names[state] is None:  # `**` may stand for no folder at all
                state += 1
                states.add(state)
        return frozenset(states)

    def advance(self, states: _States, name: str) -> _States:
        following = set()
        for state in states - {len(self._names)}:
            pattern = self._names[state]
            if pattern is None:
                following.add(state)
            elif pattern.match(name):
                following.add(state + 1)
        return self._close(following)

    def matches(self, states: _States, name: str) -> bool:
        return len(self._names) in self.advance(states, name)


def _split(uri: str) -> tuple[str, str, str]:
    """Scheme with host or bucket, slash, path (without options); for a local path the first is empty."""
    local = local_path(uri)
    if local is not None:
        return "", "", local
    head, _, rest = split_options(uri)[0].partition("://")
    authority, slash, path = rest.partition("/")
    return f"{head}://{authority}", slash, path


def _split_glob(uri: str) -> tuple[str, _Glob]:
    """The folder before the first component with a glob character, and the pattern below it."""
    head, slash, path = _split(uri)
    components = path.split("/")
    num_plain = next((i for i, name in enumerate(components) if re.search(r"[*?\[]", name)), len(components) - 1)
    base = head + slash + "/".join(components[:num_plain])
    return canonical_uri(base or "/") + split_options(uri)[1], _Glob("/".join(components[num_plain:]))


def _walk_local(base: str, glob: _Glob) -> Iterator[str]:
    """Yield every file below `base` that the glob matches."""
    links = deque([(base, glob.start)])
    walked: set[tuple[int, int, _States]] = set()
    while links:
        # A stack of open folders, not recursion: trees may be deeper than Python's stack.
        stack = [_names_in(*links.popleft(), glob, walked, links)]
        while stack:
            folder, states, names = stack[-1]
            for name in names:
                if name.endswith("/"):
                    below = glob.advance(states, name[:-1])
                    if below:
                        stack.append(_names_in(f"{folder}{name}", below, glob, walked, links))
                        break
                elif glob.matches(states, name):
                    yield folder + name
            else:
                stack.pop()


def _names_in(
    folder: str, states: _States, glob: _Glob, walked: set[tuple[int, int, _States]], links: deque[tuple[str, _States]]
) -> tuple[str, _States, Iterator[str]]:
    """The sorted names in one folder, "/" after those of folders; links to folders go to `links`."""
    folder = folder.rstrip("/") + "/"
    names: list[str] = []
    linked: list[str] = []
    try:
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino, states) in walked:
            return folder, states, iter(())
        walked.add((status.st_dev, status.st_ino, states))
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_folder(entry):
                    names.append(entry.name)
                elif not entry.name.startswith("."):
                    # With the slash, the order of a walk is the order of whole paths: `a b`, `a/c`, `a0`.
                    (linked if entry.is_symlink() else names).append(entry.name + "/")
    except (FileNotFoundError, NotADirectoryError):
        pass  # below a file there are no videos, nor in a folder that was removed since it was seen
    links.extend((folder + name, below) for name in sorted(linked) if (below := glob.advance(states, name[:-1])))
    return folder, states, iter(sorted(names))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _walk_remote(base: str, glob: _Glob) -> Iterator[str]:
    """Yield every file below `base` that the glob matches; one listing, which object stores answer in bulk."""
    location = resolve(base)
    top = location.path.rstrip("/")
    selector = arrow_fs.FileSelector(top, allow_not_found=True, recursive=not glob.is_flat)
    try:
        infos = location.filesystem.get_file_info(selector)
    except NotADirectoryError:
        return
    for path in sorted(info.path for info in infos if info.type != arrow_fs.FileType.Directory):
        *folders, name = path[len(top) :].strip("/").split("/")
        states = glob.start
        for folder in folders:
            states = glob.advance(states, folder) if not folder.startswith(".") else frozenset()
        if glob.matches(states, name):
            yield location.uri_of(path)
