"""The auditor: replays a ledger from genesis and compares everything with what is stored.

Nothing the writer computed is believed. From the entries' bytes alone the audit recomputes the chain, the tree, the
authority of every signature, the postings the rules give and the state they lead to; then it compares the tables,
the tiles and the signed checkpoint with that. Each invariant is a named check (:data:`CHECKS`), counted, and the
first entry that breaks one is named.

Rows are read as the driver gives them, without the conversions of the tables' types: SQLite keeps any value in any
column, and what is not of its column's type is a difference to be reported, not an error to stop at.

Elliptic-curve work is most of an audit, so signatures are verified in other processes while this one replays.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.checkpoint import CheckpointError, decode_checkpoint, decode_verifier_key, verify_checkpoint
from ledger.encoding import EncodingError, LeafHash, parse_time
from ledger.entries import FIRST_PREV, MAX_ENTRY_BYTES, NO_LAST_DAY, Entry, decode_entry, leaf_hash, signed_operation_of
from ledger.merkle import TILE_WIDTH, CompactRange, subtree_root
from ledger.operations import MAX_SIGNATURES, Genesis, MalformedError, SignedOperation, signed_message
from ledger.rules import SYSTEM_ACCOUNTS, Admission, Rejection, State, admit, apply
from ledger.store import (
    ACCOUNT,
    ASSET,
    EARNING,
    ENTRY,
    HEAD,
    IMMUTABLE_TABLES,
    LOT,
    POSTING,
    PROGRAM,
    TILE,
    Store,
    StoreError,
    account_row,
    append_only_tables,
    asset_row,
    earning_rows,
    posting_rows,
    program_row,
)
from ledger.verifier import VerifierPool, first_invalid

CHECKS = {
    "entries": "stored bytes are canonical, and every column of an entry agrees with them",
    "chain": "sequence numbers are contiguous, every prev is the leaf hash before, time never decreases",
    "signatures": "every signature is valid for the operation's bytes",
    "operation_ids": "no operation is recorded twice",
    "rules": "every operation was admissible when recorded, under the keys in force then, with exactly these postings",
    "conservation": "postings of every entry sum to zero per asset",
    "balances": "no holder is below zero, and supply is within its cap",
    "postings": "the posting table holds exactly the entries' postings",
    "earnings": "the earning table holds exactly the purchases and grants, with the points the programs give",
    "projections": "accounts, assets, programs and lots equal the replayed state",
    "tiles": "every full Merkle tile is there and right",
    "head": "size, last leaf hash, time and compact range of the head row are those of the entries",
    "checkpoint": "the checkpoint is signed by the log key, for this size and the recomputed Merkle root",
    "history": "the ledger begins with the one whose checkpoint was kept",
    "append_only": "the database refuses to change or delete entries, postings and tiles",
}
"""Every check by name, with the invariant it stands for, in the order a report lists them."""

_CHUNK = 1_000
_JOB = 250
_INLINE_SIGNATURES = 400
"""Below this many entries starting processes would cost more than it saves."""

_MAX_MESSAGE = 1_000
"""Characters of a failure's message; what was found may be of any length."""

Progress = Callable[[int, int], None]
"""Told how many entries of how many have been replayed."""


class Failure(Struct, frozen=True, kw_only=True):
    """A broken invariant: which check, at which entry (``None`` where no single entry is meant), and what was found."""

    check: str
    seq: int | None
    message: str


class AuditReport(Struct, frozen=True, kw_only=True):
    """What was checked, of how many, and what failed. ``counts`` has how often each check was made."""

    origin: str
    log_key: str
    size: int
    root: str
    counts: dict[str, int]
    failures: tuple[Failure, ...]

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return not self.failures


