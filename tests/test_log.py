"""Tiles, bundles and proofs as they are read from the database, against the definitions of RFC 6962 and tlog-tiles."""

import hashlib
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from ledger import log
from ledger.bulk import insert_rows
from ledger.checkpoint import decode_verifier_key, verify_checkpoint
from ledger.encoding import LeafHash
from ledger.merkle import ProofError, hash_leaf, verify_consistency, verify_inclusion
from ledger.sequencer import _full_tiles
from ledger.store import (
    CorruptionError,
    HeadState,
    Store,
)
from ledger.tables import (
    ENTRY,
    HEAD,
    TILE,
)
from ledger.tiles import Tile, tiles_of
from tests.naive import naive_root
from tests.worlds import START, World

SIZE = 70_000
DATA = [b"entry %d" % i for i in range(SIZE)]
LEAVES = [hash_leaf(data) for data in DATA]


@cache
def naive(start: int, end: int) -> bytes:
    """MTH of the leaves ``start <= i < end`` (RFC 6962 section 2.1)."""
    if end - start == 1:
        return LEAVES[start]
    k = 1
    while k * 2 < end - start:
        k *= 2
    return hashlib.sha256(b"\x01" + naive(start, start + k) + naive(start + k, end)).digest()


@pytest.fixture
def store(world: World) -> Store:
    """A ledger beside the world's whose 70,000 entries mean nothing: hashes do not ask what they are of."""
    store = Store(world.engine, "ledger.example/large")
    store.use_ledger_id(2)
    head = HeadState(
        ledger_id=2,
        origin=store.origin,
        size=SIZE,
        last_leaf_hash=LeafHash(LEAVES[-1]),
        last_time=START,
        compact_range=b"",
        checkpoint="",
    )
    rows = [
        (seq, LEAVES[seq], hashlib.sha256(data).digest(), "transfer", None, START, data)
        for seq, data in enumerate(DATA)
    ]
    with store.write() as transaction:
        store.create_ledger(transaction.connection, head)
        insert_rows(transaction.connection, ENTRY, 2, rows)
        tiles = _full_tiles(store, transaction.connection, 0, [LeafHash(leaf) for leaf in LEAVES])
        insert_rows(transaction.connection, TILE, 2, tiles)
    return store


def naive_tile(tile: Tile) -> list[bytes]:
    """Hash i of tile n at level l is the tree hash of leaves [(256n+i)·256^l, (256n+i+1)·256^l)."""
    span, first = 256**tile.level, 256 * tile.index
    return [naive((first + i) * span, (first + i + 1) * span) for i in range(tile.width)]


