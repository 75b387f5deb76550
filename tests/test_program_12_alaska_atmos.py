"""Alaska Atmos: the member chooses how a flight earns, and status points are apart from those that can be spent."""

from typing import Any

import pytest

from tests.loyalty import Loyalty, line, refused

NAME = "12_alaska_atmos"
STATUS = "ATMOSST"
FLIGHT: dict[str, Any] = {
    "lines": [line("300.00", category="fare"), line("41.70", category="taxes")],
    "quantities": {"miles": 2_500, "segments": 2},
}


@pytest.mark.parametrize(("formula", "points"), [("distance", 2_500), (None, 1_500), ("segments", 1_000)])
def test_a_flight_earns_as_the_member_chose(loyalty: Loyalty, formula: str | None, points: int) -> None:
    """2,500 miles for a fare of 300.00 in 2 segments, by miles, fare or segments; taxes earn nothing."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.enroll(ann, formula=formula)
    assert club.buy(ann, **FLIGHT) == points
    assert (club.balance(ann), club.balance(ann, STATUS)) == (points, points)


def test_silver_has_a_quarter_more_to_spend_and_the_same_status(loyalty: Loyalty) -> None:
    """3,125 points, and 2,500 status points, for 2,500 miles."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.enroll(ann, formula="distance")
    club.buy(ann, "900.00", quantities={"miles": 20_000})
    assert (club.tier(ann), club.buy(ann, **FLIGHT)) == ("silver", 3_125)
    assert (club.balance(ann), club.balance(ann, STATUS)) == (23_125, 22_500)


def test_status_points_end_with_the_year_and_the_tier_with_the_next(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-11-01")
    club.enroll(ann, formula="distance")
    club.buy(ann, "900.00", quantities={"miles": 20_000})
    loyalty.on("2026-12-31")
    assert club.balance(ann, STATUS) == 20_000
    loyalty.on("2027-01-01")
    assert (club.balance(ann, STATUS), club.balance(ann), club.tier_until(ann)) == (0, 20_000, "2027-12-31")
    loyalty.on("2028-01-01")
    assert club.tier(ann) is None


def test_another_choice_holds_for_what_is_bought_after_it(loyalty: Loyalty) -> None:
    """A refund goes by the choice of then."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.enroll(ann, formula="segments")
    club.buy(ann, **FLIGHT, order="o-1")
    club.enroll(ann)
    assert club.buy(ann, **FLIGHT) == 1_500
    assert club.refund("o-1", "150.00", lines=[{"line": 0, "amount": 15_000}]) == 500
    assert club.balance(ann, STATUS) == 2_000
    with refused("UNKNOWN_FORMULA"):
        club.enroll(ann, formula="weight")
