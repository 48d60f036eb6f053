"""What the pocket's CLIP is trained on: frames, captions, and which caption is true of which frame. Knows nothing of models.

B pictures, C captions, H x W pixels.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from alt_ray.pocket.captions import Caption, action_fact, beside, captions, close_up_caption
from alt_ray.pocket.plan import ClipPlan, ClipTruth, plan_clip
from alt_ray.pocket.vocabulary import BODY_PARTS, ENTITIES, MOTIONS, OBJECTS, SCENES, SEEN_ACTIONS
from alt_ray.pocket.world import draw_close_up, draw_frame_and_mask

MIN_PIXELS = 6  # fewer, and a thing is said not to be in the picture
CLOSE_UPS = (
    0.5  # share of the samples: small things are learned from them, and with them what a patch of them looks like
)
CLOSE_UPS_OF_OBJECTS = 0.6  # of those, where a clip has objects; there are 22 of them and 6 parts of the body
_THINGS = (*BODY_PARTS, *OBJECTS)
_MAY_DIFFER = frozenset((*OBJECTS, *SCENES))
_OF_ACTIONS = frozenset((*MOTIONS, *(action_fact(name) for name in SEEN_ACTIONS)))


@dataclass(frozen=True)
class Sample:
    """One picture [H, W, 3] uint8, a true caption of it, all facts that hold of it, and whether its action is an unseen one."""

    picture: np.ndarray
    caption: Caption
    facts: frozenset[str]
    unseen: bool


def samples(seed: int, size_px: int) -> Iterator[Sample]:
    """Yield samples for ever: a random frame, or a close-up, of one clip of the world `seed` after the other."""
    for index in itertools.count():
        rng = np.random.default_rng((seed, index, 7))
        plan = plan_clip(seed, index)
        sample = _close_up(plan, rng, size_px) if rng.random() < CLOSE_UPS else None
        yield sample or _whole(plan, rng, size_px)


def _whole(plan: ClipPlan, rng: np.random.Generator, size_px: int) -> Sample:
    picture, mask = draw_frame_and_mask(plan, int(rng.integers(plan.num_frames)), size_px)
    visible = _visible(mask)
    facts = visible | _action_facts(plan.truth)
    # What a caption speaks of may be hidden or out of the picture in this frame.
    true_ones = [caption for caption in captions(plan.truth, rng) if caption.facts <= facts]
    caption = true_ones[rng.integers(len(true_ones))]
    return Sample(picture, caption, facts, plan.truth.unseen)


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
    return Sample(picture, close_up_caption(entity, rng), visible, True)  # whether it shows an action can't be said


def _visible(mask_HW: np.ndarray) -> frozenset[str]:
    counts = np.bincount(mask_HW.ravel(), minlength=len(ENTITIES))
    return frozenset(ENTITIES[i] for i in np.flatnonzero(counts >= MIN_PIXELS))


def _action_facts(truth: ClipTruth) -> frozenset[str]:
    return frozenset() if truth.unseen else frozenset((*truth.motions, action_fact(truth.action)))


def crossed_captions(batch: Sequence[Sample], rng: np.random.Generator) -> list[Caption]:
    """Return, for each picture of which it is said what is done in it, a caption of that beside a thing of another picture.

    Most are half true: only an encoder that reads both halves can tell.
    """
    found = []
    for sample in batch:
        doing = sorted(sample.facts & _OF_ACTIONS)
        things = sorted(batch[int(rng.integers(len(batch)))].facts & _MAY_DIFFER)
        if doing and things:
            found.append(beside(doing[rng.integers(len(doing))], things[rng.integers(len(things))], rng))
    return found


def truth_of_pairs(batch: Sequence[Sample], captions: Sequence[Caption]) -> tuple[np.ndarray, np.ndarray]:
    """Return (is_true, is_known), both bool [B images, C captions]: whether each caption is true of each picture.

    Unknown: captions of actions and motions beside a picture of which it isn't said what is done in it.
    """
    is_true = np.array([[caption.facts <= sample.facts for caption in captions] for sample in batch])
    speaks = np.array([bool(caption.facts & _OF_ACTIONS) for caption in captions])
    unseen = np.array([sample.unseen for sample in batch])
    return is_true, ~(unseen[:, None] & speaks[None, :])
