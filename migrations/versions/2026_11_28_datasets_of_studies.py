"""study_runs: the dataset that a study made of the answers that a run judged

Revision: 202611281560
Follows: 202611281545
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281560"
down_revision: str | None = "202611281545"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("study_runs", sa.Column("made_dataset_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key(
        op.f("fk_study_runs_made_dataset_id_datasets"),
        "study_runs",
        "datasets",
        ["made_dataset_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.create_index("ix_study_runs_made_dataset_id", "study_runs", ["made_dataset_id"])


def downgrade() -> None:
    op.drop_index("ix_study_runs_made_dataset_id", table_name="study_runs")
    op.drop_constraint(
        op.f("fk_study_runs_made_dataset_id_datasets"), "study_runs", type_="foreignkey"
    )
    op.drop_column("study_runs", "made_dataset_id")
