"""Parts of a program as its publication takes them: the language of :mod:`ledger.program_terms`, part by part.

The enumerations are those of programs that are read, too, which :mod:`api.program_rules` has.
"""

from enum import Enum

import strawberry

from api.input_parts import (
    AmountRounding,
    CapInput,
    CapPeriod,
    PointsRounding,
    RefundPolicy,
    optional,
    required,
)
from api.scalars import Date, MinorUnits, Points, UInt53


@strawberry.enum(description="How multipliers that hold together combine.")
class Stacking(Enum):
    """Ways of stacking."""

    BEST = strawberry.enum_value("best", description="The greatest of them counts alone.")
    PRODUCT = strawberry.enum_value("product", description="They are multiplied: 2 and 3 are 6.")
    SUM = strawberry.enum_value("sum", description="What each adds to 1 is added: 2 and 3 are 4.")


@strawberry.enum(description="A day of the week, by a program's local dates.")
class Weekday(Enum):
    """Weekdays."""

    MON = strawberry.enum_value("mon", description="Monday.")
    TUE = strawberry.enum_value("tue", description="Tuesday.")
    WED = strawberry.enum_value("wed", description="Wednesday.")
    THU = strawberry.enum_value("thu", description="Thursday.")
    FRI = strawberry.enum_value("fri", description="Friday.")
    SAT = strawberry.enum_value("sat", description="Saturday.")
    SUN = strawberry.enum_value("sun", description="Sunday.")


@strawberry.enum(description="What tiers count.")
class TierBasis(Enum):
    """Bases of tiers."""

    AMOUNT = strawberry.enum_value("amount", description="Minor units that earn.")
    POINTS = strawberry.enum_value("points", description="Points given by purchases and activities.")
    STATUS = strawberry.enum_value("status", description="Base points of purchases, before any multiplier.")
    VISITS = strawberry.enum_value("visits", description="Purchases.")


@strawberry.enum(description="What becomes of a tier that is kept no longer.")
class TierDrop(Enum):
    """Ways down."""

    ONE_LEVEL = strawberry.enum_value("one_level", description="It drops by one tier with each period.")
    TO_EARNED = strawberry.enum_value("to_earned", description="It drops to the one earned since.")


@strawberry.enum(description="The periods in which tiers count.")
class TierPeriod(Enum):
    """Periods of tiers."""

    CALENDAR_YEAR = strawberry.enum_value("calendar_year", description="Calendar years.")
    MEMBERSHIP_YEAR = strawberry.enum_value("membership_year", description="Years from the day of joining.")
    MONTH = strawberry.enum_value("month", description="Calendar months.")


@strawberry.enum(description="When members are reminded of their balance.")
class BalanceReminder(Enum):
    """Rhythms of balance reminders."""

    MONTH = strawberry.enum_value("month", description="When a month begins.")
    YEAR = strawberry.enum_value("year", description="When a year begins.")


@strawberry.enum(description="What members are reminded of.")
class ReminderAbout(Enum):
    """Subjects of reminders."""

    BALANCE = strawberry.enum_value("balance", description="The points they can use, when a month or year begins.")
    EXPIRY = strawberry.enum_value("expiry", description="Points whose last day comes near.")
    TIER = strawberry.enum_value("tier", description="The tier they are in, when it is another one.")


@strawberry.input(
    description="From `from` minor units upwards, `points` points for every `per` minor units (marginal rate)."
)
class BandInput:
    """A band of a program's rates."""

    from_amount: MinorUnits = strawberry.field(name="from", description="Where the band begins, in minor units.")
    per: MinorUnits = required("Minor units that earn `points`.")
    points: Points = required("Points for every `per` minor units.")


@strawberry.input(description="When points expire: exactly one of the ways.", one_of=True)
class ExpiryInput:
    """A rule of expiry."""

    never: bool | None = optional("`true`: never.")
    days: int | None = optional("So many days after the day of earning is the last day.")
    months: int | None = optional("The same day so many months later is the last day, at most that month's last.")
    year_end: int | None = optional("31 December, so many years after the year of earning, is the last day.")
    months_end: int | None = optional("The last day of the month, so many months after the month of earning.")
    membership_year_end: int | None = optional(
        "The day before an anniversary of joining: 0 for the next one, or so many years later."
    )
    inactivity: int | None = optional(
        "So many months after the holder last earned or spent points of the asset; whoever does moves the last day of "
        "all points that can still be used."
    )


@strawberry.input(description="How many times a member may have something in a calendar period of local dates.")
class LimitInput:
    """A limit."""

    count: UInt53 = required("How many times, at least 1.")
    period: CapPeriod = required("In which period.")


