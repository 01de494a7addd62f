"""judge runs and their verdicts

Revision: 202611281510
Follows: 202611281500
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281510"
down_revision: str | None = "202611281500"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "judgments",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sample", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("verdict", sa.Boolean(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_judgments_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", "sample", name=op.f("pk_judgments")),
    )


def downgrade() -> None:
    op.drop_table("judgments")
    # An older program can neither run nor show them.
    op.execute("DELETE FROM runs WHERE kind = 'judge'")
