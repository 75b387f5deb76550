"""The Merkle tree: compact range, tiles and proofs against the definitions of RFC 6962, read naively."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    Node,
    ProofError,
    completed_tiles,
    hash_leaf,
    hash_node,
    prove_consistency,
    prove_inclusion,
    subtree_nodes,
    subtree_root,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).with_name("vectors")
CONSISTENCY: dict[str, dict[str, Any]] = json.loads((VECTORS / "merkle_consistency.json").read_text("utf-8"))
INCLUSION: dict[str, dict[str, Any]] = json.loads((VECTORS / "merkle_inclusion.json").read_text("utf-8"))

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


# Proofs. The reference below is RFC 6962 sections 2.1.1 and 2.1.2 word for word, over the leaves themselves.


@cache
def range_hash(start: int, end: int) -> bytes:
    """MTH of the leaves ``LEAVES[start:end]``."""
    if end - start == 1:
        return hashlib.sha256(b"\x00" + LEAVES[start]).digest()
    k = split(end - start)
    return hashlib.sha256(b"\x01" + range_hash(start, start + k) + range_hash(start + k, end)).digest()


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def audit_path(m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[n]), with D[n] the leaves from ``start`` to ``end``."""
    if end - start == 1:
        return []
    k = split(end - start)
    if m < k:
        return [*audit_path(m, start, start + k), range_hash(start + k, end)]
    return [*audit_path(m - k, start + k, end), range_hash(start, start + k)]


def subproof(m: int, start: int, end: int, known: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    if m == end - start:
        return [] if known else [range_hash(start, end)]
    k = split(end - start)
    if m <= k:
        return [*subproof(m, start, start + k, known), range_hash(start + k, end)]
    return [*subproof(m - k, start + k, end, False), range_hash(start, start + k)]


def read_nodes(nodes: Sequence[Node]) -> list[bytes]:
    """Perfect subtrees of the test's leaves, by the definition."""
    return [range_hash(index << height, (index + 1) << height) for height, index in nodes]


def included(index: int, size: int, proof: Sequence[bytes], **changes: Any) -> bool:
    """Whether a proof is accepted for the test's leaves."""
    given = {"leaf_hash": range_hash(index, index + 1), "root": range_hash(0, size)} | changes
    try:
        verify_inclusion(given["leaf_hash"], given.get("at", index), size, proof, given["root"])
    except ProofError:
        return False
    return True


def consistent(old: int, new: int, proof: Sequence[bytes], **changes: bytes) -> bool:
    """Whether a proof is accepted for the test's leaves."""
    roots = {"old_root": range_hash(0, old), "new_root": range_hash(0, new)} | changes
    try:
        verify_consistency(old, new, proof, **roots)
    except ProofError:
        return False
    return True


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def spoiled(proof: list[bytes]) -> list[list[bytes]]:
    """The proof with every bit flipped in turn, cut short, made longer, and with two hashes exchanged."""
    found = [[*proof[:i], flipped(h, bit), *proof[i + 1 :]] for i, h in enumerate(proof) for bit in range(256)]
    found += [proof[:i] for i in range(len(proof))]
    found += [proof[i:] for i in range(1, len(proof) + 1)]
    found += [[*proof[:i], bytes(32), *proof[i:]] for i in range(len(proof) + 1)]
    found += [[*proof[:i], h, *proof[i:]] for i, h in enumerate(proof)]
    found += [[*proof[:i], h[:-1], *proof[i + 1 :]] for i, h in enumerate(proof)]
    found += [[*proof[:i], h + b"\0", *proof[i + 1 :]] for i, h in enumerate(proof)]
    found += [[*proof[:i], proof[i + 1], proof[i], *proof[i + 2 :]] for i in range(len(proof) - 1)]
    return [other for other in found if other != proof]


def test_inclusion_proofs_are_those_of_the_rfc_at_every_size() -> None:
    """Each leaf of each tree to 300: the proof is PATH of the RFC, and verifies."""
    for size in range(1, 301):
        for index in range(size):
            proof = prove_inclusion(index, size, read_nodes)
            assert proof == audit_path(index, 0, size)
            assert included(index, size, proof)


def test_consistency_proofs_are_those_of_the_rfc_at_every_size() -> None:
    """Each pair of trees to 300: the proof is PROOF of the RFC, and verifies."""
    for new in range(1, 301):
        for old in range(1, new + 1):
            proof = prove_consistency(old, new, read_nodes)
            assert proof == (subproof(old, 0, new, True) if old < new else [])
            assert consistent(old, new, proof)


def test_every_change_of_an_inclusion_proof_is_refused() -> None:
    """Every flipped bit, missing, surplus, doubled or exchanged hash, in every proof of every tree to 12."""
    for size in range(1, 13):
        for index in range(size):
            proof = prove_inclusion(index, size, read_nodes)
            for other in spoiled(proof):
                assert not included(index, size, other)
            for bit in range(256):
                assert not included(index, size, proof, leaf_hash=flipped(range_hash(index, index + 1), bit))
                assert not included(index, size, proof, root=flipped(range_hash(0, size), bit))
            for elsewhere in (*range(index), *range(index + 1, size + 2), -1):
                assert not included(index, size, proof, at=elsewhere)


def test_every_change_of_a_consistency_proof_is_refused() -> None:
    """Every flipped bit, missing, surplus, doubled or exchanged hash, in every proof between trees to 12."""
    for new in range(1, 13):
        for old in range(1, new + 1):
            proof = prove_consistency(old, new, read_nodes)
            for other in spoiled(proof):
                assert not consistent(old, new, other)
            for bit in range(256):
                assert not consistent(old, new, proof, old_root=flipped(range_hash(0, old), bit))
                assert not consistent(old, new, proof, new_root=flipped(range_hash(0, new), bit))


@given(st.integers(13, 300), st.data())
def test_any_change_of_a_larger_proof_is_refused(size: int, data: st.DataObject) -> None:
    """One spoiled proof of each kind, drawn from all."""
    index = data.draw(st.integers(0, size - 1))
    assert not included(
        index, size, data.draw(st.sampled_from(spoiled(prove_inclusion(index, size, read_nodes))), label="inclusion")
    )
    old = data.draw(st.integers(1, size - 1))
    assert not consistent(
        old, size, data.draw(st.sampled_from(spoiled(prove_consistency(old, size, read_nodes))), label="consistency")
    )


def decoded(proof: list[str] | None) -> list[bytes]:
    return [base64.b64decode(text) for text in proof or []]


@pytest.mark.parametrize("name", INCLUSION)
def test_published_inclusion_proofs(name: str) -> None:
    """Every case of others is accepted or refused as they say."""
    case = INCLUSION[name]
    arguments = (base64.b64decode(case["leafHash"]), case["leafIdx"], case["treeSize"], decoded(case["proof"]))
    if case["wantErr"]:
        with pytest.raises(ProofError):
            verify_inclusion(*arguments, base64.b64decode(case["root"]))
    else:
        verify_inclusion(*arguments, base64.b64decode(case["root"]))


@pytest.mark.parametrize("name", CONSISTENCY)
def test_published_consistency_proofs(name: str) -> None:
    """Every case of others is accepted or refused as they say."""
    case = CONSISTENCY[name]
    proof = decoded(case["proof"])
    roots = {"old_root": base64.b64decode(case["root1"]), "new_root": base64.b64decode(case["root2"])}
    if case["wantErr"]:
        with pytest.raises(ProofError):
            verify_consistency(case["size1"], case["size2"], proof, **roots)
    else:
        verify_consistency(case["size1"], case["size2"], proof, **roots)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3), (3, 3), (2**64, 5)])
