"""Trainings whose machines and drivers are taken away: nothing that was learned is lost, and nothing is written twice."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alt_ray.engine.train import train
from alt_ray.training.states import FOLDER
from tests.stores import write_store
from tests.test_label import end_what_is_left
from tests.test_train import SETTINGS, WORKERS, history, options, run, start, wait_for_state, workers_of
from tests.test_waiting import wait_until


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_store(tmp_path_factory.mktemp("store"), 64, noise=2.0))


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


# A cluster of its own. When the first state is there, a machine is taken away, and another one comes.
LOST_NODE = """
import subprocess, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

out, arguments = Path(sys.argv[1]), sys.argv[2:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
command = [sys.executable, "-c", "import sys; from alt_ray.cli import main; main(sys.argv[1:])", *arguments]
driver = subprocess.Popen([*command, "--address", cluster.address])
while not list((out / "checkpoints").glob("epoch-*")):
    if driver.poll() is not None:
        sys.exit("ended without a state")
    time.sleep(0.02)
first = (out / ".owner").read_text()
cluster.remove_node(nodes[0], allow_graceful=False)
cluster.add_node(num_cpus=1)
if driver.wait():
    sys.exit("the training failed")
if (out / ".owner").read_text() == first:
    sys.exit("it ended before it lost a machine")
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_lost_machine_is_replaced_and_every_epoch_is_there_once(store: str, tmp_path: Path, mark: str) -> None:
    out = tmp_path / "run"
    arguments = ["train", store, "--out", str(out), *SETTINGS, "--epochs", "120", "--workers", "2", "--quiet"]
    process = start(mark, str(out), *arguments, program=LOST_NODE)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    assert [entry["epoch"] for entry in history(out)] == list(range(1, 121))


# Kills itself while it writes the state of its second epoch: with half of its files there, or all of them and no name yet.
DIES_WHILE_IT_WRITES = """
import os, signal, sys
from pathlib import Path
from alt_ray.cli import main

where = sys.argv[1]
rename, fsync, synced = Path.rename, os.fsync, []

def rename_or_die(self, target):
    if where == "rename" and self.name.startswith(".epoch-0002."):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

def fsync_or_die(number):
    if "/.epoch-0002." in os.readlink(f"/proc/self/fd/{number}") and where == "fsync":
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(number)

Path.rename, os.fsync = rename_or_die, fsync_or_die
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["fsync", "rename"])
def test_a_kill_while_a_state_is_written_costs_that_epoch_alone(
    store: str, tmp_path: Path, mark: str, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    out = tmp_path / "run"
    arguments = ["train", store, "--out", str(out), *SETTINGS]
    process = start(mark, where, *arguments, program=DIES_WHILE_IT_WRITES)
    _, said = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    left = {path.name.split(".")[1] if path.name[0] == "." else path.name for path in (out / FOLDER).iterdir()}
    assert left == {"epoch-0001", "epoch-0002"}
    assert not (out / FOLDER / "epoch-0002").exists()

    assert run(*arguments) == 0
    said = capsys.readouterr().err
    assert "epoch 1 of 3" not in said
    assert "epoch 2 of 3" in said
    assert [entry["epoch"] for entry in history(out)] == [1, 2, 3]
    assert not list((out / FOLDER).glob(".*"))


@pytest.mark.slow
def test_workers_of_a_killed_driver_write_nothing_once_another_run_has_begun(
    store: str, tmp_path: Path, mark: str
) -> None:
    out = tmp_path / "run"
    process = start(mark, store, str(out), "25", program=WORKERS)
    wait_for_state(out, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    train(options(store, out, epochs=25))
    assert [entry["epoch"] for entry in history(out)] == list(range(1, 26))
    wait_until(lambda: not workers_of(mark))
    assert json.loads((out / "run.json").read_text())["status"] == "done"
