"""detail of an issue

Revision: 202611281410
Follows: 202611281420
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281410"
down_revision: str | None = "202611281420"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("pair_issues", sa.Column("detail", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("pair_issues", "detail")
