"""Inputs of the mutations: an operation's document, field by field, with its signatures.

What was signed are the canonical bytes of the document. The server rebuilds them from the input, so every field of the
document is stated here; only ``guerdon`` (always 1), ``kind`` (the mutation's) and ``ledger`` (this ledger, unless
given) are filled in, and what is only written out as its own default is left out, as it is in the document.
:func:`signed_document` and :func:`unsigned_document` turn an input back into the document.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

import msgspec
import strawberry
from strawberry.types import get_object_definition

from api.errors import BadInputError
from api.input_parts import (
    AccountRole,
    AgreementTermsInput,
    ClaimInput,
    CorrectionReason,
    DisputeOutcome,
    DisputeReason,
    FreezeReason,
    PaymentInput,
    PlanEndReason,
    PurchaseInput,
    PurchaseRefInput,
    RecipientInput,
    RefundedInput,
    TransferTermsInput,
    UnfreezeReason,
    ValueInput,
    VoucherInput,
    optional,
    required,
)
from api.program_inputs import ProgramRulesInput, ReminderAbout
from api.scalars import Date, Hash, MinorUnits, Points, SignedOperationText, Time
from ledger.encoding import encode_base64url, format_time
from ledger.state import Rejection


@strawberry.input(description="An Ed25519 signature: of an operation it travels with, or of a session's challenge.")
class SignatureInput:
    """A public key and its signature."""

    key: str = required("The public key: 32 bytes in unpadded base64url, 43 characters.")
    sig: str = required("The signature: 64 bytes in unpadded base64url, 86 characters.")


@strawberry.input
class Unsigned:
    """What every operation has, before it is signed. ``given`` holds the fields, by their names in the schema."""

    given: strawberry.Private[Mapping[str, Any]]

    ledger: str | None = optional("The origin of the ledger it is meant for; this ledger when left out.")
    at: Time | None = optional("When it happens; now when left out.")
    nonce: str | None = optional("16 random bytes in unpadded base64url; made by the server when left out.")
    expires: Time | None = optional("The last time it may be recorded: after it, a lost request can never surface.")


@strawberry.input
class Signed:
    """What every operation has, as it was signed. ``given`` holds the fields, by their names in the schema."""

    given: strawberry.Private[Mapping[str, Any]]

    ledger: str | None = optional("The origin of the ledger it was signed for; this ledger when left out.")
    at: Time = required("When it happened; as signed.")
    nonce: str = required("16 random bytes in unpadded base64url, 22 characters; as signed.")
    expires: Time | None = optional("The last time it may be recorded, if the signed document has one.")
    signatures: list[SignatureInput] = required("Signatures of the document's canonical bytes, at most 16.")


_APPROVAL = (
    "How many of the keys must sign what needs approval, 2 to 8: programs, agreements, other keys, large grants and "
    "corrections. More than `threshold`; as many as that when left out."
)


@strawberry.input
class AccountFields:
    """Fields of an account's opening."""

    actor: strawberry.ID | None = optional(
        "Who vouches: the operator for merchants, beneficiaries and auditors; the custodian for a member without keys."
    )
    approval_threshold: int | None = optional(_APPROVAL)
    keys: list[str] | None = optional("The account's public keys, each of which signs; none for a custodial member.")
    name: str | None = optional("Public name of an organisation. Members have none: the ledger has no personal data.")
    role: AccountRole = required("What the account is for.")
    threshold: int | None = optional("How many of the keys must sign later operations; 1 when left out.")


@strawberry.input
class AssetFields:
    """Fields of an asset's definition."""

    actor: strawberry.ID = required("The merchant that issues the asset.")
    asset: str = required("The asset's code: 2 to 16 capital letters and digits, beginning with a letter.")
    name: str = required("Public name, 1 to 64 characters.")
    scale: int = required("Decimal places for display, 0 to 6; amounts are always in the smallest unit.")
    supply_cap: Points | None = optional("The most that may be in circulation; no cap when left out.")
    transfer_terms: TransferTermsInput | None = optional(
        "Bounds and fee of transfers between holders, for points that are transferable; none when left out."
    )
    transferable: bool = required("Whether holders may transfer these points among themselves.")
    value: ValueInput | None = optional("What the points are worth in money, if the merchant states it.")


