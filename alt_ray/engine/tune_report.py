"""What a search hands back, and how it is published: the report, best/, the tracked run. Knows nothing of how trials ran."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alt_ray.evaluation.outcome import Outcome
from alt_ray.evaluation.outcome_text import candidate_table, findings, front_table
from alt_ray.tracking import Tracker

BEST = "best"


@dataclass(frozen=True)
class TuneReport:
    """What a search found, and what it took: `own_s` are the trials' own seconds, the rest of slots * tune_s is overhead;
    `cpu_s` are those of the processor, which say what it would have taken on a machine with nothing else to do."""

    outcome: Outcome
    out: str
    wall_s: float
    own_s: float
    cpu_s: float
    tune_s: float
    slots: int
    is_whole: bool

    @property
    def overhead_share(self) -> float | None:
        """Time of the slots in which no trial worked, as a share of the time in which one did; None if none ran."""
        return (self.tune_s * self.slots - self.own_s) / self.own_s if self.own_s > 1 else None

    def table(self) -> str:
        """What a person reads."""
        outcome, lines = self.outcome, [f"protocol: {self.outcome.protocol}"]
        if outcome.search:
            counts = ", ".join(f"{count} {kind}" for kind, count in outcome.counts().items() if count)
            lines += [f"{len(outcome.search)} trials: {counts}"]
        if outcome.search and outcome.front:
            lines += ["", "front of accuracy and cost, one training each:", front_table(outcome)]
        if outcome.candidates:
            seeds = len(outcome.candidates[0].runs)
            what = f"values of --sweep {outcome.sweep}" if outcome.sweep else "final candidates"
            lines += ["", f"{what}, mean ± standard deviation over {seeds} other seeds; * beyond the noise:"]
            lines += [candidate_table(outcome)]
        lines += ["", *(f"- {finding}" for finding in findings(outcome))]
        if outcome.best is not None:
            lines.append(f"best by {outcome.objective}: {outcome.best.name}, in {self.out}/{BEST}")
        share = self.overhead_share
        if share is not None:
            lines.append(
                f"{self.wall_s:.0f} s in all; {self.own_s:.0f} s of trials ({self.cpu_s:.0f} s of processor time) in "
                f"{self.slots} slots of {self.tune_s:.0f} s, {share:.1%} on top"
            )
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        share = self.overhead_share
        return {
            **self.outcome.as_json(),
            "findings": findings(self.outcome),
            "out": self.out,
            "is_whole": self.is_whole,
            "wall_s": round(self.wall_s, 2),
            "tune_s": round(self.tune_s, 2),
            "trials_s": round(self.own_s, 2),
            "trials_cpu_s": round(self.cpu_s, 2),
            "slots": self.slots,
            "overhead_share": None if share is None else round(share, 4),
        }


def publish_best(source: Path, target: Path) -> None:
    """Copy a checkpoint folder; a reader finds the old one or the new one, or for a moment none, never half of one."""
    if not source.is_dir():
        return
    part = target.with_name(f".{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def track(run: Tracker, out: Path, report: TuneReport, files: Sequence[Path]) -> None:
    best = report.outcome.best
    if best is not None:
        run.metrics(
            {
                "best_val_top_1": best.val,
                **{f"best_{n}_top_1": v for n, v in best.tests.items()},
                "best_gflops": best.gflops,
            }
        )
        run.tags({"best_trial": best.name})
    run.metrics(
        {"overhead_share": report.overhead_share, "wall_s": report.wall_s, "trials": len(report.outcome.all_records)}
    )
    for name in ("metrics.json", "trials.csv"):
        run.artifact(out / name)
    for file in files:
        run.artifact(file, "plots" if file.suffix == ".png" else None)
    if (out / BEST).is_dir():
        from alt_ray.tracking.pyfunc import log_model

        run.artifact(out / BEST, "checkpoint")
        log_model(run, out / BEST)
