"""Tiles and bundles: names, widths and bytes as C2SP tlog-tiles has them, folding against the definition."""

import hashlib
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.entries import MAX_ENTRY_BYTES
from ledger.merkle import Node, hash_leaf, prove_consistency, prove_inclusion, subtree_nodes
from ledger.tiles import (
    MAX_LEVEL,
    Tile,
    TileError,
    decode_bundle,
    decode_tile,
    encode_bundle,
    node_hashes,
    parse_path,
    tile_at,
    tiles_for,
    tiles_of,
    width_at,
)

PATHS = [
    (Tile(0, 0), "0/000"),
    (Tile(0, 67), "0/067"),
    (Tile(0, 999), "0/999"),
    (Tile(0, 1_000), "0/x001/000"),
    (Tile(0, 1_234_067), "0/x001/x234/067"),
    (Tile(0, 1_000_000), "0/x001/x000/000"),
    (Tile(0, 273, 112), "0/273.p/112"),
    (Tile(1, 1, 17), "1/001.p/17"),
    (Tile(2, 0, 1), "2/000.p/1"),
    (Tile(63, 0, 255), "63/000.p/255"),
]

REFUSED = [
    "",
    "0",
    "0/",
    "0/0",
    "0/00",
    "0/0000",
    "0/1000",
    "0/x000/001",
    "0/x000/x000/001",
    "0/001/000",
    "0/x001",
    "0/x001/",
    "0/x1/000",
    "0/X001/000",
    "0/-01",
    "0/+01",
    "0/ 01",
    "0/001 ",
    "0/001\n",
    "0/٠٠١",
    "00/001",
    "01/001",
    "64/001",
    "99/001",
    "100/001",
    "-1/001",
    "data/001",
    "Entries/001",
    "0/001.p",
    "0/001.p/",
    "0/001.p/0",
    "0/001.p/01",
    "0/001.p/256",
    "0/001.p/257",
    "0/001.p/999",
    "0/001.p/1000",
    "0/001.p/-1",
    "0/001.P/1",
    "0/001.p/1/",
    "0/001.p/1.p/1",
    "0//001",
    "/0/001",
    "../0/001",
    "0/%30%30%31",
    "0/x001/" + "x000/" * 6 + "000",
    "0/x001/" + "x000/" * 2_000 + "000",
]


@pytest.mark.parametrize(("tile", "path"), PATHS, ids=[path for _, path in PATHS])
def test_path_names_the_tile(tile: Tile, path: str) -> None:
    """The specification's examples and the edges, in both directions."""
    assert tile.path() == path
    assert parse_path(path) == (tile, False)


@pytest.mark.parametrize("index", [0, 273, 1_234_067])
def test_bundle_is_named_beside_the_tile(index: int) -> None:
    """Entries have no level: ``entries`` stands in its place."""
    whole, partial = Tile(0, index), Tile(0, index, 112)
    assert parse_path(whole.path(entries=True)) == (whole, True)
    assert parse_path(partial.path(entries=True)) == (partial, True)
    assert whole.path(entries=True) == whole.path().replace("0/", "entries/", 1)


@pytest.mark.parametrize("path", REFUSED)
def test_other_spellings_name_nothing(path: str) -> None:
    """Each tile has one name, so that a cache holds it once."""
    with pytest.raises(TileError, match="does not name a tile"):
        parse_path(path)


@given(st.integers(0, MAX_LEVEL), st.integers(0, 10**15), st.integers(1, 256), st.booleans())
def test_any_tile_has_its_path(level: int, index: int, width: int, entries: bool) -> None:
    """What is written is read back, whatever the level, index and width."""
    tile = Tile(0 if entries else level, index, width)
    assert parse_path(tile.path(entries=entries)) == (tile, entries)


@given(st.text(alphabet="0123456789x/.pentris", max_size=24))
def test_whatever_is_read_is_written_the_same(path: str) -> None:
    """No second spelling slips through."""
    try:
        tile, entries = parse_path(path)
    except TileError:
        return
    assert tile.path(entries=entries) == path


def test_tree_of_70_000_has_the_tiles_of_the_specification() -> None:
    """273 full tiles and one of 112 at level 0, one full and one of 17 at level 1, one of 1 at level 2."""
    tiles = list(tiles_of(70_000))
    assert [tile for tile in tiles if tile.level == 0] == [*(Tile(0, n) for n in range(273)), Tile(0, 273, 112)]
    assert [tile for tile in tiles if tile.level == 1] == [Tile(1, 0), Tile(1, 1, 17)]
    assert [tile for tile in tiles if tile.level >= 2] == [Tile(2, 0, 1)]


@given(st.integers(0, 2**40), st.integers(0, 6))
def test_partial_width_is_the_formula_of_the_specification(size: int, level: int) -> None:
    """floor(s / 256^l) mod 256 at the right edge, 256 before it, nothing after it."""
    edge = size // 256**level // 256
    assert width_at(level, edge, size) == size // 256**level % 256
    assert width_at(level, edge + 1, size) == 0
    if edge:
        assert width_at(level, edge - 1, size) == 256


def test_no_tile_where_there_is_none() -> None:
    """Empty tiles do not exist, not even in an empty tree."""
    assert list(tiles_of(0)) == []
    for level, index, size in [(0, 0, 0), (0, 1, 256), (1, 0, 255), (2, 0, 65_535)]:
        with pytest.raises(TileError, match="has no tile"):
            tile_at(level, index, size)
    assert tile_at(1, 0, 256) == Tile(1, 0, 1)


