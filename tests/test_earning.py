"""Earning: what a partner gives by agreement, debts that are repaid first, and programs that ask for more than amounts.

What an issuer's own purchases and grants give under a plain program is shown in ``test_rules``, what each part of a
program makes of a purchase in ``test_calculation``: here is what recording it counts, promises and posts.
"""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY, Posting
from ledger.movements import MAX_REDATED_LOTS
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAfterMonths,
    ExpiresAtMembershipYearEnd,
    Formula,
    GrantRule,
    Limit,
    Multiplier,
    PurchaseBonus,
    Ratio,
    Referral,
    Reward,
    TierLevel,
    Tiers,
    When,
)
from ledger.programs import round_ratio
from ledger.state import SYS_ISSUED, SYS_SPENT, AllotmentAlert, Circumstances, Code, Earning
from ledger.terms import Cap, Quantity, Rounding
from tests.clubs import Club, line
from tests.rulebook import LONG_AGO, Book, claim, earning, make_program

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


# Members


def gold(basis: Any = "amount", start: int = 10_000, **fields: Any) -> Tiers:
    """One tier, reached in a calendar year."""
    return Tiers(basis=basis, levels=(TierLevel(from_count=start, tier="gold", **fields),), period="calendar_year")


DOUBLE = Multiplier(multiplier="gold_double", times=Ratio(numerator=2, denominator=1), when=When(tiers=("gold",)))
SIX_MONTHS = ExpiresAfterInactivity(months=6)


def test_membership_begins_with_the_first_purchase() -> None:
    """On its day in Tokyo, which is the next one; a member of a plain program has none."""
    book = Club(tiers=gold(), time_zone="Asia/Tokyo")
    book.at("2026-03-02T15:00:00.000Z")
    book.buy(100)
    book.advance(days=3)
    book.buy(100)
    assert (book.membership().joined_on, book.membership().purchases) == ("2026-03-03", 2)
    plain = Club()
    plain.buy(100)
    assert len(plain.state.memberships) == 0


def test_purchase_under_an_old_plain_version_makes_nobody_a_member() -> None:
    """Each purchase of a batch goes by its own version; their legs are in their order all the same."""
    book = Club()
    book.advance(days=1)
    book.publish("STAR", make_program(bonuses=(PurchaseBonus(bonus="each", points=5),)))
    old = book.purchase(100, at=book.later(days=-1), member=book.bob)
    admission = book.do("record_purchases", **book.of(book.purchase(100), old, book.purchase(200)))
    assert [leg.amount for leg in admission.postings] == [-14, 6, 1, 7]
    assert [each.version for each in admission.earnings] == [2, 1, 2]
    assert [each.account for each in book.state.memberships] == [book.alice]


@pytest.mark.parametrize(("basis", "counted"), [("amount", 30_000), ("points", 600), ("status", 300), ("visits", 2)])
def test_what_tiers_count_is_counted_in_the_period_of_the_purchase(basis: str, counted: int) -> None:
    """Minor units that earn, points, base points or purchases, of the year the purchase was in."""
    times = Multiplier(multiplier="always", times=Ratio(numerator=2, denominator=1))
    book = Club(tiers=gold(basis, 10**9), multipliers=(times,), excluded_categories=("gift_card",))
    card = book.purchase(20_000, at="2025-12-31T12:00:00.000Z", lines=[line(10_000), line(10_000, "gift_card")])
    book.do("record_purchases", **book.of(card, book.purchase(30_000), book.purchase(0)))
    assert book.progress()[basis, "2026"] == counted
    assert book.progress()[basis, "2025"] == {"amount": 10_000, "points": 200, "status": 100, "visits": 1}[basis]


def test_purchase_is_in_the_tier_reached_before_it() -> None:
    """Also by one before it in the same entry, whoever else is in it."""
    book = Club(tiers=gold(), multipliers=(DOUBLE,))
    purchases = [book.purchase(10_000), book.purchase(10_000, member=book.bob), book.purchase(100)]
    admission = book.do("record_purchases", **book.of(*purchases))
    assert [each.points for each in admission.earnings] == [100, 100, 2]
    assert [each.circumstances.tier for each in admission.earnings if each.circumstances] == [None, None, "gold"]
    assert (book.membership().tier, book.membership().tier_until) == ("gold", "2026-12-31")


