"""A store says of its clips what the source said last, wherever that stands, and nothing else of it changes."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alt_ray.engine.annotate import annotate
from alt_ray.engine.sinks import REGIONS, OutputFolder
from alt_ray.errors import FeatureError, JobError
from alt_ray.features.annotations import ANNOTATED, SCHEMA, next_part_name
from alt_ray.features.store import FeatureStore
from alt_ray.video.manifest import INPUTS_SCHEMA, Inputs
from tests.stores import pocket_record, write_store

ALL = frozenset(ANNOTATED)


def source(store: Path, changes: dict[str, dict[str, Any]], given: frozenset[str] = ALL, limit: int = 100) -> Inputs:
    """What the store says now, but for the changes by video id; clips in another order than the store's."""
    rows = [{**row, **changes.get(row["video_id"], {})} for row in FeatureStore(str(store)).clips().to_pylist()]
    table = pa.Table.from_pylist([{k: row[k] for k in INPUTS_SCHEMA.names} for row in rows[:limit]], INPUTS_SCHEMA)
    return Inputs(table.take(list(reversed(range(table.num_rows)))), "source", {}, 0, given)


def update(store: Path, inputs: Inputs) -> dict[str, int]:
    return annotate(OutputFolder(str(store), REGIONS), inputs, quiet=True)


def said(store: Path, name: str) -> list[Any]:
    return FeatureStore(str(store)).clips()[name].to_pylist()


def test_what_changed_alone_is_written_and_rows_clips_and_digest_see_it(tmp_path: Path) -> None:
    store = write_store(tmp_path, 12, pocket_record(views=2), part_clips=5)
    before = FeatureStore(str(store))
    changes = {
        "id000003": {"label": "waving", "split": None},
        "id000007": {"group": "new"},
        "id000011": {"label": None},
    }
    assert update(store, source(store, changes)) == {"label": 2, "split": 1, "group": 1}
    [part] = (store / "annotations").iterdir()
    assert sorted(pq.read_table(part)["video_id"].to_pylist()) == sorted(changes)
    after = FeatureStore(str(store))
    assert after.digest != before.digest
    old, new = before.rows.to_pylist(), after.rows.to_pylist()
    assert new == [{**row, **changes.get(row["video_id"], {})} for row in old]
    assert after.rows.schema == before.rows.schema
    assert update(store, source(store, {})) == {}
    assert len(list((store / "annotations").iterdir())) == 1


def test_of_parts_written_in_one_second_the_last_holds_and_what_was_first_can_hold_again(tmp_path: Path) -> None:
    store = write_store(tmp_path, 4)
    first = FeatureStore(str(store)).digest
    for label in ("one", "two", None, "three"):
        update(store, source(store, {"id000001": {"label": label}}))
        assert said(store, "label")[1] == label
    update(store, source(store, {"id000001": {"label": "running"}}))
    assert FeatureStore(str(store)).digest == first
    assert len(list((store / "annotations").iterdir())) == 5


def test_clips_and_columns_that_the_source_does_not_have_keep_what_they_have(tmp_path: Path) -> None:
    store = write_store(tmp_path, 8)
    before = {name: said(store, name) for name in ANNOTATED}
    wiped = {f"id{i:06d}": dict.fromkeys(ANNOTATED) for i in range(8)}
    assert update(store, source(store, wiped, given=frozenset())) == {}
    update(store, source(store, wiped, given=frozenset({"split"}), limit=3))
    assert said(store, "split") == [None] * 3 + before["split"][3:]
    assert (said(store, "label"), said(store, "group")) == (before["label"], before["group"])
    # What an earlier part says of a column stays where a later source lacks it.
    update(store, source(store, {"id000000": {"label": "new", "split": "val"}}, given=frozenset({"label"})))
    assert (said(store, "label")[0], said(store, "split")[0]) == ("new", None)


def test_a_clip_that_is_encoded_again_does_not_get_back_what_was_said_in_between(tmp_path: Path) -> None:
    store = write_store(tmp_path, 8)
    update(store, source(store, {"id000003": {"label": "wrong"}}))
    right = source(store, {"id000003": {"label": "playing guitar"}})
    part = store / "regions" / "part-000000.parquet"
    kept = part.read_bytes()
    part.unlink()  # as the message about a broken part says; `encode` annotates first, and then encodes what is missing
    update(store, right)
    part.write_bytes(kept)
    assert said(store, "label")[3] == "playing guitar"


def test_numbers_order_parts_and_foreign_files_do_not_matter() -> None:
    names = ["part-00000009-aa.parquet", "part-00000010-bb.parquet", "part-x.parquet", "part-y-z.parquet"]
    assert next_part_name(names).startswith("part-00000011-")
    assert next_part_name([]).startswith("part-00000001-")


def test_a_part_of_annotations_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    store = write_store(tmp_path, 4)
    (store / "annotations").mkdir()
    inputs = source(store, {"id000000": {"label": "new"}})
    broken = store / "annotations" / "part-00000001-aa.parquet"
    broken.write_bytes(b"broken")
    with pytest.raises(FeatureError, match=r"part-00000001-aa.*delete it"):
        FeatureStore(str(store))
    with pytest.raises(JobError, match=r"part-00000001-aa.*delete it"):
        update(store, inputs)
    pq.write_table(SCHEMA.empty_table().replace_schema_metadata({b"alt_ray_format_version": b"99"}), broken)
    with pytest.raises(FeatureError, match="format 99"):
        FeatureStore(str(store))
