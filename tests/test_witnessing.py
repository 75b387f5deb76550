"""The ledger has its checkpoints cosigned in the background: real witnesses over HTTP, and every way they can fail."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from api.settings import Settings, SettingsError, WitnessAddress
from api.witness_client import WitnessConflictError, WitnessRefusedError
from api.witnessing import Witnessing, policy_of
from ledger.checkpoint import (
    Checkpoint,
    WitnessKey,
    WitnessPolicy,
    cosign_checkpoint,
    decode_checkpoint,
    decode_note,
    decode_verifier_key,
    decode_witness_key,
    encode_witness_key,
    sign_checkpoint,
    verify_witnessed,
)
from ledger.cosignatures import Cosignatures, CosignedCheckpoint, read_cosignatures, stored_cosignatures
from ledger.keyring import save_private_key
from ledger.store import Store, UnavailableError
from ledger.witness import Answer, encode_request
from tests.test_feed import log_key
from tests.test_readme import free_port
from tests.witnesses import LIMIT_S, ROOT, Watcher, until
from tests.worlds import World

INTERVAL_MS = 40
LOGGER = "guerdon.witnessing"


@pytest.fixture
def watchers(world: World, tmp_path: Path) -> Iterator[list[Watcher]]:
    """Three witnesses of the world's log."""
    with ExitStack() as stack:
        yield [stack.enter_context(Watcher(tmp_path, number, log_key(world))) for number in (1, 2, 3)]


def policy(world: World, quorum: int, watchers: list[Watcher]) -> WitnessPolicy:
    keys = tuple(watcher.key for watcher in watchers)
    return WitnessPolicy(log_keys=(decode_verifier_key(log_key(world)),), witnesses=keys, threshold=quorum)


@contextmanager
def asking(world: World, quorum: int, watchers: list[Watcher], **options: Any) -> Iterator[Witnessing]:
    """The thread that asks, until the block ends."""
    addresses = [watcher.address for watcher in watchers]
    options = {"interval_ms": INTERVAL_MS, **options}
    with closing(Witnessing(world.store, addresses, policy(world, quorum, watchers), **options).start()) as thread:
        yield thread


def said_to(world: World, quorum: int, watchers: list[Watcher]) -> Cosignatures:
    with world.store.read() as connection:
        return read_cosignatures(world.store, connection, policy(world, quorum, watchers))


def witnessed(world: World, quorum: int, watchers: list[Watcher]) -> CosignedCheckpoint | None:
    """The newest witnessed checkpoint, which must satisfy a client with the same policy."""
    found = said_to(world, quorum, watchers).witnessed()
    if found is not None:
        client = verify_witnessed(found.note, policy(world, quorum, watchers), world.origin)
        assert client.checkpoint.size == found.size
        assert len(client.cosignatures) == len(found.cosignatures)
    return found


def witnessed_size(world: World, quorum: int, watchers: list[Watcher]) -> int:
    found = witnessed(world, quorum, watchers)
    return found.size if found is not None else 0


def head_of(world: World) -> tuple[int, str]:
    with world.store.read() as connection:
        head = world.store.head(connection)
    return head.size, head.checkpoint


def grow(world: World, count: int = 1) -> int:
    """Record some entries; how many there are then."""
    world.add_members(count)
    return head_of(world)[0]


def rows(world: World) -> list[tuple[int, str]]:
    with world.store.read() as connection:
        return [(row.size, row.witness) for row in stored_cosignatures(world.store, connection)]


def until_witnessed(world: World, quorum: int, watchers: list[Watcher], size: int) -> None:
    until(lambda: witnessed_size(world, quorum, watchers) == size)


def until_all_cosigned(world: World, watchers: list[Watcher]) -> None:
    """Wait until each witness has cosigned the newest checkpoint."""
    until(lambda: len(said_to(world, 1, watchers).on(head_of(world)[1]).cosignatures) == len(watchers))


