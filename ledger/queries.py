"""Reading the ledger: set-based SQL for what people ask, each a bounded number of statements.

Lists are keyset pages: the caller gives the key after which, or before which, to go on, and a limit; a page costs the
same wherever in the chain it lies. Two cost more with the length of an account's own history: its entries in all assets
are sorted from an index by asset, and a statement adds up what lies between its page and the nearer end of its span.
What a reader may see is data here (:class:`Sight`), applied inside the queries, so that a page is full of what its
reader may see. Who gets which sight is not decided here, nor how answers look.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy.engine import Connection

from ledger.entries import NO_LAST_DAY
from ledger.movements import has_lapsed, spendable
from ledger.operations import (
    Agree,
    Allot,
    Capture,
    Dispute,
    EndAgreement,
    EndPlan,
    Enroll,
    Exchange,
    FormPool,
    Hold,
    LeavePool,
    Redeem,
    Refund,
    Release,
    Remind,
    ResolveDispute,
    ReviewTiers,
    Settle,
    StartPlan,
    UseVoucher,
    Vest,
)
from ledger.program_terms import Program
from ledger.programs import ProgramVersion, local_date
from ledger.rules import account_at
from ledger.state import SYS_EXPIRED, SYS_ISSUED, SYS_SPENT, SYSTEM_ACCOUNTS, Account, AllotmentAlert, Asset, PointsHold
from ledger.store import (
    CorruptionError,
    Store,
    account_of,
    asset_of,
    program_of,
)
from ledger.tables import (
    ACCOUNT,
    AGREEMENT,
    ALLOTMENT_ALERT,
    ASSET,
    CLAIM,
    EARNING,
    ENTRY,
    HEAD,
    HOLD,
    LOT,
    MEMBERSHIP,
    PARTY,
    POSTING,
    PROGRAM,
    RECORD_TABLES,
)
from ledger.terms import ROLE_PREFIXES


class Sight(Struct, frozen=True, kw_only=True):
    """What a reader may see: everything, or what touches its account or one of its assets.

    ``in_custody`` are the accounts among those a question names that the reader holds in custody: it sees what they do.
    ``partnered`` are assets of others about which it has an agreement as the partner: what it does with them is found
    by them, it sees no more for it.
    """

    everything: bool = False
    account: str = ""
    assets: tuple[str, ...] = ()
    in_custody: tuple[str, ...] = ()
    partnered: tuple[str, ...] = ()

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that the reader sees as its own."""
        return (self.account, *self.in_custody)

    @property
    def is_organisation(self) -> bool:
        """Whether the reader is a merchant or a beneficiary."""
        return self.account.startswith(_ORGANISATIONS)


_ORGANISATIONS = (ROLE_PREFIXES["merchant"], ROLE_PREFIXES["beneficiary"])

ALL = Sight(everything=True)
"""The sight of auditors and the operator."""


class StoredEntry(Struct, frozen=True, kw_only=True):
    """An entry as stored: its bytes, which are the truth, and what it is found by.

    ``concerned`` are accounts it is about that are neither its actor nor have a posting in it. They are read only for
    those who do not see everything.
    """

    seq: int
    leaf_hash: bytes
    op_id: bytes
    data: bytes
    concerned: tuple[str, ...] = ()


class EntryKey(Struct, frozen=True, kw_only=True):
    """One of the ways to name an entry: exactly one is given."""

    seq: int | None = None
    leaf_hash: bytes | None = None
    op_id: bytes | None = None


class Page(Struct, frozen=True, kw_only=True):
    """Which part of a list: at most ``limit`` rows after (or, from the end, before) a key, in ascending order.

    ``narrow`` says that few rows of the ledger lie between ``after`` and ``before``, whoever they concern.
    """

    limit: int
    after: Any = None
    before: Any = None
    from_end: bool = False
    narrow: bool = False


class EntryFilter(Struct, frozen=True, kw_only=True):
    """Which entries: those that touch an account, touch an asset, are of a kind; all that are given must hold.

    An account is touched by a posting, by a purchase that earned it nothing, by its own acts, its opening, what is done
    about its recovery and what it is a party of, such as an agreement or a hold for it; an asset by a posting, its
    definition and its programs, and together with an account by such a purchase too. ``is_money`` says that the asset
    is a settlement currency, which only claims and payments have postings in; :func:`entries` finds that out.
    """

    account: str | None = None
    asset: str | None = None
    kind: str | None = None
    is_money: bool = False


class Lot(Struct, frozen=True, kw_only=True):
    """Points of one last day; ``None`` when they never expire. ``is_spendable`` as of the time asked about."""

    last_day: str | None
    points: int
    is_spendable: bool


class Balance(Struct, frozen=True, kw_only=True):
    """Points of an account in one asset: all of them, those usable now, and by lot, the earliest last day first.

    A hold that has lapsed has returned its points to their lots, though no entry may say so yet; ``held`` are those of
    the others, which are in none. The ``total`` is that of the lots less a ``debt``, which later earnings repay first.
    """

    asset: str
    total: int
    spendable: int
    lots: tuple[Lot, ...]
    held: int = 0
    debt: int = 0


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
    last_day: str | None
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
    """What all members, or one, earned in a month, or over all months (``month`` is then empty)."""

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
    if row is None:
        return None
    return _stored_entry(row, _concerned(store, connection, [row.seq]).get(row.seq, ()))


