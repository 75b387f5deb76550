"""Reminders: of the balance, of points that soon expire, and of a new tier, each once."""

from tests.loyalty import Loyalty, refused

NAME = "21_reminders"


def test_a_balance_is_told_when_a_month_begins(loyalty: Loyalty) -> None:
    """To whoever has points, once, however often somebody looks."""
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    loyalty.on("2026-01-15")
    club.enroll(ben)
    club.buy(ann, "40.00")
    assert [loyalty.run_due(), loyalty.run_due()] == [{"reminded": 1}, {}]
    loyalty.on("2026-02-01")
    club.buy(ann, "2.00")
    assert [loyalty.run_due(), loyalty.run_due()] == [{"reminded": 1}, {}]
    assert club.reminders(ann) == [{"about": "BALANCE", "points": 40}, {"about": "BALANCE", "points": 42}]
    assert club.sentences(ann) == ["You have 40 REMIND to spend.", "You have 42 REMIND to spend."]
    assert club.reminders(ben) == []


def test_points_are_told_thirty_and_seven_days_before_they_go(loyalty: Loyalty) -> None:
    """Those and no others: the lot of a day later has its own reminders."""
    club, ann = loyalty.publish(NAME, reminders={"expiring_days": [30, 7]}), loyalty.member()
    loyalty.on("2025-03-10")
    club.buy(ann, "40.00")
    loyalty.on("2025-03-11")
    club.buy(ann, "2.00")
    told = []
    for day in ("2026-02-07", "2026-02-08", "2026-02-09", "2026-03-02", "2026-03-03", "2026-03-04", "2026-03-10"):
        loyalty.on(day)
        told.append(loyalty.run_due().get("reminded", 0))
    assert told == [0, 1, 1, 0, 1, 1, 0]
    first, second = ({"about": "EXPIRY", "points": 40, "day": "2026-03-10"}, {"points": 2, "day": "2026-03-11"})
    assert club.reminders(ann) == [first, {**first, **second}] * 2
    assert club.sentences(ann)[0] == "40 REMIND will soon expire, the first of them after 2026-03-10."


def test_what_was_spent_in_time_is_not_reminded_of(loyalty: Loyalty) -> None:
    club, ann = loyalty.publish(NAME, reminders={"expiring_days": [30, 7]}), loyalty.member()
    loyalty.on("2025-03-10")
    club.buy(ann, "40.00")
    club.redeem(ann, 40)
    loyalty.on("2026-03-09")
    assert loyalty.run_due() == {}


def test_a_new_tier_is_told(loyalty: Loyalty) -> None:
    """When it is reached, and when it is lost."""
    club, ann = loyalty.publish(NAME, reminders={"new_tier": True}), loyalty.member()
    loyalty.on("2026-05-05")
    club.buy(ann, "499.99")
    assert loyalty.run_due() == {}
    club.buy(ann, "0.01")
    assert [loyalty.run_due(), loyalty.run_due()] == [{"reminded": 1}, {}]
    loyalty.on("2028-01-01")
    assert [loyalty.run_due(), loyalty.run_due()] == [{"lots": 1, "members": 1, "reminded": 1}, {}]
    assert club.reminders(ann) == [{"about": "TIER", "tier": "silver"}, {"about": "TIER", "tier": "bronze"}]
    assert club.sentences(ann)[0] == "You are now in the tier silver of REMIND."


def test_a_merchant_reminds_by_a_mutation_too_and_nobody_twice(loyalty: Loyalty) -> None:
    club, ann, ben = loyalty.publish(NAME), loyalty.member(), loyalty.member()
    club.buy(ann, "40.00")
    members = [ann.account, ben.account]
    loyalty.do(club.wallet, "remind", asset=club.asset, about="balance", members=members)
    with refused("NOTHING_DUE"):
        loyalty.do(club.wallet, "remind", asset=club.asset, about="balance", members=members)
    assert (len(club.reminders(ann)), club.reminders(ben)) == (1, [])
