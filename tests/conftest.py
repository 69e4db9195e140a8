"""Settings of the whole suite."""

import os

import matplotlib
import pytest
import torch
from layouts import write_voc

from nnti.experiment import Experiment

matplotlib.use("Agg")
torch.set_num_threads(1)  # the networks here are tiny: threads would wait for each other longer than they compute


def pytest_collection_modifyitems(items):
    """Let workers share the tests file by file; whole notebooks, which take longest, come first and one by one."""
    alone = {item: item.name.startswith("test_notebook_runs") for item in items}
    items.sort(key=lambda item: not alone[item])
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.name if alone[item] else item.path.stem))


@pytest.fixture(scope="session", autouse=True)
def _decoded_copies_in_a_folder_of_their_own(tmp_path_factory):
    """Data sets that tests make are not worth keeping in the project's cache."""
    os.environ["NNTI_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Three epochs of five steps with a small R2U-Net: five training and two validation images in VOC's layout."""
    write_voc(tmp_path / "data")
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    return Experiment(
        name="tiny", model="r2unet", model_arguments={"widths": [4, 6]}, train_split="trainval", batch_size=1, epochs=3,
        val_every=1, base_size=64, crop_size=32, val_size=32, precision="float32", device="cpu", cache="none",
        checkpoint_every=None, num_workers=0,
    )  # fmt: skip
