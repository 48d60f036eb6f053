"""What can truly be said of a clip, for training image and text encoders. Knows nothing of pictures or tokenizers.

An unseen action is never named, nor are its motions: a caption speaks only of the things, the parts of the body and the place.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from alt_ray.corpus.entities import entity_text
from alt_ray.pocket.plan import ClipTruth
from alt_ray.pocket.vocabulary import BODY_PARTS, ENTITIES, MOTIONS, OBJECTS, SCENES, SEEN_ACTIONS, pocket_corpus

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
# None of these can make the name of an unseen action ("walking with an umbrella") of what is beside a seen one.
_BESIDE = ("{} beside {}", "a person {} near {}", "{}, and {} in the picture", "somebody is {} next to {}", "{} and {}")
_AS_IN_CORPUS = 0.2  # share of the captions of one entity that are its text in the corpus, as alignment will ask for it


_ACTION_FACT = "action: "


@dataclass(frozen=True)
class Caption:
    """A text and what must be in a picture for it to be true: names of entities, and `action_fact` of an action."""

    text: str
    facts: frozenset[str]


def action_fact(action: str) -> str:
    """The fact that somebody does `action`, in a space of names of its own (an action may be called like a motion)."""
    return f"{_ACTION_FACT}{action}"


FACTS = (*ENTITIES, *(action_fact(name) for name in SEEN_ACTIONS))


def captions(truth: ClipTruth, rng: np.random.Generator) -> list[Caption]:
    """Return true captions of a clip, one of each kind that applies, in templates drawn at random.

    The kinds, in order: action, action and place, motion, action or motion beside a thing (these four for seen actions only), an
    object, a person with it and the place, a distractor, a part of the body, two things, the scene.
    """
    found = []
    things = (*truth.objects, *truth.distractors, *truth.distractors, _one_of(truth.body_parts, rng))
    place = _PLACE[truth.scene]
    if not truth.unseen:
        does = action_fact(truth.action)
        found.append(_caption(_one_of(_ACTION, rng).format(truth.action), does))
        found.append(_caption(f"{_one_of(_ACTION, rng).format(truth.action)} {place}", does, truth.scene))
        motion = _one_of(truth.motions, rng)
        found.append(_of_entity(motion, _one_of(_MOTION, rng).format(motion), rng))
        found.append(beside(_one_of((does, *truth.motions), rng), _one_of(things, rng), rng))
    if truth.objects:
        thing = _one_of(truth.objects, rng)
        found.append(_thing(thing, _THING, rng))
        found.append(_caption(f"{_one_of(_WITH, rng).format(with_article(thing))} {place}", thing, truth.scene))
    else:
        found.append(_caption(f"a person {place}", truth.scene))
    if truth.distractors:
        found.append(_thing(_one_of(truth.distractors, rng), _THING, rng))
    found.append(_thing(_one_of(truth.body_parts, rng), _THING, rng))
    one, other = _one_of(things, rng), _one_of((*truth.body_parts, *truth.distractors), rng)
    if one != other:
        found.append(_caption(f"{with_article(one)} and {with_article(other)}", one, other))
    found.append(_of_entity(truth.scene, _one_of(_SCENE, rng).format(truth.scene), rng))
    return found


def fact_captions(rng: np.random.Generator) -> list[Caption]:
    """Return one caption of every entity and every seen action, FACTS, in this order, in templates drawn at random."""
    things = [_thing(name, _THING, rng) for name in (*BODY_PARTS, *OBJECTS)]
    scenes = [_of_entity(name, _one_of(_SCENE, rng).format(name), rng) for name in SCENES]
    motions = [_of_entity(name, _one_of(_MOTION, rng).format(name), rng) for name in MOTIONS]
    actions = [_caption(_one_of(_ACTION, rng).format(name), action_fact(name)) for name in SEEN_ACTIONS]
    return [*things, *scenes, *motions, *actions]


def beside(doing: str, thing: str, rng: np.random.Generator) -> Caption:
    """Return a caption that says both: a motion, or an action as `action_fact` has it, and a thing or a scene.

    An encoder that reads only verbs takes "running beside a kite" for "running"; unseen actions are just such mixtures.
    """
    place = f"the {thing}" if thing in SCENES else with_article(thing)
    return _caption(_one_of(_BESIDE, rng).format(doing.removeprefix(_ACTION_FACT), place), doing, thing)


def close_up_caption(entity: str, rng: np.random.Generator) -> Caption:
    """Return a caption of a close-up of a part of the body or an object."""
    return _thing(entity, (*_THING, "a close-up of {}"), rng)


def _thing(entity: str, templates: tuple[str, ...], rng: np.random.Generator) -> Caption:
    return _of_entity(entity, _one_of(templates, rng).format(with_article(entity)), rng)


def _of_entity(entity: str, text: str, rng: np.random.Generator) -> Caption:
    return _caption(_corpus_texts()[entity] if rng.random() < _AS_IN_CORPUS else text, entity)


@cache
def _corpus_texts() -> dict[str, str]:
    return {entity.name: entity_text(entity) for entity in pocket_corpus().entities}


def _caption(text: str, *facts: str) -> Caption:
    return Caption(text, frozenset(facts))


def with_article(name: str) -> str:
    """Return "a ball", "an umbrella"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _one_of(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[rng.integers(len(choices))]
