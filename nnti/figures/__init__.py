"""Figures and tables from run records and data sets; `save` writes a figure as PNG and PDF."""

from nnti.figures.classes import class_frequencies, per_class_iou
from nnti.figures.masks import colorize, overlay
from nnti.figures.output import folder_for, save
from nnti.figures.pictures import augmentation_gallery, triptychs
from nnti.figures.run import render_run, run_title, run_triptychs
from nnti.figures.tables import markdown, results_table
from nnti.figures.training import curves, learning_rate, poly_schedule

__all__ = [
    "augmentation_gallery",
    "class_frequencies",
    "colorize",
    "curves",
    "folder_for",
    "learning_rate",
    "markdown",
    "overlay",
    "per_class_iou",
    "poly_schedule",
    "render_run",
    "results_table",
    "run_title",
    "run_triptychs",
    "save",
    "triptychs",
]
