"""User errors: a refused operation, told to its sender in types.

All implement ``UserError``; a client that selects only the interface misses no case. Types with details exist for the
codes whose details a program can act on.
"""

import re
from enum import Enum
from typing import Any, cast

import strawberry

from api.input_parts import CapPeriod
from api.scalars import Date, MinorUnits, Points, Time, UInt53
from ledger.state import Code, Rejection


@strawberry.enum(description="Every reason for which an operation is refused. New ones may be added.")
class UserErrorCode(Enum):
    """The codes of :class:`ledger.state.Code`, described."""

    MALFORMED = strawberry.enum_value(
        "MALFORMED", description="A field is missing, unknown or not of its form; the path names it."
    )
    NOT_CANONICAL = strawberry.enum_value(
        "NOT_CANONICAL", description="The bytes are not canonical JSON (RFC 8785); the message says where."
    )
    TOO_LARGE = strawberry.enum_value(
        "TOO_LARGE", description="The operation, or the number of operations, is larger than can be taken."
    )
    SIGNATURE_INVALID = strawberry.enum_value(
        "SIGNATURE_INVALID", description="A signature does not fit the bytes and the key."
    )
    WRONG_LEDGER = strawberry.enum_value("WRONG_LEDGER", description="It was signed for another ledger.")
    EXPIRED = strawberry.enum_value(
        "EXPIRED", description="The last time at which it could be taken has passed: sign anew."
    )
    AT_IN_FUTURE = strawberry.enum_value(
        "AT_IN_FUTURE", description="It happens later than the ledger's clock tolerance allows."
    )
    GENESIS_EXISTS = strawberry.enum_value("GENESIS_EXISTS", description="The ledger is founded already.")
    UNKNOWN_ACCOUNT = strawberry.enum_value("UNKNOWN_ACCOUNT", description="There is no such account.")
    SIGNATURE_MISSING = strawberry.enum_value("SIGNATURE_MISSING", description="Someone who must sign has not.")
    SIGNATURE_UNEXPECTED = strawberry.enum_value(
        "SIGNATURE_UNEXPECTED", description="Someone signed who has no authority here."
    )
    ACCOUNT_FROZEN = strawberry.enum_value(
        "ACCOUNT_FROZEN", description="The account is frozen, or the one whose keys act for it: ask the operator."
    )
    APPROVAL_MISSING = strawberry.enum_value(
        "APPROVAL_MISSING", description="More of the account's keys must sign this: its approval threshold."
    )
    NOT_PERMITTED = strawberry.enum_value("NOT_PERMITTED", description="The actor may not do this.")
    RECOVERY_PENDING = strawberry.enum_value("RECOVERY_PENDING", description="A recovery of the account is pending.")
    NO_RECOVERY = strawberry.enum_value("NO_RECOVERY", description="No recovery of the account is pending.")
    ALREADY_FROZEN = strawberry.enum_value("ALREADY_FROZEN", description="The account is frozen already.")
    NOT_FROZEN = strawberry.enum_value("NOT_FROZEN", description="The account is not frozen.")
    LOG_KEY_USED = strawberry.enum_value("LOG_KEY_USED", description="The ledger has or had this log key.")
    UNKNOWN_ASSET = strawberry.enum_value("UNKNOWN_ASSET", description="There is no such asset.")
    ASSET_EXISTS = strawberry.enum_value("ASSET_EXISTS", description="The asset's code is taken.")
    UNKNOWN_CURRENCY = strawberry.enum_value(
        "UNKNOWN_CURRENCY", description="It is not a settlement currency of this ledger."
    )
    VALUE_MISSING = strawberry.enum_value(
        "VALUE_MISSING", description="The asset has no value in money, by which missing points could be owed."
    )
    CURRENCY_MISMATCH = strawberry.enum_value(
        "CURRENCY_MISMATCH", description="The program in force is in another currency."
    )
    TIME_ZONE_MISMATCH = strawberry.enum_value(
        "TIME_ZONE_MISMATCH", description="A version cannot change the time zone of the program."
    )
    VERSION_CONFLICT = strawberry.enum_value(
        "VERSION_CONFLICT", description="It is not the next version of the program or agreement."
    )
    STARTS_IN_PAST = strawberry.enum_value(
        "STARTS_IN_PAST", description="An agreement, or a later version of a program, cannot start in the past."
    )
    PROGRAM_MISSING = strawberry.enum_value("PROGRAM_MISSING", description="No program was in force then.")
    PROGRAM_CLOSED = strawberry.enum_value("PROGRAM_CLOSED", description="The program had ended then.")
    ORDER_EXISTS = strawberry.enum_value("ORDER_EXISTS", description="The order was recorded before.")
    REFERENCE_EXISTS = strawberry.enum_value("REFERENCE_EXISTS", description="The reference was used before.")
    ACTIVITY_UNKNOWN = strawberry.enum_value(
        "ACTIVITY_UNKNOWN", description="The program grants nothing for this activity."
    )
    GRANT_TOO_LARGE = strawberry.enum_value("GRANT_TOO_LARGE", description="The activity gives fewer points at a time.")
    NOT_TRANSFERABLE = strawberry.enum_value(
        "NOT_TRANSFERABLE", description="The asset cannot be transferred between holders."
    )
    NOT_A_HOLDER = strawberry.enum_value("NOT_A_HOLDER", description="The account cannot hold points.")
    NOT_ACCEPTED = strawberry.enum_value(
        "NOT_ACCEPTED", description="The merchant does not issue the asset, and no agreement says that it accepts it."
    )
    UNKNOWN_AGREEMENT = strawberry.enum_value(
        "UNKNOWN_AGREEMENT", description="The actor is no party of such an agreement."
    )
    NO_AGREEMENT = strawberry.enum_value("NO_AGREEMENT", description="No agreement for this is in force.")
    NOTICE_TOO_SHORT = strawberry.enum_value(
        "NOTICE_TOO_SHORT", description="It would end earlier than the notice of its terms allows."
    )
    AGREEMENT_ENDED = strawberry.enum_value("AGREEMENT_ENDED", description="It ends by then already.")
    PAYING_LOOP = strawberry.enum_value(
        "PAYING_LOOP",
        description="With this rate, exchanging around a loop of agreements would give more points than it takes.",
    )
    OFF_STEP = strawberry.enum_value("OFF_STEP", description="The points are not a multiple of the step of the terms.")
    BELOW_MINIMUM = strawberry.enum_value(
        "BELOW_MINIMUM", description="The points are fewer than the terms allow at a time."
    )
    ABOVE_MAXIMUM = strawberry.enum_value(
        "ABOVE_MAXIMUM", description="The points are more than the terms allow at a time."
    )
    CAP_EXCEEDED = strawberry.enum_value(
        "CAP_EXCEEDED", description="The points would pass a cap of the terms in this period."
    )
    OUTCOME_TOO_SMALL = strawberry.enum_value(
        "OUTCOME_TOO_SMALL", description="Fewer points would come out than the holder accepts."
    )
    FEE_ABOVE_LIMIT = strawberry.enum_value("FEE_ABOVE_LIMIT", description="The fee is higher than the holder accepts.")
    ALLOTMENT_USED_UP = strawberry.enum_value(
        "ALLOTMENT_USED_UP",
        description="The partner has fewer points left of those it bought: it needs another allotment.",
    )
    UNKNOWN_HOLD = strawberry.enum_value("UNKNOWN_HOLD", description="There is no such hold, or not for this merchant.")
    HOLD_CLOSED = strawberry.enum_value("HOLD_CLOSED", description="The hold was captured or released.")
    HOLD_LAPSED = strawberry.enum_value("HOLD_LAPSED", description="The time of the hold has passed.")
    HOLD_EXCEEDED = strawberry.enum_value("HOLD_EXCEEDED", description="Fewer points are left on hold.")
    TOO_MANY_HOLDS = strawberry.enum_value(
        "TOO_MANY_HOLDS", description="The account has as many open holds of the asset as it can."
    )
    UNTIL_OUT_OF_RANGE = strawberry.enum_value(
        "UNTIL_OUT_OF_RANGE", description="A hold ends in the future, at most 366 days ahead."
    )
    UNKNOWN_ORIGINAL = strawberry.enum_value(
        "UNKNOWN_ORIGINAL", description="The actor has no such purchase, redemption, capture or exchange to refund."
    )
    REFUND_TOO_LARGE = strawberry.enum_value(
        "REFUND_TOO_LARGE", description="Less of the original is left to be refunded."
    )
    PURCHASE_TOO_OLD = strawberry.enum_value(
        "PURCHASE_TOO_OLD", description="The purchase was made longer ago than the program lets purchases be recorded."
    )
    ALREADY_ENROLLED = strawberry.enum_value(
        "ALREADY_ENROLLED", description="The member is enrolled already, and earns so already."
    )
    UNKNOWN_FORMULA = strawberry.enum_value("UNKNOWN_FORMULA", description="The program has no such formula.")
    INVITED_TOO_LATE = strawberry.enum_value(
        "INVITED_TOO_LATE", description="Who invited a member is said once, before its first purchase."
    )
    LIMIT_REACHED = strawberry.enum_value(
        "LIMIT_REACHED", description="The member has had this as often as the program lets it in this period."
    )
    EVIDENCE_MISSING = strawberry.enum_value("EVIDENCE_MISSING", description="The activity asks for evidence.")
    EVIDENCE_USED = strawberry.enum_value("EVIDENCE_USED", description="The evidence was used before.")
    EVIDENCE_UNEXPECTED = strawberry.enum_value("EVIDENCE_UNEXPECTED", description="The activity asks for no evidence.")
    SCORE_MISSING = strawberry.enum_value("SCORE_MISSING", description="The activity asks for the answer of a survey.")
    SCORE_UNEXPECTED = strawberry.enum_value(
        "SCORE_UNEXPECTED", description="The activity asks for no answer of a survey."
    )
    UNKNOWN_REWARD = strawberry.enum_value(
        "UNKNOWN_REWARD", description="The program in force has no such reward, or it is not the merchant's."
    )
    REWARD_UNAVAILABLE = strawberry.enum_value(
        "REWARD_UNAVAILABLE", description="The reward is not for this member, or not now."
    )
    OUT_OF_STOCK = strawberry.enum_value("OUT_OF_STOCK", description="Fewer of the reward are left.")
    PRICE_MISMATCH = strawberry.enum_value(
        "PRICE_MISMATCH",
        description="The points are not the reward's price, or a multiple of it; a voucher is refunded whole.",
    )
    UNKNOWN_VOUCHER = strawberry.enum_value("UNKNOWN_VOUCHER", description="There is no such voucher of this merchant.")
    VOUCHER_CLOSED = strawberry.enum_value("VOUCHER_CLOSED", description="The voucher was used or cancelled.")
    VOUCHER_EXPIRED = strawberry.enum_value("VOUCHER_EXPIRED", description="The last day of the voucher has passed.")
    UNKNOWN_PLAN = strawberry.enum_value("UNKNOWN_PLAN", description="The program in force has no such plan.")
    NO_PLAN = strawberry.enum_value("NO_PLAN", description="The member has no plan now.")
    NO_POOL = strawberry.enum_value("NO_POOL", description="The account is in no pool of the asset.")
    ALREADY_POOLED = strawberry.enum_value(
        "ALREADY_POOLED", description="One of the members is in a pool of the asset already."
    )
    UNKNOWN_LINE = strawberry.enum_value("UNKNOWN_LINE", description="The purchase has no such line.")
    NOT_YET_DUE = strawberry.enum_value(
        "NOT_YET_DUE", description="The day named has not passed; for a netting, has not come."
    )
    NOTHING_DUE = strawberry.enum_value(
        "NOTHING_DUE",
        description="No lot or purchase is due, no tier has changed, or nothing is owed that could be netted.",
    )
    UNKNOWN_CLAIM = strawberry.enum_value(
        "UNKNOWN_CLAIM", description="There is no such claim that concerns the actor."
    )
    CLAIM_CLOSED = strawberry.enum_value(
        "CLAIM_CLOSED", description="The claim was cancelled, netted or settled, or stands after the actor disputed it."
    )
    DISPUTED = strawberry.enum_value("DISPUTED", description="The claim is disputed already.")
    NOT_DISPUTED = strawberry.enum_value("NOT_DISPUTED", description="The claim is not disputed.")
    NETTING_MISMATCH = strawberry.enum_value(
        "NETTING_MISMATCH", description="The payments do not leave each merchant where its debts and claims put it."
    )
    SETTLED_TOO_MUCH = strawberry.enum_value("SETTLED_TOO_MUCH", description="The debtor owes less.")
    AMOUNT_OVERFLOW = strawberry.enum_value(
        "AMOUNT_OVERFLOW", description="More money would be owed than can be counted."
    )
    POINTS_OVERFLOW = strawberry.enum_value(
        "POINTS_OVERFLOW", description="More points would be issued than can be counted."
    )
    SUPPLY_EXCEEDED = strawberry.enum_value(
        "SUPPLY_EXCEEDED", description="The points would pass the asset's supply cap."
    )
    INSUFFICIENT_POINTS = strawberry.enum_value(
        "INSUFFICIENT_POINTS", description="The account has fewer usable points."
    )
    OVERLOADED = strawberry.enum_value(
        "OVERLOADED", description="Too many operations are waiting: send the same document again."
    )
    UNAVAILABLE = strawberry.enum_value(
        "UNAVAILABLE",
        description="The database did not answer, or this server lacks the log's key: send the same document again.",
    )
    UNKNOWN_WEBHOOK = strawberry.enum_value("UNKNOWN_WEBHOOK", description="The account has no such webhook.")
    UNKNOWN_DELIVERY = strawberry.enum_value("UNKNOWN_DELIVERY", description="The webhook has no such delivery.")
    TOO_MANY_WEBHOOKS = strawberry.enum_value("TOO_MANY_WEBHOOKS", description="The account has as many as it can.")
    PROFILE_CHANGED = strawberry.enum_value(
        "PROFILE_CHANGED", description="The profile is not at the revision that the change expects: read it again."
    )
    UNKNOWN_IDENTIFIER = strawberry.enum_value(
        "UNKNOWN_IDENTIFIER", description="There is no such identifier of this member or merchant."
    )
    IDENTIFIER_TAKEN = strawberry.enum_value(
        "IDENTIFIER_TAKEN", description="At this merchant the identifier is another account's."
    )
    TOO_MANY_IDENTIFIERS = strawberry.enum_value(
        "TOO_MANY_IDENTIFIERS", description="The account has as many identifiers as it can."
    )


