"""Authorization: the roles, and the role and audit action of every route.

    viewer     reads: pages, data, downloads, the status page
    reviewer   also reviews pairs: flags, verdicts
    operator   also uploads, runs, deletes, and reads the audit log

Each of these includes the permissions of those above it. One role stands beside them:

    recorder   creates external runs, records and reads those, reads the texts of pairs that it
               names, to watch them, and nothing else: for the machines that train

Without a configured token the server
listens on loopback only, and every visitor is the operator "local".

RULES has one line for every route of the application, and tests/app/auth/test_permissions.py fails
on a route without one. A line also names the action in the audit log (app/audit).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from starlette.routing import compile_path

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(IntEnum):
    RECORDER = 0
    VIEWER = 1
    REVIEWER = 2
    OPERATOR = 3

    @classmethod
    def named(cls, name: str) -> Self:
        """Raises:
        KeyError: no role has this name.
        """
        return cls[name.upper()]

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request."""

    name: str
    role: Role
    address: str
    by_cookie: bool = False

    def may(self, rule: "Rule") -> bool:
        """Whether the role permits what the rule is about. Of a recorder, which may do so with
        external runs alone, app/runs/external/access.py checks the run, where there is one."""
        if self.role is Role.RECORDER:
            return rule.role is None or rule.recorder
        return rule.role is None or self.role >= rule.role


@dataclass(frozen=True, slots=True)
class Rule:
    """The role that a route requires, and its entry in the audit log.

    role: None is open to everyone. action: name in the audit log; None is not recorded. subject:
    template, filled in from the path parameters and the JSON response. details: fields of that
    JSON to record. A read is recorded if it is a download (the response is an attachment), a
    change if it succeeded; `only`: with this status code. recorder: whether a recorder may, too.
    """

    method: str
    path: str
    role: Role | None
    action: str | None = None
    subject: str = ""
    details: tuple[str, ...] = ()
    only: int | None = None
    recorder: bool = False


OPEN, VIEWER, REVIEWER, OPERATOR = None, Role.VIEWER, Role.REVIEWER, Role.OPERATOR
STATIC = "/static/{path:path}"
_API = "/api/v1"
_RUN = f"{_API}/runs/{{run_id}}"
_DATASET = f"{_API}/datasets/{{dataset_id}}"
_PAIR = f"{_DATASET}/pairs/{{pair}}"
_NAMED = "dataset {dataset_id}, pair {pair}"
_OF_VERDICT = ("verdict", "reviewer", "previous")
_OF_DATASET = (
    *("name", "pairs", "rejected", "source_filename", "source_sha256"),
    *("hub_name", "hub_config", "hub_split", "hub_revision"),
)
_STUDY = f"{_API}/studies/{{study_id}}"
_OF_STUDY = ("name", "kind", "status", "dataset_id")
_OF_PAIRS = ("dataset_id", "name", "pairs", "rejected")
_OF_MODELS = ("runs", "bytes")
_OF_RUN = ("name", "kind", "status", "dataset_id")
_TOKEN = "token {token_id}"  # noqa: S105 - a subject of the audit log

