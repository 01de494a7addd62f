"""Rows built from a grammar of forms: every word is read once, or named; the row comes back."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from chesboard.formats.layouts import restore
from chesboard.formats.pair_reader import PairReader
from chesboard.formats.rows import PairRow
from tests.chesboard.formats.test_parsing import said, understand

Cells = dict[str, Any]


def as_text(turns: list[Cells]) -> str:
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[turn['role']]}: {turn['content']}" for turn in turns)


def as_struct(turns: list[Cells]) -> Cells:
    return {name: [turn[name] for turn in turns] for name in ("role", "content")}


def as_sharegpt(turns: list[Cells]) -> list[Cells]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[turn["role"]], "value": turn["content"]} for turn in turns]


def as_capitals(turns: list[Cells]) -> list[Cells]:
    return [said(turn["role"].upper(), turn["content"]) for turn in turns]


LISTS: dict[str, Callable[[list[Cells]], Any]] = {
    "messages": list,
    "JSON": json.dumps,
    "Python": repr,
    "struct": as_struct,
    "ShareGPT": as_sharegpt,
    "capitals": as_capitals,
}
HISTORIES: dict[str, Callable[[list[Cells]], Any]] = {
    "pairs": lambda turns: [[turn["content"] for turn in turns]],
    "pairs as text": lambda turns: json.dumps([[turn["content"] for turn in turns]]),
    "messages": list,
    "messages as text": json.dumps,
    "no turns": lambda turns: f"{turns[0]['content']} and {turns[1]['content']}",
}


@dataclass
class Words:
    """Sentences of words that no other sentence has, and the columns that each word stands in."""

    counter: Iterator[int] = field(default_factory=itertools.count)

    def sentence(self) -> str:
        return " ".join(f"word{next(self.counter)}z" for _ in range(4)) + "."


@st.composite
def rows(draw: st.DrawFn) -> Cells:
    """A row of known columns: a prompt, two responses, and context in various places."""
    new = Words().sentence
    earlier = [said("user", new()), said("assistant", new())]
    question, yes, no = said("user", new()), new(), new()
    before = draw(st.sampled_from([[], earlier]))
    asked = [*before, question]
    row: Cells = {}
    if draw(st.booleans()):
        row["system"] = new()
    _put_prompt(draw, row, new, asked)
    _put_responses(draw, row, asked, yes, no)
    more = draw(st.sets(st.sampled_from(["history", "context", "tools", "meta", "messages"])))
    if "history" in more:
        turns = [said("user", new()), said("assistant", new())]
        row["history"] = HISTORIES[draw(st.sampled_from(sorted(HISTORIES)))](turns)
    if "context" in more:
        row["context"] = new()
    if "tools" in more:
        row["tools"] = [{"name": new(), "description": new()}]
    if "meta" in more:
        row["meta"] = {"turns": [said("user", new())], "source": 3}
    if "messages" in more and "prompt" in row:
        row["messages"] = [*asked, said("assistant", draw(st.sampled_from([yes, new()])))]
    return row


def _put_prompt(draw: st.DrawFn, row: Cells, new: Any, asked: list[Cells]) -> None:
    kind = draw(st.sampled_from([*LISTS, "text", "dialogue", "instruction", "none"]))
    if kind == "text":
        row["prompt"] = asked[-1]["content"]
    elif kind == "dialogue":
        row["prompt"] = as_text(asked) + draw(st.sampled_from(["\n\nAssistant:", ""]))
    elif kind == "instruction":
        row |= {"instruction": asked[-1]["content"], "input": draw(st.sampled_from(["", new()]))}
    elif kind != "none":
        turns = [*asked]
        if kind == "messages" and draw(st.booleans()):
            turns[0] = turns[0] | {draw(st.sampled_from(["name", "thinking", "images"])): new()}
        if draw(st.booleans()):
            turns.insert(0, said("system", new()))
        row[draw(st.sampled_from(["prompt", "conversations"]))] = LISTS[kind](turns)


def _put_responses(draw: st.DrawFn, row: Cells, asked: list[Cells], yes: str, no: str) -> None:
    prompt = row.get("prompt", row.get("instruction"))
    kinds = ["whole", "whole text"]
    if prompt is not None or "conversations" in row:
        kinds += ["text", "message", "last turns"]
    if isinstance(prompt, str) and not prompt.startswith("["):
        kinds += ["repeated"]
    kind = draw(st.sampled_from(kinds))
    written = LISTS[draw(st.sampled_from(sorted(LISTS)))]
    for name, response in (("chosen", yes), ("rejected", no)):
        answer = said("assistant", response)
        match kind:
            case "whole":
                row[name] = written([*asked, answer])
            case "last turns":
                row[name] = written([asked[-1], answer])
            case "message":
                row[name] = written([answer])
            case "whole text":
                row[name] = as_text([*asked, answer])
            case "repeated":
                row[name] = f"{prompt} {response}"
            case "text":
                row[name] = response


WORD = re.compile(r"word\d+z")


def places(value: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each word of a row, with the column and the fields that it stands in."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*names, name))
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner, names)
    elif isinstance(value, str):
        yield from ((word, names) for word in WORD.findall(value))


def read(row: Cells) -> tuple[PairRow | None, PairReader]:
    pairs, reader = understand(json.dumps(row))
    assert len(pairs) + reader.rejected == 1
    return (pairs[0] if pairs else None), reader


HH = "\n\nHuman: word1z word2z word3z.\n\nAssistant:"


SETTINGS = settings(deadline=None, max_examples=150)


@SETTINGS
@given(rows())
@example({"prompt": HH, "chosen": " word4z.", "rejected": " word5z."})
@example({"prompt": HH, "chosen": f"{HH} word4z.", "rejected": f"{HH} word5z."})
def test_every_word_is_read_once_or_named(row: Cells) -> None:
    pair, reader = read(row)
    if pair is None:
        # The one reason to reject a row of the grammar is one that it gives.
        assert "another system turn" in reader.errors[0]["message"]
        return
    texts = json.dumps([pair.prompt, pair.preferred, pair.dispreferred])
    named = set(re.findall(r"`([\w.]+)`", " ".join(reader.warnings)))
    for word, names in places(row):
        assert word in texts or named & {*names, ".".join(names[:2])}, (word, names)
    if any("repeat it cannot be told" in warning for warning in reader.warnings):
        return
    for response in (pair.preferred, pair.dispreferred):
        words = WORD.findall(json.dumps([pair.prompt, response]))
        assert sorted(words) == sorted(set(words))


@SETTINGS
@given(rows())
def test_the_row_comes_back_as_it_was(row: Cells) -> None:
    pair, reader = read(row)
    if pair is None:
        return
    assert reader.columns is not None
    texts = pair.prompt, pair.preferred, pair.dispreferred
    source = json.loads(json.dumps(pair.source))
    cells = restore(reader.columns, *texts, source, is_edited=False)
    assert cells | {name: value for name, value in pair.meta.items() if name != "row"} == row


@SETTINGS
@given(rows())
def test_an_edited_response_is_read_again_from_the_file_s_own_columns(row: Cells) -> None:
    pair, reader = read(row)
    if pair is None:
        return
    assert reader.columns is not None
    texts = pair.prompt, "An edited text.", pair.dispreferred
    cells = restore(reader.columns, *texts, pair.source, is_edited=True)
    again, _ = read(cells)
    assert again is not None
    assert again.preferred.strip() == "An edited text."
    assert again.dispreferred.strip() == pair.dispreferred.strip()
    assert set(WORD.findall(json.dumps(again.prompt))) == set(WORD.findall(json.dumps(pair.prompt)))
