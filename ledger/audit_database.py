"""A database as the subject of an audit: the entries it stores, and every table, tile and trigger beside them.

Rows are read as the driver gives them, without the conversions of the tables' types: SQLite keeps any value in any
column, and what is not of its column's type is a difference to be reported, not an error to stop at.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from operator import itemgetter
from typing import Any, Unpack

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger import log
from ledger.audit import AuditReport, Failure, Options, Terms, audit, first_leaf, make_failure
from ledger.bulk import chunks_of, find_rows, own_columns
from ledger.checkpoint import CheckpointError, WitnessPolicy
from ledger.cosignatures import Cosignatures, stored_cosignatures
from ledger.entries import leaf_hash
from ledger.replay import BrokenEntryError, FullTile, LightReplay, Replayed
from ledger.state import RECORDS, Records, State
from ledger.store import (
    CorruptionError,
    Store,
    StoreError,
    account_row,
    append_only_tables,
    asset_row,
    earning_rows,
    party_rows,
    posting_rows,
    program_row,
    reference_rows,
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
    RecordTable,
)
from ledger.tiles import Tile

CHUNK = 1_000
"""Entries that are read and compared at a time."""

_LIGHT = ("head", "append_only")
_FULL = ("postings", "earnings", "references", "parties", "projections", *_LIGHT)


def audit_database(store: Store, terms: Terms | None = None, **options: Unpack[Options]) -> AuditReport:
    """Audit one ledger of a database, in one read-only snapshot; writers may go on meanwhile.

    A light audit looks at the record, its tiles and the head; a full one at every table. One that is resumed compares
    the rows of new entries only, and the projections whole: but those that grow with the chain, such as claims, where
    entries have changed them, and their number.
    """
    with store.read() as connection, _undecoded_text(connection):
        database = _Database(store, connection, light=options.get("light", False))
        report = audit(database, terms or Terms(), **options)
        connection.rollback()  # on a damaged file even the end of a transaction that only read fails
        return report


@contextmanager
def _undecoded_text(connection: Connection) -> Iterator[None]:
    """Have SQLite give text that is not UTF-8 as bytes instead of failing: bytes equal no text the audit expects."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    usual, driver.text_factory = driver.text_factory, _text_or_bytes
    try:
        yield
    finally:
        driver.text_factory = usual


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _driver_rows(result: Any) -> Sequence[Any]:
    """All rows as plain tuples from the driver: wrapping them would be a fifth of the time of a replay."""
    try:
        rows: Sequence[Any] = result.cursor.fetchall()
    finally:
        result.close()
    return rows


def _as_stored(*columns: sa.ColumnElement[Any]) -> Any:
    """Select columns without the conversions of their types."""
    return sa.select(*(sa.type_coerce(column, sa.types.NULLTYPE) for column in columns))


