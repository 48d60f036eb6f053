"""Frames on their way through the encoder: in batches of one size, copied ahead of it, halved where memory ends. Knows no videos.

On a GPU everything but the copy into page-locked memory is asynchronous: while one batch is computed, the next one is copied to
the device on a stream of its own, and nothing is waited for until somebody reads results. On a CPU it is a plain loop.

F frames, H x W pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from alt_ray.errors import ModelError

if TYPE_CHECKING:
    from alt_ray.models.encoder import RegionEncoder, Regions

# Frames that the encoder sees at once on a CPU. More only pushes activations out of the caches: ViT-S-32 made 57 images/s
# with 32 of them and 42 with 64.
CPU_FRAMES = 32
GPU_FRAMES = 256  # where nobody asked and nothing was probed; not measured
STAGES = 2  # page-locked buffers: one is filled while the other is copied from


_Value = TypeVar("_Value")


class FrameFeeder:
    """Gives frames to an encoder, `frames_per_batch` at a time, and halves that for good where memory does not suffice.

    compiled: run the encoder through torch.compile, at this one shape; the last batch is filled up and cut again.
    """

    def __init__(
        self, encoder: "RegionEncoder", frames_per_batch: int | None = None, *, compiled: bool = False
    ) -> None:
        if frames_per_batch is not None and frames_per_batch < 1:
            raise ModelError(f"frames_per_batch {frames_per_batch}: expected 1 or more, or None for the default")
        self.encoder = encoder
        self.is_cuda = encoder.device.type == "cuda"
        self.frames_per_batch = frames_per_batch or (GPU_FRAMES if self.is_cuda else CPU_FRAMES)
        self.is_compiled = compiled
        self._encode: Callable[[Tensor], Regions] = encoder.encode_frames
        if compiled:
            self._encode = torch.compile(encoder.encode_frames, dynamic=False)
        self._stage: _Stage | None = None

    def regions(self, frames_FHW3: np.ndarray) -> "Iterator[Regions]":
        """Encode uint8 RGB frames, and yield the regions of some of them at a time, in order, on the encoder's device.

        Raises ModelError where not even one frame fits into memory.
        """
        position = 0
        while position < len(frames_FHW3):
            try:
                for found in self._regions(frames_FHW3[position:]):
                    yield found
                    position += len(found.tokens)
            except (RuntimeError, MemoryError) as exc:
                if not is_out_of_memory(exc):
                    raise
                reason = str(exc)
            else:
                return
            self._halve(reason)  # out of the except block: its exception holds on to what filled the memory

    def attempt(self, work: Callable[[], _Value]) -> _Value | None:
        """Return what `work` does with regions; None, with a smaller batch from now on, where memory does not suffice for it.

        Raises ModelError where the batch is a single frame already.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            reason = str(exc)
        self._halve(reason)
        return None

    def _halve(self, reason: str) -> None:
        if self.frames_per_batch == 1:
            raise ModelError(
                f"one frame of {self.encoder.image_size} pixels does not fit into the memory that is left "
                f"({reason.splitlines()[0]}); give fewer actors a machine or a GPU, or take a smaller encoder"
            )
        self.frames_per_batch = (self.frames_per_batch + 1) // 2
        self._stage = None
        if self.is_cuda:
            torch.cuda.empty_cache()

    def whole(self, frames_FHW3: np.ndarray) -> "Regions":
        """The regions of all frames at once."""
        parts = list(self.regions(frames_FHW3))
        return replace(
            parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])}
        )

    def _regions(self, frames_FHW3: np.ndarray) -> "Iterator[Regions]":
        size = self.frames_per_batch
        copied = self._copied(frames_FHW3[:size])
        for stop in range(size, len(frames_FHW3) + size, size):
            found = self._encoded(copied)
            if stop < len(frames_FHW3):  # a GPU computes what was just queued, meanwhile
                copied = self._copied(frames_FHW3[stop : stop + size])
            yield found

    def _encoded(self, frames_FHW3: Tensor) -> "Regions":
        num = len(frames_FHW3)
        missing = self.frames_per_batch - num if self.is_compiled else 0
        if missing:
            frames_FHW3 = torch.cat([frames_FHW3, frames_FHW3[-1:].expand(missing, -1, -1, -1)])
        found = self._encode(self.encoder.normalise(frames_FHW3))
        if missing:
            found = replace(found, **{name: value[:num] for name, value in vars(found).items()})
        return found

    def _copied(self, frames_FHW3: np.ndarray) -> Tensor:
        """The frames as a tensor of its own on the device: what comes from Ray is read-only shared memory."""
        if not self.is_cuda:
            return torch.tensor(frames_FHW3)
        if self._stage is None or not self._stage.fits(frames_FHW3):
            self._stage = _Stage((self.frames_per_batch, *frames_FHW3.shape[1:]), self.encoder.device)
        return self._stage.copied(frames_FHW3)


class _Stage:
    """Page-locked buffers and a stream, by which frames are copied to a GPU while it computes."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.device = device
        self.stream: Any = torch.cuda.Stream(device)
        self.buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(STAGES)]
        self.is_free = [torch.cuda.Event() for _ in range(STAGES)]
        self.next = 0

    def fits(self, frames_FHW3: np.ndarray) -> bool:
        buffer = self.buffers[0]
        return len(frames_FHW3) <= len(buffer) and frames_FHW3.shape[1:] == tuple(buffer.shape[1:])

    def copied(self, frames_FHW3: np.ndarray) -> Tensor:
        i, self.next = self.next, (self.next + 1) % STAGES
        self.is_free[i].synchronize()  # what was copied from it last is on the device; nothing on the first use
        num = len(frames_FHW3)
        np.copyto(self.buffers[i][:num].numpy(), frames_FHW3)
        with torch.cuda.stream(self.stream):
            on_device = self.buffers[i][:num].to(self.device, non_blocking=True)
            self.is_free[i].record(self.stream)
        compute = torch.cuda.current_stream(self.device)
        compute.wait_stream(self.stream)
        on_device.record_stream(compute)  # or its memory would be given away while it is still read
        return on_device


def to_host(tensor: Tensor) -> Tensor:
    """Copy to the CPU's memory; from a GPU without waiting for it: `wait_for_device` must come before it is read."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def wait_for_device(device: torch.device) -> None:
    """Wait until everything that was queued on a GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice: a GPU's has a class of its own, a CPU's is known by its text alone."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(
        text in str(error) for text in ("can't allocate memory", "could not create a primitive")
    )  # torch's, oneDNN's
