"""What each kind of study asks for, and how it sums up: functions of numbers."""

import math
from decimal import Decimal
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import ConflictError
from app.studies.figures import figures
from app.studies.kinds.arms import ARMS, PLAIN
from app.studies.kinds.bench_result import (
    COLUMNS,
    CRITERIA,
    mark_differences,
    numbers_of,
    sentences,
)
from app.studies.kinds.chosen import spaced
from app.studies.kinds.remedy_bench import RemedyBenchPlan, bench_runs
from app.studies.kinds.similarity import SimilarityPlan, window, window_runs
from app.studies.kinds.similarity_result import rank_cells
from app.studies.kinds.single_pair import SinglePairPlan, WordCell, single_pair_runs
from app.studies.kinds.single_pair_result import gainers_table, token_kind
from app.studies.kinds.single_pair_result import sentences as lost_most
from app.studies.measured import Ends, Gainers, log_sum
from app.studies.plans import MadeRun, Place
from app.studies.results import Cell, Result, Spread, Table, curve, differs
from chesboard.configs import CONFIGS, TrainConfig
from chesboard.configs.objective import OBJECTIVES, notices
from chesboard.measures.registry import MeasureName
from chesboard.probing.destinations import token_roles

# --- spread -----------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_a_spread_is_the_mean_and_the_deviation_of_the_sample(values: list[float]) -> None:
    spread = Spread.of([*values, None, math.nan])
    assert spread is not None
    assert spread.mean == pytest.approx(fmean(values))
    assert spread.sd == (pytest.approx(stdev(values)) if len(values) > 1 else None)
    assert (spread.n, spread.low, spread.high) == (len(values), min(values), max(values))


def test_without_a_finite_value_there_is_no_spread() -> None:
    assert Spread.of([None, math.inf]) is None


def test_arms_differ_beyond_two_pooled_deviations() -> None:
    one = Spread.of([0.0, 2.0])  # standard deviation sqrt(2)
    assert not differs(one, Spread.of([2.8, 4.8]))
    assert differs(one, Spread.of([2.9, 4.9]))
    assert not differs(one, Spread.of([100.0]))  # of one run no spread is known
    assert not differs(Spread.of([0.0, 0.0]), Spread.of([1e-5, 1e-5]))


def test_a_curve_is_the_mean_over_the_runs_that_have_the_step() -> None:
    found = curve("a", "preferred", [[(0, 0.0), (5, -2.0)], [(0, 0.0), (5, -4.0), (9, math.nan)]])
    assert (found.steps, found.mean) == ([0, 5, 9], [0.0, -3.0, None])
    assert (found.low[1], found.high[1]) == (-4.0, -2.0)


# --- single pairs -----------------------------------------------------------------------------


def single(**fields: object) -> SinglePairPlan:
    cells = [
        WordCell(preferred="No", dispreferred="Never", pairs=[5, 6, 7]),
        WordCell(preferred="Yes", dispreferred="Sure", pairs=[8]),
    ]
    return SinglePairPlan.model_validate(
        {"dataset_id": 1, "cells": [cell.model_dump() for cell in cells], **fields}
    )


def test_each_seed_of_a_cell_takes_another_prompt() -> None:
    wanted = single_pair_runs(single(seeds=[3, 4], objectives=["dpo", "ipo"]), [])
    trained = [(run.place.cell, run.place.seed, run.config["selection"]) for run in wanted.runs]
    assert trained == [
        ("dpo: “No” over “Never”", 3, {"pairs": [5]}),
        ("ipo: “No” over “Never”", 3, {"pairs": [5]}),
        ("dpo: “Yes” over “Sure”", 3, {"pairs": [8]}),
        ("ipo: “Yes” over “Sure”", 3, {"pairs": [8]}),
        ("dpo: “No” over “Never”", 4, {"pairs": [6]}),
        ("ipo: “No” over “Never”", 4, {"pairs": [6]}),
    ]
    assert wanted.total == 6
    assert "“Yes” over “Sure”: 1 prompts" in wanted.messages[0]


def test_runs_are_those_of_the_paper_unless_the_plan_says_otherwise() -> None:
    run = single_pair_runs(single(config={"learning_rate": 5e-7}), []).runs[0]
    config = CONFIGS["train"].model_validate(dict(run.config)).model_dump()
    expected = {"optimizer": "rmsprop", "learning_rate": 5e-7, "beta": 0.1, "epochs": 100}
    assert {name: config[name] for name in expected} == expected
    assert (config["probe_every"], config["save_model"]) == (1, False)