def statements(connection: Connection, question: object) -> int:
    """How many statements a question took."""
    seen: list[str] = []

    def count(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    event.listen(connection, "before_cursor_execute", count)
    try:
        question()  # type: ignore[operator]
    finally:
        event.remove(connection, "before_cursor_execute", count)
    return len(seen)


def test_tiles_bundles_and_proofs_of_70_000_entries(store: Store) -> None:
    """Everything a client can ask of a large log is what the definitions say, full or partial, new or old."""
    with store.read() as connection:
        tiles = [*tiles_of(SIZE), Tile(0, 0, 1), Tile(0, 3, 255), Tile(1, 0, 7), Tile(1, 1, 16)]
        found = log.read_tiles(store, connection, tiles)
        assert found == {tile: naive_tile(tile) for tile in tiles}
        for tile in (Tile(0, 0), Tile(0, 272), Tile(0, 273, 112), Tile(0, 5, 1)):
            first = 256 * tile.index
            assert log.read_bundle(store, connection, tile) == DATA[first : first + tile.width]
        sizes = [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 69_888, 69_999, SIZE]
        for size in sizes:
            assert log.root_at(store, connection, size) == naive(0, size)
            for seq in {0, size // 3, size - 1}:
                proof = log.prove_inclusion(store, connection, seq, size)
                verify_inclusion(LEAVES[seq], seq, size, proof, naive(0, size))
        for old, new in [*pairwise(sizes), (1, SIZE), (300, SIZE), (SIZE, SIZE)]:
            proof = log.prove_consistency(store, connection, old, new)
            verify_consistency(old, new, proof, old_root=naive(0, old), new_root=naive(0, new))
        asked = statements(connection, lambda: log.prove_inclusion(store, connection, 12_345, SIZE))
        assert asked <= 6  # the head, the full tiles, and one for each level's edge
        assert statements(connection, lambda: log.read_tiles(store, connection, [Tile(0, n) for n in range(273)])) == 1


def test_full_tiles_are_found_by_their_key(tmp_path: Path) -> None:
    """No tile but those asked for is looked at, on any level: SQLite's plan says level and index."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, world.engine.connect() as connection:
        for tiles in ([Tile(0, 5)], [Tile(0, 5), Tile(0, 999), Tile(1, 3), Tile(1, 7), Tile(2, 0)]):
            query = log.tiles_query(world.store, tiles).compile(connection, compile_kwargs={"literal_binds": True})
            plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
            searches = [step for step in plan if "tile" in step]
            assert searches
            assert all("(ledger_id=? AND level=? AND index=?)" in step for step in searches), plan


def test_proofs_lead_to_the_signed_checkpoint(world: World) -> None:
    """At every size a real ledger had, each entry is proven in what was signed then."""
    shop = world.add_merchant()
    world.add_asset(shop, "STAR")
    notes = {}
    for _ in range(4):
        world.add_member()
        with world.store.read() as connection:
            head = world.store.head(connection)
        notes[head.size] = head.checkpoint
    key = decode_verifier_key(log_key_of(world))
    with world.store.read() as connection:
        leaves = world.store.leaf_hashes(connection, 0, max(notes))
        for size, note in notes.items():
            root = verify_checkpoint(note, key, world.origin).root
            assert log.root_at(world.store, connection, size) == root == naive_root(leaves[:size])
            for seq in range(size):
                proof = log.prove_inclusion(world.store, connection, seq, size)
                verify_inclusion(leaves[seq], seq, size, proof, root)


def log_key_of(world: World) -> str:
    op = world.genesis.data.decode()
    return op.partition('"log_key":"')[2].partition('"')[0]


@pytest.mark.parametrize(("seq", "size"), [(0, 2), (1, 1), (-1, 1), (0, 0), (2**62, 2**63)])
def test_no_proof_beyond_the_head(world: World, seq: int, size: int) -> None:
    """The genesis ledger has one entry: there is no tree of two, and no leaf but the first."""
    with world.store.read() as connection, pytest.raises(ProofError):
        log.prove_inclusion(world.store, connection, seq, size)
    with world.store.read() as connection:
        assert log.prove_inclusion(world.store, connection, 0, 1) == []


@pytest.mark.parametrize(("old", "new"), [(0, 2), (1, 2), (1, 0), (-1, 1), (0, 2**63)])
def test_no_consistency_beyond_the_head(world: World, old: int, new: int) -> None:
    """Neither to a size the ledger does not have, nor backwards."""
    with world.store.read() as connection, pytest.raises(ProofError):
        log.prove_consistency(world.store, connection, old, new)


def test_what_is_missing_is_corruption(world: World) -> None:
    """A tile or entry that must be there and is not is never served as if it were shorter."""
    store = world.store
    with store.read() as connection:
        for tile in (Tile(0, 0), Tile(0, 0, 2), Tile(1, 0, 1)):
            with pytest.raises(CorruptionError, match="missing"):
                log.read_tiles(store, connection, [tile])
        with pytest.raises(CorruptionError, match="missing"):
            log.read_bundle(store, connection, Tile(0, 0, 2))
    with store.write() as transaction:
        insert_rows(transaction.connection, TILE, store.ledger_id, [(0, 0, bytes(8191), bytes(32))])
    with store.read() as connection, pytest.raises(CorruptionError, match="8191 bytes"):
        log.read_tiles(store, connection, [Tile(0, 0)])


def test_ledgers_do_not_mix(world: World) -> None:
    """Another ledger of the same database has tiles and proofs of its own."""
    with World(world.url, origin="ledger.example/second", seed=2) as second:
        second.add_member()
        for each in (world, second):
            with each.store.read() as connection:
                head = each.store.head(connection)
                (leaf, *_) = each.store.leaf_hashes(connection, 0, head.size)
                assert log.read_tiles(each.store, connection, [Tile(0, 0, 1)]) == {Tile(0, 0, 1): [leaf]}
                assert len(log.read_bundle(each.store, connection, Tile(0, 0, head.size))) == head.size
        with world.engine.connect() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(HEAD)).scalar() == 2
