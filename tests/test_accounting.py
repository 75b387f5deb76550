"""Arithmetic of accounts: allocation, deferred revenue, liability and breakage, and what nettings take the place of."""

from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.accounting import (
    Allocation,
    EstimateError,
    OpenClaims,
    Owed,
    Period,
    allocate,
    breakage_rate,
    day_start,
    liability,
    recognise,
    returned_by_lapse,
    rounded,
)
from ledger.encoding import format_time, parse_time
from ledger.entries import Posting
from ledger.programs import local_date
from ledger.terms import time_zones

ONE = Fraction(1)
EXPECTED = Fraction(9_500, 10_000)


def period(**fields: Any) -> Period:
    return Period(**{"sales": 0, "earned": 0, "redeemed": 0, "redemption_rate": EXPECTED, **fields})


# Deferred revenue


def test_example_52_of_the_standards_comes_out_to_the_unit() -> None:
    """IFRS 15 IE267 to IE270 and ASC 606-10-55-353 to 356, whose figures are in units of currency."""
    first, second = recognise(
        [
            period(sales=100_000, earned=10_000, redeemed=4_500),
            period(redeemed=4_000, redemption_rate=Fraction(9_700, 10_000)),
        ],
        ONE,
    )
    assert first.allocated == Allocation(product=91_324, points=8_676)
    assert (first.revenue, first.liability) == (4_110, 4_566)
    assert second.allocated == Allocation(product=0, points=0)
    assert (second.revenue, second.liability, second.revenue_so_far) == (3_493, 1_073, 7_603)
    assert (second.redeemed, second.issued) == (8_500, 10_000)
    assert second.expected == 9_700


def test_allocation_of_points_nobody_is_expected_to_spend_is_nothing() -> None:
    assert allocate(100_000, 10_000, Fraction(0), ONE) == Allocation(product=100_000, points=0)
    assert allocate(0, 10_000, EXPECTED, ONE) == Allocation(product=0, points=0)
    assert allocate(0, 0, EXPECTED, ONE) == Allocation(product=0, points=0)


@pytest.mark.parametrize(("sales", "points", "part"), [(1, 1, 1), (3, 1, 1), (2, 1, 1), (5, 1, 1), (7, 7, 4)])
def test_allocation_rounds_half_up_and_product_has_the_rest(sales: int, points: int, part: int) -> None:
    """1 with 1 point worth 1: a half; 3: 0.75; 2: 0.67; 5: 0.83; 7 with 7 points: 3.5."""
    assert allocate(sales, points, ONE, ONE) == Allocation(product=sales - part, points=part)


def test_estimate_that_rises_takes_revenue_back() -> None:
    """A cumulative catch-up: only the period of the new estimate changes."""
    periods = [
        period(sales=100_000, earned=10_000, redeemed=4_500, redemption_rate=Fraction(1, 2)),
        period(redemption_rate=Fraction(9, 10)),
    ]
    first, second = recognise(periods, ONE)
    (alone,) = recognise(periods[:1], ONE)
    assert first == alone
    assert second.revenue < 0
    assert first.revenue + second.revenue == second.revenue_so_far


def test_all_is_revenue_when_no_more_is_expected() -> None:
    """The last expected point was spent, or none ever will be: nothing is owed any more."""
    spent, never = (
        recognise([period(sales=100_000, earned=10_000, redeemed=n, redemption_rate=r)], ONE)[0]
        for n, r in [(8_000, Fraction(8, 10)), (0, Fraction(0))]
    )
    assert (spent.liability, spent.revenue) == (0, spent.allocated.points)
    assert (never.liability, never.revenue) == (0, 0)
    given_up = recognise([period(sales=100_000, earned=10_000), period(redemption_rate=Fraction(0))], ONE)[1]
    assert (given_up.revenue, given_up.liability) == (8_676, 0)


@pytest.mark.parametrize("rate", [Fraction(-1, 10), Fraction(11, 10)])
def test_share_that_is_none_is_refused(rate: Fraction) -> None:
    with pytest.raises(EstimateError, match="from 0 to 1"):
        recognise([period(redemption_rate=rate)], ONE)


def test_estimate_below_what_was_spent_is_refused_with_its_period() -> None:
    periods = [period(sales=100, earned=10, redeemed=1), period(redeemed=8, redemption_rate=Fraction(1, 2))]
    with pytest.raises(EstimateError, match="9 points of 10 were spent") as refused:
        recognise(periods, ONE)
    assert refused.value.period == 1


