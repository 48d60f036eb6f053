"""What a search found: the front, the final candidates over seeds, the best, and which differences are no luck.

Made of the records of trials; knows nothing of how they ran, nor of pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from alt_ray.evaluation.metrics import mean_std
from alt_ray.evaluation.selection import Comparison, Objective, compare, pareto_front
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
    elif objective.allowed([record.gflops for record in finished]):
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
