"""A pre-flight: of each chosen pair, what its first training step alone would do to all of them.

For each pair one backward pass gives the optimizer's first step. The steps of as many pairs as fit
into memory are kept, and one backward pass a response through every pair gives what each of them
does to it: the rows of the influence matrix. The reference is the model as it stands.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from chesboard.configs import PreflightConfig
from chesboard.forward.ready import ready_forward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.preflight.gradients import directions_at_once
from chesboard.preflight.look import Look
from chesboard.reporting import Control, Reporter
from chesboard.scoring import report_same_tokens, report_truncation


def preflight_pairs(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: PreflightConfig,
    reporter: Reporter,
    control: Control,
    already: Mapping[int, float] | None = None,
    offsets: Mapping[int, float] | None = None,
) -> dict[str, Any]:
    """Report a record of each pair that is not in `already`, and return a summary.

    already: pair → its change of log p(y+), of pairs that an earlier attempt at the run finished.
    offsets: odpo's, of every pair.
    The model has float32 weights; they are the same afterwards.

    Raises:
        MemoryError: one pair alone does not fit into the GPU's memory.
        ValueError: no pair is left, or one is longer than the model can read.
        What `control.check()` raises, between two pairs.
    """
    report_same_tokens(pairs, reporter, "take no part")
    pairs = [pair for pair in pairs if not pair.has_same_tokens]
    if not pairs:
        raise ValueError(
            "In every pair both responses are the same tokens to the model, so there is no first "
            "step to look at. Raise max_response_tokens if they differ behind the cut."
        )
    forward = ready_forward(loaded, pairs, reporter)
    report_truncation(pairs, reporter)
    started = time.perf_counter()
    found = dict(already or {})
    look = Look(loaded, forward, pairs, config, reporter, control, offsets or {})
    reporter.phase("pre-flight")
    # A step is a pair's loss followed through one pair, so that the time left is known early.
    reporter.progress(len(found) * len(pairs), len(pairs) ** 2, "steps")
    todo = [pair for pair in pairs if pair.pair not in found]
    most = directions_at_once(loaded)
    while todo:
        together, records = todo[:most], None
        with suppress(torch.OutOfMemoryError):
            records = look.at(together, len(found))
        if records is None:  # outside that block, where a traceback keeps tensors alive
            most = look.fewer(len(together))
            continue
        for record in records:
            reporter.put(record)
            found[record.pair] = record.preferred_change
        todo = todo[len(together) :]
        reporter.progress(len(found) * len(pairs), len(pairs) ** 2, "steps")
    return {
        "pairs": len(pairs),
        "falling": sum(found[pair.pair] < 0 for pair in pairs),
        "forward": forward.kind,
        "seconds": time.perf_counter() - started,
    }
