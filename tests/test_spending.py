"""Spending: transfers under terms, redemption, exchange and holds: how they are refused, and what they move."""

import copy
import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from ledger.encoding import MAX_INTEGER, account_id
from ledger.entries import NO_LAST_DAY
from ledger.program_terms import (
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    ExpiresAtMembershipYearEnd,
    ExpiresAtYearEnd,
)
from ledger.programs import round_ratio
from ledger.state import SYS_EXPIRED, SYS_HELD, SYS_ISSUED, SYS_SPENT, Admission, Code, Rejection, Spending
from tests.rulebook import Book, acceptance, claim, exchange, make_program

NOBODY = "mer_" + "z" * 26
STEPS = {"maximum": 100, "minimum": 20, "step": 10}


def cap(points: int, period: str = "year") -> dict[str, Any]:
    return {"period": period, "points": points}


def fee(amount: int, points: int, **more: Any) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD", "points": points, "round": "down", **more}


def flat(book: "Market", admission: Admission) -> list[tuple[Any, ...]]:
    """Postings as (name, amount, asset[, lot]), in their order."""
    return [
        (book.names.get(leg.account, leg.account), leg.amount, leg.asset, *((leg.lot,) if leg.lot else ()))
        for leg in admission.postings
    ]


class Market(Book):
    """A ledger with two issuers, three places that accept STAR, and members; names stand for their accounts."""

    def __init__(self) -> None:
        super().__init__()
        self.shop, self.bakery = self.merchant("shop"), self.merchant("bakery")
        self.cafe, self.kiosk = self.merchant("cafe"), self.merchant("kiosk")
        self.school = self.beneficiary("school")
        self.alice, self.bob = self.member(), self.member()
        self.names = {
            self.shop: "shop",
            self.bakery: "bakery",
            self.cafe: "cafe",
            self.kiosk: "kiosk",
            self.school: "school",
            self.alice: "alice",
            self.bob: "bob",
        }
        self.asset(self.shop, "STAR")
        self.asset(self.bakery, "BEAN")

    def accept(self, merchant: str, **terms: Any) -> str:
        return self.agree(self.shop, merchant, acceptance("STAR", **terms))

    def exchanges(self, **terms: Any) -> str:
        return self.agree(self.shop, self.bakery, exchange("STAR", "BEAN", **terms))

    def redeem(self, amount: int, merchant: str | None = None, **fields: Any) -> Admission:
        who = fields.pop("actor", self.alice)
        return self.do("redeem", actor=who, asset="STAR", amount=amount, merchant=merchant or self.shop, **fields)

    def swap(self, amount: int, **fields: Any) -> Admission:
        fields = {"actor": self.alice, "asset": "STAR", "into": "BEAN", "minimum_out": 1, **fields}
        return self.do("exchange", amount=amount, **fields)

    def spending(self) -> Spending:
        """The record of the operation recorded last."""
        spending = self.state.spendings.get(self.op_id)
        assert spending is not None
        return spending


# The order of refusals


class Break(NamedTuple):
    """One way to break a good document: the refusal it gets, its path, and the fields changed for it."""

    code: Code
    path: tuple[str, ...]
    changes: dict[str, Any]


class Case(NamedTuple):
    """A good document of a kind, and the ways to break it, in the order of their refusals."""

    kind: str
    fields: dict[str, Any]
    breaks: list[Break]


def make_market() -> tuple[Market, dict[str, Case]]:
    """A market where each refusal of the kinds can be provoked by a change of fields, and these."""
    book = Market()
    auditor, hermit = book.auditor(), book.member()
    frosty, winter = book.merchant("frosty"), book.merchant("winter")
    book.asset(book.shop, "GIFT", transferable=False)
    book.asset(book.shop, "TOLL", transfer_terms={**STEPS, "fee": fee(1, 1), "out_cap": cap(90), "in_cap": cap(80)})
    for code, issuer in (("COLD", frosty), ("ICED", winter), ("FEW", book.bakery), ("BARE", book.bakery)):
        book.asset(issuer, code, supply_cap=5 if code == "FEW" else None)
    bounds = {**STEPS, "holder_cap": cap(90)}
    for merchant in (book.cafe, book.school, frosty):
        book.accept(merchant, **bounds, claim=claim(book.shop))
    swaps: dict[str, Any] = {**bounds, "fee": {**fee(1, 1), "kept_by": book.shop}}
    for into, issuer in (("BEAN", book.bakery), ("FEW", book.bakery), ("ICED", winter)):
        book.agree(book.shop, issuer, exchange("STAR", into, **swaps))
    for into, issuer in (("BEAN", book.bakery), ("FEW", book.bakery), ("ICED", winter)):
        book.agree(frosty, issuer, exchange("COLD", into))
    book.give(book.alice, "STAR", 1_000)
    book.give(book.alice, "TOLL", 70)
    book.give(hermit, "STAR", 100)
    open_hold = book.hold(book.alice, book.cafe, "STAR", 40)
    cold_hold = book.hold(hermit, book.cafe, "STAR", 40)
    lapsed = book.hold(book.alice, book.cafe, "STAR", 20, until=book.later(ms=1))
    full = book.member()
    book.give(full, "STAR", 200)
    closed = book.hold(full, book.cafe, "STAR", 20)
    book.do("release", actor=book.cafe, hold=closed)
    book.advance(ms=2)
    for account in (frosty, winter, hermit):
        book.do("freeze", actor=book.operator, account=account, reason="fraud")
    for _ in range(100):
        book.hold(full, book.shop, "STAR", 1)
    nothing = "hld_" + "a" * 26
    star = {"actor": book.alice, "asset": "STAR"}
    toll = {"actor": book.alice, "asset": "TOLL", "maximum_fee": 100}

    def to_bob(amount: int) -> dict[str, Any]:
        return {"recipients": [{"amount": amount, "to": book.bob}]}

    holder = [
        Break(Code.NOT_PERMITTED, ("actor",), {"actor": auditor}),
        Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
    ]
    amounts = [
        Break(Code.OFF_STEP, ("amount",), {"amount": 31}),
        Break(Code.BELOW_MINIMUM, ("amount",), {"amount": 10}),
        Break(Code.ABOVE_MAXIMUM, ("amount",), {"amount": 110}),
        Break(Code.CAP_EXCEEDED, ("amount",), {"amount": 100}),
    ]
    poor = Break(Code.INSUFFICIENT_POINTS, ("amount",), {"actor": book.bob})
    until = {"until": book.later(days=1)}
    cases = {
        "transfer": Case(
            "transfer",
            {**toll, **to_bob(30)},
            [
                *holder,
                Break(Code.NOT_TRANSFERABLE, ("asset",), {"asset": "GIFT"}),
                Break(Code.UNKNOWN_ACCOUNT, ("recipients[0]", "to"), {"recipients": [{"amount": 30, "to": NOBODY}]}),
                Break(
                    Code.NOT_A_HOLDER, ("recipients[0]", "to"), {"recipients": [{"amount": 30, "to": book.operator}]}
                ),
                Break(Code.OFF_STEP, ("recipients[0]", "amount"), to_bob(5)),
                Break(Code.BELOW_MINIMUM, ("recipients",), to_bob(10)),
                Break(Code.ABOVE_MAXIMUM, ("recipients",), to_bob(110)),
                Break(Code.CAP_EXCEEDED, ("recipients",), to_bob(100)),
                Break(Code.CAP_EXCEEDED, ("recipients[0]", "amount"), to_bob(90)),
                Break(Code.FEE_ABOVE_LIMIT, ("maximum_fee",), {"maximum_fee": 19}),
                Break(Code.INSUFFICIENT_POINTS, ("recipients",), to_bob(80)),
            ],
        ),
        "redeem": Case(
            "redeem",
            {**star, "amount": 30, "merchant": book.cafe},
            [
                *holder,
                Break(Code.UNKNOWN_ACCOUNT, ("merchant",), {"merchant": book.bob}),
                Break(Code.NOT_ACCEPTED, ("merchant",), {"merchant": book.kiosk}),
                Break(Code.ACCOUNT_FROZEN, ("merchant",), {"merchant": frosty}),
                *amounts,
                poor,
            ],
        ),
        "exchange": Case(
            "exchange",
            {**star, "amount": 30, "into": "BEAN", "maximum_fee": 100, "minimum_out": 1},
            [
                *holder,
                Break(Code.UNKNOWN_ASSET, ("into",), {"into": "NIL"}),
                Break(Code.NO_AGREEMENT, ("into",), {"into": "BARE"}),
                Break(Code.ACCOUNT_FROZEN, ("asset",), {"asset": "COLD"}),
                Break(Code.ACCOUNT_FROZEN, ("into",), {"into": "ICED"}),
                *amounts,
                Break(Code.OUTCOME_TOO_SMALL, ("minimum_out",), {"minimum_out": 91}),
                Break(Code.FEE_ABOVE_LIMIT, ("maximum_fee",), {"maximum_fee": 19}),
                poor,
                Break(Code.SUPPLY_EXCEEDED, ("into",), {"into": "FEW"}),
            ],
        ),
        "hold": Case(
            "hold",
            {**star, "amount": 30, "merchant": book.cafe, **until},
            [
                *holder,
                Break(Code.UNKNOWN_ACCOUNT, ("merchant",), {"merchant": book.school}),
                Break(Code.NOT_ACCEPTED, ("merchant",), {"merchant": book.kiosk}),
                Break(Code.ACCOUNT_FROZEN, ("merchant",), {"merchant": frosty}),
                *amounts,
                Break(Code.UNTIL_OUT_OF_RANGE, ("until",), {"until": book.time}),
                Break(Code.TOO_MANY_HOLDS, ("asset",), {"actor": full}),
                Break(Code.INSUFFICIENT_POINTS, ("amount",), {"merchant": book.shop, "amount": 2_000}),
            ],
        ),
        "capture": Case(
            "capture",
            {"actor": book.cafe, "amount": 30, "hold": open_hold},
            [
                Break(Code.UNKNOWN_HOLD, ("hold",), {"hold": nothing}),
                Break(Code.UNKNOWN_HOLD, ("hold",), {"actor": book.shop}),
                Break(Code.HOLD_CLOSED, ("hold",), {"hold": closed}),
                Break(Code.HOLD_LAPSED, ("hold",), {"hold": lapsed}),
                Break(Code.ACCOUNT_FROZEN, ("hold",), {"hold": cold_hold}),
                Break(Code.HOLD_EXCEEDED, ("amount",), {"amount": 41}),
            ],
        ),
        "release": Case(
            "release",
            {"actor": book.cafe, "hold": open_hold},
            [
                Break(Code.UNKNOWN_HOLD, ("hold",), {"hold": nothing}),
                Break(Code.HOLD_CLOSED, ("hold",), {"hold": closed}),
                Break(Code.NOT_PERMITTED, ("actor",), {"actor": book.alice}),
            ],
        ),
    }
    return book, cases


