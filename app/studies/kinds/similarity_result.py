"""The figure of similarity against displacement: a point a window, and rank correlations."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from sqlalchemy.orm import Session

from app.studies.measured import read_runs, trained_changes
from app.studies.plans import MadeRun
from app.studies.results import Cell, Column, Result, Spread, Table, cell_runs, signed
from chesboard.measures.registry import MEASURES, MeasureName
from chesboard.probing.ranks import spearman
from chesboard.records import STILL_NATS

_MEASURE = {measure.name: measure for measure in MEASURES}

WINDOW_COLUMNS = [
    Column(key="percentile", label="Percentile"),
    Column(key="value", label="Measure", help="Mean of the measure over the window's pairs."),
    Column(
        key="change",
        label="Change of log p(y+)",
        help="Mean over the window's pairs after training on them alone.",
        unit="nats",
    ),
    Column(key="fell", label="Fell", help="Share of the window's preferred responses that fell."),
]
RANK_COLUMNS = [
    Column(
        key="spearman",
        label="Spearman’s ρ",
        help="Rank correlation of the measure with the change of log p(y+), over the pairs of its "
        "windows; one a seed.",
    ),
    Column(key="expected", label="Sign if it explains displacement"),
    Column(key="pairs", label="Pairs"),
]


def similarity_result(
    session: Session,
    made: Sequence[MadeRun],
    values: Mapping[MeasureName, Mapping[int, float]],
    cells: Mapping[str, tuple[MeasureName, int]],
) -> Result:
    """values: measure → pair → value. cells: key → measure and percentile."""
    trained = [run for run in made if run.place.role == "train"]
    changes = trained_changes(session, read_runs(session, trained))
    windows = [
        _window_cell(key, *of, [run for run in trained if run.place.cell == key], changes, values)
        for key, of in cells.items()
    ]
    ranks = rank_cells(trained, changes, values, cells)
    return Result(
        sentences=_sentences(ranks),
        tables=[
            Table(
                title="Mean change of log p(y+) by window",
                columns=WINDOW_COLUMNS,
                cells=[cell for cell in windows if cell.runs],
                note="Each window of pairs is trained alone, from the same model. Spread: standard "
                "deviation over seeds, which change the order of the pairs.",
            ),
            Table(
                title="How well each measure orders the change", columns=RANK_COLUMNS, cells=ranks
            ),
        ],
    )


def _window_cell(
    key: str,
    measure: MeasureName,
    percentile: int,
    runs: Sequence[MadeRun],
    changes: Mapping[int, Mapping[int, float]],
    values: Mapping[MeasureName, Mapping[int, float]],
) -> Cell:
    found = [changes[run.id] for run in runs if changes.get(run.id)]
    pairs = {pair for one in found for pair in one}
    known = [values[measure][pair] for pair in pairs if pair in values[measure]]
    return Cell(
        key=key,
        label=_MEASURE[measure].label,
        numbers={
            "value": Spread.of([fmean(known)] if known else []),
            "change": Spread.of(fmean(one.values()) for one in found),
            "fell": Spread.of(
                sum(change < -STILL_NATS for change in one.values()) / len(one) for one in found
            ),
        },
        texts={"percentile": str(percentile), "measure": measure},
        runs=cell_runs(runs),
    )


def rank_cells(
    trained: Sequence[MadeRun],
    changes: Mapping[int, Mapping[int, float]],
    values: Mapping[MeasureName, Mapping[int, float]],
    cells: Mapping[str, tuple[MeasureName, int]],
) -> list[Cell]:
    found = []
    for measure, of_pair in values.items():
        runs = [
            run
            for run in trained
            if cells.get(run.place.cell, (None,))[0] == measure and run.id in changes
        ]
        by_seed: dict[int, list[tuple[float, float]]] = {}
        for run in runs:
            by_seed.setdefault(run.place.seed, []).extend(
                (of_pair[pair], change)
                for pair, change in changes[run.id].items()
                if pair in of_pair
            )
        end = _MEASURE[measure].similar_end
        found.append(
            Cell(
                key=measure,
                label=_MEASURE[measure].label,
                numbers={
                    "spearman": Spread.of(
                        spearman([value for value, _ in both], [change for _, change in both])
                        for both in by_seed.values()
                    )
                },
                texts={
                    "expected": {"high": "−", "low": "+"}.get(end or "", "none"),
                    "pairs": str(max(map(len, by_seed.values()), default=0)),
                },
                runs=cell_runs(runs),
            )
        )
    return found


def _sentences(ranks: Sequence[Cell]) -> list[str]:
    known = [(cell, spread) for cell in ranks if (spread := cell.numbers["spearman"]) is not None]
    if not known:
        return []
    best, most = max(known, key=lambda one: abs(one[1].mean))
    told = [
        f"{best.label} orders the change of log p(y+) best: Spearman’s ρ {signed(most.mean)} over "
        f"{best.texts['pairs']} pairs."
    ]
    control = next((spread for cell, spread in known if cell.key == "length_gap"), None)
    ches = next((spread for cell, spread in known if cell.key == "ches"), None)
    if control is not None and ches is not None and abs(control.mean) >= abs(ches.mean):
        told.append(
            f"The length gap alone orders it no worse ({signed(control.mean)}) than CHES does "
            f"({signed(ches.mean)})."
        )
    return told
