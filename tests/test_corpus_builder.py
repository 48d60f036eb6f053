"""The builder against the real WordNet; skipped where its files are missing (README says how to get them)."""

import json
from pathlib import Path

import numpy as np
import pytest

from alt_ray.corpus.answers import Answers
from alt_ray.corpus.build import BuildOptions, build, gerund, short, without_same_meaning
from alt_ray.corpus.corrections import corrected, read_corrections
from alt_ray.corpus.disambiguate import Disambiguator
from alt_ray.corpus.entities import Corpus, Entity
from alt_ray.corpus.expand import Expander
from alt_ray.corpus.extract import label_words, phrases
from alt_ray.corpus.glosses import Glosses, read_glosses
from alt_ray.corpus.labels import read_labels
from alt_ray.corpus.visible import COMMON_BODY_PARTS, category_of
from alt_ray.corpus.wordnet import FOLDER_VARIABLE, WordNet, open_wordnet
from alt_ray.corpus_commands import write_corpus
from alt_ray.errors import CorpusError

try:
    open_wordnet()
    HAS_WORDNET = True
except CorpusError:
    HAS_WORDNET = False
needs_wordnet = pytest.mark.skipif(not HAS_WORDNET, reason="WordNet's files are missing")


@pytest.fixture(scope="module")
def wordnet() -> WordNet:
    return open_wordnet()


@pytest.fixture(scope="module")
def glosses(wordnet: WordNet) -> Glosses:
    return read_glosses(wordnet)


@pytest.fixture(scope="module")
def lesk(glosses: Glosses) -> Disambiguator:
    return Disambiguator(glosses)


def test_label_words_leave_out_what_stands_in_parentheses() -> None:
    assert label_words("PlayingGuitar") == ["playing", "guitar"]
    assert label_words("petting animal (not cat)") == ["petting", "animal"]
    assert label_words("massaging person's head") == ["massaging", "person", "head"]


@needs_wordnet
@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("playing bass guitar", [("play", "verb"), ("bass_guitar", "noun")]),
        ("playing field hockey", [("play", "verb"), ("field_hockey", "noun")]),
        ("brush_hair", [("brush", "verb"), ("brush", "noun"), ("hair", "noun")]),
        ("making sushi", [("sushi", "noun")]),
        ("IceSkating", [("ice_skating", "noun"), ("ice_skate", "verb")]),
        ("BreastStroke", [("breaststroke", "noun"), ("breaststroke", "verb")]),
        ("zzyzx", []),
    ],
)
def test_phrases_are_the_longest_that_wordnet_knows(
    wordnet: WordNet, label: str, expected: list[tuple[str, str]]
) -> None:
    assert [(phrase.lemma, phrase.pos) for phrase in phrases(label, wordnet)] == expected


@needs_wordnet
@pytest.mark.parametrize(
    ("lemma", "pos", "rank", "category"),
    [
        ("barbell", "noun", 1, "object"),
        ("hand", "noun", 1, "body_part"),
        ("liver", "noun", 1, None),
        ("gymnasium", "noun", 2, "scene"),
        ("lake", "noun", 1, "scene"),
        ("throw", "verb", 1, "motion"),
        ("somersault", "noun", 1, "motion"),
        ("archery", "noun", 1, None),
        ("idea", "noun", 1, None),
        ("week", "noun", 1, None),
        ("goat", "noun", 1, "object"),
    ],
)
def test_categories_are_of_what_a_camera_sees(
    wordnet: WordNet, lemma: str, pos: str, rank: int, category: str | None
) -> None:
    assert category_of(wordnet.senses(lemma, pos)[rank - 1]) == category


@needs_wordnet
@pytest.mark.parametrize(
    ("label", "lemma", "key"),
    [
        ("flying kite", "kite", "kite%1:06:00::"),
        ("playing drums", "drum", "drum%1:06:00::"),
        ("crossing river", "river", "river%1:17:00::"),
    ],
)
def test_lesk_takes_the_meaning_that_fits_the_label(
    lesk: Disambiguator, glosses: Glosses, label: str, lemma: str, key: str
) -> None:
    chosen = {sense.lemma: sense.key for _, sense in Expander(glosses, lesk).meanings(label)}
    assert chosen[lemma] == key