SERVICE_CODES = frozenset({"TOO_MANY_WEBHOOKS", "UNKNOWN_DELIVERY", "UNKNOWN_WEBHOOK"})
SERVICE_CODES |= {"IDENTIFIER_TAKEN", "PROFILE_CHANGED", "TOO_MANY_IDENTIFIERS", "UNKNOWN_IDENTIFIER"}
"""Codes of what is refused by the service, not by the ledger's rules."""


@strawberry.interface(description="Why nothing was recorded, and what to do about it.")
class UserError:
    """A refusal."""

    code: UserErrorCode = strawberry.field(description="The reason, for programs.")
    message: str = strawberry.field(description="The reason and what to do, for people.")
    path: list[str] = strawberry.field(description="The field that is to blame, outermost first; empty when none is.")
    retryable: bool = strawberry.field(description="Whether the same document may be recorded if sent again later.")


@strawberry.type(description="A refusal whose code and message say everything.")
class OperationRefusedError(UserError):
    """A refusal without details."""


@strawberry.type(description="The account has fewer usable points than the operation needs.")
class InsufficientPointsError(UserError):
    """An overdraft."""

    required_points: Points = strawberry.field(description="Points the operation needs.")
    available_points: Points = strawberry.field(description="Points the account can use now.")


@strawberry.type(description="The points would pass the asset's supply cap.")
class SupplyExceededError(UserError):
    """Too large a supply."""

    supply_cap: Points = strawberry.field(description="The most that may be in circulation.")
    circulating_points: Points = strawberry.field(description="Points in circulation now.")


