"""Insight: how an asset's program does, by period: its points, members, sales, vouchers, answers, and newcomers.

Each question is set-based: a scan of what is asked about, however many periods there are, or a statement for each of
them over its own entries. Points are of the period they were recorded in, as in :mod:`ledger.books`: what was told of
them never changes. What members did is of the day it happened, in the time zone of the asset's program, so that a
history that was imported tells of its own time; it changes when more of a day is recorded later.

To earn is to have a purchase or an activity recorded, also one that gave no points or whose points have yet to vest,
or to be given points for somebody one invited; to spend is to redeem points, at the issuer or elsewhere, also by a
capture, or to exchange them for others. Who did either was active on that day, whatever was refunded since. Points sent
to another member are neither, nor is what an automatic reward turns into vouchers.

Who may ask is not decided here, nor how answers look.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any, Literal
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.accounting import day_start
from ledger.books import (
    EndedLots,
    LotsSoFar,
    PointsMoved,
    Span,
    exact_sum,
    exactly,
    lots_over,
    points_moved_over,
    span_of,
)
from ledger.encoding import format_moment, parse_moment
from ledger.queries import Page, paged
from ledger.state import Asset, grant_scope
from ledger.store import Store
from ledger.tables import ACCOUNT, AGREEMENT, EARNING, MEMBERSHIP, SPENDING, TEXT, VOUCHER
from ledger.terms import ROLE_PREFIXES

By = Literal["day", "month", "year"]
"""How time is cut into periods."""

MAX_DAYS = 36_525
"""The longest time that can be asked about, in days: a hundred years."""

RETENTION_MONTHS = 24
"""How many months a month's newcomers are followed, their own not counted."""

FIRST_DAY = "1900-01-01"
"""No lot ends before it."""


class Subject(Struct, frozen=True, kw_only=True):
    """What insight is of: an asset, and the time zone of its program."""

    asset: Asset
    time_zone: str


class Period(Struct, frozen=True, kw_only=True):
    """The days ``first`` to ``last``, both included: a day, month or year, or what of it was asked about."""

    first: date
    last: date


class PointsInsight(Struct, frozen=True, kw_only=True):
    """Points of a period: how they moved, where they were spent, and what became of lots by its end.

    ``redeemed_at_issuer`` and ``redeemed_at_partners`` were spent there, also where the partner keeps the points and
    they circulate on; ``exchanged_out`` were given for points of others. ``ended`` are lots whose last day lay in the
    period and has passed, ``ended_so_far`` those whose last day lay in it or before.
    """

    period: Period
    moved: PointsMoved
    redeemed_at_issuer: int
    redeemed_at_partners: int
    exchanged_out: int
    lots: LotsSoFar
    ended_by: str

    @property
    def ended(self) -> EndedLots:
        """Lots that ended in the period."""
        return self.lots.ended(self.period.first.isoformat(), self.ended_by)

    @property
    def ended_so_far(self) -> EndedLots:
        """Lots that ended in the period or before."""
        return self.lots.ended(FIRST_DAY, self.ended_by)


class MembersInsight(Struct, frozen=True, kw_only=True):
    """Members at the end of a period.

    ``members`` have earned by then, ``new`` of them first in the period. Of those who have earned or spent, the
    ``active`` have done so within N days, of which the period's last is the last, and the ``churned`` have not.
    """

    period: Period
    members: int
    new: int
    active: int
    churned: int


class SalesInsight(Struct, frozen=True, kw_only=True):
    """Purchases in a period at whichever merchant, their sum in minor units, points they gave, and who made them."""

    period: Period
    purchases: int
    amount: int
    points: int
    buyers: int


class TierSales(Struct, frozen=True, kw_only=True):
    """Purchases that members made while in a ``tier``, or in none; as in :class:`SalesInsight`."""

    tier: str | None
    purchases: int
    amount: int
    points: int
    buyers: int