def until_stored(world: World, size: int, watcher: Watcher) -> None:
    until(lambda: (size, watcher.name) in rows(world))


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the thread that asks said; witnesses log too."""
    return [record for record in caplog.records if record.name == LOGGER]


# How it goes


def test_checkpoints_are_cosigned_while_the_ledger_grows(world: World, watchers: list[Watcher]) -> None:
    """Each time the newest, by all; and nobody is asked twice about the same one, nor when nothing has happened."""
    size = 0
    with asking(world, 2, watchers):
        for count in (1, 30, 300):
            size = grow(world, count)
            until_all_cosigned(world, watchers)
            assert witnessed_size(world, 2, watchers) == size
        asked = [list(watcher.asked) for watcher in watchers]
        time.sleep(5 * INTERVAL_MS / 1000)
        assert [watcher.asked for watcher in watchers] == asked
    for watcher in watchers:
        assert watcher.asked == sorted(set(watcher.asked))
        assert watcher.state.last(world.origin).size == size
    assert rows(world) == [(size, watcher.name) for watcher in watchers]


def test_restart_goes_on_with_what_is_stored(world: World, watchers: list[Watcher]) -> None:
    """Nobody is asked again about what it has cosigned, and each is told the size it knows in the first request."""
    first = grow(world)
    with asking(world, 3, watchers):
        until_witnessed(world, 3, watchers, first)
    before = [len(watcher.asked) for watcher in watchers]
    with asking(world, 3, watchers):
        time.sleep(5 * INTERVAL_MS / 1000)
        assert [len(watcher.asked) for watcher in watchers] == before
        second = grow(world)
        until_witnessed(world, 3, watchers, second)
    assert [watcher.asked[count:] for watcher, count in zip(watchers, before, strict=True)] == [[second]] * 3


def test_checkpoints_are_offered_no_more_often_than_the_interval(world: World, watchers: list[Watcher]) -> None:
    """However fast the ledger grows."""
    with asking(world, 1, watchers[:1], interval_ms=60_000):
        until_witnessed(world, 1, watchers[:1], 1)
        grow(world)
        time.sleep(5 * INTERVAL_MS / 1000)
        assert watchers[0].asked == [1]


# Witnesses that do not answer, or not in time


def test_quorum_is_reached_without_a_witness_that_is_down(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    """That it is down is said once; when it is up again, it catches up, and that is said too."""
    caplog.set_level(logging.INFO, LOGGER)
    watchers[2].stop()
    size = 0
    with asking(world, 2, watchers):
        for _ in range(3):
            size = grow(world)
            until_witnessed(world, 2, watchers, size)
        until(lambda: len(caplog.messages) == 1)
        until(lambda: {row[1] for row in rows(world)} == {watchers[0].name, watchers[1].name})
        watchers[2].start()
        until_stored(world, size, watchers[2])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert f"{watchers[2].name} has not cosigned: {watchers[2].url}/add-checkpoint does not answer" in caplog.text
    assert caplog.messages[1] == f"{watchers[2].name} cosigns again"


def test_without_a_quorum_nothing_is_witnessed_and_little_is_kept(world: World, watchers: list[Watcher]) -> None:
    """Those that are there go on cosigning the newest checkpoint; once the others are back, it is witnessed."""
    watchers[1].stop()
    watchers[2].stop()
    size = 0
    with asking(world, 2, watchers):
        for _ in range(5):
            size = grow(world)
            until_stored(world, size, watchers[0])
        assert rows(world) == [(size, watchers[0].name)]
        assert witnessed(world, 2, watchers) is None
        watchers[1].start()
        until_witnessed(world, 2, watchers, size)


def test_last_witnessed_checkpoint_stays_when_the_quorum_is_lost(world: World, watchers: list[Watcher]) -> None:
    """With all its lines, for as long as it takes; the other's later ones do not replace it."""
    pair = watchers[:2]
    with asking(world, 2, pair):
        size = grow(world)
        until_witnessed(world, 2, pair, size)
        kept = witnessed(world, 2, pair)
        pair[1].stop()
        larger = size
        for _ in range(3):
            larger = grow(world)
            until_stored(world, larger, pair[0])
        assert witnessed(world, 2, pair) == kept
        assert rows(world) == [(larger, pair[0].name), (size, pair[0].name), (size, pair[1].name)]


