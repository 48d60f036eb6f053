import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alt_ray.errors import UsageError
from alt_ray.evaluation import metrics
from alt_ray.evaluation.metrics import Metrics, measure
from alt_ray.report.confusion import write_confusion

LABELS = ("run", "walk", "skip")
SCORES_NC = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.1, 0.8, 0.1]])
TARGET_N = np.array([0, 0, 1, 1])


def measured(num_labels: int, target: list[int], answer: list[int]) -> Metrics:
    """Metrics of clips that are answered with certainty."""
    return measure(np.eye(num_labels)[answer], np.array(target), [f"label {c}" for c in range(num_labels)])


def test_figures_of_four_clips_are_those_counted_by_hand() -> None:
    found = measure(SCORES_NC, TARGET_N, LABELS)
    assert found.top_1 == 0.75
    assert found.mean_class_accuracy == 0.75  # 1/2 of run, 2/2 of walk; skip has no clips
    assert found.untested == ("skip",)
    assert found.loss == pytest.approx(-np.log([0.7, 0.3, 0.5, 0.8]).mean())
    assert found.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert found.confusion.dtype == np.int64
    assert [(row.label, row.num_clips, row.top_1, row.most_confused_with) for row in found.per_class] == [
        ("run", 2, 0.5, "walk"),
        ("walk", 2, 1.0, None),
        ("skip", 0, None, None),
    ]
    # One clip in each of four bins: |1 - 0.7|, |0 - 0.6|, |1 - 0.5|, |1 - 0.8|, each a quarter.
    assert found.ece == pytest.approx((0.3 + 0.6 + 0.5 + 0.2) / 4)


def test_labels_of_few_clips_weigh_as_much_in_mean_class_accuracy() -> None:
    found = measured(2, [0, 0, 0, 1], [0, 0, 0, 0])
    assert (found.top_1, found.mean_class_accuracy) == (0.75, 0.5)


def test_calibration_errors_within_a_bin_cancel_out() -> None:
    scores = np.array([[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.75, 0.25]])
    assert measure(scores, np.array([0, 0, 0, 1]), ("a", "b")).ece == pytest.approx(0)
    assert measured(2, [0, 1], [0, 1]).ece == 0
    assert measured(2, [0, 1], [1, 0]).ece == 1


def test_calibration_is_as_by_the_definition() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((500, 4)) * 2
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = rng.integers(0, 4, 500)
    confidence, is_right = scores.max(1), scores.argmax(1) == target
    expected = 0.0
    for b in range(15):
        own = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if own.any():
            expected += own.mean() * abs(is_right[own].mean() - confidence[own].mean())
    assert measure(scores, target, list("abcd")).ece == pytest.approx(expected)


def test_top_5_is_said_from_six_labels_on() -> None:
    assert measured(5, [0, 1], [0, 1]).top_5 is None
    falling = np.arange(6, 0, -1) / 21
    found = measure(np.stack([falling] * 6), np.arange(6), list("abcdef"))
    assert found.top_5 == pytest.approx(5 / 6)
    assert found.top_1 == pytest.approx(1 / 6)


def test_equal_scores_are_worth_no_more_than_chance() -> None:
    found = measure(np.full((8, 8), 1 / 8), np.arange(8), list("abcdefgh"))
    assert (found.top_1, found.top_5) == (1 / 8, 5 / 8)
    assert found.confusion[:, 0].tolist() == [1] * 8


def test_a_sure_and_wrong_answer_has_a_finite_loss() -> None:
    assert measured(2, [0], [1]).loss == pytest.approx(-math.log(1e-12))


def test_the_summary_is_json_without_the_matrix() -> None:
    found = measure(SCORES_NC, TARGET_N, LABELS).summary()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert "confusion" not in found
    assert (found["top_5"], found["untested_labels"], found["num_clips"]) == (None, ["skip"], 4)


