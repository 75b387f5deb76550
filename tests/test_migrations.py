"""The schema's history: what a database looks like after it, and which databases are refused."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Engine

from ledger import migrations
from ledger.audit_database import audit_database
from ledger.checkpoint import encode_verifier_key
from ledger.encoding import format_time
from ledger.operations import OpenAccount, PublishProgram, RecordPurchases, Redeem, ReplaceLogKey, SignedOperation
from ledger.program_terms import ExpiresAfterDays
from ledger.store import (
    Store,
    StoreError,
    open_engine,
)
from ledger.tables import (
    METADATA,
)
from ledger.terms import Purchase, TransferTerms
from ledger.webhooks import Webhook, insert_webhook
from tests.partners import trade
from tests.reference import check_projections, check_record
from tests.worlds import World, make_program


def describe(engine: Engine) -> list[tuple[str, ...]]:
    """Everything the database's own catalogue says about its tables, indexes and triggers."""
    if engine.dialect.name == "sqlite":
        query = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    else:
        query = """
            SELECT table_name, column_name, data_type, is_nullable, collation_name FROM information_schema.columns
            WHERE table_schema = 'public'
            UNION ALL SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), '', '' FROM pg_trigger
            ORDER BY 1, 2, 3
        """
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def test_migrating_again_changes_nothing(world: World) -> None:
    """A database at the newest revision is left as it is, schema and rows."""
    before = describe(world.engine)
    with world.store.read() as connection:
        head = world.store.head(connection)
    migrations.migrate(world.engine)
    assert describe(world.engine) == before
    with world.store.read() as connection:
        assert world.store.head(connection) == head


def test_processes_may_migrate_at_once(empty_database_url: str) -> None:
    """Of several that are told to at the same time, one makes the tables and the others find them made."""
    engines = [open_engine(empty_database_url) for _ in range(4)]
    barrier = threading.Barrier(len(engines))

    def migrate(engine: Engine) -> None:
        barrier.wait()
        migrations.migrate(engine)

    with ThreadPoolExecutor(len(engines)) as pool:
        for future in [pool.submit(migrate, engine) for engine in engines]:
            future.result()
    for engine in engines:
        migrations.check(engine)
        engine.dispose()


# SQLAlchemy does not read an index on an expression from SQLite; PostgreSQL's is compared.
@pytest.mark.filterwarnings("ignore:.*expression-based index entry_account")
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index 'entry_account'")
def test_models_and_migrations_describe_the_same_tables(world: World) -> None:
    """Alembic finds no difference between what the migrations made and what the models say."""
    with world.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_every_primary_key_begins_with_the_ledger(world: World) -> None:
    """Many ledgers share one database, and a distributed engine can shard by ledger."""
    inspector = sa.inspect(world.engine)
    keys = {table: inspector.get_pk_constraint(table)["constrained_columns"] for table in METADATA.tables}
    assert {table: columns[0] for table, columns in keys.items()} == dict.fromkeys(METADATA.tables, "ledger_id")


@pytest.mark.postgres
def test_every_text_column_has_the_bytewise_collation_on_postgresql(postgres_database: str) -> None:
    """No column takes over the database's locale, which would sort lots in another order than the rules do."""
    with World(postgres_database) as world, world.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT table_name, column_name, collation_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND data_type = 'text'"
        ).all()
    assert len(rows) > 20
    assert [tuple(row) for row in rows if row.collation_name != "C"] == []


def test_database_without_tables_is_refused(empty_database_url: str) -> None:
    """An empty database is not taken for a ledger; the message says to run init."""
    engine = open_engine(empty_database_url)
    with pytest.raises(StoreError, match="no tables yet: run guerdon init"):
        migrations.check(engine)
    engine.dispose()


def test_database_at_another_revision_is_refused(world: World) -> None:
    """A database another version left behind is named with both revisions and what to do."""
    migrations.check(world.engine)
    with world.engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"revision 9999, this version needs \d{4}: run guerdon init"):
        migrations.check(world.engine)


