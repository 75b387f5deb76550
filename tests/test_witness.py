"""A witness: what it cosigns and what it refuses, over HTTP, in races, and after being killed.

The naive client and log are in :mod:`tests.witnesses`.
"""

import asyncio
import base64
import itertools
import logging
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from typer.testing import CliRunner

from api import witness_client
from api.cli import app as guerdon
from api.witness import MAX_BODY_BYTES
from api.witness_client import WitnessConflictError, WitnessRefusedError, ask_witness
from ledger.checkpoint import (
    CheckpointError,
    Cosignature,
    WitnessPolicy,
    cosign_checkpoint,
    decode_verifier_key,
    decode_witness_key,
    encode_verifier_key,
    encode_witness_key,
    verify_checkpoint,
    verify_witnessed,
)
from ledger.keyring import save_private_key
from ledger.merkle import Node, hash_leaf, prove_consistency, subtree_root
from ledger.store import CorruptionError, StoreError, UnavailableError
from ledger.witness import NOTHING, Answer, Cosigned, Witness, WitnessState, decode_request, encode_request
from tests.witnesses import (
    LIMIT_S,
    LOG_KEY,
    LOG_VKEY,
    NAME,
    NOW_S,
    ORIGIN,
    ROOT,
    WITNESS_KEY,
    Client,
    HeldState,
    check_cosignature,
    checkpoint_text,
    consistency_proof,
    entries,
    growth,
    held_process,
    key_id,
    make_witness,
    note_of,
    request,
    running_app,
    served,
    sign_note,
    tree_hash,
    verifier_key,
)
from tests.worlds import World

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(50, 82)))
OTHER_VKEY = verifier_key(ORIGIN, 0x01, OTHER_KEY.public_key())
EMPTY = tree_hash([])


@pytest.fixture
def state(tmp_path: Path) -> Iterator[WitnessState]:
    state = WitnessState(tmp_path / "witness.sqlite")
    yield state
    state.close()


@pytest.fixture
def client(state: WitnessState) -> Iterator[Client]:
    with served(make_witness(state)) as client:
        yield client


# What is cosigned


def test_growth_is_cosigned(client: Client, state: WitnessState) -> None:
    """From nothing to 5 entries, again at 5, on to 9: each with a cosignature that states the clock's seconds."""
    for old, size in ((0, 5), (5, 5), (5, 9)):
        assert client.cosigned(growth(old, size)) == NOW_S
        assert state.last(ORIGIN) == Cosigned(size=size, root=tree_hash(entries(size)), note=note_of(entries(size)))


def test_growth_between_any_two_sizes_is_cosigned(tmp_path: Path) -> None:
    """Every pair of sizes to 12, each from a state of its own, the empty tree included."""
    for old in range(13):
        for size in range(old, 13):
            state = WitnessState(tmp_path / f"{old}-{size}.sqlite")
            witness = make_witness(state)
            for body in (growth(0, old), growth(old, size)):
                answer = witness.add_checkpoint(body)
                assert answer.status == 200
                check_cosignature(answer.body, body)
            state.close()


def subtrees(hashes: Sequence[bytes], nodes: Sequence[Node]) -> list[bytes]:
    return [subtree_root(hashes[index << height : (index + 1) << height]) for height, index in nodes]


