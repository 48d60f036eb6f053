"""Which clips are trained on and which are tested on. Pure index arithmetic on a table of clips: knows nothing of features.

A table has one row per clip, with `video_id` and `label`, perhaps `split`, `group` and `uri`; all but the id may be null. What a
seed decides follows from hashes of ids and groups: it is the same in whatever order the rows come. N clips, C labels.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from alt_ray.errors import UsageError
from alt_ray.evaluation.names import some, texts

# Groups of many clips can't be cut to measure, so several orders are tried; among many groups one order is good.
_ORDERS, _MANY_GROUPS = 20, 500


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of clips (int64, sorted, disjoint). `left_out` clips have no label, or no split where others have one.

    `origin` says in words where the split is from.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    left_out: int
    origin: str


def has_split(clips: pa.Table) -> bool:
    """Say whether the user split the clips: one value in the column `split` is enough."""
    return any(part is not None for part in texts(clips, "split"))


def supervised_split(clips: pa.Table, seed: int, test_share: float = 0.3, val_share: float = 0.1) -> Split:
    """Return the parts of the column `split`, or else parts drawn by seed; every label is shared out alike (stratified).

    What is drawn never cuts a group; without groups, clips of one file (`uri`) stay together. Of a column `split` val is drawn
    from train if there is none; if there is val but no test (Kinetics is published so), val is what is tested. The test part
    doesn't depend on `val_share`. Labels of one clip or one group may have no test clip.
    Raises UsageError if there is nothing to train or test on.
    """
    split = parts(clips, seed, test_share, val_share)
    if not len(split.train) or not len(split.test):
        empty = "train" if not len(split.train) else "test"
        hint = (
            "the column 'split' has none: expected train and test (or val) there"
            if has_split(clips)
            else f"--test-share {test_share} of {clips.num_rows} clips, never across a group, leaves none: give more clips, "
            "more groups, or a column 'split'"
        )
        raise UsageError(f"no clip with a label to {empty}{' on' if empty == 'test' else ''}: {hint}")
    return split


def parts(clips: pa.Table, seed: int, test_share: float, val_share: float) -> Split:
    """Return the split as `supervised_split` does; train and test may be empty. A test share of 0 draws no test part."""
    part = texts(clips, "split")
    labelled = np.array([label is not None for label in texts(clips, "label")], bool)
    if not has_split(clips):
        rest, test = carve(clips, np.flatnonzero(labelled), test_share, seed, "test")
        train, val = carve(clips, rest, val_share / (1 - test_share), seed, "val")
        origin = f"split by seed {seed} (test share {test_share:g}, val share {val_share:g}), no group in two parts"
        return Split(train, val, test, int((~labelled).sum()), origin)

    train, val, test = (np.flatnonzero(labelled & (part == name)) for name in ("train", "val", "test"))
    origin = "split as given"
    if not len(test):
        val, test = test, val
        origin += ", tested on val (there is no test)"
    if not len(val) and val_share:
        train, val = carve(clips, train, val_share, seed, "val")
        origin += f", val by seed {seed} from train (share {val_share:g})"
    num_used = len(train) + len(val) + len(test)
    return Split(train, val, test, clips.num_rows - num_used, origin)


def carve(clips: pa.Table, rows: np.ndarray, share: float, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (kept, taken), indices of clips (sorted): of each label about `share` is taken, a group whole or not at all.

    Groups are gone through in an order that (seed, purpose) decides; each goes where its labels are missing most, every label
    counting the same. Of several orders the one that comes nearest to the share is kept.
    """
    if not share or not len(rows):
        return np.sort(rows), np.zeros(0, np.int64)
    label = texts(clips, "label")
    num_clips = Counter(label[row] for row in rows)
    groups = _groups(clips, rows)
    is_single = {name: len(members) == 1 for name, members in groups.items()}
    labels_of = {
        name: [(label[members[0]], 1)] if is_single[name] else sorted(Counter(label[members]).items())
        for name, members in groups.items()
    }
    num_orders = 1 if len(groups) > _MANY_GROUPS or all(is_single.values()) else _ORDERS

    best_cost, best = math.inf, set[tuple[int, str]]()
    for attempt in range(num_orders):
        # Single clips come last: they level out what the groups left uneven.
        order = sorted(groups, key=lambda name: (is_single[name], _hash(seed, purpose, attempt, name[1])))
        missing = {name: share * count for name, count in num_clips.items()}  # from what is taken
        left = {name: (1 - share) * count for name, count in num_clips.items()}  # from what is kept
        taken = set()
        for group in order:
            # How much the squared error of the shares falls: the k^2 of both sides cancels out.
            gain = sum(k * (missing[c] - left[c]) / num_clips[c] ** 2 for c, k in labels_of[group])
            side = missing if gain > 1e-12 else left
            if side is missing:
                taken.add(group)
            for c, k in labels_of[group]:
                side[c] -= k
        cost = sum((missing[c] / num_clips[c]) ** 2 for c in sorted(num_clips))
        if cost < best_cost - 1e-12:
            best_cost, best = cost, taken
    chosen = np.array(sorted(row for group in best for row in groups[group]), np.int64)
    return np.setdiff1d(rows, chosen), chosen


