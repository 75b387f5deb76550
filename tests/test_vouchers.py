"""Vouchers: rewards that are had for points, by choice or by themselves, used, and given back."""

from typing import Any

import pytest

from ledger.entries import NO_LAST_DAY
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    ExpiresAfterInactivity,
    Limit,
    Plan,
    Program,
    Referral,
    Reward,
    TierLevel,
    Tiers,
    When,
)
from ledger.state import SYS_ISSUED, SYS_SPENT, Admission, Code, Membership, Spending, Usage, Voucher
from tests.breaking import Break, Case, check
from tests.rulebook import Book, acceptance, make_program

MUG = Reward(price=100, reward="mug", valid_days=14, worth=500)
TEN_OFF = Reward(automatic=True, price=100, reward="ten_off", worth=1_000)
PER_DOLLAR = (Band(from_amount=0, per=100, points=1),)
SPRING = "2026-03-31"


def with_rewards(*rewards: Reward, **changes: Any) -> Program:
    return make_program(rewards=rewards, **changes)


class Shop(Book):
    """A merchant whose program has the rewards given, a cafe, and three members with 1,000 points each or none."""

    def __init__(self, *rewards: Reward, points: int = 1_000, **changes: Any) -> None:
        super().__init__()
        self.shop, self.cafe = self.merchant("shop"), self.merchant("cafe")
        self.members = [self.member(), self.member(), self.member(self.shop)]
        self.alice, self.bob, self.carol = self.members
        self.asset(self.shop, "STAR", with_rewards(*rewards, **changes))
        self.orders = 0
        for member in self.members if points else ():
            self.give(member, "STAR", points)

    def want(self, reward: str = "mug", amount: int = 100, **fields: Any) -> dict[str, Any]:
        """The fields of a redemption for a reward."""
        wanted = {"actor": self.alice, "amount": amount, "asset": "STAR", "merchant": self.shop, "reward": reward}
        return wanted | fields

    def have(self, reward: str = "mug", amount: int = 100, **fields: Any) -> Admission:
        return self.do("redeem", **self.want(reward, amount, **fields))

    def buy(self, amount: int, *members: str) -> Admission:
        """Let members, or Alice, each buy for an amount of minor units, in one entry."""
        purchases = []
        for member in members or (self.alice,):
            self.orders += 1
            purchases.append({"amount": amount, "at": self.time, "member": member, "order": f"order-{self.orders}"})
        return self.do("record_purchases", actor=self.shop, asset="STAR", currency="USD", purchases=purchases)

    def use(self, index: int = 0, seq: int | None = None, **fields: Any) -> dict[str, Any]:
        """The fields that use a voucher of the last entry, or another."""
        return {"actor": self.shop, "voucher": {"index": index, "seq": self.seq if seq is None else seq}, **fields}

    def refund(self, operation: str, amount: int) -> dict[str, Any]:
        of = {"amount": amount, "operation": operation, "type": "redemption"}
        return {"actor": self.shop, "asset": "STAR", "of": of, "reference": f"refund-{self.seq}"}

    def vouchers(self, who: str | None = None) -> list[Voucher]:
        return [voucher for voucher in self.state.vouchers if voucher.account == (who or self.alice)]

    def used(self, reward: str = "mug") -> dict[tuple[str, str], int]:
        """How many of a reward were counted, by account (or ``*``) and period."""
        usages = [usage for usage in self.state.usages if usage.scope == f"reward:STAR:{reward}"]
        return {(usage.account, usage.period): usage.points for usage in usages}

    def spending(self) -> Spending:
        spending = self.state.spendings.get(self.op_id)
        assert spending is not None
        return spending

    def flat(self, admission: Admission) -> list[tuple[Any, ...]]:
        """Postings as (name, amount[, lot])."""
        names = dict(zip(self.members, ["alice", "bob", "carol"], strict=True))
        legs = admission.postings
        return [(names.get(leg.account, leg.account), leg.amount, *((leg.lot,) if leg.lot else ())) for leg in legs]


# The order of refusals


