"""Drawings of what goes far: aeroplane, boat, train. Each function returns a new, random sketch."""
# Outlines are written as rows of points.
# fmt: off

from collections.abc import Callable
from random import Random

from nnti.data.miniature.colours import DARK, GLASS, LAMP, metal, mix, paint, shade, wood
from nnti.data.miniature.objects_road import wheel
from nnti.data.miniature.sketch import Colour, Face, Sketch

__all__ = ["aeroplane", "boat", "flying_aeroplane", "train"]


def aeroplane(rng: Random) -> Sketch:
    """Tapered fuselage, swept wings, tail fin, engines or a propeller; from the side."""
    return _plane(rng, rng.choice([_airliner, _airliner, _propeller_plane]))


def flying_aeroplane(rng: Random) -> Sketch:
    """The aeroplane from the side or from below."""
    return _plane(rng, rng.choice([_airliner, _plane_below, _propeller_plane]))


def _plane(rng: Random, draw: Callable[[Sketch, Random, Colour, Colour], None]) -> Sketch:
    hull = rng.choice([(228, 230, 234), (228, 230, 234), metal(rng), paint(rng)])
    sketch, accent = Sketch(), paint(rng, 0.6)
    draw(sketch, rng, hull, accent)
    return sketch


def _airliner(sketch: Sketch, rng: Random, hull: Colour, accent: Colour) -> None:
    length = rng.uniform(1.25, 1.6)
    sketch.polygon([(0.15, 0.12), (-0.25, 0.5), (-0.42, 0.5), (-0.28, 0.12)], shade(hull, 0.7), material="metal")
    sketch.polygon(
        [(-length + 0.36, 0.1), (-length - 0.02, 0.68), (-length + 0.16, 0.68), (-length + 0.72, 0.14)], accent,
        material="metal",
    )
    sketch.smooth(
        [
            (length, -0.02), (length - 0.16, 0.13), (length - 0.5, 0.2), (-length + 0.6, 0.2), (-length, 0.14),
            (-length + 0.4, -0.1), (-length + 0.8, -0.19), (length - 0.5, -0.19), (length - 0.12, -0.13),
        ],
        hull,
        material="metal",
    )
    sketch.box(-length, -0.2, length, -0.05, accent if rng.random() < 0.5 else shade(hull, 0.8), clip=True)
    for step in range(14):
        x = -length + 0.75 + step * (2 * length - 1.3) / 13
        sketch.box(x - 0.025, 0.03, x + 0.025, 0.1, (58, 72, 92), solid=False)
    sketch.polygon(
        [(length - 0.3, 0.16), (length - 0.15, 0.05), (length - 0.06, 0.05), (length - 0.16, 0.14)], (52, 66, 84),
        solid=False,
    )
    sketch.polygon(
        [(-length + 0.3, 0.08), (-length - 0.18, 0.2), (-length - 0.02, 0.2), (-length + 0.6, 0.06)],
        shade(accent, 0.8), material="metal",
    )
    sketch.limb([(0.12, -0.26, 0.11), (0.4, -0.26, 0.12)], shade(hull, 0.85), material="metal")
    sketch.oval(0.5, -0.26, 0.04, 0.105, DARK, solid=False)
    sketch.polygon([(0.35, -0.08), (-0.45, -0.55), (-0.68, -0.55), (-0.2, -0.06)], shade(hull, 0.92), material="metal")
    for x in (0.0, length - 0.4) if rng.random() < 0.5 else ():
        sketch.line(x, -0.2, x, -0.48, 0.04, metal(rng))
        sketch.oval(x, -0.5, 0.09, 0.09, DARK)


def _plane_below(sketch: Sketch, rng: Random, hull: Colour, accent: Colour) -> None:
    span, sweep = rng.uniform(0.95, 1.25), rng.uniform(0.25, 0.6)
    for side in (-1, 1):
        sketch.polygon(
            [(0.3, side * 0.08), (-0.02 - sweep, side * span), (-0.2 - sweep, side * span), (-0.25, side * 0.08)],
            shade(hull, 0.84), material="metal",
        )
        sketch.polygon(
            [(-0.8, side * 0.05), (-1.1, side * 0.42), (-1.24, side * 0.42), (-1.1, side * 0.05)], accent,
            material="metal",
        )
        sketch.limb([(0.12, side * 0.4, 0.06), (-0.16, side * 0.4, 0.06)], shade(hull, 0.6))
        sketch.line(0.16 - sweep, side * span * 0.97, -0.2 - sweep, side * span * 0.97, 0.03, accent)
    sketch.smooth(
        [
            (1.25, 0), (1.1, 0.09), (0.8, 0.13), (-0.6, 0.12), (-1.25, 0.03), (-1.25, -0.03), (-0.6, -0.12),
            (0.8, -0.13), (1.1, -0.09),
        ],
        hull,
        material="metal",
    )
    sketch.polygon([(1.02, 0.07), (1.12, 0.0), (1.02, -0.07)], (52, 66, 84), solid=False)


