"""Jobs whose videos and results are on a real S3 server, broken, killed and gone on with: the guarantees of a local folder."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alt_ray.config import InputOptions, OutputOptions, SamplingOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.engine import writers
from alt_ray.engine.encode import encode
from alt_ray.engine.job import Summary
from alt_ray.engine.label import label
from alt_ray.engine.relabel import relabel
from alt_ray.engine.sinks import FAILURES, LABELS, REGIONS, TEMPORARY
from alt_ray.errors import JobError, UsageError
from alt_ray.features.store import FeatureStore
from alt_ray.remote.folder import RemoteFolder
from tests.media import tiny_clip, write_video
from tests.s3 import BUCKET, Gate, Server
from tests.test_label import FAULTY, end_what_is_left, options
from tests.test_waiting import wait_until


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def videos(s3: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four videos and a broken one, on the server."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "below").mkdir()
    for i, name in enumerate(("v0.mp4", "v1.mp4", "below/a b+c.mp4", "below/v3.mp4")):
        write_video(folder / name, num_frames=10 + i)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "list.csv").write_text("path,label\nv0.mp4,running\nbelow/a b+c.mp4,walking\ngone.mp4,walking\n")
    return s3.upload(folder, "videos")


def job(source: str, out: str, model: str, **changes: Any) -> Any:
    return options(source, out, model, **changes)  # type: ignore[arg-type]  # an address instead of a path


def record(s3: Server, prefix: str) -> dict[str, Any]:
    return json.loads(s3.read(f"{prefix}/run.json"))


def uris(s3: Server, prefix: str) -> list[str]:
    return sorted(str(row["uri"]).rpartition("/")[2] for row in s3.rows(prefix))


def lease_of(s3: Server, prefix: str) -> str:
    (name,) = (name for name in s3.names(prefix) if "lease-" in name)
    return f"{prefix}/{name}"


@pytest.mark.usefixtures("ray_here")
class TestLabel:
    def test_a_folder_is_labelled_and_a_second_run_does_nothing(self, s3: Server, videos: str, model: str) -> None:
        out = f"s3://{BUCKET}/labelled"
        summary = label(job(videos, out, model))
        assert (summary.inputs, summary.labelled, summary.failed) == (5, 4, 1)
        assert uris(s3, f"labelled/{LABELS}") == ["a b+c.mp4", "v0.mp4", "v1.mp4", "v3.mp4"]
        (failure,) = s3.rows(f"labelled/{FAILURES}")
        assert (failure["error"], failure["uri"]) == ("unreadable", f"{videos}/broken.mp4")
        assert record(s3, "labelled")["status"] == "done"
        before = s3.names("labelled")
        again = label(job(videos, out, model))
        assert (again.labelled, again.failed, again.already_done) == (0, 0, 5)
        assert s3.names("labelled") == before
        with pytest.raises(UsageError, match=r"views: 1 there, 3 now"):
            label(job(videos, out, model, sampling=SamplingOptions(views=3)))

    def test_a_manifest_names_files_below_itself_and_failures_are_tried_again(
        self, s3: Server, videos: str, model: str, tmp_path: Path
    ) -> None:
        # The server is named in the addresses here, not by the environment.
        source, out = f"{videos}/list.csv{s3.options}", f"s3://{BUCKET}/listed{s3.options}"
        summary = label(job(source, out, model))
        assert (summary.inputs, summary.labelled, summary.failed) == (3, 2, 1)
        (failure,) = s3.rows(f"listed/{FAILURES}")
        assert (failure["stage"], failure["error"]) == ("open", "not_found")
        s3.client().upload_file(str(write_video(tmp_path / "v.mp4")), BUCKET, "videos/gone.mp4")
        try:
            summary = label(job(source, out, model, inputs=InputOptions(retry_failed=True)))
        finally:
            s3.client().delete_object(Bucket=BUCKET, Key="videos/gone.mp4")
        assert (summary.labelled, summary.failed, summary.already_done) == (1, 0, 2)
        assert s3.rows(f"listed/{FAILURES}") == []
        assert uris(s3, f"listed/{LABELS}") == [f"{name}{s3.options}" for name in ("a b+c.mp4", "gone.mp4", "v0.mp4")]

    def test_a_bucket_that_is_not_there_is_wrong_usage(self, s3: Server, videos: str, model: str) -> None:
        with pytest.raises(UsageError, match="no bucket 'nowhere'"):
            label(job(videos, "s3://nowhere/out", model))

    @pytest.mark.slow
    def test_a_permission_that_is_withdrawn_ends_the_job_with_what_to_do(
        self, s3: Server, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for i in range(16):
            write_video(tmp_path / f"slow{i:02}.mp4", num_frames=8)
        monkeypatch.setattr(writers, "MIN_COMMIT_S", 0.0)
        gate = Gate(s3.port)
        asked = job(str(tmp_path), f"s3://{BUCKET}/denied{gate.options}", model)
        write = RemoteFolder.write

        def write_the_first(self: RemoteFolder, name: str, data: bytes) -> None:
            write(self, name, data)
            if name.startswith(LABELS) and not gate.denies:
                gate.close()
                gate.denies = True
                gate.open()

        monkeypatch.setattr(RemoteFolder, "write", write_the_first)
        with pytest.raises(JobError, match=r"ACCESS_DENIED.*; run the same command again to go on"):
            label(asked, decode_function=FAULTY)
        done = uris(s3, f"denied/{LABELS}")
        assert 0 < len(done) < 16
        monkeypatch.setattr(RemoteFolder, "write", write)
        gate.denies = False
        s3.client().delete_object(Bucket=BUCKET, Key=lease_of(s3, "denied"))  # which would be waited for
        summary = label(asked, decode_function=FAULTY)
        assert (summary.labelled, summary.already_done) == (16 - len(done), len(done))
        assert uris(s3, f"denied/{LABELS}") == [f"slow{i:02}.mp4" for i in range(16)]

    def test_features_are_encoded_and_labelled_from_there(self, s3: Server, videos: str, model: str) -> None:
        store = f"s3://{BUCKET}/features{s3.options}"
        encoding = encode_options(f"{videos}/list.csv", store, model)
        summary = encode(encoding)
        assert (summary.encoded, summary.failed) == (2, 1)
        assert encode(encoding).already_done == 3
        assert not s3.names(f"features/{TEMPORARY}")
        asked = RelabelOptions(
            source=store,
            out=f"s3://{BUCKET}/relabelled{s3.options}",
            labels="walking,running",
            output=OutputOptions(quiet=True),
        )
        assert relabel(asked).labelled == 2
        assert uris(s3, f"relabelled/{LABELS}") == ["a b+c.mp4", "v0.mp4"]


PROGRAM = """
import os, signal, sys
import alt_ray.remote.lease as lease
from alt_ray.remote.folder import RemoteFolder
from alt_ray.engine import writers
from alt_ray.engine.encode import encode
from alt_ray.engine.label import label
from tests.test_label import FAULTY
from tests.test_s3 import encode_options, job

