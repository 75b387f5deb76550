"""Refunds and corrections: what comes back, from where, in which lots, and never more than the original in sum."""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY, Posting
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAtMembershipYearEnd,
    Formula,
    GrantRule,
    Limit,
    Multiplier,
    Program,
    PurchaseBonus,
    Ratio,
    Referral,
    Reward,
    TierLevel,
    Tiers,
    When,
)
from ledger.state import SYS_HELD, SYS_ISSUED, SYS_SPENT, Admission, Code, State
from ledger.terms import Cap, Quantity, Rounding
from tests.clubs import Club, line
from tests.rulebook import Book, acceptance, claim, earning, exchange, make_program

ROUNDINGS: tuple[Rounding, ...] = ("down", "half_up", "half_even", "up")
WORTH = {"amount": 1, "currency": "USD", "points": 1}

BANDED = (
    Band(from_amount=0, points=0, per=100),
    Band(from_amount=5_000, points=1, per=100),
    Band(from_amount=10_000, points=2, per=100),
)
"""Nothing up to 50 units, 1 point for each from there to 100, 2 for each over it."""


def lasting(days: int = 30, **changes: Any) -> Program:
    """1 point per whole dollar, to be used within some days."""
    return make_program(expiry=ExpiresAfterDays(count=days), **changes)


class Store(Book):
    """A shop that issues STAR, a café that issues BEAN, and a member, Alice."""

    def __init__(self, program: Program | None = None, **asset: Any) -> None:
        super().__init__()
        self.shop, self.cafe = self.merchant("Shop"), self.merchant("Café")
        self.asset(self.shop, "STAR", program or make_program(), **asset)
        self.asset(self.cafe, "BEAN")
        self.alice = self.member()
        self._references = itertools.count(1)

    def buy(self, amount: int, order: str = "A-1", actor: str | None = None) -> Admission:
        """Alice buys something."""
        purchase = {"amount": amount, "at": self.time, "member": self.alice, "order": order}
        fields: dict[str, Any] = {"asset": "STAR", "currency": "USD", "purchases": [purchase]}
        return self.do("record_purchases", actor=actor or self.shop, **fields)

    def redeem(self, amount: int, merchant: str | None = None) -> str:
        """Alice spends STAR; the operation's id."""
        self.do("redeem", actor=self.alice, amount=amount, asset="STAR", merchant=merchant or self.shop)
        return self.op_id

    def exchange(self, amount: int, **fields: Any) -> str:
        """Alice makes BEAN of STAR; the operation's id."""
        fields = {"minimum_out": 1, **fields}
        self.do("exchange", actor=self.alice, amount=amount, asset="STAR", into="BEAN", **fields)
        return self.op_id

    def of_purchase(self, amount: int, order: str = "A-1", **fields: Any) -> dict[str, Any]:
        """The fields of the refund of a purchase, by the shop unless said otherwise."""
        return self._refund({"amount": amount, "order": order, "type": "purchase"}, self.shop, fields)

    def of_redemption(self, amount: int, operation: str, **fields: Any) -> dict[str, Any]:
        """The fields of the refund of a redemption or capture, by the shop unless said otherwise."""
        return self._refund({"amount": amount, "operation": operation, "type": "redemption"}, self.shop, fields)

    def of_exchange(self, amount: int, operation: str, **fields: Any) -> dict[str, Any]:
        """The fields of the refund of an exchange, by the café unless said otherwise."""
        return self._refund({"amount": amount, "operation": operation, "type": "exchange"}, self.cafe, fields)

    def _refund(self, of: dict[str, Any], actor: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"actor": actor, "asset": "STAR", "of": of, "reference": f"refund-{next(self._references)}"} | fields

    def refund(self, amount: int, order: str = "A-1", **fields: Any) -> Admission:
        """Refund part of a purchase."""
        return self.do("refund", **self.of_purchase(amount, order, **fields))

    def legs(self, admission: Admission) -> list[tuple[str, int, str | None]]:
        """The legs of an entry: who, how many, of which lot."""
        names = {self.alice: "alice", self.shop: "shop", self.cafe: "cafe"}
        return [(names.get(leg.account, leg.account), leg.amount, leg.lot) for leg in admission.postings]


def worldly(state: State) -> dict[str, Any]:
    """All that anyone has, owes or could do, but for what only remembers that something happened."""
    lots = {key: dict(lots) for key, lots in state.lots.items() if lots}
    allotments = {allotment.agreement: allotment.remaining for allotment in state.allotments}
    return {"lots": lots, "allotments": allotments}


# Purchases


def test_refund_takes_back_what_the_amount_had_given() -> None:
    """programs.md row 1: 120 gave 90; after a refund of 30, f(90) = 40 stay."""
    book = Store(make_program(bands=BANDED))
    book.buy(12_000)
    assert book.balance(book.alice, "STAR") == 90
    admission = book.refund(3_000)
    assert admission.postings == (
        Posting(account=book.alice, amount=-50, asset="STAR"),
        Posting(account=SYS_ISSUED, amount=50, asset="STAR"),
    )
    assert book.balance(book.alice, "STAR") == 40
    book.refund(4_000)
    assert book.refund(5_000).postings == ()
    assert book.balance(book.alice, "STAR") == 0


def test_refund_goes_by_the_version_of_the_purchase() -> None:
    """Later versions change neither how much comes back nor what becomes of the rest."""
    book = Store(make_program(bands=BANDED))
    book.buy(12_000)
    book.advance(days=1)
    book.publish("STAR", make_program(bands=(Band(from_amount=0, points=100, per=1),), refunds="negative"))
    book.advance(days=1)
    book.redeem(70)
    book.refund(3_000)
    assert book.lots(book.alice, "STAR") == {}


def test_purchase_that_gave_nothing_can_be_refunded() -> None:
    """There is nothing to take back, but it counts."""
    book = Store(make_program(bands=BANDED))
    book.buy(4_000)
    admission = book.refund(4_000)
    assert (admission.postings, admission.parties) == ((), (book.alice,))
    assert book.refused("refund", **book.of_purchase(1)).code == Code.REFUND_TOO_LARGE


def test_points_come_from_the_lot_of_the_purchase_first() -> None:
    """Even when its day is past; then from others that can still be used, the earliest first."""
    book = Store(lasting(30))
    book.buy(1_000, "A-1")
    book.advance(days=5).buy(1_000, "A-2")
    book.advance(days=5).buy(1_000, "A-3")
    book.give(book.alice, "STAR", 10)
    book.advance(days=26)  # A-2's are past too
    assert list(book.lots(book.alice, "STAR")) == ["2026-04-01", "2026-04-06", "2026-04-11", NO_LAST_DAY]
    admission = book.refund(1_000, "A-2")
    assert book.legs(admission) == [("alice", -10, "2026-04-06"), (SYS_ISSUED, 10, None)]
    book.redeem(15)
    admission = book.refund(1_000, "A-1")
    assert book.legs(admission) == [("alice", -10, "2026-04-01"), (SYS_ISSUED, 10, None)]
    admission = book.refund(1_000, "A-3")
    assert book.legs(admission) == [("alice", -5, None), (SYS_ISSUED, 5, None)]
    assert book.lots(book.alice, "STAR") == {}


def test_points_of_other_days_that_are_past_are_left_alone() -> None:
    """Only the purchase's own lot may be past."""
    book = Store(lasting(30))
    book.buy(1_000, "A-1")
    book.advance(days=5).buy(1_000, "A-2")
    book.redeem(10)
    book.buy(1_000, "A-3")
    book.advance(days=35)
    assert book.lots(book.alice, "STAR") == {"2026-04-06": 20}
    assert book.refund(1_000, "A-1").postings == ()
    assert book.lots(book.alice, "STAR") == {"2026-04-06": 20}


def test_lapsed_holds_return_before_points_are_taken_back() -> None:
    """What is still on hold is out of reach and so becomes a debt, what has lapsed is not."""
    book = Store(lasting(90))
    book.buy(1_000)
    book.hold(book.alice, book.shop, "STAR", 6, days=1)
    book.hold(book.alice, book.shop, "STAR", 3, days=3)
    book.advance(days=2)
    admission = book.refund(1_000)
    lot = "2026-05-31"
    assert book.legs(admission) == [
        (SYS_HELD, -6, None),
        ("alice", 6, lot),
        ("alice", -7, lot),
        ("alice", -3, None),
        (SYS_ISSUED, 10, None),
    ]
    assert book.balance(SYS_HELD, "STAR") == 3


def test_points_on_hold_are_not_forgiven() -> None:
    """Or who places a hold that soon lapses, and returns the goods, would have the points for nothing."""
    book = Store()
    book.buy(10_000, "A-1")
    book.buy(4_000, "A-2")
    book.redeem(30)
    book.hold(book.alice, book.shop, "STAR", 110, days=1)
    book.refund(10_000, "A-1")
    assert book.balance(book.alice, "STAR") == -100
    assert book.refund(4_000, "A-2").postings[0].amount == -10, "more than is on hold is forgiven"
    book.advance(days=2)
    assert book.refused("redeem", actor=book.alice, amount=1, asset="STAR", merchant=book.shop).details == {
        "required_points": 1,
        "available_points": 0,
    }


def test_hold_of_another_asset_or_one_that_is_closed_leaves_no_debt() -> None:
    """What was captured was spent, and is forgiven."""
    book = Store()
    book.buy(10_000)
    hold = book.hold(book.alice, book.shop, "STAR", 100)
    book.do("capture", actor=book.shop, amount=90, final=True, hold=hold)
    book.give(book.alice, "BEAN", 50)
    book.hold(book.alice, book.cafe, "BEAN", 50)
    book.refund(10_000)
    assert book.lots(book.alice, "STAR") == {}


def test_nothing_due_returns_no_lapsed_hold() -> None:
    """An entry that takes nothing leaves everything where it is."""
    book = Store(make_program(bands=BANDED))
    book.buy(12_000)
    book.buy(4_000, "A-2")
    book.hold(book.alice, book.shop, "STAR", 6, days=1)
    book.advance(days=2)
    assert book.refund(1_000, "A-2").postings == ()


# What the member does not have any more


def test_cap_forgives_what_was_spent() -> None:
    """The purchase counts as refunded all the same: what was forgiven is not asked for by the next refund."""
    book = Store()
    book.buy(10_000)
    book.redeem(80)
    book.refund(5_000)
    assert book.balance(book.alice, "STAR") == 0
    book.give(book.alice, "STAR", 100)
    book.refund(5_000)
    assert book.balance(book.alice, "STAR") == 50


