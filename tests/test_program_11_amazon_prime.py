"""Amazon Prime: a membership that is paid for, and what it gives while it lasts."""

from tests.loyalty import Loyalty, refused

NAME = "11_amazon_prime"
PRIME = {"free_delivery", "video"}


def test_a_year_is_paid_and_the_day_after_it_has_no_benefit(loyalty: Loyalty) -> None:
    """From 2026-03-02 that is day 365, 2027-03-01, and day 366."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert club.program_part("plans { plan days price }") == [{"plan": "prime", "days": 365, "price": 11_900}]
    loyalty.on("2026-03-02")
    assert club.benefits(ann) == set()
    club.start_plan(ann, "prime")
    assert club.benefits(ann) == PRIME
    loyalty.on("2027-03-01")
    assert club.benefits(ann) == PRIME
    loyalty.on("2027-03-02")
    assert club.benefits(ann) == set()


def test_a_refund_ends_it(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.start_plan(ann, "prime")
    loyalty.later(days=10)
    club.end_plan(ann, "refunded")
    assert club.benefits(ann) == set()
    with refused("NO_PLAN"):
        club.end_plan(ann, "refunded")


def test_who_pays_again_before_the_end_goes_on_after_it(loyalty: Loyalty) -> None:
    """Nothing of the first year is lost."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-03-02")
    club.start_plan(ann, "prime")
    loyalty.on("2027-02-01")
    club.start_plan(ann, "prime")
    loyalty.on("2028-02-29")
    assert club.benefits(ann) == PRIME
    loyalty.on("2028-03-01")
    assert club.benefits(ann) == set()


def test_points_there_are_none(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert (club.buy(ann, "250.00"), club.balance(ann)) == (0, 0)
    with refused("UNKNOWN_PLAN"):
        club.start_plan(ann, "student")
