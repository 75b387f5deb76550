"""Settlement: what an account is owed and owes in a currency, read from the ledger as a statement.

A claim is a debt between two accounts; a settlement says that one was paid; a netting puts payments in the place of
what merchants owe each other; a claim in dispute is neither netted nor settled until the dispute is over. The ledger
posts claims, settlements and cancelled claims. A netting posts nothing, since it leaves every position as it is: which
debts it took the place of follows from the record, by :class:`ledger.accounting.OpenClaims`.

Days are those of UTC, of the time an entry was recorded at. So a statement of days that are over never changes.
"""

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.accounting import OpenClaims, Owed, day_start
from ledger.books import Span, exact_sum, exactly, moved
from ledger.bulk import chunks_of
from ledger.entries import decode_entry
from ledger.operations import Genesis
from ledger.queries import Page, first_seq_at
from ledger.store import Store
from ledger.tables import CLAIM, ENTRY, LOT, NETTING, POSTING

PAGE_ENTRIES = 500
"""Entries of which the lines are read at a time."""

MAX_LINES = 50_000
"""Lines of a statement that is given as one document."""


class TooManyLinesError(ValueError):
    """A statement that is too long for one document."""


LineKind = Literal[
    "claim", "settlement", "cancelled_claim", "netted", "netting_payment", "disputed_claim", "dispute_ended"
]
LINE_KINDS: tuple[LineKind, ...] = get_args(LineKind)


class SettlementLine(Struct, frozen=True, kw_only=True):
    """A line of a settlement statement, the ``part``-th of entry ``seq``.

    ``debit`` is in favour of the account, ``credit`` in favour of the counterparty; ``balance`` is after the line.
    ``claim`` names a claim by its entry and index, ``netted_by`` the netting that covers it. ``reference`` is what the
    operation says, such as the bill behind a claim, the payment of a settlement, or why a claim is disputed. A
    ``netted`` line takes a debt away, a ``netting_payment`` is what takes its place: those of one netting sum to zero.
    Lines of disputes move nothing: ``amount`` says what is in dispute.
    """

    day: str
    seq: int
    part: int
    what: LineKind
    operation: str
    counterparty: str | None
    counterparty_name: str | None
    claim: tuple[int, int] | None = None
    agreement: str | None = None
    reference: str | None = None
    amount: int
    debit: int
    credit: int
    balance: int
    netted_by: int | None = None
    status: str | None = None


class Turnover(Struct, frozen=True, kw_only=True):
    """Sums of a statement's lines of one kind."""

    what: LineKind
    lines: int
    debit: int
    credit: int


class SettlementStatement(Struct, frozen=True, kw_only=True):
    """What an account is owed and owes in a currency, over UTC days ``start`` to ``through``, both included.

    Balances are in minor units, ``scale`` decimal places; above 0 they are owed to the account. ``disputed`` is the
    part of the closing balance that is in dispute at the end. It says what the first ``size`` entries say, of which the
    last has the ``leaf_hash``: once its days are over, a statement is the same for ever.
    """

    origin: str
    size: int
    leaf_hash: str
    account: str
    name: str | None
    currency: str
    scale: int
    start: str
    through: str
    opening: int
    closing: int
    disputed: int
    turnovers: tuple[Turnover, ...]
    lines: Sequence[SettlementLine]


class SettlementKey(Struct, frozen=True, kw_only=True):
    """Which statement: of an account, in a currency, over UTC days, both included."""

    account: str
    currency: str
    start: date
    through: date


class ClaimRecord(Struct, frozen=True, kw_only=True):
    """A claim as it was made."""

    seq: int
    index: int
    debtor: str
    creditor: str
    amount: int
    day: str
    agreement: str | None


class NettingRecord(Struct, frozen=True, kw_only=True):
    """A netting, and the payments it put in the place of debts."""

    seq: int
    through: str
    merchants: frozenset[str]
    payments: tuple[Owed, ...]

    def covers(self, claim: ClaimRecord) -> bool:
        """Whether a claim is one of those it is about, unless it is in dispute."""
        parties = {claim.debtor, claim.creditor}
        return claim.seq < self.seq and claim.day <= self.through and parties <= self.merchants


