"""Campaigns: dated multipliers and bonuses by category, product, channel and day, and how they stack."""

from typing import Any

import pytest

from tests.loyalty import Loyalty, line

NAME = "19_campaigns"
MONDAY, TUESDAY = "2026-06-01", "2026-06-02"
FRUIT = line("40.00", category="fruit")


def test_each_campaign_is_for_what_it_says(loyalty: Loyalty) -> None:
    """Twice as much for fruit, five times for a product, half more in the app and on Tuesdays; else 1 a unit."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on(MONDAY)
    assert club.buy(ann, "40.00") == 40
    assert club.buy(ann, lines=[FRUIT]) == 80
    assert club.buy(ann, lines=[line("4.00", product="cereal-7"), line("4.00", product="cereal-8")]) == 24
    assert club.buy(ann, "40.00", channel="app") == 60
    assert club.buy(ann, "40.00", channel="web") == 40
    loyalty.on(TUESDAY)
    assert club.buy(ann, "40.00") == 60


@pytest.mark.parametrize(("stacking", "points"), [("sum", 120), (None, 80), ("product", 180)])
def test_what_holds_at_once_stacks_as_the_program_says(loyalty: Loyalty, stacking: str | None, points: int) -> None:
    """Fruit of 40.00 in the app on a Tuesday: 2, 3/2 and 3/2 are 3 as a sum, 2 as the best, 9/2 as a product."""
    club, ann = loyalty.publish(NAME, stacking=stacking), loyalty.member()
    loyalty.on(TUESDAY)
    assert club.buy(ann, lines=[FRUIT], channel="app") == points


def test_a_campaign_begins_and_ends_on_its_days(loyalty: Loyalty) -> None:
    """By the local date of the purchase: in Madrid it is June two hours earlier than in UTC."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-09-02")
    bought = {
        "2026-05-31T21:59:59.999Z": 40,
        "2026-05-31T22:00:00.000Z": 80,
        "2026-08-31T21:59:59.999Z": 80,
        "2026-08-31T22:00:00.000Z": 60,  # a Tuesday
    }
    assert {at: club.buy(ann, lines=[FRUIT], at=at) for at in bought} == bought


def test_only_the_lines_it_is_for_earn_more(loyalty: Loyalty) -> None:
    """And what is excluded earns nothing, nor counts for the bonus of a large basket."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on(MONDAY)
    lines: list[dict[str, Any]] = [FRUIT, line("59.99"), line("5.00", category="deposit")]
    assert club.buy(ann, lines=lines) == 139  # 80 + 59.99
    assert club.buy(ann, lines=[*lines, line("0.01")]) == 140 + 100


def test_a_refund_returns_the_line_and_its_campaign(loyalty: Loyalty) -> None:
    """By the campaigns of then, though they are over."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on(MONDAY)
    club.buy(ann, lines=[FRUIT, line("60.00")], order="o-1")
    assert club.balance(ann) == 80 + 60 + 100
    loyalty.on("2026-10-01")
    assert club.refund("o-1", "10.00", lines=[{"line": 0, "amount": 1_000}]) == 20 + 100  # 90.00 is no large basket
    assert club.refund("o-1", "10.00") == 10  # of the last line


def test_a_month_has_a_cap(loyalty: Loyalty) -> None:
    """5,000 points, by the month of the purchase."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-04-30")
    assert [club.buy(ann, "2400.00") for _ in range(3)] == [2_400, 2_400, 200]
    loyalty.on("2026-05-01")
    assert club.buy(ann, "2400.00") == 2_400


def test_a_member_reads_why_a_purchase_gave_its_points(loyalty: Loyalty) -> None:
    """Every campaign that counted is named."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on(TUESDAY)
    club.buy(ann, lines=[FRUIT, line("60.00")], channel="app", order="o-1")
    told = club.explanation(ann, "o-1")
    assert [name for name in ("fruit", "app", "tuesday", "large_basket", "340") if name not in told] == []
    assert "cereal" not in told
