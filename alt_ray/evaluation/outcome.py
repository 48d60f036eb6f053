"""What a search found: the front, the final candidates over seeds, the best, and which differences are no luck.

Made of the records of trials; knows nothing of how they ran, nor of pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alt_ray.evaluation.metrics import format_mean_std, format_table, mean_std
from alt_ray.evaluation.selection import LEVEL, Comparison, Objective, compare, pareto_front
from alt_ray.evaluation.trials import TrialRecord, TrialSettings


@dataclass(frozen=True)
class Candidate:
    """One setting with all of its runs over seeds. `compared` is against the most accurate candidate, None for that itself."""

    runs: tuple[TrialRecord, ...]
    compared: Comparison | None = None

    @property
    def settings(self) -> TrialSettings:
        return self.runs[0].settings

    @property
    def gflops(self) -> float:
        return self.runs[0].gflops

    @property
    def vals(self) -> list[float]:
        return [run.val for run in self.runs if run.val is not None]

    @property
    def val(self) -> float:
        return float(np.mean(self.vals))

    def test(self, name: str) -> list[float]:
        return [run.tests[name] for run in self.runs if name in run.tests]

    @property
    def best_run(self) -> TrialRecord:
        return max(self.runs, key=lambda run: run.val or 0.0)


@dataclass(frozen=True)
class Outcome:
    """All that pictures and tables are made of. `best` is None as long as no trial has finished."""

    objective: str
    protocol: str
    search: tuple[TrialRecord, ...]
    candidates: tuple[Candidate, ...]
    front: tuple[TrialRecord, ...]
    best: TrialRecord | None
    best_candidate: Candidate | None
    speeds: dict[str, float]
    num_val: int
    num_test: int
    sweep: str | None = None

    @property
    def tests(self) -> list[str]:
        return sorted({name for record in self.all_records for name in record.tests})

    @property
    def all_records(self) -> list[TrialRecord]:
        return [*self.search, *(run for candidate in self.candidates for run in candidate.runs)]

    def counts(self) -> dict[str, int]:
        return {kind: sum(r.status == kind for r in self.search) for kind in ("finished", "stopped", "failed")}

    def as_json(self) -> dict[str, Any]:
        return {
            "objective": self.objective,
            "protocol": self.protocol,
            "best": None if self.best is None else self._row(self.best),
            "front": [self._row(record) for record in self.front],
            "candidates": [self._candidate(candidate) for candidate in self.candidates],
            "trials": {"all": len(self.search), **self.counts()},
            "findings": self.findings(),
        }

    def _row(self, record: TrialRecord) -> dict[str, Any]:
        return {
            "trial": record.name,
            **asdict(record.settings),
            "merge_ratio": round(record.merge_ratio, 4),
            "merge_r": round(record.merge_r, 3),
            "val_top_1": record.val,
            "tests": record.tests,
            "gflops_per_view": record.gflops,
            "encoder_videos_per_s": self.speeds.get(record.settings.arm),
        }

    def _candidate(self, candidate: Candidate) -> dict[str, Any]:
        def figures(values: list[float]) -> dict[str, Any]:
            mean, deviation = mean_std(values) if values else (None, None)
            return {"mean": mean, "std": deviation, "values": values}

        row = self._row(candidate.runs[0])
        for name in ("trial", "seed", "val_top_1", "tests"):
            row.pop(name)
        compared = candidate.compared
        return {
            **row,
            "seeds": [run.settings.seed for run in candidate.runs],
            "val_top_1": figures(candidate.vals),
            "tests": {name: figures(candidate.test(name)) for name in self.tests},
            "difference_to_most_accurate": compared and compared.difference,
            "p": compared and compared.p,
            "exceeds_noise": compared and compared.exceeds_noise,
        }

    def varied(self) -> list[str]:
        """Which settings beside the merging take more than one value."""
        rows = [asdict(record.settings) for record in self.all_records]
        names = ("temperature", "blocks", "lr", "corpus_subset")
        return [name for name in names if len({row[name] for row in rows}) > 1]

    def front_table(self) -> str:
        """The front of the search, one run each."""
        header = ["merged", "r", *_heads(self.varied()), "validation", *self.tests, "GFLOPs/view", "encoder videos/s"]
        rows = [
            [
                *self._settings_cells(record),
                _share(record.val),
                *(_share(record.tests.get(name)) for name in self.tests),
                f"{record.gflops:.4g}",
                _speed(self.speeds.get(record.settings.arm)),
            ]
            for record in self.front
        ]
        return format_table(header, rows)

    def candidate_table(self) -> str:
        """The candidates over seeds, from the cheapest to the dearest."""
        header = [
            "merged",
            "r",
            *_heads(self.varied()),
            "validation",
            *self.tests,
            "GFLOPs/view",
            "encoder videos/s",
            "behind the best",
        ]
        rows = []
        for candidate in sorted(self.candidates, key=lambda c: (c.gflops, c.settings.temperature)):
            rows.append(
                [
                    *self._settings_cells(candidate.runs[0]),
                    format_mean_std(candidate.vals),
                    *(format_mean_std(candidate.test(name)) if candidate.test(name) else "-" for name in self.tests),
                    f"{candidate.gflops:.4g}",
                    _speed(self.speeds.get(candidate.settings.arm)),
                    _verdict(candidate.compared),
                ]
            )
        return format_table(header, rows)

    def _settings_cells(self, record: TrialRecord) -> list[str]:
        values = asdict(record.settings)
        cells = [f"{record.merge_ratio:.3f}", f"{record.merge_r:.3g}"]
        return cells + [f"{v:.3g}" if isinstance(v := values[name], float) else str(v) for name in self.varied()]

    def findings(self) -> list[str]:
        """What may be said, in sentences."""
        said = []
        if self.num_test:
            errors = [0.5 / number**0.5 for number in (self.num_val, self.num_test)]
            said.append(
                f"{self.num_val} validation clips choose, {self.num_test} test clips do not; of so few clips, a share of a half "
                f"has a standard error of {errors[0]:.3f} and {errors[1]:.3f}"
            )
        if len(self.candidates) < 2 or any(c.compared and c.compared.p is None for c in self.candidates):
            return said
        others = [c for c in self.candidates if c.compared is not None]
        worse = [c for c in others if c.compared and c.compared.exceeds_noise and c.compared.difference < 0]
        same = [c for c in others if c not in worse]
        top = next(c for c in self.candidates if c.compared is None)
        what = self._compared_by()
        seeds = len(top.runs)
        said.append(
            f"most accurate by {what} over {seeds} seeds: {self._name(top)}; "
            + (
                f"behind it by more than the noise of training (p < {LEVEL:g}): {', '.join(map(self._name, worse))}"
                if worse
                else "no other is behind it by more than the noise of training"
            )
        )
        cheaper = [c for c in same if c.gflops < top.gflops]
        if cheaper:
            cheapest = min(cheaper, key=lambda c: c.gflops)
            said.append(
                f"cheapest that can't be told from it with {seeds} seeds: {self._name(cheapest)}, at "
                f"{cheapest.gflops / top.gflops:.0%} of its cost"
            )
        return said

    def _compared_by(self) -> str:
        return f"{self.tests[0]} accuracy" if self.tests else "validation accuracy"

    def _name(self, candidate: Candidate) -> str:
        values = asdict(candidate.settings)
        more = [
            f"{name.replace('_', ' ')} {values[name]:.3g}"
            if isinstance(values[name], float)
            else f"{name.replace('_', ' ')} {values[name]}"
            for name in self.varied()
        ]
        return (
            ", ".join([f"merged {candidate.runs[0].merge_ratio:.3f}", *more])
            if not more
            else f"({', '.join([f'merged {candidate.runs[0].merge_ratio:.3f}', *more])})"
        )


def outcome_of(
    search: Sequence[TrialRecord],
    finals: Sequence[TrialRecord],
    objective: Objective,
    speeds: Mapping[str, float],
    *,
    protocol: str,
    num_val: int,
    num_test: int,
    sweep: str | None = None,
) -> Outcome:
    """Put the records of a search, and of the final candidates over seeds, together. What did not finish can't be chosen."""
    finished = [record for record in search if record.status == "finished" and record.val is not None]
    candidates = _compared(_grouped(finals), num_test or num_val)
    best: TrialRecord | None = None
    chosen: Candidate | None = None
    if candidates:
        chosen = candidates[objective.choose([c.val for c in candidates], [c.gflops for c in candidates])]
        best = chosen.best_run
    elif finished:
        best = finished[objective.choose([r.val or 0.0 for r in finished], [r.gflops for r in finished])]
    front = [finished[i] for i in pareto_front([r.val or 0.0 for r in finished], [r.gflops for r in finished])]
    if not finished:
        front = [
            candidates[i].best_run for i in pareto_front([c.val for c in candidates], [c.gflops for c in candidates])
        ]
    text = objective.kind if objective.limit is None else f"{objective.kind}:{objective.limit:g}"
    return Outcome(
        text,
        protocol,
        tuple(search),
        tuple(candidates),
        tuple(front),
        best,
        chosen,
        dict(speeds),
        num_val,
        num_test,
        sweep,
    )


def _grouped(finals: Sequence[TrialRecord]) -> list[Candidate]:
    groups: list[list[TrialRecord]] = []
    for record in finals:
        if record.status != "finished" or record.val is None:
            continue
        for group in groups:
            if group[0].settings.same_but_seed(record.settings):
                group.append(record)
                break
        else:
            groups.append([record])
    return [Candidate(tuple(group)) for group in groups]


def _compared(candidates: list[Candidate], num_clips: int) -> list[Candidate]:
    if not candidates:
        return []
    tests = sorted({name for candidate in candidates for run in candidate.runs for name in run.tests})
    runs = [candidate.test(tests[0]) if tests else candidate.vals for candidate in candidates]
    if not all(runs):
        runs = [candidate.vals for candidate in candidates]
    top = int(np.argmax([np.mean(values) for values in runs]))
    found = compare(runs, top, 1 / num_clips if num_clips else 0.0)
    return [Candidate(candidate.runs, None if i == top else found[i]) for i, candidate in enumerate(candidates)]


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
