"""What operations are made of: the scalars of documents, programs, and the terms merchants agree on.

Every part is immutable, has no unknown fields, and leaves out of its bytes what is absent. A default is what absence
means, and writing it out is not canonical. What an operation does with its parts is not decided here.
"""

import zoneinfo
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ledger.encoding import DATE_PATTERN, MAX_INTEGER, TIME_PATTERN

MAX_KEYS = 8
MAX_RECIPIENTS = 100
MAX_EXPIRED_LOTS = 400
MAX_SIGNATURES = 16
MAX_VESTED = 200
MAX_REVIEWED = 400
MAX_POOL_MEMBERS = 8
MAX_CLOCK_TOLERANCE_MS = 3_600_000
MIN_RECOVERY_DELAY_MS = 60_000
MAX_RECOVERY_DELAY_MS = 90 * 86_400_000
DEFAULT_RECOVERY_DELAY_MS = 7 * 86_400_000
"""How long after its recording a recovery takes effect, where genesis does not say."""

Points = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
"""An amount of points in the asset's smallest unit, 1 to 2^53-1."""

Money = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
"""An amount of money in the currency's minor units, 0 to 2^53-1."""

Origin = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*\Z", max_length=128)]
"""A ledger's name: a host and path without scheme, as in a checkpoint's first line."""

ACCOUNT_PATTERN = r"^(mem|mer|ben|aud|opr)_[a-z2-7]{26}\Z"
ASSET_PATTERN = r"^[A-Z][A-Z0-9]{1,15}\Z"

AccountRef = Annotated[str, Meta(pattern=ACCOUNT_PATTERN)]
AssetCode = Annotated[str, Meta(pattern=ASSET_PATTERN)]
CurrencyCode = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Time = Annotated[str, Meta(pattern=TIME_PATTERN)]
Date = Annotated[str, Meta(pattern=DATE_PATTERN)]
Nonce = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]\Z")]
"""16 random bytes in base64url; the last character carries 2 bits."""

KeyText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
VerifierKeyText = Annotated[str, Meta(max_length=256)]
"""The public half of a log's key, see :mod:`ledger.checkpoint`; whether it is one is for the rules to say."""

SignatureText = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{86}\Z")]
Reference = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/#-]{0,63}\Z")]
"""A merchant's own number for an event (an order, a ticket, a bill): 1 to 64 characters, never personal data."""

Name = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f\s]([^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s])?\Z")
]
Label = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
"""A short name: of an activity or another part of a program, a category of goods, a tender, a channel."""

Threshold = Annotated[int, Meta(ge=1, le=MAX_KEYS)]
ApprovalThreshold = Annotated[int, Meta(ge=2, le=MAX_KEYS)]
"""How many keys sign what needs approval; more than the account's threshold."""

HashText = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
HoldRef = Annotated[str, Meta(pattern=r"^hld_[a-z2-7]{26}\Z")]
AgreementName = Annotated[
    str,
    Meta(pattern=r"^[A-Z][A-Z0-9]{1,15}(>[A-Z][A-Z0-9]{1,15}|@(mer|ben)_[a-z2-7]{26}|\+mer_[a-z2-7]{26})\Z"),
]
"""What an agreement is about: ``STAR>BEAN`` exchange, ``STAR@mer_…`` acceptance, ``STAR+mer_…`` earning."""

Role = Literal["member", "merchant", "beneficiary", "auditor", "operator"]
OpenableRole = Literal["member", "merchant", "beneficiary", "auditor"]

ROLE_PREFIXES: dict[str, str] = {
    "member": "mem",
    "merchant": "mer",
    "beneficiary": "ben",
    "auditor": "aud",
    "operator": "opr",
}