MARKET, CASES = make_market()
SINGLE = [
    pytest.param(name, i, id=f"{name}-{b.code}-{i}") for name, case in CASES.items() for i, b in enumerate(case.breaks)
]


def decide(case: Case, *breaks: Break) -> Admission | Rejection:
    fields = dict(case.fields)
    for broken in breaks:
        fields.update(broken.changes)
    return MARKET.ask(case.kind, **fields)


def compatible(one: Break, other: Break) -> bool:
    return all(one.changes[name] == other.changes[name] for name in one.changes.keys() & other.changes.keys())


@pytest.mark.parametrize("name", CASES)
def test_good_document_is_admitted(name: str) -> None:
    """What the refusals below break is in order to begin with."""
    assert isinstance(decide(CASES[name]), Admission)


@pytest.mark.parametrize(("name", "i"), SINGLE)
def test_broken_document_is_refused_with_code_and_field(name: str, i: int) -> None:
    broken = CASES[name].breaks[i]
    rejection = decide(CASES[name], broken)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.path) == (broken.code, broken.path)
    assert rejection.message


@pytest.mark.parametrize("name", CASES)
def test_document_broken_twice_gets_the_earlier_refusal(name: str) -> None:
    """Refusals come in one order: of any two that apply, the earlier in the table is returned."""
    pairs = [pair for pair in itertools.combinations(CASES[name].breaks, 2) if compatible(*pair)]
    for first, second in pairs:
        rejection = decide(CASES[name], second, first)
        assert isinstance(rejection, Rejection)
        assert (rejection.code, rejection.path) == (first.code, first.path), (first, second)


@pytest.mark.parametrize("name", CASES)
def test_deciding_changes_nothing(name: str) -> None:
    """No record, lot or count differs after any answer."""
    state = MARKET.state
    before = copy.deepcopy((state.lots, state.dated, list(state.holds), list(state.usages), list(state.spendings)))
    for breaks in ([], *([broken] for broken in CASES[name].breaks)):
        decide(CASES[name], *breaks)
    assert (state.lots, state.dated, list(state.holds), list(state.usages), list(state.spendings)) == before


@pytest.mark.parametrize(
    ("amount", "code", "details"),
    [
        (5, Code.OFF_STEP, {"step": 10}),
        (105, Code.OFF_STEP, {"step": 10}),
        (10, Code.BELOW_MINIMUM, {"minimum": 20}),
        (110, Code.ABOVE_MAXIMUM, {"maximum": 100}),
        (100, Code.CAP_EXCEEDED, {"cap_points": 90, "used_points": 0, "period": "month"}),
        (90, Code.CAP_EXCEEDED, {"cap_points": 80, "used_points": 0, "period": "ever"}),
        (80, Code.INSUFFICIENT_POINTS, {"required_points": 80, "available_points": 0}),
    ],
)
@pytest.mark.parametrize("kind", ["redeem", "hold", "exchange"])
def test_bounds_come_before_caps_and_caps_before_points(
    kind: str, amount: int, code: Code, details: dict[str, Any]
) -> None:
    """Each amount breaks every bound after the one it is refused for; the refusal says what the bound is."""
    book = Market()
    bounds = {**STEPS, "holder_cap": cap(90, "month"), "total_cap": cap(80, "ever")}
    book.accept(book.cafe, **bounds)
    book.exchanges(**bounds)
    fields: dict[str, Any] = {"actor": book.alice, "asset": "STAR", "amount": amount}
    if kind == "exchange":
        fields |= {"into": "BEAN", "minimum_out": 1}
    else:
        fields |= {"merchant": book.cafe} | ({"until": book.later(days=1)} if kind == "hold" else {})
    rejection = book.refused(kind, **fields)
    assert (rejection.code, rejection.path, rejection.details) == (code, ("amount",), details)


# Transfers under terms


def holder_to_holder() -> Market:
    """programs.md: 0.01 per point + 30.00, step 1,000, 30,000 an operation, 150,000 out and 300,000 in per year."""
    book = Market()
    terms = {
        "fee": fee(1, 1, fixed=3_000),
        "in_cap": cap(300_000),
        "maximum": 30_000,
        "out_cap": cap(150_000),
        "step": 1_000,
    }
    book.asset(book.shop, "TOLL", transfer_terms=terms)
    for who in (book.alice, book.bob, book.shop):
        book.give(who, "TOLL", 10**6)
    return book


def pay(book: Market, amount: int, *, sender: str = "alice", to: str = "bob", **fields: Any) -> dict[str, Any]:
    recipients = [{"amount": amount, "to": getattr(book, to)}]
    limit = {"maximum_fee": 10**6} if sender != "shop" else {}
    return {"actor": getattr(book, sender), "asset": "TOLL", "recipients": recipients, **limit, **fields}


def test_transfer_between_holders_costs_its_fee() -> None:
    """30,000 points cost 330.00, which the sender owes the issuer; a transfer for less money is refused."""
    book = holder_to_holder()
    rejection = book.refused("transfer", **pay(book, 30_000, maximum_fee=32_999))
    assert (rejection.code, rejection.details) == (Code.FEE_ABOVE_LIMIT, {"fee_amount": 33_000, "currency": "USD"})
    assert book.refused("transfer", **pay(book, 30_000, maximum_fee=None)).code == Code.FEE_ABOVE_LIMIT
    admission = book.do("transfer", **pay(book, 30_000, maximum_fee=33_000))
    assert flat(book, admission) == [
        ("alice", -30_000, "TOLL"),
        ("bob", 30_000, "TOLL"),
        ("alice", -33_000, "USD"),
        ("shop", 33_000, "USD"),
    ]
    assert book.owed(book.alice, book.shop) == 33_000


def test_transfer_is_bounded_in_step_size_and_year() -> None:
    """31,000 is refused; so is the sixth 30,000 of a year, and not the first of the next."""
    book = holder_to_holder()
    rejection = book.refused("transfer", **pay(book, 31_000))
    assert (rejection.code, rejection.details) == (Code.ABOVE_MAXIMUM, {"maximum": 30_000})
    assert book.refused("transfer", **pay(book, 1_500)).details == {"step": 1_000}
    for _ in range(5):
        book.do("transfer", **pay(book, 30_000))
    rejection = book.refused("transfer", **pay(book, 30_000))
    assert (rejection.code, rejection.path) == (Code.CAP_EXCEEDED, ("recipients",))
    assert rejection.details == {"cap_points": 150_000, "used_points": 150_000, "period": "year"}
    assert book.refused("transfer", **pay(book, 1_000)).code == Code.CAP_EXCEEDED
    book.at("2027-01-01T00:00:00.000Z").do("transfer", **pay(book, 30_000))


def test_what_one_holder_receives_in_a_year_is_bounded() -> None:
    """300,000 from two senders fill it; the third finds no room, though it has sent nothing."""
    book = holder_to_holder()
    senders = {"cafe": 5, "kiosk": 5, "school": 1}
    for name in senders:
        book.give(getattr(book, name), "TOLL", 200_000)
    for name in ("cafe", "kiosk"):
        for _ in range(senders[name]):
            book.do("transfer", **pay(book, 30_000, sender=name))
    rejection = book.refused("transfer", **pay(book, 1_000, sender="school"))
    assert (rejection.code, rejection.path) == (Code.CAP_EXCEEDED, ("recipients[0]", "amount"))
    book.do("transfer", **pay(book, 1_000, sender="school", to="alice"))


def test_issuer_is_bound_by_no_terms_of_its_own() -> None:
    """What it sends is off every bound, costs nothing and counts nowhere; what it receives counts for the sender."""
    book = holder_to_holder()
    admission = book.do("transfer", **pay(book, 999_999, sender="shop"))
    assert len(admission.postings) == 2
    assert list(book.state.usages) == []
    book.do("transfer", **pay(book, 2_000, to="shop"))
    assert [(usage.scope, usage.account, usage.points) for usage in book.state.usages] == [
        ("transfer_out:TOLL", book.alice, 2_000)
    ]


def test_each_recipient_is_on_a_step_and_the_sum_within_bounds() -> None:
    """Two of 10 reach a minimum of 20; 15 and 5 do not, since each is off the step; caps count each recipient's own."""
    book = Market()
    book.asset(book.shop, "TOLL", transfer_terms={**STEPS, "in_cap": cap(30), "out_cap": cap(70, "day")})
    book.give(book.alice, "TOLL", 1_000)

    def to(*recipients: tuple[str, int]) -> dict[str, Any]:
        listed = [{"amount": amount, "to": account} for account, amount in recipients]
        return {"actor": book.alice, "asset": "TOLL", "recipients": listed}

    rejection = book.refused("transfer", **to((book.bob, 10), (book.cafe, 15)))
    assert (rejection.code, rejection.path) == (Code.OFF_STEP, ("recipients[1]", "amount"))
    assert book.refused("transfer", **to((book.bob, 60), (book.cafe, 60))).code == Code.ABOVE_MAXIMUM
    rejection = book.refused("transfer", **to((book.bob, 30), (book.cafe, 40)))
    assert (rejection.code, rejection.path) == (Code.CAP_EXCEEDED, ("recipients[1]", "amount"))
    book.do("transfer", **to((book.bob, 10), (book.cafe, 10)))
    book.do("transfer", **to((book.bob, 20), (book.cafe, 20)))
    assert {(usage.account, usage.points) for usage in book.state.usages if "in" in usage.scope} == {
        (book.bob, 30),
        (book.cafe, 30),
    }
    assert book.refused("transfer", **to((book.kiosk, 20))).code == Code.CAP_EXCEEDED
    book.advance(days=1).do("transfer", **to((book.kiosk, 20)))


