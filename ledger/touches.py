"""What an operation needs of the state: named before it is decided, so that a writer loads that and no more.

:func:`touches` names what follows from the document alone. What an agreement, a hold or an earlier entry leads to is
only known once that is loaded: :func:`touches_more` names it, and is asked again until it names nothing new. A partial
state must hold all of it, and the custodians of the accounts among it; a lookup that finds nothing there means that the
thing does not exist.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from ledger.agreements import acceptance_name, earning_name, exchange_name, in_force
from ledger.calculation import is_special
from ledger.movements import ALL_HOLDERS, period_of
from ledger.operations import (
    Agree,
    Allot,
    AnyOperation,
    CancelRecovery,
    Capture,
    Correct,
    Dispute,
    EndAgreement,
    EndPlan,
    Enroll,
    Exchange,
    Expire,
    FormPool,
    Freeze,
    Grant,
    Hold,
    LeavePool,
    Net,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    Refund,
    Release,
    Remind,
    ResolveDispute,
    ReviewTiers,
    Settle,
    StartPlan,
    Transfer,
    Unfreeze,
    UseVoucher,
    Vest,
)
from ledger.program_terms import Program, Reward
from ledger.programs import ProgramVersion, local_date, version_at
from ledger.state import (
    ALLOTMENT_SCOPE,
    CORRECTION_SCOPE,
    INVITATION_SCOPE,
    ORDER_SCOPE,
    PAYMENT_SCOPE,
    PLAN_SCOPE,
    REFUND_SCOPE,
    SUPPLY_ACCOUNTS,
    SYS_EXPIRED,
    SYS_HELD,
    SYS_SPENT,
    Agreement,
    Earning,
    Spending,
    State,
    Touches,
    activity_scope,
    earned_scope,
    evidence_scope,
    grant_scope,
    invited_scope,
    reward_scope,
    transfer_scopes,
)
from ledger.terms import Cap, ClaimTerms, EarningTerms, ExchangeTerms, RefundedPurchase
from ledger.vouchers import automatic_reward, period_had


def touches(op: AnyOperation, into: Touches | None = None) -> Touches:
    """Name the state an operation needs, adding to ``into`` when a whole batch is gathered.

    :class:`Expire` also needs :func:`ledger.spending.due_lots`, which no key names: the writer loads them by a query of
    their own.
    """
    needs = into if into is not None else Touches.none()
    actor = getattr(op, "actor", None)
    if actor is not None:
        needs.accounts.add(actor)
    asset = getattr(op, "asset", None)
    if asset is not None:
        needs.assets.add(asset)
    name = _NAMED.get(type(op))
    if name is not None:
        name(op, needs)
    return needs


def touches_more(state: State, op: AnyOperation, time: str, into: Touches) -> None:
    """Name what an operation needs beyond :func:`touches`, as far as it follows from what the state holds by now.

    ``time`` is the recording time. Only kinds in :data:`DEEP_KINDS` need anything more.
    """
    name = _FOUND.get(type(op))
    if name is not None:
        name(state, op, time, into)


def _spends(needs: Touches, account: str, asset: str) -> None:
    """Whoever spends gets back first what it had on holds that have ended by themselves."""
    needs.balances.update({(account, asset), (SYS_HELD, asset)})
    needs.groups.add(("holds", (account, asset)))


def _issues(needs: Touches, asset: str) -> None:
    needs.assets.add(asset)
    needs.balances.update((account, asset) for account in SUPPLY_ACCOUNTS)


def _owes(needs: Touches, currency: str, one: str, other: str) -> None:
    needs.balances.update({(one, currency), (other, currency)})
    needs.groups.update({("obligations", (currency, one, other)), ("obligations", (currency, other, one))})


def _claims(needs: Touches, terms: ClaimTerms | None, agreement: Agreement) -> None:
    if terms is not None:
        _owes(needs, terms.currency, agreement.issuer, agreement.partner)


def _counts(state: State, needs: Touches, cap: Cap | None, use: tuple[str, str, str], time: str) -> None:
    """A cap on what an account does: ``use`` is the scope, the account and the asset that is counted."""
    if cap is not None:
        scope, account, asset = use
        needs.records.add(("usages", (scope, account, period_of(cap, state.today(asset, time)))))


def _counts_agreement(state: State, needs: Touches, agreement: Agreement, account: str, time: str) -> None:
    terms, name = agreement.terms, agreement.agreement
    if not isinstance(terms, EarningTerms):
        _counts(state, needs, terms.holder_cap, (name, account, terms.asset), time)
    _counts(state, needs, terms.total_cap, (name, ALL_HOLDERS, terms.asset), time)


def _participates(needs: Touches, account: str, asset: str) -> None:
    """Where an account stands in a program: its membership, and what it did that tiers count."""
    needs.records.add(("memberships", (asset, account)))
    needs.groups.add(("progress", (asset, account)))


def _has_rewards(needs: Touches, asset: str, rewards: Iterable[Reward], accounts: Iterable[str], today: str) -> None:
    """What bounds how many of these rewards accounts can have today."""
    for reward in rewards:
        scope = reward_scope(asset, reward.reward)
        needs.records.add(("usages", (scope, ALL_HOLDERS, "ever")))
        if reward.limit is not None:
            period = period_of(reward.limit, today)
            needs.records.update(("usages", (scope, account, period)) for account in accounts)


def _has_automatic(state: State, needs: Touches, asset: str, accounts: Collection[str], time: str) -> None:
    """What the automatic reward that these accounts may have by an entry depends on, if there is one."""
    reward = automatic_reward(state.program_at(asset, time))
    if reward is not None:
        needs.balances.add((SYS_SPENT, asset))
        for account in accounts:
            needs.accounts.add(account)
            _participates(needs, account, asset)
        _has_rewards(needs, asset, (reward,), accounts, state.today(asset, time))


def _transfer(op: Transfer, needs: Touches) -> None:
    _spends(needs, op.actor, op.asset)
    for recipient in op.recipients:
        needs.accounts.add(recipient.to)
        needs.balances.add((recipient.to, op.asset))


def _transfer_more(state: State, op: Transfer, time: str, needs: Touches) -> None:
    asset = state.assets.get(op.asset)
    if asset is None or asset.transfer_terms is None:
        return
    terms = asset.transfer_terms
    sent, received = transfer_scopes(op.asset)
    _counts(state, needs, terms.out_cap, (sent, op.actor, op.asset), time)
    for recipient in op.recipients:
        _counts(state, needs, terms.in_cap, (received, recipient.to, op.asset), time)
    if terms.fee is not None:
        _owes(needs, terms.fee.currency, op.actor, asset.issuer)


def _record_purchases(op: RecordPurchases, needs: Touches) -> None:
    _issues(needs, op.asset)
    for purchase in op.purchases:
        needs.accounts.add(purchase.member)
        needs.balances.add((purchase.member, op.asset))
        needs.references.add((op.actor, ORDER_SCOPE, purchase.order))


def _grant(op: Grant, needs: Touches) -> None:
    _issues(needs, op.asset)
    needs.accounts.add(op.member)
    needs.balances.add((op.member, op.asset))
    needs.references.add((op.actor, grant_scope(op.activity), op.reference))


def _record_purchases_more(state: State, op: RecordPurchases, time: str, needs: Touches) -> None:
    _earning_more(state, op, time, needs)
    versions = state.programs.get(op.asset, ())
    if not any(is_special(version.program) for version in versions):
        return  # as of most
    gaining = {purchase.member: None for purchase in op.purchases}
    for purchase in op.purchases:
        version = version_at(versions, purchase.at)
        if version is None or not is_special(version.program):
            continue
        _counts_purchase(needs, version, purchase.member, local_date(purchase.at, version.program.time_zone))
        inviter = _inviter_more(state, needs, version, op.actor, purchase.member)
        if inviter is not None:
            gaining[inviter] = None
            _counts_invitation(needs, version, inviter, local_date(purchase.at, version.program.time_zone))
    _has_automatic(state, needs, op.asset, gaining, time)


def _counts_purchase(needs: Touches, version: ProgramVersion, account: str, earned_on: str) -> None:
    """What a purchase of a local date is counted for, and what it gives beside points of the asset."""
    program, asset = version.program, version.asset
    _participates(needs, account, asset)
    if program.earning_cap is not None:
        needs.records.add(("usages", (earned_scope(asset), account, period_of(program.earning_cap, earned_on))))
    _gives_status(needs, program, account)


def _gives_status(needs: Touches, program: Program, account: str) -> None:
    if program.status_asset is not None:
        _issues(needs, program.status_asset)
        _spends(needs, account, program.status_asset)
        needs.records.add(("memberships", (program.status_asset, account)))


def _inviter_more(state: State, needs: Touches, version: ProgramVersion, actor: str, account: str) -> str | None:
    """Who may be rewarded for having invited a member that makes a purchase."""
    asset, member = state.assets.get(version.asset), state.memberships.get(version.asset, account)
    if version.program.referral is None or asset is None or asset.issuer != actor:
        return None
    if member is None or member.invited_by is None or member.purchases:
        return None
    needs.accounts.add(member.invited_by)
    needs.balances.add((member.invited_by, version.asset))
    return member.invited_by


def _counts_invitation(needs: Touches, version: ProgramVersion, inviter: str, earned_on: str) -> None:
    referral = version.program.referral
    if referral is not None and referral.limit is not None:
        needs.records.add(("usages", (invited_scope(version.asset), inviter, period_of(referral.limit, earned_on))))


def _grant_more(state: State, op: Grant, time: str, needs: Touches) -> None:
    _earning_more(state, op, time, needs)
    version, asset = state.program_at(op.asset, op.at), state.assets.get(op.asset)
    if version is None or asset is None:
        return
    if op.evidence is not None:
        needs.references.add((asset.issuer, evidence_scope(op.asset), op.evidence))
    for rule in version.program.grants:
        if rule.activity == op.activity and rule.limit is not None:
            period = period_of(rule.limit, local_date(op.at, version.program.time_zone))
            needs.records.add(("usages", (activity_scope(op.asset, op.activity), op.member, period)))
    if is_special(version.program):
        _participates(needs, op.member, op.asset)
    _has_automatic(state, needs, op.asset, (op.member,), time)


def _vest(op: Vest, needs: Touches) -> None:
    _issues(needs, op.asset)
    needs.records.update(("pending", (each.merchant, each.order)) for each in op.purchases)


def _vest_more(state: State, op: Vest, time: str, needs: Touches) -> None:
    versions = state.programs.get(op.asset, ())
    gaining: dict[str, None] = {}
    for each in op.purchases:
        pending = state.pending.get(each.merchant, each.order)
        if pending is None or pending.asset != op.asset:
            continue
        gaining[pending.account] = None
        if pending.inviter is not None:
            gaining[pending.inviter] = None
        if pending.status_points and versions:
            _gives_status(needs, versions[pending.version - 1].program, pending.account)
    needs.accounts.update(gaining)
    needs.balances.update((account, op.asset) for account in gaining)
    _has_automatic(state, needs, op.asset, gaining, time)


def _earning_more(state: State, op: RecordPurchases | Grant | Refund, time: str, needs: Touches) -> None:
    """Who is not the asset's issuer gives its points by an agreement."""
    asset = state.assets.get(op.asset)
    if asset is None or asset.issuer == op.actor:
        return
    name = earning_name(op.asset, op.actor)
    needs.groups.add(("agreements", (name,)))
    needs.records.add(("allotments", (name,)))
    for agreement in state.agreements.group(name):
        _claims(needs, agreement.terms.claim, agreement)
        _counts_agreement(state, needs, agreement, op.actor, time)