class _BrokenEntryError(Exception):
    """Ends the replay at an entry: what follows cannot be judged on a state that is already wrong."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check
        self.message = message


def audit_database(
    store: Store,
    *,
    log_key: str | None = None,
    kept: str | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Audit one ledger of a database, in one read-only snapshot; writers may go on meanwhile.

    ``log_key`` is the verifier key the checkpoint must be signed with, got from outside; without it the one in genesis
    is used, which shows that the ledger agrees with itself but not that it is the ledger one was told about.
    ``kept`` is a signed checkpoint from an earlier visit: whoever has the log key can write another history and sign
    it, but not one that begins with the tree this checkpoint names.
    ``processes`` is how many verify signatures beside this one (default: one per core; 0: none).
    """
    with store.read() as connection, _undecoded_text(connection):
        head = _Head(store, connection)
        workers = (os.cpu_count() or 1) if processes is None else processes
        if not isinstance(head.size, int) or head.size < _INLINE_SIGNATURES:
            workers = 0
        with _SignatureChecks(workers) as signatures:
            audit = _Audit(store, connection, head, signatures, log_key=log_key, kept=kept)
            return audit.run(progress or (lambda _done, _total: None))


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


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    """What a row says beside whose ledger it is, in the order of the rows that replay gives."""
    return [column for column in table.columns if column.name != "ledger_id"]


def _as_stored(*columns: sa.ColumnElement[Any]) -> Any:
    """Select columns without the conversions of their types."""
    return sa.select(*(sa.type_coerce(column, sa.types.NULLTYPE) for column in columns))


class _Head:
    """The head row as stored; every attribute may be of any type."""

    def __init__(self, store: Store, connection: Connection) -> None:
        columns = (HEAD.c.size, HEAD.c.last_leaf_hash, HEAD.c.last_time, HEAD.c.compact_range, HEAD.c.checkpoint)
        row = connection.execute(_as_stored(*columns).where(HEAD.c.ledger_id == store.ledger_id)).one_or_none()
        if row is None:
            raise StoreError(f"no ledger {store.origin} in this database: run guerdon init")
        self.size: Any
        self.size, self.last_leaf_hash, self.last_time, self.compact_range, self.checkpoint = row


