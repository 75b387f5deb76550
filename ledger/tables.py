"""The tables: which columns a ledger is kept in, and how its records become rows.

The primary key of every table begins with the ledger's id and no statement crosses ledgers, so one database holds many
ledgers and a distributed engine can shard by it.

``entry``, ``posting`` and ``tile`` are the record: triggers refuse UPDATE and DELETE. ``head`` holds what the next
entry builds on, and its row is the lock writers take. ``cosignature`` holds what witnesses said, which is theirs;
``webhook`` and ``webhook_delivery`` are the service's: who is told of what, and how far that is. So are ``profile``,
``profile_erasure``, ``profile_key`` and ``identifier``: personal data, encrypted, which no entry has. All others are
projections: what replaying the entries gives, kept for speed and compared by the auditor. The tables of
:data:`RECORD_TABLES` have the fields of the records they keep, in their order; a field that is no scalar is canonical
JSON.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlmodel import Field, SQLModel

from ledger.state import (
    Agreement,
    Allotment,
    AllotmentAlert,
    Claim,
    Membership,
    Netting,
    Obligation,
    Pending,
    PointsHold,
    Pool,
    Progress,
    PurchaseRefund,
    Reminded,
    Reminder,
    Spending,
    Usage,
    Voucher,
)

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text that sorts by its bytes on both databases, as in the rules; a locale's order would change which lot is first."""


class Head(SQLModel, table=True):
    """One row per ledger, the end of its chain: ``size`` entries, last leaf hash, compact range, signed checkpoint."""

    __tablename__ = "head"
    ledger_id: int = Field(primary_key=True)
    origin: str = Field(unique=True, sa_type=TEXT)
    size: int = Field(sa_type=sa.BigInteger)
    last_leaf_hash: bytes
    last_time: str = Field(sa_type=TEXT)
    compact_range: bytes
    checkpoint: str = Field(sa_type=TEXT)


_NO_OWN_POSTING = sa.text("kind NOT IN ('transfer', 'redeem')")
_ABOUT_AN_ACCOUNT = sa.text("kind IN ('recover_keys', 'cancel_recovery')")
ACCOUNT_IN_ENTRY = "substr(data, 19, 30)"
"""The account that entry bytes of these kinds are about: canonical JSON puts it first, ``{"op":{"account":"mem_…``."""


class EntryRow(SQLModel, table=True):
    """An entry's stored bytes, which are the truth, and the columns it is found by."""

    __tablename__ = "entry"
    __table_args__ = (
        sa.UniqueConstraint("ledger_id", "op_id", name="entry_op_id"),
        sa.UniqueConstraint("ledger_id", "leaf_hash", name="entry_leaf_hash"),
        sa.Index("entry_kind", "ledger_id", "kind", "seq"),
        # Who sends or spends has a posting in the entry and is found by it: most entries need no row here.
        sa.Index(
            "entry_actor", "ledger_id", "actor", "seq", sqlite_where=_NO_OWN_POSTING, postgresql_where=_NO_OWN_POSTING
        ),
        sa.Index(
            "entry_account",
            "ledger_id",
            sa.text(ACCOUNT_IN_ENTRY),
            "seq",
            sqlite_where=_ABOUT_AN_ACCOUNT,
            postgresql_where=_ABOUT_AN_ACCOUNT,
        ),
    )
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    leaf_hash: bytes
    op_id: bytes
    kind: str = Field(sa_type=TEXT)
    actor: str | None = Field(sa_type=TEXT)
    time: str = Field(sa_type=TEXT)
    data: bytes


