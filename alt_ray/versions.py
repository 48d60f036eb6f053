"""Which version wrote a thing on disk, and whether this one reads it: what writers stamp, what readers check. Knows no format.

Everything that is written says `format_version`, which rises with every change that an older reader would misread, and
`alt_ray_version`, the version that wrote it. So a reader that is too old can name one that is new enough.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import alt_ray
from alt_ray.errors import AltRayError, UsageError

FORMAT, WRITER = "format_version", "alt_ray_version"
# Names in the metadata of Parquet files; those of safetensors files are FORMAT and WRITER.
FORMAT_KEY, WRITER_KEY = b"alt_ray_format_version", b"alt_ray_version"


def stamp(format_version: int) -> dict[str, Any]:
    """What a JSON object begins with."""
    return {FORMAT: format_version, WRITER: alt_ray.__version__}


def unstamped(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record that was read, without its stamp."""
    return {name: value for name, value in record.items() if name not in (FORMAT, WRITER)}


def read_stamped(file: Path, readable: int, *, missing: int | None = None) -> dict[str, Any]:
    """Return the JSON object in a file, without its stamp. Raises UsageError as check_format does, and OSError, ValueError."""
    record = json.loads(file.read_text(encoding="utf-8"))
    check_format(record, readable, file, missing=missing)
    return unstamped(record)


def text_stamp(format_version: int) -> dict[str, str]:
    """The same for the metadata of a safetensors file."""
    return {name: str(value) for name, value in stamp(format_version).items()}


def byte_stamp(format_version: int) -> dict[bytes, bytes]:
    """The same for the metadata of a Parquet file."""
    return {FORMAT_KEY: str(format_version).encode(), WRITER_KEY: alt_ray.__version__.encode()}


def check_format(
    record: Mapping[str, Any],
    readable: int,
    where: object,
    *,
    error: type[AltRayError] = UsageError,
    missing: int | None = None,
) -> None:
    """Raise `error` unless `record`, read from `where`, is of a format up to `readable`.

    missing: the format of what says none, where earlier versions wrote no stamp; None: it is refused.
    """
    check_version(record.get(FORMAT, missing), record.get(WRITER), readable, where, error=error)


def check_metadata(
    metadata: Mapping[bytes, bytes] | None, readable: int, where: object, *, error: type[AltRayError] = UsageError
) -> None:
    """The same for the metadata of a Parquet file; one without a stamp is none of ours, and refused."""
    found = metadata or {}
    number, writer = found.get(FORMAT_KEY, b"").decode(), found.get(WRITER_KEY, b"").decode()
    check_version(int(number) if number.isdigit() else None, writer or None, readable, where, error=error)


def check_version(
    found: object, writer: object, readable: int, where: object, *, error: type[AltRayError] = UsageError
) -> None:
    """The same for a format `found`, which the version `writer` of alt_ray wrote, if it says so."""
    if isinstance(found, bool) or not isinstance(found, int):
        raise error(f"{where} has format_version {found}: alt_ray did not write it, or it is damaged")
    if found <= readable:
        return
    written = f", written by alt_ray {writer}" if writer else ""
    newer = f"alt_ray {writer} or newer" if writer else "a newer alt_ray"
    raise error(
        f"{where} is of format {found}{written}; this is alt_ray {alt_ray.__version__}, which reads up to format {readable}: "
        f"install {newer}"
    )


def version_line() -> str:
    """One line with what a report of a bug needs: versions, and where the code is."""
    found = [f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    for name in ("ray", "torch", "open_clip_torch", "av"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return f"alt-ray {alt_ray.__version__} in {Path(__file__).parent} ({', '.join(found)})"
