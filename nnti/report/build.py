"""From records to report.pdf: figures, tables, the tables in README and docs, Typst."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from nnti import figures, folders
from nnti.augment import examples
from nnti.data import available
from nnti.errors import RunError
from nnti.figures.complexity import read_complexity, with_times
from nnti.loaders import load_split
from nnti.models.saved import load_model
from nnti.report.tables import MEASURED, PHOTOGRAPHS, TASKS, THREE, report_tables, write_tables
from nnti.training.run_folder import ANALYSIS, EXPERIMENT, HISTORY, RECORD, RunFolder

SOURCE, PDF = "report.typ", "report.pdf"
COMPARED = {title: THREE[title] for title in ("R2U-Net", "PSPNet")}  # the report's figure 5
TRIPTYCHS = [f"{run}_triptychs" for run in (THREE["ENet"], PHOTOGRAPHS)]  # those that the PDF shows
ANALYSED = THREE["PSPNet"]  # in the report's error analysis: the best network
ATTENTION, PICKED = "pspnet_camvid_lite0_attention", ("road", "building", "bicyclist")
ROWS, DRAWS = 3, 6  # of the comparison of networks; of the gallery of augmentation
QUALITY = 88  # of a JPEG
BLOCK = re.compile(r"(<!-- table: (\w+)(?: without (\S+))? -->\n).*?(<!-- end of table -->)", re.DOTALL)


def report_dir() -> Path:
    """Return the checkout's report/ folder."""
    return folders.home() / "report"


def take_run(run: RunFolder) -> list[Path]:
    """Copy what a run measured to report/runs/, without its checkpoints; of a stopped run, its best epoch counts."""
    if not run.record()["best_epoch"]:
        raise RunError(f"{run.path} holds no validated epoch yet; the report needs one: train on, then take it again")
    folder = report_dir() / "runs" / run.path.resolve().name
    if folder.resolve() == run.path.resolve():
        return []
    names = [name for name in (EXPERIMENT, HISTORY, RECORD, ANALYSIS) if (run.path / name).is_file()]
    for name in names:
        folders.write_whole(folder / name, (run.path / name).read_bytes())
    return [folder / name for name in names]


def build_report(pictures: bool = False) -> list[Path]:
    """Draw the figures, write the tables and set report.pdf, from report/runs and report/complexity alone.

    The same records always give the same bytes. `pictures`: also draw segmented images, which needs data sets and
    checkpoints (see `render_pictures`); otherwise existing files are kept.
    """
    folder = report_dir()
    if not (folder / SOURCE).is_file():
        raise RunError(f"{folder / SOURCE} does not exist; build the report in a checkout of the project")
    for written in (folder, folders.figures_dir()):
        folders.make_folder(written)
    runs = {path.parent.name: RunFolder(path.parent) for path in sorted(folder.glob(f"runs/*/{RECORD}"))}
    shown = {name: run for name, run in runs.items() if name in (*TASKS, *MEASURED)}
    # two processes draw the curves while this one traces the networks; forks have PyTorch imported
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), context) as pool:
        jobs = [pool.submit(_render_comparisons, runs)]
        drawn = [run for name, run in shown.items() if name != ATTENTION]  # its curves are those without attention
        jobs += [pool.submit(figures.render_run, run, progress=False, pictures=False) for run in drawn]
        costs = with_times(read_complexity(folder / "complexity"), {name: run.record() for name, run in runs.items()})
        tables = report_tables(runs, costs)
        paths = [*figures.save_complexity(costs, folder / "complexity"), *write_tables(tables, folder / "tables")]
        paths += figures.render_architectures()
        for path in (folders.home() / "README.md", *sorted(folders.home().glob("docs/*.md"))):
            before = path.read_text(encoding="utf-8")
            if (after := filled(before, tables)) != before:
                folders.write_whole(path, after)
                paths.append(path)
        paths += [path for job in jobs for path in job.result()]
    if pictures:
        paths += render_pictures(shown)
    return [*paths, set_pdf(folder)]


def set_pdf(folder: Path) -> Path:
    """Set report.pdf from report.typ; all fonts come with Typst, so every machine sets the same pages."""
    import typst

    source, path = folder / SOURCE, folder / PDF
    try:
        content = typst.compile(source, root=folders.home(), ignore_system_fonts=True, timestamp=0)
    except typst.TypstError as error:
        raise RunError(f"{source} cannot be set: {error}") from error
    folders.write_whole(path, content)
    return path


