"""The drawing of a person: head, hair, clothes, arms and legs in a random pose; about 1.75 units tall when standing."""
# Outlines are written as rows of points.
# fmt: off

from dataclasses import dataclass
from random import Random

from nnti.data.miniature.colours import DARK, hair, paint, shade, skin
from nnti.data.miniature.sketch import Colour, Sketch

__all__ = ["person", "rider", "sitter"]


@dataclass(frozen=True)
class _Look:
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    shoes: Colour
    cloth: str  # material of the top
    cut: str  # bald, short, long, hat
    sleeves: bool
    skirt: bool
    build: float  # 0.85 slim … 1.25 broad


def _look(rng: Random) -> _Look:
    return _Look(
        skin(rng),
        hair(rng),
        paint(rng),
        rng.choice([paint(rng), (52, 66, 100), (60, 58, 58)]),
        rng.choice([DARK, paint(rng)]),
        rng.choice(["cloth", "cloth", "stripes", "checks"]),
        rng.choice(["short", "short", "long", "long", "hat", "bald"]),
        rng.random() < 0.6,
        rng.random() < 0.2,
        rng.uniform(0.85, 1.2),
    )


def person(rng: Random) -> Sketch:
    """Standing or walking, seen from the front or the side, arms anywhere."""
    sketch, look = Sketch(), _look(rng)
    (_front if rng.random() < 0.6 else _side)(sketch, rng, look)
    return sketch


def _front(sketch: Sketch, rng: Random, look: _Look) -> None:
    b, spread = look.build, rng.uniform(0.04, 0.16)
    for side in (-1, 1):
        foot = side * (0.07 + spread)
        sketch.limb(
            [(side * 0.1 * b, 0.88, 0.105 * b), (0.6 * foot + side * 0.04, 0.48, 0.08 * b), (foot, 0.1, 0.06)],
            look.skin if look.skirt else look.trousers,
        )
        sketch.limb([(foot, 0.05, 0.055), (foot + side * 0.07, 0.045, 0.05)], look.shoes)
    _arm_front(sketch, rng, look, -1)
    sketch.box(-0.05, 1.36, 0.05, 1.5, shade(look.skin, 0.85))
    sketch.smooth(
        [
            (-0.2 * b, 1.38), (0.2 * b, 1.38), (0.2 * b, 1.2), (0.15 * b, 1.0), (0.18 * b, 0.82), (-0.18 * b, 0.82),
            (-0.15 * b, 1.0), (-0.2 * b, 1.2),
        ],
        look.top,
        material=look.cloth,
    )
    if look.skirt:
        sketch.polygon(
            [(-0.16 * b, 0.96), (0.16 * b, 0.96), (0.28 * b, 0.5), (-0.28 * b, 0.5)], look.trousers, material="cloth"
        )
    else:
        sketch.box(-0.175 * b, 0.78, 0.175 * b, 0.87, shade(look.trousers, 0.9), radius=0.03)
    if rng.random() < 0.3:  # open jacket
        sketch.polygon([(-0.06, 1.4), (0.06, 1.4), (0.03, 0.84), (-0.03, 0.84)], shade(look.top, 1.6), solid=False)
    _arm_front(sketch, rng, look, 1)
    _head_front(sketch, look, 0.0, 1.6)


def _arm_front(sketch: Sketch, rng: Random, look: _Look, side: int) -> None:
    shoulder = (side * 0.19 * look.build, 1.33)
    kind = rng.choice(["down", "down", "hip", "wave", "wide"])
    elbow, hand = {
        "down": ((0.08, -0.27), (0.1, -0.52)),
        "hip": ((0.2, -0.22), (0.02, -0.42)),
        "wave": ((0.2, -0.02), (0.22, 0.28)),
        "wide": ((0.25, -0.06), (0.5, -0.02)),
    }[kind]
    elbow, hand = ((shoulder[0] + side * dx, shoulder[1] + dy) for dx, dy in (elbow, hand))
    _arm(sketch, look, shoulder, elbow, hand)


