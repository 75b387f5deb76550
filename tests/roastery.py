"""A roastery whose program has everything a member's page shows: tiers, rewards, plans, pools, points that vest.

The world begins on a Monday, 2026-03-02. What the members have done is in :class:`Roastery`, step by step.
"""

from typing import Any

from ledger.encoding import format_time
from ledger.operations import Enroll, FormPool, Grant, RecordPurchases, Redeem, Remind, StartPlan, UseVoucher, Vest
from ledger.program_terms import (
    Band,
    Benefit,
    ExpiresAfterMonths,
    GrantRule,
    Limit,
    Multiplier,
    Plan,
    Program,
    PurchaseBonus,
    Ratio,
    Referral,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
    When,
)
from ledger.sequencer import Recorded
from ledger.terms import Cap, Purchase, PurchaseLine, PurchaseRef, VoucherRef
from ledger.wallet import Wallet
from tests.worlds import DAY_MS, World, make_program

TODAY = "2026-03-02"


def roastery_program(**changes: Any) -> Program:
    """Tiers by the amount of two months; triple points for beans; what members can have for their points."""
    given: dict[str, Any] = {
        "bands": (Band(from_amount=0, per=100, points=1), Band(from_amount=10_000, per=100, points=2)),
        "benefits": (
            Benefit(benefit="free_shipping", when=When(tiers=("gold",))),
            Benefit(benefit="free_shipping", when=When(from_amount=5_000, channels=("web",))),
            Benefit(benefit="early_access", when=When(plans=("plus",))),
        ),
        "bonuses": (PurchaseBonus(bonus="welcome", points=20, when=When(first_purchase=True)),),
        "earning_cap": Cap(period="month", points=900),
        "excluded_categories": ("tax",),
        "expiry": ExpiresAfterMonths(count=12),
        "grants": (GrantRule(activity="review", max_points=10), GrantRule(activity="visit", max_points=0)),
        "multipliers": (
            Multiplier(multiplier="beans", times=Ratio(numerator=3, denominator=1), when=When(categories=("beans",))),
            Multiplier(multiplier="gold", times=Ratio(numerator=5, denominator=4), when=When(tiers=("gold",))),
        ),
        "plans": (Plan(plan="plus", days=30, price=500),),
        "referral": Referral(points=50),
        "reminders": Reminders(new_tier=True),
        "rewards": (
            Reward(reward="mug", price=100, stock=3, worth=900),
            Reward(reward="espresso", price=20, limit=Limit(count=2, period="day"), valid_days=7),
            Reward(reward="tasting", price=10, when=When(tiers=("gold",))),
        ),
        "round_amount": "none",
        "tiers": Tiers(
            basis="amount",
            levels=(
                TierLevel(tier="silver", from_count=5_000),
                TierLevel(tier="gold", from_count=50_000, never_expires=True),
            ),
            period="month",
            window=2,
        ),
    }
    return make_program(**given | changes)


class Roastery:
    """Ann bought beans for 100.00 with 7.00 of tax, is in the plan plus, has a mug and two espressos, one of them used.

    Ben was invited by Ann, bought for 20.00, and is in a pool with her. Cat reviewed twice and visited once. Dan bought
    for 30.00 of SLOW, whose points vest in 14 days, and for 5.00 that have vested. Eve did nothing. Gus has gold, and
    was told.
    """

    def __init__(self, world: World, star: str = "STAR") -> None:
        self.world = world
        self.star = star
        self.shop = world.add_merchant("Roastery")
        self.other = world.add_merchant("Tea house")
        world.add_asset(self.shop, star, roastery_program())
        world.add_asset(self.shop, "SLOW", make_program(vesting_days=14, round_amount="none"))
        world.add_asset(self.other, "LEAF")
        self.ann, self.ben, self.cat, self.dan, self.eve, self.gus = world.add_members(6)
        self.now = format_time(world.clock.now_ms)
        self.buy(self.dan, 500, "S-1", asset="SLOW", days_ago=20)
        self.buy(self.dan, 3_000, "S-2", asset="SLOW")
        purchases = (PurchaseRef(merchant=str(self.shop.account), order="S-1"),)
        (self.vested,) = world.record(self.shop.sign(Vest, asset="SLOW", purchases=purchases))
        lines = (PurchaseLine(amount=10_000, category="beans"), PurchaseLine(amount=700, category="tax"))
        self.bought = self.buy(self.ann, 10_700, "A-1", lines=lines)
        world.record(self.ben.sign(Enroll, asset=self.star, invited_by=self.ann.account))
        self.invited = self.buy(self.ben, 2_000, "B-1")
        self._reward()
        self._grant()
        world.record(self.ann.sign(FormPool, asset=self.star, members=(self.ben.account,), co_signers=self.ben.keys))
        self.buy(self.gus, 60_000, "G-1")
        remind = self.shop.sign(Remind, about="tier", asset=self.star, members=(self.gus.account,))
        (self.reminded,) = world.record(remind)

    def _reward(self) -> None:
        world, ann = self.world, self.ann
        world.record(self.shop.sign(StartPlan, asset=self.star, member=ann.account, plan="plus", reference="P-1"))
        (self.mug,) = world.record(self.redeem(ann, 100, "mug"))
        (self.espressos,) = world.record(self.redeem(ann, 40, "espresso"))
        voucher = VoucherRef(seq=self.espressos.seq, index=1)
        (self.used,) = world.record(self.shop.sign(UseVoucher, voucher=voucher))

    def _grant(self) -> None:
        for activity, amount, reference in (("review", 10, "R-1"), ("review", 5, "R-2"), ("visit", 0, "V-1")):
            named: dict[str, Any] = {"activity": activity, "amount": amount, "reference": reference}
            self.world.record(self.shop.sign(Grant, asset=self.star, member=self.cat.account, **named))

    def buy(
        self, member: Wallet, amount: int, order: str, asset: str | None = None, days_ago: int = 0, **fields: Any
    ) -> Recorded:
        """A purchase that is recorded now."""
        at = format_time(self.world.clock.now_ms - days_ago * DAY_MS)
        purchase = Purchase(amount=amount, at=at, member=str(member.account), order=order, **fields)
        signed = self.shop.sign(RecordPurchases, asset=asset or self.star, currency="USD", purchases=(purchase,))
        (recorded,) = self.world.record(signed)
        return recorded

    def redeem(self, member: Wallet, amount: int, reward: str, **fields: Any) -> Any:
        """A signed redemption for a reward."""
        shop = self.shop.account
        return member.sign(Redeem, amount=amount, asset=self.star, merchant=shop, reward=reward, **fields)
