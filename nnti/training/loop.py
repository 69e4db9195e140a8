"""The training loop: `for row in fit(experiment): ...` trains one epoch each time round and saves it.

What a training computes depends on the experiment and on the position (epoch, step) alone: order, augmentation and
dropout are drawn anew from (seed, epoch, step). A checkpoint therefore needs no states of random generators, and a run
that was killed goes on to the same bits.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnti.augment import Batch, memory_format, prepare
from nnti.device import Compiled, autocast, commit, resolve_device, resolve_precision
from nnti.experiment import Experiment
from nnti.folders import runs_dir
from nnti.inference.evaluate import evaluate, normalization_gap
from nnti.loaders import attach_caches, load_split, train_loader
from nnti.loss import LossSum, count_class_weights, cross_entropy
from nnti.models import Outputs, build_model, count_parameters
from nnti.models.saved import load_model, load_weights
from nnti.progress import write_line
from nnti.training.faults import explained
from nnti.training.monitors import Monitor, Monitors, ProgressBar, TensorBoard
from nnti.training.optimizer import build_optimizer, check_batch, for_this_machine, poly
from nnti.training.parallel import join, on_device
from nnti.training.run_folder import (
    Partial,
    RunFolder,
    RunState,
    SaveClock,
    build_record,
    check_data,
    continued,
    describe_data,
    history_row,
    refuse_foreign_folder,
    stopped,
    where,
)
from nnti.training.stopping import LossWatch, StopSignal, all_finite, not_finite

__all__ = ["Fit", "fit"]


PROTOCOLS = ("report", "full")
Forward = Callable[[Tensor], Tensor | Outputs]


def fit(
    experiment: Experiment,
    run_dir: str | Path | None = None,
    *,
    restart: bool = False,
    extend: bool = False,
    progress: bool = True,
) -> "Fit":
    """Prepare a run; iterating over the result trains it, one epoch a turn, and yields each epoch's history row.

    A run that was interrupted goes on from its last checkpoint, to the bits (CPU, float32) that it would have had.

    Args:
        experiment: all settings.
        run_dir: folder of the run; default runs/<experiment.name>.
        restart: start over where the folder holds an unfinished or finished run, instead of going on with it.
        extend: accept more epochs than the folder's run was begun with. From where it stands, the learning rate
            follows the schedule of the new number of epochs, which is higher there: it jumps up.
        progress: show a progress bar.

    Raises RunError if the folder holds a run with other settings.
    """
    return Fit(experiment, run_dir or runs_dir() / experiment.name, restart, extend, progress)


class Fit:
    """A run in progress: data, model, optimiser and everything measured so far.

    Attributes: `experiment`, `run` (its folder), `device`, `world` (the processes), `train_data`, `val_data`, `model`,
    `state` (where it stands), `monitors` (who looks on).
    """

    def __init__(self, experiment: Experiment, run_dir: str | Path, restart: bool, extend: bool, progress: bool):
        self.experiment, self.run, self.restart = experiment, RunFolder(run_dir), restart
        self.device = resolve_device(experiment.device)
        self.world = join(self.device)
        self.device, self.progress = self.world.device(self.device), progress and self.world.main
        saved = self.world.from_main(self._saved(extend) if self.world.main else None)
        self.dtype = resolve_precision(experiment.precision, self.device)
        self.train_data = load_split(experiment, experiment.train_split, experiment.train_limit)
        self.val_data = load_split(experiment, experiment.val_split, experiment.val_limit)
        if saved:
            check_data(self.run, saved, self._images(), self.train_data)
        self.loader = train_loader(experiment, self.train_data, self.device, self.world)
        torch.backends.cudnn.deterministic = True  # the same seed gives the same numbers
        self.model = self._build_model(pretrained=saved is None and self.world.main)
        attach_caches((self.train_data, self.val_data), experiment.cache, self.world, self.progress)
        # counting all labels again would give the same weights
        weights = saved["class_weights"] if saved else count_class_weights(experiment, self.train_data, self.progress)
        self.loss = cross_entropy(experiment, self.train_data, weights).to(self.device)
        self.optimizer = build_optimizer(experiment, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.state = RunState()
        if saved:
            self._restore(saved)
        self.state.enter_session(self.device, self.dtype, self.world, commit())
        self._stopping = False
        bars = [ProgressBar()] if self.progress else []
        boards = [TensorBoard(self.run)] if experiment.tensorboard and self.world.main else []
        self.monitors = Monitors((*bars, *boards))

    @property
    def rows(self) -> list[dict[str, float]]:
        """The history so far, one row per epoch; the first is the untrained network's."""
        return self.state.rows

    def __len__(self) -> int:
        """Number of epochs that are still to come."""
        return self.experiment.epochs - self.state.done

    def watched_by(self, display: Monitor) -> "Fit":
        """Let `display` take the place of the progress bars; without them (progress=False) nothing is shown."""
        if self.progress:
            self.monitors.members[0], self.progress = display, False
        return self

    def stop(self) -> None:
        """Let the training end after the step under way, with everything saved; other threads may call it.

        The loop over this object then raises `TrainingStopped`.
        """
        self._stopping = True

    def __iter__(self) -> Iterator[dict[str, float]]:
        with self._working():
            self._open()
        forward = self.world.wrap(self.model)
        forward = Compiled(forward) if self.experiment.compile else forward
        with self.monitors.watching(self):
            with self._working():
                self._begin()
            for epoch in range(self.state.done + 1, self.experiment.epochs + 1):
                with self._working():
                    self._train_epoch(epoch, forward)
                    self._finish_epoch(epoch)
                yield self.rows[-1]
            with self._working():
                if not self.world.from_main(self.run.finished):
                    self._finish()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Whatever happens inside, no other training writes here meanwhile, and faults are explained."""
        writer = self.run.one_writer() if self.world.main else nullcontext()
        with writer, explained(self.experiment, self.model, self.device, self.train_data.num_classes):
            yield

    def _open(self) -> None:
        """Make the folder, without what an earlier run left in it."""
        if self.world.main:
            if self.restart and not self.rows:
                self.run.clear()
            self.run.write_experiment(self.experiment)

    def _begin(self) -> None:
        """Measure the untrained network, or write what a run that was killed had no time for."""
        if not self.rows:
            self._finish_epoch(0)
        elif self.world.main and (len(self) or not self.run.finished):
            if self.state.partial is None:
                self._save_copies()
            self.run.write_history(self.rows)
            self.run.write_record(self._record())

    def _train_epoch(self, epoch: int, forward: Forward) -> None:
        """Train one epoch, or what is left of it, into `state.partial`; save on the way.

        Nothing in the loop waits for the device but the monitors, about once a second.
        """
        partial = self.state.partial = self.state.partial or self._nothing_yet()
        self.loader.sampler.set_epoch(epoch, partial.step)
        self.model.train()
        watch = LossWatch()
        clock = SaveClock(self.experiment.checkpoint_interval(), partial.step)
        with StopSignal() as signal:
            begun = time.perf_counter() - partial.seconds
            for batch in on_device(self.loader, self.device) if partial.step < len(self.loader) else ():
                loss = self._train_step(batch, epoch, forward)
                self._refuse(watch.add(loss.mean, partial.step, batch.indices), epoch)
                partial.seconds = time.perf_counter() - begun
                self.monitors.tell("step", self, loss)
                stopping = self._stopping or signal.number is not None
                stop, due = self.world.agree(stopping, self.world.main and clock.due(partial.step))
                if stop or due:
                    self._refuse(watch.settle(), epoch)
                    self._save()
                    clock.saved(partial.step)
                if stop:
                    signal.stop(stopped(self.state, self.experiment, len(self.loader), self.run.last))
            self._refuse(watch.settle(), epoch)
            partial.seconds = time.perf_counter() - begun

    def _train_step(self, batch: Batch, epoch: int, forward: Forward) -> LossSum:
        """Learn from a batch and count its pixels; return its loss without a graph. Nothing waits for the device."""
        self._seed(epoch, self.state.step)
        images, label = prepare(batch, self.experiment, self.device)
        with autocast(self.device, self.dtype):
            outputs = forward(images)
        loss = self.loss(outputs, label)
        self._update(self.world.scaled(loss).objective)
        self.state.partial.matrix.update(loss.prediction, label)
        own = LossSum(loss.total.detach(), loss.weight)
        self.state.partial.add(own)
        return own

    def _seed(self, *position: int) -> None:
        """Let everything random that follows, such as dropout, depend on seed, position and process alone."""
        state = np.random.SeedSequence((self.experiment.seed, *position, self.world.rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def _update(self, loss: Tensor) -> None:
        self._set_learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _set_learning_rate(self) -> None:
        iteration = self.state.done * len(self.loader) + self.state.step
        factor = poly(iteration, self.experiment.epochs * len(self.loader), self.experiment.power)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _finish_epoch(self, epoch: int) -> None:
        """Validate if it is time to, then write checkpoints, history and record."""
        due = epoch % self.experiment.val_every == 0 or epoch == self.experiment.epochs
        if due:
            self._save()  # a validation may take long, or too much memory
        started = time.perf_counter()
        val = self._measure(self.experiment.protocol) if due else None
        times = {"train_seconds": 0.0, "val_seconds": time.perf_counter() - started if due else math.nan}
        train = None
        if epoch:
            partial = self.state.partial
            total, matrix = self.world.gather(partial.total, partial.matrix)
            train, times["train_seconds"] = {"loss": float(total.mean), **matrix.compute()}, partial.seconds
        lr = self.optimizer.param_groups[-1]["lr"]
        self.state.finish_epoch(history_row(epoch, train, val, learning_rate=lr, **times))
        self._save()
        if self.world.main:
            self._save_copies()
            self.run.write_history(self.rows)
            self.run.write_record(self._record())
        self.monitors.tell("epoch", self)

    def _measure(self, protocol: str) -> dict[str, Any]:
        self.world.spread(self.model)
        self.monitors.tell("phase", self, f"validation, {protocol} protocol")
        common = {"loss": self.loss, "progress": self.progress, "world": self.world}
        measured = evaluate(self.model, self.experiment, self.val_data, protocol, **common)
        self.monitors.tell("phase", self, "")
        return measured

    def _finish(self) -> None:
        """Measure the best model by both protocols and close the record."""
        if self.world.main:
            load_weights(self.model, self._best_checkpoint()["model"], self.run.best)
        measured = {protocol: self._measure(protocol) for protocol in PROTOCOLS}
        if self.world.main:
            alone = load_model(self.run.best, self.device)[0].to(memory_format=memory_format(self.experiment))
            health = normalization_gap(alone, self.experiment, self.train_data, self.progress)
            self.run.write_record({**self._record(), "finished": True, "validation": measured, "health": health})

    # what is saved

    def _save(self) -> None:
        """Write last.pt; all processes take part, for each knows only its own share of the sums."""
        state = self.state.save(self.world)
        if self.world.main:
            if not all_finite(self.model):
                where = (
                    f"weights are not finite in epoch {self.state.done + 1}, step {self.state.step}, though losses were"
                )
                raise not_finite(where, [], self.run.last, self.experiment, self.dtype)
            machinery = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
            self.run.checkpoints.save_last({**self._checkpoint(), **machinery, **state, "images": self._images()})

    def _save_copies(self) -> None:
        """Write best.pt and the kept checkpoint if they are those of the last finished epoch."""
        epoch, checkpoint = self.state.done, self._checkpoint()
        if epoch == self.state.best["epoch"]:
            self.run.checkpoints.save(self.run.best, checkpoint)
        if epoch and epoch % self.experiment.keep_every == 0:
            self.run.checkpoints.save(self.run.checkpoints.kept(epoch), checkpoint)

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment.to_dict(),
            "class_names": list(self.train_data.class_names),
            "palette": self.train_data.palette.tolist(),
            "class_weights": None if self.loss.class_weights is None else self.loss.class_weights.tolist(),
            "epoch": self.state.done,
            "scores": self.state.scores(self.experiment.protocol),
            "model": self.model.state_dict(),
        }

    def _record(self) -> dict[str, Any]:
        data = describe_data(self.train_data, self.val_data)
        return build_record(self.experiment, self.state, data, count_parameters(self.model), len(self.loader))

    # how a run begins and goes on

    def _saved(self, extend: bool) -> dict[str, Any] | None:
        """Return the folder's last checkpoint if the run is to go on with it."""
        if self.restart:
            return None
        saved = self.run.checkpoints.load_last()
        if saved is None:
            refuse_foreign_folder(self.run)
            return None
        saved = continued(self.run, self.experiment, saved, extend)
        self.restart = saved is None
        return saved

    def _build_model(self, pretrained: bool) -> torch.nn.Module:
        torch.manual_seed(self.experiment.seed)
        arguments = self.experiment.model_arguments
        model = build_model(self.experiment.model, self.train_data.num_classes, arguments, pretrained=pretrained)
        check_batch(self.experiment, model, self.world)
        model = model.to(self.device, memory_format=memory_format(self.experiment))
        return self.world.synchronized(model, self.device) if self.experiment.sync_batch_norm else model

    def _restore(self, saved: dict[str, Any]) -> None:
        load_weights(self.model, saved["model"], self.run.last)
        self.optimizer.load_state_dict(for_this_machine(saved["optimizer"], self.optimizer))
        self.scaler.load_state_dict(saved["scaler"])
        self.state.restore(saved, self.world, self._nothing_yet())
        if self.world.main:
            place = where(self.state, self.experiment, len(self.loader))
            write_line(f"{self.run.path} {place}; restart=True would start over")

    def _nothing_yet(self) -> Partial:
        return Partial.empty(self.train_data.num_classes, self.train_data.ignore_index, self.device)

    def _best_checkpoint(self) -> dict[str, Any]:
        """Return the best epoch's checkpoint; where all copies of it are damaged, the last one's takes its place."""
        best = self.state.best["epoch"]
        found = self.run.checkpoints.load_best(best)
        if found is None:
            warnings.warn(
                f"{self.run.best} is damaged or not of the best epoch, {best}: the last takes its place", stacklevel=2
            )
            self.state.best = {"epoch": self.state.done, "mean_iou": self.rows[-1]["val_mean_iou"]}
            found = self._checkpoint()
        self.run.checkpoints.save(self.run.best, found)
        return found

    def _images(self) -> dict[str, int]:
        return {"train_split": len(self.train_data), "val_split": len(self.val_data)}

    def _refuse(self, bad: tuple[int, list[int]] | None, epoch: int) -> None:
        """Raise FloatingPointError for a step whose loss is not finite."""
        if bad is not None:
            step, images = bad
            files = [self.train_data.files[index][0] for index in images]
            where = f"the loss is not finite in epoch {epoch}, step {step} of {len(self.loader)}"
            raise not_finite(where, files, self.run.last, self.experiment, self.dtype)
