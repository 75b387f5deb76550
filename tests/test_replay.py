"""Replaying entries: the tiles it cuts, where it stands, and what it holds."""

import tracemalloc
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import AccountId
from ledger.entries import NO_LAST_DAY, Posting
from ledger.programs import ProgramVersion
from ledger.replay import BrokenEntryError, FullReplay, LightReplay, Position, TileBuilder
from ledger.state import Admission, Parameters
from ledger.tiles import Tile
from tests.naive import naive_root, naive_tiles
from tests.worlds import ORIGIN, World, make_program

ENTRIES = 2_000


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The stored bytes of a ledger's entries."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('replay') / 'ledger.sqlite'}") as world:
        world.add_members(ENTRIES - 1)
        with world.engine.connect() as connection:
            return [bytes(data) for (data,) in connection.execute(sa.text("SELECT data FROM entry ORDER BY seq"))]


@settings(deadline=None)
@given(st.integers(0, 1_500), st.integers(0, 1_500))
def test_tiles_are_those_of_the_definition_from_wherever_one_goes_on(old: int, new: int) -> None:
    """Those that fill on the way, each once; what is left open is what a later builder needs to go on."""
    leaves = [bytes([i % 256, i // 256]) * 16 for i in range(old + new)]
    before = TileBuilder(0, ())
    for leaf in leaves[:old]:
        before.append(leaf)
    builder = TileBuilder(old, before.open_tiles())
    for leaf in leaves[old:]:
        builder.append(leaf)
    found = {(full.tile.level, full.tile.index): (full.hashes, full.root) for full in before.full + builder.full}
    assert found == naive_tiles(leaves)
    assert len(found) == len(before.full) + len(builder.full)
    full = len(leaves) // 256
    roots = [naive_root(leaves[i * 256 : (i + 1) * 256]) for i in range(full)]
    expected = [(Tile(0, full, len(leaves) % 256), b"".join(leaves[full * 256 :])), (Tile(1, 0, full), b"".join(roots))]
    assert builder.partial() == [(tile, hashes) for tile, hashes in expected if tile.width]


@pytest.mark.parametrize("kind", [LightReplay, FullReplay])
def test_replay_goes_on_from_its_position(entries: list[bytes], kind: type[LightReplay]) -> None:
    """Stopped anywhere and started anew, it comes to the same end."""
    whole = kind(ORIGIN, lambda *_: None)
    positions: dict[int, Position] = {}
    for data in entries[:600]:
        if whole.size in {1, 255, 256, 257, 512}:
            positions[whole.size] = whole.position()
        whole.add(data)
    for size, position in positions.items():
        before = kind(ORIGIN, lambda *_: None)
        for data in entries[:size]:
            before.add(data)
        again = kind(ORIGIN, lambda *_: None, position, before.state)
        for data in entries[size:600]:
            again.add(data)
        assert again.position() == whole.position()
        assert again.range.root() == whole.range.root()


def test_both_depths_see_the_same_entries_and_signatures(entries: list[bytes]) -> None:
    """What a light replay leaves out are the rules, not a signature."""
    light_signatures: list[tuple[int, str]] = []
    full_signatures: list[tuple[int, str]] = []
    light = LightReplay(ORIGIN, lambda seq, key, *_: light_signatures.append((seq, key)))
    full = FullReplay(ORIGIN, lambda seq, key, *_: full_signatures.append((seq, key)))
    for data in entries[:300]:
        a, b = light.add(data), full.add(data)
        assert (a.seq, a.leaf_hash, a.op_id, a.kind, a.actor, a.time) == (
            b.seq,
            b.leaf_hash,
            b.op_id,
            b.kind,
            b.actor,
            b.time,
        )
    assert light_signatures == full_signatures
    assert light.position() == full.position()


@pytest.mark.parametrize(
    ("asset", "lot", "policy", "sound"),
    [
        ("STAR", None, "negative", True),
        ("STAR", "2030-01-01", "negative", False),
        ("STAR", None, "cap", False),
        ("STAR", None, "owe", False),
        ("USD", None, "cap", True),
    ],
)
def test_less_than_nothing_is_a_debt_or_money_or_wrong(asset: str, lot: str | None, policy: Any, sound: bool) -> None:
    """Where refunds may leave a debt the undated lot falls below zero; money is owed as a matter of course."""
    replay = FullReplay(ORIGIN, lambda *_: None)
    program = make_program(refunds=policy)
    version = ProgramVersion(asset="STAR", version=1, starts="1997", ends=None, program=program, seq=1)
    replay.state.programs["STAR"] = (version, msgspec.structs.replace(version, version=2, program=make_program()))
    replay.state.parameters = Parameters(
        operator=AccountId("opr_x"), clock_tolerance_ms=0, recovery_delay_ms=0, units={"USD": 100}, log_key="", name=""
    )
    replay.state.add_lot("mem_x", asset, lot or NO_LAST_DAY, -1)
    legs = (
        Posting(account="mem_x", amount=-1, asset=asset, lot=lot),
        Posting(account="sys_spent", amount=1, asset=asset),
    )
    with nullcontext() if sound else pytest.raises(BrokenEntryError, match="mem_x is left with -1"):
        replay._check_balances(Admission(legs))


def peak_bytes(entries: list[bytes], kind: type[LightReplay]) -> int:
    """The most memory a replay of entries held at a time."""
    kind(ORIGIN, lambda *_: None).add(entries[0])  # what is made once, caches among it
    tracemalloc.start()
    try:
        replay = kind(ORIGIN, lambda *_: None)
        for data in entries:
            replay.add(data)
            replay.tiles.take_full()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_a_light_replay_does_not_grow_with_the_chain(entries: list[bytes]) -> None:
    """Four times the entries take no more of it; a full replay keeps the state, and shows that it would be seen."""
    short, long = entries[: ENTRIES // 4], entries
    assert peak_bytes(long, LightReplay) < peak_bytes(short, LightReplay) * 1.2
    assert peak_bytes(long, FullReplay) > peak_bytes(short, FullReplay) * 2
