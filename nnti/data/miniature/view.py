"""What a camera in a car sees: metres on the road → pixels, drawn into a picture and the ids of what is there.

Points are (x, y, z): metres to the right of the road's middle, above the ground, and away from the camera.
"""

from random import Random

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from PIL import Image, ImageDraw

from nnti.data.miniature.paint import Colour, exposed, noise, shade
from nnti.data.miniature.sprites import mask_of, varied

SIZE = (256, 128)  # width, height of the finished pictures
SCALE = 2  # they are drawn so many times larger
MARGIN = 0.06  # of the picture's width: what is farther out counts as not visible
NEAREST, FARTHEST = 1.5, 400  # metres: where the ground begins and ends
PER_KIND = 1000  # instance ids are 1000 · label id + number, as Cityscapes has them
# name → how rough it looks, grey values; 2 for others
ROUGHNESS = {"road": 5, "sidewalk": 4, "wall": 8, "vegetation": 12, "terrain": 10, "sky": 1}

Point = tuple[float, float, float]
Spot = tuple[float, float]  # x and z of a point on the ground


class View:
    """A picture that is being drawn from far to near: what comes later hides what is behind it.

    `image` (RGB) and `ids` (mode I: label ids, or instance ids of what can be counted) are larger than they will be.
    """

    def __init__(self, random: Random):
        self.random = random
        self.width, self.height = (side * SCALE for side in SIZE)
        self.eye = random.uniform(1.5, 2.2)  # metres above the ground
        self.focus = self.width * random.uniform(0.75, 1.0)  # pixels
        self.vanish = self.width * random.uniform(0.36, 0.64), self.height * random.uniform(0.36, 0.5)
        self.image = Image.new("RGB", (self.width, self.height))
        self.ids = Image.new("I", (self.width, self.height), name2label["sky"].id)
        self._pen, self._id_pen = ImageDraw.Draw(self.image), ImageDraw.Draw(self.ids)
        self._instances = 0

    def pixel(self, point: Point) -> tuple[float, float]:
        """Return where a point appears: column and row."""
        x, y, z = point
        return self.vanish[0] + self.focus * x / z, self.vanish[1] + self.focus * (self.eye - y) / z

    def visible_from(self, x: float) -> float:
        """Return how far away something at `x` must be to appear in the picture: metres."""
        room = self.vanish[0] if x < 0 else self.width - self.vanish[0]
        return abs(x) * self.focus / (room - MARGIN * self.width)

    def patch(self, name: str, colour: Colour, *points: Point) -> None:
        """Fill the polygon between some points."""
        corners = [self.pixel(point) for point in points]
        self._pen.polygon(corners, colour)
        self._id_pen.polygon(corners, name2label[name].id)

    def ground(self, name: str, colour: Colour, left: float, right: float, near=NEAREST, far=FARTHEST) -> None:
        """Fill a strip of the ground."""
        self.patch(name, colour, (left, 0, near), (left, 0, far), (right, 0, far), (right, 0, near))

    def wall(self, name: str, colour: Colour, start: Spot, end: Spot, low: float, high: float) -> None:
        """Fill an upright rectangle above the line from one spot of the ground to another."""
        (x0, z0), (x1, z1) = start, end
        self.patch(name, colour, (x0, low, z0), (x0, high, z0), (x1, high, z1), (x1, low, z1))

    def stand(self, name: str, kind: str, at: Point, high: float, mirror: bool = True) -> None:
        """Paste a sprite of some kind that is `high` metres high, with its foot at a point."""
        pixels = max(4, high * self.random.uniform(0.92, 1.12) * self.focus / at[2])
        sprite = varied(self.random, kind, pixels, by_height=True, mirror=mirror)
        column, row = self.pixel(at)
        left, top = round(column - sprite.width / 2), round(row - sprite.height)
        if at[1] == 0:
            shade(self.image, column, row, sprite.width)
        self.image.paste(sprite, (left, top), sprite)
        mask = mask_of(sprite)
        self.ids.paste(self._new_id(name), (left, top), mask)
        if name == "rider":  # the lower part is what he rides
            lower = round(sprite.height * 0.58)
            self.ids.paste(self._new_id("bicycle"), (left, top + lower), mask.crop((0, lower, *sprite.size)))

    def finished(self) -> tuple[Image.Image, np.ndarray, np.ndarray]:
        """Return the picture at its size, RGB, its label ids, uint8 (H, W), and its instance ids, uint16 (H, W)."""
        instances = np.array(self.ids)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].astype(np.uint16)
        for border in (instances[0], instances[-1], instances[:, 0], instances[:, -1]):
            border[:] = name2label["out of roi"].id
        labels = np.where(instances < PER_KIND, instances, instances // PER_KIND).astype(np.uint8)
        rough = np.full(256, 2.0)
        for name, amount in ROUGHNESS.items():
            rough[name2label[name].id] = amount
        rng = np.random.default_rng(self.random.getrandbits(32))
        texture = rough[labels] * (0.5 * noise(rng, SIZE, 1) + 0.8 * noise(rng, SIZE, 3)) + 5 * noise(rng, SIZE, 14)
        return exposed(self.random, self.image.reduce(SCALE), texture), labels, instances

    def _new_id(self, name: str) -> int:
        label = name2label[name]
        self._instances += 1
        return label.id * PER_KIND + self._instances if label.hasInstances else label.id
