"""The forecast in a real browser: from a score run to a training run with a remedy, and back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

SAID = ["No", "Never", "Sure"]


def pairs(kind: str) -> list[dict[str, str]]:
    """Of the first half the dispreferred response says the preferred one over and over."""
    alike = [{"chosen": SAID[n % 3], "rejected": 6 * SAID[n % 3]} for n in range(6)]
    distinct = [{"chosen": "Sure, yes", "rejected": "Never"} for _ in range(6)]
    return [{"prompt": f"Is {n} {kind}?", **pair} for n, pair in enumerate(alike + distinct)]


def score(page: Any, address: str, folder: Path, kind: str) -> None:
    """Store the pairs, score them, and stay on the score run's page."""
    from playwright.sync_api import expect

    page.set_default_timeout(30_000)
    file = folder / "said.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in pairs(kind)))
    page.goto(f"{address}/datasets")
    page.locator("[data-drop-input]").set_input_files(file)
    page.get_by_role("button", name="Store this dataset").click()
    page.get_by_role("link", name="Score by CHES").click()
    page.wait_for_load_state()  # the form's script
    page.locator("[data-submit]").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120_000)


def test_a_forecast_leads_to_a_run_with_its_remedy_and_is_held_against_it(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    score(page, live_stack, tmp_path, "odd")
    score_run = page.url

    card = page.locator("[data-forecast]")
    sentence = card.locator(".verdict")
    expect(sentence).to_have_text(
        re.compile(r"^\d+ of 12 preferred responses would fall at the first step under dpo\.$")
    )
    run_id = score_run.rsplit("/", 1)[-1]
    found = page.request.get(f"{live_stack}/api/v1/runs/{run_id}/forecast").json()
    assert found["falling"] >= 1
    expect(sentence).to_have_text(re.compile(rf"^{found['falling']} of 12 "))

    sft = card.locator('[data-remedy="sft_coef"]')
    slider = sft.get_by_role("slider")
    expect(sft.locator("output")).to_have_text(
        re.compile(rf"^sft_coef {found['remedies'][0]['recommended']}: 0 of 12 would fall\.$")
    )
    slider.fill("0")
    expect(sft.locator("output")).to_have_text(f"sft_coef 0: {found['falling']} of 12 would fall.")
    card.get_by_label("Objective").select_option("ipo")
    expect(sentence).to_contain_text("under ipo")
    expect(card.locator("[data-remedy]")).to_have_count(1)
    card.get_by_label("Objective").select_option("dpo")

    dpop = card.locator('[data-remedy="dpop_lambda"]')
    dpop.get_by_role("button", name="None falls").click()
    dpop.get_by_role("link", name="Train with this").click()
    expect(page.locator("#field-objective")).to_have_value("dpop")
    expect(page.locator("#field-dpop_lambda")).to_have_value(
        str(found["remedies"][1]["prevents_all"])
    )
    page.wait_for_load_state()
    page.locator("#field-optimizer").select_option("sgd")
    page.locator("[data-submit]").click()
    expect(page.locator(".chip").first).to_have_text("succeeded", timeout=120_000)
    numbers = page.locator("[data-forecast-numbers]")
    sentence = re.compile(r"The sign was right for \d+ of 12 pairs")
    expect(numbers).to_contain_text(sentence, timeout=60_000)  # after the run's last numbers
    expect(numbers.get_by_role("row", name="Forecast", exact=False).first).to_be_visible()

    page.goto(score_run)
    expect(card).to_contain_text("How it did on earlier runs: Run")


def test_the_papers_filter_is_started_with_a_control_of_the_same_size(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    score(page, live_stack, tmp_path, "even")
    page.get_by_role("link", name="Train on the lowest 5 %").click()
    preview = page.locator("[data-selection-count]")
    expect(preview).to_have_text("1 of 12 pairs.")
    page.get_by_role("button", name="50 %").click()
    expect(preview).to_have_text("6 of 12 pairs.")
    page.locator("#run-name").fill("halved")
    page.get_by_role("button", name="Start with a random control").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("halved")
    runs = page.request.get(f"{live_stack}/api/v1/runs?kind=train").json()["items"]
    control, run = runs[0], runs[1]
    assert (control["name"], run["name"]) == ("halved: random control", "halved")
    rules = run["config"]["selection"]
    assert (rules["measures"][0]["fraction"], rules["random"]) == (0.5, None)
    assert control["config"]["selection"]["measures"] == []
    same = control["config"]["selection"]["random"]["same_size_as"]
    assert same["measures"] == rules["measures"]
