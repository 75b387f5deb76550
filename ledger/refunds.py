"""Refunds and corrections: what undoes an entry, by the rules that it was recorded under.

A purchase gives back what its program version gave for the part refunded: ``f(left before) - f(left after)``. Points
that were spent return to their holder in their own lots, the last spent first. Both are differences of one function of
what is left, and so is all money: any split of a refund comes to what one refund of the whole does, and never to more
than the original. Where a part of a purchase had less than nothing given for it (a multiplier below 1 of one line can
do that), its refund gives nothing, and the next ones take back as much less.

What a purchase counted for, it no longer does: for tiers, under caps, and as a member's first purchase.

Worked example (2 points for every unit over 100, 1 for every unit from 50 to 100): a purchase of 120 gave f(120) = 90;
a refund of 30 leaves 90, for which the rules give f(90) = 40, so it takes back 50.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from msgspec import Struct
from msgspec.structs import replace

from ledger.agreements import earning_name, outcome, parties_of_claim, received_by
from ledger.calculation import Bought, calculate, is_special
from ledger.earning import Gain, lot_of_purchase, needs_approval
from ledger.entries import NO_LAST_DAY
from ledger.movements import Movement, insufficient_points, period_of, spendable, split, usable_lots
from ledger.operations import Correct, Refund
from ledger.participation import count, membership_of, renew_tier
from ledger.pools import HeldPart
from ledger.program_terms import Program, RefundPolicy
from ledger.programs import ProgramVersion, points_for, round_ratio
from ledger.refusals import (
    approval_missing,
    check_issuer,
    check_member_account,
    check_reference,
    no_program_then,
    unknown_asset,
)
from ledger.state import (
    CORRECTION_SCOPE,
    INVITATION_SCOPE,
    ORDER_SCOPE,
    REFUND_SCOPE,
    SYS_ISSUED,
    SYS_SPENT,
    Agreement,
    Allotment,
    Circumstances,
    Code,
    Decision,
    Earning,
    Part,
    Pending,
    PurchaseRefund,
    Rejection,
    Request,
    Spending,
    earned_scope,
    invited_scope,
)
from ledger.terms import EarningTerms, ExchangeTerms, RefundedExchange, RefundedPurchase, RefundedRedemption, Value
from ledger.vouchers import take_vouchers_back

_AMOUNT = ("of", "amount")
_RETURNABLE = {RefundedRedemption: frozenset({"redeem", "capture"}), RefundedExchange: frozenset({"exchange"})}


def admit_refund(ask: Request[Refund]) -> Decision:
    """Decide ``refund``. A reference is good for one refund, whatever it is of."""
    if ask.op.asset not in ask.state.assets:
        return unknown_asset(ask.op.asset)
    match ask.op.of:
        case RefundedPurchase() as of:
            return _refund_purchase(ask, of)
        case RefundedRedemption() as of:
            return _refund_redemption(ask, of)
        case of:
            return _refund_exchange(ask, of)


def _begin(ask: Request[Refund], account: str) -> Movement:
    move = Movement(ask.state, ask.time)
    move.refer(ask.op.actor, REFUND_SCOPE, ask.op.reference)
    move.concern((account,))
    return move


def _share(whole: int, of: int, before: int, after: int) -> int:
    """What of a whole amount goes back when of its ``of`` parts ``after`` are left, where ``before`` were."""
    return whole * before // of - whole * after // of


# Purchases


class _Undone(Struct, frozen=True, gc=False):
    """What a refund undoes of what a purchase gave and counted; ``whole``: nothing of the purchase is left."""

    points: int
    status_points: int
    earning_amount: int
    whole: bool


def _refund_purchase(ask: Request[Refund], of: RefundedPurchase) -> Decision:
    state, op = ask.state, ask.op
    earning = _original_purchase(ask, of)
    if isinstance(earning, Rejection):
        return earning
    if refusal := check_reference(ask, REFUND_SCOPE, op.reference, ("reference",)):
        return refusal
    before = state.purchase_refunds.get(op.actor, of.order)
    if before is None:
        before = PurchaseRefund(merchant=op.actor, reference=of.order, amount=0, points=0, returned=0)
    left = (earning.amount or 0) - before.amount
    if of.amount > left:
        return _too_large(left, "refundable_amount", f"{left} minor units of order {of.order}")
    lines = _refunded_lines(earning, before, of)
    if isinstance(lines, Rejection):
        return lines
    program = state.programs[op.asset][earning.version - 1].program
    after = replace(before, amount=before.amount + of.amount, lines=lines)
    undone = _undone(ask, program, earning, before, after)
    move = _begin(ask, earning.account)
    returned = _take_purchase_back(move, op.asset, earning, program, undone)
    after = replace(after, points=before.points + undone.points, returned=before.returned + returned)
    move.put("purchase_refunds", after)
    if is_special(program):
        _uncount(move, op.asset, earning, program, undone, returned=returned)
    agreement = _earning_agreement(ask, earning)
    value = state.assets[op.asset].value if program.refunds == "owe" else None
    _restore_allotment(move, agreement, returned)
    refusal = _owe_for_points(move, earning, value, before, after)
    refusal = refusal or _reverse_billing(move, agreement, earning, before, after)
    return refusal or move.admission(op.actor)


def _original_purchase(ask: Request[Refund], of: RefundedPurchase) -> Earning | Rejection:
    asset, earning = ask.state.earnings.get((ask.op.actor, ORDER_SCOPE, of.order), (None, None))
    if earning is None or asset != ask.op.asset:
        message = f"{ask.op.actor} has recorded no order {of.order} for {ask.op.asset}"
        return Rejection(Code.UNKNOWN_ORIGINAL, message, ("of", "order"))
    return earning


def _too_large(left: int, name: str, what: str) -> Rejection:
    return Rejection(Code.REFUND_TOO_LARGE, f"{what} are left to refund", _AMOUNT, {name: left})


def _refunded_lines(earning: Earning, before: PurchaseRefund, of: RefundedPurchase) -> tuple[int, ...] | Rejection:
    """How much of each line of a purchase is refunded by now: of those named, or else of the last ones."""
    lines = (earning.circumstances or Circumstances()).lines
    refunded = list(before.lines or (0 for _ in lines))
    for i, each in enumerate(of.lines):
        path = ("of", f"lines[{i}]")
        if each.line >= len(lines):
            message = f"order {of.order} has {len(lines)} lines, counted from 0" if lines else "it has no lines"
            return Rejection(Code.UNKNOWN_LINE, message, (*path, "line"), {"lines": len(lines)})
        left = lines[each.line].amount - refunded[each.line]
        if each.amount > left:
            refusal = _too_large(left, "refundable_amount", f"{left} minor units of line {each.line}")
            return replace(refusal, path=(*path, "amount"))
        refunded[each.line] += each.amount
    wanted = 0 if of.lines else of.amount
    for i in reversed(range(len(lines))):
        now = min(lines[i].amount - refunded[i], wanted)
        refunded[i] += now
        wanted -= now
    return tuple(refunded)


def _undone(
    ask: Request[Refund], program: Program, earning: Earning, before: PurchaseRefund, after: PurchaseRefund
) -> _Undone:
    """What the rules of a purchase gave for the part of it that is refunded."""
    assert ask.state.parameters is not None
    assert earning.amount is not None
    unit = ask.state.parameters.units[program.currency]
    whole = after.amount == earning.amount
    if not is_special(program):
        left = points_for(program, earning.amount - after.amount, unit)
        return _Undone(points_for(program, earning.amount - before.amount, unit) - left, 0, 0, whole)
    assert earning.circumstances is not None
    bought = Bought(
        amount=earning.amount,
        merchant=earning.merchant,
        earned_on=earning.earned_on,
        circumstances=earning.circumstances,
    )
    gave, gives = (calculate(program, bought, unit, each.lines or each.amount) for each in (before, after))
    return _Undone(
        points=max(earning.points - before.points - gives.points, 0),
        status_points=gave.status_points - gives.status_points,
        earning_amount=gave.earning_amount - gives.earning_amount,
        whole=whole,
    )


def _take_purchase_back(move: Movement, asset: str, earning: Earning, program: Program, undone: _Undone) -> int:
    """Take back what a purchase gave its member and who invited it, or was yet to; how many of its points returned."""
    pending: Pending | None = move.get("pending", earning.merchant, earning.reference)
    invitation = move.state.earnings.get((earning.merchant, INVITATION_SCOPE, earning.reference))
    invited = invitation[1] if invitation is not None and undone.whole else None
    lot = lot_of_purchase(program, earning)
    has_all_back = True
    if pending is None:
        returned = _take_back(move, Gain(earning.account, asset, lot, undone.points), program.refunds)
        if program.status_asset is not None:
            _forgive(move, earning.account, program.status_asset, undone.status_points)
        if invited is not None:
            policy: RefundPolicy = "negative" if program.refunds == "negative" else "cap"
            has_all_back = _take_back(move, Gain(invited.account, asset, lot, invited.points), policy) == invited.points
    else:
        returned = undone.points
        _promise_less(move, pending, program, undone)
    if invited is not None and program.referral is not None:
        move.concern((invited.account,))
        if program.referral.limit is not None and has_all_back:
            period = period_of(program.referral.limit, invited.earned_on)
            move.change_use(invited_scope(asset), invited.account, period, -1)
    return returned


def _promise_less(move: Movement, pending: Pending, program: Program, undone: _Undone) -> None:
    """Let points that have not vested not do so; who invited the member gets nothing for nothing."""
    status_points = pending.status_points
    if program.status_asset is not None:
        status_points -= undone.status_points
    left = replace(pending, points=pending.points - undone.points, status_points=status_points)
    if undone.whole:
        left = replace(left, inviter=None, inviter_points=0)
    if left.points or left.status_points or left.inviter_points:
        move.put("pending", left)
    else:
        move.remove("pending", pending.merchant, pending.order)


def _uncount(move: Movement, asset: str, earning: Earning, program: Program, undone: _Undone, *, returned: int) -> None:
    """Let what was undone of a purchase count for nothing: neither for tiers nor, as far as it came back, under a cap.

    Who spends points and then returns what was bought has had them, and could have as many again.
    """
    member = membership_of(move, asset, earning.account)
    assert member is not None  # or it had not been counted
    done = {"amount": undone.earning_amount, "points": undone.points, "status": undone.status_points}
    done["visits"] = int(undone.whole)
    count(move, program, member, earning.earned_on, {basis: -number for basis, number in done.items()})
    if program.earning_cap is not None:
        period = period_of(program.earning_cap, earning.earned_on)
        move.change_use(earned_scope(asset), earning.account, period, -returned)
    if undone.whole:
        move.put("memberships", replace(member, purchases=member.purchases - 1))
    renew_tier(move, asset, earning.account, earning.earned_on)


def _take_back(move: Movement, gain: Gain, policy: RefundPolicy) -> int:
    """Take points that were given out of the world again; how many of those due that could be done for.

    They are taken from the lot they came in first, though its day may be past. What the account does not have becomes
    a debt where the program says so. A debt is not done for: else a partner that gives points to a member who passes
    them on would have them to give again, or owe nothing for them.
    """
    account, asset, due = gain.account, gain.asset, gain.points
    if due == 0:
        return 0
    returned = _take(move, account, asset, [(gain.last_day, due)], due)
    debt = due - returned if policy == "negative" else 0
    if policy == "cap":
        debt = min(due - returned, _uncommitted(move, account, asset))
    move.leg(account, asset, -debt)
    move.leg(SYS_ISSUED, asset, returned + debt)
    return returned


def _forgive(move: Movement, account: str, asset: str, due: int) -> None:
    """Take status points out of the world again, as far as the account has them."""
    if due:
        move.leg(SYS_ISSUED, asset, _take(move, account, asset, [], due))


def _uncommitted(move: Movement, account: str, asset: str) -> int:
    """Points that an account has on hold, less its debt: not spent yet, so that holding them forgives nothing."""
    holds = (move.get("holds", hold.hold) for hold in move.state.holds.group(account, asset))
    debt = -min(move.lots(account, asset).get(NO_LAST_DAY, 0), 0)
    held: int = sum(hold.remaining for hold in holds)
    return max(held - debt, 0)


def _earning_agreement(ask: Request[Refund], earning: Earning) -> Agreement | None:
    """The version by which a partner gave the points of a purchase; ``None`` for their issuer."""
    if earning.agreement_version is None:
        return None
    agreement = ask.state.agreements.get(earning_name(ask.op.asset, earning.merchant), earning.agreement_version)
    assert agreement is not None
    return agreement


def _restore_allotment(move: Movement, agreement: Agreement | None, points: int) -> None:
    """Let a prepaid partner give points again that came back."""
    if agreement is None or points == 0:
        return
    assert isinstance(agreement.terms, EarningTerms)
    if agreement.terms.billing == "prepaid":
        allotment: Allotment | None = move.get("allotments", agreement.agreement)
        assert allotment is not None  # or there had been nothing to give
        move.put("allotments", replace(allotment, remaining=allotment.remaining + points))


def _owe_for_points(
    move: Movement, earning: Earning, value: Value | None, before: PurchaseRefund, after: PurchaseRefund
) -> Rejection | None:
    """Let the member owe what the points are worth that did not come back, if they are to be worth anything."""
    if value is None:
        return None

    def worth(refund: PurchaseRefund) -> int:
        return round_ratio((refund.points - refund.returned) * value.amount, value.points, "half_up")

    return move.claim(earning.account, earning.merchant, value.currency, worth(after) - worth(before))


def _reverse_billing(
    move: Movement, agreement: Agreement | None, earning: Earning, before: PurchaseRefund, after: PurchaseRefund
) -> Rejection | None:
    """Let a partner owe no more for points that came back."""
    if agreement is None or earning.claim_amount == 0:
        return None
    given = earning.points
    owed = _share(earning.claim_amount, given, given - before.returned, given - after.returned)
    return _reverse_claim(move, agreement, owed)


def _reverse_claim(move: Movement, agreement: Agreement, amount: int) -> Rejection | None:
    """Let the creditor of an agreement's claim owe its debtor an amount."""
    if agreement.terms.claim is None:
        return None
    debtor, creditor = parties_of_claim(agreement)
    return move.claim(creditor, debtor, agreement.terms.claim.currency, amount, agreement.agreement)


