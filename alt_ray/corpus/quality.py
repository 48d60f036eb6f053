"""How good a corpus is: what is wrong with its file, and how well it covers a list of labels. Works on texts and numbers alone.

K entities, C labels, D embedding dim.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alt_ray.config_corpus import NEAR_IDENTICAL
from alt_ray.corpus.entities import CATEGORIES, Corpus
from alt_ray.corpus.extract import label_words
from alt_ray.corpus.wordnet import WordNet
from alt_ray.errors import CorpusError
from alt_ray.words import split_camel_case

ENOUGH_ENTITIES, ENOUGH_CATEGORIES = 5, 2


def problems_of(
    corpus: Corpus,
    *,
    embedded_KD: np.ndarray | None = None,
    wordnet: WordNet | None = None,
    same: float = NEAR_IDENTICAL,
) -> list[str]:
    """Return what is wrong with a corpus that could be read, one line each; empty if nothing is.

    Empty descriptions, one description for two entities, an alias that is another entity's name, texts that an encoder can't
    tell apart (where embeddings are given), sense keys that WordNet lacks (where it is given).
    """
    found = [f"{entity.name}: the description is empty" for entity in corpus.entities if not entity.description]
    by_description = defaultdict(list)
    for entity in corpus.entities:
        if entity.description:
            by_description[entity.description.casefold()].append(entity.name)
    found += [f"{', '.join(names)}: the same description" for names in by_description.values() if len(names) > 1]
    names = {entity.name.casefold(): entity for entity in corpus.entities}
    for entity in corpus.entities:
        for alias in entity.aliases:
            other = names.get(alias.casefold())
            if other is not None and other is not entity and other.category == entity.category:
                found.append(f"{entity.name}: its alias {alias!r} is another entity of the category {entity.category}")
        if wordnet is not None and entity.sense:
            try:
                wordnet.sense_of_key(entity.sense)
            except CorpusError:
                found.append(f"{entity.name}: WordNet has no sense {entity.sense!r}")
    if embedded_KD is not None:
        for i, k, cosine in near_identical(embedded_KD, same):
            found.append(
                f"{corpus.entities[i].name}, {corpus.entities[k].name}: a cosine of {cosine:.3f} to each other"
            )
    return found


def near_identical(embedded_KD: np.ndarray, same: float = NEAR_IDENTICAL) -> list[tuple[int, int, float]]:
    """Return the pairs of entities whose embeddings are within a cosine, with it, the closest first."""
    found = []
    for start in range(0, len(embedded_KD), 1024):  # K x K at once would take 3 GB for 20,000 entities
        cosines = embedded_KD[start : start + 1024] @ embedded_KD.T
        for row, column in zip(*np.nonzero(cosines >= same), strict=True):
            if start + row < column:
                found.append((start + int(row), int(column), float(cosines[row, column])))
    return sorted(found, key=lambda pair: -pair[2])


@dataclass
class Coverage:
    """What a corpus has for each of C labels: the entities, by name, and the categories that they are of."""

    entities: dict[str, list[str]]
    categories: dict[str, set[str]] = field(default_factory=dict)

    def is_covered(self, label: str) -> bool:
        enough = len(self.entities[label]) >= ENOUGH_ENTITIES
        return enough and len(self.categories[label]) >= ENOUGH_CATEGORIES

    @property
    def share(self) -> float:
        return sum(map(self.is_covered, self.entities)) / max(len(self.entities), 1)

    def sharing_all(self) -> list[tuple[str, ...]]:
        """Return groups of labels that have the same entities: entities alone can't tell them apart."""
        groups = defaultdict(list)
        for label, names in self.entities.items():
            if names:
                groups[frozenset(names)].append(label)
        return [tuple(labels) for labels in groups.values() if len(labels) > 1]


def coverage_by_source(corpus: Corpus, labels: Sequence[str]) -> Coverage:
    """Return the coverage of labels by the entities that were drawn from them, as the corpus says."""
    drawn = defaultdict(list)
    for entity in corpus.entities:
        for label in entity.labels:
            drawn[_key(label)].append(entity)
    return _coverage({label: drawn[_key(label)] for label in labels})


def coverage_by_cosine(
    corpus: Corpus, labels: Sequence[str], embedded_KD: np.ndarray, labels_CD: np.ndarray, within: float
) -> Coverage:
    """Return the coverage of labels by the entities whose embeddings come within a cosine of the label's."""
    near_CK = labels_CD @ embedded_KD.T >= within
    return _coverage(
        {label: [corpus.entities[k] for k in np.flatnonzero(near_CK[c])] for c, label in enumerate(labels)}
    )


def nearest(corpus: Corpus, embedded_KD: np.ndarray, label_D: np.ndarray, count: int) -> list[tuple[str, str, float]]:
    """Return the `count` entities nearest to a label: name, category, cosine."""
    cosines = embedded_KD @ label_D
    order = np.argsort(-cosines)[:count]
    return [(corpus.entities[k].name, corpus.entities[k].category, float(cosines[k])) for k in order]


def _coverage(found: dict[str, list]) -> Coverage:
    return Coverage(
        {label: [entity.name for entity in entities] for label, entities in found.items()},
        {label: {entity.category for entity in entities} for label, entities in found.items()},
    )


def _key(label: str) -> str:
    """Labels of different lists are the same if their words are: "PlayingGuitar", "playing guitar"."""
    return " ".join(re.findall(r"[^\W_]+", split_camel_case(label).lower()))


def overlap(corpus: Corpus, labels: Sequence[str]) -> list[str]:
    """Return the labels whose name is an entity's name or alias: to be said beside any zero-shot figure (METHOD, section 3)."""
    names = {" ".join(label_words(name)) for entity in corpus.entities for name in (entity.name, *entity.aliases)}
    return [label for label in labels if " ".join(label_words(label)) in names]


def by_category(corpus: Corpus) -> dict[str, int]:
    return {category: sum(entity.category == category for entity in corpus.entities) for category in CATEGORIES}
