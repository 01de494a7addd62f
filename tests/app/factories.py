"""Factories of rows: functions that insert and flush, with defaults for columns not given.

Other sessions see the rows once the session's transaction has committed.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from app.store.datasets import Dataset, Pair
from app.store.filtering import FilterDecision
from app.store.findings import RunFinding
from app.store.generations import Generation
from app.store.judgments import Judgment
from app.store.probes import PositionStep, Probe, ProbeAnswer, ProbePosition, ProbeStep
from app.store.revisions import next_revision
from app.store.runs import Metric, Run
from app.store.scores import Score
from chesboard.configs import CONFIGS
from chesboard.findings import FindingKind


def dataset(
    session: Session,
    pairs: int | Sequence[tuple[str, str, str]] = 3,
    *,
    name: str = "words",
    **columns: Any,
) -> Dataset:
    """A dataset with its pairs: so many generated ones, or (prompt, preferred, dispreferred)."""
    if isinstance(pairs, int):
        pairs = [(f"Is {number} a number?", "No", "Never") for number in range(pairs)]
    values = {
        "format": "text",
        "source_filename": f"{name}.jsonl",
        "source_sha256": "0" * 64,
        "source_bytes": 100,
        "rejected": 0,
        "errors": [],
        "statistics": {},
    }
    made = Dataset(name=name, pairs=len(pairs), **{**values, **columns})
    session.add(made)
    session.flush()
    session.add_all(
        Pair(
            dataset_id=made.id,
            pair=number,
            prompt=prompt,
            preferred=preferred,
            dispreferred=dispreferred,
            meta={"row": number + 1},
        )
        for number, (prompt, preferred, dispreferred) in enumerate(pairs)
    )
    session.flush()
    return made


def run(
    session: Session,
    dataset_id: int | None,
    *,
    kind: str = "train",
    status: str = "running",
    config: dict[str, Any] | None = None,
    **columns: Any,
) -> Run:
    """A run whose configuration is the kind's defaults with `config` on top."""
    model = {"model": "tiny"} if "model" in CONFIGS[kind].model_fields else {}
    full = CONFIGS[kind].model_validate({**model, **(config or {})})
    values = {"name": f"{kind} run", "revision": 1}
    made = Run(
        kind=kind,
        status=status,
        dataset_id=dataset_id,
        config=full.model_dump(mode="json"),
        **{**values, **columns},
    )
    session.add(made)
    session.flush()
    session.refresh(made)
    return made


def metric(session: Session, run_id: int, step: int, **columns: Any) -> Metric:
    """The metrics of one step, under a new revision unless `revision` is given."""
    values: dict[str, Any] = {
        "loss": 0.69 / (step + 1),
        "margin": 0.1 * step,
        "preferred_logprob": -2.0,
        "dispreferred_logprob": -3.0,
        "learning_rate": 1e-7,
        "tokens_seen": 100 * step,
    }
    revision = columns.pop("revision", None) or next_revision(session, run_id)
    made = session.merge(
        Metric(run_id=run_id, step=step, revision=revision, **{**values, **columns})
    )
    session.flush()
    return made


def probe(session: Session, run_id: int, pair: int = 0, **columns: Any) -> Probe:
    """A watched pair "No" over "Never", with "Yes" watched and in the group 'affirmative'."""
    values: dict[str, Any] = {
        "prompt": "user: Is 0 a number?",
        "preferred_tokens": ["No", "<|im_end|>"],
        "dispreferred_tokens": ["Never", "<|im_end|>"],
        "fork_position": 0,
        "groups": [{"name": "affirmative", "tokens": ["Yes"]}],
        "watched": [
            {"token_id": 10, "token": "No", "initial": 0.5, "predicted": 0.02},
            {"token_id": 12, "token": "Yes", "initial": 0.1, "predicted": 0.07},
        ],
        "predicted": [{"token_id": 12, "token": "Yes", "predicted": 0.07}],
        "positions": {"preferred": [0], "dispreferred": [0]},
    }
    made = Probe(run_id=run_id, pair=pair, **{**values, **columns})
    session.add(made)
    session.flush()
    return made


def probe_step(
    session: Session, run_id: int, pair: int = 0, step: int = 0, **columns: Any
) -> ProbeStep:
    """A recorded step: each step moved 0.01 from "No" and "Never" to "Yes" and the rest.

    The ledger balances. Written under a new revision unless `revision` is given.
    """
    moved = 0.01 * step
    gain, loss = 0.8 * moved, -moved
    values: dict[str, Any] = {
        "preferred_logprobs": [-0.7 - 0.02 * step, -0.1],
        "dispreferred_logprobs": [-1.6 - 0.2 * step, -0.1],
        "preferred_change": -0.02 * step,
        "dispreferred_change": -0.2 * step,
        "onset_step": 1 if step else None,
        "preferred_prob": 0.5 - 0.6 * moved,
        "dispreferred_prob": 0.2 - 0.4 * moved,
        "other_prob": 0.3 + moved,
        "group_probs": [0.1 + gain],
        "watched_probs": [0.5 - 0.6 * moved, 0.1 + gain],
        "gainers": [entry(12, "Yes", 0.1, gain, 0.07)] if step else [],
        "losers": [entry(10, "No", 0.5, 0.6 * loss), entry(11, "Never", 0.2, 0.4 * loss)]
        if step
        else [],
        "rest_change": moved - gain,
        "moved_mass": moved,
        "predicted_changes": [gain],
        "predicted_ranks": [1],
        "rank_agreement": 1.0 if step else None,
    }
    revision = columns.pop("revision", None) or next_revision(session, run_id)
    made = session.merge(
        ProbeStep(run_id=run_id, pair=pair, step=step, revision=revision, **{**values, **columns})
    )
    session.flush()
    return made


