"""Encode once, use often: a store has every clip once whatever breaks, and labels made from it are those made from the videos."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from alt_ray.config import (
    ClusterOptions,
    DeviceOptions,
    EncoderOptions,
    InputOptions,
    LabelOptions,
    OutputOptions,
    SamplingOptions,
)
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.engine.encode import clip_spec, encode, encode_dataset, store_record
from alt_ray.engine.encoding import prepare_encoder
from alt_ray.engine.label import label
from alt_ray.engine.relabel import relabel
from alt_ray.engine.request import EncodeRequest
from alt_ray.engine.resources import plan_resources
from alt_ray.engine.stages import DecodeSettings
from alt_ray.errors import CheckpointError, UsageError
from alt_ray.features.store import FeatureStore
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from alt_ray.video.manifest import read_source
from tests.media import tiny_clip, write_video
from tests.test_label import end_what_is_left

QUIET = OutputOptions(quiet=True)


def encode_options(source: Path, out: Path, **changes: Any) -> EncodeOptions:
    given: dict[str, Any] = {"adapter": "pocket", "output": QUIET, **changes}
    return EncodeOptions(source=str(source), out=str(out), **given)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_archive(folder, 8, ArchiveOptions(seed=910_000))
    return folder / "manifest.csv"


@pytest.mark.usefixtures("ray_here")
class TestEncode:
    def test_labels_from_the_store_are_those_from_the_videos(self, videos: Path, tmp_path: Path) -> None:
        summary = encode(encode_options(videos, tmp_path / "features", sampling=SamplingOptions(views=2)))
        assert (summary.inputs, summary.labelled, summary.encoded, summary.failed) == (8, 8, 8, 0)
        assert 0.95 < summary.bytes_per_clip / summary.predicted_bytes_per_clip < 1.2
        label(
            LabelOptions(
                source=str(videos),
                out=str(tmp_path / "direct"),
                adapter="pocket",
                sampling=SamplingOptions(views=2),
                output=QUIET,
            )
        )
        relabel(RelabelOptions(source=str(tmp_path / "features"), out=str(tmp_path / "again"), output=QUIET))
        direct, again = (rows(tmp_path / name / "labels") for name in ("direct", "again"))
        assert direct.keys() == again.keys()
        for key, row in direct.items():
            other = again[key]
            assert other["label"] == row["label"]
            assert other["score"] == pytest.approx(row["score"], abs=0.02)  # stored in float16
            assert np.dot(other["embedding"], row["embedding"]) > 0.999
            for name in ("uri", "duration_s", "fps", "width", "height", "codec", "model_digest"):
                assert other[name] == row[name], name
            assert [e["name"] for e in other["entities"]][:2] == [e["name"] for e in row["entities"]][:2]
        with pytest.raises(UsageError, match="other settings"):
            relabel(
                RelabelOptions(
                    source=str(tmp_path / "features"),
                    out=str(tmp_path / "again"),
                    labels="walking,running",
                    output=QUIET,
                )
            )

    def test_the_store_says_what_the_manifest_says_now_and_nothing_is_encoded_again(
        self, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "features"
        encode(encode_options(videos, out, inputs=InputOptions(limit=6)))
        given = pa.csv.read_csv(videos).to_pylist()
        assert said_by(FeatureStore(str(out))) == said_in(given[:6])
        assert FeatureStore(str(out)).record.sampling == {"frames": 8, "views": 1, "train_views": 0}
        parts = {part: part.stat().st_mtime_ns for part in (out / "regions").iterdir()}
        given[0]["label"], given[7]["label"] = "corrected", "corrected, too"
        corrected = tmp_path / "corrected.csv"
        pa.csv.write_csv(pa.Table.from_pylist(given), corrected)
        inputs = InputOptions(root=str(videos.parent), limit=7)
        with pytest.raises(UsageError, match="other settings"):
            encode(encode_options(corrected, out, inputs=inputs, sampling=SamplingOptions(frames=4)))
        assert not (out / "annotations").exists()
        summary = encode(encode_options(corrected, out, inputs=inputs, output=OutputOptions()))
        assert (summary.already_done, summary.labelled) == (6, 1)
        assert summary.annotated == {"label": 1, "split": 0, "group": 0}
        assert "of 1 clips that were encoded before" in capsys.readouterr().err
        assert json.loads((out / "run.json").read_text())["annotated"] == summary.annotated
        assert parts.items() <= {part: part.stat().st_mtime_ns for part in (out / "regions").iterdir()}.items()
        assert said_by(FeatureStore(str(out))) == said_in(given[:7])

    def test_a_second_run_does_what_is_missing_and_broken_files_cost_themselves(self, tmp_path: Path) -> None:
        folder = tmp_path / "videos"
        folder.mkdir()
        for i in range(5):
            write_video(folder / f"v{i}.mp4", num_frames=10 + i)
        (folder / "broken.mp4").write_bytes(b"no video")
        out = tmp_path / "features"
        first = encode(encode_options(folder, out, inputs=InputOptions(limit=3)))
        assert (first.inputs, first.labelled, first.failed, first.already_done) == (3, 2, 1, 0)
        second = encode(encode_options(folder, out))
        assert (second.inputs, second.labelled, second.failed, second.already_done) == (6, 3, 0, 3)
        assert FeatureStore(str(out)).rows.num_rows == 5
        assert [row["error"] for row in rows(out / "failures").values()] == ["unreadable"]
        assert list((out / "_temporary").glob("*.parquet")) == []
        with pytest.raises(UsageError, match="sampling"):
            encode(encode_options(folder, out, sampling=SamplingOptions(frames=4)))
        with pytest.raises(UsageError, match=r"sampling\.crops: null there, 3 now"):
            encode(encode_options(folder, out, sampling=SamplingOptions(crops=3)))

    def test_training_views_stand_behind_the_test_views_and_repeat(self, videos: Path, tmp_path: Path) -> None:
        for name, views in (("plain", 0), ("a", 2), ("b", 2)):
            encode(encode_options(videos, tmp_path / name, train_views=views, inputs=InputOptions(limit=2)))
        plain, one, two = (FeatureStore(str(tmp_path / name)) for name in ("plain", "a", "b"))
        assert one.rows["augmented"].to_pylist() == [False, True, True] * 2
        first = one.read([0, 1, 2])["regions"]
        np.testing.assert_array_equal(first[0], plain.read([0])["regions"][0])
        np.testing.assert_array_equal(first, two.read([0, 1, 2])["regions"])
        assert (first[1] != first[2]).any()

    def test_decoding_encoding_and_writing_are_three_operators(self, videos: Path, tmp_path: Path) -> None:
        options = encode_options(videos, tmp_path / "features")
        plan = plan_resources(2, 0, 2**34, ClusterOptions())
        request = EncodeRequest(options.encoder, "cpu", "pocket")
        prepared = prepare_encoder(request)
        spec = clip_spec(options, prepared)
        record = store_record(options, prepared, spec)
        clips = read_source(str(videos)).table
        dataset = encode_dataset(clips, DecodeSettings(spec), request, prepared, record, str(tmp_path), plan)
        (tmp_path / "_temporary").mkdir()
        written = dataset.materialize()
        assert written.count() == 8
        stats = written.stats()
        operators = [line for line in stats.splitlines() if line.startswith("Operator")]
        assert len([line for line in operators if "MapBatches" in line]) == 3, operators

    def test_a_store_of_random_weights_of_any_seed_is_relabelled_by_their_texts(self, tmp_path: Path) -> None:
        folder, out = tmp_path / "videos", tmp_path / "out"
        folder.mkdir()
        for i in range(2):
            write_video(folder / f"v{i}.mp4", num_frames=10 + i)
        (tmp_path / "things.txt").write_text("ball\nguitar\nwall\n")
        encoder = EncoderOptions(encoder=tiny_clip(tmp_path), pretrained="none", merge_r=2)
        encode(encode_options(folder, tmp_path / "features", adapter=None, encoder=encoder, seed=3))
        asked: dict[str, Any] = {"labels": "walking,running", "corpus": str(tmp_path / "things.txt"), "output": QUIET}
        label(LabelOptions(source=str(folder), out=str(tmp_path / "direct"), encoder=encoder, seed=3, **asked))
        features = str(tmp_path / "features")
        summary = relabel(
            RelabelOptions(source=features, out=str(out), adapter="none", place=DeviceOptions("cpu"), **asked)
        )
        assert (summary.inputs, summary.labelled) == (2, 2)
        direct, again = rows(tmp_path / "direct" / "labels"), rows(out / "labels")
        for key, row in direct.items():
            assert again[key]["model_digest"] == row["model_digest"]
            assert again[key]["score"] == pytest.approx(row["score"], abs=0.02)
            assert np.dot(again[key]["embedding"], row["embedding"]) > 0.999

    def test_an_adapter_of_another_encoder_is_refused_by_name(self, tmp_path: Path) -> None:
        folder = tmp_path / "videos"
        folder.mkdir()
        write_video(folder / "v.mp4")
        encoder = EncoderOptions(encoder=tiny_clip(tmp_path), pretrained="none", merge_r=2)
        encode(encode_options(folder, tmp_path / "features", adapter=None, encoder=encoder))
        options = RelabelOptions(
            source=str(tmp_path / "features"), out=str(tmp_path / "out"), adapter="pocket", output=QUIET
        )
        with pytest.raises(CheckpointError, match="weights_digest mismatch"):
            relabel(options)
        with pytest.raises(UsageError, match="say what to look for"):
            relabel(RelabelOptions(source=str(tmp_path / "features"), out=str(tmp_path / "out"), output=QUIET))


def said_by(store: FeatureStore) -> dict[str, tuple[str, str, str]]:
    clips = store.clips().to_pylist()
    return {Path(clip["uri"]).name: (clip["label"], clip["split"], clip["group"]) for clip in clips}


def said_in(manifest: list[dict[str, Any]]) -> dict[str, tuple[str, str, str]]:
    return {Path(row["path"]).name: (row["label"], row["split"], row["group"]) for row in manifest}


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    found = [row for part in folder.glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    assert len({row["video_id"] for row in found}) == len(found)
    return {row["video_id"]: row for row in found}


SCRIPT = """
import sys
from pathlib import Path
from tests.test_encode import encode_options
from alt_ray.engine.encode import encode
encode(encode_options(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_killed_driver_loses_nothing_that_was_published(tmp_path: Path) -> None:
    manifest = write_archive(tmp_path / "videos", 150, ArchiveOptions(seed=911_000))
    out = tmp_path / "features"
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    command = [sys.executable, "-c", SCRIPT, str(manifest), str(out)]
    environment = {**os.environ, "ALT_RAY_TEST_MARK": mark}
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[1], start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while not list((out / "regions").glob("*.parquet")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    finally:
        end_what_is_left(mark)
    before = FeatureStore(str(out)).rows.num_rows
    assert before > 0
    encode(encode_options(manifest, out))
    record = json.loads((out / "run.json").read_text())
    assert record["summary"]["already_done"] == before
    assert record["summary"]["labelled"] == 150 - before
    assert FeatureStore(str(out)).rows.num_rows == 150
