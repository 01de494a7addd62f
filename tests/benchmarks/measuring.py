"""Measurements that take turns, each case in a process of its own, and rows of the table."""

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np


class WrongFigureError(Exception):
    """A figure that is wrong rather than slow. Raised after the rows that show it."""


@dataclass(frozen=True)
class Measured:
    seconds: float
    values: list[float]
    peak_mib: float
    """Of the whole process (CPU) or of the GPU's memory."""
    probe_share: float = 0.0
    """Seconds spent at probes over all other seconds."""
    parameters: int = 0
    tokens: int = 0
    """Input tokens of all rows, each pair's prompt once."""
    least_seconds: float = 0.0
    """Of the products of matrices alone, where that is known."""


@dataclass(frozen=True)
class Row:
    """A line of the table. `ratio` is against the row that the section names; `floor` likewise."""

    section: str
    workload: str
    pairs: int
    case: str
    seconds: float
    ratio: str
    floor: str
    peak_mib: float
    agreement: str

    def cells(self) -> tuple[str, ...]:
        return (
            self.section,
            self.workload,
            str(self.pairs),
            self.case,
            f"{self.seconds:.1f}",
            self.ratio,
            self.floor,
            f"{self.peak_mib:.0f}",
            self.agreement,
        )


def against(base: float, seconds: float, floor: float | None) -> tuple[str, str]:
    """The ratio and its floor, marked where it is missed."""
    ratio = base / seconds
    if floor is None:
        return f"{ratio:.2f}", ""
    return f"{ratio:.2f}", f"{floor}" if ratio >= floor else f"{floor}, missed"


def measure(workload: str, count: int, case: str, model: str) -> Measured:
    """Raises SystemExit with the end of its output where the measurement failed."""
    command = [sys.executable, "-m", "tests.benchmarks.case", workload, str(count), case, model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def compare(
    workload: str, count: int, cases: list[str], model: str, rounds: int
) -> dict[str, Measured]:
    """The best round of each case; the cases take turns."""
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for case in cases:
            measured = measure(workload, count, case, model)
            if case not in best or measured.seconds < best[case].seconds:
                best[case] = measured
            print(f"  {workload}, {case}: {measured.seconds:.1f} s", flush=True)
    return best


def largest_relative_difference(ours: list[float], theirs: list[float]) -> float:
    a, b = np.array(ours), np.array(theirs)
    return float((np.abs(a - b) / np.maximum(np.abs(b), 1e-6)).max())


def largest_difference_of_median(ours: list[float], theirs: list[float]) -> float:
    a, b = np.array(ours), np.array(theirs)
    return float(np.abs(a - b).max() / np.median(np.abs(b)))


def spearman(ours: list[float], theirs: list[float]) -> float:
    def ranks(values: list[float]) -> np.ndarray:
        return np.argsort(np.argsort(values)).astype(float)

    return float(np.corrcoef(ranks(ours), ranks(theirs))[0, 1])
