"""The Merkle tree: the compact range and the tiles against the definition of RFC 6962, read naively."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.merkle import EMPTY_ROOT, CompactRange, completed_tiles, hash_leaf, hash_node, subtree_root

CONSISTENCY: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("vectors").joinpath("merkle_consistency.json").read_text("utf-8")
)

# The leaves of the published trees (Certificate Transparency's reference tree).
PUBLISHED_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]

LEAVES = [f"entry {i}".encode() for i in range(300)]


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    n = len(leaves)
    if n == 0:
        return hashlib.sha256().digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < n:
        k *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def full_tiles(size: int) -> set[tuple[int, int]]:
    """All (level, index) whose 256 subtrees of 256^level leaves lie within the tree."""
    return {
        (level, index)
        for level in range(5)
        for index in range(size // 256 ** (level + 1))
        if (index + 1) * 256 * 256**level <= size
    }


def build(leaves: list[bytes]) -> CompactRange:
    tree = CompactRange()
    for leaf in leaves:
        tree.append(hash_leaf(leaf))
    return tree


def test_root_is_the_tree_hash_at_every_size() -> None:
    """From 0 to 300 leaves the folded compact range is the recursive definition."""
    tree = CompactRange()
    assert tree.root() == tree_hash([])
    for size, leaf in enumerate(LEAVES, start=1):
        tree.append(hash_leaf(leaf))
        assert tree.size == size
        assert tree.root() == tree_hash(LEAVES[:size])


def test_roots_are_those_of_the_published_trees() -> None:
    """Every tree of the published consistency proofs that are valid has the root published for it."""
    seen = set()
    for case in CONSISTENCY.values():
        for size, root in ((case["size1"], case["root1"]), (case["size2"], case["root2"])):
            # A proof from a tree to itself is valid for any root; one case says so in its root's text.
            if not case["wantErr"] and root != base64.b64encode(b"don't care 2").decode():
                assert build(PUBLISHED_LEAVES[:size]).root() == base64.b64decode(root)
                seen.add(size)
    assert seen == {1, 2, 5, 6, 7, 8}


def test_published_leaf_and_empty_root() -> None:
    """SHA-256 of nothing, and of a zero byte: the root of no leaves and the hash of the empty leaf."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hash_leaf(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


def test_compact_range_is_the_perfect_subtrees() -> None:
    """A range of 13 leaves is the roots over leaves 0-7, 8-11 and 12, largest first."""
    assert build(LEAVES[:13]).encode() == tree_hash(LEAVES[:8]) + tree_hash(LEAVES[8:12]) + tree_hash(LEAVES[12:13])


def test_compact_range_goes_on_after_being_stored() -> None:
    """At every size, a range that was written and read grows into the same tree."""
    tree = CompactRange()
    for size in range(130):
        stored = CompactRange.decode(size, tree.encode())
        for leaf in LEAVES[size : size + 3]:
            stored.append(hash_leaf(leaf))
        assert stored.root() == tree_hash(LEAVES[: size + 3])
        tree.append(hash_leaf(LEAVES[size]))


def test_copy_is_independent() -> None:
    """What is appended to a copy, as a preview does, does not reach the original."""
    tree = build(LEAVES[:7])
    copy = tree.copy()
    copy.append(hash_leaf(b"other"))
    assert (tree.size, tree.root()) == (7, tree_hash(LEAVES[:7]))
    assert (copy.size, copy.root()) == (8, tree_hash([*LEAVES[:7], b"other"]))


@given(st.integers(0, 300), st.integers(-2, 2))
def test_stored_range_of_another_size_is_refused(size: int, hashes: int) -> None:
    """A range has one hash for each 1 bit of its size, no more and no fewer."""
    data = bytes(32 * max(size.bit_count() + hashes, 0))
    if len(data) == 32 * size.bit_count():
        assert CompactRange.decode(size, data).size == size
    else:
        with pytest.raises(ValueError, match="roots"):
            CompactRange.decode(size, data)


@pytest.mark.parametrize("cut", [1, 31, 33, 63])
def test_truncated_or_extended_range_is_refused(cut: int) -> None:
    """Stored bytes that are no whole number of hashes are corrupt."""
    data = build(LEAVES[:13]).encode()
    with pytest.raises(ValueError, match="whole number of hashes"):
        CompactRange.decode(13, data[:-cut])
    with pytest.raises(ValueError, match="whole number of hashes"):
        CompactRange.decode(13, data + bytes(cut))


