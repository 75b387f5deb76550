"""A witness: it cosigns a ledger's checkpoints as long as the ledger only grows (C2SP tlog-witness, add-checkpoint).

A ledger cannot be trusted not to show two histories to two people; each of them verifies what they see. But if both
ask for a cosignature of the same witness, one of them sees none: a witness remembers, for each log, the last
checkpoint it cosigned, and cosigns only what provably begins with it.

A log sends the size the witness is known to have, the consistency proof from there, and its new checkpoint::

    old 1
    tU0qRWXJcmKgdd5Ya3IUyWDcJZ0b4kpcl1uP+8f1TXY=

    ledger.example/coalition
    2
    5gTCPeMOSW7+HBFgEVKAJ5mSKlhp8SMcTKnMQMEcEY8=

    — ledger.example/coalition 1fQ0dXZ…

and is answered with one line to put behind that, or with the reason why not:

=== ===============================================================================================
200 a cosignature
400 the request is malformed, or ``old`` is larger than the checkpoint
403 no key of this log signed the checkpoint, or a key's signature is not valid
404 the log is unknown here
409 ``old`` is not the size cosigned last; the answer is that size, so that the log can try again
422 the proof does not prove it; or another tree of the same size was cosigned before
=== ===============================================================================================

in the order 400 (form), 404, 403, 400 (``old``), 409, 422.

Here is what a request means and what follows from it, and the state to remember. HTTP is left to :mod:`api.witness`;
key, clock and state are passed in.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    LogKey,
    SignatureError,
    check_key_name,
    cosign_checkpoint,
    decode_checkpoint,
    decode_hash,
    decode_note,
    decode_size,
    encode_hash,
    verify_note,
)
from ledger.merkle import EMPTY_ROOT, ProofError, verify_consistency
from ledger.store import CorruptionError, StoreError, UnavailableError, open_engine

MAX_PROOF_HASHES = 63
SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

Clock = Callable[[], int]
"""Milliseconds since 1970-01-01T00:00:00Z."""


class AddCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A request: the checkpoint, its note as sent, and the proof that it extends the tree of ``old_size`` entries."""

    old_size: int
    proof: tuple[bytes, ...]
    note: str
    checkpoint: Checkpoint


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request. ``contradicted`` is a note that contradicts the one sent: the log signed both."""

    status: int
    body: str
    content_type: str = TEXT_TYPE
    contradicted: str | None = None


class Cosigned(msgspec.Struct, frozen=True, kw_only=True):
    """The last checkpoint of a log that was cosigned; ``note`` is as the log sent it."""

    size: int
    root: bytes
    note: str


NOTHING = Cosigned(size=0, root=EMPTY_ROOT, note="")
"""What is known of a log that never came: every tree begins with the empty one."""


def encode_request(old_size: int, proof: Sequence[bytes], note: str) -> bytes:
    """What a log sends to have its checkpoint cosigned."""
    lines = [f"old {old_size}", *map(encode_hash, proof)]
    return ("\n".join(lines) + "\n\n" + note).encode()


def decode_request(body: bytes) -> AddCheckpoint:
    """Read a request; raise :class:`CheckpointError` unless it is exactly in the form a log has to send."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError("the request is not UTF-8") from error
    head, separator, note = text.partition("\n\n")
    first, *hashes = head.split("\n")
    if not separator or not first.startswith("old "):
        raise CheckpointError("a request is: old <size>, the proof, an empty line, the checkpoint")
    if len(hashes) > MAX_PROOF_HASHES:
        raise CheckpointError(f"a proof has at most {MAX_PROOF_HASHES} hashes")
    return AddCheckpoint(
        old_size=decode_size(first.removeprefix("old ")),
        proof=tuple(map(decode_hash, hashes)),
        note=note,
        checkpoint=decode_checkpoint(decode_note(note).text),
    )


def refusal(request: AddCheckpoint, last: Cosigned) -> Answer | None:
    """Why a checkpoint its log signed is not cosigned after ``last``; ``None`` if it is to be."""
    checkpoint = request.checkpoint
    if request.old_size > checkpoint.size:
        return _refuse(400, f"a tree of {checkpoint.size} entries does not extend one of {request.old_size}")
    if request.old_size != last.size:
        return Answer(status=409, body=f"{last.size}\n", content_type=SIZE_TYPE)
    if checkpoint.size == last.size and checkpoint.root != last.root:
        contradicted = last.note or None
        return _refuse(422, f"the tree of {last.size} entries has another root", contradicted)
    try:
        verify_consistency(last.size, checkpoint.size, request.proof, old_root=last.root, new_root=checkpoint.root)
    except ProofError as error:
        return _refuse(422, str(error))
    return None


def _refuse(status: int, reason: str, contradicted: str | None = None) -> Answer:
    return Answer(status=status, body=f"{reason}\n", contradicted=contradicted)


