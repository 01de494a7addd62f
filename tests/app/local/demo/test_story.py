"""The demo fine-tunes once and trains single pairs from there, each by itself."""

import json

import pytest

from app.local.demo.story import (
    DPO_CONFIG,
    MAX_PAIRS_PER_WORD,
    PAIRS,
    QUICK_STEPS,
    WATCHED,
    tell_story,
    to_jsonl,
)
from app.samples import get_sample
from chesboard.configs import TrainConfig
from tests.app.local.demo.fake_api import URL, FakeApi
from tests.chesboard.formats.test_parsing import understand


def test_the_pairs_ask_what_the_fine_tuning_leaves_out() -> None:
    rows = [json.loads(line) for line in get_sample("yes-no-words").path.read_text().splitlines()]
    rest = [row for pair, row in enumerate(rows) if pair not in WATCHED]
    taught = set()
    for word in {row["chosen"] for row in rest}:
        of_word = [row["prompt"] for row in rest if row["chosen"] == word]
        taught.update(of_word[:MAX_PAIRS_PER_WORD])
    assert taught
    assert taught.isdisjoint(pair.prompt for pair in PAIRS)


def test_the_groups_hold_the_first_word_of_each_preferred_answer_and_of_its_opposites() -> None:
    groups = DPO_CONFIG["token_groups"]
    members = {name: set(words) for name, words in groups.items()}
    assert members["affirmative"].isdisjoint(members["negative"])
    assert DPO_CONFIG["opposite_groups"] == [["affirmative", "negative"]]
    for pair in PAIRS:
        assert any(pair.chosen.split()[0] in words for words in members.values())


def test_a_pair_that_differs_by_a_space_is_stored_with_it() -> None:
    [spaced] = [pair for pair in PAIRS if pair.rejected.startswith(" ")]
    assert spaced.rejected.strip() == spaced.chosen
    stored, intake = understand(to_jsonl(PAIRS), "demo-pairs.jsonl")
    assert intake.errors == []
    assert [(p.preferred, p.dispreferred) for p in stored] == [
        (pair.chosen, pair.rejected) for pair in PAIRS
    ]


def test_each_pair_is_trained_by_itself_from_the_fine_tuned_model() -> None:
    api = FakeApi()
    tell_story(api.client, URL, open_browser=False, quick=False)
    score, tuned, *trained = api.runs
    assert score["kind"] == "score"
    assert [run["dataset_id"] for run in api.runs] == [1, 2, *[3] * len(PAIRS)]
    for ordinal, run in enumerate(trained):
        config = TrainConfig.model_validate(run["config"])
        assert config.model == f"run:{tuned['id']}"
        assert config.selection.pairs == config.probes.pairs == [ordinal]
        assert (config.objective, config.optimizer, config.beta) == ("dpo", "rmsprop", 0.1)
        assert config.answer_every == config.epochs  # before the first step and after the last


def test_fine_tuning_is_balanced_and_leaves_the_watched_prompts_out() -> None:
    api = FakeApi()
    tell_story(api.client, URL, open_browser=False, quick=False)
    config = TrainConfig.model_validate(api.runs[1]["config"])
    assert config.selection.pairs == [*range(2, 11), 14]
    assert (config.objective, config.epochs) == ("cross_entropy", 3)


def test_it_ends_with_the_displaced_run_and_the_page_that_compares_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell_story(FakeApi().client, URL, open_browser=False, quick=False)
    told = capsys.readouterr().out
    assert f"1 of the {len(PAIRS)} pairs is displaced (run 3)." in told
    assert told.count("the model's own answer: “No” → “Yes”") == len(PAIRS)
    assert told.endswith(f"{URL}/compare?runs=3,4,5\n")


def test_a_second_demo_makes_no_new_runs() -> None:
    api = FakeApi()
    tell_story(api.client, URL, open_browser=False, quick=False)
    made = len(api.runs)
    tell_story(api.client, URL, open_browser=False, quick=False)
    assert len(api.runs) == made


def test_a_quick_demo_is_short_and_leaves_nothing_that_a_full_one_would_reuse() -> None:
    api = FakeApi()
    tell_story(api.client, URL, open_browser=False, quick=True)
    trained = [run for run in api.runs if run["kind"] == "train"]
    assert [run["config"]["max_steps"] for run in trained] == [QUICK_STEPS] * (1 + len(PAIRS))
    made = len(api.runs)
    tell_story(api.client, URL, open_browser=False, quick=False)
    assert len(api.runs) == 2 * made


def test_the_browser_opens_the_first_pair_live_and_the_comparison_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    tell_story(FakeApi().client, URL, open_browser=True, quick=False)
    assert opened == [f"{URL}/runs/3", f"{URL}/compare?runs=3,4,5"]