class TierCount(Struct, frozen=True, kw_only=True):
    """How many members were noted in a ``tier`` last, or in none; the time of ``due`` of them in it has passed."""

    tier: str | None
    members: int
    due: int


class Answers(Struct, frozen=True, kw_only=True):
    """Answers to surveys, 0 to 10, of a period: all of them, those of 9 or 10, and those of 0 to 6."""

    period: Period
    answers: int
    promoters: int
    detractors: int

    @property
    def promoter_score(self) -> int | None:
        """The net promoter score in basis points, towards 0; ``None`` without answers."""
        if not self.answers:
            return None
        more = self.promoters - self.detractors
        score = abs(more) * 10_000 // self.answers
        return score if more > 0 else -score


class Vouchers(Struct, frozen=True, kw_only=True):
    """A number of vouchers, the points they were had for, and what they are worth in minor units, as far as it is said.

    ``cancelled`` of them were given back since.
    """

    vouchers: int = 0
    points: int = 0
    worth: int = 0
    cancelled: int = 0


class VouchersInsight(Struct, frozen=True, kw_only=True):
    """Vouchers that were had in a period, those used in it, and those nobody used whose last day lay in it."""

    period: Period
    had: Vouchers
    used: Vouchers
    expired: Vouchers


class RewardInsight(Struct, frozen=True, kw_only=True):
    """Vouchers for a reward, had over a period, and how many of these were ``used`` since."""

    reward: str
    had: Vouchers
    used: int


class Cohort(Struct, frozen=True, kw_only=True):
    """Who first earned in a month ``YYYY-MM``: how many, and how many of them earned or spent k months later.

    ``active[0]`` is of the month itself: all of them. It ends with the month of the last day asked about, or after
    :data:`RETENTION_MONTHS`.
    """

    month: str
    members: int
    active: tuple[int, ...]


class SpentAt(Struct, frozen=True, kw_only=True):
    """Where points were spent: at whom, in how many operations, by how many accounts, and how many points."""

    merchant: str
    name: str | None
    points: int
    operations: int
    accounts: int


def periods(first: date, through: date, by: By) -> list[Period]:
    """The days from ``first`` to ``through`` as periods; the first and last may be parts of a month or year."""
    found = []
    while first <= through:
        last = min(_last_of(first, by), through)
        found.append(Period(first=first, last=last))
        first = last + timedelta(days=1)
    return found


def _last_of(day: date, by: By) -> date:
    if by == "day":
        return day
    if by == "year":
        return date(day.year, 12, 31)
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def page_of(wanted: Sequence[Period], page: Page) -> Sequence[Period]:
    """The part of some periods that a page asks for, in their order; keys are their first days."""
    firsts = [period.first.isoformat() for period in wanted]
    start = bisect_right(firsts, page.after) if page.after is not None else 0
    end = sum(first < page.before for first in firsts) if page.before is not None else len(firsts)
    if page.from_end:
        start = max(start, end - page.limit)
    return wanted[start:end][: page.limit]


# Points


def points_by_period(
    store: Store, connection: Connection, subject: Subject, wanted: Sequence[Period], *, today: str
) -> list[PointsInsight]:
    """Points of periods that follow each other; ``today`` is the local date of the question."""
    if not wanted:
        return []
    asset = subject.asset
    spans = _spans(store, connection, wanted, subject.time_zone)
    yesterday = (date.fromisoformat(today) - timedelta(days=1)).isoformat()
    ends = [min(period.last.isoformat(), yesterday) for period in wanted]
    places = _places(store, connection, asset)
    found = zip(
        wanted,
        spans,
        ends,
        points_moved_over(store, connection, asset.code, spans),
        lots_over(store, connection, asset.code, (FIRST_DAY, ends[-1]), spans),
        strict=True,
    )
    return [
        PointsInsight(
            period=period,
            moved=moved,
            lots=lots,
            ended_by=end,
            **_spent(store, connection, asset, places, span),
        )
        for period, span, end, moved, lots in found
    ]


