"""Image files: read as arrays and tensors, or refused with the real reason and a fix.

Files of data sets are read strictly, because anything unexpected means damage; users' own photos leniently.
"""

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from nnti.errors import DataError, denied

# files in a folder that count as images
IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# TIFF's tags of whether 0 is white (0) or black, of the number of bands, and of what those beyond RGB are
BLACK, BANDS, EXTRA_SAMPLES = 262, 277, 338
DEPTH = 16  # bits


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
    if (turned := orientation(image)) not in (0, 1):
        raise Convertible(
            f"{path} has the EXIF orientation {turned}: viewers turn it, but not its label. Save it upright, without "
            "EXIF, in a new folder (python -m nnti convert IMAGES NEW_FOLDER), and turn its label if it does not fit"
        )
    return _tensor(image)


def read_photo(path: Path, bits: int | None = None) -> torch.Tensor:
    """Read any picture as a viewer shows it: a uint8 tensor (3, H, W), RGB.

    It is turned upright, 16 bits become 8, and transparent parts are shown on white.

    `bits`: how many of the 16 the picture uses, as cameras do that measure 10 to 14; None: all, with a warning, and a
    picture that is nearly black then is a DataError.
    """
    opened = open_image(path)
    image = ImageOps.exif_transpose(opened)
    if opened.format == "TIFF" and image.mode == "RGBA" and EXTRA_SAMPLES not in opened.tag_v2:
        image = Image.merge("RGB", image.split()[:3])  # the fourth band, infrared perhaps, is not said to be opacity
    if (largest := largest_number(image, path)) is not None:
        as_in_training = (
            "python -m nnti convert FOLDER NEW_FOLDER --bits N, with the N that it printed for the training images"
        )
        if bits is None and 0 < largest < 1 << DEPTH - 2:
            raise DataError(
                f"{path} has 16 bits, and no value above {largest}: it would be nearly black. Convert it, and others "
                f"of its kind, as for training: {as_in_training}"
            )
        if bits is None:
            warnings.warn(f"{path} has 16 bits, of which 8 are used. Better: {as_in_training}", stacklevel=2)
        image = Image.fromarray(np.rint(np.array(image) / (((1 << (bits or DEPTH)) - 1) / 255)).astype(np.uint8))
    if image.has_transparency_data:
        paint = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", paint.size, "white"), paint)
    return _tensor(image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """Return how a viewer turns a picture, by EXIF: 0 and 1 mean not at all."""
    return image.getexif().get(ExifTags.Base.Orientation, 1)


def hidden_bands(image: Image.Image) -> bool:
    """Whether a picture has bands that become no part of its 8-bit RGB, infrared perhaps."""
    if image.format != "TIFF" or "RGB" not in image.mode:
        return False
    return image.tag_v2.get(BANDS, 3) > 3 + (EXTRA_SAMPLES in image.tag_v2 and image.mode == "RGBA")


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
        if values.max() > 255:
            raise DataError(
                f"{path} holds values up to {values.max()}; classes are 0 to 254, and 255 is void. Save it with 8 "
                "bits, and with the number of a class as the value of each pixel"
            )
        return values.astype(np.uint8)
    if image.mode not in ("P", "L", "1"):
        raise ColourPicture(
            f"{path} has mode {image.mode}; a label file is a palette (P) or grey (L) 8-bit PNG of class numbers. "
            "Was it saved as a colour picture? Restore the original file"
        )
    values = np.array(image, dtype=np.uint8)
    with open(path, "rb") as file:
        depth = file.read(25)[-1]  # the header's bits per sample
    return values // (255 // ((1 << depth) - 1)) if image.mode == "L" and depth in (2, 4) else values  # Pillow scales


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
    if (turned := orientation(image)) not in (0, 1):
        raise DataError(
            f"{path} has the EXIF orientation {turned}: viewers turn it, and here it is read as it is stored. Save it "
            "without EXIF, as it fits its image"
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
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # a phone's photo with a second view or a depth map
                raise DataError(f"{path} holds {frames} pictures in one file: save each as a file of its own")
            image.load()
            if image.mode == "I;16" and image.format == "TIFF" and image.tag_v2.get(BLACK) == 0:
                raise DataError(f"{path} has 16 bits, and 0 means white: save it with 0 as black, or with 8 bits")
            colours = [image.getchannel(band) for band in image.getbands() if band in "RGBL"]  # without opacity
            if deep and colours and max(colour.getextrema()[1] for colour in colours) < 1 << 6:
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
