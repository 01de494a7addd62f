"""A generation run: answers to the prompts of pairs, each distinct prompt once."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from chesboard.configs import GenerateConfig
from chesboard.forward.batching import TokenBudget
from chesboard.generation.answers import answer_requests, answer_text
from chesboard.generation.decoding import Decoded, Request
from chesboard.generation.sampling import Sampling
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import GenerationRecord
from chesboard.reporting import Control, Reporter


class Answered(NamedTuple):
    """What the summary tells of an answer."""

    tokens: int
    ended: bool
    logprob: float


def generate_answers(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    config: GenerateConfig,
    reporter: Reporter,
    control: Control,
    already: Mapping[tuple[int, int], Answered] | None = None,
) -> dict[str, Any]:
    """Report a record of each answer that is not in `already`, as soon as it has ended, and return
    a summary.

    already: (pair, sample) → the answer, of those that an earlier attempt at the run finished. The
    texts are the same however often the run was interrupted; the summary's seconds and speed
    (generated tokens per second) are of this call.

    Raises:
        ValueError: no prompt can be answered.
        What `control.check()` raises, between two tokens.
    """
    answered = dict(already or {})
    first_pair: dict[tuple[int, ...], int] = {}
    for pair in pairs:
        first_pair.setdefault(tuple(pair.prompt_ids), pair.pair)
    requests = [
        Request(pair, sample, prompt)
        for prompt, pair in first_pair.items()
        for sample in range(config.samples)
    ]
    _report_prompts(pairs, len(first_pair), reporter)
    new_tokens = 0

    def record(request: Request, decoded: Decoded) -> None:
        nonlocal new_tokens
        key = request.pair, request.sample
        if key in answered:
            return
        tokens = len(decoded.ids)
        answered[key] = Answered(tokens, decoded.ended, decoded.logprob)
        new_tokens += tokens
        text = answer_text(loaded, decoded)
        reporter.put(GenerationRecord(*key, text, tokens, decoded.ended, decoded.logprob))
        reporter.progress(len(answered), len(requests), "answers")

    started = time.perf_counter()
    reporter.phase("generating")
    reporter.progress(len(answered), len(requests), "answers")
    answer_requests(
        loaded,
        requests,
        config.answer_tokens,
        Sampling(config.temperature, config.top_p),
        TokenBudget(config.batch_tokens, reporter.message, "max_prompt_tokens or answer_tokens"),
        control,
        record,
        reporter.message,
        seed=config.seed,
        done=frozenset(answered),
    )
    seconds = time.perf_counter() - started
    if not answered:
        raise ValueError(
            "No prompt could be answered: see the run's messages. Lower answer_tokens or "
            "max_prompt_tokens, or use a smaller model."
        )
    if undefined := sum(not math.isfinite(one.logprob) for one in answered.values()):
        reporter.message(
            f"The model's logits are not finite: {undefined} of {len(answered)} answers were not "
            "sampled from any distribution."
        )
    return {
        **_summarize(pairs, requests, answered),
        "seconds": seconds,
        "tokens_per_second": new_tokens / seconds,
    }


def _report_prompts(pairs: Sequence[TokenizedPair], prompts: int, reporter: Reporter) -> None:
    cut = [pair for pair in pairs if pair.prompt_cut]
    if cut:
        tokens = sum(pair.prompt_cut for pair in cut)
        reporter.message(
            f"The prompts of {len(cut)} of {len(pairs)} pairs were too long: {tokens} tokens were "
            "cut from the left. Raise max_prompt_tokens to keep them."
        )
    if prompts < len(pairs):
        reporter.message(
            f"The {len(pairs)} pairs have {prompts} distinct prompts. Each is answered once, under "
            "the first of its pairs."
        )


def _summarize(
    pairs: Sequence[TokenizedPair],
    requests: Sequence[Request],
    answered: Mapping[tuple[int, int], Answered],
) -> dict[str, Any]:
    tokens = sum(one.tokens for one in answered.values())
    return {
        "pairs": len(pairs),
        "prompts": len({request.pair for request in requests}),
        "answers": len(answered),
        "unanswered": len(requests) - len(answered),
        "ended": sum(one.ended for one in answered.values()),
        "tokens": tokens,
        "mean_tokens": tokens / len(answered),
    }
