"""The read side: pages against what a walk over all entries finds, on both databases."""

import itertools
from collections.abc import Collection, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger import queries
from ledger.encoding import MAX_INTEGER, format_time
from ledger.entries import Entry, decode_entry
from ledger.keys import encode_public_key
from ledger.operations import CancelRecovery, Expire, OpenAccount, RecordPurchases, RecoverKeys, Redeem, Transfer
from ledger.program_terms import Band, ExpiresAfterDays
from ledger.queries import ALL, EntryFilter, EntryKey, Page, Sight, StatementKey
from ledger.sequencer import account_opened_by
from ledger.terms import Purchase, Recipient
from tests.worlds import DAY_MS, START, World, make_program, pay


class History:
    """Two merchants, four members, and seventy or so entries in which chance decides who does what."""

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
                        amount=world.random.choice((50, world.random.randrange(20_000))),
                        at=f"2026-0{world.random.randrange(1, 3)}-11T10:00:00.000Z",
                        member=str(buyer.account),
                        order=f"o{next(orders)}",
                    )
                    for buyer in buyers
                )
                world.record(merchant.sign(RecordPurchases, asset=asset, currency="USD", purchases=bought))
                giver, taker = world.random.sample(self.members, 2)
                world.submit(pay(giver, asset, world.random.randrange(1, 60), taker))
                shared = tuple(Recipient(amount=1, to=str(m.account)) for m in self.members if m is not giver)
                world.submit(giver.sign(Transfer, asset=asset, recipients=shared))
                amount = world.random.randrange(1, 30)
                world.submit(giver.sign(Redeem, asset=asset, amount=amount, merchant=merchant.account))
                world.clock.advance(ms=1000)
            self.change_keys()
        world.clock.advance(days=40)
        world.record(world.operator.sign(Expire, asset="ALFA", limit=400, through="2026-02-20"))

    def change_keys(self) -> None:
        """A recovery of someone, which someone may cancel, or a rotation may drop."""
        world, (recovered, rotated) = self.world, self.world.random.sample(range(4), 2)
        key, next_key = world.make_key(), world.make_key()
        account = self.members[recovered].account
        recovery = {"account": account, "keys": (encode_public_key(key),)}
        world.submit(world.operator.sign(RecoverKeys, co_signers=[key], **recovery))
        if canceller := world.random.choice((None, world.operator, self.members[recovered])):
            world.submit(canceller.sign(CancelRecovery, account=account))
        world.record(self.members[rotated].replace_keys([next_key]))
        self.members[rotated] = world.wallet(self.members[rotated].account, next_key)

    def entries(self, connection: Connection) -> list[Entry]:
        """All entries, in order."""
        store = self.world.store
        data = store.entry_data(connection, range(store.head(connection).size))
        return [decode_entry(data[seq]) for seq in sorted(data)]


@pytest.fixture(scope="module")
def history(shared_database_url: str) -> Iterator[History]:
    """Read by the tests that ask for it; those that record have a `world` of their own."""
    with World(shared_database_url) as world:
        yield History(world)


@pytest.fixture
def connection(history: History) -> Iterator[Connection]:
    with history.world.store.read() as connection:
        yield connection


def bought(entry: Entry, accounts: Collection[str]) -> bool:
    return isinstance(entry.op, RecordPurchases) and any(p.member in accounts for p in entry.op.purchases)


def touches(entry: Entry, account: str, opened: dict[str, int]) -> bool:
    acted = getattr(entry.op, "actor", None) == account or opened.get(account) == entry.seq
    acted = acted or account in {getattr(entry.op, "account", None), getattr(entry.op, "merchant", None)}
    return acted or bought(entry, {account}) or any(leg.account == account for leg in entry.postings)


def about(entry: Entry, asset: str, accounts: Collection[str] = ()) -> bool:
    """An asset's entries; of some accounts also purchases that earned them nothing."""
    mine = getattr(entry.op, "asset", None) == asset
    defines = entry.op.KIND in {"define_asset", "publish_program"} or bought(entry, accounts)
    return (mine and defines) or any(leg.asset == asset for leg in entry.postings)


def told(entry: Entry, account: str, sight: Sight) -> bool:
    """Whether a reader who may see an entry that touches an account is told that it does."""
    if sight.everything or account in sight.accounts or getattr(entry.op, "asset", None) in sight.assets:
        return True
    if isinstance(entry.op, Redeem) and entry.op.merchant == sight.account:
        return True
    return getattr(entry.op, "actor", None) in {account, *sight.accounts}


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


