"""Says what a job waits for where others hold what it needs: one line instead of silence. Knows nothing of what the job does.

It is said with --quiet, too: who sees a job that does not begin must be able to tell why.
"""

import contextlib
from collections.abc import Iterator, Mapping

import ray
from ray.util import placement_group_table

from alt_ray.engine.looking import looking
from alt_ray.engine.packing import units
from alt_ray.engine.progress import announce

NOTICE_S, LOOK_S = 30.0, 2.0


def say_waiting(what: str) -> None:
    """Say that `what` is waited for, and what is free."""
    free, there = ray.available_resources(), ray.cluster_resources()
    numbers = [f"{free.get(name, 0):.2g} of {there[name]:g} {name}s" for name in ("CPU", "GPU") if there.get(name)]
    announce(f"waiting for {what}; free in the whole cluster: {', '.join(numbers) or 'nothing'}")


@contextlib.contextmanager
def says_what_workers_wait_for(
    num_workers: int, each: Mapping[str, float], notice_s: float = NOTICE_S
) -> Iterator[None]:
    """In the block, Ray Train may wait for `num_workers` bundles of this job; say so each time that it takes `notice_s`."""
    looks = 0

    def look() -> None:
        nonlocal looks
        looks = looks + 1 if _is_waiting(num_workers, each) else 0
        if looks == max(1, round(notice_s / LOOK_S)):
            share = ", ".join(f"{number:g} {name}" for name, number in each.items())
            say_waiting(f"{num_workers} workers of {share} each")

    with looking(look, LOOK_S):
        yield


def _is_waiting(num_workers: int, each: Mapping[str, float]) -> bool:
    """Whether a group of such bundles of this job has no place. The id of a group ends with that of its job."""
    wanted = {name: units(number) for name, number in each.items()}
    job = ray.get_runtime_context().get_job_id()
    for identity, group in placement_group_table().items():
        bundles = [{name: units(number) for name, number in own.items()} for own in group["bundles"].values()]
        is_ours = identity.endswith(job) and len(bundles) == num_workers and all(own == wanted for own in bundles)
        if is_ours and group["state"] in ("PENDING", "RESCHEDULING"):
            return True
    return False
