"""The pairs that a training run watches: what their forks looked like at first, and look now.

Dimensions: V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from app.runs.configs import TrainConfig
from app.runs.records import LedgerEntry, ProbeRecord, ProbeStepRecord
from worker.batches import TokenBudget, in_batches
from worker.forward import PairForward, unembedding_VD
from worker.ledgers import (
    Ledger,
    distribution,
    draw_up,
    likelihood_direction,
    predicted_changes,
    preference_direction,
    watched_tokens,
)
from worker.loaded import LoadedModel
from worker.sink import Control, Sink
from worker.tokenising import TokenisedPair, storable, token_text, token_texts

MOST_WATCHED = 128
TOP_IN_SUMMARY = 3


@dataclass(frozen=True, slots=True)
class Start:
    """What is kept of a probe from step 0, to compare with. float32 on the CPU."""

    initial_V: Tensor
    predicted_V: Tensor
    preferred_logprob: float
    dispreferred_logprob: float


@dataclass(frozen=True, slots=True)
class _Look:
    """A probe as the model sees it now."""

    preferred_logprobs: list[float]
    dispreferred_logprobs: list[float]
    now_V: Tensor


class Probes:
    """Watches pairs during a run. `starts` (pair → Start) is what a checkpoint has to keep."""

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        pairs: Sequence[TokenisedPair],
        config: TrainConfig,
        sink: Sink,
        control: Control,
    ) -> None:
        self._loaded, self._forward, self._pairs = loaded, forward, list(pairs)
        self._config, self._sink, self._control = config, sink, control
        self._budget = TokenBudget(config.batch_tokens, sink.message)
        self._groups: dict[int, dict[str, list[int]]] = {}
        self._watched: dict[int, list[int]] = {}
        self._latest: dict[int, ProbeStepRecord] = {}
        self.starts: dict[int, Start] = {}

    def begin(self) -> None:
        """Record the probes themselves and their step 0."""
        looks = self._look()
        for pair in self._pairs:
            self.starts[pair.pair] = self._start(pair, looks[pair.pair])
        self._settle(self._sink.message)
        for pair in self._pairs:
            self._sink.probe(self._record(pair))
        self._emit(0, looks)

    def go_on(self, starts: Mapping[int, Start]) -> None:
        """Take up probes that began in an earlier attempt at the run."""
        self.starts = dict(starts)
        self._settle(lambda _: None)  # said already

    def observe(self, step: int) -> None:
        self._emit(step, self._look())

    def summarise(self) -> list[dict[str, Any]]:
        """Each probe at the last step observed: changes in nats, fork, where the mass went."""
        return [self._summarise(pair) for pair in self._pairs if pair.pair in self._latest]

    def _settle(self, tell: Callable[[str], None]) -> None:
        """Resolve what depends on step 0: token groups and watched tokens."""
        said: set[str] = set()

        def tell_once(text: str) -> None:
            if text not in said:
                said.add(text)
                tell(text)

        for pair in self._pairs:
            start, fork = self.starts[pair.pair], pair.fork_position
            groups = resolve_groups(
                self._loaded.tokenizer, pair, self._config.token_groups, tell_once
            )
            always = [
                pair.preferred_ids[fork],
                pair.dispreferred_ids[fork],
                *(token_id for members in groups.values() for token_id in members),
            ]
            self._groups[pair.pair] = groups
            self._watched[pair.pair] = watched_tokens(start.initial_V, start.predicted_V, always)[
                : max(MOST_WATCHED, len(set(always)))
            ]

    @torch.no_grad()
    def _look(self) -> dict[int, _Look]:
        looks: dict[int, _Look] = {}

        def look(batch: list[TokenisedPair]) -> None:
            states = self._forward(batch, forks=True)
            assert states.fork_logits_BV is not None
            preferred = _split(
                states.preferred_token_logprobs_N(), [p.preferred_ids for p in batch]
            )
            other = _split(
                states.dispreferred_token_logprobs_N(), [p.dispreferred_ids for p in batch]
            )
            for b, pair in enumerate(batch):
                now_V = distribution(states.fork_logits_BV[b])
                looks[pair.pair] = _Look(preferred[b], other[b], now_V)

        in_batches(self._pairs, self._forward.row_tokens, self._budget, self._control, look)
        return looks

    def _start(self, pair: TokenisedPair, look: _Look) -> Start:
        unembedding, fork = unembedding_VD(self._loaded), pair.fork_position
        preferred_id, dispreferred_id = pair.preferred_ids[fork], pair.dispreferred_ids[fork]
        if self._config.objective == "cross_entropy":
            direction_D = likelihood_direction(unembedding, look.now_V, preferred_id)
        else:
            direction_D = preference_direction(unembedding, preferred_id, dispreferred_id)
        return Start(
            initial_V=look.now_V.float(),
            predicted_V=predicted_changes(unembedding, look.now_V, direction_D).float(),
            preferred_logprob=sum(look.preferred_logprobs),
            dispreferred_logprob=sum(look.dispreferred_logprobs),
        )

    def _record(self, pair: TokenisedPair) -> ProbeRecord:
        tokenizer, start = self._loaded.tokenizer, self.starts[pair.pair]
        return ProbeRecord(
            pair=pair.pair,
            prompt=storable(tokenizer.decode(pair.prompt_ids)),
            preferred_tokens=token_texts(tokenizer, pair.preferred_ids),
            dispreferred_tokens=token_texts(tokenizer, pair.dispreferred_ids),
            fork_position=pair.fork_position,
            groups={
                name: token_texts(tokenizer, members)
                for name, members in self._groups[pair.pair].items()
            },
            watched=[
                {
                    "token_id": token_id,
                    "token": token_text(tokenizer, token_id),
                    "initial": start.initial_V[token_id].item(),
                    "predicted": start.predicted_V[token_id].item(),
                }
                for token_id in self._watched[pair.pair]
            ],
        )

    def _emit(self, step: int, looks: Mapping[int, _Look]) -> None:
        for pair in self._pairs:
            record = self._step_record(step, pair, looks[pair.pair])
            self._latest[pair.pair] = record
            self._sink.probe_step(record)

    def _step_record(self, step: int, pair: TokenisedPair, look: _Look) -> ProbeStepRecord:
        start, fork = self.starts[pair.pair], pair.fork_position
        preferred_id, dispreferred_id = pair.preferred_ids[fork], pair.dispreferred_ids[fork]
        now_V = look.now_V
        if step == 0:
            ledger = Ledger([], [], 0.0, 0.0)
        else:
            ledger = draw_up(start.initial_V, now_V, self._config.ledger_top)
        both = {preferred_id, dispreferred_id}
        return ProbeStepRecord(
            pair=pair.pair,
            step=step,
            preferred_logprobs=look.preferred_logprobs,
            dispreferred_logprobs=look.dispreferred_logprobs,
            preferred_prob=now_V[preferred_id].item(),
            dispreferred_prob=now_V[dispreferred_id].item(),
            other_prob=1.0 - now_V[list(both)].sum().item(),
            group_probs=[
                now_V[members].sum().item() for members in self._groups[pair.pair].values()
            ],
            watched_probs=now_V[self._watched[pair.pair]].tolist(),
            gainers=self._entries(start, now_V, ledger.gainers),
            losers=self._entries(start, now_V, ledger.losers),
            rest_change=ledger.rest_change,
            moved_mass=ledger.moved_mass,
        )

    def _entries(
        self, start: Start, now_V: Tensor, changes: Sequence[tuple[int, float]]
    ) -> list[LedgerEntry]:
        return [
            LedgerEntry(
                token_id=token_id,
                token=token_text(self._loaded.tokenizer, token_id),
                initial=start.initial_V[token_id].item(),
                final=now_V[token_id].item(),
                change=change,
                predicted=start.predicted_V[token_id].item(),
            )
            for token_id, change in changes
        ]

    def _summarise(self, pair: TokenisedPair) -> dict[str, Any]:
        start, last, fork = self.starts[pair.pair], self._latest[pair.pair], pair.fork_position
        tokenizer = self._loaded.tokenizer
        preferred_id, dispreferred_id = pair.preferred_ids[fork], pair.dispreferred_ids[fork]
        return {
            "pair": pair.pair,
            "preferred_change": sum(last.preferred_logprobs) - start.preferred_logprob,
            "dispreferred_change": sum(last.dispreferred_logprobs) - start.dispreferred_logprob,
            "moved_mass": last.moved_mass,
            "fork": {
                "position": fork,
                "preferred_token": token_text(tokenizer, preferred_id),
                "dispreferred_token": token_text(tokenizer, dispreferred_id),
                "preferred_initial": start.initial_V[preferred_id].item(),
                "preferred_final": last.preferred_prob,
                "dispreferred_initial": start.initial_V[dispreferred_id].item(),
                "dispreferred_final": last.dispreferred_prob,
            },
            "top_gainers": [
                {"token": entry.token, "change": entry.change}
                for entry in last.gainers[:TOP_IN_SUMMARY]
            ],
        }


def _split(values_N: Tensor, responses: Sequence[Sequence[int]]) -> list[list[float]]:
    parts = torch.split(values_N.cpu(), [len(ids) for ids in responses])
    return [part.tolist() for part in parts]


CONTEXT_TOKENS = 8


def resolve_groups(
    tokenizer: Any,
    pair: TokenisedPair,
    groups: Mapping[str, Sequence[str]],
    tell: Callable[[str], None],
) -> dict[str, list[int]]:
    """The single tokens that each group's words are at the pair's fork.

    A word counts in all forms that are one token: as it stands, behind a space, and right
    behind the fork's context. A word that has no such form is left out and told.
    """
    resolved: dict[str, list[int]] = {}
    for name, words in groups.items():
        members: list[int] = []
        for word in words:
            token_ids = _single_tokens(tokenizer, pair, word)
            if not token_ids:
                tell(
                    f"“{word}” of the token group “{name}” is more than one token for this model "
                    "and is left out."
                )
            members.extend(token_ids)
        resolved[name] = list(dict.fromkeys(members))
    return resolved


def _single_tokens(tokenizer: Any, pair: TokenisedPair, word: str) -> list[int]:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    found = [ids[0] for ids in (encode(word), encode(f" {word}")) if len(ids) == 1]
    context = [*pair.prompt_ids, *pair.preferred_ids[: pair.fork_position]][-CONTEXT_TOKENS:]
    context_text = tokenizer.decode(context)
    before, after = encode(context_text), encode(context_text + word)
    if len(after) == len(before) + 1 and after[:-1] == before:
        found.append(after[-1])
    return list(dict.fromkeys(found))
