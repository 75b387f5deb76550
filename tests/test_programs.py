"""Programs: points and last days against naive arithmetic, and the examples of published programs."""

import math
import zoneinfo
from datetime import date
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY
from ledger.program_terms import (
    Band,
    Benefit,
    Birthday,
    ExpiresAfterDays,
    ExpiresAfterMonths,
    ExpiresAtYearEnd,
    Expiry,
    Formula,
    GrantRule,
    Multiplier,
    NeverExpires,
    Plan,
    Program,
    ProgramError,
    PurchaseBonus,
    Ratio,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
    When,
    check_program,
)
from ledger.programs import ProgramVersion, add_months, last_day, local_date, points_for, round_ratio, version_at
from ledger.terms import Rounding

ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
UNIT = 100  # cents in a dollar

Step = tuple[int, int, int]  # from, points, per


def make_program(*steps: Step, amount: str = "none", points: str = "down", expiry: Expiry | None = None) -> Program:
    fields: dict[str, Any] = {"round_amount": amount, "round_points": points}
    return Program(
        bands=tuple(Band(from_amount=start, points=given, per=per) for start, given, per in steps),
        currency="USD",
        expiry=expiry or NeverExpires(),
        time_zone="UTC",
        **fields,
    )


# programs.md row 1: 1 point per dollar from 50 to 100, 2 per dollar over 100.
EXERCISE = ((5_000, 1, 100), (10_000, 2, 100))
WHOLE_UNITS_FIRST = make_program(*EXERCISE, amount="whole_units")
FLOORED_LAST = make_program(*EXERCISE)


def round_naively(number: Fraction, rounding: str) -> int:
    """What each name says, with exact fractions."""
    return {
        "down": math.floor(number),
        "up": math.ceil(number),
        "half_up": math.floor(number + Fraction(1, 2)),
        "half_even": round(number),
    }[rounding]


def points_naively(steps: list[Step], amount: int, unit: int, round_amount: str, rounding: str) -> int:
    """Each band's part of the amount at its rate, added as exact fractions and rounded once."""
    money = amount // unit * unit if round_amount == "whole_units" else amount
    total = Fraction(0)
    for i, (start, points, per) in enumerate(steps):
        end = steps[i + 1][0] if i + 1 < len(steps) else money
        inside = max(0, min(money, end) - start)
        total += Fraction(inside * points, per)
    return round_naively(total, rounding)


@st.composite
def step_lists(draw: st.DrawFn) -> list[Step]:
    """Bands in rising order."""
    starts = sorted(draw(st.sets(st.integers(0, 20_000), min_size=1, max_size=5)))
    rates = st.tuples(st.integers(0, 30), st.sampled_from([1, 2, 3, 7, 50, 100, 333]))
    return [(start, *draw(rates)) for start in starts]


@st.composite
def rising_step_lists(draw: st.DrawFn) -> list[Step]:
    """Bands whose rates never fall from one to the next."""
    steps = draw(step_lists())
    rates = sorted([(points, per) for _, points, per in steps], key=lambda rate: Fraction(*rate))
    return [(start, points, per) for (start, _, _), (points, per) in zip(steps, rates, strict=True)]


AMOUNTS = st.integers(0, 40_000)
ROUND_AMOUNTS = st.sampled_from(["none", "whole_units"])


@given(step_lists(), AMOUNTS, st.sampled_from([1, 10, 100, 10_000]), ROUND_AMOUNTS, st.sampled_from(ROUNDINGS))
def test_points_are_the_exact_sum_rounded_once(
    steps: list[Step], amount: int, unit: int, round_amount: str, rounding: str
) -> None:
    """For any bands, amount and rounding, integers give what fractions give."""
    program = make_program(*steps, amount=round_amount, points=rounding)
    assert points_for(program, amount, unit) == points_naively(steps, amount, unit, round_amount, rounding)


