"""Base class of all data sets: a list of (image file, label file), read as uint8 tensors at their own size.

Files of data sets are read strictly, because anything unexpected means damage; users' own photos leniently.
"""

import codecs
import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from nnti.errors import DataError, denied
from nnti.progress import progress_bar

# files in a folder that count as images
IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
IGNORE_INDEX = 255  # the label of void pixels in every data set, whatever the files use
MOST_THREADS = 8  # that read files: more would crowd a network drive
BANDS, EXTRA_SAMPLES = 277, 338  # TIFF's tags of the number of bands, and of what those beyond RGB are
DEPTH = 16  # bits
NOTED = 3  # names that are shown of what was passed over


class FilePairs(Sequence[tuple[Path, Path]]):
    """A list of (image, label) paths that takes hardly more memory than the file names.

    A list of `Path` objects would take many times as much, grow with use, and be copied, page by page, into every
    process that reads it.
    """

    def __init__(self, pairs: Iterable[tuple[str | Path, str | Path]]):
        numbers: dict[str, int] = {}  # folder → its position in `_folders`
        entries = [(*_split(image, numbers), *_split(label, numbers)) for image, label in pairs]
        image, label = (max((len(entry[part]) for entry in entries), default=1) for part in (1, 3))  # longest names
        columns = [("image_folder", "u4"), ("image", f"S{image}"), ("label_folder", "u4"), ("label", f"S{label}")]
        self._folders = [Path(folder) for folder in numbers]
        self._entries = np.array(entries, dtype=columns)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int | slice) -> "tuple[Path, Path] | FilePairs":
        if isinstance(index, slice):
            return FilePairs(self[at] for at in range(*index.indices(len(self))))
        image_folder, image, label_folder, label = self._entries[index]
        return self._folders[image_folder] / os.fsdecode(image), self._folders[label_folder] / os.fsdecode(label)


def _split(path: str | Path, numbers: dict[str, int]) -> tuple[int, bytes]:
    """Return the number of a path's folder, adding it to `numbers` if it is new, and the file's name."""
    folder, name = os.path.split(path)
    return numbers.setdefault(folder, len(numbers)), os.fsencode(name)


