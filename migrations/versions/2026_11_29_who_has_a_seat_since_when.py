"""since when a worker has its seat, and whether those of an attempt have begun

Revision: 202611290930
Follows: 202611290320
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611290930"
down_revision: str | None = "202611290320"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("run_seats", sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "run_seats",
        sa.Column("begun", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    # All were ready where the run does not wait for seats any more.
    op.execute(
        "UPDATE run_seats SET begun = true FROM runs WHERE runs.id = run_id "
        "AND runs.lease_token = attempt_token AND phase <> 'waiting for seats'"
    )


def downgrade() -> None:
    op.drop_column("run_seats", "begun")
    op.drop_column("run_seats", "taken_at")
