"""A job that waits for what others hold says so in one line, and goes on when it is free."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import ray
from ray.util import placement_group, remove_placement_group

from alt_ray.config import ClusterOptions
from alt_ray.engine import workers
from alt_ray.engine.resources import plan_cluster
from alt_ray.engine.waiting import says_what_workers_wait_for
from alt_ray.engine.workers import on_a_worker


@pytest.fixture
def all_cpus(ray_here: None) -> Iterator[Callable[[], None]]:
    """Every CPU is with another job until this is called."""
    group = placement_group([{"CPU": ray.cluster_resources()["CPU"]}])
    ray.get(group.ready())
    yield lambda: remove_placement_group(group)
    remove_placement_group(group)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def test_a_worker_that_finds_no_place_is_waited_for_aloud(
    all_cpus: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(workers, "NOTICE_S", 0.2)
    said, found = "", []
    plan = plan_cluster([ray.cluster_resources()], ClusterOptions())
    thread = threading.Thread(target=lambda: found.append(on_a_worker(lambda: 42, plan, "nothing")))
    thread.start()

    def is_said() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "waiting for a worker with" in said

    wait_until(is_said)
    assert not found
    all_cpus()
    thread.join(120)
    assert found == [42]
    assert "free in the whole cluster: 0 of" in said


def test_training_workers_that_find_no_place_are_waited_for_aloud(
    all_cpus: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alt_ray.engine.waiting.LOOK_S", 0.05)
    said = ""
    with says_what_workers_wait_for(2, {"CPU": 0.45}, notice_s=0.2):
        group = placement_group([{"CPU": 0.45}] * 2)

        def is_said() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return "waiting for 2 workers of 0.45 CPU each" in said

        wait_until(is_said)
        all_cpus()
        ray.get(group.ready())
    remove_placement_group(group)
    assert said.count("waiting") == 1