def test_downgrade_removes_what_upgrade_made(empty_database_url: str) -> None:
    """Going back to nothing leaves no table, trigger or function behind, so that going forward works again."""
    engine = open_engine(empty_database_url)
    migrations.migrate(engine)
    made = describe(engine)
    with engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        config = migrations._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    migrations.migrate(engine)
    assert describe(engine) == made
    engine.dispose()


def go_to(engine: Engine, revision: str) -> None:
    """Bring a database to a revision, in either direction."""
    with engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        config = migrations._config()
        config.attributes["connection"] = connection
        current = MigrationContext.configure(connection).get_current_revision()
        move = command.upgrade if (current or "") < revision else command.downgrade
        move(config, revision)


def columns_of(engine: Engine, table: str) -> list[tuple[str, str, bool]]:
    """Name, type and whether it may be null of each column, in the table's order."""
    return [(c["name"], str(c["type"]), c["nullable"]) for c in sa.inspect(engine).get_columns(table)]


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


OLD_ACCOUNT = (
    "INSERT INTO account (ledger_id, account, role, keys, threshold, custodian, name, opened_at, seq) "
    "VALUES ({ledger}, '{account}', 'member', '{keys}', 1, {custodian}, NULL, '2026-01-01T00:00:00.000Z', {seq})"
)


def test_keys_of_an_older_database_are_those_their_accounts_were_opened_with(empty_database_url: str) -> None:
    """Rows the first version wrote: their keys date from the opening, the log's key from genesis, in each ledger."""
    engine = open_engine(empty_database_url)
    go_to(engine, "0001")
    entry = sa.text(
        "INSERT INTO entry (ledger_id, seq, leaf_hash, op_id, kind, actor, time, data) "
        "VALUES (:ledger, :seq, :hash, :hash, :kind, NULL, '2026-01-01T00:00:00.000Z', :data)"
    )
    with engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        for ledger in (1, 2):
            genesis = json.dumps({"op": {"kind": "genesis", "log_key": f"log {ledger}"}, "seq": 0}).encode()
            for seq, kind, data in ((0, "genesis", genesis), (7, "open_account", b"{}")):
                digest = bytes([ledger, seq]) * 16
                fields = {"ledger": ledger, "seq": seq, "hash": digest, "kind": kind, "data": data}
                connection.execute(entry, fields)
            for account, keys, custodian, seq in (("mem_a", '["k1","k2"]', "NULL", 7), ("mem_b", "[]", "'mer_c'", 9)):
                fields = {"ledger": ledger, "account": account, "keys": keys, "custodian": custodian, "seq": seq}
                connection.exec_driver_sql(OLD_ACCOUNT.format(**fields))
    migrations.migrate(engine)
    query = (
        "SELECT account, keys, threshold, custodian, seq, keys_seq, "
        "recovery_keys, recovery_threshold, recovery_at, recovery_seq FROM account "
        "WHERE ledger_id = {} ORDER BY account"
    )
    for ledger in (1, 2):
        assert rows(engine, query.format(ledger)) == [
            ("mem_a", '["k1","k2"]', 1, None, 7, 7, None, None, None, None),
            ("mem_b", "[]", 1, "mer_c", 9, 9, None, None, None, None),
        ]
    assert rows(engine, "SELECT * FROM log_key ORDER BY ledger_id") == [(1, 0, "log 1"), (2, 0, "log 2")]
    engine.dispose()


def test_ledger_of_the_first_version_goes_on(world: World) -> None:
    """Back to the first revision and forward again nothing is lost, and the ledger records what only this one can."""
    shop = world.add_merchant()
    alice, bob = world.add_members(2)
    world.record(shop.sign(OpenAccount, role="member"))
    world.restart()
    tables = ("head", "entry", "account", "log_key")
    columns = columns_of(world.engine, "account")
    before = [rows(world.engine, f"SELECT * FROM {table}") for table in tables]
    go_to(world.engine, "0001")
    assert not sa.inspect(world.engine).has_table("log_key")
    assert "keys_seq" not in {name for name, *_ in columns_of(world.engine, "account")}
    migrations.migrate(world.engine)
    assert [rows(world.engine, f"SELECT * FROM {table}") for table in tables] == before
    assert columns_of(world.engine, "account") == columns
    world.record(alice.replace_keys([world.make_key()]), world.recover(bob, world.make_key()))
    check_record(world.store)
    check_projections(world.store)