@needs_wordnet
@pytest.mark.parametrize("key", ["kite%1:06:99::", "nonsense", "", "zzyzx%1:06:00::", "kite%1:06:00", "kite%9:06:00::"])
def test_a_key_that_wordnet_lacks_is_said(wordnet: WordNet, key: str) -> None:
    with pytest.raises(CorpusError, match="no sense"):
        wordnet.sense_of_key(key)


@needs_wordnet
def test_first_and_cosine_choose_by_what_their_names_say(glosses: Glosses, wordnet: WordNet) -> None:
    senses = wordnet.senses("kite", "noun")
    assert Disambiguator(glosses, "first").best(senses, "flying kite") is senses[0]

    def embed(texts: list[str]) -> np.ndarray:
        return np.array([[1.0, 0.0] if i == 0 or "plaything" in text else [0.0, 1.0] for i, text in enumerate(texts)])

    assert "plaything" in Disambiguator(glosses, "cosine", embed).best(senses, "flying kite").gloss


@needs_wordnet
def test_a_build_finds_the_things_of_an_action_and_the_parts_of_the_body(glosses: Glosses, lesk: Disambiguator) -> None:
    entities = build(["playing guitar", "playing tennis", "mowing lawn"], glosses, lesk)
    by_name = {entity.name: entity for entity in entities}
    assert {"guitar", "lawn", "hand", "foot"} <= set(by_name)
    assert any("tennis" in name for name in by_name)
    assert by_name["guitar"].sense == "guitar%1:06:00::"
    assert by_name["guitar"].labels == ("playing guitar",)
    assert by_name["guitar"].description == "a stringed instrument usually having six strings"
    assert [entity for entity in entities if entity.category == "body_part"][: len(COMMON_BODY_PARTS)]
    assert {entity.sense for entity in entities} >= set(COMMON_BODY_PARTS)
    assert len({entity.name for entity in entities}) == len(entities)
    assert build(["playing guitar", "playing tennis", "mowing lawn"], glosses, lesk) == entities


@needs_wordnet
def test_what_was_suggested_comes_first_with_its_description_and_wordnets_sense(
    glosses: Glosses, lesk: Disambiguator, tmp_path: Path
) -> None:
    file = tmp_path / "answers.jsonl"
    suggested = [
        {"name": "kite", "category": "object", "description": "a light sail on a long string."},
        {"name": "kite spool", "category": "object"},
        {"name": "pulling", "category": "motion"},
    ]
    file.write_text(json.dumps({"label": "flying kite", "entities": suggested}) + "\n")
    entities = {entity.name: entity for entity in build(["flying kite"], glosses, lesk, suggestions=Answers(file))}
    assert entities["kite"].sense == "kite%1:06:00::"
    assert entities["kite"].description == "a light sail on a long string."
    assert entities["kite spool"].sense == ""
    assert entities["pulling"].sense.startswith("pull%2:")


def test_the_same_meaning_is_kept_once_with_the_other_name_as_an_alias() -> None:
    sofa = Entity("sofa", "object", labels=("a", "b"))
    couch, lamp = Entity("couch", "object", labels=("c",)), Entity("lamp", "object")

    def embed(texts: list[str]) -> np.ndarray:
        return np.eye(2)[[int(text == "lamp") for text in texts]]

    found = without_same_meaning([couch, lamp, sofa], embed)
    assert found == [lamp, Entity("sofa", "object", aliases=("couch",), labels=("a", "b", "c"))]


