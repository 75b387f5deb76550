"""Due work about members: points that vest, tiers that end, reminders and birthdays are done once, however late."""

from typing import Any

import pytest

from ledger import due
from ledger.due import DueFilter, DueReport, DueRun, due_filter
from ledger.due_members import birthdays_through, members_to_remind
from ledger.encoding import MAX_INTEGER, format_time
from ledger.operations import RecordPurchases, Refund
from ledger.personal_data import Profile
from ledger.profiles import ProfileKeys, Profiles
from ledger.program_terms import (
    Band,
    Birthday,
    ExpiresAfterDays,
    GrantRule,
    Limit,
    Program,
    Reminders,
    Reward,
    TierLevel,
    Tiers,
)
from ledger.state import State
from ledger.terms import Purchase, RefundedPurchase
from ledger.wallet import Wallet
from tests.reference import check_projections
from tests.test_due import entries, found
from tests.worlds import World, make_program

GOLD = Tiers(
    basis="amount",
    levels=(TierLevel(from_count=0, tier="member"), TierLevel(from_count=10_000, tier="gold")),
    period="calendar_year",
)


class Town:
    """A shop with a program and its customers, and who does due work for it."""

    def __init__(self, world: World, program: Program, members: int = 3, **asset: Any) -> None:
        self.world = world
        self.shop = world.add_merchant()
        world.add_asset(self.shop, program=program, **asset)
        self.members = world.add_members(members)
        self.profiles = Profiles(ProfileKeys(world.store.origin, [world.make_key()], world.random.randbytes), bytes)
        self._orders = 0

    def buy(self, member: Wallet, amount: int) -> str:
        """A purchase of now; its order."""
        self._orders += 1
        order = f"order-{self._orders}"
        now = format_time(self.world.clock.now_ms)
        purchase = Purchase(amount=amount, at=now, member=str(member.account), order=order)
        self.world.record(self.shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=(purchase,)))
        return order

    def born(self, member: Wallet, birthday: str) -> None:
        """A member tells its birthday."""
        with self.world.store.write() as transaction:
            self.profiles.update(transaction, str(member.account), lambda _: Profile(birthday=birthday), 0)

    def run(self, wallet: Wallet | None = None, **options: Any) -> DueReport:
        """Do what is due, as the shop unless it is somebody else."""
        wallet, store = wallet or self.shop, self.world.store
        with store.read() as connection:
            wanted = due_filter(store, connection, str(wallet.account))
        submit = options.pop("submit", self.world.sequencer.submit)
        return DueRun(store, submit, wallet, self.world.clock, wanted, profiles=self.profiles, **options).run()

    def done(self, wallet: Wallet | None = None) -> dict[str, int]:
        """What a run does, without what it does nothing of."""
        report = self.run(wallet)
        assert report.is_complete, report
        fields = [(name, getattr(done, name)) for done in report.assets for name in done.__struct_fields__]
        return {name: value for name, value in fields if value and name != "asset"}

    def state(self) -> State:
        """What replay gives, which the tables must have."""
        return check_projections(self.world.store)

    def balance(self, member: Wallet) -> int:
        return self.state().balance(str(member.account), "STAR")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of few pieces, so that little work is many of them."""
    monkeypatch.setattr(due, "VESTED_TOGETHER", 2)
    monkeypatch.setattr(due, "MAX_REVIEWED", 2)
    monkeypatch.setattr(due, "GRANTS_TOGETHER", 2)


def test_points_vest_once_in_the_lot_of_their_day(world: World, few: None) -> None:
    """However late: by then they may be over, and are retired by the same run."""
    town = Town(world, make_program(vesting_days=10, expiry=ExpiresAfterDays(count=20)))
    orders = [town.buy(member, 1_000) for member in town.members]
    refund = RefundedPurchase(amount=1_000, order=orders[0])
    world.record(town.shop.sign(Refund, asset="STAR", of=refund, reference="r"))
    world.clock.advance(days=9)
    assert town.done() == {}
    world.clock.advance(days=1)
    (star,) = found(world, DueFilter(assets=("STAR",)))
    assert (star.vesting, star.vesting_points, star.vests_since) == (2, 20, "2026-03-12")
    assert town.done() == {"vesting": 2, "vesting_points": 20}
    assert town.done(world.operator) == {}
    assert [town.balance(member) for member in town.members] == [0, 10, 10]
    assert set(town.state().lots_of(str(town.members[1].account), "STAR")) == {"2026-04-01"}
    town.buy(town.members[2], 500)
    world.clock.advance(days=100)
    assert town.done(world.operator) == {"vesting": 1, "vesting_points": 5, "lots": 3, "points": 25}
    assert found(world) == []


def test_run_that_is_cut_off_goes_on_with_what_is_left(world: World, few: None) -> None:
    """And what the other half did is not done again."""
    town = Town(world, make_program(vesting_days=1), members=5)
    for member in town.members:
        town.buy(member, 1_000)
    world.clock.advance(days=1)
    turns = iter([True, False])
    report = town.run(goes_on=lambda: next(turns))
    assert (report.finished, report.assets[0].vesting) == (False, 2)
    assert town.done() == {"vesting": 3, "vesting_points": 30}
    assert [town.balance(member) for member in town.members] == [10] * 5


def test_vesting_whose_entry_would_be_too_long_is_made_of_several(world: World) -> None:
    """An entry has at most 65,535 bytes, and each of these purchases vests into a hundred vouchers' worth of legs."""
    reward = Reward(automatic=True, price=1, reward="star")
    town = Town(world, make_program(vesting_days=1, rewards=(reward,)), members=2)
    kept = due.VESTED_TOGETHER
    for _ in range(kept):
        town.buy(town.members[0], 100)
    town.buy(town.members[1], 100)
    world.clock.advance(days=1)
    assert town.done() == {"vesting": kept + 1, "vesting_points": kept + 1}
    assert sum(1 for entry in entries(world) if entry["op"]["kind"] == "vest") >= 2


