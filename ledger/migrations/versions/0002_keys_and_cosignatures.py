"""Keys over time and cosignatures: who may sign when, and what witnesses saw."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

ABOUT_AN_ACCOUNT = sa.text("kind IN ('recover_keys', 'cancel_recovery')")
RECOVERY = (("recovery_keys", TEXT), ("recovery_threshold", sa.Integer()), ("recovery_at", TEXT))


def upgrade() -> None:
    """Add what an account's keys become, the log's keys, and the table of cosignatures."""
    op.create_table(
        "log_key",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("log_key", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cosignature",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("witness", TEXT, nullable=False),
        sa.Column("timestamp_s", sa.BigInteger(), nullable=False),
        sa.Column("line", TEXT, nullable=False),
        sa.Column("checkpoint", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", "size", "witness"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "entry_account",
        "entry",
        ["ledger_id", sa.text("substr(data, 19, 30)"), "seq"],
        sqlite_where=ABOUT_AN_ACCOUNT,
        postgresql_where=ABOUT_AN_ACCOUNT,
    )
    if op.get_bind().dialect.name == "postgresql":
        _extend_account()
    else:
        _rebuild_account()
    _write_log_keys()


def _extend_account() -> None:
    op.add_column("account", sa.Column("keys_seq", sa.BigInteger(), nullable=True))
    op.execute("UPDATE account SET keys_seq = seq")
    op.alter_column("account", "keys_seq", nullable=False)
    for name, type_ in RECOVERY:
        op.add_column("account", sa.Column(name, type_, nullable=True))
    op.add_column("account", sa.Column("recovery_seq", sa.BigInteger(), nullable=True))


def _rebuild_account() -> None:
    """SQLite adds no column that must have a value: the table is made anew and filled from the old one."""
    op.rename_table("account", "account_0001")
    op.drop_index("account_seq")
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
        sa.Column("keys_seq", sa.BigInteger(), nullable=False),
        *(sa.Column(name, type_, nullable=True) for name, type_ in RECOVERY),
        sa.Column("recovery_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "account"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO account SELECT *, seq, NULL, NULL, NULL, NULL FROM account_0001")
    op.drop_table("account_0001")
    op.create_index("account_seq", "account", ["ledger_id", "seq"], unique=False)


def _write_log_keys() -> None:
    """Until now the log had one key, the one genesis names."""
    connection = op.get_bind()
    for ledger_id, data in connection.execute(sa.text("SELECT ledger_id, data FROM entry WHERE seq = 0")).all():
        log_key = json.loads(bytes(data))["op"]["log_key"]
        values = {"ledger_id": ledger_id, "log_key": log_key}
        connection.execute(sa.text("INSERT INTO log_key VALUES (:ledger_id, 0, :log_key)"), values)


def downgrade() -> None:
    """Go back to accounts whose keys never change; refuse when some did, which the older version would not know."""
    connection = op.get_bind()
    changed = sa.text("SELECT 1 FROM account WHERE keys_seq <> seq OR recovery_seq IS NOT NULL LIMIT 1")
    replaced = sa.text("SELECT 1 FROM log_key WHERE seq > 0 LIMIT 1")
    if connection.execute(changed).first() or connection.execute(replaced).first():
        raise RuntimeError("keys were replaced in this ledger: the older version cannot read it")
    op.drop_index("entry_account", "entry")
    op.drop_table("cosignature")
    op.drop_table("log_key")
    for column in ("recovery_seq", *(name for name, _ in reversed(RECOVERY)), "keys_seq"):
        op.drop_column("account", column)
