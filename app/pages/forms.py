"""The form of a run, made of its configuration's JSON schema: bounds, defaults and help alike.

What a configuration gains appears on the form without a change here: a field that no group
names stands among the advanced ones.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.pages import selection as selecting
from chesboard.configs import CONFIGS

NESTED = ("probes", "selection", "lora")
"""Settings that are themselves a set of settings; their fields have dotted names."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Model": ("model",),
    "Objective": (
        "objective",
        "beta",
        "slic_delta",
        "simpo_gamma",
        "dpop_lambda",
        "sft_coef",
        "length_normalize",
    ),
    "Optimizer": (
        "optimizer",
        "learning_rate",
        "scheduler",
        "warmup_steps",
        "batch_size",
        "epochs",
        "max_steps",
    ),
    "Probes": (
        "probes.strategy",
        "probes.count",
        "probes.pairs",
        "probe_every",
        "probes.prompts",
        "token_groups",
        "answer_every",
        "answer_tokens",
        "ledger_positions",
    ),
    "Pairs": (
        "selection.exclude_flagged",
        "selection.exclude_verdicts",
        "selection.only_verdicts",
        "selection.measures",
        "selection.pairs",
        "selection.complement",
        "selection.random",
        "selection.limit",
    ),
}
ADVANCED = "Advanced"

ABOUT: dict[str, str] = {
    "Objective": "What a step makes smaller. m is the margin: how much more y+ gained than y−.",
    "Optimizer": "How far a step goes. Small steps show displacement as theory describes it.",
    "Probes": "A few pairs that are looked at closely while training goes on: every token's "
    "log-probability, and the whole distribution at the fork. Besides them, prompts of your own.",
    "Pairs": "Which pairs of the dataset are trained on: those that pass every rule. No rule: all.",
}
LABELS: dict[str, str] = {
    "beta": "Beta (KL coefficient)",
    "dtype": "Precision",
    "slic_delta": "SLiC delta",
    "simpo_gamma": "SimPO gamma",
    "dpop_lambda": "DPOP lambda",
    "sft_coef": "SFT coefficient",
    "length_normalize": "Length-normalize",
    "probes.strategy": "Choose pairs",
    "probes.count": "How many",
    "probes.pairs": "Or name the pairs",
    "probes.prompts": "Prompts of your own",
    "probe_every": "Look every … steps",
    "answer_every": "Let it answer every … steps",
    "answer_tokens": "Longest answer, tokens",
    "ledger_positions": "Ledgers at",
    "measure_displacement": "Measure displacement",
    "ledger_top": "Tokens in a ledger",
    "selection.pairs": "Only these pairs",
    "selection.limit": "At most",
    "selection.exclude_flagged": "Leave out flagged pairs",
    "selection.exclude_verdicts": "Leave out by verdict",
    "selection.only_verdicts": "Only with verdict",
    "selection.measures": "By measure",
    "selection.complement": "Take what they leave out",
    "selection.random": "At random",
    "lora.rank": "LoRA rank",
    "lora.alpha": "LoRA alpha",
    "lora.dropout": "LoRA dropout",
    "lora.target_modules": "LoRA target modules",
    "max_grad_norm": "Clip gradient norm",
}
NAMED_TYPES = {
    "probes.prompts": "prompts",
    "ledger_positions": "positions",
    "selection.measures": "measures",
    "selection.random": "subset",
}
"""Settings whose control cannot be told from their schema."""
LISTS = ("ordinals", "groups", "prompts", "choices", "measures")
"""What may be left empty, whatever its schema says."""

# Shown only where another field has this value, or (*) has any.
ONLY_WITH: dict[str, str] = {
    "slic_delta": "objective=slic",
    "simpo_gamma": "objective=simpo",
    "dpop_lambda": "objective=dpop",
    "answer_tokens": "answer_every=*",
    "lora.rank": "lora=on",
    "lora.alpha": "lora=on",
    "lora.dropout": "lora=on",
    "lora.target_modules": "lora=on",
}


