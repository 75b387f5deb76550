"""Pools: members who spend each other's points: who forms and leaves them, and from whom points come and return."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.encoding import MAX_INTEGER, account_id
from ledger.pools import shares
from ledger.program_terms import ExpiresAfterInactivity, Program
from ledger.rules import admit
from ledger.state import SYS_SPENT, Admission, Code, Membership, Pool, Rejection, Spending
from tests.breaking import Break, Case, check
from tests.rulebook import Book, acceptance, claim, make_program

NOBODY = "mem_" + "z" * 26
SPRING, SUMMER = "2026-03-31", "2026-08-31"


class Family(Book):
    """A merchant, a cafe, and four members, one of them in custody; nobody is in a pool yet."""

    def __init__(self, program: Program | None = None) -> None:
        super().__init__()
        self.shop, self.cafe = self.merchant("shop"), self.merchant("cafe")
        self.members = [self.member(), self.member(), self.member(), self.member(self.shop)]
        self.alice, self.bob, self.carol, self.dora = self.members
        self.asset(self.shop, "STAR", program or make_program())
        self.asset(self.shop, "MOON")

    def pool(self, *members: str, asset: str = "STAR") -> Pool:
        """Let the first form a pool with the others."""
        self.do("form_pool", actor=members[0], asset=asset, members=list(members[1:]))
        pool = self.state.pools.get(account_id("pol", bytes.fromhex(self.op_id)))  # type: ignore[arg-type]
        assert pool is not None
        return pool

    def redeem(self, amount: int, who: str | None = None, **fields: Any) -> dict[str, Any]:
        return {
            "actor": who or self.alice,
            "amount": amount,
            "asset": "STAR",
            "from_pool": True,
            "merchant": self.shop,
            **fields,
        }

    def spending(self) -> Spending:
        spending = self.state.spendings.get(self.op_id)
        assert spending is not None
        return spending

    def refund(self, operation: str, amount: int, **fields: Any) -> dict[str, Any]:
        of = {"amount": amount, "operation": operation, "type": "redemption"}
        return {"actor": self.shop, "asset": "STAR", "of": of, "reference": f"refund-{self.seq}", **fields}

    def have(self) -> list[int]:
        return [self.balance(member, "STAR") for member in self.members]

    def membership(self, who: str) -> Membership | None:
        return self.state.memberships.get("STAR", who)

    def flat(self, admission: Admission) -> list[tuple[Any, ...]]:
        """Postings as (name, amount[, lot])."""
        names = dict(
            zip([*self.members, self.shop, self.cafe], ["alice", "bob", "carol", "dora", "shop", "cafe"], strict=True)
        )
        legs = admission.postings
        return [(names.get(leg.account, leg.account), leg.amount, *((leg.lot,) if leg.lot else ())) for leg in legs]


# The order of refusals


def test_refusals_come_in_one_order() -> None:
    """Of each kind: every way to break it has its code and field, and of two the first is told."""
    book = Family()
    book.pool(book.carol, book.dora)
    frosty, icy = book.member(), book.member()
    for account in (frosty, icy):
        book.do("freeze", actor=book.operator, account=account, reason="fraud")
    book.give(book.carol, "STAR", 60)
    book.give(book.dora, "STAR", 40)
    form = Case(
        "form_pool",
        {"actor": book.alice, "asset": "STAR", "members": [book.bob]},
        [
            Break(Code.UNKNOWN_ACCOUNT, ("actor",), {"actor": NOBODY}),
            Break(Code.UNKNOWN_ACCOUNT, ("members[1]",), {"members": [book.bob, "mem_" + "y" * 26]}),
            Break(Code.ACCOUNT_FROZEN, ("actor",), {"actor": frosty}),
            Break(Code.ACCOUNT_FROZEN, ("members[1]",), {"members": [book.bob, icy]}),
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": book.shop}),
            Break(Code.UNKNOWN_ACCOUNT, ("members[1]",), {"members": [book.bob, book.cafe]}),
            Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
            Break(Code.ALREADY_POOLED, ("actor",), {"actor": book.carol}),
            Break(Code.ALREADY_POOLED, ("members[1]",), {"members": [book.bob, book.dora]}),
        ],
    )
    leave = Case(
        "leave_pool",
        {"actor": book.carol, "asset": "STAR"},
        [
            Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
            Break(Code.NO_POOL, ("asset",), {"actor": book.alice}),
            Break(Code.NO_POOL, ("asset",), {"asset": "MOON"}),
            Break(Code.NO_POOL, ("asset",), {"actor": book.shop}),
        ],
    )
    redeem = Case(
        "redeem",
        book.redeem(100, book.carol),
        [
            Break(Code.NOT_PERMITTED, ("actor",), {"actor": book.operator}),
            Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
            Break(Code.NOT_ACCEPTED, ("merchant",), {"merchant": book.cafe}),
            Break(Code.NO_POOL, ("from_pool",), {"actor": book.alice}),
            Break(Code.INSUFFICIENT_POINTS, ("amount",), {"amount": 101}),
        ],
    )
    for case in (form, leave, redeem):
        check(book, case)


# Forming and leaving


def test_pool_is_of_those_who_formed_it_in_their_order() -> None:
    """It is known by its operation; whoever was no member of the program is one from that day."""
    book = Family()
    admission = book.do("form_pool", actor=book.carol, asset="STAR", members=[book.alice, book.bob])
    assert (admission.postings, admission.parties) == ((), (book.alice, book.bob, book.shop))
    (pool,) = book.state.pools
    assert pool.pool.startswith("pol_")
    assert (pool.asset, pool.members) == ("STAR", (book.carol, book.alice, book.bob))
    for who in pool.members:
        assert book.membership(who) == Membership(asset="STAR", account=who, joined_on="2026-03-02", pool=pool.pool)


def test_pools_of_two_assets_have_nothing_to_do_with_each_other() -> None:
    book = Family()
    stars, moons = book.pool(book.alice, book.bob), book.pool(book.alice, book.carol, asset="MOON")
    assert stars.pool != moons.pool
    book.do("leave_pool", actor=book.alice, asset="MOON")
    assert list(book.state.pools) == [stars]


def test_every_member_signs() -> None:
    """Who has not is bound to nothing; for a member in custody its custodian signs, and no stranger may."""
    book = Family()
    key = {who: book.keys[who] for who in (book.alice, book.bob, book.shop, book.carol)}
    fields = {"actor": book.alice, "asset": "STAR", "members": [book.bob, book.dora]}

    def code(*signers: str) -> Code | None:
        signed = book.build("form_pool", signers=[one for who in signers for one in key[who]], **fields)
        decision = book.decide(signed) if signed.sigs else admit(book.state, signed, book.time)
        return decision.code if isinstance(decision, Rejection) else None

    assert code(book.alice, book.bob, book.shop) is None
    for missing in ((), (book.alice,), (book.alice, book.bob), (book.bob, book.shop), (book.alice, book.shop)):
        assert code(*missing) == Code.SIGNATURE_MISSING
    assert code(book.alice, book.bob, book.shop, book.carol) == Code.SIGNATURE_UNEXPECTED


def test_member_whose_custodian_is_frozen_cannot_be_bound() -> None:
    book = Family()
    book.do("freeze", actor=book.operator, account=book.shop, reason="dispute")
    rejection = book.refused("form_pool", actor=book.alice, asset="STAR", members=[book.bob, book.dora])
    assert (rejection.code, rejection.path) == (Code.ACCOUNT_FROZEN, ("members[1]",))


def test_who_leaves_has_its_points_for_itself_again() -> None:
    """The others stay together, in their order; who left may form another pool, and be in one again."""
    book = Family()
    pool = book.pool(book.alice, book.bob, book.carol)
    for who in (book.alice, book.bob, book.carol):
        book.give(who, "STAR", 100)
    admission = book.do("leave_pool", actor=book.alice, asset="STAR")
    assert admission.parties == (book.bob, book.carol, book.shop)
    assert book.state.pools.get(pool.pool) == Pool(pool=pool.pool, asset="STAR", members=(book.bob, book.carol))
    assert book.refused("redeem", **book.redeem(1, book.alice)).code == Code.NO_POOL
    assert book.refused("redeem", **book.redeem(201, book.bob)).details["available_points"] == 200
    book.pool(book.alice, book.dora)
    assert len(book.state.pools) == 2


def test_pool_of_one_is_none() -> None:
    """Who is left is free as well, and keeps its membership."""
    book = Family()
    book.pool(book.alice, book.bob)
    book.do("leave_pool", actor=book.bob, asset="STAR")
    assert list(book.state.pools) == []
    for who in (book.alice, book.bob):
        assert book.membership(who) == Membership(asset="STAR", account=who, joined_on="2026-03-02")
        assert book.refused("leave_pool", actor=who, asset="STAR").code == Code.NO_POOL


# What each gives


@pytest.mark.parametrize(
    ("amount", "available", "given"),
    [
        (100, [300, 200, 0], [60, 40, 0]),
        (500, [300, 200, 0], [300, 200, 0]),
        (10, [10, 10, 10], [4, 3, 3]),
        (2, [10, 10, 10], [1, 1, 0]),
        (10, [5, 11, 4], [3, 5, 2]),  # 2.5, 5.5 and 2: of equal remainders the first
        (1, [0, 3, 4], [0, 0, 1]),
        (MAX_INTEGER, [MAX_INTEGER, MAX_INTEGER], [MAX_INTEGER // 2 + 1, MAX_INTEGER // 2]),
    ],
)
def test_shares_are_in_proportion_to_what_each_has(amount: int, available: Sequence[int], given: Sequence[int]) -> None:
    """Whole points first, then one more for the greatest remainders."""
    assert shares(amount, available) == given


@given(st.lists(st.integers(0, MAX_INTEGER), min_size=1, max_size=8).filter(any), st.data())
def test_shares_add_up_and_nobody_gives_more_than_it_has(available: list[int], data: st.DataObject) -> None:
    """Each is within one point of its exact part; who has more never gives less."""
    amount = data.draw(st.integers(1, sum(available)))
    both = list(zip(shares(amount, available), available, strict=True))
    assert sum(points for points, _ in both) == amount
    for points, has in both:
        assert 0 <= points <= has
        assert abs(points * sum(available) - amount * has) < sum(available)
        assert all(points >= fewer for fewer, less in both if less < has)


def test_pool_spends_the_points_of_all() -> None:
    """100 of 300 and 200 are 60 and 40, each member's earliest lot first; it is the actor's redemption."""
    book = Family()
    book.pool(book.bob, book.alice, book.carol)
    book.give(book.bob, "STAR", {SPRING: 50, SUMMER: 250})
    book.give(book.alice, "STAR", 200)
    admission = book.do("redeem", **book.redeem(100))
    assert book.flat(admission) == [
        ("bob", -50, SPRING),
        ("bob", -10, SUMMER),
        ("alice", -40),
        (SYS_SPENT, 100),
    ]
    assert admission.parties == (book.shop,)
    spending = book.spending()
    assert (spending.account, spending.amount, spending.kind) == (book.alice, 100, "redeem")
    assert spending.parts == ((SPRING, 50), (SUMMER, 10), ("9999-12-31", 40))
    assert spending.holders == (book.bob, book.bob, book.alice)


def test_without_asking_for_the_pool_only_own_points_are_spent() -> None:
    book = Family()
    book.pool(book.alice, book.bob)
    book.give(book.bob, "STAR", 100)
    assert book.refused("redeem", **book.redeem(1, from_pool=None)).code == Code.INSUFFICIENT_POINTS


def test_expired_points_and_debts_are_nobodys_share() -> None:
    """What cannot be used counts for nothing, here as for its holder alone."""
    book = Family()
    book.pool(book.alice, book.bob, book.carol)
    book.give(book.alice, "STAR", {"2026-03-01": 500, SPRING: 10})
    book.give(book.bob, "STAR", 30)
    book.give(book.carol, "STAR", {"9999-12-31": -20, SPRING: 15})
    assert book.refused("redeem", **book.redeem(41)).details == {"required_points": 41, "available_points": 40}
    book.do("redeem", **book.redeem(40))
    assert book.have() == [500, 0, -5, 0]


def test_points_on_holds_that_have_lapsed_are_shared() -> None:
    """They are their holder's again though no entry says so yet; the entry that spends them does."""
    book = Family()
    book.pool(book.alice, book.bob)
    book.give(book.bob, "STAR", 100)
    book.hold(book.bob, book.shop, "STAR", 100, days=1)
    assert book.refused("redeem", **book.redeem(1)).code == Code.INSUFFICIENT_POINTS
    admission = book.advance(days=2).do("redeem", **book.redeem(30))
    assert book.flat(admission) == [("sys_held", -100), ("bob", 100), ("bob", -30), (SYS_SPENT, 30)]