def test_refusals_of_rewards_come_in_one_order() -> None:
    """After what any redemption is refused for, and before the points are counted."""
    rewards = [
        Reward(price=100, reward="mug", limit=Limit(count=5, period="month"), stock=7),
        Reward(price=100, reward="cup", when=When(weekdays=("sun",)), stock=0),
    ]
    book = Shop(*rewards, points=500)
    book.agree(book.shop, book.cafe, acceptance("STAR", step=2))
    book.have(amount=300, actor=book.bob)
    check(
        book,
        Case(
            "redeem",
            book.want(),
            [
                Break(Code.NOT_PERMITTED, ("actor",), {"actor": book.operator}),
                Break(Code.UNKNOWN_ASSET, ("asset",), {"asset": "NONE"}),
                Break(Code.UNKNOWN_ACCOUNT, ("merchant",), {"merchant": book.alice}),
                Break(Code.OFF_STEP, ("amount",), {"merchant": book.cafe, "amount": 33}),
                Break(Code.UNKNOWN_REWARD, ("reward",), {"merchant": book.cafe}),
                Break(Code.UNKNOWN_REWARD, ("reward",), {"reward": "plate"}),
                Break(Code.REWARD_UNAVAILABLE, ("reward",), {"reward": "cup"}),
                Break(Code.PRICE_MISMATCH, ("amount",), {"amount": 150}),
                Break(Code.PRICE_MISMATCH, ("amount",), {"amount": 98}),
                Break(Code.PRICE_MISMATCH, ("amount",), {"amount": 10_100}),
                Break(Code.LIMIT_REACHED, ("reward",), {"amount": 600}),
                Break(Code.OUT_OF_STOCK, ("reward",), {"amount": 500}),
                Break(Code.NO_POOL, ("from_pool",), {"from_pool": True}),
            ],
        ),
    )
    assert book.refused("redeem", **book.want(amount=150)).details == {"price": 100}
    assert book.refused("redeem", **book.want(amount=600)).details == {"count": 5, "period": "month"}
    assert book.refused("redeem", **book.want(amount=500)).details == {"left": 4}
    book.have(amount=300)
    rejection = book.at("2026-04-01T00:00:00.000Z").refused("redeem", **book.want(actor=book.carol, amount=200))
    assert rejection.code == Code.OUT_OF_STOCK
    book.do("correct", actor=book.shop, asset="STAR", member=book.carol, amount=-450, reason="error", reference="one")
    assert book.refused("redeem", **book.want(actor=book.carol)).code == Code.INSUFFICIENT_POINTS


def test_refusals_of_vouchers_come_in_one_order() -> None:
    """Whose it is not learns nothing of a voucher; used comes before expired, and both before its holder's state."""
    book = Shop(MUG)
    book.have(amount=200)
    first = book.seq
    book.do("use_voucher", **book.use(1))
    book.have(actor=book.bob)
    late = book.seq
    book.advance(days=10)
    book.have(actor=book.carol)
    good = book.seq
    book.have(actor=book.bob)
    cold = book.seq
    book.do("freeze", actor=book.operator, account=book.bob, reason="fraud")
    book.advance(days=5)
    check(
        book,
        Case(
            "use_voucher",
            book.use(seq=good, reference="bill-1"),
            [
                Break(Code.UNKNOWN_VOUCHER, ("voucher",), {"voucher": {"index": 1, "seq": good}}),
                Break(Code.UNKNOWN_VOUCHER, ("voucher",), {"actor": book.cafe}),
                Break(Code.VOUCHER_CLOSED, ("voucher",), {"voucher": {"index": 1, "seq": first}}),
                Break(Code.VOUCHER_EXPIRED, ("voucher",), {"voucher": {"index": 0, "seq": late}}),
                Break(Code.ACCOUNT_FROZEN, ("voucher",), {"voucher": {"index": 0, "seq": cold}}),
            ],
        ),
    )


# Having a reward


