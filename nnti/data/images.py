"""Reading picture files: strictly for data sets, where a surprise means damage, leniently for people's own photos."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps

from nnti.errors import DataError, denied

__all__ = ["IMAGE_ENDINGS", "palette_of", "read_colour_png", "read_image", "read_index_png", "read_photo", "reduced"]

IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # what counts in a folder


def read_image(path: Path) -> torch.Tensor:
    """Read an image of a data set as a uint8 tensor (3, H, W), RGB.

    Raises DataError for an image that could be read as something else than was meant: other modes than 8-bit RGB, and
    an EXIF orientation, which viewers apply to the image but nobody applies to its label.
    """
    image = _open(path)
    if image.mode != "RGB":
        raise DataError(
            f"{path} has mode {image.mode}, not 8-bit RGB. Restore the original, or convert the images to RGB in a "
            "new folder"
        )
    turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    if turned not in (0, 1):
        raise DataError(
            f"{path} has the EXIF orientation {turned}: viewers turn it, but not its label. Save it upright, without "
            "EXIF, in a new folder, and check that its label fits"
        )
    return _tensor(image)


def read_photo(path: Path) -> torch.Tensor:
    """Read any picture as a viewer shows it: a uint8 tensor (3, H, W), RGB.

    It is turned upright, 16 bits become 8, and transparent parts are shown on white.
    """
    image = ImageOps.exif_transpose(_open(path))
    if image.mode[0] in "IF":  # 16-bit grey, 32-bit integers, floating point
        values = np.array(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise DataError(f"{path} holds numbers that are not 8 or 16-bit colours; save it as 8-bit RGB")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))  # 65535 / 257 = 255
    if image.has_transparency_data:
        paint = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", paint.size, "white"), paint)
    return _tensor(image.convert("RGB"))


def read_index_png(path: Path) -> np.ndarray:
    """Read a palette, grey 8-bit or black-and-white PNG as its indices, uint8 (H, W), whatever colours it shows."""
    image = _open_png(path)
    if image.mode not in ("P", "L", "1"):
        raise DataError(
            f"{path} has mode {image.mode}; a label file is a palette (P) or grey (L) 8-bit PNG of class numbers. "
            "Was it saved as a colour picture? Restore the original file"
        )
    return np.array(image, dtype=np.uint8)


def read_colour_png(path: Path) -> np.ndarray:
    """Read a PNG of up to 8 bits as the colours that it shows, uint8 (H, W, 3); transparency is a DataError."""
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
    image = _open(path)
    if image.format != "PNG":
        raise DataError(
            f"{path} is a {image.format} inside, whatever its name; other formats than PNG may change label values "
            "along edges: export it again from the tool that it was drawn with"
        )
    return image


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise DataError(f"{path} is missing; unpack the data set again, or remove the name from its list") from None
    except PermissionError:
        raise denied(path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read ({error}); half copied? Copy or download it again") from error
