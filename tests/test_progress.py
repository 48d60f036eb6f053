import io
import time

from alt_ray.engine.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_says_done_failed_rate_and_time_left() -> None:
    progress = Progress("label", 200, quiet=True)
    progress.add(10, 1)
    progress._first = (time.monotonic() - 10, 10)
    progress.add(50, 2)
    assert progress.line() == "label: 60 of 200 videos, 3 failed, 5.0 per second, 28 s left"


def test_the_rate_does_not_count_the_start_up() -> None:
    progress = Progress("label", 10, quiet=True)
    progress._started_s -= 100
    progress.add(1, 0)
    assert progress.videos_per_s == 0


def test_a_terminal_has_one_line_that_is_overwritten_and_a_log_has_lines() -> None:
    for stream, returns in ((Terminal(), 2), (io.StringIO(), 0)):
        with Progress("label", 3, stream=stream) as progress:
            progress.add(3, 0)
        assert stream.getvalue().count("\r") == returns
        assert stream.getvalue().endswith("\n")


def test_quiet_is_silent() -> None:
    stream = io.StringIO()
    with Progress("label", 3, quiet=True, stream=stream) as progress:
        progress.add(3, 0)
    assert stream.getvalue() == ""
