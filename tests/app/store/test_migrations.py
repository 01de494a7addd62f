"""The migrations make the very tables that the code declares, and can be undone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, make_url, text

from app.core.resources import folder
from app.local import migrate as migrations
from app.local.errors import SetupError
from tests.app import filling


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    engine = create_engine(make_url(empty_url).set(drivername="postgresql+psycopg"))
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


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
        return {
            name: connection.scalar(text(f'SELECT count(*) FROM "{name}"')) or 0
            for name in tables(engine)
        }


def test_no_row_is_lost_on_the_way_down_and_up(empty_url: str, engine: Engine) -> None:
    """From the newest schema, full, to each older one and back: what both have stays whole."""
    migrations.upgrade(empty_url)
    fill_with_what_has_a_place_before(engine)
    full = counts(engine)
    assert min(full.values()) == filling.ROWS
    for revision in revisions()[1:]:
        migrations.downgrade(empty_url, revision)
        older = counts(engine)
        assert set(older.values()) == {filling.ROWS}, revision
        migrations.upgrade(empty_url)
        kept = counts(engine)
        assert {name: kept[name] for name in older} == older, revision
        with engine.begin() as connection:
            filling.empty(connection)
        fill_with_what_has_a_place_before(engine)


def fill_with_what_has_a_place_before(engine: Engine) -> None:
    """Free prompts have none: an older program can't show a probe without responses."""
    with engine.begin() as connection:
        filling.fill(connection)
        connection.exec_driver_sql("UPDATE probes SET kind = 'pair'")


def test_each_older_schema_is_upgraded_with_its_own_rows(empty_url: str, engine: Engine) -> None:
    for revision in reversed(revisions()):
        migrations.upgrade(empty_url, revision)
        with engine.begin() as connection:
            filling.empty(connection)
            filling.fill(connection)
        before = counts(engine)
        migrations.upgrade(empty_url)
        after = counts(engine)
        assert {name: after[name] for name in before} == before, revision
        migrations.downgrade(empty_url, "base")


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
