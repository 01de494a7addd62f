"""Every page renders: with nothing in the store, with everything, and where something is wrong."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.pages import filters, forms
from app.pages.form_layout import UNUSED
from app.store.runs import EXTERNAL, Run, Worker
from chesboard.configs import (
    CONFIGS,
    LoraConfig,
    PairWeights,
    ProbesConfig,
    RefreshFilter,
    Selection,
)
from chesboard.measures.registry import MEASURE_NAMES
from tests.app import factories

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

EVIL = "<script>alert('x')</script>\"&'"
NOW = datetime(2030, 1, 2, 12, tzinfo=UTC)


class Page(HTMLParser):
    """A page's title, visible text, inline scripts and event handlers."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.title = ""
        self.text = ""
        self.scripts: list[dict[str, str | None]] = []
        self.handlers: list[str] = []
        self.data: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.handlers += [name for name in attributes if name.startswith("on")]
        self._open.append((tag, attributes))
        if tag == "script":
            self.scripts.append(attributes)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "title":
            self.title += data
        elif tag == "script":
            if attributes.get("type") == "application/json":
                self.data[str(attributes["id"])] = json.loads(data)
            else:
                raise AssertionError(f"a script inside the page: {data[:80]}")
        else:
            self.text += data


def show(client: "TestClient", path: str, status: int = 200) -> Page:
    """The page at a path; whatever it shows, nothing on it may run but this server's modules."""
    response = client.get(path, headers={"Accept": "text/html"})
    assert response.status_code == status, response.text[:400]
    page = Page(response.text)
    assert page.handlers == []
    for script in page.scripts:
        source = script.get("src")
        assert script.get("type") == "application/json" or (
            source is not None and source.startswith("/static/")
        )
    return page


OURS = [kind for kind in CONFIGS if kind != EXTERNAL]
"""Kinds of runs that this server's workers do."""
WITH_MODEL = [kind for kind in OURS if kind != "judge"]
"""Kinds of runs that tokenize pairs under a model."""


def full_store(session: Session, text: str = "words") -> dict[str, int]:
    """A dataset and a run of every kind and status, each with what it would have recorded."""
    dataset = factories.dataset(
        session,
        [(text, text, f"not {text}")],
        name=text,
        rejected=1,
        errors=[{"row": 7, "field": text, "message": text, "snippet": text}],
        statistics={"columns": [text], "form": "a prompt and two responses", "duplicates": 0},
    )
    made = {"dataset": dataset.id}
    error = {"message": text, "hint": text, "traceback": text}
    for kind in CONFIGS:
        config: dict[str, Any] = {"model": text}
        if kind == "judge":
            answers = made["generate-succeeded"]
            config = {"generate_run": answers, "keywords": [text], "question": text}
        elif kind == EXTERNAL:
            config = {"trainer": text, "model": text}
        for status in ("queued", "running", "succeeded", "failed", "cancelled"):
            run = factories.run(
                session,
                dataset.id,
                kind=kind,
                status=status,
                name=text,
                config=config,
                messages=[text],
                error=error if status == "failed" else None,
                progress_done=3,
                progress_total=10,
                started_at=NOW,
                finished_at=NOW + timedelta(seconds=75),
            )
            made[f"{kind}-{status}"] = run.id
    train = made["train-succeeded"]
    factories.metric(session, train, 1)
    factories.probe(session, train, preferred_tokens=[text, "<end>"], prompt=text)
    for step in (0, 1):
        factories.probe_step(session, train, step=step)
    factories.score(session, made["score-succeeded"], 0, ches=-3.5)
    session.add(Worker(name=text, device=text))
    session.commit()
    return made


def paths(made: dict[str, int]) -> list[str]:
    dataset = made["dataset"]
    return [
        "/",
        "/datasets",
        f"/datasets/{dataset}",
        *(f"/datasets/{dataset}/new?kind={kind}" for kind in WITH_MODEL),
        f"/datasets/{dataset}/new?kind=train&like={made['train-succeeded']}",
        f"/runs/{made['generate-succeeded']}/judge?like={made['judge-succeeded']}",
        "/runs",
        f"/runs?kind=train&status=failed&dataset_id={dataset}",
        *(f"/runs/{run_id}" for name, run_id in made.items() if name != "dataset"),
        "/compare",
        f"/compare?runs={made['train-succeeded']},{made['train-failed']}",
        "/docs",
        "/login",
    ]


