"""The decoder process: decodes what it is asked for into shared memory, one file after another, until its pipe closes.

Started by `isolation` as `python -m alt_ray.video.child`, never by hand. Knows nothing of why it was started, nor of Ray.

The pipe carries small tuples: (uri, start_s, end_s, slot) in; ("ok", Probe) or ("error", DecodeError) out. Frames go through the
shared memory behind a file descriptor, so they are never pickled.
"""

import importlib
import mmap
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from alt_ray.errors import DecodeError
from alt_ray.video.probe import Probe
from alt_ray.video.sampling import ClipSpec

GRACE_S = 5.0  # the parent ends us at the limit; this is for when there is no parent any more


def load_function(name: str) -> Callable[..., Probe]:
    """Return the function that "package.module:function" names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def serve(connection: Connection, slots_SVTHW3: np.ndarray, spec: ClipSpec, time_limit_s: float, function: str) -> None:
    """Answer requests until the other end closes."""
    decode = load_function(function)
    connection.send(("ready", None))
    while True:
        try:
            uri, start_s, end_s, slot = connection.recv()
        except EOFError:
            return
        # The default action of SIGALRM ends a process even while native code hangs and holds the interpreter, so that no
        # decoder outlives a worker that was killed.
        signal.setitimer(signal.ITIMER_REAL, time_limit_s + GRACE_S)
        try:
            answer: tuple[str, Probe | DecodeError] = ("ok", decode(uri, start_s, end_s, spec, slots_SVTHW3[slot]))
        except DecodeError as exc:
            answer = ("error", exc)
        except MemoryError:
            answer = ("error", DecodeError("too_large", f"{uri}: not enough memory to decode it"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(answer)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's affair; it closes our pipe when it is done
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = Connection(int(sys.argv[1]))
    memory = int(sys.argv[2])
    spec, time_limit_s, function = connection.recv()
    with mmap.mmap(memory, 0) as shared:  # all of it: as many slots as the parent made
        os.close(memory)
        slots_SVTHW3 = np.frombuffer(shared, np.uint8).reshape(-1, *spec.shape)
        serve(connection, slots_SVTHW3, spec, time_limit_s, function)
        os._exit(0)  # the array still looks into the shared memory, which would make closing it an error


if __name__ == "__main__":
    main()