def test_slow_witness_holds_up_nobody(world: World, watchers: list[Watcher]) -> None:
    """The others go on without it; what it says at last is stored, and it is asked about the newest then."""
    slow = watchers[2]
    slow.witness.may_answer.clear()
    size = 0
    with asking(world, 2, watchers):
        for _ in range(3):
            size = grow(world)
            until_witnessed(world, 2, watchers, size)
        assert len(slow.asked) == 1
        slow.witness.may_answer.set()
        until_stored(world, size, slow)
    assert slow.asked[1:] == [size]


def test_two_slow_witnesses_are_asked_about_the_same_checkpoint(world: World, watchers: list[Watcher]) -> None:
    """Only lines on one checkpoint make a quorum: while one still may cosign it, no other is offered to the rest."""
    pair = watchers[:2]
    pair[0].witness.may_answer.clear()
    first = head_of(world)[0]
    with asking(world, 2, pair):
        until(lambda: pair[0].asked == [first])
        until_stored(world, first, pair[1])
        grow(world, 3)
        time.sleep(5 * INTERVAL_MS / 1000)
        assert pair[1].asked == [first]
        pair[0].witness.may_answer.set()
        size = head_of(world)[0]
        until_witnessed(world, 2, pair, size)
    assert [watcher.asked for watcher in pair] == [[first, size]] * 2


def test_ledger_records_while_all_witnesses_hang(world: World, watchers: list[Watcher]) -> None:
    """And the thread ends without waiting for them."""
    for watcher in watchers:
        watcher.witness.may_answer.clear()
    with asking(world, 1, watchers):
        until(lambda: all(watcher.asked for watcher in watchers))
        assert grow(world, 20) == 21
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT_S / 4


def test_failing_witness_is_asked_ever_more_rarely(world: World, watchers: list[Watcher]) -> None:
    """Twice as late each time, though the ledger grows all the while; others are asked as before."""
    watchers[0].witness.answer = Answer(status=403, body="no\n")
    with asking(world, 1, watchers[:2]):
        for _ in range(40):
            size = grow(world)
            until_witnessed(world, 1, watchers[:2], size)
    assert 2 <= len(watchers[0].asked) <= 12
    assert len(watchers[1].asked) >= 38


@pytest.mark.parametrize(
    ("status", "body"), [(403, "who are you\nERROR: all is well\n"), (404, "x"), (500, ""), (200, "nonsense")]
)
def test_refusal_is_said_once_in_one_line(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture, status: int, body: str
) -> None:
    """Whatever the witness says, and however often."""
    watchers[0].witness.answer = Answer(status=status, body=body)
    with asking(world, 1, watchers[:1]):
        until(lambda: len(watchers[0].asked) >= 3)
    (message,) = [record.message for record in logged(caplog)]
    assert watchers[0].name in message
    assert "\n" not in message
    assert rows(world) == []


# What all of it is there to find


def show_another_history(world: World, watcher: Watcher, size: int) -> None:
    """Have a witness cosign a history of this log, by its own key, that is not the one in the database."""
    checkpoint = Checkpoint(origin=world.origin, size=size, root=bytes([size]) * 32)
    note = sign_checkpoint(checkpoint, world.log_key)
    assert watcher.witness.add_checkpoint(encode_request(0, [], note)).status == 200
    watcher.asked.clear()


