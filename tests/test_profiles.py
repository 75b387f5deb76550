"""Profiles as they are stored: bound to their member, found by keyed hashes, erased for good, and wrapped anew."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import profiles as stored
from ledger.audit_database import audit_database
from ledger.personal_data import Profile
from ledger.profiles import (
    MAX_IDENTIFIERS,
    ChangedError,
    Identifier,
    Member,
    ProfileKeyError,
    ProfileKeys,
    Profiles,
    TakenError,
    TooManyError,
    remove_identifier,
    scrub,
)
from ledger.store import CorruptionError
from ledger.tables import IDENTIFIER, PROFILE, PROFILE_ERASURE, PROFILE_KEY
from ledger.wallet import Wallet
from tests.worlds import World

PHONE = "+49301234567"
TABLES = (PROFILE, IDENTIFIER)


class Desk:
    """A world with profiles."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.key = world.make_key()
        self.profiles = self.with_keys(self.key)
        self.shop = world.add_merchant()
        self.alice, self.bob = world.add_members(2)

    def with_keys(self, *keys: Ed25519PrivateKey) -> Profiles:
        keeper = ProfileKeys(self.world.origin, keys, self.world.random.randbytes)
        return Profiles(keeper, self.world.random.randbytes)

    def member(self, wallet: Wallet, profiles: Profiles | None = None) -> Member:
        store = self.world.store
        with store.read() as connection:
            return (profiles or self.profiles).member(store, connection, str(wallet.account))

    def update(self, wallet: Wallet, profile: Profile, expected: int | None = None) -> Member:
        with self.world.store.write() as transaction:
            account = str(wallet.account)
            return self.profiles.update(transaction, account, lambda _: profile, self.world.clock(), expected)

    def add(self, wallet: Wallet, value: str = PHONE, merchant: Wallet | None = None) -> Identifier:
        named: Any = (str((merchant or self.shop).account), "phone", value)
        with self.world.store.write() as transaction:
            return self.profiles.add_identifier(
                transaction, str(wallet.account), named, added_by="member", now_ms=self.world.clock()
            )

    def find(self, value: str = PHONE, merchant: Wallet | None = None, profiles: Profiles | None = None) -> str | None:
        store = self.world.store
        with store.read() as connection:
            merchant_id = str((merchant or self.shop).account)
            found = (profiles or self.profiles).find(store, connection, merchant_id, "phone", value)
        return found.account if found is not None else None

    def erase(self, wallet: Wallet) -> None:
        with self.world.store.write() as transaction:
            self.profiles.erase(transaction, str(wallet.account), self.world.clock())
        assert scrub(self.world.store)

    def execute(self, statement: str, **values: Any) -> None:
        with self.world.store.write() as transaction:
            transaction.connection.execute(sa.text(statement), values)

    def cells(self, *tables: sa.Table) -> bytes:
        """Everything that is stored in tables, in a row."""
        with self.world.store.read() as connection:
            rows = [row for table in tables for row in connection.execute(sa.select(table))]
        cells = [cell for row in rows for cell in row]
        return b"\n".join(bytes(cell) if isinstance(cell, bytes) else str(cell).encode() for cell in cells)


@pytest.fixture
def desk(world: World) -> Desk:
    return Desk(world)


ADA = Profile(name="Ada Lovelace", email="ada@example.org", birthday="1990-12-10", language="en-GB")


def test_profile_is_read_as_it_was_written_and_stored_as_nothing_readable(desk: Desk) -> None:
    """The database has neither the fields nor a bare hash of what a member is found by."""
    assert desk.member(desk.alice) == Member(account=str(desk.alice.account))
    desk.update(desk.alice, ADA)
    added = desk.add(desk.alice)
    found = desk.member(desk.alice)
    assert (found.profile, found.revision, found.updated_at_ms) == (ADA, 1, desk.world.clock())
    assert found.identifiers == (added,)
    assert (added.value, added.last_characters) == (PHONE, "4567")
    cells = desk.cells(PROFILE, IDENTIFIER, PROFILE_KEY)
    for secret in (b"Ada", b"example.org", b"1990", b"4567", b"en-GB"):
        assert secret not in cells


def test_change_is_made_of_the_revision_that_was_read(desk: Desk) -> None:
    """Of two who change the same one, the later is told."""
    desk.update(desk.alice, ADA, 0)
    with pytest.raises(ChangedError) as refused:
        desk.update(desk.alice, Profile(), 0)
    assert refused.value.revision == 1
    assert desk.update(desk.alice, Profile(name="A"), 1).revision == 2
    assert desk.member(desk.alice).profile == Profile(name="A")