def _correct(op: Correct, needs: Touches) -> None:
    needs.accounts.add(op.member)
    needs.references.add((op.actor, CORRECTION_SCOPE, op.reference))
    needs.records.add(("memberships", (op.asset, op.member)))
    _spends(needs, op.member, op.asset)
    _issues(needs, op.asset)


def _redeem(op: Redeem | Hold, needs: Touches) -> None:
    if isinstance(op, Redeem) and (op.from_pool or op.reward is not None):
        _participates(needs, op.actor, op.asset)
    needs.accounts.add(op.merchant)
    needs.balances.update({(SYS_SPENT, op.asset), (op.merchant, op.asset)})
    _spends(needs, op.actor, op.asset)


def _redeem_more(state: State, op: Redeem | Hold, time: str, needs: Touches) -> None:
    if isinstance(op, Redeem):
        if op.from_pool:
            _pool_more(state, needs, op.asset, op.actor)
        if op.reward is not None:
            version = state.program_at(op.asset, time)
            rewards = () if version is None else version.program.rewards
            asked = [reward for reward in rewards if reward.reward == op.reward]
            _has_rewards(needs, op.asset, asked, (op.actor,), state.today(op.asset, time))
    asset = state.assets.get(op.asset)
    if asset is None or asset.issuer == op.merchant:
        return
    name = acceptance_name(op.asset, op.merchant)
    needs.groups.add(("agreements", (name,)))
    agreement = in_force(state, name, time)
    if agreement is not None:
        _claims(needs, agreement.terms.claim, agreement)
        _counts_agreement(state, needs, agreement, op.actor, time)


