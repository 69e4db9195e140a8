"""Segment image files, to look at (palette PNG and overlay), as masks like the run's own, or for Cityscapes' server."""

import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

from nnti.data.base import files_below, passed_over
from nnti.data.cityscapes import Cityscapes, to_label_ids
from nnti.data.files import IMAGE_ENDINGS, read_photo, too_large
from nnti.errors import DataError, SettingError, denied, permissions_explained
from nnti.folders import make_folder, write_whole
from nnti.inference.deploy import deploy
from nnti.inference.image import Inference, predict
from nnti.progress import progress_bar

CITYSCAPES_NAME = re.compile(r"(.+?_\d{6}_\d{6})(?:_|$)")  # <city>_<sequence>_<frame>
CITYSCAPES_ENDING = "_pred_labelIds.png"
ENDINGS = {"palette": ["_labels.png", "_overlay.png"], "own": [".png"], "cityscapes": [CITYSCAPES_ENDING]}
FORMATS = tuple(ENDINGS)
MARK = "nnti"  # a text in the PNG: the digest of the pixels as they were written


def predict_files(
    model: nn.Module,
    checkpoint: dict,
    images: Sequence[Path],
    output: Path,
    inference: Inference | None = None,
    format: str = "palette",
    progress: bool = True,
    compile: bool = False,
) -> Iterator[Path]:
    """Segment images at their own size; yield the path of each file as soon as it is written.

    The network is deployed first (see `nnti.inference.deploy`), in the precision that it was trained in.

    Format 'palette' writes OUTPUT/<name>_labels.png (palette PNG of class numbers) and OUTPUT/<name>_overlay.png, where
    <name> is the image's path below the folder that was given, without its ending. 'own' writes only OUTPUT/<name>.png,
    a palette PNG with the values that the run's own masks have for the classes. 'cityscapes' writes only
    OUTPUT/<city>_<sequence>_<frame>_pred_labelIds.png, grey with the original label ids, as the evaluation scripts and
    the server expect it. Results of an earlier call are replaced, other files never.

    Args:
        model: any mode. checkpoint: as `nnti.models.saved.load_model` returns it beside the model.
        images: files that Pillow reads, and folders (see `find_images`), read as a viewer shows them.
        output: folder, made if needed.
        inference: windows, scales, flip; None: one pass over the whole image.
        progress: show a bar if there is more than one image.
        compile: use `torch.compile` for images (or windows) of the first one's size. It is slow at the start, so
            it pays for hundreds of images.

    Raises DataError, SettingError or RunError before anything is written, except for an image with damaged content,
    which is found when it is read, and a disk that becomes full.
    """
    paths = find_images(images, output)
    if format not in FORMATS:
        raise SettingError(f"format={format!r}: it must be one of {', '.join(FORMATS)}")
    cityscapes = format == "cityscapes"
    names = _cityscapes_names(paths, checkpoint, output) if cityscapes else _names(paths, images)
    for name in names:
        for ending in ENDINGS[format]:
            if (taken := output / f"{name}{ending}").exists() and not _is_unchanged_result(taken):
                raise DataError(
                    f"{taken} exists, and is not as this command writes it: it is not replaced, as somebody may have "
                    "drawn or corrected it; take another --output"
                )
    make_folder(output)
    model = deploy(model, checkpoint["experiment"]["precision"], compile=compile)
    quiet, title = not progress or len(paths) < 2, f"segmenting, {inference or Inference()}"
    for path, name in zip(progress_bar(paths, desc=title, unit="img", leave=False, disable=quiet), names, strict=True):
        image = read_photo(path)
        labels = predict(model, image, inference)
        if cityscapes:
            pictures = [Image.fromarray(to_label_ids(labels))]
        elif format == "own":
            pictures = [_own_mask(labels.numpy(), checkpoint)]
        else:
            pictures = _palette_pictures(image.permute(1, 2, 0).numpy(), labels.numpy(), checkpoint["palette"])
        for ending, picture in zip(ENDINGS[format], pictures, strict=True):
            written, marked = output / f"{name}{ending}", PngInfo()
            marked.add_text(MARK, _digest(picture))
            write_whole(written, partial(picture.save, format="PNG", pnginfo=marked))
            yield written


def fitting_scale(size: tuple[int, int], experiment: dict) -> float | None:
    """Return the factor that scales an image of `size`, in any order, to the size of the training images.

    None for images up to twice as large, which the network knows from augmentation.
    """
    usual = training_size(experiment)
    return float(f"{usual / max(size):.2g}") if max(size) > 2 * usual else None


def training_size(experiment: dict) -> int:
    """Return the length of the longer side that images had in training, before random scales, pixels."""
    return experiment["base_size"] if experiment["augment"] else int(np.max(experiment["crop_size"]))


