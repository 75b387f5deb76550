"""The program language: what a merchant publishes as the rules of an asset, as a declarative document.

A program is made of few kinds of parts that combine. Points come of :class:`Band` s or a :class:`Formula` that the
member chose; a :class:`Multiplier` or :class:`PurchaseBonus` adds to them where its :class:`When` holds; :class:`Tiers`
say who stands where; :class:`Reward` s say what points buy. What no part says does not happen, and a program without a
part costs nothing for it. Days are local dates in the program's time zone.

Which documents are well formed is decided here (:func:`check_program`); what they give in :mod:`ledger.calculation`.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ledger.encoding import MAX_INTEGER, EncodingError, parse_date
from ledger.terms import (
    AccountRef,
    AssetCode,
    Cap,
    CurrencyCode,
    Date,
    Document,
    Label,
    Money,
    Period,
    Points,
    Reference,
    Rounding,
    time_zones,
)

MAX_BANDS = 32
MAX_DAYS = 36_500
MAX_MONTHS = 1_200
MAX_TIER_PERIODS = 120
"""How many periods tiers look back on at most: their ``window`` and ``kept`` and one for each level."""


class Band(Document, frozen=True, kw_only=True):
    """From ``from_amount`` minor units upwards, ``points`` points for every ``per`` minor units (marginal rate)."""

    from_amount: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] = msgspec.field(name="from")
    per: Annotated[int, Meta(ge=1, le=10**12)]
    points: Annotated[int, Meta(ge=0, le=10**9)]


class NeverExpires(Document, frozen=True, kw_only=True, tag_field="after", tag="never"):
    """Lots have no last day."""


class ExpiresAfterDays(Document, frozen=True, kw_only=True, tag_field="after", tag="days"):
    """The last usable day is ``count`` days after the day of earning."""

    count: Annotated[int, Meta(ge=0, le=MAX_DAYS)]


class ExpiresAfterMonths(Document, frozen=True, kw_only=True, tag_field="after", tag="months"):
    """The last usable day is the same day ``count`` months later, clamped to that month's last day."""

    count: Annotated[int, Meta(ge=0, le=MAX_MONTHS)]


class ExpiresAtYearEnd(Document, frozen=True, kw_only=True, tag_field="after", tag="year_end"):
    """The last usable day is 31 December, ``count`` years after the year of earning (0: the same year)."""

    count: Annotated[int, Meta(ge=0, le=100)]


class ExpiresAtMonthEnd(Document, frozen=True, kw_only=True, tag_field="after", tag="months_end"):
    """The last usable day is the last day of the month ``count`` months after the month of earning."""

    count: Annotated[int, Meta(ge=0, le=MAX_MONTHS)]


class ExpiresAtMembershipYearEnd(Document, frozen=True, kw_only=True, tag_field="after", tag="membership_year_end"):
    """The last usable day is the day before an anniversary of joining: the next one, or ``count`` years later."""

    count: Annotated[int, Meta(ge=0, le=100)]


class ExpiresAfterInactivity(Document, frozen=True, kw_only=True, tag_field="after", tag="inactivity"):
    """The last usable day is ``months`` months (clamped) after the holder last earned or spent points of the asset.

    Whoever earns or spends moves the last day of all points that can still be used.
    """

    months: Annotated[int, Meta(ge=1, le=MAX_MONTHS)]


Expiry = (
    NeverExpires
    | ExpiresAfterDays
    | ExpiresAfterMonths
    | ExpiresAtYearEnd
    | ExpiresAtMonthEnd
    | ExpiresAtMembershipYearEnd
    | ExpiresAfterInactivity
)


RefundPolicy = Literal["cap", "negative", "owe"]
"""What happens when a refund takes back more points than the member has left."""

Stacking = Literal["best", "product", "sum"]
"""How multipliers that hold together combine: the greatest alone, their product, or 1 plus what each adds to 1."""

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of :meth:`datetime.date.weekday`."""

Labels = Annotated[tuple[Label, ...], Meta(max_length=64)]


class Limit(Document, frozen=True, kw_only=True):
    """How many times a member may have something in a calendar period of the program's local dates."""

    count: Annotated[int, Meta(ge=1, le=MAX_INTEGER)]
    period: Period


class Ratio(Document, frozen=True, kw_only=True):
    """A factor: 5/4 is a quarter more, 1/2 half as much."""

    denominator: Annotated[int, Meta(ge=1, le=1_000_000)]
    numerator: Annotated[int, Meta(ge=0, le=1_000_000)]


