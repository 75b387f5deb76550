"""Insight into a program, by the tables and by a naive walk over the entries; over GraphQL and on the command line."""

import csv
import io
import json
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from api import cli, insight_cli
from ledger import queries
from ledger.books import Span, ended_lots, lots_over, points_moved, points_moved_over, span_of
from ledger.encoding import OpId, account_id, format_time
from ledger.entries import Entry, decode_entry
from ledger.insight import (
    By,
    Period,
    Subject,
    _offsets,
    cohorts,
    members_by_period,
    page_of,
    periods,
    points_by_period,
    sales_by_period,
    spent_at,
)
from ledger.operations import Capture, Exchange, Expire, Grant, Hold, RecordPurchases, Redeem, Refund, UseVoucher
from ledger.program_terms import ExpiresAfterDays, GrantRule, Reward, TierLevel, Tiers
from ledger.programs import local_date
from ledger.queries import Page
from ledger.state import Asset
from ledger.tables import ENTRY
from ledger.terms import AcceptanceTerms, ExchangeTerms, Purchase, Rate, RefundedRedemption, Value, VoucherRef
from ledger.wallet import Wallet
from tests.partners import agree, hold_of, owe_usd, trade
from tests.service import running
from tests.worlds import World, make_program

ZONE = "America/New_York"
HOUR_MS = 3_600_000
EVERYTHING = Page(limit=1_000)
MEMBERS = 5


class Year(NamedTuple):
    """A ledger after half a year of trade, in a time zone that changes its clocks."""

    world: World
    shop: Wallet
    cafe: Wallet
    today: str


def make_year(world: World) -> Year:
    """Members buy, review, redeem at the shop and at a café, exchange, and come back or do not; points expire."""
    pick = random.Random(7)
    trade(world)
    shop, cafe = world.add_merchant(), world.add_merchant("Café")
    program = make_program(expiry=ExpiresAfterDays(count=40), time_zone=ZONE)
    world.add_asset(shop, "STAR", program, value=Value(amount=2, currency="USD", points=1))
    world.add_asset(cafe, "LEAF", program)
    accepted = AcceptanceTerms(asset="STAR", claim=owe_usd(shop), received="retired")
    exchanged = ExchangeTerms(asset="STAR", into="LEAF", rate=Rate(give=1, get=1), received="kept", claim=owe_usd(cafe))
    world.record(agree(world, shop, cafe, terms=accepted), agree(world, shop, cafe, terms=exchanged))
    members = world.add_members(MEMBERS)
    for step in range(22):
        for number, member in enumerate(members):
            if (step - 2 * number) % (number + 1) == 0 and step >= 2 * number:
                _visit(world, pick, (shop, cafe), member, f"{step}-{number}")
        day = local_date(format_time(world.clock() - 41 * 24 * HOUR_MS), ZONE)
        expiring = shop.sign(Expire, asset="STAR", through=day, limit=9)
        if step % 4 == 3:
            world.submit(expiring)  # there may be nothing to expire
        world.clock.advance(days=pick.randrange(14), ms=pick.randrange(24) * HOUR_MS)
    return Year(world, shop, cafe, local_date(format_time(world.clock()), ZONE))


def _visit(world: World, pick: random.Random, merchants: tuple[Wallet, Wallet], member: Wallet, name: str) -> None:
    """Buy, the day before or now, sometimes for nothing; then perhaps something else."""
    shop, cafe = merchants
    before = format_time(world.clock() - pick.choice([0, 0, 30 * HOUR_MS]))
    amount = pick.choice([50, 3_000, 12_345])
    bought = Purchase(amount=amount, at=before, member=str(member.account), order=name)
    world.record(shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=(bought,)))
    spending: dict[str, Any] = {"asset": "STAR", "amount": 10}
    match pick.randrange(6):
        case 0:
            world.grant(shop, "STAR", member, 5)
        case 1:
            world.submit(member.sign(Redeem, merchant=shop.account, **spending))
        case 2:
            found = world.submit(member.sign(Redeem, merchant=cafe.account, **spending))
            of = RefundedRedemption(amount=4, operation=getattr(found[0], "op_id", b"").hex() or "0" * 64)
            world.submit(cafe.sign(Refund, asset="STAR", of=of, reference=name))
        case 3:
            world.submit(member.sign(Exchange, into="LEAF", minimum_out=1, **spending))
        case 4 if amount > 50:
            until = format_time(world.clock() + HOUR_MS)
            (held,) = world.record(member.sign(Hold, merchant=cafe.account, until=until, **spending))
            world.record(cafe.sign(Capture, amount=7, hold=hold_of(held), final=True))


