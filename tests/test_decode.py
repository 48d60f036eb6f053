"""Decoding: which frames come out, how they look, and what is said of files that can't be read."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from alt_ray.errors import DECODE_REASONS, DecodeError
from alt_ray.video import reader
from alt_ray.video.decode import decode_video, write_picture
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec, sample_times
from tests.media import REAL_VIDEOS, frame_of, needs_real_videos, write_video

SMALL = ClipSpec(num_frames=4, image_size=32)


def decode(
    path: Path | str, spec: ClipSpec = SMALL, start_s: float | None = None, end_s: float | None = None
) -> tuple[np.ndarray, Probe]:
    out = np.zeros(spec.shape, np.uint8)
    return out, decode_video(str(path), start_s, end_s, spec, out)


def frames_of(pictures_VTHW3: np.ndarray) -> list[list[int]]:
    return [[frame_of(picture.mean()) for picture in view] for view in pictures_VTHW3]


@pytest.mark.parametrize("gop", [1, 5, 250])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "webm"])
def test_the_frame_shown_in_the_middle_of_each_segment_is_chosen(tmp_path: Path, suffix: str, gop: int) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    video = write_video(tmp_path / f"v.{suffix}", num_frames=40, gop=gop, codec=codec)
    pictures, probe = decode(video)
    assert frames_of(pictures) == [[5, 15, 25, 35]]
    assert probe.duration_s == pytest.approx(4.0, abs=0.05)
    assert (probe.fps, probe.width, probe.height, probe.frames_damaged) == (10.0, 96, 64, 0)


def test_bounds_are_respected(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", num_frames=40, gop=5)
    pictures, _ = decode(video, start_s=2.0, end_s=4.0)
    assert frames_of(pictures) == [[22, 27, 32, 37]]


def test_bounds_beyond_the_end_are_no_frames_and_say_so(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", num_frames=10)
    with pytest.raises(DecodeError, match=r"starts at 7 s, but the video ends at 1 s") as error:
        decode(video, start_s=7.0)
    assert error.value.reason == "no_frames"


def test_two_views_interleave(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", num_frames=40)
    pictures, _ = decode(video, ClipSpec(num_frames=2, num_views=2, image_size=32))
    assert frames_of(pictures) == [[5, 25], [15, 35]]


@pytest.mark.parametrize("turned", [False, True])
def test_three_crops_show_the_ends_of_the_longer_side_around_the_centre(tmp_path: Path, turned: bool) -> None:
    path = tmp_path / "v.mp4"
    width, height = (64, 96) if turned else (96, 64)
    picture = np.broadcast_to(np.linspace(20, 220, 96, dtype=np.uint8)[:, None], (96, 64))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(4):
            grey = picture if turned else picture.T
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, 2).copy(), "rgb24")))
        container.mux(stream.encode())
    spec = ClipSpec(num_frames=2, num_views=2, num_crops=3, image_size=32, train_views=1)
    views, _ = decode(path, spec)
    one, _ = decode(path, ClipSpec(num_frames=2, num_views=2, image_size=32, train_views=1))
    np.testing.assert_array_equal(views[[1, 4, 6]], one)
    along = views.mean(axis=(1, 3, 4) if turned else (1, 2, 4))  # [V, 32]: what changes along the longer side
    for start in (0, 3):
        first, centre, last = along[start : start + 3]
        np.testing.assert_allclose(first[8:], centre[:-8], atol=0.01)
        np.testing.assert_allclose(centre[8:], last[:-8], atol=0.01)
        assert first[0] < centre[0] - 20


def test_a_short_video_repeats_its_frames(tmp_path: Path) -> None:
    pictures, _ = decode(write_video(tmp_path / "v.mp4", num_frames=2))
    assert frames_of(pictures) == [[0, 0, 1, 1]]


def test_pixel_aspect_is_applied(tmp_path: Path) -> None:
    """A picture of 64 x 64 coded pixels, shown at 2:1, keeps only the middle half of its width."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        stream.codec_context.sample_aspect_ratio = 2
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:, 16:48] = 255
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    pictures, _ = decode(path)
    assert pictures[0, 0, 16, 4:28].min() > 250


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    """The upper half is white as stored; turned by the display matrix, white is where a player shows it."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.set_display_rotation(degrees)
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:32] = 255
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        expected = np.rot90(frame.to_ndarray(format="rgb24", width=32, height=32), frame.rotation // 90)
    assert frame.rotation % 360 == degrees % 360
    pictures, _ = decode(path)
    assert np.abs(pictures[0, 0].astype(int) - expected).mean() < 8


def test_an_overstated_duration_spreads_the_frames_over_what_is_there(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", num_frames=40, gop=5)
    cut = tmp_path / "cut.mp4"
    with av.open(str(video)) as source, av.open(str(cut), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(cut)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    cut.write_bytes(cut.read_bytes()[: positions[25]])
    pictures, probe = decode(cut)
    frames = frames_of(pictures)[0]
    assert probe.frames_damaged > 0
    assert frames == sorted(frames)
    assert len(set(frames)) == 4
    assert frames[-1] < 35


def test_a_raw_stream_without_times_is_decoded(tmp_path: Path) -> None:
    pictures, _ = decode(write_video(tmp_path / "v.h264", num_frames=20))
    frames = frames_of(pictures)[0]
    assert frames == sorted(frames)
    assert frames[0] < 6
    assert frames[-1] > 12


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"gone\.mp4") as error:
        decode(tmp_path / "gone.mp4")
    assert (error.value.reason, error.value.stage) == ("not_found", "open")


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100, b"#EXTM3U\n#EXTINF:1,\nother.mp4\n", bytes(5000)])
def test_what_is_no_container_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError) as error:
        decode(path)
    assert error.value.reason == "unreadable"


def test_a_playlist_never_opens_what_it_names(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.ts")
    (tmp_path / "v.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsecret.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "w.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'secret.ts'}\n")
    for name in ("v.mp4", "w.mp4"):
        with pytest.raises(DecodeError):
            decode(tmp_path / name)


def test_sound_alone_is_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DecodeError, match="holds audio") as error:
        decode(path)
    assert (error.value.reason, error.value.stage) == ("no_video_stream", "probe")


def test_frames_beyond_the_pixel_limit_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_PIXELS", 96 * 64 - 1)
    with pytest.raises(DecodeError, match="96 x 64") as error:
        decode(write_video(tmp_path / "v.mp4", num_frames=2))
    assert error.value.reason == "too_large"


def test_an_unknown_codec_is_named_as_such(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", num_frames=5)
    content = path.read_bytes()
    assert b"H264" in content
    path.write_bytes(content.replace(b"H264", b"ZZZZ"))
    with pytest.raises(DecodeError) as error:
        decode(path)
    assert error.value.reason == "unsupported_codec"


def test_damage_in_the_middle_is_counted_and_survived(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", num_frames=40, gop=1, options={"preset": "ultrafast"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(path.read_bytes())
    for position, size in packets[12:18]:
        content[position + 4 : position + size] = bytes(size - 4)
    path.write_bytes(content)
    pictures, probe = decode(path, ClipSpec(num_frames=40, image_size=32))
    assert probe.frames_damaged >= 6
    assert frames_of(pictures)[0][-1] == 39


@needs_real_videos
def test_frames_are_those_of_a_full_decode_on_real_clips() -> None:
    """For every real clip of the table's first rows: the frames that a full decode shows at the sampled times."""
    spec = ClipSpec(num_frames=8)
    some = [row["path"] for row in csv.DictReader((REAL_VIDEOS / "manifest.csv").open()) if row["set"] != "odd"][::8]
    for name in some:
        out, probe = decode(REAL_VIDEOS / name, spec)
        expected = full_decode(REAL_VIDEOS / name, probe.duration_s, spec)
        assert np.array_equal(out, expected), name


