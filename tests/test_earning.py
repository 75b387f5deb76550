"""Earning by agreement: what a partner gives, what it costs whom, and debts that are repaid first.

What an issuer's own purchases and grants give is shown in ``test_rules``.
"""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY, Posting
from ledger.program_terms import Band, ExpiresAfterDays, GrantRule
from ledger.programs import round_ratio
from ledger.state import SYS_ISSUED, AllotmentAlert, Code
from ledger.terms import Rounding
from tests.rulebook import Book, claim, earning, make_program

ROUNDINGS: tuple[Rounding, ...] = ("down", "half_up", "half_even", "up")


class Coalition(Book):
    """A shop that issues STAR, a café that may give it by terms of the test's choice, and a member."""

    def __init__(self, program: Any = None, **asset: Any) -> None:
        super().__init__()
        self.shop, self.cafe = self.merchant("Shop"), self.merchant("Café")
        self.asset(self.shop, "STAR", program or make_program(), **asset)
        self.alice = self.member()
        self._references = itertools.count(1)

    def prepaid(self, points: int = 0, **terms: Any) -> str:
        """The café gives points out of those allotted to it; the agreement's name."""
        name = self.agree(self.shop, self.cafe, earning("STAR", **terms))
        if points:
            self.allot(points)
        return name

    def allot(self, points: int) -> None:
        """Sell the café a block of points."""
        reference = f"block-{next(self._references)}"
        self.do("allot", actor=self.shop, asset="STAR", partner=self.cafe, points=points, reference=reference)

    def postpaid(self, **changes: Any) -> str:
        """The café owes the shop a cent for every point it gives; the agreement's name."""
        terms = {"claim": claim(self.cafe)} | changes
        return self.agree(self.shop, self.cafe, earning("STAR", "postpaid", **terms))

    def purchases(self, *amounts: int, actor: str | None = None, **fields: Any) -> dict[str, Any]:
        """The fields of purchases by the member, of so many minor units each."""
        purchases = [
            {"amount": amount, "at": self.time, "member": self.alice, "order": f"order-{next(self._references)}"}
            for amount in amounts
        ]
        return {"actor": actor or self.cafe, "asset": "STAR", "currency": "USD", "purchases": purchases} | fields

    def grant(self, amount: int, actor: str | None = None, **fields: Any) -> dict[str, Any]:
        """The fields of a grant to the member."""
        reference = f"reason-{next(self._references)}"
        granted = {"activity": "goodwill", "amount": amount, "asset": "STAR", "member": self.alice}
        return {"actor": actor or self.cafe, "reference": reference, **granted} | fields

    def remaining(self) -> int:
        """Points that the café has left to give."""
        allotment = self.state.allotments.get(f"STAR+{self.cafe}")
        return 0 if allotment is None else allotment.remaining


# Who may


def test_partner_gives_points_while_an_agreement_is_in_force() -> None:
    """Not before it starts, nor from the moment it ends."""
    book = Coalition()
    assert book.refused("record_purchases", **book.purchases(100)).code == Code.NOT_PERMITTED
    assert book.refused("grant", **book.grant(1)).code == Code.NOT_PERMITTED
    terms = earning("STAR", "postpaid", claim=claim(book.cafe))
    book.agree(book.shop, book.cafe, terms, starts=book.later(ms=10), ends=book.later(ms=20))
    for wait, allowed in [(9, False), (1, True), (9, True), (1, False)]:
        book.advance(ms=wait)
        if allowed:
            book.do("record_purchases", **book.purchases(100))
            book.do("grant", **book.grant(1))
        else:
            assert book.refused("record_purchases", **book.purchases(100)).path == ("actor",)
            assert book.refused("grant", **book.grant(1)).code == Code.NOT_PERMITTED
    assert book.balance(book.alice, "STAR") == 4


def test_other_agreements_do_not_allow_to_give_points() -> None:
    """Who accepts an asset does not give it, and who gives one does not give another."""
    book = Coalition()
    book.asset(book.shop, "MOON")
    book.agree(book.shop, book.cafe, {"asset": "STAR", "received": "retired", "type": "acceptance"})
    book.agree(book.shop, book.cafe, earning("MOON", "postpaid", claim=claim(book.cafe)))
    assert book.refused("record_purchases", **book.purchases(100)).code == Code.NOT_PERMITTED
    book.do("record_purchases", **book.purchases(100, asset="MOON"))