@given(st.integers(0, MAX_INTEGER), st.integers(1, 10**12), st.integers(0, 10**9), st.sampled_from(ROUNDINGS))
def test_points_of_any_amount_are_exact(amount: int, per: int, points: int, rounding: str) -> None:
    """At the ends of the ranges, where a float would have lost digits, the arithmetic is still exact."""
    program = make_program((0, points, per), points=rounding)
    assert points_for(program, amount, UNIT) == round_naively(Fraction(amount * points, per), rounding)


@given(st.integers(0, 10**6), st.integers(1, 10**3), st.sampled_from(ROUNDINGS))
def test_ratio_is_rounded_as_named(numerator: int, denominator: int, rounding: Rounding) -> None:
    """Down, up, half up and half even of non-negative ratios."""
    assert round_ratio(numerator, denominator, rounding) == round_naively(Fraction(numerator, denominator), rounding)


@pytest.mark.parametrize(
    ("rounding", "halves"),
    [("down", [0, 1, 2, 3]), ("up", [1, 2, 3, 4]), ("half_up", [1, 2, 3, 4]), ("half_even", [0, 2, 2, 4])],
)
def test_halves_are_rounded_as_named(rounding: Rounding, halves: list[int]) -> None:
    """1/2, 3/2, 5/2 and 7/2: where the four ways differ."""
    assert [round_ratio(n, 2, rounding) for n in (1, 3, 5, 7)] == halves


@pytest.mark.parametrize(
    ("cents", "whole_units_first", "floored_last"),
    [
        (12_000, 90, 90),
        (10_000, 50, 50),
        (5_000, 0, 0),
        (7_500, 25, 25),
        (20_000, 250, 250),
        (12_075, 90, 91),
        (10_050, 50, 51),
        (0, 0, 0),
        (4_999, 0, 0),
        (5_099, 0, 0),
        (5_100, 1, 1),
    ],
)
def test_exercise_gives_the_published_points(cents: int, whole_units_first: int, floored_last: int) -> None:
    """Row 1: 120 gives 90; 120.75 gives 90 with whole units first, 91 with points floored last."""
    assert points_for(WHOLE_UNITS_FIRST, cents, UNIT) == whole_units_first
    assert points_for(FLOORED_LAST, cents, UNIT) == floored_last


def test_refund_by_the_original_rules_takes_back_the_difference() -> None:
    """Row 1: after a refund of 30 out of 120, f(90) = 40 of 90 points stay: 50 are taken back."""
    kept = points_for(WHOLE_UNITS_FIRST, 9_000, UNIT)
    assert kept == 40
    assert points_for(WHOLE_UNITS_FIRST, 12_000, UNIT) - kept == 50


def test_two_points_per_dollar_are_floored() -> None:
    """Row 2: 9.45 at 2 per dollar gives 18."""
    assert points_for(make_program((0, 2, 100)), 945, UNIT) == 18


def test_two_percent_back_lasts_90_days() -> None:
    """Row 6: 25.00 on 2026-01-01 gives 0.50 in cents, whose last usable day is 2026-04-01."""
    program = make_program((0, 2, 100), expiry=ExpiresAfterDays(count=90))
    assert points_for(program, 2_500, UNIT) == 50
    assert last_day(program.expiry, "2026-01-01") == "2026-04-01"


@given(step_lists(), AMOUNTS, AMOUNTS, ROUND_AMOUNTS, st.sampled_from(ROUNDINGS))
def test_more_money_never_gives_fewer_points(
    steps: list[Step], one: int, other: int, round_amount: str, rounding: str
) -> None:
    """Points never fall with the amount, and nothing gives nothing."""
    program = make_program(*steps, amount=round_amount, points=rounding)
    low, high = sorted((one, other))
    assert 0 <= points_for(program, low, UNIT) <= points_for(program, high, UNIT)
    assert points_for(program, 0, UNIT) == 0


@given(rising_step_lists(), AMOUNTS, AMOUNTS, ROUND_AMOUNTS)
def test_splitting_a_purchase_never_gains_where_rates_rise_and_points_round_down(
    steps: list[Step], one: int, other: int, round_amount: str
) -> None:
    """Two purchases never give more than one of their sum. Both conditions are needed: see the next test."""
    program = make_program(*steps, amount=round_amount)
    parts = points_for(program, one, UNIT) + points_for(program, other, UNIT)
    assert parts <= points_for(program, one + other, UNIT)