@strawberry.input(description="A factor: 5/4 is a quarter more, 1/2 half as much.")
class FactorInput:
    """A factor, of integers up to 1,000,000."""

    denominator: int = required("What is divided by, at least 1.")
    numerator: int = required("What is multiplied by, at least 0.")


@strawberry.input(
    description=(
        "When something holds: all that is said must be so; of a list, one is enough. `categories` and `products` are "
        "asked of each line of a purchase, all else of the whole."
    )
)
class WhenInput:
    """A condition; one that asks nothing is refused."""

    categories: list[str] | None = optional("The line is of one of these categories of goods.")
    channels: list[str] | None = optional("The purchase was made in one of these channels, such as `web`.")
    first_purchase: bool | None = optional("`true`: it is the member's first purchase.")
    from_amount: MinorUnits | None = optional("The least amount that earns, in minor units.")
    from_day: Date | None = optional("The first day.")
    invited: bool | None = optional("`true`: the member said who invited it.")
    merchants: list[strawberry.ID] | None = optional("One of these merchants recorded the purchase.")
    plans: list[str] | None = optional("The member has one of these plans of the program.")
    products: list[str] | None = optional("The line is of one of these products.")
    tenders: list[str] | None = optional("It was paid in one of these ways, such as `gift_card`.")
    through_day: Date | None = optional("The last day.")
    tiers: list[str] | None = optional("The member is in one of these tiers of the program.")
    weekdays: list[Weekday] | None = optional("The day is one of these.")
    within_days: int | None = optional("It is one of the first so many days since the member joined, that included.")


@strawberry.input(
    description="A campaign, or what a tier or tender gives: the points of lines it holds for, multiplied by `times`."
)
class MultiplierInput:
    """A multiplier."""

    multiplier: str = required("Its name.")
    times: FactorInput = required("The factor.")
    when: WhenInput | None = optional("When it holds; always when left out.")


@strawberry.input(description="Points more for a purchase, once, whatever its amount; nothing multiplies them.")
class PurchaseBonusInput:
    """A bonus of purchases."""

    bonus: str = required("Its name.")
    points: Points = required("Points, at least 1.")
    when: WhenInput | None = optional("When it holds; always when left out.")


@strawberry.input(description="Another way to earn that a member may choose.")
class FormulaInput:
    """A formula."""

    bands: list[BandInput] = required("Rates of the amount, or of the quantity.")
    formula: str = required("Its name.")
    quantity: str | None = optional("The quantity of purchases that earns, such as `miles`; the amount when left out.")


@strawberry.input(description="A tier: reached from so much of what tiers count.")
class TierLevelInput:
    """A level of tiers."""

    from_count: UInt53 = strawberry.field(name="from", description="From how much on a member is in it.")
    never_expires: bool | None = optional("`true`: points earned in it have no last day. `false` when left out.")
    tier: str = required("Its name.")


@strawberry.input(description="Who stands where, by what each member did in each period.")
class TiersInput:
    """The tiers of a program."""

    basis: TierBasis = required("What counts.")
    drop: TierDrop | None = optional("What becomes of a tier that is kept no longer; `TO_EARNED` when left out.")
    grace_days: int | None = optional("How many days later a member drops, up to 366; 0 when left out.")
    kept: int | None = optional("Through how many more periods a tier lasts; 0 when left out.")
    levels: list[TierLevelInput] = required("1 to 16 tiers; they rise strictly.")
    period: TierPeriod = required("The periods.")
    window: int | None = optional("Over how many periods is summed, the current one last; 1 when left out.")


@strawberry.input(description="An activity points may be granted for, and the most one grant may give.")
class GrantRuleInput:
    """A rule for grants."""

    activity: str = required("Name of the activity: `birthday`, `referral`, …")
    evidence: bool | None = optional(
        "`true`: each grant names the hash of what proves it, which is good once. `false` when left out."
    )
    limit: LimitInput | None = optional("How often a member may have it; no limit when left out.")
    max_points: Points = required("The most one grant may give; 0 for an achievement without points.")
    scored: bool | None = optional("`true`: each grant has an answer to a survey, 0 to 10. `false` when left out.")


@strawberry.input(description="Points for whoever invited a member, on that member's first purchase.")
class ReferralInput:
    """A referral."""

    limit: LimitInput | None = optional("How often a member may have them; no limit when left out.")
    points: Points = required("Points, at least 1.")


