"""Drawings of the animals: bird, cat, cow, dog, horse, sheep. Each function returns a new, random sketch."""

from dataclasses import dataclass
from math import cos, pi, sin
from random import Random

from nnti.data.miniature.colours import coat, mix, paint, shade
from nnti.data.miniature.sketch import Colour, Sketch

__all__ = ["bird", "cat", "cow", "dog", "horse", "sheep"]


@dataclass(frozen=True)
class _Build:
    """Proportions of a four-legged animal that stands with its shoulders at (`reach`, 1) and its hips at (-`reach`, 1)."""

    reach: float  # half the length between shoulders and hips
    chest: float  # radius of the trunk at the shoulders
    belly: float  # radius of the trunk at the hips
    leg: float  # radius of a leg at its top
    foot: float  # radius of a leg at its bottom


def _legs(sketch: Sketch, rng: Random, build: _Build, colour: Colour, hoof: Colour, near: bool, material: str = "fur") -> None:
    stride = rng.uniform(0.04, 0.22)
    colour = colour if near else shade(colour, 0.68)
    offset = 0.0 if near else rng.uniform(0.08, 0.16)
    for hip, phase in ((-build.reach + 0.06, rng.choice([-1, 1])), (build.reach - 0.02, rng.choice([-1, 1]))):
        x, swing = hip + (offset if hip < 0 else -offset), phase * stride * (1 if near else -1)
        bend = -0.07 if hip < 0 else 0.03
        knee = (x + 0.45 * swing + bend, 0.46, build.leg * 0.62)
        sketch.limb([(x, 0.82, build.leg), knee, (x + swing, 0.1, build.foot)], colour, material=material)
        sketch.limb([(x + swing, 0.07, build.foot * 1.15), (x + swing + 0.05, 0.05, build.foot * 1.1)], hoof)


def _trunk(sketch: Sketch, build: _Build, colour: Colour, material: str = "fur") -> None:
    r, chest, belly = build.reach, build.chest, build.belly
    sketch.smooth(
        [(-r - belly * 0.75, 0.98), (-r, 1.0 + belly), (0, 0.97 + 0.85 * chest), (r, 1.0 + chest), (r + 0.75 * chest, 0.98),
         (r, 0.97 - chest), (0, 0.95 - chest), (-r, 1.0 - belly)],
        colour, material=material,
    )  # fmt: skip


def _eye(sketch: Sketch, x: float, y: float, size: float = 0.03) -> None:
    sketch.oval(x, y, size * 1.2, size * 1.2, (24, 20, 20), solid=False)
    sketch.oval(x + 0.3 * size, y + 0.35 * size, size * 0.4, size * 0.4, (240, 240, 240), solid=False)


def _patches(sketch: Sketch, rng: Random, count: int, colour: Colour, spread: tuple[float, float], size: float) -> None:
    for _ in range(count):
        x, y = rng.uniform(-spread[0], spread[0]), 1 + rng.uniform(-spread[1], spread[1])
        wobble = [(x + size * rng.uniform(0.6, 1.3) * cos(a), y + size * rng.uniform(0.5, 1.1) * sin(a)) for a in _turns(7)]
        sketch.smooth(wobble, colour, material="fur", clip=True)


def _turns(count: int) -> list[float]:
    return [2 * pi * step / count for step in range(count)]


