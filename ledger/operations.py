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
from typing import Annotated, Any, ClassVar, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from ledger.encoding import (
    MAX_INTEGER,
    EncodingError,
    OpId,
    describe_difference,
    encode_canonical,
    parse_date,
    parse_time,
)
from ledger.keys import OPERATION_CONTEXT, decode_public_key
from ledger.program_terms import Program, ProgramError, check_program
from ledger.terms import (
    DEFAULT_RECOVERY_DELAY_MS,
    FORMS,
    MAX_CLOCK_TOLERANCE_MS,
    MAX_EXPIRED_LOTS,
    MAX_KEYS,
    MAX_POOL_MEMBERS,
    MAX_RECIPIENTS,
    MAX_RECOVERY_DELAY_MS,
    MAX_REVIEWED,
    MAX_SIGNATURES,
    MAX_VESTED,
    MIN_RECOVERY_DELAY_MS,
    About,
    AccountRef,
    AgreementName,
    ApprovalThreshold,
    AssetCode,
    ClaimRef,
    Currency,
    CurrencyCode,
    Date,
    Document,
    EarningTerms,
    ExchangeTerms,
    HashText,
    HoldRef,
    KeyText,
    Label,
    Money,
    Name,
    Nonce,
    OpenableRole,
    Origin,
    Payment,
    Points,
    Purchase,
    PurchaseRef,
    Recipient,
    Reference,
    Refunded,
    RefundedPurchase,
    SignatureText,
    Terms,
    Threshold,
    Time,
    TransferTerms,
    Value,
    VerifierKeyText,
    VoucherRef,
)


class Operation(Document, frozen=True, kw_only=True, tag_field="kind"):
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
    ``threshold`` of the keys sign for the account, and ``approval_threshold`` where approval is needed.
    """

    KIND: ClassVar[str] = "open_account"
    actor: AccountRef | None = None
    approval_threshold: ApprovalThreshold | None = None
    keys: Annotated[tuple[KeyText, ...], Meta(max_length=MAX_KEYS)] = ()
    name: Name | None = None
    role: OpenableRole
    threshold: Threshold = 1


class DefineAsset(Operation, frozen=True, kw_only=True, tag="define_asset"):
    """A merchant's points: ``scale`` decimal places for display, an optional cap on the circulating supply.

    ``transfer_terms`` bound transfers between holders, where these are allowed at all.
    """

    KIND: ClassVar[str] = "define_asset"
    actor: AccountRef
    asset: AssetCode
    name: Name
    scale: Annotated[int, Meta(ge=0, le=6)]
    supply_cap: Points | None = None
    transfer_terms: TransferTerms | None = None
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
    """Points for an activity the program lists, or the achievement of it; ``reference`` names the event, good once.

    ``evidence`` is the SHA-256 of what proves the event, ``score`` a member's answer to a survey, where the program
    asks for them. More than the program's ``approval_above`` needs approval.
    """

    KIND: ClassVar[str] = "grant"
    activity: Label
    actor: AccountRef
    amount: Money = 0
    asset: AssetCode
    evidence: HashText | None = None
    member: AccountRef
    reference: Reference
    score: Annotated[int, Meta(ge=0, le=10)] | None = None


class Transfer(Operation, frozen=True, kw_only=True, tag="transfer"):
    """Moves points from the actor to one or several accounts; lots keep their last day, the earliest go first.

    The sender agrees to a fee of at most ``maximum_fee`` minor units.
    """

    KIND: ClassVar[str] = "transfer"
    actor: AccountRef
    asset: AssetCode
    maximum_fee: Money = 0
    recipients: Annotated[tuple[Recipient, ...], Meta(min_length=1, max_length=MAX_RECIPIENTS)]


class Redeem(Operation, frozen=True, kw_only=True, tag="redeem"):
    """Spends the actor's points at a merchant; ``reference`` is the merchant's bill or order, if there is one.

    The merchant issues them, or has an agreement to accept them; a beneficiary may have one too. For a ``reward`` of
    the program, of which there may be several, a voucher is had for each. ``from_pool`` takes the points of all members
    of the actor's pool, in proportion to what each can use.
    """

    KIND: ClassVar[str] = "redeem"
    actor: AccountRef
    amount: Points
    asset: AssetCode
    from_pool: bool = False
    merchant: AccountRef
    reference: Reference | None = None
    reward: Label | None = None


class Correct(Operation, frozen=True, kw_only=True, tag="correct"):
    """Gives a member points (``amount`` above 0) or takes some away, by hand; ``reference`` is good once.

    More than the program's ``approval_above``, either way, needs approval.
    """

    KIND: ClassVar[str] = "correct"
    actor: AccountRef
    amount: Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
    asset: AssetCode
    member: AccountRef
    reason: Literal["error", "fraud", "goodwill", "system", "other"]
    reference: Reference


class Exchange(Operation, frozen=True, kw_only=True, tag="exchange"):
    """Turns the actor's points of ``asset`` into points of ``into``, by the agreement of their issuers.

    At least ``minimum_out`` points come out and at most ``maximum_fee`` minor units are due, or nothing happens.
    """

    KIND: ClassVar[str] = "exchange"
    actor: AccountRef
    amount: Points
    asset: AssetCode
    into: AssetCode
    maximum_fee: Money = 0
    minimum_out: Points


class Hold(Operation, frozen=True, kw_only=True, tag="hold"):
    """Sets the actor's points aside for a merchant, which may capture them until ``until``."""

    KIND: ClassVar[str] = "hold"
    actor: AccountRef
    amount: Points
    asset: AssetCode
    merchant: AccountRef
    reference: Reference | None = None
    until: Time


