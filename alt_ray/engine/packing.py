"""How many workers fit on the machines of a cluster. Pure arithmetic: asks nobody, and knows nothing of what workers do.

A worker stands on one machine. Two machines with 2 CPUs each hold three workers of 1.2 CPUs by their sum, but only two of them in
fact, and Ray waits for ever for the third. What a machine has is a mapping as Ray gives it: {"CPU": 8.0, "GPU": 1.0, ...}.
"""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Machine = Mapping[str, float]

# Ray counts resources in ten-thousandths; so do we, and floating point can't lose a worker.
UNITS = 10_000


def machines_of(nodes: Iterable[Mapping[str, Any]]) -> tuple[Machine, ...]:
    """What each machine that is alive has, of what `ray.nodes()` says."""
    return tuple(dict(node["Resources"]) for node in nodes if node["Alive"])


def total(machines: Sequence[Machine], resource: str) -> float:
    """What all of them have together."""
    return sum(machine.get(resource, 0) for machine in machines)


def slots(amount: float, each: float) -> int:
    """How many shares of `each` > 0 there are in an amount."""
    return units(amount) // max(1, units(each))


def units(amount: float) -> int:
    return round(amount * UNITS)


def gpu_slots(gpus: float, each: float) -> int:
    """How many workers of `each` > 0 GPUs a machine holds: Ray packs fractions within one GPU, and gives several whole."""
    return int(gpus) * slots(1, each) if each <= 1 else int(gpus) // math.ceil(each)


def largest_share(amounts: Sequence[float], count: int, limits: Sequence[int] | None = None) -> float:
    """Return the largest share that `count` workers can have each, machine i holding at most limits[i] of them; 0 if none fits.

    Rounded down to what Ray counts in. It is the method of highest averages: the count-th largest of all amount / k.
    """
    most = [count if limits is None else min(count, limits[i]) for i in range(len(amounts))]
    heap = [(-amounts[i], i, 1) for i in range(len(amounts)) if most[i] > 0 and amounts[i] > 0]
    heapq.heapify(heap)
    share = 0.0
    for _ in range(count):
        if not heap:
            return 0.0
        negative, i, k = heap[0]
        share = -negative
        if k < most[i]:
            heapq.heapreplace(heap, (-amounts[i] / (k + 1), i, k + 1))
        else:
            heapq.heappop(heap)
    return math.floor(share * UNITS + 1e-6) / UNITS


def described(machines: Sequence[Machine]) -> str:
    """ "2 machines of 2 CPUs, 1 of 8 CPUs and 1 GPU", leaving out those that have neither."""
    kinds = Counter((m.get("CPU", 0), m.get("GPU", 0)) for m in machines if m.get("CPU", 0) or m.get("GPU", 0))
    if not kinds:
        return "no machine with a CPU"
    texts = []
    for (cpus, gpus), number in sorted(kinds.items()):
        has = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        texts.append(f"{number} of {has}")
    first, _, rest = texts[0].partition(" of ")
    return ", ".join([f"{first} machine{'' if first == '1' else 's'} of {rest}", *texts[1:]])