@pytest.mark.parametrize(
    ("scores", "target", "labels", "message"),
    [
        (np.zeros((0, 3)), [], LABELS, "no clips to measure"),
        (SCORES_NC[:, :1], TARGET_N, ("run",), "1 labels to choose from"),
        (SCORES_NC, TARGET_N[:3], LABELS, r"\(4, 3\) of targets \(3,\)"),
        (SCORES_NC, TARGET_N, ("run", "walk"), "2 labels"),
        (np.where(SCORES_NC == 0.7, np.nan, SCORES_NC), TARGET_N, LABELS, "1 of 4 clips have a score that is NaN"),
        (SCORES_NC * 20, TARGET_N, LABELS, "no probabilities"),
        (SCORES_NC - [0.3, 0, -0.3], TARGET_N, LABELS, "no probabilities"),
        (SCORES_NC, [0, 0, 1, 3], LABELS, "targets 0 to 3"),
        (SCORES_NC, [-1, 0, 1, 2], LABELS, "targets -1 to 2"),
        (SCORES_NC, [0.0, 0.5, 1.0, 2.0], LABELS, "expected indices"),
    ],
)
def test_what_can_not_be_measured_is_refused(scores: np.ndarray, target: list, labels: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure(scores, np.array(target), labels)


def test_views_of_a_clip_are_averaged_whatever_their_order_and_number() -> None:
    scores = np.array([[0.6, 0.4], [0.2, 0.8], [0.0, 1.0], [0.3, 0.7]], np.float16)
    found = metrics.average_views(scores, np.array([1, 0, 1, 1]), 2)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[0.2, 0.8], [0.3, 0.7]], atol=1e-3)


@pytest.mark.parametrize(
    ("index", "message"),
    [([0, 1, 3], "0 to 2"), ([0, -1, 1], "0 to 2"), ([0, 0, 2], "1 of 3 clips have no view"), ([0, 1], "expected")],
)
def test_views_that_fit_no_clip_are_refused(index: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metrics.average_views(np.full((3, 2), 0.5), np.array(index), 3)


def test_means_and_chance_are_those_counted_by_hand() -> None:
    assert metrics.harmonic_mean(0.8, 0.4) == pytest.approx(2 * 0.8 * 0.4 / 1.2)
    assert metrics.harmonic_mean(0.8, 0.0) == metrics.harmonic_mean(0.0, 0.0) == 0
    assert metrics.mean_std([0.5]) == (0.5, None)
    assert metrics.mean_std([1.0, 2.0, 3.0]) == pytest.approx((2.0, 1.0))  # the population's would be 0.816
    with pytest.raises(UsageError, match="no values"):
        metrics.mean_std([])
    assert metrics.chance(np.array([0, 1, 1, 1]), LABELS) == metrics.Chance(1 / 3, 3 / 4)
    with pytest.raises(UsageError, match="no clips"):
        metrics.chance(np.array([], np.int64), LABELS)


def test_tables_are_aligned_and_the_worst_label_comes_first() -> None:
    assert metrics.format_table(("run", "top-1"), [("seed-0", "0.5"), ("a", "0.25")]).split("\n") == [
        "run     top-1",
        "------  -----",
        "seed-0    0.5",
        "a        0.25",
    ]
    lines = metrics.per_class_table(measure(SCORES_NC, TARGET_N, LABELS)).split("\n")
    assert [line.split() for line in lines[2:]] == [
        ["run", "2", "0.500", "walk"],
        ["walk", "2", "1.000"],
        ["skip", "0", "-"],
    ]


def test_runs_end_with_their_mean_and_deviation() -> None:
    half, whole = measured(6, [0, 1], [0, 0]), measured(6, [0, 1], [0, 1])
    lines = metrics.runs_table([("seed-0", half), ("seed-1", whole)]).split("\n")
    assert lines[2].split()[:2] == ["seed-0", "0.500"]
    assert lines[-1].startswith("mean ± std  0.750 ± 0.354")
    assert len(metrics.runs_table([("seed-0", half)]).split("\n")) == 3
    mixed = metrics.runs_table([("a", half), ("b", measured(2, [0], [0]))]).split("\n")[-1].split("  ")
    assert "-" in [cell.strip() for cell in mixed]  # no mean of top-5 where one of the runs has none
    assert metrics.format_mean_std([0.7992, 0.8248]) == "0.812 ± 0.018"


@pytest.mark.parametrize("num_labels", [2, 10, 42, 400])
def test_a_confusion_matrix_becomes_a_picture(tmp_path: Path, num_labels: int) -> None:
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 3, (num_labels, num_labels))
    confusion[1] = 0
    had_pyplot = "matplotlib.pyplot" in sys.modules
    labels = [f"a $label$ of many words number {c}" for c in range(num_labels)]
    write_confusion(tmp_path / "confusion.png", confusion, labels)
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.format == "PNG"
        assert 500 < min(picture.size) <= max(picture.size) < 4000
        colours = {colour[:3] for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert (217, 217, 217) in colours  # the row without clips
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
