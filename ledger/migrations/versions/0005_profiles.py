"""Profiles: personal data, encrypted for each member, and the identifiers members are found by."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "profile_key",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id"),
    )
    op.create_table(
        "profile",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("key_id", TEXT, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "account"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "profile_erasure",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("erased_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "account"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "identifier",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("identifier", TEXT, nullable=False),
        sa.Column("merchant", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("keyed_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("added_by", TEXT, nullable=False),
        sa.Column("added_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "identifier"),
        sa.UniqueConstraint("ledger_id", "merchant", "kind", "keyed_hash", name="identifier_value"),
        sqlite_with_rowid=False,
    )
    op.create_index("identifier_account", "identifier", ["ledger_id", "account", "added_at_ms"], unique=False)


def downgrade() -> None:
    """Drop the tables, unless there is anybody in them: it could not be had again."""
    for table in ("profile", "profile_erasure", "identifier"):
        if op.get_bind().execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).first() is not None:  # noqa: S608 - ours
            raise RuntimeError("there are profiles, which an older version cannot keep: stay at this one")
    for table in ("identifier", "profile_erasure", "profile", "profile_key"):
        op.drop_table(table)
