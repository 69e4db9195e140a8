"""Vehicles of the miniature Cityscapes, seen from any side: outlines extruded across their width, in perspective.

A vehicle's own coordinates are metres along it (forward), to its right, and up, from its middle on the ground.
"""
# Outlines are written as rows of points.
# fmt: off

from dataclasses import dataclass
from math import cos, hypot, sin
from random import Random

from nnti.data.miniature.colours import DARK, GLASS, LAMP, mix, paint, shade
from nnti.data.miniature.sketch import Colour, Sketch, arc
from nnti.data.miniature.streets_view import Footprint, View

__all__ = ["Spot", "Vehicle", "bus", "car", "caravan", "trailer", "tram", "truck", "van"]

_TAIL = (196, 36, 34)
_PLATE = (226, 226, 218)
_RIM = (164, 166, 172)


@dataclass(frozen=True)
class Spot:
    """Where a vehicle's middle is, in metres, and its heading in radians: 0 drives away from us, pi comes towards."""

    across: float
    ahead: float
    heading: float = 0.0


class Vehicle:
    """A vehicle under construction; everything that faces away from the camera is left out."""

    def __init__(self, view: View, spot: Spot, long: float, wide: float, tall: float):
        self.view, self.spot, self.sketch = view, spot, Sketch()
        self.long, self.wide, self.tall = long, wide, tall

    @property
    def footprint(self) -> Footprint:
        """Return the outline that throws the shadow."""
        corners = [(a * self.long / 2, b * self.wide / 2) for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        return Footprint(tuple(self._place(*corner) for corner in corners), 0.8 * self.tall)

    def _place(self, along: float, right: float) -> tuple[float, float]:
        c, s = cos(self.spot.heading), sin(self.spot.heading)
        return self.spot.across + along * s + right * c, self.spot.ahead + along * c - right * s

    def face(self, points: list[tuple[float, float, float]], colour: Colour, normal=None, **style) -> None:
        """Add a polygon of (along, right, up) points if it turns towards us: counter-clockwise from outside.

        With `normal` (along, right, up) the face is shaded by the light.
        """
        places = [(*self._place(along, right), up) for along, right, up in points]
        flat = self.view.camera.project((across, up, ahead) for across, ahead, up in places)
        if sum(x0 * y1 - y0 * x1 for (x0, y0), (x1, y1) in zip(flat, [*flat[1:], flat[0]], strict=True)) <= 0:
            return
        if normal is not None:
            c, s = cos(self.spot.heading), sin(self.spot.heading)
            colour = shade(colour, self.view.tone(normal[0] * s + normal[1] * c, normal[2], normal[0] * c))
        self.sketch.polygon(flat, colour, **{"solid": False, **style})

    def side(self, half: float, points: list[tuple[float, float]], colour: Colour, toned=True) -> None:
        """Add a polygon of (along, up) points, counter-clockwise seen from the right, to both sides."""
        normal = (0, 1, 0) if toned else None
        self.face([(a, half, h) for a, h in points], colour, normal)
        self.face([(a, -half, h) for a, h in reversed(points)], colour, (0, -1, 0) if toned else None)

    def end(self, along: float, points: list[tuple[float, float]], colour: Colour) -> None:
        """Add a polygon of (right, up) points, counter-clockwise seen from behind, to the rear or front face."""
        self.face([(along, w, h) for w, h in (points if along < 0 else reversed(points))], colour)

    def end_box(self, along: float, w0: float, h0: float, w1: float, h1: float, colour: Colour) -> None:
        """Add a rectangle to the rear (`along` < 0) or front face."""
        self.end(along, [(w0, h0), (w1, h0), (w1, h1), (w0, h1)], colour)

    def side_box(self, half: float, a0: float, h0: float, a1: float, h1: float, colour: Colour, toned=False) -> None:
        """Add a rectangle to both sides."""
        self.side(half, [(a0, h0), (a1, h0), (a1, h1), (a0, h1)], colour, toned)

    def prism(self, profile: list[tuple[float, float]], half: float, colour: Colour, glazed=(), glass=GLASS) -> None:
        """Extrude a convex (along, up) profile, counter-clockwise seen from the right; `glazed` edges carry a pane."""
        for number, (a0, h0) in enumerate(profile):
            a1, h1 = profile[(number + 1) % len(profile)]
            size = hypot(a1 - a0, h1 - h0)
            normal = ((h1 - h0) / size, 0, (a0 - a1) / size)
            self.face([(a1, -half, h1), (a1, half, h1), (a0, half, h0), (a0, -half, h0)], colour, normal)
            if number in glazed:
                near, far = ((a0 + t * (a1 - a0), h0 + t * (h1 - h0)) for t in (0.12, 0.88))
                w = 0.88 * half
                self.face([(far[0], -w, far[1]), (far[0], w, far[1]), (near[0], w, near[1]), (near[0], -w, near[1])],
                          shade(glass, 1.1))
        self.side(half, profile, colour)

    def wheels(self, half: float, places: list[float], radius: float) -> None:
        """Add wheels to the sides."""
        for along in places:
            self.side(half + 0.02, arc(along, radius, radius, radius, 14), DARK, toned=False)
            self.side(half + 0.02, arc(along, radius, 0.58 * radius, 0.58 * radius, 12), _RIM, toned=False)

    def underside(self, half: float, height: float) -> None:
        """Add the dark between the wheels, and the wheels as seen from the ends."""
        for along in (-self.long / 2 + 0.3, self.long / 2 - 0.3):
            for w in (-half, half - 0.24):
                self.end_box(along, w, 0.0, w + 0.24, 0.5, DARK)
        a = self.long / 2 - 0.1
        self.prism([(-a, 0.14), (a, 0.14), (a, height + 0.1), (-a, height + 0.1)], 0.96 * half, (30, 30, 32))

    def lights(self, half: float, height: float, size: float) -> None:
        """Add tail lamps behind, headlamps in front, and number plates."""
        for sign, colour in ((-1, _TAIL), (1, LAMP)):
            along = sign * self.long / 2
            for w in (-half + 0.06, half - 0.06 - size):
                self.end_box(along, w, height, w + size, height + 0.62 * size, colour)
            self.end_box(along, -0.26, height - 0.24, 0.26, height - 0.12, _PLATE)


def _lacquer(rng: Random) -> Colour:
    """Car colours as on a street: mostly black, grey, silver, white, some blue and red, few others."""
    common = [(40, 42, 46), (70, 74, 80), (120, 124, 130), (178, 182, 186), (226, 226, 224), (44, 66, 112),
              (140, 34, 36)]
    return rng.choice(common) if rng.random() < 0.8 else paint(rng)


def _glass(view: View) -> Colour:
    return mix((44, 52, 62), view.weather.sky[1], 0.22)


def car(view: View, spot: Spot, rng: Random) -> Vehicle:
    """A hatchback, a saloon, an estate or something higher; 3.6 to 4.8 metres long."""
    body, glass = _lacquer(rng), _glass(view)
    tall, long = rng.choice([(1.45, 3.7), (1.42, 4.5), (1.48, 4.7), (1.7, 4.5)])
    half, belt = rng.uniform(0.84, 0.92), 0.6 * tall
    vehicle = Vehicle(view, spot, long, 2 * half, tall)
    tail = rng.choice([0.47, 0.46, 0.36]) if tall < 1.6 else 0.48
    vehicle.underside(half, 0.3)
    a = long / 2
    vehicle.prism([(-a, 0.32), (a, 0.32), (a, 0.56), (0.94 * a, 0.72), (0.5 * a, belt + 0.03), (-0.96 * a, belt + 0.03),
                   (-a, 0.7)], half, body)
    cabin = [(-tail * 2 * a, belt), (0.52 * a, belt), (0.16 * a, tall), (-1.55 * tail * a, tall)]
    vehicle.prism(cabin, 0.86 * half, body, (1, 3), glass)
    vehicle.side(0.865 * half, [(-1.7 * tail * a, belt + 0.06), (0.4 * a, belt + 0.06), (0.14 * a, tall - 0.09),
                                (-1.45 * tail * a, tall - 0.09)], glass, toned=False)
    vehicle.side_box(0.87 * half, -0.26 * a, belt + 0.05, -0.2 * a, tall - 0.08, body)
    vehicle.wheels(half, [-0.3 * long, 0.31 * long], 0.31)
    for end in (-1, 1):
        vehicle.end_box(end * a, -half, 0.32, half, 0.44, shade(body, 0.55))
    vehicle.lights(half, 0.6, 0.3)
    return vehicle


def van(view: View, spot: Spot, rng: Random) -> Vehicle:
    """A delivery van, which Cityscapes counts as a car; about 5.2 metres long."""
    body, glass = rng.choice([(228, 228, 226), (228, 228, 226), _lacquer(rng), paint(rng, 0.14)]), _glass(view)
    vehicle, half = Vehicle(view, spot, 5.2, 1.96, 2.2), 0.98
    vehicle.underside(half, 0.3)
    profile = [(-2.6, 0.35), (2.6, 0.35), (2.6, 0.9), (2.3, 1.15), (1.6, 2.2), (-2.6, 2.2)]
    vehicle.prism(profile, half, body, (3,), glass)
    vehicle.side(half + 0.01, [(0.8, 1.2), (2.0, 1.2), (1.55, 1.95), (0.8, 1.95)], glass, toned=False)
    for w in (-0.82, 0.1):
        vehicle.end_box(-2.6, w, 1.25, w + 0.72, 1.9, glass)
    vehicle.wheels(half, [-1.5, 1.6], 0.34)
    vehicle.lights(half, 0.85, 0.26)
    return vehicle


def truck(view: View, spot: Spot, rng: Random) -> Vehicle:
    """A cab and a box, a tarpaulin or an open bed behind it; 7 to 9 metres long."""
    cab, load = _lacquer(rng), rng.choice([mix(paint(rng), (220, 220, 216), 0.4), (206, 206, 200), paint(rng)])
    long, tall, half = rng.uniform(7, 9), rng.uniform(3.1, 3.7), 1.22
    vehicle, a = Vehicle(view, spot, long, 2 * half, tall), long / 2
    vehicle.underside(half, 0.6)
    bed = rng.random() < 0.25
    top = 1.7 if bed else tall
    parts = [(_truck_cab, cab), (_truck_box, load)]
    for draw, colour in parts if cos(spot.heading) > 0 else parts[::-1]:  # the farther part first
        draw(vehicle, a, half, top, colour)
    vehicle.wheels(half, [-a + 1.2, -a + 2.3, a - 1.2], 0.48)
    vehicle.lights(half, 0.8, 0.24)
    return vehicle


def _truck_cab(vehicle: Vehicle, a: float, half: float, top: float, colour: Colour) -> None:
    glass = _glass(vehicle.view)
    profile = [(a - 1.9, 0.6), (a, 0.6), (a, 1.5), (a - 0.18, 2.75), (a - 1.9, 2.75)]
    vehicle.prism(profile, 0.97 * half, colour, (2,), glass)
    vehicle.side_box(0.98 * half, a - 1.3, 1.6, a - 0.3, 2.4, glass)
    vehicle.end_box(a, -0.8, 0.9, 0.8, 1.3, shade(colour, 0.5))


def _truck_box(vehicle: Vehicle, a: float, half: float, top: float, colour: Colour) -> None:
    vehicle.prism([(-a, 0.75), (a - 2.1, 0.75), (a - 2.1, top), (-a, top)], half, colour)
    vehicle.side_box(half + 0.01, -a + 0.2, 0.75, a - 2.3, 0.95, shade(colour, 0.6), toned=True)
    for w in (-0.03, -half + 0.05, half - 0.1):
        vehicle.end_box(-a, w, 0.9, w + 0.06, top - 0.1, shade(colour, 0.6))
    vehicle.end_box(-a, -half, 0.55, half, 0.8, (60, 60, 62))


def bus(view: View, spot: Spot, rng: Random) -> Vehicle:
    """A city bus, 11 metres long, with a destination sign in front and behind."""
    body, glass = paint(rng, rng.choice([0.13, 0.0, 0.6])), _glass(view)
    vehicle, half, a = Vehicle(view, spot, 11.0, 2.5, 3.0), 1.25, 5.5
    vehicle.underside(half, 0.3)
    vehicle.prism([(-a, 0.3), (a, 0.3), (a, 1.1), (a - 0.12, 2.85), (a - 0.4, 3.0), (-a, 3.0)], half, body)
    _windows(vehicle, half, a, (1.25, 2.45), 1.4, glass)
    vehicle.side_box(half + 0.01, -a, 0.3, a, 0.6, shade(paint(rng), 0.8))
    vehicle.wheels(half, [-3.2, 2.9], 0.48)
    for end, low in ((-a, 1.5), (a, 1.05)):
        vehicle.end_box(end, -1.1, low, 1.1, 2.4, glass)
        vehicle.end_box(end, -0.8, 2.5, 0.8, 2.8, (36, 36, 34))
        vehicle.end_box(end, -0.6, 2.58, 0.4, 2.72, (250, 190, 60))
    vehicle.lights(half, 0.75, 0.26)
    return vehicle


def _windows(vehicle: Vehicle, half: float, a: float, rows: tuple[float, float], pitch: float, glass: Colour) -> None:
    for step in range(int(2 * (a - 0.3) / pitch)):
        start = -a + 0.3 + step * pitch
        vehicle.side_box(half + 0.01, start, rows[0], start + pitch - 0.14, rows[1], glass)
        vehicle.side(half + 0.015, [(start + 0.2, rows[0]), (start + 0.45, rows[0]), (start + 0.7, rows[1]),
                                    (start + 0.5, rows[1])], shade(glass, 1.3), toned=False)


def tram(view: View, spot: Spot, rng: Random) -> Vehicle:
    """A tram or a light train, 20 to 28 metres long, with round noses and joints between its carriages."""
    body, glass, long = paint(rng, rng.choice([0.0, 0.14, 0.36])), _glass(view), rng.uniform(20, 28)
    vehicle, half, a = Vehicle(view, spot, long, 2.5, 3.5), 1.25, long / 2
    vehicle.underside(half, 0.4)
    profile = [(-a, 0.3), (a, 0.3), (a + 0.1, 1.2), (a - 0.5, 3.0), (a - 1.2, 3.4), (-a + 1.2, 3.4), (-a + 0.5, 3.0),
               (-a - 0.1, 1.2)]
    vehicle.prism(profile, half, body, (2, 6), glass)
    _windows(vehicle, half, a - 0.8, (1.3, 2.6), 1.7, glass)
    stripe = mix(paint(rng), (230, 228, 220), 0.5)
    vehicle.side_box(half + 0.01, -a + 0.1, 2.75, a - 0.6, 3.05, stripe, toned=True)
    for joint in (-a / 3, a / 3):
        vehicle.side_box(half + 0.02, joint - 0.2, 0.3, joint + 0.2, 3.4, (50, 50, 54))
    for end in (-a - 0.05, a + 0.05):
        vehicle.end_box(end, -1.2, 0.4, 1.2, 0.62, (52, 52, 56))
        vehicle.end_box(end, -0.45, 1.16, 0.45, 1.2, stripe)
    vehicle.lights(half, 0.85, 0.24)
    x, y = vehicle.spot.across, vehicle.spot.ahead
    mast = view.camera.project([(x - 0.6, 3.4, y), (x + 0.6, 3.4, y), (x, 4.6, y), (x + 0.05, 4.6, y)])
    sticks = [mast[0], mast[2], mast[3], mast[1], mast[2]]
    vehicle.sketch.polygon(sticks, (60, 60, 64), solid=False)
    return vehicle


def trailer(view: View, spot: Spot, rng: Random) -> Vehicle:
    """An open or covered trailer for a car, about 2.6 metres long."""
    vehicle, tall = Vehicle(view, spot, 2.6, 1.6, 1.5), rng.choice([0.85, 1.5])
    colour = rng.choice([(132, 136, 142), (70, 80, 110), (60, 84, 66)])
    vehicle.underside(0.8, 0.3)
    vehicle.prism([(-1.3, 0.45), (1.3, 0.45), (1.3, tall), (-1.3, tall)], 0.8, colour)
    vehicle.wheels(0.8, [0.0], 0.3)
    vehicle.lights(0.8, 0.55, 0.18)
    return vehicle


def caravan(view: View, spot: Spot, rng: Random) -> Vehicle:
    """A white holiday home on two wheels, about 5 metres long."""
    vehicle, body, glass = Vehicle(view, spot, 5.0, 2.1, 2.5), (226, 224, 214), _glass(view)
    vehicle.underside(1.05, 0.3)
    profile = [(-2.5, 0.5), (2.2, 0.5), (2.5, 1.2), (2.1, 2.4), (1.6, 2.5), (-2.2, 2.5), (-2.5, 2.2)]
    vehicle.prism(profile, 1.05, body, (2,), glass)
    vehicle.wheels(1.05, [-0.2], 0.32)
    vehicle.side_box(1.06, -2.4, 1.0, 2.4, 1.12, paint(rng))
    for along in (-1.8, 0.2):
        vehicle.side_box(1.06, along, 1.4, along + 1.1, 2.0, glass)
    vehicle.end_box(-2.5, -0.7, 1.4, 0.7, 2.05, glass)
    vehicle.lights(1.05, 0.7, 0.2)
    return vehicle