class When(Document, frozen=True, kw_only=True):
    """When something holds: all that is said must be so; of a list, one is enough.

    ``categories`` and ``products`` are asked of each line of a purchase, all else of the whole. ``from_amount`` is the
    least amount that earns, in minor units. ``from_day`` and ``through_day`` include both days. ``within_days`` counts
    from the day of joining, which is the first. ``invited`` are members who said who invited them.
    """

    categories: Labels = ()
    channels: Labels = ()
    first_purchase: bool = False
    from_amount: Money = 0
    from_day: Date | None = None
    invited: bool = False
    merchants: Annotated[tuple[AccountRef, ...], Meta(max_length=64)] = ()
    plans: Labels = ()
    products: Annotated[tuple[Reference, ...], Meta(max_length=64)] = ()
    tenders: Labels = ()
    through_day: Date | None = None
    tiers: Labels = ()
    weekdays: Annotated[tuple[Weekday, ...], Meta(max_length=7)] = ()
    within_days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] | None = None


ALWAYS = When()
"""Asks nothing, as absence does; written out it is refused."""


class Multiplier(Document, frozen=True, kw_only=True):
    """A campaign, or what a tier or tender gives: points of the lines it holds for are multiplied by ``times``."""

    multiplier: Label
    times: Ratio
    when: When | None = None


class PurchaseBonus(Document, frozen=True, kw_only=True):
    """``points`` more for a purchase for which it holds, once, whatever its amount; nothing multiplies them."""

    bonus: Label
    points: Points
    when: When | None = None


class Formula(Document, frozen=True, kw_only=True):
    """Another way to earn that a member may choose: ``bands`` of the amount, or of a ``quantity`` of the purchase."""

    bands: Annotated[tuple[Band, ...], Meta(min_length=1, max_length=MAX_BANDS)]
    formula: Label
    quantity: Label | None = None


class TierLevel(Document, frozen=True, kw_only=True):
    """A tier, reached ``from`` so much of what tiers count; points earned in one that ``never_expires`` do not."""

    from_count: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] = msgspec.field(name="from")
    never_expires: bool = False
    tier: Label


class Tiers(Document, frozen=True, kw_only=True):
    """Who stands where: a pure function of what each member did in each period.

    ``basis`` is what counts: minor units that earn, points given by purchases and activities, base points before any
    multiplier ("status"), or the number of purchases ("visits"). It is summed over ``window`` periods, the current one
    last. A tier reached in a period lasts through ``kept`` more; after those it drops to the one earned since, or
    ("one_level") by one tier with each period; a drop comes ``grace_days`` days late. A tier is reached at once, for
    whatever follows.
    """

    basis: Literal["amount", "points", "status", "visits"]
    drop: Literal["one_level", "to_earned"] = "to_earned"
    grace_days: Annotated[int, Meta(ge=0, le=366)] = 0
    kept: Annotated[int, Meta(ge=0, le=MAX_TIER_PERIODS)] = 0
    levels: Annotated[tuple[TierLevel, ...], Meta(min_length=1, max_length=16)]
    period: Literal["calendar_year", "membership_year", "month"]
    window: Annotated[int, Meta(ge=1, le=MAX_TIER_PERIODS)] = 1


class GrantRule(Document, frozen=True, kw_only=True):
    """An activity a merchant may grant points for, and the most one grant may give; 0: an achievement.

    ``limit`` bounds how often a member may have it. With ``evidence`` each grant names the hash of what proves it,
    which is good once in the whole program; with ``scored`` it has the answer of a survey, 0 to 10.
    """

    activity: Label
    evidence: bool = False
    limit: Limit | None = None
    max_points: Money
    scored: bool = False


class Referral(Document, frozen=True, kw_only=True):
    """``points`` for whoever invited a member, on that member's first purchase; ``limit`` bounds how often."""

    limit: Limit | None = None
    points: Points


class Reward(Document, frozen=True, kw_only=True):
    """What a member can have for ``price`` points: a voucher, good through ``valid_days`` days after the day it is had.

    ``worth`` is in minor units, where it stands for money. ``stock`` is how many there are in all, over all versions.
    An ``automatic`` one is had by itself, whenever points earned or vested suffice. ``when`` may ask for tiers, plans,
    days and weekdays only: there is no purchase.
    """

    automatic: bool = False
    limit: Limit | None = None
    price: Points
    reward: Label
    stock: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | None = None
    valid_days: Annotated[int, Meta(ge=0, le=MAX_DAYS)] | None = None
    when: When | None = None
    worth: Money | None = None


