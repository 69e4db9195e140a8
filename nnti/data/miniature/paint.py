"""Colours, gradients and noise for the miniatures' scenes."""

from colorsys import hsv_to_rgb
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]


def tone(random: Random, hue: float, saturation: float, value: float) -> Colour:
    """Return a colour near the given one, whose parts lie in 0 … 1."""
    hue = (hue + random.uniform(-0.04, 0.04)) % 1
    saturation, value = saturation + random.uniform(-0.08, 0.08), value + random.uniform(-0.1, 0.1)
    return tuple(round(255 * part) for part in hsv_to_rgb(hue, min(1, max(0, saturation)), min(1, max(0, value))))


def dimmed(colour: Colour, factor: float) -> Colour:
    """Return a darker colour, or with a factor above 1 a lighter one."""
    return tuple(min(255, round(part * factor)) for part in colour)


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """Return a picture of (width, height) pixels that goes from one colour to another: RGB."""
    width, height = size
    share = np.linspace(0, 1, height)[:, None, None]
    rows = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(rows.repeat(width, axis=1).astype(np.uint8))


def noise(rng: np.random.Generator, size: tuple[int, int], cell: int) -> np.ndarray:
    """Return smooth noise of standard normal values on cells of `cell` pixels: float32 (height, width)."""
    width, height = size
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def exposed(random: Random, image: Image.Image, texture: np.ndarray) -> Image.Image:
    """Return an RGB picture in another light, of another colour, and with a texture (H, W) added."""
    light = random.uniform(0.85, 1.08) * np.array([random.uniform(0.95, 1.05) for _ in range(3)])
    pixels = np.asarray(image) * light + texture[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def shade(image: Image.Image, middle: float, foot: float, width: float) -> None:
    """Darken the ground under something of some width that stands at a point (middle, foot) of an RGB picture."""
    low = max(2, round(width * 0.06))
    mask = Image.new("L", (round(width) + 8, 2 * low + 8))
    ImageDraw.Draw(mask).ellipse((4, 4, mask.width - 4, mask.height - 4), 110)
    mask = mask.filter(ImageFilter.BoxBlur(2))
    image.paste((20, 20, 30), (round(middle - mask.width / 2), round(foot - 0.6 * mask.height)), mask)
