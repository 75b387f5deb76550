"""Calculation of purchases: against naive fractions, the published programs' numbers, and what splitting gains."""

import math
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.calculation import (
    Bought,
    Calculation,
    Exact,
    benefits_of,
    calculate,
    circumstances_of,
    is_special,
    plan_on,
    said_by,
    sentences,
    when_holds,
)
from ledger.encoding import MAX_INTEGER
from ledger.program_terms import (
    Band,
    Benefit,
    Birthday,
    ExpiresAfterInactivity,
    ExpiresAtMembershipYearEnd,
    ExpiresAtMonthEnd,
    Formula,
    GrantRule,
    Limit,
    Multiplier,
    NeverExpires,
    Plan,
    Program,
    PurchaseBonus,
    Ratio,
    Referral,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
    When,
)
from ledger.programs import points_for
from ledger.state import Circumstances, Membership
from ledger.terms import Cap, Purchase, PurchaseLine, Quantity, Rounding

SHOP, OTHER_SHOP = "mer_" + "a" * 26, "mer_" + "b" * 26
MEMBER = "mem_" + "a" * 26
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
UNIT = 100

Step = tuple[int, int, int]  # from, points, per


def make_bands(*steps: Step) -> tuple[Band, ...]:
    return tuple(Band(from_amount=start, points=points, per=per) for start, points, per in steps)


ONE_PER_UNIT = make_bands((0, 1, 100))


def make_program(**more: Any) -> Program:
    fields: dict[str, Any] = {
        "bands": ONE_PER_UNIT,
        "currency": "USD",
        "expiry": NeverExpires(),
        "round_amount": "none",
        "round_points": "down",
        "time_zone": "UTC",
        **more,
    }
    return Program(**fields)


def times(name: str, numerator: int, denominator: int = 1, **when: Any) -> Multiplier:
    ratio = Ratio(numerator=numerator, denominator=denominator)
    return Multiplier(multiplier=name, times=ratio, when=When(**when) if when else None)


def bonus(name: str, points: int, **when: Any) -> PurchaseBonus:
    return PurchaseBonus(bonus=name, points=points, when=When(**when) if when else None)


def buy(amount: int, day: str = "2026-05-17", merchant: str = SHOP, **circumstances: Any) -> Bought:
    return Bought(amount=amount, merchant=merchant, earned_on=day, circumstances=Circumstances(**circumstances))


def line(amount: int, category: str | None = None, product: str | None = None) -> PurchaseLine:
    return PurchaseLine(amount=amount, category=category, product=product)


def points(program: Program, bought: Bought, refunded: int | tuple[int, ...] = 0) -> int:
    return calculate(program, bought, UNIT, refunded).points


# Published programs


def test_tier_multiplies_what_is_rounded_once() -> None:
    """Rows 3 and 4: 10.00 gives Gold 12; 100.00 gives VIB 125; and 120.75 at 5/4 is 112.5."""
    gold = make_program(multipliers=(times("gold", 12, 10, tiers=("gold",)),))
    assert points(gold, buy(1_000, tier="gold")) == 12
    assert points(gold, buy(1_000, tier="green")) == points(gold, buy(1_000)) == 10
    vib = make_program(multipliers=(times("vib", 5, 4, tiers=("vib",)), times("rouge", 3, 2, tiers=("rouge",))))
    assert [points(vib, buy(10_000, tier=tier)) for tier in (None, "vib", "rouge")] == [100, 125, 150]


def test_better_of_two_rates_counts_and_gift_cards_do_not() -> None:
    """Row 8: 5 % by card instead of 2 %, never both; of 500.00 the 100.00 for a gift card earn nothing: 20.00."""
    program = make_program(
        bands=make_bands((0, 2, 100)),
        excluded_categories=("gift_card",),
        multipliers=(times("card", 5, 2, tenders=("store_card",)), times("first_days", 5, within_days=30)),
    )
    lines = (line(40_000, "furniture"), line(10_000, "gift_card"))
    bought = buy(50_000, lines=lines, tender="store_card", joined_on="2025-01-01")
    assert points(program, bought) == 2_000
    assert points(program, buy(50_000, lines=lines, tender="cash", joined_on="2025-01-01")) == 800
    assert points(program, buy(50_000, lines=lines, tender="store_card", joined_on="2026-05-01")) == 4_000


MILES = make_program(
    formulas=(
        Formula(formula="by_fare", bands=make_bands((0, 5, 100))),
        Formula(formula="by_segment", bands=make_bands((0, 500, 1)), quantity="segments"),
        Formula(formula="by_mile", bands=make_bands((0, 1, 1)), quantity="miles"),
    ),
    multipliers=(times("silver", 5, 4, tiers=("silver",)),),
    status_asset="STATUS",
)
FLIGHT: dict[str, Any] = {"quantities": (Quantity(name="miles", quantity=2_500), Quantity(name="segments", quantity=2))}


@pytest.mark.parametrize(
    ("formula", "tier", "expected"),
    [
        ("by_mile", None, (2_500, 2_500)),
        ("by_fare", None, (1_500, 1_500)),
        ("by_segment", None, (1_000, 1_000)),
        ("by_mile", "silver", (3_125, 2_500)),
        (None, None, (300, 300)),  # nothing was chosen
        ("by_weight", None, (300, 300)),  # what was chosen is no more
    ],
)
def test_member_chooses_the_formula_and_tiers_multiply_no_status(
    formula: str | None, tier: str | None, expected: tuple[int, int]
) -> None:
    """Row 12: 2,500 miles, a fare of 300.00, 2 segments; Silver has a quarter more to redeem, and no more status."""
    found = calculate(MILES, buy(30_000, formula=formula, tier=tier, **FLIGHT), UNIT)
    assert (found.points, found.status_points) == expected


