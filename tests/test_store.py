"""The database's own guarantees: what it refuses, what it keeps apart, and in which order it answers."""

import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from ledger.bulk import delete_rows, insert_rows, write_rows
from ledger.encoding import AccountId, OpId, format_time
from ledger.entries import NO_LAST_DAY, decode_entry
from ledger.keys import encode_public_key
from ledger.operations import Expire, Hold, Remind
from ledger.program_terms import ExpiresAfterDays, Reminders
from ledger.sequencer import Recorded, create_ledger
from ledger.state import RECORDS, Code, Rejection, State, Touches
from ledger.store import (
    Changes,
    CorruptionError,
    Store,
    StoreError,
    UnavailableError,
    account_row,
    changed_account_row,
    open_engine,
)
from ledger.tables import ACCOUNT, IMMUTABLE_TABLES, LOT, METADATA, RECORD_TABLES, USAGE
from tests.partners import trade
from tests.postgres import fresh_database
from tests.reference import check_projections
from tests.roastery import Roastery
from tests.worlds import World, make_program, pay

Names = dict[str, Any]

CHANGES: dict[str, str] = {
    "update": "UPDATE {table} SET ledger_id = ledger_id",
    "update of one column": "UPDATE {table} SET ledger_id = 2 WHERE ledger_id = 1",
    "delete": "DELETE FROM {table}",
}
SQLITE_CHANGES: dict[str, str] = {
    "insert or replace": "INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
    "replace": "REPLACE INTO {table} SELECT * FROM {table}",
    "update or ignore": "UPDATE OR IGNORE {table} SET ledger_id = 2",
}
POSTGRES_CHANGES: dict[str, str] = {
    "truncate": "TRUNCATE {table}",
    "truncate cascade": "TRUNCATE head, {table} CASCADE",
    "merge": ("MERGE INTO {table} AS t USING {table} AS s ON t.ledger_id = s.ledger_id WHEN MATCHED THEN DELETE"),
}


def fill_every_table(world: World) -> None:
    """Record enough that each append-only table has rows, a full tile among them."""
    shop = world.add_merchant()
    world.add_asset(shop)
    members = world.add_members(260)
    world.grant(shop, "STAR", members[0], 10)


