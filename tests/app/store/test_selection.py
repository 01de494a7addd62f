"""A selection against the same rules written out in Python, and what a run is given by it."""

import math
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.reviews.filters import filtered
from app.reviews.schemas import QueueFilter
from app.runs.selection import SAMPLE, preview
from app.runs.selection_text import selection_text
from app.store.datasets import Pair, PairIssue
from app.store.issues import CHECKS, CHECKS_KEY
from app.store.reviews import Review
from app.store.scores import Flag
from app.store.selection import chosen_pairs, count_selected, record_selection, selected
from chesboard.configs import MeasureRule, RandomSubset, Rules, Selection
from chesboard.issues import ISSUES, IssueKind
from tests.app import factories

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

PAIRS = 30
CHECKED = {CHECKS_KEY: {"version": CHECKS, "conventions": {}}}
VERDICTS = ("keep", "drop", "fix", "unsure")


class Known:
    """A dataset with flags, verdicts and scores, and the same in plain Python."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.dataset_id = factories.dataset(session, PAIRS, statistics=CHECKED).id
        other = factories.dataset(session, PAIRS, name="other")
        self.run_id = factories.run(session, self.dataset_id, kind="score", status="succeeded").id
        chance = random.Random(1)
        self.flagged = set(chance.sample(range(PAIRS), 7))
        self.verdicts = {pair: chance.choice(VERDICTS) for pair in chance.sample(range(PAIRS), 20)}
        self.values: dict[int, float] = {}
        for pair in range(PAIRS):
            # Values repeat, and some are none: ties and gaps are where quantiles go wrong.
            value = chance.choice([math.nan, math.inf, *range(-6, 6)])
            factories.score(session, self.run_id, pair, float(value), ln_ches=float(value))
            if math.isfinite(value):
                self.values[pair] = float(value)
        self.issues = {
            kind: set(chance.sample(range(PAIRS), chance.randrange(9))) for kind in ISSUES
        }
        for kind, pairs in self.issues.items():
            for pair in pairs:
                session.add(PairIssue(dataset_id=self.dataset_id, issue=kind, pair=pair))
                session.add(PairIssue(dataset_id=other.id, issue=kind, pair=PAIRS - 1 - pair))
        for pair in self.flagged:
            self._flag(self.dataset_id, pair)
        for pair, verdict in self.verdicts.items():
            session.add(Review(dataset_id=self.dataset_id, pair=pair, verdict=verdict, version=1))
        # What another dataset's reviewers said must not matter here.
        for pair in range(PAIRS):
            self._flag(other.id, pair)
            session.add(Review(dataset_id=other.id, pair=pair, verdict="drop", version=1))
        # A verdict that was withdrawn is none.
        untouched = next(pair for pair in range(PAIRS) if pair not in self.verdicts)
        session.add(Review(dataset_id=self.dataset_id, pair=untouched, verdict=None, version=2))
        session.commit()

    def _flag(self, dataset_id: int, pair: int) -> None:
        self.session.add(
            Flag(
                dataset_id=dataset_id,
                pair=pair,
                score_run=self.run_id,
                measure="ches",
                value=0.0,
            )
        )

    def select(self, selection: Rules) -> list[int]:
        return list(self.session.scalars(selected(self.dataset_id, selection)))

    def by_hand(self, rules: Rules) -> list[int]:
        left = {pair for pair in range(PAIRS) if self.passes(pair, rules)}
        for rule in rules.measures:
            left &= set(self.at_one_end(rule))
        return sorted(set(range(PAIRS)) - left if rules.complement else left)

    def passes(self, pair: int, rules: Rules) -> bool:
        verdict = self.verdicts.get(pair)
        return (
            (rules.pairs is None or pair in rules.pairs)
            and not (rules.exclude_flagged and pair in self.flagged)
            and verdict not in rules.exclude_verdicts
            and (not rules.only_verdicts or verdict in rules.only_verdicts)
            and not self.has_issue(pair, rules.exclude_issues)
            and (not rules.only_issues or self.has_issue(pair, rules.only_issues))
        )

    def has_issue(self, pair: int, kinds: Sequence[IssueKind]) -> bool:
        return any(pair in self.issues[kind] for kind in kinds)

    def at_one_end(self, rule: MeasureRule) -> list[int]:
        sign = 1 if rule.keep == "lowest" else -1
        if rule.threshold is not None:
            limit = sign * rule.threshold
            return [pair for pair, value in self.values.items() if sign * value <= limit]
        assert rule.fraction is not None
        ordered = sorted(self.values, key=lambda pair: (sign * self.values[pair], pair))
        return ordered[: math.ceil(round(rule.fraction * len(ordered), 6))]


@pytest.fixture
def known(session: Session) -> Iterator[Known]:
    yield Known(session)
    session.rollback()


some_issues = st.lists(st.sampled_from(list(ISSUES)), unique=True, max_size=3)
some_verdicts = st.lists(st.sampled_from(VERDICTS), unique=True, max_size=3)
fractions = st.floats(0.01, 1)


@st.composite
def all_rules(draw: st.DrawFn) -> dict[str, Any]:
    measures = []
    for _ in range(draw(st.integers(0, 2))):
        by_share = draw(st.booleans())
        measures.append(
            {
                "score_run": 1,
                "measure": draw(st.sampled_from(["ches", "ln_ches"])),
                "keep": draw(st.sampled_from(["lowest", "highest"])),
                **(
                    {"fraction": draw(fractions)}
                    if by_share
                    else {"threshold": draw(st.floats(-7, 7))}
                ),
            }
        )
    return {
        "pairs": draw(st.none() | st.lists(st.integers(0, PAIRS + 3), max_size=40)),
        "exclude_flagged": draw(st.booleans()),
        "exclude_verdicts": draw(some_verdicts),
        "only_verdicts": draw(some_verdicts),
        "exclude_issues": draw(some_issues),
        "only_issues": draw(some_issues),
        "measures": measures,
        "complement": draw(st.booleans()),
    }


repeatedly = settings(
    max_examples=60,
    deadline=None,
    # Nothing that an example does stays in the database.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@repeatedly
@given(rules=all_rules())
def test_rules_leave_what_they_say(known: Known, rules: dict[str, Any]) -> None:
    for rule in rules["measures"]:
        rule["score_run"] = known.run_id
    checked = Rules.model_validate(rules)
    expected = known.by_hand(checked)
    assert known.select(checked) == expected
    assert count_selected(known.session, known.dataset_id, checked) == len(expected)


@repeatedly
@given(rules=all_rules())
def test_rules_and_their_complement_divide_the_dataset(known: Known, rules: dict[str, Any]) -> None:
    for rule in rules["measures"]:
        rule["score_run"] = known.run_id
    ours = known.select(Rules.model_validate({**rules, "complement": False}))
    theirs = known.select(Rules.model_validate({**rules, "complement": True}))
    assert sorted([*ours, *theirs]) == list(range(PAIRS))


@repeatedly
@given(rules=all_rules(), seed=st.integers(0, 2**32 - 1), fraction=fractions)
def test_a_random_control_is_of_the_same_size(
    known: Known, rules: dict[str, Any], seed: int, fraction: float
) -> None:
    for rule in rules["measures"]:
        rule["score_run"] = known.run_id
    like = Rules.model_validate(rules)
    control = Selection(random=RandomSubset(same_size_as=like, seed=seed))
    drawn = known.select(control)
    assert len(drawn) == len(known.by_hand(like))
    assert drawn == sorted(set(drawn)) == known.select(control)
    # Within the rules: a share of what they leave, and nothing else.
    within = Selection.model_validate({**rules, "random": {"fraction": fraction, "seed": seed}})
    some = known.select(within)
    assert set(some) <= set(known.by_hand(like))
    assert len(some) == math.ceil(round(fraction * len(known.by_hand(like)), 6))


@repeatedly
@given(seed=st.integers(0, 1000), few=st.integers(1, PAIRS), more=st.integers(1, PAIRS))
def test_fewer_pairs_of_a_seed_are_a_part_of_more(
    known: Known, seed: int, few: int, more: int
) -> None:
    few, more = sorted((few, more))
    small = known.select(Selection(random=RandomSubset(count=few, seed=seed)))
    large = known.select(Selection(random=RandomSubset(count=more, seed=seed)))
    assert len(small) == few
    assert set(small) <= set(large)


def test_seeds_draw_different_pairs(known: Known) -> None:
    drawn = {
        tuple(known.select(Selection(random=RandomSubset(count=10, seed=seed))))
        for seed in range(20)
    }
    assert len(drawn) == 20


def test_a_limit_takes_the_first(known: Known) -> None:
    assert (
        known.select(Selection(exclude_verdicts=["drop"], limit=4))
        == (known.by_hand(Rules(exclude_verdicts=["drop"]))[:4])
    )


def test_the_papers_strictest_filter_keeps_the_lowest_five_percent(session: Session) -> None:
    dataset = factories.dataset(session, 100)
    run = factories.run(session, dataset.id, kind="score", status="succeeded")
    for pair in range(100):
        factories.score(session, run.id, pair, ches=0.0, ln_ches=float(-pair))
    session.commit()
    rule = MeasureRule(score_run=run.id, measure="ln_ches", keep="lowest", fraction=0.05)
    chosen = list(session.scalars(selected(dataset.id, Selection(measures=[rule]))))
    assert chosen == [95, 96, 97, 98, 99]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({}, ""),
        ({"exclude_flagged": True}, "without flagged"),
        (
            {"exclude_verdicts": ["drop", "unsure"], "limit": 1000},
            "without verdict drop or unsure; the first 1,000",
        ),
        (
            {"measures": [{"score_run": 3, "keep": "lowest", "fraction": 0.05}]},
            "with the lowest 5 % of length-normalized CHES of run 3",
        ),
        (
            {"random": {"same_size_as": {"exclude_flagged": True}, "seed": 2}},
            "as many as are left without flagged, at random (seed 2)",
        ),
        ({"exclude_flagged": True, "complement": True}, "all but those without flagged"),
        (
            {"exclude_issues": ["duplicate", "scores_tied"], "only_issues": ["long"]},
            "without “repeated pairs” or “scored alike”, with “over-long pairs”",
        ),
    ],
)
def test_a_selection_in_words(selection: dict[str, Any], words: str) -> None:
    assert selection_text(Selection.model_validate(selection)) == words


class TestPreview:
    def test_counts_and_shows_both_kinds(self, known: Known, client: "TestClient") -> None:
        selection = {"exclude_verdicts": ["drop"]}
        answer = client.post(f"/api/v1/datasets/{known.dataset_id}/selection", json=selection)
        expected = known.by_hand(Rules.model_validate(selection))
        found = answer.json()
        assert (found["total"], found["count"]) == (PAIRS, len(expected))
        assert found["left_out"] == PAIRS - len(expected)
        assert [item["pair"] for item in found["sample"]] == expected[:5]
        for item in found["sample_left_out"]:
            assert known.verdicts[item["pair"]] == "drop"

    @pytest.mark.parametrize("rule", ["exclude_issues", "only_issues"])
    def test_refuses_issues_that_were_not_looked_for(
        self, session: Session, client: "TestClient", rule: str
    ) -> None:
        earlier = {"issues": {"duplicate": 0, "contradiction": 0, "long": 0}}
        dataset_id = factories.dataset(session, 3, statistics=earlier).id
        session.commit()
        address = f"/api/v1/datasets/{dataset_id}/selection"
        assert client.post(address, json={rule: ["duplicate"]}).status_code == 200
        answer = client.post(address, json={rule: ["duplicate", "no_end"]})
        assert answer.status_code == 422
        assert [item["field"] for item in answer.json()["errors"]] == [rule]
        assert "“Ends in mid-sentence”" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("selection", "field"),
        [
            ({"pairs": [PAIRS]}, "pairs"),
            ({"measures": [{"score_run": 999, "fraction": 0.5}]}, "measures.0.score_run"),
            ({"measures": [{"score_run": 1}]}, "measures.0"),
            ({"measures": [{"score_run": 1, "fraction": 2}]}, "measures.0.fraction"),
            ({"random": {"count": 1, "fraction": 0.5}}, "random"),
            ({"random": {"same_size_as": {"pairs": [99]}}}, "random.same_size_as.pairs"),
            ({"exclude_verdicts": ["maybe"]}, "exclude_verdicts.0"),
            ({"exclude_issues": ["ugly"]}, "exclude_issues.0"),
        ],
    )
    def test_names_the_field_that_is_wrong(
        self, known: Known, client: "TestClient", selection: dict[str, Any], field: str
    ) -> None:
        answer = client.post(f"/api/v1/datasets/{known.dataset_id}/selection", json=selection)
        assert answer.status_code == 422
        assert [item["field"] for item in answer.json()["errors"]] == [field]

    def test_of_no_dataset(self, client: "TestClient") -> None:
        assert client.post("/api/v1/datasets/9/selection", json={}).status_code == 404


def start(client: "TestClient", dataset_id: int, selection: dict[str, Any], **settings: Any) -> Any:
    config = {"selection": selection, **settings}
    body = {"kind": "train", "dataset_id": dataset_id, "config": config}
    return client.post("/api/v1/runs", json=body)


@pytest.fixture
def any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.runs.requests.check_model_exists", lambda *_: None)


@pytest.mark.usefixtures("any_model")
class TestRuns:
    def test_a_run_keeps_its_pairs_whatever_is_said_later(
        self, known: Known, client: "TestClient"
    ) -> None:
        selection = {"exclude_verdicts": ["drop"], "exclude_flagged": True}
        expected = known.by_hand(Rules.model_validate(selection))
        run = start(client, known.dataset_id, selection).json()
        # Everything is dropped, and one text is edited, before a worker takes the run.
        everything = {"filter": {}, "verdict": "drop", "expected_count": PAIRS}
        reviews = f"/api/v1/datasets/{known.dataset_id}/reviews"
        assert client.post(f"{reviews}/bulk", json=everything).status_code == 200
        pair = f"/api/v1/datasets/{known.dataset_id}/pairs/{expected[0]}"
        edited = client.patch(pair, json={"preferred": "No, it is not.", "version": 1})
        assert edited.status_code == 200, edited.text
        given = chosen_pairs(
            known.session, run["id"], known.dataset_id, Selection.model_validate(selection)
        )
        assert [pair.pair for pair in given] == expected
        assert given[0].preferred == "No"
        assert known.session.get_one(Pair, (known.dataset_id, expected[0])).preferred == (
            "No, it is not."
        )
        found = client.get(f"/api/v1/runs/{run['id']}/pairs").json()
        assert (found["pairs"], found["total"], found["edited"]) == (expected, len(expected), 1)
        assert found["words"] == "without flagged, without verdict drop"

    def test_a_new_run_trains_on_the_edited_text(self, known: Known, client: "TestClient") -> None:
        pair = f"/api/v1/datasets/{known.dataset_id}/pairs/4"
        client.patch(pair, json={"preferred": "New", "version": 1})
        run = start(client, known.dataset_id, {"pairs": [4]}).json()
        client.patch(pair, json={"preferred": "Newer", "version": 2})
        given = chosen_pairs(known.session, run["id"], known.dataset_id, Selection(pairs=[4]))
        assert [pair.preferred for pair in given] == ["New"]

    def test_a_run_without_a_record_is_given_its_pairs_at_its_start(self, known: Known) -> None:
        # As a run that was queued by an earlier version of the program.
        run = factories.run(known.session, known.dataset_id)
        for verdict in ("keep", "drop"):
            given = chosen_pairs(
                known.session, run.id, known.dataset_id, Selection(pairs=[0], limit=1)
            )
            assert [pair.pair for pair in given] == [0]
            known.session.merge(
                Review(dataset_id=known.dataset_id, pair=0, verdict=verdict, version=9)
            )

    def test_what_is_compared_differs_in_the_pairs_alone_or_in_what_is_watched(
        self, known: Known, client: "TestClient"
    ) -> None:
        everything = start(client, known.dataset_id, {}, probes={"pairs": [1]}).json()
        filtered = start(client, known.dataset_id, {"exclude_flagged": True}).json()
        body = {
            "kind": "train",
            "dataset_id": known.dataset_id,
            "config": {"beta": 0.5, "selection": {"limit": 3}},
        }
        assert client.post("/api/v1/runs", json=body).status_code == 201
        start(client, known.dataset_id, {"exclude_flagged": True})
        found = client.get(f"/api/v1/runs/{filtered['id']}/pairs").json()["alike"]
        assert [(run["run_id"], run["pairs"]) for run in found] == [(everything["id"], PAIRS)]

    def test_wrong_score_runs_are_refused_by_name(self, known: Known, client: "TestClient") -> None:
        other = factories.dataset(known.session, 1, name="elsewhere")
        elsewhere = factories.run(known.session, other.id, kind="score", status="succeeded")
        waiting = factories.run(known.session, known.dataset_id, kind="score", status="queued")
        training = factories.run(known.session, known.dataset_id)
        evaluation = factories.run(
            known.session, known.dataset_id, kind="evaluate", status="succeeded"
        )
        known.session.commit()
        for run in (elsewhere, waiting, training, evaluation):
            answer = start(
                client,
                known.dataset_id,
                {"measures": [{"score_run": run.id, "fraction": 0.5}]},
            )
            assert answer.status_code == 422
            [error] = answer.json()["errors"]
            assert error["field"] == "config.selection.measures.0.score_run"
            assert f"Run {run.id}" in error["message"]


MANY = 30_000


def many_pairs(session: Session) -> int:
    """A dataset of MANY pairs. Statements may take 2 s from here on: a comparison of all pairs with
    all takes a multiple."""
    dataset = factories.dataset(session, pairs=1, statistics=CHECKED)
    dataset.pairs = MANY
    columns = [column.name for column in Pair.__table__.columns]
    session.execute(
        text(
            f"INSERT INTO pairs ({', '.join(columns)}) "
            f"SELECT {', '.join('n' if name == 'pair' else name for name in columns)} "
            "FROM pairs, generate_series(1, :last) AS n WHERE dataset_id = :id"
        ),
        {"id": dataset.id, "last": MANY - 1},
    )
    session.execute(text("SET LOCAL statement_timeout = '2s'"))
    return dataset.id


def test_a_run_is_given_its_pairs_at_once_though_the_planner_does_not_know_of_them(
    session: Session,
) -> None:
    factories.dataset(session, pairs=30)
    session.execute(text("ANALYZE pairs"))
    dataset_id = many_pairs(session)
    run = factories.run(session, dataset_id)
    given = record_selection(session, run.id, dataset_id, Selection())
    assert given is not None
    assert (given.pairs[0], given.pairs[-1], len(given.pairs)) == (0, MANY - 1, MANY)
    assert set(given.versions) == {1}


def test_what_is_left_out_of_many_pairs_is_found_though_they_do_not_fit_into_memory(
    session: Session,
) -> None:
    dataset_id = many_pairs(session)
    run = factories.run(session, dataset_id, kind="score", status="succeeded")
    session.execute(
        text(
            "INSERT INTO flags (dataset_id, pair, score_run, measure, value) "
            "SELECT dataset_id, pair, :run, 'ches', 0 FROM pairs WHERE dataset_id = :id"
        ),
        {"id": dataset_id, "run": run.id},
    )
    session.execute(text("ANALYZE pairs, flags"))
    session.execute(text("SET LOCAL work_mem = '64kB'"))
    everything = preview(session, dataset_id, Selection())
    assert (everything.count, everything.sample_left_out) == (MANY, [])
    assert [pair.pair for pair in everything.sample] == list(range(SAMPLE))
    nothing = preview(session, dataset_id, Selection(exclude_flagged=True))
    assert (nothing.count, nothing.sample) == (0, [])
    queue = filtered(session, dataset_id, QueueFilter(flagged=False))
    assert session.scalars(queue).all() == []
