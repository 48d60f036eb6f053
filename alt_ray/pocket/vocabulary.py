"""What exists in the pocket world: its entities and its actions. Knows nothing of how they are drawn.

A mask holds, for each pixel, an index into ENTITIES; the pocket corpus (corpus/pocket.jsonl) has the same names in the same
order.
"""

from dataclasses import dataclass

from alt_ray.corpus.entities import Corpus
from alt_ray.corpus.files import default_corpus_path, load_corpus

BODY_PARTS = ("head", "torso", "arm", "hand", "leg", "foot")
OBJECTS = (
    "ball",
    "barbell",
    "baseball bat",
    "bicycle",
    "box",
    "broom",
    "chair",
    "cup",
    "drum",
    "guitar",
    "hammer",
    "hula hoop",
    "kayak",
    "kite",
    "ladder",
    "paddle",
    "punching bag",
    "rope",
    "skateboard",
    "tennis racket",
    "trampoline",
    "umbrella",
)
SCENES = (
    "beach",
    "concert stage",
    "forest",
    "gym",
    "kitchen",
    "lake",
    "living room",
    "park",
    "snow slope",
    "street",
)
MOTIONS = (
    "bending",
    "bouncing",
    "circling",
    "climbing",
    "closing",
    "descending",
    "drinking",
    "gliding",
    "jumping",
    "kicking",
    "lifting",
    "lowering",
    "opening",
    "paddling",
    "pulling",
    "punching",
    "pushing",
    "riding",
    "rising",
    "running",
    "sitting",
    "squatting",
    "standing",
    "striking",
    "strumming",
    "sweeping",
    "swinging",
    "throwing",
    "walking",
    "waving",
)
ENTITIES = BODY_PARTS + OBJECTS + SCENES + MOTIONS
ENTITY_INDEX = {name: index for index, name in enumerate(ENTITIES)}


@dataclass(frozen=True)
class Action:
    """Something that people do. Lengths are in body heights: a standing person is 1 tall.

    `objects`, `body_parts` and `motions` are the entities that make it what it is. An action that repeats does so `rate_hz`
    times a second and moves on by `travel` each time; one that happens once has rate 0. `room` (width, height) is what the
    camera must show. `reverse_of` names the action of which this one is the film played backwards: only motion tells the two
    apart. `unseen` actions are held out: no caption and no training label names them, but each of their entities occurs in
    actions that are seen.
    """

    name: str
    objects: tuple[str, ...]
    body_parts: tuple[str, ...]
    motions: tuple[str, ...]
    rate_hz: float
    travel: float = 0.0
    room: tuple[float, float] = (1.1, 1.2)
    reverse_of: str | None = None
    unseen: bool = False

    @property
    def entities(self) -> tuple[str, ...]:
        return self.body_parts + self.objects + self.motions


