"""Storage: the databases, and the bulk statements that read and write :mod:`ledger.tables`. Knows no rules.

Two databases, one schema: SQLite (WAL, ``synchronous=FULL``) embedded, PostgreSQL in production.
"""

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import URL, Connection, Engine, make_url

from ledger.bulk import chunks_of, delete_rows, find_rows, insert_rows, write_rows
from ledger.encoding import AccountId, LeafHash, OpId
from ledger.entries import NO_LAST_DAY, Posting
from ledger.merkle import CompactRange
from ledger.program_terms import Program
from ledger.programs import ProgramVersion
from ledger.state import (
    ALLOTMENT_SCOPE,
    CORRECTION_SCOPE,
    PAYMENT_SCOPE,
    PLAN_SCOPE,
    REFUND_SCOPE,
    Account,
    Asset,
    Circumstances,
    Earning,
    Key,
    Recovery,
    State,
    Touches,
)
from ledger.tables import (
    ACCOUNT,
    ASSET,
    EARNING,
    ENTRY,
    HEAD,
    IMMUTABLE_TABLES,
    LOG_KEY,
    LOT,
    PARTY,
    POSTING,
    PROGRAM,
    RECORD_TABLES,
    REFERENCE,
    TILE,
)
from ledger.terms import TransferTerms, Value

CACHE_KIB = 65_536
"""Pages a SQLite connection may keep in memory. With the usual 2 MiB a batch spills, since hashes land everywhere."""

WAL_PAGES = 10_000
"""Pages of 4 KiB in SQLite's write-ahead log after which it is copied into the database: rarer than usual, cheaper."""

BUSY_TIMEOUT_MS = 30_000
"""How long a SQLite connection waits for another process's write transaction before it gives up."""

CHANNEL = "guerdon_head"
"""Where PostgreSQL announces each commit of entries, as ``<ledger's number> <size>``: see :mod:`ledger.tail`."""

PROGRESS_STEPS = 20_000
"""Steps of SQLite's virtual machine between two looks at the clock: about a millisecond, so a usual read takes none."""

_OWNER_ONLY = 0o600
"""Mode of every file of a SQLite ledger: it holds each member's movements."""


class StoreError(RuntimeError):
    """The database cannot be used as it is; the message says what to do."""


class UnavailableError(StoreError):
    """The database did not answer, or could not take a write now. Nothing is known to be recorded; try again."""


class CorruptionError(StoreError):
    """Stored data contradicts itself. Nothing is repaired; run the audit."""


