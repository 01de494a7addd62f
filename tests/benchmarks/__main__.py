"""`make bench`: ours and theirs side by side in one run; the table goes to README.md beside this.

Each measurement is a process of its own. Ours and theirs take turns, and the shortest time of
the rounds counts, since whatever else the machine does can only add to it.
"""

import argparse
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from app.runs.configs import ScoreConfig
from app.settings import Settings
from tests.benchmarks.workloads import SHARED, WORKLOADS
from tests.support import kept_models_folder
from worker.loading import ModelCache

TABLE = Path(__file__).with_name("README.md")

SCORING = {"persona": 96, "dialogues": 32, "long prompts": 6}
TRAINING = {"persona": 48, "dialogues": 24, "long prompts": 8}


@dataclass(frozen=True)
class Measured:
    seconds: float
    values: list[float]
    peak_mib: float


def measure(workload: str, count: int, case: str, model: str) -> Measured:
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


def spearman(ours: list[float], theirs: list[float]) -> float:
    def ranks(values: list[float]) -> np.ndarray:
        return np.argsort(np.argsort(values)).astype(float)

    return float(np.corrcoef(ranks(ours), ranks(theirs))[0, 1])


def scoring_rows(workload: str, model: str, rounds: int) -> list[str]:
    count = SCORING[workload]
    cases = ["baseline float32", "score float32", "score bfloat16"]
    best = compare(workload, count, cases, model, rounds)
    base = best["baseline float32"]
    rows = []
    for case in cases:
        mine = best[case]
        if case == cases[0]:
            agreement = "-"
        elif case.endswith("bfloat16"):
            agreement = f"Spearman {spearman(mine.values, base.values):.5f}"
        else:
            agreement = f"{largest_relative_difference(mine.values, base.values):.1e}"
        rows.append(_row("scoring", workload, count, case, mine, base, agreement))
    return rows


def training_rows(workload: str, model: str, rounds: int) -> list[str]:
    count = TRAINING[workload]
    cases = ["trl float32", "train float32", "trl bfloat16", "train bfloat16"]
    best = compare(workload, count, cases, model, rounds)
    base = best["trl float32"]
    rows = []
    for case in cases:
        mine = best[case]
        agreement = (
            "-"
            if case == cases[0]
            else f"{largest_relative_difference(mine.values, base.values):.1e}"
        )
        rows.append(_row("training", workload, count, case, mine, base, agreement))
    ratio = best["trl bfloat16"].seconds / best["train bfloat16"].seconds
    rows.append(
        f"| training | {workload} | {count} | train against trl, both bfloat16 | "
        f"| {ratio:.2f} | | |"
    )
    return rows


def probe_rows(model: str, rounds: int) -> list[str]:
    count = 96
    best = compare("persona", count, ["train float32", "probes float32"], model, rounds)
    base, probed = best["train float32"], best["probes float32"]
    more = probed.seconds / base.seconds - 1
    return [
        f"| probes, 4 pairs every 10 steps | persona | {count} | against none | "
        f"{probed.seconds:.1f} | {more:+.1%} time | {probed.peak_mib:.0f} | |"
    ]


def _row(
    what: str, workload: str, count: int, case: str, mine: Measured, base: Measured, same: str
) -> str:
    return (
        f"| {what} | {workload} | {count} | {case} | {mine.seconds:.1f} | "
        f"{base.seconds / mine.seconds:.2f} | {mine.peak_mib:.0f} | {same} |"
    )


def machine() -> str:
    device = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    return f"{device}; Python {platform.python_version()}, {packages}"


HEADER = """# Benchmarks

Written by `make bench`: every row of this table comes from one run on one machine. Seconds are
the best of {rounds} rounds, in which the cases took turns, each in a process of its own.

Machine: {machine}. Model: SmolLM2-135M-Instruct.

*baseline* scores one pair at a time with two full forwards and all logits, as the paper's script
does. *trl* is TRL's DPOTrainer on the same token ids, batches of {batch}, AdamW, its
reference log-probabilities precomputed, its pass included on both sides. *ratio* is how many
times faster than the float32 row of the other side. *agreement* is the largest relative
difference of the values (CHES, or each step's loss) from that row.

| what | pairs | count | case | seconds | ratio | peak MiB | agreement |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    # The model as a plain safetensors folder, for both sides.
    settings = Settings(models_dir=kept_models_folder())
    loaded = ModelCache(settings).load(ScoreConfig(device="cpu"))
    model = loaded.model.config._name_or_path
    del loaded
    rows: list[str] = []
    workloads = [name for name in WORKLOADS if SHARED.is_dir() or name == "long prompts"]
    for workload in workloads:
        rows += scoring_rows(workload, model, rounds)
        rows += training_rows(workload, model, rounds)
    if "persona" in workloads:
        rows += probe_rows(model, rounds)
    text = HEADER.format(rounds=rounds, machine=machine(), batch=8) + "\n".join(rows) + "\n"
    TABLE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
