"""Mutations: signed operations in, entries or refusals out.

Each typed mutation rebuilds the canonical bytes that its input describes and hands them to the sequencer with the
signatures; ``operationsSubmit`` takes the bytes as they are. Nothing here decides anything: what is refused is refused
by :mod:`ledger.rules`, and an exception is a fault of ours, told as an unexpected error.
"""

import asyncio
from typing import Annotated, Any, TypeVar

import msgspec
import strawberry

from api.context import Context
from api.fields import ApiInfo, argument, resolved
from api.inputs import (
    AccountSubmitInput,
    AgreementEndSubmitInput,
    AgreementSubmitInput,
    AllotmentSubmitInput,
    AssetSubmitInput,
    CancelRecoverySubmitInput,
    CaptureSubmitInput,
    CorrectionSubmitInput,
    DisputeResolveSubmitInput,
    DisputeSubmitInput,
    EnrollmentSubmitInput,
    ExchangeSubmitInput,
    ExpirySubmitInput,
    FreezeSubmitInput,
    GrantSubmitInput,
    HoldSubmitInput,
    NettingSubmitInput,
    OperationsSubmitInput,
    OperationSubmitInput,
    PlanEndSubmitInput,
    PlanStartSubmitInput,
    PoolLeaveSubmitInput,
    PoolSubmitInput,
    ProgramSubmitInput,
    PurchasesSubmitInput,
    RecoverKeysSubmitInput,
    RedemptionSubmitInput,
    RefundSubmitInput,
    ReleaseSubmitInput,
    ReminderSubmitInput,
    ReplaceKeysSubmitInput,
    ReplaceLogKeySubmitInput,
    SessionOpenInput,
    SettlementSubmitInput,
    Signed,
    TierReviewSubmitInput,
    TransferSubmitInput,
    UnfreezeSubmitInput,
    VestingSubmitInput,
    VoucherUseSubmitInput,
    as_given,
    signed_document,
)
from api.payloads import (
    AccountSubmitPayload,
    AgreementEndSubmitPayload,
    AgreementSubmitPayload,
    AllotmentSubmitPayload,
    AssetSubmitPayload,
    CancelRecoverySubmitPayload,
    CaptureSubmitPayload,
    CorrectionSubmitPayload,
    DisputeResolveSubmitPayload,
    DisputeSubmitPayload,
    EnrollmentSubmitPayload,
    ExchangeSubmitPayload,
    ExpirySubmitPayload,
    FreezeSubmitPayload,
    GrantSubmitPayload,
    HoldSubmitPayload,
    NettingSubmitPayload,
    OperationResult,
    OperationsSubmitPayload,
    OperationSubmitPayload,
    PlanEndSubmitPayload,
    PlanStartSubmitPayload,
    PoolLeaveSubmitPayload,
    PoolSubmitPayload,
    ProgramSubmitPayload,
    PurchasesSubmitPayload,
    RecoverKeysSubmitPayload,
    RedemptionSubmitPayload,
    RefundSubmitPayload,
    ReleaseSubmitPayload,
    ReminderSubmitPayload,
    ReplaceKeysSubmitPayload,
    ReplaceLogKeySubmitPayload,
    SessionOpenPayload,
    SettlementSubmitPayload,
    SubmitPayload,
    TierReviewSubmitPayload,
    TransferSubmitPayload,
    UnfreezeSubmitPayload,
    VestingSubmitPayload,
    VoucherUseSubmitPayload,
)
from api.profiles import ProfileMutations
from api.queries import ledger_now
from api.rejections import UserError, user_error
from api.scalars import Hash, Points, Time, UInt53
from api.sessions import Answer, Session, Token
from api.types import Account, LazyEntry, account_of, asset_of, program_of
from api.webhooks import WebhookMutations
from ledger import queries
from ledger.encoding import format_time
from ledger.entries import decode_entry
from ledger.operations import (
    AnyOperation,
    DefineAsset,
    OpenAccount,
    PublishProgram,
    SignedOperation,
)
from ledger.rules import defined_asset, opened_account, published_version
from ledger.sequencer import Outcome, Recorded, prepare
from ledger.state import Code, Rejection

MAX_OPERATIONS = 1_000
"""Operations in one ``operationsSubmit``."""


P = TypeVar("P", bound=SubmitPayload)

_encoder = msgspec.json.Encoder(order="sorted")