def test_partner_gives_by_the_program_of_the_issuer() -> None:
    """Rates, lots and grants' bounds are the issuer's; orders and references are the partner's own."""
    program = make_program(
        bands=(Band(from_amount=0, points=3, per=100),),
        expiry=ExpiresAfterDays(count=30),
        grants=(GrantRule(activity="goodwill", max_points=5),),
    )
    book = Coalition(program)
    book.postpaid()
    order = {"amount": 200, "at": book.time, "member": book.alice, "order": "7"}
    for actor in (book.shop, book.cafe):
        fields = {"actor": actor, "asset": "STAR", "currency": "USD", "purchases": [order]}
        book.do("record_purchases", **fields)
        assert book.refused("record_purchases", **fields).code == Code.ORDER_EXISTS
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 12}
    assert book.refused("grant", **book.grant(6)).code == Code.GRANT_TOO_LARGE
    book.do("grant", **book.grant(5))
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 17}


# Prepaid


def test_issuing_stops_when_the_allotment_is_used_up() -> None:
    """The last point can be given; what does not fit gives nothing at all."""
    book = Coalition()
    book.prepaid(100)
    book.do("record_purchases", **book.purchases(6_000))
    assert book.remaining() == 40
    for kind, fields in [("record_purchases", book.purchases(4_000, 100)), ("grant", book.grant(41))]:
        refusal = book.refused(kind, **fields)
        assert refusal.code == Code.ALLOTMENT_USED_UP
        assert refusal.details == {"required_points": 41, "remaining_points": 40}
        assert refusal.path == (("purchases",) if kind == "record_purchases" else ("amount",))
    book.do("grant", **book.grant(40))
    assert book.remaining() == 0
    book.allot(10)
    book.do("grant", **book.grant(10))
    assert (book.balance(book.alice, "STAR"), book.remaining()) == (110, 0)


def test_without_any_allotment_nothing_can_be_given() -> None:
    """A prepaid partner that has bought nothing yet is told that it has none left."""
    book = Coalition()
    book.prepaid()
    refusal = book.refused("record_purchases", **book.purchases(100))
    assert (refusal.code, refusal.details["remaining_points"]) == (Code.ALLOTMENT_USED_UP, 0)


def test_purchase_that_gives_nothing_needs_no_allotment() -> None:
    """It is recorded all the same, so that its order is good once."""
    book = Coalition()
    book.prepaid()
    fields = book.purchases(99)
    assert book.do("record_purchases", **fields).postings == ()
    assert book.refused("record_purchases", **fields).code == Code.ORDER_EXISTS


def test_alert_is_raised_when_the_allotment_gets_low_and_once() -> None:
    """With fewer than 50 left, not at 50; again only after there was more in between."""
    book = Coalition()
    name = book.prepaid(100, alert_below=50)
    book.do("grant", **book.grant(50))
    assert list(book.state.allotment_alerts) == []
    book.do("grant", **book.grant(1))
    first = book.seq
    book.do("grant", **book.grant(9))
    assert list(book.state.allotment_alerts) == [AllotmentAlert(agreement=name, seq=first, remaining=49)]
    book.allot(10)
    book.do("grant", **book.grant(30))
    assert [alert.remaining for alert in book.state.allotment_alerts] == [49, 20]


# Postpaid


def test_what_a_partner_gives_is_owed_in_the_same_entry() -> None:
    """The legs of money come last: the debtor's, then the creditor's."""
    book = Coalition()
    book.postpaid(claim=claim(book.cafe, 3, 2))
    admission = book.do("record_purchases", **book.purchases(1_000, 300))
    assert [(leg.account, leg.amount, leg.asset) for leg in admission.postings] == [
        (SYS_ISSUED, -13, "STAR"),
        (book.alice, 10, "STAR"),
        (book.alice, 3, "STAR"),
        (book.cafe, -20, "USD"),
        (book.shop, 20, "USD"),
    ]
    assert book.owed(book.cafe, book.shop) == 20
    book.do("grant", **book.grant(1))
    assert book.owed(book.cafe, book.shop) == 22


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.integers(1, 7),
    st.integers(1, 7),
    st.sampled_from(ROUNDINGS),
)
def test_shares_of_purchases_add_up_to_the_claim_of_the_entry(
    dollars: list[int], amount: int, points: int, rounding: Rounding
) -> None:
    """The claim is rounded once; no purchase's share is negative, and one without points has none."""
    book = Coalition()
    book.postpaid(claim=claim(book.cafe, amount, points, round=rounding))
    admission = book.do("record_purchases", **book.purchases(*(100 * number for number in dollars)))
    assert book.owed(book.cafe, book.shop) == round_ratio(sum(dollars) * amount, points, rounding)
    assert sum(event.claim_amount for event in admission.earnings) == book.owed(book.cafe, book.shop)
    for event in admission.earnings:
        assert event.agreement_version == 1
        assert event.claim_amount >= 0
        assert event.points or not event.claim_amount


