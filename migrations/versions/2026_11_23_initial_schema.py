"""initial schema

Revision: 202611231347
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "202611231347"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("source_filename", sa.Text(), nullable=False),
        sa.Column("source_sha256", sa.Text(), nullable=False),
        sa.Column("source_bytes", sa.BigInteger(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("errors", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("statistics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_source_sha256"), "datasets", ["source_sha256"], unique=False)
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "pairs",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("prompt", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("preferred", sa.Text(), nullable=False),
        sa.Column("dispreferred", sa.Text(), nullable=False),
        sa.Column("meta", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_pairs_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("dataset_id", "pair", name=op.f("pk_pairs")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "summary",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "messages",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False
        ),
        sa.Column("progress_done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("progress_total", sa.Integer(), nullable=True),
        sa.Column("progress_unit", sa.Text(), server_default="steps", nullable=False),
        sa.Column("eta_seconds", sa.Double(), nullable=True),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('score', 'train', 'evaluate')", name=op.f("ck_runs_kind")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_runs_status"),
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_runs_dataset_id_datasets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_dataset_id"), "runs", ["dataset_id"], unique=False)
    op.create_index(
        "ix_runs_unfinished",
        "runs",
        ["status"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_table(
        "flags",
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("score_run", sa.BigInteger(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_flags_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["score_run"], ["runs.id"], name=op.f("fk_flags_score_run_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "pair", name=op.f("pk_flags")),
    )
    op.create_table(
        "metrics",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=True),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("preferred_logprob", sa.Double(), nullable=True),
        sa.Column("dispreferred_logprob", sa.Double(), nullable=True),
        sa.Column("preferred_change", sa.Double(), nullable=True),
        sa.Column("dispreferred_change", sa.Double(), nullable=True),
        sa.Column("displaced_fraction", sa.Double(), nullable=True),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("grad_norm", sa.Double(), nullable=True),
        sa.Column("learning_rate", sa.Double(), nullable=True),
        sa.Column("tokens_per_second", sa.Double(), nullable=True),
        sa.Column("tokens_seen", sa.BigInteger(), nullable=True),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_metrics_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_metrics")),
    )
    op.create_index("ix_metrics_run_id_revision", "metrics", ["run_id", "revision"], unique=False)
    op.create_table(
        "probes",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("preferred_tokens", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("dispreferred_tokens", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fork_position", sa.Integer(), nullable=False),
        sa.Column("groups", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("watched", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_probes_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", name=op.f("pk_probes")),
    )
    op.create_table(
        "reference_logprobs",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("preferred", sa.Double(), nullable=False),
        sa.Column("dispreferred", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["runs.id"],
            name=op.f("fk_reference_logprobs_run_id_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", name=op.f("pk_reference_logprobs")),
    )
    op.create_table(
        "scores",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ches", sa.Double(), nullable=True),
        sa.Column("ln_ches", sa.Double(), nullable=True),
        sa.Column("last_hidden_inner_product", sa.Double(), nullable=True),
        sa.Column("normalized_edit_distance", sa.Double(), nullable=True),
        sa.Column("preferred_logprob", sa.Double(), nullable=True),
        sa.Column("dispreferred_logprob", sa.Double(), nullable=True),
        sa.Column("preferred_tokens", sa.Integer(), nullable=False),
        sa.Column("dispreferred_tokens", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cut_tokens", sa.Integer(), nullable=False),
        sa.Column("preferred_ends", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column("dispreferred_ends", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_scores_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", name=op.f("pk_scores")),
    )
    op.create_index("ix_scores_run_id_ches", "scores", ["run_id", "ches"], unique=False)
    op.create_table(
        "probe_steps",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pair", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("preferred_logprobs", postgresql.ARRAY(sa.DOUBLE_PRECISION()), nullable=False),
        sa.Column("dispreferred_logprobs", postgresql.ARRAY(sa.DOUBLE_PRECISION()), nullable=False),
        sa.Column("preferred_prob", sa.Double(), nullable=False),
        sa.Column("dispreferred_prob", sa.Double(), nullable=False),
        sa.Column("other_prob", sa.Double(), nullable=False),
        sa.Column("group_probs", postgresql.ARRAY(sa.DOUBLE_PRECISION()), nullable=False),
        sa.Column("watched_probs", postgresql.ARRAY(sa.REAL()), nullable=False),
        sa.Column("gainers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("losers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("rest_change", sa.Double(), nullable=False),
        sa.Column("moved_mass", sa.Double(), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "pair"],
            ["probes.run_id", "probes.pair"],
            name=op.f("fk_probe_steps_run_id_pair_probes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "pair", "step", name=op.f("pk_probe_steps")),
    )
    op.create_index(
        "ix_probe_steps_run_id_revision", "probe_steps", ["run_id", "revision"], unique=False
    )


def downgrade() -> None:
    op.drop_index("ix_probe_steps_run_id_revision", table_name="probe_steps")
    op.drop_table("probe_steps")
    op.drop_index("ix_scores_run_id_ches", table_name="scores")
    op.drop_table("scores")
    op.drop_table("reference_logprobs")
    op.drop_table("probes")
    op.drop_index("ix_metrics_run_id_revision", table_name="metrics")
    op.drop_table("metrics")
    op.drop_table("flags")
    op.drop_index(
        "ix_runs_unfinished",
        table_name="runs",
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.drop_index(op.f("ix_runs_dataset_id"), table_name="runs")
    op.drop_table("runs")
    op.drop_table("pairs")
    op.drop_table("workers")
    op.drop_index(op.f("ix_datasets_source_sha256"), table_name="datasets")
    op.drop_table("datasets")
