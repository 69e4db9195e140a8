"""Settings: the report's to the letter, and every wrong one refused with what would be right."""

import json
import typing

import pytest

import nnti
from nnti.data import DATASETS
from nnti.errors import SettingError
from nnti.experiment import Experiment, Inference, adjust, parse_setting
from nnti.models import MODELS

REPORT = {
    "augment": True, "scale": (0.5, 2.0), "rotate": 10.0, "flip": 0.5, "blur": 1.0, "epochs": 80, "optimizer": "sgd",
    "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "power": 1.0, "val_every": 5, "keep_every": 10,
    "protocol": "report", "class_weighting": "none", "backbone_factor": 0.1, "auxiliary_weight": 0.4,
    "model_arguments": {},
}  # fmt: skip
STREETS = {"batch_size": 3, "base_size": 1024, "crop_size": 512, "val_size": 512, "train_split": "train"}


@pytest.mark.parametrize(
    "name, own",
    [
        (
            "enet_voc",
            {"batch_size": 8, "base_size": 400, "crop_size": 380, "val_size": 480, "train_split": "train_aug"},
        ),
        ("r2unet_cityscapes", STREETS),
        ("pspnet_cityscapes", {**STREETS, "model_arguments": {"pretrained": True}}),
    ],
)
def test_presets_of_the_three_tasks_are_the_reports(name, own):
    model, dataset = name.split("_")
    expected = {"name": name, "model": model, "dataset": dataset, "val_split": "val", **REPORT, **own}
    settings = Experiment.load(name)
    assert {key: getattr(settings, key) for key in expected} == expected


def test_variants_differ_in_what_their_names_say():
    changed = Experiment.load("enet_voc").differences(Experiment.load("enet_voc_plain"))
    assert changed == {"name": ("enet_voc", "enet_voc_plain"), "augment": (True, False), "crop_size": (380, 512)}
    for preset in ("", "_short", "_miniature"):
        one, other = (Experiment.load(f"r2unet_cityscapes{norm}{preset}") for norm in ("", "_per_step"))
        changed = one.differences(other)
        assert set(changed) == {"name", "model_arguments"}
        assert changed["model_arguments"][1] == {**one.model_arguments, "step_norm": "per_step"}


def test_every_preset_is_valid_and_named_like_its_file():
    assert len(Experiment.names()) > 10
    assert [Experiment.load(name).name for name in Experiment.names()] == Experiment.names()
    hints = typing.get_type_hints(Experiment)
    assert set(typing.get_args(hints["model"])) == set(MODELS)
    assert set(typing.get_args(hints["dataset"])) == set(DATASETS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs='3'.*int, not str"),
        ({"epochs": 3.5}, "int"),
        ({"epochs": True}, "not bool"),
        ({"epochs": 0}, "between 1 and"),
        ({"model": "enett"}, "did you mean 'enet'"),
        ({"dataset": "camvids"}, "did you mean 'camvid'"),
        ({"scale": [2, 1]}, "must not exceed"),
        ({"scale": [0.5]}, "a pair of float"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"flip": 1.5}, "between 0 and 1"),
        ({"crop_size": [380, "380"]}, "int or a pair of int"),
        ({"train_limit": 0}, "at least 1"),
        ({"augment": 1}, "bool"),
        ({"name": "a/b"}, "folder's name"),
        ({"model_arguments": {"x": {1, 2}}}, "plain JSON"),
        ({"model_arguments": "steps"}, "JSON object"),
        ({"checkpoint_every": "5 weeks"}, "'5 min'"),
    ],
)
def test_wrong_settings_are_refused_with_the_fix(change, message):
    with pytest.raises(SettingError, match=message):
        Experiment().replace(**change)


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "full"},
        {"protocol": "sliding"},  # without a crop_size
        {"crop_size": 64},  # without windows
        {"protocol": "sliding", "crop_size": 7},
        {"protocol": "sliding", "crop_size": (64, 64, 64)},
        {"protocol": "sliding", "crop_size": 64, "overlap": 1},
        {"scales": ()},
        {"scales": (1, 0)},
        {"scales": 1.5},
        {"flip": "yes"},
        {"tile_batch": 0},
    ],
)
def test_wrong_ways_to_segment_are_refused_by_name(options):
    with pytest.raises(SettingError, match=f"{list(options)[-1]}="):
        Inference(**options)


