"""What a training run watches: pairs, and prompts of the user's own.

Of a pair: the log-probabilities of both responses' tokens, and the whole distribution at the fork
and at whatever other positions were asked for. Of a prompt: the distribution of the token that
follows it. And of both, now and then, the model's own greedy answer.

Dimensions: V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from chesboard.configs import LedgerPositions, PromptProbe, TrainConfig
from chesboard.forward.batching import TokenBudget, in_batches
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel, unembedding_VD
from chesboard.pairs import TokenizedPair
from chesboard.probing.generation import greedy_answers
from chesboard.probing.ledger import (
    distribution,
    likelihood_direction,
    predicted_changes,
    preference_direction,
)
from chesboard.probing.next_token import next_token_logits
from chesboard.probing.tracker import Tracked, most_positions
from chesboard.records import (
    AnswerRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    Response,
    displaced,
)
from chesboard.reporting import Control, Reporter
from chesboard.tokenization import (
    EmptyTextError,
    storable,
    token_text,
    token_texts,
    tokenize_prompt,
)
from worker.training.checkpoints import ProbeState

TOP_IN_SUMMARY = 3
ALL_POSITIONS = 32
"""So many of a response's first positions "all" means."""

POSITION_BYTES = 512 << 20
"""Memory for the positions besides the forks, of all probes together: at 16 bytes a token of the
vocabulary, 682 positions of a vocabulary of 49,152 and 256 of one of 131,072."""

Place = tuple[Response, int]
"""A response and a position in it."""


@dataclass(slots=True)
class _Probe:
    """What all probes have. `tracked` is the fork, or the token that follows a prompt."""

    pair: int
    prompt_ids: list[int]
    groups: dict[str, list[int]] = field(default_factory=dict)
    last: ProbeStepRecord | None = None
    tracked: Tracked | None = None

    @property
    def fork(self) -> Tracked:
        assert self.tracked is not None, "a probe is used before it began"
        return self.tracked


@dataclass(slots=True)
class _PairProbe(_Probe):
    tokens: TokenizedPair = None  # type: ignore[assignment]
    asked: dict[Response, list[int]] = field(default_factory=dict)
    """Positions with a ledger, the fork among them."""
    places: dict[Place, Tracked | None] = field(default_factory=dict)
    preferred_logprob: float = 0.0
    dispreferred_logprob: float = 0.0
    """At step 0."""
    onset_step: int | None = None


@dataclass(slots=True)
class _PromptProbe(_Probe):
    wanted: PromptProbe = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class ProbeSnapshot:
    """A pair as the model sees it now."""

    preferred_logprobs: list[float]
    dispreferred_logprobs: list[float]
    now_V: Tensor