@pytest.mark.parametrize(("tier", "expected"), [(None, 213), ("silver", 266), ("gold", 426), ("platinum", 639)])
def test_taxes_earn_nothing_and_tiers_add_to_the_fare(tier: str | None, expected: int) -> None:
    """Row 13: a base fare of 213.00 with taxes of 41.50."""
    tiers = (("silver", 5, 4), ("gold", 2, 1), ("platinum", 3, 1))
    multipliers = tuple(times(name, numerator, per, tiers=(name,)) for name, numerator, per in tiers)
    program = make_program(excluded_categories=("taxes",), multipliers=multipliers)
    assert points(program, buy(25_450, tier=tier, lines=(line(21_300, "fare"), line(4_150, "taxes")))) == expected


def test_purchase_of_whole_units_can_be_split_between_factors() -> None:
    """120.75 in whole units is 90 base points; the 60.00 of shoes count twice: 90·(60·2 + 60.75)/120.75."""
    program = make_program(
        bands=make_bands((5_000, 1, 100), (10_000, 2, 100)),
        round_amount="whole_units",
        multipliers=(times("shoes", 2, categories=("shoes",)),),
    )
    found = calculate(program, buy(12_075, lines=(line(6_000, "shoes"), line(6_075))), UNIT)
    assert Fraction(found.multiplied.numerator, found.multiplied.denominator) == Fraction(90 * 18_075, 12_075)
    assert found.points == 134


# Conditions


@pytest.mark.parametrize(
    ("when", "holds", "fails"),
    [
        ({"tiers": ("gold", "vip")}, {"tier": "vip"}, [{"tier": "green"}, {}]),
        ({"plans": ("plus",)}, {"plan": "plus"}, [{"plan": "pro"}, {}]),
        ({"tenders": ("card",)}, {"tender": "card"}, [{"tender": "cash"}, {}]),
        ({"channels": ("app", "web")}, {"channel": "app"}, [{"channel": "store"}, {}]),
        ({"merchants": (SHOP,)}, {}, [{"merchant": OTHER_SHOP}]),
        ({"weekdays": ("sun",)}, {"day": "2026-05-17"}, [{"day": "2026-05-18"}, {"day": "2026-05-16"}]),
        ({"from_day": "2026-05-17"}, {}, [{"day": "2026-05-16"}]),
        ({"through_day": "2026-05-17"}, {}, [{"day": "2026-05-18"}]),
        ({"from_amount": 1_000}, {"amount": 1_000}, [{"amount": 999}]),
        ({"within_days": 30}, {"joined_on": "2026-04-18"}, [{"joined_on": "2026-04-17"}, {"joined_on": "2026-05-18"}]),
        ({"within_days": 1}, {"joined_on": "2026-05-17"}, [{"joined_on": "2026-05-16"}, {}]),
        ({"first_purchase": True}, {"first": True}, [{}]),
        ({"invited": True}, {"invited": True}, [{}]),
        ({"categories": ("shoes",)}, {"lines": (line(1_000, "shoes"),)}, [{"lines": (line(1_000, "hats"),)}, {}]),
        ({"products": ("p/1",)}, {"lines": (line(1_000, product="p/1"),)}, [{"lines": (line(1_000, "p"),)}, {}]),
        (
            {"categories": ("shoes",), "products": ("p1",)},
            {"lines": (line(1_000, "shoes", "p1"),)},
            [{"lines": (line(500, "shoes"), line(500, "hats", "p1"))}],  # each is half of what one line must be
        ),
        ({"tiers": ("vip",), "channels": ("app",)}, {"tier": "vip", "channel": "app"}, [{"tier": "vip"}]),
    ],
    ids=str,
)
def test_all_that_is_asked_must_hold(when: dict[str, Any], holds: dict[str, Any], fails: list[dict[str, Any]]) -> None:
    """Of multipliers, bonuses and benefits alike: of a list one is enough, both ends of a range belong to it."""
    program = make_program(
        multipliers=(times("double", 2, **when),),
        bonuses=(bonus("more", 7, **when),),
        benefits=(Benefit(benefit="gift", when=When(**when)),),
    )
    bought = buy(**{"amount": 1_000, **holds})
    assert points(program, bought) == 10 * 2 + 7
    assert benefits_of(program, bought) == ("gift",)
    for changes in fails:
        bought = buy(**{"amount": 1_000, **changes})
        assert points(program, bought) == bought.amount // 100
        assert benefits_of(program, bought) == ()


def test_benefit_is_had_for_any_of_its_reasons() -> None:
    """Row 10: free shipping from 40.00, and always for Plus; taxes do not count towards the 40.00."""
    free = (
        Benefit(benefit="free_shipping", when=When(from_amount=4_000)),
        Benefit(benefit="free_shipping", when=When(tiers=("plus",))),
        Benefit(benefit="returns"),
    )
    program = make_program(benefits=free, excluded_categories=("taxes",))
    assert benefits_of(program, buy(3_999)) == ("returns",)
    assert benefits_of(program, buy(4_000)) == ("free_shipping", "returns")
    assert benefits_of(program, buy(4_000, lines=(line(3_999), line(1, "taxes")))) == ("returns",)
    assert benefits_of(program, buy(0, tier="plus")) == ("free_shipping", "returns")


