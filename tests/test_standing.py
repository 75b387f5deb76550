"""Standing: tiers against a simulation that walks the calendar day by day, and the published programs' examples."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.entries import NO_LAST_DAY
from ledger.program_terms import MAX_TIER_PERIODS, TierLevel, Tiers
from ledger.standing import NOWHERE, period_of_day, standing_at, tier_at

DAY = timedelta(days=1)


def make_tiers(*thresholds: int, period: str = "calendar_year", basis: str = "amount", **more: Any) -> Tiers:
    levels = tuple(TierLevel(from_count=count, tier=f"t{i}") for i, count in enumerate(thresholds))
    fields: dict[str, Any] = {"basis": basis, "levels": levels, "period": period, **more}
    return Tiers(**fields)


def stand(tiers: Tiers, counts: dict[str, int], day: str, joined_on: str = "2020-01-01") -> tuple[str | None, str]:
    found = standing_at(tiers, counts, joined_on, day)
    return found.tier, found.until


SPEND = make_tiers(35_000, 100_000, kept=1)  # programs.md row 4


@pytest.mark.parametrize(
    ("counts", "day", "expected"),
    [
        ({"2025": 34_999}, "2025-03-04", (None, NO_LAST_DAY)),
        ({"2025": 35_000}, "2025-03-04", ("t0", "2026-12-31")),
        ({"2025": 35_000}, "2026-12-31", ("t0", "2026-12-31")),
        ({"2025": 35_000}, "2027-01-01", (None, NO_LAST_DAY)),
        ({"2025": 100_000}, "2026-06-01", ("t1", "2026-12-31")),
        ({"2025": 100_000, "2026": 35_000}, "2026-06-01", ("t1", "2026-12-31")),
        ({"2025": 100_000, "2026": 35_000}, "2027-06-01", ("t0", "2027-12-31")),
        ({"2025": 35_000, "2026": 35_000}, "2025-06-01", ("t0", "2027-12-31")),
        ({}, "2026-01-01", (None, NO_LAST_DAY)),
    ],
)
def test_tier_lasts_through_the_end_of_the_next_year(
    counts: dict[str, int], day: str, expected: tuple[str | None, str]
) -> None:
    """Row 4: 349.99 stays, 350.00 is a tier, and reaching it in March 2025 keeps it through 2026-12-31."""
    assert stand(SPEND, counts, day) == expected


def test_first_tier_may_ask_for_nothing() -> None:
    """A level from 0 is everybody's, for ever; one above it falls back to it."""
    tiers = make_tiers(0, 50_000)
    assert stand(tiers, {}, "2026-05-17") == ("t0", NO_LAST_DAY)
    assert stand(tiers, {"2026": 50_000}, "2026-05-17") == ("t1", "2026-12-31")
    assert stand(tiers, {"2026": 50_000}, "2027-01-01") == ("t0", NO_LAST_DAY)


def test_level_says_whether_its_points_expire() -> None:
    """Row 3: what the level itself promises comes with the tier."""
    gold = TierLevel(from_count=500, never_expires=True, tier="gold")
    tiers = Tiers(basis="points", levels=(TierLevel(from_count=0, tier="green"), gold), period="calendar_year")
    assert standing_at(tiers, {"2026": 500}, "2026-01-01", "2026-02-01").level is gold
    level = standing_at(tiers, {"2026": 499}, "2026-01-01", "2026-02-01").level
    assert level is not None
    assert not level.never_expires
    assert NOWHERE.level is None


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-06-01", ("t2", "2026-12-31")),
        ("2027-06-01", ("t1", "2027-12-31")),
        ("2028-06-01", ("t0", "2028-12-31")),
        ("2029-01-01", (None, NO_LAST_DAY)),
    ],
)
def test_drop_by_one_level_a_year(day: str, expected: tuple[str | None, str]) -> None:
    """One tier is lost with each period in which nothing was done, not all at once."""
    tiers = make_tiers(100, 200, 300, drop="one_level")
    assert stand(tiers, {"2026": 300}, day) == expected


