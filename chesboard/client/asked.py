"""The pairs that a training asks to watch, wherever their texts are."""

from collections.abc import Callable
from typing import Any

from chesboard.client.choosing import Cut, Limits, watched_pairs
from chesboard.client.environment import ClientError, Destination
from chesboard.client.stored import StoredPairs, as_stored, read
from chesboard.client.wire import RefusedError, UnreachableError
from chesboard.pairs import Pair, TokenizedPair
from chesboard.sharding import agreed, sharding_of
from chesboard.tokenization import tokenize_pairs


def asked_pairs(
    model: Any,
    tokenizer: Any,
    pairs: Any,
    limits: Limits,
    cut: Cut | None,
    at: Destination | None,
    report: Callable[[str], None],
) -> tuple[list[TokenizedPair], int | None]:
    """The pairs to watch, and the dataset on the server whose ordinals they have, if any.

    at: None in processes that do not record. With sharded weights a collective: every process has
    to look at the same pairs, so that the first one's are everybody's.

    Raises:
        What `watched_pairs` and `tokenize_pairs` raise.
    """
    asked = as_stored(pairs)
    if asked is None:
        return watched_pairs(pairs, tokenizer, limits, cut), None
    texts = [] if at is None else _read(asked, at, report)
    if sharding_of(model) != "none":
        texts = agreed(texts)
    if not texts:
        return [], None
    found = tokenize_pairs(tokenizer, texts, limits.prompt_tokens, limits.response_tokens)
    return found, asked.dataset_id


def _read(asked: StoredPairs, at: Destination, report: Callable[[str], None]) -> list[Pair]:
    try:
        return read(asked, at)
    except (ClientError, UnreachableError) as error:
        report(f"No pair is watched. {error}")
    except RefusedError as error:
        about_token = error.status in (401, 403)
        report(f"No pair is watched. {error.with_advice if about_token else error}")
    return []