class Probes:
    """Watches pairs and prompts during a run. `state` is what a checkpoint has to keep."""

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        pairs: Sequence[TokenizedPair],
        config: TrainConfig,
        reporter: Reporter,
        control: Control,
    ) -> None:
        self._loaded, self._forward = loaded, forward
        self._config, self._reporter, self._control = config, reporter, control
        self._budget = TokenBudget(config.batch_tokens, reporter.message)
        self._pairs = [self._pair_probe(pair) for pair in pairs]
        self._prompts = [
            self._prompt_probe(number, wanted)
            for number, wanted in enumerate(config.probes.prompts)
        ]

    @property
    def _all(self) -> list[_Probe]:
        return [*self._pairs, *self._prompts]

    def _pair_probe(self, pair: TokenizedPair) -> _PairProbe:
        asked = asked_positions(pair, self._config.ledger_positions)
        return _PairProbe(
            pair.pair,
            pair.prompt_ids,
            tokens=pair,
            asked=asked,
            places=dict.fromkeys(_places(pair, asked)),
        )

    def _prompt_probe(self, number: int, wanted: PromptProbe) -> _PromptProbe:
        prompt = wanted.model_dump()["prompt"]
        try:
            ids = tokenize_prompt(self._loaded.tokenizer, prompt, self._config.max_prompt_tokens)
        except EmptyTextError:
            raise EmptyTextError(f"probes.prompts[{number}] has no tokens.") from None
        return _PromptProbe(-1 - number, ids, wanted=wanted)

    # --- a run's life ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Record the probes themselves and their step 0."""
        self._bound_positions()
        self._settle_groups(self._reporter.message)
        looks = self._look()
        for probe in self._pairs:
            self._start(probe, looks[probe.pair])
        for prompt in self._prompts:
            prompt.tracked = self._track(self._after_prompt(prompt), None, _members(prompt))
        for record in self._records():
            self._reporter.put(record)
        for place in self._position_records():
            self._reporter.put(place)
        self._emit(0, looks)
        if self._config.answer_every is not None:
            self._answer(0)

    def resume(self, state: ProbeState) -> None:
        """Take up probes that began in an earlier attempt at the run."""
        self._settle_groups(lambda _: None)  # said already
        for probe in self._pairs:
            described = state.described[str(probe.pair)]
            probe.preferred_logprob, probe.dispreferred_logprob = described["logprobs"]
            probe.onset_step = described["onset_step"]
            probe.asked = described["asked"]
            probe.tracked = self._restore(probe, "fork", state, _always(probe))
            probe.places = {
                place: self._restore(probe, _key(place), state, _next_tokens(probe, place))
                for place in _places(probe.tokens, probe.asked)
                if _key(place) in described["earlier"]
            }
        for prompt in self._prompts:
            prompt.tracked = self._restore(prompt, "fork", state, _members(prompt))

    def observe(self, step: int) -> None:
        self._emit(step, self._look())

    def answer_if_due(self, step: int, last: bool) -> None:
        """Let the model answer every probe's prompt, where the run asks for it at this step."""
        every = self._config.answer_every
        if every is not None and (last or step % every == 0):
            self._answer(step)

    def state(self, step: int) -> ProbeState:
        """What is needed to go on from a checkpoint at `step`, which is then observed again."""
        tensors: dict[str, Tensor] = {}
        described: dict[str, Any] = {}
        for probe in self._all:
            tracked = dict(_tracked(probe))
            for key, one in tracked.items():
                for name, tensor in one.tensors(step).items():
                    tensors[f"{probe.pair}.{key}.{name}"] = tensor
            about: dict[str, Any] = {
                "earlier": {key: one.before(step)[0] for key, one in tracked.items()}
            }
            if isinstance(probe, _PairProbe):
                about["logprobs"] = [probe.preferred_logprob, probe.dispreferred_logprob]
                about["onset_step"] = probe.onset_step
                about["asked"] = probe.asked
            described[str(probe.pair)] = about
        return ProbeState(tensors, described)

    def summarize(self) -> list[dict[str, Any]]:
        """Each pair at the last step observed: changes in nats, fork, where the mass went."""
        return [self._summarize(probe) for probe in self._pairs if probe.last is not None]

    def summarize_prompts(self) -> list[dict[str, Any]]:
        """The same of the prompts: how much moved, to which tokens, and the groups' sums."""
        return [
            {
                "pair": probe.pair,
                "name": probe.wanted.name,
                "moved_mass": probe.last.ledger.moved_mass,
                "top_gainers": _top_gainers(probe.last),
                "groups": [
                    {
                        "name": name,
                        "initial": probe.fork.initial_V[members].sum().item(),
                        "final": final,
                    }
                    for (name, members), final in zip(
                        probe.groups.items(), probe.last.group_probs, strict=True
                    )
                ],
            }
            for probe in self._prompts
            if probe.last is not None
        ]

    # --- the beginning --------------------------------------------------------------------------

    def _bound_positions(self) -> None:
        """Leave out the positions furthest from the start that memory has no room for."""
        most = most_positions(len(unembedding_VD(self._loaded)), POSITION_BYTES)
        wanted = [(place[1], probe) for probe in self._pairs for place in probe.places]
        if len(wanted) <= most:
            return
        first_left_out = sorted(position for position, _ in wanted)[most]
        for probe in self._pairs:
            probe.asked = {
                response: [
                    k for k in asked if k < first_left_out or k == probe.tokens.fork_position
                ]
                for response, asked in probe.asked.items()
            }
            probe.places = dict.fromkeys(_places(probe.tokens, probe.asked))
        self._reporter.message(
            f"Ledgers are kept of the positions before {first_left_out} and of the forks: the "
            f"{len(wanted)} positions asked for would not fit into memory."
        )

    def _settle_groups(self, tell: Callable[[str], None]) -> None:
        """Resolve the words of token groups, and those to watch, to tokens."""
        tokenizer, said = self._loaded.tokenizer, set[str]()

        def tell_once(text: str) -> None:
            if text not in said:
                said.add(text)
                tell(text)

        def left_out_of_group(name: str, word: str) -> None:
            tell_once(
                f"“{word}” of the token group “{name}” is more than one token for this model and "
                "is left out."
            )

        for probe in self._all:
            groups: dict[str, list[int]] = {}
            context = list(probe.prompt_ids)
            if isinstance(probe, _PairProbe):
                context += probe.tokens.preferred_ids[: probe.tokens.fork_position]
            if isinstance(probe, _PromptProbe):
                called = probe.wanted.name or f"number {-probe.pair}"
                watched = {word: [word] for word in probe.wanted.watch}

                def not_watched(_: str, word: str, called: str = called) -> None:
                    tell_once(
                        f"“{word}” is more than one token for this model and is not watched after "
                        f"the prompt “{called}”."
                    )

                found = resolve_groups(tokenizer, context, watched, not_watched)
                groups = {name: members for name, members in found.items() if members}
            more = resolve_groups(tokenizer, context, self._config.token_groups, left_out_of_group)
            for name, members in more.items():
                groups[f"{name} (group)" if name in groups else name] = members
            probe.groups = groups

    def _start(self, probe: _PairProbe, look: ProbeSnapshot) -> None:
        probe.preferred_logprob = sum(look.preferred_logprobs)
        probe.dispreferred_logprob = sum(look.dispreferred_logprobs)
        probe.tracked = self._track(
            look.now_V, self._fork_direction(probe.tokens, look.now_V), _always(probe)
        )
        for place, now_V in self._at_places(probe):
            probe.places[place] = self._track(
                now_V, self._direction(probe.tokens, place, now_V), _next_tokens(probe, place)
            )

    def _track(
        self, initial_V: Tensor, direction_D: Tensor | None, always: Sequence[int]
    ) -> Tracked:
        predicted_V = None
        if direction_D is not None:
            unembedding = unembedding_VD(self._loaded)
            predicted_V = predicted_changes(unembedding, initial_V, direction_D).float()
        return Tracked(
            self._loaded.tokenizer,
            self._config.ledger_top,
            initial_V.float(),
            predicted_V,
            always,
        )

    def _restore(
        self, probe: _Probe, key: str, state: ProbeState, always: Sequence[int]
    ) -> Tracked:
        prefix = f"{probe.pair}.{key}."
        return Tracked.restore(
            self._loaded.tokenizer,
            self._config.ledger_top,
            {
                name.removeprefix(prefix): tensor
                for name, tensor in state.tensors.items()
                if name.startswith(prefix)
            },
            state.described[str(probe.pair)]["earlier"][key],
            always,
        )

    def _fork_direction(self, pair: TokenizedPair, now_V: Tensor) -> Tensor:
        unembedding, fork = unembedding_VD(self._loaded), pair.fork_position
        preferred_id, dispreferred_id = pair.preferred_ids[fork], pair.dispreferred_ids[fork]
        if self._config.objective == "cross_entropy":
            return likelihood_direction(unembedding, now_V, preferred_id)
        return preference_direction(unembedding, preferred_id, dispreferred_id)

    def _direction(self, pair: TokenizedPair, place: Place, now_V: Tensor) -> Tensor | None:
        """Along which a small step moves the hidden state at a place besides the fork: the
        gradient of the margin there. None where it is zero: before the fork both responses want
        the same token, and cross-entropy does not know y-."""
        response, position = place
        unembedding = unembedding_VD(self._loaded)
        plain = self._config.objective == "cross_entropy"
        if response == "preferred":
            if position < pair.fork_position and not plain:
                return None
            return likelihood_direction(unembedding, now_V, pair.preferred_ids[position])
        if plain:
            return None
        return -likelihood_direction(unembedding, now_V, pair.dispreferred_ids[position])

    def _records(self) -> Iterator[ProbeRecord]:
        tokenizer = self._loaded.tokenizer
        for probe in self._all:
            pair = probe.tokens if isinstance(probe, _PairProbe) else None
            yield ProbeRecord(
                pair=probe.pair,
                kind="pair" if pair else "prompt",
                name=probe.wanted.name if isinstance(probe, _PromptProbe) else None,
                prompt=storable(tokenizer.decode(probe.prompt_ids)),
                preferred_tokens=token_texts(tokenizer, pair.preferred_ids) if pair else [],
                dispreferred_tokens=token_texts(tokenizer, pair.dispreferred_ids) if pair else [],
                fork_position=pair.fork_position if pair else 0,
                groups=[
                    {"name": name, "tokens": token_texts(tokenizer, members)}
                    for name, members in probe.groups.items()
                ],
                watched=probe.fork.describe_watched(),
                predicted=probe.fork.describe_predicted(),
                positions={str(name): asked for name, asked in probe.asked.items()}
                if isinstance(probe, _PairProbe)
                else {"preferred": [0], "dispreferred": [0]},
            )

    def _position_records(self) -> Iterator[PositionRecord]:
        for probe in self._pairs:
            for (response, position), tracked in probe.places.items():
                assert tracked is not None
                yield PositionRecord(
                    pair=probe.pair,
                    response=response,
                    position=position,
                    watched=tracked.describe_watched(),
                    predicted=tracked.describe_predicted(),
                )

    # --- looking --------------------------------------------------------------------------------

    @torch.no_grad()
    def _look(self) -> dict[int, ProbeSnapshot]:
        looks: dict[int, ProbeSnapshot] = {}

        def look(batch: list[TokenizedPair]) -> None:
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
                looks[pair.pair] = ProbeSnapshot(preferred[b], other[b], now_V)

        pairs = [probe.tokens for probe in self._pairs]
        in_batches(pairs, self._forward.row_tokens, self._budget, self._control, look)
        return looks

    def _at_places(self, probe: _PairProbe) -> Iterator[tuple[Place, Tensor]]:
        """The distribution at each recorded position besides the fork."""
        pair = probe.tokens
        for response, ids in (
            ("preferred", pair.preferred_ids),
            ("dispreferred", pair.dispreferred_ids),
        ):
            places = [place for place in probe.places if place[0] == response]
            if not places:
                continue
            self._control.check()
            furthest = max(position for _, position in places)
            text = [*pair.prompt_ids, *ids[:furthest]]
            first = len(pair.prompt_ids) - 1
            logits_PV = next_token_logits(
                self._loaded, text, [first + position for _, position in places]
            )
            for place, logits_V in zip(places, logits_PV, strict=True):
                yield place, distribution(logits_V)

    def _after_prompt(self, probe: _PromptProbe) -> Tensor:
        self._control.check()
        ids = probe.prompt_ids
        return distribution(next_token_logits(self._loaded, ids, [len(ids) - 1])[0])

    def _emit(self, step: int, looks: Mapping[int, ProbeSnapshot]) -> None:
        for probe in self._pairs:
            self._put(probe, self._pair_step(step, probe, looks[probe.pair]))
            if not probe.places:
                continue
            for place, now_V in self._at_places(probe):
                tracked = probe.places[place]
                assert tracked is not None
                self._reporter.put(
                    PositionStepRecord(probe.pair, *place, step, tracked.observe(step, now_V))
                )
        for prompt in self._prompts:
            self._put(prompt, self._prompt_step(step, prompt, self._after_prompt(prompt)))

    def _put(self, probe: _Probe, record: ProbeStepRecord) -> None:
        probe.last = record
        self._reporter.put(record)

    def _pair_step(self, step: int, probe: _PairProbe, look: ProbeSnapshot) -> ProbeStepRecord:
        pair, now_V = probe.tokens, look.now_V
        preferred_id = pair.preferred_ids[pair.fork_position]
        dispreferred_id = pair.dispreferred_ids[pair.fork_position]
        changes = (
            sum(look.preferred_logprobs) - probe.preferred_logprob,
            sum(look.dispreferred_logprobs) - probe.dispreferred_logprob,
        )
        if not displaced(*changes):
            probe.onset_step = None
        elif probe.onset_step is None:
            probe.onset_step = step
        return ProbeStepRecord(
            pair=probe.pair,
            step=step,
            preferred_logprobs=look.preferred_logprobs,
            dispreferred_logprobs=look.dispreferred_logprobs,
            preferred_change=changes[0],
            dispreferred_change=changes[1],
            onset_step=probe.onset_step,
            preferred_prob=now_V[preferred_id].item(),
            dispreferred_prob=now_V[dispreferred_id].item(),
            other_prob=1.0 - now_V[list({preferred_id, dispreferred_id})].sum().item(),
            group_probs=_group_probs(probe, now_V),
            ledger=probe.fork.observe(step, now_V),
        )

    def _prompt_step(self, step: int, probe: _PromptProbe, now_V: Tensor) -> ProbeStepRecord:
        return ProbeStepRecord(
            pair=probe.pair,
            step=step,
            preferred_logprobs=[],
            dispreferred_logprobs=[],
            preferred_change=None,
            dispreferred_change=None,
            onset_step=None,
            preferred_prob=None,
            dispreferred_prob=None,
            other_prob=None,
            group_probs=_group_probs(probe, now_V),
            ledger=probe.fork.observe(step, now_V),
        )

    def _answer(self, step: int) -> None:
        # Probes of one prompt get one answer.
        prompts = list(dict.fromkeys(tuple(probe.prompt_ids) for probe in self._all))
        found = greedy_answers(
            self._loaded, prompts, self._config.answer_tokens, self._control, self._reporter.message
        )
        answers = dict(zip(prompts, found, strict=True))
        for probe in self._all:
            answer = answers[tuple(probe.prompt_ids)]
            if answer is not None:
                self._reporter.put(AnswerRecord(probe.pair, step, answer.text, answer.ended))

    def _summarize(self, probe: _PairProbe) -> dict[str, Any]:
        pair, last, initial_V = probe.tokens, probe.last, probe.fork.initial_V
        assert last is not None
        tokenizer, fork = self._loaded.tokenizer, pair.fork_position
        preferred_id, dispreferred_id = pair.preferred_ids[fork], pair.dispreferred_ids[fork]
        gainers = [entry.token_id for entry in last.ledger.gainers[:TOP_IN_SUMMARY]]
        return {
            "pair": probe.pair,
            "preferred_change": last.preferred_change,
            "dispreferred_change": last.dispreferred_change,
            "moved_mass": last.ledger.moved_mass,
            "onset_step": last.onset_step,
            "predicted_hit": sum(token_id in probe.fork.predicted for token_id in gainers),
            "fork": {
                "position": fork,
                "preferred_token": token_text(tokenizer, preferred_id),
                "dispreferred_token": token_text(tokenizer, dispreferred_id),
                "preferred_initial": initial_V[preferred_id].item(),
                "preferred_final": last.preferred_prob,
                "dispreferred_initial": initial_V[dispreferred_id].item(),
                "dispreferred_final": last.dispreferred_prob,
            },
            "top_gainers": _top_gainers(last),
        }


