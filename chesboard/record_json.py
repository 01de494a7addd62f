"""The records of a training run as JSON objects: written by who trains, checked by who stores them.

An object is `{"kind": …, …}`: a name of KINDS and the record's fields. A record's own field `kind`
is written with the name before it: `probe_kind`. JSON has no NaN and no infinity: they become null.
A field that is always a number reads null as NaN; of one that may be missing, `nonfinite` names
those whose null stands for such a number, as in the items of GET /runs/{id}/metrics.
"""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from typing_extensions import is_typeddict

from chesboard.formats.text import find_unstorable, sanitize
from chesboard.records import (
    AnswerRecord,
    FinalRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    ProbeRecord,
    ProbeStepRecord,
    Record,
    ReferenceRecord,
)

KINDS: Mapping[str, type[Record]] = {
    "metric": MetricRecord,
    "probe": ProbeRecord,
    "probe_step": ProbeStepRecord,
    "position": PositionRecord,
    "position_step": PositionStepRecord,
    "answer": AnswerRecord,
    "reference": ReferenceRecord,
    "final": FinalRecord,
}
"""What is recorded of a training run, by its name in JSON."""

NAMES: Mapping[type[Record], str] = {record: name for name, record in KINDS.items()}

KIND, NONFINITE = "kind", "nonfinite"
MAX_PROMPTS = 1000
"""The `pair` of a watched prompt is -1, -2, …, down to minus this."""

MAX_TEXT = 1_000_000
MAX_MESSAGE = 2000
"""Longest message that a trainer sends beside its records, in characters."""
MAX_EXTRA = 200
"""Most entries of a dict, such as the further metrics of a trainer."""
MAX_KEY = 200
"""Longest name of such an entry, in characters."""

_INT = Field(ge=0, lt=2**31)
_BOUNDS: Mapping[str, Any] = {
    "pair": Field(ge=-MAX_PROMPTS, lt=2**31),
    "tokens_seen": Field(ge=0, lt=2**63),
}
"""Bounds of integers by the field's name; of all others: PostgreSQL's integer, from 0."""


def to_json(record: Record) -> dict[str, Any]:
    """The record as an object of values that JSON can hold.

    Raises:
        KeyError: it is no record of a training run.
    """
    name = NAMES[type(record)]
    written: dict[str, Any] = {KIND: name}
    nonfinite = []
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, float) and not math.isfinite(value):
            nonfinite.append(one.name)
        written[_written_as(name, one.name)] = plain(value)
    return written | ({NONFINITE: nonfinite} if nonfinite else {})


def from_json(value: Mapping[str, Any]) -> Record:
    """The record of an object.

    Raises:
        KeyError: its `kind` is not in KINDS.
        pydantic.ValidationError: a field is missing, unknown or no value of its type.
    """
    name = value[KIND]
    kind: Any = KINDS[name]
    model: Any = _model(kind, KIND_FIELDS.get(name, ""))
    given = {name: part for name, part in value.items() if name != KIND}
    record: Record = model.model_validate(given).build()
    return record


KIND_FIELDS = {
    name: f"{name}_{KIND}"
    for name, record in KINDS.items()
    if any(one.name == KIND for one in fields(record))
}
"""How the records' own fields `kind` are written."""


def _written_as(record: str, field: str) -> str:
    return KIND_FIELDS[record] if field == KIND else field


def plain(value: Any) -> Any:
    """A value that JSON and PostgreSQL can hold: no NaN, no infinity, no character that cannot be
    stored; dataclasses as objects."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str():
            return sanitize(value)
        case list() | tuple():
            return [plain(part) for part in value]
        case dict():
            return {sanitize(str(name)): plain(part) for name, part in value.items()}
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return value


# --- what is read ---------------------------------------------------------------------------------


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _RecordWire(_Wire):
    nonfinite: list[str] = Field(default_factory=list, max_length=50)


@cache
def _model(kind: Any, written_kind: str = "") -> type[BaseModel]:
    """A Pydantic model with the fields of a dataclass or TypedDict, as they are written.

    written_kind: how its own field `kind` is written. `build()` of an instance gives the value.
    """
    hints = get_type_hints(kind, include_extras=True)
    is_record = kind in NAMES
    defaults = _defaults(kind)
    declared: dict[str, Any] = {}
    for name, hint in hints.items():
        written = written_kind if name == KIND and written_kind else name
        declared[written] = (_wire(hint, name), defaults.get(name, ...))

    def build(self: BaseModel) -> Any:
        values = {name: getattr(self, name) for name in declared}
        for name in getattr(self, NONFINITE, ()):
            if name in values and values[name] is None:
                values[name] = math.nan
        if written_kind:
            values[KIND] = values.pop(written_kind)
        return kind(**values)

    base = _RecordWire if is_record else _Wire
    made: type[BaseModel] = create_model(kind.__name__, __base__=base, **declared)
    made.build = build  # type: ignore[attr-defined]
    return made


def _defaults(kind: type[Any]) -> dict[str, Any]:
    if not is_dataclass(kind):
        return {}
    found: dict[str, Any] = {}
    for one in fields(kind):
        if one.default is not MISSING:
            found[one.name] = one.default
        elif one.default_factory is not MISSING:
            found[one.name] = Field(default_factory=one.default_factory)
    return found


def _wire(hint: Any, name: str) -> Any:
    """The type that a field is read by."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is float:
        return Annotated[float | None, AfterValidator(_number)]
    if hint is int:
        return Annotated[int, _BOUNDS.get(name, _INT)]
    if hint is str:
        return Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_storable)]
    if origin in (Union, types.UnionType):
        # A number that may be missing: null is not NaN.
        parts = [float if part is float else _wire(part, name) for part in arguments]
        return Union[tuple(parts)]  # noqa: UP007 - the parts are computed
    if origin is list:
        if arguments[0] is float:  # without a call for each number
            return Annotated[list[float | None], AfterValidator(_numbers)]
        return list[_wire(arguments[0], name)]  # type: ignore[misc]
    if origin is dict:
        value = _wire(arguments[1], name)
        key = Annotated[str, Field(max_length=MAX_KEY), AfterValidator(_storable)]
        return Annotated[dict[key, value], Field(max_length=MAX_EXTRA)]  # type: ignore[valid-type]
    if is_dataclass(hint) or is_typeddict(hint):
        return Annotated[_model(hint), AfterValidator(_build)]
    if hint is bool or hint is type(None) or origin is Literal:
        return hint
    raise TypeError(f"no JSON is defined for a field of type {hint}")


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(values: list[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _build(value: Any) -> Any:
    return value.build()


def _storable(text: str) -> str:
    if (found := find_unstorable(text)) is not None:
        what = "the character U+0000" if found.is_null else "a lone surrogate"
        raise ValueError(f"{what} cannot be stored")
    return text
