"""Command line: `python -m nnti COMMAND`, the same functions that the notebooks call."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from nnti import commands
from nnti.config import SettingError
from nnti.data import DataError
from nnti.faults import MachineError
from nnti.models import WeightsError
from nnti.records import RunError

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

    command = _command(parsers, commands.train, "train an experiment, or go on with it")
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

    command = _command(parsers, commands.evaluate, "measure a run's best checkpoint")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument("--protocol", choices=("report", "full", "both"), help="default: both; full with what follows")
    _add_inference(command)
    command.add_argument("--split", help="default: the run's validation split")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the results, and what they were measured on")
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(parsers, commands.predict, "segment your own pictures with a run's best checkpoint")
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

    command = _command(parsers, commands.export, "write a trained network as ONNX or as a torch.export program")
    command.add_argument("run", metavar="RUN", help="a run folder, or its name in runs/ or report/runs/")
    command.add_argument(
        "--format",
        choices=("onnx", "torch"),
        default="onnx",
        help="onnx (default): .onnx; torch: .pt2, for torch.export",
    )
    command.add_argument("--output", type=Path, default=Path("exports"), metavar="DIR", help="default: exports")

    command = _command(parsers, commands.figures, "draw the figures of runs, and the architectures, as PNG and PDF")
    command.add_argument("runs", nargs="*", metavar="RUN", help="default: every run in runs/")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: figures/")

    command = _command(parsers, commands.analyze, "count where runs err: classes, images, boundaries, void")
    command.add_argument("runs", nargs="+", metavar="RUN")
    command.add_argument("--output", type=Path, metavar="DIR", help="of the figures; default: figures/")

    command = _command(parsers, commands.report, "rebuild report/report.pdf, tables and figures from report/runs")
    command.add_argument("runs", nargs="*", metavar="RUN", help="finished runs whose records go to report/runs first")
    command.add_argument(
        "--pictures", action="store_true", help="segment images anew too: takes the data sets and the runs' checkpoints"
    )

    command = _command(parsers, commands.complexity, "measure what networks cost: parameters, operations, time, memory")
    command.add_argument("experiments", nargs="*", metavar="NAME", help="default: the report's three tasks")
    command.add_argument(
        "--size", nargs=2, type=int, default=(512, 512), metavar=("H", "W"), help="image, pixels (default: 512 512)"
    )
    command.add_argument("--no-timing", action="store_true", help="leave the latency out, which takes longest")
    command.add_argument("--output", type=Path, metavar="DIR", help="default: runs/complexity/")
    command.add_argument("--device", default="auto", help="default: auto")

    command = _command(parsers, commands.data, "download a data set, render a miniature, or check the files of one")
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

    command = _command(parsers, commands.experiments, "list the experiments, or explain one")
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
