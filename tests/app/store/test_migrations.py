"""The migrations make the very tables that the code declares, and can be undone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import IntegrityError

from app.core.resources import folder
from app.local import migrate as migrations
from app.local.errors import SetupError
from tests.app import filling


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    engine = create_engine(make_url(empty_url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


def tables(database: Engine | Connection) -> set[str]:
    return set(inspect(database).get_table_names()) - {"alembic_version"}


def test_up_down_and_up_again(empty_url: str, engine: Engine) -> None:
    declared = set(migrations.METADATA.tables)
    migrations.upgrade(empty_url)
    assert tables(engine) == declared
    migrations.downgrade(empty_url, "base")
    assert tables(engine) == set()
    migrations.upgrade(empty_url)
    assert tables(engine) == declared


def test_migrated_database_is_what_the_tables_declare(empty_url: str, engine: Engine) -> None:
    migrations.upgrade(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, migrations.METADATA) == []


def test_a_second_upgrade_waits_for_the_first(empty_url: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (migrations.ADVISORY_LOCK,))
        connection.execute("SET statement_timeout = '5s'")
        blocked = f"{empty_url}{'&' if '?' in empty_url else '?'}options=-cstatement_timeout%3D300"
        with pytest.raises(SetupError, match="statement timeout"):
            migrations.upgrade(blocked)
    migrations.upgrade(empty_url)


def test_two_at_once_and_one_waits_for_the_other(empty_url: str, engine: Engine) -> None:
    with ThreadPoolExecutor(4) as several:
        done = [several.submit(migrations.upgrade, empty_url) for _ in range(4)]
    assert [future.result() for future in done] == [None] * 4
    assert tables(engine) == set(migrations.METADATA.tables)


# --- with data in the tables ------------------------------------------------------------------


def revisions() -> list[str]:
    """All revisions, the newest first."""
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return counted(connection)


def counted(connection: Connection) -> dict[str, int]:
    return {
        name: connection.scalar(text(f'SELECT count(*) FROM "{name}"')) or 0
        for name in tables(connection)
    }


@contextmanager
def tried(engine: Engine) -> Iterator[Connection]:
    """A transaction that is taken back, migrations and all: of what is tried in it at each of many
    revisions, nothing has to be undone step by step."""
    with engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def upgraded(connection: Connection) -> dict[str, int]:
    """The rows by table, after an upgrade to the newest schema."""
    command.upgrade(migrations.alembic_config(connection), "head")
    return counted(connection)


def test_no_row_is_lost_on_the_way_down_and_up(empty_url: str, engine: Engine) -> None:
    """From the newest schema, full, to each older one and back: what both have stays whole."""
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        filling.fill(connection)
        # Free prompts have no place before: an older program can't show a probe without responses.
        connection.exec_driver_sql("UPDATE probes SET kind = 'pair'")
    assert min(counts(engine).values()) == filling.ROWS
    for revision in revisions()[1:]:
        migrations.downgrade(empty_url, revision)
        older = counts(engine)
        assert set(older.values()) == {filling.ROWS}, revision
        with tried(engine) as connection:
            kept = upgraded(connection)
        assert {name: kept[name] for name in older} == older, revision


def test_each_older_schema_is_upgraded_with_its_own_rows(empty_url: str, engine: Engine) -> None:
    for revision in reversed(revisions()):
        migrations.upgrade(empty_url, revision)
        with tried(engine) as connection:
            filling.fill(connection)
            before = counted(connection)
            after = upgraded(connection)
        assert {name: after[name] for name in before} == before, revision


def test_a_database_of_a_later_version_is_refused_in_words(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    with psycopg.connect(empty_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '999912312359'")
    with pytest.raises(SetupError, match="a schema that this version does not know"):
        migrations.upgrade(empty_url)


BEFORE_LEDGERS = "202611231347"
RUN_OF_BEFORE = """
    INSERT INTO datasets (name, format, source_filename, source_sha256, source_bytes, pairs,
        rejected, errors, statistics) VALUES ('words', 'text', 'w', '0', 1, 1, 0, '[]', '{}');
    INSERT INTO runs (kind, name, dataset_id, config) VALUES ('train', 'a run', 1, '{}');
    INSERT INTO probes VALUES (1, 0, 'Is it?', '["No", "</s>"]', '["Never", "</s>"]', 1,
        '{"negative": ["No"], "all": ["No", "Yes"]}', '[]');
    INSERT INTO probe_steps (run_id, pair, step, revision, preferred_logprobs,
        dispreferred_logprobs, preferred_prob, dispreferred_prob, other_prob, group_probs,
        watched_probs, gainers, losers, rest_change, moved_mass) VALUES
        (1, 0, 0, 1, '{-1, -0.5}', '{-2, -0.5}', 0.4, 0.1, 0.5, '{0.4, 0.5}', '{}', '[]', '[]',
            0, 0),
        (1, 0, 5, 2, '{-1.25, -0.5}', '{-4, -0.5}', 0.3, 0, 0.7, '{0.3, 0.5}', '{}', '[]', '[]',
            0, 0.2);
    INSERT INTO reference_logprobs VALUES (1, 0, -1.5, -2.5);
