"""Referral: both sides are rewarded on the friend's first purchase, nobody twice and nobody for themselves."""

from tests.loyalty import Loyalty, refused

NAME = "16_referral"


def test_both_are_rewarded_on_the_first_purchase(loyalty: Loyalty) -> None:
    """500 points for each, beside those of the purchase; joining alone gives nothing."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.enroll(ben, invited_by=ann)
    assert (club.balance(ann), club.balance(ben)) == (0, 0)
    assert club.buy(ben, "20.00") == 1_020
    assert (club.balance(ann), club.balance(ben)) == (500, 520)
    assert club.buy(ben, "20.00") == 20
    assert club.balance(ann) == 500


def test_who_comes_alone_gets_no_welcome(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert club.buy(ann, "20.00") == 20


def test_nobody_invites_themselves(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    with refused("MALFORMED"):
        club.enroll(ann, invited_by=ann)


def test_nobody_is_invited_twice_or_after_the_first_purchase(loyalty: Loyalty) -> None:
    club, ann, ben, carol = loyalty.publish(NAME), *(loyalty.member() for _ in range(3))
    club.enroll(carol, invited_by=ann)
    with refused("INVITED_TOO_LATE"):
        club.enroll(carol, invited_by=ben)
    club.buy(ben, "20.00")
    with refused("INVITED_TOO_LATE"):
        club.enroll(ben, invited_by=ann)


def test_what_was_returned_rewards_nobody(loyalty: Loyalty) -> None:
    """A friend who returns all of the first purchase has not bought; the next one is the first."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.enroll(ben, invited_by=ann)
    club.buy(ben, "20.00", order="o-1")
    club.refund("o-1", "20.00")
    assert (club.balance(ann), club.balance(ben)) == (0, 0)
    club.buy(ben, "30.00")
    assert (club.balance(ann), club.balance(ben)) == (500, 530)


def test_ten_friends_a_year_count(loyalty: Loyalty) -> None:
    """The eleventh still has a welcome."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    friends = loyalty.world.add_members(11)
    for friend in friends:
        club.enroll(friend, invited_by=ann)
        club.buy(friend, "1.00")
    assert (club.balance(ann), club.balance(friends[-1])) == (5_000, 501)