def _spans(store: Store, connection: Connection, wanted: Sequence[Period], time_zone: str) -> list[Span]:
    spans: list[Span] = []
    for period in wanted:
        first = period.first if not spans else None
        span = span_of(store, connection, first, period.last, time_zone)
        spans.append(Span(first=spans[-1].end, end=span.end) if spans else span)
    return spans


def _places(store: Store, connection: Connection, asset: Asset) -> list[str]:
    """The accounts at which points of an asset can have been spent: few, so the index by merchant finds all of it."""
    query = (
        sa.select(AGREEMENT.c.partner)
        .distinct()
        .where(AGREEMENT.c.ledger_id == store.ledger_id, AGREEMENT.c.issuer == asset.issuer)
    )
    return [asset.issuer, *connection.execute(query).scalars()]


def _spendings(store: Store, asset: Asset, places: Sequence[str], span: Span | None = None) -> list[Any]:
    """The conditions of what was spent of an asset, over a span of entries or ever."""
    found = [
        SPENDING.c.ledger_id == store.ledger_id,
        SPENDING.c.merchant.in_(places),
        SPENDING.c.asset == asset.code,
    ]
    return found if span is None else [*found, SPENDING.c.seq >= span.first, SPENDING.c.seq < span.end]


def _spent(store: Store, connection: Connection, asset: Asset, places: Sequence[str], span: Span) -> dict[str, int]:
    """Points spent over a span, by where they went."""
    at_issuer = (SPENDING.c.merchant == asset.issuer).label("at_issuer")
    query = (
        sa.select(SPENDING.c.kind, at_issuer, sa.func.sum(SPENDING.c.amount).label("points"))
        .where(*_spendings(store, asset, places, span))
        .group_by(SPENDING.c.kind, at_issuer)
    )
    found = {"redeemed_at_issuer": 0, "redeemed_at_partners": 0, "exchanged_out": 0}
    for row in connection.execute(query):
        redeemed = "redeemed_at_issuer" if row.at_issuer else "redeemed_at_partners"
        found["exchanged_out" if row.kind == "exchange" else redeemed] += int(row.points)
    return found


def spent_at(store: Store, connection: Connection, subject: Subject, whole: Period, page: Page) -> list[SpentAt]:
    """A page of where points were spent over a period, most points first; keys are (less the points, account)."""
    asset = subject.asset
    span = span_of(store, connection, whole.first, whole.last, subject.time_zone)
    points = sa.func.sum(SPENDING.c.amount)
    totals = (
        sa.select(
            SPENDING.c.merchant,
            (-points).label("rank"),
            sa.func.count().label("operations"),
            sa.func.count(SPENDING.c.account.distinct()).label("accounts"),
        )
        .where(*_spendings(store, asset, _places(store, connection, asset), span))
        .group_by(SPENDING.c.merchant)
        .subquery()
    )
    query = sa.select(totals, ACCOUNT.c.name).outerjoin_from(
        totals, ACCOUNT, sa.and_(ACCOUNT.c.ledger_id == store.ledger_id, ACCOUNT.c.account == totals.c.merchant)
    )
    found = [
        SpentAt(
            merchant=row.merchant,
            name=row.name,
            points=-int(row.rank),
            operations=row.operations,
            accounts=row.accounts,
        )
        for row in connection.execute(paged(query, (totals.c.rank, totals.c.merchant), page))
    ]
    return found[::-1] if page.from_end else found


# Members


def members_by_period(
    store: Store, connection: Connection, subject: Subject, wanted: Sequence[Period], *, active_days: int
) -> list[MembersInsight]:
    """Members at the ends of periods that follow each other; who earned or spent within so many days is active."""
    if not wanted:
        return []
    joined = _Steps(_first_earnings(store, connection, subject, wanted[-1].last))
    seen, active = _activity_steps(store, connection, subject, wanted[-1].last, active_days)
    found = []
    for period in wanted:
        members, now = joined.at(period.last), active.at(period.last)
        found.append(
            MembersInsight(
                period=period,
                members=members,
                new=members - joined.at(period.first - timedelta(days=1)),
                active=now,
                churned=seen.at(period.last) - now,
            )
        )
    return found


