"""The benchmarks' own machinery, and that pages show what was measured. Speed itself is not tested."""

import importlib

import pytest

from benchmarks import page, quality
from benchmarks.pictures import write_cityscapes_like
from benchmarks.results import Curve, Goal, Result, Table, load, save
from benchmarks.run import BENCHMARKS
from nnti.data import Cityscapes
from nnti.folders import home
from nnti.inference.speed import compare

MACHINES = sorted(path.parent / path.stem for path in (home() / "benchmarks" / "results").glob("*.md"))
RESULT = Result(
    "step",
    "Training step",
    tables=[Table("Rows", [{"variant": "a | b", "ms": 1.5}, {"variant": "c", "more": 2}], "A note.")],
    goals=[
        Goal("fast", 2.0, 3.0),
        Goal("faster", 5.0, 3.0, limit="the disk"),
        Goal("small", 8.0, 7.0, "GB", at_most=True),
        Goal("on a GPU", 2.0, None),
    ],
    curves=[Curve("Growth", "images", "images/s", {"read": [[1, 2, 4], [9, 9, 8]]}, log_x=True)],
    machine={"device": "a processor", "cores": 2, "versions": {"torch": "2"}, "commit": "0123456789abcdef"},
)


def test_variants_take_turns_for_three_rounds_at_least():
    called = []
    variants = {name: lambda name=name: called.append(name) for name in "ab"}
    timings = compare(variants, blocks=50, block_seconds=0, limit=0)
    assert "".join(called) == "ab" + "ab" * 3
    assert all(timing.blocks == 3 and 0 < timing.low <= timing.median <= timing.high for timing in timings.values())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_imported(name):
    if name == "pipeline":
        pytest.importorskip("albumentations")
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_the_page_shows_every_row_and_names_missed_goals(tmp_path):
    save(RESULT, tmp_path / "box" / "step.json")
    assert load(tmp_path / "box" / "step.json") == RESULT
    text = page.write(tmp_path / "box").read_text()
    assert "| a \\| b | 1.5 |  |" in text and "| c |  | 2 |" in text and "A note." in text
    assert "| step | fast | ≥ 2 × | 3 × | yes |  |" in text
    assert "| step | faster | ≥ 5 × | 3 × | no | the disk |" in text
    assert "| step | small | ≤ 8 GB | 7 GB | yes |  |" in text
    assert "| step | on a GPU | ≥ 2 × | not measured | not measured |  |" in text
    assert (tmp_path / "box.png").stat().st_size > 5000 and "](box.png)" in text


def test_pictures_have_the_originals_size_and_layout(tmp_path):
    dataset = Cityscapes("train", write_cityscapes_like(tmp_path, 1))
    image, label = dataset[0]
    assert image.shape == (3, 1024, 2048) and label.shape == (1024, 2048) and len(label.unique()) > 5
    assert 2e6 < dataset.files[0][0].stat().st_size < 3e6  # as the PNGs of Cityscapes


def test_committed_pages_are_what_their_results_and_records_say(tmp_path):
    assert MACHINES
    for folder in MACHINES:
        for path in folder.glob("*.json"):
            save(load(path), tmp_path / folder.name / path.name)
        assert page.write(tmp_path / folder.name).read_text() == folder.with_suffix(".md").read_text()
    table, goal = quality.quality()
    assert {row["seed"] for row in table.rows} == {0, 1, 2} and goal.reached > 0
