"""The first ctrl-C or SIGTERM as a wish to end soon. Knows nothing of what is to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def first_interrupt(ask: Callable[[], None]) -> Iterator[None]:
    """Turn the first ctrl-C or SIGTERM into a call of `ask`; the next one interrupts as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        for other, handler in before.items():
            signal.signal(other, handler)
        ask()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
