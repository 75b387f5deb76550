"""Replaying a log from its entries' bytes, believing nothing else.

Two depths. A *light* replay checks what needs no rules: that entries are canonical and linked, that their signatures
are valid, that their postings sum to zero; and it applies the rules to the few operations that say which key signs the
log. What it holds does not grow with the chain. A *full* replay applies the rules to every operation, and so holds the
whole state.

Both build the Merkle tree as they go: its compact range, and its tiles as they fill. Where a replay stands is a
:class:`Position`; with its :class:`~ledger.rules.State` it can go on from there another day.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from ledger.encoding import EncodingError, LeafHash, OpId, describe_difference, parse_time
from ledger.entries import (
    FIRST_PREV,
    MAX_ENTRY_BYTES,
    NO_LAST_DAY,
    Posting,
    leaf_hash,
)
from ledger.merkle import TILE_WIDTH, CompactRange, subtree_root
from ledger.operations import (
    Genesis,
    MalformedError,
    ReplaceKeys,
    ReplaceLogKey,
    Signature,
    SignedOperation,
    operation_id,
    sign_with,
    signed_message,
)
from ledger.rules import admit, apply
from ledger.state import SYSTEM_ACCOUNTS, Admission, Rejection, State
from ledger.terms import MAX_SIGNATURES
from ledger.tiles import Tile

T = TypeVar("T")

CheckSignature = Callable[[int, str, str, bytes], None]
"""Takes a signature to verify: of which entry, public key, signature, and the message it covers."""

_KINDS_OF_THE_LOG = frozenset({Genesis.KIND, ReplaceKeys.KIND, ReplaceLogKey.KIND})


class BrokenEntryError(Exception):
    """Ends a replay at an entry: what follows cannot be judged on a state that is already wrong.

    ``check`` is the name of the broken invariant in :data:`ledger.audit.CHECKS`.
    """

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check
        self.message = message


class Replayed(Struct, frozen=True, gc=False):
    """What a replay found an entry to be. ``admission`` and ``asset`` are what the rules gave, in a full replay."""

    seq: int
    leaf_hash: LeafHash
    op_id: OpId
    kind: str
    actor: str | None
    time: str
    admission: Admission = Admission()
    asset: str = ""


class Position(Struct, frozen=True, kw_only=True):
    """Where a replay stands: after ``size`` entries, the last of which has this leaf hash and time.

    ``compact_range`` is :meth:`CompactRange.encode`; ``open_tiles`` has, by level, the hashes of the tile that is not
    full yet, one after the other.
    """

    size: int
    last_leaf_hash: bytes
    last_time: str
    compact_range: bytes
    open_tiles: tuple[bytes, ...]


START = Position(size=0, last_leaf_hash=FIRST_PREV, last_time="", compact_range=b"", open_tiles=())
"""Before the first entry."""


class FullTile(Struct, frozen=True, gc=False):
    """A tile that has filled: its hashes one after the other, and the root over them."""

    tile: Tile
    hashes: bytes
    root: bytes


class TileBuilder:
    """Cuts the tree into tiles as its leaves come; keeps those that are not full, and hands out those that are."""

    def __init__(self, size: int, open_tiles: Sequence[bytes]) -> None:
        self.full: list[FullTile] = []
        self._open = [[data[i : i + 32] for i in range(0, len(data), 32)] for data in open_tiles] or [[]]
        self._index = [size >> 8 * (level + 1) for level in range(len(self._open))]

    def append(self, digest: bytes, level: int = 0) -> None:
        """Add a hash to a level; a tile that fills adds its root to the level above."""
        if level == len(self._open):
            self._open.append([])
            self._index.append(0)
        hashes = self._open[level]
        hashes.append(digest)
        if len(hashes) == TILE_WIDTH:
            root = subtree_root(hashes)
            self.full.append(FullTile(Tile(level, self._index[level]), b"".join(hashes), root))
            self._index[level] += 1
            self._open[level] = []
            self.append(root, level + 1)

    def take_full(self) -> list[FullTile]:
        """The tiles that have filled since the last call."""
        full, self.full = self.full, []
        return full

    def open_tiles(self) -> tuple[bytes, ...]:
        """The hashes of each level's tile that is not full."""
        return tuple(b"".join(hashes) for hashes in self._open)

    def partial(self) -> list[tuple[Tile, bytes]]:
        """The tiles that are neither full nor empty, with their hashes."""
        return [
            (Tile(level, self._index[level], len(hashes)), b"".join(hashes))
            for level, hashes in enumerate(self._open)
            if hashes
        ]


