"""A generation run: answers to the prompts of pairs, each distinct prompt once."""

import time
from collections.abc import Collection, Sequence
from typing import Any

from chesboard.configs import GenerateConfig
from chesboard.forward.batching import TokenBudget
from chesboard.generation.answers import answer_requests, answer_text
from chesboard.generation.decoding import Decoded, Request
from chesboard.generation.sampling import Sampling
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import GenerationRecord
from chesboard.reporting import Control, Reporter


def requests_of(pairs: Sequence[TokenizedPair], samples: int) -> list[Request]:
    """The answers that are wanted: of each distinct prompt, under the first of its pairs."""
    first_pair: dict[tuple[int, ...], int] = {}
    for pair in pairs:
        first_pair.setdefault(tuple(pair.prompt_ids), pair.pair)
    return [
        Request(pair, sample, prompt)
        for prompt, pair in first_pair.items()
        for sample in range(samples)
    ]


def generate_answers(
    loaded: LoadedModel,
    requests: Sequence[Request],
    config: GenerateConfig,
    reporter: Reporter,
    control: Control,
    already: Collection[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Report a record of each answer that is not in `already`, as soon as it has ended.

    already: (pair, sample) of those that an earlier attempt finished. The texts are the same
    however often it was interrupted.

    Returns of this call the `seconds` and how many tokens were generated (`new_tokens`).

    Raises:
        What `control.check()` raises, between two tokens.
    """
    answered = set(already)
    new_tokens = 0

    def record(request: Request, decoded: Decoded) -> None:
        nonlocal new_tokens
        key = request.pair, request.sample
        if key in answered:
            return
        tokens = len(decoded.ids)
        answered.add(key)
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
    return {"seconds": time.perf_counter() - started, "new_tokens": new_tokens}
