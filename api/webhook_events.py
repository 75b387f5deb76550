"""Events: what an entry is to an account, as its webhooks are told.

An event follows from its entry, so none is stored: each entry that concerns an account is one event of it. Who takes
part in a transfer is told of ``transfer.sent`` or ``transfer.received``, others of ``transfer.recorded``. An account is
told what it may see of the entry, and no more (:mod:`api.access`), of these entries:

* what it does or takes part in, what is done in the assets it issues, and all for auditors and the operator;
* what is done about the keys of accounts in its custody, since it could object;
* a new key of the log, which is public and which everybody who verifies has to know.

The body of a message, by the conventions of Standard Webhooks, here with line breaks::

    {"type":"points.redeemed","timestamp":"2026-11-22T10:15:30.456Z","data":{"ledger":"ledger.example/coalition",
     "accountId":"mer_…","entryId":"ent_41","seq":41,"hash":"…","operationId":"…","kind":"redeem",
     "at":"2026-11-22T10:15:30.123Z","actorId":"mem_…","asset":"STAR","amount":1250,
     "postings":[{"accountId":"mem_…","asset":"STAR","amount":-1250,"lastDay":"2027-11-22"},…],
     "operation":{…}}}

``amount`` is what moved of the asset, as far as it is told: the positive legs, or the others where there are none.
``operation`` is the signed document, null where not all of the entry is told. ``allotment.low`` has an ``allotment``
beside these: the agreement it is about, and how many points remain. ``members.reminded`` has ``reminders``, those that
are told, with the last day of the first points to expire as ``day``::

    "reminders":[{"accountId":"mem_…","asset":"STAR","about":"expiry","points":1250,"day":"2026-12-22","tier":null},…]
"""

from collections.abc import Collection, Sequence
from typing import Any

import orjson
from msgspec import Struct
from sqlalchemy.engine import Connection

from api.access import may_see_entry, sees_as_its_own, sees_whole, sight_of_role
from ledger import program_queries, queries
from ledger.entries import Entry, Posting, decode_entry
from ledger.operations import (
    KINDS,
    CancelRecovery,
    Capture,
    Correct,
    Exchange,
    Expire,
    Grant,
    Hold,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    Refund,
    Release,
    Remind,
    ReplaceLogKey,
    Transfer,
    Vest,
)
from ledger.queries import ALL, EntryFilter, EntryKey, Page, Sight, StoredEntry
from ledger.reminders import points_told
from ledger.state import Account, AllotmentAlert, Reminder
from ledger.store import Store

EVENTS: dict[str, str] = {
    "transfer.sent": "transfer",
    "transfer.received": "transfer",
    "transfer.recorded": "transfer",
    "purchases.recorded": "record_purchases",
    "points.granted": "grant",
    "points.corrected": "correct",
    "points.redeemed": "redeem",
    "points.exchanged": "exchange",
    "points.refunded": "refund",
    "points.expired": "expire",
    "points.vested": "vest",
    "member.enrolled": "enroll",
    "tiers.reviewed": "review_tiers",
    "plan.started": "start_plan",
    "plan.ended": "end_plan",
    "pool.formed": "form_pool",
    "pool.left": "leave_pool",
    "voucher.used": "use_voucher",
    "members.reminded": "remind",
    "hold.placed": "hold",
    "hold.captured": "capture",
    "hold.released": "release",
    "agreement.made": "agree",
    "agreement.ended": "end_agreement",
    "allotment.sold": "allot",
    "allotment.low": "record_purchases",
    "claims.netted": "net",
    "claim.settled": "settle",
    "claim.disputed": "dispute",
    "dispute.resolved": "resolve_dispute",
    "account.opened": "open_account",
    "asset.defined": "define_asset",
    "program.published": "publish_program",
    "account.frozen": "freeze",
    "account.unfrozen": "unfreeze",
    "keys.replaced": "replace_keys",
    "recovery.started": "recover_keys",
    "recovery.cancelled": "cancel_recovery",
    "log_key.replaced": "replace_log_key",
    "ledger.founded": "genesis",
}
"""Types of events, and the kind of operation whose entry each is; ``allotment.low`` may also be that of a grant."""

ALLOTMENT_LOW = "allotment.low"
"""The type of an entry that brings a prepaid partner's allotment below the bound its terms name.

The partner and the issuer are told of it as this and not as purchases or a grant, if they want this type at all.
"""

