"""What can be laid over an image: classes, errors, how sure the network is. Arrays in, arrays out.

What an explorer shows: one split of a data set, and what a network makes of its images.

A button per class, in its colour: which classes are shown.

The explorer's tables, as HTML.

Look at any split of any data set, and at what a trained network makes of it, image by image and pixel by pixel.
"""

import html
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import matplotlib
import numpy as np
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor, nn

from nnti.data import DataError, SegmentationDataset
from nnti.device import resolve_device
from nnti.experiment import Experiment
from nnti.figures import run_title, triptychs
from nnti.figures.pictures import Classes, to_picture, void_color
from nnti.inference.image import predict, probabilities
from nnti.loaders import load_split
from nnti.metrics import ConfusionMatrix
from nnti.models.saved import check_classes, load_model
from nnti.notebook.canvas import Canvas, Layer
from nnti.progress import has_widgets
from nnti.training.run_folder import RunFolder, find_run

__all__ = [
    "ClassToggles",
    "Explorer",
    "LAYERS",
    "Layer",
    "Segmented",
    "View",
    "Views",
    "class_layer",
    "error_layer",
    "explore",
    "legend",
    "load_views",
    "metrics_table",
    "pixel_table",
    "probability_table",
    "share_layer",
]


LAYERS = ("truth", "prediction", "errors", "confidence", "entropy")
WRONG = (255, 40, 40)
COLORMAP = "viridis"


class Segmented:
    """Class probabilities of an image, float32 (C, H, W) on any device, and what follows from them.

    Attributes: `prediction`, uint8 (H, W); `confidence`, the probability of the predicted class, float32 (H, W);
    `entropy`, −Σ p ln p / ln C, float32 (H, W): 0 is sure, 1 knows nothing.
    """

    def __init__(self, probabilities: Tensor):
        confidence, prediction = probabilities.max(0)
        entropy = -torch.special.xlogy(probabilities, probabilities).sum(0) / np.log(len(probabilities))
        self._probabilities = probabilities.cpu().numpy()
        self.prediction = prediction.to("cpu", torch.uint8).numpy()
        self.confidence, self.entropy = confidence.cpu().numpy(), entropy.clamp(0, 1).cpu().numpy()

    def at(self, x: int, y: int) -> np.ndarray:
        """Return the class probabilities of a pixel, float32 (C,)."""
        return self._probabilities[:, y, x]


def class_layer(mask: np.ndarray, classes: SegmentationDataset | Classes, shown: Collection[int]) -> Layer:
    """Colour the classes in `shown`, and void always, of a mask of class numbers, uint8 (H, W)."""
    colors, alphas = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    colors[: classes.num_classes], colors[classes.ignore_index] = classes.palette, void_color(classes)
    alphas[[*shown, classes.ignore_index]] = 255
    return Layer(mask, colors, alphas)


def error_layer(
    prediction: np.ndarray, truth: np.ndarray, classes: SegmentationDataset | Classes, shown: Collection[int]
) -> Layer:
    """Colour the pixels that are wrong and whose true class is in `shown`; void cannot be wrong."""
    counted = np.isin(truth, np.array([*shown], dtype=np.uint8))
    colors, alphas = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    colors[1], alphas[1] = WRONG, 255
    return Layer(((prediction != truth) & counted & (truth != classes.ignore_index)).astype(np.uint8), colors, alphas)


