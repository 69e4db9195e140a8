"""Optimiser and learning rate schedule."""

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from nnti.errors import SettingError
from nnti.experiment import Experiment

FUSED_DEVICES = ("cuda", "mps")  # on a CPU it makes no difference (benchmarks/step.py)


def poly(iteration: int, max_iterations: int, power: float) -> float:
    """Return the learning rate's factor (1 − iteration / max_iterations)^power, the "poly" schedule in closed form."""
    return (1 - iteration / max_iterations) ** power


def poly_schedule(optimizer: torch.optim.Optimizer, experiment: Experiment, steps: int, iteration: int) -> LambdaLR:
    """Return the schedule of an experiment that has `steps` an epoch, as it stands after `iteration` of them.

    `LambdaLR` with the closed form: `PolynomialLR` multiplies the last rate and would be wrong for a run whose number
    of epochs has changed.
    """
    total = experiment.epochs * steps
    return LambdaLR(optimizer, lambda done: poly(min(done, total), total, experiment.power), last_epoch=iteration - 1)


def build_optimizer(experiment: Experiment, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of an experiment; every group remembers its base rate as `initial_lr`.

    A model may offer `parameter_groups()`; its group "backbone" learns at `backbone_factor` times the base rate.
    """
    offered = getattr(model, "parameter_groups", lambda: {"all": list(model.parameters())})()
    factors = {"backbone": experiment.backbone_factor}
    groups = []
    for name, parameters in offered.items():
        rate = experiment.learning_rate * factors.get(name, 1.0)
        groups.append({"params": parameters, "lr": rate, "initial_lr": rate})
    # one kernel updates all parameters where it can; None leaves the choice to PyTorch
    fused = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in model.parameters()) or None
    options = {"lr": experiment.learning_rate, "weight_decay": experiment.weight_decay, "fused": fused}
    if experiment.optimizer == "adam":
        return torch.optim.Adam(groups, betas=(experiment.momentum, 0.999), **options)
    return torch.optim.SGD(groups, momentum=experiment.momentum, **options)


def for_this_machine(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return a saved state with this optimiser's `fused` and `foreach`: they depend on the device, not the run."""
    ways = {name: optimizer.defaults[name] for name in ("fused", "foreach")}
    return {**state, "param_groups": [{**group, **ways} for group in state["param_groups"]]}


def check_batch(experiment: Experiment, model: nn.Module, processes: int = 1) -> None:
    """Raise SettingError for a batch that the network cannot normalise."""
    smallest = getattr(model, "smallest_batch", 1)
    if experiment.batch_size // processes < smallest:
        raise SettingError(
            f"batch_size={experiment.batch_size}: {type(model).__name__} trains on at least {smallest} images at a "
            "time in each process, because it normalises over single values per image; set batch_size to "
            f"{smallest * processes} or more"
        )
