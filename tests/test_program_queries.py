"""Reading what members have in programs: against a walk over all records, on both databases."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger import program_queries
from ledger.calculation import Bought
from ledger.encoding import format_time
from ledger.operations import Freeze
from ledger.program_queries import (
    MembershipFilter,
    NextLevel,
    PeriodCount,
    VoucherFilter,
    event_key,
    explained_event,
    tier_standing,
)
from ledger.program_terms import TierLevel, Tiers
from ledger.queries import ALL, Page, Sight
from ledger.state import Membership, State, Touches, Voucher
from tests.postgres import fresh_database
from tests.roastery import TODAY, Roastery
from tests.town import Town
from tests.worlds import DAY_MS, World

SCALES = {"EUR": 2, "USD": 2}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def roastery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roastery]:
    """Read by all tests of this file."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('programs') / 'ledger.sqlite'}"
        else:
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        yield Roastery(stack.enter_context(World(url)))


@pytest.fixture
def connection(roastery: Roastery) -> Iterator[Connection]:
    with roastery.world.store.read() as connection:
        yield connection


@pytest.fixture
def state(roastery: Roastery, connection: Connection) -> State:
    """All records there are."""
    needs = Touches.none()
    needs.groups.update((name, ()) for name in ("memberships", "vouchers", "pending", "pools"))
    return roastery.world.store.load_state(connection, needs)


def sights(roastery: Roastery) -> list[Sight]:
    """The operator's, both merchants', members', and a custodian's."""
    shop, other, ann, ben = (str(w.account) for w in (roastery.shop, roastery.other, roastery.ann, roastery.ben))
    return [
        ALL,
        Sight(account=shop, assets=("SLOW", "STAR")),
        Sight(account=other, assets=("LEAF",)),
        Sight(account=other, assets=("LEAF",), in_custody=(ben,)),
        Sight(account=ann),
        Sight(account=ben),
    ]


def walk(question: Callable[[Page], list[Any]], key: Callable[[Any], Any], limit: int = 2) -> list[Any]:
    """All of a list, page by page, forwards; from the end it must be the same."""
    forwards: list[Any] = []
    while page := question(Page(limit=limit, after=key(forwards[-1]) if forwards else None)):
        forwards += page
    backwards: list[Any] = []
    while page := question(Page(limit=limit, before=key(backwards[0]) if backwards else None, from_end=True)):
        backwards = page + backwards
    assert backwards == forwards
    return forwards


def sees(sight: Sight, record: Membership | Voucher) -> bool:
    own = record.account in sight.accounts or getattr(record, "merchant", None) in sight.accounts
    return sight.everything or own or record.asset in sight.assets


def member_key(record: Membership) -> tuple[str, str]:
    return record.asset, record.account


def voucher_key(record: Voucher) -> tuple[int, int]:
    return record.seq, record.index


# Memberships and tiers


def test_each_reader_finds_the_memberships_it_may_see(roastery: Roastery, connection: Connection, state: State) -> None:
    accounts = [str(wallet.account) for wallet in (roastery.ann, roastery.ben, roastery.dan)]
    filters = [MembershipFilter(asset=asset) for asset in ("STAR", "SLOW", "LEAF")]
    filters += [MembershipFilter(account=account) for account in accounts]
    filters += [MembershipFilter(asset="STAR", tier=tier) for tier in ("silver", "gold", "bronze")]
    filters += [MembershipFilter(account=accounts[0], assets=("SLOW",))]
    found_any = 0
    for wanted in filters:
        for sight in sights(roastery):

            def question(page: Page, wanted: MembershipFilter = wanted, sight: Sight = sight) -> list[Membership]:
                return program_queries.memberships_page(roastery.world.store, connection, wanted, sight, page)

            expected = [
                each
                for each in sorted(state.memberships, key=member_key)
                if sees(sight, each)
                and wanted.asset in {None, each.asset}
                and wanted.account in {None, each.account}
                and wanted.tier in {None, each.tier}
                and (wanted.assets is None or each.asset in wanted.assets)
            ]
            assert walk(question, member_key) == expected
            found_any += len(expected)
    assert found_any > 20


