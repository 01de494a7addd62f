"""The arms of a remedy bench. A new objective is one line in ARMS."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chesboard.measures.registry import MeasureName

PLAIN = "dpo"
"""The arm that the others are held against."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to train on the same pairs with the same seed and budget.

    settings: on top of those that all arms share. keep: only so large a share of the pairs, those
    with the lowest ln-CHES. random: only so large a share, drawn at random. forecast_sft:
    `sft_coef` as the forecast of the score run recommends it. weigh_by: the pairs' losses are
    weighed by this measure of the score run. refreshes: pairs are dropped before each epoch, by the
    plan's reward model.
    """

    name: str
    label: str
    help: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep: float | None = None
    random: float | None = None
    forecast_sft: bool = False
    weigh_by: MeasureName | None = None
    refreshes: bool = False

    @property
    def needs_scores(self) -> bool:
        return self.keep is not None or self.forecast_sft or self.weigh_by is not None


_ARMS = (
    Arm(PLAIN, "DPO", "Plain dpo: what the other arms are held against."),
    Arm(
        "dpo_sft",
        "DPO + SFT term",
        "With sft_coef as the forecast recommends it: at most 5 % of the pairs fall at the first "
        "step.",
        forecast_sft=True,
    ),
    Arm("dpop", "DPOP", "Penalizes a falling log p(y+).", {"objective": "dpop"}),
    Arm("ipo", "IPO", "A squared loss with a target margin.", {"objective": "ipo"}),
    Arm("simpo", "SimPO", "Length-normalized, without a reference.", {"objective": "simpo"}),
    Arm(
        "dpo_shift",
        "DPO-Shift",
        "Pushes y− down less than y+ up, by lambda.",
        {"objective": "dpo_shift"},
    ),
    Arm(
        "bdpo",
        "BDPO",
        "Pushes y− down in a mixture with the reference, which bounds it.",
        {"objective": "bdpo"},
    ),
    Arm("cal_dpo", "Cal-DPO", "Pulls both changes to fixed targets.", {"objective": "cal_dpo"}),
    Arm("apo_zero", "APO-zero", "Pushes each response by itself.", {"objective": "apo_zero"}),
    Arm(
        "odpo",
        "ODPO",
        "An offset by the pairs' scores; pairs without scores train as under dpo.",
        {"objective": "odpo", "odpo_unscored": "zero"},
    ),
    Arm(
        "fdpo",
        "Filtered DPO",
        "Before each epoch drops the pairs whose preferred response the reward model ranks no "
        "higher than the model's own answer.",
        refreshes=True,
    ),
    Arm("alphapo", "AlphaPO", "SimPO with another shape of reward.", {"objective": "alphapo"}),
    Arm(
        "calibrated",
        "DPO + reward calibration",
        "Rescales what each step pushes, by the gradients at the output head.",
        {"reward_calibration": True},
    ),
    Arm(
        "extend_sft",
        "Extended fine-tuning, then DPO",
        "An epoch of cross-entropy on both responses first, on top of the steps of dpo.",
        {"extend_sft_epochs": 1},
    ),
    Arm(
        "soft_weights",
        "DPO with soft weights",
        "Weighs each pair by 1 − ln-CHES, between 0 and 1.",
        weigh_by="ln_ches",
    ),
    Arm("keep_5", "Lowest 5 % of ln-CHES", "What the paper kept (Section 6).", keep=0.05),
    Arm("keep_15", "Lowest 15 % of ln-CHES", "The most that worked in the paper.", keep=0.15),
    Arm("keep_50", "Lowest 50 % of ln-CHES", "More than worked in the paper.", keep=0.5),
    Arm("keep_95", "Lowest 95 % of ln-CHES", "All but the most similar pairs.", keep=0.95),
    Arm("random_5", "5 % at random", "As many pairs as the lowest 5 %: a control.", random=0.05),
    Arm("random_15", "15 % at random", "As many pairs as the lowest 15 %.", random=0.15),
    Arm("random_50", "50 % at random", "As many pairs as the lowest 50 %.", random=0.5),
    Arm("random_95", "95 % at random", "As many pairs as the lowest 95 %.", random=0.95),
)
ARMS: Mapping[str, Arm] = {arm.name: arm for arm in _ARMS}
