"""What a search found, as pictures: accuracy against temperature and against cost, parallel coordinates, learning curves.

Drawn without pyplot, so that nothing is shared with anybody else's figures. Knows nothing of how trials ran.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alt_ray.evaluation.outcome import Candidate, Outcome
from alt_ray.evaluation.selection import pareto_front
from alt_ray.report.tuning_base import GREY, accuracy_axis, colours_of, label_of, scored
from alt_ray.report.tuning_trials import axes_of, curves_figure, parallel_figure

PLOTS = "plots"
_DPI = 150
_FRONT = "#c0392b"


def write_pictures(folder: Path, outcome: Outcome) -> list[Path]:
    """Write the PNGs that the outcome has figures for into `folder`/plots, and return them."""
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, Callable[[Outcome], Figure]]] = [
        ("accuracy-cost", cost_figure),
        ("learning-curves", curves_figure),
    ]
    if len({record.settings.temperature for record in outcome.all_records}) > 1:
        drawn.insert(0, ("accuracy-temperature", temperature_figure))
    if len(axes_of(outcome)) > 3 and len(scored(outcome)) > 1:
        drawn.append(("parallel-coordinates", parallel_figure))
    files = []
    for name, figure in drawn:
        file = folder / PLOTS / f"{name}.png"
        part = file.with_name(f".{file.name}")
        figure(outcome).savefig(part, format="png", dpi=_DPI)
        part.replace(file)
        files.append(file)
    return files


def temperature_figure(outcome: Outcome) -> Figure:
    """Validation accuracy of every trial against its temperature, by merging; candidates with their deviation over seeds."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.add_subplot()
    colours = colours_of(outcome)
    for arm, colour in colours.items():
        own = [record for record in outcome.search if record.settings.arm == arm and record.val is not None]
        for status, face in (("finished", colour), ("stopped", "none")):
            some = [record for record in own if record.status == status]
            axes.scatter(
                [record.settings.temperature for record in some],
                [record.val or 0.0 for record in some],
                s=46,
                facecolors=face,
                edgecolors=colour,
                linewidths=1.5,
                zorder=3,
            )
        axes.scatter([], [], s=46, color=colour, label=label_of(outcome, arm))
    if any(record.status == "stopped" for record in outcome.search):
        axes.scatter([], [], s=46, facecolors="none", edgecolors=GREY, label="stopped early")
    _candidates(axes, outcome, lambda candidate: candidate.settings.temperature, colours)
    axes.set_xscale("log")
    axes.set_xlabel("alignment temperature (logarithmic)")
    accuracy_axis(axes, "validation accuracy (top-1)")
    axes.set_title("Accuracy against alignment temperature", loc="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _candidates(axes: Axes, outcome: Outcome, x: Callable[[Candidate], float], colours: dict[str, str]) -> None:
    if not outcome.candidates:
        return
    seeds = len(outcome.candidates[0].runs)
    for candidate in outcome.candidates:
        deviation = float(np.std(candidate.vals, ddof=1)) if len(candidate.vals) > 1 else 0.0
        axes.errorbar(
            [x(candidate)],
            [candidate.val],
            yerr=[deviation],
            fmt="D",
            markersize=8,
            color=colours[candidate.settings.arm],
            markeredgecolor="black",
            ecolor="black",
            capsize=4,
            zorder=4,
        )
    axes.errorbar(
        [],
        [],
        yerr=[],
        fmt="D",
        markersize=8,
        color="white",
        markeredgecolor="black",
        ecolor="black",
        capsize=4,
        label=f"mean ± std of {seeds} seeds",
    )


@dataclass(frozen=True)
class Point:
    """One setting in the picture of costs: accuracy and deviation (0 of a single run); `kind` is final, finished or stopped."""

    arm: str
    merge_ratio: float
    gflops: float
    accuracy: float
    deviation: float
    kind: str


def points_of(outcome: Outcome, test: str | None) -> list[Point]:
    """Settings by cost: candidates over seeds, and in a search its trials; of a test, or of validation (None)."""
    found = []
    for candidate in outcome.candidates:
        values = candidate.test(test) if test else candidate.vals
        if values:
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
            run = candidate.runs[0]
            found.append(
                Point(run.settings.arm, run.merge_ratio, run.gflops, float(np.mean(values)), deviation, "final")
            )
    for record in outcome.search:
        value = record.tests.get(test) if test else record.val
        if value is not None:
            found.append(Point(record.settings.arm, record.merge_ratio, record.gflops, value, 0.0, record.status))
    return found


def cost_figure(outcome: Outcome) -> Figure:
    """Accuracy against GFLOPs per view, and against the measured speed of the encoder; the front is a line."""
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colours = colours_of(outcome)
    test = outcome.tests[0] if outcome.sweep and outcome.tests else None
    points = points_of(outcome, test)
    for axes, x in ((left, lambda point: point.gflops), (right, lambda point: outcome.speeds.get(point.arm, math.nan))):
        for point in points:
            axes.errorbar(
                [x(point)],
                [point.accuracy],
                yerr=[point.deviation] if point.deviation else None,
                fmt="D" if point.kind == "final" else "o",
                markersize=8 if point.kind == "final" else 6,
                color=colours[point.arm],
                markerfacecolor="none" if point.kind == "stopped" else colours[point.arm],
                markeredgecolor="black" if point.kind == "final" else colours[point.arm],
                ecolor="black",
                capsize=4,
                zorder=4 if point.kind == "final" else 3,
            )
        axes.grid(alpha=0.25)
    if any(point.kind == "stopped" for point in points):
        left.scatter([], [], facecolors="none", edgecolors=GREY, label="stopped early")
    front = front_of(points, "final" if outcome.sweep else "finished")
    left.plot(
        [point.gflops for point in front],
        [point.accuracy for point in front],
        drawstyle="steps-post",
        color=_FRONT,
        linewidth=1.5,
        marker="o",
        markersize=14,
        markerfacecolor="none",
        zorder=2,
        label="front: nothing is cheaper and better",
    )
    for arm, colour in colours.items():
        left.scatter([], [], color=colour, label=label_of(outcome, arm))
    if outcome.candidates:
        left.errorbar(
            [],
            [],
            yerr=[],
            fmt="D",
            color="white",
            markeredgecolor="black",
            ecolor="black",
            capsize=4,
            label=f"mean ± std of {len(outcome.candidates[0].runs)} seeds",
        )
    left.set_xlabel("GFLOPs per view (encoder, alignment and adapter)")
    right.set_xlabel("measured speed of one encoder, videos/s")
    accuracy_axis(left, f"{test or 'validation'} accuracy (top-1)")
    figure.suptitle("Accuracy against cost", x=0.01, ha="left")
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def front_of(points: Sequence[Point], kind: str) -> list[Point]:
    """The front among the points of one kind, from the cheapest to the dearest."""
    among = [point for point in points if point.kind == kind]
    return [among[i] for i in pareto_front([p.accuracy for p in among], [p.gflops for p in among])]
