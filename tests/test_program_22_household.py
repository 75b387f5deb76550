"""Pools: members share, and what is spent is taken from each in proportion."""

from ledger.wallet import Wallet
from tests.loyalty import Club, Loyalty, moved, refused

NAME = "22_household"


def household(loyalty: Loyalty, *points: int) -> tuple[Club, list[Wallet]]:
    """The program, and members in a pool who have so many points."""
    club, members = loyalty.publish(NAME), loyalty.world.add_members(len(points))
    for member, amount in zip(members, points, strict=True):
        if amount:
            club.give(member, amount)
    club.form_pool(*members)
    return club, members


def test_a_debit_is_taken_in_proportion(loyalty: Loyalty) -> None:
    """100 from 300 and 100: 75 and 25, whoever of them spends."""
    club, (ann, ben) = household(loyalty, 300, 100)
    spent = club.redeem(ben, 100, from_pool=True, reward="weekend")
    assert [-moved(spent, str(member.account), club.asset) for member in (ann, ben)] == [75, 25]
    assert (club.balance(ann), club.balance(ben)) == (225, 75)
    assert ([each["reward"] for each in club.vouchers(ben)], club.vouchers(ann)) == (["weekend"], [])


def test_odd_points_go_to_the_greatest_remainder(loyalty: Loyalty) -> None:
    """100 of 200, 50 and 49: 66 8/9 of them, 16 13/18 and 16 7/18."""
    club, members = household(loyalty, 200, 50, 49)
    club.redeem(members[2], 100, from_pool=True)
    assert [club.balance(member) for member in members] == [133, 33, 33]


def test_all_of_it_can_be_spent_and_no_more(loyalty: Loyalty) -> None:
    club, (ann, ben) = household(loyalty, 300, 0)
    with refused("INSUFFICIENT_POINTS"):
        club.redeem(ben, 301, from_pool=True)
    with refused("INSUFFICIENT_POINTS"):
        club.redeem(ben, 1)
    club.redeem(ben, 300, from_pool=True)
    assert club.balance(ann) == 0


def test_a_refund_returns_to_each_what_was_taken(loyalty: Loyalty) -> None:
    club, (ann, ben) = household(loyalty, 300, 100)
    spent = club.redeem(ben, 100, from_pool=True)
    club.refund_redemption(spent, 100)
    assert (club.balance(ann), club.balance(ben)) == (300, 100)


def test_who_leaves_spends_alone(loyalty: Loyalty) -> None:
    """A pool of one is none."""
    club, (ann, ben) = household(loyalty, 300, 100)
    club.leave_pool(ann)
    for member in (ann, ben):
        with refused("NO_POOL"):
            club.redeem(member, 10, from_pool=True)
    with refused("NO_POOL"):
        club.leave_pool(ben)


def test_everybody_signs_and_is_in_one(loyalty: Loyalty) -> None:
    club, (ann, _), carol = *household(loyalty, 10, 10), loyalty.member()
    with refused("ALREADY_POOLED"):
        club.form_pool(carol, ann)
    with refused("SIGNATURE_MISSING"):
        club.form_pool(carol, loyalty.member(), signed_by=[carol])