def test_tier_is_noted_as_of_today_for_purchases_of_the_past() -> None:
    """A purchase of last year makes nobody gold this year, but was counted there."""
    book = Club(tiers=gold())
    book.buy(10_000, at="2025-12-31T12:00:00.000Z")
    assert (book.membership().tier, book.progress()) == (None, {("amount", "2025"): 10_000})


def test_tier_is_forgotten_with_the_tiers() -> None:
    """A version without any leaves nobody in one."""
    book = Club(tiers=gold())
    book.buy(10_000)
    assert book.membership().tier == "gold"
    book.advance(days=1)
    book.publish("STAR", make_program(bonuses=(PurchaseBonus(bonus="each", points=5),)))
    book.advance(days=1)
    book.buy(100)
    assert (book.membership().tier, book.membership().tier_until) == (None, NO_LAST_DAY)


def test_circumstances_are_kept_for_refunds_where_points_depend_on_them() -> None:
    """Of a plain program only what the purchase itself says, and nothing of most."""
    said: dict[str, Any] = {"channel": "app", "lines": [line(100, "shoes")], "tender": "own_card"}
    plain = Club()
    assert plain.buy(100).earnings[0].circumstances is None
    assert plain.buy(100, **said).earnings[0].circumstances == Circumstances(
        channel="app", lines=(line(100, "shoes"),), tender="own_card"
    )
    book = Club(earning_cap=Cap(period="day", points=10))
    book.invite(book.alice, book.bob)
    assert book.buy(100, **said).earnings[0].circumstances == Circumstances(
        channel="app",
        first=True,
        invited=True,
        joined_on="2026-03-02",
        lines=(line(100, "shoes"),),
        room=10,
        tender="own_card",
    )


def test_chosen_formula_is_the_members() -> None:
    """A quantity of the purchase instead of its amount; a purchase of nothing else earns by it."""
    miles = Formula(bands=(Band(from_amount=0, points=1, per=2),), formula="miles", quantity="miles")
    book = Club(formulas=(miles,))
    book.do("enroll", actor=book.alice, asset="STAR", formula="miles")
    flown = [Quantity(name="miles", quantity=500)]
    admission = book.do(
        "record_purchases",
        **book.of(book.purchase(0, quantities=flown), book.purchase(10_000, quantities=flown, member=book.bob)),
    )
    assert [each.points for each in admission.earnings] == [250, 100]


@settings(max_examples=40)
@given(st.permutations([(12_345, "app"), (50, None), (9_999, "web"), (20_000, "app"), (0, "app"), (777, None)]))
def test_purchases_of_the_same_time_may_come_in_any_order(purchases: list[tuple[int, str | None]]) -> None:
    """Without tiers, caps and first purchases, an entry leaves the same whatever comes first."""
    program: dict[str, Any] = {
        "bonuses": (PurchaseBonus(bonus="app", points=5, when=When(channels=("app",))),),
        "multipliers": (Multiplier(multiplier="web", times=Ratio(numerator=5, denominator=4)),),
        "status_asset": "TIER",
    }
    books = [Club(**program), Club(**program)]
    for book, order in zip(books, (purchases, sorted(purchases, key=str)), strict=True):
        recorded = [
            book.purchase(amount, f"order-{amount}", member=(book.alice, book.bob)[amount % 2])
            | ({} if channel is None else {"channel": channel})
            for amount, channel in order
        ]
        book.do("record_purchases", **book.of(*recorded))
    one, other = (book.state for book in books)
    assert one.lots == other.lots
    points, others = ({key: each.points for key, (_, each) in state.earnings.items()} for state in (one, other))
    assert points == others
    assert {each.account: each for each in one.memberships} == {each.account: each for each in other.memberships}


# Bounds of purchases


