"""What lines the streets of the miniature Cityscapes: houses in perspective, walls, fences, guard rails, a bridge.

`side` is -1 for the left side of the street and 1 for the right one, `across` the line where the front stands,
`near` and `far` where it begins and ends, all in metres. Each function returns a sketch.
"""
# Outlines are written as rows of points.
# fmt: off

from dataclasses import dataclass
from random import Random

from nnti.data.miniature.colours import GLASS, metal, mix, paint, shade, wood
from nnti.data.miniature.sketch import Colour, Sketch
from nnti.data.miniature.streets_view import Panel, View

__all__ = ["bridge", "fence", "front", "guard_rail", "house", "wall"]

_PLASTER = [(206, 190, 160), (190, 176, 156), (214, 206, 190), (176, 150, 126), (164, 92, 74), (150, 150, 152),
            (196, 168, 120), (172, 180, 176), (204, 160, 140), (132, 96, 80)]
_ROOFS = [(116, 64, 52), (84, 82, 88), (98, 74, 66), (62, 64, 70)]
_STOREY = 3.1  # metres
_FINE = 55  # metres: farther windows are drawn as rows


def house(view: View, rng: Random, side: int, across: float, near: float, far: float, tall: float) -> Sketch:
    """A house seen along the street: its front, the gable wall that faces us, its roof."""
    sketch, plaster, roof = Sketch(), _plaster(rng), rng.choice(_ROOFS)
    gable = shade(plaster, view.tone(0, 0, -1))
    Panel(sketch, view.camera, (across, near), (side, 0)).box(0, 0, 11, tall, gable, material="cloth")
    if rng.random() < 0.7:
        _roof(sketch, view, side, (across, near, far, tall), roof)
    panel = Panel(sketch, view.camera, (across, near), (0, 1))
    tone = view.tone(-side, 0, 0)
    material = "brick" if rng.random() < 0.15 and near > 12 else "cloth"
    panel.box(0, 0, far - near, tall, shade(plaster, tone), material=material)
    _storeys(_Front.of(panel, view, far - near, tall, plaster, tone), rng, coarse=near > _FINE)
    return sketch


def front(view: View, rng: Random, left: float, right: float, ahead: float, tall: float) -> Sketch:
    """A house that faces us, where the street ends."""
    sketch, plaster, roof = Sketch(), _plaster(rng), rng.choice(_ROOFS)
    tone = view.tone(0, 0, -1)
    panel = Panel(sketch, view.camera, (left, ahead), (1, 0))
    wide = right - left
    gable = [(-0.4, tall), (wide + 0.4, tall), (0.85 * wide, tall + 3), (0.15 * wide, tall + 3)]
    panel.polygon(gable, shade(roof, tone))
    panel.box(0, 0, wide, tall, shade(plaster, tone), material="cloth")
    _storeys(_Front.of(panel, view, wide, tall, plaster, tone), rng, coarse=ahead > 70)
    return sketch


def _plaster(rng: Random) -> Colour:
    colour = rng.choice(_PLASTER) if rng.random() < 0.8 else mix(paint(rng), (200, 190, 176), 0.5)
    return shade(colour, rng.uniform(0.75, 1.05))


def _roof(sketch: Sketch, view: View, half: int, box: tuple[float, float, float, float], colour: Colour) -> None:
    """Add the gable and the slope above a front at (across, near, far, tall), on the side `half` of the street."""
    across, near, far, tall = box
    back, high, eaves = across + half * 3.0, tall + 2.8, across - half * 0.35
    gable = [(across, tall, near), (across + half * 9, tall, near), (back + half * 2, high, near), (back, high, near)]
    sketch.polygon(view.camera.project(gable), shade(colour, 0.8), solid=False)
    slope = [(eaves, tall - 0.1, near), (eaves, tall - 0.1, far), (back, high, far), (back, high, near)]
    sketch.polygon(view.camera.project(slope), shade(colour, view.tone(-0.7 * half, 0.7, 0)), solid=False)


