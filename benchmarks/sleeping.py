"""Stages that only sleep, for scaling.py: what they take does not depend on how many cores there are."""

import time
from typing import Any

import numpy as np

from alt_ray.engine.stages import Batch
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec

SECONDS = 0.2  # for a clip, in each of the two stages


def decode(uri: str, start_s: float | None, end_s: float | None, spec: ClipSpec, out_VTHW3: np.ndarray) -> Probe:
    time.sleep(SECONDS)
    return Probe(duration_s=1.0, fps=25.0, width=32, height=32, codec="none")


class Encode:
    """In place of an encoder."""

    def __call__(self, batch: Batch) -> dict[str, Any]:
        time.sleep(SECONDS * len(batch["uri"]))
        return {"video_id": batch["video_id"]}