class PostingRow(SQLModel, table=True):
    """One leg of an entry. ``lot`` is the last usable day, 9999-12-31 when the points never expire."""

    __tablename__ = "posting"
    __table_args__ = (
        sa.Index("posting_account", "ledger_id", "account", "asset", "seq"),
        sa.Index("posting_asset", "ledger_id", "asset", "seq"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    leg: int = Field(primary_key=True)
    account: str = Field(sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    lot: str = Field(sa_type=TEXT)
    amount: int = Field(sa_type=sa.BigInteger)


class TileRow(SQLModel, table=True):
    """A full Merkle tile: 256 hashes (C2SP tlog-tiles), and the root over them, which is a hash of the tile above."""

    __tablename__ = "tile"
    ledger_id: int = Field(primary_key=True)
    level: int = Field(primary_key=True)
    index: int = Field(primary_key=True, sa_type=sa.BigInteger)
    hashes: bytes
    root: bytes


class AccountRow(SQLModel, table=True):
    """An account; ``keys`` is a JSON array of public keys. ``seq`` is the entry that opened it.

    ``keys_seq`` is the entry that gave it these keys. The ``recovery_`` columns are those of the keys that replace them
    at a time, unless someone objects; all are null when there are none. ``frozen_seq`` is the entry that froze it.
    """

    __tablename__ = "account"
    __table_args__ = (sa.Index("account_seq", "ledger_id", "seq"), {"sqlite_with_rowid": False})
    ledger_id: int = Field(primary_key=True)
    account: str = Field(primary_key=True, sa_type=TEXT)
    role: str = Field(sa_type=TEXT)
    keys: str = Field(sa_type=TEXT)
    threshold: int
    custodian: str | None = Field(sa_type=TEXT)
    name: str | None = Field(sa_type=TEXT)
    opened_at: str = Field(sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)
    keys_seq: int = Field(sa_type=sa.BigInteger)
    recovery_keys: str | None = Field(sa_type=TEXT)
    recovery_threshold: int | None
    recovery_at: str | None = Field(sa_type=TEXT)
    recovery_seq: int | None = Field(sa_type=sa.BigInteger)
    approval_threshold: int | None
    recovery_approval_threshold: int | None
    frozen_seq: int | None = Field(sa_type=sa.BigInteger)
    frozen_reason: str | None = Field(sa_type=TEXT)


class LogKeyRow(SQLModel, table=True):
    """A verifier key of the log, which signs checkpoints of more than ``seq`` entries until the next one does."""

    __tablename__ = "log_key"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    log_key: str = Field(sa_type=TEXT)


class CosignatureRow(SQLModel, table=True):
    """A witness's line on a checkpoint of ``size`` entries. ``checkpoint`` is the log's note without such lines."""

    __tablename__ = "cosignature"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    size: int = Field(primary_key=True, sa_type=sa.BigInteger)
    witness: str = Field(primary_key=True, sa_type=TEXT)
    timestamp_s: int = Field(sa_type=sa.BigInteger)
    line: str = Field(sa_type=TEXT)
    checkpoint: str = Field(sa_type=TEXT)


class WebhookRow(SQLModel, table=True):
    """An address that an account has told of its events. ``event_types`` is a JSON array, null for all there are.

    ``secret`` and ``previous_secret`` are encrypted. Entries below ``next_seq`` are settled, but for the deliveries
    that are pending. ``revision`` counts the changes of the row, so that none is made of what another has changed.
    """

    __tablename__ = "webhook"
    __table_args__ = (
        sa.Index("webhook_account", "ledger_id", "account", "created_at_ms", "webhook"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    webhook: str = Field(primary_key=True, sa_type=TEXT)
    account: str = Field(sa_type=TEXT)
    url: str = Field(sa_type=TEXT)
    event_types: str | None = Field(sa_type=TEXT)
    description: str | None = Field(sa_type=TEXT)
    created_at_ms: int = Field(sa_type=sa.BigInteger)
    disabled_at_ms: int | None = Field(sa_type=sa.BigInteger)
    disabled_reason: str | None = Field(sa_type=TEXT)
    failing_since_ms: int | None = Field(sa_type=sa.BigInteger)
    secret: bytes
    previous_secret: bytes | None
    previous_until_ms: int | None = Field(sa_type=sa.BigInteger)
    next_seq: int = Field(sa_type=sa.BigInteger)
    revision: int = Field(sa_type=sa.BigInteger)


_PENDING = sa.text("status = 'pending'")


class WebhookDeliveryRow(SQLModel, table=True):
    """What became of telling a webhook of the entry ``seq``: ``status`` is pending, delivered or dead."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        sa.Index(
            "webhook_delivery_pending",
            "ledger_id",
            "webhook",
            "seq",
            sqlite_where=_PENDING,
            postgresql_where=_PENDING,
        ),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    webhook: str = Field(primary_key=True, sa_type=TEXT)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    type: str = Field(sa_type=TEXT)
    status: str = Field(sa_type=TEXT)
    attempts: int
    last_attempt_at_ms: int | None = Field(sa_type=sa.BigInteger)
    next_attempt_at_ms: int | None = Field(sa_type=sa.BigInteger)
    status_code: int | None
    error: str | None = Field(sa_type=TEXT)


class ProfileKeyRow(SQLModel, table=True):
    """The key that identifiers are hashed under, wrapped; ``key_id`` names the profile key that it is wrapped with."""

    __tablename__ = "profile_key"
    ledger_id: int = Field(primary_key=True)
    key_id: str = Field(sa_type=TEXT)
    wrapped_key: bytes


class ProfileRow(SQLModel, table=True):
    """A member's profile, ``sealed`` with a data key of its own, which is wrapped with the profile key ``key_id``.

    ``birthday_hash`` is a keyed hash of the day and month, by which those whose birthday it is are found.
    """

    __tablename__ = "profile"
    __table_args__ = (
        sa.Index("profile_birthday", "ledger_id", "birthday_hash", "account"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    account: str = Field(primary_key=True, sa_type=TEXT)
    key_id: str = Field(sa_type=TEXT)
    wrapped_key: bytes
    sealed: bytes
    revision: int = Field(sa_type=sa.BigInteger)
    updated_at_ms: int = Field(sa_type=sa.BigInteger)
    birthday_hash: bytes | None


class ProfileErasureRow(SQLModel, table=True):
    """When what was kept of a member was erased last."""

    __tablename__ = "profile_erasure"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    account: str = Field(primary_key=True, sa_type=TEXT)
    erased_at_ms: int = Field(sa_type=sa.BigInteger)


class IdentifierRow(SQLModel, table=True):
    """What a merchant finds a member by: a keyed hash of it, and the value ``sealed`` with the member's data key."""

    __tablename__ = "identifier"
    __table_args__ = (
        sa.UniqueConstraint("ledger_id", "merchant", "kind", "keyed_hash", name="identifier_value"),
        sa.Index("identifier_account", "ledger_id", "account", "added_at_ms"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    identifier: str = Field(primary_key=True, sa_type=TEXT)
    merchant: str = Field(sa_type=TEXT)
    kind: str = Field(sa_type=TEXT)
    keyed_hash: bytes
    account: str = Field(sa_type=TEXT)
    added_by: str = Field(sa_type=TEXT)
    added_at_ms: int = Field(sa_type=sa.BigInteger)
    sealed: bytes


class AssetRow(SQLModel, table=True):
    """An asset. ``seq`` is the entry that defined it; ``transfer_terms`` is their canonical JSON."""

    __tablename__ = "asset"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    asset: str = Field(primary_key=True, sa_type=TEXT)
    issuer: str = Field(sa_type=TEXT)
    name: str = Field(sa_type=TEXT)
    scale: int
    supply_cap: int | None = Field(sa_type=sa.BigInteger)
    transferable: bool
    value_points: int | None = Field(sa_type=sa.BigInteger)
    value_amount: int | None = Field(sa_type=sa.BigInteger)
    value_currency: str | None = Field(sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)
    transfer_terms: str | None = Field(sa_type=TEXT)


class ProgramRow(SQLModel, table=True):
    """A version of an asset's program; ``document`` is its canonical JSON."""

    __tablename__ = "program"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    asset: str = Field(primary_key=True, sa_type=TEXT)
    version: int = Field(primary_key=True)
    starts: str = Field(sa_type=TEXT)
    ends: str | None = Field(sa_type=TEXT)
    document: str = Field(sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)


class LotRow(SQLModel, table=True):
    """Points of an account by last usable day, or what it is owed of a currency; a lot of 0 has no row.

    System accounts may be negative, and so may a debt of points, which is undated, and money.
    """

    __tablename__ = "lot"
    __table_args__ = (
        sa.Index("lot_due", "ledger_id", "asset", "last_day", "account"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    account: str = Field(primary_key=True, sa_type=TEXT)
    asset: str = Field(primary_key=True, sa_type=TEXT)
    last_day: str = Field(primary_key=True, sa_type=TEXT)
    points: int = Field(sa_type=sa.BigInteger)


_NO_POINTS = sa.text("points = 0")
_SCORED = sa.text("score IS NOT NULL")


class EarningRow(SQLModel, table=True):
    """An event that gave points: its reference is unique per merchant and scope. ``amount`` is in minor units.

    ``version`` is that of the program it was under, ``agreement_version`` that by which a partner gave the points, and
    ``claim_amount`` what was owed for them. ``circumstances`` is canonical JSON, ``score`` the answer to a survey.
    """

    __tablename__ = "earning"
    __table_args__ = (
        sa.Index("earning_account", "ledger_id", "asset", "account", "earned_on", "points"),
        sa.Index("earning_seq", "ledger_id", "seq"),
        # Events that gave points are found by their postings.
        sa.Index(
            "earning_nothing", "ledger_id", "account", "seq", sqlite_where=_NO_POINTS, postgresql_where=_NO_POINTS
        ),
        # Answers of surveys: few among all events.
        sa.Index(
            "earning_score",
            "ledger_id",
            "asset",
            "earned_on",
            "scope",
            "score",
            sqlite_where=_SCORED,
            postgresql_where=_SCORED,
        ),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    merchant: str = Field(primary_key=True, sa_type=TEXT)
    scope: str = Field(primary_key=True, sa_type=TEXT)
    reference: str = Field(primary_key=True, sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)
    asset: str = Field(sa_type=TEXT)
    account: str = Field(sa_type=TEXT)
    earned_on: str = Field(sa_type=TEXT)
    amount: int | None = Field(sa_type=sa.BigInteger)
    points: int = Field(sa_type=sa.BigInteger)
    version: int
    agreement_version: int | None
    claim_amount: int = Field(sa_type=sa.BigInteger)
    circumstances: str | None = Field(sa_type=TEXT)
    score: int | None


class ReferenceRow(SQLModel, table=True):
    """A merchant's number of a refund, correction, allotment or payment, which entry ``seq`` has used up."""

    __tablename__ = "reference"
    __table_args__ = (sa.Index("reference_seq", "ledger_id", "seq"), {"sqlite_with_rowid": False})
    ledger_id: int = Field(primary_key=True)
    merchant: str = Field(primary_key=True, sa_type=TEXT)
    scope: str = Field(primary_key=True, sa_type=TEXT)
    reference: str = Field(primary_key=True, sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)


class PartyRow(SQLModel, table=True):
    """Entry ``seq`` concerns an account that is neither its actor nor has a posting in it."""

    __tablename__ = "party"
    __table_args__ = (sa.Index("party_seq", "ledger_id", "seq"), {"sqlite_with_rowid": False})
    ledger_id: int = Field(primary_key=True)
    account: str = Field(primary_key=True, sa_type=TEXT)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)


class AgreementRow(SQLModel, table=True):
    """A version of an agreement; ``terms`` is canonical JSON."""

    __tablename__ = "agreement"
    __table_args__ = (
        sa.Index("agreement_issuer", "ledger_id", "issuer"),
        sa.Index("agreement_partner", "ledger_id", "partner"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    agreement: str = Field(primary_key=True, sa_type=TEXT)
    version: int = Field(primary_key=True)
    issuer: str = Field(sa_type=TEXT)
    partner: str = Field(sa_type=TEXT)
    starts: str = Field(sa_type=TEXT)
    ends: str | None = Field(sa_type=TEXT)
    notice_days: int
    terms: str = Field(sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)


_OPEN = sa.text("status = 'open'")


class HoldRow(SQLModel, table=True):
    """Points on hold; ``parts`` is a JSON array of the last days and points that are left of it."""

    __tablename__ = "hold"
    __table_args__ = (
        # With the status in them, though it is the same in all of them: else SQLite prefers the indexes of all holds.
        sa.Index("hold_open", "ledger_id", "account", "status", "asset", sqlite_where=_OPEN, postgresql_where=_OPEN),
        sa.Index(
            "hold_merchant_open", "ledger_id", "merchant", "status", "seq", sqlite_where=_OPEN, postgresql_where=_OPEN
        ),
        sa.Index("hold_account", "ledger_id", "account", "seq"),
        sa.Index("hold_merchant", "ledger_id", "merchant", "seq"),
        sa.Index("hold_due", "ledger_id", "status", "until", "hold", sqlite_where=_OPEN, postgresql_where=_OPEN),
        # With SQLite's own row numbers: else it reads all holds by the primary key to find an account's open ones.
    )
    ledger_id: int = Field(primary_key=True)
    hold: str = Field(primary_key=True, sa_type=TEXT)
    account: str = Field(sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    merchant: str = Field(sa_type=TEXT)
    amount: int = Field(sa_type=sa.BigInteger)
    captured: int = Field(sa_type=sa.BigInteger)
    parts: str = Field(sa_type=TEXT)
    agreement: str | None = Field(sa_type=TEXT)
    version: int | None
    until: str = Field(sa_type=TEXT)
    reference: str | None = Field(sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)
    status: str = Field(sa_type=TEXT)


class SpendingRow(SQLModel, table=True):
    """What an operation (its id in hex) took; ``parts`` is a JSON array of last days and points, as they were spent."""

    __tablename__ = "spending"
    # With SQLite's own row numbers: ids land everywhere, and the rows that come last are the ones to be written.
    __table_args__ = (
        sa.Index("spending_account", "ledger_id", "account", "seq"),
        sa.Index("spending_merchant", "ledger_id", "merchant", "seq"),
    )
    ledger_id: int = Field(primary_key=True)
    operation: str = Field(primary_key=True, sa_type=TEXT)
    seq: int = Field(sa_type=sa.BigInteger)
    kind: str = Field(sa_type=TEXT)
    time: str = Field(sa_type=TEXT)
    account: str = Field(sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    amount: int = Field(sa_type=sa.BigInteger)
    merchant: str = Field(sa_type=TEXT)
    agreement: str | None = Field(sa_type=TEXT)
    version: int | None
    parts: str = Field(sa_type=TEXT)
    out_points: int = Field(sa_type=sa.BigInteger)
    claim_amount: int = Field(sa_type=sa.BigInteger)
    fee_amount: int = Field(sa_type=sa.BigInteger)
    refunded: int = Field(sa_type=sa.BigInteger)
    holders: str = Field(sa_type=TEXT, sa_column_kwargs={"server_default": "[]"})
    reward: str | None = Field(sa_type=TEXT)
    vouchers: int = Field(sa_column_kwargs={"server_default": "0"})


class PurchaseRefundRow(SQLModel, table=True):
    """What was refunded of a merchant's purchase in all: minor units, points due for them, how many of these came.

    What the member did not have is in ``points`` and not in ``returned``.
    """

    __tablename__ = "purchase_refund"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    merchant: str = Field(primary_key=True, sa_type=TEXT)
    reference: str = Field(primary_key=True, sa_type=TEXT)
    amount: int = Field(sa_type=sa.BigInteger)
    points: int = Field(sa_type=sa.BigInteger)
    returned: int = Field(sa_type=sa.BigInteger)
    lines: str = Field(sa_type=TEXT, sa_column_kwargs={"server_default": "[]"})


_DISPUTED = sa.text("status = 'disputed'")


class ClaimRow(SQLModel, table=True):
    """Money that entry ``seq`` says one account owes another."""

    __tablename__ = "claim"
    __table_args__ = (
        sa.Index("claim_creditor", "ledger_id", "creditor", "currency", "seq"),
        sa.Index("claim_debtor", "ledger_id", "debtor", "currency", "seq"),
        # With the status in it, as above: else SQLite prefers the primary key.
        sa.Index(
            "claim_disputed",
            "ledger_id",
            "status",
            "seq",
            "index",
            sqlite_where=_DISPUTED,
            postgresql_where=_DISPUTED,
        ),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    index: int = Field(primary_key=True)
    debtor: str = Field(sa_type=TEXT)
    creditor: str = Field(sa_type=TEXT)
    currency: str = Field(sa_type=TEXT)
    amount: int = Field(sa_type=sa.BigInteger)
    day: str = Field(sa_type=TEXT)
    agreement: str | None = Field(sa_type=TEXT)
    status: str = Field(sa_type=TEXT)
    disputed_by: str | None = Field(sa_type=TEXT)


class ObligationRow(SQLModel, table=True):
    """What one account owes another, of the claims of a day (``netting`` is -1) or by a payment of a netting."""

    __tablename__ = "obligation"
    __table_args__ = (
        sa.Index("obligation_creditor", "ledger_id", "creditor", "currency", "debtor"),
        sa.Index("obligation_debtor", "ledger_id", "debtor", "currency", "creditor"),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    currency: str = Field(primary_key=True, sa_type=TEXT)
    debtor: str = Field(primary_key=True, sa_type=TEXT)
    creditor: str = Field(primary_key=True, sa_type=TEXT)
    netting: int = Field(primary_key=True, sa_type=sa.BigInteger)
    day: str = Field(primary_key=True, sa_type=TEXT)
    amount: int = Field(sa_type=sa.BigInteger)


class NettingRow(SQLModel, table=True):
    """A netting; ``merchants`` is a JSON array of accounts."""

    __tablename__ = "netting"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    currency: str = Field(sa_type=TEXT)
    through: str = Field(sa_type=TEXT)
    merchants: str = Field(sa_type=TEXT)


class AllotmentRow(SQLModel, table=True):
    """Points a prepaid partner bought in all, and has left."""

    __tablename__ = "allotment"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    agreement: str = Field(primary_key=True, sa_type=TEXT)
    allotted: int = Field(sa_type=sa.BigInteger)
    remaining: int = Field(sa_type=sa.BigInteger)


class AllotmentAlertRow(SQLModel, table=True):
    """Entry ``seq`` left a prepaid partner with few points."""

    __tablename__ = "allotment_alert"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    agreement: str = Field(primary_key=True, sa_type=TEXT)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    remaining: int = Field(sa_type=sa.BigInteger)


class UsageRow(SQLModel, table=True):
    """Points that were counted under a cap in a period."""

    __tablename__ = "usage"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    scope: str = Field(primary_key=True, sa_type=TEXT)
    account: str = Field(primary_key=True, sa_type=TEXT)
    period: str = Field(primary_key=True, sa_type=TEXT)
    points: int = Field(sa_type=sa.BigInteger)


_HAS_TIER = sa.text("tier IS NOT NULL")


class MembershipRow(SQLModel, table=True):
    """How an account takes part in a program."""

    __tablename__ = "membership"
    __table_args__ = (
        sa.Index(
            "membership_tier",
            "ledger_id",
            "asset",
            "tier_until",
            "account",
            sqlite_where=_HAS_TIER,
            postgresql_where=_HAS_TIER,
        ),
        {"sqlite_with_rowid": False},
    )
    ledger_id: int = Field(primary_key=True)
    asset: str = Field(primary_key=True, sa_type=TEXT)
    account: str = Field(primary_key=True, sa_type=TEXT)
    joined_on: str = Field(sa_type=TEXT)
    purchases: int = Field(sa_type=sa.BigInteger)
    formula: str | None = Field(sa_type=TEXT)
    invited_by: str | None = Field(sa_type=TEXT)
    tier: str | None = Field(sa_type=TEXT)
    tier_until: str = Field(sa_type=TEXT)
    plan: str | None = Field(sa_type=TEXT)
    plan_from: str | None = Field(sa_type=TEXT)
    plan_until: str | None = Field(sa_type=TEXT)
    pool: str | None = Field(sa_type=TEXT)


class ProgressRow(SQLModel, table=True):
    """What a member did in a period, of what tiers count."""

    __tablename__ = "progress"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    asset: str = Field(primary_key=True, sa_type=TEXT)
    account: str = Field(primary_key=True, sa_type=TEXT)
    basis: str = Field(primary_key=True, sa_type=TEXT)
    period: str = Field(primary_key=True, sa_type=TEXT)
    count: int = Field(sa_type=sa.BigInteger)


class PendingRow(SQLModel, table=True):
    """Points of a purchase that have not vested yet."""

    __tablename__ = "pending"
    # With SQLite's own row numbers, here, of vouchers and of reminders: else it would walk the primary key and use
    # no other index.
    __table_args__ = (
        sa.Index("pending_due", "ledger_id", "asset", "vests_on", "merchant", "order"),
        sa.Index("pending_account", "ledger_id", "account", "asset"),
    )
    ledger_id: int = Field(primary_key=True)
    merchant: str = Field(primary_key=True, sa_type=TEXT)
    order: str = Field(primary_key=True, sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    account: str = Field(sa_type=TEXT)
    points: int = Field(sa_type=sa.BigInteger)
    vests_on: str = Field(sa_type=TEXT)
    last_day: str = Field(sa_type=TEXT)
    version: int
    status_points: int = Field(sa_type=sa.BigInteger)
    inviter: str | None = Field(sa_type=TEXT)
    inviter_points: int = Field(sa_type=sa.BigInteger)


_USED = sa.text("used_seq IS NOT NULL")


class VoucherRow(SQLModel, table=True):
    """The right to a reward that entry ``seq`` gave."""

    __tablename__ = "voucher"
    __table_args__ = (
        sa.Index("voucher_account", "ledger_id", "account", "seq", "index"),
        sa.Index("voucher_merchant", "ledger_id", "merchant", "seq", "index"),
        sa.Index("voucher_used", "ledger_id", "merchant", "used_seq", sqlite_where=_USED, postgresql_where=_USED),
    )
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    index: int = Field(primary_key=True)
    account: str = Field(sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    merchant: str = Field(sa_type=TEXT)
    reward: str = Field(sa_type=TEXT)
    price: int = Field(sa_type=sa.BigInteger)
    worth: int | None = Field(sa_type=sa.BigInteger)
    last_day: str = Field(sa_type=TEXT)
    status: str = Field(sa_type=TEXT)
    used_seq: int | None = Field(sa_type=sa.BigInteger)


class PoolRow(SQLModel, table=True):
    """Members who spend each other's points; ``members`` is a JSON array of accounts."""

    __tablename__ = "pool"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    pool: str = Field(primary_key=True, sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    members: str = Field(sa_type=TEXT)


class ReminderRow(SQLModel, table=True):
    """What entry ``seq`` reminded an account of."""

    __tablename__ = "reminder"
    __table_args__ = (sa.Index("reminder_account", "ledger_id", "account", "seq"),)
    ledger_id: int = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    account: str = Field(primary_key=True, sa_type=TEXT)
    asset: str = Field(sa_type=TEXT)
    about: str = Field(sa_type=TEXT)
    points: int = Field(sa_type=sa.BigInteger)
    day: str | None = Field(sa_type=TEXT)
    tier: str | None = Field(sa_type=TEXT)


class RemindedRow(SQLModel, table=True):
    """How far an account has been reminded of something."""

    __tablename__ = "reminded"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ledger_id: int = Field(primary_key=True)
    asset: str = Field(primary_key=True, sa_type=TEXT)
    account: str = Field(primary_key=True, sa_type=TEXT)
    about: str = Field(primary_key=True, sa_type=TEXT)
    through: str = Field(sa_type=TEXT)


def table_of(model: type[SQLModel]) -> sa.Table:
    """The SQLAlchemy table behind a model."""
    table: sa.Table = model.__table__  # type: ignore[attr-defined]
    return table


HEAD, ENTRY, POSTING, TILE = table_of(Head), table_of(EntryRow), table_of(PostingRow), table_of(TileRow)
ACCOUNT, ASSET, PROGRAM = table_of(AccountRow), table_of(AssetRow), table_of(ProgramRow)
LOT, EARNING = table_of(LotRow), table_of(EarningRow)
REFERENCE, PARTY = table_of(ReferenceRow), table_of(PartyRow)
AGREEMENT, HOLD, SPENDING = table_of(AgreementRow), table_of(HoldRow), table_of(SpendingRow)
PURCHASE_REFUND, CLAIM, OBLIGATION = table_of(PurchaseRefundRow), table_of(ClaimRow), table_of(ObligationRow)
NETTING, USAGE = table_of(NettingRow), table_of(UsageRow)
ALLOTMENT, ALLOTMENT_ALERT = table_of(AllotmentRow), table_of(AllotmentAlertRow)
MEMBERSHIP, PROGRESS, PENDING = table_of(MembershipRow), table_of(ProgressRow), table_of(PendingRow)
VOUCHER, POOL = table_of(VoucherRow), table_of(PoolRow)
REMINDER, REMINDED = table_of(ReminderRow), table_of(RemindedRow)
LOG_KEY, COSIGNATURE = table_of(LogKeyRow), table_of(CosignatureRow)
WEBHOOK, WEBHOOK_DELIVERY = table_of(WebhookRow), table_of(WebhookDeliveryRow)
PROFILE_KEY, PROFILE, PROFILE_ERASURE = table_of(ProfileKeyRow), table_of(ProfileRow), table_of(ProfileErasureRow)
IDENTIFIER = table_of(IdentifierRow)
METADATA = SQLModel.metadata
IMMUTABLE_TABLES = ("entry", "posting", "tile")

R = TypeVar("R", bound=Struct)

_SCALARS = (str, int, str | None, int | None)
_encoder = msgspec.json.Encoder(order="sorted")


class RecordTable(Generic[R]):
    """How one kind of records is kept: its table, and what makes rows of records and records of rows.

    Rows are without the ledger's id. ``group`` are the columns by which records are found together, of those that the
    literal condition ``only`` is true of; ``grows`` tells that nearly every entry of its kinds adds a row for good.
    """

    def __init__(
        self,
        model: type[SQLModel],
        record_type: type[R],
        *,
        group: Sequence[str] = (),
        only: str = "",
        grows: bool = True,
    ) -> None:
        self.table = table_of(model)
        self.group = tuple(group)
        self.only = only
        self.grows = grows
        self.columns = tuple(column.name for column in self.table.columns if column.name != "ledger_id")
        self.key = tuple(column.name for column in self.table.primary_key if column.name != "ledger_id")
        fields = msgspec.structs.fields(record_type)
        self._record_type = record_type
        self._decoders = {
            at: msgspec.json.Decoder(field.type) for at, field in enumerate(fields) if field.type not in _SCALARS
        }

    def row_of(self, record: R) -> tuple[Any, ...]:
        """The row of a record."""
        values = list(msgspec.structs.astuple(record))
        for at in self._decoders:
            values[at] = _encoder.encode(values[at]).decode()
        return tuple(values)

    def record_of(self, row: Sequence[Any]) -> R:
        """The record of a row."""
        values = list(row)
        for at, decoder in self._decoders.items():
            values[at] = decoder.decode(values[at])
        return self._record_type(**dict(zip(self.columns, values, strict=True)))


RECORD_TABLES: dict[str, RecordTable[Any]] = {
    "agreements": RecordTable(AgreementRow, Agreement, group=("agreement",), grows=False),
    "holds": RecordTable(HoldRow, PointsHold, group=("account", "asset"), only="status = 'open'"),
    "spendings": RecordTable(SpendingRow, Spending),
    "purchase_refunds": RecordTable(PurchaseRefundRow, PurchaseRefund),
    "claims": RecordTable(ClaimRow, Claim),
    "obligations": RecordTable(ObligationRow, Obligation, group=("currency", "debtor", "creditor"), grows=False),
    "nettings": RecordTable(NettingRow, Netting),
    "allotments": RecordTable(AllotmentRow, Allotment, grows=False),
    "allotment_alerts": RecordTable(AllotmentAlertRow, AllotmentAlert),
    "usages": RecordTable(UsageRow, Usage),
    "memberships": RecordTable(MembershipRow, Membership, grows=False),
    "progress": RecordTable(ProgressRow, Progress, group=("asset", "account"), grows=False),
    "pending": RecordTable(PendingRow, Pending, grows=False),
    "vouchers": RecordTable(VoucherRow, Voucher),
    "pools": RecordTable(PoolRow, Pool, grows=False),
    "reminders": RecordTable(ReminderRow, Reminder),
    "reminded": RecordTable(RemindedRow, Reminded, group=("asset", "account"), grows=False),
}
"""The tables of a state's records, by the names of :data:`ledger.state.RECORDS`."""
