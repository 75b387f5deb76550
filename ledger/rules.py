"""The rules of the currency: what an operation needs, whether it is admitted, and what it changes.

Three pure functions, used alike by the writer and by every auditor::

    touches(op)                  the parts of the state the operation depends on
    admit(state, signed, time)   the postings it makes, or the rejection; changes nothing
    apply(state, signed, …)      the change; called only for what was admitted, and cannot fail

Refusals come in one documented order, for every kind: ledger, expiry, time, actor, signatures, role, then what the
kind asks for, in the order of its ``_admit_…`` function, and amounts last. The first that applies is returned.
Where only an asset's issuer may act, the asset is looked up before the role; a second genesis is refused as that
before its time and signatures are looked at.

An operation already recorded is not refused here: the caller looks its id up first and answers with its entry.

Whose keys count is a question of time. A recovery takes effect by itself, at a time said in its entry; no entry
records that moment. So an account is kept as its entries left it, and :func:`account_at` says what that means then.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ledger.checkpoint import CheckpointError, decode_verifier_key
from ledger.encoding import MAX_INTEGER, AccountId, OpId, account_id, format_time, parse_time
from ledger.entries import NO_LAST_DAY, Posting
from ledger.operations import (
    DEFAULT_RECOVERY_DELAY_MS,
    ROLE_PREFIXES,
    AnyOperation,
    CancelRecovery,
    DefineAsset,
    Expire,
    Genesis,
    Grant,
    OpenAccount,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    ReplaceKeys,
    ReplaceLogKey,
    SignedOperation,
    Transfer,
    Value,
)
from ledger.programs import ProgramVersion, last_day, local_date, points_for, version_at

SYS_ISSUED = AccountId("sys_issued")
SYS_SPENT = AccountId("sys_spent")
SYS_EXPIRED = AccountId("sys_expired")
SYSTEM_ACCOUNTS = (SYS_ISSUED, SYS_SPENT, SYS_EXPIRED)
"""They take the other leg of issue, redemption and expiry, so that every asset sums to zero over all accounts."""

HOLDER_ROLES = frozenset({"member", "merchant", "beneficiary"})
"""Roles whose accounts can hold points."""

ORDER_SCOPE = "order"
"""Scope of purchases' order references; a grant's reference has its activity as scope, prefixed ``grant:``."""


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
    NOT_PERMITTED = "NOT_PERMITTED"
    RECOVERY_PENDING = "RECOVERY_PENDING"
    NO_RECOVERY = "NO_RECOVERY"
    LOG_KEY_USED = "LOG_KEY_USED"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    ASSET_EXISTS = "ASSET_EXISTS"
    UNKNOWN_CURRENCY = "UNKNOWN_CURRENCY"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    TIME_ZONE_MISMATCH = "TIME_ZONE_MISMATCH"
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
    NOT_YET_DUE = "NOT_YET_DUE"
    NOTHING_DUE = "NOTHING_DUE"
    POINTS_OVERFLOW = "POINTS_OVERFLOW"
    SUPPLY_EXCEEDED = "SUPPLY_EXCEEDED"
    INSUFFICIENT_POINTS = "INSUFFICIENT_POINTS"
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


class Account(Struct, frozen=True, kw_only=True):
    """A holder, merchant, auditor or the operator. Without ``keys`` the ``custodian``'s keys stand in for its own.

    ``keys_seq`` is the entry that gave it its keys. Once a ``recovery`` is in effect, see :func:`account_at`.
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