@strawberry.input
class ProgramFields:
    """Fields of a program version's publication."""

    actor: strawberry.ID = required("The merchant that issues the asset.")
    asset: str = required("The asset's code.")
    ends: Time | None = optional("Purchases from this time on earn nothing under this version.")
    program: ProgramRulesInput = required("The rules.")
    starts: Time = required("Purchases from this time on are under this version.")
    version: int = required("The number of this version: one more than the newest.")


@strawberry.input
class PurchasesFields:
    """Fields of a record of purchases."""

    actor: strawberry.ID = required("The asset's issuer, or a partner with an agreement to give its points.")
    asset: str = required("The asset whose program gives the points.")
    currency: str = required("The currency of all amounts.")
    purchases: list[PurchaseInput] = required("1 to 1,000 purchases, recorded all or none.")


@strawberry.input
class GrantFields:
    """Fields of a grant."""

    activity: str = required("An activity of the program.")
    actor: strawberry.ID = required("The asset's issuer, or a partner with an agreement to give its points.")
    amount: Points | None = optional("Points to grant; 0, for an achievement without points, when left out.")
    asset: str = required("The asset's code.")
    evidence: Hash | None = optional(
        "SHA-256 of what proves the event, good once in the program; for activities that ask for evidence."
    )
    member: strawberry.ID = required("The member who receives them.")
    reference: str = required("Names the event behind the grant; good once per merchant and activity.")
    score: int | None = optional("The member's answer to a survey, 0 to 10; for activities that are scored.")


@strawberry.input
class TransferFields:
    """Fields of a transfer."""

    actor: strawberry.ID = required("The account that gives.")
    asset: str = required("The asset's code.")
    maximum_fee: MinorUnits | None = optional(
        "The most the sender agrees to owe as the asset's transfer fee, in minor units; 0 when left out."
    )
    recipients: list[RecipientInput] = required("1 to 100 recipients, each once.")


@strawberry.input
class RedemptionFields:
    """Fields of a redemption."""

    actor: strawberry.ID = required("The account that spends.")
    amount: Points = required("Points to spend, at least 1.")
    asset: str = required("The asset's code.")
    from_pool: bool | None = optional(
        "`true`: points of all members of the actor's pool, in proportion to what each can use. `false` when left out."
    )
    merchant: strawberry.ID = required("The merchant at which they are spent, or the beneficiary they are given to.")
    reference: str | None = optional("The merchant's bill or order, if there is one.")
    reward: str | None = optional(
        "A reward of the program, of the issuer, that is had for the points: one voucher for each time its price."
    )


@strawberry.input
class CorrectionFields:
    """Fields of a correction."""

    actor: strawberry.ID = required("The merchant that issues the asset.")
    amount: Points = required("Points to give, above 0, or to take away, below 0.")
    asset: str = required("The asset's code.")
    member: strawberry.ID = required("The member whose points change.")
    reason: CorrectionReason = required("Why.")
    reference: str = required("Names the event behind the correction; good once per merchant.")


@strawberry.input
class ExchangeFields:
    """Fields of an exchange."""

    actor: strawberry.ID = required("The account whose points are exchanged.")
    amount: Points = required("Points to give, at least 1.")
    asset: str = required("The code of the asset given.")
    into: str = required("The code of the asset received.")
    maximum_fee: MinorUnits | None = optional(
        "The most the holder agrees to owe as a fee, in minor units of the terms' currency; 0 when left out."
    )
    minimum_out: Points = required("The fewest points that must come out, at least 1, or nothing happens.")


@strawberry.input
class HoldFields:
    """Fields of a hold."""

    actor: strawberry.ID = required("The account whose points are set aside.")
    amount: Points = required("Points to set aside, at least 1.")
    asset: str = required("The asset's code.")
    merchant: strawberry.ID = required("The merchant that may capture them.")
    reference: str | None = optional("The merchant's bill or order, if there is one.")
    until: Time = required("The last time they can be captured, at most 366 days ahead; after it they are free again.")


@strawberry.input
class CaptureFields:
    """Fields of a capture."""

    actor: strawberry.ID = required("The merchant the points are held for.")
    amount: Points = required("Points to spend, at least 1 and at most what is left on hold.")
    final: bool | None = optional("`true`: what is left after this is released. `false` when left out.")
    hold: strawberry.ID = required("The hold.")
    reference: str | None = optional("The merchant's bill or order, if there is one.")


@strawberry.input
class ReleaseFields:
    """Fields of a release."""

    actor: strawberry.ID = required("The merchant the points are held for; anyone once the hold has lapsed.")
    hold: strawberry.ID = required("The hold.")


