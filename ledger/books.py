"""Books: how the points of an asset moved, gathered from what the ledger recorded, for its merchant's accounts.

An entry is of the period it was recorded in: what was reported of a period never changes by what is recorded later,
also if that happened before. A period is a :class:`Span` of entries, made of days in the time zone of the asset's
program. Each question is a bounded number of statements, most of them over the legs of the system accounts. Arithmetic
is left to :mod:`ledger.accounting`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.accounting import day_start, returned_by_lapse
from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY, Posting
from ledger.program_terms import ExpiresAfterInactivity
from ledger.queries import Page, first_seq_at, paged
from ledger.state import (
    ORDER_SCOPE,
    SUPPLY_ACCOUNTS,
    SYS_EXPIRED,
    SYS_HELD,
    SYS_ISSUED,
    SYS_SPENT,
    SYSTEM_ACCOUNTS,
    Asset,
)
from ledger.store import Store
from ledger.tables import EARNING, ENTRY, LOT, POSTING


class Span(Struct, frozen=True, kw_only=True):
    """The entries ``first <= seq < end``."""

    first: int
    end: int


class PointsMoved(Struct, frozen=True, kw_only=True):
    """How the points of an asset moved over a span; all of it in points of 0 or more but ``opening`` and ``closing``.

    ``opening`` and ``closing`` are the points in circulation, those ``on_hold`` at the end included. What was issued is
    told by why, what was taken back too; ``redeemed`` were spent and retired, of which ``returned`` came back.
    ``converted`` are those of the redeemed that automatic rewards turned into vouchers.
    """

    opening: int
    closing: int
    on_hold: int
    issued_by_purchases: int
    issued_by_grants: int
    issued_by_exchanges: int
    issued_by_corrections: int
    taken_back_by_refunds: int
    taken_back_by_corrections: int
    redeemed: int
    returned: int
    expired: int
    converted: int = 0

    @property
    def issued(self) -> int:
        """All points issued, before what was taken back."""
        return self.issued_by_purchases + self.issued_by_grants + self.issued_by_exchanges + self.issued_by_corrections

    @property
    def taken_back(self) -> int:
        """All points that were issued before and are no more, unspent."""
        return self.taken_back_by_refunds + self.taken_back_by_corrections


class Sales(Struct, frozen=True, kw_only=True):
    """What the issuer sold with points of an asset over a span, in minor units of the program's currency.

    ``refunded`` is what of earlier or these sales was paid back, and ``taken_back`` the points that this retired.
    """

    purchases: int
    amount: int
    points: int
    refunded: int
    taken_back: int


class EndedLots(Struct, frozen=True, kw_only=True):
    """Points of lots whose last day has passed: how many were ``issued``, less what was taken back.

    Of these ``expired`` were retired, and ``overdue`` are still there, for nobody to use.
    """

    issued: int
    expired: int
    overdue: int

    @property
    def unspent(self) -> int:
        """Points that nobody spent."""
        return self.expired + self.overdue


class DayPoints(Struct, frozen=True, kw_only=True):
    """Points of an asset by last day, over all holders; ``None`` for those that never expire, less members' debts."""

    last_day: str | None
    points: int


def span_of(store: Store, connection: Connection, start: date | None, through: date, time_zone: str) -> Span:
    """The entries of the days ``start`` to ``through``, both included; from the first one without ``start``."""
    first = 0 if start is None else first_seq_at(store, connection, day_start(start, time_zone))
    return Span(first=first, end=first_seq_at(store, connection, day_start(through + timedelta(days=1), time_zone)))


def points_moved(store: Store, connection: Connection, code: str, span: Span) -> PointsMoved:
    """How the points of an asset moved over a span."""
    return points_moved_over(store, connection, code, [span])[0]