def share_layer(values: np.ndarray) -> Layer:
    """Colour a map of values between 0 and 1, from dark violet to yellow."""
    colors = (matplotlib.colormaps[COLORMAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return Layer((values * 255).round().astype(np.uint8), colors, np.full(256, 255, np.uint8))


@dataclass(frozen=True)
class View:
    """An image: uint8 (H, W, 3), its label: uint8 (H, W), and what a network made of it, or None."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    segmented: Segmented | None


def load_views(source: str | Path | RunFolder | SegmentationDataset, split: str | None, device: str) -> "Views":
    """Open a run (by name, folder or object) or a data set; see `nnti.notebook.explore`."""
    if isinstance(source, SegmentationDataset):
        if split not in (None, source.split):
            raise DataError(f"split={split!r}: pass the data set of that split, not of '{source.split}'")
        return Views(source)
    run = source if isinstance(source, RunFolder) else find_run(source)
    model, checkpoint = load_model(run.best, resolve_device(device))
    experiment = Experiment.from_dict(checkpoint["experiment"])
    dataset = load_split(experiment, split or experiment.val_split)
    check_classes(checkpoint, dataset, run.best)
    return Views(dataset, run, model, experiment)


class Views:
    """A split that can be changed, seen with the eyes of a network if there is one.

    Attributes: `dataset`, the split that is open; `splits`, the names of those that are there; `model`.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        run: RunFolder | None = None,
        model: nn.Module | None = None,
        experiment: Experiment | None = None,
    ):
        self.dataset, self.model = dataset, model
        self._run, self._experiment, self._scores = run, experiment, {}
        self.splits = _there(experiment, dataset) if run else [dataset.split]

    def open(self, split: str) -> None:
        """Change to another split."""
        self.dataset = load_split(self._experiment, split)

    def view(self, index: int) -> View:
        """Read an image and segment it, whole, at its own size."""
        image, truth = self.dataset[index]
        segmented = None
        if self.model is not None:
            segmented = Segmented(probabilities(self.model, image, precision=self._experiment.precision))
        return View(self.dataset.image_name(self.dataset.files[index][0]), to_picture(image), truth.numpy(), segmented)

    def scores(self, say: Callable[[str], None]) -> list[float]:
        """Return the mean IoU of every image; found once, from the run's analysis.json or by segmenting all.

        `say` is told how far that is.
        """
        if self.dataset.split not in self._scores:
            self._scores[self.dataset.split] = self._analysed() or [
                self._score(index, say) for index in range(len(self.dataset))
            ]
        return self._scores[self.dataset.split]

    def figure(self, index: int) -> Figure:
        """Draw an image, its truth and, if there is a network, its prediction."""
        view = self.view(index)
        sample, columns = (view.image.transpose(2, 0, 1), view.truth), ("image", "ground truth")
        if view.segmented is not None:
            sample, columns = (*sample, view.segmented.prediction), (*columns, "prediction")
        title = run_title(self._run.record()) if self._run else f"{self.dataset.title}, {self.dataset.split}"
        return triptychs([sample], self.dataset, f"{title}: {view.name}", columns=columns)

    def _analysed(self) -> list[float] | None:
        """Return what `python -m nnti analyze` has found, if it was about this split."""
        analysis = self._run.analysis()
        if analysis is None or analysis["split"] != self.dataset.split:
            return None
        known = {image["image"]: image["mean_iou"] for image in analysis["images"]}
        names = [self.dataset.image_name(image) for image, _ in self.dataset.files]
        return [known[name] for name in names] if known.keys() >= set(names) else None

    def _score(self, index: int, say: Callable[[str], None]) -> float:
        say(f"segmenting image {index + 1} of {len(self.dataset)} …")
        image, truth = self.dataset[index]
        matrix = ConfusionMatrix(self.dataset.num_classes, self.dataset.ignore_index)
        matrix.update(predict(self.model, image, precision=self._experiment.precision), truth)
        return matrix.compute()["mean_iou"]


def _there(experiment: Experiment, dataset: SegmentationDataset) -> list[str]:
    """Return the names of the splits that can be opened, that of `dataset` first."""
    found = [dataset.split]
    for split in getattr(dataset, "splits", (experiment.train_split, experiment.val_split)):
        try:
            if split not in found:
                load_split(experiment, split)
                found.append(split)
        except DataError:
            continue  # not unpacked, or not part of a miniature
    return found


OFF = "#f0f0f0"


class ClassToggles:
    """Switches classes on and off.

    Args:
        classes: give names and colours. changed: called after a change.

    Attributes: `shown`, the numbers of the classes that are on; `box`, the widget.
    """

    def __init__(self, classes: SegmentationDataset | Classes, changed: Callable[[], None]):
        self.shown = set(range(classes.num_classes))
        self._changed = changed
        self._colors = [tuple(int(part) for part in color) for color in classes.palette]
        self._buttons = [self._button(name, number) for number, name in enumerate(classes.class_names)]
        every = [widgets.Button(description=text, layout={"width": "60px"}) for text in ("all", "none")]
        every[0].on_click(lambda _: self._set(set(range(classes.num_classes))))
        every[1].on_click(lambda _: self._set(set()))
        self.box = widgets.HBox([*every, *self._buttons], layout=widgets.Layout(flex_flow="row wrap"))
        self._paint()

    def _button(self, name: str, number: int) -> widgets.Button:
        button = widgets.Button(description=name, layout={"width": "auto"}, tooltip=f"show or hide {name}")
        button.on_click(lambda _: self._set(self.shown ^ {number}))
        return button

    def _set(self, shown: set[int]) -> None:
        self.shown = shown
        self._paint()
        self._changed()

    def _paint(self) -> None:
        for number, (button, color) in enumerate(zip(self._buttons, self._colors, strict=True)):
            on = number in self.shown
            button.style.button_color = f"rgb{color}" if on else OFF
            button.style.text_color = "white" if on and _is_dark(color) else "black"


def _is_dark(color: tuple[int, int, int]) -> bool:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140  # luma of ITU-R BT.601


MOST = 5  # classes of a pixel
TABLE = "<table style='line-height:1.35;border-spacing:8px 0'>"
EXPLAINED = {
    "truth": "What the annotators say; void is pale.",
    "prediction": "The most probable class of each pixel.",
    "errors": "Red: the prediction is not the truth. Void cannot be wrong. Classes are those of the truth.",
    "confidence": "Probability of the predicted class: {ramp}",
    "entropy": "Entropy of the class probabilities, as a share of the largest possible: {ramp}",
}


def legend(layer: str) -> str:
    """Say what a layer's colours mean."""
    colors = ",".join(to_hex(matplotlib.colormaps[COLORMAP](share)) for share in np.linspace(0, 1, 6))
    style = f"display:inline-block;width:120px;height:10px;background:linear-gradient(to right,{colors})"
    return f"<small>{EXPLAINED[layer].format(ramp=f'0 <span style={chr(34)}{style}{chr(34)}></span> 1')}</small>"


def metrics_table(view: View, classes: SegmentationDataset | Classes) -> str:
    """Return the share of each class that occurs and, where there is a prediction, the metrics of the image."""
    truth = view.truth
    if view.segmented is None:
        predicted, head = truth, "<b>classes</b>"
    else:
        predicted, head = view.segmented.prediction, ""
    matrix = ConfusionMatrix(classes.num_classes, classes.ignore_index)
    matrix.update(torch.from_numpy(predicted), torch.from_numpy(truth))
    found = matrix.compute()
    if not head:
        head = f"<b>mean IoU {_number(found['mean_iou'])}</b> · pixel accuracy {_number(found['pixel_accuracy'])}"
    columns = ("", "class", "% of truth", "IoU") if view.segmented else ("", "class", "% of truth")
    lines = []
    for number in np.argsort(-found["pixels_per_class"], kind="stable"):
        iou = found["iou_per_class"][number]
        if np.isnan(iou):
            continue  # neither in the truth nor in the prediction
        share = 100 * found["pixels_per_class"][number] / max(1, found["pixels_per_class"].sum())
        cells = [_swatch(classes, number), html.escape(classes.class_names[number]), f"{share:.1f}"]
        lines.append(_row(cells + [_number(iou)] * bool(view.segmented)))
    void = 100 * float((truth == classes.ignore_index).mean())
    return f"{head}{TABLE}{_row(columns, 'th')}{''.join(lines)}</table><small>void: {void:.1f} % of the pixels</small>"


def pixel_table(view: View, classes: SegmentationDataset | Classes, x: int, y: int) -> str:
    """Return the classes of the pixel (x, y), and their most probable ones."""
    truth = int(view.truth[y, x])
    name = "void" if truth == classes.ignore_index else html.escape(classes.class_names[truth])
    head = f"<b>pixel ({x}, {y})</b><br>truth: {name}"
    if view.segmented is None:
        return head
    predicted = html.escape(classes.class_names[int(view.segmented.prediction[y, x])])
    return f"{head} · predicted: {predicted}{probability_table(view.segmented, classes, x, y)}"


def probability_table(segmented: Segmented, classes: SegmentationDataset | Classes, x: int, y: int) -> str:
    """Return the most probable classes of the pixel (x, y)."""
    shares = segmented.at(x, y)
    lines = [
        _row([_swatch(classes, number), html.escape(classes.class_names[number]), _share(shares[number])])
        for number in np.argsort(-shares, kind="stable")[:MOST]
    ]
    return f"{TABLE}{''.join(lines)}</table>"


def _share(value: float) -> str:
    bar = f"<span style='display:inline-block;height:9px;background:#0072B2;width:{round(90 * float(value))}px'></span>"
    return f"{bar} {100 * value:.1f} %"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _swatch(classes: SegmentationDataset | Classes, number: int) -> str:
    red, green, blue = (int(part) for part in classes.palette[number])
    return f"<span style='display:inline-block;width:12px;height:12px;background:rgb({red},{green},{blue})'></span>"


def _row(cells, tag: str = "td") -> str:
    return f"<tr>{''.join(f'<{tag} style={chr(34)}text-align:left{chr(34)}>{cell}</{tag}>' for cell in cells)}</tr>"


ORDERS = {"as listed": None, "worst first": False, "best first": True}
EXAMPLE = 0  # the image that stands for all where nothing can be clicked


def explore(
    source: str | Path | RunFolder | SegmentationDataset, split: str | None = None, device: str = "auto"
) -> widgets.Widget | Figure:
    """Return an explorer of a run (or its name, or its folder), or of a data set alone.

    Image, truth and prediction; errors, confidence and entropy; classes to be switched on and off; the image's metrics;
    the worst images first; class and probabilities of a pixel that is clicked.

    Args:
        source: a run with a best.pt, or one split of a data set.
        split: where to begin; None: the run's validation split.
        device: of the network.

    Where nobody could click (see `nnti.progress.has_widgets`), a figure of one image.
    """
    views = load_views(source, split, device)
    return Explorer(views).box if has_widgets() else views.figure(EXAMPLE)


class Explorer:
    """The explorer's widgets, and what they do.

    Attributes: `box`, the whole; `views`, the data; `canvas`; and the controls `splits`, `order`, `index`, `layers`,
    `opacity`, `toggles`.
    """

    def __init__(self, views: Views):
        self.views, self.canvas = views, Canvas()
        self._ranks: list[int] = []
        self.splits = widgets.Dropdown(options=views.splits, value=views.dataset.split, description="split")
        self.order = widgets.Dropdown(options=list(ORDERS) if views.model else ["as listed"], description="order")
        self.index = widgets.IntSlider(description="image", continuous_update=False, readout=False)
        self.layers = widgets.ToggleButtons(options=LAYERS if views.model else LAYERS[:1])
        self.layers.style.button_width = "104px"
        self.opacity = widgets.FloatSlider(value=0.6, min=0, max=1, step=0.05, description="opacity")
        widgets.jslink((self.opacity, "value"), (self.canvas, "opacity"))
        self.toggles = ClassToggles(views.dataset, self._show_layer)
        self._name, self._legend, self._metrics, self._pixel, self._status = (widgets.HTML() for _ in range(5))
        self.box = self._arranged()
        for control, action in (
            (self.splits, self._open_split), (self.order, self._list), (self.index, self._show_image),
            (self.layers, self._show_layer),
        ):  # fmt: skip
            control.observe(lambda _, action=action: action(), "value")
        self.canvas.observe(lambda _: self._show_pixel(), "pixel")
        self._list()

    def _arranged(self) -> widgets.Widget:
        before, after = widgets.Button(icon="arrow-left"), widgets.Button(icon="arrow-right")
        for button, step in ((before, -1), (after, 1)):
            button.layout.width, button.tooltip = "40px", "previous image" if step < 0 else "next image"
            button.on_click(lambda _, step=step: self._move(step))
        for control in (self.splits, self.order):
            control.layout.width = "230px"
        row = {"layout": widgets.Layout(flex_flow="row wrap", align_items="center")}
        left = widgets.VBox(
            [
                widgets.HBox([self.splits, self.order, self._status], **row),
                widgets.HBox([before, self.index, after, self._name], **row),
                widgets.HBox([self.layers, self.opacity], **row),
                self.canvas, self._legend, self.toggles.box,
            ],
            layout=widgets.Layout(width="66%", min_width="420px"),
        )  # fmt: skip
        right = widgets.VBox([self._metrics, self._pixel], layout=widgets.Layout(width="32%", min_width="260px"))
        box = widgets.HBox([left, right], layout=widgets.Layout(flex_flow="row wrap", justify_content="space-between"))
        box.add_class("nnti-explorer")
        return box

    # what the controls do

    def _open_split(self) -> None:
        self.views.open(self.splits.value)
        if self.order.value == "as listed":
            self._list()
        else:
            self.order.value = "as listed"  # lists the images

    def _list(self) -> None:
        """Put the images in the order that is asked for, segmenting all of them if need be, and show the first."""
        self._ranks = list(range(len(self.views.dataset)))
        best_first = ORDERS[self.order.value]
        if best_first is not None:
            scores = self.views.scores(self._say)
            self._ranks.sort(key=lambda index: scores[index], reverse=best_first)
        self._say("")
        self.index.max = len(self._ranks) - 1
        if self.index.value:
            self.index.value = 0  # shows the image
        else:
            self._show_image()

    def _move(self, step: int) -> None:
        self.index.value = int(np.clip(self.index.value + step, 0, self.index.max))

    def _say(self, text: str) -> None:
        self._status.value = html.escape(text)

    # what is shown

    def _show_image(self) -> None:
        index = self._ranks[self.index.value]
        view = self.view = self.views.view(index)
        self._name.value = f"{self.index.value + 1} of {len(self._ranks)}: <b>{html.escape(view.name)}</b>"
        self.canvas.show_picture(view.image)
        self._metrics.value = metrics_table(view, self.views.dataset)
        self._show_layer()
        self._show_pixel()

    def _show_layer(self) -> None:
        self.canvas.show_layer(self._layer())
        self._legend.value = legend(self.layers.value)

    def _layer(self) -> Layer:
        view, dataset, shown = self.view, self.views.dataset, self.toggles.shown
        if self.layers.value == "truth":
            return class_layer(view.truth, dataset, shown)
        if self.layers.value == "prediction":
            return class_layer(view.segmented.prediction, dataset, shown)
        if self.layers.value == "errors":
            return error_layer(view.segmented.prediction, view.truth, dataset, shown)
        return share_layer(getattr(view.segmented, self.layers.value))

    def _show_pixel(self) -> None:
        x, y = self.canvas.pixel
        self._pixel.value = pixel_table(self.view, self.views.dataset, x, y) if x >= 0 else "Click a pixel."
