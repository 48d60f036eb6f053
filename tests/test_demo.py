"""`alt-ray demo`: the whole way from drawn videos to the page, and what is counted from it."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import alt_ray
from alt_ray.cli import main
from alt_ray.demo import MARKER, NUM_VIDEOS, prepare_folder
from alt_ray.pocket.vocabulary import SEEN_ACTIONS, UNSEEN_ACTIONS
from alt_ray.report.regions import region_map


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_the_demo_labels_its_videos_shows_them_and_can_be_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    pages = []
    for labelled, already_done in ((NUM_VIDEOS, 0), (0, NUM_VIDEOS)):
        with pytest.raises(SystemExit) as exit_:
            main(["demo", "--out", str(out), "--no-browser", "--json"])
        assert exit_.value.code == 0
        printed = capsys.readouterr()
        summary = json.loads(printed.out.splitlines()[-1])
        assert (summary["labelled"], summary["already_done"], summary["failed"]) == (labelled, already_done, 0)
        assert summary["inputs"] == NUM_VIDEOS == 60
        assert "recipe pocket" in printed.err.splitlines()[0]
        assert f"60 inputs = {labelled} labelled + 0 failed + {already_done} already done" in printed.err
        assert summary["page"] in printed.err
        pages.append(Path(summary["page"]).read_text())

    rows = {Path(row["uri"]).name: row for row in pq.read_table(out / "labels" / "labels").to_pylist()}
    with (out / "manifest.csv").open() as file:
        truth = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
    assert rows.keys() == truth.keys()
    seen = [name for name, label in truth.items() if label in SEEN_ACTIONS]
    unseen = [name for name, label in truth.items() if label in UNSEEN_ACTIONS]
    assert (len(seen), len(unseen)) == (36, 24)
    assert {truth[name] for name in seen} == set(SEEN_ACTIONS)
    assert {truth[name] for name in unseen} == set(UNSEEN_ACTIONS)
    counts = [
        sum(_best(rows[name], group) == truth[name] for name in names)
        for names, group in (
            (seen, SEEN_ACTIONS),
            (unseen, UNSEEN_ACTIONS),
            (list(truth), SEEN_ACTIONS + UNSEEN_ACTIONS),
        )
    ]
    shares = [summary[f"{name}_top1"] for name in ("seen", "unseen", "all")]
    assert shares == [counts[0] / 36, counts[1] / 24, counts[2] / 60]
    assert counts[2] == sum(row["label"] == truth[name] for name, row in rows.items())

    for page in pages:
        assert page.count("<article>") == 60
        assert len(page) < 3_000_000
        assert all(name in page for name in truth)
        for count, total in zip(counts, (36, 24, 60), strict=True):
            assert f"{count} of {total}" in page
    cards = [re.sub(r"<p class=.quiet.>60 inputs.*", "", page) for page in pages]  # the balance differs
    assert cards[0] == cards[1]
    assert max(pages[0].index(name) for name in seen) < min(pages[0].index(name) for name in unseen)
    _check_that_regions_are_those_that_were_labelled(list(rows.values())[:6])


def _best(row: dict[str, Any], labels: tuple[str, ...]) -> str:
    return next(top["label"] for top in row["top_labels"] if top["label"] in labels)  # best first


def _check_that_regions_are_those_that_were_labelled(rows: list[dict[str, Any]]) -> None:
    loaded = alt_ray.load("pocket")
    names = list(loaded.config.entity_names)
    for row in rows:
        entities = region_map(loaded.model, loaded.frames_of(row["uri"])).entity_of_patch_Thw
        shares = np.bincount(entities.ravel(), minlength=len(names)) / entities.size
        for entity in row["entities"]:
            assert entity["weight"] == pytest.approx(shares[names.index(entity["name"])], abs=0.004)


def test_the_demo_does_not_write_into_a_folder_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("")
    for out in (tmp_path, tmp_path / "precious.txt"):
        with pytest.raises(SystemExit) as exit_:
            main(["demo", "--out", str(out)])
        assert exit_.value.code == 2
        assert "not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_a_demo_with_another_model_starts_anew_and_touches_nothing_else(tmp_path: Path) -> None:
    ours = [tmp_path / "labels" / "run.json", tmp_path / "videos" / "a.mp4", tmp_path / "manifest.csv"]
    prepare_folder(tmp_path)
    for file in [*ours, tmp_path / "notes.txt"]:
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    prepare_folder(tmp_path)
    assert all(file.exists() for file in ours)  # the same model: goes on
    marker = json.loads((tmp_path / MARKER).read_text())
    (tmp_path / MARKER).write_text(json.dumps({**marker, "model": "another"}))
    prepare_folder(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [MARKER, "notes.txt"]
    assert json.loads((tmp_path / MARKER).read_text()) == marker
