"""Read a corpus from a file of one of three formats, and name every bad line by its number."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alt_ray.corpus.entities import Corpus, Entity
from alt_ray.corpus.textfile import read_text
from alt_ray.errors import CorpusError

# A file of the wrong kind has a problem on every line; the first few say all there is to say.
_MAX_PROBLEMS_SHOWN = 10
_LISTS = ("aliases", "labels")


def load_corpus(path: str | Path | None = None, templates: Mapping[str, str] | None = None) -> Corpus:
    """Read a corpus: None or "default" for the shipped one, else a local file in one of three formats.

    .jsonl  one object a line: name, category, and optionally description, aliases and labels (lists), sense, source
    .csv    a header with name and category, and optionally description, aliases and labels (separated by ";"), sense, source
    .txt    one name a line, each an entity of category "object" without a description (also without any ending)

    Blank lines are skipped, other fields are ignored. Raises CorpusError for a file that can't be read, an empty one,
    and for bad lines: all of them in one message, by number.
    """
    name = "default" if path is None else str(path)
    file = default_corpus_path() if name == "default" else Path(name)
    read_lines = _READERS.get(file.suffix.lower())
    if read_lines is None:
        raise CorpusError(f"{file}: unknown kind of corpus {file.suffix!r}; expected .jsonl, .csv or .txt")

    entities: list[Entity] = []
    problems: list[str] = []
    line_of_name: dict[str, int] = {}
    for line, fields in read_lines(read_text(file, CorpusError)):
        try:
            if isinstance(fields, CorpusError):
                raise fields
            entity = _entity(fields)
            first = line_of_name.setdefault(entity.name.casefold(), line)
            if first != line:
                raise CorpusError(f"the name {entity.name!r} is already used in line {first}; names are unique")
        except CorpusError as exc:
            problems.append(f"line {line}: {exc}")
        else:
            entities.append(entity)
    if problems:
        raise CorpusError(_listing(file, problems))
    return Corpus(tuple(entities), name, dict(templates or {}))


def default_corpus_path() -> Path:
    """Return the path of the shipped corpus. Raises CorpusError if this installation lacks it."""
    candidates = (
        Path(__file__).parent / "data" / "entities.jsonl",  # an installed wheel
        Path(__file__).parents[2] / "corpus" / "entities.jsonl",  # a checkout, also as the working_dir of a Ray job
    )
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise CorpusError(f"the shipped corpus is missing; expected it at {' or '.join(map(str, candidates))}")


# A line number and what stands there: the fields of an entity, or why they can't be read.
_Lines = Iterator[tuple[int, Mapping[str, Any] | CorpusError]]


def _jsonl_lines(text: str) -> _Lines:
    # Not splitlines(): it also splits at characters such as U+2028, which JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as exc:
            # json counts lines within this one line, which would read as a second, wrong line number.
            reason = str(exc).replace("line 1 column", "column")
            yield number, CorpusError(f"not JSON ({reason}); expected one object a line")
            continue
        yield number, fields if isinstance(fields, dict) else CorpusError(f"{fields!r} is not a JSON object")


def _csv_lines(text: str) -> _Lines:
    reader = csv.reader(io.StringIO(text), strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1  # where the row starts: a quoted cell may run over several lines
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as exc:
            yield number, CorpusError(f"not CSV ({exc})")
            return
        if not any(cells):
            continue
        if not header:
            header = [cell.lower() for cell in cells]
            if not {"name", "category"} <= set(header):
                expected = "name,category[,description,aliases,labels,sense,source]"
                yield number, CorpusError(f"the header is {','.join(cells)!r}; expected {expected}")
                return
        elif len(cells) > len(header):
            yield number, CorpusError(f"{len(cells)} cells for {len(header)} columns; quote a cell that holds a comma")
        else:
            row = dict(zip(header, cells, strict=False))
            lists = {name: [entry for entry in row.get(name, "").split(";") if entry.strip()] for name in _LISTS}
            yield number, {**row, **lists}


def _plain_lines(text: str) -> _Lines:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {"name": line, "category": "object"}


_READERS: dict[str, Callable[[str], _Lines]] = {
    ".jsonl": _jsonl_lines,
    ".csv": _csv_lines,
    ".txt": _plain_lines,
    "": _plain_lines,
}


def _entity(fields: Mapping[str, Any]) -> Entity:
    """Make an entity of the fields of one line; null counts as absent, and Entity judges whatever has a wrong type."""
    given = {key: _stripped(value) for key, value in fields.items() if value is not None}
    lists = {name: given.get(name, []) for name in _LISTS}
    return Entity(
        name=given.get("name", ""),
        category=given.get("category", ""),
        description=given.get("description", ""),
        source=given.get("source", ""),
        sense=given.get("sense", ""),
        **{name: tuple(map(_stripped, value)) if isinstance(value, list) else value for name, value in lists.items()},
    )


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _listing(file: Path, problems: list[str]) -> str:
    shown = problems[:_MAX_PROBLEMS_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    count = "1 bad line" if len(problems) == 1 else f"{len(problems)} bad lines"
    return "\n  ".join([f"{file}: {count}", *shown])