def _propeller_plane(sketch: Sketch, rng: Random, hull: Colour, accent: Colour) -> None:
    sketch.polygon([(-0.75, 0.02), (-1.1, 0.46), (-0.92, 0.48), (-0.5, 0.12)], accent, material="metal")
    sketch.smooth(
        [
            (0.86, 0.0), (0.7, 0.17), (0.35, 0.2), (0.2, 0.36), (-0.1, 0.34), (-0.3, 0.14), (-1.05, 0.1),
            (-1.05, 0.0), (-0.3, -0.2), (0.6, -0.2),
        ],
        hull,
        material="metal",
    )
    sketch.polygon([(0.3, 0.2), (0.19, 0.33), (0.02, 0.33), (0.0, 0.18)], (60, 80, 100), solid=False)
    sketch.polygon([(-0.04, 0.18), (-0.04, 0.32), (-0.14, 0.28), (-0.22, 0.17)], (60, 80, 100), solid=False)
    sketch.box(-1.1, -0.06, 0.9, 0.02, accent, clip=True)
    sketch.polygon([(-0.8, 0.08), (-1.18, 0.14), (-1.2, 0.06), (-0.85, 0.0)], shade(accent, 0.8))
    high = rng.random() < 0.5
    y = 0.34 if high else -0.14
    sketch.polygon(
        [
            (0.36, y + 0.03), (0.1, y - 0.3 if not high else y + 0.1), (-0.5, y - 0.34 if not high else y + 0.12),
            (-0.2, y),
        ],
        shade(accent, 1.1),
        material="metal",
    )
    for x in (0.35, -0.05):
        sketch.line(0.15, -0.15, x, -0.42, 0.035, metal(rng))
        sketch.oval(x, -0.46, 0.09, 0.09, DARK)
    sketch.oval(0.9, 0.0, 0.03, 0.42, (120, 116, 110), tilt=rng.uniform(-0.3, 0.3))
    sketch.oval(0.9, 0.0, 0.08, 0.07, shade(accent, 0.7))


def train(rng: Random) -> Sketch:
    """A locomotive with its carriages on rails: seen along the track, or a steam engine from the side."""
    sketch, body, stripe = Sketch(), paint(rng, 0.22), paint(rng)
    rng.choice([_train_front, _train_front, _steam_engine, _tram_side])(sketch, rng, body, stripe)
    return sketch


def _train_front(sketch: Sketch, rng: Random, body: Colour, stripe: Colour) -> None:
    far = rng.uniform(1.3, 2.0)
    side = Face(sketch, (-far, 0.42), (-0.1, 0.08), (-0.1, 1.3), (-far, 0.86))
    side.box(0, -0.08, 1, 0.12, (44, 44, 48))
    side.box(0, 0.06, 1, 1, shade(body, 0.8), material="metal")
    side.box(0, 0.3, 1, 0.45, shade(stripe, 0.85), solid=False)
    for carriage in (0.0, 0.36, 0.64):
        width = 0.36 - 0.28 * (carriage == 0.36) * 0.3
        for step in range(4):
            u = carriage + 0.03 + step * (width - 0.04) / 4.4
            side.box(u, 0.52, u + width / 6, 0.82, shade(GLASS, 0.85), solid=False)
    for u in (0.35, 0.63):
        side.box(u, 0.0, u + 0.018, 1, (40, 40, 44), solid=False)
    nose = rng.uniform(0.0, 0.12)
    sketch.smooth(
        [
            (-0.12, 0.1), (-0.14, 0.7), (-0.04, 1.26), (0.25, 1.36), (0.56, 1.26), (0.68, 0.7), (0.66, 0.1),
            (0.27, 0.02 - nose),
        ],
        body,
        material="metal",
    )
    sketch.smooth([(-0.04, 0.8), (0.0, 1.14), (0.26, 1.2), (0.54, 1.14), (0.58, 0.8)], (48, 62, 78), solid=False)
    sketch.polygon([(0.06, 0.82), (0.14, 1.16), (0.24, 1.16), (0.16, 0.82)], (130, 152, 170), solid=False)
    sketch.box(-0.2, 0.46, 0.8, 0.62, stripe, clip=True, solid=False)
    for x in (0.02, 0.52):
        sketch.oval(x, 0.4, 0.07, 0.06, LAMP, solid=False)
    sketch.box(0.0, 0.04, 0.54, 0.2, (54, 54, 58), radius=0.04)
    for x in (0.05, 0.49):
        sketch.oval(x, 0.18, 0.06, 0.06, (140, 140, 146))


