"""Builders of tiny data sets in exactly the layout and file formats of the originals."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

VOC_TRAIN = ["2007_000032", "2007_000039", "2008_000008"]
VOC_VAL = ["2007_000033", "2008_000073"]
# as in the original, SBD overlaps with both splits of VOC and adds images of its own
SBD_TRAIN = ["2008_000002", "2008_000008", "2007_000033"]
SBD_VAL = ["2008_000043", "2008_000073", "2007_000039"]
TRAIN_AUG = ["2007_000032", "2007_000039", "2008_000002", "2008_000008", "2008_000043"]
CAMVID = {
    "train": ["0001TP_006690", "0001TP_006720", "0006R0_f00930"],
    "val": ["0016E5_07959"],
    "test": ["0001TP_008550"],
}
# one city whose sequences are long, one with a hyphen, one whose frames are not the 19th
CITYSCAPES = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "hamburg_000000_000042"],
    "val": ["frankfurt_000000_000294", "munster_000173_000019"],
    "test": ["berlin_000543_000019"],
    "train_extra": ["bad-honnef_000000_000000", "troisdorf_000000_000073", "troisdorf_000000_000103"],
}
# where the archives were unpacked: images, images of train_extra, fine labels, coarse labels
CITYSCAPES_LAYOUTS = {
    "plain": ("leftImg8bit", "leftImg8bit", "gtFine", "gtCoarse"),
    "archives": (
        "leftImg8bit_trainvaltest/leftImg8bit",
        "leftImg8bit_trainextra/leftImg8bit",
        "gtFine_trainvaltest/gtFine",
        "gtCoarse/gtCoarse",
    ),
    "mixed": ("cityscapes/leftImg8bit", "leftImg8bit_trainextra/leftImg8bit", "gtFine", "Cityscapes/gtCoarse"),
}


def size_of(name: str) -> tuple[int, int]:
    """(height, width) of a picture, different for different names."""
    seed = int("".join(sign for sign in name if sign.isdigit()))
    return 37 + seed % 5, 50 + seed % 7


def draw_image(name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    return _random(name, "image").integers(0, 256, (*(size or size_of(name)), 3), dtype=np.uint8)


def draw_label(name: str, classes: int, void: int | None, kind: str = "label") -> np.ndarray:
    """A few rectangles of classes on class 0, each with a contour of void."""
    random, (height, width) = _random(name, kind), size_of(name)
    label = np.zeros((height, width), dtype=np.uint8)
    for _ in range(3):
        top, left = random.integers(0, height - 12), random.integers(0, width - 12)
        box = label[top : top + 12, left : left + 12]
        box[:] = random.integers(1, classes) if void is None else void
        box[2:-2, 2:-2] = random.integers(1, classes)
    return label


def voc_palette() -> list[int]:
    """The 256 colours of VOC's PNGs, written bit by bit as in the development kit."""
    colours = []
    for number in range(256):
        red = green = blue = 0
        for level in range(8):
            red |= (number >> 0 & 1) << (7 - level)
            green |= (number >> 1 & 1) << (7 - level)
            blue |= (number >> 2 & 1) << (7 - level)
            number >>= 3
        colours += [red, green, blue]
    return colours


def write_voc(root: Path) -> Path:
    """Write VOCdevkit/VOC2012 below `root`, with the images of VOC only; return VOC2012."""
    voc = root / "VOCdevkit" / "VOC2012"
    lists = {"train": VOC_TRAIN, "val": VOC_VAL, "trainval": sorted(VOC_TRAIN + VOC_VAL)}
    for name in lists["trainval"]:
        save_image(voc / "JPEGImages" / f"{name}.jpg", draw_image(name))
        save_palette(voc / "SegmentationClass" / f"{name}.png", draw_label(name, 21, 255))
    for split, names in lists.items():
        write_list(voc / "ImageSets" / "Segmentation" / f"{split}.txt", names)
    return voc