def test_condition_of_a_reward_needs_no_purchase() -> None:
    """Tier, plan and days are asked of the member and the day; what a purchase would have does not hold."""
    assert when_holds(None, buy(0))
    assert when_holds(When(tiers=("vip",), weekdays=("sun",)), buy(0, tier="vip"))
    assert not when_holds(When(plans=("plus",)), buy(0))
    assert not when_holds(When(from_amount=1), buy(0))
    assert not when_holds(When(categories=("shoes",)), buy(0))


def test_excluded_category_satisfies_nothing() -> None:
    """A gift card in the shoe shop earns nothing, and makes nothing else count twice."""
    program = make_program(
        excluded_categories=("gift_card",),
        bonuses=(bonus("card", 7, categories=("gift_card",)), bonus("big", 9, from_amount=1_000)),
    )
    assert points(program, buy(1_000, lines=(line(999), line(1, "gift_card")))) == 9
    assert points(program, buy(1_000, lines=(line(1_000),))) == 19


# Stacking, bonuses, cap


@pytest.mark.parametrize(
    ("stacking", "factors", "expected"),
    [
        ("best", [(2, 1), (3, 1)], 30),
        ("best", [(1, 2)], 5),  # of one alone the best may be less than 1
        ("best", [(1, 2), (1, 3)], 5),
        ("sum", [(2, 1), (3, 1)], 40),
        ("sum", [(3, 2), (5, 4)], 17),
        ("sum", [(1, 4), (1, 4), (1, 4)], 0),  # no less than nothing
        ("product", [(2, 1), (3, 1)], 60),
        ("product", [(3, 2), (5, 4)], 18),
        ("product", [(0, 1), (5, 4)], 0),
    ],
)
def test_multipliers_stack_as_named(stacking: str, factors: list[tuple[int, int]], expected: int) -> None:
    """The best alone, the product, or 1 plus what each adds: of 10 points."""
    multipliers = tuple(times(f"m{i}", *factor) for i, factor in enumerate(factors))
    assert points(make_program(multipliers=multipliers, stacking=stacking), buy(1_000)) == expected


def test_bonus_is_not_multiplied_and_given_once() -> None:
    """100 more for a first purchase at 5/4: 125 + 100, however many lines there are."""
    program = make_program(multipliers=(times("vip", 5, 4),), bonuses=(bonus("welcome", 100, first_purchase=True),))
    assert points(program, buy(10_000, first=True, lines=(line(4_000), line(6_000)))) == 225
    assert points(program, buy(10_000)) == 125


def test_bonus_needs_something_that_was_bought() -> None:
    """Nothing of an amount of 0 or of excluded lines alone; but a quantity is something."""
    everything = {"bonuses": (bonus("any", 7),), "excluded_categories": ("taxes",)}
    program = make_program(**everything, formulas=MILES.formulas)
    assert points(program, buy(0)) == 0
    assert points(program, buy(500, lines=(line(500, "taxes"),))) == 0
    assert points(program, buy(1)) == 7
    assert points(program, buy(0, formula="by_mile", **FLIGHT)) == 2_507
    assert points(program, buy(0, formula="by_mile")) == 0
    assert points(program, buy(500, formula="by_mile")) == 7
    taxes_only = buy(500, formula="by_mile", lines=(line(500, "taxes"),), **FLIGHT)
    assert [points(program, taxes_only, (back,)) for back in (0, 100, 500)] == [2_507, 2_507, 0]
    fare = buy(500, formula="by_mile", lines=(line(400), line(100, "taxes")), **FLIGHT)
    assert [points(program, fare, back) for back in [(0, 0), (200, 0), (400, 0)]] == [2_507, 1_257, 0]


def test_earning_cap_leaves_out_what_has_no_room() -> None:
    """Bonuses count under it, status points do not; without a cap the room does not matter."""
    capped = make_program(
        bonuses=(bonus("any", 100),), earning_cap=Cap(period="year", points=500), status_asset="STATUS"
    )
    found = calculate(capped, buy(45_000, room=500), UNIT)
    assert (found.points, found.cut, found.status_points) == (500, 50, 450)
    assert points(capped, buy(45_000, room=0)) == 0
    assert points(capped, buy(45_000, room=550)) == points(capped, buy(45_000, room=551)) == 550
    assert points(make_program(), buy(45_000, room=0)) == 450


def test_tiers_that_count_status_have_it_without_an_asset() -> None:
    """Base points are counted where tiers ask for them, and are nothing otherwise."""
    levels = (TierLevel(from_count=1, tier="one"),)
    by_status = Tiers(basis="status", levels=levels, period="month")
    by_amount = Tiers(basis="amount", levels=levels, period="month")
    doubled = (times("double", 2),)
    status = [
        calculate(make_program(tiers=tiers, multipliers=doubled), buy(1_000), UNIT).status_points
        for tiers in (by_status, by_amount, None)
    ]
    assert status == [10, 0, 0]


def test_line_with_another_factor_is_weighted_by_its_amount() -> None:
    """2 of 3 units count 3 times: 3·(2·3 + 1·1)/3 = 7, whatever the order of the lines."""
    program = make_program(multipliers=(times("shoes", 3, categories=("shoes",)),))
    assert points(program, buy(300, lines=(line(200, "shoes"), line(100)))) == 7
    assert points(program, buy(300, lines=(line(100), line(100, "shoes"), line(100, "shoes")))) == 7


# Refunds


