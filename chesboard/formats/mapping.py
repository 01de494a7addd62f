"""An explicit mapping of columns to their roles, given as JSON."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from chesboard.formats.columns import SIDES, Candidates, Columns, Unpaired
from chesboard.formats.errors import ErrorItem, FormatError


class Mapping(BaseModel):
    """Which columns hold what: two responses, a list of them (`candidates`), or one (`completion`).

    Names may be dotted paths into objects: `info.post`, for the prompt and for fields of
    candidates.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str = "prompt"
    system: str | None = None
    history: str | None = None
    """Earlier turns, before the prompt: pairs of a question and an answer, or messages."""
    context: str | None = None
    """A text that follows the prompt, as the `input` of an `instruction`."""

    preferred: str | None = None
    dispreferred: str | None = None
    preference: str | None = None
    """A column that names the preferred response: the column's name, what differs in the two names
    (response_a, response_b: "A"), or 1 or 2 for `preferred` or `dispreferred`."""
    first: str | int | None = None
    second: str | int | None = None
    """The values of `preference` for `preferred` and `dispreferred`, where they are others."""
    signed_preference: str | None = None
    """A column with a number, negative where `preferred` is preferred, 0 where neither is."""
    preferred_score: str | None = None
    dispreferred_score: str | None = None
    """The scores of `preferred` and `dispreferred`: the higher one is preferred."""

    candidates: str | None = None
    """A column with a list of responses; the best comes first where nothing else says which."""
    response: str | None = None
    ratings: str | None = None
    ranks: str | None = None
    models: str | None = None
    """Fields of the candidates, or columns with lists beside them; the lowest rank is the best."""
    best: str | None = None
    """A column with the position of the best candidate, from 0."""

    completion: str | None = None
    """A single response, paired with others of its prompt by `label` or `rating`."""
    label: str | None = None
    rating: str | None = None

    @model_validator(mode="after")
    def _is_one_of_three(self) -> "Mapping":
        kinds = [self.preferred or self.dispreferred, self.candidates, self.completion]
        if sum(map(bool, kinds)) != 1:
            raise ValueError("must name preferred and dispreferred, or candidates, or completion")
        if not self.candidates and not self.completion:
            self._check_two()
        if self.completion and bool(self.label) == bool(self.rating):
            raise ValueError("completion needs either label or rating")
        if self.ratings and self.ranks:
            raise ValueError("candidates have either ratings or ranks")
        self._check_strangers()
        return self

    def _check_two(self) -> None:
        if not self.preferred or not self.dispreferred:
            raise ValueError("both preferred and dispreferred must be named")
        if (self.first is None) != (self.second is None):
            raise ValueError("first and second must be given together")
        if self.first is not None and (not self.preference or self.first == self.second):
            raise ValueError("first and second are two different values of preference")
        if bool(self.preferred_score) != bool(self.dispreferred_score):
            raise ValueError("both scores must be named")
        if sum(map(bool, (self.preference, self.signed_preference, self.preferred_score))) > 1:
            raise ValueError("one thing only can say which response is preferred")

    def _check_strangers(self) -> None:
        """Each column holds one thing, and no role is given that the kind does not have."""
        given = {
            role: value
            for role in type(self).model_fields
            if role not in ("first", "second") and (value := getattr(self, role))
        }
        if len(set(given.values())) < len(given):
            raise ValueError("each column can hold one thing only")
        of_lists = {"candidates", "response", "ratings", "ranks", "models", "best"}
        of_single = {"completion", "label", "rating"}
        common = {"prompt", "system", "history", "context"}
        allowed = of_lists if self.candidates else of_single if self.completion else None
        strangers = (
            given.keys()
            - common
            - (allowed if allowed else type(self).model_fields.keys() - of_lists - of_single)
        )
        if strangers:
            raise ValueError(f"has no use for {', '.join(sorted(strangers))}")

    def as_columns(self) -> Columns:
        if self.candidates:
            return Columns(
                self.prompt,
                *SIDES,
                **self._around_prompt(),
                form="rated" if self.ratings else "ranked",
                candidates=Candidates(
                    self.candidates,
                    self.response,
                    self.ratings or self.ranks,
                    self.models,
                    self.best,
                    lower_is_better=bool(self.ranks),
                ),
            )
        if self.completion:
            return Columns(
                self.prompt,
                *SIDES,
                **self._around_prompt(),
                form="kto" if self.label else "rated-rows",
                unpaired=Unpaired(self.completion, self.label, self.rating),
            )
        return self._as_two()

    def _around_prompt(self) -> dict[str, Any]:
        roles = {"system": self.system, "history": self.history, "context": self.context}
        return {role: name or None for role, name in roles.items()}

    def _as_two(self) -> Columns:
        choice = scores = None
        if self.preference and self.first is not None and self.second is not None:
            choice = (self.preference, _value(self.first), _value(self.second))
        if self.preferred_score and self.dispreferred_score:
            scores = (self.preferred_score, self.dispreferred_score)
        return Columns(
            self.prompt,
            self.preferred or "",
            self.dispreferred or "",
            **self._around_prompt(),
            choice=choice,
            scores=scores,
            signed=self.signed_preference or None,
            winner=self.preference or None if choice is None else None,
        )


def _value(said: str | int) -> str | int:
    text = str(said).strip()
    return int(text) if text.lstrip("-").isdecimal() else text


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
            "preferred and the dispreferred response, or a list of responses.",
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
    mapping: dict[str, Any] = {"prompt": columns.prompt}
    if spec := columns.candidates:
        mapping |= {
            "candidates": spec.column,
            "response": spec.response,
            "ranks" if spec.lower_is_better else "ratings": spec.ratings,
            "models": spec.models,
            "best": spec.best,
        }
    elif roles := columns.unpaired:
        mapping |= {"completion": roles.response, "label": roles.label, "rating": roles.rating}
    else:
        mapping |= {"preferred": columns.preferred, "dispreferred": columns.dispreferred}
        mapping |= _verdict(columns)
    mapping |= {
        "system": columns.system,
        "history": columns.history,
        "context": columns.context,
    }
    return {role: str(name) for role, name in mapping.items() if name is not None}


def _verdict(columns: Columns) -> dict[str, Any]:
    if columns.choice:
        name, first, second = columns.choice
        plain = {"preference": name}
        return plain if (first, second) == (1, 2) else plain | {"first": first, "second": second}
    scores = dict(
        zip(("preferred_score", "dispreferred_score"), columns.scores or (), strict=False)
    )
    return {"preference": columns.winner, "signed_preference": columns.signed, **scores}
