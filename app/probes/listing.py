"""Listings of what a run watches, and of the answers that its model generated."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.nonfinite import nonfinite_to_none
from app.probes.lookup import require_probe
from app.probes.observations import observe_run
from app.probes.schemas import AnswerList, AnswerOut, DisplacementOut, ProbeOut
from app.store.lookup import require_run
from app.store.probes import Probe, ProbeAnswer


def list_probes(session: Session, run_id: int) -> list[ProbeOut]:
    """What a run watches: pairs by their ordinal, then prompts in the order of the configuration.

    Raises:
        NotFoundError: no such run.
    """
    run = require_run(session, run_id)
    found = session.scalars(
        select(Probe).where(Probe.run_id == run_id).order_by(Probe.pair < 0, func.abs(Probe.pair))
    )
    judged = {one.pair: DisplacementOut.of(one) for one in observe_run(session, run)}
    return [_probe_out(probe, judged.get(probe.pair)) for probe in found]


def _probe_out(probe: Probe, judged: DisplacementOut | None) -> ProbeOut:
    computed = {
        "displacement_kind": judged.kind if judged else None,
        "displacement": judged,
        "groups": {group["name"]: group["tokens"] for group in probe.groups},
        "groups_list": probe.groups,
        "watched": nonfinite_to_none(probe.watched),
        "predicted": nonfinite_to_none(probe.predicted),
    }
    plain = {name: getattr(probe, name) for name in ProbeOut.model_fields if name not in computed}
    return ProbeOut.model_validate(plain | computed)


def watched_pairs(session: Session, run_id: int) -> list[int]:
    """The ordinals of the pairs that a run watches, without its prompts."""
    watched = select(Probe.pair).where(Probe.run_id == run_id, Probe.pair >= 0)
    return list(session.scalars(watched.order_by(Probe.pair)))


def list_answers(session: Session, run_id: int, pair: int) -> AnswerList:
    """The answers to a probe's prompt by step.

    Raises:
        NotFoundError: no such run, or the pair is not watched.
    """
    require_run(session, run_id)
    require_probe(session, run_id, pair)
    found = session.scalars(
        select(ProbeAnswer)
        .where(ProbeAnswer.run_id == run_id, ProbeAnswer.pair == pair)
        .order_by(ProbeAnswer.step)
    )
    return AnswerList(items=[AnswerOut.model_validate(answer) for answer in found])
