"""WordNet as the corpus builder sees it: base forms, senses, what a sense is a kind of and made of. nltk reads its files.

The data are those of Debian's packages wordnet-base and wordnet-sense-index, or nltk's own download, whichever is there.
"""

import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from alt_ray.errors import CorpusError

Pos = Literal["noun", "verb"]
_LETTER: dict[str, str] = {"noun": "n", "verb": "v"}
DEBIAN_FOLDER = Path("/usr/share/wordnet")
FOLDER_VARIABLE = "ALT_RAY_WORDNET"
_NEEDED = ("data.noun", "data.verb", "index.noun", "index.verb", "index.sense")
# WordNet's lexicographer files by number (lexnames(5WN)); Debian's packages leave the list out.
_LEXNAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition "
    "noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person "
    "noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state "
    "noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption "
    "verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative "
    "verb.weather adj.ppl"
).split()


@dataclass(frozen=True)
class Sense:
    """One meaning of a word. `key` is WordNet's sense key, the same in every release that has the sense.

    `rank` counts from 1, the most frequent meaning of the word; `count` is how often the texts that WordNet's makers tagged
    have it; `lexname` is WordNet's coarse class, such as noun.artifact; `frames` are the numbers of the sentences that a verb can
    stand in (wnintro(5WN)): 2 is "Somebody ----s", 8 "Somebody ----s something".
    """

    key: str
    lemma: str
    pos: Pos
    rank: int
    count: int
    lexname: str
    gloss: str
    frames: frozenset[int]
    synset: Any = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The lemma as people write it."""
        return self.lemma.replace("_", " ")

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(self.synset.examples())

    @property
    def synonyms(self) -> tuple[str, ...]:
        """All words of this meaning, the most usual one first."""
        return tuple(name.replace("_", " ") for name in self.synset.lemma_names())

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The synsets that this is a kind of, itself included, by WordNet's names: "bat.n.05", "artifact.n.01"."""
        return frozenset(kind.name() for path in self.synset.hypernym_paths() for kind in path)


class WordNet:
    """Look words up. Made by open_wordnet()."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.senses = lru_cache(maxsize=None)(self._senses)
        self.base = lru_cache(maxsize=None)(self._base)

    def _base(self, words: str, pos: Pos) -> str | None:
        """Return the lemma that `words` are a form of, or None: "playing" of "play", "breast stroke" of "breaststroke"."""
        for joint in ("_", "-", "") if " " in words else ("_",):
            if lemma := self._reader.morphy(words.lower().replace(" ", joint), _LETTER[pos]):
                return lemma
        return None

    def _senses(self, lemma: str, pos: Pos) -> tuple[Sense, ...]:
        """Return the senses of a lemma, the most frequent first; none if WordNet lacks it."""
        found = []
        for synset in self._reader.synsets(lemma, _LETTER[pos]):
            if (sense := self._sense(synset, lemma)) is not None:
                found.append(sense)
        return tuple(found)

    def _sense(self, synset: Any, lemma: str) -> Sense | None:
        for entry in synset.lemmas():
            if entry.name().lower() == lemma.lower():
                break
        else:
            return None
        pos: Pos = "noun" if synset.pos() == "n" else "verb"
        offsets = [other.offset() for other in self._reader.synsets(lemma, synset.pos())]
        rank = offsets.index(synset.offset()) + 1
        frames = frozenset(entry.frame_ids())
        return Sense(
            entry.key(), entry.name(), pos, rank, entry.count(), synset.lexname(), synset.definition(), frames, synset
        )

    def is_rather_adjective(self, word: str) -> bool:
        """Whether a word is met more often as an adjective than as a noun or a verb: "heavy", "small"."""
        counts = {letter: self._count(word, letter) for letter in "anv"}
        return counts["a"] > max(counts["n"], counts["v"])

    def _count(self, word: str, letter: str) -> int:
        synsets = self._reader.synsets(word, letter)
        entries = [entry for synset in synsets for entry in synset.lemmas() if entry.name().lower() == word]
        return sum(entry.count() for entry in entries) + bool(entries)

    def sense_of_key(self, key: str) -> Sense:
        """Return the sense of a key. Raises CorpusError for a key that WordNet hasn't."""
        from nltk.corpus.reader.wordnet import WordNetError

        try:
            synset = self._reader.synset_from_sense_key(key)
        except (WordNetError, ValueError, KeyError, IndexError) as exc:
            raise CorpusError(f"WordNet has no sense {key!r}") from exc
        lemma = key.partition("%")[0]
        sense = self._sense(synset, lemma)
        if sense is None:
            raise CorpusError(f"WordNet has no sense {key!r}")
        return sense

    def first(self, synset: Any) -> Sense:
        """Return a synset as a sense of its most usual word."""
        sense = self._sense(synset, synset.lemma_names()[0])
        assert sense is not None
        return sense

    def parts(self, sense: Sense) -> tuple[Sense, ...]:
        """Return what it is made of, as WordNet has it: the wheels of a bicycle."""
        return tuple(self.first(part) for part in sense.synset.part_meronyms())

    def related_forms(self, sense: Sense) -> tuple[Sense, ...]:
        """Return what is said with the same root: archery and archer, swim and swimmer."""
        found = []
        for entry in sense.synset.lemmas():
            if entry.name() != sense.lemma:
                continue
            for other in entry.derivationally_related_forms():
                if other.synset().pos() in "nv" and (form := self._sense(other.synset(), other.name())) is not None:
                    found.append(form)
        return tuple(found)

    def all_senses(self, pos: Pos) -> Iterator[Sense]:
        """Yield every synset as a sense of its most usual word; takes some seconds."""
        for synset in self._reader.all_synsets(_LETTER[pos]):
            yield self.first(synset)


