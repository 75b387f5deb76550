r"""Operations: what a party asks the ledger for, as a signed document.

A transfer, as signed (one line, keys sorted, see :mod:`ledger.encoding`)::

    {"actor":"mem_…","asset":"STAR","at":"2026-11-22T10:15:30.123Z","guerdon":1,"kind":"transfer",
     "ledger":"ledger.example/coalition","nonce":"<22 characters>","recipients":[{"amount":1250,"to":"mem_…"}]}

Every operation has ``guerdon`` (format version, 1), ``kind``, ``ledger`` (the origin it is meant for), ``at`` (when
it happened), ``nonce`` (16 random bytes) and may have ``expires`` (the last time it may be recorded). ``actor`` is the
account whose authority it uses; it is absent in ``genesis`` and when a member opens an account alone.

The operation id is SHA-256 of the canonical bytes. The signature is Ed25519 over ``"guerdon operation v1\n"`` and the
canonical bytes; signatures travel beside the document, in ``sigs``.

This module knows which documents are well formed. Whether one may be recorded is decided in :mod:`ledger.rules`.
"""

import hashlib
import zoneinfo
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from ledger.encoding import (
    DATE_PATTERN,
    MAX_INTEGER,
    TIME_PATTERN,
    EncodingError,
    OpId,
    describe_difference,
    encode_canonical,
    parse_date,
    parse_time,
)
from ledger.keys import OPERATION_CONTEXT, decode_public_key

MAX_KEYS = 8
MAX_RECIPIENTS = 100
MAX_EXPIRED_LOTS = 400
MAX_SIGNATURES = 16
MAX_BANDS = 32
MAX_DAYS = 36_500
MAX_MONTHS = 1_200
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
Activity = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
Threshold = Annotated[int, Meta(ge=1, le=MAX_KEYS)]

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
    Activity: "an activity is 1 to 32 small letters, digits and _ and begins with a letter, such as birthday",
}
"""What a text looks like, by its type: said in place of the pattern it does not match."""

Rounding = Literal["down", "half_up", "half_even", "up"]

# The time zone database is the pinned `tzdata` package alone, so that every machine accepts the same names and
# computes the same local dates.
zoneinfo.reset_tzpath(to=())


class _Document(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A part of an operation: immutable, no unknown fields, absent fields are left out of the bytes."""


class Band(_Document, frozen=True, kw_only=True):
    """From ``from_amount`` minor units upwards, ``points`` points for every ``per`` minor units (marginal rate)."""

    from_amount: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] = msgspec.field(name="from")
    per: Annotated[int, Meta(ge=1, le=10**12)]
    points: Annotated[int, Meta(ge=0, le=10**9)]


class NeverExpires(_Document, frozen=True, kw_only=True, tag_field="after", tag="never"):
    """Lots have no last day."""


class ExpiresAfterDays(_Document, frozen=True, kw_only=True, tag_field="after", tag="days"):
    """The last usable day is ``count`` days after the day of earning."""

    count: Annotated[int, Meta(ge=0, le=MAX_DAYS)]


class ExpiresAfterMonths(_Document, frozen=True, kw_only=True, tag_field="after", tag="months"):
    """The last usable day is the same day ``count`` months later, clamped to that month's last day."""

    count: Annotated[int, Meta(ge=0, le=MAX_MONTHS)]


class ExpiresAtYearEnd(_Document, frozen=True, kw_only=True, tag_field="after", tag="year_end"):
    """The last usable day is 31 December, ``count`` years after the year of earning (0: the same year)."""

    count: Annotated[int, Meta(ge=0, le=100)]


Expiry = NeverExpires | ExpiresAfterDays | ExpiresAfterMonths | ExpiresAtYearEnd


class GrantRule(_Document, frozen=True, kw_only=True):
    """An activity a merchant may grant points for, and the most one grant may give."""

    activity: Activity
    max_points: Points


class Program(_Document, frozen=True, kw_only=True):
    """A merchant's published rules for earning and expiry of one asset.

    ``bands`` rise strictly; an amount below the first band earns nothing. ``round_amount`` "whole_units" drops the
    fraction of the currency's unit before any rate is applied; ``round_points`` rounds the sum over all bands once.
    """

    bands: Annotated[tuple[Band, ...], Meta(min_length=1, max_length=MAX_BANDS)]
    currency: CurrencyCode
    expiry: Expiry
    grants: Annotated[tuple[GrantRule, ...], Meta(max_length=64)] = ()
    round_amount: Literal["none", "whole_units"]
    round_points: Rounding
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)]