class Capture(Operation, frozen=True, kw_only=True, tag="capture"):
    """Spends points on hold at the merchant they are held for, the actor; the ``final`` one releases the rest."""

    KIND: ClassVar[str] = "capture"
    actor: AccountRef
    amount: Points
    final: bool = False
    hold: HoldRef
    reference: Reference | None = None


class Release(Operation, frozen=True, kw_only=True, tag="release"):
    """Gives what is left on hold back to its holder; said by the merchant, or by anyone once the hold has lapsed."""

    KIND: ClassVar[str] = "release"
    actor: AccountRef
    hold: HoldRef


class Refund(Operation, frozen=True, kw_only=True, tag="refund"):
    """Undoes (part of) a purchase, redemption, capture or exchange by the rules it was recorded under.

    ``reference`` is the merchant's number of the refund and good once.
    """

    KIND: ClassVar[str] = "refund"
    actor: AccountRef
    asset: AssetCode
    of: Refunded
    reference: Reference


class Expire(Operation, frozen=True, kw_only=True, tag="expire"):
    """Retires the first ``limit`` lots, by last day and account, whose last day is ``through`` or earlier."""

    KIND: ClassVar[str] = "expire"
    actor: AccountRef
    asset: AssetCode
    limit: Annotated[int, Meta(ge=1, le=MAX_EXPIRED_LOTS)]
    through: Date


class Enroll(Operation, frozen=True, kw_only=True, tag="enroll"):
    """Makes the actor a member of a program, or changes the formula by which it earns.

    ``formula`` is one of the program's, absent for its own bands. ``invited_by`` is said before the first purchase.
    """

    KIND: ClassVar[str] = "enroll"
    actor: AccountRef
    asset: AssetCode
    formula: Label | None = None
    invited_by: AccountRef | None = None


class Vest(Operation, frozen=True, kw_only=True, tag="vest"):
    """Issues the points of those of the ``purchases`` whose vesting time has passed."""

    KIND: ClassVar[str] = "vest"
    actor: AccountRef
    asset: AssetCode
    purchases: Annotated[tuple[PurchaseRef, ...], Meta(min_length=1, max_length=MAX_VESTED)]


class ReviewTiers(Operation, frozen=True, kw_only=True, tag="review_tiers"):
    """Notes the tiers in which those of the ``members`` are by now that are no longer in the one noted last."""

    KIND: ClassVar[str] = "review_tiers"
    actor: AccountRef
    asset: AssetCode
    members: Annotated[tuple[AccountRef, ...], Meta(min_length=1, max_length=MAX_REVIEWED)]