class _Steps:
    """A number that changes from day to day, begun at 0."""

    def __init__(self, changes: dict[int, int]) -> None:
        self._days = sorted(changes)
        self._values = [0, *accumulate(changes[day] for day in self._days)]

    def at(self, day: date) -> int:
        """What it is at the end of a day."""
        return self._values[bisect_right(self._days, day.toordinal())]


def _first_earnings(store: Store, connection: Connection, subject: Subject, last: date) -> dict[int, int]:
    """How many members first earned on each day, by its ordinal; read from the index by account alone."""
    firsts = _newcomers(store, subject, last).subquery()
    query = sa.select(firsts.c.day, sa.func.count().label("members")).group_by(firsts.c.day)
    return {date.fromisoformat(row.day).toordinal(): row.members for row in connection.execute(query)}


def _newcomers(store: Store, subject: Subject, last: date) -> Any:
    """Each member's first day of earning, up to a day."""
    return (
        sa.select(EARNING.c.account, sa.func.min(EARNING.c.earned_on).label("day"))
        .where(EARNING.c.ledger_id == store.ledger_id, EARNING.c.asset == subject.asset.code)
        .where(EARNING.c.earned_on <= last.isoformat())
        .group_by(EARNING.c.account)
    )


def _activity_steps(
    store: Store, connection: Connection, subject: Subject, last: date, active_days: int
) -> tuple[_Steps, _Steps]:
    """How many members had ever earned or spent by the end of each day, and how many within so many days.

    A member's days of activity lie in runs with fewer than that many days between two of them: a run makes it active
    from its first day until that many days after its last one.

    A day on which it did several things comes as often, which begins and ends no run. To make days distinct first is
    what PostgreSQL's parallel workers do with the hash function of the process that collects their rows: these come in
    the order of its table, and fill it in time that grows with the square of their number.
    """
    activity = _activity(store, connection, subject, last).subquery()
    number = _day_number(store, activity.c.day).label("day")
    days = sa.select(activity.c.account, number).subquery()
    window: dict[str, Any] = {"partition_by": days.c.account, "order_by": days.c.day}
    around = sa.select(
        days.c.day,
        sa.func.lag(days.c.day).over(**window).label("before"),
        sa.func.lead(days.c.day).over(**window).label("after"),
    ).subquery()

    def count(*conditions: Any) -> Any:
        return sa.func.sum(sa.case((sa.or_(*conditions), 1), else_=0))

    is_first, is_last = around.c.before.is_(None), around.c.after.is_(None)
    query = sa.select(
        around.c.day,
        count(is_first).label("first"),
        count(is_first, around.c.day - around.c.before >= active_days).label("begun"),
        count(is_last, around.c.after - around.c.day >= active_days).label("over"),
    ).group_by(around.c.day)
    seen: dict[int, int] = {}
    active: dict[int, int] = {}
    for row in connection.execute(query):
        day = _EPOCH + row.day
        seen[day] = int(row.first)
        active[day] = active.get(day, 0) + int(row.begun)
        active[day + active_days] = active.get(day + active_days, 0) - int(row.over)
    return _Steps(seen), _Steps(active)


_EPOCH = date(1970, 1, 1).toordinal()


def _day_number(store: Store, day: Any) -> Any:
    """The days from 1970-01-01 to a day in text."""
    if store.is_postgres:
        return sa.cast(day, sa.Date) - sa.literal_column("DATE '1970-01-01'", sa.Date())
    return sa.cast(sa.func.julianday(day) - 2_440_587.5, sa.Integer)