@strawberry.input
class RefundFields:
    """Fields of a refund."""

    actor: strawberry.ID = required(
        "Who recorded the purchase, received the points spent, or issues those that the exchange gave."
    )
    asset: str = required("The code of the asset that was earned, spent or given.")
    of: RefundedInput = required("What is refunded, and how much of it.")
    reference: str = required("The merchant's number of the refund; good once.")


@strawberry.input
class ExpiryFields:
    """Fields of an expiry."""

    actor: strawberry.ID = required("The operator or the asset's issuer.")
    asset: str = required("The asset's code.")
    limit: int = required("How many lots to retire at most, 1 to 400.")
    through: Date = required("Lots whose last day is this or earlier are retired; it must have passed.")


@strawberry.input
class EnrollmentFields:
    """Fields of an enrollment."""

    actor: strawberry.ID = required("The member.")
    asset: str = required("The asset whose program it is.")
    formula: str | None = optional(
        "The formula of the program by which the member earns from then on; the program's own bands when left out."
    )
    invited_by: strawberry.ID | None = optional(
        "The member who invited it; said once, before the first purchase. Nobody when left out."
    )


@strawberry.input
class VestingFields:
    """Fields of a vesting."""

    actor: strawberry.ID = required("The operator or the asset's issuer.")
    asset: str = required("The asset's code.")
    purchases: list[PurchaseRefInput] = required(
        "1 to 200 purchases; those whose points have not vested by now, or are issued, are passed over."
    )


@strawberry.input
class TierReviewFields:
    """Fields of a review of tiers."""

    actor: strawberry.ID = required("The operator or the asset's issuer.")
    asset: str = required("The asset whose program has the tiers.")
    members: list[strawberry.ID] = required("1 to 400 members; those who are in the tier noted last are passed over.")


@strawberry.input
class PlanStartFields:
    """Fields of a plan's start."""

    actor: strawberry.ID = required("The merchant that issues the asset.")
    asset: str = required("The asset whose program has the plan.")
    member: strawberry.ID = required("The member who paid.")
    plan: str = required("The plan; of one that the member has, the end is put off.")
    reference: str = required("The merchant's number of the payment; good once.")


@strawberry.input
class PlanEndFields:
    """Fields of a plan's end before its time."""

    actor: strawberry.ID = required("The merchant that issues the asset.")
    asset: str = required("The asset whose program has the plan.")
    member: strawberry.ID = required("The member whose plan ends.")
    reason: PlanEndReason = required("Why.")


@strawberry.input
class PoolFields:
    """Fields of a pool's forming."""

    actor: strawberry.ID = required("A member.")
    asset: str = required("The asset whose points they spend together.")
    members: list[strawberry.ID] = required("1 to 7 other members, each of whom signs too; in their order.")


@strawberry.input
class PoolLeaveFields:
    """Fields of a member's leaving a pool."""

    actor: strawberry.ID = required("The member.")
    asset: str = required("The asset of the pool.")


@strawberry.input
class VoucherUseFields:
    """Fields of the use of a voucher."""

    actor: strawberry.ID = required("The merchant whose voucher it is.")
    reference: str | None = optional("The merchant's bill or order, if there is one.")
    voucher: VoucherInput = required("The voucher.")


@strawberry.input
class ReminderFields:
    """Fields of reminders."""

    about: ReminderAbout = required("What the members are reminded of.")
    actor: strawberry.ID = required("The operator or the asset's issuer.")
    asset: str = required("The asset whose program says what members are reminded of.")
    members: list[strawberry.ID] = required(
        "1 to 400 members; those who are not to be reminded of it by now are passed over."
    )


@strawberry.input
class AgreementFields:
    """Fields of an agreement's version."""

    actor: strawberry.ID = required("The merchant that issues the asset of the terms.")
    ends: Time | None = optional("From this time on it is not in force; no end when left out.")
    notice_days: int = required("How many days ahead a party says that it ends the agreement, 0 to 3,650.")
    partner: strawberry.ID = required(
        "The other party, who signs too: the issuer of the points received, who accepts points, or who gives them."
    )
    starts: Time = required("From this time on it is in force.")
    terms: AgreementTermsInput = required("What is agreed.")
    version: int = required("The number of this version: one more than the newest of the same agreement.")