def write_sbd(folder: Path) -> Path:
    """Write cls/, img/, train.txt and val.txt into `folder` and return it."""
    for name in SBD_TRAIN + SBD_VAL:
        save_image(folder / "img" / f"{name}.jpg", draw_image(name))
        save_mat(folder / "cls" / f"{name}.mat", sbd_label(name))
    write_list(folder / "train.txt", SBD_TRAIN)
    write_list(folder / "val.txt", SBD_VAL)
    return folder


def write_segmentation_class_aug(voc: Path) -> None:
    """Write SBD's labels as grey PNGs, with VOC's own for VOC's images, as the ready folder has them."""
    for name in {*SBD_TRAIN, *SBD_VAL, *VOC_TRAIN, *VOC_VAL}:
        save_image(voc / "SegmentationClassAug" / f"{name}.png", train_aug_label(name))
        save_image(voc / "JPEGImages" / f"{name}.jpg", draw_image(name))


def train_aug_label(name: str) -> np.ndarray:
    """VOC's own label where there is one, else SBD's."""
    return draw_label(name, 21, 255) if name in VOC_TRAIN + VOC_VAL else sbd_label(name)


def write_camvid(folder: Path, splits=("train", "val", "test"), ending: str = ".png") -> Path:
    """Write the folder CamVid of the SegNet tutorial: images, grey labels with void 11, lists of path pairs."""
    for split in splits:
        lines = []
        for name in CAMVID[split]:
            save_image(folder / split / f"{name}{ending}", draw_image(name))
            save_image(folder / f"{split}annot" / f"{name}.png", draw_label(name, 11, 11))
            lines.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png")
        write_list(folder / f"{split}.txt", lines)
    return folder


def write_cityscapes(root: Path, layout: str = "plain", splits=("train", "val", "test")) -> Path:
    """Write leftImg8bit and gtFine below `root`; "train_extra" among the splits adds its images and all of gtCoarse."""
    images, extra, fine, coarse = CITYSCAPES_LAYOUTS[layout]
    for split in splits:
        for name in CITYSCAPES[split]:
            city = name.split("_")[0]
            folder = root / (extra if split == "train_extra" else images) / split / city
            save_image(folder / f"{name}_leftImg8bit.png", draw_image(name))
            if split != "train_extra":
                save_cityscapes(root / fine / split / city / f"{name}_gtFine", cityscapes_label(name, split))
            if "train_extra" in splits and split != "test":
                save_cityscapes(root / coarse / split / city / f"{name}_gtCoarse", cityscapes_label(name, "coarse"))
            (folder / f"._{name}_leftImg8bit.png").write_bytes(b"what macOS leaves on foreign disks")
            (folder.parent / ".DS_Store").write_bytes(b"and in every folder")
    return root


def cityscapes_label(name: str, kind: str) -> np.ndarray:
    """Label ids; as published, those of the test images are void."""
    return np.zeros(size_of(name), dtype=np.uint8) if kind == "test" else draw_label(name, 34, 3, kind)


def save_cityscapes(stem: Path, label: np.ndarray) -> None:
    """Write the four files of one labelled image; only the label ids are what we read."""
    save_image(stem.with_name(f"{stem.name}_labelIds.png"), label)
    save_image(stem.with_name(f"{stem.name}_instanceIds.png"), label.astype(np.uint16) * 1000)
    save_image(stem.with_name(f"{stem.name}_color.png"), np.dstack([label] * 3))
    stem.with_name(f"{stem.name}_polygons.json").write_text("{}")


# a folder of one's own
OWN = [f"{place}/photo{number}" for place in ("park", "town") for number in range(5)]
ROWS = [("ground", 0, 0, 0), ("tree", 0, 128, 0), ("car", 128, 0, 0), ("void", 255, 255, 255)]
COLOURS = np.array([row[1:] for row in ROWS], dtype=np.uint8)
CSV = "name,red,green,blue\n" + "".join(f"{','.join(map(str, row))}\n" for row in ROWS)


