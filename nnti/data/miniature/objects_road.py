"""Drawings of what drives on roads: bicycle, bus, car, motorbike. Each function returns a new, random sketch."""
# Outlines are written as rows of points.
# fmt: off

from math import cos, pi, sin
from random import Random

from nnti.data.miniature.colours import DARK, GLASS, LAMP, metal, paint, shade
from nnti.data.miniature.sketch import Colour, Face, Sketch, arc

__all__ = ["bicycle", "bus", "car", "motorbike", "wheel"]


def wheel(sketch: Sketch, x: float, y: float, radius: float, rim: Colour = (176, 178, 184)) -> None:
    """Add a tyre with a spoked rim."""
    sketch.oval(x, y, radius, radius, DARK)
    sketch.oval(x, y, 0.62 * radius, 0.62 * radius, rim)
    for step in range(5):
        angle = 2 * pi * step / 5
        sketch.line(
            x, y, x + 0.52 * radius * cos(angle), y + 0.52 * radius * sin(angle), 0.12 * radius, shade(rim, 0.55),
            solid=False,
        )
    sketch.oval(x, y, 0.16 * radius, 0.16 * radius, shade(rim, 0.8), solid=False)


def bicycle(rng: Random) -> Sketch:
    """Two thin spoked wheels, a diamond frame, saddle and handlebar."""
    sketch, frame, tyre = Sketch(), paint(rng, 0.36), rng.choice([DARK, (70, 60, 54), (130, 104, 70)])
    radius, base, tube = rng.uniform(0.4, 0.46), rng.uniform(0.56, 0.66), rng.uniform(0.05, 0.07)
    for x in (-base, base):
        for step in range(6):
            dx, dy = 0.93 * radius * cos(pi * step / 6 + 0.2), 0.93 * radius * sin(pi * step / 6 + 0.2)
            sketch.line(x - dx, radius - dy, x + dx, radius + dy, 0.016, (170, 172, 176), solid=False)
        sketch.ring(x, radius, radius, 0.075, tyre)
        sketch.ring(x, radius, radius - 0.07, 0.025, (196, 198, 202), solid=False)
        sketch.oval(x, radius, 0.05, 0.05, metal(rng))
    crank, seat, head = (-0.06, radius - 0.04), (-0.26, radius + 0.5), (base - 0.2, radius + 0.5)
    low_step = rng.random() < 0.3
    for a, b in [
        (crank, seat), (crank, head), (seat if not low_step else (-0.16, radius + 0.2), head),
        ((-base, radius), crank), ((-base, radius), seat),
    ]:
        sketch.line(*a, *b, tube, frame, material="metal")
    sketch.line(base, radius, base - 0.24, radius + 0.66, tube, shade(frame, 0.9), material="metal")
    sketch.line(*seat, seat[0] - 0.04, seat[1] + 0.12, 0.04, metal(rng))
    sketch.limb([(seat[0] - 0.18, seat[1] + 0.16, 0.06), (seat[0] + 0.12, seat[1] + 0.15, 0.03)], DARK)
    bar = (base - 0.24, radius + 0.66)
    sketch.limb(
        [(*bar, 0.03), (bar[0] + 0.16, bar[1] + 0.05, 0.03), (bar[0] + rng.choice([0.04, 0.2]), bar[1] - 0.08, 0.03)],
        DARK,
    )
    sketch.ring(*crank, 0.12, 0.04, metal(rng))
    sketch.line(crank[0] - 0.1, crank[1] - 0.16, crank[0] + 0.1, crank[1] + 0.16, 0.035, (60, 60, 64))
    if rng.random() < 0.4:
        sketch.polygon(
            [
                *arc(-base, radius, radius + 0.07, radius + 0.07, 10, 0.3, pi - 0.2),
                *arc(-base, radius, radius + 0.03, radius + 0.03, 10, pi - 0.2, 0.3),
            ],
            shade(frame, 0.8),
        )
    return sketch


