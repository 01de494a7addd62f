"""Published numbers that stand beside a study's own. Sources are named with each."""

from app.studies.results import PaperRow

_PAPER = "arXiv 2410.08847, Table 1"

SINGLE_PAIR = [
    PaperRow(label=label, value=value, source=_PAPER)
    for label, value in (
        ("OLMo-1B, Yes over No", "0.69 (0.96 → 0.27)"),
        ("OLMo-1B, No over Never", "0.84 (0.85 → 0.01), gained by Yes"),
        ("Gemma-2B, Yes over No", "0.22, gained by Yes"),
        ("Gemma-2B, No over Never", "0.21, gained by Yes, Yeah"),
        ("Llama-3-8B, Yes over No", "0.96"),
        ("Llama-3-8B, Sure over Yes", "0.59"),
    )
]
"""Mean largest drawdown of the preferred token's probability."""

_GATE = "Gate-DPO's benchmark, Pythia-410M on hh helpful"
REMEDY_BENCH = [
    PaperRow(label=label, value=f"{preferred} / {dispreferred} / {others} nats", source=_GATE)
    for label, preferred, dispreferred, others in (
        ("dpo: y+ / y− / others", "−11.90", "−26.35", "−27.55"),
        ("ipo", "−0.95", "−9.43", "−8.55"),
        ("cal_dpo", "+1.03", "−6.74", "−3.02"),
        ("dpo_shift", "−10.60", "−25.40", "−27.85"),
    )
]
"""Changes of log-probability."""

_FIGURE = "arXiv 2410.08847, Figure 3"
_REPLICATION = "an independent replication, Gemma-2B-IT"
UNALIGNMENT = [
    # A narrow table must not part a number from its unit.
    PaperRow(label=label, value=value.replace(" %", "\u00a0%"), source=source)
    for label, value, source in (
        ("Gemma-2B-IT, train prompts: before → after dpo", "80.5 % → 54.8 %", _FIGURE),
        ("Llama-3-8B-Instruct, train prompts: before → after dpo", "74.4 % → 33.4 %", _FIGURE),
        ("dpo", "38.4 %", _REPLICATION),
        ("dpo + SFT term", "78.1 %", _REPLICATION),
        ("gold pairs", "87.8 %", _REPLICATION),
        ("filtered by ln-CHES", "99.5 %", _REPLICATION),
    )
]
"""Shares of prompts that are refused."""
