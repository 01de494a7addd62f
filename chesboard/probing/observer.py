"""ProbeObserver: observes a training run's probes at its steps and reports their records.

Dimensions: V vocabulary.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from chesboard.configs import TrainConfig
from chesboard.forward.batching import TokenBudget
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel, unembedding_VD
from chesboard.pairs import TokenizedPair
from chesboard.probing.generation import greedy_answers
from chesboard.probing.prediction import predict
from chesboard.probing.probes import (
    Probe,
    ProbeState,
    ResponsePosition,
    WatchedPair,
    WatchedPrompt,
    limit_positions,
    tracker_name,
    watch_pair,
    watch_prompt,
)
from chesboard.probing.snapshots import (
    ProbeSnapshot,
    distribution_after,
    distributions_at,
    snapshot_pairs,
)
from chesboard.probing.summary import summarize_pair, summarize_prompt
from chesboard.probing.token_groups import resolve_probe_groups
from chesboard.probing.tracker import PositionTracker
from chesboard.records import AnswerRecord, PositionStepRecord, ProbeStepRecord, displaced
from chesboard.reporting import Control, Reporter


class ProbeObserver:
    """Observes pairs and prompts during a run.

    Call `begin` at step 0, or `resume` with the `state` that a checkpoint kept; then `observe`
    and `answer_if_due` after a step, and the summaries at the end.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        forward: PairForward,
        pairs: Sequence[TokenizedPair],
        config: TrainConfig,
        reporter: Reporter,
        control: Control,
        *,
        is_fixed: bool = False,
    ) -> None:
        """is_fixed: batches cannot be made smaller where memory runs out (`TokenBudget`)."""
        self._loaded, self._forward = loaded, forward
        self._config, self._reporter, self._control = config, reporter, control
        self._is_fixed = is_fixed
        self._budget = TokenBudget(config.batch_tokens, reporter.message, is_fixed=is_fixed)
        self._pairs = [watch_pair(pair, config) for pair in pairs]
        self._prompts = [
            watch_prompt(number, prompt, loaded.tokenizer, config.max_prompt_tokens)
            for number, prompt in enumerate(config.probes.prompts)
        ]

    @property
    def _all(self) -> list[WatchedPair | WatchedPrompt]:
        return [*self._pairs, *self._prompts]

    # --- life cycle -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Record the probes themselves and their step 0."""
        vocabulary = len(unembedding_VD(self._loaded))
        limit_positions(self._pairs, vocabulary, self._reporter.message)
        self._resolve_groups(self._reporter.message)
        snapshots = self._snapshots()
        for probe in self._pairs:
            self._start(probe, snapshots[probe.pair])
        for prompt in self._prompts:
            prompt.tracker = self._track(
                self._after_prompt(prompt), None, always=prompt.always_watched
            )
        tokenizer = self._loaded.tokenizer
        self._reporter.put(*(probe.record(tokenizer) for probe in self._all))
        self._reporter.put(*(one for probe in self._pairs for one in probe.position_records()))
        self._record(0, snapshots)
        if self._config.answer_every is not None:
            self._answer(0)

    def resume(self, state: ProbeState) -> None:
        """Restore the probes from the checkpoint of an earlier attempt at the run."""
        self._resolve_groups(report=None)  # the earlier attempt has reported what it left out
        for probe in self._pairs:
            described = state.described[str(probe.pair)]
            preferred, dispreferred = described["logprobs"]
            probe.initial_logprobs = (preferred, dispreferred)
            probe.onset_step = described["onset_step"]
            probe.ledger_positions = described["asked"]
            probe.tracker = self._restore(probe, "fork", state, probe.always_watched)
            probe.others = {
                place: self._restore(probe, tracker_name(place), state, [probe.token_at(place)])
                for place in probe.other_positions
                if tracker_name(place) in described["earlier"]
            }
        for prompt in self._prompts:
            prompt.tracker = self._restore(prompt, "fork", state, prompt.always_watched)

    def observe(self, step: int) -> None:
        """Compute and record all probes at a step."""
        self._record(step, self._snapshots())

    def answer_if_due(self, step: int, last: bool) -> None:
        """Generate an answer to every probe's prompt, where the run is configured to at `step`."""
        if self.answers_at(step, last):
            self._answer(step)

    def answers_at(self, step: int, last: bool) -> bool:
        every = self._config.answer_every
        return every is not None and (last or step % every == 0)

    def state(self, step: int) -> ProbeState:
        """The probes' part of a checkpoint at `step`. A run that resumes observes `step` again."""
        tensors: dict[str, Tensor] = {}
        described: dict[str, Any] = {}
        for probe in self._all:
            trackers = dict(probe.trackers())
            for key, tracker in trackers.items():
                for name, tensor in tracker.tensors(step).items():
                    tensors[f"{probe.pair}.{key}.{name}"] = tensor
            about: dict[str, Any] = {
                "earlier": {key: tracker.previous(step)[0] for key, tracker in trackers.items()}
            }
            if isinstance(probe, WatchedPair):
                about["logprobs"] = list(probe.initial_logprobs)
                about["onset_step"] = probe.onset_step
                about["asked"] = probe.ledger_positions
            described[str(probe.pair)] = about
        return ProbeState(tensors, described)

    def summarize(self) -> list[dict[str, Any]]:
        """Each pair at the last observed step: changes in nats, fork, top gainers."""
        tokenizer = self._loaded.tokenizer
        return [summarize_pair(probe, tokenizer) for probe in self._pairs if probe.last is not None]

    def summarize_prompts(self) -> list[dict[str, Any]]:
        """Each prompt at the last observed step: moved mass, top gainers, group sums."""
        return [summarize_prompt(probe) for probe in self._prompts if probe.last is not None]

    # --- start ----------------------------------------------------------------------------------

    def _resolve_groups(self, report: Callable[[str], None] | None) -> None:
        """Resolve the words of token groups, and those to watch, to token ids."""
        reported: set[str] = set()

        def report_once(text: str) -> None:
            if report is not None and text not in reported:
                reported.add(text)
                report(text)

        for probe in self._all:
            probe.groups = resolve_probe_groups(
                self._loaded.tokenizer,
                probe.context_ids,
                self._config.token_groups,
                probe.watched_words,
                probe.display_name,
                report_once,
            )

    def _start(self, probe: WatchedPair, snapshot: ProbeSnapshot) -> None:
        probe.initial_logprobs = (
            sum(snapshot.preferred_logprobs),
            sum(snapshot.dispreferred_logprobs),
        )
        fork: ResponsePosition = ("preferred", probe.tokens.fork_position)
        probe.tracker = self._track(
            snapshot.now_V,
            self._predict(probe, fork, snapshot.now_V),
            always=probe.always_watched,
        )
        for place, now_V in self._at_positions(probe, probe.other_positions):
            probe.others[place] = self._track(
                now_V, self._predict(probe, place, now_V), always=[probe.token_at(place)]
            )

    def _predict(self, probe: WatchedPair, place: ResponsePosition, now_V: Tensor) -> Tensor | None:
        return predict(
            unembedding_VD(self._loaded),
            now_V,
            probe.tokens,
            *place,
            cross_entropy=self._config.objective == "cross_entropy",
        )

    def _track(
        self, initial_V: Tensor, predicted_V: Tensor | None, *, always: Sequence[int]
    ) -> PositionTracker:
        return PositionTracker(
            self._loaded.tokenizer,
            self._config.ledger_top,
            initial_V.float(),
            None if predicted_V is None else predicted_V.float(),
            always,
        )

    def _restore(
        self, probe: Probe, key: str, state: ProbeState, always: Sequence[int]
    ) -> PositionTracker:
        prefix = f"{probe.pair}.{key}."
        return PositionTracker.restore(
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

    # --- observation ----------------------------------------------------------------------------

    def _snapshots(self) -> dict[int, ProbeSnapshot]:
        pairs = [probe.tokens for probe in self._pairs]
        return snapshot_pairs(self._forward, pairs, self._budget, self._control)

    def _at_positions(
        self, probe: WatchedPair, positions: Iterable[ResponsePosition]
    ) -> Iterable[tuple[ResponsePosition, Tensor]]:
        return distributions_at(self._loaded, probe.tokens, list(positions), self._control)

    def _after_prompt(self, probe: WatchedPrompt) -> Tensor:
        return distribution_after(self._loaded, probe.prompt_ids, self._control)

    def _record(self, step: int, snapshots: Mapping[int, ProbeSnapshot]) -> None:
        for probe in self._pairs:
            self._put(probe, self._pair_step(step, probe, snapshots[probe.pair]))
            for place, now_V in self._at_positions(probe, probe.others):
                ledger = probe.others[place].observe(step, now_V)
                self._reporter.put(PositionStepRecord(probe.pair, *place, step, ledger))
        for prompt in self._prompts:
            self._put(prompt, self._prompt_step(step, prompt, self._after_prompt(prompt)))

    def _put(self, probe: Probe, record: ProbeStepRecord) -> None:
        probe.last = record
        self._reporter.put(record)

    def _pair_step(self, step: int, probe: WatchedPair, snapshot: ProbeSnapshot) -> ProbeStepRecord:
        now_V, (preferred_id, dispreferred_id) = snapshot.now_V, probe.fork_ids
        preferred_change = sum(snapshot.preferred_logprobs) - probe.initial_logprobs[0]
        dispreferred_change = sum(snapshot.dispreferred_logprobs) - probe.initial_logprobs[1]
        if not displaced(preferred_change, dispreferred_change):
            probe.onset_step = None
        elif probe.onset_step is None:
            probe.onset_step = step
        return ProbeStepRecord(
            pair=probe.pair,
            step=step,
            preferred_logprobs=snapshot.preferred_logprobs,
            dispreferred_logprobs=snapshot.dispreferred_logprobs,
            preferred_change=preferred_change,
            dispreferred_change=dispreferred_change,
            onset_step=probe.onset_step,
            preferred_prob=now_V[preferred_id].item(),
            dispreferred_prob=now_V[dispreferred_id].item(),
            # Identical responses have one token at their fork, which must count once.
            other_prob=1.0 - now_V[list({preferred_id, dispreferred_id})].sum().item(),
            group_probs=probe.group_probs(now_V),
            ledger=probe.fork.observe(step, now_V),
        )

    def _prompt_step(self, step: int, probe: WatchedPrompt, now_V: Tensor) -> ProbeStepRecord:
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
            group_probs=probe.group_probs(now_V),
            ledger=probe.fork.observe(step, now_V),
        )

    def _answer(self, step: int) -> None:
        # Probes that share a prompt share its answer, which is generated once.
        prompts = list(dict.fromkeys(tuple(probe.prompt_ids) for probe in self._all))
        found = greedy_answers(
            self._loaded,
            prompts,
            self._config.answer_tokens,
            self._control,
            self._reporter.message,
            is_fixed=self._is_fixed,
        )
        answers = dict(zip(prompts, found, strict=True))
        for probe in self._all:
            answer = answers[tuple(probe.prompt_ids)]
            if answer is not None:
                self._reporter.put(AnswerRecord(probe.pair, step, answer.text, answer.ended))
