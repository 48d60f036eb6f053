"""`alt-ray train` and `evaluate` as a user runs them: alone, on Ray's workers, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alt_ray.cli import main
from alt_ray.config import OutputOptions
from alt_ray.config_train import LearningOptions, ModelOptions, TrainJobOptions
from alt_ray.engine.train import train
from alt_ray.errors import UsageError
from alt_ray.evaluation.options import ProtocolOptions
from tests.stores import pocket_record, write_store
from tests.test_label import end_what_is_left

SETTINGS = ["--epochs", "3", "--batch", "8", "--blocks", "1", "--width", "64", "--lr", "1e-3", "--muon-lr", "0"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_store(tmp_path_factory.mktemp("store"), 64, noise=2.0))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


def test_train_then_evaluate_then_label_from_what_was_trained(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run("train", store, "--out", str(out), *SETTINGS, "--json") == 0
    captured = capsys.readouterr()
    trained = json.loads(captured.out.splitlines()[-1])
    assert "recipe pocket" in captured.err.splitlines()[0]
    assert "supervised, split as given" in trained["protocol"]
    assert trained["tests"]["test"]["top_1"]["mean"] > 0.8
    assert trained["labels_in_corpus"] == ["running", "walking", "waving"]
    assert {path.name for path in out.iterdir()} >= {
        "best",
        "checkpoints",
        "metrics.json",
        "run.json",
        "confusion-test.png",
    }

    assert run("evaluate", store, "--adapter", str(out / "best"), "--json") == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert evaluated["tests"]["test"]["top_1"] == trained["tests"]["test"]["top_1"]
    assert (Path(store) / "evaluation" / "metrics.json").exists()

    result = (out / "task.json").read_bytes()
    states = {path: path.stat().st_mtime_ns for path in out.glob("checkpoints/*/*")}
    assert run("train", store, "--out", str(out), *SETTINGS) == 0
    assert "epoch" not in capsys.readouterr().err, "what is finished was trained again"
    assert (out / "task.json").read_bytes() == result
    assert {path: path.stat().st_mtime_ns for path in out.glob("checkpoints/*/*")} == states
    assert run("train", store, "--out", str(out), *SETTINGS, "--epochs", "4") == 2
    assert "learning" in capsys.readouterr().err


def test_an_adapter_is_not_tested_on_what_it_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(write_store(tmp_path / "store", 80, splits=False))
    assert run("train", store, "--out", str(tmp_path / "run"), *SETTINGS, "--seed", "3", "--quiet") == 0
    best = str(tmp_path / "run" / "best")
    assert run("evaluate", store, "--adapter", best) == 2
    assert "--seeds 3" in capsys.readouterr().err
    assert run("evaluate", store, "--adapter", best, "--seeds", "3") == 0


def test_an_adapter_that_has_seen_all_groups_is_refused_a_test_on_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(write_store(tmp_path / "store", 40, splits=False))
    assert run("train", store, "--out", str(tmp_path / "run"), *SETTINGS, "--leave-one-group-out", "--quiet") == 0
    best = next((tmp_path / "run").glob("group-*")) / "best"
    assert run("evaluate", store, "--adapter", str(best)) == 2
    assert "--leave-one-group-out" in capsys.readouterr().err
    assert run("evaluate", str(write_store(tmp_path / "third", 44, splits=False)), "--adapter", str(best)) == 0


def test_weights_other_than_the_stores_embed_no_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(write_store(tmp_path / "store", 16, pocket_record(weights_digest="sha256:other")))
    assert run("train", store, "--out", str(tmp_path / "run"), *SETTINGS) == 2
    assert "weights_digest mismatch" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_an_adapter_of_another_encoder_is_refused_by_name(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(write_store(tmp_path / "store", 16, pocket_record(weights_digest="sha256:other")))
    assert run("evaluate", other, "--adapter", "pocket") == 2
    assert "weights_digest mismatch" in capsys.readouterr().err


def test_frozen_clip_is_evaluated_without_an_adapter(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--adapter", "none", "--protocol", "zero-shot", "--out", str(tmp_path), "--json"]
    assert run("evaluate", store, *arguments) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["method"].startswith("frozen CLIP")
    assert found["tests"]["test"]["num_labels"] == 4


def test_what_a_cluster_cannot_hold_is_said_at_once(store: str, tmp_path: Path, ray_here: None) -> None:
    options = TrainJobOptions(
        source=store, out=str(tmp_path), workers=3, cpus_per_worker=64, output=OutputOptions(quiet=True)
    )
    with pytest.raises(UsageError, match=r"3 workers of 64 CPUs do not fit"):
        train(options)


def options(store: str, out: Path, **learning: Any) -> TrainJobOptions:
    return TrainJobOptions(
        source=store,
        out=str(out),
        model=ModelOptions(blocks=1, width=64),
        learning=LearningOptions(**{"epochs": 3, "batch": 8, "lr": 1e-3, "warmup_epochs": 1, **learning}),
        protocol=ProtocolOptions(seeds=(0,)),
        output=OutputOptions(quiet=True),
    )


def history(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "metrics.json").read_text())["tasks"][0]["history"]


PROGRAM = """
import sys
from alt_ray.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