@pytest.mark.parametrize("size", [3, 6, 50])
def test_split_view_is_an_alarm(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """A witness that has seen another history, shorter, as long or longer: an error with both sizes, each time."""
    grow(world, 5)
    show_another_history(world, watchers[0], size)
    with asking(world, 2, watchers):
        until_witnessed(world, 2, watchers, 6)
        until(lambda: len(logged(caplog)) >= 2)
    for record in logged(caplog):
        assert record.levelname == "ERROR"
        assert record.message.startswith(f"SPLIT VIEW of {world.origin}: {watchers[0].name} has cosigned {size} ")
        assert "checkpoint of 6 " in record.message
    assert watchers[0].name not in {row[1] for row in rows(world)}


class Script:
    """Stands in for a witness: answers each question with the next step, the last one for ever."""

    def __init__(self, key: WitnessKey, *steps: Callable[[str], str]) -> None:
        self.key = key
        self.sizes: list[tuple[int, int]] = []
        self._steps = list(steps)

    def __call__(
        self, url: str, witness: WitnessKey, note: str, prove: Callable[[int], list[bytes]], *, known_size: int
    ) -> str:
        assert witness == self.key
        self.sizes.append((known_size, decode_checkpoint(decode_note(note).text).size))
        return (self._steps.pop(0) if len(self._steps) > 1 else self._steps[0])(note)


def cosign(watcher: Watcher) -> Callable[[str], str]:
    return lambda note: cosign_checkpoint(note, watcher.private, watcher.name, 1_795_000_000)


def fail_with(error: Exception) -> Callable[[str], str]:
    def fail(_: str) -> str:
        raise error

    return fail


def test_witness_that_was_offered_a_newer_checkpoint_by_hand_is_no_alarm(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    """While it was asked, the ledger grew, and somebody ran `guerdon witness offer`: it has this ledger's entries."""
    watcher = watchers[0]

    def overtaken(_: str) -> str:
        size = grow(world)
        raise WitnessConflictError("has cosigned more", size)

    script = Script(watcher.key, overtaken, cosign(watcher))
    with asking(world, 1, [watcher], ask=script):
        until_witnessed(world, 1, [watcher], 2)
    assert script.sizes == [(0, 1), (0, 2)]
    assert logged(caplog) == []


def test_fault_is_shown_and_ends_nothing(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    """An error nobody thought of is logged with its traceback, once, and the witness asked again."""
    watcher = watchers[0]
    fault = fail_with(ZeroDivisionError("a fault"))
    script = Script(watcher.key, fault, fault, fail_with(WitnessRefusedError("no")), cosign(watcher))
    with asking(world, 1, [watcher], ask=script):
        until_witnessed(world, 1, [watcher], 1)
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]
    assert "ZeroDivisionError" in caplog.text


def test_database_that_does_not_answer_is_waited_for(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and writing may both fail; that is said once, and made up for."""
    broken = threading.Event()

    def break_down(name: str) -> None:
        whole = getattr(Store, name)

        @contextmanager
        def method(store: Store) -> Iterator[Any]:
            if broken.is_set() and threading.current_thread().name == "guerdon-witnessing":
                raise UnavailableError("the database did not answer: at all")
            with whole(store) as given:
                yield given

        monkeypatch.setattr(Store, name, method)

    for name in ("read", "write"):
        break_down(name)
    watcher = watchers[0]
    watcher.witness.may_answer.clear()
    with asking(world, 1, [watcher]):
        until(lambda: watcher.asked == [1])
        broken.set()
        watcher.witness.may_answer.set()
        until(lambda: caplog.records)
        time.sleep(5 * INTERVAL_MS / 1000)
        assert rows(world) == []
        broken.clear()
        until_witnessed(world, 1, [watcher], 1)
    assert caplog.messages == ["witnesses are not asked for now: the database did not answer: at all"]


def test_proof_that_cannot_be_read_is_not_the_witnesses_fault(
    world: World, watchers: list[Watcher], caplog: pytest.LogCaptureFixture
) -> None:
    watcher = watchers[0]
    script = Script(watcher.key, fail_with(UnavailableError("the database did not answer: x")), cosign(watcher))
    with asking(world, 1, [watcher], ask=script):
        until_witnessed(world, 1, [watcher], 1)
    assert caplog.messages == ["witnesses are not asked for now: the database did not answer: x"]


# Several servers


def test_one_of_two_threads_asks_until_it_ends(world: World, watchers: list[Watcher]) -> None:
    """Then the other goes on, without asking anything twice."""
    with asking(world, 3, watchers) as first:
        until_witnessed(world, 3, watchers, 1)
        with asking(world, 3, watchers):
            for _ in range(3):
                size = grow(world)
                until_witnessed(world, 3, watchers, size)
            first.close()
            size = grow(world)
            until_witnessed(world, 3, watchers, size)
    for watcher in watchers:
        assert watcher.asked == sorted(set(watcher.asked))


@contextmanager
def server_process(world: World, folder: Path, watchers: list[Watcher]) -> Iterator[subprocess.Popen[bytes]]:
    """`guerdon serve` as a process that has answered; killed at the end if it still runs."""
    key_file, port = folder / "log.pem", free_port()
    if not key_file.exists():
        save_private_key(key_file, world.log_key, None)
    settings = {
        "DATA": str(folder),
        "DATABASE_URL": world.url,
        "LOG_KEY_FILE": str(key_file),
        "WITNESSES": " ".join(f"{watcher.vkey}@{watcher.url}" for watcher in watchers),
        "WITNESS_INTERVAL_S": "1",
    }
    call = [sys.executable, "-c", "from api.cli import main; main()", "serve", "--port", str(port)]
    environment = {**os.environ, **{f"GUERDON_{name}": value for name, value in settings.items()}}
    process = subprocess.Popen(call, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        until(lambda: answers(port) or process.poll() is not None)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=LIMIT_S) as answer:
        return bool(answer.status == 200)
    return False


@pytest.mark.slow
def test_one_of_two_servers_asks_and_the_other_takes_over_when_it_is_killed(
    world: World, watchers: list[Watcher], tmp_path: Path
) -> None:
    """Two real server processes on one database; the first is ended by SIGKILL."""
    with server_process(world, tmp_path, watchers) as first:
        until_witnessed(world, 2, watchers, 1)
        with server_process(world, tmp_path, watchers):
            for _ in range(2):
                size = grow(world)
                until_all_cosigned(world, watchers)
            for watcher in watchers:
                assert watcher.asked == sorted(set(watcher.asked))
            first.send_signal(signal.SIGKILL)
            first.wait()
            size = grow(world)
            until_all_cosigned(world, watchers)
            assert witnessed_size(world, 2, watchers) == size


# Which policy a server has


def settings_of(world: World, folder: Path, **changes: Any) -> Settings:
    return Settings(data=folder, database_url=world.url, log_key_file=folder / "log.pem", **changes)


def test_policy_of_a_server_is_its_settings(world: World, watchers: list[Watcher], tmp_path: Path) -> None:
    """With the log's own key on the other side: it is no witness of itself."""
    addresses = tuple(watcher.address for watcher in watchers)
    found = policy_of(settings_of(world, tmp_path, witnesses=addresses, witness_quorum=2), world.store)
    assert found == policy(world, 2, watchers)
    assert policy_of(settings_of(world, tmp_path), world.store) == WitnessPolicy(log_keys=())
    own = decode_witness_key(encode_witness_key("witness.example/own", world.log_key))
    own_address = WitnessAddress(key=own, url="http://127.0.0.1")
    with pytest.raises(SettingsError, match=r"^GUERDON_WITNESSES: each witness has a key of its own"):
        policy_of(settings_of(world, tmp_path, witnesses=(own_address,), witness_quorum=1), world.store)