def asked_positions(
    pair: TokenizedPair, wanted: LedgerPositions | None
) -> dict[Response, list[int]]:
    """The positions of each response that get a ledger: the fork, and what is asked for of it."""
    wanted = wanted or LedgerPositions(preferred=[], dispreferred=[])

    def of(ids: Sequence[int], positions: Sequence[int] | str) -> list[int]:
        chosen = range(ALL_POSITIONS) if isinstance(positions, str) else positions
        return sorted({pair.fork_position, *(k for k in chosen if k < len(ids))})

    return {
        "preferred": of(pair.preferred_ids, wanted.preferred),
        "dispreferred": of(pair.dispreferred_ids, wanted.dispreferred),
    }


def _places(pair: TokenizedPair, asked: Mapping[Response, Sequence[int]]) -> list[Place]:
    """The same without the fork. Up to it both responses are one, which is y+ here."""
    fork = pair.fork_position
    shared = {k for positions in asked.values() for k in positions if k < fork}
    behind = [k for k in asked["preferred"] if k > fork]
    return [
        *(("preferred", k) for k in [*sorted(shared), *behind]),
        *(("dispreferred", k) for k in asked["dispreferred"] if k > fork),
    ]


def _key(place: Place) -> str:
    return f"{place[0]}.{place[1]}"