@pytest.fixture(scope="module")
def year(shared_database_url: str) -> Iterator[Year]:
    with World(shared_database_url) as world:
        yield make_year(world)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Year]:
    """The same on SQLite alone, for what does not depend on the database."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('insight') / 'ledger.sqlite'}") as world:
        yield make_year(world)


# The naive walk


class Event(NamedTuple):
    """What a member did: earn or spend. ``at`` is when it happened or was spent."""

    account: str
    at: str
    amount: int | None = None
    points: int = 0
    merchant: str = ""
    kind: str = ""
    seq: int = 0


class Walk:
    """Everything that was earned and spent of an asset, entry by entry."""

    def __init__(self, world: World, connection: Connection, code: str) -> None:
        size = world.store.head(connection).size
        data = world.store.entry_data(connection, range(size))
        ids = dict(connection.execute(sa.select(ENTRY.c.seq, ENTRY.c.op_id)).all())
        self.entries = [decode_entry(bytes(data[seq])) for seq in range(size)]
        self.holds: dict[str, Hold] = {}
        self.earned: list[Event] = []
        self.spent: list[Event] = []
        for entry in self.entries:
            if isinstance(entry.op, Hold):
                self.holds[account_id("hld", OpId(bytes(ids[entry.seq])))] = entry.op
            self._walk(entry, code)

    def _walk(self, entry: Entry, code: str) -> None:
        op = entry.op
        if isinstance(op, RecordPurchases) and op.asset == code:
            self.earned += [Event(each.member, each.at, each.amount) for each in op.purchases]
        elif isinstance(op, Grant) and op.asset == code:
            self.earned.append(Event(op.member, op.at))
        elif isinstance(op, Redeem) and op.asset == code:
            self._spend(entry, op.actor, op.amount, op.merchant)
        elif isinstance(op, Exchange) and op.asset == code:
            self._spend(entry, op.actor, op.amount, "")
        elif isinstance(op, Capture) and self.holds[op.hold].asset == code:
            self._spend(entry, self.holds[op.hold].actor, op.amount, op.actor)

    def _spend(self, entry: Entry, account: str, points: int, merchant: str) -> None:
        self.spent.append(
            Event(account, entry.time, points=points, merchant=merchant, kind=entry.op.KIND, seq=entry.seq)
        )

    def days(self, zone: str, *, spent: bool = True) -> dict[str, set[str]]:
        """The days on which each member earned, or earned or spent."""
        found: dict[str, set[str]] = defaultdict(set)
        for event in self.earned + (self.spent if spent else []):
            found[event.account].add(local_date(event.at, zone))
        return found


def asset_of(world: World, connection: Connection, code: str) -> Asset:
    found = queries.asset(world.store, connection, code)
    assert found is not None
    return found


CASES = [("STAR", ZONE), ("COIN", "UTC"), ("LEAF", ZONE)]


def spans_of_year(year: Year, by: By) -> list[Period]:
    return periods(date(2026, 2, 15), date.fromisoformat(year.today), by)


@pytest.mark.parametrize(("by", "active_days"), [("day", 7), ("month", 10), ("year", 1)])
def test_members_are_those_of_a_walk_over_the_entries(year: Year, by: By, active_days: int) -> None:
    """Who ever earned, who is new, who was active in the last days of a period, and who was not."""
    with year.world.store.read() as connection:
        for code, zone in CASES:
            subject = Subject(asset=asset_of(year.world, connection, code), time_zone=zone)
            walk = Walk(year.world, connection, code)
            earned, either = walk.days(zone, spent=False), walk.days(zone)
            wanted = spans_of_year(year, by)
            found = members_by_period(year.world.store, connection, subject, wanted, active_days=active_days)
            assert [each.period for each in found] == wanted
            for each in found:
                first, last = each.period.first.isoformat(), each.period.last.isoformat()
                since = (each.period.last - timedelta(days=active_days)).isoformat()
                seen = [days for days in either.values() if min(days) <= last]
                active = sum(any(since < day <= last for day in days) for days in seen)
                assert each.members == sum(min(days) <= last for days in earned.values())
                assert each.new == sum(first <= min(days) <= last for days in earned.values())
                assert (each.active, each.churned) == (active, len(seen) - active)
            assert code != "STAR" or any(each.churned for each in found)


@pytest.mark.parametrize("zone", ["UTC", ZONE, "Asia/Kathmandu"])
def test_newcomers_are_followed_month_by_month(year: Year, zone: str) -> None:
    """In any time zone, though only the program's is asked about: what was spent is of its local day."""
    with year.world.store.read() as connection:
        subject = Subject(asset=asset_of(year.world, connection, "STAR"), time_zone=zone)
        walk = Walk(year.world, connection, "STAR")
        whole = Period(first=date(2026, 2, 15), last=date.fromisoformat(year.today))
        found = cohorts(year.world.store, connection, subject, whole, EVERYTHING)
        one = [cohorts(year.world.store, connection, subject, whole, Page(limit=1, after=each.month)) for each in found]
        last = cohorts(year.world.store, connection, subject, whole, Page(limit=2, from_end=True))
    joined = {account: min(days) for account, days in walk.days(ZONE, spent=False).items()}
    active: dict[str, set[str]] = defaultdict(set)
    for event in walk.earned:
        active[event.account].add(local_date(event.at, ZONE)[:7])
    for event in walk.spent:
        active[event.account].add(local_date(event.at, zone)[:7])
    assert [each.month for each in found] == sorted({day[:7] for day in joined.values()})
    months = sorted({f"{day:%Y-%m}" for day in (date(2026, 1, 1) + timedelta(days=n) for n in range(365))})
    for each in found:
        newcomers = [account for account, day in joined.items() if day[:7] == each.month]
        followed = [month for month in months if each.month <= month <= year.today[:7]]
        assert each.members == len(newcomers)
        assert each.active == tuple(sum(month in active[one] for one in newcomers) for month in followed)
    assert [page[0] for page in one if page] == found[1:]
    assert last == found[-2:]


