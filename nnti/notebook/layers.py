"""Layers over a segmented image, and the tables beside it. Arrays in, arrays and HTML out.

A layer is a map of values, uint8 (H, W), and a colour with its opacity for each value, uint8 (256, 4).
"""

import html
from collections.abc import Collection
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from matplotlib.colors import to_hex
from torch import Tensor

from nnti.data.base import IGNORE_INDEX
from nnti.figures.pictures import Known, void_color
from nnti.metrics import confusion, scores

Layer = tuple[np.ndarray, np.ndarray]

COLORMAP = matplotlib.colormaps["viridis"]
_STOPS = ",".join(to_hex(COLORMAP(share)) for share in np.linspace(0, 1, 6))
_STYLE = f"display:inline-block;width:120px;height:10px;background:linear-gradient(to right,{_STOPS})"
_RAMP = f"0 <span style='{_STYLE}'></span> 1"
LAYERS = {  # and what their colours mean
    "truth": "What the annotators say; void is pale.",
    "prediction": "The most probable class of each pixel.",
    "errors": "Red: the prediction is not the truth. Void cannot be wrong. Classes are those of the truth.",
    "confidence": f"Probability of the predicted class: {_RAMP}",
    "entropy": f"Entropy of the class probabilities, as a share of the largest possible: {_RAMP}",
}
WRONG = (255, 40, 40)
MOST = 5  # classes of a pixel in its table


class Segmented:
    """Class probabilities of an image, float32 (C, H, W) on any device, and what follows from them.

    Attributes: `prediction`, uint8 (H, W); `confidence`, the probability of the predicted class, float32 (H, W);
    `entropy`, −Σ p ln p / ln C, float32 (H, W): 0 is certain, 1 knows nothing.
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


@dataclass(frozen=True)
class View:
    """An image: uint8 (H, W, 3), its label: uint8 (H, W), and what a network made of it, or None."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    segmented: Segmented | None


def class_layer(mask: np.ndarray, classes: Known, shown: Collection[int]) -> Layer:
    """Colour the classes in `shown`, and void always, of a mask of class numbers, uint8 (H, W)."""
    colors = np.zeros((256, 4), np.uint8)
    colors[: classes.num_classes, :3], colors[IGNORE_INDEX, :3] = classes.palette, void_color(classes)
    colors[[*shown, IGNORE_INDEX], 3] = 255
    return mask, colors


def error_layer(prediction: np.ndarray, truth: np.ndarray, classes: Known, shown: Collection[int]) -> Layer:
    """Colour the pixels that are wrong and whose true class is in `shown`; void cannot be wrong."""
    colors = np.zeros((256, 4), np.uint8)
    colors[1] = (*WRONG, 255)
    wrong = (prediction != truth) & (truth != IGNORE_INDEX) & np.isin(truth, [*shown])
    return wrong.astype(np.uint8), colors


def share_layer(values: np.ndarray) -> Layer:
    """Colour a map of values between 0 and 1, from dark violet to yellow."""
    return (values * 255).round().astype(np.uint8), COLORMAP(np.arange(256), bytes=True)


def metrics_table(view: View, classes: Known) -> str:
    """Return the share of each class that occurs and, where there is a prediction, the metrics of the image."""
    predicted = view.truth if view.segmented is None else view.segmented.prediction
    found = scores(confusion(predicted, view.truth, classes.num_classes))
    pixels, iou = found["pixels_per_class"], found["iou_per_class"]
    present = [number for number in np.argsort(-pixels, kind="stable") if not np.isnan(iou[number])]
    shares = [f"{100 * pixels[number] / max(1, pixels.sum()):.1f}" for number in present]
    columns, head = {"% of truth": shares}, "<b>classes</b>"
    if view.segmented is not None:
        columns["IoU"] = [f"{iou[number]:.3f}" for number in present]
        head = f"<b>mean IoU {found['mean_iou']:.3f}</b> · pixel accuracy {found['pixel_accuracy']:.3f}"
    void = 100 * (view.truth == IGNORE_INDEX).mean()
    return f"{head}{_class_table(classes, present, columns)}<small>void: {void:.1f} % of the pixels</small>"


def pixel_table(view: View, classes: Known, x: int, y: int) -> str:
    """Return the classes of the pixel (x, y), and its most probable ones."""
    names = {**dict(enumerate(classes.class_names)), IGNORE_INDEX: "void"}
    text = f"<b>pixel ({x}, {y})</b><br>truth: {html.escape(names[int(view.truth[y, x])])}"
    if view.segmented is None:
        return text
    predicted = html.escape(names[int(view.segmented.prediction[y, x])])
    return f"{text} · predicted: {predicted}{probability_table(view.segmented, classes, x, y)}"


def probability_table(segmented: Segmented, classes: Known, x: int, y: int) -> str:
    """Return the most probable classes of the pixel (x, y)."""
    shares = segmented.at(x, y)
    numbers = np.argsort(-shares, kind="stable")[:MOST]
    bar = "<span style='display:inline-block;height:9px;background:#0072B2;width:{:.0f}px'></span> {:.1f} %"
    bars = [bar.format(90 * share, 100 * share) for share in shares[numbers]]
    return _class_table(classes, numbers, {"probability": bars})


def css_color(classes: Known, number: int) -> str:
    """Return the colour of a class as CSS has it."""
    return to_hex(np.asarray(classes.palette[number]) / 255)


def _class_table(classes: Known, numbers: Collection[int], columns: dict[str, list]) -> str:
    """Return a row per class: its colour, its name, and what `columns` say."""
    swatch = "<span style='display:inline-block;width:12px;height:12px;background:{}'></span>"
    swatches = [swatch.format(css_color(classes, number)) for number in numbers]
    names = [html.escape(classes.class_names[number]) for number in numbers]
    head = f"<tr><th>{'</th><th>'.join(['', 'class', *columns])}</th></tr>"
    rows = "".join(
        f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in zip(swatches, names, *columns.values(), strict=True)
    )
    return f"<table style='text-align:left;line-height:1.35;border-spacing:8px 0'>{head}{rows}</table>"