def _tracked(probe: _Probe) -> Iterator[tuple[str, Tracked]]:
    """Everything that is followed of a probe, under the names that a checkpoint has for it."""
    yield "fork", probe.fork
    if isinstance(probe, _PairProbe):
        for place, tracked in probe.places.items():
            assert tracked is not None
            yield _key(place), tracked


def _members(probe: _Probe) -> list[int]:
    return [token_id for members in probe.groups.values() for token_id in members]


def _always(probe: _PairProbe) -> list[int]:
    """Tokens that are watched at the fork in any case."""
    pair, fork = probe.tokens, probe.tokens.fork_position
    return [pair.preferred_ids[fork], pair.dispreferred_ids[fork], *_members(probe)]


def _next_tokens(probe: _PairProbe, place: Place) -> list[int]:
    """Tokens that are watched at another position in any case: the response's own."""
    response, position = place
    pair = probe.tokens
    ids = pair.preferred_ids if response == "preferred" else pair.dispreferred_ids
    return [ids[position]]


def _group_probs(probe: _Probe, now_V: Tensor) -> list[float]:
    return [now_V[members].sum().item() for members in probe.groups.values()]


def _top_gainers(last: ProbeStepRecord) -> list[dict[str, Any]]:
    return [
        {"token": entry.token, "change": entry.change}
        for entry in last.ledger.gainers[:TOP_IN_SUMMARY]
    ]