def motorbike(rng: Random) -> Sketch:
    """Two fat wheels, an engine block, a tank, a bench, an exhaust pipe."""
    sketch, body, steel = Sketch(), paint(rng, 0.85), metal(rng)
    radius, base = rng.uniform(0.36, 0.42), rng.uniform(0.7, 0.8)
    for x in (-base, base):
        sketch.ring(x, radius, radius, 0.14, DARK)
        sketch.ring(x, radius, radius - 0.13, 0.05, steel, material="metal")
        for step in range(3):
            dx, dy = 0.24 * cos(pi * step / 3), 0.24 * sin(pi * step / 3)
            sketch.line(x - dx, radius - dy, x + dx, radius + dy, 0.04, shade(steel, 0.7))
        sketch.oval(x, radius, 0.1, 0.1, shade(steel, 0.6))
    sketch.line(-base, radius, -0.1, radius - 0.02, 0.1, shade(steel, 0.6))
    sketch.box(-0.36, 0.24, 0.34, 0.72, (66, 68, 74), radius=0.08, material="metal")
    for step in range(4):
        sketch.line(-0.02 + 0.03 * step, 0.36 + 0.09 * step, 0.3, 0.4 + 0.09 * step, 0.035, steel)
    sketch.oval(-0.14, 0.4, 0.16, 0.14, steel, material="metal")
    sketch.line(base, radius, base - 0.3, radius + 0.62, 0.085, steel, material="metal")
    sketch.polygon(
        [
            *arc(base, radius, radius + 0.09, radius + 0.09, 8, 0.5, 2.4),
            *arc(base, radius, radius + 0.02, radius + 0.02, 8, 2.4, 0.5),
        ],
        shade(body, 0.85),
    )
    sketch.smooth(
        [(0.46, 0.92), (0.2, 1.02), (-0.12, 0.9), (-0.14, 0.72), (0.3, 0.7), (0.48, 0.78)], body, material="metal"
    )
    sketch.smooth(
        [(-0.08, 0.84), (-0.3, 0.82), (-0.66, 0.9), (-0.98, 0.96), (-0.92, 0.8), (-0.5, 0.68), (-0.12, 0.7)],
        (48, 40, 40),
    )
    sketch.polygon([(-0.4, 0.72), (-0.94, 0.84), (-1.04, 0.74), (-0.5, 0.54)], shade(body, 0.9), material="metal")
    sketch.limb([(0.1, 0.24, 0.05), (-0.4, 0.2, 0.06), (-1.05, 0.34, 0.085)], (200, 202, 208), material="metal")
    sketch.oval(base - 0.2, radius + 0.5, 0.12, 0.13, body)
    sketch.oval(base - 0.12, radius + 0.5, 0.07, 0.1, LAMP, solid=False)
    sketch.limb(
        [(base - 0.3, radius + 0.62, 0.04), (base - 0.36, radius + 0.74, 0.04), (base - 0.56, radius + 0.72, 0.045)],
        DARK,
    )
    if rng.random() < 0.4:
        sketch.polygon(
            [
                (base - 0.24, radius + 0.6), (base - 0.36, radius + 0.95), (base - 0.42, radius + 0.9),
                (base - 0.3, radius + 0.56),
            ],
            (170, 190, 200),
        )
    return sketch


def car(rng: Random) -> Sketch:
    """A low body with a cabin of windows between two wheels; from the side or from the front."""
    sketch, body = Sketch(), paint(rng, 0.62)
    (_car_front if rng.random() < 0.3 else _car_side)(sketch, rng, body)
    return sketch