def _steam_engine(sketch: Sketch, rng: Random, body: Colour, stripe: Colour) -> None:
    _carriage(sketch, -2.3, -1.05, shade(body, 0.9), stripe)
    sketch.box(-1.0, 0.26, 1.1, 0.42, shade(stripe, 0.7))
    sketch.box(-0.35, 0.42, 0.95, 0.9, body, radius=0.12, material="metal")
    sketch.oval(0.96, 0.66, 0.08, 0.24, shade(body, 0.6))
    for x in (0.0, 0.35, 0.66):
        sketch.box(x, 0.42, x + 0.04, 0.92, shade(stripe, 0.9), solid=False)
    sketch.box(-1.0, 0.42, -0.35, 1.2, body, radius=0.03, material="metal")
    sketch.box(-1.1, 1.16, -0.26, 1.26, (52, 50, 52), radius=0.04)
    sketch.box(-0.84, 0.8, -0.5, 1.08, (90, 110, 122), solid=False)
    sketch.polygon([(0.62, 0.88), (0.58, 1.3), (0.84, 1.3), (0.8, 0.88)], (46, 44, 46))
    sketch.oval(0.2, 0.92, 0.13, 0.14, metal(rng), material="metal")
    sketch.polygon([(1.05, 0.32), (1.34, 0.04), (1.02, 0.04)], (150, 46, 40))
    sketch.oval(1.0, 1.0, 0.07, 0.07, LAMP)
    for x, radius in ((-0.72, 0.27), (-0.16, 0.27), (0.4, 0.2), (0.86, 0.17)):
        wheel(sketch, x, radius, radius, shade(stripe, 0.9))
    sketch.line(-0.72, 0.2, 0.4, 0.2, 0.06, (190, 190, 196))


def _tram_side(sketch: Sketch, rng: Random, body: Colour, stripe: Colour) -> None:
    _carriage(sketch, -2.5, -0.9, body, stripe)
    sketch.smooth(
        [
            (-0.84, 0.2), (-0.86, 0.6), (-0.84, 1.06), (0.2, 1.08), (0.62, 1.0), (1.0, 0.62), (1.14, 0.36),
            (1.0, 0.16), (0.2, 0.16),
        ],
        body,
        material="metal",
    )
    sketch.box(-0.9, 0.3, 1.2, 0.44, stripe, clip=True, solid=False)
    for x in (-0.72, -0.4, -0.08, 0.24):
        sketch.box(x, 0.58, x + 0.25, 0.88, GLASS, radius=0.03, solid=False)
    sketch.polygon([(0.6, 0.62), (0.58, 0.9), (0.7, 0.9), (0.94, 0.62)], (56, 72, 88), solid=False)
    sketch.oval(1.02, 0.4, 0.06, 0.05, LAMP, solid=False)
    sketch.limb([(-0.5, 1.06, 0.02), (-0.3, 1.24, 0.02), (-0.5, 1.38, 0.02)], (60, 60, 64))
    for x in (-0.6, -0.3, 0.4, 0.7):
        wheel(sketch, x, 0.12, 0.12)


def _carriage(sketch: Sketch, left: float, right: float, body: Colour, stripe: Colour) -> None:
    sketch.box(left, 0.2, right, 1.06, body, radius=0.07, material="metal")
    sketch.box(left, 0.3, right, 0.44, stripe, solid=False)
    sketch.box(left, 0.98, right, 1.06, shade(body, 0.6), radius=0.03, solid=False)
    step = (right - left - 0.1) / 4
    for index in range(4):
        x = left + 0.1 + index * step
        sketch.box(x, 0.58, x + step - 0.1, 0.88, GLASS, radius=0.03, solid=False)
    sketch.line(right - 0.05, 0.26, right + 0.15, 0.26, 0.08, DARK)
    for x in (left + 0.25, left + 0.55, right - 0.55, right - 0.25):
        wheel(sketch, x, 0.12, 0.12)


