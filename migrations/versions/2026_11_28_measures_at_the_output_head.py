"""measures at the output head

The gaps of runs of earlier versions follow from what is stored; what is measured at the head needs
the model again and stays null.

Revision: 202611281430
Follows: 202611251340
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281430"
down_revision: str | None = "202611251340"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = (
    "implicit_gap",
    "length_gap",
    "head_shift",
    "head_cosine",
    "preferred_grad_norm",
    "dispreferred_grad_norm",
)


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("scores", sa.Column(name, sa.Double(), nullable=True))
    op.execute(
        "UPDATE scores SET implicit_gap = preferred_logprob - dispreferred_logprob, "
        "length_gap = dispreferred_tokens - preferred_tokens"
    )


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("scores", name)
