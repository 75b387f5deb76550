"""Earning: purchases and grants, and the points that a program gives for them.

The asset's issuer records them, or a partner by an earning agreement: out of the points allotted to it, or for a claim.
"""

from msgspec.structs import replace

from ledger.agreements import claim_by, earning_name, in_force
from ledger.encoding import format_time, parse_time
from ledger.entries import NO_LAST_DAY, Posting, lot_posting
from ledger.movements import ALL_HOLDERS, Movement, claim_for
from ledger.operations import Grant, RecordPurchases
from ledger.programs import last_day, local_date, points_for, version_at
from ledger.refusals import approval_missing, check_issuer, no_program_then, unknown_member
from ledger.state import (
    ORDER_SCOPE,
    SYS_ISSUED,
    Admission,
    Agreement,
    Allotment,
    AllotmentAlert,
    Code,
    Decision,
    Earning,
    Rejection,
    Request,
    State,
    grant_scope,
)
from ledger.terms import EarningTerms


def admit_record_purchases(ask: Request[RecordPurchases]) -> Decision:
    """Decide ``record_purchases``: one refusal refuses all purchases."""
    state, op, time = ask.state, ask.op, ask.time
    assert state.parameters is not None
    partner = _partnership(ask)
    if isinstance(partner, Rejection):
        return partner
    versions = state.programs.get(op.asset)
    if not versions:
        return Rejection(Code.PROGRAM_MISSING, f"{op.asset} has no program: publish one first", ("asset",))
    if op.currency != versions[0].program.currency:
        message = f"{op.asset} is earned in {versions[0].program.currency}"
        return Rejection(Code.CURRENCY_MISMATCH, message, ("currency",))
    unit = state.parameters.units[op.currency]
    latest = format_time(parse_time(time) + state.parameters.clock_tolerance_ms)
    accounts, references, actor = state.accounts, state.references, op.actor
    gains: list[tuple[str, str, int]] = []
    earnings: list[Earning] = []
    for i, purchase in enumerate(op.purchases):
        member = accounts.get(purchase.member)
        if member is None or member.role != "member":
            return unknown_member(purchase.member, (f"purchases[{i}]", "member"))
        if purchase.at > latest:
            return Rejection(Code.AT_IN_FUTURE, f"at lies after {time}: check the clock", (f"purchases[{i}]", "at"))
        used = references.get((actor, ORDER_SCOPE, purchase.order))
        if used is not None:
            message = f"order {purchase.order} is recorded already, in entry {used}"
            return Rejection(Code.ORDER_EXISTS, message, (f"purchases[{i}]", "order"), {"seq": used})
        version = version_at(versions, purchase.at)
        if version is None or (version.ends is not None and purchase.at >= version.ends):
            return no_program_then(op.asset, version, purchase.at, (f"purchases[{i}]", "at"))
        program = version.program
        points = points_for(program, purchase.amount, unit)
        earned_on = local_date(purchase.at, program.time_zone)
        earnings.append(
            Earning(
                actor,
                ORDER_SCOPE,
                purchase.order,
                purchase.member,
                earned_on,
                purchase.amount,
                points,
                version.version,
            )
        )
        if points:
            gains.append((purchase.member, last_day(program.expiry, earned_on), points))
    return _issue(ask, gains, earnings, partner, ("purchases",))


def admit_grant(ask: Request[Grant]) -> Decision:
    """Decide ``grant``."""
    state, op = ask.state, ask.op
    partner = _partnership(ask)
    if isinstance(partner, Rejection):
        return partner
    member = state.accounts.get(op.member)
    if member is None or member.role != "member":
        return unknown_member(op.member, ("member",))
    version = state.program_at(op.asset, op.at)
    if version is None or (version.ends is not None and op.at >= version.ends):
        return no_program_then(op.asset, version, op.at, ("at",))
    rule = next((rule for rule in version.program.grants if rule.activity == op.activity), None)
    if rule is None:
        known = ", ".join(rule.activity for rule in version.program.grants) or "none"
        message = f"the program grants nothing for {op.activity} (it has: {known})"
        return Rejection(Code.ACTIVITY_UNKNOWN, message, ("activity",))
    used = state.references.get((op.actor, grant_scope(op.activity), op.reference))
    if used is not None:
        message = f"{op.reference} was granted already, in entry {used}"
        return Rejection(Code.REFERENCE_EXISTS, message, ("reference",), {"seq": used})
    if op.amount > rule.max_points:
        message = f"{op.activity} gives at most {rule.max_points} points at a time"
        return Rejection(Code.GRANT_TOO_LARGE, message, ("amount",), {"max_points": rule.max_points})
    if not ask.approved and needs_approval(state, op.asset, op.amount, ask.time):
        return approval_missing(ask.actor)
    earned_on = local_date(op.at, version.program.time_zone)
    day = last_day(version.program.expiry, earned_on)
    scope = grant_scope(op.activity)
    earning = Earning(op.actor, scope, op.reference, op.member, earned_on, None, op.amount, version.version)
    return _issue(ask, [(op.member, day, op.amount)], [earning], partner, ("amount",))


