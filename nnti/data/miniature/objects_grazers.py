"""Drawings of the animals of the meadow: cow, horse, sheep; and what four-legged animals share."""
# Outlines are written as rows of points.
# fmt: off

from dataclasses import dataclass
from math import cos, pi, sin
from random import Random

from nnti.data.miniature.colours import coat, shade
from nnti.data.miniature.sketch import Colour, Sketch

__all__ = ["Build", "add_eye", "add_legs", "add_patches", "add_trunk", "cow", "horse", "sheep"]

CHESTNUT = (98, 58, 36), (78, 48, 34), (120, 72, 40)
PIED = (236, 230, 220), (226, 220, 212)


@dataclass(frozen=True)
class Build:
    """Proportions of a four-legged animal with its shoulders at (`reach`, 1) and its hips at (-`reach`, 1)."""

    reach: float  # half the length between shoulders and hips
    chest: float  # radius of the trunk at the shoulders
    belly: float  # radius of the trunk at the hips
    leg: float  # radius of a leg at its top
    foot: float  # radius of a leg at its bottom


def add_legs(
    sketch: Sketch, rng: Random, build: Build, colour: Colour, hoof: Colour, near: bool, material: str = "fur"
) -> None:
    """Add the two legs of the near or the far side; the far ones are darker."""
    stride = rng.uniform(0.04, 0.22)
    colour = colour if near else shade(colour, 0.68)
    offset = 0.0 if near else rng.uniform(0.08, 0.16)
    for hip, phase in ((-build.reach + 0.06, rng.choice([-1, 1])), (build.reach - 0.02, rng.choice([-1, 1]))):
        x, swing = hip + (offset if hip < 0 else -offset), phase * stride * (1 if near else -1)
        bend = -0.07 if hip < 0 else 0.03
        knee = (x + 0.45 * swing + bend, 0.46, build.leg * 0.62)
        sketch.limb([(x, 0.82, build.leg), knee, (x + swing, 0.1, build.foot)], colour, material=material)
        sketch.limb([(x + swing, 0.07, build.foot * 1.15), (x + swing + 0.05, 0.05, build.foot * 1.1)], hoof)


def add_trunk(sketch: Sketch, build: Build, colour: Colour, material: str = "fur") -> None:
    """Add the body from rump to breast."""
    r, chest, belly = build.reach, build.chest, build.belly
    sketch.smooth(
        [
            (-r - belly * 0.75, 0.98), (-r, 1.0 + belly), (0, 0.97 + 0.85 * chest), (r, 1.0 + chest),
            (r + 0.75 * chest, 0.98), (r, 0.97 - chest), (0, 0.95 - chest), (-r, 1.0 - belly),
        ],
        colour,
        material=material,
    )


def add_eye(sketch: Sketch, x: float, y: float, size: float = 0.03) -> None:
    """Add an eye with a glint."""
    sketch.oval(x, y, size * 1.2, size * 1.2, (24, 20, 20), solid=False)
    sketch.oval(x + 0.3 * size, y + 0.35 * size, size * 0.4, size * 0.4, (240, 240, 240), solid=False)


def add_patches(
    sketch: Sketch, rng: Random, count: int, colour: Colour, spread: tuple[float, float], size: float
) -> None:
    """Add irregular patches of another colour to what is drawn so far."""
    for _ in range(count):
        x, y = rng.uniform(-spread[0], spread[0]), 1 + rng.uniform(-spread[1], spread[1])
        wobble = [
            (x + size * rng.uniform(0.6, 1.3) * cos(a), y + size * rng.uniform(0.5, 1.1) * sin(a)) for a in _turns(7)
        ]
        sketch.smooth(wobble, colour, material="fur", clip=True)


def _turns(count: int) -> list[float]:
    return [2 * pi * step / count for step in range(count)]


def horse(rng: Random) -> Sketch:
    """Long legs, arched neck with a mane, long tail."""
    sketch, build, colour = Sketch(), Build(rng.uniform(0.46, 0.56), 0.26, 0.25, 0.13, 0.05), coat(rng, *CHESTNUT)
    mane = rng.choice([shade(colour, 0.45), (40, 32, 30), (222, 210, 190)])
    hoof, r, graze = (50, 44, 42), build.reach, rng.random() < 0.25
    add_legs(sketch, rng, build, colour, hoof, near=False)
    sway = rng.uniform(-0.1, 0.25)
    sketch.limb(
        [(-r - 0.18, 1.1, 0.05), (-r - 0.32 - 0.3 * sway, 0.9, 0.09), (-r - 0.34 - sway, 0.45, 0.04)], mane,
        material="fur",
    )
    add_trunk(sketch, build, colour)
    if rng.random() < 0.3:
        add_patches(sketch, rng, 4, rng.choice([(236, 228, 214), shade(colour, 0.6)]), (0.55, 0.2), 0.2)
    head = (r + 0.55, 0.42) if graze else (r + 0.46, 1.62)
    neck = [(r - 0.12, 1.14, 0.23), (r + 0.2, 1.0 if graze else 1.4, 0.16), (head[0] - 0.06, head[1] + 0.08, 0.12)]
    sketch.limb([(x - 0.1, y + 0.06, radius) for x, y, radius in neck], mane, material="fur")
    sketch.limb(neck, colour, material="fur")
    nose = (head[0] + 0.12, head[1] - 0.3) if graze else (head[0] + 0.28, head[1] - 0.24)
    for ear in (-0.1, -0.02):
        sketch.polygon(
            [
                (head[0] + ear - 0.03, head[1] + 0.08), (head[0] + ear + 0.07, head[1] + 0.09),
                (head[0] + ear, head[1] + 0.28),
            ],
            shade(colour, 0.9),
        )
    sketch.limb([(*head, 0.135), (*nose, 0.08)], colour, material="fur")
    if rng.random() < 0.4:
        sketch.line(head[0] + 0.04, head[1] + 0.06, nose[0] + 0.03, nose[1] + 0.05, 0.05, (238, 232, 222), clip=True)
    sketch.oval(nose[0] + 0.04, nose[1], 0.02, 0.02, (30, 26, 26), solid=False)
    add_eye(sketch, head[0] + 0.02, head[1] + 0.03)
    add_legs(sketch, rng, build, colour, hoof, near=True)
    return sketch


