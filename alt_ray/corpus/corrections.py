"""Corrections by hand to a built corpus, kept in a file of their own so that building again loses none of them.

One JSON object a line. `entity` names an entity of the build; the rest says what is to change:
    {"entity": "bier", "drop": "never seen on hands"}
    {"entity": "barbell", "description": "a long metal bar with heavy round plates at both ends"}
    {"entity": "mere", "name": "pond", "category": "scene"}
    {"entity": "standing room", "into": "crowd"}        the labels of one go to another
    {"add": "referee", "category": "object", "description": "...", "labels": ["..."]}
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alt_ray.corpus.entities import CATEGORIES, Entity
from alt_ray.corpus.textfile import read_text
from alt_ray.errors import CorpusError

_MAY_CHANGE = {"name", "category", "description", "aliases", "labels", "sense"}


def read_corrections(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the corrections with their line numbers. Raises CorpusError for lines that are none."""
    found, problems = [], []
    for number, line in enumerate(read_text(path, CorpusError).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            _check(entry)
            found.append((number, entry))
        except (ValueError, CorpusError) as exc:
            problems.append(f"line {number}: {exc}")
    if problems:
        raise CorpusError("\n  ".join([f"{path}: {len(problems)} bad lines", *problems[:10]]))
    return found


def corrected(
    entities: Sequence[Entity], corrections: Sequence[tuple[int, dict[str, Any]]]
) -> tuple[list[Entity], list[str]]:
    """Return the corrected entities, sorted by category and name, and what corrections found nothing to correct."""
    by_name = {entity.name: entity for entity in entities}
    unused = []
    for number, entry in corrections:
        if "add" in entry:
            fields = {key: value for key, value in entry.items() if key != "add"}
            by_name[entry["add"]] = Entity(**_typed({"source": "hand-written", **fields, "name": entry["add"]}))
            continue
        entity = by_name.pop(entry["entity"], None)
        if entity is None:
            unused.append(f"line {number}: there is no entity {entry['entity']!r}")
        elif "into" in entry:
            into = by_name.get(entry["into"])
            if into is None:
                by_name[entity.name] = entity
                unused.append(f"line {number}: there is no entity {entry['into']!r} to join {entity.name!r} to")
            else:
                aliases = dict.fromkeys((*into.aliases, entity.name))
                labels = tuple(sorted({*into.labels, *entity.labels}))
                by_name[into.name] = replace(into, labels=labels, aliases=tuple(aliases))
        elif "drop" not in entry:
            changed = replace(entity, **_typed({key: entry[key] for key in _MAY_CHANGE & set(entry)}))
            if changed.sense != entity.sense and "aliases" not in entry:
                changed = replace(changed, aliases=())  # they were those of the wrong sense
            if (changed.name, changed.category, changed.description) != (
                entity.name,
                entity.category,
                entity.description,
            ):
                changed = replace(changed, source=f"{entity.source}, edited".removeprefix(", "))
            by_name[changed.name] = changed
    entities = sorted(by_name.values(), key=lambda entity: (CATEGORIES.index(entity.category), entity.name))
    return list(entities), unused


def _check(entry: Any) -> None:
    if not isinstance(entry, dict) or len({"entity", "add"} & set(entry)) != 1:
        raise CorpusError("expected an object with `entity` (to change one) or `add`")
    allowed = _MAY_CHANGE | ({"add", "source"} if "add" in entry else {"entity", "drop", "into"})
    if unknown := sorted(set(entry) - allowed):
        raise CorpusError(f"unknown {', '.join(unknown)}; expected {', '.join(sorted(allowed))}")
    if "add" in entry:
        Entity(
            **_typed(
                {"category": "", **{key: value for key, value in entry.items() if key != "add"}, "name": entry["add"]}
            )
        )


def _typed(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
