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
from collections.abc import Callable, Iterable, Sequence

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
        return _fold(self._roots)

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


# Proofs (RFC 6962 sections 2.1.1 and 2.1.2). A proof is first a list of subtrees, named by the leaves they cover; which
# stored hashes those need is computed without reading anything; then they are read, once, and folded. Mathematics and
# storage never mix.

Node = tuple[int, int]
"""A perfect subtree: ``(height, index)`` covers the leaves ``[index * 2**height, (index + 1) * 2**height)``."""

ReadNodes = Callable[[Sequence[Node]], Sequence[bytes]]
"""Gives the hashes of perfect subtrees, in the order asked."""


class ProofError(ValueError):
    """A proof that does not prove what it claims, or that cannot exist."""


def prove_inclusion(index: int, size: int, read: ReadNodes) -> list[bytes]:
    """The inclusion proof of leaf ``index`` in the tree of ``size`` leaves, the leaf's sibling first."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    return _read_subtrees(_inclusion_subtrees(index, 0, size), read)


def prove_consistency(old_size: int, new_size: int, read: ReadNodes) -> list[bytes]:
    """The proof that the tree of ``new_size`` leaves begins with that of ``old_size``; empty for 0 or equal sizes."""
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {new_size} leaves does not extend one of {old_size}")
    if old_size in (0, new_size):
        return []
    return _read_subtrees(_consistency_subtrees(old_size, 0, new_size, known=True), read)


def subtree_nodes(start: int, end: int) -> list[Node]:
    """The perfect subtrees that the leaves ``[start, end)`` decompose into, left to right."""
    nodes = []
    while start < end:
        height = (end - start).bit_length() - 1
        if start:
            height = min(height, (start & -start).bit_length() - 1)
        nodes.append((height, start >> height))
        start += 1 << height
    return nodes


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _inclusion_subtrees(index: int, start: int, end: int) -> list[tuple[int, int]]:
    subtrees = []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            subtrees.append((middle, end))
            end = middle
        else:
            subtrees.append((start, middle))
            start = middle
    return subtrees[::-1]


def _consistency_subtrees(old_size: int, start: int, end: int, *, known: bool) -> list[tuple[int, int]]:
    """SUBPROOF of RFC 6962 section 2.1.2; ``known`` while the subtree's root is the old root, which needs no proof."""
    subtrees = []
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            subtrees.append((middle, end))
            end = middle
        else:
            subtrees.append((start, middle))
            start, known = middle, False
    if not known:
        subtrees.append((start, end))
    return subtrees[::-1]


def _read_subtrees(subtrees: Sequence[tuple[int, int]], read: ReadNodes) -> list[bytes]:
    parts = [subtree_nodes(start, end) for start, end in subtrees]
    hashes = iter(read([node for part in parts for node in part]))
    return [_fold([next(hashes) for _ in part]) for part in parts]


def _fold(roots: Sequence[bytes]) -> bytes:
    """Root over perfect subtrees side by side, the largest first."""
    node = roots[-1]
    for left in reversed(roots[:-1]):
        node = hash_node(left, node)
    return node


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that ``leaf_hash`` is leaf ``index`` of the tree of ``size`` leaves; raise :class:`ProofError` if not.

    RFC 9162 section 2.1.3.2: walk from the leaf to the root; the bits of the index say on which side the sibling is.
    """
    _check_hashes(leaf_hash, root, *proof)
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    node = leaf_hash
    for sibling, is_left in _with_sides(proof, index, size - 1):
        node = hash_node(sibling, node) if is_left else hash_node(node, sibling)
    if node != root:
        raise ProofError("the proof leads to another root")


def verify_consistency(
    old_size: int, new_size: int, proof: Sequence[bytes], *, old_root: bytes, new_root: bytes
) -> None:
    """Check that one tree begins with another; raise :class:`ProofError` if not (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old_size <= new_size:
        raise ProofError(f"a tree of {new_size} leaves does not extend one of {old_size}")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ProofError("the old root is not that of an empty tree")
    if old_size == new_size and old_root != new_root:
        raise ProofError("two trees of one size have different roots")
    if old_size in (0, new_size) and proof:
        raise ProofError("the proof has hashes to spare")
    if old_size == new_size:
        return
    _check_hashes(old_root, new_root, *proof)
    if old_size == 0:
        return
    # Where the old tree is a perfect subtree of the new one, its root is known and left out of the proof.
    steps = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not steps:
        raise ProofError("the proof is empty")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = steps[0]
    for step, is_left in _with_sides(steps[1:], position, last):
        if is_left:
            old, new = hash_node(step, old), hash_node(step, new)
        else:
            new = hash_node(new, step)
    if old != old_root or new != new_root:
        raise ProofError("the proof leads to other roots")


def _with_sides(proof: Sequence[bytes], position: int, last: int) -> list[tuple[bytes, bool]]:
    """Each step of a proof, and whether it stands to the left, on the way from a node to the root.

    ``position`` and ``last`` are the indexes of the node and of the last node on its level. Where a node is the last
    and has no sibling, it rises unchanged until it is a right child.
    """
    sides = []
    while last:
        is_left = bool(position & 1) or position == last
        while is_left and not position & 1:
            position, last = position >> 1, last >> 1
        sides.append(is_left)
        position, last = position >> 1, last >> 1
    if len(sides) != len(proof):
        raise ProofError(f"the proof has {len(proof)} hashes, not {len(sides)}")
    return list(zip(proof, sides, strict=True))


def _check_hashes(*hashes: bytes) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError("a hash is 32 bytes")
