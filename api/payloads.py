"""What mutations answer: for each, an entry or the reasons why there is none, and what else a client wants at once.

A payload holds what its mutation has at hand; what costs a question of its own is asked only where it is selected.
"""

import strawberry

from api.fields import ApiInfo, field, resolved
from api.proofs import RECEIPT, receipt_of
from api.rejections import UserError
from api.scalars import Hash, Points, Time, UInt53
from api.types import Account, Asset, Entry, Ledger, Program


@strawberry.interface(description="What became of one submitted operation: an entry, or the reasons why there is none.")
class SubmitPayload:
    """The answer to a submission."""

    entry: Entry | None = field("The entry that records it; null when it was refused.")
    replayed: bool = field("Whether the same document had been recorded by an earlier submission.")
    user_errors: list[UserError] = field("Why it was refused; empty when it is recorded.")

    @resolved(RECEIPT + " Null when it was refused.")
    async def receipt(self, info: ApiInfo) -> str | None:
        """The receipt."""
        return await receipt_of(info.context, self.entry)


@strawberry.type(description="What became of an account's opening.")
class AccountSubmitPayload(SubmitPayload):
    """The answer to ``accountSubmit``."""

    account: Account | None = field("The account as this entry opened it; null when it was refused.")


@strawberry.type(description="What became of an asset's definition.")
class AssetSubmitPayload(SubmitPayload):
    """The answer to ``assetSubmit``."""

    asset: Asset | None = field("The asset; null when it was refused.")


@strawberry.type(description="What became of a program version.")
class ProgramSubmitPayload(SubmitPayload):
    """The answer to ``programSubmit``."""

    program: Program | None = field("The program version; null when it was refused.")


@strawberry.type(description="What became of a record of purchases.")
class PurchasesSubmitPayload(SubmitPayload):
    """The answer to ``purchasesSubmit``."""


@strawberry.type(description="What became of a grant.")
class GrantSubmitPayload(SubmitPayload):
    """The answer to ``grantSubmit``."""


_BALANCE = "Points of the asset the actor has after this entry; null when it was refused or replayed."


@strawberry.type(description="What became of a correction.")
class CorrectionSubmitPayload(SubmitPayload):
    """The answer to ``correctionSubmit``."""


@strawberry.type(description="What became of a transfer.")
class TransferSubmitPayload(SubmitPayload):
    """The answer to ``transferSubmit``."""

    balance: Points | None = field(_BALANCE)


@strawberry.type(description="What became of a redemption.")
class RedemptionSubmitPayload(SubmitPayload):
    """The answer to ``redemptionSubmit``."""

    balance: Points | None = field(_BALANCE)


@strawberry.type(description="What became of an exchange.")
class ExchangeSubmitPayload(SubmitPayload):
    """The answer to ``exchangeSubmit``."""

    points_given: Points | None = field("Points of `asset` that were given; null when it was refused.")
    points_out: Points | None = field("Points of `into` that came out; null when it was refused.")
    balance: Points | None = field(_BALANCE)


@strawberry.type(description="What became of a hold.")
class HoldSubmitPayload(SubmitPayload):
    """The answer to ``holdSubmit``."""

    balance: Points | None = field(_BALANCE)


@strawberry.type(description="What became of a capture.")
class CaptureSubmitPayload(SubmitPayload):
    """The answer to ``captureSubmit``."""


@strawberry.type(description="What became of a release.")
class ReleaseSubmitPayload(SubmitPayload):
    """The answer to ``releaseSubmit``."""


@strawberry.type(description="What became of a refund.")
class RefundSubmitPayload(SubmitPayload):
    """The answer to ``refundSubmit``."""

    points_returned: Points | None = field(
        "Points spent or given that returned to their holder; 0 for a purchase, null when it was refused."
    )
    points_taken_back: Points | None = field(
        "Points that a purchase or exchange had given and that are void now; 0 for a redemption or capture, null when "
        "it was refused."
    )


@strawberry.type(description="What became of an expiry.")
class ExpirySubmitPayload(SubmitPayload):
    """The answer to ``expirySubmit``."""


