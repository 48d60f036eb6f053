"""alt_ray.load: a checkpoint labels a video by its path, and the label job with the same checkpoint agrees."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import alt_ray
from alt_ray.config import EncoderOptions, LabelOptions, OutputOptions
from alt_ray.errors import CheckpointError, DecodeError
from alt_ray.pocket.archive import ArchiveOptions, write_archive
from tests.media import write_video

ACTIONS = {"riding a bicycle": "bicycle", "playing drums": "drum", "paddling a kayak": "kayak"}  # and the object in it


@pytest.fixture
def pocket_videos(tmp_path: Path) -> Path:
    """A folder with one video of each of ACTIONS, of a seed that no training had."""
    write_archive(tmp_path / "archive", len(ACTIONS), ArchiveOptions(seed=31_000_000, actions=tuple(ACTIONS)))
    return tmp_path / "archive" / "videos"


@pytest.mark.usefixtures("ray_here")
def test_the_label_job_with_an_adapter_agrees_with_alt_ray_load(pocket_videos: Path, tmp_path: Path) -> None:
    from alt_ray.engine.label import label

    model = alt_ray.load("pocket")
    out = tmp_path / "out"
    label(LabelOptions(source=str(pocket_videos), out=str(out), adapter="pocket", output=OutputOptions(quiet=True)))
    rows = pq.read_table(out / "labels").to_pylist()
    assert len(rows) == len(ACTIONS)
    for row in rows:
        direct = model.label(row["uri"], top=3)[0]
        labels = {entry["label"]: entry["score"] for entry in row["top_labels"]}
        assert list(labels)[:3] == [name for name, _ in direct.labels]
        assert list(labels.values())[:3] == pytest.approx([score for _, score in direct.labels], abs=1e-5)
        shares = dict(direct.entities)
        for entity in row["entities"]:  # a patch or two may choose otherwise in a batch of another size
            assert entity["weight"] == pytest.approx(shares.get(entity["name"], min(shares.values())), abs=0.005)


def test_a_video_is_labelled_with_what_it_shows(pocket_videos: Path) -> None:
    model = alt_ray.load("pocket")
    for video in pocket_videos.rglob("*.mp4"):
        found = model.label(video)[0]
        action = found.labels[0][0]
        assert action.replace(" ", "_") in video.name
        assert ACTIONS[action] in dict(found.entities)


def test_other_labels_need_no_other_checkpoint(tmp_path: Path) -> None:
    model = alt_ray.load("pocket")
    model.set_labels(["a", "b"])
    assert {name for name, _ in model.label(write_video(tmp_path / "v.mp4"))[0].labels} == {"a", "b"}


def test_the_frames_that_label_looks_at_are_those_at_the_middle_of_equal_parts(tmp_path: Path) -> None:
    model = alt_ray.load("pocket")
    # Frame i of 30 has the grey level 40 + 5 * i; the middles of its eighths are frames 1, 5, 9, 13, 16, 20, 24 and 28.
    video = write_video(tmp_path / "v.mp4")
    frames_THW3 = model.frames_of(video)
    model.frames_of(video, 0.0, 0.3)  # what was returned before stays as it is
    model.frames_of(video, 0.0, 0.3)
    assert abs(frames_THW3.mean((1, 2, 3)) - [45, 65, 85, 105, 120, 140, 160, 180]).max() < 3
    as_frames = model.label(torch.from_numpy(frames_THW3).permute(0, 3, 1, 2))
    assert as_frames == model.label(video)


def test_a_broken_video_is_a_decode_error(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match=r"v\.mp4"):
        alt_ray.load("pocket").label(tmp_path / "v.mp4")


def test_another_encoder_than_the_adapters_is_refused_by_name() -> None:
    from alt_ray.engine.model import prepare_model
    from alt_ray.engine.request import ModelRequest

    request = ModelRequest(encoder=EncoderOptions(encoder="ViT-B-16"), device="cpu", adapter="pocket")
    with pytest.raises(CheckpointError, match="ViT-B-16"):
        prepare_model(request)
