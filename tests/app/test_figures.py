"""The figures as pure functions: numbers in, Plotly JSON out. Their modules run in a browser."""

import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.core.settings import PROJECT_ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.browser

ORIGIN = "http://figures.test"
COLORS = {
    "ink": "#000001",
    "ink2": "#000002",
    "line": "#000003",
    "surface": "#000004",
    "preferred": "#0000ff",
    "dispreferred": "#ff8800",
    "other": "#888888",
    "series": ["#100000", "#200000", "#300000", "#400000"],
    "runs": ["#100000", "#200000", "#300000"],
    "sans": "sans",
    "dark": False,
}
Call = Callable[..., Any]


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


@pytest.fixture(scope="module")
def call(page: "Page") -> Call:
    """call("curves", "smoothed", ...): a module's function, with JSON in and out."""

    def call(module: str, function: str, *arguments: Any) -> Any:
        text = page.evaluate(
            """async ([path, name, values]) =>
                JSON.stringify((await import(path))[name](...values)) ?? "null" """,
            [f"/static/{module}.js", function, list(arguments)],
        )
        return json.loads(text)

    return call


def fork(**changes: Any) -> dict[str, Any]:
    return {
        "steps": [0, 1, 2],
        "preferred": [0.5, 0.4, 0.3],
        "dispreferred": [0.2, 0.1, 0.05],
        "other": [0.3, 0.5, 0.65],
        "groups": [{"name": "affirmative", "probs": [0.1, 0.2, 0.4]}],
        "preferredToken": "“No”",
        "dispreferredToken": "“Never”",
        **changes,
    }


def test_fork_draws_each_outcome_in_its_own_colour(call: Call) -> None:
    lines = call("figures/curves", "forkFigure", fork(), COLORS)["data"]
    assert [(line["name"], line["line"]["color"], line["y"]) for line in lines] == [
        ("affirmative", "#100000", [0.1, 0.2, 0.4]),
        ("preferred “No”", "#0000ff", [0.5, 0.4, 0.3]),
        ("dispreferred “Never”", "#ff8800", [0.2, 0.1, 0.05]),
        ("all other", "#888888", [0.3, 0.5, 0.65]),
    ]


def test_token_groups_are_bands_from_zero_behind_the_lines(call: Call) -> None:
    lines = call("figures/curves", "forkFigure", fork(), COLORS)["data"]
    assert [line.get("fill") for line in lines] == ["tozeroy", None, None, None]


def test_a_free_prompt_has_its_words_and_no_responses(call: Call) -> None:
    nothing = [None, None, None]
    prompt = fork(preferred=nothing, dispreferred=nothing, other=nothing)
    lines = call("figures/curves", "forkFigure", prompt, COLORS)["data"]
    assert [line["name"] for line in lines] == ["affirmative"]


def test_fork_on_a_log_scale_says_so_on_its_axis(call: Call) -> None:
    figure = call("figures/curves", "forkFigure", fork(), COLORS, {"log": True})
    assert figure["layout"]["yaxis"]["type"] == "log"
    assert figure["layout"]["yaxis"]["title"]["text"] == "probability (log)"


@pytest.mark.parametrize(
    ("lowest", "ticks"),
    [
        (0.0001, {"dtick": 1, "tickformat": "~g"}),
        # Between two powers of ten there may be no mark at all.
        (0.02, {"tickformat": "~g"}),
    ],
)
def test_a_log_scale_of_few_decades_is_marked_between_them(
    call: Call, lowest: float, ticks: dict[str, Any]
) -> None:
    numbers = fork(groups=[], dispreferred=[lowest, 0, None])
    axis = call("figures/curves", "forkFigure", numbers, COLORS, {"log": True})["layout"]["yaxis"]
    assert {name: axis[name] for name in ("dtick", "tickformat") if name in axis} == ticks


def test_single_tokens_have_the_colours_of_their_responses_or_their_own(call: Call) -> None:
    roles = ["dispreferred", None, "preferred", None]
    tokens = [
        {"name": str(i), "probs": [0.1, None, 0.1 + i / 10], "role": role}
        for i, role in enumerate(roles)
    ]
    lines = call("figures/curves", "tokensFigure", [0, 1, 2], tokens, COLORS)["data"]
    assert [line["line"]["color"] for line in lines] == ["#ff8800", "#100000", "#0000ff", "#200000"]
    assert lines[3]["y"] == [0.1, None, pytest.approx(0.4)]


