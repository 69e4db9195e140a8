"""From sketches to pixels: rasterise at three times the size, shade as rounded bodies under a light, paste.

Images here are float32 (H, W, 3) with values 0 … 255; coverage is float32 (H, W) in [0, 1].
"""

from dataclasses import dataclass
from math import cos, sin

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from nnti.data.miniature.sketch import Part, Sketch
from nnti.data.miniature.textures import MATERIALS, TILE, tile_bank

__all__ = ["Light", "Pose", "Stamp", "cast_shadow", "paste", "stamp"]

OVERSAMPLING = 3


@dataclass(frozen=True)
class Light:
    """Where light comes from and what it does: `side` -1 (left) … 1 (right), how strong shading and shadows are."""

    side: float = -0.6
    contrast: float = 1.0
    shadow: float = 0.5
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gain: float = 1.0


@dataclass(frozen=True)
class Pose:
    """Where a sketch lands: its origin's pixel, pixels per unit, mirroring, turn in radians, stretch in x."""

    x: float
    y: float
    scale: float
    flip: bool = False
    turn: float = 0.0
    stretch: float = 1.0

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map sketch coordinates (N, 2) to pixel coordinates (N, 2), y down."""
        across = points[:, 0] * (-self.stretch if self.flip else self.stretch)
        up = points[:, 1]
        right = across * cos(self.turn) - up * sin(self.turn)
        rise = across * sin(self.turn) + up * cos(self.turn)
        return np.stack([self.x + self.scale * right, self.y - self.scale * rise], 1)


@dataclass(frozen=True)
class Stamp:
    """A shaded sketch, ready to paste: its top left pixel, its colours times coverage, and its coverage."""

    left: int
    top: int
    colour: np.ndarray  # (h, w, 3)
    cover: np.ndarray  # (h, w)

    @property
    def window(self) -> tuple[slice, slice]:
        """Return the rows and columns of the picture that it covers."""
        height, width = self.cover.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def stamp(sketch: Sketch, pose: Pose, size: tuple[int, int], light: Light, shift: int = 0) -> Stamp | None:
    """Rasterise and shade the part of a sketch that lies in a picture of `size` (width, height); None if none does.

    `shift` moves the textures, so that two objects of one kind do not share their noise.
    """
    outline = pose.apply(np.concatenate([part.points for part in sketch.parts]))
    left, top = np.maximum(np.floor(outline.min(0)).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(outline.max(0)).astype(int) + 1, size)
    if right - left < 2 or bottom - top < 2:
        return None
    colour, material, relief = _rasterise(sketch.parts, outline - (left, top), int(right - left), int(bottom - top))
    cover = np.asarray(material.point(_IS_DRAWN).reduce(OVERSAMPLING), np.float32) / 255
    kinds = np.asarray(material)[1::OVERSAMPLING, 1::OVERSAMPLING]
    tone = (
        _shading(relief.reduce(OVERSAMPLING), light)
        + _texture(kinds, shift)
        + _bounce(pose, sketch, top, cover.shape[0])[:, None]
    )
    shaded = np.asarray(colour.reduce(OVERSAMPLING), np.float32) * tone[..., None]
    return Stamp(int(left), int(top), np.clip(shaded, 0, 255), cover)


def paste(picture: np.ndarray, mark: Stamp) -> None:
    """Lay a stamp over the picture, in place."""
    region = picture[mark.window]
    region *= 1 - mark.cover[..., None]
    region += mark.colour


def cast_shadow(picture: np.ndarray, mark: Stamp, ground: float, light: Light, squash: float = 0.22) -> None:
    """Darken the ground under and beside an object whose feet stand on pixel row `ground`, in place."""
    height, width = picture.shape[:2]
    canvas = Image.new("L", (width, height))
    canvas.paste(Image.fromarray((255 * mark.cover).astype(np.uint8)), (mark.left, mark.top))
    lean = -1.2 * light.side
    # The shadow's pixel `rise` rows above the ground shows the object's pixel rise / squash rows above it.
    lying = canvas.transform(
        (width, height),
        Image.Transform.AFFINE,
        (1, lean, -lean * ground, 0, 1 / squash, ground - ground / squash),
        Image.Resampling.BILINEAR,
    )
    soft = np.asarray(lying.filter(ImageFilter.BoxBlur(2.0)), np.float32) / 255
    picture *= 1 - light.shadow * soft[..., None]


_IS_DRAWN = [0] + [255] * 255


def _rasterise(
    parts: list[Part], outline: np.ndarray, width: int, height: int
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Draw colours (RGB), material numbers + 1 (L, 0 = nothing) and the bulge of the parts (L), all enlarged.

    `outline` holds the points of all parts in pixels, one part after the other: (N, 2).
    """
    size = (width * OVERSAMPLING, height * OVERSAMPLING)
    colour, material, relief = Image.new("RGB", size), Image.new("L", size), Image.new("L", size)
    on_colour, on_material, on_relief = (ImageDraw.Draw(image) for image in (colour, material, relief))
    outline = outline * OVERSAMPLING
    for part, path, core in zip(parts, *_paths(parts, outline), strict=True):
        kind = MATERIALS.index(part.material) + 1
        if part.clip:
            inside = Image.new("L", size)
            ImageDraw.Draw(inside).polygon(path, fill=255)
            inside = ImageChops.darker(inside, material.point(_IS_DRAWN))
            colour.paste(part.colour, mask=inside)
            material.paste(kind, mask=inside)
            continue
        on_colour.polygon(path, fill=part.colour)
        on_material.polygon(path, fill=kind)
        if part.solid:  # two terraces, which the blur in `_shading` turns into a dome
            on_relief.polygon(path, fill=120)
            on_relief.polygon(core, fill=200)
    return colour, material, relief


