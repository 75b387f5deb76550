"""What the ledger knows: the records its entries leave, and why an operation may be refused.

A :class:`State` holds all of it for an auditor, and the part that a batch touches for a writer. Agreements, holds,
claims and their like are kept in :class:`Records`, which remember what has changed, so that a writer stores just that.
Nothing here decides anything: see :mod:`ledger.rules` and the modules beside it.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Generic, TypeVar

from msgspec import Struct

from ledger.encoding import AccountId, OpId
from ledger.entries import NO_LAST_DAY, Posting
from ledger.operations import Operation
from ledger.programs import ProgramVersion, local_date, version_at
from ledger.terms import PurchaseLine, Quantity, Terms, TransferTerms, Value

SYS_ISSUED = AccountId("sys_issued")
SYS_SPENT = AccountId("sys_spent")
SYS_EXPIRED = AccountId("sys_expired")
SYS_HELD = AccountId("sys_held")
SYSTEM_ACCOUNTS = (SYS_ISSUED, SYS_SPENT, SYS_EXPIRED, SYS_HELD)
"""They take the other leg of issue, redemption, expiry and holds: every asset sums to zero over all accounts."""

SUPPLY_ACCOUNTS = (SYS_ISSUED, SYS_SPENT, SYS_EXPIRED)
"""What they hold says how many points circulate: issued less spent less expired. Points on hold do."""

ORDER_SCOPE = "order"
"""Scope of purchases' order references; a grant's reference has its activity as scope, prefixed ``grant:``."""

REFUND_SCOPE, CORRECTION_SCOPE = "refund", "correction"
ALLOTMENT_SCOPE, PAYMENT_SCOPE, PLAN_SCOPE = "allotment", "payment", "plan"
"""Scopes of the references of operations that are no earnings."""


class Code(StrEnum):
    """Every reason for which an operation is refused. The list is closed: clients may switch on it."""

    MALFORMED = "MALFORMED"
    NOT_CANONICAL = "NOT_CANONICAL"
    TOO_LARGE = "TOO_LARGE"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    WRONG_LEDGER = "WRONG_LEDGER"
    EXPIRED = "EXPIRED"
    AT_IN_FUTURE = "AT_IN_FUTURE"
    GENESIS_EXISTS = "GENESIS_EXISTS"
    UNKNOWN_ACCOUNT = "UNKNOWN_ACCOUNT"
    SIGNATURE_MISSING = "SIGNATURE_MISSING"
    SIGNATURE_UNEXPECTED = "SIGNATURE_UNEXPECTED"
    ACCOUNT_FROZEN = "ACCOUNT_FROZEN"
    APPROVAL_MISSING = "APPROVAL_MISSING"
    NOT_PERMITTED = "NOT_PERMITTED"
    ALREADY_FROZEN = "ALREADY_FROZEN"
    NOT_FROZEN = "NOT_FROZEN"
    RECOVERY_PENDING = "RECOVERY_PENDING"
    NO_RECOVERY = "NO_RECOVERY"
    LOG_KEY_USED = "LOG_KEY_USED"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    ASSET_EXISTS = "ASSET_EXISTS"
    UNKNOWN_CURRENCY = "UNKNOWN_CURRENCY"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    TIME_ZONE_MISMATCH = "TIME_ZONE_MISMATCH"
    VALUE_MISSING = "VALUE_MISSING"
    VERSION_CONFLICT = "VERSION_CONFLICT"
    STARTS_IN_PAST = "STARTS_IN_PAST"
    PROGRAM_MISSING = "PROGRAM_MISSING"
    PROGRAM_CLOSED = "PROGRAM_CLOSED"
    ORDER_EXISTS = "ORDER_EXISTS"
    REFERENCE_EXISTS = "REFERENCE_EXISTS"
    ACTIVITY_UNKNOWN = "ACTIVITY_UNKNOWN"
    GRANT_TOO_LARGE = "GRANT_TOO_LARGE"
    NOT_TRANSFERABLE = "NOT_TRANSFERABLE"
    NOT_A_HOLDER = "NOT_A_HOLDER"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    UNKNOWN_AGREEMENT = "UNKNOWN_AGREEMENT"
    NO_AGREEMENT = "NO_AGREEMENT"
    NOTICE_TOO_SHORT = "NOTICE_TOO_SHORT"
    AGREEMENT_ENDED = "AGREEMENT_ENDED"
    PAYING_LOOP = "PAYING_LOOP"
    OFF_STEP = "OFF_STEP"
    BELOW_MINIMUM = "BELOW_MINIMUM"
    ABOVE_MAXIMUM = "ABOVE_MAXIMUM"
    CAP_EXCEEDED = "CAP_EXCEEDED"
    OUTCOME_TOO_SMALL = "OUTCOME_TOO_SMALL"
    FEE_ABOVE_LIMIT = "FEE_ABOVE_LIMIT"
    ALLOTMENT_USED_UP = "ALLOTMENT_USED_UP"
    UNKNOWN_HOLD = "UNKNOWN_HOLD"
    HOLD_CLOSED = "HOLD_CLOSED"
    HOLD_LAPSED = "HOLD_LAPSED"
    HOLD_EXCEEDED = "HOLD_EXCEEDED"
    TOO_MANY_HOLDS = "TOO_MANY_HOLDS"
    UNTIL_OUT_OF_RANGE = "UNTIL_OUT_OF_RANGE"
    UNKNOWN_ORIGINAL = "UNKNOWN_ORIGINAL"
    REFUND_TOO_LARGE = "REFUND_TOO_LARGE"
    PURCHASE_TOO_OLD = "PURCHASE_TOO_OLD"
    ALREADY_ENROLLED = "ALREADY_ENROLLED"
    UNKNOWN_FORMULA = "UNKNOWN_FORMULA"
    INVITED_TOO_LATE = "INVITED_TOO_LATE"
    LIMIT_REACHED = "LIMIT_REACHED"
    EVIDENCE_MISSING = "EVIDENCE_MISSING"
    EVIDENCE_USED = "EVIDENCE_USED"
    EVIDENCE_UNEXPECTED = "EVIDENCE_UNEXPECTED"
    SCORE_MISSING = "SCORE_MISSING"
    SCORE_UNEXPECTED = "SCORE_UNEXPECTED"
    UNKNOWN_REWARD = "UNKNOWN_REWARD"
    REWARD_UNAVAILABLE = "REWARD_UNAVAILABLE"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    PRICE_MISMATCH = "PRICE_MISMATCH"
    UNKNOWN_VOUCHER = "UNKNOWN_VOUCHER"
    VOUCHER_CLOSED = "VOUCHER_CLOSED"
    VOUCHER_EXPIRED = "VOUCHER_EXPIRED"
    UNKNOWN_PLAN = "UNKNOWN_PLAN"
    NO_PLAN = "NO_PLAN"
    NO_POOL = "NO_POOL"
    ALREADY_POOLED = "ALREADY_POOLED"
    UNKNOWN_LINE = "UNKNOWN_LINE"
    UNKNOWN_CLAIM = "UNKNOWN_CLAIM"
    CLAIM_CLOSED = "CLAIM_CLOSED"
    DISPUTED = "DISPUTED"
    NOT_DISPUTED = "NOT_DISPUTED"
    NETTING_MISMATCH = "NETTING_MISMATCH"
    SETTLED_TOO_MUCH = "SETTLED_TOO_MUCH"
    NOT_YET_DUE = "NOT_YET_DUE"
    NOTHING_DUE = "NOTHING_DUE"
    POINTS_OVERFLOW = "POINTS_OVERFLOW"
    SUPPLY_EXCEEDED = "SUPPLY_EXCEEDED"
    INSUFFICIENT_POINTS = "INSUFFICIENT_POINTS"
    AMOUNT_OVERFLOW = "AMOUNT_OVERFLOW"
    OVERLOADED = "OVERLOADED"
    UNAVAILABLE = "UNAVAILABLE"


RETRYABLE = frozenset({Code.AT_IN_FUTURE, Code.OVERLOADED, Code.UNAVAILABLE})
"""Codes after which the same document, sent again a little later, may be recorded without anyone changing anything."""


class Rejection(Struct, frozen=True):
    """A refused operation: why, in words that say what to do, and which field. Nothing was recorded.

    ``details`` carries integers or text a program can use, such as ``available_points`` and ``required_points``.
    """

    code: Code
    message: str
    path: tuple[str, ...] = ()
    details: Mapping[str, int | str] = {}

    @property
    def retryable(self) -> bool:
        """Whether sending the same document again can help."""
        return self.code in RETRYABLE


class Recovery(Struct, frozen=True, kw_only=True):
    """Keys that are an account's from ``effective_at`` on, as the operator said in entry ``seq``."""

    keys: tuple[str, ...]
    threshold: int
    effective_at: str
    seq: int
    approval_threshold: int | None = None


