"""Data sets with the originals' sizes of pictures and files, made from the miniatures: enlarged, with a sensor's noise.

Noise of one grey level makes the PNGs about as large as those of Cityscapes (2.4 MB), which decides what reading costs.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from nnti.data import load_dataset
from nnti.data.cityscapes import to_label_ids

__all__ = ["write_cityscapes_like", "write_voc_like"]

NOISE = 1.0  # grey levels
CITYSCAPES_SIZE = (2048, 1024)  # (width, height), as Pillow has it
VOC_SIZE = (500, 375)


def write_cityscapes_like(root: Path, count: int) -> Path:
    """Write `count` training pictures, PNGs of 2048 × 1024, in Cityscapes' layout; return the root."""
    for name, image, label in _enlarged("cityscapes_miniature", count, CITYSCAPES_SIZE):
        _save(image, root / "leftImg8bit" / "train" / "aachen" / f"{name}_leftImg8bit.png")
        label = Image.fromarray(to_label_ids(np.asarray(label)))
        _save(label, root / "gtFine" / "train" / "aachen" / f"{name}_gtFine_labelIds.png")
    return root


def write_voc_like(root: Path, count: int) -> Path:
    """Write `count` training pictures, JPEGs of 500 × 375, in VOC's layout; return the root."""
    voc, names = root / "VOCdevkit" / "VOC2012", []
    for name, image, label in _enlarged("voc_miniature", count, VOC_SIZE):
        _save(image, voc / "JPEGImages" / f"{name}.jpg", quality=90)
        _save(label, voc / "SegmentationClass" / f"{name}.png")
        names.append(name)
    listed = voc / "ImageSets" / "Segmentation" / "train.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("".join(f"{name}\n" for name in names))
    return root


def _enlarged(dataset: str, count: int, size: tuple[int, int]):
    """Yield (name, image, label) as Pillow images."""
    small, random = load_dataset(dataset, "train"), np.random.default_rng(0)
    for at in range(count):
        image, label = (tensor.numpy() for tensor in small[at % len(small)])
        image = np.asarray(Image.fromarray(image.transpose(1, 2, 0).copy()).resize(size, Image.Resampling.BICUBIC))
        noisy = (image + random.normal(0, NOISE, image.shape)).round().clip(0, 255).astype(np.uint8)
        name = f"aachen_{at:06d}_000019"
        yield name, Image.fromarray(noisy), Image.fromarray(label).resize(size, Image.Resampling.NEAREST)


def _save(image: Image.Image, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