def test_refund_of_a_line_takes_its_factor_with_it() -> None:
    """Of a refund it matters what comes back: the shoes that counted 3 times, or the rest."""
    program = make_program(multipliers=(times("shoes", 3, categories=("shoes",)),), bonuses=(bonus("any", 5),))
    bought = buy(3_000, lines=(line(1_000, "shoes"), line(2_000)))
    given = [points(program, bought, back) for back in [(0, 0), (1_000, 0), (0, 1_000), (0, 2_000), (1_000, 2_000)]]
    assert given == [55, 25, 45, 35, 0]


def test_refunded_line_satisfies_no_condition_any_more() -> None:
    """Who brings back the product of a bonus has no bonus."""
    program = make_program(bonuses=(bonus("product", 50, products=("p1",)),))
    bought = buy(2_000, lines=(line(1_000, product="p1"), line(1_000)))
    assert [points(program, bought, back) for back in [(0, 0), (999, 0), (1_000, 0)]] == [70, 60, 10]


def test_refund_below_the_least_amount_takes_the_multiplier() -> None:
    """Twice from 50.00: after a refund of 0.01 of 50.00 it is once."""
    program = make_program(multipliers=(times("double", 2, from_amount=5_000),))
    assert [points(program, buy(5_000), back) for back in (0, 1, 5_000)] == [100, 49, 0]


def test_refund_of_a_fare_takes_its_share_of_the_miles() -> None:
    """Nobody flies fewer miles for a part of the fare: a third of the fare back is a third of the points."""
    bought = buy(30_000, formula="by_mile", tier="silver", **FLIGHT)
    found = calculate(MILES, bought, UNIT, 10_000)
    assert found.remaining == Exact(2, 3)
    assert (found.points, found.status_points) == (2_083, 1_666)
    assert points(MILES, bought, 30_000) == 0


def test_whole_refund_leaves_nothing_and_half_a_refund_is_told_by_lines() -> None:
    """Everything is 0 after it; amounts of lines must be told where there are lines, and be no more than was bought."""
    found = calculate(MILES, buy(0, formula="by_mile", **FLIGHT), UNIT)
    assert found.points == 2_500  # an amount of 0 is no refund
    whole = calculate(make_program(bonuses=(bonus("any", 5),), status_asset="STATUS"), buy(500), UNIT, 500)
    assert (whole.points, whole.status_points, whole.earning_amount) == (0, 0, 0)
    lines = (line(300), line(200))
    assert points(make_program(), buy(500, lines=lines), (100, 200)) == 2
    for refunded in (100, (100,), (300, 300)):
        with pytest.raises(ValueError, match="refunded"):
            calculate(make_program(), buy(500, lines=lines), UNIT, refunded)


# Against fractions


def holds_naively(when: When | None, bought: Bought, earning: int, one: PurchaseLine) -> bool:
    """A condition for one line, read from the specification."""
    if when is None:
        return True
    told = bought.circumstances
    day = date.fromisoformat(bought.earned_on)
    joined = None if told.joined_on is None else date.fromisoformat(told.joined_on)
    answers = [
        not when.categories or one.category in when.categories,
        not when.products or one.product in when.products,
        not when.tiers or told.tier in when.tiers,
        not when.plans or told.plan in when.plans,
        not when.tenders or told.tender in when.tenders,
        not when.channels or told.channel in when.channels,
        not when.merchants or bought.merchant in when.merchants,
        not when.weekdays or day.strftime("%a").lower() in when.weekdays,
        when.from_day is None or day >= date.fromisoformat(when.from_day),
        when.through_day is None or day <= date.fromisoformat(when.through_day),
        earning >= when.from_amount,
        when.within_days is None or (joined is not None and 0 <= (day - joined).days < when.within_days),
        not when.first_purchase or told.first,
        not when.invited or told.invited,
    ]
    return all(answers)


def round_naively(number: Fraction, rounding: str) -> int:
    return {
        "down": math.floor(number),
        "up": math.ceil(number),
        "half_up": math.floor(number + Fraction(1, 2)),
        "half_even": round(number),
    }[rounding]


def bands_naively(bands: Sequence[Band], amount: int) -> Fraction:
    total = Fraction(0)
    for i, band in enumerate(bands):
        end = bands[i + 1].from_amount if i + 1 < len(bands) else amount
        total += max(0, min(amount, end) - band.from_amount) * Fraction(band.points, band.per)
    return total


def stack_naively(stacking: str, held: Sequence[Ratio]) -> Fraction:
    factors = [Fraction(each.numerator, each.denominator) for each in held]
    if stacking == "best":
        return max(factors, default=Fraction(1))
    if stacking == "sum":
        return max(Fraction(0), 1 + sum((each - 1 for each in factors), Fraction(0)))
    product = Fraction(1)
    for each in factors:
        product *= each
    return product


