"""Which worker this is, and how it works together with the others. Knows nothing of what they do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


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