def test_reward_is_a_redemption_that_leaves_a_voucher() -> None:
    """Two for 200 points of the earliest lots; each says what it is for, and how long it is good."""
    book = Shop(MUG, points=0)
    book.give(book.alice, "STAR", {SPRING: 150, NO_LAST_DAY: 350})
    admission = book.have(amount=200, reference="web-1")
    assert book.flat(admission) == [("alice", -150, SPRING), ("alice", -50), (SYS_SPENT, 200)]
    common: dict[str, Any] = {"account": book.alice, "asset": "STAR", "merchant": book.shop, "reward": "mug"}
    common |= {"last_day": "2026-03-16", "price": 100, "seq": book.seq, "worth": 500}
    assert book.vouchers() == [Voucher(index=0, **common), Voucher(index=1, **common)]
    spending = book.spending()
    assert (spending.reward, spending.vouchers, spending.amount) == ("mug", 2, 200)


def test_voucher_without_days_is_good_for_ever() -> None:
    book = Shop(Reward(price=10, reward="pin"))
    book.have("pin", 10)
    (voucher,) = book.vouchers()
    assert (voucher.last_day, voucher.worth) == (NO_LAST_DAY, None)


def test_hundred_are_had_at_a_time() -> None:
    """And each has a number of its own."""
    book = Shop(Reward(price=10, reward="pin"))
    book.have("pin", 1_000)
    assert sorted(voucher.index for voucher in book.vouchers()) == list(range(100))


def test_limit_is_of_a_member_in_a_period() -> None:
    """Three a month by the program's local dates: the fourth is refused until the next month, for nobody else."""
    book = Shop(Reward(price=10, reward="mug", limit=Limit(count=3, period="month")), time_zone="Asia/Tokyo")
    book.at("2026-03-31T14:59:59.999Z")
    book.have(amount=20)
    book.have(amount=10)
    assert book.refused("redeem", **book.want(amount=10)).code == Code.LIMIT_REACHED
    book.have(amount=30, actor=book.bob)
    book.advance(ms=1)
    book.have(amount=30)
    assert book.used()[book.alice, "2026-04"] == 3


def test_stock_is_of_all_versions_and_members() -> None:
    """What was had while it was unbounded counts once it is bounded; the last goes to who asks first."""
    book = Shop(Reward(price=10, reward="mug"))
    book.have(amount=30)
    book.publish("STAR", with_rewards(Reward(price=20, reward="mug", stock=5)))
    book.have(amount=20, actor=book.bob)
    assert book.refused("redeem", **book.want(amount=40, actor=book.carol)).details == {"left": 1}
    book.have(amount=20, actor=book.carol)
    assert book.refused("redeem", **book.want(amount=20)).details == {"left": 0}
    book.publish("STAR", with_rewards(Reward(price=20, reward="mug", stock=4)))
    assert book.refused("redeem", **book.want(amount=20)).details == {"left": 0}


def test_reward_is_of_the_program_in_force_now() -> None:
    """One that the version now has not is unknown, and so are all when the program has ended."""
    book = Shop(MUG)
    book.publish("STAR", make_program(), starts=book.later(days=1))
    book.have()
    book.advance(days=1)
    assert book.refused("redeem", **book.want()).code == Code.UNKNOWN_REWARD
    book.publish("STAR", with_rewards(MUG), ends=book.later(days=1))
    book.have()
    book.advance(days=1)
    assert book.refused("redeem", **book.want()).code == Code.UNKNOWN_REWARD


def test_reward_is_for_those_it_is_meant_for() -> None:
    """By tier and plan of today; a member that never took part is in no plan, and in the tier that asks nothing."""
    levels = (TierLevel(from_count=0, tier="basic"), TierLevel(from_count=100, tier="top"))
    book = Shop(
        Reward(price=10, reward="basics", when=When(tiers=("basic",))),
        Reward(price=10, reward="tops", when=When(tiers=("top",))),
        Reward(price=10, reward="paid", when=When(plans=("gold",))),
        Reward(price=10, reward="march", when=When(through_day=SPRING)),
        plans=(Plan(days=2, plan="gold", price=1),),
        tiers=Tiers(basis="points", levels=levels, period="calendar_year"),
    )

    def can_have() -> set[str]:
        names = ("basics", "tops", "paid", "march")
        return {name for name in names if isinstance(book.ask("redeem", **book.want(name, 10)), Admission)}

    assert can_have() == {"basics", "march"}
    book.buy(10_000)
    assert can_have() == {"tops", "march"}
    book.do("start_plan", actor=book.shop, asset="STAR", member=book.alice, plan="gold", reference="bill-1")
    assert can_have() == {"tops", "march", "paid"}
    assert book.refused("redeem", **book.want("basics", 10)).code == Code.REWARD_UNAVAILABLE
    book.advance(days=2)
    assert can_have() == {"tops", "march"}
    book.advance(days=365)
    assert can_have() == {"basics"}