def horse(rng: Random) -> Sketch:
    """Long legs, arched neck with a mane, long tail."""
    sketch, build, colour = Sketch(), _Build(rng.uniform(0.46, 0.56), 0.26, 0.25, 0.13, 0.05), coat(rng)
    mane = rng.choice([shade(colour, 0.45), (40, 32, 30), (222, 210, 190)])
    hoof, r, graze = (50, 44, 42), build.reach, rng.random() < 0.25
    _legs(sketch, rng, build, colour, hoof, near=False)
    sway = rng.uniform(-0.1, 0.25)
    sketch.limb([(-r - 0.18, 1.1, 0.05), (-r - 0.32 - 0.3 * sway, 0.9, 0.09), (-r - 0.34 - sway, 0.45, 0.04)], mane, material="fur")
    _trunk(sketch, build, colour)
    if rng.random() < 0.3:
        _patches(sketch, rng, 4, rng.choice([(236, 228, 214), shade(colour, 0.6)]), (0.55, 0.2), 0.2)
    head = (r + 0.55, 0.42) if graze else (r + 0.46, 1.62)
    neck = [(r - 0.12, 1.14, 0.23), (r + 0.2, 1.0 if graze else 1.4, 0.16), (head[0] - 0.06, head[1] + 0.08, 0.12)]
    sketch.limb([(x - 0.1, y + 0.06, radius) for x, y, radius in neck], mane, material="fur")
    sketch.limb(neck, colour, material="fur")
    nose = (head[0] + 0.12, head[1] - 0.3) if graze else (head[0] + 0.28, head[1] - 0.24)
    for ear in (-0.1, -0.02):
        sketch.polygon([(head[0] + ear - 0.03, head[1] + 0.08), (head[0] + ear + 0.07, head[1] + 0.09), (head[0] + ear, head[1] + 0.28)], shade(colour, 0.9))
    sketch.limb([(*head, 0.135), (*nose, 0.08)], colour, material="fur")
    if rng.random() < 0.4:
        sketch.line(head[0] + 0.04, head[1] + 0.06, nose[0] + 0.03, nose[1] + 0.05, 0.05, (238, 232, 222), clip=True)
    sketch.oval(nose[0] + 0.04, nose[1], 0.02, 0.02, (30, 26, 26), solid=False)
    _eye(sketch, head[0] + 0.02, head[1] + 0.03)
    _legs(sketch, rng, build, colour, hoof, near=True)
    return sketch


def cow(rng: Random) -> Sketch:
    """Heavy trunk with patches, horns, udder."""
    sketch, build, colour = Sketch(), _Build(rng.uniform(0.56, 0.66), 0.34, 0.33, 0.14, 0.065), coat(rng)
    spots, r, graze = rng.choice([(240, 234, 224), (40, 36, 36), shade(colour, 0.6)]), build.reach, rng.random() < 0.3
    _legs(sketch, rng, build, colour, (56, 48, 44), near=False)
    sketch.limb([(-r - 0.24, 1.2, 0.04), (-r - 0.31, 0.9, 0.03), (-r - 0.3, 0.5, 0.03), (-r - 0.3, 0.42, 0.06)], shade(colour, 0.8), material="fur")
    sketch.oval(-r + 0.2, 0.66, 0.15, 0.12, (226, 168, 158))
    _trunk(sketch, build, colour)
    if rng.random() < 0.75:
        _patches(sketch, rng, rng.randint(4, 7), spots, (0.75, 0.3), 0.24)
    head = (r + 0.5, 0.55) if graze else (r + 0.5, 1.3)
    sketch.limb([(r - 0.05, 1.1, 0.26), (head[0] - 0.1, head[1] + 0.02, 0.19)], colour, material="fur")
    for side in (-0.1, 0.1):
        sketch.limb([(head[0] + side, head[1] + 0.14, 0.04), (head[0] + 1.9 * side, head[1] + 0.24, 0.03), (head[0] + 1.7 * side, head[1] + 0.36, 0.012)], (222, 212, 186))
        sketch.oval(head[0] + 2.0 * side, head[1] + 0.1, 0.13, 0.06, shade(colour, 0.8), tilt=-2 * side)
    sketch.limb([(head[0], head[1] + 0.05, 0.17), (head[0] + 0.16, head[1] - 0.24, 0.11)], colour, material="fur")
    if rng.random() < 0.5:
        sketch.oval(head[0] + 0.06, head[1] - 0.04, 0.07, 0.2, (240, 234, 224), tilt=0.5, clip=True)
    sketch.oval(head[0] + 0.2, head[1] - 0.29, 0.12, 0.1, (216, 164, 150), tilt=-0.4)
    sketch.oval(head[0] + 0.24, head[1] - 0.28, 0.025, 0.02, (60, 40, 40), solid=False)
    _eye(sketch, head[0] + 0.05, head[1] + 0.06)
    _legs(sketch, rng, build, colour, (56, 48, 44), near=True)
    return sketch


