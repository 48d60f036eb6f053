"""The code of this package as one small file that travels with a job, beside the files that the job names. Knows nothing of Ray.

    alt_ray/...              the code, the recipes, the corpora that ship; laid out as in a wheel
    labels.txt, lists/a.csv  files that options name by relative paths, under the same paths

Neither weights nor videos: a cluster's alt_ray has the pocket's weights (bundled.py), unless they are asked for.
"""

import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alt_ray import bundled
from alt_ray.errors import UsageError

MAX_FILES_BYTES = 20 * 2**20  # Ray keeps what travels in the memory of the head; lists and settings are far smaller
_EPOCH = (1980, 1, 1, 0, 0, 0)  # one content, one file: Ray names packages by their digest, and sends each once

# Where folders of the package lie in a checkout (pyproject.toml says the same of wheels), and what of them a job can need.
_BESIDE = {
    "alt_ray/corpus/data": ("corpus", ("entities.jsonl", "pocket.jsonl")),
    "alt_ray/recipes": ("jobs/configs", ("*.yaml",)),
}


def write_job_package(file: Path, named: dict[str, Path], *, with_pocket: bool = False) -> int:
    """Write the zip file and return its size in bytes. `named`: files by their path in the package (files_named).

    The same content gives the same bytes. Raises UsageError where the files are too large to travel.
    """
    sizes = {name: path.stat().st_size for name, path in named.items()}
    if sum(sizes.values()) > MAX_FILES_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise UsageError(
            f"the files that the options name are too large to travel with a job ({largest}: {sizes[largest] / 1e6:.0f} MB); put "
            "them where all machines of the cluster see them, and give an absolute path or an address"
        )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        contents = {name: path.read_bytes() for name, path in {**dict(_package_files(with_pocket)), **named}.items()}
        for name, content in sorted({**contents, f"alt_ray/{bundled.TRAVELLED}": b""}.items()):
            package.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return file.stat().st_size


def files_named(options: Any, folder: Path) -> dict[str, Path]:
    """The files below `folder` that the values of some options (a dataclass, nested) name by relative paths, by these paths."""
    found: dict[str, Path] = {}
    for value in _texts(options):
        if not value or "\n" in value or "://" in value or Path(value).is_absolute():
            continue
        path = folder / value
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            found[Path(value).as_posix()] = path
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _texts(entry)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(getattr(value, field.name))


def _package_files(with_pocket: bool) -> Iterator[tuple[str, Path]]:
    package = Path(__file__).parent
    for path in package.rglob("*"):
        inside = path.relative_to(package)
        is_weights = inside.parts[:2] == ("pocket", "weights")
        if path.is_file() and "__pycache__" not in inside.parts and (with_pocket or not is_weights):
            yield f"alt_ray/{inside.as_posix()}", path
    for name, (folder, patterns) in _BESIDE.items():
        for pattern in patterns:
            for path in (package.parent / folder).glob(pattern):
                yield f"{name}/{path.name}", path
