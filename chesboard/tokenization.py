"""Tokenization: from pairs of text to pairs of token ids (rules: `docs/theory.md`).

Prompt and response are tokenized together and split at the prompt's length, because that is
what the model reads when it generates. Where joining changes the prompt's own tokens, the
response is tokenized apart and the pair is marked `retokenized`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from chesboard.mending import ReadPair, Renderer
from chesboard.pairs import Pair, Prompt, TokenizedPair
from chesboard.text_check import ChatTemplateError, TextCheck

TEXTS_PER_CALL = 1024
"""Texts in one call of the tokenizer: enough for its threads, little memory."""


class EmptyTextError(ValueError):
    """A prompt or a response has no tokens."""


def find_fork(preferred_ids: Sequence[int], dispreferred_ids: Sequence[int]) -> int:
    """The fork: the first position at which the responses' tokens differ; the last position of the
    shorter one where they do not."""
    for k, (a, b) in enumerate(zip(preferred_ids, dispreferred_ids, strict=False)):
        if a != b:
            return k
    return min(len(preferred_ids), len(dispreferred_ids)) - 1


def tokenize_pairs(
    tokenizer: Any,
    raw_pairs: Sequence[Pair],
    max_prompt_tokens: int,
    max_response_tokens: int,
    check: TextCheck | None = None,
) -> list[TokenizedPair]:
    """Tokenize pairs, in their order.

    tokenizer: a transformers tokenizer, slow or fast. Prompts are truncated at the left (a leading
    BOS stays), responses at the right (which removes the end token first).
    check: collects what is found in the pairs. With one, a pair whose prompt the chat template
    refuses, or with a token of which the model has no embedding, is a finding and left out of the
    result.

    Raises:
        EmptyTextError: a prompt or response is empty; the message names the pair.
        ChatTemplateError: without a check, the chat template refuses a prompt; the message names
            the pair.
        ValueError: the tokenizer has no token that ends a response.
    """
    renderer = Renderer(tokenizer)
    prefix_ids = [] if tokenizer.chat_template else find_prefix(tokenizer)
    tokenized = []
    for start in range(0, len(raw_pairs), TEXTS_PER_CALL):
        chunk = _read_chunk(renderer, raw_pairs[start : start + TEXTS_PER_CALL], check)
        for raw, prompt_ids, responses, retokenized in _tokenize_chunk(tokenizer, chunk):
            if prompt_ids[: len(prefix_ids)] != prefix_ids:
                prompt_ids = prefix_ids + prompt_ids
            pair = _assemble(
                raw,
                _cut_prompt(prompt_ids, max_prompt_tokens, tokenizer.bos_token_id),
                len(prompt_ids),
                [
                    _finish_response(response, renderer.end_id, max_response_tokens)
                    for response in responses
                ],
                retokenized,
            )
            if check is None or check.see_tokens(pair):
                tokenized.append(pair)
    return tokenized


def tokenize_prompt(tokenizer: Any, prompt: Prompt, max_prompt_tokens: int) -> list[int]:
    """Token ids of a prompt alone, as `tokenize_pairs` puts them before a response.

    Raises:
        EmptyTextError: the prompt has no tokens.
        ChatTemplateError: the chat template refuses the prompt.
        ValueError: the tokenizer has no token that ends a response.
    """
    renderer = Renderer(tokenizer)
    try:
        text = renderer.prompt(prompt).text
    except Exception as error:
        raise ChatTemplateError(
            f"The tokenizer's chat template rejects the prompt: {_refusal(prompt, error)}."
        ) from error
    ids, _ = _encode(tokenizer, [text])[0]
    prefix_ids = [] if tokenizer.chat_template else find_prefix(tokenizer)
    if ids and ids[: len(prefix_ids)] != prefix_ids:
        ids = prefix_ids + ids
    if not ids:
        raise EmptyTextError("A prompt has no tokens.")
    return _cut_prompt(ids, max_prompt_tokens, tokenizer.bos_token_id)


def find_prefix(tokenizer: Any) -> list[int]:
    """The special tokens that the tokenizer puts before a plain text, for example BOS."""
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    full: list[int] = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start]
    return []


_Encoded = tuple[list[int], list[int]]
"""Token ids, and for each the number of characters (code points) up to its end."""


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[_Encoded]:
    """Token ids without special tokens around them, and where each token ends."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=False, return_offsets_mapping=bool(tokenizer.is_fast)
    )
    ids = encoded["input_ids"]
    if tokenizer.is_fast:
        ends = [[end for _, end in offsets] for offsets in encoded["offset_mapping"]]
    else:
        ends = [_estimate_ends(tokenizer, row, len(t)) for row, t in zip(ids, texts, strict=True)]
    return list(zip(ids, ends, strict=True))


def _estimate_ends(tokenizer: Any, ids: Sequence[int], characters: int) -> list[int]:
    """Token ends by the length of each token's text: slow tokenizers give no offsets."""
    ends, end = [], 0
    for token_id in ids:
        end = min(characters, end + len(token_text(tokenizer, token_id)))
        ends.append(end)
    return ends


def _read_chunk(
    renderer: Renderer, chunk: Sequence[Pair], check: TextCheck | None
) -> list[tuple[Pair, ReadPair]]:
    """Pairs with their rendered texts; without those that the template refuses."""
    found = []
    for raw in chunk:
        _refuse_empty(raw)
        try:
            read = renderer.read(raw)
        except Exception as error:
            # Templates raise errors of their own (roles must alternate, no system turn), which do
            # not say which prompt they are about.
            if check is None:
                raise ChatTemplateError(
                    f"The tokenizer's chat template rejects the prompt of pair {raw.pair}: "
                    f"{_refusal(raw.prompt, error)}. Leave the pair out, change its turns, or "
                    "choose a model whose template takes them."
                ) from error
            check.refuse(raw, _refusal(raw.prompt, error))
            continue
        if check is not None:
            check.see(raw, read, renderer)
        found.append((raw, read))
    return found


