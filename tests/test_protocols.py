import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from alt_ray.errors import UsageError
from alt_ray.evaluation import names, splits
from alt_ray.evaluation.options import ProtocolOptions
from alt_ray.evaluation.protocols import evaluation_tasks, training_tasks
from alt_ray.evaluation.task import Task
from tests.media import REAL_VIDEOS, needs_real_videos

TEXT = ("video_id", "uri", "label", "split", "group")


def table(rows: Sequence[dict[str, str | None]]) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in TEXT})


def labelled(counts: dict[str, int], **fields: str) -> pa.Table:
    """So many clips of each label, each a file of its own."""
    rows = [{"label": label, **fields} for label, count in counts.items() for _ in range(count)]
    return table([{**row, "video_id": f"id{i}", "uri": f"/v/{row['label']}/{i}.avi"} for i, row in enumerate(rows)])


def grouped(num_groups: int, labels: Sequence[str], clips: int = 1) -> pa.Table:
    """So many clips of every label in every group."""
    rows = [
        {"label": label, "group": f"g{g}", "video_id": f"g{g}-{label}-{i}"}
        for g in range(num_groups)
        for label in labels
        for i in range(clips)
    ]
    return table(rows)


def given_split(counts: dict[tuple[str, str | None], int]) -> pa.Table:
    rows = [{"label": label, "split": part} for (label, part), count in counts.items() for _ in range(count)]
    return table([{**row, "video_id": f"id{i}", "uri": f"/v/{row['label']}/{i}.avi"} for i, row in enumerate(rows)])


def column(clips: pa.Table, index: np.ndarray, name: str = "label") -> list:
    return clips[name].take(pa.array(index)).to_pylist()


def ids(clips: pa.Table, index: np.ndarray) -> set[str]:
    return set(column(clips, index, "video_id"))


def shuffled(clips: pa.Table, seed: int = 0) -> pa.Table:
    return clips.take(pa.array(np.random.default_rng(seed).permutation(clips.num_rows)))


def no_clip_twice(split: splits.Split | Task) -> bool:
    tests = [split.test] if isinstance(split, splits.Split) else [np.unique(np.concatenate([*split.tests.values()]))]
    together = np.concatenate([split.train, split.val, *tests])
    return len(np.unique(together)) == len(together)


def weizmann() -> pa.Table:
    with (REAL_VIDEOS / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "weizmann"]
    return table(
        [
            {
                "video_id": Path(row["path"]).stem,
                "uri": f"/data/{row['path']}",
                "label": row["label"],
                "group": Path(row["path"]).stem.split("_")[0],
            }
            for row in rows
        ]
    )


# Splits by seed


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_exact_for_each_label_where_clips_are_single(seed: int) -> None:
    clips = labelled({"a": 10, "b": 20, "c": 100})
    split = splits.supervised_split(clips, seed, 0.3, 0.1)
    assert Counter(column(clips, split.test)) == {"a": 3, "b": 6, "c": 30}
    assert Counter(column(clips, split.val)) == {"a": 1, "b": 2, "c": 10}
    assert len(split.train) == 130 - 39 - 13
    assert no_clip_twice(split)
    assert all((np.diff(part) > 0).all() for part in (split.train, split.val, split.test))


@pytest.mark.parametrize("num_clips", range(1, 30))
def test_the_test_part_is_within_one_clip_of_its_share(num_clips: int) -> None:
    clips = labelled({"a": num_clips, "b": 40})
    test = Counter(column(clips, splits.supervised_split(clips, 3, 0.3, 0.1).test))
    assert abs(test["a"] - 0.3 * num_clips) < 1
    assert test["b"] == 12


@pytest.mark.parametrize("make", [lambda: labelled({"a": 40, "b": 31}), lambda: grouped(9, "abcd", 2)])
def test_a_split_is_the_same_in_whatever_order_the_rows_come(make) -> None:
    clips = make()
    split = splits.supervised_split(clips, 7)
    for order in range(3):
        other = shuffled(clips, order)
        again = splits.supervised_split(other, 7)
        for part in ("train", "val", "test"):
            assert ids(clips, getattr(split, part)) == ids(other, getattr(again, part))