MEMBERS_REMINDED = "members.reminded"
"""The type of an entry by which members were reminded."""

TEST_EVENT = "webhook.test"
"""The type of a message that is sent on request and has no entry."""

_TYPE_OF_KIND = {
    kind: event_type for event_type, kind in EVENTS.items() if kind != "transfer" and event_type != ALLOTMENT_LOW
}

assert set(EVENTS.values()) == set(KINDS)

_MOVING = (Transfer, RecordPurchases, Grant, Correct, Redeem, Exchange, Hold, Capture, Release, Refund, Expire, Vest)
"""Operations that move points."""

_FROM_AFAR = ("recover_keys", "cancel_recovery", "replace_log_key")
"""Kinds of entries that may concern an account without touching it or its assets. They are rare, and have an index."""


class Reader(Struct, frozen=True, kw_only=True):
    """Whose events they are: an account, what it may see, and the entry that opened it."""

    account: str
    sight: Sight
    opened_seq: int


class Event(Struct, frozen=True, kw_only=True):
    """An entry as an account's webhooks are told of it; ``body`` is the JSON of the message."""

    seq: int
    type: str
    body: bytes


def reader_of(store: Store, connection: Connection, account: Account) -> Reader:
    """The reader that an account is."""
    sight = sight_of_role(store, connection, account.id, account.role)
    return Reader(account=account.id, sight=sight, opened_seq=account.seq)


def events_from(
    store: Store, connection: Connection, reader: Reader, types: Sequence[str] | None, *, first_seq: int, limit: int
) -> tuple[list[Event], int]:
    """Events of the next entries from one on, of some types or all (``None``), and the entry to go on from.

    At most ``limit`` entries are looked at, so there may be no event among them and more behind them.
    """
    wanted = set(EVENTS if types is None else types)
    page = Page(limit=limit, after=first_seq - 1)
    found: dict[int, StoredEntry] = {}
    for entry_filter, sight in _sources(reader, wanted):
        found.update((each.seq, each) for each in queries.entries(store, connection, entry_filter, sight, page))
    # Each source gave its first entries, so the first of all of them are among those.
    entries = [found[seq] for seq in sorted(found)][:limit]
    next_seq = entries[-1].seq + 1 if len(entries) == limit else store.head(connection).size
    news = _news(store, connection, [each.seq for each in entries], wanted)
    events = [_event(store, connection, reader, stored, news[stored.seq]) for stored in entries]
    return [event for event in events if event is not None and event.type in wanted], max(next_seq, first_seq)


class _News(Struct, frozen=True, kw_only=True):
    """What an entry did that its bytes do not say: an allotment ran ``low``, members were told something."""

    low: AllotmentAlert | None
    reminders: Sequence[Reminder]


def _news(store: Store, connection: Connection, seqs: Sequence[int], types: Collection[str]) -> dict[int, _News]:
    """The news of entries, as far as events of these types tell it."""
    low = queries.allotment_alerts(store, connection, seqs) if ALLOTMENT_LOW in types else {}
    reminders = program_queries.reminders_of(store, connection, seqs) if MEMBERS_REMINDED in types else {}
    return {seq: _News(low=low.get(seq), reminders=reminders.get(seq, ())) for seq in seqs}


def _sources(reader: Reader, wanted: set[str]) -> list[tuple[EntryFilter, Sight]]:
    kinds = {EVENTS[event_type] for event_type in wanted}
    if ALLOTMENT_LOW in wanted:
        kinds.add(Grant.KIND)
    if not reader.sight.everything:
        afar = [(EntryFilter(kind=kind), ALL) for kind in _FROM_AFAR if kind in kinds]
        return [(EntryFilter(), reader.sight), *afar]
    if len(kinds) == len(set(EVENTS.values())):
        return [(EntryFilter(), ALL)]
    return [(EntryFilter(kind=kind), ALL) for kind in sorted(kinds)]


def event_at(store: Store, connection: Connection, reader: Reader, seq: int, event_type: str) -> Event | None:
    """The event of an entry that is known to be one, as it was told before; ``None`` when there is no such entry."""
    stored = queries.entry_by(store, connection, EntryKey(seq=seq))
    if stored is None:
        return None
    entry = decode_entry(stored.data)
    news = _news(store, connection, [seq], {event_type})[seq]
    return _told(store.origin, reader, stored, entry, event_type, news=news)


