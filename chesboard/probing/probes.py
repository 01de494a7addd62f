"""What is watched: pairs and prompts of the user's own, and the response positions with a ledger.

Of a pair: the log-probabilities of both responses' tokens, and the distribution over the
vocabulary at the fork and at whatever other positions the configuration names. Of a prompt: the
distribution of the token that follows it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from chesboard.configs import LedgerPositions, PromptProbe, TrainConfig
from chesboard.pairs import TokenizedPair
from chesboard.probing.prediction import prediction_kind
from chesboard.probing.tracker import PositionTracker, max_positions
from chesboard.records import PositionRecord, ProbeRecord, ProbeStepRecord, Response, TokenGroup
from chesboard.text_check import ChatTemplateError
from chesboard.tokenization import (
    EmptyTextError,
    show_null,
    token_texts,
    tokenize_prompt,
)

ALL_POSITIONS = 32
"""How many first positions of a response the setting "all" stands for."""

POSITION_BYTES = 512 << 20
"""Memory budget for the positions other than the forks, of all probes together: at 16 bytes a
token of the vocabulary, 682 positions of a vocabulary of 49,152 and 256 of one of 131,072."""

ResponsePosition = tuple[Response, int]
"""A response and the index of a token in it."""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The probes' part of a checkpoint: tensors by name, and the rest as JSON."""

    tensors: dict[str, Tensor]
    described: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Probe:
    """Common to both kinds. `tracker` follows the fork, or the token that follows a prompt."""

    pair: int
    """The pair's ordinal; prompts are -1, -2, ..."""
    prompt_ids: list[int]
    groups: dict[str, list[int]] = field(default_factory=dict)
    """Token groups by name, as token ids."""
    last: ProbeStepRecord | None = None
    tracker: PositionTracker | None = None

    @property
    def fork(self) -> PositionTracker:
        assert self.tracker is not None, "a probe is used before it began"
        return self.tracker

    @property
    def display_name(self) -> str:
        """What messages call the probe."""
        return f"pair {self.pair}"

    @property
    def watched_words(self) -> list[str]:
        """Words that the user asked to follow, each as a group of its own."""
        return []

    @property
    def context_ids(self) -> list[int]:
        """The tokens before the one that `tracker` follows."""
        return self.prompt_ids

    @property
    def group_ids(self) -> list[int]:
        return [token_id for members in self.groups.values() for token_id in members]

    @property
    def always_watched(self) -> list[int]:
        """Token ids that `tracker` watches in any case."""
        return self.group_ids

    def trackers(self) -> Iterator[tuple[str, PositionTracker]]:
        """All of the probe's trackers, by their names in a checkpoint."""
        yield "fork", self.fork

    def group_probs(self, now_V: Tensor) -> list[float]:
        """The probability of each token group, in the order of `groups`."""
        return [now_V[members].sum().item() for members in self.groups.values()]

    def describe_groups(self, tokenizer: Any) -> list[TokenGroup]:
        """The groups as ProbeRecord holds them."""
        return [
            {"name": name, "tokens": token_texts(tokenizer, members)}
            for name, members in self.groups.items()
        ]


@dataclass(slots=True, kw_only=True)
class WatchedPair(Probe):
    tokens: TokenizedPair
    ledger_positions: dict[Response, list[int]]
    """Positions with a ledger, the fork among them."""
    others: dict[ResponsePosition, PositionTracker] = field(default_factory=dict)
    """Trackers of the positions other than the fork."""
    initial_logprobs: tuple[float, float] = (0.0, 0.0)
    """Of y+ and y- at step 0, each summed over the response."""
    onset_step: int | None = None

    @property
    def fork_ids(self) -> tuple[int, int]:
        """The tokens of y+ and of y- at the fork."""
        fork = self.tokens.fork_position
        return self.tokens.preferred_ids[fork], self.tokens.dispreferred_ids[fork]

    @property
    def context_ids(self) -> list[int]:
        return [*self.prompt_ids, *self.tokens.preferred_ids[: self.tokens.fork_position]]

    @property
    def always_watched(self) -> list[int]:
        return [*self.fork_ids, *self.group_ids]

    @property
    def other_positions(self) -> list[ResponsePosition]:
        """`ledger_positions` without the fork. Before the fork both responses are the same, so
        their positions there are listed once, under y+."""
        fork, positions = self.tokens.fork_position, self.ledger_positions
        shared = {k for one in positions.values() for k in one if k < fork}
        after = [k for k in positions["preferred"] if k > fork]
        return [
            *(("preferred", k) for k in [*sorted(shared), *after]),
            *(("dispreferred", k) for k in positions["dispreferred"] if k > fork),
        ]

    def token_at(self, place: ResponsePosition) -> int:
        """The response's own token at a position."""
        response, position = place
        pair = self.tokens
        return (pair.preferred_ids if response == "preferred" else pair.dispreferred_ids)[position]

    def trackers(self) -> Iterator[tuple[str, PositionTracker]]:
        yield "fork", self.fork
        for place, tracker in self.others.items():
            yield tracker_name(place), tracker

    def record(self, tokenizer: Any) -> ProbeRecord:
        return ProbeRecord(
            pair=self.pair,
            kind="pair",
            prompt=show_null(tokenizer.decode(self.prompt_ids)),
            preferred_tokens=token_texts(tokenizer, self.tokens.preferred_ids),
            dispreferred_tokens=token_texts(tokenizer, self.tokens.dispreferred_ids),
            fork_position=self.tokens.fork_position,
            groups=self.describe_groups(tokenizer),
            watched=self.fork.describe_watched(),
            predicted=self.fork.describe_predicted(),
            positions={str(name): positions for name, positions in self.ledger_positions.items()},
        )

    def position_records(self) -> list[PositionRecord]:
        return [
            PositionRecord(
                pair=self.pair,
                response=response,
                position=position,
                watched=tracker.describe_watched(),
                predicted=tracker.describe_predicted(),
                prediction_kind=None
                if tracker.predicted_V is None
                else prediction_kind(self.tokens, response, position),
            )
            for (response, position), tracker in self.others.items()
        ]