FORMS: dict[Any, str] = {
    Origin: "an origin is a host in small letters, maybe with a port and a path, such as ledger.example/coalition",
    AccountRef: "an account is mem_, mer_, ben_, aud_ or opr_ and 26 characters of a-z and 2-7",
    AssetCode: "an asset's code is 2 to 16 capital letters and digits and begins with a letter, such as STAR",
    CurrencyCode: "a currency is three capital letters, such as USD",
    Time: "a time is UTC with milliseconds in the years 1900 to 2999, such as 2026-11-22T10:15:30.123Z",
    Date: "a date is a day in the years 1900 to 2999, such as 2026-11-22",
    Nonce: "a nonce is 16 random bytes in base64url without padding: 22 characters, the last of them A, Q, g or w",
    KeyText: "a public key is 32 bytes in base64url without padding: 43 characters",
    SignatureText: "a signature is 64 bytes in base64url without padding: 86 characters",
    Reference: "a reference is 1 to 64 letters, digits and ._:/#- and begins with a letter or digit, such as 2026/1",
    Name: "a name is 1 to 64 characters without line breaks and other controls, no space first or last",
    HashText: "a hash is 32 bytes in hex: 64 characters of 0-9 and a-f",
    HoldRef: "a hold is hld_ and 26 characters of a-z and 2-7",
    AgreementName: "an agreement is STAR>BEAN (exchange), STAR@mer_… (acceptance) or STAR+mer_… (earning)",
    Label: "a label is 1 to 32 small letters, digits and _ and begins with a letter, such as birthday",
}
"""What a text looks like, by its type: said in place of the pattern it does not match."""

Rounding = Literal["down", "half_up", "half_even", "up"]

# The time zone database is the pinned `tzdata` package alone, so that every machine accepts the same names and
# computes the same local dates.
zoneinfo.reset_tzpath(to=())


class Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A part of an operation: immutable, no unknown fields, absent fields are left out of the bytes."""


class Currency(Document, frozen=True, kw_only=True):
    """A settlement currency; ``scale`` is the number of decimal places of its unit (USD: 2)."""

    code: CurrencyCode
    scale: Annotated[int, Meta(ge=0, le=4)]


class Value(Document, frozen=True, kw_only=True):
    """What points are worth: ``points`` points stand for ``amount`` minor units of ``currency``."""

    amount: Money
    currency: CurrencyCode
    points: Points


class PurchaseLine(Document, frozen=True, kw_only=True):
    """A part of a purchase, in minor units, of a category of goods (taxes are one, gift cards another) or a product."""

    amount: Money
    category: Label | None = None
    product: Reference | None = None


class Quantity(Document, frozen=True, kw_only=True):
    """How much of something that is no money a purchase has, such as miles flown."""

    name: Label
    quantity: Money


class Purchase(Document, frozen=True, kw_only=True):
    """One purchase: the merchant's order reference, who bought, when, and for how much in minor units.

    Where there are ``lines``, they add up to the amount. ``tender`` is how it was paid, ``channel`` where it was made.
    """

    amount: Money
    at: Time
    channel: Label | None = None
    lines: Annotated[tuple[PurchaseLine, ...], Meta(max_length=100)] = ()
    member: AccountRef
    order: Reference
    quantities: Annotated[tuple[Quantity, ...], Meta(max_length=8)] = ()
    tender: Label | None = None


class Recipient(Document, frozen=True, kw_only=True):
    """Who receives how many points of a transfer."""

    amount: Points
    to: AccountRef


Period = Literal["day", "month", "year", "ever"]
FromTwo = Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
"""A bound whose default, 1, bounds nothing."""


class Fee(Document, frozen=True, kw_only=True):
    """What moving points costs in money: ``amount`` minor units for every ``points`` points, rounded as stated.

    ``fixed`` comes on top, and the sum is at most ``maximum``. Nothing costs nothing.
    """

    amount: Money
    currency: CurrencyCode
    fixed: Money = 0
    maximum: Annotated[int, Meta(ge=1, le=MAX_INTEGER)] | None = None
    points: Points
    round: Rounding


class KeptFee(Fee, frozen=True, kw_only=True):
    """A fee that ``kept_by``, one of the two parties of the agreement, receives."""

    kept_by: AccountRef


class Cap(Document, frozen=True, kw_only=True):
    """The most points in a calendar period, by the local dates of their asset."""

    period: Period
    points: Points


class ClaimTerms(Document, frozen=True, kw_only=True):
    """What one merchant owes the other: ``amount`` minor units for every ``points`` points, rounded as stated."""

    amount: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    currency: CurrencyCode
    debtor: AccountRef
    points: Points
    round: Rounding


class TransferTerms(Document, frozen=True, kw_only=True):
    """Bounds and the fee of transfers between holders; what the issuer itself sends or receives is not bound.

    Each recipient's points are a multiple of ``step``; the sum is from ``minimum`` to ``maximum``. ``out_cap`` bounds
    what a holder sends in a period, ``in_cap`` what one receives. The sender owes the issuer the ``fee``.
    """

    fee: Fee | None = None
    in_cap: Cap | None = None
    maximum: Points | None = None
    minimum: FromTwo = 1
    out_cap: Cap | None = None
    step: FromTwo = 1


class Rate(Document, frozen=True, kw_only=True):
    """For every ``give`` points of one asset, ``get`` points of the other; a fraction of a point is dropped."""

    get: Points
    give: Points


class Bonus(Document, frozen=True, kw_only=True):
    """``points`` points more for every whole ``block`` points given."""

    block: Points
    points: Points


Received = Literal["kept", "retired"]
"""What becomes of points that a merchant receives: it keeps them, or they are out of circulation."""


class ExchangeTerms(Document, frozen=True, kw_only=True, tag_field="type", tag="exchange"):
    """How points of ``asset`` become points of ``into``.

    What is given is a multiple of ``step``: another amount is refused, or made less with ``off_step`` "down".
    ``holder_cap`` bounds what one holder gives in a period, ``total_cap`` what all do.
    """

    asset: AssetCode
    bonus: Bonus | None = None
    claim: ClaimTerms | None = None
    fee: KeptFee | None = None
    holder_cap: Cap | None = None
    into: AssetCode
    maximum: Points | None = None
    minimum: FromTwo = 1
    off_step: Literal["refuse", "down"] = "refuse"
    rate: Rate
    received: Received
    step: FromTwo = 1
    total_cap: Cap | None = None


class AcceptanceTerms(Document, frozen=True, kw_only=True, tag_field="type", tag="acceptance"):
    """How points of ``asset`` are spent at a merchant that does not issue them, or donated to a beneficiary."""

    asset: AssetCode
    claim: ClaimTerms | None = None
    holder_cap: Cap | None = None
    maximum: Points | None = None
    minimum: FromTwo = 1
    received: Received
    step: FromTwo = 1
    total_cap: Cap | None = None


class EarningTerms(Document, frozen=True, kw_only=True, tag_field="type", tag="earning"):
    """How a partner gives points of ``asset``, which another merchant issues, to those who buy from it.

    ``billing`` "prepaid": out of points allotted to it beforehand, with an alert when fewer than ``alert_below`` are
    left. "postpaid": each point issued is owed by the ``claim``.
    """

    alert_below: Points | None = None
    asset: AssetCode
    billing: Literal["postpaid", "prepaid"]
    claim: ClaimTerms | None = None
    total_cap: Cap | None = None


Terms = ExchangeTerms | AcceptanceTerms | EarningTerms


class RefundedLine(Document, frozen=True, kw_only=True):
    """``amount`` minor units of the ``line``-th line of a purchase, from 0."""

    amount: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    line: Annotated[int, Meta(ge=0, le=99)]


class RefundedPurchase(Document, frozen=True, kw_only=True, tag_field="type", tag="purchase"):
    """``amount`` minor units of the purchase ``order``, of the ``lines`` named, or else of its last lines."""

    amount: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    lines: Annotated[tuple[RefundedLine, ...], Meta(max_length=100)] = ()
    order: Reference


class RefundedRedemption(Document, frozen=True, kw_only=True, tag_field="type", tag="redemption"):
    """``amount`` points that the redemption or capture with this operation id spent."""

    amount: Points
    operation: HashText


class RefundedExchange(Document, frozen=True, kw_only=True, tag_field="type", tag="exchange"):
    """``amount`` points that the exchange with this operation id took."""

    amount: Points
    operation: HashText


Refunded = RefundedPurchase | RefundedRedemption | RefundedExchange


class Payment(Document, frozen=True, kw_only=True):
    """What one merchant is to pay another, in minor units."""

    amount: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    creditor: AccountRef
    debtor: AccountRef


class ClaimRef(Document, frozen=True, kw_only=True):
    """A claim: the ``index``-th, from 0, that entry ``seq`` made."""

    index: Annotated[int, Meta(ge=0, le=100)]
    seq: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


class PurchaseRef(Document, frozen=True, kw_only=True):
    """A purchase: the merchant that recorded it, and its order reference there."""

    merchant: AccountRef
    order: Reference


class VoucherRef(Document, frozen=True, kw_only=True):
    """A voucher: the ``index``-th, from 0, that entry ``seq`` gave."""

    index: Annotated[int, Meta(ge=0, le=100_000)]
    seq: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]


About = Literal["balance", "expiry", "tier"]
"""What a member is reminded of."""


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """The names of the pinned ``tzdata`` package: the same on every machine, whatever its file system makes of case."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("ascii").split())
