"""How training workers work together: a process group of torch.distributed that is set up already. Knows nothing of Ray, nor of
what is trained."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alt_ray.training.place import Place


def place_of(
    device: torch.device,
    say: Callable[[dict[str, Any]], None] = lambda entry: None,
    writing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Place:
    """This worker's place among the others, computing on `device`."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    if device.type == "cuda":
        torch.cuda.set_device(
            device
        )  # objects are gathered through the current one, and two workers can't have the same

    def reduce(values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def gather(value: Any) -> list[Any]:
        found: list[Any] = [None] * world_size
        dist.all_gather_object(found, value)
        return found

    def share(value: Any) -> Any:
        box = [value if rank == 0 else None]
        dist.broadcast_object_list(box, src=0, device=device if device.type == "cuda" else None)  # nccl has GPUs alone
        return box[0]

    def wrap(classifier: nn.Module) -> nn.Module:
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(classifier, device_ids=ids)

    return Place(
        rank=rank,
        world_size=world_size,
        device=str(device),
        reduce=reduce,
        gather=gather,
        share=share,
        wrap=wrap,
        barrier=lambda: dist.barrier(),
        say=say if rank == 0 else lambda entry: None,
        writing=writing,
    )