def test_purchase_can_be_recorded_while_it_is_young_enough() -> None:
    """By the days of the program in Tokyo, where it is a day later already."""
    book = Club(purchase_within_days=2, time_zone="Asia/Tokyo").at("2026-03-05T15:00:00.000Z")
    refusal = book.refused(
        "record_purchases", **book.of(book.purchase(100), book.purchase(100, at="2026-03-03T14:59:59.999Z"))
    )
    assert (refusal.code, refusal.path) == (Code.PURCHASE_TOO_OLD, ("purchases[1]", "at"))
    assert refusal.details == {"days": 3, "purchase_within_days": 2}
    book.buy(100, at="2026-03-03T15:00:00.000Z")


def test_no_purchase_gives_more_than_can_be_counted() -> None:
    """Whether it would be issued now or later, and whatever else is in the entry."""
    huge = (Band(from_amount=0, points=10**9, per=1),)
    for program in ({"vesting_days": 1}, {"bonuses": (PurchaseBonus(bonus="each", points=1),)}, {"tiers": gold()}):
        book = Club(bands=huge, **program)
        purchases = book.of(book.purchase(1), book.purchase(10**9), book.purchase(1, member=book.shop))
        refusal = book.refused("record_purchases", **purchases)
        assert (refusal.code, refusal.path) == (Code.POINTS_OVERFLOW, ("purchases[1]",))


def test_progress_is_bounded() -> None:
    """What cannot be counted is refused, and not by the next reader of the ledger."""
    book = Club(bands=(Band(from_amount=0, points=0, per=1),), tiers=gold())
    book.buy(MAX_INTEGER)
    refusal = book.refused("record_purchases", **book.of(book.purchase(0), book.purchase(1)))
    assert (refusal.code, refusal.path) == (Code.AMOUNT_OVERFLOW, ("purchases[1]",))


def test_cap_leaves_out_what_there_is_no_room_for() -> None:
    """All purchases of a member in a local month together; the room is kept with each, for its refund."""
    book = Club(earning_cap=Cap(period="month", points=150))
    last_month = book.purchase(10_000, at="2026-02-28T12:00:00.000Z")
    others = [book.purchase(10_000), book.purchase(10_000), book.purchase(10_000), book.purchase(0)]
    admission = book.do("record_purchases", **book.of(last_month, *others))
    assert [each.points for each in admission.earnings] == [100, 100, 50, 0, 0]
    assert [each.circumstances.room for each in admission.earnings if each.circumstances] == [150, 150, 50, 0, 0]
    scope = "earned:STAR"
    assert book.usages() == {(scope, book.alice, "2026-02"): 100, (scope, book.alice, "2026-03"): 150}
    book.do("grant", **book.grant(7))
    assert book.buy(100, member=book.bob).earnings[0].points == 1
    assert book.stars() == 257


def test_lowered_cap_takes_nothing_back() -> None:
    """Who has earned more already has no room."""
    book = Club(earning_cap=Cap(period="ever", points=150))
    book.buy(10_000)
    book.advance(days=1)
    book.publish("STAR", make_program(earning_cap=Cap(period="ever", points=50)))
    book.advance(days=1)
    assert book.buy(10_000).earnings[0].points == 0
    assert book.usages() == {("earned:STAR", book.alice, "ever"): 100}


# Referral


def test_first_purchase_rewards_who_invited_the_member() -> None:
    """By an earning of its own, in the lot of the purchase; the second one rewards nobody."""
    book = Club(referral=Referral(points=50), expiry=ExpiresAfterDays(count=30))
    book.invite(book.alice, book.bob)
    admission = book.do("record_purchases", **book.of(book.purchase(100, "A-1"), book.purchase(200, "A-2")))
    assert book.legs(admission) == [
        (SYS_ISSUED, -53, "STAR", None),
        ("alice", 1, "STAR", "2026-04-01"),
        ("bob", 50, "STAR", "2026-04-01"),
        ("alice", 2, "STAR", "2026-04-01"),
    ]
    assert admission.earnings[1] == Earning(book.shop, "invitation", "A-1", book.bob, "2026-03-02", None, 50, 1)
    assert [each.scope for each in admission.earnings] == ["order", "invitation", "order"]
    assert book.state.memberships.get("STAR", book.bob) is None, "to invite is not to take part"