@strawberry.input
class AgreementEndFields:
    """Fields of an agreement's end."""

    actor: strawberry.ID = required("One of the parties.")
    agreement: str = required(
        "The agreement: `STAR>BEAN` for exchange, `STAR@mer_…` for acceptance, `STAR+mer_…` for earning."
    )
    ends: Time = required("From this time on no version is in force; as far ahead as the terms' notice says.")


@strawberry.input
class AllotmentFields:
    """Fields of an allotment."""

    actor: strawberry.ID = required("The merchant that issues the asset.")
    asset: str = required("The asset's code.")
    partner: strawberry.ID = required("The prepaid partner that buys the points, who signs too.")
    points: Points = required("How many points it may issue on top of those it has left, at least 1.")
    reference: str = required("The merchant's number of the sale; good once.")


@strawberry.input
class NettingFields:
    """Fields of a netting."""

    actor: strawberry.ID = required("The operator.")
    currency: str = required("The settlement currency.")
    merchants: list[strawberry.ID] = required("2 to 100 merchants whose debts to each other are replaced.")
    payments: list[PaymentInput] = required(
        "What replaces them, at most 99 and none twice between the same two: each merchant comes out with what it is "
        "owed less what it owes."
    )
    through: Date = required(
        "Claims up to this day (UTC) are netted; at most today, whose later claims wait for another netting."
    )


@strawberry.input
class SettlementFields:
    """Fields of a settlement."""

    actor: strawberry.ID = required("The creditor, who confirms that it was paid.")
    amount: MinorUnits = required("What it received, in minor units, at least 1.")
    currency: str = required("The settlement currency.")
    debtor: strawberry.ID = required("Who paid.")
    payment: str = required("The bank's reference of the payment; good once per creditor.")


@strawberry.input
class DisputeFields:
    """Fields of a dispute."""

    actor: strawberry.ID = required("A party of the claim.")
    claim: ClaimInput = required("The claim.")
    reason: DisputeReason = required("What is disputed.")


@strawberry.input
class DisputeResolveFields:
    """Fields of a dispute's end."""

    actor: strawberry.ID = required("A party of the claim, or the operator; see the outcomes.")
    claim: ClaimInput = required("The disputed claim.")
    outcome: DisputeOutcome = required("How it ends.")


@strawberry.input
class FreezeFields:
    """Fields of a freezing."""

    account: strawberry.ID = required("The account that can no longer act.")
    actor: strawberry.ID = required("The operator.")
    reason: FreezeReason = required("Why.")


@strawberry.input
class UnfreezeFields:
    """Fields of an end of a freezing."""

    account: strawberry.ID = required("The account that can act again.")
    actor: strawberry.ID = required("The operator.")
    reason: UnfreezeReason = required("Why.")


@strawberry.input
class ReplaceKeysFields:
    """Fields of a replacement of an account's keys."""

    actor: strawberry.ID = required(
        "The account; one in custody is claimed by its member, with its custodian's signature."
    )
    approval_threshold: int | None = optional(_APPROVAL)
    keys: list[str] = required("All keys the account has from then on, 1 to 8. Each that is new signs too.")
    threshold: int | None = optional("How many of the keys must sign later operations; 1 when left out.")


@strawberry.input
class RecoverKeysFields:
    """Fields of a recovery."""

    account: strawberry.ID = required("The account whose keys were lost.")
    actor: strawberry.ID = required("The operator.")
    approval_threshold: int | None = optional(_APPROVAL)
    keys: list[str] = required(
        "All keys the account has once the recovery delay has passed, 1 to 8. Each of them signs."
    )
    threshold: int | None = optional("How many of the keys must sign then; 1 when left out.")


@strawberry.input
class CancelRecoveryFields:
    """Fields of the end of a recovery."""

    account: strawberry.ID = required("The account whose pending recovery is dropped.")
    actor: strawberry.ID = required("The account itself, or the operator.")


