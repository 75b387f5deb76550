"""Inputs of the mutations: an operation's document, field by field, with its signatures.

What was signed are the canonical bytes of the document. The server rebuilds them from the input, so every field of the
document is stated here; only ``guerdon`` (always 1), ``kind`` (the mutation's) and ``ledger`` (this ledger, unless
given) are filled in. :func:`document_of` turns an input back into the document.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

import strawberry
from strawberry import UNSET
from strawberry.types import get_object_definition

from api.errors import BadInputError
from api.scalars import Date, MinorUnits, Points, SignedOperationText, Time
from ledger.encoding import encode_base64url, format_time


def _field(description: str) -> Any:
    """A required field of an input."""
    return strawberry.field(description=description)


def _optional(description: str) -> Any:
    """A field that may be left out of the input, and then is absent from the document."""
    return strawberry.field(description=description, default=UNSET)


@strawberry.enum(description="What an account is for.")
class AccountRole(Enum):
    """Roles, with the names they have in documents as values."""

    MEMBER = strawberry.enum_value("member", description="Holds, sends and spends points.")
    MERCHANT = strawberry.enum_value("merchant", description="Issues and accepts points.")
    BENEFICIARY = strawberry.enum_value("beneficiary", description="Receives donations of points: a charity or school.")
    AUDITOR = strawberry.enum_value("auditor", description="Sees everything and verifies the chain.")
    OPERATOR = strawberry.enum_value("operator", description="Runs the ledger; opened by genesis, never over the API.")


@strawberry.enum(description="How a sum that is no whole number of points is rounded, once per purchase.")
class PointsRounding(Enum):
    """Rounding modes of points."""

    DOWN = strawberry.enum_value("down", description="Towards zero.")
    HALF_UP = strawberry.enum_value("half_up", description="To the nearest; halves go up.")
    HALF_EVEN = strawberry.enum_value("half_even", description="To the nearest; halves go to the even neighbour.")
    UP = strawberry.enum_value("up", description="Up to the next whole point.")


@strawberry.enum(description="What happens to a purchase's amount before rates are applied.")
class AmountRounding(Enum):
    """Rounding modes of amounts."""

    NONE = strawberry.enum_value("none", description="Nothing.")
    WHOLE_UNITS = strawberry.enum_value("whole_units", description="The fraction of the currency's unit is dropped.")


@strawberry.input(description="An Ed25519 signature: of an operation it travels with, or of a session's challenge.")
class SignatureInput:
    """A public key and its signature."""

    key: str = _field("The public key: 32 bytes in unpadded base64url, 43 characters.")
    sig: str = _field("The signature: 64 bytes in unpadded base64url, 86 characters.")


@strawberry.input
class Unsigned:
    """What every operation has, before it is signed. ``given`` holds the fields, by their names in the schema."""

    given: strawberry.Private[Mapping[str, Any]]

    ledger: str | None = _optional("The origin of the ledger it is meant for; this ledger when left out.")
    at: Time | None = _optional("When it happens; now when left out.")
    nonce: str | None = _optional("16 random bytes in unpadded base64url; made by the server when left out.")
    expires: Time | None = _optional("The last time it may be recorded: after it, a lost request can never surface.")


@strawberry.input
class Signed:
    """What every operation has, as it was signed. ``given`` holds the fields, by their names in the schema."""

    given: strawberry.Private[Mapping[str, Any]]

    ledger: str | None = _optional("The origin of the ledger it was signed for; this ledger when left out.")
    at: Time = _field("When it happened; as signed.")
    nonce: str = _field("16 random bytes in unpadded base64url, 22 characters; as signed.")
    expires: Time | None = _optional("The last time it may be recorded, if the signed document has one.")
    signatures: list[SignatureInput] = _field("Signatures of the document's canonical bytes, at most 16.")


@strawberry.input
class AccountFields:
    """Fields of an account's opening."""

    actor: strawberry.ID | None = _optional(
        "Who vouches: the operator for merchants, beneficiaries and auditors; the custodian for a member without keys."
    )
    keys: list[str] | None = _optional("The account's public keys, each of which signs; none for a custodial member.")
    name: str | None = _optional("Public name of an organisation. Members have none: the ledger has no personal data.")
    role: AccountRole = _field("What the account is for.")
    threshold: int | None = _optional("How many of the keys must sign later operations; left out when it is 1.")


