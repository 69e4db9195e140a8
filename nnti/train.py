"""The training loop: `for row in fit(experiment): ...` trains one epoch each time round and saves it."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from nnti.augment import Batch
from nnti.compilation import Compiled
from nnti.config import Experiment, SettingError
from nnti.data import attach_cache, class_frequencies
from nnti.device import autocast, commit, device_name, resolve_device, resolve_precision, versions
from nnti.evaluate import evaluate, prepare
from nnti.health import normalization_gap
from nnti.loaders import load_split, train_loader
from nnti.losses import CrossEntropy, LossSum, enet_class_weights
from nnti.metrics import ConfusionMatrix
from nnti.models import Outputs, build_model, count_parameters
from nnti.paths import runs_dir
from nnti.records import RunError, RunFolder, history_row, load_checkpoint
from nnti.transfer import on_device

__all__ = ["Fit", "build_loss", "build_optimizer", "fit", "poly"]

PROTOCOLS = ("report", "full")
FUSED_DEVICES = ("cuda", "mps")  # on a CPU it makes no difference (benchmarks/step.py)
Forward = Callable[[Tensor], Tensor | Outputs]


def fit(
    experiment: Experiment, run_dir: str | Path | None = None, *, restart: bool = False, progress: bool = True
) -> "Fit":
    """Prepare a run; iterating over the result trains it, one epoch a turn, and yields each epoch's history row.

    Args:
        experiment: all settings.
        run_dir: folder of the run; default runs/<experiment.name>.
        restart: start over where the folder holds an unfinished or finished run, instead of going on with it.
        progress: show a progress bar.

    Raises RunError if the folder holds a run with other settings.
    """
    return Fit(experiment, run_dir or runs_dir() / experiment.name, restart, progress)


class Fit:
    """A run in progress: data, model, optimiser and everything measured so far.

    Attributes: `experiment`, `run` (its folder), `device`, `train_data`, `val_data`, `model`, `rows` (history so far).
    """

    def __init__(self, experiment: Experiment, run_dir: str | Path, restart: bool, progress: bool):
        self.experiment, self.run, self.progress, self.restart = experiment, RunFolder(run_dir), progress, restart
        saved = self._saved()
        self.device = resolve_device(experiment.device)
        self.dtype = resolve_precision(experiment.precision, self.device)
        self.train_data = load_split(experiment, experiment.train_split, experiment.train_limit)
        self.val_data = load_split(experiment, experiment.val_split, experiment.val_limit)
        self.loader = train_loader(experiment, self.train_data, self.device)
        self.commit = commit()  # of the code that is running, not of what the checkout holds when it ends
        torch.backends.cudnn.deterministic = True  # the same seed gives the same numbers
        torch.manual_seed(experiment.seed)
        arguments = experiment.model_arguments
        model = build_model(experiment.model, self.train_data.num_classes, arguments, pretrained=saved is None)
        _check_batch(experiment, model)
        for dataset in (self.train_data, self.val_data):
            attach_cache(dataset, experiment.cache, progress=progress)
        layout = torch.channels_last if experiment.channels_last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=layout)
        self.loss = self._loss(saved).to(self.device)
        self.optimizer = build_optimizer(experiment, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"epoch": None, "mean_iou": -math.inf}
        if saved:
            self._restore(saved)

    def __len__(self) -> int:
        """Number of epochs that are still to come."""
        return self.experiment.epochs - self._done()

    def __iter__(self) -> Iterator[dict[str, float]]:
        if self.restart and not self.rows:
            self.run.clear()
        self.run.write_experiment(self.experiment)
        if not self.rows:
            self._finish_epoch(0, None, 0.0)
        forward = Compiled(self.model) if self.experiment.compile else self.model
        images = len(self) * len(self.loader) * self.experiment.batch_size
        with tqdm(total=images, unit="img", desc=self.experiment.name, disable=not (self.progress and images)) as bar:
            for epoch in range(self._done() + 1, self.experiment.epochs + 1):
                started = time.perf_counter()
                measured = self._train_epoch(epoch, forward, bar)
                self._finish_epoch(epoch, measured, time.perf_counter() - started)
                yield self.rows[-1]
        if not self.run.record()["finished"]:
            self._finish()

    def _train_epoch(self, epoch: int, forward: Forward, bar: tqdm) -> dict[str, Any]:
        """Train one epoch; nothing in the loop waits for the device but the bar, about once a second."""
        torch.manual_seed(self.experiment.seed * 1_000_003 + epoch)  # dropout depends on seed and epoch alone
        self.loader.sampler.set_epoch(epoch)
        self.model.train()
        matrix = ConfusionMatrix(self.train_data.num_classes, self.train_data.ignore_index)
        total, shown = LossSum(*torch.zeros(2, device=self.device)), 0.0
        for step, batch in enumerate(on_device(self.loader, self.device)):
            self._set_learning_rate((epoch - 1) * len(self.loader) + step)
            loss = self._train_step(batch, forward, matrix)
            total = LossSum(total.total + loss.total, total.weight + loss.weight)
            bar.update(len(batch.images))
            if time.perf_counter() - shown > 1:
                bar.set_postfix(epoch=f"{epoch}/{self.experiment.epochs}", loss=f"{float(loss.mean):.3f}")
                shown = time.perf_counter()
        return {"loss": float(total.mean), **matrix.compute()}

    def _train_step(self, batch: Batch, forward: Forward, matrix: ConfusionMatrix) -> LossSum:
        """Learn from a batch and count its pixels; return its loss without a graph. Nothing waits for the device."""
        images, label = prepare(batch, self.experiment, self.device)
        with autocast(self.device, self.dtype):
            outputs = forward(images)
        loss = self.loss(outputs, label)
        self._update(loss.objective)
        matrix.update(loss.prediction, label)
        return LossSum(loss.total.detach(), loss.weight)

    def _update(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _set_learning_rate(self, iteration: int) -> None:
        factor = poly(iteration, self.experiment.epochs * len(self.loader), self.experiment.power)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _finish_epoch(self, epoch: int, train: dict | None, seconds: float) -> None:
        """Validate if it is time to, then write history, checkpoints and record."""
        if train and not math.isfinite(train["loss"]):
            raise FloatingPointError(
                f"the loss became {train['loss']} in epoch {epoch}; lower learning_rate or set precision='float32', "
                f"then run again: it goes on from {self.run.last}, which is still good"
            )
        due = epoch % self.experiment.val_every == 0 or epoch == self.experiment.epochs
        started = time.perf_counter()
        val = (
            evaluate(self.model, self.experiment, self.val_data, loss=self.loss, progress=self.progress)
            if due
            else None
        )
        times = {"train_seconds": seconds, "val_seconds": time.perf_counter() - started if due else math.nan}
        lr = self.optimizer.param_groups[-1]["lr"]
        self.rows.append(history_row(epoch, train, val, learning_rate=lr, **times))
        checkpoint = self._checkpoint(epoch, val)
        if val and epoch and (self.best["epoch"] is None or val["mean_iou"] > self.best["mean_iou"]):
            self.best = {"epoch": epoch, "mean_iou": val["mean_iou"]}
            self.run.write_checkpoint("best.pt", checkpoint)
        resumable = {**checkpoint, "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        self.run.write_checkpoint("last.pt", {**resumable, "rows": self.rows, "best": self.best})
        if epoch and epoch % self.experiment.checkpoint_every == 0:
            self.run.write_checkpoint(f"epoch_{epoch:03d}.pt", checkpoint)
        self.run.write_history(self.rows)
        self.run.write_record(self._record())

    def _finish(self) -> None:
        """Measure the best model by both protocols and close the record."""
        self.model.load_state_dict(load_checkpoint(self.run.best, self.device)["model"])
        measured = {
            protocol: evaluate(self.model, self.experiment, self.val_data, protocol, self.loss, self.progress)
            for protocol in PROTOCOLS
        }
        health = normalization_gap(self.model, self.experiment, self.train_data, self.progress)
        self.run.write_record({**self._record(), "finished": True, "validation": measured, "health": health})

    def _checkpoint(self, epoch: int, val: dict | None) -> dict[str, Any]:
        scores = {name: value for name, value in (val or {}).items() if not isinstance(value, np.ndarray)}
        return {
            "experiment": self.experiment.to_dict(),
            "class_names": list(self.train_data.class_names),
            "palette": self.train_data.palette.tolist(),
            "class_weights": None if self.loss.class_weights is None else self.loss.class_weights.tolist(),
            "epoch": epoch,
            "scores": scores,
            "model": self.model.state_dict(),
        }

    def _record(self) -> dict[str, Any]:
        trained = [row for row in self.rows if row["epoch"] > 0]
        seconds = [row["train_seconds"] for row in trained]
        images = len(self.loader) * self.experiment.batch_size
        return {
            "name": self.experiment.name,
            "finished": False,
            "experiment": self.experiment.to_dict(),
            "data": {
                "title": self.train_data.title,
                "train_split": self.experiment.train_split,
                "train_images": len(self.train_data),
                "val_split": self.experiment.val_split,
                "val_images": len(self.val_data),
                "class_names": list(self.train_data.class_names),
                "cache": self.train_data.cache,
            },
            "parameters": count_parameters(self.model),
            "seed": self.experiment.seed,
            "device": device_name(self.device),
            "precision": str(self.dtype).removeprefix("torch."),
            "versions": versions(),
            "commit": self.commit,
            "epochs": self._done(),
            "seconds_per_epoch": float(np.median(seconds)) if seconds else None,
            "images_per_second": images / float(np.median(seconds)) if seconds else None,
            "train_seconds": sum(seconds),
            "best_epoch": self.best["epoch"],
            "untrained": {key: value for key, value in self.rows[0].items() if key.startswith("val_")},
        }

    def _saved(self) -> dict[str, Any] | None:
        """Return the folder's last checkpoint if the run is to go on with it."""
        if self.restart:
            return None
        if not self.run.last.is_file():
            self._refuse_foreign_folder()
            return None
        saved = load_checkpoint(self.run.last)
        changed = Experiment.from_dict(saved["experiment"]).differences(self.experiment)
        if changed:
            listed = ", ".join(f"{key}: {old!r} → {new!r}" for key, (old, new) in changed.items())
            raise RunError(
                f"{self.run.path} holds a run with other settings ({listed}). Pass restart=True (--restart) to replace "
                "it, or another run_dir (--run-dir) to keep both"
            )
        return saved

    def _refuse_foreign_folder(self) -> None:
        """Results without a checkpoint to go on from, such as a committed record, must not be written over."""
        found = [path.name for path in (self.run.best, self.run.path / "record.json") if path.exists()]
        if found:
            raise RunError(
                f"{self.run.path} holds {' and '.join(found)} of a run but no {self.run.last.name} to go on from. Pass "
                "another run_dir (--run-dir) to keep it, or restart=True (--restart) to replace it"
            )

    def _restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(_for_this_machine(saved["optimizer"], self.optimizer))
        self.scaler.load_state_dict(saved["scaler"])
        self.rows, self.best = saved["rows"], saved["best"]
        done = self._done()
        state = "is complete" if done == self.experiment.epochs else f"goes on after epoch {done}"
        tqdm.write(
            f"{self.run.path} {state} ({done} of {self.experiment.epochs} epochs); restart=True would start over"
        )

    def _done(self) -> int:
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    def _loss(self, saved: dict[str, Any] | None) -> CrossEntropy:
        if saved:  # counting all labels again would give the same weights
            return _cross_entropy(self.experiment, self.train_data, saved["class_weights"])
        return build_loss(self.experiment, self.train_data, self.progress)


