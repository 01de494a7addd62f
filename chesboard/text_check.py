"""One check of what the model reads: whether a pair's texts, as they are tokenized, say what its
row says.

Nothing is changed here. A finding is counted, with the first pairs that have it, and reported
before anything expensive is computed.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from chesboard.findings import FINDINGS, FindingKind
from chesboard.mending import END_THINK, ReadPair, Renderer
from chesboard.pairs import Pair, TokenizedPair
from chesboard.records import FindingRecord
from chesboard.rendering import as_messages
from chesboard.tallies import LISTED, Tallies, tally
from chesboard.template_marks import MARK
from chesboard.text_messages import on_header, sentences

DETAIL_CHARACTERS = 200

ADVICE_ON_REFUSAL = (
    "Leave such pairs out, change their turns, or choose a model whose template takes them."
)


class ChatTemplateError(ValueError):
    """The chat template refuses a prompt; the message names the pair and its turns."""


class UnknownTokenError(ValueError):
    """The model has no embedding of a token; the message names the token and the pair."""


class TextCheck:
    """Collects the findings of the pairs that it sees.

    findings: one a pair and kind, in the order in which they were found. pairs: how many were seen.
    """

    def __init__(self, tokenizer: Any, embeddings: int | None = None) -> None:
        """embeddings: rows of the model's embedding; None: not known, so no token lacks one."""
        self.findings: list[FindingRecord] = []
        self._tokenizer = tokenizer
        self._special = _special_tokens(tokenizer)
        self.pairs = 0
        self._renderer: Renderer | None = None
        is_short = embeddings is not None and embeddings < len(tokenizer)
        self._embeddings = embeddings if is_short else None

    def refuse(self, pair: Pair, error: str) -> None:
        """The chat template raises an error for the pair's prompt."""
        self.pairs += 1
        self._add("template_refused", pair.pair, error)

    def see(self, pair: Pair, read: ReadPair, renderer: Renderer) -> None:
        """read: the pair's texts as they are tokenized, by this renderer."""
        self.pairs += 1
        self._renderer = renderer
        for kind in read.mended:
            self._add(kind, pair.pair)
        turns: list[Mapping[str, Any]] = as_messages(pair.prompt)
        contents = [str(turn.get("content") or "") for turn in turns]
        self._find_special(pair, read, contents)
        if "rendered_prompt" not in read.mended:
            self._find_left_out(pair, read.prompt.text, turns)
        last = contents[-1].strip() if contents and "prefill_continued" not in read.mended else ""
        responses = (pair.preferred.lstrip(), pair.dispreferred.lstrip())
        if len(last) > 1 and all(response.startswith(last) for response in responses):
            self._add("repeats_prompt", pair.pair)
        if read.prompt.opens_think and any(END_THINK not in r.text for r in read.responses):
            self._add("think_left_open", pair.pair)
        elif difference := _difference(read, renderer):
            self._add("prompt_not_prefix", pair.pair, difference)

    def see_tokens(self, pair: TokenizedPair) -> bool:
        """The pair as it is after truncation. Returns whether the model can read it."""
        if unknown := self._unknown_token(pair):
            self._add("unknown_token", pair.pair, unknown)
            return False
        if pair.has_same_tokens:
            self._add("same_tokens", pair.pair, "behind the cut" if pair.preferred_cut else None)
        if pair.prompt_cut:
            self._add("prompt_truncated", pair.pair, f"{pair.prompt_cut} tokens cut")
        if response_cut := pair.preferred_cut + pair.dispreferred_cut:
            self._add("response_truncated", pair.pair, f"{response_cut} tokens cut")
        if pair.retokenized:
            self._add("retokenized", pair.pair)
        return True

    def _unknown_token(self, pair: TokenizedPair) -> str | None:
        """The token with the highest number, if it is beyond the model's embedding."""
        if self._embeddings is None:
            return None
        largest = max(max(pair.prompt_ids), max(pair.preferred_ids), max(pair.dispreferred_ids))
        if largest < self._embeddings:
            return None
        return f"“{self._tokenizer.convert_ids_to_tokens(largest)}” (id {largest})"

    @property
    def refused(self) -> list[FindingRecord]:
        """Why pairs are left out: the chat template refuses them, or a token has no embedding."""
        return [one for one in self.findings if _leaves_out(one.kind)]

    def refuse_if_left_out(self, *, only_if_all: bool) -> None:
        """Raises:
        ChatTemplateError, UnknownTokenError: the model cannot read a pair, or none of those seen.
        """
        refused = self.refused
        if refused and not (only_if_all and len(refused) < self.pairs):
            raise self.refusal(tally(refused), self.pairs)

    def refusal(self, found: Tallies, pairs: int) -> ValueError:
        """The error that says why pairs are left out. found: findings, of which some say so, of
        `pairs` pairs."""
        left_out = [(kind, one) for kind, one in found.kinds.items() if _leaves_out(kind)]
        kind, first = min(left_out, key=lambda one: one[1].first[0])
        pair, detail = first.first[0], first.details[0]
        if kind == "unknown_token":
            return UnknownTokenError(
                f"The model has no embedding of the token {detail} of pair {pair}: its embedding "
                f"has {self._embeddings} rows, but the tokenizer has {len(self._tokenizer)} "
                f"tokens. {FINDINGS['unknown_token'].advice}"
            )
        count = sum(one.count for _, one in left_out)
        which = "every prompt" if count == pairs else f"{count} of {pairs} prompts"
        return ChatTemplateError(
            f"The chat template refuses {which}. Pair {pair}: {detail}. {ADVICE_ON_REFUSAL}"
        )

    def messages(self) -> Iterator[str]:
        """A sentence on each kind of finding in the texts, with a count and the first pairs.

        What the tokens show (truncation, equal responses) is reported by `chesboard.scoring`.
        """
        yield from self.messages_on(tally(self.findings), self.pairs)
        yield from self.messages_on_template()

    def messages_on(self, found: Tallies, pairs: int) -> Iterator[str]:
        """These sentences on what was found in `pairs` pairs, here and elsewhere."""
        return sentences(found, pairs, self._tokenizer)

    def messages_on_template(self) -> Iterator[str]:
        """What rendering showed of the chat template itself."""
        if self._renderer is not None and self._tokenizer.chat_template:
            yield from on_header(self._renderer)

    def _add(self, kind: FindingKind, pair: int, detail: str | None = None) -> None:
        if detail is not None and len(detail) > DETAIL_CHARACTERS:
            detail = detail[: DETAIL_CHARACTERS - 1] + "…"
        self.findings.append(FindingRecord(pair, kind, detail))

    def _find_special(self, pair: Pair, read: ReadPair, contents: list[str]) -> None:
        mine = contents if "rendered_prompt" not in read.mended else []
        texts = (*mine, *(response.text for response in read.responses))
        # Marks of reasoning belong into a response.
        found = sorted(
            {
                token
                for text in texts
                for token in self._special.findall(text)
                if "think" not in token and "thought" not in token
            }
        )
        if found:
            self._add("special_tokens", pair.pair, LISTED.join(found))

    def _find_left_out(self, pair: Pair, rendered: str, turns: list[Mapping[str, Any]]) -> None:
        roles = dict.fromkeys(
            str(turn["role"])
            for turn in turns
            if any(text not in rendered for text in _texts_of(turn))
        )
        if roles:
            self._add("turn_left_out", pair.pair, LISTED.join(roles))