@pytest.mark.parametrize(
    "columns",
    ["sealed", "wrapped_key", "sealed, wrapped_key, revision", "revision"],
    ids=lambda text: text.replace(" ", ""),
)
def test_rows_exchanged_between_members_are_found_out(desk: Desk, columns: str) -> None:
    """What is sealed opens for its own member only, at its own revision."""
    desk.update(desk.alice, ADA)
    desk.update(desk.bob, Profile(name="Ben"))
    desk.update(desk.bob, Profile(name="Benjamin"))
    assignments = ", ".join(
        f"{name} = (SELECT other.{name} FROM profile AS other WHERE other.account = :bob)"
        for name in columns.split(", ")
    )
    accounts = {"alice": desk.alice.account, "bob": desk.bob.account}
    desk.execute(f"UPDATE profile SET {assignments} WHERE account = :alice", **accounts)
    with pytest.raises(CorruptionError) as refused:
        desk.member(desk.alice)
    assert "Ada" not in str(refused.value)
    assert desk.member(desk.bob).profile.name == "Benjamin"


@pytest.mark.parametrize("column", ["account", "merchant", "kind", "sealed"])
def test_tampered_identifier_is_found_out(desk: Desk, column: str) -> None:
    """It is its member's, its merchant's and of its kind."""
    added = desk.add(desk.alice)
    desk.add(desk.bob, "+49309999999")
    value: Any = {"account": desk.bob.account, "merchant": "mer_x", "kind": "card", "sealed": b"short"}[column]
    desk.execute(f"UPDATE identifier SET {column} = :value WHERE identifier = :id", value=value, id=added.identifier)
    with pytest.raises(CorruptionError):
        desk.member(desk.bob if column == "account" else desk.alice)


def test_identifier_is_one_account_s_at_a_merchant_and_may_be_another_s_at_the_next(desk: Desk) -> None:
    """Numbers of cards are each merchant's own; the two rows have nothing in common by which to be matched."""
    other = desk.world.add_merchant()
    first = desk.add(desk.alice)
    assert desk.add(desk.alice) == first
    with pytest.raises(TakenError):
        desk.add(desk.bob)
    desk.add(desk.bob, merchant=other)
    assert (desk.find(), desk.find(merchant=other)) == (desk.alice.account, desk.bob.account)
    assert desk.find("+49301234568") is None
    with desk.world.store.read() as connection:
        assert len(set(connection.execute(sa.select(IDENTIFIER.c.keyed_hash)).scalars())) == 2
    with desk.world.store.write() as transaction:
        assert remove_identifier(transaction, first.identifier, account=str(desk.bob.account)) is None
        assert remove_identifier(transaction, first.identifier, merchant=str(other.account)) is None
        assert remove_identifier(transaction, first.identifier, merchant=str(desk.shop.account)) == desk.alice.account
    assert desk.find() is None


def test_account_has_a_bounded_number_of_identifiers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_IDENTIFIERS == 50
    monkeypatch.setattr(stored, "MAX_IDENTIFIERS", 2)
    desk.add(desk.alice, "+49301234561")
    desk.add(desk.alice, "+49301234562")
    with pytest.raises(TooManyError):
        desk.add(desk.alice, "+49301234563")


def test_erasure_leaves_the_time_and_a_chain_that_audits_clean(desk: Desk) -> None:
    """Nothing in the ledger was the person's. The others' profiles are as before, and hers may be made again."""
    desk.update(desk.alice, ADA)
    desk.update(desk.bob, Profile(name="Ben"))
    desk.add(desk.alice)
    desk.erase(desk.alice)
    erased_at = desk.world.clock()
    assert desk.member(desk.alice) == Member(account=str(desk.alice.account), erased_at_ms=erased_at)
    assert desk.find() is None
    assert str(desk.alice.account).encode() not in desk.cells(*TABLES)
    assert desk.cells(PROFILE_ERASURE).count(str(desk.alice.account).encode()) == 1
    assert audit_database(desk.world.store).ok
    assert desk.member(desk.bob).profile.name == "Ben"
    desk.world.clock.advance(days=1)
    again = desk.update(desk.alice, Profile(name="Ada"))
    assert (again.profile.name, again.revision, again.erased_at_ms) == ("Ada", 1, erased_at)


@pytest.fixture
def sqlite_desk(tmp_path: Path) -> Iterator[Desk]:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield Desk(world)