class StartPlan(Operation, frozen=True, kw_only=True, tag="start_plan"):
    """Notes that a member paid for a plan of the program; ``reference`` is the payment's, good once."""

    KIND: ClassVar[str] = "start_plan"
    actor: AccountRef
    asset: AssetCode
    member: AccountRef
    plan: Label
    reference: Reference


class EndPlan(Operation, frozen=True, kw_only=True, tag="end_plan"):
    """Ends a member's plan before its time, because it was refunded or for another reason."""

    KIND: ClassVar[str] = "end_plan"
    actor: AccountRef
    asset: AssetCode
    member: AccountRef
    reason: Literal["refunded", "other"]


class FormPool(Operation, frozen=True, kw_only=True, tag="form_pool"):
    """Lets the actor and other members spend each other's points of an asset; all of them sign."""

    KIND: ClassVar[str] = "form_pool"
    actor: AccountRef
    asset: AssetCode
    members: Annotated[tuple[AccountRef, ...], Meta(min_length=1, max_length=MAX_POOL_MEMBERS - 1)]


class LeavePool(Operation, frozen=True, kw_only=True, tag="leave_pool"):
    """Takes the actor out of its pool of an asset, which ends when one member is left."""

    KIND: ClassVar[str] = "leave_pool"
    actor: AccountRef
    asset: AssetCode


class UseVoucher(Operation, frozen=True, kw_only=True, tag="use_voucher"):
    """Notes that a voucher was used at its merchant, the actor; ``reference`` is the merchant's bill, if there is."""

    KIND: ClassVar[str] = "use_voucher"
    actor: AccountRef
    reference: Reference | None = None
    voucher: VoucherRef


class Remind(Operation, frozen=True, kw_only=True, tag="remind"):
    """Reminds those of the ``members`` of something who are to be reminded of it by now, each once."""

    KIND: ClassVar[str] = "remind"
    about: About
    actor: AccountRef
    asset: AssetCode
    members: Annotated[tuple[AccountRef, ...], Meta(min_length=1, max_length=MAX_REVIEWED)]


class Agree(Operation, frozen=True, kw_only=True, tag="agree"):
    """A version of the terms between the issuer of an asset, the actor, and a ``partner``; both sign, with approval.

    In force from ``starts`` until before ``ends``, until a later version starts, or until one of them ends it, no
    earlier than ``notice_days`` days ahead.
    """

    KIND: ClassVar[str] = "agree"
    actor: AccountRef
    ends: Time | None = None
    notice_days: Annotated[int, Meta(ge=0, le=3_650)]
    partner: AccountRef
    starts: Time
    terms: Terms
    version: Annotated[int, Meta(ge=1, le=1_000_000)]


class EndAgreement(Operation, frozen=True, kw_only=True, tag="end_agreement"):
    """Ends every version of an agreement at ``ends``; said by either party, with the notice the terms give."""

    KIND: ClassVar[str] = "end_agreement"
    actor: AccountRef
    agreement: AgreementName
    ends: Time


class Allot(Operation, frozen=True, kw_only=True, tag="allot"):
    """Sells a prepaid partner a block of points of ``asset`` to give to its customers; both sign."""

    KIND: ClassVar[str] = "allot"
    actor: AccountRef
    asset: AssetCode
    partner: AccountRef
    points: Points
    reference: Reference


class Net(Operation, frozen=True, kw_only=True, tag="net"):
    """Replaces what ``merchants`` owe each other, through a day, by ``payments`` that leave each where it was."""

    KIND: ClassVar[str] = "net"
    actor: AccountRef
    currency: CurrencyCode
    merchants: Annotated[tuple[AccountRef, ...], Meta(min_length=2, max_length=100)]
    payments: Annotated[tuple[Payment, ...], Meta(max_length=99)]
    through: Date


