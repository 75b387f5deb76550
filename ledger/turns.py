"""Whose turn it is: of several processes on one database, one does a work of the service, until it ends.

Asking witnesses and sending webhooks are such works. The database is what the processes share, so that is where the
turn is taken.
"""

import fcntl
import hashlib
import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger.store import Store, UnavailableError, file_beside, open_lock_file


class Turn:
    """Which of several processes on one database does a ``work`` for a ledger: whoever took this first, until it ends.

    On PostgreSQL it is an advisory lock of a session of its own, on SQLite a lock on a file beside the database. Both
    end with the process that holds them, however it ends. A ledger in memory has one process.
    """

    def __init__(self, store: Store, work: str) -> None:
        self._store = store
        self._work = work
        self._session: Connection | None = None
        self._file: int | None = None

    def take(self) -> bool:
        """Whether it is this process's turn, now or still; raise :class:`UnavailableError` when nobody can tell."""
        if self._store.is_postgres:
            try:
                return self._take_session()
            except sa.exc.SQLAlchemyError as error:
                self.release()  # with the session, the lock is gone
                words = getattr(error, "orig", None) or error
                raise UnavailableError(f"the database did not answer: {words}") from error
        if self._file is None:
            path = file_beside(self._store.engine.url, f"{self._work}-{self._store.ledger_id}")
            if path is not None:
                self._file = _locked(path)
                return self._file is not None
        return True

    def _take_session(self) -> bool:
        if self._session is not None:
            self._session.exec_driver_sql("SELECT 1")
            return True
        session = self._store.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            # A session's lock outlives its return to the pool, so this one never goes back there.
            session.detach()
            taken = session.execute(sa.select(sa.func.pg_try_advisory_lock(self._number()))).scalar_one()
        except BaseException:
            session.close()
            raise
        if taken:
            self._session = session
        else:
            session.close()
        return bool(taken)

    def _number(self) -> int:
        """What PostgreSQL knows the lock by: a number of 64 bits that nothing else takes by chance."""
        name = f"guerdon {self._work}\n{self._store.origin}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)

    def release(self) -> None:
        """Leave it to others."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._session is not None:
            self._session.close()
            self._session = None


def _locked(path: Path) -> int | None:
    """A descriptor of a file on which this process has the lock; ``None`` while another has it."""
    file = open_lock_file(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except BaseException:
        os.close(file)
        raise
    return file
