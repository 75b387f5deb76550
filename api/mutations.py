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
from api.inputs import (
    AccountSubmitInput,
    AssetSubmitInput,
    CancelRecoverySubmitInput,
    ExpirySubmitInput,
    GrantSubmitInput,
    OperationsSubmitInput,
    OperationSubmitInput,
    ProgramSubmitInput,
    PurchasesSubmitInput,
    RecoverKeysSubmitInput,
    RedemptionSubmitInput,
    ReplaceKeysSubmitInput,
    ReplaceLogKeySubmitInput,
    SessionOpenInput,
    Signed,
    TransferSubmitInput,
    signed_document,
)
from api.proofs import RECEIPT, receipt_of
from api.queries import ledger_now
from api.rejections import UserError, user_error
from api.scalars import Hash, Points, Time, UInt53
from api.sessions import Answer, Session, Token
from api.types import (
    Account,
    ApiInfo,
    Asset,
    Entry,
    LazyEntry,
    Ledger,
    Program,
    account_of,
    argument,
    asset_of,
    field,
    program_of,
    resolved,
)
from api.webhooks import WebhookMutations
from ledger import queries
from ledger.encoding import format_time
from ledger.entries import decode_entry
from ledger.operations import AnyOperation, DefineAsset, OpenAccount, PublishProgram, SignedOperation
from ledger.rules import Code, Rejection, defined_asset, opened_account, published_version
from ledger.sequencer import Outcome, Recorded, prepare

MAX_OPERATIONS = 1_000
"""Operations in one ``operationsSubmit``."""


@strawberry.interface(description="What became of one submitted operation: an entry, or the reasons why there is none.")
class SubmitPayload:
    """The answer to a submission."""

    entry: Entry | None = field("The entry that records it; null when it was refused.")
    replayed: bool = field("Whether the same document had been recorded by an earlier submission.")
    user_errors: list[UserError] = field("Why it was refused; empty when it is recorded.")


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
_REFUSED = " Null when it was refused."


@strawberry.type(description="What became of a transfer.")
class TransferSubmitPayload(SubmitPayload):
    """The answer to ``transferSubmit``."""

    balance: Points | None = field(_BALANCE)

    @resolved(RECEIPT + _REFUSED)
    async def receipt(self, info: ApiInfo) -> str | None:
        """The receipt."""
        return await receipt_of(info.context, self.entry)


@strawberry.type(description="What became of a redemption.")
class RedemptionSubmitPayload(SubmitPayload):
    """The answer to ``redemptionSubmit``."""

    balance: Points | None = field(_BALANCE)

    @resolved(RECEIPT + _REFUSED)
    async def receipt(self, info: ApiInfo) -> str | None:
        """The receipt."""
        return await receipt_of(info.context, self.entry)


@strawberry.type(description="What became of an expiry.")
class ExpirySubmitPayload(SubmitPayload):
    """The answer to ``expirySubmit``."""


_ACCOUNT_NOW = "The account as it is now; null when it was refused or replayed."


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

    @resolved(RECEIPT + _REFUSED)
    async def receipt(self, info: ApiInfo) -> str | None:
        """The receipt."""
        return await receipt_of(info.context, self.entry)


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


P = TypeVar("P", bound=SubmitPayload)

_encoder = msgspec.json.Encoder(order="sorted")


class _Submission:
    """What became of a typed input, or of a document as it was signed."""

    __slots__ = ("outcome", "typed")

    def __init__(self, outcome: Recorded | Rejection, *, typed: bool = True) -> None:
        self.outcome = outcome
        self.typed = typed

    def payload(self, kind: type[P], **more: Any) -> P:
        """The payload that tells it."""
        outcome = self.outcome
        if isinstance(outcome, Rejection):
            errors = [user_error(outcome, inside=("input",) if self.typed else (), camel=self.typed)]
            return kind(entry=None, replayed=False, user_errors=errors, **more)
        entry = LazyEntry(outcome.data, outcome.seq, outcome.leaf_hash, outcome.op_id)
        return kind(entry=entry, replayed=outcome.replayed, user_errors=[], **more)

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
    return _Submission(_without_fault(outcome))


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
        "webhooks go by the session."
    )
)
class Mutation(WebhookMutations):
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

    @resolved("Retires lots whose last day has passed: submits an `expire` document.")
    async def expiry_submit(
        self, info: ApiInfo, input: Annotated[ExpirySubmitInput, argument("The signed document, field by field.")]
    ) -> ExpirySubmitPayload:
        """Submit ``expire``."""
        return (await _submit(info, input)).payload(ExpirySubmitPayload)

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
        done = _Submission(_without_fault(outcome), typed=False)
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
