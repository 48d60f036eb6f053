"""Read the list of labels that a user gives as `--labels FILE|a,b,c`. Knows nothing of templates or of videos.

A file holds one name a line, or an id and a name a line ("0,abseiling", "1 ApplyEyeMakeup", with or without a header
such as id,name). Names are kept as written; splitting CamelCase into words is the template's business.
"""

import csv
import os
import re
from collections import Counter
from pathlib import Path

from alt_ray.corpus.textfile import read_text
from alt_ray.errors import UsageError

_ID_HEADERS = {"id", "index", "class_id", "label_id"}
_NAME_HEADERS = {"name", "label", "class", "class_name", "label_name"}
_ID = re.compile(r"[0-9]{1,9}")
_ID_THEN_COMMA = re.compile(r"[0-9]{1,9}\s*,")
_ACCEPTED = "expected one name a line, or an id and a name a line (id,name), ids counting up from 0 or 1"

# A line of a label file: its number, and its cells.
_Row = tuple[int, list[str]]


def read_labels(spec: str) -> tuple[str, ...]:
    """Return the C >= 2 label names in label order, from a file or a comma-separated list (quotes protect a comma).

    In a list of ids and names the label order is the order of the ids. Raises UsageError for a file that is missing or
    can't be read, ids with gaps or repeats, a repeated name (whatever the case), and fewer than two names.
    """
    # Path.is_file() raises where a list of labels is too long for a file name; os.path.isfile() says no.
    if os.path.isfile(spec):  # noqa: PTH113
        labels = _file_labels(Path(spec))
        where = spec
    elif "/" in spec or spec.lower().endswith((".txt", ".csv")):
        raise UsageError(f"--labels {spec}: no such file; expected a label file or a list such as run,walk,jump")
    else:
        labels = [cell for cell in _cells(spec, "--labels") if cell]
        where = "--labels"

    counts = Counter(label.casefold() for label in labels)
    repeated = dict.fromkeys(label for label in labels if counts[label.casefold()] > 1)
    if repeated:
        # Text encoders ignore case, so names that differ only in case could never be told apart.
        raise UsageError(f"{where}: labels are repeated: {', '.join(map(repr, repeated))}; every name must be unique")
    if len(labels) == 1:
        raise UsageError(f"{where}: the only label is {labels[0]!r}, which would always be right; give at least two")
    if not labels:
        raise UsageError(f"{where}: no labels; give at least two, as a file or a list such as run,walk,jump")
    return tuple(labels)


def _file_labels(path: Path) -> list[str]:
    text = read_text(path, UsageError)
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    header = [word.lower() for word in re.split(r"\s*,\s*|\s+", lines[0][1])] if lines else []
    has_ids = len(header) == 2 and header[0] in _ID_HEADERS and header[1] in _NAME_HEADERS
    is_csv = path.suffix.lower() == ".csv"
    # Only a .csv has a header over a single column: in a text file, "class" may be a name like any other.
    has_header = has_ids or (is_csv and len(header) == 1 and header[0] in _NAME_HEADERS)
    body = lines[has_header:]

    by_comma = (has_ids and "," in lines[0][1]) or all(_ID_THEN_COMMA.match(line) for _, line in body)
    if is_csv or by_comma:
        rows = [(number, _cells(line, f"{path}, line {number}")) for number, line in body]
        by_comma = by_comma or any(len(cells) > 1 for _, cells in rows)
    else:
        rows = [(number, [line]) for number, line in body]
    if by_comma:
        return _in_id_order(path, rows)

    # Without a header or a comma, "100 metres" may be a name: it is an id only if all lines together make a range.
    spaced = [(number, cells[0].split(maxsplit=1)) for number, cells in rows]
    if has_ids or _are_ids(spaced):
        return _in_id_order(path, spaced)
    return [cells[0] for _, cells in rows if cells[0]]


def _in_id_order(path: Path, rows: list[_Row]) -> list[str]:
    """Return the names of rows of (id, name) by rising id. Raises UsageError for a bad row, a repeated id or a gap."""
    name_of: dict[int, str] = {}
    for number, cells in rows:
        if len(cells) != 2 or not _ID.fullmatch(cells[0]) or not cells[1]:
            raise UsageError(f"{path}, line {number}: {','.join(cells)!r} is not an id and a name; {_ACCEPTED}")
        label_id, name = int(cells[0]), cells[1]
        if label_id in name_of:
            raise UsageError(f"{path}, line {number}: id {label_id} of {name!r} is taken by {name_of[label_id]!r}")
        name_of[label_id] = name
    if not _is_range(set(name_of)):
        first = 0 if 0 in name_of else 1
        missing = next(expected for expected in range(first, first + len(name_of)) if expected not in name_of)
        raise UsageError(f"{path}: id {missing} is missing; {_ACCEPTED}")
    return [name_of[label_id] for label_id in sorted(name_of)]


def _are_ids(rows: list[_Row]) -> bool:
    ids = {int(cells[0]) for _, cells in rows if len(cells) == 2 and _ID.fullmatch(cells[0])}
    return len(ids) == len(rows) and _is_range(ids)


def _is_range(ids: set[int]) -> bool:
    return not ids or (min(ids) in (0, 1) and max(ids) - min(ids) + 1 == len(ids))


def _cells(line: str, where: str) -> list[str]:
    try:
        cells = next(csv.reader([line], skipinitialspace=True, strict=True), [])
    except csv.Error as exc:
        raise UsageError(f"{where}: {line!r} is not one comma-separated line; close the quotes of a name") from exc
    return [cell.strip() for cell in cells]
