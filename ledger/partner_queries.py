"""Reading what merchants have with each other: agreements, holds, claims and what is owed, allotments, refunds.

Like :mod:`ledger.queries`: set-based SQL, keyset pages, a bounded number of statements for each question. The records
are those of :mod:`ledger.state`. A :class:`~ledger.queries.Sight` is applied where a list is of what a reader may see;
who is told which part of a record is not decided here.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.agreements import in_force
from ledger.entries import decode_entry
from ledger.movements import ALL_HOLDERS, period_of
from ledger.operations import Net, ResolveDispute
from ledger.queries import Page, Sight, paged
from ledger.state import (
    NOT_NETTED,
    ORDER_SCOPE,
    SUPPLY_ACCOUNTS,
    Agreement,
    Allotment,
    AllotmentAlert,
    Claim,
    Earning,
    Netting,
    Obligation,
    PointsHold,
    PurchaseRefund,
    Spending,
    State,
    Touches,
)
from ledger.store import Store
from ledger.tables import (
    AGREEMENT,
    ALLOTMENT,
    ALLOTMENT_ALERT,
    ASSET,
    CLAIM,
    EARNING,
    ENTRY,
    HOLD,
    LOT,
    NETTING,
    OBLIGATION,
    PARTY,
    PURCHASE_REFUND,
    RECORD_TABLES,
    SPENDING,
)
from ledger.terms import ExchangeTerms, Payment

_SEPARATORS = {"exchange": ">", "acceptance": "@", "earning": "+"}
"""What stands behind the asset in the name of an agreement of each type."""


def _records(connection: Connection, name: str, query: Any) -> list[Any]:
    """The records that a query of all columns of a table finds; the first column is the ledger's id."""
    record_of = RECORD_TABLES[name].record_of
    return [record_of(tuple(row)[1:]) for row in connection.execute(query)]


def _in_order(found: list[Any], page: Page) -> list[Any]:
    return found[::-1] if page.from_end else found


# Agreements


class AgreementFilter(Struct, frozen=True, kw_only=True):
    """Which versions of agreements; all that are given must hold.

    ``party`` is the issuer or the partner, ``type`` exchange, acceptance or earning. ``in_force_at`` keeps the version
    that is in force at a time.
    """

    asset: str | None = None
    into: str | None = None
    partner: str | None = None
    party: str | None = None
    type: str | None = None
    in_force_at: str | None = None


def agreements_page(store: Store, connection: Connection, wanted: AgreementFilter, page: Page) -> list[Agreement]:
    """A page of the versions of agreements, by name and version, which are the key."""
    query = sa.select(AGREEMENT).where(AGREEMENT.c.ledger_id == store.ledger_id, *_agreements_like(store, wanted))
    found = _records(connection, "agreements", paged(query, (AGREEMENT.c.agreement, AGREEMENT.c.version), page))
    return _in_order(found, page)


def _agreements_like(store: Store, wanted: AgreementFilter) -> list[Any]:
    table = AGREEMENT.c
    conditions: list[Any] = []
    separators = list(_SEPARATORS.values()) if wanted.type is None else [_SEPARATORS[wanted.type]]
    if wanted.asset is not None:
        # Ranges of the primary key: the code and the separator, up to the next character.
        starts = [wanted.asset + separator for separator in separators]
        ranges = [(table.agreement >= start) & (table.agreement < _next(start)) for start in starts]
        conditions.append(sa.or_(*ranges))
    elif wanted.type is not None:
        conditions.append(table.agreement.contains(separators[0], autoescape=True))
    if wanted.into is not None:
        conditions.append(table.agreement.endswith(f">{wanted.into}", autoescape=True))
    if wanted.partner is not None:
        conditions.append(table.partner == wanted.partner)
    if wanted.party is not None:
        conditions.append(sa.or_(table.issuer == wanted.party, table.partner == wanted.party))
    if wanted.in_force_at is not None:
        conditions.append(_in_force(store, wanted.in_force_at))
    return conditions


