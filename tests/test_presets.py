"""Which experiment a notebook gets, by what data and hardware are here."""

import pytest
import torch
from layouts import write_sbd, write_voc

from nnti.errors import SettingError
from nnti.experiment import Experiment, adjust
from nnti.notebook.colab import choose


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A machine without data and without a GPU; `here(gpu=True)` gives it one."""
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)

    def machine(gpu: bool):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        return tmp_path

    return machine


@pytest.mark.parametrize("gpu", [False, True])
def test_without_data_the_miniature_with_the_reason(here, gpu):
    here(gpu)
    experiment, reason = choose("enet_voc")
    assert experiment.name == "enet_voc_miniature"
    assert "was not found" in reason
    assert "python -m nnti data voc" in reason
    assert reason.startswith("This runs on the rendered miniature")


def test_with_data_on_a_cpu_the_short_one_which_needs_no_sbd(here):
    write_voc(here(gpu=False))
    assert choose("enet_voc")[0].name == "enet_voc_short"
    assert choose("enet_voc_plain")[0].name == "enet_voc_plain_short"


def test_with_data_and_a_gpu_the_report(here):
    folder = here(gpu=True)
    write_voc(folder)
    experiment, reason = choose("enet_voc")
    assert experiment.name == "enet_voc_miniature"
    assert "python -m nnti data sbd" in reason  # the report trains on train_aug, which needs SBD
    write_sbd(folder / "sbd")
    assert choose("enet_voc")[0].name == "enet_voc"


def test_a_named_preset_is_taken_as_it_is(here):
    here(gpu=False)
    for preset, name in (("report", "enet_voc"), ("short", "enet_voc_short"), ("miniature", "enet_voc_miniature")):
        assert choose("enet_voc", preset)[0].name == name
    with pytest.raises(SettingError, match="preset='fast'.*miniature"):
        choose("enet_voc", "fast")


def test_the_two_experiments_of_task_1_differ_alike_in_every_preset(here):
    here(gpu=False)
    for preset in ("report", "short", "miniature"):
        changed = choose("enet_voc", preset)[0].differences(choose("enet_voc_plain", preset)[0])
        assert set(changed) <= {"name", "augment", "crop_size"}
        assert changed["augment"] == (True, False)


def test_an_adjusted_experiment_is_a_run_of_its_own():
    experiment = Experiment(name="base", epochs=5)
    assert adjust(experiment, epochs=None, seed=None, device=None) == experiment
    changed = adjust(experiment, epochs=3, seed=1, device="cpu")
    assert (changed.name, changed.epochs, changed.seed, changed.device) == ("base_epochs3_seed1", 3, 1, "cpu")
    with pytest.raises(SettingError, match="epoch"):
        adjust(experiment, epoch=3)
