"""Which pairs are watched, as the trainer's own tokens where it has them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

from chesboard.configs.external import MAX_EXTERNAL_PROBES
from chesboard.forward.ready import refuse_too_long, refuse_unknown_tokens
from chesboard.model import LoadedModel
from chesboard.pairs import Pair, TokenizedPair
from chesboard.tokenization import find_fork, token_texts, tokenize_pairs

log = logging.getLogger(__name__)

MOST_ROWS = 256
"""Rows of a dataset that are looked at for pairs that can be watched."""

IDS = (
    ("prompt_ids", "chosen_ids", "rejected_ids"),  # TRL
    ("prompt_input_ids", "chosen_input_ids", "rejected_input_ids"),  # TRL before 0.25
)
LABELED = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels")
"""Prompt and response together, the prompt without labels: LLaMA-Factory, ms-swift."""
NO_LABEL = -100
TEXTS = (("prompt", "chosen", "rejected"), ("prompt", "preferred", "dispreferred"))


@dataclass(frozen=True, slots=True)
class Cut:
    """How the trainer's collator cuts a row: at most `tokens` of prompt and response together."""

    tokens: int | None = None
    keep: str = "keep_start"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of pairs that are given as text."""

    prompt_tokens: int = 1024
    response_tokens: int = 1024


def watched_pairs(
    pairs: Iterable[Any], tokenizer: Any, limits: Limits, cut: Cut | None = None
) -> list[TokenizedPair]:
    """Pairs in any form, numbered by their place.

    pairs: of `chesboard.Pair`, of TokenizedPair, or of objects with texts (prompt, chosen,
    rejected) or with token ids (prompt_ids, chosen_ids, rejected_ids).

    Raises:
        TypeError: one is none of these.
        What `tokenize_pairs` raises.
    """
    found: list[TokenizedPair] = []
    for number, one in enumerate(pairs):
        if isinstance(one, TokenizedPair):
            found.append(one)
        elif (ids := _ids_of(one)) is not None:
            pair = pair_of_ids(tokenizer, number, *ids, cut or Cut())
            if pair is not None:
                found.append(pair)
        else:
            raw = _pair_of_texts(number, one)
            found += tokenize_pairs(tokenizer, [raw], limits.prompt_tokens, limits.response_tokens)
    return found


def _pair_of_texts(number: int, one: Any) -> Pair:
    if isinstance(one, Pair):
        return Pair(one.prompt, one.preferred, one.dispreferred, pair=number)
    if isinstance(one, Mapping):
        for names in TEXTS:
            if all(name in one for name in names):
                prompt, *responses = (one[name] for name in names)
                return Pair(prompt, *map(_text, responses), pair=number)
    raise TypeError(
        f"Pair {number} is neither a chesboard.Pair nor an object with prompt, chosen and rejected "
        "(or prompt_ids, chosen_ids and rejected_ids)."
    )


def _text(response: Any) -> str:
    """A response as text; TRL's conversational rows hold a list of one message."""
    if isinstance(response, list) and response and isinstance(response[-1], Mapping):
        return str(response[-1].get("content", ""))
    return str(response)


def of_dataset(dataset: Any, tokenizer: Any, count: int, cut: Cut) -> list[TokenizedPair]:
    """The first pairs of a trainer's tokenized dataset that can be watched; none where its rows
    hold no token ids of pairs. `pair` is the row's number."""
    found = (
        pair_of_ids(tokenizer, number, *ids, cut)
        for number, row in _rows(dataset)
        if (ids := _ids_of(row)) is not None
    )
    return list(islice((pair for pair in found if pair is not None), count))


def rows_of_dataset(
    dataset: Any, tokenizer: Any, numbers: Sequence[int], cut: Cut
) -> list[TokenizedPair]:
    """The pairs of these rows.

    Raises:
        ValueError: a row is no pair of token ids, or both its responses are the same.
    """
    found = []
    for number in numbers:
        ids = _ids_of(dataset[number])
        pair = None if ids is None else pair_of_ids(tokenizer, number, *ids, cut)
        if pair is None:
            raise ValueError(f"Row {number} of the training data is no pair that can be watched.")
        found.append(pair)
    return found


def _rows(dataset: Any) -> Iterator[tuple[int, Any]]:
    """The first rows. Of what can only be read in a row, nothing is read: that would be a row less
    for the training."""
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return
    for number in range(min(MOST_ROWS, len(dataset))):
        yield number, dataset[number]


