"""Reading the ledger: set-based SQL for what people ask, each a bounded number of statements.

Lists are keyset pages: the caller gives the key after which, or before which, to go on, and a limit; a page costs the
same wherever in the chain it lies. What a reader may see is data here (:class:`Sight`), applied inside the queries, so
that a page is full of what its reader may see. Who gets which sight is not decided here, nor how answers look.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.entries import NO_LAST_DAY
from ledger.programs import ProgramVersion, local_date
from ledger.rules import SYS_EXPIRED, SYS_ISSUED, SYS_SPENT, SYSTEM_ACCOUNTS, Account, Asset, spendable
from ledger.store import (
    ACCOUNT,
    ASSET,
    EARNING,
    ENTRY,
    HEAD,
    LOT,
    POSTING,
    PROGRAM,
    Store,
    account_of,
    asset_of,
    program_of,
)


class Sight(Struct, frozen=True, kw_only=True):
    """What a reader may see: everything, or what touches its account or one of its assets."""

    everything: bool = False
    account: str = ""
    assets: tuple[str, ...] = ()


ALL = Sight(everything=True)
"""The sight of auditors and the operator."""


class StoredEntry(Struct, frozen=True, kw_only=True):
    """An entry as stored: its bytes, which are the truth, and what it is found by."""

    seq: int
    leaf_hash: bytes
    op_id: bytes
    data: bytes


class EntryKey(Struct, frozen=True, kw_only=True):
    """One of the ways to name an entry: exactly one is given."""

    seq: int | None = None
    leaf_hash: bytes | None = None
    op_id: bytes | None = None


class Page(Struct, frozen=True, kw_only=True):
    """Which part of a list: at most ``limit`` rows after (or, from the end, before) a key, in ascending order."""

    limit: int
    after: Any = None
    before: Any = None
    from_end: bool = False


class EntryFilter(Struct, frozen=True, kw_only=True):
    """Which entries: those that touch an account, touch an asset, are of a kind; all that are given must hold."""

    account: str | None = None
    asset: str | None = None
    kind: str | None = None


class Lot(Struct, frozen=True, kw_only=True):
    """Points of one last day; ``None`` when they never expire. ``is_spendable`` as of the time asked about."""

    last_day: str | None
    points: int
    is_spendable: bool


class Balance(Struct, frozen=True, kw_only=True):
    """Points of an account in one asset: all of them, those usable now, and by lot, the earliest last day first."""

    asset: str
    total: int
    spendable: int
    lots: tuple[Lot, ...]


class Supply(Struct, frozen=True, kw_only=True):
    """Points of an asset ever issued, spent and expired; the rest circulates."""

    issued: int
    spent: int
    expired: int

    @property
    def circulating(self) -> int:
        """Points in holders' accounts."""
        return self.issued - self.spent - self.expired


class StatementLine(Struct, frozen=True, kw_only=True):
    """A posting of the account of a statement, and the balance after it. ``at`` is when it happened."""

    seq: int
    leg: int
    time: str
    at: str
    kind: str
    amount: int
    lot: str | None
    balance: int


class Statement(Struct, frozen=True, kw_only=True):
    """An account's points of one asset over a span of recording time, one page of its lines."""

    opening: int
    closing: int
    lines: list[StatementLine]


class MonthPoints(Struct, frozen=True, kw_only=True):
    """What a member earned in a month ``YYYY-MM``; ``amount`` sums the purchases, in minor units."""

    account: str
    month: str
    points: int
    purchases: int
    amount: int


class MonthTotal(Struct, frozen=True, kw_only=True):
    """What all members earned in a month, or over all months (``month`` is then empty)."""

    month: str
    points: int
    purchases: int
    members: int
    amount: int


def origins(connection: Connection, limit: int) -> list[str]:
    """Origins of the first ledgers in a database, the oldest first."""
    return list(connection.execute(sa.select(HEAD.c.origin).order_by(HEAD.c.ledger_id).limit(limit)).scalars())


_ENTRY_COLUMNS = (ENTRY.c.seq, ENTRY.c.leaf_hash, ENTRY.c.op_id, ENTRY.c.data)


def entry_by(store: Store, connection: Connection, key: EntryKey) -> StoredEntry | None:
    """The entry that a key names, if there is one."""
    conditions = ((ENTRY.c.seq, key.seq), (ENTRY.c.leaf_hash, key.leaf_hash), (ENTRY.c.op_id, key.op_id))
    (condition,) = (column == value for column, value in conditions if value is not None)
    query = sa.select(*_ENTRY_COLUMNS).where(ENTRY.c.ledger_id == store.ledger_id, condition)
    row = connection.execute(query).one_or_none()
    return _stored_entry(row) if row is not None else None


