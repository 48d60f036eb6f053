"""Training on Ray Train: DDP workers that run training.job.run_tasks, restarted together when one is lost.

What a training needs to go on lies in its own folder (training.states), so Ray keeps no checkpoints: workers that start again, or
the same command after the driver was killed, go on from there. Knows nothing of what is trained.
"""

import contextlib
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch

from alt_ray.errors import AltRayError, JobError, UsageError
from alt_ray.training.job import TrainingJob, run_tasks

MAX_FAILURES = 5
PROGRESS_FILE, RESULTS_FILE, ERROR_FILE = "progress.jsonl", "results.json", "error.json"


def train_on_workers(
    job: TrainingJob, num_workers: int, cpus_per_worker: float, gpus_per_worker: float
) -> list[dict[str, Any]]:
    """Run all tasks on `num_workers` workers, and return their metrics. Raises UsageError and JobError of workers, and JobError
    where they failed more than MAX_FAILURES times."""
    error = Path(job.out) / ERROR_FILE
    error.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="alt_ray_train_") as storage:
        trainer = ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"job": job},
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers,
                use_gpu=gpus_per_worker > 0,
                resources_per_worker={"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {}),
            ),
            run_config=ray.train.RunConfig(
                name=f"alt-ray-{uuid.uuid4().hex[:8]}",  # a name that was there before would be gone on from
                storage_path=storage,
                failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        try:
            trainer.fit()
        except Exception as exc:
            raise _cause(exc) from exc
    if error.exists():
        said = json.loads(error.read_text())
        error.unlink()
        raise (UsageError if said["is_usage"] else JobError)(said["message"])
    results = Path(job.out) / RESULTS_FILE
    return json.loads(results.read_text())


def _worker(config: dict[str, Any]) -> None:
    from alt_ray.engine.ddp import place_of  # torch: the driver imports this module and must stay light

    job: TrainingJob = config["job"]
    error = Path(job.out) / ERROR_FILE
    if error.exists():  # what it says would only happen again; Ray starts failed workers again, whatever they failed of
        return
    progress = Path(job.out) / PROGRESS_FILE

    def say(entry: dict[str, Any]) -> None:
        with progress.open("a") as file:  # the driver reads along
            file.write(json.dumps(entry) + "\n")

    place = place_of(say)
    try:
        results = run_tasks(job, place)
    except AltRayError as exc:
        with contextlib.suppress(OSError):  # a full disk: Ray's own report has to do then
            error.write_text(json.dumps({"message": str(exc), "is_usage": isinstance(exc, UsageError)}))
        raise
    if place.rank == 0:
        temporary = Path(job.out) / f".{RESULTS_FILE}"
        temporary.write_text(json.dumps(results))
        temporary.replace(Path(job.out) / RESULTS_FILE)


def _cause(exc: BaseException) -> Exception:
    """The error of ours that a worker raised, or a JobError with what Ray says."""
    seen: list[BaseException] = [exc]
    for error in seen:
        if isinstance(error, UsageError | JobError):
            return error
        inner = [error.__cause__, getattr(error, "cause", None), *getattr(error, "worker_failures", {}).values()]
        seen += [other for other in inner if isinstance(other, BaseException) and other not in seen]
    last = seen[-1]
    return JobError(f"training failed: {type(last).__name__}: {last}; run the same command again to go on")
