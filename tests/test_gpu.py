"""What can only be seen on a GPU: the same answers as on a CPU, within what is promised, and what happens when its memory ends.

Skipped where torch sees no GPU. Tolerances are those of docs/gpu.md.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from alt_ray.config import ClusterOptions, EncoderOptions, LabelOptions, OutputOptions
from alt_ray.engine.feeders import keep_to_share
from alt_ray.engine.label import label
from alt_ray.engine.request import EncodeRequest
from alt_ray.models.encoder import RegionEncoder, load_encoder
from alt_ray.models.feeding import FrameFeeder
from alt_ray.models.probing import probe_batch
from tests.media import write_video
from tests.stores import write_store
from tests.test_train import SETTINGS, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
WORST_COSINE = {"float32": 0.99999, "bfloat16": 0.99, "float16": 0.999}


def frames(num: int, encoder: RegionEncoder) -> np.ndarray:
    size = encoder.image_size
    return np.random.default_rng(0).integers(0, 256, (num, size, size, 3), np.uint8)


def pooled(encoder: RegionEncoder, num: int, batch: int, *, compiled: bool = False) -> torch.Tensor:
    with torch.inference_mode():
        return FrameFeeder(encoder, batch, compiled=compiled).whole(frames(num, encoder)).pooled.float().cpu()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("merge_r", [0, 8])
def test_images_have_the_embedding_that_they_have_on_a_cpu(dtype: str, merge_r: int) -> None:
    expected = pooled(load_encoder("ViT-B-16", "none", merge_r=merge_r), 21, 8)
    found = pooled(load_encoder("ViT-B-16", "none", merge_r=merge_r, device="cuda", dtype=dtype), 21, 8)
    assert torch.nn.functional.cosine_similarity(found, expected).min() > WORST_COSINE[dtype]


def test_a_compiled_encoder_answers_the_same() -> None:
    encoder = load_encoder("pocket", merge_r=4, device="cuda")
    torch.testing.assert_close(pooled(encoder, 21, 8, compiled=True), pooled(encoder, 21, 8), rtol=1e-3, atol=1e-3)


def test_where_the_cards_memory_ends_the_batch_is_halved() -> None:
    encoder = load_encoder("ViT-B-16", "none", device="cuda")
    share = (torch.cuda.memory_allocated() + 2**30) / torch.cuda.get_device_properties(0).total_memory
    try:
        keep_to_share(EncodeRequest(EncoderOptions(), "cuda", gpu_share=share))
        feeder = FrameFeeder(encoder, 1024)
        with torch.inference_mode():
            found = sum(len(part.tokens.cpu()) for part in feeder.regions(frames(1024, encoder)))
        assert found == 1024
        assert feeder.frames_per_batch < 1024
        assert probe_batch(encoder)[0] < 1024
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.slow
@pytest.mark.parametrize("gpus_per_actor", [1.0, 0.5])
def test_videos_get_the_labels_that_they_get_on_a_cpu(tmp_path: Path, gpus_per_actor: float) -> None:
    for i in range(12):
        write_video(tmp_path / f"{i}.mp4", num_frames=20 + i)
    found = {}
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        label(
            LabelOptions(
                source=str(tmp_path),
                out=str(out),
                adapter="pocket",
                encoder=EncoderOptions(device=device),
                cluster=ClusterOptions(gpus_per_actor=gpus_per_actor if device == "cuda" else None),
                output=OutputOptions(quiet=True),
            )
        )
        import pyarrow.dataset as pads

        rows = pads.dataset(out / "labels").to_table().to_pylist()
        found[device] = {row["video_id"]: row for row in rows}
        assert json.loads((out / "run.json").read_text())["resources"]["device"] == device
    assert found["cpu"].keys() == found["cuda"].keys()
    for name, row in found["cpu"].items():
        assert found["cuda"][name]["score"] == pytest.approx(row["score"], abs=1e-3)


@pytest.mark.slow
def test_workers_train_with_nccl(tmp_path: Path) -> None:
    store = str(write_store(tmp_path / "store", 64))
    workers = str(torch.cuda.device_count())
    assert run("train", store, "--out", str(tmp_path / "run"), *SETTINGS, "--device", "cuda", "--workers", workers) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"
