"""findings of a run, and check runs

Revision: 202611281400
Follows: 202611281430
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281400"
down_revision: str | None = "202611281430"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "run_findings",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_findings_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "kind", "pair", name=op.f("pk_run_findings")),
    )
    op.drop_constraint(op.f("ck_runs_kind"), "runs")
    op.create_check_constraint(
        op.f("ck_runs_kind"), "runs", "kind IN ('score', 'train', 'evaluate', 'check')"
    )


def downgrade() -> None:
    op.drop_table("run_findings")
    # An older program can neither run nor show them, and they hold nothing but findings.
    op.execute("DELETE FROM runs WHERE kind = 'check'")
    op.drop_constraint(op.f("ck_runs_kind"), "runs")
    op.create_check_constraint(
        op.f("ck_runs_kind"), "runs", "kind IN ('score', 'train', 'evaluate')"
    )