def test_there_is_no_step_between_two_steps(call: Call) -> None:
    assert call("figures/frame", "stepAxis", [0, 1, 2]) == {"title": "step", "dtick": 1}
    assert call("figures/frame", "stepAxis", [0, 10, 20]) == {"title": "step"}
    assert call("figures/frame", "stepAxis", []) == {"title": "step"}


def test_fork_before_the_first_step_is_empty_and_one_step_is_a_point(call: Call) -> None:
    none = fork(steps=[], preferred=[], dispreferred=[], other=[], groups=[])
    one = fork(steps=[0], preferred=[0.5], dispreferred=[0.2], other=[0.3], groups=[])
    assert [line["x"] for line in call("figures/curves", "forkFigure", none, COLORS)["data"]] == [
        [],
        [],
        [],
    ]
    first = call("figures/curves", "forkFigure", one, COLORS)["data"][0]
    assert (first["mode"], first["x"], first["y"]) == ("markers", [0], [0.5])


def test_what_is_no_number_is_a_gap_and_never_zero(call: Call) -> None:
    change = {"steps": [0, 1, 2], "preferred": [0, None, -1], "dispreferred": [0, -1, None]}
    lines = call("figures/curves", "changeFigure", change, COLORS)["data"]
    assert [line["y"] for line in lines] == [[0, None, -1], [0, -1, None]]
    assert not any(line["connectgaps"] for line in lines)


def test_the_change_marks_the_step_from_which_the_pair_is_displaced(call: Call) -> None:
    change = {"steps": [0, 5, 10], "preferred": [0, -1, -2], "dispreferred": [0, -3, -9]}
    layout = call("figures/curves", "changeFigure", change, COLORS, {"onset": 5})["layout"]
    assert [(shape["x0"], shape["x1"]) for shape in layout["shapes"]] == [(5, 5)]
    assert layout["annotations"][0]["text"].strip() == "displaced from step 5"
    assert "shapes" not in call("figures/curves", "changeFigure", change, COLORS)["layout"]


@pytest.mark.parametrize(
    ("preferred", "dispreferred", "onset"),
    [
        ([0, -1, -2, -3], [0, -2, -4, -6], 10),
        # It recovered in between: displacement that lasts began later.
        ([0, -1, 0.5, -3], [0, -2, -4, -6], 30),
        # The margin is not positive in the end.
        ([0, -1, -2, -3], [0, -2, -4, -1], None),
        # Less than rounding makes.
        ([0, -1e-5, -1e-5, -1e-5], [0, -2, -4, -6], None),
        ([0, -1, None, -3], [0, -2, None, -6], 30),
        ([0], [0], None),
    ],
)
def test_displacement_begins_where_it_stays(
    call: Call, preferred: list[float], dispreferred: list[float], onset: int | None
) -> None:
    steps = [0, 10, 20, 30][: len(preferred)]
    assert call("lib/histories", "onsetOf", steps, preferred, dispreferred) == onset


def test_smoothing_forgets_by_steps_and_not_by_points(call: Call) -> None:
    # Two steps apart, the weight 0.5 keeps a quarter.
    smoothed = call("figures/curves", "smoothed", [4, 0], 0.5, [1, 3])
    assert smoothed == pytest.approx([4, (0.25 * 2) / (0.25 * 0.5 + 0.75)])


def test_smoothing_starts_at_the_first_value_and_leaves_gaps(call: Call) -> None:
    # With the weight 0.5 the sum is 2, then 1, the mass 0.5, then 0.75. Two steps on, a quarter
    # of both is kept.
    smoothed = call("figures/curves", "smoothed", [4, 0, None, 8], 0.5)
    assert smoothed == pytest.approx([4, 4 / 3, None, (1 / 4 + 6) / (0.75 / 4 + 0.75)])


def test_smoothing_a_constant_changes_nothing(call: Call) -> None:
    assert call("figures/curves", "smoothed", [2, 2, 2, 2], 0.9) == pytest.approx([2, 2, 2, 2])


