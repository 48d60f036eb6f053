"""The spelling of sources: schemes, local paths, extensions, one canonical form. Knows nothing of what exists.

A *uri* is a plain local path, or `scheme://...`. Only a string with `://` after a scheme is taken apart, so a local
name may hold blanks, `#`, `?`, `%` and anything else. A canonical uri is what stands in tables and behind video ids: an
absolute local path without `.` and `..`, or the remote address as it was written. A local name that is not valid UTF-8,
which no Arrow string can hold, becomes a percent-encoded `file://` address.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import cast
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from alt_ray.errors import SourceError

# Containers that FFmpeg reads and that hold moving pictures as a rule. Sound and still pictures (ogg, mka, webp, jpg)
# are left out on purpose, and so are the stream lists m3u8 and mpd, which are not videos but name some.
VIDEO_EXTENSIONS: frozenset[str] = frozenset(
    {
        *("3g2", "3gp", "f4v", "m4v", "mov", "mp4", "qt"),  # the MP4 family
        *("mkv", "webm"),  # Matroska
        *("amv", "avi", "divx"),  # AVI
        *("asf", "wmv", "wtv"),  # Windows Media
        *("m1v", "m2t", "m2ts", "m2v", "mpe", "mpeg", "mpg", "mpv", "mts", "ps", "ts", "vob"),  # MPEG streams
        *("ogm", "ogv"),  # Ogg
        *("dv", "gif", "mjpeg", "mjpg", "mxf", "nut", "y4m"),  # frames in a row
        *("flv", "rm", "rmvb"),  # Flash, RealMedia
        *("h264", "h265", "hevc", "ivf"),  # bare streams
    }
)

_LOCAL_ADDRESS = r"^(?i:file)://"
# Local paths whose canonical form is more than a folder in front: `~/`, `.`, `..`, `//`, a closing slash.
_UNTIDY = r"^~(/|$)|(^|/)\.{1,2}(/|$)|//|.+/$"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*)://")
# Object stores whose addresses may end in options: s3://bucket/key?endpoint_override=...; any other `?` is part of the key.
_HAS_OPTIONS = re.compile(r"^(?i:s3|gs|gcs|abfs|abfss|hdfs|viewfs)://")
_OPTIONS = re.compile(r"\?\w+=.*$", re.DOTALL)
_SECRET = r"^(?i:s3|s3a|gs|gcs|abfs|abfss)://[^/@]*:[^@]*@"


def scheme_of(uri: str) -> str | None:
    """The lower-case scheme of `scheme://...`, None for a plain local path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else None


def local_path(uri: str) -> str | None:
    """The local path that `uri` names, `~/` expanded, None if it is remote. Bytes that aren't UTF-8 are surrogates.

    `file://a/b` is the relative path a/b: such addresses name no host here, except localhost.
    """
    scheme = scheme_of(uri)
    if scheme == "file":
        return os.fsdecode(unquote_to_bytes(os.fsencode(re.sub("^localhost/", "/", uri[len("file://") :]))))
    if scheme is not None:
        return None
    # Not os.path.expanduser: `~name` is more often a file's name than somebody's home.
    return f"{Path.home()}{uri[1:]}" if uri == "~" or uri.startswith("~/") else uri


def canonical_uri(uri: str, base: str | None = None) -> str:
    """The one spelling of `uri`; a relative path is below `base`, a canonical folder (default: the working folder).

    Symbolic links are kept. Below an http(s) folder a relative path is a file's name, and is percent-encoded. Raises SourceError
    for the address of an object store with a secret key in it: addresses are written into tables, records and tracked runs.
    """
    path = local_path(uri)
    if path is None:
        refuse_secret(uri)
        return uri
    if not path.startswith("/"):
        folder = os.getcwd() if base is None else local_path(base)  # noqa: PTH109 (Path.cwd() is the same, as an object)
        if folder is None:
            return _below_remote(cast(str, base), path)
        path = f"{folder}/{path}"
    # normpath keeps two leading slashes, which POSIX lets mean something else; on Linux they mean one.
    path = "/" + os.path.normpath(path).lstrip("/")
    return storable(path)


