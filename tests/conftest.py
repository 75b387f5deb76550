"""Databases and Hypothesis profiles for all tests.

A test that asks for `database_url` runs twice, on a fresh SQLite file and on a fresh PostgreSQL database; so does one
that asks for `shared_database_url`, which all tests of its file get together, for what none of them changes.
PostgreSQL comes from a wheel and is started on demand, one server per xdist worker, behind a Unix socket in a
folder that only its owner can enter: nothing listens on the network.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.postgres import empty_database, fresh_database, running_postgres
from tests.worlds import World

if TYPE_CHECKING:
    from tests.loyalty import Loyalty

# "ci" replaces Hypothesis's own profile of that name, which tries the same examples on every run.
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("dev", parent=settings.get_profile("ci"), print_blob=False)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=5_000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a running PostgreSQL's maintenance database."""
    with running_postgres() as (url, _):
        yield url.render_as_string()


@pytest.fixture
def empty_postgres_database(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh PostgreSQL database without tables."""
    with empty_database(postgres_url) as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh PostgreSQL database with the tables of the newest revision and no rows."""
    with fresh_database(postgres_url) as url:
        yield url


BOTH = ("sqlite", pytest.param("postgresql", marks=pytest.mark.postgres))
"""Each kind of database the ledger runs on."""


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a fresh database without tables, once of each kind the ledger runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return str(request.getfixturevalue("empty_postgres_database"))


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a fresh database for a `World`, once of each kind the ledger runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(scope="module", params=BOTH)
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The SQLAlchemy URL of a database for a `World` that a file's tests only read, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('shared') / 'ledger.sqlite'}"
        return
    with fresh_database(request.getfixturevalue("postgres_url")) as url:
        yield url


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A ledger with its operator, once on each kind of database."""
    with World(database_url) as world:
        yield world


@pytest.fixture
def loyalty(tmp_path: Path) -> "Iterator[Loyalty]":
    """A ledger on which programs of the gallery are published, on SQLite alone; audited when the test is over."""
    from tests.loyalty import open_loyalty  # noqa: PLC0415 - the service takes a second to load

    with open_loyalty(tmp_path) as loyalty:
        yield loyalty
