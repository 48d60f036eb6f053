"""Which batch size an encoder is fastest at where it stands: tries some. Knows nothing of videos, nor of who asks.

Small batches leave a GPU idle between kernels; beyond some size more only takes memory. Which size that is depends on the card,
the encoder, the number format and what else is on the card, so it is measured.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from alt_ray.models.feeding import FrameFeeder, wait_for_device

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder

SIZES = (32, 64, 128, 256, 512, 1024)
ENOUGH = 0.97  # of the best speed: a smaller batch that is as good takes less memory, and ends sooner


@dataclass(frozen=True)
class Probe:
    """What was found out about one batch size; images_per_s is None where it did not fit into memory."""

    frames: int
    images_per_s: float | None


def probe_batch(
    encoder: "RegionEncoder", sizes: tuple[int, ...] = SIZES, *, repeats: int = 3
) -> tuple[int, list[Probe]]:
    """Return the smallest batch size that is within 3 % of the fastest, and what was tried.

    Sizes are tried in their order, until one does not fit or is hardly faster than the one before. Raises ModelError where not
    even one frame fits.
    """
    found: list[Probe] = []
    fitting = 1
    for size in sizes:
        feeder = FrameFeeder(encoder, size)
        seconds = min(_seconds(feeder, size) for _ in range(1 + repeats))  # the first one compiles kernels
        fitting = feeder.frames_per_batch
        found.append(Probe(size, size / seconds if fitting == size else None))
        before = found[-2].images_per_s if len(found) > 1 else None
        if fitting < size or (before and size / seconds * ENOUGH < before):
            break
    speeds = [probe for probe in found if probe.images_per_s]
    fastest = max((probe.images_per_s or 0.0 for probe in speeds), default=0.0)
    good = [probe.frames for probe in speeds if (probe.images_per_s or 0.0) >= ENOUGH * fastest]
    return (good[0] if good else fitting), found


def _seconds(feeder: FrameFeeder, num: int) -> float:
    size = feeder.encoder.image_size
    frames_FHW3 = np.zeros((num, size, size, 3), np.uint8)
    begun_s = time.perf_counter()
    with torch.inference_mode():
        for _ in feeder.regions(frames_FHW3):
            pass
    wait_for_device(feeder.encoder.device)
    return time.perf_counter() - begun_s