ACTIONS = (
    Action("walking", (), ("leg", "foot"), ("walking",), 1.0, 0.8),
    Action("running", (), ("leg", "foot", "arm"), ("running",), 1.5, 1.5),
    Action("waving", (), ("hand", "arm"), ("waving",), 1.5),
    Action("doing jumping jacks", (), ("arm", "leg"), ("jumping",), 1.1, room=(1.2, 1.35)),
    Action("doing squats", (), ("leg",), ("squatting",), 0.7),
    Action("punching a punching bag", ("punching bag",), ("hand", "arm"), ("punching",), 1.5, room=(1.2, 1.35)),
    Action("kicking a ball", ("ball",), ("foot", "leg"), ("kicking",), 0.7, room=(1.5, 1.2)),
    Action("throwing a ball", ("ball",), ("hand", "arm"), ("throwing",), 0.7, room=(1.5, 1.3)),
    Action("dribbling a ball", ("ball",), ("hand",), ("bouncing",), 1.5),
    Action("swinging a baseball bat", ("baseball bat",), ("hand", "arm"), ("swinging",), 0.8, room=(1.5, 1.35)),
    Action("lifting a barbell", ("barbell",), ("hand", "arm"), ("lifting",), 0.5, room=(1.3, 1.45)),
    Action("playing guitar", ("guitar",), ("hand",), ("strumming",), 1.8),
    Action("riding a bicycle", ("bicycle",), ("leg", "foot"), ("riding",), 1.2, 1.3, (1.3, 1.35)),
    Action("jumping rope", ("rope",), ("hand", "leg"), ("jumping",), 1.5, room=(1.2, 1.4)),
    Action("skateboarding", ("skateboard",), ("foot", "leg"), ("gliding",), 0.7, 1.4, (1.2, 1.3)),
    Action("playing drums", ("drum",), ("hand", "arm"), ("striking",), 2.0, room=(1.3, 1.15)),
    Action("hammering", ("hammer",), ("hand", "arm"), ("striking",), 1.4, room=(1.2, 1.25)),
    Action("flying a kite", ("kite",), ("hand",), ("gliding",), 0.5, room=(1.6, 1.75)),
    Action("pushing a box", ("box",), ("hand", "arm"), ("pushing",), 0.8, 0.5, (1.4, 1.2)),
    Action("pulling a box", ("box",), ("hand", "arm"), ("pulling",), 0.8, 0.5, (1.4, 1.2), "pushing a box"),
    Action("picking up a box", ("box",), ("hand", "arm"), ("bending", "lifting"), 0.0),
    Action(
        "putting down a box", ("box",), ("hand", "arm"), ("bending", "lowering"), 0.0, reverse_of="picking up a box"
    ),
    Action("climbing up a ladder", ("ladder",), ("hand", "foot"), ("climbing", "rising"), 0.0, room=(1.2, 1.8)),
    Action(
        "climbing down a ladder",
        ("ladder",),
        ("hand", "foot"),
        ("climbing", "descending"),
        0.0,
        room=(1.2, 1.8),
        reverse_of="climbing up a ladder",
    ),
    Action("opening an umbrella", ("umbrella",), ("hand",), ("opening",), 0.0, room=(1.2, 1.4)),
    Action("closing an umbrella", ("umbrella",), ("hand",), ("closing",), 0.0, 0.0, (1.2, 1.4), "opening an umbrella"),
    Action("sitting down on a chair", ("chair",), ("leg", "torso"), ("sitting",), 0.0),
    Action(
        "standing up from a chair",
        ("chair",),
        ("leg", "torso"),
        ("standing",),
        0.0,
        0.0,
        (1.1, 1.2),
        "sitting down on a chair",
    ),
    Action("paddling a kayak", ("kayak", "paddle"), ("hand", "arm"), ("paddling",), 0.7, 0.7, (1.5, 0.95)),
    Action("drinking from a cup", ("cup",), ("hand", "head"), ("drinking",), 0.5, room=(0.9, 1.15)),
    Action("sweeping with a broom", ("broom",), ("hand", "arm"), ("sweeping",), 0.9, room=(1.3, 1.2)),
    Action("spinning a hula hoop", ("hula hoop",), ("torso",), ("circling",), 1.2),
    Action("playing tennis", ("tennis racket", "ball"), ("hand", "arm"), ("swinging",), 0.8, room=(1.5, 1.3)),
    Action("jumping on a trampoline", ("trampoline",), ("leg", "foot"), ("jumping",), 0.9, room=(1.3, 1.75)),
    Action("lifting a box", ("box",), ("hand", "arm"), ("lifting",), 0.5, room=(1.1, 1.5), unseen=True),
    Action("jumping over a box", ("box",), ("leg", "foot"), ("jumping",), 0.7, room=(1.5, 1.4), unseen=True),
    Action(
        "kicking a punching bag", ("punching bag",), ("foot", "leg"), ("kicking",), 0.9, room=(1.3, 1.35), unseen=True
    ),
    Action(
        "walking with an umbrella", ("umbrella",), ("hand", "leg"), ("walking",), 1.0, 0.8, (1.2, 1.45), unseen=True
    ),
    Action("carrying a ladder", ("ladder",), ("hand", "leg"), ("walking",), 1.0, 0.8, (1.5, 1.2), unseen=True),
    Action("heading a ball", ("ball",), ("head",), ("jumping",), 0.9, room=(1.2, 1.6), unseen=True),
    Action("pulling a rope", ("rope",), ("hand", "arm"), ("pulling",), 0.8, room=(1.4, 1.2), unseen=True),
    Action("running with a kite", ("kite",), ("leg", "hand"), ("running",), 1.5, 1.5, (1.7, 1.5), unseen=True),
)
ACTION_BY_NAME = {action.name: action for action in ACTIONS}
SEEN_ACTIONS = tuple(action.name for action in ACTIONS if not action.unseen)
UNSEEN_ACTIONS = tuple(action.name for action in ACTIONS if action.unseen)
MOTION_ONLY_PAIRS = tuple((action.reverse_of, action.name) for action in ACTIONS if action.reverse_of is not None)


def category_of(entity: str) -> str:
    """Return the corpus category of one of ENTITIES: body_part, object, scene or motion."""
    names = {"body_part": BODY_PARTS, "object": OBJECTS, "scene": SCENES, "motion": MOTIONS}
    return next(category for category, members in names.items() if entity in members)


def pocket_corpus() -> Corpus:
    """Load the shipped corpus of the pocket world: ENTITIES, with descriptions. Raises CorpusError if it is missing."""
    return load_corpus(default_corpus_path().with_name("pocket.jsonl"))
