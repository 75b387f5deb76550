"""The sequencer: puts operations in order, and records them durably in groups.

Writers may be many (threads, server processes, machines); the database orders them. In each process one thread takes
whatever has arrived while the last commit ran, and makes it the next batch (group commit: no timer is needed). For
each batch:

1. outside the lock, signatures are verified;
2. in one database transaction, the head row is locked, the state the batch touches is loaded in a handful of queries,
   the operations are admitted one by one, and entries, postings, projections, full tiles and the new signed
   checkpoint are written;
3. only after the commit does anyone hear of success.

The checkpoint is signed with the key that is the log's at its size, which an entry of the batch may have named. A
process that does not have that key records nothing: a key that was replaced never signs alone.

A rejected operation leaves nothing behind and does not disturb its batch. One that was recorded before is answered
with its entry, marked as replayed, so a client that heard nothing sends the same document again.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Connection

from ledger.checkpoint import Checkpoint, encode_verifier_key, sign_checkpoint
from ledger.encoding import AccountId, LeafHash, OpId, format_time, parse_time
from ledger.entries import FIRST_PREV, MAX_ENTRY_BYTES, NO_LAST_DAY, Posting, decode_entry, encode_entry, leaf_hash
from ledger.keys import verify
from ledger.merkle import TILE_WIDTH, CompactRange, completed_tiles, subtree_root
from ledger.operations import (
    AnyOperation,
    CancelRecovery,
    DefineAsset,
    Expire,
    Freeze,
    Genesis,
    MalformedError,
    OpenAccount,
    PublishProgram,
    RecoverKeys,
    ReplaceKeys,
    ReplaceLogKey,
    Signature,
    SignedOperation,
    Unfreeze,
    decode_operation,
    decode_signed_operation,
    encode_operation,
    operation_id,
    signed_message,
)
from ledger.rules import (
    admit,
    apply,
    authority_of,
    log_key_for,
    new_keys,
    opened_account,
    operator_account,
    parameters_of,
)
from ledger.state import RECORDS, Admission, Code, Parameters, Rejection, State, Touches
from ledger.store import (
    Changes,
    CorruptionError,
    HeadState,
    Store,
    StoreError,
    UnavailableError,
    WriteTransaction,
    account_row,
    asset_row,
    changed_account_row,
    earning_rows,
    party_rows,
    posting_rows,
    program_row,
    reference_rows,
)
from ledger.tables import RECORD_TABLES
from ledger.touches import DEEP_KINDS, touches, touches_more

logger = logging.getLogger("guerdon.sequencer")

Clock = Callable[[], int]
"""Tells the time in milliseconds since 1970-01-01T00:00:00Z."""

MAX_BATCH = 2_000
"""Operations in one database transaction."""

MAX_WAITING = 20_000
"""Operations that may wait in one process before more are refused as OVERLOADED."""

MAX_SUBMITTED_BYTES = MAX_ENTRY_BYTES
"""An operation with its signatures can never be larger than the entry it becomes."""

_VERIFIED_TOGETHER = 64
"""Operations that one thread verifies before another submission may have its turn."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An operation the ledger has recorded. ``data`` is the entry's bytes, ``leaf_hash`` their hash.

    ``replayed`` tells that an earlier submission of the same document had recorded it. ``balance`` is what the actor
    has left of the asset after this entry, where the actor spends; it is not known for a replayed operation.
    """

    seq: int
    op_id: OpId
    leaf_hash: LeafHash
    data: bytes
    replayed: bool = False
    balance: int | None = None


Outcome = Recorded | Rejection | Exception
"""What became of one operation; an exception is a fault of ours, never of the operation."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What an operation would do now: its id, the bytes to sign, and its postings or its rejection.

    ``seq`` is the entry that records it already: submitted again, it moves nothing.
    """

    op_bytes: bytes
    op_id: OpId
    postings: tuple[Posting, ...] = ()
    rejection: Rejection | None = None
    balance: int | None = None
    seq: int | None = None


def prepare(data: bytes) -> SignedOperation | Rejection:
    """Read a submitted document; signatures are not verified yet.

    One that nobody signed is refused here, before any state is read: a refusal by the rules would tell who exists.
    """
    try:
        signed = decode_signed_operation(data, MAX_SUBMITTED_BYTES)
    except MalformedError as error:
        return rejection_of(error)
    if not signed.sigs:
        return Rejection(Code.SIGNATURE_MISSING, "nobody has signed: sign what operationPreview returns", ("sigs",))
    return signed


def read_unsigned(op_bytes: bytes) -> AnyOperation | Rejection:
    """Read the document of an operation that is not signed yet."""
    if len(op_bytes) > MAX_SUBMITTED_BYTES:
        return _too_large(f"{len(op_bytes)} bytes; an operation with its signatures has at most {MAX_SUBMITTED_BYTES}")
    try:
        return decode_operation(op_bytes)
    except MalformedError as error:
        return rejection_of(error)


def _too_large(text: str) -> Rejection:
    return Rejection(Code.TOO_LARGE, f"{text}: split the operation", (), {"max_bytes": MAX_ENTRY_BYTES})


def rejection_of(error: MalformedError) -> Rejection:
    """A malformed document as the refusal its sender gets."""
    return Rejection(Code(error.code), error.message, error.path)


def verify_signatures(signed: SignedOperation) -> Rejection | None:
    """Check every signature of a document cryptographically; whose they are is for the rules."""
    message = signed_message(signed.op_bytes)
    for i, signature in enumerate(signed.sigs):
        if not verify(signature.key, signature.sig, message):
            text = f"the signature of {signature.key} does not fit these bytes: sign what operationPreview returns"
            return Rejection(Code.SIGNATURE_INVALID, text, (f"sigs[{i}]", "sig"))
    return None


class _LogSigners:
    """The private keys of the log that this process has, each found by its verifier key."""

    def __init__(self, origin: str, keys: Iterable[Ed25519PrivateKey]) -> None:
        self._keys = {str(encode_verifier_key(origin, key)): key for key in keys}

    def __contains__(self, log_key: str) -> bool:
        return log_key in self._keys

    def __str__(self) -> str:
        return ", ".join(self._keys)

    def sign(self, checkpoint: Checkpoint, log_keys: Sequence[tuple[int, str]]) -> str:
        """The note of a checkpoint: signed with the key in force, then with what else it has of the log's keys."""
        in_force = log_key_for(log_keys, checkpoint.size)
        others = [log_key for _, log_key in reversed(log_keys) if log_key != in_force and log_key in self]
        return sign_checkpoint(checkpoint, *(self._keys[log_key] for log_key in (in_force, *others)))

    def refusal(self, op: AnyOperation) -> Rejection | None:
        """Why this process cannot make a key the log's: it would have to sign with it from then on."""
        if not isinstance(op, ReplaceLogKey) or op.log_key in self:
            return None
        text = "this server does not have the new log key: set GUERDON_OTHER_LOG_KEY_FILES"
        return Rejection(Code.UNAVAILABLE, text, ("log_key",))


