"""Dialogues written as one text: "\\n\\nHuman: Hi\\n\\nAssistant: Hello" and its relatives.

    Human: / Assistant:      as HH-RLHF writes them, with an empty line before each
    User: / Assistant:       also Human, AI, Bot, in upper case, after ###, on lines of their own
    USER: … ASSISTANT: …     as Vicuna writes them, within a line
    ### Instruction: / ### Response:

A `System:` turn may come first.
"""

import re
from typing import NamedTuple

from chesboard.formats.dialogues import Messages

_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_HH_ROLES = {"Human": "user", "Assistant": "assistant"}
_HH_SPEAKERS = {role: speaker for speaker, role in _HH_ROLES.items()}

_LINE_MARK = re.compile(
    r"(?:\A|\n)[ \t]*((?:#{2,3} ?)?(?:Human|HUMAN|User|USER|Assistant|ASSISTANT|AI|Bot|BOT|System"
    r"|SYSTEM)|#{2,3} ?(?:Instruction|Response)):"
)
_INLINE_MARK = re.compile(r"(?:\A|\s)(USER|ASSISTANT|SYSTEM):")
_ROLES = {
    **dict.fromkeys(("human", "user", "instruction"), "user"),
    **dict.fromkeys(("assistant", "ai", "bot", "response"), "assistant"),
    "system": "system",
}
_ANSWERERS = ("Assistant:", "ASSISTANT:", "AI:", "Bot:", "BOT:", "Response:")
_HEADING = re.compile(r"(?:\A|\n)#{2,3} ?\w[\w ]*:")
_OPEN_END = re.compile(r"(?:\A|[\s#])(?:Assistant|ASSISTANT|AI|Bot|BOT|Response):\s*\Z")


class Transcript(NamedTuple):
    """The turns of a dialogue in one text, which alternate strictly.

    is_open: the text ends with "Assistant:", where the response continues; the turns end before.
    is_spaced: an empty line before every turn but the first, as in HH-RLHF.
    """

    turns: Messages
    is_open: bool
    is_spaced: bool


def is_dialogue(text: str) -> bool:
    return _HH_TURN.match(text.lstrip()) is not None


def read_dialogue(text: str) -> Messages:
    """'\\n\\nHuman: Hi\\n\\nAssistant: Hello' -> [{user, Hi}, {assistant, Hello}]"""
    _, *parts = _HH_TURN.split(text.lstrip())
    return [
        {"role": _HH_ROLES[speaker], "content": said.strip()}
        for speaker, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def write_dialogue(messages: Messages) -> str:
    """The inverse of `read_dialogue`."""
    return "".join(
        f"\n\n{_HH_SPEAKERS.get(message['role'], message['role'])}: {message['content']}"
        for message in messages
    )


def read_transcript(text: str) -> Transcript | None:
    """The turns, where the names of the speakers alternate strictly from the user's on."""
    if not any(name in text for name in _ANSWERERS):
        return None  # faster than to look for the speakers one by one
    return _read(text, _LINE_MARK) or ("USER:" in text and _read(text, _INLINE_MARK)) or None


def _read(text: str, mark: re.Pattern[str]) -> Transcript | None:
    before, *parts = mark.split(text.lstrip())
    speakers, said = parts[::2], [part.strip() for part in parts[1::2]]
    if before or len(speakers) < 2 or any(_HEADING.search(part) for part in said):
        return None
    roles = [_role(speaker) for speaker in speakers]
    if len(set(speakers)) != len(set(roles)) or len({s[0] == "#" for s in speakers}) > 1:
        return None  # a role under two names: one of them is quoted
    rest = roles[1:] if roles[0] == "system" else roles
    if rest != [("user", "assistant")[i % 2] for i in range(len(rest))] or not rest:
        return None
    is_open = roles[-1] == "assistant" and not said[-1]
    turns: Messages = [
        {"role": role, "content": content} for role, content in zip(roles, said, strict=True)
    ]
    if is_open:
        turns.pop()
    if len(rest) < 2 or not all(turn["content"] for turn in turns):
        return None
    return Transcript(turns, is_open, all(part.endswith("\n\n") for part in _gaps(text, mark)))


def _role(speaker: str) -> str:
    return _ROLES[speaker.lstrip("# ").casefold()]


def _gaps(text: str, mark: re.Pattern[str]) -> list[str]:
    """What stands before each speaker but the first, up to the line break of its own."""
    found = list(mark.finditer(text.lstrip()))[1:]
    return [text.lstrip()[max(0, m.start(1) - 2) : m.start(1)] for m in found]


def is_certain(transcript: Transcript, text: str) -> bool:
    """Whether a prompt of this text is meant as turns: the response is asked for at its end, or it
    is written as HH-RLHF writes dialogues."""
    return transcript.is_open or (transcript.is_spaced and is_dialogue(text))


def looks_like_transcript(text: str) -> bool:
    """Whether a prompt ends with a speaker's name, or begins with one and has others."""
    if _OPEN_END.search(text.rstrip()[-16:]) or read_transcript(text) is not None:
        return True
    return text.startswith("\n\nHuman:")


def has_turns(text: str) -> bool:
    """Whether a response goes on with a turn of the user."""
    return any(
        match.start() > 0 and _role(match[1]) == "user" for match in _LINE_MARK.finditer(text)
    )