def test_checkpoints_of_a_real_ledger_are_cosigned(tmp_path: Path) -> None:
    """A ledger that grows by 1 to 40 entries at a time: its own notes, and proofs of both kinds of making."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        log = encode_verifier_key(world.origin, world.log_key)
        state = WitnessState(tmp_path / "witness.sqlite")
        with served(make_witness(state, logs=[log])) as client:
            size = 0
            for step in (1, 1, 2, 3, 8, 17, 40, 1, 5, 31):
                world.add_members(step)
                with world.store.read() as connection:
                    head = world.store.head(connection)
                    data = world.store.entry_data(connection, range(head.size))
                leaves = [data[seq] for seq in range(head.size)]
                hashes = [hash_leaf(leaf) for leaf in leaves]
                proof = prove_consistency(size, head.size, partial(subtrees, hashes))
                assert proof == consistency_proof(size, leaves)
                body = encode_request(size, proof, head.checkpoint)
                assert body == request(size, proof, head.checkpoint)
                assert decode_request(body).checkpoint == verify_checkpoint(
                    head.checkpoint, decode_verifier_key(log), world.origin
                )
                client.cosigned(body)
                size = head.size
        state.close()


def test_empty_tree_is_cosigned(client: Client) -> None:
    """A log may come before its first entry, and go on from there."""
    client.cosigned(growth(0, 0))
    client.cosigned(growth(0, 0))
    client.cosigned(growth(0, 3))


def test_logs_are_kept_apart(tmp_path: Path) -> None:
    """Each log has its own state, and any of a log's keys will do for it, but none of another's."""
    state = WitnessState(tmp_path / "witness.sqlite")
    second = "ledger.example/second"
    logs = [LOG_VKEY, OTHER_VKEY, verifier_key(second, 0x01, OTHER_KEY.public_key())]
    root = tree_hash(entries(4))
    with served(make_witness(state, logs=logs)) as client:
        client.cosigned(growth(0, 7))
        client.cosigned(request(0, [], sign_note(checkpoint_text(4, root, second), second, OTHER_KEY)))
        leaves = entries(9)
        proof = consistency_proof(7, leaves)
        client.cosigned(request(7, proof, sign_note(checkpoint_text(9, tree_hash(leaves)), key=OTHER_KEY)))
        assert client.send(request(4, [], sign_note(checkpoint_text(4, root, second), ORIGIN, OTHER_KEY))).status == 403
        assert client.send(request(4, [], sign_note(checkpoint_text(4, root, second), second, LOG_KEY))).status == 403
    assert (state.last(ORIGIN).size, state.last(second).size) == (9, 4)
    state.close()


def test_prefix_is_part_of_the_path(state: WitnessState) -> None:
    with served(make_witness(state), "/w1/submit") as client:
        client.cosigned(growth(0, 1))
        assert client.send(growth(1, 1), path="/add-checkpoint").status == 404


def test_unknown_signatures_beside_the_logs_are_ignored(client: Client) -> None:
    """Also a cosignature of the witness itself, which the log got before."""
    body = growth(0, 3)
    line = client.send(body).body
    client.cosigned(body.replace(b"old 0", b"old 3") + line.encode() + b"\xe2\x80\x94 stranger AAAAAAAAAAAA\n")


# What is refused


@pytest.mark.parametrize("old", [0, 1, 4, 6])
def test_other_old_size_is_answered_with_the_size_cosigned_last(client: Client, old: int) -> None:
    """409, whose body and type a log can rely on to try again."""
    client.cosigned(growth(0, 5))
    reply = client.send(growth(old, 8))
    assert reply == (409, "text/x.tlog.size", "5\n")
    client.cosigned(growth(int(reply.body), 8))


def test_rollback_is_refused(client: Client, state: WitnessState) -> None:
    """A smaller tree is never cosigned, whatever old size it comes with, and the state stays."""
    client.cosigned(growth(0, 9))
    for old in range(9):
        assert client.send(growth(old, 8)) == (409, "text/x.tlog.size", "9\n")
    leaves = entries(8)
    assert client.send(request(9, [], note_of(leaves))).status == 400
    assert client.send(request(9, [tree_hash(leaves)], note_of(leaves))).status == 400
    assert state.last(ORIGIN).size == 9


def test_split_view_is_caught(client: Client, state: WitnessState, caplog: pytest.LogCaptureFixture) -> None:
    """Two histories of one size: the second is refused, and both notes the log signed are kept as evidence."""
    client.cosigned(growth(0, 6, "as shown to Ada"))
    body = growth(0, 6, "as shown to Ben")
    assert client.send(body).status == 409
    with caplog.at_level(logging.ERROR, "guerdon.witness"):
        reply = client.send(body.replace(b"old 0", b"old 6"))
    assert reply.status == 422
    assert "another root" in reply.body
    assert note_of(entries(6, "as shown to Ada")) in caplog.text
    assert note_of(entries(6, "as shown to Ben")) in caplog.text
    assert state.last(ORIGIN).note == note_of(entries(6, "as shown to Ada"))


@pytest.mark.parametrize("size", [7, 8, 12, 100])
def test_fork_is_refused(client: Client, state: WitnessState, size: int) -> None:
    """A larger tree of another history, with the proof from its own past, from ours, or none."""
    client.cosigned(growth(0, 6, "ours"))
    other = entries(size, "theirs")
    ours = entries(size, "ours")
    for proof in (consistency_proof(6, other), consistency_proof(6, ours), []):
        assert client.send(request(6, proof, note_of(other))).status == 422
    assert state.last(ORIGIN).size == 6
    client.cosigned(growth(6, size, "ours"))


def test_bad_proof_is_refused(client: Client) -> None:
    """Missing, surplus, changed and exchanged hashes; a proof where none belongs."""
    client.cosigned(growth(0, 6))
    leaves = entries(11)
    proof, note = consistency_proof(6, leaves), note_of(leaves)
    assert len(proof) > 2
    changed = [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]]
    for bad in (proof[1:], proof[:-1], [*proof, proof[-1]], [bytes(32), *proof], changed, proof[::-1], []):
        assert client.send(request(6, bad, note)).status == 422
    assert client.send(request(6, [bytes(32)], note_of(entries(6)))).status == 422
    assert client.send(request(6, [bytes(32)] * 63, note)).status == 422
    client.cosigned(request(6, proof, note))


def test_proof_from_nothing_is_refused(client: Client) -> None:
    """Where old is 0 there is nothing to prove."""
    assert client.send(request(0, [bytes(32)], note_of(entries(3)))).status == 422
    assert client.send(request(0, [bytes(32)], note_of([]))).status == 422


def test_empty_tree_has_one_root(client: Client) -> None:
    assert client.send(request(0, [], sign_note(checkpoint_text(0, bytes(32))))).status == 422
    client.cosigned(growth(0, 0))
    assert client.send(request(0, [], sign_note(checkpoint_text(0, bytes(32))))).status == 422


def test_unknown_log_is_refused(client: Client) -> None:
    """Whoever signed, and before anything else about the request counts."""
    other = "ledger.example/other"
    root = tree_hash(entries(3))
    for note in (
        sign_note(checkpoint_text(3, root, other), other),
        sign_note(checkpoint_text(3, root, other), ORIGIN),
        sign_note(checkpoint_text(3, root, other), other, OTHER_KEY),
    ):
        for old in (0, 2, 9):
            assert client.send(request(old, [], note)).status == 404


def test_checkpoint_without_the_logs_signature_is_refused(client: Client) -> None:
    """Another key, another name, another text, another algorithm's key id; before old sizes or proofs count."""
    leaves = entries(3)
    text = checkpoint_text(3, tree_hash(leaves))
    signature = key_id(ORIGIN, 0x01, LOG_KEY.public_key()) + LOG_KEY.sign(b"another text\n")
    cosigner = key_id(ORIGIN, 0x04, LOG_KEY.public_key()) + LOG_KEY.sign(text.encode())
    for note in (
        sign_note(text, key=OTHER_KEY),
        sign_note(text, "ledger.example/other"),
        f"{text}\n— {ORIGIN} {base64.b64encode(signature).decode()}\n",
        f"{text}\n— {ORIGIN} {base64.b64encode(cosigner).decode()}\n",
        f"{text}\n— {ORIGIN} {base64.b64encode(signature[:20]).decode()}\n",
    ):
        for old in (0, 2, 9):
            assert client.send(request(old, [], note)).status == 403


