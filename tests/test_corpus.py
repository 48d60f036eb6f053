"""The shipped corpus keeps its promises, and the loader names every bad line."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from alt_ray.corpus.entities import CATEGORIES, Corpus, Entity, entity_text, read_templates
from alt_ray.corpus.files import default_corpus_path, load_corpus
from alt_ray.errors import CorpusError

CUP = Entity("cup", "object", "a small open container with a handle.", ("mug",), "test")
KICKING = Entity("kicking", "motion", "one leg swings out quickly.")


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def error_of(path: str) -> str:
    with pytest.raises(CorpusError) as caught:
        load_corpus(path)
    return str(caught.value)


def test_shipped_corpus_is_large_and_covers_every_category() -> None:
    corpus = load_corpus()
    assert len(corpus) >= 1200
    assert {category: len(entities) >= 20 for category, entities in corpus.by_category().items()} == dict.fromkeys(
        CATEGORIES, True
    )
    assert load_corpus("default") == corpus


def test_shipped_names_are_lower_case_and_no_alias_is_the_name_of_another() -> None:
    corpus = load_corpus()
    names = {entity.name for entity in corpus.entities}
    assert all(name == name.lower().strip() for name in names)
    assert not [alias for entity in corpus.entities for alias in entity.aliases if alias in names]


def test_shipped_descriptions_are_one_sentence_of_4_to_30_words() -> None:
    for entity in load_corpus().entities:
        assert 4 <= len(entity.description.split()) <= 30, entity
        assert re.fullmatch(r"[^.!?\s][^.!?\n]*\.", entity.description), entity
        assert entity.source


def test_shipped_descriptions_are_of_one_entity_each_and_say_where_it_comes_from() -> None:
    entities = load_corpus().entities
    assert len({entity.description for entity in entities}) == len(entities)
    assert all(entity.labels or entity.category == "body_part" for entity in entities)


def test_shipped_lines_are_sorted_by_category_and_name() -> None:
    keys = [(CATEGORIES.index(entity.category), entity.name) for entity in load_corpus().entities]
    assert keys == sorted(keys)


def test_sources_page_states_the_counts_and_the_digest_of_the_file() -> None:
    file = default_corpus_path()
    page = (file.parent / "SOURCES.md").read_text(encoding="utf-8")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page
    corpus = load_corpus()
    stated = {name: int(count) for name, count in re.findall(r"^\| (\w+) \| (\d+) \|$", page, re.MULTILINE)}
    actual = {category: len(entities) for category, entities in corpus.by_category().items()}
    assert stated == {**actual, "all": len(corpus)}


def test_text_is_name_and_description_or_the_name_alone() -> None:
    assert entity_text(CUP) == "cup, a small open container with a handle."
    assert entity_text(Entity("cup", "object")) == "cup"
    assert Corpus((CUP, KICKING), "test").texts() == [entity_text(CUP), entity_text(KICKING)]


def test_digest_changes_with_what_is_embedded_and_with_nothing_else() -> None:
    digest = Corpus((CUP, KICKING), "test").digest
    # Spelled out: checkpoints store this value, so it must not move between versions or machines.
    content = (
        '[["cup","object","a small open container with a handle."],["kicking","motion","one leg swings out quickly."]]'
    )
    assert digest == "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    assert Corpus((replace(CUP, aliases=(), source="else"), KICKING), "other").digest == digest
    for other in (
        (KICKING, CUP),
        (CUP,),
        (replace(CUP, name="mug"), KICKING),
        (replace(CUP, category="scene"), KICKING),
        (replace(CUP, description="a mug."), KICKING),
    ):
        assert Corpus(other, "test").digest != digest


def test_jsonl_and_csv_with_the_same_entities_are_the_same_corpus(tmp_path: Path) -> None:
    rows = [vars(CUP), vars(KICKING)]
    jsonl = write(tmp_path, "a.jsonl", "\n\n".join(json.dumps(row) for row in rows))
    csv = write(
        tmp_path,
        "a.csv",
        "Name,category,description,aliases,source\r\n\r\n"
        "cup, object ,a small open container with a handle.,mug;,test\r\n"
        "kicking,motion,one leg swings out quickly.\r\n",
    )
    assert load_corpus(jsonl).entities == load_corpus(csv).entities == (CUP, KICKING)


def test_plain_text_gives_one_object_a_line_and_a_byte_order_mark_is_no_part_of_it(tmp_path: Path) -> None:
    corpus = load_corpus(write(tmp_path, "a.txt", "\ufeffcup\r\n\r\n  écharpe, rouge  \n"))
    assert corpus.entities == (Entity("cup", "object"), Entity("écharpe, rouge", "object"))


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_byte_order_mark_is_accepted(tmp_path: Path, ending: str) -> None:
    content = {"jsonl": '{"name": "cup", "category": "object"}', "csv": "name,category\ncup,object"}[ending]
    assert load_corpus(write(tmp_path, f"a.{ending}", "\ufeff" + content)).entities == (Entity("cup", "object"),)


def test_line_separators_inside_a_json_string_do_not_split_it(tmp_path: Path) -> None:
    line = '{"name": "cup", "category": "object", "description": "a\u2028b"}'
    assert load_corpus(write(tmp_path, "a.jsonl", line)).entities[0].description == "a\u2028b"


def test_all_bad_lines_are_reported_together_by_number(tmp_path: Path) -> None:
    lines = [
        '{"name": "cup", "category": "object"}',
        "{oops",
        "",
        '{"category": "object"}',
        '{"name": "dog", "category": "animal"}',
        '{"name": "CUP", "category": "scene"}',
        '["cup"]',
        '{"name": 7, "category": "object"}',
        '{"name": "pen", "category": "object", "aliases": "pencil"}',
        '{"name": "pen", "category": ["object"], "description": null}',
    ]
    message = error_of(write(tmp_path, "a.jsonl", "\n".join(lines)))
    assert "a.jsonl: 8 bad lines" in message
    assert [int(number) for number in re.findall(r"^  line (\d+):", message, re.MULTILINE)] == [2, 4, 5, 6, 7, 8, 9, 10]
    assert "line 5: unknown category 'animal' of 'dog'; expected body_part, object, scene, motion" in message
    assert "line 6: the name 'CUP' is already used in line 1" in message


def test_csv_errors_name_the_line_on_which_the_row_starts(tmp_path: Path) -> None:
    content = 'name,category,description\ncup,object,"two\nlines"\ndog,animal,x\na,object,b,c\n,object\n"open'
    message = error_of(write(tmp_path, "a.csv", content))
    assert [int(number) for number in re.findall(r"^  line (\d+):", message, re.MULTILINE)] == [4, 5, 6, 7]


def test_csv_without_the_expected_header_is_refused(tmp_path: Path) -> None:
    assert "expected name,category" in error_of(write(tmp_path, "a.csv", "cup,object\ndog,object\n"))


def test_many_bad_lines_are_counted_not_all_listed(tmp_path: Path) -> None:
    message = error_of(write(tmp_path, "a.jsonl", "{\n" * 25))
    assert "25 bad lines" in message
    assert message.count("line ") == 10
    assert message.endswith("and 15 more")


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_empty_corpus_is_refused(tmp_path: Path, name: str) -> None:
    assert "empty" in error_of(write(tmp_path, name, "\n  \n"))


def test_files_that_are_no_text_of_a_known_kind_are_refused_by_name(tmp_path: Path) -> None:
    assert "missing.jsonl" in error_of(str(tmp_path / "missing.jsonl"))
    assert "'.parquet'" in error_of(write(tmp_path, "a.parquet", b"PAR1"))
    assert "a.txt, line 2: not UTF-8" in error_of(write(tmp_path, "a.txt", b"cup\n\xff\xfe\n"))


def test_corpus_made_in_code_is_checked_too() -> None:
    with pytest.raises(CorpusError, match="empty"):
        Corpus((), "test")
    with pytest.raises(CorpusError, match="'Cup' is used twice"):
        Corpus((CUP, replace(CUP, name="Cup")), "test")
    with pytest.raises(CorpusError, match="expected body_part, object, scene, motion"):
        Entity("cup", "Object")


def test_templates_go_around_the_names_of_their_category_and_change_the_digest(tmp_path: Path) -> None:
    plain = Corpus((CUP, KICKING), "test")
    corpus = replace(plain, templates=read_templates(["object=a photo of a {}"]))
    assert corpus.texts() == ["a photo of a cup, a small open container with a handle.", plain.texts()[1]]
    assert corpus.digest != plain.digest
    assert replace(plain, templates={}).digest == plain.digest
    file = write(tmp_path, "corpus.txt", "cup\n")
    assert load_corpus(file, {"object": "one {}"}).texts() == ["one cup"]


@pytest.mark.parametrize("text", ["object", "sound=a {}", "object=a photo", "object={} and {}"])
def test_a_bad_template_is_refused(text: str) -> None:
    with pytest.raises(CorpusError, match="CATEGORY=TEXT"):
        read_templates([text])