# What was spent


def _refund_redemption(ask: Request[Refund], of: RefundedRedemption) -> Decision:
    spending = _original_spending(ask, of)
    if isinstance(spending, Rejection):
        return spending
    agreement = _agreement_of(ask, spending)
    move = _begin(ask, spending.account)
    if refusal := take_vouchers_back(move, spending, of.amount):
        return refusal
    return _return_points(move, spending, agreement, of.amount) or move.admission(ask.op.actor)


def _refund_exchange(ask: Request[Refund], of: RefundedExchange) -> Decision:
    spending = _original_spending(ask, of)
    if isinstance(spending, Rejection):
        return spending
    agreement = _agreement_of(ask, spending)
    assert agreement is not None
    assert isinstance(agreement.terms, ExchangeTerms)
    left = spending.amount - spending.refunded
    move = _begin(ask, spending.account)
    back = outcome(agreement.terms, left) - outcome(agreement.terms, left - of.amount)
    if refusal := _take_outcome(move, spending, agreement.terms.into, back):
        return refusal
    if refusal := _return_points(move, spending, agreement, of.amount):
        return refusal
    return _reverse_fee(move, spending, agreement, of.amount) or move.admission(ask.op.actor)


def _original_spending(ask: Request[Refund], of: RefundedRedemption | RefundedExchange) -> Spending | Rejection:
    """What is to be undone: an operation by which the actor received these points, not yet refunded whole."""
    op = ask.op
    spending = ask.state.spendings.get(of.operation)
    kinds = _RETURNABLE[type(of)]
    if spending is None or spending.kind not in kinds or (spending.merchant, spending.asset) != (op.actor, op.asset):
        message = f"{op.actor} has received no points of {op.asset} by the operation {of.operation}"
        return Rejection(Code.UNKNOWN_ORIGINAL, message, ("of", "operation"))
    if refusal := check_reference(ask, REFUND_SCOPE, op.reference, ("reference",)):
        return refusal
    left = spending.amount - spending.refunded
    if of.amount > left:
        return _too_large(left, "refundable_points", f"{left} points of {spending.asset}")
    return spending


