"""Explore a split of a data set and the predictions of a trained network, image by image and pixel by pixel."""

import html
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from nnti.data import SegmentationDataset
from nnti.device import resolve_device
from nnti.errors import DataError
from nnti.figures import run_title, triptychs
from nnti.figures.pictures import Known, to_picture
from nnti.inference.image import predict, probabilities
from nnti.loaders import load_split
from nnti.metrics import confusion, scores
from nnti.models.saved import check_classes, load_model
from nnti.notebook import layers
from nnti.notebook.canvas import Canvas
from nnti.progress import has_widgets
from nnti.training.run_folder import RunFolder, find_run

OFF = "#f0f0f0"
OPACITY = {"value": 0.6, "min": 0, "max": 1, "step": 0.05, "description": "opacity"}
EXAMPLE = 0  # the image shown without an interactive session

Source = str | Path | RunFolder | SegmentationDataset


def explore(source: Source, split: str | None = None, device: str = "auto") -> widgets.Widget | Figure:
    """Return an explorer of a run (or its name, or its folder), or of a data set alone.

    Image, truth and prediction; errors, confidence and entropy; buttons that show and hide classes; the image's
    metrics; the worst images first; class and probabilities of a pixel that is clicked.

    Args:
        source: a run with a best.pt, or one split of a data set.
        split: where to begin; None: the run's validation split.
        device: of the network.

    Without an interactive session (see `nnti.progress.has_widgets`), a figure of one image.
    """
    views = Views(source, split, device)
    return Explorer(views).box if has_widgets() else views.figure(EXAMPLE)


class Views:
    """The images of a run's or a data set's splits, one split at a time; arguments as for `explore`.

    Attributes: `dataset`, the split that is open; `splits`, the names of those that are there; `model`, or None.
    """

    def __init__(self, source: Source, split: str | None = None, device: str = "auto"):
        self.model, self._run, self._scores = None, None, {}
        if isinstance(source, SegmentationDataset):
            if split not in (None, source.split):
                raise DataError(f"split={split!r}: pass the data set of that split, not of '{source.split}'")
            self.dataset, self.splits = source, [source.split]
            return
        self._run = source if isinstance(source, RunFolder) else find_run(source)
        self.model, checkpoint = load_model(self._run.best, resolve_device(device))
        self._experiment = self._run.experiment()  # the checkpoint's, but with the data where it lies now
        self.dataset = load_split(self._experiment, split or self._experiment.val_split)
        check_classes(checkpoint, self.dataset, self._run.best)
        others = [name for name in self.dataset.splits if name != self.dataset.split]
        self.splits = [self.dataset.split, *filter(self._is_there, others)]

    def _is_there(self, split: str) -> bool:
        try:
            return bool(load_split(self._experiment, split))
        except DataError:
            return False  # not unpacked, or not part of a miniature

    def open(self, split: str) -> None:
        """Change to another split."""
        self.dataset = load_split(self._experiment, split)

    def view(self, index: int) -> layers.View:
        """Read an image and segment it, whole, at its own size."""
        image, truth = self.dataset[index]
        segmented = None
        if self.model is not None:
            segmented = layers.Segmented(probabilities(self.model, image, precision=self._experiment.precision))
        return layers.View(self._name(index), to_picture(image), truth.numpy(), segmented)

    def scores(self, say: Callable[[str], None]) -> list[float]:
        """Return the mean IoU of every image; found once, from the run's analysis.json or by segmenting all.

        `say` is told the progress.
        """
        split, indices = self.dataset.split, range(len(self.dataset))
        if split not in self._scores:
            analysis = self._run.analysis() or {"split": None, "images": ()}
            known = {image["image"]: image["mean_iou"] for image in analysis["images"] if analysis["split"] == split}
            if not all(self._name(index) in known for index in indices):
                known = {self._name(index): self._score(index, say) for index in indices}
            self._scores[split] = [known[self._name(index)] for index in indices]
        return self._scores[split]

    def figure(self, index: int) -> Figure:
        """Draw an image, its truth and, if there is a network, its prediction."""
        view = self.view(index)
        sample, columns = (view.image.transpose(2, 0, 1), view.truth), ("image", "ground truth")
        if view.segmented is not None:
            sample, columns = (*sample, view.segmented.prediction), (*columns, "prediction")
        title = run_title(self._run.record()) if self._run else f"{self.dataset.title}, {self.dataset.split}"
        return triptychs([sample], self.dataset, f"{title}: {view.name}", columns=columns)

    def _name(self, index: int) -> str:
        return self.dataset.image_name(self.dataset.files[index][0])

    def _score(self, index: int, say: Callable[[str], None]) -> float:
        say(f"segmenting image {index + 1} of {len(self.dataset)} …")
        image, truth = self.dataset[index]
        prediction = predict(self.model, image, precision=self._experiment.precision)
        return scores(confusion(prediction, truth, self.dataset.num_classes))["mean_iou"]


