"""Answers to any number of requests: which can be answered, in which batches, as which text."""

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterator, Sequence

import numpy as np

from chesboard.forward.batching import TokenBudget, in_batches
from chesboard.generation.decoding import Decoded, Request, decode, takes_padding
from chesboard.generation.sampling import Sampling, draws
from chesboard.model import LoadedModel, max_positions
from chesboard.reporting import Control
from chesboard.tokenization import show_null


def answer_requests(
    loaded: LoadedModel,
    requests: Sequence[Request],
    max_new_tokens: int,
    sampling: Sampling,
    budget: TokenBudget,
    control: Control,
    on_answer: Callable[[Request, Decoded], None],
    report: Callable[[str], None],
    *,
    seed: int = 0,
    done: Container[Hashable] = (),
    prompts: str = "prompts",
) -> None:
    """Hand over an answer to each request that can be answered, as soon as it has ended.

    An answer depends on the seed and its request alone, apart from rounding, which the other rows
    of its batch change. One that is in the middle of a batch that runs out of memory, or that an
    earlier attempt at the run finished, may be handed over twice.

    budget: tokens of prompts and answers, padding included, that are decoded together.
    done: (pair, sample) of answers that need not be computed; see `in_batches`.
    prompts: what messages call them. `report` receives a message where some get no answer: they do
    not fit into the GPU's memory or into the model's learned positions.

    Raises:
        What `control.check()` raises, between two tokens.
    """
    fitting = _fitting(loaded, requests, max_new_tokens, report, prompts)

    def drawn(request: Request) -> np.ndarray:
        return draws(seed, request.pair, request.sample, max_new_tokens)

    def work(batch: list[Request]) -> None:
        decode(loaded, batch, drawn, max_new_tokens, sampling, control, on_answer)

    def too_large(request: Request) -> None:
        report(f"Some of the {prompts} are too long to be answered in the GPU's memory.")

    for group in _groups(fitting, takes_padding(loaded)):
        in_batches(
            group,
            lambda request: len(request.prompt_ids) + max_new_tokens,
            budget,
            control,
            work,
            done=done,
            key=lambda request: (request.pair, request.sample),
            too_large=too_large,
        )


def answer_text(loaded: LoadedModel, decoded: Decoded) -> str:
    """The text of an answer, without the end token."""
    ids = decoded.ids[:-1] if decoded.ended else decoded.ids
    text: str = loaded.tokenizer.decode(ids)
    return show_null(text)


def _fitting(
    loaded: LoadedModel,
    requests: Sequence[Request],
    max_new_tokens: int,
    report: Callable[[str], None],
    prompts: str,
) -> list[Request]:
    limit = max_positions(loaded)
    if limit is None:
        return list(requests)
    fitting = [one for one in requests if len(one.prompt_ids) + max_new_tokens <= limit]
    if len(fitting) < len(requests):
        report(
            f"Some of the {prompts} leave no room for an answer of {max_new_tokens} tokens among "
            f"the {limit} that the model reads, and get none."
        )
    return fitting


def _groups(requests: Sequence[Request], takes_padding: bool) -> Iterator[list[Request]]:
    """Requests that may share a batch; the longest prompts first."""
    if takes_padding:
        yield list(requests)
        return
    by_length: defaultdict[int, list[Request]] = defaultdict(list)
    for request in requests:
        by_length[len(request.prompt_ids)].append(request)
    for length in sorted(by_length, reverse=True):
        yield by_length[length]