def test_points_for_which_there_is_no_room_keep_no_others_from_vesting(world: World) -> None:
    """A purchase mistyped is refused by itself, and those that vest with it are not."""
    town = Town(world, make_program(vesting_days=1, bands=(Band(from_amount=0, per=1, points=1),)))
    for member, amount in zip(town.members, (100, MAX_INTEGER, 200), strict=True):
        town.buy(member, amount)
    world.clock.advance(days=1)
    report = town.run()
    assert (report.finished, report.refused, report.assets[0].vesting) == (True, 1, 2)
    assert report.trouble is not None
    assert "POINTS_OVERFLOW" in report.trouble
    assert [town.balance(member) for member in town.members] == [100, 0, 200]


@pytest.mark.parametrize("room", [0, 15])
def test_full_supply_is_not_asked_about_each_purchase(
    world: World, few: None, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """After some that were refused by themselves, the others are by the batch; what there is room for vests."""
    monkeypatch.setattr(due, "MAX_KEPT_APART", 1)
    town = Town(world, make_program(vesting_days=1), members=5, supply_cap=room or 1)
    for member in town.members:
        town.buy(member, 1_000)
    world.clock.advance(days=1)
    report = town.run()
    assert (report.finished, sum(each.vesting for each in report.assets)) == (True, room // 10)
    assert report.refused == (3 if room else 4)


def test_tier_that_ended_is_noted_once(world: World, few: None) -> None:
    town = Town(world, make_program(tiers=GOLD), members=5)
    for member in town.members:
        town.buy(member, 10_000)
    assert town.done() == {}
    world.clock.advance(days=365)
    (star,) = found(world, DueFilter(assets=("STAR",)))
    assert (star.members, star.tiers_until) == (5, "2026-12-31")
    assert town.done() == {"members": 5}
    assert found(world) == []
    assert {member.tier for member in town.state().memberships} == {"member"}
    assert town.done(world.operator) == {}


def test_members_are_reminded_once(world: World, few: None) -> None:
    """Of a new tier, of what expires, of their balance, by whichever server does it first."""
    reminders = Reminders(balance="month", expiring_days=(7,), new_tier=True)
    program = make_program(tiers=GOLD, reminders=reminders, expiry=ExpiresAfterDays(count=10))
    town = Town(world, program, members=5)
    for member in town.members[:3]:
        town.buy(member, 10_000)
    assert town.done() == {"reminded": 6}
    assert town.done(world.operator) == {}
    world.clock.advance(days=3)
    assert town.done() == {"reminded": 3}
    assert town.done() == {}
    about = [(reminder.about, reminder.points, reminder.day, reminder.tier) for reminder in town.state().reminders]
    assert sorted(about, key=repr) == sorted(
        [("balance", 100, None, None), ("tier", 0, None, "gold"), ("expiry", 100, "2026-03-12", None)] * 3, key=repr
    )
    assert found(world) == []


def test_whom_to_remind_is_whom_the_rules_remind(world: World, few: None) -> None:
    """Each that is found is due, or the run would say that something was refused."""
    reminders = Reminders(balance="year", expiring_days=(30, 3), new_tier=True)
    town = Town(world, make_program(tiers=GOLD, reminders=reminders, expiry=ExpiresAfterDays(count=40)), members=4)
    for step in range(12):
        town.buy(town.members[step % 4], 5_000)
        world.clock.advance(days=9)
        report = town.run()
        assert report.is_complete, report
        with world.store.read() as connection:
            version = town.state().programs["STAR"][0].program
            today = format_time(world.clock.now_ms)[:10]
            for about in ("balance", "expiry", "tier"):
                left = members_to_remind(
                    world.store, connection, "STAR", version, about=about, today=today, after=None, limit=9
                )
                assert left == []
    told = [(reminder.account, reminder.about, reminder.day) for reminder in town.state().reminders]
    assert len([each for each in told if each[1] == "balance"]) == 4
    assert len([each for each in told if each[1] == "tier"]) == 4
    assert {about for _, about, _ in told} == {"balance", "expiry", "tier"}


def test_birthday_brings_points_once_a_year(world: World, few: None) -> None:
    """To whoever takes part, by the issuer, also some days late; the year it counts for is that of the birthday."""
    longest = "b" * 32  # the name of an activity has so many letters at most
    rule = GrantRule(activity=longest, max_points=250, limit=Limit(count=1, period="year"))
    program = make_program(grants=(rule,), birthday=Birthday(activity=longest, points=250))
    town = Town(world, program, members=5)
    for member, day in zip(town.members, ("03-02", "03-01", "03-03", "02-29", "12-30"), strict=True):
        town.born(member, f"1990-{day}" if day != "02-29" else "1992-02-29")
        if member is not town.members[1]:
            town.buy(member, 100)
    assert town.done(world.operator) == {}
    assert town.done() == {"birthdays": 2}
    assert [town.balance(member) for member in town.members] == [251, 0, 1, 251, 1]
    assert town.done() == {}
    world.clock.advance(days=1)
    assert town.done() == {"birthdays": 1}
    world.clock.advance(days=305)  # 2 January
    assert town.done() == {"birthdays": 1}
    assert entries(world)[-1]["op"]["at"] == "2026-12-30T12:00:00.000Z"
    world.clock.advance(days=59)  # 2 March
    assert town.done() == {"birthdays": 2}
    world.clock.advance(days=302)  # 29 December
    assert town.done() == {}
    world.clock.advance(days=1)
    assert town.done() == {"birthdays": 1}


def test_birthday_that_is_not_told_or_erased_brings_nothing(world: World) -> None:
    rule = GrantRule(activity="birthday", max_points=250)
    town = Town(world, make_program(grants=(rule,), birthday=Birthday(activity="birthday", points=250)), members=2)
    for member in town.members:
        town.buy(member, 100)
    town.born(town.members[0], "1990-03-02")
    with world.store.write() as transaction:
        town.profiles.erase(transaction, str(town.members[0].account), 0)
    assert town.done() == {}


@pytest.mark.parametrize(
    ("today", "day"),
    [
        ("2026-02-28", ("2026-02-28", "02-29")),
        ("2028-02-29", ("2028-02-29", "02-29")),
        ("2026-03-20", ("2026-02-28", "02-29")),
        ("2026-01-05", ("2025-12-31", "12-31")),
    ],
)
def test_every_day_of_the_year_has_one_birthday(today: str, day: tuple[str, str]) -> None:
    found = birthdays_through(today)
    assert day in found
    assert len({born for _, born in found}) == len(found)
    assert [on for on, _ in found] == sorted(on for on, _ in found)
    assert found[-1][0] == today
