"""The explorer's tables, as HTML."""

import html

import matplotlib
import numpy as np
import torch
from matplotlib.colors import to_hex

from nnti.data import SegmentationDataset
from nnti.figures.masks import Classes
from nnti.interactive.layers import COLORMAP, Segmented
from nnti.interactive.views import View
from nnti.metrics import ConfusionMatrix

__all__ = ["legend", "metrics_table", "pixel_table", "probability_table"]

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
