"""`alt-ray tune`: what is searched, trials that fail, stop, end and go on, and stores that are encoded once."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alt_ray.config import OutputOptions, TrackingOptions
from alt_ray.config_features import EncodeOptions
from alt_ray.config_train import LearningOptions, ModelOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.corpus.files import load_corpus
from alt_ray.engine import tune_stores
from alt_ray.engine.tune import tune
from alt_ray.engine.tune_experiment import Experiments
from alt_ray.engine.tune_search import StopWhen, TrialResources, corpus_part, grid_of, plan_trials, random_of, repeated
from alt_ray.engine.tune_stores import ensure_store, open_arms
from alt_ray.engine.tune_trial import TrialJob
from alt_ray.errors import FeatureError, UsageError
from alt_ray.evaluation.trials import TrialRecord, TrialSettings, read_trial
from alt_ray.features.held import HeldStore, hold
from alt_ray.features.store import FeatureStore
from alt_ray.models.checkpoint import load_checkpoint
from alt_ray.tracking import tracked
from tests.stores import pocket_record, write_store
from tests.test_label import end_what_is_left
from tests.test_train import start

BASE = TrialSettings("a", 0.01, 1, 1e-3, "all", 0)
SCHEDULES = {"none": ([0, 0, 0, 0], 65), "most": ([15, 15, 15, 15], 5)}


def merged_record(name: str, **changes: Any) -> Any:
    schedule, num_regions = SCHEDULES[name]
    return replace(pocket_record(merge_schedule=schedule, **changes), num_regions=num_regions)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The same 48 clips, once without merging and once with almost all patches merged."""
    folder = tmp_path_factory.mktemp("stores")
    return tuple(str(write_store(folder / name, 48, merged_record(name), noise=2.0)) for name in SCHEDULES)  # type: ignore[return-value]


def options(stores: tuple[str, ...], out: Path, **changes: Any) -> TuneOptions:
    learning = {"epochs": 2, "batch": 8, "lr": 1e-3, "warmup_epochs": 1.0, **changes.pop("learning", {})}
    return TuneOptions(
        sources=stores,
        out=str(out),
        model=ModelOptions(blocks=1, width=64),
        learning=LearningOptions(**learning),
        output=OutputOptions(quiet=True),
        **changes,
    )


def test_random_points_cover_the_space_evenly_and_more_begin_with_the_same(tmp_path: Path) -> None:
    given = options((), tmp_path, lr_range=(1e-4, 1e-2), depths=(1, 2, 4))
    arms = ["a", "b", "c", "d"]
    points = random_of(given, arms, BASE, 40)
    assert random_of(given, arms, BASE, 20) == points[:20]
    for start_ in range(0, 40, 4):
        assert {point.arm for point in points[start_ : start_ + 4]} == set(arms)
    places = np.sort([np.log10(point.temperature) for point in points])
    assert places[0] >= -3
    assert places[-1] <= 0
    assert np.diff(places).max() < 0.25  # of three decades, 40 points
    assert len({point.name for point in points}) == 40
    assert random_of(replace(given, protocol=replace(given.protocol, seeds=(1,))), arms, BASE, 3) != points[:3]


def test_a_grid_has_every_combination_once_and_takes_turns_among_stores(tmp_path: Path) -> None:
    given = options((), tmp_path, search="grid", temperatures=(0.01, 0.1, 1.0), depths=(1, 2))
    points = grid_of(given, ["a", "b"], BASE)
    assert len(points) == len({point.name for point in points}) == 12
    assert [point.arm for point in points[:4]] == ["a", "b", "a", "b"]
    assert grid_of(replace(given, trials=5), ["a", "b"], BASE) == points[:5]


