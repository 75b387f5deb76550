"""CVS pharmacy credits: ten become 5.00, to 50.00 a year."""

from tests.loyalty import Loyalty, refused

NAME = "07_cvs_pharmacy"


def test_a_year_brings_fifty_at_most(loyalty: Loyalty) -> None:
    """125 credits are ten times 5.00; the rest waits, and is over with the year."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-02-02")
    for _ in range(25):
        club.grant(ann, "vaccination", 5)
    assert sum(each["worth"] for each in club.vouchers(ann)) == 5_000
    assert club.balance(ann) == 25
    loyalty.on("2027-01-02")
    assert club.balance(ann) == 0
    club.grant(ann, "vaccination", 5)
    assert len(club.vouchers(ann)) == 10
    club.grant(ann, "vaccination", 5)
    assert (len(club.vouchers(ann)), club.balance(ann)) == (11, 0)


def test_the_step_is_fixed(loyalty: Loyalty) -> None:
    """Nine credits are nothing yet."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    for _ in range(3):
        club.grant(ann, "prescription", 3)
    assert (club.vouchers(ann), club.balance(ann)) == ([], 9)
    club.grant(ann, "prescription", 1)
    assert ([each["worth"] for each in club.vouchers(ann)], club.balance(ann)) == ([500], 0)
    with refused("GRANT_TOO_LARGE"):
        club.grant(ann, "prescription", 4)