class _Audit:
    def __init__(
        self,
        store: Store,
        connection: Connection,
        head: _Head,
        signatures: "_SignatureChecks",
        *,
        log_key: str | None,
        kept: str | None,
    ) -> None:
        self.store = store
        self.connection = connection
        self.head = head
        self.log_key = log_key
        self.signatures = signatures
        self.counts = dict.fromkeys(CHECKS, 0)
        self.failures: list[Failure] = []
        self.state = State(store.origin)
        self.range = CompactRange()
        self.prev = FIRST_PREV
        self.time = ""
        self.tiles = _TileDigests()
        self.kept = kept
        self._kept_root: bytes | None = None
        self._kept_size = -1

    def run(self, progress: Progress) -> AuditReport:
        self._read_kept()
        try:
            complete = self._replay(progress)
            self._check_append_only()
            if complete:
                self._compare_outside()
                self._compare_projections()
                self._compare_tiles()
                self._compare_head()
        except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
            if isinstance(error, (sa.exc.OperationalError, sqlite3.OperationalError)):
                raise  # the database did not answer, which says nothing about what is stored
            complete = False
            self._fail("entries", self.range.size, f"the database cannot be read: {getattr(error, 'orig', error)}")
            self.connection.rollback()  # even the end of a transaction fails on a damaged file
        bad_signature = self.signatures.first_failure()
        self.counts["signatures"] = self.signatures.count
        if bad_signature is not None:
            self._fail("signatures", bad_signature, "a signature does not fit the operation's bytes")
        self._check_checkpoint(complete)
        self._check_history(complete)
        self.failures.sort(key=lambda failure: (failure.seq is None, failure.seq or 0))
        return AuditReport(
            origin=self.store.origin,
            log_key=self.log_key or "",
            size=self.range.size,
            root=self.range.root().hex(),
            counts=self.counts,
            failures=tuple(self.failures),
        )

    def _fail(self, check: str, seq: int | None, message: str) -> None:
        # What was found is quoted, so it may hold anything: nothing in it reaches a terminal but printable characters.
        printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message[:_MAX_MESSAGE])
        self.failures.append(Failure(check=check, seq=seq, message=printable))

    def _replay(self, progress: Progress) -> bool:
        """Replay all entries; False when one of them ended it."""
        for rows in self._entry_chunks():
            first = self.range.size
            expected_postings: list[tuple[Any, ...]] = []
            expected_earnings: list[tuple[Any, ...]] = []
            broken: _BrokenEntryError | None = None
            for row in rows:
                seq = self.range.size
                try:
                    admission, asset = self._replay_entry(seq, row)
                except _BrokenEntryError as error:
                    broken = error
                    break
                expected_postings += posting_rows(seq, admission.postings)
                if admission.earnings:
                    expected_earnings += earning_rows(seq, asset, admission.earnings)
            end = self.range.size
            self._compare_rows(
                "postings", POSTING, (POSTING.c.seq, POSTING.c.leg), range(first, end), expected_postings
            )
            expected_earnings.sort(key=_earning_order)
            order = (EARNING.c.seq, EARNING.c.merchant, EARNING.c.scope, EARNING.c.reference)
            self._compare_rows("earnings", EARNING, order, range(first, end), expected_earnings)
            if broken is not None:
                self._fail(broken.check, end, broken.message)
                return False
            progress(end, end if not isinstance(self.head.size, int) else self.head.size)
        if self.range.size == 0:
            self._fail("chain", 0, "there is no entry, not even genesis")
            return False
        return True

    def _entry_chunks(self) -> Iterator[Sequence[Any]]:
        query = (
            _as_stored(*_columns(ENTRY))
            .where(ENTRY.c.ledger_id == self.store.ledger_id)
            .order_by(ENTRY.c.seq)
            .limit(_CHUNK)
        )
        rows = self._fetch(query)
        while rows:
            yield rows
            last = rows[-1][0]  # an integer: replay went on past it
            rows = self._fetch(query.where(ENTRY.c.seq > last))

    def _fetch(self, query: Any) -> Sequence[Any]:
        """All rows of a query; text is decoded the quick way, and only if that fails as what it may be."""
        driver: Any = self.connection.connection.driver_connection
        if self.connection.dialect.name != "sqlite":
            return _driver_rows(self.connection.execute(query))
        tolerant, driver.text_factory = driver.text_factory, str
        try:
            return _driver_rows(self.connection.execute(query))
        except sqlite3.OperationalError:
            driver.text_factory = tolerant
            return _driver_rows(self.connection.execute(query))
        finally:
            driver.text_factory = tolerant

    def _replay_entry(self, seq: int, row: tuple[Any, ...]) -> tuple[Admission, str]:
        stored_seq, stored_hash, stored_id, kind, actor, time, data = row
        if stored_seq != seq:
            raise _BrokenEntryError("chain", f"the next stored entry has sequence number {stored_seq!r}")
        entry, signed, digest = _read_entry(data)
        self._check_chain(seq, entry)
        if digest != stored_hash or signed.op_id != stored_id:
            raise _BrokenEntryError("entries", "the stored leaf hash or operation id is not that of the stored bytes")
        op = signed.op
        if (kind, actor, time) != (op.KIND, getattr(op, "actor", None), entry.time):
            raise _BrokenEntryError("entries", "the stored kind, actor or time is not that of the stored bytes")
        self.counts["entries"] += 1
        self.signatures.add(seq, signed)
        if signed.op_id in self.state.recorded:
            raise _BrokenEntryError("operation_ids", f"recorded in entry {self.state.recorded[signed.op_id]} before")
        self.counts["operation_ids"] += 1
        admission = self._check_rules(signed, entry)
        apply(self.state, signed, admission, seq)
        self._check_balances(admission)
        self.range.append(digest)
        if self.range.size == self._kept_size:
            self._kept_root = self.range.root()
        self.tiles.append(digest)
        self.prev, self.time = digest, entry.time
        return admission, getattr(op, "asset", "")

    def _check_chain(self, seq: int, entry: Entry) -> None:
        if entry.seq != seq:
            raise _BrokenEntryError("chain", f"the entry says it is number {entry.seq}")
        if entry.prev != self.prev.hex():
            raise _BrokenEntryError("chain", f"prev is {entry.prev}, the entry before has leaf hash {self.prev.hex()}")
        if entry.time < self.time:
            raise _BrokenEntryError("chain", f"time {entry.time} is earlier than {self.time} of the entry before")
        if isinstance(entry.op, Genesis) != (seq == 0):
            raise _BrokenEntryError("chain", "genesis is entry 0 and only entry 0")
        self.counts["chain"] += 1

    def _check_rules(self, signed: SignedOperation, entry: Entry) -> Admission:
        totals: dict[str, int] = {}
        for leg in entry.postings:
            totals[leg.asset] = totals.get(leg.asset, 0) + leg.amount
        if any(totals.values()):
            raise _BrokenEntryError("conservation", f"postings sum to {totals}, not to zero")
        self.counts["conservation"] += 1
        decision = admit(self.state, signed, entry.time)
        if isinstance(decision, Rejection):
            raise _BrokenEntryError(
                "rules", f"{decision.code} at {'.'.join(decision.path) or 'the operation'}: {decision.message}"
            )
        if decision.postings != entry.postings:
            raise _BrokenEntryError("rules", _first_difference("posting", entry.postings, decision.postings))
        self.counts["rules"] += 1
        return decision

    def _check_balances(self, admission: Admission) -> None:
        # Supply within its cap is part of admit; here the state it led to is looked at with other eyes.
        for leg in admission.postings:
            if leg.account in SYSTEM_ACCOUNTS:
                continue
            points = self.state.lots_of(leg.account, leg.asset).get(leg.lot or NO_LAST_DAY, 0)
            if points < 0:
                raise _BrokenEntryError("balances", f"{leg.account} is left with {points} points of {leg.asset}")
        self.counts["balances"] += 1

    def _compare_rows(
        self, check: str, table: sa.Table, order: tuple[Any, ...], seqs: range, expected: list[tuple[Any, ...]]
    ) -> None:
        """Compare one chunk's rows of a table, in the table's own order of columns, with what replay gives."""
        columns = _columns(table)
        query = (
            _as_stored(*columns)
            .where(table.c.ledger_id == self.store.ledger_id, table.c.seq >= seqs.start, table.c.seq < seqs.stop)
            .order_by(*order)
        )
        stored = self._fetch(query)
        self.counts[check] += len(expected)
        if stored == expected:
            return
        seq_at = [column.name for column in columns].index("seq")
        found, wanted = next((a, b) for a, b in zip_longest(stored, expected) if a != b)
        seq = min(int(row[seq_at]) for row in (found, wanted) if row is not None)
        self._fail(check, seq, _difference(table, found, wanted))

    def _compare_outside(self) -> None:
        """Rows that belong to no entry at all, before the first or after the last."""
        for check, table in (("postings", POSTING), ("earnings", EARNING)):
            inside = sa.and_(table.c.seq >= 0, table.c.seq < self.range.size)
            query = (
                _as_stored(*_columns(table)).where(table.c.ledger_id == self.store.ledger_id, sa.not_(inside)).limit(1)
            )
            for row in self.connection.execute(query):
                self._fail(check, None, _difference(table, tuple(row), None))

    def _compare_projections(self) -> None:
        state = self.state
        lots = [
            (account, asset, day, points)
            for (account, asset), days in state.lots.items()
            for day, points in days.items()
        ]
        self._compare_table(ACCOUNT, [account_row(account) for account in state.accounts.values()], 1)
        self._compare_table(ASSET, [asset_row(asset) for asset in state.assets.values()], 1)
        versions = [program_row(version) for versions in state.programs.values() for version in versions]
        self._compare_table(PROGRAM, versions, 2)
        self._compare_table(LOT, lots, 3)

    def _compare_table(self, table: sa.Table, rows: list[tuple[Any, ...]], key_size: int) -> None:
        expected = {row[:key_size]: row for row in rows}
        query = _as_stored(*_columns(table)).where(table.c.ledger_id == self.store.ledger_id)
        differences: list[tuple[Any, Any]] = []
        for row in self.connection.execute(query.execution_options(yield_per=_CHUNK)):
            stored = tuple(row)
            wanted = expected.pop(stored[:key_size], None)
            if stored != wanted:
                differences.append((stored, wanted))
        differences += [(None, row) for row in expected.values()]
        self.counts["projections"] += len(rows)
        if not differences:
            return
        # The last column of all but the lots is the entry that made the row. A row nobody made has no entry.
        has_seq = "seq" in table.columns
        seqs = [wanted[-1] if wanted is not None and has_seq else None for _, wanted in differences]
        at = min(range(len(seqs)), key=lambda i: (seqs[i] is None, seqs[i] or 0, repr(differences[i])))
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        self._fail("projections", seqs[at], _difference(table, *differences[at]) + more)

    def _compare_tiles(self) -> None:
        missing = dict(self.tiles.digests)
        self.counts["tiles"] = len(missing)
        columns = (TILE.c.level, TILE.c.index, TILE.c.hashes, TILE.c.root)
        query = _as_stored(*columns).where(TILE.c.ledger_id == self.store.ledger_id)
        wrong: list[tuple[Any, Any]] = []
        for level, index, hashes, root in self.connection.execute(query.execution_options(yield_per=64)):
            expected = missing.pop((level, index), None)
            if expected is None:
                self._fail("tiles", None, f"tile {level!r}/{index!r} is none of a tree of {self.range.size} entries")
            elif not isinstance(hashes, bytes) or expected != _tile_digest(hashes, root):
                wrong.append((level, index))
        for found, what in ((wrong, "is not that of the entries"), (list(missing), "is missing")):
            if found:
                level, index = min(found, key=_first_leaf)
                self._fail("tiles", _first_leaf((level, index)), f"tile {level}/{index} {what}")

    def _compare_head(self) -> None:
        head, size = self.head, self.range.size
        self.counts["head"] = 1
        if head.size != size:
            at = min(head.size, size) if isinstance(head.size, int) else None
            self._fail("head", at, f"the head row counts {head.size!r} entries, {size} are stored")
        elif head.last_leaf_hash != self.prev or head.last_time != self.time:
            self._fail("head", size - 1, "the head row's last leaf hash or time is not that of the last entry")
        elif head.compact_range != self.range.encode():
            self._fail("head", None, "the head row's compact range is not that of the entries")

    def _read_kept(self) -> None:
        """Read the kept checkpoint; its signature is checked at the end, when the key is known."""
        if self.kept is None:
            return
        try:
            self._kept_size = decode_checkpoint(self.kept.rpartition("\n\n")[0] + "\n").size
        except CheckpointError as error:
            self._fail("history", None, f"the kept checkpoint cannot be read: {error}")
            self.kept = None

    def _check_history(self, complete: bool) -> None:
        if self.kept is None or self.log_key is None:
            return
        self.counts["history"] = 1
        try:
            checkpoint = verify_checkpoint(self.kept, decode_verifier_key(self.log_key), self.store.origin)
        except CheckpointError as error:
            self._fail("history", None, f"the kept checkpoint: {error}")
            return
        if checkpoint.size == 0:
            return
        if self._kept_root is None and complete:
            size = self.range.size
            self._fail("history", size, f"the kept checkpoint counts {checkpoint.size} entries, {size} are stored")
        elif self._kept_root is not None and self._kept_root != checkpoint.root:
            message = f"the first {checkpoint.size} entries are not those of the kept checkpoint: history was rewritten"
            self._fail("history", None, message)

    def _check_append_only(self) -> None:
        """The triggers do not prove what was done without them; that they are missing is worth knowing all the same."""
        found = append_only_tables(self.connection)
        self.counts["append_only"] = len(IMMUTABLE_TABLES)
        for table in IMMUTABLE_TABLES:
            if table not in found:
                self._fail("append_only", None, f"the triggers that keep table {table} append-only are missing or off")

    def _check_checkpoint(self, complete: bool) -> None:
        parameters = self.state.parameters
        key = self.log_key or (parameters.log_key if parameters else None)
        if key is None:
            return
        if parameters is not None and parameters.log_key != key:
            self._fail("checkpoint", 0, f"genesis names the log key {parameters.log_key}, not {key}")
        self.log_key = key
        self.counts["checkpoint"] = 1
        if not isinstance(self.head.checkpoint, str):
            self._fail("checkpoint", None, "the checkpoint is not text")
            return
        try:
            checkpoint = verify_checkpoint(self.head.checkpoint, decode_verifier_key(key), self.store.origin)
        except CheckpointError as error:
            self._fail("checkpoint", None, str(error))
            return
        if not complete:
            return
        if checkpoint.size != self.range.size:
            at = min(checkpoint.size, self.range.size)
            self._fail(
                "checkpoint", at, f"the checkpoint counts {checkpoint.size} entries, {self.range.size} are stored"
            )
        elif checkpoint.root != self.range.root():
            self._fail("checkpoint", None, "the checkpoint's root is not the Merkle root of the entries")


