"""Zara: a merchant without a program that accepts the points of another."""

from tests.loyalty import Loyalty, moved, refused


def test_a_redemption_there_books_the_claim(loyalty: Loyalty) -> None:
    """100 Stars are spent at Zara, and Starbucks owes it 5.00 for them."""
    club, ann, zara = loyalty.publish("02_starbucks_2019"), loyalty.member(), loyalty.merchant("Zara")
    club.buy(ann, "60.00")
    with refused("NOT_ACCEPTED"):
        club.redeem(ann, 100, at=zara)
    claim = {"amount": 5, "points": 1, "currency": "USD", "debtor": club.wallet.account, "round": "down"}
    loyalty.agree(club.wallet, zara, type="acceptance", asset=club.asset, received="retired", claim=claim)
    spent = club.redeem(ann, 100, at=zara, reference="bill-1")
    assert (moved(spent, str(zara.account), "USD"), club.balance(ann)) == (500, 20)
    assert (loyalty.owed(club.wallet, zara), loyalty.owed(zara, club.wallet)) == (500, 0)


def test_what_is_on_the_list_of_the_issuer_is_not_to_be_had_there(loyalty: Loyalty) -> None:
    """Zara sells its own things for the points, not the program's rewards."""
    club, ann, zara = loyalty.publish("02_starbucks_2019"), loyalty.member(), loyalty.merchant("Zara")
    club.buy(ann, "60.00")
    loyalty.agree(club.wallet, zara, type="acceptance", asset=club.asset, received="retired")
    with refused("UNKNOWN_REWARD"):
        club.redeem(ann, 25, at=zara, reward="customization")
