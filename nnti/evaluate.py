"""Measure a model on a split, by either validation protocol."""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from nnti.augment import Batch, normalize, warp
from nnti.config import Experiment
from nnti.data import SegmentationDataset
from nnti.device import autocast, resolve_precision
from nnti.loaders import val_loader
from nnti.losses import CrossEntropy, LossSum
from nnti.metrics import ConfusionMatrix

__all__ = ["evaluate", "predict_image", "prepare"]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    experiment: Experiment,
    dataset: SegmentationDataset,
    protocol: str | None = None,
    loss: CrossEntropy | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Return the metrics (see `nnti.metrics.scores`), `loss`, `protocol` and `images` of a model on a whole split.

    Protocol 'report': shorter side to val_size, centre crop, as the 2021 numbers were measured. 'full': every image at
    its own size, as papers and benchmarks report. The model is left in the mode it came in.
    """
    protocol = protocol or experiment.protocol
    device = next(model.parameters()).device
    loss = (loss or CrossEntropy()).to(device)
    matrix, total = ConfusionMatrix(dataset.num_classes, dataset.ignore_index), LossSum(*torch.zeros(2, device=device))
    loader = val_loader(experiment, dataset, device, protocol)
    mode = model.training
    model.eval()
    try:
        for batch in tqdm(loader, desc=f"validation, {protocol} protocol", leave=False, disable=not progress):
            images, label = prepare(batch, experiment, device)
            with autocast(device, resolve_precision(experiment.precision, device)):
                logits = model(images)
            step = loss(logits, label)
            total = LossSum(total.total + step.total, total.weight + step.weight)
            matrix.update(logits.max(1).indices, label)
    finally:
        model.train(mode)
    return {"protocol": protocol, "images": len(dataset), "loss": float(total.mean), **matrix.compute()}


def prepare(batch: Batch, experiment: Experiment, device: torch.device) -> tuple[Tensor, Tensor]:
    """Move a batch to the device and sample its crops: normalised images (B, 3, h, w) and labels (B, h, w)."""
    images, label = warp(batch.to(device))
    layout = torch.channels_last if experiment.channels_last else torch.contiguous_format
    return normalize(images).contiguous(memory_format=layout), label


@torch.inference_mode()
def predict_image(model: nn.Module, image: Tensor, precision: str = "auto") -> Tensor:
    """Segment one uint8 image (3, H, W) at its own size: class numbers, uint8 (H, W), on the CPU."""
    device = next(model.parameters()).device
    mode = model.training
    model.eval()
    try:
        with autocast(device, resolve_precision(precision, device)):
            logits = model(normalize(image[None].to(device)))
    finally:
        model.train(mode)
    return logits.max(1).indices[0].to("cpu", torch.uint8)
