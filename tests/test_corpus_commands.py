"""`alt-ray corpus build | check | show | stats`, run in this process as the command line runs them."""

import json
from pathlib import Path

import pytest

from alt_ray.cli import main
from alt_ray.corpus.files import load_corpus
from alt_ray.corpus.labels import read_labels
from alt_ray.corpus.wordnet import has_wordnet
from alt_ray.words import split_camel_case

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "labels"
needs_wordnet = pytest.mark.skipif(not has_wordnet(), reason="WordNet's files are missing")


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["corpus", *argv])
    return int(ended.value.code or 0)


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.jsonl"
    entries = [
        {
            "name": "rope",
            "category": "object",
            "description": "a thick cord.",
            "labels": ["abseiling", "rope climbing"],
        },
        {"name": "cliff", "category": "scene", "description": "a wall of rock.", "labels": ["abseiling"]},
    ]
    file.write_text("\n".join(map(json.dumps, entries)))
    return str(file)


@needs_wordnet
def test_build_writes_a_corpus_that_the_other_commands_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, out = tmp_path / "labels.txt", tmp_path / "corpus" / "mine.jsonl"
    labels.write_text("playing guitar\nmowing lawn\nzzyzx\n")
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        json.dumps({"label": "zzyzx", "entities": [{"name": "desert road", "category": "scene"}]}) + "\n"
    )
    assert run("build", "--labels", str(labels), "--answers", str(answers), "--out", str(out), "--json") == 0
    said = capsys.readouterr()
    summary = json.loads(said.out.splitlines()[-1])
    corpus = load_corpus(out)
    assert summary == {"entities": len(corpus), "labels": 3, "coverage": summary["coverage"], "digest": corpus.digest}
    assert "zzyzx" in said.err  # it has one entity, of one category
    assert {"guitar", "lawn", "desert road"} <= {entity.name for entity in corpus.entities}

    assert run("show", "--label", "PlayingGuitar", "--corpus", str(out)) == 0
    assert "guitar: a stringed instrument" in capsys.readouterr().out
    # "desert road" has no description, and the command says so.
    assert run("check", str(out)) == 1
    assert "desert road: the description is empty" in capsys.readouterr().out


def test_check_is_silent_about_nothing(small: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("check", small) == 0
    assert "2 entities, 0 problems" in capsys.readouterr().out
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"name": "x", "category": "sound"}\n')
    assert run("check", str(bad)) == 2
    assert "line 1" in capsys.readouterr().err


def test_show_and_stats_go_by_where_entities_come_from(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "--label", "Abseiling", "--corpus", small, "--json") == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["entities"]
    assert rows == [{"name": "rope", "category": "object"}, {"name": "cliff", "category": "scene"}]
    assert run("stats", small, "--labels", "abseiling,rope climbing,rowing", "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["entities"]["object"] == 1
    assert found["labels"]["abseiling,rope climbing,rowing"]["coverage"] == 0


def test_with_an_encoder_they_go_by_cosines(capsys: pytest.CaptureFixture[str]) -> None:
    pocket = str(ROOT / "corpus" / "pocket.jsonl")
    assert (
        run("show", "--label", "playing guitar", "--corpus", pocket, "--encoder", "pocket", "--count", "3", "--json")
        == 0
    )
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["entities"]
    assert "guitar" in [row["name"] for row in rows]
    assert rows[0]["cosine"] >= rows[1]["cosine"] >= rows[2]["cosine"]
    labels = "playing guitar,kicking a ball"
    assert run("stats", pocket, "--labels", labels, "--encoder", "pocket", "--within", "-1", "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["labels"][labels]
    assert found["coverage"] == 1
    assert found["sharing_all"] == [labels.split(",")]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no action"),
        (["mend"], "no action 'mend'"),
        (["build", "--labels", "a,b", "--out", "x.csv"], "written as .jsonl"),
        (["build", "--labels", "a,b", "--out", "x.jsonl", "--method", "cosine"], "name an --encoder"),
        (["build", "--labels", "a,b", "--out", "x.jsonl", "--answers", "missing.jsonl"], "no such file"),
        (["show", "--label", "a", "--encoder", "ViT-B-32"], "has no weights"),
        (["check", "missing.jsonl"], "can't be read"),
    ],
)
def test_wrong_usage_says_what_would_be_right(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not SHARED.is_dir(), reason="the lists to compare with are not here")
@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("ucf101", "ucf101_label_map.txt", 101),
        ("hmdb51", "hmdb51_label_map.txt", 51),
        ("kinetics400", "kinetics_label_map_k400.txt", 400),
        ("kinetics600", "kinetics_label_map_k600.txt", 600),
    ],
)
def test_our_label_lists_are_the_fields(name: str, file: str, count: int) -> None:
    ours = read_labels(str(ROOT / "corpus" / "labels" / f"{name}.txt"))
    theirs = [split_camel_case(line.strip()) for line in (SHARED / file).read_text().splitlines() if line.strip()]
    assert list(ours) == theirs
    assert len(ours) == count


def test_what_ships_covers_the_labels_of_the_field_and_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "default") == 0
    files = [str(file) for file in sorted((ROOT / "corpus" / "labels").glob("*.txt"))]
    assert len(files) == 5
    assert run("stats", "--labels", *files, "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sum(found["entities"].values()) >= 1200
    assert all(entry["coverage"] >= 0.98 for entry in found["labels"].values())