def test_day_of_a_cap_is_that_of_the_program() -> None:
    """A year begins where the program's clock says so: eight hours before UTC's, in Shanghai."""
    book = Market().at("2026-12-31T15:59:59.999Z")
    program = make_program(time_zone="Asia/Shanghai")
    book.asset(book.shop, "TOLL", program, transfer_terms={"out_cap": cap(10)})
    book.give(book.alice, "TOLL", 100)
    book.do("transfer", **pay(book, 10))
    assert book.refused("transfer", **pay(book, 1)).code == Code.CAP_EXCEEDED
    book.advance(ms=1).do("transfer", **pay(book, 10))


def test_fee_beyond_the_range_of_integers_is_above_every_limit() -> None:
    book = Market()
    book.asset(book.shop, "TOLL", transfer_terms={"fee": fee(MAX_INTEGER, 1)})
    book.give(book.alice, "TOLL", 2)
    rejection = book.refused("transfer", **pay(book, 2, maximum_fee=MAX_INTEGER))
    assert (rejection.code, rejection.details["fee_amount"]) == (Code.FEE_ABOVE_LIMIT, MAX_INTEGER)
    book.do("transfer", **pay(book, 1, maximum_fee=MAX_INTEGER))
    rejection = book.refused("transfer", **pay(book, 1, maximum_fee=MAX_INTEGER))
    assert rejection.code == Code.AMOUNT_OVERFLOW


def test_minimum_of_the_fee_is_none_and_its_maximum_holds() -> None:
    """A share below half a cent is rounded away: nothing is owed, and no limit need be signed."""
    book = Market()
    book.asset(book.shop, "TOLL", transfer_terms={"fee": fee(6, 100, maximum=10)})
    book.give(book.alice, "TOLL", 10_000)
    assert len(book.do("transfer", **pay(book, 16, maximum_fee=None)).postings) == 2
    book.do("transfer", **pay(book, 5_000, maximum_fee=10))
    assert book.owed(book.alice, book.shop) == 10


# Redemption


def test_issuer_retires_its_own_points() -> None:
    """The earliest lots, then the spent; nobody owes anything; the merchant is told; a refund finds what was spent."""
    book = Market()
    book.give(book.alice, "STAR", {"2026-03-01": 9, "2026-03-02": 5, "2026-04-01": 7, NO_LAST_DAY: 100})
    admission = book.redeem(14, reference="bill-1")
    assert flat(book, admission) == [
        ("alice", -5, "STAR", "2026-03-02"),
        ("alice", -7, "STAR", "2026-04-01"),
        ("alice", -2, "STAR"),
        (SYS_SPENT, 14, "STAR"),
    ]
    assert admission.parties == (book.shop,)
    assert book.spending() == Spending(
        operation=book.op_id,
        seq=book.seq,
        kind="redeem",
        time=book.time,
        account=book.alice,
        asset="STAR",
        amount=14,
        merchant=book.shop,
        agreement=None,
        version=None,
        parts=(("2026-03-02", 5), ("2026-04-01", 7), (NO_LAST_DAY, 2)),
    )


def test_issuer_redeems_points_it_holds_itself() -> None:
    """It takes out of circulation what it was given; it is the actor, and so no further party."""
    book = Market()
    book.give(book.shop, "STAR", 10)
    admission = book.redeem(10, actor=book.shop)
    assert (flat(book, admission), admission.parties) == ([("shop", -10, "STAR"), (SYS_SPENT, 10, "STAR")], ())


def test_partner_retires_points_and_is_owed_for_them() -> None:
    """The claim follows the points: the issuer owes who took them, by the terms, rounded as they say."""
    book = Market()
    name = book.accept(book.cafe, claim=claim(book.shop, 3, 7, round="half_even"))
    book.give(book.alice, "STAR", {"2026-04-01": 30, NO_LAST_DAY: 70})
    admission = book.redeem(40, book.cafe)
    assert flat(book, admission) == [
        ("alice", -30, "STAR", "2026-04-01"),
        ("alice", -10, "STAR"),
        (SYS_SPENT, 40, "STAR"),
        ("shop", -17, "USD"),
        ("cafe", 17, "USD"),
    ]
    assert admission.parties == ()
    assert book.owed(book.shop, book.cafe) == 17
    (made,) = book.state.claims
    assert (made.seq, made.index, made.agreement, made.amount) == (book.seq, 0, name, 17)
    spent = book.spending()
    assert (spent.agreement, spent.version, spent.claim_amount) == (name, 1, 17)


def test_partner_keeps_points_in_their_lots() -> None:
    """They circulate on, last days and all, and the partner may pay for them: the terms say who owes whom."""
    book = Market()
    book.accept(book.cafe, received="kept", claim=claim(book.cafe, 1, 2, round="down"))
    book.give(book.alice, "STAR", {"2026-04-01": 30, NO_LAST_DAY: 70})
    assert flat(book, book.redeem(45, book.cafe)) == [
        ("alice", -30, "STAR", "2026-04-01"),
        ("alice", -15, "STAR"),
        ("cafe", 30, "STAR", "2026-04-01"),
        ("cafe", 15, "STAR"),
        ("cafe", -22, "USD"),
        ("shop", 22, "USD"),
    ]
    assert book.lots(book.cafe, "STAR") == {"2026-04-01": 30, NO_LAST_DAY: 15}


def test_claim_of_nothing_is_not_made() -> None:
    """Less than half a cent: the points are spent, and nobody owes anything."""
    book = Market()
    book.accept(book.cafe, claim=claim(book.shop, 1, 100))
    book.give(book.alice, "STAR", 100)
    admission = book.redeem(49, book.cafe)
    assert flat(book, admission) == [("alice", -49, "STAR"), (SYS_SPENT, 49, "STAR")]
    assert admission.parties == (book.cafe,)  # who has no leg
    assert len(book.state.claims) == 0
    assert book.spending().claim_amount == 0


def test_points_are_donated_to_a_beneficiary() -> None:
    """programs.md row 9: a donation moves 100 points to the beneficiary and the claim follows."""
    book = Market()
    book.accept(book.school, claim=claim(book.shop, 10))
    book.give(book.alice, "STAR", 200)
    book.do("transfer", actor=book.alice, asset="STAR", recipients=[{"amount": 100, "to": book.school}])
    assert book.balance(book.school, "STAR") == 100
    book.redeem(100, book.school, actor=book.school)  # presents them itself, when it likes
    assert book.owed(book.shop, book.school) == 1_000
    book.redeem(100, book.school)  # or the member spends them there at once
    assert book.owed(book.shop, book.school) == 2_000
    assert (book.balance(book.school, "STAR"), book.balance(SYS_SPENT, "STAR")) == (0, 200)


def test_merchant_without_a_program_takes_a_partners_points() -> None:
    """programs.md row 15: a redemption there books the claim."""
    book = Market()
    book.accept(book.kiosk, claim=claim(book.shop, 1, 2))
    book.give(book.alice, "STAR", 100)
    book.redeem(100, book.kiosk)
    assert book.owed(book.shop, book.kiosk) == 50


def test_points_are_accepted_while_the_agreement_is_in_force() -> None:
    """From its start until before its end, and by the terms of the version of that moment."""
    book = Market()
    book.give(book.alice, "STAR", 100)
    starts, ends = book.later(days=1), book.later(days=3)
    book.accept(book.cafe)
    book.agree(book.shop, book.cafe, acceptance("STAR", minimum=10), starts=starts, ends=ends)
    book.redeem(1, book.cafe)
    book.at(starts)
    rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=1, merchant=book.cafe)
    assert (rejection.code, rejection.details) == (Code.BELOW_MINIMUM, {"minimum": 10})
    book.advance(days=2, ms=-1).redeem(10, book.cafe)
    assert book.spending().version == 2
    rejection = book.at(ends).refused("redeem", actor=book.alice, asset="STAR", amount=10, merchant=book.cafe)
    assert rejection.code == Code.NOT_ACCEPTED
    assert book.shop in rejection.message


def test_caps_count_each_holder_and_all_together() -> None:
    """10 a day for each, 15 a month for all; a refused operation counts nothing."""
    book = Market()
    book.accept(book.cafe, holder_cap=cap(10, "day"), total_cap=cap(15, "month"))
    for who in (book.alice, book.bob):
        book.give(who, "STAR", 100)
    book.redeem(6, book.cafe)
    rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=5, merchant=book.cafe)
    assert rejection.details == {"cap_points": 10, "used_points": 6, "period": "day"}
    assert "2026-03-02" in rejection.message
    book.redeem(4, book.cafe)
    rejection = book.refused("redeem", actor=book.bob, asset="STAR", amount=6, merchant=book.cafe)
    assert rejection.details == {"cap_points": 15, "used_points": 10, "period": "month"}
    book.redeem(5, book.cafe, actor=book.bob)
    book.advance(days=1)
    assert book.refused("redeem", actor=book.alice, asset="STAR", amount=1, merchant=book.cafe).code == (
        Code.CAP_EXCEEDED
    )
    book.at("2026-04-01T00:00:00.000Z").redeem(10, book.cafe)