class Account(Struct, frozen=True, kw_only=True):
    """A holder, merchant, auditor or the operator. Without ``keys`` the ``custodian``'s keys stand in for its own.

    ``keys_seq`` is the entry that gave it its keys. Once a ``recovery`` is in effect, see
    :func:`ledger.rules.account_at`. ``threshold`` of its keys sign for it, ``approval_threshold`` (if there is one)
    where approval is needed. While ``frozen_seq`` names the entry that froze it, it cannot act.
    """

    id: AccountId
    role: str
    keys: tuple[str, ...]
    threshold: int
    custodian: AccountId | None
    name: str | None
    opened_at: str
    seq: int
    keys_seq: int
    recovery: Recovery | None = None
    approval_threshold: int | None = None
    frozen_seq: int | None = None
    frozen_reason: str | None = None

    @property
    def approvals(self) -> int:
        """How many of its keys sign what needs approval."""
        return self.approval_threshold or self.threshold


class Asset(Struct, frozen=True, kw_only=True):
    """A merchant's points. ``supply_cap`` bounds the circulating supply: issued less spent less expired."""

    code: str
    issuer: AccountId
    name: str
    scale: int
    supply_cap: int | None
    transferable: bool
    value: Value | None
    seq: int
    transfer_terms: TransferTerms | None = None


