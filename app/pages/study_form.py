"""The form of a new study: the fields that are asked for, from the plans' schemas.

Everything else of a plan has its default, or comes from a plan file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel

from app.studies.kinds import KINDS
from app.studies.kinds.arms import ARMS
from app.studies.kinds.bench_result import CRITERIA
from app.studies.kinds.remedy_bench import DEFAULTS as BENCH_SETTINGS
from app.studies.kinds.similarity import DEFAULTS as SIMILARITY_SETTINGS
from app.studies.kinds.single_pair import DEFAULTS as SINGLE_PAIR_SETTINGS
from app.studies.kinds.unalignment_runs import ARM_LABELS
from app.studies.kinds.unalignment_runs import DEFAULTS as UNALIGNMENT_SETTINGS
from chesboard.configs import JudgeConfig, JudgeKind, Objective, Selection, TrainConfig
from chesboard.measures.registry import MEASURES


@dataclass(frozen=True, slots=True)
class Choice:
    value: str
    label: str
    help: str = ""
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class StudyField:
    """type: integer, number, text, integers or numbers (lists), ordinals, choices, select or
    switch (an object with its defaults, or none)."""

    name: str
    label: str
    type: str
    help: str
    value: Any = None
    is_optional: bool = False
    choices: list[Choice] = field(default_factory=list)

    @property
    def shown(self) -> str:
        if self.value is None:
            return ""
        if isinstance(self.value, list):
            return ", ".join(map(str, self.value))
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True, slots=True)
class StudyForm:
    kind: str
    label: str
    about: str
    fields: list[StudyField]


_SEEDS = ("seeds", "Seeds", "integers")
_PAIRS = ("selection.limit", "Pairs, at most", "integer")
_RATE = ("config.learning_rate", "Learning rate", "number")
_BATCH = ("config.batch_size", "Batch size", "integer")
_FIELDS: Mapping[str, tuple[tuple[str, str, str], ...]] = {
    "single_pair": (
        ("max_cells", "Pairs of responses", "integer"),
        _SEEDS,
        ("steps", "Steps", "integer"),
        ("objectives", "Objectives", "choices"),
        ("fine_tune", "Fine-tune first", "switch"),
        _RATE,
        ("recorded", "Steps with gainers", "integers"),
        ("pairs", "Only these pairs", "ordinals"),
    ),
    "similarity": (
        ("measures", "Measures", "choices"),
        _PAIRS,
        ("window", "Pairs in a window", "integer"),
        ("percentiles", "Percentiles", "integers"),
        _SEEDS,
        ("epochs", "Epochs", "integer"),
        _RATE,
        _BATCH,
        ("score_run", "Score run", "score_run"),
    ),
    "unalignment": (
        ("arms", "Arms", "choices"),
        ("keep", "Shares kept, %", "numbers"),
        ("train_prompts", "Train prompts, at most", "integer"),
        ("test_prompts", "Test prompts, at most", "integer"),
        ("judge.judge", "Judge", "select"),
        ("judge.classifier", "Classifier", "text"),
        ("judge.endpoint_model", "Endpoint’s model", "text"),
        ("answer_tokens", "Tokens of an answer", "integer"),
        ("steps", "Steps", "integer"),
        _SEEDS,
        _RATE,
        _BATCH,
    ),
    "remedy_bench": (
        ("arms", "Arms", "choices"),
        _PAIRS,
        ("steps", "Steps", "integer"),
        _SEEDS,
        ("criterion", "Best by", "select"),
        ("watch", "Watched pairs", "integer"),
        ("watch_others", "Watched, not trained", "integer"),
        ("reward_model", "Reward model", "text"),
        ("reward_label", "Its label", "text"),
        _RATE,
        _BATCH,
    ),
}
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "single_pair": SINGLE_PAIR_SETTINGS,
    "similarity": SIMILARITY_SETTINGS,
    "unalignment": UNALIGNMENT_SETTINGS,
    "remedy_bench": BENCH_SETTINGS,
}
OPTIONAL = ("pairs", "score_run", "reward_model", "reward_label")


def study_forms() -> list[StudyForm]:
    """One a kind, with the defaults of its plan."""
    return [
        StudyForm(
            kind.name,
            kind.label,
            kind.about,
            [_field(kind.name, kind.plan, *one) for one in _FIELDS[kind.name]],
        )
        for kind in KINDS.values()
    ]


def _field(kind: str, plan: type[BaseModel], name: str, label: str, type: str) -> StudyField:
    first, _, rest = name.partition(".")
    is_optional = first in OPTIONAL
    if first == "config":
        described = TrainConfig.model_fields[rest].description
        value = _SETTINGS[kind][rest]
    elif first == "judge":
        setting = JudgeConfig.model_fields[rest]
        described, value = setting.description, setting.default
        is_optional = value is None
    else:
        given = plan.model_fields[first]
        described, value = given.description, given.get_default(call_default_factory=True)
        if isinstance(value, Selection):
            value = getattr(value, rest)
    choices = _choices(kind, name, value)
    return StudyField(name, label, type, described or "", value, is_optional, choices)


def _choices(kind: str, name: str, value: Any) -> list[Choice]:
    match name:
        case "objectives":
            return [Choice(one, one, "", one in value) for one in get_args(Objective)]
        case "measures":
            return [Choice(one.name, one.label, one.help, one.name in value) for one in MEASURES]
        case "judge.judge":
            return [Choice(one, one, "", one == value) for one in get_args(JudgeKind)]
        case "arms" if kind == "unalignment":
            return [Choice(arm, label, "", arm in value) for arm, label in ARM_LABELS.items()]
        case "arms":
            return [
                Choice(one.name, one.label, one.help, one.name in value) for one in ARMS.values()
            ]
        case "criterion":
            return [Choice(one.key, one.words, "", one.key == value) for one in CRITERIA.values()]
    return []
