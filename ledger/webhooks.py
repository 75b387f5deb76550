"""Webhooks as they are stored: who is told of what, how far that is, and what became of each delivery.

What there is to tell follows from the entries, so it is not stored: a webhook has a *cursor*, the first entry that has
not been looked at. Behind it, a delivery has a row once it was attempted: it stays ``PENDING`` until it is delivered or
given up (``DEAD``), and holds back whatever comes later for the same webhook. Rows of what was delivered are kept for a
while, to be looked at.

A change is made only of the revision that was read (:func:`change_webhook`). So if a sender dies, or another one or the
webhook's owner is quicker, what the first had found out is lost, and told again: at least once, in order.

Nothing here sends, encrypts or knows who may see what; that is left to :mod:`api.webhook_delivery` and its neighbours.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.queries import Page, paged
from ledger.store import (
    Store,
    WriteTransaction,
)
from ledger.tables import (
    ACCOUNT,
    WEBHOOK,
    WEBHOOK_DELIVERY,
)

KEPT_DELIVERIES = 1_000
"""Rows of deliveries that a webhook keeps of what was delivered, the newest."""

Reason = Literal["by_account", "gone", "failing"]
Status = Literal["pending", "delivered", "dead"]


class Webhook(Struct, frozen=True, kw_only=True):
    """An address that an account has told of its events; times are in milliseconds since 1970.

    ``event_types`` is ``None`` for all there are. Nothing is sent while ``disabled_at_ms`` says since when that is so.
    ``failing_since_ms`` is the first failure after the last success. ``secret`` is encrypted, as is the one before it,
    which signs too until ``previous_until_ms``. ``next_seq`` is the cursor.
    """

    webhook: str
    account: str
    url: str
    event_types: tuple[str, ...] | None
    description: str | None
    created_at_ms: int
    secret: bytes
    next_seq: int
    disabled_at_ms: int | None = None
    disabled_reason: Reason | None = None
    failing_since_ms: int | None = None
    previous_secret: bytes | None = None
    previous_until_ms: int | None = None
    revision: int = 0

    @property
    def is_enabled(self) -> bool:
        """Whether anything is sent."""
        return self.disabled_at_ms is None


class Delivery(Struct, frozen=True, kw_only=True):
    """What became of telling a webhook of an entry. ``next_attempt_at_ms`` is known while it is pending.

    ``status_code`` and ``error`` are those of the last attempt: what the receiver answered, and why it counts as none.
    """

    webhook: str
    seq: int
    type: str
    status: Status
    attempts: int
    last_attempt_at_ms: int | None
    next_attempt_at_ms: int | None
    status_code: int | None
    error: str | None


_WEBHOOK_COLUMNS = [WEBHOOK.c[name] for name in Webhook.__struct_fields__]
_DELIVERY_COLUMNS = [WEBHOOK_DELIVERY.c[name] for name in Delivery.__struct_fields__]


def _webhook_of(row: Any) -> Webhook:
    fields = dict(row._mapping)
    types = fields["event_types"]
    fields["event_types"] = tuple(json.loads(types)) if types is not None else None
    fields["secret"] = bytes(fields["secret"])
    fields["previous_secret"] = bytes(fields["previous_secret"]) if fields["previous_secret"] is not None else None
    return Webhook(**fields)


def _columns_of(values: dict[str, Any]) -> dict[str, Any]:
    """Values as the table has them."""
    types = values.get("event_types")
    return values if types is None else {**values, "event_types": json.dumps(types, separators=(",", ":"))}


# Reading


def webhook(store: Store, connection: Connection, webhook_id: str) -> Webhook | None:
    """The webhook with an id, if there is one."""
    query = sa.select(*_WEBHOOK_COLUMNS).where(WEBHOOK.c.ledger_id == store.ledger_id, WEBHOOK.c.webhook == webhook_id)
    row = connection.execute(query).one_or_none()
    return _webhook_of(row) if row is not None else None


def webhooks_page(store: Store, connection: Connection, account: str, page: Page) -> list[Webhook]:
    """A page of an account's webhooks, in the order they were made; keys are that time and the id."""
    query = sa.select(*_WEBHOOK_COLUMNS).where(WEBHOOK.c.ledger_id == store.ledger_id, WEBHOOK.c.account == account)
    rows = connection.execute(paged(query, (WEBHOOK.c.created_at_ms, WEBHOOK.c.webhook), page))
    found = [_webhook_of(row) for row in rows]
    return found[::-1] if page.from_end else found


