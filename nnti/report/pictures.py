"""The report's pictures of segmented images: they need a data set and checkpoints, not records alone."""

from pathlib import Path

from PIL import Image

from nnti.augment import collate, cut, draw, place_random, warp
from nnti.config import Experiment
from nnti.data import available
from nnti.figures import augmentation_gallery, best_and_worst, comparison, run_triptychs, save
from nnti.loaders import crop_shape, load_split
from nnti.paths import home, runs_dir
from nnti.records import RunFolder

__all__ = ["THREE", "render_pictures"]

THREE = {"ENet": "enet_camvid", "R2U-Net": "r2unet_camvid_short", "PSPNet": "pspnet_camvid_short"}
ROWS, DRAWS = 3, 6  # of the comparison; of the gallery
QUALITY = 88  # of a JPEG


def render_pictures(runs: dict[str, RunFolder], folder: str | Path | None = None) -> list[Path]:
    """Draw the pictures that data sets and checkpoints allow; return the paths of the files written.

    A checkpoint is looked for in the report's run folder, then in runs/, where it counts if the record is the same.

    Args:
        runs: name of a run → its folder in report/runs/.
        folder: where to; None: figures/.
    """
    found = {name: _with_checkpoint(run) for name, run in runs.items()}
    found = {name: run for name, run in found.items() if run and _data_is_here(run.experiment())}
    paths = []
    for run in found.values():
        name = run.path.name
        paths += save(run_triptychs(run, progress=False), f"{name}_triptychs", folder)
        analysis = run.analysis()
        if analysis and name == THREE["ENet"]:
            paths += save(best_and_worst(run, analysis), f"{name}_best_and_worst", folder)
    three = {title: found[name] for title, name in THREE.items() if name in found}
    if len(three) == len(THREE):
        first = next(iter(three.values())).record()["data"]
        title = (
            f"{ROWS} of {first['title']}'s {first['val_images']} validation images, and what the networks make of them"
        )
        paths += save(comparison(three, ROWS, title), "camvid_comparison", folder)
    if THREE["ENet"] in found:
        paths += save(_gallery(found[THREE["ENet"]]), "camvid_augmentation", folder)
    return [*paths, *(_light(path) for path in paths if path.suffix == ".png" and folder is None)]


def _data_is_here(experiment: Experiment) -> bool:
    return available(experiment.dataset, experiment.dataset_arguments)


def _light(path: Path) -> Path:
    """Write a JPEG of a picture for the PDF, which would be three times as large with the PNGs."""
    light = home() / "report" / "pictures" / f"{path.stem}.jpg"
    light.parent.mkdir(exist_ok=True)
    Image.open(path).convert("RGB").save(light, quality=QUALITY, optimize=True)
    return light


def _with_checkpoint(run: RunFolder) -> RunFolder | None:
    """Return the folder that holds the best checkpoint of a run: this one, or its original in runs/."""
    original = RunFolder(runs_dir() / run.path.name)
    if run.best.is_file():
        return run
    if original.best.is_file() and original.finished and original.record() == run.record():
        return original
    return None


def _gallery(run: RunFolder):
    """Show one training image as the run's augmentation draws it."""
    experiment = run.experiment()
    dataset = load_split(experiment, experiment.train_split, experiment.train_limit)
    image, label = dataset[0]
    crops = []
    for turn in range(DRAWS):
        drawn = draw(experiment, epoch=turn, index=0)
        shape = crop_shape(experiment.crop_size)
        placement = place_random(drawn, tuple(label.shape), experiment.base_size, shape)
        crop, crop_label = warp(collate([cut(image, label, placement)]))
        crops.append((crop[0], crop_label[0]))
    return augmentation_gallery(image, label, crops, dataset, f"{dataset.title}: one training image, {DRAWS} draws")
