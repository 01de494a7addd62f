"""Rows that hold several responses to one prompt, with ratings, ranks or the best one's position.

    columns                                                              form
    instruction, completions: [{response, overall_score, …}]             rated (UltraFeedback)
    instruction, generations, ratings                                    rated (distilabel)
    prompt, answers: [{answer, model, rank}]                             ranked (Nectar)
    info: {post}, summaries: [{text}], choice                            ranked
    instruction, input, output: [better, worse]                          ranked (LLaMA-Factory)

The list may be called `completions`, `responses`, `generations`, `answers`, `candidates`, `outputs`
or `summaries`, and stand in a cell as text (JSON or Python).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from chesboard.formats.choices import as_number
from chesboard.formats.columns import SIDES, Candidates, Columns
from chesboard.formats.dialogues import UnusableError, from_struct
from chesboard.formats.known_forms import PROMPTS, folded_names, with_optional
from chesboard.formats.message_text import is_too_long, parse_list

LISTS = (
    *("completions", "responses", "generations", "answers", "candidates", "outputs"),
    "summaries",
)
RESPONSES = (
    *("response", "answer", "text", "content", "completion", "generation", "output", "summary"),
    "messages",
)
RATINGS = (
    *("overall_score", "overall_rating", "score", "rating", "reward"),
    *("scores", "ratings", "rewards", "overall_scores"),
)
RANKS = ("rank", "ranks", "ranking", "rankings")
MODELS = ("model", "models", "model_name", "model_names", "generation_models", "policy")
BEST = ("choice", "best_index", "chosen_index", "preferred_index")
ORDERED = ("output",)
PROMPT_FIELDS = ("full_text", "text", "post", "prompt", "question")
NESTED_PROMPTS = ("info.post", "info.article")
AMBIGUOUS_RANKS = ("ranking", "rankings")
"""Names that may also mean the order of the responses, as a list of their positions."""


class Candidate(NamedTuple):
    """One of a row's responses. rating: higher is better, a rank is negated; None: not rated."""

    response: Any
    rating: float | None
    model: Any


def recognize_candidates(cells: Mapping[str, Any]) -> Columns | None:
    """The roles of a row that holds a list of rated, ranked or ordered responses, if it does."""
    folded = folded_names(cells)
    if folded is None:
        return None
    row = {name: cells[original] for name, original in folded.items()}
    prompt = next((name for name in (*PROMPTS, *NESTED_PROMPTS) if look_up(row, name)), None)
    for name in (*LISTS, *ORDERED):
        found = _recognize(row, name)
        if found is None:
            continue
        if prompt is None and not _are_dialogues(items_of(row[name])):
            continue
        form = "rated" if found.ratings and not found.lower_is_better else "ranked"
        columns = Columns(prompt or "prompt", *SIDES, form=form, candidates=found)
        return with_optional(columns, set(row)).renamed(lambda known: folded.get(known, known))
    return None


def _recognize(row: Mapping[str, Any], name: str) -> Candidates | None:
    items = items_of(row.get(name))
    if not items:
        return None
    if name in ORDERED:
        both = len(items) == 2 and all(isinstance(item, str | list) for item in items)
        return Candidates(name) if both else None
    fields = set(items[0]) if isinstance(items[0], dict) else set()
    response = next((field for field in RESPONSES if field in fields), None)
    if isinstance(items[0], dict) and response is None:
        return None
    lists = {other for other in row if other != name and _has_length(row[other], len(items))}
    models = next((field for field in MODELS if field in fields or field in lists), None)
    common = Candidates(name, response, models=models)
    for field in (*RATINGS, *RANKS):
        if field in fields or field in lists:
            ranks = field in RANKS
            return replace(common, ratings=field, lower_is_better=ranks)
    best = next((other for other in BEST if as_number(row.get(other)) is not None), None)
    return replace(common, best=best) if best else None