def test_lists_of_entries_are_what_a_walk_finds(history: History, connection: Connection) -> None:
    """Every filter with every sight, forwards and from the end, in pages of three."""
    entries = history.entries(connection)
    member, other = (str(wallet.account) for wallet in history.members[:2])
    merchant, operator = str(history.merchants[0].account), str(history.world.operator.account)
    found = history.world.store.accounts(connection, [member, other, merchant, operator])
    opened = {str(account.id): account.seq for account in found}
    sights = [ALL, Sight(account=member), Sight(account=merchant, assets=("ALFA",))]
    sights.append(Sight(account=merchant, assets=("ALFA",), in_custody=(other,)))
    filters = [
        EntryFilter(account=account, asset=asset, kind=kind)
        for account in (None, member, other, merchant, operator)
        for asset in (None, "ALFA", "BETA")
        for kind in (None, "transfer", "record_purchases", "recover_keys")
    ]
    for sight, wanted in itertools.product(sights, filters):

        def matches(entry: Entry, sight: Sight = sight, wanted: EntryFilter = wanted) -> bool:
            own = {*sight.accounts, wanted.account or ""}
            return (
                (wanted.account is None or touches(entry, wanted.account, opened))
                and (wanted.account is None or told(entry, wanted.account, sight))
                and (wanted.asset is None or about(entry, wanted.asset, own))
                and (wanted.kind is None or wanted.kind == entry.op.KIND)
                and (
                    sight.everything
                    or any(touches(entry, account, opened) for account in sight.accounts)
                    or getattr(entry.op, "asset", None) in sight.assets
                )
            )

        expected = [entry.seq for entry in entries if matches(entry)]
        assert pages(history.world, connection, wanted, sight, 3) == expected, (sight, wanted)
        assert pages_from_end(history.world, connection, wanted, sight, 3) == expected, (sight, wanted)


def test_entry_is_found_by_each_of_its_names(history: History, connection: Connection) -> None:
    """Sequence number, leaf hash, operation id."""
    stored = queries.entry_by(history.world.store, connection, EntryKey(seq=7))
    assert stored is not None
    assert queries.entry_by(history.world.store, connection, EntryKey(leaf_hash=stored.leaf_hash)) == stored
    assert queries.entry_by(history.world.store, connection, EntryKey(op_id=stored.op_id)) == stored
    assert queries.entry_by(history.world.store, connection, EntryKey(seq=10**12)) is None


def test_balances_are_sums_of_postings(history: History, connection: Connection) -> None:
    """By asset and lot, against a walk over all entries."""
    entries = history.entries(connection)
    for wallet in history.members:
        lots: dict[tuple[str, str | None], int] = {}
        for leg in (leg for entry in entries for leg in entry.postings if leg.account == wallet.account):
            lots[(leg.asset, leg.lot)] = lots.get((leg.asset, leg.lot), 0) + leg.amount
        found = queries.balances(history.world.store, connection, str(wallet.account), START)
        assert {(b.asset, lot.last_day): lot.points for b in found for lot in b.lots} == {
            key: points for key, points in lots.items() if points
        }
        for balance in found:
            assert balance.total == sum(lot.points for lot in balance.lots)
            assert balance.spendable == sum(lot.points for lot in balance.lots if str(lot.last_day) >= START[:10])


def test_supply_is_what_system_accounts_took(history: History, connection: Connection) -> None:
    """Issued less spent less expired is what holders have."""
    for asset in ("ALFA", "BETA"):
        supply = queries.supply(history.world.store, connection, asset)
        held = 0
        for wallet in history.members:
            held += sum(
                b.total for b in queries.balances(history.world.store, connection, str(wallet.account), START, [asset])
            )
        assert supply.circulating == held
        assert supply.issued > 0
    assert queries.supply(history.world.store, connection, "NONE") == queries.Supply(issued=0, spent=0, expired=0)


def test_first_entry_at_a_time_is_found(history: History, connection: Connection) -> None:
    """By bisection, for every time there is, before the first and after the last."""
    entries = history.entries(connection)
    times = ["1999-01-01T00:00:00.000Z", *(entry.time for entry in entries), "2999-01-01T00:00:00.000Z"]
    for time in times:
        expected = next((entry.seq for entry in entries if entry.time >= time), len(entries))
        assert queries.first_seq_at(history.world.store, connection, time) == expected


def test_statement_pages_join(history: History, connection: Connection) -> None:
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
            page = queries.statement(history.world.store, connection, wanted, Page(limit=2, after=after))
            assert (page.opening, page.closing) == (opening, balance)
            if not page.lines:
                break
            found += [(line.seq, line.leg, line.amount, line.balance) for line in page.lines]
            after = (page.lines[-1].seq, page.lines[-1].leg)
        assert found == expected
        for limit, before in ((2, None), (3, expected[-1][:2])):
            page = queries.statement(
                history.world.store, connection, wanted, Page(limit=limit, before=before, from_end=True)
            )
            tail = [line for line in expected if before is None or line[:2] < before][-limit:]
            assert [(line.seq, line.leg, line.amount, line.balance) for line in page.lines] == tail


