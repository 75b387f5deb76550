"""Simulation of a draft: beside a ledger in which the draft was really in force, and on a small example by hand."""

import io
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
import sqlalchemy as sa

from api import cli
from api import program_simulation as api_simulation
from api.simulation_report import bar
from ledger import queries
from ledger.encoding import format_time
from ledger.operations import Enroll, Grant, PublishProgram, RecordPurchases, Refund, StartPlan
from ledger.program_simulation import Given, Simulation, SimulationError, TooLongError, Wanted, simulate
from ledger.program_terms import (
    Band,
    ExpiresAfterDays,
    Formula,
    Limit,
    Multiplier,
    Plan,
    Program,
    PurchaseBonus,
    Ratio,
    Referral,
    TierLevel,
    Tiers,
    When,
)
from ledger.tables import EARNING, PURCHASE_REFUND
from ledger.terms import Cap, Purchase, PurchaseLine, Quantity, RefundedLine, RefundedPurchase, Value
from ledger.wallet import Wallet
from tests.service import running
from tests.worlds import DAY_MS, World, make_program

EVERYONE = 100
BASES = ("amount", "points", "status", "visits")
PERIODS = ("month", "calendar_year", "membership_year")


def times(numerator: int, denominator: int = 1) -> Ratio:
    return Ratio(numerator=numerator, denominator=denominator)


def any_program(rng: random.Random, basis: str) -> Program:
    """A program of some of the parts that points depend on; every one has the formula and the plan members choose."""

    def some(**part: Any) -> dict[str, Any]:
        return part if rng.random() < 0.6 else {}

    count = {"amount": 20_000, "points": 150, "status": 120, "visits": 3}
    levels = tuple(TierLevel(tier=f"level{i}", from_count=count[basis] * i) for i in range(rng.randint(0, 1), 3))
    tiers = Tiers(
        basis=basis,  # type: ignore[arg-type]
        drop=rng.choice(("one_level", "to_earned")),
        grace_days=rng.choice((0, 10)),
        kept=rng.randint(0, 1),
        levels=levels,
        period=rng.choice(PERIODS),  # type: ignore[arg-type]
        window=rng.randint(1, 2),
    )
    parts: dict[str, Any] = {
        "tiers": tiers,
        **some(earning_cap=Cap(period=rng.choice(("day", "month", "year")), points=rng.randint(30, 400))),
        **some(excluded_categories=("tax",)),
        "referral": Referral(points=25, limit=rng.choice((None, Limit(count=1, period="year")))),
        **some(vesting_days=14),
        **some(bonuses=(PurchaseBonus(bonus="welcome", points=9, when=When(first_purchase=True)),)),
    }
    multipliers = [
        Multiplier(multiplier="beans", times=times(3), when=When(categories=("beans",))),
        Multiplier(multiplier="plus", times=times(3, 2), when=When(plans=("plus",))),
        Multiplier(multiplier="new", times=times(2), when=When(within_days=20)),
        Multiplier(multiplier="invited", times=times(5, 4), when=When(invited=True)),
        Multiplier(multiplier="app", times=times(7, 4), when=When(channels=("app",), tenders=("card",))),
    ]
    chosen = [each for each in multipliers if rng.random() < 0.5]
    in_top = Multiplier(multiplier="top", times=times(5, 3), when=When(tiers=(levels[-1].tier,)))
    parts |= {"multipliers": (*chosen, in_top), "stacking": rng.choice(("best", "product", "sum"))}
    cups = Formula(formula="cups", quantity="cup", bands=(Band(from_amount=0, per=1, points=rng.randint(5, 30)),))
    return make_program(
        bands=(
            Band(from_amount=0, per=rng.choice((70, 100, 130)), points=1),
            Band(from_amount=9_000, per=50, points=1),
        ),
        formulas=(cups,),
        plans=(Plan(plan="plus", days=20, price=500),),
        round_amount=rng.choice(("none", "whole_units")),
        round_points=rng.choice(("down", "half_up", "up")),
        expiry=ExpiresAfterDays(count=400),
        **parts,
    )


