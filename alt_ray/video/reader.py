"""Read the frames of one video file that are shown at given moments: demux, seek, decode, go on after damage.

Knows nothing of how many frames a model wants or what becomes of them. How it goes about it was measured
(docs/decisions/decoding.md): decode forward, and seek only where a keyframe lies between here and the next wanted moment.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO, cast

import av
import av.error
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from alt_ray.errors import DecodeError

# Containers only: FFmpeg also opens playlists (hls, dash, concat) that name other files and addresses, and subtitle or
# image formats that any text or picture can be mistaken for.
CONTAINER_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,gif,mxf,mxf_opatom,nut,ivf,"
    "dv,m4v,h264,hevc,obu,mjpeg,wtv,rm,nsv,swf,vob,gxf,cavsvideo,vc1,y4m,yuv4mpegpipe,apng,bink,smk,roq,film_cpk,ea"
)
MAX_PIXELS = 8192 * 8192  # a decoded frame of this size is 100 MB in yuv420p, and codecs keep up to 16 of them
MAX_READ_ERRORS = 64  # a broken container can answer every read with an error for ever
BUFFER_BYTES = 1 << 16
ENCRYPTED_TAGS = ("encv", "drmi")


class FrameReader:
    """One open video. Times are seconds from the stream's start.

    `damaged_packets` counts what could not be read or decoded so far, `num_frames` what was decoded, `end_s` is where the
    last frame ends once the end was reached.
    """

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self.uri = uri
        self.damaged_packets = 0
        self.num_frames = 0
        self.end_s = 0.0
        self._file = file
        self._can_seek = True
        self._last_sought = -1
        self._open()
        self._start_pts: int = self.stream.start_time or 0
        # AVI stores no presentation times, and what FFmpeg makes up for packed B-frames goes back and forth.
        self._has_decode_times_only = self.container.format.name == "avi"

    def close(self) -> None:
        self.container.close()  # memory grows from file to file otherwise

    @property
    def fps(self) -> float:
        return float(self.stream.average_rate or self.stream.guessed_rate or 0)

    def claimed_duration(self) -> tuple[float, bool]:
        """Return the duration in seconds, and whether the video stream itself (not the whole file) claims it."""
        if self.stream.duration:
            return float(self.stream.duration * self._time_base), True
        if self.container.duration:
            offset_s = float(self._start_pts * self._time_base) - (self.container.start_time or 0) / av.time_base
            duration_s = self.container.duration / av.time_base - max(offset_s, 0.0)
            if duration_s > 0:
                return duration_s, False
        return self._scan_duration(), False

    def frames_at(self, times_s: Sequence[float]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (index, frame) for each of the ascending `times_s`: the last frame that begins at or before that time.

        Stops early where the video ends before a time. A video whose first frame comes late shows it until then.
        """
        wanted = [self._start_pts + time / float(self._time_base) for time in times_s]
        index, self._last_sought = 0, -1
        shown: tuple[int, VideoFrame] | None = None
        sought = self._seek_before(wanted[0], self._start_pts)
        frames = self._frames()
        while index < len(wanted) and (next_ := next(frames, None)):
            pts, frame = next_
            self.num_frames += 1
            if sought and pts > wanted[index]:  # the index promised a keyframe that isn't there: do without it
                self._can_seek, sought, shown = False, False, None
                self.rewind()
                frames = self._frames()
                continue
            while index < len(wanted) and pts > wanted[index]:
                yield index, frame if shown is None else shown[1]
                index += 1
            shown, sought = next_, False
            if index < len(wanted) and self._seek_before(wanted[index], pts):
                frames, sought = self._frames(), True
        if shown is None:
            return
        end_pts = shown[0] + (shown[1].duration or self._frame_length())
        self.end_s = float((end_pts - self._start_pts) * self._time_base)
        while index < len(wanted) and wanted[index] <= end_pts:
            yield index, shown[1]
            index += 1

    def rewind(self) -> None:
        """Go back to the beginning."""
        try:
            self.container.seek(0)
        except av.error.FFmpegError:  # bare streams have no times to seek by
            self.container.close()
            self._file.seek(0)
            self._open()

    def _open(self) -> None:
        try:
            container = av.open(
                self._file,
                buffer_size=BUFFER_BYTES,
                metadata_errors="replace",  # tags in a foreign character set are no reason to refuse a video
                container_options={"format_whitelist": CONTAINER_FORMATS, "protocol_whitelist": "file"},
            )
        except (av.error.FFmpegError, ValueError, OverflowError) as exc:
            if _names_encryption(self._file):
                message = f"{self.uri}: its container says that its tracks are encrypted"
                raise DecodeError("encrypted", message, stage="open") from exc
            said = getattr(exc, "strerror", None) or exc
            raise DecodeError("unreadable", f"{self.uri}: no video container: {said}", stage="open") from exc
        self.container = cast(InputContainer, container)
        try:
            self.stream, self.context = self._pick_stream()
        except DecodeError:
            self.container.close()
            raise
        self._time_base = self.stream.time_base or Fraction(1, av.time_base)

    def _pick_stream(self) -> tuple[VideoStream, VideoCodecContext]:
        stream = cast(VideoStream | None, self.container.streams.best("video"))
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            kinds = ", ".join(sorted({s.type for s in self.container.streams})) or "nothing"
            raise DecodeError("no_video_stream", f"{self.uri}: holds {kinds}, no video", stage="probe")
        context = cast(VideoCodecContext | None, stream.codec_context)
        if context is None:
            raise DecodeError("unsupported_codec", f"{self.uri}: no decoder for its video codec", stage="probe")
        if context.codec_tag in ENCRYPTED_TAGS:
            raise DecodeError("encrypted", f"{self.uri}: its video is encrypted ({context.codec_tag})", stage="probe")
        if context.width * context.height > MAX_PIXELS:
            size = f"frames of {context.width} x {context.height} pixels; the limit is {MAX_PIXELS} pixels"
            raise DecodeError("too_large", f"{self.uri}: {size}", stage="probe")
        # Many files are decoded side by side, so threads of the codec gain nothing, and with some files they deadlock.
        context.thread_type = "NONE"
        context.thread_count = 1
        return stream, context

    def _scan_duration(self) -> float:
        """Return the duration by reading (not decoding) every packet: some streams don't say how long they are."""
        first: int | None = None
        last, without_times = 0.0, 0.0
        for packet in self._packets():
            length = packet.duration or self._frame_length()
            if packet.pts is None:
                without_times += length
            else:
                first = packet.pts if first is None else min(first, packet.pts)
                last = max(last, packet.pts + length)
        self.rewind()
        self.damaged_packets = 0  # they will be met again when they are decoded
        self._start_pts = first or 0
        length = without_times if first is None else last - first
        if not length:
            raise DecodeError("no_frames", f"{self.uri}: its video stream is empty", stage="probe")
        return float(length * self._time_base)

    def _frame_length(self) -> float:
        rate = self.stream.average_rate or self.stream.guessed_rate
        return float(1 / (rate * self._time_base)) if rate else 0.0

    def _seek_before(self, wanted: float, here: float) -> bool:
        """Seek to the keyframe before `wanted` if that skips anything, that is, if one lies after `here`."""
        entries = self.stream.index_entries
        if not self._can_seek or not len(entries):
            return False
        found = entries.search_timestamp(int(wanted))
        # Never the same keyframe twice: index times are decoding times, and a wrong index must not send us in circles.
        if found <= self._last_sought or entries[found].timestamp <= here:
            return False
        self._last_sought = found
        self.container.seek(int(wanted), stream=self.stream)
        return True

    def _frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Decode on from here: (pts, frame) in order of showing, going on after packets that can't be decoded."""
        next_pts = float(self._start_pts)
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged_packets += 1
                continue
            for frame in frames:
                if self._has_decode_times_only and frame.dts is not None:
                    pts = frame.dts - self.context.reorder_depth
                elif self._has_decode_times_only or frame.pts is None:  # they follow each other at the stream's rate
                    pts = round(next_pts)
                else:
                    pts = frame.pts
                next_pts = pts + (frame.duration or self._frame_length())
                yield pts, frame

    def _packets(self) -> Iterator[av.Packet]:
        """The packets from here, last an empty one that makes the decoder give out what it holds."""
        errors = 0
        packets = self.container.demux(self.stream)
        while errors < MAX_READ_ERRORS:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                errors += 1
                self.damaged_packets += 1
                packets = self.container.demux(self.stream)
                continue
            if packet is None:
                return
            yield packet


def _names_encryption(file: BinaryIO) -> bool:
    """Whether an ISO media file has encrypted sample entries, which FFmpeg refuses like any broken file."""
    try:
        file.seek(0)
        head = file.read(1 << 16)
    except (OSError, ValueError):
        return False
    return head[4:8] == b"ftyp" and (b"encv" in head or b"enca" in head) and b"schm" in head
