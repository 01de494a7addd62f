"""Roles of a preference file's columns: known forms, guesses by name, and explicit mappings.

    columns                                                       form
    prompt, chosen, rejected                                      text: three texts
                                                                  chat: chat messages
                                                                  ultrafeedback: with the scores
    chosen, rejected                                              chat: whole dialogues
                                                                  hh-rlhf: dialogues in one text
                                                                  implicit: texts that begin alike
    system, question, chosen, rejected                            orpo
    prompt, chosen_response, rejected_response                    h2o
    question, answer_matching_behavior, answer_not_matching_…     persona
    instruction, input, output_1, output_2, preference            alpacafarm
    history, human_ref_A, human_ref_B, labels (or the scores)     shp
    prompt, response_0, response_1, better_response_id            safe-rlhf
    input, preferred_output, non_preferred_output                 chat (OpenAI)
    messages, rejected_response                                   chat (ms-swift)
    query, response, rejected_response                            text (ms-swift)

`preferred` and `dispreferred` are accepted for `chosen` and `rejected`, and `question`,
`instruction` (with `input`) or `conversations` for `prompt`; any form may have a `system` column.
A mapping gives the roles of columns with other names.
"""

import dataclasses
from collections.abc import Iterable
from collections.abc import Mapping as NamesByName
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from chesboard.formats.errors import ErrorItem, FormatError

