"""Several processes that train one network, each with its share of every batch; torchrun starts them.

Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020. The batches are those
of a single process, cut into equal parts, so a run can resume with another number of processes. On GPUs batch
normalisation covers the whole batch; on CPUs each process normalises over its own share.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnti.errors import SettingError
from nnti.loss import LossSum
from nnti.metrics import ConfusionMatrix

PATIENCE = timedelta(hours=2)  # one process may decode a whole data set while the others wait


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them; a single process exchanges nothing.

    Attributes:
        rank: this process, 0 … size − 1; only 0 writes files and shows progress.
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

    @contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """Run the body in the first process of each machine before the others."""
        if self.local_rank:
            self.agree(True)  # waits for all
        yield
        if not self.local_rank:
            self.agree(True)

    def sum(self, total: LossSum, matrix: ConfusionMatrix) -> tuple[LossSum, ConfusionMatrix]:
        """Return loss and confusion matrix over what all processes have seen (on the CPU if there are several)."""
        if self.size == 1:
            return total, matrix
        sums = torch.stack([total.total, total.weight]).detach().double().cpu()
        counts = matrix.counts().cpu()
        dist.all_reduce(sums)
        dist.all_reduce(counts)
        whole = ConfusionMatrix(matrix.num_classes)
        whole.restore(counts)
        return LossSum(*sums.float()), whole

    def scaled(self, loss: LossSum) -> LossSum:
        """Return a loss whose `objective`, averaged over the processes, is the mean over the whole batch's pixels.

        Otherwise a share with many void pixels would count as much as one without.
        """
        if self.size == 1:
            return loss
        weight = loss.weight.detach().clone()
        dist.all_reduce(weight)
        return loss._replace(weight=weight / self.size)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the module to call in training, which averages the gradients over all processes."""
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)

    def synchronized(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model with batch normalisation over the whole batch, where PyTorch has it: on GPUs."""
        if self.size == 1 or device.type != "cuda":
            return model
        from timm.layers import convert_sync_batchnorm  # knows timm's own kinds of batch normalisation

        return convert_sync_batchnorm(model)

    def spread(self, model: nn.Module) -> None:
        """Copy the main process's weights and running statistics to all processes."""
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
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)


def join(device: torch.device) -> World:
    """Connect to the other processes that torchrun has started, if any."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return World()
    world = World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", 0)))
    own = world.device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    return world
