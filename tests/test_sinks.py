"""What is published is whole, what is not does not exist, and nothing is there twice."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alt_ray.engine.sinks import FAILURES, LABELS, TEMPORARY, OutputFolder, refuse_other_settings
from alt_ray.engine.writers import ResultWriter
from alt_ray.errors import JobError, UsageError
from alt_ray.schema import failure_schema, label_schema, result_schema

SCHEMA = label_schema(4)


def results(labelled: list[str], failed: list[str] = []) -> pa.Table:  # noqa: B006 (never changed)
    rows = [{"video_id": i, "uri": f"/{i}", "label": "run", "score": 1.0, "embedding": [0.5] * 4} for i in labelled]
    rows += [
        {"video_id": i, "uri": f"/{i}", "stage": "open", "error": "not_found", "message": "gone", "attempts": 1}
        for i in failed
    ]
    return pa.Table.from_pylist(rows, result_schema(SCHEMA))


def test_labels_and_failures_are_published_apart_with_their_columns(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    with ResultWriter(folder, SCHEMA) as writer:
        assert writer.add(results(["a", "b"], ["c"])) == (2, 1)
    assert pq.read_table(tmp_path / LABELS).schema.names == SCHEMA.names
    assert pq.read_table(tmp_path / FAILURES).schema.names == failure_schema().names
    assert sorted(folder.ids(LABELS).to_pylist()) == ["a", "b"]
    assert folder.ids(FAILURES).to_pylist() == ["c"]


def test_what_is_published_counts_for_the_inputs_asked_about(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    with ResultWriter(folder, SCHEMA) as writer:
        writer.add(results(["a", "b"], ["c", "z"]))
    published = folder.published(pa.chunked_array([["a", "c", "d"]]))
    assert published.is_done.to_pylist() == [True, True, False]
    assert (published.labelled, published.failures, published.num_twice) == (1, {"not_found": 1}, 0)


def test_an_id_that_stands_twice_is_noticed(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    for _ in range(2):
        with ResultWriter(folder, SCHEMA) as writer:
            writer.add(results(["a"]))
    assert folder.published(pa.chunked_array([["a"]])).num_twice == 1


def test_of_nested_settings_those_that_differ_are_shown() -> None:
    one = {"learning": {f"name{i}": i for i in range(40)}, "seed": 1}
    other = {"learning": {**one["learning"], "name37": "x"}, "seed": 1}  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r'learning.name37: 37 there, "x" now$'):
        refuse_other_settings(one, other, "here")


def test_what_was_collected_is_published_when_the_job_breaks(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    with pytest.raises(RuntimeError), ResultWriter(folder, SCHEMA) as writer:
        writer.add(results(["a"]))
        raise RuntimeError
    assert folder.ids(LABELS).to_pylist() == ["a"]


def test_leftovers_of_a_killed_run_are_no_results_and_are_cleared(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    leftover = tmp_path / TEMPORARY / "part-x.parquet"
    leftover.write_bytes(b"half a file")
    assert len(folder.ids(LABELS)) == 0
    with folder.lock():
        assert not leftover.exists()


def test_a_second_run_into_the_folder_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    first, second = OutputFolder(str(tmp_path)), OutputFolder(str(tmp_path))
    with first.lock(), pytest.raises(UsageError, match="another run"), second.lock():
        pass
    with second.lock():
        pass


def test_forgotten_failures_are_not_begun(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    with ResultWriter(folder, SCHEMA) as writer:
        writer.add(results(["a"], ["b"]))
    assert folder.forget_failures() == 1
    assert folder.published(pa.chunked_array([["a", "b"]])).is_done.to_pylist() == [True, False]


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    folder = OutputFolder(str(tmp_path))
    (tmp_path / LABELS / "part-1.parquet").write_bytes(b"not parquet")
    with pytest.raises(JobError, match=r"part-1\.parquet"):
        folder.ids(LABELS)


def test_a_newer_format_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"format_version": 99, "alt_ray_version": "7.0"}))
    with pytest.raises(UsageError, match=r"format 99.*alt_ray 7\.0"):
        OutputFolder(str(tmp_path)).read_run()


def test_other_settings_are_refused_with_the_difference() -> None:
    with pytest.raises(UsageError, match="frames: 8 there, 16 now") as error:
        refuse_other_settings({"frames": 8, "views": 1}, {"frames": 16, "views": 1}, "out")
    assert "views" not in str(error.value)


def test_a_folder_that_can_not_be_made_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out"):
        OutputFolder(str(tmp_path / "file" / "out"))