def cow(rng: Random) -> Sketch:
    """Heavy trunk with patches, horns, udder."""
    sketch, build, colour = Sketch(), Build(rng.uniform(0.56, 0.66), 0.34, 0.33, 0.14, 0.065), coat(rng, *PIED)
    spots, r, graze = rng.choice([(40, 36, 36), (40, 36, 36), shade(colour, 0.6)]), build.reach, rng.random() < 0.3
    add_legs(sketch, rng, build, colour, (56, 48, 44), near=False)
    sketch.limb(
        [(-r - 0.24, 1.2, 0.04), (-r - 0.31, 0.9, 0.03), (-r - 0.3, 0.5, 0.03), (-r - 0.3, 0.42, 0.06)],
        shade(colour, 0.8), material="fur",
    )
    sketch.oval(-r + 0.2, 0.66, 0.15, 0.12, (226, 168, 158))
    add_trunk(sketch, build, colour)
    if rng.random() < 0.75:
        add_patches(sketch, rng, rng.randint(4, 7), spots, (0.75, 0.3), 0.24)
    head = (r + 0.5, 0.55) if graze else (r + 0.5, 1.3)
    sketch.limb([(r - 0.05, 1.1, 0.26), (head[0] - 0.1, head[1] + 0.02, 0.19)], colour, material="fur")
    for side in (-0.1, 0.1):
        sketch.limb(
            [
                (head[0] + side, head[1] + 0.14, 0.04), (head[0] + 1.9 * side, head[1] + 0.24, 0.03),
                (head[0] + 1.7 * side, head[1] + 0.36, 0.012),
            ],
            (222, 212, 186),
        )
        sketch.oval(head[0] + 2.0 * side, head[1] + 0.1, 0.13, 0.06, shade(colour, 0.8), tilt=-2 * side)
    sketch.limb([(head[0], head[1] + 0.05, 0.17), (head[0] + 0.16, head[1] - 0.24, 0.11)], colour, material="fur")
    if rng.random() < 0.5:
        sketch.oval(head[0] + 0.06, head[1] - 0.04, 0.07, 0.2, (240, 234, 224), tilt=0.5, clip=True)
    sketch.oval(head[0] + 0.2, head[1] - 0.29, 0.12, 0.1, (216, 164, 150), tilt=-0.4)
    sketch.oval(head[0] + 0.24, head[1] - 0.28, 0.025, 0.02, (60, 40, 40), solid=False)
    add_eye(sketch, head[0] + 0.05, head[1] + 0.06)
    add_legs(sketch, rng, build, colour, (56, 48, 44), near=True)
    return sketch


def sheep(rng: Random) -> Sketch:
    """A round fleece of curls on thin legs, bare dark or pale face."""
    sketch, build = Sketch(), Build(rng.uniform(0.44, 0.54), 0.36, 0.36, 0.1, 0.055)
    fleece = coat(rng, (232, 226, 210), (222, 212, 190), (240, 234, 222))
    face, r = rng.choice([(52, 46, 44), (216, 200, 178), (130, 106, 88), shade(fleece, 0.85)]), build.reach
    head = (r + 0.48, 0.62 if rng.random() < 0.3 else 1.3)
    add_legs(sketch, rng, build, face, shade(face, 0.5), near=False, material="plain")
    add_legs(sketch, rng, build, face, shade(face, 0.5), near=True, material="plain")
    sketch.limb([(r, 1.1, 0.3), (head[0] - 0.12, head[1], 0.18)], fleece, material="wool")
    add_trunk(sketch, build, fleece, "wool")
    for angle in _turns(15):
        x, y = (r + 0.2) * cos(angle), 0.98 + 0.32 * sin(angle)
        sketch.oval(
            x, y, rng.uniform(0.14, 0.19), rng.uniform(0.13, 0.17), shade(fleece, rng.uniform(0.94, 1.04)),
            material="wool",
        )
    sketch.oval(0, 0.98, r + 0.12, 0.3, fleece, material="wool")
    sketch.oval(head[0] - 0.14, head[1] + 0.08, 0.15, 0.06, shade(face, 0.9), tilt=0.5)
    sketch.limb([(head[0], head[1] + 0.04, 0.15), (head[0] + 0.15, head[1] - 0.16, 0.085)], face)
    sketch.oval(head[0] - 0.05, head[1] + 0.15, 0.15, 0.1, fleece, material="wool")
    sketch.oval(head[0] + 0.2, head[1] - 0.17, 0.022, 0.018, shade(face, 0.4), solid=False)
    add_eye(sketch, head[0] + 0.07, head[1] + 0.02, 0.026)
    return sketch
