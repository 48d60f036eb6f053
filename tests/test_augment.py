"""Augmented views: what is drawn for them, that it is the same wherever it is drawn, and that test views don't notice them."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from PIL import Image

from alt_ray.errors import UsageError
from alt_ray.video.augment import Augmentation, AugmentedView, draw_view
from alt_ray.video.decode import decode_video, write_augmented
from alt_ray.video.isolation import DecoderProcess
from alt_ray.video.sampling import ClipSpec
from tests.media import REAL_VIDEOS, frame_of, needs_real_videos, write_video

SPEC = ClipSpec(num_frames=4, image_size=32, train_views=3, seed=7)
SIZES = [(320.0, 240.0), (240.0, 320.0), (1920.0, 1080.0), (224.0, 224.0), (1000.0, 100.0)]
MANY = 2000


def view_of(number: int = 0, seed: int = 0, uri: str = "v.mp4", **changes: object) -> AugmentedView:
    return draw_view(Augmentation(**changes), seed, uri, None, None, number, 4)


def decode(path: Path | str, spec: ClipSpec = SPEC, start_s: float | None = None) -> np.ndarray:
    out = np.zeros(spec.shape, np.uint8)
    decode_video(str(path), start_s, None, spec, out)
    return out


def write_gradient(
    path: Path, *, num_frames: int = 8, width: int = 128, height: int = 96, pixel_aspect: int = 1, degrees: int = 0
) -> Path:
    """Write a video in which red says how far right a pixel is as stored, and green how far down."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        stream.set_display_rotation(degrees)
        picture = np.full((height, width, 3), 128, np.uint8)
        picture[:, :, 0] = np.linspace(0, 255, width)
        picture[:, :, 1] = np.linspace(0, 255, height)[:, None]
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def first_frame(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def augmented(frame: av.VideoFrame, view: AugmentedView, spec: ClipSpec = SPEC, aspect: float = 1.0) -> np.ndarray:
    out = np.zeros(spec.shape[2:], np.uint8)
    write_augmented(frame, aspect, spec, view, out, VideoReformatter())
    return out


@pytest.mark.parametrize("size", SIZES)
def test_regions_lie_in_the_picture_within_the_stated_area_and_aspect(size: tuple[float, float]) -> None:
    width, height = size
    views = [view_of(seed=seed, min_area=0.4, max_aspect=1.5) for seed in range(MANY)]
    regions = np.array([view.region(width, height) for view in views])
    left, top, part_width, part_height = regions.T
    assert (regions >= 0).all()
    assert max((left + part_width).max(), (top + part_height).max()) <= 1 + 1e-12
    aspects = part_width * width / (part_height * height)
    assert 1 / 1.5 <= aspects.min() < 0.68
    assert 1.48 < aspects.max() <= 1.5
    largest = np.minimum(width, height * aspects) * np.minimum(height, width / aspects)
    areas = part_width * width * part_height * height / largest
    assert 0.4 - 1e-9 <= areas.min() < 0.41
    assert 0.99 < areas.max() <= 1 + 1e-9
    for place, part in ((left, part_width), (top, part_height)):
        share = place[part < 0.99] / (1 - part[part < 0.99])
        assert abs(share.mean() - 0.5) < 0.03
        assert share.min() < 0.01
        assert share.max() > 0.99


@pytest.mark.parametrize("size", SIZES)
def test_what_is_cut_is_the_region_within_a_pixel(size: tuple[float, float]) -> None:
    for seed in range(200):
        view = view_of(seed=seed)
        region = view.region(*size)
        width, height, rows, columns = view.cut(*size, 32)
        assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 32)
        assert 0 <= columns.start <= columns.stop <= width
        assert 0 <= rows.start <= rows.stop <= height
        assert abs(columns.start - region.left * width) <= 1
        assert abs(rows.start - region.top * height) <= 1
        assert 32 / width == pytest.approx(region.width, abs=0.6 / width)


def test_half_of_the_views_are_mirrored_unless_switched_off() -> None:
    assert abs(np.mean([view_of(seed=seed).flip for seed in range(MANY)]) - 0.5) < 0.04
    assert not any(view_of(seed=seed, flip=False).flip for seed in range(MANY))
    for seed in range(20):  # and nothing else changes with it
        assert replace(view_of(seed=seed), flip=False) == view_of(seed=seed, flip=False)


