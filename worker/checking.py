"""What tokenizing shows of a run's pairs: its findings as records, and a check run's summary."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chesboard.findings import FINDINGS
from chesboard.formats.text import sanitize
from chesboard.pairs import Pair, TokenizedPair
from chesboard.records import FindingRecord
from chesboard.reporting import Reporter
from chesboard.scoring import statistics
from chesboard.tallies import Tallies, tally


def report_findings(findings: Sequence[FindingRecord], reporter: Reporter) -> None:
    """Hand findings over to be stored. Details may quote a template's error, whose characters
    PostgreSQL need not be able to store."""
    reporter.put(
        *(
            replace(one, detail=None if one.detail is None else sanitize(one.detail))
            for one in findings
        )
    )


def count_findings(findings: Sequence[FindingRecord]) -> dict[str, int]:
    """Kind → its number of pairs, of the kinds that were found, in the order of their declaration.

    Every run's summary holds it as `findings`; runs of before it was recorded lack it, which is
    how "nothing was found" is told from "nobody looked".
    """
    return counted_kinds(tally(findings))


def counted_kinds(found: Tallies) -> dict[str, int]:
    """The same of tallies."""
    return {kind: found.kinds[kind].count for kind in FINDINGS if kind in found.kinds}


def summarize_check(raw_pairs: Sequence[Pair], pairs: Sequence[TokenizedPair]) -> dict[str, Any]:
    """The summary of a check run: how many pairs there are, and how long, in tokens.

    Lengths are those before truncation, so that their maximum is the limit that cuts nothing; a
    response's end token counts. `left_out_pairs`: those that the model cannot read at all.
    """
    return {
        "pairs": len(raw_pairs),
        "left_out_pairs": len(raw_pairs) - len(pairs),
        "cut_pairs": sum(pair.cut_tokens > 0 for pair in pairs),
        "tokens": {
            "prompt": statistics([len(pair.prompt_ids) + pair.prompt_cut for pair in pairs]),
            "preferred": statistics(
                [len(pair.preferred_ids) + pair.preferred_cut for pair in pairs]
            ),
            "dispreferred": statistics(
                [len(pair.dispreferred_ids) + pair.dispreferred_cut for pair in pairs]
            ),
        },
    }