@permissions_explained()
def find_images(paths: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Return the files among `paths` and the images below the folders among them, each once, folders sorted.

    Hidden files are left out, and so are earlier results in an `output` below one of the folders. Raises
    DataError for a path that does not exist, a folder without images, and a file that is not an image.
    """
    found = [file for path in map(Path, paths) for file in (_below(path, output) if path.is_dir() else [path])]
    for file in found:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file")
        try:
            Image.open(file).close()  # looks at the first bytes only
        except PermissionError:
            raise denied(file) from None
        except Image.DecompressionBombError as error:
            raise too_large(file, error) from None
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"{file} is not an image that can be read; use JPEG, PNG or what Pillow knows") from error
    return list(dict.fromkeys(found))


def _below(folder: Path, output: Path | None) -> list[Path]:
    results = None if output is None else output.resolve()
    if results == folder.resolve():
        raise DataError(f"{folder}: results would mix with the images; write them to another folder, --output OTHER")
    files = list(map(Path, files_below(folder)))
    images = [path for path in files if path.suffix.lower() in IMAGE_ENDINGS]
    others = [str(path.relative_to(folder)) for path in files if path.suffix.lower() not in IMAGE_ENDINGS]
    for note in passed_over(others, f"no images in {folder}"):
        warnings.warn(note, stacklevel=4)
    if results and results.is_relative_to(folder.resolve()):
        images = [path for path in images if not path.resolve().is_relative_to(results)]
    if not images:
        raise DataError(f"{folder} holds no image ({' '.join(IMAGE_ENDINGS)}), nor does any folder in it")
    return images


def _names(paths: list[Path], given: Sequence[Path]) -> list[str]:
    """Return what the results are called: each path below the folder that was given, without its ending.

    If two names are the same, all are paths below the folder common to all images; names that differ in their ending
    alone are numbered: a, a_2, …
    """
    folders = [folder for folder in map(Path, given) if folder.is_dir()]
    tops = [next((folder for folder in folders if path.is_relative_to(folder)), path.parent) for path in paths]
    names = [path.relative_to(top).with_suffix("") for path, top in zip(paths, tops, strict=True)]
    if len(set(names)) < len(names):
        whole = [Path(os.path.abspath(path)) for path in paths]
        common = os.path.commonpath([path.parent for path in whole])
        names = [path.relative_to(common).with_suffix("") for path in whole]
    found: dict[str, None] = {}
    for first in map(str, names):
        name, number = first, 2
        while name in found:
            name, number = f"{first}_{number}", number + 1
        found[name] = None
    return list(found)


def _cityscapes_names(paths: list[Path], checkpoint: dict, output: Path) -> list[str]:
    """Return <city>_<sequence>_<frame> of each path; raise if the official evaluation would be misled."""
    learned = checkpoint["class_names"]
    if list(learned) != list(Cityscapes.class_names):
        raise SettingError(
            f"format='cityscapes': this run knows {len(learned)} classes ({', '.join(learned[:3])}, …), not "
            f"Cityscapes' {len(Cityscapes.class_names)}; take a run trained on Cityscapes, or format='palette'"
        )
    matches = [CITYSCAPES_NAME.match(path.stem) for path in paths]
    for path, match in zip(paths, matches, strict=True):
        if not match:
            raise DataError(
                f"{path}: format 'cityscapes' needs file names as in leftImg8bit/, such as "
                "aachen_000000_000019_leftImg8bit.png; for other pictures take format 'palette'"
            )
    names = [match[1] for match in matches]
    for name, count in Counter(names).items():
        if count > 1:
            same = [str(path) for path, other in zip(paths, names, strict=True) if other == name]
            raise DataError(f"{' and '.join(same)} are both {name} to Cityscapes' evaluation; name one of them only")
    for file in sorted(output.rglob("*.png")):  # the evaluation takes any PNG whose name begins like the image's
        match = CITYSCAPES_NAME.match(file.stem)
        if match and match[1] in names and file != output / f"{match[1]}{CITYSCAPES_ENDING}":
            raise DataError(
                f"{file} would be taken for a result of {match[1]} as well; write to an empty folder, --output OTHER"
            )
    return names


def _own_mask(labels: np.ndarray, checkpoint: dict) -> Image.Image:
    """Return class numbers (H, W) as a palette picture of the values that the run's own masks have for the classes."""
    values = np.array(checkpoint.get("label_values", range(len(checkpoint["palette"]))), dtype=np.uint8)
    colors = np.zeros((256, 3), dtype=np.uint8)
    colors[values] = checkpoint["palette"]
    mask = Image.fromarray(values[labels])
    mask.putpalette(colors.flatten().tolist())
    return mask


def _is_unchanged_result(path: Path) -> bool:
    """Whether a picture is one that `predict_files` wrote, and nobody has changed it since."""
    with suppress(OSError, SyntaxError, ValueError), Image.open(path) as image:
        return image.info.get(MARK) == _digest(image)
    return False


def _digest(picture: Image.Image) -> str:
    return hashlib.blake2b(np.asarray(picture).tobytes(), digest_size=16).hexdigest()


def _palette_pictures(image: np.ndarray, labels: np.ndarray, palette: list[list[int]]) -> list[Image.Image]:
    """Return a palette picture of the class numbers and an overlay."""
    colors = np.array(palette, dtype=np.uint8)
    mask = Image.fromarray(labels)  # mode L becomes P with its palette
    mask.putpalette(colors.flatten().tolist())
    blend = (0.45 * image + 0.55 * colors[labels]).round().astype(np.uint8)
    return [mask, Image.fromarray(blend)]
