"""Agreements between merchants: holds, refunds, claims and their clearing; who may not act, and what needs approval."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

OPEN = sa.text("status = 'open'")
DISPUTED = sa.text("status = 'disputed'")

CHUNK = 2_000
"""Entries whose rows are completed by one statement; each may tell of a thousand purchases."""

NEW_COLUMNS = (
    ("account", "approval_threshold", sa.Integer()),
    ("account", "recovery_approval_threshold", sa.Integer()),
    ("account", "frozen_seq", sa.BigInteger()),
    ("account", "frozen_reason", TEXT),
    ("asset", "transfer_terms", TEXT),
)

NEW_TABLES = (
    "reference",
    "party",
    "agreement",
    "hold",
    "spending",
    "purchase_refund",
    "claim",
    "obligation",
    "netting",
    "allotment",
    "allotment_alert",
    "usage",
)


def upgrade() -> None:
    """Add the tables and columns, and what entries that are there say about them."""
    for table, name, type_ in NEW_COLUMNS:
        op.add_column(table, sa.Column(name, type_, nullable=True))
    _create_tables()
    is_postgres = op.get_bind().dialect.name == "postgresql"
    if is_postgres:
        _extend_earning()
    else:
        _rebuild_earning()
    _fill(VERSIONS_POSTGRESQL if is_postgres else VERSIONS_SQLITE)
    _fill(SPENDINGS_POSTGRESQL if is_postgres else SPENDINGS_SQLITE)
    _fill(PARTIES_POSTGRESQL if is_postgres else PARTIES_SQLITE)


def _fill(statement: str) -> None:
    """Run a statement for every chunk of entries of every ledger."""
    connection = op.get_bind()
    for ledger_id, size in connection.execute(sa.text("SELECT ledger_id, size FROM head")).all():
        for first in range(0, size, CHUNK):
            values = {"ledger_id": ledger_id, "first": first, "end": first + CHUNK}
            connection.execute(sa.text(statement), values)


def _create_tables() -> None:
    _create("reference", _text("merchant", "scope", "reference"), _big("seq"))
    _create("party", _text("account"), [], key=_big("seq"))
    op.create_index("reference_seq", "reference", ["ledger_id", "seq"], unique=False)
    op.create_index("party_seq", "party", ["ledger_id", "seq"], unique=False)
    _create_agreements()
    _create_holds()
    _create_spendings()
    _create_claims()
    _create("allotment", _text("agreement"), _big("allotted", "remaining"))
    _create("allotment_alert", _text("agreement"), _big("remaining"), key=_big("seq"))
    _create("usage", _text("scope", "account", "period"), _big("points"))


def _create_agreements() -> None:
    _create(
        "agreement",
        _text("agreement"),
        [
            *_text("issuer", "partner", "starts"),
            sa.Column("ends", TEXT, nullable=True),
            sa.Column("notice_days", sa.Integer(), nullable=False),
            *_text("terms"),
            *_big("seq"),
        ],
        key=[sa.Column("version", sa.Integer(), nullable=False)],
    )
    op.create_index("agreement_issuer", "agreement", ["ledger_id", "issuer"], unique=False)
    op.create_index("agreement_partner", "agreement", ["ledger_id", "partner"], unique=False)


def _create_holds() -> None:
    _create(
        "hold",
        _text("hold"),
        [
            *_text("account", "asset", "merchant"),
            *_big("amount", "captured"),
            *_text("parts"),
            sa.Column("agreement", TEXT, nullable=True),
            sa.Column("version", sa.Integer(), nullable=True),
            *_text("until"),
            sa.Column("reference", TEXT, nullable=True),
            *_big("seq"),
            *_text("status"),
        ],
        sqlite_with_rowid=True,
    )
    open_holds = {"hold_open": ["account", "status", "asset"], "hold_merchant_open": ["merchant", "status", "seq"]}
    for name, by in (open_holds | {"hold_due": ["status", "until", "hold"]}).items():
        columns = ["ledger_id", *by]
        op.create_index(name, "hold", columns, unique=False, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("hold_account", "hold", ["ledger_id", "account", "seq"], unique=False)
    op.create_index("hold_merchant", "hold", ["ledger_id", "merchant", "seq"], unique=False)


def _create_spendings() -> None:
    _create(
        "spending",
        _text("operation"),
        [
            *_big("seq"),
            *_text("kind", "time", "account", "asset"),
            *_big("amount"),
            *_text("merchant"),
            sa.Column("agreement", TEXT, nullable=True),
            sa.Column("version", sa.Integer(), nullable=True),
            *_text("parts"),
            *_big("out_points", "claim_amount", "fee_amount", "refunded"),
        ],
        sqlite_with_rowid=True,
    )
    op.create_index("spending_account", "spending", ["ledger_id", "account", "seq"], unique=False)
    op.create_index("spending_merchant", "spending", ["ledger_id", "merchant", "seq"], unique=False)
    _create("purchase_refund", _text("merchant", "reference"), _big("amount", "points", "returned"))


def _create_claims() -> None:
    _create(
        "claim",
        _big("seq"),
        [
            *_text("debtor", "creditor", "currency"),
            *_big("amount"),
            *_text("day"),
            sa.Column("agreement", TEXT, nullable=True),
            *_text("status"),
            sa.Column("disputed_by", TEXT, nullable=True),
        ],
        key=[sa.Column("index", sa.Integer(), nullable=False)],
    )
    for party in ("creditor", "debtor"):
        op.create_index(f"claim_{party}", "claim", ["ledger_id", party, "currency", "seq"], unique=False)
    op.create_index(
        "claim_disputed",
        "claim",
        ["ledger_id", "status", "seq", "index"],
        unique=False,
        sqlite_where=DISPUTED,
        postgresql_where=DISPUTED,
    )
    key = [*_big("netting"), *_text("day")]
    _create("obligation", _text("currency", "debtor", "creditor"), _big("amount"), key=key)
    for party, other in (("creditor", "debtor"), ("debtor", "creditor")):
        columns = ["ledger_id", party, "currency", other]
        op.create_index(f"obligation_{party}", "obligation", columns, unique=False)
    _create("netting", _big("seq"), _text("currency", "through", "merchants"))


Columns = list[sa.Column[object]]


def _text(*names: str) -> Columns:
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def _big(*names: str) -> Columns:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _create(
    table: str, first: Columns, others: Columns, *, key: Columns | None = None, sqlite_with_rowid: bool = False
) -> None:
    """Create a table whose primary key is the ledger, the first columns and those of ``key``."""
    first = [sa.Column("ledger_id", sa.Integer(), nullable=False), *first, *(key or [])]
    constraint = sa.PrimaryKeyConstraint(*(column.name for column in first))
    options = {} if sqlite_with_rowid else {"sqlite_with_rowid": False}
    op.create_table(table, *first, *others, constraint, **options)


# The version an event was under: the last that was published by then, of those that had started when it happened. An
# event that no entry tells of keeps none, which 0 stands for: replay gives another, and the audit says so.
VERSIONS = """
UPDATE earning SET version = coalesce((
    SELECT max(p.version) FROM program AS p
    WHERE p.ledger_id = earning.ledger_id AND p.asset = earning.asset AND p.seq < earning.seq AND p.starts <= event.at
), 0)
FROM event WHERE earning.ledger_id = :ledger_id AND earning.merchant = event.merchant AND earning.scope = event.scope
AND earning.reference = event.reference AND earning.seq = event.seq
"""

VERSIONS_POSTGRESQL = f"""
WITH document AS MATERIALIZED (
    SELECT seq, kind, actor, convert_from(data, 'UTF8')::jsonb -> 'op' AS op FROM entry
    WHERE ledger_id = :ledger_id AND seq >= :first AND seq < :end AND kind IN ('grant', 'record_purchases')
), event AS MATERIALIZED (
    SELECT seq, actor AS merchant, 'grant:' || (op ->> 'activity') AS scope, op ->> 'reference' AS reference,
        op ->> 'at' AS at
    FROM document WHERE kind = 'grant'
    UNION ALL
    SELECT seq, actor, 'order', purchase ->> 'order', purchase ->> 'at'
    FROM document CROSS JOIN LATERAL jsonb_array_elements(op -> 'purchases') AS purchase
    WHERE kind = 'record_purchases'
) {VERSIONS}"""  # noqa: S608

VERSIONS_SQLITE = f"""
WITH document AS MATERIALIZED (
    SELECT seq, kind, actor, CAST(data AS TEXT) AS op FROM entry
    WHERE ledger_id = :ledger_id AND seq >= :first AND seq < :end AND kind IN ('grant', 'record_purchases')
), event AS MATERIALIZED (
    SELECT seq, actor AS merchant, 'grant:' || json_extract(op, '$.op.activity') AS scope,
        json_extract(op, '$.op.reference') AS reference, json_extract(op, '$.op.at') AS at
    FROM document WHERE kind = 'grant'
    UNION ALL
    SELECT seq, actor, 'order', json_extract(purchase.value, '$.order'), json_extract(purchase.value, '$.at')
    FROM document, json_each(op, '$.op.purchases') AS purchase WHERE kind = 'record_purchases'
) {VERSIONS}"""  # noqa: S608

# What was redeemed, and of which lots: those of the postings by which the actor gives.
SPENDINGS_POSTGRESQL = """
INSERT INTO spending
SELECT entry.ledger_id, encode(op_id, 'hex'), entry.seq, kind, time, actor, given.asset, given.amount,
    convert_from(data, 'UTF8')::jsonb #>> '{op,merchant}', NULL, NULL, given.parts, 0, 0, 0, 0
