"""A look at pairs: their steps, and what each of these does to every pair of a pre-flight."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chesboard.configs import PreflightConfig
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.preflight.direction import first_step
from chesboard.preflight.gradients import Direction, changes_along
from chesboard.preflight.interference import MOST_TOKENS, InterferenceMap, interference_map
from chesboard.preflight.tangents import fork_change
from chesboard.probing.ledger import make_ledger
from chesboard.records import PreflightRecord
from chesboard.reporting import Control, Reporter
from chesboard.tokenization import token_text, token_texts

TOP_TOKENS = 20
"""Gainers and losers of the vocabulary that are recorded."""


@dataclass
class _Before:
    """What is known of a pair once its own step is."""

    pair: TokenizedPair
    logprobs: tuple[float, float]
    direction: Direction
    fork: tuple[Tensor, Tensor] | None
    head: InterferenceMap | None


class Look:
    """What the steps of some pairs do to all of them. offsets: odpo's, of pairs."""

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        pairs: Sequence[TokenizedPair],
        config: PreflightConfig,
        reporter: Reporter,
        control: Control,
        offsets: Mapping[int, float],
    ) -> None:
        self._loaded = loaded
        self._forward = forward
        self._pairs = pairs
        self._config = config
        self._reporter = reporter
        self._control = control
        self._offsets = offsets
        self._pair = pairs[0]  # the one that is being computed
        self._has_forks = True

    def at(self, together: Sequence[TokenizedPair], finished: int) -> list[PreflightRecord]:
        """The records of some pairs. finished: how many others have theirs."""
        before: list[_Before] = []
        rows: dict[int, list[tuple[float, float]]] = {}
        passes = len(together) + len(self._pairs)

        def went_on() -> None:
            share = len(together) * len(self._pairs) * (len(before) + len(rows)) // passes
            done = finished * len(self._pairs) + share
            self._reporter.progress(done, len(self._pairs) ** 2, "steps")

        for pair in self._one_by_one(together):
            before.append(self._step(pair))
            went_on()
        directions = [one.direction for one in before]
        for pair in self._one_by_one(self._arranged()):
            rows[pair.pair] = changes_along(self._loaded, self._forward, pair, directions)
            went_on()
        return [
            self._record(one, [rows[other.pair][k] for other in self._pairs])
            for k, one in enumerate(before)
        ]

    def fewer(self, together: int) -> int:
        """How many pairs' steps to keep after so many did not fit into the GPU's memory.

        Raises:
            MemoryError: it was a single pair's.
        """
        torch.cuda.empty_cache()
        if together == 1:
            raise MemoryError(
                f"Pair {self._pair.pair} alone does not fit into the GPU's memory. Lower "
                "max_prompt_tokens or max_response_tokens, or use a smaller model."
            )
        most = together // 2
        self._reporter.message(
            f"Out of GPU memory: continuing with the steps of {most} pairs at once."
        )
        return most

    def _one_by_one(self, pairs: Sequence[TokenizedPair]) -> Iterator[TokenizedPair]:
        for pair in pairs:
            self._control.check()
            self._pair = pair
            yield pair

    def _arranged(self) -> list[TokenizedPair]:
        """The longest first, so that memory runs out at once or never; the others in a fixed random
        order, so that the share of pairs done predicts the time that is left."""
        longest = max(self._pairs, key=self._forward.row_tokens)
        others = [pair for pair in self._pairs if pair is not longest]
        random.Random(0).shuffle(others)  # noqa: S311 - an order, not a secret
        return [longest, *others]

    def _step(self, pair: TokenizedPair) -> _Before:
        offset = self._offsets.get(pair.pair, 0.0)
        logprobs, direction = first_step(self._loaded, self._forward, pair, self._config, offset)
        return _Before(
            pair,
            logprobs,
            direction,
            self._fork(pair, direction),
            interference_map(self._loaded, self._forward, pair, logprobs),
        )

    def _fork(self, pair: TokenizedPair, direction: Direction) -> tuple[Tensor, Tensor] | None:
        if not self._has_forks:
            return None
        try:
            return fork_change(self._loaded, pair, direction)
        except NotImplementedError as error:
            self._has_forks = False
            self._reporter.message(
                "Which tokens gain and lose at the forks is missing: this model has an operation "
                f"without forward-mode derivative. {str(error).splitlines()[0]}"
            )
            return None

    def _record(self, one: _Before, influence: list[tuple[float, float]]) -> PreflightRecord:
        pair, tokenizer = one.pair, self._loaded.tokenizer
        own = influence[[other.pair for other in self._pairs].index(pair.pair)]
        return PreflightRecord(
            pair=pair.pair,
            preferred_logprob=one.logprobs[0],
            dispreferred_logprob=one.logprobs[1],
            preferred_change=own[0],
            dispreferred_change=own[1],
            **_fork_columns(self._loaded, one.fork),
            pairs=[other.pair for other in self._pairs],
            influence_preferred=[preferred for preferred, _ in influence],
            influence_dispreferred=[dispreferred for _, dispreferred in influence],
            fork_position=pair.fork_position,
            preferred_tokens=token_texts(tokenizer, pair.preferred_ids[:MOST_TOKENS]),
            dispreferred_tokens=token_texts(tokenizer, pair.dispreferred_ids[:MOST_TOKENS]),
            preferred_count=len(pair.preferred_ids),
            dispreferred_count=len(pair.dispreferred_ids),
            **_map_columns(one.head),
        )


def _fork_columns(loaded: LoadedModel, fork: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    if fork is None:
        return {"gainers": [], "losers": [], "rest_change": 0.0}
    probs_V, change_V = fork
    ledger = make_ledger(probs_V, probs_V + change_V, TOP_TOKENS)
    return {
        "gainers": _entries(loaded, ledger.gainers, probs_V),
        "losers": _entries(loaded, ledger.losers, probs_V),
        "rest_change": ledger.rest_change,
    }


def _entries(
    loaded: LoadedModel, listed: Sequence[tuple[int, float]], probs_V: Tensor
) -> list[dict[str, Any]]:
    return [
        {
            "token_id": token_id,
            "token": token_text(loaded.tokenizer, token_id),
            "initial": float(probs_V[token_id]),
            "change": change,
        }
        for token_id, change in listed
    ]


def _map_columns(found: InterferenceMap | None) -> dict[str, Any]:
    if found is None:
        return {"interference": None, "pulls": None, "own": None, "pull": None}
    return {
        "interference": found.map_nm.flatten().tolist(),
        "pulls": found.pulls_m.tolist(),
        "own": found.own,
        "pull": found.total,
    }
