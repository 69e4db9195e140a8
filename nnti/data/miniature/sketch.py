"""A vector drawing made of parts: what the objects and the clutter of the miniature are described with.

Coordinates are the object's own: x to the right (objects face right), y up, the ground at y = 0, about one unit tall.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import atan2, cos, hypot, pi, sin

import numpy as np

__all__ = ["Face", "Part", "Sketch", "arc", "curve"]

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """One filled polygon: `points` (N, 2), its colour and surface material, and how it meets what lies below it.

    `solid` parts bulge towards the light; flat ones (windows, stripes) take the shape of what they lie on.
    `clip` keeps the part inside what was drawn before it.
    """

    points: np.ndarray
    colour: Colour
    material: str = "plain"
    solid: bool = True
    clip: bool = False


class Sketch:
    """A list of parts, drawn first to last; each method adds one shape, `style` being the fields of `Part`."""

    def __init__(self):
        self.parts: list[Part] = []

    def polygon(self, points: Iterable[Point], colour: Colour, **style) -> None:
        """Add a polygon with straight edges."""
        self.parts.append(Part(np.asarray(points, dtype=float), colour, **style))

    def smooth(self, points: Iterable[Point], colour: Colour, **style) -> None:
        """Add a closed curve through `points`."""
        self.polygon(curve(points), colour, **style)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, tilt: float = 0.0, **style) -> None:
        """Add an ellipse, turned counter-clockwise by `tilt` radians."""
        self.polygon(arc(x, y, rx, ry, tilt=tilt), colour, **style)

    def ring(
        self, x: float, y: float, radius: float, width: float, colour: Colour, squeeze: float = 1.0, **style
    ) -> None:
        """Add a ring of outer `radius`; what lies inside stays visible."""
        outer, inner = (
            arc(x, y, radius * squeeze, radius, 32),
            arc(x, y, (radius - width) * squeeze, radius - width, 32),
        )
        self.polygon([*outer, outer[0], inner[0], *inner[::-1]], colour, **style)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0.0, **style) -> None:
        """Add an upright rectangle with rounded corners."""
        if radius <= 0:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, **style)
            return
        corners = [
            (x1 - radius, y1 - radius, 0),
            (x0 + radius, y1 - radius, 1),
            (x0 + radius, y0 + radius, 2),
            (x1 - radius, y0 + radius, 3),
        ]
        points = [
            (x + radius * cos((quarter + step / 3) * pi / 2), y + radius * sin((quarter + step / 3) * pi / 2))
            for x, y, quarter in corners
            for step in range(4)
        ]
        self.polygon(points, colour, **style)

    def limb(self, joints: list[tuple[float, float, float]], colour: Colour, **style) -> None:
        """Add a bar with round ends through (x, y, radius) joints: arms, legs, tubes, twigs."""
        for (x0, y0, r0), (x1, y1, r1) in zip(joints, joints[1:], strict=False):
            self.polygon(_capsule(x0, y0, r0, x1, y1, r1), colour, **style)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour, **style) -> None:
        """Add a straight bar of one width."""
        self.limb([(x0, y0, width / 2), (x1, y1, width / 2)], colour, **style)

    def add(self, other: "Sketch", x: float = 0.0, y: float = 0.0, scale: float = 1.0, flip: bool = False) -> None:
        """Add all parts of `other`, scaled, mirrored if `flip`, and moved by (x, y)."""
        factor = np.array([-scale if flip else scale, scale])
        for part in other.parts:
            self.parts.append(Part(part.points * factor + (x, y), part.colour, part.material, part.solid, part.clip))

    def bounds(self) -> tuple[float, float, float, float]:
        """Return (left, bottom, right, top) of everything drawn."""
        points = np.concatenate([part.points for part in self.parts if not part.clip])
        (left, bottom), (right, top) = points.min(0), points.max(0)
        return left, bottom, right, top


class Face:
    """A flat quadrilateral seen at an angle; (u, v) in [0, 1]² runs from its lower left to its upper right corner."""

    def __init__(self, sketch: Sketch, lower_left: Point, lower_right: Point, upper_right: Point, upper_left: Point):
        self.sketch = sketch
        self.corners = [
            np.asarray(corner, dtype=float) for corner in (lower_left, lower_right, upper_right, upper_left)
        ]

    def at(self, u: float, v: float) -> np.ndarray:
        """Return the point (x, y) at (u, v)."""
        a, b, c, d = self.corners
        return (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * d + u * c)

    def box(self, u0: float, v0: float, u1: float, v1: float, colour: Colour, **style) -> None:
        """Add a rectangle of the face."""
        self.sketch.polygon([self.at(u0, v0), self.at(u1, v0), self.at(u1, v1), self.at(u0, v1)], colour, **style)


def arc(
    x: float,
    y: float,
    rx: float,
    ry: float,
    steps: int = 20,
    start: float = 0.0,
    end: float = 2 * pi,
    tilt: float = 0.0,
) -> list[Point]:
    """Return points of an elliptic arc, from angle `start` to `end` (excluded), counter-clockwise."""
    angles = [start + (end - start) * step / steps for step in range(steps)]
    across, up = cos(tilt), sin(tilt)
    return [(x + rx * cos(a) * across - ry * sin(a) * up, y + rx * cos(a) * up + ry * sin(a) * across) for a in angles]


def curve(points: Iterable[Point], steps: int = 5) -> np.ndarray:
    """Return a closed Catmull-Rom curve through `points`: (N, 2) -> (N · steps, 2)."""
    p1 = np.asarray(points, dtype=float)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (p0, p1, p2, p3))
    path = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return path.reshape(-1, 2)


def _capsule(x0: float, y0: float, r0: float, x1: float, y1: float, r1: float) -> list[Point]:
    along = atan2(y1 - y0, x1 - x0)
    if hypot(x1 - x0, y1 - y0) < 1e-9:
        return arc(x0, y0, r0, r0, 12)
    far = arc(x1, y1, r1, r1, 7, along - pi / 2, along + pi / 2 + pi / 6)
    near = arc(x0, y0, r0, r0, 7, along + pi / 2, along + 3 * pi / 2 + pi / 6)
    return far + near
