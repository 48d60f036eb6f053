"""People: how one looks, and how a pose becomes limbs. Knows nothing of actions.

Hands and feet go where they are told, if they reach. A figure looks to the right (+x) in the side view. Its unit is its own
height.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alt_ray.pocket.painter import Colour, Painter, Point, between, shade
from alt_ray.pocket.vocabulary import ENTITY_INDEX

HEAD, TORSO, ARM, HAND, LEG, FOOT = (ENTITY_INDEX[name] for name in ("head", "torso", "arm", "hand", "leg", "foot"))

HIP_Y = 0.48
SOLE_Y = 0.035
SPINE = 0.31
THIGH, SHIN = 0.229, 0.229
UPPER_ARM, FOREARM = 0.19, 0.185
REACH = UPPER_ARM + FOREARM

_SKINS: tuple[Colour, ...] = (
    (247, 214, 189),
    (228, 184, 143),
    (198, 145, 104),
    (150, 102, 70),
    (104, 69, 49),
    (75, 52, 40),
)
_HAIRS: tuple[Colour, ...] = (
    (35, 26, 22),
    (84, 52, 31),
    (151, 104, 58),
    (220, 188, 118),
    (168, 74, 39),
    (168, 168, 172),
)


@dataclass(frozen=True)
class Person:
    """How somebody looks, whatever they do."""

    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    long_sleeves: bool
    stoutness: float


def draw_person(number: int) -> Person:
    """Return person `number`: always the same one."""
    rng = np.random.default_rng((0x9E0, number))
    return Person(
        skin=_SKINS[rng.integers(len(_SKINS))],
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        shirt=random_colour(rng),
        trousers=random_colour(rng, brightest=170),
        shoes=random_colour(rng),
        long_sleeves=bool(rng.random() < 0.5),
        stoutness=float(rng.uniform(0.9, 1.2)),
    )


def random_colour(rng: np.random.Generator, darkest: int = 20, brightest: int = 245) -> Colour:
    red, green, blue = rng.integers(darkest, brightest, 3).tolist()
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a body is. Pairs are (near, far) in the side view, (right, left) on the picture in the others.

    `hands` and `feet` are wishes: a limb that is too short points there. `lean` turns the torso forward (to +x), `nod` the head.
    An elbow or knee bends to the left of the way from shoulder or hip to its end for +1, to the right for -1.
    """

    hip: Point
    hands: tuple[Point, Point]
    feet: tuple[Point, Point]
    lean: float = 0.0
    nod: float = 0.0
    view: Literal["side", "front", "back"] = "side"
    elbows: tuple[float, float] | None = None
    knees: tuple[float, float] | None = None
    toes: tuple[float, float] = (0.0, 0.0)