def _leaves_out(kind: FindingKind) -> bool:
    return FINDINGS[kind].consequence == "left out"


def _texts_of(turn: Mapping[str, Any]) -> Iterator[str]:
    """What a turn says. Templates strip texts, and write calls of tools in forms of their own."""
    for name in ("content", "reasoning_content"):
        if isinstance(turn.get(name), str):
            yield turn[name].strip()
    for call in turn.get("tool_calls") or ():
        if isinstance(call, dict):
            called = call.get("function", call)
            yield str(called.get("name", "")) if isinstance(called, dict) else ""


def _difference(read: ReadPair, renderer: Renderer) -> str | None:
    """What the template writes before an answer in place of its generation prompt, or behind it;
    None where rendering the dialogue with the answer gives prompt and answer.

    Rendered with y+, and with y- where either holds reasoning, which templates treat apart: to
    render a long dialogue once more is dear."""
    reasons = any(END_THINK in response.whole for response in read.responses)
    for response in read.responses if reasons else (read.preferred,):
        full = renderer.answered(read.prompt, response)
        if full is None:
            continue
        answer = response.text.strip()
        behind = full.removeprefix(read.prompt.text)
        if not full.startswith(read.prompt.text) or not behind.lstrip().startswith(answer):
            return _what_stands_there(read.prompt.text, full, answer)
    return None


def _what_stands_there(prompt: str, full: str, answer: str) -> str:
    """A few characters of the rendered dialogue, from where it leaves the prompt to the answer."""
    common = next(
        (k for k, (a, b) in enumerate(zip(prompt, full, strict=False)) if a != b),
        min(len(prompt), len(full)),
    )
    found = full.find(answer, common) if answer else -1
    there = full[common : found if found > common else common + 40][:60]
    return f"“{prompt[common:][:40]}” in the prompt, “{there}” before an answer"


def _special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """The model's tokens that mark turns and ends, and the marks of other models' templates, which
    are plain characters to this one."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    own = {
        token
        for token in (*tokenizer.all_special_tokens, *added)
        if any(sign in token for sign in "<[|")
    }
    escaped = (re.escape(token) for token in sorted(own, key=len, reverse=True))
    return re.compile("|".join((*escaped, MARK)))
