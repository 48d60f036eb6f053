"""What the pocket's CLIP is trained on: frames, captions, and what is true of which frame and of which part of it. Knows nothing
of models.

B pictures, M pictures or parts, C captions, F facts, H x W pixels.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alt_ray.pocket.captions import FACTS, Caption, action_fact, beside, captions, close_up_caption
from alt_ray.pocket.plan import ClipPlan, plan_clip
from alt_ray.pocket.vocabulary import BODY_PARTS, ENTITIES, MOTIONS, OBJECTS, SCENES, SEEN_ACTIONS
from alt_ray.pocket.world import draw_close_up, draw_frame_and_mask

MIN_PIXELS = 6  # fewer, and a thing is said not to be in the picture
MIN_SHARE_OF_PART = 1 / 16  # as much, and a thing is said to be in a part of a picture; with less nothing is said
CLOSE_UPS = (
    0.5  # share of the samples: small things are learned from them, and with them what a patch of them looks like
)
CLOSE_UPS_OF_OBJECTS = 0.6  # of those, where a clip has objects; there are 22 of them and 6 parts of the body
GRID = 8  # parts are rectangles of cells, so many a side of the picture
LONGEST_PART = 4  # cells
_MAY_DIFFER = frozenset((*OBJECTS, *SCENES))
_OF_ACTIONS = frozenset((*MOTIONS, *(action_fact(name) for name in SEEN_ACTIONS)))
_FACT_INDEX = {name: i for i, name in enumerate(FACTS)}


@dataclass(frozen=True)
class Truth:
    """The facts that hold of a picture or a part of it, and those of which nothing can be said. All others don't hold."""

    true: frozenset[str]
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Part:
    """A rectangle of a picture's GRID x GRID cells (first row, first column, rows, columns), and what it shows."""

    cells: tuple[int, int, int, int]
    truth: Truth


@dataclass(frozen=True)
class Sample:
    """One picture [H, W, 3] uint8, a true caption of it, all that holds of it, and two parts of it."""

    picture: np.ndarray
    caption: Caption
    truth: Truth
    parts: tuple[Part, ...]


def samples(seed: int, size_px: int) -> Iterator[Sample]:
    """Yield samples for ever: a random frame, or a close-up, of one clip of the world `seed` after the other."""
    for index in itertools.count():
        rng = np.random.default_rng((seed, index, 7))
        plan = plan_clip(seed, index)
        sample = _close_up(plan, rng, size_px) if rng.random() < CLOSE_UPS else None
        yield sample or _whole(plan, rng, size_px)


def _whole(plan: ClipPlan, rng: np.random.Generator, size_px: int) -> Sample:
    picture, mask = draw_frame_and_mask(plan, int(rng.integers(plan.num_frames)), size_px)
    truth = plan.truth
    if truth.unseen:
        holds = Truth(_visible(mask), _OF_ACTIONS)
    else:
        holds = Truth(_visible(mask) | {*truth.motions, action_fact(truth.action)})
    # What a caption speaks of may be hidden or out of the picture in this frame.
    true_ones = [caption for caption in captions(truth, rng) if caption.facts <= holds.true]
    caption = true_ones[rng.integers(len(true_ones))]
    return Sample(picture, caption, holds, _parts(mask, rng))


def _close_up(plan: ClipPlan, rng: np.random.Generator, size_px: int) -> Sample | None:
    objects = (*plan.truth.objects, *plan.truth.distractors)
    choices = objects if objects and rng.random() < CLOSE_UPS_OF_OBJECTS else BODY_PARTS
    entity = choices[rng.integers(len(choices))]
    frame, magnification = int(rng.integers(plan.num_frames)), 1.8 + 2.2 * rng.random()
    drawn = draw_close_up(plan, frame, entity, size_px, magnification=magnification, choice=rng.random())
    if drawn is None:
        return None
    picture, mask = drawn
    visible = _visible(mask)
    if entity not in visible:
        return None
    return Sample(picture, close_up_caption(entity, rng), Truth(visible, _OF_ACTIONS), _parts(mask, rng))


def _visible(mask_HW: np.ndarray) -> frozenset[str]:
    counts = np.bincount(mask_HW.ravel(), minlength=len(ENTITIES))
    return frozenset(ENTITIES[i] for i in np.flatnonzero(counts >= MIN_PIXELS))


def _parts(mask_HW: np.ndarray, rng: np.random.Generator) -> tuple[Part, ...]:
    """Return a part that may lie anywhere, and one around something of the picture, be it as small as a ball."""
    cell_px = len(mask_HW) / GRID
    found = []
    names = np.unique(mask_HW)
    for name in (None, names[rng.integers(len(names))]):
        rows, columns = rng.integers(1, LONGEST_PART + 1, 2).tolist()
        if name is None:
            y, x = (rng.random(2) * GRID).tolist()
        else:
            ys, xs = np.nonzero(mask_HW == name)
            k = rng.integers(len(ys))
            y, x = ys[k] / cell_px, xs[k] / cell_px
        row = min(max(int(y - (rows - 1) * rng.random()), 0), GRID - rows)
        column = min(max(int(x - (columns - 1) * rng.random()), 0), GRID - columns)
        top, bottom, left, right = (round(edge * cell_px) for edge in (row, row + rows, column, column + columns))
        counts = np.bincount(mask_HW[top:bottom, left:right].ravel(), minlength=len(ENTITIES))
        is_there = counts >= MIN_SHARE_OF_PART * counts.sum()
        unsure = (ENTITIES[i] for i in np.flatnonzero((counts > 0) & ~is_there))
        there = frozenset(ENTITIES[i] for i in np.flatnonzero(is_there))
        found.append(Part((row, column, rows, columns), Truth(there, _OF_ACTIONS.union(unsure))))
    return tuple(found)


def crossed_captions(batch: Sequence[Sample], rng: np.random.Generator) -> list[Caption]:
    """Return, for each picture of which it is said what is done in it, a caption of that beside a thing of another picture.

    Most are half true: only an encoder that reads both halves can tell.
    """
    found = []
    for sample in batch:
        doing = sorted(sample.truth.true & _OF_ACTIONS)
        things = sorted(batch[int(rng.integers(len(batch)))].truth.true & _MAY_DIFFER)
        if doing and things:
            found.append(beside(doing[rng.integers(len(doing))], things[rng.integers(len(things))], rng))
    return found


def truth_of_pairs(truths: Sequence[Truth], captions: Sequence[Caption]) -> tuple[np.ndarray, np.ndarray]:
    """Return (is_true, is_known), both bool [M, C]: whether each caption is true of each picture or part.

    A caption is true if all its facts are, false if any of them is; it is unknown if neither can be said.
    """
    says_FC = _has_facts([caption.facts for caption in captions]).T
    not_true_MF = 1 - _has_facts([truth.true for truth in truths])
    false_MF = not_true_MF - _has_facts([truth.unsure - truth.true for truth in truths])
    is_true, is_false = not_true_MF @ says_FC == 0, false_MF @ says_FC > 0
    return is_true, is_true | is_false


def _has_facts(rows: Sequence[frozenset[str]]) -> np.ndarray:
    found = np.zeros((len(rows), len(FACTS)), np.float32)
    for row, facts in zip(found, rows, strict=True):
        row[[_FACT_INDEX[fact] for fact in facts]] = 1
    return found