class Currency(_Document, frozen=True, kw_only=True):
    """A settlement currency; ``scale`` is the number of decimal places of its unit (USD: 2)."""

    code: CurrencyCode
    scale: Annotated[int, Meta(ge=0, le=4)]


class Value(_Document, frozen=True, kw_only=True):
    """What points are worth: ``points`` points stand for ``amount`` minor units of ``currency``."""

    amount: Money
    currency: CurrencyCode
    points: Points


class Purchase(_Document, frozen=True, kw_only=True):
    """One purchase: the merchant's order reference, who bought, when, and for how much in minor units."""

    amount: Money
    at: Time
    member: AccountRef
    order: Reference


class Recipient(_Document, frozen=True, kw_only=True):
    """Who receives how many points of a transfer."""

    amount: Points
    to: AccountRef


class Operation(_Document, frozen=True, kw_only=True, tag_field="kind"):
    """What every kind of operation has. ``ACTOR`` tells whether the kind names the account it acts for."""

    guerdon: Literal[1]
    ledger: Origin
    at: Time
    nonce: Nonce
    expires: Time | None = None

    KIND: ClassVar[str]


class Genesis(Operation, frozen=True, kw_only=True, tag="genesis"):
    """Entry 0: the operator's keys, the key of the log, the settlement currencies and the limits of the ledger.

    ``recovery_delay_ms`` is how long after its recording a recovery takes effect; absent, it is seven days.
    """

    KIND: ClassVar[str] = "genesis"
    clock_tolerance_ms: Annotated[int, Meta(ge=0, le=MAX_CLOCK_TOLERANCE_MS)]
    currencies: Annotated[tuple[Currency, ...], Meta(min_length=1, max_length=32)]
    keys: Annotated[tuple[KeyText, ...], Meta(min_length=1, max_length=MAX_KEYS)]
    log_key: VerifierKeyText
    name: Name
    recovery_delay_ms: Annotated[int, Meta(ge=MIN_RECOVERY_DELAY_MS, le=MAX_RECOVERY_DELAY_MS)] | None = None
    threshold: Threshold = 1


class OpenAccount(Operation, frozen=True, kw_only=True, tag="open_account"):
    """Opens an account. Every key in ``keys`` signs; so does ``actor`` where one is named.

    Merchants, beneficiaries and auditors are vouched for by the operator. A member without ``keys`` is held in custody
    by the merchant named as ``actor``. ``name`` is public and only for organisations; members have none here.
    """

    KIND: ClassVar[str] = "open_account"
    actor: AccountRef | None = None
    keys: Annotated[tuple[KeyText, ...], Meta(max_length=MAX_KEYS)] = ()
    name: Name | None = None
    role: OpenableRole
    threshold: Threshold = 1


class DefineAsset(Operation, frozen=True, kw_only=True, tag="define_asset"):
    """A merchant's points: ``scale`` decimal places for display, an optional cap on the circulating supply."""

    KIND: ClassVar[str] = "define_asset"
    actor: AccountRef
    asset: AssetCode
    name: Name
    scale: Annotated[int, Meta(ge=0, le=6)]
    supply_cap: Points | None = None
    transferable: bool
    value: Value | None = None


class PublishProgram(Operation, frozen=True, kw_only=True, tag="publish_program"):
    """A version of the program of an asset, in force for purchases made from ``starts`` until before ``ends``."""

    KIND: ClassVar[str] = "publish_program"
    actor: AccountRef
    asset: AssetCode
    ends: Time | None = None
    program: Program
    starts: Time
    version: Annotated[int, Meta(ge=1, le=1_000_000)]


class RecordPurchases(Operation, frozen=True, kw_only=True, tag="record_purchases"):
    """Purchases whose points the ledger computes from the program in force at each purchase's ``at``."""

    KIND: ClassVar[str] = "record_purchases"
    actor: AccountRef
    asset: AssetCode
    currency: CurrencyCode
    purchases: Annotated[tuple[Purchase, ...], Meta(min_length=1, max_length=1_000)]


