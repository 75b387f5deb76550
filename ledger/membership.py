"""Membership: taking part in a program, its paid plans, and the tiers that members are noted to be in."""

from datetime import date, timedelta

from msgspec.structs import replace

from ledger.movements import Movement
from ledger.operations import EndPlan, Enroll, ReviewTiers, StartPlan
from ledger.participation import get_or_join, membership_of, renew_tier
from ledger.program_terms import Plan
from ledger.refusals import (
    check_issuer,
    check_issuer_or_operator,
    check_member,
    check_member_account,
    check_reference,
    program_in_force,
    unknown_asset,
)
from ledger.state import PLAN_SCOPE, Code, Decision, Membership, Rejection, Request


def join(move: Movement, asset: str, account: str) -> Membership:
    """The membership of an account that becomes a member now."""
    get_or_join(move, asset, account, move.today(asset))
    renew_tier(move, asset, account)
    member = membership_of(move, asset, account)
    assert member is not None
    return member


def admit_enroll(ask: Request[Enroll]) -> Decision:
    """Decide ``enroll``: what is chosen holds for purchases recorded from now on."""
    state, op = ask.state, ask.op
    if refusal := check_member(ask.actor):
        return refusal
    if op.asset not in state.assets:
        return unknown_asset(op.asset)
    version = program_in_force(state, op.asset, ask.time)
    if isinstance(version, Rejection):
        return version
    formulas = [each.formula for each in version.program.formulas]
    if op.formula is not None and op.formula not in formulas:
        message = f"the program has no formula {op.formula} (it has: {', '.join(formulas) or 'none'})"
        return Rejection(Code.UNKNOWN_FORMULA, message, ("formula",))
    if op.invited_by is not None and (refusal := check_member_account(state, op.invited_by, ("invited_by",))):
        return refusal
    move = Movement(state, ask.time)
    before = membership_of(move, op.asset, op.actor)
    if before is not None and (refusal := _check_change(op, before)):
        return refusal
    member = before or join(move, op.asset, op.actor)
    move.put("memberships", replace(member, formula=op.formula, invited_by=op.invited_by or member.invited_by))
    move.concern((state.assets[op.asset].issuer,))
    if op.invited_by is not None:
        move.concern((op.invited_by,))
    return move.admission(op.actor)


def _check_change(op: Enroll, member: Membership) -> Rejection | None:
    """Why who is a member already cannot be one as an operation says."""
    if op.invited_by is not None:
        if member.invited_by is None and member.purchases == 0:
            return None
        message = "who invited a member is said once, before its first purchase: leave it out"
        return Rejection(Code.INVITED_TOO_LATE, message, ("invited_by",))
    if op.formula != member.formula:
        return None
    message = f"{op.actor} is a member since {member.joined_on} and earns by this formula: nothing would change"
    return Rejection(Code.ALREADY_ENROLLED, message, ("formula",))


def admit_review_tiers(ask: Request[ReviewTiers]) -> Decision:
    """Decide ``review_tiers``: it notes what is so by now, and whoever is named for nothing is passed over."""
    state, op = ask.state, ask.op
    if refusal := check_issuer_or_operator(state, op.asset, ask.actor, "reviews tiers of"):
        return refusal
    move = Movement(state, ask.time)
    changed = [member for member in op.members if renew_tier(move, op.asset, member)]
    if not changed:
        message = f"none of these members is in another tier of {op.asset} than was noted last"
        return Rejection(Code.NOTHING_DUE, message, ("members",))
    move.concern((*changed, state.assets[op.asset].issuer))
    return move.admission(op.actor)


def admit_start_plan(ask: Request[StartPlan]) -> Decision:
    """Decide ``start_plan``: what is paid of the plan that a member has prolongs it, another plan replaces it."""
    state, op = ask.state, ask.op
    if refusal := check_issuer(state, op.asset, ask.actor) or check_member_account(state, op.member, ("member",)):
        return refusal
    version = program_in_force(state, op.asset, ask.time)
    plans = () if isinstance(version, Rejection) else version.program.plans
    plan = next((plan for plan in plans if plan.plan == op.plan), None)
    if plan is None:
        known = ", ".join(plan.plan for plan in plans) or "none"
        return Rejection(Code.UNKNOWN_PLAN, f"the program has no plan {op.plan} now (it has: {known})", ("plan",))
    if refusal := check_reference(ask, PLAN_SCOPE, op.reference, ("reference",)):
        return refusal
    move = Movement(state, ask.time)
    member = membership_of(move, op.asset, op.member) or join(move, op.asset, op.member)
    move.put("memberships", _started(member, plan, move.today(op.asset)))
    move.refer(op.actor, PLAN_SCOPE, op.reference)
    move.concern((op.member,))
    return move.admission(op.actor)


def _started(member: Membership, plan: Plan, today: str) -> Membership:
    """A membership with a plan paid once more, at most until the calendar ends."""
    if member.plan == plan.plan and member.plan_until is not None and member.plan_until >= today:
        return replace(member, plan_until=_days_after(member.plan_until, plan.days))
    return replace(member, plan=plan.plan, plan_from=today, plan_until=_days_after(today, plan.days - 1))


def _days_after(day: str, days: int) -> str:
    first = date.fromisoformat(day)
    return (first + timedelta(days=min(days, (date.max - first).days))).isoformat()


def admit_end_plan(ask: Request[EndPlan]) -> Decision:
    """Decide ``end_plan``: the day on which it ends has none of it any more."""
    state, op = ask.state, ask.op
    if refusal := check_issuer(state, op.asset, ask.actor) or check_member_account(state, op.member, ("member",)):
        return refusal
    move = Movement(state, ask.time)
    member = membership_of(move, op.asset, op.member)
    if member is None or member.plan_until is None or member.plan_until < move.today(op.asset):
        return Rejection(Code.NO_PLAN, f"{op.member} has no plan of {op.asset} now", ("member",))
    move.put("memberships", replace(member, plan=None, plan_from=None, plan_until=None))
    move.concern((op.member,))
    return move.admission(op.actor)