@dataclass(frozen=True)
class _Front:
    """The front of a house: where it is, how large in metres, of what colour, and how bright the light makes it."""

    panel: Panel
    wide: float
    tall: float
    plaster: Colour
    tone: float
    glass: Colour
    lit: bool  # lamps are on behind the windows

    @classmethod
    def of(cls, panel: Panel, view: View, wide: float, tall: float, plaster: Colour, tone: float) -> "_Front":
        glass = mix(mix(GLASS, (30, 36, 44), 0.6), view.weather.sky[1], 0.2)
        return cls(panel, wide, tall, plaster, tone, glass, view.weather.dark)


def _storeys(house: _Front, rng: Random, coarse: bool) -> None:
    """Add rows of windows, a cornice, and shops or doors on the ground floor."""
    panel, plaster, tone = house.panel, house.plaster, house.tone
    storeys = max(1, round(house.tall / _STOREY))
    high = house.tall / storeys
    frame = shade(mix(plaster, (236, 230, 220), rng.choice([0.2, 0.7])), tone)
    shops = rng.random() < 0.4 and house.wide > 6
    columns = max(1, round(house.wide / rng.uniform(2.3, 3.4)))
    for storey in range(storeys):
        low = storey * high
        if storey == 0 and shops:
            _shop(house, rng, high)
        elif coarse:
            row = mix(shade(plaster, tone), house.glass, 0.5)
            panel.box(0.5, low + 0.9, house.wide - 0.5, low + 0.75 * high, row)
        else:
            _windows(house, rng, columns, (low, high), frame)
    panel.box(0, house.tall - 0.35, house.wide, house.tall, shade(plaster, 0.82 * tone))
    if storeys > 1 and rng.random() < 0.6:
        panel.box(0, high - 0.1, house.wide, high + 0.15, frame)
    panel.box(0, 0, house.wide, 0.5, shade(plaster, 0.68 * tone))


def _windows(house: _Front, rng: Random, columns: int, storey: tuple[float, float], frame: Colour) -> None:
    """Add the windows of a storey, given by its floor and height; one of the ground floor's is a door."""
    (low, high), step = storey, house.wide / columns
    door = rng.randrange(columns) if low == 0 else -1
    for column in range(columns):
        middle, half = (column + 0.5) * step, 0.24 * step
        pane = (246, 214, 140) if house.lit and rng.random() < 0.4 else shade(house.glass, rng.uniform(0.8, 1.25))
        if column == door:
            house.panel.box(middle - 0.6, 0, middle + 0.6, 2.3, shade(wood(rng, 0.5), 0.6))
            continue
        house.panel.box(middle - half - 0.12, low + 0.8, middle + half + 0.12, low + 0.84 * high, frame)
        house.panel.box(middle - half, low + 0.92, middle + half, low + 0.81 * high, pane)


def _shop(house: _Front, rng: Random, high: float) -> None:
    """Add shop windows under a sign to the ground floor."""
    sign, wide = paint(rng), house.wide
    house.panel.box(0, 0, wide, high, shade(mix(sign, (90, 86, 82), 0.6), house.tone))
    pane = (250, 226, 170) if house.lit or rng.random() < 0.2 else house.glass
    for column in range(max(1, int(wide / 2.6))):
        house.panel.box(2.6 * column + 0.3, 0.4, 2.6 * column + 2.3, 0.74 * high, pane)
    house.panel.box(0.1, 0.78 * high, wide - 0.1, 0.96 * high, shade(sign, house.tone))


def wall(view: View, rng: Random, side: int, across: float, near: float, far: float, tall: float) -> Sketch:
    """A wall of bricks, stones or concrete along the street, with a coping."""
    sketch = Sketch()
    stone = rng.choice([(168, 160, 148), (150, 104, 84), (176, 172, 164), (128, 122, 112)])
    colour = shade(stone, rng.uniform(0.8, 1.1))
    tone, long = view.tone(-side, 0, 0), far - near
    Panel(sketch, view.camera, (across, near), (side, 0)).box(0, 0, 0.4, tall, shade(colour, view.tone(0, 0, -1)))
    panel = Panel(sketch, view.camera, (across, near), (0, 1))
    material = rng.choice(["brick", "gravel", "cobbles", "cloth"])
    panel.box(0, 0, long, tall, shade(colour, tone), material=material)
    for step in range(1, int(long / 3)):  # joints, or pillars
        panel.box(3 * step, 0, 3 * step + 0.12, tall, shade(colour, 0.8 * tone))
    panel.box(0, tall, long, tall + 0.14, shade(colour, 1.15 * tone))
    if rng.random() < 0.35:  # scribbled upon
        start = rng.uniform(0, 0.6) * long
        for _ in range(4):
            panel.box(start, 0.25 * tall, start + rng.uniform(0.4, 0.9), rng.uniform(0.5, 0.8) * tall, paint(rng))
            start += 1.1
    return sketch