def test_earnings_and_redemptions_of_an_older_database_get_what_replay_gives(world: World) -> None:
    """Made by the third revision: the program of each purchase and grant, and what each redemption took, in chunks."""
    other = World(world.url, origin="ledger.example/other", seed=1, clock=world.clock)
    if not world.store.is_postgres:  # the chunks are the same for both
        world.add_members(MORE_THAN_A_CHUNK)
    for ledger in (world, other):
        _earn_and_redeem(ledger)
        ledger.restart()
    tables = ("head", "entry", "account", "asset", "earning", "spending", "party")
    before = {table: sorted(rows(world.engine, f"SELECT * FROM {table}"), key=repr) for table in tables}
    versions = rows(world.engine, "SELECT DISTINCT version FROM earning ORDER BY version")
    assert versions == [(1,), (2,), (3,)]
    assert len(before["spending"]) == len(before["party"]) == 6
    assert len(rows(world.engine, "SELECT DISTINCT parts FROM spending")) > 1
    go_to(world.engine, "0003")
    assert "version" not in {name for name, *_ in columns_of(world.engine, "earning")}
    migrations.migrate(world.engine)
    assert {table: sorted(rows(world.engine, f"SELECT * FROM {table}"), key=repr) for table in tables} == before
    for ledger in (world, other):
        check_record(ledger.store)
        check_projections(ledger.store)
    other.close()


MORE_THAN_A_CHUNK = 2_001


def _earn_and_redeem(world: World) -> None:
    """Record purchases under three versions, a grant, and redemptions of one lot and of several.

    Some were reported late; some just before a version was published that had started when they were made.
    """
    shop = world.add_merchant()
    world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=30)))
    alice, bob = world.add_members(2)
    start = world.clock.now_ms

    def buy(order: str, at_ms: int) -> SignedOperation:
        purchases = tuple(
            Purchase(amount=5_000, at=format_time(at_ms), member=str(member.account), order=f"{order}-{i}")
            for i, member in enumerate((alice, bob))
        )
        return shop.sign(RecordPurchases, asset="STAR", currency="USD", purchases=purchases)

    def publish(version: int, starts_ms: int, days: int) -> SignedOperation:
        program = make_program(expiry=ExpiresAfterDays(count=days))
        starts = format_time(starts_ms)
        return shop.sign(PublishProgram, asset="STAR", version=version, starts=starts, program=program)

    world.record(publish(2, start + 60_000, 60))
    world.clock.advance(ms=120_000)
    now = world.clock.now_ms
    world.record(buy("late", start), buy("early", now - 1), publish(3, now - 10_000, 90), buy("now", now - 1))
    world.grant(shop, "STAR", alice, 7)
    redeem = [
        member.sign(Redeem, asset="STAR", amount=amount, merchant=shop.account)
        for member, amount in ((alice, 120), (bob, 1), (bob, 50))
    ]
    world.record(*redeem, shop.sign(OpenAccount, role="member"))


def test_earning_that_no_entry_tells_of_is_kept_for_the_audit(world: World) -> None:
    """What an older version should not have had is neither dropped nor explained: the audit finds it."""
    shop = world.add_merchant()
    world.add_asset(shop)
    recorded = world.grant(shop, "STAR", world.add_member(), 5)
    world.restart()
    go_to(world.engine, "0003")
    with world.engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        for seq in (recorded.seq, 10_000, -1):
            connection.exec_driver_sql(
                f"INSERT INTO earning SELECT ledger_id, merchant, scope, 'x{seq}', {seq}, asset, account, earned_on, "
                f"amount, points FROM earning WHERE reference = 'grant-1'"
            )
    migrations.migrate(world.engine)
    found = rows(world.engine, "SELECT reference, version FROM earning ORDER BY reference")
    assert found == [("grant-1", 1), ("x-1", 0), ("x10000", 0), (f"x{recorded.seq}", 0)]
    assert {failure.check for failure in audit_database(world.store, processes=0).failures} == {"earnings"}


