"""Starbucks 2019: 2 Stars a dollar, and a list of prices."""

import pytest

from tests.loyalty import Loyalty, refused

NAME = "02_starbucks_2019"


def test_a_fraction_of_a_star_is_dropped(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    assert [club.buy(ann, amount) for amount in ("9.45", "0.49", "0.50")] == [18, 0, 1]


@pytest.mark.parametrize(
    ("reward", "price"),
    [("customization", 25), ("brewed_coffee", 50), ("handcrafted_drink", 150), ("lunch", 200), ("merchandise", 400)],
)
def test_a_reward_has_its_price(loyalty: Loyalty, reward: str, price: int) -> None:
    """One Star less is not enough, its price leaves nothing, and there is a voucher for it."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.give(ann, price - 1)
    with refused("INSUFFICIENT_POINTS"):
        club.redeem(ann, price, reward=reward)
    club.give(ann, 1)
    with refused("PRICE_MISMATCH"):
        club.redeem(ann, price - 1, reward=reward)
    club.redeem(ann, price, reward=reward)
    assert club.balance(ann) == 0
    assert [voucher["reward"] for voucher in club.vouchers(ann)] == [reward]


def test_a_reward_that_is_not_on_the_list_cannot_be_had(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.give(ann, 150)
    with refused("UNKNOWN_REWARD"):
        club.redeem(ann, 150, reward="espresso_machine")


def test_stars_end_with_the_sixth_month_after_that_of_earning(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2019-08-01")
    club.buy(ann, "10.00")
    loyalty.on("2019-08-31")
    club.buy(ann, "10.00")
    assert club.lots(ann) == {"2020-02-29": 40}
