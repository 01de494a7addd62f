"""The fault of a dataset that is larger than what a statement has parameters for (65,535)."""

import json
import time

from sqlalchemy.orm import Session

from tests.app.many_pairs import score_pairs
from tests.chaos.blow import Blow
from tests.chaos.models import TINY

PAIRS = 200_000
NAMED = 70_000
STEPS = 5
PROBES = 3
SECONDS = 600.0


def many_pairs(blow: Blow) -> None:
    """Somebody uploads 200,000 pairs, selects 70,000 by name, and trains on them with the pairs of
    the highest CHES as probes; the run of another, and those behind, go on."""
    runs, notes = blow.runs, blow.notes
    blow.times = 1
    began = time.monotonic()
    lines = "\n".join(
        json.dumps(
            {"prompt": f"Is {number} a number?", "chosen": "Yes", "rejected": f"No {number}"}
        )
        for number in range(PAIRS)
    )
    answer = runs.client.post(
        "/datasets", files={"file": ("large.jsonl", lines.encode())}, timeout=SECONDS
    )
    answer.raise_for_status()
    dataset_id = int(answer.json()["id"])
    notes.append(f"stored in {time.monotonic() - began:.0f} s")
    with runs.stack.connection() as connection, Session(connection) as session:
        score_pairs(session, dataset_id, PAIRS)
        session.commit()
    named = list(range(0, 2 * NAMED, 2))
    began = time.monotonic()
    answer = runs.client.post(
        f"/datasets/{dataset_id}/selection", json={"pairs": named}, timeout=SECONDS
    )
    found = answer.json().get("count")
    blow.expect(found == NAMED, f"a selection was answered {answer.status_code}, {found} pairs")
    notes.append(f"selected in {time.monotonic() - began:.1f} s")
    config = {
        "model": TINY,
        "max_steps": STEPS,
        "selection": {"pairs": named},
        "probes": {"strategy": "highest_ches", "count": PROBES},
        "measure_displacement": False,
    }
    run_id = runs.queue("train", dataset_id, config)
    blow.queue_small()
    row = runs.wait(run_id, SECONDS)
    notes.append(f"trained on in {runs.seconds(run_id):.0f} s")
    blow.expect(row["status"] == "succeeded", f"its run {row['status']}: {row['error']}")
    probes = [pair for (pair,) in runs.stack.query(
        "SELECT pair FROM probes WHERE run_id = %s ORDER BY pair DESC", run_id
    )]  # fmt: skip
    blow.expect(probes == named[: -PROBES - 1 : -1], f"its probes were {probes}")
