"""The auditor: replays a log from genesis, or from where it stood, and compares everything with what is stored.

Nothing the writer computed is believed. From the entries' bytes alone the audit recomputes the chain, the tree, the
authority of every signature, the postings the rules give and the state they lead to (:mod:`ledger.replay`); then it
compares the signed checkpoint, and whatever else its :class:`Subject` has, with that. A subject is a database
(:mod:`ledger.audit_database`) or a log as it is published (:mod:`ledger.published_log`). Each invariant is a named
check (:data:`CHECKS`), counted, and the first entry that breaks one is named.

What a checkpoint is held to comes from outside: the log's key, a checkpoint kept from an earlier visit, witnesses.

Elliptic-curve work is most of an audit, so signatures are verified in other processes while this one replays.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, TypedDict, Unpack

from msgspec import Struct

from ledger.audit_state import AuditState, AuditStateError, restore_state, save_state
from ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    Cosignature,
    LogKey,
    QuorumError,
    WitnessKey,
    WitnessPolicy,
    decode_checkpoint,
    decode_note,
    decode_verifier_key,
    verify_checkpoint,
    verify_note,
    verify_witnessed,
)
from ledger.merkle import TILE_WIDTH, Node, ProofError, prove_consistency, verify_consistency
from ledger.replay import START, BrokenEntryError, FullReplay, FullTile, LightReplay, Replayed
from ledger.rules import log_key_for
from ledger.store import StoreError
from ledger.tiles import Tile, TileError, node_hashes, tiles_for
from ledger.verifier import SignatureChecks

CHECKS = {
    "entries": "stored bytes are canonical, and every column of an entry agrees with them",
    "chain": "sequence numbers are contiguous, every prev is the leaf hash before, time never decreases",
    "signatures": "every signature is valid for the operation's bytes",
    "operation_ids": "no operation is recorded twice",
    "rules": "every operation was admissible when recorded, under the keys in force then, with exactly these postings",
    "log_keys": "what says which key signs the log was admissible when recorded, under the operator's keys then",
    "conservation": "postings of every entry sum to zero per asset",
    "balances": "no holder has less than nothing, but where refunds may leave a debt, and supply is within its cap",
    "postings": "the posting table holds exactly the entries' postings",
    "earnings": "the earning table holds exactly the purchases and grants, with the points the programs give",
    "references": "the reference table holds exactly the numbers of refunds, corrections, allotments and payments",
    "parties": "the party table holds exactly whom entries concern that neither ask for them nor have a posting",
    "projections": "accounts, assets, lots, agreements, claims and all the like equal the replayed state",
    "tiles": "every Merkle tile is there and right",
    "head": "size, last leaf hash, time and compact range of the head row are those of the entries",
    "checkpoint": "the checkpoint is signed by the log key, for this size and the recomputed Merkle root",
    "history": "the ledger begins with the one that was audited before, or whose checkpoint was kept",
    "witnesses": "as many of the witnesses as asked for have cosigned the same checkpoint, and it is of this ledger",
    "append_only": "the database refuses to change or delete entries, postings and tiles",
}
"""Every check by name, with the invariant it stands for, in the order a report lists them."""

_OF_EVERY_LOG = ("entries", "chain", "signatures", "conservation", "tiles", "checkpoint", "history", "witnesses")

LIGHT_CHECKS = (*_OF_EVERY_LOG, "log_keys")
"""What a light audit checks of every log: all that needs no state that grows with the chain."""

FULL_CHECKS = (*_OF_EVERY_LOG, "operation_ids", "rules", "balances")
"""What a full audit checks of every log."""

_INLINE_SIGNATURES = 400
"""Below this many entries starting processes would cost more than it saves."""

_MAX_MESSAGE = 1_000
"""Characters of a failure's message; what was found may be of any length."""

Progress = Callable[[int, int], None]
"""Told how many entries of how many have been replayed."""


UNREACHABLE = (OSError, StoreError)
"""What a subject raises when it cannot be read for the moment, which says nothing about what is in it."""