def test_negative_leaves_a_debt_that_later_earnings_repay_first() -> None:
    """The debt is an undated leg; what it was taken back for is out of the world at once."""
    book = Store(lasting(30, refunds="negative"))
    book.buy(10_000)
    book.redeem(80)
    admission = book.refund(10_000)
    assert book.legs(admission) == [
        ("alice", -20, "2026-04-01"),
        ("alice", -80, None),
        (SYS_ISSUED, 100, None),
    ]
    assert book.balance(SYS_ISSUED, "STAR") == 0
    assert book.refused("redeem", actor=book.alice, amount=1, asset="STAR", merchant=book.shop).details == {
        "required_points": 1,
        "available_points": 0,
    }
    book.buy(9_000, "A-2")
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 10}


def test_debt_does_not_grow_by_what_the_member_has() -> None:
    """A second refund takes the points that are there; the debt of the first takes nothing from them."""
    book = Store(lasting(30, refunds="negative"))
    book.buy(1_000, "A-1")
    book.redeem(10)
    book.buy(500, "A-2")
    book.refund(1_000, "A-1")
    assert book.lots(book.alice, "STAR") == {NO_LAST_DAY: -5}
    book.give(book.alice, "STAR", {"2026-05-01": 3})
    book.refund(500, "A-2")
    assert book.lots(book.alice, "STAR") == {NO_LAST_DAY: -7}


def test_owe_makes_money_of_what_was_spent() -> None:
    """At the asset's value, as a claim of the merchant's on the member."""
    book = Store(make_program(refunds="owe"), value={"amount": 3, "currency": "EUR", "points": 2})
    book.buy(10_000)
    book.redeem(81)
    admission = book.refund(10_000)
    assert [(leg.account, leg.amount, leg.asset) for leg in admission.postings] == [
        (book.alice, -19, "STAR"),
        (SYS_ISSUED, 19, "STAR"),
        (book.alice, -122, "EUR"),  # 121.5 rounded half up
        (book.shop, 122, "EUR"),
    ]
    assert book.owed(book.alice, book.shop, "EUR") == 122


def test_owing_for_little_by_little_comes_to_no_more_than_for_the_whole() -> None:
    """Ten refunds of a point worth half a cent are 5 cents, not 10."""
    book = Store(make_program(refunds="owe"), value={"amount": 1, "currency": "USD", "points": 2})
    book.buy(1_000)
    book.redeem(10)
    for _ in range(10):
        book.refund(100)
    assert book.owed(book.alice, book.shop) == 5


def test_owed_points_of_no_worth_are_forgiven() -> None:
    """A value of 0 makes no claim."""
    book = Store(make_program(refunds="owe"), value={"amount": 0, "currency": "USD", "points": 1})
    book.buy(1_000)
    book.redeem(10)
    assert book.refund(1_000).postings == ()


# Partners' purchases


def test_prepaid_partner_may_give_again_what_came_back() -> None:
    """What is forgiven stays used."""
    book = Store()
    book.agree(book.shop, book.cafe, earning("STAR"))
    book.do("allot", actor=book.shop, asset="STAR", partner=book.cafe, points=100, reference="block")
    book.buy(10_000, actor=book.cafe)
    book.redeem(30)
    name = f"STAR+{book.cafe}"
    book.refund(2_000, actor=book.cafe)
    assert book.state.allotments.get(name).remaining == 20  # type: ignore[union-attr]
    book.refund(8_000, actor=book.cafe)
    assert book.state.allotments.get(name).remaining == 70  # type: ignore[union-attr]


def test_block_that_was_bought_is_not_paid_back() -> None:
    """A prepaid partner gets points to give again, not the money it paid for them."""
    book = Store()
    book.agree(book.shop, book.cafe, earning("STAR", claim=claim(book.cafe, 5)))
    book.do("allot", actor=book.shop, asset="STAR", partner=book.cafe, points=100, reference="block")
    book.buy(10_000, actor=book.cafe)
    book.refund(10_000, actor=book.cafe)
    assert (book.owed(book.cafe, book.shop), book.owed(book.shop, book.cafe)) == (500, 0)


def test_prepaid_partner_without_points_refunds_what_gave_none() -> None:
    """A purchase too small to give anything needs no allotment, nor does its refund."""
    book = Store()
    book.agree(book.shop, book.cafe, earning("STAR"))
    book.buy(99, actor=book.cafe)
    book.refund(99, actor=book.cafe)
    assert len(book.state.allotments) == 0


def test_postpaid_partner_owes_no_more_for_what_came_back() -> None:
    """The claim is reversed by one the other way, under the agreement's name; what is forgiven is still owed."""
    book = Store()
    name = book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe, 5)))
    book.buy(10_000, actor=book.cafe)
    book.redeem(30)
    admission = book.refund(10_000, actor=book.cafe)
    assert [(leg.account, leg.amount) for leg in admission.postings if leg.asset == "USD"] == [
        (book.shop, -350),
        (book.cafe, 350),
    ]
    assert (book.owed(book.cafe, book.shop), book.owed(book.shop, book.cafe)) == (500, 350)
    assert book.state.claims.get(book.seq, 0).agreement == name  # type: ignore[union-attr]


def test_partners_refund_goes_by_the_agreement_of_the_purchase() -> None:
    """Else raising a rate would make old purchases worth refunding. It goes on when the agreement has ended."""
    book = Store()
    agree: Callable[..., str] = lambda **fields: book.agree(  # noqa: E731
        book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe, **fields))
    )
    agree(amount=1)
    book.buy(10_000, actor=book.cafe)
    book.advance(days=1)
    agree(amount=50, currency="EUR")
    book.refund(5_000, actor=book.cafe)
    assert (book.owed(book.shop, book.cafe), book.owed(book.shop, book.cafe, "EUR")) == (50, 0)
    book.advance(days=1)
    book.agree(book.shop, book.cafe, earning("STAR", "prepaid"))
    book.refund(2_500, actor=book.cafe)
    assert book.owed(book.shop, book.cafe) == 75
    book.do("end_agreement", actor=book.shop, agreement=f"STAR+{book.cafe}", ends=book.time)
    book.refund(2_500, actor=book.cafe)
    assert book.owed(book.shop, book.cafe) == book.owed(book.cafe, book.shop) == 100


@pytest.mark.parametrize("billing", ["prepaid", "postpaid"])
def test_debt_gives_a_partner_nothing_back(billing: str) -> None:
    """Or it would give points to accounts made up for it, which pass them on: again and again, and pay once."""
    book = Store(make_program(refunds="negative"))
    book.agree(book.shop, book.cafe, earning("STAR", billing, claim=claim(book.cafe)))
    if billing == "prepaid":
        book.do("allot", actor=book.shop, asset="STAR", partner=book.cafe, points=100, reference="block")
    book.buy(10_000, actor=book.cafe)
    recipients = [{"amount": 60, "to": book.member()}]
    book.do("transfer", actor=book.alice, asset="STAR", recipients=recipients)
    book.refund(10_000, actor=book.cafe)
    assert book.lots(book.alice, "STAR") == {NO_LAST_DAY: -60}
    if billing == "prepaid":
        assert [each.remaining for each in book.state.allotments] == [40]
    else:
        assert book.balance(book.cafe, "USD") == -60


def test_member_owes_the_partner_that_refunds() -> None:
    """It is the partner that pays for the points."""
    book = Store(make_program(refunds="owe"), value=WORTH)
    book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe)))
    book.buy(10_000, actor=book.cafe)
    book.redeem(40)
    admission = book.refund(10_000, actor=book.cafe)
    assert [(leg.account, leg.amount) for leg in admission.postings if leg.asset == "USD"] == [
        *[(book.alice, -40), (book.cafe, 40)],
        *[(book.shop, -60), (book.cafe, 60)],
    ]


# Redemptions and captures


def test_points_return_to_their_lots_the_last_spent_first() -> None:
    """Spent earliest day first, so the latest day is what returns first."""
    book = Store(lasting(30))
    book.give(book.alice, "STAR", {"2026-03-10": 10, "2026-03-20": 20, NO_LAST_DAY: 30})
    operation = book.redeem(50)
    admission = book.do("refund", **book.of_redemption(25, operation))
    assert book.legs(admission) == [
        (SYS_SPENT, -25, None),
        ("alice", 20, None),
        ("alice", 5, "2026-03-20"),
    ]
    admission = book.do("refund", **book.of_redemption(25, operation))
    assert book.legs(admission) == [
        (SYS_SPENT, -25, None),
        ("alice", 15, "2026-03-20"),
        ("alice", 10, "2026-03-10"),
    ]
    refusal = book.refused("refund", **book.of_redemption(1, operation))
    assert (refusal.code, refusal.details) == (Code.REFUND_TOO_LARGE, {"refundable_points": 0})


@pytest.mark.parametrize(
    ("days", "lot"), [(0, "2026-03-03"), (1, "2026-03-05"), (14, "2026-03-18"), (365, "2027-03-04")]
)
def test_lot_that_is_past_returns_by_the_programs_rule(days: int, lot: str) -> None:
    """It can be used so many more days, or stays expired; what is not past is not touched."""
    book = Store(lasting(30, returned_lot_days=days))
    book.give(book.alice, "STAR", {"2026-03-03": 10, "2026-03-04": 10})
    operation = book.redeem(20)
    book.publish("STAR", lasting(30, returned_lot_days=99), starts=book.later(ms=1))
    book.advance(days=2)
    book.do("refund", **book.of_redemption(20, operation))
    assert book.lots(book.alice, "STAR") == {"2026-03-04": 10, lot: 10}


def test_days_that_are_past_are_the_assets() -> None:
    """Whether a day is past is a question of the program's time zone."""
    book = Store(lasting(30, returned_lot_days=7, time_zone="Asia/Tokyo")).at("2026-03-05T14:59:59.999Z")
    book.give(book.alice, "STAR", {"2026-03-05": 10})
    operation = book.redeem(10)
    book.do("refund", **book.of_redemption(4, operation))
    assert book.lots(book.alice, "STAR") == {"2026-03-05": 4}
    book.advance(ms=1)  # midnight in Tokyo
    book.do("refund", **book.of_redemption(6, operation))
    assert book.lots(book.alice, "STAR") == {"2026-03-05": 4, "2026-03-13": 6}


def test_asset_without_a_program_returns_lots_as_they_were() -> None:
    """There is nobody to say otherwise."""
    book = Store()
    book.asset(book.shop, "BARE", None)
    book.give(book.alice, "BARE", {"2026-03-03": 10})
    book.do("redeem", actor=book.alice, amount=10, asset="BARE", merchant=book.shop)
    operation = book.op_id
    book.advance(days=9)
    book.do("refund", **book.of_redemption(10, operation, asset="BARE"))
    assert book.lots(book.alice, "BARE") == {"2026-03-03": 10}


