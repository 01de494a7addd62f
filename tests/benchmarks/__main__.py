"""`make bench`: ours and theirs side by side in one run; the table goes to README.md beside this.

Each measurement is a process of its own. Ours and theirs take turns, and the shortest time of
the rounds counts, since whatever else the machine does can only add to it. A section of the
table is a module with a function `rows`, listed in SECTIONS.
"""

import argparse
import datetime
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from tests.benchmarks import gpu, probes, scoring, training
from tests.benchmarks.case import BATCH_TOKENS
from tests.benchmarks.starter import starter_folder
from tests.benchmarks.workloads import BATCH_SIZES, SHARED

TABLE = Path(__file__).with_name("README.md")
SECTIONS = {"scoring": scoring, "training": training, "probes": probes, "gpu": gpu}
PUBLIC = ("persona", "dialogues")

HEADER = """# Benchmarks

Written by `make bench`: every row comes from one run on one machine ({date}, {minutes:.0f}
minutes). Seconds are the best of {rounds} round(s), in which the cases took turns, each in a
process of its own{clock}. `make bench ARGS="--only scoring"` prints a part and writes nothing.

Machine: {machine}. Model: SmolLM2-135M-Instruct. Token budget {budget}. Training
steps of {batch} pairs.

- *baseline* scores one pair at a time with two full forwards and all logits, as the paper's script
  does. *trl* is TRL's DPOTrainer on the same token ids in the same order, AdamW, its reference
  log-probabilities precomputed, that pass included on both sides.
- *ratio*: how many times faster than the other side in float32 (or as the case says); *floor*: what
  the project asks for. Those for bfloat16 were set on a processor that has units for it (AMX);
  one without them computes it at half the speed of float32.
- *peak* is the resident memory of the whole process, Python and libraries included (on a GPU: the
  GPU's memory).
- *agreement*: the largest relative difference of the values (CHES, or each step's loss) from those
  of the other side, or Spearman's rank correlation with them.
- *probes*: seconds at the probes over all other seconds of the same run.

| what | workload | pairs | case | seconds | ratio | floor | peak MiB | agreement |
|---|---|---|---|---|---|---|---|---|
"""


def computes_bfloat16() -> bool:
    """Whether the processor has units for it, on which the floors for bfloat16 were set."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def machine() -> str:
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    else:
        device = (
            f"CPU, {torch.get_num_threads()} threads, "
            f"{torch.backends.cpu.get_cpu_capability()} "
            f"{'with' if computes_bfloat16() else 'without'} AMX, "
            f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
        )
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "trl"))
    return f"{device}; Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--only", choices=SECTIONS, help="one section; the table is not written")
    parser.add_argument("--workload", choices=[*PUBLIC, "long prompts"], help="one workload only")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--threads",
        type=int,
        help="for torch. With 1, seconds are those of the processor, which other work on the "
        "machine does not lengthen; else those on the wall",
    )
    wanted = parser.parse_args()
    if wanted.threads:
        os.environ["OMP_NUM_THREADS"] = str(wanted.threads)  # of the measuring processes
        torch.set_num_threads(wanted.threads)
    workloads = [wanted.workload] if wanted.workload else [*PUBLIC, "long prompts"]
    if not SHARED.is_dir():
        workloads = [name for name in workloads if name not in PUBLIC]
    started, model = time.monotonic(), starter_folder()
    lines = []
    for name, section in SECTIONS.items():
        if wanted.only in (None, name):
            lines += [row.line() for row in section.rows(model, workloads, wanted.rounds)]
    text = HEADER.format(
        minutes=(time.monotonic() - started) / 60,
        date=datetime.datetime.now(datetime.UTC).date(),
        rounds=wanted.rounds,
        clock=", on one thread, as seconds of the processor" if wanted.threads == 1 else "",
        machine=machine(),
        budget=BATCH_TOKENS,
        batch=", ".join(f"{BATCH_SIZES[name]} ({name})" for name in workloads),
    )
    text += "\n".join(lines) + "\n"
    if wanted.only is None and wanted.workload is None:
        TABLE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