class _StoredEntry(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An entry of which only the outside is read; ``op`` and ``postings`` are the bytes that stand there."""

    op: msgspec.Raw
    postings: msgspec.Raw
    prev: str
    seq: int
    sigs: tuple[Signature, ...]
    time: str


class _OperationHead(Struct, frozen=True, gc=False):
    """What a light replay reads of an operation."""

    kind: str
    ledger: str
    actor: str | None = None


_entry_decoder = msgspec.json.Decoder(_StoredEntry)


def _refuse_fraction(text: str) -> NoReturn:
    raise BrokenEntryError("entries", f"{text} is not an integer")


_any_decoder = msgspec.json.Decoder(float_hook=_refuse_fraction)
_head_decoder = msgspec.json.Decoder(_OperationHead)
_postings_decoder = msgspec.json.Decoder(tuple[Posting, ...])
_encoder = msgspec.json.Encoder(order="sorted")


class LightReplay:
    """Replays entries without applying the rules, but for those that say which key signs the log.

    ``check_signature`` gets every signature; ``state`` has the parameters, the operator's account and the log's keys.
    """

    def __init__(
        self,
        origin: str,
        check_signature: CheckSignature,
        position: Position = START,
        state: State | None = None,
    ) -> None:
        self.origin = origin
        self.state = State(origin) if state is None else state
        self.range = CompactRange.decode(position.size, position.compact_range)
        self.tiles = TileBuilder(position.size, position.open_tiles)
        self._check_signature = check_signature
        self._prev = LeafHash(position.last_leaf_hash)
        self._prev_text = position.last_leaf_hash.hex()
        self._time = position.last_time
        self._append_to_range = self.range.append

    @property
    def size(self) -> int:
        """How many entries have been replayed, those before the position it began at included."""
        return self.range.size

    def position(self) -> Position:
        """Where it stands now."""
        return Position(
            size=self.range.size,
            last_leaf_hash=self._prev,
            last_time=self._time,
            compact_range=self.range.encode(),
            open_tiles=self.tiles.open_tiles(),
        )

    def add(self, data: Any) -> Replayed:
        """Replay the next entry's stored bytes; raise :class:`BrokenEntryError` when it cannot be the next."""
        entry = _read_entry(data)
        seq = self.range.size
        head = _decode(_head_decoder, entry.op)
        self._check_chain(seq, entry, head.kind)
        if head.ledger != self.origin:
            raise BrokenEntryError("chain", f"an entry of the ledger {head.ledger}")
        postings = _decode(_postings_decoder, entry.postings)
        _check_conservation(postings)
        op_bytes = bytes(entry.op)
        _check_canonical(op_bytes, _encoder.encode(_decode(_any_decoder, entry.op)))
        _check_canonical(bytes(entry.postings), _encoder.encode(postings))
        if not entry.sigs:
            raise BrokenEntryError("signatures", "nobody has signed")
        self._check_signatures(seq, op_bytes, entry.sigs)
        if head.kind in _KINDS_OF_THE_LOG:
            self._apply_to_log(seq, entry, op_bytes)
        digest = leaf_hash(data)
        self._append(digest, entry.time)
        return Replayed(seq, digest, operation_id(op_bytes), head.kind, head.actor, entry.time)

    def _check_signatures(self, seq: int, op_bytes: bytes, sigs: Sequence[Signature]) -> None:
        message = signed_message(op_bytes)
        for signature in sigs:
            self._check_signature(seq, signature.key, signature.sig, message)

    def _check_chain(self, seq: int, entry: _StoredEntry, kind: str) -> None:
        if entry.seq != seq:
            raise BrokenEntryError("chain", f"the entry says it is number {entry.seq}")
        if entry.prev != self._prev_text:
            message = f"prev is {entry.prev}, the entry before has leaf hash {self._prev_text}"
            raise BrokenEntryError("chain", message)
        if entry.time != self._time:
            if entry.time < self._time:
                message = f"time {entry.time} is earlier than {self._time} of the entry before"
                raise BrokenEntryError("chain", message)
            _check_time(entry.time)
        if (kind == Genesis.KIND) != (seq == 0):
            raise BrokenEntryError("chain", "genesis is entry 0 and only entry 0")

    def _append(self, digest: LeafHash, time: str) -> None:
        self._append_to_range(digest)
        self.tiles.append(digest)
        self._prev, self._prev_text, self._time = digest, digest.hex(), time

    def _apply_to_log(self, seq: int, entry: _StoredEntry, op_bytes: bytes) -> None:
        """Apply the rules to an operation of the operator's: genesis, its own keys, the log's keys."""
        signed = _read_operation(op_bytes, entry.sigs)
        parameters = self.state.parameters
        if isinstance(signed.op, ReplaceKeys) and parameters is not None and signed.op.actor != parameters.operator:
            return  # another account's, which have no say here
        earlier = self.state.recorded.get(signed.op_id)
        if earlier is not None:
            raise BrokenEntryError("log_keys", f"recorded in entry {earlier} before")
        decision = admit(self.state, signed, entry.time)
        if isinstance(decision, Rejection):
            raise BrokenEntryError("log_keys", _words(decision))
        apply(self.state, signed, decision, seq)


class FullReplay(LightReplay):
    """Replays entries and applies every rule; ``state`` is what they lead to."""

    def add(self, data: Any) -> Replayed:
        """Replay the next entry's stored bytes; raise :class:`BrokenEntryError` when it cannot be the next."""
        entry = _read_entry(data)
        seq = self.range.size
        op_bytes = bytes(entry.op)
        signed = _read_operation(op_bytes, entry.sigs)
        op = signed.op
        self._check_chain(seq, entry, op.KIND)
        self._check_signatures(seq, op_bytes, entry.sigs)
        earlier = self.state.recorded.get(signed.op_id)
        if earlier is not None:
            raise BrokenEntryError("operation_ids", f"recorded in entry {earlier} before")
        decision = admit(self.state, signed, entry.time)
        if isinstance(decision, Rejection) or _encoder.encode(decision.postings) != bytes(entry.postings):
            postings = _decode(_postings_decoder, entry.postings)
            _refuse(decision, postings)
        assert isinstance(decision, Admission)
        apply(self.state, signed, decision, seq)
        self._check_balances(decision)
        digest = leaf_hash(data)
        self._append(digest, entry.time)
        actor = getattr(op, "actor", None)
        return Replayed(seq, digest, signed.op_id, op.KIND, actor, entry.time, decision, getattr(op, "asset", ""))

    def _check_balances(self, admission: Admission) -> None:
        # Supply within its cap is part of admit; here the state it led to is looked at with other eyes.
        for leg in admission.postings:
            if leg.account in SYSTEM_ACCOUNTS:
                continue
            points = self.state.lots_of(leg.account, leg.asset).get(leg.lot or NO_LAST_DAY, 0)
            if points < 0 and not self._may_be_owed(leg):
                raise BrokenEntryError("balances", f"{leg.account} is left with {points} points of {leg.asset}")

    def _may_be_owed(self, leg: Posting) -> bool:
        """Whether a leg is of money, or of the undated lot of an asset whose refunds may leave a debt of points."""
        if self.state.parameters is not None and leg.asset in self.state.parameters.units:
            return True
        versions = self.state.programs.get(leg.asset, ())
        return leg.lot is None and any(version.program.refunds == "negative" for version in versions)


def _read_entry(data: Any) -> _StoredEntry:
    """The outside of an entry, which is canonical if what stands in it is."""
    if not isinstance(data, bytes):
        raise BrokenEntryError("entries", f"the stored bytes are of the type {type(data).__name__}")
    if len(data) > MAX_ENTRY_BYTES:
        raise BrokenEntryError("entries", f"{len(data)} bytes, at most {MAX_ENTRY_BYTES} are allowed")
    entry = _decode(_entry_decoder, data)
    _check_canonical(data, _encoder.encode(entry))
    return entry


def _check_canonical(data: bytes, canonical: bytes) -> None:
    if data != canonical:
        raise BrokenEntryError("entries", describe_difference(data, canonical))


def _decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenEntryError("entries", f"not an entry: {error}") from error


def _read_operation(op_bytes: bytes, sigs: tuple[Signature, ...]) -> SignedOperation:
    """The operation of an entry, as strictly as when it was submitted."""
    try:
        if len(sigs) > MAX_SIGNATURES:
            raise BrokenEntryError("entries", f"more than {MAX_SIGNATURES} signatures")
        return sign_with(op_bytes, sigs)
    except MalformedError as error:
        place = ".".join(error.path) or "the operation"
        raise BrokenEntryError("entries", f"{error.code} at {place}: {error.message}") from error


def _check_time(time: str) -> None:
    try:
        parse_time(time)
    except EncodingError as error:
        raise BrokenEntryError("entries", str(error)) from error


def _check_conservation(postings: Sequence[Posting]) -> None:
    totals: dict[str, int] = {}
    for leg in postings:
        totals[leg.asset] = totals.get(leg.asset, 0) + leg.amount
    if any(totals.values()):
        raise BrokenEntryError("conservation", f"postings sum to {totals}, not to zero")


def _refuse(decision: Admission | Rejection, stored: Sequence[Posting]) -> NoReturn:
    """Say what is wrong with an entry that is not what the rules give."""
    _check_conservation(stored)
    if isinstance(decision, Rejection):
        raise BrokenEntryError("rules", _words(decision))
    if tuple(stored) == decision.postings:
        raise BrokenEntryError("entries", "not the canonical bytes of the postings")
    raise BrokenEntryError("rules", _first_difference(stored, decision.postings))


def _words(refusal: Rejection) -> str:
    return f"{refusal.code} at {'.'.join(refusal.path) or 'the operation'}: {refusal.message}"


def _first_difference(stored: Sequence[Posting], given: Sequence[Posting]) -> str:
    for i in range(max(len(stored), len(given))):
        a, b = (legs[i] if i < len(legs) else None for legs in (stored, given))
        if a != b:
            return f"posting {i} is {_show(a)}, the rules give {_show(b)}"
    return "no posting differs"


def _show(value: Any) -> str:
    return "missing" if value is None else _encoder.encode(value).decode()