def _pool_more(state: State, needs: Touches, asset: str, account: str) -> None:
    """What the members of an account's pool have."""
    member = state.memberships.get(asset, account)
    if member is None or member.pool is None:
        return
    needs.records.add(("pools", (member.pool,)))
    pool = state.pools.get(member.pool)
    for each in pool.members if pool is not None else ():
        needs.accounts.add(each)
        _spends(needs, each, asset)


def _exchange(op: Exchange, needs: Touches) -> None:
    _spends(needs, op.actor, op.asset)
    _issues(needs, op.asset)
    _issues(needs, op.into)
    needs.balances.add((op.actor, op.into))
    needs.records.add(("memberships", (op.into, op.actor)))
    needs.groups.add(("agreements", (exchange_name(op.asset, op.into),)))


def _exchange_more(state: State, op: Exchange, time: str, needs: Touches) -> None:
    agreement = in_force(state, exchange_name(op.asset, op.into), time)
    if agreement is None:
        return
    needs.accounts.update({agreement.issuer, agreement.partner})
    needs.balances.add((agreement.partner, op.asset))
    _claims(needs, agreement.terms.claim, agreement)
    _counts_agreement(state, needs, agreement, op.actor, time)
    if isinstance(agreement.terms, ExchangeTerms) and agreement.terms.fee is not None:
        _owes(needs, agreement.terms.fee.currency, op.actor, agreement.terms.fee.kept_by)