def calculate_naively(program: Program, bought: Bought, unit: int, refunded: tuple[int, ...]) -> tuple[int, int]:
    """Points and status points with exact fractions, in the order of the specification."""
    told = bought.circumstances
    original = list(told.lines) or [PurchaseLine(amount=bought.amount)]
    left = [
        msgspec.structs.replace(each, amount=each.amount - back) for each, back in zip(original, refunded, strict=True)
    ]
    if sum(refunded) and not sum(each.amount for each in left):
        return 0, 0
    eligible = [each for each in left if each.amount and each.category not in program.excluded_categories]
    before = sum(each.amount for each in original if each.category not in program.excluded_categories)
    earning = sum(each.amount for each in eligible)
    formula = next((each for each in program.formulas if each.formula == told.formula), None)
    something = earning > 0
    if formula is not None and formula.quantity is not None:
        quantity = sum(each.quantity for each in told.quantities if each.name == formula.quantity)
        base = bands_naively(formula.bands, quantity)
        if before:
            base = base * earning / before
        else:
            something = quantity > 0
    else:
        amount = earning // unit * unit if program.round_amount == "whole_units" else earning
        base = bands_naively(program.bands if formula is None else formula.bands, amount)
    lines = eligible or [PurchaseLine(amount=1)]
    weighted = Fraction(0)
    for each in lines:
        held = [more.times for more in program.multipliers if holds_naively(more.when, bought, earning, each)]
        weighted += each.amount * stack_naively(program.stacking, held)
    total = round_naively(base * weighted / sum(each.amount for each in lines), program.round_points)
    if something:
        for more in program.bonuses:
            if any(holds_naively(more.when, bought, earning, each) for each in lines):
                total += more.points
    if program.earning_cap is not None and told.room is not None:
        total = min(total, told.room)
    counts = program.status_asset is not None or (program.tiers is not None and program.tiers.basis == "status")
    return total, round_naively(base, program.round_points) if counts else 0


CATEGORIES, PRODUCTS = ("shoes", "hats", "taxes"), ("p1", "p2")
DAYS = ("2026-05-15", "2026-05-16", "2026-05-17", "2026-05-18")


def some(*values: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)


def maybe(values: st.SearchStrategy[Any], otherwise: Any = None) -> st.SearchStrategy[Any]:
    """Mostly absent: who asks much finds nothing."""
    return st.integers(0, 4).flatmap(lambda roll: values if roll == 0 else st.just(otherwise))


WHENS = st.none() | st.builds(
    When,
    categories=maybe(some(*CATEGORIES), ()),
    channels=maybe(some("app", "web"), ()),
    first_purchase=maybe(st.just(True), False),
    from_amount=maybe(st.integers(1, 20_000), 0),
    from_day=maybe(st.sampled_from(DAYS)),
    invited=maybe(st.just(True), False),
    merchants=maybe(some(SHOP, OTHER_SHOP), ()),
    plans=maybe(some("plus"), ()),
    products=maybe(some(*PRODUCTS), ()),
    tenders=maybe(some("card", "cash"), ()),
    through_day=maybe(st.sampled_from(DAYS)),
    tiers=maybe(some("vip", "gold"), ()),
    weekdays=maybe(some("fri", "sat", "sun", "mon"), ()),
    within_days=maybe(st.integers(1, 4)),
)
RATIOS = st.builds(Ratio, numerator=st.integers(0, 12), denominator=st.integers(1, 12))


@st.composite
def band_lists(draw: st.DrawFn, *, rising: bool = False) -> tuple[Band, ...]:
    starts = sorted(draw(st.sets(st.integers(0, 10_000), min_size=1, max_size=4)))
    rates = [draw(st.tuples(st.integers(0, 30), st.sampled_from([1, 3, 7, 100, 333]))) for _ in starts]
    if rising:
        rates.sort(key=lambda rate: Fraction(*rate))
    return make_bands(*((start, *rate) for start, rate in zip(starts, rates, strict=True)))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    multipliers = draw(st.lists(st.tuples(RATIOS, WHENS), max_size=4))
    bonuses = draw(st.lists(st.tuples(st.integers(1, 500), WHENS), max_size=2))
    formulas = (
        Formula(formula="other", bands=draw(band_lists())),
        Formula(formula="counted", bands=draw(band_lists()), quantity="miles"),
    )
    by_status = Tiers(basis="status", levels=(TierLevel(from_count=1, tier="vip"),), period="month")
    return make_program(
        bands=draw(band_lists()),
        bonuses=tuple(PurchaseBonus(bonus=f"b{i}", points=given, when=when) for i, (given, when) in enumerate(bonuses)),
        earning_cap=draw(maybe(st.just(Cap(period="year", points=500)))),
        excluded_categories=draw(st.sampled_from([(), ("taxes",)])),
        formulas=draw(st.sampled_from([(), formulas])),
        multipliers=tuple(
            Multiplier(multiplier=f"m{i}", times=ratio, when=when) for i, (ratio, when) in enumerate(multipliers)
        ),
        round_amount=draw(st.sampled_from(["none", "whole_units"])),
        round_points=draw(st.sampled_from(ROUNDINGS)),
        stacking=draw(st.sampled_from(["best", "product", "sum"])),
        status_asset=draw(st.sampled_from([None, "STATUS"])),
        tiers=draw(st.sampled_from([None, by_status])),
    )


LINES = st.builds(
    PurchaseLine,
    amount=st.integers(0, 15_000),
    category=st.sampled_from([None, *CATEGORIES]),
    product=st.sampled_from([None, *PRODUCTS]),
)


@st.composite
def purchases(draw: st.DrawFn) -> Bought:
    lines = tuple(draw(st.lists(LINES, max_size=4)))
    amount = sum(each.amount for each in lines) if lines else draw(st.integers(0, 40_000))
    miles = draw(st.sampled_from([None, 0, 1, 777, 12_345]))
    return buy(
        amount,
        draw(st.sampled_from(DAYS)),
        draw(st.sampled_from([SHOP, OTHER_SHOP])),
        channel=draw(st.sampled_from([None, "app", "web"])),
        first=draw(st.booleans()),
        formula=draw(st.sampled_from([None, "other", "counted"])),
        invited=draw(st.booleans()),
        joined_on=draw(st.sampled_from([None, *DAYS])),
        lines=lines,
        plan=draw(st.sampled_from([None, "plus"])),
        quantities=() if miles is None else (Quantity(name="miles", quantity=miles),),
        room=draw(st.sampled_from([None, 0, 100, 500])),
        tender=draw(st.sampled_from([None, "card", "cash"])),
        tier=draw(st.sampled_from([None, "vip", "gold"])),
    )