def sheep(rng: Random) -> Sketch:
    """A round fleece of curls on thin legs, bare dark or pale face."""
    sketch, build = Sketch(), _Build(rng.uniform(0.44, 0.54), 0.36, 0.36, 0.1, 0.055)
    fleece = rng.choice([(232, 226, 210), (222, 212, 190), (200, 190, 174), (120, 104, 92), (84, 76, 74), (150, 130, 108)])
    face, r = rng.choice([(52, 46, 44), (216, 200, 178), (130, 106, 88), shade(fleece, 0.85)]), build.reach
    head = (r + 0.48, 0.62 if rng.random() < 0.3 else 1.3)
    _legs(sketch, rng, build, face, shade(face, 0.5), near=False, material="plain")
    _legs(sketch, rng, build, face, shade(face, 0.5), near=True, material="plain")
    sketch.limb([(r, 1.1, 0.3), (head[0] - 0.12, head[1], 0.18)], fleece, material="wool")
    _trunk(sketch, build, fleece, "wool")
    for angle in _turns(15):
        x, y = (r + 0.2) * cos(angle), 0.98 + 0.32 * sin(angle)
        sketch.oval(x, y, rng.uniform(0.14, 0.19), rng.uniform(0.13, 0.17), shade(fleece, rng.uniform(0.94, 1.04)), material="wool")
    sketch.oval(0, 0.98, r + 0.12, 0.3, fleece, material="wool")
    sketch.oval(head[0] - 0.14, head[1] + 0.08, 0.15, 0.06, shade(face, 0.9), tilt=0.5)
    sketch.limb([(head[0], head[1] + 0.04, 0.15), (head[0] + 0.15, head[1] - 0.16, 0.085)], face)
    sketch.oval(head[0] - 0.05, head[1] + 0.15, 0.15, 0.1, fleece, material="wool")
    sketch.oval(head[0] + 0.2, head[1] - 0.17, 0.022, 0.018, shade(face, 0.4), solid=False)
    _eye(sketch, head[0] + 0.07, head[1] + 0.02, 0.026)
    return sketch


def dog(rng: Random) -> Sketch:
    """Long muzzle with a black nose, hanging or pointed ears, raised tail; standing or sitting."""
    sketch, colour = Sketch(), coat(rng)
    mark = rng.choice([(236, 226, 208), shade(colour, 0.5), shade(colour, 1.25)])
    if rng.random() < 0.35:
        sketch.limb([(-0.45, 0.12, 0.07), (-0.75, 0.2, 0.06), (-0.9, 0.45, 0.03)], colour, material="fur")
        sketch.oval(-0.28, 0.36, 0.36, 0.36, colour, material="fur")
        sketch.limb([(-0.2, 0.45, 0.34), (0.12, 1.0, 0.25)], colour, material="fur")
        sketch.oval(0.2, 0.75, 0.13, 0.26, mark, material="fur", clip=True)
        for x in (0.1, 0.22):
            sketch.limb([(x, 0.7, 0.12), (x + 0.06, 0.12, 0.075), (x + 0.16, 0.06, 0.065)], shade(colour, 0.8 + x), material="fur")
        sketch.limb([(-0.3, 0.25, 0.2), (0.0, 0.08, 0.08)], colour, material="fur")
        _dog_head(sketch, rng, (0.24, 1.4), colour, mark)
        return sketch
    build = _Build(rng.uniform(0.42, 0.62), rng.uniform(0.24, 0.3), rng.uniform(0.19, 0.24), 0.13, 0.07)
    r = build.reach
    _legs(sketch, rng, build, colour, shade(colour, 0.8), near=False)
    curl = rng.uniform(0.1, 0.4)
    sketch.limb([(-r - 0.1, 1.08, 0.09), (-r - 0.35, 1.2 + curl, 0.06), (-r - 0.35 + curl, 1.4 + curl, 0.03)], colour, material="fur")
    _trunk(sketch, build, colour)
    if rng.random() < 0.6:
        _patches(sketch, rng, rng.choice([3, 14]), mark, (0.6, 0.2), rng.uniform(0.06, 0.16))
    sketch.limb([(r, 1.12, 0.22), (r + 0.28, 1.38, 0.17)], colour, material="fur")
    if rng.random() < 0.4:
        sketch.line(r + 0.06, 1.36, r + 0.34, 1.14, 0.08, paint(rng))
    _dog_head(sketch, rng, (r + 0.38, 1.5), colour, mark)
    _legs(sketch, rng, build, colour, shade(colour, 0.8), near=True)
    return sketch