def needs_approval(state: State, asset: str, points: int, time: str) -> bool:
    """Whether so many points need approval by the program in force now, whatever it was when something happened."""
    version = state.program_at(asset, time)
    bound = None if version is None else version.program.approval_above
    return bound is not None and points > bound


def _partnership(ask: Request[RecordPurchases] | Request[Grant]) -> Agreement | Rejection | None:
    """The agreement by which the actor gives points it does not issue; ``None`` for the issuer."""
    refusal = check_issuer(ask.state, ask.op.asset, ask.actor)
    if refusal is None or refusal.code is not Code.NOT_PERMITTED:
        return refusal
    return in_force(ask.state, earning_name(ask.op.asset, ask.op.actor), ask.time) or refusal


def _issue(
    ask: Request[RecordPurchases] | Request[Grant],
    gains: list[tuple[str, str, int]],
    earnings: list[Earning],
    partner: Agreement | None,
    path: tuple[str, ...],
) -> Decision:
    """Give points, as (account, last day, points), out of the issue account, and count them against a partner."""
    total = sum(points for _, _, points in gains)
    if partner is not None:
        earnings = _billed(earnings, partner)
    if total == 0:
        return Admission((), tuple(earnings))
    state, asset = ask.state, ask.op.asset
    move = Movement(state, ask.time)
    if refusal := move.check_issue(asset, total, path):
        return refusal
    indebted = any(state.lots_of(account, asset).get(NO_LAST_DAY, 0) < 0 for account, _, _ in gains)
    if partner is None and not indebted:  # as nearly always: no leg depends on another
        legs = [lot_posting(account, asset, points, day) for account, day, points in gains]
        return Admission((Posting(account=SYS_ISSUED, amount=-total, asset=asset), *legs), tuple(earnings))
    move.leg(SYS_ISSUED, asset, -total)
    for account, day, points in gains:
        move.earn(account, asset, points, day)
    move.earnings = earnings
    if partner is not None and (refusal := count_earned(move, partner, total, path)):
        return refusal
    return move.admission(ask.op.actor)


def _billed(earnings: list[Earning], partner: Agreement) -> list[Earning]:
    """Events as a partner gave them, each with its share of the claim, by which a refund undoes it.

    The claim for all is rounded once. What it grows by with each event is that event's share, so that the shares add
    up to it.
    """
    assert isinstance(partner.terms, EarningTerms)
    claim = partner.terms.claim if partner.terms.billing == "postpaid" else None
    billed: list[Earning] = []
    points = owed = 0
    for earning in earnings:
        points += earning.points
        share, owed = claim_for(claim, points) - owed, claim_for(claim, points)
        billed.append(replace(earning, agreement_version=partner.version, claim_amount=share))
    return billed


def count_earned(move: Movement, agreement: Agreement, points: int, path: tuple[str, ...]) -> Rejection | None:
    """Count points that a partner gave: under the cap, and out of its allotment or for a claim."""
    terms = agreement.terms
    assert isinstance(terms, EarningTerms)
    if refusal := move.use(terms.total_cap, agreement.agreement, ALL_HOLDERS, points, asset=terms.asset, path=path):
        return refusal
    if terms.billing == "prepaid":
        return _use_allotment(move, agreement, terms, points, path)
    return claim_by(move, agreement, claim_for(terms.claim, points))


def _use_allotment(
    move: Movement, agreement: Agreement, terms: EarningTerms, points: int, path: tuple[str, ...]
) -> Rejection | None:
    name = agreement.agreement
    allotment: Allotment | None = move.get("allotments", name)
    remaining = 0 if allotment is None else allotment.remaining
    if allotment is None or remaining < points:
        message = f"{remaining} of the points allotted by {name} are left, {points} needed: buy more"
        details: dict[str, int | str] = {"required_points": points, "remaining_points": remaining}
        return Rejection(Code.ALLOTMENT_USED_UP, message, path, details)
    left = remaining - points
    move.put("allotments", replace(allotment, remaining=left))
    if terms.alert_below is not None and left < terms.alert_below <= remaining:
        move.put("allotment_alerts", AllotmentAlert(agreement=name, seq=move.state.size, remaining=left))
    return None
