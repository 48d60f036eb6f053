"""How each object looks, held or at rest. Knows nothing of who uses it.

Shape and usual size tell objects apart; their colours are handed in. Angles: 0 is to the right, pi/2 is up.
"""

import math
from collections.abc import Callable, Sequence
from math import pi

from alt_ray.pocket.painter import Colour, Painter, Point, along, between, oval_points, shade
from alt_ray.pocket.vocabulary import ENTITY_INDEX, OBJECTS

_ID = {name: ENTITY_INDEX[name] for name in OBJECTS}
_STEEL: Colour = (150, 154, 162)
_DARK: Colour = (38, 38, 42)
_WOOD: Colour = (158, 112, 66)
# The upright tools lean on nothing when at rest; a slight slant tells them from lampposts.
_LEAN = 1.45


def ball(p: Painter, centre: Point, colour: Colour, turn: float = 0.0, radius: float = 0.085) -> None:
    p.disc(_ID["ball"], colour, centre, radius)
    for k in range(3):
        p.disc(_ID["ball"], shade(colour, 0.45), along(centre, turn + k * 2 * pi / 3, radius * 0.55), radius * 0.26)


def barbell(p: Painter, centre: Point, colour: Colour) -> None:
    x, y = centre
    p.line(_ID["barbell"], _STEEL, ((x - 0.54, y), (x + 0.54, y)), 0.025)
    for side in (-1, 1):
        for offset, half, width in ((0.42, 0.15, 0.035), (0.475, 0.12, 0.03)):
            p.box(_ID["barbell"], colour, x + side * offset - width, y - half, x + side * offset + width, y + half)


def baseball_bat(p: Painter, grip: Point, angle: float, colour: Colour) -> None:
    start, end = along(grip, angle, -0.06), along(grip, angle, 0.46)
    p.polygon(_ID["baseball bat"], colour, _taper(start, end, 0.016, 0.045))
    p.disc(_ID["baseball bat"], colour, end, 0.045)


def bicycle(p: Painter, x: float, turn: float, colour: Colour) -> None:
    me, crank, saddle, bars = _ID["bicycle"], (x - 0.02, 0.25), (x - 0.13, 0.54), (x + 0.25, 0.6)
    for side in (-0.32, 0.32):
        hub = x + side, 0.215
        for k in range(3):
            a = turn + k * pi / 3
            p.line(me, _STEEL, (along(hub, a, 0.19), along(hub, a, -0.19)), 0.008)
        p.ring(me, _DARK, hub, (0.2, 0.2), 0.034)
    p.line(me, colour, ((x - 0.32, 0.215), crank, (x + 0.22, 0.48), saddle, crank), 0.032)
    p.line(me, colour, ((x - 0.32, 0.215), saddle), 0.032)
    p.line(me, colour, ((x + 0.32, 0.215), bars, (x + 0.31, 0.64)), 0.032)
    p.line(me, _DARK, ((saddle[0] - 0.06, 0.56), (saddle[0] + 0.05, 0.56)), 0.04)
    p.disc(me, _DARK, crank, 0.04)


def box(p: Painter, corner: Point, side: float, colour: Colour) -> None:
    """Draw a box whose lower left corner is given."""
    x, y = corner
    p.box(_ID["box"], shade(colour, 0.55), x, y, x + side, y + side)
    p.box(_ID["box"], colour, x + 0.018, y + 0.018, x + side - 0.018, y + side - 0.018)
    p.box(_ID["box"], shade(colour, 1.35), x + side * 0.4, y + 0.018, x + side * 0.6, y + side - 0.018)


def broom(p: Painter, foot: Point, angle: float, colour: Colour) -> None:
    """Draw a broom by the middle of its bristles' end and the direction of its stick."""
    neck = along(foot, angle, 0.14)
    p.line(_ID["broom"], _WOOD, (neck, along(foot, angle, 0.9)), 0.026)
    p.polygon(_ID["broom"], colour, _taper(neck, foot, 0.045, 0.115))
    p.line(_ID["broom"], shade(colour, 0.6), (neck, foot), 0.012)