class HeadState(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a chain: its size, the last leaf hash and time, the compact range's roots, the signed checkpoint."""

    ledger_id: int
    origin: str
    size: int
    last_leaf_hash: LeafHash
    last_time: str
    compact_range: bytes
    checkpoint: str

    def range(self) -> CompactRange:
        """A compact range to append to."""
        return CompactRange.decode(self.size, self.compact_range)


class Changes(msgspec.Struct, kw_only=True):
    """What one batch writes: rows as tuples in the order of the tables' columns, without the ledger's id.

    ``accounts`` are those the batch opens; ``changed_accounts`` are others, as :func:`changed_account_row` has them.
    ``records`` and ``removed_records`` are rows and keys by the names of :data:`RECORD_TABLES`.
    """

    entries: list[tuple[Any, ...]] = []
    postings: list[tuple[Any, ...]] = []
    earnings: list[tuple[Any, ...]] = []
    accounts: list[tuple[Any, ...]] = []
    changed_accounts: list[tuple[Any, ...]] = []
    assets: list[tuple[Any, ...]] = []
    programs: list[tuple[Any, ...]] = []
    log_keys: list[tuple[int, str]] = []
    tiles: list[tuple[Any, ...]] = []
    lots: list[tuple[str, str, str, int]] = []
    references: list[tuple[Any, ...]] = []
    parties: list[tuple[str, int]] = []
    records: dict[str, list[tuple[Any, ...]]] = {}
    removed_records: dict[str, list[Key]] = {}


def open_engine(url: str, *, pool_size: int = 8, read_timeout_ms: int | None = None) -> Engine:
    """Connect to ``sqlite:///path`` or ``postgresql://…``; raise :class:`StoreError` for any other database.

    A statement of :meth:`Store.read` that takes longer than ``read_timeout_ms`` is ended (:class:`UnavailableError`):
    without it one may take as long as it likes.
    """
    parsed = _normalise(url)
    options = {"guerdon_read_timeout_ms": read_timeout_ms}
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        threads = {"check_same_thread": False}
        engine = sa.create_engine(
            parsed, pool_size=pool_size, connect_args=threads, hide_parameters=True, execution_options=options
        )
        event.listen(engine, "do_connect", _make_private)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # A stricter default of the server would turn waiting for the head row into serialization failures.
    engine = sa.create_engine(
        parsed,
        pool_size=pool_size,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED",
        hide_parameters=True,
        execution_options=options,
    )
    if read_timeout_ms is not None:
        # Once for a connection, since it would cost every reader a question more; who writes lifts it.
        event.listen(engine, "connect", partial(_bound_statements, timeout_ms=read_timeout_ms))
    return engine


def _bound_statements(connection: Any, _record: Any, *, timeout_ms: int) -> None:
    connection.execute(f"SET statement_timeout = {timeout_ms}")
    connection.commit()


@contextmanager
def _bounded(connection: Connection) -> Iterator[None]:
    """End what SQLite does for longer than a reader may take. PostgreSQL does so by itself."""
    timeout_ms = connection.get_execution_options().get("guerdon_read_timeout_ms")
    if timeout_ms is None:
        yield
        return
    end = time.monotonic() + timeout_ms / 1000
    raw: Any = connection.connection.driver_connection
    raw.set_progress_handler(lambda: time.monotonic() > end, PROGRESS_STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)


def _normalise(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # whose texts quote the URL, and a password may be in it
        raise StoreError("the database URL is not one: use sqlite:///path or postgresql://user@host/name") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreError(f"{backend} is not supported: use sqlite:///path or postgresql://user@host/name")


def _make_private(_dialect: Any, _record: Any, arguments: Sequence[Any], _options: Any) -> None:
    """Make a new SQLite file the owner's alone before SQLite does; its log and index files take their mode from it."""
    name = arguments[0]
    if isinstance(name, str) and name and not name.startswith((":memory:", "file:")):
        try:
            os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _OWNER_ONLY))
        except OSError:
            return  # it is there already, or cannot be: SQLite says so itself


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    cursor.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    cursor.execute("PRAGMA recursive_triggers=ON")  # so that INSERT OR REPLACE fires the triggers that refuse DELETE
    cursor.close()


def _use_wal(cursor: Any) -> None:
    # The switch stays in the file. While two connections switch a new database at once, SQLite refuses without waiting.
    give_up_at = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later can fail with SQLITE_BUSY: a writer locks at once.
    write = connection.get_execution_options().get("guerdon_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _unavailable() -> Iterator[None]:
    """Turn what drivers say about lost connections, full disks and locks into one :class:`UnavailableError`.

    COPY, and an audit's reading, go to the driver directly, so their errors come without SQLAlchemy's wrapping.
    """
    try:
        yield
    except (
        sa.exc.OperationalError,
        sa.exc.InterfaceError,
        sa.exc.TimeoutError,
        psycopg.OperationalError,
        psycopg.InterfaceError,
        sqlite3.OperationalError,
    ) as error:
        # What SQLAlchemy writes around the driver's own words holds the statement and the rows in it.
        words = getattr(error, "orig", None) or error
        raise UnavailableError(f"the database did not answer: {words}") from error


def file_beside(url: URL, suffix: str) -> Path | None:
    """The name of a file beside a SQLite database, for locks; ``None`` for any other database, and one in memory."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return Path(f"{Path(url.database).resolve()}-{suffix}")


def open_lock_file(path: Path) -> int:
    """A descriptor of a file to lock, which is made if it is missing, the owner's alone. Closing it ends the lock."""
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY)


