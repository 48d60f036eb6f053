"""Find the entities of an action label: what its words mean, and the things, parts, places and movements that go with them.

Everything comes from WordNet: parts of things, words of glosses, and things whose glosses speak of the activity. Knows nothing of
which entities other labels give.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from alt_ray.corpus.disambiguate import Disambiguator
from alt_ray.corpus.extract import Phrase, phrases
from alt_ray.corpus.glosses import Glosses, base_words
from alt_ray.corpus.visible import MOTION_CLASSES, category_of, is_too_general
from alt_ray.corpus.wordnet import Pos, Sense, WordNet

# How strongly a candidate belongs to a label, by the way that it was found.
NAMED, IN_GLOSS, MENTIONS, PART, DOER = 1.0, 0.7, 0.5, 0.4, 0.6
_MAX_MENTIONS, _MAX_PARTS = 10, 4
_MENTION_CLASSES = {"noun.artifact", "noun.body", "noun.object", "noun.food", "noun.animal", "noun.plant"}
_GENERAL_ACTIVITY = 400  # glosses that mention a word; more, and it says nothing of what is seen


@dataclass(frozen=True)
class Candidate:
    """A meaning that may become an entity of a label. `score` 0 .. 1 says how strongly it belongs to it, `how` why."""

    sense: Sense
    category: str
    score: float
    how: str


class Expander:
    """Makes candidates of labels. One for all labels."""

    def __init__(self, glosses: Glosses, disambiguator: Disambiguator) -> None:
        self.glosses, self.disambiguator = glosses, disambiguator
        self.wordnet: WordNet = glosses.wordnet

    def candidates(self, label: str, limit: int = 16) -> list[Candidate]:
        """Return at most `limit` candidates of a label, the strongest first, each meaning once. None if WordNet knows no word."""
        found: list[Candidate] = []
        for phrase, sense in self.meanings(label):
            found += self._of(sense, NAMED, f"in the label as {phrase.words!r}")
            found += self._from_gloss(sense)
            found += self._parts(sense)
            found += self._doers(sense)
            found += self._mentions(sense)
        best: dict[str, Candidate] = {}
        for candidate in found:
            name = candidate.sense.synset.name()
            if name not in best or best[name].score < candidate.score:
                best[name] = candidate
        return sorted(best.values(), key=lambda candidate: -candidate.score)[:limit]

    def meanings(self, label: str) -> list[tuple[Phrase, Sense]]:
        """Return the phrases of a label and the sense that each has in it."""
        found = phrases(label, self.wordnet)
        senses = [self.wordnet.senses(phrase.lemma, phrase.pos) for phrase in found]
        chosen = []
        for i, phrase in enumerate(found):
            others = [senses[k] for k in range(len(found)) if found[k].words != phrase.words]
            if senses[i]:
                chosen.append((phrase, self.disambiguator.best(senses[i], label, others)))
        return chosen

    def _of(self, sense: Sense, score: float, how: str) -> Iterable[Candidate]:
        category = category_of(sense)
        # Capital letters are names of genera, people and brands; what is not in the label must be seen to move, not meant so.
        is_name = sense.lemma[0].isupper()
        is_vague = sense.pos == "verb" and score < NAMED and sense.lexname not in MOTION_CLASSES
        if category is not None and not (is_too_general(sense) or is_name or is_vague):
            yield Candidate(sense, category, score, how)

    def _from_gloss(self, sense: Sense) -> Iterable[Candidate]:
        seen: set[str] = set()
        for position, word in enumerate(self._lemmas_of_gloss(sense)):
            lemma, pos = word
            if lemma in seen or lemma == sense.lemma:
                continue
            seen.add(lemma)
            senses = self.wordnet.senses(lemma, pos)
            if senses:
                near = self.disambiguator.best(senses, sense.gloss, [(sense,)])
                yield from self._of(near, IN_GLOSS - 0.02 * min(position, 10), f"in the gloss of {sense.name}")

    def _lemmas_of_gloss(self, sense: Sense) -> list[tuple[str, Pos]]:
        """Return lemmas of a gloss, two words where WordNet has them together, each as a noun or else as a verb."""
        words = base_words(sense.gloss, self.wordnet)
        found: list[tuple[str, Pos]] = []
        i = 0
        while i < len(words):
            pair = "_".join(words[i : i + 2])
            if i + 1 < len(words) and self.wordnet.base(pair, "noun") == pair:
                found.append((pair, "noun"))
                i += 2
                continue
            if not self.wordnet.is_rather_adjective(words[i]):
                found.append((words[i], "noun" if self.wordnet.senses(words[i], "noun") else "verb"))
            i += 1
        return found

    def _parts(self, sense: Sense) -> Iterable[Candidate]:
        if sense.pos == "noun" and sense.lexname in {"noun.artifact", "noun.body"}:
            for part in self.wordnet.parts(sense)[:_MAX_PARTS]:
                yield from self._of(part, PART, f"a part of {sense.name}")

    def _doers(self, sense: Sense) -> Iterable[Candidate]:
        if sense.pos == "noun" and sense.lexname != "noun.act":
            return
        for form in self.wordnet.related_forms(sense):
            if form.lexname == "noun.person":
                yield from self._of(form, DOER, f"who does {sense.name}")

    def _mentions(self, sense: Sense) -> Iterable[Candidate]:
        """Yield things whose glosses speak of the activity, those with the shortest glosses first."""
        words = sense.lemma.lower().split("_")
        lists = [self.glosses.mentions.get(word, []) for word in (sense.lemma.lower(), *words)]
        mentioning = min((entries for entries in lists if entries), key=len, default=[])
        if len(mentioning) > _GENERAL_ACTIVITY:
            return
        found = [
            other
            for other in mentioning
            if other.lexname in _MENTION_CLASSES and (len(words) == 1 or sense.name.lower() in other.gloss.lower())
        ]
        for position, other in enumerate(sorted(found, key=lambda other: len(other.gloss))[:_MAX_MENTIONS]):
            yield from self._of(other, MENTIONS - 0.02 * position, f"its gloss speaks of {sense.name}")