class TestEmpty:
    def test_home_offers_the_sample_as_the_first_thing_to_do(self, client: "TestClient") -> None:
        page = show(client, "/")
        assert page.title == "Chesboard"
        assert "Try the sample" in page.text
        assert "Drop a preference dataset here" in page.text

    @pytest.mark.parametrize(
        ("path", "title", "says"),
        [
            ("/datasets", "Datasets", "Drop a preference dataset here"),
            ("/runs", "Runs", "No runs yet"),
            ("/runs?kind=&status=&dataset_id=", "Runs", "No runs yet"),
            ("/runs?status=failed", "Runs", "No run matches"),
            ("/compare", "Compare", "No training runs yet"),
            ("/compare?runs=", "Compare", "No training runs yet"),
            ("/login", "Log in", "access token"),
            ("/docs", "API", "/api/v1/datasets"),
        ],
    )
    def test_says_so_and_what_to_do(
        self, client: "TestClient", path: str, title: str, says: str
    ) -> None:
        page = show(client, path)
        assert page.title == f"{title} · Chesboard"
        assert says in page.text


class TestFull:
    def test_every_page_renders_with_a_title_of_its_own(
        self, client: "TestClient", session: Session
    ) -> None:
        made = full_store(session)
        for path in paths(made):
            page = show(client, path)
            assert page.title == "Chesboard" if path == "/" else page.title != "Chesboard"

    def test_texts_from_outside_are_never_markup(
        self, client: "TestClient", session: Session
    ) -> None:
        made = full_store(session, EVIL)
        for path in paths(made):
            page = show(client, path)  # fails on any script that is not this server's
            if path not in ("/docs", "/login", "/compare") and "runs?" not in path:
                assert "<script>alert" in page.text + page.title, path

    def test_data_for_scripts_comes_back_as_it_was(
        self, client: "TestClient", session: Session
    ) -> None:
        made = full_store(session, "</script><b>")
        run = show(client, f"/runs/{made['train-succeeded']}").data["page-data"]
        assert (run["id"], run["name"]) == (made["train-succeeded"], "</script><b>")

    def test_pages_that_show_measures_have_them_as_data(
        self, client: "TestClient", session: Session
    ) -> None:
        made = full_store(session)
        for path in (f"/runs/{made['score-succeeded']}", f"/datasets/{made['dataset']}/review"):
            measures = show(client, path).data["measures"]
            assert [measure["name"] for measure in measures] == list(MEASURE_NAMES)
            assert all(measure["label"] and measure["help"] for measure in measures)

    def test_home_shows_what_runs_now_with_its_progress(
        self, client: "TestClient", session: Session
    ) -> None:
        full_store(session)
        text = show(client, "/").text
        assert "3 of 10 steps" in text
        assert "waiting for a worker" in text
        assert "words" in text

    def test_runs_show_what_they_are_doing(self, client: "TestClient", session: Session) -> None:
        dataset = factories.dataset(session)
        download: dict[str, Any] = {"phase_done": 3_100_000_000, "phase_total": 15_000_000_000}
        run = factories.run(
            session,
            dataset.id,
            progress_total=60,
            phase="downloading",
            phase_unit="bytes",
            phase_eta_seconds=75.0,
            **download,
        )
        session.commit()
        for path in ("/", f"/runs/{run.id}"):
            text = show(client, path).text
            assert "downloading 3.1 of 15 GB" in text
            assert "1 min 15 s left" in text
            assert "of 60" not in text
        assert "downloading 21 %" in show(client, "/runs").text

    def test_home_warns_where_no_worker_is_running(
        self, client: "TestClient", session: Session
    ) -> None:
        factories.dataset(session)
        session.commit()
        assert "No worker is running" in show(client, "/").text

    def test_dataset_lists_rejected_rows_with_number_and_reason(
        self, client: "TestClient", session: Session
    ) -> None:
        made = full_store(session, "why not")
        text = show(client, f"/datasets/{made['dataset']}").text
        assert "1 row could not be used" in text
        assert re.search(r"7\s*why not\s*why not", text)

    def test_a_failed_run_says_why_and_what_to_do(
        self, client: "TestClient", session: Session
    ) -> None:
        dataset = factories.dataset(session)
        error = {"message": "Out of memory.", "hint": "Cut prompts.", "traceback": "line 1"}
        run = factories.run(session, dataset.id, status="failed", error=error)
        session.commit()
        text = show(client, f"/runs/{run.id}").text
        assert "Out of memory." in text
        assert "Cut prompts." in text
        assert "line 1" in text

    def test_a_training_run_begins_with_its_verdict(
        self, client: "TestClient", session: Session
    ) -> None:
        made = full_store(session, "No")
        verdict = client.get(f"/api/v1/runs/{made['train-succeeded']}").json()["verdict_short"]
        assert verdict
        assert verdict in show(client, f"/runs/{made['train-succeeded']}").text

    @pytest.mark.parametrize(
        ("status", "buttons"),
        [
            ("running", ["Cancel"]),
            ("failed", ["Resume", "Run again…", "Delete"]),
            ("succeeded", ["Run again…", "Compare", "Delete"]),
        ],
    )
    def test_a_run_offers_what_can_be_done_with_it(
        self, client: "TestClient", session: Session, status: str, buttons: list[str]
    ) -> None:
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, status=status)
        session.commit()
        text = show(client, f"/runs/{run.id}").text
        offered = [
            word
            for word in ("Cancel", "Resume", "Run again…", "Delete")
            if re.search(rf"^\s*{word}\s*$", text, re.MULTILINE)
        ]
        assert offered == [word for word in buttons if word != "Compare"]

    def test_runs_are_filtered_and_paged_by_the_address(
        self, client: "TestClient", session: Session
    ) -> None:
        dataset = factories.dataset(session)
        for number in range(51):
            factories.run(session, dataset.id, name=f"run-{number:02}", status="succeeded")
        factories.run(session, dataset.id, kind="score", name="the score", status="succeeded")
        session.commit()
        first = show(client, "/runs?kind=train").text
        assert "1–50 of 51" in first
        assert "the score" not in first
        assert "run-00" not in first
        assert "run-00" in show(client, "/runs?kind=train&offset=50").text


