"""The read side: pages against what a walk over all entries finds, on both databases."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.entries import Entry, decode_entry
from ledger.operations import ExpiresAfterDays, Purchase, RecordPurchases, Redeem
from ledger.queries import ALL, EntryFilter, EntryKey, Page, Sight, StatementKey
from tests.worlds import START, World, make_program, pay


class History:
    """Two merchants, four members, and fifty or so entries in which chance decides who does what."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.merchants = [world.add_merchant("A"), world.add_merchant("B")]
        for merchant, asset in zip(self.merchants, ("ALFA", "BETA"), strict=True):
            world.add_asset(merchant, asset, make_program(expiry=ExpiresAfterDays(count=30)))
        self.members = world.add_members(4)
        orders = itertools.count()
        for _ in range(8):
            for merchant, asset in zip(self.merchants, ("ALFA", "BETA"), strict=True):
                buyers = world.random.sample(self.members, 2)
                bought = tuple(
                    Purchase(
                        amount=world.random.randrange(20_000),
                        at=f"2026-0{world.random.randrange(1, 3)}-11T10:00:00.000Z",
                        member=str(buyer.account),
                        order=f"o{next(orders)}",
                    )
                    for buyer in buyers
                )
                world.record(merchant.sign(RecordPurchases, asset=asset, currency="USD", purchases=bought))
                giver, taker = world.random.sample(self.members, 2)
                world.submit(pay(giver, asset, world.random.randrange(1, 60), taker))
                amount = world.random.randrange(1, 30)
                world.submit(giver.sign(Redeem, asset=asset, amount=amount, merchant=merchant.account))
                world.clock.advance(ms=1000)

    def entries(self, connection: Connection) -> list[Entry]:
        """All entries, in order."""
        store = self.world.store
        data = store.entry_data(connection, range(store.head(connection).size))
        return [decode_entry(data[seq]) for seq in sorted(data)]


@pytest.fixture
def history(world: World) -> History:
    return History(world)


@pytest.fixture
def connection(world: World, history: History) -> Iterator[Connection]:
    with world.store.read() as connection:
        yield connection


def touches(entry: Entry, account: str, opened: dict[str, int]) -> bool:
    acted = getattr(entry.op, "actor", None) == account or opened.get(account) == entry.seq
    return acted or any(leg.account == account for leg in entry.postings)


def about(entry: Entry, asset: str) -> bool:
    defines = entry.op.KIND in {"define_asset", "publish_program"} and getattr(entry.op, "asset", None) == asset
    return defines or any(leg.asset == asset for leg in entry.postings)


def pages(world: World, connection: Connection, wanted: EntryFilter, sight: Sight, limit: int) -> list[int]:
    """All sequence numbers of a list, walked forwards page by page."""
    found: list[int] = []
    after = None
    while page := queries.entries(world.store, connection, wanted, sight, Page(limit=limit, after=after)):
        found += [stored.seq for stored in page]
        after = found[-1]
    return found


def pages_from_end(world: World, connection: Connection, wanted: EntryFilter, sight: Sight, limit: int) -> list[int]:
    found: list[int] = []
    before = None
    while page := queries.entries(
        world.store, connection, wanted, sight, Page(limit=limit, before=before, from_end=True)
    ):
        found = [stored.seq for stored in page] + found
        before = found[0]
    return found


def test_lists_of_entries_are_what_a_walk_finds(world: World, history: History, connection: Connection) -> None:
    """Every filter with every sight, forwards and from the end, in pages of three."""
    entries = history.entries(connection)
    member, other = (str(wallet.account) for wallet in history.members[:2])
    merchant = str(history.merchants[0].account)
    found = world.store.accounts(connection, [member, other, merchant])
    opened = {str(account.id): account.seq for account in found}
    sights = [ALL, Sight(account=member), Sight(account=merchant, assets=("ALFA",))]
    filters = [
        EntryFilter(account=account, asset=asset, kind=kind)
        for account in (None, member, other)
        for asset in (None, "ALFA", "BETA")
        for kind in (None, "transfer", "record_purchases")
    ]
    for sight, wanted in itertools.product(sights, filters):

        def matches(entry: Entry, sight: Sight = sight, wanted: EntryFilter = wanted) -> bool:
            return (
                (wanted.account is None or touches(entry, wanted.account, opened))
                and (wanted.asset is None or about(entry, wanted.asset))
                and (wanted.kind is None or wanted.kind == entry.op.KIND)
                and (
                    sight.everything
                    or touches(entry, sight.account, opened)
                    or any(about(entry, asset) for asset in sight.assets)
                )
            )

        expected = [entry.seq for entry in entries if matches(entry)]
        assert pages(world, connection, wanted, sight, 3) == expected, (sight, wanted)
        assert pages_from_end(world, connection, wanted, sight, 3) == expected, (sight, wanted)


def test_entry_is_found_by_each_of_its_names(world: World, history: History, connection: Connection) -> None:
    """Sequence number, leaf hash, operation id."""
    stored = queries.entry_by(world.store, connection, EntryKey(seq=7))
    assert stored is not None
    assert queries.entry_by(world.store, connection, EntryKey(leaf_hash=stored.leaf_hash)) == stored
    assert queries.entry_by(world.store, connection, EntryKey(op_id=stored.op_id)) == stored
    assert queries.entry_by(world.store, connection, EntryKey(seq=10**12)) is None


