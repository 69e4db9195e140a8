"""The loss takes network outputs of any size, part by part: same value and gradient as written out in one go."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnti.loss import CrossEntropy, enet_class_weights
from nnti.models.blocks import most_likely

WEIGHTS = np.array([1.0, 0.5, 2.0, 1.5, 3.0])


@pytest.fixture
def label() -> torch.Tensor:
    label = torch.randint(0, 5, (3, 24, 40), generator=torch.Generator().manual_seed(0))
    label[:, :5] = 255
    label[1] = 255  # a whole image
    return label


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grow(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, (24, 40), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("size", [(24, 40), (3, 5)])
def test_value_gradient_and_prediction_are_those_of_the_whole_batch(label, class_weights, size):
    small, whole = (logits(3, 5, *size).requires_grad_() for _ in range(2))
    loss = CrossEntropy(class_weights)(small, label)
    loss.mean.backward()
    weight = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
    expected = F.cross_entropy(grow(whole), label, weight, ignore_index=255)
    expected.backward()
    assert loss.mean.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(small.grad, whole.grad, rtol=1e-4, atol=1e-8)
    assert torch.equal(loss.prediction.long(), grow(whole).argmax(1))


def test_bfloat16_logits_are_summed_in_float32(label):
    halves = logits(3, 5, 24, 40).bfloat16().contiguous(memory_format=torch.channels_last)
    expected = F.cross_entropy(halves.float(), label, ignore_index=255)
    loss = CrossEntropy()(halves.requires_grad_(), label)
    assert loss.mean.dtype == torch.float32 and loss.mean.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.mean.backward()
    assert halves.grad.dtype == torch.bfloat16


def test_a_batch_of_void_costs_nothing():
    loss = CrossEntropy(WEIGHTS)(logits(2, 5, 8, 8), torch.full((2, 8, 8), 255))
    assert loss.mean == loss.objective == 0


def test_class_weights_are_those_of_the_enet_paper():
    assert enet_class_weights(np.array([0, 1, 3])) == pytest.approx(1 / np.log(1.02 + np.array([0, 0.25, 0.75])))
    assert enet_class_weights(np.array([0, 5])) == pytest.approx([50.4983, 1.42238], rel=1e-4)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_most_likely_class_is_argmax_and_the_first_of_equals(memory_format):
    ties = logits(2, 256, 7, 9).round().contiguous(memory_format=memory_format)
    first = (ties == ties.amax(1, keepdim=True)).byte().argmax(1)
    assert torch.equal(most_likely(ties).long(), first)
    assert most_likely(torch.full((1, 4, 2, 2), torch.nan)).max() < 4  # so that a loss of NaN is reported as that
