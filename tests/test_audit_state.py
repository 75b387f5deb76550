"""What an audit leaves for the next one: kept whole in a private file, and believed only if it is."""

import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import replay, rules
from ledger.archive import write_archive
from ledger.audit import AuditInterruptedError, Terms
from ledger.audit_database import audit_database
from ledger.audit_state import (
    AuditState,
    AuditStateError,
    read_audit_state,
    restore_state,
    save_state,
    write_audit_state,
)
from ledger.checkpoint import encode_verifier_key
from ledger.operations import ReplaceLogKey
from ledger.published_log import audit_published_log, folder_fetch
from ledger.store import Store, open_engine
from tests.tampering import Sound
from tests.worlds import ORIGIN, World


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A ledger with every kind of operation."""
    return Sound(f"sqlite:///{tmp_path_factory.mktemp('sound') / 'ledger.sqlite'}")


@pytest.fixture(scope="module")
def state(sound: Sound) -> AuditState:
    """What its audit leaves."""
    return audited(sound)


def audited(sound: Sound, *, light: bool = False) -> AuditState:
    kept: list[AuditState] = []
    engine = open_engine(sound.url)
    assert audit_database(Store(engine, ORIGIN), light=light, processes=0, keep=kept.append).ok
    engine.dispose()
    return kept[0]


@pytest.mark.parametrize("light", [False, True])
def test_state_is_read_as_it_was_written(sound: Sound, tmp_path: Path, light: bool) -> None:
    """Every part of it, of both kinds of audits; in a file that is its owner's alone, in place of an earlier one."""
    kept, path = audited(sound, light=light), tmp_path / "new" / "coalition.audit"
    for _ in range(2):
        write_audit_state(path, kept)
        assert read_audit_state(path) == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["coalition.audit"]


def test_restored_state_is_the_one_that_was_saved(state: AuditState) -> None:
    """The index of dated lots, which is not kept, included."""
    restored = restore_state(ORIGIN, state.state)
    assert save_state(restored) == state.state
    again = restore_state(ORIGIN, save_state(restored))
    assert (again.dated, again.lots, again.recorded) == (restored.dated, restored.lots, restored.recorded)
    assert restored.dated
    assert list(restored.recorded.values()) == list(range(state.position.size))