class Twins:
    """STAR and MOON of one merchant, earned by the same events, each under one program from the beginning."""

    def __init__(self, world: World, star: Program, moon: Program) -> None:
        self.world = world
        self.shop, self.members = world.add_merchant(), world.add_members(5)
        self.programs = {"STAR": star, "MOON": moon}
        for code, program in self.programs.items():
            world.add_asset(self.shop, code, program, value=Value(amount=1, currency="USD", points=3))
        self.bought: dict[str, Purchase] = {}
        self.left: dict[str, list[int]] = {}

    def do(self, operation: type[Any], wallet: Wallet | None = None, **fields: Any) -> None:
        """Record the same for either asset; references are told apart by what is in front of them."""
        for code in self.programs:
            given: dict[str, Any] = {
                name: f"{code}-{each}" if name == "reference" else each for name, each in fields.items()
            }
            if "purchases" in fields:
                given["purchases"] = tuple(named(each, code) for each in fields["purchases"])
            if "of" in fields:
                of = fields["of"]
                given["of"] = RefundedPurchase(amount=of.amount, lines=of.lines, order=f"{code}-{of.order}")
            self.world.record((wallet or self.shop).sign(operation, asset=code, **given))

    def live(self, rng: random.Random, steps: int) -> None:
        """Let the members do something every few days."""
        for member in self.members[1:]:
            self._choose(member, None, self.members[0])
        for step in range(steps):
            self.world.clock.advance(days=rng.randint(0, 12))
            kind = rng.choices(("buy", "refund", "grant", "plan", "enroll"), (8, 4, 3, 1, 1))[0]
            getattr(self, f"_{kind}")(rng, step)

    def _buy(self, rng: random.Random, step: int) -> None:
        purchases = [self._purchase(rng, f"{rng.randrange(100)}-{step}-{i}") for i in range(rng.randint(1, 5))]
        self.do(RecordPurchases, currency="USD", purchases=tuple(purchases))
        for purchase in purchases:
            self.bought[purchase.order] = purchase
            self.left[purchase.order] = [line.amount for line in purchase.lines] or [purchase.amount]

    def _purchase(self, rng: random.Random, order: str) -> Purchase:
        amounts = [rng.randint(0, 12_000) for _ in range(rng.choice((0, 0, 1, 3)))]
        lines = tuple(PurchaseLine(amount=each, category=rng.choice(("beans", "tax", None))) for each in amounts)
        return Purchase(
            amount=sum(amounts) if amounts else rng.randint(0, 15_000),
            at=format_time(self.world.clock.now_ms - rng.choice((0, 0, 0, 5, 40)) * DAY_MS),
            channel=rng.choice((None, "app")),
            lines=lines,
            member=str(rng.choice(self.members).account),
            order=order,
            quantities=rng.choice(((), (Quantity(name="cup", quantity=rng.randint(1, 4)),))),
            tender=rng.choice((None, "card")),
        )

    def _refund(self, rng: random.Random, step: int) -> None:
        orders = [order for order, left in self.left.items() if sum(left)]
        if not orders:
            return
        order = rng.choice(orders)
        left, purchase = self.left[order], self.bought[order]
        lines: tuple[RefundedLine, ...] = ()
        if purchase.lines and rng.random() < 0.5:
            line = rng.choice([i for i, each in enumerate(left) if each])
            amount = rng.choice((left[line], rng.randint(1, left[line])))
            lines = (RefundedLine(amount=amount, line=line),)
            left[line] -= amount
        else:
            amount = rest = rng.choice((sum(left), rng.randint(1, sum(left))))
            for i in reversed(range(len(left))):
                part = min(left[i], rest)
                left[i] -= part
                rest -= part
        self.do(Refund, of=RefundedPurchase(amount=amount, lines=lines, order=order), reference=f"refund-{step}")

    def _grant(self, rng: random.Random, step: int) -> None:
        member = rng.choice(self.members).account
        self.do(Grant, activity="goodwill", amount=rng.randint(0, 60), member=member, reference=f"grant-{step}")

    def _plan(self, rng: random.Random, step: int) -> None:
        self.do(StartPlan, member=rng.choice(self.members).account, plan="plus", reference=f"plan-{step}")

    def _enroll(self, rng: random.Random, step: int) -> None:
        self._choose(rng.choice(self.members), rng.choice(("cups", None)))

    def _choose(self, member: Wallet, formula: str | None, inviter: Wallet | None = None) -> None:
        """Choose how to earn; whoever has bought nothing yet may say who invited it. It may be refused."""
        for code in self.programs:
            invited_by = None if inviter is None else inviter.account
            self.world.submit(member.sign(Enroll, asset=code, formula=formula, invited_by=invited_by))

    # What is on record

    def simulate(self, code: str, draft: str, **changes: Any) -> Simulation:
        store = self.world.store
        with store.read() as connection:
            asset = queries.asset(store, connection, code)
            assert asset is not None
            given = {"asset": asset, "draft": self.programs[draft], "members": EVERYONE, "scale": 2, **changes}
            return simulate(store, connection, Wanted(now=format_time(self.world.clock.now_ms), **given))

    def recorded(self, code: str) -> tuple[Given, Counter[str]]:
        """What an asset gave, and to whom, by its own tables."""
        with self.world.store.read() as connection:
            number = self.world.store.ledger_id
            mine = EARNING.c.ledger_id == number, EARNING.c.asset == code
            rows = connection.execute(sa.select(EARNING).where(*mine)).all()
            undone = connection.execute(sa.select(PURCHASE_REFUND).where(PURCHASE_REFUND.c.ledger_id == number))
            refunds = {row.reference: row for row in undone if row.reference.startswith(code)}
        found, whose = Given(), Counter[str]()
        amounts = {row.reference: row.amount for row in rows if row.scope == "order"}
        for row in rows:
            refund = refunds.get(row.reference)
            if row.scope == "order":
                back = refund.points if refund else 0
                found.add(row.points, 0, back)
            elif row.scope == "invitation":
                back = row.points if refund and refund.amount == amounts[row.reference] else 0
                found.add(0, row.points, back)
            else:
                continue
            whose[row.account] += row.points - back
        return found, whose


