"""Sephora Beauty Insider: tiers by what a calendar year's purchases come to, expiry by inactivity, a birthday."""

from tests.loyalty import Loyalty, refused

NAME = "04_sephora"


def test_a_tier_is_reached_to_the_cent(loyalty: Loyalty) -> None:
    """349.99 stays an Insider, 350.00 is VIB, and so is 1,000.00 Rouge."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.buy(ann, "349.99")
    assert club.tier(ann) == "insider"
    club.buy(ann, "0.01")
    assert club.tier(ann) == "vib"
    club.buy(ann, "649.99")
    assert club.tier(ann) == "vib"
    club.buy(ann, "0.01")
    assert club.tier(ann) == "rouge"


def test_each_tier_has_its_rate(loyalty: Loyalty) -> None:
    """100.00 are 100 points, 125 for VIB, 150 for Rouge."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    earned = [club.buy(ann, amount) for amount in ("100.00", "250.00", "100.00", "550.00", "100.00")]
    assert earned == [100, 250, 125, 687, 150]


def test_a_tier_is_kept_through_the_end_of_the_next_year(loyalty: Loyalty) -> None:
    """Reached in March 2025, through 2026-12-31."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2025-03-14")
    club.buy(ann, "350.00")
    assert (club.tier(ann), club.tier_until(ann)) == ("vib", "2026-12-31")
    loyalty.on("2026-12-31")
    assert club.buy(ann, "100.00") == 125
    loyalty.on("2027-01-01")
    assert (club.tier(ann), club.buy(ann, "100.00")) == ("insider", 100)


def test_a_refund_takes_a_tier_back(loyalty: Loyalty) -> None:
    """As if that had not been bought."""
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.buy(ann, "350.00", order="o-1")
    club.refund("o-1", "0.01")
    assert club.tier(ann) == "insider"


def test_points_expire_after_eighteen_months_without_any(loyalty: Loyalty) -> None:
    """Whatever a member earns or spends moves the last day of all they have."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    loyalty.on("2025-03-31")
    for member in (ann, ben):
        club.buy(member, "600.00")
        assert club.lots(member) == {"2026-09-30": 600}
    loyalty.on("2026-08-31")
    club.redeem(ann, 500, reward="beauty_cash")
    assert club.lots(ann) == {"2028-02-29": 100}
    loyalty.on("2026-10-01")
    assert (club.balance(ann), club.balance(ben)) == (100, 0)
    club.buy(ann, "1.00")
    club.buy(ben, "1.00")
    assert club.lots(ann) == {"2028-04-01": 101}
    assert club.lots(ben) == {"2026-09-30": 600, "2028-04-01": 1}  # what is over does not come back


def test_five_hundred_points_are_ten_dollars(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    club.give(ann, 1_000)
    club.redeem(ann, 1_000, reward="beauty_cash")
    assert [voucher["worth"] for voucher in club.vouchers(ann)] == [1000, 1000]


def test_a_birthday_is_once_a_year(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME), loyalty.member()
    loyalty.on("2026-05-05")
    club.grant(ann, "birthday", 250)
    with refused("LIMIT_REACHED"):
        club.grant(ann, "birthday", 250)
    loyalty.on("2027-05-05")
    club.grant(ann, "birthday", 250)
    assert club.balance(ann) == 500
    with refused("GRANT_TOO_LARGE"):
        club.grant(loyalty.member(), "birthday", 251)


def test_who_told_their_birthday_has_its_points_without_asking(loyalty: Loyalty) -> None:
    """On the day, from the merchant's due run, and once."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    loyalty.on("2026-05-01")
    for member in (ann, ben):
        club.enroll(member)
    loyalty.change(ann, "profileUpdate", "profile { birthday }", birthday="1990-05-05")
    assert loyalty.run_due(club.wallet) == {}
    loyalty.on("2026-05-05")
    assert [loyalty.run_due(club.wallet), loyalty.run_due(club.wallet)] == [{"birthdays": 1}, {}]
    assert (club.balance(ann), club.balance(ben)) == (250, 0)
