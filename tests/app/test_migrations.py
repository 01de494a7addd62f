"""The migrations make the very tables that the code declares, and can be undone."""

from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, make_url

from app import migrations
from app.services import Services, SetupError


@pytest.fixture
def empty_url(services: Services) -> Iterator[str]:
    """A database of its own, with nothing in it."""
    name = "chesboard_migrations"
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
        yield make_url(services.database_url).set(database=name).render_as_string(False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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


def test_a_database_of_a_later_version_is_refused_in_words(empty_url: str) -> None:
    migrations.upgrade(empty_url)
    with psycopg.connect(empty_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '999912312359'")
    with pytest.raises(SetupError, match="not one that this version knows"):
        migrations.upgrade(empty_url)