def boat(rng: Random) -> Sketch:
    """A hull with a pointed bow: with sails, with a cabin, or a small rowing boat."""
    sketch, hull, accent = Sketch(), paint(rng, 0.04), paint(rng)
    rng.choice([_sailing_boat, _sailing_boat, _motor_boat, _rowing_boat])(sketch, rng, hull, accent)
    return sketch


def _hull(sketch: Sketch, hull: Colour, accent: Colour, height: float = 0.34, material: str = "plain") -> None:
    points = [(-0.95, height), (0.5, height), (1.1, height + 0.14), (0.86, 0.1), (0.7, 0.0), (-0.8, 0.0)]
    sketch.polygon(points, hull, material=material)
    sketch.box(-1.2, 0.0, 1.2, 0.09, shade(accent, 0.8), clip=True)
    sketch.limb(
        [(-0.95, height, 0.03), (0.5, height, 0.03), (1.1, height + 0.14, 0.03)], mix(hull, (255, 255, 255), 0.5)
    )


def _sailing_boat(sketch: Sketch, rng: Random, hull: Colour, accent: Colour) -> None:
    mast, belly, sail = (
        rng.uniform(1.9, 2.5),
        rng.uniform(0.02, 0.16),
        rng.choice([(240, 236, 226), accent, paint(rng)]),
    )
    sketch.line(0.12, 0.3, 0.12, mast, 0.05, wood(rng))
    sketch.polygon([(0.06, 0.5), (0.06, mast - 0.05), (-0.3 - belly, 1.3), (-0.85, 0.56)], sail, material="cloth")
    for share in (0.3, 0.55):
        sketch.line(
            0.06, 0.5 + share * (mast - 0.6), -0.85 * (1 - share), 0.56 + share * (mast - 0.7), 0.018,
            shade(sail, 0.82), solid=False,
        )
    sketch.polygon(
        [(0.19, 0.48), (0.17, mast * 0.84), (0.5 + belly, 1.1), (1.0, 0.5)], shade(rng.choice([sail, accent]), 0.94),
        material="cloth",
    )
    sketch.line(0.12, 0.5, -0.9, 0.52, 0.05, wood(rng))
    _hull(sketch, hull, accent)


def _motor_boat(sketch: Sketch, rng: Random, hull: Colour, accent: Colour) -> None:
    cabin = rng.choice([(236, 236, 232), accent])
    sketch.box(-0.6, 0.3, 0.24, 0.74, cabin, radius=0.06)
    for x in (-0.52, -0.26, 0.0):
        sketch.box(x, 0.46, x + 0.18, 0.64, GLASS, radius=0.03, solid=False)
    sketch.box(-0.42, 0.74, 0.1, 0.98, shade(cabin, 0.95), radius=0.05)
    sketch.box(-0.34, 0.8, 0.04, 0.92, GLASS, solid=False)
    sketch.line(-0.2, 0.98, -0.2, 1.4, 0.03, DARK)
    sketch.polygon([(-0.2, 1.4), (-0.2, 1.24), (-0.46, 1.32)], paint(rng))
    if rng.random() < 0.4:
        sketch.polygon([(-0.72, 0.34), (-0.7, 0.98), (-0.5, 0.98), (-0.52, 0.34)], accent)
    _hull(sketch, hull, accent, 0.38)
    for x in (-0.5, -0.1, 0.3):
        sketch.oval(x, 0.24, 0.05, 0.05, (40, 50, 60), solid=False)


def _rowing_boat(sketch: Sketch, rng: Random, hull: Colour, accent: Colour) -> None:
    planks = wood(rng)
    sketch.smooth([(-1.0, 0.42), (0.0, 0.5), (1.05, 0.56), (0.9, 0.4), (0.0, 0.3), (-0.9, 0.32)], shade(planks, 0.55))
    for x in (-0.45, 0.1, 0.55):
        sketch.box(x, 0.36, x + 0.14, 0.48, planks, material="wood")
    _hull(sketch, planks if rng.random() < 0.6 else hull, accent, 0.34, "wood")
    sketch.line(-0.9, 0.24, 0.9, 0.26, 0.02, shade(planks, 0.6), solid=False)
    sketch.line(-0.05, 0.36, -0.75, -0.02, 0.05, wood(rng))
    sketch.oval(-0.82, -0.05, 0.14, 0.05, wood(rng), tilt=0.5)
