"""Training on Ray Train: DDP workers that run training.job.run_tasks, restarted together when one is lost.

What a training needs to go on lies in its own folder (training.states), so Ray keeps no checkpoints: workers that start again, or
the same command after the driver was killed, go on from there. What workers write is theirs to write only while no other run, or
later attempt of this one, has the folder (training.owner). A remote folder is worked on in a copy on rank 0's machine, fetched
when an attempt begins. What is said goes through a mailbox, so no disk need be shared then. Knows nothing of what is trained.
"""

import contextlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch

from alt_ray.engine.mailbox import Sender, mailbox
from alt_ray.engine.waiting import says_what_workers_wait_for
from alt_ray.errors import AltRayError, JobError, UsageError
from alt_ray.remote.folder import RemoteFolder, is_remote
from alt_ray.remote.mirror import Mirror, working_copy
from alt_ray.training.job import TrainingJob, run_tasks
from alt_ray.training.owner import Owner
from alt_ray.training.place import Place

MAX_FAILURES = 5
PROGRESS_FILE = "progress.jsonl"


def kept(file: Path, hear: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    """`hear`, which also appends what it hears to a file."""

    def both(entry: dict[str, Any]) -> None:
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")
        hear(entry)

    return both


def train_on_workers(
    job: TrainingJob,
    owner: Owner,
    num_workers: int,
    cpus_per_worker: float,
    gpus_per_worker: float,
    hear: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Run all tasks on `num_workers` workers, hand what they say to `hear`, and return their metrics.

    Raises UsageError and JobError of workers, and JobError where they failed more than MAX_FAILURES times.
    """
    each = {"CPU": cpus_per_worker} | ({"GPU": gpus_per_worker} if gpus_per_worker else {})
    with tempfile.TemporaryDirectory(prefix="alt_ray_train_") as storage, mailbox(hear) as sender:
        trainer = ray.train.torch.TorchTrainer(
            _worker,
            train_loop_config={"job": job, "owner": owner, "sender": sender},
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
        said = sender.how_it_ended()
    if (error := said.get("error")) is not None:
        raise (UsageError if error["is_usage"] else JobError)(error["message"])
    if "results" not in said:
        raise JobError(f"the workers ended without results in {job.out}; run the same command again to go on")
    return said["results"]


def _worker(config: dict[str, Any]) -> None:
    from alt_ray.engine.ddp import place_of  # torch: the driver imports this module and must stay light

    job: TrainingJob = config["job"]
    device = ray.train.torch.get_device()
    place = place_of(device)
    owner = _of_attempt(config["owner"], place)
    sender: Sender = config["sender"].of(owner.attempt)
    if place.rank == 0:
        sender.begin(owner.attempt)
    place.barrier()
    # What it says would only happen again; Ray starts failed workers again, whatever they failed of. All return, or none.
    if place.share("error" in sender.how_it_ended()):
        return
    try:
        with _copy_of(job, place) as mirror:
            own = job if mirror is None else replace(job, out=str(mirror.path))
            place = place_of(device, sender.put, partial(owner.writing, mirror))
            results = run_tasks(own, place)
    except AltRayError as exc:
        with contextlib.suppress(JobError):  # it is another attempt's to say now
            sender.end("error", {"message": str(exc), "is_usage": isinstance(exc, UsageError)})
        raise
    if place.rank == 0:
        sender.end("results", results)


@contextlib.contextmanager
def _copy_of(job: TrainingJob, place: Place) -> Iterator[Mirror | None]:
    """A copy of the job's folder where it is remote, fetched by rank 0, which alone looks at it; else None."""
    if not is_remote(job.out):
        yield None
        return
    with working_copy(RemoteFolder(job.out)) as mirror:
        problem: str | None = None
        if place.rank == 0:
            try:
                mirror.pull()
            except JobError as exc:
                problem = str(exc)
        if (problem := place.share(problem)) is not None:
            raise JobError(problem)
        yield mirror


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
