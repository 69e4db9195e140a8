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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nnti.data.base import SegmentationDataset, exists, read_list
from nnti.data.images import IMAGE_ENDINGS
from nnti.data.masks import ColourMasks, IndexMasks, describe_mask, read_colours, read_names
from nnti.errors import DataError, FaultyFiles, permissions_explained
from nnti.folders import data_roots

__all__ = ["Folder"]


CLASSES, COLOURS = "classes.txt", "colours.csv"
MASK_ENDING = ".png"
VAL_SHARE, SEED = 0.2, 0
SAMPLES = 4  # masks that are looked at when a folder is opened
LISTED = 100  # faults of one kind that are told one by one
COMPARED = 1000  # names among which one is looked for that might have been meant

Files = dict[str, list[str]]  # name → the paths of this name: as text, of which there may be many thousands


class Folder(SegmentationDataset):
    """One split, "train" or "val", of a folder of images and masks.

    A mask belongs to the image of the same name, which is its path below images/ without the ending. With a colour
    table masks are read by their colours, otherwise by their values. The split is drawn from names and seed alone;
    where images are added later a few may change sides, which `train.txt` and `val.txt` prevent.

    Args:
        root: the folder; a relative one is looked for in the working directory, then in `nnti.folders.data_roots()`.
        split: "train" or "val".
        images, masks: the two folders below the root.
        classes: names for the values 0, 1, …; None: classes.txt. The name `void` marks a value that is no class.
        colours: a list of (name, red, green, blue), {name: (r, g, b)} or a DataFrame with these columns; None:
            colours.csv, if it is there. Rows named `void` are no class.
        void: a value, or several, that are no class, for masks of values; None: 255.
        val_share: share of the images in "val", at least one. seed: of the split. Both give way to lists.

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
        _check_split(val_share, seed)
        folder = _find(root, images, masks)
        self.title, self._images = folder.resolve().name, folder / images
        pairs, faults = _pairs(folder / images, folder / masks)
        try:
            self._masks = _encoding(folder, [Path(mask) for _, mask in pairs.values()], classes, colours, void)
            names, wrong = _split(folder, pairs, split, val_share, seed)
        except DataError as error:
            raise FaultyFiles([*faults, str(error)]) from None
        self.class_names, self.palette = self._masks.names, self._masks.palette
        self.void_color, self.encoding = self._masks.void_color, str(self._masks)
        super().__init__(folder, split, [pairs[name] for name in names])
        if faults or wrong:
            raise FaultyFiles([*faults, *wrong], self)

    def image_name(self, path: Path) -> str:
        """Return the path below images/ without the ending, which is what lists and results call an image."""
        return _name(os.path.relpath(path, self._images))

    def read_label(self, path: Path) -> torch.Tensor:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for values and colours that stand for nothing."""
        return torch.from_numpy(self._masks.read(path))


def _check_split(val_share: float, seed: int) -> None:
    if isinstance(val_share, bool) or not isinstance(val_share, int | float) or not 0 < val_share < 1:
        raise DataError(f"val_share={val_share!r}: it must be a number between 0 and 1, such as {VAL_SHARE}")
    if type(seed) is not int:
        raise DataError(f"seed={seed!r}: it must be a whole number")


def _find(root: str | Path, images: str, masks: str) -> Path:
    """Return the root that holds both folders; raise DataError that says what was looked at, and what to do."""
    for name, value in (("root", root), ("images", images), ("masks", masks)):
        if not isinstance(value, str | Path) or not str(value):
            raise DataError(f"{name}={value!r}: it must be the path of a folder")
    inside = [Path(os.path.normpath(part)) for part in (images, masks)]
    if inside[0].is_relative_to(inside[1]) or inside[1].is_relative_to(inside[0]):
        raise DataError(
            f"images={str(images)!r} and masks={str(masks)!r} must be two folders beside each other: move the masks "
            "into one of their own"
        )
    wanted = Path(root).expanduser()
    places = list(dict.fromkeys(base / wanted for base in (Path.cwd(), *data_roots())))
    for place in places:
        if exists(place):
            _check_parts(place, (images, masks))
            return place
    looked = "".join(f"\n  {place}" for place in places)
    raise DataError(
        f"the folder {root} was not found. Looked at{looked}\nGive its path as root=, or on the command line "
        '--set \'dataset_arguments={"root": "PATH"}\' (data check folder --root PATH)'
    )


def _check_parts(place: Path, parts: Sequence[str]) -> None:
    """Raise DataError, with the folders that are there, if one of two folders is missing."""
    missing = [part for part in parts if not (place / part).is_dir()]
    if missing:
        there = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
        raise DataError(
            f"{place} lacks the folder{'s' * (len(missing) > 1)} {' and '.join(missing)} (it holds "
            f"{', '.join(there) or 'no folder'}); rename them, or say what they are called: images=…, masks=…"
        )