def _next(text: str) -> str:
    """The first text behind all that begin with this one."""
    return text[:-1] + chr(ord(text[-1]) + 1)


def _in_force(store: Store, time: str) -> Any:
    """That a version is in force at a time: see :func:`ledger.agreements.in_force`."""
    other = AGREEMENT.alias()
    later = sa.exists().where(
        other.c.ledger_id == store.ledger_id,
        other.c.agreement == AGREEMENT.c.agreement,
        other.c.version > AGREEMENT.c.version,
        other.c.starts <= time,
    )
    ends = sa.or_(AGREEMENT.c.ends.is_(None), AGREEMENT.c.ends > time)
    return sa.and_(AGREEMENT.c.starts <= time, ends, sa.not_(later))


def agreement(store: Store, connection: Connection, name: str, version: int) -> Agreement | None:
    """A version of an agreement, if there is one."""
    query = sa.select(AGREEMENT).where(
        AGREEMENT.c.ledger_id == store.ledger_id, AGREEMENT.c.agreement == name, AGREEMENT.c.version == version
    )
    return next(iter(_records(connection, "agreements", query)), None)


def newest_agreement(store: Store, connection: Connection, name: str) -> Agreement | None:
    """The newest version of an agreement, if there is one."""
    query = sa.select(AGREEMENT).where(AGREEMENT.c.ledger_id == store.ledger_id, AGREEMENT.c.agreement == name)
    query = query.order_by(AGREEMENT.c.version.desc()).limit(1)
    return next(iter(_records(connection, "agreements", query)), None)


def agreements_in_force(store: Store, connection: Connection, names: Iterable[str], time: str) -> dict[str, Agreement]:
    """The versions of agreements that are in force at a time, by name; without those of which none is."""
    query = sa.select(AGREEMENT).where(
        AGREEMENT.c.ledger_id == store.ledger_id, AGREEMENT.c.agreement.in_(list(names)), _in_force(store, time)
    )
    return {found.agreement: found for found in _records(connection, "agreements", query)}


def started_versions(store: Store, connection: Connection, names: Iterable[str], time: str) -> dict[str, int]:
    """The last versions of agreements that have started by a time, whether they have ended or not, by name."""
    query = (
        sa.select(AGREEMENT.c.agreement, sa.func.max(AGREEMENT.c.version))
        .where(
            AGREEMENT.c.ledger_id == store.ledger_id,
            AGREEMENT.c.agreement.in_(list(names)),
            AGREEMENT.c.starts <= time,
        )
        .group_by(AGREEMENT.c.agreement)
    )
    return {name: int(version) for name, version in connection.execute(query)}


def directory(
    store: Store, connection: Connection, time: str, *, names: Sequence[str] | None = None, account: str | None = None
) -> State:
    """The part of the state by which exchanges can be reckoned: by these agreements, or by all (``None``).

    With an ``account``, what it has used up of its caps too. For :func:`ledger.agreements.quote` and
    :func:`~ledger.agreements.best_paths`.
    """
    first = Touches.none()
    first.groups.update([("agreements", ())] if names is None else (("agreements", (name,)) for name in names))
    state = store.load_state(connection, first)
    more = Touches.none()
    found = [found for version in state.agreements if (found := in_force(state, version.agreement, time)) is version]
    exchanges = [(each, each.terms) for each in found if isinstance(each.terms, ExchangeTerms)]
    for each, terms in exchanges:
        more.accounts.update((each.issuer, each.partner))
        more.assets.update((terms.asset, terms.into))
        more.balances.update((system, terms.into) for system in SUPPLY_ACCOUNTS)
    store.load_more(connection, state, more)
    usages = Touches.none()
    for each, terms in exchanges:
        caps = ((terms.holder_cap, account), (terms.total_cap, ALL_HOLDERS))
        for cap, whose in caps:
            if cap is not None and whose is not None:
                period = period_of(cap, state.today(terms.asset, time))
                usages.records.add(("usages", (each.agreement, whose, period)))
    store.load_more(connection, state, usages)
    return state


# Holds


