"""The configurations of runs: fields, bounds and defaults, validated by Pydantic.

Defaults are the paper's (arXiv 2410.08847) where it has one. The descriptions are shown in the
forms and in the OpenAPI document. Log-probabilities are sums over the response in nats unless
`length_normalize` divides them by the number of response tokens.
"""

from chesboard.configs.answers import MAX_ANSWER_TOKENS, GenerateConfig, JudgeConfig, JudgeKind
from chesboard.configs.base import REVISION_PATTERN, ModelConfig
from chesboard.configs.external import ExternalConfig, ExternalProbe
from chesboard.configs.kinds import CONFIGS, RunConfig
from chesboard.configs.measuring import (
    MAX_PREFLIGHT_PAIRS,
    CheckConfig,
    EvaluateConfig,
    ForwardOnlyConfig,
    PreflightConfig,
    ScoreConfig,
)
from chesboard.configs.objective import Objective, ObjectiveConfig
from chesboard.configs.optimizer import OptimizerConfig
from chesboard.configs.probes import LedgerPositions, ProbesConfig, PromptProbe
from chesboard.configs.selection import MeasureRule, RandomSubset, Rules, Selection, Verdict
from chesboard.configs.training import LoraConfig, TrainConfig
from chesboard.configs.weighting import PairWeights, RefreshFilter

__all__ = [
    "CONFIGS",
    "MAX_ANSWER_TOKENS",
    "MAX_PREFLIGHT_PAIRS",
    "REVISION_PATTERN",
    "CheckConfig",
    "EvaluateConfig",
    "ExternalConfig",
    "ExternalProbe",
    "ForwardOnlyConfig",
    "GenerateConfig",
    "JudgeConfig",
    "JudgeKind",
    "LedgerPositions",
    "LoraConfig",
    "MeasureRule",
    "ModelConfig",
    "Objective",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PairWeights",
    "PreflightConfig",
    "ProbesConfig",
    "PromptProbe",
    "RandomSubset",
    "RefreshFilter",
    "Rules",
    "RunConfig",
    "ScoreConfig",
    "Selection",
    "TrainConfig",
    "Verdict",
]
