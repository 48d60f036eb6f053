"""Where a training keeps what it needs to go on: a folder per epoch, written whole or not at all, checked when it is read.

    checkpoints/epoch-0007/state.safetensors   weights and the optimizers' moments
    checkpoints/epoch-0007/progress.json       what was measured so far, and the digest of the other file

The two newest and that of the best epoch are kept. Nothing here unpickles. Of several workers rank 0 alone looks at the disk: it
decides which state is gone on from, and the others are given it. Two workers that each saw another newest state, as through a
disk that caches, would train apart. Knows nothing of what is trained.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from alt_ray.errors import JobError, UsageError
from alt_ray.training.place import Place
from alt_ray.versions import check_format, stamp, text_stamp, unstamped

FOLDER, STATE_FILE, PROGRESS_FILE = "checkpoints", "state.safetensors", "progress.json"
FORMAT_VERSION = 1
NEWEST_KEPT = 2
UNUSABLE = (
    UsageError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    SafetensorError,
    RuntimeError,
)  # what reading a state may raise
ALONE = Place()


@dataclass
class Progress:
    """How far a training is. `epoch` counts finished epochs; `best_epoch` is 1-based, 0 before there is one."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    folder: Path,
    progress: Progress,
    classifier: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    place: Place = ALONE,
) -> Path:
    """Write the state after `progress.epoch` and drop what is not needed any more, on rank 0.

    Raises JobError where the disk refuses, or the folder is not ours any more.
    """
    own = folder / FOLDER
    final = own / _name(progress.epoch)
    tensors = {f"model.{name}": tensor.detach() for name, tensor in classifier.state_dict().items()}
    plain: dict[str, Any] = {}
    for index, optimizer in enumerate(optimizers):
        for number, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                key = f"optimizer.{index}.{number}.{name}"
                if isinstance(value, Tensor):
                    tensors[key] = value
                else:
                    plain[key] = value
    try:
        own.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=own))
        try:
            data = save(
                {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, text_stamp(FORMAT_VERSION)
            )
            _write(scratch / STATE_FILE, data)
            record = {
                **stamp(FORMAT_VERSION),
                "state_digest": _digest(data),
                "plain": plain,
                **asdict(progress),
            }
            _write(scratch / PROGRESS_FILE, json.dumps(record).encode())
            scratch.chmod(0o755)  # mkdtemp makes a folder for its owner alone
            with place.writing():
                shutil.rmtree(final, ignore_errors=True)
                scratch.rename(final)
                keep = {_name(progress.best_epoch), *(_name(progress.epoch - back) for back in range(NEWEST_KEPT))}
                _drop(path for path in own.iterdir() if path.name not in keep)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as exc:
        raise JobError(f"the checkpoint {final} can't be written: {exc}; run the same command again to go on") from exc
    return final


def load_newest(
    folder: Path, classifier: nn.Module, optimizers: list[torch.optim.Optimizer], place: Place = ALONE
) -> Progress:
    """Load the newest state that can be read into the classifier and the optimizers, and warn of those that could not be.

    Without any, nothing is loaded, and the progress is that of a beginning. What a killed run left half-written is dropped.
    """
    found = None
    if place.rank == 0:
        with place.writing():
            _drop((folder / FOLDER).glob(".epoch-*"))
        found = _load_newest(folder, classifier, optimizers, place)
    record, data = place.share(found) or (None, b"")
    if record is None:
        return Progress()
    if place.rank:
        _load(record, data, classifier, optimizers)
    return Progress(**record["progress"])


def _load_newest(
    folder: Path, classifier: nn.Module, optimizers: list[torch.optim.Optimizer], place: Place
) -> tuple[dict[str, Any], bytes] | None:
    weights = {name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()}
    moments = [optimizer.state_dict() for optimizer in optimizers]
    states = sorted((folder / FOLDER).glob("epoch-*"), reverse=True)
    for state in states:
        try:
            record, data = _read(state)
            _load(record, data, classifier, optimizers)
            return record, data
        except UNUSABLE as exc:
            place.warn(f"{state} can't be used ({exc}); going on from the one before")
    if states:  # of one that could not be used, a part may have been loaded
        classifier.load_state_dict(weights)
        for optimizer, state_dict in zip(optimizers, moments, strict=True):
            optimizer.load_state_dict(state_dict)
    return None


def load_epoch(folder: Path, epoch: int, classifier: nn.Module, place: Place = ALONE) -> None:
    """Load the weights after `epoch` (1-based). Raises JobError, on every rank, if they can't be read."""
    state = folder / FOLDER / _name(epoch)
    found: bytes | str = b""
    if place.rank == 0:
        try:
            found = _read(state)[1]
            load_weights(classifier, load(found))
        except UNUSABLE as exc:
            found = f"{state} can't be read: {exc}; delete {state.parent} to train again"
    found = place.share(found)
    if isinstance(found, str):
        raise JobError(found)
    if place.rank:
        load_weights(classifier, load(found))


def _load(record: dict[str, Any], data: bytes, classifier: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    tensors = load(data)
    load_weights(classifier, tensors)
    _load_optimizers(optimizers, tensors, record["plain"])


def load_weights(classifier: nn.Module, tensors: dict[str, Tensor]) -> None:
    classifier.load_state_dict({name: tensors[f"model.{name}"] for name in classifier.state_dict()})


def _load_optimizers(
    optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor], plain: dict[str, Any]
) -> None:
    values = {**tensors, **plain}
    for index, optimizer in enumerate(optimizers):
        prefix = f"optimizer.{index}."
        state: dict[int, dict[str, Any]] = {}
        for key, value in values.items():
            if key.startswith(prefix):
                number, name = key.removeprefix(prefix).split(".", 1)
                state.setdefault(int(number), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _read(state: Path) -> tuple[dict[str, Any], bytes]:
    """What a state says of itself ("plain", "progress"), and its tensors as they are in the file."""
    record = json.loads((state / PROGRESS_FILE).read_text())
    check_format(record, FORMAT_VERSION, "it")
    record = unstamped(record)
    digest, plain = record.pop("state_digest"), record.pop("plain")
    data = (state / STATE_FILE).read_bytes()
    if _digest(data) != digest:
        raise ValueError("it is damaged")
    return {"plain": plain, "progress": asdict(Progress(**record))}, data


def _drop(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
