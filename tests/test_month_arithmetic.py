"""Month arithmetic: the last day by every kind of expiry, against a calendar that is walked day by day.

Programs count months differently, so the language names each way. The naive reference here knows only what day comes
after another; ends of months and years, leap years and anniversaries follow from that.
"""

from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.entries import NO_LAST_DAY
from ledger.program_terms import (
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAfterMonths,
    ExpiresAtMembershipYearEnd,
    ExpiresAtMonthEnd,
    ExpiresAtYearEnd,
    Expiry,
    NeverExpires,
)
from ledger.programs import anniversary, last_anniversary, last_day


def days(count: int) -> Expiry:
    return ExpiresAfterDays(count=count)


def months(count: int) -> Expiry:
    return ExpiresAfterMonths(count=count)


def inactive(count: int) -> Expiry:
    return ExpiresAfterInactivity(months=count)


def month_end(count: int) -> Expiry:
    return ExpiresAtMonthEnd(count=count)


def year_end(count: int) -> Expiry:
    return ExpiresAtYearEnd(count=count)


def membership_year(count: int) -> Expiry:
    return ExpiresAtMembershipYearEnd(count=count)


@pytest.mark.parametrize(
    ("expiry", "earned_on", "joined_on", "expected"),
    [
        # N days after.
        (days(90), "2026-01-01", None, "2026-04-01"),
        (days(90), "2024-01-01", None, "2024-03-31"),
        (days(1), "2024-02-28", None, "2024-02-29"),
        (days(1), "2100-02-28", None, "2100-03-01"),
        (days(365), "2026-03-01", None, "2027-03-01"),
        (days(0), "2026-12-31", None, "2026-12-31"),
        # N months after, clamped to the month's end.
        (months(1), "2026-01-31", None, "2026-02-28"),
        (months(1), "2024-01-30", None, "2024-02-29"),
        (months(1), "2026-02-28", None, "2026-03-28"),
        (months(6), "2026-08-31", None, "2027-02-28"),
        (months(12), "2024-02-29", None, "2025-02-28"),
        (months(13), "2026-12-31", None, "2028-01-31"),
        # N months of inactivity: what this earning alone would give.
        (inactive(1), "2026-01-31", None, "2026-02-28"),
        (inactive(18), "2024-08-31", None, "2026-02-28"),
        (inactive(12), "2024-02-29", None, "2025-02-28"),
        # End of the Nth month after the month of earning (a published program: earned 2020-12-15, 6 months).
        (month_end(6), "2020-12-15", None, "2021-06-30"),
        (month_end(0), "2026-02-01", None, "2026-02-28"),
        (month_end(0), "2024-02-29", None, "2024-02-29"),
        (month_end(1), "2026-01-31", None, "2026-02-28"),
        (month_end(1), "2026-02-28", None, "2026-03-31"),  # not the 28th: the end of March
        (month_end(12), "2024-02-29", None, "2025-02-28"),
        (month_end(12), "2023-02-28", None, "2024-02-29"),
        (month_end(1), "2026-11-30", None, "2026-12-31"),
        (month_end(1), "2026-12-01", None, "2027-01-31"),
        (month_end(1_200), "2999-12-01", None, "3099-12-31"),
        (month_end(0), "1899-12-31", None, "1899-12-31"),
        # End of the calendar year, or a later one.
        (year_end(0), "2026-01-01", None, "2026-12-31"),
        (year_end(0), "2026-12-31", None, "2026-12-31"),
        (year_end(1), "2024-02-29", None, "2025-12-31"),
        # End of the membership year: the day before an anniversary of joining.
        (membership_year(0), "2026-05-17", "2025-09-10", "2026-09-09"),
        (membership_year(0), "2026-09-09", "2025-09-10", "2026-09-09"),
        (membership_year(0), "2026-09-10", "2025-09-10", "2027-09-09"),  # an anniversary begins the next year
        (membership_year(0), "2025-09-10", "2025-09-10", "2026-09-09"),  # the day of joining too
        (membership_year(1), "2026-05-17", "2025-09-10", "2027-09-09"),
        (membership_year(0), "2025-12-31", "2025-01-01", "2025-12-31"),
        (membership_year(0), "2025-02-27", "2024-02-29", "2025-02-27"),  # 28 February 2025 is the anniversary
        (membership_year(0), "2025-02-28", "2024-02-29", "2026-02-27"),
        (membership_year(0), "2025-03-01", "2024-02-29", "2026-02-27"),
        (membership_year(0), "2027-03-01", "2024-02-29", "2028-02-28"),  # 29 February again in a leap year
        (membership_year(0), "2028-02-28", "2024-02-29", "2028-02-28"),
        (membership_year(0), "2028-02-29", "2024-02-29", "2029-02-27"),
        (membership_year(3), "2025-02-27", "2024-02-29", "2028-02-28"),
        (membership_year(0), "2100-02-27", "2096-02-29", "2100-02-27"),  # 2100 has no 29 February
        (membership_year(0), "2026-05-31", "2026-01-31", "2027-01-30"),
        (membership_year(0), "2026-05-17", "2026-06-01", "2026-05-31"),  # a purchase before the day of joining
        (membership_year(0), "2024-06-01", "2026-06-01", "2025-05-31"),
        (membership_year(0), "2026-05-17", None, "2027-05-16"),  # nobody joined: the year begins with the earning
        (membership_year(0), "2024-02-29", None, "2025-02-27"),
        (membership_year(100), "2999-12-31", "2999-12-31", "3100-12-30"),
        (NeverExpires(), "2024-02-29", "2024-02-29", NO_LAST_DAY),
    ],
    ids=str,
)
def test_last_day(expiry: Expiry, earned_on: str, joined_on: str | None, expected: str) -> None:
    """Each kind at the ends of months and years, in leap years, and for members who joined on 29 February."""
    assert last_day(expiry, earned_on, joined_on) == expected


