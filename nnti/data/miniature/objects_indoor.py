"""Drawings of the things in a home: bottle, chair, diningtable, pottedplant, sofa, tvmonitor."""
# Outlines are written as rows of points.
# fmt: off

from math import cos, pi, sin
from random import Random

from nnti.data.miniature.colours import DARK, leaf, metal, mix, paint, shade, wood
from nnti.data.miniature.sketch import Colour, Face, Sketch

__all__ = ["bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"]


def bottle(rng: Random) -> Sketch:
    """A body with shoulders, a narrow neck, a cap and a label, shining."""
    sketch = Sketch()
    glass = rng.choice([(44, 112, 62), (36, 84, 54), (48, 96, 60), (120, 72, 34), (168, 200, 204), paint(rng)])
    label, cap = rng.choice([(238, 232, 214), paint(rng)]), paint(rng)
    wide, shoulder, neck = rng.uniform(0.17, 0.27), rng.uniform(0.52, 0.8), rng.uniform(0.055, 0.085)
    side = [
        (wide * 0.94, 0.0), (wide, 0.05), (wide, shoulder - 0.08), (wide * 0.86, shoulder),
        (neck * 1.3, shoulder + 0.16), (neck, shoulder + 0.24), (neck, 1.08),
    ]
    sketch.polygon([*side, *[(-x, y) for x, y in reversed(side)]], glass, material="metal")
    if rng.random() < 0.6:  # what is in it, up to some level
        level = rng.uniform(0.3, shoulder + 0.1)
        sketch.box(-0.4, level, 0.4, 1.2, mix(glass, (230, 236, 236), 0.35), clip=True)
    low = rng.uniform(0.12, 0.22)
    sketch.box(-0.4, low, 0.4, shoulder - 0.1, label, clip=True)
    sketch.oval(0, (low + shoulder - 0.1) / 2, wide * 0.55, (shoulder - low) * 0.22, shade(cap, 0.9), solid=False)
    sketch.box(-wide, low + 0.03, wide, low + 0.055, shade(cap, 0.9), solid=False)
    sketch.box(-neck * 1.15, 1.04, neck * 1.15, 1.04 + rng.uniform(0.06, 0.12), cap, radius=0.015)
    sketch.box(-neck * 1.12, 0.9, neck * 1.12, 0.93, shade(glass, 0.8), clip=True)
    sketch.polygon(
        [(-wide * 0.72, 0.04), (-wide * 0.5, 0.04), (-wide * 0.5, shoulder - 0.04), (-wide * 0.68, shoulder - 0.04)],
        mix(glass, (255, 255, 255), 0.6), clip=True,
    )
    sketch.line(-neck * 0.5, shoulder + 0.2, -neck * 0.5, 1.0, 0.025, mix(glass, (255, 255, 255), 0.55), solid=False)
    return sketch


def chair(rng: Random) -> Sketch:
    """A seat on four thin legs with a back: of slats, upholstered, or an office chair on castors."""
    sketch, frame, cushion = Sketch(), wood(rng), paint(rng, 0.93)
    if rng.random() < 0.22:
        _office_chair(sketch, rng, frame, cushion)
        return sketch
    tall, thick = rng.uniform(1.15, 1.45), rng.uniform(0.03, 0.045)
    lower, upper = [(-0.38, 0.5), (0.24, 0.42)], [(0.46, 0.56), (-0.1, 0.64)]  # seat: near edge, far edge
    for x, y in upper:
        sketch.limb([(x, y, thick), (x + 0.02, 0.16, thick * 0.8)], shade(frame, 0.66), material="wood")
    slats = rng.random() < 0.6
    posts = [((-0.38, 0.5), (-0.46, tall)), ((-0.1, 0.64), (-0.18, tall + 0.1))]
    back = Face(sketch, posts[0][0], posts[1][0], posts[1][1], posts[0][1])
    if slats:
        for v in rng.choice([(0.95, 0.7, 0.45), (0.94,), (0.9, 0.55)]):
            back.box(0, v - 0.09, 1, v + 0.05, shade(frame, 0.95), material="wood")
        for u in (0.28, 0.5, 0.72) if rng.random() < 0.6 else ():
            sketch.line(*back.at(u, 0.02), *back.at(u, 0.92), 0.035, shade(frame, 0.85))
    else:
        back.box(0, 0.28, 1, 1.02, cushion, material="cloth")
    for a, b in posts:
        sketch.limb([(*a, thick), (*b, thick)], frame, material="wood")
    sketch.polygon([*lower, *upper], frame, material="wood")
    sketch.polygon([(x, y - 0.06) for x, y in lower] + lower[::-1], shade(frame, 0.75))
    if not slats or rng.random() < 0.5:
        sketch.smooth([(-0.36, 0.53), (0.22, 0.46), (0.43, 0.58), (-0.08, 0.67)], cushion, material="cloth")
    for x, y in lower:
        sketch.limb([(x, y, thick * 1.1), (x - 0.02 if x < 0 else x + 0.03, 0.02, thick * 0.9)], frame, material="wood")
    if rng.random() < 0.3:
        sketch.limb([(-0.42, 0.8, thick), (0.16, 0.74, thick), (0.22, 0.42, thick)], frame, material="wood")
    return sketch