class Parameters(Struct, frozen=True, kw_only=True):
    """What genesis fixes for the life of the ledger. ``units`` maps a currency to the minor units of one unit.

    ``log_key`` is the log's first; see :attr:`State.log_keys` for the others.
    """

    operator: AccountId
    clock_tolerance_ms: int
    recovery_delay_ms: int
    units: Mapping[str, int]
    log_key: str
    name: str


Part = tuple[str, int]
"""Points of one lot: the last day (:data:`NO_LAST_DAY` for none) and how many."""


class Agreement(Struct, frozen=True, kw_only=True):
    """A version of the terms between an asset's ``issuer`` and a ``partner``, as entry ``seq`` made it."""

    agreement: str
    version: int
    issuer: str
    partner: str
    starts: str
    ends: str | None
    notice_days: int
    terms: Terms
    seq: int


class PointsHold(Struct, frozen=True, kw_only=True):
    """Points that ``account`` set aside for ``merchant``: ``amount`` at first, ``parts`` now, earliest lot first.

    ``agreement`` and ``version`` are those under which they were placed, where the merchant is not the issuer.
    ``status`` is open, captured, released or lapsed; an open hold has lapsed too once ``until`` has passed.
    """

    hold: str
    account: str
    asset: str
    merchant: str
    amount: int
    captured: int
    parts: tuple[Part, ...]
    agreement: str | None
    version: int | None
    until: str
    reference: str | None
    seq: int
    status: str

    @property
    def remaining(self) -> int:
        """Points that are still on hold."""
        return sum(points for _, points in self.parts)


class Spending(Struct, frozen=True, kw_only=True):
    """What an operation (its id in hex) of the ``kind`` redeem, capture or exchange took, for refunds.

    ``merchant`` received ``amount`` points of ``account``, of the lots in ``parts``, in the order they were spent; by
    an exchange ``out_points`` came back. ``claim_amount`` and ``fee_amount`` were owed by the agreement's terms.
    ``refunded`` points of the amount have returned since. Of what a pool spent, ``holders`` has whose each of the parts
    was. For a ``reward`` so many ``vouchers`` were had, the first of their entry.
    """

    operation: str
    seq: int
    kind: str
    time: str
    account: str
    asset: str
    amount: int
    merchant: str
    agreement: str | None
    version: int | None
    parts: tuple[Part, ...]
    out_points: int = 0
    claim_amount: int = 0
    fee_amount: int = 0
    refunded: int = 0
    holders: tuple[str, ...] = ()
    reward: str | None = None
    vouchers: int = 0


