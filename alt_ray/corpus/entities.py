"""The entity corpus: named things with a description of how they look.

Knows nothing of files or embeddings: it hands out texts and a digest, and what they become is up to the text encoder.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from alt_ray.errors import CorpusError

CATEGORIES = ("body_part", "object", "scene", "motion")


@dataclass(frozen=True)
class Entity:
    """One thing that a region of a frame can show. Raises CorpusError for a field that can't be used.

    `name` is not empty, `category` is one of CATEGORIES, `description` is one sentence or empty. The rest is for people and
    tools and never reaches the model: `aliases` (other names), `sense` (WordNet's sense key), `labels` (the actions that it was
    drawn from), `source` (where it comes from).
    """

    name: str
    category: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    source: str = ""
    sense: str = ""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("name", "description", "source", "sense"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise CorpusError(f"{name} {value!r} is not a text")
        if not self.name.strip():
            raise CorpusError("the name is missing")
        if self.category not in CATEGORIES:
            raise CorpusError(f"unknown category {self.category!r} of {self.name!r}; expected {', '.join(CATEGORIES)}")
        for name in ("aliases", "labels"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
                raise CorpusError(f"{name} {value!r} of {self.name!r} are not a list of texts")


def entity_text(entity: Entity, template: str = "{}") -> str:
    """Return the text that is embedded for an entity: "name, description", or the name alone if it has none.

    `template` goes around the name. Source: ALT (arXiv 2311.15619), where an entity is a name and a description.
    """
    name = template.replace("{}", entity.name)
    return f"{name}, {entity.description}" if entity.description else name


def read_templates(given: Sequence[str]) -> dict[str, str]:
    """Return {category: template} of texts such as "object=a photo of a {}". Raises CorpusError for any other."""
    found = {}
    for text in given:
        category, is_there, template = text.partition("=")
        if not is_there or category not in CATEGORIES or template.count("{}") != 1:
            raise CorpusError(
                f"{text!r} is no template of a category; expected CATEGORY=TEXT with one {{}} in the text, such as "
                f"'object=a photo of a {{}}'; the categories are {', '.join(CATEGORIES)}"
            )
        found[category] = template
    return found


@dataclass(frozen=True)
class Corpus:
    """K >= 1 entities in a fixed order. `name` is "default" or a path: it is for messages only. `templates` go around the names
    of a category where entities become texts.

    Raises CorpusError if it is empty or an entity's name is used twice, whatever the case.
    """

    entities: tuple[Entity, ...]
    name: str
    templates: Mapping[str, str] = field(default_factory=dict)

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
        """The "sha256:..." of names, categories and descriptions in order, and of templates: equal digests, equal embeddings."""
        content: list[object] = [[entity.name, entity.category, entity.description] for entity in self.entities]
        if self.templates:
            content.append(dict(sorted(self.templates.items())))
        return "sha256:" + hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def texts(self) -> list[str]:
        """Return the K texts to embed, in order."""
        return [entity_text(entity, self.templates.get(entity.category, "{}")) for entity in self.entities]

    def by_category(self) -> dict[str, tuple[Entity, ...]]:
        """Return the entities of each of CATEGORIES, in that order; a category may have none."""
        return {
            category: tuple(entity for entity in self.entities if entity.category == category)
            for category in CATEGORIES
        }
