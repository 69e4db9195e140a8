"""Small things in the streets of the miniature Cityscapes: posts, lights, signs, two-wheelers and what stands about.

Units are metres, the ground is at y = 0; each function returns (sketch, name in the Cityscapes table) pairs to be
drawn one after the other at one place, with an outline to be labelled where that differs from the sketch.
"""
# Outlines are written as rows of points.
# fmt: off

from dataclasses import dataclass
from math import cos, pi, sin
from random import Random

from nnti.data.miniature.colours import DARK, metal, paint, shade, skin
from nnti.data.miniature.objects_person import rider as side_rider
from nnti.data.miniature.objects_road import bicycle, motorbike
from nnti.data.miniature.sketch import Colour, Sketch

__all__ = ["Piece", "bin_", "cone", "lamp", "parasol", "poles", "poster_pillar", "rider_along", "rider_crossing",
           "sign", "traffic_light", "two_wheeler"]


@dataclass(frozen=True)
class Piece:
    """A drawing, its name in the Cityscapes table, and the outline to label if it is not the drawing's own."""

    sketch: Sketch
    name: str
    outline: Sketch | None = None


def _pole(tall: float, wide: float, colour: Colour) -> Piece:
    sketch = Sketch()
    sketch.box(-wide / 2, 0, wide / 2, tall, colour)
    return Piece(sketch, "pole")


def _steel(rng: Random) -> Colour:
    return rng.choice([shade(metal(rng), 0.55), shade(metal(rng), 0.8), (66, 84, 76), (54, 56, 60)])


def lamp(rng: Random) -> list[Piece]:
    """A street lamp, 5 to 8 metres tall, its arm to the right."""
    steel, tall = _steel(rng), rng.uniform(5, 8)
    post = _pole(tall, 0.17, steel)
    if rng.random() < 0.6:
        post.sketch.limb([(0, tall - 0.1, 0.07), (0.5, tall + 0.2, 0.06), (1.5, tall + 0.2, 0.05)], steel)
        post.sketch.limb([(1.2, tall + 0.15, 0.11), (1.8, tall + 0.15, 0.09)], shade(steel, 1.2))
    else:
        post.sketch.oval(0, tall + 0.2, 0.28, 0.3, (236, 230, 206))
    return [post]


def poles(rng: Random) -> list[Piece]:
    """Two to four posts that stand so close together that Cityscapes counts them as one group."""
    sketch, steel = Sketch(), _steel(rng)
    for number in range(rng.randint(2, 4)):
        x = 0.32 * number
        sketch.box(x - 0.08, 0, x + 0.08, rng.uniform(2.2, 5.0), shade(steel, rng.uniform(0.8, 1.2)))
    return [Piece(sketch, "polegroup")]


def traffic_light(rng: Random, arm: bool) -> list[Piece]:
    """Three lamps on a post, or on an arm that reaches 4 metres to the left over the road as well."""
    steel, tall = _steel(rng), 5.6 if arm else 3.4
    post, state = _pole(tall, 0.18, steel), rng.randrange(3)
    heads = [_signal(0.0, 2.4, state)]
    if arm:
        post.sketch.line(0, tall - 0.1, -4.2, tall + 0.1, 0.15, steel)
        heads.append(_signal(-4.0, tall - 0.7, state))
    return [post, *heads]


def _signal(x: float, y: float, state: int) -> Piece:
    """Add a head with red, yellow or green lit (`state` 0, 1, 2)."""
    sketch = Sketch()
    sketch.box(x - 0.27, y, x + 0.27, y + 1.15, (30, 32, 32), radius=0.08)
    for number, colour in enumerate([(240, 50, 40), (246, 190, 50), (60, 214, 120)]):
        bright = 1.0 if number == state or (state == 1 and number == 0) else 0.26
        sketch.oval(x, y + 0.93 - 0.35 * number, 0.15, 0.15, shade(colour, bright), solid=False)
    return Piece(sketch, "traffic light")


def sign(rng: Random) -> list[Piece]:
    """A traffic sign on its post: round, three-cornered, square or a direction board; sometimes seen from behind."""
    draw = rng.choice([_round_sign, _round_sign, _warning_sign, _square_sign, _board])
    plate, tall = Sketch(), rng.uniform(2.1, 2.7)
    draw(plate, rng, tall)
    post = _pole(tall + 0.3, 0.09, shade(metal(rng), 0.7))
    if rng.random() < 0.12:  # its back is grey and tells nothing: Cityscapes leaves it out
        back = Sketch()
        back.oval(0, tall, 0.36, 0.36, (120, 122, 126))
        return [post, Piece(back, "static")]
    if rng.random() < 0.3:
        _round_sign(plate, rng, tall - 0.85)
    return [post, Piece(plate, "traffic sign")]


