"""pair issues, rejections, columns and sources of pairs

Revision: 202611231644
Follows: 202611231629
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611231644"
down_revision: str | None = "202611231629"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "pair_issues",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("issue", sa.Text(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("other", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_pair_issues_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "issue", "pair", name=op.f("pk_pair_issues")),
    )
    op.create_table(
        "rejections",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("snippet", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_rejections_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "number", name=op.f("pk_rejections")),
    )
    op.add_column(
        "datasets", sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column(
        "pairs", sa.Column("source", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column("pairs", sa.Column("fingerprint", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("pairs", "fingerprint")
    op.drop_column("pairs", "source")
    op.drop_column("datasets", "columns")
    op.drop_table("rejections")
    op.drop_table("pair_issues")
