"""Pairs in batches: filled to a budget of tokens, cut where memory runs out."""

import random
from collections import deque
from collections.abc import Callable, Container, Sequence

import torch

from chesboard.pairs import TokenizedPair
from chesboard.reporting import Control

ENOUGH = 1 / 8
"""Share of the budget from which on a batch is large enough to compute well, so that it is rather
closed than padded."""
RAGGED = 0.8
"""A row that would be filled to less than this share opens a new batch then."""


def token_batches(
    pairs: Sequence[TokenizedPair],
    row_tokens: Callable[[TokenizedPair], int],
    budget: int,
    most_pairs: int | None = None,
) -> list[list[TokenizedPair]]:
    """Pairs sorted by length, longest first, in batches of at most `budget` padded tokens.

    A pair that is longer than the budget gets a batch of its own. A batch may end before the
    budget does where the next rows would be mostly padding.
    """
    batches: list[list[TokenizedPair]] = []
    widest = 0
    for pair in sorted(pairs, key=row_tokens, reverse=True):
        tokens, held = row_tokens(pair), len(batches[-1]) if batches else 0
        ragged = tokens < RAGGED * widest and widest * held >= ENOUGH * budget
        if not batches or widest * (held + 1) > budget or held == most_pairs or ragged:
            batches.append([])
            widest = tokens
        batches[-1].append(pair)
    return batches


class TokenBudget:
    """How many tokens a forward pass may hold; halved each time memory runs out."""

    SMALLEST = 16

    def __init__(self, tokens: int, tell: Callable[[str], None]) -> None:
        self.tokens = tokens
        self._tell = tell

    def halve(self, batch: Sequence[TokenizedPair]) -> None:
        """Go on with half, after a batch that did not fit.

        Raises:
            MemoryError: the batch was a single pair.
        """
        torch.cuda.empty_cache()
        if len(batch) == 1 or self.tokens <= self.SMALLEST:
            raise MemoryError(
                f"Pair {batch[0].pair} alone does not fit into the GPU's memory. Lower "
                "max_prompt_tokens or max_response_tokens, or take a smaller model."
            )
        self.tokens = max(self.SMALLEST, self.tokens // 2)
        self._tell(f"Out of GPU memory: going on with {self.tokens} tokens in a forward pass.")


def in_batches(
    pairs: Sequence[TokenizedPair],
    row_tokens: Callable[[TokenizedPair], int],
    budget: TokenBudget,
    control: Control,
    work: Callable[[list[TokenizedPair]], None],
    most_pairs: int | None = None,
    done: Container[int] = (),
) -> None:
    """Call `work` on batches that together hold every pair once.

    done: pairs that an earlier try at the run has dealt with. The batches are those of all pairs,
    without those that are done to the last pair: the sums over a batch are rounded by its shape,
    so a resumed run that cut the rest anew would get other last digits than an undisturbed one.

    The longest comes first, so that memory runs out at once or never; the others in a fixed
    random order, so that the share done so far tells the time that is left. A batch that runs
    out of GPU memory is cut and tried again, so `work` must act only once it has its results.
    """
    waiting = _arrange(token_batches(pairs, row_tokens, budget.tokens, most_pairs))
    while waiting:
        control.check()
        batch = waiting.popleft()
        if all(pair.pair in done for pair in batch):
            continue
        fits = True
        try:
            work(batch)
        except torch.OutOfMemoryError:
            fits = False
        if not fits:  # outside the except block, whose traceback keeps tensors alive
            budget.halve(batch)
            rest = [*batch, *(pair for other in waiting for pair in other)]
            waiting = _arrange(token_batches(rest, row_tokens, budget.tokens, most_pairs))


def _arrange(batches: list[list[TokenizedPair]]) -> deque[list[TokenizedPair]]:
    others = batches[1:]
    random.Random(0).shuffle(others)  # noqa: S311 - an order, not a secret
    return deque([*batches[:1], *others])