@contextmanager
def _turn(path: Path | None) -> Iterator[None]:
    """Wait for this writer's turn at a SQLite database: a lock on a file beside it, which ends with its process.

    ``BEGIN IMMEDIATE`` is what excludes other writers, but it waits by sleeping and trying again: a process that comes
    back at once wins every time, and the other waits as long as the first has work. The system wakes whoever waits.
    """
    if path is None:
        yield
        return
    file = open_lock_file(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


class Store:
    """One ledger in one database. Reading and writing are set-based: a batch is a handful of statements."""

    def __init__(self, engine: Engine, origin: str) -> None:
        self.engine = engine
        self.origin = origin
        self.is_postgres = engine.dialect.name == "postgresql"
        self._turn_file = file_beside(engine.url, "turn")
        self._ledger_id: int | None = None

    @property
    def ledger_id(self) -> int:
        """The number this ledger's rows are kept under; raise :class:`StoreError` when there is no such ledger."""
        if self._ledger_id is None:
            with self.engine.connect() as connection:
                found = connection.execute(sa.select(HEAD.c.ledger_id).where(HEAD.c.origin == self.origin)).scalar()
            if found is None:
                raise StoreError(f"no ledger {self.origin} in this database: run guerdon init")
            self._ledger_id = found
        return self._ledger_id

    def check_durability(self, connection: Connection) -> None:
        """Refuse a PostgreSQL that answers a commit before it is on disk: success must be something to rely on."""
        if self.is_postgres:
            setting = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
            if setting == "off":
                raise StoreError("synchronous_commit is off on this PostgreSQL: set it to on, or stronger")

    def use_ledger_id(self, ledger_id: int) -> None:
        """Take the number of a ledger that is being created in a transaction others cannot see yet."""
        self._ledger_id = ledger_id

    def create_ledger(self, connection: Connection, head: HeadState) -> None:
        """Add the head row of a new ledger, whose first batch must follow in the same transaction."""
        connection.execute(sa.insert(HEAD).values(**msgspec.structs.asdict(head)))

    @contextmanager
    def write(self) -> Iterator["WriteTransaction"]:
        """A transaction that holds the head row: no other writer runs until it ends. Rolls back on any exception."""
        with (
            _unavailable(),
            _turn(self._turn_file),
            self.engine.connect().execution_options(guerdon_write=True) as connection,
            connection.begin(),
        ):
            if self.is_postgres and connection.get_execution_options().get("guerdon_read_timeout_ms") is not None:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a batch waits for its turn
            yield WriteTransaction(self, connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only snapshot."""
        if self.is_postgres:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with (
                _unavailable(),
                self.engine.connect().execution_options(**options) as connection,
                connection.begin(),
            ):
                yield connection
        else:
            with _unavailable(), self.engine.connect() as connection, connection.begin(), _bounded(connection):
                yield connection

    def head(self, connection: Connection) -> HeadState:
        """The end of the chain as this connection sees it."""
        return self._head(connection, for_update=False)

    def _head(self, connection: Connection, *, for_update: bool) -> HeadState:
        query = sa.select(HEAD).where(HEAD.c.origin == self.origin)
        row = connection.execute(query.with_for_update() if for_update else query).one_or_none()
        if row is None:
            raise StoreError(f"no ledger {self.origin} in this database: run guerdon init")
        return HeadState(**row._mapping)

    def entry_data(self, connection: Connection, seqs: Iterable[int]) -> dict[int, bytes]:
        """Stored bytes of entries, by sequence number."""
        query = sa.select(ENTRY.c.seq, ENTRY.c.data).where(
            ENTRY.c.ledger_id == self.ledger_id, ENTRY.c.seq.in_(list(seqs))
        )
        return {row.seq: row.data for row in connection.execute(query)}

    def recorded(self, connection: Connection, op_ids: Sequence[OpId]) -> dict[OpId, int]:
        """Which of these operations are recorded, and in which entry."""
        found: dict[OpId, int] = {}
        for chunk in chunks_of(op_ids):
            query = sa.select(ENTRY.c.op_id, ENTRY.c.seq).where(
                ENTRY.c.ledger_id == self.ledger_id, self._among(ENTRY.c.op_id, chunk, sa.LargeBinary())
            )
            found.update((OpId(bytes(op_id)), seq) for op_id, seq in connection.execute(query))
        return found

    def leaf_hashes(self, connection: Connection, first: int, end: int) -> list[bytes]:
        """Leaf hashes of the entries ``first <= seq < end``, in order."""
        query = (
            sa.select(ENTRY.c.leaf_hash)
            .where(ENTRY.c.ledger_id == self.ledger_id, ENTRY.c.seq >= first, ENTRY.c.seq < end)
            .order_by(ENTRY.c.seq)
        )
        hashes = [bytes(leaf_hash) for leaf_hash in connection.execute(query).scalars()]
        if len(hashes) != end - first:
            raise CorruptionError(f"entries are missing between {first} and {end}")
        return hashes

    def tile_roots(self, connection: Connection, level: int, first: int, end: int) -> list[bytes]:
        """Roots of the full tiles ``first <= index < end`` of a level, in order."""
        query = (
            sa.select(TILE.c.root)
            .where(TILE.c.ledger_id == self.ledger_id, TILE.c.level == level, TILE.c.index >= first, TILE.c.index < end)
            .order_by(TILE.c.index)
        )
        roots = [bytes(root) for root in connection.execute(query).scalars()]
        if len(roots) != end - first:
            raise CorruptionError(f"tiles of level {level} are missing between {first} and {end}")
        return roots

    def load_state(self, connection: Connection, needs: Touches) -> State:
        """The part of the state that ``needs`` names. Parameters, size and recorded ids are the caller's to add."""
        state = State(self.origin)
        self.load_more(connection, state, needs)
        return state

    def load_more(
        self, connection: Connection, state: State, needs: Touches, *, but_lots: Container[tuple[str, str, str]] = ()
    ) -> None:
        """Add to a state what ``needs`` names, which must not have been loaded before, except ``but_lots``.

        Each of those is an (account, asset, last day) that the state has already. Records that have changed since they
        were loaded stay as they are.
        """
        self._load_accounts(connection, state, needs.accounts)
        for asset in self.assets(connection, needs.assets):
            state.assets[asset.code] = asset
        for version in self.programs(connection, needs.assets):
            state.programs[version.asset] = (*state.programs.get(version.asset, ()), version)
        holders: dict[str, list[str]] = {}
        for account_id, asset_code in needs.balances:
            holders.setdefault(asset_code, []).append(account_id)
        for asset_code, account_ids in holders.items():
            for holder, day, points in self._lots(connection, asset_code, account_ids):
                if (holder, asset_code, day) not in but_lots:
                    state.add_lot(holder, asset_code, day, points)
        self._load_references(connection, needs, state)
        self._load_records(connection, needs, state)

    def _load_accounts(self, connection: Connection, state: State, ids: Iterable[str]) -> None:
        """Add accounts to a state, and their custodians, whose keys may act for them."""
        new = {account.id: account for account in self.accounts(connection, ids)}
        known = state.accounts.keys() | new.keys()
        custodians = {a.custodian for a in new.values() if a.custodian and a.custodian not in known}
        for account in (*new.values(), *self.accounts(connection, custodians)):
            state.accounts.setdefault(account.id, account)

    def _load_records(self, connection: Connection, needs: Touches, state: State) -> None:
        wanted: dict[tuple[str, tuple[str, ...], str], list[Key]] = {}
        for name, key in needs.records:
            wanted.setdefault((name, RECORD_TABLES[name].key, ""), []).append(key)
        for name, group in needs.groups:
            kept = RECORD_TABLES[name]
            wanted.setdefault((name, kept.group[: len(group)], kept.only), []).append(group)
        for (name, columns, only), keys in wanted.items():
            records, kept = state.records(name), RECORD_TABLES[name]
            for row in find_rows(connection, self.ledger_id, kept.table, columns, keys, only=only):
                record = kept.record_of(row)
                if records.key_of(record) not in records.changed:
                    records.load(record)

    def log_keys(self, connection: Connection) -> tuple[tuple[int, str], ...]:
        """The verifier keys the log has had, oldest first, each with the entry that named it."""
        query = sa.select(LOG_KEY.c.seq, LOG_KEY.c.log_key).where(LOG_KEY.c.ledger_id == self.ledger_id)
        return tuple((seq, log_key) for seq, log_key in connection.execute(query.order_by(LOG_KEY.c.seq)))

    def _load_references(self, connection: Connection, needs: Touches, state: State) -> None:
        scopes: dict[tuple[str, str], list[str]] = {}
        of_no_earnings: list[Key] = []
        for key in needs.references:
            merchant, scope, reference = key
            if scope in _NO_EARNINGS or scope.startswith("evidence:"):
                of_no_earnings.append(key)
            else:
                scopes.setdefault((merchant, scope), []).append(reference)
        by = ("merchant", "scope", "reference")
        for merchant, scope, reference, seq in find_rows(connection, self.ledger_id, REFERENCE, by, of_no_earnings):
            state.references[(merchant, scope, reference)] = seq
        for row in find_rows(connection, self.ledger_id, EARNING, by, list(needs.earnings)):
            state.earnings[row.merchant, row.scope, row.reference] = (row.asset, earning_of(row))
        for (merchant, scope), references in scopes.items():
            for chunk in chunks_of(references):
                query = sa.select(EARNING.c.reference, EARNING.c.seq).where(
                    EARNING.c.ledger_id == self.ledger_id,
                    EARNING.c.merchant == merchant,
                    EARNING.c.scope == scope,
                    self._among(EARNING.c.reference, chunk),
                )
                for reference, seq in connection.execute(query):
                    state.references[(merchant, scope, reference)] = seq

    def earnings(
        self, connection: Connection, merchant: str, scope: str, references: Sequence[str]
    ) -> dict[str, tuple[str, Earning]]:
        """The events among these references that are recorded, each with the asset it was recorded for."""
        found = {}
        for chunk in chunks_of(references):
            query = sa.select(EARNING).where(
                EARNING.c.ledger_id == self.ledger_id,
                EARNING.c.merchant == merchant,
                EARNING.c.scope == scope,
                self._among(EARNING.c.reference, chunk),
            )
            for row in connection.execute(query):
                found[row.reference] = (row.asset, earning_of(row))
        return found

    def accounts(self, connection: Connection, ids: Iterable[str]) -> list[Account]:
        """The accounts among these that exist."""
        found = []
        for chunk in chunks_of(list(ids)):
            query = sa.select(ACCOUNT).where(
                ACCOUNT.c.ledger_id == self.ledger_id, self._among(ACCOUNT.c.account, chunk)
            )
            found += [account_of(row) for row in connection.execute(query)]
        return found

    def assets(self, connection: Connection, codes: Iterable[str]) -> list[Asset]:
        """The assets among these that exist."""
        codes = list(codes)
        if not codes:
            return []
        query = sa.select(ASSET).where(ASSET.c.ledger_id == self.ledger_id, self._among(ASSET.c.asset, codes))
        return [asset_of(row) for row in connection.execute(query)]

    def programs(self, connection: Connection, codes: Iterable[str]) -> list[ProgramVersion]:
        """All versions of these assets' programs, oldest first."""
        codes = list(codes)
        if not codes:
            return []
        query = (
            sa.select(PROGRAM)
            .where(PROGRAM.c.ledger_id == self.ledger_id, self._among(PROGRAM.c.asset, codes))
            .order_by(PROGRAM.c.asset, PROGRAM.c.version)
        )
        return [program_of(row) for row in connection.execute(query)]

    def _lots(self, connection: Connection, asset: str, accounts: list[str]) -> Iterator[tuple[str, str, int]]:
        for chunk in chunks_of(accounts):
            query = sa.select(LOT.c.account, LOT.c.last_day, LOT.c.points).where(
                LOT.c.ledger_id == self.ledger_id, self._among(LOT.c.account, chunk), LOT.c.asset == asset
            )
            yield from connection.execute(query)

    def due_lots(
        self, connection: Connection, asset: str, through: str, limit: int, *, without: Sequence[str]
    ) -> Sequence[tuple[str, str, int]]:
        """The first ``limit`` lots due through a day, by last day and account, of accounts other than ``without``.

        Each as (account, last day, points).
        """
        query = (
            sa.select(LOT.c.account, LOT.c.last_day, LOT.c.points)
            .where(LOT.c.ledger_id == self.ledger_id, LOT.c.asset == asset, LOT.c.last_day <= through)
            .where(sa.not_(self._among(LOT.c.account, without)))
            .order_by(LOT.c.last_day, LOT.c.account)
            .limit(limit)
        )
        return [(account, day, points) for account, day, points in connection.execute(query)]

    def _among(self, column: sa.Column[Any], values: Sequence[Any], type_: Any = None) -> sa.ColumnElement[bool]:
        """``column IN values`` as one array parameter, so that the statement is the same for every number of values."""
        if self.is_postgres:
            return column == sa.any_(sa.bindparam(None, list(values), type_=ARRAY(type_ or sa.Text())))
        if type_ is not None:
            return column.in_(list(values))
        return column.in_(
            sa.select(sa.literal_column("value")).select_from(sa.func.json_each(json.dumps(list(values))))
        )


_NO_EARNINGS = frozenset({REFUND_SCOPE, CORRECTION_SCOPE, ALLOTMENT_SCOPE, PAYMENT_SCOPE, PLAN_SCOPE})
"""Scopes of references that are kept by themselves; all others are those of earnings."""


def account_of(row: Any) -> Account:
    """An account from its row."""
    recovery = None
    if row.recovery_keys is not None:
        recovery = Recovery(
            keys=tuple(json.loads(row.recovery_keys)),
            threshold=row.recovery_threshold,
            effective_at=row.recovery_at,
            seq=row.recovery_seq,
            approval_threshold=row.recovery_approval_threshold,
        )
    return Account(
        id=AccountId(row.account),
        role=row.role,
        keys=tuple(json.loads(row.keys)),
        threshold=row.threshold,
        custodian=row.custodian,
        name=row.name,
        opened_at=row.opened_at,
        seq=row.seq,
        keys_seq=row.keys_seq,
        recovery=recovery,
        approval_threshold=row.approval_threshold,
        frozen_seq=row.frozen_seq,
        frozen_reason=row.frozen_reason,
    )


def asset_of(row: Any) -> Asset:
    """An asset from its row."""
    value = None
    if row.value_points is not None:
        value = Value(points=row.value_points, amount=row.value_amount, currency=row.value_currency)
    return Asset(
        code=row.asset,
        issuer=AccountId(row.issuer),
        name=row.name,
        scale=row.scale,
        supply_cap=row.supply_cap,
        transferable=row.transferable,
        value=value,
        seq=row.seq,
        transfer_terms=None if row.transfer_terms is None else _transfer_terms_decoder.decode(row.transfer_terms),
    )


def earning_of(row: Any) -> Earning:
    """An event that gave points from its row."""
    event = (row.merchant, row.scope, row.reference, row.account, row.earned_on)
    given = (row.amount, row.points, row.version, row.agreement_version, row.claim_amount)
    text = row.circumstances
    return Earning(*event, *given, None if text is None else _circumstances_decoder.decode(text), row.score)


_circumstances_decoder = msgspec.json.Decoder(Circumstances)
_program_decoder = msgspec.json.Decoder(Program)
_transfer_terms_decoder = msgspec.json.Decoder(TransferTerms)
_encoder = msgspec.json.Encoder(order="sorted")


def program_of(row: Any) -> ProgramVersion:
    """A program version from its row."""
    program = _program_decoder.decode(row.document)
    return ProgramVersion(
        asset=row.asset, version=row.version, starts=row.starts, ends=row.ends, program=program, seq=row.seq
    )


def posting_rows(seq: int, postings: Sequence[Posting]) -> list[tuple[Any, ...]]:
    """Rows of the posting table for one entry."""
    return [
        (seq, leg, posting.account, posting.asset, posting.lot or NO_LAST_DAY, posting.amount)
        for leg, posting in enumerate(postings)
    ]


def earning_rows(seq: int, asset: str, earnings: Sequence[Earning]) -> list[tuple[Any, ...]]:
    """Rows of the earning table for one entry."""
    return [
        (
            e.merchant,
            e.scope,
            e.reference,
            seq,
            asset,
            e.account,
            e.earned_on,
            e.amount,
            e.points,
            e.version,
            e.agreement_version,
            e.claim_amount,
            None if e.circumstances is None else _encoder.encode(e.circumstances).decode(),
            e.score,
        )
        for e in earnings
    ]


def account_row(account: Account) -> tuple[Any, ...]:
    """The row of an account."""
    rest = (account.custodian, account.name, account.opened_at, account.seq)
    keys = (_key_list(account.keys), account.threshold)
    return (account.id, account.role, *keys, *rest, account.keys_seq, *_last_columns(account))


def changed_account_row(account: Account) -> tuple[Any, ...]:
    """What later entries may change in the row of an account, after its id: whose keys act for it, and whether any."""
    keys = (_key_list(account.keys), account.threshold, account.custodian, account.keys_seq)
    return (account.id, *keys, *_last_columns(account))


def _last_columns(account: Account) -> tuple[Any, ...]:
    recovery, approvals = account.recovery, account.approval_threshold
    frozen = (account.frozen_seq, account.frozen_reason)
    if recovery is None:
        return (None, None, None, None, approvals, None, *frozen)
    keys = (_key_list(recovery.keys), recovery.threshold, recovery.effective_at, recovery.seq)
    return (*keys, approvals, recovery.approval_threshold, *frozen)


def _key_list(keys: Sequence[str]) -> str:
    return json.dumps(keys, separators=(",", ":"))


def asset_row(asset: Asset) -> tuple[Any, ...]:
    """The row of an asset."""
    value = (asset.value.points, asset.value.amount, asset.value.currency) if asset.value else (None, None, None)
    rest = (asset.scale, asset.supply_cap, asset.transferable)
    terms = None if asset.transfer_terms is None else _encoder.encode(asset.transfer_terms).decode()
    return (asset.code, asset.issuer, asset.name, *rest, *value, asset.seq, terms)


def reference_rows(seq: int, references: Sequence[tuple[str, str, str]]) -> list[tuple[Any, ...]]:
    """Rows of the reference table for one entry."""
    return [(*reference, seq) for reference in references]


def party_rows(seq: int, parties: Sequence[str]) -> list[tuple[str, int]]:
    """Rows of the party table for one entry."""
    return [(account, seq) for account in parties]


def program_row(version: ProgramVersion) -> tuple[Any, ...]:
    """The row of a program version."""
    document = _encoder.encode(version.program).decode()
    return (version.asset, version.version, version.starts, version.ends, document, version.seq)


class WriteTransaction:
    """The one write transaction of a ledger at a time. ``head`` locks; ``write`` writes a batch; the end commits."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self.store = store
        self.connection = connection

    def lock_head(self) -> HeadState:
        """Lock the head row until the transaction ends and read it."""
        # SQLite has no row locks: BEGIN IMMEDIATE has locked the whole database already.
        return self.store._head(self.connection, for_update=self.store.is_postgres)

    def write(self, changes: Changes, head: HeadState) -> None:
        """Write a batch and the head it leads to."""
        ledger_id = head.ledger_id
        for table, rows in (
            (ENTRY, changes.entries),
            (POSTING, changes.postings),
            (EARNING, changes.earnings),
            (ACCOUNT, changes.accounts),
            (ASSET, changes.assets),
            (PROGRAM, changes.programs),
            (LOG_KEY, changes.log_keys),
            (TILE, changes.tiles),
            (REFERENCE, changes.references),
            (PARTY, changes.parties),
        ):
            if rows:
                insert_rows(self.connection, table, ledger_id, rows)
        if changes.changed_accounts:
            self._change_accounts(ledger_id, changes.changed_accounts)
        write_rows(self.connection, LOT, ledger_id, [lot for lot in changes.lots if lot[3] != 0])
        delete_rows(self.connection, LOT, ledger_id, [lot[:3] for lot in changes.lots if lot[3] == 0])
        for name, rows in changes.records.items():
            write_rows(self.connection, RECORD_TABLES[name].table, ledger_id, rows)
        for name, keys in changes.removed_records.items():
            delete_rows(self.connection, RECORD_TABLES[name].table, ledger_id, keys)
        statement = sa.update(HEAD).where(HEAD.c.ledger_id == ledger_id).values(**msgspec.structs.asdict(head))
        if self.store.is_postgres:
            # Told with the commit, and only then. As part of the statement it costs no round trip of its own.
            statement = statement.returning(sa.func.pg_notify(CHANNEL, f"{ledger_id} {head.size}"))
        self.connection.execute(statement)

    def _change_accounts(self, ledger_id: int, rows: list[tuple[Any, ...]]) -> None:
        """Write what entries change of accounts that were there before the batch."""
        if self.store.is_postgres:
            result = self.connection.exec_driver_sql(
                "UPDATE account SET keys = c.keys, threshold = c.threshold, custodian = c.custodian, "
                "keys_seq = c.keys_seq, recovery_keys = c.recovery_keys, recovery_threshold = c.recovery_threshold, "
                "recovery_at = c.recovery_at, recovery_seq = c.recovery_seq, "
                "approval_threshold = c.approval_threshold, "
                "recovery_approval_threshold = c.recovery_approval_threshold, "
                "frozen_seq = c.frozen_seq, frozen_reason = c.frozen_reason "
                "FROM unnest(%s::text[], %s::text[], %s::int[], %s::text[], %s::bigint[], "
                "%s::text[], %s::int[], %s::text[], %s::bigint[], %s::int[], %s::int[], %s::bigint[], %s::text[]) "
                "AS c (account, keys, threshold, custodian, keys_seq, recovery_keys, recovery_threshold, recovery_at, "
                "recovery_seq, approval_threshold, recovery_approval_threshold, frozen_seq, frozen_reason) "
                "WHERE account.ledger_id = %s AND account.account = c.account",
                (*(list(column) for column in zip(*rows, strict=True)), ledger_id),
            )
        else:
            result = self.connection.exec_driver_sql(
                "UPDATE account SET keys = ?, threshold = ?, custodian = ?, keys_seq = ?, recovery_keys = ?, "
                "recovery_threshold = ?, recovery_at = ?, recovery_seq = ?, approval_threshold = ?, "
                "recovery_approval_threshold = ?, frozen_seq = ?, frozen_reason = ? "
                "WHERE ledger_id = ? AND account = ?",
                [(*values, ledger_id, account) for account, *values in rows],
            )
        if result.rowcount != len(rows):
            raise CorruptionError(f"of {len(rows)} accounts to change only {result.rowcount} are stored: run the audit")


def append_only_tables(connection: Connection) -> set[str]:
    """Tables whose triggers refuse UPDATE and DELETE, and TRUNCATE where there is one, at this moment."""
    if connection.dialect.name == "postgresql":
        rows = connection.exec_driver_sql(
            "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE p.proname = 'refuse_change' AND t.tgenabled IN ('O', 'A') AND t.tgtype & 58 = 58 "
            "AND c.relnamespace = current_schema()::regnamespace"
        )
        return {name for (name,) in rows}
    rows = connection.exec_driver_sql("SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'")
    names = {(table, name) for table, name in rows}
    return {t for t in IMMUTABLE_TABLES if {(t, f"{t}_refuses_update"), (t, f"{t}_refuses_delete")} <= names}