@pytest.mark.parametrize(
    ("program", "gained"),
    [
        (make_program((0, 2, 100), (1_000, 1, 100)), 10),  # rates that fall
        (make_program((0, 1, 2_000), points="up"), 1),  # 0.5 + 0.5 is 1 in one purchase, 2 in two
        (make_program((0, 1, 2_000), points="half_up"), 1),
        (make_program((0, 3, 2_000), points="half_even"), 1),  # 1.5 rounds to 2, and 3 stays 3
    ],
    ids=["falling", "up", "half_up", "half_even"],
)
def test_splitting_gains_elsewhere(program: Program, gained: int) -> None:
    """Where rates fall or points are rounded up, two purchases of 10.00 can give more than one of 20.00."""
    assert 2 * points_for(program, 1_000, UNIT) - points_for(program, 2_000, UNIT) == gained


def month_length(year: int, month: int) -> int:
    """Thirty days hath September."""
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in {4, 6, 9, 11} else 31


def months_later(year: int, month: int, day: int, months: int) -> str:
    """Month by month, clamped to the last one's end."""
    for _ in range(months):
        month += 1
        if month == 13:
            year, month = year + 1, 1
    return f"{year:04d}-{month:02d}-{min(day, month_length(year, month)):02d}"


def days_later(year: int, month: int, day: int, days: int) -> str:
    """Day by day."""
    for _ in range(days):
        day += 1
        if day > month_length(year, month):
            day, month = 1, month + 1
        if month == 13:
            year, month = year + 1, 1
    return f"{year:04d}-{month:02d}-{day:02d}"


DAYS = st.dates(date(1900, 1, 1), date(2999, 12, 31))


@given(DAYS, st.integers(0, 1_200))
def test_months_are_counted_on_the_calendar(day: date, months: int) -> None:
    """The same day of the month, or the month's last."""
    assert add_months(day, months).isoformat() == months_later(day.year, day.month, day.day, months)
    expiry = ExpiresAfterMonths(count=months)
    assert last_day(expiry, day.isoformat()) == months_later(day.year, day.month, day.day, months)


@given(DAYS, st.integers(0, 800))
def test_days_are_counted_on_the_calendar(day: date, days: int) -> None:
    """As many days later as the program says."""
    assert last_day(ExpiresAfterDays(count=days), day.isoformat()) == days_later(day.year, day.month, day.day, days)


@given(DAYS, st.integers(0, 100))
def test_year_end_is_31_december(day: date, years: int) -> None:
    """The end of the year of earning, or of a later one."""
    assert last_day(ExpiresAtYearEnd(count=years), day.isoformat()) == f"{day.year + years}-12-31"