def test_refund_at_a_partner_reverses_the_claim() -> None:
    """By the amounts of the redemption, whatever the terms say today."""
    book = Store()
    book.agree(book.shop, book.cafe, acceptance("STAR", claim=claim(book.shop, 10, 3, round="up")))
    book.give(book.alice, "STAR", 100)
    operation = book.redeem(100, book.cafe)  # 334 cents
    book.advance(days=1)
    book.agree(book.shop, book.cafe, acceptance("STAR", claim=claim(book.shop, 99, currency="EUR")))
    admission = book.do("refund", **book.of_redemption(50, operation, actor=book.cafe))
    assert [(leg.account, leg.amount, leg.asset) for leg in admission.postings] == [
        (SYS_SPENT, -50, "STAR"),
        (book.alice, 50, "STAR"),
        (book.cafe, -167, "USD"),
        (book.shop, 167, "USD"),
    ]


def test_captured_points_can_be_refunded_each_capture_by_itself() -> None:
    """Its own points and its own claim; the hold goes on."""
    book = Store(lasting(90))
    book.agree(book.shop, book.cafe, acceptance("STAR", claim=claim(book.shop, 1, 2, round="half_up")))
    book.give(book.alice, "STAR", {"2026-03-10": 3, "2026-03-20": 7})
    hold = book.hold(book.alice, book.cafe, "STAR", 10)
    captures = []
    for amount in (1, 4):  # together 2.5 cents: 1, then 2 more
        book.do("capture", actor=book.cafe, amount=amount, hold=hold)
        captures.append(book.op_id)
    assert book.owed(book.shop, book.cafe) == 3
    first = book.do("refund", **book.of_redemption(1, captures[0], actor=book.cafe))
    assert book.legs(first) == [
        *[(SYS_SPENT, -1, None), ("alice", 1, "2026-03-10")],
        *[("cafe", -1, None), ("shop", 1, None)],
    ]
    book.do("refund", **book.of_redemption(4, captures[1], actor=book.cafe))
    assert book.lots(book.alice, "STAR") == {"2026-03-10": 3, "2026-03-20": 2}
    assert book.balance(book.shop, "USD") == 0
    book.do("capture", actor=book.cafe, amount=5, hold=hold)


def test_donation_can_be_refunded_by_who_received_it() -> None:
    """A beneficiary undoes what was given by mistake."""
    book = Store()
    school = book.beneficiary()
    book.agree(book.shop, school, acceptance("STAR", received="kept"))
    book.give(book.alice, "STAR", 100)
    operation = book.redeem(100, school)
    book.do("refund", **book.of_redemption(40, operation, actor=school))
    assert (book.balance(book.alice, "STAR"), book.balance(school, "STAR")) == (40, 60)


# Kept points


def keeping(lots: dict[str, int], **terms: Any) -> tuple[Store, str]:
    """A café that keeps the points it accepts, and the id of a redemption of all of Alice's there."""
    book = Store(lasting(30, returned_lot_days=5))
    book.agree(book.shop, book.cafe, acceptance("STAR", received="kept", **terms))
    book.give(book.alice, "STAR", lots)
    return book, book.redeem(sum(lots.values()), book.cafe)


def test_merchant_gives_the_lots_back_that_it_kept() -> None:
    """Its own points of an earlier day do not become the member's of a later one."""
    book, operation = keeping({"2026-03-20": 20, "2026-03-25": 10})
    book.give(book.cafe, "STAR", {"2026-03-05": 40})
    admission = book.do("refund", **book.of_redemption(30, operation, actor=book.cafe))
    assert book.legs(admission) == [
        ("cafe", -10, "2026-03-25"),
        ("cafe", -20, "2026-03-20"),
        ("alice", 10, "2026-03-25"),
        ("alice", 20, "2026-03-20"),
    ]
    assert book.lots(book.cafe, "STAR") == {"2026-03-05": 40}


def test_merchant_gives_other_points_when_it_has_passed_these_on() -> None:
    """Of what it can use for as long, the earliest first; the member's lots are the original ones."""
    book, operation = keeping({"2026-03-20": 20, "2026-03-25": 10})
    book.do("redeem", actor=book.cafe, amount=24, asset="STAR", merchant=book.shop)
    book.give(book.cafe, "STAR", {"2026-03-01": 100, "2026-03-05": 7, "2026-03-28": 100})
    admission = book.do("refund", **book.of_redemption(30, operation, actor=book.cafe))
    assert book.legs(admission) == [
        *[("cafe", -6, "2026-03-25"), ("cafe", -4, "2026-03-28"), ("cafe", -20, "2026-03-28")],
        *[("alice", 10, "2026-03-25"), ("alice", 20, "2026-03-20")],
    ]


def test_merchant_does_not_make_points_of_an_early_day_last_longer() -> None:
    """It has passed on what lasted, and would give the member that back for points that end tomorrow."""
    book, operation = keeping({"2026-03-20": 20, "2026-03-25": 10})
    book.do("transfer", actor=book.cafe, asset="STAR", recipients=[{"amount": 30, "to": book.member()}])
    book.give(book.cafe, "STAR", {"2026-03-03": 100, "2026-03-22": 25})
    refund = book.of_redemption(30, operation, actor=book.cafe)
    refusal = book.refused("refund", **refund)
    assert (refusal.code, refusal.details) == (
        Code.INSUFFICIENT_POINTS,
        {"required_points": 30, "available_points": 20},
    )
    book.give(book.cafe, "STAR", 10)
    admission = book.do("refund", **refund)
    assert book.legs(admission)[:2] == [("cafe", -10, None), ("cafe", -20, "2026-03-22")]


def test_points_that_return_for_more_days_are_given_of_lots_that_last_as_long() -> None:
    """Where the merchant has not the very lot any more."""
    book, operation = keeping({"2026-03-05": 20})
    book.do("redeem", actor=book.cafe, amount=20, asset="STAR", merchant=book.shop)
    book.advance(days=10)
    book.give(book.cafe, "STAR", {"2026-03-16": 100})
    refund = book.of_redemption(20, operation, actor=book.cafe)
    assert book.refused("refund", **refund).details == {"required_points": 20, "available_points": 0}
    book.give(book.cafe, "STAR", {"2026-03-17": 20})
    assert book.legs(book.do("refund", **refund)) == [("cafe", -20, "2026-03-17"), ("alice", 20, "2026-03-17")]


def test_kept_lots_that_are_past_can_still_be_given_back() -> None:
    """They return by the program's rule, as if they had been retired."""
    book, operation = keeping({"2026-03-05": 20})
    book.advance(days=10)
    book.do("refund", **book.of_redemption(20, operation, actor=book.cafe))
    assert (book.lots(book.alice, "STAR"), book.lots(book.cafe, "STAR")) == ({"2026-03-17": 20}, {})


def test_merchant_cannot_refund_points_it_has_not() -> None:
    """Nor with others whose day is past; what it has on a hold that has lapsed is its own again."""
    book, operation = keeping({"2026-03-20": 20})
    book.do("redeem", actor=book.cafe, amount=5, asset="STAR", merchant=book.shop)
    book.give(book.cafe, "STAR", {"2026-03-01": 100})
    book.hold(book.cafe, book.shop, "STAR", 5, days=1)
    refusal = book.refused("refund", **book.of_redemption(11, operation, actor=book.cafe))
    assert (refusal.code, refusal.path) == (Code.INSUFFICIENT_POINTS, ("of", "amount"))
    assert refusal.details == {"required_points": 11, "available_points": 10}
    book.advance(days=2)
    book.do("refund", **book.of_redemption(15, operation, actor=book.cafe))
    assert (book.balance(book.cafe, "STAR"), book.balance(SYS_HELD, "STAR")) == (100, 0)


# Exchanges


def bonus_exchange(book: Store, **changes: Any) -> None:
    """3:1 and 5,000 more for each 60,000; the shop owes the café a cent for 7 points, Alice a fee the café keeps."""
    terms: dict[str, Any] = {
        "bonus": {"block": 60_000, "points": 5_000},
        "claim": claim(book.shop, 1, 7),
        "fee": {
            "amount": 6,
            "currency": "USD",
            "fixed": 31,
            "kept_by": book.cafe,
            "maximum": 9_900,
            "points": 100,
            "round": "half_up",
        },
    } | changes
    given_terms = {name: value for name, value in terms.items() if value is not None}
    book.agree(book.shop, book.cafe, exchange("STAR", "BEAN", give=3, get=1, **given_terms))


def test_refund_of_an_exchange_undoes_bonus_fee_and_claim() -> None:
    """What comes back is what the part refunded had made, with the bonus of the blocks it breaks."""
    book = Store()
    bonus_exchange(book)
    book.give(book.alice, "STAR", 70_000)
    operation = book.exchange(60_000, maximum_fee=9_900)
    assert book.balance(book.alice, "BEAN") == 25_000
    assert (book.owed(book.shop, book.cafe), book.owed(book.alice, book.cafe)) == (8_571, 3_631)
    admission = book.do("refund", **book.of_exchange(20_000, operation))
    assert [(leg.account, leg.amount, leg.asset) for leg in admission.postings] == [
        (book.alice, -11_667, "BEAN"),  # 25,000 less f(40,000) = 13,333
        (SYS_ISSUED, 11_667, "BEAN"),
        (SYS_SPENT, -20_000, "STAR"),
        (book.alice, 20_000, "STAR"),
        (book.cafe, -2_857, "USD"),
        (book.shop, 2_857, "USD"),
        (book.cafe, -1_211, "USD"),  # 3,631 less 2,420
        (book.alice, 1_211, "USD"),
    ]
    assert {claim.agreement for claim in book.state.claims} == {"STAR>BEAN"}
    book.do("refund", **book.of_exchange(40_000, operation))
    assert (book.balance(book.alice, "STAR"), book.balance(book.alice, "BEAN")) == (70_000, 0)
    assert [book.balance(account, "USD") for account in (book.alice, book.shop, book.cafe)] == [0, 0, 0]


def test_refund_of_an_exchange_goes_by_its_version() -> None:
    """A later rate changes nothing."""
    book = Store()
    bonus_exchange(book, fee=None, claim=None, bonus=None)
    book.give(book.alice, "STAR", 300)
    operation = book.exchange(300)
    book.advance(days=1)
    book.agree(book.shop, book.cafe, exchange("STAR", "BEAN", give=100, get=1))
    book.do("refund", **book.of_exchange(150, operation))
    assert book.balance(book.alice, "BEAN") == 50