@strawberry.type(description="The order or event was recorded before, or the evidence of one used.")
class ReferenceUsedError(UserError):
    """A reference that was used."""

    entry_id: strawberry.ID = strawberry.field(description="The entry that recorded it.")


@strawberry.type(description="The activity gives fewer points at a time.")
class GrantTooLargeError(UserError):
    """A grant above its rule."""

    max_points: Points = strawberry.field(description="The most one grant of this activity may give.")


@strawberry.type(description="The member has had this as often as the program lets it in this period.")
class LimitReachedError(UserError):
    """A limit that was reached."""

    count: UInt53 = strawberry.field(description="How often a member may have it in a period.")
    period: CapPeriod = strawberry.field(description="The period; another one begins anew.")


@strawberry.type(description="Fewer of the reward are left.")
class OutOfStockError(UserError):
    """A reward that is used up."""

    left: UInt53 = strawberry.field(description="How many are left.")


@strawberry.type(description="The points are not the reward's price, or a multiple of it.")
class PriceMismatchError(UserError):
    """An amount that is no price."""

    price: Points = strawberry.field(
        description="What one costs; of a refund, what the vouchers cost together, which is refunded whole."
    )


@strawberry.type(description="The purchase was made longer ago than the program lets purchases be recorded.")
class PurchaseTooOldError(UserError):
    """A purchase that comes too late."""

    purchase_within_days: int = strawberry.field(
        description="How many days after it was made a purchase can be recorded."
    )
    days: int = strawberry.field(description="How many days ago it was made, by local dates.")


