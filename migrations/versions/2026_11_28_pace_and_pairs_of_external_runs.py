"""how fast external runs are trained, and whether their pairs are numbered as their dataset's

Revision: 202611281730
Follows: 202611281710
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281730"
down_revision: str | None = "202611281710"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = {
    "advanced_at": sa.DateTime(timezone=True),
    "pace_seconds": sa.Double(),
    "same_pairs": sa.Boolean(),
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("external_runs", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("external_runs", name)