def rows_of(world: World, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table, in a fixed order."""
    with world.store.read() as connection:
        return sorted(tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}"))


def execute(world: World, statement: str) -> None:
    """Run a statement as the application would: on a write transaction of its own engine."""
    with world.store.write() as transaction:
        transaction.connection.exec_driver_sql(statement)


def test_record_refuses_every_change(world: World) -> None:
    """Entries, postings and tiles cannot be updated, deleted, replaced or truncated by the application."""
    fill_every_table(world)
    changes = CHANGES | (POSTGRES_CHANGES if world.store.is_postgres else SQLITE_CHANGES)
    for table in IMMUTABLE_TABLES:
        before = rows_of(world, table)
        assert before
        for name, statement in changes.items():
            with pytest.raises(sa.exc.IntegrityError, match=f"{table} is append-only"):
                execute(world, statement.format(table=table))
            assert rows_of(world, table) == before, name


def test_record_refuses_upserts(world: World) -> None:
    """ON CONFLICT DO UPDATE does not slip past the triggers."""
    fill_every_table(world)
    for table in IMMUTABLE_TABLES:
        with pytest.raises(sa.exc.IntegrityError, match=f"{table} is append-only"):
            execute(
                world,
                f"INSERT INTO {table} SELECT * FROM {table} WHERE ledger_id = 1 "
                f"ON CONFLICT ({primary_key(table)}) DO UPDATE SET ledger_id = 3",
            )


def primary_key(table: str) -> str:
    return ", ".join(f'"{column.name}"' for column in METADATA.tables[table].primary_key)


def test_two_entries_never_share_an_operation(world: World) -> None:
    """The database itself refuses a second entry with the same operation id, should the code ever fail to."""
    values = "ledger_id, seq + 1, zeroblob(32)" if not world.store.is_postgres else "ledger_id, seq + 1, '\\x00'::bytea"
    statement = f"INSERT INTO entry SELECT {values}, op_id, kind, actor, time, data FROM entry WHERE seq = 0"
    with pytest.raises(sa.exc.IntegrityError, match=r"op_id"):
        execute(world, statement)


def test_failed_transaction_leaves_nothing_behind(world: World) -> None:
    """What was written before an exception is rolled back, and the lock is free again."""
    with pytest.raises(ZeroDivisionError), world.store.write() as transaction:  # noqa: PT012
        insert_rows(transaction.connection, LOT, 1, [("mem_x", "STAR", NO_LAST_DAY, 5)])
        _ = 1 // 0
    assert rows_of(world, "lot") == []
    with world.store.write() as transaction:
        assert transaction.lock_head().size == 1


def test_two_ledgers_in_one_database_never_mix(database_url: str) -> None:
    """The same codes, references and days on two ledgers stay two things: expiring one's points leaves the other's."""
    with (
        World(database_url, origin="ledger.example/one") as one,
        World(database_url, origin="ledger.example/two") as two,
    ):
        for world in (one, two):
            shop = world.add_merchant()
            world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=1)))
            alice, bob = world.add_members(2)
            world.grant(shop, "STAR", alice, 101)
            world.record(pay(alice, "STAR", 10, bob))
        two.clock.advance(days=3)
        (expired,) = two.record(two.operator.sign(Expire, asset="STAR", limit=10, through="2026-03-03"))
        assert [posting.amount for posting in decode_entry(expired.data).postings] in ([-91, -10, 101], [-10, -91, 101])
        for world, size, sums in ((one, 8, 101), (two, 9, 0)):
            with world.store.read() as connection:
                assert world.store.head(connection).size == size
                held = sa.text("SELECT coalesce(sum(points), 0) FROM lot WHERE ledger_id = :id AND account LIKE 'mem%'")
                assert connection.execute(held, {"id": world.store.ledger_id}).scalar() == sums


def test_operation_of_one_ledger_is_unknown_to_the_other(database_url: str) -> None:
    """Looking up an operation or an entry finds the ledger's own record only."""
    with (
        World(database_url, origin="ledger.example/one") as one,
        World(database_url, origin="ledger.example/two") as two,
    ):
        op_id = one.genesis.op_id
        with two.store.read() as connection:
            assert one.store.recorded(connection, [op_id]) == {op_id: 0}
            assert two.store.recorded(connection, [op_id]) == {}
            assert two.store.entry_data(connection, [0]) == {0: two.genesis.data}


def test_ledger_is_founded_once(world: World) -> None:
    """A second genesis under the same origin is refused, and the first stays as it is."""
    with pytest.raises(StoreError, match="is there already"):
        create_ledger(world.store, world._sign_genesis(world.make_key()), world.log_key, world.clock)
    with world.store.read() as connection:
        assert world.store.head(connection).size == 1
        assert world.store.entry_data(connection, [0]) == {0: world.genesis.data}


def test_refused_genesis_founds_nothing(world: World) -> None:
    """A ledger whose entry 0 is refused is not there at all: here the genesis of another origin."""
    store = Store(world.engine, "ledger.example/other")
    with pytest.raises(StoreError, match="WRONG_LEDGER"):
        create_ledger(store, world._sign_genesis(world.make_key()), world.log_key, world.clock)
    assert len(rows_of(world, "head")) == 1


AWKWARD_ORDER = ["A", "B", "Z", "_", "a", "a-b", "a_b", "aa", "b", "ä"]
"""Bytewise order; any locale would put these in another."""


def test_due_lots_come_in_bytewise_order(world: World) -> None:
    """Which lots an expiry takes first does not depend on the database's locale."""
    assert sorted(AWKWARD_ORDER, key=str.encode) == AWKWARD_ORDER
    rows = [(account, "STAR", "2026-01-01", 1) for account in reversed(AWKWARD_ORDER)]
    rows.append(("a", "STAR", "2025-12-31", 1))
    with world.store.write() as transaction:
        insert_rows(transaction.connection, LOT, world.store.ledger_id, rows)
    with world.store.read() as connection:
        for limit in range(1, len(rows) + 1):
            found = world.store.due_lots(connection, "STAR", "2026-01-01", limit, without=[])
            expected = [("a", "2025-12-31", 1), *((account, "2026-01-01", 1) for account in AWKWARD_ORDER)]
            assert found == expected[:limit]
        without = world.store.due_lots(connection, "STAR", "2026-01-01", 10, without=["a"])
        assert [account for account, _, _ in without] == [account for account in AWKWARD_ORDER if account != "a"]


def test_lot_of_no_points_has_no_row(world: World) -> None:
    """Spending a lot to the last point removes it, so that no query has to skip empty ones."""
    shop = world.add_merchant()
    world.add_asset(shop)
    alice, bob = world.add_members(2)
    world.grant(shop, "STAR", alice, 10)
    world.record(pay(alice, "STAR", 10, bob))
    assert [(row[1], row[4]) for row in rows_of(world, "lot")] == sorted([(bob.account, 10), ("sys_issued", -10)])


def test_missing_leaves_and_tiles_are_corruption(world: World) -> None:
    """A gap is never papered over: reading a range that is not all there raises."""
    with world.store.read() as connection:
        assert len(world.store.leaf_hashes(connection, 0, 1)) == 1
        with pytest.raises(CorruptionError, match="entries are missing between 0 and 2"):
            world.store.leaf_hashes(connection, 0, 2)
        with pytest.raises(CorruptionError, match="tiles of level 0 are missing"):
            world.store.tile_roots(connection, 0, 0, 1)


def test_account_that_is_not_stored_cannot_change(world: World) -> None:
    """A change that meets no row is corruption, and nothing of its batch stays."""
    alice = world.add_member()
    with world.store.read() as connection:
        head = world.store.head(connection)
        (account,) = world.store.accounts(connection, [str(alice.account)])
    before = rows_of(world, "account")
    lost = msgspec.structs.replace(account, id=AccountId("mem_" + "a" * 26))
    rows = [changed_account_row(msgspec.structs.replace(one, threshold=2)) for one in (account, lost)]
    with pytest.raises(CorruptionError, match="of 2 accounts to change only 1"), world.store.write() as transaction:
        transaction.write(Changes(changed_accounts=rows), head)
    assert rows_of(world, "account") == before


def test_accounts_change_in_one_ledger_alone(database_url: str) -> None:
    """Two ledgers that hold the same account: what changes in one stays in the other."""
    with (
        World(database_url, origin="ledger.example/one") as one,
        World(database_url, origin="ledger.example/two") as two,
    ):
        alice = one.add_member()
        with one.store.read() as connection:
            (account,) = one.store.accounts(connection, [str(alice.account)])
        with two.store.write() as transaction:
            insert_rows(transaction.connection, ACCOUNT, two.store.ledger_id, [account_row(account)])
        one.record(alice.replace_keys([one.make_key()]))
        with two.store.read() as connection:
            assert two.store.accounts(connection, [account.id]) == [account]
            assert one.store.accounts(connection, [account.id]) != [account]
            assert [seq for seq, _ in one.store.log_keys(connection)] == [0]
            assert one.store.log_keys(connection) != two.store.log_keys(connection)


def test_recovery_is_read_as_it_was_written(world: World) -> None:
    """The row of an account says all of it: an account that is read and written again is the same row."""
    alice = world.add_member()
    keys = [world.make_key() for _ in range(3)]
    (recorded,) = world.record(world.recover(alice, *keys, threshold=2))
    with world.store.read() as connection:
        (account,) = world.store.accounts(connection, [str(alice.account)])
        (row,) = connection.execute(sa.select(ACCOUNT).where(ACCOUNT.c.account == alice.account)).all()
    assert tuple(row)[1:] == account_row(account)
    recovery = account.recovery
    assert recovery is not None
    assert (recovery.keys, recovery.threshold, recovery.seq) == (tuple(map(encode_public_key, keys)), 2, recorded.seq)


# Records of agreements, holds, claims and their like


@pytest.mark.parametrize("name", RECORDS)
def test_table_of_records_has_their_fields(name: str) -> None:
    """In their order, those of the key first, so that rows and records stand for each other."""
    kept, records = RECORD_TABLES[name], State("").records(name)
    assert kept.columns == records.record_type.__struct_fields__
    assert kept.key == kept.columns[: records.key_size]
    assert set(kept.group) <= set(kept.columns)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def partners(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Names]]:
    """A ledger with every kind of record, which tests may add to, and what they call its parts."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('partners') / 'ledger.sqlite'}"
        else:
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        world = stack.enter_context(World(url))
        names = trade(world)
        remind(world, Roastery(world))
        yield world, names


def remind(world: World, roastery: Roastery) -> None:
    """Let a member hear of its balance."""
    world.add_asset(roastery.shop, "NEWS", make_program(reminders=Reminders(balance="year")))
    world.grant(roastery.shop, "NEWS", roastery.eve, 5)
    world.record(roastery.shop.sign(Remind, about="balance", asset="NEWS", members=[roastery.eve.account]))


def load_records(world: World, *, groups: Iterable[Any] = (), records: Iterable[Any] = ()) -> State:
    """The state that holds some records, named by key or by group."""
    needs = Touches.none()
    needs.groups.update(groups)
    needs.records.update(records)
    with world.store.read() as connection:
        return world.store.load_state(connection, needs)


def test_records_are_found_by_their_keys(partners: tuple[World, Names]) -> None:
    """Each as replay has it, its parts and terms included; what is not there is just not found."""
    world, _ = partners
    whole = check_projections(world.store)
    for name in RECORDS:
        keys = [(name, whole.records(name).key_of(record)) for record in whole.records(name)]
        assert keys
        found = load_records(world, records=keys)
        assert [len(found.records(other)) for other in RECORDS if other != name] == [0] * (len(RECORDS) - 1)
        assert sorted(map(repr, found.records(name))) == sorted(map(repr, whole.records(name)))
        assert not found.records(name).changed
    absent = load_records(world, records=[("claims", (7, 7)), ("holds", ("hld_x",)), ("usages", ("x", "*", "2026"))])
    assert [list(absent.records(name)) for name in RECORDS] == [[]] * len(RECORDS)


def test_records_are_found_by_their_groups(partners: tuple[World, Names]) -> None:
    """All agreements or those of one name, what is owed in a currency or between two, and the open holds of one."""
    world, names = partners
    whole = check_projections(world.store)
    ann, mint, bakery = (names[name] for name in ("ann", "mint", "bakery"))
    assert list(load_records(world, groups=[("holds", (ann, "COIN"))]).holds) == []
    held = [
        world.wallet(ann, *names["ann_keys"]).sign(
            Hold, amount=amount, asset="COIN", merchant=bakery, until=format_time(world.clock.now_ms + 60_000)
        )
        for amount in (3, 4)
    ]
    world.record(*held)

    def found(name: str, *group: str) -> list[Any]:
        return list(load_records(world, groups=[(name, group)]).records(name))

    assert sorted(hold.amount for hold in found("holds", ann, "COIN")) == [3, 4]
    assert found("holds", ann, "BEAN") == found("holds", bakery, "COIN") == []
    assert sorted(map(repr, found("agreements"))) == sorted(map(repr, whole.agreements))
    assert found("agreements", "COIN>BEAN") == whole.agreements.group("COIN>BEAN") != []
    assert found("agreements", "BEAN>COIN") == []
    assert sorted(map(repr, found("obligations", "USD"))) == sorted(map(repr, whole.obligations))
    assert found("obligations", "EUR") == []
    between = whole.obligations.group("USD", bakery, mint) + whole.obligations.group("USD", mint, bakery)
    assert found("obligations", "USD", bakery, mint) + found("obligations", "USD", mint, bakery) == between != []


def test_more_is_loaded_without_undoing_what_has_changed(partners: tuple[World, Names]) -> None:
    """A record that a batch has written, or removed, stays so; a lot that is there already is not counted twice."""
    world, names = partners
    bakery = names["bakery"]
    state = load_records(world, groups=[("agreements", ()), ("obligations", ("USD",))])
    first = state.agreements.group("COIN>BEAN")[0]
    state.agreements.change(("COIN>BEAN", 1), msgspec.structs.replace(first, ends="2030-01-01T00:00:00.000Z"))
    gone = next(iter(state.obligations))
    state.obligations.change(state.obligations.key_of(gone), None)
    kept = {name: list(state.records(name)) for name in RECORDS}
    state.add_lot(bakery, "COIN", NO_LAST_DAY, 1)
    needs = Touches.none()
    needs.groups.update({("agreements", ("COIN>BEAN",)), ("obligations", (gone.currency, gone.debtor))})
    needs.balances.update({(bakery, "COIN"), (bakery, "USD")})
    with world.store.read() as connection:
        world.store.load_more(connection, state, needs, but_lots={(bakery, "COIN", NO_LAST_DAY)})
    assert {name: list(state.records(name)) for name in RECORDS} == kept
    assert state.balance(bakery, "COIN") == 1
    assert state.balance(bakery, "USD") == check_projections(world.store).balance(bakery, "USD") != 0


def test_references_are_found_where_their_scope_is_kept(partners: tuple[World, Names]) -> None:
    """Those of orders and grants with the earnings, those of refunds and the like by themselves."""
    world, names = partners
    mint, bakery = names["mint"], names["bakery"]
    used = {
        (mint, "order", "c-1"): names["coin_purchase"],
        (bakery, "refund", "back-0"): names["refund"],
        (mint, "correction", "sorry-1"): names["correct"],
        (mint, "allotment", "block-1"): names["allot"],
        (names["creditor"], "payment", "bank-1"): names["settle"],
    }
    needs = Touches.none()
    needs.references.update(used)
    needs.references.update({(mint, "refund", "back-0"), (bakery, "order", "c-1"), (mint, "payment", "c-1")})
    needs.earnings.update({(bakery, "order", "b-1"), (mint, "order", "b-1")})
    with world.store.read() as connection:
        state = world.store.load_state(connection, needs)
    assert state.references == used
    assert state.earnings == {
        key: value for key, value in check_projections(world.store).earnings.items() if key[2] == "b-1"
    }
    ((asset, earning),) = state.earnings.values()
    assert (asset, earning.points, earning.version, earning.agreement_version) == ("COIN", 60, 1, 1)


def test_rows_are_written_in_place_of_others_and_deleted(world: World) -> None:
    """Any number of them in one statement; in one ledger alone, and a key that is not there is no error."""
    ledger_id = world.store.ledger_id
    many = [("s", f"mem_{i}", "2026", i) for i in range(3_000)]
    with world.store.write() as transaction:
        connection = transaction.connection
        write_rows(connection, USAGE, ledger_id + 1, many[:2])
        write_rows(connection, USAGE, ledger_id, many)
        write_rows(connection, USAGE, ledger_id, [("s", "mem_1", "2026", 9), ("t", "mem_1", "2026", 5)])
        write_rows(connection, USAGE, ledger_id, [])
        delete_rows(connection, USAGE, ledger_id, [row[:3] for row in many[2:]] + [("s", "mem_x", "2026")])
        delete_rows(connection, USAGE, ledger_id, [])
    assert [row[1:] for row in rows_of(world, "usage") if row[0] == ledger_id] == [
        ("s", "mem_0", "2026", 0),
        ("s", "mem_1", "2026", 9),
        ("t", "mem_1", "2026", 5),
    ]
    assert [row[1:] for row in rows_of(world, "usage") if row[0] != ledger_id] == many[:2]


def test_account_and_asset_are_read_as_they_were_written(partners: tuple[World, Names]) -> None:
    """What needs approval, what is frozen, what a recovery will bring, and the terms of transfers."""
    world, _ = partners
    whole = check_projections(world.store)
    with world.store.read() as connection:
        accounts = world.store.accounts(connection, whole.accounts)
        assets = world.store.assets(connection, whole.assets)
    assert {account.id: account for account in accounts} == whole.accounts
    assert {asset.code: asset for asset in assets} == whole.assets
    assert {account.approval_threshold for account in accounts} == {None, 2}
    assert {account.frozen_reason for account in accounts} == {None, "stolen_points"}
    assert [a.recovery.approval_threshold for a in accounts if a.recovery is not None] == [2]
    assert {asset.transfer_terms is None for asset in assets} == {True, False}


def test_lookups_take_any_number_of_values(world: World) -> None:
    """A batch of thousands of keys is one lookup, not an error about too many parameters."""
    with world.store.read() as connection:
        ids = [OpId(i.to_bytes(32, "big")) for i in range(12_000)]
        assert world.store.recorded(connection, [*ids, world.genesis.op_id]) == {world.genesis.op_id: 0}
        accounts = world.store.accounts(connection, [f"mem_{i}" for i in range(12_000)] + [str(world.operator.account)])
        assert [account.id for account in accounts] == [world.operator.account]


def test_reader_sees_one_moment(world: World) -> None:
    """What is recorded while a reader reads does not show until it begins anew."""
    with world.store.read() as connection:
        before = world.store.head(connection)
        world.add_member()
        assert world.store.head(connection) == before
        assert world.store.entry_data(connection, [1]) == {}
    with world.store.read() as connection:
        assert world.store.head(connection).size == 2


@pytest.mark.postgres
def test_reader_cannot_write_on_postgresql(postgres_database: str) -> None:
    """A read transaction refuses to write."""
    with (
        World(postgres_database) as world,
        world.store.read() as connection,
        pytest.raises(sa.exc.InternalError, match="read-only transaction"),
    ):
        connection.exec_driver_sql("DELETE FROM lot")


def test_sqlite_waits_for_the_disk(tmp_path: Path) -> None:
    """Every SQLite connection is in WAL mode with synchronous=FULL: success is told only of what is on disk."""
    engine = open_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA recursive_triggers").scalar() == 1
    engine.dispose()


def test_writer_excludes_strangers_from_sqlite(tmp_path: Path) -> None:
    """While a write transaction is open, not even a program that knows nothing of turns can begin another."""
    path = tmp_path / "ledger.sqlite"
    with (
        World(f"sqlite:///{path}") as world,
        closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as stranger,
    ):
        with world.store.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("BEGIN IMMEDIATE")
        stranger.execute("BEGIN IMMEDIATE")
        stranger.execute("ROLLBACK")


def test_new_sqlite_database_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """Connections that switch a fresh file to WAL at the same moment wait for each other."""

    def open_it(engine: sa.Engine) -> str:
        with engine.connect() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    for number in range(50):
        engines = [open_engine(f"sqlite:///{tmp_path / str(number)}") for _ in range(4)]
        with ThreadPoolExecutor(len(engines)) as pool:
            assert list(pool.map(open_it, engines)) == ["wal"] * 4
        for engine in engines:
            engine.dispose()


def test_refusal_is_not_recorded(world: World) -> None:
    """A rejected operation leaves no row in any table."""
    tables = sorted(METADATA.tables)
    before = {table: rows_of(world, table) for table in tables}
    stranger = world.wallet(str(world.operator.account), world.make_key())
    (outcome,) = world.submit(pay(stranger, "STAR", 1, world.wallet("mem_" + "a" * 26)))
    assert isinstance(outcome, Rejection)
    assert outcome.code is Code.SIGNATURE_MISSING
    assert not isinstance(outcome, Recorded)
    assert {table: rows_of(world, table) for table in tables} == before


# Files and messages


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_files_of_a_sqlite_ledger_are_the_owners_alone(tmp_path: Path, umask: int) -> None:
    """Database, log, index and turn file hold every member's movements: mode 0600 whatever the umask allows."""
    folder = tmp_path / "made" / "for it"
    before = os.umask(umask)
    try:
        with World(f"sqlite:///{folder / 'ledger.sqlite'}") as world:
            world.add_member()
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert modes.keys() >= {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm", "ledger.sqlite-turn"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_mode_an_owner_gave_a_database_stays(tmp_path: Path) -> None:
    """A file that is there was shared on purpose, or not; either way its mode is its owner's to change."""
    path = tmp_path / "ledger.sqlite"
    path.touch(0o640)
    path.chmod(0o640)
    with World(f"sqlite:///{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_database_in_a_folder_that_cannot_be_made_into_is_refused(tmp_path: Path) -> None:
    """Making the file fails quietly, and SQLite says what is wrong."""
    path = tmp_path / "ledger.sqlite"
    path.mkdir()
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(sa.exc.OperationalError, match="unable to open database file"):
        engine.connect()
    engine.dispose()


SECRET = "mem_that_nobody_else_should_read"


def test_error_shows_no_rows(database_url: str) -> None:
    """What a database could not do is told without the rows it was given: they stay out of every log."""
    with World(database_url) as world:
        with pytest.raises((sa.exc.DBAPIError, StoreError)) as raised, world.store.read() as connection:
            connection.execute(sa.text("INSERT INTO nowhere VALUES (:x)"), {"x": SECRET})
        assert SECRET not in str(raised.value)


def test_unavailable_database_is_told_in_the_drivers_words(world: World) -> None:
    """Of a statement that failed, neither its text nor its rows are in the message."""
    orig = Exception("disk I/O error")
    failed = sa.exc.OperationalError("SELECT secret FROM lot WHERE account = ?", (SECRET,), orig)
    with pytest.raises(UnavailableError) as caught, world.store.read():
        raise failed
    assert str(caught.value) == "the database did not answer: disk I/O error"


def test_full_pool_is_told_too(world: World) -> None:
    """An error that is SQLAlchemy's own has no driver's words; it speaks of connections only."""
    with pytest.raises(UnavailableError, match="the database did not answer: no connection"), world.store.read():
        raise sa.exc.TimeoutError("no connection")


@pytest.mark.parametrize("url", ["postgresql://u:p@host:secret/name", "secret"])
def test_url_that_is_none_is_not_repeated(url: str) -> None:
    """A password that breaks a URL is not shown for it, in the message or behind it."""
    with pytest.raises(StoreError, match="the database URL is not one") as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
