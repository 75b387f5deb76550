"""Parts of a published program as clients see them; most are records of the core, which stand for themselves.

The whole of a version is :class:`api.types.Program`; its publication takes :mod:`api.program_inputs`.
"""

from enum import Enum

import strawberry

from api.fields import field
from api.input_parts import CapPeriod
from api.program_inputs import BalanceReminder, TierBasis, TierDrop, TierPeriod, Weekday
from api.scalars import Date, MinorUnits, Points, UInt53
from ledger.program_terms import (
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAfterMonths,
    ExpiresAtMembershipYearEnd,
    ExpiresAtMonthEnd,
    ExpiresAtYearEnd,
    Expiry,
)


@strawberry.type(description="A rate: from `from` minor units upwards, `points` points for every `per` minor units.")
class Band:
    """A band; the core's record stands for it."""

    from_amount: MinorUnits = strawberry.field(name="from", description="Where the band begins.")
    per: MinorUnits = field("Minor units that earn `points`.")
    points: Points = field("Points for every `per` minor units.")


@strawberry.enum(description="How the last day of points is reckoned from the day of earning.")
class ExpiryRule(Enum):
    """Rules of expiry, with the names they have in documents as values."""

    NEVER = strawberry.enum_value("never", description="They never expire.")
    DAYS = strawberry.enum_value("days", description="`count` days later.")
    MONTHS = strawberry.enum_value("months", description="The same day `count` months later, at most the month's last.")
    YEAR_END = strawberry.enum_value("year_end", description="31 December, `count` years later.")
    MONTHS_END = strawberry.enum_value("months_end", description="The last day of the month, `count` months later.")
    MEMBERSHIP_YEAR_END = strawberry.enum_value(
        "membership_year_end",
        description="The day before the next anniversary of joining, or of the one `count` years later.",
    )
    INACTIVITY = strawberry.enum_value(
        "inactivity", description="`count` months after the holder last earned or spent points of the asset."
    )


@strawberry.type(description="When points expire.")
class ExpiryTerms:
    """A rule of expiry."""

    after: ExpiryRule = field("The rule.")
    count: int | None = field("Its number of days, months or years; null for `NEVER`.")


_COUNTED: dict[type, ExpiryRule] = {
    ExpiresAfterDays: ExpiryRule.DAYS,
    ExpiresAfterMonths: ExpiryRule.MONTHS,
    ExpiresAtYearEnd: ExpiryRule.YEAR_END,
    ExpiresAtMonthEnd: ExpiryRule.MONTHS_END,
    ExpiresAtMembershipYearEnd: ExpiryRule.MEMBERSHIP_YEAR_END,
}


def expiry_terms(expiry: Expiry) -> ExpiryTerms:
    """A rule of expiry as clients see it."""
    if isinstance(expiry, ExpiresAfterInactivity):
        return ExpiryTerms(after=ExpiryRule.INACTIVITY, count=expiry.months)
    rule = _COUNTED.get(type(expiry))
    if rule is None:
        return ExpiryTerms(after=ExpiryRule.NEVER, count=None)
    return ExpiryTerms(after=rule, count=getattr(expiry, "count"))  # noqa: B009 - each of them has one


@strawberry.type(description="How many times a member may have something in a calendar period of local dates.")
class Limit:
    """A limit; the core's record stands for it."""

    count: UInt53 = field("How many times.")
    period: CapPeriod = field("In which period.")


@strawberry.type(description="A factor: 5/4 is a quarter more, 1/2 half as much.")
class Factor:
    """A factor; the core's record stands for it."""

    denominator: int = field("What is divided by.")
    numerator: int = field("What is multiplied by.")


@strawberry.type(
    description=(
        "When something holds: all that is said must be so; of a list, one is enough, and an empty one asks nothing. "
        "`categories` and `products` are asked of each line of a purchase, all else of the whole."
    )
)
class When:
    """A condition; the core's record stands for it."""

    categories: list[str] = field("The line is of one of these categories of goods.")
    channels: list[str] = field("The purchase was made in one of these channels.")
    first_purchase: bool = field("Whether it must be the member's first purchase.")
    from_amount: MinorUnits = field("The least amount that earns, in minor units.")
    from_day: Date | None = field("The first day; null for none.")
    invited: bool = field("Whether the member must have said who invited it.")
    merchants: list[strawberry.ID] = strawberry.field(
        name="merchantIds", description="One of these merchants recorded the purchase."
    )
    plans: list[str] = field("The member has one of these plans.")
    products: list[str] = field("The line is of one of these products.")
    tenders: list[str] = field("It was paid in one of these ways.")
    through_day: Date | None = field("The last day; null for none.")
    tiers: list[str] = field("The member is in one of these tiers.")
    weekdays: list[Weekday] = field("The day is one of these.")
    within_days: int | None = field(
        "It is one of the first so many days since the member joined, that included; null for any."
    )


