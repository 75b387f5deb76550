"""The tail of the ledger: tells, in every process at once, that any of them has recorded entries.

Nothing is handed over but how many entries there are. Who follows the ledger reads from a position of its own, and
waits here when it has come to the end: whatever becomes of a notification, no entry is lost and none is read twice,
since entries are committed in the order of their numbers, without gaps.

- PostgreSQL: every commit notifies (``NOTIFY``, see :meth:`ledger.store.WriteTransaction.write`) and a connection of
  this process's own listens. Where a pooler does not pass notifications on, the head row is still read every second.
- SQLite has no notifications. ``PRAGMA data_version`` tells in a few microseconds whether another connection has
  committed, and is asked fifty times a second; the head row is read only then.

One thread per process does this, and rests while nobody waits.
"""

import logging
import os
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol

from ledger.store import CHANNEL, Store

logger = logging.getLogger("guerdon.tail")

NOTIFIED_POLL_S = 1.0
"""How often the head is read where commits notify: only for notifications that got lost."""

UNNOTIFIED_POLL_S = 0.02
"""How often a SQLite connection is asked whether there was a commit."""

RETRY_S = 1.0
"""Pause before a database that did not answer is asked again."""


class _Source(Protocol):
    """Where the size of a ledger is learnt from."""

    poll_s: float

    def fileno(self) -> int | None:
        """What becomes readable when there is news; ``None`` when nothing does."""

    def size(self) -> int:
        """How many entries there are."""

    def close(self) -> None:
        """Let go of the connection."""


class Tail:
    """Knows how many entries the ledger has, and tells who waits for more. ``close`` ends its thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._size = 0
        self._lock = threading.Lock()
        self._watchers: dict[object, tuple[int, Callable[[], None]]] = {}
        self._wake_out = self._wake_in = -1
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="guerdon-tail", daemon=True)

    @property
    def size(self) -> int:
        """How many entries there are, as far as is known here."""
        return self._size

    def start(self) -> "Tail":
        """Begin to look at the ledger."""
        self._wake_out, self._wake_in = os.pipe()
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop looking. Who still waits hears nothing more."""
        self._closing = True
        self._wake()
        self._thread.join()
        with self._lock:
            os.close(self._wake_out)
            os.close(self._wake_in)
            self._wake_out = self._wake_in = -1

    def __enter__(self) -> "Tail":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def watching(self, size: int, grown: Callable[[], None]) -> Iterator[None]:
        """While the block runs, call ``grown`` once, in any thread, as soon as there are more entries than ``size``."""
        token = object()
        with self._lock:
            there = self._size > size
            first = not self._watchers
            if not there:
                self._watchers[token] = (size, grown)
        if there:
            grown()
        elif first:
            self._wake()  # the thread may be at rest
        try:
            yield
        finally:
            with self._lock:
                self._watchers.pop(token, None)

    def learn(self, size: int) -> None:
        """Take note of a size; those who waited for it are called."""
        with self._lock:
            self._size = max(self._size, size)
            due = {token: grown for token, (below, grown) in self._watchers.items() if below < self._size}
            for token in due:
                del self._watchers[token]
        for grown in due.values():
            grown()

    def _wake(self) -> None:
        with self._lock:  # a closed descriptor's number may be another file's by now
            if self._wake_in >= 0:
                os.write(self._wake_in, b"\0")

    def _run(self) -> None:
        failing = False
        while not self._closing:
            try:
                with closing(self._open()) as source:
                    self.learn(source.size())
                    failing = False
                    self._follow(source)
            except Exception as error:  # whatever it is, those who wait would wait for ever without this thread
                if not failing:
                    logger.warning("the ledger's head cannot be watched, trying again: %s", error)
                failing = True
                self._rest(None, RETRY_S)

    def _open(self) -> _Source:
        return _PostgresHead(self._store) if self._store.is_postgres else _SqliteHead(self._store)

    def _follow(self, source: _Source) -> None:
        while not self._closing:
            with self._lock:
                waited_for = bool(self._watchers)
            self._rest(source.fileno(), source.poll_s if waited_for else None)
            self.learn(source.size())

    def _rest(self, fileno: int | None, timeout_s: float | None) -> None:
        """Sleep until there is news, someone waits, or time is up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_out, selectors.EVENT_READ)
            if fileno is not None:
                selector.register(fileno, selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(timeout_s)}
        if self._wake_out in ready:
            os.read(self._wake_out, 4096)


def _own_connection(store: Store) -> Any:
    """A connection of the driver's that the pool knows nothing of."""
    pooled = store.engine.raw_connection()
    connection = pooled.driver_connection
    pooled.detach()
    return connection


class _PostgresHead:
    """The head of a ledger in PostgreSQL: commits announce its size."""

    poll_s = NOTIFIED_POLL_S

    def __init__(self, store: Store) -> None:
        self._ledger_id = store.ledger_id
        self._connection = _own_connection(store)
        self._connection.rollback()
        self._connection.autocommit = True
        self._connection.execute(f"LISTEN {CHANNEL}")

    def fileno(self) -> int:
        return int(self._connection.fileno())

    def size(self) -> int:
        # What was announced while nobody read is here too. Other ledgers of the database use the same channel.
        announced = [notice.payload.split() for notice in self._connection.notifies(timeout=0)]
        sizes = [int(size) for ledger_id, size in announced if int(ledger_id) == self._ledger_id]
        if announced:
            return max(sizes, default=0)
        row = self._connection.execute("SELECT size FROM head WHERE ledger_id = %s", (self._ledger_id,)).fetchone()
        return int(row[0])

    def close(self) -> None:
        self._connection.close()


class _SqliteHead:
    """The head of a ledger in SQLite: read when the file has changed."""

    poll_s = UNNOTIFIED_POLL_S

    def __init__(self, store: Store) -> None:
        self._ledger_id = store.ledger_id
        self._connection = _own_connection(store)
        self._version = -1
        self._size = 0

    def fileno(self) -> None:
        return None

    def size(self) -> int:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            query = "SELECT size FROM head WHERE ledger_id = ?"
            (self._size,) = self._connection.execute(query, (self._ledger_id,)).fetchone()
            self._version = version
        return self._size

    def close(self) -> None:
        self._connection.close()
