"""Jobs on three machines of which one is lost and replaced half way: the work is spread, and every input is done once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest

from alt_ray.cli import UNSAID
from alt_ray.evaluation.trials import read_trial
from tests.media import tiny_clip, write_video
from tests.stores import write_store
from tests.test_label import end_what_is_left
from tests.test_train import SETTINGS

NUM_VIDEOS = 72


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


def run_while_machines_change(folder: Path, mark: str, published: str, *arguments: str) -> str:
    """Run a command as tests/nodes.py does, and return the id of the machine that came."""
    gate = folder / "go"
    gates = {"ALT_RAY_TEST_MARK": mark, "ALT_RAY_TEST_GATE": str(gate), "RAY_DEDUP_LOGS_SKIP_REGEX": UNSAID}
    process = subprocess.run(
        [sys.executable, "-m", "tests.nodes", str(gate), published, *arguments],
        env={**os.environ, **gates},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "a machine is lost: " in process.stderr
    assert "a machine has come: " in process.stderr
    assert len(process.stdout.splitlines()) == 1, process.stdout  # Ray says nothing there
    return next(line.removeprefix("came: ") for line in process.stdout.splitlines() if line.startswith("came: "))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["label", "encode"])
def test_a_lost_machine_costs_nothing_and_a_new_one_takes_its_share(tmp_path: Path, mark: str, command: str) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    # encode mixes its inputs, always in the same way: those that come last are gated.
    order = np.random.default_rng(0).permutation(NUM_VIDEOS + 1) if command == "encode" else np.arange(NUM_VIDEOS + 1)
    for position, i in enumerate(order):
        gated = "gated" if position > NUM_VIDEOS // 2 else ""
        write_video(videos / f"{i:02}{gated}.mp4", num_frames=10)
    next(videos.glob("00*")).write_bytes(b"no video")
    results = "labels" if command == "label" else "regions"
    arguments = [command, str(videos), "--out", str(out), "--encoder", tiny_clip(tmp_path), "--pretrained", "none"]
    arguments += ["--batch-clips", "2", "--decode-limit-s", "300", "--quiet"]
    arguments += ["--labels", "walking,running"] if command == "label" else []
    new = run_while_machines_change(tmp_path, mark, f"{out / results}/*.parquet", *arguments)
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "done"
    assert record["summary"]["labelled"] == NUM_VIDEOS
    assert sum(record["failures"].values()) == 1
    ids = pads.dataset(out / results, format="parquet").to_table(columns=["video_id"])["video_id"].to_pylist()
    assert len(ids) == len(set(ids)) == NUM_VIDEOS
    assert sum(record["machines"].values()) == NUM_VIDEOS + 1
    assert len(record["machines"]) >= 3
    assert record["machines"][next(name for name in record["machines"] if name.endswith(new))] > 0


@pytest.mark.slow
def test_trials_of_a_lost_machine_are_run_on_others(tmp_path: Path, mark: str) -> None:
    store = str(write_store(tmp_path / "store", 48))
    # Trials that take longer than a worker takes to start: shorter ones go to workers that are there.
    arguments = ["tune", store, "--out", str(tmp_path / "out"), *SETTINGS, "--trials", "7", "--quiet"]
    arguments += ["--epochs", "200", "--search", "random", "--final-seeds", "0", "--no-asha"]
    new = run_while_machines_change(tmp_path, mark, f"{tmp_path}/out/trials/*/checkpoints/epoch-*", *arguments)
    records = [read_trial(folder) for folder in (tmp_path / "out" / "trials").iterdir()]
    assert [record.status for record in records] == ["finished"] * 7
    assert all([entry["epoch"] for entry in record.history] == list(range(1, 201)) for record in records)
    machines = {record.machine for record in records}
    assert len(machines) >= 3
    assert any(machine.endswith(new) for machine in machines), (new, machines)
