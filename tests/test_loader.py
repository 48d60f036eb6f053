"""Training reads each clip once an epoch, the same clips in a step however many workers there are, and no more than it needs."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alt_ray.errors import FeatureError
from alt_ray.features.loader import BatchLoader, Share
from alt_ray.features.store import WINDOW_PARTS, FeatureStore
from tests.stores import pocket_record, write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(str(write_store(tmp_path_factory.mktemp("store"), 50)))


def loader(store: FeatureStore, batch: int = 8, share: Share | None = None, seed: int = 0) -> BatchLoader:
    rows = store.clips()["first_row"].to_numpy()
    return BatchLoader(store, rows, np.arange(len(rows)), batch_clips=batch, share=share, seed=seed)


def steps(store: FeatureStore, world_size: int, accumulate: int, epoch: int = 0) -> list[list[int]]:
    """The clips (targets) of each step, over all workers, without those that only fill up."""
    found: list[list[int]] = []
    for rank in range(world_size):
        own = loader(store, share=Share(rank, world_size, accumulate))
        for i, batch in enumerate(own.epoch(epoch)):
            step = i // accumulate
            found += [[]] * (step + 1 - len(found))
            found[step] = found[step] + (batch.target.tolist() if batch.weight else [])
    return [sorted(step) for step in found]


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (3, 1), (1, 4), (2, 3)])
def test_a_step_has_the_same_clips_for_any_number_of_workers(
    store: FeatureStore, world_size: int, accumulate: int
) -> None:
    alone = steps(store, 1, 1)
    assert steps(store, world_size, accumulate) == alone
    assert sorted(clip for step in alone for clip in step) == list(range(50))


def test_weights_make_the_mean_over_workers_the_mean_over_the_step(store: FeatureStore) -> None:
    world_size, accumulate = 4, 2
    weights = np.array(
        [
            [batch.weight for batch in loader(store, share=Share(rank, world_size, accumulate)).epoch(0)]
            for rank in range(4)
        ]
    )
    per_step = weights.reshape(world_size, -1, accumulate).sum(axis=(0, 2)) / world_size
    np.testing.assert_allclose(per_step, 1)
    assert (weights[:, -accumulate:] == 0).any()  # the last step has 2 clips for 8 parts


def test_epochs_and_seeds_differ_and_repeat(store: FeatureStore) -> None:
    assert (loader(store).order(0) == loader(store).order(0)).all()
    assert (loader(store).order(0) != loader(store).order(1)).any()
    assert (loader(store).order(0) != loader(store, seed=1).order(0)).any()


def test_a_large_store_is_mixed_a_few_parts_at_a_time(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 200, part_clips=4)))
    own = loader(store)
    orders = [own.order(epoch) for epoch in range(2)]
    windows = []
    for order in orders:
        assert sorted(order) == list(range(200))
        windows.append([set(order[start : start + 4 * WINDOW_PARTS] // 4) for start in range(0, 200, 4 * WINDOW_PARTS)])
    assert all(len(window) <= WINDOW_PARTS for order in windows for window in order)
    assert windows[0] != windows[1]
    assert (np.diff(orders[0][:20]) != 1).any()


def test_augmented_views_take_turns_and_tests_never_see_them(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 6, pocket_record(views=2, train_views=3))))
    rows = store.clips()["first_row"].to_numpy()
    own = BatchLoader(store, rows, np.arange(6), batch_clips=6)
    tokens = {int(t): [] for t in range(6)}
    for epoch in range(3):
        for batch in own.epoch(epoch):
            for target, clip in zip(batch.target.tolist(), batch.tokens.numpy(), strict=True):
                tokens[target].append(clip)
    for clip, seen in tokens.items():
        augmented = store.read(np.arange(rows[clip] + 2, rows[clip] + 5))["regions"].astype(np.float32)
        assert sorted(view.sum() for view in seen) == sorted(view.sum() for view in augmented)
    tested = np.concatenate([batch.tokens.numpy() for batch in own.in_order()])
    np.testing.assert_array_equal(tested[:2], store.read([rows[0], rows[0] + 1])["regions"].astype(np.float32))
    assert len(tested) == 12


def test_in_order_gives_each_worker_its_share(store: FeatureStore) -> None:
    whole = [t for batch in loader(store).in_order() for t in batch.target.tolist()]
    assert whole == list(range(50))
    shares = [
        [t for batch in loader(store, share=Share(rank, 3)).in_order() for t in batch.target.tolist()]
        for rank in range(3)
    ]
    assert shares == [list(range(rank, 50, 3)) for rank in range(3)]


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    def peak(num_clips: int) -> int:
        store = FeatureStore(str(write_store(tmp_path / str(num_clips), num_clips, part_clips=50)))
        own = loader(store, batch=10)
        tracemalloc.start()
        for _ in own.epoch(0):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few, many = peak(100), peak(1000)
    assert many < 2 * few + 2_000_000


def test_no_clips_and_too_small_batches_are_refused(store: FeatureStore) -> None:
    with pytest.raises(FeatureError, match="no clips"):
        BatchLoader(store, np.zeros(0, int), np.zeros(0, int), batch_clips=4)
    with pytest.raises(FeatureError, match="at least 6"):
        loader(store, batch=5, share=Share(0, 3, 2))