def _capture(op: Capture | Release, needs: Touches) -> None:
    needs.records.add(("holds", (op.hold,)))


def _capture_more(state: State, op: Capture | Release, time: str, needs: Touches) -> None:
    hold = state.holds.get(op.hold)
    if hold is None:
        return
    needs.assets.add(hold.asset)
    needs.accounts.add(hold.account)
    held = {hold.account, hold.merchant, SYS_HELD, SYS_SPENT}
    needs.balances.update((account, hold.asset) for account in held)
    _version_more(state, needs, hold.agreement, hold.version)


def _version_more(state: State, needs: Touches, name: str | None, version: int | None) -> None:
    if name is None:
        return
    needs.records.add(("agreements", (name, version)))
    agreement = state.agreements.get(name, version)
    if agreement is not None:
        _claims(needs, agreement.terms.claim, agreement)


def _refund(op: Refund, needs: Touches) -> None:
    needs.references.add((op.actor, REFUND_SCOPE, op.reference))
    if isinstance(op.of, RefundedPurchase):
        needs.earnings.add((op.actor, ORDER_SCOPE, op.of.order))
        needs.records.add(("purchase_refunds", (op.actor, op.of.order)))
    else:
        needs.records.add(("spendings", (op.of.operation,)))


def _refund_more(state: State, op: Refund, time: str, needs: Touches) -> None:
    if isinstance(op.of, RefundedPurchase):
        _refund_purchase_more(state, op, op.of, time, needs)
        return
    spending = state.spendings.get(op.of.operation)
    if spending is None:
        return
    _spending_more(state, needs, spending)
    _issues(needs, spending.asset)
    _spends(needs, op.actor, spending.asset)
    _version_more(state, needs, spending.agreement, spending.version)
    agreement = state.agreements.get(spending.agreement, spending.version)
    if agreement is None or not isinstance(agreement.terms, ExchangeTerms):
        return
    _issues(needs, agreement.terms.into)
    _spends(needs, spending.account, agreement.terms.into)
    needs.records.add(("memberships", (agreement.terms.into, spending.account)))
    if agreement.terms.fee is not None:
        _owes(needs, agreement.terms.fee.currency, spending.account, agreement.terms.fee.kept_by)