def chair(p: Painter, x: float, colour: Colour) -> None:
    """Draw a chair whose seat is centred at x and whose back is on the left."""
    me, dark = _ID["chair"], shade(colour, 0.7)
    for leg in (-0.13, 0.13):
        p.line(me, dark, ((x + leg, 0.0), (x + leg, 0.28)), 0.035)
    p.polygon(me, colour, ((x - 0.17, 0.29), (x - 0.2, 0.66), (x - 0.15, 0.66), (x - 0.12, 0.29)))
    p.box(me, colour, x - 0.17, 0.25, x + 0.16, 0.3)


def cup(p: Painter, centre: Point, tilt: float, colour: Colour) -> None:
    """Draw a cup; `tilt` pours to the left."""
    up = pi / 2 + tilt
    bottom, top = along(centre, up, -0.07), along(centre, up, 0.07)
    p.ring(_ID["cup"], shade(colour, 0.8), along(centre, up - pi / 2, 0.07), (0.038, 0.038), 0.02)
    p.polygon(_ID["cup"], colour, _taper(bottom, top, 0.042, 0.062))
    p.polygon(_ID["cup"], shade(colour, 0.6), _taper(between(bottom, top, 0.85), top, 0.062, 0.062))


def drum(p: Painter, centre: Point, radius: float, height: float, colour: Colour) -> None:
    """Draw a drum, by the middle of its skin."""
    me, (x, y) = _ID["drum"], centre
    p.line(me, _STEEL, ((x - radius * 0.8, 0.0), (x, y - height), (x + radius * 0.8, 0.0)), 0.022)
    p.oval(me, shade(colour, 0.8), (x, y - height), (radius, radius * 0.35))
    p.box(me, colour, x - radius, y - height, x + radius, y)
    p.line(
        me,
        _STEEL,
        ((x - radius, y - height), (x - radius * 0.4, y), (x + radius * 0.2, y - height), (x + radius, y)),
        0.012,
    )
    p.oval(me, (236, 232, 220), centre, (radius, radius * 0.35))


def drumstick(p: Painter, hand: Point, angle: float) -> None:
    p.line(_ID["drum"], _WOOD, (hand, along(hand, angle, 0.2)), 0.022)


def guitar(p: Painter, middle: Point, angle: float, colour: Colour) -> None:
    me = _ID["guitar"]
    p.line(me, shade(_WOOD, 0.6), (middle, along(middle, angle, 0.46)), 0.036)
    p.line(me, _DARK, (along(middle, angle, 0.44), along(middle, angle, 0.53)), 0.055)
    p.disc(me, colour, along(middle, angle, -0.06), 0.125)
    p.disc(me, colour, along(middle, angle, 0.09), 0.095)
    p.disc(me, _DARK, along(middle, angle, 0.03), 0.04)
    p.line(me, _DARK, (along(middle, angle + 0.6, -0.14), along(middle, angle - 0.6, -0.14)), 0.022)


def hammer(p: Painter, hand: Point, angle: float, colour: Colour) -> None:
    end = along(hand, angle, 0.24)
    p.line(_ID["hammer"], colour, (along(hand, angle, -0.05), end), 0.03)
    p.line(_ID["hammer"], _STEEL, (along(end, angle + pi / 2, 0.075), along(end, angle - pi / 2, 0.085)), 0.085)


def hula_hoop_half(p: Painter, centre: Point, radii: Point, tilt: float, colour: Colour, *, front: bool) -> None:
    points = oval_points(centre, radii, tilt)
    half = [*points[7:], points[0]] if front else points[:8]
    p.line(_ID["hula hoop"], colour if front else shade(colour, 0.7), half, 0.036)


def kayak(p: Painter, x: float, y: float, colour: Colour) -> None:
    """Draw the hull; (x, y) is the middle of its deck."""
    hull = (
        (-0.68, 0.06),
        (-0.5, 0.0),
        (0.5, 0.0),
        (0.68, 0.06),
        (0.5, -0.13),
        (0.3, -0.17),
        (-0.3, -0.17),
        (-0.5, -0.13),
    )
    p.polygon(_ID["kayak"], colour, [(x + a, y + b) for a, b in hull])
    p.line(_ID["kayak"], shade(colour, 1.5), ((x - 0.56, y - 0.05), (x + 0.56, y - 0.05)), 0.026)