# A naive tree of 70,000 leaves: every hash by the definition, straight from the leaves.

SIZE = 70_000
HASHES = [hash_leaf(i.to_bytes(4, "big")) for i in range(SIZE)]


@cache
def naive(start: int, end: int) -> bytes:
    """MTH of the leaves ``start <= i < end`` (RFC 6962 section 2.1)."""
    if end - start == 1:
        return HASHES[start]
    k = 1
    while k * 2 < end - start:
        k *= 2
    return hashlib.sha256(b"\x01" + naive(start, start + k) + naive(start + k, end)).digest()


def naive_tile(tile: Tile) -> list[bytes]:
    """Hash i of tile n at level l is the tree hash of leaves [(256n+i)·256^l, (256n+i+1)·256^l)."""
    span = 256**tile.level
    first = 256 * tile.index
    return [naive((first + i) * span, (first + i + 1) * span) for i in range(tile.width)]


def read_from_tiles(nodes: Sequence[Node], size: int) -> list[bytes]:
    """Hashes of subtrees as a client gets them: it asks for tiles, and folds what came back."""
    return node_hashes(nodes, size, {tile: naive_tile(tile) for tile in tiles_for(nodes, size)})


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_folded_nodes_are_the_tree_hashes(one: int, other: int) -> None:
    """Every perfect subtree of a range of leaves is folded from its tile to the hash of the definition."""
    start, end = sorted((one, other))
    nodes = subtree_nodes(start, end)
    expected = [naive(index << height, (index + 1) << height) for height, index in nodes]
    assert read_from_tiles(nodes, SIZE) == expected


@given(st.integers(1, SIZE), st.data())
def test_proofs_from_tiles_are_the_proofs_of_the_tree(size: int, data: st.DataObject) -> None:
    """Both kinds of proof, in a tree of any size to 70,000, come out of the tiles of that tree."""
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))

    def by_definition(nodes: Sequence[Node]) -> list[bytes]:
        return [naive(i << height, (i + 1) << height) for height, i in nodes]

    def from_tiles(nodes: Sequence[Node]) -> list[bytes]:
        return read_from_tiles(nodes, size)

    assert prove_inclusion(index, size, from_tiles) == prove_inclusion(index, size, by_definition)
    assert prove_consistency(old, size, from_tiles) == prove_consistency(old, size, by_definition)


def test_a_proof_needs_few_tiles() -> None:
    """In a tree of a million leaves an inclusion proof reads at most two tiles of each level, one of them its edge."""
    size = 1_000_000
    nodes: list[Node] = []

    def read(asked: Sequence[Node]) -> list[bytes]:
        nodes.extend(asked)
        return [bytes(32)] * len(asked)

    prove_inclusion(123_456, size, read)
    tiles = tiles_for(nodes, size)
    assert len(tiles) == len(set(tiles)) <= 6


@pytest.mark.parametrize(("node", "size"), [((0, 5), 5), ((1, 2), 5), ((8, 0), 255), ((3, 0), 7), ((16, 1), 70_000)])
def test_no_subtree_beyond_the_tree(node: Node, size: int) -> None:
    """A subtree some of whose leaves are not there has no hash."""
    with pytest.raises(TileError, match="has no"):
        tiles_for([node], size)
    with pytest.raises(TileError, match="has no"):
        node_hashes([node], size, {})


@given(st.integers(1, 256), st.integers(-64, 64))
def test_tile_of_another_length_is_refused(width: int, difference: int) -> None:
    """A tile has 32 bytes for each of its hashes, no more and no fewer."""
    tile = Tile(0, 0, width)
    data = bytes(max(0, 32 * width + difference))
    if len(data) == 32 * width:
        assert b"".join(decode_tile(tile, data)) == data
    else:
        with pytest.raises(TileError, match="bytes, not"):
            decode_tile(tile, data)


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=256))
def test_bundle_gives_back_its_entries(entries: list[bytes]) -> None:
    """Each entry after its length as 16 bits, big-endian; empty ones too."""
    data = encode_bundle(entries)
    assert data == b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    assert decode_bundle(Tile(0, 0, len(entries)), data) == entries


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.data())
def test_truncated_or_extended_bundle_is_refused(entries: list[bytes], data: st.DataObject) -> None:
    """Wherever it is cut off, and with any surplus, a bundle is no bundle."""
    tile = Tile(0, 0, len(entries))
    bundle = encode_bundle(entries)
    with pytest.raises(TileError):
        decode_bundle(tile, bundle[: data.draw(st.integers(0, len(bundle) - 1))])
    with pytest.raises(TileError):
        decode_bundle(tile, bundle + data.draw(st.binary(min_size=1, max_size=4)))
    with pytest.raises(TileError):
        decode_bundle(Tile(0, 0, len(entries) + 1), bundle)


def test_bundle_has_room_for_the_largest_entry() -> None:
    """65,535 bytes fit, one more does not."""
    largest = bytes(MAX_ENTRY_BYTES)
    assert decode_bundle(Tile(0, 0, 1), encode_bundle([largest])) == [largest]
    with pytest.raises(TileError, match="does not fit"):
        encode_bundle([largest + b"\0"])
