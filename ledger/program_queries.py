"""Reading what members have in programs: memberships and tiers, points to come, vouchers, activities, rewards, and why.

Like :mod:`ledger.queries`: set-based SQL, keyset pages, a bounded number of statements for each question. What follows
from the time, such as a tier of today, is worked out by :mod:`ledger.standing` and :mod:`ledger.calculation` from what
is stored. A :class:`~ledger.queries.Sight` is applied where a list is of what a reader may see.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.bulk import chunks_of
from ledger.calculation import Bought, Calculation, benefits_of, calculate, plan_on, sentences, when_holds
from ledger.encoding import AccountId
from ledger.entries import NO_LAST_DAY, decode_entry
from ledger.movements import ALL_HOLDERS, period_of
from ledger.operations import Grant, RecordPurchases, Vest
from ledger.program_terms import Program, Reward, Tiers
from ledger.programs import ProgramVersion, local_date
from ledger.queries import Page, Sight, paged
from ledger.reminders import sentence
from ledger.standing import NOWHERE, Standing, period_of_day, standing_at
from ledger.state import (
    INVITATION_SCOPE,
    ORDER_SCOPE,
    Circumstances,
    Earning,
    Membership,
    Pending,
    Pool,
    Reminder,
    Voucher,
    reward_scope,
)
from ledger.store import Store, earning_of
from ledger.tables import (
    ASSET,
    EARNING,
    ENTRY,
    MEMBERSHIP,
    PENDING,
    POOL,
    PROGRESS,
    RECORD_TABLES,
    REMINDER,
    USAGE,
    VOUCHER,
)
from ledger.vouchers import MAX_AT_A_TIME

_EVENT = EARNING.alias()
_GRANT = "grant:"
"""What the scope of a grant begins with; the activity follows."""


def _records(connection: Connection, name: str, query: Any) -> list[Any]:
    """The records that a query of all columns of a table finds; the first column is the ledger's id."""
    record_of = RECORD_TABLES[name].record_of
    return [record_of(tuple(row)[1:]) for row in connection.execute(query)]


def _in_order(found: list[Any], page: Page) -> list[Any]:
    return found[::-1] if page.from_end else found


def todays(store: Store, connection: Connection, codes: Sequence[str], time: str) -> dict[str, str]:
    """The local date of a time for each asset: in the time zone of its program, UTC without one."""
    zones = queries.time_zones(store, connection, codes)
    return {code: local_date(time, zones[code]) if code in zones else time[:10] for code in codes}


# Memberships


class MembershipFilter(Struct, frozen=True, kw_only=True):
    """Which memberships: of an asset, of an account, of those whose tier noted last is ``tier``; all must hold.

    It names an asset or an account: an account's are found in each asset by their key.
    """

    asset: str | None = None
    assets: tuple[str, ...] | None = None
    account: str | None = None
    tier: str | None = None


def memberships_page(
    store: Store, connection: Connection, wanted: MembershipFilter, sight: Sight, page: Page
) -> list[Membership]:
    """A page of the memberships that a reader may see, by asset and account, which are the key."""
    assert wanted.asset is not None or wanted.account is not None
    table = MEMBERSHIP.c
    query = sa.select(MEMBERSHIP).where(table.ledger_id == store.ledger_id)
    named = ((table.asset, wanted.asset), (table.account, wanted.account), (table.tier, wanted.tier))
    query = query.where(*(column == value for column, value in named if value is not None))
    if wanted.assets is not None:
        query = query.where(table.asset.in_(wanted.assets))
    elif wanted.asset is None:
        # The key begins with the asset, of which there are few.
        query = query.where(table.asset.in_(sa.select(ASSET.c.asset).where(ASSET.c.ledger_id == store.ledger_id)))
    if not sight.everything:
        query = query.where(sa.or_(table.account.in_(sight.accounts), table.asset.in_(sight.assets)))
    return _in_order(_records(connection, "memberships", paged(query, (table.asset, table.account), page)), page)