def test_standings_are_those_of_each_member_by_its_own_program(roastery: Roastery, connection: Connection) -> None:
    store, accounts = roastery.world.store, [str(roastery.ann.account), str(roastery.dan.account)]
    members = [
        program_queries.membership(store, connection, asset, account)
        for asset, account in (("SLOW", accounts[1]), ("STAR", accounts[0]))
    ]
    slow, star = program_queries.standings(store, connection, [each for each in members if each], roastery.now)
    assert slow is None
    assert star is not None
    assert (star.tier, star.until, star.never_expires) == ("silver", "2026-04-30", False)
    assert star.periods == (PeriodCount(period="2026-02", count=0), PeriodCount(period="2026-03", count=10_000))
    assert star.next == NextLevel(tier="gold", from_count=50_000, missing=40_000)
    assert program_queries.membership(store, connection, "LEAF", accounts[0]) is None


def test_a_tier_ends_by_time_alone(roastery: Roastery, connection: Connection) -> None:
    store = roastery.world.store
    ann = program_queries.membership(store, connection, "STAR", str(roastery.ann.account))
    assert ann is not None
    (last,) = program_queries.standings(store, connection, [ann], "2026-04-30T23:59:59.999Z")
    (over,) = program_queries.standings(store, connection, [ann], "2026-05-01T00:00:00.000Z")
    assert (last and last.tier, over and over.tier) == ("silver", None)


@pytest.mark.parametrize(
    ("period", "joined_on", "day", "expected"),
    [
        ("calendar_year", "2024-05-05", "2026-03-02", ["2024", "2025", "2026"]),
        ("month", "2024-05-05", "2026-01-02", ["2025-11", "2025-12", "2026-01"]),
        ("membership_year", "2024-02-29", "2026-02-28", ["2024-02-29", "2025-02-28", "2026-02-28"]),
        ("membership_year", "2024-02-29", "2026-02-27", ["2023-02-28", "2024-02-29", "2025-02-28"]),
    ],
)
def test_the_periods_that_count_together_are_named(period: Any, joined_on: str, day: str, expected: list[str]) -> None:
    levels = (TierLevel(tier="one", from_count=10),)
    tiers = Tiers(basis="visits", levels=levels, period=period, window=3)
    counts = dict.fromkeys(expected, 2) | {"1999": 7}
    found = tier_standing(tiers, counts, joined_on, day)
    assert [each.period for each in found.periods] == expected
    assert (found.period, found.counted, found.next) == (
        expected[-1],
        6,
        NextLevel(tier="one", from_count=10, missing=4),
    )


# Points to come, vouchers, pools, activities


def test_points_to_come_are_listed_until_they_vest(roastery: Roastery, connection: Connection, state: State) -> None:
    store, dan = roastery.world.store, str(roastery.dan.account)

    def question(assets: tuple[str, ...] | None) -> list[str]:
        def ask(page: Page) -> list[Any]:
            return program_queries.pending_page(store, connection, dan, assets, page)

        return [each.order for each in walk(ask, lambda each: (each.vests_on, each.merchant, each.order), 1)]

    assert question(None) == question(("SLOW",)) == ["S-2"]
    assert question(("STAR",)) == []
    orders = ["S-2", "S-1", "A-1"]
    found = program_queries.pending_purchases(store, connection, str(roastery.shop.account), orders)
    assert [each.order for each in found] == ["S-2"] == [each.order for each in state.pending]


