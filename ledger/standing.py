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
    ladder = _Ladder(tiers, counts, _calendar(tiers.period, joined_on), day)
    index = ladder.index()
    if index < 0:
        return NOWHERE
    level, until = tiers.levels[index], ladder.until(index)
    return Standing(level.tier, level, NO_LAST_DAY if until is None else until.isoformat())


def tier_at(tiers: Tiers, counts: Mapping[str, int], joined_on: str, day: str) -> str | None:
    """The tier of :func:`standing_at`, without asking how long it lasts: which is long where much was done since."""
    index = _Ladder(tiers, counts, _calendar(tiers.period, joined_on), day).index()
    return tiers.levels[index].tier if index >= 0 else None


class _Calendar(Struct, frozen=True, gc=False):
    """Periods as numbers that follow each other: the year they begin in, or the number of the month since year 0."""

    of_day: Callable[[date], int]
    name: Callable[[int], str]
    first_day: Callable[[int], date]


_YEARS = _Calendar(lambda day: day.year, lambda year: f"{year:04d}", lambda year: date(year, 1, 1))
_MONTHS = _Calendar(
    lambda day: day.year * 12 + day.month - 1,
    lambda number: f"{number // 12:04d}-{number % 12 + 1:02d}",
    lambda number: date(number // 12, number % 12 + 1, 1),
)


@lru_cache(maxsize=4_096)
def _membership_years(joined_on: str) -> _Calendar:
    joined = date.fromisoformat(joined_on)

    def first_day(year: int) -> date:
        return anniversary(joined, year - joined.year)

    def of_day(day: date) -> int:
        return last_anniversary(joined, day).year

    return _Calendar(of_day, lambda year: first_day(year).isoformat(), first_day)


def _calendar(period: str, joined_on: str) -> _Calendar:
    if period == "calendar_year":
        return _YEARS
    return _MONTHS if period == "month" else _membership_years(joined_on)


def _number(tiers: Tiers, joined_on: str, day: str) -> int:
    return _calendar(tiers.period, joined_on).of_day(date.fromisoformat(day))


class _Ladder:
    """One member's way up and down, as seen on a day: which level each period gives it. Levels are indexes, or -1.

    What is asked is answered in one walk through the periods that tiers look back on (see :data:`MAX_TIER_PERIODS`)
    and on to the end of what is asked for, never in a walk for each of them: a writer does this for every purchase.
    """

    def __init__(self, tiers: Tiers, counts: Mapping[str, int], calendar: _Calendar, day: str) -> None:
        self.calendar = calendar
        self.counts = counts
        self.tiers = tiers
        self.thresholds = [level.from_count for level in tiers.levels]
        self.lowest = bisect_right(self.thresholds, 0) - 1
        self._totals: dict[int, int] = {}
        today, self.grace = date.fromisoformat(day), timedelta(days=tiers.grace_days)
        # A drop comes some days late: on a day a member is where it was on the best of so many days before.
        self.last = calendar.of_day(today)
        self.first = calendar.of_day(today - self.grace) if self.grace else self.last
        steps = len(self.thresholds) - 1 if tiers.drop == "one_level" else 0
        self.earliest = self.first - tiers.kept - steps
        """The first period whose level may still be held on the day."""

    def reached(self, period: int) -> int:
        """The highest level that what was counted through a period is enough for, in as many periods as count."""
        return bisect_right(self.thresholds, self._total(period)) - 1

    def _total(self, period: int) -> int:
        """What was counted in a period and those before it that count: of the one before, less what falls out."""
        total = self._totals.get(period)
        if total is None:
            window, before = self.tiers.window, self._totals.get(period - 1)
            if before is None:
                total = sum(self._count(each) for each in range(period - window + 1, period + 1))
            else:
                total = before + self._count(period) - self._count(period - window)
            self._totals[period] = total
        return total

    def _count(self, period: int) -> int:
        return self.counts.get(self.calendar.name(period), 0)

    def index(self) -> int:
        """The level on the day: the best of those reached in its periods and before, as far as they are kept."""
        if not self.counts:
            return self.lowest
        kept, best = self.tiers.kept, self.lowest
        for period in range(self.earliest, self.last + 1):
            lost = max(0, self.first - period - kept)
            best = max(best, self.reached(period) - lost)
        return best

    def until(self, index: int) -> date | None:
        """The last day on which this level, which is that of the day, or a higher one is held; ``None``: for ever."""
        if index <= self.lowest:
            return None
        period, held_through = self.earliest, self.earliest - 1
        until: date | None = None
        while True:
            reached = self.reached(period)
            if reached >= index:
                down = reached - index if self.tiers.drop == "one_level" else 0
                held_through = max(held_through, period + self.tiers.kept + down)
            if period >= self.first:
                # No gap if it may be reached again by then.
                if until is not None and self.calendar.first_day(period) > until + timedelta(days=1):
                    return until
                if held_through >= period:
                    until = self.calendar.first_day(period + 1) - timedelta(days=1) + self.grace
                assert until is not None or period < self.last  # on the day it is held
            period += 1
