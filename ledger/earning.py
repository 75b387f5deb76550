"""Earning: purchases and grants, and the points that a program gives for them.

The asset's issuer records them, or a partner by an earning agreement: out of the points allotted to it, or for a claim.
What most programs give depends on nothing but an amount; for a program that asks for more (see
:func:`ledger.calculation.is_special`) each event of an entry sees what those before it did to its member.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from msgspec import Struct
from msgspec.structs import replace

from ledger.agreements import claim_by, earning_name, in_force
from ledger.calculation import Bought, calculate, circumstances_of, is_special, said_by
from ledger.encoding import MAX_INTEGER, format_time, parse_time
from ledger.entries import NO_LAST_DAY, Posting, lot_posting
from ledger.movements import ALL_HOLDERS, Movement, claim_for, period_of
from ledger.operations import Grant, RecordPurchases
from ledger.participation import count, get_or_join, lot_of, renew_tier, tier_in
from ledger.program_terms import GrantRule, Program
from ledger.programs import ProgramVersion, last_day, local_date, points_for, version_at
from ledger.refusals import approval_missing, check_issuer, check_member_account, no_program_then, unknown_member
from ledger.state import (
    INVITATION_SCOPE,
    ORDER_SCOPE,
    SYS_ISSUED,
    Admission,
    Agreement,
    Allotment,
    AllotmentAlert,
    Circumstances,
    Code,
    Decision,
    Earning,
    Membership,
    Pending,
    Rejection,
    Request,
    State,
    activity_scope,
    earned_scope,
    evidence_scope,
    grant_scope,
    invited_scope,
)
from ledger.terms import EarningTerms, Purchase
from ledger.vouchers import have_automatic


class Gain(Struct, frozen=True, gc=False):
    """Points of an asset for an account, in the lot of a last day.

    ``active_on`` is the local date of what the account did for them, if it did anything now. Points of 0 are issued
    later, and only show that it did.
    """

    account: str
    asset: str
    last_day: str
    points: int
    active_on: str | None = None


def issue(move: Movement, asset: str, gains: Sequence[Gain], path: tuple[str, ...]) -> Rejection | None:
    """Give points out of the issue accounts, those of the asset first; then what is had for them by itself."""
    totals = {asset: 0}
    for gain in gains:
        totals[gain.asset] = totals.get(gain.asset, 0) + gain.points
    for code, total in totals.items():
        if total and (refusal := move.check_issue(code, total, path)):
            return refusal
    for code, total in totals.items():
        move.leg(SYS_ISSUED, code, -total)
        for gain in gains:
            if gain.asset != code:
                continue
            if gain.active_on is not None:
                move.refresh(gain.account, code, gain.active_on)
            move.earn(gain.account, code, gain.points, gain.last_day)
    have_automatic(move, asset, dict.fromkeys(gain.account for gain in gains if gain.asset == asset and gain.points))
    return None


def vests_on(program: Program, earned_on: str) -> str:
    """The local date from which points of a purchase can be used."""
    if program.vesting_days is None:
        return earned_on
    return (date.fromisoformat(earned_on) + timedelta(days=program.vesting_days)).isoformat()


def lot_of_purchase(program: Program, earning: Earning) -> str:
    """The last day of the points that a purchase gave by its program, also to who invited its member."""
    circumstances = earning.circumstances or Circumstances()
    day = vests_on(program, earning.earned_on)
    return lot_of(program, day, tier=circumstances.tier, joined_on=circumstances.joined_on)


def gains_of(move: Movement, promised: Pending, program: Program, at: str, active_on: str | None = None) -> list[Gain]:
    """What a purchase promised, as points to issue: to its member, to who invited it, and status points.

    Status points have a lot by the rules of their own asset, of the time ``at``.
    """
    gains = [Gain(promised.account, promised.asset, promised.last_day, promised.points, active_on)]
    if promised.inviter is not None:
        gains.append(Gain(promised.inviter, promised.asset, promised.last_day, promised.inviter_points, active_on))
    if program.status_asset is not None and promised.status_points:
        lot = move.lot_for(promised.account, program.status_asset, at)
        gains.append(Gain(promised.account, program.status_asset, lot, promised.status_points, active_on))
    return gains if promised.points else gains[1:]


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
    giving = _Giving(ask)
    gains, earnings = giving.gains, giving.earnings
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
        earned_on = local_date(purchase.at, program.time_zone)
        if program.purchase_within_days is not None and (refusal := _check_age(ask, program, earned_on)):
            return replace(refusal, path=(f"purchases[{i}]", "at"))
        if is_special(program):
            if refusal := giving.add_purchase(purchase, version, earned_on, unit):
                return replace(refusal, path=(f"purchases[{i}]",))
            continue
        points = points_for(program, purchase.amount, unit)
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
                None,
                0,
                said_by(purchase),
            )
        )
        if points:
            gains.append(Gain(purchase.member, op.asset, last_day(program.expiry, earned_on), points, earned_on))
    return giving.decide(partner, ("purchases",))


def _check_age(ask: Request[RecordPurchases], program: Program, earned_on: str) -> Rejection | None:
    """Why a purchase of a local date can no longer be recorded."""
    days = (date.fromisoformat(ask.state.today(ask.op.asset, ask.time)) - date.fromisoformat(earned_on)).days
    if program.purchase_within_days is None or days <= program.purchase_within_days:
        return None
    message = f"it was made {days} days ago, and can be recorded up to {program.purchase_within_days} days later"
    details: dict[str, int | str] = {"days": days, "purchase_within_days": program.purchase_within_days}
    return Rejection(Code.PURCHASE_TOO_OLD, message, ("at",), details)


def admit_grant(ask: Request[Grant]) -> Decision:
    """Decide ``grant``: of 0 points it is an achievement, or the answer of a survey, and no more."""
    state, op = ask.state, ask.op
    partner = _partnership(ask)
    if isinstance(partner, Rejection):
        return partner
    if refusal := check_member_account(state, op.member, ("member",)):
        return refusal
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
    if refusal := _check_evidence(ask, rule) or _check_score(op, rule):
        return refusal
    if op.amount > rule.max_points:
        message = f"{op.activity} gives at most {rule.max_points} points at a time"
        return Rejection(Code.GRANT_TOO_LARGE, message, ("amount",), {"max_points": rule.max_points})
    earned_on = local_date(op.at, version.program.time_zone)
    giving = _Giving(ask)
    giving.is_plain &= rule.limit is None and not rule.evidence
    if refusal := _count_activity(giving.move, op, rule, earned_on):
        return refusal
    if not ask.approved and needs_approval(state, op.asset, op.amount, ask.time):
        return approval_missing(ask.actor)
    return giving.add_grant(op, version, earned_on) or giving.decide(partner, ("amount",))


def _check_evidence(ask: Request[Grant], rule: GrantRule) -> Rejection | None:
    """Why a grant lacks the evidence that its activity asks for, or has one that is of no use."""
    op, path = ask.op, ("evidence",)
    if op.evidence is None:
        if not rule.evidence:
            return None
        return Rejection(Code.EVIDENCE_MISSING, f"{op.activity} needs evidence: give the hash of what proves it", path)
    if not rule.evidence:
        return Rejection(Code.EVIDENCE_UNEXPECTED, f"{op.activity} asks for no evidence: leave it out", path)
    issuer = ask.state.assets[op.asset].issuer
    used = ask.state.references.get((issuer, evidence_scope(op.asset), op.evidence))
    if used is None:
        return None
    message = f"this evidence was used already, in entry {used}"
    return Rejection(Code.EVIDENCE_USED, message, path, {"seq": used})


def _check_score(op: Grant, rule: GrantRule) -> Rejection | None:
    """Why a grant lacks the answer that its activity asks for, or has one where nothing was asked."""
    if rule.scored and op.score is None:
        return Rejection(Code.SCORE_MISSING, f"{op.activity} is a survey: give the answer as score", ("score",))
    if op.score is not None and not rule.scored:
        return Rejection(Code.SCORE_UNEXPECTED, f"{op.activity} is no survey: leave the score out", ("score",))
    return None


def _count_activity(move: Movement, op: Grant, rule: GrantRule, earned_on: str) -> Rejection | None:
    """Count that a member did an activity, where that is bounded; why it cannot any more."""
    if rule.limit is None:
        return None
    scope, period = activity_scope(op.asset, op.activity), period_of(rule.limit, earned_on)
    if move.used(scope, op.member, period) >= rule.limit.count:
        often = "in all" if rule.limit.period == "ever" else f"a {rule.limit.period}"
        message = f"{op.activity} can be had {rule.limit.count} times {often}, and has been"
        details: dict[str, int | str] = {"count": rule.limit.count, "period": rule.limit.period}
        return Rejection(Code.LIMIT_REACHED, message, ("activity",), details)
    move.change_use(scope, op.member, period, 1)
    return None


class _Giving:
    """What an operation gives for purchases or an activity, in the making.

    ``gains`` are the points it issues, of the events in ``earnings``, in their order. As long as it ``is_plain``, they
    are all it does.
    """

    def __init__(self, ask: Request[RecordPurchases] | Request[Grant]) -> None:
        state, self.actor, self.asset = ask.state, ask.op.actor, ask.op.asset
        self.earnings: list[Earning] = []
        self.gains: list[Gain] = []
        self.move = Movement(state, ask.time)
        version = state.program_at(self.asset, ask.time)
        self.is_plain = version is None or not is_special(version.program)
        self._is_issuer = state.assets[self.asset].issuer == self.actor

    # A purchase of a program in which points depend on more than its amount

    def add_purchase(self, purchase: Purchase, version: ProgramVersion, earned_on: str, unit: int) -> Rejection | None:
        """Count a purchase for its member, and add what it gives."""
        self.is_plain = False
        move, program, account = self.move, version.program, purchase.member
        member = get_or_join(move, self.asset, account, earned_on)
        circumstances = self._circumstances(purchase, program, member, earned_on)
        bought = Bought(amount=purchase.amount, merchant=self.actor, earned_on=earned_on, circumstances=circumstances)
        given = calculate(program, bought, unit)
        if max(given.points, given.status_points) > MAX_INTEGER:
            return Rejection(Code.POINTS_OVERFLOW, "it would give more than 2^53-1 points")
        done = {"amount": given.earning_amount, "points": given.points, "status": given.status_points, "visits": 1}
        if refusal := count(move, program, member, earned_on, done):
            return refusal
        if program.earning_cap is not None:
            move.change_use(earned_scope(self.asset), account, period_of(program.earning_cap, earned_on), given.points)
        move.put("memberships", replace(member, purchases=member.purchases + 1))
        event = (self.actor, ORDER_SCOPE, purchase.order, account, earned_on, purchase.amount, given.points)
        earning = Earning(*event, version.version, circumstances=circumstances)
        self.earnings.append(earning)
        self._promise(program, earning, given.status_points, self._inviter(program, member, earning), purchase.at)
        renew_tier(move, self.asset, account, earned_on)
        move.concern((account,))
        return None

    def _circumstances(self, purchase: Purchase, program: Program, member: Membership, earned_on: str) -> Circumstances:
        tier = tier_in(self.move, program.tiers, self.asset, member.account, earned_on)
        room = None
        if program.earning_cap is not None:
            period = period_of(program.earning_cap, earned_on)
            room = max(0, program.earning_cap.points - self.move.used(earned_scope(self.asset), member.account, period))
        return circumstances_of(purchase, member, tier, room, earned_on)

    def _inviter(self, program: Program, member: Membership, earning: Earning) -> str | None:
        """Who is rewarded for having invited a member, by its first purchase: an event of its own, which is counted."""
        referral, inviter = program.referral, member.invited_by
        if referral is None or inviter is None or member.purchases or not self._is_issuer:
            return None
        if referral.limit is not None:
            scope, period = invited_scope(self.asset), period_of(referral.limit, earning.earned_on)
            if self.move.used(scope, inviter, period) >= referral.limit.count:
                return None
            self.move.change_use(scope, inviter, period, 1)
        event = (self.actor, INVITATION_SCOPE, earning.reference, inviter, earning.earned_on, None, referral.points)
        self.earnings.append(Earning(*event, earning.version))
        return inviter

    def _promise(self, program: Program, earning: Earning, status_points: int, inviter: str | None, at: str) -> None:
        """Add the points of a purchase, those of its inviter and status points: issued now, or once they vest."""
        promised = Pending(
            merchant=earning.merchant,
            order=earning.reference,
            asset=self.asset,
            account=earning.account,
            points=earning.points,
            vests_on=vests_on(program, earning.earned_on),
            last_day=lot_of_purchase(program, earning),
            version=earning.version,
            status_points=0 if program.status_asset is None else status_points,
            inviter=inviter,
            inviter_points=0 if inviter is None or program.referral is None else program.referral.points,
        )
        gains = gains_of(self.move, promised, program, at, earning.earned_on)
        if program.vesting_days is not None:
            if gains:
                self.move.put("pending", promised)
            gains = [replace(gain, points=0) for gain in gains]
        self.gains += gains

    # An activity

    def add_grant(self, op: Grant, version: ProgramVersion, earned_on: str) -> Rejection | None:
        """Add what a grant gives, and count it for its member if the program counts anything."""
        move, program = self.move, version.program
        tier = joined_on = None
        if is_special(program):
            self.is_plain = False
            member = get_or_join(move, op.asset, op.member, earned_on)
            tier, joined_on = tier_in(move, program.tiers, op.asset, op.member, earned_on), member.joined_on
            if refusal := count(move, program, member, earned_on, {"points": op.amount}):
                return replace(refusal, path=("amount",))
            renew_tier(move, op.asset, op.member, earned_on)
            move.concern((op.member,))
        if op.evidence is not None:
            move.refer(move.state.assets[op.asset].issuer, evidence_scope(op.asset), op.evidence)
        event = (op.actor, grant_scope(op.activity), op.reference, op.member, earned_on, None, op.amount)
        self.earnings.append(Earning(*event, version.version, score=op.score))
        if op.amount:
            lot = lot_of(program, earned_on, tier=tier, joined_on=joined_on)
            self.gains.append(Gain(op.member, op.asset, lot, op.amount, earned_on))
        return None

    # All of it

    def decide(self, partner: Agreement | None, path: tuple[str, ...]) -> Decision:
        """Issue all points, and count them against a partner."""
        move, gains = self.move, self.gains
        if self.is_plain and partner is None and not self._has_debts():  # as nearly always: no leg depends on another
            return self._issue_plain(path)
        if refusal := issue(move, self.asset, gains, path):
            return refusal
        move.earnings = self.earnings if partner is None else _billed(self.earnings, partner)
        points = sum(earning.points for earning in move.earnings)
        if partner is not None and points and (refusal := count_earned(move, partner, points, path)):
            return refusal
        return move.admission(self.actor)

    def _has_debts(self) -> bool:
        state = self.move.state
        return any(state.lots_of(gain.account, gain.asset).get(NO_LAST_DAY, 0) < 0 for gain in self.gains)

    def _issue_plain(self, path: tuple[str, ...]) -> Decision:
        asset, total = self.asset, sum(gain.points for gain in self.gains)
        if total == 0:
            return Admission((), tuple(self.earnings))
        if refusal := self.move.check_issue(asset, total, path):
            return refusal
        legs = [lot_posting(gain.account, asset, gain.points, gain.last_day) for gain in self.gains]
        return Admission((Posting(account=SYS_ISSUED, amount=-total, asset=asset), *legs), tuple(self.earnings))


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