def test_pool_buys_a_reward_for_its_actor() -> None:
    """The points of all, a voucher of the one who asked, and its limit alone is used."""
    book = Shop(Reward(price=300, reward="mug", limit=Limit(count=1, period="year")), points=200)
    book.do("form_pool", actor=book.alice, asset="STAR", members=[book.bob])
    book.have(amount=300, from_pool=True)
    operation = book.op_id
    assert (book.balance(book.alice, "STAR"), book.balance(book.bob, "STAR")) == (50, 50)
    assert (len(book.vouchers()), len(book.vouchers(book.bob))) == (1, 0)
    assert set(book.used()) == {("*", "ever"), (book.alice, "2026")}
    assert book.refused("redeem", **book.want(amount=300, from_pool=True)).code == Code.LIMIT_REACHED
    book.do("refund", **book.refund(operation, 300))
    assert (book.balance(book.alice, "STAR"), book.balance(book.bob, "STAR")) == (200, 200)
    assert book.used() == {}


def test_reward_keeps_points_alive_where_they_end_by_inactivity() -> None:
    book = Shop(MUG, points=0, expiry=ExpiresAfterInactivity(months=1))
    book.give(book.alice, "STAR", {"2026-03-05": 150})
    book.have()
    assert book.lots(book.alice, "STAR") == {"2026-04-02": 50}


# Using it


def test_voucher_is_used_once_through_its_last_day() -> None:
    """At the merchant whose reward it is; the entry tells its holder."""
    book = Shop(MUG)
    book.have()
    (voucher,), use = book.vouchers(), book.use()
    book.at("2026-03-16T23:59:59.999Z")
    admission = book.do("use_voucher", **use, reference="bill-7")
    assert admission.postings == ()
    assert admission.parties == (book.alice,)
    (used,) = book.vouchers()
    assert (used.status, used.used_seq) == ("used", book.seq)
    assert (used.seq, used.index) == (voucher.seq, voucher.index)
    assert book.refused("use_voucher", **use).code == Code.VOUCHER_CLOSED


def test_voucher_is_good_by_the_program_s_local_dates() -> None:
    book = Shop(Reward(price=10, reward="pin", valid_days=0), time_zone="America/New_York")
    book.at("2026-07-01T03:00:00.000Z").have("pin", 10)
    use = book.use()
    assert isinstance(book.at("2026-07-01T03:59:59.999Z").ask("use_voucher", **use), Admission)
    rejection = book.at("2026-07-01T04:00:00.000Z").refused("use_voucher", **use)
    assert (rejection.code, rejection.details) == (Code.VOUCHER_EXPIRED, {"last_day": "2026-06-30"})


def test_voucher_outlives_its_reward_and_program() -> None:
    """What was had is had, whatever is published later."""
    book = Shop(MUG)
    book.have()
    use = book.use()
    book.publish("STAR", make_program(), ends=book.later(days=1))
    book.advance(days=2).do("use_voucher", **use)


# Giving it back


