"""Vesting: points that are promised for a later day, what becomes of them until then, and their issue."""

from typing import Any

import pytest

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    GrantRule,
    Limit,
    Referral,
    Reward,
    TierLevel,
    Tiers,
)
from ledger.state import SYS_ISSUED, SYS_SPENT, Code, Pending
from ledger.terms import Cap
from tests.clubs import Club
from tests.rulebook import claim, earning, make_program

THIRTY_DAYS = ExpiresAfterDays(count=30)


def club(**changes: Any) -> Club:
    """Points of purchases can be used from 14 days after them on, for 30 days; it is 2 March."""
    return Club(**{"expiry": THIRTY_DAYS, "vesting_days": 14, **changes})


def test_purchase_promises_points_and_issues_none() -> None:
    """The lot is known: its days are counted from the day on which the points vest."""
    book = club()
    admission = book.buy(10_000, "A-1")
    assert (admission.postings, admission.parties) == ((), (book.alice,))
    assert admission.earnings[0].points == 100
    assert book.pending() == Pending(
        merchant=book.shop,
        order="A-1",
        asset="STAR",
        account=book.alice,
        points=100,
        vests_on="2026-03-16",
        last_day="2026-04-15",
        version=1,
    )


def test_purchase_that_gives_nothing_promises_nothing() -> None:
    """There is nothing to wait for."""
    book = club()
    book.buy(99, "A-1")
    assert book.pending() is None


def test_grants_do_not_vest() -> None:
    """They are nothing that could be returned."""
    book = club()
    book.do("grant", **book.grant(7))
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 7}


@pytest.mark.parametrize(("time", "due"), [("2026-03-15T14:59:59.999Z", False), ("2026-03-15T15:00:00.000Z", True)])
def test_points_vest_on_a_day_of_the_program(time: str, *, due: bool) -> None:
    """From midnight in Tokyo on, 14 days after the local date of the purchase."""
    book = club(time_zone="Asia/Tokyo")
    book.buy(10_000, "A-1")
    book.at(time)
    if due:
        assert book.legs(book.vest("A-1")) == [
            (SYS_ISSUED, -100, "STAR", None),
            ("alice", 100, "STAR", "2026-04-15"),
        ]
        assert book.pending() is None
    refusal = book.refused("vest", **book.of_vest("A-1"))
    assert (refusal.code, refusal.path) == (Code.NOTHING_DUE, ("purchases",))


def test_purchases_that_are_not_due_are_passed_over() -> None:
    """So are those nobody knows, those that vested already, and those of another asset."""
    book = club()
    book.asset(book.shop, "MOON", make_program(vesting_days=1))
    book.buy(100, "A-1")
    book.do("record_purchases", **book.of(book.purchase(100, "M-1"), asset="MOON"))
    book.advance(days=14).buy(100, "A-2")
    admission = book.vest("A-2", "M-1", "A-1", "nobodys")
    assert [leg.amount for leg in admission.postings] == [-1, 1]
    assert book.pending("A-2") is not None
    assert book.pending("M-1") is not None
    assert book.refused("vest", **book.of_vest("A-1", "A-2", "M-1")).code == Code.NOTHING_DUE


def test_issuer_or_operator_issues_what_vested() -> None:
    """Nobody else, and only of an asset there is."""
    book = club()
    book.buy(100, "A-1")
    book.advance(days=14)
    for actor in (book.cafe, book.alice):
        assert book.refused("vest", **book.of_vest("A-1", actor=actor)).code == Code.NOT_PERMITTED
    assert book.refused("vest", **book.of_vest("A-1", asset="MOON")).code == Code.UNKNOWN_ASSET
    book.vest("A-1", actor=book.operator)
    assert book.stars() == 1


def test_version_of_the_purchase_decides() -> None:
    """A later version that knows no vesting changes nothing for what was promised."""
    book = club()
    book.buy(10_000, "A-1")
    book.advance(days=1)
    book.publish("STAR", make_program(bands=(Band(from_amount=0, points=9, per=1),)))
    book.advance(days=13)
    book.vest("A-1")
    assert book.lots(book.alice, "STAR") == {"2026-04-15": 100}


