"""Pairs of a dataset that the server has, named by their ordinals instead of given as text."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chesboard.client.environment import ClientError, Destination
from chesboard.client.pace import Backoff
from chesboard.client.wire import UnreachableError, Wire
from chesboard.configs.external import MAX_EXTERNAL_PROBES
from chesboard.pairs import Pair

TRIES = 3
SECONDS_A_TRY = 10.0
"""The training waits for these pairs, so it does not wait long."""


@dataclass(frozen=True, slots=True)
class StoredPairs:
    """dataset_id: of a dataset on the server. pairs: ordinals in it, from 0."""

    dataset_id: int
    pairs: Sequence[int] = (0, 1, 2, 3)


def stored(dataset_id: int, pairs: Sequence[int] = (0, 1, 2, 3)) -> StoredPairs:
    """Pairs of a dataset in Chesboard, to be watched: `chesboard.Callback(chesboard.stored(7))`.

    dataset_id: as in the address of the dataset's page. pairs: ordinals, as the pages show them.

    Their texts, edits included, are read from the server when the training begins, which takes an
    address (CHESBOARD_URL) and, where the server asks for one, a token of the role recorder. If
    they cannot be read, that is said, no pair is watched, and what the trainer logs is recorded.
    """
    return StoredPairs(dataset_id, tuple(pairs))


def as_stored(asked: Any) -> StoredPairs | None:
    """What `stored` gives, also as a configuration file has it: an object with `dataset_id` and
    perhaps `pairs`. None: it is something else."""
    if isinstance(asked, StoredPairs):
        return asked
    if isinstance(asked, Mapping) and {"dataset_id"} <= asked.keys() <= {"dataset_id", "pairs"}:
        return StoredPairs(**asked)
    return None


def read(asked: StoredPairs, at: Destination) -> list[Pair]:
    """Their texts, in the order asked for.

    Raises:
        ClientError: there is no server to ask, or what is asked for is no list of ordinals.
        UnreachableError: the server does not answer, after a few tries.
        RefusedError: it has no such dataset or pair, or the token may not read it.
    """
    numbers = list(dict.fromkeys(asked.pairs))
    if not all(type(one) is int and one >= 0 for one in (asked.dataset_id, *numbers)):
        raise ClientError("chesboard.stored takes a dataset's id and the ordinals of pairs.")
    if not 0 < len(numbers) <= MAX_EXTERNAL_PROBES:
        raise ClientError(f"chesboard.stored takes 1 to {MAX_EXTERNAL_PROBES} pairs.")
    if at.url is None:
        raise ClientError(
            f"Pairs of dataset {asked.dataset_id} are read from the server: set CHESBOARD_URL to "
            "its address, and the mode to online."
        )
    wire = Wire(at.url, at.token, seconds=SECONDS_A_TRY)
    try:
        items = _patiently(wire, asked.dataset_id, numbers)
    finally:
        wire.close()
    return [
        Pair(one["prompt"], one["preferred"], one["dispreferred"], pair=one["pair"])
        for one in items
    ]


def _patiently(wire: Wire, dataset_id: int, numbers: Sequence[int]) -> list[dict[str, Any]]:
    backoff = Backoff()
    for left in reversed(range(TRIES)):
        try:
            return wire.texts(dataset_id, numbers)
        except UnreachableError as error:
            if not left:
                raise
            time.sleep(min(SECONDS_A_TRY, backoff.failed(error.retry_after)))
    raise AssertionError("unreachable")
