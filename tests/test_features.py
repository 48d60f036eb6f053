"""A feature store gives back what was written, whole or by rows, and refuses what does not belong together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alt_ray.errors import FeatureError
from alt_ray.features.layout import STORE_KEY, StoreRecord
from alt_ray.features.store import FeatureStore, encoder_of_store, tensor_values
from alt_ray.versions import FORMAT_KEY
from tests.stores import LABELS, pocket_record, write_store


def test_rows_are_those_that_were_written_in_whatever_order_they_are_asked_for(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 23)))
    assert store.rows.num_rows == 23
    assert store.rows["video_id"].to_pylist() == [f"id{i:06d}" for i in range(23)]
    wanted = np.array([22, 0, 7, 7, 15])
    found = store.read(wanted)
    whole = pa.concat_tables([pq.read_table(part) for part in sorted((tmp_path / "regions").iterdir())])
    for name, (dtype, shape) in store.record.tensors.items():
        expected = tensor_values(whole[name], dtype, shape)[wanted]
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], expected)


def test_columns_are_as_documented_for_any_reader(tmp_path: Path) -> None:
    table = pq.read_table(write_store(tmp_path, 4, pocket_record(views=2)) / "regions")
    kind = table.schema.field("regions").type
    assert (kind.value_type, tuple(kind.shape)) == (pa.float16(), (4, 5, 128))
    assert tuple(table.schema.field("sizes").type.shape) == (4, 5)
    assert tuple(table.schema.field("region_of_patch").type.shape) == (4, 64)
    assert table["view"].to_pylist() == [0, 1] * 4
    assert table["label"].to_pylist()[::2] == list(LABELS)
    assert table.schema.metadata[FORMAT_KEY] == b"1"
    assert StoreRecord.of_metadata(table.schema.metadata, "here") == pocket_record(views=2)


def test_clips_are_one_row_each_whatever_their_views(tmp_path: Path) -> None:
    store = FeatureStore(str(write_store(tmp_path, 6, pocket_record(views=2, train_views=1))))
    clips = store.clips()
    assert clips.num_rows == 6
    assert clips["first_row"].to_pylist() == [0, 3, 6, 9, 12, 15]
    assert store.rows["augmented"].to_pylist()[:3] == [False, False, True]


def test_parts_of_another_encoder_are_refused_by_name(tmp_path: Path) -> None:
    write_store(tmp_path, 10)
    other = write_store(tmp_path / "other", 10, pocket_record(weights_digest="sha256:other"))
    (other / "regions" / "part-000000.parquet").rename(tmp_path / "regions" / "part-9.parquet")
    with pytest.raises(FeatureError, match=r"mixes parts.*encoder.weights_digest sha256:2.*sha256:other"):
        FeatureStore(str(tmp_path))


def test_a_clip_that_is_there_twice_is_noticed(tmp_path: Path) -> None:
    write_store(tmp_path, 10)
    part = tmp_path / "regions" / "part-000000.parquet"
    (tmp_path / "regions" / "part-copy.parquet").write_bytes(part.read_bytes())
    with pytest.raises(FeatureError, match="twice"):
        FeatureStore(str(tmp_path))


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="alt-ray encode"):
        FeatureStore(str(tmp_path))
    assert encoder_of_store(str(tmp_path)) is None
    (tmp_path / "regions").mkdir()
    pq.write_table(pa.table({"video_id": ["a"]}), tmp_path / "regions" / "a.parquet")
    with pytest.raises(FeatureError, match="no region features"):
        FeatureStore(str(tmp_path))
    (tmp_path / "regions" / "a.parquet").write_bytes(b"broken")
    with pytest.raises(FeatureError, match="delete it"):
        FeatureStore(str(tmp_path))


def test_a_newer_format_is_refused() -> None:
    metadata = {**pocket_record().schema().metadata, FORMAT_KEY: b"99"}
    with pytest.raises(FeatureError, match="format 99"):
        StoreRecord.of_metadata(metadata, "here")
    assert STORE_KEY in metadata


def test_the_digest_changes_with_labels_and_encoder_alone(tmp_path: Path) -> None:
    one = FeatureStore(str(write_store(tmp_path / "a", 20, part_clips=7)))
    same = FeatureStore(str(write_store(tmp_path / "b", 20, part_clips=20)))
    more = FeatureStore(str(write_store(tmp_path / "c", 21)))
    other = FeatureStore(str(write_store(tmp_path / "d", 20, replace(pocket_record(), dtype="bfloat16"))))
    assert one.digest == same.digest
    assert len({one.digest, more.digest, other.digest}) == 3
    assert encoder_of_store(str(tmp_path / "a")) == "pocket"