def start(mark: str, *arguments: str, program: str = PROGRAM) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "ALT_RAY_TEST_MARK": mark},
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_state(out: Path, process: "subprocess.Popen[str]", count: int = 1) -> None:
    deadline = time.monotonic() + 300
    while len(list((out / "checkpoints").glob("epoch-*"))) < count and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)
    assert list((out / "checkpoints").glob("epoch-*")), "no state was written in time"


@pytest.mark.slow
def test_a_killed_driver_goes_on_and_ends_where_it_would_have_ended(store: str, tmp_path: Path, mark: str) -> None:
    long = [*SETTINGS, "--epochs", "40", "--quiet"]
    process = start(mark, "train", store, "--out", str(tmp_path / "killed"), *long)
    wait_for_state(tmp_path / "killed", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    for name in ("killed", "whole"):
        assert run("train", store, "--out", str(tmp_path / name), *long) == 0
    killed, whole = ([e["loss"] for e in history(tmp_path / name)] for name in ("killed", "whole"))
    assert killed == pytest.approx(whole, rel=1e-3)  # with another number of threads, sums are rounded differently


FULL = """
import resource, sys
from alt_ray.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))  # as on a full disk, writes fail
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_full_disk_is_said_and_costs_nothing_that_was_there(store: str, tmp_path: Path, mark: str) -> None:
    process = start(mark, "train", store, "--out", str(tmp_path / "run"), *SETTINGS, "--quiet", program=FULL)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1, said
    assert "can't be written" in said
    assert "Traceback" not in said
    assert run("train", store, "--out", str(tmp_path / "run"), *SETTINGS, "--quiet") == 0


WORKERS = """
import sys
from pathlib import Path
from dataclasses import replace
from tests.test_train import options
from alt_ray.engine.train import train
train(replace(options(sys.argv[1], Path(sys.argv[2]), epochs=int(sys.argv[3])), workers=2))
"""


def workers_of(mark: str) -> list[int]:
    """The training workers of a driver, by what Ray calls them."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            is_ours = (
                folder.name.isdigit() and f"ALT_RAY_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes()
            )
            if is_ours and b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_its_epoch_alone(store: str, tmp_path: Path, mark: str) -> None:
    out = tmp_path / "run"
    process = start(mark, store, str(out), "40", program=WORKERS)
    wait_for_state(out, process, count=2)
    workers = workers_of(mark)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert [entry["epoch"] for entry in history(out)] == list(range(1, 41))
    epochs = [json.loads(line).get("epoch") for line in (out / "progress.jsonl").read_text().splitlines()]
    assert [epoch for epoch in epochs if epoch] == sorted(epoch for epoch in epochs if epoch)