def _paths(parts: list[Part], outline: np.ndarray) -> tuple[list[list[float]], list[list[float]]]:
    """Return each part's outline as x, y, x, y, …, and the same shrunk towards its centre."""
    lengths = np.array([len(part.points) for part in parts])
    ends = np.cumsum(lengths)
    centres = np.add.reduceat(outline, ends - lengths) / lengths[:, None]
    centres = np.repeat(centres, lengths, 0)
    full, core = outline.ravel().tolist(), (centres + 0.55 * (outline - centres)).ravel().tolist()
    pieces = [slice(2 * (end - length), 2 * end) for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    return [full[piece] for piece in pieces], [core[piece] for piece in pieces]


def _shading(relief: Image.Image, light: Light) -> np.ndarray:
    """Return brightness (h, w): surfaces that turn towards the light are above 1."""
    radius = max(1.0, 0.035 * (relief.width * relief.height) ** 0.5)
    height = np.asarray(relief.filter(ImageFilter.GaussianBlur(radius)), np.float32)
    slope_y, slope_x = np.gradient(height)
    slope = (0.9 * slope_y - light.side * slope_x) * (radius / 255)
    return 1.0 + light.contrast * np.clip(1.1 * slope, -0.45, 0.4)


def _texture(kinds: np.ndarray, shift: int) -> np.ndarray:
    rows = (np.arange(kinds.shape[0]) + 7 * shift)[:, None] % TILE
    columns = (np.arange(kinds.shape[1]) + 13 * shift)[None] % TILE
    return tile_bank()[np.maximum(kinds, 1) - 1, rows, columns]


def _bounce(pose: Pose, sketch: Sketch, top: int, rows: int) -> np.ndarray:
    """Return how much brighter each row is: the upper part of an object sees more of the sky than the lower one."""
    _, low, _, high = sketch.bounds()
    up = (pose.y - top - np.arange(rows, dtype=np.float32)) / max(pose.scale * (high - low), 1e-6) - low / max(
        high - low, 1e-6
    )
    return 0.24 * (np.clip(up, 0, 1) - 0.55)
