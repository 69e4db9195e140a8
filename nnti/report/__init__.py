"""The report: tables as CSV and Markdown, figures, and the PDF, all from the committed records."""

from nnti.report.build import build_report, filled, set_pdf, take_run
from nnti.report.tables import report_tables, write_tables
