"""Participation: what a member's events leave in its membership of a program, and where it stands by them.

Steps on a :class:`~ledger.movements.Movement`, for whatever counts for tiers or asks for them. What tiers are follows
from counts alone, see :mod:`ledger.standing`; the tier in a membership is only the one noted last.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from ledger.entries import NO_LAST_DAY
from ledger.movements import Movement
from ledger.program_terms import Program, Tiers
from ledger.programs import last_day
from ledger.standing import NOWHERE, Standing, period_of_day, standing_at, tier_at
from ledger.state import Membership, Rejection


def membership_of(move: Movement, asset: str, account: str) -> Membership | None:
    """An account's membership of the program of an asset, as it is by now."""
    membership: Membership | None = move.get("memberships", asset, account)
    return membership


def get_or_join(move: Movement, asset: str, account: str, day: str) -> Membership:
    """An account's membership, which begins on a local date if there is none yet."""
    membership = membership_of(move, asset, account)
    if membership is None:
        membership = Membership(asset=asset, account=account, joined_on=day)
        move.put("memberships", membership)
    return membership


def tier_in(move: Movement, tiers: Tiers | None, asset: str, account: str, day: str) -> str | None:
    """The tier of an account on a local date by these tiers; none without any."""
    if tiers is None:
        return None
    return tier_at(tiers, move.counts(account, asset, tiers.basis), _joined_on(move, asset, account, day), day)


def tiers_now(move: Movement, asset: str) -> Tiers | None:
    """The tiers of the program of an asset at the recording time."""
    version = move.state.program_at(asset, move.time)
    return None if version is None else version.program.tiers


def _standing(move: Movement, asset: str, account: str, day: str) -> Standing:
    """Where an account stands on a local date by the tiers of the program at the recording time."""
    tiers = tiers_now(move, asset)
    if tiers is None:
        return NOWHERE
    return standing_at(tiers, move.counts(account, asset, tiers.basis), _joined_on(move, asset, account, day), day)


def _joined_on(move: Movement, asset: str, account: str, day: str) -> str:
    membership = membership_of(move, asset, account)
    return day if membership is None else membership.joined_on


def count(
    move: Movement, program: Program, membership: Membership, day: str, done: Mapping[str, int]
) -> Rejection | None:
    """Count what a member did on a local date, by basis, as far as the tiers of a program ask for it.

    What was undone is negative.
    """
    tiers = program.tiers
    if tiers is None:
        return None
    period = period_of_day(tiers, membership.joined_on, day)
    return move.count(membership.account, membership.asset, tiers.basis, period, done.get(tiers.basis, 0))


def renew_tier(move: Movement, asset: str, account: str, day: str | None = None) -> bool:
    """Note the tier in which a member is by now, or on a later local date; whether that is another one than before.

    Who has no membership has no tier.
    """
    membership = membership_of(move, asset, account)
    if membership is None:
        return False
    today = move.today(asset)
    stands = _standing(move, asset, account, today if day is None else max(day, today))
    if (membership.tier, membership.tier_until) == (stands.tier, stands.until):
        return False
    move.put("memberships", replace(membership, tier=stands.tier, tier_until=stands.until))
    return True


def lot_of(program: Program, day: str, *, tier: str | None, joined_on: str | None) -> str:
    """The last day of points that can be used from a local date on, by who was in a tier when they were earned."""
    levels = () if tier is None or program.tiers is None else program.tiers.levels
    if any(level.never_expires for level in levels if level.tier == tier):
        return NO_LAST_DAY
    return last_day(program.expiry, day, joined_on)
