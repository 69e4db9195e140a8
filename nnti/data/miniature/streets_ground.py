"""The ground of the miniature Cityscapes: road, pavement, tracks and grass as bands along the road, with markings."""

from dataclasses import dataclass, field

import numpy as np

from nnti.data.miniature.sketch import Colour
from nnti.data.miniature.streets_view import Street
from nnti.data.miniature.textures import TILE, tile

__all__ = ["Band", "Ground", "Line", "Zebra", "paint_street", "rails"]

OVERSAMPLING = 2
_WHITE = (222, 222, 216)
_STEEL = (150, 148, 150)
_KERB = (176, 172, 166)
_GRAIN = {"asphalt": 26, "gravel": 30, "tiles": 34, "cobbles": 40, "grass": 22}  # texture pixels per metre


@dataclass(frozen=True)
class Band:
    """A strip of the ground: it ends at `end` metres (to the right), is labelled `name` and looks like `material`."""

    end: float
    name: str
    colour: Colour
    material: str


@dataclass(frozen=True)
class Line:
    """Paint or steel along the road, `wide` metres around `across`; broken if `period` (metres) is not 0."""

    across: float
    wide: float = 0.14
    period: float = 0.0
    colour: Colour = _WHITE


@dataclass(frozen=True)
class Zebra:
    """Paint across the road between two distances: stripes for those who walk, or a solid line to stop at."""

    near: float
    far: float
    left: float
    right: float
    striped: bool = True


@dataclass
class Ground:
    """All of the ground: bands from left to right, and at some distances a side street instead of them.

    `sides` holds (near, far, left, right) in metres: there the ground beyond `left` or `right` is road; None keeps
    that side as it is.
    """

    bands: list[Band]
    lines: list[Line] = field(default_factory=list)
    zebras: list[Zebra] = field(default_factory=list)
    sides: list[tuple[float, float, float | None, float | None]] = field(default_factory=list)

    def index(self, across: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """Return the number of the band at each place."""
        road = next(number for number, band in enumerate(self.bands) if band.name == "road")
        index = np.searchsorted([band.end for band in self.bands[:-1]], across)
        for near, far, left, right in self.sides:
            there = (ahead > near) & (ahead < far)
            index[there & (False if left is None else across < left)] = road
            index[there & (False if right is None else across > right)] = road
        return index


def paint_street(street: Street, ground: Ground) -> None:
    """Paint and label the ground, all that is below the horizon."""
    camera = street.view.camera
    width, height = camera.size
    first = int(camera.horizon) + 2  # nearer to the horizon, a pixel is longer than any street
    fine = OVERSAMPLING * np.array([[width], [height - first]])
    columns, rows = ((np.arange(count[0]) + 0.5) / OVERSAMPLING for count in fine)
    across, ahead = camera.ground(columns, rows + first)
    colour = _colours(street, ground, across, ahead)
    colour = colour.reshape(height - first, OVERSAMPLING, width, OVERSAMPLING, 3).mean((1, 3))
    street.stage.picture[first:] = colour
    _label(street, ground, first)
    street.stage.picture[first - 3 : first] = colour[:1]
    street.label[first - 3 : first], street.instance[first - 3 : first] = street.label[first], street.instance[first]


def _colours(street: Street, ground: Ground, across: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    index = ground.index(across, ahead)
    colour = np.array([band.colour for band in ground.bands], np.float32)[index]
    near = np.minimum(1, 9 / ahead)  # far away, texture blurs
    shift = street.rng.randrange(TILE)
    for number, band in enumerate(ground.bands):
        grain, there = _GRAIN[band.material], index == number
        row, column = ahead[there] * 0.5 * grain, across[there] * grain
        texture = tile(band.material)[row.astype(int) % TILE, (column.astype(int) + shift) % TILE]
        patches = tile("cloud")[(row / 9).astype(int) % TILE, (column / 4).astype(int) % TILE]
        colour[there] *= (1 + near[there] * texture + 0.05 * patches)[:, None]
    _kerbs(colour, index, across, ground)
    _paint(colour, index, across, ahead, ground)
    if street.view.weather.wet:
        colour = 0.72 * colour + 0.28 * np.float32(street.stage.sky[1]) * np.minimum(1, ahead / 18)[..., None]
    haze = street.haze(ahead)[..., None]
    return colour + haze * (np.float32(street.stage.sky[1]) - colour)


def _kerbs(colour: np.ndarray, index: np.ndarray, across: np.ndarray, ground: Ground) -> None:
    """Edge the pavements with stone, in place."""
    for number, band in enumerate(ground.bands):
        if band.name != "sidewalk":
            continue
        start = ground.bands[number - 1].end if number else -1e9
        edge = np.minimum(across - start, band.end - across) < 0.16
        colour[edge & (index == number)] = _KERB


def _paint(colour: np.ndarray, index: np.ndarray, across: np.ndarray, ahead: np.ndarray, ground: Ground) -> None:
    """Add lines and zebra crossings, worn off in places, in place; side streets have none."""
    open_road = np.ones(across.shape, bool)
    for near, far, *_ in ground.sides:
        open_road &= (ahead < near) | (ahead > far)
    for line in ground.lines:
        there = (np.abs(across - line.across) < line.wide / 2) & open_road
        if line.period:
            there &= ahead % line.period < 0.45 * line.period
        colour[there] += 0.85 * (np.float32(line.colour) - colour[there])
    for zebra in ground.zebras:
        there = (ahead > zebra.near) & (ahead < zebra.far) & (across > zebra.left) & (across < zebra.right)
        if zebra.striped:
            there &= across % 1.0 < 0.5
        colour[there] += 0.8 * (np.float32(_WHITE) - colour[there])


def _label(street: Street, ground: Ground, first: int) -> None:
    width, height = street.view.camera.size
    index = ground.index(*street.view.camera.ground(np.arange(width) + 0.5, np.arange(first, height) + 0.5))
    for number, band in enumerate(ground.bands):
        street.mark(index == number, band.name, (slice(first, None), slice(None)))


def rails(across: float, gauge: float = 1.45) -> list[Line]:
    """Return the two rails of a track around `across`."""
    return [Line(across + side * gauge / 2, 0.12, colour=_STEEL) for side in (-1, 1)]
