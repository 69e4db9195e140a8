"""Convert pictures of any mode to 8-bit RGB, all of them in the same way, into a new folder."""

import os
import shutil
from pathlib import Path

from PIL import Image

from nnti.data.base import files_below
from nnti.data.files import DEPTH, IMAGE_ENDINGS, Convertible, largest_number, open_image, read_image, read_photo
from nnti.errors import DataError
from nnti.progress import progress_bar

CAMERAS = (10, 12, 14, DEPTH)  # bits that they measure, stored in 16


def convert_images(
    source: Path, target: Path, bits: int | None = None, progress: bool = True
) -> tuple[int, int | None]:
    """Write all pictures below a folder into a new one as 8-bit RGB; those that are copied, others become PNG.

    Of 16-bit pictures `bits` are used, the same for all of them; None: the fewest of `CAMERAS` that hold them all.

    Returns the number of pictures, and the bits if there were such pictures. Raises DataError before anything is
    written: if the new folder exists, for a damaged picture, and for more than `bits`.
    """
    paths = [Path(path) for path in files_below(source) if path.lower().endswith(IMAGE_ENDINGS)]
    if target.exists() or not paths:
        raise DataError(f"{target} exists; name a new folder" if paths else f"{source} holds no pictures")
    found = [
        largest_number(open_image(path), path) for path in progress_bar(paths, desc="reading", disable=not progress)
    ]
    largest = max((number for number in found if number is not None), default=None)
    if largest is not None:
        bits = bits or next(depth for depth in CAMERAS if largest < 1 << depth)
        if largest >= 1 << bits:
            raise DataError(f"a picture below {source} holds {largest}, which needs more than {bits} bits")
    for path in progress_bar(paths, desc="converting", disable=not progress):
        place = target / os.path.relpath(path, source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            read_image(path)
        except Convertible:
            photo = read_photo(path, bits or DEPTH)
            Image.fromarray(photo.permute(1, 2, 0).numpy()).save(place.with_suffix(".png"))
        else:
            shutil.copyfile(path, place)
    return len(paths), None if largest is None else bits
