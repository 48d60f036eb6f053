"""What is said of trainings and tests, while they run and at the end. Knows nothing of how they ran."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alt_ray.evaluation.metrics import format_mean_std, format_table, harmonic_mean, mean_std
from alt_ray.features.layout import StoreRecord

FIGURES = ("top_1", "top_5", "mean_class_accuracy", "ece")


@dataclass(frozen=True)
class TrainingReport:
    """The results of all tasks. `tests` has, for each test, each figure's mean and deviation over the tasks."""

    protocol: str
    method: str
    views: str
    tests: dict[str, dict[str, Any]]
    harmonic_mean: dict[str, float | None] | None
    labels_in_corpus: tuple[str, ...]
    tasks: list[dict[str, Any]]
    wall_s: float

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__, "labels_in_corpus": list(self.labels_in_corpus)}

    def flat(self) -> dict[str, float]:
        """Means alone, by name, for a tracker."""
        found = {
            f"{test}_{name}": values["mean"]
            for test, figures in self.tests.items()
            for name, values in figures.items()
            if isinstance(values, dict) and values.get("mean") is not None
        }
        if self.harmonic_mean is not None and self.harmonic_mean["mean"] is not None:
            found["harmonic_mean"] = self.harmonic_mean["mean"]
        return found

    def table(self) -> str:
        """What a person reads: the protocol in full, one row for each test."""
        rows = []
        for test, figures in self.tests.items():
            cells = [format_mean_std(figures[name]["values"]) if figures[name]["values"] else "-" for name in FIGURES]
            rows.append(
                [test, *cells, f"{figures['num_clips']}", f"{figures['num_labels']}", f"{figures['chance']:.3f}"]
            )
        lines = [
            f"protocol: {self.protocol}",
            f"method: {self.method}; {self.views}",
            format_table(["test", "top-1", "top-5", "class mean", "ECE", "clips", "labels", "chance"], rows),
        ]
        if self.harmonic_mean is not None:
            lines.append(f"harmonic mean of base and novel: {self.harmonic_mean['mean']:.3f}")
        if len(self.tasks) > 1:
            lines.append(f"mean and standard deviation over {len(self.tasks)} trainings or splits")
        few = ", ".join(self.labels_in_corpus[:8]) + (" ..." if len(self.labels_in_corpus) > 8 else "")
        lines.append(
            f"{len(self.labels_in_corpus)} of the labels asked for are names of entities in the corpus{': ' + few if few else ''}"
        )
        return "\n".join(lines)


def summary_of(
    results: Sequence[dict[str, Any]], record: StoreRecord, method: str, in_corpus: Sequence[str], wall_s: float
) -> TrainingReport:
    """Put the results of all tasks together."""
    names = list(dict.fromkeys(name for result in results for name in result["tests"]))
    tests: dict[str, dict[str, Any]] = {}
    for name in names:
        found = [result["tests"][name] for result in results if name in result["tests"]]
        figures: dict[str, Any] = {}
        for figure in FIGURES:
            values = [entry[figure] for entry in found if entry[figure] is not None]
            mean, deviation = mean_std(values) if values else (None, None)
            figures[figure] = {"mean": mean, "std": deviation, "values": values}
        figures["num_clips"] = sum(entry["num_clips"] for entry in found)
        figures["num_labels"] = found[0]["num_labels"]
        figures["chance"] = 1 / found[0]["num_labels"]
        tests[name] = figures
    both = None
    if {"base", "novel"} <= set(names):
        values = [
            harmonic_mean(result["tests"]["base"]["top_1"], result["tests"]["novel"]["top_1"])
            for result in results
            if {"base", "novel"} <= set(result["tests"])
        ]
        both = dict(zip(("mean", "std"), mean_std(values), strict=True))
    sampling = record.sampling
    return TrainingReport(
        protocol=_protocol_of(results),
        method=method,
        views=_views(sampling),
        tests=tests,
        harmonic_mean=both,
        labels_in_corpus=tuple(in_corpus),
        tasks=list(results),
        wall_s=round(wall_s, 2),
    )


def _views(sampling: dict[str, Any]) -> str:
    """As papers write it: clips in time x crops."""
    crops = int(sampling.get("crops", 1))
    return f"{int(sampling['views']) // crops} x {crops} test views of {sampling['frames']} frames" + (
        ", centre crop" if crops == 1 else ""
    )


def _protocol_of(results: Sequence[dict[str, Any]]) -> str:
    """What was done, in full: of trainings or splits that differ, that of the first, and the names of all."""
    described = list(dict.fromkeys(result["protocol"] for result in results))
    if len(described) < 2:
        return "".join(described)
    names = ", ".join(result["task"] for result in results)
    return f"{described[0]}. This is the first of {len(results)}: {names}"


def say_entry(entry: dict[str, Any], *, num_tasks: int, quiet: bool) -> None:
    """Print one line for what a training says on its way."""
    if quiet:
        return
    if "warning" in entry:
        line = f"warning: {entry['warning']}"
    elif "finished" in entry:
        figures = "; ".join(f"{test} top-1 {figures['top_1']:.3f}" for test, figures in entry["tests"].items())
        line = f"train: {entry['finished']} done; {figures or 'no test'}"
    else:
        name = f" {entry['task']}" if num_tasks > 1 else ""
        validation = f", validation {entry['val_top_1']:.3f}" if entry.get("val_top_1") is not None else ""
        line = (
            f"train{name}: epoch {entry['epoch']} of {entry['of']}, loss {entry['loss']:.3f}, accuracy {entry['accuracy']:.3f}"
            f"{validation}, {entry['clips_per_s']:.0f} clips per second"
        )
    print(line, file=sys.stderr, flush=True)
