"""Machines that aren't there yet: those that a job waits for before it is planned, and those that it may get while it runs.

A cluster with an autoscaler may begin with a head that runs nothing, and Ray tells nobody how far it may grow, nor whether
there is an autoscaler at all. So the user says what to wait for and how far to grow, and an autoscaler, if there is one, is asked
for it. Knows nothing of what the job does.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group

from alt_ray.engine.looking import looking
from alt_ray.engine.packing import Machine, machines_of, total
from alt_ray.engine.progress import announce
from alt_ray.engine.waiting import LOOK_S, NOTICE_S

# What is missing is asked for in ones, of which Ray has at most so many to keep in mind: the rest when those have come. Some find
# a place on machines that were there, and are asked for again after so many looks only: a decoder may want that place.
MAX_ASKED, LOOKS_PER_ASKING = 256, 15


def machines_with(wanted: Mapping[str, int], notice_s: float = NOTICE_S) -> tuple[Machine, ...]:
    """Return what each machine of the cluster has, as soon as all of them have `wanted` ({"CPU": 8, "GPU": 1}) together.

    However long it takes: every `notice_s` a line says what is waited for.
    """
    machines = machines_of(ray.nodes())
    if _has(machines, wanted):
        return machines
    # Ones, since nobody knows how large the machines are that will come.
    request_resources(bundles=[{name: 1} for name, number in wanted.items() for _ in range(number)])
    started_s, said_s = time.monotonic(), None
    try:
        while not _has(machines, wanted):
            waited_s = time.monotonic() - started_s
            if said_s is None or waited_s - said_s >= notice_s:
                announce(_waiting(machines, wanted, waited_s))
                said_s = waited_s
            time.sleep(LOOK_S)
            machines = machines_of(ray.nodes())
    finally:
        request_resources(bundles=[])  # from here on, what the job runs is what it needs
    announce(f"the machines are there, after {time.monotonic() - started_s:.0f} s: {_text(machines, wanted)}")
    return machines


@contextmanager
def asks_for_machines(most: Mapping[str, int]) -> Iterator[None]:
    """In the block, ask for what all machines together lack of `most` ({"CPU": 64, "GPU": 4}): also for one that is lost again.

    By placement groups, which are given back as soon as they have a place. `request_resources` keeps one list for the whole
    cluster, and Ray Data's own requests, which it makes of how fast each stage is, replace it every few seconds.
    """
    if not most:
        yield
        return
    asked: dict[str, list[PlacementGroup]] = {name: [] for name in most}
    looks = itertools.count()

    def look() -> None:
        machines = machines_of(ray.nodes())
        states = {key: group["state"] for key, group in placement_group_table().items()}
        asks = next(looks) % LOOKS_PER_ASKING == 0
        for name, number in most.items():
            missing = min(max(0, number - int(total(machines, name))), MAX_ASKED)
            waiting = [group for group in asked[name] if states.get(group.id.hex(), "PENDING") == "PENDING"]
            for group in set(asked[name]) - set(waiting[:missing]):
                remove_placement_group(group)
            more = missing - len(waiting) if asks else 0
            asked[name] = waiting[:missing] + [placement_group([{name: 1}]) for _ in range(more)]

    try:
        with looking(look, LOOK_S):
            yield
    finally:
        for groups in asked.values():
            for group in groups:
                remove_placement_group(group)


def _has(machines: tuple[Machine, ...], wanted: Mapping[str, int]) -> bool:
    return all(total(machines, name) >= number for name, number in wanted.items())


def _text(machines: tuple[Machine, ...], wanted: Mapping[str, int]) -> str:
    return " and ".join(f"{total(machines, name):g} {name}s" for name, number in wanted.items() if number)


def _waiting(machines: tuple[Machine, ...], wanted: Mapping[str, int], waited_s: float) -> str:
    needed = " and ".join(f"{number} {name}s" for name, number in wanted.items() if number)
    return (
        f"waiting for machines with {needed} (so far {_text(machines, wanted)}, {waited_s:.0f} s); the autoscaler, "
        "if this cluster has one, is asked for them"
    )
