"""From a protocol to tasks: what is trained on which clips, and what is asked about which others. Knows nothing of models.

Sources: few-shot and zero-shot as X-CLIP (arXiv 2208.02816), base-to-novel as ViFi-CLIP (arXiv 2212.03640). N clips, C labels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from alt_ray.errors import UsageError
from alt_ray.evaluation.names import find_listed, read_class_splits, read_shot_list, resolve_labels, some, texts
from alt_ray.evaluation.options import ProtocolOptions
from alt_ray.evaluation.splits import (
    Split,
    base_to_novel,
    carve,
    few_shot,
    half_class_draws,
    has_split,
    leave_one_group_out,
    parts,
    supervised_split,
)
from alt_ray.evaluation.task import Task, check_tests, check_training, described, folder_names

_NONE = np.zeros(0, np.int64)


def training_tasks(clips: pa.Table, labels: Sequence[str] | None, options: ProtocolOptions) -> list[Task]:
    """Return one task for each seed, or for each group (and seed) with leave_one_group_out.

    `clips` is a table as in `splits`; `labels` None stands for the labels present, sorted. Zero-shot trains on everything with
    a label in the training part, which is everything where no column split says otherwise. Raises UsageError for clips,
    labels and options that don't make a task: each training needs 2 labels, each test a clip.
    """
    names, clips, notes = _resolved(clips, labels)
    tasks = [task for seed in options.seeds for task in _trained(clips, names, options, seed)]
    folders = folder_names([task.name for task in tasks])
    tasks = [replace(task, name=folder) for task, folder in zip(tasks, folders, strict=True)]
    for task in tasks:
        check_training(task)
    return [described(task, notes) for task in tasks]


def evaluation_tasks(clips: pa.Table, labels: Sequence[str] | None, options: ProtocolOptions) -> list[Task]:
    """Return tasks without a training, for an adapter trained before.

    Zero-shot: one task for each of --test-lists, --class-splits or random halves, else one with all labels; tested are the test
    part of a column split, else all clips with a label. Other protocols: the tests of the training with the same seed, which
    must be that of the adapter: where no column split says which clips are tested, another seed tests what was trained on.
    """
    names, clips, notes = _resolved(clips, labels)
    if options.protocol == "zero-shot":
        tasks = _zero_shot_tests(clips, names, options)
    elif options.leave_one_group_out:
        raise UsageError(
            "--leave-one-group-out trains a model for each group: it can't evaluate one that is trained already"
        )
    else:
        # A split that was given is the same for every seed: asking twice would make a deviation of 0.
        seeds = options.seeds[:1] if has_split(clips) else options.seeds
        tasks = [_tested(clips, names, options, seed) for seed in seeds]
    for task in tasks:
        check_tests(task)
    return [described(task, notes) for task in tasks]


def _resolved(clips: pa.Table, labels: Sequence[str] | None) -> tuple[tuple[str, ...], pa.Table, str]:
    num_unlabelled = sum(label is None for label in texts(clips, "label"))
    names, clips, num_other = resolve_labels(clips, labels)
    counts = {"of other labels": num_other, "without a label": num_unlabelled}
    return names, clips, "".join(f"; {count} clips {what} left out" for what, count in counts.items() if count)


def _origin(split: Split, label_of: np.ndarray) -> str:
    num_unsplit = split.left_out - sum(label is None for label in label_of)
    return split.origin + (f"; {num_unsplit} clips without a split left out" if num_unsplit else "")


def _trained(clips: pa.Table, labels: tuple[str, ...], options: ProtocolOptions, seed: int) -> list[Task]:
    label_of, protocol = texts(clips, "label"), options.protocol
    if options.leave_one_group_out:
        tasks = []
        folds = leave_one_group_out(clips)
        num_without = sum(label is not None for label in label_of) - sum(len(own) for _, _, own in folds)
        for group, others, own in folds:
            train, val = carve(clips, others, options.val_share, seed, "val")
            name = f"group-{group}" + (f"-seed-{seed}" if len(options.seeds) > 1 else "")
            origin = f"tested on the group {group!r}, trained on the others, val by seed {seed} (share {options.val_share:g})"
            origin += f"; {num_without} clips without a group left out" if num_without else ""
            if protocol == "few-shot":
                train = few_shot(clips, train, labels, options.shots, seed)
                origin = f"{options.shots} shots of each label, {origin}"
            tests, test_labels = {"test": own}, {"test": labels}
            tasks.append(Task(name, f"{protocol}: {origin}", train, val, tests, labels, test_labels, seed, label_of))
        return tasks

    if protocol == "zero-shot":
        split = parts(clips, seed, 0.0, options.val_share)
        tests = {"test": split.test} if len(split.test) else {}
        description = f"zero-shot: trained on all of the training part, {_origin(split, label_of)}"
        test_labels = dict.fromkeys(tests, labels)
        return [Task(f"seed-{seed}", description, split.train, split.val, tests, labels, test_labels, seed, label_of)]

    split = supervised_split(clips, seed, options.test_share, options.val_share)
    task = _with_tests(split, clips, labels, options, seed)
    train, val = split.train, split.val
    if protocol == "base-to-novel":
        val = val[np.isin(label_of[val], task.labels)]
    if options.shot_list is not None:
        train = _listed_shots(clips, split, labels, options.shot_list)
        val = np.setdiff1d(val, train)
    elif protocol != "supervised":
        train = few_shot(clips, train, task.labels, options.shots, seed)
    return [replace(task, train=train, val=val)]


def _with_tests(split: Split, clips: pa.Table, labels: tuple[str, ...], options: ProtocolOptions, seed: int) -> Task:
    """Return the task of a split but for its training: its name, description, tests and labels."""
    label_of = texts(clips, "label")
    what = {
        "supervised": "supervised",
        "few-shot": f"few-shot: {options.shots} shots of each label by seed {seed}",
        "base-to-novel": f"base-to-novel: {options.shots} shots of each label of the first half by seed {seed}",
    }[options.protocol]
    if options.shot_list is not None:
        what = f"few-shot: the shots of {options.shot_list}"
    test_labels = {"test": labels}
    if options.protocol == "base-to-novel":
        test_labels = dict(zip(("base", "novel"), base_to_novel(labels), strict=True))
    tests = {name: split.test[np.isin(label_of[split.test], asked)] for name, asked in test_labels.items()}
    description = f"{what}, {_origin(split, label_of)}"
    trained = test_labels.get("base", labels)
    return Task(f"seed-{seed}", description, _NONE, _NONE, tests, trained, test_labels, seed, label_of)


def _listed_shots(clips: pa.Table, split: Split, labels: tuple[str, ...], shot_list: str) -> np.ndarray:
    if not has_split(clips):
        raise UsageError(
            f"--shot-list {shot_list}: which clips are tested isn't known; give a column 'split' with test clips"
        )
    shots, label_of = find_listed(clips, read_shot_list(shot_list), shot_list), texts(clips, "label")
    if len(outside := np.setdiff1d(shots, np.union1d(split.train, split.val))):
        names = list(texts(clips, "video_id")[outside])
        raise UsageError(
            f"{shot_list}: {len(outside)} clips are in the test part, or have no label or split: {some(names)}; expected clips "
            "of the training part"
        )
    if missing := sorted(set(labels) - set(label_of[shots])):
        raise UsageError(f"{shot_list}: no clip of {len(missing)} of {len(labels)} labels: {some(missing)}")
    return shots


def _tested(clips: pa.Table, labels: tuple[str, ...], options: ProtocolOptions, seed: int) -> Task:
    # What was trained on doesn't matter here: the test part is the same with any share of val, and val is in no test.
    split = parts(clips, seed, options.test_share, 0.0)
    task = _with_tests(split, clips, labels, options, seed)
    return replace(task, description=f"{options.protocol}: {_origin(split, task.label_of)}", labels=())


def _zero_shot_tests(clips: pa.Table, labels: tuple[str, ...], options: ProtocolOptions) -> list[Task]:
    label_of, seed = texts(clips, "label"), options.seeds[0]
    labelled = np.flatnonzero([label is not None for label in label_of])
    pool, origin = labelled, "all clips with a label"
    if has_split(clips) and not options.all_clips:
        split = parts(clips, seed, options.test_share, 0.0)
        pool, origin = split.test, f"the test part, {_origin(split, label_of)}"

    def task(name: str, what: str, clips_of_test: np.ndarray, asked: tuple[str, ...]) -> Task:
        own = clips_of_test[np.isin(label_of[clips_of_test], asked)]
        description = f"zero-shot: {what}"
        return Task(name, description, _NONE, _NONE, {"test": own}, (), {"test": asked}, seed, label_of)

    if options.test_lists:
        return [
            task(f"split-{i}", f"the clips of {file}", _listed_tests(clips, file, labelled), labels)
            for i, file in enumerate(options.test_lists, start=1)
        ]
    if options.class_splits:
        splits = read_class_splits(options.class_splits, labels)
        named = enumerate(zip(options.class_splits, splits, strict=True), start=1)
        return [task(f"split-{i}", f"the labels of {file}, {origin}", pool, asked) for i, (file, asked) in named]
    if options.half_class:
        draws = half_class_draws(labels, options.num_draws, seed)
        what = f"of {len(draws)} halves of the labels by seed {seed}, {origin}"
        return [task(f"draw-{i}", f"draw {i} {what}", pool, asked) for i, asked in enumerate(draws)]
    return [task("all", f"all labels at once, {origin}", pool, labels)]


def _listed_tests(clips: pa.Table, file: str, labelled: np.ndarray) -> np.ndarray:
    return np.intersect1d(find_listed(clips, read_shot_list(file), file), labelled)
