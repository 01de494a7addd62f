"""Verdicts by several people at once, their history, and the queue that they work through."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.errors import ConflictError
from app.reviews import bulk, verdicts
from app.reviews.agreement import cohens_kappa
from app.reviews.percentiles import percentile
from app.reviews.schemas import BulkRequest, QueueFilter, ReviewRequest
from app.store.datasets import Dataset, PairIssue
from app.store.issues import CHECKS, CHECKS_KEY
from app.store.reviews import Review, ReviewChange
from app.store.runs import ReferenceLogprob
from tests.app import factories

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

PAIRS = 12


class Reviewing:
    """One dataset and the calls of its reviewers."""

    def __init__(self, client: "TestClient", dataset_id: int) -> None:
        self.client = client
        self.dataset_id = dataset_id
        self.root = f"/api/v1/datasets/{dataset_id}"

    def decide(self, pair: int, verdict: str, **more: Any) -> Any:
        return self.client.put(
            f"{self.root}/pairs/{pair}/review", json={"verdict": verdict, **more}
        )

    def undo(self, pair: int, **more: Any) -> Any:
        return self.client.post(f"{self.root}/pairs/{pair}/review/undo", json=more)

    def edit(self, pair: int, version: int = 1, **texts: Any) -> Any:
        return self.client.patch(f"{self.root}/pairs/{pair}", json={"version": version, **texts})

    def review(self, pair: int) -> tuple[str | None, str | None, str | None, int]:
        found = self.client.get(f"{self.root}/pairs/{pair}/review").json()
        return found["verdict"], found["note"], found["reviewer"], found["version"]

    def history(self, pair: int) -> dict[str, Any]:
        return self.client.get(f"{self.root}/pairs/{pair}/review/history").json()

    def queue(self, **query: Any) -> list[int]:
        """The pairs of the queue; its order and its pages must say the same."""
        order = self.client.get(f"{self.root}/reviews/order", params=query)
        assert order.status_code == 200, order.text
        page = self.client.get(f"{self.root}/reviews", params={**query, "limit": 200}).json()
        pairs: list[int] = order.json()["pairs"]
        assert [item["pair"] for item in page["items"]] == pairs
        assert page["total"] == order.json()["total"] == len(pairs)
        return pairs

    def bulk(self, verdict: str, expected: int, **filter: Any) -> Any:
        wanted = {"filter": filter, "verdict": verdict, "expected_count": expected}
        return self.client.post(f"{self.root}/reviews/bulk", json={**wanted, "reviewer": "Ann"})

    def progress(self) -> dict[str, Any]:
        return self.client.get(f"{self.root}/reviews/progress").json()


@pytest.fixture
def reviewing(session: Session, client: "TestClient") -> Reviewing:
    dataset = factories.dataset(session, PAIRS)
    session.commit()
    return Reviewing(client, dataset.id)


@pytest.fixture
def scored(session: Session, reviewing: Reviewing) -> int:
    """A score run in which CHES rises with the pair; the last pair has none."""
    run = factories.run(session, reviewing.dataset_id, kind="score", status="succeeded")
    for pair in range(PAIRS):
        factories.score(session, run.id, pair, float(pair) if pair < PAIRS - 1 else float("nan"))
    session.commit()
    return run.id


class TestVerdicts:
    def test_a_pair_has_none_at_first(self, reviewing: Reviewing) -> None:
        assert reviewing.review(3) == (None, None, None, 0)

    def test_is_given_with_a_note_and_a_name(self, reviewing: Reviewing) -> None:
        answer = reviewing.decide(3, "drop", note="  the same answer ", reviewer="Ann")
        assert answer.status_code == 200
        assert answer.headers["ETag"] == '"1"'
        assert reviewing.review(3) == ("drop", "the same answer", "Ann", 1)

    def test_the_note_stays_unless_another_is_given(self, reviewing: Reviewing) -> None:
        reviewing.decide(3, "drop", note="first", reviewer="Ann")
        reviewing.decide(3, "keep", reviewer="Ann")
        assert reviewing.review(3)[:2] == ("keep", "first")
        reviewing.decide(3, "keep", note="", reviewer="Ann")
        assert reviewing.review(3)[:2] == ("keep", None)

    def test_the_same_again_changes_nothing(self, reviewing: Reviewing) -> None:
        for _ in range(3):
            # As a browser does that never got the answer, with the version that it had.
            assert reviewing.decide(3, "drop", reviewer="Ann", version=0).status_code == 200
        assert len(reviewing.history(3)["items"]) == 1

    @pytest.mark.parametrize("how", ["body", "header", "not at all"])
    def test_of_another_is_never_overwritten_unseen(self, reviewing: Reviewing, how: str) -> None:
        reviewing.decide(3, "drop", note="same answer", reviewer="Ann")
        path = f"{reviewing.root}/pairs/3/review"
        body: dict[str, Any] = {"verdict": "keep", "reviewer": "Ben"}
        headers = {"If-Match": '"0"'} if how == "header" else {}
        if how == "body":
            body["version"] = 0
        answer = reviewing.client.put(path, json=body, headers=headers)
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert "Ann" in problem["detail"]
        assert "same answer" in problem["detail"]
        current = problem["current"]
        assert (current["verdict"], current["reviewer"], current["version"]) == ("drop", "Ann", 1)
        assert reviewing.review(3) == ("drop", "same answer", "Ann", 1)
        # Now that it was seen, it may be overruled.
        assert reviewing.decide(3, "keep", reviewer="Ben", version=1).status_code == 200

    def test_withdrawn_leaves_its_history(self, reviewing: Reviewing) -> None:
        path = f"{reviewing.root}/pairs/3/review"
        assert reviewing.client.delete(path).status_code == 409
        reviewing.decide(3, "drop", reviewer="Ann")
        assert reviewing.client.delete(path, params={"version": 0}).status_code == 409
        answer = reviewing.client.delete(path, params={"version": 1, "reviewer": "Ann"})
        assert answer.json()["verdict"] is None
        assert reviewing.review(3) == (None, None, "Ann", 2)
        # The version goes on, so that a page which still shows the old one is found out.
        assert reviewing.decide(3, "keep", version=1).status_code == 409
        actions = [item["action"] for item in reviewing.history(3)["items"]]
        assert actions == ["clear", "set"]

    @pytest.mark.parametrize(
        ("pair", "body", "status"),
        [
            (PAIRS, {"verdict": "keep"}, 404),
            (2**40, {"verdict": "keep"}, 404),
            (0, {"verdict": "maybe"}, 422),
            (0, {}, 422),
            (0, {"verdict": "keep", "note": "x" * 5000}, 422),
            (0, {"verdict": "keep", "note": "\x00"}, 422),
            (0, {"verdict": "keep", "reviewer": "\ud800"}, 422),
            (0, {"verdict": "keep", "version": -1}, 422),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, reviewing: Reviewing, pair: int, body: dict[str, Any], status: int
    ) -> None:
        answer = reviewing.client.put(
            f"{reviewing.root}/pairs/{pair}/review",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == status

    def test_an_if_match_that_is_no_version_is_refused(self, reviewing: Reviewing) -> None:
        path = f"{reviewing.root}/pairs/0/review"
        answer = reviewing.client.put(path, json={"verdict": "keep"}, headers={"If-Match": "*"})
        assert answer.status_code == 422


class TestUndo:
    def test_takes_back_one_change_after_the_other(self, reviewing: Reviewing) -> None:
        reviewing.decide(3, "keep", reviewer="Ann")
        reviewing.decide(3, "drop", note="on second thought", reviewer="Ann")
        reviewing.decide(3, "unsure", reviewer="Ann")
        states = []
        for _ in range(3):
            assert reviewing.undo(3, reviewer="Ann").status_code == 200
            states.append(reviewing.review(3)[:3])
        assert states == [
            ("drop", "on second thought", "Ann"),
            ("keep", None, "Ann"),
            (None, None, None),
        ]
        assert reviewing.undo(3).status_code == 409
        items = reviewing.history(3)["items"]
        assert [item["version"] for item in items] == [6, 5, 4, 3, 2, 1]
        assert [item["undone_by"] for item in items] == [None, None, None, 4, 5, 6]

    def test_goes_on_from_what_was_decided_after_an_undo(self, reviewing: Reviewing) -> None:
        reviewing.decide(3, "keep")
        reviewing.decide(3, "drop")
        reviewing.undo(3)
        reviewing.decide(3, "unsure")
        reviewing.undo(3)
        assert reviewing.review(3)[0] == "keep"

    def test_of_what_another_did_meanwhile_is_refused(self, reviewing: Reviewing) -> None:
        version = reviewing.decide(3, "drop", reviewer="Ann").json()["version"]
        reviewing.decide(3, "keep", reviewer="Ben", version=version)
        answer = reviewing.undo(3, reviewer="Ann", version=version)
        assert answer.status_code == 409
        assert answer.json()["current"]["reviewer"] == "Ben"
        assert reviewing.review(3)[0] == "keep"

    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        steps=st.lists(st.sampled_from(["keep", "drop", "fix", "unsure", "undo"]), max_size=12),
        pair=st.integers(0, PAIRS - 1),
    )
    def test_is_what_a_stack_would_do(
        self, reviewing: Reviewing, steps: list[str], pair: int
    ) -> None:
        # Whatever earlier examples left on this pair lies below.
        while reviewing.undo(pair).status_code == 200:
            pass
        stack: list[str] = []
        for step in steps:
            if step == "undo":
                assert reviewing.undo(pair).is_success == bool(stack)
                stack = stack[:-1]
            elif not stack or stack[-1] != step:
                reviewing.decide(pair, step)
                stack.append(step)
            assert reviewing.review(pair)[0] == (stack[-1] if stack else None)


class TestEditing:
    def test_makes_a_new_version_and_keeps_the_old_one(self, reviewing: Reviewing) -> None:
        answer = reviewing.edit(3, preferred="No, it is not.", reviewer="Ann", note="too short")
        item = answer.json()
        assert (item["text_version"], item["preferred"]) == (2, "No, it is not.")
        assert item["dispreferred"] == "Never"
        assert reviewing.review(3) == ("fix", "too short", "Ann", 1)
        texts = reviewing.history(3)["texts"]
        assert [(text["version"], text["preferred"], text["reviewer"]) for text in texts] == [
            (2, "No, it is not.", "Ann"),
            (1, "No", None),
        ]

    def test_shows_wherever_the_pair_is_used(self, reviewing: Reviewing) -> None:
        reviewing.edit(0, prompt=[{"role": "user", "content": "Is it?"}])
        listed = reviewing.client.get(f"{reviewing.root}/pairs?limit=1").json()["items"][0]
        assert listed["prompt"] == [{"role": "user", "content": "Is it?"}]
        exported = reviewing.client.get(f"{reviewing.root}/export").text.splitlines()[0]
        assert json.loads(exported)["prompt"] == [{"role": "user", "content": "Is it?"}]

    def test_of_a_text_that_another_edited_is_refused(self, reviewing: Reviewing) -> None:
        reviewing.edit(3, preferred="Ann's", reviewer="Ann")
        answer = reviewing.edit(3, preferred="Ben's", reviewer="Ben")
        assert answer.status_code == 409
        assert answer.json()["current"]["preferred"] == "Ann's"
        assert reviewing.edit(3, version=2, preferred="Ben's", reviewer="Ben").status_code == 200

    def test_undone_brings_the_old_text_back(self, reviewing: Reviewing) -> None:
        reviewing.decide(3, "unsure")
        reviewing.edit(3, preferred="New")
        reviewing.undo(3)
        item = reviewing.client.get(f"{reviewing.root}/pairs/3").json()
        assert (item["preferred"], item["review"]["verdict"]) == ("No", "unsure")
        # As a version of its own: what was undone can be read, too.
        texts = reviewing.history(3)["texts"]
        assert [text["preferred"] for text in texts] == ["No", "New", "No"]

    @pytest.mark.parametrize(
        ("texts", "field"),
        [
            ({"preferred": " "}, "preferred"),
            ({"dispreferred": "\x00"}, "dispreferred"),
            ({"preferred": "Never"}, "dispreferred"),
            ({"prompt": ""}, "prompt"),
            ({"prompt": []}, "prompt"),
            ({"prompt": [{"role": "user"}]}, "prompt"),
            ({"prompt": [{"role": "", "content": "x"}]}, "prompt"),
            ({"prompt": [{"role": "user", "content": ["x"]}]}, "prompt"),
            ({"prompt": [{"role": "user", "content": "x", "name": "y"}]}, "prompt"),
            ({}, "preferred"),
        ],
    )
    def test_that_leaves_no_usable_pair_is_refused(
        self, reviewing: Reviewing, texts: dict[str, Any], field: str
    ) -> None:
        answer = reviewing.edit(3, **texts)
        assert answer.status_code == 422
        assert [item["field"] for item in answer.json()["errors"]] == [field]
        assert reviewing.review(3)[3] == 0

    def test_says_that_the_scores_are_of_the_old_text(
        self, reviewing: Reviewing, scored: int
    ) -> None:
        def outdated() -> bool:
            item = reviewing.client.get(f"{reviewing.root}/pairs/3").json()
            assert item["score"]["run_id"] == scored
            return item["score"]["outdated"]

        assert not outdated()
        reviewing.edit(3, preferred="New")
        assert outdated()


class TestSeveralAtOnce:
    """Threads against PostgreSQL, each with a connection of its own."""

    def test_of_two_who_saw_the_same_one_is_told(self, reviewing: Reviewing) -> None:
        start = Barrier(2)

        def decide(name: str) -> str | None:
            start.wait()
            with transaction() as session:
                wanted = ReviewRequest(verdict="keep", reviewer=name, version=0)
                try:
                    verdicts.decide(session, reviewing.dataset_id, 0, wanted)
                except ConflictError as error:
                    return str(error.members["current"]["reviewer"])
            return None

        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(decide, ["Ann", "Ben"]))
        winner = reviewing.review(0)[2]
        assert winner is not None
        assert sorted(map(str, told)) == sorted(["None", winner])
        assert told[["Ann", "Ben"].index(winner)] is None

    def test_nothing_that_was_said_is_lost(self, reviewing: Reviewing) -> None:
        """Eight reviewers over all pairs; who is refused looks again and insists."""
        names = [f"Reviewer {number}" for number in range(8)]

        def review_all(name: str) -> None:
            for pair in range(PAIRS):
                seen = 0
                while True:
                    with transaction() as session:
                        wanted = ReviewRequest(
                            verdict="drop", note=name, reviewer=name, version=seen
                        )
                        try:
                            verdicts.decide(session, reviewing.dataset_id, pair, wanted)
                            break
                        except ConflictError as error:
                            seen = error.members["current"]["version"]
                            session.rollback()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(review_all, names))
        for pair in range(PAIRS):
            items = reviewing.history(pair)["items"]
            assert sorted(item["reviewer"] for item in items) == names
            assert [item["version"] for item in items] == list(range(8, 0, -1))
            assert reviewing.review(pair)[2:] == (items[0]["reviewer"], 8)

    def test_many_at_once_wait_for_one_another(self, reviewing: Reviewing) -> None:
        start = Barrier(4)

        def drop_the_rest(number: int) -> int:
            start.wait()
            with transaction() as session:
                wanted = BulkRequest(
                    filter=QueueFilter(verdict=["none"]),
                    verdict="drop",
                    reviewer=str(number),
                    expected_count=PAIRS,
                )
                try:
                    return bulk.decide_many(session, reviewing.dataset_id, wanted).pairs
                except ConflictError as error:
                    session.rollback()
                    return -int(error.members["count"])

        with ThreadPoolExecutor(4) as pool:
            changed = sorted(pool.map(drop_the_rest, range(4)))
        # One does it; the others find that nothing is left of what their users confirmed.
        assert changed == [0, 0, 0, PAIRS]
        assert all(reviewing.review(pair)[3] == 1 for pair in range(PAIRS))


class TestManyAtOnce:
    def test_gives_one_verdict_to_what_the_filter_leaves(self, reviewing: Reviewing) -> None:
        reviewing.decide(0, "keep", note="good", reviewer="Ben")
        answer = reviewing.bulk("drop", 3, pairs=[0, 4, 5])
        assert answer.status_code == 200, answer.text
        assert (answer.json()["pairs"], answer.json()["filter"]) == (3, {"pairs": [0, 4, 5]})
        assert reviewing.review(0) == ("drop", "good", "Ann", 2)
        assert reviewing.review(4) == ("drop", None, "Ann", 1)
        assert reviewing.queue(verdict="drop") == [0, 4, 5]

    @pytest.mark.parametrize("expected", [2, 4])
    def test_refuses_another_number_than_was_confirmed(
        self, reviewing: Reviewing, expected: int
    ) -> None:
        answer = reviewing.bulk("drop", expected, pairs=[0, 4, 5])
        assert answer.status_code == 409
        assert answer.json()["count"] == 3
        assert reviewing.progress()["reviewed"] == 0

    def test_is_undone_as_one(self, reviewing: Reviewing) -> None:
        reviewing.decide(0, "keep", note="good", reviewer="Ben")
        reviewing.decide(1, "unsure", reviewer="Ben")
        batch = reviewing.bulk("drop", PAIRS).json()["id"]
        # What is decided anew afterwards is no longer the batch's.
        reviewing.decide(5, "keep", reviewer="Ben", version=1)
        path = f"{reviewing.root}/reviews/batches/{batch}/undo"
        undone = reviewing.client.post(path, params={"reviewer": "Ann"}).json()
        assert (undone["undone"], undone["kept"]) == (PAIRS - 1, 1)
        assert reviewing.review(0) == ("keep", "good", "Ben", 3)
        assert reviewing.review(1) == ("unsure", None, "Ben", 3)
        assert reviewing.review(2) == (None, None, None, 2)
        assert reviewing.review(5) == ("keep", None, "Ben", 2)
        assert [item["action"] for item in reviewing.history(0)["items"]] == [
            "undo",
            "bulk",
            "set",
        ]
        assert reviewing.client.post(path).status_code == 409
        [listed] = reviewing.client.get(f"{reviewing.root}/reviews/batches").json()["items"]
        assert listed["undone_at"] is not None
        # One at a time goes on below it.
        assert reviewing.undo(0, reviewer="Ben").is_success
        assert reviewing.review(0)[0] is None

    def test_of_another_dataset_is_not_undone(self, reviewing: Reviewing, session: Session) -> None:
        batch = reviewing.bulk("drop", PAIRS).json()["id"]
        other = factories.dataset(session, 1, name="other")
        session.commit()
        path = f"/api/v1/datasets/{other.id}/reviews/batches/{batch}/undo"
        assert reviewing.client.post(path).status_code == 404

    def test_leaves_other_datasets_alone(self, reviewing: Reviewing, session: Session) -> None:
        other = factories.dataset(session, PAIRS, name="other")
        session.commit()
        theirs = Reviewing(reviewing.client, other.id)
        theirs.decide(0, "keep")
        batch = reviewing.bulk("drop", PAIRS).json()["id"]
        assert theirs.review(0)[0] == "keep"
        theirs.bulk("unsure", PAIRS)
        reviewing.client.post(f"{reviewing.root}/reviews/batches/{batch}/undo")
        assert theirs.progress()["verdicts"]["unsure"] == PAIRS
        assert reviewing.progress()["reviewed"] == 0


class TestQueue:
    def test_is_sorted_by_a_measure_with_its_percentile(
        self, reviewing: Reviewing, scored: int
    ) -> None:
        assert reviewing.queue(sort="-ches") == [*range(PAIRS - 2, -1, -1), PAIRS - 1]
        page = reviewing.client.get(f"{reviewing.root}/reviews", params={"sort": "-ches"}).json()
        assert page["score_run"] == scored
        first, last = page["items"][0]["score"], page["items"][-1]["score"]
        assert first["measures"]["ches"] == {"value": PAIRS - 2, "percentile": 100}
        assert "ches" not in last["measures"]
        middle = reviewing.client.get(f"{reviewing.root}/pairs/5").json()["score"]
        assert middle["measures"]["ches"]["percentile"] == 50

    def test_is_narrowed_by_verdict_flag_and_measure(
        self, reviewing: Reviewing, scored: int
    ) -> None:
        flags = {"score_run": scored, "measure": "ches", "top_fraction": 0.25}
        reviewing.client.post(f"{reviewing.root}/flags", json=flags)
        assert reviewing.queue(flagged=True) == [8, 9, 10]
        reviewing.decide(9, "drop", reviewer="Ann")
        reviewing.decide(1, "keep", reviewer="Ben")
        assert reviewing.queue(flagged=True, verdict="none") == [8, 10]
        assert reviewing.queue(verdict=["drop", "keep"]) == [1, 9]
        assert reviewing.queue(verdict=["none", "keep"], measure="ches", at_most=2) == [0, 1, 2]
        assert reviewing.queue(measure="ches", at_least=3, at_most=4, flagged=False) == [3, 4]
        assert reviewing.queue(reviewer="Ann") == [9]
        assert reviewing.queue(not_by="Ann", flagged=True) == [8, 10]
        reviewing.edit(2, preferred="New")
        assert reviewing.queue(edited=True) == [2]
        assert reviewing.queue(pairs=[7, 3, 7]) == [3, 7]
        assert reviewing.queue(sort="-updated_at")[:3] == [2, 1, 9]
        progress = reviewing.progress()
        assert (progress["flagged"], progress["flagged_reviewed"]) == (3, 1)
        assert (progress["reviewed"], progress["edited"]) == (3, 1)

    def test_is_narrowed_by_issues(self, reviewing: Reviewing, session: Session) -> None:
        dataset = session.get_one(Dataset, reviewing.dataset_id)
        assert reviewing.client.get(f"{reviewing.root}/reviews?issue=no_end").status_code == 422
        dataset.statistics = {CHECKS_KEY: {"version": CHECKS, "conventions": {}}}
        for kind, pair in (("no_end", 3), ("no_end", 7), ("long", 7), ("long", 9)):
            session.add(PairIssue(dataset_id=dataset.id, issue=kind, pair=pair))
        session.commit()
        assert reviewing.queue(issue="no_end") == [3, 7]
        assert reviewing.queue(issue=["no_end", "long"]) == [3, 7, 9]
        reviewing.decide(3, "drop")
        assert reviewing.queue(issue="no_end", verdict="none") == [7]
        assert reviewing.queue(issue="scores_tied") == []
        assert reviewing.bulk("drop", 2, issue=["long"]).status_code == 200
        assert reviewing.queue(verdict="drop") == [3, 7, 9]

    def test_shows_what_a_run_measured_of_a_pair(
        self, reviewing: Reviewing, session: Session
    ) -> None:
        run = factories.run(session, reviewing.dataset_id, status="succeeded")
        for pair, now in ((1, [-1.5, -0.5]), (4, [-0.5, 0.0])):
            factories.probe(session, run.id, pair)
            start = {"preferred_logprobs": [-0.5, -0.5], "dispreferred_logprobs": [-1.0, -1.0]}
            end = {"preferred_logprobs": now, "dispreferred_logprobs": [-4.0, -1.0]}
            factories.probe_step(session, run.id, pair, 0, **start)
            factories.probe_step(session, run.id, pair, 5, **start)
            factories.probe_step(session, run.id, pair, 10, **end)
        session.commit()
        assert reviewing.queue(displaced=True) == [1]
        assert reviewing.queue(displaced=False, displacement_run=run.id) == [4]
        assert reviewing.queue(sort="displacement")[:3] == [1, 4, 0]
        item = reviewing.client.get(f"{reviewing.root}/pairs/1").json()
        assert item["displacement"] == {
            "run_id": run.id,
            "preferred_change": -1.0,
            "dispreferred_change": -3.0,
            "displaced": True,
        }
        assert reviewing.client.get(f"{reviewing.root}/pairs/0").json()["displacement"] is None
        # After its last step a run measures all pairs that it trained on, which is more exact.
        after = {"final_preferred": -3.0, "final_dispreferred": -9.0}
        for pair in (1, 2):
            reference = ReferenceLogprob(
                run_id=run.id, pair=pair, preferred=-1.0, dispreferred=-2.0, **after
            )
            session.add(reference)
        session.commit()
        assert reviewing.queue(displaced=True) == [1, 2]
        assert reviewing.queue(displaced=False) == [4]
        item = reviewing.client.get(f"{reviewing.root}/pairs/1").json()
        assert item["displacement"]["preferred_change"] == -2.0

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"sort": "name"}, "sort"),
            ({"verdict": "maybe"}, "verdict.0"),
            ({"score_run": 99}, "score_run"),
            ({"displacement_run": 99}, "displacement_run"),
            ({"at_least": 1}, "measure"),
            ({"at_least": "nan", "measure": "ches"}, "at_least"),
            ({"displaced": True}, "displaced"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_names_what_is_wrong_with_a_filter(
        self, reviewing: Reviewing, query: dict[str, Any], field: str
    ) -> None:
        answer = reviewing.client.get(f"{reviewing.root}/reviews", params=query)
        assert answer.status_code == 422
        assert [item["field"] for item in answer.json()["errors"]] == [field]

    def test_of_no_dataset(self, client: "TestClient") -> None:
        for path in ("reviews", "reviews/order", "reviews/progress", "reviews/batches"):
            assert client.get(f"/api/v1/datasets/7/{path}").status_code == 404
        assert client.get("/api/v1/datasets/7/pairs/0").status_code == 404


class TestAgreement:
    def test_counts_each_reviewers_own_last_word(self, reviewing: Reviewing) -> None:
        for pair, ann, ben in ((0, "drop", "drop"), (1, "drop", "keep"), (2, "keep", "keep")):
            version = reviewing.decide(pair, ann, reviewer="Ann").json()["version"]
            reviewing.decide(pair, ben, reviewer="Ben", version=version)
        reviewing.decide(3, "drop", reviewer="Ann")
        reviewing.decide(4, "drop")  # nobody's
        progress = reviewing.progress()
        assert progress["reviewers"] == [
            {"reviewer": "Ann", "pairs": 4},
            {"reviewer": "Ben", "pairs": 3},
        ]
        [agreement] = progress["agreement"]
        assert agreement["reviewers"] == ["Ann", "Ben"]
        assert (agreement["pairs"], agreement["agreed"]) == (3, 2)
        # Observed 2/3; by chance (2*1 + 1*2)/9 = 4/9.
        assert agreement["kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
        assert reviewing.queue(disputed=True) == [1]
        item = reviewing.client.get(f"{reviewing.root}/pairs/1").json()
        assert item["said"] == {"Ann": "drop", "Ben": "keep"}
        reviewing.undo(1, reviewer="Ben", version=2)
        assert reviewing.progress()["disputed"] == 0

    @pytest.mark.parametrize(
        ("table", "kappa"),
        [
            ({("keep", "keep"): 5}, None),
            ({("keep", "keep"): 5, ("drop", "drop"): 5}, 1),
            ({("keep", "drop"): 5, ("drop", "keep"): 5}, -1),
            (dict.fromkeys([(a, b) for a in "xy" for b in "xy"], 3), 0),
        ],
    )
    def test_kappa_of_known_tables(
        self, table: dict[tuple[str, str], int], kappa: float | None
    ) -> None:
        assert cohens_kappa(table) == kappa


class TestExport:
    def test_leaves_out_verdicts_and_says_so(self, reviewing: Reviewing) -> None:
        reviewing.bulk("drop", 4, pairs=[0, 1, 2, 3])
        reviewing.decide(4, "unsure")
        reviewing.edit(5, preferred="New")
        path = f"{reviewing.root}/export"
        lines = reviewing.client.get(path, params={"exclude": ["drop", "unsure"]}).text.splitlines()
        prompts = [json.loads(line)["prompt"] for line in lines]
        assert prompts == [f"Is {pair} a number?" for pair in range(5, PAIRS)]
        assert json.loads(lines[0])["chosen"] == "New"
        manifest = reviewing.client.get(
            f"{path}/manifest", params={"exclude": ["drop", "unsure"]}
        ).json()
        assert (manifest["kept"], manifest["left_out"], manifest["edited"]) == (PAIRS - 5, 5, 1)
        assert manifest["verdicts"] == {"drop": 4, "fix": 1, "unsure": 1}


def test_a_deleted_dataset_takes_its_reviews_along(reviewing: Reviewing, session: Session) -> None:
    reviewing.decide(0, "keep")
    reviewing.edit(1, preferred="New")
    reviewing.bulk("drop", PAIRS)
    assert reviewing.client.delete(reviewing.root).status_code == 204
    assert session.scalars(select(Review)).all() == []
    assert session.scalars(select(ReviewChange)).all() == []


@given(
    values=st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=30),
    at=st.integers(0, 29),
)
def test_a_percentile_is_the_share_of_lower_values(values: list[float], at: int) -> None:
    value = values[at % len(values)]
    lower = sum(other < value for other in values)
    assert percentile(value, sorted(values)) == pytest.approx(100 * lower / (len(values) - 1))
