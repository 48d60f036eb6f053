"""Which worker this is, and how it works together with the others. Knows nothing of what they do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from alt_ray.config import Device
from alt_ray.errors import UsageError


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Place:
    """Which worker this is, and how it works together with the others; alone by default.

    reduce: sum a tensor over all workers, in place. gather: the values of all workers, in order of rank, on rank 0 (others get
    any). wrap: DDP around a classifier. barrier: wait until everybody is here. say: tell the driver something, on rank 0.
    """

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    reduce: Callable[[Tensor], Tensor] = _same
    gather: Callable[[Any], list[Any]] = field(default=lambda value: [value])
    wrap: Callable[[nn.Module], nn.Module] = _same
    barrier: Callable[[], Any] = field(default=lambda: None)
    say: Callable[[dict[str, Any]], None] = field(default=lambda entry: None)

    def warn(self, text: str) -> None:
        if self.rank == 0:
            self.say({"warning": text})


def local_device(wanted: Device) -> str:
    """The device of a training in this process. Raises UsageError for a GPU that torch does not see."""
    if wanted == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UsageError("--device cuda, but torch sees no GPU here; --device cpu runs without")
    return "cpu"
