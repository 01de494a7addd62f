"""pre-flight runs, and what they record of each pair

Revision: 202611281450
Follows: 202611281440
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611281450"
down_revision: str | None = "202611281440"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "preflight_pairs",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("preferred_logprob", sa.Double(), nullable=False),
        sa.Column("dispreferred_logprob", sa.Double(), nullable=False),
        sa.Column("preferred_change", sa.Double(), nullable=False),
        sa.Column("dispreferred_change", sa.Double(), nullable=False),
        sa.Column("gainers", postgresql.JSONB(), nullable=False),
        sa.Column("losers", postgresql.JSONB(), nullable=False),
        sa.Column("rest_change", sa.Double(), nullable=False),
        sa.Column("pairs", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("influence_preferred", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("influence_dispreferred", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("fork_position", sa.Integer(), nullable=False),
        sa.Column("preferred_tokens", postgresql.JSONB(), nullable=False),
        sa.Column("dispreferred_tokens", postgresql.JSONB(), nullable=False),
        sa.Column("preferred_count", sa.Integer(), nullable=False),
        sa.Column("dispreferred_count", sa.Integer(), nullable=False),
        sa.Column("interference", postgresql.ARRAY(sa.REAL()), nullable=True),
        sa.Column("pulls", postgresql.ARRAY(sa.Double()), nullable=True),
        sa.Column("own", sa.Double(), nullable=True),
        sa.Column("pull", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_preflight_pairs_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", name=op.f("pk_preflight_pairs")),
    )
    _allow_kinds("'score', 'train', 'evaluate', 'check', 'preflight'")


def downgrade() -> None:
    op.drop_table("preflight_pairs")
    # An older program can neither run nor show them.
    op.execute("DELETE FROM runs WHERE kind = 'preflight'")
    _allow_kinds("'score', 'train', 'evaluate', 'check'")


def _allow_kinds(kinds: str) -> None:
    op.drop_constraint(op.f("ck_runs_kind"), "runs")
    op.create_check_constraint(op.f("ck_runs_kind"), "runs", f"kind IN ({kinds})")
