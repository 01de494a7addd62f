"""A run's selection on the form of the next run."""

import csv
import io
import itertools
from typing import Any

from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from app.pages import selection as selection_form
from app.store.selection import record_selection
from chesboard.configs import Selection
from tests.app import factories

FLAGGED = {"exclude_flagged": True}


def without_defaults(selection: dict[str, Any]) -> dict[str, Any]:
    return Selection.model_validate(selection).model_dump(mode="json", exclude_defaults=True)


def test_what_is_left_out_is_added_to_what_the_earlier_run_left_out() -> None:
    shown = selection_form.prefilled(
        {"exclude_verdicts": ["fix"], "limit": 9}, ["flagged", "drop"], False
    )
    assert without_defaults(shown) == {
        "exclude_flagged": True,
        "exclude_verdicts": ["fix", "drop"],
        "limit": 9,
    }
    assert without_defaults(selection_form.prefilled({}, [], False)) == {}


def test_issues_are_added_to_the_rules_of_the_earlier_run() -> None:
    shown = selection_form.prefilled(
        {"exclude_issues": ["long"]}, [], False, exclude_issues=["no_end", "long"], only_issues=[]
    )
    assert without_defaults(shown) == {"exclude_issues": ["long", "no_end"]}
    shown = selection_form.prefilled({}, [], False, only_issues=["duplicate"])
    assert without_defaults(shown) == {"only_issues": ["duplicate"]}


def test_a_control_shows_the_rules_whose_size_it_has() -> None:
    shown = selection_form.prefilled(FLAGGED, ["drop"], True)
    assert shown["exclude_flagged"]
    assert shown["exclude_verdicts"] == ["drop"]
    assert selection_form.subset(shown["random"]) == selection_form.Subset("rules")
    # So does the form that takes over a control's own selection.
    earlier = {"random": {"same_size_as": FLAGGED, "seed": 3}}
    assert selection_form.on_form(earlier)["exclude_flagged"]
    assert selection_form.subset(selection_form.on_form(earlier)["random"]).seed == 3


def test_a_control_for_other_rules_than_its_own_keeps_both() -> None:
    earlier = {"exclude_verdicts": ["drop"], "random": {"same_size_as": FLAGGED}}
    shown = selection_form.on_form(earlier)
    assert shown == earlier
    subset = selection_form.subset(shown["random"])
    assert (subset.way, subset.like_text) == ("other", "without flagged")


def test_numbers_stand_in_percent() -> None:
    rules = [
        {"score_run": 4, "measure": "ches", "keep": "lowest", "fraction": 0.07},
        {"score_run": 4, "keep": "highest", "threshold": -2.5},
    ]
    rows = selection_form.measure_rows(rules)
    assert [(row.number, row.by) for row in rows] == [("7", "fraction"), ("-2.5", "threshold")]
    assert selection_form.subset({"fraction": 0.005}) == selection_form.Subset("fraction", "0.5")


@given(st.sets(st.integers(0, 60)))
def test_ordinals_stand_in_ranges(pairs: set[int]) -> None:
    ranges = selection_form.ranges(sorted(pairs))
    ends = [[int(end) for end in found.split("-")] for found in ranges]
    assert {pair for end in ends for pair in range(end[0], end[-1] + 1)} == pairs
    assert all(after[0] > before[-1] + 1 for before, after in itertools.pairwise(ends))


def test_the_form_comes_filled_in(client: TestClient, session: Session) -> None:
    dataset = factories.dataset(session)
    run = factories.run(session, dataset.id, config={"selection": {"pairs": [0, 1, 2, 5]}})
    session.commit()
    page = client.get(
        f"/datasets/{dataset.id}/new", params={"like": run.id, "without": "flagged,drop"}
    ).text
    assert 'value="0-2, 5"' in page
    assert '<input type="checkbox" value="drop" checked>' in page
    refused = client.get(f"/datasets/{dataset.id}/new", params={"without": "everything"})
    assert refused.status_code == 422


def test_the_papers_filter_and_its_control_come_from_a_score_runs_page(
    client: TestClient, session: Session
) -> None:
    dataset = factories.dataset(session)
    run = factories.run(session, dataset.id, kind="score", status="succeeded")
    session.commit()
    query: dict[str, Any] = {"kind": "train", "like": run.id, "keep": 0.05}
    page = client.get(f"/datasets/{dataset.id}/new", params=query).text
    rule, template = page.split("data-rule-row>")[1:]
    for row in (rule, template):  # the rule, and the row that “Add a rule” adds
        assert '<option value="lowest" selected>' in row
        assert 'data-part="number" value="5"' in row
        assert '<option value="ln_ches" selected>' in " ".join(row.split())
        assert [f'data-share="{share}"' in row for share in (5, 15, 50, 95)] == [True] * 4
    assert f'<option value="{run.id}" selected>' in " ".join(rule.split())
    control = client.get(f"/datasets/{dataset.id}/new", params={**query, "control": True}).text
    assert 'value="rules" selected' in control
    assert client.get(f"/datasets/{dataset.id}/new", params={"keep": 5}).status_code == 422


def test_an_objective_with_its_coefficients_comes_from_the_address(
    client: TestClient, session: Session
) -> None:
    dataset = factories.dataset(session)
    run = factories.run(
        session, dataset.id, kind="score", status="succeeded", config={"max_response_tokens": 77}
    )
    session.commit()
    query: dict[str, Any] = {"kind": "train", "like": run.id, "objective": "dpop", "beta": 0.2}
    query["dpop_lambda"] = 1.57
    page = client.get(
        f"/datasets/{dataset.id}/new", params={**query, "length_normalize": "true"}
    ).text
    assert '<option value="dpop" selected>' in " ".join(page.split())
    for name, value in (("beta", 0.2), ("dpop_lambda", 1.57), ("max_response_tokens", 77)):
        field = page.split(f'<input id="field-{name}"')[1].split(">")[0]
        assert f'value="{value}"' in field
    assert "checked" in page.split('id="field-length_normalize"')[1].split(">")[0]
    wrong: dict[str, Any]
    for wrong in ({"objective": "grpo"}, {"beta": -1}, {"sft_coef": "much"}):
        assert client.get(f"/datasets/{dataset.id}/new", params=wrong).status_code == 422


def test_the_pairs_that_the_earlier_run_watched_are_watched_again(
    client: TestClient, session: Session
) -> None:
    dataset, other = factories.dataset(session, 6), factories.dataset(session, 6, name="other")
    run = factories.run(session, dataset.id, config={"probes": {"count": 2, "strategy": "random"}})
    for pair in (4, 1, -1):
        factories.probe(session, run.id, pair)
    session.commit()
    named = 'id="field-probes-pairs" data-type="ordinals" value="1, 4"'
    assert named in client.get(f"/datasets/{dataset.id}/new", params={"like": run.id}).text
    assert named not in client.get(f"/datasets/{other.id}/new", params={"like": run.id}).text


def test_the_pairs_of_a_run_are_downloaded_whole(client: TestClient, session: Session) -> None:
    dataset = factories.dataset(session)
    run = factories.run(session, dataset.id)
    record_selection(session, run.id, dataset.id, Selection(limit=2))
    session.commit()
    answer = client.get(f"/api/v1/runs/{run.id}/pairs", params={"format": "csv"})
    assert list(csv.reader(io.StringIO(answer.text))) == [
        ["pair", "text_version"],
        ["0", "1"],
        ["1", "1"],
    ]