@pytest.mark.parametrize("what", ["partners", "approval", "transfer terms", "refund policy"])
def test_partners_keep_the_revision(world: World, what: str) -> None:
    """What the third revision could not read is not taken from it: going back is refused, and changes nothing."""
    shop = world.add_merchant()
    match what:
        case "partners":
            trade(world)
        case "approval":
            world.record(shop.replace_keys([world.make_key(), world.make_key()], approval_threshold=2))
        case "transfer terms":
            world.add_asset(shop, transfer_terms=TransferTerms(step=10))
        case "refund policy":
            world.add_asset(shop, program=make_program(refunds="negative"))
    world.restart()
    made = describe(world.engine)
    with pytest.raises(RuntimeError, match="the older version cannot read it"):
        go_to(world.engine, "0003")
    assert describe(world.engine) == made
    migrations.check(world.engine)


def test_webhooks_come_and_go_without_a_trace(world: World) -> None:
    """Back to the second revision and forward again the ledger is as it was, and has no webhooks."""
    shop = world.add_merchant()
    world.restart()
    made = describe(world.engine)
    before = [rows(world.engine, f"SELECT * FROM {table}") for table in ("head", "entry", "account", "log_key")]
    new = Webhook(
        webhook="whk_" + "a" * 26,
        account=str(shop.account),
        url="https://shop.example/",
        event_types=("transfer.sent",),
        description=None,
        created_at_ms=0,
        secret=b"sealed",
        next_seq=2,
    )
    with world.store.write() as transaction:
        insert_webhook(transaction, new)
    go_to(world.engine, "0002")
    assert not {"webhook", "webhook_delivery"} & set(sa.inspect(world.engine).get_table_names())
    migrations.migrate(world.engine)
    assert describe(world.engine) == made
    assert rows(world.engine, "SELECT * FROM webhook") == []
    after = [rows(world.engine, f"SELECT * FROM {table}") for table in ("head", "entry", "account", "log_key")]
    assert after == before
    world.add_member()
    check_record(world.store)


@pytest.mark.parametrize("what", ["replaced keys", "pending recovery", "replaced log key"])
def test_keys_the_first_version_would_not_know_keep_the_revision(world: World, what: str) -> None:
    """It would let the old keys act again: going back is refused, and changes nothing."""
    alice, key = world.add_member(), world.make_key()
    world.restart(world.log_key, key)
    log_key = encode_verifier_key(world.origin, key)
    operations = {
        "replaced keys": alice.replace_keys([key]),
        "pending recovery": world.recover(alice, key),
        "replaced log key": world.operator.sign(ReplaceLogKey, log_key=log_key),
    }
    world.record(operations[what])
    before = describe(world.engine)
    with pytest.raises(RuntimeError, match="keys were replaced in this ledger"):
        go_to(world.engine, "0001")
    assert describe(world.engine) == before
    migrations.check(world.engine)


def test_ledger_that_was_never_founded_is_refused(world: World) -> None:
    """A database that has tables, but not this ledger, says which ledger it lacks."""
    store = Store(world.engine, "ledger.example/elsewhere")
    with pytest.raises(StoreError, match=r"no ledger ledger\.example/elsewhere in this database: run guerdon init"):
        _ = store.ledger_id


@pytest.mark.parametrize("url", ["mysql://localhost/x", "nonsense", ""])
def test_other_databases_are_refused(url: str) -> None:
    """What is neither SQLite nor PostgreSQL is refused with an example of what is."""
    with pytest.raises(StoreError, match=r"use sqlite:///path or postgresql://"):
        open_engine(url)


def test_profiles_keep_the_revision(world: World) -> None:
    """Without any, going back and forth leaves no trace; what is kept of people is not dropped by going back."""
    world.restart()
    made = describe(world.engine)
    go_to(world.engine, "0004")
    assert "profile" not in sa.inspect(world.engine).get_table_names()
    migrations.migrate(world.engine)
    assert describe(world.engine) == made
    with world.store.write() as transaction:
        row = (world.store.ledger_id, "mem_x", 1)
        transaction.connection.execute(sa.insert(METADATA.tables["profile_erasure"]).values(row))
    with pytest.raises(RuntimeError, match="stay at this one"):
        go_to(world.engine, "0004")
    assert describe(world.engine) == made