def test_states_of_stopped_trials_go_and_those_that_something_goes_on_from_stay(tmp_path: Path) -> None:
    job = TrialJob({}, None, None, {}, None, None, BASE, {}, str(tmp_path))  # type: ignore[arg-type]
    for status, temperature in (("stopped", 0.1), ("failed", 0.2), ("finished", 0.3)):
        settings = replace(BASE, temperature=temperature)
        TrialRecord(settings, status, 0.0, 0.0, 1.0).write(job.folder_of(settings))  # type: ignore[arg-type]
        (job.folder_of(settings) / "checkpoints" / "epoch-0001").mkdir(parents=True)
    with tracked(TrackingOptions(tracking_uri="none"), "tune", spool_folder=tmp_path) as run:
        Experiments(job, TrialResources(1, 1.0, 0.0), tmp_path, None, run).forget_states()
    left = {read_trial(folder.parent).status for folder in (tmp_path / "trials").glob("*/checkpoints")}  # type: ignore[union-attr]
    assert left == {"failed", "finished"}


def test_final_seeds_are_none_that_the_search_used() -> None:
    again = repeated([BASE, replace(BASE, arm="b")], 3)
    assert [point.seed for point in again] == [1, 2, 3] * 2
    assert all(point.same_but_seed(BASE) == (point.arm == "a") for point in again)


@pytest.mark.parametrize(
    ("cluster", "changes", "slots", "gpus"),
    [
        ({"CPU": 8.0}, {}, 8, 0),
        ({"CPU": 8.0}, {"cpus_per_trial": 3.0}, 2, 0),
        ({"CPU": 8.0}, {"concurrent": 2}, 2, 0),
        ({"CPU": 16.0, "GPU": 2.0}, {}, 8, 0.25),
        ({"CPU": 4.0, "GPU": 2.0}, {}, 4, 0.25),
        ({"CPU": 16.0, "GPU": 2.0}, {"gpus_per_trial": 0.6}, 2, 0.6),
        ({"CPU": 16.0, "GPU": 4.0}, {"workers": 2}, 2, 1.0),
        ({"CPU": 2.0}, {"workers": 2}, 1, 0),
    ],
)
def test_trials_at_a_time_follow_from_the_cluster(
    cluster: dict[str, float], changes: dict[str, Any], slots: int, gpus: float, tmp_path: Path
) -> None:
    plan = plan_trials([cluster], options((), tmp_path, **changes))
    assert (plan.slots, plan.gpus) == (slots, gpus)
    workers = changes.get("workers", 1)
    assert plan.slots * plan.cpus * workers <= cluster["CPU"] + 1e-6


def test_what_no_cluster_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not fit on 1 machine of 2 CPUs"):
        plan_trials([{"CPU": 2.0}], options((), tmp_path, cpus_per_trial=3.0))
    with pytest.raises(UsageError, match="no GPU to use"):
        plan_trials([{"CPU": 2.0}], options((), tmp_path, gpus_per_trial=0.5))
    with pytest.raises(UsageError, match="does not fit on 2 machines of 2 CPUs"):  # 4 in all, but 2 on each
        plan_trials([{"CPU": 2.0}] * 2, options((), tmp_path, cpus_per_trial=3.0))


def test_a_part_of_the_corpus_is_named_by_its_categories() -> None:
    corpus = load_corpus(None)
    part = corpus_part(corpus, "motion+body_part")
    assert {entity.category for entity in part.entities} == {"motion", "body_part"}
    assert part.digest != corpus.digest
    assert corpus_part(corpus, "all") is corpus
    with pytest.raises(UsageError, match="no category 'verb'"):
        corpus_part(corpus, "object+verb")