def test_frozen_member_gives_nothing() -> None:
    """Nor do its lapsed holds return; it can neither spend the others' points nor leave."""
    book = Family()
    book.pool(book.alice, book.bob, book.carol)
    for who in (book.alice, book.bob, book.carol):
        book.give(who, "STAR", 100)
    book.hold(book.bob, book.shop, "STAR", 50, days=1)
    book.do("freeze", actor=book.operator, account=book.bob, reason="stolen_points")
    book.advance(days=2)
    assert book.refused("redeem", **book.redeem(201)).code == Code.INSUFFICIENT_POINTS
    book.do("redeem", **book.redeem(150))
    assert book.have() == [25, 50, 25, 0]
    for kind, fields in (("redeem", book.redeem(1, book.bob)), ("leave_pool", {"actor": book.bob, "asset": "STAR"})):
        assert book.refused(kind, **fields).code == Code.ACCOUNT_FROZEN


def test_pool_spends_elsewhere_by_the_terms_for_its_actor() -> None:
    """At who accepts the points they are kept, lot by lot; the holder's cap counts all of it on the actor."""
    book = Family()
    terms = {"claim": claim(book.cafe), "holder_cap": {"period": "year", "points": 100}, "received": "kept"}
    book.agree(book.shop, book.cafe, acceptance("STAR", **terms))
    book.pool(book.alice, book.bob)
    book.give(book.alice, "STAR", {SPRING: 100})
    book.give(book.bob, "STAR", {SPRING: 300})
    admission = book.do("redeem", **book.redeem(80, merchant=book.cafe))
    assert book.flat(admission)[:4] == [
        ("alice", -20, SPRING),
        ("bob", -60, SPRING),
        ("cafe", 20, SPRING),
        ("cafe", 60, SPRING),
    ]
    assert book.refused("redeem", **book.redeem(21, merchant=book.cafe)).code == Code.CAP_EXCEEDED
    book.do("redeem", **book.redeem(100, book.bob, merchant=book.cafe))
    assert [(usage.account, usage.points) for usage in book.state.usages] == [(book.alice, 80), (book.bob, 100)]