def _office_chair(sketch: Sketch, rng: Random, frame: Colour, cushion: Colour) -> None:
    for x, y in ((-0.34, 0.06), (-0.14, 0.02), (0.18, 0.02), (0.36, 0.06)):
        sketch.limb([(0, 0.16, 0.04), (x, y + 0.06, 0.03)], (70, 70, 74), material="metal")
        sketch.oval(x, y + 0.03, 0.045, 0.045, DARK)
    sketch.line(0, 0.14, 0, 0.5, 0.07, metal(rng))
    sketch.limb([(-0.1, 0.46, 0.04), (-0.36, 0.62, 0.04), (-0.36, 0.9, 0.04)], DARK)
    sketch.smooth(
        [(-0.44, 0.7), (-0.5, 1.3), (-0.4, 1.48), (0.1, 1.5), (0.2, 1.3), (0.16, 0.7)], cushion, material="cloth"
    )
    sketch.smooth(
        [(-0.4, 0.5), (-0.38, 0.62), (0.3, 0.64), (0.46, 0.54), (0.38, 0.44), (-0.3, 0.44)], shade(cushion, 1.1),
        material="cloth",
    )
    for x in (-0.42, 0.34):
        sketch.limb([(x, 0.54, 0.025), (x + 0.02, 0.82, 0.025), (x + 0.2, 0.84, 0.04)], DARK)


def diningtable(rng: Random) -> Sketch:
    """A wide top seen from slightly above, on legs or one foot, often with a cloth and laid with plates."""
    sketch, top = Sketch(), wood(rng)
    cloth = paint(rng, 0.11) if rng.random() < 0.4 else None
    if rng.random() < 0.4:
        _round_table(sketch, top, cloth)
        centre, spread = (0.0, 0.8), (0.7, 0.1)
    else:
        _long_table(sketch, rng, top, cloth)
        centre, spread = (0.0, 0.82), (0.75, 0.1)
    for _ in range(rng.randint(0, 4)):
        _dish(sketch, rng, centre[0] + rng.uniform(-1, 1) * spread[0], centre[1] + rng.uniform(-1, 1) * spread[1])
    return sketch


def _round_table(sketch: Sketch, top: Colour, cloth: Colour | None) -> None:
    for x, y in ((-0.4, 0.06), (0.4, 0.06), (0.0, 0.0)):
        sketch.limb([(0, 0.18, 0.07), (x, y + 0.03, 0.05)], shade(top, 0.75), material="wood")
    sketch.line(0, 0.14, 0, 0.72, 0.15, shade(top, 0.8), material="wood")
    if cloth:
        hem = [(-1.02 + 2.04 * step / 12, 0.46 - 0.12 * sin(pi * step / 12) + 0.05 * (step % 2)) for step in range(13)]
        sketch.polygon([(-1.0, 0.8), *hem, (1.0, 0.8)], shade(cloth, 0.8), material="cloth")
    sketch.oval(0, 0.76, 1.0, 0.24, shade(cloth or top, 0.65))
    sketch.oval(0, 0.8, 1.0, 0.24, cloth or top, material="checks" if cloth else "wood")


