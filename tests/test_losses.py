"""The loss takes a batch part by part, and network outputs of any size, to the values and gradients of the whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nnti.loss import CrossEntropy
from nnti.models.blocks import Outputs, full_size_parts, grow, most_likely

WEIGHTS = np.array([1.0, 0.5, 2.0, 1.5, 3.0])


@pytest.fixture
def label() -> torch.Tensor:
    label = torch.randint(0, 5, (3, 24, 40), generator=torch.Generator().manual_seed(0))
    label[:, :5] = 255
    label[1] = 255  # a whole image
    return label


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("size", [(24, 40), (3, 5)])
def test_value_and_gradient_are_those_of_the_whole_batch(label, class_weights, size):
    small, whole = (logits(3, 5, *size).requires_grad_() for _ in range(2))
    loss = CrossEntropy(class_weights)(small, label)
    loss.mean.backward()
    tensor = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
    grown = F.interpolate(whole, (24, 40), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(grown, label, tensor, ignore_index=255)
    expected.backward()
    assert loss.mean.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(small.grad, whole.grad, rtol=1e-4, atol=1e-8)
    assert torch.equal(loss.prediction.long(), grown.argmax(1))


def test_an_auxiliary_head_of_another_size_adds_its_share(label):
    main, second = logits(3, 5, 24, 40), logits(3, 5, 6, 10, seed=1).requires_grad_()
    loss = CrossEntropy(auxiliary_weight=0.4)(Outputs(main, second), label)
    share = F.cross_entropy(grow(second, (24, 40)), label, ignore_index=255)
    assert (loss.objective - loss.mean).item() == pytest.approx(0.4 * share.item(), rel=1e-5)
    loss.objective.backward()
    assert second.grad.any()


def test_half_precision_logits_are_summed_in_float32(label):
    halves = logits(3, 5, 24, 40).bfloat16().contiguous(memory_format=torch.channels_last)
    expected = F.cross_entropy(halves.float(), label, ignore_index=255)
    loss = CrossEntropy()(halves.requires_grad_(), label)
    assert loss.mean.dtype == torch.float32
    assert loss.mean.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.mean.backward()
    assert halves.grad.dtype == torch.bfloat16


def test_parts_are_the_batch_in_order(label):
    parts = list(full_size_parts(logits(3, 5, 24, 40), label))
    assert len(parts) == 3  # a CPU takes one image at a time
    assert torch.equal(torch.cat([part for part, _ in parts]), logits(3, 5, 24, 40))
    assert torch.equal(torch.cat([truth for _, truth in parts]), label)


def test_the_most_likely_class_is_argmax_and_the_first_of_equals():
    values = logits(2, 256, 7, 9)
    assert torch.equal(most_likely(values).long(), values.argmax(1))
    ties = values.round()
    first = (ties == ties.amax(1, keepdim=True)).byte().argmax(1)
    assert torch.equal(most_likely(ties).long(), first)
    assert most_likely(torch.full((1, 4, 2, 2), -torch.inf)).eq(0).all()


def test_logits_that_are_not_numbers_still_give_a_class():
    """So that a loss which became NaN is reported as that, and not as a class out of range."""
    assert most_likely(torch.full((1, 4, 2, 2), torch.nan)).max() < 4