# What returns


def test_refund_returns_to_whose_the_points_were() -> None:
    """The last spent first, in their own lots, in as many steps as there are; never more than was spent."""
    book = Family()
    book.pool(book.bob, book.alice)
    book.give(book.bob, "STAR", {SPRING: 50, SUMMER: 250})
    book.give(book.alice, "STAR", 200)
    book.do("redeem", **book.redeem(100))
    operation = book.op_id
    admission = book.do("refund", **book.refund(operation, 45))
    assert book.flat(admission) == [(SYS_SPENT, -45), ("alice", 40), ("bob", 5, SUMMER)]
    assert book.refused("refund", **book.refund(operation, 56)).details == {"refundable_points": 55}
    admission = book.do("refund", **book.refund(operation, 55))
    assert book.flat(admission) == [(SYS_SPENT, -55), ("bob", 5, SUMMER), ("bob", 50, SPRING)]
    assert book.have()[:2] == [200, 300]


def test_refund_reaches_who_has_left_or_is_frozen() -> None:
    """The pool may be gone: what was whose is written down, and points come to a frozen account too."""
    book = Family()
    book.pool(book.alice, book.bob)
    book.give(book.alice, "STAR", 100)
    book.give(book.bob, "STAR", 100)
    book.do("redeem", **book.redeem(100))
    operation = book.op_id
    book.do("leave_pool", actor=book.bob, asset="STAR")
    book.pool(book.bob, book.carol)
    book.do("freeze", actor=book.operator, account=book.alice, reason="dispute")
    book.do("refund", **book.refund(operation, 100))
    assert book.have() == [100, 100, 0, 0]


