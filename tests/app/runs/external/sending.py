"""What a trainer elsewhere sends: records as the library writes them, and the calls."""

import gzip
import json
import uuid
from typing import Any

from fastapi.testclient import TestClient

from chesboard.record_json import to_json
from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    LedgerEntry,
    LedgerRecord,
    MetricRecord,
    ProbeRecord,
    ProbeStepRecord,
    Record,
)

CONFIG: dict[str, Any] = {
    "trainer": "trl.DPOTrainer",
    "versions": {"trl": "1.16.0", "transformers": "5.23.0"},
    "objective": "dpo",
    "beta": 0.1,
    "max_steps": 20,
    "token_groups": {"negative": ["No"], "affirmative": ["Yes"]},
    "opposite_groups": [["negative", "affirmative"]],
    "a_setting_of_its_own": [1, 2],
}


def begin(http: TestClient, key: str | None = None, **more: Any) -> dict[str, Any]:
    """A new external run, as its trainer is told of it."""
    body = {"kind": "external", "key": key or uuid.uuid4().hex, "config": CONFIG, **more}
    answer = http.post("/api/v1/runs", json=body)
    assert answer.status_code in (200, 201), answer.text
    made: dict[str, Any] = answer.json()
    return made


def metric(step: int, loss: float = 0.5, **more: Any) -> MetricRecord:
    values = dict.fromkeys(
        (
            *("margin", "preferred_logprob", "dispreferred_logprob", "preferred_change"),
            *("dispreferred_change", "displaced_fraction", "accuracy", "grad_norm"),
            *("learning_rate", "tokens_per_second", "tokens_seen"),
        )
    )
    return MetricRecord(step=step, loss=loss, **{**values, **more})


def probe(pair: int = 0) -> ProbeRecord:
    """“No” over “Never”, with “Yes” in the opposite group."""
    return ProbeRecord(
        pair=pair,
        prompt="Is it?",
        preferred_tokens=["No", "</s>"],
        dispreferred_tokens=["Never", "</s>"],
        fork_position=0,
        groups=[
            {"name": "negative", "tokens": ["No"]},
            {"name": "affirmative", "tokens": ["Yes"]},
        ],
        watched=[
            {"token_id": 1, "token": "No", "initial": 0.5, "predicted": None},
            {"token_id": 2, "token": "Yes", "initial": 0.1, "predicted": None},
        ],
    )


def probe_step(step: int, pair: int = 0, *, moved: float | None = None) -> ProbeStepRecord:
    """At each step 0.02 goes from “No” and “Never” to “Yes”."""
    moved = 0.02 * step if moved is None else moved
    gainers = [LedgerEntry(2, "Yes", 0.1, 0.1 + moved, moved, None)] if moved else []
    losers = [LedgerEntry(1, "No", 0.5, 0.5 - moved / 2, -moved / 2, None)] if moved else []
    return ProbeStepRecord(
        pair=pair,
        step=step,
        preferred_logprobs=[-0.7 - 3 * moved, -0.1],
        dispreferred_logprobs=[-1.6 - 9 * moved, -0.1],
        preferred_change=-3 * moved,
        dispreferred_change=-9 * moved,
        onset_step=None,
        preferred_prob=0.5 - moved / 2,
        dispreferred_prob=0.2 - moved / 2,
        other_prob=0.3 + moved,
        group_probs=[0.5 - moved / 2, 0.1 + moved],
        ledger=LedgerRecord(
            [0.5 - moved / 2, 0.1 + moved],
            gainers,
            losers,
            rest_change=-moved / 2,
            moved_mass=moved,
        ),
    )


def steps(first: int, last: int) -> list[Record]:
    """What is recorded of these steps, with the probe before them."""
    records: list[Record] = [probe()]
    for step in range(first, last + 1):
        records += [metric(step), probe_step(step), answer(step)]
    return records


def answer(step: int) -> AnswerRecord:
    return AnswerRecord(0, step, f"answer {step}", True)


def final(pair: int = 0) -> FinalRecord:
    return FinalRecord(pair, -1.0, -2.0, -3.0, -9.0)


def send(
    http: TestClient, run_id: int, records: list[Any], *, attempt: int = 1, packed: bool = True
) -> Any:
    """The response to a batch; records are sent as they are where they are no records."""
    sent = [one if isinstance(one, dict) else to_json(one) for one in records]
    body = json.dumps({"attempt": attempt, "records": sent}).encode()
    headers = {"content-type": "application/json"}
    if packed:
        body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
    return http.post(f"/api/v1/runs/{run_id}/records", content=body, headers=headers)
