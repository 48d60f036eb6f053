"""Build a corpus from labels: collect candidates of every label, choose, name, describe, remove doubles, apply corrections.

Knows nothing of files or encoders: an `embed` function may be given, and entities come out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from alt_ray.config_corpus import NEAR_IDENTICAL
from alt_ray.corpus.answers import Source as SuggestionSource
from alt_ray.corpus.answers import Suggestion
from alt_ray.corpus.disambiguate import Disambiguator, Embed
from alt_ray.corpus.entities import CATEGORIES, Entity, entity_text
from alt_ray.corpus.expand import Expander
from alt_ray.corpus.glosses import Glosses
from alt_ray.corpus.visible import COMMON_BODY_PARTS, category_of
from alt_ray.corpus.wordnet import Sense

LONGEST_DESCRIPTION = 160
_DOUBLES = re.compile(
    r"[^aeiou]*[aeiou][bdgklmnprtvz]"
)  # one syllable with one vowel before its last consonant: run, hit
_PARENTHESES = re.compile(r"\s*\([^)]*\)")


@dataclass(frozen=True)
class BuildOptions:
    """How much WordNet adds to what is suggested.

    `per_label` is how many entities a label brings at most; `min_strength` the sum of scores over labels that one needs: 1 is a
    word of a label, 0.7 a word of its gloss, less something whose gloss speaks of it (alt_ray.corpus.expand).
    """

    per_label: int = 12
    min_strength: float = 0.45


@dataclass
class Found:
    """An entity in the making: what it is, and the labels that it comes from with how strongly each brings it."""

    name: str
    category: str
    description: str = ""
    sense: Sense | None = None
    strength: dict[str, float] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> float:
        return sum(self.strength.values())

    def add(self, label: str, strength: float, source: str) -> None:
        self.strength[label] = max(strength, self.strength.get(label, 0.0))
        self.sources[source] += 1


def build(
    labels: Sequence[str],
    glosses: Glosses,
    disambiguator: Disambiguator,
    *,
    suggestions: SuggestionSource | None = None,
    embed: Embed | None = None,
    options: BuildOptions | None = None,
) -> list[Entity]:
    """Return the entities of labels, sorted by category and name. Common parts of the body are always among them."""
    options = options or BuildOptions()
    found = _Collection(glosses, disambiguator)
    for label in labels:
        for suggestion in suggestions.suggest(label) if suggestions is not None else ():
            found.suggested(label, suggestion)
    found.settle_suggestions()
    expander = Expander(glosses, disambiguator)
    for label in labels:
        for candidate in expander.candidates(label, options.per_label):
            found.looked_up(label, candidate.sense, candidate.category, candidate.score)
    for key in COMMON_BODY_PARTS:
        found.common(glosses.wordnet.sense_of_key(key))
    kept = [
        entry
        for entry in found.entries()
        if entry.total >= options.min_strength or entry.sources.keys() & {"common", "language model"}
    ]
    named = _named(kept)
    names = {name for _, name in named}
    entities = [_entity(entry, name, names) for entry, name in named]
    if embed is not None:
        entities = without_same_meaning(entities, embed)
    return sorted(entities, key=lambda entity: (CATEGORIES.index(entity.category), entity.name))


class _Collection:
    """All that was found, each meaning once."""

    def __init__(self, glosses: Glosses, disambiguator: Disambiguator) -> None:
        self.glosses, self.disambiguator = glosses, disambiguator
        self._by_synset: dict[str, Found] = {}
        self._without_sense: list[Found] = []
        self._suggested: dict[tuple[str, str], list[tuple[str, Suggestion]]] = defaultdict(list)

    def entries(self) -> list[Found]:
        return [*self._by_synset.values(), *self._without_sense]

    def suggested(self, label: str, suggestion: Suggestion) -> None:
        self._suggested[suggestion.name.lower(), suggestion.category].append((label, suggestion))

    def settle_suggestions(self) -> None:
        """Find the WordNet sense of each name suggested: the one that fits best over all labels that it was suggested for.

        Two names stay two entities: whoever suggested them told them apart. One sense goes to the name suggested most often.
        """
        for (name, category), given in sorted(self._suggested.items(), key=lambda item: (-len(item[1]), item[0])):
            sense = self._sense_of(name, category, [label for label, _ in given])
            description = next((suggestion.description for _, suggestion in given if suggestion.description), "")
            if sense is not None and sense.synset.name() in self._by_synset:
                sense = None
            entry = Found(name, category, description, sense)
            if sense is None:
                self._without_sense.append(entry)
            else:
                self._by_synset[sense.synset.name()] = entry
            for label, _ in given:
                entry.add(label, 1.0, "language model")

    def _sense_of(self, name: str, category: str, labels: Sequence[str]) -> Sense | None:
        wordnet = self.glosses.wordnet
        for pos in ("verb", "noun") if category == "motion" else ("noun",):
            lemma = wordnet.base(name, pos)
            senses = [sense for sense in wordnet.senses(lemma, pos) if category_of(sense) == category] if lemma else []
            if senses:
                scores = sum(self.disambiguator.scores(senses, label) for label in labels)
                return senses[int(np.argmax(scores))]
        return None

    def looked_up(self, label: str, sense: Sense, category: str, score: float) -> None:
        name = gerund(sense.name.lower()) if category == "motion" else sense.name.lower()
        known = self._by_synset.get(sense.synset.name())
        if known is None and category == "motion":
            # "a throw" and "to throw" are two synsets of one movement.
            known = next((entry for entry in self.entries() if entry.name == name and entry.category == category), None)
        entry = known or self._by_synset.setdefault(sense.synset.name(), Found(name, category, "", sense))
        entry.add(label, score, "wordnet")

    def common(self, sense: Sense) -> None:
        entry = self._by_synset.setdefault(sense.synset.name(), Found(sense.name.lower(), "body_part", "", sense))
        entry.sources["common"] += 1


def _named(entries: list[Found]) -> list[tuple[Found, str]]:
    """Give every entry a name of its own: the one suggested by it, or the strongest, has it, others a synonym or their kind."""
    taken: set[str] = set()
    named = []
    for entry in sorted(entries, key=lambda entry: ("language model" not in entry.sources, -entry.total, entry.name)):
        names = [entry.name]
        if entry.sense is not None:
            broader = entry.sense.synset.hypernyms()
            names += [name.lower() for name in entry.sense.synonyms]
            names += [f"{entry.name} ({kind.lemma_names()[0].replace('_', ' ')})" for kind in broader]
        names.append(f"{entry.name} ({entry.category.replace('_', ' ')})")  # the same word suggested in two categories
        for name in names:
            if name not in taken:
                taken.add(name)
                named.append((entry, name))
                break
    return named


def _entity(entry: Found, name: str, names: set[str]) -> Entity:
    aliases: list[str] = []
    description = entry.description
    if entry.sense is not None:
        aliases = [other for other in map(str.lower, entry.sense.synonyms) if other not in names]
        description = description or short(entry.sense.gloss)
    return Entity(
        name=name,
        category=entry.category,
        description=description,
        aliases=tuple(dict.fromkeys(aliases))[:4],
        source=" + ".join(sorted({source for source in entry.sources if source != "common"} or {"common"})),
        sense=entry.sense.key if entry.sense is not None else "",
        labels=tuple(sorted(entry.strength)),
    )


def gerund(verb: str) -> str:
    """Return the form of a verb that names its motion: "run" gives "running", "shake hands" "shaking hands"."""
    first, *rest = verb.split(" ")
    if first.endswith("ing") and len(first) > 4:
        return verb
    if first.endswith("ie"):
        first = f"{first[:-2]}y"
    elif first.endswith("e") and not first.endswith(("ee", "oe", "ye")):
        first = first[:-1]
    elif _DOUBLES.fullmatch(first):
        first += first[-1]
    return " ".join([f"{first}ing", *rest])


def short(gloss: str) -> str:
    """Return a gloss as one short description: its first statement, without what stands in parentheses."""
    text = _PARENTHESES.sub("", gloss).strip()
    first = text.split(";")[0].strip()
    text = first if len(first) >= 12 else text
    if len(text) <= LONGEST_DESCRIPTION:
        return text
    return text[:LONGEST_DESCRIPTION].rsplit(" ", 1)[0].rstrip(" ,:")


def without_same_meaning(entities: list[Entity], embed: Embed) -> list[Entity]:
    """Drop entities whose texts an encoder can't tell from one of more labels; that one takes the name as an alias."""
    order = sorted(range(len(entities)), key=lambda i: -len(entities[i].labels))
    embedded = embed([entity_text(entity) for entity in entities])
    kept: list[int] = []
    merged = dict(enumerate(entities))
    for i in order:
        same = [
            k
            for k in kept
            if entities[k].category == entities[i].category and embedded[k] @ embedded[i] >= NEAR_IDENTICAL
        ]
        if not same:
            kept.append(i)
            continue
        into = merged[same[0]]
        labels = tuple(sorted({*into.labels, *entities[i].labels}))
        merged[same[0]] = replace(into, aliases=(*into.aliases, entities[i].name), labels=labels)
    return [merged[i] for i in sorted(kept)]
