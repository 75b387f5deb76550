"""Insight by naive sums over rows that are put straight into the tables, and how its work grows with their number.

The rows are random and belong to no entries but a few: what is asked of tiers, answers and vouchers is in the tables,
and histories long enough to show how a query behaves would take long to record.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.books import span_of
from ledger.entries import NO_LAST_DAY
from ledger.insight import (
    Answers,
    By,
    Period,
    Subject,
    answers_by_period,
    cohorts,
    members_by_period,
    periods,
    points_by_period,
    rewards,
    sales_by_period,
    sales_by_tier,
    spent_at,
    tier_counts,
    vouchers_by_period,
)
from ledger.queries import Page
from ledger.tables import EARNING, MEMBERSHIP, SPENDING, VOUCHER
from tests.worlds import World

FIRST = date(2026, 3, 2)
DAYS = 60
TODAY = FIRST + timedelta(days=DAYS - 1)
WHOLE = Period(first=FIRST, last=TODAY)
TIERS = (None, "gold", "silver")
CIRCUMSTANCES = {
    "not noted": None,
    None: '{"first":true}',
    "gold": '{"first":true,"tier":"gold"}',
    "silver": '{"tier":"silver"}',
}
SCORED = {"grant:survey": 1, "grant:visit": 0.2}
"""How often a grant of an activity has an answer."""


class Rows(NamedTuple):
    """What was put into the tables, each row by the names of its columns."""

    earned: list[dict[str, Any]]
    spent: list[dict[str, Any]]
    members: list[dict[str, Any]]
    vouchers: list[dict[str, Any]]


class Shop:
    """A world whose only asset, STAR, gets rows; its entries are one a day, for two months."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = random.Random(11)
        self.wallet = world.add_merchant()
        world.add_asset(self.wallet, "STAR")
        (member,) = world.add_members(1)
        for _ in range(DAYS - 1):
            world.grant(self.wallet, "STAR", member, 1)
            world.clock.advance(days=1)
        self.rows = Rows([], [], [], [])
        with world.store.read() as connection:
            self.size = world.store.head(connection).size
            asset = queries.asset(world.store, connection, "STAR")
        assert asset is not None
        self.subject = Subject(asset=asset, time_zone="UTC")

    def fill(self, count: int) -> None:
        """Add so many events, of a fifth as many members, and what goes with them."""
        pick, ledger = self.random, {"ledger_id": self.world.store.ledger_id, "asset": "STAR"}
        accounts = [f"mem_{pick.getrandbits(100):026x}" for _ in range(count // 5)]
        shop = {**ledger, "merchant": str(self.wallet.account)}
        start = len(self.rows.earned)
        new = Rows(
            [{**shop, **self._earned(start + n, pick.choice(accounts))} for n in range(count)],
            [{**shop, **self._spent(start + n, pick.choice(accounts))} for n in range(count // 3)],
            [{**ledger, **self._member(account)} for account in accounts],
            [{**shop, **self._voucher(start + n, pick.choice(accounts))} for n in range(count // 3)],
        )
        with self.world.engine.begin() as connection:
            for table, found in zip((EARNING, SPENDING, MEMBERSHIP, VOUCHER), new, strict=True):
                connection.execute(sa.insert(table), found)
        for mine, more in zip(self.rows, new, strict=True):
            mine.extend(more)

    def _day(self) -> str:
        return (FIRST + timedelta(days=self.random.randrange(DAYS))).isoformat()

    def _earned(self, number: int, account: str) -> dict[str, Any]:
        pick = self.random
        kind = pick.choice(["order", "order", "order", "invitation", "grant:survey", "grant:visit"])
        tier = pick.choice([*CIRCUMSTANCES]) if kind == "order" else "not noted"
        amount = pick.randrange(20_000) if kind == "order" else None
        return {
            "scope": kind,
            "reference": f"{number:09d}",
            "seq": number % self.size,
            "account": account,
            "earned_on": self._day(),
            "amount": amount,
            "points": (amount or 0) // 100,
            "version": 1,
            "claim_amount": 0,
            "circumstances": CIRCUMSTANCES[tier],
            "score": pick.randrange(11) if pick.random() < SCORED.get(kind, 0) else None,
        }

    def _spent(self, number: int, account: str) -> dict[str, Any]:
        return {
            "operation": f"{number:064x}",
            "seq": number % self.size,
            "kind": "redeem",
            "time": f"{self._day()}T{self.random.randrange(24):02d}:00:00.000Z",
            "account": account,
            "amount": 10,
            "parts": "[]",
            **dict.fromkeys(("out_points", "claim_amount", "fee_amount", "refunded"), 0),
        }

    def _member(self, account: str) -> dict[str, Any]:
        tier = self.random.choice(TIERS)
        until = self.random.choice([TODAY - timedelta(days=1), TODAY]).isoformat() if tier else NO_LAST_DAY
        return {
            "account": account,
            "joined_on": FIRST.isoformat(),
            "purchases": 0,
            "tier": tier,
            "tier_until": until,
        }

    def _voucher(self, number: int, account: str) -> dict[str, Any]:
        status = self.random.choice(["issued", "issued", "used", "cancelled"])
        seq = self.random.randrange(self.size)
        price, worth = self.random.choice([(100, 500), (250, None)])
        return {
            "seq": seq,
            "index": number,
            "account": account,
            "reward": f"r{price}",
            "price": price,
            "worth": worth,
            "last_day": self._day() if self.random.random() < 0.8 else NO_LAST_DAY,
            "status": status,
            "used_seq": self.random.randrange(seq, self.size) if status == "used" else None,
        }


@pytest.fixture(scope="module")
def shop(shared_database_url: str) -> Iterator[Shop]:
    with World(shared_database_url) as world:
        shop = Shop(world)
        shop.fill(600)
        yield shop


@pytest.fixture(params=["day", "month", "year"])
def by(request: pytest.FixtureRequest) -> By:
    length: By = request.param
    return length


def in_period(day: str, period: Period) -> bool:
    return period.first.isoformat() <= day <= period.last.isoformat()


def test_promoters_are_counted_by_period_and_survey(shop: Shop, by: By) -> None:
    wanted = periods(FIRST, TODAY, by)
    with shop.world.store.read() as connection:
        for activity in (None, "survey", "visit", "nothing"):
            found = answers_by_period(shop.world.store, connection, shop.subject, wanted, by, activity=activity)
            assert [each.period for each in found] == wanted
            for each in found:
                scores = [
                    row["score"]
                    for row in shop.rows.earned
                    if row["score"] is not None
                    and in_period(row["earned_on"], each.period)
                    and (activity is None or row["scope"] == f"grant:{activity}")
                ]
                assert each.answers == len(scores)
                assert each.promoters == sum(score in {9, 10} for score in scores)
                assert each.detractors == sum(score in range(7) for score in scores)


@pytest.mark.parametrize(
    ("answers", "promoters", "detractors", "score"),
    [
        (0, 0, 0, None),
        (1, 1, 0, 10_000),
        (1, 0, 1, -10_000),
        (4, 2, 1, 2_500),
        (3, 1, 0, 3_333),
        (3, 0, 1, -3_333),
        (7, 3, 3, 0),
    ],
)
def test_promoter_score_is_rounded_towards_zero(answers: int, promoters: int, detractors: int, score: int) -> None:
    found = Answers(period=WHOLE, answers=answers, promoters=promoters, detractors=detractors)
    assert found.promoter_score == score


def test_sales_by_tier_are_those_of_the_rows_and_add_up_to_all(shop: Shop, by: By) -> None:
    """A purchase without circumstances is in no tier, as is one whose circumstances have none."""
    wanted = periods(FIRST, TODAY, by)
    with shop.world.store.read() as connection:
        found = sales_by_tier(shop.world.store, connection, shop.subject, wanted, by)
        whole = sales_by_period(shop.world.store, connection, shop.subject, wanted, by)
    for period, tiers, every in zip(wanted, found, whole, strict=True):
        expected = defaultdict(list)
        for row in shop.rows.earned:
            if row["amount"] is not None and in_period(row["earned_on"], period):
                tier = next((name for name in TIERS if name and name in (row["circumstances"] or "")), None)
                expected[tier].append(row)
        assert [each.tier for each in tiers] == sorted(expected, key=lambda tier: tier or "")
        for each in tiers:
            mine = expected[each.tier]
            assert (each.purchases, each.amount) == (len(mine), sum(row["amount"] for row in mine))
            assert each.points == sum(row["points"] for row in mine)
            assert each.buyers == len({row["account"] for row in mine})
        assert sum(each.amount for each in tiers) == every.amount


def test_tiers_are_those_noted_and_due_when_their_time_has_passed(shop: Shop) -> None:
    """On its last day a tier is not due."""
    today = TODAY.isoformat()
    with shop.world.store.read() as connection:
        found = tier_counts(shop.world.store, connection, shop.subject, today=today)
    members = Counter(row["tier"] for row in shop.rows.members)
    due = Counter(row["tier"] for row in shop.rows.members if row["tier_until"] < today)
    assert [(each.tier, each.members, each.due) for each in found] == [
        (tier, members[tier], due[tier]) for tier in TIERS
    ]
    assert due["gold"]


def test_vouchers_are_had_used_and_expired_in_their_periods(shop: Shop, by: By) -> None:
    """Had and used are of the day of the entry; a voucher that can be used today has not expired."""
    wanted = periods(FIRST, TODAY, by)
    store, rows = shop.world.store, shop.rows.vouchers
    with store.read() as connection:
        found = vouchers_by_period(store, connection, shop.subject, wanted, today=TODAY.isoformat())
        spans = [span_of(store, connection, period.first, period.last, "UTC") for period in wanted]
    for each, span in zip(found, spans, strict=True):
        had = [row for row in rows if span.first <= row["seq"] < span.end]
        used = [row for row in rows if row["used_seq"] is not None and span.first <= row["used_seq"] < span.end]
        gone = [row for row in rows if row["status"] == "issued" and in_period(row["last_day"], each.period)]
        gone = [row for row in gone if row["last_day"] < TODAY.isoformat()]
        for told, expected in ((each.had, had), (each.used, used), (each.expired, gone)):
            assert told.vouchers == len(expected)
            assert told.points == sum(row["price"] for row in expected)
            assert told.worth == sum(row["worth"] or 0 for row in expected)
        assert each.had.cancelled == sum(row["status"] == "cancelled" for row in had)
    assert sum(each.expired.vouchers for each in found) > 0


def test_rewards_come_by_the_vouchers_had_for_them(shop: Shop) -> None:
    """Page by page from either end."""
    store = shop.world.store
    whole = Period(first=FIRST, last=date(2026, 3, 31))
    with store.read() as connection:
        span = span_of(store, connection, whole.first, whole.last, "UTC")
        found = rewards(store, connection, shop.subject, whole, Page(limit=9))
        first = (-found[0].had.vouchers, found[0].reward)
        assert rewards(store, connection, shop.subject, whole, Page(limit=9, after=first)) == found[1:]
        assert rewards(store, connection, shop.subject, whole, Page(limit=1, from_end=True)) == found[1:]
    mine = [row for row in shop.rows.vouchers if span.first <= row["seq"] < span.end]
    counted = Counter(row["reward"] for row in mine)
    assert [(each.reward, each.had.vouchers) for each in found] == counted.most_common()
    for each in found:
        of_it = [row for row in mine if row["reward"] == each.reward]
        assert each.used == sum(row["status"] == "used" for row in of_it)
        assert each.had.points == sum(row["price"] for row in of_it)


# How work grows


def ask_everything(shop: Shop, connection: Connection) -> None:
    """Every question there is."""
    store, subject, wanted, page = shop.world.store, shop.subject, periods(FIRST, TODAY, "month"), Page(limit=100)
    points_by_period(store, connection, subject, wanted, today=TODAY.isoformat())
    members_by_period(store, connection, subject, wanted, active_days=30)
    sales_by_period(store, connection, subject, wanted, "month")
    sales_by_tier(store, connection, subject, wanted, "month")
    answers_by_period(store, connection, subject, wanted, "month")
    answers_by_period(store, connection, subject, wanted, "month", activity="survey")
    tier_counts(store, connection, subject, today=TODAY.isoformat())
    vouchers_by_period(store, connection, subject, wanted, today=TODAY.isoformat())
    rewards(store, connection, subject, WHOLE, page)
    spent_at(store, connection, subject, WHOLE, page)
    cohorts(store, connection, subject, WHOLE, page)


def steps_of_sqlite(shop: Shop) -> int:
    """How many hundreds of instructions of its virtual machine SQLite takes to answer everything."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with shop.world.store.read() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(count, 100)
        ask_everything(shop, connection)
        driver.set_progress_handler(None, 0)
    return steps


def plans_of_postgres(shop: Shop, settings: str = "") -> list[dict[str, Any]]:
    """PostgreSQL's plans for every statement of every question, with the tables' statistics and some settings."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with shop.world.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE earning, spending, membership, voucher")
        for setting in settings.split():
            connection.exec_driver_sql(f"SET LOCAL {setting}")
        sa.event.listen(connection, "before_cursor_execute", note)
        ask_everything(shop, connection)
        sa.event.remove(connection, "before_cursor_execute", note)
        return [
            connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()[0]["Plan"]
            for statement, parameters in asked
        ]


def test_work_grows_with_the_rows_and_not_with_their_square(database_url: str) -> None:
    """Four times the rows are about four times the work, a little more for sorting: sixteen times if it were squared.

    The work of SQLite is counted, that of PostgreSQL is what it expects of its own plan.
    """

    def work(shop: Shop) -> float:
        if not shop.world.store.is_postgres:
            return steps_of_sqlite(shop)
        return float(sum(plan["Total Cost"] for plan in plans_of_postgres(shop)))

    with World(database_url) as world:
        filled = Shop(world)
        filled.fill(1_000)
        before = work(filled)
        filled.fill(3_000)
        assert work(filled) < 6 * before


@pytest.mark.postgres
def test_postgres_makes_no_set_of_what_its_workers_made_sets_of(postgres_database: str) -> None:
    """Not where both hash with the same function, as for DISTINCT: then the time grows with the square of the rows.

    Rows come out of a worker's table in the order of their hash, and fill the first part of the leader's. The planner
    knows nothing of it. GROUP BY hashes them differently.
    """
    cheap = "parallel_setup_cost=0 parallel_tuple_cost=0.03 min_parallel_table_scan_size=0"
    with World(postgres_database) as world:
        shop = Shop(world)
        shop.fill(4_000)
        plans = plans_of_postgres(shop, cheap)
    inside = [node for plan in plans for gather in nodes(plan, "Gather") for node in nodes(gather, "Aggregate")]
    assert inside, "no plan is parallel: the settings have lost their effect"
    assert {node["Partial Mode"] for node in inside if node["Strategy"] == "Hashed"} <= {"Partial"}


def nodes(plan: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """The nodes of a plan whose type begins so, itself included."""
    if plan["Node Type"].startswith(kind):
        yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child, kind)