def points_moved_over(store: Store, connection: Connection, code: str, spans: Sequence[Span]) -> list[PointsMoved]:
    """How the points of an asset moved over each of some spans that follow each other.

    What is in circulation is summed up once, after the last one, and then followed back.
    """
    if not spans:
        return []
    end = spans[-1].end
    closing = -sum(_balance_before(store, connection, account, code, end) for account in SUPPLY_ACCOUNTS)
    on_hold = _balance_before(store, connection, SYS_HELD, code, end)
    found = []
    for span in reversed(spans):
        found.append(_points_moved(store, connection, code, span, closing=closing, on_hold=on_hold))
        closing = found[-1].opening
        if span is not spans[0]:
            on_hold -= moved(store, connection, SYS_HELD, code, span)
    return found[::-1]


def _points_moved(
    store: Store, connection: Connection, code: str, span: Span, *, closing: int, on_hold: int
) -> PointsMoved:
    """How points moved over a span at whose end so many are in circulation and on hold."""
    mine = (POSTING.c.ledger_id == store.ledger_id, POSTING.c.asset == code)
    given = sa.func.sum(sa.case((POSTING.c.amount > 0, POSTING.c.amount), else_=0)).label("given")
    taken = sa.func.sum(sa.case((POSTING.c.amount < 0, -POSTING.c.amount), else_=0)).label("taken")
    query = (
        sa.select(POSTING.c.account, ENTRY.c.kind, given, taken)
        .join(ENTRY, sa.and_(ENTRY.c.ledger_id == POSTING.c.ledger_id, ENTRY.c.seq == POSTING.c.seq))
        .where(*mine, POSTING.c.account.in_(SUPPLY_ACCOUNTS), POSTING.c.seq >= span.first, POSTING.c.seq < span.end)
        .group_by(POSTING.c.account, ENTRY.c.kind)
    )
    put: Counter[tuple[str, str]] = Counter()
    got: Counter[tuple[str, str]] = Counter()
    for row in connection.execute(query):
        put[row.account, row.kind] = int(row.given)
        got[row.account, row.kind] = int(row.taken)

    def total(counted: Counter[tuple[str, str]], account: str) -> int:
        return sum(points for (name, _), points in counted.items() if name == account)

    return PointsMoved(
        opening=closing - sum(got.values()) + sum(put.values()),
        closing=closing,
        on_hold=on_hold,
        issued_by_purchases=got[SYS_ISSUED, "record_purchases"] + got[SYS_ISSUED, "vest"],
        issued_by_grants=got[SYS_ISSUED, "grant"],
        issued_by_exchanges=got[SYS_ISSUED, "exchange"],
        issued_by_corrections=got[SYS_ISSUED, "correct"],
        taken_back_by_refunds=put[SYS_ISSUED, "refund"],
        taken_back_by_corrections=put[SYS_ISSUED, "correct"],
        redeemed=total(put, SYS_SPENT),
        returned=total(got, SYS_SPENT),
        expired=total(put, SYS_EXPIRED),
        converted=sum(put[SYS_SPENT, kind] for kind in _GIVING),
    )


_GIVING = ("grant", "record_purchases", "vest")
"""Kinds of entries that give points: whatever of these is spent at once, an automatic reward took."""


def _balance_before(store: Store, connection: Connection, account: str, code: str, end: int) -> int:
    """What an account had before an entry: what it has now, less what was moved since."""
    now = sa.select(sa.func.sum(LOT.c.points)).where(
        LOT.c.ledger_id == store.ledger_id, LOT.c.account == account, LOT.c.asset == code
    )
    since = moved(store, connection, account, code, Span(first=end, end=MAX_INTEGER))
    return int(connection.execute(now).scalar() or 0) - since


