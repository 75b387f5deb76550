"""The audit of a log as it is published: an archive in a folder, read as any client of tiled logs would."""

import base64
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.archive import write_archive
from ledger.audit import CHECKS, FULL_CHECKS, LIGHT_CHECKS, AuditReport, Terms
from ledger.audit_database import audit_database
from ledger.audit_state import AuditState, AuditStateError, restore_state, save_state
from ledger.checkpoint import cosign_checkpoint, decode_witness_key, encode_verifier_key, encode_witness_key
from ledger.cosignatures import StoredCosignature, keep_cosignature
from ledger.entries import decode_entry, encode_entry, leaf_hash
from ledger.operations import ReplaceLogKey
from ledger.published_log import LogError, audit_published_log, folder_fetch
from ledger.replay import BrokenEntryError, FullReplay, LightReplay
from ledger.state import State
from ledger.store import Store, open_engine
from tests.naive import canonical
from tests.tampering import Copy, Insider, Sound, copy_sqlite
from tests.worlds import ORIGIN, World

Rename = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A ledger with every kind of operation and one full tile."""
    return Sound(f"sqlite:///{tmp_path_factory.mktemp('sound') / 'ledger.sqlite'}")


@pytest.fixture
def folder(sound: Sound, tmp_path: Path) -> Path:
    """Its archive."""
    return publish(Copy(sound.url, sound.names), tmp_path / "log")


def publish(copy: Copy, folder: Path) -> Path:
    """The archive of a ledger, whatever became of it."""
    engine = open_engine(copy.url)
    write_archive(Store(engine, ORIGIN), folder)
    engine.dispose()
    return folder


def audit_folder(folder: Path, **options: Any) -> AuditReport:
    """The report on an archive; what is not one of the audit's terms is an option of it."""
    names = Terms.__struct_fields__
    terms = Terms(**{name: options.pop(name) for name in names if name in options})
    return audit_published_log(folder_fetch(folder), terms, **{"processes": 0} | options)


def found(report: AuditReport) -> list[tuple[str, int | None]]:
    """The checks that failed, and where."""
    assert {failure.check for failure in report.failures} <= set(report.counts) <= set(CHECKS)
    return [(failure.check, failure.seq) for failure in report.failures]


