"""How many videos a second the encoder takes at each merging, measured by running it. Runs on a worker; knows no trial.

All mergings take turns in each round, and the fastest round of each counts: what else the machine does can only slow it down.
"""

import time
from collections.abc import Mapping

import torch

from alt_ray.features.layout import StoreRecord
from alt_ray.models.checkpoint import EncoderRecord, same_encoder_of

MOST_ROUNDS, FEWEST_ROUNDS, ENOUGH_S = 40, 5, 30.0
GPU_VIDEOS = 8  # at once; on a CPU one, whose milliseconds are less often interrupted


@torch.inference_mode()
def measure_speed(
    record: StoreRecord,
    schedules: Mapping[str, tuple[int, ...]],
    *,
    pretrained: str | None = None,
    device: str = "cpu",
) -> dict[str, float]:
    """Return videos/s (test views of all its frames) of one encoder, by name of a merge schedule.

    On random frames: what is in them changes nothing. On a CPU with one thread, as the encoders of a job have; several wait
    for each other as soon as anything else runs (on two busy cores, 1 to 3 videos/s instead of 111).
    """
    torch.set_num_threads(1)
    encoder = same_encoder_of(EncoderRecord(**record.encoder), pretrained=pretrained).to(device)
    encoder.clip.visual.to(getattr(torch, record.dtype))
    frames_per_video = record.num_frames * int(record.sampling["views"])
    size = encoder.image_size
    batch = GPU_VIDEOS if device == "cuda" else 1
    images = torch.randn(batch * frames_per_video, 3, size, size, device=device, dtype=encoder.dtype)
    fastest_s = dict.fromkeys(schedules, float("inf"))
    begun_s = time.perf_counter()
    for done in range(MOST_ROUNDS):
        if done >= FEWEST_ROUNDS and time.perf_counter() - begun_s > ENOUGH_S:
            break
        for name, schedule in schedules.items():
            encoder.merge_schedule = schedule
            round_s = time.perf_counter()
            encoder.encode_frames(images)
            if device == "cuda":
                torch.cuda.synchronize()
            fastest_s[name] = min(fastest_s[name], time.perf_counter() - round_s)
    return {name: batch / seconds for name, seconds in fastest_s.items()}