class HoldFilter(Struct, frozen=True, kw_only=True):
    """Which holds: of an account, for a merchant, or both, maybe of an asset and a status at a time."""

    account: str | None = None
    merchant: str | None = None
    asset: str | None = None
    status: str | None = None


def holds_page(
    store: Store, connection: Connection, wanted: HoldFilter, sight: Sight, page: Page, *, time: str
) -> list[PointsHold]:
    """A page of the holds a reader may see, in the order they were placed; keys are sequence numbers.

    The filter names an account or a merchant: their holds have an index.
    """
    assert wanted.account is not None or wanted.merchant is not None
    table = HOLD.c
    query = sa.select(HOLD).where(table.ledger_id == store.ledger_id)
    named = ((table.account, wanted.account), (table.merchant, wanted.merchant), (table.asset, wanted.asset))
    query = query.where(*(column == value for column, value in named if value is not None))
    if wanted.status is not None:
        query = query.where(_has_status(wanted.status, time))
    if not sight.everything:
        query = query.where(_sees_hold(sight))
    return _in_order(_records(connection, "holds", paged(query, (table.seq,), page)), page)


_OPEN = HOLD.c.status == sa.literal_column("'open'")
"""As a literal, a planner sees that this is the condition of the indexes of open holds."""


def _has_status(status: str, time: str) -> Any:
    # As a planner must not look it up: the holds of an account or a merchant are found by that.
    until = HOLD.c.until + sa.literal_column("''", sa.Text())
    if status == "open":
        return sa.and_(_OPEN, until >= time)
    if status == "lapsed":
        return sa.or_(HOLD.c.status == "lapsed", sa.and_(_OPEN, until < time))
    return HOLD.c.status == status


def _sees_hold(sight: Sight) -> Any:
    """A hold is its holder's, its merchant's and its asset's issuer's to see."""
    of_reader = (HOLD.c.account, sight.accounts), (HOLD.c.merchant, sight.accounts), (HOLD.c.asset, sight.assets)
    return sa.or_(*(column.in_(values) for column, values in of_reader))


def hold(store: Store, connection: Connection, hold_id: str) -> PointsHold | None:
    """The hold with an id, if there is one."""
    query = sa.select(HOLD).where(HOLD.c.ledger_id == store.ledger_id, HOLD.c.hold == hold_id)
    return next(iter(_records(connection, "holds", query)), None)


# Claims and what is owed


class ClaimFilter(Struct, frozen=True, kw_only=True):
    """Which claims: of an account, as debtor or creditor, and maybe of another one too; of some currencies."""

    account: str | None = None
    counterparty: str | None = None
    currencies: tuple[str, ...] = ()
    status: str | None = None


def claims_page(store: Store, connection: Connection, wanted: ClaimFilter, page: Page) -> list[Claim]:
    """A page of claims in the order they arose; keys are (seq, index).

    Those of an account are read from the index of its claims in each currency, as debtor and as creditor, a page of
    each. Those in dispute are few and have an index of their own.
    """
    key = (CLAIM.c.seq, CLAIM.c.index)
    query = sa.select(CLAIM).where(CLAIM.c.ledger_id == store.ledger_id)
    sides = ((CLAIM.c.creditor, CLAIM.c.debtor), (CLAIM.c.debtor, CLAIM.c.creditor))
    if wanted.status == "disputed":
        query = query.where(sa.tuple_(*key).in_(_disputed(store)), CLAIM.c.currency.in_(wanted.currencies))
        query = query.where(*_between(wanted, *sides[0]))
        return _in_order(_records(connection, "claims", paged(query, key, page)), page)
    if wanted.status is not None:
        query = query.where(CLAIM.c.status == wanted.status)
    if wanted.account is None:
        query = query.where(CLAIM.c.currency.in_(wanted.currencies))
        return _in_order(_records(connection, "claims", paged(query, key, page)), page)
    parts = []
    for currency, (own, other) in itertools.product(wanted.currencies, sides):
        part = query.where(own == wanted.account, CLAIM.c.currency == currency).with_only_columns(*key)
        if wanted.counterparty is not None:
            part = part.where(other == wanted.counterparty)
        parts.append(sa.select(*paged(part, key, page).subquery().c))
    found = sa.union(*parts).subquery()
    united = sa.select(CLAIM).where(CLAIM.c.ledger_id == store.ledger_id, sa.tuple_(*key).in_(sa.select(*found.c)))
    return _in_order(_records(connection, "claims", paged(united, key, page)), page)


