"""decisions by which training runs drop pairs

Revision: 202611281570
Follows: 202611281560
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281570"
down_revision: str | None = "202611281560"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "filter_decisions",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("sample_reward", sa.Double(), nullable=True),
        sa.Column("preferred_reward", sa.Double(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.id"],
            name=op.f("fk_filter_decisions_run_id_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", "epoch", name=op.f("pk_filter_decisions")),
    )
    op.create_index(
        "ix_filter_decisions_run_id_epoch", "filter_decisions", ["run_id", "epoch", "pair"]
    )


def downgrade() -> None:
    op.drop_table("filter_decisions")