def _ids_of(row: Any) -> tuple[list[int], list[int], list[int]] | None:
    """Token ids of prompt, preferred and dispreferred response; None where a row has none."""
    if not isinstance(row, Mapping):
        return None
    if all(row.get(name) is not None for name in LABELED):
        return _split_by_labels(*(_plain(row[name]) for name in LABELED))
    for names in IDS:
        if all(row.get(name) is not None for name in names):
            prompt, preferred, dispreferred = (_plain(row[name]) for name in names)
            return prompt, preferred, dispreferred
    return None


def _plain(ids: Any) -> list[int]:
    return [int(one) for one in (ids.tolist() if hasattr(ids, "tolist") else ids)]


def _split_by_labels(
    preferred: list[int], labels: list[int], dispreferred: list[int], other_labels: list[int]
) -> tuple[list[int], list[int], list[int]] | None:
    starts = [
        next((k for k, label in enumerate(of) if label != NO_LABEL), len(of))
        for of in (labels, other_labels)
    ]
    start = min(starts)
    if preferred[:start] != dispreferred[:start]:
        return None
    return preferred[:start], preferred[start:], dispreferred[start:]


def pair_of_ids(
    tokenizer: Any,
    number: int,
    prompt_ids: list[int],
    preferred_ids: list[int],
    dispreferred_ids: list[int],
    cut: Cut,
) -> TokenizedPair | None:
    """The pair as the trainer's collator cuts it; None where there is nothing to be watched: a part
    is empty, both responses are the same, or the prompt is cut differently for each."""
    responses = [preferred_ids, dispreferred_ids]
    prompt = prompt_ids
    if cut.tokens is not None and cut.keep == "keep_start":
        prompt = prompt_ids[: cut.tokens]
        responses = [ids[: cut.tokens - len(prompt)] for ids in responses]
    elif cut.tokens is not None:
        beyond = {max(0, len(prompt_ids) + len(ids) - cut.tokens) for ids in responses}
        if len(beyond) > 1 or max(beyond) >= len(prompt_ids):
            return None
        prompt = prompt_ids[max(beyond) :]
    preferred, dispreferred = responses
    if not prompt or not preferred or not dispreferred or preferred == dispreferred:
        return None
    return TokenizedPair(
        pair=number,
        prompt_ids=prompt,
        preferred_ids=preferred,
        dispreferred_ids=dispreferred,
        fork_position=find_fork(preferred, dispreferred),
        prompt_cut=len(prompt_ids) - len(prompt),
        preferred_cut=len(preferred_ids) - len(preferred),
        dispreferred_cut=len(dispreferred_ids) - len(dispreferred),
        retokenized=False,
        preferred_ends=_ends(tokenizer, preferred),
        dispreferred_ends=_ends(tokenizer, dispreferred),
    )


def _ends(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    return list(accumulate(len(text) for text in token_texts(tokenizer, ids)))


def readable(
    loaded: LoadedModel, pairs: Sequence[TokenizedPair], report: Callable[[str], None]
) -> list[TokenizedPair]:
    """Those that the model has embeddings and positions for, as many as a run may have; why others
    are left out is told, and which are cut."""
    found: list[TokenizedPair] = []
    for pair in pairs:
        try:
            refuse_unknown_tokens(loaded, [pair])
            refuse_too_long(loaded, [pair])
        except ValueError as error:
            report(f"Not watched: {error}")
            continue
        found.append(pair)
    if len(found) > MAX_EXTERNAL_PROBES:
        report(f"A run watches {MAX_EXTERNAL_PROBES} pairs at most: the others are left out.")
        found = found[:MAX_EXTERNAL_PROBES]
    for pair in found:
        if pair.cut_tokens:
            parts = {
                "prompt": pair.prompt_cut,
                "preferred response": pair.preferred_cut,
                "dispreferred response": pair.dispreferred_cut,
            }
            cut = ", ".join(f"{count} of its {name}" for name, count in parts.items() if count)
            report(f"Pair {pair.pair} is too long, and is watched without some tokens: {cut}.")
    return found


def as_config(pairs: Sequence[TokenizedPair], tokenizer: Any) -> list[dict[str, Any]]:
    """What a run's configuration says of its watched pairs."""
    return [
        {
            "pair": pair.pair,
            "prompt": tokenizer.decode(pair.prompt_ids),
            "preferred_tokens": token_texts(tokenizer, pair.preferred_ids),
            "dispreferred_tokens": token_texts(tokenizer, pair.dispreferred_ids),
            "fork_position": pair.fork_position,
            "preferred_ids": pair.preferred_ids,
            "dispreferred_ids": pair.dispreferred_ids,
        }
        for pair in pairs
    ]