FROM entry JOIN (
    SELECT p.ledger_id, p.seq, p.asset, -sum(p.amount)::bigint AS amount,
        '[' || string_agg('["' || p.lot || '",' || -p.amount || ']', ',' ORDER BY p.leg) || ']' AS parts
    FROM posting AS p JOIN entry AS e ON e.ledger_id = p.ledger_id AND e.seq = p.seq AND e.actor = p.account
    WHERE e.ledger_id = :ledger_id AND e.seq >= :first AND e.seq < :end AND e.kind = 'redeem'
    GROUP BY p.ledger_id, p.seq, p.asset
) AS given ON given.ledger_id = entry.ledger_id AND given.seq = entry.seq
"""

SPENDINGS_SQLITE = """
INSERT INTO spending
SELECT entry.ledger_id, lower(hex(op_id)), entry.seq, kind, time, actor, given.asset, given.amount,
    json_extract(CAST(data AS TEXT), '$.op.merchant'), NULL, NULL, given.parts, 0, 0, 0, 0
FROM (
    SELECT p.ledger_id, p.seq, p.leg, p.asset, -sum(p.amount) OVER legs AS amount,
        '[' || group_concat('["' || p.lot || '",' || -p.amount || ']', ',') OVER legs || ']' AS parts,
        row_number() OVER (PARTITION BY p.seq ORDER BY p.leg) AS number
    FROM entry AS e JOIN posting AS p ON p.ledger_id = e.ledger_id AND p.seq = e.seq AND p.account = e.actor
    WHERE e.ledger_id = :ledger_id AND e.seq >= :first AND e.seq < :end AND e.kind = 'redeem'
    WINDOW legs AS (PARTITION BY p.seq ORDER BY p.leg ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
) AS given JOIN entry ON entry.ledger_id = given.ledger_id AND entry.seq = given.seq WHERE given.number = 1
"""

# A redemption concerns its merchant, where that is not who redeems.
PARTIES_POSTGRESQL = """
INSERT INTO party SELECT ledger_id, merchant, seq FROM spending AS s
WHERE ledger_id = :ledger_id AND seq >= :first AND seq < :end AND merchant <> account
"""

PARTIES_SQLITE = PARTIES_POSTGRESQL


def _extend_earning() -> None:
    """Add the columns; a default that is there for a moment gives them to all rows without touching these."""
    op.add_column("earning", sa.Column("version", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("earning", sa.Column("agreement_version", sa.Integer(), nullable=True))
    op.add_column("earning", sa.Column("claim_amount", sa.BigInteger(), nullable=False, server_default="0"))
    for name in ("version", "claim_amount"):
        op.alter_column("earning", name, server_default=None)


def _rebuild_earning() -> None:
    """SQLite adds no column that must have a value: the table is made anew and filled from the old one."""
    op.rename_table("earning", "earning_0003")
    op.create_table(
        "earning",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        *_text("merchant", "scope", "reference"),
        *_big("seq"),
        *_text("asset", "account", "earned_on"),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        *_big("points"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("agreement_version", sa.Integer(), nullable=True),
        *_big("claim_amount"),
        sa.PrimaryKeyConstraint("ledger_id", "merchant", "scope", "reference"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO earning SELECT *, 0, NULL, 0 FROM earning_0003")
    op.drop_table("earning_0003")
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


OLD_KINDS = (
    "genesis",
    "open_account",
    "define_asset",
    "publish_program",
    "record_purchases",
    "grant",
    "transfer",
    "redeem",
    "expire",
    "replace_keys",
    "recover_keys",
    "cancel_recovery",
    "replace_log_key",
)

NEWER = {
    "entry": f"kind NOT IN {OLD_KINDS}",
    "account": "approval_threshold IS NOT NULL OR recovery_approval_threshold IS NOT NULL",
    "asset": "transfer_terms IS NOT NULL",
    "program": "document LIKE '%\"approval_above\":%' OR document LIKE '%\"refunds\":%' "
    "OR document LIKE '%\"returned_lot_days\":%'",
    "agreement": "true",
}


def downgrade() -> None:
    """Go back to merchants who have nothing to do with each other; refuse when the older version could not read all."""
    connection = op.get_bind()
    for table, condition in NEWER.items():
        if connection.execute(sa.text(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1")).first():  # noqa: S608
            raise RuntimeError(f"table {table} has what only this version knows: the older version cannot read it")
    for table in reversed(NEW_TABLES):
        op.drop_table(table)
    for table, name, _ in reversed(NEW_COLUMNS):
        op.drop_column(table, name)
    for name in ("claim_amount", "agreement_version", "version"):
        op.drop_column("earning", name)
