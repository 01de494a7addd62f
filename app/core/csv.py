"""CSV of the web side's downloads: the library's writer, under the web side's name for it."""

from chesboard.formats.csv_lines import FORMULA_SIGNS, csv_line, guard_formula

__all__ = ["FORMULA_SIGNS", "csv_line", "guard_formula"]
