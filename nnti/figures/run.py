"""All figures that can be drawn from the files of a run."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from nnti.data import SegmentationDataset, available, evenly_spread
from nnti.device import resolve_device
from nnti.experiment import Experiment, Inference, crop_shape
from nnti.figures.classes import per_class_iou
from nnti.figures.complexity import EXPERIMENTS
from nnti.figures.curves import curves, learning_rate
from nnti.figures.errors import confusion_heatmap, error_distances
from nnti.figures.networks import architecture_figure
from nnti.figures.pictures import triptychs
from nnti.figures.style import folder_for, save
from nnti.inference.image import predict
from nnti.loaders import load_split
from nnti.models import MODELS, count_parameters
from nnti.models.cost import without_values
from nnti.models.saved import check_classes, load_model
from nnti.progress import progress_bar
from nnti.training.run_folder import RECORD, RunFolder

SHOWN = 6  # validation images in a run's triptychs
EXTREMES, APART = 2, 5  # images shown as the best, and as the worst; their distance in the list of files


def render_run(
    run: RunFolder, folder: str | Path | None = None, progress: bool = True, pictures: bool = True
) -> list[Path]:
    """Draw and save all figures that the files of a run allow, finished or not; return the paths.

    `<name>_curves` and `<name>_learning_rate` need the history, `<name>_per_class_iou` a finished run,
    `<name>_confusion` and `<name>_error_distances` an analysis (see `nnti.inference.errors`), `<name>_triptychs` the
    best checkpoint and the data set, `<name>_best_and_worst` all of these; figures without their files are left out.

    Args:
        folder: where to; None: figures/, or figures/miniature/ for a miniature.
        pictures: draw the last two, for which images have to be segmented.
    """
    if not (run.path / RECORD).is_file():
        return []  # no epoch is finished
    record, history = run.record(), run.history()
    # the folder's name, not the experiment's: several runs of one experiment have figures of their own
    name, settings = run.path.resolve().name, record["experiment"]
    title, analysis = run_title(record, name), run.analysis()
    figures = {
        "curves": curves({name: history}, f"{title}, validation by the {settings['protocol']} protocol"),
        "learning_rate": learning_rate({name: history}, title),
    }
    if record.get("validation"):
        results = {f"{protocol} protocol": found["iou_per_class"] for protocol, found in record["validation"].items()}
        measured = f"{title}\nvalidation at epoch {record['best_epoch']}, {' and '.join(results)}"
        figures["per_class_iou"] = per_class_iou(results, record["data"]["class_names"], measured)
    if analysis:
        images = f"{len(analysis['images'])} images of {analysis['split']}"
        analysed = f"{title}\n{images}, full protocol, epoch {analysis['epoch']}"
        figures["confusion"] = confusion_heatmap(analysis["matrix"], analysis["class_names"], analysed)
        figures["error_distances"] = error_distances(analysis, analysed)
    if pictures and run.best.is_file():
        if available(run.experiment().dataset, run.experiment().dataset_arguments):
            figures["triptychs"] = run_triptychs(run, progress=progress)
            if analysis:
                figures["best_and_worst"] = best_and_worst(run, analysis)
        else:
            warnings.warn(f"{name}: no pictures; `evaluate {name}` says why its data is not found", stacklevel=2)
    folder = folder_for(record["data"]["title"]) if folder is None else folder
    return [path for kind, figure in figures.items() for path in save(figure, f"{name}_{kind}", folder)]


def render_architectures(folder: str | Path | None = None) -> list[Path]:
    """Draw and save the network of each of the report's tasks in its published size; return the paths written.

    `folder`: None is figures/.
    """
    paths = []
    for name in EXPERIMENTS:
        experiment = Experiment.load(name)
        model = without_values(experiment)
        title = f"{model.title}, {model.num_classes} classes: {count_parameters(model):,} parameters"
        paths += save(architecture_figure(model, title), f"{experiment.model}_architecture", folder)
    return paths


def run_triptychs(run: RunFolder, progress: bool = True) -> Figure:
    """Show image / ground truth / prediction of a run's best checkpoint, for a few validation images.

    Every image is segmented whole: at its own size, as the `full` protocol does, or as large as the `report` protocol
    shows it to the network, where that was the run's.
    """
    dataset, experiment = _val_data(run), run.experiment()
    chosen = evenly_spread(len(dataset), SHOWN)
    side = min(crop_shape(experiment.val_size)) if experiment.protocol == "report" else None
    size = f"shorter side resized to {side} pixels" if side else "full protocol"
    shown = f"{len(chosen)} of the validation images, epoch {run.record()['best_epoch']}, {size}"
    return _segmented([run], dataset, chosen, f"{_title(run)}\n{shown}", progress=progress, side=side)


def best_and_worst(run: RunFolder, analysis: dict[str, Any]) -> Figure:
    """Show images with the highest mean IoU and with the lowest, of those that an analysis has measured.

    An image's mean IoU is that of the classes that occur in it or are predicted in it. Neighbours in the list, which
    are neighbours in a video, would show one scene: those shown lie `APART` images apart.
    """
    dataset = _val_data(run)
    places = {dataset.image_name(image): index for index, (image, _) in enumerate(dataset.files)}
    ranked = sorted(analysis["images"], key=lambda image: -image["mean_iou"])
    ranked = [places[image["image"]] for image in ranked]
    best = _apart(ranked)
    worst = _apart([index for index in reversed(ranked) if index not in best])
    shown = f"above {len(best)} of the best images, below {len(worst)} of the worst, of {len(ranked)}, full protocol"
    return _segmented([run], dataset, [*best, *reversed(worst)], f"{_title(run)}\n{shown}")


def comparison(runs: Mapping[str, RunFolder], images: int, title: str) -> Figure:
    """Show image, ground truth and the prediction of several runs on one data set, validation images spread evenly.

    `runs`: heading of a column → a run with its best checkpoint, all on one data set; `images`: number of rows.
    """
    dataset = _val_data(next(iter(runs.values())))
    chosen = evenly_spread(len(dataset), images)
    return _segmented(list(runs.values()), dataset, chosen, title, ("image", "ground truth", *runs))


def run_title(record: dict[str, Any], name: str | None = None) -> str:
    """Return the title of a run, for example "try: ENet on CamVid (367 train / 101 val images)".

    `name` is the run's; None: its experiment's.
    """
    data, model = record["data"], MODELS[record["experiment"]["model"]].title
    counts = f"({data['train_images']:,} train / {data['val_images']:,} val images)"
    where = f"{data['title']} {counts}".replace(") (", "; ")  # a title that ends in a remark: one pair of brackets
    return f"{name or record['name']}: {model} on {where}"


def _title(run: RunFolder) -> str:
    return run_title(run.record(), run.path.resolve().name)


def _val_data(run: RunFolder) -> SegmentationDataset:
    experiment = run.experiment()
    return load_split(experiment, experiment.val_split, experiment.val_limit)


def _apart(ranked: Sequence[int]) -> list[int]:
    """Return the first `EXTREMES` images of a ranking that are not neighbours."""
    chosen: list[int] = []
    for index in ranked:
        if len(chosen) < EXTREMES and all(abs(index - other) >= APART for other in chosen):
            chosen.append(index)
    return chosen


def _segmented(
    runs: Sequence[RunFolder],
    dataset: SegmentationDataset,
    chosen: Sequence[int],
    title: str,
    columns: Sequence[str] = ("image", "ground truth", "prediction"),
    progress: bool = False,
    side: int | None = None,
) -> Figure:
    """Show images of a data set with their labels and the predictions of the best checkpoint of each run.

    `side`: the networks see each image with its shorter side resized to so many pixels (None: as it is).
    """
    predictions = zip(*(_predictions(run, dataset, chosen, progress, side) for run in runs), strict=True)
    samples = [(*dataset[index], *row) for index, row in zip(chosen, predictions, strict=True)]
    return triptychs(samples, dataset, title, columns)


def _predictions(
    run: RunFolder, dataset: SegmentationDataset, chosen: Sequence[int], progress: bool, side: int | None
) -> list[Tensor]:
    model, checkpoint = load_model(run.best, resolve_device())
    check_classes(checkpoint, dataset, run.best)
    precision = checkpoint["experiment"]["precision"]
    bar = progress_bar(chosen, desc=f"{run.path.name}: predictions", leave=False, disable=not progress)
    images = (dataset[index][0] for index in bar)
    return [predict(model, image, _shown_at(side, image), precision) for image in images]


def _shown_at(side: int | None, image: Tensor) -> Inference:
    return Inference(scales=(side / min(image.shape[1:]),)) if side else Inference()
