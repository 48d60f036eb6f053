"""A task trains, goes on after a stop as if it had not stopped, and gives the same on one worker as on several."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from alt_ray.config_train import LearningOptions, ModelOptions
from alt_ray.corpus.entities import Corpus
from alt_ray.engine.ddp import place_of
from alt_ray.evaluation.options import ProtocolOptions
from alt_ray.evaluation.protocols import training_tasks
from alt_ray.features.store import FeatureStore
from alt_ray.memory import peak_memory_mib
from alt_ray.models.checkpoint import load_checkpoint
from alt_ray.pocket.vocabulary import pocket_corpus
from alt_ray.training.job import TrainingJob, run_tasks
from alt_ray.training.place import Place
from alt_ray.training.texts import embed_texts
from tests.stores import LABELS, pocket_record, write_store

LEARNING = LearningOptions(epochs=3, batch=8, lr=1e-3, warmup_epochs=1)
SMALL = ModelOptions(blocks=1, width=64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_store(tmp_path_factory.mktemp("store"), 64, noise=2.0))


def job_for(store: str, out: Path, **changes: Any) -> TrainingJob:
    opened = FeatureStore(store)
    options = ProtocolOptions(**changes.pop("protocol", {}))
    tasks = training_tasks(opened.clips(), LABELS, options)
    corpus = Corpus(pocket_corpus().entities[:12], "twelve")
    texts = embed_texts(opened.record, LABELS, "photo", corpus)
    return TrainingJob(opened.uri, tuple(tasks), texts, changes.pop("model", SMALL), LEARNING, str(out), 1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "best" / "adapter.safetensors")


def assert_same(one: Path, other: Path, tolerance: float = 0.0) -> None:
    for name, tensor in weights(one).items():
        torch.testing.assert_close(weights(other)[name], tensor, rtol=tolerance, atol=tolerance)


def test_a_training_learns_and_leaves_a_checkpoint_that_says_what_it_is(store: str, tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    (result,) = run_tasks(job_for(store, tmp_path), Place(say=said.append))
    assert result["tests"]["test"]["top_1"] > 0.8
    assert [entry["epoch"] for entry in said if "epoch" in entry] == [1, 2, 3]
    assert all(0 <= entry["data_wait_share"] <= 1 for entry in said if "epoch" in entry)
    peaks = [entry["peak_memory_mib"] for entry in result["history"]]
    assert peaks == sorted(peaks)
    assert 0 < peaks[-1] <= peak_memory_mib()
    config = load_checkpoint(tmp_path / "best").config
    assert config.labels == LABELS
    assert config.training["protocol"] == result["protocol"]
    assert json.loads((tmp_path / "task.json").read_text())["tests"] == result["tests"]


def test_the_same_seed_gives_the_same_and_another_seed_another(store: str, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_tasks(job_for(store, tmp_path / name, protocol={"seeds": (seed,)}), Place())
    assert_same(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("damaged", [False, True])
def test_going_on_gives_what_not_stopping_would_have_given(store: str, tmp_path: Path, damaged: bool) -> None:
    run_tasks(job_for(store, tmp_path / "whole"), Place())
    said: list[dict[str, Any]] = []

    def stop(entry: dict[str, Any]) -> None:
        if entry.get("epoch") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(job_for(store, tmp_path / "stopped"), Place(say=stop))
    if damaged:
        newest = tmp_path / "stopped" / "checkpoints" / "epoch-0002" / "state.safetensors"
        newest.write_bytes(newest.read_bytes()[:100])
    (result,) = run_tasks(job_for(store, tmp_path / "stopped"), Place(say=said.append))
    assert [entry["epoch"] for entry in said if "epoch" in entry] == ([2, 3] if damaged else [3])
    assert any("epoch-0002" in entry.get("warning", "") for entry in said) == damaged
    assert [entry["epoch"] for entry in result["history"]] == [1, 2, 3]
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_what_is_finished_is_not_trained_again(store: str, tmp_path: Path) -> None:
    protocol = {"protocol": "few-shot", "shots": 4, "seeds": (0, 1)}
    first = run_tasks(job_for(store, tmp_path, protocol=protocol), Place())
    said: list[dict[str, Any]] = []
    again = run_tasks(job_for(store, tmp_path, protocol=protocol), Place(say=said.append))
    assert again == first
    assert not any("epoch" in entry for entry in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0", "seed-1"]


def _worker(rank: int, jobs: list[TrainingJob], rendezvous: str) -> None:
    from torch import distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=len(jobs))
    run_tasks(jobs[rank], place_of(torch.device("cpu")))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="gloo over a shared file")
def test_two_workers_end_where_one_does_whatever_the_second_sees_of_the_folder(store: str, tmp_path: Path) -> None:
    """With noise off there is nothing left that may differ: steps, gradients and weights are the same but for rounding.

    Rank 0 sees an empty folder; rank 1, as through a disk that caches, one of a training that is finished.
    """
    learned = replace(SMALL, method="learned-queries")
    run_tasks(job_for(store, tmp_path / "one", model=learned), Place())
    shutil.copytree(tmp_path / "one", tmp_path / "seen by rank 1")
    jobs = [job_for(store, tmp_path / name, model=learned) for name in ("two", "seen by rank 1")]
    mp.spawn(_worker, args=(jobs, str(tmp_path / "rendezvous")), nprocs=2)
    assert_same(tmp_path / "one", tmp_path / "two", tolerance=2e-3)
    one, two = (json.loads((tmp_path / name / "task.json").read_text()) for name in ("one", "two"))
    np.testing.assert_allclose(
        [entry["loss"] for entry in one["history"]], [entry["loss"] for entry in two["history"]], rtol=1e-3
    )
    assert one["tests"]["test"]["top_1"] == two["tests"]["test"]["top_1"]


@pytest.mark.parametrize("method", ["frozen", "linear-probe", "learned-queries"])
def test_baselines_run_by_the_same_protocol(store: str, tmp_path: Path, method: str) -> None:
    model = replace(SMALL, method=method)  # type: ignore[arg-type]
    (result,) = run_tasks(job_for(store, tmp_path, model=model), Place())
    assert result["method"] == method
    assert result["epochs"] == (0 if method == "frozen" else 3)
    assert (tmp_path / "best").is_dir() == (method == "learned-queries")
    assert 0 <= result["tests"]["test"]["top_1"] <= 1


def test_a_linear_probe_is_not_asked_for_labels_that_it_does_not_know(store: str, tmp_path: Path) -> None:
    model = replace(SMALL, method="linear-probe")
    said: list[dict[str, Any]] = []
    protocol = {"protocol": "base-to-novel", "shots": 4}
    (result,) = run_tasks(job_for(store, tmp_path, model=model, protocol=protocol), Place(say=said.append))
    assert list(result["tests"]) == ["base"]
    assert any("novel" in entry.get("warning", "") for entry in said)


def test_average_mixes_with_the_weights_at_the_start(store: str, tmp_path: Path) -> None:
    model = replace(SMALL, residual=True)
    results = {}
    for share in (0.0, 0.5, 1.0):
        job = replace(job_for(store, tmp_path / str(share), model=model), learning=replace(LEARNING, average=share))
        results[share] = run_tasks(job, Place())[0]["tests"]["test"]
    frozen = run_tasks(job_for(store, tmp_path / "frozen", model=replace(SMALL, method="frozen")), Place())
    assert results[0.0]["top_1"] == frozen[0]["tests"]["test"]["top_1"]
    half = {
        name: (weights(tmp_path / "0.0")[name] + weights(tmp_path / "1.0")[name]) / 2
        for name in weights(tmp_path / "0.5")
    }
    for name, tensor in weights(tmp_path / "0.5").items():
        torch.testing.assert_close(tensor, half[name], rtol=1e-4, atol=1e-5)


def test_augmented_views_are_trained_on(tmp_path: Path) -> None:
    store = str(write_store(tmp_path / "store", 32, pocket_record(train_views=2)))
    (result,) = run_tasks(job_for(store, tmp_path / "run"), Place())
    assert result["epochs"] == 3
