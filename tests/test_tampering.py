"""Who detects what: every kind of tampering against every kind of auditor, as the README's table says it."""

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from ledger import log
from ledger.archive import write_archive
from ledger.audit import Terms
from ledger.audit_state import AuditState
from ledger.checkpoint import decode_checkpoint, decode_note, decode_verifier_key, encode_verifier_key
from ledger.published_log import audit_published_log, folder_fetch
from ledger.store import Store, open_engine
from ledger.witness import Witness, WitnessState, encode_request
from tests.tampering import Copy, Insider, Sound, copy_sqlite
from tests.witnesses import WITNESS_KEY
from tests.worlds import ORIGIN

README = Path(__file__).parent.parent / "README.md"

COLUMNS = ("database", "database, light", "log", "log, light", "log, light, kept checkpoint", "going on", "witness")
"""Who looks: a full or a light audit of the database or of the published log, one with a checkpoint kept from before,
one of the database that goes on from where it ended, a witness that is offered the new checkpoint."""


def edit_balance(copy: Copy) -> None:
    copy.execute("UPDATE lot SET points = points + 1 WHERE account = '{alice}' AND asset = 'STAR'")


def edit_posting(copy: Copy) -> None:
    copy.execute("UPDATE posting SET amount = amount + 1 WHERE seq = {transfer} AND leg = 1")


def edit_tile(copy: Copy) -> None:
    copy.execute("UPDATE tile SET hashes = zeroblob(8192)")


def edit_entry(copy: Copy) -> None:
    copy.execute("UPDATE entry SET data = CAST(replace(data, '30,', '31,') AS BLOB) WHERE seq = {transfer}")


def cut_off_without_key(copy: Copy) -> None:
    insider = Insider(copy)
    connection = sqlite3.connect(str(make_url(copy.url).database))
    (note,) = connection.execute("SELECT checkpoint FROM head").fetchone()
    connection.close()
    del insider.entries[-1]
    insider.rewrite(lambda _: str(note))


def change_operation(copy: Copy) -> None:
    insider = Insider(copy)
    entry = insider.entry("transfer")
    entry["op"]["recipients"][0]["amount"] += 1
    entry["postings"][0]["amount"] -= 1
    entry["postings"][1]["amount"] += 1
    insider.rewrite()


def change_postings(copy: Copy) -> None:
    insider = Insider(copy)
    insider.entry("transfer")["postings"][1]["account"] = insider.names["shop"]
    insider.rewrite()


def act_without_authority(copy: Copy) -> None:
    insider = Insider(copy)
    entry = insider.entry("transfer")
    entry["sigs"] = [insider.sign(entry["op"], insider.operator_key)]
    insider.rewrite()


def cut_off(copy: Copy) -> None:
    insider = Insider(copy)
    del insider.entries[-1]
    insider.rewrite()


def rewrite_within_rules(copy: Copy) -> None:
    insider = Insider(copy)
    insider.entries[-1]["time"] = insider.entries[-1]["time"][:-4] + "999Z"
    insider.rewrite()


TAMPERINGS: dict[str, Callable[[Copy], None]] = {
    "a balance is edited": edit_balance,
    "a row of the postings is edited": edit_posting,
    "a Merkle tile is edited": edit_tile,
    "an entry's bytes are edited": edit_entry,
    "the last entry is cut off, the head made to fit": cut_off_without_key,
    "an operation is changed": change_operation,
    "an entry's postings are changed": change_postings,
    "an operation is signed by a key without authority": act_without_authority,
    "the last entry is cut off": cut_off,
    "history is rewritten within the rules": rewrite_within_rules,
}
"""From "an operation is changed" on, all that follows is recomputed, and the checkpoint signed with the log's key."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A ledger with every kind of operation."""
    return Sound(f"sqlite:///{tmp_path_factory.mktemp('sound') / 'ledger.sqlite'}")