def every_webhook(store: Store, connection: Connection) -> list[Webhook]:
    """All webhooks of the ledger."""
    query = sa.select(*_WEBHOOK_COLUMNS).where(WEBHOOK.c.ledger_id == store.ledger_id)
    return [_webhook_of(row) for row in connection.execute(query)]


class Cursor(Struct, frozen=True):
    """How far an enabled webhook is. ``due_at_ms`` is when what is pending first may be tried, if anything is."""

    webhook: str
    revision: int
    next_seq: int
    due_at_ms: int | None


def cursors(store: Store, connection: Connection) -> list[Cursor]:
    """How far each enabled webhook is."""
    first = (
        sa.select(WEBHOOK_DELIVERY.c.webhook, sa.func.min(WEBHOOK_DELIVERY.c.seq).label("seq"))
        .where(WEBHOOK_DELIVERY.c.ledger_id == store.ledger_id, WEBHOOK_DELIVERY.c.status == _PENDING)
        .group_by(WEBHOOK_DELIVERY.c.webhook)
        .subquery()
    )
    due = WEBHOOK_DELIVERY.alias("due")
    query = (
        sa.select(WEBHOOK.c.webhook, WEBHOOK.c.revision, WEBHOOK.c.next_seq, due.c.next_attempt_at_ms)
        .select_from(
            WEBHOOK.outerjoin(first, first.c.webhook == WEBHOOK.c.webhook).outerjoin(
                due,
                sa.and_(
                    due.c.ledger_id == WEBHOOK.c.ledger_id,
                    due.c.webhook == WEBHOOK.c.webhook,
                    due.c.seq == first.c.seq,
                ),
            )
        )
        .where(WEBHOOK.c.ledger_id == store.ledger_id, WEBHOOK.c.disabled_at_ms.is_(None))
    )
    return [Cursor(*row) for row in connection.execute(query)]


_PENDING: Any = sa.literal_column("'pending'")
"""As a literal, a planner sees that this is the condition of the index of what is pending."""


def pending(store: Store, connection: Connection, webhook_id: str, limit: int) -> list[Delivery]:
    """The first deliveries of a webhook that are pending."""
    query = _deliveries(store, webhook_id).where(WEBHOOK_DELIVERY.c.status == _PENDING)
    return [Delivery(**row._mapping) for row in connection.execute(query.order_by(WEBHOOK_DELIVERY.c.seq).limit(limit))]


def delivery(store: Store, connection: Connection, webhook_id: str, seq: int) -> Delivery | None:
    """What became of telling a webhook of an entry, if that is known."""
    row = connection.execute(_deliveries(store, webhook_id).where(WEBHOOK_DELIVERY.c.seq == seq)).one_or_none()
    return Delivery(**row._mapping) if row is not None else None


def deliveries_page(
    store: Store, connection: Connection, webhook_id: str, status: Status | None, page: Page
) -> list[Delivery]:
    """A page of a webhook's deliveries, the newest entry first; keys are sequence numbers."""
    query = _deliveries(store, webhook_id)
    if status is not None:
        query = query.where(WEBHOOK_DELIVERY.c.status == status)
    # The list in the other direction: what comes after a key there is what comes before it here.
    mirrored = Page(limit=page.limit, after=page.before, before=page.after, from_end=not page.from_end)
    rows = connection.execute(paged(query, (WEBHOOK_DELIVERY.c.seq,), mirrored))
    found = [Delivery(**row._mapping) for row in rows]
    return found[::-1] if page.from_end else found


def _deliveries(store: Store, webhook_id: str) -> Any:
    return sa.select(*_DELIVERY_COLUMNS).where(
        WEBHOOK_DELIVERY.c.ledger_id == store.ledger_id, WEBHOOK_DELIVERY.c.webhook == webhook_id
    )


# Writing


def count_locked(transaction: WriteTransaction, account: str) -> int:
    """How many webhooks an account has; nobody else counts them until the transaction ends."""
    connection, ledger_id = transaction.connection, transaction.store.ledger_id
    own = sa.select(ACCOUNT.c.account).where(ACCOUNT.c.ledger_id == ledger_id, ACCOUNT.c.account == account)
    connection.execute(own.with_for_update())  # SQLite has no row locks: its one writer has locked everything
    count = sa.select(sa.func.count()).where(WEBHOOK.c.ledger_id == ledger_id, WEBHOOK.c.account == account)
    return int(connection.execute(count).scalar_one())


def insert_webhook(transaction: WriteTransaction, new: Webhook) -> None:
    """Store a webhook."""
    values = _columns_of({name: getattr(new, name) for name in Webhook.__struct_fields__})
    transaction.connection.execute(sa.insert(WEBHOOK).values(ledger_id=transaction.store.ledger_id, **values))


