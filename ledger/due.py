"""Due work: what time alone has made true, and no entry says yet.

Lots whose last day has passed are retired (``expire``), and what is left of holds that have lapsed goes back to its
holder (``release``). Neither changes what anybody can spend: the rules count by the time, so nothing is wrong while due
work is late. It is done by signed operations like any other, and what is due is found in the tables each time anew:

- killed in between, whoever runs it next goes on where it was, for what was done is not due any more;
- two who run it at the same time disturb each other in nothing: what one has done is refused to the other, as
  ``NOTHING_DUE`` or ``HOLD_CLOSED``;
- however late it is, one run does all of it. Holds come first, since the points that return may be past their day.

A lot is due once its last day is over in the time zone of its asset's program, a hold once the time is after its
``until``: by the time that the next entry would have at least. The clock, who signs and who records are passed in.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.encoding import format_time
from ledger.entries import decode_entry
from ledger.operations import Expire, Release, SignedOperation
from ledger.programs import local_date
from ledger.queries import Page, paged
from ledger.sequencer import Clock, Outcome, Recorded
from ledger.state import SYS_EXPIRED, SYS_HELD, Code, Rejection
from ledger.store import Store, StoreError
from ledger.tables import ASSET, HOLD, LOT
from ledger.terms import MAX_EXPIRED_LOTS
from ledger.wallet import Wallet

ASSETS_TOGETHER = 500
"""Assets that are looked at in one question: a bound on memory, whatever their number."""

HOLDS_TOGETHER = 100
"""Holds that are released by one submission."""

EXPIRIES_TOGETHER = 4
"""Expiries of up to 400 lots in one submission. They share a transaction, in which no other operation is recorded."""

EXPIRED_STAGE = "Expiring lots"
RELEASED_STAGE = "Releasing holds"

Submit = Callable[[Sequence[SignedOperation | Rejection]], Future[list[Outcome]]]
"""Hands in operations: :meth:`ledger.sequencer.Sequencer.submit`."""

Progress = Callable[[str, int, int], None]
"""Is told a stage, how much of it is done, and how much there is."""

_DONE_BY_OTHERS = frozenset({Code.NOTHING_DUE, Code.NOT_YET_DUE, Code.HOLD_CLOSED})
"""Refusals that say there is nothing to do. A day can be over and then not: some zones have gone back past midnight."""

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


class DueFilter(Struct, frozen=True, kw_only=True):
    """Which due work: of some assets, or of all; and what a ``merchant`` can do of it, or everything.

    A merchant retires lots of the assets that it issues. Lapsed holds may be released by anybody; it sees to those of
    its assets and those for it.
    """

    merchant: str | None = None
    assets: tuple[str, ...] | None = None


class DueOfAsset(Struct, frozen=True, kw_only=True):
    """What is due of an asset: lots whose last day is ``through`` or earlier, and holds that have lapsed.

    ``first_day`` is the earliest last day among the lots, ``lapsed_since`` the earliest ``until`` among the holds.
    """

    asset: str
    through: str
    lots: int = 0
    points: int = 0
    first_day: str | None = None
    holds: int = 0
    held_points: int = 0
    lapsed_since: str | None = None


class LapsedHold(Struct, frozen=True):
    """A hold that has ended by itself. The order of the fields is that in which they are released."""

    until: str
    hold: str
    asset: str


class DoneOfAsset(Struct, frozen=True, kw_only=True):
    """What a run did of an asset: lots retired with their points, holds released with theirs."""

    asset: str
    lots: int = 0
    points: int = 0
    holds: int = 0
    held_points: int = 0


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
    lots = _due_lots(store, connection, {code: through[code] for code in own})
    holds = _held(store, connection, wanted, time, issuers)
    for code in issuers:
        if code in lots or code in holds:
            yield DueOfAsset(asset=code, through=through[code], **lots.get(code, {}), **holds.get(code, {}))


def _day_before(day: str) -> str:
    return (date.fromisoformat(day) - timedelta(days=1)).isoformat()


def _due_lots(store: Store, connection: Connection, through: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Lots due through a day of each asset: one question for each day that is yesterday somewhere, three at most."""
    found = {}
    for day in set(through.values()):
        query = (
            sa.select(LOT.c.asset, sa.func.count(), sa.func.sum(LOT.c.points), sa.func.min(LOT.c.last_day))
            .where(LOT.c.ledger_id == store.ledger_id, LOT.c.last_day <= day)
            .where(LOT.c.asset.in_([code for code, its in through.items() if its == day]))
            .group_by(LOT.c.asset)
        )
        for code, lots, points, first in connection.execute(query):
            found[code] = {"lots": lots, "points": int(points), "first_day": first}
    return found


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
    ) -> None:
        self._store = store
        self._submit = submit
        self._wallet = wallet
        self._wanted = wanted
        self._progress = progress
        self._goes_on = goes_on
        self._clock = clock
        self._time = ""
        self._done: dict[str, DoneOfAsset] = {}
        self._finished = False
        self._refused = 0
        self._trouble: str | None = None

    def run(self) -> DueReport:
        """Do all that is due now. What cannot be done is in the report, a database that fails included."""
        try:
            with self._store.read() as connection:
                self._time = due_time(self._store, connection, self._clock)
            self._release()
            self._expire()
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
        postings = decode_entry(recorded.data).postings
        done = self._done.get(asset) or DoneOfAsset(asset=asset)
        expired = sum(leg.amount for leg in postings if leg.account == SYS_EXPIRED)
        lots = len(postings) - 1 if expired else 0
        released = -sum(leg.amount for leg in postings if leg.account == SYS_HELD)
        self._done[asset] = structs.replace(
            done,
            lots=done.lots + lots,
            points=done.points + expired,
            holds=done.holds + bool(released),
            held_points=done.held_points + released,
        )
        return lots