@st.composite
def refunds(draw: st.DrawFn, bought: Bought) -> tuple[int, ...]:
    """Something of each line, often nothing or all of it."""
    amounts = [each.amount for each in bought.circumstances.lines] or [bought.amount]
    return tuple(draw(st.sampled_from([0, amount]) | st.integers(0, amount)) for amount in amounts)


@given(programs(), purchases(), st.sampled_from([1, 100, 1_000]), st.data())
def test_points_are_what_exact_fractions_give(program: Program, bought: Bought, unit: int, data: st.DataObject) -> None:
    """For any program, purchase and refund, integers give what fractions give, and the steps add up to it."""
    refunded = data.draw(refunds(bought))
    found = calculate(program, bought, unit, refunded)
    assert (found.points, found.status_points) == calculate_naively(program, bought, unit, refunded)
    assert_steps_add_up(found)
    if not bought.circumstances.lines:
        assert calculate(program, bought, unit, refunded[0]) == found


def value(number: Exact) -> Fraction:
    assert math.gcd(number.numerator, number.denominator) == 1
    return Fraction(number.numerator, number.denominator)


def assert_steps_add_up(found: Calculation) -> None:
    """The explanation is no story beside the numbers: each step gives the next."""
    base = sum((value(band.points) for band in found.bands), Fraction(0))
    if found.remaining is not None:
        base *= value(found.remaining)
    assert base == value(found.base)
    weighted = base
    if found.lines:
        assert sum(each.amount for each in found.lines) == found.earning_amount
        if found.earning_amount:
            shares = [base * each.amount * value(each.factor) / found.earning_amount for each in found.lines]
            weighted = sum(shares, Fraction(0))
        else:
            weighted = base * value(found.lines[0].factor)
    assert weighted == value(found.multiplied)
    assert found.rounded == round_naively(weighted, found.rounding)
    assert found.points == found.rounded + sum(each.points for each in found.bonuses) - found.cut


@given(st.integers(0, MAX_INTEGER), st.sampled_from(ROUNDINGS), st.integers(1, 10**6), st.integers(1, 10**6))
def test_largest_numbers_are_exact(amount: int, rounding: Rounding, numerator: int, denominator: int) -> None:
    """At the ends of the ranges, where a float would have lost digits, all digits are right."""
    program = make_program(
        bands=make_bands((0, 10**9, 7)),
        round_points=rounding,
        multipliers=tuple(times(f"m{i}", numerator, denominator) for i in range(8)),
        stacking="product",
    )
    exact = Fraction(amount * 10**9, 7) * Fraction(numerator, denominator) ** 8
    assert points(program, buy(amount)) == round_naively(exact, rounding)


@given(band_lists(), st.integers(0, 40_000), st.sampled_from(["none", "whole_units"]), st.sampled_from(ROUNDINGS))
def test_plain_program_gives_what_it_always_gave(
    bands: tuple[Band, ...], amount: int, round_amount: str, rounding: str
) -> None:
    """Without any of the parts a purchase is worth the same by the short way."""
    program = make_program(bands=bands, round_amount=round_amount, round_points=rounding)
    assert not is_special(program)
    assert points(program, buy(amount)) == points_for(program, amount, UNIT)


# Splitting, and refunds bit by bit


@given(band_lists(rising=True), st.lists(RATIOS, max_size=3), st.lists(LINES, max_size=4), st.data())
def test_splitting_a_purchase_never_gains_where_rates_rise_and_points_round_down(
    bands: tuple[Band, ...], ratios: list[Ratio], lines: list[PurchaseLine], data: st.DataObject
) -> None:
    """However lines are divided between two purchases. Each condition is needed, see the next test.

    With B(0) = 0 and rates that never fall, B(E)/E never falls, so a part of E has no more for each of its minor
    units, whatever these are multiplied by; and rounding two parts down gives no more than rounding their sum. So there
    must be: no bonus, no condition on the amount or a first purchase, no whole units where factors differ by line.
    """
    conditions = [{"categories": ("shoes",)}, {"products": ("p1",)}, {"tiers": ("vip",)}, {}]
    multipliers = tuple(
        times(f"m{i}", ratio.numerator, ratio.denominator, **data.draw(st.sampled_from(conditions)))
        for i, ratio in enumerate(ratios)
    )
    stacking = data.draw(st.sampled_from(["best", "product", "sum"]))
    cap = Cap(period="ever", points=200)
    program = make_program(bands=bands, multipliers=multipliers, stacking=stacking, earning_cap=cap)
    room = data.draw(st.sampled_from([None, 200]))
    here = [data.draw(st.integers(0, each.amount)) for each in lines]
    one = [msgspec.structs.replace(each, amount=amount) for each, amount in zip(lines, here, strict=True)]
    two = [msgspec.structs.replace(each, amount=each.amount - amount) for each, amount in zip(lines, here, strict=True)]

    def buy_lines(bought: list[PurchaseLine], left: int | None) -> int:
        amount = sum(each.amount for each in bought)
        return points(program, buy(amount, lines=tuple(bought), tier="vip", room=left))

    first = buy_lines(one, room)
    second = buy_lines(two, None if room is None else room - first)
    assert first + second <= buy_lines(lines, room)


