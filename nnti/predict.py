"""Segment image files: a palette PNG of class numbers and a colour overlay beside each other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from nnti.data.base import read_image
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
    for path in images:
        image = read_image(path)
        labels = predict_image(model, image, checkpoint["experiment"]["precision"]).numpy()
        mask = Image.fromarray(labels)  # mode L becomes P with its palette
        mask.putpalette(palette.flatten().tolist())
        mask.save(output / f"{path.stem}_labels.png")
        yield output / f"{path.stem}_labels.png"
        blend = 0.45 * image.permute(1, 2, 0).numpy() + 0.55 * palette[labels]
        Image.fromarray(blend.round().astype(np.uint8)).save(output / f"{path.stem}_overlay.png")
        yield output / f"{path.stem}_overlay.png"