_MEMBERS = (ROLE_PREFIXES["member"] + "_", ROLE_PREFIXES["member"] + "`")
"""Where the ids of members lie among all: ``mem_`` up to the character that follows ``_``."""


def _activity(store: Store, connection: Connection, subject: Subject, last: date) -> Any:
    """Members and the days on which they earned or spent, up to a day, as often as they did.

    ``earned_on`` is the day again where it was an earning, else null.
    """
    asset = subject.asset
    earned = sa.select(EARNING.c.account, EARNING.c.earned_on.label("day"), EARNING.c.earned_on).where(
        EARNING.c.ledger_id == store.ledger_id,
        EARNING.c.asset == asset.code,
        EARNING.c.earned_on <= last.isoformat(),
    )
    spent_on = _local_day(store, connection, subject.time_zone).label("day")
    spent = sa.select(SPENDING.c.account, spent_on, sa.cast(sa.null(), TEXT).label("earned_on")).where(
        *_spendings(store, asset, _places(store, connection, asset)),
        SPENDING.c.account >= _MEMBERS[0],
        SPENDING.c.account < _MEMBERS[1],
        SPENDING.c.time < day_start(last + timedelta(days=1), subject.time_zone),
    )
    return sa.union_all(earned, spent)


def _local_day(store: Store, connection: Connection, time_zone: str) -> Any:
    """The local date of what was spent, computed by the database from the ledger's own offsets of a time zone.

    A database has time zones of its own, or none: those of the pinned package are told it.
    """
    if time_zone == "UTC":
        return sa.func.substr(SPENDING.c.time, 1, 10)
    times = sa.select(sa.func.min(SPENDING.c.time), sa.func.max(SPENDING.c.time))
    first, last = connection.execute(times.where(SPENDING.c.ledger_id == store.ledger_id)).one()
    offsets = list(_offsets(parse_moment(first), parse_moment(last), time_zone)) if first is not None else []
    changes = [(SPENDING.c.time < sa.literal(until), offset) for until, offset in offsets[:-1]]
    latest = offsets[-1][1] if offsets else 0
    seconds = sa.case(*changes, else_=latest) if changes else sa.literal(latest, sa.Integer())
    if store.is_postgres:
        moment = sa.cast(sa.func.substr(SPENDING.c.time, 1, 19), sa.TIMESTAMP())
        local = moment + seconds * sa.literal_column("INTERVAL '1 second'", sa.Interval())
        return sa.collate(sa.func.to_char(local, "YYYY-MM-DD"), "C")
    return sa.func.date(SPENDING.c.time, sa.cast(seconds, sa.Text()) + " seconds")