def _disputed(store: Store) -> Any:
    """Keys of all claims in dispute, which are in an index: as a literal, a planner sees that this is its condition."""
    other = CLAIM.alias()
    is_disputed = other.c.status == sa.literal_column("'disputed'")
    return sa.select(other.c.seq, other.c.index).where(other.c.ledger_id == store.ledger_id, is_disputed)


def _between(wanted: ClaimFilter, one: Any, other: Any) -> list[Any]:
    """That an account, if one is named, is on one side, and the counterparty, if one is named, on the other."""
    if wanted.account is None:
        return []
    if wanted.counterparty is None:
        return [sa.or_(one == wanted.account, other == wanted.account)]
    pairs = ((wanted.account, wanted.counterparty), (wanted.counterparty, wanted.account))
    return [sa.or_(*(sa.and_(one == first, other == second) for first, second in pairs))]


def claim(store: Store, connection: Connection, seq: int, index: int) -> Claim | None:
    """The ``index``-th claim of an entry, if there is one."""
    query = sa.select(CLAIM).where(CLAIM.c.ledger_id == store.ledger_id, CLAIM.c.seq == seq, CLAIM.c.index == index)
    return next(iter(_records(connection, "claims", query)), None)


def claims_of(store: Store, connection: Connection, seq: int) -> list[Claim]:
    """The claims that an entry made, in its order."""
    query = sa.select(CLAIM).where(CLAIM.c.ledger_id == store.ledger_id, CLAIM.c.seq == seq)
    return _records(connection, "claims", query.order_by(CLAIM.c.index))


def owed_between(store: Store, connection: Connection, currency: str, debtor: str, creditor: str) -> int:
    """What one account owes another of a currency, in minor units, disputed claims aside."""
    table = OBLIGATION.c
    query = sa.select(sa.func.coalesce(sa.func.sum(table.amount), 0)).where(
        table.ledger_id == store.ledger_id,
        table.currency == currency,
        table.debtor == debtor,
        table.creditor == creditor,
    )
    return int(connection.execute(query).scalar_one())


Debt = tuple[str, str, str, str]
"""What is owed of the claims of a day: currency, debtor, creditor, day."""


def unnetted(store: Store, connection: Connection, debts: Iterable[Debt]) -> dict[Debt, int]:
    """What is left to be netted or settled of the claims of days; nothing is not in it."""
    table = OBLIGATION.c
    key = (table.currency, table.debtor, table.creditor, table.day)
    query = sa.select(*key, table.amount).where(
        table.ledger_id == store.ledger_id, table.netting == NOT_NETTED, sa.tuple_(*key).in_(list(debts))
    )
    return {(row[0], row[1], row[2], row[3]): int(row[4]) for row in connection.execute(query)}


class Owing(Struct, frozen=True, kw_only=True):
    """What an account is ``owed`` of a currency and ``owes``, in minor units, disputed claims aside.

    ``balance`` is what the postings come to: claims less payments, disputed claims included.
    """

    currency: str
    owed: int
    owes: int
    balance: int

    @property
    def net(self) -> int:
        """What is owed to it less what it owes."""
        return self.owed - self.owes


def owings(store: Store, connection: Connection, account: str) -> list[Owing]:
    """What an account is owed and owes, by currency."""
    return owings_of(store, connection, [account])[0]


