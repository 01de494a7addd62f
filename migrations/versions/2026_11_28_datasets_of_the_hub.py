"""datasets of the hub

Revision: 202611281420
Follows: 202611281400
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281420"
down_revision: str | None = "202611281400"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = ("hub_name", "hub_config", "hub_split", "hub_revision")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("datasets", sa.Column(name, sa.Text(), nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("datasets", name)
