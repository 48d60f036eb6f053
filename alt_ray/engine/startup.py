"""What passes between the start of a job and its first result, by stage, in seconds. Knows nothing of what the stages do."""

import os
import time


class Startup:
    """Stages that follow each other. `end(name)` ends one, and the next begins."""

    def __init__(self, first: str | None = None, before_s: float = 0.0) -> None:
        """first: name of a stage that took the `before_s` seconds before now, where there is one."""
        self.seconds: dict[str, float] = {first: before_s} if first else {}
        self.is_over = False
        self._since_s = time.monotonic()

    @classmethod
    def of_process(cls) -> "Startup":
        """From the start of this process on: what came until now is Python and what it imports."""
        return cls("starting Python and its imports", process_age_s())

    def end(self, name: str) -> None:
        """The stage that is running was `name`. One that comes again adds to its time; after `finish` nothing is counted."""
        now_s = time.monotonic()
        if not self.is_over:
            self.seconds[name] = self.seconds.get(name, 0.0) + now_s - self._since_s
        self._since_s = now_s

    def finish(self, name: str) -> None:
        """The last stage was `name`: the first result is there."""
        self.end(name)
        self.is_over = True

    @property
    def total_s(self) -> float | None:
        """Seconds to the first result, None before it."""
        return sum(self.seconds.values()) if self.is_over else None

    def as_json(self) -> dict[str, float] | None:
        return {name: round(seconds, 2) for name, seconds in self.seconds.items()} if self.is_over else None

    def __str__(self) -> str:
        """ "first result after 14.2 s: 3.1 joining Ray, 7.0 loading the model, 4.1 first clips"."""
        parts = [f"{seconds:.1f} {name}" for name, seconds in self.seconds.items() if seconds >= 0.05]
        return f"first result after {sum(self.seconds.values()):.1f} s: {', '.join(parts)}"


def process_age_s() -> float:
    """Seconds since this process began, to a hundredth; 0 where the system does not say."""
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # the name before it may hold anything
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