def test_points_of_an_exchange_are_taken_from_the_lot_it_gave() -> None:
    """Else points of an early day would become points of a late one."""
    book = Store()
    book.asset(book.cafe, "MINT", lasting(60))
    book.agree(book.shop, book.cafe, exchange("STAR", "MINT"))
    book.give(book.alice, "STAR", 30)
    book.do("exchange", actor=book.alice, amount=30, asset="STAR", into="MINT", minimum_out=30)
    operation = book.op_id
    book.give(book.alice, "MINT", {"2026-03-10": 20, "2026-12-31": 20})
    book.publish("MINT", lasting(10), starts=book.later(ms=1))
    book.advance(days=1)
    book.do("redeem", actor=book.alice, amount=25, asset="MINT", merchant=book.cafe)
    book.give(book.alice, "MINT", {"2026-03-10": 1})
    assert book.lots(book.alice, "MINT") == {"2026-03-10": 1, "2026-05-01": 25, "2026-12-31": 20}
    book.do("refund", **book.of_exchange(28, operation))
    assert book.lots(book.alice, "MINT") == {"2026-12-31": 18}


def test_exchange_is_not_refunded_with_points_that_are_past() -> None:
    """Who let them expire has nothing to give back, nor who is in debt or has them on hold."""
    book = Store()
    book.asset(book.cafe, "MINT", lasting(10))
    book.agree(book.shop, book.cafe, exchange("STAR", "MINT"))
    book.give(book.alice, "STAR", 30)
    book.do("exchange", actor=book.alice, amount=30, asset="STAR", into="MINT", minimum_out=30)
    operation = book.op_id
    book.give(book.alice, "MINT", -5)
    refusal = book.refused("refund", **book.of_exchange(26, operation))
    assert (refusal.code, refusal.path) == (Code.INSUFFICIENT_POINTS, ("of", "amount"))
    assert refusal.details == {"required_points": 26, "available_points": 25}
    book.hold(book.alice, book.cafe, "MINT", 10, days=2)
    assert book.refused("refund", **book.of_exchange(16, operation)).details["available_points"] == 15
    book.advance(days=3)
    book.do("refund", **book.of_exchange(16, operation))
    book.advance(days=8)
    assert book.refused("refund", **book.of_exchange(1, operation)).code == Code.INSUFFICIENT_POINTS
    book.give(book.alice, "MINT", 6)
    book.do("refund", **book.of_exchange(1, operation))
    assert book.lots(book.alice, "MINT") == {"2026-03-12": 14}


def test_part_of_an_exchange_that_made_nothing_takes_nothing() -> None:
    """At 3:1 a single point comes back for none; in sum it is right."""
    book = Store()
    bonus_exchange(book, fee=None, claim=None)
    book.give(book.alice, "STAR", 8)
    operation = book.exchange(8)
    taken = []
    for _ in range(8):
        before = book.balance(book.alice, "BEAN")
        book.do("refund", **book.of_exchange(1, operation))
        taken.append(before - book.balance(book.alice, "BEAN"))
    assert taken == [0, 0, 1, 0, 0, 1, 0, 0]


def test_what_takes_no_points_returns_no_lapsed_hold_of_them() -> None:
    """An entry that takes none of an asset leaves its holds alone."""
    book = Store()
    bonus_exchange(book, fee=None, claim=None)
    book.give(book.alice, "STAR", 8)
    operation = book.exchange(8)
    book.hold(book.alice, book.cafe, "BEAN", 1, days=1)
    book.advance(days=2)
    assert {leg.asset for leg in book.do("refund", **book.of_exchange(1, operation)).postings} == {"STAR"}


def test_kept_points_of_an_exchange_come_from_the_partner() -> None:
    """And it must have them, as it must have those of a redemption."""
    book = Store()
    bonus_exchange(book, received="kept", fee=None, claim=None)
    book.give(book.alice, "STAR", 90)
    operation = book.exchange(90)
    book.do("redeem", actor=book.cafe, amount=60, asset="STAR", merchant=book.shop)
    assert book.refused("refund", **book.of_exchange(31, operation)).code == Code.INSUFFICIENT_POINTS
    book.do("refund", **book.of_exchange(30, operation))
    assert [book.balance(who, "STAR") for who in (book.alice, book.cafe)] == [30, 0]
    assert book.balance(book.alice, "BEAN") == 20


def test_fee_that_nobody_owed_is_not_given_back() -> None:
    """A café that exchanges and keeps the fee itself owes itself nothing, and gets nothing back."""
    book = Store()
    bonus_exchange(book, claim=None)
    book.give(book.cafe, "STAR", 300)
    fields: dict[str, Any] = {"asset": "STAR", "into": "BEAN", "maximum_fee": 9_900, "minimum_out": 100}
    book.do("exchange", actor=book.cafe, amount=300, **fields)
    assert all(leg.asset != "USD" for leg in book.do("refund", **book.of_exchange(300, book.op_id)).postings)


# Whatever is refunded


SPLITS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def cut(whole: int, weights: Sequence[int]) -> list[int]:
    """A whole as parts of at least 1, in about the proportion of some weights."""
    bounds = sorted({whole * sum(weights[:i]) // sum(weights) for i in range(len(weights) + 1)})
    return [after - before for before, after in itertools.pairwise(bounds)]


def refunded(book: Store, parts: Sequence[int], refund: Callable[..., dict[str, Any]], *args: Any, **kw: Any) -> State:
    """The state after refunds of some parts, one after the other; the book is left as it was."""
    state, seq = book.state, book.seq
    book.state = copy.deepcopy(state)
    for part in parts:
        book.do("refund", **refund(part, *args, **kw))
    after, book.state, book.seq = book.state, state, seq
    return after


PURCHASES = st.fixed_dictionaries(
    {
        "amount": st.integers(1, 20_000),
        "bands": st.sampled_from(
            [BANDED, (Band(from_amount=0, points=7, per=300), Band(from_amount=901, points=3, per=100))]
        ),
        "spent": st.integers(0, 300),
        "round_points": st.sampled_from(ROUNDINGS),
        "round_amount": st.sampled_from(["none", "whole_units"]),
        "refunds": st.sampled_from(["cap", "negative", "owe"]),
        "billing": st.sampled_from([None, "prepaid", "postpaid"]),
        "round": st.sampled_from(ROUNDINGS),
        "rate": st.tuples(st.integers(1, 9), st.integers(1, 9)),
    }
)


@settings(max_examples=150, deadline=None)
@given(PURCHASES, st.integers(1, 100), SPLITS)
def test_any_split_of_a_purchases_refund_comes_to_the_whole(
    case: dict[str, Any], percent: int, weights: list[int]
) -> None:
    """For every rounding and policy: lots, money and allotments afterwards are those of one refund of the sum."""
    rules = {name: case[name] for name in ("bands", "round_points", "round_amount", "refunds")}
    amount, points = case["rate"]
    book = Store(lasting(30, **rules), value={"amount": amount, "currency": "EUR", "points": points})
    actor = book.shop if case["billing"] is None else book.cafe
    if case["billing"] == "prepaid":
        book.agree(book.shop, book.cafe, earning("STAR"))
        book.do("allot", actor=book.shop, asset="STAR", partner=book.cafe, points=10**6, reference="block")
    elif case["billing"] == "postpaid":
        terms = claim(book.cafe, amount, points, round=case["round"])
        book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=terms))
    before = worldly(book.state)
    book.buy(case["amount"], actor=actor)
    given_points = book.balance(book.alice, "STAR")
    if spent := min(case["spent"], given_points):
        book.redeem(spent)
    whole = max(case["amount"] * percent // 100, 1)
    once = refunded(book, [whole], book.of_purchase, actor=actor)
    bit_by_bit = refunded(book, cut(whole, weights), book.of_purchase, actor=actor)
    assert worldly(bit_by_bit) == worldly(once)
    record = bit_by_bit.purchase_refunds.get(actor, "A-1")
    assert record == once.purchase_refunds.get(actor, "A-1")
    assert record is not None
    assert record.returned <= record.points <= given_points
    if whole == case["amount"]:
        assert record.points == given_points
        if not spent:
            assert worldly(bit_by_bit) == before


SPENDINGS = st.fixed_dictionaries(
    {
        "lots": st.lists(st.integers(1, 40), min_size=1, max_size=4),
        "kind": st.sampled_from(["redeem", "capture", "exchange"]),
        "received": st.sampled_from(["kept", "retired"]),
        "round": st.sampled_from(ROUNDINGS),
        "rate": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "bonus": st.none() | st.fixed_dictionaries({"block": st.integers(1, 30), "points": st.integers(1, 9)}),
    }
)


def spend(book: Store, case: dict[str, Any], amount: int) -> str:
    """Spend Alice's points at the café as the case says; the operation's id."""
    if case["kind"] == "redeem":
        return book.redeem(amount, book.cafe)
    if case["kind"] == "exchange":
        return book.exchange(amount, maximum_fee=MAX_INTEGER)
    hold = book.hold(book.alice, book.cafe, "STAR", amount)
    book.do("capture", actor=book.cafe, amount=amount, hold=hold)
    return book.op_id


@settings(max_examples=150, deadline=None)
@given(SPENDINGS, st.integers(1, 100), SPLITS)
def test_any_split_of_a_refund_of_points_comes_to_the_whole(
    case: dict[str, Any], percent: int, weights: list[int]
) -> None:
    """Refunded whole, it leaves everyone with the lots and the money they had before."""
    book = Store(lasting(30))
    get, give = case["rate"]
    debtor, creditor = (book.shop, book.cafe) if case["received"] == "retired" else (book.cafe, book.shop)
    terms: dict[str, Any] = {"claim": claim(debtor, get, give, round=case["round"]), "received": case["received"]}
    if case["kind"] == "exchange":
        fee = {"amount": get, "currency": "EUR", "fixed": 3, "kept_by": book.shop, "points": give, "round": "up"}
        terms |= {"fee": fee} | ({"bonus": case["bonus"]} if case["bonus"] else {})
        book.agree(book.shop, book.cafe, exchange("STAR", "BEAN", give=give, get=get * 10, **terms))
    else:
        book.agree(book.shop, book.cafe, acceptance("STAR", **terms))
    lots = {f"2026-03-1{i}": points for i, points in enumerate(case["lots"])}
    total = sum(lots.values())
    book.give(book.alice, "STAR", lots)
    book.give(book.alice, "BEAN", {"2026-03-04": 50})
    book.give(book.cafe, "STAR", {"2026-03-05": 50, "2026-03-11": 7})
    before = worldly(book.state)
    operation = spend(book, case, total)
    refund = book.of_exchange if case["kind"] == "exchange" else book.of_redemption
    whole = max(total * percent // 100, 1)
    once = refunded(book, [whole], refund, operation, actor=book.cafe)
    bit_by_bit = refunded(book, cut(whole, weights), refund, operation, actor=book.cafe)
    assert worldly(bit_by_bit) == worldly(once)
    if whole == total:
        assert worldly(bit_by_bit) == before
    for owing, owed_to in [(debtor, creditor), (book.alice, book.shop)]:
        owed = sum(item.amount for item in bit_by_bit.claims if (item.debtor, item.creditor) == (owing, owed_to))
        back = sum(item.amount for item in bit_by_bit.claims if (item.debtor, item.creditor) == (owed_to, owing))
        assert back <= owed
        assert (back == owed) or whole < total


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("buy"), st.integers(0, 9_999), st.booleans()),
        st.tuples(st.just("spend"), st.sampled_from(["redeem", "capture", "exchange"]), st.integers(1, 60)),
        st.tuples(st.just("pass on"), st.booleans(), st.integers(1, 60)),
        st.tuples(st.just("wait"), st.integers(1, 9), st.booleans()),
        st.tuples(st.just("refund"), st.integers(0, 20), st.integers(1, 3_000)),
        st.tuples(st.just("refund"), st.integers(0, 20), st.integers(1, 30)),
    ),
    min_size=8,
    max_size=40,
)


