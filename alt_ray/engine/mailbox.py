"""What training workers tell their driver: entries as they come, an error, the results. Needs no disk that they share.

An actor beside the driver holds it. It takes things from the newest attempt alone: workers that were taken for lost aren't heard.
Knows nothing of what is said.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from alt_ray.engine.looking import looking
from alt_ray.errors import JobError

INTERVAL_S = 0.5


class _Box:
    def __init__(self) -> None:
        self.attempt = ""
        self.entries: list[dict[str, Any]] = []
        self.ends: dict[str, Any] = {}

    def begin(self, attempt: str) -> None:
        self.attempt = attempt

    def put(self, attempt: str, entry: dict[str, Any]) -> bool:
        if attempt == self.attempt:
            self.entries.append(entry)
        return attempt == self.attempt

    def end(self, attempt: str, how: str, what: Any) -> bool:
        if attempt == self.attempt:
            self.ends[how] = what
        return attempt == self.attempt

    def how_it_ended(self) -> dict[str, Any]:
        return self.ends

    def take(self) -> list[dict[str, Any]]:
        entries, self.entries = self.entries, []
        return entries


class Sender:
    """A worker's end of a mailbox. `put` and `end` raise JobError once another attempt has begun."""

    def __init__(self, actor: Any, attempt: str = "") -> None:
        self.actor, self.attempt = actor, attempt

    def begin(self, attempt: str) -> None:
        """Let this attempt be the newest one."""
        ray.get(self.actor.begin.remote(attempt))

    def of(self, attempt: str) -> "Sender":
        """The same for one attempt."""
        return Sender(self.actor, attempt)

    def put(self, entry: dict[str, Any]) -> None:
        """Tell the driver something."""
        self._refuse_old(ray.get(self.actor.put.remote(self.attempt, entry)))

    def end(self, how: str, what: Any) -> None:
        """Say how the training ended: `what` under the name `how`."""
        self._refuse_old(ray.get(self.actor.end.remote(self.attempt, how, what)))

    def how_it_ended(self) -> dict[str, Any]:
        """What was said to `end`, by any attempt."""
        return ray.get(self.actor.how_it_ended.remote())

    def _refuse_old(self, is_newest: bool) -> None:
        if not is_newest:
            raise JobError("another attempt of this training has begun: nothing more is said by this one")


@contextlib.contextmanager
def mailbox(hear: Callable[[dict[str, Any]], None]) -> Iterator[Sender]:
    """Hand each entry to `hear` until the block ends; what the block is given may be given to workers."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(_Box).options(num_cpus=0, scheduling_strategy=here).remote()

    def look() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # a cluster that is gone must not hide why
            for entry in ray.get(actor.take.remote()):
                hear(entry)

    try:
        with looking(look, INTERVAL_S):
            yield Sender(actor)
    finally:
        look()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