def moved(store: Store, connection: Connection, account: str, code: str, span: Span) -> int:
    """How much an account's holding of an asset, or what it is owed in a currency, changed over a span.

    The legs are found in the index by account, and then read by their keys: asked for at once, a planner that has no
    statistics would rather walk all entries of the span.
    """
    found = POSTING.alias()
    query = (
        sa.select(sa.func.sum(POSTING.c.amount))
        .join(
            found,
            sa.and_(
                found.c.ledger_id == POSTING.c.ledger_id,
                found.c.seq == POSTING.c.seq,
                found.c.leg == POSTING.c.leg,
            ),
        )
        .where(
            found.c.ledger_id == store.ledger_id,
            found.c.account == account,
            found.c.asset == code,
            found.c.seq >= span.first,
            found.c.seq < span.end,
        )
    )
    return int(connection.execute(query).scalar() or 0) if span.first < span.end else 0


def sales(store: Store, connection: Connection, asset: Asset, span: Span) -> Sales:
    """What an asset's issuer sold and refunded over a span.

    Purchases that a partner recorded are not its sales. Refunds are read one by one: what they pay back is in no table.
    """
    query = sa.select(
        sa.func.count().label("purchases"), *exact_sum(EARNING.c.amount), sa.func.sum(EARNING.c.points).label("points")
    ).where(
        EARNING.c.ledger_id == store.ledger_id,
        EARNING.c.seq >= span.first,
        EARNING.c.seq < span.end,
        EARNING.c.asset == asset.code,
        EARNING.c.merchant == asset.issuer,
        EARNING.c.scope == ORDER_SCOPE,
    )
    sold = connection.execute(query).one()
    refunded = taken_back = 0
    for amount, points in _refunds(store, connection, asset, span):
        refunded += amount
        taken_back += points
    return Sales(
        purchases=sold.purchases,
        amount=exactly(sold),
        points=int(sold.points or 0),
        refunded=refunded,
        taken_back=taken_back,
    )


class _Of(Struct):
    type: str
    amount: int


class _Refund(Struct):
    asset: str
    of: _Of


class _RefundEntry(Struct):
    op: _Refund


_refund = msgspec.json.Decoder(_RefundEntry)


def _refunds(store: Store, connection: Connection, asset: Asset, span: Span) -> Iterator[tuple[int, int]]:
    """Each refund of a purchase by the issuer: the amount, and the points that were taken back.

    These may be in two legs, the member's and those of who invited it.
    """
    taken_back = (
        sa.select(sa.func.sum(POSTING.c.amount))
        .where(
            POSTING.c.ledger_id == ENTRY.c.ledger_id,
            POSTING.c.seq == ENTRY.c.seq,
            POSTING.c.account == SYS_ISSUED,
            POSTING.c.asset == asset.code,
        )
        .correlate(ENTRY)
        .scalar_subquery()
    )
    query = sa.select(ENTRY.c.data, taken_back).where(
        ENTRY.c.ledger_id == store.ledger_id,
        ENTRY.c.kind == "refund",
        ENTRY.c.seq >= span.first,
        ENTRY.c.seq < span.end,
        ENTRY.c.actor == asset.issuer,
    )
    for data, points in connection.execute(query):
        op = _refund.decode(bytes(data)).op
        if op.asset == asset.code and op.of.type == "purchase":
            yield op.of.amount, int(points or 0)


_HALF = sa.literal_column(str(2**26), sa.BigInteger())