def _dog_head(sketch: Sketch, rng: Random, at: tuple[float, float], colour: Colour, mark: Colour) -> None:
    x, y = at
    muzzle = rng.uniform(0.26, 0.42)
    pointed = rng.random() < 0.4
    if pointed:
        sketch.polygon([(x - 0.2, y + 0.1), (x - 0.16, y + 0.46), (x + 0.02, y + 0.18)], shade(colour, 0.72), material="fur")
    sketch.limb([(x + 0.08, y - 0.06, 0.15), (x + muzzle, y - 0.12, 0.1)], mix(colour, mark, 0.4), material="fur")
    sketch.oval(x, y, 0.24, 0.23, colour, material="fur")
    if rng.random() < 0.3:
        sketch.polygon([(x + 0.1, y - 0.17), (x + 0.26, y - 0.15), (x + 0.22, y - 0.32)], (222, 110, 116))
    sketch.oval(x + muzzle + 0.07, y - 0.06, 0.055, 0.05, (26, 22, 24))
    _eye(sketch, x + 0.12, y + 0.06, 0.032)
    if pointed:
        sketch.polygon([(x - 0.12, y + 0.14), (x - 0.02, y + 0.5), (x + 0.1, y + 0.18)], shade(colour, 0.85), material="fur")
    else:
        sketch.smooth([(x - 0.14, y + 0.2), (x, y + 0.12), (x + 0.02, y - 0.12), (x - 0.08, y - 0.26), (x - 0.19, y - 0.05)], shade(colour, 0.66), material="fur")


def cat(rng: Random) -> Sketch:
    """Round face to the front with pointed ears and whiskers, long curved tail, often striped; sitting, walking or lying."""
    sketch, colour = Sketch(), coat(rng)
    pale = rng.choice([(238, 230, 216), shade(colour, 1.2), colour])
    stripe = shade(colour, 0.58) if rng.random() < 0.6 else None
    rng.choice([_cat_sitting, _cat_walking, _cat_lying])(sketch, rng, colour, pale, stripe)
    return sketch


def _cat_sitting(sketch: Sketch, rng: Random, colour: Colour, pale: Colour, stripe: Colour | None) -> None:
    sketch.limb([(-0.25, 0.1, 0.08), (-0.6, 0.1, 0.075), (-0.72, 0.3, 0.06), (-0.62, 0.5, 0.05)], shade(colour, 0.85), material="fur")
    sketch.smooth([(-0.4, 0.05), (-0.44, 0.4), (-0.22, 0.95), (0.22, 0.95), (0.44, 0.4), (0.4, 0.05)], colour, material="fur")
    for y in (0.3, 0.5, 0.7, 0.86) if stripe else ():
        for side in (-1, 1):
            sketch.line(side * 0.46, y, side * 0.18, y - 0.06, 0.07, stripe, clip=True)
    sketch.oval(0, 0.72, 0.15, 0.24, pale, material="fur", clip=True)
    for x in (-0.11, 0.11):
        sketch.limb([(x, 0.55, 0.1), (x, 0.08, 0.085)], shade(colour, 1.05), material="fur")
        sketch.oval(x, 0.07, 0.11, 0.075, pale)
        sketch.oval(3.1 * x, 0.08, 0.15, 0.09, shade(colour, 0.95), material="fur")
    _cat_head(sketch, rng, (rng.uniform(-0.06, 0.06), 1.15), colour, pale, stripe)