class SegmentationDataset(torch.utils.data.Dataset):
    """One split of a data set.

    A sample is `(image, label)`: a uint8 tensor (3, H, W) in RGB and a uint8 tensor (H, W) with values
    0 … num_classes − 1 or 255 for void, both at the image's own size.

    Subclasses give the (image, label) paths and, where the stored label values are not the class numbers, override
    `read_label`. `files` is that list; another one can be assigned, for example a part of it.

    Attributes:
        label_values, void_value: what the files hold for each class, and for void.
        notes: what was passed over, a text each.
    """

    name = ""  # key in `nnti.data.DATASETS`
    title = ""  # name in figures and tables
    class_names: Sequence[str] = ()
    palette: np.ndarray  # (num_classes, 3) uint8, RGB: the colours that the data set's authors use
    void_color = (224, 224, 192)
    decoded = None  # a copy of all samples; see `nnti.data.attach_cache`
    encoding = ""  # what `read_label` depends on besides the files; a decoded copy is renewed when it changes
    arguments: Sequence[str] = ()  # what an experiment's `dataset_arguments` may hold
    void_value = IGNORE_INDEX
    notes: Sequence[str] = ()
    one_class_advice = "Restore the label files, or take another split"

    def __init__(self, root: Path, split: str, files: Iterable[tuple[str | Path, str | Path]]):
        self.root, self.split, self.files = Path(root), split, files
        if not self.files:
            raise DataError(f"{self.title}: split '{split}' in {root} is empty; check its list file")
        self.label_values = list(range(self.num_classes))

    @property
    def files(self) -> FilePairs:
        """The (image, label) paths."""
        return self._files

    @files.setter
    def files(self, pairs: Iterable[tuple[str | Path, str | Path]]) -> None:
        self._files = pairs if isinstance(pairs, FilePairs) else FilePairs(pairs)
        self.decoded = self.counted = None  # they belonged to the old list

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.class_names)

    @property
    def cache(self) -> str:
        """Where samples are read from: "disk" or "ram" for a decoded copy, "none" for the files themselves."""
        return "none" if self.decoded is None else self.decoded.kind

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.read(index) if self.decoded is None else self.decoded[index]

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a sample from its files, whether or not a decoded copy is there."""
        image_path, label_path = self.files[index]
        image, label = read_image(image_path), self.read_label(label_path)
        check_sizes(image, label, image_path, label_path)
        self.check_label(label, label_path)
        return image, label

    def label(self, index: int) -> torch.Tensor:
        """Read the label of a sample, uint8 (H, W), without its image."""
        if self.decoded is not None:
            return self.decoded[index][1]
        path = self.files[index][1]
        label = self.read_label(path)
        self.check_label(label, path)
        return label

    def image_name(self, path: Path) -> str:
        """Return the name of an image in results, unique in its split."""
        return path.stem

    def read_label(self, path: Path) -> torch.Tensor:
        """Read one label file as class numbers: uint8 (H, W)."""
        return torch.from_numpy(read_index_png(path))

    def check_together(self, labels: Sequence[Path]) -> None:
        """Raise DataError if label files contradict each other, which none of them shows alone."""

    def check_label(self, label: torch.Tensor, path: Path) -> None:
        """Raise DataError, naming the file, if a label is neither a class nor void."""
        values = torch.bincount(label.flatten(), minlength=256).nonzero().flatten().tolist()
        wrong = [value for value in values if value >= self.num_classes and value != IGNORE_INDEX]
        if wrong:
            raise DataError(
                f"{path} holds label values {wrong}; {self.title} has classes 0 to {self.num_classes - 1} "
                f"and {IGNORE_INDEX} for void. Restore the original file"
            )


def check_sizes(image: torch.Tensor, label: torch.Tensor, image_path: Path, label_path: Path) -> None:
    """Raise DataError if an image (3, H, W) and its label (H, W) differ in size."""
    (height, width), (label_height, label_width) = image.shape[1:], label.shape
    if (height, width) != (label_height, label_width):
        raise DataError(
            f"{image_path} is {width} × {height} pixels but its label {label_path} is {label_width} × {label_height}: "
            "one of them was resized or belongs to another picture; restore the originals"
        )


def read_list(path: Path) -> list[str]:
    """Read a list file (UTF-8): one entry a line, in order; blank lines, spaces at the ends and CRLF do not matter."""
    try:
        content = Path(path).read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes, as UTF-16 does")
    except FileNotFoundError:
        raise DataError(f"the list {path} is missing; unpack the data set again") from None
    except PermissionError:
        raise denied(path) from None
    except OSError as error:
        raise DataError(f"the list {path} cannot be read ({error}); copy it again") from error
    except ValueError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error}). Save it as UTF-8: in an editor under Save as, Encoding; in Excel as "
            "CSV UTF-8"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def files_below(folder: str | Path, above: Sequence[str] = ()) -> Iterator[str]:
    """Yield the paths of all files below a folder and in linked folders, sorted, without hidden ones.

    `above`: the folders around this one; a link back to one of them is not followed.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        seen = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in seen:
        if entry.is_dir():
            yield from files_below(entry.path, (*above, real))
        else:
            yield entry.path


def passed_over(names: Sequence[str], why: str) -> list[str]:
    """Return a text that names and counts what was passed over; nothing if that is nothing."""
    shown = ", ".join(names[:NOTED]) + ", …" * (len(names) > NOTED)
    return [f"passed over, {why}: {shown} ({len(names)} in all)"] if names else []


