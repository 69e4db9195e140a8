"""The picture under construction, and the tools to paint a place: sky, hills, ground in perspective, walls, clutter."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np

from nnti.data.miniature import clutter
from nnti.data.miniature.colours import mix
from nnti.data.miniature.render import Light, Pose, paste, stamp
from nnti.data.miniature.sketch import Colour, Sketch
from nnti.data.miniature.textures import TILE, tile

__all__ = [
    "Stage",
    "add_hills",
    "add_row",
    "add_sketch",
    "grass_colour",
    "paint_ground",
    "paint_sky",
    "paint_wall",
    "set_horizon",
]


@dataclass
class Stage:
    """A picture under construction: float32 (H, W, 3), its light, and the pixel row of the horizon."""

    picture: np.ndarray
    light: Light
    sky: tuple[Colour, Colour]  # zenith, horizon
    horizon: float = 0.0
    rng: Random = field(default_factory=Random)

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) in pixels."""
        return self.picture.shape[1], self.picture.shape[0]


def add_sketch(
    stage: Stage, sketch: Sketch, x: float, y: float, scale: float, haze: float = 0.0, flip: bool = False
) -> None:
    """Draw clutter with its origin at pixel (x, y); `haze` in [0, 1] fades it towards the horizon's colour."""
    mark = stamp(sketch, Pose(x, y, scale, flip), stage.size, stage.light, stage.rng.randrange(TILE))
    if mark is None:
        return
    if haze:
        mark.colour[:] += haze * (np.float32(stage.sky[1]) * mark.cover[..., None] - mark.colour)
    paste(stage.picture, mark)


def paint_sky(stage: Stage, clouds: float | None = None) -> None:
    """Fill the picture with a sky and clouds; `clouds` from -0.5 (clear) to 0.5 (covered), by default random."""
    width, height = stage.size
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    zenith, horizon = (np.float32(colour) for colour in stage.sky)
    stage.picture[:] = zenith + (horizon - zenith) * down**0.8
    amount = stage.rng.uniform(-0.5, 0.45) if clouds is None else clouds
    field_ = _window(tile("cloud"), stage.rng, height, width)
    cover = np.clip(1.6 * field_ + amount, 0, 1)[..., None] * 0.85
    tone = np.float32(mix(horizon.astype(int).tolist(), (255, 252, 248), 0.65)) * (
        1 - 0.14 * np.clip(field_[..., None] * 2 - 0.5, 0, 1)
    )
    stage.picture += cover * (tone - stage.picture)


def _window(pattern: np.ndarray, rng: Random, height: int, width: int) -> np.ndarray:
    top, left = rng.randrange(TILE), rng.randrange(TILE)
    return pattern[(np.arange(height) + top)[:, None] % TILE, (np.arange(width) + left)[None] % TILE]


def paint_ground(
    stage: Stage, horizon: float, colour: Colour, material: str, end: float = 1e9, grain: float = 1.0, haze: float = 0.4
) -> None:
    """Cover rows from `horizon` to `end` with a textured plane that recedes towards the horizon of the stage."""
    width, height = stage.size
    first, last = max(0, int(round(horizon))), int(min(height, end))
    if last <= first:
        return
    rows = np.arange(first, last, dtype=np.float32)
    near = np.maximum(
        (rows - stage.horizon + 3) / (height - stage.horizon + 3), 0.03
    )  # 1 at the lower edge, towards 0 at the horizon
    depth = 1 / near[:, None]
    across = (np.arange(width, dtype=np.float32)[None] - width / 2) * depth * grain * 0.5 + stage.rng.randrange(TILE)
    along = 55 * grain * depth + stage.rng.randrange(TILE)
    pattern = tile(material)[np.broadcast_to(along, across.shape).astype(int) % TILE, across.astype(int) % TILE]
    tone = 1 + pattern * np.minimum(1, 2.2 * near[:, None])  # far away, texture blurs
    ground = np.float32(colour) * tone[..., None] * (0.8 + 0.25 * near[:, None, None])
    fade = (haze * np.clip(1 - 1.6 * near, 0, 1))[:, None, None]
    stage.picture[first:last] = ground + fade * (np.float32(stage.sky[1]) - ground)


def add_hills(stage: Stage, base: float, tall: float, colour: Colour, haze: float, material: str = "foliage") -> None:
    """Add a ridge up to `tall` pixels high above row `base`."""
    width, _ = stage.size
    steps, sketch = 9, Sketch()
    ridge = [(width * (step - 1) / (steps - 3), tall * stage.rng.uniform(0.25, 1.0)) for step in range(steps)]
    sketch.smooth([(-60, -20), *ridge, (width + 60, -20)], colour, material=material, solid=False)
    add_sketch(stage, sketch, 0, base, 1.0, haze)


def add_row(
    stage: Stage,
    draw: Callable[[Random], Sketch],
    base: float,
    scale: float,
    gap: float,
    haze: float,
    share: float = 1.0,
) -> None:
    """Add clutter all along row `base`, every `gap` pixels or so, each with probability `share`."""
    x, rng = stage.rng.uniform(-gap, 0), stage.rng
    variants = [draw(rng) for _ in range(3)]
    while x < stage.size[0] + gap / 2:
        if rng.random() < share:
            flip = rng.random() < 0.5 and draw is not clutter.house
            add_sketch(stage, rng.choice(variants), x, base, scale * rng.uniform(0.8, 1.2), haze, flip)
        x += gap * rng.uniform(0.75, 1.25)


def grass_colour(rng: Random) -> Colour:
    """Return the colour of grass, fresh or dry."""
    return rng.choice([(104, 144, 66), (126, 150, 74), (88, 124, 62), (160, 154, 88), (142, 138, 80)])


def set_horizon(stage: Stage, low: float, high: float) -> float:
    """Put the horizon at a share of the height between `low` and `high`, and return its row."""
    stage.horizon = stage.size[1] * stage.rng.uniform(low, high)
    return stage.horizon


def paint_wall(stage: Stage, floor: float, colour: Colour, pattern: str | None) -> None:
    """Fill the picture with a wall, brighter towards the light; `floor` is the row where the floor will begin."""
    width, height = stage.size
    texture = _window(tile(pattern or "plain"), stage.rng, height, width) * 0.6
    glow = 1.06 - 0.22 * np.abs(np.linspace(-1, 1, width, dtype=np.float32) - 0.6 * stage.light.side)[None]
    stage.picture[:] = np.float32(colour) * (glow + texture)[..., None]
    stage.horizon = floor - 0.22 * height