def _pairs(images: Path, masks: Path) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return {name: (image, mask)} in the order of names, and all that is wrong with the rest."""
    pictures, others = _listing(images, IMAGE_ENDINGS)
    drawn, unread = _listing(masks, (MASK_ENDING,))
    faults = [*_doubled(pictures, "images"), *_doubled(drawn, "masks"), *_wrong_masks(unread, drawn)]
    for files, partners, kinds, spare in (
        (pictures, {**unread, **drawn}, ("image", "mask"), _by_digits(name for name in drawn if name not in pictures)),
        (drawn, pictures, ("mask", "image"), _by_digits(name for name in pictures if name not in drawn)),
    ):
        alone = sorted(name for name in files if name not in partners)
        told = [_unpaired(files[name][0], name, kinds, spare, others) for name in alone[:LISTED]]
        faults += _shortened(told, len(alone), f"{kinds[0]} without {kinds[1]}")
    if not pictures:
        faults.insert(0, f"{images} holds no image ({' '.join(IMAGE_ENDINGS)}), nor does any folder in it")
    both = sorted(name for name in pictures if name in drawn)
    pairs = {name: (pictures[name][0], drawn[name][0]) for name in both}
    if not pairs:
        raise FaultyFiles([*faults, f"no image in {images} has a mask of the same name in {masks}"])
    return pairs, faults


def _listing(folder: Path, endings: Sequence[str]) -> tuple[Files, Files]:
    """Return the files below a folder with one of the endings, and all others, each by name, without hidden ones."""
    chosen: Files = {}
    others: Files = {}
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(place, folder)
        for file in sorted(name for name in names if not name.startswith(".")):
            found = chosen if _ending(file) in endings else others
            found.setdefault(_name(os.path.join("" if below == "." else below, file)), []).append(
                os.path.join(place, file)
            )
    return chosen, others


def _raise(error: OSError) -> None:
    """A folder that may not be looked into would be passed over otherwise."""
    raise error


def _name(path: str) -> str:
    """Return a path without its ending, the same on every system: slashes and the way accents are kept differ."""
    return unicodedata.normalize("NFC", os.path.splitext(path)[0].replace(os.sep, "/"))


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _doubled(files: Files, what: str) -> list[str]:
    found = [f"{' and '.join(paths)} are {what} of one name; remove or rename all but one"
             for paths in files.values() if len(paths) > 1]  # fmt: skip
    return _shortened(found, len(found), f"{what} of one name")


def _wrong_masks(unread: Files, drawn: Files) -> list[str]:
    """Refuse pictures among the masks that are no PNG."""
    found = []
    for name, paths in unread.items():
        path = paths[0]
        if _ending(path) in (".jpg", ".jpeg", ".webp"):
            reason = "its compression invents values along edges that are no class. Export it anew as PNG"
        elif _ending(path) in IMAGE_ENDINGS:
            reason = "masks are read from PNG only. Save it as PNG, without changing its colours"
        else:
            continue
        beside = f", or remove it: {os.path.basename(drawn[name][0])} lies beside it" if name in drawn else ""
        found.append(f"{path} is a {_ending(path)[1:].upper()} mask: {reason}{beside}")
    return _shortened(found, len(found), "masks that are no PNG")


def _unpaired(path: str, name: str, kinds: tuple[str, str], spare: dict[str, list[str]], others: Files) -> str:
    """Say that a file has no partner, and which file might have been meant."""
    kind, wanted = kinds
    near = _nearest(name, spare)
    if kind == "mask" and name in others:
        hint = f"; {os.path.basename(others[name][0])} is not read as an image: save it as JPEG or PNG"
    elif near:
        hint = f"; was '{near}' meant? Names must be equal up to the ending"
    else:
        hint = f"; add the {wanted}, or remove the {kind}"
    return f"{path} is {'an image' if kind == 'image' else 'a mask'} without {wanted}{hint}"


def _by_digits(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort names by their digits, which are hardly ever misspelt."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(re.sub(r"\D", "", name), []).append(name)
    return found


def _nearest(name: str, names: Mapping[str, list[str]]) -> str | None:
    """Return which of `names`, by digits, might have been meant: a longer form, the beginning, or a similar one."""
    same = names.get(re.sub(r"\D", "", name), [])
    longer = [other for other in same if other.startswith(name) or name.startswith(other)]
    return next(iter(longer or difflib.get_close_matches(name, same[:COMPARED], n=1)), None)


def _shortened(faults: list[str], count: int, what: str) -> list[str]:
    """Keep an error readable where thousands of files, `count`, have the same fault."""
    return faults if count <= LISTED else [*faults[:LISTED], f"… and {count - LISTED} more: {what}"]


def _encoding(
    folder: Path, masks: list[Path], classes: Sequence[str] | None, colours: Any, void: int | Sequence[int] | None
) -> IndexMasks | ColourMasks:
    """Return how the masks are read: by colours if there is a table of them, else by values."""
    table = folder / COLOURS if colours is None and exists(folder / COLOURS) else colours
    listed = folder / CLASSES if classes is None and exists(folder / CLASSES) else classes
    if table is None and listed is None:
        raise DataError(
            f"{folder} lacks {CLASSES}, with a class's name in each line for the values 0, 1, … of the masks, or "
            f"{COLOURS}, with the lines name,red,green,blue for the colours of the masks; write one of them "
            f"({describe_mask(masks[0])})"
        )
    if table is None:
        where = str(listed) if isinstance(listed, Path) else "classes"
        return IndexMasks(read_names(listed), where, _void_values(void), masks[:SAMPLES])
    if void is not None:
        raise DataError(f"void={void!r} is for masks of values; in a colour table name the row of such a colour void")
    where = str(table) if isinstance(table, Path) else "colours"
    masks_by_colour = ColourMasks(read_colours(table), where)
    if listed is not None and tuple(read_names(listed)) != masks_by_colour.names:
        raise DataError(
            f"{where} and {listed if isinstance(listed, Path) else 'classes'} name other classes, or in another order; "
            "the colour table suffices: remove the names"
        )
    return masks_by_colour


def _void_values(void: int | Sequence[int] | None) -> list[int] | None:
    if void is None:
        return None
    values = [void] if isinstance(void, int) else void
    if not isinstance(values, list | tuple) or not all(type(value) is int and 0 <= value <= 255 for value in values):
        raise DataError(f"void={void!r}: it must be a value from 0 to 255, or a list of such values")
    return list(values)


def _split(
    folder: Path, pairs: Mapping[str, Any], split: str, val_share: float, seed: int
) -> tuple[list[str], list[str]]:
    """Return the names of a split in order, and what is wrong with the lists that say so."""
    lists = {name: folder / f"{name}.txt" for name in Folder.splits}
    there = [name for name, path in lists.items() if exists(path)]
    if not there:
        return _drawn(list(pairs), split, val_share, seed, folder), []
    if len(there) < len(lists):
        lacking = next(name for name in lists if name not in there)
        raise DataError(
            f"{folder} has {there[0]}.txt but no {lacking}.txt; write both, or remove it for a random split"
        )
    if (val_share, seed) != (VAL_SHARE, SEED):
        raise DataError(
            f"{lists['train']} and {lists['val']} say what is in a split; remove them, or leave out val_share and seed"
        )
    return _listed(lists, pairs, split)


def _drawn(names: list[str], split: str, val_share: float, seed: int, folder: Path) -> list[str]:
    """Draw a split: every name gets a number from its own letters and the seed, and the lowest go to "val"."""
    if len(names) < 2:
        raise DataError(
            f"{folder} has {len(names)} image with a mask; it takes two at least, one to train and one for val"
        )
    held_out = min(max(1, round(val_share * len(names))), len(names) - 1)
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest())
    return sorted(ranked[:held_out] if split == "val" else ranked[held_out:])


def _listed(lists: Mapping[str, Path], pairs: Mapping[str, Any], split: str) -> tuple[list[str], list[str]]:
    """Read the lists of both splits: names that are images, each once, and faults."""
    faults: list[str] = []
    known, chosen = _by_digits(pairs), {}  # name → its split
    for part, path in lists.items():
        for entry in read_list(path):
            name = _entry(entry, pairs)
            if name not in pairs:
                near = _nearest(name, known)
                hint = f"; did you mean '{near}'?" if near else "; remove it, or add the files"
                faults.append(f"{path} names '{entry}', which is no image with a mask{hint}")
            elif name in chosen:
                faults.append(f"{path} names '{entry}', which is in {chosen[name]}.txt already; remove one of them")
            else:
                chosen[name] = part
    return [name for name, part in chosen.items() if part == split], _shortened(faults, len(faults), "names in lists")


def _entry(entry: str, pairs: Iterable[str]) -> str:
    """Return the name that a line of a list means, with or without the image's ending."""
    name = unicodedata.normalize("NFC", entry.replace("\\", "/"))
    return _name(name) if name not in pairs and _ending(name) in IMAGE_ENDINGS else name