def test_a_fine_tuning_comes_first_and_all_runs_start_from_it() -> None:
    plan = single(fine_tune={"pairs": [1, 2]})
    before = single_pair_runs(plan, [])
    assert [run.place.role for run in before.runs] == ["fine_tune"]
    assert (before.is_all, before.total) == (False, 5)
    done = MadeRun(17, Place("", 0, "fine_tune"), "succeeded")
    after = single_pair_runs(plan, [done])
    assert after.is_all
    assert {run.config["model"] for run in after.runs[1:]} == {"run:17"}


def test_settings_that_the_study_sets_itself_are_refused() -> None:
    with pytest.raises(ValueError, match="selection is set by the study"):
        single(config={"selection": {}})
    with pytest.raises(ValueError, match="no_such"):
        single(config={"no_such": 1})


ROLES = token_roles(
    "No",
    "Never",
    "the",
    {"affirmative": ["Yes", "Sure"], "negative": ["No", "Never"]},
    [("affirmative", "negative")],
)


def test_a_gaining_token_is_catastrophic_where_its_group_is_the_opposite() -> None:
    assert token_kind(ROLES, "Sure") == "catastrophic"
    assert token_kind(ROLES, " no") == "benign"
    assert token_kind(ROLES, "the") == "benign"
    undeclared = token_roles("No", "Never", "the", {}, [])
    assert token_kind(undeclared, "Sure") == "unknown"
    assert token_kind(undeclared, "no") == "benign"


def test_gainers_are_counted_over_runs_with_their_mean_gain() -> None:
    found = [
        Gainers(1, 5, [("Yes", 0.4), ("no", 0.1)], ROLES),
        Gainers(2, 5, [("Yes", 0.2), ("the", -0.1)], ROLES),
    ]
    table = gainers_table(found, {n: Place("a cell", n, "train") for n in (1, 2)})
    (row,) = table.cells
    assert row.texts == {"step": "5", "catastrophic": "“Yes” ×2 (+0.3)", "benign": "“no” ×1 (+0.1)"}
    assert [(run.run_id, run.seed) for run in row.runs] == [(1, 1), (2, 2)]


def test_the_cell_that_lost_most_is_told_and_that_none_did() -> None:
    def cells(*sizes: float) -> list[Cell]:
        return [
            Cell(key=str(n), label=f"cell {n}", numbers={"drawdown": Spread.of([size])})
            for n, size in enumerate(sizes)
        ]

    assert lost_most(cells(0.1, 0.4), 2) == [
        "The preferred token lost most for cell 1: 0.400 on average over 1 run.",
        "2 runs are left out, since the loss rose at some step.",
    ]
    assert lost_most(cells(0.0, 0.0), 0) == ["The preferred token's probability never fell."]


# --- similarity -------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 100))
def test_a_window_lies_round_its_percentile(count: int, size: int, percentile: int) -> None:
    values = [(100 + n, float(n)) for n in range(count)]
    pairs = window(values, size, percentile)
    assert len(pairs) == min(size, count)
    places = [pair - 100 for pair in pairs]
    assert places == list(range(places[0], places[0] + len(places)))
    center = percentile / 100 * (count - 1)
    # As near as it gets: shifting it to either side moves its middle away or over the end.
    middle = fmean(places)
    ideal = min(max(center, (len(places) - 1) / 2), count - 1 - (len(places) - 1) / 2)
    assert abs(middle - ideal) <= 1


def test_each_window_is_trained_with_each_seed_on_its_pairs_alone() -> None:
    plan = SimilarityPlan.model_validate(
        {
            "dataset_id": 1,
            "measures": ["ches"],
            "percentiles": [100, 0],
            "window": 2,
            "seeds": [0, 9],
        }
    )
    runs = window_runs(plan, {"ches": [(7, -3.0), (2, -1.0), (4, 0.5)]})
    trained = [(*run.place, run.config["selection"]["pairs"]) for run in runs]
    assert trained == [
        ("ches @ 0", 0, "train", [2, 7]),
        ("ches @ 100", 0, "train", [2, 4]),
        ("ches @ 0", 9, "train", [2, 7]),
        ("ches @ 100", 9, "train", [2, 4]),
    ]
    with pytest.raises(ConflictError, match="Only 1 pairs have a finite value of ches"):
        window_runs(plan, {"ches": [(7, 1.0)]})


def test_a_measure_is_ranked_against_the_change_of_its_own_windows_pairs() -> None:
    runs = [
        MadeRun(1, Place("ches @ 0", 0, "train"), "succeeded"),
        MadeRun(2, Place("ches @ 100", 0, "train"), "succeeded"),
        MadeRun(3, Place("head_shift @ 0", 0, "train"), "succeeded"),
    ]
    changes = {1: {0: -1.0, 1: -2.0}, 2: {2: -3.0, 3: -4.0}, 3: {0: -9.0}}
    values: dict[MeasureName, dict[int, float]] = {
        "ches": {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0},
        "head_shift": {0: 1.0},
    }
    cells: dict[str, tuple[MeasureName, int]] = {
        "ches @ 0": ("ches", 0),
        "ches @ 100": ("ches", 100),
        "head_shift @ 0": ("head_shift", 0),
    }
    ches, shift = rank_cells(runs, changes, values, cells)
    assert ches.numbers["spearman"] is not None
    assert ches.numbers["spearman"].mean == pytest.approx(-1)
    assert ches.texts == {"expected": "−", "pairs": "4"}
    assert shift.numbers["spearman"] is None


