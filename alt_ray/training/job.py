"""All tasks of a training on one worker, one after the other. What workers are handed is one value. Knows nothing of Ray."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alt_ray.config_train import LearningOptions, ModelOptions
from alt_ray.evaluation.task import Task
from alt_ray.features.store import FeatureStore
from alt_ray.training.place import Place
from alt_ray.training.run import TaskRun, threads
from alt_ray.training.texts import Texts


@dataclass(frozen=True)
class TrainingJob:
    """What every worker needs to know. `out` is a folder that all of them see; a single task has it for its own."""

    store_uri: str
    tasks: tuple[Task, ...]
    texts: Texts
    model: ModelOptions
    learning: LearningOptions
    out: str
    num_threads: int = 1
    origin: dict[str, Any] = field(default_factory=dict)  # what checkpoints say of where they come from
    clip_rows: np.ndarray | None = None  # view 0 of the clips that tasks index, in store.rows; None: of all clips

    def folder_of(self, task: Task) -> Path:
        return Path(self.out) if len(self.tasks) == 1 else Path(self.out) / task.name


def run_tasks(job: TrainingJob, place: Place) -> list[dict[str, Any]]:
    """Run the tasks that are not finished yet, and return the metrics of all on rank 0, of none elsewhere."""
    store = FeatureStore(job.store_uri)
    clip_rows = store.clips()["first_row"].to_numpy() if job.clip_rows is None else job.clip_rows
    results = []
    with threads(job.num_threads):
        for task in job.tasks:
            folder = job.folder_of(task)
            folder.mkdir(parents=True, exist_ok=True)
            run = TaskRun(task, store, job.texts, job.model, job.learning, folder, place, clip_rows, job.origin)
            result = run.run()
            if result is not None:
                place.say({"finished": task.name, "tests": result["tests"]})
                results.append(result)
    return results