def membership(store: Store, connection: Connection, asset: str, account: str) -> Membership | None:
    """An account's membership of the program of an asset, if there is one."""
    table = MEMBERSHIP.c
    query = sa.select(MEMBERSHIP).where(
        table.ledger_id == store.ledger_id, table.asset == asset, table.account == account
    )
    return next(iter(_records(connection, "memberships", query)), None)


def memberships_of(store: Store, connection: Connection, asset: str, accounts: Sequence[str]) -> list[Membership]:
    """Those of these accounts' memberships of the program of an asset that there are, by account."""
    table = MEMBERSHIP.c
    conditions = (table.ledger_id == store.ledger_id, table.asset == asset, table.account.in_(list(accounts)))
    return _records(connection, "memberships", sa.select(MEMBERSHIP).where(*conditions).order_by(table.account))


# Tiers


class PeriodCount(Struct, frozen=True, kw_only=True):
    """How much of what tiers count a member did in a period."""

    period: str
    count: int


class NextLevel(Struct, frozen=True, kw_only=True):
    """A tier above a member's, reached from ``from_count`` on; so much is ``missing`` in the current periods."""

    tier: str
    from_count: int
    missing: int


class TierStanding(Struct, frozen=True, kw_only=True):
    """Where a member stands on a local date, and how far it is to the next tier; ``until`` is ``None`` for ever.

    ``periods`` are those that count together then, the earliest first, with what each has, and ``counted`` their sum.
    """

    tier: str | None
    until: str | None
    never_expires: bool
    basis: str
    period: str
    counted: int
    periods: tuple[PeriodCount, ...]
    next: NextLevel | None


def standings(
    store: Store, connection: Connection, memberships: Sequence[Membership], time: str
) -> list[TierStanding | None]:
    """Where members stand at a time by the programs in force, in their order; ``None`` where there are no tiers."""
    codes = sorted({each.asset for each in memberships})
    if not codes:
        return []
    versions = dict(zip(codes, queries.programs_at(store, connection, codes, time), strict=True))
    counts = _progress(store, connection, [(each.asset, each.account) for each in memberships])
    return [_tier_standing(versions[each.asset], each, counts, time) for each in memberships]


_Counts = dict[tuple[str, str, str], dict[str, int]]
"""What members did, by (asset, account, basis) and period."""


def _progress(store: Store, connection: Connection, members: Sequence[tuple[str, str]]) -> _Counts:
    """What these members, by asset and account, did in each period."""
    table = PROGRESS.c
    query = sa.select(table.asset, table.account, table.basis, table.period, table["count"].label("done")).where(
        table.ledger_id == store.ledger_id,
        table.asset.in_(sorted({asset for asset, _ in members})),
        table.account.in_(sorted({account for _, account in members})),
    )
    found: _Counts = {}
    for row in connection.execute(query):
        found.setdefault((row.asset, row.account, row.basis), {})[row.period] = row.done
    return found


def _tier_standing(
    version: ProgramVersion | None, member: Membership, counts: _Counts, time: str
) -> TierStanding | None:
    tiers = version.program.tiers if version is not None else None
    if version is None or tiers is None:
        return None
    done = counts.get((member.asset, member.account, tiers.basis), {})
    return tier_standing(tiers, done, member.joined_on, local_date(time, version.program.time_zone))