def owings_of(store: Store, connection: Connection, accounts: Sequence[str]) -> list[list[Owing]]:
    """What several accounts are owed and owe, in their order, each by currency."""
    sums = [_owed(store, connection, column, accounts) for column in (OBLIGATION.c.creditor, OBLIGATION.c.debtor)]
    coined = sa.exists().where(ASSET.c.ledger_id == store.ledger_id, ASSET.c.asset == LOT.c.asset)
    query = sa.select(LOT.c.account, LOT.c.asset, LOT.c.points).where(
        LOT.c.ledger_id == store.ledger_id, LOT.c.account.in_(accounts), sa.not_(coined)
    )
    balances = {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}
    owed, owes = sums
    keys = sorted({*owed, *owes, *balances})
    return [
        [
            Owing(
                currency=key[1],
                owed=owed.get(key, 0),
                owes=owes.get(key, 0),
                balance=balances.get(key, 0),
            )
            for key in keys
            if key[0] == account
        ]
        for account in accounts
    ]


def _owed(store: Store, connection: Connection, side: Any, accounts: Sequence[str]) -> dict[tuple[str, str], int]:
    query = (
        sa.select(side, OBLIGATION.c.currency, sa.func.sum(OBLIGATION.c.amount))
        .where(OBLIGATION.c.ledger_id == store.ledger_id, side.in_(accounts))
        .group_by(side, OBLIGATION.c.currency)
    )
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


class ObligationFilter(Struct, frozen=True, kw_only=True):
    """Which obligations: of an account, as debtor or creditor, and maybe of another one too, or of a currency."""

    account: str | None = None
    counterparty: str | None = None
    currency: str | None = None


def obligations_page(store: Store, connection: Connection, wanted: ObligationFilter, page: Page) -> list[Obligation]:
    """A page of what is owed, by currency, debtor, creditor, netting and day, which are the key.

    What an account owes and is owed now is read whole from the indexes by debtor and creditor, and sorted.
    """
    table = OBLIGATION.c
    key = (table.currency, table.debtor, table.creditor, table.netting, table.day)
    query = sa.select(OBLIGATION).where(table.ledger_id == store.ledger_id)
    if wanted.currency is not None:
        query = query.where(table.currency == wanted.currency)
    if wanted.account is not None:
        sides = ((table.debtor, table.creditor), (table.creditor, table.debtor))
        own = [query.where(side == wanted.account).with_only_columns(*key) for side, _ in sides]
        if wanted.counterparty is not None:
            own = [part.where(other == wanted.counterparty) for part, (_, other) in zip(own, sides, strict=True)]
        query = query.where(sa.tuple_(*key).in_(sa.select(*sa.union(*own).subquery().c)))
    return _in_order(_records(connection, "obligations", paged(query, key, page)), page)


def unnetted_through(
    store: Store, connection: Connection, currency: str, merchants: Sequence[str] | None, through: str
) -> list[Obligation]:
    """What these, or all, owe each other of the claims through a day, which has it all: one for each pair."""
    table = OBLIGATION.c
    query = (
        sa.select(table.debtor, table.creditor, sa.func.sum(table.amount))
        .where(
            table.ledger_id == store.ledger_id,
            table.currency == currency,
            table.netting == NOT_NETTED,
            table.day <= through,
        )
        .group_by(table.debtor, table.creditor)
        .order_by(table.debtor, table.creditor)
    )
    if merchants is not None:
        query = query.where(table.debtor.in_(merchants), table.creditor.in_(merchants))
    return [
        Obligation(
            currency=currency, debtor=debtor, creditor=creditor, netting=NOT_NETTED, day=through, amount=int(amount)
        )
        for debtor, creditor, amount in connection.execute(query)
    ]


class NettingPayments(Struct, frozen=True, kw_only=True):
    """A netting, the payments it made of what was owed, and what is left to be paid of each, in their order."""

    netting: Netting
    payments: tuple[Payment, ...]
    left: tuple[int, ...]


