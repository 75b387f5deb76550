"""Experiences: things of which there are few, and the last one is sold once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.loyalty import Loyalty, RefusedError, refused
from tests.service import Service, running

NAME = "18_experiences"


def test_two_at_the_same_moment_one_gets_it(loyalty: Loyalty) -> None:
    """Through two servers on one database; who loses keeps the points."""
    club, members = loyalty.publish(NAME), loyalty.world.add_members(2)
    for member in members:
        club.give(member, 500)
    wanted: dict[str, Any] = {"amount": 500, "merchant": club.wallet.account, "reward": "dinner_with_the_chef"}
    signed = [loyalty.sign(member, "redeem", asset=club.asset, **wanted) for member in members]
    barrier = threading.Barrier(2)

    def ask(i: int, service: Service) -> str:
        barrier.wait()
        try:
            loyalty.submit(signed[i], service)
        except RefusedError as error:
            return str(error.code)
        return ""

    with running(loyalty.world, loyalty.folder) as other, ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(ask, range(2), (loyalty.service, other)))
    assert sorted(codes) == ["", "OUT_OF_STOCK"]
    winner, loser = members if codes[0] == "" else members[::-1]
    assert (club.balance(winner), len(club.vouchers(winner))) == (0, 1)
    assert (club.balance(loser), club.vouchers(loser)) == (500, [])


def test_what_is_given_back_can_be_sold_again(loyalty: Loyalty) -> None:
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.give(ann, 500)
    club.give(ben, 500)
    had = club.redeem(ann, 500, reward="dinner_with_the_chef")
    with refused("OUT_OF_STOCK"):
        club.redeem(ben, 500, reward="dinner_with_the_chef")
    club.refund_redemption(had, 500)
    assert club.balance(ann) == 500
    club.redeem(ben, 500, reward="dinner_with_the_chef")


def test_nobody_takes_more_than_their_share(loyalty: Loyalty) -> None:
    """Two cooking classes a year for each."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.give(ann, 1_000)
    loyalty.on("2026-12-30")
    club.redeem(ann, 400, reward="cooking_class")
    with refused("LIMIT_REACHED"):
        club.redeem(ann, 200, reward="cooking_class")
    loyalty.on("2027-01-02")
    club.redeem(ann, 200, reward="cooking_class")
    assert len(club.vouchers(ann)) == 3


def test_some_are_for_a_tier_only(loyalty: Loyalty) -> None:
    """Five visits in the year."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    for _ in range(4):
        club.buy(ann, "100.00")
    with refused("REWARD_UNAVAILABLE"):
        club.redeem(ann, 300, reward="first_row")
    club.buy(ann, "1.00")
    club.redeem(ann, 300, reward="first_row")
    assert club.balance(ann) == 101
