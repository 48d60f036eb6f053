"""A store is gone through once, every clip in one shard, and what is read is what was written."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alt_ray.errors import FeatureError
from alt_ray.features.ranges import RowRange, read_ranges, shards_of
from alt_ray.features.store import FeatureStore
from tests.stores import pocket_record, write_store


def ranges_of(shards: list[pa.Table]) -> list[RowRange]:
    return [RowRange(**row) for shard in shards for row in shard.to_pylist()]


@pytest.mark.parametrize("clips_per_shard", [1, 7, 16, 100])
def test_every_clip_is_in_one_shard_and_only_test_views_are_read(tmp_path: Path, clips_per_shard: int) -> None:
    store = FeatureStore(str(write_store(tmp_path, 25, pocket_record(views=2, train_views=1))))
    shards = shards_of(store.places(), store.part_uris(), 3, clips_per_shard)
    sizes = [sum((row["stop"] - row["start"]) // 3 for row in shard.to_pylist()) for shard in shards]
    assert sum(sizes) == 25 and set(sizes[:-1]) <= {clips_per_shard}
    tables = list(read_ranges(ranges_of(shards), store.record, ("regions", "augmented"), 4))
    assert max(table.num_rows for table in tables) <= 8
    whole = pa.concat_tables(tables)
    assert whole["video_id"].to_pylist() == [f"id{i // 2:06d}" for i in range(50)]
    assert not any(whole["augmented"].to_pylist())
    expected = store.read([3 * (i // 2) + i % 2 for i in range(50)])["regions"]
    np.testing.assert_array_equal(
        np.stack([row.as_py() for row in whole["regions"].combine_chunks().storage]).reshape(expected.shape), expected
    )


def test_of_some_clips_only_their_rows_are_named(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 25)))
    clips = store.places().take([24, 3, 4, 0])
    named = [
        (Path(found.uri).name, found.start, found.stop)
        for found in ranges_of(shards_of(clips, store.part_uris(), 1, 9))
    ]
    assert named == [("part-000000.parquet", 0, 1), ("part-000000.parquet", 3, 5), ("part-000020.parquet", 4, 5)]


def test_several_readers_give_rows_in_the_same_order(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 40)))
    ranges = ranges_of(shards_of(store.places(), store.part_uris(), 1, 8))
    one, three = (
        pa.concat_tables(read_ranges(ranges, store.record, ("pooled",), 3, num_threads=threads)) for threads in (1, 3)
    )
    assert one.equals(three)


def test_a_part_that_changed_since_the_store_was_opened_is_refused(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 10, pocket_record(views=2))))
    ranges = ranges_of(shards_of(store.places(), store.part_uris(), 2, 10))
    part = tmp_path / "regions" / "part-000000.parquet"
    table = pq.read_table(part)
    pq.write_table(table.take(pa.array([1, 0, *range(2, 20)])), part)
    with pytest.raises(FeatureError, match="one after another"):
        list(read_ranges(ranges, store.record, (), 4))
    pq.write_table(table.slice(0, 10), part)
    with pytest.raises(FeatureError, match="10 rows"):
        list(read_ranges(ranges, store.record, (), 10))
    part.unlink()
    with pytest.raises(FeatureError, match="can't be read"):
        list(read_ranges(ranges, store.record, (), 4))
