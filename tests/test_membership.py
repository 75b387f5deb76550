"""Membership: enrolling, paid plans, and noting tiers: how they are refused, and what they leave."""

from typing import Any

import pytest

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY
from ledger.program_terms import Band, Formula, Plan, Program, TierLevel, Tiers
from ledger.state import PLAN_SCOPE, Admission, Code, Membership, Progress
from tests.breaking import Break, Case, check
from tests.rulebook import Book, make_program

NOBODY = "mem_" + "z" * 26
MILES = Formula(bands=(Band(from_amount=0, points=1, per=5),), formula="miles", quantity="miles")
GOLD = Plan(days=30, plan="gold", price=9_900)
SILVER = Plan(days=10, plan="silver", price=1_900)
LEVELS = (TierLevel(from_count=0, tier="basic"), TierLevel(from_count=100, tier="top"))
TIERS = Tiers(basis="amount", levels=LEVELS, period="calendar_year")


def club(**changes: Any) -> Program:
    return make_program(**{"formulas": (MILES,), "plans": (GOLD, SILVER), **changes})


class Club(Book):
    """A merchant with a program that has two plans and a formula, and three members; nobody has enrolled."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.shop, self.rival = self.merchant("shop"), self.merchant("rival")
        self.alice, self.bob, self.carol = self.member(), self.member(), self.member(self.shop)
        self.asset(self.shop, "STAR", club(**changes))
        self.bills = 0

    def enroll(self, who: str, **fields: Any) -> Admission:
        return self.do("enroll", actor=who, asset="STAR", **fields)

    def pay(self, plan: str, who: str | None = None) -> Admission:
        self.bills += 1
        fields = {"member": who or self.alice, "plan": plan, "reference": f"bill-{self.bills}"}
        return self.do("start_plan", actor=self.shop, asset="STAR", **fields)

    def membership(self, who: str | None = None) -> Membership:
        membership = self.state.memberships.get("STAR", who or self.alice)
        assert membership is not None
        return membership

    def plan(self, who: str | None = None) -> tuple[str | None, str | None, str | None]:
        membership = self.membership(who)
        return membership.plan, membership.plan_from, membership.plan_until

    def did(self, who: str, period: str, count: int, basis: str = "amount") -> None:
        """Put what a member did into the state, under no entry."""
        progress = Progress(asset="STAR", account=who, basis=basis, period=period, count=count)
        self.state.progress.load(progress)

    def bought(self, who: str, purchases: int) -> None:
        membership = self.state.memberships.get("STAR", who)
        assert membership is not None
        fields = {name: getattr(membership, name) for name in Membership.__struct_fields__}
        self.state.memberships.load(Membership(**fields | {"purchases": purchases}))


# The order of refusals


def test_refusals_come_in_one_order() -> None:
    """Of each kind: every way to break it has its code and field, and of two the first is told."""
    book = Club()
    book.asset(book.shop, "BARE", None)
    book.asset(book.shop, "GONE", None)
    book.publish("GONE", club(), starts=book.later(days=-2), ends=book.later(days=-1))
    book.enroll(book.bob, invited_by=book.carol)
    book.enroll(book.carol, formula="miles")
    book.pay("gold", book.bob)
    merchant = Break(Code.NOT_PERMITTED, ("actor",), {"actor": book.rival})
    nothing = Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"})
    nobody = Break(Code.UNKNOWN_ACCOUNT, ("member",), {"member": book.rival})
    cases = [
        Case(
            "enroll",
            {"actor": book.alice, "asset": "STAR", "formula": "miles", "invited_by": book.carol},
            [
                merchant,
                nothing,
                Break(Code.PROGRAM_MISSING, ("asset",), {"asset": "BARE"}),
                Break(Code.PROGRAM_CLOSED, ("asset",), {"asset": "GONE"}),
                Break(Code.UNKNOWN_FORMULA, ("formula",), {"formula": "stays"}),
                Break(Code.UNKNOWN_ACCOUNT, ("invited_by",), {"invited_by": book.shop}),
                Break(Code.INVITED_TOO_LATE, ("invited_by",), {"actor": book.bob}),
                Break(Code.ALREADY_ENROLLED, ("formula",), {"actor": book.carol, "invited_by": None}),
            ],
        ),
        Case(
            "start_plan",
            {"actor": book.shop, "asset": "STAR", "member": book.alice, "plan": "gold", "reference": "bill-2"},
            [
                nothing,
                merchant,
                nobody,
                Break(Code.UNKNOWN_PLAN, ("plan",), {"asset": "BARE"}),
                Break(Code.UNKNOWN_PLAN, ("plan",), {"asset": "GONE"}),
                Break(Code.UNKNOWN_PLAN, ("plan",), {"plan": "brass"}),
                Break(Code.REFERENCE_EXISTS, ("reference",), {"reference": "bill-1"}),
            ],
        ),
        Case(
            "end_plan",
            {"actor": book.shop, "asset": "STAR", "member": book.bob, "reason": "refunded"},
            [nothing, merchant, nobody, Break(Code.NO_PLAN, ("member",), {"member": book.alice})],
        ),
    ]
    for case in cases:
        check(book, case)


# Enrolling


def test_enrolled_member_has_joined_that_day() -> None:
    """On the program's local date, by the formula it chose, invited by who it says; both are told of the entry."""
    book = Club(time_zone="Asia/Tokyo").at("2026-03-02T15:30:00.000Z")
    admission = book.enroll(book.alice, formula="miles", invited_by=book.bob)
    assert (admission.postings, admission.parties) == ((), (book.shop, book.bob))
    assert book.membership() == Membership(
        asset="STAR", account=book.alice, joined_on="2026-03-03", formula="miles", invited_by=book.bob
    )
    assert book.state.memberships.get("STAR", book.bob) is None


