"""What trainers log, as the fields of a record."""

import math

import pytest
import torch

from chesboard.client.metrics import Metrics
from chesboard.client.trainer_config import averages_logprobs
from chesboard.record_json import MAX_EXTRA, MAX_KEY
from chesboard.records import METRICS, MetricRecord

TRL = {
    "loss": 0.6, "grad_norm": 2.0, "learning_rate": 1e-6, "rewards/chosen": -0.2,
    "rewards/rejected": -0.5, "rewards/margins": 0.3, "rewards/accuracies": 0.75,
    "logps/chosen": -40.0, "logps/rejected": -60.0, "num_tokens": 100.0, "epoch": 0.5,
}  # fmt: skip


def test_the_names_of_trl() -> None:
    record = Metrics(beta=0.1).record(3, TRL)
    assert record is not None
    assert (record.step, record.loss, record.grad_norm) == (3, 0.6, 2.0)
    assert math.isclose(record.margin or 0, 3.0)  # a reward is beta times a change
    assert math.isclose(record.preferred_change or 0, -2.0)
    assert math.isclose(record.dispreferred_change or 0, -5.0)
    assert (record.preferred_logprob, record.dispreferred_logprob) == (-40.0, -60.0)
    assert (record.accuracy, record.tokens_seen) == (0.75, 100)
    assert record.extra is not None
    assert record.extra["epoch"] == 0.5


def test_rewards_that_are_no_changes_are_kept_by_their_name() -> None:
    record = Metrics(beta=None).record(1, TRL)
    assert record is not None
    assert record.margin is None
    assert record.extra is not None
    assert record.extra["rewards/margins"] == 0.3


def test_means_over_tokens_are_no_log_probabilities_of_responses() -> None:
    record = Metrics(beta=0.1, averages=True).record(1, TRL)
    assert record is not None
    assert (record.preferred_logprob, record.dispreferred_logprob) == (None, None)
    assert record.extra is not None
    assert (record.extra["logps/chosen"], record.extra["logps/rejected"]) == (-40.0, -60.0)
    assert math.isclose(record.margin or 0, 3.0)


@pytest.mark.parametrize(
    ("config", "averages"),
    [
        ({"trainer": "trl DPOConfig", "objective": "dpo"}, False),
        ({"trainer": "trl CPOConfig", "objective": "slic"}, False),
        ({"trainer": "trl CPOConfig", "objective": "simpo"}, True),
        ({"trainer": "swift RLHFArguments", "objective": "ipo"}, True),
        ({"trainer": "trl ORPOConfig"}, True),
        ({}, False),
    ],
)
def test_which_trainers_log_means_over_tokens(config: dict[str, str], averages: bool) -> None:
    assert averages_logprobs(config) == averages


def test_what_is_logged_of_a_step_later_is_added() -> None:
    metrics = Metrics()
    metrics.record(2, {"loss": 0.5, "epoch": 1})
    record = metrics.record(2, {"eval_loss": 0.7})
    assert record == MetricRecord(
        2, **dict.fromkeys(METRICS) | {"loss": 0.5}, extra={"epoch": 1.0, "eval_loss": 0.7}
    )


def test_what_is_no_number_is_left_out() -> None:
    logged = {"loss": torch.tensor(0.5), "note": "fine", "is_best": True, "none": None, "a": [1]}
    record = Metrics().record(1, logged)
    assert record is not None
    assert (record.loss, record.extra) == (0.5, None)
    assert Metrics().record(1, {"note": "fine"}) is None


def test_a_number_that_is_not_finite_stays_one() -> None:
    record = Metrics().record(1, {"loss": float("nan")})
    assert record is not None
    assert math.isnan(record.loss or 0)


def test_there_is_an_end_to_names() -> None:
    record = Metrics().record(1, {f"metric {n}": n for n in range(1000)})
    assert record is not None
    assert record.extra is not None
    assert len(record.extra) == MAX_EXTRA


def test_a_name_that_no_server_takes_is_cut() -> None:
    record = Metrics().record(1, {"n" * 300: 1.0})
    assert record is not None
    assert record.extra == {"n" * MAX_KEY: 1.0}
