"""Manifest files as columns of text, in batches. Knows how each format is written, not what its values should be.

With a header (.csv .tsv .txt, also `;`), as .jsonl or as .parquet, the columns are those of COLUMNS, in any order and
case; others are ignored. Without one, each line of a .csv, .tsv or .txt is a path and perhaps a label:

    clips/a b (1).avi 12        Class/v_x.avi,1        "clips/a, b.avi",7        clips/only a path.avi

read from the right, since names hold blanks and commas: what follows the last video extension is the label. A path
without a known extension ends at the last blank or comma.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from alt_ray.errors import DecodeError, SourceError
from alt_ray.video.sources import open_seekable
from alt_ray.video.uris import VIDEO_EXTENSIONS, extension_of, is_utf8, scheme_of, storable

COLUMNS = ("path", "label", "split", "group", "start_s", "end_s", "id")
MANIFEST_EXTENSIONS = ("csv", "tsv", "txt", "jsonl", "parquet")
BATCH_ROWS = 65536

Columns = dict[str, pa.Array]

_EXTENSION = rf"\.(?:{'|'.join(sorted(VIDEO_EXTENSIONS))})"
_QUOTED = re.compile(r'"((?:[^"]|"")+)"(?:[\s,]+(.*))?')
_NO_LABEL = re.compile(rf".+{_EXTENSION}", re.IGNORECASE)
_WITH_LABEL = re.compile(rf"(.+{_EXTENSION})[\s,]+(.*)", re.IGNORECASE)
_TWO_WORDS = re.compile(r"(.*[^\s,])[\s,]+([^\s,]+)")


@dataclass(frozen=True)
class Manifest:
    """One manifest file: `batches` reads its columns, `where` says where a row stands, counted from 0."""

    uri: str
    batches: Callable[[], Iterator[Columns]]
    where: Callable[[int], str]


def open_manifest(uri: str) -> Manifest:
    """Find out how `uri` is written. Raises SourceError, here or from `batches`, naming file and line."""
    extension = extension_of(uri)
    if extension == "parquet":
        return Manifest(uri, lambda: _read_parquet(uri), lambda row: f"{uri}, row {row + 1}")
    header = None if extension == "jsonl" else _find_header(uri)
    if header is not None:
        return Manifest(uri, lambda: _read_csv(uri, header), lambda row: f"{uri}, line {_csv_line(uri, header, row)}")
    read = _read_jsonl if extension == "jsonl" else _read_bare

    def where(row: int) -> str:
        return f"{uri}, line {next(itertools.islice(_lines(uri), row, None))[0]}"

    return Manifest(uri, lambda: read(uri), where)


def _open(uri: str) -> BinaryIO:
    try:
        return open_seekable(uri)
    except DecodeError as exc:
        raise SourceError(f"manifest {exc}") from exc


def _lines(uri: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that aren't blank, with their numbers from 1; bytes that aren't UTF-8 as surrogates."""
    with io.TextIOWrapper(_open(uri), encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _known_columns(names: list[str], where: str) -> dict[str, str]:
    """Map the names of a file to those of COLUMNS. Raises SourceError without a path, or with two of the same."""
    known: dict[str, str] = {}
    for name in names:
        column = name.strip().lower()
        column = "path" if column == "uri" else column
        if column in known.values():
            raise SourceError(f"{where}: two columns mean {column!r} (path and uri are the same): keep one of them")
        if column in COLUMNS:
            known[name] = column
    if "path" not in known.values():
        raise SourceError(
            f"{where}: no column 'path' (or 'uri') among {', '.join(map(repr, names))}; "
            f"a manifest has 'path' and may have {', '.join(COLUMNS[1:])}"
        )
    return known


@dataclass(frozen=True)
class _Header:
    line: int
    delimiter: str
    names: list[str]


def _find_header(uri: str) -> _Header | None:
    """The header of a text manifest, None if its first line is a video already."""
    number, line = next(_lines(uri), (0, ""))
    for delimiter in ",\t;":
        names = next(csv.reader([line[:65536]], delimiter=delimiter), [])
        columns = {name.strip().lower() for name in names}
        if columns & {"path", "uri"}:
            return _Header(number, delimiter, names)
        # `a.avi,label` is a video whose label is "label"; `file,label` is a header that lacks the path.
        if len(names) > 1 and columns & set(COLUMNS) and not any(extension_of(n) in VIDEO_EXTENSIONS for n in names):
            _known_columns(names, f"{uri}, line {number}")
    return None


def _read_csv(uri: str, header: _Header) -> Iterator[Columns]:
    known = _known_columns(header.names, f"{uri}, line {header.line}")
    try:
        with _open(uri) as file:
            reader = arrow_csv.open_csv(
                file,
                read_options=arrow_csv.ReadOptions(block_size=4 << 20, skip_rows=header.line - 1),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=header.delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=lambda row: "error" if row.text.strip() else "skip",
                ),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=list(known), column_types=dict.fromkeys(known, pa.string())
                ),
            )
            for batch in reader:
                yield {known[name]: batch.column(name) for name in batch.schema.names}
    except pa.ArrowInvalid as exc:
        _explain_csv(uri, header)
        raise SourceError(f"{uri} can't be read as a table: {exc}") from exc