@pytest.mark.parametrize(
    ("grace_days", "day", "expected"),
    [
        (30, "2026-12-31", ("t0", "2027-01-30")),
        (30, "2027-01-30", ("t0", "2027-01-30")),
        (30, "2027-01-31", (None, NO_LAST_DAY)),
        (1, "2027-01-01", ("t0", "2027-01-01")),
        (1, "2027-01-02", (None, NO_LAST_DAY)),
        (366, "2028-01-01", ("t0", "2028-01-01")),
        (366, "2028-01-02", (None, NO_LAST_DAY)),
    ],
)
def test_drop_comes_days_of_grace_late(grace_days: int, day: str, expected: tuple[str | None, str]) -> None:
    """A tier reached in 2026 lasts so many days into 2027, and beyond if grace is longer than the year."""
    assert stand(make_tiers(100, grace_days=grace_days), {"2026": 100}, day) == expected


def test_grace_longer_than_a_month_reaches_over_it() -> None:
    """45 days after the end of January are over on 17 March, though February lies between."""
    tiers = make_tiers(100, period="month", grace_days=45)
    assert stand(tiers, {"2026-01": 100}, "2026-01-05") == ("t0", "2026-03-17")
    assert stand(tiers, {"2026-01": 100}, "2026-03-17") == ("t0", "2026-03-17")
    assert stand(tiers, {"2026-01": 100}, "2026-03-18") == (None, NO_LAST_DAY)


def test_tier_reached_again_while_grace_lasts_was_never_lost() -> None:
    """What is known to be done in February, within January's grace, lengthens what January gave."""
    tiers = make_tiers(100, period="month", grace_days=10)
    assert stand(tiers, {"2026-01": 100, "2026-02": 100}, "2026-01-31") == ("t0", "2026-03-10")
    assert stand(tiers, {"2026-01": 100, "2026-03": 100}, "2026-01-31") == ("t0", "2026-02-10")


def test_window_sums_over_months() -> None:
    """Twelve months together, the current one last: a tier ends when the month falls out that it needs."""
    tiers = make_tiers(500, period="month", window=12)
    counts = {"2025-07": 300, "2026-02": 200}
    assert stand(tiers, counts, "2026-01-31") == (None, NO_LAST_DAY)
    assert stand(tiers, counts, "2026-02-01") == ("t0", "2026-06-30")
    assert stand(tiers, counts, "2026-07-01") == (None, NO_LAST_DAY)


def test_membership_year_begins_on_the_day_of_joining() -> None:
    """Row 10: 500 in a year from 2026-03-15 is a tier through the day before the second anniversary."""
    tiers = make_tiers(500, period="membership_year", kept=1)
    assert period_of_day(tiers, "2026-03-15", "2027-03-14") == "2026-03-15"
    assert period_of_day(tiers, "2026-03-15", "2027-03-15") == "2027-03-15"
    assert stand(tiers, {"2026-03-15": 500}, "2027-03-14", "2026-03-15") == ("t0", "2028-03-14")


@pytest.mark.parametrize(
    ("day", "period"),
    [
        ("2024-02-28", "2023-02-28"),  # before the member joined
        ("2024-02-29", "2024-02-29"),
        ("2025-02-27", "2024-02-29"),
        ("2025-02-28", "2025-02-28"),
        ("2028-02-28", "2027-02-28"),
        ("2028-02-29", "2028-02-29"),
    ],
)
def test_membership_years_of_who_joined_on_29_february(day: str, period: str) -> None:
    """They begin on the 28th where there is no 29th, and on the 29th where there is one."""
    tiers = make_tiers(1, period="membership_year")
    assert period_of_day(tiers, "2024-02-29", day) == period


def test_periods_are_named_by_what_they_are() -> None:
    """A year, a month; the day of joining does not matter to either."""
    assert period_of_day(make_tiers(1), "2024-02-29", "2026-11-22") == "2026"
    assert period_of_day(make_tiers(1, period="month"), "2024-02-29", "2026-11-22") == "2026-11"


def test_refund_lets_a_tier_fall_as_if_the_purchase_had_not_been() -> None:
    """Where what was counted is taken back, the tier it gave is gone, in later periods too."""
    assert stand(SPEND, {"2025": 35_000}, "2026-05-01")[0] == "t0"
    assert stand(SPEND, {"2025": 34_900}, "2026-05-01")[0] is None