class ClassToggles:
    """A button per class, in its colour, that shows or hides it; `changed` is called after a change.

    Attributes: `shown`, the numbers of the classes that are on; `box`, the widget.
    """

    def __init__(self, classes: Known, changed: Callable[[], None]):
        self._classes, self._changed = classes, changed
        self._buttons = [_button(name, f"show or hide {name}", "auto") for name in classes.class_names]
        for number, button in enumerate(self._buttons):
            button.on_click(lambda _, number=number: self._set(self.shown ^ {number}))
        everything, nothing = (_button(text, f"show {text}", "60px") for text in ("all", "none"))
        everything.on_click(lambda _: self._set(set(range(classes.num_classes))))
        nothing.on_click(lambda _: self._set(set()))
        self.box = widgets.HBox([everything, nothing, *self._buttons], layout={"flex_flow": "row wrap"})
        self._paint(set(range(classes.num_classes)))

    def _set(self, shown: set[int]) -> None:
        self._paint(shown)
        self._changed()

    def _paint(self, shown: set[int]) -> None:
        self.shown = shown
        for number, button in enumerate(self._buttons):
            dark = np.dot(self._classes.palette[number], (0.299, 0.587, 0.114)) < 140  # luma of ITU-R BT.601
            button.style.button_color = layers.css_color(self._classes, number) if number in shown else OFF
            button.style.text_color = "white" if number in shown and dark else "black"


def _button(text: str, tooltip: str, width: str, icon: str = "") -> widgets.Button:
    return widgets.Button(description=text, tooltip=tooltip, icon=icon, layout={"width": width})


class Explorer:
    """The explorer's widgets, and what they do.

    Attributes: `box`, the whole; `views`, the data; `view`, the image that is shown; `canvas`; and the controls
    `splits`, `order`, `index`, `layers`, `opacity`, `toggles`.
    """

    def __init__(self, views: Views):
        self.views, self.canvas = views, Canvas()
        orders = ["as listed", "worst first", "best first"]
        narrow = {"layout": {"width": "230px"}}
        self.splits = widgets.Dropdown(options=views.splits, value=views.dataset.split, description="split", **narrow)
        self.order = widgets.Dropdown(options=orders if views.model else orders[:1], description="order", **narrow)
        self.index = widgets.IntSlider(description="image", continuous_update=False, readout=False)
        self.layers = widgets.ToggleButtons(options=[*layers.LAYERS] if views.model else ["truth"])
        self.layers.style.button_width = "104px"
        self.opacity = widgets.FloatSlider(**OPACITY)
        widgets.jslink((self.opacity, "value"), (self.canvas, "opacity"))
        self.toggles = ClassToggles(views.dataset, self._show_layer)
        self._name, self._legend, self._metrics, self._pixel, self._status = (widgets.HTML() for _ in range(5))
        self.box = self._arranged()
        for control, action in {
            self.splits: self._open_split, self.order: self._list, self.index: self._show_image,
            self.layers: self._show_layer,
        }.items():  # fmt: skip
            control.observe(lambda _, action=action: action(), "value")
        self.canvas.observe(lambda _: self._show_pixel(), "pixel")
        self._list()

    def _arranged(self) -> widgets.Widget:
        before = _button("", "previous image", "40px", icon="arrow-left")
        after = _button("", "next image", "40px", icon="arrow-right")
        before.on_click(lambda _: self._move(-1))
        after.on_click(lambda _: self._move(1))
        rows = [[self.splits, self.order, self._status], [before, self.index, after, self._name]]
        rows = [
            widgets.HBox(row, layout={"flex_flow": "row wrap", "align_items": "center"})
            for row in (*rows, [self.layers, self.opacity])
        ]
        left = widgets.VBox([*rows, self.canvas, self._legend, self.toggles.box])
        right = widgets.VBox([self._metrics, self._pixel])
        left.layout, right.layout = {"width": "66%", "min_width": "420px"}, {"width": "32%", "min_width": "260px"}
        box = widgets.HBox([left, right], layout={"flex_flow": "row wrap", "justify_content": "space-between"})
        box.add_class("nnti-explorer")
        return box

    def _open_split(self) -> None:
        self.views.open(self.splits.value)
        if self.order.value == "as listed":
            self._list()
        else:
            self.order.value = "as listed"  # lists the images

    def _list(self) -> None:
        """Put the images in the chosen order, segmenting all of them if need be, and show the first."""
        self._ranks = np.arange(len(self.views.dataset))
        if self.order.value != "as listed":
            scores = np.array(self.views.scores(self._say))
            self._ranks = np.argsort(scores if self.order.value == "worst first" else -scores, kind="stable")
        self._say("")
        self.index.max = len(self._ranks) - 1
        if self.index.value:
            self.index.value = 0  # shows the image
        else:
            self._show_image()

    def _move(self, step: int) -> None:
        self.index.value = min(max(self.index.value + step, 0), self.index.max)

    def _say(self, text: str) -> None:
        self._status.value = html.escape(text)

    def _show_image(self) -> None:
        self.view = self.views.view(int(self._ranks[self.index.value]))
        self._name.value = f"{self.index.value + 1} of {len(self._ranks)}: <b>{html.escape(self.view.name)}</b>"
        self.canvas.show_picture(self.view.image)
        self._metrics.value = layers.metrics_table(self.view, self.views.dataset)
        self._show_layer()
        self._show_pixel()

    def _show_layer(self) -> None:
        view, dataset, kind, shown = self.view, self.views.dataset, self.layers.value, self.toggles.shown
        if kind == "truth":
            layer = layers.class_layer(view.truth, dataset, shown)
        elif kind == "prediction":
            layer = layers.class_layer(view.segmented.prediction, dataset, shown)
        elif kind == "errors":
            layer = layers.error_layer(view.segmented.prediction, view.truth, dataset, shown)
        else:
            layer = layers.share_layer(getattr(view.segmented, kind))
        self.canvas.show_layer(*layer)
        self._legend.value = f"<small>{layers.LAYERS[kind]}</small>"

    def _show_pixel(self) -> None:
        x, y = self.canvas.pixel
        self._pixel.value = layers.pixel_table(self.view, self.views.dataset, x, y) if x >= 0 else "Click a pixel."
