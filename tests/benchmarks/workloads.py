"""The pairs that the benchmarks run on: the same ones for us and for whoever we measure against."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from chesboard.pairs import Pair
from tests import PROJECT_ROOT

SHARED = PROJECT_ROOT.parent / "shared" / "data"


class MissingDataError(Exception):
    """A public file that is not part of the project is not there; the row is left out."""


def persona(count: int) -> list[Pair]:
    """Short prompts, one-word answers (anthropics/evals)."""
    return [
        Pair(
            [{"role": "user", "content": row["question"]}],
            row["answer_matching_behavior"].strip(),
            row["answer_not_matching_behavior"].strip(),
            pair=number,
        )
        for number, row in enumerate(_rows("persona-ends-justify-means.jsonl", count))
    ]


def dialogues(count: int) -> list[Pair]:
    """Multi-turn dialogues with answers of some sentences (anthropics/hh-rlhf)."""
    pairs = []
    for number, row in enumerate(_rows("hh-harmless-1000.jsonl", count)):
        cut = "\n\nAssistant:"
        prompt, preferred = row["chosen"].rsplit(cut, 1)
        dispreferred = row["rejected"].rsplit(cut, 1)[1]
        pairs.append(
            Pair(
                prompt.strip() + cut,
                preferred.strip() or "…",
                dispreferred.strip() or "…",
                pair=number,
            )
        )
    return pairs


def long_prompts(count: int, prompt_words: int = 1150, response_words: int = 60) -> list[Pair]:
    """Synthetic prompts of about 1,500 tokens with two short answers."""
    chooser = random.Random(0)
    words = "the model reads a long text about rivers before it answers what was asked".split()  # noqa: SIM905

    def text(length: int) -> str:
        return " ".join(chooser.choice(words) + str(chooser.randrange(10)) for _ in range(length))

    return [
        Pair(
            [{"role": "user", "content": text(prompt_words // 2)}],
            text(response_words // 2),
            text(response_words // 2),
            pair=number,
        )
        for number in range(count)
    ]


def _rows(name: str, count: int) -> list[dict[str, str]]:
    path: Path = SHARED / name
    if not path.is_file():
        raise MissingDataError(f"{name} is not there")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(count), lines, strict=False)]


WORKLOADS = {"persona": persona, "dialogues": dialogues, "long prompts": long_prompts}

ANSWERS: dict[str, Callable[[int], list[Pair]]] = {
    "dialogues, answers to 200 tokens": dialogues,
    "answers of 200 tokens": partial(long_prompts, prompt_words=60, response_words=400),
}
"""What the cost of the head's measures is measured on: it grows with the square of an answer."""

MOST_TOKENS = dict.fromkeys(ANSWERS, 200)
"""Tokens after which answers are cut; not at all in other workloads."""

PUBLIC = ("persona", "dialogues", "dialogues, answers to 200 tokens")
"""Those whose files are not part of the project."""

BATCH_SIZES = {"persona": 8, "dialogues": 4, "long prompts": 1, "random tokens": 8}
"""Pairs in a training step: two steps at least, since the first one's loss is log 2 everywhere."""