@pytest.mark.parametrize("light", [False, True])
def test_sound_archive_passes_with_everything_counted(sound: Sound, folder: Path, light: bool) -> None:
    """What can be checked of files alone is, and leads to the root that the database's audit finds."""
    report = audit_folder(folder, light=light)
    assert report.failures == ()
    database = Copy(sound.url, sound.names).audit()
    assert (report.origin, report.size, report.root) == (database.origin, database.size, database.root)
    assert report.log_key == database.log_key
    assert set(report.counts) == set(LIGHT_CHECKS if light else FULL_CHECKS)
    for check in set(report.counts) - {"tiles", "history", "witnesses", "log_keys"}:
        assert report.counts[check] == database.counts[check], check
    assert report.counts["tiles"] == 3  # a full one and the last two of their levels, which no database stores
    assert (report.light, report.first) == (light, 0)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_file_is_needed(folder: Path) -> None:
    """An archive that lacks any of its files is none, or fails where the file is missed."""
    assert len(files(folder)) == 6
    for name in files(folder):
        (folder / name).rename(folder / "aside")
        if name == "checkpoint":
            with pytest.raises(LogError, match="it has no checkpoint"):
                audit_folder(folder)
        else:
            kind = "entries" if "entries" in name else "tiles"
            for light in (False, True):
                assert kind in {check for check, _ in found(audit_folder(folder, light=light))}, name
        (folder / "aside").rename(folder / name)
    assert audit_folder(folder).ok


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_of_any_file_is_found(
    sound: Sound, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Flipped, cut off or added: no byte of an archive is beyond doubt, in a light audit either."""
    folder = publish(Copy(sound.url, sound.names), tmp_path_factory.mktemp("log") / "log")
    path = folder / data.draw(st.sampled_from(files(folder)))
    content = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
    changed = data.draw(st.sampled_from([flipped, content[:at], content + content[at:], content + b"\n"]))
    path.write_bytes(changed)
    # A line by which another key signed the checkpoint may become one of a key that nobody knows: those are ignored.
    signed = content[: content.index(b"\n", content.index(b"\n\n") + 2) + 1] if path.name == "checkpoint" else content
    for light in (False, True):
        try:
            report = audit_folder(folder, light=light)
        except LogError:
            assert path.name == "checkpoint"
        else:
            assert not report.ok or (path.name == "checkpoint" and changed.startswith(signed))
    shutil.rmtree(folder)


def test_what_is_no_log_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    """An empty folder, and one whose checkpoint is something else."""
    with pytest.raises(LogError, match="it has no checkpoint"):
        audit_folder(tmp_path)
    for content in (b"", b"hello\n", b"\xff\xfe", b"ledger.example/test\nx\n\n"):
        (tmp_path / "checkpoint").write_bytes(content)
        with pytest.raises(LogError, match="what is called checkpoint is none"):
            audit_folder(tmp_path)


def test_only_the_log_one_was_told_about_passes(sound: Sound, folder: Path) -> None:
    """Either key of the log will do, the one before the change too; a stranger's will not."""
    insider = Insider(Copy(sound.url, sound.names))
    for key in (insider.first_log_key, insider.log_key):
        assert audit_folder(folder, log_keys=(encode_verifier_key(ORIGIN, key),)).ok
    stranger = encode_verifier_key(ORIGIN, insider.operator_key)
    assert found(audit_folder(folder, log_keys=(stranger,))) == [("checkpoint", 0)]


def test_checkpoint_without_the_key_in_force_is_refused(sound: Sound, tmp_path: Path) -> None:
    """The log's first key signs for it no more, though clients that know only that one would believe it."""
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    insider.log_key = insider.first_log_key
    insider.rewrite()
    report = audit_folder(publish(copy, tmp_path / "log"), log_keys=(encode_verifier_key(ORIGIN, insider.log_key),))
    assert found(report) == [("checkpoint", None)]


def test_light_audit_believes_no_log_key_the_operator_did_not_sign_for(sound: Sound, tmp_path: Path) -> None:
    """The few rules that say which key signs the log are applied in a light audit too."""
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    stolen = insider.entry("replace_log_key")
    stolen["sigs"] = [insider.sign(stolen["op"], insider.log_key)]
    insider.rewrite()
    folder = publish(copy, tmp_path / "log")
    for light, check in ((True, "log_keys"), (False, "rules")):
        assert found(audit_folder(folder, light=light))[0] == (check, sound.names["replace_log_key"])


def test_ledger_that_only_names_anothers_log_key_is_refused(tmp_path: Path) -> None:
    """A genesis may name any key, and another entry replace it: the key one knows has to have signed something."""
    victim = Ed25519PrivateKey.generate()
    copy = Sound(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    insider = Insider(Copy(copy.url, copy.names))
    genesis = insider.entries[0]
    genesis["op"]["log_key"] = encode_verifier_key(ORIGIN, victim)
    genesis["sigs"] = [insider.sign(genesis["op"], insider.operator_key)]
    operator = f"opr_{account_text(genesis['op'])}"
    insider.entries[1:] = [insider.entry("replace_log_key")]
    replaced = insider.entries[1]
    replaced["op"]["actor"] = operator
    replaced["sigs"] = [insider.sign(replaced["op"], insider.operator_key)]
    insider.rewrite()
    folder = publish(Copy(copy.url, copy.names), tmp_path / "log")
    for light in (False, True):
        assert audit_folder(folder, light=light).ok
        known = audit_folder(folder, light=light, log_keys=(encode_verifier_key(ORIGIN, victim),))
        assert found(known) == [("checkpoint", None)]
        assert "has signed" in known.failures[0].message


def account_text(op: dict[str, Any]) -> str:
    """What follows the prefix in the id of the account that an operation opens."""
    return base64.b32encode(hashlib.sha256(canonical(op)).digest()[:16]).decode().lower().rstrip("=")


def test_known_key_goes_on_to_stand_for_a_log_that_changed_keys(tmp_path: Path) -> None:
    """Whoever audited under the first key follows the change, as the operator signed it; whoever comes anew asks."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        first = (encode_verifier_key(ORIGIN, world.log_key),)
        kept: list[AuditState] = []
        assert audit_database(world.store, Terms(log_keys=first), keep=kept.append, processes=0).ok
        with world.store.read() as connection:
            note = world.store.head(connection).checkpoint
        new = world.make_key()
        with world.make_sequencer(world.log_key, new) as sequencer:
            change = world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(ORIGIN, new))
            sequencer.submit([change]).result(60)
        assert audit_database(world.store, Terms(log_keys=first), processes=0).ok  # both have signed this one
        world.restart(new)
        for _ in range(2):
            world.add_members(1)
            report = audit_database(world.store, Terms(log_keys=first), resume=kept[-1], keep=kept.append, processes=0)
            assert report.failures == ()
        assert audit_database(world.store, Terms(log_keys=first, kept=note), processes=0).ok
        assert found(audit_database(world.store, Terms(log_keys=first), processes=0)) == [("checkpoint", None)]
        second = (encode_verifier_key(ORIGIN, new),)
        assert audit_database(world.store, Terms(log_keys=second), processes=0).ok
        write_archive(world.store, tmp_path / "log")
        assert audit_folder(tmp_path / "log", resume=kept[1], log_keys=first).ok


def test_stolen_key_of_the_operator_is_not_brought_back_by_an_old_document(world: World) -> None:
    """A light replay knows the operations it has applied: one that put a key in force cannot be recorded again."""
    stolen, new_log_key = world.make_key(), world.make_key()
    to_stolen = world.operator.replace_keys([stolen])
    thief = world.wallet(world.operator.account, stolen)
    world.record(to_stolen)
    world.record(thief.replace_keys(world.operator.keys))
    theft = thief.sign(ReplaceLogKey, log_key=encode_verifier_key(ORIGIN, new_log_key))
    with world.store.read() as connection:
        stored = world.store.entry_data(connection, range(3))
    entries = [stored[seq] for seq in range(3)]
    time = decode_entry(entries[-1]).time
    for signed in (to_stolen, theft):
        entries.append(encode_entry(signed, (), seq=len(entries), prev=leaf_hash(entries[-1]), time=time))
    for kind, check in ((LightReplay, "log_keys"), (FullReplay, "operation_ids")):
        replay = kind(ORIGIN, lambda *_: None)
        for data in entries[:3]:
            replay.add(data)
        with pytest.raises(BrokenEntryError, match="recorded in entry 1 before") as broken:
            replay.add(entries[3])
        assert broken.value.check == check
        state = kept_state(replay)
        with pytest.raises(BrokenEntryError, match="recorded in entry 1 before"):
            kind(ORIGIN, lambda *_: None, replay.position(), state).add(entries[3])


def kept_state(replay: LightReplay) -> State:
    """A replay's state as the next audit has it."""
    return restore_state(ORIGIN, save_state(replay.state))


TWICE = (b'"kind":"', b'"kind":"genesis","kind":"')
SPACED = (b'"kind":"', b'"kind": "')
FRACTION = (b'"guerdon":1', b'"guerdon":1.0')
ESCAPED = (b"member", b"\\u006dember")
SPACED_POSTINGS = (b'"postings":[]', b'"postings":[ ]')


@pytest.mark.parametrize("change", [TWICE, SPACED, FRACTION, ESCAPED, SPACED_POSTINGS])
def test_bytes_that_are_not_canonical_are_refused_by_both(world: World, change: tuple[bytes, bytes]) -> None:
    """What one reader takes for one thing, another may take for something else."""
    world.add_members(1)
    with world.store.read() as connection:
        stored = world.store.entry_data(connection, range(2))
    for kind in (LightReplay, FullReplay):
        replay = kind(ORIGIN, lambda *_: None)
        replay.add(stored[0])
        with pytest.raises(BrokenEntryError) as broken:
            replay.add(stored[1].replace(*change, 1))
        assert broken.value.check == "entries"


# What a light audit sees, and what it does not


def raise_amount(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["op"]["recipients"][0]["amount"] += 1
    entry["postings"][0]["amount"] -= 1
    entry["postings"][1]["amount"] += 1


def unbalance(insider: Insider) -> None:
    insider.entry("grant")["postings"][1]["amount"] += 1


def drop_signatures(insider: Insider) -> None:
    insider.entry("transfer")["sigs"] = []


def go_back_in_time(insider: Insider) -> None:
    insider.entry("transfer")["time"] = "2026-03-02T11:59:59.999Z"


def of_another_ledger(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["op"]["ledger"] = "ledger.example/other"
    entry["sigs"] = [insider.sign(entry["op"], insider.operator_key)]


def redirect_posting(insider: Insider) -> None:
    insider.entry("transfer")["postings"][1]["account"] = insider.names["shop"]


def repeat_operation(insider: Insider) -> None:
    insider.entries.append(dict(insider.entry("last")))


def sign_as_stranger(insider: Insider) -> None:
    entry = insider.entry("transfer")
    entry["sigs"] = [insider.sign(entry["op"], insider.operator_key)]


SEEN_BY_LIGHT: list[tuple[Callable[[Insider], None], str, str]] = [
    (raise_amount, "signatures", "transfer"),
    (drop_signatures, "signatures", "transfer"),
    (unbalance, "conservation", "grant"),
    (go_back_in_time, "chain", "transfer"),
    (of_another_ledger, "chain", "transfer"),
]
SEEN_BY_FULL_ONLY = [redirect_posting, repeat_operation, sign_as_stranger]


@pytest.mark.parametrize(("change", "check", "entry"), SEEN_BY_LIGHT, ids=[row[0].__name__ for row in SEEN_BY_LIGHT])
def test_light_audit_finds_what_needs_no_rules(
    sound: Sound, tmp_path: Path, change: Callable[[Insider], None], check: str, entry: str
) -> None:
    """In a history that was otherwise computed and signed anew."""
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    change(insider)
    insider.rewrite()
    report = audit_folder(publish(copy, tmp_path / "log"), light=True)
    assert found(report)[0] == (check, sound.names[entry])
    assert not copy.audit(light=True).ok


@pytest.mark.parametrize("change", SEEN_BY_FULL_ONLY)
def test_what_breaks_a_rule_takes_a_full_audit(sound: Sound, tmp_path: Path, change: Callable[[Insider], None]) -> None:
    """The light audit passes: that is what it costs."""
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    change(insider)
    insider.rewrite()
    folder = publish(copy, tmp_path / "log")
    assert audit_folder(folder, light=True).ok
    assert not audit_folder(folder).ok


def test_light_audit_keeps_nothing_that_grows_with_the_chain(sound: Sound, folder: Path) -> None:
    """Of the state it has the operator's account and the log's keys; of the tiles, those that are not full."""
    kept: list[AuditState] = []
    audit_folder(folder, light=True, keep=kept.append)
    (state,) = kept
    saved = state.state
    assert [account.role for account in saved.accounts] == ["operator"]
    assert (saved.assets, saved.programs, saved.lots, saved.references) == ((), (), (), ())
    assert saved.recorded_in == (0, sound.names["replace_log_key"])
    assert len(saved.log_keys) == 2
    full = sound.names["size"] // 256
    assert [len(hashes) // 32 for hashes in state.position.open_tiles] == [sound.names["size"] % 256, full]


# Going on


def watched(folder: Path) -> tuple[Callable[[str], bytes], list[str]]:
    """Files of an archive, and the names of those that were read."""
    read: list[str] = []
    fetch = folder_fetch(folder)

    def watch(name: str) -> bytes:
        read.append(name)
        return fetch(name)

    return watch, read


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize(("old", "new"), [(3, 2), (200, 400), (253, 10), (256, 300), (600, 1), (700, 0)])
def test_audit_goes_on_where_it_ended(tmp_path: Path, old: int, new: int, light: bool) -> None:
    """Of what was audited before no bundle is read but the one that is continued, and the outcome is the same."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        folder = tmp_path / "log"
        kept: list[AuditState] = []
        world.add_members(old - 1)
        write_archive(world.store, folder)
        assert audit_folder(folder, light=light, keep=kept.append).ok
        if new:
            world.add_members(new)
        write_archive(world.store, folder)
        fetch, read = watched(folder)
        report = audit_published_log(fetch, Terms(), light=light, resume=kept[0], keep=kept.append, processes=0)
        assert report.failures == ()
        whole = audit_folder(folder, light=light, keep=kept.append)
        assert (report.first, report.size, report.root) == (old, old + new, whole.root)
        assert report.counts["entries"] == new
        bundles = sorted(int(name.split("/")[2].split(".")[0]) for name in read if "entries" in name)
        assert bundles == list(range(old // 256, -(-(old + new) // 256))) if new else bundles in ([], [old // 256])
        assert kept[1] == kept[2]
        resumed = audit_database(world.store, light=light, resume=kept[0], processes=0)
        assert (resumed.failures, resumed.first, resumed.root) == ((), old, whole.root)


def kept_of(folder: Path, **options: Any) -> AuditState:
    """What an audit of an archive leaves."""
    kept: list[AuditState] = []
    assert audit_folder(folder, keep=kept.append, **options).ok
    return kept[0]


@pytest.mark.parametrize("light", [False, True])
def test_history_that_was_rewritten_is_found_before_anything_new_is_read(
    sound: Sound, folder: Path, tmp_path: Path, light: bool
) -> None:
    """Whoever has every key can make a sound ledger, but not one that begins with what was audited."""
    state = kept_of(folder, light=light)
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    insider.entries[-1]["time"] = insider.entries[-1]["time"][:-4] + "999Z"
    insider.rewrite()
    other = publish(copy, tmp_path / "other")
    assert audit_folder(other, light=light).ok
    fetch, read = watched(other)
    report = audit_published_log(fetch, Terms(), light=light, resume=state, processes=0)
    assert ("history", None) in found(report)
    assert not [name for name in read if "entries" in name]
    assert ("history", None) in found(copy.audit(light=light, resume=state))


@pytest.mark.parametrize("cut", [1, 40])
def test_log_that_shrank_is_found(sound: Sound, folder: Path, tmp_path: Path, cut: int) -> None:
    """Though what is left of it is sound, and signed."""
    state = kept_of(folder)
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    del insider.entries[-cut:]
    insider.rewrite()
    report = audit_folder(publish(copy, tmp_path / "other"), resume=state)
    assert ("history", sound.names["size"] - cut) in found(report)


def test_entry_changed_after_it_was_audited_takes_an_audit_from_genesis(sound: Sound, tmp_path: Path) -> None:
    """An audit that goes on does not read the old entries: it relies on having read them."""
    copy = copy_sqlite(sound, tmp_path)
    kept: list[AuditState] = []
    assert copy.audit(keep=kept.append).ok
    copy.execute("UPDATE entry SET data = :data WHERE seq = {transfer}", data=b"{{}}")
    assert copy.audit(resume=kept[0]).ok
    assert found(copy.audit())[0] == ("entries", sound.names["transfer"])


def test_projection_changed_after_it_was_audited_is_found_by_the_next(sound: Sound, tmp_path: Path) -> None:
    """Tables of what is now are compared whole every time."""
    copy = copy_sqlite(sound, tmp_path)
    kept: list[AuditState] = []
    assert copy.audit(keep=kept.append).ok
    copy.execute("UPDATE lot SET points = points + 1 WHERE account = '{alice}' AND asset = 'STAR'")
    assert found(copy.audit(resume=kept[0])) == [("projections", None)]


def test_state_of_another_audit_is_refused(folder: Path) -> None:
    """A light audit cannot go on as a full one, which would lack the state, nor a full one as a light one."""
    with pytest.raises(AuditStateError, match=r"what was kept is of a light audit of .*, this is a full audit"):
        audit_folder(folder, resume=kept_of(folder, light=True))
    with pytest.raises(AuditStateError, match=r"what was kept is of a full audit of .*, this is a light audit"):
        audit_folder(folder, light=True, resume=kept_of(folder))


def test_nothing_is_kept_of_a_ledger_that_fails(sound: Sound, tmp_path: Path) -> None:
    """The next audit begins where the last sound one ended."""
    copy = copy_sqlite(sound, tmp_path)
    insider = Insider(copy)
    redirect_posting(insider)
    insider.rewrite()
    kept: list[AuditState] = []
    assert not copy.audit(keep=kept.append).ok
    assert not audit_folder(publish(copy, tmp_path / "log"), keep=kept.append).ok
    assert kept == []


# Witnesses


NAMES = ("witness.example/one", "witness.example/two", "witness.example/three")


def cosign(folder: Path, world: World, *numbers: int) -> list[str]:
    """Have witnesses cosign an archive's checkpoint; the verifier keys of all."""
    keys = [world.make_key() for _ in NAMES]
    path = folder / "checkpoint"
    note = path.read_text("utf-8")
    for number in numbers:
        note += cosign_checkpoint(note, keys[number], NAMES[number], 1_800_000_000 + number)
    path.write_text(note, "utf-8")
    return [encode_witness_key(name, key) for name, key in zip(NAMES, keys, strict=True)]


@pytest.mark.parametrize("quorum", [1, 2, 3])
def test_checkpoint_is_held_to_the_witnesses(world: World, tmp_path: Path, quorum: int) -> None:
    """As many of those one names must have cosigned as one asks for."""
    folder = tmp_path / "log"
    world.add_members(5)
    write_archive(world.store, folder)
    witnesses = tuple(decode_witness_key(text) for text in cosign(folder, world, 0, 2))
    report = audit_folder(folder, witnesses=witnesses, quorum=quorum)
    assert report.counts["witnesses"] == 1
    assert [(c.witness, c.timestamp_s) for c in report.cosignatures] == [
        (NAMES[0], 1_800_000_000),
        (NAMES[2], 1_800_000_002),
    ]
    assert found(report) == ([] if quorum <= 2 else [("witnesses", None)])


def test_forged_cosignature_is_found(world: World, tmp_path: Path) -> None:
    """A line of a witness one knows that is not its own spoils the checkpoint, even if there are enough others."""
    folder = tmp_path / "log"
    world.add_members(5)
    write_archive(world.store, folder)
    texts = cosign(folder, world, 0, 1)
    path = folder / "checkpoint"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    line = lines[-1]
    lines[-1] = line[:-10] + ("A" if line[-10] != "A" else "B") + line[-9:]
    path.write_text("".join(lines), "utf-8")
    witnesses = tuple(decode_witness_key(text) for text in texts)
    assert found(audit_folder(folder, witnesses=witnesses, quorum=1)) == [("witnesses", None)]


def test_report_says_how_much_is_witnessed(world: World, tmp_path: Path) -> None:
    """A cosignature on a few entries says nothing of the rest."""
    key = world.make_key()
    witness = decode_witness_key(encode_witness_key(NAMES[0], key))
    with world.store.read() as connection:
        note = world.store.head(connection).checkpoint
    line = cosign_checkpoint(note, key, NAMES[0], 1_800_000_000)
    cosignature = StoredCosignature(size=1, witness=NAMES[0], timestamp_s=1_800_000_000, line=line, checkpoint=note)
    with world.store.write() as transaction:
        keep_cosignature(transaction, cosignature)
    world.add_members(20)
    report = audit_database(world.store, Terms(witnesses=(witness,), quorum=1), processes=0)
    assert report.failures == ()
    assert (report.witnessed, report.size) == (1, 21)


def test_keys_of_the_log_are_no_witnesses_of_it(world: World, tmp_path: Path) -> None:
    """Whichever of them, known before or learnt from the entries; nor does a key count twice."""
    folder = tmp_path / "log"
    write_archive(world.store, folder)
    path = folder / "checkpoint"
    note = path.read_text("utf-8")
    path.write_text(note + cosign_checkpoint(note, world.log_key, "w.example/self", 1_800_000_000), "utf-8")
    own = decode_witness_key(encode_witness_key("w.example/self", world.log_key))
    assert found(audit_folder(folder, witnesses=(own,), quorum=1)) == [("witnesses", None)]


def test_log_that_waits_for_its_witnesses_is_not_accused(world: World, tmp_path: Path) -> None:
    """Its checkpoint may be older than one that was kept: the tiles that are there show that they agree."""
    folder = tmp_path / "log"
    world.add_members(299)
    write_archive(world.store, folder)
    path = folder / "checkpoint"
    older = path.read_text("utf-8")
    world.add_members(30)
    write_archive(world.store, folder)
    newer, state = path.read_text("utf-8"), kept_of(folder)
    path.write_text(older, "utf-8")
    behind = audit_folder(folder, kept=newer)
    assert (behind.failures, behind.size) == ((), 300)
    kept: list[AuditState] = []
    again = audit_folder(folder, resume=state, keep=kept.append)
    assert (again.failures, again.first, again.size, kept) == ((), 330, 330, [])
    (folder / "tile" / "0" / "001.p" / "74").unlink()
    for report in (audit_folder(folder, kept=newer), audit_folder(folder, resume=state)):
        assert "history" in {check for check, _ in found(report)}


def test_without_witnesses_nobody_else_vouches(folder: Path, world: World) -> None:
    """A plain checkpoint fails an auditor who asks for one."""
    witness = decode_witness_key(encode_witness_key(NAMES[0], world.make_key()))
    assert found(audit_folder(folder, witnesses=(witness,), quorum=1)) == [("witnesses", None)]