def test_purchase_of_nothing_is_a_first_purchase() -> None:
    """And rewards the inviter all the same: what a purchase is worth is for the program's terms to say."""
    book = Club(referral=Referral(points=50))
    book.invite(book.alice, book.bob)
    book.buy(0)
    assert (book.stars(), book.stars(book.bob)) == (0, 50)


def test_limit_of_referrals_refuses_nothing() -> None:
    """Who invited enough members in a period gets nothing for more, and its debt is repaid first as ever."""
    book = Club(referral=Referral(points=50, limit=Limit(count=2, period="month")))
    book.give(book.bob, "STAR", -20)
    for _ in range(3):
        friend = book.member()
        book.invite(friend, book.bob)
        book.buy(100, member=friend)
    assert book.stars(book.bob) == 80
    assert book.usages() == {("invited:STAR", book.bob, "2026-03"): 2}
    book.advance(days=31)
    friend = book.member()
    book.invite(friend, book.bob)
    book.buy(100, member=friend)
    assert book.stars(book.bob) == 130


def test_partner_rewards_nobody_for_the_issuer() -> None:
    """What it gives it pays for; the first purchase is over with it."""
    book = Club(referral=Referral(points=50))
    book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe)))
    book.invite(book.alice, book.bob)
    book.do("record_purchases", **book.of(book.purchase(100), actor=book.cafe))
    book.buy(100)
    assert (book.stars(), book.stars(book.bob)) == (2, 0)
    assert book.owed(book.cafe, book.shop) == 1


# Status points


def test_status_points_are_issued_after_the_points() -> None:
    """Before any multiplier, in lots of their own program at the time of the purchase; a debt of them comes first."""
    book = Club(
        status_asset="TIER", multipliers=(Multiplier(multiplier="all", times=Ratio(numerator=3, denominator=1)),)
    )
    book.advance(days=1)
    book.publish("TIER", make_program(expiry=ExpiresAfterDays(count=5)))
    book.give(book.bob, "TIER", -1)
    purchases = [
        book.purchase(200, at=book.later(days=-1)),
        book.purchase(100),
        book.purchase(99),
        book.purchase(300, member=book.bob),
    ]
    assert book.legs(book.do("record_purchases", **book.of(*purchases))) == [
        (SYS_ISSUED, -18, "STAR", None),
        ("alice", 6, "STAR", None),
        ("alice", 3, "STAR", None),
        ("bob", 9, "STAR", None),
        (SYS_ISSUED, -6, "TIER", None),
        ("alice", 2, "TIER", None),
        ("alice", 1, "TIER", "2026-03-08"),
        ("bob", 1, "TIER", None),
        ("bob", 2, "TIER", "2026-03-08"),
    ]


def test_supply_of_the_status_asset_is_bounded_too() -> None:
    """What does not fit refuses the purchase."""
    book = Club()
    book.asset(book.shop, "RARE", supply_cap=2)
    book.advance(days=1)
    book.publish("STAR", make_program(status_asset="RARE"))
    book.advance(days=1)
    assert book.refused("record_purchases", **book.of(book.purchase(300))).code == Code.SUPPLY_EXCEEDED
    book.buy(200)


# Lots


def test_points_earned_in_a_tier_may_never_expire() -> None:
    """From the purchase after the one that reaches it; grants as well."""
    book = Club(tiers=gold(never_expires=True), expiry=ExpiresAfterDays(count=30))
    book.do("record_purchases", **book.of(book.purchase(10_000), book.purchase(100)))
    book.do("grant", **book.grant(5))
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 100, NO_LAST_DAY: 6}


def test_points_can_last_through_a_membership_year() -> None:
    """Whoever joined on another day has another one, and grants go by the same."""
    book = Club(expiry=ExpiresAtMembershipYearEnd(count=0))
    book.buy(100)
    book.advance(days=30)
    book.buy(200)
    book.buy(400, member=book.bob)
    book.do("grant", **book.grant(8))
    assert book.lots(book.alice, "STAR") == {"2027-03-01": 11}
    assert book.lots(book.bob, "STAR") == {"2027-03-31": 4}