def test_statement_without_a_span_sums_no_history_for_its_ends(history: History, connection: Connection) -> None:
    """The balance is the lots'; the first page needs no posting before it, the last none after it."""
    wanted = StatementKey(account=str(history.members[0].account), asset="ALFA")
    statements: list[str] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
    for page in (Page(limit=2), Page(limit=2, from_end=True)):
        statements.clear()
        queries.statement(history.world.store, connection, wanted, page)
        sums = [text for text in statements if "sum(posting" in text]
        # One sum is left, over the empty range between the end of the list and the page.
        assert len(sums) == 1
        assert " < " in sums[0]
        assert "(posting.seq, posting.leg)" in sums[0]


def test_earnings_by_month_join_and_add_up(history: History, connection: Connection) -> None:
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
        history.world.store,
        connection,
        "ALFA",
        None,
        Page(limit=2, after=(forwards[-1].account, forwards[-1].month) if forwards else None),
    ):
        forwards += page
    assert rows(forwards) == expected
    end = queries.points_by_month(history.world.store, connection, "ALFA", None, Page(limit=3, from_end=True))
    assert rows(end) == expected[-3:]
    before = (end[0].account, end[0].month)
    more = queries.points_by_month(
        history.world.store, connection, "ALFA", None, Page(limit=2, before=before, from_end=True)
    )
    assert rows(more) == expected[-5:-3]
    total, months = queries.points_totals(history.world.store, connection, "ALFA")
    assert (total.points, total.purchases) == (sum(row[2] for row in expected), sum(row[3] for row in expected))
    assert total.members == len({row[0] for row in expected})
    assert sum(month.points for month in months) == total.points
    assert [month.month for month in months] == sorted({row[1] for row in expected})
    member = expected[0][0]
    own = [row for row in expected if row[0] == member]
    total, months = queries.points_totals(history.world.store, connection, "ALFA", member)
    assert (total.points, total.purchases, total.members) == (sum(r[2] for r in own), sum(r[3] for r in own), 1)
    assert [(month.month, month.amount) for month in months] == [(row[1], row[4]) for row in own]


def test_amounts_are_summed_beyond_any_integer(world: World) -> None:
    """Purchases of the largest amount there is, which earn nothing: 1,100 of them pass 2^63."""
    merchant, member = world.add_merchant(), world.add_member()
    dear = make_program(bands=(Band(from_amount=0, points=0, per=1),))
    world.add_asset(merchant, "DEAR", dear)
    for batch in range(4):
        bought = tuple(
            Purchase(
                amount=MAX_INTEGER, at="2026-01-05T10:00:00.000Z", member=str(member.account), order=f"{batch}-{i}"
            )
            for i in range(275)
        )
        world.record(merchant.sign(RecordPurchases, asset="DEAR", currency="USD", purchases=bought))
    with world.store.read() as connection:
        total, months = queries.points_totals(world.store, connection, "DEAR")
        (row,) = queries.points_by_month(world.store, connection, "DEAR", None, Page(limit=2))
    assert total.amount == months[0].amount == row.amount == 1_100 * MAX_INTEGER > 2**63


def test_account_is_where_the_index_of_entries_looks_for_it(history: History, connection: Connection) -> None:
    """Canonical bytes begin with it in each entry of these kinds, and in no other place of it the index would find."""
    found = 0
    for entry, (seq, data) in zip(
        history.entries(connection),
        sorted(history.world.store.entry_data(connection, range(history.world.store.head(connection).size)).items()),
        strict=True,
    ):
        assert entry.seq == seq
        if isinstance(entry.op, RecoverKeys | CancelRecovery):
            found += 1
            assert data[18:48].decode() == entry.op.account
    assert found > 8


