"""Settings of the whole suite, folders of a test's own, and the small training that many tests share."""

import multiprocessing
import os
from pathlib import Path

import matplotlib
import pytest
import torch
from layouts import write_voc

from nnti.experiment import Experiment
from nnti.models.saved import load_checkpoint
from nnti.training.loop import Fit, fit

TOP = Path(__file__).resolve().parent.parent
# a server process that has imported everything: each training is a copy of it
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nnti.training.loop", "nnti.__main__", "pytest", "scipy.io"])

matplotlib.use("Agg")
torch.set_num_threads(1)  # the networks here are tiny: threads would wait for each other longer than they compute


def pytest_collection_modifyitems(items):
    """Let workers share the tests file by file; whole notebooks, which take longest, come first and one by one."""
    alone = {item: item.name.startswith("test_notebook_runs") for item in items}
    items.sort(key=lambda item: not alone[item])
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.name if alone[item] else item.path.stem))


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory):
    """Processes that tests start find this checkout; copies of tests' data sets stay out of the project's cache."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["NNTI_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """The working directory: an empty folder that data, runs, figures and decoded copies belong into."""
    for name in ("data", "runs", "figures", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(places) -> Experiment:
    """Three epochs of five steps with a small R2U-Net: five training and two validation images in VOC's layout."""
    write_voc(places / "data")
    return Experiment(
        name="tiny", model="r2unet", model_arguments={"widths": [4, 6]}, train_split="trainval", batch_size=1, epochs=3,
        val_every=1, base_size=64, crop_size=32, val_size=32, precision="float32", device="cpu", cache="none",
        checkpoint_every=None, num_workers=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def whole(tiny, module_folder) -> Fit:
    """`tiny` trained without a break, once for all tests of a file: a finished run is not trained again."""
    return train(tiny, module_folder)


def train(experiment: Experiment, folder: Path | None = None, **options) -> Fit:
    """Train to the end."""
    run = fit(experiment, folder, progress=False, **options)
    list(run)
    return run


def same_weights(one: Fit, other: Fit) -> bool:
    """Whether two runs have arrived at the same bits."""
    a, b = (load_checkpoint(run.run.last)["model"] for run in (one, other))
    return all(torch.equal(value, b[name]) for name, value in a.items())


def timeless(value):
    """Leave out what was measured with a clock."""
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if "second" not in key}
    return value


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