def test_range_of_impossible_form_is_refused() -> None:
    """Negative sizes and hashes of another length do not make a range."""
    with pytest.raises(ValueError, match="leaves"):
        CompactRange(-1, [bytes(32)])
    with pytest.raises(ValueError, match="32 bytes"):
        CompactRange(1, [bytes(31)])


@given(st.integers(1, 40), st.data())
def test_any_changed_leaf_changes_the_root(size: int, data: st.DataObject) -> None:
    """A flipped bit, a lost, a doubled or two exchanged leaves give another root."""
    leaves = LEAVES[:size]
    root = build(leaves).root()
    at = data.draw(st.integers(0, size - 1))
    bit = data.draw(st.integers(0, len(leaves[at]) * 8 - 1))
    flipped = bytearray(leaves[at])
    flipped[bit // 8] ^= 1 << bit % 8
    changed = [
        [*leaves[:at], bytes(flipped), *leaves[at + 1 :]],
        [*leaves[:at], *leaves[at + 1 :]],
        [*leaves[: at + 1], *leaves[at:]],
        [*leaves, b""],
    ]
    if at:
        changed.append([*leaves[: at - 1], leaves[at], leaves[at - 1], *leaves[at + 1 :]])
    assert root not in {build(other).root() for other in changed}


def test_leaf_cannot_pose_as_a_node() -> None:
    """Leaf and node hashes are domain-separated: the bytes of two hashes as an entry are another hash."""
    left, right = hash_leaf(b"left"), hash_leaf(b"right")
    assert hash_node(left, right) == hashlib.sha256(b"\x01" + left + right).digest()
    assert hash_leaf(left + right) != hash_node(left, right)
    assert build([left + right]).root() != build([b"left", b"right"]).root()


@pytest.mark.parametrize("count", [1, 2, 4, 8, 256])
def test_subtree_root_is_the_tree_hash(count: int) -> None:
    """Over a power of two of leaves, a perfect subtree is the tree."""
    assert subtree_root(hash_leaf(leaf) for leaf in LEAVES[:count]) == tree_hash(LEAVES[:count])


@pytest.mark.parametrize("count", [0, 3, 5, 6, 255])
def test_subtree_of_another_width_is_refused(count: int) -> None:
    """Only a power of two of nodes is a perfect subtree."""
    with pytest.raises(ValueError, match="power of two"):
        subtree_root([bytes(32)] * count)


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_completed_tiles_are_the_full_ones_that_were_not(one: int, other: int) -> None:
    """Growing completes exactly the tiles that are full after and were not before, each once."""
    old, new = sorted((one, other))
    tiles = completed_tiles(old, new)
    assert len(set(tiles)) == len(tiles)
    assert set(tiles) == full_tiles(new) - full_tiles(old)


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_lower_tiles_are_completed_first(one: int, other: int) -> None:
    """A tile's hashes are roots of tiles below it, which come before it, and indexes ascend."""
    old, new = sorted((one, other))
    assert completed_tiles(old, new) == sorted(completed_tiles(old, new))


def test_tree_of_70_000_has_the_tiles_of_the_specification() -> None:
    """C2SP tlog-tiles, by example: 273 full tiles at level 0, one at level 1, none above."""
    tiles = completed_tiles(0, 70_000)
    assert tiles == [(0, index) for index in range(273)] + [(1, 0)]
    assert completed_tiles(69_888, 70_000) == []
    assert completed_tiles(65_535, 65_536) == [(0, 255), (1, 0)]


def test_tiles_hold_the_tree_hashes_of_their_leaves() -> None:
    """Hash i of tile n at level l is the tree hash over leaves [(256n+i)·256^l, (256n+i+1)·256^l)."""
    leaves = [i.to_bytes(4, "big") for i in range(65_536)]
    level_0 = [hash_leaf(leaf) for leaf in leaves]
    level_1 = [subtree_root(level_0[256 * i : 256 * (i + 1)]) for i in range(256)]
    for i in (0, 1, 77, 255):
        assert level_1[i] == tree_hash(leaves[256 * i : 256 * (i + 1)])
    assert subtree_root(level_1) == tree_hash(leaves) == build(leaves).root()
