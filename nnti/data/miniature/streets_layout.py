"""How a street of the miniature Cityscapes is laid out: its strips from the middle outwards, and what lines it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from nnti.data.miniature.sketch import Colour
from nnti.data.miniature.stage import grass_colour
from nnti.data.miniature.streets_ground import Band, Ground, Line, Zebra, rails

__all__ = ["DISTRICTS", "LANE", "Half", "Layout", "Lot", "lay_out"]

LANE = 3.4  # metres
END = 130.0  # metres: as far as streets are lined
DISTRICTS = ("centre", "centre", "centre", "suburb", "suburb", "outskirts")

# what lines a street, and how often
_LOTS = {
    "centre": {"house": 12, "gap": 1, "wall": 0.5, "fence": 0.5, "trees": 1},
    "suburb": {"house": 4, "villa": 5, "gap": 1, "wall": 0.6, "fence": 0.8, "hedge": 2, "trees": 3},
    "outskirts": {"house": 1, "villa": 1, "gap": 1, "wall": 0.5, "fence": 0.7, "hedge": 2, "trees": 6, "rail": 1.5},
}
_STOREYS = {"centre": (3, 6), "suburb": (2, 4), "outskirts": (1, 3)}


@dataclass(frozen=True)
class Lot:
    """What lines one side of the street between two distances, with a height in metres if it is a house."""

    kind: str
    near: float
    far: float
    tall: float


@dataclass
class Half:
    """One half of the street, `side` -1 (left) or 1 (right); all places are metres across, None where there is none."""

    side: int
    lanes: list[float]  # middles
    kerb: float  # where the road ends
    front: float  # where the houses stand
    parking: float | None = None
    path: tuple[float, float] | None = None  # the pavement, from the road outwards
    track: float | None = None
    verge: float | None = None
    lots: tuple[Lot, ...] = ()

    @property
    def walk(self) -> tuple[float, float]:
        """Return where people walk: the pavement, or else the edge of the road."""
        return self.path or (self.kerb, self.kerb + 1.2 * self.side)


@dataclass
class Layout:
    """A street: its two halves, its ground, and the side street's (near, far) if there is one."""

    district: str
    left: Half
    right: Half
    ground: Ground
    crossing: tuple[float, float] | None

    @property
    def halves(self) -> tuple[Half, Half]:
        """Return both halves, left first."""
        return self.left, self.right


@dataclass
class _Strip:
    name: str
    wide: float
    colour: Colour
    material: str


def lay_out(rng: Random, feature: str) -> Layout:
    """Return a random street in which the kind of thing `feature` has its place."""
    district = rng.choice(DISTRICTS)
    asphalt = rng.choice([(92, 94, 98), (104, 104, 106), (80, 82, 88), (112, 110, 108)])
    surface = "cobbles" if district == "centre" and rng.random() < 0.12 else "asphalt"
    road = partial(_Strip, "road", colour=asphalt, material=surface)  # called with a width
    tracks = feature == "train" or rng.random() < 0.08
    left, left_strips = _half(rng, -1, district, road, tracks)
    right, right_strips = _half(rng, 1, district, road, False)
    crossing = None
    if feature == "traffic light" or rng.random() < 0.4:
        near = rng.uniform(13, 34)
        crossing = (near, near + rng.uniform(7, 10))
    for half in (left, right):
        half.lots = tuple(_lots(rng, district, crossing, feature))
    ground = Ground(_bands(left, left_strips, right_strips), _lines(rng, left, right))
    if crossing:
        _cross(rng, ground, left, right, crossing)
    return Layout(district, left, right, ground, crossing)


def _half(
    rng: Random, side: int, district: str, road: Callable[[float], _Strip], tracks: bool
) -> tuple[Half, list[_Strip]]:
    """Choose the strips of one half, from the middle of our own lane outwards."""
    lanes = rng.choice([1, 1, 1, 2]) if side < 0 else rng.choice([0, 0, 0, 1])
    half = Half(side, [], 0.0, 0.0)
    strips, at = [road(LANE / 2)], LANE / 2
    if tracks:
        half.track = side * (at + 1.7)
        strips.append(_tracks(rng))
        at += strips[-1].wide
    strips.append(road(LANE * lanes + 0.2))
    half.lanes = [side * (at + LANE * (number + 0.5)) for number in range(lanes)]
    at += LANE * lanes + 0.2
    half.kerb = side * at
    for strip in _beside(rng, district):
        place = side * (at + strip.wide / 2)
        if strip.name == "parking":
            half.parking = place
        elif strip.name == "sidewalk":
            half.path = (side * at, side * (at + strip.wide))
        elif strip.name == "terrain":
            half.verge = place
        at += strip.wide
        strips.append(strip)
    half.front = side * at
    strips.append(_behind(rng, district))
    return half, strips