def _agreement_of(ask: Request[Refund], spending: Spending) -> Agreement | None:
    """The version by which points were spent; ``None`` at their issuer."""
    if spending.agreement is None:
        return None
    agreement = ask.state.agreements.get(spending.agreement, spending.version)
    assert agreement is not None
    return agreement


def _take_outcome(move: Movement, spending: Spending, into: str, back: int) -> Rejection | None:
    """Take what came of an exchange out of the world again, first from the lot it came in."""
    if back == 0:
        return None
    move.return_lapsed(spending.account, into)
    today = move.today(into)
    available = spendable(move.lots(spending.account, into), today)
    if available < back:
        return insufficient_points(into, back, available, _AMOUNT)
    own = move.lot_for(spending.account, into, spending.time)
    _take(move, spending.account, into, [(own, back)] if own >= today else [], back)
    move.leg(SYS_ISSUED, into, back)
    return None


def _return_points(move: Movement, spending: Spending, agreement: Agreement | None, amount: int) -> Rejection | None:
    """Give whose they were spent points back in their own lots, and let what was owed for them be owed back."""
    returned = _last_spent(spending, amount)
    if refusal := _recover(move, spending, agreement, [part for _, part in returned], amount):
        return refusal
    today, version = move.today(spending.asset), move.state.program_at(spending.asset, spending.time)
    for holder, (day, points) in returned:
        move.leg(holder, spending.asset, points, _returned_day(day, today, version))
    move.put("spendings", replace(spending, refunded=spending.refunded + amount))
    if agreement is None:
        return None
    return _reverse_claim(move, agreement, _share_of(spending, spending.claim_amount, amount))


