"""Command line: `python -m nnti COMMAND`, the same functions that the notebooks call.

A command checks what it can before it imports PyTorch, so that `--help` and a wrong option are answered at once.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from nnti.errors import DataError, SettingError, UserError
from nnti.experiment import Experiment, Inference, parse_setting
from nnti.folders import figures_dir, find_run_dir, list_runs, make_folder, runs_dir

FAILED, INTERRUPTED = 1, 130
FEW = 1000  # pixels: a score on fewer is said to be
COMMANDS: dict[str, tuple[Callable, Sequence]] = {}  # name → function, arguments

MINIATURES = ("voc_miniature", "cityscapes_miniature")
DOWNLOADS = ("voc", "sbd", "camvid", "cityscapes", "miniature", *MINIATURES, "check")
FORMATS = ("palette", "own", "cityscapes")
CHECKED = ("voc", "camvid", "cityscapes", "folder", *MINIATURES)


def argument(*names: str, **options: Any) -> tuple:
    """Describe an argument as argparse's `add_argument` takes it."""
    return names, options


def command(*arguments: tuple) -> Callable[[Callable], Callable]:
    """Register a function as a command of the same name; it gets the parsed options, and its docstring is the help."""

    def register(function: Callable) -> Callable:
        COMMANDS[function.__name__] = (function, arguments)
        return function

    return register


def settings(help: str) -> tuple:
    """Describe `--set` of a command."""
    return argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=help)


RUN = argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
MOVED = settings("dataset_arguments.root=PATH: where its data lies, if it has moved")
DEVICE = argument("--device", default="auto", help="default: auto")
FIGURES = argument("--output", type=Path, metavar="DIR", help="of the figures; default: figures/")
FORMAT_HELP = "palette: class numbers in colour; own: the values of the run's own masks; cityscapes: label ids"
INFERENCE = (
    argument("--sliding", action="store_true", help="windows that overlap by a third, not the whole image"),
    argument("--crop-size", type=int, metavar="N", help="side of the windows (default: the run's crop_size)"),
    argument("--scales", nargs="+", type=float, metavar="S", help="average over these sizes, e.g. 0.75 1 1.25"),
    argument("--flip", action="store_true", help="average over the image and its mirror image"),
)


@command(
    argument("experiment", metavar="NAME", help="an experiment's name (see `experiments`) or a JSON file"),
    settings("change settings, e.g. --set epochs=3 dataset_arguments.root=my_data"),
    argument("--run-dir", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME)"),
    argument("--restart", action="store_true", help="start over instead of resuming the run"),
    argument("--extend", action="store_true", help="train longer (--set epochs=…); the learning rate jumps up"),
)
def train(options: argparse.Namespace) -> None:
    """Train an experiment, or resume it."""
    experiment = Experiment.load(options.experiment).changed(options.set)
    from nnti.training.loop import fit

    bar = not options.quiet
    run = fit(experiment, options.run_dir, restart=options.restart, extend=options.extend, progress=bar)
    for row in run:
        if run.world.main:
            print(_line(row, experiment), flush=True)
    if run.world.main:
        record = run.run.record()
        print(f"{run.run.path}: best epoch {record['best_epoch']}")
        _print_scores(record["validation"].values())


@command(
    RUN,
    argument("--protocol", choices=("report", "full", "both"), help="default: both; full with the options below"),
    *INFERENCE,
    argument("--split", help="default: the run's validation split"),
    argument("--json", type=Path, metavar="FILE", help="write the results as JSON"),
    settings("dataset_arguments.root=PATH: where its data lies, if it has moved; batch_size, cache, num_workers"),
    DEVICE,
)
def evaluate(options: argparse.Namespace) -> None:
    """Measure a run's best checkpoint."""
    path, experiment, inference = _run(options, "batch_size", "cache", "num_workers")
    chosen = options.protocol or ("full" if inference else "both")
    protocols = ("report", "full") if chosen == "both" else (chosen,)
    if inference and "report" in protocols:
        raise SettingError(f"--protocol {chosen}: windows, scales and flip go with protocol 'full' only")
    from nnti.data import attach_cache
    from nnti.device import machine_explained
    from nnti.inference.evaluate import evaluate as measure
    from nnti.loss import CrossEntropy
    from nnti.training.run_folder import ANALYSIS, EXPERIMENT, RECORD, is_evaluation, write_evaluation

    if options.json:
        if options.json.suffix != ".json":
            raise SettingError(f"--json {options.json}: the file's name must end in .json")
        if options.json.name in (RECORD, EXPERIMENT, ANALYSIS):
            raise SettingError(f"--json {options.json}: runs have files of that name; take another")
        if options.json.exists() and not is_evaluation(options.json):
            raise SettingError(f"--json {options.json} exists, and evaluate did not write it; take another name")
        make_folder(options.json.parent)
    run, model, checkpoint, dataset = _loaded(path, experiment, options.device, options.split)
    device, bar = next(model.parameters()).device, not options.quiet
    attach_cache(dataset, experiment.cache, build=False)
    loss = CrossEntropy(checkpoint["class_weights"])
    print(f"{run.path} on {dataset.title} {dataset.split}, {len(dataset)} images")
    with machine_explained():
        results = [measure(model, experiment, dataset, protocol, loss, bar, inference) for protocol in protocols]
    _print_scores(results)
    if options.json:
        print(write_evaluation(options.json, run, checkpoint, device, dataset, results))