class DisputeRecord(Struct, frozen=True, kw_only=True):
    """A step of a dispute: ``outcome`` is ``None`` for its beginning, else ``cancelled`` or ``stands``."""

    seq: int
    claim: tuple[int, int]
    reason: str | None
    outcome: str | None


class _ClaimName(Struct):
    seq: int
    index: int


class _ClearingOp(Struct):
    """What operations that make and clear claims say, each some of it."""

    reference: str | None = None
    claim: _ClaimName | None = None
    reason: str | None = None
    outcome: str | None = None
    payment: str | None = None
    payments: tuple[Owed, ...] = ()


class _ClearingEntry(Struct):
    op: _ClearingOp


_clearing = msgspec.json.Decoder(_ClearingEntry)

DISPUTE_KINDS = ("dispute", "resolve_dispute")
_CLAIM_COLUMNS = (
    CLAIM.c.seq,
    CLAIM.c.index,
    CLAIM.c.debtor,
    CLAIM.c.creditor,
    CLAIM.c.amount,
    CLAIM.c.day,
    CLAIM.c.agreement,
)


def claim_of(row: Any) -> ClaimRecord:
    """A claim from its row."""
    return ClaimRecord(
        seq=row.seq,
        index=row.index,
        debtor=row.debtor,
        creditor=row.creditor,
        amount=row.amount,
        day=row.day,
        agreement=row.agreement,
    )


def read_nettings(
    store: Store, connection: Connection, currency: str, *, account: str | None = None, end: int | None = None
) -> Iterator[NettingRecord]:
    """Nettings in a currency in order, before an entry; those that an account took part in."""
    query = (
        sa.select(NETTING.c.seq, NETTING.c.through, NETTING.c.merchants, ENTRY.c.data)
        .join(ENTRY, sa.and_(ENTRY.c.ledger_id == NETTING.c.ledger_id, ENTRY.c.seq == NETTING.c.seq))
        .where(NETTING.c.ledger_id == store.ledger_id, NETTING.c.currency == currency)
        .order_by(NETTING.c.seq)
    )
    if account is not None:
        query = query.where(NETTING.c.merchants.contains(account, autoescape=True))
    if end is not None:
        query = query.where(NETTING.c.seq < end)
    for row in connection.execute(query):
        yield NettingRecord(
            seq=row.seq,
            through=row.through,
            merchants=frozenset(json.loads(row.merchants)),
            payments=_clearing.decode(bytes(row.data)).op.payments,
        )


def read_disputes(store: Store, connection: Connection, end: int) -> Iterator[DisputeRecord]:
    """Steps of all disputes before an entry, in order."""
    found = [_steps(store, connection, kind, end) for kind in DISPUTE_KINDS]
    return heapq.merge(*found, key=lambda step: step.seq)


def _steps(store: Store, connection: Connection, kind: str, end: int) -> Iterator[DisputeRecord]:
    """Asked for two kinds at once, a planner walks all entries to have them in order."""
    query = (
        sa.select(ENTRY.c.seq, ENTRY.c.data)
        .where(ENTRY.c.ledger_id == store.ledger_id, ENTRY.c.kind == kind, ENTRY.c.seq < end)
        .order_by(ENTRY.c.seq)
    )
    for row in connection.execute(query):
        op = _clearing.decode(bytes(row.data)).op
        assert op.claim is not None
        claim = (op.claim.seq, op.claim.index)
        yield DisputeRecord(seq=row.seq, claim=claim, reason=op.reason, outcome=op.outcome)


