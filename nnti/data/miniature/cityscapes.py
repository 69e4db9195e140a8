"""Write the miniature Cityscapes to disk, in the layout and the file formats of the real one."""

from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from nnti.data.miniature.publish import publish_once
from nnti.data.miniature.streets_life import FEATURES
from nnti.data.miniature.streets_scene import render_street

__all__ = ["CITIES", "RENDERER_VERSION", "plan_miniature_cityscapes", "write_miniature_cityscapes"]

RENDERER_VERSION = 1  # raise it when pictures change: older miniatures on disk are then rendered anew
COMPRESSION = 3  # of the pictures: half the time of the usual 6 for a tenth more bytes
CITIES = {
    "train": ("aachen", "bremen", "hamburg", "stuttgart", "zurich"),
    "val": ("frankfurt", "lindau", "munster"),
}
_FRAME = 19  # the labelled frame of a sequence, as in most real file names


def write_miniature_cityscapes(root: Path, train: int = 160, val: int = 40, seed: int = 0) -> Path:
    """Render `train` + `val` labelled street scenes below `root` and return the path of its folder `cityscapes`.

    Pictures are 256 × 128 pixels. Labels hold the ids of Cityscapes' own table (not train ids), as
    `_gtFine_labelIds.png`, `_gtFine_instanceIds.png` and `_gtFine_color.png`.

    The same arguments give the same bytes. A miniature that is there already is kept if its arguments match
    and rendered anew if they differ. Images appear all at once, when the last one is done, so that a killed
    process leaves nothing behind that looks complete and two processes can render at the same time.

    Raises:
        ValueError: a split would be empty.
        DataError: the folder holds something that is no miniature, such as the real data set.
    """
    if train < 1 or val < 1:
        raise ValueError(f"train and val are numbers of images and must be at least 1, got train={train}, val={val}")
    facts = {"renderer_version": RENDERER_VERSION, "seed": seed, "train": train, "val": val}
    folder = Path(root) / "cityscapes"
    return publish_once(folder, facts, partial(_render, train=train, val=val, seed=seed))


def plan_miniature_cityscapes(train: int, val: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Return, for each split, its (image name, kind of thing that is surely visible); the kinds take turns.

    Names are `city_sequence_frame`; the images of a split go round its cities.
    """
    rng = Random(f"streets-plan-{seed}")
    counts = {"train": train, "val": val}
    return {split: list(zip(_names(split, count), _turns(rng, count), strict=True)) for split, count in counts.items()}


def _names(split: str, count: int) -> list[str]:
    cities = CITIES[split]
    places = [(cities[number % len(cities)], number // len(cities)) for number in range(count)]
    return [f"{city}_{sequence:06d}_{_FRAME:06d}" for city, sequence in places]


def _turns(rng: Random, count: int) -> list[str]:
    features: list[str] = []
    while len(features) < count:
        features += rng.sample(FEATURES, len(FEATURES))
    return features[:count]


def _render(folder: Path, train: int, val: int, seed: int) -> None:
    for split, members in plan_miniature_cityscapes(train, val, seed).items():
        for name, feature in members:
            city = name.split("_")[0]
            images, truth = folder / "leftImg8bit" / split / city, folder / "gtFine" / split / city
            for part in (images, truth):
                part.mkdir(parents=True, exist_ok=True)
            image, label, instance = render_street(feature, f"{seed}-{name}")
            image.save(images / f"{name}_leftImg8bit.png", compress_level=COMPRESSION)
            Image.fromarray(label).save(truth / f"{name}_gtFine_labelIds.png")
            Image.fromarray(instance).save(truth / f"{name}_gtFine_instanceIds.png")
            Image.fromarray(_colours()[label]).save(truth / f"{name}_gtFine_color.png")


@cache
def _colours() -> np.ndarray:
    """Return the table's colour of each id, opaque: uint8 (256, 4)."""
    colours = np.zeros((256, 4), np.uint8)
    colours[:, 3] = 255
    for label in labels:
        if label.id >= 0:  # the table's licence plate, -1, is not in label files
            colours[label.id, :3] = label.color
    return colours
