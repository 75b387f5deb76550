"""Starbucks: the expiry of the terms of 2020 and the tiers of those of 2026."""

from tests.loyalty import Loyalty, refused

NAME = "03_starbucks_2026"


def test_stars_last_six_months_after_the_month_they_were_earned_in(loyalty: Loyalty) -> None:
    """Earned on 2020-12-15 they are there on 2021-06-30, and gone the day after."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2020-12-15")
    club.buy(ann, "40.00")
    assert club.lots(ann) == {"2021-06-30": 40}
    loyalty.on("2021-06-30")
    assert club.balance(ann) == 40
    with refused("NOT_YET_DUE"):
        club.expire("2021-06-30")
    loyalty.on("2021-07-01")
    assert club.balance(ann) == 0
    assert (club.expire("2021-06-30"), club.lots(ann)) == (40, {})


def test_each_tier_has_its_rate(loyalty: Loyalty) -> None:
    """From the purchase on that comes after the one which reached it."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-03-10")
    assert [club.buy(ann, amount) for amount in ("10.00", "489.00")] == [10, 489]
    assert (club.tier(ann), club.buy(ann, "1.00")) == ("green", 1)
    assert (club.tier(ann), club.buy(ann, "10.00")) == ("gold", 12)
    assert club.buy(ann, "1656.66") == 1987  # 1,987.992: 2,499 so far
    assert (club.tier(ann), club.buy(ann, "0.84")) == ("gold", 1)
    assert (club.tier(ann), club.buy(ann, "10.00")) == ("reserve", 17)


def test_stars_that_gold_earned_never_expire(loyalty: Loyalty) -> None:
    """Those from before do."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-03-10")
    club.buy(ann, "500.00")
    club.buy(ann, "10.00")
    assert club.lots(ann) == {"2026-09-30": 500, None: 12}
    loyalty.on("2026-10-01")
    assert club.expire("2026-09-30") == 500
    assert club.balance(ann) == 12


def test_gold_is_lost_when_the_years_no_longer_hold_enough(loyalty: Loyalty) -> None:
    """The last twelve months that hold 500 end in February 2027; it lasts through the twelve after."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-03-10")
    club.buy(ann, "500.00")
    assert (club.tier(ann), club.tier_until(ann)) == ("gold", "2028-02-29")
    loyalty.on("2028-02-29")
    assert club.buy(ann, "10.00") == 12
    loyalty.on("2028-03-01")
    assert (club.tier(ann), club.buy(ann, "10.00")) == ("green", 10)
