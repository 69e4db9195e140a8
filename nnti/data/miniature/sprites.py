"""Sprites: glyphs of Noto Color Emoji, kept in one sheet so that drawing the miniatures needs no font.

Whoever changes `GLYPHS` draws the sheet anew (apt-get install fonts-noto-color-emoji; Pillow with Raqm):
python -m nnti.data.miniature.sprites /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
"""

import sys
from functools import cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont

SHEET = Path(__file__).with_name("sprites.png")
WIDTH, HEIGHT = 136, 128  # pixels of a cell, which are those of the font's bitmaps
FONT_SIZE = 109  # the only one that the font has bitmaps of
# name → its glyphs: one row of the sheet
GLYPHS = {
    "aeroplane": "✈ 🛩",
    "bird": "🐦 🦜 🦢 🦆",
    "boat": "⛵ 🚤 🛶 🚢",
    "bus": "🚌 🚍 🚎",
    "car": "🚗 🚙 🚕 🚘 🚖",
    "cat": "🐈 🐈‍⬛",
    "motorbike": "🏍 🛵",
    "person": "🧍🏽 🧍🏾‍♀️ 🧍🏻‍♂️ 🚶🏼 🚶🏿‍♀️ 🏃 🏃🏽‍♀️",
    "bust": "👷🏾 🙋🏻‍♀️ 👩🏿‍🌾 👨🏼‍🍳 🧕🏽",
    "pottedplant": "🪴",
    "sheep": "🐑 🐏",
    "truck": "🚚 🚛",
    "train": "🚆 🚋 🚊",
    "rider": "🚴 🚴🏿‍♀️ 🚴🏻‍♂️",
    "bicycle": "🚲",
    "traffic light": "🚦",
    "traffic sign": "🛑 ⚠ 🚸 ⛔ 🅿",
    "tree": "🌳 🌲",
    "bin": "🗑 📮",
    "dog": "🐕 🐩",
    "flower": "🌷 🌼 🌻",
    "cloud": "☁",
    "on the wall": "🖼 🪟",
}


@cache
def cut_sheet() -> dict[str, list[Image.Image]]:
    """Return the sprites of each name in `GLYPHS`: RGBA pictures without empty borders."""
    sheet, sprites = Image.open(SHEET).convert("RGBA"), {name: [] for name in GLYPHS}
    for left, top, name, _ in _cells():
        cell = sheet.crop((left, top, left + WIDTH, top + HEIGHT))
        sprites[name].append(cell.crop(cell.getbbox()))
    return sprites


def varied(random: Random, name: str, size: float, by_height=False, mirror=True, turn=0.0) -> Image.Image:
    """Return one of the sprites of a name, chosen and changed at random: RGBA.

    `size` is its longer side, or its height if `by_height`, in pixels; `mirror` says whether it may look the other way,
    and `turn` is the largest rotation to either side, degrees.
    """
    sprite = random.choice(cut_sheet()[name])
    factor = size / (sprite.height if by_height else max(sprite.size))
    sprite = sprite.resize([max(3, round(side * factor)) for side in sprite.size], Image.Resampling.LANCZOS)
    if mirror and random.random() < 0.5:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turn:
        sprite = sprite.rotate(random.uniform(-turn, turn), Image.Resampling.BICUBIC, expand=True)
        sprite = sprite.crop(sprite.getbbox())
    return _recoloured(sprite, random.randint(-9, 9), random.uniform(0.8, 1.1))


def mask_of(sprite: Image.Image) -> Image.Image:
    """Return where a sprite covers more than half a pixel: mode L, 0 or 255."""
    return sprite.getchannel("A").point(lambda alpha: 255 * (alpha > 127))


def draw_sheet(font: str | Path) -> Image.Image:
    """Return the sheet, drawn with the font's file NotoColorEmoji.ttf: RGBA."""
    noto, cells = ImageFont.truetype(font, FONT_SIZE), _cells()
    sheet = Image.new("RGBA", (max(cell[0] for cell in cells) + WIDTH, len(GLYPHS) * HEIGHT))
    for left, top, _, glyph in cells:
        middle = left + WIDTH / 2, top + HEIGHT / 2
        ImageDraw.Draw(sheet).text(middle, glyph, font=noto, anchor="mm", embedded_color=True)
    return Image.frombytes("RGBa", sheet.size, sheet.tobytes()).convert("RGBA")  # text comes multiplied by its alpha


def _cells() -> list[tuple[int, int, str, str]]:
    """Return left and top of each cell, pixels of the sheet, with its name and glyph."""
    rows = enumerate(GLYPHS.items())
    return [(x * WIDTH, y * HEIGHT, name, glyph) for y, (name, row) in rows for x, glyph in enumerate(row.split())]


def _recoloured(sprite: Image.Image, shift: int, light: float) -> Image.Image:
    """Turn the hues by `shift` (256 is the whole circle) and multiply brightness by `light`."""
    hue, saturation, value = sprite.convert("RGB").convert("HSV").split()
    hue, value = hue.point(lambda h: (h + shift) % 256), value.point(lambda v: v * light)
    changed = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    changed.putalpha(sprite.getchannel("A"))
    return changed


if __name__ == "__main__":
    draw_sheet(sys.argv[1]).save(SHEET, optimize=True)
