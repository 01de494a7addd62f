"""alarms: rules, what they found, and what is sent of it

Revision: 202611281710
Follows: 202611281700
"""

import sqlalchemy as sa
from alembic import op

revision: str = "202611281710"
down_revision: str | None = "202611281700"
branch_labels: str | None = None
depends_on: str | None = None

KINDS = (
    "kind IN ('displaced_fraction', 'opposite_lead', 'preferred_logprob', 'loss_not_finite', "
    "'run_lost', 'run_failed')"
)


def upgrade() -> None:
    op.create_table(
        "alarm_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=True),
        _clock("created_at"),
        sa.CheckConstraint(KINDS, name=op.f("ck_alarm_rules_kind")),
        _run("alarm_rules"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_rules")),
    )
    op.create_index(op.f("ix_alarm_rules_run_id"), "alarm_rules", ["run_id"])
    op.create_table(
        "alarms",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("rule_id", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=True),
        _clock("raised_at"),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.CheckConstraint(KINDS, name=op.f("ck_alarms_kind")),
        _run("alarms"),
        sa.ForeignKeyConstraint(
            ["rule_id"],
            ["alarm_rules.id"],
            name=op.f("fk_alarms_rule_id_alarm_rules"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
        sa.UniqueConstraint("run_id", "rule_id", name=op.f("uq_alarms_run_id_rule_id")),
    )
    op.create_index(op.f("ix_alarms_rule_id"), "alarms", ["rule_id"])
    op.create_index(
        "ix_alarms_open",
        "alarms",
        ["run_id"],
        postgresql_where=sa.text("acknowledged_at IS NULL"),
    )
    op.create_table(
        "alarm_deliveries",
        sa.Column("alarm_id", sa.BigInteger(), nullable=False),
        sa.Column("webhook", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["alarm_id"],
            ["alarms.id"],
            name=op.f("fk_alarm_deliveries_alarm_id_alarms"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("alarm_id", "webhook", name=op.f("pk_alarm_deliveries")),
    )
    op.create_index(
        "ix_alarm_deliveries_due",
        "alarm_deliveries",
        ["next_at"],
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_table(
        "alarm_checks",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        _run("alarm_checks"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_alarm_checks")),
    )


def downgrade() -> None:
    for table in ("alarm_checks", "alarm_deliveries", "alarms", "alarm_rules"):
        op.drop_table(table)


def _clock(name: str) -> sa.Column[object]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("clock_timestamp()"),
        nullable=False,
    )


def _run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["run_id"], ["runs.id"], name=op.f(f"fk_{table}_run_id_runs"), ondelete="CASCADE"
    )
