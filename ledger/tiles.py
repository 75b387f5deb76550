"""Tiles and entry bundles: how a log is published as plain files (C2SP tlog-tiles).

Names below the log's prefix, for tile 1234067 of level 0, the first 112 hashes of tile 273, and the entries beside::

    checkpoint
    tile/0/x001/x234/067
    tile/0/273.p/112
    tile/entries/273.p/112

A tile of level L and index N holds up to 256 hashes; hash i is the root over the leaves
``[(256N + i) * 256**L, (256N + i + 1) * 256**L)``. A bundle holds the entries of a level-0 tile, each after its length
as 16 bits. A full tile never changes again, which is why it can be cached for ever; a partial one of a width never does
either, it is only superseded.

Proofs name perfect subtrees (:data:`ledger.merkle.Node`). Every one of them lies inside one tile, so a proof is made
by fetching a few tiles: :func:`tiles_for` says which, :func:`node_hashes` folds what came back.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from ledger.entries import MAX_ENTRY_BYTES
from ledger.merkle import HASH_SIZE, TILE_WIDTH, Node, subtree_root

TILE_HEIGHT = 8
MAX_LEVEL = 63

# Seven groups hold 63 bits; more would only be work for whoever reads the number.
_INDEX = r"(?:x[0-9]{3}/){0,6}[0-9]{3}"
_PATH = re.compile(rf"(?P<level>entries|0|[1-9][0-9]?)/(?P<index>{_INDEX})(?:\.p/(?P<width>[1-9][0-9]{{0,2}}))?")


class TileError(ValueError):
    """A tile's name or bytes that are not what tlog-tiles says."""


class Tile(Struct, frozen=True, order=True):
    """Which tile, and how many of its hashes: 256 when full. Level and index count from 0."""

    level: int
    index: int
    width: int = TILE_WIDTH

    def path(self, *, entries: bool = False) -> str:
        """The name below ``tile/``."""
        level = "entries" if entries else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{level}/{_encode_index(self.index)}{partial}"


def _encode_index(index: int) -> str:
    groups = []
    rest = index
    while True:
        rest, group = divmod(rest, 1000)
        groups.append(f"{group:03d}")
        if not rest:
            break
    return "/".join([f"x{group}" for group in groups[:0:-1]] + groups[:1])


def parse_path(path: str) -> tuple[Tile, bool]:
    """Read a name below ``tile/``: the tile, and whether it is a bundle of entries. One spelling only."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise TileError(f"{path!r} does not name a tile")
    entries = match["level"] == "entries"
    index = int(match["index"].replace("x", "").replace("/", ""))
    width = int(match["width"]) if match["width"] else TILE_WIDTH
    tile = Tile(0 if entries else int(match["level"]), index, width)
    if tile.level > MAX_LEVEL or (match["width"] and width >= TILE_WIDTH) or tile.path(entries=entries) != path:
        raise TileError(f"{path!r} does not name a tile")
    return tile, entries


def width_at(level: int, index: int, size: int) -> int:
    """How many hashes a tile has in a tree of ``size`` leaves: 0 when it is not there yet, at most 256."""
    hashes = size >> (TILE_HEIGHT * level)
    return max(0, min(TILE_WIDTH, hashes - index * TILE_WIDTH))


def tile_at(level: int, index: int, size: int) -> Tile:
    """A tile as wide as it is in a tree of ``size`` leaves; raise :class:`TileError` when it is not there."""
    width = width_at(level, index, size)
    if width == 0:
        raise TileError(f"a tree of {size} leaves has no tile {level}/{index}")
    return Tile(level, index, width)


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of a tree of ``size`` leaves, lowest level first; only the last of each level may be partial."""
    level = 0
    while size >> (TILE_HEIGHT * level):
        hashes = size >> (TILE_HEIGHT * level)
        for index in range(-(-hashes // TILE_WIDTH)):
            yield tile_at(level, index, size)
        level += 1


def tiles_for(nodes: Iterable[Node], size: int) -> list[Tile]:
    """The tiles that hold these subtrees in a tree of ``size`` leaves, each once."""
    return sorted({_tile_of(node, size)[0] for node in nodes})


def _tile_of(node: Node, size: int) -> tuple[Tile, slice]:
    """The tile a subtree lies in, and which of its hashes the subtree covers."""
    height, index = node
    level, inside = divmod(height, TILE_HEIGHT)
    tile_index, first = divmod(index << inside, TILE_WIDTH)
    end = first + (1 << inside)
    tile = tile_at(level, tile_index, size)
    if end > tile.width:
        raise TileError(f"a tree of {size} leaves has no subtree {height}/{index}")
    return tile, slice(first, end)


def node_hashes(nodes: Sequence[Node], size: int, tiles: Mapping[Tile, Sequence[bytes]]) -> list[bytes]:
    """Hashes of subtrees, folded from the tiles :func:`tiles_for` named."""
    hashes = []
    for node in nodes:
        tile, part = _tile_of(node, size)
        hashes.append(subtree_root(tiles[tile][part]))
    return hashes


def decode_tile(tile: Tile, data: bytes) -> list[bytes]:
    """The hashes of a tile; raise :class:`TileError` when there are not as many as it should have."""
    if len(data) != tile.width * HASH_SIZE:
        raise TileError(f"tile {tile.path()} has {len(data)} bytes, not {tile.width * HASH_SIZE}")
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Entries one after the other, each after its length as a big-endian 16-bit number."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise TileError(f"an entry of {len(entry)} bytes does not fit a bundle")
        parts += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(parts)


def decode_bundle(tile: Tile, data: bytes) -> list[bytes]:
    """The entries of a bundle; raise :class:`TileError` when it is cut off or has not as many as it should."""
    entries = []
    position = 0
    while position < len(data):
        end = position + 2 + int.from_bytes(data[position : position + 2], "big")
        if position + 2 > len(data) or end > len(data):
            raise TileError(f"bundle {tile.path(entries=True)} is cut off")
        entries.append(data[position + 2 : end])
        position = end
    if len(entries) != tile.width:
        raise TileError(f"bundle {tile.path(entries=True)} has {len(entries)} entries, not {tile.width}")
    return entries
