"""Standing: in which tier of a program a member is on a day, and how long it stays there if nothing more happens.

A pure function of what the member did in each period, of the day it joined, and of the program's :class:`Tiers`. Nobody
promotes or demotes anyone: a refund takes from the period of its purchase and the tier is what it would have been, a
new version of the program judges what was done before by its own levels.

Worked example (350.00 and 1,000.00 a calendar year, ``kept`` 1): 350.00 spent in March 2025 is the lower tier from
that purchase on, through 2026-12-31. With a grace of 30 days it lasts through 2027-01-30.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import lru_cache

from msgspec import Struct

from ledger.entries import NO_LAST_DAY
from ledger.program_terms import TierLevel, Tiers
from ledger.programs import anniversary, last_anniversary


class Standing(Struct, frozen=True, gc=False):
    """A member's ``tier`` and its ``level`` on a day, both ``None`` below the lowest.

    ``until`` is the last local date on which it is still in this tier or a higher one if nothing more happens;
    :data:`NO_LAST_DAY` if that is for ever.
    """

    tier: str | None
    level: TierLevel | None
    until: str


NOWHERE = Standing(None, None, NO_LAST_DAY)
"""Where a member stands who is in no tier, or in a program without any."""


def period_of_day(tiers: Tiers, joined_on: str, day: str) -> str:
    """The name of the period a local date is in: ``2026``, ``2026-11``, or the first day of a membership year.

    Membership years begin on the day of joining and its anniversaries (of 29 February: on the 28th in other years),
    those before the member joined too.
    """
    if tiers.period == "calendar_year":
        return day[:4]
    if tiers.period == "month":
        return day[:7]
    return _calendar(tiers.period, joined_on).first_day(_number(tiers, joined_on, day)).isoformat()


def standing_at(tiers: Tiers, counts: Mapping[str, int], joined_on: str, day: str) -> Standing:
    """Where a member stands on a local date.

    ``counts`` has what it did by period, of what the tiers count, as far as it did anything; periods are named as by
    :func:`period_of_day`.
    """
    ladder = _Ladder(tiers, counts, _calendar(tiers.period, joined_on))
    index, until = ladder.at(day)
    if index < 0:
        return NOWHERE
    level = tiers.levels[index]
    return Standing(level.tier, level, NO_LAST_DAY if until is None else until.isoformat())


class _Calendar(Struct, frozen=True, gc=False):
    """Periods as numbers that follow each other: the year they begin in, or the number of the month since year 0.

    Their names have ``width`` characters, by which they are told from those of another kind of period.
    """

    width: int
    of_day: Callable[[date], int]
    of_name: Callable[[str], int]
    first_day: Callable[[int], date]


def _month_number(name: str) -> int:
    return int(name[:4]) * 12 + int(name[5:7]) - 1


def _year_number(name: str) -> int:
    return int(name[:4])


_YEARS = _Calendar(4, lambda day: day.year, _year_number, lambda year: date(year, 1, 1))
_MONTHS = _Calendar(
    7,
    lambda day: day.year * 12 + day.month - 1,
    _month_number,
    lambda number: date(number // 12, number % 12 + 1, 1),
)


@lru_cache(maxsize=4_096)
def _membership_years(joined_on: str) -> _Calendar:
    joined = date.fromisoformat(joined_on)
    return _Calendar(
        10,
        lambda day: last_anniversary(joined, day).year,
        _year_number,
        lambda year: anniversary(joined, year - joined.year),
    )


def _calendar(period: str, joined_on: str) -> _Calendar:
    if period == "calendar_year":
        return _YEARS
    return _MONTHS if period == "month" else _membership_years(joined_on)


def _number(tiers: Tiers, joined_on: str, day: str) -> int:
    return _calendar(tiers.period, joined_on).of_day(date.fromisoformat(day))


class _Ladder:
    """One member's way up and down: which level each period gives it, found once for each. Levels are indexes, or -1.

    Every loop is bounded by the periods that tiers look back on (see :data:`MAX_TIER_PERIODS`) and, where ``until`` is
    looked for in the past, by the periods from there to the last one in which something was counted.
    """

    def __init__(self, tiers: Tiers, counts: Mapping[str, int], calendar: _Calendar) -> None:
        self.calendar = calendar
        self.tiers = tiers
        self.thresholds = [level.from_count for level in tiers.levels]
        # What was counted while tiers had another kind of period does not count in these.
        named = ((period, count) for period, count in counts.items() if len(period) == calendar.width)
        self.counts = {calendar.of_name(period): count for period, count in named}
        self.lowest = bisect_right(self.thresholds, 0) - 1
        self._reached: dict[int, int] = {}

    def reached(self, period: int) -> int:
        """The highest level that what was counted through a period is enough for, in as many periods as count."""
        index = self._reached.get(period)
        if index is None:
            counts = self.counts
            total = sum(counts.get(each, 0) for each in range(period - self.tiers.window + 1, period + 1))
            index = self._reached[period] = bisect_right(self.thresholds, total) - 1
        return index

    def held(self, period: int) -> int:
        """The level in a period, without any days of grace: the best of those reached in it and before, as it kept."""
        if not self.counts:
            return self.lowest
        kept = self.tiers.kept
        index = max(self.reached(period - ago) for ago in range(kept + 1))
        if self.tiers.drop == "one_level":
            for below in range(1, len(self.thresholds)):
                index = max(index, self.reached(period - kept - below) - below)
        return index

    def at(self, text: str) -> tuple[int, date | None]:
        """The level on a day, and the last day of that level or a higher one; ``None`` if that is for ever.

        A drop comes ``grace_days`` late: on a day a member is where it was on the best of so many days before.
        """
        day, of_day = date.fromisoformat(text), self.calendar.of_day
        grace = timedelta(days=self.tiers.grace_days)
        now = of_day(day)
        periods = range(of_day(day - grace), now + 1) if grace else (now,)
        index = max(self.held(period) for period in periods)
        if index <= self.lowest:
            return index, None
        period = next(period for period in periods if self.held(period) >= index)
        until = self._end(period) + grace
        period += 1
        while self.calendar.first_day(period) <= until + timedelta(days=1):  # no gap: it may be reached again by then
            if self.held(period) >= index:
                until = self._end(period) + grace
            period += 1
        return index, until

    def _end(self, period: int) -> date:
        return self.calendar.first_day(period + 1) - timedelta(days=1)
