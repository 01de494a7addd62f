"""tails of the reference's log-probabilities

Runs of earlier versions have no objective that needs them: null.

Revision: 202611281545
Follows: 202611281530
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281545"
down_revision: str | None = "202611281530"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = ("preferred_tail", "dispreferred_tail")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("reference_logprobs", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("reference_logprobs", name)
