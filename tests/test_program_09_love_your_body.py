"""The Body Shop's Love Your Body Club: a voucher, or the same for a charity."""

from tests.loyalty import Loyalty, moved, refused

NAME = "09_love_your_body"


def test_a_hundred_points_are_a_voucher_of_ten_dollars(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert club.buy(ann, "99.99") == 99
    with refused("INSUFFICIENT_POINTS"):
        club.redeem(ann, 100, reward="voucher")
    club.buy(ann, "1.00")
    club.redeem(ann, 100, reward="voucher")
    assert ([each["worth"] for each in club.vouchers(ann)], club.balance(ann)) == ([1_000], 0)


def test_a_donation_is_spent_at_the_charity_and_the_claim_follows(loyalty: Loyalty) -> None:
    """For 100 points the shop owes it 10.00, once: the points are out of circulation."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    charity = loyalty.beneficiary("Children's charity")
    claim = {"amount": 1_000, "points": 100, "currency": "USD", "debtor": club.wallet.account, "round": "down"}
    terms = {"type": "acceptance", "asset": club.asset, "received": "retired", "step": 100, "claim": claim}
    loyalty.agree(club.wallet, charity, **terms)
    club.buy(ann, "150.00")
    with refused("OFF_STEP"):
        club.redeem(ann, 150, at=charity)
    donated = club.redeem(ann, 100, at=charity)
    assert (moved(donated, str(charity.account), "USD"), club.balance(ann)) == (1_000, 50)
    assert loyalty.owed(club.wallet, charity) == 1_000


def test_a_charity_may_keep_the_points(loyalty: Loyalty) -> None:
    """They move to it, for it to spend; nobody owes anything then."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    charity = loyalty.beneficiary("Children's charity")
    loyalty.agree(club.wallet, charity, type="acceptance", asset=club.asset, received="kept")
    club.buy(ann, "150.00")
    club.redeem(ann, 100, at=charity)
    assert (club.balance(charity), club.balance(ann)) == (100, 50)
    club.redeem(charity, 100)
    assert (club.balance(charity), loyalty.owed(club.wallet, charity)) == (0, 0)
