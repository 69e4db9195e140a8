"""One training step, as it is measured: it trains, begins where an earlier step ended, and spares frozen weights."""

import copy

import torch
from torch import nn

from nnti.models.cost import measure_training_memory, sgd, training_step

CPU = torch.device("cpu")


def test_a_step_begins_with_gradients_and_momentum_and_trains():
    model = nn.Conv2d(3, 2, 3, padding=1).train()
    made = []

    def remembered(model):
        made.append(sgd(model))
        return made[-1]

    before = copy.deepcopy(model.state_dict())
    step = training_step(model, (8, 8), 2, CPU, torch.float32, remembered)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all("momentum_buffer" in made[0].state[parameter] for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # nothing learned yet
    step()
    assert not torch.equal(model.bias, before["bias"])


def test_frozen_weights_have_neither_gradient_nor_momentum():
    model = nn.Sequential(nn.Conv2d(3, 400, 15, padding=7), nn.Conv2d(400, 2, 1))
    weights = 4 * sum(parameter.numel() for parameter in model[0].parameters())

    def peak():
        return measure_training_memory(model, (1, 1), 1, "cpu", precision="float32").peak

    whole = peak()
    model[0].requires_grad_(False)
    assert whole - peak() > 1.9 * weights


def test_memory_grows_with_batch_and_crop():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Conv2d(8, 2, 1))

    def peak(side, batch):
        return measure_training_memory(model, (side, side), batch, "cpu", precision="float32").peak

    assert 1.9 < peak(32, 4) / peak(32, 2) < 2.1 and 3.8 < peak(64, 2) / peak(32, 2) < 4.1


def test_the_tensors_of_a_model_may_be_anywhere():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))
    model[0].requires_grad_(False)
    nowhere = copy.deepcopy(model).to("meta")
    measured = [
        measure_training_memory(module, (32, 32), 2, device, precision="float32").peak
        for module, device in ((model, "cpu"), (model, "meta"), (nowhere, "meta"), (nowhere, "cpu"))
    ]
    assert len(set(measured)) == 1
