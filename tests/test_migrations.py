"""The schema's history: what a database looks like after it, and which databases are refused."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Engine

from ledger import migrations
from ledger.store import METADATA, Store, StoreError, open_engine
from tests.worlds import World


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


def test_processes_may_migrate_at_once(database_url: str) -> None:
    """Of several that are told to at the same time, one makes the tables and the others find them made."""
    engines = [open_engine(database_url) for _ in range(4)]
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


def test_database_without_tables_is_refused(database_url: str) -> None:
    """An empty database is not taken for a ledger; the message says to run init."""
    engine = open_engine(database_url)
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


def test_downgrade_removes_what_upgrade_made(database_url: str) -> None:
    """Going back to nothing leaves no table, trigger or function behind, so that going forward works again."""
    engine = open_engine(database_url)
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