@strawberry.input(description="What a member can have for points: a voucher.")
class RewardInput:
    """A reward."""

    automatic: bool | None = optional(
        "`true`: it is had by itself whenever points earned or vested suffice; one at most. `false` when left out."
    )
    limit: LimitInput | None = optional("How often a member may have it; no limit when left out.")
    price: Points = required("Points for one, at least 1.")
    reward: str = required("Its name.")
    stock: UInt53 | None = optional("How many there are in all, over all versions; no end when left out.")
    valid_days: int | None = optional(
        "A voucher is good through so many days after the day it is had; for ever when left out."
    )
    when: WhenInput | None = optional("For whom and when it can be had: tiers, plans, days and weekdays only.")
    worth: MinorUnits | None = optional("Minor units it stands for, where it stands for money.")


@strawberry.input(description="Something that is no points, such as free shipping.")
class BenefitInput:
    """A benefit."""

    benefit: str = required("Its name; several with one name give it when any of them holds.")
    when: WhenInput | None = optional("For whom and which purchase; for all when left out.")


@strawberry.input(description="A paid membership.")
class PlanInput:
    """A plan."""

    days: int = required("How many days it lasts, the day it starts included.")
    plan: str = required("Its name.")
    price: MinorUnits = required("What it costs, in minor units.")


@strawberry.input(description="Points on each birthday of a member who told it, once a calendar year.")
class BirthdayInput:
    """What is granted on birthdays."""

    activity: str = required("The activity of `grants` they are granted for.")
    points: Points = required("Points, at least 1.")


@strawberry.input(description="What members are reminded of, each once.")
class RemindersInput:
    """The reminders of a program."""

    balance: BalanceReminder | None = optional("When of their balance; never when left out.")
    expiring_days: list[int] | None = optional("Of points whose last day is so many days ahead; up to 4 of them.")
    new_tier: bool | None = optional("`true`: of a new tier. `false` when left out.")


@strawberry.input(
    description=(
        "A merchant's rules for one asset. Only what earning and expiry always need is required; what no part says "
        "does not happen. `/program.schema.json` describes the same as a JSON document."
    )
)
class ProgramRulesInput:
    """The document of a program."""

    approval_above: Points | None = optional(
        "A grant or correction of more points than this needs approval: the merchant's `approvalThreshold` of keys. "
        "None does when left out."
    )
    bands: list[BandInput] = required("Rates; they rise strictly, and an amount below the first earns nothing.")
    benefits: list[BenefitInput] | None = optional("What members have that is no points; left out when nothing.")
    birthday: BirthdayInput | None = optional("What is granted on birthdays; nothing when left out.")
    bonuses: list[PurchaseBonusInput] | None = optional("Points more for whole purchases; left out when none.")
    currency: str = required("The currency amounts are in.")
    earning_cap: CapInput | None = optional("The most a member earns by purchases in a period; no cap when left out.")
    excluded_categories: list[str] | None = optional("Lines of these categories of goods earn nothing.")
    expiry: ExpiryInput = required("When the points expire.")
    formulas: list[FormulaInput] | None = optional("Other ways to earn that members may choose; left out when none.")
    grants: list[GrantRuleInput] | None = optional("Activities points may be granted for; left out when none.")
    multipliers: list[MultiplierInput] | None = optional("Campaigns and the like; left out when none.")
    plans: list[PlanInput] | None = optional("Paid memberships; left out when none.")
    purchase_within_days: int | None = optional(
        "For how many days after it was made a purchase can be recorded; no limit when left out."
    )
    referral: ReferralInput | None = optional("What members have for inviting others; nothing when left out.")
    refunds: RefundPolicy | None = optional(
        "What happens when a refund takes back more points than the member has left; `CAP` when left out."
    )
    reminders: RemindersInput | None = optional("What members are reminded of; nothing when left out.")
    returned_lot_days: int | None = optional(
        "For how many days, 1 to 365, points can be used that return by a refund after their last day; when left out, "
        "they stay expired."
    )
    rewards: list[RewardInput] | None = optional("What members can have for points; left out when nothing.")
    round_amount: AmountRounding = required("What happens to an amount before rates are applied.")
    round_points: PointsRounding = required("How the points of a purchase are rounded.")
    stacking: Stacking | None = optional("How multipliers that hold together combine; `BEST` when left out.")
    status_asset: str | None = optional(
        "Another asset of the merchant in which base points, before any multiplier, are given too; none when left out."
    )
    tiers: TiersInput | None = optional("Who stands where; no tiers when left out.")
    time_zone: str = required("IANA time zone in which a purchase's date and a last day are understood.")
    vesting_days: int | None = optional("How many days after a purchase its points are issued; at once when left out.")