def test_a_description_is_a_short_statement() -> None:
    assert short("a club (used in baseball) of wood; heavier at one end") == "a club of wood"
    assert short("a bat; made of wood") == "a bat; made of wood"
    assert len(short("word " * 100)) <= 160


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        ("run", "running"),
        ("throw", "throwing"),
        ("tie", "tying"),
        ("dye", "dyeing"),
        ("carve", "carving"),
        ("clean", "cleaning"),
        ("shake hands", "shaking hands"),
        ("skydiving", "skydiving"),
        ("sing", "singing"),
    ],
)
def test_motions_are_named_by_gerunds(verb: str, name: str) -> None:
    assert gerund(verb) == name


def test_corrections_change_drop_join_and_add(tmp_path: Path) -> None:
    file = tmp_path / "corrections.jsonl"
    lines = [
        {"entity": "mere", "name": "pond", "category": "scene"},
        {"entity": "bier", "drop": "not of hands"},
        {"entity": "couch", "into": "sofa"},
        {"entity": "gone", "drop": "there is none"},
        {"add": "referee", "category": "object", "description": "a person with a whistle", "labels": ["boxing"]},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    built = [
        Entity("mere", "object", source="wordnet"),
        Entity("bier", "object"),
        Entity("couch", "object", labels=("a",)),
        Entity("sofa", "object", labels=("b",)),
    ]
    found, unused = corrected(built, read_corrections(file))
    assert [(entity.name, entity.category, entity.labels) for entity in found] == [
        ("referee", "object", ("boxing",)),
        ("sofa", "object", ("a", "b")),
        ("pond", "scene", ()),
    ]
    assert unused == ["line 4: there is no entity 'gone'"]


def test_an_entity_that_cannot_be_joined_stays() -> None:
    kept, unused = corrected([Entity("couch", "object")], [(1, {"entity": "couch", "into": "sofa"})])
    assert [entity.name for entity in kept] == ["couch"]
    assert unused == ["line 1: there is no entity 'sofa' to join 'couch' to"]


@needs_wordnet
def test_one_word_in_two_categories_gives_two_entities(glosses: Glosses, lesk: Disambiguator, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    entries = [{"name": "qwxz", "category": category} for category in ("object", "scene")]
    file.write_text(json.dumps({"label": "a", "entities": entries}) + "\n")
    found = [entity for entity in build(["a"], glosses, lesk, suggestions=Answers(file)) if "qwxz" in entity.name]
    assert sorted(entity.name for entity in found) == ["qwxz", "qwxz (scene)"]
    assert {entity.category for entity in found} == {"object", "scene"}


@needs_wordnet
@pytest.mark.slow
def test_building_again_gives_the_corpus_that_ships(glosses: Glosses, lesk: Disambiguator, tmp_path: Path) -> None:
    corpus = Path(__file__).parents[1] / "corpus"
    files = sorted((corpus / "labels").glob("*.txt"))
    labels = list(dict.fromkeys(label for file in files for label in read_labels(str(file))))
    answers = Answers(corpus / "answers.jsonl")
    built = build(labels, glosses, lesk, suggestions=answers, options=BuildOptions(per_label=0))
    entities, unused = corrected(built, read_corrections(corpus / "corrections.jsonl"))
    assert unused == []
    write_corpus(Corpus(tuple(entities), "built"), tmp_path / "built.jsonl")
    assert (tmp_path / "built.jsonl").read_bytes() == (corpus / "entities.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1"),
        ('{"entity": "a", "colour": "red"}', "unknown colour"),
        ('{"drop": "why"}', "`entity`"),
        ('{"entity": "a", "add": "b"}', "`entity`"),
        ('{"add": "b"}', "unknown category ''"),
    ],
)
def test_bad_corrections_are_named_by_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "corrections.jsonl"
    file.write_text(line)
    with pytest.raises(CorpusError, match=message):
        read_corrections(file)


def test_without_wordnet_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    open_wordnet.cache_clear()
    try:
        with pytest.raises(CorpusError, match="apt-get install wordnet-base wordnet-sense-index"):
            open_wordnet()
    finally:
        open_wordnet.cache_clear()
