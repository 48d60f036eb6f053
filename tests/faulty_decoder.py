"""A decoder that misbehaves where a file's name says so: what native code does to its process, done on purpose.

Given to the decoder process by name in tests of faults; every other file goes to the real decoder.
"""

import ctypes
import os
import pathlib
import signal
import time

import numpy as np

from alt_ray.video.decode import decode_video
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec


def decode(uri: str, start_s: float | None, end_s: float | None, spec: ClipSpec, out_VTHW3: np.ndarray) -> Probe:
    name = os.path.basename(uri)  # noqa: PTH119
    if "segfault" in name:
        ctypes.string_at(0)
    if "hang" in name:
        ctypes.PyDLL(None).sleep(3600)  # holds the interpreter's lock, as a deadlock in native code may
    if "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "slow" in name:
        time.sleep(0.5)
    if "two seconds" in name:
        time.sleep(2)
    if "until two machines decode" in name:
        wait_for_two_machines()
    if "gated" in name:
        while not os.path.exists(os.environ["ALT_RAY_TEST_GATE"]):  # noqa: PTH110
            time.sleep(0.05)
    return decode_video(uri, start_s, end_s, spec, out_VTHW3)


def wait_for_two_machines(at_most_s: float = 2) -> None:
    """Wait, but not for ever: a decoder without an end is replaced, and the other machine may never come."""
    here = pathlib.Path(os.environ["ALT_RAY_TEST_MACHINES"])
    (here / os.environ["RAY_RAYLET_PID"]).touch()  # one raylet a machine
    until = time.monotonic() + at_most_s
    while len(os.listdir(here)) < 2 and time.monotonic() < until:  # noqa: PTH208
        time.sleep(0.05)
