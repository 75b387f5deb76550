"""Movements: what lots give, what bounds and caps allow, and what an entry leaves, step by step."""

import copy
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY, Posting
from ledger.movements import (
    ALL_HOLDERS,
    Movement,
    check_bounds,
    check_fee,
    choose_lots,
    claim_for,
    fee_for,
    has_lapsed,
    lapsed_holds,
    lot_at,
    period_of,
    spendable,
    split,
)
from ledger.program_terms import ExpiresAfterDays
from ledger.state import (
    NOT_NETTED,
    RECORDS,
    SYS_EXPIRED,
    SYS_HELD,
    SYS_ISSUED,
    SYS_SPENT,
    Asset,
    Claim,
    Code,
    Netting,
    Obligation,
    PointsHold,
    Rejection,
    State,
    Usage,
)
from ledger.terms import Cap, ClaimTerms, Fee
from tests.rulebook import Book, make_program

TODAY = "2026-03-02"
NOW = "2026-03-02T12:00:00.000Z"
PATH = ("amount",)
DAYS = st.sampled_from(["2026-03-01", "2026-03-02", "2026-03-03", "2027-01-01", NO_LAST_DAY])
LOTS = st.dictionaries(DAYS, st.integers(1, 9))


def make_state(**balances: dict[str, int]) -> State:
    """STAR, whose supply is at most 100, and these accounts' lots of it."""
    state = State("ledger.example/movements")
    state.assets["STAR"] = Asset(
        code="STAR",
        issuer="mer_shop",  # type: ignore[arg-type]
        name="Star",
        scale=0,
        supply_cap=100,
        transferable=True,
        value=None,
        seq=1,
    )
    for account, lots in balances.items():
        for day, points in lots.items():
            state.add_lot(account, "STAR", day, points)
    state.size = 7
    return state


def make_hold(name: str, until: str = NOW, **changes: Any) -> PointsHold:
    hold = PointsHold(
        hold=name,
        account="alice",
        asset="STAR",
        merchant="mer_shop",
        amount=10,
        captured=0,
        parts=(("2026-03-01", 4), (NO_LAST_DAY, 6)),
        agreement=None,
        version=None,
        until=until,
        reference=None,
        seq=3,
        status="open",
    )
    return replace(hold, **changes)


def money(move: Movement) -> list[tuple[str, int]]:
    return [(leg.account, leg.amount) for leg in move.legs]


# Lots


@given(LOTS, st.integers(-20, 0))
def test_spendable_counts_points_whose_last_day_has_not_passed(lots: dict[str, int], debt: int) -> None:
    """Each point by itself; a debt takes from them, down to nothing."""
    days = [day for day, points in lots.items() for _ in range(points)]
    assert spendable(lots, TODAY) == sum(day >= TODAY for day in days)
    indebted = {**lots, NO_LAST_DAY: debt}
    dated = sum(TODAY <= day < NO_LAST_DAY for day in days)
    assert spendable(indebted, TODAY) == max(dated + debt, 0)


@given(LOTS, st.integers(1, 50), st.integers(0, 30))
def test_lots_give_their_earliest_points(lots: dict[str, int], amount: int, debt: int) -> None:
    """The first to expire of single points that have not; with a debt, no more than is left beside it."""
    if debt:
        lots = {**lots, NO_LAST_DAY: -debt}
    usable = sorted(day for day, points in lots.items() for _ in range(points) if day >= TODAY)
    available = max(len(usable) - debt, 0)
    chosen = choose_lots(lots, TODAY, "STAR", amount, PATH)
    if isinstance(chosen, Rejection):
        assert available < amount
        assert (chosen.code, chosen.path) == (Code.INSUFFICIENT_POINTS, PATH)
        assert chosen.details == {"required_points": amount, "available_points": available}
    else:
        assert available >= amount
        assert [day for day, points in chosen for _ in range(points)] == usable[:amount]
        assert len({day for day, _ in chosen}) == len(chosen)