def _cat_walking(sketch: Sketch, rng: Random, colour: Colour, pale: Colour, stripe: Colour | None) -> None:
    build = _Build(rng.uniform(0.5, 0.62), 0.22, 0.23, 0.1, 0.065)
    r, lift = build.reach, rng.uniform(0.1, 0.5)
    _legs(sketch, rng, build, colour, pale, near=False)
    sketch.limb([(-r - 0.1, 1.05, 0.085), (-r - 0.4, 1.1, 0.075), (-r - 0.62, 1.3 + 0.5 * lift, 0.065), (-r - 0.55, 1.4 + lift, 0.05)], colour, material="fur")
    _trunk(sketch, build, colour)
    for step in range(7) if stripe else ():
        x = -r - 0.05 + step * (2 * r) / 6
        sketch.line(x, 1.3, x + 0.05, 0.98, 0.07, stripe, clip=True)
    _legs(sketch, rng, build, colour, pale, near=True)
    _cat_head(sketch, rng, (r + 0.26, 1.32), colour, pale, stripe)


def _cat_lying(sketch: Sketch, rng: Random, colour: Colour, pale: Colour, stripe: Colour | None) -> None:
    sketch.limb([(-0.7, 0.14, 0.09), (-1.0, 0.1, 0.08), (-1.15, 0.24, 0.07), (-1.0, 0.36, 0.05)], shade(colour, 0.85), material="fur")
    sketch.smooth([(-0.85, 0.04), (-0.88, 0.36), (-0.5, 0.62), (0.1, 0.56), (0.5, 0.6), (0.66, 0.3), (0.55, 0.03)], colour, material="fur")
    for step in range(6) if stripe else ():
        sketch.line(-0.7 + 0.2 * step, 0.62, -0.62 + 0.2 * step, 0.3, 0.07, stripe, clip=True)
    sketch.oval(-0.5, 0.24, 0.3, 0.24, shade(colour, 1.03), material="fur")
    for y in (0.08, 0.12):
        sketch.limb([(0.4, y + 0.06, 0.1), (0.85 - y, y, 0.075)], mix(colour, pale, 0.6), material="fur")
    _cat_head(sketch, rng, (0.5, 0.72), colour, pale, stripe)


def _cat_head(sketch: Sketch, rng: Random, at: tuple[float, float], colour: Colour, pale: Colour, stripe: Colour | None) -> None:
    x, y = at
    for side in (-1, 1):
        sketch.polygon([(x + side * 0.27, y + 0.08), (x + side * 0.26, y + 0.42), (x + side * 0.05, y + 0.22)], colour, material="fur")
        sketch.polygon([(x + side * 0.24, y + 0.14), (x + side * 0.235, y + 0.34), (x + side * 0.12, y + 0.22)], (206, 150, 142), solid=False)
    sketch.oval(x, y, 0.3, 0.26, colour, material="fur")
    for shift in (-0.08, 0, 0.08) if stripe else ():
        sketch.line(x + shift, y + 0.13, x + 1.2 * shift, y + 0.26, 0.035, stripe, clip=True)
    iris = rng.choice([(150, 190, 70), (220, 180, 60), (120, 170, 200)])
    for side in (-1, 1):
        sketch.oval(x + side * 0.07, y - 0.1, 0.085, 0.07, pale, solid=False)
        sketch.oval(x + side * 0.12, y + 0.04, 0.06, 0.055, iris, solid=False)
        sketch.oval(x + side * 0.12, y + 0.04, 0.022, 0.052, (16, 14, 16), solid=False)
        for slope in (-0.05, 0.03):
            sketch.line(x + side * 0.1, y - 0.08, x + side * 0.4, y - 0.08 + slope, 0.012, (236, 232, 226), solid=False)
    sketch.polygon([(x - 0.04, y - 0.05), (x + 0.04, y - 0.05), (x, y - 0.1)], (200, 120, 116), solid=False)


def bird(rng: Random) -> Sketch:
    """A beak, a small round head and feathers; perched on thin legs, or flying with spread wings."""
    sketch = Sketch()
    body = rng.choice([paint, coat])(rng)
    belly, wing = rng.choice([(236, 230, 214), shade(body, 1.3), mix(body, (220, 140, 70), 0.6)]), shade(body, rng.uniform(0.5, 0.8))
    beak = rng.choice([(232, 168, 52), (60, 52, 50), (214, 110, 60)])
    (_bird_flying if rng.random() < 0.4 else _bird_perched)(sketch, rng, body, belly, wing, beak)
    return sketch