class Witness:
    """A named key that cosigns the checkpoints of some logs. Threads, and processes with one state, may share it.

    A log's origin is the name of its key. Several keys of one name are several keys of one log, any of which will do.
    Raise :class:`CheckpointError` for a name that cannot be one, or when the witness's key is a log's own.
    """

    def __init__(
        self, name: str, key: Ed25519PrivateKey, logs: Sequence[LogKey], state: "WitnessState", clock: Clock
    ) -> None:
        check_key_name(name)
        if any(log.public_key == key.public_key() for log in logs):
            raise CheckpointError("a log cannot be its own witness: give the witness a key of its own")
        self.name = name
        self.logs = {log.name: [other for other in logs if other.name == log.name] for log in logs}
        self._key = key
        self._state = state
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> Answer:
        """Decide on a request, and remember what is cosigned, for good, before anyone sees the cosignature."""
        try:
            request = decode_request(body)
        except CheckpointError as error:
            return _refuse(400, str(error))
        origin = request.checkpoint.origin
        if origin not in self.logs:
            return _refuse(404, f"no log {origin!r} is known here")
        try:
            verify_note(request.note, self.logs[origin])
        except SignatureError as error:
            return _refuse(403, str(error))
        return self._extend(origin, request)

    def _extend(self, origin: str, request: AddCheckpoint) -> Answer:
        checkpoint = request.checkpoint
        new = Cosigned(size=checkpoint.size, root=checkpoint.root, note=request.note)
        while True:  # a swap fails only when another succeeded, so somebody always gets on
            last = self._state.last(origin)
            refused = refusal(request, last)
            if refused is not None:
                return refused
            # Read before the swap: at this time nothing larger was cosigned, which is what a cosignature says.
            timestamp_s = self._clock() // 1000
            if self._state.swap(origin, last, new):
                return Answer(status=200, body=cosign_checkpoint(request.note, self._key, self.name, timestamp_s))


_METADATA = sa.MetaData()

_COSIGNED = sa.Table(
    "cosigned",
    _METADATA,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)

# What the code below never does, no other program can do by mistake: forget a log, or cosign back or beside.
_TRIGGERS = (
    """
    CREATE TRIGGER IF NOT EXISTS cosigned_grows BEFORE UPDATE ON cosigned
    WHEN NEW.origin <> OLD.origin OR NEW.size < OLD.size OR (NEW.size = OLD.size AND NEW.root <> OLD.root)
    BEGIN SELECT RAISE(ABORT, 'a log only grows'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS cosigned_stays BEFORE DELETE ON cosigned
    BEGIN SELECT RAISE(ABORT, 'what was cosigned stays'); END
    """,
)


class WitnessState:
    """What a witness remembers: one row per log, in a SQLite file that is the owner's alone.

    The file is the witness's honesty: without it, or with an old copy of it, the witness would cosign a second history.
    """

    def __init__(self, path: Path) -> None:
        self._engine = open_engine(sa.URL.create("sqlite", database=str(path)).render_as_string())
        try:
            self._prepare(path)
        except BaseException:
            self._engine.dispose()
            raise

    def _prepare(self, path: Path) -> None:
        with self._transaction(write=True) as connection:
            tables = sa.inspect(connection).get_table_names()
            if tables not in ([], [_COSIGNED.name]):
                raise StoreError(f"{path} is a database of something else: choose another file")
            _METADATA.create_all(connection)
            for trigger in _TRIGGERS:
                connection.exec_driver_sql(trigger)

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def last(self, origin: str) -> Cosigned:
        """The last checkpoint cosigned of a log, :data:`NOTHING` if none was; raise :class:`CorruptionError`."""
        with self._transaction(write=False) as connection:
            row = connection.execute(sa.select(_COSIGNED).where(_COSIGNED.c.origin == origin)).one_or_none()
        if row is None:
            return NOTHING
        kept = Cosigned(size=row.size, root=row.root, note=row.note)
        if _checkpoint_in(kept.note) != Checkpoint(origin=origin, size=kept.size, root=kept.root):
            raise CorruptionError(f"what this witness remembers of {origin} contradicts itself: it must not cosign")
        return kept

    def swap(self, origin: str, last: Cosigned, new: Cosigned) -> bool:
        """Remember ``new`` if ``last`` is still what is remembered, and tell whether it was. Durable when it returns.

        A transaction around this write alone would not be enough: the proof was checked against ``last``, which was
        read before, outside of it. Two requests that extend one tree in two ways would both have passed their check,
        and the later write would cover the traces of the earlier: two cosigned histories, and no memory of the first.
        So the write is bound to the very tree the check was made against, under a lock that keeps other writers out
        from the comparison to the commit (BEGIN IMMEDIATE); whoever comes second has to check again.
        """
        row = {"size": new.size, "root": new.root, "note": new.note}
        statement: sa.Insert | sa.Update
        if last == NOTHING:
            statement = sa.insert(_COSIGNED).prefix_with("OR IGNORE").values(origin=origin, **row)
        else:
            still_last = (_COSIGNED.c.origin == origin, _COSIGNED.c.size == last.size, _COSIGNED.c.root == last.root)
            statement = sa.update(_COSIGNED).where(*still_last).values(row)
        with self._transaction(write=True) as connection:
            return connection.execute(statement).rowcount == 1

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect().execution_options(guerdon_write=write) as connection, connection.begin():
                yield connection
        except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
            words = getattr(error, "orig", None) or error
            raise UnavailableError(f"the witness's state cannot be used: {words}") from error


def _checkpoint_in(note: str) -> Checkpoint | None:
    try:
        return decode_checkpoint(decode_note(note).text)
    except CheckpointError:
        return None