def write_folder(root: Path, kind: str = "values", names=OWN) -> Path:
    """Write images/ and masks/ with masks of "values" (grey), of a "palette", or of "colours"; return the root."""
    for name in names:
        label = own_label(name)
        save_image(root / "images" / f"{name}.png", draw_image(name))
        if kind == "colours":
            label = COLOURS[np.where(label == 255, 3, label)]
        (save_palette if kind == "palette" else save_image)(root / "masks" / f"{name}.png", label)
    if kind == "colours":
        (root / "colours.csv").write_text(CSV)
    else:
        (root / "classes.txt").write_text("ground\ntree\ncar\n")
    return root


def own_label(name: str) -> np.ndarray:
    """Classes 0, 1, 2 and void, 255."""
    return draw_label(name, 3, 255)


def write_cvat(root: Path, quoted: str = "f 1") -> Path:
    """Write what CVAT and Datumaro export: VOC's folders and lists, RGB masks, and the table of their colours."""
    names = ["f0", quoted, "f2", "f3"]
    for name in names:
        label = own_label(f"{name} 1")
        save_image(root / "JPEGImages" / f"{name}.jpg", draw_image(f"{name} 1"))
        save_image(root / "SegmentationClass" / f"{name}.png", COLOURS[np.where(label == 255, 3, label)])
    lines = [f"{name}:{red},{green},{blue}::" for name, red, green, blue in ROWS]
    write_list(root / "labelmap.txt", ["# label:color_rgb:parts:actions", *lines])
    write_list(root / "ImageSets" / "Segmentation" / "Train.txt", ["f0", f'"{quoted}"'])
    write_list(root / "ImageSets" / "Segmentation" / "Validation.txt", ["f3"])
    return root


WRITERS = {"voc": write_voc, "camvid": write_camvid, "cityscapes": write_cityscapes, "folder": write_folder}


def sbd_label(name: str) -> np.ndarray:
    """SBD's label differs from VOC's of the same image, and has no void."""
    return draw_label(name, 21, None, "sbd")


def save_mat(path: Path, label: np.ndarray) -> None:
    """Write one label file of SBD: a struct GTcls with sparse boundaries of 20 classes, the labels, the classes."""
    boundaries = np.empty((20, 1), dtype=object)
    for number in range(20):
        boundaries[number, 0] = csc_matrix(label == number + 1)
    present = np.unique(label[label > 0]).reshape(-1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    struct = {"Boundaries": boundaries, "Segmentation": label, "CategoriesPresent": present}
    savemat(path, {"GTcls": struct}, do_compression=True)


def save_image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_grey_png(path: Path, array: np.ndarray, bits: int) -> None:
    """Write a grey PNG of 1, 2 or 4 bits a pixel, which Pillow reads and does not write."""
    digits = np.unpackbits(array[..., None].astype(np.uint8), axis=-1)[..., -bits:].reshape(len(array), -1)
    save_png(path, array.shape, bits, 0, b"".join(b"\0" + row.tobytes() for row in np.packbits(digits, axis=1)))


def save_png(path: Path, shape: tuple[int, int], bits: int, kind: int, lines: bytes) -> None:
    """Write a PNG of a colour type and bits per sample that Pillow does not write, from its unfiltered lines."""
    head = struct.pack(">IIBBBBB", *shape[::-1], bits, kind, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def save_tiff(path: Path, array: np.ndarray) -> None:
    """Write bands as a plain TIFF, (H, W, bands) uint8; Pillow writes no more than four."""
    height, width, bands = array.shape
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 273: 122, 277: bands, 278: height, 279: array.size}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + array.tobytes())


def save_palette(path: Path, label: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label)
    image.putpalette(voc_palette())  # makes it mode P, the indices stay
    image.save(path)


def write_list(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _random(name: str, kind: str) -> np.random.Generator:
    return np.random.default_rng([ord(sign) for sign in f"{name} {kind}"])
