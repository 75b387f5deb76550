"""Having the ledger's checkpoints cosigned: a thread that asks the configured witnesses, beside the server's own work.

In rounds. The newest checkpoint is offered to all witnesses at the same time, each in a thread of its own, and each
line is stored as it arrives. Only lines on one and the same checkpoint make a quorum, so the next one is offered when
enough witnesses have cosigned this one, or nobody who was asked still may. Whoever is too slow for that, down or
refuses holds up nobody: it is asked again when it is free, later each time it fails.

Of several server processes on one database one asks (:class:`ledger.turns.Turn`); when it ends, another
goes on with what is stored. What a witness cosigns is decided in :mod:`ledger.witness`; how it is asked,
:mod:`api.witness_client` knows.

A witness that has seen another history than this ledger's, or more of it, is what all of this is there to find. It is
logged as an error with both sizes: ``SPLIT VIEW``.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from api.settings import Settings, SettingsError, WitnessAddress
from api.steps import Steps, monotonic_ms
from api.witness_client import WitnessConflictError, WitnessRefusedError, ask_witness
from ledger import log
from ledger.checkpoint import (
    CheckpointError,
    WitnessKey,
    WitnessPolicy,
    decode_checkpoint,
    decode_note,
    decode_verifier_key,
    verify_cosignatures,
)
from ledger.cosignatures import (
    Cosignatures,
    StoredCosignature,
    forget_cosignatures,
    keep_cosignature,
    read_cosignatures,
)
from ledger.store import Store, StoreError
from ledger.turns import Turn

logger = logging.getLogger("guerdon.witnessing")

MAX_DELAY_MS = 600_000
"""The longest time between two questions to a witness that keeps failing."""


class Ask(Protocol):
    """How a witness is asked: :func:`api.witness_client.ask_witness`."""

    def __call__(
        self, url: str, witness: WitnessKey, note: str, prove: Callable[[int], list[bytes]], *, known_size: int
    ) -> str:
        """The witness's line, verified."""


class StoppingError(Exception):
    """The server stops: what is under way is given up."""


class _Answer(Struct, frozen=True):
    """What became of a question: a line, or why there is none."""

    asked: "_Asked"
    note: str
    said: str | Exception


class _Asked:
    """A witness, and how it goes with it. ``note`` is what it is being asked about, if anything."""

    def __init__(self, address: WitnessAddress) -> None:
        self.address = address
        self.key = address.key
        self.note: str | None = None
        self.failures = 0
        self.not_before_ms = 0
        self.trouble: str | None = None


def policy_of(settings: Settings, store: Store) -> WitnessPolicy:
    """What must hold for a checkpoint to count as witnessed; raise :class:`SettingsError` when that cannot be."""
    if not settings.witnesses:
        return WitnessPolicy(log_keys=())
    with store.read() as connection:
        log_keys = tuple(decode_verifier_key(text) for _, text in store.log_keys(connection))
    keys = tuple(address.key for address in settings.witnesses)
    try:
        return WitnessPolicy(log_keys=log_keys, witnesses=keys, threshold=settings.witness_quorum)
    except CheckpointError as error:
        raise SettingsError(f"GUERDON_WITNESSES: {error}") from error