FORMS_IN_WORDS = {
    "text": "a prompt and two responses as plain text",
    "chat": "chat messages",
    "ultrafeedback": "chat messages with scores (UltraFeedback, binarized)",
    "hh-rlhf": "whole dialogues in one text (HH-RLHF)",
    "implicit": "two texts whose common beginning is the prompt",
    "orpo": "a system prompt, a question and two responses",
    "h2o": "a prompt and two responses (H2O LLM Studio)",
    "persona": "a question with a matching and a not matching answer (persona)",
    "alpacafarm": "an instruction, two outputs and which is preferred (AlpacaFarm)",
    "shp": "a history, two answers and which scored higher (SHP)",
    "safe-rlhf": "a prompt, two responses and which is better (SafeRLHF)",
}
KNOWN = (
    "prompt/chosen/rejected (text or chat messages), chosen/rejected (whole dialogues: chat "
    "messages, or text as in HH-RLHF), system/question/chosen/rejected, "
    "prompt/chosen_response/rejected_response, question/answer_matching_behavior/"
    "answer_not_matching_behavior (persona), instruction/output_1/output_2/preference "
    "(AlpacaFarm), history/human_ref_A/human_ref_B/labels (SHP), input/preferred_output/"
    "non_preferred_output (OpenAI), messages/rejected_response (ms-swift)"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles of columns.

    preferred, dispreferred: the two responses. With `choice` or `scores` they are the first and the
    second response, and the column of `choice`, or the higher of `scores`, tells the preferred one.
    choice: (column, its value for the first response, for the second).
    system, context: a system prompt before the prompt, and an input after it.
    """

    prompt: str
    preferred: str
    dispreferred: str
    persona: bool = False
    system: str | None = None
    context: str | None = None
    choice: tuple[str, int, int] | None = None
    scores: tuple[str, str] | None = None
    form: str | None = None
    """The name of the form, where the columns alone determine it."""
    has_scores: bool = False
    """Whether there are columns with UltraFeedback's scores."""

    def all(self) -> tuple[str, ...]:
        """The columns that make up the pair; all others are kept as metadata."""
        optional = (self.system, self.context, self.choice and self.choice[0])
        named = (self.prompt, self.preferred, self.dispreferred, *optional)
        return tuple(name for name in named if name)

    def roles(self) -> dict[str, str]:
        """Column -> its role, in words."""
        which = bool(self.choice or self.scores)
        roles = {
            self.prompt: "prompt",
            self.preferred: "first response" if which else "preferred response",
            self.dispreferred: "second response" if which else "dispreferred response",
        }
        if self.system:
            roles[self.system] = "system prompt"
        if self.context:
            roles[self.context] = "input, after the prompt"
        for name in (self.choice[0],) if self.choice else self.scores or ():
            roles[name] = "says which response is preferred"
        return roles

    def needed(self) -> tuple[str, ...]:
        """The columns that a row must have. Without a prompt the responses are whole dialogues;
        forms with a choice or scores need one."""
        explicit = self.persona or self.choice or self.scores
        prompt = (self.prompt,) if explicit else ()
        choice = (self.choice[0],) if self.choice else ()
        return (*prompt, self.preferred, self.dispreferred, *choice, *(self.scores or ()))

    def fit(self, found: Iterable[str]) -> bool:
        """Whether a row with these columns has this form."""
        return set(self.needed()) <= set(found)

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Columns":
        """The inverse of `as_dict`, also after a round trip through JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        return cls(**values)


KNOWN_COLUMNS = (
    Columns("prompt", "chosen", "rejected"),
    Columns("prompt", "preferred", "dispreferred"),
    Columns("prompt", "chosen_response", "rejected_response", form="h2o"),
    Columns("input", "preferred_output", "non_preferred_output"),  # OpenAI, Together, Fireworks
    Columns("prompt", "messages", "rejected_response"),  # ms-swift
    Columns("query", "response", "rejected_response"),  # ms-swift
    Columns("question", "answer_matching_behavior", "answer_not_matching_behavior", persona=True),
    Columns(
        "instruction",
        "output_1",
        "output_2",
        choice=("preference", 1, 2),
        form="alpacafarm",
    ),
    Columns("history", "human_ref_A", "human_ref_B", choice=("labels", 1, 0), form="shp"),
    Columns("history", "human_ref_A", "human_ref_B", scores=("score_A", "score_B"), form="shp"),
    Columns(
        "prompt", "response_0", "response_1", choice=("better_response_id", 0, 1), form="safe-rlhf"
    ),
)
_PROMPTS = ("prompt", "question", "instruction", "conversations", "input", "query")
_SYSTEMS = ("system", "system_prompt")
_CONTEXTS = {"instruction": "input"}


def recognize(found: Iterable[str]) -> Columns | None:
    """The known form that these columns match, if any; as they are, else without regard to case."""
    names = list(found)
    columns = _recognize(set(names))
    if columns is not None:
        return columns
    folded = {name.casefold().strip(): name for name in names}
    if len(folded) < len(names):
        return None  # which of two columns is meant cannot be told
    columns = _recognize(set(folded))
    return None if columns is None else _renamed(columns, folded)


def _renamed(columns: Columns, names: NamesByName[str, str]) -> Columns:
    """The same roles with the names that the file has for the columns."""

    def name(known: str) -> str:
        return names.get(known, known)

    return dataclasses.replace(
        columns,
        prompt=name(columns.prompt),
        preferred=name(columns.preferred),
        dispreferred=name(columns.dispreferred),
        system=columns.system and name(columns.system),
        context=columns.context and name(columns.context),
        choice=columns.choice and (name(columns.choice[0]), *columns.choice[1:]),
        scores=columns.scores and (name(columns.scores[0]), name(columns.scores[1])),
    )


def _recognize(names: set[str]) -> Columns | None:
    for columns in KNOWN_COLUMNS:
        if columns.fit(names):
            return _with_optional(columns, names)
    return None


def _with_optional(columns: Columns, names: set[str]) -> Columns:
    if columns.persona:
        return columns
    prompt = next((name for name in (columns.prompt, *_PROMPTS) if name in names), columns.prompt)
    context = _CONTEXTS.get(prompt)
    return dataclasses.replace(
        columns,
        prompt=prompt,
        system=next((name for name in _SYSTEMS if name in names), None),
        context=context if context in names else None,
        has_scores={"prompt", "score_chosen", "score_rejected"} <= names,
    )


def extend(columns: Columns, found: Iterable[str]) -> Columns:
    """The form with its optional columns (system prompt, input) that a later row brings first."""
    names = set(found)
    if columns.persona or (columns.system and columns.context):
        return columns
    wider = _with_optional(columns, names | set(columns.all()))
    if wider.prompt != columns.prompt:
        return columns
    return dataclasses.replace(
        columns,
        system=columns.system or wider.system,
        context=columns.context or wider.context,
    )


def nearest(found: Iterable[str]) -> Columns | None:
    """The form that shares the most columns, to report what is missing; None without any."""
    names = set(found)
    best = max(KNOWN_COLUMNS, key=lambda columns: len(names & set(columns.all())))
    return best if names & set(best.all()) else None


_PROMPT_WORDS = ("prompt", "question", "instruction", "query", "input", "context", "post", "user")
_PREFERRED_WORDS = ("chosen", "preferred", "accepted", "winner", "win", "better", "best", "good")
_DISPREFERRED_WORDS = (
    *("rejected", "dispreferred", "loser", "lose", "worse", "worst", "bad", "negative"),
    *("unpreferred", "nonpreferred"),
)


def guess(found: Iterable[str]) -> Columns | None:
    """Roles guessed from the names of columns, to be confirmed by a user; None without a guess."""
    names = list(found)
    dispreferred = _named_like(names, _DISPREFERRED_WORDS)
    left = [name for name in names if name != dispreferred]
    preferred = _named_like(left, (*_PREFERRED_WORDS, "positive"))
    left = [name for name in left if name != preferred]
    if preferred is None or dispreferred is None:
        return None
    return Columns(_named_like(left, _PROMPT_WORDS) or "prompt", preferred, dispreferred)


def _named_like(names: list[str], words: tuple[str, ...]) -> str | None:
    """The first name that equals one of the words, else the first that contains one."""
    folded = {name: name.casefold().strip() for name in names}
    for word in words:
        for name, plain in folded.items():
            if plain == word:
                return name
    for word in words:
        for name, plain in folded.items():
            if word in plain and "score" not in plain and "rating" not in plain:
                return name
    return None


class Mapping(BaseModel):
    """An explicit mapping of columns, given as JSON."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = "prompt"
    preferred: str
    dispreferred: str
    system: str | None = None
    preference: str | None = None
    """A column with 1 where the response in `preferred` is preferred and 2 where the one in
    `dispreferred` is."""

    @model_validator(mode="after")
    def _are_different(self) -> "Mapping":
        named = [self.prompt, self.preferred, self.dispreferred, self.system, self.preference]
        given = [name for name in named if name]
        if len(set(given)) < len(given):
            raise ValueError("each column can hold one thing only")
        return self

    def as_columns(self) -> Columns:
        return Columns(
            self.prompt,
            self.preferred,
            self.dispreferred,
            system=self.system or None,
            choice=(self.preference, 1, 2) if self.preference else None,
        )


def parse_mapping(text: str | None) -> Columns | None:
    """Parse `{"prompt": "q", "preferred": "good", "dispreferred": "bad"}`; None for no text.

    The prompt may be omitted where the responses are whole dialogues.

    Raises:
        FormatError: not such an object.
    """
    if text is None or not text.strip():
        return None
    try:
        return Mapping.model_validate_json(text).as_columns()
    except ValidationError as error:
        raise FormatError(
            "`mapping` must be a JSON object that says which columns hold the prompt, the "
            "preferred and the dispreferred response.",
            _mapping_items(error),
        ) from error


def _mapping_items(error: ValidationError) -> list[ErrorItem]:
    """Pydantic's findings, each with the field's path: `mapping.preferred`."""
    items: list[ErrorItem] = []
    for found in error.errors():
        if found["type"] == "json_invalid":
            message = f"The body is not JSON: {found.get('ctx', {}).get('error', found['msg'])}"
            items.append({"field": "mapping", "message": message})
        else:
            field = ".".join(["mapping", *map(str, found["loc"])])
            items.append({"field": field, "message": found["msg"].removeprefix("Value error, ")})
    return items


def as_mapping(columns: Columns) -> dict[str, str]:
    """The inverse of `parse_mapping`, to fill in a form; without what a mapping cannot express."""
    mapping = {
        "prompt": columns.prompt,
        "preferred": columns.preferred,
        "dispreferred": columns.dispreferred,
    }
    if columns.system:
        mapping["system"] = columns.system
    if columns.choice and columns.choice[1:] == (1, 2):
        mapping["preference"] = columns.choice[0]
    return mapping