def _read_entry(data: Any) -> tuple[Entry, SignedOperation, LeafHash]:
    if not isinstance(data, bytes):
        raise _BrokenEntryError("entries", f"the stored bytes are of the type {type(data).__name__}")
    if len(data) > MAX_ENTRY_BYTES:
        raise _BrokenEntryError("entries", f"{len(data)} bytes, at most {MAX_ENTRY_BYTES} are allowed")
    try:
        entry = decode_entry(data)
        parse_time(entry.time)
        keys = {signature.key for signature in entry.sigs}
        if len(keys) != len(entry.sigs) or len(keys) > MAX_SIGNATURES:
            raise _BrokenEntryError("entries", f"more than {MAX_SIGNATURES} signatures, or two of the same key")
        return entry, signed_operation_of(entry), leaf_hash(data)
    except (EncodingError, MalformedError) as error:
        raise _BrokenEntryError("entries", str(error)) from error


def _earning_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    merchant, scope, reference, seq = row[:4]
    return (seq, merchant, scope, reference)


def _first_difference(what: str, stored: Sequence[Any], given: Sequence[Any]) -> str:
    for i, (a, b) in enumerate(zip_longest(stored, given)):
        if a != b:
            return f"{what} {i} is {_show(a)}, the rules give {_show(b)}"
    return f"no {what} differs"


