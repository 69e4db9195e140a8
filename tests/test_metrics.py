"""The metrics against torchmetrics, and where those have no opinion."""

import math

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as torchmetrics

from nnti.metrics import METRICS, ConfusionMatrix, add_without_waiting, scores


def random_pair(num_classes: int, void=0.1, seed=0):
    shape, random = (4, 33, 41), torch.Generator().manual_seed(seed)
    label, guess = (torch.randint(0, num_classes, shape, generator=random) for _ in range(2))
    prediction = torch.where(torch.rand(shape, generator=random) < 0.6, label, guess)
    label[torch.rand(shape, generator=random) < void] = 255
    return prediction, label


def computed(prediction, label, num_classes):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, label)
    return matrix.compute()


@pytest.mark.parametrize("num_classes", [2, 3, 21])
def test_equals_torchmetrics(num_classes):
    pair = random_pair(num_classes, seed=num_classes)
    ours, options = computed(*pair, num_classes), {"num_classes": num_classes, "ignore_index": 255}
    for mean, each, function in (
        ("mean_iou", "iou_per_class", torchmetrics.multiclass_jaccard_index),
        ("dice", "dice_per_class", torchmetrics.multiclass_f1_score),
        ("f1", "dice_per_class", torchmetrics.multiclass_f1_score),
        ("sensitivity", "sensitivity_per_class", torchmetrics.multiclass_recall),
        ("mean_pixel_accuracy", "sensitivity_per_class", torchmetrics.multiclass_accuracy),
    ):
        assert ours[mean] == pytest.approx(float(function(*pair, average="macro", **options)), abs=1e-6)
        assert np.allclose(ours[each], function(*pair, average="none", **options))
    micro = torchmetrics.multiclass_accuracy(*pair, average="micro", **options)
    assert ours["pixel_accuracy"] == pytest.approx(float(micro), abs=1e-6)
    counts = torchmetrics.multiclass_confusion_matrix(*pair, **options).numpy()  # truth in rows
    assert {name: np.asarray(value).tolist() for name, value in scores(counts).items()} == {
        name: np.asarray(value).tolist() for name, value in ours.items()
    }


def test_accumulates_then_divides_and_goes_on_elsewhere():
    """Two batches of different content give the score of both together, not the mean of two scores."""
    prediction, label = random_pair(4)
    first, second = ConfusionMatrix(4), ConfusionMatrix(4)
    first.update(prediction[:1], label[:1])
    second.restore(first.counts())
    second.update(prediction[1:], label[1:])
    together = computed(prediction, label, 4)
    assert all(np.array_equal(second.compute()[name], together[name]) for name in together)
    halves = [computed(prediction[part], label[part], 4)["mean_iou"] for part in (slice(0, 1), slice(1, 4))]
    assert second.compute()["mean_iou"] != pytest.approx(np.mean(halves), abs=1e-9)
    assert first.matrix().sum() < second.matrix().sum()  # the copy went on, not the original


def test_a_class_absent_from_both_stays_out_of_the_mean():
    ours = computed(torch.tensor([[0, 0, 1, 0]]), torch.tensor([[0, 0, 1, 1]]), 5)
    assert np.isnan(ours["iou_per_class"][2:]).all()
    assert ours["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert ours["mean_pixel_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_class_only_predicted_counts_as_zero_iou_but_has_no_sensitivity():
    ours = computed(torch.tensor([0, 2]), torch.tensor([0, 0]), 3)
    assert ours["iou_per_class"][2] == 0 and ours["dice_per_class"][2] == 0
    assert math.isnan(ours["sensitivity_per_class"][2])
    assert ours["mean_iou"] == pytest.approx((1 / 2 + 0) / 2)
    assert ours["sensitivity"] == pytest.approx(1 / 2)


def test_nothing_counted_is_nan_not_zero():
    for ours in (ConfusionMatrix(4).compute(), computed(torch.zeros(2, 3).long(), torch.full((2, 3), 255), 4)):
        assert all(math.isnan(ours[name]) for name in METRICS)
        assert ours["pixels_per_class"].sum() == 0


@pytest.mark.parametrize(("prediction", "label"), [(0, 5), (0, 200), (0, -1), (5, 0)])
def test_numbers_that_are_no_class_are_refused(prediction, label):
    with pytest.raises(ValueError, match=r"1 pixels .* 0 … 4 nor ignore_index 255"):
        ConfusionMatrix(5).update(torch.tensor([1, prediction]), torch.tensor([255, label]))


def test_logits_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"argmax\(1\)"):
        ConfusionMatrix(3).update(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


def test_counting_without_waiting_counts_the_same():
    """What GPUs do, here on the CPU."""
    cell = torch.randint(0, 38, (5000,), generator=torch.Generator().manual_seed(0))
    counts = torch.arange(38)
    add_without_waiting(counts, cell)
    assert torch.equal(counts, torch.arange(38) + torch.bincount(cell, minlength=38))


@pytest.mark.parametrize("change", [lambda x: x.to(torch.uint8), lambda x: x.int(), lambda x: x.byte().numpy()])
def test_every_integer_type_counts_the_same(change):
    prediction, label = random_pair(21)
    assert computed(change(prediction), change(label), 21)["mean_iou"] == computed(prediction, label, 21)["mean_iou"]
