"""How a worker's encoder is fed: the batch size that its share of a device allows. Knows nothing of Ray, nor of regions.

The size is found once a job, where the model is prepared, and handed to every worker; one with less memory halves it for itself.
"""

from typing import TYPE_CHECKING, Protocol

import torch

from alt_ray.config import EncoderOptions
from alt_ray.models.feeding import FrameFeeder
from alt_ray.models.probing import probe_batch

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder


class Request(Protocol):
    """What of a request for a model or an encoder says how it is fed."""

    @property
    def encoder(self) -> EncoderOptions: ...
    @property
    def device(self) -> str: ...
    @property
    def gpu_share(self) -> float: ...


def keep_to_share(request: Request) -> None:
    """Let this process have its share of a GPU's memory and no more: what one actor takes, another one beside it lacks."""
    if request.device == "cuda" and 0 < request.gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(request.gpu_share)


def frames_for(request: Request, encoder: "RegionEncoder") -> int | None:
    """Frames that the encoder takes at once: as asked for, or found by trying on a GPU. None: the default of a CPU.

    Raises ModelError where not even one frame fits.
    """
    if request.encoder.frames_per_batch is not None or request.device != "cuda":
        return request.encoder.frames_per_batch
    return probe_batch(encoder)[0]


def feeder_for(request: Request, encoder: "RegionEncoder", frames_per_batch: int | None) -> FrameFeeder:
    """Return what gives frames to the encoder on this worker."""
    return FrameFeeder(encoder, frames_per_batch, compiled=request.encoder.compile)