@strawberry.type(
    description="A campaign, or what a tier or tender gives: the points of lines it holds for, multiplied."
)
class Multiplier:
    """A multiplier; the core's record stands for it."""

    multiplier: str = field("Its name.")
    times: Factor = field("The factor.")
    when: When | None = field("When it holds; null for always.")


@strawberry.type(description="Points more for a purchase, once, whatever its amount; nothing multiplies them.")
class PurchaseBonus:
    """A bonus of purchases; the core's record stands for it."""

    bonus: str = field("Its name.")
    points: Points = field("Points.")
    when: When | None = field("When it holds; null for always.")


@strawberry.type(description="Another way to earn that a member may choose.")
class Formula:
    """A formula; the core's record stands for it."""

    bands: list[Band] = field("Rates of the amount, or of the quantity.")
    formula: str = field("Its name.")
    quantity: str | None = field("The quantity of purchases that earns; null for the amount.")


@strawberry.type(description="A tier: reached from so much of what tiers count.")
class TierLevel:
    """A level; the core's record stands for it."""

    from_count: UInt53 = strawberry.field(name="from", description="From how much on a member is in it.")
    never_expires: bool = field("Whether points earned in it have no last day.")
    tier: str = field("Its name.")


@strawberry.type(description="Who stands where, by what each member did in each period.")
class Tiers:
    """The tiers of a program; the core's record stands for them."""

    basis: TierBasis = field("What counts.")
    drop: TierDrop = field("What becomes of a tier that is kept no longer.")
    grace_days: int = field("How many days later a member drops.")
    kept: int = field("Through how many more periods a tier lasts.")
    levels: list[TierLevel] = field("The tiers, the lowest first.")
    period: TierPeriod = field("The periods.")
    window: int = field("Over how many periods is summed, the current one last.")


@strawberry.type(description="An activity points are granted for.")
class GrantRule:
    """A rule for grants; the core's record stands for it."""

    activity: str = field("Name of the activity.")
    evidence: bool = field("Whether each grant names the hash of what proves it, which is good once.")
    limit: Limit | None = field("How often a member may have it; null for no limit.")
    max_points: Points = field("The most one grant may give; 0 for an achievement without points.")
    scored: bool = field("Whether each grant has an answer to a survey, 0 to 10.")


@strawberry.type(description="Points for whoever invited a member, on that member's first purchase.")
class Referral:
    """A referral; the core's record stands for it."""

    limit: Limit | None = field("How often a member may have them; null for no limit.")
    points: Points = field("Points.")


@strawberry.type(description="What a member can have for points: a voucher.")
class Reward:
    """A reward; the core's record stands for it."""

    automatic: bool = field("Whether it is had by itself whenever points earned or vested suffice.")
    limit: Limit | None = field("How often a member may have it; null for no limit.")
    price: Points = field("Points for one.")
    reward: str = field("Its name.")
    stock: UInt53 | None = field("How many there are in all, those that are gone included; null for no end.")
    valid_days: int | None = field("A voucher is good through so many days after the day it is had; null for ever.")
    when: When | None = field("For whom and when it can be had; null for all and always.")
    worth: MinorUnits | None = field("Minor units it stands for; null where it stands for no money.")


@strawberry.type(description="Something that is no points, such as free shipping.")
class Benefit:
    """A benefit; the core's record stands for it."""

    benefit: str = field("Its name; several with one name give it when any of them holds.")
    when: When | None = field("For whom and which purchase; null for all.")


@strawberry.type(description="A paid membership.")
class Plan:
    """A plan; the core's record stands for it."""

    days: int = field("How many days it lasts, the day it starts included.")
    plan: str = field("Its name.")
    price: MinorUnits = field("What it costs, in minor units.")


@strawberry.type(description="Points on each birthday of a member who told it, once a calendar year.")
class Birthday:
    """What is granted on birthdays; the core's record stands for it."""

    activity: str = field("The activity they are granted for.")
    points: Points = field("Points.")


@strawberry.type(description="What members are reminded of, each once.")
class Reminders:
    """The reminders of a program; the core's record stands for them."""

    balance: BalanceReminder | None = field("When of their balance; null for never.")
    expiring_days: list[int] = field("Of points whose last day is so many days ahead.")
    new_tier: bool = field("Whether of a new tier.")