def is_month_end(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


def is_anniversary(joined: date, day: date) -> bool:
    """The same day of a year, or 28 February of a year that has no 29th for who joined then."""
    if (joined.month, joined.day) == (2, 29):
        return day.month == 2 and is_month_end(day)
    return (day.month, day.day) == (joined.month, joined.day)


def walk(day: date, count: int, stops: object) -> date:
    """The ``count``-th day at which a walk stops, after a day."""
    assert callable(stops)
    while count:
        day += timedelta(days=1)
        count -= bool(stops(day))
    return day


def months_on(day: date, count: int) -> date:
    """Over so many first days of a month, and on to the same day or the month's last."""
    found = walk(day, count, lambda each: each.day == 1) if count else day
    while found.day < day.day and not is_month_end(found):
        found += timedelta(days=1)
    return found


def last_day_naively(expiry: Expiry, day: date, joined: date) -> str:
    match expiry:
        case ExpiresAfterDays(count=count):
            found = walk(day, count, lambda _: True)
        case ExpiresAfterMonths(count=count) | ExpiresAfterInactivity(months=count):
            found = months_on(day, count)
        case ExpiresAtMonthEnd(count=count):
            found = walk(day - timedelta(days=1), count + 1, is_month_end)
        case ExpiresAtYearEnd(count=count):
            found = walk(day - timedelta(days=1), count + 1, lambda each: (each.month, each.day) == (12, 31))
        case ExpiresAtMembershipYearEnd(count=count):
            found = walk(day, count + 1, lambda each: is_anniversary(joined, each)) - timedelta(days=1)
        case _:
            return NO_LAST_DAY
    return found.isoformat()


KINDS = st.sampled_from([days, months, inactive, month_end, year_end, membership_year])
DAYS = st.dates(date(1900, 1, 1), date(2999, 12, 31))
MONTH_ENDS = st.builds(lambda day: walk(day, 1, is_month_end), DAYS)  # where the ways differ most
ANY_DAY = DAYS | MONTH_ENDS | st.sampled_from([date(2024, 2, 29), date(2096, 2, 29), date(2000, 2, 29)])


@given(KINDS, st.integers(1, 5), ANY_DAY, ANY_DAY)
@example(membership_year, 4, date(2096, 2, 29), date(2096, 2, 29))  # over 2100, which is no leap year
@example(membership_year, 1, date(1900, 2, 28), date(2024, 2, 29))  # joined long after
def test_last_day_is_where_a_walk_over_the_calendar_ends(kind: object, count: int, day: date, joined: date) -> None:
    """For any days, months ends and leap days among them, calculation finds what walking day by day finds."""
    assert callable(kind)
    expiry = kind(count)
    assert last_day(expiry, day.isoformat(), joined.isoformat()) == last_day_naively(expiry, day, joined)


@given(ANY_DAY, ANY_DAY)
def test_every_day_is_in_one_membership_year(joined: date, day: date) -> None:
    """The last anniversary is on the day or before it, the next one after it, and both are anniversaries."""
    begun = last_anniversary(joined, day)
    ends = anniversary(joined, begun.year - joined.year + 1)
    assert begun <= day < ends
    assert is_anniversary(joined, begun)
    assert is_anniversary(joined, ends)


@given(ANY_DAY, st.integers(1, 1_200))
def test_ways_of_counting_months_agree_where_they_should(day: date, count: int) -> None:
    """The end of the Nth month is never before N months after, is in the same month, and is that month's last day."""
    after, end = (last_day(kind(count), day.isoformat()) for kind in (months, month_end))
    assert after <= end
    assert after[:7] == end[:7]
    assert is_month_end(date.fromisoformat(end))


def test_expiry_by_days_and_months_does_not_ask_when_someone_joined() -> None:
    """Only the end of a membership year does."""
    for kind in (days, months, inactive, month_end, year_end):
        assert last_day(kind(2), "2026-01-31", "2024-02-29") == last_day(kind(2), "2026-01-31")