def test_earning_prolongs_points_that_end_by_inactivity() -> None:
    """All that can still be used move to one lot, earliest first, before the new points come; what is past stays."""
    book = Club(expiry=SIX_MONTHS)
    book.give(book.alice, "STAR", {"2026-03-01": 1, "2026-03-02": 2, "2026-08-31": 4, "2026-09-03": 8, NO_LAST_DAY: 16})
    assert book.legs(book.buy(100)) == [
        (SYS_ISSUED, -1, "STAR", None),
        ("alice", -2, "STAR", "2026-03-02"),
        ("alice", -4, "STAR", "2026-08-31"),
        ("alice", 6, "STAR", "2026-09-02"),
        ("alice", 1, "STAR", "2026-09-02"),
    ]
    assert book.lots(book.alice, "STAR") == {"2026-03-01": 1, "2026-09-02": 7, "2026-09-03": 8, NO_LAST_DAY: 16}


def test_of_very_many_lots_the_earliest_are_prolonged() -> None:
    """Or an account with some hundreds could neither earn nor spend, for want of room in an entry."""
    book = Club(expiry=SIX_MONTHS)
    book.give(book.alice, "STAR", {f"2026-{month:02}-{day:02}": 1 for month in (4, 5, 6) for day in range(1, 31)})
    assert len(book.buy(100).postings) == MAX_REDATED_LOTS + 3
    lots = book.lots(book.alice, "STAR")
    assert (lots["2026-09-02"], min(lots)) == (51, "2026-05-21")


def test_late_recording_prolongs_by_the_day_of_the_purchase() -> None:
    """It shortens nothing, and what it gives itself ends when it would have."""
    book = Club(expiry=SIX_MONTHS)
    book.buy(100)
    book.do("grant", **book.grant(1, at="2026-02-10T12:00:00.000Z"))
    assert book.lots(book.alice, "STAR") == {"2026-09-02": 1, "2026-08-10": 1}
    book.advance(days=1)
    book.do("grant", **book.grant(1))
    assert book.lots(book.alice, "STAR") == {"2026-09-03": 3}


def test_event_without_points_is_no_activity() -> None:
    """Nor is anything that others do; to be rewarded for an invitation is."""
    book = Club(expiry=SIX_MONTHS, referral=Referral(points=50))
    for member in (book.alice, book.bob):
        book.give(member, "STAR", {"2026-04-01": 10})
    book.buy(99)
    book.do("grant", **book.grant(0))
    book.do("transfer", actor=book.bob, asset="STAR", recipients=[{"amount": 1, "to": book.alice}])
    assert "2026-04-01" in book.lots(book.alice, "STAR")
    friend = book.member()
    book.invite(friend, book.alice)
    book.buy(100, member=friend)
    assert book.lots(book.alice, "STAR") == {"2026-09-02": 61}


def test_inactivity_is_a_question_of_the_program_now() -> None:
    """A purchase under an older version, whose own points end otherwise, prolongs those that end by inactivity now."""
    book = Club(expiry=ExpiresAfterMonths(count=1))
    book.give(book.alice, "STAR", {"2026-04-01": 10})
    book.advance(days=1)
    book.publish("STAR", make_program(expiry=SIX_MONTHS))
    book.advance(days=1)
    book.buy(100, at="2026-03-02T12:00:00.000Z")
    assert book.lots(book.alice, "STAR") == {"2026-04-02": 1, "2026-09-02": 10}


def test_status_points_that_end_by_inactivity_are_prolonged_by_earning_them() -> None:
    """By the rules of their own program."""
    book = Club(status_asset="TIER")
    book.publish("TIER", make_program(expiry=SIX_MONTHS), starts=book.later(ms=1))
    book.advance(days=1)
    book.give(book.alice, "TIER", {"2026-04-01": 10})
    book.buy(100)
    assert book.lots(book.alice, "TIER") == {"2026-09-03": 11}


# What comes by itself