@command(
    RUN,
    argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of them"),
    argument("--output", type=Path, default=Path("predictions"), metavar="DIR", help="default: predictions"),
    argument("--format", choices=FORMATS, default="palette", help=FORMAT_HELP),
    *INFERENCE,
    argument("--compile", action="store_true", help="slow first, then faster: for hundreds of images of one size"),
    DEVICE,
)
def predict(options: argparse.Namespace) -> None:
    """Segment your own pictures with a run's best checkpoint."""
    path, _, inference = _run(options)
    from nnti.device import machine_explained, resolve_device
    from nnti.inference.files import predict_files
    from nnti.models.saved import load_model
    from nnti.progress import write_line

    model, checkpoint = load_model(path / "best.pt", resolve_device(options.device))
    if inference is None:
        _advise(options, checkpoint["experiment"])  # before the work, which takes long for a large photo
    images, output, bar = options.images, options.output, not options.quiet
    with machine_explained():
        for written in predict_files(
            model, checkpoint, images, output, inference, options.format, bar, options.compile
        ):
            write_line(str(written))  # above the progress bar


@command(RUN, argument("--output", type=Path, default=Path("exports"), metavar="DIR", help="default: exports"))
def export(options: argparse.Namespace) -> None:
    """Write a trained network as ONNX, and compare the two."""
    path = find_run_dir(options.run)
    from nnti.inference.export import WITHOUT_RUNTIME, export_run

    written, difference = export_run(path, options.output)
    print(written)
    print(difference or f"not checked: {WITHOUT_RUNTIME}")


@command(argument("runs", nargs="*", metavar="RUN", help="default: every run in runs/"), FIGURES, MOVED)
def figures(options: argparse.Namespace) -> None:
    """Draw the figures of runs, and the architectures, as PNG and PDF."""
    runs = [_experiment(find_run_dir(name), options) for name in options.runs or list_runs()]
    from nnti.figures import render_architectures, render_run
    from nnti.training.run_folder import RunFolder

    make_folder(options.output or figures_dir())
    for path in [] if options.runs else render_architectures(options.output):
        print(path)
    for folder, experiment in runs:
        run = RunFolder(folder, experiment)
        run.record()  # one that was named must have something to show
        for path in render_run(run, options.output, progress=not options.quiet):
            print(path)


@command(argument("runs", nargs="+", metavar="RUN"), FIGURES, MOVED)
def analyze(options: argparse.Namespace) -> None:
    """Count where runs err (classes, images, boundaries, void) and draw it."""
    runs = [_experiment(find_run_dir(name), options) for name in options.runs]
    from nnti.figures import render_run
    from nnti.inference.errors import analyze as count_errors

    make_folder(options.output or figures_dir())
    for path, experiment in runs:
        make_folder(path)
        run, *loaded = _loaded(path, experiment)
        found = count_errors(*loaded, progress=not options.quiet)
        print(run.write_analysis({"run": run.path.resolve().name, **found}))
        for path in render_run(run, options.output, progress=not options.quiet):
            print(path)


@command(
    argument("runs", nargs="*", metavar="RUN", help="runs whose records go to report/runs first"),
    argument("--pictures", action="store_true", help="segment images anew too; needs data sets and checkpoints"),
)
def report(options: argparse.Namespace) -> None:
    """Rebuild report/report.pdf, tables and figures from the records in report/runs."""
    folders = [find_run_dir(name) for name in options.runs]
    from nnti.report import build_report, take_run
    from nnti.training.run_folder import RunFolder

    for folder in folders:
        for path in take_run(RunFolder(folder)):
            print(path)
    for path in build_report(pictures=options.pictures):
        print(path)


