"""seats of runs, whose workers train one model together

They last as long as an attempt at a run: there is nothing to keep on the way down.

Revision: 202611290320
Follows: 202611290040
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611290320"
down_revision: str | None = "202611290040"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "run_seats",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("seat", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt_token", sa.Text(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("marker", sa.Text(), nullable=True),
        sa.Column("results", postgresql.JSONB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_seats_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "seat", name=op.f("pk_run_seats")),
    )


def downgrade() -> None:
    # A run that several workers train goes on with one: none of them knows of seats any more.
    op.execute(
        "UPDATE runs SET status = 'queued', lease_token = NULL, lease_expires_at = NULL, "
        "phase = NULL WHERE status = 'running' AND lease_token IN "
        "(SELECT attempt_token FROM run_seats)"
    )
    op.drop_table("run_seats")
