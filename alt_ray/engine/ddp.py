"""How training workers work together: torch.distributed, as Ray Train has set it up. Knows nothing of what is trained."""

from collections.abc import Callable
from typing import Any

import ray.train.torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alt_ray.training.place import Place


def place_of(say: Callable[[dict[str, Any]], None]) -> Place:
    """This worker's place among the others."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    device = ray.train.torch.get_device()

    def reduce(values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def gather(value: Any) -> list[Any]:
        found: list[Any] = [None] * world_size
        dist.all_gather_object(found, value)
        return found

    def wrap(classifier: nn.Module) -> nn.Module:
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(classifier, device_ids=ids)

    return Place(
        rank=rank,
        world_size=world_size,
        device=str(device),
        reduce=reduce,
        gather=gather,
        wrap=wrap,
        barrier=lambda: dist.barrier(),
        say=say if rank == 0 else lambda entry: None,
    )
