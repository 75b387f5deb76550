"""A ledger as a journal of double-entry bookkeeping: what each entry moved, and what every account has at the end.

Entries come as a stream in their order, so that a million of them do not sit in memory; what is kept besides is what
accounts owe each other, to say which debts a netting took the place of. Points move as they were posted. Money is on
the books of both sides, as a receivable of the creditor and a payable of the debtor, as the claims say and not the
postings: so the balances at the end, which are read from the lots and from what is owed, check the one against the
other.

How a journal looks is left to the service.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.accounting import OpenClaims, Owed
from ledger.entries import NO_LAST_DAY
from ledger.settlement import (
    DisputeRecord,
    NettingRecord,
    claim_of,
    read_claim,
    read_disputes,
    read_nettings,
    scales,
)
from ledger.state import SYSTEM_ACCOUNTS
from ledger.store import Store, StoreError
from ledger.tables import ACCOUNT, CLAIM, ENTRY, LOT, OBLIGATION, POSTING
from ledger.terms import ROLE_PREFIXES

OTHERS = "sys_others"
"""In a merchant's journal, who moved what is not that merchant's to know: all others together."""

Side = Literal["receivable", "payable", ""]


class Unit(Struct, frozen=True, kw_only=True):
    """An asset, or a settlement currency (``is_money``): its code, name and decimal places."""

    code: str
    name: str
    scale: int
    is_money: bool


class JournalLeg(Struct, frozen=True, kw_only=True):
    """A leg as books have it: of money it says on which side, and to whom. ``lot`` is the last day of dated points."""

    account: str
    amount: int
    asset: str
    lot: str | None = None
    side: Side = ""
    counterparty: str | None = None


class JournalEntry(Struct, frozen=True, kw_only=True):
    """An entry that moves something; its legs sum to zero for each asset."""

    seq: int
    leaf_hash: bytes
    time: str
    kind: str
    legs: tuple[JournalLeg, ...]


class JournalAccount(Struct, frozen=True, kw_only=True):
    """An account of a journal. Members have no name."""

    account: str
    name: str | None
    holds_points: bool
    owes_money: bool


class JournalBalance(Struct, frozen=True, kw_only=True):
    """What an account has at the end, as tables other than the postings say: points, or money on one side or in all."""

    account: str
    asset: str
    amount: int
    side: Side = ""


class Journal(Struct, frozen=True, kw_only=True):
    """A journal, to be read in the order of its last three fields, which are streams of one snapshot."""

    origin: str
    size: int
    scope: str
    first_day: str
    last_day: str
    units: tuple[Unit, ...]
    accounts: Iterable[JournalAccount]
    entries: Iterable[JournalEntry]
    balances: Iterable[JournalBalance]


class JournalScope(Struct, frozen=True, kw_only=True):
    """What a journal is of: all there is, some assets and currencies (``codes``), or what concerns one merchant.

    Of the assets it issues a merchant's journal has all legs. Of others and of money it has the merchant's own; what
    stands against them is :data:`OTHERS`.
    """

    codes: frozenset[str] | None = None
    merchant: str | None = None


def journal(store: Store, connection: Connection, scope: JournalScope) -> Journal:
    """The journal of a ledger; raise :class:`StoreError` for an asset or merchant that is not there."""
    return _Reader(store, connection, scope).journal()


_STREAMED = {"stream_results": True, "yield_per": 2_000}
_PAID_BACK = frozenset({"settle", "resolve_dispute"})
"""Kinds whose postings of money take a debt away. All others that post money make claims."""

_CLEARING_ROLES = (f"{ROLE_PREFIXES['merchant']}_", f"{ROLE_PREFIXES['beneficiary']}_")
"""How accounts begin that can be netted: what members owe need not be followed."""


class _Reader:
    def __init__(self, store: Store, connection: Connection, scope: JournalScope) -> None:
        self._store = store
        self._connection = connection
        self._scope = scope
        self._scales = scales(store, connection)
        assets = queries.assets(store, connection)
        known = {*self._scales, *(asset.code for asset in assets)}
        if missing := sorted((scope.codes or frozenset()) - known):
            raise StoreError(f"there is no asset and no currency {missing[0]}")
        if scope.merchant is not None and not store.accounts(connection, [scope.merchant]):
            raise StoreError(f"there is no account {scope.merchant}")
        self._issued = tuple(asset.code for asset in assets if asset.issuer == scope.merchant)
        units = [Unit(code=code, name=code, scale=scale, is_money=True) for code, scale in self._scales.items()]
        units += [Unit(code=asset.code, name=asset.name, scale=asset.scale, is_money=False) for asset in assets]
        self._units = tuple(unit for unit in units if scope.codes is None or unit.code in scope.codes)

    def journal(self) -> Journal:
        head = self._store.head(self._connection)
        first = sa.select(ENTRY.c.time).where(ENTRY.c.ledger_id == self._store.ledger_id, ENTRY.c.seq == 0)
        return Journal(
            origin=self._store.origin,
            size=head.size,
            scope=self._described(),
            first_day=self._connection.execute(first).scalar_one()[:10],
            last_day=head.last_time[:10],
            units=self._units,
            accounts=self._accounts(),
            entries=self._entries(),
            balances=self._balances(),
        )

    def _described(self) -> str:
        codes, merchant = self._scope.codes, self._scope.merchant
        parts = [", ".join(sorted(codes))] if codes is not None else []
        parts += [f"what concerns {merchant}"] if merchant is not None else []
        return "; ".join(parts) or "everything"

    def _rows(self, query: Any) -> Any:
        return self._connection.execute(query, execution_options=_STREAMED)

    def _is_money(self, code: str) -> bool:
        return code in self._scales

    def _in_scope(self, table: Any, asset: Any, *accounts: Any) -> list[Any]:
        """Conditions of rows of an asset, or of a merchant's accounts."""
        found = [table.c.ledger_id == self._store.ledger_id]
        if self._scope.codes is not None:
            found.append(asset.in_(sorted(self._scope.codes)))
        if self._scope.merchant is not None:
            own = [account == self._scope.merchant for account in accounts]
            found.append(sa.or_(asset.in_(self._issued), *own))
        return found

    # Accounts and balances

    def _accounts(self) -> Iterator[JournalAccount]:
        is_money = POSTING.c.asset.in_(sorted(self._scales))
        money = sa.func.max(sa.case((is_money, 1), else_=0)).label("money")
        points = sa.func.max(sa.case((is_money, 0), else_=1)).label("points")
        used = (
            sa.select(POSTING.c.account, money, points)
            .where(*self._in_scope(POSTING, POSTING.c.asset, POSTING.c.account))
            .group_by(POSTING.c.account)
            .subquery()
        )
        named = sa.and_(
            ACCOUNT.c.ledger_id == self._store.ledger_id,
            ACCOUNT.c.account == used.c.account,
            ACCOUNT.c.role.in_(("merchant", "beneficiary")),
        )
        query = sa.select(used, ACCOUNT.c.name).outerjoin_from(used, ACCOUNT, named).order_by(used.c.account)
        for row in self._rows(query):
            yield JournalAccount(
                account=row.account, name=row.name, holds_points=bool(row.points), owes_money=bool(row.money)
            )
        if self._scope.merchant is not None:
            yield JournalAccount(account=OTHERS, name=None, holds_points=True, owes_money=True)

    def _balances(self) -> Iterator[JournalBalance]:
        """What the lots say, of every account that ever had a posting, then receivables and payables."""
        lots = sa.select(LOT.c.account, LOT.c.asset, LOT.c.points).where(
            *self._in_scope(LOT, LOT.c.asset, LOT.c.account)
        )
        used = sa.select(POSTING.c.account, POSTING.c.asset, _NOTHING).where(
            *self._in_scope(POSTING, POSTING.c.asset, POSTING.c.account)
        )
        for row in self._rows(_summed(lots, used.distinct())):
            yield JournalBalance(account=row.account, asset=row.asset, amount=int(row.amount))
        sides: tuple[tuple[Side, str, int], ...] = (("receivable", "creditor", 1), ("payable", "debtor", -1))
        for side, party, sign in sides:
            for row in self._rows(self._owed(party)):
                if self._scope.merchant in {None, row.account}:
                    yield JournalBalance(account=row.account, asset=row.asset, amount=sign * int(row.amount), side=side)

    def _owed(self, party: str) -> Any:
        """What each creditor is owed, or each debtor owes: what is due, and what is in dispute."""
        due, claims = OBLIGATION.c[party], CLAIM.c[party]
        owed = sa.select(due.label("account"), OBLIGATION.c.currency.label("asset"), OBLIGATION.c.amount).where(
            *self._in_scope(OBLIGATION, OBLIGATION.c.currency, due)
        )
        disputed = sa.case((CLAIM.c.status == "disputed", CLAIM.c.amount), else_=0)
        claimed = sa.select(claims, CLAIM.c.currency, disputed).where(*self._in_scope(CLAIM, CLAIM.c.currency, claims))
        return _summed(owed, claimed)

    # Entries

    def _entries(self) -> Iterator[JournalEntry]:
        moves = heapq.merge(
            self._postings(), self._claims(), self._nettings(), self._disputes(), key=lambda move: (move[0], move[1])
        )
        self._open: dict[str, OpenClaims] = {code: OpenClaims() for code in self._scales}
        for seq, group in groupby(moves, key=lambda move: move[0]):
            entry = self._entry(seq, [move[2] for move in group])
            if entry is not None and entry.legs:
                yield entry

    def _postings(self) -> Iterator[tuple[int, int, Any]]:
        query = (
            sa.select(
                POSTING.c.seq,
                POSTING.c.account,
                POSTING.c.asset,
                POSTING.c.lot,
                POSTING.c.amount,
                ENTRY.c.leaf_hash,
                ENTRY.c.time,
                ENTRY.c.kind,
            )
            .join(ENTRY, sa.and_(ENTRY.c.ledger_id == POSTING.c.ledger_id, ENTRY.c.seq == POSTING.c.seq))
            .where(POSTING.c.ledger_id == self._store.ledger_id)
            .order_by(POSTING.c.seq, POSTING.c.leg)
        )
        if self._scope.codes is not None:
            query = query.where(POSTING.c.asset.in_(sorted(self._scope.codes)))
        if self._scope.merchant is not None:
            own = POSTING.alias()
            its = sa.exists().where(
                own.c.ledger_id == POSTING.c.ledger_id,
                own.c.seq == POSTING.c.seq,
                own.c.asset == POSTING.c.asset,
                own.c.account == self._scope.merchant,
            )
            query = query.where(sa.or_(POSTING.c.asset.in_(self._issued), its))
        return ((row.seq, 0, row) for row in self._rows(query))

    def _claims(self) -> Iterator[tuple[int, int, Any]]:
        query = (
            sa.select(CLAIM)
            .where(*self._in_scope(CLAIM, CLAIM.c.currency, CLAIM.c.debtor, CLAIM.c.creditor))
            .order_by(CLAIM.c.seq, CLAIM.c.index)
        )
        return ((row.seq, 1, _Claimed(row.currency, claim_of(row))) for row in self._rows(query))

    def _nettings(self) -> Iterator[tuple[int, int, Any]]:
        wanted = [code for code in self._scales if self._scope.codes is None or code in self._scope.codes]
        return heapq.merge(*map(self._nettings_in, wanted), key=lambda move: move[0])

    def _nettings_in(self, code: str) -> Iterator[tuple[int, int, Any]]:
        for netting in read_nettings(self._store, self._connection, code, account=self._scope.merchant):
            yield netting.seq, 2, _Netted(code, netting)

    def _disputes(self) -> Iterator[tuple[int, int, Any]]:
        end = self._store.head(self._connection).size
        return ((step.seq, 3, step) for step in read_disputes(self._store, self._connection, end))

    def _entry(self, seq: int, moves: Sequence[Any]) -> JournalEntry | None:
        """What an entry moved, in the scope; what is owed is brought up to date with it."""
        rows = [move for move in moves if isinstance(move, sa.Row)]
        legs: list[JournalLeg] = [leg for row in rows if not self._is_money(row.asset) for leg in self._points(row)]
        legs += self._paid_back([row for row in rows if self._is_money(row.asset) and row.kind in _PAID_BACK])
        for move in moves:
            if isinstance(move, _Claimed):
                legs += self._claimed(move)
            elif isinstance(move, _Netted):
                legs += self._netted(move)
            elif isinstance(move, DisputeRecord):
                self._disputed(move)
        legs = list(self._seen(legs))
        if not legs:
            return None
        row = rows[0] if rows else self._entry_row(seq)
        return JournalEntry(seq=seq, leaf_hash=bytes(row.leaf_hash), time=row.time, kind=row.kind, legs=tuple(legs))

    def _entry_row(self, seq: int) -> Any:
        query = sa.select(ENTRY.c.leaf_hash, ENTRY.c.time, ENTRY.c.kind).where(
            ENTRY.c.ledger_id == self._store.ledger_id, ENTRY.c.seq == seq
        )
        return self._connection.execute(query).one()

    def _points(self, row: Any) -> Iterator[JournalLeg]:
        is_dated = row.lot != NO_LAST_DAY and row.account not in SYSTEM_ACCOUNTS
        yield JournalLeg(account=row.account, amount=row.amount, asset=row.asset, lot=row.lot if is_dated else None)

    def _paid_back(self, rows: Sequence[Any]) -> Iterator[JournalLeg]:
        """The creditor is owed so much less, by what was paid or by what was cancelled."""
        if not rows:
            return
        creditor, debtor = sorted(rows, key=lambda row: row.amount)
        owed = Owed(debtor.account, creditor.account, debtor.amount)
        yield from _both_sides(owed, creditor.asset, -1)
        if creditor.kind == "settle":
            self._open[creditor.asset].settle(owed.debtor, owed.creditor, owed.amount)

    def _claimed(self, claimed: "_Claimed") -> Iterator[JournalLeg]:
        claim = claimed.claim
        owed = Owed(claim.debtor, claim.creditor, claim.amount)
        yield from _both_sides(owed, claimed.currency, 1)
        if _can_be_netted(owed):
            self._open[claimed.currency].claim(owed.debtor, owed.creditor, claim.day, owed.amount)

    def _netted(self, netted: "_Netted") -> Iterator[JournalLeg]:
        netting, merchant = netted.netting, self._scope.merchant
        payments = [owed for owed in netting.payments if merchant in {None, owed.debtor, owed.creditor}]
        cleared = self._open[netted.currency].net(netting.seq, netting.merchants, netting.through, payments)
        for owed in cleared:
            yield from _both_sides(owed, netted.currency, -1)
        for owed in payments:
            yield from _both_sides(owed, netted.currency, 1)

    def _disputed(self, step: DisputeRecord) -> None:
        """A claim in dispute is not netted; one that stands is again."""
        currency, claim = read_claim(self._store, self._connection, step.claim)
        if step.outcome == "cancelled" or not _can_be_netted(Owed(claim.debtor, claim.creditor, claim.amount)):
            return
        if self._scope.merchant not in {None, claim.debtor, claim.creditor}:
            return
        if self._scope.codes is not None and currency not in self._scope.codes:
            return
        amount = claim.amount if step.outcome == "stands" else -claim.amount
        self._open[currency].claim(claim.debtor, claim.creditor, claim.day, amount)

    def _seen(self, legs: Iterable[JournalLeg]) -> Iterator[JournalLeg]:
        """The legs that the journal is to have; in a merchant's, all others' together."""
        merchant = self._scope.merchant
        others: Counter[str] = Counter()
        for leg in legs:
            if merchant is None or leg.account == merchant or leg.asset in self._issued:
                yield leg
            else:
                others[leg.asset] += leg.amount
        for asset, amount in others.items():
            if amount:
                yield JournalLeg(account=OTHERS, amount=amount, asset=asset)


class _Claimed(Struct, frozen=True):
    currency: str
    claim: Any


class _Netted(Struct, frozen=True):
    currency: str
    netting: NettingRecord


_NOTHING = sa.literal_column("0", sa.BigInteger())


def _summed(*parts: Any) -> Any:
    """The sums of (account, asset, amount) over several queries, in the order of accounts and assets."""
    rows = sa.union_all(*parts).subquery()
    account, asset, amount = rows.columns
    return (
        sa.select(account.label("account"), asset.label("asset"), sa.func.sum(amount).label("amount"))
        .group_by(account, asset)
        .order_by(account, asset)
    )


def _both_sides(owed: Owed, currency: str, sign: int) -> Iterator[JournalLeg]:
    """A debt in the books of the creditor and of the debtor."""
    amount = sign * owed.amount
    yield JournalLeg(account=owed.creditor, amount=amount, asset=currency, side="receivable", counterparty=owed.debtor)
    yield JournalLeg(account=owed.debtor, amount=-amount, asset=currency, side="payable", counterparty=owed.creditor)


def _can_be_netted(owed: Owed) -> bool:
    return owed.debtor.startswith(_CLEARING_ROLES) and owed.creditor.startswith(_CLEARING_ROLES)