def _long_table(sketch: Sketch, rng: Random, top: Colour, cloth: Colour | None) -> None:
    depth, skew = rng.uniform(0.26, 0.36), rng.uniform(-0.2, 0.2)
    corners = [(-1.1, 0.68), (1.1, 0.68), (0.86 + skew, 0.68 + depth), (-0.86 + skew, 0.68 + depth)]
    for x in (-0.78 + skew, 0.78 + skew):
        sketch.limb([(x, 0.7, 0.05), (x, 0.22, 0.04)], shade(top, 0.55), material="wood")
    for x in (-1.02, 1.02):
        sketch.limb([(x, 0.66, 0.075), (x, 0.02, 0.05)], shade(top, 0.8), material="wood")
    sketch.polygon(corners, cloth or top, material="checks" if cloth and rng.random() < 0.5 else "wood")
    drop = 0.3 if cloth else 0.12
    sketch.polygon(
        [(-1.1, 0.68), (1.1, 0.68), (1.09, 0.68 - drop), (-1.09, 0.68 - drop)], shade(cloth or top, 0.76),
        material="cloth" if cloth else "wood",
    )
    sketch.line(-1.1, 0.68, 1.1, 0.68, 0.03, shade(cloth or top, 1.15), solid=False)


def _dish(sketch: Sketch, rng: Random, x: float, y: float) -> None:
    kind, colour = rng.choice(["plate", "cup", "bowl"]), rng.choice([(240, 238, 232), paint(rng)])
    if kind == "plate":
        sketch.oval(x, y, 0.19, 0.06, shade(colour, 0.85))
        sketch.oval(x, y + 0.01, 0.18, 0.05, colour)
        sketch.oval(x, y + 0.015, 0.1, 0.028, shade(paint(rng), 0.9), solid=False)
    elif kind == "cup":
        sketch.ring(x + 0.08, y + 0.08, 0.05, 0.02, colour)
        sketch.polygon([(x - 0.06, y), (x + 0.06, y), (x + 0.08, y + 0.15), (x - 0.08, y + 0.15)], colour)
        sketch.oval(x, y + 0.15, 0.08, 0.022, shade(colour, 0.6), solid=False)
    else:
        sketch.smooth([(x - 0.17, y + 0.12), (x - 0.08, y), (x + 0.08, y), (x + 0.17, y + 0.12)], colour)
        for step in (-1, 0, 1):
            sketch.oval(
                x + 0.07 * step, y + 0.14 + 0.02 * (step == 0), 0.06, 0.06,
                rng.choice([(206, 60, 50), (230, 170, 50), (110, 150, 60)]),
            )


def pottedplant(rng: Random) -> Sketch:
    """A tapered pot full of leaves: broad, sword-shaped, hanging, a bush with flowers, or a cactus."""
    sketch, green = Sketch(), leaf(rng)
    top = rng.uniform(0.34, 0.5)
    rng.choice([_broad_leaves, _sword_leaves, _bushy, _broad_leaves, _cactus])(sketch, rng, green, top)
    pot, wide = rng.choice([(178, 96, 62), (196, 116, 80), (186, 100, 66), paint(rng)]), rng.uniform(0.22, 0.3)
    sketch.polygon([(-wide, top), (wide, top), (wide * 0.72, 0), (-wide * 0.72, 0)], pot)
    if rng.random() < 0.4:
        sketch.box(-0.5, top * 0.4, 0.5, top * 0.6, shade(paint(rng), 0.9), clip=True, solid=False)
    sketch.box(-wide * 1.12, top - 0.07, wide * 1.12, top + 0.03, shade(pot, 1.08), radius=0.02)
    return sketch


def _blade(sketch: Sketch, x: float, y: float, angle: float, length: float, width: float, colour: Colour) -> None:
    along, across = (cos(angle), sin(angle)), (-sin(angle), cos(angle))
    sides = [(0, 0), (0.3, 0.8), (0.6, 1.0), (1, 0), (0.6, -1.0), (0.3, -0.8)]
    points = [
        (x + length * t * along[0] + width * s * across[0], y + length * t * along[1] + width * s * across[1])
        for t, s in sides
    ]
    sketch.smooth(points, colour, material="leaf")
    sketch.line(x, y, x + 0.9 * length * along[0], y + 0.9 * length * along[1], 0.014, shade(colour, 1.3), solid=False)


def _broad_leaves(sketch: Sketch, rng: Random, green: Colour, top: float) -> None:
    for step in range(rng.randint(9, 13)):
        angle = rng.uniform(0.15, pi - 0.15)
        reach = rng.uniform(0.25, 0.75)
        x, y = 0.75 * reach * cos(angle), top + reach * sin(angle)
        sketch.line(0.05 * cos(angle), top, x, y, 0.025, shade(green, 0.7))
        _blade(
            sketch, x, y, angle - rng.uniform(-0.6, 0.6), rng.uniform(0.26, 0.4), rng.uniform(0.09, 0.14),
            shade(green, 0.75 + 0.04 * step),
        )


