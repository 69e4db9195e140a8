"""Several processes that train one network, each with its share of every batch; started by torchrun.

Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020. The batches are those
of a single process, cut into equal parts, so that a run can go on with another number of processes.

Batches on their way to the device: while one is worked on, the next one is copied.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnti.augment import Batch
from nnti.errors import SettingError
from nnti.loss import LossSum
from nnti.metrics import ConfusionMatrix
from nnti.models.blocks import synchronize_batch_norms

__all__ = ["ALONE", "World", "join", "on_device"]


PATIENCE = timedelta(hours=2)  # one process may decode a whole data set while the others wait


@dataclass(frozen=True)
class World:
    """The processes of a run, as seen by one of them; `ALONE` is a run without company, where nothing is exchanged.

    Attributes:
        rank: this process, 0 … size − 1; 0 alone writes files and shows progress.
        size: number of processes.
        local_rank: the rank among the processes of this machine, which is also the number of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, length: int) -> range:
        """Return this process's part of range(length); the parts of all processes do not overlap."""
        return range(self.rank, length, self.size)

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process."""
        if self.size == 1:
            return flags
        shared = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in shared)

    def from_main(self, value: Any) -> Any:
        """Return the main process's value (plain types and tensors on the CPU) in all of them."""
        if self.size == 1:
            return value
        box = [value if self.main else None]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))

    def gather(self, total: LossSum, matrix: ConfusionMatrix) -> tuple[LossSum, ConfusionMatrix]:
        """Return a loss and a confusion matrix over what all processes have seen (several: on the CPU)."""
        if self.size == 1:
            return total, matrix
        sums = torch.stack([total.total, total.weight]).detach().double().cpu()
        counts = matrix.counts().cpu()
        dist.all_reduce(sums)
        dist.all_reduce(counts)
        whole = ConfusionMatrix(matrix.num_classes, matrix.ignore_index)
        whole.restore(counts)
        return LossSum(*sums.float()), whole

    def scaled(self, loss: LossSum) -> LossSum:
        """Return a loss whose `objective`, averaged over the processes, is the mean over the pixels of the whole batch.

        A share with many void pixels would otherwise count as much as one without.
        """
        if self.size == 1:
            return loss
        weight = loss.weight.detach().clone()
        dist.all_reduce(weight)
        return loss._replace(weight=weight / self.size)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the module to call in training, which averages gradients over all processes. It holds the model."""
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    def synchronized(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model with batch normalisation over the whole batch, as a single process would do it."""
        return model if self.size == 1 else synchronize_batch_norms(model, device)

    def spread(self, model: nn.Module) -> None:
        """Copy the main process's weights and running statistics into the model of every process."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)

    def device(self, device: torch.device) -> torch.device:
        """Return this process's own device of that kind."""
        if self.size == 1 or device.type == "cpu":
            return device
        there = torch.cuda.device_count() if device.type == "cuda" else 0
        if self.local_rank >= there:
            raise SettingError(
                f"device={str(device)!r}: each process needs a GPU of its own, and this machine has {there} for CUDA; "
                f"start as many processes (torchrun --nproc-per-node {there or 1}), or set device to 'cpu'"
            )
        own = torch.device("cuda", self.local_rank)
        torch.cuda.set_device(own)
        return own


ALONE = World()


def join(device: torch.device) -> World:
    """Meet the other processes that torchrun has started, if it has; return the world of this run."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", 0)))
    own = world.device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    return world


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches, in order, on the device.

    On CUDA each is copied on a stream of its own while its predecessor is worked on; the host's memory must be pinned,
    as the loaders' is, or the copy makes it wait. Elsewhere nothing is fetched ahead.
    """
    if device.type == "cuda":
        yield from _copied_ahead(batches, device)
    else:
        yield from (batch.to(device) for batch in batches)


def _copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    copies, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copies):
            copied = batch.to(device), copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = copied
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: Batch, event: torch.cuda.Event) -> Batch:
    """Let the stream of the computation wait for the copy (the host does not), and keep the memory until it has run."""
    stream = torch.cuda.current_stream(batch.images.device)
    stream.wait_event(event)
    for value in vars(batch).values():
        if isinstance(value, Tensor):
            value.record_stream(stream)
    return batch