def _event(store: Store, connection: Connection, reader: Reader, stored: StoredEntry, news: _News) -> Event | None:
    entry = decode_entry(stored.data)
    if not _concerns(store, connection, reader, stored, entry):
        return None
    low = news.low is not None and sees_as_its_own(reader.sight, entry)
    event_type = ALLOTMENT_LOW if low else event_type_of(reader.account, entry)
    return _told(store.origin, reader, stored, entry, event_type, news=news)


def _concerns(store: Store, connection: Connection, reader: Reader, stored: StoredEntry, entry: Entry) -> bool:
    if isinstance(entry.op, ReplaceLogKey):
        return True
    if may_see_entry(reader.sight, entry, reader.opened_seq, stored.concerned):
        return True
    if not isinstance(entry.op, RecoverKeys | CancelRecovery):
        return False
    return bool(queries.in_custody(store, connection, reader.account, [entry.op.account], entry.time))


def event_type_of(account: str, entry: Entry) -> str:
    """What an entry is to an account that is told of it."""
    if not isinstance(entry.op, Transfer):
        return _TYPE_OF_KIND[entry.op.KIND]
    if entry.op.actor == account:
        return "transfer.sent"
    received = any(recipient.to == account for recipient in entry.op.recipients)
    return "transfer.received" if received else "transfer.recorded"


def _told(
    origin: str,
    reader: Reader,
    stored: StoredEntry,
    entry: Entry,
    event_type: str,
    *,
    news: _News,
) -> Event:
    """The message about an entry.

    It follows from the entry, what is kept of it for good, and the account, so that it is the same each time.
    """
    sight = reader.sight
    if isinstance(entry.op, RecoverKeys | CancelRecovery):
        # Whoever is told of it at all is its holder, its custodian then, or sees everything.
        sight = Sight(everything=sight.everything, account=reader.account, in_custody=(entry.op.account,))
    whole = sees_whole(sight, entry, stored.concerned)
    legs = [leg for leg in entry.postings if whole or leg.account == reader.account]
    data = {
        "ledger": origin,
        "accountId": reader.account,
        "entryId": f"ent_{stored.seq}",
        "seq": stored.seq,
        "hash": stored.leaf_hash.hex(),
        "operationId": stored.op_id.hex(),
        "kind": entry.op.KIND,
        "at": entry.op.at,
        "actorId": getattr(entry.op, "actor", None),
        "asset": (asset := _asset_of(entry)),
        "amount": _amount(legs, asset) if isinstance(entry.op, _MOVING) else None,
        "postings": [_posting(leg) for leg in legs],
        "operation": orjson.loads(stored.data)["op"] if whole else None,
    }
    if event_type == ALLOTMENT_LOW and news.low is not None:
        data["allotment"] = {"agreement": news.low.agreement, "remaining": news.low.remaining}
    if isinstance(entry.op, Remind):
        data["reminders"] = [_reminder(each) for each in news.reminders if whole or each.account == reader.account]
    return Event(seq=stored.seq, type=event_type, body=message_body(event_type, entry.time, data))


def _asset_of(entry: Entry) -> str | None:
    """The asset an operation is about; a capture's and a release's is that of the points they move."""
    asset = getattr(entry.op, "asset", None)
    if asset is None and isinstance(entry.op, Capture | Release):
        return entry.postings[0].asset
    return asset


def _amount(legs: Sequence[Posting], asset: str | None) -> int:
    amounts = [leg.amount for leg in legs if leg.asset == asset]
    gained = sum(amount for amount in amounts if amount > 0)
    return gained or -sum(amounts)


def _posting(leg: Posting) -> dict[str, Any]:
    return {"accountId": leg.account, "asset": leg.asset, "amount": leg.amount, "lastDay": leg.lot}


def _reminder(told: Reminder) -> dict[str, Any]:
    return {
        "accountId": told.account,
        "asset": told.asset,
        "about": told.about,
        "points": points_told(told),
        "day": told.day,
        "tier": told.tier,
    }


def message_body(event_type: str, time: str, data: dict[str, Any]) -> bytes:
    """The body of a message: a type, the time of what it tells, and the data."""
    return orjson.dumps({"type": event_type, "timestamp": time, "data": data})
