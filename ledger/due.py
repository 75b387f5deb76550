"""Due work: what time alone has made true, and no entry says yet.

Lots whose last day has passed are retired (``expire``), and what is left of holds that have lapsed goes back to its
holder (``release``). Points of purchases that have vested are issued (``vest``), and members whose tier has ended are
noted to be in another (``review_tiers``). Members are told what there is to tell (``remind``), and given what their
birthday brings (``grant``, which the issuer says alone). Lots, holds and tiers count by the time, so that nothing is
wrong while such work is late; points that have vested are there once it is done, in the lot they would have been in on
their day. It is done by signed operations like any other, and what is due is found in the tables each time anew:

- killed in between, whoever runs it next goes on where it was, for what was done is not due any more;
- two who run it at the same time disturb each other in nothing: what one has done is refused to the other, as
  ``NOTHING_DUE`` or ``HOLD_CLOSED``;
- however late it is, one run does all of it. Holds and vesting come before expiry, since points may be past their day.

A lot or a tier is due once its last day is over in the time zone of its asset's program, points of a purchase on the
day they vest there, a hold once the time is after its ``until``: by the time that the next entry would have at least.
The clock, who signs and who records are passed in.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.due_members import birthdays, members_to_remind
from ledger.encoding import format_time
from ledger.entries import decode_entry
from ledger.operations import Expire, Grant, Release, Remind, ReviewTiers, SignedOperation, Vest
from ledger.profiles import Profiles
from ledger.program_terms import Program
from ledger.programs import local_date, noon_of
from ledger.queries import Page, paged
from ledger.sequencer import Clock, Outcome, Recorded
from ledger.state import SYS_EXPIRED, SYS_HELD, SYS_ISSUED, Code, Rejection
from ledger.store import Store, StoreError
from ledger.tables import ASSET, HOLD, LOT, MEMBERSHIP, PENDING
from ledger.terms import MAX_EXPIRED_LOTS, MAX_REVIEWED
from ledger.wallet import Wallet

ASSETS_TOGETHER = 500
"""Assets that are looked at in one question: a bound on memory, whatever their number."""

HOLDS_TOGETHER = 100
"""Holds that are released by one submission."""

EXPIRIES_TOGETHER = 4
"""Expiries of up to 400 lots in one submission. They share a transaction, in which no other operation is recorded."""

VESTED_TOGETHER = 100
"""Purchases of which one operation issues the points. Where their entry would be too long it is made of fewer."""

MAX_KEPT_APART = 20
"""Purchases of an asset that are told, each by itself, from those they would keep from vesting in one run. Where the
supply cap has no room for any there are more, and whole batches are refused by one entry each."""

EXPIRED_STAGE = "Expiring lots"
RELEASED_STAGE = "Releasing holds"
VESTED_STAGE = "Issuing points that vest"
REVIEWED_STAGE = "Reviewing tiers"

GRANTS_TOGETHER = 100
"""Birthdays that are celebrated by one submission."""

ABOUT = ("balance", "expiry", "tier")
"""What members are reminded of, in this order."""

Submit = Callable[[Sequence[SignedOperation | Rejection]], Future[list[Outcome]]]
"""Hands in operations: :meth:`ledger.sequencer.Sequencer.submit`."""

Progress = Callable[[str, int, int], None]
"""Is told a stage, how much of it is done, and how much there is."""

_DONE_BY_OTHERS = frozenset(
    {Code.NOTHING_DUE, Code.NOT_YET_DUE, Code.HOLD_CLOSED, Code.REFERENCE_EXISTS, Code.LIMIT_REACHED}
)
"""Refusals that say there is nothing to do. A day can be over and then not: some zones have gone back past midnight."""

_OF_THE_SUM = frozenset({Code.TOO_LARGE, Code.POINTS_OVERFLOW, Code.SUPPLY_EXCEEDED})
"""Refusals of points that vest together, of which some may vest by themselves."""

_OF_ALL = frozenset(
    {
        Code.UNKNOWN_ACCOUNT,
        Code.SIGNATURE_MISSING,
        Code.SIGNATURE_UNEXPECTED,
        Code.SIGNATURE_INVALID,
        Code.ACCOUNT_FROZEN,
        Code.WRONG_LEDGER,
        Code.AT_IN_FUTURE,
        Code.OVERLOADED,
        Code.UNAVAILABLE,
    }
)
"""Refusals of whatever this signer or this process would submit now: to go on would be of no use."""

_OPEN = HOLD.c.status == sa.literal_column("'open'")
"""As a literal, a planner sees that this is the condition of the indexes of open holds."""

_HAS_TIER = MEMBERSHIP.c.tier.is_not(None)
"""The condition of the index of tiers: who is in none cannot lose it."""


class DueFilter(Struct, frozen=True, kw_only=True):
    """Which due work: of some assets, or of all; and what a ``merchant`` can do of it, or everything.

    A merchant retires lots of the assets that it issues, lets their points vest and reviews their tiers. Lapsed holds
    may be released by anybody; it sees to those of its assets and those for it.
    """

    merchant: str | None = None
    assets: tuple[str, ...] | None = None


class DueOfAsset(Struct, frozen=True, kw_only=True):
    """What is due of an asset: lots whose last day is ``through`` or earlier, and holds that have lapsed.

    ``first_day`` is the earliest last day among the lots, ``lapsed_since`` the earliest ``until`` among the holds.
    ``vesting`` purchases have points to be issued, since the day ``vests_since``; the tier of so many ``members`` has
    ended, since after ``tiers_until``.
    """

    asset: str
    through: str
    lots: int = 0
    points: int = 0
    first_day: str | None = None
    holds: int = 0
    held_points: int = 0
    lapsed_since: str | None = None
    vesting: int = 0
    vesting_points: int = 0
    vests_since: str | None = None
    members: int = 0
    tiers_until: str | None = None


class LapsedHold(Struct, frozen=True):
    """A hold that has ended by itself. The order of the fields is that in which they are released."""

    until: str
    hold: str
    asset: str


class DoneOfAsset(Struct, frozen=True, kw_only=True):
    """What a run did of an asset: lots retired with their points, holds released with theirs.

    Points of ``vesting`` purchases were issued, of ``members`` the tiers were noted anew, and so many were ``reminded``
    or had points for their ``birthdays``.
    """

    asset: str
    lots: int = 0
    points: int = 0
    holds: int = 0
    held_points: int = 0
    vesting: int = 0
    vesting_points: int = 0
    members: int = 0
    reminded: int = 0
    birthdays: int = 0


class DueReport(Struct, frozen=True, kw_only=True):
    """What a run did, by asset. ``time`` is that by which it was due.

    ``refused`` counts what was refused though it was due, and ``trouble`` says the first reason for which something was
    not done. A run that was stopped, or in trouble that concerns everything, is not ``finished``.
    """

    time: str
    assets: tuple[DoneOfAsset, ...]
    finished: bool
    refused: int
    trouble: str | None

    @property
    def is_complete(self) -> bool:
        """Whether all that was due is done, by this run or by others meanwhile."""
        return self.finished and self.trouble is None


# Finding it


def due_time(store: Store, connection: Connection, clock: Clock) -> str:
    """The time that the next entry would have at least: by it something is due."""
    return max(format_time(clock()), store.head(connection).last_time)


def due_filter(store: Store, connection: Connection, account: str, assets: Sequence[str] = ()) -> DueFilter:
    """The due work that an account can do, maybe of some assets; raise :class:`StoreError` when it can do none."""
    found = {each.code: each for each in store.assets(connection, assets)}
    if missing := [code for code in assets if code not in found]:
        raise StoreError(f"there is no asset {missing[0]}")
    role = next((each.role for each in store.accounts(connection, [account])), None)
    if role not in {"merchant", "operator"}:
        raise StoreError(f"{account} is no account of the operator or a merchant: these do due work")
    return DueFilter(merchant=account if role == "merchant" else None, assets=tuple(assets) or None)


def due_assets(store: Store, connection: Connection, wanted: DueFilter, time: str, page: Page) -> list[DueOfAsset]:
    """A page of the assets of which something is due at a time, by code, which is the key.

    Assets are looked at some hundred at a time, by a handful of statements each.
    """
    found: list[DueOfAsset] = []
    rest = structs.replace(page, limit=ASSETS_TOGETHER)
    while len(found) < page.limit:
        issuers = _assets(store, connection, wanted, time, rest)
        found += _due_among(store, connection, wanted, time, issuers)
        if len(issuers) < ASSETS_TOGETHER:
            break
        last = list(issuers)[-1]
        rest = structs.replace(rest, before=last) if page.from_end else structs.replace(rest, after=last)
    found = found[: page.limit]
    return found[::-1] if page.from_end else found


def _assets(store: Store, connection: Connection, wanted: DueFilter, time: str, page: Page) -> dict[str, str]:
    """The next assets of which something may be due, with their issuers, in the order in which they are read."""
    query = sa.select(ASSET.c.asset, ASSET.c.issuer).where(ASSET.c.ledger_id == store.ledger_id)
    if wanted.assets is not None:
        query = query.where(ASSET.c.asset.in_(wanted.assets))
    if wanted.merchant is not None:
        held = sa.select(HOLD.c.asset).where(HOLD.c.merchant == wanted.merchant, *_lapsed(store, time)).distinct()
        query = query.where(sa.or_(ASSET.c.issuer == wanted.merchant, ASSET.c.asset.in_(held)))
    rows = connection.execute(paged(query, (ASSET.c.asset,), page))
    return {row.asset: row.issuer for row in rows}


def _lapsed(store: Store, time: str) -> list[Any]:
    return [HOLD.c.ledger_id == store.ledger_id, _OPEN, HOLD.c.until < time]


def _due_among(
    store: Store, connection: Connection, wanted: DueFilter, time: str, issuers: dict[str, str]
) -> Iterator[DueOfAsset]:
    """What is due of these assets, in their order, without those of which nothing is."""
    zones = queries.time_zones(store, connection, list(issuers))
    through = {code: _day_before(local_date(time, zones.get(code, "UTC"))) for code in issuers}
    own = [code for code, issuer in issuers.items() if wanted.merchant in {None, issuer}]
    mine = {code: through[code] for code in own}
    due = (
        _due_lots(store, connection, mine),
        _held(store, connection, wanted, time, issuers),
        _due_vesting(store, connection, mine),
        _due_reviews(store, connection, mine),
    )
    for code in issuers:
        found = {name: value for each in due for name, value in each.get(code, {}).items()}
        if found:
            yield DueOfAsset(asset=code, through=through[code], **found)


def _day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()


def _day_after(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _by_asset(
    store: Store, connection: Connection, through: dict[str, str], day: sa.Column[str], *only: Any, points: Any = 0
) -> Iterator[tuple[str, int, int, str]]:
    """Rows whose ``day`` is through that of each asset: how many, the sum of ``points``, and the first day of them.

    One question is asked for each day that is the last somewhere, which are three at most.
    """
    table = day.table.c
    for last in set(through.values()):
        query = (
            sa.select(table.asset, sa.func.count(), sa.func.sum(points), sa.func.min(day))
            .where(table.ledger_id == store.ledger_id, day <= last, *only)
            .where(table.asset.in_([code for code, its in through.items() if its == last]))
            .group_by(table.asset)
        )
        for code, count, amount, first in connection.execute(query):
            yield code, count, int(amount), first


def _due_lots(store: Store, connection: Connection, through: dict[str, str]) -> dict[str, dict[str, Any]]:
    found = _by_asset(store, connection, through, LOT.c.last_day, points=LOT.c.points)
    return {code: {"lots": lots, "points": points, "first_day": first} for code, lots, points, first in found}


def _due_vesting(store: Store, connection: Connection, through: dict[str, str]) -> dict[str, dict[str, Any]]:
    today = {code: _day_after(day) for code, day in through.items()}
    promised = PENDING.c.points + PENDING.c.inviter_points
    return {
        code: {"vesting": purchases, "vesting_points": points, "vests_since": first}
        for code, purchases, points, first in _by_asset(store, connection, today, PENDING.c.vests_on, points=promised)
    }


def _due_reviews(store: Store, connection: Connection, through: dict[str, str]) -> dict[str, dict[str, Any]]:
    found = _by_asset(store, connection, through, MEMBERSHIP.c.tier_until, _HAS_TIER)
    return {code: {"members": members, "tiers_until": first} for code, members, _, first in found}


def _held(
    store: Store, connection: Connection, wanted: DueFilter, time: str, issuers: dict[str, str]
) -> dict[str, dict[str, Any]]:
    """Lapsed holds of each asset."""
    # What is left of an open hold is what was not captured of it.
    points = sa.func.sum(HOLD.c.amount - HOLD.c.captured)
    query = (
        sa.select(HOLD.c.asset, sa.func.count(), points, sa.func.min(HOLD.c.until))
        .where(*_lapsed(store, time), HOLD.c.asset.in_(list(issuers)))
        .group_by(HOLD.c.asset)
    )
    if wanted.merchant is not None:
        own = [code for code, issuer in issuers.items() if issuer == wanted.merchant]
        query = query.where(sa.or_(HOLD.c.asset.in_(own), HOLD.c.merchant == wanted.merchant))
    return {
        code: {"holds": holds, "held_points": int(left), "lapsed_since": since}
        for code, holds, left, since in connection.execute(query)
    }


def lapsed_holds(
    store: Store,
    connection: Connection,
    wanted: DueFilter,
    time: str,
    *,
    after: LapsedHold | None,
    limit: int,
) -> list[LapsedHold]:
    """The next holds that have lapsed at a time, by when they did."""
    table = HOLD.c
    query = sa.select(table.until, table.hold, table.asset).where(*_lapsed(store, time))
    if wanted.assets is not None:
        query = query.where(table.asset.in_(wanted.assets))
    if wanted.merchant is not None:
        issued = sa.select(ASSET.c.asset).where(ASSET.c.ledger_id == store.ledger_id, ASSET.c.issuer == wanted.merchant)
        query = query.where(sa.or_(table.asset.in_(issued), table.merchant == wanted.merchant))
    key = None if after is None else (after.until, after.hold)
    query = paged(query, (table.until, table.hold), Page(limit=limit, after=key))
    return [LapsedHold(*row) for row in connection.execute(query)]


def vesting_purchases(
    store: Store, connection: Connection, asset: str, through: str, *, after: tuple[str, str, str] | None, limit: int
) -> list[tuple[str, str, str]]:
    """The next purchases of an asset whose points vest through a day: (that day, merchant, order), in this order."""
    table = PENDING.c
    query = sa.select(table.vests_on, table.merchant, table.order).where(
        table.ledger_id == store.ledger_id, table.asset == asset, table.vests_on <= through
    )
    query = paged(query, (table.vests_on, table.merchant, table.order), Page(limit=limit, after=after))
    return [(day, merchant, order) for day, merchant, order in connection.execute(query)]


def members_to_review(
    store: Store, connection: Connection, asset: str, through: str, *, after: tuple[str, str] | None, limit: int
) -> list[tuple[str, str]]:
    """The next members of a program whose tier lasted through a day or less: (its last day, account), in this order."""
    table = MEMBERSHIP.c
    query = sa.select(table.tier_until, table.account).where(
        table.ledger_id == store.ledger_id, table.asset == asset, table.tier_until <= through, _HAS_TIER
    )
    query = paged(query, (table.tier_until, table.account), Page(limit=limit, after=after))
    return [(until, account) for until, account in connection.execute(query)]


# Doing it


class _StopError(Exception):
    """There is no use in going on; the message says why, nothing where somebody wanted it so."""


class DueRun:
    """One run over all that is due. What it has done is in :meth:`report`, also when it could not go on.

    ``wallet`` signs, for an account that may do all that is ``wanted`` (:func:`due_filter`). Before each submission
    ``goes_on`` is asked.
    """

    def __init__(
        self,
        store: Store,
        submit: Submit,
        wallet: Wallet,
        clock: Clock,
        wanted: DueFilter,
        *,
        progress: Progress | None = None,
        goes_on: Callable[[], bool] = lambda: True,
        profiles: Profiles | None = None,
    ) -> None:
        self._store = store
        self._submit = submit
        self._wallet = wallet
        self._wanted = wanted
        self._progress = progress
        self._goes_on = goes_on
        self._profiles = profiles
        self._clock = clock
        self._time = ""
        self._done: dict[str, DoneOfAsset] = {}
        self._finished = False
        self._refused = 0
        self._kept_apart = 0
        self._trouble: str | None = None

    def run(self) -> DueReport:
        """Do all that is due now. What cannot be done is in the report, a database that fails included."""
        try:
            with self._store.read() as connection:
                self._time = due_time(self._store, connection, self._clock)
            self._release()
            self._vest()
            self._expire()
            self._review()
            for asset, program in self._programs():
                self._congratulate(asset, program)
                for about in ABOUT:
                    self._remind(asset, program, about)
            self._finished = True
        except (_StopError, StoreError) as error:
            self._trouble = self._trouble or str(error) or None
        return self.report()

    def report(self) -> DueReport:
        """What was done so far."""
        done = tuple(self._done[code] for code in sorted(self._done))
        return DueReport(
            time=self._time, assets=done, finished=self._finished, refused=self._refused, trouble=self._trouble
        )

    def _pages(self) -> Iterator[DueOfAsset]:
        """All assets of which something is due, each page read when it is wanted."""
        after = None
        while True:
            with self._store.read() as connection:
                page = Page(limit=ASSETS_TOGETHER, after=after)
                found = due_assets(self._store, connection, self._wanted, self._time, page)
            yield from found
            if len(found) < ASSETS_TOGETHER:
                return
            after = found[-1].asset

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None and total:
            self._progress(stage, min(done, total), total)

    def _record(self, operations: Sequence[SignedOperation]) -> list[Outcome]:
        if not self._goes_on():
            raise _StopError
        return self._submit(operations).result()

    def _release(self) -> None:
        total = sum(due.holds for due in self._pages()) if self._progress is not None else 0
        self._tell(RELEASED_STAGE, 0, total)
        seen, after = 0, None
        while True:
            with self._store.read() as connection:
                holds = lapsed_holds(
                    self._store, connection, self._wanted, self._time, after=after, limit=HOLDS_TOGETHER
                )
            if not holds:
                return
            outcomes = self._record([self._wallet.sign(Release, hold=each.hold) for each in holds])
            self._note_all(zip((each.hold for each in holds), (each.asset for each in holds), outcomes, strict=True))
            seen, after = seen + len(holds), holds[-1]
            self._tell(RELEASED_STAGE, seen, total)

    def _vest(self) -> None:
        total = sum(due.vesting for due in self._pages()) if self._progress is not None else 0
        self._tell(VESTED_STAGE, 0, total)
        seen = 0
        for due in self._pages():
            after: tuple[str, str, str] | None = None
            self._kept_apart = 0
            while due.vesting:
                with self._store.read() as connection:
                    found = vesting_purchases(
                        self._store,
                        connection,
                        due.asset,
                        _day_after(due.through),
                        after=after,
                        limit=VESTED_TOGETHER,
                    )
                if not found:
                    break
                self._vest_some(due.asset, [{"merchant": merchant, "order": order} for _, merchant, order in found])
                seen, after = seen + len(found), found[-1]
                self._tell(VESTED_STAGE, seen, total)

    def _vest_some(self, asset: str, purchases: Sequence[dict[str, str]]) -> None:
        """Issue points of purchases, in as many entries as they need: some vest into many legs, some are too many."""
        (outcome,) = self._record([self._wallet.sign(Vest, asset=asset, purchases=list(purchases))])
        if isinstance(outcome, Rejection) and outcome.code in _OF_THE_SUM:
            if len(purchases) > 1 and (outcome.code is Code.TOO_LARGE or self._kept_apart < MAX_KEPT_APART):
                half = len(purchases) // 2
                self._vest_some(asset, purchases[:half])
                self._vest_some(asset, purchases[half:])
                return
            self._kept_apart += 1
        self._note_all(iter([(asset, asset, outcome)]))

    def _review(self) -> None:
        total = sum(due.members for due in self._pages()) if self._progress is not None else 0
        self._tell(REVIEWED_STAGE, 0, total)
        seen = 0
        for due in self._pages():
            after: tuple[str, str] | None = None
            while due.members:
                with self._store.read() as connection:
                    found = members_to_review(
                        self._store, connection, due.asset, due.through, after=after, limit=MAX_REVIEWED
                    )
                if not found:
                    break
                members = [account for _, account in found]
                outcomes = self._record([self._wallet.sign(ReviewTiers, asset=due.asset, members=members)])
                self._note_all((due.asset, due.asset, outcome) for outcome in outcomes)
                seen, after = seen + len(found), found[-1]
                self._tell(REVIEWED_STAGE, seen, total)

    def _programs(self) -> list[tuple[str, Program]]:
        """The programs in force that say something of reminders or birthdays, of the assets this run is for."""
        with self._store.read() as connection:
            found = queries.programs_in_force(
                self._store, connection, self._time, self._wanted.merchant, self._wanted.assets
            )
        return [(code, each) for code, each in found if each.reminders is not None or each.birthday is not None]

    def _congratulate(self, asset: str, program: Program) -> None:
        birthday, profiles = program.birthday, self._profiles
        if birthday is None or profiles is None or self._wanted.merchant is None:
            return  # who was born when is for those who can read profiles, and only an issuer gives points
        today, after = local_date(self._time, program.time_zone), None
        while True:
            with self._store.read() as connection:
                found = birthdays(
                    self._store, connection, profiles, asset, birthday, today=today, after=after, limit=GRANTS_TOGETHER
                )
            if not found:
                return
            fields: dict[str, Any] = {"asset": asset, "activity": birthday.activity, "amount": birthday.points}
            outcomes = self._record(
                [
                    self._wallet.sign(
                        Grant,
                        member=account,
                        reference=f"{day[:4]}/{account}",  # good once of the activity
                        at=min(noon_of(day, program.time_zone), self._time),
                        **fields,
                    )
                    for day, account in found
                ]
            )
            self._note_all((asset, asset, outcome) for outcome in outcomes)
            after = found[-1]

    def _remind(self, asset: str, program: Program, about: str) -> None:
        today, after = local_date(self._time, program.time_zone), None
        while True:
            with self._store.read() as connection:
                found = members_to_remind(
                    self._store, connection, asset, program, about=about, today=today, after=after, limit=MAX_REVIEWED
                )
            if not found:
                return
            outcomes = self._record([self._wallet.sign(Remind, asset=asset, about=about, members=found)])
            self._note_all((asset, asset, outcome) for outcome in outcomes)
            after = found[-1]

    def _expire(self) -> None:
        total = sum(due.lots for due in self._pages()) if self._progress is not None else 0
        self._tell(EXPIRED_STAGE, 0, total)
        seen = 0
        for due in self._pages():
            left = due.lots
            while left > 0:
                count = min(-(-left // MAX_EXPIRED_LOTS), EXPIRIES_TOGETHER)
                fields: dict[str, Any] = {"asset": due.asset, "limit": MAX_EXPIRED_LOTS, "through": due.through}
                outcomes = self._record([self._wallet.sign(Expire, **fields) for _ in range(count)])
                lots = self._note_all((due.asset, due.asset, outcome) for outcome in outcomes)
                # Refused, or fewer than could be: no more are there, whoever has retired the others.
                left = left - lots if lots == count * MAX_EXPIRED_LOTS else 0
                seen += lots
                self._tell(EXPIRED_STAGE, seen, total)

    def _note_all(self, outcomes: "Iterator[tuple[str, str, Outcome]]") -> int:
        """Note what became of operations, each about something of an asset; how many lots were retired."""
        lots, stop = 0, None
        for subject, asset, outcome in outcomes:
            if isinstance(outcome, Recorded):
                lots += self._note(asset, outcome)
            elif isinstance(outcome, Exception):
                stop = stop or f"{subject}: {type(outcome).__name__}"
            elif outcome.code not in _DONE_BY_OTHERS:
                words = f"{outcome.code}: {outcome.message}"
                if outcome.code in _OF_ALL:
                    stop = stop or words
                else:
                    self._refused += 1
                    self._trouble = self._trouble or f"{subject}: {words}"
        if stop is not None:
            raise _StopError(stop)
        return lots

    def _note(self, asset: str, recorded: Recorded) -> int:
        entry = decode_entry(recorded.data)
        done = self._done.get(asset) or DoneOfAsset(asset=asset)
        if isinstance(entry.op, ReviewTiers):
            self._done[asset] = structs.replace(done, members=done.members + len(entry.op.members))
            return 0
        if isinstance(entry.op, Remind):
            self._done[asset] = structs.replace(done, reminded=done.reminded + len(entry.op.members))
            return 0
        if isinstance(entry.op, Grant):
            self._done[asset] = structs.replace(done, birthdays=done.birthdays + 1)
            return 0
        if isinstance(entry.op, Vest):
            issued = -sum(leg.amount for leg in entry.postings if (leg.account, leg.asset) == (SYS_ISSUED, asset))
            vesting, points = done.vesting + len(entry.op.purchases), done.vesting_points + issued
            self._done[asset] = structs.replace(done, vesting=vesting, vesting_points=points)
            return 0
        expired = sum(leg.amount for leg in entry.postings if leg.account == SYS_EXPIRED)
        lots = len(entry.postings) - 1 if expired else 0
        released = -sum(leg.amount for leg in entry.postings if leg.account == SYS_HELD)
        self._done[asset] = structs.replace(
            done,
            lots=done.lots + lots,
            points=done.points + expired,
            holds=done.holds + bool(released),
            held_points=done.held_points + released,
        )
        return lots
