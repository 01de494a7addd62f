"""A study's tables as CSV, and its report: one HTML file that needs no server."""

from collections.abc import Iterator, Sequence

from app.core.csv import csv_line
from app.studies.results import CellRun, Result

SPREAD = ("mean", "sd", "n", "low", "high")


def export_table(result: Result, number: int) -> Iterator[str]:
    """Lines of CSV, header first: of each number its mean, deviation, count and range, its
    interval where it has one, and the runs behind the cell. number: of the table, from 0."""
    table = result.tables[number]
    is_number = {
        column.key: any(column.key in cell.numbers for cell in table.cells)
        for column in table.columns
    }
    has_interval = {
        column.key: any(column.key in cell.intervals for cell in table.cells)
        for column in table.columns
    }
    header = ["cell"]
    for column in table.columns:
        header += (
            [f"{column.key}_{part}" for part in SPREAD] if is_number[column.key] else [column.key]
        )
        if has_interval[column.key]:
            header += [f"{column.key}_interval_low", f"{column.key}_interval_high"]
    has_answers = any(cell.answers for cell in table.cells)
    yield csv_line([*header, "runs", *(["answers"] if has_answers else [])])
    for cell in table.cells:
        line: list[object] = [cell.label]
        for column in table.columns:
            if not is_number[column.key]:
                line.append(cell.texts.get(column.key, ""))
                continue
            spread = cell.numbers.get(column.key)
            line += [getattr(spread, part) if spread else None for part in SPREAD]
            if has_interval[column.key]:
                interval = cell.intervals.get(column.key)
                line += [interval.low, interval.high] if interval else [None, None]
        yield csv_line([*line, _ids(cell.runs), *([_ids(cell.answers)] if has_answers else [])])


def _ids(runs: Sequence[CellRun]) -> str:
    return " ".join(str(run.run_id) for run in runs)