class PurchaseRefund(Struct, frozen=True, kw_only=True):
    """How much of a merchant's purchase was refunded in all: minor units, and the points that were due for them.

    ``returned`` of those points the member had and gave back; the rest was forgiven, or is owed, as points or money.
    ``lines`` are the minor units of each line of a purchase that has lines.
    """

    merchant: str
    reference: str
    amount: int
    points: int
    returned: int
    lines: tuple[int, ...] = ()


class Claim(Struct, frozen=True, kw_only=True):
    """Money that entry ``seq`` says ``debtor`` owes ``creditor``; ``status`` is open, disputed or cancelled.

    ``disputed_by`` is who disputed it last: of one that stands, the party that cannot dispute it again.
    """

    seq: int
    index: int
    debtor: str
    creditor: str
    currency: str
    amount: int
    day: str
    agreement: str | None
    status: str = "open"
    disputed_by: str | None = None


NOT_NETTED = -1
"""The ``netting`` of an obligation that no netting has replaced yet."""


class Obligation(Struct, frozen=True, kw_only=True):
    """What ``debtor`` owes ``creditor`` of the claims of one UTC day, or by a payment of the netting entry.

    Disputed claims are not in it, nor what has been settled. One of nothing does not exist.
    """

    currency: str
    debtor: str
    creditor: str
    netting: int
    day: str
    amount: int


class Netting(Struct, frozen=True, kw_only=True):
    """Entry ``seq`` netted what ``merchants`` owed each other through a day."""

    seq: int
    currency: str
    through: str
    merchants: tuple[str, ...]


class Allotment(Struct, frozen=True, kw_only=True):
    """Points a prepaid partner bought in all, and how many of them it has left to give."""

    agreement: str
    allotted: int
    remaining: int


class AllotmentAlert(Struct, frozen=True, kw_only=True):
    """Entry ``seq`` brought a partner's allotment below what its terms say is low."""

    agreement: str
    seq: int
    remaining: int


class Usage(Struct, frozen=True, kw_only=True):
    """Points that were counted under a cap: of an account, or of all (``*``), in a period such as ``2026-11``."""

    scope: str
    account: str
    period: str
    points: int


class Membership(Struct, frozen=True, kw_only=True):
    """How an account takes part in a program: since when, what it chose, who invited it, where it stands.

    ``purchases`` counts those that were not refunded whole. ``tier`` is the one noted last, which lasts through
    ``tier_until``, a local date, or for ever; what a member has a right to is in :mod:`ledger.standing`. A ``plan`` is
    paid from ``plan_from`` through ``plan_until``. ``pool`` is the id of its pool.
    """

    asset: str
    account: str
    joined_on: str
    purchases: int = 0
    formula: str | None = None
    invited_by: str | None = None
    tier: str | None = None
    tier_until: str = NO_LAST_DAY
    plan: str | None = None
    plan_from: str | None = None
    plan_until: str | None = None
    pool: str | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """What a member did in a period, of what the ``basis`` of tiers counts; nothing has no record.

    ``period`` is ``2026``, ``2026-11``, or the first day of a membership year.
    """

    asset: str
    account: str
    basis: str
    period: str
    count: int


class Pending(Struct, frozen=True, kw_only=True):
    """Points of a merchant's purchase that will be issued once they vest, on the local date ``vests_on``.

    They will be in the lot of ``last_day``. ``status_points`` of the program's status asset vest with them, and
    ``inviter_points`` for who invited the member. ``version`` is that of the program of the purchase.
    """

    merchant: str
    order: str
    asset: str
    account: str
    points: int
    vests_on: str
    last_day: str
    version: int
    status_points: int = 0
    inviter: str | None = None
    inviter_points: int = 0


class Voucher(Struct, frozen=True, kw_only=True):
    """The right to a reward, the ``index``-th that entry ``seq`` gave, good through ``last_day``.

    ``status`` is issued, used (in entry ``used_seq``) or cancelled; one that was not used ends by time alone.
    ``worth`` is in minor units of the program's currency.
    """

    seq: int
    index: int
    account: str
    asset: str
    merchant: str
    reward: str
    price: int
    worth: int | None
    last_day: str
    status: str = "issued"
    used_seq: int | None = None


