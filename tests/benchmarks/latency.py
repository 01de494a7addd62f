"""From the end of an optimizer step to its point on the screen: a real worker trains the tiny
model while a real browser has the run's page open.

    python -m tests.benchmarks.latency [--steps 200]

The clock starts when training hands over what the step measured, and stops in the frame after
Plotly has drawn the point. Steps come at uneven times, as those of a model that is worth training
do, so that nothing falls into step with them.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.core.database import transaction
from app.core.settings import get_settings
from chesboard.records import MetricRecord, ProbeStepRecord, Record
from tests.app import factories
from tests.benchmarks.serving import recording_to, serving
from tests.support import CHROMIUM_ARGUMENTS, eventually, find_chromium, save_tiny_model
from worker import execution as runtime
from worker.models.cache import ModelCache
from worker.recorder import Recorder

if TYPE_CHECKING:
    from playwright.sync_api import ViewportSize

WARM_UP = 10
PAUSE_SECONDS = (0.05, 0.25)
PROBES = 4
WINDOW: "ViewportSize" = {"width": 1440, "height": 900}
WHOLE_PAGE: "ViewportSize" = {"width": 1440, "height": 4200}

# Remembers for each step of a chart when it was first on the screen, in ms since the epoch.
WATCH = """(selector) => {
    window.drawn = {};
    const wait = setInterval(() => {
        const plot = document.querySelector(`${selector} .plot`);
        if (!plot?.on || !plot.data) return;
        clearInterval(wait);
        const see = () => requestAnimationFrame(() => {
            for (const step of plot.data.at(-1).x) window.drawn[step] ??= Date.now();
        });
        see();
        plot.on("plotly_afterplot", see);
    }, 5);
}"""


class StampingRecorder(Recorder):
    """Records as training does, and notes when each step's numbers were handed over."""

    ended: dict[int, float]
    probed: dict[int, float]

    def put(self, *records: Record) -> None:
        for record in records:
            match record:
                case MetricRecord():
                    time.sleep(random.uniform(*PAUSE_SECONDS))
                    self.ended[record.step] = 1000 * time.time()
                case ProbeStepRecord():
                    # The first probe that is shown is the first that is recorded.
                    self.probed.setdefault(record.step, 1000 * time.time())
        super().put(*records)


COLUMNS = ("point of", "steps", "p50 ms", "p95 ms", "floor")
MOST_MS = 300
ABOUT = f"""From the moment that training hands over what a step measured to the frame after
Plotly has drawn its point, in headless Chromium (software rendering) on the same machine.
{PROBES} probes are looked at after every step; a step comes every {PAUSE_SECONDS[0] * 1000:.0f} to
{PAUSE_SECONDS[1] * 1000:.0f} ms and what the tiny model takes. The second row has every chart of
the page drawn at once, in a window taller than any screen; it is there for comparison."""


def rows(steps: int = 200) -> Iterator[tuple[str, ...]]:
    for what, since, window, most in (
        ("the fork's curves, in a window of 1440 x 900", "probed", WINDOW, MOST_MS),
        ("the margin's curve, with every chart of the page in view", "ended", WHOLE_PAGE, None),
    ):
        cuts = statistics.quantiles(milliseconds := measure(steps, since, window), n=100)
        floor = f"{most} at most" + (", missed" if cuts[94] > most else "") if most else ""
        yield what, str(len(milliseconds)), f"{cuts[49]:.0f}", f"{cuts[94]:.0f}", floor


def measure(steps: int, since: str, window: "ViewportSize") -> list[float]:
    """Milliseconds of each step. since: "ended", to the margin's curve; "probed", to the fork's."""
    from playwright.sync_api import sync_playwright

    chart = {"ended": "#chart-margin", "probed": "#chart-fork"}[since]
    StampingRecorder.ended, StampingRecorder.probed = {}, {}
    with (
        serving() as (services, address),
        recording_to(services),
        _folders() as models,
        sync_playwright() as playwright,
    ):
        run_id = _queue(steps)
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=CHROMIUM_ARGUMENTS
        )
        page = browser.new_page(viewport=window)
        page.goto(f"{address}/runs/{run_id}")
        page.evaluate(WATCH, chart)
        assert runtime.execute(run_id, "bench", models)
        # The browser has drawn everything once it knows the last step.
        eventually(lambda: page.evaluate(f"{steps} in window.drawn"), seconds=30)
        drawn = {int(step): when for step, when in page.evaluate("window.drawn").items()}
        browser.close()
    began = getattr(StampingRecorder, since)
    return [drawn[step] - began[step] for step in range(WARM_UP + 1, steps + 1)]


def _queue(steps: int) -> int:
    config: dict[str, Any] = {
        "batch_size": 1,
        "epochs": steps,
        "max_steps": steps,
        "probe_every": 1,
        "probes": {"count": PROBES},
    }
    with transaction() as session:
        dataset = factories.dataset(session, PROBES)
        return factories.run(session, dataset.id, status="queued", config=config).id


@contextmanager
def _folders() -> Iterator[ModelCache]:
    """The tiny model, and a data folder for what the run leaves; the stamping recorder is used."""
    names = ("CHESBOARD_DATA_DIR", "CHESBOARD_MODELS_DIR")
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_model(Path(folder) / "models" / "tiny")
        os.environ.update(zip(names, (folder, f"{folder}/models"), strict=True))
        get_settings.cache_clear()
        setattr(runtime, "Recorder", StampingRecorder)  # noqa: B010
        try:
            yield ModelCache(get_settings())
        finally:
            setattr(runtime, "Recorder", Recorder)  # noqa: B010
            for name in names:
                del os.environ[name]
            get_settings.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    print(*rows(parser.parse_args().steps), sep="\n")


if __name__ == "__main__":
    main()