def entries(store: Store, connection: Connection, wanted: EntryFilter, sight: Sight, page: Page) -> list[StoredEntry]:
    """A page of the entries a reader may see, in ascending order; keys are sequence numbers."""
    found = [_stored_entry(row) for row in connection.execute(entries_query(store, wanted, sight, page))]
    return found[::-1] if page.from_end else found


def entries_query(store: Store, wanted: EntryFilter, sight: Sight, page: Page) -> sa.Select[Any]:
    """The statement behind :func:`entries`, in the direction the page is read."""
    query = sa.select(*_ENTRY_COLUMNS).where(ENTRY.c.ledger_id == store.ledger_id)
    sources = _Matching(store.ledger_id, wanted, sight).sources()
    if sources is not None:
        # Each source is cut to a page before they are united: the cost is the page's, not the account's.
        parts = [sa.select(_paged(source, (column,), page).subquery().c.seq) for source, column in sources]
        query = query.where(ENTRY.c.seq.in_(sa.select(sa.union(*parts).subquery().c.seq)))
    elif wanted.kind is not None:
        query = query.where(ENTRY.c.kind == wanted.kind)
    paged: sa.Select[Any] = _paged(query, (ENTRY.c.seq,), page)
    return paged


def _stored_entry(row: Any) -> StoredEntry:
    return StoredEntry(seq=row.seq, leaf_hash=bytes(row.leaf_hash), op_id=bytes(row.op_id), data=bytes(row.data))


def _paged(query: Any, columns: Sequence[Any], page: Page) -> Any:
    """The part of a query that a page asks for; the columns are the list's key."""
    if page.after is not None:
        query = query.where(_beyond(columns, page.after, descending=False))
    if page.before is not None:
        query = query.where(_beyond(columns, page.before, descending=True))
    order = [column.desc() if page.from_end else column for column in columns]
    return query.order_by(*order).limit(page.limit)


def _beyond(columns: Sequence[Any], key: Any, *, descending: bool) -> Any:
    values = key if isinstance(key, tuple) else (key,)
    left = sa.tuple_(*columns) if len(columns) > 1 else columns[0]
    right = sa.tuple_(*values) if len(columns) > 1 else values[0]
    return left < right if descending else left > right


class _Matching:
    """Turns a filter and a sight into sources of sequence numbers, each an index range in the order of ``seq``."""

    def __init__(self, ledger_id: int, wanted: EntryFilter, sight: Sight) -> None:
        self.ledger_id = ledger_id
        self.wanted = wanted
        self.sight = sight

    def sources(self) -> list[tuple[Any, Any]] | None:
        """Queries with their ``seq`` columns, whose union is what matches; ``None`` when everything does."""
        wanted, sight = self.wanted, self.sight
        if wanted.account is not None:
            found = self._touching_account(wanted.account, wanted.asset)
            seen = sight.everything or wanted.account == sight.account
        elif wanted.asset is not None:
            found = self._touching_assets((wanted.asset,))
            seen = sight.everything or wanted.asset in sight.assets
        elif sight.everything:
            return None
        else:
            found = self._touching_account(sight.account, None)
            if sight.assets:
                found += self._touching_assets(sight.assets)
            seen = True
        return [(self._narrowed(query, column, seen=seen), column) for query, column in found]

    def _narrowed(self, query: Any, column: Any, *, seen: bool) -> Any:
        if self.wanted.kind is not None:
            entry = ENTRY.alias()
            query = query.where(
                sa.exists().where(
                    entry.c.ledger_id == self.ledger_id, entry.c.seq == column, entry.c.kind == self.wanted.kind
                )
            )
        if not seen:
            query = query.where(sa.or_(self._seen_by_posting(column), self._acted(self.sight.account, column)))
        return query

    def _seen_by_posting(self, column: Any) -> Any:
        posting = POSTING.alias()
        mine = sa.or_(posting.c.account == self.sight.account, posting.c.asset.in_(self.sight.assets))
        return sa.exists().where(posting.c.ledger_id == self.ledger_id, posting.c.seq == column, mine)

    def _acted(self, account: str, column: Any) -> Any:
        entry = ENTRY.alias()
        return sa.exists().where(entry.c.ledger_id == self.ledger_id, entry.c.seq == column, entry.c.actor == account)

    def _touching_account(self, account: str, asset: str | None) -> list[tuple[Any, Any]]:
        """Entries with a posting of the account, by it as actor, or opening it."""
        posting, entry = POSTING.alias(), ENTRY.alias()
        legs = sa.select(posting.c.seq).where(posting.c.ledger_id == self.ledger_id, posting.c.account == account)
        acts = sa.select(entry.c.seq).where(entry.c.ledger_id == self.ledger_id, entry.c.actor == account)
        if asset is not None:
            other = POSTING.alias()
            acts = acts.where(
                sa.exists().where(
                    other.c.ledger_id == self.ledger_id, other.c.seq == entry.c.seq, other.c.asset == asset
                )
            )
            return [(legs.where(posting.c.asset == asset).distinct(), posting.c.seq), (acts, entry.c.seq)]
        opened = sa.select(ACCOUNT.c.seq).where(ACCOUNT.c.ledger_id == self.ledger_id, ACCOUNT.c.account == account)
        return [(legs.distinct(), posting.c.seq), (acts, entry.c.seq), (opened, ACCOUNT.c.seq)]

    def _touching_assets(self, assets: Sequence[str]) -> list[tuple[Any, Any]]:
        """Entries with a posting in one of the assets, defining it or publishing its program."""
        found: list[tuple[Any, Any]] = []
        for asset in assets:
            posting = POSTING.alias()
            legs = sa.select(posting.c.seq).where(posting.c.ledger_id == self.ledger_id, posting.c.asset == asset)
            found.append((legs.distinct(), posting.c.seq))
        for table in (ASSET.alias(), PROGRAM.alias()):
            found.append(
                (
                    sa.select(table.c.seq).where(table.c.ledger_id == self.ledger_id, table.c.asset.in_(assets)),
                    table.c.seq,
                )
            )
        return found