@given(st.lists(st.tuples(DAYS, st.integers(1, 9)), max_size=5), st.integers(0, 50))
def test_parts_are_split_point_by_point(parts: list[tuple[str, int]], amount: int) -> None:
    """The first of them, and the rest, both in their order and without empty parts."""
    days = [day for day, points in parts for _ in range(points)]
    taken, rest = split(parts, amount)
    assert [day for day, points in taken for _ in range(points)] == days[:amount]
    assert [day for day, points in rest for _ in range(points)] == days[amount:]
    assert all(points > 0 for _, points in [*taken, *rest])


def test_spending_posts_what_each_lot_gives() -> None:
    """Legs in the order of last days; what has been spent is not there for the next step, the state is as it was."""
    state = make_state(alice={"2026-03-01": 9, "2026-03-02": 2, NO_LAST_DAY: 5})
    before = copy.deepcopy(state.lots)
    move = Movement(state, NOW)
    assert move.spend("alice", "STAR", 4, PATH) == [("2026-03-02", 2), (NO_LAST_DAY, 2)]
    assert move.legs == [
        Posting(account="alice", amount=-2, asset="STAR", lot="2026-03-02"),
        Posting(account="alice", amount=-2, asset="STAR"),
    ]
    assert isinstance(move.spend("alice", "STAR", 4, PATH), Rejection)
    assert move.spend("alice", "STAR", 3, PATH) == [(NO_LAST_DAY, 3)]
    assert move.lots("alice", "STAR") == {"2026-03-01": 9}
    assert (move.balance("alice", "STAR"), state.lots) == (9, before)


def test_leg_of_nothing_is_none() -> None:
    move = Movement(make_state(), NOW)
    move.leg("alice", "STAR", 0)
    move.give("alice", "STAR", [])
    move.receive("mer_shop", "STAR", [], "retired")
    assert move.legs == []


def test_received_points_are_retired_or_kept() -> None:
    parts = [("2026-03-02", 2), (NO_LAST_DAY, 3)]
    move = Movement(make_state(), NOW)
    move.receive("mer_shop", "STAR", parts, "retired")
    move.receive("mer_shop", "STAR", parts, "kept")
    assert move.legs == [
        Posting(account=SYS_SPENT, amount=5, asset="STAR"),
        Posting(account="mer_shop", amount=2, asset="STAR", lot="2026-03-02"),
        Posting(account="mer_shop", amount=3, asset="STAR"),
    ]


@pytest.mark.parametrize(
    ("debt", "amount", "legs"),
    [
        (0, 5, [(5, TODAY)]),
        (3, 5, [(3, None), (2, TODAY)]),
        (5, 5, [(5, None)]),
        (9, 5, [(5, None)]),
    ],
)
def test_new_points_repay_a_debt_first(debt: int, amount: int, legs: list[tuple[int, str | None]]) -> None:
    """Without a lot, up to the debt; only the rest is new; what has no lot anyway is one leg."""
    state = make_state(**({"alice": {NO_LAST_DAY: -debt}} if debt else {}))
    move = Movement(state, NOW)
    move.earn("alice", "STAR", amount, TODAY)
    assert [(leg.amount, leg.lot) for leg in move.legs] == legs
    undated = Movement(state, NOW)
    undated.earn("alice", "STAR", amount, NO_LAST_DAY)
    assert [(leg.amount, leg.lot) for leg in undated.legs] == [(amount, None)]


def test_debt_is_repaid_once_by_several_earnings() -> None:
    move = Movement(make_state(alice={NO_LAST_DAY: -4}), NOW)
    for amount in (3, 3, 3):
        move.earn("alice", "STAR", amount, TODAY)
    assert [(leg.amount, leg.lot) for leg in move.legs] == [(3, None), (1, None), (2, TODAY), (3, TODAY)]