def test_kept_points_return_to_each_from_the_merchant() -> None:
    """In the very lots that were given, for each its own."""
    book = Family()
    book.agree(book.shop, book.cafe, acceptance("STAR", received="kept"))
    book.pool(book.alice, book.bob)
    book.give(book.alice, "STAR", {SPRING: 100})
    book.give(book.bob, "STAR", {SUMMER: 100})
    book.do("redeem", **book.redeem(100, merchant=book.cafe))
    admission = book.do("refund", **book.refund(book.op_id, 100, actor=book.cafe))
    assert sorted(book.flat(admission)) == [
        ("alice", 50, SPRING),
        ("bob", 50, SUMMER),
        ("cafe", -50, SPRING),
        ("cafe", -50, SUMMER),
    ]
    assert book.lots(book.alice, "STAR") == {SPRING: 100}


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=2, max_size=4),
    st.integers(1, 200),
    st.lists(st.integers(1, 60), max_size=6),
)
def test_any_split_of_a_refund_undoes_the_redemption(
    lots: list[tuple[int, int]], amount: int, refunds: list[int]
) -> None:
    """Whatever was spent from whichever lots, and however it is refunded: in the end all have what they had."""
    book = Family()
    members = book.members[: len(lots)]
    book.pool(*members)
    for who, (early, late) in zip(members, lots, strict=True):
        book.give(who, "STAR", {day: points for day, points in ((SPRING, early), (SUMMER, late)) if points})
    before = [book.lots(who, "STAR") for who in members]
    total = sum(early + late for early, late in lots)
    decision = book.ask("redeem", **book.redeem(amount))
    assert isinstance(decision, Admission) == (amount <= total)
    if amount > total:
        return
    book.do("redeem", **book.redeem(amount))
    operation, left = book.op_id, amount
    for part in [*refunds, amount]:
        if now := min(part, left):
            book.do("refund", **book.refund(operation, now))
            left -= now
    assert [book.lots(who, "STAR") for who in members] == before


# Inactivity


def test_spending_together_is_activity_of_all_whose_points_are_used() -> None:
    """Their points live on, before any is taken; who gives nothing stays as it was."""
    book = Family(make_program(expiry=ExpiresAfterInactivity(months=6)))
    book.pool(book.alice, book.bob, book.carol)
    book.give(book.alice, "STAR", {SPRING: 50, "2026-04-30": 50})
    book.give(book.bob, "STAR", {SPRING: 100})
    book.give(book.carol, "STAR", {SPRING: 1})
    admission = book.do("redeem", **book.redeem(40))
    new = "2026-09-02"
    assert book.flat(admission) == [
        ("alice", -50, SPRING),
        ("alice", -50, "2026-04-30"),
        ("alice", 100, new),
        ("alice", -20, new),
        ("bob", -100, SPRING),
        ("bob", 100, new),
        ("bob", -20, new),
        (SYS_SPENT, 40),
    ]
    assert book.lots(book.carol, "STAR") == {SPRING: 1}