class Settle(Operation, frozen=True, kw_only=True, tag="settle"):
    """Confirms that the actor received money ``debtor`` owed it; ``payment`` is the bank's reference, good once."""

    KIND: ClassVar[str] = "settle"
    actor: AccountRef
    amount: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    currency: CurrencyCode
    debtor: AccountRef
    payment: Reference


class Dispute(Operation, frozen=True, kw_only=True, tag="dispute"):
    """Keeps a claim out of netting and settlement until it is resolved; said by one of its parties."""

    KIND: ClassVar[str] = "dispute"
    actor: AccountRef
    claim: ClaimRef
    reason: Literal["amount", "duplicate", "not_ours", "other"]


class ResolveDispute(Operation, frozen=True, kw_only=True, tag="resolve_dispute"):
    """Ends a dispute: the claim stands, or is cancelled."""

    KIND: ClassVar[str] = "resolve_dispute"
    actor: AccountRef
    claim: ClaimRef
    outcome: Literal["cancelled", "stands"]


class Freeze(Operation, frozen=True, kw_only=True, tag="freeze"):
    """Stops an account from acting: it can receive, but not give, nor change its keys. The operator signs."""

    KIND: ClassVar[str] = "freeze"
    account: AccountRef
    actor: AccountRef
    reason: Literal["court_order", "dispute", "fraud", "lost_keys", "stolen_points", "other"]


class Unfreeze(Operation, frozen=True, kw_only=True, tag="unfreeze"):
    """Lets a frozen account act again. The operator signs."""

    KIND: ClassVar[str] = "unfreeze"
    account: AccountRef
    actor: AccountRef
    reason: Literal["mistake", "resolved", "other"]


class ReplaceKeys(Operation, frozen=True, kw_only=True, tag="replace_keys"):
    """Gives the actor exactly these keys from this entry on; a pending recovery is dropped.

    A custodial account is claimed by its member this way: its custodian signs, and the new keys. Every key that was
    not the actor's own already signs too.
    """

    KIND: ClassVar[str] = "replace_keys"
    actor: AccountRef
    approval_threshold: ApprovalThreshold | None = None
    keys: Annotated[tuple[KeyText, ...], Meta(min_length=1, max_length=MAX_KEYS)]
    threshold: Threshold = 1


class RecoverKeys(Operation, frozen=True, kw_only=True, tag="recover_keys"):
    """Gives these keys to an account whose own were lost, after the ledger's recovery delay, unless someone objects.

    The operator, who is the actor, signs, and every one of the keys.
    """

    KIND: ClassVar[str] = "recover_keys"
    account: AccountRef
    actor: AccountRef
    approval_threshold: ApprovalThreshold | None = None
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
    | Correct
    | Transfer
    | Redeem
    | Exchange
    | Hold
    | Capture
    | Release
    | Refund
    | Expire
    | Enroll
    | Vest
    | ReviewTiers
    | StartPlan
    | EndPlan
    | FormPool
    | LeavePool
    | UseVoucher
    | Remind
    | Agree
    | EndAgreement
    | Allot
    | Net
    | Settle
    | Dispute
    | ResolveDispute
    | Freeze
    | Unfreeze
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
        raise malformed(error) from error
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
        raise malformed(error) from error
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


def malformed(error: msgspec.ValidationError) -> MalformedError:
    """What is wrong with plain data that is not of its type, in our words and with the place of it."""
    message, path = _split_message(str(error))
    return MalformedError("MALFORMED", message, path)


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
    _check_keys(op.keys, op.threshold, op.approval_threshold)
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
    try:
        check_program(op.program)
    except ProgramError as error:
        raise MalformedError("MALFORMED", error.message, ("program", *error.path)) from error
    if op.program.status_asset == op.asset:
        message = "base points are the asset's own already: name another asset"
        raise MalformedError("MALFORMED", message, ("program", "status_asset"))


