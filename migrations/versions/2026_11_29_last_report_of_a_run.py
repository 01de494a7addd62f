"""the last report of a run's worker

Revision: 202611290040
Follows: 202611290030
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611290040"
down_revision: str | None = "202611290030"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Unknown of earlier runs: they are quiet only once they have reported something."""
    op.add_column("runs", sa.Column("reported_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "reported_at")
