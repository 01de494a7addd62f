"""The kinds of runs, each with its configuration."""

from chesboard.configs.answers import GenerateConfig, JudgeConfig
from chesboard.configs.base import ModelConfig
from chesboard.configs.external import ExternalConfig
from chesboard.configs.measuring import (
    CheckConfig,
    EvaluateConfig,
    PreflightConfig,
    ScoreConfig,
)
from chesboard.configs.training import TrainConfig

RunConfig = ModelConfig | JudgeConfig | ExternalConfig

CONFIGS: dict[str, type[RunConfig]] = {
    "score": ScoreConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "check": CheckConfig,
    "preflight": PreflightConfig,
    "generate": GenerateConfig,
    "judge": JudgeConfig,
    "external": ExternalConfig,
}
