"""Time for one image, in every form of a network that can be had."""

import sys

import pytest

from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.figures import complexity_markdown, complexity_notes
from nnti.figures.complexity import complexity_frame, measure_complexity
from nnti.inference import speed as timing
from nnti.inference.speed import FORMS, Latency, measure_latency
from nnti.models import ENet, R2UNet


def test_latency_is_a_median_between_its_quartiles():
    model = ENet(3).train()
    forms = measure_latency(model, (24, 48), "cpu", precision="float32", repeats=5)
    assert list(forms) == ["eager", "deployed"]  # too small an image for exported programs
    found = forms["eager"]
    assert 0 < found.low <= found.median <= found.high
    assert found.frames_per_second == 1 / found.median
    assert (found.repeats, found.size, found.precision) == (5, (24, 48), "float32")
    assert model.training
    assert measure_latency(model, (24, 48), "cpu", limit=0)["deployed"].repeats == 3


@pytest.mark.parametrize("runtime", [True, False])
def test_all_forms_are_timed_in_turns(monkeypatch, runtime):
    def compare(variants, **options):
        order.extend(variants)
        return timing.compare(variants, **options)

    order: list[str] = []
    monkeypatch.setattr("nnti.inference.speed.compare", compare)
    if runtime:
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    forms = measure_latency(R2UNet(3, (4, 8)), (32, 48), "cpu", precision="bfloat16", repeats=3)
    assert list(forms) == order == list(FORMS)[: None if runtime else -1]
    assert {form: found.precision for form, found in forms.items() if form in ("eager", "deployed")} == {
        "eager": "bfloat16",
        "deployed": "bfloat16",
    }
    assert forms["torch.export"].precision == "float32"
    assert all(found.repeats == 3 and found.size == (32, 48) for found in forms.values())


def test_a_network_that_cannot_be_exported_is_timed_without(monkeypatch):
    def failing(model):
        raise RunError("no such operator")

    monkeypatch.setattr("nnti.inference.export.exported_program", failing)
    with pytest.warns(UserWarning, match="not timed: no such operator"):
        assert list(measure_latency(R2UNet(3, (4, 8)), (32, 48), "cpu", repeats=3)) == ["eager", "deployed"]


def test_frames_per_second_of_each_form_have_rows(monkeypatch):
    def measure(model, size, device, **options):
        latencies = zip(FORMS, (0.5, 0.25, 0.2), strict=False)  # the last form cannot be had
        return {form: Latency(seconds, seconds, seconds, 7, size, "abacus", "float32") for form, seconds in latencies}

    monkeypatch.setattr("nnti.inference.speed.measure_latency", measure)
    experiment = Experiment(model="r2unet", model_arguments={"widths": [4, 8]}, dataset="camvid", crop_size=32)
    record = measure_complexity([experiment], (32, 32), device="cpu", progress=False)
    table = complexity_frame(record)
    rows = complexity_markdown(table).splitlines()
    first = rows.index("| frames/s | 2 |")
    assert rows[first : first + 4] == [
        "| frames/s | 2 |",
        "| frames/s, deployed | 4 |",
        "| frames/s, torch.export | 5 |",
        "| frames/s, ONNX Runtime | not measured |",
    ]
    assert "took turns in one run" in complexity_notes(record)