class Grant(Operation, frozen=True, kw_only=True, tag="grant"):
    """Points for an activity the program lists; ``reference`` names the event behind it and is good once."""

    KIND: ClassVar[str] = "grant"
    activity: Activity
    actor: AccountRef
    amount: Points
    asset: AssetCode
    member: AccountRef
    reference: Reference


class Transfer(Operation, frozen=True, kw_only=True, tag="transfer"):
    """Moves points from the actor to one or several accounts; lots keep their last day, the earliest go first."""

    KIND: ClassVar[str] = "transfer"
    actor: AccountRef
    asset: AssetCode
    recipients: Annotated[tuple[Recipient, ...], Meta(min_length=1, max_length=MAX_RECIPIENTS)]


class Redeem(Operation, frozen=True, kw_only=True, tag="redeem"):
    """Spends the actor's points at a merchant; ``reference`` is the merchant's bill or order, if there is one."""

    KIND: ClassVar[str] = "redeem"
    actor: AccountRef
    amount: Points
    asset: AssetCode
    merchant: AccountRef
    reference: Reference | None = None


class Expire(Operation, frozen=True, kw_only=True, tag="expire"):
    """Retires the first ``limit`` lots, by last day and account, whose last day is ``through`` or earlier."""

    KIND: ClassVar[str] = "expire"
    actor: AccountRef
    asset: AssetCode
    limit: Annotated[int, Meta(ge=1, le=MAX_EXPIRED_LOTS)]
    through: Date


class ReplaceKeys(Operation, frozen=True, kw_only=True, tag="replace_keys"):
    """Gives the actor exactly these keys from this entry on; a pending recovery is dropped.

    A custodial account is claimed by its member this way: its custodian signs, and the new keys. Every key that was
    not the actor's own already signs too.
    """

    KIND: ClassVar[str] = "replace_keys"
    actor: AccountRef
    keys: Annotated[tuple[KeyText, ...], Meta(min_length=1, max_length=MAX_KEYS)]
    threshold: Threshold = 1


class RecoverKeys(Operation, frozen=True, kw_only=True, tag="recover_keys"):
    """Gives these keys to an account whose own were lost, after the ledger's recovery delay, unless someone objects.

    The operator, who is the actor, signs, and every one of the keys.
    """

    KIND: ClassVar[str] = "recover_keys"
    account: AccountRef
    actor: AccountRef
    keys: Annotated[tuple[KeyText, ...], Meta(min_length=1, max_length=MAX_KEYS)]
    threshold: Threshold = 1


class CancelRecovery(Operation, frozen=True, kw_only=True, tag="cancel_recovery"):
    """Drops the pending recovery of ``account``; said by the account itself or by the operator."""

    KIND: ClassVar[str] = "cancel_recovery"
    account: AccountRef
    actor: AccountRef


class ReplaceLogKey(Operation, frozen=True, kw_only=True, tag="replace_log_key"):
    """Names the key that signs the checkpoints that hold this entry, and all later ones; the operator signs."""

    KIND: ClassVar[str] = "replace_log_key"
    actor: AccountRef
    log_key: VerifierKeyText


AnyOperation = (
    Genesis
    | OpenAccount
    | DefineAsset
    | PublishProgram
    | RecordPurchases
    | Grant
    | Transfer
    | Redeem
    | Expire
    | ReplaceKeys
    | RecoverKeys
    | CancelRecovery
    | ReplaceLogKey
)

KINDS: dict[str, type[Operation]] = {cls.KIND: cls for cls in get_args(AnyOperation)}
"""Every kind of operation by its name, in the order of the documentation."""


class Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A public key and its signature of the operation it travels with."""

    key: KeyText
    sig: SignatureText


class SignedOperation(Struct, frozen=True, kw_only=True, gc=False):
    """An operation as submitted and as embedded in its entry: exact bytes, id, meaning and signatures."""

    op_bytes: bytes
    op_id: OpId
    op: AnyOperation
    sigs: tuple[Signature, ...]


class MalformedError(ValueError):
    """An operation that is not well formed. ``path`` names the field, outermost first."""

    def __init__(self, code: str, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = path


class _Envelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    op: msgspec.Raw
    sigs: Annotated[tuple[Signature, ...], Meta(max_length=MAX_SIGNATURES)]


_PATTERN_MESSAGES = {
    f"Expected `str` matching regex {form.__metadata__[0].pattern!r}": sentence for form, sentence in FORMS.items()
}
"""What msgspec says of text that does not match a pattern, and what is said instead."""

_operation_decoder = msgspec.json.Decoder(AnyOperation)
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_encoder = msgspec.json.Encoder(order="sorted")


def decode_operation(data: bytes) -> AnyOperation:
    """Read an operation from its canonical bytes; raise :class:`MalformedError` naming the field that is wrong."""
    try:
        op: AnyOperation = _operation_decoder.decode(data)
    except msgspec.ValidationError as error:
        message, path = _split_message(str(error))
        raise MalformedError("MALFORMED", message, path) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("MALFORMED", f"not JSON: {error}") from error
    canonical = _encoder.encode(op)
    if canonical != data:
        raise MalformedError("NOT_CANONICAL", describe_difference(data, canonical))
    check_operation(op)
    return op


def decode_signed_operation(data: bytes, max_bytes: int) -> SignedOperation:
    """Read ``{"op":…,"sigs":[…]}`` in canonical bytes, at most ``max_bytes`` long. Signatures are not verified here."""
    if len(data) > max_bytes:
        raise MalformedError(
            "TOO_LARGE", f"{len(data)} bytes; an operation with its signatures has at most {max_bytes}"
        )
    try:
        envelope = _envelope_decoder.decode(data)
    except msgspec.ValidationError as error:
        message, path = _split_message(str(error))
        raise MalformedError("MALFORMED", message, path) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("MALFORMED", f"not JSON: {error}") from error
    op_bytes = bytes(envelope.op)
    canonical = encode_signed_operation(op_bytes, envelope.sigs)
    if canonical != data:
        raise MalformedError("NOT_CANONICAL", describe_difference(data, canonical))
    return sign_with(op_bytes, envelope.sigs)


def sign_with(op_bytes: bytes, sigs: tuple[Signature, ...]) -> SignedOperation:
    """Put an operation's canonical bytes and its signatures together, checking the form of both."""
    keys = {signature.key for signature in sigs}
    if len(keys) != len(sigs):
        raise MalformedError("MALFORMED", "the same key signs twice", ("sigs",))
    op = decode_operation(op_bytes)
    return SignedOperation(op_bytes=op_bytes, op_id=operation_id(op_bytes), op=op, sigs=sigs)


def encode_signed_operation(op_bytes: bytes, sigs: tuple[Signature, ...]) -> bytes:
    """The canonical bytes of an operation and its signatures together."""
    return b'{"op":' + op_bytes + b',"sigs":' + _encoder.encode(sigs) + b"}"


def encode_operation(op: Operation) -> bytes:
    """The canonical bytes of an operation: what is hashed and, after its context, signed."""
    return _encoder.encode(op)


def build_operation(fields: dict[str, Any]) -> AnyOperation:
    """Check plain data as an operation; raise :class:`MalformedError` naming the field that is wrong."""
    try:
        return decode_operation(encode_canonical(fields))
    except EncodingError as error:
        raise MalformedError("MALFORMED", str(error), _split_path(error.path)) from error


def operation_id(op_bytes: bytes) -> OpId:
    """SHA-256 of the canonical bytes."""
    return OpId(hashlib.sha256(op_bytes).digest())


def signed_message(op_bytes: bytes) -> bytes:
    """What a signature of the operation covers."""
    return OPERATION_CONTEXT + op_bytes


def check_operation(op: AnyOperation) -> None:
    """Check what types cannot say: calendar dates, key encodings, order and uniqueness inside one document."""
    _check_time(op.at, "at")
    if op.expires is not None:
        _check_time(op.expires, "expires")
    check = _CHECKS.get(type(op))
    if check is not None:
        check(op)


def _check_genesis(op: Genesis) -> None:
    _check_keys(op.keys, op.threshold)
    _check_unique([currency.code for currency in op.currencies], "currencies")
    if op.recovery_delay_ms == DEFAULT_RECOVERY_DELAY_MS:  # one ledger, one way to write it
        message = "seven days is what absence means: leave recovery_delay_ms out"
        raise MalformedError("MALFORMED", message, ("recovery_delay_ms",))


