"""score summaries: the distribution of each measure of a finished score run

Revision: 202611290020
Follows: 202611290010
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611290020"
down_revision: str | None = "202611290010"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Empty at first: the runs of earlier versions are summarized when they are first looked at."""
    op.create_table(
        "score_summaries",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("measures", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.id"],
            name=op.f("fk_score_summaries_run_id_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_score_summaries")),
    )


def downgrade() -> None:
    op.drop_table("score_summaries")
