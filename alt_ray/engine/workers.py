"""Run one function on a worker of Ray, and say as our own errors what went wrong there. Knows nothing of the function."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import ray
import ray.exceptions

from alt_ray.engine.resources import Resources
from alt_ray.engine.waiting import NOTICE_S, say_waiting
from alt_ray.errors import JobError, UsageError

_Value = TypeVar("_Value")


def machine_name() -> str:
    """The machine that this worker is on, by its address and the id that Ray's dashboard and state have for it."""
    return f"{ray.util.get_node_ip_address()} {ray.get_runtime_context().get_node_id()[:8]}"


@contextlib.contextmanager
def errors_of_workers(what: str) -> Iterator[None]:
    """In the block, a UsageError of a worker is raised as it is, and everything else as a JobError: `what`, and why."""
    try:
        yield
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, UsageError):
            raise exc.cause from None
        raise JobError(f"{what}: {exc.cause}") from exc
    except ray.exceptions.RayError as exc:
        raise JobError(f"{what}: {exc}") from exc


def on_a_worker(function: Callable[[], _Value], plan: Resources, what: str) -> _Value:
    """Return what `function` returns on a worker with an encoder's resources: the driver stays light, and has no GPU.

    Raises UsageError as the function does, and JobError (`what` could not be done) for everything else that goes wrong there.
    """
    share = {"CPU": plan.encoder_cpus, "GPU": plan.encoder_gpus}

    def task() -> Iterator[_Value | None]:
        yield None  # it has a place
        yield function()

    remote = ray.remote(num_cpus=share["CPU"], num_gpus=share["GPU"], max_retries=1, num_returns="streaming")(task)
    with errors_of_workers(what):
        values: Any = remote.remote()
        if not ray.wait([values], timeout=NOTICE_S)[0]:
            say_waiting(
                "a worker with " + " and ".join(f"{number:g} {name}" for name, number in share.items() if number)
            )
        ray.get(next(values))
        return ray.get(next(values))
