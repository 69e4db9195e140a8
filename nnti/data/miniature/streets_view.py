"""The camera of the miniature Cityscapes, and the street under construction: picture, labels, instances.

World points are (across, up, ahead) in metres: to the right of the car's middle, above the ground, along the road.
In a bend the whole world is bent with the road, so that everything else can be described as if it were straight.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp
from random import Random

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from PIL import Image, ImageDraw, ImageFilter

from nnti.data.miniature.render import Light, Pose, paste, stamp
from nnti.data.miniature.sketch import Colour, Sketch, arc
from nnti.data.miniature.stage import Stage
from nnti.data.miniature.textures import TILE

__all__ = ["NEAR", "Camera", "Footprint", "Panel", "Street", "View", "Weather"]

SMALL = 2.0  # pixels: what is smaller is not drawn
NEAR = 1.5  # metres: what is nearer to the camera is drawn as if it were this far away
Window = tuple[slice, slice]  # rows and columns
_WHOLE = (slice(None), slice(None))
_AS_IT_IS = Pose(0, 0, 1)
_THIN = {"pole": 0.3, "polegroup": 0.3}  # how much of a pixel must be covered to be labelled, if not half of it


@dataclass(frozen=True)
class Camera:
    """A pinhole `eye` metres above the road: its picture's (width, height), focal length, horizon and centre in pixels.

    `bend` is how far the road turns to the right, in metres per squared metre ahead.
    """

    size: tuple[int, int]
    focal: float
    horizon: float
    centre: float
    eye: float
    bend: float

    def project(self, points: Iterable[tuple[float, float, float]]) -> list[tuple[float, float]]:
        """Map world points to sketch coordinates: column, and row with its sign changed."""
        flat = []
        for across, up, ahead in points:
            ahead = max(ahead, NEAR)
            column = self.centre + self.focal * (across / ahead + self.bend * ahead)
            flat.append((column, -self.horizon - self.focal * (self.eye - up) / ahead))
        return flat

    def ground(self, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map pixels below the horizon to the ground: (across, ahead) in metres, both (rows, columns)."""
        ahead = (self.focal * self.eye / (rows - self.horizon))[:, None]
        return ahead * ((columns[None] - self.centre) / self.focal - self.bend * ahead), ahead + 0 * columns[None]

    def sees(self, across: float, ahead: float, size: float) -> bool:
        """Tell whether something `size` metres large could be seen there: in the picture, and not too small."""
        ((column, _),), extent = self.project([(across, 0.0, ahead)]), size * self.metre(ahead)
        return extent > SMALL and -extent < column < self.size[0] + extent

    def metre(self, ahead: float) -> float:
        """Return how many pixels a metre has at a distance."""
        return self.focal / max(ahead, NEAR)


@dataclass(frozen=True)
class Weather:
    """A kind of light: the sky's colours (zenith, horizon), shading and shadows, how far one sees, what shines."""

    sky: tuple[Colour, Colour]
    clouds: tuple[float, float]  # as `paint_sky` takes them, a range
    contrast: float
    shadow: float
    tint: tuple[float, float, float]
    gain: float
    reach: float  # metres of shadow per metre of height
    sight: float  # metres after which things have lost two thirds of their contrast
    dark: bool = False  # windows and lamps are lit
    wet: bool = False


@dataclass(frozen=True)
class View:
    """What a drawing has to know: the camera, the weather, and where the sun is, from -1 (left) to 1 (right)."""

    camera: Camera
    weather: Weather
    sun: float

    def tone(self, across: float, up: float, ahead: float) -> float:
        """Return the brightness of a face with that outward normal."""
        return 0.84 + self.weather.contrast * (0.16 * self.sun * across + 0.16 * max(up, 0) - 0.06 * ahead)


@dataclass(frozen=True)
class Footprint:
    """What throws a shadow: a convex outline on the ground, (across, ahead) in metres, and its height in metres."""

    outline: tuple[tuple[float, float], ...]
    tall: float

    @classmethod
    def box(cls, across: float, ahead: float, wide: float, long: float, tall: float) -> "Footprint":
        """Return the footprint of a box centred at a place."""
        left, right, near, far = across - wide / 2, across + wide / 2, ahead - long / 2, ahead + long / 2
        return cls(((left, near), (right, near), (right, far), (left, far)), tall)