@given(band_lists(rising=True), RATIOS, st.integers(0, 40_000), st.integers(0, 40_000))
def test_splitting_in_whole_units_never_gains_where_factors_do_not_differ(
    bands: tuple[Band, ...], ratio: Ratio, one: int, other: int
) -> None:
    """With one factor for all of a purchase the fractions of units that are dropped only cost."""
    tier = times("vip", ratio.numerator, ratio.denominator, tiers=("vip",))
    program = make_program(bands=bands, round_amount="whole_units", multipliers=(tier,))
    parts = points(program, buy(one, tier="vip")) + points(program, buy(other, tier="vip"))
    assert parts <= points(program, buy(one + other, tier="vip"))


SHOES_5 = times("shoes", 5, categories=("shoes",))


@pytest.mark.parametrize(
    ("program", "first", "second", "gained"),
    [
        (make_program(bands=make_bands((0, 2, 100), (1_000, 1, 100))), (line(1_000),), (line(1_000),), 10),
        (make_program(bands=make_bands((0, 1, 2_000)), round_points="up"), (line(1_000),), (line(1_000),), 1),
        (make_program(bonuses=(bonus("any", 7),)), (line(1_000),), (line(1_000),), 7),
        (make_program(multipliers=(times("less", 1, 2, from_amount=2_000),)), (line(1_000),), (line(1_000),), 10),
        (make_program(round_amount="whole_units", multipliers=(SHOES_5,)), (line(100, "shoes"),), (line(99),), 2),
    ],
    ids=["falling rates", "rounded up", "bonus", "least amount", "whole units by line"],
)
def test_splitting_gains_elsewhere(
    program: Program, first: tuple[PurchaseLine, ...], second: tuple[PurchaseLine, ...], gained: int
) -> None:
    """For each condition of the theorem a program without it, where two purchases give more than one."""

    def given_for(*lines: PurchaseLine) -> int:
        return points(program, buy(sum(each.amount for each in lines), lines=lines))

    assert given_for(*first) + given_for(*second) - given_for(*first, *second) == gained


@given(programs(), purchases(), st.data())
def test_points_due_for_refunds_only_grow_and_end_with_all(
    program: Program, bought: Bought, data: st.DataObject
) -> None:
    """Taking back what the least so far left: never less than nothing, never more than was given, at last all of it."""
    amounts = [each.amount for each in bought.circumstances.lines] or [bought.amount]
    refunded = [0] * len(amounts)
    original = calculate(program, bought, UNIT)
    due = status_due = 0
    for share in (*data.draw(st.lists(st.integers(0, 3), max_size=3)), 1):
        for i, amount in enumerate(amounts):
            refunded[i] += (amount - refunded[i]) // share if share else 0
        left = calculate(program, bought, UNIT, tuple(refunded))
        now = max(due, original.points - left.points)
        assert due <= now <= original.points
        assert original.status_points - left.status_points >= status_due  # base points need no running minimum
        due, status_due = now, original.status_points - left.status_points
    if bought.amount:
        assert (due, status_due) == (original.points, original.status_points)


def test_refund_can_leave_more_than_before_it() -> None:
    """Why there is a running minimum: a line that lowers the mean comes back. Nobody is given points for a refund."""
    program = make_program(bands=make_bands((0, 1, 100)), multipliers=(times("half", 1, 2, from_amount=2_000),))
    assert [points(program, buy(2_000), back) for back in (0, 1, 2_000)] == [10, 19, 0]


# What makes a program special, and circumstances


@pytest.mark.parametrize(
    "more",
    [
        {"bonuses": (bonus("any", 1),)},
        {"earning_cap": Cap(period="year", points=1)},
        {"excluded_categories": ("taxes",)},
        {"formulas": (Formula(formula="other", bands=ONE_PER_UNIT),)},
        {"multipliers": (times("double", 2),)},
        {"plans": (Plan(plan="plus", days=365, price=11_900),)},
        {"referral": Referral(points=50)},
        {"status_asset": "STATUS"},
        {"tiers": Tiers(basis="visits", levels=(TierLevel(from_count=1, tier="one"),), period="month")},
        {"vesting_days": 14},
        {"rewards": (Reward(reward="voucher", price=1_000, automatic=True),)},
        {"expiry": ExpiresAtMembershipYearEnd(count=0)},
        {"expiry": ExpiresAfterInactivity(months=18)},
    ],
    ids=str,
)
def test_program_is_special_by_each_part_that_needs_to_know_more(more: dict[str, Any]) -> None:
    """Purchases under it note their circumstances and make their buyer a member of the program."""
    assert is_special(make_program(**more))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"benefits": (Benefit(benefit="gift"),)},
        {"rewards": (Reward(reward="coffee", price=150),)},
        {"reminders": Reminders(new_tier=True)},
        {
            "birthday": Birthday(activity="birthday", points=1),
            "grants": (GrantRule(activity="birthday", max_points=1),),
        },
        {"grants": (GrantRule(activity="survey", max_points=1, limit=Limit(count=1, period="day"), scored=True),)},
        {"expiry": ExpiresAtMonthEnd(count=6)},
        {"purchase_within_days": 30},
        {"round_amount": "whole_units", "round_points": "up", "refunds": "owe"},
    ],
    ids=lambda more: "".join(more) or "none",
)
def test_program_is_plain_without_them(more: dict[str, Any]) -> None:
    """What does not touch earning costs nothing when earning."""
    assert not is_special(make_program(**more))