@strawberry.input(description="What points are worth: `points` points stand for `amount` minor units of `currency`.")
class ValueInput:
    """A value in money."""

    amount: MinorUnits = _field("Minor units of the currency.")
    currency: str = _field("A settlement currency of the ledger, `USD`.")
    points: Points = _field("Points that are worth the amount.")


@strawberry.input
class AssetFields:
    """Fields of an asset's definition."""

    actor: strawberry.ID = _field("The merchant that issues the asset.")
    asset: str = _field("The asset's code: 2 to 16 capital letters and digits, beginning with a letter.")
    name: str = _field("Public name, 1 to 64 characters.")
    scale: int = _field("Decimal places for display, 0 to 6; amounts are always in the smallest unit.")
    supply_cap: Points | None = _optional("The most that may be in circulation; no cap when left out.")
    transferable: bool = _field("Whether holders may transfer these points among themselves.")
    value: ValueInput | None = _optional("What the points are worth in money, if the merchant states it.")


@strawberry.input(
    description="From `from` minor units upwards, `points` points for every `per` minor units (marginal rate)."
)
class BandInput:
    """A band of a program's rates."""

    from_amount: MinorUnits = strawberry.field(name="from", description="Where the band begins, in minor units.")
    per: MinorUnits = _field("Minor units that earn `points`.")
    points: Points = _field("Points for every `per` minor units.")


@strawberry.input(description="When points expire: exactly one of the ways.", one_of=True)
class ExpiryInput:
    """A rule of expiry."""

    never: bool | None = _optional("`true`: never.")
    days: int | None = _optional("So many days after the day of earning is the last day.")
    months: int | None = _optional("The same day so many months later is the last day, at most that month's last.")
    year_end: int | None = _optional("31 December, so many years after the year of earning, is the last day.")


@strawberry.input(description="An activity points may be granted for, and the most one grant may give.")
class GrantRuleInput:
    """A rule for grants."""

    activity: str = _field("Name of the activity: `birthday`, `referral`, …")
    max_points: Points = _field("The most one grant may give.")


@strawberry.input(description="A merchant's rules for earning and expiry.")
class ProgramRulesInput:
    """The document of a program."""

    bands: list[BandInput] = _field("Rates; they rise strictly, and an amount below the first earns nothing.")
    currency: str = _field("The currency amounts are in.")
    expiry: ExpiryInput = _field("When the points expire.")
    grants: list[GrantRuleInput] | None = _optional("Activities points may be granted for; left out when none.")
    round_amount: AmountRounding = _field("What happens to an amount before rates are applied.")
    round_points: PointsRounding = _field("How the points of a purchase are rounded.")
    time_zone: str = _field("IANA time zone in which a purchase's date and a last day are understood.")


@strawberry.input
class ProgramFields:
    """Fields of a program version's publication."""

    actor: strawberry.ID = _field("The merchant that issues the asset.")
    asset: str = _field("The asset's code.")
    ends: Time | None = _optional("Purchases from this time on earn nothing under this version.")
    program: ProgramRulesInput = _field("The rules.")
    starts: Time = _field("Purchases from this time on are under this version.")
    version: int = _field("The number of this version: one more than the newest.")


@strawberry.input(description="One purchase.")
class PurchaseInput:
    """A purchase."""

    amount: MinorUnits = _field("What was paid, in minor units.")
    at: Time = _field("When it was made.")
    member: strawberry.ID = _field("The member's account.")
    order: str = _field("The merchant's order reference, good once per merchant.")