class TestFindings:
    @pytest.mark.parametrize("kind", WITH_MODEL)
    def test_each_kind_of_run_shows_what_the_model_reads(
        self, client: "TestClient", session: Session, kind: str
    ) -> None:
        dataset = factories.dataset(session)
        run = factories.run(session, dataset.id, kind=kind, status="running")
        factories.finding(session, run.id, 0, "same_tokens")
        factories.finding(session, run.id, 1, "same_tokens")
        session.commit()
        text = " ".join(show(client, f"/runs/{run.id}").text.split())
        assert "Same tokens not measured 2 pairs" in text
        assert "Raise max_response_tokens where the responses differ behind the cut." in text

    def test_what_a_finding_says_is_not_a_message_too(
        self, client: "TestClient", session: Session
    ) -> None:
        dataset = factories.dataset(session)
        told, other = (
            "1 of 2 pairs were too long: 4 tokens were cut.",
            "The batch was made smaller.",
        )
        run = factories.run(session, dataset.id, status="running", messages=[told, other])
        session.commit()
        text = show(client, f"/runs/{run.id}").text
        assert told in text
        assert other in text
        factories.finding(session, run.id, 0, "response_truncated")
        session.commit()
        text = show(client, f"/runs/{run.id}").text
        assert told not in text
        assert other in text

    def test_a_check_without_findings_says_that_nothing_was_found(
        self, client: "TestClient", session: Session
    ) -> None:
        dataset = factories.dataset(session)
        summary = {"pairs": 3, "left_out_pairs": 0, "findings": {}}
        run = factories.run(session, dataset.id, kind="check", status="succeeded", summary=summary)
        session.commit()
        assert "Nothing was found" in show(client, f"/runs/{run.id}").text
        assert "3 pairs · nothing found" in show(client, "/runs").text

    def test_comparing_leaves_a_check_out_and_says_so(
        self, client: "TestClient", session: Session
    ) -> None:
        dataset = factories.dataset(session)
        train = factories.run(session, dataset.id, status="succeeded", name="the training")
        check = factories.run(session, dataset.id, kind="check", status="succeeded")
        session.commit()
        page = show(client, f"/compare?runs={check.id},{train.id}")
        assert [run["id"] for run in page.data["page-data"]["runs"]] == [train.id]
        assert f"run {check.id} (Text check)" in page.text


class TestErrors:
    @pytest.mark.parametrize(
        "path", ["/nope", "/runs/999", "/datasets/999", "/datasets/999/new", "/compare?runs=999"]
    )
    def test_what_is_not_there_is_said_on_a_page(self, client: "TestClient", path: str) -> None:
        page = show(client, path, 404)
        assert page.title == "Not found · Chesboard" or page.title == "Not Found · Chesboard"
        assert "404" in page.text

    @pytest.mark.parametrize("path", ["/runs?status=odd", "/runs/words", "/runs?offset=-1"])
    def test_an_address_that_makes_no_sense_is_explained(
        self, client: "TestClient", path: str
    ) -> None:
        assert "422" in show(client, path, 422).text


