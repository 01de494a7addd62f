"""What is said of an objective's two incentives, against their definition."""

import pytest

from chesboard.configs import TrainConfig
from chesboard.configs.objective import OBJECTIVES
from chesboard.incentives import describe_incentives, push_ratio


@pytest.mark.parametrize(
    ("settings", "ratio"),
    [
        *(({"objective": name}, 1) for name in ("dpo", "ipo", "slic", "simpo", "odpo", "apo_zero")),
        ({"objective": "cal_dpo"}, 1),
        ({"objective": "alphapo"}, 1),
        ({"objective": "dpop", "dpop_lambda": 5}, 6),
        ({"objective": "dpo_shift", "dpo_shift_lambda": 0.5}, 2),
        ({"objective": "bdpo", "bdpo_lambda": 0.25}, 4),
        ({"objective": "dpo", "beta": 0.1, "sft_coef": 0.05}, 2),
    ],
)
def test_ratios_are_those_of_the_table(settings, ratio) -> None:
    """1 + 2 sft_coef / beta for dpo with the added term."""
    assert push_ratio(TrainConfig(**settings)) == pytest.approx(ratio)


def test_cross_entropy_pushes_no_response_down() -> None:
    config = TrainConfig(objective="cross_entropy")
    assert push_ratio(config) is None
    assert "not pushed at all" in describe_incentives(config)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_described(objective: str) -> None:
    said = describe_incentives(TrainConfig(objective=objective))
    assert said.endswith(".")
    assert said != describe_incentives(TrainConfig()) or objective == "dpo"


def test_the_numbers_follow_the_coefficients() -> None:
    said = describe_incentives(TrainConfig(objective="dpo_shift", dpo_shift_lambda=0.8))
    assert "1.25 times as hard" in said
    simpo = describe_incentives(TrainConfig(objective="simpo"))
    assert "of the same length" in simpo
