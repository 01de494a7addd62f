"""Decides how a CSV table is written, by what its first lines give when they are read that way."""

import re
from collections.abc import Iterator

from chesboard.formats.csv_records import Broken, Dialect, Lines, Records, has_lone_backslash

SAMPLE_CHARACTERS = 256 << 10
SHARE_WRAPPED = 0.5
"""Where more of the lines than this have cells in quotation marks, these are quoting."""

BLANK_BEFORE_QUOTE = re.compile(r'[,;|\t] +"')


def choose_dialect(
    lines: list[str],
    delimiter: str,
    width: int,
    *,
    is_header_quoted: bool,
    has_blanks: bool = False,
) -> Dialect:
    """The dialect that breaks the fewest of the lines, which follow the header.

    Doubled quotation marks win a tie. That quotation marks are text is taken for certain only
    where quoting breaks lines, and few cells are wrapped in them.

    width: number of columns.
    has_blanks: whether a blank stands behind each delimiter of the header. Where all lines are
    written so, it is no part of the cells.
    """
    standard = Dialect(delimiter, skips_blanks=has_blanks and _all_have_blanks(lines, delimiter))
    best, fewest = standard, _defects(lines, standard, width)
    if fewest == 0:
        return standard
    wrapped = _wrapped_lines(lines, delimiter)
    # Only a table with tabs has text that is wrapped in quotation marks for no reason of its own.
    may_be_raw = wrapped < fewest or (delimiter == "\t" and wrapped <= SHARE_WRAPPED * len(lines))
    for dialect in _others(lines, delimiter, may_be_raw=may_be_raw and not is_header_quoted):
        defects = _defects(lines, dialect, width)
        if defects < fewest:
            best, fewest = dialect, defects
    return best


def _others(lines: list[str], delimiter: str, *, may_be_raw: bool) -> Iterator[Dialect]:
    has_blanks = any(map(BLANK_BEFORE_QUOTE.search, lines))
    if has_blanks:
        yield Dialect(delimiter, skips_blanks=True)
    if any('\\"' in line for line in lines):
        halves = not any(map(has_lone_backslash, lines))
        yield Dialect(delimiter, "backslash", halves_backslashes=halves)
        if has_blanks:
            yield Dialect(delimiter, "backslash", True, halves)
    if may_be_raw:
        yield Dialect(delimiter, "none")


def _defects(lines: list[str], dialect: Dialect, width: int) -> int:
    """The number of records that are broken, of another width, or may be several rows."""
    defects = 0
    is_cut = sum(map(len, lines)) >= SAMPLE_CHARACTERS
    for record in Records(Lines(iter(lines)), dialect, width):
        if isinstance(record, Broken):
            # A long sample may be cut off in the middle of a quoted cell.
            defects += not (is_cut and record.is_open)
        else:
            defects += len(record.cells) not in (0, width)
            defects += record.is_doubtful and dialect.delimiter == "\t"
    return defects


def has_blanks_behind(line: str, delimiter: str) -> bool:
    """Whether a blank stands behind each delimiter of a line, and there is one."""
    cells = _raw_cells(line, delimiter)[1:]
    return bool(cells) and all(cell.startswith(" ") for cell in cells)


def _all_have_blanks(lines: list[str], delimiter: str) -> bool:
    # A sign within a quoted cell, or a line of one, is no delimiter.
    plain = [line for line in lines if '"' not in line and delimiter in line]
    return all(has_blanks_behind(line, delimiter) for line in plain)


def _wrapped_lines(lines: list[str], delimiter: str) -> int:
    return sum(any(map(is_wrapped, _raw_cells(line, delimiter))) for line in lines)


def _raw_cells(line: str, delimiter: str) -> list[str]:
    return line.rstrip("\r\n").split(delimiter)


def is_wrapped(cell: str) -> bool:
    """Whether a cell stands in quotation marks, as it is in the file."""
    return len(cell) > 1 and cell.startswith('"') and cell.endswith('"')


def begins_with_quote(line: str, delimiter: str) -> bool:
    """Whether a cell of a line does, as it is in the file."""
    return '"' in line and (line.startswith('"') or f'{delimiter}"' in line)


def needlessly_wrapped(line: str, delimiter: str) -> int:
    """The number of cells of a line in quotation marks that nothing in them requires."""
    if '"' not in line:
        return 0
    cells = _raw_cells(line, delimiter)
    return sum(is_wrapped(cell) and '"' not in cell[1:-1] for cell in cells)
