"""The label job end to end on a local Ray: nothing lost, nothing twice, whatever is broken or killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alt_ray.config import ClusterOptions, EncoderOptions, InputOptions, LabelOptions, OutputOptions, SamplingOptions
from alt_ray.corpus.files import load_corpus
from alt_ray.engine.job import Summary
from alt_ray.engine.label import label, label_dataset
from alt_ray.engine.request import ModelRequest
from alt_ray.engine.resources import plan_resources
from alt_ray.engine.sinks import FAILURES, LABELS
from alt_ray.engine.stages import DecodeClips, DecodeSettings, LabelClips
from alt_ray.errors import UsageError
from alt_ray.video.manifest import read_source
from alt_ray.video.sampling import ClipSpec
from tests.media import tiny_clip, write_video

NAMES = ("walking", "running", "waving")
FAULTY = "tests.faulty_decoder:decode"


def options(source: Path | str, out: Path, model: str, **changes: Any) -> LabelOptions:
    given: dict[str, Any] = {
        "labels": ",".join(NAMES),
        "encoder": EncoderOptions(encoder=model, pretrained="none", merge_r=2),
        "output": OutputOptions(quiet=True),
        **changes,
    }
    return LabelOptions(source=str(source), out=str(out), **given)


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    parts = list((out / name).glob("*.parquet"))
    return pa.concat_tables(pq.read_table(part) for part in parts).to_pylist() if parts else []


def names_in(out: Path, name: str) -> list[str]:
    return sorted(Path(row["uri"]).name for row in rows(out, name))


def record(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip(tmp_path_factory.mktemp("model"))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(6):
        write_video(folder / f"v{i}.mp4", num_frames=10 + i)
    return folder


@pytest.mark.usefixtures("ray_here")
class TestLabel:
    def test_every_input_has_one_row_and_the_columns_are_as_documented(
        self, videos: Path, tmp_path: Path, model: str
    ) -> None:
        (videos / "broken.mp4").write_bytes(b"no video")
        (videos / "notes.txt").write_text("")
        out = tmp_path / "out"
        summary = label(options(videos, out, model))
        assert (summary.inputs, summary.labelled, summary.failed, summary.already_done) == (7, 6, 1, 0)
        assert names_in(out, LABELS) == [f"v{i}.mp4" for i in range(6)]
        failure = rows(out, FAILURES)[0]
        assert (failure["stage"], failure["error"], failure["attempts"]) == ("open", "unreadable", 1)
        assert "broken.mp4" in failure["message"]
        row = rows(out, LABELS)[0]
        assert row["label"] == row["top_labels"][0]["label"]
        assert row["label"] in NAMES
        assert sum(entry["score"] for entry in row["top_labels"]) == pytest.approx(1, abs=1e-4)
        assert 0 < sum(entity["weight"] for entity in row["entities"]) <= 1 + 1e-4
        assert {entity["category"] for entity in row["entities"]} <= {"body_part", "object", "scene", "motion"}
        assert np.linalg.norm(row["embedding"]) == pytest.approx(1, abs=1e-4)
        assert (row["width"], row["height"], row["codec"], row["frames_damaged"]) == (96, 64, "h264", 0)
        written = record(out)
        assert written["status"] == "done"
        assert written["inputs"]["other_files"] == {"txt": 1}
        assert any("zero-shot" in note for note in written["notes"])
        assert written["settings"]["weights_digest"].startswith("sha256:")
        assert written["failures"] == {"unreadable": 1}

    def test_results_equal_direct_calls_of_the_stages(self, videos: Path, tmp_path: Path, model: str) -> None:
        from alt_ray.engine.model import prepare_model

        out = tmp_path / "out"
        label(options(videos, out, model, sampling=SamplingOptions(frames=4, views=2)))
        request = ModelRequest(
            encoder=EncoderOptions(encoder=model, pretrained="none", merge_r=2),
            device="cpu",
            labels=NAMES,
            corpus=load_corpus(),
            num_frames=4,
        )
        decode = DecodeClips(DecodeSettings(ClipSpec(num_frames=4, num_views=2, image_size=64)))
        table = read_source(str(videos)).table
        batch = {name: table[name].to_numpy() for name in ("video_id", "uri")}
        batch |= {name: np.full(table.num_rows, np.nan) for name in ("start_s", "end_s")}
        direct = {
            row["video_id"]: row for row in LabelClips(request, prepare_model(request))(decode(batch)).to_pylist()
        }
        for row in rows(out, LABELS):
            expected = direct[row["video_id"]]
            assert row["label"] == expected["label"]
            assert row["entities"] == expected["entities"]
            assert np.allclose(row["embedding"], expected["embedding"], atol=1e-5)
            assert row["score"] == pytest.approx(expected["score"], abs=1e-5)

    def test_a_second_run_does_only_what_is_missing(self, videos: Path, tmp_path: Path, model: str) -> None:
        out = tmp_path / "out"
        label(options(videos, out, model, inputs=InputOptions(limit=4)))
        parts = set((out / LABELS).iterdir())
        summary = label(options(videos, out, model))
        assert (summary.inputs, summary.labelled, summary.already_done) == (6, 2, 4)
        assert parts < set((out / LABELS).iterdir())
        again = label(options(videos, out, model))
        assert (again.labelled, again.failed, again.already_done) == (0, 0, 6)
        assert len(names_in(out, LABELS)) == 6

    def test_other_settings_into_the_same_folder_are_refused_with_the_difference(
        self, videos: Path, tmp_path: Path, model: str
    ) -> None:
        out = tmp_path / "out"
        label(options(videos, out, model, inputs=InputOptions(limit=1)))
        before = record(out)
        with pytest.raises(UsageError, match=r"views: 1 there, 3 now"):
            label(options(videos, out, model, sampling=SamplingOptions(views=3)))
        assert record(out) == before

    def test_failures_are_tried_again_only_when_asked(self, videos: Path, tmp_path: Path, model: str) -> None:
        out, late = tmp_path / "out", videos / "late.mp4"
        late.write_bytes(b"still being copied")
        label(options(videos, out, model))
        write_video(late)
        assert label(options(videos, out, model)).already_done == 7
        summary = label(options(videos, out, model, inputs=InputOptions(retry_failed=True)))
        assert (summary.labelled, summary.failed, summary.already_done) == (1, 0, 6)
        assert rows(out, FAILURES) == []

    def test_hanging_and_crashing_files_cost_themselves_alone(self, videos: Path, tmp_path: Path, model: str) -> None:
        for name in ("hang", "segfault", "killed"):
            write_video(videos / f"{name}.mp4")
        out = tmp_path / "out"
        summary = label(
            options(videos, out, model, sampling=SamplingOptions(decode_limit_s=2.0)), decode_function=FAULTY
        )
        assert (summary.inputs, summary.labelled, summary.failed) == (9, 6, 3)
        found = {Path(row["uri"]).stem: (row["error"], row["attempts"]) for row in rows(out, FAILURES)}
        assert found == {"hang": ("timeout", 1), "segfault": ("crashed", 2), "killed": ("crashed", 2)}

    def test_names_of_every_kind_come_through(self, tmp_path: Path, model: str) -> None:
        folder = tmp_path / "odd names #1 (50% off)"
        folder.mkdir()
        names = [
            "a b.mp4",
            'it\'s "quoted".mp4',
            "#hash?.mp4",
            "bang!&+;~[1].mp4",
            "Grüße_日本.mp4",
            "-dash.mp4",
            "%20.MP4",
        ]
        for name in names:
            write_video(tmp_path / "v.mp4").rename(folder / name)
        os.rename(write_video(tmp_path / "v.mp4"), os.fsencode(folder) + b"/latin\xe9.mp4")  # noqa: PTH104
        out = tmp_path / "out"
        assert label(options(folder, out, model)).labelled == len(names) + 1
        assert set(names) < set(names_in(out, LABELS))

    def test_a_manifest_with_bounds_missing_files_and_repeats_balances(
        self, videos: Path, tmp_path: Path, model: str
    ) -> None:
        manifest = tmp_path / "list.csv"
        manifest.write_text(
            "path,start_s,end_s\nvideos/v0.mp4,0,0.5\nvideos/v0.mp4,0.5,1\nvideos/gone.mp4,,\nvideos/v1.mp4,90,99\nvideos/v0.mp4,0,0.5\n"
        )
        out = tmp_path / "out"
        summary = label(options(manifest, out, model))
        assert (summary.inputs, summary.labelled, summary.failed) == (4, 2, 2)
        assert {row["error"] for row in rows(out, FAILURES)} == {"not_found", "no_frames"}
        assert sorted(row["start_s"] for row in rows(out, LABELS)) == [0.0, 0.5]
        assert record(out)["inputs"]["duplicate_rows"] == 1

    def test_videos_come_from_a_web_server(self, videos: Path, tmp_path: Path, model: str) -> None:
        handler = lambda *args: _Quiet(*args, directory=str(videos))  # noqa: E731
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        manifest = tmp_path / "list.txt"
        manifest.write_text(
            "".join(f"http://127.0.0.1:{server.server_port}/{name}\n" for name in ("v0.mp4", "gone.mp4"))
        )
        summary = label(options(manifest, tmp_path / "out", model))
        server.shutdown()
        assert (summary.labelled, summary.failed) == (1, 1)
        assert rows(tmp_path / "out", FAILURES)[0]["error"] == "not_found"

    def test_decoding_and_encoding_are_two_operators_so_that_they_overlap(self, videos: Path, model: str) -> None:
        from ray.data._internal.logical.optimizers import get_execution_plan

        from alt_ray.engine.model import prepare_model

        request = ModelRequest(
            encoder=EncoderOptions(encoder=model, pretrained="none"), device="cpu", labels=NAMES, corpus=load_corpus()
        )
        plan = plan_resources(2, 0, 2**34, ClusterOptions())
        decode = DecodeSettings(ClipSpec(image_size=64))
        dataset = label_dataset(read_source(str(videos)).table, decode, request, prepare_model(request), plan)
        encoder = get_execution_plan(dataset._logical_plan)[0].dag
        assert encoder.name == "MapBatches(LabelClips)"
        assert [operator.name for operator in encoder.input_dependencies] == ["MapBatches(DecodeClips)"]

    def test_an_unknown_model_is_wrong_usage_and_leaves_no_record(self, videos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with pytest.raises(UsageError, match="RN50"):
            label(options(videos, out, "RN50"))
        assert not (out / "run.json").exists()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


PROGRAM = """
import sys
from tests.test_label import options, FAULTY
from alt_ray.cli import _interrupt
from alt_ray.engine.label import label
from pathlib import Path
import signal
signal.signal(signal.SIGTERM, _interrupt)
label(options(sys.argv[1], Path(sys.argv[2]), sys.argv[3]), decode_function=FAULTY)
"""


def start(videos: Path, out: Path, model: str) -> tuple["subprocess.Popen[bytes]", str]:
    """Start a label job in a process of its own; the mark in its environment finds everything that it started."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(videos), str(out), model],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "ALT_RAY_TEST_MARK": mark},
        start_new_session=True,
    )
    return process, mark


def wait_for_part(out: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 300
    while not list((out / LABELS).glob("*.parquet")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    assert list((out / LABELS).glob("*.parquet")), "nothing was published in time"


def end_what_is_left(mark: str) -> None:
    """Ray leaves processes behind when its driver is killed; end those of this driver, by id."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"ALT_RAY_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM"])
def test_after_a_kill_the_same_command_finishes_with_every_input_once(
    tmp_path: Path, model: str, how: signal.Signals
) -> None:
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    for i in range(60):
        write_video(folder / f"slow{i:02}.mp4", num_frames=10)
    process, mark = start(folder, out, model)
    try:
        wait_for_part(out, process)
        os.kill(process.pid, how)
        process.wait(180)
    finally:
        end_what_is_left(mark)
    before = names_in(out, LABELS)
    assert 0 < len(before) < 60
    assert record(out)["status"] == ("running" if how == signal.SIGKILL else "interrupted")

    label(options(folder, out, model))
    assert names_in(out, LABELS) == [f"slow{i:02}.mp4" for i in range(60)]
    summary = Summary(**record(out)["summary"])
    assert summary.is_balanced
    assert summary.already_done == len(before)
    assert not [path for path in (out / "_temporary").iterdir() if path.name != "lock"]