def test_caps_of_one_partner_leave_others_alone() -> None:
    book = Market()
    book.accept(book.cafe, holder_cap=cap(10))
    book.accept(book.kiosk, holder_cap=cap(10))
    book.give(book.alice, "STAR", 100)
    book.redeem(10, book.cafe)
    book.redeem(10, book.kiosk)
    book.redeem(80)


def test_frozen_issuer_takes_no_points_back() -> None:
    """Also where no agreement is needed; a partner that accepts them still does."""
    book = Market()
    book.accept(book.cafe)
    book.give(book.alice, "STAR", 10)
    book.do("freeze", actor=book.operator, account=book.shop, reason="dispute")
    rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=1, merchant=book.shop)
    assert (rejection.code, rejection.path) == (Code.ACCOUNT_FROZEN, ("merchant",))
    book.redeem(1, book.cafe)


def test_debt_is_paid_before_anything_is_spent() -> None:
    """Of 50 with a debt of 20, 30 can be spent, wherever they lie; the debt stays."""
    book = Market()
    book.give(book.alice, "STAR", {"2026-04-01": 50, NO_LAST_DAY: -20})
    rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=31, merchant=book.shop)
    assert rejection.details == {"required_points": 31, "available_points": 30}
    book.redeem(30)
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 20, NO_LAST_DAY: -20}
    assert book.refused("redeem", actor=book.alice, asset="STAR", amount=1, merchant=book.shop).details == {
        "required_points": 1,
        "available_points": 0,
    }


def test_what_is_owed_stays_within_the_range_of_integers() -> None:
    """The claim that would pass it is refused, and with it the redemption."""
    book = Market()
    book.accept(book.cafe, claim=claim(book.shop, MAX_INTEGER, 2, round="down"))
    book.give(book.alice, "STAR", 100)
    book.redeem(2, book.cafe)
    for amount in (1, 3):
        rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=amount, merchant=book.cafe)
        assert rejection.code == Code.AMOUNT_OVERFLOW
    book.redeem(1)


# Exchange: the table of programs.md


class Row(NamedTuple):
    """Terms of programs.md, and what becomes of amounts: (amount, given, out, fee), or the refusal's code."""

    terms: dict[str, Any]
    outcomes: list[tuple[int, int, int, int]]
    refusals: list[tuple[int, Code]]