@strawberry.type(description="The purchase has no such line.")
class UnknownLineError(UserError):
    """A line that there is none of."""

    lines: int = strawberry.field(description="How many lines the purchase has.")


@strawberry.type(description="The last day of the voucher has passed.")
class VoucherExpiredError(UserError):
    """A voucher that comes too late."""

    last_day: Date = strawberry.field(description="The last local date on which it could be used.")


@strawberry.type(description="The points are not a multiple of the step of the terms.")
class OffStepError(UserError):
    """An amount off the step."""

    step: Points = strawberry.field(description="What the points must be a multiple of.")


@strawberry.type(description="The points are fewer than the terms allow at a time.")
class BelowMinimumError(UserError):
    """Too small an amount."""

    minimum: Points = strawberry.field(description="The fewest points at a time.")


@strawberry.type(description="The points are more than the terms allow at a time.")
class AboveMaximumError(UserError):
    """Too large an amount."""

    maximum: Points = strawberry.field(description="The most points at a time.")


@strawberry.type(description="The points would pass a cap of the terms.")
class CapExceededError(UserError):
    """A cap that was reached."""

    cap_points: Points = strawberry.field(description="The most points in a period.")
    used_points: Points = strawberry.field(description="Points of this period that are used already.")
    period: CapPeriod = strawberry.field(description="The period; another one begins with nothing used.")