class Pool(Struct, frozen=True, kw_only=True):
    """Members who spend each other's points of an asset, in the order in which they came."""

    pool: str
    asset: str
    members: tuple[str, ...]


class Reminder(Struct, frozen=True, kw_only=True):
    """What entry ``seq`` reminded an account of: its balance, points that expire from ``day`` on, or its tier."""

    seq: int
    account: str
    asset: str
    about: str
    points: int = 0
    day: str | None = None
    tier: str | None = None


class Reminded(Struct, frozen=True, kw_only=True):
    """How far an account has been reminded: through a period, through a last day by ``expiry_30``, or of which tier.

    ``about`` has the number of days for expiry, since there may be several reminders of a lot.
    """

    asset: str
    account: str
    about: str
    through: str


R = TypeVar("R", bound=Struct)
Key = tuple[Any, ...]


class Records(Generic[R]):
    """Records of one kind, by the first ``key_size`` of their fields, and which keys changed since they were loaded.

    ``group_of`` names the group by which records are found together, or ``None`` for one that is not looked for.
    """

    __slots__ = ("_fields", "_group_of", "_groups", "_records", "changed", "key_size", "record_type")

    def __init__(self, record_type: type[R], key_size: int, group_of: Callable[[R], Key | None] | None = None) -> None:
        self.record_type = record_type
        self.key_size = key_size
        self.changed: dict[Key, None] = {}
        self._fields = record_type.__struct_fields__[:key_size]
        self._group_of = group_of
        self._records: dict[Key, R] = {}
        self._groups: dict[Key, dict[Key, None]] = {}

    def key_of(self, record: R) -> Key:
        """The key of a record."""
        return tuple(getattr(record, name) for name in self._fields)

    def get(self, *key: Any) -> R | None:
        """The record with a key."""
        return self._records.get(key)

    def group(self, *group: Any) -> list[R]:
        """The records of a group, in the order of their keys."""
        keys = self._groups.get(group)
        return [self._records[key] for key in sorted(keys)] if keys else []

    def __iter__(self) -> Iterator[R]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def load(self, record: R) -> None:
        """Add a record that is stored."""
        self._write(self.key_of(record), record)

    def change(self, key: Key, record: R | None) -> None:
        """Write a record in place of the one with its key, or remove that."""
        self._write(key, record)
        self.changed[key] = None

    def _write(self, key: Key, record: R | None) -> None:
        before = self._records.get(key)
        if self._group_of is not None:
            was = None if before is None else self._group_of(before)
            now = None if record is None else self._group_of(record)
            if was != now:
                if was is not None:
                    del self._groups[was][key]
                if now is not None:
                    self._groups.setdefault(now, {})[key] = None
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record


Change = tuple[str, Key, Any]
"""Of which records, which key, and the record it is to have; ``None`` removes it."""