def test_refunded_reward_is_as_if_it_had_not_been_had() -> None:
    """Points return to their lots, vouchers are cancelled, and what was counted is not any more."""
    book = Shop(Reward(price=100, reward="mug", limit=Limit(count=2, period="month"), stock=2), points=0)
    book.give(book.alice, "STAR", {SPRING: 150, NO_LAST_DAY: 350})
    book.have(amount=200)
    operation, use = book.op_id, book.use()
    assert book.refused("redeem", **book.want()).code == Code.LIMIT_REACHED
    for amount in (1, 100, 199):
        rejection = book.refused("refund", **book.refund(operation, amount))
        assert (rejection.code, rejection.path) == (Code.PRICE_MISMATCH, ("of", "amount"))
        assert rejection.details == {"price": 200}
    assert book.refused("refund", **book.refund(operation, 201)).code == Code.REFUND_TOO_LARGE
    book.do("refund", **book.refund(operation, 200))
    assert book.lots(book.alice, "STAR") == {SPRING: 150, NO_LAST_DAY: 350}
    assert [voucher.status for voucher in book.vouchers()] == ["cancelled", "cancelled"]
    assert book.used() == {}
    assert book.refused("use_voucher", **use).code == Code.VOUCHER_CLOSED
    assert book.refused("refund", **book.refund(operation, 200)).code == Code.REFUND_TOO_LARGE
    book.have(amount=200)


def test_reward_that_was_used_is_not_refunded() -> None:
    """Neither in part nor whole: not even the one of two that was not used."""
    book = Shop(MUG)
    book.have(amount=200)
    operation = book.op_id
    book.do("use_voucher", **book.use(1))
    rejection = book.refused("refund", **book.refund(operation, 200))
    assert (rejection.code, rejection.path, rejection.details) == (
        Code.VOUCHER_CLOSED,
        ("of", "operation"),
        {"index": 1},
    )
    assert book.refused("refund", **book.refund(operation, 100)).code == Code.PRICE_MISMATCH


def test_reward_whose_time_is_over_can_be_refunded() -> None:
    """Out of kindness; it makes room in the period it was had in, and not in this one."""
    book = Shop(Reward(price=100, reward="mug", limit=Limit(count=2, period="month"), valid_days=3))
    book.have(amount=200)
    operation = book.op_id
    book.at("2026-04-02T00:00:00.000Z").have(amount=100)
    book.do("refund", **book.refund(operation, 200))
    assert book.used() == {("*", "ever"): 1, (book.alice, "2026-04"): 1}


def test_refund_counts_off_what_its_own_version_counted() -> None:
    """A limit that came later did not count it, one of another period counted it there."""
    book = Shop(MUG)
    book.have()
    before = book.op_id
    book.publish("STAR", with_rewards(Reward(price=100, reward="mug", limit=Limit(count=9, period="year"))))
    book.have()
    yearly = book.op_id
    book.advance(days=1)
    book.publish("STAR", with_rewards(Reward(price=100, reward="mug", limit=Limit(count=9, period="day"))))
    book.have()
    book.do("refund", **book.refund(before, 100))
    assert book.used() == {("*", "ever"): 2, (book.alice, "2026"): 1, (book.alice, "2026-03-03"): 1}
    book.do("refund", **book.refund(yearly, 100))
    assert book.used() == {("*", "ever"): 1, (book.alice, "2026-03-03"): 1}


# By themselves


def test_automatic_reward_is_had_as_soon_as_points_suffice() -> None:
    """250 points by one purchase are two vouchers and 50 points; there is no redemption, so nothing to refund."""
    book = Shop(TEN_OFF, points=0)
    assert book.flat(book.buy(9_900)) == [(SYS_ISSUED, -99), ("alice", 99)]
    admission = book.buy(15_100)
    assert book.flat(admission) == [(SYS_ISSUED, -151), ("alice", 151), ("alice", -200), (SYS_SPENT, 200)]
    assert [(voucher.seq, voucher.index, voucher.worth) for voucher in book.vouchers()] == [
        (book.seq, 0, 1_000),
        (book.seq, 1, 1_000),
    ]
    assert len(book.state.spendings) == 0
    book.do("use_voucher", **book.use(1))


def test_automatic_rewards_take_the_earliest_lots() -> None:
    """Of what the member has, not only of what it was just given; a debt is repaid first."""
    book = Shop(TEN_OFF, points=0, expiry=ExpiresAfterDays(count=90))
    book.give(book.alice, "STAR", {"2026-03-01": 70, SPRING: 60})
    book.give(book.bob, "STAR", -30)
    assert book.flat(book.buy(6_000))[1:] == [
        ("alice", 60, "2026-05-31"),
        ("alice", -60, SPRING),
        ("alice", -40, "2026-05-31"),
        (SYS_SPENT, 100),
    ]
    assert book.flat(book.buy(12_900, book.bob))[1:] == [("bob", 30), ("bob", 99, "2026-05-31")]