def kite(p: Painter, centre: Point, angle: float, colours: Sequence[Colour]) -> None:
    me = _ID["kite"]
    top, bottom = along(centre, angle, 0.2), along(centre, angle, -0.26)
    left, right = along(centre, angle + pi / 2, 0.17), along(centre, angle - pi / 2, 0.17)
    tail = [along(bottom, angle + pi + 0.5 * (-1) ** k, 0.09 * k) for k in range(4)]
    p.line(me, colours[1], tail, 0.026)
    p.polygon(me, colours[0], (top, left, bottom))
    p.polygon(me, colours[1], (top, bottom, right))
    p.line(me, shade(colours[0], 0.5), (left, right), 0.014)


def kite_string(p: Painter, hand: Point, centre: Point) -> None:
    middle = between(hand, centre, 0.5)
    p.line(_ID["kite"], (235, 235, 235), (hand, (middle[0] + 0.04, middle[1] - 0.07), centre), 0.008)


def ladder(
    p: Painter, foot: Point, angle: float, length: float, colour: Colour, half: float = 0.17, rung: float = 0.16
) -> None:
    me = _ID["ladder"]
    for k in range(int(length / rung)):
        middle = along(foot, angle, rung * (k + 0.6))
        p.line(
            me, shade(colour, 0.85), (along(middle, angle + pi / 2, half), along(middle, angle - pi / 2, half)), 0.026
        )
    for side in (-1, 1):
        start = along(foot, angle + side * pi / 2, half)
        p.line(me, colour, (start, along(start, angle, length)), 0.036)


def paddle(p: Painter, middle: Point, angle: float, colour: Colour) -> None:
    p.line(_ID["paddle"], shade(_WOOD, 1.1), (along(middle, angle, -0.5), along(middle, angle, 0.5)), 0.024)
    for side in (-1, 1):
        p.oval(_ID["paddle"], colour, along(middle, angle, 0.5 * side), (0.13, 0.06), angle)


def punching_bag(p: Painter, top: Point, swing: float, colour: Colour) -> None:
    """Draw a bag on a rope that hangs from far above; `swing` moves its lower end to the right."""
    me, (x, y) = _ID["punching bag"], top
    bottom = x + swing, y - 0.55
    p.line(me, _DARK, ((x - swing, y + 0.9), (x, y)), 0.02)
    p.limb(me, colour, (top, bottom), 0.24, round_end=True)
    for share in (0.05, 0.85):
        x, y = between(top, bottom, share)
        p.line(me, shade(colour, 0.55), ((x - 0.12, y), (x + 0.12, y)), 0.03)


def rope(p: Painter, points: Sequence[Point], colour: Colour) -> None:
    p.line(_ID["rope"], colour, points, 0.032)


def skateboard(p: Painter, x: float, colour: Colour, y: float = 0.0) -> None:
    me = _ID["skateboard"]
    for wheel in (-0.17, 0.17):
        p.disc(me, (225, 220, 205), (x + wheel, y + 0.035), 0.04)
    deck = [(x + dx, y + dy) for dx, dy in ((-0.33, 0.14), (-0.24, 0.09), (0.24, 0.09), (0.33, 0.14))]
    p.line(me, colour, deck, 0.045)


def tennis_racket(p: Painter, hand: Point, angle: float, colour: Colour) -> None:
    me, middle = _ID["tennis racket"], along(hand, angle, 0.33)
    for offset in (-0.05, 0.0, 0.05):
        a, b = along(middle, angle + pi / 2, offset), along(middle, angle, offset)
        p.line(me, (225, 225, 215), (along(a, angle, -0.12), along(a, angle, 0.12)), 0.006)
        p.line(me, (225, 225, 215), (along(b, angle + pi / 2, -0.09), along(b, angle - pi / 2, 0.09)), 0.006)
    p.ring(me, colour, middle, (0.135, 0.1), 0.03, angle)
    p.line(me, shade(colour, 0.7), (along(hand, angle, -0.06), along(hand, angle, 0.2)), 0.036)


def trampoline(p: Painter, x: float, sag: float, colour: Colour) -> None:
    """Draw a trampoline of height 0.24 whose bed is pressed down by `sag` in the middle."""
    me = _ID["trampoline"]
    for leg in (-0.46, -0.2, 0.2, 0.46):
        p.line(me, _STEEL, ((x + leg, 0.0), (x + leg * 0.95, 0.22)), 0.03)
    bed = ((-0.52, 0.26), (-0.2, 0.26 - sag), (0.2, 0.26 - sag), (0.52, 0.26), (0.5, 0.2), (-0.5, 0.2))
    p.polygon(me, _DARK, [(x + dx, y) for dx, y in bed])
    p.line(me, colour, ((x - 0.55, 0.22), (x + 0.55, 0.22)), 0.07)


