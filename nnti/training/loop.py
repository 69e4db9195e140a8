"""The training loop: `for row in fit(experiment): ...` trains and saves one epoch per iteration.

Everything random (order, augmentation, dropout) is drawn anew from (seed, epoch, step). A checkpoint therefore needs no
states of random generators, and a killed run resumes with bit-identical results.
"""

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from nnti.augment import memory_format, prepare
from nnti.data import attach_cache
from nnti.data.check import check_labels, warn_of_unmeasured
from nnti.device import autocast, compiled, machine_explained, resolve_device, resolve_precision
from nnti.errors import DataError, RunError
from nnti.experiment import Experiment
from nnti.folders import find_run_dir, runs_dir
from nnti.inference.evaluate import count, normalization_gap, results
from nnti.loaders import load_split, train_loader
from nnti.loss import LossSum, build_loss
from nnti.models import build_model
from nnti.models.saved import image_names, load_checkpoint, load_model, load_weights, take_over
from nnti.progress import write_line
from nnti.training.monitors import Monitor, Monitors, ProgressBar, TensorBoard
from nnti.training.optimizer import build_optimizer, check_batch, for_this_machine, poly, poly_schedule
from nnti.training.parallel import join
from nnti.training.run_folder import RunFolder, build_record, check_data, continued, refuse_foreign, refuse_other_folder
from nnti.training.state import Partial, RunState, history_row
from nnti.training.stopping import StopSignal

UNSEEN = 50  # steps between two checks for NaN on a GPU: reading each loss would make the CPU wait for it


def fit(
    experiment: Experiment,
    run_dir: str | Path | None = None,
    *,
    restart: bool = False,
    extend: bool = False,
    progress: bool = True,
) -> "Fit":
    """Prepare a run; iterating over the result trains it and yields one history row per epoch.

    An interrupted run resumes from its last checkpoint. On a CPU in float32 the result is bit-identical to that of an
    uninterrupted run.

    Args:
        run_dir: folder of the run; default runs/<experiment.name>.
        restart: start over even if the folder holds a run, instead of resuming it.
        extend: allow more epochs than the run began with. The learning rate then follows the longer schedule, so it
            jumps up at this point.

    Raises RunError if the folder holds a run with other settings.
    """
    return Fit(experiment, run_dir or runs_dir() / experiment.name, restart, extend, progress)