def _sword_leaves(sketch: Sketch, rng: Random, green: Colour, top: float) -> None:
    for step in range(11):
        angle = pi / 2 + rng.uniform(-0.75, 0.75)
        _blade(
            sketch, rng.uniform(-0.12, 0.12), top - 0.05, angle, rng.uniform(0.6, 1.05), rng.uniform(0.04, 0.065),
            shade(green, 0.75 + 0.045 * step),
        )


def _bushy(sketch: Sketch, rng: Random, green: Colour, top: float) -> None:
    flower, blooming = paint(rng), rng.random() < 0.6
    for step in range(26):
        angle, reach = rng.uniform(-0.2, pi + 0.2), 0.48 * rng.random() ** 0.5
        x, y = 1.1 * reach * cos(angle), top + 0.3 + reach * sin(angle)
        _blade(sketch, x, y, rng.uniform(0, 2 * pi), 0.2, 0.06, shade(green, 0.7 + 0.025 * step))
        if blooming and step % 3 == 0:
            for turn in range(5):
                sketch.oval(x + 0.05 * cos(1.26 * turn), y + 0.05 * sin(1.26 * turn), 0.045, 0.045, flower, solid=False)
            sketch.oval(x, y, 0.03, 0.03, (244, 206, 80), solid=False)


def _cactus(sketch: Sketch, rng: Random, green: Colour, top: float) -> None:
    tall = rng.uniform(1.0, 1.3)
    for side, y in ((-1, 0.3), (1, 0.42)):
        sketch.limb(
            [
                (0, top + y, 0.09), (side * 0.3, top + y + 0.02, 0.09),
                (side * 0.32, top + y + rng.uniform(0.15, 0.35), 0.08),
            ],
            shade(green, 0.9),
            material="leaf",
        )
    sketch.limb([(0, top - 0.1, 0.15), (0, tall, 0.14)], green, material="leaf")
    for x in (-0.08, 0.0, 0.08):
        sketch.line(x, top, x, tall + 0.08, 0.014, shade(green, 1.4), solid=False)
    if rng.random() < 0.5:
        sketch.oval(0, tall + 0.15, 0.09, 0.06, (226, 80, 120))


def sofa(rng: Random) -> Sketch:
    """A low, wide seat with back, arms and cushions on short feet."""
    sketch, cover, material = Sketch(), paint(rng, 0.77), rng.choice(["cloth", "cloth", "checks", "stripes", "plain"])
    half, back, feet = rng.choice([0.8, 1.1, 1.25]), rng.uniform(0.8, 1.0), wood(rng)
    arm, seats = rng.uniform(0.18, 0.26), 2 if half < 1.0 else 3
    for x in (-half + 0.1, half - 0.1):
        sketch.box(x - 0.04, 0.0, x + 0.04, 0.14, feet)
    sketch.smooth(
        [
            (-half + 0.05, 0.2), (-half + 0.04, back - 0.06), (-half * 0.5, back), (half * 0.5, back),
            (half - 0.04, back - 0.06), (half - 0.05, 0.2),
        ],
        shade(cover, 0.78),
        material=material,
    )
    inner = 2 * (half - arm) / seats
    for seat in range(seats):
        x = -half + arm + seat * inner
        sketch.box(x + 0.01, 0.4, x + inner - 0.01, back - 0.04, shade(cover, 0.94), radius=0.09, material=material)
    for seat in range(seats):
        x = -half + arm + seat * inner
        sketch.box(x + 0.005, 0.3, x + inner - 0.005, 0.5, shade(cover, 1.1), radius=0.07, material=material)
    sketch.box(-half + 0.1, 0.1, half - 0.1, 0.32, shade(cover, 0.86), radius=0.03, material=material)
    for _ in range(rng.randint(0, 3)):
        x, turn, size = (
            rng.uniform(-half + arm + 0.2, half - arm - 0.2),
            rng.uniform(-0.5, 0.5),
            rng.uniform(0.14, 0.18),
        )
        corners = [
            (x + 1.4 * size * cos(turn + a), 0.62 + 1.4 * size * sin(turn + a))
            for a in (pi / 4, 3 * pi / 4, 5 * pi / 4, 7 * pi / 4)
        ]
        sketch.smooth(corners, paint(rng), material=rng.choice(["cloth", "checks", "stripes"]))
    for side in (-1, 1):
        x = side * (half - arm / 2)
        sketch.box(x - arm / 2, 0.1, x + arm / 2, 0.62, cover, radius=0.1, material=material)
        sketch.oval(x, 0.56, arm * 0.62, 0.11, shade(cover, 1.08), material=material)
    return sketch


