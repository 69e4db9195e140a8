"""`Experiment`: the report's settings to the letter, and every wrong setting refused with what would be right."""

import json
import typing

import pytest

from nnti.data import DATASETS
from nnti.errors import SettingError
from nnti.experiment import Experiment, parse_setting
from nnti.models import MODELS


def test_the_package_offers_its_names():
    import nnti

    assert nnti.Experiment is Experiment
    assert callable(nnti.fit)
    assert callable(nnti.load_model)
    assert nnti.models.ENet(3).num_classes == 3
    assert nnti.metrics.ConfusionMatrix(3, ignore_index=255).num_classes == 3


def test_enet_voc_is_the_reports_second_experiment():
    e = Experiment.load("enet_voc")
    assert (e.model, e.dataset, e.train_split, e.val_split) == ("enet", "voc", "train_aug", "val")
    assert (e.batch_size, e.base_size, e.crop_size, e.epochs) == (8, 400, 380, 80)
    assert (e.augment, e.scale, e.rotate, e.flip, e.blur) == (True, (0.5, 2.0), 10.0, 0.5, 1.0)
    assert (e.optimizer, e.learning_rate, e.momentum, e.weight_decay, e.power) == ("sgd", 0.01, 0.9, 1e-4, 1.0)
    assert (e.val_every, e.keep_every, e.protocol, e.val_size) == (5, 10, "report", 480)
    assert e.class_weighting == "none"


def test_enet_voc_plain_differs_in_augmentation_and_size_alone():
    changed = Experiment.load("enet_voc").differences(Experiment.load("enet_voc_plain"))
    assert changed == {"name": ("enet_voc", "enet_voc_plain"), "augment": (True, False), "crop_size": (380, 512)}


@pytest.mark.parametrize("model", ["r2unet", "pspnet"])
def test_tasks_2_and_3_are_the_reports(model):
    e = Experiment.load(f"{model}_cityscapes")
    assert (e.model, e.dataset, e.train_split, e.val_split) == (model, "cityscapes", "train", "val")
    assert (e.batch_size, e.base_size, e.crop_size, e.epochs) == (3, 1024, 512, 80)
    assert (e.augment, e.scale, e.rotate, e.flip, e.blur) == (True, (0.5, 2.0), 10.0, 0.5, 1.0)
    assert (e.optimizer, e.learning_rate, e.momentum, e.weight_decay, e.power) == ("sgd", 0.01, 0.9, 1e-4, 1.0)
    assert (e.val_every, e.keep_every, e.protocol, e.val_size) == (5, 10, "report", 512)
    assert (e.class_weighting, e.backbone_factor, e.auxiliary_weight) == ("none", 0.1, 0.4)
    assert e.model_arguments == {}  # the published sizes, and ImageNet weights for PSPNet


def test_r2unet_per_step_differs_in_its_norms_alone():
    for preset in ("", "_short", "_miniature"):
        one, other = (Experiment.load(f"r2unet_cityscapes{norm}{preset}") for norm in ("", "_per_step"))
        changed = one.differences(other)
        assert set(changed) == {"name", "model_arguments"}
        assert changed["model_arguments"][1] == {**one.model_arguments, "step_norm": "per_step"}


@pytest.mark.parametrize("name", Experiment.names())
def test_every_shipped_experiment_is_valid_and_named_like_its_file(name):
    assert Experiment.load(name).name == name


def test_choices_match_what_exists():
    hints = typing.get_type_hints(Experiment)
    assert set(typing.get_args(hints["model"])) == set(MODELS)
    assert set(typing.get_args(hints["dataset"])) == set(DATASETS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs='3': it must be int, not str"),
        ({"epochs": 3.5}, "it must be int"),
        ({"epochs": True}, "it must be int, not bool"),
        ({"epochs": 0}, "between 1 and"),
        ({"model": "enett"}, "did you mean 'enet'"),
        ({"dataset": "camvids"}, "did you mean 'camvid'"),
        ({"scale": [2, 1]}, "must not exceed"),
        ({"scale": [0.5]}, "a pair of float"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": -0.1}, "between"),
        ({"flip": 1.5}, "between 0 and 1"),
        ({"crop_size": 4}, "between 8 and 8192"),
        ({"crop_size": [380, "380"]}, "int or a pair of int"),
        ({"train_limit": 0}, "at least 1"),
        ({"augment": 1}, "it must be bool"),
        ({"name": "a/b"}, "folder's name"),
        ({"model_arguments": {"x": {1, 2}}}, "plain JSON"),
        ({"protocol": "ful"}, "did you mean 'full'"),
    ],
)
def test_wrong_settings_are_refused_with_the_fix(change, message):
    with pytest.raises(SettingError, match=message):
        Experiment().replace(**change)


def test_int_is_accepted_for_float_and_list_for_pair():
    e = Experiment(learning_rate=1, crop_size=[360, 480])
    assert e.learning_rate == 1.0 and isinstance(e.learning_rate, float)
    assert e.crop_size == (360, 480)


def test_frozen_and_replace_leaves_the_original():
    e = Experiment()
    with pytest.raises(AttributeError):
        e.epochs = 3
    assert e.replace(epochs=3).epochs == 3 and e.epochs == 80


def test_json_round_trip(tmp_path):
    e = Experiment.load("enet_camvid").replace(train_limit=7, model_arguments={"dropout": [0.0, 0.1]})
    e.save(tmp_path / "mine.json")
    assert Experiment.load(tmp_path / "mine.json") == e
    assert Experiment.load(str(tmp_path / "mine.json")) == e


def test_base_is_inherited_and_circles_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"base": "enet_voc", "name": "mine", "epochs": 3}))
    assert Experiment.load(path) == Experiment.load("enet_voc").replace(name="mine", epochs=3)
    path.write_text(json.dumps({"base": str(path)}))
    with pytest.raises(SettingError, match="circle"):
        Experiment.load(path)


def test_unknown_name_and_bad_file_are_explained(tmp_path):
    with pytest.raises(SettingError, match="enet_camvid.*did you mean 'enet_voc'"):
        Experiment.load("enet_vco")
    bad = tmp_path / "bad.json"
    bad.write_text("{epochs: 3}")
    with pytest.raises(SettingError, match="bad.json is not valid JSON"):
        Experiment.load(bad)
    bad.write_text("[1]")
    with pytest.raises(SettingError, match="one JSON object"):
        Experiment.load(bad)


def test_command_line_values():
    assert parse_setting("epochs=3") == ("epochs", 3)
    assert parse_setting("scale=[0.5, 1]") == ("scale", [0.5, 1])
    assert parse_setting("protocol=full") == ("protocol", "full")
    assert parse_setting("augment=false") == ("augment", False)
    with pytest.raises(SettingError, match="key=value"):
        parse_setting("epochs")
