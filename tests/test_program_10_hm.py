"""H&M: benefits that are no points, a membership year, activities, and the late claim of a receipt."""

from tests.loyalty import Loyalty, refused

NAME = "10_hm"


def test_shipping_is_free_from_forty_dollars_and_for_plus_always(loyalty: Loyalty) -> None:
    """An order of 39.99: no; 40.00: yes; Plus: always."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.enroll(ann)
    assert club.benefits(ann, "39.99") == set()
    assert club.benefits(ann, "40.00") == {"free_shipping"}
    club.buy(ann, "500.00")
    assert (club.tier(ann), club.benefits(ann, "39.99")) == ("plus", {"free_shipping"})


def test_plus_is_reached_in_a_year_that_begins_with_joining(loyalty: Loyalty) -> None:
    """499 points before the anniversary and one after are two years' points."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-03-15")
    club.enroll(ann)
    loyalty.on("2027-03-14")
    club.buy(ann, "499.00")
    loyalty.on("2027-03-15")
    club.buy(ann, "1.00")
    assert club.tier(ann) == "member"
    club.buy(ann, "499.00")
    assert (club.tier(ann), club.tier_until(ann)) == ("plus", "2029-03-14")


def test_points_end_with_the_next_membership_year(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2024-02-29")
    club.enroll(ann)
    loyalty.on("2025-02-27")
    club.buy(ann, "10.00")
    loyalty.on("2025-02-28")  # the anniversary of a 29 February
    club.buy(ann, "10.00")
    assert club.lots(ann) == {"2026-02-27": 10, "2027-02-27": 10}


def test_two_hundred_points_are_five_dollars(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.buy(ann, "200.00")
    club.redeem(ann, 200, reward="five_off")
    assert [each["worth"] for each in club.vouchers(ann)] == [500]


def test_a_receipt_can_be_claimed_for_thirty_days(loyalty: Loyalty) -> None:
    """One of 31 days is refused."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-05-31")
    assert club.buy(ann, "25.00", at="2026-05-01T12:00:00.000Z") == 25
    with refused("PURCHASE_TOO_OLD"):
        club.buy(ann, "25.00", at="2026-04-30T12:00:00.000Z")


def test_a_profile_recycling_and_a_friend_give_points(loyalty: Loyalty) -> None:
    """20 for a profile once, 20 for recycling twice a month, 50 for a friend's first purchase."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    loyalty.on("2026-01-10")
    club.grant(ann, "profile", 20)
    with refused("LIMIT_REACHED"):
        club.grant(ann, "profile", 20)
    for _ in range(2):
        club.grant(ann, "recycling", 20)
    with refused("LIMIT_REACHED"):
        club.grant(ann, "recycling", 20)
    loyalty.on("2026-02-01")
    club.grant(ann, "recycling", 20)
    assert club.balance(ann) == 80
    club.enroll(ben, invited_by=ann)
    club.buy(ben, "30.00")
    assert (club.balance(ann), club.balance(ben)) == (130, 30)
    club.buy(ben, "30.00")
    assert club.balance(ann) == 130
