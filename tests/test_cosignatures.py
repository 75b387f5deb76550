"""Cosignatures as they are stored: which checkpoint is witnessed, and what is kept."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    Checkpoint,
    WitnessPolicy,
    cosign_checkpoint,
    decode_verifier_key,
    decode_witness_key,
    encode_verifier_key,
    encode_witness_key,
    sign_checkpoint,
    verify_witnessed,
)
from ledger.cosignatures import (
    Cosignatures,
    StoredCosignature,
    forget_cosignatures,
    keep_cosignature,
    read_cosignatures,
    stored_cosignatures,
)
from ledger.store import Store
from tests.naive import naive_root
from tests.worlds import World

ORIGIN = "ledger.example/test"
LOG = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
NEXT_LOG = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
LOG_KEY = decode_verifier_key(encode_verifier_key(ORIGIN, LOG))
SECRETS = [Ed25519PrivateKey.from_private_bytes(bytes([10 + i]) * 32) for i in range(4)]
NAMES = [f"witness.example/w{i}" for i in range(4)]
WITNESSES = tuple(decode_witness_key(encode_witness_key(name, key)) for name, key in zip(NAMES, SECRETS, strict=True))


def note_of(size: int, history: bytes = b"") -> str:
    return sign_checkpoint(Checkpoint(origin=ORIGIN, size=size, root=naive_root([history, bytes([size])])), LOG)


def said(number: int, size: int, *, time_s: int = 1_795_000_000, note: str | None = None) -> StoredCosignature:
    """The line of a witness on the checkpoint of a size."""
    note = note or note_of(size)
    return StoredCosignature(
        size=size,
        witness=NAMES[number],
        timestamp_s=time_s,
        line=cosign_checkpoint(note, SECRETS[number], NAMES[number], time_s),
        checkpoint=note,
    )


def policy(threshold: int, *numbers: int) -> WitnessPolicy:
    return WitnessPolicy(log_keys=(LOG_KEY,), witnesses=tuple(WITNESSES[i] for i in numbers), threshold=threshold)


LINES = [[said(number, size) for size in range(1, 9)] for number in range(4)]
SAID = st.sets(st.tuples(st.integers(0, 3), st.integers(1, 8)))
"""Which witnesses have cosigned which sizes; witness 3 is one that the policies do not know."""


@given(SAID, st.integers(1, 3))
def test_largest_checkpoint_with_a_quorum_is_witnessed(pairs: set[tuple[int, int]], threshold: int) -> None:
    """Of all sizes the largest that enough known witnesses have cosigned; what is served satisfies a client."""
    known = Cosignatures(policy(threshold, 0, 1, 2), [LINES[number][size - 1] for number, size in pairs])
    reached = [size for size in range(1, 9) if sum((number, size) in pairs for number in (0, 1, 2)) >= threshold]
    found = known.witnessed()
    if not reached:
        assert found is None
        return
    assert found is not None
    assert found.size == max(reached)
    client = verify_witnessed(found.note, policy(threshold, 0, 1, 2), ORIGIN)
    assert client.checkpoint == Checkpoint(origin=ORIGIN, size=found.size, root=found.root)
    present = [NAMES[number] for number in (0, 1, 2) if (number, found.size) in pairs]
    assert [cosignature.witness for cosignature in client.cosignatures] == present
    assert [row.witness for row in found.cosignatures] == present


@given(SAID)
def test_last_word_of_a_witness_is_on_the_largest_checkpoint(pairs: set[tuple[int, int]]) -> None:
    known = Cosignatures(policy(1, 2, 0, 1), [LINES[number][size - 1] for number, size in pairs])
    for number in range(3):
        sizes = [size for other, size in pairs if other == number]
        newest = known.newest(WITNESSES[number])
        assert (newest.size if newest is not None else None) == max(sizes, default=None)
    assert known.newest(WITNESSES[3]) is None


def test_lines_stand_in_the_order_of_the_policy() -> None:
    """However they arrived, so that the same bytes are served each time."""
    rows = [said(2, 5), said(0, 5), said(1, 5)]
    for order in ((0, 1, 2), (2, 0, 1)):
        found = Cosignatures(policy(3, *order), rows).witnessed()
        assert found is not None
        assert [row.witness for row in found.cosignatures] == [NAMES[number] for number in order]
        assert found.note == note_of(5) + "".join(said(number, 5).line for number in order)


def test_a_new_key_under_an_old_name_has_said_nothing() -> None:
    """A witness is its key: what its predecessor cosigned counts no more."""
    successor = decode_witness_key(encode_witness_key(NAMES[0], SECRETS[3]))
    wanted = WitnessPolicy(log_keys=(LOG_KEY,), witnesses=(successor,), threshold=1)
    known = Cosignatures(wanted, [said(0, 5)])
    assert (known.witnessed(), known.newest(successor)) == (None, None)
    assert known.on(note_of(5)).note == note_of(5)


def test_lines_on_another_root_do_not_count_together() -> None:
    """Two lines on one size make no quorum when the trees differ."""
    other = note_of(5, b"other")
    known = Cosignatures(policy(2, 0, 1), [said(0, 5), said(1, 5, note=other)])
    assert known.witnessed() is None
    assert [row.witness for row in known.on(other).cosignatures] == [NAMES[1]]
    assert known.on(note_of(5)).note == note_of(5) + said(0, 5).line


def test_lines_are_on_the_text_whoever_signed_it() -> None:
    """While the log's key is replaced, two notes may carry one text; a witness's line is good on both."""
    checkpoint = Checkpoint(origin=ORIGIN, size=5, root=naive_root([b"", bytes([5])]))
    again = sign_checkpoint(checkpoint, NEXT_LOG)
    known = Cosignatures(policy(1, 0), [said(0, 5)])
    assert known.on(again).note == again + said(0, 5).line


def test_without_witnesses_nothing_is_witnessed_and_nothing_read(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, world.store.read() as connection:
        statements: list[str] = []
        sa.event.listen(world.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        known = read_cosignatures(world.store, connection, WitnessPolicy(log_keys=()))
        assert (known.witnessed(), statements) == (None, [])
        assert known.on(note_of(5)).note == note_of(5)


# In the database


def store_all(store: Store, *rows: StoredCosignature) -> None:
    with store.write() as transaction:
        for row in rows:
            keep_cosignature(transaction, row)


def stored(store: Store) -> list[StoredCosignature]:
    with store.read() as connection:
        return stored_cosignatures(store, connection)


def test_what_is_stored_is_read_again(world: World) -> None:
    """The largest checkpoint first; of a ledger's own rows alone, with times as far as a note can state them."""
    rows = [said(1, 3, time_s=2**63 - 1), said(0, 7), said(0, 3)]
    store_all(world.store, *rows)
    with World(world.url, origin="ledger.example/second", seed=1) as second:
        assert stored(second.store) == []
        store_all(second.store, said(2, 3))
        assert stored(second.store) == [said(2, 3)]
    assert stored(world.store) == [rows[1], rows[2], rows[0]]