def test_seeds_give_different_splits_and_a_seed_always_the_same() -> None:
    for clips in (labelled({"a": 30, "b": 30}), grouped(9, "ab")):
        found = {tuple(splits.supervised_split(clips, seed).test) for seed in range(8)}
        assert len(found) > 5
        assert len({tuple(splits.supervised_split(clips, 1).test) for _ in range(3)}) == 1


def test_a_split_is_never_across_a_group_or_a_file() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "video_id": f"id{i}",
            "label": "abcde"[rng.integers(5)],
            "group": f"g{rng.integers(30)}" if i % 2 else None,
            "uri": f"/v/{rng.integers(40)}.avi",
        }
        for i in range(400)
    ]
    clips = table(rows)
    for seed in range(5):
        split = splits.supervised_split(clips, seed)
        assert no_clip_twice(split)
        together = [row["group"] or row["uri"] for row in rows]
        sides = [{together[row] for row in part} for part in (split.train, split.val, split.test)]
        assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
        of_label = Counter(row["label"] for row in rows)
        for label, count in Counter(column(clips, split.test)).items():
            assert 0.2 < count / of_label[label] < 0.4


def test_groups_of_unequal_size_come_near_the_share() -> None:
    rows = [
        {"video_id": f"{g}-{i}", "label": "ab"[i % 2], "group": f"g{g}"}
        for g, size in enumerate([60, 30, 30, 20, 20, 10, 10, 10, 6, 4])
        for i in range(size)
    ]
    clips = table(rows)
    for seed in range(10):
        assert 0.25 <= len(splits.supervised_split(clips, seed).test) / 200 <= 0.35


def test_the_test_part_does_not_depend_on_the_validation_share() -> None:
    clips = grouped(12, "abc", 2)
    found = {tuple(splits.supervised_split(clips, 0, 0.3, val).test) for val in (0.0, 0.1, 0.2)}
    assert len(found) == 1
    assert not len(splits.supervised_split(clips, 0, 0.3, 0.0).val)


def test_clips_without_a_label_are_left_out_and_counted() -> None:
    clips = pa.concat_tables([labelled({"a": 10, "b": 10}), table([{"video_id": "x"}, {"video_id": "y"}])])
    split = splits.supervised_split(clips, 0)
    assert split.left_out == 2
    assert not {20, 21} & {*split.train, *split.val, *split.test}


def test_a_split_that_leaves_nothing_to_test_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--test-share 0.3 of 4 clips, never across a group"):
        splits.supervised_split(grouped(1, "ab", 2), 0)


# Splits that are given


def test_a_given_split_stands_and_rows_without_one_are_left_out() -> None:
    counts = {("a", "train"): 4, ("a", "val"): 1, ("a", "test"): 2, ("a", None): 3, ("b", "train"): 4, ("b", "test"): 1}
    clips = given_split(counts)
    split = splits.supervised_split(clips, 0)
    parts = [column(clips, part, "split") for part in (split.train, split.val, split.test)]
    assert [set(part) for part in parts] == [{"train"}, {"val"}, {"test"}]
    assert [len(part) for part in parts] == [8, 1, 3]
    assert split.left_out == 3
    assert split.origin == "split as given"


def test_validation_is_drawn_from_train_alone_where_it_is_not_given() -> None:
    clips = given_split({("a", "train"): 20, ("b", "train"): 10, ("a", "test"): 20, ("b", "test"): 10})
    split = splits.supervised_split(clips, 0)
    assert Counter(column(clips, split.val)) == {"a": 2, "b": 1}
    assert set(column(clips, split.val, "split")) == {"train"}
    assert set(column(clips, split.test, "split")) == {"test"}
    assert len(split.test) == 30
    assert no_clip_twice(split)
    assert "val by seed 0 from train" in split.origin
    assert tuple(splits.supervised_split(clips, 1).val) != tuple(split.val)
    assert not len(splits.supervised_split(clips, 0, val_share=0).val)


