"""What a search found, as tables and sentences for people. Knows nothing of how it was found."""

from collections.abc import Sequence
from dataclasses import asdict

from alt_ray.evaluation.metrics import format_mean_std, format_table
from alt_ray.evaluation.outcome import Candidate, Outcome
from alt_ray.evaluation.selection import LEVEL, Comparison
from alt_ray.evaluation.trials import TrialRecord


def front_table(outcome: Outcome) -> str:
    """The front of the search, one run each."""
    header = ["merged", "r", *_heads(outcome.varied()), "validation", *outcome.tests, "GFLOPs/view", "encoder videos/s"]
    rows = [
        [
            *_settings_cells(outcome, record),
            _share(record.val),
            *(_share(record.tests.get(name)) for name in outcome.tests),
            f"{record.gflops:.4g}",
            _speed(outcome.speeds.get(record.settings.arm)),
        ]
        for record in outcome.front
    ]
    return format_table(header, rows)


def candidate_table(outcome: Outcome) -> str:
    """The candidates over seeds, from the cheapest to the dearest."""
    header = [
        "merged",
        "r",
        *_heads(outcome.varied()),
        "validation",
        *outcome.tests,
        "GFLOPs/view",
        "encoder videos/s",
        "behind the best",
    ]
    rows = []
    for candidate in sorted(outcome.candidates, key=lambda c: (c.gflops, c.settings.temperature)):
        rows.append(
            [
                *_settings_cells(outcome, candidate.runs[0]),
                format_mean_std(candidate.vals),
                *(format_mean_std(candidate.test(name)) if candidate.test(name) else "-" for name in outcome.tests),
                f"{candidate.gflops:.4g}",
                _speed(outcome.speeds.get(candidate.settings.arm)),
                _verdict(candidate.compared),
            ]
        )
    return format_table(header, rows)


def _settings_cells(outcome: Outcome, record: TrialRecord) -> list[str]:
    values = asdict(record.settings)
    cells = [f"{record.merge_ratio:.3f}", f"{record.merge_r:.3g}"]
    return cells + [f"{v:.3g}" if isinstance(v := values[name], float) else str(v) for name in outcome.varied()]


def findings(outcome: Outcome) -> list[str]:
    """What may be said, in sentences."""
    said = []
    if outcome.num_test:
        errors = [0.5 / number**0.5 for number in (outcome.num_val, outcome.num_test)]
        said.append(
            f"{outcome.num_val} validation clips choose, {outcome.num_test} test clips do not; of so few, a share of a half "
            f"has a standard error of {errors[0]:.3f} and {errors[1]:.3f}"
        )
    if len(outcome.candidates) < 2 or any(c.compared and c.compared.p is None for c in outcome.candidates):
        return said
    others = [c for c in outcome.candidates if c.compared is not None]
    worse = [c for c in others if c.compared and c.compared.exceeds_noise and c.compared.difference < 0]
    same = [c for c in others if c not in worse]
    top = next(c for c in outcome.candidates if c.compared is None)
    what = _compared_by(outcome)
    seeds = len(top.runs)
    said.append(
        f"most accurate by {what} over {seeds} seeds: {_name(outcome, top)}; "
        + (
            f"behind it by more than the noise of training (p < {LEVEL:g}): {', '.join(_name(outcome, c) for c in worse)}"
            if worse
            else "no other is behind it by more than the noise of training"
        )
    )
    cheaper = [c for c in same if c.gflops < top.gflops]
    if cheaper:
        cheapest = min(cheaper, key=lambda c: c.gflops)
        behind = -cheapest.compared.difference if cheapest.compared else 0.0
        said.append(
            f"cheapest that {seeds} seeds can't tell from it: {_name(outcome, cheapest)}, at "
            f"{cheapest.gflops / top.gflops:.0%} of its cost and {behind:.3f} behind; more --final-seeds may tell"
        )
    return said


def _compared_by(outcome: Outcome) -> str:
    return f"{outcome.tests[0]} accuracy" if outcome.tests else "validation accuracy"


def _name(outcome: Outcome, candidate: Candidate) -> str:
    values = asdict(candidate.settings)
    more = [
        f"{name.replace('_', ' ')} {values[name]:.3g}"
        if isinstance(values[name], float)
        else f"{name.replace('_', ' ')} {values[name]}"
        for name in outcome.varied()
    ]
    return (
        ", ".join([f"merged {candidate.runs[0].merge_ratio:.3f}", *more])
        if not more
        else f"({', '.join([f'merged {candidate.runs[0].merge_ratio:.3f}', *more])})"
    )


def _heads(names: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _speed(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _verdict(compared: Comparison | None) -> str:
    if compared is None:
        return "most accurate"
    if compared.p is None:
        return f"{-compared.difference:.3f} (one seed)"
    return f"{-compared.difference:.3f}, p {compared.p:.3f}{' *' if compared.exceeds_noise else ''}"
