"""Where and when the augmented views of training look: one region, one flip and T moments per view, drawn once.

Everything drawn is a function of the seed, the clip and the number of the view, never of the worker, the order or what is
drawn for other views, so that a repeated encode gives the same pictures. Knows nothing of files, codecs or pixels' values.

A augmented views, T frames per view.
"""

import hashlib
import json
import math
import random
from dataclasses import dataclass
from typing import NamedTuple

from alt_ray.errors import UsageError

# Below this a picture is scaled so far up, to be cut, that the memory for it grows without bound.
MIN_AREA = 0.05
MAX_ASPECT = 4.0


@dataclass(frozen=True)
class Augmentation:
    """What may vary from one augmented view to the next.

    The region's aspect ratio lies between 1 / `max_aspect` and `max_aspect` of what a test view shows undistorted, and its
    area between `min_area` and all of the largest such region that fits the picture. `flip` mirrors every second view, and is
    wrong where labels tell left from right. `jitter` takes a random moment of each of the T segments instead of its middle.
    """

    min_area: float = 0.5
    max_aspect: float = 4 / 3
    flip: bool = True
    jitter: bool = True

    def __post_init__(self) -> None:
        if not MIN_AREA <= self.min_area <= 1:
            raise UsageError(f"min_area must be a share from {MIN_AREA} to 1, got {self.min_area}")
        if not 1 <= self.max_aspect <= MAX_ASPECT:
            raise UsageError(f"max_aspect must be from 1 to {MAX_ASPECT:g}, got {self.max_aspect}")


class Region(NamedTuple):
    """A part of a displayed picture, in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class AugmentedView:
    """What was drawn for one view. `area` and `aspect` are the region's, `x` and `y` (0 to 1) where in the room left it lies;
    `moments` says for each of the T segments how far into it (0 to 1) the view looks."""

    area: float
    aspect: float
    x: float
    y: float
    flip: bool
    moments: tuple[float, ...]

    def times(self, start_s: float, end_s: float) -> list[float]:
        """Return the T moments in seconds at which this view looks at `start_s` .. `end_s`, one in each equal segment."""
        segment_s = (end_s - start_s) / len(self.moments)
        return [start_s + (i + moment) * segment_s for i, moment in enumerate(self.moments)]

    def region(self, width: float, height: float) -> Region:
        """Return the region of a picture of the displayed size `width` x `height`: the same for all that have its shape."""
        side = math.sqrt(self.area)
        region_width = min(1.0, height * self.aspect / width) * side
        region_height = min(1.0, width / self.aspect / height) * side
        return Region(self.x * (1 - region_width), self.y * (1 - region_height), region_width, region_height)

    def cut(self, width: float, height: float, size: int) -> tuple[int, int, slice, slice]:
        """Return the (width, height) in pixels to scale the whole picture to, and the (rows, columns) to cut from that.

        What is cut is the region, moved by less than a pixel of the result, as `size` x `size` pixels.
        """
        region = self.region(width, height)
        whole_width, whole_height = round(size / region.width), round(size / region.height)
        left = min(round(region.left * whole_width), whole_width - size)
        top = min(round(region.top * whole_height), whole_height - size)
        return whole_width, whole_height, slice(top, top + size), slice(left, left + size)


def draw_view(
    augmentation: Augmentation,
    seed: int,
    uri: str,
    start_s: float | None,
    end_s: float | None,
    number: int,
    num_frames: int,
) -> AugmentedView:
    """Draw augmented view `number` (from 0) of the clip `uri` between the bounds as they were asked for."""
    bounds = [None if bound is None else float(bound) for bound in (start_s, end_s)]
    key = hashlib.sha256(json.dumps([seed, uri, *bounds, number]).encode()).digest()
    # random() is the one generator whose numbers Python and NumPy promise never to change. All are drawn whatever is switched
    # off, and the T moments last, so that no setting changes what another one draws.
    draw = random.Random(int.from_bytes(key, "big")).random
    area, aspect, x, y, flip = (draw() for _ in range(5))
    moments = tuple(draw() for _ in range(num_frames))
    return AugmentedView(
        area=augmentation.min_area + (1 - augmentation.min_area) * area,
        aspect=augmentation.max_aspect ** (2 * aspect - 1),
        x=x,
        y=y,
        flip=augmentation.flip and flip < 0.5,
        moments=moments if augmentation.jitter else (0.5,) * num_frames,
    )