def test_stores_are_ordered_by_their_merging_and_what_else_differs_is_named(
    stores: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms, clips = open_arms(stores[::-1])
    assert [arm.merge_ratio for arm in arms] == [0.0, 0.9375]
    assert clips.num_rows == 48
    other = write_store(tmp_path / "other", 48, merged_record("most", weights_digest="sha256:other"))
    with pytest.raises(FeatureError, match=r"differ in more than their merging: encoder\.weights_digest"):
        open_arms([stores[0], str(other)])
    with pytest.raises(FeatureError, match="have the same merging"):
        open_arms([stores[0], stores[0]])
    with pytest.raises(FeatureError, match="give clips another split"):
        open_arms([stores[0], str(write_store(tmp_path / "unsplit", 48, merged_record("most"), splits=False))])
    fewer = str(write_store(tmp_path / "fewer", 40, merged_record("most")))
    arms, clips = open_arms([stores[0], fewer])
    assert clips.num_rows == 40
    assert "8 clips are not in all 2 stores" in capsys.readouterr().err
    for arm in arms:
        ids = FeatureStore(arm.uri).rows["video_id"].take(arm.clip_rows)
        assert ids.to_pylist() == clips["video_id"].to_pylist()


def test_a_store_in_memory_gives_what_its_files_give(stores: tuple[str, str]) -> None:
    store = FeatureStore(stores[1])
    held = HeldStore(stores[1], hold(store))
    rows = [5, 40, 3]
    for name, values in store.read(rows).items():
        assert np.array_equal(held.read(rows)[name], values)


@pytest.mark.slow
def test_a_failing_trial_is_recorded_the_rest_goes_on_and_nothing_is_trained_twice(
    stores: tuple[str, str], tmp_path: Path, ray_here: None
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    given = options(
        stores,
        tmp_path / "out",
        search="grid",
        temperatures=(0.01,),
        lr_range=(1e-3, 1e30),  # which diverges
        grid_points=2,
        final_seeds=2,
        final_candidates=1,
        tracking=TrackingOptions(tracking_uri=uri),
    )
    report = tune(given)
    assert report.outcome.counts() == {"finished": 2, "stopped": 0, "failed": 2}
    for record in report.outcome.search:
        assert (record.status == "failed") == (record.settings.lr > 1)
        assert ("is nan" in record.error) == (record.status == "failed")
    assert [run.settings.seed for candidate in report.outcome.candidates for run in candidate.runs] == [1, 2]
    assert report.outcome.best in report.outcome.candidates[0].runs
    best = load_checkpoint(str(tmp_path / "out" / "best")).config
    assert best.alignment.temperature == 0.01
    assert list(best.encoder.merge_schedule) == SCHEDULES["most" if report.outcome.best.merge_ratio else "none"][0]

    statuses = nested(uri)
    assert sorted(statuses) == ["FAILED", "FAILED", "FINISHED", "FINISHED", "FINISHED", "FINISHED"]
    trained = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("trials/*/task.json")}
    assert len(trained) == 4
    again = tune(given)
    assert again.outcome.as_json() == report.outcome.as_json()
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("trials/*/task.json")} == trained
    assert nested(uri) == statuses
    with pytest.raises(UsageError, match=r"learning\.epochs: 2 there, 3 now"):
        tune(replace(given, learning=replace(given.learning, epochs=3)))