def _last_spent(spending: Spending, amount: int) -> list[HeldPart]:
    """The last so many points of a spending that have not returned yet, and whose they were, the last spent first."""
    holders = spending.holders or (spending.account,) * len(spending.parts)
    gone, wanted = spending.refunded, amount
    found: list[HeldPart] = []
    for holder, (day, points) in reversed(list(zip(holders, spending.parts, strict=True))):
        before = min(points, gone)
        now = min(points - before, wanted)
        gone, wanted = gone - before, wanted - now
        if now:
            found.append((holder, (day, now)))
    return found


def _share_of(spending: Spending, whole: int, amount: int) -> int:
    left = spending.amount - spending.refunded
    return _share(whole, spending.amount, left, left - amount)


def _recover(
    move: Movement, spending: Spending, agreement: Agreement | None, parts: Sequence[Part], amount: int
) -> Rejection | None:
    """Take spent points from where they are: out of circulation, or at the merchant that kept them."""
    asset = spending.asset
    if received_by(agreement) == "retired":
        refusal = move.check_cap(asset, amount, _AMOUNT)
        move.leg(SYS_SPENT, asset, -amount)
        return refusal
    taken = _take_kept(move, spending, parts)
    return None if taken == amount else insufficient_points(asset, amount, taken, _AMOUNT)


