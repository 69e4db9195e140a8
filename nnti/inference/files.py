"""Segment image files, for the eye (palette PNG and colour overlay) or for Cityscapes' server (PNG of label ids)."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from nnti.data.cityscapes import Cityscapes, to_label_ids
from nnti.data.images import IMAGE_ENDINGS, read_photo
from nnti.errors import DataError, SettingError, denied, permissions_explained
from nnti.inference.deploy import deploy
from nnti.inference.image import Inference, predict
from nnti.progress import progress_bar

__all__ = ["FORMATS", "find_images", "fitting_scale", "predict_files"]


FORMATS = ("palette", "cityscapes")
CITYSCAPES_NAME = re.compile(r"(.+?_\d{6}_\d{6})(?:_|$)")  # <city>_<sequence>_<frame>


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
    """Segment images at their own size; yield the path of every file written, at once.

    The network is deployed first (see `nnti.inference.deploy`): with the precision that it was trained in, normalisations folded.

    Format 'palette' writes OUTPUT/<stem>_labels.png (palette PNG of class numbers) and OUTPUT/<stem>_overlay.png.
    'cityscapes' writes OUTPUT/<city>_<sequence>_<frame>_pred_labelIds.png alone, grey with the original label ids, as
    the evaluation scripts and server find and read them.

    Args:
        model: any mode. checkpoint: as `nnti.models.saved.load_model` returns it beside the model.
        images: files that Pillow reads, and folders (see `find_images`); they are read as a viewer shows them.
        output: folder, made if need be.
        inference: windows, scales, flip; None: one pass over the whole image.
        progress: show a bar if there is more than one image.
        compile: let `torch.compile` make the network faster, for the images (or windows) of the first one's size. It
            takes a minute or two first: for hundreds of images.

    Raises DataError or SettingError before anything is written, except for an image that turns out damaged inside:
    what was written before it stays.
    """
    paths = find_images(images, output)
    names = _output_names(paths, checkpoint, output, format)
    write = _write_label_ids if format == "cityscapes" else _write_palette
    model = deploy(model, checkpoint["experiment"]["precision"], compile=compile)
    output.mkdir(parents=True, exist_ok=True)
    for path, name in progress_bar(
        zip(paths, names, strict=True),
        desc=f"segmenting, {inference or Inference()}",
        total=len(paths),
        unit="img",
        leave=False,
        disable=not progress or len(paths) < 2,
    ):
        image = read_photo(path)
        labels = predict(model, image, inference)
        yield from write(output / name, image, labels, checkpoint)


def fitting_scale(size: tuple[int, int], experiment: dict) -> float | None:
    """Return the factor that brings an image of `size`, in any order, to the size of the training's images.

    None for an image up to twice as large: augmentation shows the network such.
    """
    usual = experiment["base_size"] if experiment["augment"] else np.max(experiment["crop_size"])
    return float(f"{usual / max(size):.2g}") if max(size) > 2 * usual else None


@permissions_explained()
def find_images(paths: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Return the files among `paths` and the images below the folders among them, each once, folders sorted.

    Hidden files are left out, and so is what an earlier call wrote into an `output` below one of the folders. Raises
    DataError for a path that does not exist, a folder without images, and a file that is none.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        files = _below(path, output) if path.is_dir() else [path]
        for file in files:
            _check_image(file)
        found.update(dict.fromkeys(files))
    return list(found)


def _below(folder: Path, output: Path | None) -> list[Path]:
    found = (Path(place) / name for place, _, names in os.walk(folder, onerror=_raise) for name in names)
    files = [path for path in sorted(found) if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()]
    files = [path for path in files if not path.name.startswith(".")]
    if output is not None and output.resolve() == folder.resolve():
        raise DataError(f"{folder}: results would mix with the images; write them to another folder, --output OTHER")
    if output is not None and output.resolve().is_relative_to(folder.resolve()):
        files = [path for path in files if not path.resolve().is_relative_to(output.resolve())]
    if not files:
        raise DataError(f"{folder} holds no image ({' '.join(IMAGE_ENDINGS)}), nor does any folder in it")
    return files


def _raise(error: OSError) -> None:
    """A folder that may not be looked into would be passed over otherwise."""
    raise error


def _check_image(path: Path) -> None:
    """Look at a file's first bytes only, so that a whole test split is checked in a moment."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        Image.open(path).close()
    except PermissionError:
        raise denied(path) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _not_an_image(path) from error


