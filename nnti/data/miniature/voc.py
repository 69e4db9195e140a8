"""Write the miniature to disk, in the layout and the file formats of PASCAL VOC 2012."""

from functools import partial
from pathlib import Path
from random import Random

from PIL import Image

from nnti.data.miniature.objects import KINDS
from nnti.data.miniature.publish import publish_once
from nnti.data.miniature.scene import render_scene
from nnti.data.voc import voc_colormap

__all__ = ["RENDERER_VERSION", "plan_miniature", "write_miniature_voc"]

RENDERER_VERSION = 2  # raise it when pictures change: older miniatures on disk are then rendered anew
JPEG_QUALITY = 92


def write_miniature_voc(root: Path, train: int = 240, val: int = 60, seed: int = 0) -> Path:
    """Render `train` + `val` labelled images below `root` and return the path of VOCdevkit/VOC2012.

    The same arguments give the same bytes. A miniature that is there already is kept if its arguments match
    and rendered anew if they differ. Images appear all at once, when the last one is done, so that a killed
    process leaves nothing behind that looks complete and two processes can render at the same time.

    Raises:
        ValueError: a split would be empty.
        DataError: VOCdevkit/VOC2012 holds something that is no miniature, such as the real data set.
    """
    if train < 1 or val < 1:
        raise ValueError(f"train and val are numbers of images and must be at least 1, got train={train}, val={val}")
    folder = Path(root) / "VOCdevkit" / "VOC2012"
    facts = {"renderer_version": RENDERER_VERSION, "seed": seed, "train": train, "val": val}
    return publish_once(folder, facts, partial(_render, train=train, val=val, seed=seed))


def plan_miniature(train: int, val: int, seed: int) -> dict[str, list[tuple[str, int]]]:
    """Return, for each split, its (image name, class that is surely visible); the classes take turns."""
    rng = Random(f"plan-{seed}")
    names = [f"2012_{number:06d}" for number in range(1, train + val + 1)]
    held_out = set(rng.sample(names, val))
    splits = {"train": [name for name in names if name not in held_out], "val": sorted(held_out)}
    return {split: list(zip(members, _turns(rng, len(members)), strict=True)) for split, members in splits.items()}


def _turns(rng: Random, count: int) -> list[int]:
    classes: list[int] = []
    while len(classes) < count:
        classes += rng.sample(sorted(KINDS), len(KINDS))
    return classes[:count]


def _render(folder: Path, train: int, val: int, seed: int) -> None:
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    plan, palette = plan_miniature(train, val, seed), voc_colormap(256).tobytes()
    for name, number in plan["train"] + plan["val"]:
        image, label = render_scene(number, f"{seed}-{name}")
        image.save(folder / "JPEGImages" / f"{name}.jpg", quality=JPEG_QUALITY)
        mask = Image.fromarray(label)
        mask.putpalette(palette)  # turns mode L into P, indices unchanged
        mask.save(folder / "SegmentationClass" / f"{name}.png")
    lists = {split: [name for name, _ in members] for split, members in plan.items()}
    lists["trainval"] = sorted(lists["train"] + lists["val"])
    for split, names in lists.items():
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
