"""Look at something again and again, in a thread, while a block runs. Knows nothing of what is looked at."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def looking(look: Callable[[], object], every_s: float) -> Iterator[None]:
    """In the block, call `look` every `every_s` seconds, first after as many. One that has begun ends before the block does."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