def test_no_file_is_no_state(tmp_path: Path) -> None:
    """The first audit begins at genesis."""
    assert read_audit_state(tmp_path / "absent") is None


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_damaged_state_is_refused(
    state: AuditState, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any changed, missing or added byte: what is not as it was written is not gone on from."""
    path = tmp_path_factory.mktemp("state") / "coalition.audit"
    write_audit_state(path, state)
    content = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
    path.write_bytes(data.draw(st.sampled_from([flipped, content[:at], content + b"\x00"])))
    with pytest.raises(AuditStateError, match="audit anew, into another file"):
        read_audit_state(path)


def test_state_that_others_can_change_is_refused(state: AuditState, tmp_path: Path) -> None:
    """Whoever can write it decides what the next audit believes."""
    path = tmp_path / "coalition.audit"
    write_audit_state(path, state)
    path.chmod(0o620)
    with pytest.raises(AuditStateError, match="can be changed by others"):
        read_audit_state(path)


class Interrupt:
    """Sends this process SIGINT, as a terminal does, once so many entries are done; keeps what the audit kept."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.kept: list[AuditState] = []
        self.seen: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if done >= self.after:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that a small ledger has several of."""
    monkeypatch.setattr("ledger.audit_database.CHUNK", 50)


def interrupted(world: World, after: int, terms: Terms | None = None, resume: AuditState | None = None) -> AuditState:
    """What an audit keeps that is interrupted."""
    interrupt = Interrupt(after)
    with pytest.raises(AuditInterruptedError):
        audit_database(world.store, terms, processes=0, progress=interrupt, keep=interrupt.kept.append, resume=resume)
    (state,) = interrupt.kept
    return state


def test_interrupted_audit_goes_on_where_it_was(world: World) -> None:
    """What was replayed and compared by then is not read again."""
    world.add_members(400)
    state = interrupted(world, 100)
    assert state.position.size == 100
    world.add_members(20)
    rest = Interrupt(10_000)
    report = audit_database(world.store, processes=0, resume=state, keep=rest.kept.append, progress=rest)
    assert (report.failures, report.first, report.size) == ((), 100, 421)
    assert rest.seen[-1] == (321, 321)
    assert rest.kept[0].position.size == 421
    assert report.root == audit_database(world.store, processes=0).root


@pytest.mark.parametrize("at", [10, 60, 120])
def test_interrupt_anywhere_leaves_no_row_uncompared(world: World, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """In the middle of replaying an entry too: what is kept ends with the last chunk that was compared."""
    world.add_members(160)
    shop = world.add_merchant()
    world.add_asset(shop)
    apply = rules.apply

    def interrupt_within(*arguments: Any) -> None:
        apply(*arguments)
        if arguments[3] == at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(replay, "apply", interrupt_within)
    kept: list[AuditState] = []
    with pytest.raises(AuditInterruptedError):
        audit_database(world.store, processes=0, keep=kept.append)
    assert kept[0].position.size == (at // 50 + 1) * 50
    assert len(kept[0].state.recorded) // 32 == kept[0].position.size
    monkeypatch.setattr(replay, "apply", apply)
    report = audit_database(world.store, processes=0, resume=kept[0])
    assert (report.failures, report.first) == ((), kept[0].position.size)


def test_second_interrupt_ends_it_at_once_and_keeps_nothing(world: World) -> None:
    """For whoever does not want to wait for the chunk."""
    world.add_members(200)
    kept: list[AuditState] = []

    def stop(_done: int, _total: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        audit_database(world.store, processes=0, progress=stop, keep=kept.append)
    assert kept == []
    assert signal.getsignal(signal.SIGINT) is before


def test_log_that_cannot_be_reached_any_more_is_gone_on_with_later(world: World, tmp_path: Path) -> None:
    """What was verified before the connection broke is kept, and the error told."""
    world.add_members(999)
    write_archive(world.store, tmp_path / "log")
    fetch = folder_fetch(tmp_path / "log")
    kept: list[AuditState] = []

    def broken(name: str) -> bytes:
        if "entries/003" in name:
            raise OSError("no route to host")
        return fetch(name)

    with pytest.raises(OSError, match="no route to host"):
        audit_published_log(broken, processes=0, keep=kept.append)
    assert kept[0].position.size == 768
    report = audit_published_log(fetch, processes=0, resume=kept[0])
    assert (report.failures, report.first, report.size) == ((), 768, 1_000)


def test_interrupted_audit_of_an_unsound_ledger_keeps_nothing(world: World) -> None:
    """What it read until then is not to be relied on."""
    world.add_members(200)
    with world.engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        if world.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        else:
            connection.exec_driver_sql("DROP TRIGGER entry_refuses_update")
        connection.exec_driver_sql("UPDATE entry SET kind = 'grant' WHERE seq = 10")
    interrupt = Interrupt(100)
    with pytest.raises(KeyboardInterrupt):
        audit_database(world.store, processes=0, progress=interrupt, keep=interrupt.kept.append)
    assert interrupt.kept == []


def test_interrupted_audit_without_somewhere_to_keep_is_just_interrupted(world: World) -> None:
    """As any command is."""
    with pytest.raises(KeyboardInterrupt):
        audit_database(world.store, processes=0, progress=Interrupt(1))


def fork(folder: Path, parting: int, size: int, *, branch: int) -> World:
    """A ledger whose entries are the same for every branch up to where they part."""
    world = World(f"sqlite:///{folder / f'{branch}.sqlite'}", seed=3)
    world.add_members(parting - 1)
    world.random.seed(branch)
    world.add_members(size - parting)
    return world


def note_of(world: World) -> str:
    with world.store.read() as connection:
        return world.store.head(connection).checkpoint


def test_checkpoint_that_was_not_reached_is_not_forgotten(tmp_path: Path) -> None:
    """However often an audit is interrupted: what the log signed once, it is held to in the end."""
    one, other = (fork(tmp_path, 300, 600, branch=branch) for branch in (1, 2))
    with one, other:
        state = interrupted(one, 100)
        assert state.checkpoints == (note_of(one),)
        again = interrupted(other, 50, resume=state)
        assert note_of(one) in again.checkpoints
        for resume in (state, again):
            report = audit_database(other.store, processes=0, resume=resume)
            assert [(failure.check, failure.seq) for failure in report.failures] == [("history", None)]
        held = interrupted(other, 100, Terms(kept=note_of(one)))
        assert {f.check for f in audit_database(other.store, processes=0, resume=held).failures} == {"history"}
        assert audit_database(one.store, processes=0, resume=state).ok
        assert audit_database(other.store, processes=0).ok


def test_only_a_key_that_signed_stands_for_the_log(tmp_path: Path) -> None:
    """A key that an entry only names is not known to be the log's because another one was given with it."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        first, second = world.log_key, world.make_key()
        names = [encode_verifier_key(ORIGIN, key) for key in (first, second)]
        with world.make_sequencer(first, second) as sequencer:
            sequencer.submit([world.operator.sign(ReplaceLogKey, log_key=names[1])]).result(60)
        world.restart(second)
        world.add_members(1)
        kept: list[AuditState] = []
        assert audit_database(world.store, Terms(log_keys=tuple(names)), processes=0, keep=kept.append).ok
        assert kept[0].log_keys == (names[1],)


def test_state_of_another_owner_is_refused(state: AuditState, tmp_path: Path) -> None:
    """Whoever owns a file can change it."""
    path = tmp_path / "coalition.audit"
    write_audit_state(path, state)
    if os.geteuid() != 0:
        return  # who is not root cannot give a file away
    os.chown(path, 65_534, 65_534)
    with pytest.raises(AuditStateError, match="can be changed by others"):
        read_audit_state(path)
