"""`Experiment` and `Inference`: every setting of a run and of a segmentation, typed, checked and frozen.

A file in `nnti/configs/` holds one experiment as JSON; with `"base": "other"` it lists only what differs.
"""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nnti.errors import SettingError

Size = int | tuple[int, int]  # side of a square, or (height, width), pixels


def setting(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """Declare a setting with its default, its meaning and its inclusive range."""
    metadata = {"help": help, "low": low, "high": high}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All settings of one run. The defaults are those shared by the three tasks of the 2021 report."""

    name: str = setting("experiment", "what the run folder, figures and tables call it")
    # model
    model: Literal["enet", "r2unet", "pspnet"] = setting("enet", "architecture")
    model_arguments: dict[str, Any] = setting({}, "the constructor's arguments; model_arguments.X=… sets one of them")
    initial_weights: str | None = setting(None, "a run, by name or path, whose best weights to begin with (None: none)")
    # data
    dataset: Literal["voc", "cityscapes", "camvid", "folder", "voc_miniature", "cityscapes_miniature"] = setting(
        "voc", "data set; 'folder': your own"
    )
    dataset_arguments: dict[str, Any] = setting({}, "of 'folder': dataset_arguments.root=… and others")
    train_split: str = setting("train", "split to learn from")
    val_split: str = setting("val", "split to measure on")
    train_limit: int | None = setting(None, "use only this many training images, spread evenly (None: all)", 1)
    val_limit: int | None = setting(None, "use only this many validation images, spread evenly (None: all)", 1)
    # augmentation: rescale, rotate, crop, flip, blur, in this order
    augment: bool = setting(True, "random augmentation; False resizes every image to crop_size × crop_size instead")
    base_size: int = setting(400, "length of the longer side before the random scale, pixels", 8, 8192)
    crop_size: Size = setting(380, "side of the square training crop, or (height, width), pixels", 8, 8192)
    scale: tuple[float, float] = setting((0.5, 2.0), "range of the random scale factor", 0.05, 20)
    rotate: float = setting(10.0, "largest rotation to either side, degrees", 0, 180)
    flip: float = setting(0.5, "probability of a horizontal flip", 0, 1)
    blur: float = setting(1.0, "largest standard deviation of the Gaussian blur, pixels", 0, 1)
    # optimiser
    optimizer: Literal["sgd", "adam"] = setting("sgd", "update rule")
    learning_rate: float = setting(0.01, "base learning rate of the decoder or head", 1e-8, 10)
    backbone_factor: float = setting(0.1, "learning rate of a pretrained backbone, times learning_rate", 0, 10)
    momentum: float = setting(0.9, "momentum of SGD, first beta of Adam", 0, 0.9999)
    weight_decay: float = setting(1e-4, "L2 penalty", 0, 1)
    clip_gradient: float | None = setting(None, "scale gradients of a larger norm down to this (None: never)", 1e-8)
    # schedule: lr = learning_rate · (1 − iteration / all iterations)^power
    epochs: int = setting(80, "passes over the training split", 1, 100_000)
    power: float = setting(1.0, "power of the poly schedule (0: constant)", 0, 10)
    batch_size: int = setting(8, "images per step", 1, 4096)
    # loss
    class_weighting: Literal["none", "enet"] = setting("none", "'enet': 1/ln(1.02 + p) for a class with pixel share p")
    auxiliary_weight: float = setting(0.4, "share of an auxiliary head's cross entropy, where a model has one", 0, 10)
    # validation and checkpoints
    protocol: Literal["report", "full"] = setting(
        "report", "'report': shorter side to val_size, centre crop; 'full': own size"
    )
    val_size: Size = setting(480, "crop of the 'report' protocol: side, or (height, width), pixels", 8, 8192)
    val_every: int = setting(5, "validate every so many epochs, and after the last", 1, 100_000)
    checkpoint_every: str | None = setting("5 min", "save so often within an epoch: '5 min', '90 s', '200 steps'; None")
    keep_every: int = setting(10, "keep a checkpoint every so many epochs, beside last and best", 1, 100_000)
    tensorboard: bool = setting(False, "write scalars and pictures for TensorBoard into the run folder, if installed")
    # machine
    seed: int = setting(0, "seed of weights, order and augmentation", 0, 2**31 - 1)
    device: str = setting("auto", "'auto' takes cuda, then mps, then cpu; or a torch device name")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting("auto", "autocast; 'auto' asks the device")
    channels_last: bool = setting(True, "memory format of weights and activations")
    compile: bool = setting(False, "torch.compile the model: faster steps after a slow start")
    cache: Literal["auto", "none", "ram", "disk"] = setting("auto", "where decoded images are kept for later epochs")
    sync_batch_norm: bool = setting(True, "several GPUs: normalise over the whole batch, not over each GPU's share")
    num_workers: int = setting(-1, "processes that read data (-1: chosen from the machine)", -1, 256)

    def __post_init__(self):
        _check_fields(self)
        if self.scale[0] > self.scale[1]:
            raise SettingError(f"scale={self.scale!r}: the first number must not exceed the second")
        if self.name in ("", ".", "..") or any(sign in self.name for sign in '/\\:*?"<>|'):
            raise SettingError(f"name={self.name!r}: it becomes a folder's name; use letters, digits, '-' and '_'")
        self.checkpoint_interval()
        for name in ("model_arguments", "dataset_arguments"):
            try:
                json.dumps(getattr(self, name))
            except TypeError as error:
                raise SettingError(f"{name} must hold plain JSON values: {error}") from error

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Experiment":
        """Read an experiment: a name from `Experiment.names()`, a JSON file, or a run folder."""
        return cls.from_dict(_resolve(_find(name_or_path)))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Experiment":
        """Build an experiment from a mapping of settings; unknown keys are refused with the nearest known one."""
        known = [item.name for item in dataclasses.fields(cls)]
        for key in settings:
            if key not in known:
                raise SettingError(f"unknown setting '{key}'{_nearest(key, known)}")
        return cls(**settings)

    @staticmethod
    def names() -> list[str]:
        """Return the names of the experiments that ship with the package."""
        return sorted(path.stem for path in config_dir().glob("*.json"))

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """Return all settings as the text of a JSON file."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def save(self, path: str | Path) -> None:
        """Write all settings as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def replace(self, **changes: Any) -> "Experiment":
        """Return a copy with some settings changed; it is checked like any other."""
        return self.from_dict({**vars(self), **changes})

    def changed(self, texts: Iterable[str]) -> "Experiment":
        """Return a copy with a command line's settings: `key=value`, or `key.part=value` for one entry of a dict."""
        changes = {}
        for key, value in map(parse_setting, texts):
            key, dot, part = key.partition(".")
            whole = changes.get(key, vars(self).get(key, {}))
            if dot and not isinstance(whole, Mapping):
                raise SettingError(f"'{key}.{part}': {key} is one value, without entries; leave out '.{part}'")
            changes[key] = {**whole, part: value} if dot else value
        return self.replace(**changes)

    def checkpoint_interval(self) -> tuple[float, str] | None:
        """Return `checkpoint_every` as (number, "s" or "steps"); None: after whole epochs only."""
        if self.checkpoint_every is None:
            return None
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(steps?|s|min|h)\s*", self.checkpoint_every)
        number, unit = (float(found[1]), found[2]) if found else (0.0, "")
        steps = unit.startswith("step")
        if number <= 0 or (steps and number != int(number)):
            raise SettingError(
                f"checkpoint_every={self.checkpoint_every!r}: it must be like '5 min', '90 s', '2 h' or '200 steps', "
                "or null"
            )
        return (number, "steps") if steps else (number * {"s": 1, "min": 60, "h": 3600}[unit], "s")

    def differences(self, other: "Experiment") -> dict[str, tuple[Any, Any]]:
        """Return {setting: (own value, other's value)} where the two differ; where the data lies is no difference."""
        mine, theirs = self.to_dict(), other.to_dict()
        for settings in (mine, theirs):
            settings["dataset_arguments"].pop("root", None)
        return {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How an image is segmented; the defaults are one pass over the whole image.

    The size of the training crops is the crop_size that a network knows best.
    """

    protocol: Literal["whole", "sliding"] = setting("whole", "the whole image at once, or windows of crop_size")
    crop_size: Size | None = setting(
        None, "for 'sliding': side of the window, or (height, width), pixels of the scaled image", 8, 8192
    )
    overlap: float = setting(1 / 3, "share of a window's side that the next one covers again", 0, 0.99)
    scales: tuple[float, ...] = setting((1.0,), "factors on the image's sides, one pass each", 0.01, 100)
    flip: bool = setting(False, "average each pass with that over the mirror image")
    tile_batch: int = setting(1, "windows that go through the network at once; more need more memory", 1, 4096)

    def __post_init__(self):
        _check_fields(self)
        if (self.crop_size is None) == (self.protocol == "sliding"):
            raise SettingError(
                f"protocol={self.protocol!r} with crop_size={self.crop_size!r}: 'sliding' needs a crop_size, for "
                "example the one that the network was trained with; 'whole' has none"
            )

    @property
    def plain(self) -> bool:
        """Whether this is one forward pass with nothing to average."""
        return self.protocol == "whole" and self.scales == (1,) and not self.flip

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that shape the result, as plain types; `Inference(**…)` builds it again."""
        window = {"crop_size": self.crop_size, "overlap": self.overlap} if self.protocol == "sliding" else {}
        return {"protocol": self.protocol, **window, "scales": self.scales, "flip": self.flip}

    def __str__(self) -> str:
        """Return it as shown beside results: "sliding 512 × 512, overlap 0.33, scales 0.75 1, flip"."""
        text = self.protocol
        if self.protocol == "sliding":
            height, width = crop_shape(self.crop_size)
            text += f" {height} × {width}, overlap {self.overlap:.2g}"
        if self.scales != (1,):
            text += f", scales {' '.join(f'{scale:g}' for scale in self.scales)}"
        return f"{text}, flip" if self.flip else text


def adjust(experiment: Experiment, **changes: Any) -> Experiment:
    """Return the experiment with some settings changed, as a run of its own; None keeps a setting.

    The changes are appended to the name, so runs with other epochs or seeds get folders of their own. The device is not
    part of it: a run may resume on another one.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    suffix = "".join(f"_{name}{value}" for name, value in changes.items() if name != "device")
    return experiment.replace(name=experiment.name + suffix, **changes)


def config_dir() -> Path:
    """Return the folder of the experiments that ship with the package."""
    return Path(__file__).resolve().parent / "configs"


def crop_shape(size: Size) -> tuple[int, int]:
    """Return (height, width) of a size setting."""
    return size if isinstance(size, tuple) else (size, size)


def parse_setting(text: str) -> tuple[str, Any]:
    """Split a command line's `key=value`; the value is JSON where it can be, else text. A path is always text."""
    key, separator, value = text.partition("=")
    if not separator:
        raise SettingError(f"'{text}' is not of the form key=value, for example epochs=3")
    if key.endswith(".root"):
        return key, value
    try:
        parsed = json.loads(value)
    except json.JSONDecodeError:
        parsed = value
    # in JSON, a Windows path is no text (C:\data), or one with line breaks and tabs in it (C:\new\train)
    if value[:1] in "[{" and re.search(r"\\[bfnrt]" if parsed is not value else r"\\", value.replace("\\\\", "")):
        raise SettingError(
            f"{text}: in JSON a backslash begins a special sign. Write / instead, or set one entry by its dotted name, "
            "which is taken as it is, for example dataset_arguments.root=C:\\data"
        )
    return key, parsed


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    for candidate in (config_dir() / f"{path}.json", path / "experiment.json", path):
        if candidate.is_file():
            return candidate
    names = Experiment.names()
    raise SettingError(
        f"no experiment '{name_or_path}'; it is one of {', '.join(names)}, a JSON file, or a run folder"
        f"{_nearest(str(name_or_path), names)}"
    )


def _resolve(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a JSON file, on top of its `base` if it names one."""
    if path in seen:
        raise SettingError(f"{path}: 'base' is circular: {' -> '.join(p.stem for p in (*seen, path))}")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(settings, dict):
        raise SettingError(f"{path} must hold one JSON object of settings")
    base = settings.pop("base", None)
    inherited = _resolve(_find(base), (*seen, path)) if base else {}
    return {**inherited, **settings}


def _check_fields(settings: Any) -> None:
    """Convert each field of a frozen dataclass to its type, check its range, or raise SettingError."""
    kinds = typing.get_type_hints(type(settings))
    for item in dataclasses.fields(settings):
        value, kind = getattr(settings, item.name), kinds[item.name]
        low, high = item.metadata["low"], item.metadata["high"]
        try:
            converted = _convert(value, kind)
        except TypeError:
            choice = typing.get_origin(kind) is Literal
            hint = _nearest(str(value), typing.get_args(kind)) if choice else f", not {type(value).__name__}"
            raise SettingError(f"{item.name}={value!r}: it must be {_describe(kind)}{hint}") from None
        for number in converted if isinstance(converted, tuple) else (converted,):
            if type(number) not in (int, float):
                continue
            too_low, too_high = low is not None and number < low, high is not None and number > high
            if too_low or too_high or not math.isfinite(number):
                bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
                raise SettingError(f"{item.name}={value!r}: it must be {bounds}")
        object.__setattr__(settings, item.name, converted)


def _convert(value: Any, kind: Any) -> Any:
    """Return `value` as `kind` (int → float, list → tuple where asked), or raise TypeError."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        for option in args:
            with suppress(TypeError):
                return _convert(value, option)
    elif origin is Literal:
        if value in args:
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple) and value:
            args = args[:1] * len(value) if args[-1] is Ellipsis else args
            if len(value) == len(args):
                return tuple(map(_convert, value, args))
    elif origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif kind is float and type(value) is int:
        return float(value)
    elif type(value) is kind:
        return value
    raise TypeError


def _describe(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return " or ".join(map(_describe, args))
    if origin is Literal:
        return f"one of {', '.join(args)}"
    if origin is tuple:
        pair = f"a pair of {args[0].__name__}, as in {'[240,320]' if args[0] is int else '[0.5,2]'}"
        return "one or more numbers" if args[-1] is Ellipsis else pair
    if origin is dict:
        return "a JSON object (one entry is set by its dotted name, such as model_arguments.steps=2)"
    return "null" if kind is types.NoneType else kind.__name__


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