class _Database:
    """One ledger of a database, in one snapshot."""

    def __init__(self, store: Store, connection: Connection, *, light: bool) -> None:
        self.origin = store.origin
        self.checks: tuple[str, ...] = _LIGHT if light else _FULL
        self._store = store
        self._connection = connection
        self._light = light
        self._counts = dict.fromkeys((*self.checks, "tiles"), 0)
        self._rows: Sequence[Any] = ()
        self._first = 0
        columns = (HEAD.c.size, HEAD.c.last_leaf_hash, HEAD.c.last_time, HEAD.c.compact_range, HEAD.c.checkpoint)
        row = connection.execute(_as_stored(*columns).where(HEAD.c.ledger_id == store.ledger_id)).one_or_none()
        if row is None:
            raise StoreError(f"no ledger {store.origin} in this database: run guerdon init")
        self._head: Any = row

    def counted(self) -> dict[str, int]:
        """How often each of its own checks was made, and the check of the tiles."""
        return self._counts

    def checkpoint(self) -> Any:
        """The head row's."""
        return self._head.checkpoint

    def witnessed_checkpoint(self, terms: Terms) -> Any:
        """The newest one that enough of the witnesses have cosigned, or else the one that most have."""
        policy = WitnessPolicy(log_keys=(), witnesses=terms.witnesses, threshold=terms.quorum)
        try:
            rows = stored_cosignatures(self._store, self._connection)
            said = Cosignatures(policy, rows)
            newest = said.witnessed() or max(
                (said.on(row.checkpoint) for row in rows), key=lambda found: len(found.cosignatures), default=None
            )
        except (CheckpointError, TypeError, ValueError):
            return ""  # which is no checkpoint, as what is stored is none
        return None if newest is None else newest.note

    def chunks(self, first: int) -> Iterator[Iterable[Any]]:
        """The stored bytes of the entries from ``first`` on."""
        query = (
            _as_stored(*own_columns(ENTRY))
            .where(ENTRY.c.ledger_id == self._store.ledger_id)
            .order_by(ENTRY.c.seq)
            .limit(CHUNK)
        )
        # From genesis on, what has a number below is found too.
        rows = self._fetch(query.where(ENTRY.c.seq >= first) if first else query)
        expected = first
        while rows:
            self._rows, self._first = rows, expected
            whole = rows[0][0] == expected and rows[-1][0] == expected + len(rows) - 1
            yield [row[-1] for row in rows] if whole else _in_order(rows, expected)
            expected += len(rows)
            self._rows = ()
            rows = self._fetch(query.where(ENTRY.c.seq >= expected))

    def _fetch(self, query: Any) -> Sequence[Any]:
        """All rows of a query; text is decoded the quick way, and only if that fails as what it may be."""
        with _corruption():
            driver: Any = self._connection.connection.driver_connection
            if self._connection.dialect.name != "sqlite":
                return _driver_rows(self._connection.execute(query))
            tolerant, driver.text_factory = driver.text_factory, str
            try:
                return _driver_rows(self._connection.execute(query))
            except sqlite3.OperationalError:
                driver.text_factory = tolerant
                return _driver_rows(self._connection.execute(query))
            finally:
                driver.text_factory = tolerant

    def tiles(self, tiles: Sequence[Tile]) -> dict[Tile, list[bytes]]:
        """The hashes of tiles as stored."""
        try:
            with _corruption():
                return log.read_tiles(self._store, self._connection, tiles)
        except CorruptionError as error:
            raise BrokenEntryError("tiles", str(error)) from error

    def compare(self, replayed: Sequence[Replayed], tiles: Sequence[FullTile]) -> Iterator[Failure]:
        """Compare the rows of a chunk's entries."""
        for row, found in zip(self._rows, replayed, strict=False):
            expected = (found.seq, found.leaf_hash, found.op_id, found.kind, found.actor, found.time)
            if row[:6] != expected:
                yield make_failure("entries", found.seq, _difference(ENTRY, row[:6], expected))
        if len(replayed) < len(self._rows):
            yield from self._compare_broken(self._rows[len(replayed)], self._first + len(replayed))
        yield from self._compare_tiles(tiles)
        if self._light or not replayed:
            return
        postings: list[tuple[Any, ...]] = []
        earnings: list[tuple[Any, ...]] = []
        references: list[tuple[Any, ...]] = []
        parties: list[tuple[Any, ...]] = []
        for found in replayed:
            admission = found.admission
            postings += posting_rows(found.seq, admission.postings)
            earnings += earning_rows(found.seq, found.asset, admission.earnings)
            references += reference_rows(found.seq, admission.references)
            parties += party_rows(found.seq, admission.parties)
        seqs = range(replayed[0].seq, replayed[-1].seq + 1)
        yield from self._compare_rows("postings", POSTING, ("seq", "leg"), seqs, postings)
        order = ("seq", "merchant", "scope", "reference")
        yield from self._compare_rows("earnings", EARNING, order, seqs, earnings)
        yield from self._compare_rows("references", REFERENCE, order, seqs, references)
        yield from self._compare_rows("parties", PARTY, ("seq", "account"), seqs, parties)

    def _compare_broken(self, row: Any, seq: int) -> Iterator[Failure]:
        """Whether the entry that ended the replay was changed after it was recorded."""
        if row[0] == seq and isinstance(row[-1], bytes) and leaf_hash(row[-1]) != row[1]:
            yield make_failure("entries", seq, "the stored leaf hash is not that of the stored bytes")

    def _compare_rows(
        self, check: str, table: sa.Table, order: tuple[str, ...], seqs: range, expected: list[tuple[Any, ...]]
    ) -> Iterator[Failure]:
        """Compare one chunk's rows of a table, in the table's own order of columns, with what replay gives."""
        columns = own_columns(table)
        names = [column.name for column in columns]
        expected.sort(key=itemgetter(*(names.index(name) for name in order)))
        query = (
            _as_stored(*columns)
            .where(table.c.ledger_id == self._store.ledger_id, table.c.seq >= seqs.start, table.c.seq < seqs.stop)
            .order_by(*(table.c[name] for name in order))
        )
        stored = self._fetch(query)
        self._counts[check] += len(expected)
        if stored == expected:
            return
        seq_at = names.index("seq")
        found, wanted = next((a, b) for a, b in zip_longest(stored, expected) if a != b)
        seq = min(int(row[seq_at]) for row in (found, wanted) if row is not None)
        yield make_failure(check, seq, _difference(table, found, wanted))

    def _compare_tiles(self, tiles: Sequence[FullTile]) -> Iterator[Failure]:
        """Compare the tiles that a chunk filled."""
        self._counts["tiles"] += len(tiles)
        if not tiles:
            return
        expected = {(tile.tile.level, tile.tile.index): tile for tile in tiles}
        levels = {tile.tile.level for tile in tiles}
        stored: dict[tuple[Any, Any], tuple[Any, ...]] = {}
        for level in levels:
            indexes = [index for at, index in expected if at == level]
            query = _as_stored(TILE.c.level, TILE.c.index, TILE.c.hashes, TILE.c.root).where(
                TILE.c.ledger_id == self._store.ledger_id,
                TILE.c.level == level,
                TILE.c.index >= min(indexes),
                TILE.c.index <= max(indexes),
            )
            stored |= {(row[0], row[1]): row[2:] for row in self._fetch(query)}
        for key, tile in expected.items():
            row = stored.get(key)
            if row is None:
                yield make_failure("tiles", first_leaf(tile.tile), f"tile {tile.tile.path()} is missing")
            elif row != (tile.hashes, tile.root):
                message = f"tile {tile.tile.path()} is not that of the entries"
                yield make_failure("tiles", first_leaf(tile.tile), message)

    def compare_end(self, replay: LightReplay, first: int) -> Iterator[Failure]:
        """Compare the triggers, the head row, rows that belong to no entry or tile, and the projections."""
        yield from self._compare_append_only()
        yield from self._compare_head(replay)
        yield from self._surplus_tiles(replay.size)
        if not self._light:
            yield from self._surplus_rows(replay.size)
            yield from self._compare_projections(replay.state)
            for name in RECORDS:
                kept, records = RECORD_TABLES[name], replay.state.records(name)
                if first and kept.grows:
                    yield from self._compare_changed_records(kept, records)
                else:
                    yield from self._compare_records(kept, records)

    def _surplus_tiles(self, size: int) -> Iterator[Failure]:
        """Tiles that a tree of this size does not have: each level's full ones are counted from 0."""
        level, outside = 0, [TILE.c.level < 0]
        while full := size >> 8 * (level + 1):
            outside.append(sa.and_(TILE.c.level == level, sa.or_(TILE.c.index < 0, TILE.c.index >= full)))
            level += 1
        outside.append(TILE.c.level >= level)
        for condition in outside:
            query = _as_stored(TILE.c.level, TILE.c.index).where(TILE.c.ledger_id == self._store.ledger_id, condition)
            for level_found, index in self._fetch(query.limit(1)):
                message = f"tile {level_found!r}/{index!r} is none of a tree of {size} entries"
                yield make_failure("tiles", None, message)

    def _surplus_rows(self, size: int) -> Iterator[Failure]:
        """Rows that belong to no entry at all, before the first or after the last."""
        tables = {"postings": POSTING, "earnings": EARNING, "references": REFERENCE, "parties": PARTY}
        for check, table in tables.items():
            for outside in (table.c.seq < 0, table.c.seq >= size):
                query = _as_stored(*own_columns(table)).where(table.c.ledger_id == self._store.ledger_id, outside)
                for row in self._fetch(query.limit(1)):
                    yield make_failure(check, None, _difference(table, tuple(row), None))

    def _compare_projections(self, state: State) -> Iterator[Failure]:
        lots = (
            (account, asset, day, points)
            for (account, asset), days in state.lots.items()
            for day, points in days.items()
        )
        yield from self._compare_table(ACCOUNT, (account_row(account) for account in state.accounts.values()), 1)
        yield from self._compare_table(ASSET, (asset_row(asset) for asset in state.assets.values()), 1)
        versions = (program_row(version) for versions in state.programs.values() for version in versions)
        yield from self._compare_table(PROGRAM, versions, 2)
        yield from self._compare_table(LOG_KEY, state.log_keys, 1)
        yield from self._compare_table(LOT, lots, 3)

    def _compare_table(self, table: sa.Table, rows: Iterable[tuple[Any, ...]], key_size: int) -> Iterator[Failure]:
        expected = {row[:key_size]: row for row in rows}
        self._counts["projections"] += len(expected)
        columns = own_columns(table)
        query = _as_stored(*columns).where(table.c.ledger_id == self._store.ledger_id)
        differences: list[tuple[Any, Any]] = []
        with _corruption():
            for row in self._connection.execute(query.execution_options(yield_per=CHUNK)):
                stored = tuple(row)
                wanted = expected.pop(stored[:key_size], None)
                if stored != wanted:
                    differences.append((stored, wanted))
        differences += [(None, row) for row in expected.values()]
        yield from _report(table, differences)

    def _compare_records(self, kept: RecordTable[Any], records: Records[Any]) -> Iterator[Failure]:
        """Compare a whole table of records. Neither its rows nor those expected are in memory at once."""
        table, key_size = kept.table, len(kept.key)
        self._counts["projections"] += len(records)
        query = _as_stored(*own_columns(table)).where(table.c.ledger_id == self._store.ledger_id)
        differences: list[tuple[Any, Any]] = []
        found = 0
        with _corruption():
            for row in self._connection.execute(query.execution_options(yield_per=CHUNK)):
                stored = tuple(row)
                record = records.get(*stored[:key_size])
                wanted = None if record is None else kept.row_of(record)
                found += record is not None
                if stored != wanted:
                    differences.append((stored, wanted))
        if found < len(records):
            query = _as_stored(*own_columns(table)[:key_size]).where(table.c.ledger_id == self._store.ledger_id)
            keys = {tuple(row) for row in self._fetch(query)}
            differences += [(None, kept.row_of(r)) for r in records if records.key_of(r) not in keys]
        yield from _report(table, differences)

    def _compare_changed_records(self, kept: RecordTable[Any], records: Records[Any]) -> Iterator[Failure]:
        """Compare what this audit has seen change, and how many rows there are in all."""
        table, key_size = kept.table, len(kept.key)
        self._counts["projections"] += len(records.changed)
        differences: list[tuple[Any, Any]] = []
        with _corruption():
            for keys in chunks_of(list(records.changed), CHUNK):
                rows = find_rows(self._connection, self._store.ledger_id, table, kept.key, keys)
                stored = {tuple(row[:key_size]): tuple(row) for row in rows}
                for key in keys:
                    record = records.get(*key)
                    wanted = None if record is None else kept.row_of(record)
                    if stored.get(key) != wanted:
                        differences.append((stored.get(key), wanted))
            query = sa.select(sa.func.count()).where(table.c.ledger_id == self._store.ledger_id)
            count = self._connection.execute(query).scalar_one()
        yield from _report(table, differences)
        if not differences and count != len(records):
            message = f"table {table.name} has {count} rows, replay gives {len(records)}"
            yield make_failure("projections", None, message)

    def _compare_head(self, replay: LightReplay) -> Iterator[Failure]:
        head, position = self._head, replay.position()
        size = position.size
        self._counts["head"] = 1
        if head.size != size:
            at = min(head.size, size) if isinstance(head.size, int) else None
            yield make_failure("head", at, f"the head row counts {head.size!r} entries, {size} are stored")
        elif (head.last_leaf_hash, head.last_time) != (position.last_leaf_hash, position.last_time):
            message = "the head row's last leaf hash or time is not that of the last entry"
            yield make_failure("head", size - 1, message)
        elif head.compact_range != position.compact_range:
            yield make_failure("head", None, "the head row's compact range is not that of the entries")

    def _compare_append_only(self) -> Iterator[Failure]:
        """The triggers do not prove what was done without them; that they are missing is worth knowing all the same."""
        found = append_only_tables(self._connection)
        self._counts["append_only"] = len(IMMUTABLE_TABLES)
        for table in IMMUTABLE_TABLES:
            if table not in found:
                message = f"the triggers that keep table {table} append-only are missing or off"
                yield make_failure("append_only", None, message)


