"""Whether the pairs that an external run watches are those of its dataset with the same ordinals.

Trainers number pairs as they like. Where the numbers are the dataset's, what the run did to a pair
stands beside that pair.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.datasets import Dataset, Pair
from app.store.external import ExternalRun
from app.store.runs import Run

COMPARED = 200
"""Characters of a response: a trainer may cut it, and ends it with a token of its own."""


class Watched(Protocol):
    """A probe as a trainer tells it."""

    @property
    def pair(self) -> int: ...
    @property
    def preferred_tokens(self) -> Sequence[str]: ...
    @property
    def dispreferred_tokens(self) -> Sequence[str]: ...


def match(session: Session, run: Run, external: ExternalRun, probes: Iterable[Watched]) -> None:
    """Note whether these are pairs of the run's dataset; of the first that is not, say so."""
    watched = {one.pair: one for one in probes if one.pair >= 0}
    if run.dataset_id is None or not watched or external.same_pairs is False:
        return
    query = select(Pair).where(Pair.dataset_id == run.dataset_id, Pair.pair.in_(watched))
    stored = {row.pair: row for row in session.scalars(query)}
    other = next(
        (pair for pair, one in watched.items() if not _is_same(one, stored.get(pair))), None
    )
    external.same_pairs = other is None
    if other is not None:
        dataset = session.get_one(Dataset, run.dataset_id)
        run.messages = [
            *run.messages,
            f"Pair {other} of this run is not pair {other} of the dataset “{dataset.name}”: its "
            "trainer numbers pairs its own way, so they are not linked with those of the dataset.",
        ]


def _is_same(one: Watched, row: Pair | None) -> bool:
    return (
        row is not None
        and _begins_as(one.preferred_tokens, row.preferred)
        and _begins_as(one.dispreferred_tokens, row.dispreferred)
    )


def _begins_as(tokens: Sequence[str], text: str) -> bool:
    """Blanks do not count: tokenizers and templates move them."""
    told, stored = ("".join(one.split())[:COMPARED] for one in ("".join(tokens), text))
    length = min(len(told), len(stored))
    return length > 0 and told[:length] == stored[:length]