class TestRunForm:
    @pytest.mark.parametrize("kind", OURS)
    def test_has_every_setting_of_the_configuration_once(self, kind: str) -> None:
        """But those that the kind does not use."""
        nested: dict[str, type[BaseModel]] = {
            "probes": ProbesConfig,
            "selection": Selection,
            "lora": LoraConfig,
            "pair_weights": PairWeights,
            "refresh_filter": RefreshFilter,
        }
        expected = {"lora", "pair_weights"} if kind == "train" else set()
        for name in CONFIGS[kind].model_fields:
            inner = nested.get(name)
            expected |= {f"{name}.{part}" for part in inner.model_fields} if inner else {name}
        names = [field.name for group in forms.run_form(kind) for field in group.fields]
        assert sorted(names) == sorted(expected - set(UNUSED.get(kind, ())))

    def test_a_check_run_asks_for_a_model_and_limits(self) -> None:
        groups = forms.run_form("check")
        assert [group.title for group in groups] == ["Model", "Chat template", "Limits"]
        assert {"max_prompt_tokens", "max_response_tokens"} <= {f.name for f in groups[2].fields}

    def test_a_generate_run_has_its_answers_settings_in_one_group(self) -> None:
        groups = {group.title: group for group in forms.run_form("generate")}
        names = [field.name for field in groups["Answers"].fields]
        assert names == ["samples", "temperature", "top_p", "answer_tokens", "seed"]
        assert "Probes" not in groups

    def test_a_setting_hides_only_behind_another_that_the_form_has(self) -> None:
        def answer_tokens(kind: str) -> forms.FormField:
            groups = forms.run_form(kind)
            return next(f for g in groups for f in g.fields if f.name == "answer_tokens")

        assert answer_tokens("train").only_with == "answer_every=*"
        assert answer_tokens("generate").only_with is None

    def fields(self, values: dict[str, Any] | None = None) -> dict[str, forms.FormField]:
        groups = forms.run_form("train", values)
        return {field.name: field for group in groups for field in group.fields}

    def test_bounds_defaults_and_help_are_the_configurations(self) -> None:
        beta = self.fields()["beta"]
        assert (beta.value, beta.above, beta.maximum) == (0.1, 0, 100)
        assert beta.help == CONFIGS["train"].model_fields["beta"].description
        assert self.fields()["objective"].choices[0] == "dpo"

    def test_shows_the_coefficients_of_the_chosen_objective_only(self) -> None:
        fields = self.fields()
        assert fields["simpo_gamma"].only_with == "objective=simpo|alphapo"
        assert fields["odpo_offset"].only_with == "objective=odpo"
        assert fields["ld_alpha"].only_with == "objective=dpo"
        assert "cross_entropy" not in str(fields["beta"].only_with)
        assert fields["sft_coef"].only_with is None

    def test_remedies_are_folded_unless_a_copied_run_has_one(self) -> None:
        def group(values: dict[str, Any]) -> forms.FormGroup:
            groups = forms.run_form("train", values)
            return next(one for one in groups if one.title == "Against displacement")

        assert (group({}).is_folded, group({}).is_open) == (True, False)
        weighted = group({"pair_weights": {"score_run": 3, "measure": "ches", "slope": 2.0}})
        assert weighted.is_open
        shown = {field.name: field.value for field in weighted.fields}
        assert (shown["pair_weights"], shown["pair_weights.score_run"]) == (True, 3)

    def test_what_may_be_left_out_is_not_required(self) -> None:
        fields = self.fields()
        assert fields["learning_rate"].optional
        assert fields["max_steps"].optional
        assert not fields["batch_size"].optional

    def test_takes_over_an_earlier_runs_settings(self) -> None:
        fields = self.fields(
            {
                "beta": 0.3,
                "probes": {"pairs": [1, 4]},
                "token_groups": {"affirmative": ["Yes", "Sure"], "negative": ["No"]},
                "opposite_groups": [["affirmative", "negative"]],
                "lora": {"rank": 4},
            }
        )
        assert fields["beta"].shown == "0.3"
        assert fields["probes.pairs"].shown == "1, 4"
        assert fields["token_groups"].shown == "affirmative: Yes, Sure\nnegative: No"
        assert fields["opposite_groups"].shown == "affirmative, negative"
        assert (fields["opposite_groups"].type, fields["opposite_groups"].optional) == (
            "opposites",
            True,
        )
        assert (fields["lora"].value, fields["lora.rank"].value) == (True, 4)

    def test_remembers_the_score_run_that_it_was_opened_from(
        self, client: "TestClient", session: Session
    ) -> None:
        dataset, other = (factories.dataset(session).id for _ in range(2))
        scored = factories.run(session, dataset, kind="score", config={"model": "a/b"}).id
        trained = factories.run(session, dataset, config={"forecast_run": scored}).id
        session.commit()
        field = re.compile(r'id="field-forecast_run"[^>]*value="(\d*)"', re.DOTALL)

        def filled(dataset_id: int, like: int) -> str:
            page = client.get(f"/datasets/{dataset_id}/new?kind=train&like={like}").text
            return field.findall(page)[0]

        assert filled(dataset, scored) == filled(dataset, trained) == str(scored)
        assert filled(other, trained) == ""
        session.delete(session.get_one(Run, scored))
        session.commit()
        assert filled(dataset, trained) == ""

    def test_takes_over_prompts_with_their_words_to_watch(self) -> None:
        chat = [{"role": "user", "content": "Is it?"}]
        prompts = [{"prompt": "Is it?", "watch": ["Yes", "No"]}, {"prompt": chat, "name": "chat"}]
        field = self.fields({"probes": {"prompts": prompts}})["probes.prompts"]
        assert (field.type, field.optional) == ("prompts", True)
        assert field.rows == [
            {"name": "", "prompt": "Is it?", "watch": "Yes, No"},
            {"name": "chat", "prompt": json.dumps(chat), "watch": ""},
        ]

    @pytest.mark.parametrize(
        ("value", "first"),
        [
            (None, ""),
            ({"preferred": "all", "dispreferred": "all"}, "all"),
            ({"preferred": [3], "dispreferred": []}, "[3]"),
        ],
    )
    def test_ledger_positions_begin_with_what_is_chosen(self, value: Any, first: str) -> None:
        field = self.fields({"ledger_positions": value})["ledger_positions"]
        assert field.type == "positions"
        assert first in field.positions[0][0]
        chosen, _ = field.positions[0]
        assert (json.loads(chosen) if chosen else None) == value


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(30, "just now"), (300, "5 min ago"), (7300, "2 h ago"), (90_000, "1 Jan 2030")],
    )
    def test_ago(self, seconds: int, text: str) -> None:
        assert filters.ago(NOW - timedelta(seconds=seconds), NOW) == text

    @pytest.mark.parametrize(
        ("value", "text"), [(999, "999 B"), (12_345, "12.3 KB"), (98_362_432, "98.4 MB")]
    )
    def test_size(self, value: int, text: str) -> None:
        assert filters.size(value) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [(-1.5, "−1.5"), (1e-7, "1e−7"), (12345.0, "12,345"), (float("nan"), "–"), (None, "–")],
    )
    def test_number(self, value: float | None, text: str) -> None:
        assert filters.number(value) == text

    def test_duration(self) -> None:
        assert [filters.duration(value) for value in (None, 5, 75, 3700)] == [
            "",
            "5 s",
            "1 min 15 s",
            "1 h 1 min",
        ]

    def test_figures_of_one_measure_have_the_same_decimals(self) -> None:
        shown = filters.aligned({"minimum": -872_174.2, "median": 3.25})
        assert shown == {"minimum": "−872,174", "median": "3"}
        assert filters.aligned({"q05": 0.05, "maximum": 1.0}) == {
            "q05": "0.050",
            "maximum": "1.000",
        }

    def test_a_score_runs_outcome_names_its_measure(self) -> None:
        run = Run(
            kind="score",
            status="succeeded",
            summary={"pairs": 60, "measures": {"ches": {"median": -26.0, "maximum": 5.5}}},
        )
        run.verdict_short = None  # type: ignore[attr-defined]
        assert filters.outcome(run) == "60 pairs · CHES median −26, highest 5.5"

    def test_a_check_runs_outcome_names_what_was_found(self) -> None:
        summary = {"pairs": 6000, "findings": {"prompt_truncated": 1200, "same_tokens": 3}}
        run = Run(kind="check", status="succeeded", summary=summary)
        run.verdict_short = None  # type: ignore[attr-defined]
        assert filters.outcome(run) == "6,000 pairs · same tokens 3, prompt cut 1,200"


@pytest.mark.parametrize("runs", ["²", "1²", "9" * 5000, "1\0"])
def test_what_is_no_id_of_a_run_is_left_out_of_a_comparison(
    client: "TestClient", runs: str
) -> None:
    assert client.get("/compare", params={"runs": runs}).status_code == 200


@pytest.mark.parametrize("run", [2**63, 0, "²"])
def test_alarms_of_what_is_no_id_of_a_run_are_refused(client: "TestClient", run: object) -> None:
    assert client.get("/alarms", params={"run": str(run)}).status_code == 422