def account(store: Store, connection: Connection, account_id: str) -> Account | None:
    """The account with an id, if there is one."""
    return next(iter(store.accounts(connection, [account_id])), None)


def holds_any(store: Store, connection: Connection, account_id: str, assets: Sequence[str]) -> bool:
    """Whether an account ever held one of the assets."""
    query = sa.select(POSTING.c.seq).where(
        POSTING.c.ledger_id == store.ledger_id, POSTING.c.account == account_id, POSTING.c.asset.in_(assets)
    )
    return connection.execute(query.limit(1)).first() is not None


def accounts(store: Store, connection: Connection, sight: Sight, role: str | None, page: Page) -> list[Account]:
    """A page of the accounts a reader may see, in the order they were opened; keys are sequence numbers."""
    query = sa.select(ACCOUNT).where(ACCOUNT.c.ledger_id == store.ledger_id)
    if role is not None:
        query = query.where(ACCOUNT.c.role == role)
    if not sight.everything:
        holds = sa.exists().where(
            POSTING.c.ledger_id == store.ledger_id,
            POSTING.c.account == ACCOUNT.c.account,
            POSTING.c.asset.in_(sight.assets),
        )
        query = query.where(sa.or_(ACCOUNT.c.account == sight.account, ACCOUNT.c.custodian == sight.account, holds))
    found = [account_of(row) for row in connection.execute(_paged(query, (ACCOUNT.c.seq,), page))]
    return found[::-1] if page.from_end else found


def assets(store: Store, connection: Connection, *, issuer: str | None = None) -> list[Asset]:
    """All assets, or those of one issuer, by code."""
    query = sa.select(ASSET).where(ASSET.c.ledger_id == store.ledger_id).order_by(ASSET.c.asset)
    if issuer is not None:
        query = query.where(ASSET.c.issuer == issuer)
    return [asset_of(row) for row in connection.execute(query)]


def assets_page(store: Store, connection: Connection, page: Page) -> list[Asset]:
    """A page of the assets by code, which is the key."""
    query = sa.select(ASSET).where(ASSET.c.ledger_id == store.ledger_id)
    found = [asset_of(row) for row in connection.execute(_paged(query, (ASSET.c.asset,), page))]
    return found[::-1] if page.from_end else found


def asset(store: Store, connection: Connection, code: str) -> Asset | None:
    """The asset with a code, if there is one."""
    return next(iter(store.assets(connection, [code])), None)