class Street(Store):
    """A shop and a café with every sort of agreement, and what can be refunded there: (the fields, who)."""

    def __init__(self, refunds: str, received: str, rounding: Rounding) -> None:
        program = lasting(12, refunds=refunds, returned_lot_days=3, round_points=rounding, round_amount="none")
        super().__init__(program, value={"amount": 2, "currency": "EUR", "points": 3})
        self.parties = (self.cafe, self.shop) if received == "kept" else (self.shop, self.cafe)
        terms: dict[str, Any] = {"claim": claim(self.parties[0], 2, 7, round=rounding), "received": received}
        self.agree(self.shop, self.cafe, acceptance("STAR", **terms))
        fee = {"amount": 1, "currency": "EUR", "kept_by": self.shop, "points": 9, "round": rounding}
        self.agree(self.shop, self.cafe, exchange("STAR", "BEAN", give=3, get=2, fee=fee, **terms))
        self.agree(self.shop, self.cafe, earning("STAR", "postpaid", claim=claim(self.cafe, 3, 5, round=rounding)))
        self.originals: list[dict[str, Any]] = []

    def try_to(self, kind: str, **fields: Any) -> bool:
        """Whether an operation was recorded; if not, for lack of points or of anything left to refund."""
        signed = self.build(kind, **fields)
        decision = self.decide(signed)
        if isinstance(decision, Admission):
            self.record(signed, decision)
            return True
        assert decision.code in {Code.INSUFFICIENT_POINTS, Code.REFUND_TOO_LARGE, Code.NOTHING_DUE}
        return False

    def step(self, name: str, one: Any, other: Any) -> None:
        """Do one step of a history."""
        points: dict[str, Any] = {"actor": self.alice, "amount": other, "asset": "STAR"}
        match name:
            case "buy":
                actor, order = self.cafe if other else self.shop, f"A-{self.seq}"
                self.buy(one, order, actor)
                self.originals.append({"actor": actor, "of": {"order": order, "type": "purchase"}})
            case "spend" if one == "capture":
                hold = f"hold-{self.seq}"
                if self.try_to("hold", merchant=self.cafe, reference=hold, until=self.later(days=2), **points):
                    (placed,) = [each for each in self.state.holds if each.reference == hold]
                    self.do("capture", actor=self.cafe, amount=(other + 1) // 2, hold=placed.hold)
                    self._spent("redemption")
            case "spend" if one == "redeem":
                if self.try_to("redeem", merchant=self.cafe, **points):
                    self._spent("redemption")
            case "spend":
                if other >= 2 and self.try_to("exchange", into="BEAN", maximum_fee=99, minimum_out=1, **points):
                    self._spent("exchange")
            case "pass on":
                actor = self.cafe if one else self.alice
                self.try_to("redeem", merchant=self.shop, **points | {"actor": actor})
            case "wait":
                self.advance(days=one)
                through = self.later(days=-1)[:10]
                if other:
                    self.try_to("expire", actor=self.shop, asset="STAR", limit=400, through=through)
            case "refund" if self.originals:
                original = self.originals[one % len(self.originals)]
                of = original["of"] | {"amount": other}
                self.try_to("refund", actor=original["actor"], asset="STAR", of=of, reference=f"R-{self.seq}")

    def _spent(self, kind: str) -> None:
        self.originals.append({"actor": self.cafe, "of": {"operation": self.op_id, "type": kind}})


@settings(max_examples=80, deadline=None)
@given(
    STEPS,
    st.sampled_from(["cap", "negative", "owe"]),
    st.sampled_from(["kept", "retired"]),
    st.sampled_from(ROUNDINGS),
)
def test_whatever_happens_in_between_no_more_comes_back_than_there_was(
    steps: list[tuple[str, Any, Any]], refunds: str, received: str, rounding: Rounding
) -> None:
    """Points and money of each original; only a debt by the program's policy is below zero."""
    book = Street(refunds, received, rounding)
    for step in steps:
        book.step(*step)
    for record in book.state.purchase_refunds:
        _, original = book.state.earnings[record.merchant, "order", record.reference]
        assert original.amount is not None
        assert record.amount <= original.amount
        assert record.returned <= record.points <= original.points
        assert record.points == original.points or record.amount < original.amount
    for spending in book.state.spendings:
        assert 0 <= spending.refunded <= spending.amount
    for name, currency, debtor, creditor in [
        (f"STAR@{book.cafe}", "USD", *book.parties),
        ("STAR>BEAN", "USD", *book.parties),
        ("STAR>BEAN", "EUR", book.alice, book.shop),
        (f"STAR+{book.cafe}", "USD", book.cafe, book.shop),
    ]:
        claims = [each for each in book.state.claims if (each.agreement, each.currency) == (name, currency)]
        owed = sum(each.amount for each in claims if (each.debtor, each.creditor) == (debtor, creditor))
        back = sum(each.amount for each in claims if (each.debtor, each.creditor) == (creditor, debtor))
        assert back <= owed
    for (account, asset), lots in book.state.lots.items():
        if account[:4] != "sys_" and asset in book.state.assets:
            allowed = refunds != "owe" and (account, asset) == (book.alice, "STAR")  # points on hold are no gift
            assert all(points > 0 for day, points in lots.items() if not (allowed and day == NO_LAST_DAY))


# Refusals

Break = tuple[Code, tuple[str, ...], dict[str, Any]]


def first_of(breaks: Sequence[Break]) -> dict[str, Any]:
    """All changes at once; where two change the same field, the first does."""
    return {name: value for _, _, changes in reversed(breaks) for name, value in changes.items()}


PURCHASE_BREAKS: list[Break] = [
    (Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
    (Code.UNKNOWN_ORIGINAL, ("of", "order"), {"order": "A-9"}),
    (Code.REFERENCE_EXISTS, ("reference",), {"reference": "used"}),
    (Code.REFUND_TOO_LARGE, ("of", "amount"), {"amount": 9_001}),
    (Code.AMOUNT_OVERFLOW, (), {"amount": 9_000}),
]


@pytest.mark.parametrize("first", range(len(PURCHASE_BREAKS)))
def test_refusals_of_a_purchases_refund_come_in_order(first: int) -> None:
    """Each reason that applies alone is told; with all later ones it is still the first."""
    book = Store(make_program(refunds="owe"), value={"amount": MAX_INTEGER, "currency": "USD", "points": 1})
    book.buy(10_000)
    book.refund(1_000, reference="used")
    book.redeem(90)
    code, path, change = PURCHASE_BREAKS[first]
    for breaks in (change, first_of(PURCHASE_BREAKS[first:])):
        fields: dict[str, Any] = {"amount": 100, "order": "A-1", "reference": "new"} | breaks
        refusal = book.refused("refund", **book.of_purchase(fields.pop("amount"), fields.pop("order"), **fields))
        assert (refusal.code, refusal.path) == (code, path)


SPENDING_BREAKS: list[Break] = [
    (Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
    (Code.UNKNOWN_ORIGINAL, ("of", "operation"), {"operation": "0" * 64}),
    (Code.REFERENCE_EXISTS, ("reference",), {"reference": "used"}),
    (Code.REFUND_TOO_LARGE, ("of", "amount"), {"amount": 91}),
    (Code.SUPPLY_EXCEEDED, ("of", "amount"), {"amount": 90}),
]


@pytest.mark.parametrize("first", range(len(SPENDING_BREAKS)))
@pytest.mark.parametrize("kind", ["redeem", "exchange"])
def test_refusals_of_a_refund_of_points_come_in_order(kind: str, first: int) -> None:
    """As those of a purchase's; points that return must fit under the supply cap again."""
    book = Store(supply_cap=100)
    book.agree(book.shop, book.cafe, exchange("STAR", "BEAN"))
    book.give(book.alice, "STAR", 100)
    refund = book.of_exchange if kind == "exchange" else book.of_redemption
    operation = book.exchange(100) if kind == "exchange" else book.redeem(100)
    book.do("refund", **refund(10, operation, reference="used"))
    book.give(book.alice, "STAR", 80)
    code, path, change = SPENDING_BREAKS[first]
    for breaks in (change, first_of(SPENDING_BREAKS[first:])):
        fields: dict[str, Any] = {"amount": 10, "operation": operation, "reference": "new"} | breaks
        refusal = book.refused("refund", **refund(fields.pop("amount"), fields.pop("operation"), **fields))
        assert (refusal.code, refusal.path) == (code, path)
    book.do("refund", **refund(10, operation))


def test_points_of_an_exchange_are_looked_at_before_those_that_return() -> None:
    """What the holder must give back, then what the partner kept, or the supply cap."""
    book = Store(supply_cap=100)
    book.agree(book.shop, book.cafe, exchange("STAR", "BEAN"))
    book.give(book.alice, "STAR", 100)
    operation = book.exchange(100)
    book.give(book.alice, "STAR", 100)
    assert book.refused("refund", **book.of_exchange(100, operation)).code == Code.SUPPLY_EXCEEDED
    book.do("redeem", actor=book.alice, amount=1, asset="BEAN", merchant=book.cafe)
    assert book.refused("refund", **book.of_exchange(100, operation)).code == Code.INSUFFICIENT_POINTS


def test_refund_that_does_not_fit_tells_what_is_left() -> None:
    """In minor units for a purchase, in points for the rest."""
    book = Store()
    book.buy(10_000)
    book.refund(4_000)
    refusal = book.refused("refund", **book.of_purchase(6_001))
    assert (refusal.code, refusal.details) == (Code.REFUND_TOO_LARGE, {"refundable_amount": 6_000})
    operation = book.redeem(50)
    book.do("refund", **book.of_redemption(20, operation))
    refusal = book.refused("refund", **book.of_redemption(31, operation))
    assert (refusal.code, refusal.details) == (Code.REFUND_TOO_LARGE, {"refundable_points": 30})


def test_only_who_recorded_a_purchase_refunds_it() -> None:
    """An order of another merchant, or of another asset, is unknown; so is a grant."""
    book = Store()
    book.asset(book.shop, "MOON")
    book.buy(10_000)
    granted: dict[str, Any] = {"activity": "goodwill", "amount": 5, "member": book.alice, "reference": "G-1"}
    book.do("grant", actor=book.shop, asset="STAR", **granted)
    for fields in (
        book.of_purchase(1, actor=book.cafe),
        book.of_purchase(1, actor=book.alice),
        book.of_purchase(1, asset="MOON"),
        book.of_purchase(1, "G-1"),
    ):
        assert book.refused("refund", **fields).code == Code.UNKNOWN_ORIGINAL


def test_only_who_received_points_refunds_them() -> None:
    """And as what they were spent: an exchange is no redemption, nor the other way round."""
    book = Store()
    book.asset(book.shop, "MOON")
    book.agree(book.shop, book.cafe, exchange("STAR", "BEAN"))
    book.agree(book.shop, book.cafe, acceptance("STAR"))
    book.give(book.alice, "STAR", 100)
    redemption, exchanged = book.redeem(10, book.cafe), book.exchange(10)
    for fields in (
        book.of_redemption(1, redemption),
        book.of_redemption(1, redemption, actor=book.alice),
        book.of_redemption(1, redemption, actor=book.cafe, asset="MOON"),
        book.of_redemption(1, exchanged, actor=book.cafe),
        book.of_exchange(1, redemption),
        book.of_exchange(1, exchanged, actor=book.shop),
        book.of_exchange(1, exchanged, asset="BEAN"),
    ):
        assert book.refused("refund", **fields).code == Code.UNKNOWN_ORIGINAL
    book.do("refund", **book.of_redemption(1, redemption, actor=book.cafe))
    book.do("refund", **book.of_exchange(1, exchanged))


def test_reference_is_good_for_one_refund_of_any_kind() -> None:
    """Two merchants may use the same one."""
    book = Store()
    book.agree(book.shop, book.cafe, acceptance("STAR"))
    book.buy(10_000)
    operation, elsewhere = book.redeem(10), book.redeem(10, book.cafe)
    book.refund(100, reference="R-1")
    refusal = book.refused("refund", **book.of_redemption(1, operation, reference="R-1"))
    assert (refusal.code, refusal.details) == (Code.REFERENCE_EXISTS, {"seq": book.seq})
    book.do("refund", **book.of_redemption(1, elsewhere, actor=book.cafe, reference="R-1"))


def test_allotment_does_not_grow_beyond_what_can_be_counted() -> None:
    """What was allotted in all must be a number that the format knows, however much of it was given."""
    book = Store()
    book.agree(book.shop, book.cafe, earning("STAR"))
    allot: dict[str, Any] = {"actor": book.shop, "asset": "STAR", "partner": book.cafe}
    book.do("allot", points=10, reference="one", **allot)
    book.buy(1_000, actor=book.cafe)
    refusal = book.refused("allot", points=MAX_INTEGER - 9, reference="two", **allot)
    assert (refusal.code, refusal.path) == (Code.POINTS_OVERFLOW, ("points",))
    book.do("allot", points=MAX_INTEGER - 10, reference="two", **allot)
    book.refund(1_000, actor=book.cafe)
    assert [each.remaining for each in book.state.allotments] == [MAX_INTEGER]


@pytest.mark.parametrize("kind", ["transfer", "redeem"])
def test_lots_do_not_grow_beyond_what_an_entry_can_say(kind: str) -> None:
    """A debt takes back points that others still have, so more than 2^53-1 could gather; to expire them is an entry."""
    bands = (Band(from_amount=0, points=10**9, per=1),)
    book = Store(make_program(bands=bands, refunds="negative", round_amount="none"))
    friend = book.member()
    amount = MAX_INTEGER // 10**9
    points = amount * 10**9
    for last in (False, True):
        book.alice = book.member()
        book.buy(amount, order := f"A-{last}")
        fields: dict[str, Any] = {"actor": book.alice, "asset": "STAR"}
        if kind == "transfer":
            fields["recipients"] = [{"amount": points, "to": friend}]
        else:
            fields |= {"amount": points, "merchant": book.shop}
        if last:
            assert book.refused(kind, **fields).code is Code.POINTS_OVERFLOW
            break
        book.do(kind, **fields)
        book.refund(amount, order)


def test_money_that_goes_back_must_be_countable() -> None:
    """A balance of 2^53-1 has no room for more."""
    book = Store()
    book.agree(book.shop, book.cafe, acceptance("STAR", claim=claim(book.shop)))
    book.give(book.alice, "STAR", 10)
    operation = book.redeem(10, book.cafe)
    book.owe(book.cafe, book.shop, MAX_INTEGER)  # the shop is owed all but 10
    assert book.refused("refund", **book.of_redemption(10, operation, actor=book.cafe)).code == Code.AMOUNT_OVERFLOW


# Corrections


def correction(book: Store, amount: int, **changes: Any) -> dict[str, Any]:
    """The fields of a correction of Alice's points by the shop."""
    fields: dict[str, Any] = {"actor": book.shop, "amount": amount, "asset": "STAR", "member": book.alice}
    return fields | {"reason": "goodwill", "reference": "C-1"} | changes


def test_correction_gives_points_of_the_program_in_force() -> None:
    """In the lot of today by the last version that has started, though it be closed."""
    book = Store(lasting(30)).at("2026-03-02T23:59:59.999Z")
    book.publish("STAR", lasting(7), starts=book.time, ends=book.later(ms=1))
    book.advance(ms=1)
    admission = book.do("correct", **correction(book, 25))
    assert book.legs(admission) == [(SYS_ISSUED, -25, None), ("alice", 25, "2026-03-10")]


def test_correction_takes_points_away_as_spending_does() -> None:
    """The earliest lots first, lapsed holds before; they are out of the world as if never issued."""
    book = Store(lasting(30))
    book.give(book.alice, "STAR", {"2026-03-01": 5, "2026-03-10": 10, "2026-03-20": 20})
    book.hold(book.alice, book.shop, "STAR", 10, days=1)
    book.advance(days=2)
    admission = book.do("correct", **correction(book, -15, reason="fraud"))
    assert book.legs(admission) == [
        *[(SYS_HELD, -10, None), ("alice", 10, "2026-03-10")],
        *[("alice", -10, "2026-03-10"), ("alice", -5, "2026-03-20"), (SYS_ISSUED, 15, None)],
    ]
    refusal = book.refused("correct", **correction(book, -16, reference="C-2"))
    assert (refusal.code, refusal.path) == (Code.INSUFFICIENT_POINTS, ("amount",))
    assert refusal.details == {"required_points": 16, "available_points": 15}


def test_correction_repays_a_debt_first() -> None:
    """As whatever else gives points by a program."""
    book = Store(lasting(30))
    book.give(book.alice, "STAR", -12)
    book.do("correct", **correction(book, 20))
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 8}


def test_points_can_be_taken_away_without_a_program() -> None:
    """But not be given: nobody could say until when they last."""
    book = Store()
    book.asset(book.shop, "BARE", None)
    book.give(book.alice, "BARE", 5)
    refusal = book.refused("correct", **correction(book, 1, asset="BARE"))
    assert (refusal.code, refusal.path) == (Code.PROGRAM_MISSING, ("asset",))
    book.do("correct", **correction(book, -5, asset="BARE"))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("signers", "amount", "refused"), [(1, 100, False), (1, 101, True), (2, 101, False)])
def test_large_correction_needs_more_signatures(sign: int, signers: int, amount: int, *, refused: bool) -> None:
    """Either way, above the bound of the program now."""
    book = Store()
    shop = book.merchant("Big shop", count=2, approval_threshold=2)
    book.asset(shop, "BIG", make_program(approval_above=100))
    book.give(book.alice, "BIG", 500)
    fields = correction(book, sign * amount, actor=shop, asset="BIG", signers=book.keys[shop][:signers])
    if refused:
        assert book.refused("correct", **fields).code == Code.APPROVAL_MISSING
    else:
        book.do("correct", **fields)


def test_refusals_of_a_correction_come_in_order() -> None:
    """The asset, whose it is, the member, the reference, the program, approval, then the amounts."""
    book = Store(make_program(grants=(GrantRule(activity="goodwill", max_points=MAX_INTEGER),)), supply_cap=1_000)
    big = book.merchant("Big shop", count=2, approval_threshold=2)
    key = book.keys[big][:1]
    fresh = make_program(approval_above=0)
    book.do("define_asset", actor=big, asset="SOON", name="Soon", scale=0, transferable=True, supply_cap=10)
    book.publish("SOON", fresh, starts=book.later(days=1))
    book.give(book.alice, "SOON", 10)
    book.do("correct", actor=big, amount=-1, asset="SOON", member=book.alice, reason="other", reference="C-1")
    fields = correction(book, MAX_INTEGER, actor=big, asset="SOON", signers=key)
    wrong: list[Break] = [
        (Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE", "member": book.cafe}),
        (Code.NOT_PERMITTED, ("actor",), {"asset": "STAR", "member": book.cafe}),
        (Code.UNKNOWN_ACCOUNT, ("member",), {"member": book.cafe}),
        (Code.UNKNOWN_ACCOUNT, ("member",), {"member": "mem_" + "z" * 26}),
        (Code.REFERENCE_EXISTS, ("reference",), {}),
        (Code.PROGRAM_MISSING, ("asset",), {"reference": "C-2"}),
    ]
    for code, path, changes in wrong:
        refusal = book.refused("correct", **fields | changes)
        assert (refusal.code, refusal.path) == (code, path)
    book.advance(days=1)
    fields["reference"] = "C-2"
    assert book.refused("correct", **fields).code == Code.APPROVAL_MISSING
    fields["signers"] = book.keys[big]
    assert book.refused("correct", **fields).code == Code.POINTS_OVERFLOW
    assert book.refused("correct", **fields | {"amount": 2}).code == Code.SUPPLY_EXCEEDED
    assert book.refused("correct", **fields | {"amount": -10}).code == Code.INSUFFICIENT_POINTS
    book.do("correct", **fields | {"amount": 1})


def test_frozen_member_is_no_obstacle_to_its_merchant() -> None:
    """Refunds and corrections are the merchant's acts: the member does nothing."""
    book = Store()
    book.buy(10_000)
    operation = book.redeem(50)
    book.do("freeze", actor=book.operator, account=book.alice, reason="fraud")
    book.refund(1_000)
    book.do("refund", **book.of_redemption(50, operation))
    book.do("correct", **correction(book, -90))
    assert book.balance(book.alice, "STAR") == 0


# Lines


def basket(*amounts: int, program: Program | None = None, **changes: Any) -> Club:
    """A purchase A-1 with lines of these amounts, of which the second is shoes."""
    book = Club(program, **changes)
    lines = [line(amount, "shoes" if i == 1 else None) for i, amount in enumerate(amounts)]
    book.buy(sum(amounts), "A-1", lines=lines)
    return book


def refunded_lines(book: Club) -> tuple[int, ...]:
    """How much of each line of A-1 is refunded by now."""
    refund = book.state.purchase_refunds.get(book.shop, "A-1")
    return () if refund is None else refund.lines


DOUBLE_SHOES = Multiplier(multiplier="shoes", times=Ratio(numerator=2, denominator=1), when=When(categories=("shoes",)))
WORTHLESS_SHOES = Multiplier(
    multiplier="used_shoes", times=Ratio(numerator=0, denominator=1), when=When(categories=("shoes",))
)


def test_refund_of_lines_takes_back_what_they_gave() -> None:
    """Those named, whatever else the purchase had."""
    book = basket(10_000, 5_000, 1_000, multipliers=(DOUBLE_SHOES,))
    assert book.stars() == 210
    book.refund(5_000, lines={1: 5_000})
    assert (book.stars(), refunded_lines(book)) == (110, (0, 5_000, 0))
    book.refund(1_500, lines={2: 500, 0: 1_000})
    assert (book.stars(), refunded_lines(book)) == (95, (1_000, 5_000, 500))


def test_refund_that_names_no_lines_is_of_the_last_ones() -> None:
    """As far as something is left of them."""
    book = basket(10_000, 5_000, 1_000, multipliers=(DOUBLE_SHOES,))
    book.refund(500, lines={1: 500})
    for amount, lines in [(800, (0, 500, 800)), (1_000, (0, 1_300, 1_000)), (13_700, (10_000, 5_000, 1_000))]:
        book.refund(amount)
        assert refunded_lines(book) == lines
    assert book.stars() == 0


def test_refund_of_what_never_earned_takes_nothing() -> None:
    """A gift card in the basket gave no points."""
    book = basket(10_000, 5_000, excluded_categories=("shoes",))
    assert book.refund(5_000, lines={1: 5_000}).postings == ()
    book.refund(5_000)
    assert book.stars() == 50


def test_lines_are_kept_apart_under_a_plain_program_too() -> None:
    """They give nothing more, but what of them is refunded must be known to whoever looks."""
    book = basket(10_000, 5_000)
    book.refund(2_000, lines={0: 2_000})
    assert (book.stars(), refunded_lines(book)) == (130, (2_000, 0))
    refusal = book.refused("refund", **book.of_refund(8_001, lines={0: 8_001}))
    assert (refusal.code, refusal.path) == (Code.REFUND_TOO_LARGE, ("of", "lines[0]", "amount"))
    assert refusal.details == {"refundable_amount": 8_000}


@pytest.mark.parametrize("special", [False, True])
def test_line_that_is_not_there_is_refused(*, special: bool) -> None:
    """After the whole amount was looked at, in the order in which lines are named."""
    book = basket(10_000, 5_000, multipliers=(DOUBLE_SHOES,) if special else ())
    book.buy(100, "A-2")
    for fields, code, path in [
        (book.of_refund(15_001, lines={2: 15_001}), Code.REFUND_TOO_LARGE, ("of", "amount")),
        (book.of_refund(6_001, lines={1: 5_001, 2: 1_000}), Code.REFUND_TOO_LARGE, ("of", "lines[0]", "amount")),
        (book.of_refund(6_001, lines={2: 1_000, 1: 5_001}), Code.UNKNOWN_LINE, ("of", "lines[0]", "line")),
        (book.of_refund(100, "A-2", lines={0: 100}), Code.UNKNOWN_LINE, ("of", "lines[0]", "line")),
    ]:
        refusal = book.refused("refund", **fields)
        assert (refusal.code, refusal.path) == (code, path)


def test_refund_never_gives_points() -> None:
    """Without its shoes a purchase may have given more: nothing is due for them, and less for what comes after."""
    cheap = PurchaseBonus(bonus="cheap", points=5, when=When(from_amount=1))
    book = basket(
        10_000,
        10_000,
        multipliers=(WORTHLESS_SHOES,),
        bonuses=(cheap,),
        bands=(Band(from_amount=0, points=1, per=100),),
    )
    assert book.stars() == 105
    assert book.refund(10_000, lines={1: 10_000}).postings == ()
    book.refund(5_000)
    assert book.stars() == 55
    book.refund(5_000)
    assert book.stars() == 0


def test_line_without_which_more_had_been_given_is_due_nothing_until_that_is_made_up_for() -> None:
    """Of bands that rise, the first refunds by shoes worth nothing make the average of the rest dearer."""
    rising = (Band(from_amount=0, points=3, per=100), Band(from_amount=10_000, points=0, per=100))
    book = basket(10_000, 10_000, multipliers=(WORTHLESS_SHOES,), bands=rising)
    assert book.stars() == 150, "300 of which the shoes, half of it, give nothing"
    assert book.refund(5_000, lines={1: 5_000}).postings == (), "200 of the rest's 300 would be more"
    assert book.refund(5_000, lines={1: 5_000}).postings == (), "and 300 of 300 more still"
    assert book.refund(4_000).postings == (), "180 are left of what would be given, 150 were"
    book.refund(2_000)
    assert book.stars() == 120
    book.refund(4_000)
    assert book.stars() == 0


# What a purchase counted for


GOLD = Tiers(basis="amount", levels=(TierLevel(from_count=10_000, tier="gold"),), period="calendar_year")
DOUBLE_GOLD = Multiplier(multiplier="gold", times=Ratio(numerator=2, denominator=1), when=When(tiers=("gold",)))


def test_refund_goes_by_the_circumstances_of_the_purchase() -> None:
    """Bought in gold, it gives back double, though the member is gold no longer."""
    book = Club(tiers=GOLD, multipliers=(DOUBLE_GOLD,))
    book.buy(10_000, "A-1")
    book.buy(1_000, "A-2")
    book.refund(10_000, "A-1")
    assert (book.stars(), book.membership().tier) == (20, None)
    book.refund(500, "A-2")
    assert book.stars() == 10


@pytest.mark.parametrize(
    ("basis", "counts"),
    [("amount", (15_000, 8_000)), ("points", (300, 160)), ("status", (150, 80)), ("visits", (1, 1))],
)
def test_refund_is_counted_off_the_period_of_the_purchase(basis: Any, counts: tuple[int, int]) -> None:
    """What was refunded did not happen, as far as it earned anything; a visit is one until nothing is left."""
    times = Multiplier(multiplier="always", times=Ratio(numerator=2, denominator=1))
    tiers = Tiers(basis=basis, levels=(TierLevel(from_count=10**9, tier="gold"),), period="calendar_year")
    book = Club(tiers=tiers, multipliers=(times,), excluded_categories=("shoes",))
    lines = [line(15_000), line(5_000, "shoes")]
    book.buy(20_000, "A-1", at="2025-12-31T12:00:00.000Z", lines=lines)
    assert book.progress() == {(basis, "2025"): counts[0]}
    book.refund(5_000)
    assert book.progress() == {(basis, "2025"): counts[0]}
    book.refund(7_000)
    assert book.progress() == {(basis, "2025"): counts[1]}
    book.refund(8_000)
    assert book.progress() == {}


def test_refund_makes_room_under_the_cap() -> None:
    """In the month of the purchase; what had no room gives nothing back."""
    book = Club(earning_cap=Cap(period="month", points=150))
    book.buy(10_000, "A-1")
    book.buy(10_000, "A-2")
    book.advance(days=31)
    assert book.refund(5_000, "A-2").postings == ()
    book.refund(2_000, "A-2")
    assert book.usages() == {("earned:STAR", book.alice, "2026-03"): 130}
    assert book.buy(10_000, "A-3", at="2026-03-31T12:00:00.000Z").earnings[0].points == 20
    for order in ("A-1", "A-3"):
        book.refund(10_000, order)
    book.refund(3_000, "A-2")
    assert (book.usages(), book.stars()) == ({}, 0)


@pytest.mark.parametrize("refunds", ["cap", "negative", "owe"])
def test_points_that_were_spent_make_no_room_under_the_cap(refunds: str) -> None:
    """Else who buys, spends and returns what it bought could have as many points again, as often as it likes."""
    asset = {"value": WORTH} if refunds == "owe" else {}
    book = Club(earning_cap=Cap(period="month", points=150), refunds=refunds, asset=asset)
    book.buy(20_000, "A-1")
    book.do("redeem", actor=book.alice, amount=120, asset="STAR", merchant=book.shop)
    book.refund(20_000, "A-1")
    assert book.usages() == {("earned:STAR", book.alice, "2026-03"): 120}
    assert book.buy(20_000, "A-2").earnings[0].points == 30


def test_member_that_returned_everything_buys_for_the_first_time() -> None:
    """Half of it would not do."""
    first = PurchaseBonus(bonus="welcome", points=7, when=When(first_purchase=True))
    book = Club(bonuses=(first,))
    book.buy(1_000, "A-1")
    book.refund(500)
    assert book.buy(100, "A-2").earnings[0].points == 1
    book.refund(500)
    book.refund(100, "A-2")
    assert (book.membership().purchases, book.stars()) == (0, 0)
    assert book.buy(100, "A-3").earnings[0].points == 8


def test_bonus_goes_with_what_it_was_for() -> None:
    """Below the least amount it is gone at once, and with the last line of its category."""
    large = PurchaseBonus(bonus="large", points=50, when=When(from_amount=10_000))
    shoes = PurchaseBonus(bonus="shoes", points=20, when=When(categories=("shoes",)))
    book = basket(8_000, 2_000, bonuses=(large, shoes))
    assert book.stars() == 170
    book.refund(100)
    assert book.stars() == 119
    book.refund(1_900, lines={1: 1_900})
    assert book.stars() == 80


def test_points_of_a_quantity_are_left_in_proportion_to_the_money() -> None:
    """Half of the fare is half of the miles."""
    miles = Formula(bands=(Band(from_amount=0, points=1, per=1),), formula="miles", quantity="miles")
    book = Club(formulas=(miles,))
    book.do("enroll", actor=book.alice, asset="STAR", formula="miles")
    book.buy(30_000, "A-1", quantities=[Quantity(name="miles", quantity=1_000)])
    book.refund(10_000)
    assert book.stars() == 666
    book.refund(20_000)
    assert book.stars() == 0


# What else a purchase gave


def test_status_points_come_back_as_far_as_they_are_there() -> None:
    """Nobody owes status: what was spent of it is forgiven."""
    book = Club(status_asset="TIER", refunds="negative")
    book.buy(10_000, "A-1")
    book.do("redeem", actor=book.alice, amount=70, asset="TIER", merchant=book.shop)
    assert book.legs(book.refund(5_000)) == [
        ("alice", -50, "STAR", None),
        (SYS_ISSUED, 50, "STAR", None),
        ("alice", -30, "TIER", None),
        (SYS_ISSUED, 30, "TIER", None),
    ]
    book.refund(5_000)
    assert (book.stars(asset="TIER"), book.stars()) == (0, 0)


def test_status_points_on_a_lapsed_hold_are_taken_back() -> None:
    """They return first, as any points do."""
    book = Club(status_asset="TIER")
    book.buy(10_000, "A-1")
    book.hold(book.alice, book.shop, "TIER", 100, days=1)
    book.advance(days=2)
    book.refund(10_000)
    assert (book.stars(asset="TIER"), book.balance(SYS_ISSUED, "TIER")) == (0, 0)


def invited(refunds: str, **changes: Any) -> Club:
    """Alice's purchase A-1 rewarded Bob, who invited her, with 50 points; half of it is refunded."""
    referral = Referral(points=50, limit=Limit(count=1, period="year"))
    book = Club(referral=referral, refunds=refunds, expiry=ExpiresAfterDays(count=30), **changes)
    book.invite(book.alice, book.bob)
    book.buy(1_000, "A-1")
    book.refund(500)
    assert book.stars(book.bob) == 50
    return book


def test_inviter_gives_back_what_it_had_for_a_purchase_that_was_returned() -> None:
    """After the member, from the lot of the purchase first; it may be rewarded for another purchase then."""
    book = invited("cap")
    book.give(book.bob, "STAR", {"2026-03-10": 30})
    admission = book.refund(500)
    assert book.legs(admission) == [
        ("alice", -5, "STAR", "2026-04-01"),
        (SYS_ISSUED, 5, "STAR", None),
        ("bob", -50, "STAR", "2026-04-01"),
        (SYS_ISSUED, 50, "STAR", None),
    ]
    assert book.usages() == {}
    book.buy(1_000, "A-2")
    assert book.stars(book.bob) == 80


@pytest.mark.parametrize(("refunds", "left"), [("cap", 0), ("negative", -40), ("owe", 0)])
def test_what_an_inviter_has_spent_is_forgiven_or_a_debt(refunds: str, left: int) -> None:
    """Never money: it was not its purchase. The entry is about it though it has no leg."""
    asset = {"value": WORTH} if refunds == "owe" else {}
    book = invited(refunds, asset=asset)
    book.do("redeem", actor=book.bob, amount=40, asset="STAR", merchant=book.shop)
    book.refund(500)
    assert (book.stars(book.bob), book.owed(book.bob, book.shop)) == (left, 0)
    forgiven = invited("cap")
    forgiven.do("redeem", actor=forgiven.bob, amount=50, asset="STAR", merchant=forgiven.shop)
    assert forgiven.bob in forgiven.refund(500).parties


@pytest.mark.parametrize("refunds", ["cap", "negative"])
def test_invitation_of_which_points_were_spent_stays_counted(refunds: str) -> None:
    """Else two could have its points again by buying and returning, as often as they like."""
    book = invited(refunds)
    book.do("redeem", actor=book.bob, amount=1, asset="STAR", merchant=book.shop)
    book.refund(500)
    assert book.usages() == {("invited:STAR", book.bob, "2026"): 1}
    left = book.stars(book.bob)
    book.buy(1_000, "A-2")
    assert book.stars(book.bob) == left


@pytest.mark.parametrize("refunds", ["cap", "owe"])
def test_inviters_points_on_hold_are_not_forgiven(refunds: str) -> None:
    """As with the member's own under "cap": what has lapsed is taken, what has not becomes a debt."""
    book = invited(refunds, asset={"value": WORTH} if refunds == "owe" else {})
    book.hold(book.bob, book.shop, "STAR", 20, days=1)
    book.hold(book.bob, book.shop, "STAR", 30, days=7)
    book.advance(days=2)
    book.refund(500)
    assert book.lots(book.bob, "STAR") == {NO_LAST_DAY: -30}


def test_automatic_reward_stays() -> None:
    """It was had, and may have been used; its points are forgiven as any that were spent."""
    book = Club(rewards=(Reward(automatic=True, price=60, reward="coffee"),))
    book.buy(10_000, "A-1")
    book.refund(10_000)
    assert (book.stars(), [each.status for each in book.state.vouchers]) == (0, ["issued"])


# From which lot


def test_points_of_a_tier_that_never_expire_come_back_from_those() -> None:
    """Not from an earlier lot that ends soon."""
    levels = (TierLevel(from_count=10_000, tier="gold", never_expires=True),)
    book = Club(tiers=Tiers(basis="amount", levels=levels, period="calendar_year"), expiry=ExpiresAfterDays(count=30))
    book.buy(10_000, "A-1")
    book.buy(500, "A-2")
    book.refund(500, "A-2")
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 100}


def test_points_of_a_membership_year_come_back_from_its_lot() -> None:
    """That of the member, though the purchase was on another day, and though it is past."""
    book = Club(expiry=ExpiresAtMembershipYearEnd(count=0))
    book.do("grant", **book.grant(1))
    book.advance(days=360)
    book.buy(1_000, "A-1")
    assert book.lots(book.alice, "STAR") == {"2027-03-01": 11}
    book.advance(days=30)
    book.refund(1_000)
    assert book.lots(book.alice, "STAR") == {"2027-03-01": 1}


def test_refund_is_no_activity() -> None:
    """Points that end by inactivity are taken from wherever they were moved to, and prolonged by nothing."""
    book = Club(expiry=ExpiresAfterInactivity(months=6))
    book.buy(1_000, "A-1")
    book.advance(days=10)
    book.buy(2_000, "A-2")
    book.advance(days=10)
    book.refund(1_000, "A-1")
    assert book.lots(book.alice, "STAR") == {"2026-09-12": 20}


# All of it


PARTS: dict[str, Any] = {
    "bonuses": (
        PurchaseBonus(bonus="welcome", points=7, when=When(first_purchase=True)),
        PurchaseBonus(bonus="large", points=11, when=When(from_amount=5_000)),
    ),
    "earning_cap": Cap(period="month", points=120),
    "excluded_categories": ("tax",),
    "expiry": ExpiresAfterInactivity(months=3),
    "multipliers": (
        DOUBLE_GOLD,
        WORTHLESS_SHOES,
        Multiplier(multiplier="app", times=Ratio(numerator=5, denominator=4)),
    ),
    "referral": Referral(points=50, limit=Limit(count=1, period="month")),
    "round_amount": "none",
    "status_asset": "TIER",
    "tiers": GOLD,
    "vesting_days": 3,
}


def counted(book: Club) -> Any:
    """All that a refund is to undo."""
    members = {each.account: (each.purchases, each.tier) for each in book.state.memberships}
    assets = ("STAR", "TIER")
    lots = {key: dict(lots) for key, lots in book.state.lots.items() if lots and key[1] in assets}
    return lots, list(book.state.progress), book.usages(), list(book.state.pending), members


@settings(max_examples=25)
@given(
    st.sets(st.sampled_from(sorted(PARTS))),
    st.lists(
        st.lists(st.tuples(st.integers(0, 9_000), st.sampled_from([None, "shoes", "tax"])), min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_refunding_everything_leaves_nothing_whatever_the_split(
    parts: set[str], purchases: list[list[tuple[int, str | None]]], random: Any
) -> None:
    """Lots, progress, caps, promises and first purchases are as if nothing had been bought, in any order of refunds."""
    if "multipliers" in parts:
        parts |= {"tiers"}  # which they name
    book = Club(**{name: PARTS[name] for name in parts})
    book.invite(book.alice, book.bob)
    before = counted(book)
    recorded = [
        book.purchase(
            sum(amount for amount, _ in lines), f"A-{i}", lines=[line(amount, category) for amount, category in lines]
        )
        for i, lines in enumerate(purchases)
        if any(amount for amount, _ in lines)
    ]
    if not recorded:
        return
    book.do("record_purchases", **book.of(*recorded))
    if book.state.pending.get(book.shop, recorded[0]["order"]) is not None and random.random() < 0.5:
        book.advance(days=3)
        book.vest(recorded[0]["order"])
    left = {each["order"]: {i: part.amount for i, part in enumerate(each["lines"])} for each in recorded}
    while left:
        order = random.choice(list(left))
        lines = {i: amount for i, amount in left[order].items() if amount}
        if random.random() < 0.5:
            named = {i: random.randint(1, amount) for i, amount in lines.items() if random.random() < 0.5}
            named = named or {max(lines): lines[max(lines)]}
            book.refund(sum(named.values()), order, named)
            left[order] = {i: amount - named.get(i, 0) for i, amount in left[order].items()}
        else:
            amount = wanted = random.randint(1, sum(lines.values()))
            for i in sorted(lines, reverse=True):
                now = min(wanted, lines[i])
                left[order][i] -= now
                wanted -= now
            book.refund(amount, order)
        if not any(left[order].values()):
            del left[order]
    assert counted(book) == before


# By hand and by exchange


def test_points_by_hand_last_through_the_membership_year_of_who_gets_them() -> None:
    """Who is no member has one that begins today; points that end by inactivity have their months from now."""
    book = Club(expiry=ExpiresAtMembershipYearEnd(count=0))
    book.buy(0)
    book.advance(days=10)
    for number, member in enumerate((book.alice, book.bob)):
        fields = {"actor": book.shop, "amount": 5, "asset": "STAR", "member": member, "reason": "goodwill"}
        book.do("correct", reference=f"by-hand-{number}", **fields)
    assert (book.lots(book.alice, "STAR"), book.lots(book.bob, "STAR")) == ({"2027-03-01": 5}, {"2027-03-11": 5})
    idle = Club(expiry=ExpiresAfterInactivity(months=6))
    idle.give(idle.alice, "STAR", {"2026-04-01": 1})
    fields = {"actor": idle.shop, "amount": 5, "asset": "STAR", "member": idle.alice, "reason": "goodwill"}
    idle.do("correct", reference="by-hand", **fields)
    assert idle.lots(idle.alice, "STAR") == {"2026-04-01": 1, "2026-09-02": 5}


def test_exchange_into_a_membership_year_is_undone_from_its_lot() -> None:
    """The points came in the lot of the year of who exchanged them."""
    book = Club(expiry=ExpiresAtMembershipYearEnd(count=0))
    book.asset(book.cafe, "BEAN")
    book.buy(0)
    book.advance(days=10)
    book.agree(book.cafe, book.shop, exchange("BEAN", "STAR"))
    book.give(book.alice, "BEAN", 10)
    book.give(book.alice, "STAR", {"2026-03-20": 10})
    book.do("exchange", actor=book.alice, amount=10, asset="BEAN", into="STAR", minimum_out=10)
    assert book.lots(book.alice, "STAR") == {"2026-03-20": 10, "2027-03-01": 10}
    of = {"amount": 10, "operation": book.op_id, "type": "exchange"}
    book.do("refund", actor=book.shop, asset="BEAN", of=of, reference="undone")
    assert book.lots(book.alice, "STAR") == {"2026-03-20": 10}