class Witnessing:
    """The thread that has checkpoints cosigned. ``close`` ends it without waiting for any witness.

    ``interval_ms`` is the least time between two checkpoints that are offered, and the first delay after a failure.
    """

    def __init__(
        self,
        store: Store,
        addresses: Sequence[WitnessAddress],
        policy: WitnessPolicy,
        *,
        interval_ms: int,
        ask: Ask = ask_witness,
    ) -> None:
        self._store = store
        self._policy = policy
        self._interval_ms = interval_ms
        self._ask = ask
        self._turn = Turn(store, "witness")
        self._witnesses = [_Asked(address) for address in addresses]
        self._offer: str | None = None
        self._answers: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._steps = Steps(logger, "witnesses are not asked for now")
        self._thread = threading.Thread(target=self._run, name="guerdon-witnessing", daemon=True)

    def start(self) -> "Witnessing":
        """Begin to ask, if it is this process's turn."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Store what has arrived, then leave the turn to another process."""
        self._stopping.set()
        self._answers.put(None)
        self._thread.join()

    def _run(self) -> None:
        next_round_ms = monotonic_ms()
        try:
            while True:
                try:
                    answer = self._answers.get(timeout=max(0, next_round_ms - monotonic_ms()) / 1000)
                except queue.Empty:
                    next_round_ms = monotonic_ms() + self._interval_ms
                    self._steps.take(self._begin_round)
                else:
                    if answer is None:
                        return
                    self._steps.take(self._take, answer)
        finally:
            self._turn.release()

    def _begin_round(self) -> None:
        """Offer the newest checkpoint, if it is time for another one."""
        mine = False
        try:
            mine = self._turn.take()
        finally:
            if not mine:
                self._offer = None
        if not mine:
            return
        with self._store.read() as connection:
            newest = self._store.head(connection).checkpoint
            known = read_cosignatures(self._store, connection, self._policy)
        if self._offer is None or known.is_witnessed(self._offer) or not self._is_asking_about(self._offer):
            self._offer = newest
        self._ask_whoever_is_free(known)

    def _is_asking_about(self, note: str) -> bool:
        return any(asked.note == note for asked in self._witnesses)

    def _ask_whoever_is_free(self, known: Cosignatures) -> None:
        note = self._offer
        if note is None:
            return
        done = {row.witness for row in known.on(note).cosignatures}
        for asked in self._witnesses:
            if asked.note is None and asked.key.name not in done and asked.not_before_ms <= monotonic_ms():
                asked.note = note
                last = known.newest(asked.key)
                # The witness may have forgotten, or another ledger's copy may have told it more: then it says so.
                known_size = min(last.size, size_of(note)) if last is not None else 0
                threading.Thread(
                    target=self._question, args=(asked, note, known_size), name=f"ask {asked.key.name}", daemon=True
                ).start()

    def _question(self, asked: _Asked, note: str, known_size: int) -> None:
        """Ask one witness, in a thread of its own."""
        size = size_of(note)

        def prove(old_size: int) -> list[bytes]:
            if self._stopping.is_set():
                raise StoppingError
            with self._store.read() as connection:
                return log.prove_consistency(self._store, connection, old_size, size)

        said: str | Exception
        try:
            said = self._ask(asked.address.url, asked.key, note, prove, known_size=known_size)
        except StoppingError:
            return
        except Exception as error:
            said = error
        self._answers.put(_Answer(asked, note, said))

    def _take(self, answer: _Answer) -> None:
        """Store a line, or remember why there is none; then ask whoever is free by now."""
        asked = answer.asked
        asked.note = None
        if isinstance(answer.said, str):
            self._keep(answer, answer.said)
            self._recovered(asked)
        elif isinstance(answer.said, StoreError):
            raise answer.said  # no proof could be read: that is nobody's fault but the database's
        else:
            self._failed(asked, answer)
        with self._store.read() as connection:
            known = read_cosignatures(self._store, connection, self._policy)
        self._ask_whoever_is_free(known)

    def _keep(self, answer: _Answer, line: str) -> None:
        key = answer.asked.key
        (said,) = verify_cosignatures(answer.note + line, [key])
        cosignature = StoredCosignature(
            size=size_of(answer.note),
            witness=key.name,
            timestamp_s=said.timestamp_s,
            line=line,
            checkpoint=answer.note,
        )
        with self._store.write() as transaction:
            keep_cosignature(transaction, cosignature)
            known = read_cosignatures(self._store, transaction.connection, self._policy)
            witnessed = known.witnessed()
            offered = [size_of(note) for note in (self._offer, *(asked.note for asked in self._witnesses)) if note]
            forget_cosignatures(transaction, but=[*offered, *([witnessed.size] if witnessed is not None else [])])

    def _recovered(self, asked: _Asked) -> None:
        if asked.trouble is not None:
            logger.info("%s cosigns again", asked.key.name)
        asked.trouble, asked.failures, asked.not_before_ms = None, 0, 0

    def _failed(self, asked: _Asked, answer: _Answer) -> None:
        """Say what is new about a witness, and ask it later, each time twice as late."""
        error, name = answer.said, asked.key.name
        if isinstance(error, WitnessConflictError) and self._has_grown_to(error.witness_size, answer.note):
            asked.not_before_ms = monotonic_ms() + self._interval_ms
            return
        delay_ms = min(self._interval_ms << min(asked.failures, 20), MAX_DELAY_MS)
        asked.failures += 1
        asked.not_before_ms = monotonic_ms() + delay_ms
        if isinstance(error, WitnessConflictError):
            # Not once but each time: somebody has to look at this.
            asked.trouble = "conflict"
            logger.error(
                "SPLIT VIEW of %s: %s has cosigned %d entries, with which this ledger's checkpoint of %d disagrees "
                "(%s). Either this database is an old copy of the ledger, or somebody was shown another history.",
                self._store.origin,
                name,
                error.witness_size,
                size_of(answer.note),
                error,
            )
            return
        trouble = "refuses" if isinstance(error, WitnessRefusedError) else type(error).__name__
        if trouble != asked.trouble:
            logger.warning("%s has not cosigned: %s", name, error, exc_info=_fault(error))
        asked.trouble = trouble

    def _has_grown_to(self, witness_size: int, note: str) -> bool:
        """Whether a witness that has cosigned more than it was offered may have it from this ledger as it is now."""
        with self._store.read() as connection:
            return size_of(note) < witness_size <= self._store.head(connection).size


def _fault(error: str | Exception) -> Exception | None:
    """An error that no witness can cause, to be shown with its traceback."""
    return None if isinstance(error, str | OSError | CheckpointError) else error


def size_of(note: str) -> int:
    """How many entries a checkpoint has."""
    return decode_checkpoint(decode_note(note).text).size