def tier_standing(tiers: Tiers, counts: dict[str, int], joined_on: str, day: str) -> TierStanding:
    """Where a member stands on a local date, who did so much in each period."""
    stands = standing_at(tiers, counts, joined_on, day)
    periods = tuple(
        PeriodCount(period=period, count=counts.get(period, 0)) for period in _counting(tiers, joined_on, day)
    )
    counted = sum(each.count for each in periods)
    reached = [level.tier for level in tiers.levels].index(stands.tier) + 1 if stands.tier is not None else 0
    above = tiers.levels[reached] if reached < len(tiers.levels) else None
    return TierStanding(
        tier=stands.tier,
        until=None if stands.until == NO_LAST_DAY else stands.until,
        never_expires=stands.level is not None and stands.level.never_expires,
        basis=tiers.basis,
        period=periods[-1].period,
        counted=counted,
        periods=periods,
        next=None
        if above is None
        else NextLevel(tier=above.tier, from_count=above.from_count, missing=max(above.from_count - counted, 0)),
    )


def _counting(tiers: Tiers, joined_on: str, day: str) -> list[str]:
    """The periods that count together on a local date, the earliest first."""
    found = [period_of_day(tiers, joined_on, day)]
    for _ in range(tiers.window - 1):
        found.append(_period_before(tiers, joined_on, found[-1]))
    return found[::-1]


def _period_before(tiers: Tiers, joined_on: str, period: str) -> str:
    if tiers.period == "calendar_year":
        return f"{int(period) - 1:04}"
    if tiers.period == "month":
        year, month = divmod(int(period[:4]) * 12 + int(period[5:]) - 2, 12)
        return f"{year:04}-{month + 1:02}"
    return period_of_day(tiers, joined_on, (date.fromisoformat(period) - timedelta(days=1)).isoformat())


# Points to come


def pending_page(
    store: Store, connection: Connection, account: str, assets: Sequence[str] | None, page: Page
) -> list[Pending]:
    """A page of an account's points that have not vested, by the day they vest, merchant and order: the key."""
    table = PENDING.c
    query = sa.select(PENDING).where(table.ledger_id == store.ledger_id, table.account == account)
    if assets is not None:
        query = query.where(table.asset.in_(assets))
    # An account has few, read whole from the index by account, and sorted.
    vests_on = table.vests_on + sa.literal_column("''", sa.Text())
    key = (vests_on, table.merchant, table.order)
    return _in_order(_records(connection, "pending", paged(query, key, page)), page)


# Vouchers

VoucherState = Literal["issued", "used", "cancelled", "expired"]


class VoucherFilter(Struct, frozen=True, kw_only=True):
    """Which vouchers: an account's, those good at a merchant, of some assets, as they stand at a time.

    It names an account or a merchant: theirs have an index.
    """

    account: str | None = None
    merchant: str | None = None
    assets: tuple[str, ...] | None = None
    status: VoucherState | None = None


def vouchers_page(
    store: Store, connection: Connection, wanted: VoucherFilter, sight: Sight, page: Page, *, time: str
) -> list[Voucher]:
    """A page of the vouchers that a reader may see, in the order in which they were had; keys are (seq, index)."""
    assert wanted.account is not None or wanted.merchant is not None
    table = VOUCHER.c
    query = sa.select(VOUCHER).where(table.ledger_id == store.ledger_id)
    named = ((table.account, wanted.account), (table.merchant, wanted.merchant))
    query = query.where(*(column == value for column, value in named if value is not None))
    if wanted.assets is not None:
        query = query.where(table.asset.in_(wanted.assets))
    if not sight.everything:
        of_reader = (table.account, sight.accounts), (table.merchant, sight.accounts), (table.asset, sight.assets)
        query = query.where(sa.or_(*(column.in_(values) for column, values in of_reader)))
    if wanted.status is not None:
        query = query.where(_stands(store, connection, wanted, query, time))
    return _in_order(_records(connection, "vouchers", paged(query, (table.seq, table.index), page)), page)