Pending = tuple["_Submission", int, SignedOperation]
"""An operation under way: who waits for it, as which of theirs, and what it is."""


class _Submission:
    """Operations that were handed in together, are verified in parts, and are answered together."""

    __slots__ = ("_lock", "_refused", "_unverified", "future", "missing", "outcomes", "pending")

    def __init__(self, items: Sequence[SignedOperation | Rejection]) -> None:
        self.outcomes: list[Outcome | None] = [item if isinstance(item, Rejection) else None for item in items]
        self.pending: list[Pending] = [(self, i, it) for i, it in enumerate(items) if not isinstance(it, Rejection)]
        self.missing = len(self.pending)
        self.future: Future[list[Outcome]] = Future()
        # What was handed in is decided whether or not anyone still waits: from here on nobody can cancel it.
        self.future.set_running_or_notify_cancel()
        self._lock = threading.Lock()
        self._refused: list[tuple[int, Outcome]] = []
        self._unverified = len(self.pending)

    def parts(self, size: int) -> list[list[Pending]]:
        """What is to be verified, in parts of at most ``size``."""
        return [self.pending[i : i + size] for i in range(0, len(self.pending), size)]

    def note_verified(self, part: list[Pending]) -> bool:
        """Verify a part; whether it was the last one. Parts may be verified at the same time."""
        refused: list[tuple[int, Outcome]] = []
        for _, index, signed in part:
            try:
                refusal: Outcome | None = verify_signatures(signed)
            except Exception as error:  # whatever it is, those who wait must hear of it
                logger.exception("signatures of operation %s could not be verified", signed.op_id.hex())
                refusal = error
            if refusal is not None:
                refused.append((index, refusal))
        with self._lock:
            self._refused += refused
            self._unverified -= len(part)
            return self._unverified == 0

    def settle_refused(self) -> list[Pending]:
        """Answer what has a signature that is not valid; what is left can be recorded."""
        gone = dict(self._refused)
        valid = [pending for pending in self.pending if pending[1] not in gone]
        for index, refusal in gone.items():
            self.settle(index, refusal)
        return valid

    def settle(self, index: int, outcome: Outcome) -> None:
        """Answer one operation; all are told when the last is."""
        self.outcomes[index] = outcome
        self.missing -= 1
        if self.missing == 0:
            self.resolve()

    def refuse_all(self, refusal: Rejection) -> None:
        """Answer everything that is not answered."""
        self.outcomes = [refusal if outcome is None else outcome for outcome in self.outcomes]
        self.missing = 0
        self.resolve()

    def resolve(self) -> None:
        """Tell the outcomes to who waits."""
        if not self.future.done():
            self.future.set_result(self.outcomes)  # type: ignore[arg-type]


