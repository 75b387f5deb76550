"""Proofs and receipts as clients ask for them. Proofs are public, as the hashes they are made of are under ``/log/``.

A receipt holds its entry whole, so it is for whoever may see the entry whole: that is decided where entries are read.
"""

import strawberry
from sqlalchemy.engine import Connection as Snapshot

from api.context import Context
from api.errors import BadInputError
from api.fields import field
from api.scalars import Hash, UInt53
from api.types import Entry
from ledger import log
from ledger.checkpoint import WitnessPolicy, encode_hash
from ledger.cosignatures import read_cosignatures
from ledger.merkle import ProofError
from ledger.receipt import Receipt, encode_receipt
from ledger.store import Store

RECEIPT = (
    "The entry's receipt: entry, inclusion proof and checkpoint in one file (C2SP tlog-proof), which verifies offline "
    "with the one of the ledger's `logKeys` that is of its checkpoint's size. Once enough of the ledger's witnesses "
    "have cosigned a checkpoint that has the entry, it is the newest such, with their lines; until then, so that the "
    "receipt is there at once, it is the ledger's newest. Ask again for one with cosignatures."
)

_HASHES = "Hashes in base64, in the order of RFC 6962 section 2.1: "


@strawberry.type(description="The proof that an entry is in the Merkle tree of the first `size` entries (RFC 6962).")
class InclusionProof:
    """An inclusion proof."""

    seq: UInt53 = field("The entry's sequence number.")
    size: UInt53 = field("How many entries the tree has.")
    leaf_hash: Hash = field("The entry's leaf hash.")
    hashes: list[str] = field(_HASHES + "the leaf's sibling first.")


@strawberry.type(description="The proof that the first `toSize` entries begin with the first `fromSize` (RFC 6962).")
class ConsistencyProof:
    """A consistency proof."""

    from_size: UInt53 = field("How many entries the smaller tree has.")
    to_size: UInt53 = field("How many entries the larger tree has.")
    hashes: list[str] = field(_HASHES + "the lowest subtree first. None for sizes that are equal, and from 0.")


def inclusion_proof(store: Store, connection: Snapshot, seq: int, size: int | None) -> InclusionProof:
    """The proof of an entry in the tree of a size, or of the newest; :class:`BadInputError` when there is none."""
    size = store.head(connection).size if size is None else size
    try:
        hashes = log.prove_inclusion(store, connection, seq, size)
    except ProofError as error:
        raise BadInputError(str(error)) from error
    (leaf,) = store.leaf_hashes(connection, seq, seq + 1)
    return InclusionProof(
        seq=UInt53(seq), size=UInt53(size), leaf_hash=Hash(leaf.hex()), hashes=[encode_hash(h) for h in hashes]
    )


def consistency_proof(store: Store, connection: Snapshot, from_size: int, to_size: int | None) -> ConsistencyProof:
    """The proof between two sizes, or up to the newest; :class:`BadInputError` when there is none."""
    to_size = store.head(connection).size if to_size is None else to_size
    try:
        hashes = log.prove_consistency(store, connection, from_size, to_size)
    except ProofError as error:
        raise BadInputError(str(error)) from error
    return ConsistencyProof(
        from_size=UInt53(from_size), to_size=UInt53(to_size), hashes=[encode_hash(h) for h in hashes]
    )


async def receipt_of(context: Context, entry: Entry | None) -> str | None:
    """The receipt of an entry; ``None`` without an entry whose document the reader is told."""
    if entry is None or entry.document is None:
        return None
    return await context.read(_receipt, context.service.policy, entry.seq, entry.document.encode())


def _receipt(store: Store, connection: Snapshot, policy: WitnessPolicy, seq: int, data: bytes) -> str:
    witnessed = read_cosignatures(store, connection, policy).witnessed()
    if witnessed is not None and seq < witnessed.size:
        size, note = witnessed.size, witnessed.note
    else:
        head = store.head(connection)
        size, note = head.size, head.checkpoint
    proof = log.prove_inclusion(store, connection, seq, size)
    return encode_receipt(Receipt(data=data, seq=seq, proof=tuple(proof), note=note))
