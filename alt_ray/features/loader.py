"""Batches of stored regions for training and testing, in an order that a seed decides. Knows nothing of Ray or of models.

The order of an epoch is a pure function of (seed, epoch) and of nothing else: however many workers there are, step s of an epoch
has the same clips, of which each worker reads its share; and a training that goes on after a stop sees what it would have seen.
Clips are read when they are needed, a few batches ahead, so memory does not grow with the store.

N clips of a training, B clips of a step (over all workers).
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from alt_ray.errors import FeatureError
from alt_ray.features.store import WINDOW_PARTS, FeatureStore
from alt_ray.models.training import RegionBatch


@dataclass(frozen=True)
class Share:
    """Which part of each step a worker reads: rank `rank` of `world_size`, in `accumulate` batches."""

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world_size
        assert self.accumulate >= 1


class BatchLoader:
    """Batches of the clips whose view 0 stands at `first_rows` [N] of the store, with the indices `target` [N] of their labels.

    batch_clips: B. In training, a clip is read in another of its views in each epoch, the augmented ones if there are any.
    pin: put batches where a GPU copies from without the processor waiting. `wait_s` is how long the reader of batches had to
    wait for them, in all. Raises FeatureError for no clips, or a batch smaller
    than its shares.
    """

    def __init__(
        self,
        store: FeatureStore,
        first_rows: np.ndarray,
        target: np.ndarray,
        *,
        batch_clips: int,
        seed: int = 0,
        share: Share | None = None,
        pin: bool = False,
        num_threads: int = 2,
        ahead: int = 3,
    ) -> None:
        self.share = share or Share()
        if not len(first_rows):
            raise FeatureError("no clips to read: expected at least one")
        pieces = self.share.world_size * self.share.accumulate
        if batch_clips < pieces:
            raise FeatureError(
                f"a batch of {batch_clips} clips can't be shared by {self.share.world_size} workers in {self.share.accumulate} "
                f"parts each: expected at least {pieces}"
            )
        self.store, self.seed = store, seed
        self.first_rows, self.target = np.asarray(first_rows, np.int64), np.asarray(target, np.int64)
        self.batch_clips = batch_clips
        self.pin, self.num_threads, self.ahead = pin, num_threads, ahead
        self.wait_s = 0.0
        parts, self._part = np.unique(store.part_of(self.first_rows), return_inverse=True)
        self._num_parts = len(parts)
        sampling = store.record.sampling
        num_test, num_train = int(sampling["views"]), int(sampling["train_views"])
        self._views = np.arange(num_test, num_test + num_train) if num_train else np.arange(num_test)
        self._first_view = np.random.default_rng((seed, 0)).integers(len(self._views), size=len(self.first_rows))

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.first_rows) / self.batch_clips)

    def order(self, epoch: int) -> np.ndarray:
        """The clips [N] (indices into first_rows) in the order of an epoch (0-based).

        Parts are taken in random order, WINDOW_PARTS at a time, and their clips in random order: to read a clip, its part must be
        open, and random reads over all parts of a large store are six times slower (docs/decisions/features.md).
        """
        rng = np.random.default_rng((self.seed, 1 + epoch))
        place = rng.permutation(self._num_parts)
        return np.lexsort((rng.random(len(self.first_rows)), place[self._part] // WINDOW_PARTS))

    def epoch(self, epoch: int) -> Iterator[RegionBatch]:
        """Yield this worker's batches of an epoch, `accumulate` for each step."""
        order = self.order(epoch)
        views = self._views[(self._first_view + epoch) % len(self._views)]
        wanted = []
        for start in range(0, len(order), self.batch_clips):
            clips = order[start : start + self.batch_clips]
            for part in range(self.share.accumulate):
                own = clips[
                    self.share.rank + part * self.share.world_size :: self.share.world_size * self.share.accumulate
                ]
                weight = len(own) * self.share.world_size / len(clips)
                own = own if len(own) else clips[:1]  # every worker takes part in every step, if with weight 0
                wanted.append((self.first_rows[own] + views[own], self.target[own], weight))
        yield from self._read_ahead(wanted)

    def in_order(self) -> Iterator[RegionBatch]:
        """Yield this worker's clips in order, all test views of each: rank, rank + world_size, ... of N, V rows a clip."""
        num_test = int(self.store.record.sampling["views"])
        own = np.arange(self.share.rank, len(self.first_rows), self.share.world_size)
        step = max(1, self.batch_clips // (num_test * self.share.world_size))
        wanted = []
        for start in range(0, len(own), step):
            clips = own[start : start + step]
            rows = (self.first_rows[clips][:, None] + np.arange(num_test)).reshape(-1)
            wanted.append((rows, self.target[clips].repeat(num_test), 1.0))
        yield from self._read_ahead(wanted)

    def _read_ahead(self, wanted: list[tuple[np.ndarray, np.ndarray, float]]) -> Iterator[RegionBatch]:
        waiting: deque[Future[RegionBatch]] = deque()
        with ThreadPoolExecutor(self.num_threads) as pool:
            try:
                for request in wanted:
                    waiting.append(pool.submit(self._batch, *request))
                    if len(waiting) > self.ahead:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            finally:
                for future in waiting:
                    future.cancel()

    def _next(self, waiting: "deque[Future[RegionBatch]]") -> RegionBatch:
        begun_s = time.perf_counter()
        batch = waiting.popleft().result()
        self.wait_s += time.perf_counter() - begun_s
        return batch

    def _batch(self, rows: np.ndarray, target: np.ndarray, weight: float) -> RegionBatch:
        found = {name: torch.from_numpy(_signed(values)) for name, values in self.store.read(rows).items()}
        batch = RegionBatch(
            tokens=found["regions"].float(),
            sizes=found["sizes"].float(),
            target=torch.from_numpy(target),
            region_of_patch=found["region_of_patch"].long(),
            pooled=found["pooled"].float(),
            align_tokens=found["align"].float() if "align" in found else None,
            weight=weight,
        )
        return batch.pinned() if self.pin else batch


def _signed(values: np.ndarray) -> np.ndarray:
    """As torch takes it: it does little with uint16."""
    return values.astype(np.int32) if values.dtype == np.uint16 else values