def test_legs_come_in_the_order_of_the_purchases_the_members_before_the_inviters() -> None:
    """Status points follow by themselves; their lots are those of their own program on the day of issue."""
    book = club(status_asset="TIER", referral=Referral(points=50))
    book.publish("TIER", make_program(expiry=ExpiresAfterDays(count=7)), starts=book.later(ms=1))
    book.invite(book.alice, book.bob)
    book.buy(10_000, "A-1")
    book.buy(20_000, "A-2")
    assert [(each.points, each.status_points, each.inviter_points) for each in book.state.pending] == [
        (100, 100, 50),
        (200, 200, 0),
    ]
    assert book.stars(book.bob) == 0
    book.advance(days=20)
    assert book.legs(book.vest("A-2", "A-1")) == [
        (SYS_ISSUED, -350, "STAR", None),
        ("alice", 200, "STAR", "2026-04-15"),
        ("alice", 100, "STAR", "2026-04-15"),
        ("bob", 50, "STAR", "2026-04-15"),
        (SYS_ISSUED, -300, "TIER", None),
        ("alice", 200, "TIER", "2026-03-29"),
        ("alice", 100, "TIER", "2026-03-29"),
    ]


def test_status_points_alone_vest_too() -> None:
    """A program may give nothing but status for a purchase."""
    book = Club(
        bands=(Band(from_amount=0, points=1, per=100),),
        earning_cap=Cap(period="day", points=1),
        status_asset="TIER",
        vesting_days=1,
    )
    book.buy(100, "A-1")
    book.buy(500, "A-2")
    book.advance(days=1)
    book.vest("A-2")
    assert (book.stars(), book.stars(asset="TIER")) == (0, 5)


def test_vested_points_repay_a_debt_first() -> None:
    """As any points earned do."""
    book = club()
    book.give(book.alice, "STAR", -30)
    book.buy(10_000, "A-1")
    book.advance(days=14)
    book.vest("A-1")
    assert book.lots(book.alice, "STAR") == {"2026-04-15": 70}


def test_supply_cap_refuses_all_of_a_vesting() -> None:
    """It is looked at when points are issued; what does not fit stays promised."""
    book = Club(vesting_days=1, asset={"supply_cap": 150})
    book.buy(10_000, "A-1")
    book.buy(10_000, "A-2")
    book.advance(days=1)
    refusal = book.refused("vest", **book.of_vest("A-1", "A-2"))
    assert (refusal.code, refusal.path) == (Code.SUPPLY_EXCEEDED, ("purchases",))
    book.vest("A-1")
    assert book.refused("vest", **book.of_vest("A-2")).code == Code.SUPPLY_EXCEEDED
    book.do("redeem", actor=book.alice, amount=50, asset="STAR", merchant=book.shop)
    book.vest("A-2")


def test_promises_are_bounded_one_by_one() -> None:
    """Together they may come to more than can be issued, which then is refused."""
    book = Club(bands=(Band(from_amount=0, points=1, per=1),), round_amount="none", vesting_days=1)
    book.buy(MAX_INTEGER, "A-1")
    book.buy(1, "A-2")
    book.advance(days=1)
    assert book.refused("vest", **book.of_vest("A-1", "A-2")).code == Code.POINTS_OVERFLOW
    book.vest("A-1")
    assert book.refused("vest", **book.of_vest("A-2")).code == Code.POINTS_OVERFLOW


def test_partner_pays_when_the_purchase_is_recorded() -> None:
    """For what was promised: at the issue it owes nothing more."""
    book = club()
    book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe)))
    admission = book.do("record_purchases", **book.of(book.purchase(10_000, "A-1"), actor=book.cafe))
    assert book.legs(admission) == [("cafe", -100, "USD", None), ("shop", 100, "USD", None)]
    book.advance(days=14)
    purchases = [{"merchant": book.cafe, "order": "A-1"}]
    book.vest(purchases=purchases)
    assert (book.stars(), book.owed(book.cafe, book.shop)) == (100, 100)


def test_allotment_is_used_by_what_is_promised() -> None:
    """Else a partner could promise more than it bought."""
    book = club()
    book.agree(book.shop, book.cafe, earning("STAR"))
    book.do("allot", actor=book.shop, asset="STAR", partner=book.cafe, points=100, reference="block")
    book.do("record_purchases", **book.of(book.purchase(10_000), actor=book.cafe))
    fields = book.of(book.purchase(100), actor=book.cafe)
    assert book.refused("record_purchases", **fields).code == Code.ALLOTMENT_USED_UP