@dataclass(slots=True, kw_only=True)
class WatchedPrompt(Probe):
    config: PromptProbe

    @property
    def display_name(self) -> str:
        return self.config.name or f"number {-self.pair}"

    @property
    def watched_words(self) -> list[str]:
        return self.config.watch

    def record(self, tokenizer: Any) -> ProbeRecord:
        return ProbeRecord(
            pair=self.pair,
            kind="prompt",
            name=self.config.name,
            prompt=show_null(tokenizer.decode(self.prompt_ids)),
            preferred_tokens=[],
            dispreferred_tokens=[],
            fork_position=0,
            groups=self.describe_groups(tokenizer),
            watched=self.fork.describe_watched(),
            predicted=self.fork.describe_predicted(),
            positions={"preferred": [0], "dispreferred": [0]},
        )


def watch_pair(pair: TokenizedPair, config: TrainConfig) -> WatchedPair:
    return WatchedPair(
        pair=pair.pair,
        prompt_ids=pair.prompt_ids,
        tokens=pair,
        ledger_positions=ledger_positions(pair, config.ledger_positions),
    )


def watch_prompt(number: int, prompt: PromptProbe, tokenizer: Any, limit: int) -> WatchedPrompt:
    """limit: tokens that the prompt is truncated to, from the left.

    Raises:
        EmptyTextError: the prompt has no tokens.
        ChatTemplateError: the chat template refuses the prompt.
    """
    try:
        ids = tokenize_prompt(tokenizer, prompt.model_dump()["prompt"], limit)
    except EmptyTextError:
        raise EmptyTextError(f"probes.prompts[{number}] has no tokens.") from None
    except ChatTemplateError as error:
        raise ChatTemplateError(f"probes.prompts[{number}]: {error}") from error
    return WatchedPrompt(pair=-1 - number, prompt_ids=ids, config=prompt)


def ledger_positions(
    pair: TokenizedPair, wanted: LedgerPositions | None
) -> dict[Response, list[int]]:
    """The positions of each response that get a ledger: the fork, and the configured ones that
    exist in it."""
    wanted = wanted or LedgerPositions(preferred=[], dispreferred=[])

    def of(ids: Sequence[int], positions: Sequence[int] | str) -> list[int]:
        chosen = range(ALL_POSITIONS) if isinstance(positions, str) else positions
        return sorted({pair.fork_position, *(k for k in chosen if k < len(ids))})

    return {
        "preferred": of(pair.preferred_ids, wanted.preferred),
        "dispreferred": of(pair.dispreferred_ids, wanted.dispreferred),
    }


def limit_positions(
    pairs: Sequence[WatchedPair], vocabulary: int, report: Callable[[str], None]
) -> None:
    """Drop the positions furthest from the start that exceed the memory budget."""
    limit = max_positions(vocabulary, POSITION_BYTES)
    wanted = sorted(position for probe in pairs for _, position in probe.other_positions)
    if len(wanted) <= limit:
        return
    first_dropped = wanted[limit]
    for probe in pairs:
        fork = probe.tokens.fork_position
        probe.ledger_positions = {
            response: [k for k in positions if k < first_dropped or k == fork]
            for response, positions in probe.ledger_positions.items()
        }
    report(
        f"Ledgers are kept of the positions before {first_dropped} and of the forks: the "
        f"{len(wanted)} positions asked for would not fit into memory."
    )


def tracker_name(place: ResponsePosition) -> str:
    """The name in a checkpoint of the tracker of a position other than the fork."""
    return f"{place[0]}.{place[1]}"
