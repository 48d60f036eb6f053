"""From the probabilities that a model gave to clips to figures, and tables of these. Knows nothing of models or protocols.

R rows (views of clips), N clips, C labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from alt_ray.errors import UsageError

NUM_BINS = 15  # of the calibration error, as most papers have it
_LEAST_PROBABILITY = 1e-12  # a sure and wrong answer would else make the mean loss infinite, which JSON can't hold
_SUM_TOLERANCE = 0.01  # what float16 may lose over hundreds of labels


@dataclass(frozen=True)
class ClassResult:
    """How the clips of one label were answered. `top_1` is None without clips, `most_confused_with` without an error."""

    label: str
    num_clips: int
    top_1: float | None
    most_confused_with: str | None


@dataclass(frozen=True, eq=False)
class Metrics:
    """What `measure` found in N clips and C labels; shares from 0 to 1.

    top_5: None with 5 labels or fewer, where it would always be 1.
    mean_class_accuracy: the mean of top-1 over the labels that have clips; the others are `untested`.
    ece: expected calibration error of the top-1 probability.
    loss: mean negative log-likelihood, in nats.
    confusion: [C, C] int64; row i, column k counts the clips of label i that were answered with label k.
    """

    top_1: float
    top_5: float | None
    mean_class_accuracy: float
    ece: float
    loss: float
    num_clips: int
    num_labels: int
    per_class: tuple[ClassResult, ...]
    confusion: np.ndarray

    @property
    def untested(self) -> tuple[str, ...]:
        """The labels that no clip has: they compete, but can't be right."""
        return tuple(row.label for row in self.per_class if not row.num_clips)

    def summary(self) -> dict[str, object]:
        """Return everything but the confusion matrix, as plain values for JSON."""
        names = ("top_1", "top_5", "mean_class_accuracy", "ece", "loss", "num_clips", "num_labels")
        return {
            **{name: getattr(self, name) for name in names},
            "untested_labels": list(self.untested),
            "per_class": [asdict(row) for row in self.per_class],
        }


def average_views(scores_RC: np.ndarray, clip_index_R: np.ndarray, num_clips: int) -> np.ndarray:
    """Return the mean probabilities [N, C] (float64) of the views of each clip; row r is a view of clip `clip_index_R[r]`.

    Raises UsageError for an index out of range, and for a clip without views.
    """
    scores_RC, clip_index_R = np.asarray(scores_RC, np.float64), np.asarray(clip_index_R, np.int64)
    if scores_RC.ndim != 2 or clip_index_R.shape != scores_RC.shape[:1]:
        raise UsageError(f"scores {scores_RC.shape} of {clip_index_R.shape} views: expected [R, C] and [R]")
    if ((clip_index_R < 0) | (clip_index_R >= num_clips)).any():
        raise UsageError(f"a view of clip {clip_index_R.min()} or {clip_index_R.max()}: expected 0 to {num_clips - 1}")
    num_views_N = np.bincount(clip_index_R, minlength=num_clips)
    if (num_views_N == 0).any():
        without = np.flatnonzero(num_views_N == 0)
        raise UsageError(f"{len(without)} of {num_clips} clips have no view, the first is clip {without[0]}")
    sums_NC = np.zeros((num_clips, scores_RC.shape[1]))
    np.add.at(sums_NC, clip_index_R, scores_RC)
    return sums_NC / num_views_N[:, None]


def measure(scores_NC: np.ndarray, target_N: np.ndarray, labels: Sequence[str]) -> Metrics:
    """Return how well probabilities (rows that sum to 1) find the labels with the indices `target_N`.

    Of equal scores the label that comes first wins. Raises UsageError for no clips, fewer than 2 labels, shapes that don't
    fit, scores that are no probabilities (NaN, negative, logits), and targets that are no label.
    Source of the calibration error: Guo et al., "On Calibration of Modern Neural Networks" (2017), 15 bins of equal width.
    """
    scores_NC, target_N = _checked(scores_NC, target_N, len(labels))
    N, C = scores_NC.shape
    clips = np.arange(N)
    own_N1 = scores_NC[clips, target_N][:, None]
    is_before_NC = (scores_NC > own_N1) | ((scores_NC == own_N1) & (np.arange(C) < target_N[:, None]))
    rank_N = is_before_NC.sum(1)
    answer_N = scores_NC.argmax(1)

    confusion = np.zeros((C, C), np.int64)
    np.add.at(confusion, (target_N, answer_N), 1)
    per_class = tuple(_class_result(confusion, c, labels) for c in range(C))
    return Metrics(
        top_1=float((rank_N == 0).mean()),
        top_5=float((rank_N < 5).mean()) if C > 5 else None,
        mean_class_accuracy=float(np.mean([row.top_1 for row in per_class if row.top_1 is not None])),
        ece=_calibration_error(scores_NC.max(1), rank_N == 0),
        loss=float(-np.log(own_N1.clip(_LEAST_PROBABILITY)).mean()),
        num_clips=N,
        num_labels=C,
        per_class=per_class,
        confusion=confusion,
    )