class Benefit(Document, frozen=True, kw_only=True):
    """Something that is no points, such as free shipping, for whom and whatever purchase it holds."""

    benefit: Label
    when: When | None = None


class Plan(Document, frozen=True, kw_only=True):
    """A paid membership: ``price`` minor units for ``days`` days, the day it starts included."""

    days: Annotated[int, Meta(ge=1, le=MAX_DAYS)]
    plan: Label
    price: Money


class Birthday(Document, frozen=True, kw_only=True):
    """``points`` on each birthday of a member who told it, granted for ``activity``, once a calendar year."""

    activity: Label
    points: Points


class Reminders(Document, frozen=True, kw_only=True):
    """What members are reminded of, each once: their balance when a month or year begins, lots, a new tier.

    Of a lot they are reminded when ``expiring_days`` days are left: on its last day less so many.
    """

    balance: Literal["month", "year"] | None = None
    expiring_days: Annotated[tuple[Annotated[int, Meta(ge=1, le=366)], ...], Meta(max_length=4)] = ()
    new_tier: bool = False


class Program(Document, frozen=True, kw_only=True, cache_hash=True):
    """A merchant's published rules for one asset. Only what earning and expiry always need is required.

    ``bands`` rise strictly; an amount below the first band earns nothing. ``round_amount`` "whole_units" drops the
    fraction of the currency's unit before any rate is applied; ``round_points`` rounds once, after all multipliers,
    which combine as ``stacking`` says. Lines of ``excluded_categories`` earn nothing. ``earning_cap`` bounds what a
    member earns by purchases in a period: the rest is not given. Base points, those before any multiplier, are also
    given in ``status_asset``. Points of a purchase vest ``vesting_days`` days after it, and are issued then. A purchase
    can be recorded up to ``purchase_within_days`` days after it was made.

    A grant or correction of more than ``approval_above`` points needs approval. Where a refund takes back more than
    the member has, ``refunds`` says what becomes of the rest: "cap" forgives it, "negative" is a debt that later
    earnings repay first, "owe" makes it money, by the asset's value. Points that come back by a refund after their
    last day can be used for ``returned_lot_days`` more days; 0: they stay expired.
    """

    approval_above: Annotated[int, Meta(ge=0, le=MAX_INTEGER)] | None = None
    bands: Annotated[tuple[Band, ...], Meta(min_length=1, max_length=MAX_BANDS)]
    benefits: Annotated[tuple[Benefit, ...], Meta(max_length=64)] = ()
    birthday: Birthday | None = None
    bonuses: Annotated[tuple[PurchaseBonus, ...], Meta(max_length=64)] = ()
    currency: CurrencyCode
    earning_cap: Cap | None = None
    excluded_categories: Labels = ()
    expiry: Expiry
    formulas: Annotated[tuple[Formula, ...], Meta(max_length=8)] = ()
    grants: Annotated[tuple[GrantRule, ...], Meta(max_length=64)] = ()
    multipliers: Annotated[tuple[Multiplier, ...], Meta(max_length=64)] = ()
    plans: Annotated[tuple[Plan, ...], Meta(max_length=8)] = ()
    purchase_within_days: Annotated[int, Meta(ge=0, le=MAX_DAYS)] | None = None
    referral: Referral | None = None
    refunds: RefundPolicy = "cap"
    reminders: Reminders | None = None
    returned_lot_days: Annotated[int, Meta(ge=0, le=365)] = 0
    rewards: Annotated[tuple[Reward, ...], Meta(max_length=256)] = ()
    round_amount: Literal["none", "whole_units"]
    round_points: Rounding
    stacking: Stacking = "best"
    status_asset: AssetCode | None = None
    tiers: Tiers | None = None
    time_zone: Annotated[str, Meta(min_length=1, max_length=64)]
    vesting_days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] | None = None