def test_new_points_get_the_lot_of_the_program_by_its_own_calendar() -> None:
    """In Shanghai it is the next day already; without a program points never expire."""
    book = Book()
    shop = book.merchant()
    book.asset(shop, "STAR", make_program(expiry=ExpiresAfterDays(count=1), time_zone="Asia/Shanghai"))
    (version,) = book.state.programs["STAR"]
    assert lot_at(version, "2026-03-02T15:59:59.999Z") == "2026-03-03"
    assert lot_at(version, "2026-03-02T16:00:00.000Z") == "2026-03-04"
    assert lot_at(None, NOW) == NO_LAST_DAY


# Supply


def test_supply_is_what_was_issued_less_what_was_spent_and_expired() -> None:
    """Points on hold circulate; what the movement itself has retired does not any more."""
    system = {SYS_ISSUED: -90, SYS_SPENT: 20, SYS_EXPIRED: 10, SYS_HELD: 15}
    state = make_state(**{str(account): {NO_LAST_DAY: points} for account, points in system.items()})
    move = Movement(state, NOW)
    assert move.circulating("STAR") == 60
    assert move.check_issue("STAR", 40, PATH) is None
    refusal = move.check_issue("STAR", 41, PATH)
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.SUPPLY_EXCEEDED, PATH)
    assert refusal.details == {"supply_cap": 100, "circulating_points": 60}
    move.leg(SYS_SPENT, "STAR", 1)
    assert move.check_issue("STAR", 41, PATH) is None
    move.leg(SYS_ISSUED, "STAR", -41)
    assert move.check_cap("STAR", 1, PATH) is not None


def test_points_ever_issued_are_counted_before_the_cap() -> None:
    """What was spent long since has been issued all the same; without a cap only that counts."""
    state = make_state(sys_issued={NO_LAST_DAY: -(MAX_INTEGER - 1)}, sys_spent={NO_LAST_DAY: MAX_INTEGER - 1})
    move = Movement(state, NOW)
    assert move.check_issue("STAR", 1, PATH) is None
    refusal = move.check_issue("STAR", 2, PATH)
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.POINTS_OVERFLOW, PATH)
    state.assets["STAR"] = replace(state.assets["STAR"], supply_cap=None)
    assert move.check_cap("STAR", MAX_INTEGER, PATH) is None


# Holds


@pytest.mark.parametrize(
    ("until", "status", "lapsed"),
    [
        ("2026-03-02T11:59:59.999Z", "open", True),
        ("2026-03-02T12:00:00.000Z", "open", False),
        ("2026-03-02T11:59:59.999Z", "captured", False),
        ("2026-03-02T11:59:59.999Z", "released", False),
        ("2026-03-02T11:59:59.999Z", "lapsed", False),
    ],
)
def test_hold_lapses_once_its_time_has_passed(until: str, status: str, lapsed: bool) -> None:
    """It lasts through that moment; one that is over cannot lapse."""
    assert has_lapsed(make_hold("a", until, status=status), NOW) == lapsed


def test_lapsed_holds_return_in_the_order_in_which_they_ended() -> None:
    """By time, then by name; those of others, of other assets, open or over are left alone."""
    state = make_state()
    early, late = "2026-03-01T00:00:00.000Z", "2026-03-02T00:00:00.000Z"
    holds = [make_hold("b", late), make_hold("c", early), make_hold("a", late), make_hold("open")]
    holds += [make_hold("bob", early, account="bob"), make_hold("bean", early, asset="BEAN")]
    holds += [make_hold("over", early, status="released")]
    for hold in holds:
        state.holds.load(hold)
    assert [hold.hold for hold in lapsed_holds(state, "alice", "STAR", NOW)] == ["c", "a", "b"]