class AuditInterruptedError(Exception):
    """An audit was told to stop and has kept where it stood, after ``size`` entries; the next one goes on there."""

    def __init__(self, size: int) -> None:
        super().__init__(f"interrupted after {size:,} entries: what was verified is kept; run again to go on")
        self.size = size


class Failure(Struct, frozen=True, kw_only=True):
    """A broken invariant: which check, at which entry (``None`` where no single entry is meant), and what was found."""

    check: str
    seq: int | None
    message: str


class AuditReport(Struct, frozen=True, kw_only=True):
    """What was checked, of how many, and what failed.

    ``counts`` has every check that was to be made and how often it was; ``first`` is the first entry that was read,
    those before it having been audited another time. ``cosignatures`` are those of the witnesses that were asked for,
    on the tree of the first ``witnessed`` entries: of what came after, they have said nothing.
    """

    origin: str
    log_key: str
    light: bool
    first: int
    size: int
    root: str
    counts: dict[str, int]
    failures: tuple[Failure, ...]
    witnessed: int = 0
    cosignatures: tuple[Cosignature, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return not self.failures


class Terms(Struct, frozen=True, kw_only=True):
    """What a log is held to, known from elsewhere.

    ``log_keys`` are verifier keys of the log; without any the one in genesis is used, which shows that the ledger
    agrees with itself but not that it is the one one was told about. ``kept`` is a signed checkpoint from an earlier
    visit: whoever has the log key can write another history and sign it, but not one that begins with the tree this
    checkpoint names. Of ``witnesses``, ``quorum`` must have cosigned a checkpoint, so that others were not shown
    another history.
    """

    log_keys: tuple[str, ...] = ()
    kept: str | None = None
    witnesses: tuple[WitnessKey, ...] = ()
    quorum: int = 0


class Subject(Protocol):
    """What is audited. Whatever it gives may be of any type: nothing is believed."""

    origin: str
    checks: tuple[str, ...]
    """Checks of its own, beside those of every log."""

    def checkpoint(self) -> Any:
        """The signed checkpoint of what there is to audit."""

    def witnessed_checkpoint(self, terms: Terms) -> Any:
        """The checkpoint that is to be held to the witnesses; ``None`` when there is none."""

    def chunks(self, first: int) -> Iterator[Iterable[Any]]:
        """The stored bytes of the entries from ``first`` on, in chunks; :class:`BrokenEntryError` when one is not next.

        Entries that come before the broken one have been given by then.
        """

    def tiles(self, tiles: Sequence[Tile]) -> dict[Tile, list[bytes]]:
        """The hashes of tiles as stored; :class:`BrokenEntryError` for one that is not there."""

    def compare(self, replayed: Sequence[Replayed], tiles: Sequence[FullTile]) -> Iterator[Failure]:
        """Differences between what is stored beside a chunk's entries and what replay found, tiles that filled too."""

    def compare_end(self, replay: LightReplay, first: int) -> Iterator[Failure]:
        """Differences between what is stored about the whole and where the replay came to."""

    def counted(self) -> dict[str, int]:
        """How often each of its own checks was made, and the check of the tiles."""


class Options(TypedDict, total=False):
    """How an audit is made.

    A ``light`` one checks what needs no rules. ``resume`` is what ``keep`` was called with by an earlier audit, which
    is done when it found nothing wrong, or was interrupted before it did. ``processes`` is how many verify signatures
    beside this one (default: one per core; 0: none).
    """

    light: bool
    resume: AuditState | None
    keep: Callable[[AuditState], None] | None
    processes: int | None
    progress: Progress | None


def audit(subject: Subject, terms: Terms, **options: Unpack[Options]) -> AuditReport:
    """Audit a subject; raise :class:`AuditInterruptedError` when interrupted with somewhere to ``keep`` what was done.

    Raise :class:`AuditStateError` when what is to be resumed was an audit of another log, or of the other depth.
    """
    started = _Audit(subject, terms, light=options.get("light", False), resume=options.get("resume"))
    processes = options.get("processes")
    workers = len(os.sched_getaffinity(0)) if processes is None else processes
    if started.expected < _INLINE_SIGNATURES:
        workers = 0
    with SignatureChecks(workers) as signatures:
        return started.run(signatures, options.get("keep"), options.get("progress") or (lambda _done, _total: None))


class _Audit:
    def __init__(self, subject: Subject, terms: Terms, *, light: bool, resume: AuditState | None) -> None:
        self.subject = subject
        self.terms = terms
        self.light = light
        self.resume = resume
        if resume is not None and (resume.origin != subject.origin or resume.light != light):
            kinds = {True: "light", False: "full"}
            was, is_ = (
                f"a {kinds[x]} audit of {y}" for x, y in ((resume.light, resume.origin), (light, subject.origin))
            )
            raise AuditStateError(f"what was kept is of {was}, this is {is_}: keep each in a file of its own")
        self.failures: list[Failure] = []
        self.counts = dict.fromkeys(
            [check for check in CHECKS if check in (*(LIGHT_CHECKS if light else FULL_CHECKS), *subject.checks)], 0
        )
        self.note = subject.checkpoint()
        self.first = 0 if resume is None else resume.position.size
        self._cosignatures: tuple[Cosignature, ...] = ()
        self._witnessed = 0
        self._vouched: tuple[str, ...] = ()
        self._compared = self.first
        self._roots: dict[int, bytes] = {}
        claimed = self._read(self.note)
        self.expected = 0 if claimed is None else max(claimed.size - self.first, 0)

    def run(
        self, signatures: SignatureChecks, keep: Callable[[AuditState], None] | None, progress: Progress
    ) -> AuditReport:
        """Replay, compare, and report."""
        self.replay = self._make_replay(signatures)
        kept = self._kept_checkpoints()
        witnessed_note = self.subject.witnessed_checkpoint(self.terms) if self.terms.quorum else None
        self._wanted = {note.size for note in (*kept.values(), self._read(witnessed_note)) if note is not None}
        complete = self._extends_resumed()
        with _interrupts_noted(wanted=keep is not None) as interrupted:
            try:
                complete = complete and self._replay_all(progress, interrupted)
            except AuditInterruptedError as error:
                if self._keep_so_far(signatures, keep):
                    raise
                raise KeyboardInterrupt from error
            except UNREACHABLE:
                self._keep_so_far(signatures, keep)
                raise
        if complete:
            self._compare_end()
        for check, count in self.subject.counted().items():
            self.counts[check] = count
        bad_signature = signatures.first_failure()
        self.counts["signatures"] += signatures.count
        if bad_signature is not None:
            self._fail("signatures", bad_signature, "a signature does not fit the operation's bytes")
        if self.light:
            self.counts["log_keys"] = len(self._log_keys())
        self._check_checkpoint(complete)
        for name, note in kept.items():
            self._check_kept(name, note, complete)
        self._check_log_key()
        self._check_witnesses(witnessed_note, complete)
        self.failures.sort(key=lambda failure: (failure.seq is None, failure.seq or 0))
        if keep is not None and complete and not self.failures:
            keep(self._state(checkpoints=(self.note,), vouched=self._vouched))
        return self._report()

    def _make_replay(self, signatures: SignatureChecks) -> LightReplay:
        kind = LightReplay if self.light else FullReplay
        if self.resume is None:
            return kind(self.subject.origin, signatures.add, START)
        return kind(
            self.subject.origin,
            signatures.add,
            self.resume.position,
            restore_state(self.subject.origin, self.resume.state),
        )

    def _report(self) -> AuditReport:
        return AuditReport(
            origin=self.subject.origin,
            log_key=self._log_key_in_force(self.replay.size) or "",
            light=self.light,
            first=self.first,
            size=self.replay.size,
            root=self.replay.range.root().hex(),
            counts=self.counts,
            failures=tuple(self.failures),
            witnessed=self._witnessed,
            cosignatures=self._cosignatures,
        )

    def _state(self, *, checkpoints: tuple[str, ...], vouched: tuple[str, ...]) -> AuditState:
        known = () if self.resume is None else self.resume.log_keys
        return AuditState(
            origin=self.subject.origin,
            light=self.light,
            checkpoints=checkpoints,
            log_keys=tuple(sorted({*vouched, *known})),
            position=self.replay.position(),
            state=save_state(self.replay.state),
        )

    def _fail(self, check: str, seq: int | None, message: str) -> None:
        self.failures.append(make_failure(check, seq, message))

    # Replaying

    def _replay_all(self, progress: Progress, interrupted: Callable[[], bool]) -> bool:
        """Replay all entries; False when one of them ended it."""
        chunks = self.subject.chunks(self.first)
        while True:
            replayed: list[Replayed] = []
            broken: BrokenEntryError | None = None
            try:
                for data in next(chunks, ()):
                    replayed.append(self.replay.add(data))
                    if self.replay.size in self._wanted:
                        self._roots[self.replay.size] = self.replay.range.root()
            except BrokenEntryError as error:
                broken = error
            self._count(len(replayed), broken)
            try:
                self.failures += self.subject.compare(replayed, self.replay.tiles.take_full())
            except BrokenEntryError as error:
                broken = broken or error
            if broken is not None:
                self._fail(broken.check, self.replay.size, broken.message)
                return False
            if not replayed:
                break
            self._compared = self.replay.size
            progress(self.replay.size - self.first, max(self.expected, self.replay.size - self.first))
            if interrupted():
                raise AuditInterruptedError(self.replay.size)
        if self.replay.size == 0:
            self._fail("chain", 0, "there is no entry, not even genesis")
            return False
        return True

    def _compare_end(self) -> None:
        try:
            for failure in self.subject.compare_end(self.replay, self.first):
                self.failures.append(failure)  # one by one: the next comparison may end in an error
        except BrokenEntryError as error:
            self._fail(error.check, None, error.message)

    def _count(self, replayed: int, broken: BrokenEntryError | None) -> None:
        """Count the checks that every entry passed, and those the broken one passed before it failed."""
        order = [check for check in _ENTRY_CHECKS if check in self.counts]
        for check in order:
            self.counts[check] += replayed
        if broken is not None and broken.check in order:
            for check in order[: order.index(broken.check)]:
                self.counts[check] += 1

    def _keep_so_far(self, signatures: SignatureChecks, keep: Callable[[AuditState], None] | None) -> bool:
        """Keep what was replayed and compared, to go on from, if all of it is sound.

        Nothing signed stands for it yet: the next audit proves that its checkpoint's tree begins with it. What this one
        was to be held to and has not reached is left to that one.
        """
        size = self.replay.size
        if keep is None or self.failures or not self.first < size == self._compared:
            return False
        if signatures.first_failure() is not None:
            return False
        known = [*self.terms.log_keys, *(key for _, key in self._log_keys())]
        newest = [self.note] if any(_is_signed(self.note, key) for key in known) else []
        keep(self._state(checkpoints=(*self._kept_checkpoints(), *newest), vouched=()))
        return True

    # Checkpoints

    def _read(self, note: Any) -> Checkpoint | None:
        """What a note says it is, whoever signed it; ``None`` when it cannot be read."""
        if not isinstance(note, str):
            return None
        try:
            return decode_checkpoint(decode_note(note).text)
        except CheckpointError:
            return None

    def _kept_checkpoints(self) -> dict[str, Checkpoint | None]:
        """The checkpoints of earlier visits, by the notes they came in."""
        notes = [] if self.terms.kept is None else [self.terms.kept]
        notes += [] if self.resume is None else self.resume.checkpoints
        return {note: self._read(note) for note in notes}

    def _log_keys(self) -> tuple[tuple[int, str], ...]:
        return self.replay.state.log_keys

    def _log_key_in_force(self, size: int) -> str | None:
        """The verifier key that signs checkpoints of ``size`` entries."""
        keys = self._log_keys()
        return log_key_for(keys, max(size, 1)) if keys else next(iter(self.terms.log_keys), None)

    def _check_log_key(self) -> None:
        """The keys known from elsewhere are the log's, and one of them stands for this history, or for its beginning.

        That genesis names a key is not enough: anyone can found a ledger that names another's, and then replaces it.
        """
        own = [key for _, key in self._log_keys()]
        for key in self.terms.log_keys:
            if own and key not in own:
                self._fail("checkpoint", 0, f"genesis names the log key {own[0]}, and no entry names {key}")
                return
        vouched = () if self.resume is None else self.resume.log_keys
        if not self.terms.log_keys or set(self.terms.log_keys) & set(vouched):
            return
        notes = [self.note, *self._kept_checkpoints()]
        self._vouched = tuple(key for key in self.terms.log_keys if any(_is_signed(note, key) for note in notes))
        if not self._vouched:
            message = "no log key that was given has signed this checkpoint, nor one that was kept: ask for the new one"
            self._fail("checkpoint", None, message)

    def _check_signed(self, note: Any, check: str, what: str = "") -> Checkpoint | None:
        """Check that a note is a checkpoint of this ledger signed by the log's key in force at its size."""
        if not isinstance(note, str):
            self._fail(check, None, f"{what}the checkpoint is not text")
            return None
        claimed = self._read(note)
        key = self._log_key_in_force(claimed.size if claimed is not None else self.replay.size)
        if key is None:
            return None  # there is no genesis, which is told elsewhere
        try:
            return self._verify(note, decode_verifier_key(key))
        except CheckpointError as error:
            self._fail(check, None, f"{what}{error}")
            return None

    def _verify(self, note: str, in_force: LogKey) -> Checkpoint:
        """Read a checkpoint that the key in force has signed, and whose lines by other keys of the log are valid."""
        others = [decode_verifier_key(key) for _, key in self._log_keys()]
        verify_note(note, [in_force, *(key for key in others if key.key_id != in_force.key_id)])
        return verify_checkpoint(note, in_force, self.subject.origin)

    def _check_checkpoint(self, complete: bool) -> None:
        self.counts["checkpoint"] = 1
        checkpoint = self._check_signed(self.note, "checkpoint")
        if checkpoint is None or not complete:
            return
        size = self.replay.size
        if checkpoint.size != size:
            message = f"the checkpoint counts {checkpoint.size} entries, {size} are stored"
            self._fail("checkpoint", min(checkpoint.size, size), message)
        elif checkpoint.root != self.replay.range.root():
            self._fail("checkpoint", None, "the checkpoint's root is not the Merkle root of the entries")

    def _extends_resumed(self) -> bool:
        """Whether what there is begins with what was audited before."""
        if self.resume is None:
            return True
        claimed = self._read(self.note)
        if claimed is None:
            return True  # told where the checkpoint is checked
        if claimed.size < self.first:
            if self._extends(claimed.root, claimed.size, Checkpoint(origin="", size=self.first, root=self._root())):
                return False  # an older checkpoint of the same log: there is nothing new to read
            message = f"{self.first} entries were audited before, the checkpoint counts {claimed.size}"
            self._fail("history", claimed.size, message)
            return False
        if not self._extends(self._root(), self.first, claimed):
            message = f"the first {self.first} entries are not those audited before: history was rewritten"
            self._fail("history", None, message)
            return False
        return True

    def _root(self) -> bytes:
        return self.replay.range.root()

    def _extends(self, root: bytes, size: int, newer: Checkpoint) -> bool:
        """Whether a checkpoint's tree begins with the tree of ``size`` entries with this root, by the tiles there."""

        def read(nodes: Sequence[Node]) -> list[bytes]:
            return node_hashes(nodes, newer.size, self.subject.tiles(tiles_for(nodes, newer.size)))

        try:
            proof = prove_consistency(size, newer.size, read)
            verify_consistency(size, newer.size, proof, old_root=root, new_root=newer.root)
        except (ProofError, TileError, BrokenEntryError):
            return False
        return True

    def _check_kept(self, note: str, read: Checkpoint | None, complete: bool) -> None:
        self.counts["history"] += 1
        if read is None:
            self._fail("history", None, "the kept checkpoint cannot be read: it is not a signed checkpoint")
            return
        checkpoint = self._check_signed(note, "history", "the kept checkpoint: ")
        if checkpoint is not None and not self._is_of_this(checkpoint, complete):
            size = self.replay.size
            if checkpoint.size > size:
                message = f"the kept checkpoint counts {checkpoint.size} entries, {size} are stored"
                self._fail("history", size, message)
                return
            message = f"the first {checkpoint.size} entries are not those of the kept checkpoint: history was rewritten"
            self._fail("history", None, message)

    def _is_of_this(self, checkpoint: Checkpoint, complete: bool) -> bool:
        """Whether a checkpoint's tree is the one replayed, as far as can be told.

        A log that waits for its witnesses shows a checkpoint that is older than what it has signed: whether that one's
        tree goes on from it, the tiles say that are there already.
        """
        root = self._roots.get(checkpoint.size)
        newest = self._read(self.note)
        if checkpoint.size == 0 or newest is None:
            return True  # of no checkpoint is told elsewhere
        if root is not None:
            return root == checkpoint.root
        if checkpoint.size > newest.size:
            return self._extends(newest.root, newest.size, checkpoint)
        if checkpoint.size > self.first:
            return not complete  # what was not reached cannot be told
        return self._extends(checkpoint.root, checkpoint.size, newest)

    def _check_witnesses(self, note: Any, complete: bool) -> None:
        terms = self.terms
        if not terms.quorum:
            return
        self.counts["witnesses"] = 1
        if note is None:
            self._fail("witnesses", None, "no checkpoint is cosigned by any of the witnesses")
            return
        checkpoint = self._check_signed(note, "witnesses", "the cosigned checkpoint: ")
        if checkpoint is None:
            return
        logs = tuple(decode_verifier_key(key) for _, key in self._log_keys())
        try:
            policy = WitnessPolicy(log_keys=logs, witnesses=terms.witnesses, threshold=terms.quorum)
            found = verify_witnessed(note, policy, self.subject.origin)
        except CheckpointError as error:
            self._cosignatures = error.cosignatures if isinstance(error, QuorumError) else ()
            self._fail("witnesses", None, str(error))
            return
        self._cosignatures, self._witnessed = found.cosignatures, checkpoint.size
        if not self._is_of_this(checkpoint, complete):
            message = f"the witnesses cosigned other entries than the first {checkpoint.size} of these: a split view"
            self._fail("witnesses", None, message)


_ENTRY_CHECKS = ("entries", "chain", "operation_ids", "conservation", "rules", "balances")
"""The checks of each entry, in the order they are made."""


@contextmanager
def _interrupts_noted(*, wanted: bool) -> Iterator[Callable[[], bool]]:
    """While it lasts, Ctrl-C and SIGTERM are noted for whoever asks, and only the second one interrupts.

    An interrupt can come between any two steps of a replay, whose state is then of no entry at all.
    """
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise KeyboardInterrupt

    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _is_signed(note: Any, log_key: str) -> bool:
    """Whether this key has signed a note."""
    try:
        return isinstance(note, str) and bool(verify_note(note, [decode_verifier_key(log_key)]))
    except CheckpointError:
        return False


def make_failure(check: str, seq: int | None, message: str) -> Failure:
    """A failure whose message is fit for a terminal: what was found is quoted in it, and may hold anything."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message[:_MAX_MESSAGE])
    return Failure(check=check, seq=seq, message=printable)


def first_leaf(tile: Tile) -> int:
    """The first entry under a tile."""
    return int(tile.index * TILE_WIDTH ** (tile.level + 1))
