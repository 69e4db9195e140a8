"""Is a network in eval mode the network that was trained? Batch normalisation is where the two can part."""

from typing import Any

import torch
from torch import nn

from nnti.config import Experiment
from nnti.data import SegmentationDataset, evenly_spread
from nnti.device import autocast, resolve_precision
from nnti.evaluate import prepare
from nnti.inference import evaluating
from nnti.loaders import val_loader
from nnti.metrics import ConfusionMatrix
from nnti.models.normalization import batch_norms, frozen_statistics
from nnti.progress import progress_bar

__all__ = ["normalization_gap"]

IMAGES = 32


@torch.inference_mode()
def normalization_gap(
    model: nn.Module, experiment: Experiment, dataset: SegmentationDataset, progress: bool = True, images: int = IMAGES
) -> dict[str, Any]:
    """Measure a model on the same images with the statistics of each batch and with the running ones.

    In training, batch normalisation uses the statistics of the batch; in eval mode those that it has averaged. Where
    they differ much, a network trains well and predicts badly. Everything else (dropout) stays in eval mode in both.

    Args:
        model: left as it was, its running statistics too.
        experiment: its batch size and the `report` protocol's crop are used.
        dataset: `images` of it are used, spread evenly, in whole batches.

    Returns:
        `images`, `split`, and the mean IoU with either kind: `train_mode_mean_iou`, `eval_mode_mean_iou`.
    """
    batch = min(experiment.batch_size, len(dataset))
    whole_batches = max(1, min(images, len(dataset)) // batch) * batch
    some = torch.utils.data.Subset(dataset, evenly_spread(len(dataset), whole_batches))
    loader = val_loader(experiment, some, next(model.parameters()).device, "report")
    found = {}
    for name in ("train", "eval"):
        with evaluating(model), frozen_statistics(model):
            for norm in batch_norms(model):
                norm.train(name == "train")
            found[f"{name}_mode_mean_iou"] = _mean_iou(model, experiment, loader, dataset.num_classes, progress)
    return {"split": dataset.split, "images": len(some), **found}


def _mean_iou(model: nn.Module, experiment: Experiment, loader, num_classes: int, progress: bool) -> float:
    device = next(model.parameters()).device
    matrix = ConfusionMatrix(num_classes)
    for batch in progress_bar(loader, desc="normalisation check", leave=False, disable=not progress):
        images, label = prepare(batch, experiment, device)
        with autocast(device, resolve_precision(experiment.precision, device)):
            logits = model(images)
        matrix.update(logits.max(1).indices, label)
    return matrix.compute()["mean_iou"]
