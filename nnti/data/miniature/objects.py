"""The 20 classes: how each is drawn, how tall it is, and where it belongs."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from nnti.data.miniature import clutter
from nnti.data.miniature import objects_far as far
from nnti.data.miniature import objects_grazers as grazers
from nnti.data.miniature import objects_indoor as indoor
from nnti.data.miniature import objects_person as people
from nnti.data.miniature import objects_pets as pets
from nnti.data.miniature import objects_road as road
from nnti.data.miniature.sketch import Sketch

__all__ = ["KINDS", "PERSON", "Kind", "companion"]


@dataclass(frozen=True)
class Kind:
    """One class: `draw(rng)` returns a sketch, `height` in toy metres, `scenes` the fitting backdrops."""

    name: str
    draw: Callable[[Random], Sketch]
    height: float
    scenes: tuple[str, ...]
    aloft: Callable[[Random], Sketch] | None = None  # how it is drawn in the air


_HOME = ("living", "living", "kitchen")
_ROAD = ("street", "street", "road")

KINDS = {  # class number -> kind
    1: Kind("aeroplane", far.aeroplane, 2.0, ("sky", "sky", "airfield"), far.flying_aeroplane),
    2: Kind("bicycle", road.bicycle, 1.1, (*_ROAD, "park", "terrace")),
    3: Kind("bird", pets.bird, 0.55, ("sky", "sea", "park", "meadow"), pets.flying_bird),
    4: Kind("boat", far.boat, 2.0, ("sea",)),
    5: Kind("bottle", indoor.bottle, 0.5, (*_HOME, "terrace")),
    6: Kind("bus", road.bus, 2.4, _ROAD),
    7: Kind("car", road.car, 1.4, (*_ROAD, "park")),
    8: Kind("cat", pets.cat, 0.65, (*_HOME, "terrace", "park")),
    9: Kind("chair", indoor.chair, 1.2, (*_HOME, "terrace")),
    10: Kind("cow", grazers.cow, 1.5, ("meadow", "meadow", "road")),
    11: Kind("diningtable", indoor.diningtable, 1.0, (*_HOME, "terrace")),
    12: Kind("dog", pets.dog, 0.85, ("living", "park", "street", "meadow", "terrace")),
    13: Kind("horse", grazers.horse, 1.9, ("meadow", "meadow", "park", "road")),
    14: Kind("motorbike", road.motorbike, 1.2, (*_ROAD, "terrace")),
    15: Kind(
        "person",
        people.person,
        1.75,
        ("living", "kitchen", "street", "park", "meadow", "railway", "terrace", "road"),
    ),
    16: Kind("pottedplant", indoor.pottedplant, 0.9, (*_HOME, "terrace")),
    17: Kind("sheep", grazers.sheep, 1.2, ("meadow",)),
    18: Kind("sofa", indoor.sofa, 1.1, ("living",)),
    19: Kind("train", far.train, 2.4, ("railway",)),
    20: Kind("tvmonitor", indoor.tvmonitor, 0.9, _HOME),
}
PERSON = 15

# class -> chance of a companion, its class (0: clutter), its drawing, its seat (x, y), its scale, whether it is behind
_SEATS = {
    2: (0.3, PERSON, people.rider, (-0.26, 1.08), 1.1, False),
    4: (0.4, PERSON, people.sitter, (-0.1, 0.3), 0.62, True),
    9: (0.2, PERSON, people.sitter, (0.03, 0.58), 0.78, False),
    11: (0.45, 5, indoor.bottle, (0.3, 0.82), 0.5, False),
    13: (0.3, PERSON, people.rider, (-0.08, 1.24), 0.95, False),
    14: (0.35, PERSON, people.rider, (-0.36, 0.9), 1.0, False),
    18: (0.3, PERSON, people.sitter, (0.2, 0.5), 0.8, False),
    20: (0.7, 0, clutter.sideboard, (0.0, 0.02), 1.0, True),
}


def companion(rng: Random, number: int) -> tuple[int, Sketch, tuple[float, float], float, bool] | None:
    """Return what rides, sits or stands on an object of class `number`, or None: class, sketch, seat, scale, behind."""
    chance, guest, draw, seat, scale, behind = _SEATS.get(number, (0.0, 0, None, None, 0.0, False))
    if rng.random() >= chance:
        return None
    return guest, draw(rng), seat, scale, behind