@strawberry.type(description="Fewer points would come out than the holder accepts.")
class OutcomeTooSmallError(UserError):
    """An outcome below its limit."""

    outcome_points: Points = strawberry.field(description="Points that would come out.")


@strawberry.type(description="The fee is higher than the holder accepts.")
class FeeAboveLimitError(UserError):
    """A fee above its limit."""

    fee_amount: MinorUnits = strawberry.field(description="The fee, in minor units.")
    currency: str = strawberry.field(description="The currency of the fee.")


@strawberry.type(description="The partner has fewer points left of those it bought.")
class AllotmentUsedUpError(UserError):
    """An allotment that is used up."""

    required_points: Points = strawberry.field(description="Points the operation would issue.")
    remaining_points: Points = strawberry.field(description="Points the partner can still issue.")


@strawberry.type(description="The time of the hold has passed.")
class HoldLapsedError(UserError):
    """A capture that comes too late."""

    until: Time = strawberry.field(description="The last time at which it could be captured.")


@strawberry.type(description="Fewer points are left on hold.")
class HoldExceededError(UserError):
    """A capture of too much."""

    remaining_points: Points = strawberry.field(description="Points that can still be captured.")


@strawberry.type(description="Less of the original is left to be refunded.")
class RefundTooLargeError(UserError):
    """A refund of too much."""

    refundable_amount: MinorUnits | None = strawberry.field(
        description="What is left of a purchase, in minor units; null for other originals."
    )
    refundable_points: Points | None = strawberry.field(
        description="What is left of a redemption, capture or exchange; null for a purchase."
    )


@strawberry.type(description="The debtor owes less.")
class SettledTooMuchError(UserError):
    """A settlement of too much."""

    owed_amount: MinorUnits = strawberry.field(description="What the debtor owes the actor, in minor units.")


@strawberry.type(description="It is not the next version of the program or agreement.")
class VersionConflictError(UserError):
    """A version out of turn: somebody else published one in between."""

    next_version: int = strawberry.field(description="The number that the next version has.")


@strawberry.type(description="An agreement would end earlier than the notice of its terms allows.")
class NoticeTooShortError(UserError):
    """Too short a notice."""

    earliest_end: Time = strawberry.field(description="The earliest time at which it can end.")


@strawberry.type(description="Exchanging around a loop of agreements would give more points than it takes.")
class PayingLoopError(UserError):
    """A loop that pays."""

    loop: list[str] = strawberry.field(description="The assets of the loop in their order; the first is the last, too.")


@strawberry.type(description="The entry would be larger than an entry can be.")
class EntryTooLargeError(UserError):
    """An operation to split."""

    max_bytes: int = strawberry.field(description="The most bytes an entry may have.")


@strawberry.type(description="A recovery of the account is pending.")
class RecoveryPendingError(UserError):
    """A recovery while another one waits."""

    effective_at: Time = strawberry.field(description="When it takes effect, unless it is cancelled.")


