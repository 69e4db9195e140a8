"""Drawings of the small animals: bird, cat, dog. Each function returns a new, random sketch."""
# Outlines are written as rows of points.
# fmt: off

from random import Random

from nnti.data.miniature.colours import coat, mix, paint, shade
from nnti.data.miniature.objects_grazers import Build, add_eye, add_legs, add_patches, add_trunk
from nnti.data.miniature.sketch import Colour, Sketch

__all__ = ["bird", "cat", "dog", "flying_bird"]


def dog(rng: Random) -> Sketch:
    """Long muzzle with a black nose, hanging or pointed ears, raised tail; standing or sitting."""
    sketch, colour = Sketch(), coat(rng, (222, 184, 120), (206, 164, 96))
    mark = rng.choice([(236, 226, 208), shade(colour, 0.5), shade(colour, 1.25)])
    if rng.random() < 0.35:
        sketch.limb([(-0.45, 0.12, 0.07), (-0.75, 0.2, 0.06), (-0.9, 0.45, 0.03)], colour, material="fur")
        sketch.oval(-0.28, 0.36, 0.36, 0.36, colour, material="fur")
        sketch.limb([(-0.2, 0.45, 0.34), (0.12, 1.0, 0.25)], colour, material="fur")
        sketch.oval(0.2, 0.75, 0.13, 0.26, mark, material="fur", clip=True)
        for x in (0.1, 0.22):
            sketch.limb(
                [(x, 0.7, 0.12), (x + 0.06, 0.12, 0.075), (x + 0.16, 0.06, 0.065)], shade(colour, 0.8 + x),
                material="fur",
            )
        sketch.limb([(-0.3, 0.25, 0.2), (0.0, 0.08, 0.08)], colour, material="fur")
        _dog_head(sketch, rng, (0.24, 1.4), colour, mark)
        return sketch
    build = Build(rng.uniform(0.42, 0.62), rng.uniform(0.24, 0.3), rng.uniform(0.19, 0.24), 0.13, 0.07)
    r = build.reach
    add_legs(sketch, rng, build, colour, shade(colour, 0.8), near=False)
    curl = rng.uniform(0.1, 0.4)
    sketch.limb(
        [(-r - 0.1, 1.08, 0.09), (-r - 0.35, 1.2 + curl, 0.06), (-r - 0.35 + curl, 1.4 + curl, 0.03)], colour,
        material="fur",
    )
    add_trunk(sketch, build, colour)
    if rng.random() < 0.6:
        add_patches(sketch, rng, rng.choice([3, 14]), mark, (0.6, 0.2), rng.uniform(0.06, 0.16))
    sketch.limb([(r, 1.12, 0.22), (r + 0.28, 1.38, 0.17)], colour, material="fur")
    if rng.random() < 0.4:
        sketch.line(r + 0.06, 1.36, r + 0.34, 1.14, 0.08, paint(rng))
    _dog_head(sketch, rng, (r + 0.38, 1.5), colour, mark)
    add_legs(sketch, rng, build, colour, shade(colour, 0.8), near=True)
    return sketch


def _dog_head(sketch: Sketch, rng: Random, at: tuple[float, float], colour: Colour, mark: Colour) -> None:
    x, y = at
    muzzle = rng.uniform(0.26, 0.42)
    pointed = rng.random() < 0.4
    if pointed:
        sketch.polygon(
            [(x - 0.2, y + 0.1), (x - 0.16, y + 0.46), (x + 0.02, y + 0.18)], shade(colour, 0.72), material="fur"
        )
    sketch.limb([(x + 0.08, y - 0.06, 0.15), (x + muzzle, y - 0.12, 0.1)], mix(colour, mark, 0.4), material="fur")
    sketch.oval(x, y, 0.24, 0.23, colour, material="fur")
    if rng.random() < 0.3:
        sketch.polygon([(x + 0.1, y - 0.17), (x + 0.26, y - 0.15), (x + 0.22, y - 0.32)], (222, 110, 116))
    sketch.oval(x + muzzle + 0.07, y - 0.06, 0.055, 0.05, (26, 22, 24))
    add_eye(sketch, x + 0.12, y + 0.06, 0.032)
    if pointed:
        sketch.polygon(
            [(x - 0.12, y + 0.14), (x - 0.02, y + 0.5), (x + 0.1, y + 0.18)], shade(colour, 0.85), material="fur"
        )
    else:
        sketch.smooth(
            [(x - 0.14, y + 0.2), (x, y + 0.12), (x + 0.02, y - 0.12), (x - 0.08, y - 0.26), (x - 0.19, y - 0.05)],
            shade(colour, 0.66), material="fur",
        )


