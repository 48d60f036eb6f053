"""One training and its tests, as indices of clips, checked. Knows nothing of how they were chosen.

N clips.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alt_ray.errors import UsageError
from alt_ray.evaluation.names import some


@dataclass(frozen=True, eq=False)
class Task:
    """One training, which may be empty, and what it is tested on. Indices are int64, sorted, and disjoint between parts.

    name: short, unique within the run, usable as a folder's name: "seed-0", "group-daria", "split-1", "draw-3".
    description: the exact protocol in one line, for tables and metrics.json.
    tests: the clips of each test, {"test": ...} or {"base": ..., "novel": ...}; {} for zero-shot training without test clips.
    labels: the label set of the training, in label order; empty where nothing is trained.
    test_labels: the labels that compete in each test, in label order.
    label_of: [N] objects, the label of each clip of the table as `labels` and `test_labels` spell it, None for none of these.
    """

    name: str
    description: str
    train: np.ndarray
    val: np.ndarray
    tests: dict[str, np.ndarray]
    labels: tuple[str, ...]
    test_labels: dict[str, tuple[str, ...]]
    seed: int
    label_of: np.ndarray

    def target(self, index: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Return the indices [n] into `labels` of the labels of some clips. All of them must be there (KeyError)."""
        place = {label: c for c, label in enumerate(labels)}
        return np.array([place[self.label_of[row]] for row in index], np.int64)


def check_training(task: Task) -> None:
    """Raise UsageError unless there are clips of at least 2 labels to train on, and clips in each test."""
    if not len(task.train):
        raise UsageError(f"{task.name}: no clip with a label to train on ({task.description})")
    trained = sorted(set(task.label_of[task.train]))
    if len(trained) < 2:
        raise UsageError(
            f"{task.name}: all clips to train on have the label {some(trained)}; expected at least 2 labels"
        )
    if task.tests:
        check_tests(task)


def check_tests(task: Task) -> None:
    """Raise UsageError for a test without clips."""
    for test, index in task.tests.items():
        if not len(index):
            raise UsageError(
                f"{task.name}: no clip of the {len(task.test_labels[test])} labels of {test!r} to test on "
                f"({some(task.test_labels[test])}; {task.description})"
            )


def described(task: Task, notes: str) -> Task:
    """Return the task with the counts of its clips, and notes, at the end of its description."""
    counts = []
    if len(task.train):
        counts.append(f"train {len(task.train)}, val {len(task.val)}")
        untrained = len(set(task.labels) - set(task.label_of[task.train]))
        notes = (f" ({untrained} of {len(task.labels)} labels have no clip to train on)" if untrained else "") + notes
    counts += [f"{test} {len(index)} of {len(task.test_labels[test])} labels" for test, index in task.tests.items()]
    return replace(task, description=f"{task.description}; clips: {', '.join(counts)}{notes}")


def folder_names(names: Sequence[str]) -> list[str]:
    """Return names without what a folder's name can't hold; those that would be the same get a number."""
    made: dict[str, str] = {}  # by what a file system that ignores case makes of it
    for name in names:
        plain = folder = re.sub(r"[^\w.-]+", "-", name).strip("-.")
        number = 2
        while folder.casefold() in made:
            folder, number = f"{plain}-{number}", number + 1
        made[folder.casefold()] = folder
    return list(made.values())