def test_member_changes_its_formula_and_keeps_the_rest() -> None:
    """Absence is the program's own bands; the day of joining and who invited it stay."""
    book = Club()
    book.enroll(book.alice, invited_by=book.bob)
    book.advance(days=3)
    book.enroll(book.alice, formula="miles")
    assert book.membership().formula == "miles"
    book.enroll(book.alice)
    assert book.membership() == Membership(
        asset="STAR", account=book.alice, joined_on="2026-03-02", invited_by=book.bob
    )
    assert book.refused("enroll", actor=book.alice, asset="STAR").code == Code.ALREADY_ENROLLED


def test_who_invited_a_member_is_said_once_and_before_its_first_purchase() -> None:
    """Enrolled first and invited then is in time; to say it again, or after a purchase, is not."""
    book = Club()
    book.enroll(book.alice)
    book.enroll(book.alice, invited_by=book.bob)
    for inviter in (book.bob, book.carol):
        rejection = book.refused("enroll", actor=book.alice, asset="STAR", formula="miles", invited_by=inviter)
        assert rejection.code == Code.INVITED_TOO_LATE
    book.enroll(book.carol)
    book.bought(book.carol, 1)
    rejection = book.refused("enroll", actor=book.carol, asset="STAR", invited_by=book.bob)
    assert rejection.code == Code.INVITED_TOO_LATE
    book.enroll(book.carol, formula="miles")


def test_new_member_stands_in_the_tier_that_asks_nothing() -> None:
    """A level from 0 on is everyone's, and for ever."""
    book = Club(tiers=TIERS)
    book.enroll(book.alice)
    assert (book.membership().tier, book.membership().tier_until) == ("basic", NO_LAST_DAY)


# Plans


def test_paid_plan_lasts_its_days_the_first_included() -> None:
    """30 days from 2 March end on the 31st; paying makes a member; the reference is used up."""
    book = Club()
    admission = book.pay("gold")
    assert (admission.postings, admission.parties) == ((), (book.alice,))
    assert admission.references == ((book.shop, PLAN_SCOPE, "bill-1"),)
    assert book.plan() == ("gold", "2026-03-02", "2026-03-31")
    assert book.membership().joined_on == "2026-03-02"


