"""From one video file to the V x T pictures that a model looks at.

Runs in whatever process calls it and has no time limit of its own: `isolation` adds the process and the limit. Knows
nothing of models. `decode_video` raises only DecodeError.

V views, T frames, H x W pixels.
"""

import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from alt_ray.errors import DecodeError
from alt_ray.video.probe import Probe
from alt_ray.video.reader import FrameReader
from alt_ray.video.sampling import ClipSpec, centre_crop, resized, sample_times
from alt_ray.video.sources import open_seekable

_INTERPOLATION = {
    # Full chroma: within 0.3 grey levels of torchvision's Resize on real clips, 1.4 without it, for 0.25 ms a frame.
    "bicubic": Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT,
    "bilinear": Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT,
}
_REFORMATTER = VideoReformatter()  # keeps its tables from frame to frame: 0.8 ms a frame instead of 6


def decode_video(uri: str, start_s: float | None, end_s: float | None, spec: ClipSpec, out_VTHW3: np.ndarray) -> Probe:
    """Decode the frames that `spec` asks for of `uri`, between the bounds, into `out_VTHW3` (uint8 RGB, shape `spec.shape`).

    Bounds are in seconds from the start of the video; None is its start or its end. A video with fewer frames than are asked
    for repeats them. Rotation and pixel aspect are applied. The frames are those that a full decode shows at these times.

    Raises DecodeError with one of errors.DECODE_REASONS.
    """
    try:
        with open_seekable(uri) as file:
            reader = FrameReader(file, uri)
            try:
                return _decode(reader, start_s, end_s, spec, out_VTHW3)
            finally:
                reader.close()
    except av.error.FFmpegError as exc:  # a read can fail anywhere, and FFmpeg hands its error through
        raise DecodeError("unreadable", f"{uri}: {exc.strerror or exc}") from exc
    except (OSError, EOFError) as exc:
        raise DecodeError("unreadable", f"{uri}: reading failed: {exc}") from exc


def _decode(
    reader: FrameReader, start_s: float | None, end_s: float | None, spec: ClipSpec, out_VTHW3: np.ndarray
) -> Probe:
    duration_s, is_firm = reader.claimed_duration()
    begin_s = start_s or 0.0
    stop_s = duration_s if end_s is None else min(end_s, duration_s)
    if begin_s >= stop_s:
        message = f"{reader.uri}: starts at {begin_s:g} s, but the video ends at {duration_s:g} s"
        raise DecodeError("no_frames", message, stage="probe")
    missing = _fill(reader, begin_s, stop_s, spec, out_VTHW3)
    if missing:
        # The container claims more than it holds. What it holds is known now, so the frames are spread over that.
        if reader.num_frames == 0 or reader.end_s <= begin_s:
            raise DecodeError("no_frames", f"{reader.uri}: not one frame could be decoded{_damage(reader)}")
        reader.rewind()
        duration_s = min(duration_s, reader.end_s)
        if still_missing := _fill(reader, begin_s, reader.end_s, spec, out_VTHW3):
            raise DecodeError("no_frames", f"{reader.uri}: no frame at {still_missing} of its moments{_damage(reader)}")
    return Probe(
        duration_s=duration_s,
        fps=reader.fps,
        width=reader.context.width,
        height=reader.context.height,
        codec=reader.context.codec.canonical_name,
        frames_damaged=reader.damaged_packets + (missing if is_firm else 0),
    )


def _damage(reader: FrameReader) -> str:
    return f" ({reader.damaged_packets} damaged packets)" if reader.damaged_packets else ""


def _fill(reader: FrameReader, begin_s: float, stop_s: float, spec: ClipSpec, out_VTHW3: np.ndarray) -> int:
    """Fill the output with the frames between two moments. Return how many of the wanted moments had no frame."""
    pictures = out_VTHW3.reshape(-1, *spec.shape[2:])
    times = sample_times(begin_s, stop_s, spec.num_frames, spec.num_views)
    order = sorted((time, slot) for slot, time in enumerate(t for view in times for t in view))
    aspect = float(reader.stream.sample_aspect_ratio or 1) or 1.0
    num_done, previous, previous_slot = 0, None, 0
    for index, frame in reader.frames_at([time for time, _ in order]):
        slot = order[index][1]
        if frame is previous:  # a short clip repeats its frames
            pictures[slot] = pictures[previous_slot]
        else:
            write_picture(frame, aspect, spec, pictures[slot])
            previous, previous_slot = frame, slot
        num_done += 1
    return len(order) - num_done


def write_picture(frame: VideoFrame, pixel_aspect: float, spec: ClipSpec, out_HW3: np.ndarray) -> None:
    """Scale, turn and crop one frame to RGB, as open_clip prepares pictures for evaluation."""
    turns = round(frame.rotation / 90) % 4  # anticlockwise quarter turns that make the picture upright
    width, height = frame.width * pixel_aspect, float(frame.height)
    if turns % 2:
        target_height, target_width = resized(height, width, spec)
    else:
        target_width, target_height = resized(width, height, spec)
    rgb = _REFORMATTER.reformat(
        frame, target_width, target_height, "rgb24", interpolation=_INTERPOLATION[spec.interpolation], threads=1
    ).to_ndarray()
    rows, columns = centre_crop(target_width, target_height, spec.image_size)
    out_HW3[:] = np.rot90(rgb[rows, columns], turns)
