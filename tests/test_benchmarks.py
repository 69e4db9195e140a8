"""The benchmarks' own machinery, and that README and pages show what was measured. Speed itself is not tested."""

from pathlib import Path

import pytest

from benchmarks import page, quality
from benchmarks.pictures import write_cityscapes_like
from benchmarks.results import Curve, Goal, Result, Table, load, save
from nnti.data import Cityscapes
from nnti.folders import home
from nnti.inference.speed import compare

RESULTS = home() / "benchmarks" / "results"
MACHINES = sorted(path.parent / path.stem for path in RESULTS.glob("*.md"))


def result(**changes) -> Result:
    content = {
        "tables": [Table("Rows", [{"variant": "a | b", "ms": 1.5}, {"variant": "c", "more": 2}], "A note.")],
        "goals": [
            Goal("fast", 2.0, 3.0),
            Goal("faster", 5.0, 3.0, limit="the disk"),
            Goal("small", 8.0, 7.0, "GB", at_most=True),
            Goal("on a GPU", 2.0, None),
        ],
        "curves": [Curve("Growth", "images", "images/s", {"read": [[1, 2, 4], [9, 9, 8]]}, log_x=True)],
        "machine": {"device": "a processor", "cores": 2, "versions": {"torch": "2"}, "commit": "0123456789abcdef"},
    }
    return Result("step", "Training step", **{**content, **changes})


def test_variants_take_turns():
    called = []
    variants = {name: lambda name=name: called.append(name) for name in "ab"}
    timings = compare(variants, blocks=3, block_seconds=0, warmup=1)
    assert "".join(called) == "ab" + "ab" * 3
    assert all(timing.blocks == 3 and 0 < timing.low <= timing.median <= timing.high for timing in timings.values())
    assert timings["a"].per_second == 1 / timings["a"].median


def test_three_rounds_are_made_however_long_they_take():
    called = []
    compare({"a": lambda: called.append("a")}, blocks=50, block_seconds=0, limit=0)
    assert len(called) == 1 + 3


def test_results_come_back_from_their_file(tmp_path):
    save(result(), tmp_path / "folder" / "step.json")
    assert load(tmp_path / "folder" / "step.json") == result()


def test_the_page_shows_every_row_and_names_missed_goals(tmp_path):
    save(result(), tmp_path / "box" / "step.json")
    text = page.write(tmp_path / "box").read_text()
    assert "| a \\| b | 1.5 |  |" in text and "| c |  | 2 |" in text and "A note." in text
    assert "| step | fast | ≥ 2 × | 3 × | yes |  |" in text
    assert "| step | faster | ≥ 5 × | 3 × | no | the disk |" in text
    assert "| step | small | ≤ 8 GB | 7 GB | yes |  |" in text
    assert "| step | on a GPU | ≥ 2 × | not measured | not measured |  |" in text
    assert (tmp_path / "box.png").stat().st_size > 5000 and "](box.png)" in text


def test_a_page_without_curves_has_no_figure(tmp_path):
    save(result(curves=[]), tmp_path / "box" / "step.json")
    assert "](box.png)" not in page.write(tmp_path / "box").read_text()
    assert not (tmp_path / "box.png").exists()


def test_pictures_have_the_originals_size_and_layout(tmp_path):
    dataset = Cityscapes("train", write_cityscapes_like(tmp_path, 1))
    image, label = dataset[0]
    assert image.shape == (3, 1024, 2048) and label.shape == (1024, 2048) and len(label.unique()) > 5
    assert 2e6 < dataset.files[0][0].stat().st_size < 3e6  # as the PNGs of Cityscapes


def test_the_quality_table_is_that_of_the_records():
    table, goal = quality.quality()
    assert {row["seed"] for row in table.rows} == {0, 1, 2}
    assert all(0 < row["bfloat16"] < 1 and 0 < row["float32"] < 1 for row in table.rows)
    assert goal.at_most and goal.reached > 0


def test_there_are_results():
    assert MACHINES


@pytest.mark.parametrize("folder", MACHINES, ids=lambda folder: folder.name)
def test_the_page_is_what_its_results_say(folder, tmp_path):
    copy = tmp_path / folder.name
    for path in folder.glob("*.json"):
        save(load(path), copy / path.name)
    assert page.write(copy).read_text() == Path(f"{folder}.md").read_text()


def test_readme_has_the_goals_of_a_results_page():
    readme = (home() / "README.md").read_text()
    assert any(page.goals(page.read(folder)) in readme for folder in MACHINES)