def _refusal(prompt: Prompt, error: Exception) -> str:
    roles = "user" if isinstance(prompt, str) else ", ".join(turn["role"] for turn in prompt)
    return f"{error} (its turns: {roles})"


def _tokenize_chunk(
    tokenizer: Any, chunk: Sequence[tuple[Pair, ReadPair]]
) -> list[tuple[Pair, list[int], list[_Encoded], bool]]:
    """For each pair: prompt ids, both responses, and whether these were tokenized apart."""
    prompts = [read.prompt.text for _, read in chunk]
    prompt_ids = [ids for ids, _ in _encode(tokenizer, prompts)]
    texts = [[response.text for response in read.responses] for _, read in chunk]
    joined = _encode(
        tokenizer,
        [prompt + text for prompt, both in zip(prompts, texts, strict=True) for text in both],
    )
    results = []
    for i, (raw, read) in enumerate(chunk):
        p, characters = len(prompt_ids[i]), len(prompts[i])
        both = joined[2 * i : 2 * i + 2]
        kept = all(ids[:p] == prompt_ids[i] for ids, _ in both)
        if kept:
            responses = [(ids[p:], [end - characters for end in ends[p:]]) for ids, ends in both]
        else:
            responses = _encode(tokenizer, texts[i])
        _refuse_no_tokens(raw, prompt_ids[i], responses)
        in_original = [
            (ids, [response.start + end for end in ends] if response.start else ends)
            for response, (ids, ends) in zip(read.responses, responses, strict=True)
        ]
        results.append((raw, prompt_ids[i], in_original, not kept))
    return results


def _refuse_empty(raw: Pair) -> None:
    empty_chat = isinstance(raw.prompt, list) and not any(t.get("content") for t in raw.prompt)
    for name, empty in (
        ("prompt", not raw.prompt or empty_chat),
        ("preferred response", not raw.preferred),
        ("dispreferred response", not raw.dispreferred),
    ):
        if empty:
            raise EmptyTextError(f"The {name} of pair {raw.pair} is empty.")


def _refuse_no_tokens(raw: Pair, prompt_ids: list[int], responses: list[_Encoded]) -> None:
    preferred, dispreferred = responses
    for name, ids in (
        ("prompt", prompt_ids),
        ("preferred response", preferred[0]),
        ("dispreferred response", dispreferred[0]),
    ):
        if not ids:
            raise EmptyTextError(f"The {name} of pair {raw.pair} has no tokens.")


def _cut_prompt(ids: list[int], most: int, bos_id: int | None) -> list[int]:
    if len(ids) <= most:
        return ids
    if most > 1 and ids[0] == bos_id:
        # Many models give useless results without BOS, and it is not part of the text that is cut.
        return [ids[0], *ids[len(ids) - most + 1 :]]
    return ids[len(ids) - most :]


def _finish_response(
    response: _Encoded, end_id: int, most: int
) -> tuple[list[int], list[int], int]:
    """Add the end token and truncate: ids, ends, and how many tokens were removed."""
    ids, ends = response
    ids, ends = [*ids, end_id], [*ends, ends[-1]]
    cut = max(0, len(ids) - most)
    ids, ends = ids[:most], ends[:most]
    # Offsets of tokenizers that trim spaces can decrease; a diff of texts needs ascending ends.
    for k, (before, after) in enumerate(pairwise(ends)):
        ends[k + 1] = max(before, after)
    return ids, ends, cut


def _assemble(
    raw: Pair,
    prompt_ids: list[int],
    prompt_tokens: int,
    responses: list[tuple[list[int], list[int], int]],
    retokenized: bool,
) -> TokenizedPair:
    (preferred, preferred_ends, preferred_cut), (other, other_ends, other_cut) = responses
    return TokenizedPair(
        pair=raw.pair,
        prompt_ids=prompt_ids,
        preferred_ids=preferred,
        dispreferred_ids=other,
        fork_position=find_fork(preferred, other),
        prompt_cut=prompt_tokens - len(prompt_ids),
        preferred_cut=preferred_cut,
        dispreferred_cut=other_cut,
        retokenized=retokenized,
        preferred_ends=preferred_ends,
        dispreferred_ends=other_ends,
    )


def token_text(tokenizer: Any, token_id: int) -> str:
    """The text of one token for display: never empty; a fragment of a character as its bytes."""
    text: str = tokenizer.decode([token_id])
    raw: str | None = tokenizer.convert_ids_to_tokens(token_id)
    if "\ufffd" in text and raw is not None:
        text = _show_bytes(raw)
    if raw is not None and raw.startswith("▁") and not text.startswith(" "):
        text = f" {text}"  # SentencePiece drops the space of a text's first token
    return show_null(text) or f"<{raw or token_id}>"


def token_texts(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    return [token_text(tokenizer, token_id) for token_id in token_ids]


def show_null(text: str) -> str:
    """U+0000 written as its byte, like other bytes of tokens: PostgreSQL cannot store it."""
    return text.replace("\x00", "<00>")


def _show_bytes(raw: str) -> str:
    table = _byte_of_character()
    if all(character in table for character in raw):
        return "".join(f"<{table[character]:02X}>" for character in raw)
    return raw


@lru_cache
def _byte_of_character() -> dict[str, int]:
    """The alphabet in which byte-level BPE writes bytes (GPT-2's)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return table