@pytest.mark.parametrize(
    ("expiry", "earned_on", "expected"),
    [
        (ExpiresAfterMonths(count=1), "2026-01-31", "2026-02-28"),
        (ExpiresAfterMonths(count=1), "2024-01-31", "2024-02-29"),
        (ExpiresAfterMonths(count=1), "2024-01-29", "2024-02-29"),
        (ExpiresAfterMonths(count=1), "1900-01-31", "1900-02-28"),
        (ExpiresAfterMonths(count=1), "2000-01-31", "2000-02-29"),
        (ExpiresAfterMonths(count=1), "2100-01-31", "2100-02-28"),
        (ExpiresAfterMonths(count=1), "2026-02-28", "2026-03-28"),
        (ExpiresAfterMonths(count=1), "2026-03-31", "2026-04-30"),
        (ExpiresAfterMonths(count=1), "2026-12-31", "2027-01-31"),
        (ExpiresAfterMonths(count=12), "2024-02-29", "2025-02-28"),
        (ExpiresAfterMonths(count=48), "2024-02-29", "2028-02-29"),
        (ExpiresAfterMonths(count=0), "2026-05-17", "2026-05-17"),
        (ExpiresAfterMonths(count=11), "2026-01-15", "2026-12-15"),
        (ExpiresAfterMonths(count=1_200), "2999-12-31", "3099-12-31"),
        (ExpiresAfterDays(count=0), "2026-05-17", "2026-05-17"),
        (ExpiresAfterDays(count=1), "2026-12-31", "2027-01-01"),
        (ExpiresAfterDays(count=1), "2024-02-28", "2024-02-29"),
        (ExpiresAfterDays(count=366), "2024-01-01", "2025-01-01"),
        (ExpiresAfterDays(count=36_500), "2999-12-31", "3099-12-07"),
        (ExpiresAtYearEnd(count=0), "2026-01-01", "2026-12-31"),
        (ExpiresAtYearEnd(count=0), "2026-12-31", "2026-12-31"),
        (ExpiresAtYearEnd(count=100), "2999-06-01", "3099-12-31"),
        (NeverExpires(), "2026-01-01", NO_LAST_DAY),
        # West of Greenwich the first day that can be named begins in 1899, east of it the last ends in 3000.
        (ExpiresAfterDays(count=0), "1899-12-31", "1899-12-31"),
        (ExpiresAfterMonths(count=2), "1899-12-31", "1900-02-28"),
        (ExpiresAfterDays(count=1), "3000-01-01", "3000-01-02"),
    ],
    ids=str,
)
def test_last_day(expiry: Expiry, earned_on: str, expected: str) -> None:
    """Month ends, leap years, the turn of the year and the ends of the calendar."""
    assert last_day(expiry, earned_on) == expected


def test_expiry_rules_of_one_count_are_told_apart() -> None:
    """Results are kept for speed; rules with the same number in them must not be taken for one another."""
    found = [
        last_day(rule(count=3), "2026-01-31")
        for rule in (ExpiresAfterDays, ExpiresAfterMonths, ExpiresAtYearEnd, ExpiresAfterDays)
    ]
    assert found == ["2026-02-03", "2026-04-30", "2029-12-31", "2026-02-03"]


@pytest.mark.parametrize(
    ("time", "zone", "day"),
    [
        ("2026-01-01T04:59:59.999Z", "America/New_York", "2025-12-31"),
        ("2026-01-01T05:00:00.000Z", "America/New_York", "2026-01-01"),
        ("2026-07-01T03:59:59.999Z", "America/New_York", "2026-06-30"),  # daylight saving time
        ("2026-07-01T04:00:00.000Z", "America/New_York", "2026-07-01"),
        ("2026-03-29T22:00:00.000Z", "Europe/Berlin", "2026-03-30"),  # the day the clocks went forward
        ("2026-03-28T22:59:59.999Z", "Europe/Berlin", "2026-03-28"),
        ("2026-12-31T10:00:00.000Z", "Pacific/Kiritimati", "2027-01-01"),
        ("2026-01-01T10:59:59.999Z", "Pacific/Pago_Pago", "2025-12-31"),
        ("2026-05-17T18:14:59.999Z", "Asia/Kathmandu", "2026-05-17"),
        ("2026-05-17T18:15:00.000Z", "Asia/Kathmandu", "2026-05-18"),
        ("2011-12-30T09:59:59.999Z", "Pacific/Apia", "2011-12-29"),  # which had no 30 December that year
        ("2011-12-30T10:00:00.000Z", "Pacific/Apia", "2011-12-31"),
        ("1900-01-01T00:00:00.000Z", "America/New_York", "1899-12-31"),
        ("2999-12-31T23:59:59.999Z", "Asia/Tokyo", "3000-01-01"),
        ("2026-05-17T23:59:59.999Z", "UTC", "2026-05-17"),
    ],
)
def test_local_date(time: str, zone: str, day: str) -> None:
    """The day of a moment where the program is at home, daylight saving time and odd offsets included."""
    assert local_date(time, zone) == day