def tvmonitor(rng: Random) -> Sketch:
    """A dark frame around a shining picture, on a foot: a flat screen, a desk monitor, or an old tube set."""
    sketch, frame = Sketch(), rng.choice([DARK, (60, 60, 64), (206, 206, 204), (100, 84, 70)])
    half, low = rng.choice([0.62, 0.8, 0.9]), 0.22
    high = low + rng.uniform(0.85, 1.0)
    if half < 0.7:  # tube
        for side in (-1, 1):
            sketch.line(side * 0.1, high, side * 0.36, high + 0.42, 0.03, metal(rng))
        sketch.box(-half - 0.1, 0.08, half + 0.1, high + 0.06, frame, radius=0.1)
        sketch.box(-half + 0.02, low, half - 0.24, high - 0.06, (20, 20, 24), radius=0.1, solid=False)
        for step in range(3):
            sketch.oval(
                half - 0.1, 0.9 - 0.2 * step, 0.06, 0.06, shade(frame, 0.5 if frame[0] > 90 else 2.2), solid=False
            )
        box = (-half + 0.06, low + 0.04, half - 0.28, high - 0.1)
    else:
        sketch.polygon([(-0.34, 0), (0.34, 0), (0.28, 0.06), (-0.28, 0.06)], shade(frame, 0.9), material="metal")
        sketch.box(-0.07, 0.04, 0.07, low + 0.05, shade(frame, 0.8), material="metal")
        sketch.box(-half, low, half, high, frame, radius=0.03)
        box = (-half + 0.05, low + 0.07, half - 0.05, high - 0.05)
    _picture(sketch, rng, *box)
    return sketch


def _picture(sketch: Sketch, rng: Random, x0: float, y0: float, x1: float, y1: float) -> None:
    width, height, kind = x1 - x0, y1 - y0, rng.choice(["film", "film", "desktop", "text", "off"])
    sky, ground = rng.choice(
        [((110, 170, 230), (86, 150, 80)), ((240, 170, 110), (70, 60, 110)), ((30, 40, 90), (40, 110, 130))]
    )
    base = {"film": sky, "desktop": sky, "text": (20, 34, 50), "off": (44, 48, 56)}[kind]
    sketch.box(x0, y0, x1, y1, base, solid=False)
    if kind == "film":
        ridge = [(x0 + width * step / 6, y0 + height * rng.uniform(0.25, 0.6)) for step in range(7)]
        sketch.polygon([(x0, y0), *ridge, (x1, y0)], ground, solid=False)
        sketch.oval(x0 + width * rng.uniform(0.2, 0.8), y0 + 0.78 * height, 0.08, 0.08, (252, 240, 190), solid=False)
    for row in range(6) if kind == "text" else ():
        y = y1 - (row + 0.8) * height / 6.6
        sketch.line(
            x0 + 0.1 * width, y, x0 + width * rng.uniform(0.35, 0.9), y, 0.035,
            rng.choice([(130, 220, 150), (220, 220, 230), (240, 180, 90)]), solid=False,
        )
    if kind == "desktop":
        sketch.box(
            x0 + 0.25 * width, y0 + 0.22 * height, x0 + 0.85 * width, y0 + 0.82 * height, (236, 238, 242), solid=False
        )
        sketch.box(
            x0 + 0.25 * width, y0 + 0.72 * height, x0 + 0.85 * width, y0 + 0.82 * height, (80, 110, 170), solid=False
        )
        sketch.box(x0, y0, x1, y0 + 0.08 * height, (40, 50, 70), solid=False)
    glare = mix(base, (255, 255, 255), 0.25)
    sketch.polygon(
        [(x0 + 0.08 * width, y1), (x0 + 0.2 * width, y1), (x0, y0 + 0.45 * height), (x0, y0 + 0.7 * height)], glare,
        solid=False,
    )