def test_invalid_signature_of_a_known_key_spoils_a_good_one(state: WitnessState) -> None:
    """Of two keys of the log, one signed well and the other's signature fails."""
    witness = make_witness(state, logs=[LOG_VKEY, OTHER_VKEY])
    bad = base64.b64encode(key_id(ORIGIN, 0x01, OTHER_KEY.public_key()) + bytes(64)).decode()
    body = growth(0, 3) + f"— {ORIGIN} {bad}\n".encode()
    assert witness.add_checkpoint(body).status == 403
    assert make_witness(state).add_checkpoint(body).status == 200


NOTE = note_of(entries(3))
HASH = base64.b64encode(bytes(32)).decode()
MALFORMED = {
    "nothing": b"",
    "empty line only": b"\n\n",
    "no request": NOTE.encode(),
    "no empty line": request(0, [], NOTE).replace(b"\n\n", b"\n", 1),
    "no checkpoint": b"old 0\n\n",
    "not UTF-8": b"old 0\n\n\xff" + NOTE.encode(),
    "other line ends": request(0, [], NOTE).replace(b"\n", b"\r\n"),
    "old missing": b"\n" + NOTE.encode(),
    "Old": request(0, [], NOTE).replace(b"old", b"Old"),
    "space before": b" " + request(0, [], NOTE),
    "proof before old": f"{HASH}\nold 0\n\n{NOTE}".encode(),
    "old twice": request(0, [], NOTE).replace(b"old 0\n", b"old 0\nold 0\n"),
    "hash too short": f"old 0\n{base64.b64encode(bytes(31)).decode()}\n\n{NOTE}".encode(),
    "hash too long": f"old 0\n{base64.b64encode(bytes(33)).decode()}\n\n{NOTE}".encode(),
    "hash in hex": f"old 0\n{bytes(32).hex()}\n\n{NOTE}".encode(),
    "hash with stray bits": f"old 0\n{HASH[:-2]}B=\n\n{NOTE}".encode(),
    "hash without padding": f"old 0\n{HASH[:-1]}\n\n{NOTE}".encode(),
    "space after hash": f"old 0\n{HASH} \n\n{NOTE}".encode(),
    "64 hashes": request(0, [bytes(32)] * 64, NOTE),
    "signature missing": f"old 0\n\n{checkpoint_text(3, bytes(32))}\n".encode(),
    "last newline missing": request(0, [], NOTE)[:-1],
    "text after the note": request(0, [], NOTE) + b"more\n",
    "65 signatures": request(0, [], NOTE) + "— a AAAAAAAA\n".encode() * 64,
    "extension line": request(0, [], sign_note(checkpoint_text(3, bytes(32)) + "extension\n")),
    "size too large": request(0, [], sign_note(checkpoint_text(2**53, bytes(32)))),
    "root too short": request(0, [], sign_note(checkpoint_text(3, bytes(31)))),
    "old larger than the checkpoint": request(4, [], NOTE),
    **{
        f"old {spelling!r}": request(spelling, [], NOTE)
        for spelling in ("", "00", "01", "-0", "+0", " 0", "0 ", "0.0", "1e0", "0x0", "٠", "9" * 16, "9" * 5_000, "0\t")
    },
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_refused(client: Client, state: WitnessState, name: str) -> None:
    """400, in words, and nothing is remembered."""
    reply = client.send(MALFORMED[name])
    assert reply[:2] == (400, "text/plain; charset=utf-8")
    assert reply.body.endswith("\n")
    assert state.last(ORIGIN) == NOTHING


@given(st.binary() | st.text().map(str.encode) | st.binary().map(lambda junk: b"old 0\n\n" + junk))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_is_answered(state: WitnessState, body: bytes) -> None:
    """Whatever bytes come, the answer is that they are no request."""
    assert make_witness(state).add_checkpoint(body).status == 400


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_no_damaged_request_is_cosigned(state: WitnessState, data: st.DataObject) -> None:
    """A request of which a piece is replaced, cut out, doubled or moved is refused, or still is the same checkpoint."""
    witness = make_witness(state)
    if state.last(ORIGIN) == NOTHING:
        assert witness.add_checkpoint(growth(0, 6)).status == 200
    body = growth(6, 11)
    start = data.draw(st.integers(0, len(body) - 1))
    end = data.draw(st.integers(start, min(start + 40, len(body))))
    piece = data.draw(st.sampled_from([b"", b"\n", b" ", b"A", b"=", body[start:end] * 2]) | st.binary(max_size=4))
    damaged = body[:start] + piece + body[end:]
    answer = witness.add_checkpoint(damaged)
    if damaged != body:
        assert answer.status in {400, 403, 404, 409, 422} or _same_checkpoint(damaged, body)


def _same_checkpoint(damaged: bytes, body: bytes) -> bool:
    # The log's line may be there twice.
    return damaged.split(b"\n\n")[:-1] == body.split(b"\n\n")[:-1] and len(damaged) > len(body)


def test_every_changed_character_is_refused(state: WitnessState) -> None:
    """One character replaced by another, anywhere in a request, and it is not cosigned."""
    witness = make_witness(state)
    assert witness.add_checkpoint(growth(0, 2)).status == 200
    text = growth(2, 5).decode()
    for i, c in enumerate(text):
        for other in "A0 \n+":
            if other != c:
                status = witness.add_checkpoint((text[:i] + other + text[i + 1 :]).encode()).status
                assert status in {400, 403, 404, 409, 422}, (i, other)
    assert state.last(ORIGIN).size == 2
    assert witness.add_checkpoint(text.encode()).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(client: Client, method: str) -> None:
    assert client.send(b"", method).status == 405


def test_other_paths_are_not_found(client: Client) -> None:
    """What lives says so; nothing else is there."""
    assert client.send(b"", "GET", "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    for path in ("/", "/add-checkpoint/", "/add-checkpoint/x", "/x/add-checkpoint"):
        assert client.send(growth(0, 1), path=path).status in {404, 307}


def test_large_body_is_refused(client: Client) -> None:
    """Announced, or in chunks without a length; the largest that is allowed is read."""
    assert client.send(b"x" * MAX_BODY_BYTES).status == 400
    assert client.send(b"x" * (MAX_BODY_BYTES + 1)).status == 413
    assert client.send(b"x" * 8192 for _ in range(MAX_BODY_BYTES // 8192)).status == 400
    assert client.send(b"x" * 8192 for _ in range(MAX_BODY_BYTES // 8192 + 1)).status == 413


# State


def test_restart_keeps_the_state(tmp_path: Path) -> None:
    """A new process with the same file refuses what the old one would have refused."""
    path = tmp_path / "witness.sqlite"
    for size in (4, 7):
        state = WitnessState(path)
        with served(make_witness(state)) as client:
            client.cosigned(growth(state.last(ORIGIN).size, size, "ours"))
        state.close()
    state = WitnessState(path)
    with served(make_witness(state)) as client:
        assert client.send(growth(0, 7, "theirs")) == (409, "text/x.tlog.size", "7\n")
        assert client.send(request(7, [], note_of(entries(7, "theirs")))).status == 422
        client.cosigned(growth(7, 20, "ours"))
    state.close()


def test_state_is_durable_and_private(tmp_path: Path) -> None:
    """A commit returns once it is on disk (WAL with synchronous=FULL), in a file only its owner can read."""
    path = tmp_path / "witness.sqlite"
    state = WitnessState(path)
    with state._transaction(write=False) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    state.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_cosignature_leaves_after_the_state_is_stored(state: WitnessState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is signed while the state is not on disk, and nothing at all if it cannot be written."""
    witness = make_witness(state)

    def fail(*_: object) -> bool:
        raise UnavailableError("disk full")

    monkeypatch.setattr(state, "swap", fail)
    with pytest.raises(UnavailableError):
        witness.add_checkpoint(growth(0, 3))
    with served(witness) as client:
        reply = client.send(growth(0, 3))
        assert (reply.status, reply.body) == (503, "try again later\n")


def test_time_is_read_before_the_state_is_stored(state: WitnessState, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cosignature says that nothing larger was cosigned then: a time read later could claim too much."""
    order = []
    swap = state.swap

    def record_swap(origin: str, last: Cosigned, new: Cosigned) -> bool:
        order.append("stored")
        return swap(origin, last, new)

    def record_clock() -> int:
        order.append("clock")
        return NOW_S * 1000

    monkeypatch.setattr(state, "swap", record_swap)
    witness = Witness(NAME, WITNESS_KEY, [decode_verifier_key(LOG_VKEY)], state, record_clock)
    assert witness.add_checkpoint(growth(0, 3)).status == 200
    assert order == ["clock", "stored"]


def test_locked_state_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite says of a lock held too long is an answer to try again."""
    monkeypatch.setattr("ledger.store.BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "witness.sqlite"
    state = WitnessState(path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with served(make_witness(state)) as client:
        assert client.send(growth(0, 3)).status == 503
        blocker.execute("ROLLBACK")
        client.cosigned(growth(0, 3))
    blocker.close()
    state.close()


def test_state_refuses_to_shrink_or_to_forget(state: WitnessState) -> None:
    """The database itself refuses what this program never does."""
    assert make_witness(state).add_checkpoint(growth(0, 5)).status == 200
    for statement in (
        "DELETE FROM cosigned",
        "UPDATE cosigned SET size = 4",
        "UPDATE cosigned SET root = zeroblob(32)",
        "UPDATE cosigned SET origin = 'other'",
        "INSERT OR REPLACE INTO cosigned VALUES ('ledger.example/watched', 1, zeroblob(32), '')",
    ):
        with pytest.raises(sa.exc.IntegrityError), state._transaction(write=True) as connection:
            connection.exec_driver_sql(statement)
    assert state.last(ORIGIN).size == 5


@pytest.mark.parametrize("change", ["size = 9", "root = zeroblob(32), size = 6", "note = ''", "note = 'x'"])
def test_damaged_state_cosigns_nothing(tmp_path: Path, change: str) -> None:
    """A row whose columns contradict its note is not believed."""
    path = tmp_path / "witness.sqlite"
    state = WitnessState(path)
    assert make_witness(state).add_checkpoint(growth(0, 5)).status == 200
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER cosigned_grows")
        connection.execute(f"UPDATE cosigned SET {change}")
    connection.close()
    with pytest.raises(CorruptionError, match=ORIGIN):
        state.last(ORIGIN)
    with served(make_witness(state)) as client:
        assert client.send(growth(5, 7)).status == 503
    state.close()


def test_database_of_something_else_is_refused(tmp_path: Path) -> None:
    """A ledger's own database, given by mistake, is left as it is."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), pytest.raises(StoreError, match="something else"):
        WitnessState(tmp_path / "ledger.sqlite")


def test_log_cannot_be_its_own_witness(state: WitnessState) -> None:
    log = decode_verifier_key(LOG_VKEY)
    with pytest.raises(CheckpointError, match="own witness"):
        Witness(NAME, LOG_KEY, [log], state, lambda: 0)
    with pytest.raises(CheckpointError, match="cannot name a key"):
        Witness("a name", WITNESS_KEY, [log], state, lambda: 0)


# Races


class Meeting(WitnessState):
    """A state whose first two readers wait for each other, so that both check before either writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._barrier = threading.Barrier(2)
        self._first = threading.local()

    def last(self, origin: str) -> Cosigned:
        found = super().last(origin)
        if not getattr(self._first, "met", False):
            self._first.met = True
            self._barrier.wait(LIMIT_S)
        return found


RACES = {
    "two trees of one size": (growth(2, 6, "ours"), growth(2, 6, "theirs")),
    "two forks": (growth(2, 6, "ours"), growth(2, 9, "theirs")),
    "two checkpoints of one history": (growth(2, 6), growth(2, 9)),
}


def answer_both(state: WitnessState, bodies: tuple[bytes, bytes]) -> list[Answer]:
    witness = make_witness(state)
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(witness.add_checkpoint, bodies))


@pytest.mark.parametrize("race", RACES)
def test_one_of_two_racing_checkpoints_is_cosigned(tmp_path: Path, race: str) -> None:
    """Both have passed every check before either is stored; the second to store has to check again, and is refused."""
    bodies = RACES[race]
    for attempt in range(10):
        path = tmp_path / f"{attempt}.sqlite"
        state = WitnessState(path)
        assert make_witness(state).add_checkpoint(growth(0, 2)).status == 200
        state.close()
        meeting = Meeting(path)
        answers = answer_both(meeting, bodies)
        assert sorted(answer.status for answer in answers) == [200, 409]
        won = next(i for i, answer in enumerate(answers) if answer.status == 200)
        cosigned = decode_request(bodies[won]).checkpoint
        check_cosignature(answers[won].body, bodies[won])
        assert answers[1 - won].body == f"{cosigned.size}\n"
        meeting.close()
        state = WitnessState(path)
        assert (state.last(ORIGIN).size, state.last(ORIGIN).root) == (cosigned.size, cosigned.root)
        state.close()


def test_first_checkpoints_race_too(tmp_path: Path) -> None:
    """Where nothing was known of the log, two first trees are still one too many."""
    for attempt in range(10):
        meeting = Meeting(tmp_path / f"{attempt}.sqlite")
        answers = answer_both(meeting, (growth(0, 4, "ours"), growth(0, 4, "theirs")))
        assert sorted(answer.status for answer in answers) == [200, 409]
        meeting.close()


def test_one_of_many_forks_is_cosigned(tmp_path: Path) -> None:
    """Sixteen histories at once over HTTP, each from sizes the witness has; one history comes out."""
    state = WitnessState(tmp_path / "witness.sqlite")
    with served(make_witness(state)) as client, ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda i: client.send(growth(0, 5, f"history {i}")), range(16)))
        assert sorted({reply.status for reply in replies}) == [200, 409]
        (won,) = [i for i, reply in enumerate(replies) if reply.status == 200]
        replies = list(threads.map(lambda i: client.send(growth(5, 8, f"history {i}")), range(16)))
        assert [i for i, reply in enumerate(replies) if reply.status == 200] == [won]
    state.close()


def test_one_of_two_racing_processes_cosigns(tmp_path: Path) -> None:
    """Two processes with one state, each offered another tree of one size; both read before either writes."""
    path = tmp_path / "witness.sqlite"
    bodies = [growth(0, 4, "ours"), growth(0, 4, "theirs")]
    two = held_process(path, readers=2), held_process(path, readers=2)
    with two[0] as (one, _), two[1] as (other, _), ThreadPoolExecutor(2) as threads:
        replies = list(threads.map(Client.send, (one, other), bodies))
    assert sorted(reply.status for reply in replies) == [200, 409]
    won = [reply.status for reply in replies].index(200)
    check_cosignature(replies[won].body, bodies[won])
    state = WitnessState(path)
    assert state.last(ORIGIN).root == decode_request(bodies[won]).checkpoint.root
    state.close()


def test_kill_between_store_and_answer_cosigns_no_second_tree(tmp_path: Path) -> None:
    """The state is on disk, the cosignature never left: afterwards that tree is cosigned again, and no other."""
    path, stored = tmp_path / "witness.sqlite", tmp_path / "stored"
    with held_process(path, stored=stored) as (client, process), ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(client.send, growth(0, 4, "ours"))
        give_up_at = time.monotonic() + LIMIT_S
        while not stored.exists() and time.monotonic() < give_up_at:
            time.sleep(0.002)
        assert not waiting.done()
        os.kill(process.pid, signal.SIGKILL)
        assert isinstance(waiting.exception(LIMIT_S), httpx.TransportError)
    state = WitnessState(path)
    with served(make_witness(state)) as client:
        assert client.send(growth(0, 4, "theirs")) == (409, "text/x.tlog.size", "4\n")
        assert client.send(request(4, [], note_of(entries(4, "theirs")))).status == 422
        client.cosigned(request(4, [], note_of(entries(4, "ours"))))
    state.close()


def test_kills_at_any_moment_leave_one_history(tmp_path: Path) -> None:
    """Two forks are offered all the while as the witness is killed and started: what it cosigned is one history."""
    path = tmp_path / "witness.sqlite"
    cosigned: dict[int, set[str]] = {}

    def offer(client: Client, history: str) -> None:
        size = 0
        with suppress(httpx.TransportError):  # until it is killed
            while True:
                reply = client.send(growth(size, size + 1, history))
                if reply.status == 200:
                    size += 1
                    cosigned.setdefault(size, set()).add(history if size > 2 else "")
                elif reply.status == 409:
                    size = int(reply.body)
                else:
                    assert reply.status == 422

    for round_number in range(4):
        with held_process(path) as (client, process), ThreadPoolExecutor(2) as threads:
            offers = [threads.submit(offer, client, history) for history in ("ours", "theirs")]
            time.sleep(0.15 + 0.07 * round_number)
            os.kill(process.pid, signal.SIGKILL)
            for each in offers:
                each.result(LIMIT_S)
    assert cosigned
    assert max(cosigned) > 3
    assert len(set().union(*(cosigned[size] for size in cosigned if size > 2))) == 1


# The commands


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(guerdon, ["witness", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    save_private_key(tmp_path / "witness.pem", WITNESS_KEY, None)
    return tmp_path / "witness.pem"


def test_verifier_key_is_printed(key_file: Path) -> None:
    """Algorithm byte 0x04, so that nobody takes it for a log's key."""
    expected = verifier_key(NAME, 0x04, WITNESS_KEY.public_key())
    assert run("key", "--key", key_file, "--name", NAME) == (0, expected + "\n")


@pytest.mark.parametrize("name", ["", "a b", "a+b"])
def test_name_that_a_note_cannot_carry_is_a_wrong_call(key_file: Path, tmp_path: Path, name: str) -> None:
    for call in (
        ("key", "--key", key_file, "--name", name),
        ("serve", "--key", key_file, "--name", name, "--state", tmp_path / "w.sqlite", "--log", LOG_VKEY),
    ):
        status, output = run(*call)
        assert (status, "--name" in output) == (2, True)
    assert not (tmp_path / "w.sqlite").exists()


def test_other_kind_of_key_is_a_wrong_call(key_file: Path, tmp_path: Path) -> None:
    """A witness's verifier key is no log's."""
    log = verifier_key(NAME, 0x04, OTHER_KEY.public_key())
    status, output = run("serve", "--key", key_file, "--name", NAME, "--state", tmp_path / "w.sqlite", "--log", log)
    assert (status, "--log" in output) == (2, True)


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process with Ctrl-C, which it takes as success and in silence."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, errors) == (0, "")


def start_witness(key_file: Path, state: Path, *logs: str) -> tuple[subprocess.Popen[str], list[str], Client]:
    """`guerdon witness serve` as a process, what it says first, and a client of it."""
    program = [sys.executable, "-c", "from api.cli import main; main()", "witness", "serve", "--port", "0"]
    call = [*program, "--key", str(key_file), "--name", NAME, "--state", str(state)]
    call += [part for log in logs or (LOG_VKEY,) for part in ("--log", log)]
    process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(3)]
    match = re.search(r"http://127\.0\.0\.1:(\d+)/add-checkpoint$", said[2].strip())
    assert match, said
    return process, said, Client(int(match[1]))


def test_command_serves_and_goes_on_after_a_restart(key_file: Path, tmp_path: Path) -> None:
    """It says whose cosignatures it gives and what it remembers; Ctrl-C ends it in silence."""
    state = tmp_path / "witness.sqlite"
    for size, before in ((5, 0), (8, 5)):
        process, said, client = start_witness(key_file, state)
        with closing(client), ended(process):
            assert said[0] == f"witness {verifier_key(NAME, 0x04, WITNESS_KEY.public_key())}\n"
            assert said[1] == f"{ORIGIN} has {before} entries cosigned\n"
            assert abs(client.cosigned(growth(before, size)) - time.time()) < LIMIT_S
            assert client.send(growth(before, size, "theirs")).status == 409


def test_command_takes_several_keys_of_one_log(key_file: Path, tmp_path: Path) -> None:
    """A log that changes its key is one log: it goes on from what was cosigned under the other key."""
    state = tmp_path / "witness.sqlite"
    process, said, client = start_witness(key_file, state, LOG_VKEY, OTHER_VKEY)
    with closing(client), ended(process):
        assert said[1] == f"{ORIGIN} has 0 entries cosigned\n"
        client.cosigned(growth(0, 5))
        leaves = entries(8)
        renewed = sign_note(checkpoint_text(8, tree_hash(leaves)), key=OTHER_KEY)
        client.cosigned(request(5, consistency_proof(5, leaves), renewed))
        both = sign_note(checkpoint_text(8, tree_hash(leaves)), key=OTHER_KEY) + note_of(leaves).split("\n\n")[1]
        client.cosigned(request(8, [], both))
        assert client.send(growth(5, 9)).status == 409


def test_taken_port_is_said_in_one_line(key_file: Path, tmp_path: Path, state: WitnessState) -> None:
    with served(make_witness(state)) as client:
        call = [sys.executable, "-c", "from api.cli import main; main()", "witness", "serve", "--key", str(key_file)]
        call += ["--name", NAME, "--state", str(tmp_path / "w.sqlite"), "--log", LOG_VKEY, "--port", str(client.port)]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"guerdon: cannot listen on 127\.0\.0\.1 port \d+ .*\n", done.stderr)


# The log's side


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A ledger that the settings name, whose log the witness below knows."""
    monkeypatch.setenv("GUERDON_DATABASE_URL", f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


def offer(client: Client) -> tuple[int, str]:
    vkey = verifier_key(NAME, 0x04, WITNESS_KEY.public_key())
    return run("offer", "--url", f"http://127.0.0.1:{client.port}/", "--witness", vkey)


def test_ledger_has_its_checkpoints_cosigned(ledger: World, state: WitnessState) -> None:
    """As it grows, and again without growth: what is printed satisfies a client that trusts this witness."""
    log = encode_verifier_key(ledger.origin, ledger.log_key)
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    policy = WitnessPolicy(log_keys=(decode_verifier_key(log),), witnesses=(witness_key,), threshold=1)
    with served(make_witness(state, logs=[log])) as client:
        for count in (1, 3, 0, 20):
            if count:
                ledger.add_members(count)
            status, output = offer(client)
            assert status == 0
            found = verify_witnessed(output, policy, ledger.origin)
            assert found.checkpoint.size == state.last(ledger.origin).size
            assert found.cosignatures == (Cosignature(witness=NAME, timestamp_s=NOW_S),)
    assert state.last(ledger.origin).size == 25


def prove_nothing(_: int) -> list[bytes]:
    return []


def test_rolled_back_ledger_is_told(state: WitnessState) -> None:
    """Of a witness that has cosigned more, or another tree, the log hears so, and no cosignature."""
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    with served(make_witness(state)) as client:
        url = f"http://127.0.0.1:{client.port}"
        client.cosigned(growth(0, 6, "ours"))
        with pytest.raises(WitnessRefusedError, match="has cosigned 6 entries, this checkpoint has 5"):
            ask_witness(url, witness_key, note_of(entries(5, "ours")), prove_nothing)
        with pytest.raises(WitnessRefusedError, match=r"does not cosign \(422\)"):
            ask_witness(url, witness_key, note_of(entries(6, "theirs")), prove_nothing)
        other = decode_witness_key(encode_witness_key(NAME, OTHER_KEY))
        with pytest.raises(WitnessRefusedError, match="without a cosignature"):
            ask_witness(url, other, note_of(entries(6, "ours")), prove_nothing)
        with pytest.raises(WitnessRefusedError, match=r"does not cosign \(404\)"):
            ask_witness(f"{url}/elsewhere", witness_key, note_of(entries(6, "ours")), prove_nothing)
    with pytest.raises(OSError, match="does not answer"):
        ask_witness(url, witness_key, note_of(entries(6, "ours")), prove_nothing)


def test_log_that_names_the_size_the_witness_knows_is_not_asked_again(client: Client, state: WitnessState) -> None:
    """One request is enough, with a proof from there; where the log is wrong about it, the witness says so."""
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    proven: list[int] = []

    def prove(old_size: int) -> list[bytes]:
        proven.append(old_size)
        return consistency_proof(old_size, entries(9))

    url = f"http://127.0.0.1:{client.port}"
    client.cosigned(growth(0, 4))
    ask_witness(url, witness_key, note_of(entries(9)), prove, known_size=4)
    assert (proven, state.last(ORIGIN).size) == ([4], 9)
    ask_witness(url, witness_key, note_of(entries(9)), prove, known_size=4)
    assert proven == [4, 4, 9]


@pytest.mark.parametrize("size", [3, 9])
def test_conflict_tells_the_size_the_witness_has(client: Client, size: int) -> None:
    """Another history, or more than there is here: the two are told from all other refusals."""
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    client.cosigned(growth(0, size, "theirs"))
    url = f"http://127.0.0.1:{client.port}"
    with pytest.raises(WitnessConflictError) as refused:
        ask_witness(url, witness_key, note_of(entries(6)), lambda old: consistency_proof(old, entries(6)))
    assert refused.value.witness_size == size


def test_answer_that_never_ends_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps no connection open for ever."""
    monkeypatch.setattr(witness_client, "ANSWER_LIMIT_S", 1)
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    stop = threading.Event()

    async def drops() -> AsyncIterator[bytes]:
        while not stop.is_set():
            yield b"x"
            await asyncio.sleep(0.1)

    async def trickle(_: Request) -> Response:
        return StreamingResponse(drops())

    app = Starlette(routes=[Route("/add-checkpoint", trickle, methods=["POST"])])
    with running_app(app) as port:
        try:
            with pytest.raises(OSError, match="the answer does not end"):
                ask_witness(f"http://127.0.0.1:{port}", witness_key, note_of(entries(4)), prove_nothing)
        finally:
            stop.set()


def test_time_no_clock_shows_is_refused() -> None:
    """A witness that states the year 10000 has no clock, though it signed it."""
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    note = note_of(entries(4))

    async def ahead(_: Request) -> Response:
        return Response(cosign_checkpoint(note, WITNESS_KEY, NAME, witness_client.MAX_TIMESTAMP_S + 1))

    app = Starlette(routes=[Route("/add-checkpoint", ahead, methods=["POST"])])
    with running_app(app) as port, pytest.raises(WitnessRefusedError, match="it has no clock"):
        ask_witness(f"http://127.0.0.1:{port}", witness_key, note, prove_nothing)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, "", "without a cosignature"),
        (200, "nonsense", "no cosignature"),
        (200, "— other.example AAAAAAAA\n", "without a cosignature"),
        (200, "FORGED", "not valid"),
        (409, "many\n", "named no size"),
        (409, "03\n", "named no size"),
        (409, "3\n", r"does not cosign \(409\): 3"),
        (409, "OTHER", "another size 5 times"),
        (500, "no", "does not cosign"),
        (302, "no", "does not cosign"),
    ],
)
def test_nonsense_of_a_witness_is_no_cosignature(status: int, body: str, message: str) -> None:
    """Whatever answers in a witness's place, the log takes no line it cannot verify, and does not ask for ever."""
    witness_key = decode_witness_key(encode_witness_key(NAME, WITNESS_KEY))
    forged = base64.b64encode(witness_key.key_id + bytes(72)).decode()
    sizes = itertools.cycle(["3\n", "2\n"])

    async def impostor(_: Request) -> Response:
        return Response(body.replace("FORGED", f"— {NAME} {forged}\n").replace("OTHER", next(sizes)), status)

    app = Starlette(routes=[Route("/add-checkpoint", impostor, methods=["POST"])])
    with running_app(app) as port, pytest.raises(WitnessRefusedError, match=message):
        ask_witness(f"http://127.0.0.1:{port}", witness_key, note_of(entries(4)), prove_nothing)


def test_offer_needs_a_witness_key_and_an_address(ledger: World) -> None:
    vkey = verifier_key(NAME, 0x04, WITNESS_KEY.public_key())
    for url, key, option in (
        ("http://127.0.0.1", LOG_VKEY, "--witness"),
        ("http://127.0.0.1", "x", "--witness"),
        ("witness.example", vkey, "--url"),
        ("file:///etc", vkey, "--url"),
    ):
        status, output = run("offer", "--url", url, "--witness", key)
        assert (status, option in output) == (2, True)


def test_held_state_is_a_state(tmp_path: Path) -> None:
    """The state that the race tests use differs from the real one in waiting alone."""
    state = HeldState(tmp_path / "witness.sqlite")
    assert make_witness(state).add_checkpoint(growth(0, 3)).status == 200
    state.close()
