"""What the pictures of a search share: which trials, which colours, what things are called. Draws nothing."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from alt_ray.evaluation.outcome import Outcome
from alt_ray.evaluation.trials import TrialRecord

GREY = "#777777"


def scored(outcome: Outcome) -> list[TrialRecord]:
    """The trials that have a validation accuracy."""
    return [record for record in outcome.all_records if record.val is not None]


def colours_of(outcome: Outcome) -> dict[str, str]:
    """A colour for each merging, from dark (none merged) to light; arms are in the order of their merge ratio."""
    arms = {record.settings.arm: record.merge_ratio for record in outcome.all_records}
    names = sorted(arms, key=lambda name: arms[name])
    places = np.linspace(0.0, 0.9, len(names)) if len(names) > 1 else [0.3]
    return {name: to_hex(colormaps["viridis"](place)) for name, place in zip(names, places, strict=True)}


def label_of(outcome: Outcome, arm: str) -> str:
    record = next(record for record in outcome.all_records if record.settings.arm == arm)
    return f"{100 * record.merge_ratio:.3g} % merged (r {record.merge_r:.3g})"


def accuracy_axis(axes: Axes, title: str) -> None:
    axes.set_ylabel(title)
    axes.grid(alpha=0.25)