def _car_side(sketch: Sketch, rng: Random, body: Colour) -> None:
    roof, back, low = rng.uniform(0.86, 1.06), rng.choice([-1.05, -0.78, -0.6]), 0.2
    sketch.oval(0, low, 1.1, 0.1, (28, 28, 30), solid=False)
    sketch.smooth(
        [
            (back - 0.22, 0.6), (back + 0.12, roof - 0.03), (0.0, roof), (0.3, roof - 0.04), (0.72, 0.62),
            (0.3, 0.5), (-0.6, 0.5),
        ],
        body,
        material="metal",
    )
    sketch.smooth(
        [
            (-1.3, 0.3), (-1.32, 0.56), (-1.1, 0.66), (0.0, 0.66), (0.75, 0.63), (1.22, 0.52), (1.36, 0.36),
            (1.3, 0.18), (0.0, 0.16), (-1.25, 0.18),
        ],
        body,
        material="metal",
    )
    sketch.polygon(
        [(back + 0.04, 0.64), (back + 0.24, roof - 0.1), (-0.14, roof - 0.08), (-0.14, 0.64)], GLASS, solid=False
    )
    sketch.polygon([(-0.06, 0.64), (-0.06, roof - 0.08), (0.24, roof - 0.11), (0.56, 0.64)], GLASS, solid=False)
    sketch.polygon([(0.1, 0.64), (0.0, roof - 0.08), (0.12, roof - 0.09), (0.24, 0.64)], (150, 176, 192), solid=False)
    for x in (-0.1, 0.5, -0.72):
        sketch.line(x, 0.26, x, 0.62, 0.014, shade(body, 0.6), solid=False)
    for x in (-0.2, -0.5):
        sketch.line(x, 0.54, x + 0.09, 0.54, 0.03, shade(body, 0.5), solid=False)
    sketch.oval(1.24, 0.44, 0.08, 0.055, LAMP, solid=False)
    sketch.box(-1.33, 0.44, -1.24, 0.56, (190, 40, 40), solid=False)
    sketch.line(-1.3, 0.24, 1.32, 0.24, 0.05, shade(body, 0.55), solid=False)
    for x in (-0.8, 0.84):
        sketch.oval(x, 0.26, 0.3, 0.29, (26, 26, 28), solid=False)
        wheel(sketch, x, 0.23, 0.24)


def _car_front(sketch: Sketch, rng: Random, body: Colour) -> None:
    roof = rng.uniform(1.05, 1.3)
    for side in (-1, 1):
        sketch.box(side * 0.58 - 0.12, 0.0, side * 0.58 + 0.12, 0.36, DARK, radius=0.05)
        sketch.oval(side * 0.84, 0.78, 0.1, 0.07, shade(body, 0.8))
    sketch.smooth([(-0.62, 0.7), (-0.46, roof), (0.0, roof + 0.05), (0.46, roof), (0.62, 0.7)], body, material="metal")
    sketch.polygon([(-0.58, 0.72), (-0.42, roof - 0.05), (0.42, roof - 0.05), (0.58, 0.72)], GLASS, solid=False)
    sketch.polygon([(-0.3, 0.72), (-0.1, roof - 0.05), (0.1, roof - 0.05), (-0.1, 0.72)], (150, 176, 192), solid=False)
    sketch.smooth(
        [(-0.76, 0.2), (-0.8, 0.55), (-0.66, 0.76), (0.66, 0.76), (0.8, 0.55), (0.76, 0.2), (0.0, 0.15)], body,
        material="metal",
    )
    sketch.box(-0.4, 0.34, 0.4, 0.5, (40, 40, 44), radius=0.04, solid=False)
    for step in range(4):
        sketch.line(-0.36, 0.37 + 0.035 * step, 0.36, 0.37 + 0.035 * step, 0.012, (150, 150, 156), solid=False)
    for side in (-1, 1):
        sketch.oval(side * 0.6, 0.5, 0.14, 0.09, LAMP, solid=False)
        sketch.oval(side * 0.6, 0.28, 0.07, 0.04, (210, 200, 170), solid=False)
    sketch.box(-0.2, 0.22, 0.2, 0.31, (232, 232, 226), solid=False)


def bus(rng: Random) -> Sketch:
    """A tall box with a row of large windows, doors and a destination sign; from the side or across a corner."""
    sketch, body, stripe = Sketch(), paint(rng, 0.14), paint(rng)
    (_bus_corner if rng.random() < 0.5 else _bus_side)(sketch, rng, body, stripe)
    return sketch