def _not_an_image(path: Path) -> DataError:
    return DataError(f"{path} is not an image that can be read; JPEG, PNG and whatever Pillow knows will do")


def _output_names(paths: list[Path], checkpoint: dict, output: Path, format: str) -> list[str]:
    """Return what the files of each image are called, without what the format adds behind it."""
    if format not in FORMATS:
        raise SettingError(f"format={format!r}: it must be one of {', '.join(FORMATS)}")
    if format == "palette":
        taken: set[str] = set()
        return [_free_name(path.stem, taken) for path in paths]
    _check_classes(checkpoint["class_names"])
    names = [_cityscapes_name(path) for path in paths]
    _check_alone(names, paths, output)
    return names


def _free_name(stem: str, taken: set[str]) -> str:
    """Return `stem`, or `stem`_2, `stem`_3, … where a picture of that name came before, and note it as taken."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name


def _check_classes(class_names: Sequence[str]) -> None:
    if list(class_names) != list(Cityscapes.class_names):
        raise SettingError(
            f"format='cityscapes': this run knows {len(class_names)} classes ({', '.join(class_names[:3])}, …), not "
            f"Cityscapes' {len(Cityscapes.class_names)}; take a run trained on Cityscapes, or format='palette'"
        )


def _cityscapes_name(path: Path) -> str:
    match = CITYSCAPES_NAME.match(path.stem)
    if not match:
        raise DataError(
            f"{path}: format 'cityscapes' needs file names as in leftImg8bit/, such as "
            "aachen_000000_000019_leftImg8bit.png; for other pictures take format 'palette'"
        )
    return match[1]


def _check_alone(names: list[str], paths: list[Path], output: Path) -> None:
    """Refuse what would leave the evaluation with two files for one image: it takes any PNG that begins like it."""
    first: dict[str, Path] = {}
    for name, path in zip(names, paths, strict=True):
        if first.setdefault(name, path) != path:
            raise DataError(
                f"{first[name]} and {path} are both {name} to Cityscapes' evaluation; name one of them only"
            )
    for file in sorted(output.rglob("*.png")):
        match = CITYSCAPES_NAME.match(file.stem)
        if match and match[1] in first and file != _label_ids_path(output / match[1]):
            raise DataError(
                f"{file} would be taken for a result of {match[1]} as well; write to an empty folder, --output OTHER"
            )


def _write_palette(target: Path, image: Tensor, labels: Tensor, checkpoint: dict) -> Iterator[Path]:
    palette, numbers = np.array(checkpoint["palette"], dtype=np.uint8), labels.numpy()
    mask = Image.fromarray(numbers)  # mode L becomes P with its palette
    mask.putpalette(palette.flatten().tolist())
    path = target.with_name(f"{target.name}_labels.png")
    mask.save(path)
    yield path
    blend = 0.45 * image.permute(1, 2, 0).numpy() + 0.55 * palette[numbers]
    path = target.with_name(f"{target.name}_overlay.png")
    Image.fromarray(blend.round().astype(np.uint8)).save(path)
    yield path


def _write_label_ids(target: Path, image: Tensor, labels: Tensor, checkpoint: dict) -> Iterator[Path]:
    path = _label_ids_path(target)
    Image.fromarray(to_label_ids(labels)).save(path)
    yield path


def _label_ids_path(target: Path) -> Path:
    return target.with_name(f"{target.name}_pred_labelIds.png")