def _groups(clips: pa.Table, rows: np.ndarray) -> dict[tuple[int, str], list[int]]:
    """Return the clips that must stay together: those of a group, else of a file, by (kind, name)."""
    group, uri, video_id = (texts(clips, name) for name in ("group", "uri", "video_id"))
    found = defaultdict(list)
    for row in rows:
        if group[row] is not None:
            found[(0, group[row])].append(int(row))
        else:
            found[(1, uri[row] if uri[row] is not None else video_id[row])].append(int(row))
    assert len({video_id[row] for row in rows}) == len(rows), "one row per clip"
    # A file goes by its first id: the user's own ids stay the same where the files move.
    return {
        (kind, name if kind == 0 else min(video_id[row] for row in members)): members
        for (kind, name), members in found.items()
    }


def _hash(*parts: object) -> bytes:
    return blake2b("\n".join(map(str, parts)).encode(), digest_size=16).digest()


def few_shot(clips: pa.Table, train: np.ndarray, labels: Sequence[str], shots: int, seed: int) -> np.ndarray:
    """Return `shots` clips of each label among the clips `train`, by seed: indices, sorted. Fewer shots are a part of more.

    Raises UsageError that names the labels with fewer clips.
    """
    label, video_id = texts(clips, "label"), texts(clips, "video_id")
    rows_of = defaultdict(list)
    for row in train:
        rows_of[label[row]].append(int(row))
    if few := [f"{name} has {len(rows_of[name])}" for name in labels if len(rows_of[name]) < shots]:
        raise UsageError(
            f"--shots {shots}: the training part has fewer clips of {len(few)} of {len(labels)} labels ({', '.join(few[:8])}"
            f"{', ...' if len(few) > 8 else ''}); give fewer --shots, a smaller --test-share or --val-share, or more clips"
        )
    chosen = [sorted(rows_of[name], key=lambda row: _hash(seed, "shot", video_id[row]))[:shots] for name in labels]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *(np.array(rows, np.int64) for rows in chosen)]))


def leave_one_group_out(clips: pa.Table) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return for each group, sorted by name, (name, the clips of all others, its own clips): indices of clips with a label.

    The column `split` is not looked at; clips without a group are in no part. Raises UsageError for fewer than 2 groups.
    """
    label, group = texts(clips, "label"), texts(clips, "group")
    usable = np.array([c is not None and g is not None for c, g in zip(label, group, strict=True)], bool)
    names = sorted({group[row] for row in np.flatnonzero(usable)})
    if len(names) < 2:
        raise UsageError(
            f"--leave-one-group-out: the clips with a label have {len(names)} groups; expected at least 2 in the column 'group'"
        )
    own = {name: usable & (group == name) for name in names}
    return [(name, np.flatnonzero(usable & ~own[name]), np.flatnonzero(own[name])) for name in names]


def base_to_novel(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the first half of the labels (the larger, if they are odd) and the second. Raises UsageError for fewer than 4.

    Source: CoCoOp (arXiv 2203.05557), whose code rounds up.
    """
    if len(labels) < 4:
        raise UsageError(
            f"base-to-novel with {len(labels)} labels ({some(labels)}): expected at least 4, 2 in each half"
        )
    middle = math.ceil(len(labels) / 2)
    return tuple(labels[:middle]), tuple(labels[middle:])


def half_class_draws(labels: Sequence[str], num_draws: int = 10, seed: int = 0) -> tuple[tuple[str, ...], ...]:
    """Return `num_draws` random halves (rounded down) of the labels, in label order. With few labels draws may be the same.

    Raises UsageError for fewer than 4 labels.
    """
    if len(labels) < 4:
        raise UsageError(f"half of {len(labels)} labels ({some(labels)}): expected at least 4, so that 2 compete")
    draws = []
    for draw in range(num_draws):
        chosen = set(sorted(labels, key=lambda name: _hash(seed, "half", draw, name))[: len(labels) // 2])
        draws.append(tuple(name for name in labels if name in chosen))
    return tuple(draws)