def read_claim(store: Store, connection: Connection, name: tuple[int, int]) -> tuple[str, ClaimRecord]:
    """The claim with a name, its entry and index, and its currency."""
    seq, index = name
    query = sa.select(CLAIM).where(CLAIM.c.ledger_id == store.ledger_id, CLAIM.c.seq == seq, CLAIM.c.index == index)
    row = connection.execute(query).one()
    return row.currency, claim_of(row)


class Clearing:
    """One account's clearing in one currency, in one snapshot: statements and their pages."""

    def __init__(self, store: Store, connection: Connection, key: SettlementKey) -> None:
        self._store = store
        self._connection = connection
        self._key = key
        self._size = store.head(connection).size
        self.first = first_seq_at(store, connection, day_start(key.start, "UTC"))
        self.end = first_seq_at(store, connection, day_start(key.through + timedelta(days=1), "UTC"))

    # What the record says, before the end of the span

    @cached_property
    def _nettings(self) -> dict[int, NettingRecord]:
        found = read_nettings(
            self._store, self._connection, self._key.currency, account=self._key.account, end=self.end
        )
        return {netting.seq: netting for netting in found}

    @cached_property
    def _disputes(self) -> dict[int, DisputeRecord]:
        """Steps of disputes about the account's claims in the currency."""
        return {step.seq: step for step in self._steps if step.claim in self._disputed_claims}

    @cached_property
    def _steps(self) -> list[DisputeRecord]:
        return list(read_disputes(self._store, self._connection, self.end))

    @cached_property
    def _disputed_claims(self) -> dict[tuple[int, int], ClaimRecord]:
        names = {step.claim for step in self._steps}
        found: dict[tuple[int, int], ClaimRecord] = {}
        for chunk in chunks_of(sorted({seq for seq, _ in names}), PAGE_ENTRIES):
            for claim in self._claims(CLAIM.c.seq.in_(chunk)):
                if (claim.seq, claim.index) in names:
                    found[claim.seq, claim.index] = claim
        return found

    def _claims(self, *conditions: Any) -> list[ClaimRecord]:
        """Claims for and against the account in the currency, by entry and index."""
        parts = [
            sa.select(*_CLAIM_COLUMNS).where(
                CLAIM.c.ledger_id == self._store.ledger_id,
                CLAIM.c.currency == self._key.currency,
                party == self._key.account,
                *conditions,
            )
            for party in (CLAIM.c.creditor, CLAIM.c.debtor)
        ]
        found = [claim_of(row) for row in self._connection.execute(sa.union_all(*parts))]
        return sorted(found, key=lambda claim: (claim.seq, claim.index))

    @cached_property
    def _cleared(self) -> dict[int, list[Owed]]:
        """What each netting of the span took the place of, of what the account owed and was owed."""
        if not any(seq >= self.first for seq in self._nettings):
            return {}
        claims = OpenClaims()
        cleared: dict[int, list[Owed]] = {}
        account = self._key.account
        for seq, event in sorted(self._events(), key=lambda pair: pair[0]):
            if isinstance(event, NettingRecord):
                payments = [owed for owed in event.payments if account in {owed.debtor, owed.creditor}]
                cleared[seq] = claims.net(seq, event.merchants, event.through, payments)
            elif isinstance(event, DisputeRecord):
                claim = self._disputed_claims[event.claim]
                if event.outcome != "cancelled":
                    amount = claim.amount if event.outcome == "stands" else -claim.amount
                    claims.claim(claim.debtor, claim.creditor, claim.day, amount)
            elif isinstance(event, ClaimRecord):
                claims.claim(event.debtor, event.creditor, event.day, event.amount)
            else:
                claims.settle(event.debtor, event.creditor, event.amount)
        return cleared

    def _events(self) -> Iterator[tuple[int, Any]]:
        """All that changed what the account owed and was owed: claims, settlements, nettings, disputes.

        Claims of a day on which nothing else happened are taken together: times never decrease, so all of them come
        before whatever else came later.
        """
        yield from self._nettings.items()
        yield from self._disputes.items()
        settled = list(self._paid("settle"))
        yield from settled
        seqs = [*self._nettings, *self._disputes, *(seq for seq, _ in settled)]
        days = sorted({day for chunk in chunks_of(sorted(seqs), PAGE_ENTRIES) for day in self._days(chunk)})
        yield from self._claims_by_day(days)
        for chunk in chunks_of(days, PAGE_ENTRIES):
            for claim in self._claims(CLAIM.c.seq < self.end, CLAIM.c.day.in_(chunk)):
                yield claim.seq, claim

    def _days(self, seqs: Sequence[int]) -> set[str]:
        query = sa.select(sa.func.substr(ENTRY.c.time, 1, 10)).where(
            ENTRY.c.ledger_id == self._store.ledger_id, ENTRY.c.seq.in_(seqs)
        )
        return set(self._connection.execute(query).scalars())

    def _claims_by_day(self, without: Sequence[str]) -> Iterator[tuple[int, ClaimRecord]]:
        for mine, other in ((CLAIM.c.creditor, CLAIM.c.debtor), (CLAIM.c.debtor, CLAIM.c.creditor)):
            query = (
                sa.select(other.label("other"), CLAIM.c.day, sa.func.min(CLAIM.c.seq).label("seq"))
                .add_columns(*exact_sum(CLAIM.c.amount))
                .where(
                    CLAIM.c.ledger_id == self._store.ledger_id,
                    CLAIM.c.currency == self._key.currency,
                    mine == self._key.account,
                    CLAIM.c.seq < self.end,
                )
                .group_by(other, CLAIM.c.day)
            )
            for row in self._connection.execute(query):
                if row.day in without:
                    continue
                pair = {other.name: row.other, mine.name: self._key.account}
                yield (
                    row.seq,
                    ClaimRecord(seq=row.seq, index=0, amount=exactly(row), day=row.day, agreement=None, **pair),
                )

    def _paid(self, kind: str, first: int = 0) -> Iterator[tuple[int, Owed]]:
        """What entries of a kind post back, from an entry on: what the debtor owed the creditor is so much less.

        Few entries are of these kinds, and many postings the account's: they are found by their kind first.
        """
        of_kind = sa.select(ENTRY.c.seq).where(
            ENTRY.c.ledger_id == self._store.ledger_id,
            ENTRY.c.kind == kind,
            ENTRY.c.seq >= first,
            ENTRY.c.seq < self.end,
        )
        for chunk in chunks_of(sorted(self._connection.execute(of_kind).scalars()), PAGE_ENTRIES):
            yield from self._paid_in(chunk)

    def _paid_in(self, seqs: Sequence[int]) -> Iterator[tuple[int, Owed]]:
        """What each of some entries, which post money back, posts back of the account's."""
        query = (
            sa.select(POSTING.c.seq, POSTING.c.amount, POSTING.c.account)
            .where(
                POSTING.c.ledger_id == self._store.ledger_id,
                POSTING.c.seq.in_(seqs),
                POSTING.c.asset == self._key.currency,
            )
            .order_by(POSTING.c.seq, POSTING.c.amount)
        )
        for seq, legs in groupby(self._connection.execute(query), key=lambda row: row.seq):
            creditor, debtor = legs
            if self._key.account in {creditor.account, debtor.account}:
                yield seq, Owed(debtor.account, creditor.account, debtor.amount)

    def _mine(self) -> tuple[Any, ...]:
        return (
            POSTING.c.ledger_id == self._store.ledger_id,
            POSTING.c.account == self._key.account,
            POSTING.c.asset == self._key.currency,
        )

    # Balances

    @cached_property
    def closing(self) -> int:
        """What the account is owed less what it owes after the span."""
        lots = sa.select(sa.func.sum(LOT.c.points)).where(
            LOT.c.ledger_id == self._store.ledger_id,
            LOT.c.account == self._key.account,
            LOT.c.asset == self._key.currency,
        )
        return int(self._connection.execute(lots).scalar() or 0) - self._moved(self.end, self._size)

    @cached_property
    def opening(self) -> int:
        """What the account is owed less what it owes before the span."""
        return self.closing - self._moved(self.first, self.end)

    def _moved(self, first: int, end: int) -> int:
        span = Span(first=first, end=end)
        return moved(self._store, self._connection, self._key.account, self._key.currency, span)

    @cached_property
    def disputed(self) -> int:
        """The part of the closing balance that is in dispute at the end of the span."""
        return sum(
            self._signed(self._disputed_claims[name])
            for name, spells in self._spells.items()
            if spells[-1][1] is None and name not in self._cancelled
        )

    def _signed(self, claim: ClaimRecord) -> int:
        return claim.amount if claim.creditor == self._key.account else -claim.amount

    @cached_property
    def _spells(self) -> dict[tuple[int, int], list[tuple[int, int | None]]]:
        """For each claim that was disputed, from which entry to which one: ``None`` while it is, or for good."""
        spells: dict[tuple[int, int], list[tuple[int, int | None]]] = {}
        for seq, step in self._disputes.items():
            of_claim = spells.setdefault(step.claim, [])
            if step.outcome is None:
                of_claim.append((seq, None))
            elif step.outcome == "stands":
                of_claim[-1] = (of_claim[-1][0], seq)
        return spells

    @cached_property
    def _cancelled(self) -> set[tuple[int, int]]:
        return {step.claim for step in self._disputes.values() if step.outcome == "cancelled"}

    def turnovers(self) -> tuple[Turnover, ...]:
        """Sums of the lines of the span, by kind."""
        sums = {"claim": self._claimed()}
        for what, kind in (("settlement", "settle"), ("cancelled_claim", "resolve_dispute")):
            sums[what] = _sums(self._paid(kind, self.first), self._key.account)
        cleared = [(seq, owed) for seq, owed in self._in_span(self._cleared) for owed in owed]
        sums["netted"] = _sums(cleared, self._key.account)
        paid = [(seq, each) for seq, netting in self._in_span(self._nettings) for each in self._payments(netting)]
        netted = _sums(paid, self._key.account)
        sums["netting_payment"] = Turnover(
            what="netting_payment", lines=netted.lines, debit=netted.credit, credit=netted.debit
        )
        begun = [step.outcome for _, step in self._in_span(self._disputes)]
        for what, outcome in (("disputed_claim", None), ("dispute_ended", "stands")):
            sums[what] = Turnover(what="claim", lines=begun.count(outcome), debit=0, credit=0)
        return tuple(msgspec.structs.replace(sums[what], what=what) for what in LINE_KINDS)

    def _in_span(self, found: dict[int, Any]) -> Iterator[tuple[int, Any]]:
        return ((seq, each) for seq, each in found.items() if seq >= self.first)

    def _payments(self, netting: NettingRecord) -> list[Owed]:
        return [owed for owed in netting.payments if self._key.account in {owed.debtor, owed.creditor}]

    def _claimed(self) -> Turnover:
        sums, lines = [], 0
        for party in (CLAIM.c.creditor, CLAIM.c.debtor):
            query = sa.select(sa.func.count().label("lines"), *exact_sum(CLAIM.c.amount)).where(
                CLAIM.c.ledger_id == self._store.ledger_id,
                CLAIM.c.currency == self._key.currency,
                party == self._key.account,
                CLAIM.c.seq >= self.first,
                CLAIM.c.seq < self.end,
            )
            row = self._connection.execute(query).one()
            sums.append(exactly(row))
            lines += row.lines
        return Turnover(what="claim", lines=lines, debit=sums[0], credit=sums[1])

    # Lines

    def page(self, page: Page) -> list[SettlementLine]:
        """A page of the lines in ascending order; keys are (seq, part)."""
        kept: list[SettlementLine] = []
        edge = page.before[0] if page.from_end and page.before is not None else None
        edge = page.after[0] if not page.from_end and page.after is not None else edge
        while len(kept) < page.limit:
            seqs = self._seqs(edge, page.limit, from_end=page.from_end)
            if not seqs:
                break
            lines = [line for line in self._lines(seqs) if _is_within(line, page)]
            kept = [*lines, *kept] if page.from_end else [*kept, *lines]
            edge = seqs[0] - 1 if page.from_end else seqs[-1] + 1
        return kept[-page.limit :] if page.from_end else kept[: page.limit]

    def lines(self) -> Iterator[SettlementLine]:
        """All lines, read some entries at a time."""
        edge: int | None = None
        while seqs := self._seqs(edge, PAGE_ENTRIES, from_end=False):
            yield from self._lines(seqs)
            edge = seqs[-1] + 1

    def _seqs(self, edge: int | None, limit: int, *, from_end: bool) -> list[int]:
        """The first, or last, entries of the span with lines, from ``edge`` on, or up to it; in ascending order."""
        first = max(self.first, edge) if edge is not None and not from_end else self.first
        last = min(self.end - 1, edge) if edge is not None and from_end else self.end - 1
        order = POSTING.c.seq.desc() if from_end else POSTING.c.seq
        query = (
            sa.select(POSTING.c.seq)
            .where(*self._mine(), POSTING.c.seq >= first, POSTING.c.seq <= last)
            .distinct()
            .order_by(order)
            .limit(limit)
        )
        found = set(self._connection.execute(query).scalars())
        found.update(seq for seq in (*self._nettings, *self._disputes) if first <= seq <= last)
        ordered = sorted(found)
        return ordered[-limit:] if from_end else ordered[:limit]

    def _lines(self, seqs: Sequence[int]) -> Iterator[SettlementLine]:
        """The lines of some entries that follow each other."""
        kinds = {row.seq: row for row in self._entries(seqs)}
        claims: dict[int, list[ClaimRecord]] = {}
        for claim in self._claims(CLAIM.c.seq.in_(seqs)):
            claims.setdefault(claim.seq, []).append(claim)
        paid = dict(self._paid_in([seq for seq in seqs if kinds[seq].kind == "settle"]))
        drafts = [
            (seq, part, draft)
            for seq in seqs
            for part, draft in enumerate(self._drafts(seq, kinds[seq], claims.get(seq, []), paid.get(seq)))
        ]
        names = self._names({draft["counterparty"] for _, _, draft in drafts})
        balance = self.opening + self._moved(self.first, seqs[0])
        for seq, part, draft in drafts:
            balance += draft["debit"] - draft["credit"]
            yield SettlementLine(
                seq=seq,
                part=part,
                day=kinds[seq].time[:10],
                operation=kinds[seq].kind,
                counterparty_name=names.get(draft["counterparty"]),
                balance=balance,
                **draft,
            )

    def _entries(self, seqs: Sequence[int]) -> Sequence[Any]:
        query = sa.select(ENTRY.c.seq, ENTRY.c.time, ENTRY.c.kind, ENTRY.c.data).where(
            ENTRY.c.ledger_id == self._store.ledger_id, ENTRY.c.seq.in_(seqs)
        )
        return self._connection.execute(query).all()

    def _drafts(self, seq: int, row: Any, claims: Sequence[ClaimRecord], paid: Owed | None) -> Iterator[dict[str, Any]]:
        """What each line of an entry says of itself."""
        op = _clearing.decode(bytes(row.data)).op
        if row.kind == "settle" and paid is not None:
            yield {"what": "settlement", "reference": op.payment, **self._less(paid)}
        elif row.kind == "net":
            for owed in self._cleared.get(seq, []):
                yield {"what": "netted", **self._less(owed)}
            for owed in self._payments(self._nettings[seq]):
                yield {"what": "netting_payment", **self._more(owed)}
        elif row.kind in DISPUTE_KINDS:
            step = self._disputes[seq]
            yield self._of_dispute(step, self._disputed_claims[step.claim])
        else:
            for claim in claims:
                yield {**self._of_claim(claim), "reference": op.reference}

    def _of_claim(self, claim: ClaimRecord) -> dict[str, Any]:
        name = (claim.seq, claim.index)
        spells = self._spells.get(name, [])
        status = "open"
        if spells and spells[-1][1] is None:
            status = "cancelled" if name in self._cancelled else "disputed"
        covering = (
            netting.seq
            for netting in self._nettings.values()
            if netting.covers(claim)
            and not any(begin < netting.seq and (end is None or netting.seq < end) for begin, end in spells)
        )
        return {
            "what": "claim",
            "claim": name,
            "agreement": claim.agreement,
            "netted_by": next(covering, None),
            "status": status,
            **self._more(Owed(claim.debtor, claim.creditor, claim.amount)),
        }

    def _of_dispute(self, step: DisputeRecord, claim: ClaimRecord) -> dict[str, Any]:
        owed = Owed(claim.debtor, claim.creditor, claim.amount)
        named = {"claim": step.claim, "agreement": claim.agreement}
        if step.outcome == "cancelled":
            return {"what": "cancelled_claim", **named, **self._less(owed)}
        what = "disputed_claim" if step.outcome is None else "dispute_ended"
        return {"what": what, **named, "reference": step.reason, **self._more(owed), "debit": 0, "credit": 0}

    def _more(self, owed: Owed) -> dict[str, Any]:
        """Amounts of a debt that arises: in the account's favour when it is the creditor."""
        is_creditor = owed.creditor == self._key.account
        return {
            "counterparty": owed.debtor if is_creditor else owed.creditor,
            "amount": owed.amount,
            "debit": owed.amount if is_creditor else 0,
            "credit": 0 if is_creditor else owed.amount,
        }

    def _less(self, owed: Owed) -> dict[str, Any]:
        """Amounts of a debt that goes away."""
        more = self._more(owed)
        return {**more, "debit": more["credit"], "credit": more["debit"]}

    def _names(self, accounts: Iterable[str]) -> dict[str, str]:
        """Public names of those that have one."""
        found = self._store.accounts(self._connection, accounts)
        return {str(account.id): account.name for account in found if account.name is not None}

    def statement(self) -> SettlementStatement:
        """The whole of it, with all lines; raise :class:`TooManyLinesError` for more than a document should have."""
        turnovers = self.turnovers()
        lines = sum(turnover.lines for turnover in turnovers)
        if lines > MAX_LINES:
            raise TooManyLinesError(f"{lines:,} lines, at most {MAX_LINES:,} at a time: take a shorter period")
        key = self._key
        return SettlementStatement(
            origin=self._store.origin,
            size=self.end,
            leaf_hash=self._store.leaf_hashes(self._connection, self.end - 1, self.end)[0].hex() if self.end else "",
            account=key.account,
            name=self._names([key.account]).get(key.account),
            currency=key.currency,
            scale=scales(self._store, self._connection)[key.currency],
            start=key.start.isoformat(),
            through=key.through.isoformat(),
            opening=self.opening,
            closing=self.closing,
            disputed=self.disputed,
            turnovers=turnovers,
            lines=tuple(self.lines()),
        )


def scales(store: Store, connection: Connection) -> dict[str, int]:
    """Decimal places of the settlement currencies, which genesis names."""
    op = decode_entry(store.entry_data(connection, [0])[0]).op
    assert isinstance(op, Genesis)
    return {currency.code: currency.scale for currency in op.currencies}


def _sums(moved: Iterable[tuple[int, Owed]], account: str) -> Turnover:
    """Sums of debts of and to an account that go away."""
    debit = credit = lines = 0
    for _, owed in moved:
        lines += 1
        if owed.creditor == account:
            credit += owed.amount
        else:
            debit += owed.amount
    return Turnover(what="settlement", lines=lines, debit=debit, credit=credit)


def _is_within(line: SettlementLine, page: Page) -> bool:
    key = (line.seq, line.part)
    return (page.after is None or key > page.after) and (page.before is None or key < page.before)
