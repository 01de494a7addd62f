"""Marks that chat templates and tokenizers write around turns and texts, known without a model."""

import re

MARK = (
    # <|im_start|>, <|eot_id|>, <|user|>, <｜Assistant｜>, <|START_OF_TURN_TOKEN|>, …
    r"<[|｜][^<>|｜\n]{1,30}[|｜]>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<</?SYS>>"
    r"|</?(?:start|end)_of_turn>|<\|?turn\|?>|\[gMASK\]|</?s>(?!\w)|<(?:bos|eos|pad|unk)>"
    r"|\[(?:SEP|CLS|PAD|UNK|EOS|BOS)\]"
)
"""A pattern of one mark."""

_MARK = re.compile(MARK, re.I)


def find_mark(text: str) -> str | None:
    """The first mark in a text: `<|im_start|>`, `[INST]`, `</s>`, …"""
    if "<" not in text and "[" not in text:
        return None
    found = _MARK.search(text)
    return found[0] if found else None