def test_batch_lines_come_raw_and_smoothed_once_there_are_enough_steps(call: Call) -> None:
    def names(steps: int, **options: Any) -> list[str]:
        values = list(range(steps))
        lines = [{"name": "loss", "values": values, "color": "ink"}]
        figure = call("figures/curves", "batchFigure", values, lines, COLORS, options)
        return [line["name"] for line in figure["data"]]

    assert names(40) == ["loss, raw", "loss"]
    assert names(40, weight=0) == ["loss"]
    assert names(5) == ["loss"]


def test_the_phase_plot_marks_the_last_step(call: Call) -> None:
    data = call("figures/curves", "phaseFigure", [1, 2], [0.1, 0.3], [-0.2, None], COLORS)["data"]
    assert (data[0]["x"], data[0]["y"], data[0]["customdata"]) == ([0.1, 0.3], [-0.2, None], [1, 2])
    assert (data[1]["x"], data[1]["y"]) == ([0.3], [None])


QUANTILES = {"q05": [0, -5], "q25": [0, -4], "q50": [0, -3], "q75": [0, -2], "q95": [0, -1]}


def bands(steps: list[int]) -> dict[str, Any]:
    values = {name: [-float(step) for step in steps] for name in QUANTILES}
    return {
        "steps": steps,
        "preferred_change": values,
        "dispreferred_change": values,
        "margin": values,
        "displaced_fraction": [0.5 for _ in steps],
    }


def test_bands_hold_half_and_nine_tenths_of_the_probes_around_the_median(call: Call) -> None:
    part = {"name": "y+", "quantiles": QUANTILES, "color": "#0000ff"}
    data = call("figures/bands", "bandsFigure", [0, 1], [part], COLORS, {"title": "nats"})["data"]
    assert [(trace["y"], trace.get("fill")) for trace in data] == [
        ([0, -5], None),
        ([0, -1], "tonexty"),
        ([0, -4], None),
        ([0, -2], "tonexty"),
        ([0, -3], None),
    ]


def test_what_is_new_of_the_bands_replaces_what_it_repeats(call: Call) -> None:
    joined = call("figures/bands", "joinBands", bands([0, 1, 2]), bands([2, 3]))
    assert joined["steps"] == [0, 1, 2, 3]
    assert joined["margin"]["q50"] == [0, -1, -2, -3]
    assert len(joined["displaced_fraction"]) == 4


def test_a_stretch_of_the_bands_takes_its_place_between_the_others(call: Call) -> None:
    coarse = call("figures/bands", "insertBands", bands([0, 10, 20, 30]), bands([9, 10, 11]))
    assert coarse["steps"] == [0, 9, 10, 11, 20, 30]
    assert coarse["margin"]["q50"] == [0, -9, -10, -11, -20, -30]
    assert call("figures/bands", "insertBands", coarse, bands([])) == coarse


TOKENS = [
    {"token_id": 1, "token": "Yes", "initial": 0.1, "now": 0.3, "predicted": 0.5},
    {"token_id": 2, "token": "No", "initial": 0.5, "now": 0.35, "predicted": -0.1},
    {"token_id": 3, "token": "Never", "initial": 0.2, "now": 0.1, "predicted": -0.4},
    {"token_id": 4, "token": "Sure", "initial": 0.05, "now": 0.06, "predicted": 0.1},
    {"token_id": 5, "token": "Maybe", "initial": 0.1, "now": 0.1, "predicted": 0.2},
]


def test_ledger_lists_gainers_and_losers_and_balances(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS)
    assert [entry["token"] for entry in ledger["gainers"]] == ["Yes", "Sure"]
    assert [entry["token"] for entry in ledger["losers"]] == ["No", "Never"]
    changes = [entry["change"] for entry in [*ledger["gainers"], *ledger["losers"]]]
    assert sum(changes) + ledger["rest"] == pytest.approx(0, abs=1e-12)
    assert ledger["rest"] == pytest.approx(0.04)


def test_ledger_with_room_for_one_balances_too(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS, 1)
    assert (len(ledger["gainers"]), len(ledger["losers"])) == (1, 1)
    assert ledger["rest"] == pytest.approx(-0.2 + 0.15)