def check_choice(what: str, choice: str, choices: Iterable[str]) -> None:
    """Raise DataError, with the nearest of `choices`, if `choice` is none of them."""
    choices = list(choices)
    if choice not in choices:
        near = difflib.get_close_matches(str(choice), choices, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise DataError(f"{what} '{choice}' is not one of {', '.join(choices)}{hint}")


def find_root(title: str, roots: Iterable[Path], layouts: Sequence[str], needs: Sequence[str], fix: str) -> Path:
    """Return the first `root / layout` that holds all of `needs`; else raise DataError with `fix`.

    The layout "" is the root itself.
    """
    roots = list(dict.fromkeys(map(Path, roots)))
    remarks: dict[str, None] = {}  # partial matches
    for candidate in (root / layout for root in roots for layout in layouts):
        try:
            missing = [need for need in needs if not exists(candidate / need)]
        except PermissionError as error:
            remarks[str(denied(error.filename))] = None
            continue
        if not missing:
            return candidate
        if len(missing) < len(needs):
            remarks[f"{candidate} is incomplete: it lacks {', '.join(missing)}"] = None
    below = f"(each itself and below it {', '.join(filter(None, layouts))})"
    looked = [f"{title} was not found. Looked in", *(f"  {root}" for root in roots), below]
    raise DataError("\n".join([*looked, *remarks, fix]))


def exists(path: Path) -> bool:
    """Like Path.exists, but raise PermissionError in every version of Python."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def evenly_spread(length: int, limit: int | None) -> list[int]:
    """Return `limit` indices spread evenly over range(length), ascending; all of them if `limit` is None or larger."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: it must be at least 1, or None for all")
    count = length if limit is None else min(limit, length)
    return [index * length // count for index in range(count)]


def class_frequencies(dataset: SegmentationDataset, limit: int | None = None, progress: bool = True) -> np.ndarray:
    """Count the pixels of each class: int64 (num_classes,), void excluded.

    Reads labels only, and all of them only once. `limit`: count only this many images, spread evenly over the split.
    """
    if limit is None and dataset.counted is not None:
        return dataset.counted[: dataset.num_classes]
    counts, indices = np.zeros(256, np.int64), evenly_spread(len(dataset), limit)
    title = f"{dataset.title} {dataset.split}: class frequencies"
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda index: count_values(dataset.label(index)), indices)
        for one in progress_bar(found, total=len(indices), desc=title, disable=not progress):
            counts += one
    if limit is None:
        dataset.counted = counts
    return counts[: dataset.num_classes]


def count_values(label: torch.Tensor) -> np.ndarray:
    """Count the pixels of each value of a label: int64 (256,)."""
    return torch.bincount(label.flatten(), minlength=256).numpy()


class Convertible(DataError):
    """An image is not an upright one of 8-bit RGB, as which `nnti.data.convert` writes it."""


def read_image(path: Path) -> torch.Tensor:
    """Read an image of a data set as a uint8 tensor (3, H, W), RGB.

    Raises DataError for an ambiguous image: a mode other than 8-bit RGB, or an EXIF orientation, which viewers apply to
    the image while its label stays as it is.
    """
    image = open_image(path)
    if image.mode != "RGB":
        largest_number(image, path)  # refuses what cannot be converted
        raise Convertible(
            f"{path} has mode {image.mode}, not 8-bit RGB. Restore the original, or convert the images to RGB in a "
            "new folder: python -m nnti convert IMAGES NEW_FOLDER"
        )
    turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    if turned not in (0, 1):
        raise Convertible(
            f"{path} has the EXIF orientation {turned}: viewers turn it, but not its label. Save it upright, without "
            "EXIF, in a new folder (python -m nnti convert IMAGES NEW_FOLDER), and check that its label fits"
        )
    return _tensor(image)


def read_photo(path: Path, bits: int | None = None) -> torch.Tensor:
    """Read any picture as a viewer shows it: a uint8 tensor (3, H, W), RGB.

    It is turned upright, 16 bits become 8, and transparent parts are shown on white.

    `bits`: how many of the 16 the picture uses, as cameras do that measure 10 to 14; None: all, and a picture that is
    nearly black then is a DataError.
    """
    opened = open_image(path)
    image = ImageOps.exif_transpose(opened)
    if opened.format == "TIFF" and image.mode == "RGBA" and EXTRA_SAMPLES not in opened.tag_v2:
        image = Image.merge("RGB", image.split()[:3])  # the fourth band, infrared perhaps, is not said to be opacity
    if (largest := largest_number(image, path)) is not None:
        if bits is None and 255 < largest < 1 << DEPTH - 2:
            raise DataError(
                f"{path} has 16 bits, and no value above {largest}: it would be nearly black. Convert it, and others "
                "of its kind, as for training: python -m nnti convert FOLDER NEW_FOLDER"
            )
        image = Image.fromarray(np.rint(np.array(image) / (((1 << (bits or DEPTH)) - 1) / 255)).astype(np.uint8))
    if image.has_transparency_data:
        paint = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", paint.size, "white"), paint)
    return _tensor(image.convert("RGB"))


def largest_number(image: Image.Image, path: Path) -> int | None:
    """Return the largest value of a picture of 16-bit numbers, None for other modes; DataError for other numbers."""
    if image.mode[0] not in "IF":  # 16-bit grey, 32-bit integers, floating point
        return None
    values = np.array(image)
    if image.mode == "F" or values.min() < 0 or values.max() >= 1 << DEPTH:
        raise DataError(f"{path} holds numbers that are not 8 or 16-bit colours; save it as 8-bit RGB")
    return int(values.max())


