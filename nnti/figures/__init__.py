"""Figures and tables from run records and data sets; `save` writes a figure as PNG and PDF, `keep` shows it too.

Every figure takes a `title`, which says what is shown: model, data, how many images, by which protocol. A `dataset`
gives colours and names of classes.
"""

from nnti.figures.classes import class_frequencies, per_class_iou
from nnti.figures.complexity import complexity_markdown, complexity_notes, complexity_table, save_complexity
from nnti.figures.curves import curves, learning_rate, poly_schedule
from nnti.figures.errors import confusion_heatmap, error_distances
from nnti.figures.insides import attended_cells, feature_steps, pooled_maps
from nnti.figures.networks import architecture_figure
from nnti.figures.pictures import augmentation_gallery, colorize, overlay, triptychs
from nnti.figures.recurrence import recurrence_figure
from nnti.figures.run import best_and_worst, comparison, render_architectures, render_run, run_title, run_triptychs
from nnti.figures.style import folder_for, keep, save
from nnti.figures.tables import as_markdown, health_table, results_table
