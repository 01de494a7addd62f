"""The tables of a study of single pairs: drawdowns by cell, and the tokens that gained."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from sqlalchemy.orm import Session

from app.probes.wording import probability, quoted
from app.studies.measured import (
    Gainers,
    fork_drawdowns,
    fork_gainers,
    observations,
    read_runs,
    runs_whose_loss_rose,
)
from app.studies.paper import SINGLE_PAIR
from app.studies.plans import MadeRun, Place
from app.studies.results import Cell, CellRun, Column, Result, Spread, Table, cell_runs
from chesboard.probing.destinations import TokenRoles

TOP = 3
LOSS_ROSE = "its loss rose"

DRAWDOWN = Column(
    key="drawdown",
    label="Largest drawdown",
    help="How far the preferred token's probability at the fork fell from a peak to a later "
    "trough; mean over the runs. 0 where it never fell.",
)
PEAK = Column(key="peak", label="from", help="The probability at the peak.")
TROUGH = Column(key="trough", label="to", help="The probability at the trough.")
COLUMNS = [
    DRAWDOWN,
    PEAK,
    TROUGH,
    Column(
        key="verdicts",
        label="Severity",
        help="Runs by how their displacement ended: kept, benign or catastrophic.",
    ),
    Column(key="left_out", label="Left out", help="Runs in which the loss rose at some step."),
]


def cell_label(preferred: str, dispreferred: str) -> str:
    return f"{quoted(preferred)} over {quoted(dispreferred)}"


def single_pair_result(
    session: Session, made: Sequence[MadeRun], recorded: Sequence[int]
) -> Result:
    """recorded: the steps whose top gainers are listed."""
    trained = [run for run in made if run.place.role == "train"]
    runs = read_runs(session, trained)
    rose = runs_whose_loss_rose(session, runs)
    kept = {run_id: run for run_id, run in runs.items() if run_id not in rose}
    pairs = {run_id: run.config["selection"]["pairs"][0] for run_id, run in runs.items()}
    falls = fork_drawdowns(session, {run_id: pairs[run_id] for run_id in kept})
    seen = observations(session, kept)
    verdicts = {
        run_id: found[0].displacement.kind if found and found[0].displacement else None
        for run_id, found in seen.items()
    }
    cells = []
    for key, members in _by_cell(trained).items():
        used = [run.id for run in members if run.id in falls]
        sizes = [falls[run_id] for run_id in used]
        cells.append(
            Cell(
                key=key,
                label=key,
                numbers={
                    "drawdown": Spread.of(one.size if one else 0.0 for one in sizes),
                    "peak": Spread.of(one.peak for one in sizes if one),
                    "trough": Spread.of(one.trough for one in sizes if one),
                },
                texts={
                    "verdicts": counts_of(verdicts[run_id] or "not known" for run_id in used),
                    "left_out": str(sum(run.id in rose for run in members)),
                },
                runs=cell_runs(members, dict.fromkeys(rose, LOSS_ROSE)),
            )
        )
    gainers = fork_gainers(session, kept, recorded, TOP)
    places = {run.id: run.place for run in trained}
    tables = [
        Table(
            title="Largest drawdown of P(preferred)",
            columns=COLUMNS,
            cells=cells,
            note="Mean and standard deviation over runs with different prompts, at the fork. Runs "
            "in which the loss ever rose are left out and counted.",
        ),
        *([gainers_table(gainers, places)] if gainers else []),
    ]
    return Result(sentences=sentences(cells, len(rose)), tables=tables, paper=SINGLE_PAIR)


def sentences(cells: Sequence[Cell], left_out: int) -> list[str]:
    known = [(cell, cell.numbers["drawdown"]) for cell in cells]
    fallen = [(cell, spread) for cell, spread in known if spread is not None]
    if not fallen:
        return []
    worst, most = max(fallen, key=lambda one: one[1].mean)
    told = ["The preferred token's probability never fell."]
    if most.mean > 0:
        told = [
            f"The preferred token lost most for {worst.label}: {probability(most.mean)} on "
            f"average over {most.n} run{'s' if most.n > 1 else ''}."
        ]
    if left_out:
        are = "runs are" if left_out > 1 else "run is"
        told.append(f"{left_out} {are} left out, since the loss rose at some step.")
    return told


def counts_of(words: Iterable[str]) -> str:
    """For example "2 benign, 1 catastrophic"; the most frequent first."""
    count: defaultdict[str, int] = defaultdict(int)
    for word in words:
        count[word] += 1
    ordered = sorted(count.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{number} {word}" for word, number in ordered)


def _by_cell(made: Sequence[MadeRun]) -> Mapping[str, list[MadeRun]]:
    found: dict[str, list[MadeRun]] = {}
    for run in sorted(made, key=lambda run: run.id):
        found.setdefault(run.place.cell, []).append(run)
    return found


def gainers_table(gainers: Sequence[Gainers], places: Mapping[int, Place]) -> Table:
    """A row for each cell and step. places: by run id."""
    by_row: dict[tuple[str, int], list[Gainers]] = {}
    for one in sorted(gainers, key=lambda one: (places[one.run_id].cell, one.step)):
        by_row.setdefault((places[one.run_id].cell, one.step), []).append(one)
    return Table(
        title=f"Top-{TOP} gaining tokens",
        columns=[
            Column(key="step", label="Step"),
            Column(key="benign", label="Benign", help="Not of an opposite group."),
            Column(key="catastrophic", label="Catastrophic", help="Of an opposite group."),
            Column(
                key="unknown",
                label="Not known",
                help="No token group is declared opposite to the preferred token.",
            ),
        ],
        cells=[
            Cell(
                key=f"{cell} @ {step}",
                label=cell,
                texts={"step": str(step), **_gained(found)},
                runs=[
                    CellRun(run_id=one.run_id, seed=places[one.run_id].seed, status="succeeded")
                    for one in found
                ],
            )
            for (cell, step), found in by_row.items()
        ],
        note="Each token with the number of runs in whose top three it was, and its mean gain.",
    )


def _gained(found: Sequence[Gainers]) -> dict[str, str]:
    gains: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for one in found:
        for token, change in one.tokens:
            if change > 0:
                gains[token_kind(one.roles, token), token].append(change)
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for (kind, token), changes in sorted(
        gains.items(), key=lambda one: (-len(one[1]), -fmean(one[1]))
    ):
        texts[kind].append(f"{quoted(token)} ×{len(changes)} (+{fmean(changes):.2g})")
    return {kind: ", ".join(parts) for kind, parts in texts.items()}


def token_kind(roles: TokenRoles, token: str) -> str:
    """Whether a token that gains means the opposite of the preferred one: "catastrophic",
    "benign", or "unknown" where no group is declared opposite and it is no spelling or relative."""
    part = roles.part(token)
    if part in roles.opposite_parts:
        return "catastrophic"
    if part in roles.kept_parts or roles.opposite_names:
        return "benign"
    return "unknown"
