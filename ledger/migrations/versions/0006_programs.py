"""The program language: who takes part in a program, tiers, vesting, vouchers, pools, and what members are told."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

HAS_TIER = sa.text("tier IS NOT NULL")
SCORED = sa.text("score IS NOT NULL")
USED = sa.text("used_seq IS NOT NULL")

NEW_COLUMNS = (
    ("earning", "circumstances", TEXT, None),
    ("earning", "score", sa.Integer(), None),
    ("spending", "holders", TEXT, "[]"),
    ("spending", "reward", TEXT, None),
    ("spending", "vouchers", sa.Integer(), "0"),
    ("purchase_refund", "lines", TEXT, "[]"),
    ("profile", "birthday_hash", sa.LargeBinary(), None),
)
"""Table, name, type, and what rows that are there have; none: it may be absent."""

NEW_TABLES = ("membership", "progress", "pending", "voucher", "pool", "reminder", "reminded")

KINDS = ("enroll", "vest", "review_tiers", "start_plan", "end_plan", "form_pool", "leave_pool", "use_voucher", "remind")


def upgrade() -> None:
    """Add the tables and columns. What was recorded says nothing of what is in them."""
    for table, name, type_, default in NEW_COLUMNS:
        column = sa.Column(name, type_, nullable=default is None, server_default=default)
        op.add_column(table, column)
    op.create_index(
        "earning_score",
        "earning",
        ["ledger_id", "asset", "earned_on", "scope", "score"],
        sqlite_where=SCORED,
        postgresql_where=SCORED,
    )
    op.create_index("profile_birthday", "profile", ["ledger_id", "birthday_hash", "account"])
    _create_memberships()
    _create_vouchers()
    op.create_table(
        "reminder",
        _ledger(),
        *_big("seq"),
        *_text("account", "asset", "about"),
        *_big("points"),
        *_maybe("day", "tier"),
        sa.PrimaryKeyConstraint("ledger_id", "seq", "account"),
    )
    op.create_index("reminder_account", "reminder", ["ledger_id", "account", "seq"])
    op.create_table(
        "reminded",
        _ledger(),
        *_text("asset", "account", "about", "through"),
        sa.PrimaryKeyConstraint("ledger_id", "asset", "account", "about"),
        sqlite_with_rowid=False,
    )


def _create_memberships() -> None:
    op.create_table(
        "membership",
        _ledger(),
        *_text("asset", "account", "joined_on"),
        *_big("purchases"),
        *_maybe("formula", "invited_by", "tier"),
        *_text("tier_until"),
        *_maybe("plan", "plan_from", "plan_until", "pool"),
        sa.PrimaryKeyConstraint("ledger_id", "asset", "account"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "membership_tier",
        "membership",
        ["ledger_id", "asset", "tier_until", "account"],
        sqlite_where=HAS_TIER,
        postgresql_where=HAS_TIER,
    )
    op.create_table(
        "progress",
        _ledger(),
        *_text("asset", "account", "basis", "period"),
        *_big("count"),
        sa.PrimaryKeyConstraint("ledger_id", "asset", "account", "basis", "period"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pool",
        _ledger(),
        *_text("pool", "asset", "members"),
        sa.PrimaryKeyConstraint("ledger_id", "pool"),
        sqlite_with_rowid=False,
    )


def _create_vouchers() -> None:
    op.create_table(
        "pending",
        _ledger(),
        *_text("merchant", "order", "asset", "account"),
        *_big("points"),
        *_text("vests_on", "last_day"),
        sa.Column("version", sa.Integer(), nullable=False),
        *_big("status_points"),
        *_maybe("inviter"),
        *_big("inviter_points"),
        sa.PrimaryKeyConstraint("ledger_id", "merchant", "order"),
    )
    op.create_index("pending_due", "pending", ["ledger_id", "asset", "vests_on", "merchant", "order"])
    op.create_index("pending_account", "pending", ["ledger_id", "account", "asset"])
    op.create_table(
        "voucher",
        _ledger(),
        *_big("seq"),
        sa.Column("index", sa.Integer(), nullable=False),
        *_text("account", "asset", "merchant", "reward"),
        *_big("price"),
        sa.Column("worth", sa.BigInteger(), nullable=True),
        *_text("last_day", "status"),
        sa.Column("used_seq", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("ledger_id", "seq", "index"),
    )
    op.create_index("voucher_account", "voucher", ["ledger_id", "account", "seq", "index"])
    op.create_index("voucher_merchant", "voucher", ["ledger_id", "merchant", "seq", "index"])
    op.create_index(
        "voucher_used", "voucher", ["ledger_id", "merchant", "used_seq"], sqlite_where=USED, postgresql_where=USED
    )


def _ledger() -> sa.Column[int]:
    return sa.Column("ledger_id", sa.Integer(), nullable=False)


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def _maybe(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, TEXT, nullable=True) for name in names]


def _big(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


NEW_PARTS = (
    *("benefits", "birthday", "bonuses", "earning_cap", "excluded_categories", "formulas", "multipliers", "plans"),
    *("purchase_within_days", "referral", "reminders", "rewards", "stacking", "status_asset", "tiers", "vesting_days"),
    *("evidence", "limit", "scored"),
)
"""Of programs: an older version can read none that has one of them."""


def downgrade() -> None:
    """Drop the tables and columns; refuse when the older version could not read what was recorded since."""
    connection = op.get_bind()
    parts = " OR ".join(f"document LIKE '%\"{name}\"\\:%'" for name in NEW_PARTS)
    expiries = " OR ".join(
        f'document LIKE \'%"after":"{name}"%\'' for name in ("months_end", "membership_year_end", "inactivity")
    )
    kinds = ", ".join(f"'{kind}'" for kind in KINDS)
    nothing = " OR ".join(f"document LIKE '%\"max_points\"\\:0{end}%'" for end in ",}")
    newer = {
        "program": f"{parts} OR {expiries} OR {nothing}",
        "entry": f"kind IN ({kinds})",
        "earning": "circumstances IS NOT NULL OR score IS NOT NULL",
        "spending": "reward IS NOT NULL OR holders <> '[]'",
        "purchase_refund": "lines <> '[]'",
    }
    for table, condition in newer.items():
        if connection.execute(sa.text(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1")).first():  # noqa: S608
            raise RuntimeError(f"table {table} has what only this version knows: the older version cannot read it")
    for table in reversed(NEW_TABLES):
        op.drop_table(table)
    op.drop_index("profile_birthday", "profile")
    op.drop_index("earning_score", table_name="earning")
    for table, name, _, _ in reversed(NEW_COLUMNS):
        op.drop_column(table, name)
