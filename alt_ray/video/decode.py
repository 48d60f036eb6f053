"""From one video file to the (V + A) x T pictures that a model looks at.

Runs in whatever process calls it and has no time limit of its own: `isolation` adds the process and the limit. Knows
nothing of models. `decode_video` raises only DecodeError.

V test views, A augmented views, T frames, H x W pixels. VTHW3 in a name counts both kinds of views.
"""

import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from alt_ray.errors import DecodeError
from alt_ray.video.augment import AugmentedView, draw_view
from alt_ray.video.probe import Probe
from alt_ray.video.reader import FrameReader
from alt_ray.video.sampling import ClipSpec, crop, resized, sample_times
from alt_ray.video.sources import open_seekable

_INTERPOLATION = {
    # Full chroma: within 0.3 grey levels of torchvision's Resize on real clips, 1.4 without it, for 0.25 ms a frame.
    "bicubic": Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT,
    "bilinear": Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT,
}
_REFORMATTER = VideoReformatter()  # keeps its tables from frame to frame: 0.8 ms a frame instead of 6
_PAST_END_S = 1e-4  # less than any frame lasts: this long before its end, a video shows its last frame


def decode_video(uri: str, start_s: float | None, end_s: float | None, spec: ClipSpec, out_VTHW3: np.ndarray) -> Probe:
    """Decode the frames that `spec` asks for of `uri`, between the bounds, into `out_VTHW3` (uint8 RGB, shape `spec.shape`).

    Bounds are in seconds from the start of the video; None is its start or its end. A video with fewer frames than are asked
    for repeats them. Rotation and pixel aspect are applied. The frames are those that a full decode shows at these times.
    The augmented views depend on nothing but `spec`, `uri` as it is written, the bounds as they are given, and the video.

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
    views = [
        draw_view(spec.augmentation, spec.seed, reader.uri, start_s, end_s, number, spec.num_frames)
        for number in range(spec.train_views)
    ]
    missing = _fill(reader, begin_s, stop_s, spec, views, out_VTHW3)
    if missing:
        # The container claims more than it holds. What it holds is known now, so the frames are spread over that.
        if reader.num_frames == 0 or reader.end_s <= begin_s:
            raise DecodeError("no_frames", f"{reader.uri}: not one frame could be decoded{_damage(reader)}")
        reader.rewind()
        duration_s = min(duration_s, reader.end_s)
        if still_missing := _fill(reader, begin_s, reader.end_s, spec, views, out_VTHW3):
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


def _fill(
    reader: FrameReader,
    begin_s: float,
    stop_s: float,
    spec: ClipSpec,
    views: list[AugmentedView],
    out_VTHW3: np.ndarray,
) -> int:
    """Fill the output with the frames between two moments. Return how many moments of test views had no frame.

    Where only augmented views look past the end of the video they see its last frame, so that they never change what is
    done for the test views.
    """
    looks = sample_times(begin_s, stop_s, spec.num_frames, spec.num_views)
    times = [look for look in looks for _ in range(spec.num_crops)]
    num_test = spec.test_views * spec.num_frames
    moments = [time for view in (*times, *(view.times(begin_s, stop_s) for view in views)) for time in view]
    wanted = sorted((time, slot) for slot, time in enumerate(moments))
    missing = _write_pictures(reader, wanted, spec, views, out_VTHW3)
    missing_test = sum(slot < num_test for _, slot in missing)
    if missing and not missing_test:
        damaged = reader.damaged_packets
        reader.rewind()
        at_end = [(min(time, reader.end_s - _PAST_END_S), slot) for time, slot in missing]
        missing_test = len(_write_pictures(reader, at_end, spec, views, out_VTHW3))
        reader.damaged_packets = damaged  # what is met a second time is not damaged twice
    return missing_test


def _write_pictures(
    reader: FrameReader,
    wanted: list[tuple[float, int]],
    spec: ClipSpec,
    views: list[AugmentedView],
    out_VTHW3: np.ndarray,
) -> list[tuple[float, int]]:
    """Write the picture of each (moment, slot) in one pass through the video. Return those that it had no frame for."""
    pictures = out_VTHW3.reshape(-1, *spec.shape[2:])
    aspect = float(reader.stream.sample_aspect_ratio or 1) or 1.0
    reformatters = [VideoReformatter() for _ in views]  # each view scales to its own size, and tables are for one size
    num_done, previous = 0, None
    # The slots that show `previous`: by augmented view, and by crop of the test views (below 0).
    written: dict[int, int] = {}
    for index, frame in reader.frames_at([time for time, _ in wanted]):
        slot = wanted[index][1]
        view = slot // spec.num_frames
        number = view - spec.test_views if view >= spec.test_views else -1 - view % spec.num_crops
        if frame is not previous:
            previous, written = frame, {}
        if number in written:  # a short clip repeats its frames
            pictures[slot] = pictures[written[number]]
        elif number < 0:
            write_picture(frame, aspect, spec, pictures[slot], -1 - number)
        else:
            write_augmented(frame, aspect, spec, views[number], pictures[slot], reformatters[number])
        written[number] = slot
        num_done += 1
    return wanted[num_done:]


def write_picture(frame: VideoFrame, pixel_aspect: float, spec: ClipSpec, out_HW3: np.ndarray, number: int = 0) -> None:
    """Scale, turn and crop one frame to RGB, as open_clip prepares pictures for evaluation; `number` says which crop."""
    turns = _turns(frame)
    width, height = frame.width * pixel_aspect, float(frame.height)
    if turns % 2:
        target_height, target_width = resized(height, width, spec)
    else:
        target_width, target_height = resized(width, height, spec)
    rgb = _scaled(frame, target_width, target_height, spec, _REFORMATTER)
    rows, columns = crop(target_width, target_height, spec.image_size, number, spec.num_crops)
    out_HW3[:] = np.rot90(rgb[rows, columns], turns)


def write_augmented(
    frame: VideoFrame,
    pixel_aspect: float,
    spec: ClipSpec,
    view: AugmentedView,
    out_HW3: np.ndarray,
    reformatter: VideoReformatter,
) -> None:
    """Scale, turn, crop and mirror one frame to RGB, as `view` looks at the displayed picture."""
    turns = _turns(frame)
    width, height = frame.width * pixel_aspect, float(frame.height)
    if turns % 2:
        width, height = height, width
    if spec.resize_mode == "squash":  # the region is drawn in the picture that a test view shows
        width = height = 1.0
    target_width, target_height, rows, columns = view.cut(width, height, spec.image_size)
    if turns % 2:
        rgb = _scaled(frame, target_height, target_width, spec, reformatter)
    else:
        rgb = _scaled(frame, target_width, target_height, spec, reformatter)
    cut_HW3 = np.rot90(rgb, turns)[rows, columns]
    out_HW3[:] = cut_HW3[:, ::-1] if view.flip else cut_HW3


def _turns(frame: VideoFrame) -> int:
    """How many anticlockwise quarter turns make the picture upright."""
    return round(frame.rotation / 90) % 4


def _scaled(frame: VideoFrame, width: int, height: int, spec: ClipSpec, reformatter: VideoReformatter) -> np.ndarray:
    return reformatter.reformat(
        frame, width, height, "rgb24", interpolation=_INTERPOLATION[spec.interpolation], threads=1
    ).to_ndarray()