def locked_webhook(transaction: WriteTransaction, webhook_id: str) -> Webhook | None:
    """The webhook with an id, which nobody else changes until the transaction ends."""
    query = sa.select(*_WEBHOOK_COLUMNS).where(
        WEBHOOK.c.ledger_id == transaction.store.ledger_id, WEBHOOK.c.webhook == webhook_id
    )
    row = transaction.connection.execute(query.with_for_update()).one_or_none()
    return _webhook_of(row) if row is not None else None


def change_webhook(transaction: WriteTransaction, read: Webhook, **changes: Any) -> bool:
    """Change a webhook, unless it is no longer at the revision that was read: then whether it was is False."""
    statement = (
        sa.update(WEBHOOK)
        .where(
            WEBHOOK.c.ledger_id == transaction.store.ledger_id,
            WEBHOOK.c.webhook == read.webhook,
            WEBHOOK.c.revision == read.revision,
        )
        .values(revision=read.revision + 1, **_columns_of(changes))
    )
    return transaction.connection.execute(statement).rowcount == 1


def delete_webhook(transaction: WriteTransaction, webhook_id: str) -> None:
    """Delete a webhook and what is known of its deliveries."""
    for table in (WEBHOOK_DELIVERY, WEBHOOK):
        transaction.connection.execute(
            sa.delete(table).where(table.c.ledger_id == transaction.store.ledger_id, table.c.webhook == webhook_id)
        )


def keep_deliveries(transaction: WriteTransaction, deliveries: Sequence[Delivery]) -> None:
    """Store what became of deliveries, in place of what was known of the same ones."""
    names = [*Delivery.__struct_fields__]
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name not in {"webhook", "seq"})
    statement = (
        f"INSERT INTO webhook_delivery (ledger_id, {', '.join(names)}) "  # noqa: S608 - names of our own columns
        f"VALUES (:ledger_id, {', '.join(f':{name}' for name in names)}) "
        f"ON CONFLICT (ledger_id, webhook, seq) DO UPDATE SET {changed}"
    )
    rows = [
        {"ledger_id": transaction.store.ledger_id, **{name: getattr(each, name) for name in names}}
        for each in deliveries
    ]
    if rows:
        transaction.connection.execute(sa.text(statement), rows)


def forget_delivered(transaction: WriteTransaction, webhook_id: str, kept: int = KEPT_DELIVERIES) -> None:
    """Delete the rows of what was delivered, but for the newest."""
    delivered = (
        WEBHOOK_DELIVERY.c.ledger_id == transaction.store.ledger_id,
        WEBHOOK_DELIVERY.c.webhook == webhook_id,
        WEBHOOK_DELIVERY.c.status == "delivered",
    )
    seq = WEBHOOK_DELIVERY.c.seq
    oldest = sa.select(seq).where(*delivered).order_by(seq.desc()).offset(kept).limit(1)
    last = transaction.connection.execute(oldest).scalar()
    if last is not None:
        transaction.connection.execute(sa.delete(WEBHOOK_DELIVERY).where(*delivered, seq <= last))


def forget_from(transaction: WriteTransaction, webhook_id: str, first_seq: int) -> None:
    """Delete the rows of entries from one on, which are going to be told anew."""
    transaction.connection.execute(
        sa.delete(WEBHOOK_DELIVERY).where(
            WEBHOOK_DELIVERY.c.ledger_id == transaction.store.ledger_id,
            WEBHOOK_DELIVERY.c.webhook == webhook_id,
            WEBHOOK_DELIVERY.c.seq >= first_seq,
        )
    )


def try_again(
    transaction: WriteTransaction, webhook_id: str, now_ms: int, *, status: Status | None = None, seq: int | None = None
) -> int:
    """Make deliveries pending from now on, with all attempts before them: those of a status, or the one of an entry.

    How many there were.
    """
    statement = sa.update(WEBHOOK_DELIVERY).where(
        WEBHOOK_DELIVERY.c.ledger_id == transaction.store.ledger_id, WEBHOOK_DELIVERY.c.webhook == webhook_id
    )
    if status is not None:
        statement = statement.where(WEBHOOK_DELIVERY.c.status == status)
    if seq is not None:
        statement = statement.where(WEBHOOK_DELIVERY.c.seq == seq)
    return transaction.connection.execute(
        statement.values(status="pending", attempts=0, next_attempt_at_ms=now_ms)
    ).rowcount
