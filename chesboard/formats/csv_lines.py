"""Lines of CSV for downloads: the one writer that every table uses, guarded against formulas."""

import csv
import io
from collections.abc import Iterable

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a text cell that begins with one of these as a formula."""


def guard_formula(cell: object) -> object:
    """Text that a spreadsheet would run as a formula, made inert by a leading apostrophe.

    Numbers pass as they are: a negative one is no formula.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_SIGNS) else cell


def csv_line(values: Iterable[object]) -> str:
    """One guarded line of CSV, newline included; None becomes an empty field."""
    line = io.StringIO()
    # Before Python 3.13, the writer quotes a bare "\r" only if the line terminator contains it.
    csv.writer(line, lineterminator="\r\n").writerow(map(guard_formula, values))
    return line.getvalue().removesuffix("\r\n") + "\n"