def cat(rng: Random) -> Sketch:
    """Round face with pointed ears and whiskers, long curved tail, often striped; sitting, walking or lying."""
    sketch, colour = Sketch(), coat(rng, (226, 124, 48), (206, 104, 40))
    pale = rng.choice([(238, 230, 216), shade(colour, 1.2), colour])
    stripe = shade(colour, 0.58) if rng.random() < 0.6 else None
    rng.choice([_cat_sitting, _cat_walking, _cat_lying])(sketch, rng, colour, pale, stripe)
    return sketch


def _cat_sitting(sketch: Sketch, rng: Random, colour: Colour, pale: Colour, stripe: Colour | None) -> None:
    sketch.limb(
        [(-0.25, 0.1, 0.08), (-0.6, 0.1, 0.075), (-0.72, 0.3, 0.06), (-0.62, 0.5, 0.05)], shade(colour, 0.85),
        material="fur",
    )
    sketch.smooth(
        [(-0.4, 0.05), (-0.44, 0.4), (-0.22, 0.95), (0.22, 0.95), (0.44, 0.4), (0.4, 0.05)], colour, material="fur"
    )
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
    build = Build(rng.uniform(0.5, 0.62), 0.22, 0.23, 0.1, 0.065)
    r, lift = build.reach, rng.uniform(0.1, 0.5)
    add_legs(sketch, rng, build, colour, pale, near=False)
    sketch.limb(
        [
            (-r - 0.1, 1.05, 0.085), (-r - 0.4, 1.1, 0.075), (-r - 0.62, 1.3 + 0.5 * lift, 0.065),
            (-r - 0.55, 1.4 + lift, 0.05),
        ],
        colour,
        material="fur",
    )
    add_trunk(sketch, build, colour)
    for step in range(7) if stripe else ():
        x = -r - 0.05 + step * (2 * r) / 6
        sketch.line(x, 1.3, x + 0.05, 0.98, 0.07, stripe, clip=True)
    add_legs(sketch, rng, build, colour, pale, near=True)
    _cat_head(sketch, rng, (r + 0.26, 1.32), colour, pale, stripe)


def _cat_lying(sketch: Sketch, rng: Random, colour: Colour, pale: Colour, stripe: Colour | None) -> None:
    sketch.limb(
        [(-0.7, 0.14, 0.09), (-1.0, 0.1, 0.08), (-1.15, 0.24, 0.07), (-1.0, 0.36, 0.05)], shade(colour, 0.85),
        material="fur",
    )
    sketch.smooth(
        [(-0.85, 0.04), (-0.88, 0.36), (-0.5, 0.62), (0.1, 0.56), (0.5, 0.6), (0.66, 0.3), (0.55, 0.03)], colour,
        material="fur",
    )
    for step in range(6) if stripe else ():
        sketch.line(-0.7 + 0.2 * step, 0.62, -0.62 + 0.2 * step, 0.3, 0.07, stripe, clip=True)
    sketch.oval(-0.5, 0.24, 0.3, 0.24, shade(colour, 1.03), material="fur")
    for y in (0.08, 0.12):
        sketch.limb([(0.4, y + 0.06, 0.1), (0.85 - y, y, 0.075)], mix(colour, pale, 0.6), material="fur")
    _cat_head(sketch, rng, (0.5, 0.72), colour, pale, stripe)


def _cat_head(
    sketch: Sketch, rng: Random, at: tuple[float, float], colour: Colour, pale: Colour, stripe: Colour | None
) -> None:
    x, y = at
    for side in (-1, 1):
        sketch.polygon(
            [(x + side * 0.27, y + 0.08), (x + side * 0.26, y + 0.42), (x + side * 0.05, y + 0.22)], colour,
            material="fur",
        )
        sketch.polygon(
            [(x + side * 0.24, y + 0.14), (x + side * 0.235, y + 0.34), (x + side * 0.12, y + 0.22)], (206, 150, 142),
            solid=False,
        )
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
    """A beak, a small round head and feathers; perched on thin legs."""
    sketch = Sketch()
    _bird_perched(sketch, rng, *_plumage(rng))
    return sketch


def flying_bird(rng: Random) -> Sketch:
    """The bird with spread wings and no legs."""
    sketch = Sketch()
    _bird_flying(sketch, rng, *_plumage(rng))
    return sketch


def _plumage(rng: Random) -> tuple[Colour, Colour, Colour, Colour]:
    """Return the colours of body, belly, wings and beak."""
    body = paint(rng, 0.55)
    belly = rng.choice([(236, 230, 214), shade(body, 1.3), mix(body, (220, 140, 70), 0.6)])
    return body, belly, shade(body, rng.uniform(0.5, 0.8)), rng.choice([(232, 168, 52), (60, 52, 50), (214, 110, 60)])