def _offsets(first: datetime, last: datetime, time_zone: str) -> Iterator[tuple[str, int]]:
    """Each offset from UTC that is in force between two moments, in seconds, and the moment until which it is."""
    zone, step = ZoneInfo(time_zone), timedelta(days=1)

    def offset(moment: datetime) -> int:
        shift = moment.astimezone(zone).utcoffset()
        assert shift is not None
        return int(shift.total_seconds())

    low = first.astimezone(UTC).replace(microsecond=0)
    while low < last:
        high = low + step
        if offset(low) != offset(high):
            before, after = low, high
            while after - before > timedelta(seconds=1):
                middle = before + timedelta(seconds=int((after - before).total_seconds()) // 2)
                before, after = (middle, after) if offset(middle) == offset(low) else (before, middle)
            yield format_moment(after), offset(low)
            high = after
        low = high
    yield format_moment(low), offset(low)


# Newcomers by month


def cohorts(store: Store, connection: Connection, subject: Subject, whole: Period, page: Page) -> list[Cohort]:
    """A page of the months in which members first earned, and who of them came back; the months are the keys.

    Months without newcomers are none. All that the newcomers did up to the last day of ``whole`` is looked at.
    """
    newcomers = _newcomers(store, subject, whole.last).subquery()
    month = sa.func.substr(newcomers.c.day, 1, 7)
    within = newcomers.c.day >= whole.first.isoformat()
    members = sa.select(month.label("month"), sa.func.count().label("members")).where(within).group_by(month)
    counted = members.subquery()
    rows = list(connection.execute(paged(sa.select(counted), (counted.c.month,), page)))
    if not rows:
        return []
    rows = rows[::-1] if page.from_end else rows
    joined = (max(whole.first.isoformat(), rows[0].month), f"{rows[-1].month}-31")
    came = _came_back(store, connection, subject, joined, whole.last)
    return [Cohort(month=row.month, members=row.members, active=_followed(row.month, whole.last, came)) for row in rows]


def _came_back(
    store: Store, connection: Connection, subject: Subject, joined: tuple[str, str], last: date
) -> dict[tuple[str, str], int]:
    """How many newcomers of a month earned or spent in another one, of those who joined between two days.

    A member's months and its first day of earning are found in one pass: joined to each other, neither has an index.
    """
    activity = _activity(store, connection, subject, last).subquery()
    month = sa.func.substr(activity.c.day, 1, 7)
    first = sa.func.min(sa.func.min(activity.c.earned_on)).over(partition_by=activity.c.account)
    months = (
        sa.select(activity.c.account, month.label("month"), first.label("joined"))
        .group_by(activity.c.account, month)
        .subquery()
    )
    joined_in = sa.func.substr(months.c.joined, 1, 7).label("joined_in")
    query = (
        sa.select(joined_in, months.c.month, sa.func.count().label("members"))
        .where(months.c.joined >= joined[0], months.c.joined <= joined[1])
        .group_by(joined_in, months.c.month)
    )
    return {(row.joined_in, row.month): row.members for row in connection.execute(query)}


def _followed(month: str, last: date, came: dict[tuple[str, str], int]) -> tuple[int, ...]:
    first = _month_number(month)
    until = min(_month_number(last.isoformat()), first + RETENTION_MONTHS)
    names = (f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(first, until + 1))
    return tuple(came.get((month, name), 0) for name in names)


def _month_number(day: str) -> int:
    return int(day[:4]) * 12 + int(day[5:7]) - 1


# Sales

_LENGTHS: dict[By, int] = {"day": 10, "month": 7, "year": 4}
"""How much of a date says which period it is of."""


def sales_by_period(
    store: Store, connection: Connection, subject: Subject, wanted: Sequence[Period], by: By
) -> list[SalesInsight]:
    """Purchases in periods that follow each other."""
    if not wanted:
        return []
    key = _key(by)
    query = _sales(store, subject, wanted, key).group_by(key)
    rows = {row.key: row for row in connection.execute(query)}
    found = []
    for period in wanted:
        row = rows.get(_key_of(period, by))
        found.append(SalesInsight(period=period, **_sold(row)))
    return found


def sales_by_tier(
    store: Store, connection: Connection, subject: Subject, wanted: Sequence[Period], by: By
) -> list[list[TierSales]]:
    """Purchases in periods that follow each other, by the tier that the member was in; tiers by name, none first."""
    if not wanted:
        return []
    key, tier = _key(by), _tier_then(store).label("tier")
    query = _sales(store, subject, wanted, key).add_columns(tier).group_by(key, tier)
    rows: dict[str, list[TierSales]] = {}
    for row in connection.execute(query):
        rows.setdefault(row.key, []).append(TierSales(tier=row.tier, **_sold(row)))
    return [sorted(rows.get(_key_of(period, by), ()), key=lambda each: each.tier or "") for period in wanted]


def _key(by: By) -> Any:
    return sa.func.substr(EARNING.c.earned_on, 1, sa.literal_column(str(_LENGTHS[by]))).label("key")


def _key_of(period: Period, by: By) -> str:
    return period.first.isoformat()[: _LENGTHS[by]]


def _sales(store: Store, subject: Subject, wanted: Sequence[Period], key: Any) -> Any:
    """Sums over the purchases of some periods."""
    return sa.select(
        key,
        sa.func.count().label("purchases"),
        sa.func.sum(EARNING.c.points).label("points"),
        sa.func.count(EARNING.c.account.distinct()).label("buyers"),
        *exact_sum(EARNING.c.amount),
    ).where(
        EARNING.c.ledger_id == store.ledger_id,
        EARNING.c.asset == subject.asset.code,
        EARNING.c.amount.is_not(None),
        EARNING.c.earned_on >= wanted[0].first.isoformat(),
        EARNING.c.earned_on <= wanted[-1].last.isoformat(),
    )


def _sold(row: Any) -> dict[str, int]:
    if row is None:
        return {"purchases": 0, "amount": 0, "points": 0, "buyers": 0}
    return {"purchases": row.purchases, "amount": exactly(row), "points": int(row.points), "buyers": row.buyers}


# Tiers


def _tier_then(store: Store) -> Any:
    """The tier that a purchase's member was in, out of the circumstances that were noted."""
    if store.is_postgres:
        return sa.func.json_extract_path_text(sa.cast(EARNING.c.circumstances, sa.JSON), "tier")
    return sa.func.json_extract(EARNING.c.circumstances, "$.tier")


def tier_counts(store: Store, connection: Connection, subject: Subject, *, today: str) -> list[TierCount]:
    """How many members are noted in each tier, by name, those in none first.

    They are who takes part in a program that has more than bands. Where nothing was noted there are none.
    """
    due = sa.case((sa.and_(MEMBERSHIP.c.tier.is_not(None), MEMBERSHIP.c.tier_until < today), 1), else_=0)
    query = (
        sa.select(MEMBERSHIP.c.tier, sa.func.count().label("members"), sa.func.sum(due).label("due"))
        .where(MEMBERSHIP.c.ledger_id == store.ledger_id, MEMBERSHIP.c.asset == subject.asset.code)
        .group_by(MEMBERSHIP.c.tier)
    )
    found = [TierCount(tier=row.tier, members=row.members, due=int(row.due)) for row in connection.execute(query)]
    return sorted(found, key=lambda each: each.tier or "")


# Answers


def answers_by_period(
    store: Store,
    connection: Connection,
    subject: Subject,
    wanted: Sequence[Period],
    by: By,
    *,
    activity: str | None = None,
) -> list[Answers]:
    """Answers to surveys in periods that follow each other: to all, or to that of one activity. Each answer counts."""
    if not wanted:
        return []
    key, score = _key(by), EARNING.c.score
    query = (
        sa.select(
            key,
            sa.func.count().label("answers"),
            sa.func.sum(sa.case((score >= _PROMOTER, 1), else_=0)).label("promoters"),
            sa.func.sum(sa.case((score <= _DETRACTOR, 1), else_=0)).label("detractors"),
        )
        .where(
            EARNING.c.ledger_id == store.ledger_id,
            EARNING.c.asset == subject.asset.code,
            score.is_not(None),
            EARNING.c.earned_on >= wanted[0].first.isoformat(),
            EARNING.c.earned_on <= wanted[-1].last.isoformat(),
        )
        .group_by(key)
    )
    if activity is not None:
        query = query.where(EARNING.c.scope == grant_scope(activity))
    rows = {row.key: row for row in connection.execute(query)}
    found = []
    for period in wanted:
        row = rows.get(_key_of(period, by))
        answers, promoters, detractors = (row.answers, row.promoters, row.detractors) if row is not None else (0, 0, 0)
        found.append(Answers(period=period, answers=answers, promoters=int(promoters), detractors=int(detractors)))
    return found


_PROMOTER, _DETRACTOR = 9, 6
"""The least answer of a promoter, the greatest of a detractor."""


# Vouchers


def vouchers_by_period(
    store: Store, connection: Connection, subject: Subject, wanted: Sequence[Period], *, today: str
) -> list[VouchersInsight]:
    """Vouchers of periods that follow each other; ``today`` is the local date of the question.

    To have one and to use one is of the day it was recorded on, as points are.
    """
    if not wanted:
        return []
    spans = _spans(store, connection, wanted, subject.time_zone)
    expired = _expired(store, connection, subject, wanted, today)
    return [
        VouchersInsight(
            period=period,
            had=_had_over(store, connection, subject, VOUCHER.c.seq, span),
            used=_had_over(store, connection, subject, VOUCHER.c.used_seq, span),
            expired=gone,
        )
        for period, span, gone in zip(wanted, spans, expired, strict=True)
    ]


def _vouchers(store: Store, subject: Subject) -> tuple[Any, ...]:
    """The conditions of an asset's vouchers. They are all of its issuer."""
    return (
        VOUCHER.c.ledger_id == store.ledger_id,
        VOUCHER.c.merchant == subject.asset.issuer,
        VOUCHER.c.asset == subject.asset.code,
    )


_CANCELLED = sa.case((VOUCHER.c.status == "cancelled", 1), else_=0)


def _counted() -> tuple[Any, ...]:
    return (
        sa.func.count().label("vouchers"),
        sa.func.sum(VOUCHER.c.price).label("points"),
        sa.func.sum(_CANCELLED).label("cancelled"),
        *exact_sum(VOUCHER.c.worth),
    )


def _vouchers_of(row: Any) -> Vouchers:
    return Vouchers(
        vouchers=row.vouchers, points=int(row.points or 0), worth=exactly(row), cancelled=int(row.cancelled or 0)
    )


def _had_over(store: Store, connection: Connection, subject: Subject, seq: Any, span: Span) -> Vouchers:
    query = sa.select(*_counted()).where(*_vouchers(store, subject), seq >= span.first, seq < span.end)
    return _vouchers_of(connection.execute(query).one())


def _expired(
    store: Store, connection: Connection, subject: Subject, wanted: Sequence[Period], today: str
) -> list[Vouchers]:
    """Vouchers nobody used whose last day lay in each of some periods, and has passed: one scan, by last day."""
    query = (
        sa.select(VOUCHER.c.last_day, *_counted())
        .where(
            *_vouchers(store, subject),
            VOUCHER.c.status == "issued",
            VOUCHER.c.last_day >= wanted[0].first.isoformat(),
            VOUCHER.c.last_day <= wanted[-1].last.isoformat(),
            VOUCHER.c.last_day < today,
        )
        .group_by(VOUCHER.c.last_day)
    )
    firsts = [period.first.isoformat() for period in wanted]
    found = [Vouchers()] * len(wanted)
    for row in connection.execute(query):
        at, more = bisect_right(firsts, row.last_day) - 1, _vouchers_of(row)
        so_far = found[at]
        found[at] = Vouchers(
            vouchers=so_far.vouchers + more.vouchers,
            points=so_far.points + more.points,
            worth=so_far.worth + more.worth,
        )
    return found


def rewards(store: Store, connection: Connection, subject: Subject, whole: Period, page: Page) -> list[RewardInsight]:
    """A page of what vouchers were had for over a period, most vouchers first; keys are (less the vouchers, reward)."""
    span = span_of(store, connection, whole.first, whole.last, subject.time_zone)
    totals = (
        sa.select(
            VOUCHER.c.reward,
            (-sa.func.count()).label("rank"),
            sa.func.sum(sa.case((VOUCHER.c.status == "used", 1), else_=0)).label("used"),
            *_counted(),
        )
        .where(*_vouchers(store, subject), VOUCHER.c.seq >= span.first, VOUCHER.c.seq < span.end)
        .group_by(VOUCHER.c.reward)
        .subquery()
    )
    rows = connection.execute(paged(sa.select(totals), (totals.c.rank, totals.c.reward), page))
    found = [RewardInsight(reward=row.reward, had=_vouchers_of(row), used=int(row.used)) for row in rows]
    return found[::-1] if page.from_end else found
