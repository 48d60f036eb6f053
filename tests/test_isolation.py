"""A file that hangs or crashes the decoder costs itself alone, and its process is replaced."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alt_ray.errors import DecodeError
from alt_ray.video.decode import decode_video
from alt_ray.video.isolation import DecoderProcess
from alt_ray.video.sampling import ClipSpec
from tests.media import write_video

SPEC = ClipSpec(num_frames=4, image_size=32)
FAULTY = "tests.faulty_decoder:decode"


def test_frames_and_probe_are_those_of_a_direct_call(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4")
    expected = np.zeros(SPEC.shape, np.uint8)
    probe = decode_video(str(video), 0.5, 2.0, SPEC, expected)
    with DecoderProcess(SPEC) as decoder:
        frames, isolated_probe = decoder.decode(str(video), 0.5, 2.0)
        assert np.array_equal(frames, expected)
        assert isolated_probe == probe


def test_errors_of_the_decoder_come_through_whole(tmp_path: Path) -> None:
    with DecoderProcess(SPEC) as decoder, pytest.raises(DecodeError, match=r"gone\.mp4") as error:
        decoder.decode(str(tmp_path / "gone.mp4"))
    assert (error.value.reason, error.value.stage) == ("not_found", "open")


@pytest.mark.parametrize(("name", "reason"), [("segfault", "crashed"), ("killed", "crashed"), ("hang", "timeout")])
def test_after_a_fault_the_next_file_is_decoded(tmp_path: Path, name: str, reason: str) -> None:
    video = write_video(tmp_path / "v.mp4")
    with DecoderProcess(SPEC, time_limit_s=3.0, function=FAULTY) as decoder:
        decoder.decode(str(video))
        with pytest.raises(DecodeError) as error:
            decoder.decode(str(tmp_path / f"{name}.mp4"))
        assert error.value.reason == reason
        frames, _ = decoder.decode(str(video))
        assert frames.any()


def test_a_crash_names_the_signal(tmp_path: Path) -> None:
    with DecoderProcess(SPEC, function=FAULTY) as decoder, pytest.raises(DecodeError, match="SIGSEGV"):
        decoder.decode(str(tmp_path / "segfault.mp4"))


def test_a_file_that_never_answers_is_a_timeout(tmp_path: Path) -> None:
    """A real one: opening a pipe that nobody writes to never returns."""
    os.mkfifo(tmp_path / "v.mp4")
    with DecoderProcess(SPEC, time_limit_s=0.5) as decoder, pytest.raises(DecodeError) as error:
        decoder.decode(str(tmp_path / "v.mp4"))
    assert error.value.reason == "timeout"


@pytest.mark.parametrize("name", ["segfault", "hang"])
def test_what_was_asked_for_behind_a_fault_is_decoded_all_the_same(tmp_path: Path, name: str) -> None:
    video = write_video(tmp_path / "v.mp4")
    with DecoderProcess(SPEC, time_limit_s=3.0, function=FAULTY) as decoder:
        expected = decoder.decode(str(video))[0].copy()
        decoder.submit(str(tmp_path / f"{name}.mp4"))
        decoder.submit(str(video))
        with pytest.raises(DecodeError, match=name):
            decoder.result()
        assert np.array_equal(decoder.result()[0], expected)


def test_the_time_limit_of_a_file_does_not_count_the_one_before_it(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4").rename(tmp_path / "two seconds.mp4")
    with DecoderProcess(SPEC, time_limit_s=3.5, function=FAULTY) as decoder:
        decoder.submit(str(video))
        decoder.submit(str(video))
        assert decoder.result()[0].any()
        assert decoder.result()[0].any()


def test_the_process_is_reused_from_file_to_file(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4")
    with DecoderProcess(SPEC) as decoder:
        decoder.decode(str(video))
        assert decoder._process is not None
        first = decoder._process.pid
        decoder.decode(str(video))
        assert decoder._process.pid == first


def test_no_decoder_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    """Even one that hangs in native code and holds the interpreter."""
    program = (
        "import os, sys, threading, time\n"
        "from alt_ray.video.isolation import DecoderProcess\n"
        "from alt_ray.video.sampling import ClipSpec\n"
        "import alt_ray.video.child as child\n"
        f"decoder = DecoderProcess(ClipSpec(num_frames=1, image_size=8), time_limit_s=1.0, function={FAULTY!r})\n"
        "decoder._start()\n"
        "decoder._connection.send(('hang.mp4', None, None, 0))\n"
        "print(decoder._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    folder = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    pid = int(result.stdout)
    deadline = time.monotonic() + 120
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
