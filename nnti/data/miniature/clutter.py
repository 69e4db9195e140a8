"""What stands about in the scenes and counts as background: trees, houses, fences, furniture without a class."""
# Outlines are written as rows of points.
# fmt: off

from math import cos, pi, sin
from random import Random

from nnti.data.miniature.colours import DARK, leaf, metal, mix, paint, shade, wood
from nnti.data.miniature.sketch import Sketch

__all__ = [
    "branch",
    "bush",
    "cupboard",
    "curtained_window",
    "fence",
    "floor_lamp",
    "house",
    "lamp_post",
    "painting",
    "rock",
    "rug",
    "shelf",
    "sideboard",
    "tower",
    "tree",
    "tuft",
]


def tree(rng: Random) -> Sketch:
    """A round crown, a fir or a poplar; about one unit tall."""
    sketch, green, kind = Sketch(), leaf(rng), rng.choice(["round", "round", "fir", "poplar"])
    sketch.limb([(0, 0, 0.045), (0.01, 0.5, 0.03)], rng.choice([(92, 70, 52), (120, 104, 88)]), material="wood")
    if kind == "fir":
        for step in range(5):
            low, half = 0.14 + 0.16 * step, 0.27 - 0.045 * step
            sketch.polygon(
                [(-half, low), (half, low), (0, low + 0.27)], shade(green, 0.6 + 0.06 * step), material="foliage"
            )
        return sketch
    wide = 0.32 if kind == "round" else 0.14
    for step in range(13):
        angle, reach = rng.uniform(0, 2 * pi), rng.uniform(0.3, 1)
        x, y = 0.75 * wide * reach * cos(angle), 0.64 + 0.24 * reach * sin(angle)
        sketch.oval(x, y, 0.5 * wide, 0.14, shade(green, 0.72 + 0.025 * step), material="foliage")
    return sketch


def bush(rng: Random) -> Sketch:
    """A low heap of leaves, about half a unit tall."""
    sketch, green = Sketch(), leaf(rng)
    for step in range(9):
        x = rng.uniform(-0.42, 0.42)
        sketch.oval(
            x, 0.1 + 0.22 * rng.random() * (1 - abs(x)), 0.2, 0.16, shade(green, 0.66 + 0.035 * step),
            material="foliage",
        )
    return sketch


def tuft(rng: Random) -> Sketch:
    """Blades of grass, about a third of a unit tall."""
    sketch, green = Sketch(), leaf(rng)
    for _ in range(9):
        x, tip = rng.uniform(-0.14, 0.14), rng.uniform(-0.2, 0.2)
        sketch.limb(
            [(x, 0, 0.018), (x + 0.5 * tip, 0.2, 0.014), (x + tip, rng.uniform(0.26, 0.42), 0.004)],
            shade(green, rng.uniform(0.7, 1.2)),
        )
    return sketch


def rock(rng: Random) -> Sketch:
    """A boulder, about a third of a unit tall."""
    sketch, level = Sketch(), rng.randint(96, 150)
    points = [
        (0.4 * cos(a) * rng.uniform(0.8, 1.1), max(0.0, 0.1 + 0.24 * sin(a) * rng.uniform(0.8, 1.2)))
        for a in (0.6 * k for k in range(10))
    ]
    sketch.smooth(points, (level, level - 4, level - 12), material="gravel")
    return sketch


def house(rng: Random) -> Sketch:
    """A front with windows and a door under a gable or a flat roof; about one unit wide and one to two tall."""
    sketch = Sketch()
    wall, roof, frame = (
        rng.choice([mix(paint(rng), (214, 200, 180), 0.6), (176, 104, 82), (206, 190, 160)]),
        rng.choice([(128, 70, 58), (84, 82, 88)]),
        (236, 232, 224),
    )
    wide, floors = rng.uniform(0.9, 1.3), rng.choice([1, 2, 2, 3])
    tall = 0.42 * floors + 0.1
    sketch.box(0, 0, wide, tall, wall, material="brick")
    if rng.random() < 0.65:
        sketch.polygon(
            [(-0.06, tall), (wide + 0.06, tall), (wide * 0.78, tall + 0.36), (wide * 0.22, tall + 0.36)], roof,
            material="tiles",
        )
        sketch.box(wide * 0.65, tall + 0.2, wide * 0.75, tall + 0.5, shade(wall, 0.7))
    else:
        sketch.box(-0.03, tall, wide + 0.03, tall + 0.07, shade(wall, 0.6))
    lit = rng.choice([(88, 106, 122), (88, 106, 122), (240, 208, 130)])
    columns = rng.choice([2, 3])
    for floor in range(floors):
        for column in range(columns):
            x, y = wide * (column + 0.5) / columns, 0.16 + 0.42 * floor
            if floor == 0 and column == 0:
                sketch.box(x - 0.09, 0, x + 0.09, 0.34, shade(paint(rng), 0.7), solid=False)
                continue
            sketch.box(x - 0.1, y, x + 0.1, y + 0.24, frame, solid=False)
            sketch.box(x - 0.08, y + 0.02, x + 0.08, y + 0.22, lit, solid=False)
            sketch.line(x, y, x, y + 0.24, 0.016, frame, solid=False)
    return sketch