def full_decode(path: Path, duration_s: float, spec: ClipSpec) -> np.ndarray:
    """Every frame decoded, the last one at or before each sampled time taken."""
    out = np.zeros(spec.shape, np.uint8)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_type = "NONE"
        frames = list(container.decode(stream))
        times = [frame.pts for frame in frames]
        aspect = float(stream.sample_aspect_ratio or 1)
        if container.format.name == "avi":  # which stores decoding times only: frames follow each other
            first = frames[0].dts - stream.codec_context.reorder_depth
            times = [first + i for i in range(len(frames))]
        for slot, time in enumerate(sample_times(0, duration_s, spec.num_frames)[0]):
            wanted = (stream.start_time or 0) + time / float(stream.time_base)
            before = [i for i, pts in enumerate(times) if pts <= wanted]
            write_picture(frames[before[-1] if before else 0], aspect, spec, out[0, slot])
    return out


@needs_real_videos
def test_pictures_match_open_clip_preprocessing_on_real_clips() -> None:
    """Mean difference below one grey level of torchvision's bicubic resize and crop (measured: 0.3)."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    differences = []
    for name in ("ucf101/Archery", "ucf101/Biking", "weizmann/run", "demos/surfing"):
        path = sorted((REAL_VIDEOS / name).iterdir())[0]
        out, _ = decode(path, ClipSpec(num_frames=1))
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        best = min(
            np.abs(
                np.asarray(CenterCrop(224)(Resize(224, InterpolationMode.BICUBIC)(frame.to_image()))).astype(int)
                - out[0, 0]
            ).mean()
            for frame in frames[len(frames) // 2 - 2 : len(frames) // 2 + 2]
        )
        differences.append(best)
    assert max(differences) < 2.5
    assert np.mean(differences) < 1.6


@needs_real_videos
def test_odd_files_come_out_as_the_table_says() -> None:
    expected_reasons = {"no_video_stream": {"no_video_stream"}, "no": {"unreadable", "encrypted"}}
    for row in csv.DictReader((REAL_VIDEOS / "manifest.csv").open()):
        if row["set"] != "odd":
            continue
        outcome = row["outcome"].split(":")[0].split()[0]
        try:
            _, probe = decode(REAL_VIDEOS / row["path"])
        except DecodeError as exc:
            assert exc.reason in expected_reasons.get(outcome, set()), (row, exc)
            assert exc.reason in DECODE_REASONS
        else:
            assert outcome in ("yes", "partial"), row
            assert (probe.frames_damaged > 0) == (outcome == "partial"), row


@needs_real_videos
def test_encryption_is_recognised_in_a_container_that_ffmpeg_refuses() -> None:
    with pytest.raises(DecodeError) as error:
        decode(REAL_VIDEOS / "odd" / "sample_fragmented_clearkey.mp4")
    assert error.value.reason == "encrypted"
