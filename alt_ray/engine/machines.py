"""Says which machines a cluster loses and gets while a job runs: a line each, instead of Ray's pages. Knows nothing of the job.

It is said with --quiet, too: who wonders why a job became slower must be able to tell.
"""

import contextlib
from collections.abc import Iterator

import ray
import ray.exceptions

from alt_ray.engine.looking import looking
from alt_ray.engine.packing import described
from alt_ray.engine.progress import announce

LOOK_S = 5.0


@contextlib.contextmanager
def says_which_machines_change(look_s: float = LOOK_S) -> Iterator[None]:
    """In the block, say of each machine that is lost or comes what it has."""
    known = _machines()

    def look() -> None:
        nonlocal known
        with contextlib.suppress(ray.exceptions.RayError):  # a cluster that is gone is the job's to say
            now = _machines()
            for name in known.keys() - now.keys():
                announce(f"a machine is lost: {name}, {known[name]}; what it had not finished is done again elsewhere")
            for name in now.keys() - known.keys():
                announce(f"a machine has come: {name}, {now[name]}")
            known = now

    with looking(look, look_s):
        yield


def _machines() -> dict[str, str]:
    """What each machine that is alive has, by its address and the beginning of its id."""
    return {
        f"{node['NodeManagerAddress']} {node['NodeID'][:8]}": described([node["Resources"]]).partition(" of ")[2]
        or "no CPU"
        for node in ray.nodes()
        if node["Alive"]
    }
