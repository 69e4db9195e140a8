"""The 20 classes: how each is drawn, how tall it is, and where it belongs."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from nnti.data.miniature import objects_animals as animals
from nnti.data.miniature import objects_indoor as indoor
from nnti.data.miniature import objects_person as people
from nnti.data.miniature import objects_vehicles as vehicles
from nnti.data.miniature.sketch import Sketch

__all__ = ["KINDS", "PERSON", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One class: `draw(rng)` returns a sketch, `height` in metres of a toy world, `scenes` name the fitting backdrops."""

    name: str
    draw: Callable[[Random], Sketch]
    height: float
    scenes: tuple[str, ...]


_HOME = ("living", "living", "kitchen")
_ROAD = ("street", "street", "road")

KINDS = {  # class number -> kind
    1: Kind("aeroplane", vehicles.aeroplane, 2.0, ("sky", "sky", "airfield")),
    2: Kind("bicycle", vehicles.bicycle, 1.1, (*_ROAD, "park", "terrace")),
    3: Kind("bird", animals.bird, 0.9, ("sky", "sea", "park", "meadow")),
    4: Kind("boat", vehicles.boat, 2.0, ("sea",)),
    5: Kind("bottle", indoor.bottle, 0.8, (*_HOME, "terrace")),
    6: Kind("bus", vehicles.bus, 2.4, _ROAD),
    7: Kind("car", vehicles.car, 1.4, (*_ROAD, "park")),
    8: Kind("cat", animals.cat, 0.9, (*_HOME, "terrace", "park")),
    9: Kind("chair", indoor.chair, 1.2, (*_HOME, "terrace")),
    10: Kind("cow", animals.cow, 1.5, ("meadow", "meadow", "road")),
    11: Kind("diningtable", indoor.diningtable, 1.0, (*_HOME, "terrace")),
    12: Kind("dog", animals.dog, 1.0, ("living", "park", "street", "meadow", "terrace")),
    13: Kind("horse", animals.horse, 1.9, ("meadow", "meadow", "park", "road")),
    14: Kind("motorbike", vehicles.motorbike, 1.2, (*_ROAD, "terrace")),
    15: Kind("person", people.person, 1.75, ("living", "kitchen", "street", "park", "meadow", "sea", "railway", "terrace", "road")),
    16: Kind("pottedplant", indoor.pottedplant, 1.1, (*_HOME, "terrace")),
    17: Kind("sheep", animals.sheep, 1.2, ("meadow",)),
    18: Kind("sofa", indoor.sofa, 1.1, ("living",)),
    19: Kind("train", vehicles.train, 2.4, ("railway",)),
    20: Kind("tvmonitor", indoor.tvmonitor, 1.1, _HOME),
}
PERSON = 15