def test_automatic_reward_is_had_after_all_points_are_there() -> None:
    """By each who gained some, in the order in which they did; who gained none has none, whatever it has."""
    coffee = Reward(automatic=True, price=30, reward="coffee")
    book = Club(rewards=(coffee,), referral=Referral(points=40))
    carol = book.member()
    book.give(carol, "STAR", 100)
    book.invite(book.alice, book.bob)
    purchases = [book.purchase(3_500), book.purchase(0, member=carol), book.purchase(2_500)]
    assert book.legs(book.do("record_purchases", **book.of(*purchases))) == [
        (SYS_ISSUED, -100, "STAR", None),
        ("alice", 35, "STAR", None),
        ("bob", 40, "STAR", None),
        ("alice", 25, "STAR", None),
        ("alice", -60, "STAR", None),
        (SYS_SPENT, 60, "STAR", None),
        ("bob", -30, "STAR", None),
        (SYS_SPENT, 30, "STAR", None),
    ]
    vouchers = [(each.account, each.index) for each in book.state.vouchers]
    assert vouchers == [(book.alice, 0), (book.alice, 1), (book.bob, 2)]


def test_grant_may_suffice_for_an_automatic_reward() -> None:
    """Of the program in force now, though the activity was before it."""
    book = Club()
    book.advance(days=1)
    book.publish("STAR", make_program(rewards=(Reward(automatic=True, price=30, reward="coffee"),)))
    book.advance(days=1)
    book.do("grant", **book.grant(31, at="2026-03-02T12:00:00.000Z"))
    assert (book.stars(), len(book.state.vouchers)) == (1, 1)


# Activities


def activity(name: str = "review", most: int = 10, **fields: Any) -> dict[str, Any]:
    """A program that grants for one activity."""
    return {"grants": (GrantRule(activity=name, max_points=most, **fields),)}


PROOF, OTHER_PROOF = "ab" * 32, "cd" * 32


def test_evidence_is_good_once_in_the_whole_program() -> None:
    """For another member, activity or merchant it is used up too; without it nothing is granted."""
    rules = tuple(GrantRule(activity=name, evidence=True, max_points=10) for name in ("review", "photo"))
    book = Club(grants=rules)
    book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe)))
    refusal = book.refused("grant", **book.grant(5, activity="review"))
    assert (refusal.code, refusal.path) == (Code.EVIDENCE_MISSING, ("evidence",))
    book.do("grant", **book.grant(5, activity="review", actor=book.cafe, evidence=PROOF))
    refusal = book.refused("grant", **book.grant(5, activity="photo", evidence=PROOF, member=book.bob))
    assert (refusal.code, refusal.path, refusal.details) == (Code.EVIDENCE_USED, ("evidence",), {"seq": book.seq})
    book.do("grant", **book.grant(5, activity="photo", evidence=OTHER_PROOF))
    assert book.refused("grant", **book.grant(5, activity="photo", evidence=OTHER_PROOF)).code == Code.EVIDENCE_USED
    assert book.stars() == 10


def test_evidence_of_one_program_is_none_of_another() -> None:
    """The same receipt may count in two."""
    book = Club(make_program(**activity(evidence=True)))
    book.asset(book.shop, "MOON", make_program(**activity(evidence=True)))
    for asset in ("STAR", "MOON"):
        book.do("grant", **book.grant(5, activity="review", asset=asset, evidence=PROOF))


def test_survey_has_an_answer_and_nothing_else_has_one() -> None:
    """It is kept with the earning; 0 is an answer."""
    book = Club(make_program(**activity("survey", scored=True)))
    assert book.refused("grant", **book.grant(5, activity="survey")).code == Code.SCORE_MISSING
    assert book.do("grant", **book.grant(5, activity="survey", score=0)).earnings[0].score == 0
    plain = Club()
    refusal = plain.refused("grant", **plain.grant(5, score=9))
    assert (refusal.code, refusal.path) == (Code.SCORE_UNEXPECTED, ("score",))
    assert plain.refused("grant", **plain.grant(5, evidence=PROOF)).code == Code.EVIDENCE_UNEXPECTED


