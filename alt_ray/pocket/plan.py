"""Everything that varies from clip to clip, drawn at random once. Knows nothing of pixels: a plan is numbers and names.

The same seed and index give the same plan, whatever else is drawn before or beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alt_ray.errors import UsageError
from alt_ray.pocket.figure import random_colour
from alt_ray.pocket.painter import Colour
from alt_ray.pocket.scenes import NUM_LOOK_NUMBERS, Look
from alt_ray.pocket.vocabulary import ACTION_BY_NAME, OBJECTS, SCENES, Action

DEFAULT_NUM_FRAMES, DEFAULT_FPS, DEFAULT_NUM_PEOPLE = 24, 12, 24
# An action that happens once fills the clip, up to this length; in a longer clip it is seen again and again.
_LONGEST_ONCE_S = 4.0
_USUAL_ONCE_S = 2.5

Colours = tuple[Colour, Colour, Colour]


@dataclass(frozen=True)
class Distractor:
    """An object that nobody uses. It lies in the scene at `x` from where the action is half-way through the clip."""

    name: str
    x: float
    scale: float
    in_front: bool
    colours: Colours


@dataclass(frozen=True)
class Bystander:
    """Another person further back, standing or walking past."""

    person: int
    x: float
    scale: float
    walks: bool
    phase: float


@dataclass(frozen=True)
class Camera:
    """How the clip is filmed. Shares are of the picture's side, distances of a body height.

    `fill` is the share that the action's room takes, `zoom` the growth and (`pan_x`, `pan_y`) the way over the clip, `drift`
    how far a moving person moves on the picture, `jitter` how much the hand trembles, `phases` when.
    """

    fill: float
    offset_x: float
    offset_y: float
    zoom: float
    pan_x: float
    pan_y: float
    drift: float
    jitter: float
    phases: tuple[float, float, float, float]


@dataclass(frozen=True)
class ClipPlan:
    """All that a clip is made of. `dataclasses.replace` gives the same clip with something changed."""

    action: str
    scene: str
    person: int
    num_frames: int
    fps: int
    mirrored: bool
    tempo: float
    phase: float
    amplitude: float
    style: float
    hold: float
    colours: Colours
    look: Look
    camera: Camera
    light: Colour  # in 1/128: (128, 128, 128) leaves colours as they are
    contrast: float
    noise: float  # standard deviation in grey levels
    noise_key: int
    distractors: tuple[Distractor, ...]
    bystanders: tuple[Bystander, ...]
    post_x: float | None  # a post of the scene in front of everything

    def __post_init__(self) -> None:
        if self.action not in ACTION_BY_NAME:
            raise UsageError(f"unknown action {self.action!r}; expected one of {', '.join(ACTION_BY_NAME)}")
        if self.scene not in SCENES:
            raise UsageError(f"unknown scene {self.scene!r}; expected one of {', '.join(SCENES)}")
        if self.num_frames < 1 or self.fps < 1:
            raise UsageError(f"{self.num_frames} frames at {self.fps} fps; expected 1 or more of each")

    @property
    def kind(self) -> Action:
        return ACTION_BY_NAME[self.action]

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps

    @property
    def truth(self) -> "ClipTruth":
        kind = self.kind
        distractors = tuple(distractor.name for distractor in self.distractors)
        return ClipTruth(
            action=self.action,
            scene=self.scene,
            objects=kind.objects,
            body_parts=kind.body_parts,
            motions=kind.motions,
            distractors=distractors,
            person=self.person,
            mirrored=self.mirrored,
            unseen=kind.unseen,
        )

    def share_of_time(self, frame: float) -> float:
        """Map the frames to 0 .. 1."""
        return frame / (self.num_frames - 1) if self.num_frames > 1 else 0.5

    def share_of_action(self, frame: float) -> float:
        """As share_of_time, but backwards for an action that is another one played backwards."""
        share = self.share_of_time(frame)
        return 1.0 - share if self.kind.reverse_of is not None else share

    def cycles(self, frame: float) -> float:
        """How many repetitions of the action are over."""
        duration_s = (self.num_frames - 1) / self.fps
        return self.phase + self.kind.rate_hz * self.tempo * duration_s * self.share_of_action(frame)

    def progress(self, frame: int) -> float:
        """How much of an action that happens once is over, 0 .. 1, with a rest of `hold` of the time at both ends."""
        share = self.share_of_action(frame)
        if self.duration_s > _LONGEST_ONCE_S:
            times = round(self.duration_s / _USUAL_ONCE_S)
            share = share * times % 1.0 if share < 1.0 else 1.0
        return min(1.0, max(0.0, (share - self.hold) / (1 - 2 * self.hold)))


@dataclass(frozen=True)
class ClipTruth:
    """What a clip shows. Objects, body parts and motions are those of the action; `distractors` are objects beside it."""

    action: str
    scene: str
    objects: tuple[str, ...]
    body_parts: tuple[str, ...]
    motions: tuple[str, ...]
    distractors: tuple[str, ...]
    person: int
    mirrored: bool
    unseen: bool


def plan_clip(
    seed: int,
    index: int,
    *,
    actions: Sequence[str] = tuple(ACTION_BY_NAME),
    scenes: Sequence[str] = SCENES,
    people: Sequence[int] = tuple(range(DEFAULT_NUM_PEOPLE)),
    num_frames: int = DEFAULT_NUM_FRAMES,
    fps: int = DEFAULT_FPS,
) -> ClipPlan:
    """Draw the plan of clip `index` of the world `seed`. Action, scene and person are drawn from those given, evenly.

    Raises UsageError for an unknown action or scene.
    """
    rng = np.random.default_rng((seed, index))
    action, scene = actions[int(rng.integers(len(actions)))], scenes[int(rng.integers(len(scenes)))]
    person = people[int(rng.integers(len(people)))]
    u = rng.random(
        32
    ).tolist()  # one call for all the plain numbers: a call each would take longer than drawing the frame
    brightness = 96 + 60 * u[0]
    warmth = 14 * (u[1] - 0.5)
    return ClipPlan(
        action=action,
        scene=scene,
        person=person,
        num_frames=num_frames,
        fps=fps,
        mirrored=u[2] < 0.5,
        tempo=0.8 + 0.45 * u[3],
        phase=u[4],
        amplitude=0.85 + 0.3 * u[5],
        style=u[6],
        hold=0.12 * u[7],
        colours=_colours(rng),
        look=Look(tuple(rng.random(NUM_LOOK_NUMBERS).tolist())),
        camera=Camera(
            fill=0.76 + 0.22 * u[8],
            offset_x=0.12 * (u[9] - 0.5),
            offset_y=0.08 * (u[10] - 0.5),
            zoom=0.24 * (u[11] - 0.5),
            pan_x=0.16 * (u[12] - 0.5),
            pan_y=0.06 * (u[13] - 0.5),
            drift=0.45 * u[14],
            jitter=0.012 * u[15] * u[16],
            phases=(u[17], u[18], u[19], u[20]),
        ),
        light=(int(brightness + warmth), int(brightness), int(brightness - warmth)),
        contrast=0.8 + 0.35 * u[21],
        noise=9.0 * u[22] * u[22],
        noise_key=int(u[23] * (1 << 20)),
        distractors=tuple(_distractor(rng) for _ in range((u[24] < 0.4) + (u[24] < 0.12))),
        bystanders=tuple(_bystander(rng) for _ in range((u[25] < 0.3) + (u[25] < 0.08))),
        post_x=0.7 * (u[27] - 0.5) if u[26] < 0.12 else None,
    )


def _colours(rng: np.random.Generator) -> Colours:
    return random_colour(rng, 40), random_colour(rng, 40), random_colour(rng, 40)


def _distractor(rng: np.random.Generator) -> Distractor:
    x, side, depth, front = rng.random(4).tolist()
    return Distractor(
        name=OBJECTS[rng.integers(len(OBJECTS))],
        x=(0.4 + 0.4 * x) * (1 if side < 0.5 else -1),
        scale=0.7 + 0.25 * depth,
        in_front=front < 0.2,
        colours=_colours(rng),
    )


def _bystander(rng: np.random.Generator) -> Bystander:
    x, depth, walks, phase = rng.random(4).tolist()
    return Bystander(
        # Never somebody who acts in an archive: a bystander who is a group of its own would leak across splits.
        person=1_000_000 + int(rng.integers(1000)),
        x=1.6 * (x - 0.5),
        scale=0.45 + 0.2 * depth,
        walks=walks < 0.5,
        phase=phase,
    )