class ColourPicture(DataError):
    """A label file is a colour picture."""


def read_index_png(path: Path) -> np.ndarray:
    """Read the indices of a palette, grey or black-and-white PNG, uint8 (H, W), whatever its colours."""
    image = _open_png(path)
    if image.mode in ("I", "I;16"):  # some tools write small numbers with 16 bits
        values = np.array(image)
        if values.max() > IGNORE_INDEX:
            raise DataError(f"{path} holds values up to {values.max()}; classes are 0 to 254, and 255 is void")
        return values.astype(np.uint8)
    if image.mode not in ("P", "L", "1"):
        raise ColourPicture(
            f"{path} has mode {image.mode}; a label file is a palette (P) or grey (L) 8-bit PNG of class numbers. "
            "Was it saved as a colour picture? Restore the original file"
        )
    return np.array(image, dtype=np.uint8)


def read_colour_png(path: Path) -> np.ndarray:
    """Read the colours of a PNG of up to 8 bits, uint8 (H, W, 3); transparency is a DataError."""
    image = _open_png(path)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise DataError(f"{path} has mode {image.mode}; a colour mask is an 8-bit RGB PNG: export it as such")
    paint = np.array(image.convert("RGBA"))
    transparent = (paint[..., 3] < 255).sum()
    if transparent:
        raise DataError(
            f"{path} is transparent in {transparent} pixels, which have no colour; fill them with the colour of a "
            "class or of void and export the mask without transparency"
        )
    return paint[..., :3]


def palette_of(path: Path) -> np.ndarray | None:
    """Return the colours of a palette PNG, uint8 (up to 256, 3); None for a file without a palette."""
    image = _open_png(path)
    return np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3) if image.mode == "P" else None


def reduced(image: torch.Tensor, longest: int) -> torch.Tensor:
    """Scale a uint8 image (3, H, W) down so that its longer side is `longest` pixels; a smaller one stays as it is."""
    factor = longest / max(image.shape[1:])
    if factor >= 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    smaller = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    return smaller.round().clamp(0, 255).to(torch.uint8)


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _open_png(path: Path) -> Image.Image:
    image = open_image(path)
    if image.format != "PNG":
        raise DataError(
            f"{path} is a {image.format} inside, whatever its name; other formats than PNG may change label values "
            "along edges: export it again from the tool that it was drawn with"
        )
    return image


def too_large(path: Path, error: Image.DecompressionBombError) -> DataError:
    """Return the error for a picture that has more pixels than Pillow reads."""
    size = str(error).partition(", could be")[0]  # a decompression bomb, Pillow means
    return DataError(f"{path} is too large to be read ({size}): cut it, and its mask if it has one, into tiles")


def _bands(path: Path) -> int | None:
    """Return the number of a TIFF's bands; None for what is no TIFF."""
    with suppress(OSError, SyntaxError, KeyError, TypeError), open(path, "rb") as file:
        head = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(head.next)
        head.load(file)
        return head[BANDS]
    return None


def open_image(path: Path) -> Image.Image:
    """Open and decode a picture; raise DataError, naming the file and the fix, if that is impossible."""
    try:
        with Image.open(path) as image:
            deep = any(f";{DEPTH}" in str(tile) for tile in image.tile)
            image.load()
            if deep and image.mode == "RGB" and max(high for _, high in image.getextrema()) < 1 << 6:
                raise DataError(
                    f"{path} has 16 bits a colour and uses no more than 14, so that it would be nearly black. Scale it "
                    "to 8-bit RGB with the program that it comes from"
                )
            return image
    except FileNotFoundError:
        raise DataError(f"{path} is missing; unpack the data set again, or remove the name from its list") from None
    except PermissionError:
        raise denied(path) from None
    except Image.DecompressionBombError as error:
        raise too_large(path, error) from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, UnidentifiedImageError) and (bands := _bands(path)):
            raise DataError(
                f"{path} is a TIFF of {bands} band{'s' * (bands > 1)} that Pillow cannot read. Save three of them as "
                "8-bit RGB, with the program that it comes from"
            ) from None
        raise DataError(f"{path} cannot be read ({error}); half copied? Copy or download it again") from error
