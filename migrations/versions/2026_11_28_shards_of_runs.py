"""shards of runs, which several workers do at once

Runs of earlier versions have none: one that is queued is cut into shards when it is claimed.

Revision: 202611290030
Follows: 202611290020
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611290030"
down_revision: str | None = "202611290020"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "run_shards",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pairs", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("characters", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("found", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries_here", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "failed_by",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("advanced", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("seconds", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done')", name=op.f("ck_run_shards_status")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_shards_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "shard", name=op.f("pk_run_shards")),
    )
    op.add_column(
        "runs",
        sa.Column(
            "pair_messages",
            postgresql.JSONB(),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    # An older program knows neither the notices apart nor a run that runs without a token.
    op.execute(
        "UPDATE runs SET messages = messages || pair_messages WHERE pair_messages <> '[]'::jsonb"
    )
    op.execute(
        "UPDATE runs SET status = 'queued', lease_expires_at = NULL, phase = NULL "
        "WHERE status = 'running' AND lease_token IS NULL AND kind <> 'external' "
        "AND id IN (SELECT run_id FROM run_shards)"
    )
    op.drop_column("runs", "pair_messages")
    op.drop_table("run_shards")