def test_issuers_own_purchases_are_nobodys_claim() -> None:
    """An agreement with a partner changes nothing for the issuer."""
    book = Coalition()
    book.prepaid()
    admission = book.do("record_purchases", **book.purchases(500, actor=book.shop))
    assert {leg.asset for leg in admission.postings} == {"STAR"}
    assert admission.earnings[0].agreement_version is None


# Caps and order


def test_cap_counts_what_the_partner_gives_in_a_period() -> None:
    """All its purchases and grants together, by the local month of the asset; the issuer's own are not counted."""
    book = Coalition(make_program(time_zone="Asia/Tokyo")).at("2026-03-31T14:59:59.000Z")  # the last second of March
    book.prepaid(1_000, total_cap={"period": "month", "points": 100})
    book.do("record_purchases", **book.purchases(9_000))
    book.do("record_purchases", **book.purchases(50_000, actor=book.shop))
    refusal = book.refused("grant", **book.grant(11))
    assert refusal.code == Code.CAP_EXCEEDED
    assert (refusal.details["cap_points"], refusal.details["used_points"]) == (100, 90)
    book.do("grant", **book.grant(10))
    assert book.refused("record_purchases", **book.purchases(100)).code == Code.CAP_EXCEEDED
    book.advance(ms=1_000)
    book.do("record_purchases", **book.purchases(10_000))


def test_refusals_of_a_partner_come_in_order() -> None:
    """The asset's own bounds, then the agreement's cap, then the allotment or the money."""
    book = Coalition(supply_cap=1_000)
    book.prepaid(10, total_cap={"period": "ever", "points": 100})
    for amount, code in [
        (1_001, Code.SUPPLY_EXCEEDED),
        (101, Code.CAP_EXCEEDED),
        (11, Code.ALLOTMENT_USED_UP),
    ]:
        assert book.refused("grant", **book.grant(amount)).code == code
        assert book.refused("record_purchases", **book.purchases(100 * amount)).code == code
    assert book.balance(book.alice, "STAR") == 0
    name = f"STAR+{book.cafe}"
    dear = earning("STAR", "postpaid", claim=claim(book.cafe, MAX_INTEGER), total_cap={"period": "ever", "points": 100})
    assert book.agree(book.shop, book.cafe, dear) == name
    assert book.refused("grant", **book.grant(101)).code == Code.CAP_EXCEEDED
    assert book.refused("grant", **book.grant(2)).code == Code.AMOUNT_OVERFLOW
    book.do("grant", **book.grant(1))
    assert book.refused("record_purchases", **book.purchases(100)).code == Code.AMOUNT_OVERFLOW


def test_no_more_points_are_issued_than_can_be_counted() -> None:
    """The range of integers bounds all points ever issued, spent ones included."""
    book = Coalition(make_program(grants=(GrantRule(activity="goodwill", max_points=MAX_INTEGER),)))
    book.do("grant", **book.grant(MAX_INTEGER, actor=book.shop))
    book.do("redeem", actor=book.alice, amount=MAX_INTEGER, asset="STAR", merchant=book.shop)
    assert book.refused("grant", **book.grant(1, actor=book.shop)).code == Code.POINTS_OVERFLOW


# Debts


def indebted(points: int, **program: Any) -> Coalition:
    """A member who owes points, under a program whose lots last 30 days."""
    book = Coalition(make_program(expiry=ExpiresAfterDays(count=30), **program))
    book.give(book.alice, "STAR", -points)
    return book


def test_earned_points_repay_a_debt_first() -> None:
    """Each leg is split where the debt ends; what is left has its lot."""
    book = indebted(12)
    admission = book.do("record_purchases", **book.purchases(500, 1_000, 300, actor=book.shop))
    assert admission.postings == (
        Posting(account=SYS_ISSUED, amount=-18, asset="STAR"),
        Posting(account=book.alice, amount=5, asset="STAR"),
        Posting(account=book.alice, amount=7, asset="STAR"),
        Posting(account=book.alice, amount=3, asset="STAR", lot="2026-04-01"),
        Posting(account=book.alice, amount=3, asset="STAR", lot="2026-04-01"),
    )
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 6}


