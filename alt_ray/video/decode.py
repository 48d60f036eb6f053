"""From one video file to the T x V frames that a model looks at, exactly those that a full decode would give.

Runs in whatever process calls it and has no time limit of its own: `isolation` adds the process and the limit. Knows nothing of
models; `decode_video` raises only DecodeError.

How (measured, see docs/decisions/0002-decoding.md): decode forward and seek only where a keyframe lies between here and the next
wanted moment; one codec thread, since many files are decoded side by side; one shared scaler, which also crops nothing: the
centre is cut out of its result.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import BinaryIO

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from alt_ray.errors import DecodeError
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec, centre_crop, resized, sample_times
from alt_ray.video.sources import open_seekable

# Containers only: FFmpeg also opens playlists (hls, dash, concat) that name other files and addresses, and subtitle or
# image formats that any text or picture can be mistaken for.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,gif,mxf,mxf_opatom,nut,ivf,"
    "dv,m4v,h264,hevc,obu,mjpeg,wtv,rm,nsv,swf,vob,gxf,cavsvideo,vc1,y4m,yuv4mpegpipe,apng,bink,smk,roq,film_cpk,ea"
)
MAX_PIXELS = 8192 * 8192  # a decoded frame of this size is 100 MB in yuv420p, and codecs keep up to 16 of them
MAX_READ_ERRORS = 64  # a broken container can answer every read with an error for ever

_INTERPOLATION = {
    # Full chroma: within 0.3 grey levels of torchvision's Resize on real clips, 1.4 without it, for 0.25 ms a frame.
    "bicubic": Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT,
    "bilinear": Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT,
}
_REFORMATTER = VideoReformatter()  # keeps its tables from frame to frame: 1.0-1.5 ms a frame instead of 6-9


def decode_video(
    uri: str, start_s: float | None, end_s: float | None, spec: ClipSpec, out_VTHW3: np.ndarray
) -> Probe:
    """Decode the frames that `spec` asks for of `uri`, between the bounds, into `out_VTHW3` (uint8, shape `spec.shape`).

    Bounds are in seconds from the first frame; None is the start or the end of the video. A video with fewer frames than
    are asked for repeats them. Rotation and pixel aspect are applied.

    Raises DecodeError with one of errors.DECODE_REASONS.
    """
    try:
        with open_seekable(uri) as file:
            decoder = _Decoder(file, uri, spec, out_VTHW3)
            try:
                return decoder.run(start_s, end_s)
            finally:
                decoder.container.close()
    except av.error.FFmpegError as exc:  # a remote read can fail anywhere; FFmpeg hands its error through
        raise DecodeError("unreadable", f"{uri}: {exc.strerror or exc}") from exc
    except (OSError, EOFError) as exc:
        raise DecodeError("unreadable", f"{uri}: reading failed: {exc}") from exc


def _open(file: BinaryIO, uri: str) -> InputContainer:
    try:
        return av.open(
            file,
            buffer_size=1 << 16,
            metadata_errors="replace",  # tags in a foreign character set are no reason to refuse a video
            container_options={"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": "file"},
        )
    except av.error.FFmpegError as exc:
        if _names_encryption(file):
            raise DecodeError("encrypted", f"{uri}: its container says that its tracks are encrypted", stage="open") from exc
        raise DecodeError("unreadable", f"{uri}: not a video container that can be read: {exc.strerror}", stage="open") from exc
    except (ValueError, OverflowError) as exc:
        raise DecodeError("unreadable", f"{uri}: {exc}", stage="open") from exc


def _names_encryption(file: BinaryIO) -> bool:
    """Whether an ISO media file has encrypted sample entries, which FFmpeg refuses like any broken file."""
    try:
        file.seek(0)
        head = file.read(1 << 16)
    except (OSError, ValueError):
        return False
    return head[4:8] == b"ftyp" and (b"encv" in head or b"enca" in head) and b"schm" in head


class _Decoder:
    """One pass (rarely two) over one open container."""

    def __init__(self, file: BinaryIO, uri: str, spec: ClipSpec, out_VTHW3: np.ndarray) -> None:
        self.file = file
        self.container = _open(file, uri)
        self.uri = uri
        self.spec = spec
        self.out = out_VTHW3.reshape(-1, spec.image_size, spec.image_size, 3)
        self.stream = self._pick_stream()
        self.time_base = self.stream.time_base or Fraction(1, av.time_base)
        self.start_pts = self.stream.start_time or 0
        self.damaged_packets = 0
        self.can_seek = True
        # AVI stores no presentation times, and what FFmpeg makes up for packed B-frames goes back and forth.
        self.has_decode_times_only = self.container.format.name == "avi"
        self.last_sought = -1
        self.num_frames = 0
        self.end_s = 0.0  # where the last decoded frame ends

    def _pick_stream(self) -> VideoStream:
        stream = self.container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            kinds = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            raise DecodeError("no_video_stream", f"{self.uri}: holds {kinds}, no video", stage="probe")
        context = stream.codec_context
        if context is None:
            raise DecodeError("unsupported_codec", f"{self.uri}: no decoder for its video codec", stage="probe")
        if context.codec_tag in ("encv", "drmi"):
            raise DecodeError("encrypted", f"{self.uri}: its video is encrypted ({context.codec_tag})", stage="probe")
        if context.width * context.height > MAX_PIXELS:
            raise DecodeError(
                "too_large",
                f"{self.uri}: frames of {context.width} x {context.height} pixels; the limit is {MAX_PIXELS} pixels",
                stage="probe",
            )
        context.thread_type = "NONE"
        context.thread_count = 1
        return stream

    def run(self, start_s: float | None, end_s: float | None) -> Probe:
        claimed_s, is_firm = self._claimed_duration()
        begin, end = start_s or 0.0, claimed_s if end_s is None else min(end_s, claimed_s)
        if begin >= end:
            raise DecodeError(
                "no_frames", f"{self.uri}: starts at {begin:g} s, but the video ends at {claimed_s:g} s", stage="probe"
            )
        missing = self._decode_span(begin, end)
        if missing:
            # The container claims more than it holds. What it holds is known now, so the frames are spread over that.
            if self.num_frames == 0 or self.end_s <= begin:
                raise DecodeError("no_frames", f"{self.uri}: not one frame could be decoded{self._damage()}")
            self._rewind()
            claimed_s = min(claimed_s, self.end_s)
            still_missing = self._decode_span(begin, self.end_s)
            if still_missing:
                raise DecodeError("no_frames", f"{self.uri}: {still_missing} frames could not be decoded{self._damage()}")
        context = self.stream.codec_context
        return Probe(
            duration_s=claimed_s,
            fps=float(self.stream.average_rate or self.stream.guessed_rate or 0),
            width=context.width,
            height=context.height,
            codec=context.codec.canonical_name,
            frames_damaged=self.damaged_packets + (missing if is_firm else 0),
        )

    def _damage(self) -> str:
        return f" ({self.damaged_packets} damaged packets)" if self.damaged_packets else ""

    def _rewind(self) -> None:
        try:
            self.container.seek(0)
        except av.error.FFmpegError:  # bare streams have no times to seek by
            self.container.close()
            self.file.seek(0)
            self.container = _open(self.file, self.uri)
            self.stream = self._pick_stream()

    def _claimed_duration(self) -> tuple[float, bool]:
        """Return the duration in seconds, and whether the video stream itself (not the whole file) claims it."""
        if self.stream.duration:
            return float(self.stream.duration * self.time_base), True
        if self.container.duration:
            offset_s = float(self.start_pts * self.time_base) - (self.container.start_time or 0) / av.time_base
            duration_s = self.container.duration / av.time_base - max(offset_s, 0.0)
            if duration_s > 0:
                return duration_s, False
        return self._scan_duration(), False

    def _scan_duration(self) -> float:
        """Return the duration by reading (not decoding) every packet: some streams don't say how long they are."""
        first: int | None = None
        last, without_times = 0, 0.0
        for packet in self._packets():
            length = packet.duration or self._frame_length()
            if packet.pts is None:
                without_times += length
            else:
                first = packet.pts if first is None else min(first, packet.pts)
                last = max(last, packet.pts + length)
        self._rewind()
        self.start_pts = first or 0
        length = without_times if first is None else last - first
        if not length:
            raise DecodeError("no_frames", f"{self.uri}: its video stream is empty", stage="probe")
        return float(length * self.time_base)

    def _decode_span(self, begin_s: float, end_s: float) -> int:
        """Fill the output. Return how many of the wanted moments had no frame."""
        times = sample_times(begin_s, end_s, self.spec.num_frames, self.spec.num_views)
        order = sorted((time, slot) for slot, time in enumerate(t for view in times for t in view))
        wanted = [self.start_pts + time / float(self.time_base) for time, _ in order]
        num_done = 0
        previous: VideoFrame | None = None
        previous_slot = 0
        for index, frame in self._frames_at(wanted):
            slot = order[index][1]
            if frame is previous:  # a short clip repeats its frames
                self.out[slot] = self.out[previous_slot]
            else:
                self._write(frame, slot)
                previous, previous_slot = frame, slot
            num_done += 1
        return len(wanted) - num_done

    def _frames_at(self, wanted: list[float]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (index, frame) for each of the ascending `wanted` times (in stream time base): the frame shown at that time."""
        index = 0
        self.last_sought = -1
        shown: VideoFrame | None = None
        sought = self._seek_before(wanted[0], self.start_pts)
        frames = self._frames()
        while index < len(wanted):
            frame = next(frames, None)
            if frame is None:
                break
            self.num_frames += 1
            if sought and frame.pts > wanted[index]:  # the index promised a keyframe that isn't there: do without it
                self.can_seek, sought, shown = False, False, None
                self._rewind()
                frames = self._frames()
                continue
            while index < len(wanted) and frame.pts > wanted[index]:
                # A video whose first frame comes late shows it until then.
                yield index, frame if shown is None else shown
                index += 1
            shown, sought = frame, False
            if index < len(wanted) and self._seek_before(wanted[index], frame.pts):
                frames, sought = self._frames(), True
        if shown is None:
            return
        length = shown.duration or self._frame_length()
        end_pts = shown.pts + length
        self.end_s = float((end_pts - self.start_pts) * self.time_base)
        while index < len(wanted) and wanted[index] <= end_pts:
            yield index, shown
            index += 1

    def _frame_length(self) -> float:
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(1 / (rate * self.time_base)) if rate else 0.0

    def _seek_before(self, wanted: float, here: float) -> bool:
        """Seek to the keyframe before `wanted` if that skips anything, that is, if one lies after `here`."""
        entries = self.stream.index_entries
        if not self.can_seek or not len(entries):
            return False
        found = entries.search_timestamp(int(wanted))
        # Index times are decoding times, at most a reordering delay before the frame that they lead to.
        if found <= self.last_sought or entries[found].timestamp <= here:
            return False
        self.last_sought = found  # never the same keyframe twice: a wrong index must not send us in circles
        self.container.seek(int(wanted), stream=self.stream)
        return True

    def _frames(self) -> Iterator[VideoFrame]:
        """Decode on from here, in order of showing, going on after packets that can't be decoded."""
        next_pts = float(self.start_pts)
        for packet in self._packets(flush=True):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged_packets += 1
                continue
            for frame in frames:
                if self.has_decode_times_only and frame.dts is not None:
                    frame.pts = frame.dts - self.stream.codec_context.reorder_depth
                elif self.has_decode_times_only or frame.pts is None:  # they follow each other at the stream's rate
                    frame.pts = round(next_pts)
                next_pts = frame.pts + (frame.duration or self._frame_length())
                yield frame

    def _packets(self, flush: bool = False) -> Iterator[av.Packet]:
        errors = 0
        packets = self.container.demux(self.stream)
        while errors < MAX_READ_ERRORS:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                errors += 1
                self.damaged_packets += flush  # the scan for the duration is not the decode
                packets = self.container.demux(self.stream)
                continue
            if packet is None:
                return
            if flush or packet.size:
                yield packet

    def _write(self, frame: VideoFrame, slot: int) -> None:
        """Scale, turn and crop one frame into `self.out[slot]` (RGB)."""
        size = self.spec.image_size
        turns = round(frame.rotation / 90) % 4  # anticlockwise quarter turns that make the picture upright
        aspect = float(self.stream.sample_aspect_ratio or 1) or 1.0
        width, height = frame.width * aspect, float(frame.height)
        if turns % 2:
            width, height = resized(height, width, self.spec)[::-1]
        else:
            width, height = resized(width, height, self.spec)
        rgb = _REFORMATTER.reformat(
            frame, int(width), int(height), "rgb24", interpolation=_INTERPOLATION[self.spec.interpolation], threads=1
        ).to_ndarray()
        rows, columns = centre_crop(rgb.shape[1], rgb.shape[0], size)
        self.out[slot] = np.rot90(rgb[rows, columns], turns)
