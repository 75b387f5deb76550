"""What mutations answer: for each, an entry or the reasons why there is none, and what else a client wants at once.

A payload holds what its mutation has at hand; what costs a question of its own is asked only where it is selected.
What became of things *now* (an account, a hold, a claim) is told to whoever had an operation recorded by its signature,
and not to whoever only has an old document and sends it again.
"""

from typing import TypeVar

import strawberry
from sqlalchemy.engine import Connection

from api.fields import ApiInfo, field, resolved
from api.holds import Hold, hold_of
from api.partner_types import Agreement, Allotment, Claim, Netting, agreement_of, allotment_of, claim_of, netting_of
from api.program_types import (
    Membership,
    PendingPoints,
    Pool,
    Reminder,
    Voucher,
    membership_of,
    pending_of,
    pool_of,
    reminder_of,
    voucher_of,
)
from api.proofs import RECEIPT, receipt_of
from api.rejections import UserError
from api.scalars import Hash, MinorUnits, Points, Time, UInt53
from api.types import Account, Asset, Entry, Ledger, Program
from ledger import agreements, operations, partner_queries, program_queries
from ledger.encoding import account_id
from ledger.entries import Entry as RecordedEntry
from ledger.entries import Posting, decode_entry
from ledger.queries import ALL
from ledger.sequencer import Recorded
from ledger.state import SYS_ISSUED, Rejection, Spending
from ledger.store import Store
from ledger.terms import ClaimRef, RefundedPurchase

K = TypeVar("K", bound=operations.Operation)

MOST_VOUCHERS = 100
"""How many vouchers of one entry a payload has; one redemption gives no more, one record of purchases may."""


@strawberry.interface(description="What became of one submitted operation: an entry, or the reasons why there is none.")
class SubmitPayload:
    """The answer to a submission."""

    entry: Entry | None = field("The entry that records it; null when it was refused.")
    replayed: bool = field("Whether the same document had been recorded by an earlier submission.")
    user_errors: list[UserError] = field("Why it was refused; empty when it is recorded.")
    outcome: strawberry.Private[Recorded | Rejection]

    @resolved(RECEIPT + " Null when it was refused.")
    async def receipt(self, info: ApiInfo) -> str | None:
        """The receipt."""
        return await receipt_of(info.context, self.entry)

    @resolved(
        "The claims it made: money that one account owes another by it, such as a fee. None when it was refused or "
        "replayed."
    )
    async def claims(self, info: ApiInfo) -> list[Claim]:
        """The claims."""
        if isinstance(self.outcome, Rejection) or self.outcome.replayed:
            return []
        return [claim_of(found) for found in await info.context.read(partner_queries.claims_of, self.outcome.seq)]

    def whole(self) -> RecordedEntry | None:
        """The entry with its operation; ``None`` when it was refused."""
        return decode_entry(self.outcome.data) if isinstance(self.outcome, Recorded) else None

    def news(self, kind: type[K]) -> K | None:
        """The operation, when this submission is the one that recorded it."""
        if isinstance(self.outcome, Rejection) or self.outcome.replayed:
            return None
        op = decode_entry(self.outcome.data).op
        assert isinstance(op, kind)
        return op


def _issued(payload: SubmitPayload) -> Points | None:
    """Points of the operation's asset that its entry issued."""
    entry = payload.whole()
    if entry is None:
        return None
    legs = _legs(entry, SYS_ISSUED, getattr(entry.op, "asset", ""))
    return Points(-sum(leg.amount for leg in legs))


async def _vouchers(info: ApiInfo, payload: SubmitPayload) -> list[Voucher]:
    """The vouchers that an entry gave."""
    if isinstance(payload.outcome, Rejection) or payload.outcome.replayed:
        return []
    found = await info.context.read(program_queries.vouchers_given, payload.outcome.seq, MOST_VOUCHERS)
    return [voucher_of(each) for each in found]


def _reminders_of(store: Store, connection: Connection, seq: int) -> list[program_queries.ToldReminder]:
    reminders = program_queries.reminders_of(store, connection, [seq])[seq]
    return program_queries.told_reminders(store, connection, reminders)


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


_ISSUED = "Points of the asset that this entry issued, to all members together; null when it was refused."
_AUTOMATIC = (
    f"The vouchers that members had by themselves with it, at most {MOST_VOUCHERS}; none when it was refused or "
    "replayed."
)