def nettings_page(
    store: Store, connection: Connection, accounts: Sequence[str] | None, currency: str | None, page: Page
) -> list[NettingPayments]:
    """A page of the nettings of any of these accounts, or of all; keys are sequence numbers."""
    query = sa.select(NETTING).where(NETTING.c.ledger_id == store.ledger_id)
    if accounts is not None:
        netted = sa.select(PARTY.c.seq).where(PARTY.c.ledger_id == store.ledger_id, PARTY.c.account.in_(accounts))
        query = query.where(NETTING.c.seq.in_(netted))
    if currency is not None:
        query = query.where(NETTING.c.currency == currency)
    found: list[Netting] = _in_order(_records(connection, "nettings", paged(query, (NETTING.c.seq,), page)), page)
    return _with_payments(store, connection, found)


def netting(store: Store, connection: Connection, seq: int) -> NettingPayments | None:
    """The netting that an entry made, if it did."""
    query = sa.select(NETTING).where(NETTING.c.ledger_id == store.ledger_id, NETTING.c.seq == seq)
    return next(iter(_with_payments(store, connection, _records(connection, "nettings", query))), None)


def _with_payments(store: Store, connection: Connection, found: Sequence[Netting]) -> list[NettingPayments]:
    """Nettings with the payments that their entries say."""
    if not found:
        return []
    seqs = [each.seq for each in found]
    operations = {seq: decode_entry(bytes(data)).op for seq, data in store.entry_data(connection, seqs).items()}
    table = OBLIGATION.c
    currencies = {each.currency for each in found}
    query = sa.select(table.netting, table.debtor, table.creditor, table.amount).where(
        table.ledger_id == store.ledger_id, table.currency.in_(currencies), table.netting.in_(seqs)
    )
    left = {(row[0], row[1], row[2]): int(row[3]) for row in connection.execute(query)}
    nettings = []
    for each in found:
        op = operations[each.seq]
        assert isinstance(op, Net)
        rest = tuple(left.get((each.seq, payment.debtor, payment.creditor), 0) for payment in op.payments)
        nettings.append(NettingPayments(netting=each, payments=op.payments, left=rest))
    return nettings


def nettings_of(store: Store, connection: Connection, claims: Sequence[Claim]) -> dict[tuple[int, int], int]:
    """The entries that netted claims, by (seq, index), for those that were netted.

    A netting nets what was claimed before it, through its day, between two of its merchants; but nothing of a claim
    that was disputed then, which is known by its dispute having ended later.
    """
    open_claims = [claim for claim in claims if claim.status == "open"]
    nettings = _nettings_after(store, connection, open_claims)
    candidates = {
        (claim.seq, claim.index): [each.seq for each in nettings if _covers(each, claim)] for claim in open_claims
    }
    first = min((seqs[0] for seqs in candidates.values() if seqs), default=None)
    if first is None:
        return {}
    resolved = _last_resolutions(store, connection, first)
    found = {key: [seq for seq in seqs if seq > resolved.get(key, -1)] for key, seqs in candidates.items()}
    return {key: seqs[0] for key, seqs in found.items() if seqs}


def _nettings_after(store: Store, connection: Connection, claims: Sequence[Claim]) -> list[Netting]:
    """Nettings of debtors of these claims since the first of them, oldest first."""
    if not claims:
        return []
    debtors = sorted({claim.debtor for claim in claims})
    since = min(claim.seq for claim in claims)
    netted = sa.select(PARTY.c.seq).where(
        PARTY.c.ledger_id == store.ledger_id, PARTY.c.account.in_(debtors), PARTY.c.seq > since
    )
    query = sa.select(NETTING).where(NETTING.c.ledger_id == store.ledger_id, NETTING.c.seq.in_(netted))
    return _records(connection, "nettings", query.order_by(NETTING.c.seq))


def _covers(netting: Netting, claim: Claim) -> bool:
    if netting.seq < claim.seq or netting.currency != claim.currency or netting.through < claim.day:
        return False
    return {claim.debtor, claim.creditor}.issubset(netting.merchants)


