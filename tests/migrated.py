"""Databases at the newest revision, copied from one that was migrated once in this process.

Most tests begin with a fresh ledger, and running every migration for each of them would take longer than many of the
tests do. What the migrations do is for :mod:`tests.test_migrations`, which begins with databases without tables.
"""

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

from ledger import migrations
from ledger.store import open_engine

newest_revision = cache(migrations.newest_revision)


def make_tables(engine: Engine) -> None:
    """What ``migrations.migrate`` does, in less time if the database is new and on SQLite, or has its tables already.

    The file itself, its mode and its journal stay as the ledger made them.
    """
    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    if revision == newest_revision():
        return
    if revision is not None or engine.dialect.name != "sqlite":
        migrations.migrate(engine)
        return
    with closing(engine.raw_connection()) as fresh:
        _migrated_sqlite().backup(_driver(fresh))


@cache
def _migrated_sqlite() -> sqlite3.Connection:
    """A database in memory that has every table and no row."""
    memory = sqlite3.connect(":memory:", check_same_thread=False)
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{Path(folder) / 'migrated.sqlite'}")
        migrations.migrate(engine)
        with closing(engine.raw_connection()) as connection:
            _driver(connection).backup(memory)
        engine.dispose()
    return memory


def _driver(connection: PoolProxiedConnection) -> sqlite3.Connection:
    driver = connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver
