"""Command line: `python -m nnti COMMAND`, the same functions that the notebooks call.

What the commands of the command line do; each takes its parsed options. `nnti.__main__` parses them.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from nnti.data import DataError, attach_cache
from nnti.errors import MachineError, RunError, SettingError
from nnti.experiment import Experiment, parse_setting
from nnti.models import WeightsError
from nnti.training.run_folder import find_run, list_runs

__all__ = [
    "analyze",
    "complexity",
    "data",
    "evaluate",
    "experiments",
    "export",
    "figures",
    "predict",
    "report",
    "train",
]


FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after an error that the message explains (2: wrong usage)."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (SettingError, DataError, RunError, WeightsError, MachineError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as error:
        anywhere = "interrupted; what was saved is intact: the same call, or command, goes on from there"
        print(f"\n{str(error) or anywhere}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nnti", description="Train, measure and show segmentation networks."
    )
    parsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _command(parsers, train, "train an experiment, or go on with it")
    command.add_argument("experiment", metavar="NAME", help="an experiment's name (see `experiments`) or a JSON file")
    command.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change settings, e.g. --set epochs=3",
    )
    command.add_argument("--run-dir", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME)")
    command.add_argument("--restart", action="store_true", help="start over instead of going on with the folder's run")

    command.add_argument(
        "--extend",
        action="store_true",
        help="train an existing run for more epochs than it was begun with (--set epochs=…); from where it stands, its "
        "learning rate follows the longer schedule, so it jumps up",
    )

    command = _command(parsers, evaluate, "measure a run's best checkpoint")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument("--protocol", choices=("report", "full", "both"), help="default: both; full with what follows")
    _add_inference(command)
    command.add_argument("--split", help="default: the run's validation split")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the results, and what they were measured on")
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(parsers, predict, "segment your own pictures with a run's best checkpoint")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of them")
    command.add_argument("--output", type=Path, default=Path("predictions"), metavar="DIR", help="default: predictions")
    command.add_argument(
        "--format",
        choices=("palette", "cityscapes"),
        default="palette",
        help="palette (default): class numbers and a colour overlay; cityscapes: label ids for the official evaluation",
    )
    _add_inference(command)
    command.add_argument(
        "--compile", action="store_true", help="faster after a minute or two: for hundreds of images of one size"
    )
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(parsers, export, "write a trained network as ONNX or as a torch.export program")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument(
        "--format",
        choices=("onnx", "torch"),
        default="onnx",
        help="onnx (default): .onnx; torch: .pt2, for torch.export",
    )
    command.add_argument("--output", type=Path, default=Path("exports"), metavar="DIR", help="default: exports")

    command = _command(parsers, figures, "draw the figures of runs, and the architectures, as PNG and PDF")
    command.add_argument("runs", nargs="*", metavar="RUN", help="default: every run in runs/")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: figures/")

    command = _command(parsers, analyze, "count where runs err: classes, images, boundaries, void")
    command.add_argument("runs", nargs="+", metavar="RUN")
    command.add_argument("--output", type=Path, metavar="DIR", help="of the figures; default: figures/")

    command = _command(parsers, report, "rebuild report/report.pdf, tables and figures from report/runs")
    command.add_argument("runs", nargs="*", metavar="RUN", help="finished runs whose records go to report/runs first")
    command.add_argument(
        "--pictures", action="store_true", help="segment images anew too: takes the data sets and the runs' checkpoints"
    )

    command = _command(parsers, complexity, "measure what networks cost: parameters, operations, time, memory")
    command.add_argument("experiments", nargs="*", metavar="NAME", help="default: the report's three tasks")
    command.add_argument(
        "--size", nargs=2, type=int, default=(512, 512), metavar=("H", "W"), help="image, pixels (default: 512 512)"
    )
    command.add_argument("--no-timing", action="store_true", help="leave the latency out, which takes longest")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: runs/complexity/")
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(parsers, data, "download a data set, render a miniature, or check the files of one")
    names = ("voc", "sbd", "camvid", "cityscapes", "miniature", "voc_miniature", "cityscapes_miniature", "check")
    command.add_argument(
        "name",
        choices=names,
        help="which one; cityscapes needs an account, miniature is both; `check NAME` reads all files",
    )
    checked = ("voc", "camvid", "cityscapes", "folder", "voc_miniature", "cityscapes_miniature")
    command.add_argument(
        "checked", nargs="?", choices=checked, metavar="NAME", help=f"after check: {', '.join(checked)}"
    )
    command.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="default: the first folder of $NNTI_DATA, else data/; for miniatures data/miniature",
    )
    command.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="check folder: its arguments, e.g. --set void=[0,255]"
    )
    command.add_argument("--coarse", action="store_true", help="cityscapes: the coarse labels and train_extra too")

    command = _command(parsers, experiments, "list the experiments, or explain one")
    command.add_argument("name", nargs="?", metavar="NAME", help="explain this one, setting by setting")
    return parser


def _add_inference(command: argparse.ArgumentParser) -> None:
    command.add_argument("--sliding", action="store_true", help="windows that overlap by a third, not the whole image")
    command.add_argument(
        "--crop-size", type=int, metavar="N", help="side of the windows (default: the run's crop_size)"
    )
    command.add_argument(
        "--scales", nargs="+", type=float, metavar="S", help="average over the image at these sizes, e.g. 0.75 1 1.25"
    )
    command.add_argument("--flip", action="store_true", help="average over the image and its mirror image")


def _command(parsers, function, help: str) -> argparse.ArgumentParser:
    command = parsers.add_parser(function.__name__, help=help, description=help)
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    command.set_defaults(command=function)
    return command


def _warning(message: Warning | str, *_: object) -> str:
    return f"warning: {message}\n"


if __name__ == "__main__":
    warnings.formatwarning = _warning  # a user of commands has no use for lines of the source
    sys.exit(main())


def train(options: argparse.Namespace) -> None:
    """Train an experiment and print one line per validation."""
    from nnti.training.loop import fit

    changes = dict(parse_setting(text) for text in options.set)
    experiment = Experiment.load(options.experiment).replace(**changes)
    bar = not options.quiet
    run = fit(experiment, options.run_dir, restart=options.restart, extend=options.extend, progress=bar)
    for row in run:
        if run.world.main:
            print(_line(row, experiment), flush=True)
    if not run.world.main:
        return
    record = run.run.record()
    print(f"{run.run.path}: best epoch {record['best_epoch']}")
    _print_scores(record["validation"].values())


def evaluate(options: argparse.Namespace) -> None:
    """Measure a run's best checkpoint on a split."""
    from nnti.device import machine_explained, resolve_device
    from nnti.inference.evaluate import evaluate as measure
    from nnti.loaders import load_split
    from nnti.loss import CrossEntropy
    from nnti.models.saved import check_classes, load_model
    from nnti.training.run_folder import write_evaluation

    run = find_run(options.run)
    experiment = run.experiment()
    inference = _inference(options, experiment)
    model, checkpoint = load_model(run.best, resolve_device(options.device))
    dataset = load_split(experiment, options.split or experiment.val_split, experiment.val_limit)
    check_classes(checkpoint, dataset, run.best)
    attach_cache(dataset, experiment.cache, build=False)
    chosen = options.protocol or ("full" if inference else "both")
    protocols = ("report", "full") if chosen == "both" else (chosen,)
    loss = CrossEntropy(checkpoint["class_weights"], dataset.ignore_index)
    print(f"{run.path} on {dataset.title} {dataset.split}, {len(dataset)} images")
    bar = not options.quiet
    with machine_explained():
        results = [measure(model, experiment, dataset, protocol, loss, bar, inference) for protocol in protocols]
    _print_scores(results)
    if options.json:
        device = next(model.parameters()).device
        print(write_evaluation(options.json, run, checkpoint, device, dataset, results))