def test_files_of_sqlite_have_nothing_left_after_an_erasure(sqlite_desk: Desk, tmp_path: Path) -> None:
    """Neither the key, nor what it had sealed, of any revision, nor the keyed hash; nor has the log beside them."""
    desk = sqlite_desk
    gone: list[bytes] = []
    for count in range(40):  # so that rows move between pages
        member = desk.world.add_member()
        desk.update(member, Profile(name=f"Somebody {count}", address=None))
    for revision in range(3):
        desk.update(desk.alice, Profile(name="Ada Lovelace " * (1 + 3 * revision)))
        desk.add(desk.alice, f"+4930123456{revision}")
        with desk.world.store.read() as connection:
            mine = sa.and_(PROFILE.c.account == desk.alice.account)
            gone += connection.execute(sa.select(PROFILE.c.sealed, PROFILE.c.wrapped_key).where(mine)).one()
            hashes = sa.select(IDENTIFIER.c.keyed_hash).where(IDENTIFIER.c.account == desk.alice.account)
            gone += connection.execute(hashes).scalars()
    scrub(desk.world.store)
    files = sorted(tmp_path.glob("ledger.sqlite*"))
    kept = b"".join(path.read_bytes() for path in files)
    assert bytes(gone[-1]) in kept  # it would be seen
    desk.erase(desk.alice)
    left = b"".join(path.read_bytes() for path in files if path.exists())
    for each in gone:
        assert bytes(each)[12:28] not in left
    assert b"Lovelace" not in left
    with sqlite3.connect(tmp_path / "ledger.sqlite") as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_reader_of_an_old_snapshot_holds_up_only_the_cleaning(
    sqlite_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erasing does not wait for it; the next one cleans up."""
    monkeypatch.setattr(stored, "_SCRUB_WAIT_MS", 10)
    desk = sqlite_desk
    desk.update(desk.alice, ADA)
    with desk.world.store.read() as connection:
        desk.world.store.head(connection)
        with desk.world.store.write() as transaction:
            desk.profiles.erase(transaction, str(desk.alice.account), 1)
        assert not scrub(desk.world.store)
    assert scrub(desk.world.store)


def test_another_profile_key_takes_over(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks; afterwards the former key opens nothing and the new one everything, looked up as before."""
    monkeypatch.setattr(stored, "REWRAP_CHUNK", 1)
    desk.update(desk.alice, ADA)
    desk.update(desk.bob, Profile(name="Ben"))
    desk.add(desk.alice)
    new = desk.world.make_key()
    both, alone = desk.with_keys(new, desk.key), desk.with_keys(new)
    with desk.world.store.read() as connection, pytest.raises(ProfileKeyError, match="GUERDON_OTHER_PROFILE_KEY_FILES"):
        alone.check(desk.world.store, connection)
    assert both.count_foreign(desk.world.store) == 2
    assert desk.member(desk.alice, both).profile == ADA
    told: list[int] = []
    assert both.rewrap(desk.world.store, told.append) == 3
    assert told == [1, 2]
    assert both.rewrap(desk.world.store) == 0
    with desk.world.store.read() as connection:
        alone.check(desk.world.store, connection)
    assert desk.member(desk.alice, alone).profile == ADA
    assert desk.find(profiles=alone) == desk.alice.account
    for former in (lambda: desk.member(desk.alice), desk.find):
        with pytest.raises(ProfileKeyError):
            former()
    with pytest.raises(ProfileKeyError):
        desk.profiles.rewrap(desk.world.store)


def test_ledgers_of_one_database_share_nothing(desk: Desk) -> None:
    """A row of one ledger opens in no other, with the same key and the same account's name."""
    desk.update(desk.alice, ADA)
    with World(desk.world.url, origin="ledger.example/other", seed=9) as other:
        other_desk = Desk(other)
        other_desk.profiles = Profiles(
            ProfileKeys(other.origin, [desk.key], other.random.randbytes), other.random.randbytes
        )
        assert other_desk.member(desk.alice) == Member(account=str(desk.alice.account))
        ids = {"mine": other.store.ledger_id, "account": desk.alice.account}
        desk.execute(
            "INSERT INTO profile SELECT :mine, account, key_id, wrapped_key, sealed, revision, updated_at_ms, "
            "birthday_hash FROM profile WHERE account = :account",
            **ids,
        )
        with pytest.raises(CorruptionError):
            other_desk.member(desk.alice)