RULES: tuple[Rule, ...] = (
    # The login form and its assets, and the health check of a supervisor.
    Rule("GET", "/login", OPEN),
    Rule("POST", "/login", OPEN),
    Rule("POST", "/logout", OPEN),
    Rule("GET", STATIC, OPEN),
    Rule("GET", "/healthz", OPEN),
    # Pages.
    Rule("GET", "/", VIEWER),
    Rule("GET", "/datasets", VIEWER),
    Rule("GET", "/datasets/{dataset_id}", VIEWER),
    Rule("GET", "/datasets/{dataset_id}/new", OPERATOR),
    Rule("GET", "/datasets/{dataset_id}/review", VIEWER),
    Rule("GET", "/datasets/{dataset_id}/doctor", VIEWER),
    Rule("GET", "/runs", VIEWER),
    Rule("GET", "/runs/watch", OPERATOR),
    Rule("GET", "/runs/{run_id}", VIEWER),
    Rule("GET", "/runs/{run_id}/judge", OPERATOR),
    Rule("GET", "/compare", VIEWER),
    Rule("GET", "/studies", VIEWER),
    Rule("GET", "/studies/new", OPERATOR),
    Rule("GET", "/studies/{study_id}", VIEWER),
    Rule("GET", "/docs", VIEWER),
    Rule("GET", "/status", VIEWER),
    Rule("GET", "/audit", OPERATOR),
    # Monitoring and the API's description.
    Rule("GET", "/metrics", VIEWER),
    Rule("GET", f"{_API}/openapi.json", VIEWER),
    Rule("GET", f"{_API}/status", VIEWER),
    Rule("GET", f"{_API}/audit", OPERATOR, "audit.export"),
    # Datasets.
    Rule("GET", f"{_API}/datasets", VIEWER),
    Rule("POST", f"{_API}/datasets", OPERATOR, "dataset.upload", "dataset {id}", _OF_DATASET),
    Rule("GET", _DATASET, VIEWER),
    Rule("DELETE", _DATASET, OPERATOR, "dataset.delete", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/pairs", VIEWER),
    Rule("GET", f"{_DATASET}/texts", VIEWER, recorder=True),
    Rule("GET", f"{_DATASET}/offsets", VIEWER),
    Rule("GET", f"{_DATASET}/doctor", VIEWER),
    Rule("POST", f"{_DATASET}/doctor", REVIEWER, "dataset.check", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/export", VIEWER, "dataset.export", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/export/manifest", VIEWER),
    Rule("GET", f"{_API}/samples", VIEWER),
    Rule(
        *("POST", f"{_API}/samples/{{name}}", OPERATOR, "dataset.upload", "dataset {id}"),
        details=_OF_DATASET,
        only=201,  # 200: it existed already
    ),
    Rule("POST", f"{_API}/datasets/preview", OPERATOR),
    Rule("GET", f"{_API}/datasets/progress/{{key}}", OPERATOR),
    Rule("DELETE", f"{_API}/datasets/progress/{{key}}", OPERATOR, "dataset.upload.cancel"),
    Rule("GET", f"{_DATASET}/rejected", VIEWER, "dataset.export", "dataset {dataset_id}"),
    Rule("POST", f"{_DATASET}/selection", OPERATOR),
    # Reviewing pairs.
    Rule("GET", "/review", VIEWER),
    Rule("GET", _PAIR, VIEWER),
    Rule("PATCH", _PAIR, REVIEWER, "pair.edit", _NAMED),
    Rule("GET", f"{_PAIR}/review", VIEWER),
    Rule("GET", f"{_PAIR}/review/history", VIEWER),
    Rule("PUT", f"{_PAIR}/review", REVIEWER, "verdict", _NAMED, _OF_VERDICT),
    Rule("DELETE", f"{_PAIR}/review", REVIEWER, "verdict.clear", _NAMED, _OF_VERDICT),
    Rule("POST", f"{_PAIR}/review/undo", REVIEWER, "verdict.undo", _NAMED, _OF_VERDICT),
    Rule("GET", f"{_DATASET}/review", VIEWER),
    Rule("GET", f"{_DATASET}/reviews", VIEWER, "dataset.export", "dataset {dataset_id}"),
    Rule("GET", f"{_DATASET}/reviews/order", VIEWER),
    Rule("GET", f"{_DATASET}/reviews/progress", VIEWER),
    Rule("GET", f"{_DATASET}/reviews/batches", VIEWER),
    Rule("POST", f"{_DATASET}/reviews/bulk", REVIEWER, "verdict.bulk", "dataset {dataset_id}"),
    Rule(
        *("POST", f"{_DATASET}/reviews/batches/{{batch_id}}/undo", REVIEWER, "verdict.bulk.undo"),
        subject="dataset {dataset_id}",
    ),
    Rule("GET", f"{_DATASET}/flags", VIEWER),
    Rule("POST", f"{_DATASET}/flags", REVIEWER, "flags.set", "dataset {dataset_id}", ("total",)),
    Rule("DELETE", f"{_DATASET}/flags", REVIEWER, "flags.clear", "dataset {dataset_id}"),
    # Runs.
    Rule("GET", f"{_API}/models", VIEWER),
    Rule("GET", f"{_API}/runs", VIEWER),
    Rule("POST", f"{_API}/runs", OPERATOR, "run.create", "run {id}", _OF_RUN, recorder=True),
    Rule("POST", f"{_API}/runs/capacity", OPERATOR),
    Rule("GET", _RUN, VIEWER, recorder=True),
    Rule("POST", f"{_RUN}/records", OPERATOR, recorder=True),
    Rule(
        *("POST", f"{_RUN}/attempts", OPERATOR, "run.rewind", "run {run_id}"),
        details=("attempt", "recorded_through"),
        recorder=True,
    ),
    Rule(
        *("POST", f"{_RUN}/finish", OPERATOR, "run.finish", "run {run_id}", _OF_RUN), recorder=True
    ),
    Rule("GET", f"{_API}/recorder-tokens", OPERATOR),
    Rule("POST", f"{_API}/recorder-tokens", OPERATOR, "token.create", "token {id}", ("name",)),
    Rule("DELETE", f"{_API}/recorder-tokens/{{token_id}}", OPERATOR, "token.delete", _TOKEN),
    Rule("PATCH", _RUN, OPERATOR, "run.rename", "run {run_id}", ("name",)),
    Rule("DELETE", _RUN, OPERATOR, "run.delete", "run {run_id}"),
    Rule("POST", f"{_RUN}/cancel", OPERATOR, "run.cancel", "run {run_id}", _OF_RUN),
    Rule("POST", f"{_RUN}/resume", OPERATOR, "run.resume", "run {run_id}", _OF_RUN),
    Rule("GET", f"{_RUN}/events", VIEWER, recorder=True),
    Rule("GET", f"{_RUN}/metrics", VIEWER, "run.export", "run {run_id}", recorder=True),
    Rule("GET", f"{_RUN}/scores", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/scores/summary", VIEWER),
    Rule("GET", f"{_API}/objectives/incentives", VIEWER),
    Rule("GET", f"{_RUN}/forecast", VIEWER),
    Rule("GET", f"{_RUN}/findings", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/filter-decisions", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/generations", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/preflight", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/preflight/{{pair}}", VIEWER),
    Rule("GET", f"{_RUN}/judgments", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/judgments/summary", VIEWER),
    Rule("GET", f"{_API}/judgments/agreement", VIEWER),
    Rule("POST", f"{_RUN}/pairs", OPERATOR, "dataset.judged", "run {run_id}", _OF_PAIRS),
    Rule("GET", f"{_RUN}/probes", VIEWER, recorder=True),
    Rule("GET", f"{_RUN}/probes/{{pair}}", VIEWER, recorder=True),
    Rule("GET", f"{_RUN}/probes/{{pair}}/ledger", VIEWER),
    Rule("GET", f"{_RUN}/probes/{{pair}}/answers", VIEWER),
    Rule("GET", f"{_RUN}/probes/{{pair}}/watched", VIEWER),
    Rule("GET", f"{_RUN}/probes/bands", VIEWER),
    Rule("GET", f"{_RUN}/displacement", VIEWER),
    Rule("GET", f"{_RUN}/displacement.csv", VIEWER, "run.export", "run {run_id}"),
    Rule("GET", f"{_RUN}/displacements", VIEWER),
    Rule("GET", f"{_RUN}/pairs", VIEWER),
    Rule("GET", f"{_RUN}/seats", VIEWER),
    Rule("GET", f"{_RUN}/shards", VIEWER),
    Rule("GET", f"{_RUN}/weights", VIEWER, "run.export", "run {run_id}"),
    Rule("DELETE", f"{_RUN}/weights", OPERATOR, "run.remove-model", "run {run_id}"),
    # Alarms.
    Rule("GET", "/alarms", VIEWER),
    Rule("GET", f"{_API}/alarms", VIEWER),
    Rule(
        *("POST", f"{_API}/alarms/{{alarm_id}}/acknowledge", REVIEWER, "alarm.acknowledge"),
        subject="alarm {alarm_id}",
    ),
    Rule("GET", f"{_API}/alarm-rules", VIEWER),
    Rule(
        *("POST", f"{_API}/alarm-rules", OPERATOR, "alarm.rule.create", "alarm rule {id}"),
        details=("kind", "threshold", "run_id"),
    ),
    Rule(
        *("DELETE", f"{_API}/alarm-rules/{{rule_id}}", OPERATOR, "alarm.rule.delete"),
        subject="alarm rule {rule_id}",
    ),
    # Studies.
    Rule("GET", f"{_API}/studies", VIEWER),
    Rule("POST", f"{_API}/studies", OPERATOR, "study.create", "study {id}", _OF_STUDY),
    Rule("POST", f"{_API}/studies/preview", OPERATOR),
    Rule("GET", f"{_API}/studies/kinds", VIEWER),
    Rule("GET", _STUDY, VIEWER),
    Rule("DELETE", _STUDY, OPERATOR, "study.delete", "study {study_id}"),
    Rule("POST", f"{_STUDY}/cancel", OPERATOR, "study.cancel", "study {study_id}", _OF_STUDY),
    Rule("POST", f"{_STUDY}/resume", OPERATOR, "study.resume", "study {study_id}", _OF_STUDY),
    Rule("POST", f"{_STUDY}/extend", OPERATOR, "study.extend", "study {study_id}", _OF_STUDY),
    Rule(
        "DELETE",
        f"{_STUDY}/models",
        OPERATOR,
        "study.remove-models",
        "study {study_id}",
        _OF_MODELS,
    ),
    Rule("GET", f"{_STUDY}/plan.json", VIEWER, "study.export", "study {study_id}"),
    Rule("GET", f"{_STUDY}/table.csv", VIEWER, "study.export", "study {study_id}"),
    Rule("GET", f"{_STUDY}/report.html", VIEWER, "study.export", "study {study_id}"),
)


STORES_NOTHING = frozenset(
    {
        f"{_API}/datasets/preview",
        f"{_DATASET}/selection",
        f"{_API}/runs/capacity",
        f"{_API}/studies/preview",
    }
)
"""POST only because the query needs a body; nothing is changed, so nothing is recorded."""
RECORDS = frozenset({f"{_RUN}/records"})
"""One a second and more while a run is trained: the creation and the end of the run are in the log,
not these."""


def _compiled(rules: Iterable[Rule]) -> Mapping[str, tuple[tuple[re.Pattern[str], Rule], ...]]:
    methods = {rule.method for rule in rules}
    return {
        method: tuple((compile_path(rule.path)[0], rule) for rule in rules if rule.method == method)
        for method in methods
    }


_COMPILED = _compiled(RULES)
UNKNOWN = "(other)"
"""Rule path of every address without a route, so that metric labels stay few."""


@dataclass(frozen=True, slots=True)
class Match:
    rule: Rule
    parameters: dict[str, str]


def match(method: str, path: str) -> Match:
    """The rule of a request; the strictest if several routes match the path.

    An address without a route requires a role too, so that anonymous visitors cannot probe for
    paths; authenticated ones get a 404.
    """
    method = "GET" if method == "HEAD" else method
    found = [
        Match(rule, parts.groupdict())
        for pattern, rule in _COMPILED.get(method, ())
        if (parts := pattern.match(path))
    ]
    if not found:
        return Match(Rule(method, UNKNOWN, VIEWER if method in READING else OPERATOR), {})
    return max(found, key=lambda match: match.rule.role or 0)