def _arm(
    sketch: Sketch,
    look: _Look,
    shoulder: tuple[float, float],
    elbow: tuple[float, float],
    hand: tuple[float, float],
    factor: float = 1.0,
) -> None:
    b = look.build
    sketch.limb([(*shoulder, 0.07 * b), (*elbow, 0.055 * b), (*hand, 0.042)], shade(look.skin, factor))
    sketch.oval(*hand, 0.058, 0.058, shade(look.skin, factor))
    middle = ((elbow[0] + hand[0] * 3) / 4, (elbow[1] + hand[1] * 3) / 4)
    joints = (
        [(*shoulder, 0.08 * b), (*elbow, 0.065 * b), (*middle, 0.056)]
        if look.sleeves
        else [(*shoulder, 0.08 * b), (*((shoulder[i] + elbow[i]) / 2 for i in (0, 1)), 0.075 * b)]
    )
    sketch.limb(joints, shade(look.top, 0.92 * factor), material=look.cloth)


def _head_front(sketch: Sketch, look: _Look, x: float, y: float) -> None:
    if look.cut == "long":
        sketch.smooth(
            [
                (x - 0.15, y + 0.08), (x, y + 0.19), (x + 0.15, y + 0.08), (x + 0.17, y - 0.22), (x, y - 0.2),
                (x - 0.17, y - 0.22),
            ],
            look.hair,
            material="fur",
        )
    sketch.oval(x, y, 0.115, 0.145, look.skin)
    for side in (-1, 1):
        sketch.oval(x + side * 0.115, y - 0.01, 0.022, 0.035, shade(look.skin, 0.9))
        sketch.oval(x + side * 0.045, y + 0.015, 0.016, 0.014, (30, 26, 26), solid=False)
        sketch.line(x + side * 0.025, y + 0.05, x + side * 0.07, y + 0.052, 0.014, shade(look.hair, 0.8), solid=False)
    sketch.line(x, y, x + 0.006, y - 0.035, 0.018, shade(look.skin, 0.84), solid=False)
    sketch.line(x - 0.035, y - 0.075, x + 0.035, y - 0.075, 0.018, (170, 84, 80), solid=False)
    if look.cut == "hat":
        sketch.box(x - 0.2, y + 0.07, x + 0.2, y + 0.105, shade(look.trousers, 0.9), radius=0.015)
        sketch.box(x - 0.12, y + 0.09, x + 0.12, y + 0.22, look.trousers, radius=0.04)
    elif look.cut != "bald":
        sketch.smooth(
            [
                (x - 0.125, y), (x - 0.13, y + 0.1), (x, y + 0.185), (x + 0.13, y + 0.1), (x + 0.125, y),
                (x + 0.09, y + 0.075), (x, y + 0.1), (x - 0.09, y + 0.075),
            ],
            look.hair,
            material="fur",
        )


def _side(sketch: Sketch, rng: Random, look: _Look) -> None:
    stride, swing = rng.uniform(0.05, 0.32), rng.uniform(-0.2, 0.3)
    _arm(sketch, look, (0.0, 1.32), (0.04 + 0.6 * swing, 1.06), (0.16 + swing, 0.86), 0.72)
    _leg_side(sketch, look, -stride, 0.7)
    _leg_side(sketch, look, stride, 1.0)
    _torso_side(sketch, look, 0.0, 0.86)
    if look.skirt:
        sketch.polygon([(-0.12, 0.96), (0.12, 0.96), (0.24, 0.5), (-0.24, 0.5)], look.trousers, material="cloth")
    if rng.random() < 0.3:
        sketch.box(-0.34, 0.95, -0.1, 1.36, paint(rng), radius=0.08, material="cloth")
    _arm(sketch, look, (-0.01, 1.32), (-0.04 - 0.6 * swing, 1.06), (0.06 - swing, 0.84))
    _head_side(sketch, look, 0.03, 1.6)


def _leg_side(sketch: Sketch, look: _Look, step: float, factor: float) -> None:
    foot = (step, 0.1 + max(0.0, -0.3 * step))
    sketch.limb(
        [(0, 0.86, 0.11 * look.build), (0.55 * step + 0.05, 0.48, 0.085), (*foot, 0.06)],
        shade(look.skin if look.skirt else look.trousers, factor),
    )
    sketch.limb([(foot[0], foot[1] - 0.05, 0.05), (foot[0] + 0.14, foot[1] - 0.06, 0.04)], shade(look.shoes, factor))