def supply(store: Store, connection: Connection, code: str) -> Supply:
    """An asset's supply, read from the system accounts that took the other legs."""
    query = (
        sa.select(LOT.c.account, sa.func.sum(LOT.c.points))
        .where(LOT.c.ledger_id == store.ledger_id, LOT.c.account.in_(SYSTEM_ACCOUNTS), LOT.c.asset == code)
        .group_by(LOT.c.account)
    )
    sums = {name: int(points) for name, points in connection.execute(query)}
    return Supply(issued=-sums.get(SYS_ISSUED, 0), spent=sums.get(SYS_SPENT, 0), expired=sums.get(SYS_EXPIRED, 0))


def program(store: Store, connection: Connection, code: str, version: int) -> ProgramVersion | None:
    """One version of an asset's program, if there is one."""
    query = sa.select(PROGRAM).where(
        PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.asset == code, PROGRAM.c.version == version
    )
    row = connection.execute(query).one_or_none()
    return program_of(row) if row is not None else None


def programs_page(store: Store, connection: Connection, code: str, page: Page) -> list[ProgramVersion]:
    """A page of the versions of an asset's program; keys are version numbers."""
    query = sa.select(PROGRAM).where(PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.asset == code)
    found = [program_of(row) for row in connection.execute(_paged(query, (PROGRAM.c.version,), page))]
    return found[::-1] if page.from_end else found