ROWS = {
    "1,000 : 1,000": Row(
        {"get": 1_000, "give": 1_000, "step": 1_000, "fee": fee(6, 100, maximum=9_900)},
        [(10_000, 10_000, 10_000, 600), (165_000, 165_000, 165_000, 9_900), (166_000, 166_000, 166_000, 9_900)],
        [(1_500, Code.OFF_STEP), (999, Code.OFF_STEP)],
    ),
    "2 : 1.5": Row(
        {"get": 3, "give": 4, "minimum": 1_000, "step": 100},
        [(10_000, 10_000, 7_500, 0), (1_000, 1_000, 750, 0)],
        [(900, Code.BELOW_MINIMUM), (1_050, Code.OFF_STEP)],
    ),
    "5 : 3": Row({"get": 3, "give": 5}, [(1_000, 1_000, 600, 0), (4, 4, 2, 0)], [(1, Code.OUTCOME_TOO_SMALL)]),
    "3 : 1 and more, refused": Row(
        {"get": 1, "give": 3, "minimum": 3_000, "step": 3, "bonus": {"block": 60_000, "points": 5_000}},
        [(60_000, 60_000, 25_000, 0), (59_997, 59_997, 19_999, 0), (120_000, 120_000, 50_000, 0)],
        [(59_999, Code.OFF_STEP), (2_997, Code.BELOW_MINIMUM)],
    ),
    "3 : 1 and more, rounded down": Row(
        {
            "get": 1,
            "give": 3,
            "minimum": 3_000,
            "step": 3,
            "bonus": {"block": 60_000, "points": 5_000},
            "off_step": "down",
        },
        [(59_999, 59_997, 19_999, 0), (60_002, 60_000, 25_000, 0)],
        [(3_000 - 1, Code.BELOW_MINIMUM), (2, Code.BELOW_MINIMUM)],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_exchange_gives_what_its_terms_say(name: str) -> None:
    """The table of programs.md: what is given, what comes out and what it costs; and what is refused."""
    row, book = ROWS[name], Market()
    terms = dict(row.terms)
    if "fee" in terms:
        terms["fee"] |= {"kept_by": book.bakery}
    book.exchanges(**terms)
    for amount, taken, out, cost in row.outcomes:
        book.give(book.alice, "STAR", taken)
        before = book.balance(book.alice, "BEAN"), book.owed(book.alice, book.bakery)
        book.swap(amount, minimum_out=out, maximum_fee=cost or None)
        after = book.balance(book.alice, "BEAN"), book.owed(book.alice, book.bakery)
        assert (after[0] - before[0], after[1] - before[1]) == (out, cost)
        assert book.balance(book.alice, "STAR") == 0
        spent = book.spending()
        assert (spent.kind, spent.amount, spent.out_points, spent.fee_amount) == ("exchange", taken, out, cost)
    for amount, code in row.refusals:
        fields = {"actor": book.alice, "asset": "STAR", "into": "BEAN", "minimum_out": 1}
        assert book.refused("exchange", amount=amount, **fields).code == code


def test_exchange_posts_points_then_claim_then_fee() -> None:
    """What is given, who receives it, what is issued for it in the lot of its own program, and what is owed."""
    book = Market()
    program = make_program(expiry=ExpiresAtYearEnd(count=1), time_zone="Asia/Shanghai")
    book.asset(book.bakery, "TEA", program)
    terms = exchange(
        "STAR",
        "TEA",
        give=5,
        get=3,
        received="kept",
        claim=claim(book.bakery, 2),
        fee={**fee(1, 10, fixed=5), "kept_by": book.shop},
    )
    name = book.agree(book.shop, book.bakery, terms)
    book.give(book.alice, "STAR", {"2027-01-15": 30, NO_LAST_DAY: 100})
    book.at("2026-12-31T16:00:00.000Z")  # in Shanghai the year is new
    admission = book.swap(50, into="TEA", minimum_out=30, maximum_fee=10)
    assert flat(book, admission) == [
        ("alice", -30, "STAR", "2027-01-15"),
        ("alice", -20, "STAR"),
        ("bakery", 30, "STAR", "2027-01-15"),
        ("bakery", 20, "STAR"),
        (SYS_ISSUED, -30, "TEA"),
        ("alice", 30, "TEA", "2028-12-31"),
        ("bakery", -100, "USD"),
        ("shop", 100, "USD"),
        ("alice", -10, "USD"),
        ("shop", 10, "USD"),
    ]
    assert [(made.index, made.debtor, made.agreement) for made in book.state.claims] == [
        (0, book.bakery, name),
        (1, book.alice, name),
    ]
    assert book.spending() == Spending(
        operation=book.op_id,
        seq=book.seq,
        kind="exchange",
        time=book.time,
        account=book.alice,
        asset="STAR",
        amount=50,
        merchant=book.bakery,
        agreement=name,
        version=1,
        parts=(("2027-01-15", 30), (NO_LAST_DAY, 20)),
        out_points=30,
        claim_amount=100,
        fee_amount=10,
    )


def test_points_received_in_exchange_leave_circulation() -> None:
    """Unless the partner keeps them they are spent, so the supply they took is free again."""
    book = Market()
    book.exchanges()
    book.give(book.alice, "STAR", 10)
    assert flat(book, book.swap(10)) == [
        ("alice", -10, "STAR"),
        (SYS_SPENT, 10, "STAR"),
        (SYS_ISSUED, -10, "BEAN"),
        ("alice", 10, "BEAN"),
    ]


@pytest.mark.parametrize("program", ["none", "not started", "ended"])
def test_points_out_of_an_exchange_need_no_program_in_force(program: str) -> None:
    """The lot is that of the last version that has started, closed or not; before any has, points never expire."""
    book = Market()
    book.asset(book.bakery, "TEA", None)
    expiring = make_program(expiry=ExpiresAfterDays(count=1))
    if program == "not started":
        book.publish("TEA", expiring, starts=book.later(ms=1))
    elif program == "ended":
        book.publish("TEA", expiring, starts="2000-01-01T00:00:00.000Z", ends="2001-01-01T00:00:00.000Z")
    book.agree(book.shop, book.bakery, exchange("STAR", "TEA"))
    book.give(book.alice, "STAR", 10)
    book.swap(10, into="TEA")
    assert book.lots(book.alice, "TEA") == {"2026-03-03" if program == "ended" else NO_LAST_DAY: 10}


def test_holder_says_the_least_it_takes_and_the_most_it_pays() -> None:
    """A refusal says what would have come out and what it would have cost, so that one can sign again."""
    book = Market()
    book.exchanges(give=3, get=2, fee={**fee(1, 1), "kept_by": book.bakery})
    book.give(book.alice, "STAR", 100)
    fields = {"actor": book.alice, "asset": "STAR", "into": "BEAN", "amount": 10}
    rejection = book.refused("exchange", minimum_out=7, maximum_fee=10, **fields)
    assert (rejection.code, rejection.details) == (Code.OUTCOME_TOO_SMALL, {"outcome_points": 6})
    rejection = book.refused("exchange", minimum_out=6, maximum_fee=9, **fields)
    assert (rejection.code, rejection.details) == (Code.FEE_ABOVE_LIMIT, {"fee_amount": 10, "currency": "USD"})
    book.swap(10, minimum_out=6, maximum_fee=10)


def test_amount_below_a_step_gives_nothing_and_is_refused() -> None:
    """Rounded down to nothing it is below every minimum, also where the terms name none."""
    book = Market()
    book.exchanges(step=10, off_step="down")
    rejection = book.refused(
        "exchange", actor=book.alice, asset="STAR", into="BEAN", amount=9, minimum_out=1, maximum_fee=None
    )
    assert rejection.code == Code.BELOW_MINIMUM


def test_caps_count_what_is_given_not_what_was_offered() -> None:
    book = Market()
    book.exchanges(step=10, off_step="down", holder_cap=cap(20, "ever"), total_cap=cap(20, "ever"))
    book.give(book.alice, "STAR", 100)
    book.swap(19)
    book.swap(19)
    rejection = book.refused("exchange", actor=book.alice, asset="STAR", into="BEAN", amount=10, minimum_out=1)
    assert rejection.details == {"cap_points": 20, "used_points": 20, "period": "ever"}


def test_yearly_cap_of_a_fixed_step() -> None:
    """programs.md row 7: 10 credits become 5.00, at most 50.00 a year: of 125 credits 100 are taken, and no more."""
    book = Market()
    book.asset(book.bakery, "CENT", None, scale=2)
    terms = exchange("STAR", "CENT", give=10, get=500, step=10, holder_cap=cap(100), off_step="down")
    book.agree(book.shop, book.bakery, terms)
    book.give(book.alice, "STAR", 125)
    book.swap(100, into="CENT")
    assert book.refused("exchange", actor=book.alice, asset="STAR", into="CENT", amount=25, minimum_out=1).code == (
        Code.CAP_EXCEEDED
    )
    assert (book.balance(book.alice, "CENT"), book.balance(book.alice, "STAR")) == (5_000, 25)
    book.at("2027-01-01T00:00:00.000Z").swap(25, into="CENT")


def test_exchange_counts_against_the_supply_of_what_comes_out() -> None:
    """A full supply refuses it with its own details; so does the range of integers, before that."""
    book = Market()
    book.asset(book.bakery, "FEW", supply_cap=10)
    book.asset(book.bakery, "HUGE", supply_cap=10)
    book.agree(book.shop, book.bakery, exchange("STAR", "FEW"))
    book.agree(book.shop, book.bakery, exchange("STAR", "HUGE", get=MAX_INTEGER))
    book.give(book.alice, "STAR", 100)
    fields = {"actor": book.alice, "asset": "STAR", "minimum_out": 1}
    rejection = book.refused("exchange", into="FEW", amount=11, **fields)
    assert (rejection.code, rejection.path) == (Code.SUPPLY_EXCEEDED, ("into",))
    assert rejection.details == {"supply_cap": 10, "circulating_points": 0}
    book.swap(10, into="FEW")
    assert book.refused("exchange", into="HUGE", amount=2, **fields).code == Code.POINTS_OVERFLOW
    assert book.refused("exchange", into="HUGE", amount=1, **fields).code == Code.SUPPLY_EXCEEDED


def test_who_keeps_the_fee_owes_itself_nothing() -> None:
    """The partner that exchanges pays no fee to itself, but must have agreed to its size like anyone (F4)."""
    book = Market()
    book.exchanges(fee={**fee(1, 1), "kept_by": book.bakery})
    book.give(book.bakery, "STAR", 10)
    fields = {"actor": book.bakery, "asset": "STAR", "into": "BEAN", "amount": 10, "minimum_out": 10}
    assert book.refused("exchange", **fields).code == Code.FEE_ABOVE_LIMIT
    admission = book.swap(10, actor=book.bakery, maximum_fee=10)
    assert [leg for leg in admission.postings if leg.asset == "USD"] == []
    assert (len(book.state.claims), book.spending().fee_amount) == (0, 0)


@pytest.mark.parametrize("owed", ["claim", "fee"])
def test_exchange_whose_money_passes_the_range_is_refused(owed: str) -> None:
    book = Market()
    money: dict[str, Any] = {"claim": claim(book.shop, MAX_INTEGER)}
    if owed == "fee":
        money = {"fee": {**fee(MAX_INTEGER, 1), "kept_by": book.bakery}}
    book.exchanges(**money)
    book.give(book.alice, "STAR", 10)
    book.swap(1, maximum_fee=MAX_INTEGER)
    rejection = book.refused(
        "exchange",
        actor=book.alice,
        asset="STAR",
        into="BEAN",
        amount=1,
        maximum_fee=MAX_INTEGER,
        minimum_out=1,
    )
    assert rejection.code == Code.AMOUNT_OVERFLOW


def test_agreement_ended_is_no_agreement() -> None:
    book = Market()
    book.agree(book.shop, book.bakery, exchange("STAR", "BEAN"), ends=book.later(ms=1))
    book.give(book.alice, "STAR", 10)
    book.swap(5)
    rejection = book.advance(ms=1).refused(
        "exchange", actor=book.alice, asset="STAR", into="BEAN", amount=5, minimum_out=5
    )
    assert (rejection.code, rejection.path) == (Code.NO_AGREEMENT, ("into",))


# Holds


def held_market(cents: int = 0, **terms: Any) -> tuple[Market, str]:
    """Alice has 60 in three lots, of which 45 are held for the cafe, which is owed so many cents for each."""
    book = Market()
    book.accept(book.cafe, **({"claim": claim(book.shop, cents)} if cents else {}), **terms)
    book.give(book.alice, "STAR", {"2026-03-04": 20, "2026-04-01": 20, NO_LAST_DAY: 20})
    return book, book.hold(book.alice, book.cafe, "STAR", 45)


def test_hold_sets_points_aside() -> None:
    """The earliest lots, as in spending; they are nobody's to spend, and circulate still."""
    book = Market()
    name = book.accept(book.cafe)
    book.give(book.alice, "STAR", {"2026-03-04": 20, NO_LAST_DAY: 40})
    until = book.later(days=366)
    fields = {"actor": book.alice, "asset": "STAR", "amount": 45, "merchant": book.cafe, "until": until}
    admission = book.do("hold", reference="room-7", **fields)
    assert flat(book, admission) == [
        ("alice", -20, "STAR", "2026-03-04"),
        ("alice", -25, "STAR"),
        (SYS_HELD, 45, "STAR"),
    ]
    assert admission.parties == (book.cafe,)
    (hold,) = book.state.holds
    assert hold.hold == account_id("hld", bytes.fromhex(book.op_id))  # type: ignore[arg-type]
    assert (hold.account, hold.asset, hold.merchant, hold.amount) == (book.alice, "STAR", book.cafe, 45)
    assert (hold.captured, hold.remaining, hold.parts) == (0, 45, (("2026-03-04", 20), (NO_LAST_DAY, 25)))
    assert (hold.agreement, hold.version, hold.until, hold.reference) == (name, 1, until, "room-7")
    assert (hold.seq, hold.status) == (book.seq, "open")
    assert len(book.state.spendings) == 0
    assert book.refused("redeem", actor=book.alice, asset="STAR", amount=16, merchant=book.shop).details == {
        "required_points": 16,
        "available_points": 15,
    }


@pytest.mark.parametrize(("ms", "code"), [(-1, True), (0, True), (1, False), (366 * 86_400_000, False)])
def test_hold_ends_in_the_future(ms: int, code: bool) -> None:
    """After the moment it is placed, and 366 days later at the latest."""
    book = Market()
    book.give(book.alice, "STAR", 10)
    fields = {"actor": book.alice, "asset": "STAR", "amount": 1, "merchant": book.shop}
    answer = book.ask("hold", until=book.later(ms=ms), **fields)
    assert isinstance(answer, Rejection) == code
    rejection = book.refused("hold", until=book.later(days=366, ms=1), **fields)
    assert (rejection.code, rejection.path) == (Code.UNTIL_OUT_OF_RANGE, ("until",))


def test_capture_spends_the_earliest_points_on_hold() -> None:
    """In parts, until nothing remains; each is a redemption of its own for refunds."""
    book, hold = held_market(cents=2)
    first = book.do("capture", actor=book.cafe, amount=25, hold=hold, reference="night-1")
    assert flat(book, first) == [
        (SYS_HELD, -25, "STAR"),
        (SYS_SPENT, 25, "STAR"),
        ("shop", -50, "USD"),
        ("cafe", 50, "USD"),
    ]
    assert first.parties == (book.alice,)
    spent = book.spending()
    assert (spent.kind, spent.account, spent.merchant, spent.amount) == ("capture", book.alice, book.cafe, 25)
    assert (spent.parts, spent.claim_amount, spent.version) == ((("2026-03-04", 20), ("2026-04-01", 5)), 50, 1)
    found = book.state.holds.get(hold)
    assert found is not None
    assert (found.captured, found.parts, found.status) == (25, (("2026-04-01", 15), (NO_LAST_DAY, 5)), "open")
    rejection = book.refused("capture", actor=book.cafe, amount=21, hold=hold)
    assert (rejection.code, rejection.details) == (Code.HOLD_EXCEEDED, {"remaining_points": 20})
    book.do("capture", actor=book.cafe, amount=20, hold=hold)
    found = book.state.holds.get(hold)
    assert found is not None
    assert (found.captured, found.parts, found.status) == (45, (), "captured")
    assert book.refused("capture", actor=book.cafe, amount=1, hold=hold).code == Code.HOLD_CLOSED
    assert book.refused("release", actor=book.cafe, hold=hold).code == Code.HOLD_CLOSED


def test_final_capture_returns_the_rest() -> None:
    """One leg takes both off hold; what is not captured is the holder's again, in its lots."""
    book, hold = held_market(received="kept")
    admission = book.do("capture", actor=book.cafe, amount=25, final=True, hold=hold)
    assert flat(book, admission) == [
        (SYS_HELD, -45, "STAR"),
        ("cafe", 20, "STAR", "2026-03-04"),
        ("cafe", 5, "STAR", "2026-04-01"),
        ("alice", 15, "STAR", "2026-04-01"),
        ("alice", 5, "STAR"),
    ]
    assert admission.parties == ()
    assert book.lots(book.alice, "STAR") == {"2026-04-01": 15, NO_LAST_DAY: 20}
    assert [found.status for found in book.state.holds] == ["captured"]
    assert book.balance(SYS_HELD, "STAR") == 0


def test_issuer_captures_what_is_held_for_it() -> None:
    """Without an agreement: the points are spent, and nobody owes anything."""
    book = Market()
    book.give(book.alice, "STAR", 10)
    hold = book.hold(book.alice, book.shop, "STAR", 10)
    assert flat(book, book.do("capture", actor=book.shop, amount=10, hold=hold)) == [
        (SYS_HELD, -10, "STAR"),
        (SYS_SPENT, 10, "STAR"),
    ]
    assert (book.spending().agreement, book.spending().version) == (None, None)


def test_capture_keeps_the_terms_under_which_points_were_set_aside() -> None:
    """Better or worse terms since, or none: what was agreed for the hold is what is owed."""
    book, hold = held_market()
    book.agree(book.shop, book.cafe, acceptance("STAR", received="kept", claim=claim(book.cafe, 9), minimum=40))
    book.do("end_agreement", actor=book.shop, agreement=f"STAR@{book.cafe}", ends=book.time)
    assert book.refused("redeem", actor=book.alice, asset="STAR", amount=1, merchant=book.cafe).code == (
        Code.NOT_ACCEPTED
    )
    assert flat(book, book.do("capture", actor=book.cafe, amount=5, hold=hold)) == [
        (SYS_HELD, -5, "STAR"),
        (SYS_SPENT, 5, "STAR"),
    ]


def test_many_small_captures_are_owed_what_one_large_one_is() -> None:
    """A third of a cent a point, rounded up: three times one point is one cent, not three."""
    book = Market()
    book.accept(book.cafe, claim=claim(book.shop, 1, 3, round="up"))
    book.give(book.alice, "STAR", 10)
    hold = book.hold(book.alice, book.cafe, "STAR", 7)
    claims = []
    for _ in range(7):
        book.do("capture", actor=book.cafe, amount=1, hold=hold)
        claims.append(book.spending().claim_amount)
    assert claims == [1, 0, 0, 1, 0, 0, 1]
    assert book.owed(book.shop, book.cafe) == 3


def test_capture_whose_claim_passes_the_range_is_refused() -> None:
    book = Market()
    book.accept(book.cafe, claim=claim(book.shop, MAX_INTEGER))
    book.give(book.alice, "STAR", 10)
    hold = book.hold(book.alice, book.cafe, "STAR", 2)
    book.do("capture", actor=book.cafe, amount=1, hold=hold)
    assert book.refused("capture", actor=book.cafe, amount=1, hold=hold).code == Code.AMOUNT_OVERFLOW


def test_hold_can_be_captured_through_its_last_millisecond() -> None:
    book, hold = held_market()
    book.advance(days=7).do("capture", actor=book.cafe, amount=1, hold=hold)
    rejection = book.advance(ms=1).refused("capture", actor=book.cafe, amount=1, hold=hold)
    assert (rejection.code, rejection.path) == (Code.HOLD_LAPSED, ("hold",))


@pytest.mark.parametrize("who", ["alice", "bob", "operator", "shop"])
def test_anyone_releases_a_hold_that_has_lapsed(who: str) -> None:
    """Before that only the merchant does; afterwards it makes no difference who says so."""
    book, hold = held_market()
    actor = getattr(book, who)
    rejection = book.advance(days=7).refused("release", actor=actor, hold=hold)
    assert (rejection.code, rejection.path) == (Code.NOT_PERMITTED, ("actor",))
    admission = book.advance(ms=1).do("release", actor=actor, hold=hold)
    assert flat(book, admission) == [
        (SYS_HELD, -45, "STAR"),
        ("alice", 20, "STAR", "2026-03-04"),
        ("alice", 20, "STAR", "2026-04-01"),
        ("alice", 5, "STAR"),
    ]
    assert set(admission.parties) == {book.cafe}  # the holder has a leg
    assert [found.status for found in book.state.holds] == ["lapsed"]


def test_merchant_releases_what_is_left() -> None:
    """What was captured stays so; the rest returns to its lots."""
    book, hold = held_market()
    book.do("capture", actor=book.cafe, amount=30, hold=hold)
    admission = book.do("release", actor=book.cafe, hold=hold)
    assert flat(book, admission) == [
        (SYS_HELD, -15, "STAR"),
        ("alice", 10, "STAR", "2026-04-01"),
        ("alice", 5, "STAR"),
    ]
    assert admission.parties == ()
    assert [(found.status, found.captured) for found in book.state.holds] == [("released", 30)]


def spend_all(book: Market) -> dict[str, tuple[str, dict[str, Any]]]:
    """What spends 35 of Alice's points, of which 15 are not on hold, by each kind that does."""
    fields = {"actor": book.alice, "asset": "STAR"}
    until = book.later(days=1)
    return {
        "transfer": ("transfer", fields | {"recipients": [{"amount": 35, "to": book.bob}]}),
        "redeem": ("redeem", fields | {"amount": 35, "merchant": book.shop}),
        "redeem elsewhere": ("redeem", fields | {"amount": 35, "merchant": book.cafe}),
        "exchange": ("exchange", fields | {"amount": 35, "into": "BEAN", "minimum_out": 1}),
        "hold": ("hold", fields | {"amount": 35, "merchant": book.shop, "until": until}),
        "correct": (
            "correct",
            {"actor": book.shop, "asset": "STAR", "amount": -35, "member": book.alice}
            | {"reason": "error", "reference": "c-1"},
        ),
    }


@pytest.mark.parametrize("name", ["transfer", "redeem", "redeem elsewhere", "exchange", "hold", "correct"])
def test_lapsed_points_are_spent_without_anyones_act(name: str) -> None:
    """They return first, in the order in which the holds ended, and are then spent as any; the holds are over."""
    book = Market()
    book.accept(book.cafe)
    book.exchanges()
    book.give(book.alice, "STAR", {"2026-04-01": 20, NO_LAST_DAY: 40})
    second = book.hold(book.alice, book.cafe, "STAR", 25, until=book.later(days=2))
    first = book.hold(book.alice, book.shop, "STAR", 20, until=book.later(days=1))
    third = book.hold(book.alice, book.shop, "STAR", 5, until=book.later(days=3))
    book.advance(days=2)
    kind, fields = spend_all(book)[name]
    assert book.refused(kind, **fields).code == Code.INSUFFICIENT_POINTS  # the second lasts through this moment
    book.advance(ms=1)
    kind, fields = spend_all(book)[name]
    assert flat(book, book.do(kind, **fields))[:7] == [
        (SYS_HELD, -20, "STAR"),
        ("alice", 20, "STAR"),
        (SYS_HELD, -25, "STAR"),
        ("alice", 20, "STAR", "2026-04-01"),
        ("alice", 5, "STAR"),
        ("alice", -20, "STAR", "2026-04-01"),
        ("alice", -15, "STAR"),
    ]
    status = {found.hold: found.status for found in book.state.holds}
    assert [status[hold] for hold in (first, second, third)] == ["lapsed", "lapsed", "open"]
    assert book.refused("release", actor=book.bob, hold=first).code == Code.HOLD_CLOSED


@pytest.mark.parametrize("name", ["transfer", "redeem", "redeem elsewhere", "exchange", "hold", "correct"])
def test_lapsed_points_return_though_there_are_enough_without_them(name: str) -> None:
    """Whoever replays the entries finds the hold over at the first spending after its time, needed or not."""
    book = Market()
    book.accept(book.cafe)
    book.exchanges()
    book.give(book.alice, "STAR", 100)
    hold = book.hold(book.alice, book.cafe, "STAR", 25)
    book.advance(days=7, ms=1)
    kind, fields = spend_all(book)[name]
    assert flat(book, book.do(kind, **fields))[:3] == [
        (SYS_HELD, -25, "STAR"),
        ("alice", 25, "STAR"),
        ("alice", -35, "STAR"),
    ]
    assert book.refused("release", actor=book.cafe, hold=hold).code == Code.HOLD_CLOSED


def test_lapsed_points_may_return_past_their_last_day() -> None:
    """On hold they do not expire; once returned they are in their own lots, not to be spent, and expire as any."""
    book, _ = held_market()
    book.at("2026-03-05T12:00:00.000Z")
    expiry = {"actor": book.operator, "asset": "STAR", "limit": 10, "through": "2026-03-04"}
    assert book.refused("expire", **expiry).code == Code.NOTHING_DUE
    book.at("2026-03-09T12:00:00.001Z")
    rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=41, merchant=book.shop)
    assert rejection.details == {"required_points": 41, "available_points": 40}
    book.redeem(1)
    assert book.lots(book.alice, "STAR") == {"2026-03-04": 20, "2026-04-01": 19, NO_LAST_DAY: 20}
    assert flat(book, book.do("expire", **expiry)) == [
        ("alice", -20, "STAR", "2026-03-04"),
        (SYS_EXPIRED, 20, "STAR"),
    ]


def test_points_on_hold_can_be_captured_past_their_last_day() -> None:
    """They were set aside in time."""
    book, hold = held_market()
    book.at("2026-03-08T12:00:00.000Z").do("capture", actor=book.cafe, amount=20, hold=hold)
    assert book.spending().parts == (("2026-03-04", 20),)


def test_number_of_open_holds_is_bounded_for_each_asset() -> None:
    """100 of an asset; lapsed ones do not count, and those of another asset are counted by themselves."""
    book = Market()
    book.give(book.alice, "STAR", 200)
    book.give(book.alice, "BEAN", 1)
    for _ in range(99):
        book.hold(book.alice, book.shop, "STAR", 1)
    book.hold(book.alice, book.shop, "STAR", 1, until=book.later(days=1))
    fields = {"actor": book.alice, "asset": "STAR", "amount": 1, "merchant": book.shop, "until": book.later(days=30)}
    assert book.refused("hold", **fields).code == Code.TOO_MANY_HOLDS
    book.hold(book.alice, book.bakery, "BEAN", 1)
    book.advance(days=1, ms=1).do("hold", **fields)
    assert book.refused("hold", **fields).code == Code.TOO_MANY_HOLDS


def test_cap_is_used_by_the_hold_and_stays_so() -> None:
    """A capture counts nothing more, and a release gives nothing back."""
    book, hold = held_market(holder_cap=cap(50))
    book.do("capture", actor=book.cafe, amount=20, hold=hold)
    book.do("release", actor=book.cafe, hold=hold)
    rejection = book.refused("redeem", actor=book.alice, asset="STAR", amount=6, merchant=book.cafe)
    assert rejection.details == {"cap_points": 50, "used_points": 45, "period": "year"}
    book.redeem(5, book.cafe)


def test_hold_of_a_frozen_holder_waits() -> None:
    """It cannot be captured; it can be released, and lapses as ever; once unfrozen it can be captured again."""
    book, hold = held_market()
    book.do("freeze", actor=book.operator, account=book.alice, reason="court_order")
    rejection = book.refused("capture", actor=book.cafe, amount=1, hold=hold)
    assert (rejection.code, rejection.path) == (Code.ACCOUNT_FROZEN, ("hold",))
    assert isinstance(book.ask("release", actor=book.cafe, hold=hold), Admission)
    book.do("unfreeze", actor=book.operator, account=book.alice, reason="resolved")
    book.do("capture", actor=book.cafe, amount=1, hold=hold)


# Points that end by inactivity


SOON, LATER, MOVED = "2026-03-10", "2026-04-20", "2026-09-02"
"""Last days of lots that a holder has, and the one that six months from the day of the test give."""


def idle_market() -> Market:
    """A market where points of STAR end six months after their holder was last active; Alice has two dated lots."""
    book = Market()
    book.publish("STAR", make_program(expiry=ExpiresAfterInactivity(months=6)))
    book.give(book.alice, "STAR", {SOON: 40, LATER: 60})
    return book


SPENDING: dict[str, Callable[[Market], dict[str, Any]]] = {
    "redeem": lambda book: {"amount": 30, "merchant": book.shop},
    "hold": lambda book: {"amount": 30, "merchant": book.shop, "until": book.later(days=1)},
    "exchange": lambda book: {"amount": 30, "into": "BEAN", "minimum_out": 1},
    "transfer": lambda book: {"recipients": [{"amount": 30, "to": book.bob}]},
}


@pytest.mark.parametrize("kind", SPENDING)
def test_spending_keeps_all_points_alive(kind: str) -> None:
    """They are in one lot before any is taken; who receives them has that lot's, and is not active by it."""
    book = idle_market()
    book.exchanges()
    book.give(book.bob, "STAR", {SOON: 5})
    admission = book.do(kind, actor=book.alice, asset="STAR", **SPENDING[kind](book))
    assert flat(book, admission)[:4] == [
        ("alice", -40, "STAR", SOON),
        ("alice", -60, "STAR", LATER),
        ("alice", 100, "STAR", MOVED),
        ("alice", -30, "STAR", MOVED),
    ]
    assert book.lots(book.alice, "STAR") == {MOVED: 70}
    assert book.lots(book.bob, "STAR") == {SOON: 5, **({MOVED: 30} if kind == "transfer" else {})}


def test_points_that_cannot_be_used_or_last_longer_stay_where_they_are() -> None:
    """An expired lot is not brought back to life, a later one not cut short, and one that never ends stays so."""
    book = idle_market()
    book.give(book.alice, "STAR", {"2026-03-01": 7, "2026-12-31": 8, NO_LAST_DAY: 9})
    book.redeem(100)
    assert book.lots(book.alice, "STAR") == {"2026-03-01": 7, "2026-12-31": 8, NO_LAST_DAY: 9}


def test_lapsed_holds_return_before_points_live_on() -> None:
    """What is the holder's again is kept alive with the rest; what is still on hold is not."""
    book = idle_market()
    book.give(book.alice, "STAR", {"2026-09-30": 5})
    book.hold(book.alice, book.shop, "STAR", 20, days=1)
    book.hold(book.alice, book.shop, "STAR", 10, days=30)
    assert book.lots(book.alice, "STAR") == {MOVED: 70, "2026-09-30": 5}
    admission = book.advance(days=2).redeem(1)
    assert flat(book, admission) == [
        ("sys_held", -20, "STAR"),
        ("alice", 20, "STAR", MOVED),
        ("alice", -90, "STAR", MOVED),
        ("alice", 90, "STAR", "2026-09-04"),
        ("alice", -1, "STAR", "2026-09-04"),
        (SYS_SPENT, 1, "STAR"),
    ]
    (hold,) = (hold for hold in book.state.holds if hold.status == "open")
    assert hold.parts == ((MOVED, 10),)


def test_what_others_do_with_points_is_no_activity_of_their_holder() -> None:
    """Neither receiving nor a capture, a release, a correction or a refund: the holder's other lots stay."""
    book = idle_market()
    book.give(book.bob, "STAR", 100)
    hold = book.hold(book.alice, book.shop, "STAR", 30)
    book.redeem(10)
    operation = book.op_id
    book.advance(days=1)
    book.do("capture", actor=book.shop, amount=10, hold=hold)
    book.do("release", actor=book.shop, hold=hold)
    book.do("transfer", actor=book.bob, asset="STAR", recipients=[{"amount": 1, "to": book.alice}])
    fields = {"actor": book.shop, "asset": "STAR", "member": book.alice, "reason": "goodwill"}
    book.do("correct", amount=-1, reference="less", **fields)
    book.do("correct", amount=2, reference="more", **fields)
    of = {"amount": 10, "operation": operation, "type": "redemption"}
    book.do("refund", actor=book.shop, asset="STAR", of=of, reference="back")
    assert book.lots(book.alice, "STAR") == {MOVED: 89, "2026-09-03": 2, NO_LAST_DAY: 1}


def test_returned_points_come_back_in_the_lots_they_were_taken_from() -> None:
    """So a refund, however late, makes points live no longer than the activity that spent them did."""
    book = idle_market()
    book.redeem(30)
    operation = book.op_id
    book.at("2026-09-01T12:00:00.000Z").redeem(1)
    of = {"amount": 30, "operation": operation, "type": "redemption"}
    book.do("refund", actor=book.shop, asset="STAR", of=of, reference="back")
    assert book.lots(book.alice, "STAR") == {"2027-03-01": 69, MOVED: 30}


def test_very_many_lots_live_on_little_by_little() -> None:
    """Fifty at a time, the earliest first: an account with ever so many lots can still be spent from."""
    book = Market()
    book.publish("STAR", make_program(expiry=ExpiresAfterInactivity(months=120)))
    days = [f"20{year}-{month:02}-{day:02}" for year in (27, 28) for month in range(1, 13) for day in range(1, 29)]
    book.give(book.alice, "STAR", dict.fromkeys(days, 1))
    moved = "2036-03-02"
    assert len(book.redeem(1).postings) == 50 + 1 + 2
    assert book.lots(book.alice, "STAR") == {**dict.fromkeys(days[51:], 1), moved: 50}
    for _ in range(len(days) // 50):
        book.redeem(1)
    assert set(book.lots(book.alice, "STAR")) == {moved}


def test_exchanged_points_last_through_a_year_of_the_holder_s_membership() -> None:
    """Of what it joined; one that never did joins by nothing of the kind, and has a year from that day."""
    book = Market()
    book.exchanges()
    book.publish("BEAN", make_program(expiry=ExpiresAtMembershipYearEnd(count=0)))
    book.do("enroll", actor=book.alice, asset="BEAN")
    book.at("2026-08-15T12:00:00.000Z")
    for who in (book.alice, book.bob):
        book.give(who, "STAR", 10)
        book.swap(10, actor=who)
    assert book.lots(book.alice, "BEAN") == {"2027-03-01": 10}
    assert book.lots(book.bob, "BEAN") == {"2027-08-14": 10}
    assert book.state.memberships.get("BEAN", book.bob) is None


# Any terms, any amount: against a naive reference

ROUNDINGS = st.sampled_from(["down", "half_up", "half_even", "up"])
SMALL, LARGE = st.integers(1, 50), st.integers(1, MAX_INTEGER)


def naive_round(value: Fraction, rounding: str) -> int:
    below = math.floor(value)
    if rounding == "half_even":
        return round(value)
    return {"down": below, "up": math.ceil(value), "half_up": math.floor(value + Fraction(1, 2))}[rounding]


@given(st.integers(0, MAX_INTEGER), LARGE | SMALL, ROUNDINGS)
def test_ratio_is_rounded_as_stated(numerator: int, denominator: int, rounding: Any) -> None:
    assert round_ratio(numerator, denominator, rounding) == naive_round(Fraction(numerator, denominator), rounding)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "give": SMALL,
            "get": SMALL,
            "step": st.none() | st.integers(2, 12),
            "minimum": st.none() | st.integers(2, 60),
            "maximum": st.none() | st.integers(60, 300),
            "bonus": st.none() | st.fixed_dictionaries({"block": st.integers(1, 60), "points": SMALL}),
        }
    ),
    st.booleans(),
    st.none() | st.tuples(st.integers(0, 40), SMALL, ROUNDINGS, st.none() | SMALL, st.none() | SMALL),
    st.none() | st.tuples(SMALL, SMALL, ROUNDINGS),
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 400), st.integers(0, 300)), min_size=1, max_size=8),
)
def test_exchange_agrees_with_exact_fractions(
    terms: dict[str, Any], down: bool, costs: Any, owed: Any, amounts: list[tuple[int, int, int]]
) -> None:
    """Never less than minimum_out comes out, nor more is due than maximum_fee; what is admitted is exact."""
    book = Market()
    written = {name: value for name, value in terms.items() if value is not None}
    if down and "step" in written:
        written["off_step"] = "down"
    if costs is not None:
        amount, points, rounding, fixed, most = costs
        more = {name: value for name, value in (("fixed", fixed), ("maximum", most)) if value is not None}
        written["fee"] = {**fee(amount, points), "round": rounding, **more, "kept_by": book.shop}
    if owed is not None:
        written["claim"] = claim(book.shop, owed[0], owed[1], round=owed[2])
    book.exchanges(**written)
    book.give(book.alice, "STAR", 10**6)
    for offered, minimum_out, maximum_fee in amounts:
        step = terms["step"] or 1
        taken = offered - offered % step if "off_step" in written else offered
        bonus = terms["bonus"]
        out = math.floor(Fraction(taken * terms["get"], terms["give"]))
        out += math.floor(Fraction(taken, bonus["block"])) * bonus["points"] if bonus else 0
        cost = 0
        if costs is not None:
            cost = naive_round(Fraction(taken * costs[0], costs[1]), costs[2]) + (costs[3] or 0)
            cost = min(cost, costs[4]) if costs[4] is not None else cost
        expected = None
        if taken % step:
            expected = Code.OFF_STEP
        elif taken < (terms["minimum"] or 1):
            expected = Code.BELOW_MINIMUM
        elif terms["maximum"] is not None and taken > terms["maximum"]:
            expected = Code.ABOVE_MAXIMUM
        elif out < minimum_out:
            expected = Code.OUTCOME_TOO_SMALL
        elif cost > maximum_fee:
            expected = Code.FEE_ABOVE_LIMIT
        fields: dict[str, Any] = {"actor": book.alice, "asset": "STAR", "into": "BEAN", "minimum_out": minimum_out}
        signed = book.build("exchange", amount=offered, maximum_fee=maximum_fee or None, **fields)
        answer = book.decide(signed)
        assert (answer.code if isinstance(answer, Rejection) else None) == expected
        if isinstance(answer, Rejection):
            continue
        before = {code: book.balance(book.alice, code) for code in ("STAR", "BEAN", "USD")}
        book.record(signed, answer)
        gained = {code: book.balance(book.alice, code) - before[code] for code in before}
        assert gained == {"STAR": -taken, "BEAN": out, "USD": -cost}
        claimed = naive_round(Fraction(taken * owed[0], owed[1]), owed[2]) if owed is not None else 0
        spent = book.spending()
        assert (spent.out_points, spent.fee_amount, spent.claim_amount) == (out, cost, claimed)


