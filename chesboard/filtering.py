"""Filtered DPO: pairs whose preferred response the model has come to surpass are dropped.

Morimura et al. (arXiv 2404.13846), Algorithm 1; docs/theory.md, equation 42. Before each epoch the
model under training answers the prompt of each pair that is left, and a reward model scores that
answer and the preferred response. A pair goes on only where the preferred response is better.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from chesboard.configs import RefreshFilter
from chesboard.forward.batching import TokenBudget
from chesboard.generation.answers import answer_requests, answer_text
from chesboard.generation.decoding import Decoded, Request
from chesboard.generation.sampling import Sampling
from chesboard.judging.answers import Judge, JudgedAnswer
from chesboard.model import LoadedModel
from chesboard.pairs import Pair, TokenizedPair
from chesboard.records import FilterRecord, JudgmentRecord
from chesboard.reporting import Control, Reporter

DECIDED_AT_A_TIME = 256
"""Pairs that are answered, scored and reported together. A run that is interrupted among them
decides on all of them anew: batches of some of them would round otherwise."""

_SAMPLE, _PREFERRED = 0, 1


class Decided(NamedTuple):
    """What is needed of a decision that an earlier attempt at the run took."""

    epoch: int
    pair: int
    preferred_reward: float
    kept: bool


def is_kept(sample_reward: float, preferred_reward: float) -> bool:
    """Whether the preferred response has the higher reward, or one is not finite: then nothing
    speaks against the pair."""
    return not _are_finite(sample_reward, preferred_reward) or sample_reward < preferred_reward


class PairFilter:
    """The decisions of one run. Those of an epoch need the model as it is before that epoch."""

    def __init__(
        self,
        loaded: LoadedModel,
        config: RefreshFilter,
        seed: int,
        batch_tokens: int,
        read_pairs: Callable[[Sequence[int]], Sequence[Pair]],
        load_reward: Callable[[], Judge],
        reporter: Reporter,
        control: Control,
        decided: Iterable[Decided] = (),
    ) -> None:
        """loaded: the model under training. read_pairs: the texts of pairs by their ordinals.
        load_reward: called once, before anything is scored; its judge's score is the reward.
        batch_tokens: as in `GenerateConfig`. decided: by earlier attempts at the run.
        """
        self._loaded, self._config, self._seed = loaded, config, seed
        self._read_pairs, self._load_reward = read_pairs, load_reward
        self._reporter, self._control = reporter, control
        limits = "max_prompt_tokens or the filter's answer_tokens"
        self._budget = TokenBudget(batch_tokens, reporter.message, limits)
        self._reward: Judge | None = None
        self._kept: dict[int, dict[int, bool]] = {}
        self._preferred: dict[int, float] = {}
        for one in decided:
            self._kept.setdefault(one.epoch, {})[one.pair] = one.kept
            self._preferred[one.pair] = one.preferred_reward

    def known(self, epoch: int, pairs: Collection[int]) -> list[bool] | None:
        """Whether each pair is kept in an epoch, if that is decided for all of them."""
        kept = self._kept.get(epoch, {})
        return [kept[pair] for pair in pairs] if all(pair in kept for pair in pairs) else None

    def decide(self, epoch: int, pairs: Sequence[TokenizedPair]) -> list[bool]:
        """Whether each pair that is left is kept in an epoch, counted from 1; reports a record for
        each that was not known.

        A decision depends on the model, the seed, the pair and the epoch alone, apart from
        rounding, as in `answer_requests`.

        Raises:
            What `load_reward` raises.
            MemoryError: one text alone does not fit into the GPU's memory.
            What `control.check()` raises, between two tokens.
        """
        kept = self._kept.setdefault(epoch, {})
        unscored = unanswered = 0
        for start in range(0, len(pairs), DECIDED_AT_A_TIME):
            some = pairs[start : start + DECIDED_AT_A_TIME]
            self._reporter.phase("filtering", start, len(pairs), "pairs")
            if all(one.pair in kept for one in some):
                continue
            records = self._decide(epoch, some, start, len(pairs))
            self._reporter.put(*records)
            kept.update({one.pair: one.kept for one in records})
            self._preferred.update({one.pair: one.preferred_reward for one in records})
            unanswered += sum(one.text is None for one in records)
            unscored += sum(
                one.sample_reward is not None
                and not _are_finite(one.sample_reward, one.preferred_reward)
                for one in records
            )
        self._reporter.phase("filtering", len(pairs), len(pairs), "pairs")
        self._tell(epoch, len(pairs), unanswered, unscored)
        return [kept[one.pair] for one in pairs]

    def _tell(self, epoch: int, pairs: int, unanswered: int, unscored: int) -> None:
        if unanswered:
            self._reporter.message(
                f"Before epoch {epoch}, {unanswered} of {pairs} prompts were too long for an "
                f"answer of {self._config.answer_tokens} tokens; their pairs go on."
            )
        if unscored:
            self._reporter.message(
                f"Before epoch {epoch}, {unscored} of {pairs} rewards were no finite numbers; "
                "their pairs go on."
            )

    def _decide(
        self, epoch: int, pairs: Sequence[TokenizedPair], done: int, total: int
    ) -> list[FilterRecord]:
        if self._reward is None:
            self._reward = self._load_reward()
            self._reporter.phase("filtering", done, total, "pairs")
        texts = self._answer(epoch, pairs, done, total)
        raw = {one.pair: one for one in self._read_pairs([one.pair for one in pairs])}
        samples = [
            JudgedAnswer(pair, _SAMPLE, raw[pair].prompt, text) for pair, text in texts.items()
        ]
        # Its reward does not change. In the first epoch all are scored, of an interrupted run too.
        preferred = [
            JudgedAnswer(one.pair, _PREFERRED, raw[one.pair].prompt, raw[one.pair].preferred)
            for one in pairs
            if epoch == 1 or one.pair not in self._preferred
        ]
        rewards = self._score(self._reward, [*samples, *preferred])
        return [self._record(epoch, one.pair, texts, rewards) for one in pairs]

    def _answer(
        self, epoch: int, pairs: Sequence[TokenizedPair], done: int, total: int
    ) -> Mapping[int, str]:
        """The answers of those pairs whose prompts leave room for one."""
        texts: dict[int, str] = {}

        def keep(request: Request, decoded: Decoded) -> None:
            texts[request.pair] = answer_text(self._loaded, decoded)
            self._reporter.phase("filtering", done + len(texts), total, "pairs")

        answer_requests(
            self._loaded,
            [Request(one.pair, epoch, tuple(one.prompt_ids)) for one in pairs],
            self._config.answer_tokens,
            Sampling(self._config.temperature, self._config.top_p),
            self._budget,
            self._control,
            keep,
            lambda _: None,  # told once for all pairs of the epoch
            seed=self._seed,
        )
        # In the order of the pairs, not of the ends of answers.
        return {one.pair: texts[one.pair] for one in pairs if one.pair in texts}

    def _score(
        self, reward: Judge, answers: Sequence[JudgedAnswer]
    ) -> Mapping[tuple[int, int], float]:
        rewards: dict[tuple[int, int], float] = {}

        def keep(records: Sequence[JudgmentRecord]) -> None:
            for one in records:
                assert one.score is not None, "a classifier scores every text"
                rewards[one.pair, one.sample] = one.score

        reward.judge(answers, self._control, keep)
        return rewards

    def _record(
        self,
        epoch: int,
        pair: int,
        texts: Mapping[int, str],
        rewards: Mapping[tuple[int, int], float],
    ) -> FilterRecord:
        preferred = rewards.get((pair, _PREFERRED))
        if preferred is None:
            preferred = self._preferred[pair]
        sample = rewards.get((pair, _SAMPLE))
        kept = sample is None or is_kept(sample, preferred)
        return FilterRecord(pair, epoch, texts.get(pair), sample, preferred, kept)


def _are_finite(*rewards: float) -> bool:
    return all(map(math.isfinite, rewards))