def nested(uri: str) -> list[str]:
    """How the trials ended that MLflow has below the one run of the search."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("alt_ray").experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "tune"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials"] == 6
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    for run in children:
        if run.info.status == "FINISHED":
            assert [m.step for m in client.get_metric_history(run.info.run_id, "val_top_1")] == [1, 2]
            assert "test_top_1" in run.data.metrics
        assert float(run.data.params["temperature"]) == 0.01
    return [run.info.status for run in children]


@pytest.mark.slow
def test_optuna_goes_on_with_what_it_knew(stores: tuple[str, str], tmp_path: Path, ray_here: None) -> None:
    given = options(stores, tmp_path / "out", search="optuna", trials=3, final_seeds=0)
    first = {record.name for record in tune(given).outcome.search}
    more = tune(replace(given, trials=5))
    assert len(first) == 3
    assert first < {record.name for record in more.outcome.search}
    assert len(more.outcome.search) == 5
    assert len({record.settings.temperature for record in more.outcome.search}) == 5


@pytest.mark.slow
def test_trials_of_two_workers_tell_their_epochs_and_are_tested(
    stores: tuple[str, str], tmp_path: Path, ray_here: None
) -> None:
    given = options(stores[:1], tmp_path / "out", trials=2, workers=2, final_seeds=0, asha=False)
    before = num_training_workers()
    report = tune(given)
    assert report.slots == 1
    assert report.outcome.counts() == {"finished": 2, "stopped": 0, "failed": 0}
    for record in report.outcome.search:
        assert [entry["epoch"] for entry in record.history] == [1, 2]
        assert record.tests.keys() == {"test"}
    assert num_training_workers() == before + 4
    assert load_checkpoint(str(tmp_path / "out" / "best")).config.labels


def num_training_workers() -> int:
    """How many workers Ray Train has had in this Ray so far."""
    import ray

    return sum("RayTrainWorker" in actor["ActorClassName"] for actor in ray._private.state.actors().values())


def test_a_store_is_encoded_once_however_many_ask_for_it(
    tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alt_ray.pocket.archive import ArchiveOptions, write_archive

    source = write_archive(tmp_path / "videos", 4, ArchiveOptions(num_frames=8))
    given = TuneOptions(
        sources=(str(source),), out=str(tmp_path), merge_ratios=(0.5,), output=OutputOptions(quiet=True)
    )
    (wanted,) = tune_stores.encodings(given, str(source), tmp_path / "features")
    encoded: list[EncodeOptions] = []

    def counted(asked: EncodeOptions, **given: Any) -> Any:
        encoded.append(asked)
        return encode(asked, **given)

    encode = tune_stores.encode
    monkeypatch.setattr(tune_stores, "encode", counted)
    threads = [threading.Thread(target=ensure_store, args=(wanted,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encoded) == 1
    store = FeatureStore(ensure_store(wanted))
    assert store.rows.num_rows == 4
    assert sum(store.record.encoder["merge_schedule"]) == store.record.num_patches / 2

    parts = sorted((Path(wanted.out) / "regions").iterdir())
    label = str(store.clips()["label"][0].as_py())
    source.write_text(source.read_text().replace(f",{label},", ",something else,"))
    assert "something else" in FeatureStore(ensure_store(wanted)).clips()["label"].to_pylist()
    assert sorted((Path(wanted.out) / "regions").iterdir()) == parts


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


@pytest.mark.slow
def test_a_killed_search_goes_on_and_trains_no_finished_trial_again(
    stores: tuple[str, str], tmp_path: Path, mark: str, ray_here: None
) -> None:
    out = tmp_path / "out"
    small = ["--epochs", "6", "--batch", "8", "--blocks", "1", "--width", "64", "--lr", "1e-3", "--muon-lr", "0"]
    command = ["tune", *stores, "--out", str(out), "--trials", "8", "--final-seeds", "0", "--no-asha", *small]
    process = start(mark, *command, "--quiet")
    deadline = time.monotonic() + 240
    while len(ended := list(out.glob("trials/*/trial.json"))) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    end_what_is_left(mark)
    assert 3 <= len(ended) < 8, "the search was over before it could be killed"
    trained = {file: file.stat().st_mtime_ns for file in out.glob("trials/*/task.json")}
    assert not (out / "metrics.json").exists()

    from tests.test_train import run

    assert run(*command, "--quiet") == 0
    assert len(list(out.glob("trials/*/trial.json"))) == 8
    assert {file: file.stat().st_mtime_ns for file in trained} == trained
    assert json.loads((out / "metrics.json").read_text())["trials"]["finished"] == 8
    assert {file.name for file in (out / "plots").iterdir()} == {
        "accuracy-temperature.png",
        "accuracy-cost.png",
        "learning-curves.png",
        "parallel-coordinates.png",
    }
    assert "<script src" not in (out / "report.html").read_text()  # it opens offline


def test_a_search_leaves_time_for_its_final_candidates() -> None:
    stop = StopWhen(time.time() + 3600, reserve=9, slots=2)
    assert not stop.stop_all()
    stop("a", {"seconds": 300.0})  # five rounds of two, 1500 s
    assert not stop.stop_all()
    stop("b", {"seconds": 800.0})  # 4000 s
    assert stop.stop_all()
    assert stop.is_ending
    asked = StopWhen(None, reserve=9, slots=2)
    asked.ask()
    assert asked.stop_all()
