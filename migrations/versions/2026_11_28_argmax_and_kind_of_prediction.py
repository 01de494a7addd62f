"""argmax of recorded positions and kind of prediction

Null in runs of earlier versions: their distributions are not stored, and their predictions are all
of one kind.

Revision: 202611281440
Follows: 202611281410
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281440"
down_revision: str | None = "202611281410"
branch_labels: str | None = None
depends_on: str | None = None

STEPS = ("probe_steps", "probe_position_steps")
KIND = "ck_probe_positions_prediction_kind"


def upgrade() -> None:
    for table in STEPS:
        op.add_column(table, sa.Column("argmax_token", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("argmax_logprob", sa.Double(), nullable=True))
    op.add_column("probe_positions", sa.Column("prediction_kind", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f(KIND), "probe_positions", "prediction_kind IN ('geometry', 'squeezing')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f(KIND), "probe_positions", type_="check")
    op.drop_column("probe_positions", "prediction_kind")
    for table in STEPS:
        op.drop_column(table, "argmax_logprob")
        op.drop_column(table, "argmax_token")