def program_at(store: Store, connection: Connection, code: str, time: str) -> ProgramVersion | None:
    """The version of an asset's program in force at a time: the last published of those that have started."""
    query = (
        sa.select(PROGRAM)
        .where(PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.asset == code, PROGRAM.c.starts <= time)
        .order_by(PROGRAM.c.version.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    found = program_of(row) if row is not None else None
    return found if found is not None and (found.ends is None or time < found.ends) else None


def balances(
    store: Store, connection: Connection, account_id: str, time: str, codes: Sequence[str] | None = None
) -> list[Balance]:
    """Balances of an account at a time, by asset; only of some assets when ``codes`` is given."""
    query = (
        sa.select(LOT.c.asset, LOT.c.last_day, LOT.c.points)
        .where(LOT.c.ledger_id == store.ledger_id, LOT.c.account == account_id)
        .order_by(LOT.c.asset, LOT.c.last_day)
    )
    if codes is not None:
        query = query.where(LOT.c.asset.in_(codes))
    lots: dict[str, dict[str, int]] = {}
    for code, day, points in connection.execute(query):
        lots.setdefault(code, {})[day] = points
    zones = _time_zones(store, connection, list(lots))
    return [_balance(code, days, local_date(time, zones.get(code, "UTC"))) for code, days in lots.items()]


def _balance(code: str, days: dict[str, int], today: str) -> Balance:
    return Balance(
        asset=code,
        total=sum(days.values()),
        spendable=spendable(days, today),
        lots=tuple(
            Lot(last_day=None if day == NO_LAST_DAY else day, points=points, is_spendable=day >= today)
            for day, points in days.items()
        ),
    )


def _time_zones(store: Store, connection: Connection, codes: Sequence[str]) -> dict[str, str]:
    """Time zone of the newest program of each asset, in which its last days are understood."""
    if not codes:
        return {}
    query = (
        sa.select(PROGRAM.c.asset, PROGRAM.c.document)
        .where(PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.asset.in_(codes))
        .order_by(PROGRAM.c.asset, PROGRAM.c.version)
    )
    return {code: json.loads(document)["time_zone"] for code, document in connection.execute(query)}


def first_seq_at(store: Store, connection: Connection, time: str) -> int:
    """Sequence number of the first entry recorded at a time or later; the ledger's size when there is none.

    Times never decrease, so the entry is found by bisection over the primary key.
    """
    low, high = 0, store.head(connection).size
    query = sa.select(ENTRY.c.time).where(
        ENTRY.c.ledger_id == store.ledger_id, ENTRY.c.seq == sa.bindparam("middle", type_=sa.BigInteger())
    )
    while low < high:
        middle = (low + high) // 2
        if connection.execute(query, {"middle": middle}).scalar_one() < time:
            low = middle + 1
        else:
            high = middle
    return low


class _EffectiveTime(Struct):
    at: str


class _WithEffectiveTime(Struct):
    op: _EffectiveTime


_effective_time = msgspec.json.Decoder(_WithEffectiveTime)


class StatementKey(Struct, frozen=True, kw_only=True):
    """Which statement: an account, an asset, and recording times ``start <= time < end``; ``None`` for no bound."""

    account: str
    asset: str
    start: str | None = None
    end: str | None = None


def statement(store: Store, connection: Connection, wanted: StatementKey, page: Page) -> Statement:
    """An account's statement; keys of its lines are (seq, leg)."""
    first = 0 if wanted.start is None else first_seq_at(store, connection, wanted.start)
    end = store.head(connection).size if wanted.end is None else first_seq_at(store, connection, wanted.end)
    mine = sa.and_(
        POSTING.c.ledger_id == store.ledger_id, POSTING.c.account == wanted.account, POSTING.c.asset == wanted.asset
    )

    def total(*conditions: Any) -> int:
        return int(connection.execute(sa.select(sa.func.sum(POSTING.c.amount)).where(mine, *conditions)).scalar() or 0)

    opening = total(POSTING.c.seq < first)
    closing = opening + total(POSTING.c.seq >= first, POSTING.c.seq < end)
    query = (
        sa.select(
            POSTING.c.seq, POSTING.c.leg, POSTING.c.amount, POSTING.c.lot, ENTRY.c.time, ENTRY.c.kind, ENTRY.c.data
        )
        .join(ENTRY, sa.and_(ENTRY.c.ledger_id == POSTING.c.ledger_id, ENTRY.c.seq == POSTING.c.seq))
        .where(mine, POSTING.c.seq >= first, POSTING.c.seq < end)
    )
    key = (POSTING.c.seq, POSTING.c.leg)
    rows = list(connection.execute(_paged(query, key, page)))
    rows = rows[::-1] if page.from_end else rows
    if not rows:
        return Statement(opening=opening, closing=closing, lines=[])
    start = (rows[0].seq, rows[0].leg)
    running = opening + total(POSTING.c.seq >= first, _beyond(key, start, descending=True))
    return Statement(opening=opening, closing=closing, lines=_lines(rows, running))


def _lines(rows: Sequence[Any], running: int) -> list[StatementLine]:
    lines = []
    for row in rows:
        running += row.amount
        lines.append(
            StatementLine(
                seq=row.seq,
                leg=row.leg,
                time=row.time,
                at=_effective_time.decode(bytes(row.data)).op.at,
                kind=row.kind,
                amount=row.amount,
                lot=None if row.lot == NO_LAST_DAY else row.lot,
                balance=running,
            )
        )
    return lines


_MONTH = sa.func.substr(EARNING.c.earned_on, 1, 7)


def points_by_month(
    store: Store, connection: Connection, code: str, account_id: str | None, page: Page
) -> list[MonthPoints]:
    """A page of what each member earned of an asset in each month, by (account, month), which is the key."""
    month = _MONTH.label("month")
    query = (
        sa.select(EARNING.c.account, month, *_EARNED)
        .where(EARNING.c.ledger_id == store.ledger_id, EARNING.c.asset == code)
        .group_by(EARNING.c.account, month)
    )
    if account_id is not None:
        query = query.where(EARNING.c.account == account_id)
    rows = connection.execute(_paged(_from_account(query, page), (EARNING.c.account, _MONTH), page))
    found = [
        MonthPoints(
            account=row.account,
            month=row.month,
            points=int(row.points),
            purchases=row.purchases,
            amount=int(row.amount or 0),
        )
        for row in rows
    ]
    return found[::-1] if page.from_end else found


def _from_account(query: Any, page: Page) -> Any:
    """Start at the index where the page does: a comparison of pairs with an expression in them uses no index."""
    if page.after is not None:
        query = query.where(EARNING.c.account >= page.after[0])
    if page.before is not None:
        query = query.where(EARNING.c.account <= page.before[0])
    return query


_EARNED = (
    sa.func.sum(EARNING.c.points).label("points"),
    sa.func.count(EARNING.c.amount).label("purchases"),
    sa.func.sum(EARNING.c.amount).label("amount"),
)


def points_totals(store: Store, connection: Connection, code: str) -> tuple[MonthTotal, list[MonthTotal]]:
    """What all members earned of an asset: in total, and by month."""
    members = sa.func.count(EARNING.c.account.distinct()).label("members")
    mine = sa.and_(EARNING.c.ledger_id == store.ledger_id, EARNING.c.asset == code)
    month = _MONTH.label("month")
    by_month = sa.select(month, *_EARNED, members).where(mine).group_by(month).order_by(month)
    months = [_month_total(row.month, row) for row in connection.execute(by_month)]
    total = connection.execute(sa.select(*_EARNED, members).where(mine)).one()
    return _month_total("", total), months


def _month_total(month: str, row: Any) -> MonthTotal:
    return MonthTotal(
        month=month,
        points=int(row.points or 0),
        purchases=row.purchases,
        members=row.members,
        amount=int(row.amount or 0),
    )