def _take_kept(move: Movement, spending: Spending, parts: Sequence[Part]) -> int:
    """Take kept points out of the merchant's account, or what it has that is as good; how many.

    It gives the very lots that return while it has them, though their day may be past, and then others that can be used
    for as long as those given back: else a refund would make points of a late day of its points of an early one.
    """
    merchant, asset = spending.merchant, spending.asset
    move.return_lapsed(merchant, asset)
    lots, today = move.lots(merchant, asset), move.today(asset)
    version = move.state.program_at(asset, spending.time)
    taken, missing = 0, []
    for day, points in parts:
        own = min(lots.get(day, 0), points)
        move.leg(merchant, asset, -own, day)
        taken += own
        missing.append((max(_returned_day(day, today, version), today), points - own))
    for until, points in missing:  # by the earliest lots that will do, so that nothing late is used up for little
        usable = [(day, there) for day, there in sorted(lots.items()) if day >= until]
        others, _ = split(usable, points)
        move.take(merchant, asset, others)
        taken += sum(there for _, there in others)
    return taken


def _returned_day(day: str, today: str, version: ProgramVersion | None) -> str:
    """The last day of points that return: their own, or some days from now where that is past and the program says."""
    days = 0 if version is None else version.program.returned_lot_days
    if day >= today or days == 0:
        return day
    return (date.fromisoformat(today) + timedelta(days=days)).isoformat()


