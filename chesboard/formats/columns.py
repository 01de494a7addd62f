"""Roles of a preference file's columns; `chesboard.formats.known_forms` declares the forms that
their names make up.

A mapping (`mapping`) gives the roles of columns with other names.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

SIDES = ("preferred response", "dispreferred response")
"""The names of a pair's responses where they have no columns of their own."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A column with a list of responses, and what tells the better ones.

    response, ratings, models: fields of the list's items (a dotted path enters objects), or columns
    with lists of the same length. response: None where the items are the responses.
    lower_is_better: the ratings are ranks.
    best: a column with the position of the best response, from 0.

    Without ratings and `best` the list is ordered: the best response comes first.
    """

    column: str
    response: str | None = None
    ratings: str | None = None
    models: str | None = None
    best: str | None = None
    lower_is_better: bool = False

    def all(self) -> tuple[str, ...]:
        """The column, and the names that may be columns beside it."""
        return tuple(n for n in (self.column, self.ratings, self.models, self.best) if n)


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Columns of rows with one response each: it is desirable or not (label), or has a rating."""

    response: str
    label: str | None = None
    rating: str | None = None

    def all(self) -> tuple[str, ...]:
        return tuple(n for n in (self.response, self.label, self.rating) if n)


@dataclass(frozen=True, slots=True)
class Columns:
    """The roles of columns.

    preferred, dispreferred: the two responses. With `choice`, `scores`, `signed` or `winner` they
    are the first and the second response, and these columns tell the preferred one.
    choice: (column, its value for the first response, for the second).
    scores: two columns; the response with the higher score is preferred.
    signed: a column with a number, negative where the first response is preferred, 0 for none.
    winner: a column that names the preferred response.
    second_opinion: a column as that of `choice`, where both are there; disagreement is reported.
    others: further dispreferred responses, which make further pairs.
    system, context: a system prompt before the prompt, and an input after it.
    history: earlier turns, between the system prompt and the prompt.
    candidates, unpaired: rows of other shapes, which are made into pairs; `preferred` and
    `dispreferred` then name the pair's responses, not columns of the file.

    The prompt may be a dotted path to a text inside an object: `info.post`.
    """

    prompt: str
    preferred: str
    dispreferred: str
    persona: bool = False
    system: str | None = None
    context: str | None = None
    history: str | None = None
    choice: tuple[str, int | str, int | str] | None = None
    scores: tuple[str, str] | None = None
    form: str | None = None
    """The name of the form, where the columns alone determine it."""
    has_scores: bool = False
    """Whether there are columns with UltraFeedback's scores."""
    signed: str | None = None
    winner: str | None = None
    second_opinion: str | None = None
    others: tuple[str, ...] = ()
    is_dialogues: bool = False
    """Whether the responses of a form with a verdict are whole dialogues, with the prompt."""
    candidates: Candidates | None = None
    unpaired: Unpaired | None = None

    def responses(self) -> tuple[str, ...]:
        """The columns with responses, and what belongs to lists and single responses of them."""
        if self.candidates:
            return self.candidates.all()
        if self.unpaired:
            return self.unpaired.all()
        return (self.preferred, self.dispreferred, *self.others)

    def all(self) -> tuple[str, ...]:
        """The columns that make up the pair; all others are kept as metadata."""
        names = [self.prompt, *self.responses()]  # once or twice a row: no generators
        if self.system:
            names.append(self.system)
        if self.history:
            names.append(self.history)
        if self.context:
            names.append(self.context)
        if self.choice:
            names.append(self.choice[0])
        return tuple(names)

    def verdicts(self) -> tuple[str, ...]:
        """The columns that tell the preferred response; all but that of `choice` are metadata."""
        if self.choice:
            return (self.choice[0],)
        if self.scores:
            return self.scores
        only = self.signed or self.winner
        return (only,) if only else ()

    def roles(self) -> dict[str, str]:
        """Column -> its role, in words."""
        roles = {self.prompt.split(".")[0]: "prompt", self.prompt: "prompt"}
        roles |= self._response_roles()
        if self.system:
            roles[self.system] = "system prompt"
        if self.history:
            roles[self.history] = "earlier turns, before the prompt"
        if self.context:
            roles[self.context] = "input, after the prompt"
        if self.second_opinion:
            roles[self.second_opinion] = "held against the preference"
        return roles | dict.fromkeys(self.verdicts(), "says which response is preferred")

    def _response_roles(self) -> dict[str, str]:
        if self.candidates:
            roles = {self.candidates.column: "responses"}
            ratings = self.candidates.ratings or self.candidates.best
            words = "ranks of the responses" if self.candidates.lower_is_better else "ratings"
            return roles | ({ratings: words} if ratings else {})
        if self.unpaired:
            roles = {self.unpaired.response: "response"}
            told = dict.fromkeys(self.unpaired.all()[1:], "says how good the response is")
            return roles | told
        which = bool(self.verdicts())
        return {
            self.preferred: "first response" if which else "preferred response",
            self.dispreferred: "second response" if which else "dispreferred response",
            **dict.fromkeys(self.others, "dispreferred response"),
        }

    def needed(self) -> tuple[str, ...]:
        """The columns that a row must have. Without a prompt the responses are whole dialogues;
        forms with a choice or scores need one."""
        if self.candidates:
            return (self.prompt, self.candidates.column)
        if self.unpaired:
            return self.unpaired.all()
        explicit = (self.persona or self.verdicts()) and not self.is_dialogues
        prompt = (self.prompt,) if explicit else ()
        return (*prompt, self.preferred, self.dispreferred, *self.verdicts())

    def fit(self, found: Iterable[str]) -> bool:
        """Whether a row with these columns has this form."""
        return {name.split(".")[0] for name in self.needed()} <= set(found)

    def as_dict(self) -> dict[str, Any]:
        stored = {name: value for name, value in dataclasses.asdict(self).items() if value}
        for name in ("candidates", "unpaired"):
            if name in stored:
                stored[name] = {field: value for field, value in stored[name].items() if value}
        return stored

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Columns":
        """The inverse of `as_dict`, also after a round trip through JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
        }
        for name, kind in (("candidates", Candidates), ("unpaired", Unpaired)):
            if name in values:
                values[name] = kind(**values[name])
        return cls(**values)

    def renamed(self, name: Callable[[str], str]) -> "Columns":
        """The same roles with other names of the columns."""
        changed: dict[str, Any] = {
            role: value and name(value)
            for role in (
                *("prompt", "preferred", "dispreferred", "system", "context", "history"),
                *("signed", "winner", "second_opinion"),
            )
            if (value := getattr(self, role))
        }
        if self.choice:
            changed["choice"] = (name(self.choice[0]), *self.choice[1:])
        if self.scores:
            changed["scores"] = (name(self.scores[0]), name(self.scores[1]))
        if self.candidates:
            changed["candidates"] = _named(self.candidates, name)
        if self.unpaired:
            changed["unpaired"] = _named(self.unpaired, name)
        changed["others"] = tuple(name(other) for other in self.others)
        return dataclasses.replace(self, **changed)


_Roles = TypeVar("_Roles", Candidates, Unpaired)


def _named(roles: _Roles, name: Callable[[str], str]) -> _Roles:
    named: dict[str, Any] = {
        role: name(value)
        for role in roles.__slots__
        if isinstance(value := getattr(roles, role), str) and role != "lower_is_better"
    }
    return dataclasses.replace(roles, **named)
