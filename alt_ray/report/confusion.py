"""A confusion matrix as a picture. Knows nothing of how it was measured.

Few labels are named and their cells hold numbers; more are only named; hundreds are a picture with the worst confusions
beside it. C labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

MOST_WITH_NUMBERS, MOST_WITH_NAMES = 20, 120
_LONGEST_NAME = 26  # characters: more would leave no room for the matrix
_NUM_LISTED = 45
_NO_CLIPS = "#d9d9d9"
_DPI = 150


def write_confusion(path: str | Path, confusion_CC: np.ndarray, labels: Sequence[str]) -> None:
    """Write a PNG of a confusion matrix, where row i, column k counts the clips of label i that were answered with label k.

    Colours show the share of the row, on a scale that lifts small shares; rows without clips are grey. The file appears
    whole or not at all. Draws without pyplot, so it shares no state with anybody else's figures.
    """
    confusion_CC = np.asarray(confusion_CC)
    clips_C1 = confusion_CC.sum(1, keepdims=True)
    share_CC = np.divide(confusion_CC, clips_C1, out=np.full(confusion_CC.shape, np.nan), where=clips_C1 > 0)
    C = len(labels)

    # All in inches: the matrix, and what stands on each side of it.
    side = 10.0 if C > MOST_WITH_NAMES else max(4.5, C * (0.42 if C <= MOST_WITH_NUMBERS else 0.15))
    names = 0.75 if C > MOST_WITH_NAMES else 0.55 + 0.065 * min(max(map(len, labels)), _LONGEST_NAME)
    right, above = 1.1 if C <= MOST_WITH_NAMES else 5.7, 0.45
    width, height = names + side + right, names + side + above
    figure = Figure(figsize=(width, height), dpi=_DPI)

    axes = figure.add_axes((names / width, names / height, side / width, side / height))
    colours = colormaps["magma_r"].with_extremes(bad=_NO_CLIPS, under="white")
    # With hundreds of labels one cell has few pixels: a square root lets a share of 1 % be seen.
    norm = PowerNorm(0.5, 0, 1)
    shown_CC = np.ma.masked_invalid(np.where(share_CC == 0, -1, share_CC))  # no clip at all is white
    image = axes.imshow(shown_CC, cmap=colours, norm=norm, interpolation="nearest")
    bar = figure.add_axes(((names + side + 0.15) / width, names / height, 0.16 / width, side / height))
    figure.colorbar(image, cax=bar, ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1], format="%g")
    bar.set_title("share\nof row", fontsize=7)
    bar.tick_params(labelsize=7)

    num_clips, num_right = int(confusion_CC.sum()), int(np.trace(confusion_CC))
    axes.set_title(f"{C} labels: {num_right} of {num_clips} clips right", loc="left", fontsize=10)
    axes.set_ylabel("truth")
    axes.set_xlabel("answer")
    if C <= MOST_WITH_NAMES:
        _name(axes, labels)
    else:
        axes.set_ylabel("truth (labels in their order)")
        listed = (names + side + 0.9) / width, (names + side) / height
        lines = [
            "Worst confusions: truth, answer, share of the truth's clips",
            "",
            *_worst(confusion_CC, share_CC, labels),
        ]
        figure.text(*listed, "\n".join(lines), va="top", fontsize=9, linespacing=1.45, parse_math=False)
    if C <= MOST_WITH_NUMBERS:
        _number(axes, confusion_CC, share_CC)

    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png")
    part.replace(path)


def _name(axes: Axes, labels: Sequence[str]) -> None:
    size = 8 if len(labels) <= MOST_WITH_NUMBERS else 7
    short = [_cut(name) for name in labels]
    # A label may hold a dollar sign, which is no formula.
    axes.set_yticks(range(len(labels)), short, fontsize=size, parse_math=False)
    axes.set_xticks(range(len(labels)), short, fontsize=size, rotation=90, parse_math=False)


def _number(axes: Axes, confusion_CC: np.ndarray, share_CC: np.ndarray) -> None:
    for i, k in zip(*np.nonzero(confusion_CC), strict=True):
        colour = "white" if share_CC[i, k] > 0.12 else "black"
        axes.text(k, i, str(confusion_CC[i, k]), ha="center", va="center", fontsize=8, color=colour)


def _worst(confusion_CC: np.ndarray, share_CC: np.ndarray, labels: Sequence[str]) -> list[str]:
    """Return the pairs whose confusion is the largest share of a label's clips, those of more clips first where equal."""
    truth, answer = np.nonzero(confusion_CC * ~np.eye(len(labels), dtype=bool))
    order = np.lexsort((-confusion_CC[truth, answer], -share_CC[truth, answer]))[:_NUM_LISTED]
    return [
        f"{share_CC[i, k]:.2f}   {_cut(labels[i])}  →  {_cut(labels[k])}"
        for i, k in zip(truth[order], answer[order], strict=True)
    ]


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
