"""The form of a new run, generated from its configuration's JSON schema.

Bounds, defaults and help texts come from the schema. A new setting appears on the form without a
change here: a field that no group of `form_layout` names is an advanced one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from app.core.errors import InvalidInputError, field_errors
from app.pages.form_layout import (
    ADVANCED,
    DESCRIPTIONS,
    FILTER,
    FOLDED,
    GROUPS,
    HELPS,
    LABELS,
    NESTED,
    OPTIONAL_TYPES,
    REMEDIES,
    REST_OF,
    SWITCHED,
    TYPES,
    UNUSED,
    VISIBLE_WITH,
)
from app.pages.selection import MeasureRow, Subset, measure_rows, ranges, subset
from chesboard.configs import CONFIGS, ObjectiveConfig

WIDE_TYPES = ("groups", "opposites", "prompts", "measures", "subset", "arguments", "template")
MAX_OPEN_CHOICES = 8


@dataclass(frozen=True, slots=True)
class FormField:
    """One control of the form.

    type: model, select, checkbox, integer, number, text, ordinals, words, groups, opposites
        (pairs of groups), prompts (rows of a prompt and the words to watch), positions (of
        ledgers), choices (checkboxes), measures (rows of rules), subset (a random subset),
        template (a text box that a file can fill), arguments (of the template, one a line),
        score_run (the dataset's finished ones) or reward_model (one of the models folder, or none).
    optional: if left empty, nothing is sent and the configuration's default applies.
    above: exclusive lower bound.
    only_with: see `form_layout.VISIBLE_WITH`.
    """

    name: str
    label: str
    type: str
    help: str
    value: Any
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    choices: list[str] = field(default_factory=list)
    only_with: str | None = None

    @property
    def id(self) -> str:
        return "field-" + self.name.replace(".", "-")

    @property
    def is_wide(self) -> bool:
        return self.type in WIDE_TYPES or self.name == "objective" or self.is_folded

    @property
    def is_folded(self) -> bool:
        """Whether there are so many choices that they are folded away."""
        return self.type == "choices" and len(self.choices) > MAX_OPEN_CHOICES

    @property
    def measure_rows(self) -> list[MeasureRow]:
        return measure_rows(self.value)

    @property
    def subset(self) -> Subset:
        return subset(self.value)

    @property
    def rows(self) -> list[dict[str, str]]:
        """Of prompts: the contents of the text boxes for name, prompt and watched words."""
        return [
            {
                "name": one.get("name") or "",
                "prompt": one["prompt"] if isinstance(one["prompt"], str) else _json(one["prompt"]),
                "watch": ", ".join(one.get("watch", [])),
            }
            for one in self.value or []
        ]

    @property
    def positions(self) -> list[tuple[str, str]]:
        """Of positions: the options as (JSON, label), the selected one first."""
        both = {"preferred": "all", "dispreferred": "all"}
        known = [(None, "the fork alone"), (both, "the first 32 tokens of each response")]
        if self.value not in (None, both):
            known.insert(0, (self.value, "the positions of the earlier run"))
        elif self.value == both:
            known.reverse()
        return [("" if value is None else json.dumps(value), label) for value, label in known]

    @property
    def shown(self) -> str:
        """The content of a text box."""
        match self.value:
            case None:
                return ""
            case list() if self.type == "ordinals":
                return ", ".join(ranges(self.value))
            case list() if self.type == "opposites":
                return "\n".join(map(", ".join, self.value))
            case list():
                return ", ".join(map(str, self.value))
            case dict() if self.type == "arguments":
                return "\n".join(f"{name}: {_json(of)}" for name, of in self.value.items())
            case dict():
                return "\n".join(f"{name}: {', '.join(of)}" for name, of in self.value.items())
        return str(self.value)


@dataclass(frozen=True, slots=True)
class FormGroup:
    title: str
    about: str
    fields: list[FormField]

    @property
    def is_folded(self) -> bool:
        return self.title in FOLDED

    @property
    def is_open(self) -> bool:
        """Whether a folded group shows its fields at first: one that says how to train and differs
        from the default, as in a run whose settings were copied."""
        return self.title == REMEDIES and any(field.value for field in self.fields[:3])

    @property
    def summary(self) -> str:
        """What a folded group says of its fields."""
        if self.title == REMEDIES:
            return "reward calibration, a first phase on both responses, weights of pairs"
        if self.title == FILTER:
            return "filtered DPO, by a reward model"
        if self.title != ADVANCED:
            return "arguments, a template of your own"
        is_training = any(field.name == "lora" for field in self.fields)
        return f"precision, lengths, {'adapters, checkpoints' if is_training else 'batches'}"


def run_form(kind: str, values: Mapping[str, Any] | None = None) -> list[FormGroup]:
    """The groups of fields for a kind of run.

    values: a configuration to prefill, for example an earlier run's; other fields get defaults.
    """
    fields = {
        found.name: found
        for found in _fields(kind, values or {})
        if found.name not in UNUSED.get(kind, ())
    }
    for name, found in fields.items():
        if found.only_with is not None and found.only_with.partition("=")[0] not in fields:
            fields[name] = replace(found, only_with=None)
    groups = []
    for title, names in GROUPS.items():
        if names[0] not in fields:
            continue
        chosen = [fields.pop(name) for name in names if name in fields]
        about = DESCRIPTIONS.get(f"{kind}: {title}", DESCRIPTIONS.get(title, ""))
        groups.append(FormGroup(title, about, chosen))
    rest = REST_OF.get(kind, ADVANCED)
    groups.append(FormGroup(rest, DESCRIPTIONS.get(rest, ""), list(fields.values())))
    return groups


def objective_values(given: Mapping[str, str]) -> dict[str, Any]:
    """The objective and coefficients among the parameters of an address.

    Raises:
        InvalidInputError: one of them is out of bounds.
    """
    named = {name: given[name] for name in ObjectiveConfig.model_fields if name in given}
    try:
        return ObjectiveConfig.model_validate(named).model_dump(include=set(named))
    except ValidationError as error:
        raise InvalidInputError(
            "The address names an impossible objective.", field_errors(error)
        ) from None


def _fields(kind: str, values: Mapping[str, Any]) -> Iterator[FormField]:
    schema = CONFIGS[kind].model_json_schema()
    for name, spec in schema["properties"].items():
        if name not in NESTED:
            yield _field(name, spec, values)
            continue
        inner = values.get(name)
        if name in SWITCHED:
            yield FormField(name, SWITCHED[name], "checkbox", _help(spec), bool(inner))
        nested = schema["$defs"][_reference(spec)]
        for part, part_spec in nested["properties"].items():
            dotted = {f"{name}.{part}": value for part, value in (inner or {}).items()}
            yield _field(f"{name}.{part}", part_spec, dotted)


def _reference(spec: Mapping[str, Any]) -> str:
    """The name of a nested schema, which may be in an anyOf with null."""
    found = next(one for one in [spec, *spec.get("anyOf", [])] if "$ref" in one)
    return str(found["$ref"]).rsplit("/", 1)[-1]


def _field(name: str, spec: Mapping[str, Any], values: Mapping[str, Any]) -> FormField:
    alternatives = spec.get("anyOf", [spec])
    core = next(one for one in alternatives if one.get("type") != "null")
    optional = any(one.get("type") == "null" for one in alternatives)
    return FormField(
        name=name,
        label=LABELS.get(name, name.rsplit(".", 1)[-1].replace("_", " ").capitalize()),
        type=_type(name, core),
        help=HELPS.get(name, _help(spec)),
        value=values.get(name, spec.get("default")),
        optional=optional or _type(name, core) in OPTIONAL_TYPES,
        minimum=core.get("minimum"),
        maximum=core.get("maximum"),
        above=core.get("exclusiveMinimum"),
        choices=list(core.get("enum", core.get("items", {}).get("enum", []))),
        only_with=VISIBLE_WITH.get(name),
    )


def _type(name: str, core: Mapping[str, Any]) -> str:
    if name == "model":
        return "model"
    if name in TYPES:
        return TYPES[name]
    if "enum" in core:
        return "select"
    match core.get("type"):
        case "boolean":
            return "checkbox"
        case "array" if "enum" in core["items"]:
            return "choices"
        case "array":
            return "ordinals" if core["items"].get("type") == "integer" else "words"
        case "object":
            return "groups"
        case "integer" | "number" as kind:
            return str(kind)
    return "text"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _help(spec: Mapping[str, Any]) -> str:
    return str(spec.get("description", ""))
