"""count the tries of a run without progress

Revision: 202611232231
Follows: 202611231640
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611232231"
down_revision: str | None = "202611231640"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "runs", sa.Column("tries_here", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    # Until now a run was failed by its total number of claims, so that is where the count starts.
    op.execute("UPDATE runs SET tries_here = attempts")


def downgrade() -> None:
    op.execute("UPDATE runs SET attempts = tries_here")
    op.drop_column("runs", "tries_here")