@pytest.mark.parametrize("days", [0, 7, 8])
def test_each_reader_finds_the_vouchers_it_may_see_as_they_stand(
    roastery: Roastery, connection: Connection, state: State, days: int
) -> None:
    store, shop, ann = roastery.world.store, str(roastery.shop.account), str(roastery.ann.account)
    time = format_time(roastery.world.clock.now_ms + days * DAY_MS)

    def stands(voucher: Voucher) -> str:
        return "expired" if voucher.status == "issued" and voucher.last_day < time[:10] else voucher.status

    for whose in ({"account": ann}, {"merchant": shop}, {"account": str(roastery.ben.account)}):
        for status in (None, "issued", "used", "cancelled", "expired"):
            for sight in sights(roastery):
                wanted = VoucherFilter(**whose, status=status)  # type: ignore[arg-type]

                def question(page: Page, wanted: VoucherFilter = wanted, sight: Sight = sight) -> list[Voucher]:
                    return program_queries.vouchers_page(store, connection, wanted, sight, page, time=time)

                expected = [
                    each
                    for each in sorted(state.vouchers, key=voucher_key)
                    if sees(sight, each)
                    and all(getattr(each, name) == value for name, value in whose.items())
                    and status in {None, stands(each)}
                ]
                assert walk(question, voucher_key, 1) == expected
    expired = VoucherFilter(account=ann, status="expired")
    page = program_queries.vouchers_page(store, connection, expired, ALL, Page(limit=9), time=time)
    assert len(page) == (days == 8)


def test_the_vouchers_of_an_entry_are_found_by_it(roastery: Roastery, connection: Connection) -> None:
    store, seq = roastery.world.store, roastery.espressos.seq
    assert [each.index for each in program_queries.vouchers_given(store, connection, seq, 100)] == [0, 1]
    assert len(program_queries.vouchers_given(store, connection, seq, 1)) == 1
    used = program_queries.voucher(store, connection, seq, 1)
    assert used is not None
    assert used.used_seq == roastery.used.seq
    assert program_queries.voucher(store, connection, seq, 2) is None


def test_a_pool_can_spend_what_its_members_can(roastery: Roastery, connection: Connection) -> None:
    store, ann, ben = roastery.world.store, str(roastery.ann.account), str(roastery.ben.account)
    (pool,) = program_queries.pools_of(store, connection, ben, None)
    assert pool.members == (ann, ben)
    assert program_queries.pools_of(store, connection, ben, ["SLOW"]) == []
    assert program_queries.pools_of(store, connection, str(roastery.cat.account), None) == []
    assert program_queries.pools(store, connection, [pool.pool, "pol_none"]) == {pool.pool: pool}
    asked = [("STAR", pool.members), ("STAR", (ben,)), ("LEAF", pool.members)]
    # Ann: 320 for beans, 50 for the invitation, less 140; Ben: 40.
    assert program_queries.pools_points(store, connection, asked, roastery.now) == [270, 40, 0]


def test_reminders_are_listed_with_their_time(roastery: Roastery, connection: Connection) -> None:
    store, gus = roastery.world.store, str(roastery.gus.account)

    def question(assets: tuple[str, ...] | None) -> list[tuple[int, str, str | None]]:
        def ask(page: Page) -> list[Any]:
            return program_queries.reminders_page(store, connection, gus, assets, page)

        return [(each.reminder.seq, each.time, each.reminder.tier) for each in walk(ask, lambda e: e.reminder.seq, 1)]

    told = [(roastery.reminded.seq, roastery.now, "gold")]
    assert question(None) == question(("STAR",)) == told
    assert question(("SLOW",)) == []


def test_activities_are_counted_by_name(roastery: Roastery, connection: Connection) -> None:
    store, cat = roastery.world.store, str(roastery.cat.account)
    found = program_queries.achievements(store, connection, "STAR", cat)
    assert [(each.activity, each.count, each.points) for each in found] == [("review", 2, 15), ("visit", 1, 0)]
    assert {(each.first_day, each.last_day) for each in found} == {(TODAY, TODAY)}
    assert program_queries.achievements(store, connection, "SLOW", cat) == []
    assert program_queries.achievements(store, connection, "STAR", str(roastery.ann.account)) == []


# Benefits and rewards


