"""Which of several settings is the best: Pareto front, objective, knee, and whether differences exceed the noise of training.

Pure numbers: knows nothing of what was trained. N settings; accuracy is better the higher, cost the lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alt_ray.errors import UsageError
from alt_ray.evaluation.metrics import mean_std

LEVEL = 0.05  # of the tests


def pareto_front(accuracy_N: Sequence[float], cost_N: Sequence[float]) -> list[int]:
    """Return the settings that no other beats in both, from the cheapest to the dearest; of equals the first."""
    best, front = -np.inf, []
    for i in sorted(range(len(cost_N)), key=lambda i: (cost_N[i], -accuracy_N[i], i)):
        if accuracy_N[i] > best:
            best = accuracy_N[i]
            front.append(i)
    return front


def knee(accuracy_N: Sequence[float], cost_N: Sequence[float]) -> int:
    """Return the setting of the front after which accuracy costs most: the one farthest above the line from the cheapest to the
    most accurate, both scaled to 0 to 1. A front of two or fewer has no knee: the most accurate.

    Source: Satopaa et al., "Finding a Kneedle in a Haystack" (2011), for a concave curve.
    """
    front = pareto_front(accuracy_N, cost_N)
    if len(front) < 3:
        return front[-1]
    first, last = front[0], front[-1]
    rise, run = accuracy_N[last] - accuracy_N[first], cost_N[last] - cost_N[first]
    above = [(accuracy_N[i] - accuracy_N[first]) / rise - (cost_N[i] - cost_N[first]) / run for i in front]
    return front[int(np.argmax(above))] if max(above) > 1e-9 else last


@dataclass(frozen=True)
class Objective:
    """What the best is. `limit` is the highest cost allowed, None for any."""

    kind: str
    limit: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Objective":
        """Read accuracy, knee or accuracy-at-cost:LIMIT. Raises UsageError for anything else."""
        kind, has_limit, number = text.partition(":")
        try:
            limit = float(number) if has_limit else None
        except ValueError:
            limit = float("nan")
        if (kind in ("accuracy", "knee") and limit is None) or (kind == "accuracy-at-cost" and limit and limit > 0):
            return cls(kind, limit)
        raise UsageError(
            f"--objective {text}: expected accuracy, knee, or accuracy-at-cost:LIMIT with a limit above 0 in GFLOPs per view, "
            "such as accuracy-at-cost:100"
        )

    def allowed(self, cost_N: Sequence[float]) -> list[int]:
        """The settings that cost no more than the limit."""
        return [i for i, cost in enumerate(cost_N) if self.limit is None or cost <= self.limit]

    def choose(self, accuracy_N: Sequence[float], cost_N: Sequence[float]) -> int:
        """Return the best setting; of equally accurate ones the cheapest. Raises UsageError if none is cheap enough."""
        among = self.allowed(cost_N)
        if not among:
            raise UsageError(
                f"--objective {self.kind}:{self.limit:g}: the cheapest setting costs {min(cost_N):g} GFLOPs per view; "
                "expected a higher limit, or a higher merge ratio among the sources"
            )
        accuracy, cost = [accuracy_N[i] for i in among], [cost_N[i] for i in among]
        return among[knee(accuracy, cost) if self.kind == "knee" else pareto_front(accuracy, cost)[-1]]

    def candidates(self, accuracy_N: Sequence[float], cost_N: Sequence[float], count: int) -> list[int]:
        """Return `count` settings worth a second look, the chosen one first, then the front, then the most accurate others."""
        among = self.allowed(cost_N)
        chosen = self.choose(accuracy_N, cost_N)
        front = pareto_front([accuracy_N[i] for i in among], [cost_N[i] for i in among])
        by_accuracy = sorted(among, key=lambda i: (-accuracy_N[i], cost_N[i]))
        return list(dict.fromkeys([chosen, *(among[i] for i in reversed(front)), *by_accuracy]))[:count]


@dataclass(frozen=True)
class Comparison:
    """One setting against the reference: the difference of means, and the chance of one as large if there were none.

    `p` is corrected for how many settings are compared (Holm); None where a setting has one run alone.
    """

    difference: float
    p: float | None

    @property
    def exceeds_noise(self) -> bool | None:
        return None if self.p is None else self.p < LEVEL


def compare(runs: Sequence[Sequence[float]], reference: int, resolution: float = 0.0) -> list[Comparison]:
    """Compare the runs (accuracies over seeds) of each setting with those of `runs[reference]`, by Welch's t-test.

    resolution: the step of one accuracy, 1 / number of clips. Its rounding, of variance step^2 / 12, is the least noise that is
    assumed: three equal values don't prove that a fourth would be the same.
    """
    raw = [None if i == reference else _welch_p(values, runs[reference], resolution) for i, values in enumerate(runs)]
    order = sorted((i for i, p in enumerate(raw) if p is not None), key=lambda i: raw[i] or 0.0)
    corrected: dict[int, float] = {}
    highest = 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * (raw[i] or 0.0)))
        corrected[i] = highest
    base = float(np.mean(runs[reference]))
    return [Comparison(float(np.mean(values)) - base, corrected.get(i)) for i, values in enumerate(runs)]


def _welch_p(a: Sequence[float], b: Sequence[float], resolution: float) -> float | None:
    """Two-sided p of Welch's t-test (1947), with the degrees of freedom of Satterthwaite; None for a single run."""
    if min(len(a), len(b)) < 2:
        return None
    from scipy.special import stdtr

    floor = resolution**2 / 12
    errors = [max((mean_std(values)[1] or 0.0) ** 2, floor) / len(values) for values in (a, b)]
    difference = abs(float(np.mean(a)) - float(np.mean(b)))
    if sum(errors) == 0:
        return 0.0 if difference else 1.0
    freedom = sum(errors) ** 2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, (a, b), strict=True))
    return float(2 * stdtr(freedom, -difference / np.sqrt(sum(errors))))