def test_plan_paid_again_lasts_on() -> None:
    """Also on its last day; the day after, it begins anew."""
    book = Club()
    book.pay("gold")
    book.advance(days=29)
    book.pay("gold")
    assert book.plan() == ("gold", "2026-03-02", "2026-04-30")
    book.advance(days=31)
    book.pay("gold")
    assert book.plan() == ("gold", "2026-05-01", "2026-05-30")


def test_other_plan_replaces_the_one_there_was() -> None:
    """From today on; of the old one nothing is left."""
    book = Club()
    book.pay("gold")
    book.advance(days=1)
    book.pay("silver")
    assert book.plan() == ("silver", "2026-03-03", "2026-03-12")


def test_ended_plan_is_over_at_once_and_can_be_paid_again() -> None:
    """Nothing of it is left that day; a plan that has run out cannot be ended."""
    book = Club()
    book.pay("gold")
    book.advance(days=29)
    fields = {"actor": book.shop, "asset": "STAR", "member": book.alice, "reason": "refunded"}
    assert isinstance(book.ask("end_plan", **fields), Admission)
    assert book.advance(days=1).refused("end_plan", **fields).code == Code.NO_PLAN
    book.advance(days=-1).do("end_plan", **fields)
    assert book.plan() == (None, None, None)
    assert book.refused("end_plan", **fields).code == Code.NO_PLAN
    book.pay("gold")
    assert book.plan() == ("gold", "2026-03-31", "2026-04-29")


def test_plan_ends_with_the_calendar() -> None:
    """A hundred years, paid a hundred times: the last is the calendar's last day, and nothing breaks."""
    book = Club(plans=(Plan(days=36_500, plan="life", price=1),))
    for _ in range(100):
        book.pay("life")
    assert book.plan()[2] == "9999-12-31"


# Tiers


def review(book: Club, *members: str, **fields: Any) -> dict[str, Any]:
    return {"actor": book.shop, "asset": "STAR", "members": list(members)} | fields


def test_review_notes_the_tiers_that_time_has_changed() -> None:
    """Top through the year it was reached in; when it is over, the member is basic again and told so."""
    book = Club(tiers=TIERS)
    for who in (book.alice, book.bob):
        book.enroll(who)
    book.did(book.alice, "2026", 100)
    admission = book.do("review_tiers", **review(book, book.alice, book.bob, NOBODY))
    assert (admission.postings, admission.parties) == ((), (book.alice,))
    assert (book.membership().tier, book.membership().tier_until) == ("top", "2026-12-31")
    rejection = book.refused("review_tiers", **review(book, book.alice, book.bob))
    assert (rejection.code, rejection.path) == (Code.NOTHING_DUE, ("members",))
    book.at("2027-01-01T00:00:00.000Z")
    book.do("review_tiers", **review(book, book.alice, actor=book.operator))
    assert (book.membership().tier, book.membership().tier_until) == ("basic", NO_LAST_DAY)


def test_review_is_for_the_issuer_and_the_operator() -> None:
    book = Club(tiers=TIERS)
    book.enroll(book.alice)
    book.did(book.alice, "2026", 100)
    for actor in (book.rival, book.alice):
        rejection = book.refused("review_tiers", **review(book, book.alice, actor=actor))
        assert (rejection.code, rejection.path) == (Code.NOT_PERMITTED, ("actor",))
    assert book.refused("review_tiers", **review(book, book.alice, asset="NONE")).code == Code.UNKNOWN_ASSET


@pytest.mark.parametrize("tiers", [None, TIERS])
def test_without_tiers_or_members_nothing_is_due(tiers: Tiers | None) -> None:
    """Nobody is a member by being reviewed."""
    book = Club(tiers=tiers)
    book.did(book.alice, "2026", MAX_INTEGER)
    assert book.refused("review_tiers", **review(book, book.alice)).code == Code.NOTHING_DUE
