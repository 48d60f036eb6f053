"""A colour for every entity of a corpus, distinct and always the same. Knows nothing of pictures or pages.

Each category has a range of hues of its own, and hues are counted in OKLCH, where equal steps look equally large. The colour of
an entity follows from its place among those of its category: entities that a corpus gains at its end change no other colour.
"""

import math
from collections.abc import Sequence

Colour = tuple[int, int, int]

# Degrees: red and orange, yellow, green, and from blue to violet for objects, of which there are most.
HUES = {"body_part": (-15, 65), "motion": (80, 112), "scene": (125, 185), "object": (200, 335)}
ANY_HUE = (0, 360)
LIGHTNESS = (0.45, 0.9)
CHROMA = 0.17
# Multiples of these two numbers, modulo 1, fill a square evenly, however many there are.
# Source: Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018).
_HUE_STEP, _LIGHTNESS_STEP = 0.7548776662466927, 0.5698402909980532


def entity_colours(categories: Sequence[str]) -> list[Colour]:
    """Return a colour (RGB, 0 to 255) for each entity of a corpus, given by its category, in the order of the corpus.

    A category without a range of its own ("" for entities that have none) may have any hue.
    """
    seen: dict[str, int] = {}
    colours = []
    for category in categories:
        place = seen[category] = seen.get(category, -1) + 1
        hue = _within(HUES.get(category, ANY_HUE), place * _HUE_STEP)
        colours.append(_in_gamut(_within(LIGHTNESS, place * _LIGHTNESS_STEP), hue))
    return colours


def css(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _within(limits: tuple[float, float], place: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * ((place + 0.5) % 1.0)


def _in_gamut(lightness: float, hue: float) -> Colour:
    """Return the colour with as much chroma, up to CHROMA, as a screen can show."""
    chroma = CHROMA
    while min(rgb := _linear_rgb(lightness, chroma, hue)) < 0 or max(rgb) > 1:
        chroma *= 0.95
    red, green, blue = (round(255 * _gamma(value)) for value in rgb)
    return red, green, blue


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """Source: Ottosson, "A perceptual color space for image processing" (2020)."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