def _show(value: Any) -> str:
    return "missing" if value is None else msgspec.json.encode(value, order="sorted").decode()


def _difference(table: sa.Table, stored: Any, given: Any) -> str:
    if stored is None:
        return f"table {table.name} lacks {given}"
    if given is None:
        return f"table {table.name} has {stored}, which replay does not give"
    return f"table {table.name} has {stored}, replay gives {given}"


_TileDigest = tuple[bytes, Any]


def _tile_digest(hashes: bytes, root: Any) -> _TileDigest:
    return hashlib.sha256(hashes).digest(), root


def _first_leaf(tile: tuple[int, int]) -> int:
    """The first entry under a tile."""
    level, index = tile
    return int(index * TILE_WIDTH ** (level + 1))


class _TileDigests:
    """Full tiles recomputed from leaf hashes, each kept only as a digest to compare the stored one with."""

    def __init__(self) -> None:
        self.digests: dict[tuple[int, int], _TileDigest] = {}
        self._open: list[list[bytes]] = [[]]
        self._next: list[int] = [0]

    def append(self, digest: bytes, level: int = 0) -> None:
        if level == len(self._open):
            self._open.append([])
            self._next.append(0)
        hashes = self._open[level]
        hashes.append(digest)
        if len(hashes) == TILE_WIDTH:
            root = subtree_root(hashes)
            self.digests[(level, self._next[level])] = _tile_digest(b"".join(hashes), root)
            self._next[level] += 1
            self._open[level] = []
            self.append(root, level + 1)