def _stands(store: Store, connection: Connection, wanted: VoucherFilter, query: Any, time: str) -> Any:
    """That a voucher stands so at a time: it expires with the local date of its asset."""
    status = wanted.status
    if status in {"used", "cancelled"}:
        return VOUCHER.c.status == status
    if wanted.merchant is not None:  # who has issued what is paid for its vouchers
        codes = [asset.code for asset in queries.assets(store, connection, issuer=wanted.merchant)]
    else:
        codes = list(connection.execute(query.with_only_columns(VOUCHER.c.asset).distinct()).scalars())
    dates: dict[str, list[str]] = {}
    for code, today in todays(store, connection, codes, time).items():
        dates.setdefault(today, []).append(code)
    over = sa.or_(
        sa.false(),
        *(sa.and_(VOUCHER.c.asset.in_(found), VOUCHER.c.last_day < today) for today, found in dates.items()),
    )
    return sa.and_(VOUCHER.c.status == "issued", over if status == "expired" else sa.not_(over))


def voucher(store: Store, connection: Connection, seq: int, index: int) -> Voucher | None:
    """The ``index``-th voucher that entry ``seq`` gave, if there is one."""
    table = VOUCHER.c
    query = sa.select(VOUCHER).where(table.ledger_id == store.ledger_id, table.seq == seq, table.index == index)
    return next(iter(_records(connection, "vouchers", query)), None)


def vouchers_given(store: Store, connection: Connection, seq: int, limit: int) -> list[Voucher]:
    """The first vouchers that entry ``seq`` gave, ``limit`` at most, in their order."""
    table = VOUCHER.c
    query = sa.select(VOUCHER).where(table.ledger_id == store.ledger_id, table.seq == seq)
    return _records(connection, "vouchers", query.order_by(table.index).limit(limit))


def pending_purchases(store: Store, connection: Connection, merchant: str, orders: Sequence[str]) -> list[Pending]:
    """Points of these purchases of a merchant that have not vested, by order."""
    table = PENDING.c
    conditions = (table.ledger_id == store.ledger_id, table.merchant == merchant, table.order.in_(list(orders)))
    return _records(connection, "pending", sa.select(PENDING).where(*conditions).order_by(table.order))


# Pools


def pools(store: Store, connection: Connection, names: Iterable[str]) -> dict[str, Pool]:
    """The pools with these ids, by id."""
    query = sa.select(POOL).where(POOL.c.ledger_id == store.ledger_id, POOL.c.pool.in_(sorted(set(names))))
    return {found.pool: found for found in _records(connection, "pools", query)}


def pools_of(store: Store, connection: Connection, account: str, assets: Sequence[str] | None) -> list[Pool]:
    """The pools that an account is in, by asset: one for each asset at most."""
    table = MEMBERSHIP.c
    query = sa.select(table.pool).where(
        table.ledger_id == store.ledger_id, table.account == account, table.pool.is_not(None)
    )
    if assets is None:
        query = query.where(table.asset.in_(sa.select(ASSET.c.asset).where(ASSET.c.ledger_id == store.ledger_id)))
    else:
        query = query.where(table.asset.in_(assets))
    names = list(connection.execute(query).scalars())
    return sorted(pools(store, connection, names).values(), key=lambda pool: pool.asset)


def pools_points(
    store: Store, connection: Connection, pools: Sequence[tuple[str, tuple[str, ...]]], time: str
) -> list[int]:
    """Points that the members of each pool, by its asset, can spend together at a time: none of those frozen."""
    accounts = {member for _, members in pools for member in members}
    acting = [each.id for each in store.accounts(connection, sorted(accounts)) if each.frozen_seq is None]
    codes = sorted({asset for asset, _ in pools})
    found = queries.balances_of(store, connection, acting, time, codes)
    points = {
        (account, balance.asset): balance.spendable
        for account, held in zip(acting, found, strict=True)
        for balance in held
    }
    return [sum(points.get((AccountId(member), asset), 0) for member in members) for asset, members in pools]


# Reminders


class ToldReminder(Struct, frozen=True, kw_only=True):
    """What a member was reminded of, the recorded time of the entry that did it, and the same in plain English."""

    reminder: Reminder
    time: str
    sentence: str


