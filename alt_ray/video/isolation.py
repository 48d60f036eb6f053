"""Decode in a process of its own, so that a file that hangs or crashes native code costs itself alone.

A crash of FFmpeg takes its process down, and a deadlock in it can't be interrupted from within, so neither may happen in a Ray
worker (Ray would retry a row that always kills its worker for ever). `DecoderProcess` keeps one child, reuses it from file to
file, and replaces it when it had to be ended. Frames come back through shared memory. Knows nothing of Ray.
"""

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import numpy as np

import alt_ray
from alt_ray.errors import DecodeError, JobError
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec

START_LIMIT_S = 120.0  # imports from a cold network disk can take this long; not part of any file's time limit
# FFmpeg and its codecs leak a little on broken files. A new process takes 0.5 s, so this costs nothing and bounds it.
MAX_FILES_PER_PROCESS = 5000
NUM_SLOTS = 2  # one clip is decoded while the one before it is looked at
DECODE_FUNCTION = "alt_ray.video.decode:decode_video"


@dataclass
class _Request:
    """A file that the child was asked for, and since when its time counts (None: it waits for the one before it)."""

    uri: str
    start_s: float | None
    end_s: float | None
    slot: int
    since_s: float | None = None


class DecoderProcess:
    """A child process that decodes clips of one `spec`, with a time limit per file that holds whatever native code does.

    `decode` asks and waits. `submit` and `result` let one file be decoded while the one before it is looked at, which hides
    the time that the way between the processes takes. `function` names what the child runs ("module:function", the
    signature of decode.decode_video).
    """

    def __init__(self, spec: ClipSpec, *, time_limit_s: float = 60.0, function: str = DECODE_FUNCTION) -> None:
        self.spec = spec
        self.time_limit_s = time_limit_s
        self.function = function
        self._memory = _shared_memory(NUM_SLOTS * spec.num_bytes)
        self._map = mmap.mmap(self._memory, NUM_SLOTS * spec.num_bytes)
        self._slots_SVTHW3 = np.frombuffer(self._map, np.uint8).reshape(NUM_SLOTS, *spec.shape)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._pending: deque[_Request] = deque()
        self._num_files = 0
        self._next_slot = 0

    def decode(self, uri: str, start_s: float | None = None, end_s: float | None = None) -> tuple[np.ndarray, Probe]:
        """`submit` and `result` of one video."""
        self.submit(uri, start_s, end_s)
        return self.result()

    def submit(self, uri: str, start_s: float | None = None, end_s: float | None = None) -> None:
        """Ask for a video. At most NUM_SLOTS may be asked for and not yet fetched."""
        assert len(self._pending) < NUM_SLOTS
        if self._num_files >= MAX_FILES_PER_PROCESS and not self._pending:
            self._end()
        request = _Request(uri, start_s, end_s, self._next_slot)
        self._next_slot = (self._next_slot + 1) % NUM_SLOTS
        self._pending.append(request)
        if self._connection is None:
            self._start()  # which sends everything that is pending
        else:
            self._send(request)

    def result(self) -> tuple[np.ndarray, Probe]:
        """Return (frames [V, T, H, W, 3] uint8, Probe) of the video that was asked for first.

        The frames are overwritten by the next `submit` but one: copy them before. Raises DecodeError: what the decoder said, or
        "timeout" after `time_limit_s`, or "crashed" with the signal's name; what was asked for after it is decoded all the same.
        """
        connection = self._connection or self._start()
        request = self._pending.popleft()
        try:
            elapsed_s = time.monotonic() - (request.since_s or time.monotonic())
            if not connection.poll(max(self.time_limit_s - elapsed_s, 0.0)):
                self._kill()
                raise DecodeError("timeout", f"{request.uri}: not decoded within {self.time_limit_s:g} s")
            kind, answer = connection.recv()
        except (EOFError, ConnectionError) as exc:
            raise DecodeError("crashed", f"{request.uri}: the decoder process {self._end()}") from exc
        if self._pending:
            self._pending[0].since_s = time.monotonic()
        if kind == "error":
            raise answer
        return self._slots_SVTHW3[request.slot], answer

    def _send(self, request: _Request) -> None:
        assert self._connection is not None
        self._num_files += 1
        if request is self._pending[0]:
            request.since_s = time.monotonic()
        with contextlib.suppress(ConnectionError):  # a child that died is noticed where its answer is missing
            self._connection.send((request.uri, request.start_s, request.end_s, request.slot))

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "alt_ray.video.child", str(theirs.fileno()), str(self._memory)]
        # The package may have come through Ray's working_dir or a test's sys.path, which a new interpreter knows nothing of.
        paths = [str(Path(alt_ray.__file__).parents[1]), *(p for p in sys.path if p)]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), self._memory),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection, self._num_files = ours, 0
        deadline = time.monotonic() + START_LIMIT_S
        try:
            ours.send((self.spec, self.time_limit_s, self.function))
            if not ours.poll(deadline - time.monotonic()):
                raise EOFError
            ours.recv()
            for request in self._pending:
                self._send(request)
        except (EOFError, ConnectionError) as exc:
            raise JobError(f"the decoder process did not start: {' '.join(command)}: it {self._end()}") from exc
        return ours

    def _end(self) -> str:
        """End the child, and return how it ended, as the rest of a sentence."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None or connection is None:
            return "was not running"
        connection.close()
        try:
            code = process.wait(timeout=0.5)  # it has ended if it crashed, but the system may need a moment to say so
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "had to be ended"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with status {code}"

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._end()

    def close(self) -> None:
        """End the child and give the shared memory back. Frames that were returned may no longer be looked at."""
        self._kill()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def __enter__(self) -> "DecoderProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):  # not where __init__ itself failed
            self.close()


def _shared_memory(size_bytes: int) -> int:
    """Return a file descriptor of memory that no name points to, so that nothing is left behind whoever is killed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("alt_ray_frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size_bytes)
    return descriptor
