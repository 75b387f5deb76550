"""The log as it is stored: tiles, bundles of entries, and proofs, read without computing any part of the tree anew.

A full tile is a row of ``tile``. A partial one is the leaf hashes of its entries or, above level 0, the roots kept with
the full tiles below it. So a tile costs one statement, and a proof a handful, however long the chain is; for any size
up to the head's, not only the newest.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger import merkle
from ledger.merkle import HASH_SIZE, TILE_WIDTH, Node, ProofError, ReadNodes
from ledger.store import (
    CorruptionError,
    Store,
)
from ledger.tables import (
    ENTRY,
    TILE,
)
from ledger.tiles import Tile, decode_tile, node_hashes, tiles_for

_MAX_TILES = 1_000
"""Tiles named in one statement: a parameter each, and SQLite takes 32,766."""


def read_tiles(store: Store, connection: Connection, tiles: Sequence[Tile]) -> dict[Tile, list[bytes]]:
    """The hashes of tiles, all of which must be there; raise :class:`CorruptionError` for one that is not."""
    found = _full_tiles(store, connection, [tile for tile in tiles if tile.width == TILE_WIDTH])
    for tile in tiles:
        if tile.width < TILE_WIDTH:
            first = tile.index * TILE_WIDTH
            if tile.level == 0:
                found[tile] = store.leaf_hashes(connection, first, first + tile.width)
            else:
                found[tile] = store.tile_roots(connection, tile.level - 1, first, first + tile.width)
    return found


def _full_tiles(store: Store, connection: Connection, tiles: Sequence[Tile]) -> dict[Tile, list[bytes]]:
    found = {}
    for i in range(0, len(tiles), _MAX_TILES):
        for level, index, hashes in connection.execute(tiles_query(store, tiles[i : i + _MAX_TILES])):
            if len(hashes) != TILE_WIDTH * HASH_SIZE:
                raise CorruptionError(f"tile {level}/{index} has {len(hashes)} bytes")
            tile = Tile(level, index)
            found[tile] = decode_tile(tile, bytes(hashes))
    for tile in tiles:
        if tile not in found:
            raise CorruptionError(f"tile {tile.path()} is missing")
    return found


def tiles_query(store: Store, tiles: Sequence[Tile]) -> sa.CompoundSelect[int, int, bytes]:
    """The statement that reads full tiles by their primary key.

    Asked for pairs of level and index at once, SQLite goes through all tiles of the ledger; within a level it does not.
    """
    indexes: dict[int, list[int]] = {}
    for tile in tiles:
        indexes.setdefault(tile.level, []).append(tile.index)
    return sa.union_all(
        *(
            sa.select(TILE.c.level, TILE.c.index, TILE.c.hashes).where(
                TILE.c.ledger_id == store.ledger_id, TILE.c.level == level, TILE.c.index.in_(there)
            )
            for level, there in indexes.items()
        )
    )


def read_bundle(store: Store, connection: Connection, tile: Tile) -> list[bytes]:
    """The stored bytes of the entries beside a tile of level 0, all of which must be there."""
    first = tile.index * TILE_WIDTH
    query = (
        sa.select(ENTRY.c.data)
        .where(ENTRY.c.ledger_id == store.ledger_id, ENTRY.c.seq >= first, ENTRY.c.seq < first + tile.width)
        .order_by(ENTRY.c.seq)
    )
    entries = [bytes(data) for data in connection.execute(query).scalars()]
    if len(entries) != tile.width:
        raise CorruptionError(f"entries are missing between {first} and {first + tile.width}")
    return entries


def prove_inclusion(store: Store, connection: Connection, seq: int, size: int) -> list[bytes]:
    """The proof that an entry is in the tree of the first ``size`` entries; :class:`ProofError` when it cannot be."""
    _check_size(store, connection, size)
    return merkle.prove_inclusion(seq, size, _reader(store, connection, size))


def prove_consistency(store: Store, connection: Connection, old_size: int, new_size: int) -> list[bytes]:
    """The proof that the first ``new_size`` entries begin with the first ``old_size``; :class:`ProofError` if none."""
    _check_size(store, connection, new_size)
    return merkle.prove_consistency(old_size, new_size, _reader(store, connection, new_size))


def root_at(store: Store, connection: Connection, size: int) -> bytes:
    """The root of the tree of the first ``size`` entries; raise :class:`ProofError` when there are not as many."""
    _check_size(store, connection, size)
    nodes = merkle.subtree_nodes(0, size)
    return merkle.CompactRange(size, _reader(store, connection, size)(nodes)).root()


def _check_size(store: Store, connection: Connection, size: int) -> None:
    newest = store.head(connection).size
    if not 0 <= size <= newest:
        raise ProofError(f"there is no tree of {size} entries: the ledger has {newest}")


def _reader(store: Store, connection: Connection, size: int) -> ReadNodes:
    """Reads perfect subtrees from the tiles of the tree of ``size`` entries."""

    def read(nodes: Sequence[Node]) -> list[bytes]:
        tiles = tiles_for(nodes, size)
        return node_hashes(nodes, size, read_tiles(store, connection, tiles))

    return read