def exact_sum(amounts: Any) -> tuple[Any, Any]:
    """The columns of a sum of amounts of 0 or more that no integer of a database can hold, for :func:`exactly`.

    1,024 amounts of 2^53-1 overflow an integer of SQLite; the sums of their halves, of 27 and 26 bits, do not.
    """
    return sa.func.sum(amounts // _HALF).label("high"), sa.func.sum(amounts % _HALF).label("low")


def exactly(row: Any) -> int:
    """The sum in a row with the columns of :func:`exact_sum`."""
    return int(row.high or 0) * 2**26 + int(row.low or 0)


def ended_lots(store: Store, connection: Connection, code: str, days: tuple[str, str], end: int) -> EndedLots:
    """Lots of an asset whose last day is from ``days[0]`` to ``days[1]``, by the entries before ``end``."""
    span = Span(first=0, end=end)
    issued = _lots_issued(store, connection, code, days, span)
    expired = _lots_moved_with(store, connection, SYS_EXPIRED, code=code, days=days, span=span)
    left = _outstanding(store, connection, code, end).subquery()
    query = sa.select(sa.func.sum(left.c.points)).where(left.c.last_day >= days[0], left.c.last_day <= days[1])
    return EndedLots(
        issued=issued.total(),
        expired=-expired.total(),
        overdue=int(connection.execute(query).scalar() or 0),
    )


class LotsSoFar(Struct, frozen=True, kw_only=True):
    """What has become of the lots of an asset by some entry: points by last day, issued, retired, and still there."""

    issued: dict[str, int]
    expired: dict[str, int]
    left: dict[str, int]

    def ended(self, first: str, last: str) -> EndedLots:
        """Those whose last day is from ``first`` to ``last``."""

        def total(points: dict[str, int]) -> int:
            return sum(each for day, each in points.items() if first <= day <= last)

        return EndedLots(issued=total(self.issued), expired=total(self.expired), overdue=total(self.left))


def lots_over(
    store: Store, connection: Connection, code: str, days: tuple[str, str], spans: Sequence[Span]
) -> list[LotsSoFar]:
    """What has become of lots, whose last day is from ``days[0]`` to ``days[1]``, by the end of each of some spans.

    The spans follow each other. Every entry is looked at once, however many there are, as often as for one of them.
    """
    if not spans:
        return []
    left = _lots_left(store, connection, code, days, spans)
    issued: Counter[str] = Counter()
    expired: Counter[str] = Counter()
    found = []
    for number, span in enumerate(spans):
        whole = span if number else Span(first=0, end=span.end)
        issued.update(_lots_issued(store, connection, code, days, whole))
        expired.subtract(_lots_moved_with(store, connection, SYS_EXPIRED, code=code, days=days, span=whole))
        found.append(LotsSoFar(issued=dict(issued), expired=dict(expired), left=left[number]))
    return found


def _lots_left(
    store: Store, connection: Connection, code: str, days: tuple[str, str], spans: Sequence[Span]
) -> list[dict[str, int]]:
    """Holders' points by last day at the end of each span, followed back from the end of the last one."""
    last = _outstanding(store, connection, code, spans[-1].end).subquery()
    query = sa.select(last.c.last_day, last.c.points).where(last.c.last_day >= days[0], last.c.last_day <= days[1])
    left = Counter({row.last_day: int(row.points) for row in connection.execute(query)})
    found = [dict(left)]
    for span in spans[:0:-1]:
        changed = sa.select(POSTING.c.lot, sa.func.sum(POSTING.c.amount).label("points")).where(
            POSTING.c.ledger_id == store.ledger_id,
            POSTING.c.asset == code,
            POSTING.c.account.not_in(SYSTEM_ACCOUNTS),
            POSTING.c.seq >= span.first,
            POSTING.c.seq < span.end,
            POSTING.c.lot >= days[0],
            POSTING.c.lot <= days[1],
        )
        left.subtract({row.lot: int(row.points) for row in connection.execute(changed.group_by(POSTING.c.lot))})
        found.append(dict(left))
    return found[::-1]


def _lots_issued(store: Store, connection: Connection, code: str, days: tuple[str, str], span: Span) -> Counter[str]:
    """Points issued into lots over a span, less what was taken back.

    Points of holds that lapsed came back to lots they had left: that is no issue, whatever the entry is about. What an
    automatic reward takes of the points that an entry issues was issued all the same. Where lots end by inactivity,
    points that get another last day are issued into that lot instead.
    """
    issued = _lots_moved_with(store, connection, SYS_ISSUED, code=code, days=days, span=span)
    issued.subtract(_lapsed(store, connection, code, days, span))
    programs = [version.program for version in store.programs(connection, [code])]
    if any(reward.automatic for program in programs for reward in program.rewards):
        issued.update(_converted(store, connection, code, days, span))
    if any(isinstance(program.expiry, ExpiresAfterInactivity) for program in programs):
        issued.update(_redated(store, connection, code, days, span))
    return issued


def _converted(store: Store, connection: Connection, code: str, days: tuple[str, str], span: Span) -> Counter[str]:
    """Points by lot that automatic rewards took in the entries that issued points."""
    issued = _entries_of(store, SYS_ISSUED, code, span)
    spent = _entries_of(store, SYS_SPENT, code, span)
    runs = _runs(store, code, span, POSTING.c.seq.in_(issued), POSTING.c.seq.in_(spent))
    return _by_lot(connection, runs, -runs.c.amount, days, runs.c.amount < 0, runs.c.total != 0)


def _redated(store: Store, connection: Connection, code: str, days: tuple[str, str], span: Span) -> Counter[str]:
    """How lots changed as points got another last day, but for the entries that issued points."""
    runs = _runs(store, code, span, POSTING.c.seq.not_in(_entries_of(store, SYS_ISSUED, code, span)))
    return _by_lot(connection, runs, runs.c.amount, days, runs.c.total == 0)


def _runs(store: Store, code: str, span: Span, *conditions: Any) -> Any:
    """The legs of an asset in some entries of a span, each with the ``total`` of its run.

    A run is of legs of one account that take, and of the one that gives, if that comes next. When points get another
    last day they leave their lots and are in the new one at once: no other run comes to nothing.
    """
    in_order: dict[str, Any] = {"partition_by": POSTING.c.seq, "order_by": POSTING.c.leg}
    legs = (
        sa.select(
            *(POSTING.c.seq, POSTING.c.leg, POSTING.c.account, POSTING.c.amount, POSTING.c.lot),
            sa.func.lag(POSTING.c.account).over(**in_order).label("account_before"),
            sa.func.lag(POSTING.c.amount).over(**in_order).label("amount_before"),
        )
        .where(
            POSTING.c.ledger_id == store.ledger_id,
            POSTING.c.asset == code,
            POSTING.c.seq >= span.first,
            POSTING.c.seq < span.end,
            *conditions,
        )
        .subquery()
    )
    goes_on = sa.and_(legs.c.account == legs.c.account_before, legs.c.amount_before < 0)
    begun = sa.func.sum(sa.case((goes_on, 0), else_=1)).over(partition_by=legs.c.seq, order_by=legs.c.leg)
    numbered = sa.select(*(legs.c[name] for name in ("seq", "account", "amount", "lot")), begun.label("run")).subquery()
    total = sa.func.sum(numbered.c.amount).over(partition_by=(numbered.c.seq, numbered.c.run))
    return sa.select(numbered.c.account, numbered.c.amount, numbered.c.lot, total.label("total")).subquery()


def _by_lot(connection: Connection, runs: Any, points: Any, days: tuple[str, str], *conditions: Any) -> Counter[str]:
    """The sum by lot, over those of holders' legs of which some conditions are true."""
    query = (
        sa.select(runs.c.lot, sa.func.sum(points).label("points"))
        .where(runs.c.account.not_in(SYSTEM_ACCOUNTS), runs.c.lot >= days[0], runs.c.lot <= days[1], *conditions)
        .group_by(runs.c.lot)
    )
    return Counter({row.lot: int(row.points) for row in connection.execute(query)})


def _lots_moved_with(
    store: Store, connection: Connection, account: str, *, code: str, days: tuple[str, str], span: Span
) -> Counter[str]:
    """How holders' lots changed in the entries of a span in which a system account has a leg."""
    query = (
        sa.select(POSTING.c.lot, sa.func.sum(POSTING.c.amount).label("points"))
        .where(
            POSTING.c.ledger_id == store.ledger_id,
            POSTING.c.asset == code,
            POSTING.c.lot >= days[0],
            POSTING.c.lot <= days[1],
            POSTING.c.account.not_in(SYSTEM_ACCOUNTS),
            POSTING.c.seq.in_(_entries_of(store, account, code, span)),
        )
        .group_by(POSTING.c.lot)
    )
    return Counter({row.lot: int(row.points) for row in connection.execute(query)})


def _entries_of(store: Store, account: str, code: str, span: Span) -> Any:
    """The entries of a span in which a system account has a leg of an asset.

    A list, not a join: given both an entry and the span, a planner may look through the span for each of its entries.
    """
    other = POSTING.alias()
    return sa.select(other.c.seq).where(
        other.c.ledger_id == store.ledger_id,
        other.c.account == account,
        other.c.asset == code,
        other.c.seq >= span.first,
        other.c.seq < span.end,
    )


def _lapsed(store: Store, connection: Connection, code: str, days: tuple[str, str], span: Span) -> Counter[str]:
    """Points by lot that lapsed holds gave back in entries that issue points or take them back; there are few."""
    mine = (POSTING.c.ledger_id == store.ledger_id, POSTING.c.asset == code)
    query = (
        sa.select(POSTING.c.seq, POSTING.c.leg, POSTING.c.account, POSTING.c.amount, POSTING.c.lot)
        .where(
            *mine,
            POSTING.c.seq.in_(_entries_of(store, SYS_HELD, code, span)),
            POSTING.c.seq.in_(_entries_of(store, SYS_ISSUED, code, span)),
        )
        .order_by(POSTING.c.seq, POSTING.c.leg)
    )
    returned: Counter[str] = Counter()
    for _, rows in groupby(connection.execute(query), key=lambda row: row.seq):
        legs = [Posting(account=row.account, amount=row.amount, asset=code, lot=row.lot) for row in rows]
        returned.update(returned_by_lapse(legs, SYS_HELD))
    return Counter({day: points for day, points in returned.items() if days[0] <= day <= days[1]})


def outstanding(store: Store, connection: Connection, code: str, end: int, page: Page) -> list[DayPoints]:
    """A page of holders' points of an asset after the entries before ``end``, by last day, which is the key."""
    left = _outstanding(store, connection, code, end).subquery()
    query = sa.select(left.c.last_day, left.c.points)
    found = [
        DayPoints(last_day=None if row.last_day == NO_LAST_DAY else row.last_day, points=int(row.points))
        for row in connection.execute(paged(query, (left.c.last_day,), page))
    ]
    return found[::-1] if page.from_end else found


def overdue(store: Store, connection: Connection, code: str, end: int, today: str) -> int:
    """Points in circulation, after the entries before ``end``, whose last day has passed."""
    left = _outstanding(store, connection, code, end).subquery()
    return int(connection.execute(sa.select(sa.func.sum(left.c.points)).where(left.c.last_day < today)).scalar() or 0)


def _outstanding(store: Store, connection: Connection, code: str, end: int) -> Any:
    """Holders' points by last day: what is in their lots now, less what was moved since."""
    lots = sa.select(LOT.c.last_day, LOT.c.points).where(
        LOT.c.ledger_id == store.ledger_id, LOT.c.asset == code, LOT.c.account.not_in(SYSTEM_ACCOUNTS)
    )
    since = sa.select(POSTING.c.lot, -POSTING.c.amount).where(
        POSTING.c.ledger_id == store.ledger_id,
        POSTING.c.asset == code,
        POSTING.c.account.not_in(SYSTEM_ACCOUNTS),
        POSTING.c.seq >= end,
    )
    rows = sa.union_all(lots, since).subquery()
    points = sa.func.sum(rows.c.points)
    return sa.select(rows.c.last_day, points.label("points")).group_by(rows.c.last_day).having(points != 0)
