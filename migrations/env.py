"""Alembic environment: runs the migrations on the connection that app/local/migrate.py opened."""

from alembic import context
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext

from app.local.migrate import METADATA


def drop_empty(
    _context: MigrationContext, _revision: object, directives: list[MigrationScript]
) -> None:
    """Generate no file if the tables and the database already agree."""
    if (
        directives
        and directives[0].upgrade_ops is not None
        and directives[0].upgrade_ops.is_empty()
    ):
        directives.clear()


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    compare_type=True,
    compare_server_default=True,
    transaction_per_migration=True,
    process_revision_directives=drop_empty,
)
with context.begin_transaction():
    context.run_migrations()
