"""`train` and `evaluate` on videos: what is wrong is said before any is decoded, and failures count as those of `encode` do."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from alt_ray.features.store import FeatureStore
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from tests.stores import write_store
from tests.test_train import SETTINGS, run

LABELS = ("walking", "running")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A manifest of videos that do not exist: whoever opens one has begun too early."""
    manifest = tmp_path_factory.mktemp("unseen") / "manifest.csv"
    rows = [f"no/v{i}.mp4,{LABELS[i % 2]},{'test' if i % 5 == 4 else 'train'}" for i in range(20)]
    manifest.write_text("\n".join(["path,label,split", *rows]))
    return str(manifest)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--lr", "-1"], "--lr must be above 0"),
        (["--batch", "2", "--accumulate", "4"], "--batch 2 can't be shared"),
        (["--temperature", "0"], "temperature 0.0"),
        (["--width", "63"], "num_heads"),
        (["--template", "no place"], "template 'no place'"),
        (["--corpus", "missing.jsonl"], "missing.jsonl"),
        (["--labels", "missing.txt,"], "missing.txt"),
        (["--labels", "swimming,diving"], "no clip has"),
        (["--protocol", "few-shot", "--shot-list", "missing.txt"], "missing.txt"),
        (["--leave-one-group-out"], "group"),
        (["--root", "elsewhere", "--limit", "1"], "2 labels"),
        (["--adapter", "missing"], "missing"),
        (["--encoder", "ViT-B-16"], "has no weights"),
    ],
)
def test_what_is_wrong_of_a_training_is_said_before_a_video_is_opened(
    unseen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "run"
    assert run("train", unseen, "--out", str(out), *SETTINGS, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not (out / "features").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "OUT", "--labels", "swimming,diving"], "no clip has"),
        (["--out", "OUT", "--leave-one-group-out"], "--leave-one-group-out"),
        (["--out", "OUT", "--corpus", "missing.jsonl"], "missing.jsonl"),
        (["--out", "OUT", "--template", "no place"], "template 'no place'"),
        (["--out", "OUT", "--adapter", "missing"], "missing"),
        (["--out", "OUT", "--adapter", "none"], "name an encoder"),
        (["--out", "OUT", "--merge-r", "2"], "--merge-r can't be chosen with the adapter"),
        (["--out", "OUT", "--temperature", "0"], "temperature 0.0"),
        ([], "--out DIR"),
    ],
)
def test_what_is_wrong_of_an_evaluation_is_said_before_a_video_is_opened(
    unseen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    out = tmp_path / "out"
    assert run("evaluate", unseen, *(str(out) if word == "OUT" else word for word in arguments)) == 2
    assert said in capsys.readouterr().err
    assert not (out / "features").exists()
    assert not (Path(unseen).parent / "evaluation").exists()


def test_options_that_choose_videos_are_said_to_do_nothing_of_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(write_store(tmp_path / "store", 32))
    assert run("evaluate", store, "--adapter", "none", "--protocol", "zero-shot", "--limit", "2", "--root", "x") == 0
    assert "--root and --limit choose videos to encode" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    store = str(write_store(tmp_path / "store", 8))
    assert run("evaluate", store, "--device", "cuda") == 2
    assert "torch sees no GPU" in capsys.readouterr().err


@pytest.mark.slow
def test_videos_are_encoded_once_and_failures_count_before_training_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_here: None
) -> None:
    manifest = write_archive(tmp_path / "videos", 24, ArchiveOptions(seed=912_000))
    rows = [{**row, "label": LABELS[i % 2]} for i, row in enumerate(pa.csv.read_csv(manifest).to_pylist())]
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    rows.insert(3, {**rows[0], "path": "broken.mp4"})
    given = tmp_path / "given.csv"
    pa.csv.write_csv(pa.Table.from_pylist(rows), given)
    out = tmp_path / "run"
    command = ["train", str(given), "--out", str(out), *SETTINGS, "--root", str(tmp_path / "videos"), "--limit", "24"]

    assert run(*command, "--max-failed", "0") == 1
    said = capsys.readouterr().err
    assert f"23 of 24 videos are encoded in {out / 'features'}, 1 failed" in said
    assert "1 of 24 inputs failed, more than --max-failed 0 allows" in said
    assert FeatureStore(str(out / "features")).clips().num_rows == 23
    assert not (out / "run.json").exists()

    assert run(*command) == 0
    record = json.loads((out / "features" / "run.json").read_text())
    assert (record["summary"]["already_done"], record["summary"]["failed_before"]) == (24, 1)
    assert json.loads((out / "metrics.json").read_text())["tests"]["test"]
    capsys.readouterr()

    # What a training was begun with is not changed under it, and that is known before anything is decoded.
    assert run(*command[:-1], "25") == 2
    assert "1 videos are not in" in capsys.readouterr().err
    rows[1]["label"] = LABELS[0]
    pa.csv.write_csv(pa.Table.from_pylist(rows), given)
    assert run(*command) == 2
    assert "1 have another label" in capsys.readouterr().err
    assert not (out / "features" / "annotations").exists()

    # Evaluated are the same videos, encoded as the adapter's encoder does it, with what the manifest says now.
    results = tmp_path / "results"
    test = ["evaluate", *command[1:2], "--adapter", str(out / "best"), "--out", str(results), *command[-4:], "--json"]
    for already_done in (0, 24):
        assert run(*test) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["tests"]["test"]["num_labels"] == 2
        summary = json.loads((results / "features" / "run.json").read_text())["summary"]
        assert summary["already_done"] == already_done
    trained, tested = FeatureStore(str(out / "features")), FeatureStore(str(results / "features"))
    assert tested.record == trained.record
    assert json.loads((results / "metrics.json").read_text())["tests"]["test"]