def _csv_rows(uri: str, header: _Header) -> Iterator[tuple[int, list[str]]]:
    """The rows again, slowly, with the line on which each ends: only to say where an error is."""
    with io.TextIOWrapper(_open(uri), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=header.delimiter)
        for fields in reader:
            is_blank = not header.delimiter.join(fields).strip()
            if reader.line_num > header.line and fields and not (is_blank and len(fields) != len(header.names)):
                yield reader.line_num, fields


def _csv_line(uri: str, header: _Header, row: int) -> int:
    return next(itertools.islice(_csv_rows(uri, header), row, None))[0]


def _explain_csv(uri: str, header: _Header) -> None:
    for line, fields in _csv_rows(uri, header):
        if len(fields) != len(header.names):
            raise SourceError(
                f"{uri}, line {line}: {len(fields)} fields, but the header has {len(header.names)} "
                f"({header.delimiter.join(header.names)}); put quotes around a value that holds {header.delimiter!r}"
            )
        if not all(map(is_utf8, fields)):
            raise SourceError(f"{uri}, line {line}: not UTF-8: {fields}; write such names as file:// with %XX escapes")


def _read_jsonl(uri: str) -> Iterator[Columns]:
    known: dict[tuple[str, ...], dict[str, str]] = {}  # by the fields of an object: most have the same
    lines = _lines(uri)
    while block := list(itertools.islice(lines, BATCH_ROWS)):
        columns: dict[str, list[str | None]] = {}  # those that some record has
        for row, (number, line) in enumerate(block):
            where = f"{uri}, line {number}"
            try:
                record = json.loads(line)
            except ValueError as exc:
                raise SourceError(f"{where}: not JSON ({exc}): {line[:200]}") from exc
            if not isinstance(record, dict):
                raise SourceError(f'{where}: {line[:200]} is not an object such as {{"path": "a.mp4", "label": "run"}}')
            fields = tuple(record)
            if fields not in known:
                known[fields] = _known_columns(list(fields), where)
            for name, column in known[fields].items():
                value = record[name]
                if isinstance(value, bool | list | dict):
                    raise SourceError(f"{where}: {name} is {json.dumps(value)}; expected text, a number or null")
                values = columns.setdefault(column, [None] * len(block))
                values[row] = value if value is None else str(value)
        yield _as_arrow(columns, uri, block)


def _read_bare(uri: str) -> Iterator[Columns]:
    lines = _lines(uri)
    while block := list(itertools.islice(lines, BATCH_ROWS)):
        paths, labels = zip(*(parse_bare(line) for _, line in block), strict=True)
        found = {"path": list(paths), "label": list(labels)}
        yield _as_arrow(found if any(labels) else {"path": found["path"]}, uri, block)


def parse_bare(line: str) -> tuple[str, str | None]:
    """Split one line without a header into path and label; None where the line is a path alone."""
    line = line.rstrip()
    if _NO_LABEL.fullmatch(line):
        return line, None
    match = _WITH_LABEL.fullmatch(line)
    # `"a" b.avi 1` is a name that starts with a quote: quotes are taken off only where they end a video's name, too.
    quoted = _QUOTED.fullmatch(line)
    if quoted and (_NO_LABEL.fullmatch(quoted[1]) or not match):
        return quoted[1].replace('""', '"'), _unquoted(quoted[2])
    if match := match or _TWO_WORDS.fullmatch(line):
        return match[1], _unquoted(match[2])
    return line, None


def _unquoted(label: str | None) -> str | None:
    if label and len(label) > 1 and label[0] == label[-1] == '"':
        label = label[1:-1].replace('""', '"')
    return label or None


def _as_arrow(columns: dict[str, list[str | None]], uri: str, block: list[tuple[int, str]]) -> Columns:
    try:
        return {name: pa.array(values, pa.string()) for name, values in columns.items()}
    except UnicodeEncodeError:
        return {name: pa.array(_encodable(name, values, uri, block), pa.string()) for name, values in columns.items()}


def _encodable(name: str, values: list[str | None], uri: str, block: list[tuple[int, str]]) -> list[str | None]:
    """Names of local files need not be UTF-8, everything else must."""
    for row, value in enumerate(values):
        if value is not None and not is_utf8(value):
            try:
                values[row] = (
                    storable(value) if name == "path" and scheme_of(value) is None else value.encode().decode()
                )
            except UnicodeEncodeError:
                raise SourceError(f"{uri}, line {block[row][0]}: {name} {value!r} is not UTF-8") from None
    return values


def _read_parquet(uri: str) -> Iterator[Columns]:
    with _open(uri) as file:
        try:
            table = parquet.ParquetFile(file)
            known = _known_columns(table.schema_arrow.names, uri)
            for batch in table.iter_batches(BATCH_ROWS, columns=list(known)):
                yield {known[name]: batch.column(name) for name in batch.schema.names}
        except (pa.ArrowException, OSError) as exc:
            raise SourceError(f"{uri} can't be read as Parquet: {exc}") from exc