# Any history: against counting single points


class OnHold(Struct):
    """A hold of the naive model: whose it is, for whom, until when, and the last day of every point on it."""

    who: str
    merchant: str
    until: str
    days: list[str]
    captured: int = 0


Effect = Callable[[], None]


class Naive:
    """A market in which every point is counted by itself, as its last day: with each holder, and on each hold.

    Each command gives the document to submit, the code it must be refused with, and what it does otherwise. The cafe
    retires points and is owed a third of a cent for each, rounded up; the kiosk keeps them.
    """

    def __init__(self) -> None:
        self.book = Market()
        self.book.accept(self.book.cafe, claim=claim(self.book.shop, 1, 3, round="up"))
        self.book.accept(self.book.kiosk, received="kept")
        self.points: dict[str, list[str]] = {who: [] for who in (self.book.alice, self.book.bob, self.book.kiosk)}
        self.holds: list[OnHold] = []
        self.ids: list[str] = []
        self.spent = self.owed = 0

    def give(self, who: str, amount: int, days: int | None) -> None:
        day = NO_LAST_DAY if days is None else self.book.later(days=days)[:10]
        self.book.give(getattr(self.book, who), "STAR", {day: amount})
        self.points[getattr(self.book, who)] += [day] * amount

    def wait(self, days: int) -> None:
        self.book.advance(days=days)

    def submit(self, kind: str, fields: dict[str, Any], expected: Code | None, effect: Effect) -> None:
        """The ledger answers as expected, and is then as the model is."""
        signed = self.book.build(kind, **fields)
        answer = self.book.decide(signed)
        assert (answer.code if isinstance(answer, Rejection) else None) == expected
        if isinstance(answer, Admission):
            self.book.record(signed, answer)
            effect()
            if kind == "hold":
                self.ids.append(account_id("hld", signed.op_id))
        self.compare()

    def compare(self) -> None:
        book = self.book
        for who, points in self.points.items():
            lots = book.lots(who, "STAR").items()
            assert sorted(points) == sorted(day for day, count in lots for _ in range(count))
        assert book.balance(SYS_HELD, "STAR") == sum(len(hold.days) for hold in self.holds)
        assert book.balance(SYS_SPENT, "STAR") == self.spent
        captured = [hold.captured for hold in self.holds if hold.merchant == book.cafe]
        assert book.owed(book.shop, book.cafe) == self.owed + sum(math.ceil(Fraction(one, 3)) for one in captured)
        for name, hold in zip(self.ids, self.holds, strict=True):
            found = book.state.holds.get(name)
            assert found is not None
            assert (found.status == "open", found.captured) == (bool(hold.days), hold.captured)
            assert hold.captured <= found.amount

    def spend(self, kind: str, who: str, amount: int, to: str) -> None:
        """Transfer, redeem or hold the points that expire first, of all the holder has once lapsed holds are back."""
        book, holder, receiver = self.book, getattr(self.book, who), getattr(self.book, to)
        until = book.later(days=2)
        lapsed = [hold for hold in self.holds if hold.who == holder and book.time > hold.until]
        back = [day for hold in lapsed for day in hold.days]
        usable = sorted(day for day in [*self.points[holder], *back] if day >= book.time[:10])

        def effect() -> None:
            self.points[holder] += back
            for hold in lapsed:
                hold.days = []
            for day in usable[:amount]:
                self.points[holder].remove(day)
            if kind == "hold":
                self.holds.append(OnHold(holder, receiver, until, usable[:amount]))
            else:
                self.receive(receiver, usable[:amount], kept=kind == "transfer")
                self.owed += math.ceil(Fraction(amount, 3)) if receiver == book.cafe else 0

        fields = {"actor": holder, "asset": "STAR", "amount": amount, "merchant": receiver}
        if kind == "transfer":
            fields = {"actor": holder, "asset": "STAR", "recipients": [{"amount": amount, "to": receiver}]}
        elif kind == "hold":
            fields["until"] = until
        self.submit(kind, fields, Code.INSUFFICIENT_POINTS if len(usable) < amount else None, effect)

    def receive(self, receiver: str, days: list[str], *, kept: bool) -> None:
        if kept or receiver == self.book.kiosk:
            self.points[receiver] += days
        else:
            self.spent += len(days)

    def capture(self, which: int, amount: int, final: bool) -> None:
        if not self.holds:
            return
        hold = self.holds[which % len(self.holds)]
        expected = None
        if not hold.days:
            expected = Code.HOLD_CLOSED
        elif self.book.time > hold.until:
            expected = Code.HOLD_LAPSED
        elif amount > len(hold.days):
            expected = Code.HOLD_EXCEEDED

        def effect() -> None:
            self.receive(hold.merchant, hold.days[:amount], kept=False)
            hold.captured += amount
            hold.days = hold.days[amount:]
            if final:
                self.points[hold.who] += hold.days
                hold.days = []

        name = self.ids[which % len(self.holds)]
        fields = {"actor": hold.merchant, "amount": amount, "final": final or None, "hold": name}
        self.submit("capture", fields, expected, effect)

    def release(self, which: int, by: str) -> None:
        if not self.holds:
            return
        hold, actor = self.holds[which % len(self.holds)], getattr(self.book, by)
        allowed = actor == hold.merchant or self.book.time > hold.until
        expected = None if hold.days and allowed else Code.NOT_PERMITTED if hold.days else Code.HOLD_CLOSED

        def effect() -> None:
            self.points[hold.who] += hold.days
            hold.days = []

        self.submit("release", {"actor": actor, "hold": self.ids[which % len(self.holds)]}, expected, effect)


