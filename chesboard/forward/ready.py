"""A forward pass that is ready for a run's pairs: what it cannot compute is refused before."""

from collections.abc import Sequence

from chesboard.forward.select import select_forward
from chesboard.forward.states import PairForward
from chesboard.model import LoadedModel, embedding_rows, max_positions
from chesboard.pairs import TokenizedPair
from chesboard.reporting import Reporter


def ready_forward(
    loaded: LoadedModel,
    pairs: Sequence[TokenizedPair],
    reporter: Reporter,
    *,
    prefill: bool = True,
) -> PairForward:
    """The forward pass that `select_forward` finds; why it is the slower one is reported.

    Raises:
        ValueError: a pair has a token of which the model has no embedding, or more tokens than it
            has positions; the message names it.
    """
    refuse_unknown_tokens(loaded, pairs)
    refuse_too_long(loaded, pairs)
    reporter.phase("comparing forward passes")
    forward, reason = select_forward(loaded, pairs, prefill=prefill)
    if reason:
        reporter.message(reason)
    return forward


def refuse_unknown_tokens(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> None:
    """Check that the model has an embedding of every token. A GPU would fail without a reason.

    Raises:
        ValueError: a token has none; the message names it and its pair.
    """
    rows = embedding_rows(loaded.model)
    for pair in pairs:
        largest = max(max(pair.prompt_ids), max(pair.preferred_ids), max(pair.dispreferred_ids))
        if largest >= rows:
            token = loaded.tokenizer.convert_ids_to_tokens(largest)
            raise ValueError(
                f"The model has no embedding of the token “{token}” (id {largest}) of pair "
                f"{pair.pair}: its embedding has {rows} rows, but the tokenizer has "
                f"{len(loaded.tokenizer)} tokens. Resize the embedding (resize_token_embeddings), "
                "or load the tokenizer that belongs to the model."
            )


def refuse_too_long(loaded: LoadedModel, pairs: Sequence[TokenizedPair]) -> None:
    """Check the pairs' lengths against a model with learned positions.

    Raises:
        ValueError: a pair has more tokens than the model has positions; the message names it.
    """
    limit = max_positions(loaded)
    if limit is None:
        return
    for pair in pairs:
        longest = max(len(pair.preferred_ids), len(pair.dispreferred_ids)) - 1
        if len(pair.prompt_ids) + longest > limit:
            raise ValueError(
                f"Pair {pair.pair} has {len(pair.prompt_ids) + longest} tokens, but the model "
                f"reads at most {limit}. Lower max_prompt_tokens and max_response_tokens so that "
                "together they fit."
            )