def _bird_perched(sketch: Sketch, rng: Random, body: Colour, belly: Colour, wing: Colour, beak: Colour) -> None:
    long = rng.uniform(0.0, 1.0)  # from a songbird to a wader
    leg, neck = 0.2 + 0.6 * long, 0.1 + 0.5 * long
    for x in (-0.05, 0.1):
        sketch.limb([(x, leg + 0.2, 0.03), (x - 0.02, 0.03, 0.022), (x + 0.1, 0.02, 0.02)], beak)
    sketch.polygon([(-0.3, leg + 0.42), (-0.86, leg + 0.1), (-0.8, leg - 0.02), (-0.2, leg + 0.2)], shade(wing, 0.8), material="leaf")
    sketch.smooth([(-0.5, leg + 0.3), (-0.15, leg + 0.56), (0.25, leg + 0.62), (0.42, leg + 0.4), (0.2, leg + 0.1), (-0.2, leg + 0.06)], body, material="leaf")
    sketch.oval(0.2, leg + 0.2, 0.3, 0.2, belly, tilt=0.5, clip=True)
    head = (0.36 + 0.1 * long, leg + 0.6 + neck)
    sketch.limb([(0.22, leg + 0.5, 0.2 - 0.06 * long), (*head, 0.15 - 0.04 * long)], body, material="leaf")
    sketch.polygon([(head[0] + 0.1, head[1] + 0.07), (head[0] + 0.34 + 0.22 * long, head[1] - 0.02), (head[0] + 0.1, head[1] - 0.08)], beak)
    sketch.oval(*head, 0.18 - 0.03 * long, 0.17 - 0.03 * long, body, material="leaf")
    _eye(sketch, head[0] + 0.06, head[1] + 0.03, 0.034)
    sketch.smooth([(0.2, leg + 0.5), (0.1, leg + 0.24), (-0.3, leg + 0.14), (-0.7, leg + 0.16), (-0.3, leg + 0.48)], wing, material="leaf")
    for step in range(3):
        sketch.line(0.0 - 0.1 * step, leg + 0.42 - 0.08 * step, -0.5, leg + 0.26 - 0.04 * step, 0.02, shade(wing, 0.7), solid=False)


def _bird_flying(sketch: Sketch, rng: Random, body: Colour, belly: Colour, wing: Colour, beak: Colour) -> None:
    lift = rng.uniform(0.35, 1.0)
    _wing(sketch, (0.15, 0.1), (0.25, 0.8 * lift), (-0.75, 1.05 * lift), shade(wing, 0.75))
    sketch.polygon([(-0.4, 0.06), (-0.95, 0.14), (-0.98, 0.0), (-0.92, -0.13), (-0.4, -0.06)], shade(wing, 0.9), material="leaf")
    sketch.smooth([(-0.55, 0.0), (0.0, 0.15), (0.45, 0.14), (0.62, 0.04), (0.4, -0.1), (0.0, -0.16)], body, material="leaf")
    sketch.oval(0.1, -0.1, 0.42, 0.1, belly, clip=True)
    sketch.polygon([(0.72, 0.15), (0.97, 0.06), (0.72, 0.02)], beak)
    sketch.oval(0.62, 0.1, 0.15, 0.13, body, material="leaf")
    _eye(sketch, 0.67, 0.13, 0.03)
    _wing(sketch, (0.28, 0.05), (0.15, 0.75 * lift), (-0.5, 1.25 * lift), wing)


def _wing(sketch: Sketch, root: tuple[float, float], elbow: tuple[float, float], tip: tuple[float, float], colour: Colour) -> None:
    for step in range(6):
        share = step / 5
        x, y = elbow[0] + (tip[0] - elbow[0]) * share, elbow[1] + (tip[1] - elbow[1]) * share
        back = (root[0] - 0.45 * (1 - 0.3 * share), root[1] + 0.35 * share * tip[1])
        sketch.limb([(*back, 0.09), (x - 0.1 * share, y, 0.06)], shade(colour, 0.86 + 0.05 * (step % 2)), material="leaf")
    sketch.polygon([root, elbow, (elbow[0] - 0.25, elbow[1] + 0.02), (root[0] - 0.5, root[1])], colour, material="leaf")