lease.BEAT_S, lease.LIMIT_S = 0.5, 8.0
command, source, out, model, where = sys.argv[1:]
moved = []

def copy_and_die(self, source, target):
    if len(moved) == 1:
        self.filesystem.copy_file(f"{self.path}/{source}", f"{self.path}/{target}")
        os.kill(os.getpid(), signal.SIGKILL)
    moved.append(target)
    move(self, source, target)

move = RemoteFolder.move
if where == "between copy and removal":
    RemoteFolder.move = copy_and_die
if command == "label":
    label(job(source, out, model), decode_function=FAULTY)
else:
    encode(encode_options(source, out, model), decode_function=FAULTY)
"""


def encode_options(source: str, out: str, model: str) -> EncodeOptions:
    encoder = options("", Path(), model).encoder
    return EncodeOptions(source=source, out=out, encoder=encoder, output=OutputOptions(quiet=True))


@pytest.fixture
def mark() -> Iterator[str]:
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    yield mark
    end_what_is_left(mark)


def start(mark: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "ALT_RAY_TEST_MARK": mark},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def slow_videos(s3: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("slow")
    for i in range(24):
        write_video(folder / f"slow{i:02}.mp4", num_frames=8)
    return s3.upload(folder, "slow")


@pytest.mark.slow
def test_a_killed_job_goes_on_and_waits_out_a_server_that_is_gone_for_a_while(
    s3: Server, slow_videos: str, model: str, mark: str
) -> None:
    out = f"s3://{BUCKET}/killed"
    process = start(mark, "label", slow_videos, out, model, "")
    wait_until(lambda: bool(s3.names(f"killed/{LABELS}")) or process.poll() is not None)
    assert process.poll() is None, process.stderr and process.stderr.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    end_what_is_left(mark)
    before = uris(s3, f"killed/{LABELS}")
    assert 0 < len(before) < 24
    assert record(s3, "killed")["status"] == "running"
    parts = s3.names(f"killed/{LABELS}")

    process = start(mark, "label", slow_videos, out, model, "")
    wait_until(lambda: len(s3.names(f"killed/{LABELS}")) > len(parts) or process.poll() is not None)
    assert process.poll() is None, process.stderr and process.stderr.read()
    s3.pause()
    threading.Timer(2.0, s3.go_on).start()
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert uris(s3, f"killed/{LABELS}") == [f"slow{i:02}.mp4" for i in range(24)]
    summary = Summary(**record(s3, "killed")["summary"])
    assert summary.is_balanced
    assert summary.already_done == len(before)
    assert not s3.names(f"killed/{TEMPORARY}")


@pytest.mark.slow
def test_a_job_killed_between_copy_and_removal_of_a_part_has_it_once(
    s3: Server, slow_videos: str, model: str, mark: str
) -> None:
    out = f"s3://{BUCKET}/cut"
    process = start(mark, "encode", slow_videos, out, model, "between copy and removal")
    _, said = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, said
    end_what_is_left(mark)
    assert len(s3.names(f"cut/{REGIONS}")) == 2
    twice = set(s3.names(f"cut/{REGIONS}")) & set(s3.names(f"cut/{TEMPORARY}"))
    assert len(twice) == 1

    process = start(mark, "encode", slow_videos, out, model, "")
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    store = FeatureStore(out)
    assert sorted(uri.rpartition("/")[2] for uri in store.clips()["uri"].to_pylist()) == [
        f"slow{i:02}.mp4" for i in range(24)
    ]
    assert record(s3, "cut")["summary"]["already_done"] > 0
    assert not s3.names(f"cut/{TEMPORARY}")