def _bus_side(sketch: Sketch, rng: Random, body: Colour, stripe: Colour) -> None:
    decks = 2 if rng.random() < 0.25 else 1
    half, top = (1.15 if decks == 2 else rng.uniform(1.3, 1.6)), 1.02 if decks == 1 else 1.6
    sketch.box(-half, 0.14, half, top, body, radius=0.1, material="metal")
    sketch.box(-half, 0.14, half, 0.36, stripe, clip=True)
    sketch.box(-half, 0.14, half, 0.2, (50, 50, 54), clip=True)
    for deck in range(decks):
        for step in range(6):
            x = -half + 0.1 + step * (2 * half - 0.35) / 6
            sketch.box(
                x, 0.5 + 0.6 * deck, x + (2 * half - 0.35) / 6 - 0.04, 0.86 + 0.6 * deck, GLASS, radius=0.03,
                solid=False,
            )
            sketch.polygon(
                [
                    (x + 0.06, 0.5 + 0.6 * deck), (x + 0.16, 0.86 + 0.6 * deck), (x + 0.22, 0.86 + 0.6 * deck),
                    (x + 0.12, 0.5 + 0.6 * deck),
                ],
                (146, 170, 186),
                solid=False,
            )
    sketch.box(half - 0.26, 0.2, half - 0.07, 0.88, (62, 80, 92), solid=False)
    sketch.line(half - 0.165, 0.2, half - 0.165, 0.88, 0.02, body, solid=False)
    sketch.box(half - 0.5, 0.89, half - 0.08, 0.99, (40, 40, 36), solid=False)
    sketch.line(half - 0.44, 0.94, half - 0.16, 0.94, 0.04, (250, 190, 60), solid=False)
    sketch.box(half - 0.04, 0.24, half, 0.34, LAMP, solid=False)
    for x in (-half + 0.45, half - 0.55):
        sketch.oval(x, 0.2, 0.22, 0.2, (26, 26, 28), solid=False)
        wheel(sketch, x, 0.17, 0.17)


def _bus_corner(sketch: Sketch, rng: Random, body: Colour, stripe: Colour) -> None:
    length, low, high = rng.uniform(1.1, 1.5), 0.3, 1.12
    side = Face(sketch, (0.35 - length, low + 0.02), (0.35, 0.1), (0.35, 1.35), (0.35 - length, high))
    front = Face(sketch, (0.35, 0.1), (1.0, 0.2), (1.0, 1.28), (0.35, 1.35))
    for u in (0.12, 0.72):
        x, y = side.at(u, 0.04)
        sketch.oval(x, y, 0.13 + 0.05 * u, 0.16 + 0.08 * u, DARK)
    sketch.oval(0.9, 0.2, 0.1, 0.15, DARK)
    side.box(0, 0, 1, 1, shade(body, 0.82), material="metal")
    side.box(0, 0, 1, 0.24, shade(stripe, 0.82), solid=False)
    for step in range(6):
        side.box(0.03 + 0.162 * step, 0.42, 0.155 + 0.162 * step, 0.84, shade(GLASS, 0.9), solid=False)
    for u in (0.12, 0.72):
        x, y = side.at(u, 0.06)
        sketch.oval(x, y, 0.1 + 0.05 * u, 0.14 + 0.07 * u, (40, 40, 42))
        sketch.oval(x, y, 0.05 + 0.03 * u, 0.07 + 0.04 * u, (150, 150, 156))
    front.box(0, 0, 1, 1, body, material="metal")
    front.box(0, 0, 1, 0.2, stripe, solid=False)
    front.box(0.06, 0.36, 0.94, 0.8, GLASS, solid=False)
    front.box(0.2, 0.36, 0.36, 0.8, (146, 170, 186), solid=False)
    front.box(0.49, 0.36, 0.51, 0.8, shade(body, 0.6), solid=False)
    front.box(0.15, 0.85, 0.85, 0.96, (38, 38, 34), solid=False)
    front.box(0.24, 0.88, 0.7, 0.93, (250, 190, 60), solid=False)
    for u in (0.06, 0.76):
        front.box(u, 0.1, u + 0.18, 0.2, LAMP, solid=False)
    sketch.limb([(1.0, 1.1, 0.03), (1.08, 1.02, 0.03), (1.08, 0.9, 0.05)], DARK)