def test_a_way_to_segment_survives_json_and_says_itself_in_words():
    inference = Inference(protocol="sliding", crop_size=(64, 48), scales=(0.75, 1), flip=True)
    assert Inference(**json.loads(json.dumps(inference.to_dict()))) == inference
    assert str(inference) == "sliding 64 × 48, overlap 0.33, scales 0.75 1, flip"
    assert Inference().plain and not inference.plain


def test_values_become_what_the_setting_is_and_the_original_stays():
    settings = Experiment(learning_rate=1, crop_size=[360, 480])
    assert isinstance(settings.learning_rate, float) and settings.crop_size == (360, 480)
    assert settings.replace(epochs=3).epochs == 3 and settings.epochs == 80
    assert adjust(settings, epochs=3, seed=None, device="cpu").name == "experiment_epochs3"
    intervals = {"5 min": (300, "s"), "90 s": (90, "s"), "2 h": (7200, "s"), "200 steps": (200, "steps"), None: None}
    assert {text: Experiment(checkpoint_every=text).checkpoint_interval() for text in intervals} == intervals
    with pytest.raises(AttributeError):
        settings.epochs = 3


def test_files_of_settings_are_read_inherited_and_explained(tmp_path):
    settings = Experiment.load("enet_camvid").replace(train_limit=7, model_arguments={"dropout": [0.0, 0.1]})
    path = tmp_path / "mine.json"
    settings.save(path)
    assert Experiment.load(path) == Experiment.load(str(path)) == settings
    path.write_text(json.dumps({"base": "enet_voc", "name": "mine", "epochs": 3}))
    assert Experiment.load(path) == Experiment.load("enet_voc").replace(name="mine", epochs=3)
    for text, message in (
        (json.dumps({"base": str(path)}), "circular"),
        ("{epochs: 3}", "mine.json is not valid JSON"),
        ("[1]", "one JSON object"),
    ):
        path.write_text(text)
        with pytest.raises(SettingError, match=message):
            Experiment.load(path)
    with pytest.raises(SettingError, match="enet_camvid.*did you mean 'enet_voc'"):
        Experiment.load("enet_vco")


def test_settings_of_a_command_line_are_json_where_they_can_be():
    texts = {"epochs=3": 3, "scale=[0.5, 1]": [0.5, 1], "protocol=full": "full", "augment=false": False}
    assert {text: parse_setting(text)[1] for text in texts} == texts
    with pytest.raises(SettingError, match="key=value"):
        parse_setting("epochs")


def test_a_dotted_name_sets_one_entry_and_a_path_stays_as_it_is():
    own = Experiment(dataset="folder", dataset_arguments={"root": "a", "void": 0})
    changed = own.changed([r"dataset_arguments.root=D:\new\2024", "dataset_arguments.void=[0, 255]", "epochs=3"])
    assert changed.dataset_arguments == {"root": r"D:\new\2024", "void": [0, 255]} and changed.epochs == 3
    assert own.dataset_arguments == {"root": "a", "void": 0}
    assert own.changed(["dataset_arguments.root=2024"]).differences(own) == {}  # another place, the same data
    for text, message in (
        (r'dataset_arguments={"root": "D:\new"}', "backslash.*dotted name"),
        (r'dataset_arguments={"root": "C:\data"}', "backslash.*dotted name"),
        ("epochs.first=3", "epochs is one value"),
        ("dataset_argument.root=a", "did you mean 'dataset_arguments'"),
    ):
        with pytest.raises(SettingError, match=message):
            own.changed([text])


def test_the_package_offers_its_names():
    assert nnti.Experiment is Experiment and nnti.models.MODELS is MODELS
    assert all(getattr(nnti, name) is not None for name in nnti.__all__)
    with pytest.raises(AttributeError, match="'fitt'"):
        nnti.fitt  # noqa: B018
