"""phase of a run

Revision: 202611251340
Follows: 202611232231
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611251340"
down_revision: str | None = "202611232231"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("phase", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("phase_done", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("phase_total", sa.BigInteger(), nullable=True))
    op.add_column("runs", sa.Column("phase_unit", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("phase_eta_seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "phase_eta_seconds")
    op.drop_column("runs", "phase_unit")
    op.drop_column("runs", "phase_total")
    op.drop_column("runs", "phase_done")
    op.drop_column("runs", "phase")
