"""Small videos made for tests, and where the real ones lie if they are there."""

import json
from pathlib import Path

import av
import numpy as np
import pytest

REAL_VIDEOS = Path(__file__).parents[2] / "shared" / "videos"
needs_real_videos = pytest.mark.skipif(not REAL_VIDEOS.is_dir(), reason="the real videos are not on this machine")

TINY_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def write_video(
    path: Path,
    *,
    num_frames: int = 30,
    fps: int = 10,
    width: int = 96,
    height: int = 64,
    gop: int = 12,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video whose frame i has the grey level 40 + 5 * (i % 40) all over, so that a frame says which one it is."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", gop
        for i in range(num_frames):
            picture = np.full((height, width, 3), grey_of(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def grey_of(frame: int) -> int:
    return 40 + 5 * (frame % 40)


def frame_of(grey: float) -> int:
    """Which frame (below 40) has this mean grey level; lossy coding moves it by one or two."""
    return round((grey - 40) / 5)


def tiny_clip(folder: Path) -> str:
    """Write the config of a tiny CLIP, and return its path."""
    path = folder / "tiny.json"
    path.write_text(json.dumps(TINY_CLIP))
    return str(path)
