"""The Merkle tree over the entries: RFC 6962 hashing, the compact range, and tiles.

Leaf and node hashes are domain-separated (RFC 6962 section 2.1)::

    leaf = SHA-256(0x00 || entry bytes)
    node = SHA-256(0x01 || left || right)

The writer never holds the tree. It holds the *compact range* of the first ``size`` leaves: the roots of the perfect
subtrees that ``size`` decomposes into, largest first, one for each 1 bit of ``size``. For ``size = 13 = 0b1101``::

          8                4       1
    [ leaves 0-7 ]  [ leaves 8-11 ] [ leaf 12 ]

Appending a leaf merges equal neighbours, as a binary counter carries; the root folds the range from the right.

Readers fetch *tiles* (C2SP tlog-tiles): hash ``i`` of tile ``n`` at level ``l`` is the root of the perfect subtree
over leaves ``[(256n+i) * 256^l, (256n+i+1) * 256^l)``. A full tile is 256 hashes and never changes again.
"""

import hashlib
from collections.abc import Iterable, Sequence

HASH_SIZE = 32
TILE_WIDTH = 256
"""Hashes in a full tile: tile height 8 (C2SP tlog-tiles)."""

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without leaves (RFC 6962 section 2.1)."""

_sha256 = hashlib.sha256


def hash_leaf(entry: bytes) -> bytes:
    """Leaf hash of an entry's bytes: SHA-256(0x00 || entry)."""
    return _sha256(b"\x00" + entry).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return _sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The roots of the perfect subtrees of a growing tree; enough to append and to compute the root.

    Mutable on purpose: one is held for the length of a batch or an audit. ``size`` is the number of leaves.
    """

    __slots__ = ("_roots", "size")

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        if size < 0 or len(roots) != size.bit_count():
            raise ValueError(f"a range of {size} leaves has {size.bit_count()} roots, not {len(roots)}")
        if any(len(root) != HASH_SIZE for root in roots):
            raise ValueError("a root is 32 bytes")
        self.size = size
        self._roots = list(roots)

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf. Equal neighbours merge as often as ``size`` ends in 1 bits."""
        roots = self._roots
        carry = self.size
        node = leaf_hash
        while carry & 1:
            node = _sha256(b"\x01" + roots.pop() + node).digest()
            carry >>= 1
        roots.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Merkle tree hash of all leaves so far (RFC 6962 section 2.1)."""
        if not self._roots:
            return EMPTY_ROOT
        node = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            node = hash_node(left, node)
        return node

    def copy(self) -> "CompactRange":
        """An independent range of the same leaves."""
        return CompactRange(self.size, self._roots)

    def encode(self) -> bytes:
        """The roots one after the other, largest subtree first."""
        return b"".join(self._roots)

    @classmethod
    def decode(cls, size: int, data: bytes) -> "CompactRange":
        """Read what :meth:`encode` wrote for a tree of ``size`` leaves."""
        if len(data) % HASH_SIZE:
            raise ValueError("a compact range is a whole number of hashes")
        return cls(size, [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)])


def subtree_root(hashes: Iterable[bytes]) -> bytes:
    """Root over the given node hashes, of which there are a power of two (a full tile, for one)."""
    level = list(hashes)
    if not level or len(level) & (len(level) - 1):
        raise ValueError("a perfect subtree has a power of two of nodes")
    while len(level) > 1:
        level = [hash_node(level[i], level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


def completed_tiles(old_size: int, new_size: int) -> list[tuple[int, int]]:
    """Tiles ``(level, index)`` that become full when the tree grows from ``old_size`` to ``new_size`` leaves.

    Lower levels come first, so that a tile's hashes are known before the tile above it needs them.
    """
    tiles = []
    level, span = 0, TILE_WIDTH
    while span <= new_size:
        tiles += [(level, index) for index in range(old_size // span, new_size // span)]
        level, span = level + 1, span * TILE_WIDTH
    return tiles
