"""Measure a model on a split, by either validation protocol."""

from typing import Any

import torch
from torch import Tensor, nn

from nnti.augment import Batch, normalize, warp
from nnti.config import Experiment, SettingError
from nnti.data import SegmentationDataset
from nnti.device import autocast, resolve_precision
from nnti.distributed import ALONE, World
from nnti.inference import Inference, average, evaluating
from nnti.loaders import val_loader
from nnti.losses import CrossEntropy, LossSum
from nnti.metrics import ConfusionMatrix
from nnti.progress import progress_bar
from nnti.transfer import on_device

__all__ = ["evaluate", "memory_format", "prepare"]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    experiment: Experiment,
    dataset: SegmentationDataset,
    protocol: str | None = None,
    loss: CrossEntropy | None = None,
    progress: bool = True,
    inference: Inference | None = None,
    world: World = ALONE,
) -> dict[str, Any]:
    """Return the metrics (see `nnti.metrics.scores`), `loss`, `protocol` and `images` of a model on a whole split.

    Protocol 'report': shorter side to val_size, centre crop, as the 2021 numbers were measured. 'full': every image at
    its own size, as papers and benchmarks report. The model is left in the mode it came in.

    Where `world` has several processes, each measures its share, and the result is that of all images.

    `inference` (with 'full' only) averages over windows, scales and mirror images. The result then states it under
    `inference`, and the loss is that of the averaged probabilities: −log of the true class's.
    """
    protocol = protocol or experiment.protocol
    if inference is not None and protocol != "full":
        raise SettingError(f"protocol={protocol!r}: windows, scales and flip go with protocol 'full' only")
    device = next(model.parameters()).device
    loss = (loss or CrossEntropy()).to(device)
    matrix, total = ConfusionMatrix(dataset.num_classes, dataset.ignore_index), LossSum(*torch.zeros(2, device=device))
    loader = val_loader(experiment, dataset, device, protocol, world)
    with evaluating(model):
        bar = progress_bar(loader, desc=f"validation, {protocol} protocol", leave=False, disable=not progress)
        for batch in on_device(bar, device):
            images, label = prepare(batch, experiment, device)
            with autocast(device, resolve_precision(experiment.precision, device)):
                logits = _logits(model, images, inference)
            step = loss(logits, label)
            total = LossSum(total.total + step.total, total.weight + step.weight)
            matrix.update(step.prediction, label)
    total, matrix = world.gather(total, matrix)
    stated = {} if inference is None else {"inference": inference.to_dict()}
    return {"protocol": protocol, **stated, "images": len(dataset), "loss": float(total.mean), **matrix.compute()}


def prepare(batch: Batch, experiment: Experiment, device: torch.device) -> tuple[Tensor, Tensor]:
    """Move a batch to the device and sample its crops: normalised images (B, 3, h, w) and labels (B, h, w)."""
    images, label = warp(batch.to(device))
    return normalize(images).contiguous(memory_format=memory_format(experiment)), label


def memory_format(experiment: Experiment) -> torch.memory_format:
    """Return the order in memory that the setting `channels_last` means."""
    return torch.channels_last if experiment.channels_last else torch.contiguous_format


def _logits(model: nn.Module, images: Tensor, inference: Inference | None) -> Tensor:
    """Return logits (B, C, H, W): the model's own, or those whose softmax is the averaged probabilities."""
    if inference is None or inference.plain:
        return model(images)
    averaged = average(model, images, inference)
    # far-off classes round to probability 0: one such pixel would make the loss infinite
    return averaged.clamp_min_(torch.finfo(averaged.dtype).tiny).log_()
