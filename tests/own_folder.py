"""Builder of a folder of one's own images and masks, as a user would have it."""

from pathlib import Path

import layouts
import numpy as np
import pytest

from nnti.data import DataError, Folder

NAMES = [f"{place}/photo{number}" for place in ("park", "town") for number in range(5)]
ROWS = [("ground", 0, 0, 0), ("tree", 0, 128, 0), ("car", 128, 0, 0), ("void", 255, 255, 255)]
TABLE = np.array([row[1:] for row in ROWS], dtype=np.uint8)
CSV = "name,red,green,blue\n" + "".join(f"{','.join(map(str, row))}\n" for row in ROWS)


def label_of(name: str) -> np.ndarray:
    """Classes 0, 1, 2 and void, 255."""
    return layouts.draw_label(name, 3, 255)


def write_folder(root: Path, kind: str = "values", names=NAMES) -> Path:
    """Write a folder of `names` with masks of "values" (grey), of a "palette", or of "colours"."""
    for name in names:
        label = label_of(name)
        layouts.save_image(root / "images" / f"{name}.png", layouts.draw_image(name))
        mask = root / "masks" / f"{name}.png"
        if kind == "colours":
            layouts.save_image(mask, TABLE[np.where(label == 255, 3, label)])
        else:
            (layouts.save_palette if kind == "palette" else layouts.save_image)(mask, label)
    if kind == "colours":
        (root / "colours.csv").write_text(CSV)
    else:
        (root / "classes.txt").write_text("ground\ntree\ncar\n")
    return root


def fault_of(root: Path, **arguments) -> str:
    """The error of opening a folder, or else of reading all of it."""
    with pytest.raises(DataError) as error:
        list(Folder(root, **arguments))
    return str(error.value)


def mask_path(root: Path, name: str) -> Path:
    return root / "masks" / f"{name}.png"
