"""Charts in a browser: what Plotly is asked to draw, and how often."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import PROJECT_ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.browser

ORIGIN = "http://figures.test"


@pytest.fixture(scope="module")
def page(browser: "Browser") -> "Iterator[Page]":
    """An empty page from which this project's modules can be imported."""

    def serve(route: "Route") -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path == "/":
            route.fulfill(body="<!doctype html>", content_type="text/html")
            return
        file: Path = PROJECT_ROOT / path.lstrip("/")
        if path == "/plotly.js":
            file = Path(str(resources.files("plotly"))) / "package_data" / "plotly.min.js"
        route.fulfill(body=file.read_text(), content_type="text/javascript")

    page = browser.new_page()
    page.route(f"{ORIGIN}/**", serve)
    page.goto(f"{ORIGIN}/")

    yield page
    page.close()


@pytest.fixture
def plots(page: "Page") -> "Page":
    """The page with Plotly, and with `calls`: which of its ways to draw were taken."""
    page.evaluate(
        """async () => {
            if (!window.Plotly) {
                await new Promise((resolve) => {
                    const script = document.createElement("script");
                    Object.assign(script, { src: "/plotly.js", onload: resolve });
                    document.head.append(script);
                });
                for (const name of ["react", "extendTraces"]) {
                    const original = Plotly[name];
                    Plotly[name] = (...all) => { calls.push(name); return original(...all); };
                }
            }
            window.calls = [];
            window.host = document.createElement("div");
            document.body.replaceChildren(host);
        }"""
    )
    return page


def test_new_points_are_appended_and_changed_ones_redrawn(plots: "Page") -> None:
    drawn = plots.evaluate(
        """async () => {
            const { Chart } = await import("/static/charts/chart.js");
            const { changeFigure } = await import("/static/figures/curves.js");
            const change = { steps: [0, 1], preferred: [0, -1], dispreferred: [0, -2] };
            const colors = { ink2: "#000", line: "#000", preferred: "#00f", dispreferred: "#f80" };
            const chart = new Chart(host, {
                title: "t", why: "w", name: "n", csv: () => ({}),
                figure: () => changeFigure(change, colors),
            });
            const points = () => chart.plot.data.map((trace) => [[...trace.x], [...trace.y]]);
            const seen = [];
            const step = (change) => { change(); chart.draw(); seen.push(points()); };
            step(() => {});
            step(() => {
                change.steps.push(2);
                change.preferred.push(null);
                change.dispreferred.push(-3);
            });
            step(() => { change.preferred[2] = -7; });
            return { calls, seen };
        }"""
    )
    assert drawn["calls"] == ["react", "extendTraces", "react"]
    assert drawn["seen"] == [
        [[[0, 1], [0, -1]], [[0, 1], [0, -2]]],
        [[[0, 1, 2], [0, -1, None]], [[0, 1, 2], [0, -2, -3]]],
        [[[0, 1, 2], [0, -1, -7]], [[0, 1, 2], [0, -2, -3]]],
    ]


def test_the_phase_plot_is_appended_to_and_its_mark_moves(plots: "Page") -> None:
    drawn = plots.evaluate(
        """async () => {
            const { Chart } = await import("/static/charts/chart.js");
            const { phaseFigure } = await import("/static/figures/batches.js");
            const colors = { ink2: "#000", line: "#000", preferred: "#00f", other: "#888888" };
            const rows = [[1], [0.1], [-0.1]];
            const figure = () => phaseFigure(...rows, colors);
            const csv = () => ({});
            const chart = new Chart(host, { title: "t", why: "w", name: "n", csv, figure });
            chart.draw();
            [2, 0.4, -0.5].forEach((value, i) => rows[i].push(value));
            chart.draw();
            const { data } = chart.plot;
            const x = data.map((trace) => [...trace.x]);
            return { calls, x, color: [...data[0].marker.color] };
        }"""
    )
    assert drawn == {
        "calls": ["react", "extendTraces", "extendTraces"],
        "x": [[0.1, 0.4], [0.4]],
        "color": [1, 2],
    }


def test_a_burst_of_rows_is_drawn_once_a_frame(plots: "Page") -> None:
    """As when a tab was in the background, or a stream catches up after it was cut."""
    drawn = plots.evaluate(
        """async () => {
            const { Chart } = await import("/static/charts/chart.js");
            const { batchFigure } = await import("/static/figures/batches.js");
            const { MetricHistory } = await import("/static/lib/metric-history.js");
            const colors = { ink: "#000000", ink2: "#000", line: "#000" };
            const history = new MetricHistory(["loss"]);
            const lines = () => [{ name: "loss", values: history.columns.loss, color: "ink" }];
            const chart = new Chart(host, {
                title: "t", why: "w", name: "n", csv: () => ({}),
                figure: () => batchFigure(history.steps, lines(), colors),
            });
            const frame = () => new Promise(requestAnimationFrame);
            while (!chart.isVisible) await frame();
            for (let step = 1; step <= 5000; step += 1) {
                history.put({ step, loss: 1 / step });
                chart.append();
            }
            const before = calls.length;
            await frame();
            await frame();
            return { before, after: calls.length, points: chart.plot.data[0].x.length };
        }"""
    )
    assert drawn == {"before": 0, "after": 1, "points": 5000}
