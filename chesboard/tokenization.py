"""Tokenization: from pairs of text to pairs of token ids (rules: `docs/theory.md`).

Prompt and response are tokenized together and split at the prompt's length, because that is
what the model reads when it generates. Where joining changes the prompt's own tokens, the
response is tokenized apart and the pair is marked `retokenized`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from chesboard.pairs import Pair, Prompt, TokenizedPair
from chesboard.text_check import TextCheck

TEXTS_PER_CALL = 1024
"""Texts in one call of the tokenizer: enough for its threads, little memory."""


class ChatTemplateError(ValueError):
    """The chat template rejects a prompt; the message names the pair and its turns."""


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
    check: sees each pair with its rendered prompt.

    Raises:
        EmptyTextError: a prompt or response is empty; the message names the pair.
        ChatTemplateError: the chat template rejects a prompt; the message names the pair.
        ValueError: the tokenizer has no token that ends a response.
    """
    end_id = find_end_of_turn(tokenizer)
    prefix_ids = [] if tokenizer.chat_template else find_prefix(tokenizer)
    tokenized = []
    for start in range(0, len(raw_pairs), TEXTS_PER_CALL):
        chunk = raw_pairs[start : start + TEXTS_PER_CALL]
        for raw, prompt_ids, responses, retokenized in _tokenize_chunk(tokenizer, chunk, check):
            if prompt_ids[: len(prefix_ids)] != prefix_ids:
                prompt_ids = prefix_ids + prompt_ids
            tokenized.append(
                _assemble(
                    raw,
                    _cut_prompt(prompt_ids, max_prompt_tokens, tokenizer.bos_token_id),
                    len(prompt_ids),
                    [
                        _finish_response(response, end_id, max_response_tokens)
                        for response in responses
                    ],
                    retokenized,
                )
            )
    return tokenized


def tokenize_prompt(tokenizer: Any, prompt: Prompt, max_prompt_tokens: int) -> list[int]:
    """Token ids of a prompt alone, as `tokenize_pairs` puts them before a response.

    Raises:
        EmptyTextError: the prompt has no tokens.
    """
    ids, _ = _encode(tokenizer, [render_prompt(tokenizer, prompt)])[0]
    prefix_ids = [] if tokenizer.chat_template else find_prefix(tokenizer)
    if ids and ids[: len(prefix_ids)] != prefix_ids:
        ids = prefix_ids + ids
    if not ids:
        raise EmptyTextError("A prompt has no tokens.")
    return _cut_prompt(ids, max_prompt_tokens, tokenizer.bos_token_id)


def render_prompt(tokenizer: Any, prompt: Prompt) -> str:
    """The prompt as text: by the chat template with its generation prompt, or as it is.

    Without a template, several messages become paragraphs with a role each."""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        rendered: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        return rendered
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return prompt[0]["content"]
    turns = [f"{turn['role'].capitalize()}: {turn['content']}" for turn in prompt]
    return "\n\n".join([*turns, "Assistant:"])


def find_end_of_turn(tokenizer: Any) -> int:
    """The token that ends a response.

    With a chat template: the first special token that it writes after an assistant's message.
    Otherwise, and where it writes none: EOS.

    Raises:
        ValueError: the tokenizer has neither.
    """
    if tokenizer.chat_template:
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        for token_id in _encode(tokenizer, [_text_after_answer(tokenizer)])[0][0]:
            if token_id in special:
                return token_id
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "The tokenizer has neither an end-of-turn token in its chat template nor an EOS token."
        )
    return int(tokenizer.eos_token_id)


def _text_after_answer(tokenizer: Any) -> str:
    answer = "chesboard"
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
    rendered: str = tokenizer.apply_chat_template(messages, tokenize=False)
    return rendered.rpartition(answer)[2]


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


def _tokenize_chunk(
    tokenizer: Any, chunk: Sequence[Pair], check: TextCheck | None
) -> list[tuple[Pair, list[int], list[_Encoded], bool]]:
    """For each pair: prompt ids, both responses, and whether these were tokenized apart."""
    for raw in chunk:
        _refuse_empty(raw)
    prompts = [_rendered(tokenizer, raw) for raw in chunk]
    if check is not None:
        for raw, prompt in zip(chunk, prompts, strict=True):
            check.see(raw, prompt)
    prompt_ids = [ids for ids, _ in _encode(tokenizer, prompts)]
    texts = [(raw.preferred, raw.dispreferred) for raw in chunk]
    joined = _encode(
        tokenizer,
        [prompt + text for prompt, both in zip(prompts, texts, strict=True) for text in both],
    )
    results = []
    for i, raw in enumerate(chunk):
        p, characters = len(prompt_ids[i]), len(prompts[i])
        both = joined[2 * i : 2 * i + 2]
        kept = all(ids[:p] == prompt_ids[i] for ids, _ in both)
        if kept:
            responses = [(ids[p:], [end - characters for end in ends[p:]]) for ids, ends in both]
        else:
            responses = _encode(tokenizer, texts[i])
        _refuse_no_tokens(raw, prompt_ids[i], responses)
        results.append((raw, prompt_ids[i], responses, not kept))
    return results


def _rendered(tokenizer: Any, raw: Pair) -> str:
    try:
        return render_prompt(tokenizer, raw.prompt)
    except Exception as error:
        # Templates raise errors of their own (roles must alternate, no system turn), which do not
        # say which prompt they are about.
        roles = "user" if isinstance(raw.prompt, str) else ", ".join(t["role"] for t in raw.prompt)
        raise ChatTemplateError(
            f"The tokenizer's chat template rejects the prompt of pair {raw.pair}: {error} (its "
            f"turns: {roles}). Leave the pair out, change its turns, or choose a model whose "
            "template takes them."
        ) from error


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