def _split(values_N: Tensor, responses: Sequence[Sequence[int]]) -> list[list[float]]:
    parts = torch.split(values_N.cpu(), [len(ids) for ids in responses])
    return [part.tolist() for part in parts]


CONTEXT_TOKENS = 8


def resolve_groups(
    tokenizer: Any,
    context_ids: Sequence[int],
    groups: Mapping[str, Sequence[str]],
    left_out: Callable[[str, str], None],
) -> dict[str, list[int]]:
    """The single tokens that each group's words are behind a context.

    A word counts in all forms that are one token: as it stands, behind a space, and right
    behind the context. A word that has no such form is left out: `left_out(group, word)`.
    """
    resolved: dict[str, list[int]] = {}
    for name, words in groups.items():
        members: list[int] = []
        for word in words:
            token_ids = _single_tokens(tokenizer, context_ids, word)
            if not token_ids:
                left_out(name, word)
            members.extend(token_ids)
        resolved[name] = list(dict.fromkeys(members))
    return resolved


def _single_tokens(tokenizer: Any, context_ids: Sequence[int], word: str) -> list[int]:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    found = [ids[0] for ids in (encode(word), encode(f" {word}")) if len(ids) == 1]
    context_text = tokenizer.decode(list(context_ids)[-CONTEXT_TOKENS:])
    before, after = encode(context_text), encode(context_text + word)
    if len(after) == len(before) + 1 and after[:-1] == before:
        found.append(after[-1])
    return list(dict.fromkeys(found))