def test_authority_is_what_the_next_entry_would_be_held_to(world: World) -> None:
    """By the clock or the last entry, whichever is later; of an account in custody, its custodian's."""
    merchant, alice = world.add_merchant(), world.add_member()
    (opened,) = world.record(merchant.sign(OpenAccount, role="member"))
    member, keys = account_opened_by(opened), {name: world.make_key() for name in ("alice", "member", "merchant")}

    def public(key: Any) -> tuple[str, ...]:
        return (encode_public_key(key),)

    for key, account in ((keys["alice"], alice.account), (keys["member"], member)):
        world.record(world.operator.sign(RecoverKeys, co_signers=[key], account=account, keys=public(key)))
    world.record(merchant.replace_keys([keys["merchant"]]))

    def authority(account: str | None, ms: int = 0) -> tuple[Any, ...]:
        with world.store.read() as connection:
            found = queries.authority(world.store, connection, str(account), format_time(world.clock() + ms))
        assert found is not None
        return found.keys, found.keys_seq, found.account.custodian, found.time

    now, effective = format_time(world.clock()), format_time(world.clock() + 7 * DAY_MS)
    alice_seq = opened.seq + 1
    assert authority(alice.account, -5_000) == (public(alice.keys[0]), opened.seq - 1, None, now)
    assert authority(member) == (public(keys["merchant"]), opened.seq + 3, merchant.account, now)
    assert authority(alice.account, 7 * DAY_MS) == (public(keys["alice"]), alice_seq, None, effective)
    assert authority(member, 7 * DAY_MS) == (public(keys["member"]), alice_seq + 1, None, effective)
    with world.store.read() as connection:
        assert queries.authority(world.store, connection, "mem_" + "a" * 26, now) is None


# PostgreSQL scans tables as small as these, and rightly: it is SQLite's plans that are read.
ON_SQLITE = pytest.mark.parametrize("shared_database_url", ["sqlite"], indirect=True, scope="module")


@ON_SQLITE
def test_page_of_entries_costs_the_same_at_any_depth(history: History, connection: Connection) -> None:
    """No list of entries of a ledger is scanned: every source of a page is an index range (SQLite's plan says so)."""
    member, other = (str(wallet.account) for wallet in history.members[:2])
    merchant = Sight(account=str(history.merchants[0].account), assets=("ALFA",))
    for wanted, sight in [
        (EntryFilter(), ALL),
        (EntryFilter(account=member), ALL),
        (EntryFilter(asset="ALFA"), ALL),
        (EntryFilter(), Sight(account=member)),
        (EntryFilter(account=member), merchant),
        (EntryFilter(kind="expire"), ALL),
        (EntryFilter(asset="ALFA"), Sight(account=member)),
        (EntryFilter(account=other), Sight(account=member)),
        (EntryFilter(account=other, asset="BETA"), merchant),
    ]:
        plan = plan_of(history.world, connection, wanted, sight)
        for table in ("entry", "posting", "earning"):
            assert not [step for step in plan if step.startswith("SCAN") and table in step], plan


def plan_of(world: World, connection: Connection, wanted: EntryFilter, sight: Sight) -> list[str]:
    """How SQLite reads a page of entries."""
    query = queries.entries_query(world.store, wanted, sight, Page(limit=21, after=5))
    text = query.compile(connection, compile_kwargs={"literal_binds": True}).string
    return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]


@ON_SQLITE
def test_lists_of_entries_use_the_indexes_made_for_them(history: History, connection: Connection) -> None:
    """Acts by the partial index, kinds by theirs, purchases that earned nothing by that of earnings."""
    member = str(history.members[0].account)
    own = "\n".join(plan_of(history.world, connection, EntryFilter(), Sight(account=member)))
    assert "INDEX entry_actor (ledger_id=? AND actor=? AND seq>?)" in own
    assert "INDEX earning_nothing (ledger_id=? AND account=? AND seq>?)" in own
    assert "INDEX posting_account (ledger_id=? AND account=?)" in own
    assert "INDEX entry_account (ledger_id=? AND <expr>=? AND seq>?)" in own
    kinds = "\n".join(plan_of(history.world, connection, EntryFilter(kind="expire"), ALL))
    assert "INDEX entry_kind (ledger_id=? AND kind=? AND seq>?)" in kinds


@ON_SQLITE
def test_reader_is_not_led_along_the_postings_of_others(history: History, connection: Connection) -> None:
    """A member's lists begin at its own postings, whomever and whatever the filter names."""
    member, other = (str(wallet.account) for wallet in history.members[:2])
    for wanted in (EntryFilter(asset="ALFA"), EntryFilter(account=other), EntryFilter(account=other, asset="ALFA")):
        sources = queries._Matching(history.world.store.ledger_id, wanted, Sight(account=member)).sources()
        assert sources is not None
        for query, _ in sources:
            text = query.compile(connection, compile_kwargs={"literal_binds": True}).string
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
            begins = ("INDEX posting_account", "INDEX earning_nothing", "INDEX entry_actor", "INDEX entry_account")
            keys = ("SEARCH account_1 USING", "SEARCH party_1 USING", "INDEX claim_creditor", "INDEX claim_debtor")
            assert any(begin in plan[0] for begin in (*begins, *keys)), plan
            of_own = ("account=?", "actor=?", "<expr>=?", "creditor=?", "debtor=?")
            assert any(key in plan[0] for key in of_own), plan
