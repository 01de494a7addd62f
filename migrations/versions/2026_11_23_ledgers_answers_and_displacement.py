"""ledgers answers and displacement

Revision: 202611231630
Follows: 202611231644
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611231630"
down_revision: str | None = "202611231644"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "probe_answers",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "pair"],
            ["probes.run_id", "probes.pair"],
            name=op.f("fk_probe_answers_run_id_pair_probes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", "step", name=op.f("pk_probe_answers")),
    )
    op.create_index(
        "ix_probe_answers_run_id_revision", "probe_answers", ["run_id", "revision"], unique=False
    )
    op.create_table(
        "probe_positions",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("watched", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("predicted", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "response IN ('preferred', 'dispreferred')", name=op.f("ck_probe_positions_response")
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "pair"],
            ["probes.run_id", "probes.pair"],
            name=op.f("fk_probe_positions_run_id_pair_probes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "pair", "response", "position", name=op.f("pk_probe_positions")
        ),
    )
    op.create_table(
        "probe_position_steps",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("watched_probs", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("gainers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("losers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("rest_change", sa.Double(), nullable=False),
        sa.Column("moved_mass", sa.Double(), nullable=False),
        sa.Column(
            "recent", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("predicted_changes", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("predicted_ranks", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("rank_agreement", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id", "pair", "response", "position"],
            [
                "probe_positions.run_id",
                "probe_positions.pair",
                "probe_positions.response",
                "probe_positions.position",
            ],
            name="fk_probe_position_steps_probe_positions",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "pair", "response", "position", "step", name=op.f("pk_probe_position_steps")
        ),
    )
    op.add_column("probe_steps", sa.Column("preferred_change", sa.Double(), nullable=True))
    op.add_column("probe_steps", sa.Column("dispreferred_change", sa.Double(), nullable=True))
    op.add_column("probe_steps", sa.Column("onset_step", sa.Integer(), nullable=True))
    op.add_column(
        "probe_steps",
        sa.Column(
            "recent", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
    )
    op.add_column(
        "probe_steps",
        sa.Column(
            "predicted_changes",
            postgresql.ARRAY(sa.REAL()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column(
        "probe_steps",
        sa.Column(
            "predicted_ranks",
            postgresql.ARRAY(sa.Integer()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("probe_steps", sa.Column("rank_agreement", sa.Double(), nullable=True))
    op.alter_column(
        "probe_steps",
        "preferred_prob",
        existing_type=sa.DOUBLE_PRECISION(precision=53),
        nullable=True,
    )
    op.alter_column(
        "probe_steps",
        "dispreferred_prob",
        existing_type=sa.DOUBLE_PRECISION(precision=53),
        nullable=True,
    )
    op.alter_column(
        "probe_steps", "other_prob", existing_type=sa.DOUBLE_PRECISION(precision=53), nullable=True
    )
    op.create_index(
        "ix_probe_steps_bands",
        "probe_steps",
        ["run_id", "step", "pair"],
        unique=False,
        postgresql_include=["preferred_change", "dispreferred_change"],
    )
    op.create_index(
        "ix_probe_steps_curves",
        "probe_steps",
        ["run_id", "pair", "step"],
        unique=False,
        postgresql_include=[
            "preferred_change",
            "dispreferred_change",
            "preferred_prob",
            "dispreferred_prob",
            "other_prob",
            "moved_mass",
            "group_probs",
        ],
    )
    op.add_column("probes", sa.Column("kind", sa.Text(), server_default="pair", nullable=False))
    op.add_column("probes", sa.Column("name", sa.Text(), nullable=True))
    op.add_column(
        "probes",
        sa.Column(
            "predicted",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )
    op.add_column(
        "probes",
        sa.Column(
            "positions",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text('\'{"preferred": [], "dispreferred": []}\''),
            nullable=False,
        ),
    )
    _fill_in()
    op.add_column("reference_logprobs", sa.Column("final_preferred", sa.Double(), nullable=True))
    op.add_column("reference_logprobs", sa.Column("final_dispreferred", sa.Double(), nullable=True))


def _fill_in() -> None:
    """Fill the new columns of existing runs from the rows that they recorded."""
    op.create_check_constraint(op.f("ck_probes_kind"), "probes", "kind IN ('pair', 'prompt')")
    op.execute(
        """
        UPDATE probes SET
            groups = (
                SELECT coalesce(
                    jsonb_agg(jsonb_build_object('name', key, 'tokens', value)), '[]'
                )
                -- the order in which group_probs were stored
                FROM jsonb_each(groups)
            ),
            positions = jsonb_build_object(
                'preferred', jsonb_build_array(fork_position),
                'dispreferred', jsonb_build_array(fork_position)
            )
        """
    )
    op.execute(
        """
        CREATE FUNCTION pg_temp.total(double precision[]) RETURNS double precision
        LANGUAGE sql IMMUTABLE AS 'SELECT sum(value) FROM unnest($1) AS of(value)'
        """
    )
    op.execute(
        """
        UPDATE probe_steps AS now SET
            preferred_change =
                pg_temp.total(now.preferred_logprobs) - pg_temp.total(first.preferred_logprobs),
            dispreferred_change =
                pg_temp.total(now.dispreferred_logprobs)
                - pg_temp.total(first.dispreferred_logprobs)
        FROM probe_steps AS first
        WHERE first.run_id = now.run_id AND first.pair = now.pair AND first.step = 0
        """
    )


def downgrade() -> None:
    op.execute("DELETE FROM probes WHERE kind = 'prompt'")
    op.drop_constraint(op.f("ck_probes_kind"), "probes")
    op.execute(
        """
        UPDATE probes SET groups = (
            SELECT coalesce(jsonb_object_agg(of ->> 'name', of -> 'tokens'), '{}')
            FROM jsonb_array_elements(groups) AS of
            WHERE of ? 'name'
        )
        WHERE jsonb_typeof(groups) = 'array'
        """
    )
    op.drop_column("reference_logprobs", "final_dispreferred")
    op.drop_column("reference_logprobs", "final_preferred")
    op.drop_column("probes", "positions")
    op.drop_column("probes", "predicted")
    op.drop_column("probes", "name")
    op.drop_column("probes", "kind")
    op.drop_index("ix_probe_steps_bands", table_name="probe_steps")
    op.drop_index(
        "ix_probe_steps_curves",
        table_name="probe_steps",
        postgresql_include=[
            "preferred_change",
            "dispreferred_change",
            "preferred_prob",
            "dispreferred_prob",
            "other_prob",
            "moved_mass",
            "group_probs",
        ],
    )
    op.alter_column(
        "probe_steps", "other_prob", existing_type=sa.DOUBLE_PRECISION(precision=53), nullable=False
    )
    op.alter_column(
        "probe_steps",
        "dispreferred_prob",
        existing_type=sa.DOUBLE_PRECISION(precision=53),
        nullable=False,
    )
    op.alter_column(
        "probe_steps",
        "preferred_prob",
        existing_type=sa.DOUBLE_PRECISION(precision=53),
        nullable=False,
    )
    op.drop_column("probe_steps", "rank_agreement")
    op.drop_column("probe_steps", "predicted_ranks")
    op.drop_column("probe_steps", "predicted_changes")
    op.drop_column("probe_steps", "recent")
    op.drop_column("probe_steps", "onset_step")
    op.drop_column("probe_steps", "dispreferred_change")
    op.drop_column("probe_steps", "preferred_change")
    op.drop_table("probe_position_steps")
    op.drop_table("probe_positions")
    op.drop_index("ix_probe_answers_run_id_revision", table_name="probe_answers")
    op.drop_table("probe_answers")