def offers(roastery: Roastery, connection: Connection, account: str | None) -> dict[str, tuple[Any, ...]]:
    store = roastery.world.store
    member = program_queries.member_now(store, connection, "STAR", str(account), roastery.now)
    assert member is not None
    return {
        each.reward.reward: (each.left_in_stock, each.left_of_limit, each.number, each.why_not)
        for each in program_queries.reward_offers(store, connection, member, roastery.now)
    }


def test_rewards_tell_what_is_left_and_why_a_member_cannot_have_one(roastery: Roastery, connection: Connection) -> None:
    assert offers(roastery, connection, roastery.ann.account) == {
        "mug": (2, None, 2, None),
        "espresso": (None, 0, 0, "limit_reached"),
        "tasting": (None, None, 0, "unavailable"),
    }
    assert offers(roastery, connection, roastery.eve.account) == {
        "mug": (2, None, 0, "insufficient_points"),
        "espresso": (None, 2, 0, "insufficient_points"),
        "tasting": (None, None, 0, "unavailable"),
    }
    assert offers(roastery, connection, roastery.gus.account) == {
        "mug": (2, None, 2, None),
        "espresso": (None, 2, 2, None),
        "tasting": (None, None, 90, None),
    }


def test_benefits_ask_for_the_member_and_the_purchase(roastery: Roastery, connection: Connection) -> None:
    store = roastery.world.store

    def held(account: str | None, amount: int = 0, **said: Any) -> set[str]:
        member = program_queries.member_now(store, connection, "STAR", str(account), roastery.now)
        assert member is not None
        circumstances = member.circumstances
        for name, value in said.items():
            circumstances = type(circumstances)(**{**_fields(circumstances), name: value})
        bought = Bought(amount=amount, merchant=member.issuer, earned_on=member.today, circumstances=circumstances)
        found = program_queries.benefits(member.version.program, bought)
        assert [each.benefit for each in found] == ["free_shipping", "early_access"]
        return {each.benefit for each in found if each.holds}

    assert held(roastery.ann.account) == {"early_access"}
    assert held(roastery.ann.account, 5_000, channel="web") == {"early_access", "free_shipping"}
    assert held(roastery.ann.account, 4_999, channel="web") == {"early_access"}
    assert held(roastery.eve.account, 5_000) == set()
    assert held(roastery.gus.account) == {"free_shipping"}


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_there_is_no_member_where_no_program_is_in_force(roastery: Roastery, connection: Connection) -> None:
    store, ann = roastery.world.store, str(roastery.ann.account)
    assert program_queries.member_now(store, connection, "NONE", ann, roastery.now) is None
    assert program_queries.member_now(store, connection, "STAR", ann, "1996-01-01T00:00:00.000Z") is None


# Why points were given


def test_every_purchase_is_explained_by_what_it_gave(roastery: Roastery, connection: Connection) -> None:
    store = roastery.world.store
    size = store.head(connection).size
    events = [
        event
        for seq in range(size)
        for event in walk(
            lambda page, seq=seq: program_queries.events_page(store, connection, seq, None, page),  # type: ignore[misc]
            event_key,
            1,
        )
    ]
    found = program_queries.explain(store, connection, events, SCALES)
    assert [each.earning.reference for each in found] == [event[2].reference for event in events]
    for each in found:
        assert each.sentences
        if each.earning.amount is None:
            assert each.calculation is None
        else:
            assert each.calculation is not None
            assert each.calculation.points == each.earning.points
    by_order = {each.earning.reference: each for each in found if each.calculation is not None}
    assert by_order["A-1"].calculation.excluded_amount == 700  # type: ignore[union-attr]
    assert [line.multipliers for line in by_order["A-1"].calculation.lines] == [("beans",)]  # type: ignore[union-attr]
    assert by_order["G-1"].calculation.cut == 220  # type: ignore[union-attr]