def _check_open_account(op: OpenAccount) -> None:
    _check_keys(op.keys, op.threshold)
    if op.role == "member":
        if op.name is not None:
            raise MalformedError("MALFORMED", "a member has no name in the ledger: leave it out", ("name",))
        if not op.keys and op.actor is None:
            raise MalformedError("MALFORMED", "give a key, or a merchant as actor to hold it in custody", ("keys",))
        return
    if op.name is None:
        raise MalformedError("MALFORMED", f"a {op.role} has a public name", ("name",))
    if not op.keys:
        raise MalformedError("MALFORMED", f"a {op.role} has a key of its own", ("keys",))
    if op.actor is None:
        raise MalformedError("MALFORMED", f"a {op.role} is vouched for: name the operator as actor", ("actor",))


def _check_publish_program(op: PublishProgram) -> None:
    _check_time(op.starts, "starts")
    if op.ends is not None:
        _check_time(op.ends, "ends")
        if op.ends <= op.starts:
            raise MalformedError("MALFORMED", "ends must be later than starts", ("ends",))
    program = op.program
    starts = [band.from_amount for band in program.bands]
    if any(later <= earlier for earlier, later in pairwise(starts)):
        raise MalformedError("MALFORMED", "bands must rise: each from above the one before", ("program", "bands"))
    _check_unique([rule.activity for rule in program.grants], "program.grants")
    if program.time_zone not in time_zones():
        message = f"{program.time_zone!r} is not a time zone of the IANA database"
        raise MalformedError("MALFORMED", message, ("program", "time_zone"))


@lru_cache(maxsize=1)
def time_zones() -> frozenset[str]:
    """The names of the pinned ``tzdata`` package: the same on every machine, whatever its file system makes of case."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("ascii").split())


def _check_record_purchases(op: RecordPurchases) -> None:
    for i, purchase in enumerate(op.purchases):
        _check_time(purchase.at, f"purchases[{i}].at")
    _check_unique([purchase.order for purchase in op.purchases], "purchases")


def _check_transfer(op: Transfer) -> None:
    if len(op.recipients) == 1 and op.recipients[0].to != op.actor:
        return  # which most are
    _check_unique([recipient.to for recipient in op.recipients], "recipients")
    for i, recipient in enumerate(op.recipients):
        if recipient.to == op.actor:
            raise MalformedError("MALFORMED", "a transfer to oneself moves nothing", (f"recipients[{i}]", "to"))
    if sum(recipient.amount for recipient in op.recipients) > MAX_INTEGER:
        raise MalformedError("MALFORMED", "more than 2^53-1 points in all", ("recipients",))


def _check_new_keys(op: ReplaceKeys | RecoverKeys) -> None:
    _check_keys(op.keys, op.threshold)


def _check_expire(op: Expire) -> None:
    try:
        parse_date(op.through)
    except EncodingError as error:
        raise MalformedError("MALFORMED", str(error), ("through",)) from error


_CHECKS: dict[type, Any] = {
    Genesis: _check_genesis,
    OpenAccount: _check_open_account,
    PublishProgram: _check_publish_program,
    RecordPurchases: _check_record_purchases,
    Transfer: _check_transfer,
    Expire: _check_expire,
    ReplaceKeys: _check_new_keys,
    RecoverKeys: _check_new_keys,
}


def _check_time(text: str, path: str) -> None:
    try:
        parse_time(text)
    except EncodingError as error:
        raise MalformedError("MALFORMED", str(error), tuple(path.split("."))) from error


def _check_keys(keys: tuple[str, ...], threshold: int) -> None:
    for i, key in enumerate(keys):
        try:
            decode_public_key(key)
        except EncodingError as error:
            raise MalformedError("MALFORMED", str(error), (f"keys[{i}]",)) from error
    _check_unique(list(keys), "keys")
    if threshold > max(len(keys), 1):
        raise MalformedError("MALFORMED", "the threshold is above the number of keys", ("threshold",))


def _check_unique(values: list[str], path: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise MalformedError("MALFORMED", f"{value!r} is there twice", tuple(path.split(".")))
        seen.add(value)


def _split_message(text: str) -> tuple[str, tuple[str, ...]]:
    """Turn msgspec's "… - at `$.recipients[0].amount`" into a sentence and the path of the field."""
    message, separator, place = text.rpartition(" - at `")
    if not separator:
        message, place = text, ""
    path = _split_path(place.rstrip("`"))
    field = message.split("`")[1] if message.startswith(("Object missing", "Object contains unknown")) else None
    return _PATTERN_MESSAGES.get(message, message), (*path, field) if field else path


def _split_path(place: str) -> tuple[str, ...]:
    return tuple(part for part in place.removeprefix("$").split(".") if part)
