"""Entries: operations the ledger recorded, each the leaf of the Merkle tree and a link of the chain.

An entry's canonical bytes, in the order RFC 8785 gives its fields::

    {"op":{…},"postings":[{"account":"mem_…","amount":-1250,"asset":"STAR","lot":"2027-11-22"},…],
     "prev":"<leaf hash of the entry before; 64 zeros for entry 0>","seq":41,"sigs":[…],"time":"…Z"}

``op`` and ``sigs`` are the submitted bytes, untouched. The leaf hash is taken over the stored bytes, never over a
re-encoding. An entry has at most 65,535 bytes, which is what an entry bundle can carry (C2SP tlog-tiles).
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ledger.encoding import MAX_INTEGER, EncodingError, LeafHash, describe_difference
from ledger.merkle import hash_leaf
from ledger.operations import AnyOperation, Signature, SignedOperation, check_operation, operation_id
from ledger.terms import HashText, Time

MAX_ENTRY_BYTES = 65_535
"""The bound of the 16-bit length in an entry bundle."""

FIRST_PREV = LeafHash(bytes(32))
"""``prev`` of entry 0."""

NO_LAST_DAY = "9999-12-31"
"""The last day of points that never expire, where one is needed to sort by; never written in an entry."""


class Posting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One leg of an entry. ``amount`` is in the asset's smallest unit, negative where the account gives.

    ``lot`` is the last day these points can be used, in the program's time zone; absent when they never expire and on
    the legs of system accounts.
    """

    account: str
    amount: Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]
    asset: str
    lot: str | None = None


def lot_posting(account: str, asset: str, amount: int, day: str) -> Posting:
    """A leg of a lot, whose last day may be :data:`NO_LAST_DAY`."""
    return Posting(account=account, amount=amount, asset=asset, lot=None if day == NO_LAST_DAY else day)


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An entry, read. ``seq`` counts from 0; ``time`` is when it was recorded and never decreases."""

    op: AnyOperation
    postings: tuple[Posting, ...]
    prev: HashText
    seq: Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
    sigs: tuple[Signature, ...]
    time: Time


class OperationOutline(Struct, frozen=True, gc=False):
    """What most readers of an entry want of its operation."""

    kind: str
    at: str
    actor: str | None = None
    asset: str | None = None


class EntryOutline(Struct, frozen=True, gc=False):
    """An entry whose operation is read in outline, in a fraction of the time."""

    op: OperationOutline
    postings: tuple[Posting, ...]
    prev: str
    sigs: tuple[Signature, ...]
    time: str


_decoder = msgspec.json.Decoder(Entry)
_outline_decoder = msgspec.json.Decoder(EntryOutline)
_encoder = msgspec.json.Encoder(order="sorted")


def encode_entry(
    signed: SignedOperation, postings: tuple[Posting, ...], *, seq: int, prev: LeafHash, time: str
) -> bytes:
    """The canonical bytes of an entry. The operation's bytes are embedded as they were signed."""
    return b'{"op":%b,"postings":%b,"prev":"%b","seq":%d,"sigs":%b,"time":"%b"}' % (
        signed.op_bytes,
        _encoder.encode(postings),
        prev.hex().encode(),
        seq,
        _encoder.encode(signed.sigs),
        time.encode(),
    )


def decode_entry(data: bytes) -> Entry:
    """Read an entry from its stored bytes; raise :class:`EncodingError` when they are not canonical."""
    try:
        entry: Entry = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EncodingError(f"not an entry: {error}") from error
    canonical = _encoder.encode(entry)
    if canonical != data:
        raise EncodingError(describe_difference(data, canonical))
    return entry


def read_outline(data: bytes) -> EntryOutline:
    """Read an entry of one's own ledger, which was checked before it was stored; nothing of it is checked here."""
    return _outline_decoder.decode(data)


def signed_operation_of(entry: Entry) -> SignedOperation:
    """The operation an entry records, as it was submitted."""
    check_operation(entry.op)
    op_bytes = _encoder.encode(entry.op)
    return SignedOperation(op_bytes=op_bytes, op_id=operation_id(op_bytes), op=entry.op, sigs=entry.sigs)


def leaf_hash(data: bytes) -> LeafHash:
    """Chain link and Merkle leaf of an entry's stored bytes (RFC 6962 section 2.1)."""
    return LeafHash(hash_leaf(data))