def test_what_is_behind_a_line_is_its_accounts_own(roastery: Roastery, connection: Connection) -> None:
    store = roastery.world.store
    ann, ben, dan = (str(wallet.account) for wallet in (roastery.ann, roastery.ben, roastery.dan))
    vested, invited = roastery.vested.seq, roastery.invited.seq
    lines = [(vested, dan), (vested, ann), (invited, ann), (invited, ben), (roastery.mug.seq, ann)]
    found = program_queries.events_behind(store, connection, lines)
    named = {line: [(event[2].scope, event[2].reference) for event in events] for line, events in found.items()}
    assert named == {
        (vested, dan): [("order", "S-1")],
        (vested, ann): [],
        (invited, ann): [("invitation", "B-1")],
        (invited, ben): [("order", "B-1")],
        (roastery.mug.seq, ann): [],
    }
    only_ben = program_queries.events_page(store, connection, invited, [ben], Page(limit=9))
    assert [event[2].account for event in only_ben] == [ben]


@pytest.mark.parametrize("seed", [1, 2])
def test_an_explanation_gives_what_was_given_in_any_history(seed: int) -> None:
    town = Town(random.Random(seed))
    for _ in range(400):
        town.act()
    purchases = 0
    for asset, earning in town.state.earnings.values():
        program = town.state.programs[asset][earning.version - 1].program
        found = explained_event(program, (0, asset, earning), SCALES, 0)
        assert found.sentences
        if found.calculation is not None:
            assert found.calculation.points == earning.points
            purchases += 1
    assert purchases > 20


def test_lists_use_the_indexes_made_for_them(roastery: Roastery, connection: Connection) -> None:
    """What is an account's, a merchant's or an entry's is found by an index: no table is walked."""
    store, page = roastery.world.store, Page(limit=21)
    if store.is_postgres:
        return  # which walks small tables whatever indexes they have
    ann, shop = str(roastery.ann.account), str(roastery.shop.account)
    questions: list[tuple[str, Callable[[], Any]]] = [
        (
            "membership USING PRIMARY KEY (ledger_id=? AND asset=? AND account=?)",
            lambda: program_queries.memberships_page(store, connection, MembershipFilter(account=ann), ALL, page),
        ),
        (
            "progress USING PRIMARY KEY (ledger_id=? AND asset=? AND account=?)",
            lambda: program_queries._progress(store, connection, [("STAR", ann), ("SLOW", shop)]),
        ),
        ("INDEX pending_account", lambda: program_queries.pending_page(store, connection, ann, None, page)),
        (
            "INDEX voucher_account",
            lambda: program_queries.vouchers_page(
                store, connection, VoucherFilter(account=ann), ALL, page, time=roastery.now
            ),
        ),
        (
            "INDEX voucher_merchant",
            lambda: program_queries.vouchers_page(
                store, connection, VoucherFilter(merchant=shop, status="used"), ALL, page, time=roastery.now
            ),
        ),
        ("INDEX reminder_account", lambda: program_queries.reminders_page(store, connection, ann, None, page)),
        ("INDEX earning_account", lambda: program_queries.achievements(store, connection, "STAR", ann)),
        ("INDEX earning_seq", lambda: program_queries.events_page(store, connection, 20, None, page)),
        ("INDEX earning_seq", lambda: program_queries.events_behind(store, connection, [(20, ann)])),
    ]
    for index, question in questions:
        asked: list[tuple[str, Any]] = []
        listened = (connection, "before_cursor_execute", lambda *given, asked=asked: asked.append(given[2:4]))
        sa.event.listen(*listened)
        question()
        sa.event.remove(*listened)
        text, values = asked[0]
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
        plan = "\n".join(row[3] for row in rows)
        assert index in plan, plan


def test_a_frozen_member_gives_nothing_to_its_pool(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path}/ledger.sqlite") as world:
        roastery = Roastery(world)
        world.record(world.operator.sign(Freeze, account=roastery.ben.account, reason="fraud"))
        members = (str(roastery.ann.account), str(roastery.ben.account))
        with world.store.read() as connection:
            found = program_queries.pools_points(world.store, connection, [("STAR", members)], roastery.now)
        assert found == [230]