def test_activity_can_be_had_so_often_in_a_period() -> None:
    """Of local days, whoever grants it; 0 points count as well, and another member has its own."""
    book = Club(make_program(**activity(limit=Limit(count=2, period="month")), time_zone="Asia/Tokyo"))
    book.agree(book.shop, book.cafe, earning("STAR", "postpaid", claim=claim(book.cafe)))
    book.at("2026-03-31T14:59:59.000Z")
    book.do("grant", **book.grant(5, activity="review"))
    book.do("grant", **book.grant(0, activity="review", actor=book.cafe))
    refusal = book.refused("grant", **book.grant(5, activity="review"))
    assert (refusal.code, refusal.path) == (Code.LIMIT_REACHED, ("activity",))
    assert refusal.details == {"count": 2, "period": "month"}
    book.do("grant", **book.grant(5, activity="review", member=book.bob))
    book.advance(ms=1_000)
    book.do("grant", **book.grant(5, activity="review"))
    assert book.usages() == {
        ("activity:STAR:review", book.alice, "2026-03"): 2,
        ("activity:STAR:review", book.bob, "2026-03"): 1,
        ("activity:STAR:review", book.alice, "2026-04"): 1,
    }


def test_achievement_is_recorded_without_points() -> None:
    """It is good once by its reference, as any event, and more than nothing is too much."""
    book = Club(make_program(**activity("marathon", 0)))
    fields = book.grant(0, activity="marathon")
    admission = book.do("grant", **fields)
    assert (admission.postings, admission.earnings[0].points) == ((), 0)
    assert book.refused("grant", **fields).code == Code.REFERENCE_EXISTS
    assert book.refused("grant", **book.grant(1, activity="marathon")).code == Code.GRANT_TOO_LARGE


def test_refusals_of_a_grant_come_in_order() -> None:
    """What is wrong first is said first; each step mends one thing."""
    rule = GrantRule(activity="survey", evidence=True, limit=Limit(count=1, period="day"), max_points=9, scored=True)
    book = Book()
    shop, alice = book.merchant(count=2, approval_threshold=2), book.member()
    book.do("define_asset", actor=shop, asset="STAR", name="Star", scale=0, transferable=True)
    book.publish("STAR", make_program(grants=(rule,), approval_above=0), starts=LONG_AGO)
    fields = {"activity": "survey", "actor": shop, "asset": "STAR", "member": alice}
    done = {"evidence": PROOF, "reference": "r-1", "score": 3}
    book.do("grant", **fields, **done, at=book.time)
    tried: dict[str, Any] = {"activity": "dance", "amount": 10, "reference": "r-1", "signers": book.keys[shop][:1]}
    steps: list[tuple[dict[str, Any], Code]] = [
        ({}, Code.ACTIVITY_UNKNOWN),
        ({"activity": "survey"}, Code.REFERENCE_EXISTS),
        ({"reference": "r-2"}, Code.EVIDENCE_MISSING),
        ({"evidence": PROOF}, Code.EVIDENCE_USED),
        ({"evidence": OTHER_PROOF}, Code.SCORE_MISSING),
        ({"score": 10}, Code.GRANT_TOO_LARGE),
        ({"amount": 9}, Code.LIMIT_REACHED),
        ({"at": book.later(days=-1)}, Code.APPROVAL_MISSING),
    ]
    for mended, code in steps:
        tried |= mended
        assert book.refused("grant", **(fields | tried)).code == code
    book.do("grant", **(fields | tried | {"signers": book.keys[shop]}))


def test_points_of_activities_count_for_tiers_of_points() -> None:
    """For no others; who is granted something takes part from that day on."""
    for basis, counted in [("points", {("points", "2026"): 120}), ("amount", {}), ("visits", {})]:
        book = Club(tiers=gold(basis, 100), multipliers=(DOUBLE,))
        admission = book.do("grant", **book.grant(120))
        assert (book.progress(), admission.parties) == (counted, ())
        assert (book.membership().joined_on, book.membership().purchases) == ("2026-03-02", 0)
        assert book.membership().tier == ("gold" if counted else None)
        assert book.do("grant", **book.grant(1)).postings[1].amount == 1, "nothing multiplies a grant"