def test_balances_are_sums_of_postings(world: World, history: History, connection: Connection) -> None:
    """By asset and lot, against a walk over all entries."""
    entries = history.entries(connection)
    for wallet in history.members:
        lots: dict[tuple[str, str | None], int] = {}
        for leg in (leg for entry in entries for leg in entry.postings if leg.account == wallet.account):
            lots[(leg.asset, leg.lot)] = lots.get((leg.asset, leg.lot), 0) + leg.amount
        found = queries.balances(world.store, connection, str(wallet.account), START)
        assert {(b.asset, lot.last_day): lot.points for b in found for lot in b.lots} == {
            key: points for key, points in lots.items() if points
        }
        for balance in found:
            assert balance.total == sum(lot.points for lot in balance.lots)
            assert balance.spendable == sum(lot.points for lot in balance.lots if str(lot.last_day) >= START[:10])


def test_supply_is_what_system_accounts_took(world: World, history: History, connection: Connection) -> None:
    """Issued less spent less expired is what holders have."""
    for asset in ("ALFA", "BETA"):
        supply = queries.supply(world.store, connection, asset)
        held = 0
        for wallet in history.members:
            held += sum(b.total for b in queries.balances(world.store, connection, str(wallet.account), START, [asset]))
        assert supply.circulating == held
        assert supply.issued > 0
    assert queries.supply(world.store, connection, "NONE") == queries.Supply(issued=0, spent=0, expired=0)


def test_first_entry_at_a_time_is_found(world: World, history: History, connection: Connection) -> None:
    """By bisection, for every time there is, before the first and after the last."""
    entries = history.entries(connection)
    times = ["1999-01-01T00:00:00.000Z", *(entry.time for entry in entries), "2999-01-01T00:00:00.000Z"]
    for time in times:
        expected = next((entry.seq for entry in entries if entry.time >= time), len(entries))
        assert queries.first_seq_at(world.store, connection, time) == expected


def test_statement_pages_join(world: World, history: History, connection: Connection) -> None:
    """Whatever the page, each line has the balance a walk gives it."""
    entries = history.entries(connection)
    account = str(history.members[0].account)
    spans: list[tuple[str | None, str | None]] = [(None, None), (entries[20].time, None), (None, entries[30].time)]
    for start, end in spans:
        wanted = StatementKey(account=account, asset="ALFA", start=start, end=end)
        balance = 0
        expected = []
        opening = 0
        for entry in entries:
            for i, leg in enumerate(entry.postings):
                if leg.account != account or leg.asset != "ALFA" or (end is not None and entry.time >= end):
                    continue
                balance += leg.amount
                if start is not None and entry.time < start:
                    opening = balance
                else:
                    expected.append((entry.seq, i, leg.amount, balance))
        found: list[Any] = []
        after = None
        while True:
            page = queries.statement(world.store, connection, wanted, Page(limit=2, after=after))
            assert (page.opening, page.closing) == (opening, balance)
            if not page.lines:
                break
            found += [(line.seq, line.leg, line.amount, line.balance) for line in page.lines]
            after = (page.lines[-1].seq, page.lines[-1].leg)
        assert found == expected


def test_earnings_by_month_join_and_add_up(world: World, history: History, connection: Connection) -> None:
    """Pages by member and month, in both directions, against the purchases themselves; totals are their sums."""
    entries = history.entries(connection)
    amounts: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        if isinstance(entry.op, RecordPurchases) and entry.op.asset == "ALFA":
            for purchase in entry.op.purchases:
                amounts.setdefault((purchase.member, purchase.at[:7]), []).append(purchase.amount)
    expected = [
        (account, month, sum(amount // 100 for amount in found), len(found), sum(found))
        for (account, month), found in sorted(amounts.items())
    ]

    def rows(found: list[queries.MonthPoints]) -> list[tuple[str, str, int, int, int]]:
        return [(row.account, row.month, row.points, row.purchases, row.amount) for row in found]

    forwards: list[queries.MonthPoints] = []
    while page := queries.points_by_month(
        world.store,
        connection,
        "ALFA",
        None,
        Page(limit=2, after=(forwards[-1].account, forwards[-1].month) if forwards else None),
    ):
        forwards += page
    assert rows(forwards) == expected
    end = queries.points_by_month(world.store, connection, "ALFA", None, Page(limit=3, from_end=True))
    assert rows(end) == expected[-3:]
    before = (end[0].account, end[0].month)
    more = queries.points_by_month(world.store, connection, "ALFA", None, Page(limit=2, before=before, from_end=True))
    assert rows(more) == expected[-5:-3]
    total, months = queries.points_totals(world.store, connection, "ALFA")
    assert (total.points, total.purchases) == (sum(row[2] for row in expected), sum(row[3] for row in expected))
    assert total.members == len({row[0] for row in expected})
    assert sum(month.points for month in months) == total.points
    assert [month.month for month in months] == sorted({row[1] for row in expected})


def test_page_of_entries_costs_the_same_at_any_depth(world: World, history: History, connection: Connection) -> None:
    """No list of entries of a ledger is scanned: every source of a page is an index range (SQLite's plan says so)."""
    if world.store.is_postgres:
        pytest.skip("PostgreSQL scans tables as small as these, and rightly")
    member = str(history.members[0].account)
    for wanted, sight in [
        (EntryFilter(), ALL),
        (EntryFilter(account=member), ALL),
        (EntryFilter(asset="ALFA"), ALL),
        (EntryFilter(), Sight(account=member)),
        (EntryFilter(account=member), Sight(account=str(history.merchants[0].account), assets=("ALFA",))),
    ]:
        query = queries.entries_query(world.store, wanted, sight, Page(limit=21, after=5))
        text = query.compile(connection, compile_kwargs={"literal_binds": True}).string
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
        assert not [step for step in plan if step.startswith("SCAN") and "entry" in step], plan
        assert not [step for step in plan if step.startswith("SCAN") and "posting" in step], plan