def _torso_side(sketch: Sketch, look: _Look, x: float, y: float, lean: float = 0.0) -> None:
    b = look.build
    sketch.line(x + lean, y + 0.5, x + lean + 0.02, y + 0.66, 0.1, shade(look.skin, 0.88))
    points = [
        (-0.12 * b, 0.0), (-0.12 * b, 0.25), (-0.11 * b, 0.48), (0.02, 0.55), (0.12 * b, 0.42), (0.13 * b, 0.2),
        (0.12 * b, 0.0),
    ]
    sketch.smooth([(x + dx + lean * dy / 0.55, y + dy) for dx, dy in points], look.top, material=look.cloth)


def _head_side(sketch: Sketch, look: _Look, x: float, y: float) -> None:
    if look.cut == "long":
        sketch.smooth(
            [(x - 0.02, y + 0.15), (x - 0.16, y + 0.08), (x - 0.19, y - 0.22), (x - 0.04, y - 0.18)], look.hair,
            material="fur",
        )
    sketch.oval(x, y, 0.125, 0.145, look.skin)
    sketch.polygon([(x + 0.1, y + 0.03), (x + 0.16, y - 0.03), (x + 0.1, y - 0.04)], look.skin)
    sketch.oval(x + 0.07, y + 0.02, 0.015, 0.016, (30, 26, 26), solid=False)
    sketch.line(x + 0.07, y - 0.08, x + 0.12, y - 0.078, 0.016, (170, 84, 80), solid=False)
    if look.cut == "hat":
        sketch.oval(x - 0.01, y + 0.08, 0.14, 0.1, look.trousers)
        sketch.line(x, y + 0.06, x + 0.22, y + 0.05, 0.035, shade(look.trousers, 0.8))
    elif look.cut != "bald":
        sketch.smooth(
            [
                (x + 0.12, y + 0.09), (x, y + 0.18), (x - 0.13, y + 0.1), (x - 0.14, y - 0.08),
                (x - 0.05, y - 0.04), (x, y + 0.07),
            ],
            look.hair,
            material="fur",
        )
    sketch.oval(x - 0.02, y - 0.01, 0.022, 0.035, shade(look.skin, 0.88), solid=False)


def rider(rng: Random) -> Sketch:
    """Seen from the side on a horse or two wheels; the saddle is at (0, 0), the handlebar at about (0.55, 0.25)."""
    sketch, look = Sketch(), _look(rng)
    lean = rng.uniform(0.05, 0.22)
    _torso_side(sketch, look, 0.0, 0.0, lean)
    sketch.limb([(0, 0.06, 0.12), (0.3, -0.16, 0.095), (0.16, -0.5, 0.065)], look.trousers)
    sketch.limb([(0.16, -0.54, 0.055), (0.3, -0.56, 0.045)], look.shoes)
    _arm(sketch, look, (lean * 0.85, 0.46), (0.26 + 0.5 * lean, 0.26), (0.5, 0.24))
    _head_side(sketch, look, lean + 0.06, 0.76)
    return sketch


def sitter(rng: Random) -> Sketch:
    """Seen from the front on a sofa or a chair; the seat is at (0, 0), the feet hang about 0.5 below."""
    sketch, look = Sketch(), _look(rng)
    b = look.build
    sketch.box(-0.05, 0.52, 0.05, 0.68, shade(look.skin, 0.85))
    sketch.smooth(
        [(-0.2 * b, 0.54), (0.2 * b, 0.54), (0.19 * b, 0.3), (0.18 * b, -0.02), (-0.18 * b, -0.02), (-0.19 * b, 0.3)],
        look.top, material=look.cloth,
    )
    for side in (-1, 1):
        foot = side * rng.uniform(0.08, 0.2)
        sketch.limb(
            [(side * 0.11, 0.02, 0.11 * b), (side * 0.15, -0.1, 0.115 * b), (foot, -0.44, 0.065)], look.trousers
        )
        sketch.limb([(foot, -0.48, 0.06), (foot + side * 0.05, -0.5, 0.055)], look.shoes)
        _arm(sketch, look, (side * 0.19 * b, 0.48), (side * 0.27 * b, 0.2), (side * rng.uniform(0.05, 0.16), 0.03))
    _head_front(sketch, look, 0.0, 0.77)
    return sketch