AMOUNT, WHICH = st.integers(1, 12), st.integers(0, 3)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.sampled_from(["alice", "bob"]), AMOUNT, st.integers(-1, 6) | st.none()),
        st.tuples(st.just("give"), st.just("alice"), AMOUNT, st.integers(0, 6) | st.none()),
        st.tuples(st.just("spend"), st.just("transfer"), st.sampled_from(["alice", "kiosk"]), AMOUNT, st.just("bob")),
        st.tuples(
            st.just("spend"),
            st.sampled_from(["redeem", "hold"]),
            st.just("alice"),
            AMOUNT,
            st.sampled_from(["shop", "cafe", "kiosk"]),
        ),
        st.tuples(st.just("capture"), WHICH, AMOUNT, st.booleans()),
        st.tuples(st.just("release"), WHICH, st.sampled_from(["cafe", "bob"])),
        st.tuples(st.just("wait"), st.integers(1, 3)),
    ),
    min_size=4,
    max_size=25,
)


@settings(max_examples=80)
@given(COMMANDS)
def test_any_history_of_holds_agrees_with_counting_single_points(commands: list[tuple[Any, ...]]) -> None:
    """No point is in two places or none; a hold gives what it took and no more; claims follow to the cent."""
    model = Naive()
    for name, *arguments in commands:
        getattr(model, name)(*arguments)


def test_hold_never_gives_more_than_it_took() -> None:
    """Whatever a merchant captures, of whatever size and order: each of its captures fits what is left."""
    book, hold = held_market()
    taken = 0
    for amount in (44, 2, 1, 1):
        answer = book.ask("capture", actor=book.cafe, amount=amount, hold=hold)
        assert isinstance(answer, Admission) == (taken + amount <= 45)
        if isinstance(answer, Admission):
            book.do("capture", actor=book.cafe, amount=amount, hold=hold)
            taken += amount
    assert (taken, book.balance(SYS_HELD, "STAR")) == (45, 0)
    assert [(found.captured, found.parts, found.status) for found in book.state.holds] == [(45, (), "captured")]