@dataclass(frozen=True, slots=True)
class FormField:
    """One control. `type`: model, select, checkbox, integer, number, text, ordinals, words, groups,
    prompts (rows of a prompt and words to watch), positions (at which ledgers are kept), choices
    (boxes to tick), measures (rows of rules), subset (how many at random).

    `optional`: left empty, nothing is sent and the configuration's own default holds.
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
        return self.type in ("groups", "prompts", "measures", "subset") or self.name == "objective"

    @property
    def measure_rows(self) -> list[selecting.MeasureRow]:
        return selecting.measure_rows(self.value)

    @property
    def subset(self) -> selecting.Subset:
        return selecting.subset(self.value)

    @property
    def rows(self) -> list[dict[str, str]]:
        """Of prompts: name, prompt and words of each, as they stand in text boxes."""
        return [
            {
                "name": one.get("name") or "",
                "prompt": one["prompt"]
                if isinstance(one["prompt"], str)
                else json.dumps(one["prompt"], ensure_ascii=False),
                "watch": ", ".join(one.get("watch", [])),
            }
            for one in self.value or []
        ]

    @property
    def positions(self) -> list[tuple[str, str]]:
        """Of positions: what can be chosen as (JSON, label); what is chosen comes first."""
        both = {"preferred": "all", "dispreferred": "all"}
        known = [(None, "the fork alone"), (both, "the first 32 tokens of each response")]
        if self.value not in (None, both):
            known.insert(0, (self.value, "the positions of the earlier run"))
        elif self.value == both:
            known.reverse()
        return [("" if value is None else json.dumps(value), label) for value, label in known]

    @property
    def shown(self) -> str:
        """The value as it stands in a text box."""
        match self.value:
            case None:
                return ""
            case list() if self.type == "ordinals":
                return ", ".join(selecting.ranges(self.value))
            case list():
                return ", ".join(map(str, self.value))
            case dict():
                return "\n".join(f"{name}: {', '.join(of)}" for name, of in self.value.items())
        return str(self.value)


@dataclass(frozen=True, slots=True)
class FormGroup:
    title: str
    about: str
    fields: list[FormField]


def run_form(kind: str, values: Mapping[str, Any] | None = None) -> list[FormGroup]:
    """The groups of the form for a kind of run, filled with `values` where they are given.

    values: a configuration, for example an earlier run's; what it lacks gets its default.
    """
    fields = {found.name: found for found in _fields(kind, values or {})}
    groups = []
    for title, names in GROUPS.items():
        chosen = [fields.pop(name) for name in names if name in fields]
        if chosen:
            groups.append(FormGroup(title, ABOUT.get(title, ""), chosen))
    groups.append(FormGroup(ADVANCED, "", list(fields.values())))
    return groups


def _fields(kind: str, values: Mapping[str, Any]) -> Iterator[FormField]:
    schema = CONFIGS[kind].model_json_schema()
    for name, spec in schema["properties"].items():
        if name not in NESTED:
            yield _field(name, spec, values)
            continue
        inner = values.get(name)
        if name == "lora":
            yield FormField(name, "Train adapters (LoRA)", "checkbox", _help(spec), bool(inner))
        nested = schema["$defs"][_reference(spec)]
        for part, part_spec in nested["properties"].items():
            dotted = {f"{name}.{part}": value for part, value in (inner or {}).items()}
            yield _field(f"{name}.{part}", part_spec, dotted)


def _reference(spec: Mapping[str, Any]) -> str:
    """The name of the nested schema, which may stand beside null."""
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
        help=_help(spec),
        value=values.get(name, spec.get("default")),
        optional=optional or _type(name, core) in LISTS,
        minimum=core.get("minimum"),
        maximum=core.get("maximum"),
        above=core.get("exclusiveMinimum"),
        choices=list(core.get("enum", core.get("items", {}).get("enum", []))),
        only_with=ONLY_WITH.get(name),
    )


def _type(name: str, core: Mapping[str, Any]) -> str:
    if name == "model":
        return "model"
    if name in NAMED_TYPES:
        return NAMED_TYPES[name]
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


def _help(spec: Mapping[str, Any]) -> str:
    return str(spec.get("description", ""))