def test_val_is_tested_where_nothing_is_called_test() -> None:
    clips = given_split({("a", "train"): 10, ("b", "train"): 10, ("a", "val"): 2, ("b", "val"): 2})
    split = splits.supervised_split(clips, 0)
    assert set(column(clips, split.test, "split")) == {"val"}
    assert set(column(clips, split.val, "split")) == {"train"}
    assert "tested on val" in split.origin


@pytest.mark.parametrize(("parts", "missing"), [(("train",), "to test on"), (("test",), "to train")])
def test_a_given_split_without_train_or_test_is_refused(parts: tuple[str, ...], missing: str) -> None:
    clips = given_split({(label, part): 3 for label in "ab" for part in parts})
    with pytest.raises(UsageError, match=f"no clip with a label {missing}: the column 'split' has none"):
        splits.supervised_split(clips, 0)


# Few shots


def test_shots_are_as_many_of_each_label_and_fewer_are_part_of_more() -> None:
    clips = labelled({"a": 10, "b": 12})
    train = np.arange(22)
    four = splits.few_shot(clips, train, ("a", "b"), 4, 0)
    assert Counter(column(clips, four)) == {"a": 4, "b": 4}
    assert set(splits.few_shot(clips, train, ("a", "b"), 2, 0)) < set(four)
    assert set(splits.few_shot(clips, train, ("a", "b"), 4, 1)) != set(four)
    assert set(splits.few_shot(clips, train[5:], ("a", "b"), 4, 0)) <= set(train[5:])
    other = shuffled(clips)
    assert ids(clips, four) == ids(other, splits.few_shot(other, train, ("a", "b"), 4, 0))


def test_labels_with_too_few_clips_are_named() -> None:
    with pytest.raises(UsageError, match=r"--shots 10: .* 2 of 3 labels \(b has 9, c has 0\)"):
        splits.few_shot(labelled({"a": 10, "b": 9}), np.arange(19), ("a", "b", "c"), 10, 0)