def test_no_inclusion_proof_of_what_is_not_there(index: int, size: int) -> None:
    """A leaf beyond the tree, or before it, is neither proved nor verified."""
    with pytest.raises(ProofError, match="there is no leaf"):
        prove_inclusion(index, size, read_nodes)
    with pytest.raises(ProofError, match="there is no leaf"):
        verify_inclusion(bytes(32), index, size, [], bytes(32))


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 3), (5, 0)])
def test_no_consistency_proof_backwards(old: int, new: int) -> None:
    """A tree does not extend a larger one."""
    with pytest.raises(ProofError, match="does not extend"):
        prove_consistency(old, new, read_nodes)
    with pytest.raises(ProofError, match="does not extend"):
        verify_consistency(old, new, [], old_root=bytes(32), new_root=bytes(32))


def test_every_tree_extends_the_empty_one_without_proof() -> None:
    """From size 0 the proof is empty, the old root that of no leaves, and nothing may be added."""
    assert prove_consistency(0, 5, read_nodes) == prove_consistency(0, 0, read_nodes) == []
    verify_consistency(0, 5, [], old_root=EMPTY_ROOT, new_root=range_hash(0, 5))
    verify_consistency(0, 0, [], old_root=EMPTY_ROOT, new_root=EMPTY_ROOT)
    for old_root, new_root, proof in (
        (range_hash(0, 1), range_hash(0, 5), []),
        (EMPTY_ROOT, range_hash(0, 5), [bytes(32)]),
        (EMPTY_ROOT, b"short", []),
    ):
        with pytest.raises(ProofError):
            verify_consistency(0, 5, proof, old_root=old_root, new_root=new_root)
    with pytest.raises(ProofError):
        verify_consistency(0, 0, [], old_root=EMPTY_ROOT, new_root=range_hash(0, 1))


@given(st.integers(0, 2**50), st.integers(0, 2**20))
def test_perfect_subtrees_cover_their_leaves_in_order(start: int, count: int) -> None:
    """The decomposition is contiguous, aligned and as short as can be: no two neighbours make one subtree."""
    nodes = subtree_nodes(start, start + count)
    at = start
    for height, index in nodes:
        assert index << height == at
        at += 1 << height
    assert at == start + count
    for (height, index), following in pairwise(nodes):
        assert following != (height, index + 1) or index % 2


def test_a_proof_asks_for_its_hashes_once() -> None:
    """Storage is asked one question for a whole proof, however long."""
    questions: list[list[Node]] = []

    def read(nodes: Sequence[Node]) -> list[bytes]:
        questions.append(list(nodes))
        return read_nodes(nodes)

    prove_inclusion(200, 300, read)
    prove_consistency(200, 300, read)
    assert len(questions) == 2