PURCHASE = Purchase(amount=500, at="2026-05-17T12:00:00.000Z", member=MEMBER, order="1")


def test_purchase_tells_its_own_circumstances() -> None:
    """Only what its document says, and nothing at all where it says nothing."""
    assert said_by(PURCHASE) is None
    for name, told in {
        "channel": "app",
        "tender": "card",
        "lines": (line(500),),
        "quantities": (Quantity(name="miles", quantity=0),),
    }.items():
        fields: dict[str, Any] = {name: told}
        assert said_by(msgspec.structs.replace(PURCHASE, **fields)) == Circumstances(**fields)


def test_circumstances_are_those_of_the_member_on_the_day() -> None:
    """Tier and plan are those of the day of the purchase, which is the first as long as none stands."""
    membership = Membership(
        asset="STAR",
        account=MEMBER,
        joined_on="2026-01-01",
        formula="by_mile",
        invited_by=OTHER_SHOP,
        tier="noted_before",
        plan="plus",
        plan_from="2026-05-01",
        plan_until="2026-05-17",
    )
    purchase = msgspec.structs.replace(PURCHASE, channel="app", tender="card", lines=(line(500),))
    assert circumstances_of(purchase, membership, "gold", 70, "2026-05-17") == Circumstances(
        channel="app",
        first=True,
        formula="by_mile",
        invited=True,
        joined_on="2026-01-01",
        lines=(line(500),),
        plan="plus",
        room=70,
        tender="card",
        tier="gold",
    )
    again = msgspec.structs.replace(membership, purchases=1, invited_by=None)
    assert circumstances_of(PURCHASE, again, None, None, "2026-05-18") == Circumstances(
        formula="by_mile", joined_on="2026-01-01"
    )
    assert [plan_on(membership, f"2026-05-{day}") for day in ("01", "17", "18")] == ["plus", "plus", None]
    assert plan_on(membership, "2026-04-30") is plan_on(None, "2026-05-01") is None


def test_who_has_no_membership_joins_by_the_purchase() -> None:
    """It is the first purchase, on the first day of the membership."""
    assert circumstances_of(PURCHASE, None, None, None, "2026-05-17") == Circumstances(
        first=True, joined_on="2026-05-17"
    )


# In words


def test_calculation_is_told_in_sentences() -> None:
    """Each step that did something, with amounts as people write them."""
    program = make_program(
        bands=make_bands((5_000, 1, 100), (10_000, 2, 100)),
        round_amount="whole_units",
        multipliers=(times("vip", 5, 4, tiers=("vip",)), times("app", 9, 8, channels=("app",))),
        bonuses=(bonus("welcome", 400),),
        earning_cap=Cap(period="year", points=500),
        excluded_categories=("taxes",),
        status_asset="STATUS",
    )
    lines = (line(12_075), line(925, "taxes"))
    found = calculate(program, buy(13_000, tier="vip", channel="app", room=500, lines=lines), UNIT)
    assert sentences(found, 2) == (
        "120.75 earns 500 points.",
        "9.25 more earns nothing: its category is excluded.",
        "Only whole units count: 120.00.",
        "50 points are of 50.00 from 50.00 on, at 1 per 1.00.",
        "40 points are of 20.00 from 100.00 on, at 2 per 1.00.",
        "All 120.75 counts 1.25 times, for vip; app would hold, but the best counts alone.",
        "Multiplied, the 90 points are 112.5.",
        "112.5 is rounded down to 112.",
        "400 points more for welcome.",
        "12 points are cut: there was room for 500 under the earning cap.",
        "90 status points count, which nothing multiplies.",
    )


def test_sentences_name_lines_formulas_and_what_is_left() -> None:
    """Lines by their place; a quantity has no decimal places; thirds are told as fractions, in points' own places."""
    shoes = make_program(multipliers=(times("shoes", 4, 3, categories=("shoes",)),), round_points="half_up")
    found = calculate(shoes, buy(1_000, lines=(line(500, "shoes"), line(500))), UNIT)
    assert sentences(found, 2, 1)[2:] == (
        "Line 1, of 5.00, counts 4/3 times, for shoes.",
        "Line 2, of 5.00, counts once.",
        "Multiplied, the 1.0 points are 7/6.",
        "7/6 is rounded half up to 1.2.",
    )
    flight = buy(30_000, formula="by_mile", **FLIGHT)
    assert sentences(calculate(MILES, flight, UNIT, 7_500), 2)[:4] == (
        "225.00 earns 1875 points.",
        "By the formula by_mile it is 2500 miles that earn.",
        "2500 points are of 2500 from 0 on, at 1 per 1.",
        "0.75 of that is left after refunds: 1875 points.",
    )
    by_fare = calculate(MILES, buy(30_000, formula="by_fare"), UNIT)
    assert sentences(by_fare, 2)[1] == "The formula is by_fare."
    assert sentences(calculate(MILES, buy(500), UNIT, 500), 2) == ("0.00 earns 0 points.",)


@given(programs(), purchases())
def test_every_calculation_can_be_told(program: Program, bought: Bought) -> None:
    """Whatever happens in it, as one sentence a step."""
    told = sentences(calculate(program, bought, UNIT), 2)
    assert all(each.endswith(".") and "\n" not in each for each in told)