def filled(text: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """Return a text in which each block `<!-- table: NAME -->` … `<!-- end of table -->` holds the table of that name.

    `<!-- table: NAME without WORD -->` leaves out the rows that contain the word.
    """

    def block(match: re.Match) -> str:
        begin, name, word, end = match.groups()
        if name not in tables:
            raise RunError(f"there is no table '{name}', which a Markdown file asks for; there are {', '.join(tables)}")
        table = tables[name]
        if word:
            table = table[~table.apply(lambda row: row.str.contains(word, regex=False).any(), axis=1)]
        return f"{begin}\n{figures.as_markdown(table)}\n{end}"

    return BLOCK.sub(block, text)


def render_pictures(runs: Mapping[str, RunFolder]) -> list[Path]:
    """Draw the pictures that data sets and checkpoints allow; return the paths of the files written.

    They go to figures/, and as JPEGs for the PDF to report/pictures/. A checkpoint is looked for in the
    report's run folder, then in runs/, where it counts if the record is the same.
    """
    found = {name: _with_checkpoint(run) for name, run in runs.items()}
    found = {name: run for name, run in found.items() if run and _data_is_here(run)}
    paths = []
    for name, run in found.items():
        paths += figures.save(figures.run_triptychs(run, progress=False), f"{name}_triptychs")
        analysis = run.analysis()
        if analysis and name == ANALYSED:
            paths += figures.save(figures.best_and_worst(run, analysis), f"{name}_best_and_worst")
    three = {title: found[name] for title, name in THREE.items() if name in found}
    if len(three) == len(THREE):
        data = three["ENet"].record()["data"]
        title = (
            f"{ROWS} of {data['title']}'s {data['val_images']} validation images, and what the networks make of them"
        )
        paths += figures.save(figures.comparison(three, ROWS, title), "camvid_comparison")
    if "ENet" in three:
        paths += figures.save(_gallery(three["ENet"]), "camvid_augmentation")
    if ATTENTION in found:
        paths += figures.save(_attended(found[ATTENTION]), f"{ATTENTION}_cells")
    shown = [path for path in paths if path.stem in TRIPTYCHS or not path.stem.endswith("_triptychs")]
    return [*paths, *(_light(path) for path in shown if path.suffix == ".png")]


def _with_checkpoint(run: RunFolder) -> RunFolder | None:
    """Return the folder that holds the best checkpoint of a run: this one, or its original in runs/."""
    original = RunFolder(folders.runs_dir() / run.path.name)
    if run.best.is_file():
        return run
    same = original.best.is_file() and original.record() == run.record()
    return original if same else None


def _data_is_here(run: RunFolder) -> bool:
    experiment = run.experiment()
    return available(experiment.dataset, experiment.dataset_arguments)


def _gallery(run: RunFolder):
    """Show one training image as the run's augmentation draws it."""
    experiment = run.experiment()
    dataset = load_split(experiment, experiment.train_split, experiment.train_limit)
    image, label = dataset[0]
    crops = examples(image, label, experiment, range(DRAWS))
    title = f"{dataset.title}: one training image, {DRAWS} draws"
    return figures.augmentation_gallery(image, label, crops, dataset, title)


def _attended(run: RunFolder):
    """Show what a pixel of each of a few classes attends to, in the first validation image."""
    experiment, (model, _) = run.experiment(), load_model(run.best, torch.device("cpu"))
    dataset = load_split(experiment, experiment.val_split)
    image, label = dataset[0]
    pixels = []
    for name in PICKED:
        places = (label == dataset.class_names.index(name)).nonzero().float()
        nearest = (places - places.mean(0)).square().sum(1).argmin()  # the class's pixel in its middle
        pixels.append(tuple(places[nearest].int().tolist()))
    title = f"{dataset.title}, {dataset.image_name(dataset.files[0][0])}: the cells that three pixels attend to"
    return figures.attended_cells(model, image, pixels, title)


def _light(path: Path) -> Path:
    """Write a JPEG of a picture for the PDF, which would be much larger with the PNGs."""
    light = report_dir() / "pictures" / f"{path.stem}.jpg"
    picture = Image.open(path).convert("RGB")
    folders.write_whole(light, lambda file: picture.save(file, "JPEG", quality=QUALITY, optimize=True))
    return light


def _render_comparisons(runs: Mapping[str, RunFolder]) -> list[Path]:
    """Draw comparisons of runs: Tasks II and III side by side, and the classes."""
    paths = []
    compared = {title: runs[name] for title, name in COMPARED.items() if name in runs}
    if compared:
        names = " and ".join(COMPARED[key] for key in compared)
        (protocol,) = {run.experiment().protocol for run in compared.values()}  # else the curves could not be compared
        title = f"{names}\n{_data(compared.values())}, validation by the {protocol} protocol"
        histories = {key: run.history() for key, run in compared.items()}
        paths += figures.save(figures.curves(histories, title), "task2_task3_curves")
    three = {title: runs[name] for title, name in THREE.items() if name in runs and runs[name].finished}
    if three:
        results = {title: run.record()["validation"]["full"]["iou_per_class"] for title, run in three.items()}
        names = next(iter(three.values())).record()["data"]["class_names"]
        figure = figures.per_class_iou(results, names, f"{_data(three.values())}, full protocol")
        paths += figures.save(figure, "camvid_per_class_iou")
    return paths


def _data(runs: Sequence[RunFolder]) -> str:
    data = [run.record()["data"] for run in runs]
    texts = [f"{one['title']}, {one['train_images']} train / {one['val_images']} val images" for one in data]
    return " and ".join(dict.fromkeys(texts))