@strawberry.input
class PurchasesFields:
    """Fields of a record of purchases."""

    actor: strawberry.ID = _field("The merchant.")
    asset: str = _field("The asset whose program gives the points.")
    currency: str = _field("The currency of all amounts.")
    purchases: list[PurchaseInput] = _field("1 to 1,000 purchases, recorded all or none.")


@strawberry.input
class GrantFields:
    """Fields of a grant."""

    activity: str = _field("An activity of the program.")
    actor: strawberry.ID = _field("The merchant.")
    amount: Points = _field("Points to grant.")
    asset: str = _field("The asset's code.")
    member: strawberry.ID = _field("The member who receives them.")
    reference: str = _field("Names the event behind the grant; good once per merchant and activity.")


@strawberry.input(description="Who receives how many points.")
class RecipientInput:
    """A recipient of a transfer."""

    amount: Points = _field("Points, at least 1.")
    to: strawberry.ID = _field("The receiving account.")


@strawberry.input
class TransferFields:
    """Fields of a transfer."""

    actor: strawberry.ID = _field("The account that gives.")
    asset: str = _field("The asset's code.")
    recipients: list[RecipientInput] = _field("1 to 100 recipients, each once.")


@strawberry.input
class RedemptionFields:
    """Fields of a redemption."""

    actor: strawberry.ID = _field("The account that spends.")
    amount: Points = _field("Points to spend, at least 1.")
    asset: str = _field("The asset's code.")
    merchant: strawberry.ID = _field("The merchant at which they are spent.")
    reference: str | None = _optional("The merchant's bill or order, if there is one.")


@strawberry.input
class ExpiryFields:
    """Fields of an expiry."""

    actor: strawberry.ID = _field("The operator or the asset's issuer.")
    asset: str = _field("The asset's code.")
    limit: int = _field("How many lots to retire at most, 1 to 400.")
    through: Date = _field("Lots whose last day is this or earlier are retired; it must have passed.")


@strawberry.input
class ReplaceKeysFields:
    """Fields of a replacement of an account's keys."""

    actor: strawberry.ID = _field(
        "The account; one in custody is claimed by its member, with its custodian's signature."
    )
    keys: list[str] = _field("All keys the account has from then on, 1 to 8. Each that is new signs too.")
    threshold: int | None = _optional("How many of the keys must sign later operations; left out when it is 1.")


@strawberry.input
class RecoverKeysFields:
    """Fields of a recovery."""

    account: strawberry.ID = _field("The account whose keys were lost.")
    actor: strawberry.ID = _field("The operator.")
    keys: list[str] = _field("All keys the account has once the recovery delay has passed, 1 to 8. Each of them signs.")
    threshold: int | None = _optional("How many of the keys must sign then; left out when it is 1.")


@strawberry.input
class CancelRecoveryFields:
    """Fields of the end of a recovery."""

    account: strawberry.ID = _field("The account whose pending recovery is dropped.")
    actor: strawberry.ID = _field("The account itself, or the operator.")


@strawberry.input
class ReplaceLogKeyFields:
    """Fields of a replacement of the log's key."""

    actor: strawberry.ID = _field("The operator.")
    log_key: str = _field(
        "The key that signs checkpoints from this entry's on (C2SP signed-note verifier key); it bears the origin."
    )


@strawberry.input(description="Opens an account.")
class AccountSubmitInput(AccountFields, Signed):
    """A signed opening of an account."""


@strawberry.input(description="Defines a merchant's asset.")
class AssetSubmitInput(AssetFields, Signed):
    """A signed definition of an asset."""


@strawberry.input(description="Publishes a version of an asset's program.")
class ProgramSubmitInput(ProgramFields, Signed):
    """A signed program version."""


@strawberry.input(description="Records purchases; the ledger computes their points.")
class PurchasesSubmitInput(PurchasesFields, Signed):
    """A signed record of purchases."""


@strawberry.input(description="Grants points for an activity.")
class GrantSubmitInput(GrantFields, Signed):
    """A signed grant."""