def _check_record_purchases(op: RecordPurchases) -> None:
    for i, purchase in enumerate(op.purchases):
        _check_time(purchase.at, f"purchases[{i}].at")
        if purchase.lines and sum(line.amount for line in purchase.lines) != purchase.amount:
            raise MalformedError("MALFORMED", "the lines add up to the amount", (f"purchases[{i}]", "lines"))
        if purchase.quantities:
            _check_unique([each.name for each in purchase.quantities], f"purchases[{i}].quantities")
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


def _check_refund(op: Refund) -> None:
    if not isinstance(op.of, RefundedPurchase) or not op.of.lines:
        return
    _check_unique([str(each.line) for each in op.of.lines], "of.lines")
    if sum(each.amount for each in op.of.lines) != op.of.amount:
        raise MalformedError("MALFORMED", "the lines add up to the amount", ("of", "lines"))


def _check_enroll(op: Enroll) -> None:
    if op.invited_by == op.actor:
        raise MalformedError("MALFORMED", "nobody invites itself", ("invited_by",))


def _check_vest(op: Vest) -> None:
    _check_unique([f"{each.merchant} {each.order}" for each in op.purchases], "purchases")


def _check_members(op: ReviewTiers | Remind) -> None:
    _check_unique(list(op.members), "members")


def _check_form_pool(op: FormPool) -> None:
    _check_unique([op.actor, *op.members], "members")


def _check_new_keys(op: ReplaceKeys | RecoverKeys) -> None:
    _check_keys(op.keys, op.threshold, op.approval_threshold)


def _check_define_asset(op: DefineAsset) -> None:
    terms = op.transfer_terms
    if terms is None:
        return
    if not op.transferable:
        raise MalformedError(
            "MALFORMED", "an asset that is not transferable has no transfer terms", ("transfer_terms",)
        )
    if terms == TransferTerms():
        raise MalformedError("MALFORMED", "no terms: leave transfer_terms out", ("transfer_terms",))
    _check_bounds(terms.minimum, terms.maximum, ("transfer_terms", "maximum"))


def _check_bounds(minimum: int, maximum: int | None, path: tuple[str, ...]) -> None:
    if maximum is not None and maximum < minimum:
        raise MalformedError("MALFORMED", "the maximum is below the minimum", path)


def _check_correct(op: Correct) -> None:
    if op.amount == 0:
        raise MalformedError("MALFORMED", "a correction of nothing: give or take at least one point", ("amount",))


def _check_exchange(op: Exchange) -> None:
    if op.asset == op.into:
        raise MalformedError("MALFORMED", f"{op.asset} into {op.asset} exchanges nothing", ("into",))


def _check_hold(op: Hold) -> None:
    _check_time(op.until, "until")


def _check_agree(op: Agree) -> None:
    _check_time(op.starts, "starts")
    if op.ends is not None:
        _check_time(op.ends, "ends")
        if op.ends <= op.starts:
            raise MalformedError("MALFORMED", "ends must be later than starts", ("ends",))
    parties = (op.actor, op.partner)
    if op.actor == op.partner:
        raise MalformedError("MALFORMED", "an agreement has two parties", ("partner",))
    terms = op.terms
    if terms.claim is not None and terms.claim.debtor not in parties:
        message = "who owes is one of the two parties"
        raise MalformedError("MALFORMED", message, ("terms", "claim", "debtor"))
    if isinstance(terms, EarningTerms):
        _check_earning(op, terms)
        return
    _check_bounds(terms.minimum, terms.maximum, ("terms", "maximum"))
    if terms.received == "kept" and terms.claim is not None and terms.claim.debtor == op.actor:
        message = "points that are kept can be presented again: the issuer would pay twice"
        raise MalformedError("MALFORMED", message, ("terms", "claim", "debtor"))
    if not isinstance(terms, ExchangeTerms):
        return
    if terms.asset == terms.into:
        raise MalformedError("MALFORMED", f"{terms.asset} into {terms.asset} exchanges nothing", ("terms", "into"))
    if terms.off_step != "refuse" and terms.step == 1:
        raise MalformedError("MALFORMED", "every amount is on a step of 1: leave off_step out", ("terms", "off_step"))
    if terms.fee is not None and terms.fee.kept_by not in parties:
        message = "who keeps the fee is one of the two parties"
        raise MalformedError("MALFORMED", message, ("terms", "fee", "kept_by"))


