"""The entity corpus: named things with a description of how they look, read from a file and checked.

Knows nothing of embeddings: it hands out texts and a digest, and what they become is up to the text encoder.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alt_ray.corpus.textfile import read_text
from alt_ray.errors import CorpusError

CATEGORIES = ("body_part", "object", "scene", "motion")

# A file of the wrong kind has a problem on every line; the first few say all there is to say.
_MAX_PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Entity:
    """One thing that a region of a frame can show. Raises CorpusError for a field that can't be used.

    `name` is not empty, `category` is one of CATEGORIES, `description` is one sentence or empty. `aliases` (other
    names) and `source` (where it comes from) are for people and tools: they never reach the model.
    """

    name: str
    category: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "description", "source"):
            value = getattr(self, field)
            if not isinstance(value, str):
                raise CorpusError(f"{field} {value!r} is not a text")
        if not self.name.strip():
            raise CorpusError("the name is missing")
        if self.category not in CATEGORIES:
            raise CorpusError(f"unknown category {self.category!r} of {self.name!r}; expected {', '.join(CATEGORIES)}")
        if not isinstance(self.aliases, tuple) or not all(isinstance(alias, str) for alias in self.aliases):
            raise CorpusError(f"aliases {self.aliases!r} of {self.name!r} are not a list of texts")


def entity_text(entity: Entity) -> str:
    """Return the text that is embedded for an entity: "name, description", or the name alone if it has none.

    Source: ALT (arXiv 2311.15619), where an entity is a name and a description.
    """
    return f"{entity.name}, {entity.description}" if entity.description else entity.name


@dataclass(frozen=True)
class Corpus:
    """K >= 1 entities in a fixed order. `name` is "default" or a path: it is for messages only.

    Raises CorpusError if it is empty or an entity's name is used twice, whatever the case.
    """

    entities: tuple[Entity, ...]
    name: str

    def __post_init__(self) -> None:
        if not self.entities:
            raise CorpusError(f"{self.name}: the corpus is empty; expected at least one entity")
        seen: set[str] = set()
        for entity in self.entities:
            if entity.name.casefold() in seen:
                raise CorpusError(f"{self.name}: the name {entity.name!r} is used twice; names are unique")
            seen.add(entity.name.casefold())

    def __len__(self) -> int:
        return len(self.entities)

    @cached_property
    def digest(self) -> str:
        """The "sha256:..." of names, categories and descriptions in order: equal digests, equal embeddings."""
        content = [[entity.name, entity.category, entity.description] for entity in self.entities]
        return "sha256:" + hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def texts(self) -> list[str]:
        """Return the K texts to embed, in order."""
        return [entity_text(entity) for entity in self.entities]

    def by_category(self) -> dict[str, tuple[Entity, ...]]:
        """Return the entities of each of CATEGORIES, in that order; a category may have none."""
        return {
            category: tuple(entity for entity in self.entities if entity.category == category)
            for category in CATEGORIES
        }


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Read a corpus: None or "default" for the shipped one, else a local file in one of three formats.

    .jsonl  one object a line: name, category, and optionally description, aliases (a list), source
    .csv    a header with name and category, and optionally description, aliases (separated by ";"), source
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
    return Corpus(tuple(entities), name)


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
                expected = "name,category[,description,aliases,source]"
                yield number, CorpusError(f"the header is {','.join(cells)!r}; expected {expected}")
                return
        elif len(cells) > len(header):
            yield number, CorpusError(f"{len(cells)} cells for {len(header)} columns; quote a cell that holds a comma")
        else:
            row = dict(zip(header, cells, strict=False))
            yield number, {**row, "aliases": [alias for alias in row.get("aliases", "").split(";") if alias.strip()]}


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
    aliases = given.get("aliases", [])
    return Entity(
        name=given.get("name", ""),
        category=given.get("category", ""),
        description=given.get("description", ""),
        aliases=tuple(map(_stripped, aliases)) if isinstance(aliases, list) else aliases,
        source=given.get("source", ""),
    )


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


def _listing(file: Path, problems: list[str]) -> str:
    shown = problems[:_MAX_PROBLEMS_SHOWN]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    count = "1 bad line" if len(problems) == 1 else f"{len(problems)} bad lines"
    return "\n  ".join([f"{file}: {count}", *shown])