@strawberry.input(description="Transfers points to one or several accounts.")
class TransferSubmitInput(TransferFields, Signed):
    """A signed transfer."""


@strawberry.input(description="Spends points at a merchant.")
class RedemptionSubmitInput(RedemptionFields, Signed):
    """A signed redemption."""


@strawberry.input(description="Retires lots whose last day has passed.")
class ExpirySubmitInput(ExpiryFields, Signed):
    """A signed expiry."""


@strawberry.input(description="Gives an account other keys.")
class ReplaceKeysSubmitInput(ReplaceKeysFields, Signed):
    """A signed replacement of keys."""


@strawberry.input(description="Gives other keys, after a delay, to an account whose own were lost.")
class RecoverKeysSubmitInput(RecoverKeysFields, Signed):
    """A signed recovery."""


@strawberry.input(description="Drops an account's pending recovery.")
class CancelRecoverySubmitInput(CancelRecoveryFields, Signed):
    """A signed end of a recovery."""


@strawberry.input(description="Gives the log another key.")
class ReplaceLogKeySubmitInput(ReplaceLogKeyFields, Signed):
    """A signed replacement of the log's key."""


@strawberry.input(description="An account to be opened.")
class AccountPreviewInput(AccountFields, Unsigned):
    """An opening not signed yet."""


@strawberry.input(description="An asset to be defined.")
class AssetPreviewInput(AssetFields, Unsigned):
    """A definition not signed yet."""


@strawberry.input(description="A program version to be published.")
class ProgramPreviewInput(ProgramFields, Unsigned):
    """A program version not signed yet."""


@strawberry.input(description="Purchases to be recorded.")
class PurchasesPreviewInput(PurchasesFields, Unsigned):
    """A record of purchases not signed yet."""


@strawberry.input(description="A grant to be made.")
class GrantPreviewInput(GrantFields, Unsigned):
    """A grant not signed yet."""


@strawberry.input(description="A transfer to be made.")
class TransferPreviewInput(TransferFields, Unsigned):
    """A transfer not signed yet."""


@strawberry.input(description="A redemption to be made.")
class RedemptionPreviewInput(RedemptionFields, Unsigned):
    """A redemption not signed yet."""


@strawberry.input(description="An expiry to be carried out.")
class ExpiryPreviewInput(ExpiryFields, Unsigned):
    """An expiry not signed yet."""


@strawberry.input(description="Keys to be replaced.")
class ReplaceKeysPreviewInput(ReplaceKeysFields, Unsigned):
    """A replacement of keys not signed yet."""


@strawberry.input(description="A recovery to be recorded.")
class RecoverKeysPreviewInput(RecoverKeysFields, Unsigned):
    """A recovery not signed yet."""


@strawberry.input(description="A recovery to be dropped.")
class CancelRecoveryPreviewInput(CancelRecoveryFields, Unsigned):
    """An end of a recovery not signed yet."""


@strawberry.input(description="A log's key to be replaced.")
class ReplaceLogKeyPreviewInput(ReplaceLogKeyFields, Unsigned):
    """A replacement of the log's key not signed yet."""


@strawberry.input(description="The operation to preview: exactly one.", one_of=True)
class OperationPreviewInput:
    """One operation, typed or as a document."""

    account: AccountPreviewInput | None = _optional("An account to be opened.")
    asset: AssetPreviewInput | None = _optional("An asset to be defined.")
    program: ProgramPreviewInput | None = _optional("A program version to be published.")
    purchases: PurchasesPreviewInput | None = _optional("Purchases to be recorded.")
    grant: GrantPreviewInput | None = _optional("A grant to be made.")
    transfer: TransferPreviewInput | None = _optional("A transfer to be made.")
    redemption: RedemptionPreviewInput | None = _optional("A redemption to be made.")
    expiry: ExpiryPreviewInput | None = _optional("An expiry to be carried out.")
    replace_keys: ReplaceKeysPreviewInput | None = _optional("Keys to be replaced.")
    recover_keys: RecoverKeysPreviewInput | None = _optional("A recovery to be recorded.")
    cancel_recovery: CancelRecoveryPreviewInput | None = _optional("A recovery to be dropped.")
    replace_log_key: ReplaceLogKeyPreviewInput | None = _optional("A log's key to be replaced.")
    document: str | None = _optional("Any operation as the canonical JSON of its document, without signatures.")