@given(st.integers(0, 10**8))
def test_utc_is_read_from_the_text(seconds: int) -> None:
    """The short way for UTC is the long way."""
    day, rest = divmod(seconds, 86_400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.000Z"
    time = f"{days_later(2026, 2, 25, day)}T{clock}"
    assert local_date(time, "UTC") == local_date(time, "Etc/UTC") == time[:10]


def test_time_zones_come_from_the_pinned_database_alone() -> None:
    """No zone of the machine is looked at: every machine computes the same local dates."""
    assert zoneinfo.TZPATH == ()


def version(number: int, starts: str, ends: str | None = None) -> ProgramVersion:
    return ProgramVersion(
        asset="STAR",
        version=number,
        starts=f"{starts}T00:00:00.000Z",
        ends=f"{ends}T00:00:00.000Z" if ends else None,
        program=FLOORED_LAST,
        seq=number,
    )


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2025-12-31T23:59:59.999Z", None),
        ("2026-01-01T00:00:00.000Z", 1),
        ("2026-02-28T23:59:59.999Z", 1),
        ("2026-03-01T00:00:00.000Z", 3),
        ("2026-05-31T23:59:59.999Z", 3),
        ("2026-06-01T00:00:00.000Z", 3),
        ("2999-01-01T00:00:00.000Z", 3),
    ],
)
def test_last_published_version_that_started_is_in_force(at: str, expected: int | None) -> None:
    """A later version takes over when it starts; an earlier one that would start after it never does."""
    versions = [version(1, "2026-01-01"), version(2, "2026-06-01"), version(3, "2026-03-01", "2026-05-01")]
    found = version_at(versions, at)
    assert (found.version if found else None) == expected


def test_no_version_of_an_unpublished_program() -> None:
    """An asset without program has no version at any time."""
    assert version_at((), "2026-01-01T00:00:00.000Z") is None


TIERS = Tiers(basis="amount", levels=(TierLevel(from_count=1, tier="vip"),), period="month")
PLUS = Plan(plan="plus", days=365, price=11_900)
SURVEY = GrantRule(activity="survey", max_points=10, scored=True)
GIFT = GrantRule(activity="gift", max_points=10)
PHOTO = GrantRule(activity="photo", max_points=10, evidence=True)
FALLING = (Band(from_amount=5, per=1, points=1), Band(from_amount=5, per=1, points=2))


def levels(*each: tuple[int, str]) -> tuple[TierLevel, ...]:
    return tuple(TierLevel(from_count=count, tier=tier) for count, tier in each)


def double(**when: Any) -> Multiplier:
    return Multiplier(multiplier="double", times=Ratio(numerator=2, denominator=1), when=When(**when))


def coffee(**when: Any) -> Reward:
    return Reward(reward="coffee", price=150, when=When(**when) if when else None)


