"""What a trial of a search is, and what is recorded of it. Plain values: knows nothing of Ray, or how trials are chosen."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from alt_ray.schema import FORMAT_VERSION
from alt_ray.versions import read_stamped, stamp

Status = Literal["finished", "stopped", "failed"]
TRIAL_FILE = "trial.json"


@dataclass(frozen=True)
class TrialSettings:
    """What is tuned, of one training. `arm` names the feature store, and so the merging."""

    arm: str
    temperature: float
    blocks: int
    lr: float
    corpus_subset: str
    seed: int

    @property
    def name(self) -> str:
        """Short, for people, and another one for other settings: the trial's folder."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:6]
        return f"{self.arm}-t{self.temperature:.3g}-s{self.seed}-{digest}"

    def same_but_seed(self, other: "TrialSettings") -> bool:
        return {**asdict(self), "seed": 0} == {**asdict(other), "seed": 0}


@dataclass(frozen=True)
class TrialRecord:
    """One trial, at its end. Accuracies are shares; `val` is that of the best epoch, whose weights are kept and tested.

    status: finished; stopped (early, by the scheduler: no test); failed (`error` says why).
    seconds: its own time, without waiting and start-up; cpu_s: of the processor, in the trial's own process. gflops: per view.
    machine: where it ended.
    """

    settings: TrialSettings
    status: Status
    merge_ratio: float
    merge_r: float
    gflops: float
    epochs: int = 0
    best_epoch: int = 0
    val: float | None = None
    tests: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_s: float = 0.0
    machine: str = ""
    error: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.settings.name

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "name": self.name}

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> "TrialRecord":
        known = {entry.name for entry in fields(cls)} - {"settings"}
        return cls(
            settings=TrialSettings(**value["settings"]), **{name: value[name] for name in known if name in value}
        )

    def write(self, folder: Path) -> None:
        """Into `folder`, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{TRIAL_FILE}"
        part.write_text(json.dumps({**stamp(FORMAT_VERSION), **self.as_json()}, indent=1), encoding="utf-8")
        part.replace(folder / TRIAL_FILE)


def read_trial(folder: Path) -> TrialRecord | None:
    """Return what was recorded of a trial, None if it has not ended yet. Raises UsageError for a record of a newer version."""
    try:
        return TrialRecord.of_json(read_stamped(folder / TRIAL_FILE, FORMAT_VERSION, missing=1))
    except FileNotFoundError:
        return None


def write_table(file: Path, records: Sequence[TrialRecord], speeds: dict[str, float]) -> None:
    """Write one line for each trial as CSV; `speeds` are videos/s of the encoder by arm."""
    tests = sorted({test for record in records for test in record.tests})
    rows = []
    for record in records:
        row: dict[str, Any] = {
            "name": record.name,
            "status": record.status,
            "merge_ratio": round(record.merge_ratio, 4),
            "merge_r": round(record.merge_r, 3),
            **{name: value for name, value in asdict(record.settings).items() if name != "arm"},
            "epochs": record.epochs,
            "best_epoch": record.best_epoch,
            "val_top_1": record.val,
            **{f"{test}_top_1": record.tests.get(test) for test in tests},
            "gflops_per_view": record.gflops,
            "encoder_videos_per_s": speeds.get(record.settings.arm),
            "seconds": round(record.seconds, 3),
            "cpu_s": round(record.cpu_s, 3),
            "machine": record.machine,
            "error": record.error,
        }
        rows.append(row)
    part = file.with_name(f".{file.name}")
    with part.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]) if rows else ["name"])
        writer.writeheader()
        writer.writerows(rows)
    part.replace(file)
