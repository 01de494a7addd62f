"""CSV writing of every export, with a guard against formula injection."""

import csv
import io
from collections.abc import Iterable

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet evaluates a text cell that begins with one of these as a formula."""


def guard_formula(cell: object) -> object:
    """Prefix text that a spreadsheet would evaluate as a formula with an apostrophe.

    Numbers are returned as they are: a negative one is not a formula.
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_SIGNS) else cell


def csv_line(values: Iterable[object]) -> str:
    """One guarded line of CSV, newline included; None becomes an empty field."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(guard_formula, values))
    return line.getvalue()