def refuse_secret(uri: str) -> None:
    """Raise SourceError for the address of an object store with a secret key in it."""
    if re.match(_SECRET, uri):
        scheme, place = uri.partition("://")[0], uri.rpartition("@")[2]
        raise SourceError(
            f"{scheme}://...@{place} holds a secret key, and addresses are written into results; leave it out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on every machine (docs/object-stores.md)"
        )


def split_options(uri: str) -> tuple[str, str]:
    """The address of something on an object store, and the options after it: "?endpoint_override=...&scheme=http" or ""."""
    options = _OPTIONS.search(uri) if _HAS_OPTIONS.match(uri) else None
    return (uri[: options.start()], options[0]) if options else (uri, "")


def child_uri(folder: str, name: str) -> str:
    """The address of `name`, "a" or "a/b", in the folder of a canonical uri."""
    folder, options = split_options(folder)
    return f"{folder.rstrip('/')}/{name}{options}"


def is_utf8(text: str) -> bool:
    """Whether `text` holds no surrogates, so that it can be stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(path: str) -> str:
    """A local path as a uri that can be stored as UTF-8: itself, or else percent-encoded after `file://`.

    Raises UnicodeEncodeError for a string that is no file's name: its surrogates don't stand for bytes.
    """
    return path if is_utf8(path) else "file://" + quote_from_bytes(os.fsencode(path))


def _below_remote(folder: str, path: str) -> str:
    folder, options = split_options(folder)
    path = posixpath.normpath(path)
    while path.startswith("../"):
        # Not above the bucket or host: scheme://host has two slashes.
        folder = folder.rpartition("/")[0] if folder.count("/") > 2 else folder
        path = path[len("../") :]
    if scheme_of(folder) in ("http", "https"):
        path = quote_from_bytes(os.fsencode(path))
    return f"{folder}/{path}{options}"


def parent_uri(uri: str) -> str:
    """The folder that holds the file `uri`, without a closing slash (but "/" for the root); web queries are dropped, options of
    an object store are kept."""
    if scheme_of(uri) in ("http", "https"):
        uri = re.split(r"[?#]", uri, maxsplit=1)[0]
    uri, options = split_options(uri)
    return (uri.rpartition("/")[0] or "/") + options


def extension_of(uri: str) -> str:
    """The lower-case extension without its dot, "" for none (also for `.mp4`, a hidden file without an extension)."""
    if scheme_of(uri) in ("http", "https"):
        uri = re.split(r"[?#]", uri, maxsplit=1)[0]
    uri, _ = split_options(uri)
    stem, _, extension = uri.rpartition("/")[2].rpartition(".")
    return extension.lower() if stem else ""


def canonical_uris(paths: pa.Array, folder: str) -> pa.Array:
    """canonical_uri of every path: in one go where a folder in front is all that it takes, else one by one."""
    is_address = pc.match_substring_regex(paths, _LOCAL_ADDRESS)
    is_remote = pc.and_not(pc.match_substring_regex(paths, _SCHEME.pattern), is_address)
    for secret in paths.filter(pc.match_substring_regex(paths, _SECRET)).to_pylist():
        refuse_secret(secret)
    is_whole = pc.or_(is_remote, pc.starts_with(paths, "/"))
    uris = pc.if_else(is_whole, paths, pc.binary_join_element_wise(folder.rstrip("/"), paths, "/"))
    is_untidy = pc.or_(is_address, pc.match_substring_regex(paths, _UNTIDY))
    # Below which names are percent-encoded, or stand before something.
    if scheme_of(folder) in ("http", "https", "file") or split_options(folder)[1]:
        is_untidy = pc.or_(is_untidy, pc.invert(is_whole))
    slow = pc.and_not(is_untidy, is_remote)
    if not pc.any(slow).as_py():
        return uris
    one_by_one = [canonical_uri(path, folder) for path in paths.filter(slow).to_pylist()]
    return pc.replace_with_mask(uris, slow, pa.array(one_by_one, pa.string()))
