"""Nike: achievements are recorded facts that can be counted, and there are no points."""

from tests.loyalty import Loyalty, refused

NAME = "14_nike"


def test_a_badge_is_had_once(loyalty: Loyalty) -> None:
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.grant(ann, "first_5k")
    with refused("LIMIT_REACHED"):
        club.grant(ann, "first_5k")
    loyalty.later(days=366)
    with refused("LIMIT_REACHED"):
        club.grant(ann, "first_5k")
    club.grant(ben, "first_5k")
    assert club.achievements(ann) == club.achievements(ben) == {"first_5k": 1}


def test_runs_are_counted(loyalty: Loyalty) -> None:
    """And give nothing; nor does a purchase."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    for _ in range(3):
        club.grant(ann, "run")
    assert club.achievements(ann) == {"run": 3}
    assert (club.buy(ann, "120.00"), club.balance(ann)) == (0, 0)
    with refused("GRANT_TOO_LARGE"):
        club.grant(ann, "run", 1)
    with refused("ACTIVITY_UNKNOWN"):
        club.grant(ann, "marathon")


def test_members_have_benefits_at_once(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert club.benefits(ann) == {"free_shipping", "birthday_offer"}
