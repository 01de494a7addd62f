"""What reading a row leaves open or mends, declared once: kinds, and a sentence for each."""

from typing import Literal, NamedTuple

from chesboard.formats.wording import in_rows

Kind = Literal[
    "unread_column",
    "unread_field",
    "template_field",
    "unknown_role",
    "broken_messages",
    "prompt_repeated",
    "prompt_repeated_once",
    "prompt_perhaps_repeated",
    "answer_in_prompt",
    "two_prompts",
    "transcript_read",
    "transcript_unread",
    "further_turns",
    "rendered_prompt",
    "marks_in_response",
]


class Remark(NamedTuple):
    """A kind of remark on a row; `name` is the column, the field or the text that it is about."""

    kind: Kind
    name: str = ""


_SENTENCES: dict[Kind, str] = {
    "unread_column": (
        "The column `{name}` looks like part of the prompt, but is not read ({where}). Write it "
        "into the prompt, choose its role in a mapping, or leave the column out if it is not."
    ),
    "unread_field": (
        "Messages have a field `{name}` that is not read ({where}). Only role and content are: "
        "write what the model should see into the content."
    ),
    "template_field": (
        "Messages of the prompt have a field `{name}` ({where}). It is handed to the chat "
        "template, and the model reads it only if its template writes it out."
    ),
    "unknown_role": (
        "Messages have the role `{name}` ({where}), which most chat templates do not know. The "
        "model reads them only if its template writes this role out: use system, user, assistant "
        "or tool."
    ),
    "broken_messages": (
        "The column `{name}` begins like a list of chat messages, but cannot be parsed as one "
        "({where}): it is read as plain text. Write the messages as JSON."
    ),
    "prompt_repeated": (
        "Both responses repeated the prompt, or its last turn, at their beginning ({where}); it "
        "was taken off, with the blanks behind it."
    ),
    "prompt_repeated_once": (
        "One of the responses begins with the prompt, or its last turn, and the other does not "
        "({where}). Nothing was taken off: write both responses in the same way."
    ),
    "prompt_perhaps_repeated": (
        "Both responses begin with the prompt, its last turn or a paragraph of it, but whether "
        "they repeat it cannot be told ({where}): it is short, a part, or all of a response. "
        "Nothing was taken off."
    ),
    "answer_in_prompt": (
        "The messages of the prompt ended with one of the responses ({where}); it was taken off "
        "the prompt."
    ),
    "two_prompts": (
        "The prompt and the other turns of the row have no turn in common, and each ends or begins "
        "with a question ({where}). Both are read, one after the other."
    ),
    "transcript_read": (
        "The prompt was a dialogue in one text ({where}); it is read as turns, without the names "
        "of the speakers and the blank after the last."
    ),
    "transcript_unread": (
        "The prompt looks like a dialogue in one text, but where its turns begin cannot be told "
        "({where}). It is read as one text: write it as chat messages."
    ),
    "further_turns": (
        "A response goes on with turns of its own after the answer ({where}). All of it is read as "
        "the response."
    ),
    "rendered_prompt": (
        "The prompt looks as if a chat template had rendered it already: it holds {name} "
        "({where}). Unless the model's template is the same, it is read as text within a turn: "
        "write the prompt as chat messages."
    ),
    "marks_in_response": (
        "A response holds the mark {name} of a chat template ({where}). Unless it is the end of "
        "the model's own turns, it is read as text: write the response without it."
    ),
}


def warning(remark: Remark, rows: int, first_row: int) -> str:
    """One sentence or two: what was seen, in how many rows, and what was or is to be done."""
    where = in_rows(rows, first_row)
    return _SENTENCES[remark.kind].format(name=remark.name, where=where)