@command(
    argument("experiments", nargs="*", metavar="NAME", help="default: the report's three tasks"),
    argument("--size", nargs=2, type=int, default=(512, 512), metavar=("H", "W"), help="pixels (default: 512 512)"),
    argument("--no-timing", action="store_true", help="leave out the latency, which takes longest"),
    argument("--output", type=Path, metavar="DIR", help="default: runs/complexity/"),
    DEVICE,
)
def complexity(options: argparse.Namespace) -> None:
    """Measure what networks cost: parameters, operations, time, memory."""
    for name in options.experiments:
        Experiment.load(name)
    from nnti.figures import complexity_markdown, save_complexity
    from nnti.figures.complexity import EXPERIMENTS, complexity_frame, measure_complexity

    make_folder(options.output or runs_dir() / "complexity")
    names, size, timing = options.experiments or EXPERIMENTS, tuple(options.size), not options.no_timing
    record = measure_complexity(names, size, device=options.device, timing=timing, progress=not options.quiet)
    print(complexity_markdown(complexity_frame(record)))
    for path in save_complexity(record, options.output):
        print(path)


@command(
    argument(
        "name", choices=DOWNLOADS, help="cityscapes needs an account; miniature: both; `check NAME` reads all files"
    ),
    argument("checked", nargs="?", choices=CHECKED, metavar="NAME", help=f"after check: {', '.join(CHECKED)}"),
    argument("--root", type=Path, metavar="DIR", help="default: $NNTI_DATA's first folder, else data/"),
    settings("check folder: its arguments, e.g. --set void=[0,255]"),
    argument("--coarse", action="store_true", help="cityscapes: the coarse labels and train_extra too"),
)
def data(options: argparse.Namespace) -> None:
    """Download a data set, draw a miniature, or check all files of one."""
    if (options.name == "check") != (options.checked is not None):
        raise SettingError("say which data set to check, or which one to download: data check voc, or data voc")
    if options.coarse and options.name != "cityscapes":
        raise SettingError(f"--coarse goes with cityscapes only; leave it out for {options.name}")
    if options.set and options.name != "check":
        raise SettingError("--set goes with check only; leave it out")
    if options.name == "check":
        _check(options.checked, options.root, dict(map(parse_setting, options.set)), progress=not options.quiet)
        return
    from nnti.data import load_dataset
    from nnti.data.download import download

    if options.name.endswith("miniature"):
        for name in MINIATURES if options.name == "miniature" else [options.name]:
            print(load_dataset(name, "train", options.root).root)
    else:
        print(download(options.name, options.root, options.coarse))


@command(
    argument("images", type=Path, metavar="IMAGES", help="folder of images"),
    argument("new", type=Path, metavar="NEW_FOLDER", help="a folder that does not exist yet"),
    argument("--bits", type=int, choices=range(8, 17), metavar="N", help="of 16-bit images, how many are used"),
)
def convert(options: argparse.Namespace) -> None:
    """Copy images into a new folder as 8-bit RGB."""
    from nnti.data.convert import convert_images

    count, bits, notes = convert_images(options.images, options.new, options.bits, progress=not options.quiet)
    print(f"{options.new}: {count} images" + (f"; of 16 bits {bits} are used (--bits {bits})" if bits else ""))
    for note in notes:
        print(note)


