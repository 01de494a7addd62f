"""generate runs and their answers; judge runs are allowed too

Revision: 202611281500
Follows: 202611281450
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281500"
down_revision: str | None = "202611281450"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sample", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("logprob", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_generations_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", "sample", name=op.f("pk_generations")),
    )
    _allow_kinds("'score', 'train', 'evaluate', 'check', 'preflight', 'generate', 'judge'")


def downgrade() -> None:
    op.drop_table("generations")
    # An older program can neither run nor show them.
    op.execute("DELETE FROM runs WHERE kind IN ('generate', 'judge')")
    _allow_kinds("'score', 'train', 'evaluate', 'check', 'preflight'")


def _allow_kinds(kinds: str) -> None:
    op.drop_constraint(op.f("ck_runs_kind"), "runs")
    op.create_check_constraint(op.f("ck_runs_kind"), "runs", f"kind IN ({kinds})")
