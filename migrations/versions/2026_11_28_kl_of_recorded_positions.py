"""KL divergence of recorded positions from step 0

Null in runs of earlier versions: their distributions are not stored.

Revision: 202611281600
Follows: 202611281570
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281600"
down_revision: str | None = "202611281570"
branch_labels: str | None = None
depends_on: str | None = None

STEPS = ("probe_steps", "probe_position_steps")


def upgrade() -> None:
    for table in STEPS:
        op.add_column(table, sa.Column("kl", sa.Double(), nullable=True))


def downgrade() -> None:
    for table in STEPS:
        op.drop_column(table, "kl")