def test_lapsed_points_return_once_and_to_their_lots() -> None:
    """What was held comes back before anything is spent, and not again with the next step."""
    state = make_state(sys_held={NO_LAST_DAY: 10})
    state.holds.load(make_hold("a", "2026-03-01T00:00:00.000Z"))
    move = Movement(state, NOW)
    assert move.spend("alice", "STAR", 2, PATH) == [(NO_LAST_DAY, 2)]
    assert isinstance(move.spend("alice", "STAR", 5, PATH), Rejection)  # of ten, four are past their day
    assert [(leg.account, leg.amount, leg.lot) for leg in move.legs] == [
        (SYS_HELD, -10, None),
        ("alice", 4, "2026-03-01"),
        ("alice", 6, None),
        ("alice", -2, None),
    ]
    hold = move.get("holds", "a")
    assert (hold.status, hold.parts, hold.amount) == ("lapsed", (), 10)
    found = state.holds.get("a")
    assert found is not None
    assert found.status == "open"


# Money


def test_claim_is_a_debt_and_a_record() -> None:
    """Debtor less, creditor more; the claim is counted from 0 in its entry, and owed on its day until netted."""
    move = Movement(make_state(), "2026-03-02T23:59:59.999Z")
    assert move.claim("mer_shop", "mer_cafe", "USD", 30, "STAR@mer_cafe") is None
    assert move.claim("mer_shop", "mer_cafe", "USD", 12) is None
    assert money(move) == [("mer_shop", -30), ("mer_cafe", 30), ("mer_shop", -12), ("mer_cafe", 12)]
    assert [leg.lot for leg in move.legs] == [None] * 4
    first = Claim(
        seq=7,
        index=0,
        debtor="mer_shop",
        creditor="mer_cafe",
        currency="USD",
        amount=30,
        day=TODAY,
        agreement="STAR@mer_cafe",
    )
    assert move.get("claims", 7, 0) == first
    assert move.get("claims", 7, 1) == replace(first, index=1, amount=12, agreement=None)
    assert move.get("obligations", "USD", "mer_shop", "mer_cafe", NOT_NETTED, TODAY).amount == 42


@pytest.mark.parametrize(("debtor", "creditor", "amount"), [("a", "b", 0), ("a", "a", 5)])
def test_claim_of_nothing_or_of_oneself_is_not_made(debtor: str, creditor: str, amount: int) -> None:
    move = Movement(make_state(), NOW)
    assert move.claim(debtor, creditor, "USD", amount) is None
    assert (move.legs, move.admission("a").changes) == ([], ())


@pytest.mark.parametrize(
    ("debtor", "creditor", "amount", "refused"),
    [
        (0, 0, MAX_INTEGER, False),
        (0, 0, MAX_INTEGER + 1, True),
        (-1, 0, MAX_INTEGER, True),
        (0, 1, MAX_INTEGER, True),
        (1, -1, MAX_INTEGER, False),
        (1, 0, MAX_INTEGER + 1, True),
    ],
)
def test_money_stays_within_the_range_of_integers(debtor: int, creditor: int, amount: int, refused: bool) -> None:
    """Neither a leg nor a balance passes it, at either end; what is refused leaves no leg."""
    state = make_state()
    for account, balance in (("a", debtor), ("b", creditor)):
        if balance:
            state.add_lot(account, "USD", NO_LAST_DAY, balance)
    for claimed in (True, False):
        move = Movement(state, NOW)
        answer = move.claim("a", "b", "USD", amount) if claimed else move.move_money("b", "a", "USD", amount)
        assert (answer is not None and answer.code == Code.AMOUNT_OVERFLOW) == refused
        assert len(move.legs) == (0 if refused else 2)


def test_what_one_owes_another_stays_within_the_range_too() -> None:
    """Though the debtor's balance has room, because others owe it as much."""
    state = make_state()
    state.add_lot("a", "USD", NO_LAST_DAY, 5)
    move = Movement(state, NOW)
    move.owe("a", "b", "USD", MAX_INTEGER, day=TODAY)
    refusal = move.claim("a", "b", "USD", 1)
    assert refusal is not None
    assert refusal.code == Code.AMOUNT_OVERFLOW
    assert move.claim("b", "a", "USD", 1) is None
    move.owe("a", "b", "USD", -1, day=TODAY)
    assert move.claim("a", "b", "USD", 1) is None
    assert Movement(state, "2026-03-03T00:00:00.000Z").claim("a", "b", "USD", 1) is None


