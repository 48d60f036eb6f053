"""alt_ray.load: a checkpoint labels a video by its path, and the label job with the same checkpoint agrees."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

import alt_ray
from alt_ray.config import EncoderOptions, LabelOptions, OutputOptions
from alt_ray.errors import CheckpointError, DecodeError
from alt_ray.models.adapter import VideoAdapter
from alt_ray.models.checkpoint import Checkpoint, CheckpointConfig, EncoderRecord, save_checkpoint
from alt_ray.models.configs import AdapterConfig, AlignmentConfig
from alt_ray.models.encoder import load_encoder
from alt_ray.models.text import label_embeddings
from tests.media import tiny_clip, write_video

LABELS, ENTITIES = ("walking", "running", "waving"), ("hand", "ball", "street")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An untrained adapter over a random encoder: enough to see that every way gives the same answer."""
    encoder = load_encoder(tiny_clip(tmp_path), merge_r=4)
    adapter = AdapterConfig(dim=encoder.dim, width=32, num_heads=2, num_blocks=1)
    torch.manual_seed(0)
    config = CheckpointConfig(
        encoder=EncoderRecord.of(encoder),
        adapter=adapter,
        alignment=AlignmentConfig(),
        labels=LABELS,
        template="photo",
        corpus_digest="sha256:test",
        entity_names=ENTITIES,
        entity_categories=("body_part", "object", "scene"),
        sampling={"frames": 4},
    )
    entities, labels = encoder.encode_text(ENTITIES), label_embeddings(encoder, LABELS, "photo")
    return save_checkpoint(tmp_path / "checkpoint", Checkpoint(config, VideoAdapter(adapter), entities, labels))


@pytest.mark.usefixtures("ray_here")
def test_the_label_job_with_an_adapter_agrees_with_alt_ray_load(checkpoint: Path, tmp_path: Path) -> None:
    from alt_ray.engine.label import label

    video = write_video(tmp_path / "v.mp4")
    model = alt_ray.load(checkpoint)
    direct = model.label(video, top=3)[0]
    label(
        LabelOptions(
            source=str(video), out=str(tmp_path / "out"), adapter=str(checkpoint), output=OutputOptions(quiet=True)
        )
    )
    row = pq.read_table(tmp_path / "out" / "labels").to_pylist()[0]
    assert [entry["label"] for entry in row["top_labels"]] == [name for name, _ in direct.labels]
    assert [entry["score"] for entry in row["top_labels"]] == pytest.approx(
        [score for _, score in direct.labels], abs=1e-5
    )
    assert [entity["name"] for entity in row["entities"]] == [name for name, _ in direct.entities]


def test_other_labels_need_no_other_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    model = alt_ray.load(checkpoint)
    model.set_labels(["a", "b"])
    assert {name for name, _ in model.label(write_video(tmp_path / "v.mp4"))[0].labels} == {"a", "b"}


def test_the_frames_that_label_looks_at_are_those_at_the_middle_of_equal_parts(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = alt_ray.load(checkpoint)
    # Frame i of 30 has the grey level 40 + 5 * i; the middles of four quarters are frames 3, 11, 18 and 26.
    video = write_video(tmp_path / "v.mp4")
    frames_THW3 = model.frames_of(video)
    model.frames_of(video, 0.0, 0.3)  # what was returned before stays as it is
    model.frames_of(video, 0.0, 0.3)
    assert abs(frames_THW3.mean((1, 2, 3)) - [55, 95, 130, 170]).max() < 3
    as_frames = model.label(torch.from_numpy(frames_THW3).permute(0, 3, 1, 2))
    assert as_frames == model.label(video)


def test_a_broken_video_is_a_decode_error(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match=r"v\.mp4"):
        alt_ray.load(checkpoint).label(tmp_path / "v.mp4")


def test_another_encoder_than_the_adapters_is_refused_by_name(checkpoint: Path) -> None:
    from alt_ray.engine.model import prepare_model
    from alt_ray.engine.request import ModelRequest

    request = ModelRequest(encoder=EncoderOptions(encoder="ViT-B-16"), device="cpu", adapter=str(checkpoint))
    with pytest.raises(CheckpointError, match="ViT-B-16"):
        prepare_model(request)