def test_predicted_ranks_count_gainers_up_and_losers_down(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS)
    ranks = {e["token"]: e["predictedRank"] for e in [*ledger["gainers"], *ledger["losers"]]}
    assert ranks == {"Yes": 1, "Sure": 3, "No": -2, "Never": -1}


def test_the_flow_sends_out_what_was_lost_and_brings_in_what_was_gained(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS)
    flow = call("figures/flow", "flows", ledger)
    assert [node["change"] for node in flow["sources"]] == pytest.approx([-0.15, -0.1])
    assert [node["change"] for node in flow["targets"]] == pytest.approx([0.2, 0.01, 0.04])
    assert sum(link["value"] for link in flow["links"]) == pytest.approx(0.25)
    into_yes = [link["value"] for link in flow["links"] if link["target"] == 0]
    assert sum(into_yes) == pytest.approx(0.2)


def test_the_flow_gathers_small_changes_into_all_others(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS)
    flow = call("figures/flow", "flows", ledger, 1)
    assert [node["token"] for node in flow["sources"]] == ["No", None]
    assert [node["change"] for node in flow["targets"]] == pytest.approx([0.2, 0.05])


def test_the_flow_names_each_token_with_its_probability_before_and_after(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS)
    figure = call("figures/flow", "flowFigure", ledger, COLORS)["data"][0]
    assert figure["node"]["label"][0] == "No 0.500 → 0.350"
    assert "Yes 0.100 → 0.300" in figure["node"]["label"]
    assert figure["node"]["label"][-1] == "all others +0.040"


def test_the_flow_says_that_as_much_was_gained_as_was_lost(call: Call) -> None:
    ledger = call("figures/ledger", "drawUp", TOKENS)
    words = call("figures/flow", "flowFigure", ledger, COLORS)["layout"]["annotations"]
    assert [(word["xanchor"], word["text"]) for word in words] == [
        ("left", "lost 0.250"),
        ("right", "gained 0.250"),
    ]


def predicted(token_id: int, rank: int, actual: int | None, change: float) -> dict[str, Any]:
    return {
        "token_id": token_id,
        "token": str(token_id),
        "predicted_rank": rank,
        "actual_rank": actual,
        "actual_change": change,
    }


def test_predicted_gainers_stand_beside_the_actual_ones(call: Call) -> None:
    theory = [predicted(1, 1, 2, 0.1), predicted(2, 2, 500, -0.1), predicted(3, 3, 1, 0.2)]
    actual = [
        {"token_id": i, "token": str(i), "change": c} for i, c in [(3, 0.2), (1, 0.1), (9, 0.05)]
    ]
    pairs = call("figures/predicted", "rankPairs", theory, actual)
    assert [(p["token_id"], p["predictedRank"], p["actualRank"]) for p in pairs] == [
        (1, 1, 2),
        (2, 2, None),
        (3, 3, 1),
        (9, None, 3),
    ]
    assert call("figures/predicted", "hits", pairs) == {"of": 3, "predicted": 2}


def test_without_the_servers_word_predictions_come_from_the_watched_tokens(call: Call) -> None:
    watched = [
        {"token_id": 1, "token": "a", "predicted": 0.1},
        {"token_id": 2, "token": "b", "predicted": 0.3},
        {"token_id": 3, "token": "c", "predicted": -0.3},
    ]
    found = call("figures/predicted", "predictedOf", watched, [{"token_id": 1, "change": 0.2}])
    assert [(e["token_id"], e["predicted_rank"], e["actual_rank"]) for e in found] == [
        (2, 1, None),
        (1, 2, 1),
    ]


def test_heat_map_of_a_long_run_keeps_the_largest_change_of_each_stretch(call: Call) -> None:
    rows = [[0.0] * 1000, [0.0] * 1000]
    rows[1][503] = -7
    kept = call("figures/heat", "heatColumns", rows, 100)
    assert 503 in kept
    assert (kept[0], kept[-1]) == (0, 999)
    assert len(kept) <= 102
    assert call("figures/heat", "heatColumns", [[1, 2, 3]], 100) == [0, 1, 2]