def test_each_moment_lies_anywhere_in_its_own_segment() -> None:
    times = np.array([view_of(seed=seed).times(2.0, 10.0) for seed in range(MANY)])
    within = (times - 2.0) / 2.0 - np.arange(4)
    assert within.min() >= 0
    assert within.max() < 1
    assert np.abs(within.mean(axis=0) - 0.5).max() < 0.03
    assert np.abs(np.corrcoef(within.T) - np.eye(4)).max() < 0.08
    assert view_of(jitter=False).times(2.0, 10.0) == [3.0, 5.0, 7.0, 9.0]


def test_views_seeds_videos_and_bounds_are_drawn_independently() -> None:
    keys = [(0, "v", None, None, 0), (1, "v", None, None, 0), (0, "w", None, None, 0), (0, "v", None, None, 1)]
    keys += [(0, "v", 1.0, None, 0), (0, "v", None, 1.0, 0), (0, "v", 1.0, 2.0, 0)]
    views = [draw_view(Augmentation(), *key, num_frames=4) for key in keys]
    assert len({view.x for view in views}) == len({view.moments for view in views}) == len(keys)
    assert draw_view(Augmentation(), 0, "v", 1, None, 0, 4) == views[4]


def test_what_is_drawn_never_changes() -> None:
    """A store that was begun with one version is continued with the next, under any hash seed."""
    code = (
        "from alt_ray.video.augment import *\n"
        "print(draw_view(Augmentation(), 3, 'file:///a/\\u00e9.mp4', 0.5, None, 2, 2))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == repr(draw_view(Augmentation(), 3, "file:///a/é.mp4", 0.5, None, 2, 2))
    view = view_of()
    assert [round(value, 9) for value in (view.x, view.y, *view.moments)] == [
        0.884313339,
        0.174072181,
        0.320025037,
        0.156487293,
        0.961215243,
        0.240170058,
    ]


@pytest.mark.parametrize("bad", [{"min_area": 0.0}, {"min_area": 1.5}, {"max_aspect": 0.9}, {"max_aspect": 9.0}])
def test_impossible_augmentations_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        Augmentation(**bad)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "webm"])
def test_train_views_leave_the_test_views_as_they_are(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    video = write_video(tmp_path / f"v.{suffix}", num_frames=37, gop=5, codec=codec)
    for num_views in (1, 2):
        spec = ClipSpec(num_frames=4, num_views=num_views, image_size=32)
        assert np.array_equal(decode(video, replace(spec, train_views=5))[:num_views], decode(video, spec))


@needs_real_videos
def test_train_views_leave_the_test_views_of_real_clips_as_they_are() -> None:
    rows = [row["path"] for row in csv.DictReader((REAL_VIDEOS / "manifest.csv").open()) if row["set"] != "odd"]
    for name in rows[::12]:
        spec = ClipSpec(num_frames=8, image_size=64)
        assert np.array_equal(
            decode(REAL_VIDEOS / name, replace(spec, train_views=2))[:1], decode(REAL_VIDEOS / name, spec)
        )


def test_each_view_has_one_crop_and_sees_the_region_that_was_drawn(tmp_path: Path) -> None:
    video = write_gradient(tmp_path / "v.mp4")
    pictures = decode(video).astype(int)
    for number, view_THW3 in enumerate(pictures[1:]):
        assert np.abs(view_THW3 - view_THW3[0]).max() == 0
        view = view_of(number, seed=SPEC.seed, uri=str(video))
        region = view.region(128, 96)
        sides = [region.left * 255, (region.left + region.width) * 255]
        seen = view_THW3[0, 16, [0, -1], 0]
        assert np.abs(seen - (sides[::-1] if view.flip else sides)).max() < 12  # a pixel is 5 to 8 of these
        assert np.abs(view_THW3[0, [0, -1], 16, 1] / 255 - [region.top, region.top + region.height]).max() < 0.05
    assert len({view_THW3.tobytes() for view_THW3 in pictures}) == 4


def test_a_flip_mirrors(tmp_path: Path) -> None:
    frame, view = first_frame(write_gradient(tmp_path / "v.mp4")), view_of()
    mirrored = augmented(frame, replace(view, flip=True))
    assert np.array_equal(mirrored[:, ::-1], augmented(frame, replace(view, flip=False)))
    assert mirrored[16, 0, 0] > mirrored[16, -1, 0]


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize(("degrees", "aspect"), [(0, 1), (90, 1), (180, 1), (-90, 1), (0, 2), (90, 2)])
def test_the_region_is_one_of_the_displayed_picture(
    tmp_path: Path, degrees: int, aspect: int, resize_mode: str
) -> None:
    """Against Pillow: the picture as a player shows it, turned and stretched, then cut and scaled."""
    video = write_gradient(tmp_path / "v.mp4", pixel_aspect=aspect, degrees=degrees)
    frame = first_frame(video)
    assert frame.rotation % 360 == degrees % 360
    shown = Image.fromarray(frame.to_ndarray(format="rgb24")).resize((128 * aspect, 96)).rotate(degrees, expand=True)
    spec = replace(SPEC, resize_mode=resize_mode)
    pictures = decode(video, spec)
    for number in range(3):
        view = view_of(number, seed=SPEC.seed, uri=str(video))
        left, top, width, height = view.region(*((1, 1) if resize_mode == "squash" else shown.size))
        box = (left * shown.width, top * shown.height, (left + width) * shown.width, (top + height) * shown.height)
        expected = np.asarray(shown.resize((32, 32), Image.Resampling.BICUBIC, box))
        expected = expected[:, ::-1] if view.flip else expected
        assert np.abs(pictures[1 + number, 0].astype(int) - expected).mean() < 4


def test_frames_are_those_shown_at_the_moments_drawn(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", num_frames=40, gop=5)
    pictures = decode(video, start_s=1.0)
    for number, view_THW3 in enumerate(pictures[1:]):
        view = draw_view(SPEC.augmentation, SPEC.seed, str(video), 1.0, None, number, 4)
        assert [frame_of(picture.mean()) for picture in view_THW3] == [int(time * 10) for time in view.times(1.0, 4.0)]


@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_short_video_repeats_its_frames_and_no_other_views_crop(tmp_path: Path, num_frames: int) -> None:
    video = write_gradient(tmp_path / "v.mp4", num_frames=num_frames)
    spec = replace(SPEC, num_views=2)
    pictures = decode(video, spec)
    assert np.array_equal(pictures[0], pictures[1])
    for number in range(3):
        expected = augmented(first_frame(video), view_of(number, seed=SPEC.seed, uri=str(video)))
        assert (np.abs(pictures[2 + number].astype(int) - expected) <= 2).all()  # two frames are coded apart


def write_truncated(path: Path, num_left: int) -> None:
    """Write a video that claims 4 s of 10 frames each, and holds the first `num_left` frames."""
    write_video(path, num_frames=40, gop=5, options={"bf": "0"})
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: positions[num_left]])