def _round_sign(sketch: Sketch, rng: Random, y: float) -> None:
    if rng.random() < 0.4:
        sketch.oval(0, y, 0.38, 0.38, (44, 84, 170))
        sketch.box(-0.06, y - 0.2, 0.06, y + 0.22, (236, 236, 236), solid=False)
        return
    sketch.oval(0, y, 0.38, 0.38, (204, 40, 40))
    sketch.oval(0, y, 0.27, 0.27, (236, 234, 228), solid=False)
    if rng.random() < 0.4:
        sketch.box(-0.26, y - 0.07, 0.26, y + 0.07, (204, 40, 40), solid=False)
    else:
        sketch.box(-0.12, y - 0.12, 0.12, y + 0.12, (40, 40, 40), solid=False)


def _warning_sign(sketch: Sketch, rng: Random, y: float) -> None:
    flip = rng.choice([-1, 1])  # upside down: give way
    sketch.polygon([(-0.46, y - 0.4 * flip), (0.46, y - 0.4 * flip), (0, y + 0.42 * flip)], (204, 40, 40))
    inside = [(-0.28, y - 0.29 * flip), (0.28, y - 0.29 * flip), (0, y + 0.22 * flip)]
    sketch.polygon(inside, (238, 236, 228), solid=False)


def _square_sign(sketch: Sketch, rng: Random, y: float) -> None:
    colour = rng.choice([(44, 84, 170), (240, 206, 60), (236, 236, 232)])
    if rng.random() < 0.4:  # right of way, on its corner
        sketch.polygon([(0, y - 0.45), (0.45, y), (0, y + 0.45), (-0.45, y)], (238, 236, 230))
        sketch.polygon([(0, y - 0.3), (0.3, y), (0, y + 0.3), (-0.3, y)], (244, 196, 40), solid=False)
        return
    sketch.box(-0.36, y - 0.36, 0.36, y + 0.36, colour)
    sketch.polygon([(-0.2, y - 0.24), (0.2, y - 0.24), (0.05, y + 0.24)], shade((240, 240, 236), 0.95), solid=False)


def _board(sketch: Sketch, rng: Random, y: float) -> None:
    colour, wide = rng.choice([(40, 80, 160), (244, 206, 60), (238, 238, 232)]), rng.uniform(0.7, 1.1)
    sketch.polygon([(-wide, y - 0.24), (wide, y - 0.24), (wide + 0.25, y), (wide, y + 0.24), (-wide, y + 0.24)], colour)
    for row in (-0.08, 0.1):
        sketch.box(-0.8 * wide, y + row - 0.04, rng.uniform(0, 0.8) * wide, y + row + 0.04, (60, 60, 64), solid=False)


def two_wheeler(rng: Random, kind: str) -> list[Piece]:
    """A parked bicycle or motorcycle, from the side."""
    sketch, outline = Sketch(), Sketch()
    sketch.add(bicycle(rng) if kind == "bicycle" else motorbike(rng), scale=_SIZES[kind])
    outline.add(_filled(kind), scale=_SIZES[kind])
    return [Piece(sketch, kind, outline)]


_SIZES = {"bicycle": 0.85, "motorcycle": 0.92}
_SEATS = {"bicycle": (-0.24, 0.92, 0.95), "motorcycle": (-0.33, 0.83, 0.95)}  # x, y, size of the rider


def _filled(kind: str) -> Sketch:
    """The outline of a two-wheeler as annotators draw it: full wheels, and what lies between."""
    sketch, radius, base = Sketch(), *((0.44, 0.6) if kind == "bicycle" else (0.4, 0.75))
    for x in (-base, base):
        sketch.oval(x, radius, radius, radius, DARK)
    if kind == "bicycle":
        sketch.polygon([(-base, radius), (-0.08, 0.3), (base, radius), (0.44, 1.12), (-0.3, 1.1)], DARK)
    else:
        sketch.polygon([(-base, 0.3), (base, 0.3), (0.45, 1.1), (0.1, 1.0), (-0.95, 0.95)], DARK)
    return sketch


def rider_crossing(rng: Random, kind: str) -> list[Piece]:
    """Somebody on a bicycle or a motorcycle, from the side."""
    x, y, size = _SEATS[kind]
    person = Sketch()
    person.add(side_rider(rng), x, y, size)
    if kind == "motorcycle" or rng.random() < 0.3:
        _helmet(person, rng, x + 0.18 * size, y + 0.78 * size)
    return [*two_wheeler(rng, kind), Piece(person, "rider")]


def _helmet(sketch: Sketch, rng: Random, x: float, y: float) -> None:
    sketch.oval(x, y + 0.04, 0.17, 0.16, paint(rng))


def rider_along(rng: Random, kind: str, from_behind: bool) -> list[Piece]:
    """Somebody on a bicycle or a motorcycle that drives away from us or towards us."""
    machine, person, tall = Sketch(), Sketch(), 0.95 if kind == "bicycle" else 0.85
    wide, frame = (0.06, paint(rng, 0.36)) if kind == "bicycle" else (0.14, paint(rng, 0.85))
    machine.box(-wide / 2, 0, wide / 2, 0.68, DARK, radius=0.02)
    if kind == "motorcycle":
        machine.box(-0.22, 0.42, 0.22, 0.9, frame, radius=0.08)
    machine.line(-0.3, tall + 0.12, 0.3, tall + 0.12, 0.05, DARK)
    machine.line(0, 0.6, 0, tall, 0.07, frame)
    machine.oval(0, 0.72, 0.05, 0.05, (214, 40, 40) if from_behind else (250, 246, 220), solid=False)
    _back(person, rng, tall, kind == "motorcycle" or rng.random() < 0.35)
    pieces = [Piece(person, "rider"), Piece(machine, kind)]
    return pieces if from_behind else pieces[::-1]


