"""Look at any split of any data set, and at what a trained network makes of it, image by image and pixel by pixel."""

import html
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from nnti.data import SegmentationDataset
from nnti.frontend import has_widgets
from nnti.interactive.canvas import Canvas
from nnti.interactive.layers import LAYERS, Layer, class_layer, error_layer, share_layer
from nnti.interactive.pages import legend, metrics_table, pixel_table
from nnti.interactive.toggles import ClassToggles
from nnti.interactive.views import Views, load_views
from nnti.records import RunFolder

__all__ = ["Explorer", "explore"]

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

    Where nobody could click (see `nnti.frontend.has_widgets`), a figure of one image.
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