def _spending_more(state: State, needs: Touches, spending: Spending) -> None:
    """Whose points were spent, and what was had for them."""
    needs.accounts.add(spending.account)
    needs.balances.update((holder, spending.asset) for holder in (spending.account, *spending.holders))
    if spending.reward is None:
        return
    needs.assets.add(spending.asset)
    needs.records.update(("vouchers", (spending.seq, index)) for index in range(spending.vouchers))
    scope, period = reward_scope(spending.asset, spending.reward), period_had(state, spending)
    needs.records.add(("usages", (scope, ALL_HOLDERS, "ever")))
    if period is not None:
        needs.records.add(("usages", (scope, spending.account, period)))


def _refund_purchase_more(state: State, op: Refund, of: RefundedPurchase, time: str, needs: Touches) -> None:
    found = state.earnings.get((op.actor, ORDER_SCOPE, of.order))
    if found is None:
        return
    _, earning = found
    needs.accounts.add(earning.account)
    _spends(needs, earning.account, op.asset)
    _issues(needs, op.asset)
    _earning_more(state, op, time, needs)
    asset = state.assets.get(op.asset)
    if asset is not None and asset.value is not None:
        _owes(needs, asset.value.currency, earning.account, op.actor)
    versions = state.programs.get(op.asset, ())
    if versions and is_special(versions[earning.version - 1].program):
        _undone_more(state, needs, versions[earning.version - 1], earning)


def _undone_more(state: State, needs: Touches, version: ProgramVersion, earning: Earning) -> None:
    """What a purchase counted for, what it gave beside points of the asset or promised, and who was rewarded for it."""
    _counts_purchase(needs, version, earning.account, earning.earned_on)
    needs.records.add(("pending", (earning.merchant, earning.reference)))
    invitation = (earning.merchant, INVITATION_SCOPE, earning.reference)
    needs.earnings.add(invitation)
    if invitation in state.earnings:
        invited = state.earnings[invitation][1]
        needs.accounts.add(invited.account)
        _spends(needs, invited.account, version.asset)
        _counts_invitation(needs, version, invited.account, invited.earned_on)


def _expire(op: Expire, needs: Touches) -> None:
    needs.balances.add((SYS_EXPIRED, op.asset))


def _enroll(op: Enroll, needs: Touches) -> None:
    _participates(needs, op.actor, op.asset)
    if op.invited_by is not None:
        needs.accounts.add(op.invited_by)


def _review_tiers(op: ReviewTiers, needs: Touches) -> None:
    for member in op.members:
        _participates(needs, member, op.asset)


def _start_plan(op: StartPlan | EndPlan, needs: Touches) -> None:
    needs.accounts.add(op.member)
    _participates(needs, op.member, op.asset)
    if isinstance(op, StartPlan):
        needs.references.add((op.actor, PLAN_SCOPE, op.reference))


def _form_pool(op: FormPool, needs: Touches) -> None:
    needs.accounts.update(op.members)
    for account in (op.actor, *op.members):
        _participates(needs, account, op.asset)


def _leave_pool(op: LeavePool, needs: Touches) -> None:
    needs.records.add(("memberships", (op.asset, op.actor)))


def _leave_pool_more(state: State, op: LeavePool, time: str, needs: Touches) -> None:
    member = state.memberships.get(op.asset, op.actor)
    if member is None or member.pool is None:
        return
    needs.records.add(("pools", (member.pool,)))
    pool = state.pools.get(member.pool)
    needs.records.update(("memberships", (op.asset, each)) for each in (pool.members if pool is not None else ()))


def _remind(op: Remind, needs: Touches) -> None:
    for member in op.members:
        needs.accounts.add(member)
        needs.groups.add(("reminded", (op.asset, member)))
        if op.about == "tier":
            needs.records.add(("memberships", (op.asset, member)))
        else:
            needs.balances.add((member, op.asset))


def _use_voucher(op: UseVoucher, needs: Touches) -> None:
    needs.records.add(("vouchers", (op.voucher.seq, op.voucher.index)))


def _use_voucher_more(state: State, op: UseVoucher, time: str, needs: Touches) -> None:
    voucher = state.vouchers.get(op.voucher.seq, op.voucher.index)
    if voucher is not None:
        needs.assets.add(voucher.asset)
        needs.accounts.add(voucher.account)


