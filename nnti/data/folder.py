"""Your own data: a folder of images and a folder of masks of the same names.

my_data/
  images/a.jpg  images/b.png  …      any nesting below, the same on both sides
  masks/a.png   masks/b.png   …      values (index PNG), or colours
  classes.txt                        for values: a name per line, for 0, 1, 2, …
  colours.csv                        for colours: name,red,green,blue
  train.txt  val.txt                 optional: the names of each split, without endings

An export of CVAT, or another one in VOC's layout, brings its own: labelmap.txt for the colours, and the lists in
ImageSets/Segmentation/.
"""

import difflib
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nnti.data.base import SegmentationDataset, exists, files_below, passed_over, read_list
from nnti.data.class_lists import check_list, read_colours
from nnti.data.files import IMAGE_ENDINGS
from nnti.data.masks import ColourMasks, IndexMasks, describe_mask
from nnti.errors import DataError, FaultyFiles, permissions_explained
from nnti.folders import data_roots

VAL_SHARE, SEED = 0.2, 0
SAMPLES = 4  # masks that are read when a folder is opened
LISTED = 50  # faults of one kind that are listed
EXPORTED = Path("ImageSets/Segmentation")  # where exports have their lists
# a file that lists a split: train_list.txt, trainset.txt, split.csv
LISTS = re.compile(
    r"(?:^|[^a-z])(?:train|val|valid|validation|test|split)s?(?:ing|set)?(?:[^a-z].*)?\.(?:txt|csv|json|lst|tsv)$", re.I
)
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}  # names of what looks like a split
SUBSETS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
}  # name of a list, as exporters write it → split


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
            colours.csv if it is there, or labelmap.txt if there is no classes.txt. Rows named `void` are no class.
            False: masks are read by values, and palettes may differ from mask to mask.
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
                f"a folder has the splits train and val, not '{split}': name one of these (--split in evaluate, "
                "train_split and val_split in a training)"
            )
        folder = _find(root, images, masks)
        self.title, self.images = folder.resolve().name, folder / images
        pairs, faults, notes = _pairs(folder / images, folder / masks)
        try:
            self._all = [Path(mask) for _, mask in pairs.values()]
            self._masks = _encoding(folder, self._all, classes, colours, void)
            names, wrong, more = _split(folder, list(pairs), split, val_share, seed, (images, masks))
        except DataError as error:
            raise FaultyFiles([*faults, str(error)]) from None
        self.class_names, self.palette = self._masks.names, self._masks.palette
        self.void_color, self.encoding = self._masks.void_color, str(self._masks)
        if wrong and not names:
            raise FaultyFiles([*faults, *wrong])
        super().__init__(folder, split, [pairs[name] for name in names])
        self.label_values, self.one_class_advice = self._masks.values, self._masks.one_class_advice
        self.notes = [*notes, *more, *_unread_tables(folder, self._masks)]
        if faults or wrong:
            raise FaultyFiles([*faults, *wrong], self)

    def image_name(self, path: Path) -> str:
        """Return the path below images/ without the ending: the name of an image in lists and results."""
        return _name(os.path.relpath(path, self.images))

    def read_label(self, path: Path) -> torch.Tensor:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for unknown values and colours."""
        return torch.from_numpy(self._masks.read(path))

    def check_together(self) -> list[str]:
        """Return notes on masks that are read otherwise than they may be meant; raise DataError where they surely are.

        See `nnti.data.masks`.
        """
        return self._masks.check_together(self._all)


def _find(root: str | Path, images: str, masks: str) -> Path:
    """Return the root that holds both folders; raise DataError with the places searched and the fix."""
    if re.search(r"[\x00-\x1f]", str(root)):
        raise DataError(
            f"root={str(root)!r} holds a line break or tab, which a backslash before a letter means in text. Write "
            "slashes, as in D:/new/train; they are right on Windows too"
        )
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
            f"{', '.join(there) or 'no folder'}); rename them, or say what they are called: images=…, masks=… All "
            "images belong below one folder, and all masks, of the same names, below another"
        )
    if (place / images).resolve() == (place / masks).resolve():
        raise DataError(f"images={images} and masks={masks} are one folder: move the masks into a folder of their own")
    return place


def _pairs(images: Path, masks: Path) -> tuple[dict[str, tuple[str, str]], list[str], list[str]]:
    """Return {name: (image, mask)} sorted by name, the faults of the other files, and notes on those passed over."""
    pictures, drawn, others, doubled = {}, {}, {}, []
    for name, path in _files(images):
        if _ending(path) not in IMAGE_ENDINGS:
            others[name] = path
        elif pictures.setdefault(name, path) != path:
            doubled.append(f"{pictures[name]} and {path} are images of one name; remove or rename one of them")
    unread = {}
    for name, path in _files(masks):
        if _ending(path) != ".png":
            unread[name] = path
        elif drawn.setdefault(name, path) != path:
            doubled.append(f"{drawn[name]} and {path} are masks of one name; remove or rename one of them")
    bare = [name for name in pictures if name not in drawn]
    lossy = {name: path for name, path in unread.items() if name in bare or _ending(path) in IMAGE_ENDINGS}
    bare = [name for name in bare if name not in lossy]
    spare = [name for name in drawn if name not in pictures]

    def of_lossy(path: str) -> str:
        return (
            f"{path}: masks are read from PNG only, because JPEG and the like change values along edges. Export it "
            "again as PNG from the tool that it was drawn with"
        )

    def of_bare(name: str) -> str:
        near = _meant(name, {name: drawn[name] for name in spare})
        return f"{pictures[name]} is an image without mask{near}; add the mask, or remove the image"

    def of_spare(name: str) -> str:
        fix = f"save {others[name]} as JPEG or PNG" if name in others else "add the image, or remove the mask"
        return f"{drawn[name]} is a mask without image{_meant(name, {name: pictures[name] for name in bare})}; {fix}"

    faults = [*_told(doubled, str), *_told([*lossy.values()], of_lossy)]
    faults += [*_told(bare, of_bare), *_told(spare, of_spare)]
    no_images = [os.path.relpath(path, images) for name, path in others.items() if name not in spare]
    no_masks = [os.path.relpath(path, masks) for name, path in unread.items() if name not in lossy]
    notes = passed_over(no_images, f"no images in {images}") + passed_over(no_masks, f"no masks in {masks}")
    notes += passed_over(_hidden(images), f"hidden in {images}")
    pairs = {name: (path, drawn[name]) for name, path in pictures.items() if name in drawn}
    if not pairs:
        nothing = (
            f"no image ({' '.join(IMAGE_ENDINGS)}) below {images} has a mask of the same name below {masks}; names "
            f"must be equal up to the ending, as a.jpg and a.png are. Found: {len(pictures)} images, {len(drawn)} masks"
        )
        raise FaultyFiles([*faults, nothing])
    return pairs, faults, notes


def _told(found: list[Any], tell: Callable[[Any], str]) -> list[str]:
    """List faults of one kind, up to LISTED; thousands would make an error unreadable."""
    more = len(found) - LISTED
    return [*map(tell, found[:LISTED]), *([f"… and {more} more of this kind"] if more > 0 else [])]


def _files(folder: Path) -> list[tuple[str, str]]:
    """Return (name, path) of all files below a folder, sorted, without hidden ones."""
    return sorted((_name(os.path.relpath(path, folder)), path) for path in files_below(folder))


def _hidden(folder: Path) -> list[str]:
    """Return the hidden pictures below a folder, without those that macOS writes beside files, sorted."""
    paths = (
        os.path.relpath(os.path.join(place, name), folder) for place, _, files in os.walk(folder) for name in files
    )
    return sorted(path for path in paths if _ending(path) in IMAGE_ENDINGS and re.search(r"(?:^|[/\\\\])\.(?!_)", path))


def _name(path: str) -> str:
    """Return a path without its ending, with the same slashes and Unicode form on every system."""
    return unicodedata.normalize("NFC", os.path.splitext(path)[0].replace("\\", "/"))


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _meant(name: str, others: Mapping[str, str]) -> str:
    """Ask whether the nearest of `others`, name → what to call it, was meant; its digits must be the same."""
    same = [other for other in others if re.sub(r"\D", "", other) == re.sub(r"\D", "", name)][:1000]
    folded = {other.casefold(): other for other in same}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.4)
    return f" (did you mean {others[folded[near[0]]]}? Names must be equal up to the ending)" if near else ""


def _encoding(
    folder: Path, masks: list[Path], classes: Sequence[str] | None, colours: Any, void: int | Sequence[int] | None
) -> IndexMasks | ColourMasks:
    """Return how the masks are read: by colours if there is a colour table, else by values."""
    table = None if colours is False else colours
    if colours is None and exists(folder / "colours.csv"):
        table = folder / "colours.csv"
    elif colours is classes is None and exists(folder / "labelmap.txt") and not exists(folder / "classes.txt"):
        table = folder / "labelmap.txt"
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
    if isinstance(names, Path):
        names = read_list(names, blanks=True)
        check_list(names, where)
    return IndexMasks(names, where, values, masks[:SAMPLES], any_palette=colours is False)


def _unread_tables(folder: Path, masks: IndexMasks | ColourMasks) -> list[str]:
    """Return a note on files of classes in a folder that its masks are not read with."""
    tables = [name for name in ("colours.csv", "classes.txt", "labelmap.txt") if exists(folder / name)]
    return passed_over(
        [name for name in tables if str(folder / name) != masks.where], f"as {masks.where} has the classes"
    )


def _split(
    folder: Path, names: list[str], split: str, val_share: float, seed: int, own: tuple[str, str]
) -> tuple[list[str], list[str], list[str]]:
    """Return the names of a split in order, the faults of its list file, and notes on names in no list."""
    lists = _lists(folder)
    if not lists:
        others = sorted(_parts(folder, own)) + sorted({name.partition("/")[0] for name in names} & PARTS)
        others += [str(EXPORTED)] if exists(folder / EXPORTED) else []
        why = "as the split is drawn; train.txt and val.txt, with the images' names, would fix it"
        return _drawn(names, split, val_share, seed, folder), [], passed_over(others, why)
    if len(lists) < len(Folder.splits):
        (only,) = lists.values()
        raise DataError(
            f"{only.parent} has {only.name} alone; write train.txt and val.txt, or remove it for a random split"
        )
    if (val_share, seed) != (VAL_SHARE, SEED):
        raise DataError(
            f"{lists['train'].parent} has train.txt and val.txt: remove them, or leave out val_share and seed"
        )
    known = set(names)
    listed = {part: [_in_list(entry, known) for entry in read_list(path)] for part, path in lists.items()}
    chosen = dict.fromkeys(name for name in listed[split] if name in known)
    unknown = [name for name in listed[split] if name not in known]
    left = sorted(known.difference(*listed.values()))

    def of_unknown(name: str) -> str:
        near = _meant(name, {name: name for name in names})
        return f"{lists[split]} names {name}, which is no image with a mask{near}; correct it"

    twice = sorted(name for name, count in Counter(listed[split]).items() if count > 1)
    notes = passed_over(left, "in neither list") + passed_over(twice, f"listed again in {lists[split]}")
    notes += passed_over(
        sorted(_parts(folder, own) - {path.name for path in lists.values()}), "as train and val are the splits"
    )
    if lists[split].parent == folder and exists(folder / EXPORTED):
        notes.append(f"passed over: the lists in {folder / EXPORTED}, as {folder} has its own")
    return list(chosen), _told(unknown, of_unknown), notes


def _parts(folder: Path, own: tuple[str, str]) -> set[str]:
    """Return what looks like a split or a list of one, outside of the `own` folders of images and masks."""
    found = {name for name in os.listdir(folder) if Path(name).stem.casefold() in PARTS}
    skipped = {os.path.normpath(part) for part in (*own, EXPORTED)}
    for place, folders, files in os.walk(folder):
        inside = os.path.relpath(place, folder)
        below = {name: os.path.normpath(os.path.join(inside, name)) for name in (*folders, *files)}
        deep = inside.count(os.sep) > 0  # lists lie at most two folders deep, as in VOC's layout
        folders[:] = [name for name in folders if not (deep or name.startswith(".") or below[name] in skipped)]
        found |= {below[name] for name in files if LISTS.search(name)}
    return found


def _lists(folder: Path) -> dict[str, Path]:
    """Return the list of each split: the folder's own, else those of an export in VOC's layout."""
    for place in filter(exists, (folder, folder / EXPORTED)):
        paths = [place / name for name in sorted(os.listdir(place), reverse=True) if name.endswith(".txt")]
        found = {SUBSETS[path.stem.casefold()]: path for path in paths if path.stem.casefold() in SUBSETS}
        if found:
            return found
    return {}


def _in_list(entry: str, known: set[str]) -> str:
    """Return an entry of a list as a name; it may be quoted, or have the image's ending."""
    name = unicodedata.normalize("NFC", entry.strip('"').replace("\\", "/"))
    return name if name in known else _name(name)


def _drawn(names: list[str], split: str, val_share: float, seed: int, folder: Path) -> list[str]:
    """Draw a split: names are ranked by a hash of seed and name; the lowest go to "val"."""
    if not isinstance(val_share, float) or not 0 < val_share < 1:
        raise DataError(f"val_share={val_share!r}: it must be a number between 0 and 1, such as {VAL_SHARE}")
    if len(names) < 2:
        raise DataError(f"{folder} has one image with a mask; it takes at least two, one for train and one for val")
    held_out = min(max(1, round(val_share * len(names))), len(names) - 1)
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).digest())
    return sorted(ranked[:held_out] if split == "val" else ranked[held_out:])
