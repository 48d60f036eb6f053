"""Find the noun and verb phrases of an action label that WordNet knows. Knows nothing of which meaning is meant.

"playing bass guitar" gives the verb "play" and the noun "bass guitar"; the longest match wins, so "guitar" alone is not asked.
"""

import re
from dataclasses import dataclass

from alt_ray.corpus.wordnet import Pos, WordNet
from alt_ray.words import split_camel_case

LONGEST_MATCH = 4  # words
# Verbs that say nothing of what is seen, and words that are in WordNet as something else than they are in a label.
LIGHT_VERBS = frozenset("be do get give go have make put set take use try keep let".split())
STOP_WORDS = frozenset(
    "a an and at by for from her his in into it its no not of off on one or others out over own person s some "
    "someone something the their them through to up using very with".split()
)
_PARENTHESES = re.compile(r"\([^)]*\)")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


@dataclass(frozen=True)
class Phrase:
    """Words of a label that are a form of one WordNet lemma, as a noun or as a verb."""

    words: str
    lemma: str
    pos: Pos


def label_words(label: str) -> list[str]:
    """Return the words of a label in lower case, without what stands in parentheses: that says what is not meant."""
    words = split_camel_case(_PARENTHESES.sub(" ", label)).lower()
    return [word.removesuffix("'s") for word in _WORD.findall(words)]


def phrases(label: str, wordnet: WordNet) -> list[Phrase]:
    """Return the phrases of a label in its order. One word may give two, a noun and a verb: "wave" in "wave"."""
    words = label_words(label)
    found: list[Phrase] = []
    start = 0
    while start < len(words):
        for length in range(_longest(words, start, wordnet), 0, -1):
            if matches := _match(words, start, length, wordnet):
                found.extend(matches)
                start += length
                break
        else:
            start += 1
    return found


def _longest(words: list[str], start: int, wordnet: WordNet) -> int:
    """Return how many words a phrase may have: "playing field hockey" is to play field hockey, not hockey of a playing field."""
    left = len(words) - start
    if (
        start == 0
        and left > 2
        and words[0].endswith("ing")
        and any(_noun(words, 1, n, wordnet) for n in range(2, left))
    ):
        return 1
    return min(LONGEST_MATCH, left)


def _noun(words: list[str], start: int, length: int, wordnet: WordNet) -> bool:
    return wordnet.base(" ".join(words[start : start + length]), "noun") is not None


def _match(words: list[str], start: int, length: int, wordnet: WordNet) -> list[Phrase]:
    text = " ".join(words[start : start + length])
    if length == 1 and text in STOP_WORDS:
        return []
    found = []
    for pos in _parts_of_speech(words, start, length):
        lemma = wordnet.base(text, pos)
        if lemma is None or (pos == "verb" and lemma in LIGHT_VERBS):
            continue
        found.append(Phrase(text, lemma, pos))
    return found


def _parts_of_speech(words: list[str], start: int, length: int) -> tuple[Pos, ...]:
    """Say what words of a label can be. Labels are verb phrases ("riding a bike", "kick ball") or name an activity."""
    is_alone, first = length == len(words), start == 0
    if length > 1:
        return ("noun", "verb") if first else ("noun",)
    word = words[start]
    if word.endswith("ing") and len(word) > 4:
        return ("verb",) if first and not is_alone else ("verb", "noun")
    if is_alone:
        return ("verb", "noun")
    return ("verb", "noun") if first and len(words) == 2 else ("noun",)