def _reverse_fee(move: Movement, spending: Spending, agreement: Agreement, amount: int) -> Rejection | None:
    assert isinstance(agreement.terms, ExchangeTerms)
    fee = agreement.terms.fee
    if fee is None:
        return None
    owed = _share_of(spending, spending.fee_amount, amount)
    return move.claim(fee.kept_by, spending.account, fee.currency, owed, agreement.agreement)


def _take(move: Movement, account: str, asset: str, first: Sequence[Part], amount: int) -> int:
    """Take so many points out of an account, or what it has; how many.

    Of the lots in ``first`` up to the points said, though their day may be past; then of all that can be used,
    earliest last day first. A debt takes nothing from what lots have.
    """
    move.return_lapsed(account, asset)
    lots, today, wanted = move.lots(account, asset), move.today(asset), amount
    for day, points in first:
        part = max(min(lots.get(day, 0), points, wanted), 0)
        move.leg(account, asset, -part, day)
        wanted -= part
    parts, _ = split(usable_lots(lots, today), wanted)
    move.take(account, asset, parts)
    return amount - wanted + sum(points for _, points in parts)


# Corrections


def admit_correct(ask: Request[Correct]) -> Decision:
    """Decide ``correct``: points given by hand have the lot of a grant of now, and repay a debt first."""
    state, op, time = ask.state, ask.op, ask.time
    if refusal := check_issuer(state, op.asset, ask.actor):
        return refusal
    if refusal := check_member_account(state, op.member, ("member",)):
        return refusal
    if refusal := check_reference(ask, CORRECTION_SCOPE, op.reference, ("reference",)):
        return refusal
    version = state.program_at(op.asset, time)
    if op.amount > 0 and version is None:
        return no_program_then(op.asset, None, time, ("asset",))
    if not ask.approved and needs_approval(state, op.asset, abs(op.amount), time):
        return approval_missing(ask.actor)
    move = Movement(state, time)
    move.refer(op.actor, CORRECTION_SCOPE, op.reference)
    refusal = _add(move, op) if op.amount > 0 else _take_away(move, op)
    return refusal or move.admission(op.actor)


def _add(move: Movement, op: Correct) -> Rejection | None:
    if refusal := move.check_issue(op.asset, op.amount, ("amount",)):
        return refusal
    move.leg(SYS_ISSUED, op.asset, -op.amount)
    move.earn(op.member, op.asset, op.amount, move.lot_for(op.member, op.asset))
    return None


def _take_away(move: Movement, op: Correct) -> Rejection | None:
    parts = move.spend(op.member, op.asset, -op.amount, ("amount",))
    if isinstance(parts, Rejection):
        return parts
    move.leg(SYS_ISSUED, op.asset, -op.amount)
    return None