class ProgramError(ValueError):
    """A program that is not well formed. ``path`` names the part, outermost first: ``("tiers", "levels[1]")``."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


_OF_A_PURCHASE = ("categories", "channels", "first_purchase", "from_amount", "merchants", "products", "tenders")
"""What only a purchase has."""

_LISTS = ("categories", "channels", "merchants", "plans", "products", "tenders", "tiers", "weekdays")


def check_program(program: Program) -> None:
    """Check what types cannot say: order, uniqueness, and that what is named is there; raise :class:`ProgramError`."""
    if program.time_zone not in time_zones():
        raise ProgramError(f"{program.time_zone!r} is not a time zone of the IANA database", "time_zone")
    _check_bands(program.bands, "bands")
    for i, formula in enumerate(program.formulas):
        _check_bands(formula.bands, f"formulas[{i}]", "bands")
    for part in ("benefits", "bonuses", "multipliers", "rewards"):
        for i, each in enumerate(getattr(program, part)):
            if each.when is not None:
                _check_when(program, each.when, part == "rewards", f"{part}[{i}]", "when")
    _check_names(program)
    if program.tiers is not None:
        _check_tiers(program.tiers)
    if program.stacking != "best" and not program.multipliers:
        raise ProgramError("there are no multipliers to stack: leave it out", "stacking")
    if program.reminders is not None:
        _check_reminders(program.reminders)
    if program.birthday is not None:
        _check_birthday(program, program.birthday)
    automatic = [i for i, reward in enumerate(program.rewards) if reward.automatic]
    if len(automatic) > 1:
        raise ProgramError("only one reward can be had by itself", f"rewards[{automatic[1]}]", "automatic")


def _check_bands(bands: Sequence[Band], *path: str) -> None:
    if any(later.from_amount <= earlier.from_amount for earlier, later in pairwise(bands)):
        raise ProgramError("bands must rise: each from above the one before", *path)


def _check_names(program: Program) -> None:
    """That of each part there is one of each name. Of benefits there may be several: any of them gives it."""
    _check_unique(program.excluded_categories, "excluded_categories")
    _check_unique([each.bonus for each in program.bonuses], "bonuses")
    _check_unique([each.formula for each in program.formulas], "formulas")
    _check_unique([each.activity for each in program.grants], "grants")
    _check_unique([each.multiplier for each in program.multipliers], "multipliers")
    _check_unique([each.plan for each in program.plans], "plans")
    _check_unique([each.reward for each in program.rewards], "rewards")


def _check_unique(values: Iterable[str], *path: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ProgramError(f"{value!r} is there twice", *path)
        seen.add(value)


def _check_when(program: Program, when: When, without_purchase: bool, *path: str) -> None:
    if when == ALWAYS:
        raise ProgramError("it asks nothing: leave it out", *path)
    for name in _LISTS:
        _check_unique(getattr(when, name), *path, name)
    if without_purchase:
        asked = next((name for name in _OF_A_PURCHASE if getattr(when, name) != getattr(ALWAYS, name)), None)
        if asked is not None:
            raise ProgramError("there is no purchase to ask this of: leave it out", *path, asked)
    tiers = {level.tier for level in program.tiers.levels} if program.tiers is not None else set()
    for name, known in (("tiers", tiers), ("plans", {plan.plan for plan in program.plans})):
        if unknown := [each for each in getattr(when, name) if each not in known]:
            raise ProgramError(f"the program has no {name[:-1]} {unknown[0]}", *path, name)
    for name in ("from_day", "through_day"):
        _check_day(getattr(when, name), *path, name)
    if when.from_day is not None and when.through_day is not None and when.through_day < when.from_day:
        raise ProgramError("it ends before it begins", *path, "through_day")


def _check_day(day: str | None, *path: str) -> None:
    if day is not None:
        try:
            parse_date(day)
        except EncodingError as error:
            raise ProgramError(str(error), *path) from error


def _check_tiers(tiers: Tiers) -> None:
    _check_unique([level.tier for level in tiers.levels], "tiers", "levels")
    for i, (lower, upper) in enumerate(pairwise(tiers.levels)):
        if upper.from_count <= lower.from_count:
            raise ProgramError("tiers must rise: each from above the one before", "tiers", f"levels[{i + 1}]", "from")
    if tiers.window + tiers.kept + len(tiers.levels) > MAX_TIER_PERIODS:
        message = f"window, kept and the number of levels are {MAX_TIER_PERIODS} at most together"
        raise ProgramError(message, "tiers", "window")


def _check_reminders(reminders: Reminders) -> None:
    if reminders == Reminders():
        raise ProgramError("no reminders: leave it out", "reminders")
    _check_unique([str(days) for days in reminders.expiring_days], "reminders", "expiring_days")


def _check_birthday(program: Program, birthday: Birthday) -> None:
    rule = next((rule for rule in program.grants if rule.activity == birthday.activity), None)
    if rule is None:
        raise ProgramError(f"the program grants nothing for {birthday.activity}", "birthday", "activity")
    if rule.evidence or rule.scored:
        raise ProgramError("nobody gives evidence or an answer of a birthday", "birthday", "activity")
    if birthday.points > rule.max_points:
        message = f"{birthday.activity} gives at most {rule.max_points} points at a time"
        raise ProgramError(message, "birthday", "points")