def named(purchase: Purchase, code: str) -> Purchase:
    fields = {name: getattr(purchase, name) for name in purchase.__struct_fields__}
    return Purchase(**fields | {"order": f"{code}-{purchase.order}"})


def by_member(found: Simulation, side: str) -> dict[str, int]:
    """Points of every member whose points differ between the programs."""
    changes = (*found.losing.most, *found.gaining.most)
    return {change.account: getattr(change, side) for change in changes}


@pytest.mark.parametrize("seed", range(6))
def test_simulation_gives_what_the_ledger_gave_where_that_program_was_in_force(tmp_path: Path, seed: int) -> None:
    """Of two assets earned by the same events each one's program, run over the other, gives what its own ledger has."""
    rng = random.Random(seed)
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        twins = Twins(world, any_program(rng, BASES[seed % 4]), any_program(rng, BASES[seed // 2 % 4]))
        twins.live(rng, 20)
        for code, draft in (("STAR", "MOON"), ("MOON", "STAR"), ("STAR", "STAR")):
            found = twins.simulate(code, draft)
            here, whose_here = twins.recorded(code)
            there, whose_there = twins.recorded(draft)
            assert found.sums.recorded == here
            assert found.sums.now == here, f"seed {seed}"
            assert found.sums.draft == there, f"seed {seed}"
            differing = {account for account in whose_here | whose_there if whose_here[account] != whose_there[account]}
            assert by_member(found, "now") == {account: whose_here[account] for account in differing}
            assert by_member(found, "draft") == {account: whose_there[account] for account in differing}
            assert found.losing.members + found.gaining.members + found.unchanged == found.members
            sides = found.gaining.points - found.losing.points
            assert sides == there.net - here.net
            for part in ("recorded", "now", "draft"):
                whole = getattr(found.sums, part).net
                assert sum(getattr(month.sums, part).net for month in found.months) == whole


VIP = Multiplier(multiplier="vip", times=times(2), when=When(tiers=("vip",)))


def vip(basis: str, count: int, **fields: Any) -> dict[str, Any]:
    """A tier in which points are doubled."""
    levels = (TierLevel(tier="vip", from_count=count),)
    tiers = Tiers(basis=basis, levels=levels, period="calendar_year", **fields)  # type: ignore[arg-type]
    return {"tiers": tiers, "multipliers": (VIP,)}


class Shop:
    """A shop with STAR, 1 point for each dollar, worth a cent for 3; and members who buy on the days they are told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wallet = world.add_merchant()
        self.ann, self.bob, self.cat = world.add_members(3)
        world.add_asset(self.wallet, "STAR", make_program(), value=Value(amount=1, currency="USD", points=3))

    def buy(self, order: str, member: Wallet, day: str, amount: int, **fields: Any) -> None:
        at = f"{day}T12:00:00.000Z"
        purchase = Purchase(amount=amount, at=at, member=str(member.account), order=order, **fields)
        self.world.record(self.wallet.sign(RecordPurchases, asset="STAR", currency="USD", purchases=(purchase,)))

    def refund(self, order: str, amount: int) -> None:
        of = RefundedPurchase(amount=amount, order=order)
        self.world.record(self.wallet.sign(Refund, asset="STAR", of=of, reference=f"refund-{order}"))

    def simulate(self, draft: Program, **changes: Any) -> Simulation:
        store = self.world.store
        with store.read() as connection:
            asset = queries.asset(store, connection, "STAR")
            assert asset is not None
            now = format_time(self.world.clock.now_ms)
            return simulate(store, connection, Wanted(asset=asset, draft=draft, now=now, scale=2, **changes))


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def test_simulation_tells_both_programs_month_by_month_and_member_by_member(shop: Shop) -> None:
    """Ann: 100 and 50.00, of which the second is doubled by the draft; Bob: 10.00, too little for it."""
    shop.buy("A-1", shop.ann, "2025-03-01", 10_000)
    shop.buy("A-2", shop.ann, "2025-04-01", 5_000)
    shop.buy("B-1", shop.bob, "2025-04-02", 1_000)
    draft = make_program(bands=(Band(from_amount=2_000, per=100, points=1),), **vip("amount", 10_000, kept=1))
    found = shop.simulate(draft)
    assert (found.version, found.first, found.last) == (1, "2025-03-01", "2025-04-02")
    assert (found.sums.purchases, found.sums.amount) == (3, 16_000)
    assert found.sums.recorded == found.sums.now == Given(for_purchases=160)
    assert found.sums.draft == Given(for_purchases=80 + 2 * 30)
    assert (found.recorded_cost, found.now_cost, found.draft_cost) == (53, 53, 47)
    months = [(each.month, each.sums.now.net, each.sums.draft.net) for each in found.months]
    assert months == [("2025-03", 100, 80), ("2025-04", 60, 60)]
    assert (found.members, found.unchanged, found.gaining.members) == (2, 0, 0)
    assert (found.losing.members, found.losing.points) == (2, 20)
    first, second = found.losing.most
    assert {(each.account, each.now, each.draft) for each in (first, second)} == {
        (shop.ann.account, 150, 140),
        (shop.bob.account, 10, 0),
    }
    ann = first if first.account == shop.ann.account else second
    assert ann.example is not None
    assert (ann.example.order, ann.example.now, ann.example.draft) == ("A-1", 100, 80)
    assert "80 points are of 80.00 from 20.00 on, at 1 per 1.00." in ann.example.draft_why
    tiers = [(each.tier, each.now, each.draft) for each in found.tiers]
    assert tiers == [(None, 2, 1), ("vip", 0, 1)]
    assert {(each.now, each.draft, each.members) for each in found.moves} == {(None, None, 1), (None, "vip", 1)}


def test_simulation_of_a_period_remembers_what_came_before(shop: Shop) -> None:
    shop.buy("A-1", shop.ann, "2025-03-01", 10_000)
    shop.buy("A-2", shop.ann, "2025-04-01", 5_000)
    shop.buy("A-3", shop.ann, "2025-05-01", 5_000)
    found = shop.simulate(make_program(**vip("amount", 10_000)), first="2025-04-01", last="2025-04-30")
    assert (found.sums.purchases, found.sums.now.net, found.sums.draft.net) == (1, 50, 100)
    assert (found.first, found.last, found.tiers_on) == ("2025-04-01", "2025-04-30", "2025-04-30")
    assert [each.month for each in found.months] == ["2025-04"]
    plain = shop.simulate(make_program(bands=(Band(from_amount=0, per=50, points=1),)), first="2025-04-01")
    assert (plain.sums.purchases, plain.sums.draft.net, plain.tiers) == (2, 200, ())


def test_refunded_purchase_is_no_visit(shop: Shop) -> None:
    shop.buy("A-1", shop.ann, "2025-03-01", 1_000)
    shop.refund("A-1", 1_000)
    shop.buy("A-2", shop.ann, "2025-03-02", 1_000)
    shop.buy("A-3", shop.ann, "2025-03-03", 1_000)
    found = shop.simulate(make_program(**vip("visits", 2)))
    assert found.sums.draft == Given(for_purchases=30, taken_back=10)
    assert found.sums.recorded == found.sums.now == Given(for_purchases=30, taken_back=10)


def test_what_activities_gave_counts_for_tiers(shop: Shop) -> None:
    fields: dict[str, Any] = {"activity": "goodwill", "amount": 50, "member": shop.ann.account, "reference": "G-1"}
    shop.world.record(shop.wallet.sign(Grant, asset="STAR", **fields))
    shop.buy("A-1", shop.ann, "2026-03-01", 1_000)
    shop.buy("A-2", shop.ann, "2026-02-28", 1_000)
    found = shop.simulate(make_program(**vip("points", 50)))
    assert (found.sums.now.net, found.sums.draft.net) == (20, 40)


def test_refund_makes_room_for_another_invitation(shop: Shop) -> None:
    for member in (shop.bob, shop.cat):
        shop.world.record(member.sign(Enroll, asset="STAR", invited_by=shop.ann.account))
    shop.buy("B-1", shop.bob, "2025-03-01", 1_000)
    limit = Limit(count=1, period="ever")
    draft = make_program(referral=Referral(limit=limit, points=25))
    assert shop.simulate(draft).sums.draft == Given(for_purchases=10, for_invitations=25)
    shop.buy("C-1", shop.cat, "2025-03-02", 1_000)
    assert shop.simulate(draft).sums.draft == Given(for_purchases=20, for_invitations=25)
    (gaining,) = shop.simulate(draft).gaining.most
    assert (gaining.account, gaining.now, gaining.draft, gaining.example) == (shop.ann.account, 0, 25, None)
    shop.refund("C-1", 1_000)
    shop.buy("C-2", shop.cat, "2025-03-03", 1_000)
    assert shop.simulate(draft).sums.draft == Given(for_purchases=30, for_invitations=25, taken_back=10)
    shop.refund("B-1", 1_000)
    shop.buy("B-2", shop.bob, "2025-03-04", 1_000)
    assert shop.simulate(draft).sums.draft == Given(for_purchases=40, for_invitations=50, taken_back=45)


def test_simulation_names_only_so_many_members(shop: Shop) -> None:
    for order, member, amount in (("A-1", shop.ann, 1_000), ("B-1", shop.bob, 3_000), ("C-1", shop.cat, 2_000)):
        shop.buy(order, member, "2025-03-01", amount)
    draft = make_program(bands=(Band(from_amount=0, per=50, points=1),))
    found = shop.simulate(draft, members=2)
    assert [each.account for each in found.gaining.most] == [shop.bob.account, shop.cat.account]
    assert (found.gaining.members, found.gaining.points) == (3, 60)
    assert shop.simulate(draft, members=0).gaining.most == ()


def test_simulation_compares_with_the_version_in_force(shop: Shop) -> None:
    """What was recorded was by the first; what the second gives is told as if it had always been."""
    shop.buy("A-1", shop.ann, "2025-03-01", 1_000)
    twice = make_program(bands=(Band(from_amount=0, per=50, points=1),))
    starts = format_time(shop.world.clock.now_ms)
    shop.world.record(shop.wallet.sign(PublishProgram, asset="STAR", version=2, starts=starts, program=twice))
    found = shop.simulate(make_program(vesting_days=30))
    assert (found.version, found.sums.recorded.net, found.sums.now.net, found.sums.draft.net) == (2, 10, 20, 10)


def test_simulation_refuses_what_could_not_be_published(shop: Shop) -> None:
    for change, place in (({"currency": "EUR"}, "currency"), ({"time_zone": "Asia/Tokyo"}, "time_zone")):
        with pytest.raises(SimulationError) as refused:
            shop.simulate(make_program(**change))
        assert refused.value.path == (place,)


def test_simulation_refuses_more_events_than_it_may_look_at(shop: Shop) -> None:
    for number in range(3):
        shop.buy(f"A-{number}", shop.ann, "2025-03-01", 1_000)
    draft = make_program(vesting_days=1)
    with pytest.raises(TooLongError, match="more than 2"):
        shop.simulate(draft, most=2)
    assert shop.simulate(draft, most=3).sums.purchases == 3
    shop.refund("A-0", 100)
    assert shop.simulate(draft, most=3).sums.draft == Given(for_purchases=30, taken_back=1)


def test_simulation_refuses_more_points_than_there_can_be(shop: Shop) -> None:
    shop.buy("A-1", shop.ann, "2025-03-01", 10**12)
    draft = make_program(bands=(Band(from_amount=0, per=1, points=10**9),), round_amount="none")
    with pytest.raises(SimulationError, match="2\\^53"):
        shop.simulate(draft)


def test_simulation_without_purchases_or_program_says_so(shop: Shop) -> None:
    found = shop.simulate(make_program(**vip("visits", 2)))
    assert (found.sums.purchases, found.members, found.first, found.months) == (0, 0, None, ())
    shop.world.add_asset(shop.wallet, "BARE", make_program())
    with shop.world.store.read() as connection:
        asset = queries.asset(shop.world.store, connection, "BARE")
        assert asset is not None
        long_ago = Wanted(asset=asset, draft=make_program(), now="1990-01-01T00:00:00.000Z", scale=2)
        with pytest.raises(SimulationError, match="no program"):
            simulate(shop.world.store, connection, long_ago)


# Over GraphQL and on the command line

SIMULATE = """query($asset: String!, $program: ProgramRulesInput!, $from: Date, $through: Date, $members: Int) {
  programSimulate(asset: $asset, program: $program, from: $from, through: $through, members: $members) {
    asset version currency firstDay lastDay purchases amount members unchanged tiersOn
    recorded { ...points } now { ...points } draft { ...points }
    months { month purchases amount recorded { net } now { net } draft { net cost } }
    losing {
      members points most { accountId now draft example { merchantId order earnedOn amount now draft draftWhy } }
    }
    gaining { members points most { accountId } }
    tiers { tier now draft } tierMoves { now draft members }
  }
}
fragment points on SimulatedPoints { forPurchases forInvitations takenBack net cost }"""

DRAFT: dict[str, Any] = {
    "bands": [{"from": 2_000, "per": 100, "points": 1}],
    "currency": "USD",
    "expiry": {"never": True},
    "multipliers": [
        {"multiplier": "vip", "times": {"numerator": 2, "denominator": 1}, "when": {"tiers": ["vip"]}},
    ],
    "roundAmount": "WHOLE_UNITS",
    "roundPoints": "DOWN",
    "tiers": {"basis": "AMOUNT", "levels": [{"from": 10_000, "tier": "vip"}], "period": "CALENDAR_YEAR", "kept": 1},
    "timeZone": "UTC",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop that tests only read."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('told') / 'ledger.sqlite'}") as world:
        shop = Shop(world)
        shop.buy("A-1", shop.ann, "2025-03-01", 10_000)
        shop.buy("A-2", shop.ann, "2025-04-01", 5_000)
        shop.buy("B-1", shop.bob, "2025-04-02", 1_000)
        yield shop


def test_issuer_operator_and_auditors_simulate_and_others_do_not(told: Shop, tmp_path: Path) -> None:
    world = told.world
    asked = {"asset": "STAR", "program": DRAFT}
    with running(world, tmp_path) as service:
        token = service.sign_in(told.wallet)
        found = service.query(SIMULATE, asked, token)["programSimulate"]
        assert (found["version"], found["currency"], found["purchases"], found["amount"]) == (1, "USD", 3, 16_000)
        assert found["draft"] == {"forPurchases": 140, "forInvitations": 0, "takenBack": 0, "net": 140, "cost": 47}
        assert found["now"] == found["recorded"]
        assert [(month["month"], month["draft"]["net"]) for month in found["months"]] == [
            ("2025-03", 80),
            ("2025-04", 60),
        ]
        assert (found["losing"]["members"], found["losing"]["points"], found["gaining"]["members"]) == (2, 20, 0)
        changes = {each["accountId"]: each for each in found["losing"]["most"]}
        example = changes[told.ann.account]["example"]
        assert (example["order"], example["merchantId"], example["draft"]) == ("A-1", told.wallet.account, 80)
        assert example["draftWhy"][0] == "100.00 earns 80 points."
        assert found["tiers"] == [{"tier": None, "now": 2, "draft": 1}, {"tier": "vip", "now": 0, "draft": 1}]
        assert found["tiersOn"] == "2025-04-02"
        assert service.query(SIMULATE, asked, service.sign_in(world.operator))["programSimulate"] == found
        assert service.error_code(SIMULATE, asked, service.sign_in(told.ann)) == "FORBIDDEN"
        assert service.error_code(SIMULATE, asked, service.sign_in(world.add_merchant("Other"))) == "FORBIDDEN"
        assert service.error_code(SIMULATE, asked) == "UNAUTHENTICATED"
        for wrong in (
            {"program": DRAFT | {"bands": [{"from": 5, "per": 1, "points": 1}, {"from": 5, "per": 1, "points": 1}]}},
            {"program": DRAFT | {"currency": "EUR"}},
            {"program": DRAFT | {"timeZone": "Asia/Tokyo"}},
            {"members": 101},
            {"from": "2025-04-01", "through": "2025-03-01"},
        ):
            assert service.error_code(SIMULATE, asked | wrong, token) == "BAD_USER_INPUT", wrong
        april = service.query(SIMULATE, asked | {"from": "2025-04-01", "members": 0}, token)["programSimulate"]
        assert (april["purchases"], april["draft"]["net"], april["losing"]["most"]) == (2, 60, [])


def test_request_with_too_long_a_history_names_the_command(
    told: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_simulation, "MAX_EVENTS", 2)
    with running(told.world, tmp_path) as service:
        answer = service.ask(SIMULATE, {"asset": "STAR", "program": DRAFT}, service.sign_in(told.wallet))
    assert "guerdon program simulate" in answer["errors"][0]["message"]


def guerdon(shop: Shop, *arguments: str) -> tuple[int, str, str]:
    """Run ``guerdon program simulate`` on the shop's ledger: its status, what it printed, and what went wrong."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUERDON_DATABASE_URL", shop.world.url)
        patch.setattr(sys, "argv", ["guerdon", "program", "simulate", *arguments])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture
def draft_file(tmp_path: Path) -> str:
    draft = make_program(bands=(Band(from_amount=2_000, per=100, points=1),), **vip("amount", 10_000, kept=1))
    path = tmp_path / "draft.json"
    path.write_bytes(msgspec.json.encode(draft))
    return str(path)


def test_command_prints_tables_and_draws_a_chart(told: Shop, draft_file: str, tmp_path: Path) -> None:
    chart = tmp_path / "chart.svg"
    status, out, err = guerdon(told, draft_file, "--asset", "STAR", "--chart", str(chart))
    assert (status, err) == (0, "")
    for text in (
        "STAR: the draft beside version 1",
        "0.53 USD",
        "2025-03",
        "█",
        "vip",
        "2 of 2 members lose 20 points",
    ):
        assert text in out, text
    drawn = ElementTree.parse(chart).getroot()  # noqa: S314 - it is our own
    names = {"".join(each.itertext()).strip() for each in drawn.iter() if each.tag.endswith("text")}
    assert {"STAR: points by month of purchase", "STAR: members by tier on 2025-04-02", "2025-04", "vip"} <= names


def test_command_prints_what_the_simulation_is_as_json(told: Shop, draft_file: str) -> None:
    status, out, _ = guerdon(told, draft_file, "--asset", "STAR", "--from", "2025-04-01", "--json", "--cost", "1/2")
    found = json.loads(out)
    assert (status, found["sums"]["purchases"], found["now_cost"], found["draft_cost"]) == (0, 2, 30, 30)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--asset", "NOPE"), 1, "there is no asset NOPE"),
        (("--asset", "STAR", "--from", "2025-04-02", "--through", "2025-04-01"), 2, "lies before"),
        (("--asset", "STAR", "--cost", "1"), 2, "not of the form 1/3"),
    ],
)
def test_command_says_what_it_cannot_simulate(
    told: Shop, draft_file: str, arguments: tuple[str, ...], status: int, said: str
) -> None:
    found, out, err = guerdon(told, draft_file, *arguments)
    assert (found, out) == (status, "")
    assert said in err


@pytest.mark.parametrize(("number", "text"), [(0, ""), (-3, ""), (10, "█" * 4), (5, "██"), (1, "▍"), (3, "█▏")])
def test_bars_are_as_long_as_their_numbers_to_an_eighth_of_a_cell(number: int, text: str) -> None:
    assert bar(number, 10, 4) == text
