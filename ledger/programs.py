"""What a program gives: points for a purchase, and the last day they can be used.

Pure functions of the program's document. All arithmetic is on integers: the bands' rates are brought to one common
denominator, summed exactly, and rounded once, the way the program says.

Worked example (a published exercise: 2 points for every unit over 100, 1 for every unit from 50 to 100), 120.75::

    round_amount "whole_units": 120 → 50·1 + 20·2 = 90
    round_amount "none", round_points "down": 50·1 + 20.75·2 = 91.5 → 91
"""

import calendar
import math
import zoneinfo
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from ledger.encoding import format_time, parse_moment
from ledger.entries import NO_LAST_DAY
from ledger.program_terms import (
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAfterMonths,
    ExpiresAtMembershipYearEnd,
    ExpiresAtMonthEnd,
    ExpiresAtYearEnd,
    Expiry,
    Program,
)
from ledger.terms import Rounding


class ProgramVersion(Struct, frozen=True, kw_only=True):
    """A published version: in force for purchases with ``starts <= at < ends``; ``seq`` is the entry that has it."""

    asset: str
    version: int
    starts: str
    ends: str | None
    program: Program
    seq: int


def points_for(program: Program, amount: int, unit: int) -> int:
    """Points a purchase of ``amount`` minor units earns; ``unit`` is the minor units in one unit of the currency."""
    if program.round_amount == "whole_units":
        amount -= amount % unit
    steps, denominator = _steps(program.bands)
    numerator = 0
    for start, end, rate in steps:
        if amount <= start:
            break
        numerator += ((amount if end is None or amount < end else end) - start) * rate
    return round_ratio(numerator, denominator, program.round_points)


@lru_cache(maxsize=1024)
def _steps(bands: tuple) -> tuple[tuple[tuple[int, int | None, int], ...], int]:  # type: ignore[type-arg]
    """Bands as (from, to, rate) with every rate over one common denominator."""
    denominator = math.lcm(*(band.per for band in bands))
    ends: Sequence[int | None] = [*(band.from_amount for band in bands[1:]), None]
    steps = tuple(
        (band.from_amount, end, band.points * (denominator // band.per)) for band, end in zip(bands, ends, strict=True)
    )
    return steps, denominator


def round_ratio(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Round a ratio of two non-negative integers to an integer."""
    whole, rest = divmod(numerator, denominator)
    if rest == 0 or rounding == "down":
        return whole
    if rounding == "up":
        return whole + 1
    twice = 2 * rest
    if twice == denominator:
        return whole + (whole & 1 if rounding == "half_even" else 1)
    return whole + (1 if twice > denominator else 0)


@lru_cache(maxsize=65_536)
def local_date(time: str, time_zone: str) -> str:
    """The calendar date of a time in a time zone of the IANA database, ``YYYY-MM-DD``."""
    if time_zone == "UTC":
        return time[:10]
    return parse_moment(time).astimezone(zoneinfo.ZoneInfo(time_zone)).date().isoformat()


@lru_cache(maxsize=4_096)
def noon_of(day: str, time_zone: str) -> str:
    """The time at which it is noon on a local date: a time that every date has, in every zone."""
    year, month, number = (int(part) for part in day.split("-"))
    noon = datetime(year, month, number, 12, tzinfo=zoneinfo.ZoneInfo(time_zone))
    return format_time(calendar.timegm(noon.utctimetuple()) * 1_000)


def last_day(expiry: Expiry, earned_on: str, joined_on: str | None = None) -> str:
    """The last day points earned on a local date can be used; :data:`NO_LAST_DAY` when they never expire.

    ``joined_on`` is the day on which their holder joined, for those that expire with a membership year; absent, it is
    the day of earning. Points that expire by inactivity have the last day that this earning alone gives them.
    """
    return _last_day(expiry, earned_on, joined_on if isinstance(expiry, ExpiresAtMembershipYearEnd) else None)


@lru_cache(maxsize=65_536)
def _last_day(expiry: Expiry, earned_on: str, joined_on: str | None) -> str:
    day = date.fromisoformat(earned_on)  # may be the last day of 1899, west of Greenwich
    match expiry:
        case ExpiresAfterDays(count=count):
            return (day + timedelta(days=count)).isoformat()
        case ExpiresAfterMonths(count=months) | ExpiresAfterInactivity(months=months):
            return add_months(day, months).isoformat()
        case ExpiresAtYearEnd(count=count):
            return date(day.year + count, 12, 31).isoformat()
        case ExpiresAtMonthEnd(count=count):
            return _month_end(add_months(day, count)).isoformat()
        case ExpiresAtMembershipYearEnd(count=count):
            joined = day if joined_on is None else date.fromisoformat(joined_on)
            years = last_anniversary(joined, day).year + 1 + count - joined.year
            return (anniversary(joined, years) - timedelta(days=1)).isoformat()
    return NO_LAST_DAY


def _month_end(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def anniversary(joined: date, years: int) -> date:
    """The anniversary of joining so many years later, or earlier; of 29 February it is the 28th in other years."""
    return add_months(joined, 12 * years)


def last_anniversary(joined: date, day: date) -> date:
    """The anniversary of joining, or the day of joining itself, that is on a day or was the last before it."""
    this_year = anniversary(joined, day.year - joined.year)
    return this_year if this_year <= day else anniversary(joined, day.year - joined.year - 1)


def add_months(day: date, months: int) -> date:
    """The same day of the month ``months`` later, clamped to the month's end (31 January + 1 month = 28 February)."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def version_at(versions: Sequence[ProgramVersion], at: str) -> ProgramVersion | None:
    """The version in force at a time: the last published of those that have started; ``None`` before any has."""
    started = [version for version in versions if version.starts <= at]
    return started[-1] if started else None
