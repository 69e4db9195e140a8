"""The places of the miniature: sky, sea, street, meadow, living room, … All of it is background in the labels."""

from nnti.data.miniature import clutter
from nnti.data.miniature.colours import mix, paint, shade, wood
from nnti.data.miniature.sketch import Sketch
from nnti.data.miniature.stage import (
    Stage,
    add_hills,
    add_row,
    add_sketch,
    grass_colour,
    paint_ground,
    paint_sky,
    paint_wall,
    set_horizon,
)

__all__ = ["BACKDROPS", "INDOOR"]

INDOOR = ("living", "kitchen")


def _sky(stage: Stage) -> None:
    width, height = stage.size
    paint_sky(stage)
    stage.horizon = height * stage.rng.uniform(0.86, 1.2)
    kind = stage.rng.choice(["hills", "trees", "city", "nothing"])
    if kind == "hills":
        add_hills(stage, stage.horizon, 0.2 * height, (96, 116, 120), 0.5)
        add_hills(stage, stage.horizon + 10, 0.14 * height, (84, 110, 76), 0.2)
    elif kind == "trees":
        add_row(stage, clutter.tree, stage.horizon + 12, 0.34 * height, 0.13 * width, 0.15)
    elif kind == "city":
        add_row(stage, clutter.tower, stage.horizon + 6, 0.1 * height, 0.1 * width, 0.4)


def _airfield(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.42, 0.6)
    paint_sky(stage)
    add_hills(stage, horizon, 0.08 * height, (96, 116, 110), 0.55)
    add_row(
        stage,
        stage.rng.choice([clutter.tower, clutter.house, clutter.tree]),
        horizon + 2,
        0.07 * height,
        0.12 * width,
        0.35,
        0.7,
    )
    paint_ground(stage, horizon, grass_colour(stage.rng), "grass")
    edge = horizon + 0.3 * (height - horizon)
    paint_ground(stage, edge, (116, 118, 122), "asphalt")
    sketch = Sketch()
    for step in range(7):
        sketch.polygon(
            [(50 * step, 0), (50 * step + 26, 0), (50 * step + 24, 2), (50 * step + 2, 2)], (226, 224, 214), solid=False
        )
    add_sketch(stage, sketch, -stage.rng.uniform(0, 40), edge + 0.55 * (height - edge), 1.0)


def _sea(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.3, 0.5)
    paint_sky(stage)
    if stage.rng.random() < 0.7:
        add_hills(stage, horizon, 0.13 * height, stage.rng.choice([(90, 110, 104), (120, 116, 104)]), 0.5)
    if stage.rng.random() < 0.3:
        add_row(stage, clutter.house, horizon + 1, 0.07 * height, 0.11 * width, 0.25)
    water = mix(stage.rng.choice([(56, 104, 136), (70, 120, 128), (60, 84, 116)]), stage.sky[0], 0.3)
    paint_ground(stage, horizon, water, "water", grain=0.8, haze=0.7)
    if stage.rng.random() < 0.3:
        add_row(stage, clutter.rock, height + 4, 0.4 * height, 0.5 * width, 0.0, 0.6)


def _street(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.36, 0.5)
    paint_sky(stage)
    draw = stage.rng.choice([clutter.house, clutter.house, clutter.tower, clutter.tree])
    if draw is not clutter.tree:
        add_row(stage, clutter.tower, horizon, 0.17 * height, 0.16 * width, 0.55, 0.6)
    gap = {clutter.house: 0.3, clutter.tower: 0.2, clutter.tree: 0.16}[draw]
    add_row(stage, draw, horizon + 4, 0.26 * height if draw is not clutter.tree else 0.4 * height, gap * width, 0.12)
    kerb = horizon + 0.24 * (height - horizon)
    paint_ground(stage, horizon + 3, (168, 162, 154), stage.rng.choice(["tiles", "cobbles", "asphalt"]), haze=0.1)
    paint_ground(stage, kerb, stage.rng.choice([(92, 94, 98), (110, 108, 106), (78, 80, 88)]), "asphalt", haze=0.1)
    sketch = Sketch()
    sketch.box(-5, 0, width + 5, 2.5, (190, 186, 178), solid=False)
    for step in range(8 if stage.rng.random() < 0.7 else 0):
        sketch.polygon(
            [
                (60 * step, -0.5 * (height - kerb)),
                (60 * step + 30, -0.5 * (height - kerb)),
                (60 * step + 33, -0.46 * (height - kerb)),
                (60 * step + 5, -0.46 * (height - kerb)),
            ],
            (224, 220, 206),
            solid=False,
        )
    add_sketch(stage, sketch, 0, kerb, 1.0)
    add_row(
        stage,
        stage.rng.choice([clutter.lamp_post, clutter.tree, clutter.bush]),
        kerb - 1,
        0.38 * height,
        0.4 * width,
        0.0,
        0.6,
    )


