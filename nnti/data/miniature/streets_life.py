"""Who and what is in the streets of the miniature Cityscapes: traffic, people, posts, clutter, each in its place."""

from math import pi
from random import Random

from nnti.data.miniature import clutter
from nnti.data.miniature import streets_houses as houses
from nnti.data.miniature import streets_things as things
from nnti.data.miniature.objects_person import person
from nnti.data.miniature.streets_cast import LONG, Cast
from nnti.data.miniature.streets_layout import Half
from nnti.data.miniature.streets_lots import line_with
from nnti.data.miniature.streets_vehicles import Spot
from nnti.data.miniature.streets_view import Footprint

__all__ = ["FEATURES", "fill_street"]

# Kinds that are rare in a street: pictures take turns to show one of them for sure.
FEATURES = ("train", "bus", "truck", "motorcycle", "rider", "wall", "fence", "traffic light", "traffic sign", "bicycle")


def fill_street(cast: Cast, feature: str) -> None:
    """Add everything that stands, walks and drives in the street, something of the kind `feature` near by."""
    for half in cast.layout.halves:
        line_with(cast, half)
        _posts(cast, half)
        _parked(cast, half)
        _people(cast, half)
        _clutter(cast, half)
    _traffic(cast, feature)
    _two_wheels(cast)
    if cast.layout.crossing:
        _junction(cast, feature)
    if cast.rng.random() < 0.07:
        _bridge(cast)
    if cast.layout.left.track is not None and (feature == "train" or cast.rng.random() < 0.3):
        _tram(cast)
    if feature in _FEATURE:
        _FEATURE[feature](cast)


def _posts(cast: Cast, half: Half) -> None:
    """Lamps, trees and signs along the kerb."""
    rng = cast.rng
    edge = half.walk[0] + 0.5 * half.side
    if rng.random() < 0.7:
        for number in range(4):
            cast.pieces(things.lamp(rng), edge, rng.uniform(8, 13) + 22 * number, 0.2, 6, flip=half.side > 0)
    if rng.random() < {"centre": 0.4, "suburb": 0.45, "outskirts": 0.3}[cast.layout.district]:
        at, gap, metres = rng.uniform(7, 14), rng.uniform(8, 14), rng.uniform(4.5, 8)
        while at < 100:
            cast.plant(clutter.tree, half.verge or edge + 0.9 * half.side, at, metres * rng.uniform(0.85, 1.15))
            at += gap
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        cast.pieces(things.sign(rng), edge - 0.2 * half.side, _along(rng, 7, 45), 0.5, 2.4)
    if rng.random() < 0.1:
        cast.pieces(things.poles(rng), edge, rng.uniform(9, 25), 0.7, 3)


def _along(rng: Random, near: float, far: float) -> float:
    """Return a distance such that things are spread evenly over the picture rather than over the street."""
    return near * (far / near) ** rng.random()


def _parked(cast: Cast, half: Half) -> None:
    """Cars at the kerb, sometimes a van, a caravan or a trailer."""
    rng = cast.rng
    if half.parking is None and rng.random() > 0.3:
        return
    across, share = half.parking or half.kerb - 0.9 * half.side, rng.uniform(0.3, 0.9)
    heading, at = (0.0 if half.side > 0 else pi), rng.uniform(5.5, 11)
    while at < 60:
        clear = not cast.layout.crossing or not cast.layout.crossing[0] - 7 < at < cast.layout.crossing[1] + 3
        if clear and rng.random() < share:
            kind = rng.choices(["car", "van", "caravan", "trailer", "truck"], [20, 3, 0.6, 0.8, 0.3])[0]
            cast.vehicle(kind, Spot(across, at, heading + rng.gauss(0, 0.02)))
        at += rng.uniform(5.6, 7)


def _people(cast: Cast, half: Half) -> None:
    """Pedestrians on the pavement, alone or in pairs."""
    rng = cast.rng
    count = {"centre": rng.choice([1, 2, 4, 6]), "suburb": rng.choice([0, 1, 2]), "outskirts": rng.choice([0, 0, 1])}
    inner, outer = half.walk
    for _ in range(count[cast.layout.district]):
        across, ahead = rng.uniform(inner, outer), _along(rng, 7, 60)
        for step in range(rng.choice([1, 1, 2])):
            _walker(cast, across + 0.6 * step, ahead + 0.3 * step)


def _walker(cast: Cast, across: float, ahead: float) -> None:
    rng = cast.rng
    if not cast.view.camera.sees(across, ahead, 1.8):
        return
    metres, flip = (0.6 if rng.random() < 0.1 else rng.uniform(0.92, 1.08)), rng.random() < 0.5
    sketch, body = person(rng), Footprint.box(across, ahead, 0.45, 0.3, 1.7 * metres)
    cast.add(ahead, lambda street: street.stand(sketch, "person", across, ahead, metres, flip), body)


def _clutter(cast: Cast, half: Half) -> None:
    """Bins, pillars, parasols, cones: what Cityscapes calls static or dynamic."""
    rng, (inner, outer) = cast.rng, half.walk
    kinds = [
        (things.bin_, 0.8, 1.1),
        (things.poster_pillar, 1.2, 2.6),
        (things.cone, 1.0, 0.8),
        (things.parasol, 2.0, 2.4),
    ]
    for _ in range(rng.choice([0, 0, 1, 2])):
        draw, wide, tall = rng.choices(kinds, [6, 1, 2, 1.5])[0]
        cast.pieces(draw(rng), inner + (outer - inner) * rng.choice([0.15, 0.85]), _along(rng, 7, 40), wide, tall)