def test_members_of_an_entry_have_their_rewards_in_the_order_they_appear() -> None:
    """Numbered through the entry; of a small stock the first have it, and the others keep their points."""
    book = Shop(Reward(automatic=True, price=100, reward="ten_off", stock=3), points=0)
    admission = book.buy(20_000, book.bob, book.alice, book.bob, book.carol)
    assert book.flat(admission)[5:] == [("bob", -300), (SYS_SPENT, 300)]
    assert [voucher.index for voucher in book.vouchers(book.bob)] == [0, 1, 2]
    assert (book.balance(book.bob, "STAR"), book.balance(book.alice, "STAR")) == (100, 200)
    book = Shop(TEN_OFF, points=0)
    book.buy(20_000, book.bob, book.alice, book.bob)
    assert {voucher.index: voucher.account for voucher in book.state.vouchers} == {
        **dict.fromkeys(range(4), book.bob),
        **dict.fromkeys((4, 5), book.alice),
    }


def test_limit_bounds_what_is_had_by_itself() -> None:
    """Of the month it is had in; the points stay, and do for more in the next month, once more are earned."""
    book = Shop(Reward(automatic=True, price=100, reward="ten_off", limit=Limit(count=1, period="month")), points=0)
    book.buy(30_000)
    book.buy(100)
    assert (book.balance(book.alice, "STAR"), len(book.vouchers())) == (201, 1)
    book.at("2026-04-01T00:00:00.000Z").buy(100)
    assert (book.balance(book.alice, "STAR"), len(book.vouchers())) == (102, 2)


def test_at_most_a_hundred_are_had_by_an_entry() -> None:
    """So that no entry makes records without end; the next gain makes a hundred more."""
    book = Shop(Reward(automatic=True, price=1, reward="ten_off"), points=0)
    book.buy(25_000)
    assert (len(book.vouchers()), book.balance(book.alice, "STAR")) == (100, 150)
    book.buy(100)
    assert (len(book.vouchers()), book.balance(book.alice, "STAR")) == (200, 51)


def test_at_most_a_thousand_are_had_by_all_accounts_of_an_entry() -> None:
    """What a writer has to store for a batch of purchases is bounded; who comes last has its own with the next gain."""
    book = Shop(Reward(automatic=True, price=1, reward="ten_off", valid_days=3), points=0)
    members = [book.member() for _ in range(11)]
    for member in members:
        book.give(member, "STAR", 94)
    entry = book.buy(100, *members)
    assert [len(book.vouchers(member)) for member in members] == [95] * 10 + [50]
    assert entry.postings[-1].amount == 50
    book.buy(100, members[-1])
    assert (len(book.vouchers(members[-1])), book.balance(members[-1], "STAR")) == (96, 0)


def test_points_in_very_many_lots_keep_nobody_from_earning() -> None:
    """An entry is bounded: only the earliest hundred lots are taken from by themselves; by choice all of them are."""
    book = Shop(Reward(automatic=True, price=150, reward="ten_off"), points=0)
    days = [f"2027-{month:02}-{day:02}" for month in range(1, 8) for day in range(1, 29)]
    book.give(book.alice, "STAR", dict.fromkeys(days, 1))
    book.buy(100)
    assert len(book.vouchers()) == 0
    book.have("ten_off", 150)
    book.give(book.bob, "STAR", dict.fromkeys(days, 2))
    assert len(book.buy(100, book.bob).postings) == 2 + 75 + 1
    assert len(book.vouchers(book.bob)) == 1