def predict(options: argparse.Namespace) -> None:
    """Segment image files with a run's best checkpoint."""
    from nnti.device import resolve_device
    from nnti.inference.files import predict_files
    from nnti.models.saved import load_model
    from nnti.progress import write_line

    model, checkpoint = load_model(find_run(options.run).best, resolve_device(options.device))
    inference = _inference(options, Experiment.from_dict(checkpoint["experiment"]))
    if inference is None:
        _advise(options, checkpoint["experiment"])  # before the work, which takes long for a large photo
    bar = not options.quiet
    paths = predict_files(
        model, checkpoint, options.images, options.output, inference, options.format, bar, compile=options.compile
    )
    for path in paths:
        write_line(str(path))  # above the progress bar


def export(options: argparse.Namespace) -> None:
    """Write a run's best checkpoint as a file that runs without this project, and compare the two."""
    from nnti.inference.export import WITHOUT_RUNTIME, export_run

    path, difference = export_run(find_run(options.run), options.format, options.output)
    print(path)
    print(difference or f"not checked: {WITHOUT_RUNTIME}")


def _advise(options: argparse.Namespace, experiment: dict) -> None:
    """Tell, for the first image, that it is much larger than what the network has learnt to look at."""
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


def figures(options: argparse.Namespace) -> None:
    """Draw every figure that the files of the named runs (default: all, and the three architectures) allow."""
    from nnti.figures import render_architectures, render_run

    for path in [] if options.runs else render_architectures(options.output):
        print(path)
    for name in options.runs or list_runs():
        for path in render_run(find_run(name), options.output, progress=not options.quiet):
            print(path)


def analyze(options: argparse.Namespace) -> None:
    """Count where runs' best checkpoints err, write analysis.json into their folders and draw the figures of it."""
    from nnti.device import resolve_device
    from nnti.figures import render_run
    from nnti.inference.errors import analyze as count_errors
    from nnti.loaders import load_split
    from nnti.models.saved import check_classes, load_model

    for name in options.runs:
        run = find_run(name)
        experiment = run.experiment()
        model, checkpoint = load_model(run.best, resolve_device())
        dataset = load_split(experiment, experiment.val_split, experiment.val_limit)
        check_classes(checkpoint, dataset, run.best)
        found = count_errors(model, checkpoint, dataset, progress=not options.quiet)
        print(run.write_analysis({"run": run.path.resolve().name, **found}))
        for path in render_run(run, options.output, progress=not options.quiet):
            print(path)


