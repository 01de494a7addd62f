"""`make bench`: ours and theirs side by side in one run; the tables go to README.md beside this.

Each section is a module (SECTIONS) with COLUMNS, ABOUT and a function `rows`. Where several are
compared, they take turns, and the shortest time of the rounds counts, since whatever else the
machine does can only add to it.
"""

import argparse
import datetime
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from chesboard.cpu.precision import computes_bfloat16
from tests.benchmarks import (
    asking,
    at_size,
    budgets,
    core,
    gpu,
    head,
    ingestion,
    latency,
    long_run,
    preflight,
    probes,
    recording,
    scoring,
    shards,
    streaming,
    training,
    watching,
    watching_outside,
)
from tests.benchmarks.measuring import Row
from tests.benchmarks.starter import starter_folder
from tests.benchmarks.workloads import PUBLIC, SHARED, WORKLOADS
from tests.support import find_chromium

PAGE = Path(__file__).with_name("README.md")

HEADER = """# Benchmarks

Written by `make bench`: every row comes from one run on one machine ({date}, {minutes:.0f}
minutes). `make bench ARGS="--only scoring"` prints a part and writes nothing.

Machine: {machine}; {packages}.
"""


@dataclass(frozen=True)
class Asked:
    workloads: list[str]
    rounds: int


Rows = Iterable[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """rows: the cells of its part of the table `title`, or a sentence on why there are none."""

    title: str
    columns: Sequence[str]
    about: str
    rows: Callable[[Asked], Rows | str]


def _core(rows: Callable[[str, list[str], int], list[Row]]) -> Section:
    def cells(asked: Asked) -> Rows:
        return (row.cells() for row in rows(starter_folder(), asked.workloads, asked.rounds))

    return Section("Scoring and training", core.COLUMNS, core.ABOUT, cells)


def _on_a_screen(_: Asked) -> Rows | str:
    return latency.rows() if find_chromium() else "Not measured: no Chromium is installed."


def _by_budget(_: Asked) -> Rows | str:
    return budgets.rows() if SHARED.is_dir() else "Not measured: the public dialogues are not here."


def _foreseen(_: Asked) -> Rows | str:
    return (
        preflight.rows() if SHARED.is_dir() else "Not measured: the public dialogues are not here."
    )


SECTIONS = {
    "scoring": _core(scoring.rows),
    "training": _core(training.rows),
    "probes": _core(probes.rows),
    "head": _core(head.rows),
    "streaming": _core(streaming.rows),
    "gpu": _core(gpu.rows),
    "shards": Section("Several workers", shards.COLUMNS, shards.ABOUT, lambda _: shards.rows()),
    "watching-outside": Section(
        "Watching outside",
        watching_outside.COLUMNS,
        watching_outside.ABOUT,
        lambda _: watching_outside.rows(),
    ),
    "budgets": Section("Token budgets", budgets.COLUMNS, budgets.ABOUT, _by_budget),
    "preflight": Section("The first step, foreseen", preflight.COLUMNS, preflight.ABOUT, _foreseen),
    "latency": Section("From a step to the screen", latency.COLUMNS, latency.ABOUT, _on_a_screen),
    "watching": Section(
        "Many watchers", watching.COLUMNS, watching.ABOUT, lambda _: watching.rows()
    ),
    "asking": Section("Many requests", asking.COLUMNS, asking.ABOUT, lambda _: asking.rows()),
    "recording": Section(
        "Recording", recording.COLUMNS, recording.ABOUT, lambda _: recording.rows()
    ),
    "long-run": Section(
        "Opening a long run", long_run.COLUMNS, long_run.ABOUT, lambda _: long_run.rows()
    ),
    "at-size": Section(
        "Pages over a large dataset", at_size.COLUMNS, at_size.ABOUT, lambda _: at_size.rows()
    ),
    "ingestion": Section(
        "Large datasets", ingestion.COLUMNS, ingestion.ABOUT, lambda _: ingestion.rows()
    ),
}


def tables(names: Iterable[str], asked: Asked) -> tuple[str, list[str]]:
    """Measures these sections; those of one title share a table. Also what went wrong, by section:
    that is told in the table too, and keeps no other section from being measured."""
    lines: list[str] = []
    failures: list[str] = []
    title = ""
    for name in names:
        section = SECTIONS[name]
        if section.title != title:
            title = section.title
            heading = f"| {' | '.join(section.columns)} |\n|{'---|' * len(section.columns)}"
            lines += ["", f"## {title}", "", section.about, "", heading]
        print(f"{title} …", file=sys.stderr, flush=True)
        try:
            found = section.rows(asked)
            if isinstance(found, str):
                lines[-1] = found
            else:
                # One by one, so that the rows before a failure stay.
                for cells in found:
                    lines.append(f"| {' | '.join(cells)} |")
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failures.append(name)
            lines += ["", f"**Failed** ({name}): {_first_line(error)}"]
            title = ""  # a section after this begins a table of its own
    return "\n".join(lines) + "\n", failures


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def describe_machine() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return (
        f"CPU, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()} "
        f"{'with' if computes_bfloat16() else 'without'} instructions for bfloat16 (AMX: "
        f"{'yes' if torch.cpu.get_capabilities().get('amx_bf16') else 'no'}), "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", choices=SECTIONS, help="one section; nothing is written")
    parser.add_argument("--workload", choices=WORKLOADS, help="one workload only")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--threads",
        type=int,
        help="for torch. With 1, seconds of scoring and training are those of the processor, "
        "which other work on the machine does not lengthen; else those on the wall",
    )
    wanted = parser.parse_args()
    if wanted.threads:
        os.environ["OMP_NUM_THREADS"] = str(wanted.threads)  # of the measuring processes
        torch.set_num_threads(wanted.threads)
    workloads = [wanted.workload] if wanted.workload else list(WORKLOADS)
    if not SHARED.is_dir():
        workloads = [name for name in workloads if name not in PUBLIC]
    # What is measured may set the number of threads.
    started, machine = time.monotonic(), describe_machine()
    measured, failures = tables(
        [wanted.only] if wanted.only else SECTIONS, Asked(workloads, wanted.rounds)
    )
    packages = ("torch", "transformers", "trl", "mlflow-skinny")
    text = (
        HEADER.format(
            minutes=(time.monotonic() - started) / 60,
            date=datetime.datetime.now(datetime.UTC).date(),
            machine=machine,
            packages=f"Python {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in packages),
        )
        + measured
    )
    if wanted.only is None and wanted.workload is None:
        PAGE.write_text(text, encoding="utf-8")
    print(text)
    if failures:
        raise SystemExit(f"Failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