@strawberry.input
class ReplaceLogKeyFields:
    """Fields of a replacement of the log's key."""

    actor: strawberry.ID = required("The operator.")
    log_key: str = required(
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


@strawberry.input(description="Gives a member points, or takes some away, by hand.")
class CorrectionSubmitInput(CorrectionFields, Signed):
    """A signed correction."""


@strawberry.input(description="Transfers points to one or several accounts.")
class TransferSubmitInput(TransferFields, Signed):
    """A signed transfer."""


@strawberry.input(description="Spends points at a merchant.")
class RedemptionSubmitInput(RedemptionFields, Signed):
    """A signed redemption."""


@strawberry.input(description="Turns points of one asset into points of another.")
class ExchangeSubmitInput(ExchangeFields, Signed):
    """A signed exchange."""


@strawberry.input(description="Sets points aside for a merchant.")
class HoldSubmitInput(HoldFields, Signed):
    """A signed hold."""


@strawberry.input(description="Spends points on hold.")
class CaptureSubmitInput(CaptureFields, Signed):
    """A signed capture."""


@strawberry.input(description="Gives points on hold back to their holder.")
class ReleaseSubmitInput(ReleaseFields, Signed):
    """A signed release."""


@strawberry.input(description="Undoes a purchase, redemption, capture or exchange, or part of it.")
class RefundSubmitInput(RefundFields, Signed):
    """A signed refund."""


@strawberry.input(description="Retires lots whose last day has passed.")
class ExpirySubmitInput(ExpiryFields, Signed):
    """A signed expiry."""


@strawberry.input(description="Makes the actor a member of a program, or changes how it earns.")
class EnrollmentSubmitInput(EnrollmentFields, Signed):
    """A signed enrollment."""


@strawberry.input(description="Issues points of purchases that have vested.")
class VestingSubmitInput(VestingFields, Signed):
    """A signed vesting."""


@strawberry.input(description="Notes the tiers in which members are by now.")
class TierReviewSubmitInput(TierReviewFields, Signed):
    """A signed review of tiers."""


@strawberry.input(description="Notes that a member paid for a plan.")
class PlanStartSubmitInput(PlanStartFields, Signed):
    """A signed start of a plan."""


@strawberry.input(description="Ends a member's plan before its time.")
class PlanEndSubmitInput(PlanEndFields, Signed):
    """A signed end of a plan."""


@strawberry.input(description="Lets members spend each other's points.")
class PoolSubmitInput(PoolFields, Signed):
    """A signed forming of a pool."""


@strawberry.input(description="Takes a member out of its pool.")
class PoolLeaveSubmitInput(PoolLeaveFields, Signed):
    """A signed leaving of a pool."""


@strawberry.input(description="Notes that a voucher was used.")
class VoucherUseSubmitInput(VoucherUseFields, Signed):
    """A signed use of a voucher."""


@strawberry.input(description="Reminds members of something in a program.")
class ReminderSubmitInput(ReminderFields, Signed):
    """A signed document of reminders."""


@strawberry.input(description="Publishes a version of an agreement between merchants.")
class AgreementSubmitInput(AgreementFields, Signed):
    """A signed version of an agreement."""


@strawberry.input(description="Ends an agreement.")
class AgreementEndSubmitInput(AgreementEndFields, Signed):
    """A signed end of an agreement."""


@strawberry.input(description="Sells a prepaid partner a block of points.")
class AllotmentSubmitInput(AllotmentFields, Signed):
    """A signed allotment."""


@strawberry.input(description="Replaces what merchants owe each other by fewer payments.")
class NettingSubmitInput(NettingFields, Signed):
    """A signed netting."""


@strawberry.input(description="Confirms that money owed was received.")
class SettlementSubmitInput(SettlementFields, Signed):
    """A signed settlement."""


@strawberry.input(description="Disputes a claim.")
class DisputeSubmitInput(DisputeFields, Signed):
    """A signed dispute."""


@strawberry.input(description="Ends a dispute.")
class DisputeResolveSubmitInput(DisputeResolveFields, Signed):
    """A signed end of a dispute."""


@strawberry.input(description="Stops an account from acting.")
class FreezeSubmitInput(FreezeFields, Signed):
    """A signed freezing."""


@strawberry.input(description="Lets a frozen account act again.")
class UnfreezeSubmitInput(UnfreezeFields, Signed):
    """A signed end of a freezing."""


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


@strawberry.input(description="A correction to be made.")
class CorrectionPreviewInput(CorrectionFields, Unsigned):
    """A correction not signed yet."""


@strawberry.input(description="A transfer to be made.")
class TransferPreviewInput(TransferFields, Unsigned):
    """A transfer not signed yet."""


@strawberry.input(description="A redemption to be made.")
class RedemptionPreviewInput(RedemptionFields, Unsigned):
    """A redemption not signed yet."""


@strawberry.input(description="An exchange to be made.")
class ExchangePreviewInput(ExchangeFields, Unsigned):
    """An exchange not signed yet."""


@strawberry.input(description="A hold to be placed.")
class HoldPreviewInput(HoldFields, Unsigned):
    """A hold not signed yet."""


@strawberry.input(description="A capture to be made.")
class CapturePreviewInput(CaptureFields, Unsigned):
    """A capture not signed yet."""


@strawberry.input(description="A hold to be released.")
class ReleasePreviewInput(ReleaseFields, Unsigned):
    """A release not signed yet."""


@strawberry.input(description="A refund to be made.")
class RefundPreviewInput(RefundFields, Unsigned):
    """A refund not signed yet."""


@strawberry.input(description="An expiry to be carried out.")
class ExpiryPreviewInput(ExpiryFields, Unsigned):
    """An expiry not signed yet."""


@strawberry.input(description="A member to be enrolled.")
class EnrollmentPreviewInput(EnrollmentFields, Unsigned):
    """An enrollment not signed yet."""


@strawberry.input(description="Points to be issued that have vested.")
class VestingPreviewInput(VestingFields, Unsigned):
    """A vesting not signed yet."""


@strawberry.input(description="Tiers to be noted.")
class TierReviewPreviewInput(TierReviewFields, Unsigned):
    """A review of tiers not signed yet."""


@strawberry.input(description="A plan to be started.")
class PlanStartPreviewInput(PlanStartFields, Unsigned):
    """A start of a plan not signed yet."""


@strawberry.input(description="A plan to be ended.")
class PlanEndPreviewInput(PlanEndFields, Unsigned):
    """An end of a plan not signed yet."""


@strawberry.input(description="A pool to be formed.")
class PoolPreviewInput(PoolFields, Unsigned):
    """A forming of a pool not signed yet."""


@strawberry.input(description="A pool to be left.")
class PoolLeavePreviewInput(PoolLeaveFields, Unsigned):
    """A leaving of a pool not signed yet."""


@strawberry.input(description="A voucher to be used.")
class VoucherUsePreviewInput(VoucherUseFields, Unsigned):
    """An use of a voucher not signed yet."""


@strawberry.input(description="Members to be reminded.")
class ReminderPreviewInput(ReminderFields, Unsigned):
    """Reminders not signed yet."""


@strawberry.input(description="An agreement to be made.")
class AgreementPreviewInput(AgreementFields, Unsigned):
    """An agreement's version not signed yet."""


@strawberry.input(description="An agreement to be ended.")
class AgreementEndPreviewInput(AgreementEndFields, Unsigned):
    """An agreement's end not signed yet."""


@strawberry.input(description="Points to be allotted.")
class AllotmentPreviewInput(AllotmentFields, Unsigned):
    """An allotment not signed yet."""


@strawberry.input(description="Debts to be netted.")
class NettingPreviewInput(NettingFields, Unsigned):
    """A netting not signed yet."""


@strawberry.input(description="A settlement to be confirmed.")
class SettlementPreviewInput(SettlementFields, Unsigned):
    """A settlement not signed yet."""


@strawberry.input(description="A claim to be disputed.")
class DisputePreviewInput(DisputeFields, Unsigned):
    """A dispute not signed yet."""


@strawberry.input(description="A dispute to be resolved.")
class DisputeResolvePreviewInput(DisputeResolveFields, Unsigned):
    """A dispute's end not signed yet."""


@strawberry.input(description="An account to be frozen.")
class FreezePreviewInput(FreezeFields, Unsigned):
    """A freezing not signed yet."""


@strawberry.input(description="An account to be unfrozen.")
class UnfreezePreviewInput(UnfreezeFields, Unsigned):
    """An end of a freezing not signed yet."""


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

    account: AccountPreviewInput | None = optional("An account to be opened.")
    asset: AssetPreviewInput | None = optional("An asset to be defined.")
    program: ProgramPreviewInput | None = optional("A program version to be published.")
    purchases: PurchasesPreviewInput | None = optional("Purchases to be recorded.")
    grant: GrantPreviewInput | None = optional("A grant to be made.")
    correction: CorrectionPreviewInput | None = optional("A correction to be made.")
    transfer: TransferPreviewInput | None = optional("A transfer to be made.")
    redemption: RedemptionPreviewInput | None = optional("A redemption to be made.")
    exchange: ExchangePreviewInput | None = optional("An exchange to be made.")
    hold: HoldPreviewInput | None = optional("A hold to be placed.")
    capture: CapturePreviewInput | None = optional("A capture to be made.")
    release: ReleasePreviewInput | None = optional("A hold to be released.")
    refund: RefundPreviewInput | None = optional("A refund to be made.")
    expiry: ExpiryPreviewInput | None = optional("An expiry to be carried out.")
    enrollment: EnrollmentPreviewInput | None = optional("A member to be enrolled.")
    vesting: VestingPreviewInput | None = optional("Points to be issued that have vested.")
    tier_review: TierReviewPreviewInput | None = optional("Tiers to be noted.")
    plan_start: PlanStartPreviewInput | None = optional("A plan to be started.")
    plan_end: PlanEndPreviewInput | None = optional("A plan to be ended.")
    pool: PoolPreviewInput | None = optional("A pool to be formed.")
    pool_leave: PoolLeavePreviewInput | None = optional("A pool to be left.")
    voucher_use: VoucherUsePreviewInput | None = optional("A voucher to be used.")
    reminder: ReminderPreviewInput | None = optional("Members to be reminded.")
    agreement: AgreementPreviewInput | None = optional("An agreement to be made.")
    agreement_end: AgreementEndPreviewInput | None = optional("An agreement to be ended.")
    allotment: AllotmentPreviewInput | None = optional("Points to be allotted.")
    netting: NettingPreviewInput | None = optional("Debts to be netted.")
    settlement: SettlementPreviewInput | None = optional("A settlement to be confirmed.")
    dispute: DisputePreviewInput | None = optional("A claim to be disputed.")
    dispute_resolve: DisputeResolvePreviewInput | None = optional("A dispute to be resolved.")
    freeze: FreezePreviewInput | None = optional("An account to be frozen.")
    unfreeze: UnfreezePreviewInput | None = optional("An account to be unfrozen.")
    replace_keys: ReplaceKeysPreviewInput | None = optional("Keys to be replaced.")
    recover_keys: RecoverKeysPreviewInput | None = optional("A recovery to be recorded.")
    cancel_recovery: CancelRecoveryPreviewInput | None = optional("A recovery to be dropped.")
    replace_log_key: ReplaceLogKeyPreviewInput | None = optional("A log's key to be replaced.")
    document: str | None = optional("Any operation as the canonical JSON of its document, without signatures.")


@strawberry.input(description="A signed operation of any kind.")
class OperationSubmitInput:
    """A signed operation as it is."""

    operation: SignedOperationText = required("The document and its signatures, byte for byte as they were signed.")


@strawberry.input(description="Signed operations to submit together; each is recorded or refused on its own.")
class OperationsSubmitInput:
    """Signed operations in bulk."""

    operations: list[SignedOperationText] = required("1 to 1,000 signed operations; they are recorded in this order.")


@strawberry.input(description="An answered challenge.")
class SessionOpenInput:
    """What opens a session."""

    account: strawberry.ID = required("The account to sign in as.")
    challenge: str = required(
        "What `sessionChallenge` gave for this account, not older than 2 minutes. It opens one session."
    )
    signatures: list[SignatureInput] = required(
        'Signatures of `"guerdon session v1\\n"` followed by the challenge, by as many keys in force for the account '
        "as its threshold says."
    )


KIND_OF: dict[type[Any], str] = {
    AccountFields: "open_account",
    AssetFields: "define_asset",
    ProgramFields: "publish_program",
    PurchasesFields: "record_purchases",
    GrantFields: "grant",
    CorrectionFields: "correct",
    TransferFields: "transfer",
    RedemptionFields: "redeem",
    ExchangeFields: "exchange",
    HoldFields: "hold",
    CaptureFields: "capture",
    ReleaseFields: "release",
    RefundFields: "refund",
    ExpiryFields: "expire",
    EnrollmentFields: "enroll",
    VestingFields: "vest",
    TierReviewFields: "review_tiers",
    PlanStartFields: "start_plan",
    PlanEndFields: "end_plan",
    PoolFields: "form_pool",
    PoolLeaveFields: "leave_pool",
    VoucherUseFields: "use_voucher",
    ReminderFields: "remind",
    AgreementFields: "agree",
    AgreementEndFields: "end_agreement",
    AllotmentFields: "allot",
    NettingFields: "net",
    SettlementFields: "settle",
    DisputeFields: "dispute",
    DisputeResolveFields: "resolve_dispute",
    FreezeFields: "freeze",
    UnfreezeFields: "unfreeze",
    ReplaceKeysFields: "replace_keys",
    RecoverKeysFields: "recover_keys",
    CancelRecoveryFields: "cancel_recovery",
    ReplaceLogKeyFields: "replace_log_key",
}
"""The kind of operation that each group of fields describes."""

TAGS = {"expiry": "after", "of": "type", "terms": "type"}
"""Fields whose ``@oneOf`` input stands for a part of the document that is told apart by a tag, with the tag's name."""

ABSENT: dict[str, Any] = {
    "automatic": False,
    "benefits": [],
    "bonuses": [],
    "categories": [],
    "channels": [],
    "drop": "to_earned",
    "evidence": False,
    "excluded_categories": [],
    "expiring_days": [],
    "final": False,
    "first_purchase": False,
    "fixed": 0,
    "formulas": [],
    "from_amount": 0,
    "from_pool": False,
    "grace_days": 0,
    "grants": [],
    "invited": False,
    "kept": 0,
    "keys": [],
    "lines": [],
    "maximum_fee": 0,
    "merchants": [],
    "minimum": 1,
    "multipliers": [],
    "never_expires": False,
    "new_tier": False,
    "off_step": "refuse",
    "plans": [],
    "products": [],
    "quantities": [],
    "refunds": "cap",
    "returned_lot_days": 0,
    "rewards": [],
    "scored": False,
    "stacking": "best",
    "step": 1,
    "tenders": [],
    "threshold": 1,
    "tiers": [],
    "weekdays": [],
    "window": 1,
}
"""What the absence of a field means in every document: an input may say it, a document never does."""

ABSENT_OF: dict[str, dict[str, Any]] = {"grant": {"amount": 0}}
"""The same of the fields of one kind whose names mean something else elsewhere: a purchase of 0 says so."""

RandomBytes = Callable[[int], bytes]


def _keep(kind: type[Any], given: Mapping[str, Any], _: object) -> Any:
    """An input that keeps what was given, coerced by its type in the schema, instead of copying it field by field.

    The document is all that is ever made of it, and the copy would cost as much as executing the request.
    """
    fields = object.__new__(kind)
    fields.given = given
    return fields


for _input in (*Signed.__subclasses__(), *Unsigned.__subclasses__(), ProgramRulesInput):
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


def rules_document(rules: ProgramRulesInput) -> dict[str, Any]:
    """The document of a program by itself, as plain data."""
    document: dict[str, Any] = _plain(rules.given)  # type: ignore[attr-defined]
    return document


def _document(fields: Signed | Unsigned, origin: str) -> dict[str, Any]:
    document: dict[str, Any] = _plain(fields.given)
    document["guerdon"] = 1
    kind = document["kind"] = KIND_OF[type(fields).__mro__[1]]
    for name, absence in ABSENT_OF.get(kind, {}).items():
        if document.get(name) == absence:
            del document[name]
    document.setdefault("ledger", origin)
    return document


def _plain(value: Any) -> Any:
    """Plain data of a document from what was given; what is null, or says what absence means, is left out."""
    if isinstance(value, dict):
        plain: dict[str, Any] = {}
        for given, item in value.items():
            if item is None:
                continue
            name = _snake(given)
            said = _tagged(name, item) if name in TAGS else _plain(item)
            if name not in ABSENT or said != ABSENT[name]:
                plain[name] = said
        return plain
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return value


def _tagged(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a ``@oneOf`` input stands for, as it is written in the document."""
    ((way, chosen),) = given.items()
    if name != "expiry":
        return {TAGS[name]: _snake(way), **_plain(chosen)}
    if way != "never":
        return {TAGS[name]: _snake(way), "months" if way == "inactivity" else "count": chosen}
    if chosen is not True:
        raise BadInputError("expiry.never can only be true; choose another field for points that expire")
    return {TAGS[name]: way}


def as_given(rejection: Rejection, fields: Signed | Unsigned) -> Rejection:
    """A refusal with the path of its field in the input, which has one more step where a ``@oneOf`` was chosen."""
    parts: list[str] = []
    here: Any = fields.given
    for part in rejection.path:
        parts.append(part)
        here = {_snake(name): item for name, item in here.items()}.get(part) if isinstance(here, dict) else None
        if part in TAGS and isinstance(here, dict):
            ((way, here),) = here.items()
            parts.append(_snake(way))
            if part == "expiry":  # its way is the field that has the count
                break
    return msgspec.structs.replace(rejection, path=tuple(parts))


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    """A field's name as it is spelled in documents."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
