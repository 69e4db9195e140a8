"""The VOC miniature: sprites of ten of its classes on plain scenes, written in VOC's layout and file formats."""

from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from nnti.data.miniature.paint import exposed, noise, shade
from nnti.data.miniature.publish import publish
from nnti.data.miniature.scenes import SCENES
from nnti.data.miniature.sprites import mask_of, varied
from nnti.data.voc import VOC, voc_colormap

VERSION = 4  # raise it when pictures change: older miniatures on disk are then drawn anew
SIZES = ((200, 160), (160, 200), (200, 140))  # width, height
# class → where it is at home
CLASSES = {
    "aeroplane": ("sky",),
    "bird": ("sky", "meadow", "water"),
    "boat": ("water",),
    "bus": ("street",),
    "car": ("street",),
    "cat": ("room", "meadow"),
    "motorbike": ("street",),
    "person": ("street", "room", "meadow"),
    "pottedplant": ("room",),
    "sheep": ("meadow",),
}
ELSEWHERE = ("meadow", "street", "room")  # where anything may be for once
STRAY = 0.12  # how often


def write_miniature_voc(root: Path, train: int = 240, val: int = 60) -> Path:
    """Draw `train` + `val` labelled pictures below `root` and return the path of VOCdevkit/VOC2012.

    The same arguments give the same bytes. A miniature that is there already is kept if it was drawn with the same
    ones. Raises DataError if the folder holds something else, such as the real data set, or cannot be written.
    """
    facts = {"version": VERSION, "train": train, "val": val}
    return publish(Path(root) / "VOCdevkit" / "VOC2012", facts, lambda draft: _write(draft, train, val))


def draw_picture(seed: str, name: str) -> tuple[Image.Image, Image.Image]:
    """Draw a picture in which a class is surely to be seen: RGB, and its label in mode L with void contours."""
    random = Random(seed)
    size = random.choice(SIZES)
    place = random.choice(ELSEWHERE if random.random() < STRAY else CLASSES[name])
    large, horizon = SCENES[place](random, (2 * size[0], 2 * size[1]))
    image, label = large.reduce(2), Image.new("L", size)
    for kind, length, x in _cast(random, name, place):
        sprite = varied(random, kind, length * min(size), turn=8)
        left, foot = round(x * size[0] - sprite.width / 2), _foot(random, kind, place, sprite, size, horizon // 2)
        if place not in ("sky", "water") and foot > horizon // 2:
            shade(image, x * size[0], foot, sprite.width)
        number = VOC.class_names.index("person" if kind == "bust" else kind)
        _paste(image, label, sprite, (left, foot - sprite.height), number)
    rng = np.random.default_rng(random.getrandbits(32))
    return exposed(random, image, 3 * noise(rng, size, 8) + 4 * noise(rng, size, 1)), label


def _cast(random: Random, name: str, place: str) -> list[tuple[str, float, float]]:
    """Return one to three things as (kind, share of the picture's shorter side, middle across), small ones first."""
    largest, x = random.uniform(0.5, 0.85), random.uniform(0.3, 0.7)
    cast = [(name, largest, x)]
    neighbours = [other for other, homes in CLASSES.items() if place in homes]
    for _ in range(random.choice((0, 0, 1, 1, 2))):
        stray = place in ELSEWHERE and random.random() < STRAY
        other = random.choice(list(CLASSES) if stray else neighbours)
        x = max((random.uniform(0.1, 0.9) for _ in range(4)), key=lambda x: min(abs(x - there[2]) for there in cast))
        cast.append((other, random.uniform(0.35, largest), x))
    cast = [("bust" if kind == "person" and random.random() < 0.3 else kind, *rest) for kind, *rest in cast]
    return sorted(cast, key=lambda thing: thing[1])


def _foot(random: Random, kind: str, place: str, sprite: Image.Image, size: tuple[int, int], horizon: int) -> int:
    """Return the row of the picture on which a sprite ends: what is large stands near, so low in the picture."""
    if place == "sky" or (kind == "aeroplane" and place != "room"):
        return round(random.uniform(sprite.height, max(sprite.height, horizon)))
    if kind == "bust":
        return size[1]
    near = random.uniform(max(sprite.size) / min(size), 1)
    return round(max(horizon + (size[1] - horizon) * (0.1 + 0.85 * near), 0.95 * sprite.height))


def _paste(image: Image.Image, label: Image.Image, sprite: Image.Image, at: tuple[int, int], number: int) -> None:
    """Paste a sprite, and its class number inside a ring of void that is three pixels wide."""
    image.paste(sprite, at, sprite)
    mask, corner = ImageOps.expand(mask_of(sprite), 2), (at[0] - 2, at[1] - 2)
    label.paste(255, corner, mask.filter(ImageFilter.MaxFilter(5)))
    label.paste(number, corner, mask.filter(ImageFilter.MinFilter(3)))


def _write(folder: Path, train: int, val: int) -> None:
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    names = [f"2012_{number:06d}" for number in range(train + val)]
    palette, classes = voc_colormap(256).tobytes(), list(CLASSES)
    for number, name in enumerate(names):
        shift = number // len(classes)  # every tenth picture, say, is not always of the same class
        image, label = draw_picture(name, classes[(number + shift) % len(classes)])
        image.save(folder / "JPEGImages" / f"{name}.jpg", quality=92)
        label.putpalette(palette)  # turns mode L into P, the indices stay
        label.save(folder / "SegmentationClass" / f"{name}.png")
    for split, part in {"train": names[:train], "val": names[train:], "trainval": names}.items():
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(part) + "\n")