USER_ERROR_TYPES: tuple[type[UserError], ...] = (
    OperationRefusedError,
    InsufficientPointsError,
    SupplyExceededError,
    ReferenceUsedError,
    GrantTooLargeError,
    LimitReachedError,
    OutOfStockError,
    PriceMismatchError,
    VoucherExpiredError,
    PurchaseTooOldError,
    UnknownLineError,
    OffStepError,
    BelowMinimumError,
    AboveMaximumError,
    CapExceededError,
    OutcomeTooSmallError,
    FeeAboveLimitError,
    AllotmentUsedUpError,
    HoldLapsedError,
    HoldExceededError,
    RefundTooLargeError,
    SettledTooMuchError,
    VersionConflictError,
    NoticeTooShortError,
    PayingLoopError,
    EntryTooLargeError,
    RecoveryPendingError,
)

_DETAILED: dict[Code, type[UserError]] = {
    Code.INSUFFICIENT_POINTS: InsufficientPointsError,
    Code.SUPPLY_EXCEEDED: SupplyExceededError,
    Code.ORDER_EXISTS: ReferenceUsedError,
    Code.REFERENCE_EXISTS: ReferenceUsedError,
    Code.GRANT_TOO_LARGE: GrantTooLargeError,
    Code.EVIDENCE_USED: ReferenceUsedError,
    Code.LIMIT_REACHED: LimitReachedError,
    Code.OUT_OF_STOCK: OutOfStockError,
    Code.PRICE_MISMATCH: PriceMismatchError,
    Code.VOUCHER_EXPIRED: VoucherExpiredError,
    Code.PURCHASE_TOO_OLD: PurchaseTooOldError,
    Code.UNKNOWN_LINE: UnknownLineError,
    Code.OFF_STEP: OffStepError,
    Code.BELOW_MINIMUM: BelowMinimumError,
    Code.ABOVE_MAXIMUM: AboveMaximumError,
    Code.CAP_EXCEEDED: CapExceededError,
    Code.OUTCOME_TOO_SMALL: OutcomeTooSmallError,
    Code.FEE_ABOVE_LIMIT: FeeAboveLimitError,
    Code.ALLOTMENT_USED_UP: AllotmentUsedUpError,
    Code.HOLD_LAPSED: HoldLapsedError,
    Code.HOLD_EXCEEDED: HoldExceededError,
    Code.REFUND_TOO_LARGE: RefundTooLargeError,
    Code.SETTLED_TOO_MUCH: SettledTooMuchError,
    Code.VERSION_CONFLICT: VersionConflictError,
    Code.NOTICE_TOO_SHORT: NoticeTooShortError,
    Code.PAYING_LOOP: PayingLoopError,
    Code.TOO_LARGE: EntryTooLargeError,
    Code.RECOVERY_PENDING: RecoveryPendingError,
}

_INDEXED = re.compile(r"([^\[\]]*)\[([0-9]+|\.\.\.)\]")


def user_error(rejection: Rejection, *, inside: tuple[str, ...] = (), camel: bool = False) -> UserError:
    """The refusal as its sender sees it.

    ``inside`` stands before the path; ``camel`` spells the path as a typed input does, not as the document does.
    """
    kind = _DETAILED.get(rejection.code) if rejection.details else None
    details: dict[str, Any] = dict(rejection.details) if kind else {}
    if kind is ReferenceUsedError:
        details = {"entry_id": strawberry.ID(f"ent_{details['seq']}")}
    elif kind is RefundTooLargeError:  # the details are money or points, as the original is
        details = {"refundable_amount": None, "refundable_points": None} | details
    elif kind is PayingLoopError:
        details = {"loop": details["loop"].split(">")}
    return (kind or OperationRefusedError)(
        code=cast(UserErrorCode, rejection.code.value),
        message=rejection.message,
        path=[*inside, *_path(rejection.path, camel=camel)],
        retryable=rejection.retryable,
        **details,
    )


def _path(path: tuple[str, ...], *, camel: bool) -> list[str]:
    parts: list[str] = []
    for part in path:
        match = _INDEXED.fullmatch(part)
        name, index = (match[1], match[2]) if match else (part, None)
        parts.append(_camel(name) if camel else name)
        if index is not None:
            parts.append(index)
    return parts


def _camel(name: str) -> str:
    if name == "sigs":
        return "signatures"
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