def test_nothing_is_had_by_itself_of_other_points() -> None:
    """Received, corrected or refunded points wait for the next gain."""
    book = Shop(TEN_OFF)
    book.do("transfer", actor=book.alice, asset="STAR", recipients=[{"amount": 500, "to": book.bob}])
    fields = {"actor": book.shop, "asset": "STAR", "member": book.bob, "reason": "goodwill", "reference": "one"}
    book.do("correct", amount=500, **fields)
    assert len(book.state.vouchers) == 0
    book.buy(0, book.bob)
    assert len(book.state.vouchers) == 0
    book.buy(100, book.bob)
    assert len(book.vouchers(book.bob)) == 20


def test_frozen_member_keeps_its_points() -> None:
    """Whatever it is frozen for, nothing turns its points into something else; later gains catch up."""
    book = Shop(TEN_OFF, points=0)
    book.do("freeze", actor=book.operator, account=book.alice, reason="stolen_points")
    book.buy(25_000)
    assert (book.balance(book.alice, "STAR"), len(book.vouchers())) == (250, 0)
    book.do("unfreeze", actor=book.operator, account=book.alice, reason="resolved")
    book.buy(100)
    assert (book.balance(book.alice, "STAR"), len(book.vouchers())) == (51, 2)


def test_inviter_and_grants_and_vesting_have_it_too() -> None:
    """Whoever gains: by an invitation, an activity, or when promised points become its own."""
    book = Shop(TEN_OFF, points=0, referral=Referral(points=100), vesting_days=5)
    book.do("enroll", actor=book.alice, asset="STAR", invited_by=book.bob)
    book.buy(10_000)
    assert len(book.state.vouchers) == 0
    book.advance(days=5)
    refs = [{"merchant": book.shop, "order": "order-1"}]
    admission = book.do("vest", actor=book.operator, asset="STAR", purchases=refs)
    assert book.flat(admission) == [
        (SYS_ISSUED, -200),
        ("alice", 100),
        ("bob", 100),
        ("alice", -100),
        (SYS_SPENT, 100),
        ("bob", -100),
        (SYS_SPENT, 100),
    ]
    fields = {"activity": "goodwill", "actor": book.shop, "amount": 100, "asset": "STAR", "reference": "gift-1"}
    book.do("grant", member=book.carol, **fields)
    assert [len(book.vouchers(who)) for who in book.members] == [1, 1, 1]


def test_automatic_reward_asks_who_the_member_is_by_now() -> None:
    """The purchase that makes it top tier is enough for the reward of that tier."""
    levels = (TierLevel(from_count=100, tier="top"),)
    reward = Reward(
        automatic=True, price=10, reward="treat", when=When(tiers=("top",)), limit=Limit(count=1, period="day")
    )
    tiers = Tiers(basis="points", levels=levels, period="calendar_year")
    book = Shop(reward, points=0, tiers=tiers)
    book.buy(9_900)
    assert len(book.vouchers()) == 0
    book.buy(100)
    assert len(book.vouchers()) == 1


def test_refunded_purchase_leaves_the_vouchers_it_led_to() -> None:
    """What was had by itself stays; the points that are gone are taken as the program says of any that were spent."""
    book = Shop(TEN_OFF, points=0, refunds="negative")
    book.buy(10_000)
    of = {"amount": 10_000, "order": "order-1", "type": "purchase"}
    book.do("refund", actor=book.shop, asset="STAR", of=of, reference="back-1")
    assert (book.balance(book.alice, "STAR"), len(book.vouchers())) == (-100, 1)
    book.do("use_voucher", **book.use(seq=book.vouchers()[0].seq))


@pytest.mark.parametrize("count", [1_000])
def test_many_members_of_an_entry_have_their_rewards(count: int) -> None:
    """Each of a thousand, whom one entry gives what suffices."""
    book = Shop(TEN_OFF, points=0)
    members = [book.member() for _ in range(count)]
    book.buy(10_000, *members)
    assert {voucher.index: voucher.account for voucher in book.state.vouchers} == dict(enumerate(members))
    assert book.used("ten_off") == {("*", "ever"): count}
    assert list(book.state.usages) == [Usage(scope="reward:STAR:ten_off", account="*", period="ever", points=count)]
    assert isinstance(book.state.memberships.get("STAR", members[0]), Membership)