class Fit:
    """A run in progress: data, model, optimiser, `state` (its progress), `run` (its folder), `world` (processes)."""

    def __init__(self, experiment: Experiment, run_dir: str | Path, restart: bool, extend: bool, progress: bool):
        self.experiment, self.run = experiment, RunFolder(run_dir)
        self.restart = self._restarted = restart
        self.world = join(resolve_device(experiment.device))
        self.device = self.world.device(resolve_device(experiment.device))
        self.dtype = resolve_precision(experiment.precision, self.device)
        self.progress = progress and self.world.main
        saved = self.world.from_main(self._saved(extend) if self.world.main else None)

        self.train_data = load_split(experiment, experiment.train_split, experiment.train_limit)
        self.val_data = load_split(experiment, experiment.val_split, experiment.val_limit)
        self.images = {"train_split": image_names(self.train_data), "val_split": image_names(self.val_data)}
        if saved:
            check_data(self.run, saved, self.train_data, self.val_data)
        self.loader = train_loader(experiment, self.train_data, self.device, self.world.rank, self.world.size)

        torch.backends.cudnn.deterministic = True  # fewer differences between two runs with one seed
        self.model = self._build_model(begins=saved is None)
        with self.world.first_of_machine_first():
            for dataset in (self.train_data, self.val_data):
                attach_cache(dataset, experiment.cache, progress=self.progress)
        check_labels(self.train_data, self.val_data, self.progress)
        weights = saved["class_weights"] if saved else None  # counting all labels again would give the same
        self.loss = build_loss(experiment, self.train_data, self.progress, weights).to(self.device)
        self.optimizer = build_optimizer(experiment, self.model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.state = RunState()
        if saved:
            self._restore(saved)
        iteration = self.state.done * len(self.loader) + self.state.step
        self.schedule = poly_schedule(self.optimizer, experiment, len(self.loader), iteration)
        self.state.enter_session(self.device, self.dtype, self.world, getattr(self.model, "weights", None))

        self._stopping, self._unseen = False, []
        self._saved_at, self._saved_step = time.perf_counter(), self.state.step
        bars = [ProgressBar()] if self.progress else []
        boards = [TensorBoard(self.run)] if experiment.tensorboard and self.world.main else []
        self.monitors = Monitors((*bars, *boards))

    @property
    def rows(self) -> list[dict[str, float]]:
        """The history so far, one row per epoch; the first is the untrained network's."""
        return self.state.rows

    def __len__(self) -> int:
        """Number of remaining epochs."""
        return self.experiment.epochs - self.state.done

    def watched_by(self, display: Monitor) -> "Fit":
        """Replace the progress bars by `display`; with progress=False nothing is shown."""
        if self.progress:
            self.monitors.members[0], self.progress = display, False
        return self

    def stop(self) -> None:
        """Ask the loop to save and raise `TrainingStopped` after the current step; other threads may call it."""
        self._stopping = True

    def __iter__(self) -> Iterator[dict[str, float]]:
        self._stopping = False
        forward = self.world.wrap(self.model)
        forward = compiled(forward) if self.experiment.compile else forward
        with self._working():
            if self.world.main:
                self.run.write_experiment(self.experiment, anew=self.restart and not self.rows)
        with self.monitors.watching(self):
            with self._working():
                if not self.rows:
                    self._finish_epoch(0)  # measures the untrained network
                elif self.world.main and (len(self) or not self.run.finished):
                    self._write()  # a killed run may not have written these files
                elif self.world.main:
                    self.run.write_history(self.rows)  # somebody may have damaged it
            for epoch in range(self.state.done + 1, self.experiment.epochs + 1):
                with self._working():
                    self._train(epoch, forward)
                    self._finish_epoch(epoch)
                yield self.rows[-1]
            with self._working():
                if not self.world.from_main(self.run.finished and self.run.best.exists()):
                    self._finish()

    # the loop

    def _train(self, epoch: int, forward: nn.Module) -> None:
        """Train one epoch, or the rest of an interrupted one. `forward` is the model, perhaps compiled or wrapped.

        Its metrics are those of augmented crops, in train mode, while the weights still change.
        """
        if self.state.partial is None:
            self.state.partial = Partial.empty(self.train_data, self.device)
        partial = self.state.partial  # steps, loss and confusion matrix of this epoch so far
        self.loader.sampler.set_epoch(epoch, first_step=partial.step)
        self.model.train()
        begun = time.perf_counter() - partial.seconds
        with StopSignal() as signal:
            for batch in self.loader:
                self._seed(epoch, partial.step)
                images, labels = prepare(batch, self.experiment, self.device)
                with autocast(self.device, self.dtype):
                    outputs = forward(images)
                loss = self.loss(outputs, labels)  # sums over pixels, and the predicted classes
                objective = self.world.scaled(loss).objective  # the mean over the batch of all processes
                self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(objective).backward()  # scales in float16 only, where small gradients would vanish
                self.scaler.unscale_(self.optimizer)
                gradient = clip_grad_norm_(self.model.parameters(), self.experiment.clip_gradient or math.inf)
                self.scaler.step(self.optimizer)  # skipped, and the scale lowered, if a gradient left float16's range
                self.scaler.update()
                self.schedule.step()

                partial.matrix.update(loss.prediction, labels)
                partial.total = partial.total.plus(loss)
                partial.gradient = torch.fmax(partial.gradient, gradient.where(gradient.isfinite(), 0))
                partial.step += 1
                partial.seconds = time.perf_counter() - begun
                self._look_at(loss, batch.indices)
                self._save_or_stop(signal)
            self._refuse_bad_losses()
            partial.seconds = time.perf_counter() - begun

    def _seed(self, *position: int) -> None:
        """Seed everything random that follows, such as dropout, from seed, position and process alone."""
        state = np.random.SeedSequence((self.experiment.seed, *position, self.world.rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))

    def _look_at(self, loss: LossSum, images: list[int]) -> None:
        """Notify the monitors and check losses for NaN: at once on a CPU, every few steps on a GPU."""
        own = LossSum(loss.total.detach(), loss.weight)
        self._unseen.append((own.mean, self.state.step, images))
        if self.device.type == "cpu" or len(self._unseen) == UNSEEN:
            self._refuse_bad_losses()
        self.monitors.tell("step", self, own)

    def _save_or_stop(self, signal: StopSignal) -> None:
        """Write a checkpoint if one is due, and stop if that was requested."""
        number, unit = self.experiment.checkpoint_interval() or (math.inf, "s")
        passed = self.state.step - self._saved_step if unit == "steps" else time.perf_counter() - self._saved_at
        stopping = self._stopping or signal.number is not None
        stop, due = self.world.agree(stopping, self.world.main and passed >= number)
        if stop or due:
            self._refuse_bad_losses()
            self._save()
        if stop:
            signal.stop(
                f"stopped in epoch {self.state.done + 1} of {self.experiment.epochs} after step {self.state.step} of "
                f"{len(self.loader)}; saved in {self.run.last}: the same call, or command"
                f"{', without restart,' if self._restarted else ''} resumes from there"
            )

    def _refuse_bad_losses(self) -> None:
        """Raise FloatingPointError for the first step whose loss is not finite."""
        unseen, self._unseen = self._unseen, []
        for loss, step, images in unseen:
            if not math.isfinite(loss):
                files = "\n  ".join(str(self.train_data.files[index][0]) for index in images[:8])
                raise self._not_finite("the loss is", step, f"; its images are\n  {files}")

    def _not_finite(self, what: str, step: int, more: str = "") -> FloatingPointError:
        return FloatingPointError(
            f"{what} not finite in epoch {self.state.done + 1}, step {step} of {len(self.loader)}{more}\n"
            f"{self.run.last} was saved before this and is intact. Look at the images and their labels; if they are "
            "right, train anew (restart=True, or another run_dir) with a learning_rate below "
            f"{self.experiment.learning_rate:g}, or with precision='float32' (now {self.dtype})"
        )

    # between epochs

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Lock the run folder, and turn lack of memory into a clear message. The lock is free while `fit` yields."""
        with self.run.one_writer() if self.world.main else nullcontext(), machine_explained():
            yield

    def _finish_epoch(self, epoch: int) -> None:
        """Validate if that is due, then write checkpoints, history and record."""
        due = epoch % self.experiment.val_every == 0 or epoch == self.experiment.epochs
        if due:
            self._save()  # the validation may take long or run out of memory
        started = time.perf_counter()
        val = self._measure(self.experiment.protocol) if due else None
        val_seconds = time.perf_counter() - started if due else math.nan
        if due and not val["pixels_per_class"].sum():
            raise DataError(
                f"no labelled pixel of '{self.val_data.split}' lies in the crop of the report protocol, the middle of "
                "each image: set protocol=full"
            )
        train, train_seconds, gradient, steps = None, 0.0, math.nan, len(self.loader)
        if epoch:
            gradient = float(self.state.partial.gradient)
            loss, matrix = self.world.sum(self.state.partial.total, self.state.partial.matrix)
            train, train_seconds = {"loss": float(loss.mean), **matrix.compute()}, self.state.partial.seconds
            if not train["pixels_per_class"].sum():
                warnings.warn(
                    f"nothing was learned in epoch {epoch}, as no crop held a labelled pixel: set a crop_size above "
                    f"{self.experiment.crop_size}, or a smaller base_size",
                    stacklevel=2,
                )
        factor = poly(max(0, epoch * steps - 1), self.experiment.epochs * steps, self.experiment.power)
        rate = self.experiment.learning_rate * factor
        others = {"learning_rate": rate, "gradient_norm": gradient, "train_seconds": train_seconds}
        self.state.finish_epoch(history_row(epoch, train, val, **others, val_seconds=val_seconds))
        self._save()
        if self.world.main:
            self._write()
        self.monitors.tell("epoch", self)

    def _measure(self, protocol: str) -> dict[str, Any]:
        self.world.spread(self.model)
        self.monitors.tell("phase", self, f"validation, {protocol} protocol")
        world, data = self.world, self.val_data
        counted = count(self.model, self.experiment, data, protocol, self.loss, self.progress, world.rank, world.size)
        self.monitors.tell("phase", self, "")
        measured = results(protocol, len(data), *world.sum(*counted))
        warn_of_unmeasured(measured["pixels_per_class"], data, protocol)
        return measured

    def _finish(self) -> None:
        """Measure the best model by both protocols and close the record."""
        if self.world.main:
            self._load_best()
        measured = {protocol: self._measure(protocol) for protocol in ("report", "full")}
        if self.world.main:
            alone = load_model(self.run.best, self.device)[0].to(memory_format=memory_format(self.experiment))
            health = normalization_gap(alone, self.experiment, self.train_data, self.progress)
            self.run.write_record({**self._record(), "finished": True, "validation": measured, "health": health})

    # what is saved

    def _save(self) -> None:
        """Write last.pt; all processes take part, because each knows only its own share of the sums."""
        self._saved_at, self._saved_step = time.perf_counter(), self.state.step
        state = self.state.save(self.world)
        if not self.world.main:
            return
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in values]).all():
            raise self._not_finite("all losses were finite, but some weights are", self.state.step)
        machinery = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        self.run.save_last({**self._checkpoint(), **machinery, **state})

    def _write(self) -> None:
        """Write history and record; between epochs also best.pt and the kept checkpoint, when due."""
        epoch, checkpoint = self.state.done, self._checkpoint()
        if self.state.partial is None and epoch == self.state.best["epoch"]:
            self.run.save(self.run.best, checkpoint)
        if self.state.partial is None and epoch and epoch % self.experiment.keep_every == 0:
            self.run.save(self.run.kept(epoch), checkpoint)
        self.run.write_history(self.rows)
        self.run.write_record(self._record())

    def _checkpoint(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment.to_dict(),
            "class_names": list(self.train_data.class_names),
            "palette": self.train_data.palette.tolist(),
            "label_values": list(self.train_data.label_values),  # as in the files of masks
            "images": self.images,
            "class_weights": None if self.loss.class_weights is None else self.loss.class_weights.tolist(),
            "epoch": self.state.done,
            "scores": self.state.scores(self.experiment.protocol),
            "model": self.model.state_dict(),
        }

    def _record(self) -> dict[str, Any]:
        return build_record(self.experiment, self.state, self.train_data, self.val_data, self.model)

    # starting and resuming

    def _saved(self, extend: bool) -> dict[str, Any] | None:
        """Return the folder's last checkpoint if the run resumes from it."""
        refuse_other_folder(self.run.path)
        saved = None if self.restart else self.run.load_last()
        if saved:
            saved = continued(self.run, self.experiment, saved, extend)
            self.restart = saved is None
        elif not self.restart:
            refuse_foreign(self.run)
        return saved

    def _build_model(self, begins: bool) -> nn.Module:
        """Build the network; where a run begins, with the weights of a backbone or of another run that it asks for."""
        torch.manual_seed(self.experiment.seed)
        name, arguments = self.experiment.model, self.experiment.model_arguments
        source = self.experiment.initial_weights if begins else None
        pretrained = begins and source is None and self.world.main
        model = build_model(name, self.train_data.num_classes, arguments, pretrained=pretrained)
        if source is not None:
            model.weights = take_over(model, find_run_dir(source), self.experiment, self.train_data.class_names)
            if self.world.main:
                rest = ", ".join(model.weights["not_taken_over"]) or "none"
                write_line(f"begins with the weights of {model.weights['file']}; tensors not taken over: {rest}")
        check_batch(self.experiment, model, self.world.size)
        model = model.to(self.device, memory_format=memory_format(self.experiment))
        return self.world.synchronized(model, self.device) if self.experiment.sync_batch_norm else model

    def _restore(self, saved: dict[str, Any]) -> None:
        load_weights(self.model, saved["model"], self.run.last)
        self.optimizer.load_state_dict(for_this_machine(saved["optimizer"], self.optimizer))
        if saved["scaler"]:  # empty where the run did not need float16 so far
            self.scaler.load_state_dict(saved["scaler"])
        self.state.restore(saved, self.world, Partial.empty(self.train_data, self.device))
        if self.world.main:
            place = self.state.place(self.experiment.epochs, len(self.loader))
            write_line(f"{self.run.path} {place}; restart=True (--restart) would start over")

    def _load_best(self) -> None:
        """Load the best epoch's weights; if best.pt is damaged, use the last epoch instead."""
        try:
            best = load_checkpoint(self.run.best)
        except RunError as error:
            warnings.warn(f"{error}; the last epoch takes its place", stacklevel=2)
            self.state.best = {"epoch": self.state.done, "mean_iou": self.rows[-1]["val_mean_iou"]}
            self.run.save(self.run.best, self._checkpoint())
        else:
            load_weights(self.model, best["model"], self.run.best)
