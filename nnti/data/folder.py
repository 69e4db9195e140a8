"""Your own data: a folder of images and a folder of masks of the same names.

my_data/
  images/a.jpg  images/b.png  …      any nesting below, the same on both sides
  masks/a.png   masks/b.png   …      values (index PNG), or colours
  classes.txt                        for values: a name per line, for 0, 1, 2, …
  colours.csv                        for colours: name,red,green,blue
  train.txt  val.txt                 optional: the names of each split, without endings
"""

import difflib
import hashlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from nnti.data.base import IGNORE_INDEX, IMAGE_ENDINGS, SegmentationDataset, exists, read_list
from nnti.data.masks import ColourMasks, IndexMasks, describe_mask, read_colours
from nnti.errors import DataError, FaultyFiles, permissions_explained, reraise
from nnti.folders import data_roots

VAL_SHARE, SEED = 0.2, 0
SAMPLES = 4  # masks that are read when a folder is opened
LISTED = 50  # faults of one kind that are listed


class Folder(SegmentationDataset):
    """One split, "train" or "val", of a folder of images and masks.

    A mask belongs to the image of the same name: the path below images/ without the ending. With a colour table, masks
    are read by their colours, otherwise by their values. The split is drawn from names and seed alone; when images are
    added later a few may change sides, which `train.txt` and `val.txt` prevent.

    Args:
        root: the folder; a relative one is looked for in the working directory, then in `nnti.folders.data_roots()`.
        split: "train" or "val".
        images, masks: the two folders below the root.
        classes: names for the values 0, 1, …; None: classes.txt. The name `void` marks a value that is no class.
        colours: a list of (name, red, green, blue), {name: (r, g, b)} or a DataFrame with these columns; None:
            colours.csv, if it is there. Rows named `void` are no class.
        void: a value, or several, that are no class, for masks of values; None: 255.
        val_share: share of the images in "val", at least one. seed: of the split. Not used if there are lists.

    Raises DataError; `FaultyFiles`, with all faults, where images and masks do not pair up.
    """

    name = "folder"
    title = "Folder"
    splits = ("train", "val")
    arguments = ("root", "images", "masks", "classes", "colours", "void", "val_share", "seed")

    @permissions_explained()
    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str = "images",
        masks: str = "masks",
        classes: Sequence[str] | None = None,
        colours: Any = None,
        void: int | Sequence[int] | None = None,
        val_share: float = VAL_SHARE,
        seed: int = SEED,
    ):
        if split not in self.splits:
            raise DataError(
                f"a folder has the splits train and val, not '{split}': set train_split=train, val_split=val"
            )
        folder = _find(root, images, masks)
        self.title, self._images = folder.resolve().name, folder / images
        pairs, faults = _pairs(folder / images, folder / masks)
        try:
            self._masks = _encoding(folder, [Path(mask) for _, mask in pairs.values()], classes, colours, void)
            names, wrong = _split(folder, list(pairs), split, val_share, seed)
        except DataError as error:
            raise FaultyFiles([*faults, str(error)]) from None
        self.class_names, self.palette = self._masks.names, self._masks.palette
        self.void_color, self.encoding = self._masks.void_color, str(self._masks)
        if isinstance(self._masks, IndexMasks):
            self.label_values, self.void_value = self._masks.classes, (self._masks.void or [IGNORE_INDEX])[0]
        super().__init__(folder, split, [pairs[name] for name in names])
        if faults or wrong:
            raise FaultyFiles([*faults, *wrong], self)

    def image_name(self, path: Path) -> str:
        """Return the path below images/ without the ending: the name of an image in lists and results."""
        return _name(os.path.relpath(path, self._images))

    def read_label(self, path: Path) -> torch.Tensor:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for unknown values and colours."""
        return torch.from_numpy(self._masks.read(path))


def _find(root: str | Path, images: str, masks: str) -> Path:
    """Return the root that holds both folders; raise DataError with the places searched and the fix."""
    places = list(dict.fromkeys(base / Path(root).expanduser() for base in (Path.cwd(), *data_roots())))
    place = next(filter(exists, places), None)
    if place is None:
        looked = "".join(f"\n  {place}" for place in places)
        raise DataError(
            f"the folder {root} was not found. Looked at{looked}\nGive its path as root=, or on the command line "
            "--set dataset_arguments.root=PATH (data check folder --root PATH)"
        )
    missing = [part for part in (images, masks) if not (place / part).is_dir()]
    if missing:
        there = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        raise DataError(
            f"{place} lacks the folder{'s' * (len(missing) > 1)} {' and '.join(missing)} (it holds "
            f"{', '.join(there) or 'no folder'}); rename them, or say what they are called: images=…, masks=…"
        )
    return place


def _pairs(images: Path, masks: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return {name: (image, mask)} sorted by name, and the faults of the other files."""
    pictures, others, doubled = {}, {}, []
    for name, path in _files(images):
        if _ending(path) not in IMAGE_ENDINGS:
            others[name] = path
        elif pictures.setdefault(name, path) != path:
            doubled.append(f"{pictures[name]} and {path} are images of one name; remove or rename one of them")
    drawn, unread = {}, {}
    for name, path in _files(masks):
        (drawn if _ending(path) == ".png" else unread)[name] = path
    lossy = [path for path in unread.values() if _ending(path) in IMAGE_ENDINGS]
    bare = [name for name in pictures if name not in drawn and name not in unread]
    spare = [name for name in drawn if name not in pictures]

    def of_lossy(path: str) -> str:
        return (
            f"{path}: masks are read from PNG only, because JPEG and the like change values along edges. Export it "
            "again as PNG from the tool that it was drawn with"
        )

    def of_bare(name: str) -> str:
        return f"{pictures[name]} is an image without mask{_meant(name, spare)}; add the mask, or remove the image"

    def of_spare(name: str) -> str:
        fix = f"save {others[name]} as JPEG or PNG" if name in others else "add the image, or remove the mask"
        return f"{drawn[name]} is a mask without image{_meant(name, bare)}; {fix}"

    faults = [*_told(doubled, str), *_told(lossy, of_lossy), *_told(bare, of_bare), *_told(spare, of_spare)]
    pairs = {name: (path, drawn[name]) for name, path in pictures.items() if name in drawn}
    if not pairs:
        nothing = f"no image ({' '.join(IMAGE_ENDINGS)}) below {images} has a mask of the same name below {masks}"
        raise FaultyFiles([*faults, nothing])
    return pairs, faults