def test_refund_releases_at_the_average_at_which_points_were_deferred() -> None:
    """Half of the points are taken back, with half of what was deferred for them, whatever is expected now."""
    sold = period(sales=100_000, earned=10_000)
    half = period(refunded_sales=50_000, taken_back=5_000, redemption_rate=ONE)
    rest = period(refunded_sales=50_000, taken_back=5_000)
    _, refunded, empty = recognise([sold, half, rest], ONE)
    assert (refunded.released, refunded.liability, refunded.issued) == (4_338, 4_338, 5_000)
    assert (empty.released, empty.liability, empty.revenue_so_far, empty.issued) == (4_338, 0, 0, 0)


def test_points_without_a_sale_share_in_what_is_spent() -> None:
    """Of 10,000 points half were given away: 4,500 spent and 9,500 expected are of both alike."""
    (mixed,) = recognise([period(sales=50_000, earned=5_000, other_points=5_000, redeemed=4_500)], ONE)
    assert mixed.allocated == allocate(50_000, 5_000, EXPECTED, ONE)
    assert mixed.revenue == rounded(mixed.allocated.points * Fraction(4_500, 9_500))


amounts = st.integers(0, 10**12)
rates = st.fractions(0, 1, max_denominator=10_000)


@given(sales=amounts, points=amounts, rate=rates, price=st.fractions(0, 1_000, max_denominator=1_000))
def test_allocation_sums_to_the_sales_and_errs_by_half_a_unit(
    sales: int, points: int, rate: Fraction, price: Fraction
) -> None:
    parts = allocate(sales, points, rate, price)
    assert parts.product + parts.points == sales
    assert 0 <= parts.points <= sales
    worth = points * rate * price
    if sales and worth:
        assert abs(parts.points * (sales + worth) - sales * worth) * 2 <= sales + worth


@st.composite
def histories(draw: st.DrawFn) -> list[Period]:
    """Periods that could be: no more is taken back than was given, none spent that was not there."""
    periods, issued, redeemed, earned = [], 0, 0, 0
    for _ in range(draw(st.integers(1, 6))):
        new, other = draw(st.integers(0, 1_000)), draw(st.integers(0, 100))
        back = draw(st.integers(0, min(earned + new, issued + new + other - redeemed)))
        issued, earned = issued + new + other - back, earned + new - back
        spent = draw(st.integers(-redeemed, issued - redeemed))
        redeemed += spent
        share = Fraction(redeemed, issued) if issued else Fraction(0)
        rate = share + (1 - share) * draw(rates)
        sales = draw(st.integers(0, 10_000)) if new else 0
        fields = {"taken_back": back, "other_points": other, "redeemed": spent}
        periods.append(Period(sales=sales, earned=new, redemption_rate=rate, **fields))
    return periods


@given(histories(), st.fractions(0, 10, max_denominator=100))
def test_what_was_deferred_is_recognised_released_or_still_owed(periods: list[Period], price: Fraction) -> None:
    """To the unit, after each period; and a period's revenue does not depend on what comes later."""
    deferred = 0
    revenue = 0
    rows = recognise(periods, price)
    for number, row in enumerate(rows):
        deferred += row.allocated.points - row.released
        revenue += row.revenue
        assert deferred == revenue + row.liability
        assert revenue == row.revenue_so_far
        assert row.liability >= 0
        assert recognise(periods[: number + 1], price) == rows[: number + 1]


# Liability and breakage


def test_liability_is_points_by_share_by_cost_rounded_once() -> None:
    """1,001 points at 0.7 cents, of which 95 % are expected: 665.665 cents."""
    assert liability(1_001, Fraction(95, 100), Fraction(7, 10)) == 666
    assert liability(1, ONE, Fraction(1, 2)) == 1
    assert liability(1, ONE, Fraction(499, 1_000)) == 0


def test_debts_are_no_negative_liability() -> None:
    """Members may owe points after refunds; a merchant owes nothing for these."""
    assert liability(-5, ONE, ONE) == 0


def test_breakage_is_what_nobody_spent_of_lots_that_ended() -> None:
    assert breakage_rate(200, 30) == Fraction(3, 20)
    assert breakage_rate(0, 0) is None


# Days


def test_day_begins_at_midnight_of_its_time_zone() -> None:
    assert day_start(date(2026, 3, 2), "UTC") == "2026-03-02T00:00:00.000Z"
    assert day_start(date(2026, 3, 2), "Asia/Tokyo") == "2026-03-01T15:00:00.000Z"
    assert day_start(date(2026, 7, 1), "America/New_York") == "2026-07-01T04:00:00.000Z"