def test_fewer_points_for_the_screen_hold_every_peak(call: Call) -> None:
    values: list[float | None] = [0.0] * 10_000
    values[1234], values[7777], values[5000] = 9, -9, None
    kept = call("lib/downsampling", "keptIndices", len(values), [values], 300)
    assert len(kept) <= 302
    assert {0, 1234, 7777, 9999} <= set(kept)
    assert kept == sorted(kept)
    assert call("lib/downsampling", "keptIndices", 3, [[1, 2, 3]], 300) == [0, 1, 2]


def test_answers_are_told_once_a_span_with_what_is_new_in_each(call: Call) -> None:
    items = [
        {"step": step, "text": text, "ended": True}
        for step, text in [(0, "No, never."), (5, "No, never."), (10, "Yes, never.")]
    ]
    spans = call("lib/answers", "answerSpans", items)
    assert [(span["from"], span["to"], span["text"]) for span in spans] == [
        (0, 5, "No, never."),
        (10, 10, "Yes, never."),
    ]
    assert [word["text"] for word in spans[1]["words"] if word["isNew"]] == ["Yes,"]
    assert not any(word["isNew"] for word in spans[0]["words"])


def test_differing_settings_are_told_by_their_dotted_names(call: Call) -> None:
    one = {"beta": 0.1, "probes": {"pairs": [1], "count": 4}, "lora": None, "token_groups": {}}
    two = {"beta": 0.1, "probes": {"pairs": [2], "count": 4}, "lora": {"rank": 4}}
    found = dict(call("lib/differences", "differences", [one, two]))
    assert found["probes.pairs"] == [[1], [2]]
    assert found["lora.rank"] == [None, 4]
    assert sorted(found) == ["lora.rank", "probes.pairs"]


def test_prompts_are_read_as_they_were_typed(call: Call) -> None:
    def row(prompt: str, watch: str = "", name: str = "") -> dict[str, str]:
        return {"prompt": prompt, "watch": watch, "name": name}

    chat = [{"role": "user", "content": "Is it?"}]
    rows = [row("Is it? ", "Yes, No ,", "mine"), row(""), row(json.dumps(chat))]
    assert call("pages/new_run/form-values", "promptProbes", rows) == [
        {"prompt": "Is it? ", "watch": ["Yes", "No"], "name": "mine"},
        {"prompt": chat, "watch": []},
    ]


def test_measured_displacement_is_drawn_against_the_measure(call: Call) -> None:
    points = [{"pair": 4, "x": -3, "y": -0.5}, {"pair": 5, "x": None, "y": 1}]
    trace = call("figures/scores", "displacementFigure", points, "CHES", COLORS)["data"][0]
    assert (trace["x"], trace["y"], trace["customdata"]) == ([-3], [-0.5], [4])