class _Submission:
    """What became of a typed input, or of a document as it was signed."""

    __slots__ = ("fields", "outcome")

    def __init__(self, outcome: Recorded | Rejection, fields: Signed | None = None) -> None:
        self.outcome = outcome
        self.fields = fields

    def payload(self, kind: type[P], **more: Any) -> P:
        """The payload that tells it."""
        outcome = self.outcome
        if isinstance(outcome, Rejection):
            return kind(entry=None, replayed=False, user_errors=[self._error(outcome)], outcome=outcome, **more)
        entry = LazyEntry(outcome.data, outcome.seq, outcome.leaf_hash, outcome.op_id)
        return kind(entry=entry, replayed=outcome.replayed, user_errors=[], outcome=outcome, **more)

    def _error(self, rejection: Rejection) -> UserError:
        if self.fields is None:
            return user_error(rejection)
        return user_error(as_given(rejection, self.fields), inside=("input",), camel=True)

    @property
    def balance(self) -> Points | None:
        """What the actor has left."""
        balance = self.outcome.balance if isinstance(self.outcome, Recorded) else None
        return Points(balance) if balance is not None else None

    @property
    def op(self) -> AnyOperation | None:
        """The operation as recorded; ``None`` when it was refused."""
        return decode_entry(self.outcome.data).op if isinstance(self.outcome, Recorded) else None


async def _submit(info: ApiInfo, fields: Signed) -> _Submission:
    service = info.context.service
    document, signatures = signed_document(fields, service.store.origin)
    # The strings come from JSON and the numbers from scalars, so what is encoded here can be; whether it is well formed
    # and canonical is checked when it is read back.
    prepared = prepare(_encoder.encode({"op": document, "sigs": signatures}))
    outcome = await service.submitter.submit(prepared)
    return _Submission(_without_fault(outcome), fields)


async def _account_now(context: Context, done: _Submission, account_id: str) -> Account | None:
    """An account as an entry of this submission left it, for those who signed it.

    Whoever only has an old document, and sends it again, is told nothing of what became of the account.
    """
    if isinstance(done.outcome, Rejection) or done.outcome.replayed:
        return None
    found = await context.read(queries.authority, account_id, context.now())
    return account_of(found.account, (), with_recovery=True) if found is not None else None


def _without_fault(outcome: Outcome) -> Recorded | Rejection:
    """The outcome; a fault of ours is raised, for the log and the masked error."""
    if isinstance(outcome, Exception):
        raise RuntimeError("the sequencer failed") from outcome
    return outcome


