"""Macy's Star Rewards: the rate depends on tier and card, and points become vouchers by themselves."""

from tests.loyalty import Loyalty, refused

NAME = "05_macys"
CARD = "macys_card"


def test_the_rate_is_that_of_the_tier_with_the_card_and_one_without(loyalty: Loyalty) -> None:
    """10.00 are 10 points however one pays; with the card 20, 30 or 50."""
    club, tiers = loyalty.publish(NAME), {"silver": "0", "gold": "500.00", "platinum": "1200.00"}
    found = {}
    for tier, spent in tiers.items():
        ann = loyalty.member()
        club.buy(ann, spent)
        assert club.tier(ann) == tier
        found[tier] = (club.buy(ann, "10.00", tender="cash"), club.buy(ann, "10.00", tender=CARD))
    assert found == {"silver": (10, 20), "gold": (10, 30), "platinum": (10, 50)}


def test_every_thousand_points_become_a_voucher(loyalty: Loyalty) -> None:
    """2,350 points are two of 10.00, and 350 points are left."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert club.buy(ann, "1175.00", tender=CARD) == 2_350
    assert [(each["reward"], each["worth"]) for each in club.vouchers(ann)] == [("star_money", 1000)] * 2
    assert club.balance(ann) == 350
    club.buy(ann, "649.00")
    assert (len(club.vouchers(ann)), club.balance(ann)) == (2, 999)
    club.buy(ann, "1.00")
    assert (len(club.vouchers(ann)), club.balance(ann)) == (3, 0)


def test_a_voucher_is_good_for_thirty_days_and_once(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-01-15")
    club.buy(ann, "1000.00", tender=CARD)
    used, kept = club.vouchers(ann)
    assert used["lastDay"] == "2026-02-14"
    loyalty.on("2026-02-14")
    club.use_voucher(used)
    with refused("VOUCHER_CLOSED"):
        club.use_voucher(used)
    loyalty.on("2026-02-15")
    with refused("VOUCHER_EXPIRED"):
        club.use_voucher(kept)