SHOT_CLIPS = table(
    [
        {"video_id": "0001", "uri": "/data/run/a b (1).avi", "label": "run"},
        {"video_id": "0002", "uri": "/data/run/c, d.avi", "label": "run"},
        {"video_id": "0003", "uri": "/data/brush_hair/x.avi", "label": "brush_hair"},
        {"video_id": "0004", "uri": "/data/comb/x.avi", "label": "brush_hair"},
        {"video_id": "0005", "uri": "/data/long.mp4", "label": "run"},
        {"video_id": "0006", "uri": "/data/long.mp4", "label": "run"},
        {"video_id": "user id", "uri": "s3://bucket/y.avi", "label": "run"},
    ]
)


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("0003", [2]),
        ("user id", [6]),
        ("user id 3", [6]),
        ("/data/run/a b (1).avi", [0]),
        ("run/a b (1).avi 12", [0]),
        ("a b (1).avi,run", [0]),
        ("./run/a b (1) 0", [0]),
        ("c, d.avi 1", [1]),
        ('"run/c, d.avi",1', [1]),
        ("brush_hair/x.avi\tBrush Hair", [2]),
        ("comb/x brushHair", [3]),
        ("long.mp4 0", [4, 5]),
        ("s3://bucket/y.avi", [6]),
    ],
)
def test_a_listed_clip_is_found_from_the_right(line: str, rows: list[int]) -> None:
    assert names.find_listed(SHOT_CLIPS, [line], "list.txt").tolist() == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing.avi 1", r"list.txt: 1 of 1 lines name no clip: 'nothing.avi 1'"),
        ("x.avi 1", r"'x.avi' may be any of '/data/brush_hair/x.avi', '/data/comb/x.avi'"),
        ("0001 walk", r"says 'walk', but the label of that clip is 'run'"),
    ],
)
def test_a_listed_clip_that_is_not_one_is_refused(line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        names.find_listed(SHOT_CLIPS, [line], "list.txt")


def test_a_shot_list_is_read_without_header_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "shots.csv"
    path.write_text("path,label\n\na b.avi,run\r\n")
    assert names.read_shot_list(str(path)) == ("a b.avi,run",)
    path.write_text("path,label\n")
    with pytest.raises(UsageError, match=r"shots\.csv: no clips"):
        names.read_shot_list(str(path))
    with pytest.raises(UsageError, match="can't be read"):
        names.read_shot_list(str(tmp_path / "none.txt"))


# Halves, groups and lists of labels


def test_halves_of_labels_keep_their_order() -> None:
    assert splits.base_to_novel(tuple("dcba")) == (("d", "c"), ("b", "a"))
    assert splits.base_to_novel(tuple("abcde")) == (("a", "b", "c"), ("d", "e"))
    draws = splits.half_class_draws(tuple("zyxwvutsrqp"), 10, 0)
    assert len(draws) == 10
    assert len(set(draws)) > 8
    assert all(len(draw) == 5 and list(draw) == sorted(draw, reverse=True) for draw in draws)
    assert splits.half_class_draws(tuple("zyxwvutsrqp"), 3, 0) == draws[:3]
    assert splits.half_class_draws(tuple("zyxwvutsrqp"), 10, 1) != draws
    for halve in (splits.base_to_novel, splits.half_class_draws):
        with pytest.raises(UsageError, match="at least 4"):
            halve(tuple("abc"))


def test_each_group_is_left_out_once() -> None:
    clips = pa.concat_tables(
        [grouped(3, "ab"), table([{"video_id": "x", "label": "a"}, {"video_id": "y", "group": "g9"}])]
    )
    folds = splits.leave_one_group_out(clips)
    assert [name for name, _, _ in folds] == ["g0", "g1", "g2"]
    assert sorted(np.concatenate([own for _, _, own in folds])) == list(range(6))
    for name, others, own in folds:
        assert set(column(clips, own, "group")) == {name}
        assert sorted([*others, *own]) == list(range(6))
    with pytest.raises(UsageError, match="have 1 groups; expected at least 2"):
        splits.leave_one_group_out(grouped(1, "ab"))


def test_class_splits_are_in_label_order_and_unknown_names_are_told(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("Walk\nbrush hair\n")
    (tmp_path / "2.txt").write_text("run\nwalk\nfly\nswim\n")
    labels = ("BrushHair", "run", "walk")
    assert names.read_class_splits([str(tmp_path / "1.txt")], labels) == (("BrushHair", "walk"),)
    with pytest.raises(UsageError, match=r"2\.txt: 2 names are no labels: 'fly', 'swim'"):
        names.read_class_splits([str(tmp_path / "2.txt")], labels)


# Names of labels


def test_labels_are_found_in_any_spelling() -> None:
    clips = labelled({"BrushHair": 2, "HandStandPushups": 1, "walk": 1, "other": 3})
    labels, resolved, other = names.resolve_labels(clips, ["brush_hair", "Handstand pushups", "walk"])
    assert labels == ("brush_hair", "Handstand pushups", "walk")
    assert resolved["label"].to_pylist() == ["brush_hair"] * 2 + ["Handstand pushups", "walk", None, None, None]
    assert other == 3


def test_labels_that_are_not_given_are_those_present_each_in_one_spelling() -> None:
    clips = labelled({"walk": 2, "Walk": 1, "C++": 1, "C": 1})
    labels, resolved, other = names.resolve_labels(clips, None)
    assert labels == ("C", "C++", "walk")
    assert resolved["label"].to_pylist() == ["walk"] * 3 + ["C++", "C"]
    assert other == 0


@pytest.mark.parametrize(("ids_of_clips", "expected"), [("012", "abc"), ("123", "abc"), ("02", "ac"), ("13", "ac")])
def test_ids_count_from_zero_or_from_one(ids_of_clips: str, expected: str) -> None:
    _, resolved, _ = names.resolve_labels(labelled(dict.fromkeys(ids_of_clips, 1)), ("a", "b", "c"))
    assert resolved["label"].to_pylist() == list(expected)


def test_numbers_may_be_names() -> None:
    _, resolved, _ = names.resolve_labels(labelled({"10": 1, "20": 1}), ("20", "10"))
    assert resolved["label"].to_pylist() == ["10", "20"]


@pytest.mark.parametrize(
    ("counts", "labels", "message"),
    [
        ({}, None, "no clip has a label"),
        ({"a": 5}, None, "the only label is 'a'"),
        ({"a": 5}, ("a",), "the only label is 'a'"),
        ({"a": 5, "b": 5}, ("c", "d"), "no clip has one of the labels 'c', 'd': those of the clips are 'a', 'b'"),
        ({"JumpUp": 1, "a": 1}, ("jump_up", "jump up"), "'JumpUp' may be any of 'jump_up', 'jump up'"),
        ({"0": 1, "1": 1}, None, "are numbers .* --labels FILE"),
        ({"1": 1, "2": 1}, ("a", "b", "c"), "from 1 to 2, of 3 labels: whether they count from 0 or from 1"),
        ({"0": 1, "3": 1}, ("a", "b", "c"), "label 3 .* out of range: 3 labels are 0 to 2"),
        ({"1": 1, "4": 1}, ("a", "b", "c"), "label 4 .* out of range: 3 labels are 1 to 3"),
    ],
)
def test_labels_that_can_not_be_meant_are_refused(counts: dict, labels: tuple | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        training_tasks(labelled(counts), labels, ProtocolOptions())


def test_clips_that_stand_twice_are_refused() -> None:
    clips = labelled({"a": 5, "b": 5})
    with pytest.raises(UsageError, match="1 video ids stand in several rows"):
        training_tasks(pa.concat_tables([clips, clips.slice(0, 1)]), None, ProtocolOptions())


def test_labels_that_are_entities_are_disclosed() -> None:
    assert names.disclosure(["Jump Rope", "PlayingGuitar", "run"], ["jump rope", "guitar", "Run"]) == [
        "Jump Rope",
        "run",
    ]


# Tasks


def test_supervised_has_a_training_for_each_seed() -> None:
    clips = labelled({"a": 20, "b": 20, "c": 1})
    tasks = training_tasks(clips, ("b", "a", "c", "d"), ProtocolOptions(seeds=(0, 5)))
    assert [(task.name, task.seed) for task in tasks] == [("seed-0", 0), ("seed-5", 5)]
    for task in tasks:
        assert no_clip_twice(task)
        assert task.labels == task.test_labels["test"] == ("b", "a", "c", "d")
        assert (len(task.train), len(task.val), len(task.tests["test"])) == (25, 4, 12)
        assert task.target(np.array([0, 20, 40]), task.labels).tolist() == [1, 0, 2]
    assert tasks[0].description == (
        "supervised, split by seed 0 (test share 0.3, val share 0.1), no group in two parts; clips: train 25, val 4, "
        "test 12 of 4 labels (1 of 4 labels have no clip to train on)"
    )


def test_everything_left_out_is_said() -> None:
    clips = pa.concat_tables(
        [
            given_split({("a", "train"): 9, ("b", "train"): 9, ("a", "test"): 2, ("c", "train"): 4, ("b", None): 3}),
            table([{"video_id": "x"}, {"video_id": "y", "split": "test"}]),
        ]
    )
    (task,) = training_tasks(clips, ("a", "b"), ProtocolOptions())
    for words in (
        "3 clips without a split",
        "4 clips of other labels",
        "2 clips without a label",
        "test 2 of 2 labels",
    ):
        assert words in task.description


def test_few_shot_tests_the_whole_test_part() -> None:
    clips = given_split({(label, part): 20 for label in "abc" for part in ("train", "test")})
    tasks = training_tasks(clips, None, ProtocolOptions("few-shot", shots=4, seeds=(0, 1, 2)))
    for task in tasks:
        assert Counter(column(clips, task.train)) == {"a": 4, "b": 4, "c": 4}
        assert len(task.tests["test"]) == 60
        assert no_clip_twice(task)
    assert len({tuple(task.train) for task in tasks}) == 3
    assert tasks[0].description.startswith("few-shot: 4 shots of each label by seed 0, split as given")


def test_listed_shots_are_what_is_trained_on_even_if_they_were_drawn_for_validation(tmp_path: Path) -> None:
    clips = given_split({(label, part): 20 for label in "ab" for part in ("train", "test")})
    listed = [0, 1, 2, *range(40, 45)]
    (tmp_path / "shots.txt").write_text("".join(f"{label}/{i}.avi 0\n" for i in listed for label in column(clips, [i])))
    for seed in range(5):
        options = ProtocolOptions("few-shot", shot_list=str(tmp_path / "shots.txt"), seeds=(seed,))
        (task,) = training_tasks(clips, None, options)
        assert task.train.tolist() == listed
        assert no_clip_twice(task)
        assert len(task.tests["test"]) == 40


def test_listed_shots_that_are_tested_or_leave_a_label_out_are_refused(tmp_path: Path) -> None:
    clips = given_split({(label, part): 5 for label in "ab" for part in ("train", "test")})
    path = tmp_path / "shots.txt"
    options = ProtocolOptions("few-shot", shot_list=str(path))
    path.write_text("id0\nid5\nid10\n")
    with pytest.raises(UsageError, match=r"1 clips are in the test part, .*'id5'"):
        training_tasks(clips, None, options)
    path.write_text("id0\n")
    with pytest.raises(UsageError, match="no clip of 1 of 2 labels: 'b'"):
        training_tasks(clips, None, options)
    with pytest.raises(UsageError, match="which clips are tested isn't known"):
        training_tasks(clips.drop_columns("split"), None, options)


def test_base_to_novel_trains_on_the_first_half_and_tests_each_among_its_own() -> None:
    clips = labelled(dict.fromkeys("abcde", 20))
    (task,) = training_tasks(clips, None, ProtocolOptions("base-to-novel", shots=3))
    assert task.labels == task.test_labels["base"] == ("a", "b", "c")
    assert task.test_labels["novel"] == ("d", "e")
    assert Counter(column(clips, task.train)) == {"a": 3, "b": 3, "c": 3}
    assert set(column(clips, task.val)) == {"a", "b", "c"}
    assert Counter(column(clips, task.tests["base"])) == {"a": 6, "b": 6, "c": 6}
    assert Counter(column(clips, task.tests["novel"])) == {"d": 6, "e": 6}
    assert no_clip_twice(task)


def test_zero_shot_trains_on_everything_in_the_training_part() -> None:
    (task,) = training_tasks(labelled({"a": 10, "b": 10}), None, ProtocolOptions("zero-shot"))
    assert (len(task.train), len(task.val), task.tests, task.test_labels) == (18, 2, {}, {})
    clips = given_split({(label, part): 10 for label in "ab" for part in ("train", "test")})
    (task,) = training_tasks(clips, None, ProtocolOptions("zero-shot"))
    assert (len(task.train), len(task.val), len(task.tests["test"])) == (18, 2, 20)


def test_each_group_is_a_task_whose_name_a_folder_can_have() -> None:
    rows = [
        {"video_id": f"{group}{label}{i}", "label": label, "group": group}
        for group in ("Daria", "daria", "a/b", "a b")
        for label in "xy"
        for i in range(5)
    ]
    clips = table(rows)
    options = ProtocolOptions(leave_one_group_out=True, val_share=0.2)
    tasks = training_tasks(clips, None, options)
    assert [task.name for task in tasks] == ["group-Daria", "group-a-b", "group-a-b-2", "group-daria-2"]
    for task in tasks:
        groups = [set(column(clips, part, "group")) for part in (task.train, task.val, task.tests["test"])]
        assert [len(group) for group in groups] == [2, 1, 1]
        assert len(set.union(*groups)) == 4
    few = training_tasks(clips, None, ProtocolOptions("few-shot", 2, seeds=(0, 1), leave_one_group_out=True))
    assert few[0].name == "group-Daria-seed-0"
    assert len(few) == 8
    assert all(Counter(column(clips, task.train)) == {"x": 2, "y": 2} for task in few)


def test_a_training_of_one_label_and_a_test_without_clips_are_refused() -> None:
    clips = given_split({("a", "train"): 5, ("a", "test"): 5, ("b", "test"): 5})
    with pytest.raises(UsageError, match="all clips to train on have the label 'a'"):
        training_tasks(clips, None, ProtocolOptions())
    clips = given_split({("a", "train"): 5, ("b", "train"): 5, ("a", "test"): 5, ("c", "train"): 5, ("d", "train"): 5})
    with pytest.raises(UsageError, match="no clip of the 2 labels of 'novel' to test on"):
        training_tasks(clips, None, ProtocolOptions("base-to-novel", shots=2))


# Evaluation of what is trained already


@pytest.mark.parametrize("protocol", ["supervised", "few-shot", "base-to-novel"])
@pytest.mark.parametrize("make", [lambda: labelled(dict.fromkeys("abcd", 30)), lambda: grouped(12, "abcd", 3)])
def test_evaluation_tests_what_the_training_of_that_seed_tests(protocol, make) -> None:
    options = ProtocolOptions(protocol, shots=2, seeds=(3,))
    (training,), (evaluation,) = (tasks(make(), None, options) for tasks in (training_tasks, evaluation_tasks))
    assert training.name == evaluation.name
    assert training.test_labels == evaluation.test_labels
    assert {name: index.tolist() for name, index in training.tests.items()} == {
        name: index.tolist() for name, index in evaluation.tests.items()
    }
    assert len(evaluation.train) == len(evaluation.val) == len(evaluation.labels) == 0


def test_evaluation_asks_once_where_the_split_is_given() -> None:
    clips = given_split({(label, part): 3 for label in "ab" for part in ("train", "test")})
    assert len(evaluation_tasks(clips, None, ProtocolOptions(seeds=(0, 1, 2)))) == 1
    only_test = given_split({("a", "test"): 3, ("b", "test"): 3})
    assert len(evaluation_tasks(only_test, None, ProtocolOptions())[0].tests["test"]) == 6


def test_zero_shot_evaluation_asks_all_labels_at_once() -> None:
    clips = labelled(dict.fromkeys("abcd", 5))
    (task,) = evaluation_tasks(clips, None, ProtocolOptions("zero-shot"))
    assert (task.name, len(task.tests["test"]), task.test_labels["test"]) == ("all", 20, ("a", "b", "c", "d"))
    clips = given_split({(label, part): 3 for label in "ab" for part in ("train", "test")})
    (task,) = evaluation_tasks(clips, None, ProtocolOptions("zero-shot"))
    assert set(column(clips, task.tests["test"], "split")) == {"test"}
    (task,) = evaluation_tasks(clips, None, ProtocolOptions("zero-shot", all_clips=True))
    assert len(task.tests["test"]) == 12


def test_zero_shot_evaluation_over_halves_asks_only_clips_of_their_labels() -> None:
    clips = labelled(dict.fromkeys("abcdefgh", 5))
    tasks = evaluation_tasks(clips, None, ProtocolOptions("zero-shot", half_class=True))
    assert [task.name for task in tasks] == [f"draw-{i}" for i in range(10)]
    for task in tasks:
        assert len(task.test_labels["test"]) == 4
        assert Counter(column(clips, task.tests["test"])) == dict.fromkeys(task.test_labels["test"], 5)


def test_zero_shot_evaluation_over_lists_of_labels_or_of_clips(tmp_path: Path) -> None:
    clips = labelled(dict.fromkeys("abcdef", 5))
    for i, text in enumerate(["a\nb\n", "C\nd\n", "e\nf\n"], start=1):
        (tmp_path / f"{i}.txt").write_text(text)
        (tmp_path / f"list{i}.txt").write_text(f"a/{i}.avi 1\nb/{i + 5}.avi 2\n")
    files = tuple(str(tmp_path / f"{i}.txt") for i in (1, 2, 3))
    tasks = evaluation_tasks(clips, None, ProtocolOptions("zero-shot", class_splits=files))
    assert [(task.name, *task.test_labels["test"], len(task.tests["test"])) for task in tasks] == [
        ("split-1", "a", "b", 10),
        ("split-2", "c", "d", 10),
        ("split-3", "e", "f", 10),
    ]
    lists = tuple(str(tmp_path / f"list{i}.txt") for i in (1, 2, 3))
    tasks = evaluation_tasks(clips, None, ProtocolOptions("zero-shot", test_lists=lists))
    assert [task.tests["test"].tolist() for task in tasks] == [[1, 6], [2, 7], [3, 8]]
    assert all(len(task.test_labels["test"]) == 6 for task in tasks)


def test_groups_can_not_be_left_out_of_what_is_trained_already() -> None:
    with pytest.raises(UsageError, match="it can't evaluate one"):
        evaluation_tasks(grouped(3, "ab"), None, ProtocolOptions(leave_one_group_out=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shots": 0}, "--shots 0"),
        ({"num_draws": 0}, "--num-draws 0"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (1, 1)}, "--seeds 1 1: expected different"),
        ({"seeds": (-1,)}, "--seeds -1"),
        ({"test_share": 0.0}, "--test-share 0.0"),
        ({"test_share": 0.5, "val_share": 0.5}, "--val-share 0.5"),
        ({"protocol": "zero-shot", "leave_one_group_out": True}, "not for zero-shot"),
        ({"shot_list": "x.txt"}, "--shot-list is for --protocol few-shot"),
        ({"half_class": True}, "--half-class: only for --protocol zero-shot, not for supervised"),
        (
            {"protocol": "zero-shot", "half_class": True, "class_splits": ("a",)},
            "--class-splits and --half-class are two",
        ),
        ({"protocol": "zero-shot", "test_lists": ("a",), "all_clips": True}, "leave out --all-clips"),
    ],
)
def test_options_that_contradict_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ProtocolOptions(**fields)


# Real clips: nine people, ten actions, one clip of each


@needs_real_videos
def test_of_nine_people_three_are_tested_and_one_validates() -> None:
    clips = weizmann()
    tasks = training_tasks(clips, None, ProtocolOptions(seeds=tuple(range(6))))
    for task in tasks:
        people = [set(column(clips, part, "group")) for part in (task.train, task.val, task.tests["test"])]
        assert [len(group) for group in people] == [5, 1, 3]
        assert len(set.union(*people)) == 9
        assert set(Counter(column(clips, task.tests["test"])).values()) == {3}
    assert len({tuple(task.tests["test"]) for task in tasks}) > 3


@needs_real_videos
def test_nine_people_are_left_out_one_by_one() -> None:
    tasks = training_tasks(weizmann(), None, ProtocolOptions(leave_one_group_out=True))
    assert [task.name for task in tasks] == [
        f"group-{name}" for name in "daria denis eli ido ira lena lyova moshe shahar".split()
    ]
    assert all((len(task.train), len(task.val), len(task.tests["test"])) == (70, 10, 10) for task in tasks)


@needs_real_videos
def test_five_people_give_five_shots_and_no_more() -> None:
    clips = weizmann()
    (task,) = training_tasks(clips, None, ProtocolOptions("few-shot", shots=5))
    assert len(task.train) == 50
    with pytest.raises(UsageError, match=r"--shots 6: .* 10 of 10 labels .*bend has 5"):
        training_tasks(clips, None, ProtocolOptions("few-shot", shots=6))
