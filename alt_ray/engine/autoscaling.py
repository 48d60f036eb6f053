"""Waits for the machines that a job needs before it can be planned, and says so. Knows nothing of what the job does.

A cluster with an autoscaler may begin with a head that runs nothing, and Ray tells nobody how far it may grow, nor whether
there is an autoscaler at all. So the user says what to wait for, and an autoscaler, if there is one, is asked for it.
"""

import time
from collections.abc import Mapping

import ray
from ray.autoscaler.sdk import request_resources

from alt_ray.engine.packing import Machine, machines_of, total
from alt_ray.engine.progress import announce
from alt_ray.engine.waiting import LOOK_S, NOTICE_S


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