class Panel:
    """A flat, upright patch of the world: (u, v) in metres, u from its origin along `along` (across, ahead), v up."""

    def __init__(self, sketch: Sketch, camera: Camera, origin: tuple[float, float], along: tuple[float, float]):
        self.sketch, self.camera, self.origin, self.along = sketch, camera, origin, along

    def at(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        """Map (u, v) points to sketch coordinates."""
        (across, ahead), (right, forward) = self.origin, self.along
        return self.camera.project((across + u * right, v, ahead + u * forward) for u, v in points)

    def polygon(self, points: Iterable[tuple[float, float]], colour: Colour, **style) -> None:
        """Add a flat polygon."""
        self.sketch.polygon(self.at(points), colour, **{"solid": False, **style})

    def box(self, u0: float, v0: float, u1: float, v1: float, colour: Colour, **style) -> None:
        """Add a flat rectangle."""
        self.polygon([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], colour, **style)

    def oval(self, u: float, v: float, ru: float, rv: float, colour: Colour, **style) -> None:
        """Add a flat ellipse."""
        self.polygon(arc(u, v, ru, rv, 16), colour, **style)


@dataclass
class Street:
    """A picture under construction with its label ids (uint8) and instance ids (uint16), all (H, W)."""

    view: View
    rng: Random
    stage: Stage = field(init=False)
    label: np.ndarray = field(init=False)
    instance: np.ndarray = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        camera, weather = self.view.camera, self.view.weather
        width, height = camera.size
        light = Light(self.view.sun, weather.contrast, weather.shadow, weather.tint, weather.gain)
        picture = np.zeros((height, width, 3), np.float32)
        self.stage = Stage(picture, light, weather.sky, camera.horizon, self.rng)
        self.label = np.full((height, width), name2label["sky"].id, np.uint8)
        self.instance = self.label.astype(np.uint16)

    def haze(self, ahead: np.ndarray | float) -> np.ndarray | float:
        """Return how much of the horizon's colour covers things at a distance, in [0, 1]."""
        exponent = np.exp if isinstance(ahead, np.ndarray) else exp
        return 1 - exponent(-ahead / self.view.weather.sight)

    def put(
        self,
        sketch: Sketch,
        name: str,
        ahead: float,
        pose: Pose = _AS_IT_IS,
        outline: Sketch | None = None,
        group: bool = False,
    ) -> None:
        """Draw a sketch and label it `name`, a name of the Cityscapes table.

        `outline` is what is labelled where it differs from what is drawn: a fence with its gaps, a wheel with its
        spokes. A `group` is labelled without instances.
        """
        size, light, shift = self.view.camera.size, self.stage.light, self.rng.randrange(TILE)
        mark = stamp(sketch, pose, size, light, shift)
        if mark is None:
            return
        mark.colour[:] += self.haze(ahead) * (np.float32(self.stage.sky[1]) * mark.cover[..., None] - mark.colour)
        paste(self.stage.picture, mark)
        shape = mark if outline is None else stamp(outline, pose, size, light)
        if shape is not None:
            self.mark(shape.cover > _THIN.get(name, 0.5), name, shape.window, group)

    def mark(self, where: np.ndarray, name: str, window: Window = _WHOLE, group: bool = False) -> None:
        """Label the pixels `where`, a mask of the `window`; a countable thing gets the next instance number."""
        kind = name2label[name]
        number = kind.id
        if kind.hasInstances and not group:
            number = 1000 * kind.id + self.counts.get(name, 0)
            self.counts[name] = self.counts.get(name, 0) + 1
        self.label[window][where] = kind.id
        self.instance[window][where] = number

    def stand(
        self,
        sketch: Sketch,
        name: str,
        across: float,
        ahead: float,
        metres: float = 1.0,
        flip: bool = False,
        outline: Sketch | None = None,
        group: bool = False,
    ) -> None:
        """Draw an upright sketch that faces the camera; `metres` is the size of its unit."""
        camera = self.view.camera
        ((column, row),) = camera.project([(across, 0.0, ahead)])
        pose = Pose(column, -row, metres * camera.metre(ahead), flip)
        self.put(sketch, name, ahead, pose, outline, group)

    def cast_shadows(self, footprints: Iterable[Footprint]) -> None:
        """Darken the ground where the footprints' bodies keep the sun off, and a little under each body."""
        width, height = self.view.camera.size
        sunny, ambient = (Image.new("L", (2 * width, 2 * height)) for _ in range(2))
        on_sunny, on_ambient = ImageDraw.Draw(sunny), ImageDraw.Draw(ambient)
        for footprint in footprints:
            self._fill(on_ambient, footprint.outline)
            reach = self.view.weather.reach * footprint.tall
            tips = [(across - self.view.sun * reach, ahead + 0.35 * reach) for across, ahead in footprint.outline]
            for start, tip in enumerate(tips):
                self._fill(on_sunny, [footprint.outline[start - 1], footprint.outline[start], tip, tips[start - 1]])
        dark = self.view.weather.shadow * _soft(sunny, 1.5) + 0.45 * _soft(ambient, 2.5)
        self.stage.picture *= 1 - np.minimum(dark, 0.75)[..., None]

    def _fill(self, mask: ImageDraw.ImageDraw, corners: Iterable[tuple[float, float]]) -> None:
        points = self.view.camera.project((across, 0.0, ahead) for across, ahead in corners)
        mask.polygon([(2 * column, -2 * row) for column, row in points], fill=255)


def _soft(mask: Image.Image, radius: float) -> np.ndarray:
    return np.asarray(mask.filter(ImageFilter.BoxBlur(radius)).reduce(2), np.float32) / 255
