"""The table and curves of a remedy bench, and whether any arm differs from plain DPO."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from sqlalchemy.orm import Session

from app.store.runs import Run
from app.studies.kinds.arms import ARMS, PLAIN
from app.studies.kinds.single_pair_result import counts_of
from app.studies.measured import Ends, ends, last_answers, mean_changes, observations, read_runs
from app.studies.paper import REMEDY_BENCH
from app.studies.plans import MadeRun
from app.studies.results import (
    Cell,
    Column,
    Curve,
    Result,
    Spread,
    Table,
    cell_runs,
    curve,
    differs,
    signed,
)
from chesboard.judging.keywords import KeywordJudge
from chesboard.records import displaced


@dataclass(frozen=True, slots=True)
class Criterion:
    """key: of the column. better: which end is."""

    key: str
    words: str
    better: Literal["high", "low"]


CRITERIA: Mapping[str, Criterion] = {
    one.key: one
    for one in (
        Criterion("preferred", "the change of log p(y+)", "high"),
        Criterion("margin", "the margin", "high"),
        Criterion("ranking", "the ranking accuracy", "high"),
        Criterion("displaced", "the displaced share", "low"),
        Criterion("catastrophic", "the share of catastrophic displacements", "low"),
    )
}

COLUMNS = [
    Column(key="preferred", label="Δ log p(y+)", unit="nats", help="Of the watched pairs."),
    Column(key="dispreferred", label="Δ log p(y−)", unit="nats"),
    Column(
        key="others",
        label="Δ log p, others",
        unit="nats",
        help="Mean change over both responses of the watched pairs that no arm trains on: the "
        "spillover.",
    ),
    Column(
        key="joint",
        label="Δ log(p(y+) + p(y−))",
        unit="nats",
        help="The watched pair's own likelihood. Where it falls, what the pair lost went to other "
        "responses.",
    ),
    Column(key="margin", label="Margin", unit="nats", help="How much more y+ gained than y−."),
    Column(
        key="displaced",
        label="Displaced",
        help="Share of the watched pairs whose y+ lost likelihood while the margin grew.",
    ),
    Column(
        key="catastrophic",
        label="Catastrophic",
        help="Share of the watched pairs whose mass went to the opposite of what y+ means. 0 where "
        "no groups are declared opposite.",
    ),
    Column(key="accuracy", label="Accuracy", help="Share of the watched pairs with margin > 0."),
    Column(
        key="ranking",
        label="Ranking accuracy",
        help="Share of the watched pairs whose y+ is likelier than y−.",
    ),
    Column(
        key="argmax",
        label="Argmax rise",
        unit="nats",
        help="Rise of the log-probability of the most likely token at the fork: squeezing.",
    ),
    Column(
        key="kl",
        label="KL",
        unit="nats",
        help="KL divergence from the model before training, of the next token: mean over the "
        "positions of the watched pairs that have a ledger, the forks at least. An estimate by "
        "these contexts, not by what the model writes.",
    ),
    Column(
        key="refused",
        label="Refused",
        help="Share of the watched pairs whose last greedy answer refuses, by the keywords of the "
        "judge.",
    ),
    Column(key="verdicts", label="Severity", help="Watched pairs over all seeds."),
    Column(key="destinations", label="Mass went to", help="Of displaced pairs, over all seeds."),
    Column(key="differs", label="Differs from DPO", help="By the criterion; the rule is below."),
]
RULE = (
    "An arm differs from plain dpo where the means of the criterion are further apart than two "
    "standard deviations over the seeds (pooled over both arms) and than 1e-4; it takes two seeds "
    "at least."
)

_KEYWORDS = KeywordJudge()


def bench_result(
    session: Session,
    made: Sequence[MadeRun],
    arms: Sequence[str],
    *,
    watched: Sequence[int],
    held_out: Sequence[int],
    criterion: Criterion,
) -> Result:
    trained = [run for run in made if run.place.role == "train"]
    runs = read_runs(session, trained)
    found = ends(session, runs)
    severities = _severities(session, runs, set(watched))
    answers = last_answers(session, runs)
    cells = []
    for name in arms:
        members = [run for run in trained if run.place.cell == name]
        measured = [run.id for run in members if run.id in found]
        numbers = [
            numbers_of(
                found[run_id],
                set(watched),
                severities.get(run_id, ([], []))[0],
                answers.get(run_id, {}),
            )
            for run_id in measured
        ]
        verdicts = [kind for run_id in measured for kind in severities[run_id][0]]
        places = [place for run_id in measured for place in severities[run_id][1]]
        cells.append(
            Cell(
                key=name,
                label=ARMS[name].label if name in ARMS else name,
                numbers={
                    column.key: Spread.of(one[column.key] for one in numbers)
                    for column in COLUMNS
                    if numbers and column.key in numbers[0]
                },
                texts={
                    "verdicts": counts_of(verdicts),
                    "destinations": counts_of(places),
                },
                runs=cell_runs(members),
            )
        )
    mark_differences(cells, criterion)
    return Result(
        sentences=sentences(cells, criterion),
        tables=[
            Table(
                title="Arms",
                columns=[
                    column
                    for column in COLUMNS
                    # Answers are recorded on request.
                    if column.key != "refused" or any(cell.numbers.get("refused") for cell in cells)
                ],
                cells=cells,
                note=f"Same watched pairs, seeds and steps in every arm; mean and standard "
                f"deviation over seeds. {RULE}",
            )
        ],
        curves=_curves(session, trained, runs, arms, watched),
        paper=REMEDY_BENCH,
    )


def _severities(
    session: Session, runs: Mapping[int, Run], watched: set[int]
) -> dict[int, tuple[list[str], list[str]]]:
    """Of each run the kinds of displacement of its watched pairs, and where their mass went."""
    found: dict[int, tuple[list[str], list[str]]] = {}
    for run_id, seen in observations(session, runs).items():
        judged = [one.displacement for one in seen if one.pair in watched]
        kinds: list[str] = [(one.kind if one else None) or "not known" for one in judged]
        places = [one.destination.replace("_", " ") for one in judged if one and one.destination]
        found[run_id] = (kinds, places)
    return found


def numbers_of(
    found: Sequence[Ends],
    watched: set[int],
    kinds: Sequence[str],
    answers: Mapping[int, str] | None = None,
) -> dict[str, float | None]:
    """A run's numbers: means over its watched pairs. found: also of pairs outside of training.
    answers: pair → the last greedy answer to its prompt."""
    inside = [one for one in found if one.pair in watched]
    outside = [one for one in found if one.pair not in watched]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    margins = [one.changes[0] - one.changes[1] for one in inside]
    greedy = [text for pair, text in (answers or {}).items() if pair in watched]
    return {
        "preferred": mean([one.changes[0] for one in inside]),
        "dispreferred": mean([one.changes[1] for one in inside]),
        "others": mean([fmean(one.changes) for one in outside]),
        "joint": mean([one.joint_change for one in inside]),
        "margin": mean(margins),
        "displaced": mean([float(displaced(*one.changes)) for one in inside]),
        "catastrophic": mean([float(kind == "catastrophic") for kind in kinds]),
        "accuracy": mean([float(margin > 0) for margin in margins]),
        "ranking": mean([float(one.after[0] > one.after[1]) for one in inside]),
        "argmax": mean([one.argmax_rise for one in inside]),
        "kl": mean([one.kl for one in inside]),
        "refused": mean([float(_refuses(text)) for text in greedy]),
    }


def _refuses(answer: str) -> bool:
    return _KEYWORDS.find(answer) is not None


def mark_differences(cells: Sequence[Cell], criterion: Criterion) -> None:
    """Fill in the column "differs"."""
    plain = next((cell.numbers.get(criterion.key) for cell in cells if cell.key == PLAIN), None)
    for cell in cells:
        own = cell.numbers.get(criterion.key)
        if cell.key == PLAIN or own is None or plain is None:
            continue
        if own.sd is None or plain.sd is None:
            cell.texts["differs"] = "one seed"
        elif differs(own, plain):
            is_better = (own.mean > plain.mean) == (criterion.better == "high")
            cell.texts["differs"] = "better" if is_better else "worse"
        else:
            cell.texts["differs"] = "no"


def sentences(cells: Sequence[Cell], criterion: Criterion) -> list[str]:
    """The best arm by the criterion, and whether any arm differs from plain DPO at all."""
    known = [(cell, spread) for cell in cells if (spread := cell.numbers.get(criterion.key))]
    if len(known) < 2:
        return []
    pick = max if criterion.better == "high" else min
    best, value = pick(known, key=lambda one: one[1].mean)
    told = [f"Best by {criterion.words}: {best.label} ({signed(value.mean)})."]
    judged = [cell.texts.get("differs") for cell, _ in known if cell.key != PLAIN]
    if all(word == "one seed" for word in judged):
        told.append("With a single seed there is no spread to hold differences against.")
    elif not any(word in ("better", "worse") for word in judged):
        told.append("No arm differs from plain dpo beyond the spread of the seeds.")
    elif "better" not in judged:
        told.append("No arm is better than plain dpo beyond the spread of the seeds.")
    else:
        names = [cell.label for cell, _ in known if cell.texts.get("differs") == "better"]
        told.append(f"Better than plain dpo beyond the spread of the seeds: {', '.join(names)}.")
    return told


def _curves(
    session: Session,
    trained: Sequence[MadeRun],
    runs: Mapping[int, Run],
    arms: Sequence[str],
    watched: Sequence[int],
) -> list[Curve]:
    changes = mean_changes(session, list(runs), watched)
    curves = []
    for name in arms:
        found = [changes[run.id] for run in trained if run.place.cell == name and run.id in changes]
        if not found:
            continue
        for index, key in ((1, "preferred"), (2, "dispreferred")):
            points = [[(point[0], point[index]) for point in one] for one in found]
            curves.append(curve(name, key, points))
    return curves