@strawberry.type(description="What became of a record of purchases.")
class PurchasesSubmitPayload(SubmitPayload):
    """The answer to ``purchasesSubmit``."""

    @resolved(_ISSUED + " Those that have to vest first are in `pending`.")
    def points_issued(self) -> Points | None:
        """Points issued."""
        return _issued(self)

    @resolved("Points of these purchases that will be issued once they vest; none when it was refused or replayed.")
    async def pending(self, info: ApiInfo) -> list[PendingPoints]:
        """What will vest."""
        op = self.news(operations.RecordPurchases)
        if op is None:
            return []
        orders = [purchase.order for purchase in op.purchases]
        found = await info.context.read(program_queries.pending_purchases, op.actor, orders)
        return [pending_of(each) for each in found]

    @resolved(_AUTOMATIC)
    async def vouchers(self, info: ApiInfo) -> list[Voucher]:
        """Vouchers of an automatic reward."""
        return await _vouchers(info, self)


@strawberry.type(description="What became of a grant.")
class GrantSubmitPayload(SubmitPayload):
    """The answer to ``grantSubmit``."""

    @resolved(_AUTOMATIC)
    async def vouchers(self, info: ApiInfo) -> list[Voucher]:
        """Vouchers of an automatic reward."""
        return await _vouchers(info, self)


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

    @resolved("The vouchers that were had for a reward; none without one, and when it was refused or replayed.")
    async def vouchers(self, info: ApiInfo) -> list[Voucher]:
        """The vouchers, at most 100 of them."""
        return await _vouchers(info, self)


@strawberry.type(description="What became of an exchange.")
class ExchangeSubmitPayload(SubmitPayload):
    """The answer to ``exchangeSubmit``."""

    balance: Points | None = field(_BALANCE)

    @resolved("Points of `asset` that were given; null when it was refused.")
    def points_given(self) -> Points | None:
        """Points given: a step may have made them fewer than the amount."""
        entry = self.whole()
        if entry is None or not isinstance(op := entry.op, operations.Exchange):
            return None
        return Points(-sum(leg.amount for leg in _legs(entry, op.actor, op.asset) if leg.amount < 0))

    @resolved("Points of `into` that came out; null when it was refused.")
    def points_out(self) -> Points | None:
        """Points received."""
        entry = self.whole()
        if entry is None or not isinstance(op := entry.op, operations.Exchange):
            return None
        return Points(sum(leg.amount for leg in _legs(entry, op.actor, op.into)))

    @resolved("What the holder owes for it, in minor units; 0 for nothing, null when it was refused.")
    async def fee_amount(self, info: ApiInfo) -> MinorUnits | None:
        """The fee."""
        found = await self._spending(info)
        return MinorUnits(found.fee_amount) if found is not None else None

    @resolved("The currency of the fee; null when the terms have none, and when it was refused.")
    async def fee_currency(self, info: ApiInfo) -> str | None:
        """The currency of the fee."""
        found = await self._spending(info)
        if found is None or found.agreement is None or found.version is None:
            return None
        agreement = await info.context.read(partner_queries.agreement, found.agreement, found.version)
        fee = getattr(agreement.terms, "fee", None) if agreement is not None else None
        return fee.currency if fee is not None else None

    async def _spending(self, info: ApiInfo) -> Spending | None:
        if isinstance(self.outcome, Rejection):
            return None
        return await info.context.read(partner_queries.spending, self.outcome.op_id.hex())


def _legs(entry: RecordedEntry, account: str | None, asset: str) -> list[Posting]:
    return [leg for leg in entry.postings if leg.account == account and leg.asset == asset]


_HOLD_NOW = "The hold as it is now; null when it was refused or replayed."


async def _hold_now(info: ApiInfo, hold_id: str) -> Hold | None:
    found = await info.context.read(partner_queries.hold, hold_id)
    return hold_of(found) if found is not None else None


@strawberry.type(description="What became of a hold.")
class HoldSubmitPayload(SubmitPayload):
    """The answer to ``holdSubmit``."""

    balance: Points | None = field(_BALANCE)

    @resolved(_HOLD_NOW + " Its `id` is what the merchant captures it by.")
    async def hold(self, info: ApiInfo) -> Hold | None:
        """The hold."""
        if isinstance(self.outcome, Rejection) or self.outcome.replayed:
            return None
        return await _hold_now(info, account_id("hld", self.outcome.op_id))


@strawberry.type(description="What became of a capture.")
class CaptureSubmitPayload(SubmitPayload):
    """The answer to ``captureSubmit``."""

    @resolved(_HOLD_NOW)
    async def hold(self, info: ApiInfo) -> Hold | None:
        """The hold."""
        op = self.news(operations.Capture)
        return await _hold_now(info, op.hold) if op is not None else None


@strawberry.type(description="What became of a release.")
class ReleaseSubmitPayload(SubmitPayload):
    """The answer to ``releaseSubmit``."""

    @resolved(_HOLD_NOW)
    async def hold(self, info: ApiInfo) -> Hold | None:
        """The hold."""
        op = self.news(operations.Release)
        return await _hold_now(info, op.hold) if op is not None else None


