"""Training on Ray Train: DDP workers that run training.job.run_tasks, restarted together when one is lost.

What a training needs to go on lies in its own folder (training.states), so Ray keeps no checkpoints: workers that start again, or
the same command after the driver was killed, go on from there. What workers write is theirs to write only while no other run, or
later attempt of this one, has the folder (training.owner). Knows nothing of what is trained.
"""

import contextlib
import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch

from alt_ray.engine.waiting import says_what_workers_wait_for
from alt_ray.errors import AltRayError, JobError, UsageError
from alt_ray.schema import FORMAT_VERSION
from alt_ray.training.job import TrainingJob, run_tasks
from alt_ray.training.owner import Owner
from alt_ray.training.place import Place
from alt_ray.versions import stamp

MAX_FAILURES = 5
PROGRESS_FILE, RESULTS_FILE, ERROR_FILE = "progress.jsonl", "results.json", "error.json"


def train_on_workers(
    job: TrainingJob, owner: Owner, num_workers: int, cpus_per_worker: float, gpus_per_worker: float
) -> list[dict[str, Any]]:
    """Run all tasks on `num_workers` workers, and return their metrics. Raises UsageError and JobError of workers, and JobError
    where they failed more than MAX_FAILURES times."""
    (Path(job.out) / ERROR_FILE).unlink(missing_ok=True)
    each = {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    with tempfile.TemporaryDirectory(prefix="alt_ray_train_") as storage:
        trainer = ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"job": job, "owner": owner},
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if gpus_per_worker else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=num_workers, use_gpu=gpus_per_worker > 0, resources_per_worker=each
            ),
            run_config=ray.train.RunConfig(
                name=f"alt-ray-{uuid.uuid4().hex[:8]}",  # a name that was there before would be gone on from
                storage_path=storage,
                failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            ),
        )
        try:
            with says_what_workers_wait_for(num_workers, each):
                trainer.fit()
        except Exception as exc:
            raise _cause(exc) from exc
    said = _read(Path(job.out) / ERROR_FILE, owner)
    if said is not None:
        raise (UsageError if said["is_usage"] else JobError)(said["message"])
    found = _read(Path(job.out) / RESULTS_FILE, owner)
    if found is None:
        raise JobError(f"the workers ended without results in {job.out}; run the same command again to go on")
    return found["results"]


def _worker(config: dict[str, Any]) -> None:
    from alt_ray.engine.ddp import place_of  # torch: the driver imports this module and must stay light

    job: TrainingJob = config["job"]
    out, device = Path(job.out), ray.train.torch.get_device()
    progress, error = out / PROGRESS_FILE, out / ERROR_FILE
    owner = _of_attempt(config["owner"], place_of(device))

    def say(entry: dict[str, Any]) -> None:
        with owner.writing(), progress.open("a") as file:  # the driver reads along
            file.write(json.dumps(entry) + "\n")

    place = place_of(device, say, owner.writing)
    # What it says would only happen again; Ray starts failed workers again, whatever they failed of. All return, or none.
    if place.share(any(place.gather(_read(error, owner) is not None))):
        return
    try:
        results = run_tasks(job, place)
    except AltRayError as exc:
        with contextlib.suppress(OSError, JobError):  # a full disk: Ray's own report has to do then
            _write(error, owner, {"message": str(exc), "is_usage": isinstance(exc, UsageError)})
        raise
    if place.rank == 0:
        _write(out / RESULTS_FILE, owner, {"results": results})


def _of_attempt(owner: Owner, place: Place) -> Owner:
    """The owner that all workers of this start have in common. Raises JobError, on all of them, if another run has the folder."""
    found: Owner | str = owner
    if place.rank == 0:
        try:
            found = owner.again()
        except JobError as exc:
            found = str(exc)
    found = place.share(found)
    if isinstance(found, str):
        raise JobError(found)
    return found


def _write(file: Path, owner: Owner, record: dict[str, Any]) -> None:
    with owner.writing():
        temporary = file.with_name(f".{file.name}")
        temporary.write_text(json.dumps({**stamp(FORMAT_VERSION), "run": owner.run, **record}))
        temporary.replace(file)


def _read(file: Path, owner: Owner) -> dict[str, Any] | None:
    """What this run wrote; None for nothing, or what an earlier run left."""
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return record if isinstance(record, dict) and record.get("run") == owner.run else None


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
