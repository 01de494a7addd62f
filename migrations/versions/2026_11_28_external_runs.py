"""external runs, where they were resumed, the tokens that record them, and a trainer's own metrics

Revision: 202611281700
Follows: 202611281600
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611281700"
down_revision: str | None = "202611281600"
branch_labels: str | None = None
depends_on: str | None = None

OUR_KINDS = "'score', 'train', 'evaluate', 'check', 'preflight', 'generate', 'judge'"
OUR_STATUSES = "'queued', 'running', 'succeeded', 'failed', 'cancelled'"


def upgrade() -> None:
    op.alter_column("runs", "dataset_id", nullable=True)
    _allow(f"{OUR_KINDS}, 'external'", f"{OUR_STATUSES}, 'lost'")
    op.add_column("metrics", sa.Column("extra", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_table(
        "external_runs",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "heard_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("recorded_through", sa.Integer(), nullable=True),
        sa.Column("records", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_external_runs_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_external_runs")),
        sa.UniqueConstraint("key", name=op.f("uq_external_runs_key")),
    )
    op.create_table(
        "rewinds",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_rewinds_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "attempt", name=op.f("pk_rewinds")),
    )
    op.create_index("ix_rewinds_run_id_revision", "rewinds", ["run_id", "revision"])
    op.create_table(
        "recorder_tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recorder_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_recorder_tokens_sha256")),
    )


def downgrade() -> None:
    op.drop_table("recorder_tokens")
    op.drop_table("rewinds")
    op.drop_table("external_runs")
    op.drop_column("metrics", "extra")
    # An older program can neither record nor show them; of another kind, none is ever lost.
    op.execute("DELETE FROM runs WHERE kind = 'external'")
    op.execute("UPDATE runs SET status = 'failed' WHERE status = 'lost'")
    _allow(OUR_KINDS, OUR_STATUSES)
    op.alter_column("runs", "dataset_id", nullable=False)


def _allow(kinds: str, statuses: str) -> None:
    for name, values in (("kind", kinds), ("status", statuses)):
        op.drop_constraint(op.f(f"ck_runs_{name}"), "runs")
        op.create_check_constraint(op.f(f"ck_runs_{name}"), "runs", f"{name} IN ({values})")