class _SignatureChecks:
    """Verifies signatures in other processes, a job of many at a time; with no processes, at once and here."""

    def __init__(self, processes: int) -> None:
        self.count = 0
        self._job: list[tuple[int, str, str, bytes]] = []
        self._running: list[Future[int | None]] = []
        self._failures: list[int] = []
        self._limit = 16 * max(processes, 1)
        self._pool = VerifierPool(processes) if processes else None

    def __enter__(self) -> "_SignatureChecks":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.__exit__()

    def add(self, seq: int, signed: SignedOperation) -> None:
        message = signed_message(signed.op_bytes)
        for signature in signed.sigs:
            self._job.append((seq, signature.key, signature.sig, message))
        self.count += len(signed.sigs)
        if len(self._job) >= _JOB:
            self._start_job()

    def _start_job(self) -> None:
        job, self._job = self._job, []
        if self._pool is None:
            self._note(first_invalid(job))
            return
        if len(self._running) >= self._limit:  # keep memory bounded when replay is faster than verification
            self._note(self._running.pop(0).result())
        self._running.append(self._pool.submit(job))

    def _note(self, seq: int | None) -> None:
        if seq is not None:
            self._failures.append(seq)

    def first_failure(self) -> int | None:
        """Wait for all jobs; the first entry with a signature that is not valid."""
        self._start_job()
        for future in self._running:
            self._note(future.result())
        self._running.clear()
        return min(self._failures, default=None)
