"""Customers without a phone: a card or another number stands for an account in custody, which is claimed later."""

import pytest

from ledger.wallet import Wallet
from tests.loyalty import Club, Loyalty, refused

NAME = "06_cvs_extrabucks"


def find(club: Club, kind: str, value: str) -> str | None:
    """The account that the merchant knows by a number."""
    document = (
        "query($kind: MemberIdentifierKind!, $value: String!) "
        "{ accountByIdentifier(kind: $kind, value: $value) { accountId } }"
    )
    found = club.loyalty.read(club.wallet, document, kind=kind, value=value)["accountByIdentifier"]
    return found and str(found["accountId"])


def in_custody(club: Club, kind: str, value: str) -> Wallet:
    """A customer's account in the merchant's custody, known by a number."""
    held = club.loyalty.in_custody(club.wallet)
    club.loyalty.change(club.wallet, "identifierAdd", "identifier { id }", account=held.account, kind=kind, value=value)
    return held


@pytest.mark.parametrize(
    ("kind", "value", "typed"),
    [
        ("CARD", "4000 1234 5678", "4000-1234-5678"),
        ("PHONE", "+49 30 1234567", "0049301234567"),
        ("EXTERNAL", "C-1001", "C-1001"),
    ],
)
def test_the_till_finds_who_shows_a_number(loyalty: Loyalty, kind: str, value: str, typed: str) -> None:
    """However it is typed; another merchant finds nobody by it."""
    club, other = loyalty.publish(NAME), loyalty.publish("02_starbucks_2019")
    ada = in_custody(club, kind, value)
    assert (find(club, kind, typed), find(other, kind, typed)) == (ada.account, None)
    assert club.buy(ada, "25.00") == 50


def test_who_claims_the_account_later_has_its_points(loyalty: Loyalty) -> None:
    """After that only the new key spends; the card still finds the account, and what is bought with it is earned."""
    club = loyalty.publish(NAME)
    ada = in_custody(club, "CARD", "4000 1234 5678")
    club.buy(ada, "25.00")
    club.redeem(ada, 10)  # the merchant signs for it at the till
    own = loyalty.claim(ada)
    with refused("SIGNATURE_MISSING"):
        club.redeem(ada, 10)
    club.redeem(own, 10)
    assert club.balance(own) == 30
    assert find(club, "CARD", "400012345678") == own.account
    club.buy(own, "25.00")
    assert club.balance(own) == 80


def test_a_claimed_account_is_a_member_like_any_other(loyalty: Loyalty) -> None:
    """Its tier and what it did before stay."""
    club = loyalty.publish("04_sephora")
    ada = in_custody(club, "EXTERNAL", "C-1001")
    club.buy(ada, "350.00")
    own = loyalty.claim(ada)
    assert (club.tier(own), club.buy(own, "100.00"), club.balance(own)) == ("vib", 125, 475)