def _bird_perched(sketch: Sketch, rng: Random, body: Colour, belly: Colour, wing: Colour, beak: Colour) -> None:
    long = rng.uniform(0.0, 1.0)  # from a songbird to a wader
    leg, neck = 0.2 + 0.6 * long, 0.1 + 0.5 * long
    for x in (-0.05, 0.1):
        sketch.limb([(x, leg + 0.2, 0.03), (x - 0.02, 0.03, 0.022), (x + 0.1, 0.02, 0.02)], beak)
    sketch.polygon(
        [(-0.3, leg + 0.42), (-0.86, leg + 0.1), (-0.8, leg - 0.02), (-0.2, leg + 0.2)], shade(wing, 0.8),
        material="leaf",
    )
    sketch.smooth(
        [
            (-0.5, leg + 0.3), (-0.15, leg + 0.56), (0.25, leg + 0.62), (0.42, leg + 0.4), (0.2, leg + 0.1),
            (-0.2, leg + 0.06),
        ],
        body,
        material="leaf",
    )
    sketch.oval(0.2, leg + 0.2, 0.3, 0.2, belly, tilt=0.5, clip=True)
    head = (0.36 + 0.1 * long, leg + 0.6 + neck)
    sketch.limb([(0.22, leg + 0.5, 0.2 - 0.06 * long), (*head, 0.15 - 0.04 * long)], body, material="leaf")
    sketch.polygon(
        [
            (head[0] + 0.1, head[1] + 0.07), (head[0] + 0.34 + 0.22 * long, head[1] - 0.02),
            (head[0] + 0.1, head[1] - 0.08),
        ],
        beak,
    )
    sketch.oval(*head, 0.18 - 0.03 * long, 0.17 - 0.03 * long, body, material="leaf")
    add_eye(sketch, head[0] + 0.06, head[1] + 0.03, 0.034)
    sketch.smooth(
        [(0.2, leg + 0.5), (0.1, leg + 0.24), (-0.3, leg + 0.14), (-0.7, leg + 0.16), (-0.3, leg + 0.48)], wing,
        material="leaf",
    )
    for step in range(3):
        sketch.line(
            0.0 - 0.1 * step, leg + 0.42 - 0.08 * step, -0.5, leg + 0.26 - 0.04 * step, 0.02, shade(wing, 0.7),
            solid=False,
        )


def _bird_flying(sketch: Sketch, rng: Random, body: Colour, belly: Colour, wing: Colour, beak: Colour) -> None:
    lift = rng.uniform(0.35, 1.0)
    _wing(sketch, (0.15, 0.1), (0.25, 0.8 * lift), (-0.75, 1.05 * lift), shade(wing, 0.75))
    sketch.polygon(
        [(-0.4, 0.06), (-0.95, 0.14), (-0.98, 0.0), (-0.92, -0.13), (-0.4, -0.06)], shade(wing, 0.9), material="leaf"
    )
    sketch.smooth(
        [(-0.55, 0.0), (0.0, 0.15), (0.45, 0.14), (0.62, 0.04), (0.4, -0.1), (0.0, -0.16)], body, material="leaf"
    )
    sketch.oval(0.1, -0.1, 0.42, 0.1, belly, clip=True)
    sketch.polygon([(0.72, 0.15), (0.97, 0.06), (0.72, 0.02)], beak)
    sketch.oval(0.62, 0.1, 0.15, 0.13, body, material="leaf")
    add_eye(sketch, 0.67, 0.13, 0.03)
    _wing(sketch, (0.28, 0.05), (0.15, 0.75 * lift), (-0.5, 1.25 * lift), wing)


def _wing(
    sketch: Sketch, root: tuple[float, float], elbow: tuple[float, float], tip: tuple[float, float], colour: Colour
) -> None:
    for step in range(6):
        share = step / 5
        x, y = elbow[0] + (tip[0] - elbow[0]) * share, elbow[1] + (tip[1] - elbow[1]) * share
        back = (root[0] - 0.45 * (1 - 0.3 * share), root[1] + 0.35 * share * tip[1])
        sketch.limb(
            [(*back, 0.09), (x - 0.1 * share, y, 0.06)], shade(colour, 0.86 + 0.05 * (step % 2)), material="leaf"
        )
    sketch.polygon([root, elbow, (elbow[0] - 0.25, elbow[1] + 0.02), (root[0] - 0.5, root[1])], colour, material="leaf")
