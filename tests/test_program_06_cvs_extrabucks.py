"""CVS ExtraBucks: 2 % back as something like money, each lot for 90 days."""

from tests.loyalty import Loyalty

NAME = "06_cvs_extrabucks"


def test_two_percent_come_back_for_ninety_days(loyalty: Loyalty) -> None:
    """25.00 on 2026-01-01 are 0.50, which can last be used on 2026-04-01."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-01-01")
    assert club.buy(ann, "25.00") == 50
    assert club.lots(ann) == {"2026-04-01": 50}


def test_what_was_not_used_is_gone_and_later_lots_stay(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-01-01")
    club.buy(ann, "25.00")
    loyalty.on("2026-01-31")
    club.buy(ann, "100.00")
    loyalty.on("2026-04-01")
    assert club.balance(ann) == 250
    loyalty.on("2026-04-02")
    assert (club.balance(ann), club.expire("2026-04-01")) == (200, 50)
    assert club.lots(ann) == {"2026-05-01": 200}


def test_the_lot_that_ends_first_is_spent_first(loyalty: Loyalty) -> None:
    """Any amount of it, as of money."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-01-01")
    club.buy(ann, "25.00")
    loyalty.on("2026-01-31")
    club.buy(ann, "100.00")
    club.redeem(ann, 75)
    assert club.lots(ann) == {"2026-05-01": 175}


def test_a_fraction_of_a_cent_is_no_point(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert [club.buy(ann, amount) for amount in ("0.49", "0.50", "0.99", "1.00")] == [0, 1, 1, 2]
