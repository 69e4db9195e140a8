"""Stopping a training on purpose or by accident: signals wait for the step's end, losses that are no numbers do not."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from nnti.experiment import Experiment

__all__ = ["LossWatch", "StopSignal", "TrainingStopped", "all_finite", "not_finite"]


FILES_NAMED = 8  # of a bad batch


class TrainingStopped(KeyboardInterrupt):
    """A training has ended early because somebody asked for it; the message says where it stands and how to go on.

    A notebook shows the message alone, and the cells that were waiting do not run.
    """

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class StopSignal:
    """While open, Ctrl-C, a notebook's interrupt and SIGTERM are remembered; a second one breaks off at once.

    Attribute: `number`, the signal that came, or None.
    """

    def __init__(self):
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # no other thread may
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs want it
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def stop(self, message: str) -> None:
        """Raise what the signal stands for: the exit that SIGTERM asks for, else TrainingStopped with the message."""
        if self.number == signal.SIGTERM:
            print(message, file=sys.stderr)
            raise SystemExit(128 + self.number)
        raise TrainingStopped(message)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self.__exit__()
            os.kill(os.getpid(), number)
        self.number = number


class LossWatch:
    """Looks at the loss of every step as soon as that costs nothing, and names the first that is not finite.

    On CUDA that is some steps later: to look at once would make the host wait for the device in every step.
    """

    def __init__(self):
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None, int, list[int]]] = deque()

    def add(self, loss: Tensor, step: int, images: list[int]) -> tuple[int, list[int]] | None:
        """Take a step's loss, scalar; return the (step, images) of the first bad one that is known of."""
        event = None
        if loss.device.type == "cuda":
            loss, event = loss.detach().to("cpu", non_blocking=True), torch.cuda.current_stream().record_event()
        self._waiting.append((loss, event, step, images))
        return self._bad(wait=False)

    def settle(self) -> tuple[int, list[int]] | None:
        """Wait for all steps taken so far; otherwise as `add`."""
        return self._bad(wait=True)

    def _bad(self, wait: bool) -> tuple[int, list[int]] | None:
        while self._waiting:
            loss, event, step, images = self._waiting[0]
            if event is not None and not wait and not event.query():
                return None
            if event is not None:
                event.synchronize()
            self._waiting.popleft()
            if not torch.isfinite(loss):
                return step, images
        return None


@torch.no_grad()
def all_finite(model: nn.Module) -> bool:
    """Whether all weights and running statistics are numbers."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def not_finite(
    where: str, files: Sequence[Path], last: Path, experiment: Experiment, precision: torch.dtype
) -> FloatingPointError:
    """Return the error for a training that has left the numbers; `files` are those of the batch."""
    named = [str(file) for file in files[:FILES_NAMED]] + ["…"] * (len(files) > FILES_NAMED)
    images = "; its images are\n  " + "\n  ".join(named) if named else ""
    return FloatingPointError(
        f"{where}{images}\n{last} is from before and intact. Look at the images and their labels; if they are right, "
        "train anew (restart=True or another run_dir) with a lower learning_rate (now "
        f"{experiment.learning_rate:g}) or precision='float32' (now '{str(precision).removeprefix('torch.')}')"
    )
