"""Pictures of all trials of a search: learning curves, parallel coordinates. Knows nothing of fronts or candidates."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from alt_ray.evaluation.outcome import Outcome
from alt_ray.report.tuning_base import GREY, accuracy_axis, colours_of, label_of, scored

_MOST_CURVES = 60  # more can't be told apart: the most accurate are drawn


def curves_figure(outcome: Outcome) -> Figure:
    """Validation accuracy and training loss by epoch, one line for each trial."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = colours_of(outcome)
    shown = sorted(scored(outcome), key=lambda record: -(record.val or 0.0))[:_MOST_CURVES]
    for record in shown:
        epochs = [entry["epoch"] for entry in record.history]
        style: dict[str, Any] = {
            "color": colours[record.settings.arm],
            "linestyle": "--" if record.status == "stopped" else "-",
            "linewidth": 1.3,
            "alpha": 0.8,
        }
        left.plot(epochs, [entry.get("val_top_1", math.nan) for entry in record.history], **style)
        right.plot(epochs, [entry.get("loss", math.nan) for entry in record.history], **style)
        if record.status == "stopped":
            left.plot(epochs[-1:], [record.history[-1].get("val_top_1")], "x", color=style["color"], markersize=7)
    for arm, colour in colours.items():
        left.plot([], [], color=colour, label=label_of(outcome, arm))
    if any(record.status == "stopped" for record in shown):
        left.plot([], [], "x--", color=GREY, label="stopped early")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
    accuracy_axis(left, "validation accuracy (top-1)")
    right.set_ylabel("training loss (nats)")
    more = len(scored(outcome)) - len(shown)
    figure.suptitle("Learning curves" + (f" of the best {len(shown)} trials" if more else ""), x=0.01, ha="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


@dataclass(frozen=True)
class Axis:
    """One axis of the parallel coordinates: values by trial; `names` where they are places of words."""

    title: str
    values: list[float]
    is_log: bool = False
    names: tuple[str, ...] = ()

    def scaled(self) -> np.ndarray:
        values = np.array(self.values)
        values = np.log10(values) if self.is_log else values
        low, high = float(values.min()), float(values.max())
        return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)

    def ticks(self) -> list[tuple[float, str]]:
        """Places from 0 to 1 and what stands there."""
        if self.names:
            count = max(len(self.names) - 1, 1)
            return [(i / count if len(self.names) > 1 else 0.5, name) for i, name in enumerate(self.names)]
        values = sorted(set(self.values))
        if len(values) > 8:
            low, high = values[0], values[-1]
            space = np.geomspace(low, high, 5) if self.is_log else np.linspace(low, high, 5)
            return [(i / 4, f"{value:.3g}") for i, value in enumerate(space)]
        if len(values) == 1:
            return [(0.5, f"{values[0]:.3g}")]
        ends = [math.log10(v) if self.is_log else v for v in values]
        return [((end - ends[0]) / (ends[-1] - ends[0]), f"{v:.3g}") for end, v in zip(ends, values, strict=True)]


def axes_of(outcome: Outcome) -> list[Axis]:
    """The axes: settings that take several values, cost, and the accuracy last."""
    records = scored(outcome)
    found = [Axis("share merged", [record.merge_ratio for record in records])]
    for name in outcome.varied():
        values = [asdict(record.settings)[name] for record in records]
        if isinstance(values[0], str):
            names = tuple(sorted(set(values)))
            found.append(Axis(name.replace("_", " "), [float(names.index(value)) for value in values], names=names))
        else:
            found.append(Axis(name, [float(value) for value in values], is_log=name in ("temperature", "lr")))
    found.append(Axis("GFLOPs per view", [record.gflops for record in records]))
    found.append(Axis("epochs trained", [float(record.epochs) for record in records]))
    found.append(Axis("validation top-1", [record.val or 0.0 for record in records]))
    return [axis for axis in found if len(set(axis.values)) > 1 or axis.title == "validation top-1"]


def parallel_figure(outcome: Outcome) -> Figure:
    """One line for each trial over all that was searched, coloured by its accuracy; the best is drawn last."""
    records, coordinates = scored(outcome), axes_of(outcome)
    figure = Figure(figsize=(2.2 * len(coordinates) + 1.5, 5.2), layout="constrained")
    axes = figure.add_subplot()
    accuracy = np.array([record.val for record in records], float)
    norm = Normalize(float(accuracy.min()), float(accuracy.max()) or 1.0)
    colours = colormaps["plasma"]
    scaled = np.stack([axis.scaled() for axis in coordinates])
    for i in np.argsort(accuracy, kind="stable"):
        axes.plot(
            range(len(coordinates)), scaled[:, i], color=colours(0.9 * norm(accuracy[i])), linewidth=1.6, alpha=0.85
        )
    for place, axis in enumerate(coordinates):
        axes.axvline(place, color="black", linewidth=0.8)
        for height, text in axis.ticks():
            axes.annotate(
                text,
                (place, height),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )
    axes.set_xticks(range(len(coordinates)), [axis.title for axis in coordinates])
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(coordinates) - 0.55)
    axes.set_ylim(-0.04, 1.04)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title("All trials, coloured by validation accuracy", loc="left")
    scale = ScalarMappable(Normalize(norm.vmin, norm.vmax), colormaps["plasma"].resampled(256))
    figure.colorbar(scale, ax=axes, label="validation accuracy (top-1)", fraction=0.03)
    return figure
