"""The rules of the currency: what an operation needs, whether it is admitted, and what it changes.

Three pure functions, used alike by the writer and by every auditor::

    touches(op)                  the parts of the state the operation depends on
    admit(state, signed, time)   the postings it makes, or the rejection; changes nothing
    apply(state, signed, …)      the change; called only for what was admitted, and cannot fail

Refusals come in one documented order, for every kind: ledger, expiry, time, actor, signatures, role, then what the
kind asks for, in the order of its ``_admit_…`` function, and amounts last. The first that applies is returned.
Where only an asset's issuer may act, the asset is looked up before the role; a second genesis is refused as that
before its time and signatures are looked at.

An operation already recorded is not refused here: the caller looks its id up first and answers with its entry.

Whose keys count is a question of time. A recovery takes effect by itself, at a time said in its entry; no entry
records that moment. So an account is kept as its entries left it, and :func:`account_at` says what that means then.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from ledger.agreements import admit_agree, admit_allot, admit_end_agreement
from ledger.checkpoint import CheckpointError, decode_verifier_key
from ledger.clearing import admit_dispute, admit_net, admit_resolve_dispute, admit_settle
from ledger.earning import admit_grant, admit_record_purchases
from ledger.encoding import MAX_INTEGER, AccountId, OpId, account_id, format_time, parse_time
from ledger.entries import NO_LAST_DAY, Posting
from ledger.membership import admit_end_plan, admit_enroll, admit_review_tiers, admit_start_plan
from ledger.operations import (
    Agree,
    Allot,
    AnyOperation,
    CancelRecovery,
    Capture,
    Correct,
    DefineAsset,
    Dispute,
    EndAgreement,
    EndPlan,
    Enroll,
    Exchange,
    Expire,
    FormPool,
    Freeze,
    Genesis,
    Grant,
    Hold,
    LeavePool,
    Net,
    OpenAccount,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    Refund,
    Release,
    Remind,
    ReplaceKeys,
    ReplaceLogKey,
    ResolveDispute,
    ReviewTiers,
    Settle,
    SignedOperation,
    StartPlan,
    Transfer,
    Unfreeze,
    UseVoucher,
    Vest,
)
from ledger.pools import admit_form_pool, admit_leave_pool
from ledger.programs import ProgramVersion
from ledger.refunds import admit_correct, admit_refund
from ledger.refusals import (
    approval_missing,
    check_issuer,
    check_not_frozen,
    check_operator,
    earliest_start,
    unknown_account,
    unknown_asset,
    unknown_currency,
)
from ledger.reminders import admit_remind
from ledger.spending import (
    admit_capture,
    admit_exchange,
    admit_expire,
    admit_hold,
    admit_redeem,
    admit_release,
    admit_transfer,
)
from ledger.state import Account, Admission, Asset, Code, Decision, Parameters, Recovery, Rejection, Request, State
from ledger.terms import DEFAULT_RECOVERY_DELAY_MS, ROLE_PREFIXES
from ledger.vesting import admit_vest
from ledger.vouchers import admit_use_voucher

_NOTHING_MOVES = Admission()


def admit(state: State, signed: SignedOperation, time: str, *, check_signers: bool = True) -> Admission | Rejection:
    """Decide an operation at recording time ``time``: its postings, or why not. Changes nothing.

    The signatures in ``signed.sigs`` must have been verified; here only their authority is decided. A preview passes
    ``check_signers=False``, since what it shows has not been signed yet.
    """
    op = signed.op
    if op.ledger != state.origin:
        return Rejection(Code.WRONG_LEDGER, f"signed for {op.ledger}; this ledger is {state.origin}", ("ledger",))
    if op.expires is not None and op.expires < time:
        return Rejection(Code.EXPIRED, f"not to be recorded after {op.expires}; it is {time}: sign anew", ("expires",))
    if isinstance(op, Genesis):
        return _admit_genesis(state, op, signed, time, check_signers)
    if state.parameters is None:
        return Rejection(Code.UNKNOWN_ACCOUNT, "the ledger has no genesis entry yet: run guerdon init", ("ledger",))
    if refusal := _check_at(op, time, state.parameters.clock_tolerance_ms):
        return refusal
    acting = _find_acting(state, op)
    if isinstance(acting, Rejection):
        return acting
    approved = _check_signers(state, op, acting, signed, time) if check_signers else True
    if isinstance(approved, Rejection):
        return approved
    if refusal := _check_not_frozen(state, op, acting, time):
        return refusal
    actor = acting[0] if acting else None
    if actor is None or isinstance(op, OpenAccount):
        assert isinstance(op, OpenAccount)
        return _admit_open_account(op, actor)
    if not approved and _needs_approval(op, actor, time):
        return approval_missing(actor)
    decision = _ADMIT[type(op)](Request(state, op, signed.op_id, actor, time, approved))
    if isinstance(decision, Admission) and _may_have_debts(state, decision.postings):
        return _check_lots(state, decision.postings) or decision
    return decision


def _may_have_debts(state: State, postings: Sequence[Posting]) -> bool:
    """Whether what is posted is of an asset that holders may owe: only there can more be held than was issued."""
    for asset in {leg.asset for leg in postings}:
        for version in state.programs.get(asset, ()):
            if version.program.refunds == "negative":
                return True
    return False


def _check_lots(state: State, postings: Sequence[Posting]) -> Rejection | None:
    """Why lots would be too large, a system account's included: an entry that expires one has it as an amount.

    Points that are issued are bounded, but a refund that leaves a debt takes back points that others still have.
    """
    moved = sum(leg.amount for leg in postings if leg.amount > 0)
    lots = (state.lots_of(leg.account, leg.asset).get(leg.lot or NO_LAST_DAY, 0) for leg in postings)
    if moved <= MAX_INTEGER and all(abs(points) + moved <= MAX_INTEGER for points in lots):
        return None
    after: dict[tuple[str, str, str], int] = {}
    for leg in postings:
        lot = (leg.account, leg.asset, leg.lot or NO_LAST_DAY)
        points = after.get(lot)
        before = state.lots_of(leg.account, leg.asset).get(lot[2], 0) if points is None else points
        after[lot] = before + leg.amount
    for (account, asset, _), points in after.items():
        if abs(points) > MAX_INTEGER:
            return Rejection(Code.POINTS_OVERFLOW, f"a lot of {asset} of {account} would be beyond 2^53-1")
    return None


def _find_acting(state: State, op: AnyOperation) -> tuple[Account, ...] | Rejection:
    """The accounts whose authority an operation uses: its actor, if it has one, and those that it binds."""
    if op.actor is None:  # type: ignore[union-attr]
        return ()
    actor = state.accounts.get(op.actor)  # type: ignore[union-attr]
    if actor is None:
        return unknown_account(op.actor, ("actor",))  # type: ignore[union-attr]
    if not isinstance(op, _SIGNED_BY_ALL):
        return (actor,)
    acting = [actor]
    for field, bound in _bound_by(op):
        account = state.accounts.get(bound)
        if account is None:
            return unknown_account(bound, (field,))
        acting.append(account)
    return tuple(acting)


_SIGNED_BY_ALL = (Agree, Allot, FormPool)
"""Operations that bind others beside their actor, who sign too."""


def _bound_by(op: AnyOperation) -> list[tuple[str, str]]:
    """Whom an operation binds beside its actor, each with the field that names it."""
    match op:
        case Agree() | Allot():
            return [("partner", op.partner)]
        case FormPool():
            return [(f"members[{i}]", member) for i, member in enumerate(op.members)]
    return []


def _needs_approval(op: AnyOperation, actor: Account, time: str) -> bool:
    """Whether every operation of this kind needs approval: one key alone must not loosen the rules for the others."""
    if isinstance(op, ReplaceKeys):
        return bool(account_at(actor, time).keys)  # a custodian hands an account over without ado
    return isinstance(op, PublishProgram | Agree)


def _check_not_frozen(state: State, op: AnyOperation, acting: Sequence[Account], time: str) -> Rejection | None:
    """Why an account cannot act: it is frozen, or the one whose keys act for it is."""
    for i, account in enumerate(acting):
        frozen = account
        if account.frozen_seq is None:
            if account.custodian is None:
                continue
            frozen = authority_of(state, account, time)
        if frozen.frozen_seq is not None:
            return check_not_frozen(state, frozen.id, (_bound_by(op)[i - 1][0] if i else "actor",))
    return None


def _check_at(op: AnyOperation, time: str, tolerance_ms: int) -> Rejection | None:
    if op.at > time and parse_time(op.at) - parse_time(time) > tolerance_ms:
        return Rejection(Code.AT_IN_FUTURE, f"at lies after {time}: check the clock", ("at",))
    return None


def _check_signers(
    state: State, op: AnyOperation, acting: Sequence[Account], signed: SignedOperation, time: str
) -> Rejection | bool:
    """Why those who signed have no authority, or too few; otherwise whether they are enough for approval too."""
    signers = {signature.key for signature in signed.sigs}
    allowed: set[str] = set()
    approved = True
    for account in acting:
        authority = authority_of(state, account, time)
        allowed.update(authority.keys)
        count = len(signers.intersection(authority.keys))
        if count < authority.threshold:
            # Whose keys act for an account, and how many must sign, is nothing for whoever sent this to learn.
            message = f"too few of the keys that act for {account.id} have signed"
            return Rejection(Code.SIGNATURE_MISSING, message, ("sigs",))
        approved = approved and count >= authority.approvals
    new = new_keys(op, acting[0] if acting else None, time)
    if missing := [key for key in new if key not in signers]:
        return Rejection(Code.SIGNATURE_MISSING, f"the new key {missing[0]} must sign too", ("sigs",))
    allowed.update(new)
    if not signers <= allowed:
        stranger = min(signers - allowed)
        return Rejection(Code.SIGNATURE_UNEXPECTED, f"{stranger} has no authority here: leave it out", ("sigs",))
    return approved


def new_keys(op: AnyOperation, actor: Account | None, time: str) -> tuple[str, ...]:
    """The keys an operation gives an account, each of which signs it: who names a key shows that it can be used.

    A key that replaces itself need not.
    """
    match op:
        case OpenAccount() | RecoverKeys():
            return op.keys
        case ReplaceKeys():
            assert actor is not None
            own = account_at(actor, time).keys
            return tuple(key for key in op.keys if key not in own)
    return ()


def account_at(account: Account, time: str) -> Account:
    """An account as it is at a time: once its recovery is in effect, the keys of that are its own.

    An account in custody is then in custody no more.
    """
    recovery = account.recovery
    if recovery is None or recovery.effective_at > time:
        return account
    return replace(
        account,
        keys=recovery.keys,
        threshold=recovery.threshold,
        approval_threshold=recovery.approval_threshold,
        custodian=None,
        keys_seq=recovery.seq,
        recovery=None,
    )


def authority_of(state: State, account: Account, time: str) -> Account:
    """The account whose keys act for ``account`` at a time: itself, or its custodian while it has no key of its own.

    It is returned as it is at that time, so its ``keys`` and ``threshold`` are those in force.
    """
    current = account_at(account, time)
    if current.keys or current.custodian is None:
        return current
    return account_at(state.accounts[current.custodian], time)


def log_key_for(log_keys: Sequence[tuple[int, str]], size: int) -> str:
    """The verifier key that signs a checkpoint of ``size`` entries, 1 or more: the last that one of them names."""
    return next(log_key for seq, log_key in reversed(log_keys) if seq < size)


def _admit_genesis(
    state: State, op: Genesis, signed: SignedOperation, time: str, check_signers: bool
) -> Admission | Rejection:
    if state.parameters is not None:
        return Rejection(Code.GENESIS_EXISTS, "the ledger has its genesis entry already", ("kind",))
    if refusal := _check_at(op, time, op.clock_tolerance_ms):
        return refusal
    if refusal := _check_log_key(op.log_key, op.ledger):
        return refusal
    if not check_signers:
        return _NOTHING_MOVES
    signers = {signature.key for signature in signed.sigs}
    if not signers.issuperset(op.keys):
        return Rejection(Code.SIGNATURE_MISSING, "genesis is signed by all keys of the operator", ("sigs",))
    if strangers := signers.difference(op.keys):
        return Rejection(Code.SIGNATURE_UNEXPECTED, f"{min(strangers)} has no authority here: leave it out", ("sigs",))
    return _NOTHING_MOVES


def _check_log_key(text: str, origin: str) -> Rejection | None:
    try:
        log_key = decode_verifier_key(text)
    except CheckpointError as error:
        return Rejection(Code.MALFORMED, str(error), ("log_key",))
    if log_key.name != origin:
        return Rejection(Code.MALFORMED, f"the log key must bear the ledger's name {origin}", ("log_key",))
    return None


def _admit_open_account(op: OpenAccount, actor: Account | None) -> Admission | Rejection:
    if actor is None:
        return _NOTHING_MOVES
    wanted = "merchant" if op.role == "member" else "operator"
    if actor.role != wanted:
        return Rejection(
            Code.NOT_PERMITTED, f"a {op.role} is vouched for by the {wanted}, not by {actor.id}", ("actor",)
        )
    return _NOTHING_MOVES


def _admit_define_asset(ask: Request[DefineAsset]) -> Decision:
    state, op, actor = ask.state, ask.op, ask.actor
    assert state.parameters is not None
    if actor.role != "merchant":
        return Rejection(Code.NOT_PERMITTED, "only a merchant defines an asset", ("actor",))
    if op.asset in state.assets or op.asset in state.parameters.units:
        return Rejection(Code.ASSET_EXISTS, f"{op.asset} is taken: choose another code", ("asset",))
    if op.value is not None and op.value.currency not in state.parameters.units:
        return unknown_currency(state, op.value.currency, ("value", "currency"))
    fee = op.transfer_terms.fee if op.transfer_terms is not None else None
    if fee is not None and fee.currency not in state.parameters.units:
        return unknown_currency(state, fee.currency, ("transfer_terms", "fee", "currency"))
    return _NOTHING_MOVES


def _admit_publish_program(ask: Request[PublishProgram]) -> Decision:
    state, op, actor, time = ask.state, ask.op, ask.actor, ask.time
    assert state.parameters is not None
    if refusal := check_issuer(state, op.asset, actor) or _check_status_asset(state, op):
        return refusal
    if op.program.currency not in state.parameters.units:
        return unknown_currency(state, op.program.currency, ("program", "currency"))
    if op.program.refunds == "owe" and state.assets[op.asset].value is None:
        message = f"{op.asset} has no value in money, so nobody could owe it: choose another policy"
        return Rejection(Code.VALUE_MISSING, message, ("program", "refunds"))
    versions = state.programs.get(op.asset, ())
    if op.version != len(versions) + 1:
        message = f"the next version of {op.asset} is {len(versions) + 1}"
        return Rejection(Code.VERSION_CONFLICT, message, ("version",), {"next_version": len(versions) + 1})
    if not versions:
        return _NOTHING_MOVES
    if op.program.currency != versions[0].program.currency:
        message = f"{op.asset} is earned in {versions[0].program.currency}; a version cannot change that"
        return Rejection(Code.CURRENCY_MISMATCH, message, ("program", "currency"))
    if op.program.time_zone != versions[0].program.time_zone:
        # Another zone would end the last day of lots that are held already at another moment.
        message = f"the days of {op.asset} are those of {versions[0].program.time_zone}; a version cannot change that"
        return Rejection(Code.TIME_ZONE_MISMATCH, message, ("program", "time_zone"))
    if op.starts < earliest_start(state, time):
        message = f"a new version cannot start in the past (before {time}): earlier purchases keep their rules"
        return Rejection(Code.STARTS_IN_PAST, message, ("starts",))
    return _NOTHING_MOVES


def _check_status_asset(state: State, op: PublishProgram) -> Rejection | None:
    """Why base points cannot be given in another asset: its issuer alone could."""
    code = op.program.status_asset
    if code is None:
        return None
    asset, path = state.assets.get(code), ("program", "status_asset")
    if asset is None:
        return unknown_asset(code, path)
    if asset.issuer != op.actor:
        return Rejection(Code.NOT_PERMITTED, f"{code} is {asset.issuer}'s to give", path)
    return None


def _admit_replace_keys(_: Request[ReplaceKeys]) -> Decision:
    return _NOTHING_MOVES


def _admit_recover_keys(ask: Request[RecoverKeys]) -> Decision:
    state, op, actor, time = ask.state, ask.op, ask.actor, ask.time
    assert state.parameters is not None
    if actor.role != "operator":
        return Rejection(Code.NOT_PERMITTED, "only the operator recovers an account", ("actor",))
    account = state.accounts.get(op.account)
    if account is None:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {op.account}", ("account",))
    if account.id == actor.id:
        return Rejection(Code.NOT_PERMITTED, "the operator's own keys are replaced by replace_keys", ("account",))
    pending = account_at(account, time).recovery
    if pending is not None:
        message = f"a recovery takes effect at {pending.effective_at}: wait for it, or cancel it first"
        return Rejection(Code.RECOVERY_PENDING, message, ("account",), {"effective_at": pending.effective_at})
    return Admission(effective_at=format_time(parse_time(time) + state.parameters.recovery_delay_ms))


def _admit_cancel_recovery(ask: Request[CancelRecovery]) -> Decision:
    state, op, actor, time = ask.state, ask.op, ask.actor, ask.time
    if actor.id != op.account and actor.role != "operator":
        message = "only the account itself or the operator cancels its recovery"
        return Rejection(Code.NOT_PERMITTED, message, ("actor",))
    account = state.accounts.get(op.account)
    if account is None:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {op.account}", ("account",))
    if account_at(account, time).recovery is None:
        return Rejection(Code.NO_RECOVERY, f"no recovery of {op.account} is pending", ("account",))
    return _NOTHING_MOVES


def _admit_replace_log_key(ask: Request[ReplaceLogKey]) -> Decision:
    state, op, actor = ask.state, ask.op, ask.actor
    if actor.role != "operator":
        return Rejection(Code.NOT_PERMITTED, "only the operator replaces the log key", ("actor",))
    if refusal := _check_log_key(op.log_key, op.ledger):
        return refusal
    # A note names keys by id: of two that share one, nobody could tell whose line is whose.
    key_id = decode_verifier_key(op.log_key).key_id
    used = next((seq for seq, log_key in state.log_keys if decode_verifier_key(log_key).key_id == key_id), None)
    if used is not None:
        message = f"this is the id of the log key of entry {used}: make a new one"
        return Rejection(Code.LOG_KEY_USED, message, ("log_key",))
    return _NOTHING_MOVES


def _admit_freeze(ask: Request[Freeze]) -> Decision:
    account = _account_to_freeze(ask, "freezes an account")
    if isinstance(account, Rejection):
        return account
    if account.id == ask.actor.id:
        return Rejection(Code.NOT_PERMITTED, "the operator could not unfreeze itself", ("account",))
    if account.frozen_seq is not None:
        message = f"{account.id} is frozen already, since entry {account.frozen_seq}"
        return Rejection(Code.ALREADY_FROZEN, message, ("account",))
    return Admission(parties=(account.id,))


def _admit_unfreeze(ask: Request[Unfreeze]) -> Decision:
    account = _account_to_freeze(ask, "unfreezes an account")
    if isinstance(account, Rejection):
        return account
    if account.frozen_seq is None:
        return Rejection(Code.NOT_FROZEN, f"{account.id} is not frozen", ("account",))
    return Admission(parties=(account.id,))


def _account_to_freeze(ask: Request[Freeze] | Request[Unfreeze], what: str) -> Account | Rejection:
    if refusal := check_operator(ask.actor, what):
        return refusal
    return ask.state.accounts.get(ask.op.account) or unknown_account(ask.op.account, ("account",))


_ADMIT: dict[type, Callable[[Any], Decision]] = {
    DefineAsset: _admit_define_asset,
    PublishProgram: _admit_publish_program,
    RecordPurchases: admit_record_purchases,
    Grant: admit_grant,
    Correct: admit_correct,
    Transfer: admit_transfer,
    Redeem: admit_redeem,
    Exchange: admit_exchange,
    Hold: admit_hold,
    Capture: admit_capture,
    Release: admit_release,
    Refund: admit_refund,
    Expire: admit_expire,
    Enroll: admit_enroll,
    Vest: admit_vest,
    ReviewTiers: admit_review_tiers,
    StartPlan: admit_start_plan,
    EndPlan: admit_end_plan,
    FormPool: admit_form_pool,
    LeavePool: admit_leave_pool,
    UseVoucher: admit_use_voucher,
    Remind: admit_remind,
    Agree: admit_agree,
    EndAgreement: admit_end_agreement,
    Allot: admit_allot,
    Net: admit_net,
    Settle: admit_settle,
    Dispute: admit_dispute,
    ResolveDispute: admit_resolve_dispute,
    Freeze: _admit_freeze,
    Unfreeze: _admit_unfreeze,
    ReplaceKeys: _admit_replace_keys,
    RecoverKeys: _admit_recover_keys,
    CancelRecovery: _admit_cancel_recovery,
    ReplaceLogKey: _admit_replace_log_key,
}


def apply(state: State, signed: SignedOperation, admission: Admission, seq: int) -> None:
    """Make an admitted operation part of the state, as entry ``seq``. From here it must succeed."""
    op = signed.op
    for leg in admission.postings:
        state.add_lot(leg.account, leg.asset, leg.lot or NO_LAST_DAY, leg.amount)
    for earning in admission.earnings:
        event = (earning.merchant, earning.scope, earning.reference)
        state.references[event] = seq
        state.earnings[event] = (op.asset, earning)  # type: ignore[union-attr]
    for reference in admission.references:
        state.references[reference] = seq
    for name, key, record in admission.changes:
        state.records(name).change(key, record)
    state.recorded[signed.op_id] = seq
    state.size = seq + 1
    if isinstance(op, _ACCOUNT_CHANGES):
        account = op.actor if isinstance(op, ReplaceKeys) else op.account
        state.accounts[account] = _changed(state.accounts[account], op, admission, seq)
    else:
        _define(state, signed, seq)


def _define(state: State, signed: SignedOperation, seq: int) -> None:
    """Add what an operation defines: accounts, assets, programs, keys of the log."""
    match signed.op:
        case OpenAccount() as op:
            account = opened_account(op, signed.op_id, seq)
            state.accounts[account.id] = account
        case DefineAsset() as op:
            state.assets[op.asset] = defined_asset(op, seq)
        case PublishProgram() as op:
            state.programs[op.asset] = (*state.programs.get(op.asset, ()), published_version(op, seq))
        case Genesis() as op:
            state.parameters = parameters_of(op, signed.op_id)
            operator = operator_account(op, signed.op_id)
            state.accounts[operator.id] = operator
            state.log_keys = ((seq, op.log_key),)
        case ReplaceLogKey() as op:
            state.log_keys = (*state.log_keys, (seq, op.log_key))


_ACCOUNT_CHANGES = (ReplaceKeys, RecoverKeys, CancelRecovery, Freeze, Unfreeze)


def _changed(
    account: Account,
    op: ReplaceKeys | RecoverKeys | CancelRecovery | Freeze | Unfreeze,
    admission: Admission,
    seq: int,
) -> Account:
    match op:
        case ReplaceKeys():
            return _replaced(account, op, seq)
        case RecoverKeys():
            return _recovering(account, op, admission, seq)
        case CancelRecovery():
            return replace(account, recovery=None)
        case Freeze():
            return replace(account, frozen_seq=seq, frozen_reason=op.reason)
    return replace(account, frozen_seq=None, frozen_reason=None)


def _replaced(account: Account, op: ReplaceKeys, seq: int) -> Account:
    return replace(
        account,
        keys=op.keys,
        threshold=op.threshold,
        approval_threshold=op.approval_threshold,
        custodian=None,
        keys_seq=seq,
        recovery=None,
    )


def _recovering(account: Account, op: RecoverKeys, admission: Admission, seq: int) -> Account:
    """The account with its recovery begun. One it still had is in effect, or this one would not have been admitted."""
    assert admission.effective_at is not None
    if account.recovery is not None:
        account = account_at(account, account.recovery.effective_at)
    recovery = Recovery(
        keys=op.keys,
        threshold=op.threshold,
        approval_threshold=op.approval_threshold,
        effective_at=admission.effective_at,
        seq=seq,
    )
    return replace(account, recovery=recovery)


def opened_account(op: OpenAccount, op_id: OpId, seq: int) -> Account:
    """The account an operation opens."""
    return Account(
        id=account_id(ROLE_PREFIXES[op.role], op_id),
        role=op.role,
        keys=op.keys,
        threshold=op.threshold,
        approval_threshold=op.approval_threshold,
        custodian=AccountId(op.actor) if not op.keys and op.actor is not None else None,
        name=op.name,
        opened_at=op.at,
        seq=seq,
        keys_seq=seq,
    )


def operator_account(op: Genesis, op_id: OpId) -> Account:
    """The operator's account, which genesis opens."""
    return Account(
        id=account_id(ROLE_PREFIXES["operator"], op_id),
        role="operator",
        keys=op.keys,
        threshold=op.threshold,
        custodian=None,
        name=op.name,
        opened_at=op.at,
        seq=0,
        keys_seq=0,
    )


def parameters_of(op: Genesis, op_id: OpId) -> Parameters:
    """What genesis fixes for the life of the ledger."""
    return Parameters(
        operator=account_id(ROLE_PREFIXES["operator"], op_id),
        clock_tolerance_ms=op.clock_tolerance_ms,
        recovery_delay_ms=DEFAULT_RECOVERY_DELAY_MS if op.recovery_delay_ms is None else op.recovery_delay_ms,
        units={currency.code: 10**currency.scale for currency in op.currencies},
        log_key=op.log_key,
        name=op.name,
    )


def defined_asset(op: DefineAsset, seq: int) -> Asset:
    """The asset an operation defines."""
    return Asset(
        code=op.asset,
        issuer=AccountId(op.actor),
        name=op.name,
        scale=op.scale,
        supply_cap=op.supply_cap,
        transferable=op.transferable,
        value=op.value,
        transfer_terms=op.transfer_terms,
        seq=seq,
    )


def published_version(op: PublishProgram, seq: int) -> ProgramVersion:
    """The program version an operation publishes."""
    return ProgramVersion(
        asset=op.asset, version=op.version, starts=op.starts, ends=op.ends, program=op.program, seq=seq
    )