def _has_length(value: Any, length: int) -> bool:
    items = items_of(value)
    return items is not None and len(items) == length


def _are_dialogues(items: list[Any] | None) -> bool:
    return bool(items) and all(isinstance(item, list) for item in items or ())


def read_candidates(cells: Mapping[str, Any], spec: Candidates) -> list[Candidate]:
    """The responses of a row with their ratings.

    Raises:
        UnusableError: there is no list, one of another length beside it, or no usable best one.
    """
    items = items_of(cells.get(spec.column))
    if not items:
        raise _without_list(cells.get(spec.column), spec.column)
    ratings = _ratings(cells, spec, items)
    models = _beside(cells, spec, spec.models, items) if spec.models else [None] * len(items)
    return [
        Candidate(_response(item, spec), rating, model)
        for item, rating, model in zip(items, ratings, models, strict=True)
    ]


def _without_list(value: Any, field: str) -> UnusableError:
    if value is None:
        return UnusableError(field, "is missing", "missing")
    message = "must be a list of responses, at least two"
    if isinstance(value, str) and is_too_long(value):
        message += "; text of this length is parsed as JSON only"
    return UnusableError(field, message)


def _ratings(cells: Mapping[str, Any], spec: Candidates, items: list[Any]) -> list[float | None]:
    if spec.ratings:
        told = [as_number(value) for value in _beside(cells, spec, spec.ratings, items)]
        sign = -1 if spec.lower_is_better else 1
        return [None if value is None else sign * value for value in told]
    if spec.best:
        best = as_number(cells.get(spec.best))
        if best not in range(len(items)):
            last = len(items) - 1
            raise UnusableError(
                spec.best, f"must be the position of a response, from 0 to {last}", "undecided"
            )
        return [float(position == best) for position in range(len(items))]
    return [-float(position) for position in range(len(items))]


def _beside(cells: Mapping[str, Any], spec: Candidates, name: str, items: list[Any]) -> list[Any]:
    """A value of each response: of a field of the items, or of a list in a column beside them."""
    if any(isinstance(item, dict) and look_up(item, name) is not None for item in items):
        return [look_up(item, name) if isinstance(item, dict) else None for item in items]
    values = items_of(cells.get(name))
    if values is None:
        return [None] * len(items)
    if len(values) != len(items):
        raise UnusableError(
            name, f"has {len(values)} values for the {len(items)} responses in {spec.column}"
        )
    return values


def _response(item: Any, spec: Candidates) -> Any:
    if isinstance(item, dict) and spec.response:
        return look_up(item, spec.response)
    if isinstance(item, dict) and "role" not in item and "from" not in item:
        return next((item[name] for name in RESPONSES if name in item), None)
    return item


def items_of(value: Any) -> list[Any] | None:
    """The list in a cell: as it is, as a struct of lists, or as text that `parse_list` reads."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_list(value)
    if isinstance(value, dict):
        value = from_struct(value)
    return value if isinstance(value, list) else None


def look_up(cells: Mapping[str, Any], path: str) -> Any:
    """The cell of this name, or else the value at a dotted path: info.post; None without any."""
    if path in cells:
        return cells[path]
    value: Any = cells
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def with_path(columns: Columns, cells: Mapping[str, Any]) -> Columns:
    """The roles with the path to the prompt's text, where the prompt is an object with one."""
    prompt = cells.get(columns.prompt)
    if not isinstance(prompt, dict):
        return columns
    field = next((name for name in PROMPT_FIELDS if isinstance(prompt.get(name), str)), None)
    return replace(columns, prompt=f"{columns.prompt}.{field}") if field else columns


def fields_of(cells: Mapping[str, Any], spec: Candidates) -> Iterator[str]:
    """The names of the fields that the responses have besides those that are read."""
    for item in items_of(cells.get(spec.column)) or ():
        if isinstance(item, dict):
            yield from item.keys() - {spec.response, spec.ratings, spec.models}