class Auditors:
    """Everyone who looks at a ledger; each has seen it while it was sound."""

    def __init__(self, copy: Copy, folder: Path) -> None:
        self.copy = copy
        self.folder = folder
        self.log_key = encode_verifier_key(ORIGIN, copy.names["log_key"])
        self.witness = Witness(
            "witness.example/w",
            WITNESS_KEY,
            [decode_verifier_key(self.log_key)],
            WitnessState(folder / "witness.sqlite"),
            lambda: 1_800_000_000_000,
        )
        self.offered = 0
        assert not self.offer()
        kept: list[AuditState] = []
        assert copy.audit(keep=kept.append).ok
        (self.state,) = kept

    def look(self) -> dict[str, bool]:
        """Who finds something wrong, each by itself."""
        published = self.publish()
        terms = Terms(log_keys=(self.log_key,))
        held = Terms(log_keys=(self.log_key,), kept=self.state.checkpoints[0])
        looks = {
            "database": self.copy.audit(log_keys=terms.log_keys),
            "database, light": self.copy.audit(log_keys=terms.log_keys, light=True),
            "log": audit_published_log(published, terms, processes=0),
            "log, light": audit_published_log(published, terms, light=True, processes=0),
            "log, light, kept checkpoint": audit_published_log(published, held, light=True, processes=0),
            "going on": self.copy.audit(log_keys=terms.log_keys, resume=self.state),
        }
        return {name: not report.ok for name, report in looks.items()} | {"witness": self.offer()}

    def publish(self) -> Callable[[str], bytes]:
        """The log as it is published now."""
        folder = self.folder / "published"
        engine = open_engine(self.copy.url)
        write_archive(Store(engine, ORIGIN), folder)
        engine.dispose()
        return folder_fetch(folder)

    def offer(self) -> bool:
        """Offer the newest checkpoint to the witness; whether it is refused."""
        engine = open_engine(self.copy.url)
        store = Store(engine, ORIGIN)
        with store.read() as connection:
            note = store.head(connection).checkpoint
            size = decode_checkpoint(decode_note(note).text).size
            old = min(self.offered, size)
            stored = store.head(connection).size
            proof = log.prove_consistency(store, connection, old, size) if old < size <= stored else []
        engine.dispose()
        answer = self.witness.add_checkpoint(encode_request(self.offered, proof, note))
        self.offered = size
        return answer.status != 200


SPLIT_VIEW = "two histories are shown to two clients"


def readme_table() -> dict[str, dict[str, bool]]:
    """The README's table, by what was done and by who looks."""
    section = README.read_text("utf-8").partition("### What is detected by whom")[2].partition("\n#")[0]
    head, _, *rows = (
        [cell.strip() for cell in row.split("|")] for row in re.findall(r"^\|(.+)\|$", section, re.MULTILINE)
    )
    assert tuple(head[1:]) == COLUMNS
    marks = {"yes": True, "–": False}
    return {what: dict(zip(COLUMNS, (marks[cell] for cell in cells), strict=True)) for what, *cells in rows}


def test_table_of_the_readme_has_every_row() -> None:
    assert set(readme_table()) == {*TAMPERINGS, SPLIT_VIEW}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_detected_by_whom_the_readme_says(sound: Sound, tmp_path: Path, what: str) -> None:
    """No more and no less: a table that promises too much is worse than none."""
    copy = copy_sqlite(sound, tmp_path)
    auditors = Auditors(copy, tmp_path)
    assert not any(auditors.look().values())
    TAMPERINGS[what](copy)
    (tmp_path / "published").rename(tmp_path / "before")
    assert auditors.look() == readme_table()[what]


def test_split_view_is_detected_by_the_witness_alone(sound: Sound, tmp_path: Path) -> None:
    """Each client is shown a sound ledger, and has kept a checkpoint of before the histories part."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = copy_sqlite(sound, tmp_path / "one"), copy_sqlite(sound, tmp_path / "two")
    parting = Insider(one)
    del parting.entries[-1]
    for copy in (one, two):
        before = Insider(copy)
        before.entries = list(parting.entries)
        before.rewrite()
    clients = [Auditors(one, tmp_path / "one"), Auditors(two, tmp_path / "two")]
    clients[1].witness = clients[0].witness  # whom both rely on
    for copy, time in ((one, "001Z"), (two, "002Z")):
        last = Insider(copy)
        entry = Insider(Copy(sound.url, sound.names)).entries[-1]
        last.entries.append(entry | {"time": entry["time"][:-4] + time})
        last.rewrite()
    looks = [client.look() for client in clients]
    assert looks[0] == dict.fromkeys(COLUMNS, False)
    assert looks[1] == readme_table()[SPLIT_VIEW]