def test_debt_can_outlive_what_is_earned() -> None:
    """Nothing can be spent until it is repaid, to the point."""
    book = indebted(12)
    book.do("record_purchases", **book.purchases(500, actor=book.shop))
    assert book.lots(book.alice, "STAR") == {NO_LAST_DAY: -7}
    book.do("grant", **book.grant(7, actor=book.shop))
    assert book.lots(book.alice, "STAR") == {}
    book.do("grant", **book.grant(1, actor=book.shop))
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 1}


def test_points_that_never_expire_repay_a_debt_in_one_leg() -> None:
    """Their lot is the debt's own."""
    book = Coalition()
    book.give(book.alice, "STAR", -12)
    admission = book.do("record_purchases", **book.purchases(2_000, actor=book.shop))
    assert [leg.amount for leg in admission.postings] == [-20, 20]
    assert book.lots(book.alice, "STAR") == {NO_LAST_DAY: 8}


def test_one_members_debt_is_not_anothers() -> None:
    """In the same entry, everyone else's points go to their lots."""
    book = indebted(12)
    bob = book.member()
    fields = book.purchases(500, 600, actor=book.shop)
    fields["purchases"][1]["member"] = bob
    book.do("record_purchases", **fields)
    assert (book.lots(book.alice, "STAR"), book.lots(bob, "STAR")) == ({NO_LAST_DAY: -7}, {"2026-04-01": 6})


def test_what_repays_a_debt_costs_a_partner_the_same() -> None:
    """Points issued are counted, wherever they go."""
    book = indebted(12)
    book.prepaid(100)
    book.do("record_purchases", **book.purchases(2_000))
    assert book.remaining() == 80
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 8}


def test_debt_is_counted_against_what_can_be_spent() -> None:
    """Dated points that arrived otherwise do not repay it, but it holds back as many of them."""
    book = indebted(12)
    bob = book.member()
    book.give(bob, "STAR", {"2026-04-01": 30})
    book.do("transfer", actor=bob, asset="STAR", recipients=[{"amount": 30, "to": book.alice}])
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 30, NO_LAST_DAY: -12}
    redeem: dict[str, Any] = {"actor": book.alice, "asset": "STAR", "merchant": book.shop}
    assert book.refused("redeem", amount=19, **redeem).details["available_points"] == 18
    book.do("redeem", amount=18, **redeem)
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 12, NO_LAST_DAY: -12}


# Approval


@pytest.mark.parametrize(("signers", "amount", "refused"), [(1, 100, False), (1, 101, True), (2, 101, False)])
def test_large_grant_needs_more_signatures(signers: int, amount: int, *, refused: bool) -> None:
    """More than the program's bound needs as many keys as approval asks for; the bound itself does not."""
    book = Book()
    shop = book.merchant(count=3, approval_threshold=2)
    keys = book.keys[shop]
    # What loosens the rules for others needs two as well.
    book.do("define_asset", actor=shop, asset="STAR", name="Star", scale=0, transferable=True)
    book.publish("STAR", make_program(approval_above=100), starts="1997-01-01T00:00:00.000Z")
    fields: dict[str, Any] = {"actor": shop, "activity": "goodwill", "amount": amount, "asset": "STAR"}
    fields |= {"member": book.member(), "reference": "thanks", "signers": keys[:signers]}
    if refused:
        refusal = book.refused("grant", **fields)
        assert (refusal.code, refusal.path) == (Code.APPROVAL_MISSING, ("sigs",))
    else:
        book.do("grant", **fields)


def test_approval_is_a_question_of_the_program_now() -> None:
    """Dating a grant back to before the bound was lowered does not get around it."""
    book = Book()
    shop, alice = book.merchant(count=2, approval_threshold=2), book.member()
    book.asset(shop, "STAR", make_program())
    book.advance(days=1)
    book.publish("STAR", make_program(approval_above=0))
    book.advance(days=1)
    fields: dict[str, Any] = {"actor": shop, "activity": "goodwill", "amount": 1, "asset": "STAR", "member": alice}
    fields |= {"at": book.later(days=-2), "reference": "late"}
    assert book.refused("grant", signers=book.keys[shop][:1], **fields).code == Code.APPROVAL_MISSING
    book.do("grant", signers=book.keys[shop], **fields)


def test_account_without_an_approval_threshold_approves_by_itself() -> None:
    """Then its threshold is enough."""
    book = Book()
    shop, alice = book.merchant(), book.member()
    book.asset(shop, "STAR", make_program(approval_above=0))
    fields: dict[str, Any] = {"actor": shop, "activity": "goodwill", "amount": 1, "asset": "STAR", "member": alice}
    book.do("grant", reference="thanks", signers=book.keys[shop], **fields)
