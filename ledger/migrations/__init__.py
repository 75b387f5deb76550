"""The schema's history. ``migrate`` brings a database to the newest revision; ``check`` refuses one that is not."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from ledger.store import StoreError

_LOCK = int.from_bytes(b"guerdon", "big")
"""Held while migrating, so that two processes told to at once do it one after the other."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def migrate(engine: Engine) -> None:
    """Create the tables or bring them to the newest revision. Running it again changes nothing."""
    config = _config()
    with engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":  # SQLite's transaction has locked the whole database already
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def newest_revision() -> str:
    """The revision this version of Guerdon works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def check(engine: Engine) -> None:
    """Raise :class:`StoreError` unless the database is at the newest revision."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        raise StoreError("the database has no tables yet: run guerdon init")
    if current != newest_revision():
        raise StoreError(
            f"the database is at revision {current}, this version needs {newest_revision()}: run guerdon init"
        )