def prompt_step(session: Session, run_id: int, pair: int, step: int, **columns: Any) -> ProbeStep:
    """As probe_step, for a prompt, which has no responses."""
    none: dict[str, Any] = {
        "preferred_logprobs": [],
        "dispreferred_logprobs": [],
        **dict.fromkeys(("preferred_change", "dispreferred_change", "onset_step")),
        **dict.fromkeys(("preferred_prob", "dispreferred_prob", "other_prob")),
        "rank_agreement": None,
        "predicted_changes": [],
        "predicted_ranks": [],
    }
    return probe_step(session, run_id, pair, step, **{**none, **columns})


def position(
    session: Session, run_id: int, pair: int, response: str, position: int, **columns: Any
) -> ProbePosition:
    """A position besides the fork, with "Yes" watched."""
    values: dict[str, Any] = {
        "watched": [{"token_id": 12, "token": "Yes", "initial": 0.1, "predicted": None}],
        "predicted": [],
    }
    made = ProbePosition(
        run_id=run_id, pair=pair, response=response, position=position, **{**values, **columns}
    )
    session.add(made)
    session.flush()
    return made


def position_step(
    session: Session,
    run_id: int,
    pair: int,
    response: str,
    position: int,
    step: int,
    change: float = 0.1,
) -> PositionStep:
    """A recorded step of a position at which "Yes" gained `change` from the rest (step 0: none)."""
    made = PositionStep(
        run_id=run_id,
        pair=pair,
        response=response,
        position=position,
        step=step,
        watched_probs=[0.1 + change if step else 0.1],
        gainers=[entry(12, "Yes", 0.1, change)] if step else [],
        losers=[],
        rest_change=-change if step else 0.0,
        moved_mass=change if step else 0.0,
        predicted_changes=[],
        predicted_ranks=[],
    )
    session.add(made)
    session.flush()
    return made


def answer(
    session: Session, run_id: int, pair: int = 0, step: int = 0, **columns: Any
) -> ProbeAnswer:
    """A generated answer to a probe's prompt, under a new revision unless `revision` is given."""
    values: dict[str, Any] = {"text": "No.", "ended": True}
    revision = columns.pop("revision", None) or next_revision(session, run_id)
    made = session.merge(
        ProbeAnswer(run_id=run_id, pair=pair, step=step, revision=revision, **{**values, **columns})
    )
    session.flush()
    return made


def entry(
    token_id: int, token: str, initial: float, change: float, predicted: float | None = None
) -> dict[str, Any]:
    """One row of a ledger."""
    return {
        "token_id": token_id,
        "token": token,
        "initial": initial,
        "final": initial + change,
        "change": change,
        "predicted": predicted,
    }


def score(session: Session, run_id: int, pair: int, ches: float | None, **columns: Any) -> Score:
    """One pair's scores; measures that are not given are derived from `ches`."""
    values: dict[str, Any] = {
        "ln_ches": None if ches is None else ches / 100,
        "last_hidden_inner_product": None if ches is None else ches / 10,
        "normalized_edit_distance": 0.5,
        "preferred_logprob": -2.0 - pair,
        "dispreferred_logprob": -3.0 - pair,
        "preferred_tokens": 2,
        "dispreferred_tokens": 2,
        "prompt_tokens": 10,
        "cut_tokens": 0,
        "preferred_ends": [2],
        "dispreferred_ends": [5],
    }
    made = Score(run_id=run_id, pair=pair, ches=ches, **{**values, **columns})
    session.add(made)
    session.flush()
    return made


def generation(
    session: Session, run_id: int, pair: int, sample: int = 0, text: str = "No.", **columns: Any
) -> Generation:
    """One generated answer."""
    values: dict[str, Any] = {"revision": 1, "tokens": 3, "ended": True, "logprob": -2.0}
    made = Generation(run_id=run_id, pair=pair, sample=sample, text=text, **{**values, **columns})
    session.add(made)
    session.flush()
    return made


def decision(
    session: Session, run_id: int, pair: int, epoch: int = 1, kept: bool = True, **columns: Any
) -> FilterDecision:
    """What a run's filter decided on a pair, with rewards that say the same."""
    values: dict[str, Any] = {
        "revision": 1,
        "text": "No.",
        "sample_reward": -0.5 if kept else 1.5,
        "preferred_reward": 0.5,
    }
    made = FilterDecision(run_id=run_id, pair=pair, epoch=epoch, kept=kept, **{**values, **columns})
    session.add(made)
    session.flush()
    return made


def judgment(
    session: Session,
    run_id: int,
    pair: int,
    sample: int = 0,
    verdict: bool | None = True,
    score: float | None = None,
    reason: str | None = None,
) -> Judgment:
    """A judge's verdict on the answer of that pair and sample."""
    made = Judgment(
        run_id=run_id, pair=pair, sample=sample, verdict=verdict, score=score, reason=reason
    )
    session.add(made)
    session.flush()
    return made


def finding(
    session: Session, run_id: int, pair: int, kind: FindingKind, detail: str | None = None
) -> RunFinding:
    made = RunFinding(run_id=run_id, kind=kind, pair=pair, detail=detail)
    session.add(made)
    session.flush()
    return made