class State:
    """What the ledger knows: all of it for an auditor, the touched part for a writer's batch.

    ``lots`` maps (account, asset) to {last day: points}; an empty lot is removed. ``references`` maps (merchant,
    scope, reference) to the entry that used it. A lookup that finds nothing means the thing does not exist, so a
    partial state must hold everything :func:`touches` names, and the custodians of the accounts among it. ``log_keys``
    are the log's verifier keys in order, each with the entry that named it, see :func:`log_key_for`. ``dated`` indexes
    the holders of each dated lot, by asset, for :func:`due_lots`.
    """

    __slots__ = (
        "accounts",
        "assets",
        "dated",
        "log_keys",
        "lots",
        "origin",
        "parameters",
        "programs",
        "recorded",
        "references",
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


class Touches(Struct, frozen=True):
    """What a set of operations depends on: account ids, asset codes, (account, asset) balances and references."""

    accounts: set[str]
    assets: set[str]
    balances: set[tuple[str, str]]
    references: set[tuple[str, str, str]]

    @classmethod
    def none(cls) -> "Touches":
        """Nothing yet."""
        return cls(set(), set(), set(), set())


def touches(op: AnyOperation, into: Touches | None = None) -> Touches:
    """Name the state an operation needs, adding to ``into`` when a whole batch is gathered.

    :class:`Expire` also needs :func:`due_lots`, which no key names: the writer loads them by a query of their own.
    """
    needs = into if into is not None else Touches.none()
    actor = getattr(op, "actor", None)
    if actor is not None:
        needs.accounts.add(actor)
    asset = getattr(op, "asset", None)
    if asset is not None:
        needs.assets.add(asset)
    match op:
        case Transfer():
            needs.balances.add((op.actor, op.asset))
            for recipient in op.recipients:
                needs.accounts.add(recipient.to)
                needs.balances.add((recipient.to, op.asset))
        case Redeem():
            needs.accounts.add(op.merchant)
            needs.balances.update({(op.actor, op.asset), (SYS_SPENT, op.asset)})
        case RecordPurchases():
            needs.balances.update((account, op.asset) for account in SYSTEM_ACCOUNTS)
            for purchase in op.purchases:
                needs.accounts.add(purchase.member)
                needs.balances.add((purchase.member, op.asset))
                needs.references.add((op.actor, ORDER_SCOPE, purchase.order))
        case Grant():
            needs.accounts.add(op.member)
            needs.balances.add((op.member, op.asset))
            needs.balances.update((account, op.asset) for account in SYSTEM_ACCOUNTS)
            needs.references.add((op.actor, grant_scope(op.activity), op.reference))
        case Expire():
            needs.balances.add((SYS_EXPIRED, op.asset))
        case RecoverKeys() | CancelRecovery():
            needs.accounts.add(op.account)
    return needs


def grant_scope(activity: str) -> str:
    """Scope in which a grant's reference is unique."""
    return f"grant:{activity}"


class Earning(Struct, frozen=True, gc=False):
    """One event that gave points, a purchase or a grant: the origin of every credit, and good once.

    ``merchant``, ``scope`` and ``reference`` name the event; ``earned_on`` is its local date in the program's time
    zone; ``amount`` is in minor units, absent for a grant; ``points`` may be 0 for a purchase too small to earn.
    """

    merchant: str
    scope: str
    reference: str
    account: str
    earned_on: str
    amount: int | None
    points: int


class Admission(Struct, frozen=True, gc=False):
    """What an admitted operation does: its postings in the order they are recorded, and the events it used up.

    ``effective_at`` is when the recovery it begins takes effect.
    """

    postings: tuple[Posting, ...] = ()
    earnings: tuple[Earning, ...] = ()
    effective_at: str | None = None


_NOTHING_MOVES = Admission()


def admit(state: State, signed: SignedOperation, time: str, *, check_signers: bool = True) -> Admission | Rejection:
    """Decide an operation at recording time ``time``: its postings, or why not. Changes nothing.

    The signatures in ``signed.sigs`` must have been verified; here only their authority is decided. A preview passes
    ``check_signers=False``, since what it shows has not been signed yet.
    """
    op = signed.op
    if op.ledger != state.origin:
        return Rejection(Code.WRONG_LEDGER, f"signed for {op.ledger}; this ledger is {state.origin}", ("ledger",))
    if op.expires is not None and op.expires < time:
        return Rejection(Code.EXPIRED, f"not to be recorded after {op.expires}; it is {time}: sign anew", ("expires",))
    if isinstance(op, Genesis):
        return _admit_genesis(state, op, signed, time, check_signers)
    if state.parameters is None:
        return Rejection(Code.UNKNOWN_ACCOUNT, "the ledger has no genesis entry yet: run guerdon init", ("ledger",))
    if refusal := _check_at(op, time, state.parameters.clock_tolerance_ms):
        return refusal
    actor = state.accounts.get(op.actor) if op.actor is not None else None
    if actor is None and op.actor is not None:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {op.actor}", ("actor",))
    if check_signers and (refusal := _check_signers(state, op, actor, signed, time)):
        return refusal
    if isinstance(op, OpenAccount):
        return _admit_open_account(op, actor)
    assert actor is not None
    decision: Admission | Rejection = _ADMIT[type(op)](state, op, actor, time)
    return decision


def _check_at(op: AnyOperation, time: str, tolerance_ms: int) -> Rejection | None:
    if op.at > time and parse_time(op.at) - parse_time(time) > tolerance_ms:
        return Rejection(Code.AT_IN_FUTURE, f"at lies after {time}: check the clock", ("at",))
    return None


def _check_signers(
    state: State, op: AnyOperation, actor: Account | None, signed: SignedOperation, time: str
) -> Rejection | None:
    signers = {signature.key for signature in signed.sigs}
    allowed: set[str] = set()
    if actor is not None:
        authority = authority_of(state, actor, time)
        allowed.update(authority.keys)
        if len(signers & allowed) < authority.threshold:
            # Whose keys act for an account, and how many must sign, is nothing for whoever sent this to learn.
            message = f"too few of the keys that act for {actor.id} have signed"
            return Rejection(Code.SIGNATURE_MISSING, message, ("sigs",))
    new = new_keys(op, actor, time)
    if missing := [key for key in new if key not in signers]:
        return Rejection(Code.SIGNATURE_MISSING, f"the new key {missing[0]} must sign too", ("sigs",))
    allowed.update(new)
    if signers - allowed:
        stranger = min(signers - allowed)
        return Rejection(Code.SIGNATURE_UNEXPECTED, f"{stranger} has no authority here: leave it out", ("sigs",))
    return None


def new_keys(op: AnyOperation, actor: Account | None, time: str) -> tuple[str, ...]:
    """The keys an operation gives an account, each of which signs it: who names a key shows that it can be used.

    A key that replaces itself need not.
    """
    match op:
        case OpenAccount() | RecoverKeys():
            return op.keys
        case ReplaceKeys():
            assert actor is not None
            own = account_at(actor, time).keys
            return tuple(key for key in op.keys if key not in own)
    return ()


def account_at(account: Account, time: str) -> Account:
    """An account as it is at a time: once its recovery is in effect, the keys of that are its own.

    An account in custody is then in custody no more.
    """
    recovery = account.recovery
    if recovery is None or recovery.effective_at > time:
        return account
    return replace(
        account,
        keys=recovery.keys,
        threshold=recovery.threshold,
        custodian=None,
        keys_seq=recovery.seq,
        recovery=None,
    )


def authority_of(state: State, account: Account, time: str) -> Account:
    """The account whose keys act for ``account`` at a time: itself, or its custodian while it has no key of its own.

    It is returned as it is at that time, so its ``keys`` and ``threshold`` are those in force.
    """
    current = account_at(account, time)
    if current.keys or current.custodian is None:
        return current
    return account_at(state.accounts[current.custodian], time)


def log_key_for(log_keys: Sequence[tuple[int, str]], size: int) -> str:
    """The verifier key that signs a checkpoint of ``size`` entries, 1 or more: the last that one of them names."""
    return next(log_key for seq, log_key in reversed(log_keys) if seq < size)


def _admit_genesis(
    state: State, op: Genesis, signed: SignedOperation, time: str, check_signers: bool
) -> Admission | Rejection:
    if state.parameters is not None:
        return Rejection(Code.GENESIS_EXISTS, "the ledger has its genesis entry already", ("kind",))
    if refusal := _check_at(op, time, op.clock_tolerance_ms):
        return refusal
    if refusal := _check_log_key(op.log_key, op.ledger):
        return refusal
    if not check_signers:
        return _NOTHING_MOVES
    signers = {signature.key for signature in signed.sigs}
    if not signers.issuperset(op.keys):
        return Rejection(Code.SIGNATURE_MISSING, "genesis is signed by all keys of the operator", ("sigs",))
    if strangers := signers.difference(op.keys):
        return Rejection(Code.SIGNATURE_UNEXPECTED, f"{min(strangers)} has no authority here: leave it out", ("sigs",))
    return _NOTHING_MOVES


def _check_log_key(text: str, origin: str) -> Rejection | None:
    try:
        log_key = decode_verifier_key(text)
    except CheckpointError as error:
        return Rejection(Code.MALFORMED, str(error), ("log_key",))
    if log_key.name != origin:
        return Rejection(Code.MALFORMED, f"the log key must bear the ledger's name {origin}", ("log_key",))
    return None


def _admit_open_account(op: OpenAccount, actor: Account | None) -> Admission | Rejection:
    if actor is None:
        return _NOTHING_MOVES
    wanted = "merchant" if op.role == "member" else "operator"
    if actor.role != wanted:
        return Rejection(
            Code.NOT_PERMITTED, f"a {op.role} is vouched for by the {wanted}, not by {actor.id}", ("actor",)
        )
    return _NOTHING_MOVES


def _admit_define_asset(state: State, op: DefineAsset, actor: Account, time: str) -> Admission | Rejection:
    assert state.parameters is not None
    if actor.role != "merchant":
        return Rejection(Code.NOT_PERMITTED, "only a merchant defines an asset", ("actor",))
    if op.asset in state.assets or op.asset in state.parameters.units:
        return Rejection(Code.ASSET_EXISTS, f"{op.asset} is taken: choose another code", ("asset",))
    if op.value is not None and op.value.currency not in state.parameters.units:
        return _unknown_currency(state, op.value.currency, ("value", "currency"))
    return _NOTHING_MOVES


def _admit_publish_program(state: State, op: PublishProgram, actor: Account, time: str) -> Admission | Rejection:
    assert state.parameters is not None
    if refusal := _check_issuer(state, op.asset, actor):
        return refusal
    if op.program.currency not in state.parameters.units:
        return _unknown_currency(state, op.program.currency, ("program", "currency"))
    versions = state.programs.get(op.asset, ())
    if op.version != len(versions) + 1:
        message = f"the next version of {op.asset} is {len(versions) + 1}"
        return Rejection(Code.VERSION_CONFLICT, message, ("version",), {"next_version": len(versions) + 1})
    if not versions:
        return _NOTHING_MOVES
    if op.program.currency != versions[0].program.currency:
        message = f"{op.asset} is earned in {versions[0].program.currency}; a version cannot change that"
        return Rejection(Code.CURRENCY_MISMATCH, message, ("program", "currency"))
    if op.program.time_zone != versions[0].program.time_zone:
        # Another zone would end the last day of lots that are held already at another moment.
        message = f"the days of {op.asset} are those of {versions[0].program.time_zone}; a version cannot change that"
        return Rejection(Code.TIME_ZONE_MISMATCH, message, ("program", "time_zone"))
    if op.starts < earliest_start(state, time):
        message = f"a new version cannot start in the past (before {time}): earlier purchases keep their rules"
        return Rejection(Code.STARTS_IN_PAST, message, ("starts",))
    return _NOTHING_MOVES


def earliest_start(state: State, time: str) -> str:
    """The earliest ``starts`` of a second or later version recorded at ``time``: the clock tolerance before it."""
    assert state.parameters is not None
    return format_time(parse_time(time) - state.parameters.clock_tolerance_ms)


def _admit_record_purchases(state: State, op: RecordPurchases, actor: Account, time: str) -> Admission | Rejection:
    assert state.parameters is not None
    if refusal := _check_issuer(state, op.asset, actor):
        return refusal
    versions = state.programs.get(op.asset)
    if not versions:
        return Rejection(Code.PROGRAM_MISSING, f"{op.asset} has no program: publish one first", ("asset",))
    if op.currency != versions[0].program.currency:
        message = f"{op.asset} is earned in {versions[0].program.currency}"
        return Rejection(Code.CURRENCY_MISMATCH, message, ("currency",))
    unit = state.parameters.units[op.currency]
    latest = format_time(parse_time(time) + state.parameters.clock_tolerance_ms)
    accounts, references, issuer = state.accounts, state.references, op.actor
    legs: list[Posting] = []
    earnings: list[Earning] = []
    for i, purchase in enumerate(op.purchases):
        member = accounts.get(purchase.member)
        if member is None or member.role != "member":
            return _unknown_member(purchase.member, (f"purchases[{i}]", "member"))
        if purchase.at > latest:
            return Rejection(Code.AT_IN_FUTURE, f"at lies after {time}: check the clock", (f"purchases[{i}]", "at"))
        used = references.get((issuer, ORDER_SCOPE, purchase.order))
        if used is not None:
            message = f"order {purchase.order} is recorded already, in entry {used}"
            return Rejection(Code.ORDER_EXISTS, message, (f"purchases[{i}]", "order"), {"seq": used})
        version = version_at(versions, purchase.at)
        if version is None or (version.ends is not None and purchase.at >= version.ends):
            return _no_program_then(op.asset, version, purchase.at, (f"purchases[{i}]", "at"))
        program = version.program
        points = points_for(program, purchase.amount, unit)
        earned_on = local_date(purchase.at, program.time_zone)
        earnings.append(
            Earning(issuer, ORDER_SCOPE, purchase.order, purchase.member, earned_on, purchase.amount, points)
        )
        if points == 0:
            continue
        day = last_day(program.expiry, earned_on)
        lot = None if day == NO_LAST_DAY else day
        legs.append(Posting(account=purchase.member, amount=points, asset=op.asset, lot=lot))
    return _issue(state, op.asset, legs, earnings, ("purchases",))


def _admit_grant(state: State, op: Grant, actor: Account, time: str) -> Admission | Rejection:
    if refusal := _check_issuer(state, op.asset, actor):
        return refusal
    member = state.accounts.get(op.member)
    if member is None or member.role != "member":
        return _unknown_member(op.member, ("member",))
    version = version_at(state.programs.get(op.asset, ()), op.at)
    if version is None or (version.ends is not None and op.at >= version.ends):
        return _no_program_then(op.asset, version, op.at, ("at",))
    rule = next((rule for rule in version.program.grants if rule.activity == op.activity), None)
    if rule is None:
        known = ", ".join(rule.activity for rule in version.program.grants) or "none"
        message = f"the program grants nothing for {op.activity} (it has: {known})"
        return Rejection(Code.ACTIVITY_UNKNOWN, message, ("activity",))
    used = state.references.get((op.actor, grant_scope(op.activity), op.reference))
    if used is not None:
        message = f"{op.reference} was granted already, in entry {used}"
        return Rejection(Code.REFERENCE_EXISTS, message, ("reference",), {"seq": used})
    if op.amount > rule.max_points:
        message = f"{op.activity} gives at most {rule.max_points} points at a time"
        return Rejection(Code.GRANT_TOO_LARGE, message, ("amount",), {"max_points": rule.max_points})
    earned_on = local_date(op.at, version.program.time_zone)
    day = last_day(version.program.expiry, earned_on)
    lot = None if day == NO_LAST_DAY else day
    leg = Posting(account=op.member, amount=op.amount, asset=op.asset, lot=lot)
    scope = grant_scope(op.activity)
    earning = Earning(op.actor, scope, op.reference, op.member, earned_on, None, op.amount)
    return _issue(state, op.asset, [leg], [earning], ("amount",))


def _admit_transfer(state: State, op: Transfer, actor: Account, time: str) -> Admission | Rejection:
    if actor.role not in HOLDER_ROLES:
        return Rejection(Code.NOT_PERMITTED, f"the role {actor.role} holds no points", ("actor",))
    asset = state.assets.get(op.asset)
    if asset is None:
        return _unknown_asset(op.asset)
    if not asset.transferable:
        return Rejection(Code.NOT_TRANSFERABLE, f"{op.asset} cannot be transferred between holders", ("asset",))
    total = 0
    for i, recipient in enumerate(op.recipients):
        account = state.accounts.get(recipient.to)
        if account is None:
            return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {recipient.to}", (f"recipients[{i}]", "to"))
        if account.role not in HOLDER_ROLES:
            return Rejection(Code.NOT_A_HOLDER, f"the role {account.role} holds no points", (f"recipients[{i}]", "to"))
        total += recipient.amount
    parts = _spend(state, op.actor, op.asset, total, time, path=("recipients",))
    if isinstance(parts, Rejection):
        return parts
    return Admission(_move(op, parts))


def _move(op: Transfer, parts: list[tuple[str, int]]) -> tuple[Posting, ...]:
    """Legs of a transfer: what each lot gives, then what each recipient gets of which lot, in the document's order."""
    legs = [
        Posting(account=op.actor, amount=-points, asset=op.asset, lot=None if day == NO_LAST_DAY else day)
        for day, points in parts
    ]
    if len(parts) == 1 and len(op.recipients) == 1:
        legs.append(Posting(account=op.recipients[0].to, amount=parts[0][1], asset=op.asset, lot=legs[0].lot))
        return tuple(legs)
    rest = list(reversed(parts))
    for recipient in op.recipients:
        wanted = recipient.amount
        while wanted:
            day, points = rest.pop()
            taken = min(points, wanted)
            if points > taken:
                rest.append((day, points - taken))
            wanted -= taken
            lot = None if day == NO_LAST_DAY else day
            legs.append(Posting(account=recipient.to, amount=taken, asset=op.asset, lot=lot))
    return tuple(legs)


def _admit_redeem(state: State, op: Redeem, actor: Account, time: str) -> Admission | Rejection:
    if actor.role not in HOLDER_ROLES:
        return Rejection(Code.NOT_PERMITTED, f"the role {actor.role} holds no points", ("actor",))
    asset = state.assets.get(op.asset)
    if asset is None:
        return _unknown_asset(op.asset)
    merchant = state.accounts.get(op.merchant)
    if merchant is None or merchant.role != "merchant":
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no merchant {op.merchant}", ("merchant",))
    if merchant.id != asset.issuer:
        message = f"{op.asset} is redeemed at its issuer {asset.issuer}"
        return Rejection(Code.NOT_ACCEPTED, message, ("merchant",))
    parts = _spend(state, op.actor, op.asset, op.amount, time, path=("amount",))
    if isinstance(parts, Rejection):
        return parts
    legs = [
        Posting(account=op.actor, amount=-points, asset=op.asset, lot=None if day == NO_LAST_DAY else day)
        for day, points in parts
    ]
    legs.append(Posting(account=SYS_SPENT, amount=op.amount, asset=op.asset))
    return Admission(tuple(legs))


def _admit_expire(state: State, op: Expire, actor: Account, time: str) -> Admission | Rejection:
    asset = state.assets.get(op.asset)
    if asset is None:
        return _unknown_asset(op.asset)
    if actor.role != "operator" and actor.id != asset.issuer:
        return Rejection(Code.NOT_PERMITTED, f"only the operator or {asset.issuer} expires {op.asset}", ("actor",))
    today = state.today(op.asset, time)
    if op.through >= today:
        message = f"points can be used through their last day and it is {today}: name an earlier day"
        return Rejection(Code.NOT_YET_DUE, message, ("through",))
    due = due_lots(state, op.asset, op.through, op.limit)
    if not due:
        return Rejection(Code.NOTHING_DUE, f"no lot of {op.asset} is due through {op.through}", ("through",))
    legs = [
        Posting(account=account, amount=-state.lots[(account, op.asset)][day], asset=op.asset, lot=day)
        for day, account in due
    ]
    legs.append(Posting(account=SYS_EXPIRED, amount=-sum(leg.amount for leg in legs), asset=op.asset))
    return Admission(tuple(legs))


def _admit_replace_keys(state: State, op: ReplaceKeys, actor: Account, time: str) -> Admission | Rejection:
    return _NOTHING_MOVES


def _admit_recover_keys(state: State, op: RecoverKeys, actor: Account, time: str) -> Admission | Rejection:
    assert state.parameters is not None
    if actor.role != "operator":
        return Rejection(Code.NOT_PERMITTED, "only the operator recovers an account", ("actor",))
    account = state.accounts.get(op.account)
    if account is None:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {op.account}", ("account",))
    if account.id == actor.id:
        return Rejection(Code.NOT_PERMITTED, "the operator's own keys are replaced by replace_keys", ("account",))
    pending = account_at(account, time).recovery
    if pending is not None:
        message = f"a recovery takes effect at {pending.effective_at}: wait for it, or cancel it first"
        return Rejection(Code.RECOVERY_PENDING, message, ("account",), {"effective_at": pending.effective_at})
    return Admission(effective_at=format_time(parse_time(time) + state.parameters.recovery_delay_ms))


def _admit_cancel_recovery(state: State, op: CancelRecovery, actor: Account, time: str) -> Admission | Rejection:
    if actor.id != op.account and actor.role != "operator":
        message = "only the account itself or the operator cancels its recovery"
        return Rejection(Code.NOT_PERMITTED, message, ("actor",))
    account = state.accounts.get(op.account)
    if account is None:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {op.account}", ("account",))
    if account_at(account, time).recovery is None:
        return Rejection(Code.NO_RECOVERY, f"no recovery of {op.account} is pending", ("account",))
    return _NOTHING_MOVES


def _admit_replace_log_key(state: State, op: ReplaceLogKey, actor: Account, time: str) -> Admission | Rejection:
    if actor.role != "operator":
        return Rejection(Code.NOT_PERMITTED, "only the operator replaces the log key", ("actor",))
    if refusal := _check_log_key(op.log_key, op.ledger):
        return refusal
    # A note names keys by id: of two that share one, nobody could tell whose line is whose.
    key_id = decode_verifier_key(op.log_key).key_id
    used = next((seq for seq, log_key in state.log_keys if decode_verifier_key(log_key).key_id == key_id), None)
    if used is not None:
        message = f"this is the id of the log key of entry {used}: make a new one"
        return Rejection(Code.LOG_KEY_USED, message, ("log_key",))
    return _NOTHING_MOVES


_ADMIT: dict[type, Any] = {
    DefineAsset: _admit_define_asset,
    PublishProgram: _admit_publish_program,
    RecordPurchases: _admit_record_purchases,
    Grant: _admit_grant,
    Transfer: _admit_transfer,
    Redeem: _admit_redeem,
    Expire: _admit_expire,
    ReplaceKeys: _admit_replace_keys,
    RecoverKeys: _admit_recover_keys,
    CancelRecovery: _admit_cancel_recovery,
    ReplaceLogKey: _admit_replace_log_key,
}


def due_lots(state: State, asset: str, through: str, limit: int) -> list[tuple[str, str]]:
    """The first ``limit`` lots (last day, account) whose last day is ``through`` or earlier, in that order."""
    due: list[tuple[str, str]] = []
    days = state.dated.get(asset, {})
    for day in sorted(day for day in days if day <= through):
        due += [(day, account) for account in sorted(days[day])[: limit - len(due)]]
        if len(due) == limit:
            break
    return due


def spendable(lots: Mapping[str, int], today: str) -> int:
    """Points that can be used on a local date: those whose last day has not passed."""
    return sum(points for day, points in lots.items() if day >= today)


def _spend(
    state: State, account: str, asset: str, amount: int, time: str, *, path: tuple[str, ...]
) -> list[tuple[str, int]] | Rejection:
    """Take points from an account's lots, earliest last day first; expired lots cannot be used."""
    lots = state.lots.get((account, asset), {})
    if len(lots) == 1:
        only = lots.get(NO_LAST_DAY, 0)
        if only >= amount:
            return [(NO_LAST_DAY, amount)]
    today = state.today(asset, time)
    available = spendable(lots, today)
    if available < amount:
        message = f"{amount} points of {asset} needed, {available} available"
        details: dict[str, int | str] = {"required_points": amount, "available_points": available}
        return Rejection(Code.INSUFFICIENT_POINTS, message, path, details)
    parts = []
    for day in sorted(lots):
        if day < today:
            continue
        taken = min(lots[day], amount)
        parts.append((day, taken))
        amount -= taken
        if amount == 0:
            break
    return parts


def _issue(
    state: State, asset: str, legs: list[Posting], earnings: list[Earning], path: tuple[str, ...]
) -> Admission | Rejection:
    """Book new points against the issue account, within the cap and the range of integers."""
    total = sum(leg.amount for leg in legs)
    if total == 0:
        return Admission((), tuple(earnings))
    issued = -state.balance(SYS_ISSUED, asset)
    if issued + total > MAX_INTEGER:
        return Rejection(Code.POINTS_OVERFLOW, f"{total} points would pass 2^53-1 points issued of {asset}", path)
    cap = state.assets[asset].supply_cap
    circulating = issued - state.balance(SYS_SPENT, asset) - state.balance(SYS_EXPIRED, asset)
    if cap is not None and circulating + total > cap:
        message = f"{circulating} of at most {cap} points of {asset} are in circulation; {total} more do not fit"
        details: dict[str, int | str] = {"supply_cap": cap, "circulating_points": circulating}
        return Rejection(Code.SUPPLY_EXCEEDED, message, path, details)
    return Admission((Posting(account=SYS_ISSUED, amount=-total, asset=asset), *legs), tuple(earnings))


def _check_issuer(state: State, code: str, actor: Account) -> Rejection | None:
    asset = state.assets.get(code)
    if asset is None:
        return _unknown_asset(code)
    if asset.issuer != actor.id:
        return Rejection(Code.NOT_PERMITTED, f"only its issuer {asset.issuer} does this for {code}", ("actor",))
    return None


def _unknown_asset(code: str) -> Rejection:
    return Rejection(Code.UNKNOWN_ASSET, f"there is no asset {code}", ("asset",))


def _unknown_member(account: str, path: tuple[str, ...]) -> Rejection:
    return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no member {account}: open the account first", path)


def _unknown_currency(state: State, code: str, path: tuple[str, ...]) -> Rejection:
    assert state.parameters is not None
    known = ", ".join(sorted(state.parameters.units))
    return Rejection(Code.UNKNOWN_CURRENCY, f"{code} is not a settlement currency of this ledger ({known})", path)


def _no_program_then(asset: str, version: ProgramVersion | None, at: str, path: tuple[str, ...]) -> Rejection:
    if version is None:
        return Rejection(Code.PROGRAM_MISSING, f"no program of {asset} was in force at {at}", path)
    message = f"version {version.version} of the program of {asset} ended at {version.ends}"
    return Rejection(Code.PROGRAM_CLOSED, message, path)


def apply(state: State, signed: SignedOperation, admission: Admission, seq: int) -> None:
    """Make an admitted operation part of the state, as entry ``seq``. From here it must succeed."""
    op = signed.op
    for leg in admission.postings:
        state.add_lot(leg.account, leg.asset, leg.lot or NO_LAST_DAY, leg.amount)
    for earning in admission.earnings:
        state.references[(earning.merchant, earning.scope, earning.reference)] = seq
    state.recorded[signed.op_id] = seq
    match op:
        case OpenAccount():
            account = opened_account(op, signed.op_id, seq)
            state.accounts[account.id] = account
        case DefineAsset():
            state.assets[op.asset] = defined_asset(op, seq)
        case PublishProgram():
            state.programs[op.asset] = (*state.programs.get(op.asset, ()), published_version(op, seq))
        case Genesis():
            state.parameters = parameters_of(op, signed.op_id)
            operator = operator_account(op, signed.op_id)
            state.accounts[operator.id] = operator
            state.log_keys = ((seq, op.log_key),)
        case ReplaceKeys():
            state.accounts[op.actor] = _replaced(state.accounts[op.actor], op, seq)
        case RecoverKeys():
            state.accounts[op.account] = _recovering(state.accounts[op.account], op, admission, seq)
        case CancelRecovery():
            state.accounts[op.account] = replace(state.accounts[op.account], recovery=None)
        case ReplaceLogKey():
            state.log_keys = (*state.log_keys, (seq, op.log_key))


def _replaced(account: Account, op: ReplaceKeys, seq: int) -> Account:
    return replace(account, keys=op.keys, threshold=op.threshold, custodian=None, keys_seq=seq, recovery=None)


def _recovering(account: Account, op: RecoverKeys, admission: Admission, seq: int) -> Account:
    """The account with its recovery begun. One it still had is in effect, or this one would not have been admitted."""
    assert admission.effective_at is not None
    if account.recovery is not None:
        account = account_at(account, account.recovery.effective_at)
    recovery = Recovery(keys=op.keys, threshold=op.threshold, effective_at=admission.effective_at, seq=seq)
    return replace(account, recovery=recovery)


def opened_account(op: OpenAccount, op_id: OpId, seq: int) -> Account:
    """The account an operation opens."""
    return Account(
        id=account_id(ROLE_PREFIXES[op.role], op_id),
        role=op.role,
        keys=op.keys,
        threshold=op.threshold,
        custodian=AccountId(op.actor) if not op.keys and op.actor is not None else None,
        name=op.name,
        opened_at=op.at,
        seq=seq,
        keys_seq=seq,
    )


def operator_account(op: Genesis, op_id: OpId) -> Account:
    """The operator's account, which genesis opens."""
    return Account(
        id=account_id(ROLE_PREFIXES["operator"], op_id),
        role="operator",
        keys=op.keys,
        threshold=op.threshold,
        custodian=None,
        name=op.name,
        opened_at=op.at,
        seq=0,
        keys_seq=0,
    )


def parameters_of(op: Genesis, op_id: OpId) -> Parameters:
    """What genesis fixes for the life of the ledger."""
    return Parameters(
        operator=account_id(ROLE_PREFIXES["operator"], op_id),
        clock_tolerance_ms=op.clock_tolerance_ms,
        recovery_delay_ms=DEFAULT_RECOVERY_DELAY_MS if op.recovery_delay_ms is None else op.recovery_delay_ms,
        units={currency.code: 10**currency.scale for currency in op.currencies},
        log_key=op.log_key,
        name=op.name,
    )


def defined_asset(op: DefineAsset, seq: int) -> Asset:
    """The asset an operation defines."""
    return Asset(
        code=op.asset,
        issuer=AccountId(op.actor),
        name=op.name,
        scale=op.scale,
        supply_cap=op.supply_cap,
        transferable=op.transferable,
        value=op.value,
        seq=seq,
    )


def published_version(op: PublishProgram, seq: int) -> ProgramVersion:
    """The program version an operation publishes."""
    return ProgramVersion(
        asset=op.asset, version=op.version, starts=op.starts, ends=op.ends, program=op.program, seq=seq
    )
