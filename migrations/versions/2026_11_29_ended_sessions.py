"""sessions that were ended before their time

Revision: 202611290010
Follows: 202611281730
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611290010"
down_revision: str | None = "202611281730"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "ended_sessions",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_ended_sessions")),
    )


def downgrade() -> None:
    op.drop_table("ended_sessions")