def _road(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.34, 0.5)
    paint_sky(stage)
    add_hills(stage, horizon, 0.22 * height, (106, 124, 118), 0.5)
    add_hills(stage, horizon + 2, 0.1 * height, shade(grass_colour(stage.rng), 0.75), 0.25)
    paint_ground(stage, horizon, grass_colour(stage.rng), "grass")
    add_row(stage, clutter.tree, horizon + 5, 0.24 * height, 0.2 * width, 0.2, 0.6)
    near, far = horizon + 0.28 * (height - horizon), height * stage.rng.uniform(0.92, 1.1)
    paint_ground(
        stage,
        near,
        stage.rng.choice([(104, 104, 106), (128, 116, 100)]),
        stage.rng.choice(["asphalt", "gravel"]),
        end=far,
        haze=0.1,
    )
    if stage.rng.random() < 0.5:
        add_row(stage, clutter.fence, near, 0.16 * height, 0.64 * height, 0.1)


def _meadow(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.22, 0.45)
    paint_sky(stage)
    add_hills(stage, horizon, 0.24 * height, (98, 118, 122), 0.55)
    if stage.rng.random() < 0.7:
        add_row(stage, clutter.tree, horizon + 3, 0.28 * height, 0.14 * width, 0.25, 0.7)
    paint_ground(stage, horizon, grass_colour(stage.rng), "grass")
    if stage.rng.random() < 0.45:
        add_row(stage, clutter.fence, horizon + 0.16 * height, 0.17 * height, 0.68 * height, 0.1)
    if stage.rng.random() < 0.3:
        add_sketch(stage, clutter.house(stage.rng), stage.rng.uniform(0, 0.7) * width, horizon + 4, 0.22 * height, 0.25)
    add_row(
        stage,
        stage.rng.choice([clutter.bush, clutter.rock, clutter.tuft]),
        horizon + 0.3 * height,
        0.2 * height,
        0.3 * width,
        0.05,
        0.5,
    )


def _park(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.36, 0.52)
    paint_sky(stage)
    add_row(stage, clutter.tree, horizon + 2, 0.62 * height, 0.12 * width, 0.35)
    add_row(stage, clutter.bush, horizon + 3, 0.4 * height, 0.14 * width, 0.15)
    paint_ground(stage, horizon, grass_colour(stage.rng), "grass", haze=0.15)
    if stage.rng.random() < 0.6:
        near = horizon + stage.rng.uniform(0.15, 0.4) * (height - horizon)
        paint_ground(
            stage,
            near,
            stage.rng.choice([(176, 158, 126), (150, 142, 134)]),
            "gravel",
            end=near + 0.45 * (height - near),
            haze=0.1,
        )
    add_sketch(
        stage, clutter.tree(stage.rng), stage.rng.choice([0.08, 0.9]) * width, horizon + 0.2 * height, 0.9 * height
    )


def _railway(stage: Stage) -> None:
    width, height = stage.size
    horizon = set_horizon(stage, 0.34, 0.48)
    paint_sky(stage)
    add_hills(stage, horizon, 0.18 * height, (100, 118, 112), 0.5)
    draw = stage.rng.choice([clutter.house, clutter.tree, clutter.tree, clutter.tower])
    add_row(stage, draw, horizon + 4, 0.22 * height, 0.22 * width, 0.25, 0.8)
    paint_ground(stage, horizon, grass_colour(stage.rng), "grass")
    paint_ground(stage, horizon + 0.2 * (height - horizon), (134, 124, 114), "gravel", haze=0.1)
    rows = height - horizon
    for share in (0.34, 0.52, 0.72, 0.92):
        y, sketch = horizon + share * rows, Sketch()
        for step in range(int(width / (14 * share)) + 2):
            sketch.polygon(
                [
                    (14 * share * step, 0),
                    (14 * share * step + 5 * share, 0),
                    (14 * share * step + 5 * share, 11 * share),
                    (14 * share * step, 11 * share),
                ],
                (92, 76, 64),
                solid=False,
            )
        for low in (2, 8):
            sketch.box(-5, low * share, width + 5, low * share + 1.8 * share, (170, 166, 164), solid=False)
        add_sketch(stage, sketch, -3, y, 1.0)
    add_row(stage, clutter.lamp_post, horizon + 0.2 * rows, 0.5 * height, 0.5 * width, 0.1, 0.7)