@strawberry.type(description="What became of a refund.")
class RefundSubmitPayload(SubmitPayload):
    """The answer to ``refundSubmit``."""

    @resolved("Points spent or given that returned to their holder; 0 for a purchase, null when it was refused.")
    def points_returned(self) -> Points | None:
        """Points returned."""
        entry = self.whole()
        if entry is None or not isinstance(op := entry.op, operations.Refund):
            return None
        return Points(0 if isinstance(op.of, RefundedPurchase) else op.of.amount)

    @resolved(
        "Points that a purchase or exchange had given and that are void now; 0 for a redemption or capture, null when "
        "it was refused."
    )
    def points_taken_back(self) -> Points | None:
        """Points taken back."""
        entry = self.whole()
        if entry is None:
            return None
        return Points(sum(leg.amount for leg in entry.postings if leg.account == SYS_ISSUED))


@strawberry.type(description="What became of an expiry.")
class ExpirySubmitPayload(SubmitPayload):
    """The answer to ``expirySubmit``."""


_MEMBERSHIP_NOW = "The membership as it is now; null when it was refused or replayed."


async def _membership_now(info: ApiInfo, asset: str, account: str) -> Membership | None:
    found = await info.context.read(program_queries.membership, asset, account)
    return membership_of(found) if found is not None else None


@strawberry.type(description="What became of an enrollment.")
class EnrollmentSubmitPayload(SubmitPayload):
    """The answer to ``enrollmentSubmit``."""

    @resolved(_MEMBERSHIP_NOW)
    async def membership(self, info: ApiInfo) -> Membership | None:
        """The actor's membership."""
        op = self.news(operations.Enroll)
        return await _membership_now(info, op.asset, op.actor) if op is not None else None


@strawberry.type(description="What became of a vesting.")
class VestingSubmitPayload(SubmitPayload):
    """The answer to ``vestingSubmit``."""

    @resolved(_ISSUED)
    def points_issued(self) -> Points | None:
        """Points issued."""
        return _issued(self)

    @resolved(_AUTOMATIC)
    async def vouchers(self, info: ApiInfo) -> list[Voucher]:
        """Vouchers of an automatic reward."""
        return await _vouchers(info, self)


@strawberry.type(description="What became of a review of tiers.")
class TierReviewSubmitPayload(SubmitPayload):
    """The answer to ``tierReviewSubmit``."""

    @resolved(
        "The memberships of the members named, as they are now, by account; none when it was refused or replayed."
    )
    async def memberships(self, info: ApiInfo) -> list[Membership]:
        """The memberships, those that had nothing to be noted included."""
        op = self.news(operations.ReviewTiers)
        if op is None:
            return []
        found = await info.context.read(program_queries.memberships_of, op.asset, op.members)
        return [membership_of(each) for each in found]


@strawberry.type(description="What became of a plan's start.")
class PlanStartSubmitPayload(SubmitPayload):
    """The answer to ``planStartSubmit``."""

    @resolved(_MEMBERSHIP_NOW)
    async def membership(self, info: ApiInfo) -> Membership | None:
        """The member's membership."""
        op = self.news(operations.StartPlan)
        return await _membership_now(info, op.asset, op.member) if op is not None else None


@strawberry.type(description="What became of a plan's end.")
class PlanEndSubmitPayload(SubmitPayload):
    """The answer to ``planEndSubmit``."""

    @resolved(_MEMBERSHIP_NOW)
    async def membership(self, info: ApiInfo) -> Membership | None:
        """The member's membership."""
        op = self.news(operations.EndPlan)
        return await _membership_now(info, op.asset, op.member) if op is not None else None


@strawberry.type(description="What became of a pool's forming.")
class PoolSubmitPayload(SubmitPayload):
    """The answer to ``poolSubmit``."""

    @resolved("The pool as it is now; null when it was refused or replayed.")
    async def pool(self, info: ApiInfo) -> Pool | None:
        """The pool."""
        if isinstance(self.outcome, Rejection) or self.outcome.replayed:
            return None
        name = account_id("pol", self.outcome.op_id)
        found = (await info.context.read(program_queries.pools, [name])).get(name)
        return pool_of(found) if found is not None else None


@strawberry.type(description="What became of a leaving of a pool.")
class PoolLeaveSubmitPayload(SubmitPayload):
    """The answer to ``poolLeaveSubmit``."""

    @resolved(_MEMBERSHIP_NOW)
    async def membership(self, info: ApiInfo) -> Membership | None:
        """The actor's membership."""
        op = self.news(operations.LeavePool)
        return await _membership_now(info, op.asset, op.actor) if op is not None else None


@strawberry.type(description="What became of a use of a voucher.")
class VoucherUseSubmitPayload(SubmitPayload):
    """The answer to ``voucherUseSubmit``."""

    @resolved("The voucher as it is now; null when it was refused or replayed.")
    async def voucher(self, info: ApiInfo) -> Voucher | None:
        """The voucher."""
        op = self.news(operations.UseVoucher)
        if op is None:
            return None
        found = await info.context.read(program_queries.voucher, op.voucher.seq, op.voucher.index)
        return voucher_of(found) if found is not None else None