def reminders_page(
    store: Store, connection: Connection, account: str, assets: Sequence[str] | None, page: Page
) -> list[ToldReminder]:
    """A page of what an account was reminded of, of some assets or all, the first first; the key is the entry's seq."""
    table = REMINDER.c
    query = sa.select(REMINDER).where(table.ledger_id == store.ledger_id, table.account == account)
    if assets is not None:
        query = query.where(table.asset.in_(assets))
    found = _in_order(_records(connection, "reminders", paged(query, (table.seq,), page)), page)
    return told_reminders(store, connection, found)


def reminders_of(store: Store, connection: Connection, seqs: Sequence[int]) -> dict[int, list[Reminder]]:
    """What each of these entries reminded of, by account: nothing of an entry that is no ``remind``."""
    found: dict[int, list[Reminder]] = {seq: [] for seq in seqs}
    if not found:
        return found
    table = REMINDER.c
    query = sa.select(REMINDER).where(table.ledger_id == store.ledger_id, table.seq.in_(list(seqs)))
    for each in _records(connection, "reminders", query.order_by(table.seq, table.account)):
        found[each.seq].append(each)
    return found


def told_reminders(store: Store, connection: Connection, reminders: Sequence[Reminder]) -> list[ToldReminder]:
    """Each of these reminders, with its time and in words."""
    if not reminders:
        return []
    query = sa.select(ENTRY.c.seq, ENTRY.c.time).where(
        ENTRY.c.ledger_id == store.ledger_id, ENTRY.c.seq.in_(sorted({each.seq for each in reminders}))
    )
    times = {row.seq: row.time for row in connection.execute(query)}
    assets = store.assets(connection, sorted({each.asset for each in reminders}))
    scales = {asset.code: asset.scale for asset in assets}
    return [
        ToldReminder(reminder=each, time=times[each.seq], sentence=sentence(each, scales[each.asset]))
        for each in reminders
    ]


# Activities


class Achievement(Struct, frozen=True, kw_only=True):
    """An activity that a member did ``count`` times, between two local dates, and the points it was granted."""

    asset: str
    activity: str
    count: int
    first_day: str
    last_day: str
    points: int


def achievements(store: Store, connection: Connection, asset: str, account: str) -> list[Achievement]:
    """What an account did of the activities of an asset's programs, by name.

    It costs more the more an account has earned of the asset: all that is read.
    """
    table = EARNING.c
    query = (
        sa.select(
            table.scope,
            sa.func.count().label("times"),
            sa.func.min(table.earned_on).label("first_day"),
            sa.func.max(table.earned_on).label("last_day"),
            sa.func.sum(table.points).label("points"),
        )
        .where(
            table.ledger_id == store.ledger_id,
            table.asset == asset,
            table.account == account,
            table.scope.startswith(_GRANT, autoescape=True),
        )
        .group_by(table.scope)
        .order_by(table.scope)
    )
    return [
        Achievement(
            asset=asset,
            activity=row.scope.removeprefix(_GRANT),
            count=row.times,
            first_day=row.first_day,
            last_day=row.last_day,
            points=int(row.points),
        )
        for row in connection.execute(query)
    ]


# Benefits and rewards


class MemberNow(Struct, frozen=True, kw_only=True):
    """A member of a program on a local date, as conditions ask about it; ``version`` is in force."""

    version: ProgramVersion
    issuer: str
    account: str
    membership: Membership | None
    standing: Standing
    today: str

    @property
    def circumstances(self) -> Circumstances:
        """What conditions can ask of the member alone."""
        member = self.membership
        return Circumstances(
            first=member is None or member.purchases == 0,
            formula=None if member is None else member.formula,
            invited=member is not None and member.invited_by is not None,
            joined_on=self.today if member is None else member.joined_on,
            plan=plan_on(member, self.today),
            tier=self.standing.tier,
        )