class State:
    """What the ledger knows: all of it for an auditor, the touched part for a writer's batch.

    ``lots`` maps (account, asset) to {last day: points}; an empty lot is removed. ``references`` maps (merchant,
    scope, reference) to the entry that used it. A lookup that finds nothing means the thing does not exist, so a
    partial state must hold everything :func:`touches` names, and the custodians of the accounts among it. ``log_keys``
    are the log's verifier keys in order, each with the entry that named it, see :func:`log_key_for`. ``dated`` indexes
    the holders of each dated lot, by asset, for :func:`ledger.rules.due_lots`. ``size`` is how many entries there are,
    and so the number of the next. ``earnings`` are the purchases and grants behind references, where they are known.
    """

    __slots__ = (
        "accounts",
        "agreements",
        "allotment_alerts",
        "allotments",
        "assets",
        "claims",
        "dated",
        "earnings",
        "holds",
        "log_keys",
        "lots",
        "memberships",
        "nettings",
        "obligations",
        "origin",
        "parameters",
        "pending",
        "pools",
        "programs",
        "progress",
        "purchase_refunds",
        "recorded",
        "references",
        "reminded",
        "reminders",
        "size",
        "spendings",
        "usages",
        "vouchers",
    )

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.parameters: Parameters | None = None
        self.log_keys: tuple[tuple[int, str], ...] = ()
        self.accounts: dict[str, Account] = {}
        self.assets: dict[str, Asset] = {}
        self.programs: dict[str, tuple[ProgramVersion, ...]] = {}
        self.lots: dict[tuple[str, str], dict[str, int]] = {}
        self.references: dict[tuple[str, str, str], int] = {}
        self.recorded: dict[OpId, int] = {}
        self.dated: dict[str, dict[str, set[str]]] = {}
        self.size = 0
        self.earnings: dict[tuple[str, str, str], tuple[str, Earning]] = {}
        self.agreements = Records(Agreement, 2, lambda agreement: (agreement.agreement,))
        self.holds = Records(PointsHold, 1, _open_group)
        self.spendings = Records(Spending, 1)
        self.purchase_refunds = Records(PurchaseRefund, 2)
        self.claims = Records(Claim, 2)
        self.obligations = Records(Obligation, 5, lambda owed: (owed.currency, owed.debtor, owed.creditor))
        self.nettings = Records(Netting, 1)
        self.allotments = Records(Allotment, 1)
        self.allotment_alerts = Records(AllotmentAlert, 2)
        self.usages = Records(Usage, 3)
        self.memberships = Records(Membership, 2)
        self.progress = Records(Progress, 4, lambda progress: (progress.asset, progress.account))
        self.pending = Records(Pending, 2)
        self.vouchers = Records(Voucher, 2)
        self.pools = Records(Pool, 1)
        self.reminders = Records(Reminder, 2)
        self.reminded = Records(Reminded, 3, lambda reminded: (reminded.asset, reminded.account))

    def records(self, name: str) -> Records[Any]:
        """The records that :data:`RECORDS` names."""
        found: Records[Any] = getattr(self, name)
        return found

    def lots_of(self, account: str, asset: str) -> Mapping[str, int]:
        """Points of an account by last day; empty when it has none."""
        return self.lots.get((account, asset), {})

    def balance(self, account: str, asset: str) -> int:
        """All points of an account, usable or not."""
        return sum(self.lots_of(account, asset).values())

    def today(self, asset: str, time: str) -> str:
        """The local date of a time for an asset: in the time zone of its program, UTC without one."""
        versions = self.programs.get(asset)
        return local_date(time, versions[0].program.time_zone) if versions else time[:10]

    def program_at(self, asset: str, time: str) -> ProgramVersion | None:
        """The version of an asset's program that was in force at a time, closed or not."""
        return version_at(self.programs.get(asset, ()), time)

    def add_lot(self, account: str, asset: str, day: str, amount: int) -> None:
        """Change one lot, keeping the index of dated lots in step."""
        lots = self.lots.get((account, asset))
        if lots is None:
            lots = self.lots[(account, asset)] = {}
        points = lots.get(day, 0) + amount
        if points:
            lots[day] = points
        else:
            del lots[day]
        if day != NO_LAST_DAY:
            holders = self.dated.setdefault(asset, {}).setdefault(day, set())
            if points:
                holders.add(account)
            else:
                holders.discard(account)
                if not holders:
                    del self.dated[asset][day]


def _open_group(hold: PointsHold) -> Key | None:
    return (hold.account, hold.asset) if hold.status == "open" else None


RECORDS = (
    "agreements",
    "holds",
    "spendings",
    "purchase_refunds",
    "claims",
    "obligations",
    "nettings",
    "allotments",
    "allotment_alerts",
    "usages",
    "memberships",
    "progress",
    "pending",
    "vouchers",
    "pools",
    "reminders",
    "reminded",
)
"""The names of all :class:`Records` of a state."""


class Touches(Struct, frozen=True):
    """What a set of operations depends on: account ids, asset codes, (account, asset) balances and references.

    ``records`` are (name, key) of :data:`RECORDS`, ``groups`` are (name, group) of them, or (name, ()) for all.
    ``earnings`` are references whose purchases must be known, not only that they are used.
    """

    accounts: set[str]
    assets: set[str]
    balances: set[tuple[str, str]]
    references: set[tuple[str, str, str]]
    records: set[tuple[str, Key]]
    groups: set[tuple[str, Key]]
    earnings: set[tuple[str, str, str]]

    @classmethod
    def none(cls) -> "Touches":
        """Nothing yet."""
        return cls(set(), set(), set(), set(), set(), set(), set())

    def less(self, other: "Touches") -> "Touches":
        """What these name and the others do not."""
        names = self.__struct_fields__
        return Touches(*(getattr(self, name) - getattr(other, name) for name in names))

    def add(self, other: "Touches") -> None:
        """Name what the others name too."""
        for name in self.__struct_fields__:
            getattr(self, name).update(getattr(other, name))

    def __bool__(self) -> bool:
        keys = self.accounts or self.assets or self.balances or self.references
        return bool(keys or self.records or self.groups or self.earnings)