def _told(found: list[Any], tell: Callable[[Any], str]) -> list[str]:
    """List faults of one kind, up to LISTED; thousands would make an error unreadable."""
    more = len(found) - LISTED
    return [*map(tell, found[:LISTED]), *([f"… and {more} more of this kind"] if more > 0 else [])]


def _files(folder: Path) -> list[tuple[str, str]]:
    """Return (name, path) of all files below a folder, sorted, without hidden ones."""
    found = []
    for place, folders, files in os.walk(folder, onerror=reraise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [os.path.join(place, file) for file in files if not file.startswith(".")]
        found += [(_name(os.path.relpath(path, folder)), path) for path in paths]
    return sorted(found)


def _name(path: str) -> str:
    """Return a path without its ending, with the same slashes and Unicode form on every system."""
    return unicodedata.normalize("NFC", os.path.splitext(path)[0].replace("\\", "/"))


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _meant(name: str, names: Iterable[str]) -> str:
    """Ask whether the nearest of `names` was meant; its digits must be the same."""
    same = [other for other in names if re.sub(r"\D", "", other) == re.sub(r"\D", "", name)]
    near = difflib.get_close_matches(name, same[:1000], n=1)
    return f" (did you mean {near[0]}? Names must be equal up to the ending)" if near else ""


def _encoding(
    folder: Path, masks: list[Path], classes: Sequence[str] | None, colours: Any, void: int | Sequence[int] | None
) -> IndexMasks | ColourMasks:
    """Return how the masks are read: by colours if there is a colour table, else by values."""
    table = folder / "colours.csv" if colours is None and exists(folder / "colours.csv") else colours
    where = str(table) if isinstance(table, Path) else "colours"
    if table is not None and (classes is not None or void is not None):
        raise DataError(
            f"{where} names the classes, and void as well: leave out classes= and void=, or remove the table"
        )
    if table is not None:
        return ColourMasks(read_colours(table), where)
    names = folder / "classes.txt" if classes is None else classes
    if isinstance(names, Path) and not exists(names):
        raise DataError(
            f"{folder} lacks classes.txt, with a class's name in each line for the values 0, 1, … of the masks, or "
            "colours.csv, with the lines name,red,green,blue for the colours of the masks; write one of them "
            f"({describe_mask(masks[0])})"
        )
    if not isinstance(names, Path) and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
        raise DataError(f"classes={names!r}: it must be a list of names, such as ['road', 'sky']")
    values = [void] if isinstance(void, int) else void
    if not all(type(value) is int and 0 <= value <= 255 for value in values or ()):
        raise DataError(f"void={void!r}: it must be a value from 0 to 255, or a list of such values")
    where = str(names) if isinstance(names, Path) else "classes"
    return IndexMasks(read_list(names) if isinstance(names, Path) else names, where, values, masks[:SAMPLES])


def _split(folder: Path, names: list[str], split: str, val_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the names of a split in order, and the faults of its list file."""
    lists = [folder / f"{part}.txt" for part in Folder.splits]
    there = [path.name for path in lists if exists(path)]
    if not there:
        return _drawn(names, split, val_share, seed, folder), []
    if len(there) < len(lists):
        raise DataError(f"{folder} has {there[0]} alone; write train.txt and val.txt, or remove it for a random split")
    if (val_share, seed) != (VAL_SHARE, SEED):
        raise DataError(f"{folder} has train.txt and val.txt: remove them, or leave out val_share and seed")
    known, chosen, unknown = set(names), {}, []
    for entry in read_list(folder / f"{split}.txt"):
        name = unicodedata.normalize("NFC", entry.replace("\\", "/"))
        name = name if name in known else _name(name)  # with the image's ending
        if name in known:
            chosen[name] = None
        else:
            unknown.append(name)

    def of_unknown(name: str) -> str:
        return f"{folder}/{split}.txt names {name}, which is no image with a mask{_meant(name, names)}; correct it"

    return list(chosen), _told(unknown, of_unknown)


def _drawn(names: list[str], split: str, val_share: float, seed: int, folder: Path) -> list[str]:
    """Draw a split: names are ranked by a hash of seed and name; the lowest go to "val"."""
    if not isinstance(val_share, float) or not 0 < val_share < 1:
        raise DataError(f"val_share={val_share!r}: it must be a number between 0 and 1, such as {VAL_SHARE}")
    if len(names) < 2:
        raise DataError(f"{folder} has one image with a mask; it takes at least two, one for train and one for val")
    held_out = min(max(1, round(val_share * len(names))), len(names) - 1)
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest())
    return sorted(ranked[:held_out] if split == "val" else ranked[held_out:])