def _publish_program(op: PublishProgram, needs: Touches) -> None:
    if op.program.status_asset is not None:
        needs.assets.add(op.program.status_asset)


def _agree(op: Agree, needs: Touches) -> None:
    needs.accounts.add(op.partner)
    needs.assets.add(op.terms.asset)
    if isinstance(op.terms, ExchangeTerms):
        needs.assets.add(op.terms.into)
        needs.groups.add(("agreements", ()))  # whether it opens a loop that pays is a question of all
    elif isinstance(op.terms, EarningTerms):
        needs.groups.add(("agreements", (earning_name(op.terms.asset, op.partner),)))
    else:
        needs.groups.add(("agreements", (acceptance_name(op.terms.asset, op.partner),)))


def _end_agreement(op: EndAgreement, needs: Touches) -> None:
    needs.groups.add(("agreements", (op.agreement,)))


def _allot(op: Allot, needs: Touches) -> None:
    name = earning_name(op.asset, op.partner)
    needs.accounts.add(op.partner)
    needs.groups.add(("agreements", (name,)))
    needs.records.add(("allotments", (name,)))
    needs.references.add((op.actor, ALLOTMENT_SCOPE, op.reference))


def _allot_more(state: State, op: Allot, time: str, needs: Touches) -> None:
    agreement = in_force(state, earning_name(op.asset, op.partner), time)
    if agreement is not None:
        _claims(needs, agreement.terms.claim, agreement)


def _net(op: Net, needs: Touches) -> None:
    needs.accounts.update(op.merchants)
    needs.groups.add(("obligations", (op.currency,)))


def _settle(op: Settle, needs: Touches) -> None:
    needs.accounts.add(op.debtor)
    needs.references.add((op.actor, PAYMENT_SCOPE, op.payment))
    _owes(needs, op.currency, op.debtor, op.actor)


def _dispute(op: Dispute | ResolveDispute, needs: Touches) -> None:
    needs.records.add(("claims", (op.claim.seq, op.claim.index)))


def _dispute_more(state: State, op: Dispute | ResolveDispute, time: str, needs: Touches) -> None:
    claim = state.claims.get(op.claim.seq, op.claim.index)
    if claim is not None:
        _owes(needs, claim.currency, claim.debtor, claim.creditor)


def _account(op: Freeze | Unfreeze | RecoverKeys | CancelRecovery, needs: Touches) -> None:
    needs.accounts.add(op.account)


_NAMED: dict[type, Callable[[Any, Touches], None]] = {
    Transfer: _transfer,
    RecordPurchases: _record_purchases,
    Grant: _grant,
    Correct: _correct,
    Redeem: _redeem,
    Exchange: _exchange,
    Hold: _redeem,
    Capture: _capture,
    Release: _capture,
    Refund: _refund,
    Expire: _expire,
    PublishProgram: _publish_program,
    Enroll: _enroll,
    ReviewTiers: _review_tiers,
    StartPlan: _start_plan,
    EndPlan: _start_plan,
    FormPool: _form_pool,
    LeavePool: _leave_pool,
    UseVoucher: _use_voucher,
    Remind: _remind,
    Vest: _vest,
    Agree: _agree,
    EndAgreement: _end_agreement,
    Allot: _allot,
    Net: _net,
    Settle: _settle,
    Dispute: _dispute,
    ResolveDispute: _dispute,
    Freeze: _account,
    Unfreeze: _account,
    RecoverKeys: _account,
    CancelRecovery: _account,
}

_FOUND: dict[type, Callable[[State, Any, str, Touches], None]] = {
    Transfer: _transfer_more,
    RecordPurchases: _record_purchases_more,
    Grant: _grant_more,
    Vest: _vest_more,
    Redeem: _redeem_more,
    Exchange: _exchange_more,
    Hold: _redeem_more,
    Capture: _capture_more,
    Release: _capture_more,
    Refund: _refund_more,
    LeavePool: _leave_pool_more,
    UseVoucher: _use_voucher_more,
    Allot: _allot_more,
    Dispute: _dispute_more,
    ResolveDispute: _dispute_more,
}

DEEP_KINDS = frozenset(_FOUND)
"""Operations that may need more than their documents name."""