_ACCOUNT_NOW = "The account as it is now; null when it was refused or replayed."


@strawberry.type(description="What became of a version of an agreement.")
class AgreementSubmitPayload(SubmitPayload):
    """The answer to ``agreementSubmit``."""


@strawberry.type(description="What became of an agreement's end.")
class AgreementEndSubmitPayload(SubmitPayload):
    """The answer to ``agreementEndSubmit``."""


@strawberry.type(description="What became of an allotment.")
class AllotmentSubmitPayload(SubmitPayload):
    """The answer to ``allotmentSubmit``."""


@strawberry.type(description="What became of a netting.")
class NettingSubmitPayload(SubmitPayload):
    """The answer to ``nettingSubmit``."""


@strawberry.type(description="What became of a settlement.")
class SettlementSubmitPayload(SubmitPayload):
    """The answer to ``settlementSubmit``."""


@strawberry.type(description="What became of a dispute.")
class DisputeSubmitPayload(SubmitPayload):
    """The answer to ``disputeSubmit``."""


@strawberry.type(description="What became of a dispute's end.")
class DisputeResolveSubmitPayload(SubmitPayload):
    """The answer to ``disputeResolveSubmit``."""


@strawberry.type(description="What became of a freezing.")
class FreezeSubmitPayload(SubmitPayload):
    """The answer to ``freezeSubmit``."""

    account: Account | None = field(_ACCOUNT_NOW)


@strawberry.type(description="What became of the end of a freezing.")
class UnfreezeSubmitPayload(SubmitPayload):
    """The answer to ``unfreezeSubmit``."""

    account: Account | None = field(_ACCOUNT_NOW)


@strawberry.type(description="What became of a replacement of keys.")
class ReplaceKeysSubmitPayload(SubmitPayload):
    """The answer to ``replaceKeysSubmit``."""

    account: Account | None = field(_ACCOUNT_NOW)


@strawberry.type(description="What became of a recovery.")
class RecoverKeysSubmitPayload(SubmitPayload):
    """The answer to ``recoverKeysSubmit``."""

    account: Account | None = field(_ACCOUNT_NOW + " Its `recovery` tells when the keys come into force.")


@strawberry.type(description="What became of the end of a recovery.")
class CancelRecoverySubmitPayload(SubmitPayload):
    """The answer to ``cancelRecoverySubmit``."""

    account: Account | None = field(_ACCOUNT_NOW)


@strawberry.type(description="What became of a replacement of the log's key.")
class ReplaceLogKeySubmitPayload(SubmitPayload):
    """The answer to ``replaceLogKeySubmit``."""

    ledger: Ledger | None = field("The ledger as it is now, with the keys of its log; null when it was refused.")


@strawberry.type(description="What became of a signed operation of any kind.")
class OperationSubmitPayload(SubmitPayload):
    """The answer to ``operationSubmit``."""

    balance: Points | None = field(_BALANCE)


@strawberry.type(description="What became of one operation of many.")
class OperationResult:
    """The answer for one item of ``operationsSubmit``."""

    seq: UInt53 | None = field("Sequence number of the entry that records it; null when it was refused.")
    hash: Hash | None = field("The entry's leaf hash; null when it was refused.")
    operation_id: Hash | None = field("The operation's id; null when it could not be read.")
    replayed: bool = field("Whether the same document had been recorded by an earlier submission.")
    balance: Points | None = field(_BALANCE)
    user_errors: list[UserError] = field("Why it was refused; paths are those of its document.")


@strawberry.type(description="What became of operations submitted together.")
class OperationsSubmitPayload:
    """The answer to ``operationsSubmit``."""

    results: list[OperationResult] = field("One result for each operation, in the order given.")
    user_errors: list[UserError] = field("Why none was considered; empty otherwise.")


@strawberry.type(description="An opened session, or the reasons why there is none.")
class SessionOpenPayload:
    """The answer to ``sessionOpen``."""

    token: str | None = field("The bearer token, for the header `Authorization: Bearer …`.")
    expires_at: Time | None = field("When the session ends.")
    user_errors: list[UserError] = field("Why no session was opened.")
