"""A search whose features and results are on a real S3 server: killed, and gone on with from the bucket alone."""

import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.s3 import BUCKET, Server
from tests.stores import write_store
from tests.test_label import end_what_is_left
from tests.test_s3_train import ALONE
from tests.test_train import run, start
from tests.test_tune import SCHEDULES, merged_record
from tests.test_waiting import wait_until

SMALL = [
    "--epochs",
    "6",
    "--batch",
    "8",
    "--blocks",
    "1",
    "--width",
    "64",
    "--lr",
    "1e-3",
    "--muon-lr",
    "0",
    "--no-asha",
]


@pytest.fixture(scope="module")
def stores(s3: Server, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stores")
    return [
        s3.upload(write_store(folder / name, 48, merged_record(name), noise=2.0), f"arms/{name}") for name in SCHEDULES
    ]


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


def ended(s3: Server, file: str) -> dict[str, bytes]:
    names = s3.names("search")
    return {name: s3.read(f"search/{name}") for name in names if name.startswith("trials/") and name.endswith(file)}


@pytest.mark.slow
def test_a_killed_search_goes_on_and_trains_no_finished_trial_again(
    s3: Server, stores: list[str], mark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["tune", *stores, "--out", f"s3://{BUCKET}/search", "--trials", "4", "--final-seeds", "0", *SMALL]
    process = start(mark, *command, "--quiet", program=ALONE)
    wait_until(lambda: len(ended(s3, "/trial.json")) >= 1 or process.poll() is not None)
    assert process.poll() is None, process.stderr and process.stderr.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    end_what_is_left(mark)
    trained = ended(s3, "/task.json")
    assert 1 <= len(ended(s3, "/trial.json")) < 4, "the search was over before it could be killed"
    assert "metrics.json" not in s3.names("search")

    process = start(mark, *command, "--quiet", program=ALONE)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert len(ended(s3, "/trial.json")) == 4
    after = ended(s3, "/task.json")
    assert {name: after[name] for name in trained} == trained
    found = json.loads(s3.read("search/metrics.json"))
    assert found["trials"]["finished"] == 4
    assert found["out"] == f"s3://{BUCKET}/search"
    names = s3.names("search")
    assert {"best/adapter.safetensors", "report.html", "trials.csv", "plots/learning-curves.png"} <= set(names)
    assert not [name for name in names if "checkpoints/" in name or "lease" in name]
    assert json.loads(s3.read("search/run.json"))["status"] == "done"
    # The best adapter is one of these stores' and fits no other.
    best = f"s3://{BUCKET}/search/best"
    assert {run("evaluate", store, "--adapter", best, "--quiet") for store in stores} == {0, 2}


def test_pocket_videos_are_not_drawn_into_a_bucket(s3: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tune", "--sweep", "merge-ratio", "--out", f"s3://{BUCKET}/sweep") == 2
    assert "name videos" in capsys.readouterr().err
