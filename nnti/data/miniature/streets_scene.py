"""One picture of the miniature Cityscapes: weather, camera, a street, and the car that the camera is in."""

from random import Random

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

from nnti.data.miniature import clutter
from nnti.data.miniature import streets_houses as houses
from nnti.data.miniature.colours import leaf, metal, paint
from nnti.data.miniature.scene import photograph
from nnti.data.miniature.sketch import Sketch
from nnti.data.miniature.stage import paint_sky
from nnti.data.miniature.streets_cast import Cast
from nnti.data.miniature.streets_ground import paint_street
from nnti.data.miniature.streets_layout import lay_out
from nnti.data.miniature.streets_life import FEATURES, fill_street
from nnti.data.miniature.streets_view import Camera, Street, View, Weather

__all__ = ["FEATURES", "SIZE", "render_street"]

SIZE = (256, 128)
VISIBLE = 30  # the least number of pixels that the picture's feature must cover
ATTEMPTS = 6
_BACKDROP = 160.0  # metres

_WEATHERS = [
    Weather(((70, 130, 204), (190, 216, 236)), (-0.5, 0.2), 1.15, 0.5, (1.02, 1.0, 0.97), 1.02, 0.6, 420),  # noon
    Weather(((96, 152, 214), (214, 228, 232)), (-0.3, 0.4), 1.05, 0.42, (1.01, 1.0, 0.98), 1.0, 0.9, 420),  # fair
    Weather(((128, 162, 196), (250, 228, 194)), (-0.3, 0.3), 1.1, 0.42, (1.05, 0.99, 0.9), 0.98, 1.8, 260),  # morning
    Weather(((150, 162, 176), (208, 212, 212)), (0.1, 0.6), 0.6, 0.06, (0.98, 1.0, 1.02), 0.95, 0.3, 340),  # overcast
    Weather(((178, 188, 196), (222, 224, 222)), (0.1, 0.6), 0.6, 0.06, (0.98, 1.0, 1.0), 0.97, 0.3, 340),  # overcast
    Weather(
        ((74, 84, 134), (242, 178, 126)), (-0.4, 0.2), 1.0, 0.2, (1.04, 0.95, 0.88), 0.84, 2.2, 300, dark=True
    ),  # dusk
    Weather(
        ((140, 148, 156), (186, 190, 192)), (0.3, 0.6), 0.5, 0.04, (0.95, 1.0, 1.03), 0.9, 0.2, 95, wet=True
    ),  # rain
]


def render_street(feature: str, seed: str) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """Return the RGB image, the label ids (uint8) and the instance ids (uint16), both (H, W), of a street.

    `feature`, one of `FEATURES`, is a kind of thing that is surely visible.
    """
    wanted = name2label[feature].id
    for attempt in range(ATTEMPTS):
        rng = Random(f"street-{seed}-{attempt}")
        street = _build(rng, feature)
        if (street.label == wanted).sum() >= VISIBLE:
            break
    return photograph(street.stage, rng), street.label, street.instance


def _build(rng: Random, feature: str) -> Street:
    view = View(_camera(rng), rng.choice(_WEATHERS), rng.choice([-1, 1]) * rng.uniform(0.35, 0.9))
    street = Street(view, rng)
    layout = lay_out(rng, feature)
    cast = Cast(view, layout, rng)
    fill_street(cast, feature)
    _close(cast)
    paint_sky(street.stage, rng.uniform(*view.weather.clouds))
    _backdrop(street)
    paint_street(street, layout.ground)
    street.cast_shadows(cast.footprints)
    cast.play(street)
    _hood(street)
    _frame(street)
    return street


def _camera(rng: Random) -> Camera:
    width, height = SIZE
    bend = rng.choice([0.0, rng.uniform(-0.0012, 0.0012), rng.uniform(-0.003, 0.003)])
    horizon, centre = height * rng.uniform(0.38, 0.5), width * rng.uniform(0.38, 0.62)
    return Camera(SIZE, rng.uniform(150, 215), horizon, centre, rng.uniform(1.2, 1.7), bend)


def _close(cast: Cast) -> None:
    """Let the street end at a house or at trees, or run on."""
    rng, ahead = cast.rng, cast.rng.uniform(60, 125)
    kind = rng.choice(["house", "trees", "nothing"])
    if kind == "house":
        left = cast.layout.left.front - 4
        for step in range(3):
            wide = (cast.layout.right.front + 4 - left) / (3 - step)
            sketch = houses.front(cast.view, rng, left, left + wide, ahead, rng.uniform(9, 17))
            cast.add(ahead, lambda street, sketch=sketch: street.put(sketch, "building", ahead))
            left += wide
    elif kind == "trees":
        places = [rng.uniform(cast.layout.left.front, cast.layout.right.front) for _ in range(9)]
        cast.grow((clutter.tree, across, ahead + rng.uniform(-3, 3), rng.uniform(7, 12)) for across in places)


def _backdrop(street: Street) -> None:
    """Add the far skyline: hills, and before them trees or the roofs of a town."""
    rng, camera = street.rng, street.view.camera
    width, base = camera.size[0], -camera.horizon - 1
    ridge, skyline = Sketch(), Sketch()
    points = [(width * step / 8 - 16, base + rng.uniform(2, 10)) for step in range(10)]
    ridge.smooth([(-60, base - 12), *points, (width + 60, base - 12)], leaf(rng), material="foliage", solid=False)
    street.put(ridge, "vegetation", _BACKDROP)
    kind = rng.choice([clutter.tower, clutter.house, clutter.tree, clutter.tree])
    variants, unit, column = [kind(rng) for _ in range(3)], 10 * camera.metre(_BACKDROP), -20.0
    while column < width + 20:
        skyline.add(rng.choice(variants), column, base, unit * rng.uniform(0.7, 1.2))
        column += unit * rng.uniform(0.7, 1.8)
    street.put(skyline, "vegetation" if kind is clutter.tree else "building", _BACKDROP)


def _hood(street: Street) -> None:
    """Add the hood of the car that carries the camera."""
    rng, (width, height) = street.rng, street.view.camera.size
    tall, middle = rng.uniform(7, 12), street.view.camera.centre
    sketch, colour = Sketch(), rng.choice([metal(rng), (52, 54, 60), paint(rng)])
    shape = [(x, -height + tall * (1 - ((x - middle) / (0.66 * width)) ** 2)) for x in range(-20, width + 21, 12)]
    sketch.polygon([(-20, -height - 20), (width + 20, -height - 20), *shape[::-1]], colour, material="metal")
    sketch.polygon([*shape, *[(x, y - 2.0) for x, y in shape[::-1]]], metal(rng), solid=False)
    street.put(sketch, "ego vehicle", 0)


def _frame(street: Street) -> None:
    """Mark the outermost pixels, which rectification leaves undefined in real pictures."""
    edge = np.ones(street.label.shape, bool)
    edge[1:-1, 1:-1] = False
    street.mark(edge, "out of roi")
