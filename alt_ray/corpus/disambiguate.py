"""Choose the meaning that a word has in a label: extended Lesk, the most frequent meaning, or cosines of a text encoder.

Source: Lesk (SIGDOC 1986); extended glosses after Banerjee and Pedersen (IJCAI 2003). The paper uses a T5 trained for it; the
frozen text encoder that is there anyway takes its place where it knows words (docs/corpus.md has the figures).

S senses of one word, D embedding dim.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from alt_ray.config_corpus import Method
from alt_ray.corpus.glosses import Glosses
from alt_ray.corpus.visible import category_of
from alt_ray.corpus.wordnet import Sense

Embed = Callable[[Sequence[str]], np.ndarray]  # texts -> [n, D], L2-normalised
# How much the words of a relative's gloss count beside a meaning's own, and the names of what it is a kind of.
_OWN, _BROADER, _PARTS, _NARROWER, _TOPIC, _ANCESTOR = 1.0, 0.5, 0.5, 0.3, 1.0, 0.4
_MAX_NARROWER = 25
_GENERAL_DEPTH = 4  # "physical entity", "whole": all things are kinds of what lies less deep
# Sentences of WordNet's verbs (wnintro(5WN)) in which somebody does something, and those of them that have an object.
_WITH_OBJECT = frozenset({8, 9, 15, 16, 17, 18, 19, 20, 21, 24, 25, 30, 31})
_SOMEBODY_DOES = _WITH_OBJECT | frozenset({2, 7, 13, 14, 22, 26, 27, 28, 29, 32, 33})


@dataclass(frozen=True)
class LeskOptions:
    """What counts beside the glosses. Words of a label are few, so this decides where glosses have nothing in common.

    A meaning loses `rank` for each doubling of its rank and gains `count` for each doubling of its count in tagged texts; it
    gains `visible` if a camera can see it, and loses `person` if it is somebody: labels speak of what people do, and with
    what. A verb gains `somebody` if people do it, and `object` if it takes an object just where the label has one.
    """

    rank: float = 0.5
    count: float = 0.2
    visible: float = 1.0
    person: float = 1.0
    somebody: float = 1.0
    object: float = 1.0


class Disambiguator:
    """Chooses among the senses of a word. One for all labels: it remembers what it has read of each sense.

    Raises nothing: a word that is alone in its label gets its first visible sense.
    """

    def __init__(
        self, glosses: Glosses, method: Method = "lesk", embed: Embed | None = None, options: LeskOptions | None = None
    ) -> None:
        assert method in get_args(Method)
        assert embed is not None or "cosine" not in method
        self.glosses, self.method, self.embed, self.options = glosses, method, embed, options or LeskOptions()
        self._signatures: dict[str, dict[str, float]] = {}

    def best(self, senses: Sequence[Sense], context: str, others: Sequence[Sequence[Sense]] = ()) -> Sense:
        """Return the sense meant. `context` is the label or gloss around the word, `others` the senses of its other words."""
        return senses[int(np.argmax(self.scores(senses, context, others)))]

    def scores(self, senses: Sequence[Sense], context: str, others: Sequence[Sequence[Sense]] = ()) -> np.ndarray:
        """Return how well each sense fits, [S]; the greatest is the one meant."""
        if self.method == "first":
            return -np.array([sense.rank for sense in senses], float)
        scores = np.zeros(len(senses))
        if "lesk" in self.method:
            scores += self._lesk(senses, context, others)
        if "cosine" in self.method:
            assert self.embed is not None
            embedded = self.embed([context, *(f"{sense.name}, {sense.gloss}" for sense in senses)])
            cosines = embedded[1:] @ embedded[0]
            spread = cosines.std() or 1.0
            scores += (cosines - cosines.mean()) / spread if "lesk" in self.method else cosines
        return scores

    def _lesk(self, senses: Sequence[Sense], context: str, others: Sequence[Sequence[Sense]]) -> np.ndarray:
        own_words = {word for sense in senses for word in self.glosses.bag(sense.name)}
        around = {word: self.glosses.weight(word) for word in self.glosses.bag(context) - own_words}
        # The other words' meanings are unknown, too: each brings the words of all its meanings, rare meanings fewer.
        wider: dict[str, float] = {}
        for other in others:
            for sense in other:
                for word, weight in self._signature(sense).items():
                    if word not in own_words:
                        wider[word] = max(wider.get(word, 0.0), weight / (1 + math.log(sense.rank)))
        has_object = any(sense.pos == "noun" for other in others for sense in other)
        scores = []
        for sense in senses:
            signature = self._signature(sense)
            direct = sum(min(weight, 2 * around[word]) for word, weight in signature.items() if word in around)
            overlap = sum(weight * wider[word] for word, weight in signature.items() if word in wider)
            score = direct / 4 + 10 * overlap / (_norm(signature) * _norm(wider))
            scores.append(score + self._prior(sense, has_object))
        return np.array(scores)

    def _prior(self, sense: Sense, has_object: bool) -> float:
        options = self.options
        score = options.count * math.log2(1 + sense.count) - options.rank * math.log2(sense.rank)
        score += options.visible * (category_of(sense) is not None) - options.person * (sense.lexname == "noun.person")
        if sense.pos == "verb":
            score += options.somebody * bool(sense.frames & _SOMEBODY_DOES)
            fitting = _WITH_OBJECT if has_object else _SOMEBODY_DOES - _WITH_OBJECT
            score += options.object * bool(sense.frames & fitting)
        return score

    def _signature(self, sense: Sense) -> dict[str, float]:
        """Return the weighted words of a sense's gloss, examples, synonyms and relatives."""
        if sense.key in self._signatures:
            return self._signatures[sense.key]
        wordnet = self.glosses.wordnet
        found: dict[str, float] = {}
        synset = sense.synset
        relatives = [(_OWN, synset)]
        relatives += [(_BROADER, other) for other in synset.hypernyms()]
        relatives += [(_PARTS, other) for other in (*synset.part_meronyms(), *synset.part_holonyms())]
        relatives += [(_NARROWER, other) for other in synset.hyponyms()[:_MAX_NARROWER]]
        relatives += [(_TOPIC, other) for other in synset.topic_domains()]
        for share, other in relatives:
            near = wordnet.first(other)
            texts = [near.gloss, *near.examples] if share == _OWN else [near.gloss]
            for word in self.glosses.bag(" ".join((*texts, *near.synonyms))):
                found[word] = max(found.get(word, 0.0), share * self.glosses.weight(word))
        for kind in synset.closure(lambda other: other.hypernyms()):
            if kind.min_depth() >= _GENERAL_DEPTH:
                for word in self.glosses.bag(" ".join(wordnet.first(kind).synonyms)):
                    found[word] = max(found.get(word, 0.0), _ANCESTOR * self.glosses.weight(word))
        self._signatures[sense.key] = found
        return found


def _norm(weights: dict[str, float]) -> float:
    return math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
