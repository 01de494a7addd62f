"""What truncation and tokenizing did to pairs, as counts that can be added up, and in words."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Self

from chesboard.pairs import TokenizedPair
from chesboard.text_messages import named


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Of some pairs; those of others can be added.

    same_behind_cut: pairs whose responses are the same tokens and y+ was cut. prompt_*: of the
    prompts alone.
    """

    pairs: int = 0
    tokens: int = 0
    cut_pairs: int = 0
    cut_tokens: int = 0
    same_token_pairs: int = 0
    same_behind_cut: int = 0
    retokenised_pairs: int = 0
    prompt_cut_pairs: int = 0
    prompt_cut_tokens: int = 0

    @classmethod
    def of(cls, pairs: Sequence[TokenizedPair]) -> Self:
        same = [pair for pair in pairs if pair.has_same_tokens]
        return cls(
            pairs=len(pairs),
            tokens=sum(pair.tokens for pair in pairs),
            cut_pairs=sum(pair.cut_tokens > 0 for pair in pairs),
            cut_tokens=sum(pair.cut_tokens for pair in pairs),
            same_token_pairs=len(same),
            same_behind_cut=sum(pair.preferred_cut > 0 for pair in same),
            retokenised_pairs=sum(pair.retokenized for pair in pairs),
            prompt_cut_pairs=sum(pair.prompt_cut > 0 for pair in pairs),
            prompt_cut_tokens=sum(pair.prompt_cut for pair in pairs),
        )

    def __add__(self, other: Self) -> Self:
        mine, others = asdict(self), asdict(other)
        return type(self)(**{one.name: mine[one.name] + others[one.name] for one in fields(self)})


def truncation_messages(counts: PairCounts) -> Iterator[str]:
    """How many tokens truncation removed, and how many pairs were tokenized apart."""
    if counts.cut_pairs:
        yield (
            f"{counts.cut_pairs} of {counts.pairs} pairs were too long: {counts.cut_tokens} tokens "
            "were cut. Raise max_prompt_tokens or max_response_tokens to keep them."
        )
    if counts.retokenised_pairs:
        yield (
            f"In {counts.retokenised_pairs} of {counts.pairs} pairs, prompt and response were "
            "tokenized apart, because joining them changes the prompt's last token."
        )


def same_tokens_message(counts: PairCounts, first: Sequence[int], consequence: str) -> str:
    """Of pairs whose two responses are the same tokens to the model, and what would help.

    first: some of these pairs. consequence: what becomes of them, as the end of a sentence.
    """
    advice = (
        f"{counts.same_behind_cut} of them differ only behind the cut: raise max_response_tokens "
        "to keep them apart."
        if counts.same_behind_cut
        else "The tokenizer turns both texts into the same tokens."
    )
    return (
        f"In {counts.same_token_pairs} of {counts.pairs} pairs "
        f"({named(first, counts.same_token_pairs)}) both responses are the same tokens to the "
        f"model, so they {consequence}. {advice}"
    )