def test_purchase_told_late_counts_where_it_was_made() -> None:
    """Standing in the past is what all that is known by now makes it."""
    assert stand(SPEND, {"2030": 35_000}, "2025-05-01") == (None, NO_LAST_DAY)
    assert stand(SPEND, {"2025": 35_000, "2030": 35_000}, "2025-05-01") == ("t0", "2026-12-31")


def naive_period(period: str, joined: date, day: date) -> str:
    """The period a day is in: for membership years, back day by day to an anniversary."""
    if period != "membership_year":
        return day.isoformat()[: 4 if period == "calendar_year" else 7]
    while not (
        (day.month, day.day) == (joined.month, joined.day)
        or ((joined.month, joined.day) == (2, 29) and day.month == 2 and day.day == 28 and (day + DAY).day == 1)
    ):
        day -= DAY
    return day.isoformat()


def naive_tiers(tiers: Tiers, counts: dict[str, int], joined: date, first: date, through: date) -> dict[date, int]:
    """The level of each day, as an index or -1, from the sentences of the documentation alone."""
    names: list[str] = []
    of_day: dict[date, int] = {}
    day = first
    name = naive_period(tiers.period, joined, day)
    while day <= through:
        if tiers.period != "membership_year" or abs(day.month - joined.month) <= 1:  # elsewhere no year begins
            name = naive_period(tiers.period, joined, day)
        if not names or names[-1] != name:
            names.append(name)
        of_day[day] = len(names) - 1
        day += DAY
    reached = []
    for i in range(len(names)):
        total = sum(counts.get(each, 0) for each in names[max(0, i - tiers.window + 1) : i + 1])
        reached.append(sum(total >= level.from_count for level in tiers.levels) - 1)
    held = []
    for i in range(len(names)):
        best = -1
        for back in range(i + 1):
            lost = max(0, back - tiers.kept)
            if lost == 0 or tiers.drop == "one_level":
                best = max(best, reached[i - back] - lost)
        held.append(best)
    found = {}
    for day, i in of_day.items():
        earlier = of_day.get(day - timedelta(days=tiers.grace_days), 0)
        found[day] = max(held[earlier : i + 1])
    return found


TIERS = st.builds(
    make_tiers,
    st.sampled_from([0, 1, 100]),
    st.sampled_from([150, 200]),
    st.just(300),
    period=st.sampled_from(["calendar_year", "membership_year", "month"]),
    drop=st.sampled_from(["to_earned", "one_level"]),
    grace_days=st.sampled_from([0, 0, 1, 30, 45]),
    kept=st.integers(0, 2),
    window=st.integers(1, 3),
)
START, END = date(2008, 1, 1), date(2034, 12, 31)


@settings(max_examples=40)
@given(TIERS, st.data())
def test_standing_is_what_a_walk_day_by_day_finds(tiers: Tiers, data: st.DataObject) -> None:
    """For any tiers and any history: the tier of a day, and the day through which it lasts, are exact."""
    joined = data.draw(st.sampled_from([date(2020, 2, 29), date(2019, 1, 31), date(2021, 12, 31), date(2023, 7, 4)]))
    months = st.dates(date(2023, 1, 1), date(2023, 8, 1))
    days = months if tiers.period == "month" else st.dates(date(2020, 1, 1), date(2024, 12, 31))
    counts: dict[str, int] = {}
    for day, amount in data.draw(st.lists(st.tuples(days, st.sampled_from([50, 99, 100, 150, 200, 300])), max_size=4)):
        name = naive_period(tiers.period, joined, day)
        counts[name] = counts.get(name, 0) + amount
    start, end = (date(2022, 1, 1), date(2025, 6, 30)) if tiers.period == "month" else (START, END)
    levels = naive_tiers(tiers, counts, joined, start, end)
    first = date(2022, 9, 1) if tiers.period == "month" else date(2019, 6, 1)
    for day in data.draw(st.lists(st.dates(first, date(2024, 12, 31)), min_size=3, max_size=8)):
        found = standing_at(tiers, counts, joined.isoformat(), day.isoformat())
        assert tier_at(tiers, counts, joined.isoformat(), day.isoformat()) == found.tier
        index = levels[day]
        assert found.tier == (tiers.levels[index].tier if index >= 0 else None)
        last = day
        while last < end and levels[last + DAY] >= index:
            last += DAY
        assert found.until == (NO_LAST_DAY if last == end else last.isoformat())


