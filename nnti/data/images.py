"""Reading picture files: strictly for data sets, where a surprise means damage, leniently for people's own photos."""

import shlex
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps

from nnti.errors import DataError, denied

__all__ = ["IMAGE_ENDINGS", "palette_of", "read_colour_png", "read_image", "read_index_png", "read_photo", "reduced"]


IMAGE_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # what counts in a folder

SIXTEEN_TO_EIGHT = 257  # 65535 / 255
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
REPAIR = (
    "import sys, PIL.Image, nnti.data.images as images; "
    "PIL.Image.fromarray(images.read_photo(sys.argv[1]).permute(1, 2, 0).numpy()).save(sys.argv[1], quality=95)"
)


def read_image(path: Path) -> torch.Tensor:
    """Read an image of a data set as a uint8 tensor (3, H, W), RGB.

    Raises DataError for what no data set here holds, because it would be read as something else than was meant: other
    modes than 8-bit RGB, and an orientation that a viewer applies to the image, but nobody to its label.
    """
    with _open(path) as image:
        if image.mode != "RGB":
            raise DataError(
                f"{path} has mode {image.mode}, not 8-bit RGB. Restore the original file, or convert it: "
                f"{_repair(path)}"
            )
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)
        if turned not in (0, 1):
            raise DataError(
                f"{path} has the EXIF orientation {turned}: viewers turn it, while its label stays as it is. Save it "
                f"upright, then look whether its label fits: {_repair(path)}"
            )
        return _tensor(image)


def read_photo(path: Path) -> torch.Tensor:
    """Read any picture as a viewer shows it: a uint8 tensor (3, H, W), RGB.

    It is turned upright, 16 bits become 8, transparent parts are shown on white.
    """
    with _open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            return _from_integers(np.array(upright), path)
        if upright.mode == "F":
            raise DataError(f"{path} holds floating-point numbers, whose range nobody knows; save it as 8-bit RGB")
        if upright.mode in ALPHA or "transparency" in upright.info:
            paint = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", paint.size, "white"), paint)
        return _tensor(upright.convert("RGB"))


def read_index_png(path: Path) -> np.ndarray:
    """Read a palette, grey 8-bit or black-and-white PNG as its indices, uint8 (H, W); colours are never converted."""
    with _open_png(path) as image:
        if image.mode not in ("P", "L", "1"):
            raise DataError(
                f"{path} has mode {image.mode}; a label file is a palette (P) or grey (L) 8-bit PNG of class numbers. "
                "Was it saved as a colour picture? Restore the original file"
            )
        return np.array(image, dtype=np.uint8)


def read_colour_png(path: Path) -> np.ndarray:
    """Read a PNG of up to 8 bits as the colours that it shows, uint8 (H, W, 3); DataError for what is transparent."""
    with _open_png(path) as image:
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
            raise DataError(f"{path} has mode {image.mode}; a colour mask is an RGB PNG of 8 bits: export it as such")
        paint = np.array(image.convert("RGBA"))
    if paint[..., 3].min() < 255:
        raise DataError(
            f"{path} is transparent in {(paint[..., 3] < 255).sum()} pixels, which have no colour; fill them with the "
            "colour of a class or of void and export the mask without transparency"
        )
    return paint[..., :3]


def palette_of(path: Path) -> np.ndarray | None:
    """Return the colours of a palette PNG, uint8 (up to 256, 3); None for a file without a palette."""
    with _open_png(path) as image:
        return np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3) if image.mode == "P" else None


def reduced(image: torch.Tensor, longest: int) -> torch.Tensor:
    """Scale a uint8 image (3, H, W) down so that its longer side is `longest` pixels; a smaller one stays as it is."""
    factor = longest / max(image.shape[1:])
    if factor >= 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[1:]]
    smaller = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
    return smaller.round().clamp(0, 255).to(torch.uint8)


def _repair(path: Path) -> str:
    """Return the command that replaces a picture by what `read_photo` makes of it; a plain conversion clips 16 bits."""
    return f'python -c "{REPAIR}" {shlex.quote(str(path))}'


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _from_integers(values: np.ndarray, path: Path) -> torch.Tensor:
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"{path} holds numbers beyond 16 bits; save it as 8-bit RGB")
    grey = np.rint(values / SIXTEEN_TO_EIGHT).astype(np.uint8)
    return torch.from_numpy(grey).expand(3, -1, -1).contiguous()


def _open_png(path: Path) -> Image.Image:
    """Open a label file; JPEG and the like change values, whatever a file is called."""
    image = _open(path)
    if image.format != "PNG":
        raise DataError(
            f"{path} is a {image.format} inside, whatever its name; a label file is a PNG, because others may change "
            "values along edges: export it anew from the tool that it was drawn with"
        )
    return image


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise DataError(f"{path} is missing; unpack the data set again, or remove the name from its list") from None
    except PermissionError:
        raise denied(path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read ({error}); half copied? Copy or download it again") from error
    return image
