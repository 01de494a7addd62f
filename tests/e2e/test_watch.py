"""Watching a run of one's own in a browser: the lines to paste, the first record, and going on."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.app.runs.external.sending import begin, metric, probe, probe_step, send

pytestmark = pytest.mark.browser


def test_the_first_record_of_a_run_elsewhere_arrives_live(
    live_stack: str, browser_page: Any, browser_errors: list[str]
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    page.goto(f"{live_stack}/runs")
    page.get_by_role("link", name="Watch a run of your own").first.click()
    expect(page.locator("[data-environment]")).to_contain_text(f"CHESBOARD_URL={live_stack}")
    held: list[Any] = []
    page.route("**/static/pages/watch.js", lambda route: held.append(route), times=1)
    page.reload(wait_until="commit")
    page.get_by_role("button", name="axolotl").click()  # before the script of the page has come
    held[0].continue_()
    expect(page.locator("[data-trainer]:visible pre")).to_contain_text("chesboard.axolotl.Plugin")

    with httpx.Client(base_url=live_stack, timeout=60) as http:
        client: Any = http
        run_id = begin(client, name="a run elsewhere")["id"]
        status = page.locator("[data-arrival-status]")
        expect(status).to_contain_text("a run elsewhere")
        records: list[Any] = [probe()]
        for step in range(1, 9):
            records += [metric(step, loss=1 / step), probe_step(step)]
        assert send(client, run_id, records).status_code == 200
        expect(status).to_contain_text("at step 8")

        page.get_by_role("link", name="Open its page").click()
        expect(page.locator("#chart-loss")).to_contain_text("Loss")
        page.goto("about:blank")  # it would ask once more for the run that is gone
        assert http.delete(f"/api/v1/runs/{run_id}").status_code == 204
    assert browser_errors == []


POINTS = """(chart) => {
    const trace = document.querySelector(`${chart} .plot`)?.data?.[0];
    return trace ? [...trace.x].map((x, i) => [x, trace.y[i]]) : null;
}"""


def test_a_resumed_training_cuts_the_curves_and_goes_on(
    live_stack: str, browser_page: Any, browser_errors: list[str]
) -> None:
    """Each step once, with the numbers of the training that went on; beside it what else is live of
    such a run: the time left, its trainer's messages, and metrics of its own."""
    from playwright.sync_api import expect

    page = browser_page

    def shows(chart: str, points: list[list[float]]) -> None:
        page.locator(chart).scroll_into_view_if_needed()
        page.wait_for_function(
            f"([chart, points]) => JSON.stringify(({POINTS})(chart)) === JSON.stringify(points)",
            arg=[chart, points],
            timeout=10_000,
        )

    def fork_has(steps: list[int]) -> None:
        page.locator("#chart-fork").scroll_into_view_if_needed()
        page.wait_for_function(
            f"(steps) => `${{({POINTS})('#chart-fork')?.map(([x]) => x)}}` === `${{steps}}`",
            arg=steps,
            timeout=10_000,
        )

    def steps(first: int, last: int, loss: float) -> list[Any]:
        return [
            record
            for step in range(first, last + 1)
            for record in (
                metric(step, loss=loss, extra={"entropy": 2 * loss, "epoch": step / 8}),
                probe_step(step),
            )
        ]

    with httpx.Client(base_url=live_stack, timeout=60) as http:
        client: Any = http
        run_id = begin(client, name="a run that was killed")["id"]
        send(client, run_id, [probe(), probe_step(0), *steps(1, 4, 0.5)])
        page.goto(f"{live_stack}/runs/{run_id}")
        shows("#chart-loss", [[step, 0.5] for step in range(1, 5)])
        send(client, run_id, steps(5, 8, 0.5))
        shows("#chart-loss", [[step, 0.5] for step in range(1, 9)])
        expect(page.locator("[data-progress-text]")).to_have_text("8 of 20 steps")
        expect(page.locator("[data-progress-eta]")).to_contain_text("left")

        at = f"/api/v1/runs/{run_id}"
        assert http.post(f"{at}/attempts", json={"resumed_from_step": 5}).status_code == 201
        shows("#chart-loss", [[step, 0.5] for step in range(1, 6)])
        fork_has([*range(6)])
        shows("#chart-other", [[step, 1.0] for step in range(1, 6)])

        send(client, run_id, steps(6, 9, 0.25), attempt=2)
        after = [[step, 0.5 if step < 6 else 0.25] for step in range(1, 10)]
        shows("#chart-loss", after)
        shows("#chart-other", [[step, 2 * loss] for step, loss in after])
        fork_has([*range(10)])

        page.get_by_label("Metric", exact=True).select_option("epoch")
        shows("#chart-other", [[step, step / 8] for step in range(1, 10)])
        assert page.url.endswith("metric=epoch")
        said = {"attempt": 2, "records": [], "messages": ["Not watched: pair 3 has no end."]}
        assert http.post(f"{at}/records", json=said).status_code == 200
        expect(page.get_by_text("Not watched: pair 3 has no end.")).to_be_visible()

        page.goto("about:blank")  # it would ask once more for the run that is gone
        assert http.delete(at).status_code == 204
    assert browser_errors == []


def test_pairs_of_a_dataset_that_is_here_are_watched_and_linked_with_it(
    live_stack: str, browser_page: Any, tmp_path: Path
) -> None:
    """By the library itself, in a training of one's own."""
    from playwright.sync_api import expect

    import chesboard
    from tests.tiny_models import load

    loaded = load()
    rows = [{"prompt": f"Is it {k}?", "chosen": " Yes", "rejected": " No"} for k in range(5)]
    content = "\n".join(map(json.dumps, rows)).encode()
    with httpx.Client(base_url=live_stack, timeout=60) as http:
        made = http.post("/api/v1/datasets", files={"file": ("rows.jsonl", content)})
        dataset_id = made.json()["id"]
        watch = chesboard.watch(
            loaded.model,
            loaded.tokenizer,
            chesboard.stored(dataset_id, [3, 1]),
            name="a loop of one's own",
            url=live_stack,
            probe_every=1,
            output_dir=tmp_path,
        )
        optimizer = torch.optim.SGD(loaded.model.parameters(), 1e-2)
        for step in (1, 2):
            loss = loaded.model(torch.arange(8)[None], labels=torch.arange(8)[None]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            watch.step(step, {"loss": loss})
        watch.finish()
        assert watch.failures == 0
        run_id = int(str(watch.url).rpartition("/")[2])
        run = http.get(f"/api/v1/runs/{run_id}").json()
        assert (run["dataset_id"], run["messages"]) == (dataset_id, [])
        probes = http.get(f"/api/v1/runs/{run_id}/probes").json()
        assert {one["pair"]: one["prompt"] for one in probes} == {
            pair: f"Is it {pair}?" for pair in (1, 3)
        }
        found = http.get(f"/api/v1/datasets/{dataset_id}/pairs/3").json()
        assert found["displacement"]["run_id"] == run_id
        page = browser_page
        page.goto(f"{live_stack}/runs/{run_id}")
        expect(page.get_by_role("link", name="rows", exact=True).first).to_be_visible()
        page.goto("about:blank")
        assert http.delete(f"/api/v1/runs/{run_id}").status_code == 204
        assert http.delete(f"/api/v1/datasets/{dataset_id}").status_code == 204
