"""The regions of many clips in memory, and batches of them in an order that a seed decides. Knows nothing of files or videos.

Float16, as they are stored: 8 frames of ViT-B/16 with r = 8 take 0.8 MB a clip.

N clips, B clips of a batch, T frames, R tokens of a frame, P patches, D joint dimension.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alt_ray.errors import ModelError
from alt_ray.models.encoder import RegionEncoder
from alt_ray.models.training import RegionBatch


@dataclass(frozen=True)
class RegionSet:
    """The regions of N clips, each with the index of its label. `align_tokens` only where other features align regions."""

    tokens: Tensor  # [N, T, R, D] float16
    sizes: Tensor  # [N, T, R] float16
    region_of_patch: Tensor  # [N, T, P] int16
    pooled: Tensor  # [N, T, D] float16
    target: Tensor  # [N] int64
    align_tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.target)

    def take(self, index_B: Tensor) -> RegionBatch:
        """Return some clips as a batch; indices may be those of a bool mask [N] too."""
        return RegionBatch(
            tokens=self.tokens[index_B].float(),
            sizes=self.sizes[index_B].float(),
            target=self.target[index_B],
            region_of_patch=self.region_of_patch[index_B].long(),
            pooled=self.pooled[index_B].float(),
            align_tokens=None if self.align_tokens is None else self.align_tokens[index_B].float(),
        )

    def subset(self, index_B: Tensor) -> "RegionSet":
        """Return the set of some of the clips."""
        fields = (self.tokens, self.sizes, self.region_of_patch, self.pooled, self.target, self.align_tokens)
        return RegionSet(*(None if field is None else field[index_B] for field in fields))  # type: ignore[arg-type]

    def with_target(self, target_N: Tensor) -> "RegionSet":
        """Return the same clips with other labels."""
        return RegionSet(
            self.tokens, self.sizes, self.region_of_patch, self.pooled, target_N, align_tokens=self.align_tokens
        )

    def in_order(self, batch_size: int) -> Iterator[RegionBatch]:
        """Yield all clips in order."""
        for index_B in torch.arange(len(self)).split(batch_size):
            yield self.take(index_B)

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> Iterator[RegionBatch]:
        """Yield all clips in an order that (seed, epoch) decides, in `num_batches` batches."""
        order_N = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(self)))
        for index_B in order_N.split(batch_size):
            yield self.take(index_B)

    def num_batches(self, batch_size: int) -> int:
        return math.ceil(len(self) / batch_size)


@torch.inference_mode()
def encode_clips(
    encoder: RegionEncoder, clips: Iterable[np.ndarray], target: Sequence[int], *, clips_per_batch: int = 16
) -> RegionSet:
    """Encode clips, uint8 RGB [T, S, S, 3] at the encoder's image size S, all of T frames, into a RegionSet.

    `clips` may be lazy; `target` has as many indices. Raises ModelError where it has not.
    """
    parts: list[tuple[Tensor, ...]] = []
    waiting: list[np.ndarray] = []

    def encode() -> None:
        B, T = len(waiting), len(waiting[0])
        frames = torch.from_numpy(np.stack(waiting)).flatten(0, 1)
        regions = encoder.encode_frames(encoder.normalise(frames))
        found = (
            regions.tokens.half(),
            regions.sizes.half(),
            regions.region_of_patch.short(),
            regions.pooled.half(),
            regions.align_tokens.half(),
        )
        own = len(found) if encoder.region_features != "final" else len(found) - 1
        parts.append(tuple(tensor.cpu().unflatten(0, (B, T)) for tensor in found[:own]))
        waiting.clear()

    for clip in clips:
        waiting.append(clip)
        if len(waiting) == clips_per_batch:
            encode()
    if waiting:
        encode()
    whole = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
    if not whole or len(whole[0]) != len(target):
        raise ModelError(f"{len(whole[0]) if whole else 0} clips with {len(target)} targets: expected as many, and one")
    tokens, sizes, region_of_patch, pooled = whole[:4]
    target_N = torch.tensor(list(target), dtype=torch.int64)
    return RegionSet(tokens, sizes, region_of_patch, pooled, target_N, *whole[4:])