def entries(store: Store, connection: Connection, wanted: EntryFilter, sight: Sight, page: Page) -> list[StoredEntry]:
    """A page of the entries a reader may see, in ascending order; keys are sequence numbers."""
    if wanted.asset is not None and _CURRENCY.fullmatch(wanted.asset):
        wanted = replace(wanted, is_money=asset(store, connection, wanted.asset) is None)
    rows = list(connection.execute(entries_query(store, wanted, sight, page)))
    concerned = {} if sight.everything else _concerned(store, connection, [row.seq for row in rows])
    found = [_stored_entry(row, concerned.get(row.seq, ())) for row in rows]
    return found[::-1] if page.from_end else found


def _concerned(store: Store, connection: Connection, seqs: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Accounts that entries are about beside their actors and those of their postings."""
    if not seqs:
        return {}
    query = sa.select(PARTY.c.seq, PARTY.c.account).where(PARTY.c.ledger_id == store.ledger_id, PARTY.c.seq.in_(seqs))
    found: dict[int, tuple[str, ...]] = {}
    for seq, account_id in connection.execute(query):
        found[seq] = (*found.get(seq, ()), account_id)
    return found


def entries_query(store: Store, wanted: EntryFilter, sight: Sight, page: Page) -> sa.Select[Any]:
    """The statement behind :func:`entries`, in the direction the page is read."""
    query = sa.select(*_ENTRY_COLUMNS).where(ENTRY.c.ledger_id == store.ledger_id)
    sources = _Matching(store.ledger_id, wanted, sight, narrow=page.narrow).sources()
    if sources is not None:
        # Each source is cut to a page before they are united, so that only a page of entries is read.
        parts = [sa.select(paged(source, (column,), page).subquery().c.seq) for source, column in sources]
        query = query.where(ENTRY.c.seq.in_(sa.select(sa.union(*parts).subquery().c.seq)))
    elif wanted.kind is not None:
        query = query.where(ENTRY.c.kind == wanted.kind)
    part: sa.Select[Any] = paged(query, (ENTRY.c.seq,), page)
    return part


def _stored_entry(row: Any, concerned: tuple[str, ...]) -> StoredEntry:
    return StoredEntry(
        seq=row.seq,
        leaf_hash=bytes(row.leaf_hash),
        op_id=bytes(row.op_id),
        data=bytes(row.data),
        concerned=concerned,
    )


def paged(query: Any, columns: Sequence[Any], page: Page) -> Any:
    """The part of a query that a page asks for, in the direction it is read; the columns are the list's key."""
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


# As literals, a planner sees that these are the conditions of the indexes by actor and of purchases without points.
_FOUND_BY_POSTING: tuple[Any, ...] = tuple(sa.literal_column(f"'{kind}'") for kind in ("transfer", "redeem"))
"""Kinds whose actor has a posting."""

_ABOUT_AN_ACCOUNT: tuple[Any, ...] = tuple(
    sa.literal_column(f"'{kind}'") for kind in ("recover_keys", "cancel_recovery")
)
"""Kinds that are about the keys of an account which need not be their actor."""

_ACCOUNT_IN_ENTRY: tuple[Any, ...] = (sa.literal_column("19"), sa.literal_column("30"))
"""Where :data:`ledger.tables.ACCOUNT_IN_ENTRY` finds that account."""

BETWEEN_FEW = frozenset(
    kind.KIND
    for kind in (
        Redeem,
        Exchange,
        Hold,
        Capture,
        Release,
        Refund,
        Agree,
        EndAgreement,
        Allot,
        Settle,
        Dispute,
        ResolveDispute,
        Enroll,
        ReviewTiers,
        StartPlan,
        EndPlan,
        FormPool,
        LeavePool,
        UseVoucher,
        Remind,
    )
)
"""Kinds whose entries are the business of all whom they touch, so that merchants among these are told all of it."""

_CURRENCY = re.compile(r"[A-Z]{3}")
_NOTHING = sa.literal_column("0", sa.BigInteger())

# An alias makes all columns of its table anew, and a page of entries may have dozens of them: these are made once.
_LEG, _BOUGHT, _ACT, _PART, _CLAIM = (table.alias() for table in (POSTING, EARNING, ENTRY, PARTY, CLAIM))
_OPENED, _DEFINED, _PUBLISHED = (table.alias() for table in (ACCOUNT, ASSET, PROGRAM))
# Of the rows that another query's rows are held against.
_OTHER_ENTRY, _OTHER_PARTY, _OTHER_ASSET, _OTHER_PROGRAM = (table.alias() for table in (ENTRY, PARTY, ASSET, PROGRAM))


def _unindexed(seq: Any) -> Any:
    """Sequence numbers as a planner must not look them up, lest it walk the ledger in their order to find an account.

    What an account has is read whole from the index by account, and sorted.
    """
    return (seq + _NOTHING).label("seq")


def _unfound(account: Any) -> Any:
    """Accounts as a planner must not look them up: among few entries those of one account are found by walking them."""
    return account + sa.literal_column("''", sa.Text())


_Source = tuple[Any, Any]
"""A query of sequence numbers and its ``seq`` column."""


class _Matching:
    """Turns a filter and a sight into sources of sequence numbers, each cut to what the reader may know of.

    A reader that does not see everything is never led along the postings of others: each source begins at its own
    accounts, at its assets, or at what another account did in its assets or those it has an agreement about. To a
    merchant, one may also begin at the agreements, holds and claims that another account is a party of.
    """

    def __init__(self, ledger_id: int, wanted: EntryFilter, sight: Sight, *, narrow: bool = False) -> None:
        self.ledger_id = ledger_id
        self.wanted = wanted
        self.sight = sight
        self.narrow = narrow

    def sources(self) -> list[_Source] | None:
        """Queries with their ``seq`` columns, whose union is what matches; ``None`` when everything does."""
        if self.wanted.is_money:
            return self._with_money()
        found = self._of_all() if self.sight.everything else self._of_reader()
        return None if found is None else [(self._of_kind(query, column), column) for query, column in found]

    def _with_money(self) -> list[_Source]:
        """What matches but for the currency, as far as there are postings in it: accounts need none of their own."""
        currency = self.wanted.asset
        rest = replace(self.wanted, asset=None, is_money=False)
        found = _Matching(self.ledger_id, rest, self.sight, narrow=self.narrow).sources()
        if found is None or (self.sight.everything and self.wanted.account is None):
            query, column = self._legs(None, currency)
            return [(self._of_kind(query, column), column)]
        return [(query.where(self._has_leg(column, POSTING.c.asset == currency)), column) for query, column in found]

    def _of_all(self) -> list[_Source] | None:
        account, asset = self.wanted.account, self.wanted.asset
        if account is not None:
            return self._touching_account(account, asset)
        return self._touching_assets((asset,)) if asset is not None else None

    def _of_reader(self) -> list[_Source]:
        account, asset, sight = self.wanted.account, self.wanted.asset, self.sight
        if account is not None:
            own = account in sight.accounts
            return self._touching_account(account, asset) if own else self._shared_with(account, asset)
        if asset in sight.assets:
            return self._touching_assets((asset,))
        found = [source for own in sight.accounts for source in self._touching_account(own, asset)]
        return found + self._touching_assets(sight.assets) if asset is None and sight.assets else found

    def _touching_account(self, account: str, asset: str | None) -> list[_Source]:
        """Entries with a posting of the account, a purchase that earned it nothing, its act, opening, recovery or part.

        Of an asset, the account's posting may be that of a claim, in a currency, beside another's in the asset.
        """
        touching = [self._legs(account, asset), self._unrewarded(account, asset), self._acts(account, asset)]
        touching.append(self._parts(account, asset))
        if asset is None:
            return [*touching, self._opening(account), self._recoveries(account)]
        return [*touching, *self._claims(account, asset)]

    def _touching_assets(self, assets: Sequence[str]) -> list[_Source]:
        """Entries with a posting in one of the assets, defining it or publishing its program."""
        found = [self._legs(None, asset) for asset in assets]
        for table in (_DEFINED, _PUBLISHED):
            query = sa.select(table.c.seq).where(table.c.ledger_id == self.ledger_id, table.c.asset.in_(assets))
            found.append((query, table.c.seq))
        return found

    def _shared_with(self, account: str, asset: str | None) -> list[_Source]:
        """Entries that touch another's account, as far as the reader can tell that they do.

        It can where the entry is in one of its assets, where one of the two acted and the other took part, and, when it
        is a merchant, in what is between few of whom it is one. That two members bought on one day, recorded together,
        is known to neither.
        """
        found: list[_Source] = []
        for code in self.sight.assets if asset is None else set(self.sight.assets) & {asset}:
            query, column = self._unrewarded(account, code)
            mine = sa.or_(self._has_leg(column, POSTING.c.asset == code), self._acted_any(self.sight.accounts, column))
            found += [self._legs(account, code), (query.where(mine), column), self._acts(account, code)]
            found += [self._parts(account, code), *self._claims(account, code)]
        for own in self.sight.accounts:
            found += self._with_own(own, account, asset)
        return found + (self._of_partner(account, asset) if self.sight.is_organisation else [])

    def _with_own(self, own: str, account: str, asset: str | None) -> list[_Source]:
        """What an account of the reader's and another have to do with each other."""
        found: list[_Source] = []
        query, column = self._legs(own, asset)
        taking_part = sa.or_(self._has_leg(column, POSTING.c.account == account), self._is_party(account, column))
        sent = sa.and_(self._acted(own, column), taking_part)
        found.append((query.where(sa.or_(self._acted(account, column), sent)), column))
        query, column = self._parts(own, asset)
        found.append((query.where(self._acted(account, column)), column))
        keyed = [(own, account), (account, own)] if asset is None else []
        for actor, (query, column) in [
            (account, self._unrewarded(own, asset)),
            *((actor, self._opening(of)) for actor, of in keyed),
            *((actor, self._recoveries(of)) for actor, of in keyed),
        ]:
            found.append((query.where(self._acted(actor, column)), column))
        return found

    def _of_partner(self, account: str, asset: str | None) -> list[_Source]:
        """What a merchant knows of another account: what is between few of whom it is one, and its own acts."""
        own, found = self.sight.account, list[_Source]()
        between = [self._legs(own, None)] if asset is None else self._claims(own, asset)
        for query, column in [*between, self._parts(own, asset)]:
            touched = sa.or_(
                self._acted(account, column),
                self._has_leg(column, POSTING.c.account == account),
                self._is_party(account, column),
            )
            found.append((query.where(self._between_few(column), touched), column))
        codes = self.sight.partnered if asset is None else set(self.sight.partnered) & {asset}
        begun = [source for code in codes for source in (self._legs(account, code), self._unrewarded(account, code))]
        for query, column in [*begun, self._parts(account, asset)]:
            found.append((query.where(self._acted(own, column)), column))
        return found

    def _legs(self, account: str | None, asset: str | None) -> _Source:
        walked = self.narrow and asset is None
        seq = _LEG.c.seq if asset is not None or walked else _unindexed(_LEG.c.seq)
        query = sa.select(seq).where(_LEG.c.ledger_id == self.ledger_id).distinct()
        if account is not None:
            query = query.where((_unfound(_LEG.c.account) if walked else _LEG.c.account) == account)
        if asset is not None:
            query = query.where(_LEG.c.asset == asset)
        return query, seq

    def _unrewarded(self, account: str, asset: str | None) -> _Source:
        """Purchases that earned the account nothing, which have no posting; an index has only these."""
        query = sa.select(_BOUGHT.c.seq).where(
            _BOUGHT.c.ledger_id == self.ledger_id, _BOUGHT.c.account == account, _BOUGHT.c.points == _NOTHING
        )
        if asset is not None:
            query = query.where(_BOUGHT.c.asset == asset)
        return query.distinct(), _BOUGHT.c.seq

    def _acts(self, account: str, asset: str | None) -> _Source:
        """Acts of the account that are found by no posting of its own."""
        query = sa.select(_ACT.c.seq).where(
            _ACT.c.ledger_id == self.ledger_id, _ACT.c.actor == account, _ACT.c.kind.not_in(_FOUND_BY_POSTING)
        )
        if asset is None:
            return query, _ACT.c.seq
        # Merchants act on an asset that they issue or have an agreement about, members hardly without a posting of
        # their own. For any other merchant this is known before the first row is read.
        issued = sa.exists().where(
            ASSET.c.ledger_id == self.ledger_id, ASSET.c.asset == asset, ASSET.c.issuer == account
        )
        agreed = sa.exists().where(AGREEMENT.c.ledger_id == self.ledger_id, AGREEMENT.c.partner == account)
        acting = sa.or_(issued, agreed) if account.startswith(ROLE_PREFIXES["merchant"]) else sa.true()
        defining = [
            sa.exists().where(table.c.ledger_id == self.ledger_id, table.c.asset == asset, table.c.seq == _ACT.c.seq)
            for table in (_OTHER_ASSET, _OTHER_PROGRAM)
        ]
        about = sa.or_(self._has_leg(_ACT.c.seq, POSTING.c.asset == asset), *defining)
        return query.where(acting, about), _ACT.c.seq

    def _parts(self, account: str, asset: str | None) -> _Source:
        """Entries that the account is a party of without a posting or an act of its own."""
        query = sa.select(_PART.c.seq).where(_PART.c.ledger_id == self.ledger_id, _PART.c.account == account)
        if asset is not None:
            query = query.where(self._has_leg(_PART.c.seq, POSTING.c.asset == asset))
        return query, _PART.c.seq

    def _claims(self, account: str, asset: str) -> list[_Source]:
        """Entries by which the account owes or is owed money for what moved of an asset."""
        found: list[_Source] = []
        for side in ("creditor", "debtor"):
            seq = _unindexed(_CLAIM.c.seq)
            query = sa.select(seq).where(_CLAIM.c.ledger_id == self.ledger_id, _CLAIM.c[side] == account)
            moved = self._has_leg(seq, POSTING.c.asset == asset)
            found.append((query.where(moved).distinct(), seq))
        return found

    def _opening(self, account: str) -> _Source:
        query = sa.select(_OPENED.c.seq).where(_OPENED.c.ledger_id == self.ledger_id, _OPENED.c.account == account)
        return query, _OPENED.c.seq

    def _recoveries(self, account: str) -> _Source:
        """Recoveries of the account, begun or dropped, by whomever; an index has only these."""
        about = sa.func.substr(_ACT.c.data, *_ACCOUNT_IN_ENTRY)
        query = sa.select(_ACT.c.seq).where(
            _ACT.c.ledger_id == self.ledger_id,
            _ACT.c.kind.in_(_ABOUT_AN_ACCOUNT),
            about == account.encode(),
        )
        return query, _ACT.c.seq

    def _of_kind(self, query: Any, column: Any) -> Any:
        same = sa.exists().where(
            _OTHER_ENTRY.c.ledger_id == self.ledger_id,
            _OTHER_ENTRY.c.seq == column,
            _OTHER_ENTRY.c.kind == self.wanted.kind,
        )
        return query if self.wanted.kind is None else query.where(same)

    def _acted(self, account: str, column: Any) -> Any:
        return self._acted_any((account,), column)

    def _acted_any(self, accounts: Sequence[str], column: Any) -> Any:
        return sa.exists().where(
            _OTHER_ENTRY.c.ledger_id == self.ledger_id, _OTHER_ENTRY.c.seq == column, _OTHER_ENTRY.c.actor.in_(accounts)
        )

    def _between_few(self, column: Any) -> Any:
        return sa.exists().where(
            _OTHER_ENTRY.c.ledger_id == self.ledger_id,
            _OTHER_ENTRY.c.seq == column,
            _OTHER_ENTRY.c.kind.in_(sorted(BETWEEN_FEW)),
        )

    def _is_party(self, account: str, column: Any) -> Any:
        return sa.exists().where(
            _OTHER_PARTY.c.ledger_id == self.ledger_id, _OTHER_PARTY.c.account == account, _OTHER_PARTY.c.seq == column
        )

    def _has_leg(self, column: Any, condition: Any) -> Any:
        return sa.exists().where(POSTING.c.ledger_id == self.ledger_id, POSTING.c.seq == column, condition)


def account(store: Store, connection: Connection, account_id: str, time: str) -> Account | None:
    """The account with an id as it is at a time, if there is one: see :func:`ledger.rules.account_at`."""
    found = next(iter(store.accounts(connection, [account_id])), None)
    return account_at(found, time) if found is not None else None


class Authority(Struct, frozen=True, kw_only=True):
    """The keys that act for an account at a ``time``: its own, or its custodian's while it has none.

    As many as ``threshold`` must sign. ``keys_seq`` is the entry that gave the one or the other these keys, so it names
    them: it changes when they do.
    """

    account: Account
    time: str
    keys: tuple[str, ...]
    threshold: int
    keys_seq: int


def authority(store: Store, connection: Connection, account_id: str, clock_time: str) -> Authority | None:
    """The keys that would act for an account in an entry recorded now, by a clock that says ``clock_time``.

    An entry's time is never before that of the last one, so neither is the time that counts here. One read by primary
    key; another one for the custodian of an account in custody. ``None`` when there is no such account.
    """
    query = (
        sa.select(ACCOUNT, HEAD.c.last_time)
        .join(HEAD, HEAD.c.ledger_id == ACCOUNT.c.ledger_id)
        .where(ACCOUNT.c.ledger_id == store.ledger_id, ACCOUNT.c.account == account_id)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    time = max(clock_time, row.last_time)
    own = acting = account_at(account_of(row), time)
    if own.custodian is not None:
        custodian = account(store, connection, own.custodian, time)
        if custodian is None:
            raise CorruptionError(f"{own.id} is in the custody of {own.custodian}, which is not there: run the audit")
        acting = custodian
    return Authority(account=own, time=time, keys=acting.keys, threshold=acting.threshold, keys_seq=acting.keys_seq)


def in_custody(store: Store, connection: Connection, custodian: str, ids: Iterable[str], time: str) -> tuple[str, ...]:
    """The accounts among these that one account holds in custody at a time."""
    found = (account_at(each, time) for each in store.accounts(connection, ids))
    return tuple(each.id for each in found if each.custodian == custodian)


def holds_any(store: Store, connection: Connection, account_id: str, assets: Sequence[str]) -> bool:
    """Whether an account ever held one of the assets, or takes part in its program."""
    held = (
        sa.select(table.c.asset).where(
            table.c.ledger_id == store.ledger_id, table.c.account == account_id, table.c.asset.in_(assets)
        )
        for table in (POSTING, MEMBERSHIP)
    )
    return any(connection.execute(query.limit(1)).first() is not None for query in held)


def accounts(
    store: Store, connection: Connection, sight: Sight, role: str | None, page: Page, *, time: str
) -> list[Account]:
    """A page of the accounts a reader may see at a time, in the order they were opened; keys are sequence numbers."""
    query = sa.select(ACCOUNT).where(ACCOUNT.c.ledger_id == store.ledger_id)
    if role is not None:
        query = query.where(ACCOUNT.c.role == role)
    if not sight.everything:
        holds = sa.or_(
            *(
                sa.select(table.c.asset)  # a column of the index by account: else SQLite walks the primary key
                .where(
                    table.c.ledger_id == store.ledger_id,
                    table.c.account == ACCOUNT.c.account,
                    table.c.asset.in_(sight.assets),
                )
                .exists()
                for table in (POSTING, MEMBERSHIP)
            )
        )
        # Like rules.account_at: a recovery that is in effect ends custody.
        kept = sa.or_(ACCOUNT.c.recovery_at.is_(None), ACCOUNT.c.recovery_at > time)
        held = sa.and_(ACCOUNT.c.custodian == sight.account, kept)
        query = query.where(sa.or_(ACCOUNT.c.account == sight.account, held, holds))
    found = [account_at(account_of(row), time) for row in connection.execute(paged(query, (ACCOUNT.c.seq,), page))]
    return found[::-1] if page.from_end else found


def assets(store: Store, connection: Connection, *, issuer: str | None = None) -> list[Asset]:
    """All assets, or those of one issuer, by code."""
    query = sa.select(ASSET).where(ASSET.c.ledger_id == store.ledger_id).order_by(ASSET.c.asset)
    if issuer is not None:
        query = query.where(ASSET.c.issuer == issuer)
    return [asset_of(row) for row in connection.execute(query)]


def partnered_assets(store: Store, connection: Connection, partner: str) -> list[str]:
    """Assets of others about which an account has, or had, an agreement as the partner."""
    query = sa.select(AGREEMENT.c.agreement).where(
        AGREEMENT.c.ledger_id == store.ledger_id, AGREEMENT.c.partner == partner, AGREEMENT.c.version == 1
    )
    names = connection.execute(query).scalars()
    return sorted({name[: next(i for i, sign in enumerate(name) if not sign.isalnum())] for name in names})


def assets_page(store: Store, connection: Connection, page: Page) -> list[Asset]:
    """A page of the assets by code, which is the key."""
    query = sa.select(ASSET).where(ASSET.c.ledger_id == store.ledger_id)
    found = [asset_of(row) for row in connection.execute(paged(query, (ASSET.c.asset,), page))]
    return found[::-1] if page.from_end else found


def asset(store: Store, connection: Connection, code: str) -> Asset | None:
    """The asset with a code, if there is one."""
    return next(iter(store.assets(connection, [code])), None)


def supply(store: Store, connection: Connection, code: str) -> Supply:
    """An asset's supply, read from the system accounts that took the other legs."""
    return supplies(store, connection, [code])[0]


def supplies(store: Store, connection: Connection, codes: Sequence[str]) -> list[Supply]:
    """Supplies of several assets, in their order."""
    query = (
        sa.select(LOT.c.account, LOT.c.asset, sa.func.sum(LOT.c.points))
        .where(LOT.c.ledger_id == store.ledger_id, LOT.c.account.in_(SYSTEM_ACCOUNTS), LOT.c.asset.in_(codes))
        .group_by(LOT.c.account, LOT.c.asset)
    )
    sums = {(name, code): int(points) for name, code, points in connection.execute(query)}
    return [
        Supply(
            issued=-sums.get((SYS_ISSUED, code), 0),
            spent=sums.get((SYS_SPENT, code), 0),
            expired=sums.get((SYS_EXPIRED, code), 0),
        )
        for code in codes
    ]


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
    found = [program_of(row) for row in connection.execute(paged(query, (PROGRAM.c.version,), page))]
    return found[::-1] if page.from_end else found


def program_at(store: Store, connection: Connection, code: str, time: str) -> ProgramVersion | None:
    """The version of an asset's program in force at a time: the last published of those that have started."""
    return programs_at(store, connection, [code], time)[0]


def programs_at(store: Store, connection: Connection, codes: Sequence[str], time: str) -> list[ProgramVersion | None]:
    """The versions of several assets' programs in force at a time, in the order of the assets."""
    started = (
        sa.select(PROGRAM.c.asset, sa.func.max(PROGRAM.c.version))
        .where(PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.asset.in_(codes), PROGRAM.c.starts <= time)
        .group_by(PROGRAM.c.asset)
    )
    query = sa.select(PROGRAM).where(
        PROGRAM.c.ledger_id == store.ledger_id, sa.tuple_(PROGRAM.c.asset, PROGRAM.c.version).in_(started)
    )
    found = {row.asset: program_of(row) for row in connection.execute(query)}
    in_force = {code: version for code, version in found.items() if version.ends is None or time < version.ends}
    return [in_force.get(code) for code in codes]


def balances(
    store: Store, connection: Connection, account_id: str, time: str, codes: Sequence[str] | None = None
) -> list[Balance]:
    """Balances of an account at a time, by asset; only of some assets when ``codes`` is given."""
    return balances_of(store, connection, [account_id], time, codes)[0]


def balances_of(
    store: Store, connection: Connection, account_ids: Sequence[str], time: str, codes: Sequence[str] | None = None
) -> list[list[Balance]]:
    """Balances of several accounts, in their order."""
    query = (
        sa.select(LOT.c.account, LOT.c.asset, LOT.c.last_day, LOT.c.points)
        .where(LOT.c.ledger_id == store.ledger_id, LOT.c.account.in_(account_ids), _is_coined(store, LOT.c.asset))
        .order_by(LOT.c.account, LOT.c.asset, LOT.c.last_day)
    )
    if codes is not None:
        query = query.where(LOT.c.asset.in_(codes))
    lots: dict[str, dict[str, dict[str, int]]] = {account_id: {} for account_id in account_ids}
    for account_id, code, day, points in connection.execute(query):
        lots[account_id].setdefault(code, {})[day] = points
    held: dict[tuple[str, str], int] = {}
    for hold in _open_holds(store, connection, account_ids, codes):
        days = lots[hold.account].setdefault(hold.asset, {})
        if has_lapsed(hold, time):
            for day, points in hold.parts:
                days[day] = days.get(day, 0) + points
        else:
            held[hold.account, hold.asset] = held.get((hold.account, hold.asset), 0) + hold.remaining
    zones = time_zones(store, connection, sorted({code for found in lots.values() for code in found}))
    today = {code: local_date(time, zone) for code, zone in zones.items()}
    return [
        [
            _balance(code, lots[account_id][code], today.get(code, time[:10]), held.get((account_id, code), 0))
            for code in sorted(lots[account_id])
        ]
        for account_id in account_ids
    ]


def _is_coined(store: Store, code: Any) -> Any:
    """That a code is an asset's: others are settlement currencies, which no asset can have as its code."""
    return sa.exists().where(ASSET.c.ledger_id == store.ledger_id, ASSET.c.asset == code)


def _open_holds(
    store: Store, connection: Connection, account_ids: Sequence[str], codes: Sequence[str] | None
) -> list[PointsHold]:
    """Holds of accounts that no entry has closed, lapsed ones included."""
    # As a literal, a planner sees that this is the condition of the index of open holds.
    is_open = HOLD.c.status == sa.literal_column("'open'")
    query = sa.select(HOLD).where(HOLD.c.ledger_id == store.ledger_id, HOLD.c.account.in_(account_ids), is_open)
    if codes is not None:
        query = query.where(HOLD.c.asset.in_(codes))
    record_of = RECORD_TABLES["holds"].record_of
    return [record_of(tuple(row)[1:]) for row in connection.execute(query)]


def _balance(code: str, days: dict[str, int], today: str, held: int) -> Balance:
    return Balance(
        asset=code,
        total=sum(days.values()),
        spendable=spendable(days, today),
        lots=tuple(
            Lot(last_day=None if day == NO_LAST_DAY else day, points=points, is_spendable=day >= today)
            for day, points in sorted(days.items())
            if points > 0
        ),
        held=held,
        debt=-min(days.get(NO_LAST_DAY, 0), 0),
    )


def time_zones(store: Store, connection: Connection, codes: Sequence[str]) -> dict[str, str]:
    """Time zone of the program of each asset, which all its versions share: its last days are days there."""
    if not codes:
        return {}
    query = (
        sa.select(PROGRAM.c.asset, PROGRAM.c.document)
        .where(PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.asset.in_(codes))
        .order_by(PROGRAM.c.asset, PROGRAM.c.version)
    )
    return {code: json.loads(document)["time_zone"] for code, document in connection.execute(query)}


def programs_in_force(
    store: Store, connection: Connection, time: str, issuer: str | None = None, codes: Sequence[str] | None = None
) -> list[tuple[str, Program]]:
    """The programs whose last started version has not ended at a time, by asset: of an issuer, or of some assets."""
    query = sa.select(PROGRAM).where(PROGRAM.c.ledger_id == store.ledger_id, PROGRAM.c.starts <= time)
    if codes is not None:
        query = query.where(PROGRAM.c.asset.in_(codes))
    if issuer is not None:
        issued = sa.select(ASSET.c.asset).where(ASSET.c.ledger_id == store.ledger_id, ASSET.c.issuer == issuer)
        query = query.where(PROGRAM.c.asset.in_(issued))
    rows = connection.execute(query.order_by(PROGRAM.c.asset, PROGRAM.c.version))
    last = {row.asset: row for row in rows}
    return [(code, program_of(row).program) for code, row in last.items() if row.ends is None or row.ends > time]


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


_NAMING_ALL = BETWEEN_FEW | {"transfer", "grant", "record_purchases", "expire", "correct", "net", "freeze", "unfreeze"}
_NAMING_ALL |= {Vest.KIND}
"""Kinds that concern who acts, accounts and assets moved, who bought, and who is a party: nearly all entries."""


def concerned(store: Store, connection: Connection, first: int, end: int) -> frozenset[str] | None:
    """Accounts and assets that the entries ``first <= seq < end`` may concern; ``None`` when that may be any.

    Whoever follows none of them, and none of their entries, need not look at these. Four questions however many ask.
    """
    span = [
        (table.c.ledger_id == store.ledger_id, table.c.seq >= first, table.c.seq < end)
        for table in (ENTRY, POSTING, EARNING, PARTY)
    ]
    acts = connection.execute(sa.select(ENTRY.c.kind, ENTRY.c.actor).where(*span[0]).distinct()).all()
    if not _NAMING_ALL.issuperset(kind for kind, _ in acts):
        return None
    found = {actor for _, actor in acts}
    for table, within in ((POSTING, span[1]), (EARNING, span[2])):
        for row in connection.execute(sa.select(table.c.account, table.c.asset).where(*within).distinct()):
            found.update(row)
    found.update(connection.execute(sa.select(PARTY.c.account).where(*span[3]).distinct()).scalars())
    return frozenset(found)


def points_after(store: Store, connection: Connection, account_id: str, seq: int) -> dict[str, int]:
    """All points an account had of each asset after an entry: what it has now, less what was moved since."""
    lots = (
        sa.select(LOT.c.asset, sa.func.sum(LOT.c.points))
        .where(LOT.c.ledger_id == store.ledger_id, LOT.c.account == account_id, _is_coined(store, LOT.c.asset))
        .group_by(LOT.c.asset)
    )
    points = {asset: int(total) for asset, total in connection.execute(lots)}
    moved = (
        sa.select(POSTING.c.asset, sa.func.sum(POSTING.c.amount))
        .where(POSTING.c.ledger_id == store.ledger_id, POSTING.c.account == account_id, POSTING.c.seq > seq)
        .where(_is_coined(store, POSTING.c.asset))
        .group_by(POSTING.c.asset)
    )
    for asset, amount in connection.execute(moved):
        points[asset] = points.get(asset, 0) - int(amount)
    return points


def statement(store: Store, connection: Connection, wanted: StatementKey, page: Page) -> Statement:
    """An account's statement; keys of its lines are (seq, leg).

    The balance now is read from the lots. Without a span nothing more is summed for the first page, nor for the last
    when it is read from the end; a page between them sums the postings from its end of the list, and a span what was
    recorded since it began.
    """
    size = store.head(connection).size
    first = 0 if wanted.start is None else first_seq_at(store, connection, wanted.start)
    end = size if wanted.end is None else first_seq_at(store, connection, wanted.end)
    mine = sa.and_(
        POSTING.c.ledger_id == store.ledger_id, POSTING.c.account == wanted.account, POSTING.c.asset == wanted.asset
    )

    def moved(*conditions: Any) -> int:
        return int(connection.execute(sa.select(sa.func.sum(POSTING.c.amount)).where(mine, *conditions)).scalar() or 0)

    closing = _points_now(store, connection, wanted) - (moved(POSTING.c.seq >= end) if end < size else 0)
    opening = closing - moved(POSTING.c.seq >= first, POSTING.c.seq < end) if first else 0
    query = (
        sa.select(
            POSTING.c.seq, POSTING.c.leg, POSTING.c.amount, POSTING.c.lot, ENTRY.c.time, ENTRY.c.kind, ENTRY.c.data
        )
        .join(ENTRY, sa.and_(ENTRY.c.ledger_id == POSTING.c.ledger_id, ENTRY.c.seq == POSTING.c.seq))
        .where(mine, POSTING.c.seq >= first, POSTING.c.seq < end)
    )
    key = (POSTING.c.seq, POSTING.c.leg)
    rows = list(connection.execute(paged(query, key, page)))
    rows = rows[::-1] if page.from_end else rows
    if not rows:
        return Statement(opening=opening, closing=closing, lines=[])
    if page.from_end:
        last = (rows[-1].seq, rows[-1].leg)
        after = moved(POSTING.c.seq < end, _beyond(key, last, descending=False))
        running = closing - after - sum(row.amount for row in rows)
    else:
        start = (rows[0].seq, rows[0].leg)
        running = opening + moved(POSTING.c.seq >= first, _beyond(key, start, descending=True))
    return Statement(opening=opening, closing=closing, lines=_lines(rows, running))


def _points_now(store: Store, connection: Connection, wanted: StatementKey) -> int:
    """All points the account of a statement has of its asset."""
    mine = (LOT.c.ledger_id == store.ledger_id, LOT.c.account == wanted.account, LOT.c.asset == wanted.asset)
    return int(connection.execute(sa.select(sa.func.sum(LOT.c.points)).where(*mine)).scalar() or 0)


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
                last_day=None if row.lot == NO_LAST_DAY else row.lot,
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
    rows = connection.execute(paged(_from_account(query, page), (EARNING.c.account, _MONTH), page))
    found = [
        MonthPoints(
            account=row.account,
            month=row.month,
            points=int(row.points),
            purchases=row.purchases,
            amount=_amount(row),
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


_HALF = sa.literal_column(str(2**26), sa.BigInteger())

_EARNED = (
    sa.func.sum(EARNING.c.points).label("points"),
    sa.func.count(EARNING.c.amount).label("purchases"),
    # One amount may be 2^53-1, so 1,024 of them overflow an integer of SQLite; their halves of 27 and 26 bits do not.
    sa.func.sum(EARNING.c.amount // _HALF).label("amount_high"),
    sa.func.sum(EARNING.c.amount % _HALF).label("amount_low"),
)


def _amount(row: Any) -> int:
    """The sum of the amounts of a row of ``_EARNED``, exactly, however large."""
    return int(row.amount_high or 0) * 2**26 + int(row.amount_low or 0)


def points_totals(
    store: Store, connection: Connection, code: str, account_id: str | None = None
) -> tuple[MonthTotal, list[MonthTotal]]:
    """What all members, or one, earned of an asset: in total, and by month."""
    members = sa.func.count(EARNING.c.account.distinct()).label("members")
    mine = sa.and_(EARNING.c.ledger_id == store.ledger_id, EARNING.c.asset == code)
    if account_id is not None:
        mine = sa.and_(mine, EARNING.c.account == account_id)
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
        amount=_amount(row),
    )


def allotment_alerts(store: Store, connection: Connection, seqs: Sequence[int]) -> dict[int, AllotmentAlert]:
    """Which of these entries brought a partner's allotment below what its terms call low."""
    query = sa.select(ALLOTMENT_ALERT).where(
        ALLOTMENT_ALERT.c.ledger_id == store.ledger_id, ALLOTMENT_ALERT.c.seq.in_(list(seqs))
    )
    return {
        row.seq: AllotmentAlert(agreement=row.agreement, seq=row.seq, remaining=row.remaining)
        for row in connection.execute(query)
    }