def _last_resolutions(store: Store, connection: Connection, after: int) -> dict[tuple[int, int], int]:
    """The last entry behind one that ended a dispute of a claim, by the claim's (seq, index). They are few."""
    query = (
        sa.select(ENTRY.c.seq, ENTRY.c.data)
        .where(ENTRY.c.ledger_id == store.ledger_id, ENTRY.c.kind == ResolveDispute.KIND, ENTRY.c.seq > after)
        .order_by(ENTRY.c.seq)
    )
    found: dict[tuple[int, int], int] = {}
    for seq, data in connection.execute(query):
        op = decode_entry(bytes(data)).op
        assert isinstance(op, ResolveDispute)
        found[(op.claim.seq, op.claim.index)] = seq
    return found


# Allotments


def allotments_page(
    store: Store, connection: Connection, sight: Sight, page: Page, *, asset: str | None, partner: str | None
) -> list[Allotment]:
    """A page of what prepaid partners have, by agreement, which is the key: to its parties alone, or to all."""
    table = ALLOTMENT.c
    query = sa.select(ALLOTMENT).where(table.ledger_id == store.ledger_id)
    if asset is not None:
        start = f"{asset}{_SEPARATORS['earning']}"
        query = query.where(table.agreement >= start, table.agreement < _next(start))
    if partner is not None:
        query = query.where(table.agreement.in_(_agreements_of(store, AGREEMENT.c.partner, [partner])))
    if not sight.everything:
        sides = (AGREEMENT.c.issuer, AGREEMENT.c.partner)
        query = query.where(
            sa.or_(*(table.agreement.in_(_agreements_of(store, side, sight.accounts)) for side in sides))
        )
    return _in_order(_records(connection, "allotments", paged(query, (table.agreement,), page)), page)


def _agreements_of(store: Store, side: Any, accounts: Sequence[str]) -> Any:
    return sa.select(AGREEMENT.c.agreement).where(AGREEMENT.c.ledger_id == store.ledger_id, side.in_(accounts))


def allotment(store: Store, connection: Connection, agreement: str) -> Allotment | None:
    """What the partner of an agreement has bought and has left, if it has bought anything."""
    query = sa.select(ALLOTMENT).where(ALLOTMENT.c.ledger_id == store.ledger_id, ALLOTMENT.c.agreement == agreement)
    return next(iter(_records(connection, "allotments", query)), None)


def alerts_page(store: Store, connection: Connection, agreement: str, page: Page) -> list[AllotmentAlert]:
    """A page of the alerts of an agreement; keys are sequence numbers."""
    table = ALLOTMENT_ALERT.c
    query = sa.select(ALLOTMENT_ALERT).where(table.ledger_id == store.ledger_id, table.agreement == agreement)
    return _in_order(_records(connection, "allotment_alerts", paged(query, (table.seq,), page)), page)


# Refunds


class PurchaseOriginal(Struct, frozen=True, kw_only=True):
    """A purchase, in which asset and by which entry, and what was refunded of it, if anything."""

    asset: str
    seq: int
    earning: Earning
    refund: PurchaseRefund | None


def purchase(store: Store, connection: Connection, merchant: str, order: str) -> PurchaseOriginal | None:
    """The purchase that a merchant recorded under an order, if there is one."""
    found = store.earnings(connection, merchant, ORDER_SCOPE, [order]).get(order)
    if found is None:
        return None
    asset, earning = found
    table = PURCHASE_REFUND.c
    query = sa.select(PURCHASE_REFUND).where(
        table.ledger_id == store.ledger_id, table.merchant == merchant, table.reference == order
    )
    refund = next(iter(_records(connection, "purchase_refunds", query)), None)
    at = sa.select(EARNING.c.seq).where(
        EARNING.c.ledger_id == store.ledger_id,
        EARNING.c.merchant == merchant,
        EARNING.c.scope == ORDER_SCOPE,
        EARNING.c.reference == order,
    )
    return PurchaseOriginal(asset=asset, seq=connection.execute(at).scalar_one(), earning=earning, refund=refund)


def spending(store: Store, connection: Connection, operation: str) -> Spending | None:
    """What an operation (its id in hex) spent, if it was a redemption, a capture or an exchange."""
    query = sa.select(SPENDING).where(SPENDING.c.ledger_id == store.ledger_id, SPENDING.c.operation == operation)
    return next(iter(_records(connection, "spendings", query)), None)
