"""WordNet's glosses as bags of words: how rare each word is, and which things are described with it. One pass over all glosses.

It is what the disambiguation weighs words by, and how the builder finds the things of an activity: glosses of a racket, a court
and a net mention tennis.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from alt_ray.corpus.extract import STOP_WORDS
from alt_ray.corpus.wordnet import Sense, WordNet

_WORD = re.compile(r"[a-z]+(?:[-'][a-z]+)*")
_NOT_TELLING = STOP_WORDS | frozenset(
    "is are was were be been being that which who whom whose this these those as than then so such when where "
    "while usually often especially sometimes used having has have had may can also other another each any all "
    "both more most less least many much several between about after before during against under above etc".split()
)


@dataclass
class Glosses:
    """`weight` of a word: the log of all glosses over those with the word. `mentions`: nouns by a word of their gloss."""

    wordnet: WordNet
    count: int = 0
    frequency: Counter[str] = field(default_factory=Counter)
    mentions: dict[str, list[Sense]] = field(default_factory=lambda: defaultdict(list))

    def weight(self, word: str) -> float:
        return math.log((1 + self.count) / (1 + self.frequency[word]))

    def bag(self, text: str) -> frozenset[str]:
        """Return the telling words of a text in their base forms."""
        return frozenset(base_words(text, self.wordnet))


def base_words(text: str, wordnet: WordNet) -> list[str]:
    """Return the telling words of a text, in order, as the nouns or else the verbs that they are forms of."""
    found = []
    for word in _WORD.findall(text.lower()):
        if len(word) > 1 and word not in _NOT_TELLING:
            found.append(_base(word, wordnet))
    return found


def _base(word: str, wordnet: WordNet) -> str:
    if word.endswith(("ing", "ed")):
        return wordnet.base(word, "verb") or wordnet.base(word, "noun") or word
    return wordnet.base(word, "noun") or wordnet.base(word, "verb") or word


def read_glosses(wordnet: WordNet) -> Glosses:
    """Read all glosses of nouns and verbs; about ten seconds."""
    glosses = Glosses(wordnet)
    for pos in ("noun", "verb"):
        for sense in wordnet.all_senses(pos):
            _add(glosses, sense)
    return glosses


def _add(glosses: Glosses, sense: Sense) -> None:
    words: Iterable[str] = frozenset(base_words(sense.gloss, glosses.wordnet))
    glosses.count += 1
    glosses.frequency.update(words)
    if sense.pos == "noun":
        for word in words:
            glosses.mentions[word].append(sense)
