"""Every figure that the files of one run allow."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm.auto import tqdm

from nnti.complexity import EXPERIMENTS, dataset_class
from nnti.config import Experiment
from nnti.data import available, evenly_spread
from nnti.device import resolve_device
from nnti.figures.architecture import architecture_figure
from nnti.figures.classes import per_class_iou
from nnti.figures.output import folder_for, save
from nnti.figures.pictures import triptychs
from nnti.figures.training import curves, learning_rate
from nnti.inference import predict
from nnti.loaders import load_split
from nnti.models import MODELS, build_model, count_parameters
from nnti.records import RunError, RunFolder, load_model

__all__ = ["render_architectures", "render_run", "run_title", "run_triptychs"]

SHOWN = 6  # validation images in a run's triptychs


def render_run(run: RunFolder, folder: str | Path | None = None, progress: bool = True) -> list[Path]:
    """Draw and save what the files of a run allow, finished or not; return the paths of the files written.

    `<name>_curves` and `<name>_learning_rate` need the history, `<name>_per_class_iou` a finished run, and
    `<name>_triptychs` the best checkpoint and the data set; what is missing is left out.

    Args:
        run: the run folder.
        folder: where to; None: figures/, or figures/miniature/ for a miniature.
        progress: show a progress bar while predicting.
    """
    try:
        record, history = run.record(), run.history()
    except RunError:
        return []  # no epoch is finished
    folder = folder_for(record["data"]["title"]) if folder is None else folder
    # the folder's name, not the experiment's: several runs of one experiment have figures of their own
    name, protocol = run.path.resolve().name, record["experiment"]["protocol"]
    title = run_title(record, name)
    figures = {
        f"{name}_curves": curves({name: history}, f"{title}, validation by the {protocol} protocol"),
        f"{name}_learning_rate": learning_rate({name: history}, title),
    }
    if record.get("validation"):
        figures[f"{name}_per_class_iou"] = _per_class_iou(record, title)
    if run.best.is_file() and available(record["experiment"]["dataset"]):
        figures[f"{name}_triptychs"] = run_triptychs(run, progress=progress)
    return [path for name, figure in figures.items() for path in save(figure, name, folder)]


def render_architectures(folder: str | Path | None = None) -> list[Path]:
    """Draw and save the network of each of the report's tasks, in its published size; return the paths written.

    Args:
        folder: where to; None: figures/.
    """
    paths = []
    for name in EXPERIMENTS:
        experiment = Experiment.load(name)
        classes = dataset_class(experiment.dataset)
        model = build_model(experiment.model, len(classes.class_names), experiment.model_arguments, pretrained=False)
        title = f"{model.title}, {len(classes.class_names)} classes: {count_parameters(model):,} parameters"
        paths += save(architecture_figure(model, title), f"{experiment.model}_architecture", folder)
    return paths


def run_triptychs(run: RunFolder, images: int = SHOWN, progress: bool = True) -> Figure:
    """Show image / ground truth / prediction of a run's best checkpoint, for `images` validation images spread evenly.

    Every image is segmented whole, at its own size, as the `full` protocol does.
    """
    model, checkpoint = load_model(run.best, resolve_device())
    experiment = Experiment.from_dict(checkpoint["experiment"])
    dataset = load_split(experiment, experiment.val_split, experiment.val_limit)
    chosen = evenly_spread(len(dataset), images)
    samples = []
    for index in tqdm(chosen, desc=f"{experiment.name}: predictions", leave=False, disable=not progress):
        image, label = dataset[index]
        samples.append((image, label, predict(model, image, precision=experiment.precision)))
    shown = f"{len(chosen)} of the validation images, epoch {checkpoint['epoch']}, full protocol"
    return triptychs(samples, dataset, f"{run_title(run.record(), run.path.resolve().name)}\n{shown}")


def run_title(record: dict[str, Any], name: str | None = None) -> str:
    """Return what every title says of a run, for example "try: ENet on CamVid (367 train / 101 val images)".

    `name` is the run's; None: its experiment's.
    """
    data, model = record["data"], record["experiment"]["model"]
    model = MODELS[model].title if model in MODELS else model
    counts = f"({data['train_images']} train / {data['val_images']} val images)"
    where = f"{data['title']} {counts}".replace(") (", "; ")  # a title that ends in a remark: one pair of brackets
    return f"{name or record['name']}: {model} on {where}"


def _per_class_iou(record: dict[str, Any], title: str) -> Figure:
    """Show the classes of a finished run by every protocol that it was measured by."""
    results = {f"{protocol} protocol": result["iou_per_class"] for protocol, result in record["validation"].items()}
    title = f"{title}\nvalidation at epoch {record['best_epoch']}, {' and '.join(results)}"
    return per_class_iou(results, record["data"]["class_names"], title)