@strawberry.input(description="A signed operation of any kind.")
class OperationSubmitInput:
    """A signed operation as it is."""

    operation: SignedOperationText = _field("The document and its signatures, byte for byte as they were signed.")


@strawberry.input(description="Signed operations to submit together; each is recorded or refused on its own.")
class OperationsSubmitInput:
    """Signed operations in bulk."""

    operations: list[SignedOperationText] = _field("1 to 1,000 signed operations; they are recorded in this order.")


@strawberry.input(description="An answered challenge.")
class SessionOpenInput:
    """What opens a session."""

    account: strawberry.ID = _field("The account to sign in as.")
    challenge: str = _field(
        "What `sessionChallenge` gave for this account, not older than 2 minutes. It opens one session."
    )
    signatures: list[SignatureInput] = _field(
        'Signatures of `"guerdon session v1\\n"` followed by the challenge, by as many keys in force for the account '
        "as its threshold says."
    )


KIND_OF: dict[type, str] = {
    AccountFields: "open_account",
    AssetFields: "define_asset",
    ProgramFields: "publish_program",
    PurchasesFields: "record_purchases",
    GrantFields: "grant",
    TransferFields: "transfer",
    RedemptionFields: "redeem",
    ExpiryFields: "expire",
    ReplaceKeysFields: "replace_keys",
    RecoverKeysFields: "recover_keys",
    CancelRecoveryFields: "cancel_recovery",
    ReplaceLogKeyFields: "replace_log_key",
}
"""The kind of operation that each group of fields describes."""

RandomBytes = Callable[[int], bytes]


def _keep(kind: type[Any], given: Mapping[str, Any], _: object) -> Any:
    """An input that keeps what was given, coerced by its type in the schema, instead of copying it field by field.

    The document is all that is ever made of it, and the copy would cost as much as executing the request.
    """
    fields = object.__new__(kind)
    fields.given = given
    return fields


for _input in (*Signed.__subclasses__(), *Unsigned.__subclasses__()):
    get_object_definition(_input, strict=True).from_input = _keep


def signed_document(fields: Signed, origin: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The document that was signed, as plain data, and its signatures."""
    document = _document(fields, origin)
    signatures: list[dict[str, str]] = document.pop("signatures")
    return document, signatures


def unsigned_document(fields: Unsigned, origin: str, now_ms: int, random_bytes: RandomBytes) -> dict[str, Any]:
    """The document to sign, as plain data; its time is now and its nonce new where the input leaves them out."""
    document = _document(fields, origin)
    document.setdefault("at", format_time(now_ms))
    document.setdefault("nonce", encode_base64url(random_bytes(16)))
    return document


def _document(fields: Signed | Unsigned, origin: str) -> dict[str, Any]:
    document: dict[str, Any] = _plain(fields.given)
    document["guerdon"] = 1
    document["kind"] = KIND_OF[type(fields).__mro__[1]]
    document.setdefault("ledger", origin)
    return document


def _plain(value: Any) -> Any:
    """Plain data of a document from what was given; what is null is left out."""
    if isinstance(value, dict):
        return {
            _snake(name): _expiry(item) if name == "expiry" else _plain(item)
            for name, item in value.items()
            if item is not None
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return value


def _expiry(given: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of an ``ExpiryInput`` as it is written in a program's document."""
    ((after, count),) = given.items()
    if after != "never":
        return {"after": _snake(after), "count": count}
    if count is not True:
        raise BadInputError("expiry.never can only be true; choose another field for points that expire")
    return {"after": after}


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    """A field's name as it is spelled in documents."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
