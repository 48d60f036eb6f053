"""How many videos a second the encoder takes at each merging, measured by running it. Runs on a worker; knows no trial.

All mergings take turns in each round, so that whatever else the machine does hits them alike; the median over rounds counts.
T frames of a view, V views of a video.
"""

import statistics
import time
from collections.abc import Mapping

import torch

from alt_ray.features.layout import StoreRecord
from alt_ray.models.checkpoint import EncoderRecord, same_encoder_of

ROUNDS, BATCH_VIDEOS = 15, 4


@torch.inference_mode()
def measure_speed(
    record: StoreRecord,
    schedules: Mapping[str, tuple[int, ...]],
    *,
    pretrained: str | None = None,
    device: str = "cpu",
    num_threads: int = 1,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Return videos/s (test views of all its frames) by name of a merge schedule.

    On random frames: what is in them changes nothing.
    """
    torch.set_num_threads(max(1, num_threads))
    encoder = same_encoder_of(EncoderRecord(**record.encoder), pretrained=pretrained).to(device)
    encoder.clip.visual.to(getattr(torch, record.dtype))
    frames_per_video = record.num_frames * int(record.sampling["views"])
    size = encoder.image_size
    batch = 1 if size > 64 and device == "cpu" else BATCH_VIDEOS
    images = torch.randn(batch * frames_per_video, 3, size, size, device=device, dtype=encoder.dtype)
    took_s: dict[str, list[float]] = {name: [] for name in schedules}
    for round_ in range(rounds + 1):
        for name, schedule in schedules.items():
            encoder.merge_schedule = schedule
            begun_s = time.perf_counter()
            encoder.encode_frames(images)
            if device == "cuda":
                torch.cuda.synchronize()
            if round_:  # the first warms up
                took_s[name].append(time.perf_counter() - begun_s)
    return {name: batch / statistics.median(times) for name, times in took_s.items()}