def test_a_truncated_video_fills_every_view(tmp_path: Path) -> None:
    write_truncated(tmp_path / "v.mkv", 25)
    pictures = decode(tmp_path / "v.mkv")
    assert np.array_equal(pictures[:1], decode(tmp_path / "v.mkv", replace(SPEC, train_views=0)))
    for view_THW3 in pictures:
        frames = [frame_of(picture.mean()) for picture in view_THW3]
        assert frames == sorted(frames)
        assert 0 <= frames[0] <= frames[-1] < 25


def test_where_only_augmented_views_look_past_the_end_they_see_the_last_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # what is drawn depends on the name
    write_truncated(Path("v.mkv"), 37)
    spec = replace(SPEC, train_views=12)
    out, alone = np.zeros(spec.shape, np.uint8), np.zeros((1, *spec.shape[1:]), np.uint8)
    probe = decode_video("v.mkv", None, None, spec, out)
    assert probe == decode_video("v.mkv", None, None, replace(SPEC, train_views=0), alone)
    assert np.array_equal(out[:1], alone)
    last_s = [view_of(number, seed=SPEC.seed, uri="v.mkv").times(0, 4.0)[-1] for number in range(12)]
    assert sum(time > 3.7 for time in last_s) > 1  # else nothing is tested
    assert [frame_of(view[-1].mean()) for view in out[1:]] == [min(int(time * 10), 36) for time in last_s]


def test_decoder_processes_agree_in_any_order_and_with_a_direct_call(tmp_path: Path) -> None:
    videos = [str(write_gradient(tmp_path / f"{name}.mp4")) for name in "abc"]
    direct = {video: decode(video) for video in videos}
    for order in (videos, videos[::-1]):
        with DecoderProcess(SPEC) as decoder:
            for video in order:
                frames, _ = decoder.decode(video)
                assert np.array_equal(frames, direct[video])
    assert len({clip[1:].tobytes() for clip in direct.values()}) == 3
    assert not np.array_equal(decode(videos[0], replace(SPEC, seed=8))[1:], direct[videos[0]][1:])