@lru_cache(maxsize=1)
def open_wordnet() -> WordNet:
    """Find WordNet's files and read their indices: about two seconds.

    Looks into the folder that ALT_RAY_WORDNET names, Debian's, and where nltk downloads to. Raises CorpusError where nltk or
    the files are missing.
    """
    try:
        import nltk
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError as exc:
        raise CorpusError("building a corpus needs nltk: pip install 'alt_ray[corpus]'") from exc

    class Reader(WordNetCorpusReader):
        def open(self, file: str) -> Any:
            if file == "lexnames":
                return io.StringIO("".join(f"{i:02d}\t{name}\t0\n" for i, name in enumerate(_LEXNAMES)))
            return super().open(file)

        @cached_property
        def counts(self) -> dict[str, int]:
            with self.open("cntlist.rev") as lines:
                return {key: int(count) for key, _, count in map(str.split, lines)}

        def lemma_count(self, lemma: Any) -> int:
            """How often tagged texts have a lemma, of a dictionary: nltk's own searches the file each time."""
            return self.counts.get(lemma.key(), 0)

        def map_wn(self, version: str = "wordnet") -> None:
            """Nothing: maps between releases serve other languages, whose data aren't here."""

    folder = _folder(nltk)
    nltk.data.path.append(str(folder))  # nltk refuses to read elsewhere
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are no other languages
        return WordNet(Reader(str(folder), None))


def has_wordnet() -> bool:
    """Whether open_wordnet() will find what it needs."""
    try:
        open_wordnet()
    except CorpusError:
        return False
    return True


def _folder(nltk: Any) -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    downloads = [Path(folder) / "corpora" / "wordnet" for folder in nltk.data.path]
    candidates = [Path(named)] if named else [DEBIAN_FOLDER, *downloads]
    for folder in candidates:
        if all((folder / name).is_file() for name in _NEEDED):
            return folder
    raise CorpusError(
        "WordNet's files are missing; `apt-get install wordnet-base wordnet-sense-index`, or `python -m nltk.downloader "
        f"wordnet` and unpack the archive, or set {FOLDER_VARIABLE} to a folder with {', '.join(_NEEDED)} (looked in "
        f"{', '.join(map(str, candidates[:3]))}{', ...' if len(candidates) > 3 else ''})"
    )
