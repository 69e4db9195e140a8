"""Evaluate a model on a split by either validation protocol, and trivial baselines; check its normalisation."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnti.augment import place_report, prepare
from nnti.data import SegmentationDataset, evenly_spread
from nnti.data.check import check_measurable, warn_of_unmeasured
from nnti.device import autocast, resolve_precision
from nnti.errors import SettingError
from nnti.experiment import Experiment, crop_shape
from nnti.inference.image import Inference, average, evaluating
from nnti.loaders import val_loader
from nnti.loss import CrossEntropy, LossSum
from nnti.metrics import ConfusionMatrix
from nnti.models.blocks import batch_norms, frozen_statistics
from nnti.progress import progress_bar

HEALTH_IMAGES = 32


def evaluate(
    model: nn.Module,
    experiment: Experiment,
    dataset: SegmentationDataset,
    protocol: str | None = None,
    loss: CrossEntropy | None = None,
    progress: bool = True,
    inference: Inference | None = None,
) -> dict[str, Any]:
    """Return the metrics (see `nnti.metrics.scores`), `loss`, `protocol` and `images` of a model on a whole split.

    Protocol 'report': shorter side to val_size, centre crop, as the 2021 numbers were measured. 'full': every image at
    its own size, as papers and benchmarks report. The model keeps its mode.

    `inference` (with 'full' only) averages over windows, scales and mirror images. The result then states it under
    `inference`, and the loss is that of the averaged probabilities: −log of the true class's.
    """
    protocol = protocol or experiment.protocol
    if inference is not None and protocol != "full":
        raise SettingError(f"protocol={protocol!r}: windows, scales and flip go with protocol 'full' only")
    check_measurable(dataset)
    total, matrix = count(model, experiment, dataset, protocol, loss or CrossEntropy(), progress, inference=inference)
    warn_of_unmeasured(matrix.matrix().sum(1), dataset, protocol)
    stated = {} if inference is None else {"inference": inference.to_dict()}
    return {**results(protocol, len(dataset), total, matrix), **stated}


@torch.inference_mode()
def count(
    model: nn.Module,
    experiment: Experiment,
    dataset: SegmentationDataset,
    protocol: str,
    loss: CrossEntropy,
    progress: bool = True,
    rank: int = 0,
    processes: int = 1,
    inference: Inference | None = None,
) -> tuple[LossSum, ConfusionMatrix]:
    """Return the loss and the confusion matrix of a model on a split, or on one process's share of it."""
    device = next(model.parameters()).device
    loss, total = loss.to(device), LossSum(*torch.zeros(2, device=device))
    matrix = ConfusionMatrix(dataset.num_classes)
    loader = val_loader(experiment, dataset, device, protocol, rank, processes)
    with evaluating(model):
        for batch in progress_bar(loader, desc=f"validation, {protocol} protocol", leave=False, disable=not progress):
            images, labels = prepare(batch, experiment, device)
            with autocast(device, resolve_precision(experiment.precision, device)):
                logits = _logits(model, images, inference)
            step = loss(logits, labels)
            total = total.plus(step)
            matrix.update(step.prediction, labels)
    return total, matrix


def results(protocol: str, images: int, total: LossSum, matrix: ConfusionMatrix) -> dict[str, Any]:
    """Return the result of `evaluate` from the sums of `count`, possibly over several processes."""
    loss = float(total.mean) if total.weight > 0 else math.nan  # where everything is void, nothing was measured
    return {"protocol": protocol, "images": images, "loss": loss, **matrix.compute()}


def baselines(
    experiment: Experiment, train: SegmentationDataset, val: SegmentationDataset, progress: bool = True
) -> dict[str, float]:
    """Return the mean IoU on `val`, by the 'report' protocol, of two answers that ignore the image.

    "one class" predicts the most frequent class of `train` everywhere, "by place" the most frequent one at each pixel
    of the crop. A network has learned something if it is better.
    """
    classes, size = val.num_classes, crop_shape(experiment.val_size)
    counts = torch.zeros(classes + 1, *size, dtype=torch.int32)  # the last row is void
    for label in _report_labels(train, size, progress):
        counts.scatter_add_(0, label.clamp_max(classes)[None], torch.ones(1, *size, dtype=torch.int32))
    counts = counts[:classes]
    answers = {"one class": counts.sum((1, 2)).argmax().expand(size), "by place": counts.argmax(0)}
    matrices = {name: ConfusionMatrix(classes) for name in answers}
    for label in _report_labels(val, size, progress):
        for name, answer in answers.items():
            matrices[name].update(answer, label)
    return {name: matrix.compute()["mean_iou"] for name, matrix in matrices.items()}


def _report_labels(dataset: SegmentationDataset, size: tuple[int, int], progress: bool) -> Iterator[Tensor]:
    """Yield a split's labels in the crop of the 'report' protocol, as `warp` samples them: int64 (h, w)."""
    title = f"labels of {dataset.split}"
    for index in progress_bar(range(len(dataset)), desc=title, leave=False, disable=not progress):
        label = dataset.label(index)
        (x_step, _, left), (_, y_step, top) = place_report(label.shape, size).matrix.astype("float32")
        rows = ((torch.arange(size[0]) + 0.5) * y_step + top).long()
        columns = ((torch.arange(size[1]) + 0.5) * x_step + left).long()
        yield label[rows][:, columns].long()


@torch.inference_mode()
def normalization_gap(
    model: nn.Module, experiment: Experiment, dataset: SegmentationDataset, progress: bool = True
) -> dict[str, Any]:
    """Measure a model on the same images with the statistics of each batch and with the running ones.

    In training, batch normalisation uses the statistics of the batch; in eval mode those that it has averaged. Where
    they differ much, a network trains well and predicts badly. Everything else (dropout) stays in eval mode in both.

    It takes `HEALTH_IMAGES` of the data set, spread evenly, in whole batches of the experiment's size, in the crop of
    the `report` protocol. The model is not changed, nor are its running statistics.

    Returns `images`, `split`, and the mean IoU with either kind: `train_mode_mean_iou`, `eval_mode_mean_iou`.
    """
    batch = min(experiment.batch_size, len(dataset))
    whole_batches = max(1, min(HEALTH_IMAGES, len(dataset)) // batch) * batch
    some = torch.utils.data.Subset(dataset, evenly_spread(len(dataset), whole_batches))
    device = next(model.parameters()).device
    loader = val_loader(experiment, some, device, "report")
    found = {}
    for name in ("train", "eval"):
        matrix = ConfusionMatrix(dataset.num_classes)
        with evaluating(model), frozen_statistics(model):
            for norm in batch_norms(model):
                norm.train(name == "train")
            for batch in progress_bar(loader, desc="normalisation check", leave=False, disable=not progress):
                inputs, labels = prepare(batch, experiment, device)
                with autocast(device, resolve_precision(experiment.precision, device)):
                    logits = model(inputs)
                matrix.update(logits.max(1).indices, labels)
        found[f"{name}_mode_mean_iou"] = matrix.compute()["mean_iou"]
    return {"split": dataset.split, "images": len(some), **found}


def _logits(model: nn.Module, images: Tensor, inference: Inference | None) -> Tensor:
    """Return logits (B, C, H, W): the model's own, or those whose softmax is the averaged probabilities."""
    if inference is None or inference.plain:
        return model(images)
    averaged = average(model, images, inference)
    # small probabilities round to 0: one such pixel would make the loss infinite
    return averaged.clamp_min_(torch.finfo(averaged.dtype).tiny).log_()
