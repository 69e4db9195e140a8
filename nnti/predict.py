"""Segment image files: a palette PNG of class numbers and a colour overlay beside each other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from nnti.data.base import DataError, read_image
from nnti.evaluate import predict_image

__all__ = ["predict_files"]


def predict_files(model: nn.Module, checkpoint: dict, images: Sequence[Path], output: Path) -> Iterator[Path]:
    """Write OUTPUT/<stem>_labels.png (palette PNG of class numbers) and OUTPUT/<stem>_overlay.png; yield both paths.

    Args:
        model: in eval mode. checkpoint: as `nnti.records.load_model` returns it beside the model.
        images: files in any format that Pillow reads, of any size. output: folder, made if need be.
    """
    output.mkdir(parents=True, exist_ok=True)
    palette = np.array(checkpoint["palette"], dtype=np.uint8)
    taken: set[str] = set()
    for path in images:
        image, name = _read(path), _free_name(path.stem, taken)
        labels = predict_image(model, image, checkpoint["experiment"]["precision"]).numpy()
        mask = Image.fromarray(labels)  # mode L becomes P with its palette
        mask.putpalette(palette.flatten().tolist())
        mask.save(output / f"{name}_labels.png")
        yield output / f"{name}_labels.png"
        blend = 0.45 * image.permute(1, 2, 0).numpy() + 0.55 * palette[labels]
        Image.fromarray(blend.round().astype(np.uint8)).save(output / f"{name}_overlay.png")
        yield output / f"{name}_overlay.png"


def _read(path: Path) -> Tensor:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        return read_image(path)
    except DataError as error:
        raise DataError(
            f"{path} is not an image that can be read; JPEG, PNG and whatever Pillow knows will do"
        ) from error


def _free_name(stem: str, taken: set[str]) -> str:
    """Return `stem`, or `stem`_2, `stem`_3, … where a picture of that name came before, and note it as taken."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name