def fence(
    view: View, rng: Random, side: int, across: float, near: float, far: float, tall: float
) -> tuple[Sketch, Sketch]:
    """Railings, planks or wire along the street; also the outline without the gaps."""
    sketch, outline, long = Sketch(), Sketch(), far - near
    colour = rng.choice([shade(metal(rng), 0.5), (44, 62, 52), wood(rng, 0.3), (214, 212, 204), (70, 74, 80)])
    colour = shade(colour, view.tone(-side, 0, 0))
    panel = Panel(sketch, view.camera, (across, near), (0, 1))
    Panel(outline, view.camera, (across, near), (0, 1)).box(0, 0, long, tall, colour)
    dense = rng.random() < 0.35
    pitch, wide = (0.34, 0.28) if dense else (rng.choice([0.3, 0.5]), 0.07)
    for low in (0.15, tall - 0.15):
        panel.box(0, low, long, low + 0.1, shade(colour, 0.85))
    for step in range(int(long / pitch)):
        panel.box(pitch * step, 0, pitch * step + wide, tall - 0.05 * (step % 2), colour)
    for step in range(int(long / 2.4) + 1):
        panel.box(2.4 * step, 0, 2.4 * step + 0.14, tall + 0.1, shade(colour, 0.8))
    return sketch, outline


def guard_rail(view: View, across: float, near: float, far: float) -> tuple[Sketch, Sketch]:
    """A steel rail on posts along the road; also the outline without the gaps."""
    sketch, outline, steel = Sketch(), Sketch(), (168, 170, 174)
    panel = Panel(sketch, view.camera, (across, near), (0, 1))
    for step in range(int((far - near) / 2.5) + 1):
        panel.box(2.5 * step, 0, 2.5 * step + 0.14, 0.6, shade(steel, 0.7))
    panel.box(0, 0.45, far - near, 0.6, shade(steel, 0.85))
    panel.box(0, 0.6, far - near, 0.78, shade(steel, 1.1))
    Panel(outline, view.camera, (across, near), (0, 1)).box(0, 0.1, far - near, 0.78, steel)
    return sketch, outline


def bridge(view: View, rng: Random, left: float, right: float, ahead: float) -> Sketch:
    """A bridge over the street, with piers at `left` and `right`."""
    sketch, stone = Sketch(), rng.choice([(150, 146, 140), (120, 114, 108), (96, 112, 108)])
    stone, low, thick = shade(stone, view.tone(0, 0, -1)), rng.uniform(4.8, 6.0), rng.uniform(1.4, 2.2)
    depth = 8.0
    under = [(left - 30, low, ahead), (right + 30, low, ahead), (right + 30, low, ahead + depth),
             (left - 30, low, ahead + depth)]
    sketch.polygon(view.camera.project(under), shade(stone, 0.4), solid=False)
    for pier in (left - 1.6, right):
        Panel(sketch, view.camera, (pier, ahead), (1, 0)).box(0, 0, 1.6, low, shade(stone, 0.86), material="gravel")
    panel = Panel(sketch, view.camera, (left - 40, ahead), (1, 0))
    wide = right - left + 80
    panel.box(0, low, wide, low + thick, stone, material="gravel")
    panel.box(0, low, wide, low + 0.25, shade(stone, 0.75))
    panel.box(0, low + thick, wide, low + thick + 0.12, shade(stone, 0.7))
    panel.box(0, low + thick + 0.8, wide, low + thick + 0.92, shade(stone, 0.55))
    for step in range(int(wide / 2)):
        panel.box(2 * step, low + thick, 2 * step + 0.14, low + thick + 0.9, shade(stone, 0.55))
    return sketch
