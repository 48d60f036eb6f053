"""Frames reach the encoder in batches that change nothing of the result, whose size follows the memory that there is."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from alt_ray.errors import ModelError
from alt_ray.models.encoder import RegionEncoder, Regions, load_encoder
from alt_ray.models.feeding import FrameFeeder, is_out_of_memory
from alt_ray.models.probing import probe_batch


@pytest.fixture(scope="module")
def encoder() -> RegionEncoder:
    return load_encoder("pocket", merge_r=4)


def frames(num: int, size: int = 64) -> np.ndarray:
    found = np.random.default_rng(0).integers(0, 256, (num, size, size, 3), np.uint8)
    found.flags.writeable = False  # as what comes from Ray
    return found


@torch.inference_mode()
def encoded(encoder: RegionEncoder, num: int) -> Regions:
    return encoder.encode_frames(encoder.normalise(torch.tensor(frames(num, encoder.image_size))))


def assert_close(found: Regions, expected: Regions) -> None:
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames_per_batch", [None, 1, 5, 8, 21, 100])
@torch.inference_mode()
def test_batches_change_nothing(encoder: RegionEncoder, frames_per_batch: int | None) -> None:
    found = FrameFeeder(encoder, frames_per_batch).whole(frames(21, encoder.image_size))
    assert_close(found, encoded(encoder, 21))


@pytest.mark.slow
@torch.inference_mode()
def test_a_compiled_encoder_sees_one_shape_and_answers_the_same(encoder: RegionEncoder) -> None:
    torch._dynamo.utils.counters.clear()
    feeder = FrameFeeder(encoder, 8, compiled=True)
    parts = list(feeder.regions(frames(21, encoder.image_size)))
    assert [len(part.tokens) for part in parts] == [8, 8, 5]
    assert_close(feeder.whole(frames(21, encoder.image_size)), encoded(encoder, 21))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # one shape, no break


# Half a gigabyte more than the libraries and weights take: 256 frames of 224 pixels need several, 8 of them less.
LITTLE_MEMORY = """
import json, resource, sys
import numpy as np, torch
from alt_ray.models.encoder import load_encoder
from alt_ray.models.feeding import FrameFeeder

torch.set_num_threads(1)
encoder = load_encoder("ViT-S-32-alt", "none")
size = encoder.image_size
frames = np.random.default_rng(0).integers(0, 256, (int(sys.argv[1]), size, size, 3), np.uint8)
with torch.inference_mode():
    expected = FrameFeeder(encoder, 4).whole(frames[:4]).pooled
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]) * 2**20, -1))
    feeder = FrameFeeder(encoder, int(sys.argv[2]))
    pooled = torch.cat([part.pooled for part in feeder.regions(frames)])
difference = float((pooled[:4] - expected).abs().max())
print(json.dumps({"frames": len(pooled), "batch": feeder.frames_per_batch, "difference": difference}))
"""


def run_with_little_memory(num: int, batch: int, mebibytes: int) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", LITTLE_MEMORY, str(num), str(batch), str(mebibytes)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_where_memory_ends_the_batch_is_halved_and_every_frame_is_encoded() -> None:
    process = run_with_little_memory(256, 256, 400)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    assert found["frames"] == 256
    assert found["batch"] < 256
    assert found["difference"] < 1e-3


@pytest.mark.slow
def test_where_not_even_one_frame_fits_the_error_says_what_to_do() -> None:
    process = run_with_little_memory(8, 8, 0)
    assert process.returncode == 1
    assert "ModelError: one frame of 224 pixels does not fit" in process.stderr
    assert "give fewer actors" in process.stderr


def test_only_a_lack_of_memory_is_taken_for_one() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2) @ torch.zeros(3)
    assert not is_out_of_memory(caught.value)


def test_an_error_that_is_none_of_memory_comes_through(encoder: RegionEncoder) -> None:
    with pytest.raises(ModelError, match="images are"):
        FrameFeeder(encoder, 4).whole(frames(3, encoder.image_size + 1))


def test_probing_finds_a_size_that_it_tried(encoder: RegionEncoder) -> None:
    chosen, probes = probe_batch(encoder, (1, 2, 4), repeats=1)
    assert probes[0].frames == 1
    assert chosen in [probe.frames for probe in probes]
    speeds = {probe.frames: probe.images_per_s or 0.0 for probe in probes}
    assert speeds[chosen] >= 0.97 * max(speeds.values())


def test_a_batch_of_nothing_is_refused(encoder: RegionEncoder) -> None:
    with pytest.raises(ModelError, match="expected 1 or more"):
        FrameFeeder(encoder, 0)
