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
from datetime import date, timedelta
from functools import lru_cache

from msgspec import Struct

from ledger.encoding import parse_moment
from ledger.entries import NO_LAST_DAY
from ledger.terms import ExpiresAfterDays, ExpiresAfterMonths, ExpiresAtYearEnd, Expiry, Program, Rounding


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


def last_day(expiry: Expiry, earned_on: str) -> str:
    """The last day points earned on a local date can be used; :data:`NO_LAST_DAY` when they never expire."""
    return _last_day(expiry, earned_on)


@lru_cache(maxsize=65_536)
def _last_day(expiry: Expiry, earned_on: str) -> str:
    day = date.fromisoformat(earned_on)  # may be the last day of 1899, west of Greenwich
    match expiry:
        case ExpiresAfterDays(count=count):
            return (day + timedelta(days=count)).isoformat()
        case ExpiresAfterMonths(count=count):
            return add_months(day, count).isoformat()
        case ExpiresAtYearEnd(count=count):
            return date(day.year + count, 12, 31).isoformat()
    return NO_LAST_DAY


def add_months(day: date, months: int) -> date:
    """The same day of the month ``months`` later, clamped to the month's end (31 January + 1 month = 28 February)."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def version_at(versions: Sequence[ProgramVersion], at: str) -> ProgramVersion | None:
    """The version in force at a time: the last published of those that have started; ``None`` before any has."""
    started = [version for version in versions if version.starts <= at]
    return started[-1] if started else None