@given(TIERS, st.dates(date(1900, 1, 1), date(2999, 12, 31)), st.dates(date(1900, 1, 1), date(2999, 12, 31)))
def test_day_after_a_tier_ends_is_in_a_lower_one(tiers: Tiers, joined: date, day: date) -> None:
    """Anywhere on the calendar: on its last day the tier is still there, a day later it is not."""
    counts = {period_of_day(tiers, joined.isoformat(), day.isoformat()): 300}
    found = standing_at(tiers, counts, joined.isoformat(), day.isoformat())
    assert found.tier == "t2"
    at_end = standing_at(tiers, counts, joined.isoformat(), found.until)
    assert (at_end.tier, at_end.until) == (found.tier, found.until)
    later = standing_at(tiers, counts, joined.isoformat(), (date.fromisoformat(found.until) + DAY).isoformat())
    assert later.tier != "t2"


@given(TIERS, st.dictionaries(st.integers(2019, 2025), st.integers(0, 400)), st.integers(2019, 2025))
def test_doing_more_never_lowers_a_tier(tiers: Tiers, amounts: dict[int, int], more: int) -> None:
    """A tier never falls, nor ends earlier, because of something that was done."""
    days = {year: f"{year}-06-15" for year in {*amounts, more}}
    names = {year: period_of_day(tiers, "2020-02-29", day) for year, day in days.items()}
    counts = {names[year]: amount for year, amount in amounts.items()}
    raised = {**counts, names[more]: counts.get(names[more], 0) + 1}
    order = [None, *(level.tier for level in tiers.levels)]
    for day in ("2021-01-01", "2022-07-04", "2025-06-15", "2026-02-28"):
        before, after = (standing_at(tiers, each, "2020-02-29", day) for each in (counts, raised))
        assert order.index(after.tier) >= order.index(before.tier)
        if after.tier == before.tier:
            assert after.until >= before.until


@pytest.mark.parametrize("period", ["calendar_year", "membership_year", "month"])
def test_tiers_at_their_bounds_end_somewhere(period: str) -> None:
    """The longest look back that a program may have, on the first and last days that are recorded."""
    tiers = make_tiers(1, 2, 3, period=period, window=60, kept=57, drop="one_level", grace_days=366)
    for day in ("1899-12-31", "3000-01-01"):
        counts = {period_of_day(tiers, day, day): 3}
        found = standing_at(tiers, counts, day, day)
        assert found.tier == "t2"
        assert found.until > day


class Counted(dict[str, int]):
    """What was counted by period, and how often that was asked."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("period", ["calendar_year", "membership_year", "month"])
@pytest.mark.parametrize(("window", "kept"), [(118, 0), (1, 117), (59, 59)])
@pytest.mark.parametrize("drop", ["to_earned", "one_level"])
def test_what_a_writer_asks_for_each_purchase_is_bounded(period: str, window: int, kept: int, drop: str) -> None:
    """However long the history and the look back: a merchant's purchases of long ago must not stop everybody's.

    Each period that tiers look back on, and that the tier can still last for, is looked at a few times, not once for
    each of the others. How long a tier of long ago lasted is not looked for where only the tier is asked.
    """
    tiers = make_tiers(1, 2, period=period, window=window, kept=kept, drop=drop, grace_days=366)
    day = date(1900, 1, 5)
    counts = Counted()
    while day < date(2026, 11, 22):
        counts[period_of_day(tiers, "1900-01-05", day.isoformat())] = 2
        day += 28 * DAY
    assert tier_at(tiers, counts, "1900-01-05", "1900-02-05") == "t1"
    assert counts.asked < 4 * MAX_TIER_PERIODS
    counts.asked = 0
    assert standing_at(tiers, counts, "1900-01-05", "2026-11-22").until > "2026-11-22"
    assert counts.asked < 12 * MAX_TIER_PERIODS