def _check_earning(op: Agree, terms: EarningTerms) -> None:
    if terms.billing == "postpaid":
        if terms.claim is None:
            message = "what is paid afterwards is owed: say how much in claim"
            raise MalformedError("MALFORMED", message, ("terms", "claim"))
        if terms.claim.debtor != op.partner:
            message = "who gives the points pays for them: otherwise the issuer would pay for every purchase made up"
            raise MalformedError("MALFORMED", message, ("terms", "claim", "debtor"))
        if terms.alert_below is not None:
            message = "only a block of points bought beforehand can run low"
            raise MalformedError("MALFORMED", message, ("terms", "alert_below"))


def _check_end_agreement(op: EndAgreement) -> None:
    _check_time(op.ends, "ends")


def _check_allot(op: Allot) -> None:
    if op.actor == op.partner:
        raise MalformedError("MALFORMED", "points are allotted to another merchant", ("partner",))


def _check_net(op: Net) -> None:
    _check_date(op.through, "through")
    _check_unique(list(op.merchants), "merchants")
    for i, payment in enumerate(op.payments):
        for name, account in (("creditor", payment.creditor), ("debtor", payment.debtor)):
            if account not in op.merchants:
                raise MalformedError("MALFORMED", f"{account} is not among merchants", (f"payments[{i}]", name))
        if payment.debtor == payment.creditor:
            raise MalformedError("MALFORMED", "nobody pays itself", (f"payments[{i}]", "creditor"))
    _check_unique([f"{payment.debtor} to {payment.creditor}" for payment in op.payments], "payments")


def _check_settle(op: Settle) -> None:
    if op.actor == op.debtor:
        raise MalformedError("MALFORMED", "nobody owes itself", ("debtor",))


def _check_expire(op: Expire) -> None:
    _check_date(op.through, "through")


def _check_date(text: str, path: str) -> None:
    try:
        parse_date(text)
    except EncodingError as error:
        raise MalformedError("MALFORMED", str(error), (path,)) from error


_CHECKS: dict[type, Any] = {
    Genesis: _check_genesis,
    OpenAccount: _check_open_account,
    PublishProgram: _check_publish_program,
    RecordPurchases: _check_record_purchases,
    Transfer: _check_transfer,
    DefineAsset: _check_define_asset,
    Correct: _check_correct,
    Exchange: _check_exchange,
    Hold: _check_hold,
    Expire: _check_expire,
    Refund: _check_refund,
    Enroll: _check_enroll,
    Vest: _check_vest,
    ReviewTiers: _check_members,
    Remind: _check_members,
    FormPool: _check_form_pool,
    Agree: _check_agree,
    EndAgreement: _check_end_agreement,
    Allot: _check_allot,
    Net: _check_net,
    Settle: _check_settle,
    ReplaceKeys: _check_new_keys,
    RecoverKeys: _check_new_keys,
}


def _check_time(text: str, path: str) -> None:
    try:
        parse_time(text)
    except EncodingError as error:
        raise MalformedError("MALFORMED", str(error), tuple(path.split("."))) from error


def _check_keys(keys: tuple[str, ...], threshold: int, approval_threshold: int | None = None) -> None:
    for i, key in enumerate(keys):
        try:
            decode_public_key(key)
        except EncodingError as error:
            raise MalformedError("MALFORMED", str(error), (f"keys[{i}]",)) from error
    _check_unique(list(keys), "keys")
    if threshold > max(len(keys), 1):
        raise MalformedError("MALFORMED", "the threshold is above the number of keys", ("threshold",))
    if approval_threshold is None:
        return
    if approval_threshold > len(keys):
        message = "the approval threshold is above the number of keys"
        raise MalformedError("MALFORMED", message, ("approval_threshold",))
    if approval_threshold <= threshold:
        message = "approval asks for more keys than the threshold: leave approval_threshold out"
        raise MalformedError("MALFORMED", message, ("approval_threshold",))


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
