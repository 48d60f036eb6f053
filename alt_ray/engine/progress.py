"""One line that a person can read while a job runs. Knows nothing of what is being done."""

import sys
import threading
import time
from types import TracebackType
from typing import TextIO

TERMINAL_INTERVAL_S = 0.5
LOG_INTERVAL_S = 15.0  # a line each time, where nobody can overwrite it: job logs, files


def announce(text: str, *, quiet: bool = False) -> None:
    """Say what is being waited for, before there is anything to count."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """Shows "label 120 of 208 videos, 3 failed, 14.2 per second, 6 s left" on standard error, as a block's context."""

    def __init__(self, name: str, total: int, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.failed = 0
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._is_terminal = self._stream.isatty()
        self._started_s = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_often, daemon=True)

    def add(self, done: int, failed: int) -> None:
        """Count more videos: `done` of them finished, `failed` among these not labelled."""
        self.done += done
        self.failed += failed
        if self._first is None:
            # Start-up is over now: the rate, and with it the time left, counts from here.
            self._first = (time.monotonic(), self.done)

    @property
    def videos_per_s(self) -> float:
        """The rate since the first result, 0 before the second one."""
        if self._first is None or self.done == self._first[1]:
            return 0.0
        return (self.done - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)

    def say(self, text: str) -> None:
        """Say something that stays, above the line."""
        if not self._quiet:
            self._stream.write(f"\r{text}\x1b[K\n" if self._is_terminal else f"{text}\n")
            self._stream.flush()

    def line(self) -> str:
        if self._first is None:
            return f"{self.name}: starting, {self.total} videos, {time.monotonic() - self._started_s:.0f} s"
        parts = [f"{self.name}: {self.done} of {self.total} videos", f"{self.failed} failed"]
        if rate := self.videos_per_s:
            parts += [f"{rate:.1f} per second", f"{_duration((self.total - self.done) / rate)} left"]
        return ", ".join(parts)

    def __enter__(self) -> "Progress":
        if not self._quiet:
            self._show()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if not self._quiet:
            self._thread.join()
            self._show(last=True)

    def _show_often(self) -> None:
        interval_s = TERMINAL_INTERVAL_S if self._is_terminal else LOG_INTERVAL_S
        while not self._stop.wait(interval_s):
            self._show()

    def _show(self, last: bool = False) -> None:
        if self._is_terminal:
            # "\x1b[K" clears what a longer line left behind.
            self._stream.write(f"\r{self.line()}\x1b[K" + ("\n" if last else ""))
        else:
            self._stream.write(self.line() + "\n")
        self._stream.flush()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