class Circumstances(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the points of a purchase depend on beside its amount: what its document says, and who bought.

    ``tier``, ``plan``, ``formula`` and ``invited`` are those of the member at the time, ``first`` tells that it was its
    first purchase. ``room`` is how many points were left under the earning cap.
    """

    channel: str | None = None
    first: bool = False
    formula: str | None = None
    invited: bool = False
    joined_on: str | None = None
    lines: tuple[PurchaseLine, ...] = ()
    plan: str | None = None
    quantities: tuple[Quantity, ...] = ()
    room: int | None = None
    tender: str | None = None
    tier: str | None = None


class Earning(Struct, frozen=True, gc=False):
    """One event that gave points, a purchase or a grant: the origin of every credit, and good once.

    ``merchant``, ``scope`` and ``reference`` name the event; ``earned_on`` is its local date in the program's time
    zone; ``amount`` is in minor units, absent for a grant; ``points`` may be 0 for a purchase too small to earn.
    ``version`` is that of the program it was under. Where ``merchant`` is a partner of the issuer,
    ``agreement_version`` is that of their earning agreement, and ``claim_amount`` its share of what the entry's points
    cost the debtor. ``circumstances`` are those of a purchase whose points depend on more than its amount, ``score`` is
    the answer that a grant has.
    """

    merchant: str
    scope: str
    reference: str
    account: str
    earned_on: str
    amount: int | None
    points: int
    version: int
    agreement_version: int | None = None
    claim_amount: int = 0
    circumstances: Circumstances | None = None
    score: int | None = None


class Admission(Struct, frozen=True, gc=False):
    """What an admitted operation does: its postings in the order they are recorded, and the events it used up.

    ``effective_at`` is when the recovery it begins takes effect. ``changes`` are the records it leaves, ``references``
    those it used that are no earnings, ``parties`` the accounts it concerns beside its actor and those of its postings.
    """

    postings: tuple[Posting, ...] = ()
    earnings: tuple[Earning, ...] = ()
    effective_at: str | None = None
    changes: tuple[Change, ...] = ()
    references: tuple[tuple[str, str, str], ...] = ()
    parties: tuple[str, ...] = ()


Decision = Admission | Rejection
"""What becomes of an operation."""

Op = TypeVar("Op", bound=Operation)


class Request(Struct, Generic[Op], frozen=True, gc=False):
    """An operation to decide: whose authority it uses, as of the recording time, and on which state.

    ``approved`` tells whether as many of the actor's keys signed as approval asks for; in a preview they are taken to.
    """

    state: State
    op: Op
    op_id: OpId
    actor: Account
    time: str
    approved: bool


def grant_scope(activity: str) -> str:
    """Scope in which a grant's reference is unique."""
    return f"grant:{activity}"


INVITATION_SCOPE = "invitation"
"""Scope of the earnings of those who invited a member; their reference is the order of its first purchase."""


def evidence_scope(asset: str) -> str:
    """Scope in which the evidence of a grant is good once, of the asset's issuer."""
    return f"evidence:{asset}"


def earned_scope(asset: str) -> str:
    """Scope of what members earn by purchases, where that is bounded."""
    return f"earned:{asset}"


def activity_scope(asset: str, activity: str) -> str:
    """Scope of how often members have done an activity, where that is bounded."""
    return f"activity:{asset}:{activity}"


def invited_scope(asset: str) -> str:
    """Scope of how often members were rewarded for an invitation, where that is bounded."""
    return f"invited:{asset}"


def reward_scope(asset: str, reward: str) -> str:
    """Scope of how many of a reward were had, by each member and by all."""
    return f"reward:{asset}:{reward}"


def transfer_scopes(asset: str) -> tuple[str, str]:
    """Scopes of what a holder sends and receives by transfers of an asset, where that is bounded."""
    return f"transfer_out:{asset}", f"transfer_in:{asset}"