def poly(iteration: int, max_iterations: int, power: float) -> float:
    """Return the learning rate's factor (1 − iteration / max_iterations)^power, the "poly" schedule in closed form."""
    return (1 - iteration / max_iterations) ** power


def build_optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of an experiment; every group remembers its base rate as `initial_lr`.

    A model may offer `parameter_groups()`; its group "backbone" learns at `backbone_factor` times the base rate.
    """
    offered = getattr(model, "parameter_groups", lambda: {"all": list(model.parameters())})()
    factors = {"backbone": experiment.backbone_factor}
    groups = [
        {"params": parameters, "initial_lr": experiment.learning_rate * factors.get(name, 1.0)}
        for name, parameters in offered.items()
    ]
    options = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": _can_fuse(model)}
    if experiment.optimizer == "adam":
        return torch.optim.Adam(groups, betas=(experiment.momentum, 0.999), **options)
    return torch.optim.SGD(groups, momentum=experiment.momentum, **options)


def _can_fuse(model: nn.Module) -> bool | None:
    """Whether one kernel can update all parameters; None leaves the choice to PyTorch."""
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in model.parameters()) or None


def _for_this_machine(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimiser's saved state with this one's way of updating: it belongs to the device, not to the run."""
    ways = {name: optimizer.defaults[name] for name in ("fused", "foreach")}
    return {**state, "param_groups": [{**group, **ways} for group in state["param_groups"]]}


def build_loss(experiment: Experiment, train_data, progress: bool = True) -> CrossEntropy:
    """Return the loss of an experiment; class weights come from the pixel counts of the training split."""
    if experiment.class_weighting == "none":
        return _cross_entropy(experiment, train_data, None)
    pixels = class_frequencies(train_data, progress=progress)
    return _cross_entropy(experiment, train_data, enet_class_weights(pixels))


def _cross_entropy(experiment: Experiment, train_data, class_weights) -> CrossEntropy:
    return CrossEntropy(class_weights, train_data.ignore_index, experiment.auxiliary_weight)


def _check_batch(experiment: Experiment, model: nn.Module) -> None:
    smallest = getattr(model, "smallest_batch", 1)
    if experiment.batch_size < smallest:
        raise SettingError(
            f"batch_size={experiment.batch_size}: {type(model).__name__} trains on at least {smallest} images at a "
            f"time, because it normalises over single values per image; set batch_size to {smallest} or more"
        )
