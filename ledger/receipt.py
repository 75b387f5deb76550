"""Receipts: an entry, the proof that it is in the ledger, and the checkpoint it is in, in one file (C2SP tlog-proof).

Whoever holds one can show a payment to anyone who has the log's key; neither needs a server. The receipt of entry 2 of
a ledger of 3::

    c2sp.org/tlog-proof@v1
    extra eyJvcCI6eyJhdCI6…
    index 2
    V28jl/Sn0+pXpzgDYt3nEmM54jFr5wmS/qJjdGdXRgg=

    ledger.example/beans
    3
    OnkQvHjZJhUtKDpdQ1kQ9HWhZfUw98BXPIcukKwbjR9g…

    — ledger.example/beans yA6TG…

1. the version of the format;
2. ``extra``: the entry's stored bytes in base64;
3. ``index``: the entry's sequence number, in decimal without leading zeros;
4. the inclusion proof, a hash on a line, the entry's sibling first;
5. an empty line, then the checkpoint with its signatures.

What a receipt proves: the log's key signed a history in which this entry is the one with this number. That every entry
of the history was due, an audit tells; that everybody is shown the same one, witnesses do: their lines stand behind the
log's when the ledger was asked for the receipt of a checkpoint that they had cosigned.
"""

import base64
import re

from msgspec import Struct

from ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    Cosignature,
    LogKey,
    WitnessedCheckpoint,
    WitnessPolicy,
    decode_base64,
    decode_hash,
    encode_hash,
    verify_witnessed,
)
from ledger.encoding import MAX_INTEGER, EncodingError, LeafHash
from ledger.entries import MAX_ENTRY_BYTES, Entry, decode_entry, leaf_hash
from ledger.merkle import ProofError, verify_inclusion

VERSION_LINE = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES = 63
"""A tree of 2^53 entries needs 53."""

MAX_RECEIPT_CHARACTERS = 128 * 1024
"""The largest entry in base64, and room for proof and checkpoint."""

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")


class ReceiptError(ValueError):
    """A file that is no receipt, or does not prove what it claims. The message says which line or check fails."""


class Receipt(Struct, frozen=True, kw_only=True):
    """A receipt, read: the entry's bytes and number, its inclusion proof, and the signed checkpoint, a note."""

    data: bytes
    seq: int
    proof: tuple[bytes, ...]
    note: str


class Proven(Struct, frozen=True, kw_only=True):
    """What a receipt proves: this entry is number ``seq`` of the history that ``checkpoint`` commits to.

    ``signers`` are the log keys, of those given, that signed the checkpoint, ``cosignatures`` what the witnesses, of
    those given, said of it.
    """

    entry: Entry
    data: bytes
    seq: int
    leaf_hash: LeafHash
    checkpoint: Checkpoint
    signers: tuple[LogKey, ...]
    cosignatures: tuple[Cosignature, ...]


def encode_receipt(receipt: Receipt) -> str:
    """The text of a receipt."""
    extra = base64.b64encode(receipt.data).decode()
    lines = [VERSION_LINE, f"extra {extra}", f"index {receipt.seq}", *map(encode_hash, receipt.proof)]
    return "\n".join(lines) + f"\n\n{receipt.note}"


def decode_receipt(text: str) -> Receipt:
    """Read a receipt; raise :class:`ReceiptError` for any other spelling than :func:`encode_receipt`'s.

    Nothing is proven by this: see :func:`verify_receipt`.
    """
    if len(text) > MAX_RECEIPT_CHARACTERS:
        raise ReceiptError(f"a receipt has at most {MAX_RECEIPT_CHARACTERS} characters")
    head, separator, note = text.partition("\n\n")
    version, extra, index, *proof = [*head.split("\n"), "", ""]
    if version != VERSION_LINE:
        raise ReceiptError(f"the first line is not {VERSION_LINE}")
    if not extra.startswith("extra "):
        raise ReceiptError("the second line is not extra and the entry in base64")
    match = _INDEX.fullmatch(index)
    if match is None or int(match[1]) > MAX_INTEGER:
        raise ReceiptError("the third line is not index and a number without leading zeros")
    if not separator:
        raise ReceiptError("there is no empty line and no checkpoint after the proof")
    hashes = proof[:-2]
    if len(hashes) > MAX_PROOF_HASHES:
        raise ReceiptError(f"a proof has at most {MAX_PROOF_HASHES} hashes")
    try:
        data = decode_base64(extra.removeprefix("extra "))
        decoded = tuple(decode_hash(line) for line in hashes)
    except CheckpointError as error:
        raise ReceiptError(str(error)) from error
    if len(data) > MAX_ENTRY_BYTES:
        raise ReceiptError(f"an entry has at most {MAX_ENTRY_BYTES} bytes")
    return Receipt(data=data, seq=int(match[1]), proof=decoded, note=note)


def verify_receipt(text: str, policy: WitnessPolicy) -> Proven:
    """Check a receipt by what one asks of a checkpoint, and nothing else; raise :class:`ReceiptError` if it fails.

    The checkpoint must be signed by one of the policy's log keys, which must be named as the checkpoint's origin, and
    cosigned by as many of its witnesses as it says. Lines of other keys are ignored, as C2SP signed-note asks.
    """
    receipt = decode_receipt(text)
    found = _verify_note(receipt.note, policy)
    checkpoint = found.checkpoint
    leaf = leaf_hash(receipt.data)
    try:
        verify_inclusion(leaf, receipt.seq, checkpoint.size, receipt.proof, checkpoint.root)
    except ProofError as error:
        raise ReceiptError(f"the entry is not in the checkpoint: {error}") from error
    try:
        entry = decode_entry(receipt.data)
    except EncodingError as error:
        raise ReceiptError(f"what is in the checkpoint is no entry: {error}") from error
    if entry.seq != receipt.seq:
        raise ReceiptError(f"the entry says it is number {entry.seq}, the proof {receipt.seq}")
    if entry.op.ledger != checkpoint.origin:
        raise ReceiptError(f"the entry is of {entry.op.ledger}, the checkpoint of {checkpoint.origin}")
    return Proven(
        entry=entry,
        data=receipt.data,
        seq=receipt.seq,
        leaf_hash=leaf,
        checkpoint=checkpoint,
        signers=found.signers,
        cosignatures=found.cosignatures,
    )


def _verify_note(note: str, policy: WitnessPolicy) -> WitnessedCheckpoint:
    try:
        return verify_witnessed(note, policy)
    except (CheckpointError, UnicodeEncodeError) as error:
        raise ReceiptError(f"the checkpoint cannot be trusted: {error}") from error
