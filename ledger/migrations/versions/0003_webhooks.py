"""Webhooks: who is told of what, and how far that is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

PENDING = sa.text("status = 'pending'")


def upgrade() -> None:
    """Add the tables of webhooks and of their deliveries."""
    op.create_table(
        "webhook",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("webhook", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("event_types", TEXT, nullable=True),
        sa.Column("description", TEXT, nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", TEXT, nullable=True),
        sa.Column("failing_since_ms", sa.BigInteger(), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("next_seq", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "webhook"),
        sqlite_with_rowid=False,
    )
    op.create_index("webhook_account", "webhook", ["ledger_id", "account", "created_at_ms", "webhook"], unique=False)
    op.create_table(
        "webhook_delivery",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("webhook", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_attempt_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("next_attempt_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "webhook", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "webhook_delivery_pending",
        "webhook_delivery",
        ["ledger_id", "webhook", "seq"],
        unique=False,
        sqlite_where=PENDING,
        postgresql_where=PENDING,
    )


def downgrade() -> None:
    """Drop both tables: the older version tells nobody, and the ledger has lost nothing."""
    op.drop_table("webhook_delivery")
    op.drop_table("webhook")