def test_later_line_on_the_same_checkpoint_takes_the_place_of_the_earlier(world: World) -> None:
    store_all(world.store, said(0, 3), said(1, 3), said(0, 3, time_s=1_795_000_060))
    assert stored(world.store) == [said(0, 3, time_s=1_795_000_060), said(1, 3)]


@pytest.fixture(scope="module")
def module_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(f"sqlite:///{tmp_path_factory.mktemp('cosignatures') / 'ledger.sqlite'}") as world:
        yield world


def forget_all_but(store: Store, pairs: set[tuple[int, int]], kept: set[int]) -> list[StoredCosignature]:
    with store.write() as transaction:
        transaction.connection.execute(sa.text("DELETE FROM cosignature"))
        for number, size in pairs:
            keep_cosignature(transaction, LINES[number][size - 1])
        forget_cosignatures(transaction, but=sorted(kept))
    return stored(store)


@given(SAID, st.sets(st.integers(1, 8), max_size=3))
def test_forgetting_keeps_what_is_named_and_last_words(
    module_world: World, pairs: set[tuple[int, int]], kept: set[int]
) -> None:
    """Nothing else is left: however long a quorum is not reached, the table has a few rows for each witness."""
    left = {(NAMES.index(row.witness), row.size) for row in forget_all_but(module_world.store, pairs, kept)}
    ordered = sorted(pairs)
    newest = {max(said_by) for _, said_by in groupby(ordered, key=lambda pair: pair[0])}
    assert left == {pair for pair in pairs if pair in newest or pair[1] in kept}


def test_forgetting_is_the_same_on_both_databases(world: World) -> None:
    """And leaves other ledgers' rows alone."""
    with World(world.url, origin="ledger.example/second", seed=1) as second:
        store_all(second.store, said(0, 1), said(0, 2))
        store_all(world.store, *(said(number, size) for number in (0, 1) for size in (2, 4, 6)), said(2, 1))
        with world.store.write() as transaction:
            forget_cosignatures(transaction, but=[4])
        assert [(row.size, row.witness) for row in stored(world.store)] == [
            (6, NAMES[0]),
            (6, NAMES[1]),
            (4, NAMES[0]),
            (4, NAMES[1]),
            (1, NAMES[2]),
        ]
        assert len(stored(second.store)) == 2
