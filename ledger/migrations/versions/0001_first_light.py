"""First light: the record, its projections, and the triggers that keep the record as it was written."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
RECORD = ("entry", "posting", "tile")

POSTGRES_FUNCTION = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$
"""


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "account",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("keys", TEXT, nullable=False),
        sa.Column("threshold", sa.Integer(), nullable=False),
        sa.Column("custodian", TEXT, nullable=True),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("opened_at", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "account"),
        sqlite_with_rowid=False,
    )
    op.create_index("account_seq", "account", ["ledger_id", "seq"], unique=False)
    op.create_table(
        "asset",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("asset", TEXT, nullable=False),
        sa.Column("issuer", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("scale", sa.Integer(), nullable=False),
        sa.Column("supply_cap", sa.BigInteger(), nullable=True),
        sa.Column("transferable", sa.Boolean(), nullable=False),
        sa.Column("value_points", sa.BigInteger(), nullable=True),
        sa.Column("value_amount", sa.BigInteger(), nullable=True),
        sa.Column("value_currency", TEXT, nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "asset"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "earning",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("merchant", TEXT, nullable=False),
        sa.Column("scope", TEXT, nullable=False),
        sa.Column("reference", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("asset", TEXT, nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("earned_on", TEXT, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "merchant", "scope", "reference"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "earning_account", "earning", ["ledger_id", "asset", "account", "earned_on", "points"], unique=False
    )
    op.create_index("earning_seq", "earning", ["ledger_id", "seq"], unique=False)
    no_points = sa.text("points = 0")
    op.create_index(
        "earning_nothing",
        "earning",
        ["ledger_id", "account", "seq"],
        unique=False,
        sqlite_where=no_points,
        postgresql_where=no_points,
    )
    op.create_table(
        "entry",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(), nullable=False),
        sa.Column("op_id", sa.LargeBinary(), nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=True),
        sa.Column("time", TEXT, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "seq"),
        sa.UniqueConstraint("ledger_id", "leaf_hash", name="entry_leaf_hash"),
        sa.UniqueConstraint("ledger_id", "op_id", name="entry_op_id"),
    )
    op.create_index("entry_kind", "entry", ["ledger_id", "kind", "seq"], unique=False)
    no_own_posting = sa.text("kind NOT IN ('transfer', 'redeem')")
    op.create_index(
        "entry_actor",
        "entry",
        ["ledger_id", "actor", "seq"],
        unique=False,
        sqlite_where=no_own_posting,
        postgresql_where=no_own_posting,
    )
    op.create_table(
        "head",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("last_leaf_hash", sa.LargeBinary(), nullable=False),
        sa.Column("last_time", TEXT, nullable=False),
        sa.Column("compact_range", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("ledger_id"),
        sa.UniqueConstraint("origin"),
    )
    op.create_table(
        "lot",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("asset", TEXT, nullable=False),
        sa.Column("last_day", TEXT, nullable=False),
        sa.Column("points", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "account", "asset", "last_day"),
        sqlite_with_rowid=False,
    )
    op.create_index("lot_due", "lot", ["ledger_id", "asset", "last_day", "account"], unique=False)
    op.create_table(
        "posting",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("leg", sa.Integer(), nullable=False),
        sa.Column("account", TEXT, nullable=False),
        sa.Column("asset", TEXT, nullable=False),
        sa.Column("lot", TEXT, nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "seq", "leg"),
        sqlite_with_rowid=False,
    )
    op.create_index("posting_account", "posting", ["ledger_id", "account", "asset", "seq"], unique=False)
    op.create_index("posting_asset", "posting", ["ledger_id", "asset", "seq"], unique=False)
    op.create_table(
        "program",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("asset", TEXT, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("starts", TEXT, nullable=False),
        sa.Column("ends", TEXT, nullable=True),
        sa.Column("document", TEXT, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "asset", "version"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tile",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "level", "index"),
    )
    _refuse_changes()


def _refuse_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRES_FUNCTION)
        for table in RECORD:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
        return
    for table in RECORD:
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def downgrade() -> None:
    """Drop all tables, and with them the triggers."""
    for table in ("earning", "lot", "program", "asset", "account", "tile", "posting", "entry", "head"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