def _checked(scores_NC: np.ndarray, target_N: np.ndarray, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    scores_NC, target_N = np.asarray(scores_NC, np.float64), np.asarray(target_N)
    if num_labels < 2:
        raise UsageError(f"{num_labels} labels to choose from: expected at least 2, or every answer is right")
    if not len(scores_NC):
        raise UsageError("no clips to measure: expected at least 1 clip with a label")
    if scores_NC.shape != (len(target_N), num_labels) or target_N.ndim != 1:
        raise UsageError(
            f"scores {scores_NC.shape} of targets {target_N.shape} and {num_labels} labels: expected [N, C], [N] and C"
        )
    if np.isnan(scores_NC).any():
        raise UsageError(f"{np.isnan(scores_NC).any(1).sum()} of {len(scores_NC)} clips have a score that is NaN")
    if (scores_NC < 0).any() or (np.abs(scores_NC.sum(1) - 1) > _SUM_TOLERANCE).any():
        raise UsageError("the scores are no probabilities: expected 0 or more, and a sum of 1 for each clip (softmax)")
    if not np.issubdtype(target_N.dtype, np.integer) or ((target_N < 0) | (target_N >= num_labels)).any():
        raise UsageError(
            f"targets {target_N.min()} to {target_N.max()}: expected indices of {num_labels} labels, from 0"
        )
    return scores_NC, target_N.astype(np.int64)


def _class_result(confusion: np.ndarray, c: int, labels: Sequence[str]) -> ClassResult:
    num_clips, wrong_C = int(confusion[c].sum()), confusion[c].copy()
    wrong_C[c] = 0
    return ClassResult(
        label=labels[c],
        num_clips=num_clips,
        top_1=float(confusion[c, c] / num_clips) if num_clips else None,
        most_confused_with=labels[int(wrong_C.argmax())] if wrong_C.any() else None,
    )


def _calibration_error(confidence_N: np.ndarray, is_right_N: np.ndarray) -> float:
    # Bins are open below, (0, 1/15] and so on: a probability of exactly 1 belongs to the last.
    bin_N = np.clip(np.ceil(confidence_N * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    gaps = np.bincount(bin_N, weights=is_right_N - confidence_N, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(bin_N))


def harmonic_mean(base: float, novel: float) -> float:
    """Return the harmonic mean of the accuracies on base and novel labels; 0 if one of them is 0."""
    return 2 * base * novel / (base + novel) if base > 0 and novel > 0 else 0.0


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (ddof=1); no deviation (None) of a single value.

    Raises UsageError without values.
    """
    if not len(values):
        raise UsageError("no values to average: expected the figure of at least one run")
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass(frozen=True)
class Chance:
    """Top-1 without looking: `uniform` guesses among all labels, `majority` always says the most frequent label."""

    uniform: float
    majority: float


def chance(target_N: np.ndarray, labels: Sequence[str]) -> Chance:
    """Return what an answer is worth that ignores the clips. Raises UsageError without clips."""
    if not len(target_N):
        raise UsageError("no clips: expected at least 1 clip with a label")
    return Chance(1 / len(labels), float(np.bincount(target_N, minlength=len(labels)).max() / len(target_N)))


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as lines for people: the first column to the left, the others (figures) to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def format_mean_std(values: Sequence[float]) -> str:
    """Return "0.812 ± 0.013"; the value alone if there is one."""
    mean, std = mean_std(values)
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def per_class_table(metrics: Metrics) -> str:
    """Return one line for each label, the worst first; at the end those without clips."""
    rows = sorted(metrics.per_class, key=lambda row: (row.top_1 is None, row.top_1, row.label))
    return format_table(
        ("label", "clips", "top-1", "most confused with"),
        [(row.label, str(row.num_clips), _figure(row.top_1), row.most_confused_with or "") for row in rows],
    )


def runs_table(runs: Sequence[tuple[str, Metrics]]) -> str:
    """Return one line for each named run, and with two or more a last one "mean ± std" (sample deviation)."""
    names = ("top_1", "top_5", "mean_class_accuracy", "ece", "loss")
    rows = [
        (name, *(_figure(getattr(metrics, field)) for field in names), str(metrics.num_clips), str(metrics.num_labels))
        for name, metrics in runs
    ]
    if len(runs) > 1:
        columns = [[value for _, run in runs if (value := getattr(run, field)) is not None] for field in names]
        # A mean over some of the runs only would be no figure of the whole.
        means = [format_mean_std(values) if len(values) == len(runs) else "-" for values in columns]
        rows.append(("mean ± std", *means, "", ""))
    return format_table(("run", "top-1", "top-5", "mean class", "ece", "loss", "clips", "labels"), rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
