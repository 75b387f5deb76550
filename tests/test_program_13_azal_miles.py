"""Azerbaijan Airlines: a point for each euro of the base fare, more by tier."""

import pytest

from tests.loyalty import Loyalty, line

NAME = "13_azal_miles"
STATUS = "AZALST"


@pytest.mark.parametrize(
    ("tier", "before", "points"),
    [("classic", "0", 213), ("silver", "4000", 266), ("gold", "8000", 426), ("platinum", "20000", 639)],
)
def test_a_fare_earns_by_tier(loyalty: Loyalty, tier: str, before: str, points: int) -> None:
    """A fare of 213: 213, and with 25, 100 and 200 % more; status points are always the base."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.buy(ann, before)
    assert (club.tier(ann), club.buy(ann, "213")) == (tier, points)
    assert club.balance(ann, STATUS) == int(before) + 213


def test_taxes_and_charges_earn_nothing(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert club.buy(ann, lines=[line("213.00"), line("64.30", category="taxes")]) == 213


def test_a_tier_takes_the_points_of_one_year(loyalty: Loyalty) -> None:
    """Whose first day is that of joining."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-09-01")
    club.buy(ann, "7999")
    loyalty.on("2027-09-01")
    club.buy(ann, "1")
    assert club.tier(ann) == "silver"  # kept from the year before
    club.buy(ann, "7999")
    assert club.tier(ann) == "gold"