def test_debt_that_is_gone_has_no_record() -> None:
    """Of each day and netting by itself."""
    move = Movement(make_state(), NOW)
    move.owe("a", "b", "USD", 5, day=TODAY)
    move.owe("a", "b", "USD", 6, day=TODAY, netting=3)
    move.owe("a", "b", "USD", -2, day=TODAY)
    assert move.get("obligations", "USD", "a", "b", NOT_NETTED, TODAY) == Obligation(
        currency="USD", debtor="a", creditor="b", netting=NOT_NETTED, day=TODAY, amount=3
    )
    move.owe("a", "b", "USD", -3, day=TODAY)
    assert move.get("obligations", "USD", "a", "b", NOT_NETTED, TODAY) is None
    assert move.get("obligations", "USD", "a", "b", 3, TODAY).amount == 6


# What is owed for points

TERMS = st.tuples(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from(["down", "half_up", "half_even", "up"]))


def naive_round(value: Fraction, rounding: str) -> int:
    below = math.floor(value)
    if value == below or rounding == "down":
        return below
    if rounding == "up" or value - below > Fraction(1, 2):
        return below + 1
    if value - below < Fraction(1, 2):
        return below
    return below + 1 if rounding == "half_up" or below % 2 else below


@given(TERMS, st.integers(0, MAX_INTEGER))
def test_claim_is_the_exact_share_rounded_once(terms: tuple[int, int, Any], points: int) -> None:
    amount, per, rounding = terms
    claim = ClaimTerms(amount=amount + 1, currency="USD", debtor="a", points=per, round=rounding)
    assert claim_for(claim, points) == naive_round(Fraction(points * (amount + 1), per), rounding)
    assert claim_for(None, points) == 0


@given(TERMS, st.integers(0, 10**6), st.none() | st.integers(1, 10**9), st.integers(0, 10**9))
def test_fee_is_its_share_and_its_fixed_part_up_to_a_maximum(
    terms: tuple[int, int, Any], fixed: int, maximum: int | None, points: int
) -> None:
    """Nothing costs nothing, not even the fixed part."""
    amount, per, rounding = terms
    fee = Fee(amount=amount, currency="USD", fixed=fixed, maximum=maximum, points=per, round=rounding)
    exact = fixed + naive_round(Fraction(points * amount, per), rounding) if points else 0
    assert fee_for(fee, points) == (exact if maximum is None else min(exact, maximum))
    assert fee_for(None, points) == 0


def test_half_a_cent_is_rounded_as_the_terms_say() -> None:
    """5 and 15 points at a tenth of a cent: 0.5 and 1.5."""
    rounded = {
        rounding: [
            claim_for(ClaimTerms(amount=1, currency="USD", debtor="a", points=10, round=rounding), points)
            for points in (5, 15)
        ]
        for rounding in ("down", "half_up", "half_even", "up")
    }
    assert rounded == {"down": [0, 1], "half_up": [1, 2], "half_even": [0, 2], "up": [1, 2]}


def test_fee_is_at_most_what_was_agreed_to() -> None:
    assert check_fee(10, 10, "USD") is None
    refusal = check_fee(11, 10, "USD")
    assert refusal is not None
    assert (refusal.code, refusal.path) == (Code.FEE_ABOVE_LIMIT, ("maximum_fee",))
    assert refusal.details == {"fee_amount": 11, "currency": "USD"}


# Bounds and caps


@pytest.mark.parametrize(
    ("amount", "code", "details"),
    [
        (15, Code.OFF_STEP, {"step": 10}),
        (10, Code.BELOW_MINIMUM, {"minimum": 20}),
        (50, Code.ABOVE_MAXIMUM, {"maximum": 40}),
        (20, None, None),
        (40, None, None),
    ],
)
def test_amount_is_on_a_step_and_within_bounds(amount: int, code: Code | None, details: Any) -> None:
    refusal = check_bounds(amount, step=10, minimum=20, maximum=40, path=PATH)
    found = None if refusal is None else (refusal.code, refusal.path, refusal.details)
    assert found == (None if code is None else (code, PATH, details))
    assert check_bounds(amount, step=1, minimum=1, maximum=None, path=PATH) is None