@strawberry.type(description="What became of reminders.")
class ReminderSubmitPayload(SubmitPayload):
    """The answer to ``reminderSubmit``."""

    @resolved(
        "What was told to whom, by account: to those of the members named to whom something was due. None when it was "
        "refused or replayed."
    )
    async def reminders(self, info: ApiInfo) -> list[Reminder]:
        """What the entry reminded of; an operation names so few members that none is left out."""
        if isinstance(self.outcome, Rejection) or self.outcome.replayed:
            return []
        found = await info.context.read(_reminders_of, self.outcome.seq)
        return [reminder_of(each) for each in found]


_ACCOUNT_NOW = "The account as it is now; null when it was refused or replayed."


@strawberry.type(description="What became of a version of an agreement.")
class AgreementSubmitPayload(SubmitPayload):
    """The answer to ``agreementSubmit``."""

    @resolved("The version that it published; null when it was refused or replayed.")
    async def agreement(self, info: ApiInfo) -> Agreement | None:
        """The version."""
        op = self.news(operations.Agree)
        if op is None:
            return None
        name = agreements.agreement_name(op.terms, op.partner)
        found = await info.context.read(partner_queries.agreement, name, op.version)
        return agreement_of(found, told=True) if found is not None else None


@strawberry.type(description="What became of an agreement's end.")
class AgreementEndSubmitPayload(SubmitPayload):
    """The answer to ``agreementEndSubmit``."""

    @resolved("The newest version of the agreement as it is now; null when it was refused or replayed.")
    async def agreement(self, info: ApiInfo) -> Agreement | None:
        """The newest version."""
        op = self.news(operations.EndAgreement)
        if op is None:
            return None
        found = await info.context.read(partner_queries.newest_agreement, op.agreement)
        return agreement_of(found, told=True) if found is not None else None


@strawberry.type(description="What became of an allotment.")
class AllotmentSubmitPayload(SubmitPayload):
    """The answer to ``allotmentSubmit``."""

    @resolved("What the partner has bought and has left now; null when it was refused or replayed.")
    async def allotment(self, info: ApiInfo) -> Allotment | None:
        """The allotment."""
        op = self.news(operations.Allot)
        if op is None:
            return None
        name = agreements.earning_name(op.asset, op.partner)
        found = await info.context.read(partner_queries.allotment, name)
        return allotment_of(found) if found is not None else None


@strawberry.type(description="What became of a netting.")
class NettingSubmitPayload(SubmitPayload):
    """The answer to ``nettingSubmit``."""

    @resolved("The netting; null when it was refused or replayed.")
    async def netting(self, info: ApiInfo) -> Netting | None:
        """The netting, all of it: the operator signed."""
        if isinstance(self.outcome, Rejection) or self.outcome.replayed:
            return None
        found = await info.context.read(partner_queries.netting, self.outcome.seq)
        return netting_of(found, ALL) if found is not None else None


@strawberry.type(description="What became of a settlement.")
class SettlementSubmitPayload(SubmitPayload):
    """The answer to ``settlementSubmit``."""

    @resolved(
        "What the debtor still owes the actor in this currency, in minor units, disputed claims aside; null when it "
        "was refused or replayed."
    )
    async def owed_amount(self, info: ApiInfo) -> MinorUnits | None:
        """What is still owed."""
        op = self.news(operations.Settle)
        if op is None:
            return None
        owed = await info.context.read(partner_queries.owed_between, op.currency, op.debtor, op.actor)
        return MinorUnits(owed)


_CLAIM_NOW = "The claim as it is now; null when it was refused or replayed."


async def _claim_now(info: ApiInfo, claim: ClaimRef) -> Claim | None:
    found = await info.context.read(partner_queries.claim, claim.seq, claim.index)
    return claim_of(found) if found is not None else None


@strawberry.type(description="What became of a dispute.")
class DisputeSubmitPayload(SubmitPayload):
    """The answer to ``disputeSubmit``."""

    @resolved(_CLAIM_NOW)
    async def claim(self, info: ApiInfo) -> Claim | None:
        """The claim."""
        op = self.news(operations.Dispute)
        return await _claim_now(info, op.claim) if op is not None else None


@strawberry.type(description="What became of a dispute's end.")
class DisputeResolveSubmitPayload(SubmitPayload):
    """The answer to ``disputeResolveSubmit``."""

    @resolved(_CLAIM_NOW)
    async def claim(self, info: ApiInfo) -> Claim | None:
        """The claim."""
        op = self.news(operations.ResolveDispute)
        return await _claim_now(info, op.claim) if op is not None else None


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
