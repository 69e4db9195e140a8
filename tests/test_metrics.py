"""The metrics against scikit-learn and torchmetrics, and where those have no opinion."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as reference

from nnti.metrics import METRICS, ConfusionMatrix, _add_without_waiting, scores


def random_pair(num_classes: int, shape=(4, 33, 41), void=0.1, seed=0):
    random = torch.Generator().manual_seed(seed)
    label = torch.randint(0, num_classes, shape, generator=random)
    guess = torch.randint(0, num_classes, shape, generator=random)
    prediction = torch.where(torch.rand(shape, generator=random) < 0.6, label, guess)
    label[torch.rand(shape, generator=random) < void] = 255
    return prediction, label


def computed(prediction, label, num_classes):
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, label)
    return matrix.compute()


@pytest.mark.parametrize("num_classes", [2, 11, 21])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(num_classes, seed):
    prediction, label = random_pair(num_classes, seed=seed)
    ours = computed(prediction, label, num_classes)
    truth, guess = label[label != 255].numpy(), prediction[label != 255].numpy()
    classes = range(num_classes)
    assert np.allclose(ours["iou_per_class"], sklearn.metrics.jaccard_score(truth, guess, labels=classes, average=None))
    assert np.allclose(ours["dice_per_class"], sklearn.metrics.f1_score(truth, guess, labels=classes, average=None))
    assert np.allclose(
        ours["sensitivity_per_class"], sklearn.metrics.recall_score(truth, guess, labels=classes, average=None)
    )
    assert ours["pixel_accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, guess))
    assert ours["mean_pixel_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, guess))
    assert ours["mean_iou"] == pytest.approx(
        sklearn.metrics.jaccard_score(truth, guess, labels=classes, average="macro")
    )


@pytest.mark.parametrize("num_classes", [3, 19])
def test_equals_torchmetrics(num_classes):
    prediction, label = random_pair(num_classes)
    ours = computed(prediction, label, num_classes)
    options = {"num_classes": num_classes, "ignore_index": 255}
    macro = {**options, "average": "macro"}
    assert ours["mean_iou"] == pytest.approx(
        float(reference.multiclass_jaccard_index(prediction, label, **macro)), abs=1e-6
    )
    assert ours["f1"] == pytest.approx(float(reference.multiclass_f1_score(prediction, label, **macro)), abs=1e-6)
    assert ours["sensitivity"] == pytest.approx(
        float(reference.multiclass_recall(prediction, label, **macro)), abs=1e-6
    )
    micro = float(reference.multiclass_accuracy(prediction, label, average="micro", **options))
    assert ours["pixel_accuracy"] == pytest.approx(micro, abs=1e-6)


def test_matrix_equals_scikit_learn_with_truth_in_rows():
    prediction, label = random_pair(5)
    matrix = ConfusionMatrix(5)
    matrix.update(prediction, label)
    valid = label != 255
    expected = sklearn.metrics.confusion_matrix(label[valid].numpy(), prediction[valid].numpy(), labels=range(5))
    assert np.array_equal(matrix.matrix(), expected)


def test_accumulates_then_divides():
    """Two batches of different content give the score of both together, not the mean of two scores."""
    whole = random_pair(4, seed=1)
    matrix = ConfusionMatrix(4)
    for part in (slice(0, 1), slice(1, 4)):
        matrix.update(whole[0][part], whole[1][part])
    together = computed(*whole, 4)
    assert all(np.array_equal(matrix.compute()[name], together[name]) for name in together)
    halves = [computed(whole[0][part], whole[1][part], 4)["mean_iou"] for part in (slice(0, 1), slice(1, 4))]
    assert matrix.compute()["mean_iou"] != pytest.approx(np.mean(halves), abs=1e-9)


def test_dice_is_f1_and_mean_pixel_accuracy_is_sensitivity():
    ours = computed(*random_pair(7), 7)
    assert ours["dice"] == ours["f1"]
    assert ours["mean_pixel_accuracy"] == ours["sensitivity"]
    assert np.allclose(ours["dice_per_class"], 2 * ours["iou_per_class"] / (1 + ours["iou_per_class"]))
    assert set(METRICS) <= set(ours)


def test_a_class_absent_from_both_stays_out_of_the_mean():
    label = torch.tensor([[0, 0, 1, 1]])
    prediction = torch.tensor([[0, 0, 1, 0]])
    ours = computed(prediction, label, 5)
    assert np.isnan(ours["iou_per_class"][2:]).all()
    assert ours["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert ours["mean_pixel_accuracy"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_class_only_predicted_counts_as_zero_iou_but_has_no_sensitivity():
    ours = computed(torch.tensor([0, 2]), torch.tensor([0, 0]), 3)
    assert ours["iou_per_class"][2] == 0 and ours["dice_per_class"][2] == 0
    assert math.isnan(ours["sensitivity_per_class"][2])
    assert ours["mean_iou"] == pytest.approx((1 / 2 + 0) / 2)
    assert ours["sensitivity"] == pytest.approx(1 / 2)


def test_all_void_is_nan_not_zero():
    ours = computed(torch.zeros(2, 3, dtype=torch.long), torch.full((2, 3), 255), 4)
    assert all(math.isnan(ours[name]) for name in METRICS)
    assert ours["pixels_per_class"].sum() == 0


def test_one_class_all_right_is_one():
    ours = computed(torch.zeros(8, dtype=torch.long), torch.zeros(8, dtype=torch.long), 1)
    assert all(ours[name] == 1.0 for name in METRICS)


def test_nothing_counted_yet_is_nan():
    assert math.isnan(ConfusionMatrix(3).compute()["mean_iou"])


@pytest.mark.parametrize("wrong", [5, 200, -1])
def test_invalid_labels_are_refused(wrong):
    label = torch.tensor([[0, 1], [wrong, 255]])
    matrix = ConfusionMatrix(5)
    with pytest.raises(ValueError, match="1 pixels have a label or prediction"):
        matrix.update(torch.zeros(2, 2, dtype=torch.long), label)


def test_invalid_predictions_are_refused():
    with pytest.raises(ValueError, match="neither in 0 … 2"):
        ConfusionMatrix(3).update(torch.tensor([3]), torch.tensor([0]))


def test_logits_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"argmax\(1\)"):
        ConfusionMatrix(3).update(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))


def test_counting_without_waiting_counts_the_same(monkeypatch):
    """The way of other devices, taken on the CPU."""
    prediction, label = random_pair(6)
    expected = ConfusionMatrix(6)
    expected.update(prediction, label)

    def add(self, cell):
        if self._counts is None:
            self._counts = torch.zeros(6 * 6 + 2, dtype=torch.int64)
        _add_without_waiting(self._counts, cell)

    monkeypatch.setattr(ConfusionMatrix, "_add", add)
    matrix = ConfusionMatrix(6)
    matrix.update(prediction[:2], label[:2])
    matrix.update(prediction[2:], label[2:])
    assert np.array_equal(matrix.matrix(), expected.matrix())


def test_uint8_and_int32_inputs_count_the_same():
    prediction, label = random_pair(21)
    expected = computed(prediction, label, 21)["mean_iou"]
    assert computed(prediction.to(torch.uint8), label.to(torch.uint8), 21)["mean_iou"] == expected
    assert computed(prediction.int(), label.int(), 21)["mean_iou"] == expected
    assert computed(prediction.numpy(), label.numpy().astype(np.uint8), 21)["mean_iou"] == expected


def test_scores_leave_the_matrix_alone():
    matrix = np.array([[3, 1], [2, 4]])
    scores(matrix)
    assert np.array_equal(matrix, [[3, 1], [2, 4]])