def tower(rng: Random) -> Sketch:
    """An office block, or the control tower of an airfield; two to three units tall."""
    sketch, wall = Sketch(), mix(paint(rng), (170, 176, 184), 0.75)
    tall, wide = rng.uniform(1.4, 2.8), rng.uniform(0.4, 0.8)
    sketch.box(0, 0, wide, tall, wall)
    for row in range(int(tall / 0.18)):
        sketch.box(0.05, 0.08 + 0.18 * row, wide - 0.05, 0.16 + 0.18 * row, shade(wall, 0.7), solid=False)
    for column in range(1, 5):
        sketch.line(wide * column / 5, 0, wide * column / 5, tall, 0.025, wall, solid=False)
    return sketch


def fence(rng: Random) -> Sketch:
    """Posts with rails, four units wide."""
    sketch, colour = Sketch(), wood(rng)
    for y in (0.22, 0.42):
        sketch.line(-2, y, 2, y, 0.06, shade(colour, 0.9), material="wood")
    for step in range(9):
        sketch.box(-2 + 0.5 * step - 0.04, 0, -2 + 0.5 * step + 0.04, 0.56, colour, material="wood")
    return sketch


def lamp_post(rng: Random) -> Sketch:
    """A street lamp or a traffic sign on a pole, about one unit tall."""
    sketch, steel = Sketch(), shade(metal(rng), rng.choice([0.45, 0.8]))
    sketch.line(0, 0, 0, 0.95, 0.035, steel)
    if rng.random() < 0.5:
        sketch.limb([(0, 0.95, 0.018), (0.08, 1.0, 0.016), (0.2, 0.99, 0.03)], steel)
        sketch.oval(0.19, 0.97, 0.06, 0.02, (250, 236, 190), solid=False)
    else:
        sketch.oval(0, 0.86, 0.12, 0.12, (236, 236, 232))
        sketch.ring(0, 0.86, 0.12, 0.03, rng.choice([(196, 44, 44), (50, 80, 170)]))
    return sketch


def branch(rng: Random) -> Sketch:
    """A twig with leaves to sit on: its upper side runs through (0, 0)."""
    sketch, bark, green = Sketch(), (104, 80, 60), leaf(rng)
    sketch.limb([(-3, -0.35, 0.1), (-1, -0.06, 0.075), (0.4, -0.06, 0.06), (1.4, 0.1, 0.03)], bark, material="wood")
    for _ in range(12):
        x = rng.uniform(-2.6, 1.3)
        sketch.oval(
            x, -0.1 + rng.uniform(-0.3, 0.16) - 0.06 * abs(x), 0.17, 0.07, shade(green, rng.uniform(0.7, 1.1)),
            tilt=rng.uniform(-1, 1), material="leaf",
        )
    return sketch


def curtained_window(rng: Random) -> Sketch:
    """A window with the sky in it and curtains beside it, one unit tall."""
    sketch, cloth, frame = Sketch(), paint(rng), rng.choice([(236, 234, 228), wood(rng)])
    sky = rng.choice([(178, 206, 228), (214, 222, 226), (232, 188, 150), (48, 58, 92)])
    sketch.box(-0.42, 0.0, 0.42, 1.0, frame)
    for x in (-0.37, 0.02):
        for y in (0.05, 0.52):
            sketch.box(x, y, x + 0.35, y + 0.43, sky, solid=False)
    sketch.smooth(
        [(-0.37, 0.05), (-0.3, 0.2), (-0.1, 0.16), (0.1, 0.24), (0.37, 0.14), (0.37, 0.05)], (96, 130, 84), solid=False
    )
    for side in (-1, 1) if rng.random() < 0.7 else ():
        for fold in range(3):
            x = side * (0.38 + 0.08 * fold)
            sketch.box(x - 0.05, -0.1, x + 0.05, 1.08, shade(cloth, 0.85 + 0.1 * (fold % 2)), material="cloth")
    sketch.line(-0.65, 1.08, 0.65, 1.08, 0.035, wood(rng))
    return sketch