def test_day_without_midnight_begins_when_clocks_skip_it() -> None:
    """In Havana clocks went from 0:00 to 1:00 on 2026-03-08."""
    assert day_start(date(2026, 3, 8), "America/Havana") == "2026-03-08T05:00:00.000Z"


@given(
    day=st.dates(date(1990, 1, 1), date(2037, 12, 31)),
    zone=st.sampled_from(sorted(time_zones())),
)
def test_day_begins_where_the_local_date_changes(day: date, zone: str) -> None:
    """The millisecond before is of an earlier day; a zone that skipped the whole day begins it with the next."""
    start = day_start(day, zone)
    assert local_date(format_time(parse_time(start) - 1), zone) < day.isoformat()
    assert local_date(start, zone) in {day.isoformat(), (day + timedelta(days=1)).isoformat()}


# Lapsed holds


def leg(account: str, amount: int, lot: str | None = None) -> Posting:
    return Posting(account=account, amount=amount, asset="STAR", lot=lot)


def test_points_of_lapsed_holds_are_told_from_those_taken_after() -> None:
    """Two holds return, of one two lots; then the entry takes points from the same lot."""
    legs = [
        leg("sys_held", -30),
        leg("mem_a", 10, "2026-01-31"),
        leg("mem_a", 20),
        leg("sys_held", -5),
        leg("mem_a", 5, "2026-01-31"),
        leg("mem_a", -12, "2026-01-31"),
        leg("sys_issued", 12),
    ]
    assert returned_by_lapse(legs, "sys_held") == {"2026-01-31": 15, "": 20}


def test_entry_without_lapsed_holds_returns_nothing() -> None:
    assert returned_by_lapse([leg("mem_a", -12), leg("sys_issued", 12)], "sys_held") == {}


# Open claims

A, B, C, MEMBER = "mer_a", "mer_b", "mer_c", "mem_m"


def test_netting_clears_both_directions_and_puts_payments_in_their_place() -> None:
    claims = OpenClaims()
    claims.claim(A, B, "2026-03-01", 500)
    claims.claim(B, A, "2026-03-01", 200)
    claims.claim(B, C, "2026-03-02", 100)
    claims.claim(MEMBER, A, "2026-03-01", 7)
    cleared = claims.net(9, [A, B, C], "2026-03-02", [Owed(A, B, 200), Owed(A, C, 100)])
    assert cleared == [Owed(A, B, 500), Owed(B, A, 200), Owed(B, C, 100)]
    assert list(claims) == [Owed(MEMBER, A, 7), Owed(A, B, 200), Owed(A, C, 100)]


def test_netting_leaves_later_days_earlier_payments_and_others_alone() -> None:
    claims = OpenClaims()
    claims.claim(A, B, "2026-03-01", 500)
    assert claims.net(1, [A, B], "2026-03-01", [Owed(A, B, 500)]) == [Owed(A, B, 500)]
    claims.claim(A, B, "2026-03-03", 10)
    claims.claim(A, C, "2026-03-02", 20)
    claims.claim(A, B, "2026-03-02", 1)
    assert claims.net(2, [A, B], "2026-03-02", [Owed(A, B, 1)]) == [Owed(A, B, 1)]
    assert list(claims) == [Owed(A, B, 511), Owed(A, C, 20)]


def test_settlement_takes_netted_debts_first_then_claims_by_day() -> None:
    """What is left to be netted says what was taken."""
    claims = OpenClaims()
    claims.claim(A, B, "2026-03-01", 100)
    claims.net(1, [A, B], "2026-03-01", [Owed(A, B, 100)])
    claims.claim(A, B, "2026-03-03", 30)
    claims.claim(A, B, "2026-03-02", 20)
    claims.settle(A, B, 125)
    assert claims.net(2, [A, B], "2026-03-03", []) == [Owed(A, B, 25)]
    assert list(claims) == []


def test_disputed_claim_is_not_netted_and_stands_for_the_next() -> None:
    claims = OpenClaims()
    claims.claim(A, B, "2026-03-01", 100)
    claims.claim(A, B, "2026-03-01", -40)
    assert claims.net(1, [A, B], "2026-03-01", [Owed(A, B, 60)]) == [Owed(A, B, 60)]
    claims.claim(A, B, "2026-03-01", 40)
    assert claims.net(2, [A, B], "2026-03-05", [Owed(A, B, 40)]) == [Owed(A, B, 40)]


def test_netting_of_nothing_clears_nothing() -> None:
    claims = OpenClaims()
    claims.claim(A, B, "2026-03-01", 100)
    claims.claim(A, B, "2026-03-01", -100)
    assert claims.net(1, [A, B, C], "2026-03-01", []) == []
