"""Merkle trees, tiles and notes by their definitions, for tests to compare with: slow, short, and naive on purpose.

It shares no code with the ledger and imports nothing of it: hashes, base64 and an Ed25519 primitive are all it needs.
RFC 6962 is followed in its recursive form, leaf hashes in place of leaves.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ED25519, COSIGNATURE = b"\x01", b"\x04"
"""The algorithm byte of a log's key and of a witness's."""


def canonical(value: Any) -> bytes:
    """RFC 8785 for what entries hold: ASCII keys, strings, integers, booleans."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_leaf(entry: bytes) -> bytes:
    """Leaf hash of an entry (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def split(size: int) -> int:
    """The largest power of two below a size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def naive_root(hashes: Sequence[bytes]) -> bytes:
    """Merkle tree hash over leaf hashes (RFC 6962 section 2.1), by its recursive definition."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return hashlib.sha256(b"\x01" + naive_root(hashes[:k]) + naive_root(hashes[k:])).digest()


def naive_inclusion(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """PATH(index, D) of RFC 6962 section 2.1.1."""
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if index < k:
        return [*naive_inclusion(index, hashes[:k]), naive_root(hashes[k:])]
    return [*naive_inclusion(index - k, hashes[k:]), naive_root(hashes[:k])]


def naive_consistency(old_size: int, hashes: Sequence[bytes]) -> list[bytes]:
    """PROOF(old_size, D) of RFC 6962 section 2.1.2; nothing needs a proof from 0 on."""
    return _subproof(old_size, hashes, known=True) if old_size else []


def _subproof(old_size: int, hashes: Sequence[bytes], *, known: bool) -> list[bytes]:
    if old_size == len(hashes):
        return [] if known else [naive_root(hashes)]
    k = split(len(hashes))
    if old_size <= k:
        return [*_subproof(old_size, hashes[:k], known=known), naive_root(hashes[k:])]
    return [*_subproof(old_size - k, hashes[k:], known=False), naive_root(hashes[:k])]


def naive_tiles(leaves: Sequence[bytes], width: int = 256) -> dict[tuple[int, int], tuple[bytes, bytes]]:
    """Every full tile ``(level, index)`` and its root: a tile's hashes are roots over equal runs of leaves."""
    tiles = {}
    level, run = 0, 1
    while run * width <= len(leaves):
        for index in range(len(leaves) // (run * width)):
            first = index * run * width
            runs = [leaves[i : i + run] for i in range(first, first + run * width, run)]
            tiles[(level, index)] = (b"".join(naive_root(r) for r in runs), naive_root(leaves[first:][: run * width]))
        level, run = level + 1, run * width
    return tiles


def tile_name(level: int | str, index: int, width: int = 256) -> str:
    """``tile/<L>/<N>[.p/<W>]``: the number in groups of three digits, each but the last behind an x."""
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{name}" + ("" if width == 256 else f".p/{width}")


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of a public key."""
    return key.public_key().public_bytes_raw()


def key_id(name: str, key: Ed25519PrivateKey, algorithm: bytes = ED25519) -> bytes:
    """The four bytes that name a key in a note (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + algorithm + public_bytes(key)).digest()[:4]


def verifier_key(name: str, key: Ed25519PrivateKey, algorithm: bytes = ED25519) -> str:
    """A key's public half, as clients are given it (C2SP signed-note)."""
    blob = base64.b64encode(algorithm + public_bytes(key)).decode()
    return f"{name}+{key_id(name, key, algorithm).hex()}+{blob}"


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The three lines that are signed (C2SP tlog-checkpoint)."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def signature_line(name: str, key_bytes: bytes, data: bytes) -> str:
    """A line of a note: key id and signature in base64 behind the name."""
    return f"— {name} {base64.b64encode(key_bytes + data).decode()}\n"


def log_line(text: str, name: str, key: Ed25519PrivateKey) -> str:
    """The line of a log's key on a note's text."""
    return signature_line(name, key_id(name, key), key.sign(text.encode()))


def cosignature_line(text: str, name: str, key: Ed25519PrivateKey, timestamp_s: int) -> str:
    """The line of a witness's key on a checkpoint's text (C2SP tlog-cosignature)."""
    message = f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()
    return signature_line(name, key_id(name, key, COSIGNATURE), timestamp_s.to_bytes(8, "big") + key.sign(message))


def leads_to(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to from a leaf; ``None`` when it has too few or too many hashes."""
    if size == 1:
        return None if proof else leaf
    if not proof:
        return None
    k = split(size)
    below = leads_to(leaf, index, k, proof[:-1]) if index < k else leads_to(leaf, index - k, size - k, proof[:-1])
    if below is None:
        return None
    return _node(below, proof[-1]) if index < k else _node(proof[-1], below)


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether an inclusion proof holds."""
    right_size = all(len(value) == 32 for value in (leaf, root, *proof))
    return right_size and 0 <= index < size and leads_to(leaf, index, size, proof) == root


def is_consistent(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether a consistency proof holds."""
    if not all(len(value) == 32 for value in (old_root, new_root, *proof)) or not 0 <= old_size <= new_size:
        return False
    if old_size in (0, new_size):
        same = old_root == (new_root if old_size else hashlib.sha256(b"").digest())
        return not proof and same and (old_size != new_size or old_root == new_root)
    return _both_roots(old_size, new_size, proof, old_root) == (old_root, new_root)


def _both_roots(old_size: int, size: int, proof: Sequence[bytes], known: bytes | None) -> tuple[bytes, bytes] | None:
    """What SUBPROOF of RFC 6962 section 2.1.2 leads to, read from its end; ``known`` is the old root where it is."""
    if old_size == size:
        if known is not None:
            return None if proof else (known, known)
        return (proof[0], proof[0]) if len(proof) == 1 else None
    if not proof:
        return None
    k = split(size)
    if old_size <= k:
        below = _both_roots(old_size, k, proof[:-1], known)
        return below and (below[0], _node(below[1], proof[-1]))
    below = _both_roots(old_size - k, size - k, proof[:-1], None)
    return below and (_node(proof[-1], below[0]), _node(proof[-1], below[1]))


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
