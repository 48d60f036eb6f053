"""Tracking: what is logged stands in MLflow, or, when the server fails, in a file that is sent later, once; no job notices."""

import json
import math
import os
import pickle
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alt_ray.errors import CheckpointError, JobError, UsageError
from alt_ray.tracking import KEY_TAG, Tracker, TrackingOptions, attach, replay, tracked
from alt_ray.tracking import spool as tracking_spool
from alt_ray.tracking_commands import TrackOptions, track

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables, which take seconds to make."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture
def uri(database: Path) -> str:
    return f"sqlite:///{database}"


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def only_run(uri: str, key: str) -> Any:
    """The run with our key, of which there must be one."""
    experiments = [experiment.experiment_id for experiment in client(uri).search_experiments()]
    (run,) = client(uri).search_runs(experiments, f"tags.`{KEY_TAG}` = '{key}'")
    return run


def history(uri: str, run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client(uri).get_metric_history(run_id, name)]


def log_first_half(run: Tracker, folder: Path) -> None:
    run.params({"sampling": {"frames": 8}, "long": "x" * 7000})
    run.tags({"versions": {"torch": "2"}})
    run.metrics({"loss": 1.0, "top-1": 0.1}, step=1)
    run.dataset("videos", str(folder / "v.csv"), "sha256:" + "ab" * 32, columns={"path": "string"}, rows=3)
    run.flush()


def log_second_half(run: Tracker, folder: Path) -> None:
    run.metrics({"loss": 0.5}, step=2)
    run.metrics({"loss": 0.25}, step=3)
    plot = folder / "plot.txt"
    plot.write_text("a plot")
    run.artifact(plot, "plots")
    plot.unlink()  # it was copied or sent when `artifact` returned
    run.json("metrics.json", {"top1": 0.9})
    with run.child("trial 1") as trial:
        trial.metrics({"accuracy": 0.7})
    run.lineage("features", "/data/features", "sha256:f", {"run_id": "abc", "run_key": None})


def check_everything(uri: str, run: Tracker, started_ms: int, ended_ms: int) -> None:
    """What the two halves logged is on the server, once, with the times of the job."""
    stored = only_run(uri, run.key)
    run_id = stored.info.run_id
    assert stored.info.status == "FINISHED"
    assert started_ms <= stored.info.start_time <= stored.info.end_time <= ended_ms
    assert stored.data.params["sampling.frames"] == "8"
    assert len(stored.data.params["long"]) == 6000
    assert stored.data.tags["versions.torch"] == "2"
    assert stored.data.tags["lineage.features.run_id"] == "abc"
    assert history(uri, run_id, "loss") == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert all(started_ms <= m.timestamp <= ended_ms for m in client(uri).get_metric_history(run_id, "loss"))
    (read,) = stored.inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest, json.loads(read.dataset.profile)) == (
        "videos",
        "ab" * 18,
        {"num_rows": 3},
    )
    assert {tag.key: tag.value for tag in read.tags}["mlflow.data.context"] == "inputs"
    config = json.loads(artifact(uri, run_id, "config.json"))
    assert len(config["long"]) == 7000
    assert artifact(uri, run_id, "plots/plot.txt") == "a plot"
    assert json.loads(artifact(uri, run_id, "metrics.json")) == {"top1": 0.9}
    children = client(uri).search_runs([stored.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    assert [(child.info.run_name, child.info.status, child.data.metrics) for child in children] == [
        ("trial 1", "FINISHED", {"accuracy": 0.7})
    ]


def artifact(uri: str, run_id: str, name: str) -> str:
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=uri)).read_text()


def now_ms() -> int:
    return int(time.time() * 1000)