def test_distribution_marks_quantiles(call: Call) -> None:
    options = {"quantiles": [[1.5, "median"]]}
    bins = [{"low": 1, "high": 2, "count": 3}]
    layout = call("figures/scores", "distributionFigure", bins, "a", COLORS, options)["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [1.5]
    assert [note["text"] for note in layout["annotations"]] == ["median"]


def test_a_zoom_tells_its_range(call: Call) -> None:
    assert call("charts/chart", "rangeOf", {"xaxis.range[0]": 1.5, "xaxis.range[1]": 9}) == [1.5, 9]
    assert call("charts/chart", "rangeOf", {"xaxis.autorange": True}) is None
    assert call("charts/chart", "rangeOf", {"yaxis.range[0]": 1, "yaxis.range[1]": 2}) is None


def test_heat_map_shows_the_change_since_the_first_step(call: Call) -> None:
    changes = call("figures/heat", "heatChanges", [[-1, -2], [-3, None], [-1, -1]], ["a", "b"])
    assert changes == [[0, -2, 0], [0, None, 1]]
    assert call("figures/heat", "largestChange", changes) == 2


def test_heat_map_is_symmetric_around_no_change(call: Call) -> None:
    numbers = {"steps": [0, 1], "tokens": ["<b>", "\n"], "logprobs": [[0, 0], [-1, 3]]}
    trace = call("figures/heat", "heatFigure", numbers, COLORS)["data"][0]
    assert (trace["zmin"], trace["zmax"]) == (-3, 3)
    assert [color for _, color in trace["colorscale"]] == ["#ff8800", "#000004", "#0000ff"]


def test_token_texts_are_no_markup_in_a_figure(call: Call) -> None:
    numbers = {"steps": [0, 1], "tokens": ["<b>", "a b\n"], "logprobs": [[0, 0], [1, 1]]}
    axis = call("figures/heat", "heatFigure", numbers, COLORS)["layout"]["yaxis"]
    assert axis["ticktext"] == ["&lt;b>", "a␣b↵"]


def test_distribution_marks_the_bins_that_would_be_flagged(call: Call) -> None:
    bins = [{"low": i, "high": i + 1, "count": 10 * i} for i in range(3)]
    options = {"threshold": 1.5, "isAbove": True}
    trace = call("figures/scores", "distributionFigure", bins, "CHES", COLORS, options)["data"][0]
    assert (trace["x"], trace["y"]) == ([0.5, 1.5, 2.5], [0, 10, 20])
    assert trace["marker"]["color"] == ["#888888", "#ff8800", "#ff8800"]
    trace = call("figures/scores", "distributionFigure", [], "CHES", COLORS)["data"][0]
    assert trace["x"] == []


def test_scatter_leaves_out_what_is_no_number_and_sets_flagged_pairs_apart(call: Call) -> None:
    points = [
        {"pair": 0, "x": 1, "y": 2, "isFlagged": False},
        {"pair": 1, "x": None, "y": 2, "isFlagged": False},
        {"pair": 2, "x": 3, "y": 4, "isFlagged": True},
    ]
    data = call("figures/scores", "scatterFigure", points, "a", "b", COLORS)["data"]
    assert [(t["name"], t["customdata"], t["marker"]["symbol"]) for t in data] == [
        ("pairs", [0], "circle"),
        ("flagged", [2], "diamond"),
    ]


def test_a_run_keeps_its_style_whatever_it_is_compared_with(call: Call) -> None:
    run = {"name": "a", "x": [1, 2], "y": [1, 2]}
    styles = [
        call(
            "figures/compare",
            "compareFigure",
            [{**run, "id": other}, {**run, "id": 7}],
            "step",
            "loss",
            COLORS,
        )["data"][1]["line"]
        for other in (1, 2)
    ]
    assert styles[0] == styles[1]


@pytest.mark.parametrize(
    ("ours", "theirs", "shared"),
    [
        (["a", "b"], ["a", "c"], ([True, False], [True, False], 1)),
        (["a", "b", "c"], ["a", "c"], ([True, False, True], [True, True], 1)),
        (["x"], ["y"], ([False], [False], 0)),
        (["a"], ["a"], ([True], [True], 1)),
        ([], ["a"], ([], [False], 0)),
    ],
)
def test_diff_marks_the_longest_common_subsequence(
    call: Call, ours: list[str], theirs: list[str], shared: tuple[list[bool], list[bool], int]
) -> None:
    found = call("lib/diff", "diff", ours, theirs)
    assert (found["a"], found["b"], found["fork"]) == shared


def test_token_ends_count_characters_not_utf16_units(call: Call) -> None:
    assert call("lib/diff", "tokensOf", "😀 yes", [1, 5]) == ["😀", " yes"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (-1234.5, "−1,235"),
        (0.0123456, "0.0123"),
        (12.345, "12.3"),
        (1e-7, "1.00e−7"),
        (None, "–"),
    ],
)
def test_numbers_have_three_digits_and_a_true_minus(call: Call, value: Any, text: str) -> None:
    assert call("lib/format", "number", value) == text


@pytest.mark.parametrize(
    ("value", "text", "change"),
    [
        (0.25, "0.2500", "+0.2500"),
        (0, "0.0000", "+0.0000"),
        (5e-5, "0.0001", "+0.0001"),
        (3e-9, "3e−9", "+3e−9"),
        (None, "–", "–"),
    ],
)
def test_a_tiny_probability_is_told_by_its_order_and_is_never_nothing(
    call: Call, value: Any, text: str, change: str
) -> None:
    assert call("lib/format", "probability", value) == text
    assert call("lib/format", "probabilityChange", value) == change


