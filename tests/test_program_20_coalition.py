"""A coalition: points are earned and spent at partners, and the claims follow."""

from typing import Any

from tests.loyalty import Loyalty, refused


def test_who_gives_pays_the_issuer_and_the_issuer_pays_who_takes(loyalty: Loyalty) -> None:
    """A Star is earned at the garage for 2 cents, and spent at the cinema for 1."""
    club, ann = loyalty.publish("02_starbucks_2019"), loyalty.member()
    garage, cinema = loyalty.merchant("Garage"), loyalty.merchant("Cinema")
    issuer, asset = club.wallet, club.asset
    with refused("NOT_PERMITTED"):
        club.buy(ann, "100.00", by=garage)
    loyalty.agree(issuer, garage, type="earning", asset=asset, billing="postpaid", claim=claim(garage.account, 2))
    loyalty.agree(issuer, cinema, type="acceptance", asset=asset, received="retired", claim=claim(issuer.account, 1))
    assert club.buy(ann, "100.00", by=garage) == 200
    club.redeem(ann, 150, at=cinema)
    assert (club.balance(ann), loyalty.owed(garage, issuer), loyalty.owed(issuer, cinema)) == (50, 400, 150)


def test_a_partner_earns_by_the_whole_program(loyalty: Loyalty) -> None:
    """Its purchases count for the tier and have the tier's rate, and it pays for the points they gave."""
    club, ann = loyalty.publish("04_sephora"), loyalty.member()
    salon = loyalty.merchant("Salon")
    terms = {"type": "earning", "asset": club.asset, "billing": "postpaid", "claim": claim(salon.account, 1)}
    loyalty.agree(club.wallet, salon, **terms)
    assert [club.buy(ann, "350.00", by=salon), club.buy(ann, "100.00", by=salon), club.buy(ann, "100.00")] == [
        350,
        125,
        125,
    ]
    assert loyalty.owed(salon, club.wallet) == 475


def claim(debtor: Any, amount: int) -> dict[str, Any]:
    """So many cents a point."""
    return {"amount": amount, "points": 1, "currency": "USD", "debtor": debtor, "round": "down"}