# --- remedies ---------------------------------------------------------------------------------


def bench(**fields: object) -> RemedyBenchPlan:
    pairs = {"pairs": [0, 1, 2, 3], "watched": [0, 2], "held_out": [9]}
    return RemedyBenchPlan.model_validate(
        {"dataset_id": 1, "reward_model": "judge", **pairs, **fields}
    )


def test_every_remedy_is_an_arm() -> None:
    remedies = {
        *("dpo", "dpo_sft", "dpop", "dpo_shift", "bdpo", "cal_dpo", "apo_zero", "odpo", "fdpo"),
        *("calibrated", "extend_sft", "soft_weights"),
        *(f"{kind}_{share}" for kind in ("keep", "random") for share in (5, 15, 50, 95)),
    }
    assert remedies < set(ARMS)


def test_filtered_dpo_has_the_plans_reward_model() -> None:
    plan = bench(
        arms=["fdpo"],
        reward_label="good",
        arm_settings={"fdpo": {"refresh_filter": {"answer_tokens": 4}}},
    )
    plain, filtered = (run.config for run in bench_runs(plan, None, None)[:2])
    assert "refresh_filter" not in plain
    expected = {"reward_model": "judge", "label": "good", "answer_tokens": 4}
    assert filtered["refresh_filter"] == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reward_model": None}, "the arm fdpo needs a reward model"),
        (
            {"arm_settings": {"fdpo": {"refresh_filter": {"reward_model": "other"}}}},
            "refresh_filter.reward_model is set by the plan's reward_model",
        ),
        ({"arm_settings": {"fdpo": {"refresh_filter": 3}}}, "an object of settings"),
        ({"arm_settings": {"fdpo": {"refresh_filter": {"answer_tokens": 0}}}}, "answer_tokens"),
        ({"config": {"refresh_filter": {"reward_model": "x"}}}, "is set by the study"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bench(arms=["fdpo"], **fields)


def test_without_the_arm_no_reward_model_is_needed() -> None:
    assert bench(arms=["ipo"], reward_model=None).reward_model is None


def test_arms_share_pairs_watched_pairs_seeds_and_steps() -> None:
    runs = bench_runs(bench(arms=list(ARMS), seeds=[0, 1]), 33, 0.02)
    assert len(runs) == 2 * len(ARMS)
    configs = [TrainConfig.model_validate(dict(run.config)) for run in runs]
    for name in ("max_steps", "batch_size", "learning_rate", "optimizer"):
        assert len({getattr(config, name) for config in configs}) == 1
    assert all(config.probes.pairs == [0, 2, 9] for config in configs)
    assert all(config.selection.pairs == [0, 1, 2, 3] for config in configs)
    by_arm = {run.place.cell: run.config for run in runs}
    assert by_arm["dpo_sft"]["sft_coef"] == 0.02
    rule = by_arm["keep_5"]["selection"]["measures"][0]
    assert rule == {"score_run": 33, "measure": "ln_ches", "keep": "lowest", "fraction": 0.05}
    assert by_arm["random_5"]["selection"]["random"] == {"fraction": 0.05, "seed": 1}
    weights = by_arm["soft_weights"]["pair_weights"]
    assert weights == {"score_run": 33, "measure": "ln_ches"}
    assert {by_arm[name]["objective"] for name in by_arm} >= set(OBJECTIVES) - {
        "slic",
        "cross_entropy",
    }


@pytest.mark.parametrize("name", [name for name in ARMS if name != PLAIN])
def test_each_arm_is_a_valid_remedy_that_differs_from_plain_dpo(name: str) -> None:
    plain, arm = (
        TrainConfig.model_validate(dict(run.config))
        for run in bench_runs(bench(arms=[name], seeds=[0]), 33, 0.02)
    )
    assert arm != plain
    assert notices(arm) == []


def test_arms_that_need_no_scores_do_not_wait_for_them() -> None:
    cells = {run.place.cell for run in bench_runs(bench(arms=list(ARMS)), None, None)}
    assert cells == {name for name, arm in ARMS.items() if not arm.needs_scores}


def test_plain_dpo_is_always_among_the_arms_and_unknown_ones_are_refused() -> None:
    assert bench(arms=["ipo"]).arms == [PLAIN, "ipo"]
    with pytest.raises(ValueError, match="there is no arm 'dop'"):
        bench(arms=["dop"])


def test_an_arm_can_have_settings_of_its_own() -> None:
    plan = bench(arms=["dpop", "dpo_sft"], arm_settings={"dpo_sft": {"sft_coef": 0.5}})
    by_arm = {run.place.cell: run.config for run in bench_runs(plan, 1, 0.01)}
    assert by_arm["dpo_sft"]["sft_coef"] == 0.5


@given(st.lists(st.integers(0, 999), unique=True, min_size=1), st.integers(1, 20))
def test_watched_pairs_are_spread_over_the_trained_ones(pairs: list[int], count: int) -> None:
    found = spaced(pairs, count)
    assert len(found) == len(set(found)) == min(count, len(pairs))
    assert found[0] == pairs[0]
    assert set(found) <= set(pairs)


def test_an_arm_is_judged_by_the_watched_pairs_alone() -> None:
    found = [
        Ends(0, (-10.0, -12.0), (-11.0, -15.0), 0.5, 0.25),  # displaced, ranked right
        Ends(2, (-10.0, -5.0), (-9.0, -6.0), None, 0.75),  # not displaced, ranked wrong
        Ends(9, (-10.0, -10.0), (-30.0, -12.0), 9.0, 9.0),  # held out
    ]
    answers = {0: "I cannot help with that.", 2: "No.", 9: "I cannot."}
    numbers = numbers_of(found, {0, 2}, ["catastrophic", "kept"], answers)
    joint = [
        math.log(math.exp(-11) + math.exp(-15)) - math.log(math.exp(-10) + math.exp(-12)),
        math.log(math.exp(-9) + math.exp(-6)) - math.log(math.exp(-10) + math.exp(-5)),
    ]
    assert numbers.pop("joint") == pytest.approx(fmean(joint))
    assert numbers == {
        "preferred": 0.0,
        "dispreferred": -2.0,
        "others": -11.0,  # of both responses
        "margin": 2.0,
        "displaced": 0.5,
        "catastrophic": 0.5,
        "accuracy": 1.0,
        "ranking": 0.5,
        "argmax": 0.5,
        "kl": 0.5,
        "refused": 0.5,
    }
    assert set(numbers) < {column.key for column in COLUMNS}


@given(st.floats(-1e4, 0), st.floats(-1e4, 0))
def test_the_likelihood_of_one_of_two_responses(one: float, other: float) -> None:
    exact = float((Decimal(one).exp() + Decimal(other).exp()).ln())
    assert log_sum(one, other) == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_an_impossible_response_adds_no_likelihood() -> None:
    assert log_sum(-3.0, -math.inf) == -3.0
    assert log_sum(-math.inf, -math.inf) == -math.inf


def arms_of(**values: list[float]) -> list[Cell]:
    return [
        Cell(key=name, label=name, numbers={"preferred": Spread.of(found)})
        for name, found in values.items()
    ]


def told(cells: list[Cell]) -> list[str]:
    mark_differences(cells, CRITERIA["preferred"])
    return sentences(cells, CRITERIA["preferred"])


def test_the_honest_sentence() -> None:
    alike = arms_of(dpo=[-3.0, -1.0], ipo=[-2.5, -0.5])
    assert told(alike) == [
        "Best by the change of log p(y+): ipo (−1.5).",
        "No arm differs from plain dpo beyond the spread of the seeds.",
    ]
    better = arms_of(dpo=[-3.0, -2.9], ipo=[-1.0, -1.1], dpop=[-9.0, -9.1])
    assert told(better)[1] == "Better than plain dpo beyond the spread of the seeds: ipo."
    assert [cell.texts.get("differs") for cell in better] == [None, "better", "worse"]
    worse = arms_of(dpo=[-3.0, -2.9], ipo=[-8.0, -8.1])
    assert told(worse)[1] == "No arm is better than plain dpo beyond the spread of the seeds."
    single = arms_of(dpo=[-3.0], ipo=[-1.0])
    assert told(single)[1].startswith("With a single seed there is no spread")


def test_the_curves_of_all_arms_share_their_axis() -> None:
    curves = [
        curve(arm, "preferred", [[(0, 0.0), (1, value)]])
        for arm, value in (("a", -1.0), ("b", -5.0))
    ]
    result = Result(sentences=[], tables=[Table(title="", columns=[], cells=[])], curves=curves)
    drawn = figures("remedy_bench", result)
    assert [panel.title for panel in drawn] == ["a", "b"]
    assert drawn[0].y_range == drawn[1].y_range
    assert drawn[0].y_range is not None
    assert drawn[0].y_range[0] < -5 < 0 < drawn[0].y_range[1]
