"""What can truly be said of a clip, for training image and text encoders. Knows nothing of pictures or tokenizers.

An unseen action is never named, nor are its motions: a caption speaks only of the things, the parts of the body and the place.
"""

from dataclasses import dataclass

import numpy as np

from alt_ray.pocket.plan import ClipTruth

_PLACE = {
    "beach": "on the beach",
    "concert stage": "on a concert stage",
    "forest": "in the forest",
    "gym": "in a gym",
    "kitchen": "in a kitchen",
    "lake": "by a lake",
    "living room": "in a living room",
    "park": "in the park",
    "snow slope": "on a snow slope",
    "street": "on a street",
}
_ACTION = ("a person {}", "a photo of a person {}", "{}", "somebody is {}", "a video frame of {}")
_THING = ("{}", "a photo of {}", "a picture that shows {}", "there is {} in the picture", "{} in the scene")
_WITH = ("a person with {}", "somebody with {}", "{} and a person")
_SCENE = ("the {}", "a photo of the {}", "a {}", "a view of the {}", "the background is a {}")
_MOTION = ("{}", "a person who is {}", "the motion is {}", "a moment of {}")


@dataclass(frozen=True)
class Caption:
    """A text and what must be in a picture for it to be true: names of entities, and `action_fact` of an action."""

    text: str
    facts: frozenset[str]


def action_fact(action: str) -> str:
    """The fact that somebody does `action`, in a space of names of its own (an action may be called like a motion)."""
    return f"action: {action}"


def captions(truth: ClipTruth, rng: np.random.Generator) -> list[Caption]:
    """Return true captions of a clip, one of each kind that applies, in templates drawn at random.

    The kinds, in order: action, action and place, motion (these three for seen actions only), an object, a person with it and the
    place, a distractor, a part of the body, the scene.
    """
    found = []
    place = _PLACE[truth.scene]
    if not truth.unseen:
        does = action_fact(truth.action)
        found.append(_caption(_one_of(_ACTION, rng).format(truth.action), does))
        found.append(_caption(f"{_one_of(_ACTION, rng).format(truth.action)} {place}", does, truth.scene))
        motion = _one_of(truth.motions, rng)
        found.append(_caption(_one_of(_MOTION, rng).format(motion), motion))
    if truth.objects:
        thing = _one_of(truth.objects, rng)
        found.append(_thing(thing, _THING, rng))
        found.append(_caption(f"{_one_of(_WITH, rng).format(with_article(thing))} {place}", thing, truth.scene))
    else:
        found.append(_caption(f"a person {place}", truth.scene))
    if truth.distractors:
        found.append(_thing(_one_of(truth.distractors, rng), _THING, rng))
    found.append(_thing(_one_of(truth.body_parts, rng), _THING, rng))
    found.append(_caption(_one_of(_SCENE, rng).format(truth.scene), truth.scene))
    return found


def close_up_caption(entity: str, rng: np.random.Generator) -> Caption:
    """Return a caption of a close-up of a part of the body or an object."""
    return _thing(entity, (*_THING, "a close-up of {}"), rng)


def _thing(entity: str, templates: tuple[str, ...], rng: np.random.Generator) -> Caption:
    return _caption(_one_of(templates, rng).format(with_article(entity)), entity)


def _caption(text: str, *facts: str) -> Caption:
    return Caption(text, frozenset(facts))


def with_article(name: str) -> str:
    """Return "a ball", "an umbrella"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _one_of(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[rng.integers(len(choices))]
