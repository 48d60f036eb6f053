"""Which setting is the best: fronts, knees, objectives, and differences that are no luck."""

import numpy as np
import pytest

from alt_ray.errors import UsageError
from alt_ray.evaluation.outcome import outcome_of
from alt_ray.evaluation.outcome_text import findings
from alt_ray.evaluation.selection import Objective, compare, knee, pareto_front
from alt_ray.evaluation.trials import TrialRecord, TrialSettings


def test_the_front_is_what_no_other_setting_beats_in_both() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        accuracy, cost = rng.integers(0, 6, 12).tolist(), rng.integers(0, 6, 12).tolist()
        front = pareto_front(accuracy, cost)
        assert [cost[i] for i in front] == sorted({cost[i] for i in front})
        for i in range(12):
            is_beaten = any(
                (accuracy[j] >= accuracy[i] and cost[j] < cost[i]) or (accuracy[j] > accuracy[i] and cost[j] <= cost[i])
                for j in range(12)
            )
            is_there = any((accuracy[i], cost[i]) == (accuracy[j], cost[j]) for j in front)
            assert is_there != is_beaten


def test_the_knee_is_where_accuracy_begins_to_cost_more() -> None:
    assert knee([0.2, 0.7, 0.75, 0.8], [1, 2, 6, 10]) == 1
    assert knee([0.2, 0.4, 0.6], [1, 2, 3]) == 2  # a straight line has none: the most accurate
    assert knee([0.2, 0.21, 0.8], [1, 5, 6]) == 2  # nor has one that rises late
    assert knee([0.5, 0.9], [1, 9]) == 1
    assert knee([0.9, 0.5], [1, 9]) == 0


def test_an_objective_chooses_by_what_it_says() -> None:
    accuracy, cost = [0.5, 0.8, 0.8, 0.9], [1.0, 3.0, 2.0, 8.0]
    assert Objective.parse("accuracy").choose(accuracy, cost) == 3
    assert Objective.parse("accuracy-at-cost:5").choose(accuracy, cost) == 2  # of equals the cheapest
    assert Objective.parse("accuracy-at-cost:1.5").choose(accuracy, cost) == 0
    assert Objective.parse("knee").choose(accuracy, cost) == 2
    with pytest.raises(UsageError, match="cheapest setting costs 1"):
        Objective.parse("accuracy-at-cost:0.5").choose(accuracy, cost)
    for text in ("best", "accuracy:3", "knee:1", "accuracy-at-cost", "accuracy-at-cost:x", "accuracy-at-cost:-1"):
        with pytest.raises(UsageError, match="accuracy-at-cost:LIMIT"):
            Objective.parse(text)


def test_candidates_begin_with_the_chosen_one_and_keep_to_the_limit() -> None:
    accuracy, cost = [0.5, 0.8, 0.79, 0.9, 0.6], [1.0, 3.0, 3.5, 8.0, 2.0]
    assert Objective.parse("accuracy").candidates(accuracy, cost, 3) == [3, 1, 4]
    limited = Objective.parse("accuracy-at-cost:4").candidates(accuracy, cost, 9)
    assert limited[0] == 1
    assert sorted(limited) == [0, 1, 2, 4]


def test_one_comparison_is_welchs_test() -> None:
    from scipy.stats import ttest_ind

    a, b = [0.71, 0.74, 0.69], [0.80, 0.78, 0.84, 0.79]
    found = compare([a, b], reference=1)
    assert found[0].p == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)
    assert found[0].difference == pytest.approx(np.mean(a) - np.mean(b))
    assert found[0].exceeds_noise
    assert found[1].p is None


def test_with_many_settings_luck_alone_rarely_exceeds_the_noise() -> None:
    rng = np.random.default_rng(0)
    families = [compare(rng.normal(0.8, 0.02, (7, 3)).tolist(), reference=0) for _ in range(500)]
    share = np.mean([any(comparison.exceeds_noise for comparison in family) for family in families])
    assert share < 0.08


def test_equal_values_are_no_proof_of_no_noise() -> None:
    runs = [[0.50, 0.50, 0.50], [0.52, 0.52, 0.52], [0.9, 0.9, 0.9]]
    one_clip = compare(runs, reference=1, resolution=1 / 50)
    assert one_clip[0].p > 0
    assert compare(runs, reference=1)[0].p == 0
    assert compare([[0.5] * 3, [0.5] * 3], reference=0)[1].p == 1.0
    assert one_clip[2].exceeds_noise
    assert compare([[0.5], [0.9]], reference=1)[0].exceeds_noise is None


def record(arm: str, seed: int, status: str = "finished", val: float = 0.5, test: float = 0.5) -> TrialRecord:
    tests = {"test": test} if status == "finished" else {}
    cost = {"a": 4.0, "b": 2.0}[arm]
    settings = TrialSettings(arm, 0.01, 4, 1e-3, "all", seed)
    return TrialRecord(settings, status, 0.0, 0.0, cost, epochs=3, val=val, tests=tests)  # type: ignore[arg-type]


def test_the_best_is_chosen_by_the_mean_over_seeds_of_validation_and_never_by_the_test() -> None:
    search = [
        record("a", 0, val=0.9),
        record("b", 0, val=0.8),
        record("a", 0, "stopped", 0.95),
        record("b", 0, "failed"),
    ]
    finals = [
        *(record("a", seed, val=val, test=0.9) for seed, val in ((1, 0.70), (2, 0.72), (3, 0.71))),
        *(record("b", seed, val=val, test=0.4) for seed, val in ((1, 0.74), (2, 0.79), (3, 0.76))),
    ]
    outcome = outcome_of(search, finals, Objective("accuracy"), {}, protocol="", num_val=40, num_test=50)
    assert outcome.best == finals[4]
    assert [entry.settings.arm for entry in outcome.front] == ["b", "a"]
    assert all(entry.status == "finished" for entry in outcome.front)
    assert outcome.counts() == {"finished": 2, "stopped": 1, "failed": 1}
    said = " ".join(findings(outcome))
    assert "most accurate by test accuracy over 3 seeds: merged 0.000" in said
    assert "behind it by more than the noise" in said
    assert (
        outcome_of(search, [], Objective("accuracy-at-cost", 3.0), {}, protocol="", num_val=4, num_test=5).best
        == search[1]
    )
    assert (
        outcome_of(search, [], Objective("accuracy-at-cost", 1.0), {}, protocol="", num_val=4, num_test=5).best is None
    )
