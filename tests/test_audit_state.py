"""What an audit leaves for the next one: kept whole in a private file, and believed only if it is."""

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_interrupted_audit_goes_on_where_it_was(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was verified by then is proven to be in the signed checkpoint, and kept."""
    monkeypatch.setattr("ledger.audit_database.CHUNK", 50)
    world.add_members(400)
    kept: list[AuditState] = []

    def stop(done: int, total: int) -> None:
        assert total == 401
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(AuditInterruptedError, match="after 100 entries"):
        audit_database(world.store, processes=0, progress=stop, keep=kept.append)
    (state,) = kept
    assert state.position.size == 100
    world.add_members(20)
    seen: list[tuple[int, int]] = []
    report = audit_database(
        world.store,
        processes=0,
        resume=state,
        keep=kept.append,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (report.failures, report.first, report.size) == ((), 100, 421)
    assert seen[-1] == (321, 321)
    assert kept[1].position.size == 421
    assert report.root == audit_database(world.store, processes=0).root


def test_interrupted_audit_of_an_unsound_ledger_keeps_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it read until then is not to be relied on."""
    monkeypatch.setattr("ledger.audit_database.CHUNK", 50)
    world.add_members(200)
    with world.engine.connect().execution_options(guerdon_write=True) as connection, connection.begin():
        if world.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
            connection.exec_driver_sql("UPDATE entry SET kind = 'grant' WHERE seq = 10")
        else:
            connection.exec_driver_sql("DROP TRIGGER entry_refuses_update")
            connection.exec_driver_sql("UPDATE entry SET kind = 'grant' WHERE seq = 10")
    kept: list[AuditState] = []

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_database(world.store, processes=0, progress=stop, keep=kept.append)
    assert kept == []


def test_interrupted_audit_without_somewhere_to_keep_is_just_interrupted(world: World) -> None:
    """As any command is."""

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit_database(world.store, processes=0, progress=stop)


def test_checkpoint_of_an_interrupted_audit_must_be_kept_to(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though it has not read all of it, the next audit finds a log that does not reach that far."""
    monkeypatch.setattr("ledger.audit_database.CHUNK", 50)
    world.add_members(200)
    kept: list[AuditState] = []

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(AuditInterruptedError):
        audit_database(world.store, processes=0, progress=stop, keep=kept.append)
    with world.store.read() as connection:
        claimed = world.store.head(connection)
    assert kept[0].checkpoint == claimed.checkpoint
    size = kept[0].position.size
    other = json.loads(json.dumps(kept[0].checkpoint)).replace("\n201\n", "\n202\n")
    report = audit_database(
        world.store, Terms(), processes=0, resume=AuditState(**{**_fields(kept[0]), "checkpoint": other})
    )
    assert size < 201
    assert {failure.check for failure in report.failures} == {"history"}


def _fields(state: AuditState) -> dict[str, object]:
    return {name: getattr(state, name) for name in AuditState.__struct_fields__}