def _in_order(rows: Sequence[Any], expected: int) -> Iterator[Any]:
    """The bytes of rows as long as their sequence numbers follow each other."""
    for seq, row in enumerate(rows, expected):
        if row[0] != seq:
            raise BrokenEntryError("chain", f"the next stored entry has sequence number {row[0]!r}")
        yield row[-1]


@contextmanager
def _corruption() -> Iterator[None]:
    """Tell a file that is damaged from a database that does not answer, which says nothing about what is stored."""
    try:
        yield
    except (sa.exc.OperationalError, sqlite3.OperationalError):
        raise
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        raise BrokenEntryError("entries", f"the database cannot be read: {getattr(error, 'orig', error)}") from error


def _report(table: sa.Table, differences: list[tuple[Any, Any]]) -> Iterator[Failure]:
    """The differences of a projection, each what is stored and what replay gives, as one failure."""
    if not differences:
        return
    # Many rows name the entry that made them. A row nobody made has no entry.
    names = [column.name for column in own_columns(table)]
    seq_at = names.index("seq") if "seq" in names else None
    seqs = [wanted[seq_at] if wanted is not None and seq_at is not None else None for _, wanted in differences]
    at = min(range(len(seqs)), key=lambda i: (seqs[i] is None, seqs[i] or 0, repr(differences[i])))
    more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    yield make_failure("projections", seqs[at], _difference(table, *differences[at]) + more)


def _difference(table: sa.Table, stored: Any, given: Any) -> str:
    if stored is None:
        return f"table {table.name} lacks {given}"
    if given is None:
        return f"table {table.name} has {stored}, which replay does not give"
    return f"table {table.name} has {stored}, replay gives {given}"
