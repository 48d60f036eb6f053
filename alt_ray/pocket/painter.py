"""Paint shapes onto a canvas that remembers which entity each pixel shows. Knows nothing of what the shapes mean.

The canvas is one indexed picture at twice the size: a pixel holds the number of an ink, and an ink is a colour and an
entity. Colours (with the light on them) and masks are two look-ups in the same pixels, so that they can't disagree.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Colour = tuple[int, int, int]

SUPERSAMPLING = 2
_MAX_INKS = 256
_CIRCLE = tuple(
    (math.cos(angle), math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 14, endpoint=False).tolist()
)


class Canvas:
    """A square picture of `size_px` pixels. What is painted later covers what was painted before."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self.width_px = size_px * SUPERSAMPLING
        self._image = Image.new("P", (self.width_px, self.width_px))
        self.draw = ImageDraw.Draw(self._image)
        self._inks: dict[tuple[int, Colour], int] = {}

    def ink(self, entity: int, colour: Colour) -> int:
        """Return the number that paints `entity` in `colour`. Beyond 256 colours a picture reuses one of the same entity."""
        key = entity, colour
        number = self._inks.get(key)
        if number is None:
            if len(self._inks) == _MAX_INKS:
                return next((n for (e, _), n in self._inks.items() if e == entity), 0)
            number = self._inks[key] = len(self._inks)
        return number

    def picture(self, tint: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the colours [H, W, 3], uint8. `tint` maps the inks' colours, float [n, 3], to those in the scene's light."""
        colours = np.array([colour for _, colour in self._inks], np.float32)
        self._image.putpalette(tint(colours).clip(0, 255).astype(np.uint8).tobytes())
        return np.asarray(self._image.convert("RGB").reduce(SUPERSAMPLING))

    def mask(self) -> np.ndarray:
        """Return the entity of each pixel [H, W], uint8."""
        entities = np.zeros(_MAX_INKS, np.uint8)
        entities[: len(self._inks)] = [entity for entity, _ in self._inks]
        return entities[np.asarray(self._image)[1::SUPERSAMPLING, 1::SUPERSAMPLING]]


class Painter:
    """A place on a canvas: world point (x, y), y upwards, lies at (left + x * scale, floor - y * scale) in canvas pixels."""

    __slots__ = ("canvas", "draw", "floor", "left", "scale")

    def __init__(self, canvas: Canvas, scale: float, left: float, floor: float) -> None:
        self.canvas, self.scale, self.left, self.floor = canvas, scale, left, floor
        self.draw = canvas.draw

    def at(self, x: float, y: float = 0.0, scale: float = 1.0) -> "Painter":
        """Return a painter whose origin is (x, y) of this one and whose unit is `scale` of this one's."""
        return Painter(self.canvas, self.scale * scale, self.left + x * self.scale, self.floor - y * self.scale)

    def seen_x(self) -> tuple[float, float]:
        """Return the world x of the left and the right edge."""
        return -self.left / self.scale, (self.canvas.width_px - self.left) / self.scale

    def band(self, entity: int, colour: Colour, low: float, high: float) -> None:
        """Fill the whole width between two heights."""
        top, bottom = self.floor - high * self.scale, self.floor - low * self.scale
        if bottom > 0 and top < self.canvas.width_px:
            self.draw.rectangle((0, max(top, 0.0), self.canvas.width_px, bottom), self.canvas.ink(entity, colour))

    def box(self, entity: int, colour: Colour, x0: float, y0: float, x1: float, y1: float) -> None:
        """Fill an upright rectangle; x0 < x1 and y0 < y1."""
        left, floor, scale = self.left, self.floor, self.scale
        corners = left + x0 * scale, floor - y1 * scale, left + x1 * scale, floor - y0 * scale
        self.draw.rectangle(corners, self.canvas.ink(entity, colour))

    def polygon(self, entity: int, colour: Colour, points: Iterable[Point]) -> None:
        left, floor, scale = self.left, self.floor, self.scale
        self.draw.polygon([(left + x * scale, floor - y * scale) for x, y in points], self.canvas.ink(entity, colour))

    def line(self, entity: int, colour: Colour, points: Sequence[Point], width: float) -> None:
        """Draw a line through the points, never thinner than a pixel of the finished picture."""
        left, floor, scale = self.left, self.floor, self.scale
        path = [(left + x * scale, floor - y * scale) for x, y in points]
        self.draw.line(path, self.canvas.ink(entity, colour), max(SUPERSAMPLING, round(width * scale)))

    def disc(self, entity: int, colour: Colour, centre: Point, radius: float) -> None:
        x, y, r = self.left + centre[0] * self.scale, self.floor - centre[1] * self.scale, max(radius * self.scale, 1.0)
        self.draw.ellipse((x - r, y - r, x + r, y + r), self.canvas.ink(entity, colour))

    def oval(self, entity: int, colour: Colour, centre: Point, radii: Point, angle: float = 0.0) -> None:
        """Fill an ellipse that is turned by `angle`, counterclockwise."""
        self.polygon(entity, colour, oval_points(centre, radii, angle))

    def ring(self, entity: int, colour: Colour, centre: Point, radii: Point, width: float, angle: float = 0.0) -> None:
        """Draw the outline of an ellipse."""
        points = oval_points(centre, radii, angle)
        self.line(entity, colour, [*points, points[0], points[1]], width)

    def limb(
        self, entity: int, colour: Colour, points: Sequence[Point], width: float, *, round_end: bool = False
    ) -> None:
        """Draw a line with round joints and a round start; the end is round on request, where no hand or foot covers it."""
        self.line(entity, colour, points, width)
        for point in points if round_end else points[:-1]:
            self.disc(entity, colour, point, width / 2)


def oval_points(centre: Point, radii: Point, angle: float = 0.0) -> list[Point]:
    (x, y), (rx, ry), cos, sin = centre, radii, math.cos(angle), math.sin(angle)
    return [(x + rx * a * cos - ry * b * sin, y + rx * a * sin + ry * b * cos) for a, b in _CIRCLE]


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (below 1) or lighter (above 1)."""
    return tuple(min(255, int(channel * factor)) for channel in colour)  # type: ignore[return-value]


def along(start: Point, angle: float, length: float) -> Point:
    """Return the point at `length` from `start` in the direction `angle`: 0 is to the right, pi/2 is up."""
    return start[0] + length * math.cos(angle), start[1] + length * math.sin(angle)


def between(a: Point, b: Point, share: float) -> Point:
    """Return the point that is `share` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
