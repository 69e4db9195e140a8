"""From records to report.pdf: tables, figures, README's blocks, Typst."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from nnti.complexity import read_complexity, with_times, write_complexity
from nnti.figures import (
    ablation_dots,
    curves,
    per_class_iou,
    render_architectures,
    render_run,
    save,
    save_complexity,
)
from nnti.paths import home
from nnti.records import ANALYSIS, EXPERIMENT, HISTORY, RECORD, RunError, RunFolder
from nnti.report.ablations import ABLATIONS, ablation_scores
from nnti.report.pictures import THREE, render_pictures
from nnti.report.readme import fill_readme
from nnti.report.tables import CAMVID, TASKS, report_tables, write_tables

__all__ = ["build_report", "report_dir", "take_run"]

SOURCE, PDF = "report.typ", "report.pdf"
COMPARED = {"R2U-Net": "r2unet_camvid_short", "PSPNet": "pspnet_camvid_short"}  # the report's figure 5
ABLATION_TITLES = {
    "augmentation": "ENet on CamVid with and without augmentation: validation mean IoU",
    "power": "ENet on CamVid, power of the poly schedule: validation mean IoU",
    "normalization": "R2U-Net, batch normalisation of the recurrent steps: mean IoU on 32 training images",
    "protocol": "CamVid, one checkpoint by both protocols: validation mean IoU",
}


def report_dir() -> Path:
    """Return the checkout's report/ folder."""
    return home() / "report"


def take_run(run: RunFolder) -> list[Path]:
    """Copy what a finished run measured to report/runs/, without its checkpoints."""
    if not run.finished:
        raise RunError(f"{run.path} is not finished; the report takes finished runs only: train it to its end first")
    folder = report_dir() / "runs" / run.path.resolve().name
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in (EXPERIMENT, HISTORY, RECORD, ANALYSIS):
        if (run.path / name).is_file() and run.path.resolve() != folder.resolve():
            paths.append(Path(shutil.copyfile(run.path / name, folder / name)))
    return paths


def build_report(figures: str | Path | None = None, pictures: bool = False) -> list[Path]:
    """Draw the figures, write the tables and set report.pdf, from report/runs and report/complexity alone.

    The same records give the same bytes.

    Args:
        figures: folder of the figures; None: figures/. The PDF always shows those in figures/.
        pictures: draw segmented images too, which takes data sets and checkpoints; see `nnti.report.pictures`. Without,
            the files that are there stay as they are.
    """
    folder = report_dir()
    if not (folder / SOURCE).is_file():
        raise RunError(f"{folder / SOURCE} does not exist; build the report in a checkout of the project")
    runs = {path.parent.name: RunFolder(path.parent) for path in sorted(folder.glob(f"runs/*/{RECORD}"))}
    costs = with_times(read_complexity(folder / "complexity"), {name: run.record() for name, run in runs.items()})
    paths = [write_complexity(costs, folder / "complexity"), *save_complexity(costs, folder / "complexity")]
    tables = report_tables(runs, costs)
    paths += write_tables(tables, folder / "tables")
    paths += fill_readme(home() / "README.md", tables)
    shown = {name: run for name, run in runs.items() if name in (*TASKS, *CAMVID)}
    for run in shown.values():
        paths += render_run(run, figures, progress=False, pictures=False)
    paths += _comparisons(runs, figures)
    paths += render_architectures(figures)
    if pictures:
        paths += render_pictures(shown, figures)
    return [*paths, set_pdf(folder)]


def set_pdf(folder: Path) -> Path:
    """Set report.pdf from report.typ; every font comes with Typst, so that all machines set the same pages."""
    import typst

    path = folder / PDF
    try:
        typst.compile(str(folder / SOURCE), output=str(path), root=str(home()), ignore_system_fonts=True, timestamp=0)
    except typst.TypstError as error:
        raise RunError(f"{folder / SOURCE} cannot be set: {error}") from error
    return path


def _comparisons(runs: dict[str, RunFolder], folder: str | Path | None) -> list[Path]:
    """Draw what shows several runs: Tasks II and III beside each other, and the ablations."""
    paths = []
    compared = {title: runs[name] for title, name in COMPARED.items() if name in runs}
    if compared:
        histories = {title: run.history() for title, run in compared.items()}
        title = (
            f"{' and '.join(COMPARED.values())}\n{_data(list(compared.values()))}, validation by the report protocol"
        )
        paths += save(curves(histories, title), "task2_task3_curves", folder)
    records = {name: run.record() for name, run in runs.items()}
    classes = {title: records[name] for title, name in THREE.items() if name in records}
    if classes:
        results = {title: record["validation"]["full"]["iou_per_class"] for title, record in classes.items()}
        title = f"{_data([runs[THREE[title]] for title in classes])}, full protocol"
        names = next(iter(classes.values()))["data"]["class_names"]
        paths += save(per_class_iou(results, names, title), "camvid_per_class_iou", folder)
    for name in ABLATIONS:
        scores = ablation_scores(name, records)
        paths += save(ablation_dots(scores, ABLATION_TITLES[name]), f"ablation_{name}", folder)
    return paths


def _data(runs: Sequence[RunFolder]) -> str:
    """Say what runs were trained and validated on."""
    data = [run.record()["data"] for run in runs]
    texts = [f"{one['title']}, {one['train_images']} train / {one['val_images']} val images" for one in data]
    return " and ".join(dict.fromkeys(texts))