def test_everything_logged_is_in_the_database_and_nothing_is_printed(
    tmp_path: Path, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ)
    started = now_ms()
    with tracked(TrackingOptions(tracking_uri=uri), "train", spool_folder=tmp_path / "out") as run:
        log_first_half(run, tmp_path)
        log_second_half(run, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == before
    check_everything(uri, run, started, now_ms() + 1)
    assert run.reference()["run_id"] == run.run_id
    assert not list((tmp_path / "out").glob("*"))


FIRST_USE = """
from alt_ray.tracking import TrackingOptions, tracked
with tracked(TrackingOptions(), "label") as run:
    run.metrics({"videos_per_s": 3})
print(run.key)
"""


def test_the_first_run_makes_a_database_where_the_command_stands_and_mlflow_says_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    command = [sys.executable, "-c", FIRST_USE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    (key,) = done.stdout.splitlines()
    assert only_run(f"sqlite:///{tmp_path}/mlflow.db", key).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (SystemExit, "FINISHED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_ends_as_the_job_did_and_the_exception_passes(uri: str, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracked(TrackingOptions(tracking_uri=uri), "train") as run:
        raise error
    assert only_run(uri, run.key).info.status == status


def test_names_values_and_numbers_that_mlflow_refuses_are_made_acceptable(uri: str) -> None:
    with tracked(TrackingOptions(tracking_uri=uri, experiment="other", run_name="mine"), "train") as run:
        run.params({"a(b)": None, "list": [1, 2], "../up": {}})
        run.params({f"p{n}": n for n in range(250)})
        run.metrics({"top@5": 0.5, "loss": math.inf, "nan": float("nan"), "none": None, "numpy": np.float32(2)})
    stored = only_run(uri, run.key)
    assert stored.info.run_name == "mine"
    assert stored.data.params.items() >= {"a_b_": "None", "list": "[1, 2]", "up": "{}", "p249": "249"}.items()
    assert stored.data.metrics["top_5"] == 0.5 and stored.data.metrics["numpy"] == 2
    assert math.isnan(stored.data.metrics["loss"]) and math.isnan(stored.data.metrics["nan"])
    assert "none" not in stored.data.metrics
    assert stored.data.tags["not_finite"] == "loss, nan"


def test_what_the_server_refuses_is_said_once_and_the_rest_goes_on(uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    with tracked(TrackingOptions(tracking_uri=uri), "train") as run:
        run.params({"seed": 1})
        run.params({"seed": 2})  # MLflow keeps the first value of a parameter
        run.params({"seed": 3})
        run.metrics({"loss": 1})
    assert capfd.readouterr().err.count("warning") == 1
    assert only_run(uri, run.key).data.metrics == {"loss": 1}


@pytest.mark.parametrize("wrong", ["htp://server:5000", "mlflow.db", "sqlite:///", "C:\\runs"])
def test_an_address_that_mlflow_has_no_store_for_is_refused_before_anything(wrong: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        tracked(TrackingOptions(tracking_uri=wrong), "train")


def test_none_tracks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    with tracked(TrackingOptions(), "train") as run, run.child("trial") as trial, attach(run.handle()) as again:
        log_first_half(trial, tmp_path)
        again.metrics({"loss": 1})
        assert run.run_id is None and run.uri == "none"
    assert not list(tmp_path.iterdir())


def test_a_job_without_a_server_goes_on_and_the_replay_sends_all_of_it(
    tmp_path: Path, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    started = now_ms()
    with tracked(TrackingOptions(tracking_uri=NOBODY), "train", spool_folder=tmp_path / "out") as run:
        log_first_half(run, tmp_path)
        log_second_half(run, tmp_path)
    ended = now_ms() + 1
    assert ended - started < 20_000
    err = capfd.readouterr().err
    (spool,) = (tmp_path / "out").glob("*.jsonl")
    assert err.count("\n") == 1 and "Connection refused" in err and f"--replay {spool}" in err
    assert run.run_id is None and run.is_down

    moved = tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    report = replay(moved / spool.name, tracking_uri=uri)
    assert report.sent > 0 and not report.refused
    check_everything(uri, run, started, ended)
    assert [file.name for file in moved.iterdir()] == [spool.name + ".sent"]
    assert replay(moved / spool.name, tracking_uri=uri).sent == 0


def test_a_replay_that_is_interrupted_goes_on_and_sends_nothing_twice(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alt_ray.tracking.pyfunc import log_model

    started = now_ms()
    with tracked(TrackingOptions(tracking_uri=NOBODY), "train", spool_folder=tmp_path) as run:
        log_first_half(run, tmp_path)
        log_model(run, "pocket")
        log_second_half(run, tmp_path)
    ended = now_ms() + 1
    (spool,) = tmp_path.glob("*.jsonl")
    publish = tracking_spool._publish
    calls = 0

    def publish_or_die(file: Path, text: str) -> None:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:  # sent, but not yet marked
            raise KeyboardInterrupt
        publish(file, text)

    monkeypatch.setattr(tracking_spool, "_publish", publish_or_die)
    while spool.exists():
        try:
            replay(spool, tracking_uri=uri)
        except KeyboardInterrupt:
            assert calls < 100
    check_everything(uri, run, started, ended)
    stored = only_run(uri, run.key)
    assert len(stored.outputs.model_outputs) == 1
    assert len(client(uri).search_logged_models([stored.info.experiment_id])) == 1


def test_a_server_that_hangs_costs_no_more_than_its_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with tracked(TrackingOptions(tracking_uri=uri), "train", spool_folder=tmp_path) as run:
            for step in range(1000):
                run.metrics({"loss": 1.0}, step=step)
            assert not run.is_down  # nothing waits for the server but the end: its first request still hangs
    assert run.is_down
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "5"


@pytest.mark.slow
def test_a_locked_database_counts_as_down_and_its_run_is_continued(tmp_path: Path, database: Path, uri: str) -> None:
    started = now_ms()
    with tracked(TrackingOptions(tracking_uri=uri), "train", spool_folder=tmp_path / "out") as run:
        log_first_half(run, tmp_path)
        run_id = run.run_id
        lock = sqlite3.connect(database, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        log_second_half(run, tmp_path)
        assert run.is_down
    ended = now_ms() + 1
    lock.execute("ROLLBACK")
    lock.close()
    (spool,) = (tmp_path / "out").glob("*.jsonl")
    assert replay(spool).run_ids[0] == run_id
    check_everything(uri, run, started, ended)


@contextmanager
def mlflow_server(database: Path, port: int) -> Iterator[Callable[[], None]]:
    """A server; the function that it gives kills it."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(database.parent / "a")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, start_new_session=True, cwd=database.parent, **quiet)  # type: ignore[call-overload]

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the workers, too
            process.wait()

    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.3)
        yield kill
    finally:
        kill()


@pytest.mark.slow
def test_a_server_killed_half_way_gets_the_rest_of_the_same_run_from_the_replay(
    tmp_path: Path, database: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.models import get_model_info

    from alt_ray.tracking.pyfunc import log_model

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    started = now_ms()
    with mlflow_server(database, port) as kill:
        with tracked(TrackingOptions(tracking_uri=uri), "train", spool_folder=tmp_path / "out") as run:
            log_first_half(run, tmp_path)
            run.metrics({"gap": math.nan})
            log_model(run, "pocket")
            run_id = run.run_id
            assert not run.is_down and capfd.readouterr() == ("", "")
            kill()
            log_second_half(run, tmp_path)
        ended = now_ms() + 1
    assert run_id is not None and run.is_down
    assert capfd.readouterr().err.count("\n") == 1
    (spool,) = (tmp_path / "out").glob("*.jsonl")
    with pytest.raises(JobError, match="goes on from there"):
        replay(spool)
    with mlflow_server(database, port):
        assert replay(spool).run_ids[0] == run_id
        check_everything(uri, run, started, ended)
        assert math.isnan(history(uri, run_id, "gap")[0][1])
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert (
            get_model_info(f"runs:/{run_id}/model").flavors["python_function"]["loader_module"]
            == "alt_ray.tracking.pyfunc"
        )


IN_ANOTHER_PROCESS = """
import pickle, sys
from alt_ray.tracking import attach
with attach(pickle.loads(bytes.fromhex(sys.argv[1]))) as run:
    run.metrics({"worker_loss": 2.0}, step=7)
    with run.child("trial") as trial:
        trial.metrics({"accuracy": 0.5})
"""


def in_another_process(run: Tracker, folder: Path) -> None:
    handle = pickle.dumps(run.handle())
    assert len(handle) < 2000
    folder.mkdir()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "sqlite:///wrong.db"}
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, handle.hex()]
    subprocess.run(command, check=True, cwd=folder, env=environment, timeout=120)
    assert not list(folder.iterdir())  # no database of its own


def check_worker(uri: str, run: Tracker) -> None:
    stored = only_run(uri, run.key)
    assert stored.info.status == "FINISHED"
    assert history(uri, stored.info.run_id, "worker_loss") == [(7, 2.0)]
    runs = client(uri).search_runs([stored.info.experiment_id], f"tags.mlflow.parentRunId = '{stored.info.run_id}'")
    assert [child.data.metrics for child in runs] == [{"accuracy": 0.5}]


def test_a_worker_logs_to_the_run_of_its_driver_whatever_its_own_settings_say(tmp_path: Path, uri: str) -> None:
    with tracked(TrackingOptions(tracking_uri=uri), "tune", spool_folder=tmp_path / "out") as run:
        in_another_process(run, tmp_path / "worker")
        assert client(uri).get_run(run.run_id).info.status == "RUNNING"
        with pytest.raises(TypeError, match="handle"):
            pickle.dumps(run)
    check_worker(uri, run)


def test_workers_without_a_server_leave_files_that_make_one_run_in_any_order(
    tmp_path: Path, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with tracked(TrackingOptions(tracking_uri=NOBODY), "tune", spool_folder=out) as run:
        in_another_process(run, tmp_path / "worker")
        with pytest.raises(UsageError, match="still being written"):
            replay(out / f"mlflow-{run.key[:8]}.jsonl", tracking_uri=uri)
    capfd.readouterr()
    assert len(list(out.glob("*.jsonl"))) == 2
    assert track(TrackOptions(replay=str(out), tracking_uri=uri, json=True)) == 0
    assert len(json.loads(capfd.readouterr().out)) == 2
    check_worker(uri, run)


def test_a_worker_on_a_machine_without_the_database_does_not_make_one(tmp_path: Path, database: Path, uri: str) -> None:
    with tracked(TrackingOptions(tracking_uri=uri), "tune", spool_folder=tmp_path) as run:
        handle = run.handle()
    hidden = database.rename(tmp_path / "elsewhere.db")
    with attach(handle) as worker:
        worker.metrics({"worker_loss": 2.0}, step=7)
    assert not database.exists()
    hidden.rename(database)
    (spool,) = tmp_path.glob("*.jsonl")
    replay(spool)
    assert history(uri, handle.begin["run_id"], "worker_loss") == [(7, 2.0)]


def test_passwords_are_kept_out_of_files_and_messages(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "http://me:hush@127.0.0.1:9"
    with tracked(TrackingOptions(tracking_uri=secret), "train", spool_folder=tmp_path) as run:
        run.metrics({"loss": 1})
    (spool,) = tmp_path.glob("*.jsonl")
    assert "hush" not in spool.read_text() + capfd.readouterr().err + str(run.reference())
    with pytest.raises(UsageError, match="password"):
        replay(spool)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    with pytest.raises(JobError):  # it knows the address now, where still nobody is
        replay(spool)


def test_an_artifact_that_cannot_be_copied_costs_only_itself(
    tmp_path: Path, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "dangling").symlink_to("nowhere")
    with tracked(TrackingOptions(tracking_uri=NOBODY), "train", spool_folder=tmp_path / "out") as run:
        run.artifact(tmp_path / "plots")
        run.artifact(tmp_path / "missing")
        run.metrics({"loss": 1})
    assert capfd.readouterr().err.count("is not tracked") == 2
    (spool,) = (tmp_path / "out").glob("*.jsonl")
    assert not replay(spool, tracking_uri=uri).refused
    assert only_run(uri, run.key).data.metrics == {"loss": 1}


def test_a_file_cut_off_by_a_kill_is_sent_up_to_there_and_a_wrong_file_is_refused(tmp_path: Path, uri: str) -> None:
    with tracked(TrackingOptions(tracking_uri=NOBODY), "train", spool_folder=tmp_path) as run:
        run.metrics({"loss": 1})
    (spool,) = tmp_path.glob("*.jsonl")
    spool.write_text(spool.read_text()[:-10])
    replay(spool, tracking_uri=uri)
    assert only_run(uri, run.key).info.status == "RUNNING"
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text('{"path": "a.mp4"}\n')
    with pytest.raises(UsageError, match="no file of operations"):
        replay(wrong)
    with pytest.raises(UsageError, match="can't be read"):
        replay(tmp_path / "missing.jsonl")


def test_track_lists_recent_runs(uri: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with tracked(TrackingOptions(tracking_uri=uri), "train"):
        pass
    assert track(TrackOptions(tracking_uri=uri)) == 0
    assert "FINISHED" in capfd.readouterr().out
    with pytest.raises(UsageError, match="no runs yet"):
        track(TrackOptions(tracking_uri=f"sqlite:///{tmp_path}/none.db"))
    with pytest.raises(JobError, match="can't be had"):
        track(TrackOptions(tracking_uri=NOBODY))


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two videos and a broken one, with the labels that they should get."""
    from alt_ray.pocket.archive import ArchiveOptions, write_archive

    actions = ("playing drums", "paddling a kayak")
    folder = tmp_path_factory.mktemp("videos")
    write_archive(folder, len(actions), ArchiveOptions(seed=31_000_000, actions=actions))
    named = {str(file): file.stem.rpartition("_")[0].replace("_", " ") for file in (folder / "videos").rglob("*.mp4")}
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    return {**named, str(broken): ""}


def logged_model(uri: str) -> str:
    from alt_ray.tracking.pyfunc import log_model

    with tracked(TrackingOptions(tracking_uri=uri), "train") as run:
        log_model(run, "pocket", settings={"top": 3})
    return f"runs:/{run.run_id}/model"


@pytest.mark.slow
def test_a_logged_model_labels_videos_and_frames_and_can_be_registered(
    uri: str, videos: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = logged_model(uri)
    loaded = mlflow.pyfunc.load_model(model)
    table = loaded.predict(pd.DataFrame({"path": list(videos)}))
    assert list(table["label"]) == list(videos.values())
    assert [bool(error) for error in table["error"]] == [not label for label in videos.values()]
    assert "unreadable" in table["error"].iloc[-1]
    assert json.loads(table["entities"][0])[0]["weight"] > 0
    assert len(json.loads(table["top_labels"][0])) == 3

    raw = loaded.get_raw_model()
    frames = np.stack([raw._model.frames_of(path) for path, label in videos.items() if label])
    by_column = loaded.predict(pd.DataFrame({"frames": list(frames)}))
    for given in (raw.predict(frames), by_column):
        assert list(given["label"]) == [label for label in videos.values() if label]
        assert list(given["score"]) == pytest.approx(list(table["score"][: len(given)]), abs=1e-5)
    odd = raw.predict(pd.DataFrame({"frames": [frames[0][..., :2], frames[0] - 0.5, None, frames[0]]}))
    assert [bool(error) for error in odd["error"]] == [True, True, True, False]

    version = mlflow.register_model(model, "pocket").version
    assert loaded.metadata.signature is not None
    assert (
        mlflow.pyfunc.load_model(f"models:/pocket/{version}")
        .predict(pd.DataFrame({"path": list(videos)}))
        .equals(table)
    )


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path, uri: str) -> None:
    from alt_ray.tracking.pyfunc import log_model

    with (
        tracked(TrackingOptions(tracking_uri=uri), "train") as run,
        pytest.raises(CheckpointError, match="no checkpoint"),
    ):
        log_model(run, tmp_path)


@pytest.mark.slow
def test_the_mlflow_command_predicts_with_a_logged_model(tmp_path: Path, uri: str, videos: dict[str, str]) -> None:
    model = logged_model(uri)
    asked, answered = tmp_path / "input.json", tmp_path / "output.json"
    asked.write_text(json.dumps({"dataframe_records": [{"path": path} for path in videos]}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", model, "--env-manager", "local"]
    command += ["-i", str(asked), "-o", str(answered), "-t", "json"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = json.loads(answered.read_text())["predictions"]
    assert [row["label"] for row in rows] == list(videos.values())


def test_a_run_with_a_key_goes_on_where_it_ended_and_so_do_its_trials(uri: str, tmp_path: Path) -> None:
    for step in (1, 2):
        with tracked(TrackingOptions(tracking_uri=uri), "tune", spool_folder=tmp_path, key="search") as run:
            with run.child("trial", key="trial-of-search") as trial:
                trial.metrics({"loss": 1 / step}, step=step)
            run.flush()
            assert only_run(uri, "search").info.status == "RUNNING"
    (parent, child) = (only_run(uri, key) for key in ("search", "trial-of-search"))
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert history(uri, child.info.run_id, "loss") == [(1, 1.0), (2, 0.5)]