def member_now(store: Store, connection: Connection, asset: str, account: str, time: str) -> MemberNow | None:
    """How an account stands to the program of an asset at a time; ``None`` where no program is in force.

    Who is no member yet would be one from that day on.
    """
    version = queries.program_at(store, connection, asset, time)
    found = queries.asset(store, connection, asset)
    if version is None or found is None:
        return None
    member = membership(store, connection, asset, account)
    today, tiers = local_date(time, version.program.time_zone), version.program.tiers
    stands = NOWHERE
    if tiers is not None:
        counts = _progress(store, connection, [(asset, account)]).get((asset, account, tiers.basis), {})
        stands = standing_at(tiers, counts, today if member is None else member.joined_on, today)
    return MemberNow(
        version=version, issuer=found.issuer, account=account, membership=member, standing=stands, today=today
    )


class MemberBenefit(Struct, frozen=True, kw_only=True):
    """A benefit of a program, and whether a member has it with a purchase."""

    benefit: str
    holds: bool


def benefits(program: Program, bought: Bought) -> list[MemberBenefit]:
    """All benefits of a program, each once, in its order, and which of them a member has with a purchase."""
    held = set(benefits_of(program, bought))
    names = dict.fromkeys(each.benefit for each in program.benefits)
    return [MemberBenefit(benefit=name, holds=name in held) for name in names]


WhyNot = Literal["unavailable", "limit_reached", "out_of_stock", "insufficient_points"]


class RewardOffer(Struct, frozen=True, kw_only=True):
    """A reward as a member can have it: what is ``left`` of its stock and of the member's limit, if they are bounded.

    ``number`` is how many the member can have now, with the points that it can use; ``why_not`` is the first reason in
    the order of :data:`WhyNot`, ``None`` when it is one at least.
    """

    reward: Reward
    left_in_stock: int | None
    left_of_limit: int | None
    number: int
    why_not: WhyNot | None


def reward_offers(store: Store, connection: Connection, member: MemberNow, time: str) -> list[RewardOffer]:
    """The rewards of the program in force, in its order, as a member can have them at a time."""
    asset, rewards = member.version.asset, member.version.program.rewards
    used = _used(store, connection, asset, member.account, rewards)
    found = queries.balances(store, connection, member.account, time, [asset])
    points = sum(balance.spendable for balance in found)
    return [_offer(member, reward, used, points) for reward in rewards]


_Used = dict[tuple[str, str, str], int]


def _used(store: Store, connection: Connection, asset: str, account: str, rewards: Sequence[Reward]) -> _Used:
    """How many of each reward were had, by an account and by all, by (scope, account, period)."""
    if not rewards:
        return {}
    table = USAGE.c
    scopes = [reward_scope(asset, reward.reward) for reward in rewards]
    query = sa.select(USAGE).where(
        table.ledger_id == store.ledger_id, table.scope.in_(scopes), table.account.in_([account, ALL_HOLDERS])
    )
    return {(row.scope, row.account, row.period): row.points for row in connection.execute(query)}