def _tracks(rng: Random) -> _Strip:
    colour, material = rng.choice(
        [((112, 108, 104), "cobbles"), ((104, 128, 72), "grass"), ((122, 114, 106), "gravel")]
    )
    return _Strip("rail track", 6.4, colour, material)


def _beside(rng: Random, district: str) -> list[_Strip]:
    """Choose what lies between the road and the houses."""
    stone = rng.choice([(150, 146, 142), (164, 154, 144), (134, 134, 136), (158, 140, 128)])
    strips = []
    if rng.random() < {"centre": 0.5, "suburb": 0.4, "outskirts": 0.15}[district]:
        strips.append(_Strip("parking", 2.2, rng.choice([(110, 108, 108), (126, 118, 112)]), "cobbles"))
    verge = rng.random() < {"centre": 0.08, "suburb": 0.35, "outskirts": 0.5}[district]
    if verge:
        strips.append(_Strip("terrain", rng.uniform(1.2, 3), grass_colour(rng), "grass"))
    if rng.random() < (0.6 if district == "outskirts" else 1.0):
        strips.append(
            _Strip("sidewalk", rng.uniform(1.8, 4.5), stone, rng.choice(["tiles", "tiles", "cobbles", "asphalt"]))
        )
    if rng.random() < 0.15:
        strips.append(_Strip("ground", rng.uniform(1.5, 4), (148, 136, 122), rng.choice(["gravel", "cobbles"])))
    return strips or [_Strip("terrain", rng.uniform(1, 3), grass_colour(rng), "grass")]


def _behind(rng: Random, district: str) -> _Strip:
    if district == "centre":
        return _Strip("sidewalk", 1e9, (146, 142, 138), "tiles")
    return _Strip("terrain", 1e9, grass_colour(rng), "grass")


def _bands(left: Half, left_strips: list[_Strip], right_strips: list[_Strip]) -> list[Band]:
    at, bands = 0.0, []
    for strip in left_strips:  # each ends, to the right, where the one before began
        bands.insert(0, Band(at, strip.name, strip.colour, strip.material))
        at -= strip.wide
    at = 0.0
    for strip in right_strips:
        at += strip.wide
        bands.append(Band(at, strip.name, strip.colour, strip.material))
    return bands


def _lots(rng: Random, district: str, crossing: tuple[float, float] | None, feature: str) -> list[Lot]:
    """Choose what lines one side, from near to far, the side street left out."""
    lots, at = [], 2.0
    low, high = _STOREYS[district]
    kinds, weights = zip(*_LOTS[district].items(), strict=True)
    kind = rng.choices(kinds, weights)[0]
    wanted = feature if feature in ("wall", "fence") else ""
    while at < END:
        kind = kind if rng.random() < 0.3 else rng.choices(kinds, weights)[0]
        if wanted and at > 5:
            kind, wanted = wanted, ""
        long = rng.uniform(9, 18) if kind in ("wall", "fence", "rail", "trees") else rng.uniform(7, 15)
        far = at + long * (1.6 if at > 50 else 1.0)
        if crossing and at < crossing[1] and far > crossing[0] - 1:
            far = max(at, crossing[0] - 1)
        if far - at > 2:
            lots.append(Lot(kind, at, far, 3.1 * rng.randint(low, high) + rng.uniform(0, 1)))
        at = crossing[1] + 1 if crossing and at < crossing[1] and far >= crossing[0] - 1 else far
    return lots


def _lines(rng: Random, left: Half, right: Half) -> list[Line]:
    middle = -LANE / 2
    if left.track is not None:
        lines = [*rails(left.track), *rails(left.track - 3.0)]
    else:
        lines = [Line(middle, period=rng.choice([0.0, 6.0, 9.0]))] if rng.random() < 0.85 else []
    for half in (left, right):
        inner = [lane - half.side * LANE / 2 for lane in half.lanes]
        lines += [Line(place, period=6.0) for place in inner if abs(place - middle) > 0.5 and half.track is None]
        if rng.random() < 0.35:
            lines.append(Line(half.kerb - 0.3 * half.side))
    return lines


def _cross(rng: Random, ground: Ground, left: Half, right: Half, crossing: tuple[float, float]) -> None:
    """Add the side street, with a stop line and perhaps a zebra crossing before it."""
    near, far = crossing
    both = rng.random()
    ground.sides.append((near, far, left.kerb if both < 0.8 else None, right.kerb if both > 0.3 else None))
    ground.zebras.append(Zebra(near - 5.2, near - 4.8, -LANE / 2, right.kerb, striped=False))
    if rng.random() < 0.6:
        ground.zebras.append(Zebra(near - 4.0, near - 1.2, left.kerb, right.kerb))
