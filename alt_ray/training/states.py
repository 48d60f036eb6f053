"""Where a training keeps what it needs to go on: a folder per epoch, written whole or not at all, checked when it is read.

    checkpoints/epoch-0007/state.safetensors   weights and the optimizers' moments
    checkpoints/epoch-0007/progress.json       what was measured so far, and the digest of the other file

The two newest and that of the best epoch are kept. Nothing here unpickles. Knows nothing of what is trained.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from alt_ray.errors import JobError

FOLDER, STATE_FILE, PROGRESS_FILE = "checkpoints", "state.safetensors", "progress.json"
FORMAT_VERSION = 1
NEWEST_KEPT = 2


@dataclass
class Progress:
    """How far a training is. `epoch` counts finished epochs; `best_epoch` is 1-based, 0 before there is one."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = float("-inf")
    history: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    folder: Path, progress: Progress, classifier: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> Path:
    """Write the state after `progress.epoch` and drop what is not needed any more. Raises JobError where the disk refuses."""
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
            data = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
            _write(scratch / STATE_FILE, data)
            record = {
                "format_version": FORMAT_VERSION,
                "state_digest": _digest(data),
                "plain": plain,
                **asdict(progress),
            }
            _write(scratch / PROGRESS_FILE, json.dumps(record).encode())
            shutil.rmtree(final, ignore_errors=True)
            scratch.chmod(0o755)  # mkdtemp makes a folder for its owner alone
            scratch.rename(final)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as exc:
        raise JobError(f"the checkpoint {final} can't be written: {exc}; run the same command again to go on") from exc
    keep = {_name(progress.best_epoch), *(_name(progress.epoch - back) for back in range(NEWEST_KEPT))}
    for other in own.iterdir():
        if other.name not in keep:
            shutil.rmtree(other, ignore_errors=True)
    return final


def load_newest(
    folder: Path,
    classifier: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    warn: Callable[[str], None],
) -> Progress:
    """Load the newest state that can be read into the classifier and the optimizers, and say which could not be.

    Without any, nothing is loaded, and the progress is that of a beginning.
    """
    for state in sorted((folder / FOLDER).glob("epoch-*"), reverse=True):
        try:
            progress, tensors, plain = _read(state)
            load_weights(classifier, tensors)
            _load_optimizers(optimizers, tensors, plain)
            return progress
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as exc:
            warn(f"{state} can't be used ({exc}); going on from the one before")
    return Progress()


def load_epoch(folder: Path, epoch: int, classifier: nn.Module) -> None:
    """Load the weights after `epoch` (1-based). Raises JobError if they can't be read."""
    state = folder / FOLDER / _name(epoch)
    try:
        load_weights(classifier, _read(state)[1])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as exc:
        raise JobError(f"{state} can't be read: {exc}; delete {state.parent} to train again") from exc


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


def _read(state: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Any]]:
    record = json.loads((state / PROGRESS_FILE).read_text())
    if record.pop("format_version") > FORMAT_VERSION:
        raise ValueError("it was written by a newer version")
    digest, plain = record.pop("state_digest"), record.pop("plain")
    if _digest((state / STATE_FILE).read_bytes()) != digest:
        raise ValueError("it is damaged")
    return Progress(**record), load_file(state / STATE_FILE), plain


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