def _offer(member: MemberNow, reward: Reward, used: _Used, points: int) -> RewardOffer:
    scope = reward_scope(member.version.asset, reward.reward)
    in_stock = of_limit = None
    if reward.stock is not None:
        in_stock = max(reward.stock - used.get((scope, ALL_HOLDERS, "ever"), 0), 0)
    if reward.limit is not None:
        had = used.get((scope, member.account, period_of(reward.limit, member.today)), 0)
        of_limit = max(reward.limit.count - had, 0)
    bought = Bought(amount=0, merchant=member.issuer, earned_on=member.today, circumstances=member.circumstances)
    why_not: WhyNot | None = None
    if not when_holds(reward.when, bought):
        why_not = "unavailable"
    elif of_limit == 0:
        why_not = "limit_reached"
    elif in_stock == 0:
        why_not = "out_of_stock"
    elif points < reward.price:
        why_not = "insufficient_points"
    bounds = [each for each in (of_limit, in_stock) if each is not None]
    number = 0 if why_not is not None else min(points // reward.price, MAX_AT_A_TIME, *bounds)
    return RewardOffer(reward=reward, left_in_stock=in_stock, left_of_limit=of_limit, number=number, why_not=why_not)


# Why points were given

Event = tuple[int, str, Earning]
"""An event that gave points: the entry that recorded it, the asset, and the event."""

EventKey = tuple[str, str, str]
"""The merchant, scope and reference of an event: its place among those of an entry."""

GIVING_KINDS = frozenset({Grant.KIND, RecordPurchases.KIND, Vest.KIND})
"""Kinds whose entries give points for events."""


def event_key(event: Event) -> EventKey:
    """The key of an event in lists of an entry's."""
    earning = event[2]
    return earning.merchant, earning.scope, earning.reference


def events_page(
    store: Store, connection: Connection, seq: int, accounts: Sequence[str] | None, page: Page
) -> list[Event]:
    """A page of the events that an entry recorded, of some accounts or of all; the key is :data:`EventKey`."""
    table = EARNING.c
    query = sa.select(EARNING).where(table.ledger_id == store.ledger_id, _recorded_in(store, [seq]))
    if accounts is not None:
        query = query.where(table.account.in_(accounts))
    key = (table.merchant, table.scope, table.reference)
    found = [(row.seq, row.asset, earning_of(row)) for row in connection.execute(paged(query, key, page))]
    return found[::-1] if page.from_end else found


def _recorded_in(store: Store, seqs: Iterable[int]) -> Any:
    """That an event was recorded in one of these entries.

    Their keys are found by the index of entries first: SQLite would walk the primary key to get at whole rows.
    """
    table, own = EARNING.c, _EVENT.c
    keys = sa.select(own.merchant, own.scope, own.reference).where(
        own.ledger_id == store.ledger_id, own.seq.in_(list(seqs))
    )
    return sa.tuple_(table.merchant, table.scope, table.reference).in_(keys)


def events_behind(
    store: Store, connection: Connection, lines: Sequence[tuple[int, str]]
) -> dict[tuple[int, str], list[Event]]:
    """The events that gave an account points in an entry, for each (seq, account), in the order of their keys.

    They are those that the entry recorded, or, of a ``vest``, the purchases it names, which it issued the points of.
    """
    found: dict[tuple[int, str], list[Event]] = {line: [] for line in lines}
    table = EARNING.c
    recorded = _recorded_in(store, {seq for seq, _ in lines})
    of_accounts = table.account.in_({account for _, account in lines})
    for row in connection.execute(sa.select(EARNING).where(table.ledger_id == store.ledger_id, recorded, of_accounts)):
        if (row.seq, row.account) in found:
            found[row.seq, row.account].append((row.seq, row.asset, earning_of(row)))
    for seq, events in _vested_in(store, connection, {seq for seq, _ in lines}).items():
        for event in events:
            if (seq, event[2].account) in found:
                found[seq, event[2].account].append(event)
    return {line: sorted(events, key=event_key) for line, events in found.items()}


def _vested_in(store: Store, connection: Connection, seqs: Iterable[int]) -> dict[int, list[Event]]:
    """The purchases whose points these entries issued once they vested, by entry, with what inviters had for them."""
    query = sa.select(ENTRY.c.seq, ENTRY.c.data).where(
        ENTRY.c.ledger_id == store.ledger_id, ENTRY.c.seq.in_(list(seqs)), ENTRY.c.kind == Vest.KIND
    )
    found: dict[int, list[Event]] = {}
    for seq, data in connection.execute(query):
        op = decode_entry(bytes(data)).op
        assert isinstance(op, Vest)
        named: dict[str, list[str]] = {}
        for each in op.purchases:
            named.setdefault(each.merchant, []).append(each.order)
        found[seq] = [
            event for merchant, orders in named.items() for event in _of_orders(store, connection, merchant, orders)
        ]
    return found


def _of_orders(store: Store, connection: Connection, merchant: str, orders: Sequence[str]) -> list[Event]:
    """The purchases with these orders, and what was earned by inviting who made them."""
    table = EARNING.c
    query = sa.select(EARNING).where(
        table.ledger_id == store.ledger_id,
        table.merchant == merchant,
        table.scope.in_((ORDER_SCOPE, INVITATION_SCOPE)),
        table.reference.in_(list(orders)),
    )
    return [(row.seq, row.asset, earning_of(row)) for row in connection.execute(query)]


class ExplainedEvent(Struct, frozen=True, kw_only=True):
    """An event that gave points of an asset in entry ``seq``, and how they were reckoned where it is a purchase.

    ``currency`` is that of the program, in whose minor units amounts are. ``sentences`` say it in words.
    """

    seq: int
    asset: str
    earning: Earning
    currency: str
    calculation: Calculation | None
    sentences: tuple[str, ...]


def explain(
    store: Store, connection: Connection, events: Sequence[Event], scales: Mapping[str, int]
) -> list[ExplainedEvent]:
    """Why each of these events gave what it gave; ``scales`` are the decimal places of currencies."""
    codes = sorted({asset for _, asset, _ in events})
    assets = {found.code: found for found in store.assets(connection, codes)}
    versions = {(each.asset, each.version): each.program for each in store.programs(connection, codes)}
    return [
        explained_event(versions[event[1], event[2].version], event, scales, assets[event[1]].scale) for event in events
    ]


def explained_event(program: Program, event: Event, scales: Mapping[str, int], points_scale: int) -> ExplainedEvent:
    """Why an event under a version of a program gave what it gave."""
    seq, asset, earning = event
    scale = scales[program.currency]
    found = calculation_of(program, earning, 10**scale)
    words = _words(earning) if found is None else sentences(found, scale, points_scale)
    return ExplainedEvent(
        seq=seq, asset=asset, earning=earning, currency=program.currency, calculation=found, sentences=tuple(words)
    )


def vouchers_by_entry(
    store: Store, connection: Connection, account: str, asset: str, seqs: Sequence[int]
) -> dict[int, dict[str, int]]:
    """How many vouchers of each reward entries gave an account for its points of an asset, by entry."""
    found: dict[int, dict[str, int]] = {}
    for chunk in chunks_of(list(seqs)):
        query = (
            sa.select(VOUCHER.c.seq, VOUCHER.c.reward, sa.func.count())
            .where(VOUCHER.c.ledger_id == store.ledger_id, VOUCHER.c.seq.in_(chunk))
            .where(VOUCHER.c.account == account, VOUCHER.c.asset == asset)
            .group_by(VOUCHER.c.seq, VOUCHER.c.reward)
            .order_by(VOUCHER.c.seq, VOUCHER.c.reward)
        )
        for seq, reward, count in connection.execute(query):
            found.setdefault(seq, {})[reward] = count
    return found


def _words(earning: Earning) -> list[str]:
    if earning.scope == INVITATION_SCOPE:
        return ["A member that this one invited made its first purchase."]  # whose order is nobody else's business
    return [f"Granted for {earning.scope.removeprefix(_GRANT)}: {earning.reference}."]


def calculation_of(program: Program, earning: Earning, unit: int) -> Calculation | None:
    """How the points of a purchase were reckoned when it was recorded; ``None`` for an activity or an invitation."""
    if earning.scope != ORDER_SCOPE or earning.amount is None:
        return None
    bought = Bought(
        amount=earning.amount,
        merchant=earning.merchant,
        earned_on=earning.earned_on,
        circumstances=earning.circumstances or Circumstances(),
    )
    return calculate(program, bought, unit)
