"""The Cityscapes miniature: drawn streets, written in the layout and the file formats of the real data set."""

from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels
from PIL import Image

from nnti.data.miniature.publish import publish
from nnti.data.miniature.streets import FEATURES, draw_street

VERSION = 2  # raise it when pictures change: older miniatures on disk are then drawn anew
CITIES = {"train": ("aachen", "bremen", "hamburg", "stuttgart", "zurich"), "val": ("frankfurt", "lindau", "munster")}


def write_miniature_cityscapes(root: Path, train: int = 160, val: int = 40) -> Path:
    """Draw `train` + `val` labelled streets below `root` and return the path of its folder `cityscapes`.

    Pictures have 256 × 128 pixels. Labels hold the ids of Cityscapes' own table (not train ids), as
    `_gtFine_labelIds.png`, `_gtFine_instanceIds.png` and `_gtFine_color.png`. Otherwise as `write_miniature_voc`.
    """
    facts = {"version": VERSION, "train": train, "val": val}
    return publish(Path(root) / "cityscapes", facts, lambda draft: _write(draft, {"train": train, "val": val}))


def _write(folder: Path, counts: dict[str, int]) -> None:
    colours = np.array([(*label.color, 255) for label in labels if label.id >= 0], np.uint8)  # row = id
    for split, count in counts.items():
        for number in range(count):
            sequence, turn = divmod(number, len(CITIES[split]))
            city = CITIES[split][turn]
            name = f"{city}_{sequence:06d}_000019"
            images, truth = folder / "leftImg8bit" / split / city, folder / "gtFine" / split / city
            for part in (images, truth):
                part.mkdir(parents=True, exist_ok=True)
            image, ids, instances = draw_street(name, FEATURES[number % len(FEATURES)])
            image.save(images / f"{name}_leftImg8bit.png", compress_level=3)  # faster than 6
            for kind, array in (("labelIds", ids), ("instanceIds", instances), ("color", colours[ids])):
                Image.fromarray(array).save(truth / f"{name}_gtFine_{kind}.png")
