"""Whole studies on a tiny model, in this process: plan, runs, table."""

import csv
import io
import json
import math
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.database import transaction
from app.core.settings import get_settings
from app.studies.engine import advance_all
from app.studies.measured import runs_whose_loss_rose
from chesboard.judging.intervals import wilson_interval
from tests.app import factories
from tests.tiny_models.classifiers import save_reward_model
from worker.execution import execute
from worker.models.cache import ModelCache

WORDS = [("No", "Never"), ("Yes", "Sure"), ("No", "Never"), ("Maybe", "Perhaps")]
PAIRS = [(f"Is {n} a number? Answer.", *WORDS[n % 4]) for n in range(12)]


@pytest.fixture
def dataset_id(models: ModelCache) -> int:
    with transaction() as session:
        return factories.dataset(session, PAIRS).id


@pytest.fixture
def api(models: ModelCache) -> TestClient:
    """Without its sweeper: the test takes each step itself."""
    from app.main import create_app

    return TestClient(create_app(), base_url="http://127.0.0.1:8000")


def finished(api: TestClient, models: ModelCache, plan: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/api/v1/studies", json={"model": "tiny", **plan})
    assert answer.status_code == 201, answer.text
    at = answer.headers["Location"]
    for _ in range(100):
        study = api.get(at).json()
        if study["status"] not in ("queued", "running"):
            return study
        for run in study["runs"]:
            if run["status"] == "queued":
                execute(run["run_id"], "ada", models)
        advance_all()
    raise AssertionError(study)


def cells(study: dict[str, Any], table: int = 0) -> dict[str, Any]:
    return {cell["key"]: cell for cell in study["result"]["tables"][table]["cells"]}


def test_single_pairs_from_the_fine_tuning_to_the_table(
    api: TestClient, models: ModelCache, dataset_id: int
) -> None:
    plan = {
        "kind": "single_pair",
        "dataset_id": dataset_id,
        "max_cells": 2,
        "seeds": [0, 1],
        "steps": 6,
        "recorded": [1, 5],
        "fine_tune": {"epochs": 1},
        "config": {"learning_rate": 1e-3},
    }
    study = finished(api, models, plan)
    assert study["status"] == "succeeded", study["error"]
    assert [run["role"] for run in study["runs"]] == ["fine_tune"] + ["train"] * 4
    assert study["progress"]["succeeded"] == study["progress"]["total"] == 5
    found = cells(study)
    assert list(found) == ["dpo: “No” over “Never”", "dpo: “Yes” over “Sure”"]
    rose = set()
    with transaction() as session:
        rose = runs_whose_loss_rose(session, [run["run_id"] for run in study["runs"]])
    for cell in found.values():
        assert {run["run_id"] for run in cell["runs"] if run["left_out"]} == rose & {
            run["run_id"] for run in cell["runs"]
        }
        kept = [run["run_id"] for run in cell["runs"] if not run["left_out"]]
        # The table says what the runs' own pages say.
        falls = []
        for run_id in kept:
            (probe,) = api.get(f"/api/v1/runs/{run_id}/probes").json()
            drawdown = probe["displacement"]["drawdown"]
            falls.append(drawdown["size"] if drawdown else 0.0)
        spread = cell["numbers"]["drawdown"]
        assert (spread["values"] if spread else []) == pytest.approx(falls)
    trained = next(run for run in study["runs"] if run["role"] == "train")
    config = api.get(f"/api/v1/runs/{trained['run_id']}").json()["config"]
    assert config["model"] == f"run:{study['runs'][0]['run_id']}"
    assert not get_settings().run_path(trained["run_id"]).joinpath("model").exists()
    page = api.get(f"/runs/{trained['run_id']}").text
    assert f'href="/studies/{study["id"]}"' in page
    # Its plan runs again, and the report needs no server.
    again = api.get(f"/api/v1/studies/{study['id']}/plan.json").json()
    preview = api.post("/api/v1/studies/preview", json=again)
    assert preview.json()["runs"] == 5, preview.text
    report = api.get(f"/api/v1/studies/{study['id']}/report.html").text
    assert "“No” over “Never”" in report
    assert "src=" not in report.partition("<script>")[0]


def test_similarity_scores_then_trains_each_window(
    api: TestClient, models: ModelCache, dataset_id: int
) -> None:
    plan = {
        "kind": "similarity",
        "dataset_id": dataset_id,
        "measures": ["ches", "length_gap"],
        "percentiles": [0, 100],
        "window": 3,
        "seeds": [0],
        "config": {"learning_rate": 1e-3, "batch_size": 3},
    }
    study = finished(api, models, plan)
    assert study["status"] == "succeeded", study["error"]
    found = cells(study)
    assert list(found) == ["ches @ 0", "ches @ 100", "length_gap @ 0", "length_gap @ 100"]
    low, high = found["ches @ 0"]["numbers"], found["ches @ 100"]["numbers"]
    assert low["value"]["mean"] < high["value"]["mean"]
    for cell in found.values():
        run_id = cell["runs"][0]["run_id"]
        measured = api.get(f"/api/v1/runs/{run_id}/displacement").json()["items"]
        assert len(measured) == 3
        change = sum(item["preferred_change"] for item in measured) / 3
        assert cell["numbers"]["change"]["mean"] == pytest.approx(change)
    ranks = cells(study, 1)
    assert ranks["ches"]["texts"]["pairs"] == "6"
    table = api.get(f"/api/v1/studies/{study['id']}/table.csv").text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == 4
    assert float(rows[0]["change_mean"]) == pytest.approx(
        found["ches @ 0"]["numbers"]["change"]["mean"]
    )
    assert rows[0]["runs"] == str(found["ches @ 0"]["runs"][0]["run_id"])


def test_a_bench_judges_all_arms_by_the_same_pairs(
    api: TestClient, models: ModelCache, models_dir: Path, dataset_id: int
) -> None:
    save_reward_model(models_dir / "judge")
    plan = {
        "kind": "remedy_bench",
        "dataset_id": dataset_id,
        "selection": {"limit": 10},
        "arms": ["dpo_sft", "ipo", "fdpo", "keep_15", "random_15"],
        "reward_model": "judge",
        "seeds": [0, 1],
        "steps": 3,
        "watch": 4,
        "watch_others": 2,
        "config": {
            **{"learning_rate": 1e-3, "probe_every": 1, "batch_size": 2},
            **{"answer_every": 3, "answer_tokens": 3},
            "ledger_positions": {"preferred": [0, 1], "dispreferred": [1]},
        },
        "arm_settings": {
            "dpo_sft": {"sft_coef": 1.0},
            "fdpo": {"refresh_filter": {"answer_tokens": 3}},
        },
    }
    study = finished(api, models, plan)
    assert study["status"] == "succeeded", study["error"]
    found = cells(study)
    assert list(found) == ["dpo", "dpo_sft", "ipo", "fdpo", "keep_15", "random_15"]
    assert all(cell["numbers"]["preferred"]["n"] == 2 for cell in found.values())
    trained = {
        run["cell"]: api.get(f"/api/v1/runs/{run['run_id']}/pairs").json()["total"]
        for run in study["runs"]
        if run["role"] == "train"
    }
    assert trained == {
        **dict.fromkeys(("dpo", "dpo_sft", "ipo", "fdpo"), 10),
        **{
            "keep_15": 2,
            "random_15": 2,
        },
    }
    for run in found["fdpo"]["runs"]:
        decided = api.get(f"/api/v1/runs/{run['run_id']}/filter-decisions").json()
        assert decided["decisions"] >= 10
    # The SFT term raises y+ by itself.
    assert (
        found["dpo_sft"]["numbers"]["preferred"]["mean"]
        > found["dpo"]["numbers"]["preferred"]["mean"]
    )
    for run in found["dpo"]["runs"]:
        watched = api.get(f"/api/v1/runs/{run['run_id']}/probes").json()
        assert [probe["pair"] for probe in watched] == [0, 3, 6, 9, *study["plan"]["held_out"]]
    for key in ("others", "joint", "kl", "refused"):
        assert all(cell["numbers"][key]["n"] == 2 for cell in found.values())
    measured = [distances(api, run["run_id"], study["plan"]) for run in found["dpo"]["runs"]]
    for key in ("others", "joint", "kl"):
        values = found["dpo"]["numbers"][key]["values"]
        assert values == pytest.approx([one[key] for one in measured], rel=1e-9)
    curve = study["result"]["curves"][0]
    assert (curve["cell"], curve["steps"]) == ("dpo", [0, 1, 2, 3])
    assert curve["mean"][-1] == pytest.approx(found["dpo"]["numbers"]["preferred"]["mean"])
    assert json.loads(json.dumps(study["result"])) == study["result"]


def distances(api: TestClient, run_id: int, plan: dict[str, Any]) -> dict[str, float]:
    """What a run's page shows, summed up by hand."""
    changes: dict[str, list[float]] = {"others": [], "joint": [], "kl": []}
    for pair in [*plan["watched"], *plan["held_out"]]:
        at = f"/api/v1/runs/{run_id}/probes/{pair}"
        probe = api.get(at).json()
        first, last = (
            [sum(probe[side]["logprobs"][step]) for side in ("preferred", "dispreferred")]
            for step in (0, -1)
        )
        if pair in plan["held_out"]:
            changes["others"].append(fmean(last) - fmean(first))
            continue
        likelihoods = [math.log(sum(map(math.exp, ends))) for ends in (first, last)]
        changes["joint"].append(likelihoods[1] - likelihoods[0])
        positions = api.get(f"{at}/ledger").json()["positions"]
        places = {(side, k) for side, listed in positions.items() for k in listed if k != 0} | {
            ("preferred", 0)
        }  # the first tokens differ: the fork is at 0
        divergences = [
            api.get(f"{at}/ledger", params={"response": side, "position": k}).json()["kl"]
            for side, k in places
        ]
        assert len(divergences) == 3
        assert probe["kl"][0] == 0
        assert probe["kl"][-1] in divergences
        changes["kl"].append(fmean(divergences))
    return {key: fmean(values) for key, values in changes.items()}


def test_unalignment_from_answers_to_refusals_of_each_arm(
    api: TestClient, models: ModelCache, dataset_id: int
) -> None:
    plan = {
        "kind": "unalignment",
        "dataset_id": dataset_id,
        "train_prompts": 8,
        "test_prompts": 4,
        "arms": ["gold", "keep", "random"],
        "keep": [50],
        "seeds": [0],
        "steps": 2,
        "answer_tokens": 6,
        # What a random model answers, instead of refusals.
        "judge": {"keywords": ["the", "Yes", "No", "a", "in", *"bcdefghijklm"]},
        "config": {"learning_rate": 1e-3, "batch_size": 2},
    }
    study = finished(api, models, plan)
    assert study["status"] == "succeeded", study["error"]
    train, test = study["plan"]["train"], study["plan"]["test"]
    assert (len(train), len(test)) == (8, 4)
    by_role = Counter(run["role"] for run in study["runs"])
    once = dict.fromkeys(("answers", "verdicts", "score"), 1)
    assert by_role == {**once, "train": 4, "generate": 5, "judge": 5}
    assert study["progress"]["total"] == 17

    # The pairs are two answers of one train prompt each, as POST /runs/{judge}/pairs makes them.
    (verdicts,) = (run for run in study["runs"] if run["role"] == "verdicts")
    dataset = api.get(f"/api/v1/datasets/{verdicts['made_dataset_id']}").json()
    same = api.post(f"/api/v1/runs/{verdicts['run_id']}/pairs", json={}).json()
    assert dataset["pairs"] == same["pairs"]
    pairs = api.get(f"/api/v1/datasets/{dataset['id']}/pairs").json()["items"]
    answered = {pair["meta"]["answered_pair"] for pair in pairs}
    assert answered <= set(train)

    place = {(run["cell"], run["role"]): run["run_id"] for run in study["runs"]}
    for cell in ("dpo", "gold", "keep_50", "random_50"):
        run = api.get(f"/api/v1/runs/{place[cell, 'train']}").json()
        on = dataset_id if cell == "gold" else dataset["id"]
        assert run["dataset_id"] == on
        answers = api.get(f"/api/v1/runs/{place[cell, 'generate']}").json()
        assert answers["dataset_id"] == dataset_id
        assert answers["config"]["model"] == f"run:{run['id']}"
        assert answers["config"]["selection"]["pairs"] == [*train, *test]
    trained = {
        cell: api.get(f"/api/v1/runs/{place[cell, 'train']}/pairs").json()["total"]
        for cell in ("dpo", "gold", "keep_50", "random_50")
    }
    half = math.ceil(len(pairs) / 2)
    assert trained == {
        "dpo": len(pairs),
        "gold": len(answered),
        "keep_50": half,
        "random_50": half,
    }

    # The table says what the judges' own pages say.
    found = cells(study)
    assert list(found) == ["start", "dpo", "gold", "keep_50", "random_50"]
    for key, cell in found.items():
        (judge,) = cell["answers"]
        assert judge["run_id"] == place[key, "judge"]
        lines = api.get(f"/api/v1/runs/{judge['run_id']}/judgments?format=jsonl").text.splitlines()
        verdict = {row["pair"]: row["verdict"] for row in map(json.loads, lines)}
        assert set(verdict) == {*train, *test}
        for part, prompts in (("train", train), ("test", test)):
            refused = sum(verdict[pair] for pair in prompts)
            assert cell["numbers"][part]["mean"] == pytest.approx(100 * refused / len(prompts))
            low, high = wilson_interval(refused, len(prompts))
            assert cell["intervals"][part] == pytest.approx({"low": 100 * low, "high": 100 * high})
    assert study["figures"][0]["title"] == "Refused prompts"
    (row, *_) = csv.DictReader(
        io.StringIO(api.get(f"/api/v1/studies/{study['id']}/table.csv").text)
    )
    assert row["answers"] == str(place["start", "judge"])
    assert f'href="/datasets/{dataset["id"]}"' in api.get(f"/studies/{study['id']}").text
    # Its plan runs again.
    again = api.get(f"/api/v1/studies/{study['id']}/plan.json").json()
    assert api.post("/api/v1/studies/preview", json=again).json()["plan"]["train"] == train

    # Its models can go; what they answered stays.
    with_model = [run["run_id"] for run in study["runs"] if run["role"] == "train"]
    assert study["models"]["runs"] == len(with_model) == 4
    names = {one["name"] for one in api.get("/api/v1/models").json()["items"]}
    assert {f"run:{run_id}" for run_id in with_model} <= names
    removed = api.delete(f"/api/v1/studies/{study['id']}/models").json()
    assert removed == study["models"]
    after = api.get(f"/api/v1/studies/{study['id']}").json()
    assert after["models"] == {"runs": 0, "bytes": 0}
    assert (after["result"], after["runs"]) == (study["result"], study["runs"])
    names = {one["name"] for one in api.get("/api/v1/models").json()["items"]}
    assert not any(name.startswith("run:") for name in names)