def test_tiers_and_caps_count_a_purchase_when_it_is_recorded() -> None:
    """Vesting counts nothing again, and asks for no room."""
    levels = (TierLevel(from_count=100, tier="gold", never_expires=True),)
    tiers = Tiers(basis="points", levels=levels, period="calendar_year")
    book = club(tiers=tiers, earning_cap=Cap(period="month", points=150))
    book.buy(10_000, "A-1")
    book.buy(10_000, "A-2")
    assert book.progress() == {("points", "2026"): 150}
    assert book.membership().tier == "gold"
    used = book.usages()
    book.advance(days=14)
    book.vest("A-1", "A-2")
    assert (book.progress(), book.usages()) == ({("points", "2026"): 150}, used)
    assert book.lots(book.alice, "STAR") == {"2026-04-15": 100, NO_LAST_DAY: 50}, "the second was bought in gold"


def test_automatic_reward_is_had_for_what_vests() -> None:
    """Not before: promised points buy nothing."""
    book = club(rewards=(Reward(automatic=True, price=40, reward="coffee"),))
    book.give(book.alice, "STAR", 40)
    book.buy(10_000, "A-1")
    assert len(book.state.vouchers) == 0
    book.advance(days=14)
    assert book.legs(book.vest("A-1"))[2:] == [
        ("alice", -100, "STAR", "2026-04-15"),
        ("alice", -20, "STAR", None),
        (SYS_SPENT, 120, "STAR", None),
    ]
    assert len(book.state.vouchers) == 3


def test_vesting_is_no_activity_but_the_purchase_was() -> None:
    """A member that waits does nothing for its older points."""
    book = Club(expiry=ExpiresAfterInactivity(months=6), vesting_days=14)
    book.do("grant", **book.grant(10))
    assert book.lots(book.alice, "STAR") == {"2026-09-02": 10}
    book.advance(days=10)
    assert book.legs(book.buy(10_000, "A-1")) == [
        ("alice", -10, "STAR", "2026-09-02"),
        ("alice", 10, "STAR", "2026-09-12"),
    ]
    book.advance(days=30)
    book.vest("A-1")
    assert book.lots(book.alice, "STAR") == {"2026-09-12": 10, "2026-09-26": 100}


# Refunds of what has not vested


def test_refund_takes_from_what_was_promised() -> None:
    """Nothing is posted; what is left vests."""
    book = club()
    book.buy(10_000, "A-1")
    admission = book.refund(3_000)
    assert (admission.postings, admission.parties) == ((), (book.alice,))
    assert book.pending().points == 70  # type: ignore[union-attr]
    book.advance(days=14)
    book.vest("A-1")
    book.refund(2_000)
    assert book.stars() == 50


def test_nothing_is_left_of_the_promise_for_a_purchase_that_was_returned() -> None:
    """Neither points, nor status, nor the inviter's; and the next purchase is the first again."""
    limit = Limit(count=1, period="ever")
    book = club(status_asset="TIER", referral=Referral(points=50, limit=limit))
    book.invite(book.alice, book.bob)
    book.buy(10_000, "A-1")
    book.refund(9_900)
    assert book.pending() is not None
    book.refund(100)
    assert (book.pending(), book.membership().purchases, book.usages()) == (None, 0, {})
    book.buy(5_000, "A-2")
    assert book.pending("A-2").inviter_points == 50  # type: ignore[union-attr]


def test_inviters_points_stay_promised_while_something_is_left() -> None:
    """Though the member's own are all gone."""
    book = Club(bands=(Band(from_amount=1_000, points=1, per=100),), vesting_days=1, referral=Referral(points=50))
    book.invite(book.alice, book.bob)
    book.buy(2_000, "A-1")
    book.refund(1_500)
    promised = book.pending()
    assert promised is not None
    assert (promised.points, promised.inviter_points) == (0, 50)
    book.advance(days=1)
    assert book.legs(book.vest("A-1")) == [(SYS_ISSUED, -50, "STAR", None), ("bob", 50, "STAR", None)]
    book.refund(500)
    assert book.stars(book.bob) == 0


def test_prepaid_partner_may_give_again_what_never_vested() -> None:
    """And a postpaid one owes nothing for it."""
    book = club(grants=(GrantRule(activity="goodwill", max_points=9),))
    book.agree(book.shop, book.cafe, earning("STAR"))
    book.do("allot", actor=book.shop, asset="STAR", partner=book.cafe, points=100, reference="block")
    book.do("record_purchases", **book.of(book.purchase(10_000, "A-1"), actor=book.cafe))
    book.refund(4_000, actor=book.cafe)
    assert [allotment.remaining for allotment in book.state.allotments] == [40]
