"""Colours of the miniature.

As in the world, many kinds of things have a usual colour (green bottles, cream fleeces) that a network can learn soon,
and every kind has exceptions, so that none is told by its colour alone.
"""

import colorsys
from random import Random

from nnti.data.miniature.sketch import Colour

__all__ = ["DARK", "GLASS", "LAMP", "coat", "hair", "leaf", "metal", "mix", "paint", "shade", "skin", "wood"]

DARK = (34, 34, 38)  # tyres, shoes, screens
GLASS = (96, 122, 140)  # windows from outside
LAMP = (250, 240, 200)

_COATS = [
    (58, 44, 38), (98, 66, 42), (146, 98, 58), (188, 142, 88), (212, 178, 130), (232, 222, 204),
    (128, 124, 120), (84, 84, 88), (44, 42, 46), (166, 88, 44), (200, 120, 60), (170, 158, 142),
]  # fmt: skip
_USUAL = 0.75  # share of things that have their kind's usual colour
_SKINS = [(240, 204, 176), (226, 178, 142), (198, 144, 106), (150, 100, 68), (104, 68, 48), (74, 50, 38)]
_HAIRS = [(36, 28, 26), (70, 46, 32), (112, 74, 42), (176, 128, 70), (214, 184, 120), (150, 60, 36), (170, 168, 166)]
_WOODS = [(150, 104, 62), (110, 70, 42), (188, 146, 96), (84, 54, 38), (206, 176, 134), (130, 80, 50)]


def paint(rng: Random, usual: float | None = None) -> Colour:
    """Return the colour of lacquer, cloth or plastic.

    Mostly a bright colour near the hue `usual` (0 … 1, red at 0) if there is one; else any hue, and whites, greys and
    blacks as often as on a street.
    """
    if usual is not None and rng.random() < _USUAL:
        hue = (usual + rng.uniform(-0.03, 0.03)) % 1
        return _rgb(hue, rng.uniform(0.55, 0.85), rng.uniform(0.5, 0.9))
    if rng.random() < 0.3:
        level = rng.choice([38, 66, 120, 168, 214, 236])
        return tuple(min(255, max(0, level + rng.randint(-8, 8))) for _ in range(3))
    return _rgb(rng.random(), rng.uniform(0.25, 0.74), rng.uniform(0.38, 0.86))


def coat(rng: Random, *usual: Colour) -> Colour:
    """Return the colour of an animal's coat, mostly one of `usual`."""
    return _vary(rng, rng.choice(usual if rng.random() < _USUAL else _COATS), 10)


def skin(rng: Random) -> Colour:
    """Return the colour of human skin."""
    return _vary(rng, rng.choice(_SKINS), 6)


def hair(rng: Random) -> Colour:
    """Return the colour of human hair."""
    return _vary(rng, rng.choice(_HAIRS), 8)


def wood(rng: Random, painted: float = 0.2) -> Colour:
    """Return the colour of wood, `painted` being the chance of a coat of paint."""
    return paint(rng) if rng.random() < painted else _vary(rng, rng.choice(_WOODS), 10)


def leaf(rng: Random) -> Colour:
    """Return the colour of leaves."""
    return _vary(rng, rng.choice([(58, 108, 52), (82, 132, 58), (46, 88, 56), (112, 142, 64), (70, 112, 84)]), 12)


def metal(rng: Random) -> Colour:
    """Return the colour of bare metal."""
    level = rng.randint(120, 200)
    return level, level + 3, level + 8


def shade(colour: Colour, factor: float) -> Colour:
    """Return `colour` made darker (factor < 1) or lighter (> 1)."""
    return tuple(min(255, max(0, round(channel * factor))) for channel in colour)


def mix(first: Colour, second: Colour, share: float = 0.5) -> Colour:
    """Return `first` with a `share` of `second` mixed in."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _vary(rng: Random, colour: Colour, spread: int) -> Colour:
    change = rng.randint(-spread, spread)
    return tuple(min(255, max(0, channel + change + rng.randint(-4, 4))) for channel in colour)