class Sequencer:
    """Records operations in one ledger, from any number of threads. ``close`` finishes what is waiting.

    ``signers`` are the log's key, or several while it is replaced: the one in force, and others the log had or will
    have. Checkpoints are signed with each of them that is the log's by then. ``recorded`` is called after each commit,
    in the sequencer's thread, with a size that the ledger has reached.
    """

    def __init__(
        self,
        store: Store,
        signers: Ed25519PrivateKey | Sequence[Ed25519PrivateKey],
        clock: Clock,
        *,
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
        verifying_threads: int = 2,
        recorded: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store = store
        self._recorded = recorded
        self.clock = clock
        self._signers = _LogSigners(store.origin, [signers] if isinstance(signers, Ed25519PrivateKey) else signers)
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._verifiers = ThreadPoolExecutor(verifying_threads, thread_name_prefix="guerdon-verify")
        self._queue: deque[Pending] = deque()
        self._waiting = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._parameters: Parameters | None = None

    def start(self) -> "Sequencer":
        """Check that the log's key is among those it was given, then accept operations."""
        with self.store.read() as connection:
            self.store.check_durability(connection)
            self._load_genesis(connection)
            self._check_log_key(connection)
        self._thread = threading.Thread(target=self._run, name="guerdon-sequencer", daemon=True)
        self._thread.start()
        return self

    @property
    def parameters(self) -> Parameters | None:
        """What genesis fixes for this ledger; known once started."""
        return self._parameters

    def close(self) -> None:
        """Record what is waiting, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._verifiers.shutdown()

    def __enter__(self) -> "Sequencer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
        """Hand in prepared documents; the future gives one outcome each, in order, once they are durable.

        Operations of one submission are decided in their order. Between submissions there is none until an outcome is
        known: a small one may overtake a large one whose signatures are still being verified.
        """
        submission = _Submission(items)
        if not submission.pending:
            submission.resolve()
            return submission.future
        with self._changed:
            overloaded = self._closing or self._waiting + submission.missing > self._max_waiting
            if not overloaded:
                self._waiting += submission.missing
        if overloaded:
            reason = "the server is stopping" if self._closing else f"{self._waiting} operations are waiting"
            submission.refuse_all(Rejection(Code.OVERLOADED, f"{reason}: send the same document again in a second"))
            return submission.future
        for part in submission.parts(_VERIFIED_TOGETHER):
            self._verifiers.submit(self._verify, submission, part)
        return submission.future

    def submit_documents(self, documents: Sequence[bytes]) -> Future[list[Outcome]]:
        """Hand in documents ``{"op":…,"sigs":[…]}`` in canonical bytes."""
        return self.submit([prepare(document) for document in documents])

    def preview(self, op_bytes: bytes) -> Preview | Rejection:
        """What an unsigned operation would do now. Nothing is recorded or reserved."""
        op = read_unsigned(op_bytes)
        if isinstance(op, Rejection):
            return op
        signed = SignedOperation(op_bytes=op_bytes, op_id=operation_id(op_bytes), op=op, sigs=())
        with self.store.read() as connection:
            recorded = self.store.recorded(connection, [signed.op_id])
            if recorded:
                return Preview(op_bytes=op_bytes, op_id=signed.op_id, seq=recorded[signed.op_id])
            head = self.store.head(connection)
            time = max(format_time(self.clock()), head.last_time)
            partial = self._load_state(connection, [signed], head, time)
            decision = partial.admit(signed, check_signers=False)
        state = partial.state
        if not isinstance(decision, Rejection):
            refusal = self._signers.refusal(op) or _size_refusal(state, signed, decision, head, time)
            decision = refusal or decision
        if isinstance(decision, Rejection):
            return Preview(op_bytes=op_bytes, op_id=signed.op_id, rejection=decision)
        apply(state, signed, decision, head.size)
        return Preview(
            op_bytes=op_bytes,
            op_id=signed.op_id,
            postings=decision.postings,
            balance=_balance_after(state, signed),
        )

    def _verify(self, submission: _Submission, part: list[Pending]) -> None:
        """Verify a part of a submission; the last part hands the submission on to be recorded."""
        if not submission.note_verified(part):
            return
        valid = submission.settle_refused()
        with self._changed:
            self._queue.extend(valid)
            self._waiting -= len(submission.pending) - len(valid)
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._record(batch)
            except Exception as error:  # whatever it is, those who wait must hear of it
                logger.exception("a batch of %d operations failed", len(batch))
                self._fail(batch, error)

    def _take(self) -> list[Pending]:
        """Wait for work; return the next batch, empty when closing and all is done."""
        with self._changed:
            while not self._queue and (self._waiting or not self._closing):
                self._changed.wait()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), self._max_batch))]
            self._waiting -= len(batch)
            return batch

    def _record(self, batch: list[Pending]) -> None:
        with self.store.write() as transaction:
            outcomes = self._commit(transaction, [signed for _, _, signed in batch])
        for (submission, index, _), outcome in zip(batch, outcomes, strict=True):
            submission.settle(index, outcome)
        self._recorded(max((o.seq + 1 for o in outcomes if isinstance(o, Recorded)), default=0))

    def _fail(self, batch: list[Pending], error: Exception) -> None:
        outcome: Outcome = error
        if isinstance(error, UnavailableError):
            text = "the database did not answer: send the same document again, it is recorded at most once"
            outcome = Rejection(Code.UNAVAILABLE, text)
        for submission, index, _ in batch:
            if submission.outcomes[index] is None:
                submission.settle(index, outcome)

    def _load_genesis(self, connection: Connection) -> None:
        data = self.store.entry_data(connection, [0]).get(0)
        if data is None:
            raise CorruptionError(f"the ledger {self.store.origin} has no entry 0")
        genesis = decode_entry(data).op
        if not isinstance(genesis, Genesis):
            raise CorruptionError("entry 0 is not genesis")
        self._parameters = parameters_of(genesis, operation_id(encode_operation(genesis)))

    def _check_log_key(self, connection: Connection) -> None:
        log_keys = self.store.log_keys(connection)
        if not log_keys:
            raise CorruptionError(f"the ledger {self.store.origin} has no log key: run the audit")
        in_force = log_key_for(log_keys, self.store.head(connection).size)
        if in_force not in self._signers:
            has = f"this server's log key is {self._signers}"
            raise StoreError(f"{has}, the ledger's is {in_force}: set GUERDON_LOG_KEY_FILE to the file of that key")

    def _load_state(
        self, connection: Connection, batch: Sequence[SignedOperation], head: HeadState, time: str
    ) -> "_PartialState":
        partial = _PartialState(self.store, connection, time)
        partial.load(batch)
        partial.state.parameters = self._parameters
        partial.state.log_keys = self.store.log_keys(connection)
        partial.state.size = head.size
        return partial

    def _commit(self, transaction: WriteTransaction, batch: list[SignedOperation]) -> list[Outcome]:
        """Admit a batch under the lock and write what was admitted."""
        head = transaction.lock_head()
        connection = transaction.connection
        recorded = self.store.recorded(connection, [signed.op_id for signed in batch])
        time = self._recording_time(head)
        new = [signed for signed in batch if signed.op_id not in recorded]
        partial = self._load_state(connection, new, head, time)
        partial.state.recorded = recorded
        batch_writer = _BatchWriter(head, partial, self._signers, time)
        outcomes = [batch_writer.decide(signed) for signed in batch]
        if batch_writer.leaves:
            if batch_writer.log_key not in self._signers:
                logger.error("nothing is recorded: the log's key is now %s", batch_writer.log_key)
                outcomes = [_unsigned(outcome, head, batch_writer.log_key) for outcome in outcomes]
            else:
                changes, new_head = batch_writer.finish(self.store, connection)
                transaction.write(changes, new_head)
        return self._with_replayed_entries(connection, outcomes, batch_writer)

    def _recording_time(self, head: HeadState) -> str:
        """The time of the next entries: now, but never earlier than the last.

        A clock far behind the last entry is wrong, or the other one was. To go on would stamp entries with a time that
        has not come; to stop leaves nothing in the record that cannot be taken back.
        """
        now = format_time(self.clock())
        if head.last_time <= now or head.size == 0:
            return now
        behind_ms = parse_time(head.last_time) - parse_time(now)
        assert self._parameters is not None
        if behind_ms > self._parameters.clock_tolerance_ms:
            raise UnavailableError(f"this clock is {behind_ms} ms behind the last entry: set the clocks of all servers")
        return head.last_time

    def _with_replayed_entries(
        self, connection: Connection, outcomes: list[Outcome], batch_writer: "_BatchWriter"
    ) -> list[Outcome]:
        """Complete the outcomes of operations recorded before with their entries' bytes."""
        replayed = [o.seq for o in outcomes if isinstance(o, Recorded) and o.replayed and o.seq < batch_writer.first]
        if not replayed:
            return outcomes
        data = self.store.entry_data(connection, set(replayed))
        return [
            Recorded(seq=o.seq, op_id=o.op_id, leaf_hash=leaf_hash(data[o.seq]), data=data[o.seq], replayed=True)
            if isinstance(o, Recorded) and o.seq in data and o.replayed
            else o
            for o in outcomes
        ]


def _unsigned(outcome: Outcome, head: HeadState, log_key: str) -> Outcome:
    """What becomes of an operation whose batch cannot be signed here: only what was recorded before is certain."""
    if isinstance(outcome, Recorded) and outcome.seq < head.size:
        return outcome
    return Rejection(Code.UNAVAILABLE, f"the log's key is now {log_key}: give this server that key")


class _PartialState:
    """The part of the state that a batch touches. More of it is loaded where an operation turns out to need that.

    ``_needs`` names what the state holds whole: of that it is the truth, whatever the database still has. ``_due`` are
    lots beside, of accounts that the state does not hold whole: an expiry found them.
    """

    def __init__(self, store: Store, connection: Connection, time: str) -> None:
        self.state = State(store.origin)
        self._store = store
        self._connection = connection
        self._time = time
        self._needs = Touches.none()
        self._more = Touches.none()
        self._due: set[tuple[str, str, str]] = set()

    def load(self, batch: Sequence[SignedOperation]) -> None:
        """Load what a batch needs, as far as it can be known before any of it is decided."""
        needs = Touches.none()
        for signed in batch:
            touches(signed.op, needs)
        self._add(needs)
        self._complete([signed.op for signed in batch if type(signed.op) in DEEP_KINDS])

    def admit(self, signed: SignedOperation, *, check_signers: bool = True) -> Admission | Rejection:
        """Decide an operation; only an expiry that is refused for nothing else costs a query.

        What others of the batch have made before it, such as an agreement, may lead to what was not loaded.
        """
        if type(signed.op) in DEEP_KINDS:
            self._complete([signed.op])
        decision = admit(self.state, signed, self._time, check_signers=check_signers)
        if not isinstance(signed.op, Expire):
            return decision
        if isinstance(decision, Rejection) and decision.code is not Code.NOTHING_DUE:
            return decision
        self._load_due(signed.op)
        return admit(self.state, signed, self._time, check_signers=check_signers)

    def _complete(self, ops: Sequence[AnyOperation]) -> None:
        """Load what follows from what is loaded, until nothing more does."""
        while True:
            for op in ops:
                touches_more(self.state, op, self._time, self._more)
            if not self._more:  # which is so of nearly all
                return
            more, self._more = self._more, Touches.none()
            if not self._add(more):
                return

    def _add(self, needs: Touches) -> bool:
        """Load what of this is not loaded; whether there was any."""
        missing = needs.less(self._needs)
        if not missing:
            return False
        self._store.load_more(self._connection, self.state, missing, but_lots=self._due)
        self._needs.add(missing)
        return True

    def _load_due(self, op: Expire) -> None:
        whole = [account for account, asset in self._needs.balances if asset == op.asset]
        limit = op.limit + len(self._due)
        due = self._store.due_lots(self._connection, op.asset, op.through, limit, without=whole)
        for account, day, points in due:
            if (account, op.asset, day) not in self._due:
                self._due.add((account, op.asset, day))
                self.state.add_lot(account, op.asset, day, points)


class _BatchWriter:
    """One batch in the making: the state it changes, the rows it will write, the tree it extends."""

    def __init__(self, head: HeadState, partial: _PartialState, signers: _LogSigners, time: str) -> None:
        self.first = head.size
        self.leaves: list[LeafHash] = []
        self._head = head
        self._state = partial.state
        self._partial = partial
        self._signers = signers
        self._time = time
        self._prev = head.last_leaf_hash if head.size else FIRST_PREV
        self._range = head.range()
        self._changes = Changes()
        self._changed_lots: set[tuple[str, str, str]] = set()
        self._opened: list[AccountId] = []
        self._changed_accounts: set[str] = set()
        self._recorded: dict[OpId, Recorded] = {}

    def decide(self, signed: SignedOperation) -> Outcome:
        """Admit one operation and make it the next entry, or say why not."""
        earlier = self._state.recorded.get(signed.op_id)
        if earlier is not None:
            return self._replayed(signed, earlier)
        seq = self.first + len(self.leaves)
        try:
            decision = self._partial.admit(signed)
            if isinstance(decision, Rejection):
                return decision
            if refusal := self._signers.refusal(signed.op):
                return refusal
            data = encode_entry(signed, decision.postings, seq=seq, prev=self._prev, time=self._time)
        except Exception as error:  # both are pure: a fault in one operation leaves the others intact
            logger.exception("operation %s could not be decided", signed.op_id.hex())
            return error
        if len(data) > MAX_ENTRY_BYTES:
            return _too_large(f"the entry would have {len(data)} bytes, at most {MAX_ENTRY_BYTES}")
        # From here it must succeed: an exception now fails the whole batch, whose transaction is rolled back.
        apply(self._state, signed, decision, seq)
        return self._append(signed, decision, seq, data)

    def _replayed(self, signed: SignedOperation, seq: int) -> Recorded:
        twin = self._recorded.get(signed.op_id)
        if twin is not None:
            return msgspec.structs.replace(twin, replayed=True, balance=None)
        return Recorded(seq=seq, op_id=signed.op_id, leaf_hash=LeafHash(b""), data=b"", replayed=True)

    def _append(self, signed: SignedOperation, admission: Admission, seq: int, data: bytes) -> Recorded:
        digest = leaf_hash(data)
        op = signed.op
        self._range.append(digest)
        self.leaves.append(digest)
        self._prev = digest
        changes = self._changes
        changes.entries.append((seq, digest, signed.op_id, op.KIND, getattr(op, "actor", None), self._time, data))
        changes.postings += posting_rows(seq, admission.postings)
        for leg in admission.postings:
            self._changed_lots.add((leg.account, leg.asset, leg.lot or NO_LAST_DAY))
        if admission.earnings:
            changes.earnings += earning_rows(seq, op.asset, admission.earnings)  # type: ignore[union-attr]
        changes.references += reference_rows(seq, admission.references)
        changes.parties += party_rows(seq, admission.parties)
        self._append_definitions(signed, seq)
        outcome = Recorded(
            seq=seq, op_id=signed.op_id, leaf_hash=digest, data=data, balance=_balance_after(self._state, signed)
        )
        self._recorded[signed.op_id] = outcome
        return outcome

    def _append_definitions(self, signed: SignedOperation, seq: int) -> None:
        state, changes = self._state, self._changes
        match signed.op:
            case OpenAccount() as op:
                self._opened.append(opened_account(op, signed.op_id, seq).id)
            case Genesis() as op:
                self._opened.append(operator_account(op, signed.op_id).id)
                changes.log_keys.append((seq, op.log_key))
            case DefineAsset() as op:
                changes.assets.append(asset_row(state.assets[op.asset]))
            case PublishProgram() as op:
                changes.programs.append(program_row(state.programs[op.asset][-1]))
            case ReplaceKeys() as op:
                self._changed_accounts.add(op.actor)
            case RecoverKeys() | CancelRecovery() | Freeze() | Unfreeze() as op:
                self._changed_accounts.add(op.account)
            case ReplaceLogKey() as op:
                changes.log_keys.append((seq, op.log_key))

    @property
    def log_key(self) -> str:
        """The verifier key that must sign the checkpoint the batch leads to."""
        return log_key_for(self._state.log_keys, self._range.size)

    def finish(self, store: Store, connection: Connection) -> tuple[Changes, HeadState]:
        """The rows of the batch and the head it leads to, with its signed checkpoint."""
        accounts = self._state.accounts
        self._changes.accounts = [account_row(accounts[account]) for account in self._opened]
        changed = sorted(self._changed_accounts.difference(self._opened))
        self._changes.changed_accounts = [changed_account_row(accounts[account]) for account in changed]
        lots = self._state.lots
        self._changes.lots = [
            (account, asset, day, lots[(account, asset)].get(day, 0))
            for account, asset, day in sorted(self._changed_lots)
        ]
        self._collect_records()
        size = self._range.size
        self._changes.tiles = _full_tiles(store, connection, self._head.size, self.leaves)
        checkpoint = Checkpoint(origin=self._head.origin, size=size, root=self._range.root())
        head = HeadState(
            ledger_id=self._head.ledger_id,
            origin=self._head.origin,
            size=size,
            last_leaf_hash=LeafHash(self._prev),
            last_time=self._time,
            compact_range=self._range.encode(),
            checkpoint=self._signers.sign(checkpoint, self._state.log_keys),
        )
        return self._changes, head

    def _collect_records(self) -> None:
        """The rows of the records that have changed, and the keys of those that are gone."""
        for name in RECORDS:
            records, row_of = self._state.records(name), RECORD_TABLES[name].row_of
            for key in records.changed:
                record = records.get(*key)
                if record is None:
                    self._changes.removed_records.setdefault(name, []).append(key)
                else:
                    self._changes.records.setdefault(name, []).append(row_of(record))


def _full_tiles(store: Store, connection: Connection, old_size: int, leaves: list[LeafHash]) -> list[tuple[Any, ...]]:
    """Rows of the tiles a batch completes, computed from its leaves and what the database has before them."""
    rows: list[tuple[Any, ...]] = []
    new_roots: dict[tuple[int, int], bytes] = {}
    for level, index in completed_tiles(old_size, old_size + len(leaves)):
        first, end = index * TILE_WIDTH, (index + 1) * TILE_WIDTH
        if level == 0:
            stored = store.leaf_hashes(connection, first, old_size) if first < old_size else []
            hashes = [*stored, *leaves[max(first - old_size, 0) : end - old_size]]
        else:
            old = first
            while old < end and (level - 1, old) not in new_roots:
                old += 1
            stored = store.tile_roots(connection, level - 1, first, old)
            hashes = stored + [new_roots[(level - 1, i)] for i in range(old, end)]
        new_roots[(level, index)] = root = subtree_root(hashes)
        rows.append((level, index, b"".join(hashes), root))
    return rows


def _size_refusal(
    state: State, signed: SignedOperation, admission: Admission, head: HeadState, time: str
) -> Rejection | None:
    """Why the entry of an operation would be too large, once as many have signed it as must."""
    op = signed.op
    actor, partner = (state.accounts.get(getattr(op, name, None) or "") for name in ("actor", "partner"))
    # What needs approval, and so more signatures, is far from being too large.
    count = sum(authority_of(state, account, time).threshold for account in (actor, partner) if account is not None)
    count += len(new_keys(op, actor, time))
    signed = msgspec.structs.replace(signed, sigs=(Signature(key="A" * 43, sig="A" * 86),) * count)
    size = len(encode_entry(signed, admission.postings, seq=head.size, prev=head.last_leaf_hash, time=time))
    if size <= MAX_ENTRY_BYTES:
        return None
    return _too_large(f"the entry would have {size} bytes, at most {MAX_ENTRY_BYTES}")


def _balance_after(state: State, signed: SignedOperation) -> int | None:
    op = signed.op
    if op.KIND in {"transfer", "redeem", "exchange", "hold"}:
        return state.balance(op.actor, op.asset)  # type: ignore[union-attr,arg-type]
    return None


def create_ledger(store: Store, genesis: SignedOperation, signer: Ed25519PrivateKey, clock: Clock) -> Recorded:
    """Found a ledger in a database that has the tables: its head row and entry 0, in one transaction."""
    sequencer = Sequencer(store, signer, clock, verifying_threads=1)
    if refusal := verify_signatures(genesis):
        raise StoreError(refusal.message)
    with store.write() as transaction:
        connection = transaction.connection
        taken = connection.execute(sa.text("SELECT origin, ledger_id FROM head")).all()
        if any(row.origin == store.origin for row in taken):
            raise StoreError(f"the ledger {store.origin} is there already")
        ledger_id = max((row.ledger_id for row in taken), default=0) + 1
        store.create_ledger(
            connection,
            HeadState(
                ledger_id=ledger_id,
                origin=store.origin,
                size=0,
                last_leaf_hash=FIRST_PREV,
                last_time=format_time(0),
                compact_range=CompactRange().encode(),
                checkpoint="",
            ),
        )
        store.use_ledger_id(ledger_id)
        (outcome,) = sequencer._commit(transaction, [genesis])
        if not isinstance(outcome, Recorded):
            raise StoreError(str(outcome))
    return outcome


def account_opened_by(recorded: Recorded) -> AccountId | None:
    """The account a recorded operation opened, if it is of that kind."""
    op = decode_entry(recorded.data).op
    if isinstance(op, OpenAccount):
        return opened_account(op, recorded.op_id, recorded.seq).id
    return operator_account(op, recorded.op_id).id if isinstance(op, Genesis) else None