def test_blanks_and_line_ends_of_tokens_are_visible(call: Call) -> None:
    assert call("lib/format", "visible", " a\n") == "␣a↵"
    assert call("lib/format", "visible", "") == "∅"
    assert call("lib/format", "visible", "\0\x1b\x7f\uffff") == "␀␛␡�"


def test_csv_is_quoted_and_holds_no_formula(call: Call) -> None:
    columns = {"token": ['a"b', "=1+1", ","], "n": [1, None, -2]}
    assert call("lib/dom", "toCsv", columns).splitlines() == [
        "token,n",
        '"a""b",1',
        "'=1+1,",
        '",",-2',
    ]


def test_a_step_that_comes_twice_takes_the_place_of_the_first(page: "Page") -> None:
    found = page.evaluate(
        """async () => {
            const { MetricHistory } = await import("/static/lib/histories.js");
            const history = new MetricHistory(["loss"]);
            const appended = [[1, 10], [2, 20], [4, 40], [2, 21], [3, 30], [4, 41], [5, 50]]
                .map(([step, loss]) => history.put({ step, loss }));
            return [history.steps, history.columns.loss, appended];
        }"""
    )
    assert found == [
        [1, 2, 3, 4, 5],
        [10, 21, 30, 41, 50],
        [True, True, True, False, False, False, True],
    ]


def test_the_tokens_that_moved_most_come_with_their_probabilities(page: "Page") -> None:
    found = page.evaluate(
        """async () => {
            const { ProbeHistory } = await import("/static/lib/histories.js");
            const watched = ["a", "b", "c"].map((token, i) => ({ token_id: i, token }));
            const probe = {
                pair: 0, kind: "pair", watched, groups_list: [], preferred_tokens: ["a"],
                dispreferred_tokens: ["b"], fork_position: 0,
            };
            const series = {
                steps: [], moved_mass: [], fork: {}, gainers: [], losers: [], ledger_step: null,
            };
            const history = new ProbeHistory(probe, series);
            [[0.1, 0.5, 0.2], [0.15, 0.3, null], [0.2, 0.1, 0.21]].forEach((probs, step) =>
                history.put({
                    step, watched_probs: probs, group_probs: [], gainers: [], losers: [],
                    rest_change: 0,
                }));
            return history.movers(2);
        }"""
    )
    assert found == [
        {"token": "b", "probs": [0.5, 0.3, 0.1]},
        {"token": "a", "probs": [0.1, 0.15, 0.2]},
    ]


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
            const { phaseFigure } = await import("/static/figures/curves.js");
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
            const { batchFigure } = await import("/static/figures/curves.js");
            const { MetricHistory } = await import("/static/lib/histories.js");
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


def test_a_history_that_grows_too_long_forgets_points_but_no_peak(page: "Page") -> None:
    found = page.evaluate(
        """async () => {
            const { MetricHistory } = await import("/static/lib/histories.js");
            const history = new MetricHistory(["loss"]);
            for (let step = 1; step <= 20_000; step += 1) {
                history.put({ step, loss: step === 777 ? 99 : 1 });
            }
            history.merge([{ step: 500, loss: 5 }, { step: 501, loss: 6 }]);
            const { steps, columns } = history;
            const ascends = steps.every((step, i) => i === 0 || steps[i - 1] < step);
            const at = (step) => columns.loss[steps.indexOf(step)];
            const ends = [steps[0], steps.at(-1)];
            return [steps.length <= 6002, ascends, ...ends, at(777), at(500), at(501)];
        }"""
    )
    assert found == [True, True, 1, 20_000, 99, 5, 6]


def test_detail_is_fetched_once_and_only_of_a_run_that_is_known_coarsely(page: "Page") -> None:
    asked = page.evaluate(
        """async () => {
            const { Detail } = await import("/static/lib/detail.js");
            const asked = [];
            const load = async (query) => { asked.push(query); return { decimated: false }; };
            const detail = new Detail(load, () => {});
            detail.begin({ decimated: false });
            await detail.show([10, 20]);
            detail.begin({ decimated: true });
            await detail.show([9.5, 20.2]);
            await detail.show([11, 19]);
            return asked;
        }"""
    )
    assert asked == ["points=1500&from_step=9&to_step=21"]