@pytest.mark.parametrize(
    ("period", "key"), [("day", "2026-03-02"), ("month", "2026-03"), ("year", "2026"), ("ever", "ever")]
)
def test_period_of_a_cap_is_a_prefix_of_its_day(period: Any, key: str) -> None:
    assert period_of(Cap(period=period, points=1), TODAY) == key


def test_refusal_says_whose_cap_is_used_up() -> None:
    """All holders' together, or the account's; for ever, or in which period."""
    move = Movement(make_state(), NOW)
    refusal = move.use(Cap(period="ever", points=1), "s", ALL_HOLDERS, 2, asset="STAR", path=PATH)
    assert refusal is not None
    assert refusal.message == "all together: 0 of 1 points in all are used; 2 more do not fit"


def test_usage_adds_up_until_the_cap() -> None:
    """For each scope, account and period by itself; the state's count is the start, and is not changed."""
    state = make_state()
    stored = Usage(scope="s", account="alice", period="2026-03", points=4)
    state.usages.load(stored)
    cap = Cap(period="month", points=10)
    move = Movement(state, NOW)
    for account, amount, used in [("alice", 5, None), ("alice", 2, 9), ("alice", 1, None), ("alice", 1, 10)]:
        refusal = move.use(cap, "s", account, amount, asset="STAR", path=PATH)
        if used is None:
            assert refusal is None
        else:
            assert refusal is not None
            assert (refusal.code, refusal.path) == (Code.CAP_EXCEEDED, PATH)
            assert refusal.details == {"cap_points": 10, "used_points": used, "period": "month"}
            assert refusal.message.startswith(f"alice: {used} of 10 points a month are used in 2026-03; {amount} more")
    for scope, account in (("s", ALL_HOLDERS), ("t", "alice"), ("s", "bob")):
        assert move.use(cap, scope, account, 10, asset="STAR", path=PATH) is None
    assert move.use(None, "s", "alice", MAX_INTEGER, asset="STAR", path=PATH) is None
    later = Movement(state, "2026-04-01T00:00:00.000Z")
    assert later.use(cap, "s", "alice", 10, asset="STAR", path=PATH) is None
    assert list(state.usages) == [stored]


# What an admission has


def test_records_are_layered_over_the_state() -> None:
    """A step sees what those before it wrote and removed; the last word counts, and the state keeps its own."""
    state = make_state()
    one, two = (Netting(seq=seq, currency="USD", through=TODAY, merchants=()) for seq in (1, 2))
    state.nettings.load(one)
    move = Movement(state, NOW)
    assert move.get("nettings", 1) is one
    move.remove("nettings", 1)
    assert move.get("nettings", 1) is None
    changed = replace(one, currency="EUR")
    move.put("nettings", changed)
    move.put("nettings", two)
    assert (move.get("nettings", 1), move.get("nettings", 2)) == (changed, two)
    move.remove("nettings", 2)
    assert move.admission("alice").changes == (("nettings", (1,), changed), ("nettings", (2,), None))
    assert [state.nettings.get(seq) for seq in (1, 2)] == [one, None]
    assert not any(state.records(name).changed for name in RECORDS)


def test_parties_are_those_without_another_part_in_the_entry() -> None:
    """Each once, in the order they were named; neither the actor nor who has a leg."""
    move = Movement(make_state(), NOW)
    move.concern(("carol", "alice"))
    move.concern(("bob", "carol", "dora"))
    move.leg("bob", "STAR", 1)
    move.refer("mer_shop", "refund", "r-1")
    admission = move.admission("alice")
    assert admission.parties == ("carol", "dora")
    assert admission.references == (("mer_shop", "refund", "r-1"),)
    assert admission.postings == (Posting(account="bob", amount=1, asset="STAR"),)
