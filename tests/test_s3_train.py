"""Trainings whose features and results are on a real S3 server: no disk is shared, and what is killed goes on."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3 import BUCKET, Server
from tests.stores import write_store
from tests.test_label import end_what_is_left
from tests.test_train import SETTINGS, run, start, workers_of
from tests.test_waiting import wait_until


@pytest.fixture(scope="module")
def store(s3: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    return s3.upload(write_store(tmp_path_factory.mktemp("store"), 64, noise=2.0), "store")


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


def history(s3: Server, prefix: str) -> list[dict[str, Any]]:
    return json.loads(s3.read(f"{prefix}/metrics.json"))["tasks"][0]["history"]


def states(s3: Server, prefix: str) -> list[str]:
    return [name for name in s3.names(prefix) if name.endswith("/progress.json")]


def test_train_then_evaluate_with_everything_on_the_server(
    s3: Server, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALT_RAY_CACHE", str(tmp_path / "cache"))
    out = f"s3://{BUCKET}/trained{s3.options}"
    tracking = ["--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert run("train", store, "--out", out, *SETTINGS, *tracking, "--json") == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert trained["tests"]["test"]["top_1"]["mean"] > 0.8
    names = s3.names("trained")
    assert {name.split("/")[0] for name in names} >= {
        *("best", "checkpoints", "metrics.json", "run.json", "task.json", "confusion-test.png"),
    }
    assert not [name for name in names if "lease" in name or "mlflow" in name]
    assert json.loads(s3.read("trained/run.json"))["status"] == "done"

    best = f"s3://{BUCKET}/trained/best"
    assert run("evaluate", store, "--adapter", best, "--json") == 0
    evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert evaluated["tests"]["test"]["top_1"] == trained["tests"]["test"]["top_1"]
    assert "evaluation/metrics.json" in s3.names("store")

    before = {name: s3.read(f"trained/{name}") for name in names if "checkpoints" in name or name == "task.json"}
    assert run("train", store, "--out", out, *SETTINGS, "--quiet") == 0
    assert {name: s3.read(f"trained/{name}") for name in before} == before
    assert run("train", store, "--out", out, *SETTINGS, "--epochs", "4") == 2
    assert "learning" in capsys.readouterr().err


ALONE = """
import sys
import alt_ray.remote.lease as lease
from alt_ray.cli import main
lease.BEAT_S, lease.LIMIT_S = 0.5, 8.0
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_training_goes_on_on_another_machine(s3: Server, store: str, mark: str) -> None:
    """Nothing but the bucket is left of the first one, as where another machine takes over."""
    long = [*SETTINGS, "--epochs", "15", "--quiet"]
    process = start(mark, "train", store, "--out", f"s3://{BUCKET}/killed-run", *long, program=ALONE)
    wait_until(lambda: len(states(s3, "killed-run")) > 1 or process.poll() is not None)
    assert process.poll() is None, process.stderr and process.stderr.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    assert "metrics.json" not in s3.names("killed-run")
    (epoch, *_) = sorted(states(s3, "killed-run"), reverse=True)
    for name in ("killed-run", "whole-run"):
        process = start(mark, "train", store, "--out", f"s3://{BUCKET}/{name}", *long, program=ALONE)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert [entry["epoch"] for entry in history(s3, "killed-run")] == list(range(1, 16))
    killed, whole = ([e["loss"] for e in history(s3, name)] for name in ("killed-run", "whole-run"))
    assert killed == pytest.approx(whole, rel=1e-3)
    assert epoch > "checkpoints/epoch-0001"


TOGETHER = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.test_train import options
from alt_ray.engine.train import train
made = replace(options(sys.argv[1], Path(), epochs=int(sys.argv[3])), workers=2, out=sys.argv[2])
train(made)
"""


@pytest.mark.slow
def test_a_killed_worker_costs_its_epoch_alone_without_a_shared_disk(s3: Server, store: str, mark: str) -> None:
    process = start(mark, store, f"s3://{BUCKET}/together", "15", program=TOGETHER)
    wait_until(lambda: len(states(s3, "together")) > 1 or process.poll() is not None)
    assert process.poll() is None, process.stderr and process.stderr.read()
    owner = s3.read("together/.owner")
    os.kill(workers_of(mark)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert s3.read("together/.owner") != owner, "it ended before it lost a worker"
    assert [entry["epoch"] for entry in history(s3, "together")] == list(range(1, 16))
    epochs = [json.loads(line).get("epoch") for line in s3.read("together/progress.jsonl").decode().splitlines()]
    told = [epoch for epoch in epochs if epoch]  # one that was said before its state was sent is said again
    assert told == sorted(told)
    assert set(told) == set(range(1, 16))