def _back(sketch: Sketch, rng: Random, seat: float, helmet: bool) -> None:
    """A seated body as seen along the road."""
    top, trousers, hue = paint(rng), rng.choice([(52, 60, 90), (50, 48, 50), paint(rng)]), skin(rng)
    for side in (-1, 1):
        foot = rng.uniform(0.2, 0.5)
        sketch.limb([(side * 0.11, seat, 0.1), (side * 0.17, seat - 0.3, 0.08), (side * 0.14, foot, 0.06)], trousers)
        sketch.limb([(side * 0.2, seat + 0.52, 0.07), (side * 0.3, seat + 0.3, 0.06), (side * 0.28, seat + 0.15, 0.05)],
                    shade(top, 0.9))
    sketch.smooth([(-0.2, seat), (-0.22, seat + 0.55), (0, seat + 0.64), (0.22, seat + 0.55), (0.2, seat)], top,
                  material="cloth")
    sketch.oval(0, seat + 0.78, 0.11, 0.14, hue)
    if helmet:
        _helmet(sketch, rng, 0, seat + 0.8)
    else:
        sketch.oval(0, seat + 0.84, 0.12, 0.11, rng.choice([(50, 36, 30), (120, 84, 50), (30, 28, 28)]))


def bin_(rng: Random) -> list[Piece]:
    """A litter bin, a junction box or a hydrant (static), or rubbish bins that will be gone tomorrow (dynamic)."""
    sketch = Sketch()
    if rng.random() < 0.5:
        sketch.box(-0.3, 0, 0.3, rng.uniform(0.8, 1.3), rng.choice([(120, 124, 120), (84, 100, 84), (212, 120, 50)]))
        return [Piece(sketch, "static")]
    for number in range(rng.randint(1, 3)):
        colour = rng.choice([(50, 60, 66), (64, 84, 60), (150, 110, 50), (60, 80, 130)])
        sketch.box(0.62 * number - 0.27, 0.08, 0.62 * number + 0.27, 1.0, colour, radius=0.05)
        sketch.box(0.62 * number - 0.3, 0.98, 0.62 * number + 0.3, 1.08, shade(colour, 0.7))
    return [Piece(sketch, "dynamic")]


def cone(rng: Random) -> list[Piece]:
    """Traffic cones or a barrier of a building site."""
    sketch = Sketch()
    if rng.random() < 0.5:
        for x in (0, 1.1, 2.2):
            sketch.polygon([(x - 0.22, 0), (x + 0.22, 0), (x + 0.04, 0.75), (x - 0.04, 0.75)], (232, 92, 40))
            sketch.polygon([(x - 0.14, 0.28), (x + 0.14, 0.28), (x + 0.09, 0.46), (x - 0.09, 0.46)], (240, 238, 232))
        return [Piece(sketch, "dynamic")]
    for x in (-0.9, 0.9):
        sketch.box(x - 0.05, 0, x + 0.05, 1.1, (90, 90, 92))
    sketch.box(-1.1, 0.75, 1.1, 1.05, (236, 234, 228))
    for step in range(4):
        sketch.box(-1.1 + 0.56 * step, 0.75, -0.82 + 0.56 * step, 1.05, (204, 44, 40), solid=False)
    return [Piece(sketch, "dynamic")]


def poster_pillar(rng: Random) -> list[Piece]:
    """A round pillar for posters, or a bus shelter's lit poster."""
    sketch, wide = Sketch(), rng.choice([0.6, 0.75])
    sketch.box(-wide, 0, wide, 2.7, (150, 146, 138), radius=0.1)
    for row in (0.5, 1.5):
        sketch.box(-0.85 * wide, row, 0.1 * wide, row + 0.85, paint(rng), solid=False)
        sketch.box(0.15 * wide, row, 0.85 * wide, row + 0.85, paint(rng), solid=False)
    sketch.oval(0, 2.75, 1.15 * wide, 0.14, (84, 96, 90))
    return [Piece(sketch, "static")]


def parasol(rng: Random) -> list[Piece]:
    """A café's sunshade with tables beneath."""
    sketch, cloth = Sketch(), rng.choice([(226, 214, 186), (168, 44, 40), paint(rng)])
    for x in (-0.7, 0.6):
        sketch.oval(x, 0.74, 0.4, 0.06, (150, 130, 110))
        for angle in (-0.4, 0.4):
            sketch.line(x, 0.72, x + 0.7 * sin(angle), 0.1 * cos(pi * angle), 0.05, DARK)
    sketch.line(0, 0, 0, 2.4, 0.07, (210, 206, 196))
    sketch.polygon([(-1.6, 2.05), (1.6, 2.05), (0.1, 2.75), (-0.1, 2.75)], cloth, material="cloth")
    return [Piece(sketch, "dynamic")]
