"""One moment of one performance, and the movements that many actions share. Knows nothing of painting.

Cycles count repetitions: a whole number is the same moment of the next one.
"""

import itertools
import math
from dataclasses import dataclass
from math import pi

from alt_ray.pocket.figure import HIP_Y, REACH, SOLE_Y, SPINE
from alt_ray.pocket.painter import Colour, Point


@dataclass(frozen=True, slots=True)
class Take:
    """Where an action is at one moment, and how it is done in this clip.

    `cycles` grows with time, for actions that repeat; `progress` goes from 0 to 1, for those that happen once. `amplitude`, about
    1, and `style`, 0 .. 1, belong to the clip, as do the colours of things.
    """

    cycles: float
    progress: float
    amplitude: float
    style: float
    colours: tuple[Colour, Colour, Colour]

    @property
    def moment(self) -> float:
        """The part of the cycle that is over, 0 .. 1."""
        return self.cycles % 1.0

    def wave(self, shift: float = 0.0, speed: float = 1.0) -> float:
        """A sine of the cycles, -1 .. 1."""
        return math.sin(2 * pi * (self.cycles * speed + shift))


def ease(share: float) -> float:
    """Map 0 .. 1 to itself, slow at both ends; clip what is outside."""
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)


def keyed(moment: float, *keys: tuple[float, float]) -> float:
    """Return the value at `moment` of a smooth curve through (moment, value) keys, in order."""
    if moment <= keys[0][0]:
        return keys[0][1]
    for (start, a), (end, b) in itertools.pairwise(keys):
        if moment <= end:
            return a + (b - a) * ease((moment - start) / (end - start))
    return keys[-1][1]


def step(cycles: float, stride: float, lift: float) -> Point:
    """Where a foot is in a gait: on the ground it moves back by 2 * stride in half a cycle, then swings forward."""
    moment = cycles % 1.0
    if moment < 0.5:
        return stride * (1 - 4 * moment), SOLE_Y
    swing = (moment - 0.5) * 2
    return stride * (2 * ease(swing) - 1), SOLE_Y + lift * math.sin(pi * swing)


def shoulder_of(hip: Point, lean: float = 0.0) -> Point:
    return hip[0] + 0.93 * SPINE * math.sin(lean), hip[1] + 0.93 * SPINE * math.cos(lean)


def hang(shoulder: Point, angle: float, stretch: float = 0.93) -> Point:
    """Where the hand is of an arm at `angle` from hanging down, forward (+x) or, in the front view, outward to +x."""
    return shoulder[0] + stretch * REACH * math.sin(angle), shoulder[1] - stretch * REACH * math.cos(angle)


STANDING: Point = (0.0, HIP_Y)
FEET_SIDE: tuple[Point, Point] = ((0.05, SOLE_Y), (-0.07, SOLE_Y))
FEET_FRONT: tuple[Point, Point] = ((0.09, SOLE_Y), (-0.09, SOLE_Y))
IDLE_FRONT: tuple[Point, Point] = ((0.17, HIP_Y - 0.02), (-0.17, HIP_Y - 0.02))