@command(argument("name", nargs="?", metavar="NAME", help="explain this one, setting by setting"))
def experiments(options: argparse.Namespace) -> None:
    """List the experiments, or explain one setting by setting."""
    if options.name:
        values = Experiment.load(options.name).to_dict()
        helps = {item.name: item.metadata["help"] for item in fields(Experiment)}
        width = max(map(len, values))
        for key, value in values.items():
            print(f"{key:{width}}  {value!r:24}  {helps[key]}")
        return
    width = max(map(len, Experiment.names()))
    for name in Experiment.names():
        one = Experiment.load(name)
        print(
            f"{name:{width}} {one.model} on {one.dataset} ({one.train_split}), {one.epochs} epochs, {one.optimizer}, "
            f"{'augmentation' if one.augment else 'no augmentation'}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 after an error with a message, 2 for wrong usage, 130 after Ctrl-C."""
    about = "Train, measure and show segmentation networks."
    parser = argparse.ArgumentParser(prog="python -m nnti", description=about)
    parsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (function, its_arguments) in COMMANDS.items():
        one = parsers.add_parser(name, help=function.__doc__, description=function.__doc__)
        for names, details in its_arguments:
            one.add_argument(*names, **details)
        one.add_argument("--quiet", action="store_true", help="no progress bars")
        one.set_defaults(command=function)
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except (UserError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as error:
        again = "run the same command again" + ", without --restart" * getattr(options, "restart", False)
        print(f"\n{str(error) or f'interrupted; {again}'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `… | head` has read enough; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return 0


def _experiment(path: Path, options: argparse.Namespace, *free: str) -> tuple[Path, Experiment]:
    """Return a run's folder and its experiment, with other data or other settings among `free` if `--set` says so."""
    before = Experiment.load(path / "experiment.json")  # a folder's name may be that of a preset
    now, free = before.changed(getattr(options, "set", ())), ("dataset_arguments", *free)
    for key in before.differences(now):
        if key not in free:
            raise SettingError(f"--set {key}=…: a trained run keeps it; only {', '.join(free)} may differ here")
    return path, now


def _run(options: argparse.Namespace, *free: str) -> tuple[Path, Experiment, Inference | None]:
    """Return a run's folder, its experiment, and the inference options, or None if none were given."""
    path, experiment = _experiment(find_run_dir(options.run), options, *free)
    if options.crop_size is not None and not options.sliding:
        raise SettingError(f"--crop-size {options.crop_size} is the side of the windows; give --sliding as well")
    if not (options.sliding or options.scales or options.flip):
        return path, experiment, None
    crop_size = experiment.crop_size if options.crop_size is None else options.crop_size
    window = {"protocol": "sliding", "crop_size": crop_size} if options.sliding else {}
    return path, experiment, Inference(**window, scales=tuple(options.scales or (1.0,)), flip=options.flip)


def _loaded(path: Path, experiment: Experiment, device: str = "auto", split: str | None = None) -> tuple:
    """Return a run folder, its best network with its checkpoint, and the data to measure it on."""
    from nnti.device import resolve_device
    from nnti.loaders import load_split
    from nnti.models.saved import check_classes, load_model, other_images
    from nnti.training.run_folder import RunFolder

    run = RunFolder(path, experiment)
    model, checkpoint = load_model(run.best, resolve_device(device))
    dataset = load_split(experiment, split or experiment.val_split, experiment.val_limit)
    check_classes(checkpoint, dataset, run.best)
    other = other_images(checkpoint, "val_split", dataset) if dataset.split == experiment.val_split else ""
    if other:
        print(f"{dataset.root} is not what this run was measured on in training: {other}", file=sys.stderr)
    return run, model, checkpoint, dataset


def _advise(options: argparse.Namespace, experiment: dict) -> None:
    """Warn if the first image is much larger than the training images."""
    from PIL import Image

    from nnti.inference.files import find_images, fitting_scale

    first = find_images(options.images, options.output)[0]
    with Image.open(first) as image:
        scale, size = fitting_scale(image.size, experiment), " × ".join(map(str, image.size))
    if scale:
        print(
            f"{first} has {size} pixels, far more than the images in training: things look larger than the network "
            f"knows them. --scales {scale:g} will probably do better.",
            file=sys.stderr,
        )


def _check(name: str, root: Path | None, arguments: dict[str, Any], progress: bool) -> None:
    from nnti.data.check import check_dataset

    found = check_dataset(name, root, progress, arguments)
    for fault in found.faults:
        print(fault)
    if found.convert:
        new = found.convert.with_name(f"{found.convert.name}_rgb")
        print(f"This writes all images as 8-bit RGB into a new folder; then set images={new.name}:")
        print(f'python -m nnti convert "{found.convert}" "{new}"')
    for note in found.notes:
        print(note)
    for split, reason in found.absent.items():
        print(f"{found.title} {split}: not checked ({reason})")
    splits = ", ".join(f"{split} {count}" for split, count in found.samples.items())
    print(f"{found.title}: images in {splits}; {len(found.faults) or 'no'} fault{'s' * (len(found.faults) != 1)}")
    for split, names in found.unseen.items():
        if names:
            print(f"never in the labels of {split}: {', '.join(names)}")
    if found.faults:
        raise DataError(f"{name} has {len(found.faults)} fault(s), listed above with what to do")


def _line(row: dict[str, float], experiment: Experiment) -> str:
    text = f"epoch {row['epoch']}/{experiment.epochs}"
    text += f"  train loss {row['train_loss']:.4f}  mIoU {row['train_mean_iou']:.4f}"
    if row["val_mean_iou"] == row["val_mean_iou"]:
        text += f"  |  val ({experiment.protocol}) loss {row['val_loss']:.4f}  mIoU {row['val_mean_iou']:.4f}"
    return f"{text}  |  {row['train_seconds']:.1f} s"


def _print_scores(results) -> None:
    from nnti.metrics import METRICS

    for result in results:
        if not sum(result["pixels_per_class"]):
            print(f"{result['protocol']:6} protocol: nothing was measured, no labelled pixel lies in its crop")
            continue
        shown = "  ".join(f"{title} {result[name]:.4f}" for name, title in METRICS.items() if result[name] is not None)
        how = f", {Inference(**result['inference'])}" if "inference" in result else ""
        print(f"{result['protocol']:6} protocol{how}: loss {result['loss']:.4f}  {shown}")
        if (pixels := int(sum(result["pixels_per_class"]))) < FEW:
            print(f"       this rests on {pixels} labelled pixels only")


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"  # without source lines
    sys.exit(main())