"""


def test_a_run_of_before_keeps_its_numbers_and_gains_what_they_tell(
    empty_url: str, engine: Engine
) -> None:
    migrations.upgrade(empty_url, BEFORE_LEDGERS)
    with engine.begin() as connection:
        connection.exec_driver_sql(RUN_OF_BEFORE)
    migrations.upgrade(empty_url)
    with engine.connect() as connection:
        probe = connection.exec_driver_sql("SELECT kind, groups, positions FROM probes").one()
        steps = connection.exec_driver_sql(
            "SELECT preferred_change, dispreferred_change, recent FROM probe_steps ORDER BY step"
        ).all()
    assert probe.kind == "pair"
    # JSONB holds shorter keys first, and so were the sums beside them.
    assert probe.groups == [
        {"name": "all", "tokens": ["No", "Yes"]},
        {"name": "negative", "tokens": ["No"]},
    ]
    assert probe.positions == {"preferred": [1], "dispreferred": [1]}
    assert [tuple(step) for step in steps] == [(0, 0, None), (-0.25, -2, None)]
    migrations.downgrade(empty_url, BEFORE_LEDGERS)
    with engine.connect() as connection:
        groups = connection.exec_driver_sql("SELECT groups FROM probes").scalar_one()
    assert groups == {"negative": ["No"], "all": ["No", "Yes"]}


BEFORE_PHASES = "202611232231"
PHASE_COLUMNS = "phase, phase_done, phase_total, phase_unit, phase_eta_seconds"


def test_a_running_run_of_before_has_no_phase_and_loses_only_that_on_the_way_down(
    empty_url: str, engine: Engine
) -> None:
    def progress() -> tuple[object, ...]:
        with engine.connect() as connection:
            return tuple(
                connection.exec_driver_sql("SELECT status, progress_done, worker FROM runs").one()
            )

    migrations.upgrade(empty_url, BEFORE_PHASES)
    with engine.begin() as connection:
        filling.fill(connection)
        connection.exec_driver_sql("DELETE FROM runs WHERE id > 1")
        connection.exec_driver_sql("UPDATE runs SET status = 'running', progress_done = 7")
    before = progress()
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        phase = connection.exec_driver_sql(f"SELECT {PHASE_COLUMNS} FROM runs").one()
        assert tuple(phase) == (None,) * 5
        connection.exec_driver_sql(
            "UPDATE runs SET phase = 'downloading', phase_done = 3100000000, "
            "phase_total = 15000000000, phase_unit = 'bytes', phase_eta_seconds = 12.5"
        )
    assert progress() == before
    migrations.downgrade(empty_url, BEFORE_PHASES)
    assert progress() == before
    migrations.upgrade(empty_url)
    assert progress() == before


BEFORE_FINDINGS = "202611281430"


def test_findings_and_check_runs_go_on_the_way_down_and_other_runs_stay(
    empty_url: str, engine: Engine
) -> None:
    def runs() -> list[tuple[int, str]]:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT id, kind FROM runs ORDER BY id")
            return [(row.id, row.kind) for row in rows]

    migrations.upgrade(empty_url, BEFORE_FINDINGS)
    with engine.begin() as connection:
        filling.fill(connection)
    before = runs()
    migrations.upgrade(empty_url)
    assert runs() == before
    with engine.begin() as connection:
        check = connection.exec_driver_sql(
            "INSERT INTO runs (kind, name, dataset_id, config) VALUES ('check', 'a check', 1, '{}')"
            " RETURNING id"
        ).scalar_one()
        connection.exec_driver_sql(
            "INSERT INTO run_findings (run_id, kind, pair, detail) VALUES "
            f"({check}, 'same_tokens', 0, NULL), (1, 'retokenized', 2, 'a detail')"
        )
        connection.exec_driver_sql(
            "INSERT INTO run_selections (run_id, pairs, versions, dataset_pairs) VALUES "
            f"({check}, '{{0}}', '{{1}}', 1)"
        )
    migrations.downgrade(empty_url, BEFORE_FINDINGS)
    assert runs() == before
    with pytest.raises(IntegrityError, match="ck_runs_kind"), engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO runs (kind, name, dataset_id, config) VALUES ('check', 'a check', 1, '{}')"
        )
    migrations.upgrade(empty_url)
    assert runs() == before
    assert counts(engine)["run_findings"] == 0


BEFORE_HUB = "202611281400"
HUB_COLUMNS = "hub_name, hub_config, hub_split, hub_revision"


def test_a_dataset_of_before_has_no_place_on_the_hub_and_loses_only_that_on_the_way_down(
    empty_url: str, engine: Engine
) -> None:
    def names() -> list[object]:
        with engine.connect() as connection:
            return list(
                connection.exec_driver_sql("SELECT name FROM datasets ORDER BY id").scalars()
            )

    migrations.upgrade(empty_url, BEFORE_HUB)
    with engine.begin() as connection:
        filling.fill(connection)
    before = names()
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        found = connection.exec_driver_sql(f"SELECT {HUB_COLUMNS} FROM datasets").all()
        assert {tuple(row) for row in found} == {(None,) * 4}
        connection.exec_driver_sql("UPDATE datasets SET hub_name = 'org/name', hub_split = 'train'")
    migrations.downgrade(empty_url, BEFORE_HUB)
    assert names() == before
    migrations.upgrade(empty_url)
    assert names() == before


BEFORE_PREFLIGHT = "202611281440"
PREFLIGHT_ROW = (
    "INSERT INTO preflight_pairs (run_id, pair, preferred_logprob, dispreferred_logprob, "
    "preferred_change, dispreferred_change, gainers, losers, rest_change, pairs, "
    "influence_preferred, influence_dispreferred, fork_position, preferred_tokens, "
    "dispreferred_tokens, preferred_count, dispreferred_count) VALUES "
    "({run}, 0, -1, -2, -0.1, -0.2, '[]', '[]', 0, '{{0}}', '{{-0.1}}', '{{-0.2}}', 0, '[]', "
    "'[]', 1, 1)"
)


def test_pre_flights_come_and_go_with_their_rows_alone(empty_url: str, engine: Engine) -> None:
    def runs() -> list[tuple[int, str]]:
        with engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT id, kind FROM runs ORDER BY id")
            return [(row.id, row.kind) for row in rows]

    new = "INSERT INTO runs (kind, name, dataset_id, config) VALUES ('preflight', 'one', 1, '{}')"
    migrations.upgrade(empty_url, BEFORE_PREFLIGHT)
    with engine.begin() as connection:
        filling.fill(connection)
    before = runs()
    with pytest.raises(IntegrityError, match="ck_runs_kind"), engine.begin() as connection:
        connection.exec_driver_sql(new)
    migrations.upgrade(empty_url)
    assert runs() == before
    with engine.begin() as connection:
        run = connection.exec_driver_sql(f"{new} RETURNING id").scalar_one()
        connection.exec_driver_sql(PREFLIGHT_ROW.format(run=run))
    migrations.downgrade(empty_url, BEFORE_PREFLIGHT)
    assert runs() == before
    migrations.upgrade(empty_url)
    assert runs() == before
    assert counts(engine)["preflight_pairs"] == 0


BEFORE_GENERATIONS = "202611281450"
GENERATION_ROW = (
    "INSERT INTO generations (run_id, pair, sample, revision, text, tokens, ended, logprob) "
    "VALUES ({run}, 0, 0, 1, 'Yes', 2, true, -1.5)"
)


@pytest.mark.parametrize("kind", ["generate", "judge"])
def test_generations_come_and_go_with_their_rows_alone(
    empty_url: str, engine: Engine, kind: str
) -> None:
    new = f"INSERT INTO runs (kind, name, dataset_id, config) VALUES ('{kind}', 'one', 1, '{{}}')"
    migrations.upgrade(empty_url, BEFORE_GENERATIONS)
    with engine.begin() as connection:
        filling.fill(connection)
    before = counts(engine)["runs"]
    with pytest.raises(IntegrityError, match="ck_runs_kind"), engine.begin() as connection:
        connection.exec_driver_sql(new)
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        run = connection.exec_driver_sql(f"{new} RETURNING id").scalar_one()
        connection.exec_driver_sql(GENERATION_ROW.format(run=run))
    migrations.downgrade(empty_url, BEFORE_GENERATIONS)
    assert counts(engine)["runs"] == before
    assert "generations" not in counts(engine)
    migrations.upgrade(empty_url)
    assert (counts(engine)["runs"], counts(engine)["generations"]) == (before, 0)


BEFORE_DECISIONS = "202611281560"
DECISION_ROW = (
    "INSERT INTO filter_decisions (run_id, pair, epoch, revision, text, sample_reward, "
    "preferred_reward, kept) SELECT min(id), 0, 1, 1, NULL, NULL, 'NaN', true FROM runs"
)


def test_decisions_of_filters_come_and_go_without_their_runs(
    empty_url: str, engine: Engine
) -> None:
    migrations.upgrade(empty_url, BEFORE_DECISIONS)
    with engine.begin() as connection:
        filling.fill(connection)
    before = counts(engine)
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(DECISION_ROW)
    assert before.items() <= counts(engine).items()
    assert counts(engine)["filter_decisions"] == 1
    migrations.downgrade(empty_url, BEFORE_DECISIONS)
    assert counts(engine) == before
    migrations.upgrade(empty_url)
    assert counts(engine)["filter_decisions"] == 0


BEFORE_DIVERGENCES = "202611281570"


def test_divergences_are_null_in_earlier_runs_and_go_alone(empty_url: str, engine: Engine) -> None:
    def found() -> list[list[float | None]]:
        with engine.connect() as connection:
            return [
                list(connection.exec_driver_sql(f"SELECT kl FROM {table}").scalars())
                for table in ("probe_steps", "probe_position_steps")
            ]

    migrations.upgrade(empty_url, BEFORE_DIVERGENCES)
    with engine.begin() as connection:
        filling.fill(connection)
    before = counts(engine)
    migrations.upgrade(empty_url)
    assert found() == [[None] * filling.ROWS] * 2
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE probe_steps SET kl = 0.5")
        connection.exec_driver_sql("UPDATE probe_position_steps SET kl = 'Infinity'")
    migrations.downgrade(empty_url, BEFORE_DIVERGENCES)
    assert counts(engine) == before
    migrations.upgrade(empty_url)
    assert found() == [[None] * filling.ROWS] * 2


BEFORE_JUDGMENTS = "202611281500"
JUDGMENT_ROW = (
    "INSERT INTO judgments (run_id, pair, sample, verdict, score, reason) "
    "VALUES ({run}, 0, 0, NULL, 0.5, 'said neither')"
)


def test_judgments_come_and_go_with_their_runs_alone(empty_url: str, engine: Engine) -> None:
    new = "INSERT INTO runs (kind, name, dataset_id, config) VALUES ('{}', 'one', 1, '{{}}')"
    migrations.upgrade(empty_url, BEFORE_JUDGMENTS)
    with engine.begin() as connection:
        filling.fill(connection)
        connection.exec_driver_sql(new.format("generate"))
    before = counts(engine)["runs"]
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        judge = connection.exec_driver_sql(new.format("judge") + " RETURNING id").scalar_one()
        connection.exec_driver_sql(JUDGMENT_ROW.format(run=judge))
    migrations.downgrade(empty_url, BEFORE_JUDGMENTS)
    assert counts(engine)["runs"] == before
    assert "judgments" not in counts(engine)
    migrations.upgrade(empty_url)
    assert (counts(engine)["runs"], counts(engine)["judgments"]) == (before, 0)


BEFORE_EXTERNAL = "202611281600"


def test_external_runs_go_on_the_way_down_with_what_is_theirs_alone(
    empty_url: str, engine: Engine
) -> None:
    new = "INSERT INTO runs (kind, name, status, config) VALUES ('external', 'x', 'lost', '{}')"
    migrations.upgrade(empty_url, BEFORE_EXTERNAL)
    with engine.begin() as connection:
        filling.fill(connection)
    before = counts(engine)
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql(new)
    migrations.upgrade(empty_url)
    with engine.begin() as connection:
        run = connection.exec_driver_sql(f"{new} RETURNING id").scalar_one()
        for row in (
            f"external_runs (run_id, key) VALUES ({run}, 'a key')",
            f"rewinds (run_id, attempt, revision, step) VALUES ({run}, 2, 5, 10)",
            f"metrics (run_id, step, revision, extra) VALUES ({run}, 1, 1, '{{\"a\": 1}}')",
            "recorder_tokens (name, sha256, made_by) VALUES ('a', 'b', 'c')",
        ):
            connection.exec_driver_sql(f"INSERT INTO {row}")
    migrations.downgrade(empty_url, BEFORE_EXTERNAL)
    assert counts(engine) == before
    migrations.upgrade(empty_url)
    assert before.items() <= counts(engine).items()
    assert counts(engine)["external_runs"] == counts(engine)["rewinds"] == 0


BEFORE_PACE = "202611281710"


def test_what_external_runs_are_known_for_later_is_unknown_of_earlier_ones(
    empty_url: str, engine: Engine
) -> None:
    def found() -> list[Any]:
        with engine.begin() as connection:
            query = "SELECT advanced_at, pace_seconds, same_pairs FROM external_runs"
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    migrations.upgrade(empty_url, BEFORE_PACE)
    with engine.begin() as connection:
        filling.fill(connection)
    before = counts(engine)
    migrations.upgrade(empty_url)
    assert found() == [(None, None, None)] * filling.ROWS
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE external_runs SET pace_seconds = 2, same_pairs = true")
    migrations.downgrade(empty_url, BEFORE_PACE)
    assert counts(engine) == before
    migrations.upgrade(empty_url)
    assert found() == [(None, None, None)] * filling.ROWS


BEFORE_SHARDS = "202611290020"


def test_shards_go_on_the_way_down_and_what_was_done_of_a_run_stays(
    empty_url: str, engine: Engine
) -> None:
    migrations.upgrade(empty_url, BEFORE_SHARDS)
    with engine.begin() as connection:
        filling.fill(connection)
        connection.exec_driver_sql("UPDATE runs SET kind = 'score', status = 'running'")
    before = counts(engine)
    migrations.upgrade(empty_url)
    assert before.items() <= counts(engine).items()
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE runs SET lease_token = NULL, messages = '[\"a\"]', pair_messages = '[\"b\"]' "
            "WHERE id = 1"
        )
        connection.exec_driver_sql(
            "INSERT INTO run_shards (run_id, shard, pairs, characters, total, status) "
            "VALUES (1, 0, '{0, 1}', 100, 2, 'running')"
        )
    migrations.downgrade(empty_url, BEFORE_SHARDS)
    assert counts(engine) == before
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT status, messages FROM runs ORDER BY id").all()
    assert found[0].messages == ["a", "b"]
    # The first can be claimed by an older worker; the others are one's already.
    assert [row.status for row in found] == ["queued", "running", "running"]
    migrations.upgrade(empty_url)
    assert counts(engine)["run_shards"] == 0


BEFORE_SEATS = "202611290040"


def test_seats_go_on_the_way_down_and_their_runs_wait_for_one_worker(
    empty_url: str, engine: Engine
) -> None:
    migrations.upgrade(empty_url, BEFORE_SEATS)
    with engine.begin() as connection:
        filling.fill(connection)
        connection.exec_driver_sql(
            "UPDATE runs SET kind = 'train', status = 'running', lease_token = 'token ' || id"
        )
    before = counts(engine)
    migrations.upgrade(empty_url)
    assert before.items() <= counts(engine).items()
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO run_seats (run_id, seat, attempt_token, seats, gpus) "
            "VALUES (1, 0, 'token 1', 2, 4), (1, 1, 'token 1', 2, 4), (2, 0, 'an older one', 2, 4)"
        )
    migrations.downgrade(empty_url, BEFORE_SEATS)
    assert counts(engine) == before
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT status, lease_token FROM runs ORDER BY id").all()
    assert found[0] == ("queued", None)
    assert found[1] == ("running", "token 2")
    migrations.upgrade(empty_url)
    assert counts(engine)["run_seats"] == 0


WITH_SEATS = "202611290320"


def test_seats_of_a_run_that_trains_have_begun(empty_url: str, engine: Engine) -> None:
    migrations.upgrade(empty_url, WITH_SEATS)
    with engine.begin() as connection:
        filling.fill(connection)
        connection.exec_driver_sql("DELETE FROM run_seats")
        connection.exec_driver_sql(
            "UPDATE runs SET kind = 'train', status = 'running', lease_token = 'token ' || id, "
            "phase = CASE id WHEN 1 THEN 'training' WHEN 2 THEN 'waiting for seats' END"
        )
        connection.exec_driver_sql(
            "INSERT INTO run_seats (run_id, seat, attempt_token, seats, gpus) "
            "VALUES (1, 0, 'token 1', 2, 4), (2, 0, 'token 2', 2, 4), (2, 1, 'an older one', 2, 4)"
        )
    before = counts(engine)
    migrations.upgrade(empty_url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT run_id, seat, begun, taken_at FROM run_seats ORDER BY run_id, seat"
        ).all()
    assert found == [(1, 0, True, None), (2, 0, False, None), (2, 1, False, None)]
    migrations.downgrade(empty_url, WITH_SEATS)
    assert counts(engine) == before