def painting(rng: Random) -> Sketch:
    """A framed picture, up to one unit wide."""
    sketch, frame, half = Sketch(), wood(rng), rng.uniform(0.26, 0.5)
    sketch.box(-half, 0, half, 0.66, frame, material="wood")
    sketch.box(-half + 0.05, 0.05, half - 0.05, 0.61, (232, 228, 218), solid=False)
    sketch.box(-half + 0.1, 0.1, half - 0.1, 0.56, paint(rng), solid=False)
    for _ in range(4):
        x = rng.uniform(-half + 0.2, half - 0.2)
        sketch.oval(x, rng.uniform(0.2, 0.45), rng.uniform(0.03, 0.1), rng.uniform(0.03, 0.1), paint(rng), solid=False)
    return sketch


def shelf(rng: Random) -> Sketch:
    """A bookcase full of books, one and a half units tall."""
    sketch, colour = Sketch(), wood(rng)
    sketch.box(-0.42, 0, 0.42, 1.5, colour, material="wood")
    for row in range(4):
        y = 0.08 + 0.36 * row
        sketch.box(-0.37, y, 0.37, y + 0.3, shade(colour, 0.45), solid=False)
        x = -0.36
        while x < 0.3:
            thick = rng.uniform(0.03, 0.08)
            if rng.random() < 0.85:
                sketch.box(x, y, x + thick, y + rng.uniform(0.18, 0.28), shade(paint(rng), 0.85), solid=False)
            x += thick + 0.006
    return sketch


def floor_lamp(rng: Random) -> Sketch:
    """A shade on a thin stand, one and a half units tall."""
    sketch, colour = Sketch(), mix(paint(rng), (244, 226, 180), 0.6)
    sketch.oval(0, 0.03, 0.16, 0.035, DARK)
    sketch.line(0, 0.03, 0, 1.2, 0.03, DARK)
    sketch.polygon([(-0.24, 1.12), (0.24, 1.12), (0.15, 1.5), (-0.15, 1.5)], colour)
    return sketch


def cupboard(rng: Random) -> Sketch:
    """Kitchen units with a worktop, a hob and things on it; two units wide, one tall."""
    sketch, front = Sketch(), mix(paint(rng), (216, 208, 196), 0.6)
    sketch.box(-1.0, 0, 1.0, 0.86, shade(front, 0.6))
    for step in range(4):
        x = -0.98 + 0.5 * step
        sketch.box(x, 0.08, x + 0.46, 0.82, front, radius=0.02)
        sketch.line(x + 0.16, 0.72, x + 0.3, 0.72, 0.03, metal(rng), solid=False)
    sketch.box(-1.04, 0.86, 1.04, 0.93, wood(rng), material="wood")
    x = rng.uniform(-0.7, 0.5)
    sketch.box(x, 0.93, x + 0.3, 1.1, metal(rng), radius=0.04, material="metal")
    sketch.line(x - 0.06, 1.06, x + 0.36, 1.06, 0.04, DARK)
    sketch.box(-0.9, 1.55, rng.uniform(-0.2, 0.9), 2.1, front, radius=0.02)
    return sketch


def sideboard(rng: Random) -> Sketch:
    """A low chest that something can stand on: its top runs through (0, 0), its feet are at y = -0.6."""
    sketch, colour = Sketch(), wood(rng)
    for x in (-0.9, 0.9):
        sketch.line(x, -0.1, x, -0.58, 0.06, shade(colour, 0.7))
    sketch.box(-1.0, -0.48, 1.0, -0.02, shade(colour, 0.9), material="wood")
    for x in (-0.95, -0.3, 0.35):
        sketch.box(x, -0.42, x + 0.6, -0.1, shade(colour, 1.05), radius=0.02, material="wood")
        sketch.oval(x + 0.3, -0.2, 0.03, 0.03, metal(rng), solid=False)
    sketch.polygon([(-1.04, -0.06), (1.04, -0.06), (0.98, 0.08), (-0.98, 0.08)], colour, material="wood")
    return sketch


def rug(rng: Random) -> Sketch:
    """A carpet seen at a low angle, two units wide."""
    sketch, colour, border = Sketch(), paint(rng), paint(rng)
    if rng.random() < 0.5:
        sketch.oval(0, 0, 1.0, 0.22, border, material="cloth", solid=False)
        sketch.oval(0, 0, 0.85, 0.17, colour, material="cloth", solid=False)
    else:
        sketch.polygon([(-1.1, -0.2), (1.1, -0.2), (0.85, 0.2), (-0.85, 0.2)], border, material="cloth", solid=False)
        sketch.polygon(
            [(-0.95, -0.16), (0.95, -0.16), (0.74, 0.16), (-0.74, 0.16)], colour, material="checks", solid=False
        )
    return sketch