def _living(stage: Stage) -> None:
    width, height = stage.size
    rng, floor = stage.rng, height * stage.rng.uniform(0.52, 0.68)
    stage.sky = ((150, 140, 130), (150, 140, 130))
    paint_wall(
        stage,
        floor,
        mix(paint(rng), (222, 212, 196), rng.uniform(0.45, 0.8)),
        rng.choice([None, None, None, "cloth", "stripes"]),
    )
    paint_ground(
        stage,
        floor,
        rng.choice([wood(rng, 0), (168, 150, 130), (120, 116, 116)]),
        rng.choice(["planks", "planks", "cloth"]),
        haze=0.0,
    )
    sketch = Sketch()
    sketch.box(-5, 0, width + 5, 4, rng.choice([(230, 226, 218), (96, 74, 58)]))
    add_sketch(stage, sketch, 0, floor, 1.0)
    spots = [0.16, 0.5, 0.84]
    rng.shuffle(spots)
    for spot in spots[: rng.randint(1, 3)]:
        x, draw = (
            spot * width,
            rng.choice(
                [clutter.curtained_window, clutter.painting, clutter.painting, clutter.shelf, clutter.floor_lamp]
            ),
        )
        if draw in (clutter.shelf, clutter.floor_lamp):
            add_sketch(stage, draw(rng), x, floor + 4, 0.34 * height)
        else:
            size = 0.42 if draw is clutter.curtained_window else 0.32
            add_sketch(stage, draw(rng), x, 0.5 * height, size * height)
    if rng.random() < 0.6:
        add_sketch(
            stage,
            clutter.rug(rng),
            rng.uniform(0.3, 0.7) * width,
            floor + 0.55 * (height - floor),
            rng.uniform(0.3, 0.5) * width,
        )


def _kitchen(stage: Stage) -> None:
    width, height = stage.size
    rng, floor = stage.rng, height * stage.rng.uniform(0.54, 0.68)
    stage.sky = ((150, 146, 140), (150, 146, 140))
    paint_wall(stage, floor, mix(paint(rng), (226, 222, 212), 0.65), rng.choice(["tiles", "brick", None]))
    paint_ground(
        stage,
        floor,
        rng.choice([(176, 168, 156), (140, 124, 108), (120, 126, 130)]),
        rng.choice(["tiles", "planks"]),
        haze=0.0,
    )
    x = rng.uniform(0.1, 0.9) * width
    add_sketch(stage, clutter.cupboard(rng), x, floor + 3, 0.36 * height)
    other = rng.choice([clutter.curtained_window, clutter.painting])
    add_sketch(stage, other(rng), (x + 0.5 * width) % width, 0.46 * height, 0.36 * height)


def _terrace(stage: Stage) -> None:
    width, height = stage.size
    rng, horizon = stage.rng, set_horizon(stage, 0.34, 0.5)
    paint_sky(stage)
    kind = rng.choice(["hedge", "wall", "house", "fence"])
    if kind == "hedge":
        add_row(stage, clutter.bush, horizon + 4, 0.7 * height, 0.12 * width, 0.1)
    elif kind == "fence":
        add_row(stage, clutter.tree, horizon, 0.6 * height, 0.2 * width, 0.3)
        add_row(stage, clutter.fence, horizon + 4, 0.34 * height, 1.36 * height, 0.05)
    else:
        paint_wall(
            stage,
            horizon + 0.22 * height,
            mix(paint(rng), (186, 150, 128), 0.6),
            "brick" if kind == "wall" else "plain",
        )
        for spot in (0.25, 0.75) if kind == "house" else ():
            add_sketch(stage, clutter.curtained_window(rng), spot * width, 0.34 * height, 0.36 * height)
        stage.horizon = horizon - 0.15 * height
    paint_ground(
        stage,
        horizon + 3,
        rng.choice([(176, 164, 148), (150, 146, 144), wood(rng, 0)]),
        rng.choice(["tiles", "cobbles", "planks"]),
        haze=0.05,
    )
    add_row(stage, clutter.bush, horizon + 6, 0.24 * height, 0.4 * width, 0.0, 0.5)


BACKDROPS = {
    "sky": _sky,
    "airfield": _airfield,
    "sea": _sea,
    "street": _street,
    "road": _road,
    "meadow": _meadow,
    "park": _park,
    "railway": _railway,
    "living": _living,
    "kitchen": _kitchen,
    "terrace": _terrace,
}