@pytest.mark.parametrize(
    ("parts", "path", "words"),
    [
        ({"time_zone": "Mars/Olympus"}, ("time_zone",), "not a time zone"),
        ({"bands": FALLING}, ("bands",), "must rise"),
        ({"formulas": (Formula(formula="other", bands=FALLING),)}, ("formulas[0]", "bands"), "must rise"),
        ({"multipliers": (double(),)}, ("multipliers[0]", "when"), "asks nothing"),
        ({"multipliers": (double(tiers=("vip",)),)}, ("multipliers[0]", "when", "tiers"), "no tier vip"),
        ({"multipliers": (double(tiers=("gold",)),), "tiers": TIERS}, ("multipliers[0]", "when", "tiers"), "tier gold"),
        (
            {"benefits": (Benefit(benefit="b", when=When(plans=("plus",))),)},
            ("benefits[0]", "when", "plans"),
            "no plan",
        ),
        ({"multipliers": (double(channels=("app", "app")),)}, ("multipliers[0]", "when", "channels"), "twice"),
        ({"multipliers": (double(weekdays=("sun", "sun")),)}, ("multipliers[0]", "when", "weekdays"), "twice"),
        ({"multipliers": (double(from_day="2026-02-29"),)}, ("multipliers[0]", "when", "from_day"), "2026-02-29"),
        (
            {
                "bonuses": (
                    PurchaseBonus(bonus="b", points=1, when=When(from_day="2026-02-02", through_day="2026-02-01")),
                )
            },
            ("bonuses[0]", "when", "through_day"),
            "ends before it begins",
        ),
        ({"rewards": (coffee(channels=("app",)),)}, ("rewards[0]", "when", "channels"), "no purchase"),
        ({"rewards": (coffee(from_amount=1),)}, ("rewards[0]", "when", "from_amount"), "no purchase"),
        ({"rewards": (coffee(first_purchase=True),)}, ("rewards[0]", "when", "first_purchase"), "no purchase"),
        ({"rewards": (coffee(), coffee())}, ("rewards",), "twice"),
        ({"multipliers": (double(invited=True), double(invited=True))}, ("multipliers",), "twice"),
        ({"bonuses": (PurchaseBonus(bonus="b", points=1),) * 2}, ("bonuses",), "twice"),
        ({"formulas": (Formula(formula="other", bands=FALLING[:1]),) * 2}, ("formulas",), "twice"),
        ({"grants": (GIFT, GIFT)}, ("grants",), "twice"),
        ({"plans": (PLUS, PLUS)}, ("plans",), "twice"),
        ({"excluded_categories": ("taxes", "taxes")}, ("excluded_categories",), "twice"),
        (
            {"rewards": tuple(Reward(reward=name, price=1, automatic=True) for name in "ab")},
            ("rewards[1]", "automatic"),
            "only one",
        ),
        ({"tiers": replace(TIERS, levels=levels((1, "a"), (1, "b")))}, ("tiers", "levels[1]", "from"), "must rise"),
        ({"tiers": replace(TIERS, levels=levels((1, "a"), (2, "a")))}, ("tiers", "levels"), "twice"),
        ({"tiers": replace(TIERS, window=60, kept=60)}, ("tiers", "window"), "at most"),
        ({"stacking": "sum"}, ("stacking",), "no multipliers"),
        ({"reminders": Reminders()}, ("reminders",), "no reminders"),
        ({"reminders": Reminders(expiring_days=(7, 7))}, ("reminders", "expiring_days"), "twice"),
        ({"birthday": Birthday(activity="gift", points=1)}, ("birthday", "activity"), "grants nothing"),
        ({"birthday": Birthday(activity="gift", points=11), "grants": (GIFT,)}, ("birthday", "points"), "at most 10"),
        ({"birthday": Birthday(activity="survey", points=1), "grants": (SURVEY,)}, ("birthday", "activity"), "nobody"),
        (
            {"birthday": Birthday(activity="photo", points=1), "grants": (PHOTO,)},
            ("birthday", "activity"),
            "nobody gives",
        ),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else "",
)
def test_program_that_says_what_cannot_be_is_refused(parts: dict[str, Any], path: tuple[str, ...], words: str) -> None:
    """Order, names that are there twice or not at all, and conditions that ask nothing: with the part to mend."""
    with pytest.raises(ProgramError, match=words) as refused:
        check_program(replace(FLOORED_LAST, **parts))
    assert refused.value.path == path


def test_program_with_all_of_the_parts_is_well_formed() -> None:
    """Each part at its bounds, and referring to the others."""
    automatic = Reward(reward="voucher", price=1_000, automatic=True, worth=1_000, valid_days=30)
    program = replace(
        FLOORED_LAST,
        benefits=(Benefit(benefit="b", when=When(from_amount=1)), Benefit(benefit="b", when=When(plans=("plus",)))),
        birthday=Birthday(activity="gift", points=10),
        bonuses=(PurchaseBonus(bonus="b", points=1, when=When(first_purchase=True)),),
        formulas=(Formula(formula="other", bands=FALLING[:1], quantity="miles"),),
        grants=(GIFT, SURVEY),
        multipliers=(double(tiers=("vip",), from_day="2024-02-29", through_day="2024-02-29"),),
        plans=(PLUS,),
        reminders=Reminders(expiring_days=(7, 30)),
        rewards=(coffee(tiers=("vip",), plans=("plus",), weekdays=("sun",), within_days=30), automatic),
        stacking="product",
        tiers=replace(TIERS, window=60, kept=59),
    )
    check_program(program)
