"""Command line: `python -m nnti COMMAND`, the same functions that the notebooks call."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from nnti.config import Experiment, SettingError, parse_setting
from nnti.data import DataError
from nnti.models import WeightsError
from nnti.records import RunError, find_run, list_runs

FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 1 after an error that the message explains (2: wrong usage)."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (SettingError, DataError, RunError, WeightsError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "\ninterrupted; every finished epoch is saved, and the same command goes on after the last", file=sys.stderr
        )
        return INTERRUPTED
    return 0


def train(options: argparse.Namespace) -> None:
    """Train an experiment and print one line per validation."""
    from nnti.train import fit

    changes = dict(parse_setting(text) for text in options.set)
    experiment = Experiment.load(options.experiment).replace(**changes)
    run = fit(experiment, options.run_dir, restart=options.restart, progress=not options.quiet)
    for row in run:
        print(_line(row, experiment), flush=True)
    record = run.run.record()
    print(f"{run.run.path}: best epoch {record['best_epoch']}")
    _print_scores(record["validation"].values())


def evaluate(options: argparse.Namespace) -> None:
    """Measure a run's best checkpoint on a split."""
    from nnti.device import resolve_device
    from nnti.evaluate import evaluate as measure
    from nnti.loaders import load_split
    from nnti.losses import CrossEntropy
    from nnti.records import load_model

    run = find_run(options.run)
    experiment = run.experiment()
    model, checkpoint = load_model(run.best, resolve_device(options.device))
    dataset = load_split(experiment, options.split or experiment.val_split, experiment.val_limit)
    protocols = ("report", "full") if options.protocol == "both" else (options.protocol,)
    loss = CrossEntropy(checkpoint["class_weights"], dataset.ignore_index)
    print(f"{run.path} on {dataset.title} {dataset.split}, {len(dataset)} images")
    _print_scores(measure(model, experiment, dataset, protocol, loss, not options.quiet) for protocol in protocols)


def predict(options: argparse.Namespace) -> None:
    """Segment image files with a run's best checkpoint."""
    from nnti.device import resolve_device
    from nnti.predict import predict_files
    from nnti.records import load_model

    model, checkpoint = load_model(find_run(options.run).best, resolve_device(options.device))
    for path in predict_files(model, checkpoint, options.images, options.output):
        print(path)


def figures(options: argparse.Namespace) -> None:
    """Draw every figure that the files of the named runs (default: all) allow."""
    from nnti.figures import render_run

    names = options.runs or list_runs()
    if not names:
        raise RunError("there is no run to draw yet; train one: python -m nnti train enet_voc_miniature")
    for name in names:
        for path in render_run(find_run(name), options.output, progress=not options.quiet):
            print(path)


def data(options: argparse.Namespace) -> None:
    """Download a data set, or render a miniature."""
    from nnti.data import load_dataset
    from nnti.data.download import download

    if options.name == "miniature":
        print(load_dataset("voc_miniature", "train").root)
    else:
        print(download(options.name, options.root))


def experiments(options: argparse.Namespace) -> None:
    """List the experiments that ship with the package, or print one with all its settings."""
    for name in [options.name] if options.name else Experiment.names():
        experiment = Experiment.load(name)
        if options.name:
            width = max(len(key) for key in experiment.to_dict())
            for key, value in experiment.to_dict().items():
                print(f"{key:{width}}  {value!r:24}  {Experiment.__dataclass_fields__[key].metadata['help']}")
        else:
            augmented = "augmentation" if experiment.augment else "no augmentation"
            print(
                f"{name:26} {experiment.model} on {experiment.dataset} ({experiment.train_split}), "
                f"{experiment.epochs} epochs, {experiment.optimizer}, {augmented}"
            )


def _line(row: dict[str, float], experiment: Experiment) -> str:
    text = f"epoch {row['epoch']}/{experiment.epochs}"
    text += f"  train loss {row['train_loss']:.4f}  mIoU {row['train_mean_iou']:.4f}"
    if row["val_mean_iou"] == row["val_mean_iou"]:
        text += f"  |  val ({experiment.protocol}) loss {row['val_loss']:.4f}  mIoU {row['val_mean_iou']:.4f}"
    return f"{text}  |  {row['train_seconds']:.1f} s"


def _print_scores(results) -> None:
    from nnti.metrics import METRICS

    for result in results:
        shown = "  ".join(f"{title} {result[name]:.4f}" for name, title in METRICS.items() if result[name] is not None)
        print(f"{result['protocol']:6} protocol: loss {result['loss']:.4f}  {shown}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nnti", description="Train, measure and show segmentation networks."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _command(commands, train, "train an experiment, or go on with it")
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

    command = _command(commands, evaluate, "measure a run's best checkpoint")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument("--protocol", choices=("report", "full", "both"), default="both", help="default: both")
    command.add_argument("--split", help="default: the run's validation split")
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(commands, predict, "segment your own pictures with a run's best checkpoint")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    command.add_argument("--output", type=Path, default=Path("predictions"), metavar="DIR", help="default: predictions")
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(commands, figures, "draw the figures of runs as PNG and PDF")
    command.add_argument("runs", nargs="*", metavar="RUN", help="default: every run in runs/ and report/runs/")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: figures/")

    command = _command(commands, data, "download a data set, or render the miniature")
    command.add_argument("name", choices=("voc", "sbd", "camvid", "miniature"), help="which one")
    command.add_argument("--root", type=Path, metavar="DIR", help="default: the first folder of $NNTI_DATA, else data/")

    command = _command(commands, experiments, "list the experiments, or explain one")
    command.add_argument("name", nargs="?", metavar="NAME", help="explain this one, setting by setting")
    return parser


def _command(commands, function, help: str) -> argparse.ArgumentParser:
    command = commands.add_parser(function.__name__, help=help, description=help)
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    command.set_defaults(command=function)
    return command


if __name__ == "__main__":
    sys.exit(main())
