"""What is behind the people: ten places, each known by its layout. Knows nothing of who stands in front of it.

The people's feet are at y = 0 and the ground reaches up to the horizon behind them. Colours and places of things follow the
look's numbers, so that neither one colour nor one spot gives a scene away.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alt_ray.pocket.painter import Colour, Painter
from alt_ray.pocket.vocabulary import ENTITY_INDEX

_FAR = 4.0  # further up or down than any camera looks
NUM_LOOK_NUMBERS = 24


@dataclass(frozen=True)
class Look:
    """One instance of a scene: NUM_LOOK_NUMBERS numbers in 0 .. 1 from which everything that varies is taken."""

    numbers: tuple[float, ...]

    def colour(self, slot: int, red: int, green: int, blue: int, spread: float = 50.0) -> Colour:
        # Called some twenty times a frame, hence written out; negative indices wrap around.
        n, k = self.numbers, 3 * slot
        common = n[k] - 1.0
        r = int(red + spread * (common + n[k - 1]))
        g = int(green + spread * (common + n[k - 2]))
        b = int(blue + spread * (common + n[k - 3]))
        return min(max(r, 0), 255), min(max(g, 0), 255), min(max(b, 0), 255)

    def number(self, k: int) -> float:
        return self.numbers[k % NUM_LOOK_NUMBERS]

    def places(self, p: Painter, spacing: float, reach: float, salt: int = 0) -> Iterator[tuple[float, float]]:
        """Yield (x, number) for things about `spacing` apart whose half width is below `reach`, wherever they are seen."""
        left, right = p.seen_x()
        for k in range(math.floor((left - reach) / spacing) - 1, math.ceil((right + reach) / spacing) + 1):
            x = (k + 0.6 * self.number(k * 7 + salt) + self.number(salt)) * spacing
            if left - reach < x < right + reach:
                yield x, self.number(k * 5 + salt + 3)

    def grid(self, p: Painter, spacing: float, reach: float) -> Iterator[float]:
        """Yield the x of things exactly `spacing` apart whose half width is below `reach`, wherever they are seen."""
        left, right = p.seen_x()
        for k in range(math.floor((left - reach) / spacing), math.ceil((right + reach) / spacing) + 1):
            yield k * spacing


def _beach(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 140, 200, 240), 0.62, _FAR)
    left, right = p.seen_x()
    p.disc(me, look.colour(1, 255, 235, 140, 20), (left + (right - left) * look.number(3), 1.15), 0.13)
    p.band(me, look.colour(2, 30, 120, 180), 0.28, 0.62)
    for k, y in enumerate((0.36, 0.46, 0.55)):
        for x, _ in look.places(p, 0.6, 0.2, k):
            p.line(me, (225, 240, 248), ((x - 0.17, y), (x - 0.05, y + 0.02), (x + 0.1, y)), 0.014)
    p.band(me, (235, 242, 240), 0.25, 0.29)
    p.band(me, look.colour(3, 225, 200, 150, 40), -_FAR, 0.26)
    for x, n in look.places(p, 0.5, 0.1, 9):
        p.oval(me, look.colour(4, 190, 165, 118, 30), (x, 0.14 - 0.35 * n), (0.09, 0.014))


def _stage(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 48, 36, 70, 30), 0.2, _FAR)
    curtain = look.colour(1, 130, 25, 40, 60)
    left, right = p.seen_x()
    for x, n in look.places(p, 1.1, 0.55, 2):
        light = look.colour(2 + int(n * 3), 190, 170, 110, 120)
        p.polygon(me, tuple(c // 2 for c in light), ((x, 2.2), (x - 0.45 + n * 0.5, 0.2), (x - 0.05 + n * 0.5, 0.2)))  # type: ignore[arg-type]
        p.oval(me, light, (x - 0.25 + n * 0.5, 0.16), (0.22, 0.05))
    width = (right - left) * 0.13
    for edge in (left, right - width):
        p.box(me, curtain, edge, 0.15, edge + width, _FAR)
        for k in range(1, 4):
            x = edge + width * k / 4
            p.line(me, tuple(c * 2 // 3 for c in curtain), ((x, 0.15), (x, _FAR)), 0.02)  # type: ignore[arg-type]
    p.band(me, look.colour(3, 105, 70, 45), -0.12, 0.2)
    for x, n in look.places(p, 1.1, 0.55, 2):
        p.oval(me, look.colour(4, 190, 150, 95), (x - 0.25 + n * 0.5, 0.05), (0.26, 0.05))
    p.band(me, look.colour(5, 40, 28, 24, 20), -_FAR, -0.12)
    for x, n in look.places(p, 0.24, 0.1, 5):
        p.disc(me, (24, 20, 30), (x, -0.22 - 0.05 * n), 0.085)


def _forest(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 38, 62, 40, 30), 0.15, _FAR)
    for x, n in look.places(p, 0.2, 0.1, 1):
        p.box(me, look.colour(1, 58, 50, 40, 20), x, 0.15, x + 0.05 + 0.03 * n, _FAR)
    p.band(me, look.colour(2, 92, 82, 48, 40), -_FAR, 0.2)
    for x, n in look.places(p, 0.52, 0.2, 4):
        width = 0.08 + 0.07 * n
        p.box(me, look.colour(3, 88, 62, 42, 30), x - width, 0.08, x + width, _FAR)
        p.line(me, look.colour(4, 56, 40, 28, 20), ((x - width * 0.3, 0.12), (x - width * 0.2, _FAR)), 0.02)
    for x, n in look.places(p, 0.3, 0.3, 8):
        p.oval(me, look.colour(5, 40, 100, 42), (x, 1.25 + 0.25 * n), (0.28, 0.2))
        p.oval(me, look.colour(6, 60, 112, 45), (x + 0.1, 0.04 - 0.3 * n), (0.1, 0.03))


def _gym(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 200, 205, 205), 0.24, _FAR)
    for x in look.grid(p, 0.75, 0.3):
        p.box(me, look.colour(1, 175, 220, 245, 30), x - 0.28, 0.98, x + 0.28, 1.5)
        p.line(me, (120, 122, 126), ((x, 0.98), (x, 1.5)), 0.022)
        p.line(me, (120, 122, 126), ((x - 0.28, 1.24), (x + 0.28, 1.24)), 0.022)
    p.band(me, look.colour(2, 50, 80, 160, 110), 0.24, 0.6)
    for x in look.grid(p, 0.5, 0.1):
        p.line(me, look.colour(3, 30, 45, 90), ((x, 0.24), (x, 0.6)), 0.02)
    p.band(me, look.colour(4, 205, 150, 88, 40), -_FAR, 0.24)
    for y in (0.16, 0.06, -0.07, -0.22):
        p.band(me, look.colour(5, 172, 120, 66, 30), y, y + 0.014)
    left, right = p.seen_x()
    p.line(me, look.colour(6, 235, 235, 235, 40), ((left, 0.12), (right, -0.12)), 0.03)


def _kitchen(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 226, 222, 208, 40), 0.2, _FAR)
    line = look.colour(1, 178, 172, 158, 40)
    for y in (0.66, 0.78, 0.9, 1.02):
        p.band(me, line, y, y + 0.012)
    for x in look.grid(p, 0.14, 0.05):
        p.line(me, line, ((x, 0.6), (x, 1.06)), 0.012)
    cupboard = look.colour(2, 150, 105, 70, 110)
    dark = tuple(c * 2 // 3 for c in cupboard)
    p.band(me, cupboard, 1.1, _FAR)
    p.band(me, cupboard, 0.16, 0.55)
    for x in look.grid(p, 0.42, 0.2):
        p.line(me, dark, ((x, 0.16), (x, 0.55)), 0.02)  # type: ignore[arg-type]
        p.line(me, dark, ((x, 1.1), (x, _FAR)), 0.02)  # type: ignore[arg-type]
        p.disc(me, (225, 225, 225), (x + 0.06, 0.45), 0.024)
        p.disc(me, (225, 225, 225), (x + 0.06, 1.17), 0.024)
    p.band(me, look.colour(3, 90, 90, 95), 0.55, 0.6)
    for x, _ in look.places(p, 1.3, 0.3, 6):
        p.box(me, (46, 47, 50), x - 0.2, 0.16, x + 0.2, 0.6)
        p.box(me, (105, 100, 92), x - 0.15, 0.24, x + 0.15, 0.42)
    p.band(me, look.colour(4, 208, 206, 200, 40), -_FAR, 0.16)
    tile = look.colour(5, 105, 110, 120, 60)
    for x in look.grid(p, 0.44, 0.45):
        for row, (low, high) in enumerate(((0.06, 0.16), (-0.08, 0.06), (-0.26, -0.08))):
            start = x + 0.22 * (row % 2)
            p.box(me, tile, start, low, start + 0.22, high)


def _lake(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 170, 205, 230), 0.5, _FAR)
    for x, n in look.places(p, 0.7, 0.6, 2):
        height = 1.0 + 0.4 * n
        p.polygon(me, look.colour(1, 95, 115, 120), ((x - 0.6, 0.6), (x, height), (x + 0.6, 0.6)))
        p.polygon(me, (232, 236, 240), ((x - 0.12, height - 0.08), (x, height), (x + 0.12, height - 0.08)))
    p.band(me, look.colour(2, 50, 92, 55), 0.54, 0.64)
    p.band(me, look.colour(3, 60, 120, 150), 0.06, 0.56)
    for k, y in enumerate((0.18, 0.3, 0.42, 0.5)):
        for x, _ in look.places(p, 0.45, 0.2, k):
            p.line(me, look.colour(4, 130, 180, 200, 30), ((x - 0.14, y), (x + 0.14, y)), 0.014)
    p.band(me, look.colour(5, 80, 115, 52), -_FAR, 0.07)
    for x, n in look.places(p, 0.35, 0.1, 7):
        for k in range(3):
            stem = x + 0.04 * k
            p.line(me, look.colour(6, 110, 130, 50), ((stem, 0.02), (stem + 0.02, 0.24 + 0.1 * n)), 0.014)


def _living_room(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 205, 180, 150, 70), 0.2, _FAR)
    for x in look.grid(p, 0.18, 0.1):
        p.box(me, look.colour(1, 190, 160, 132, 60), x, 0.2, x + 0.04, _FAR)
    for x, n in look.places(p, 1.0, 0.2, 2):
        p.box(me, (92, 62, 36), x - 0.2, 0.92, x + 0.2, 1.26)
        p.box(me, look.colour(2 + int(3 * n), 120, 150, 160, 120), x - 0.16, 0.96, x + 0.16, 1.22)
    sofa = look.colour(3, 110, 70, 80, 130)
    dark = tuple(c * 3 // 4 for c in sofa)
    for x, _ in look.places(p, 1.7, 1.05, 4):
        p.box(me, sofa, x - 0.5, 0.12, x + 0.5, 0.62)
        p.box(me, dark, x - 0.42, 0.2, x + 0.42, 0.34)  # type: ignore[arg-type]
        for side in (-0.5, 0.5):
            p.oval(me, dark, (x + side, 0.3), (0.09, 0.16))  # type: ignore[arg-type]
        p.line(me, (60, 50, 40), ((x + 0.85, 0.1), (x + 0.85, 0.95)), 0.028)
        p.polygon(me, (250, 235, 180), ((x + 0.7, 0.9), (x + 0.78, 1.12), (x + 0.92, 1.12), (x + 1.0, 0.9)))
    p.band(me, look.colour(4, 120, 82, 52), -_FAR, 0.14)
    p.band(me, (240, 236, 226), 0.14, 0.19)
    for x, _ in look.places(p, 2.2, 0.9, 5):
        p.oval(me, look.colour(5, 150, 60, 60, 130), (x, -0.06), (0.85, 0.12))
        p.oval(me, look.colour(6, 210, 180, 130, 80), (x, -0.06), (0.6, 0.07))


def _park(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 135, 190, 235), 0.3, _FAR)
    for x, n in look.places(p, 0.9, 0.3, 1):
        for dx in (-0.12, 0.0, 0.13):
            p.oval(me, (238, 242, 246), (x + dx, 1.32 + 0.15 * n), (0.15, 0.075))
    p.band(me, look.colour(1, 60, 120, 60), 0.3, 0.42)
    p.band(me, look.colour(2, 92, 160, 66), -_FAR, 0.32)
    for x, n in look.places(p, 0.85, 0.4, 5):
        p.box(me, look.colour(3, 100, 70, 45, 20), x - 0.045, 0.2, x + 0.045, 0.7)
        crown = look.colour(4, 48, 120, 48)
        for dx, dy, r in ((-0.15, 0.72, 0.18), (0.15, 0.74, 0.18), (0.0, 0.9 + 0.08 * n, 0.22)):
            p.disc(me, crown, (x + dx, dy), r)
    left, right = p.seen_x()
    slant = 0.06 * (look.number(8) - 0.5)
    path = ((left, 0.06 + slant), (right, 0.06 - slant), (right, -0.08 - slant), (left, -0.08 + slant))
    p.polygon(me, look.colour(5, 205, 185, 145, 40), path)


def _snow(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 95, 150, 215), 0.0, _FAR)
    left, right = p.seen_x()
    steep = 0.12 + 0.16 * look.number(2)
    for x, n in look.places(p, 0.9, 0.7, 3):
        p.polygon(me, look.colour(1, 170, 185, 210, 30), ((x - 0.75, 0.4), (x, 1.15 + 0.4 * n), (x + 0.75, 0.4)))
        p.polygon(me, (245, 248, 252), ((x - 0.28, 0.88 + 0.3 * n), (x, 1.15 + 0.4 * n), (x + 0.28, 0.88 + 0.3 * n)))

    def surface(x: float) -> float:
        return 0.45 - steep * x

    snow = look.colour(2, 232, 238, 246, 24)
    p.polygon(me, snow, ((left, surface(left)), (right, surface(right)), (right, -_FAR), (left, -_FAR)))
    for x, n in look.places(p, 0.55, 0.3, 6):
        y, height = surface(x) - 0.05, 0.4 + 0.3 * n
        for k in range(3):
            base, half = y + height * 0.25 * k, 0.15 * (1 - 0.25 * k)
            p.polygon(
                me, look.colour(3, 28, 78, 58, 30), ((x - half, base), (x, base + height * 0.5), (x + half, base))
            )
    p.band(me, snow, -_FAR, 0.1)
    for k, y in enumerate((0.04, -0.1, -0.22)):
        p.line(me, look.colour(4, 190, 205, 228, 20), ((left, y + 0.03 * k), (right, y - 0.05)), 0.016)


def _street(p: Painter, look: Look, me: int) -> None:
    p.band(me, look.colour(0, 165, 185, 205), 0.3, _FAR)
    for x, n in look.places(p, 0.72, 0.5, 1):
        top = 1.0 + 0.7 * n
        p.box(me, look.colour(1 + int(4 * n), 150, 110, 95, 110), x - 0.36, 0.2, x + 0.34, top)
        pane = (250, 235, 170) if n > 0.6 else (70, 85, 105)
        for row in range(int((top - 0.42) / 0.2)):
            for column in (-0.24, -0.05, 0.14):
                y = 0.45 + 0.2 * row
                p.box(me, pane, x + column, y, x + column + 0.1, y + 0.11)
        p.box(me, (60, 45, 40), x - 0.06, 0.2, x + 0.06, 0.38)
    p.band(me, look.colour(5, 170, 168, 165, 30), 0.1, 0.24)
    p.band(me, (205, 203, 198), 0.08, 0.11)
    p.band(me, look.colour(6, 72, 73, 78, 30), -_FAR, 0.08)
    for x in look.grid(p, 0.55, 0.2):
        p.polygon(me, (232, 228, 205), ((x - 0.15, -0.07), (x + 0.13, -0.07), (x + 0.15, -0.11), (x - 0.13, -0.11)))


_SCENES: dict[str, Callable[[Painter, Look, int], None]] = {
    "beach": _beach,
    "concert stage": _stage,
    "forest": _forest,
    "gym": _gym,
    "kitchen": _kitchen,
    "lake": _lake,
    "living room": _living_room,
    "park": _park,
    "snow slope": _snow,
    "street": _street,
}


def draw_scene(painter: Painter, scene: str, look: Look) -> None:
    """Fill the canvas with one of SCENES."""
    _SCENES[scene](painter, look, ENTITY_INDEX[scene])
