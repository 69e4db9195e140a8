"""Convert pictures of any mode to 8-bit RGB, all of them in the same way, into a new folder."""

import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from nnti.data.base import counted, files_below, passed_over
from nnti.data.files import (
    DEPTH,
    IMAGE_ENDINGS,
    Convertible,
    hidden_bands,
    largest_number,
    open_image,
    orientation,
    read_image,
    read_photo,
)
from nnti.errors import DataError
from nnti.folders import writing
from nnti.progress import progress_bar


def convert_images(
    source: Path, target: Path, bits: int | None = None, progress: bool = True
) -> tuple[int, int | None, list[str]]:
    """Write all pictures below a folder into a new one as 8-bit RGB; those that are so already are copied.

    Others become PNG: turned upright, transparent parts on white. Of 16-bit pictures `bits` are used, the same for all
    of them; None: the fewest that hold them all, at least 8.

    Returns the number of pictures, the bits if there were such pictures, and notes: what was passed over, what was
    turned, what becomes dark. The new folder appears when all of it is written. Raises DataError before that: if it
    exists, for a damaged picture, for two that would get one name, and for more than `bits`; RunError where it cannot
    be written.
    """
    if not source.is_dir():
        raise DataError(f"there is no folder {source}; name the folder that holds the images")
    if target.exists():
        raise DataError(f"{target} exists; name a new folder")
    if target.resolve().is_relative_to(source.resolve()):
        raise DataError(f"{target} lies in {source}, which would then hold every image twice; name one beside it")
    paths, others = [], []
    for path in map(Path, files_below(source)):
        (paths if path.name.lower().endswith(IMAGE_ENDINGS) else others).append(path)
    if not paths:
        raise DataError(f"{source} holds no pictures ({' '.join(IMAGE_ENDINGS)})")
    notes = passed_over([os.path.relpath(path, source) for path in others], "no images")

    # place in the new folder → path; turned by EXIF; with bands that no viewer shows; path → its largest number
    places, turned, dropped, deep = {}, [], [], {}
    for path in progress_bar(paths, desc="reading", disable=not progress):
        place = Path(os.path.relpath(path, source))
        try:
            read_image(path)
        except Convertible:
            image = open_image(path)
            turned += [] if orientation(image) in (0, 1) else [str(place)]
            dropped += [str(place)] if hidden_bands(image) else []
            number = largest_number(image, path)
            deep |= {} if number is None else {path: number}
            place = place.with_suffix(".png")
        if (other := places.setdefault(place, path)) != path:
            raise DataError(f"{other} and {path} would both become {target / place}: rename one of them")
    notes += counted("turned upright by their EXIF data, so that masks may not fit", turned)
    notes += counted("bands beyond red, green, blue and opacity left out", dropped)
    if deep:
        most = max(deep, key=deep.get)
        needed, usual = max(8, deep[most].bit_length()), sorted(deep.values())[len(deep) // 2]
        bits = bits or needed
        if needed > bits:
            raise DataError(f"{most} holds {deep[most]}, which needs {needed} bits, more than {bits}")
        if usual < 1 << bits - 2:
            notes.append(f"half of the pictures have no number above {usual} and become dark; {most} has {deep[most]}")

    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as unfinished:
            for place, path in progress_bar(places.items(), desc="converting", disable=not progress):
                _convert(path, Path(unfinished) / "all" / place, bits or DEPTH)
            os.rename(Path(unfinished) / "all", target)
    return len(paths), bits if deep else None, notes


def _convert(path: Path, place: Path, bits: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        read_image(path)
    except Convertible:
        Image.fromarray(read_photo(path, bits).permute(1, 2, 0).numpy()).save(place)
    else:
        shutil.copyfile(path, place)