@strawberry.type(
    description=(
        "Everything that changes something. What is written to the ledger carries its authority in its signatures; "
        "webhooks and profiles go by the session."
    )
)
class Mutation(ProfileMutations, WebhookMutations):
    """The root of mutations."""

    @resolved("Opens an account: submits an `open_account` document.")
    async def account_submit(
        self, info: ApiInfo, input: Annotated[AccountSubmitInput, argument("The signed document, field by field.")]
    ) -> AccountSubmitPayload:
        """Submit ``open_account``."""
        done = await _submit(info, input)
        account = None
        if isinstance(op := done.op, OpenAccount) and isinstance(done.outcome, Recorded):
            account = account_of(opened_account(op, done.outcome.op_id, done.outcome.seq), ())
        return done.payload(AccountSubmitPayload, account=account)

    @resolved("Defines a merchant's asset: submits a `define_asset` document.")
    async def asset_submit(
        self, info: ApiInfo, input: Annotated[AssetSubmitInput, argument("The signed document, field by field.")]
    ) -> AssetSubmitPayload:
        """Submit ``define_asset``."""
        done = await _submit(info, input)
        asset = None
        if isinstance(op := done.op, DefineAsset) and isinstance(done.outcome, Recorded):
            asset = asset_of(defined_asset(op, done.outcome.seq))
        return done.payload(AssetSubmitPayload, asset=asset)

    @resolved("Publishes a version of an asset's program: submits a `publish_program` document.")
    async def program_submit(
        self, info: ApiInfo, input: Annotated[ProgramSubmitInput, argument("The signed document, field by field.")]
    ) -> ProgramSubmitPayload:
        """Submit ``publish_program``."""
        done = await _submit(info, input)
        program = None
        if isinstance(op := done.op, PublishProgram) and isinstance(done.outcome, Recorded):
            program = program_of(published_version(op, done.outcome.seq))
        return done.payload(ProgramSubmitPayload, program=program)

    @resolved("Records purchases, whose points the ledger computes: submits a `record_purchases` document.")
    async def purchases_submit(
        self, info: ApiInfo, input: Annotated[PurchasesSubmitInput, argument("The signed document, field by field.")]
    ) -> PurchasesSubmitPayload:
        """Submit ``record_purchases``."""
        return (await _submit(info, input)).payload(PurchasesSubmitPayload)

    @resolved("Grants points for an activity: submits a `grant` document.")
    async def grant_submit(
        self, info: ApiInfo, input: Annotated[GrantSubmitInput, argument("The signed document, field by field.")]
    ) -> GrantSubmitPayload:
        """Submit ``grant``."""
        return (await _submit(info, input)).payload(GrantSubmitPayload)

    @resolved("Gives a member points, or takes some away, by hand: submits a `correct` document.")
    async def correction_submit(
        self, info: ApiInfo, input: Annotated[CorrectionSubmitInput, argument("The signed document, field by field.")]
    ) -> CorrectionSubmitPayload:
        """Submit ``correct``."""
        return (await _submit(info, input)).payload(CorrectionSubmitPayload)

    @resolved("Transfers points to one or several accounts: submits a `transfer` document.")
    async def transfer_submit(
        self, info: ApiInfo, input: Annotated[TransferSubmitInput, argument("The signed document, field by field.")]
    ) -> TransferSubmitPayload:
        """Submit ``transfer``."""
        done = await _submit(info, input)
        return done.payload(TransferSubmitPayload, balance=done.balance)

    @resolved("Spends points at a merchant: submits a `redeem` document.")
    async def redemption_submit(
        self, info: ApiInfo, input: Annotated[RedemptionSubmitInput, argument("The signed document, field by field.")]
    ) -> RedemptionSubmitPayload:
        """Submit ``redeem``."""
        done = await _submit(info, input)
        return done.payload(RedemptionSubmitPayload, balance=done.balance)

    @resolved(
        "Turns points of one asset into points of another, by their issuers' agreement: submits an `exchange` "
        "document. The limits in it are the holder's: so many points come out, at so high a fee, or nothing happens."
    )
    async def exchange_submit(
        self, info: ApiInfo, input: Annotated[ExchangeSubmitInput, argument("The signed document, field by field.")]
    ) -> ExchangeSubmitPayload:
        """Submit ``exchange``."""
        done = await _submit(info, input)
        return done.payload(ExchangeSubmitPayload, balance=done.balance)

    @resolved(
        "Sets points aside for a merchant, a till or a web shop, which may capture them for a while: submits a `hold` "
        "document."
    )
    async def hold_submit(
        self, info: ApiInfo, input: Annotated[HoldSubmitInput, argument("The signed document, field by field.")]
    ) -> HoldSubmitPayload:
        """Submit ``hold``."""
        done = await _submit(info, input)
        return done.payload(HoldSubmitPayload, balance=done.balance)

    @resolved("Spends points on hold, all at once or in parts: submits a `capture` document.")
    async def capture_submit(
        self, info: ApiInfo, input: Annotated[CaptureSubmitInput, argument("The signed document, field by field.")]
    ) -> CaptureSubmitPayload:
        """Submit ``capture``."""
        return (await _submit(info, input)).payload(CaptureSubmitPayload)

    @resolved(
        "Gives what is left on hold back to its holder: submits a `release` document. Once its time has passed, a hold "
        "is free by itself."
    )
    async def release_submit(
        self, info: ApiInfo, input: Annotated[ReleaseSubmitInput, argument("The signed document, field by field.")]
    ) -> ReleaseSubmitPayload:
        """Submit ``release``."""
        return (await _submit(info, input)).payload(ReleaseSubmitPayload)

    @resolved(
        "Undoes a purchase, redemption, capture or exchange, or a part of it, by the rules it was recorded under: "
        "submits a `refund` document."
    )
    async def refund_submit(
        self, info: ApiInfo, input: Annotated[RefundSubmitInput, argument("The signed document, field by field.")]
    ) -> RefundSubmitPayload:
        """Submit ``refund``."""
        return (await _submit(info, input)).payload(RefundSubmitPayload)

    @resolved("Retires lots whose last day has passed: submits an `expire` document.")
    async def expiry_submit(
        self, info: ApiInfo, input: Annotated[ExpirySubmitInput, argument("The signed document, field by field.")]
    ) -> ExpirySubmitPayload:
        """Submit ``expire``."""
        return (await _submit(info, input)).payload(ExpirySubmitPayload)

    @resolved("Makes the actor a member of a program, or changes how it earns: submits an `enroll` document.")
    async def enrollment_submit(
        self, info: ApiInfo, input: Annotated[EnrollmentSubmitInput, argument("The signed document, field by field.")]
    ) -> EnrollmentSubmitPayload:
        """Submit ``enroll``."""
        return (await _submit(info, input)).payload(EnrollmentSubmitPayload)

    @resolved("Issues points of purchases that have vested: submits a `vest` document.")
    async def vesting_submit(
        self, info: ApiInfo, input: Annotated[VestingSubmitInput, argument("The signed document, field by field.")]
    ) -> VestingSubmitPayload:
        """Submit ``vest``."""
        return (await _submit(info, input)).payload(VestingSubmitPayload)

    @resolved("Notes the tiers in which members are by now: submits a `review_tiers` document.")
    async def tier_review_submit(
        self, info: ApiInfo, input: Annotated[TierReviewSubmitInput, argument("The signed document, field by field.")]
    ) -> TierReviewSubmitPayload:
        """Submit ``review_tiers``."""
        return (await _submit(info, input)).payload(TierReviewSubmitPayload)

    @resolved("Notes that a member paid for a plan: submits a `start_plan` document.")
    async def plan_start_submit(
        self, info: ApiInfo, input: Annotated[PlanStartSubmitInput, argument("The signed document, field by field.")]
    ) -> PlanStartSubmitPayload:
        """Submit ``start_plan``."""
        return (await _submit(info, input)).payload(PlanStartSubmitPayload)

    @resolved("Ends a member's plan before its time: submits an `end_plan` document.")
    async def plan_end_submit(
        self, info: ApiInfo, input: Annotated[PlanEndSubmitInput, argument("The signed document, field by field.")]
    ) -> PlanEndSubmitPayload:
        """Submit ``end_plan``."""
        return (await _submit(info, input)).payload(PlanEndSubmitPayload)

    @resolved("Lets members spend each other's points, signed by all of them: submits a `form_pool` document.")
    async def pool_submit(
        self, info: ApiInfo, input: Annotated[PoolSubmitInput, argument("The signed document, field by field.")]
    ) -> PoolSubmitPayload:
        """Submit ``form_pool``."""
        return (await _submit(info, input)).payload(PoolSubmitPayload)

    @resolved("Takes a member out of its pool: submits a `leave_pool` document.")
    async def pool_leave_submit(
        self, info: ApiInfo, input: Annotated[PoolLeaveSubmitInput, argument("The signed document, field by field.")]
    ) -> PoolLeaveSubmitPayload:
        """Submit ``leave_pool``."""
        return (await _submit(info, input)).payload(PoolLeaveSubmitPayload)

    @resolved("Notes that a voucher was used at its merchant: submits a `use_voucher` document.")
    async def voucher_use_submit(
        self, info: ApiInfo, input: Annotated[VoucherUseSubmitInput, argument("The signed document, field by field.")]
    ) -> VoucherUseSubmitPayload:
        """Submit ``use_voucher``."""
        return (await _submit(info, input)).payload(VoucherUseSubmitPayload)

    @resolved("Reminds members of something in a program, each once: submits a `remind` document.")
    async def reminder_submit(
        self, info: ApiInfo, input: Annotated[ReminderSubmitInput, argument("The signed document, field by field.")]
    ) -> ReminderSubmitPayload:
        """Submit ``remind``."""
        return (await _submit(info, input)).payload(ReminderSubmitPayload)

    @resolved("Publishes a version of an agreement between merchants, signed by both: submits an `agree` document.")
    async def agreement_submit(
        self, info: ApiInfo, input: Annotated[AgreementSubmitInput, argument("The signed document, field by field.")]
    ) -> AgreementSubmitPayload:
        """Submit ``agree``."""
        return (await _submit(info, input)).payload(AgreementSubmitPayload)

    @resolved("Ends an agreement, with the notice its terms give: submits an `end_agreement` document.")
    async def agreement_end_submit(
        self, info: ApiInfo, input: Annotated[AgreementEndSubmitInput, argument("The signed document, field by field.")]
    ) -> AgreementEndSubmitPayload:
        """Submit ``end_agreement``."""
        return (await _submit(info, input)).payload(AgreementEndSubmitPayload)

    @resolved("Sells a prepaid partner a block of points, signed by both: submits an `allot` document.")
    async def allotment_submit(
        self, info: ApiInfo, input: Annotated[AllotmentSubmitInput, argument("The signed document, field by field.")]
    ) -> AllotmentSubmitPayload:
        """Submit ``allot``."""
        return (await _submit(info, input)).payload(AllotmentSubmitPayload)

    @resolved("Replaces what merchants owe each other by fewer payments: submits a `net` document.")
    async def netting_submit(
        self, info: ApiInfo, input: Annotated[NettingSubmitInput, argument("The signed document, field by field.")]
    ) -> NettingSubmitPayload:
        """Submit ``net``."""
        return (await _submit(info, input)).payload(NettingSubmitPayload)

    @resolved("Confirms that the creditor received money it was owed: submits a `settle` document.")
    async def settlement_submit(
        self, info: ApiInfo, input: Annotated[SettlementSubmitInput, argument("The signed document, field by field.")]
    ) -> SettlementSubmitPayload:
        """Submit ``settle``."""
        return (await _submit(info, input)).payload(SettlementSubmitPayload)

    @resolved("Keeps a claim out of netting and settlement until it is resolved: submits a `dispute` document.")
    async def dispute_submit(
        self, info: ApiInfo, input: Annotated[DisputeSubmitInput, argument("The signed document, field by field.")]
    ) -> DisputeSubmitPayload:
        """Submit ``dispute``."""
        return (await _submit(info, input)).payload(DisputeSubmitPayload)

    @resolved("Ends a dispute: submits a `resolve_dispute` document.")
    async def dispute_resolve_submit(
        self,
        info: ApiInfo,
        input: Annotated[DisputeResolveSubmitInput, argument("The signed document, field by field.")],
    ) -> DisputeResolveSubmitPayload:
        """Submit ``resolve_dispute``."""
        return (await _submit(info, input)).payload(DisputeResolveSubmitPayload)

    @resolved("Stops an account from acting; it can still receive: submits a `freeze` document.")
    async def freeze_submit(
        self, info: ApiInfo, input: Annotated[FreezeSubmitInput, argument("The signed document, field by field.")]
    ) -> FreezeSubmitPayload:
        """Submit ``freeze``."""
        done = await _submit(info, input)
        account = await _account_now(info.context, done, input.given["account"])
        return done.payload(FreezeSubmitPayload, account=account)

    @resolved("Lets a frozen account act again: submits an `unfreeze` document.")
    async def unfreeze_submit(
        self, info: ApiInfo, input: Annotated[UnfreezeSubmitInput, argument("The signed document, field by field.")]
    ) -> UnfreezeSubmitPayload:
        """Submit ``unfreeze``."""
        done = await _submit(info, input)
        account = await _account_now(info.context, done, input.given["account"])
        return done.payload(UnfreezeSubmitPayload, account=account)

    @resolved(
        "Gives an account other keys: submits a `replace_keys` document. For rotation, for a key that may be in other "
        "hands, for several keys with a threshold, and for a member to claim its account from custody. Sessions of the "
        "old keys are over."
    )
    async def replace_keys_submit(
        self, info: ApiInfo, input: Annotated[ReplaceKeysSubmitInput, argument("The signed document, field by field.")]
    ) -> ReplaceKeysSubmitPayload:
        """Submit ``replace_keys``."""
        done = await _submit(info, input)
        account = await _account_now(info.context, done, input.given["actor"])
        return done.payload(ReplaceKeysSubmitPayload, account=account)

    @resolved(
        "Gives other keys, after the ledger's recovery delay, to an account whose own were lost: submits a "
        "`recover_keys` document. Until then the account's keys of now are in force, and can cancel it."
    )
    async def recover_keys_submit(
        self, info: ApiInfo, input: Annotated[RecoverKeysSubmitInput, argument("The signed document, field by field.")]
    ) -> RecoverKeysSubmitPayload:
        """Submit ``recover_keys``."""
        done = await _submit(info, input)
        account = await _account_now(info.context, done, input.given["account"])
        return done.payload(RecoverKeysSubmitPayload, account=account)

    @resolved("Drops an account's pending recovery: submits a `cancel_recovery` document.")
    async def cancel_recovery_submit(
        self,
        info: ApiInfo,
        input: Annotated[CancelRecoverySubmitInput, argument("The signed document, field by field.")],
    ) -> CancelRecoverySubmitPayload:
        """Submit ``cancel_recovery``."""
        done = await _submit(info, input)
        account = await _account_now(info.context, done, input.given["account"])
        return done.payload(CancelRecoverySubmitPayload, account=account)

    @resolved(
        "Gives the log another key: submits a `replace_log_key` document. A server that has not got the new key "
        "refuses it as UNAVAILABLE."
    )
    async def replace_log_key_submit(
        self,
        info: ApiInfo,
        input: Annotated[ReplaceLogKeySubmitInput, argument("The signed document, field by field.")],
    ) -> ReplaceLogKeySubmitPayload:
        """Submit ``replace_log_key``."""
        done = await _submit(info, input)
        ledger = await ledger_now(info.context) if isinstance(done.outcome, Recorded) else None
        return done.payload(ReplaceLogKeySubmitPayload, ledger=ledger)

    @resolved(
        "Submits one signed document of any kind as it was signed; paths of user errors are those of the document. "
        "Sending the same again is answered with the entry already recorded."
    )
    async def operation_submit(
        self, info: ApiInfo, input: Annotated[OperationSubmitInput, argument("The signed document.")]
    ) -> OperationSubmitPayload:
        """Submit a document as it is."""
        outcome = await info.context.service.submitter.submit(prepare(input.operation.encode()))
        done = _Submission(_without_fault(outcome))
        return done.payload(OperationSubmitPayload, balance=done.balance)

    @resolved(
        "Submits up to 1,000 signed documents of any kind. Each is recorded or refused on its own; sending "
        "the same again is answered with the entries already recorded."
    )
    async def operations_submit(
        self, info: ApiInfo, input: Annotated[OperationsSubmitInput, argument("The signed documents.")]
    ) -> OperationsSubmitPayload:
        """Submit documents as they are."""
        documents = input.operations
        if not 1 <= len(documents) <= MAX_OPERATIONS:
            text = f"{len(documents)} operations; submit 1 to {MAX_OPERATIONS} at a time"
            refusal = Rejection(Code.TOO_LARGE, text, ("input", "operations"))
            return OperationsSubmitPayload(results=[], user_errors=[user_error(refusal)])
        prepared = [prepare(document.encode()) for document in documents]
        outcomes = await asyncio.wrap_future(info.context.service.sequencer.submit(prepared))
        results = [_result(item, _without_fault(outcome)) for item, outcome in zip(prepared, outcomes, strict=True)]
        return OperationsSubmitPayload(results=results, user_errors=[])

    @resolved(
        "Opens a session for reading, with an answered challenge. It lasts 15 minutes, unless other keys come to act "
        "for the account before."
    )
    async def session_open(
        self, info: ApiInfo, input: Annotated[SessionOpenInput, argument("The answered challenge.")]
    ) -> SessionOpenPayload:
        """Open a session."""
        signatures = tuple((signature.key, signature.sig) for signature in input.signatures)
        answer = Answer(account=input.account, challenge=input.challenge, signatures=signatures)
        opened = await _open_session(info.context, answer)
        if isinstance(opened, Rejection):
            errors = [user_error(opened, inside=("input",), camel=True)]
            return SessionOpenPayload(token=None, expires_at=None, user_errors=errors)
        expires_at = Time(format_time(opened.expires_at_ms))
        return SessionOpenPayload(token=opened.text, expires_at=expires_at, user_errors=[])