@pytest.mark.parametrize("by", ["day", "month", "year"])
def test_sales_are_those_of_a_walk_over_the_entries(year: Year, by: By) -> None:
    with year.world.store.read() as connection:
        subject = Subject(asset=asset_of(year.world, connection, "STAR"), time_zone=ZONE)
        bought = [event for event in Walk(year.world, connection, "STAR").earned if event.amount is not None]
        found = sales_by_period(year.world.store, connection, subject, spans_of_year(year, by), by)
    assert sum(each.purchases for each in found) == len(bought)
    for each in found:
        days = (each.period.first.isoformat(), each.period.last.isoformat())
        mine = [event for event in bought if days[0] <= local_date(event.at, ZONE) <= days[1]]
        amount = sum(event.amount or 0 for event in mine)
        assert (each.purchases, each.amount) == (len(mine), amount)
        assert each.buyers == len({event.account for event in mine})
        assert each.points == sum((event.amount or 0) // 100 for event in mine)


def test_points_are_those_of_the_books_and_of_a_walk(year: Year) -> None:
    """Each period's, as if it were asked about alone; and where they were spent."""
    yesterday = (date.fromisoformat(year.today) - timedelta(days=1)).isoformat()
    with year.world.store.read() as connection:
        for code, zone in CASES:
            asset = asset_of(year.world, connection, code)
            subject = Subject(asset=asset, time_zone=zone)
            walk = Walk(year.world, connection, code)
            wanted = spans_of_year(year, "month")
            found = points_by_period(year.world.store, connection, subject, wanted, today=year.today)
            for each in found:
                span = span_of(year.world.store, connection, each.period.first, each.period.last, zone)
                assert each.moved == points_moved(year.world.store, connection, code, span)
                ended = min(each.period.last.isoformat(), yesterday)
                days, so_far = (each.period.first.isoformat(), ended), ("1900-01-01", ended)
                assert each.ended == ended_lots(year.world.store, connection, code, days, span.end)
                assert each.ended_so_far == ended_lots(year.world.store, connection, code, so_far, span.end)
                spent: Counter[str] = Counter()
                for event in walk.spent:
                    if span.first <= event.seq < span.end:
                        where = "issuer" if event.merchant == asset.issuer else "partners"
                        spent["out" if event.kind == "exchange" else where] += event.points
                told = (each.redeemed_at_issuer, each.redeemed_at_partners, each.exchanged_out)
                assert told == (spent["issuer"], spent["partners"], spent["out"])
            if code == "STAR":
                assert all(sum(getattr(each, name) for each in found) for name in ("redeemed_at_issuer",))
                assert found[-1].ended_so_far.expired > 0


def test_balances_and_lots_over_spans_are_those_of_each_span(year: Year) -> None:
    """Wherever the spans are cut, also within a lapsed hold and a frozen account's entries."""
    days = ("1900-01-01", "2026-12-31")
    with year.world.store.read() as connection:
        store = year.world.store
        size = store.head(connection).size
        spans = [Span(first=first, end=min(first + 17, size)) for first in range(5, size, 17)]
        for code in ("STAR", "COIN", "BEAN"):
            moved = points_moved_over(store, connection, code, spans)
            lots = lots_over(store, connection, code, days, spans)
            for span, one, left in zip(spans, moved, lots, strict=True):
                assert one == points_moved(store, connection, code, span)
                assert left.ended(*days) == ended_lots(store, connection, code, days, span.end)
        assert points_moved_over(store, connection, "STAR", []) == []
        assert lots_over(store, connection, "STAR", days, []) == []


def test_merchants_come_by_the_points_spent_there(year: Year) -> None:
    """Page by page from either end."""
    with year.world.store.read() as connection:
        subject = Subject(asset=asset_of(year.world, connection, "STAR"), time_zone=ZONE)
        walk = Walk(year.world, connection, "STAR")
        whole = Period(first=date(2026, 2, 15), last=date.fromisoformat(year.today))

        def found(page: Page) -> list[tuple[str, str | None, int, int, int]]:
            rows = spent_at(year.world.store, connection, subject, whole, page)
            return [(row.merchant, row.name, row.points, row.operations, row.accounts) for row in rows]

        expected = []
        for wallet, name in ((year.cafe, "Café"), (year.shop, "Shop")):
            mine = [event for event in walk.spent if (event.merchant or year.cafe.account) == wallet.account]
            points, accounts = sum(event.points for event in mine), len({event.account for event in mine})
            expected.append((str(wallet.account), name, points, len(mine), accounts))
        assert expected[0][2] > expected[1][2] > 0
        assert found(EVERYTHING) == expected
        assert found(Page(limit=1, after=(-expected[0][2], expected[0][0]))) == expected[1:]
        assert found(Page(limit=1, from_end=True)) == expected[1:]


@pytest.mark.parametrize("code", ["STAR"])
def test_nothing_happened_before_the_ledger(year: Year, code: str) -> None:
    with year.world.store.read() as connection:
        store, subject = year.world.store, Subject(asset=asset_of(year.world, connection, code), time_zone=ZONE)
        wanted = periods(date(2025, 1, 1), date(2025, 2, 3), "month")
        whole = Period(first=wanted[0].first, last=wanted[-1].last)
        (_, points) = points_by_period(store, connection, subject, wanted, today=year.today)
        (_, members) = members_by_period(store, connection, subject, wanted, active_days=90)
        assert not any(getattr(points.moved, name) for name in points.moved.__struct_fields__)
        assert (members.members, members.active, members.churned) == (0, 0, 0)
        assert cohorts(store, connection, subject, whole, EVERYTHING) == []
        assert spent_at(store, connection, subject, whole, EVERYTHING) == []
        assert members_by_period(store, connection, subject, [], active_days=90) == []


# Periods and time zones


def test_periods_are_cut_at_months_and_years() -> None:
    def cut(by: By) -> list[tuple[str, str]]:
        found = periods(date(2023, 12, 30), date(2024, 3, 1), by)
        return [(each.first.isoformat(), each.last.isoformat()) for each in found]

    assert cut("month") == [
        ("2023-12-30", "2023-12-31"),
        ("2024-01-01", "2024-01-31"),
        ("2024-02-01", "2024-02-29"),
        ("2024-03-01", "2024-03-01"),
    ]
    assert cut("year") == [("2023-12-30", "2023-12-31"), ("2024-01-01", "2024-03-01")]
    assert len(cut("day")) == 63


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_pages_of_periods_are_those_of_a_list(limit: int, after: int, before: int, from_end: bool) -> None:
    whole = periods(date(2026, 1, 1), date(2026, 1, 9), "day")
    keys = [f"2026-01-{number:02d}" for number in range(10)]
    page = Page(
        limit=limit, after=keys[after] if after else None, before=keys[before] if before else None, from_end=from_end
    )
    left = [each for number, each in enumerate(whole, 1) if number > after and (not before or number < before)]
    assert list(page_of(whole, page)) == (left[-limit:] if from_end else left[:limit])


@settings(max_examples=20)
@given(
    zone=st.sampled_from([ZONE, "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"]),
    moments=st.lists(st.datetimes(datetime(2009, 1, 1), datetime(2013, 1, 1)), min_size=2, max_size=30),  # noqa: DTZ001
)
def test_offsets_give_the_local_date_of_every_moment(zone: str, moments: list[datetime]) -> None:
    """Across changes of clocks, and a day that Apia left out."""
    times = sorted(moment.replace(tzinfo=UTC, microsecond=0) for moment in moments)
    offsets = list(_offsets(times[0], times[-1], zone))
    for moment in times:
        text = format_time(int(moment.timestamp()) * 1_000)
        seconds = next((offset for until, offset in offsets[:-1] if text < until), offsets[-1][1])
        assert (moment + timedelta(seconds=seconds)).date().isoformat() == local_date(text, zone)


# GraphQL

RATIO = "{ numerator denominator decimal }"
INSIGHT = f"""
query($asset: String!, $from: Date!, $through: Date!, $by: InsightInterval! = MONTH, $days: Int! = 30, $first: Int,
      $after: String, $cost: PointPriceInput) {{
  insight(asset: $asset, from: $from, through: $through, by: $by, activeDays: $days) {{
    asset firstDay lastDay timeZone activeDays
    points(first: $first, after: $after, cost: $cost) {{
      nodes {{
        firstDay lastDay movement {{ issued redeemed closing }} redeemedAtIssuer redeemedAtPartners exchangedOut
        redemptionRate {RATIO} breakage {{ issued }} breakageSoFar {{ rate {RATIO} }} liability {{ amount points }}
      }}
      pageInfo {{ hasNextPage endCursor }}
    }}
    activity {{ nodes {{ firstDay members new active churned churn {RATIO} }} }}
    sales {{ nodes {{ purchases amount points buyers averageBasket {RATIO} }} }}
    cohorts {{ nodes {{ month members active }} }}
    spentAt(first: 1) {{ nodes {{ merchantId name points operations accounts }} pageInfo {{ hasNextPage }} }}
  }}
}}"""
BOOKS = """
query($asset: String!, $from: Date!, $through: Date!, $cost: PointPriceInput) {
  accounting(asset: $asset, from: $from, through: $through, cost: $cost) {
    points { issued redeemed closing } redemptionRate { decimal } breakage { issued } liability { amount points }
  }
}"""


def test_issuer_and_operator_read_insight_and_others_do_not(small: Year, tmp_path: Path) -> None:
    """What is told of the points of a month is what the books tell, liability included."""
    world = small.world
    whole = {"asset": "STAR", "from": "2026-03-01", "through": small.today}
    with running(world, tmp_path) as service:
        token = service.sign_in(small.shop)
        found = service.query(INSIGHT, whole, token)["insight"]
        assert service.query(INSIGHT, whole, service.sign_in(world.operator))["insight"] == found
        assert service.error_code(INSIGHT, whole, service.sign_in(small.cafe)) == "FORBIDDEN"
        assert service.error_code(INSIGHT, whole) == "UNAUTHENTICATED"
        cost = {"amount": 7, "points": 2}
        paged = service.query(INSIGHT, whole | {"first": 1, "cost": cost}, token)["insight"]["points"]
        after = {"first": 1, "after": paged["pageInfo"]["endCursor"], "cost": cost}
        second = service.query(INSIGHT, whole | after, token)["insight"]["points"]["nodes"][0]
        april = {"asset": "STAR", "from": "2026-04-01", "through": "2026-04-30", "cost": cost}
        books = service.query(BOOKS, april, token)["accounting"]
        for wrong in (
            {"through": "2027-01-01"},
            {"from": "2026-12-01"},
            {"days": 0},
            {"days": 99_999},
            {"from": "1900-01-01", "asset": "STAR"},
        ):
            assert service.error_code(INSIGHT, whole | wrong, token) == "BAD_USER_INPUT", wrong
        unknown = service.query(INSIGHT, whole | {"asset": "NOPE"}, service.sign_in(world.operator))
    assert unknown["insight"] is None
    assert (found["timeZone"], found["activeDays"], found["lastDay"]) == (ZONE, 30, small.today)
    assert second["firstDay"] == "2026-04-01"
    assert second["movement"] == books["points"]
    assert second["liability"] == books["liability"]
    assert second["breakage"] == books["breakage"]
    assert second["redemptionRate"]["decimal"] == books["redemptionRate"]["decimal"]
    members, sales = found["activity"]["nodes"][-1], found["sales"]["nodes"]
    assert members["members"] == sum(each["members"] for each in found["cohorts"]["nodes"]) == MEMBERS
    assert members["churn"]["denominator"] == members["active"] + members["churned"]
    assert sales[0]["averageBasket"]["numerator"] == sales[0]["amount"]
    assert found["spentAt"]["nodes"][0]["name"] == "Café"
    assert found["spentAt"]["pageInfo"]["hasNextPage"]


# The command


def guerdon(world: World, *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process: its status, and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUERDON_DATABASE_URL", world.url)
        patch.setenv("COLUMNS", "120")
        patch.setattr(insight_cli, "system_clock", world.clock)
        patch.setattr(sys, "argv", ["guerdon", "insight", *arguments])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def make_club(world: World) -> Wallet:
    """Who buys twice a month is silver until the month is over; all are asked, and have coffee for their points."""
    shop, (ann, ben) = world.add_merchant(), world.add_members(2)
    program = make_program(
        grants=(GrantRule(activity="survey", max_points=5, scored=True),),
        rewards=(Reward(reward="coffee", price=100, valid_days=3, worth=350), Reward(reward="cake", price=50)),
        tiers=Tiers(basis="visits", period="month", levels=(TierLevel(tier="silver", from_count=2),)),
    )
    world.add_asset(shop, program=program)

    def buy(member: Wallet, order: str) -> None:
        bought = Purchase(amount=10_000, at=format_time(world.clock()), member=str(member.account), order=order)
        world.record(shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=(bought,)))

    def have(member: Wallet, reward: str, amount: int) -> int:
        fields: dict[str, Any] = {"asset": "STAR", "merchant": shop.account}
        (had,) = world.record(member.sign(Redeem, amount=amount, reward=reward, **fields))
        return had.seq

    for order in ("1", "2", "3"):
        buy(ann, f"ann-{order}")
    buy(ben, "ben-1")
    asked: dict[str, Any] = {"asset": "STAR", "activity": "survey", "amount": 5, "at": format_time(world.clock())}
    for number, (member, score) in enumerate([(ann, 9), (ann, 10), (ben, 6), (ben, 8)]):
        world.record(shop.sign(Grant, member=member.account, reference=str(number), score=score, **asked))
    have(ann, "coffee", 200)
    cake = have(ben, "cake", 50)
    world.record(shop.sign(UseVoucher, voucher=VoucherRef(index=0, seq=cake)))
    world.clock.advance(days=10)
    return shop


CLUB = """
query($asset: String!, $from: Date!, $through: Date!, $activity: String) {
  insight(asset: $asset, from: $from, through: $through) {
    activity { nodes { members active } }
    salesByTier { nodes { firstDay tiers { tier purchases amount points buyers averageBasket { decimal } } } }
    tiers { tier members due }
    promoters(activity: $activity) { nodes { answers promoters passives detractors promoterScore } }
    vouchers {
      nodes {
        had { vouchers points worth } cancelled used { vouchers points worth } expired { vouchers points worth }
      }
    }
    rewards(first: 1) { nodes { reward had { vouchers points } cancelled used } pageInfo { hasNextPage endCursor } }
  }
}"""


def test_insight_tells_of_tiers_answers_and_vouchers(tmp_path: Path) -> None:
    """As recorded by a program that has them; over GraphQL and on the command line."""
    with World(f"sqlite:///{tmp_path / 'club.sqlite'}") as world:
        shop = make_club(world)
        days = {"asset": "STAR", "from": "2026-03-01", "through": "2026-03-12"}
        with running(world, tmp_path) as service:
            token = service.sign_in(shop)
            found = service.query(CLUB, days, token)["insight"]
            other = service.query(CLUB, days | {"activity": "party"}, token)["insight"]
        wanted = ("--asset", "STAR", "--from", "2026-03-01", "--through", "2026-03-12")
        outputs = {form: guerdon(world, *wanted, "--format", form)[1] for form in ("json", "table", "csv")}
    assert found["activity"]["nodes"] == [{"members": 2, "active": 2}]
    basket = {"averageBasket": {"decimal": "10000.000000"}}
    none = {"tier": None, "purchases": 3, "amount": 30_000, "points": 300, "buyers": 2} | basket
    silver = {"tier": "silver", "purchases": 1, "amount": 10_000, "points": 100, "buyers": 1} | basket
    assert found["salesByTier"]["nodes"] == [{"firstDay": "2026-03-01", "tiers": [none, silver]}]
    assert found["tiers"] == [
        {"tier": None, "members": 1, "due": 0},
        {"tier": "silver", "members": 1, "due": 0},
    ]
    answers = {"answers": 4, "promoters": 2, "passives": 1, "detractors": 1, "promoterScore": 2_500}
    assert found["promoters"]["nodes"] == [answers]
    assert other["promoters"]["nodes"] == [dict.fromkeys(answers, 0) | {"promoterScore": None}]
    cake = {"vouchers": 1, "points": 50, "worth": 0}
    coffee = {"vouchers": 2, "points": 200, "worth": 700}
    had = {"vouchers": 3, "points": 250, "worth": 700}
    assert found["vouchers"]["nodes"] == [{"had": had, "cancelled": 0, "used": cake, "expired": coffee}]
    first = {"reward": "coffee", "had": {"vouchers": 2, "points": 200}, "cancelled": 0, "used": 0}
    assert found["rewards"]["nodes"] == [first]
    assert found["rewards"]["pageInfo"]["hasNextPage"]
    told = json.loads(outputs["json"])
    (row,) = told["periods"]
    assert (row["promoter_score"], row["vouchers_had"], row["expired_worth"]) == (2_500, 3, 700)
    assert [each["tier"] for each in told["sales_by_tier"]] == [each["tier"] for each in told["tiers"]]
    assert [each["reward"] for each in told["rewards"]] == ["coffee", "cake"]
    (line,) = csv.DictReader(io.StringIO(outputs["csv"]))
    assert (line["promoter_score"], line["vouchers_expired"]) == ("2500", "2")
    for text in ("STAR vouchers", "STAR answers to surveys", "25.0", "STAR sales by tier", "STAR tiers now", "(none)"):
        assert text in outputs["table"], text


def test_command_writes_json_csv_and_tables(small: Year) -> None:
    wanted = ("--asset", "STAR", "--from", "2026-03-01", "--through", small.today)
    outputs = {form: guerdon(small.world, *wanted, "--format", form) for form in ("json", "csv", "table")}
    assert {(status, err) for status, _, err in outputs.values()} == {(0, "")}
    found = json.loads(outputs["json"][1])
    rows = list(csv.DictReader(io.StringIO(outputs["csv"][1])))
    assert [row["first_day"] for row in rows] == [each["first_day"] for each in found["periods"]]
    for row, each in zip(rows, found["periods"], strict=True):
        assert int(row["issued"]) == each["issued"]
        assert Fraction(row["average_basket"] or 0) == Fraction(each["amount"], max(each["purchases"], 1))
        assert row["churn"] == (f"{each['churn']['numerator']}/{each['churn']['denominator']}" if each["churn"] else "")
    assert found["cohorts"][0]["active"][0] == found["cohorts"][0]["members"]
    for text in (
        "STAR points",
        "2026-04",
        f"2026-0{small.today[6]}-01 to {small.today[8:]} ",
        "STAR newcomers",
        "Café",
        " %",
    ):
        assert text in outputs["table"][1], text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--asset", "NOPE", "--from", "2026-03-01", "--through", "2026-03-02"), "there is no asset NOPE"),
        (("--asset", "STAR", "--from", "2026-03-01", "--through", "2027-03-02"), "lies in the future"),
        (("--asset", "STAR", "--from", "2020-03-01", "--through", "2026-03-02", "--by", "day"), "periods are too many"),
    ],
)
def test_command_says_what_it_cannot_do(small: Year, arguments: tuple[str, ...], said: str) -> None:
    status, out, err = guerdon(small.world, *arguments)
    assert (status, out) == (1, "")
    assert said in err


def test_command_refuses_days_in_the_wrong_order(small: Year) -> None:
    status, _, err = guerdon(small.world, "--asset", "STAR", "--from", "2026-03-02", "--through", "2026-03-01")
    assert (status, "lies before" in err) == (2, True)