class Figure:
    """A person in a pose. `hands`, `feet`, `head` and `chest` say where they really are."""

    def __init__(self, person: Person, pose: Pose) -> None:
        self.person, self.pose = person, pose
        is_side = pose.view == "side"
        up = math.sin(pose.lean), math.cos(pose.lean)
        hx, hy = pose.hip
        neck = hx + SPINE * up[0], hy + SPINE * up[1]
        self.neck: Point = neck
        self.chest: Point = between(pose.hip, neck, 0.7)
        tilt = pose.lean * 0.7 + pose.nod
        self.head: Point = neck[0] + 0.115 * math.sin(tilt), neck[1] + 0.115 * math.cos(tilt)
        across = (0.015, -0.015) if is_side else (0.095, -0.095)
        hips = (0.01, -0.01) if is_side else (0.05, -0.05)
        elbows = pose.elbows or ((-1.0, -1.0) if is_side else (1.0, -1.0))
        knees = pose.knees or ((1.0, 1.0) if is_side else (1.0, -1.0))
        shoulder = between(pose.hip, neck, 0.93)
        self._arms = tuple(
            _bend((shoulder[0] + across[i], shoulder[1]), pose.hands[i], UPPER_ARM, FOREARM, elbows[i]) for i in (0, 1)
        )
        self._legs = tuple(_bend((hx + hips[i], hy), pose.feet[i], THIGH, SHIN, knees[i]) for i in (0, 1))
        self.hands: tuple[Point, Point] = self._arms[0][2], self._arms[1][2]
        self.feet: tuple[Point, Point] = self._legs[0][2], self._legs[1][2]

    def draw(self, painter: Painter) -> None:
        """Draw all of it, the near arm last."""
        self.draw_far(painter)
        self.draw_near(painter)

    def draw_far(self, painter: Painter) -> None:
        """Draw all but what can be in front of something that is carried: the near arm, or both arms in the front view."""
        if self.pose.view == "side":
            self._draw_arm(painter, 1, 0.8)
        self._draw_leg(painter, 1, 0.8 if self.pose.view == "side" else 1.0)
        self._draw_leg(painter, 0, 1.0)
        self._draw_torso(painter)
        self._draw_head(painter)

    def draw_near(self, painter: Painter) -> None:
        if self.pose.view != "side":
            self._draw_arm(painter, 1, 0.95)
        self._draw_arm(painter, 0, 0.95)

    def _draw_arm(self, painter: Painter, i: int, light: float) -> None:
        who, (shoulder, elbow, hand) = self.person, self._arms[i]
        sleeve = shade(who.shirt, light * 0.9)
        width = 0.07 * who.stoutness
        painter.limb(ARM, sleeve if who.long_sleeves else shade(who.skin, light), (shoulder, elbow, hand), width)
        if not who.long_sleeves:
            painter.limb(ARM, sleeve, (shoulder, between(shoulder, elbow, 0.5)), width)
        painter.disc(HAND, shade(who.skin, light), hand, 0.05)

    def _draw_leg(self, painter: Painter, i: int, light: float) -> None:
        who, (hip, knee, ankle) = self.person, self._legs[i]
        painter.limb(LEG, shade(who.trousers, light), (hip, knee, ankle), 0.088 * who.stoutness)
        x, y = ankle
        if self.pose.view == "side":
            toe = x + 0.095 * math.cos(self.pose.toes[i]), y + 0.095 * math.sin(self.pose.toes[i]) - 0.01
            painter.limb(FOOT, shade(who.shoes, light), ((x - 0.02, y), toe), 0.068, round_end=True)
        else:
            painter.oval(FOOT, shade(who.shoes, light), (x + (0.02 if i == 0 else -0.02), y), (0.055, 0.042))

    def _draw_torso(self, painter: Painter) -> None:
        who, (hx, hy), (nx, ny) = self.person, self.pose.hip, self.neck
        side = self.pose.view == "side"
        low, high = (
            ((0.062, 0.078) if side else (0.078, 0.115))
            if who.stoutness < 1.05
            else ((0.08, 0.085) if side else (0.1, 0.118))
        )
        ux, uy = (ny - hy) / SPINE, -(nx - hx) / SPINE
        painter.polygon(
            TORSO,
            who.shirt,
            (
                (hx + ux * low, hy + uy * low - 0.03),
                (nx + ux * high, ny + uy * high - 0.03),
                (nx + ux * 0.03, ny + uy * 0.03 + 0.02),
                (nx - ux * 0.03, ny - uy * 0.03 + 0.02),
                (nx - ux * high, ny - uy * high - 0.03),
                (hx - ux * low, hy - uy * low - 0.03),
            ),
        )

    def _draw_head(self, painter: Painter) -> None:
        who, (x, y) = self.person, self.head
        painter.line(HEAD, shade(who.skin, 0.9), (self.neck, self.head), 0.06)
        painter.disc(HEAD, who.hair, self.head, 0.1)
        if self.pose.view == "side":
            painter.disc(HEAD, who.skin, (x + 0.025, y - 0.022), 0.078)
        elif self.pose.view == "front":
            painter.disc(HEAD, who.skin, (x, y - 0.025), 0.078)


def _bend(start: Point, wish: Point, first: float, second: float, side: float) -> tuple[Point, Point, Point]:
    """Return start, joint and end of a limb of two bones that reaches for `wish`."""
    dx, dy = wish[0] - start[0], wish[1] - start[1]
    wanted = math.hypot(dx, dy) or 1e-6
    # A limb that is stretched all the way looks like a pole, and one folded to nothing has no direction.
    length = min(max(wanted, 0.06), (first + second) * 0.995)
    ux, uy = dx / wanted, dy / wanted
    middle = (length * length + first * first - second * second) / (2 * length)
    away = math.sqrt(max(first * first - middle * middle, 0.0)) * side
    joint = start[0] + ux * middle - uy * away, start[1] + uy * middle + ux * away
    return start, joint, (start[0] + ux * length, start[1] + uy * length)