def report(options: argparse.Namespace) -> None:
    """Take runs into the report, then rebuild it: tables, figures and report.pdf, from the records in report/."""
    from nnti.report import build_report, take_run

    for name in options.runs:
        for path in take_run(find_run(name)):
            print(path)
    for path in build_report(pictures=options.pictures):
        print(path)


def complexity(options: argparse.Namespace) -> None:
    """Measure what the experiments' networks cost, print the table and write it as JSON, CSV and Markdown."""
    from nnti.figures import complexity_markdown, save_complexity
    from nnti.figures.complexity import EXPERIMENTS, complexity_frame, measure_complexity

    names, timing = options.experiments or EXPERIMENTS, not options.no_timing
    size = tuple(options.size)
    record = measure_complexity(names, size, device=options.device, timing=timing, progress=not options.quiet)
    print(complexity_markdown(complexity_frame(record)))
    for path in save_complexity(record, options.output):
        print(path)


def data(options: argparse.Namespace) -> None:
    """Download a data set, render a miniature, or check every file of one."""
    from nnti.data import MINIATURES, load_dataset
    from nnti.data.download import download

    if (options.name == "check") != (options.checked is not None):
        raise SettingError("say which data set to check, or get one: data check voc, or data voc")
    if options.coarse and options.name != "cityscapes":
        raise SettingError(f"--coarse goes with cityscapes only; leave it out for {options.name}")
    if options.set and options.name != "check":
        raise SettingError("--set goes with check only; leave it out")
    if options.name == "check":
        _check(options)
    elif options.name.endswith("miniature"):
        for name in MINIATURES if options.name == "miniature" else [options.name]:
            print(load_dataset(name, "train", options.root).root)
    else:
        print(download(options.name, options.root, options.coarse))


def _check(options: argparse.Namespace) -> None:
    from nnti.data.check import check_dataset

    arguments = dict(parse_setting(text) for text in options.set)
    found = check_dataset(options.checked, options.root, not options.quiet, arguments)
    for fault in found.faults:
        print(fault)
    for split, reason in found.absent.items():
        print(f"{found.title} {split}: not checked ({reason})")
    splits = ", ".join(f"{split} {count}" for split, count in found.samples.items())
    print(f"{found.title}: images in {splits}; {len(found.faults) or 'no'} fault{'s' * (len(found.faults) != 1)}")
    if found.unseen:
        print(f"never in the labels of train: {', '.join(found.unseen)}")
    if found.faults:
        raise DataError(f"{options.checked} has {len(found.faults)} fault(s), listed above with what to do")


def experiments(options: argparse.Namespace) -> None:
    """List the experiments that ship with the package, or print one with all its settings."""
    longest = max(map(len, Experiment.names()))
    for name in [options.name] if options.name else Experiment.names():
        experiment = Experiment.load(name)
        if options.name:
            width = max(len(key) for key in experiment.to_dict())
            for key, value in experiment.to_dict().items():
                print(f"{key:{width}}  {value!r:24}  {Experiment.__dataclass_fields__[key].metadata['help']}")
        else:
            augmented = "augmentation" if experiment.augment else "no augmentation"
            print(
                f"{name:{longest}} {experiment.model} on {experiment.dataset} ({experiment.train_split}), "
                f"{experiment.epochs} epochs, {experiment.optimizer}, {augmented}"
            )


def _line(row: dict[str, float], experiment: Experiment) -> str:
    text = f"epoch {row['epoch']}/{experiment.epochs}"
    text += f"  train loss {row['train_loss']:.4f}  mIoU {row['train_mean_iou']:.4f}"
    if row["val_mean_iou"] == row["val_mean_iou"]:
        text += f"  |  val ({experiment.protocol}) loss {row['val_loss']:.4f}  mIoU {row['val_mean_iou']:.4f}"
    return f"{text}  |  {row['train_seconds']:.1f} s"


def _inference(options: argparse.Namespace, experiment: Experiment):
    """Return the `nnti.inference.image.Inference` that the options ask for, or None where they ask for nothing."""
    from nnti.inference.image import Inference

    if options.crop_size is not None and not options.sliding:
        raise SettingError(f"--crop-size {options.crop_size} is the side of the windows; give --sliding as well")
    if not (options.sliding or options.scales or options.flip):
        return None
    crop_size = experiment.crop_size if options.crop_size is None else options.crop_size
    window = {"protocol": "sliding", "crop_size": crop_size} if options.sliding else {}
    return Inference(**window, scales=tuple(options.scales or (1.0,)), flip=options.flip)


def _print_scores(results) -> None:
    from nnti.inference.image import Inference
    from nnti.metrics import METRICS

    for result in results:
        shown = "  ".join(f"{title} {result[name]:.4f}" for name, title in METRICS.items() if result[name] is not None)
        how = f", {Inference(**result['inference'])}" if "inference" in result else ""
        print(f"{result['protocol']:6} protocol{how}: loss {result['loss']:.4f}  {shown}")