def umbrella(p: Painter, hand: Point, angle: float, openness: float, colours: Sequence[Colour]) -> None:
    """Draw an umbrella from 0 (closed) to 1 (open); `angle` is where its tip points."""
    me, top = _ID["umbrella"], along(hand, angle, 0.55)
    p.line(me, _DARK, (along(hand, angle, -0.07), along(top, angle, 0.05)), 0.024)
    half, drop = 0.04 + 0.4 * openness, 0.4 - 0.24 * openness
    rim = [along(along(top, angle, -drop + 0.05 * (k % 2)), angle - pi / 2, half * (k - 3) / 3) for k in range(7)]
    dome = [
        along(along(top, angle, -drop * (1 - math.cos(a))), angle - pi / 2, half * math.sin(a))
        for a in (-pi / 2, -1.1, -0.7, -0.3, 0.3, 0.7, 1.1, pi / 2)
    ]
    p.polygon(me, colours[0], [*dome, *reversed(rim)])
    p.polygon(me, colours[1], [top, rim[2], rim[3]])
    p.polygon(me, colours[1], [top, rim[4], rim[5]])


# Each object on its own, standing or lying on the ground at x, where a clip shows it without using it.
AT_REST: dict[str, Callable[[Painter, float, Sequence[Colour]], None]] = {
    "ball": lambda p, x, c: ball(p, (x, 0.085), c[0]),
    "barbell": lambda p, x, c: barbell(p, (x, 0.15), c[0]),
    "baseball bat": lambda p, x, c: baseball_bat(p, (x, 0.06), _LEAN, c[0]),
    "bicycle": lambda p, x, c: bicycle(p, x, 0.3, c[0]),
    "box": lambda p, x, c: box(p, (x - 0.14, 0.0), 0.28, c[0]),
    "broom": lambda p, x, c: broom(p, (x, 0.0), _LEAN, c[0]),
    "chair": lambda p, x, c: chair(p, x, c[0]),
    "cup": lambda p, x, c: cup(p, (x, 0.07), 0.0, c[0]),
    "drum": lambda p, x, c: drum(p, (x, 0.4), 0.17, 0.2, c[0]),
    "guitar": lambda p, x, c: guitar(p, (x, 0.19), _LEAN, c[0]),
    "hammer": lambda p, x, c: hammer(p, (x, 0.05), _LEAN, c[0]),
    "hula hoop": lambda p, x, c: p.ring(_ID["hula hoop"], c[0], (x, 0.3), (0.29, 0.3), 0.036),
    "kayak": lambda p, x, c: kayak(p, x, 0.17, c[0]),
    "kite": lambda p, x, c: kite(p, (x, 0.3), 1.3, c),
    "ladder": lambda p, x, c: ladder(p, (x, 0.0), _LEAN, 1.1, c[0]),
    "paddle": lambda p, x, c: paddle(p, (x, 0.6), _LEAN, c[0]),
    "punching bag": lambda p, x, c: punching_bag(p, (x, 0.85), 0.0, c[0]),
    "rope": lambda p, x, c: rope(
        p, [(x - 0.3, 0.02), (x - 0.1, 0.16), (x, 0.02), (x + 0.12, 0.14), (x + 0.3, 0.02)], c[0]
    ),
    "skateboard": lambda p, x, c: skateboard(p, x, c[0]),
    "tennis racket": lambda p, x, c: tennis_racket(p, (x, 0.06), _LEAN, c[0]),
    "trampoline": lambda p, x, c: trampoline(p, x, 0.0, c[0]),
    "umbrella": lambda p, x, c: umbrella(p, (x, 0.1), _LEAN, 1.0, c),
}


def _taper(start: Point, end: Point, start_half: float, end_half: float) -> tuple[Point, Point, Point, Point]:
    """Return the corners of a bar that is 2 * start_half wide at its start and 2 * end_half at its end."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1e-6
    nx, ny = -dy / length, dx / length
    return (
        (start[0] + nx * start_half, start[1] + ny * start_half),
        (end[0] + nx * end_half, end[1] + ny * end_half),
        (end[0] - nx * end_half, end[1] - ny * end_half),
        (start[0] - nx * start_half, start[1] - ny * start_half),
    )