def _traffic(cast: Cast, feature: str) -> None:
    """Vehicles in the lanes: ours and those to the right drive away, the others come towards us.

    Where the feature is a vehicle that drives in lanes, one lane begins with it.
    """
    rng = cast.rng
    lanes = [0.0, *cast.layout.right.lanes, *cast.layout.left.lanes]
    featured = rng.choice(lanes) if feature in ("bus", "truck") else None
    for lane in lanes:
        oncoming, at = lane < -1, rng.choice([rng.uniform(9, 18), rng.uniform(15, 50)])
        kind = feature if lane == featured else ""
        at = min(at, 22) if kind else at
        while at < 75 and (kind or rng.random() < 0.75):
            kind = kind or rng.choices(["car", "van", "truck", "bus"], [16, 2, 0.7, 0.6])[0]
            long = LONG[kind]
            cast.vehicle(kind, Spot(lane + rng.gauss(0, 0.15), at + long / 2, pi if oncoming else 0.0))
            if kind == "car" and not oncoming and rng.random() < 0.08:
                cast.vehicle("trailer", Spot(lane, at - 1.2))
            at, kind = at + long + rng.uniform(3, 25), ""


def _two_wheels(cast: Cast) -> None:
    """Riders at the edge of the road, parked bicycles and motorcycles on the pavement."""
    rng = cast.rng
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        _ride(cast, rng.choices(["bicycle", "motorcycle"], [6, 1])[0], _along(rng, 8, 40))
    half = rng.choice(cast.layout.halves)
    if rng.random() < 0.4:
        _rack(cast, half, rng.choices(["bicycle", "motorcycle"], [6, 1])[0], _along(rng, 7, 25), rng.randint(1, 4))


def _ride(cast: Cast, kind: str, ahead: float) -> None:
    half = cast.rng.choice(cast.layout.halves)
    across = half.kerb - half.side * cast.rng.uniform(0.4, 1.2)
    pieces = things.rider_along(cast.rng, kind, from_behind=half.side > 0)
    cast.pieces(pieces, across, ahead, 0.5, 1.7)


def _rack(cast: Cast, half: Half, kind: str, ahead: float, count: int) -> None:
    """Parked two-wheelers, one behind the other; if there are many, annotators do not tell them apart."""
    across, flip = half.walk[0] + 0.9 * half.side, cast.rng.random() < 0.5
    for number in range(count):
        cast.pieces(things.two_wheeler(cast.rng, kind), across, ahead + 0.8 * number, 1.4, 0.9, flip, group=count > 2)


def _junction(cast: Cast, feature: str) -> None:
    """Traffic lights, somebody who crosses, a car that turns in from the side."""
    rng, layout = cast.rng, cast.layout
    near, far = layout.crossing
    if feature == "traffic light" or rng.random() < 0.6:
        for half in layout.halves:
            across = half.kerb + 0.5 * half.side
            cast.pieces(things.traffic_light(rng, half.side > 0 and rng.random() < 0.5), across, near - 4.5, 0.3, 3.5)
            cast.pieces(things.traffic_light(rng, False), across, far + 1, 0.3, 3.5)
    for _ in range(rng.choice([0, 1, 2, 3])):
        _walker(cast, rng.uniform(layout.left.kerb, layout.right.kerb), near - rng.uniform(1.4, 3.8))
    if rng.random() < 0.4:
        heading = rng.choice([-1, 1]) * pi / 2
        across = rng.choice([layout.left.kerb, layout.right.kerb]) * rng.uniform(0.9, 1.8)
        cast.vehicle(rng.choice(["car", "car", "car", "van", "bus", "truck"]), Spot(across, (near + far) / 2, heading))
    if rng.random() < 0.35:
        kind = rng.choices(["bicycle", "motorcycle"], [4, 1])[0]
        across = rng.uniform(layout.left.kerb, layout.right.kerb)
        cast.pieces(things.rider_crossing(rng, kind), across, near + 1, 1.4, 1.5, rng.random() < 0.5)


def _bridge(cast: Cast) -> None:
    left, right, ahead = cast.layout.left.front, cast.layout.right.front, cast.rng.uniform(32, 75)
    sketch = houses.bridge(cast.view, cast.rng, left, right, ahead)
    body = Footprint(((left - 5, ahead), (right + 5, ahead), (right + 5, ahead + 8), (left - 5, ahead + 8)), 0.1)
    cast.add(ahead, lambda street: street.put(sketch, "bridge", ahead), body)


def _tram(cast: Cast) -> None:
    track, rng = cast.layout.left.track, cast.rng
    cast.vehicle("tram", Spot(rng.choice([track, track - 3.0]), rng.uniform(22, 42), rng.choice([0.0, pi])))


def _feature_motorcycle(cast: Cast) -> None:
    if cast.rng.random() < 0.5:
        _ride(cast, "motorcycle", cast.rng.uniform(7, 13))
    _rack(cast, cast.rng.choice(cast.layout.halves), "motorcycle", cast.rng.uniform(6.5, 12), cast.rng.randint(1, 2))


_FEATURE = {
    "motorcycle": _feature_motorcycle,
    "rider": lambda cast: _ride(cast, "bicycle", cast.rng.uniform(7, 14)),
    "bicycle": lambda cast: _rack(cast, cast.rng.choice(cast.layout.halves), "bicycle", cast.rng.uniform(6.5, 12), 3),
    "traffic sign": lambda cast: cast.pieces(
        things.sign(cast.rng), cast.layout.right.walk[0] + 0.3, cast.rng.uniform(7, 12), 0.5, 2.4
    ),
}