async def _open_session(context: Context, answer: Answer) -> Token | Rejection:
    """A token for an answered challenge. The database is read only for who answers a challenge of ours."""
    sessions, now_ms = context.service.sessions, context.service.clock()
    if refusal := sessions.check_answer(answer, now_ms):
        return refusal
    authority = await context.read(queries.authority, answer.account, format_time(now_ms))
    if refusal := sessions.check_authority(answer, authority):
        return refusal
    assert authority is not None
    account = authority.account
    session = Session(account=account.id, role=account.role, keys_seq=authority.keys_seq)
    return sessions.open(answer, session, now_ms)


def _result(item: SignedOperation | Rejection, outcome: Recorded | Rejection) -> OperationResult:
    if isinstance(outcome, Recorded):
        return OperationResult(
            seq=UInt53(outcome.seq),
            hash=Hash(outcome.leaf_hash.hex()),
            operation_id=Hash(outcome.op_id.hex()),
            replayed=outcome.replayed,
            balance=Points(outcome.balance) if outcome.balance is not None else None,
            user_errors=[],
        )
    operation_id = Hash(item.op_id.hex()) if isinstance(item, SignedOperation) else None
    return OperationResult(
        seq=None, hash=None, operation_id=operation_id, replayed=False, balance=None, user_errors=[user_error(outcome)]
    )
