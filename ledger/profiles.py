"""Profiles of members as they are stored: encrypted for each member, found by keyed hashes, and erasable.

Personal data is in no entry: it is kept beside the ledger, and the ledger verifies with or without it. There are three
kinds of keys:

* *profile keys* are the service's, in files (:mod:`ledger.keyring`), never in the database;
* each member has a *data key*, random, stored only wrapped with a profile key. With it are sealed the profile, as
  canonical JSON, and the values of the member's identifiers. Erasing deletes it and all that it has sealed;
* one *identifier key* for the ledger, random, wrapped likewise. An identifier is found by its HMAC-SHA-256 under that
  key: a bare hash of a phone number is undone by hashing all phone numbers.

Wrapping and sealing are AES-256-GCM (NIST SP 800-38D) with random nonces. What is sealed is bound to the ledger, the
account and the revision or identifier, so it opens nowhere else: rows exchanged between members are found out.

Another profile key takes over by wrapping what the former one had wrapped (:meth:`Profiles.rewrap`); nothing sealed
changes. Once the former key is destroyed too, nobody opens the profiles in backups from before.

An identifier belongs to a merchant, and is one account's there. It is not unique in the whole ledger: numbers of cards
are each merchant's own, and whoever adds an e-mail address must not learn that a member of another merchant has it.

Who may read, change or find is left to :mod:`api.profiles`.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct, structs
from sqlalchemy.engine import Connection

from ledger.encoding import encode_canonical
from ledger.personal_data import IdentifierKind, Profile, shown_characters
from ledger.store import CorruptionError, Store, StoreError, WriteTransaction
from ledger.tables import ACCOUNT, IDENTIFIER, PROFILE, PROFILE_ERASURE, PROFILE_KEY
from ledger.voucher_codes import VoucherCodes

MAX_IDENTIFIERS = 50
"""Identifiers of one account, at all merchants together."""

REWRAP_CHUNK = 500
"""Data keys that one transaction wraps anew: writers of the ledger wait no longer than that takes."""

_KEY_BYTES = 32
_NONCE_BYTES = 12
_SCRUB_WAIT_MS = 1_000
_IDENTIFIERS = "identifiers"
"""What the identifier key is wrapped for, where a data key has its account."""

AddedBy = Literal["member", "merchant"]
RandomBytes = Callable[[int], bytes]


class ProfileKeyError(StoreError):
    """The server's profile keys do not open what is stored. The message says what to do."""


class ChangedError(Exception):
    """A profile is not at the revision a change was made of; ``revision`` is the one it is at."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the profile is at revision {revision}")
        self.revision = revision


class TakenError(Exception):
    """At this merchant the identifier is another account's."""


class TooManyError(Exception):
    """The account has as many identifiers as it can."""


class Identifier(Struct, frozen=True, kw_only=True):
    """What a ``merchant`` finds an account by; who has added it, and when, in milliseconds since 1970."""

    identifier: str
    merchant: str
    kind: IdentifierKind
    value: str
    added_by: AddedBy
    added_at_ms: int

    @property
    def last_characters(self) -> str:
        """The end of the value, to know it by."""
        return shown_characters(self.value)


class Member(Struct, frozen=True, kw_only=True):
    """What is kept of a member. Nothing is, or no longer, at ``revision`` 0; ``erased_at_ms`` is the last erasure."""

    account: str
    profile: Profile = Profile()
    revision: int = 0
    updated_at_ms: int | None = None
    erased_at_ms: int | None = None
    identifiers: tuple[Identifier, ...] = ()


class Found(Struct, frozen=True, kw_only=True):
    """Whom an identifier names at a merchant, and who has said so, and when."""

    account: str
    added_by: AddedBy
    added_at_ms: int


class _Row(Struct, frozen=True, kw_only=True):
    key_id: str
    wrapped_key: bytes
    sealed: bytes
    revision: int
    updated_at_ms: int
    birthday_hash: bytes | None = None


class ProfileKeys:
    """The service's profile keys: the first wraps, each of them unwraps."""

    def __init__(self, origin: str, keys: Sequence[Ed25519PrivateKey], random_bytes: RandomBytes) -> None:
        self._origin = origin
        self._keys = {_key_id(key): AESGCM(_derive(key)) for key in keys}
        self._random_bytes = random_bytes
        self.key_id = _key_id(keys[0])
        self.voucher_codes = VoucherCodes(origin, [_derive(key, b"guerdon voucher codes v1") for key in keys])

    def knows(self, key_id: str) -> bool:
        """Whether a key is among these."""
        return key_id in self._keys

    def new_key(self) -> bytes:
        """A random key."""
        return self._random_bytes(_KEY_BYTES)

    def wrap(self, owner: str, key: bytes) -> bytes:
        """A key, wrapped for an account with the first of these."""
        return self._seal(self._keys[self.key_id], self._bound("key", owner), key)

    def unwrap(self, owner: str, key_id: str, wrapped: bytes) -> bytes:
        """The key; raise :class:`ProfileKeyError` when none of these wrapped it, or what is stored is another's."""
        if key_id not in self._keys:
            raise ProfileKeyError(_FOREIGN)
        return self._open(self._keys[key_id], self._bound("key", owner), wrapped, owner)

    def seal(self, key: bytes, account: str, what: str, text: bytes) -> bytes:
        """Text of an account, sealed with its data key."""
        return self._seal(AESGCM(key), self._bound(what, account), text)

    def open(self, key: bytes, account: str, what: str, sealed: bytes) -> bytes:
        """What was sealed; raise :class:`CorruptionError` when it was for another account or purpose."""
        return self._open(AESGCM(key), self._bound(what, account), sealed, account)

    def keyed_hash(self, key: bytes, merchant: str, kind: IdentifierKind, value: str) -> bytes:
        """What an identifier of a merchant is found by: that of another merchant for the same value differs."""
        # Only the value, which is last, can have a line break in it.
        return hmac.new(key, self._bound(f"identifier {kind}", merchant) + value.encode(), hashlib.sha256).digest()

    def birthday_hash(self, key: bytes, day: str) -> bytes:
        """What those born on a day of the year, ``MM-DD``, are found by."""
        return hmac.new(key, self._bound("birthday", _IDENTIFIERS) + day.encode(), hashlib.sha256).digest()

    def _bound(self, what: str, owner: str) -> bytes:
        return f"guerdon profile v1\n{self._origin}\n{owner}\n{what}\n".encode()

    def _seal(self, cipher: AESGCM, bound: bytes, text: bytes) -> bytes:
        nonce = self._random_bytes(_NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, text, bound)

    def _open(self, cipher: AESGCM, bound: bytes, sealed: bytes, owner: str) -> bytes:
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):  # ValueError: it is too short to be one
            raise CorruptionError(f"what is stored of {owner} was not sealed for it, or not like this") from None


_FOREIGN = (
    "profiles are encrypted with another key: give the server the file of it (GUERDON_PROFILE_KEY_FILE, or "
    "GUERDON_OTHER_PROFILE_KEY_FILES while keys are replaced)"
)


def _derive(key: Ed25519PrivateKey, info: bytes = b"guerdon profile keys v1") -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(key.private_bytes_raw())


def _key_id(key: Ed25519PrivateKey) -> str:
    return hashlib.sha256(b"guerdon profile key v1\n" + key.public_key().public_bytes_raw()).hexdigest()[:16]


class Profiles:
    """The profiles of one ledger. Methods that change take the transaction, and hold the account until it ends."""

    def __init__(self, keys: ProfileKeys, random_bytes: RandomBytes) -> None:
        self._keys = keys
        self._random_bytes = random_bytes

    @property
    def voucher_codes(self) -> VoucherCodes:
        """The codes of vouchers, whose key comes of the same file; they name nobody."""
        return self._keys.voucher_codes

    def check(self, store: Store, connection: Connection) -> None:
        """Raise :class:`ProfileKeyError` when the profiles that are stored were made with other keys."""
        self._identifier_key(store, connection)

    # Reading

    def member(self, store: Store, connection: Connection, account: str) -> Member:
        """What is kept of a member; raise :class:`CorruptionError` when what is stored is not this member's."""
        erased_at_ms = connection.execute(
            sa.select(PROFILE_ERASURE.c.erased_at_ms).where(*_of(PROFILE_ERASURE, store, account))
        ).scalar()
        row = _row(store, connection, account)
        if row is None:
            return Member(account=account, erased_at_ms=erased_at_ms)
        key = self._keys.unwrap(account, row.key_id, row.wrapped_key)
        return Member(
            account=account,
            profile=self._opened(key, account, row),
            revision=row.revision,
            updated_at_ms=row.updated_at_ms,
            erased_at_ms=erased_at_ms,
            identifiers=tuple(self._identifiers(store, connection, key, account)),
        )

    def find(
        self, store: Store, connection: Connection, merchant: str, kind: IdentifierKind, value: str
    ) -> Found | None:
        """Whom an identifier in its normal form names at a merchant."""
        key = self._identifier_key(store, connection)
        if key is None:
            return None
        query = sa.select(IDENTIFIER.c.account, IDENTIFIER.c.added_by, IDENTIFIER.c.added_at_ms).where(
            IDENTIFIER.c.ledger_id == store.ledger_id,
            IDENTIFIER.c.merchant == merchant,
            IDENTIFIER.c.kind == kind,
            IDENTIFIER.c.keyed_hash == self._keys.keyed_hash(key, merchant, kind, value),
        )
        row = connection.execute(query).one_or_none()
        return Found(**row._mapping) if row is not None else None

    def birthday_hashes(self, store: Store, connection: Connection, days: Sequence[str]) -> dict[bytes, str]:
        """The hashes by which profiles of those born on days of the year (``MM-DD``) are found, with the days."""
        key = self._identifier_key(store, connection)
        return {} if key is None else {self._keys.birthday_hash(key, day): day for day in days}

    # Writing

    def update(
        self,
        transaction: WriteTransaction,
        account: str,
        change: Callable[[Profile], Profile],
        now_ms: int,
        expected_revision: int | None = None,
    ) -> Member:
        """Change a profile, or make it; raise :class:`ChangedError` when it is not at the revision that is expected."""
        store, connection = transaction.store, transaction.connection
        with _overwriting(connection):
            lock_account(transaction, account)
            row, key = self._kept(transaction, account, now_ms)
            if expected_revision is not None and expected_revision != row.revision:
                raise ChangedError(row.revision)
            changed = structs.replace(row, revision=row.revision + 1, updated_at_ms=now_ms)
            profile = change(self._opened(key, account, row))
            sealed = self._keys.seal(key, account, f"profile {changed.revision}", encode_canonical(profile))
            born = self._birthday_hash(store, connection, profile)
            _write(transaction, account, structs.replace(changed, sealed=sealed, birthday_hash=born))
        return self.member(store, connection, account)

    def _birthday_hash(self, store: Store, connection: Connection, profile: Profile) -> bytes | None:
        key = self._identifier_key(store, connection)
        if profile.birthday is None or key is None:
            return None
        return self._keys.birthday_hash(key, profile.birthday[5:])

    def erase(self, transaction: WriteTransaction, account: str, now_ms: int) -> None:
        """Delete a member's data key with all that it has sealed, and what the member is found by.

        What a database has deleted may still lie in its files: see :func:`scrub`.
        """
        connection, store = transaction.connection, transaction.store
        with _overwriting(connection):
            lock_account(transaction, account)
            for table in (IDENTIFIER, PROFILE, PROFILE_ERASURE):
                connection.execute(sa.delete(table).where(*_of(table, store, account)))
            tombstone = {"ledger_id": store.ledger_id, "account": account, "erased_at_ms": now_ms}
            connection.execute(sa.insert(PROFILE_ERASURE).values(**tombstone))

    def add_identifier(
        self,
        transaction: WriteTransaction,
        account: str,
        named: tuple[str, IdentifierKind, str],
        *,
        added_by: AddedBy,
        now_ms: int,
    ) -> Identifier:
        """Have a merchant find an account by an identifier; one that is there already stays.

        ``named`` is the merchant, the kind, and the value in its normal form. Raise :class:`TakenError` or
        :class:`TooManyError` where that cannot be.
        """
        store, connection = transaction.store, transaction.connection
        merchant, kind, value = named
        with _overwriting(connection):
            lock_account(transaction, account)
            _, key = self._kept(transaction, account, now_ms)
            kept = list(self._identifiers(store, connection, key, account))
            for each in kept:
                if (each.merchant, each.kind, each.value) == (merchant, kind, value):
                    return each
            if len(kept) >= MAX_IDENTIFIERS:
                raise TooManyError
            new = Identifier(
                identifier=_new_id(self._random_bytes),
                merchant=merchant,
                kind=kind,
                value=value,
                added_by=added_by,
                added_at_ms=now_ms,
            )
            if not self._insert(transaction, account, key, new):
                raise TakenError
        return new

    def _insert(self, transaction: WriteTransaction, account: str, key: bytes, new: Identifier) -> bool:
        identifier_key = self._identifier_key(transaction.store, transaction.connection)
        assert identifier_key is not None  # made with the member's first row
        statement = sa.text(
            "INSERT INTO identifier (ledger_id, identifier, merchant, kind, keyed_hash, account, added_by, "
            "added_at_ms, sealed) VALUES (:ledger_id, :identifier, :merchant, :kind, :keyed_hash, :account, "
            ":added_by, :added_at_ms, :sealed) ON CONFLICT (ledger_id, merchant, kind, keyed_hash) DO NOTHING"
        )
        values = structs.asdict(new)
        text = values.pop("value")
        values |= {
            "ledger_id": transaction.store.ledger_id,
            "account": account,
            "keyed_hash": self._keys.keyed_hash(identifier_key, new.merchant, new.kind, text),
            "sealed": self._keys.seal(key, account, _sealed_as(new.identifier, new.merchant, new.kind), text.encode()),
        }
        return transaction.connection.execute(statement, values).rowcount == 1

    def _kept(self, transaction: WriteTransaction, account: str, now_ms: int) -> tuple[_Row, bytes]:
        """The row of a locked account and its data key, made if there is none yet, and with it the identifier key."""
        row = _row(transaction.store, transaction.connection, account)
        if row is not None:
            return row, self._keys.unwrap(account, row.key_id, row.wrapped_key)
        self._make_identifier_key(transaction)
        key = self._keys.new_key()
        row = _Row(
            key_id=self._keys.key_id,
            wrapped_key=self._keys.wrap(account, key),
            sealed=self._keys.seal(key, account, "profile 0", encode_canonical(Profile())),
            revision=0,
            updated_at_ms=now_ms,
        )
        _write(transaction, account, row)
        return row, key

    def _make_identifier_key(self, transaction: WriteTransaction) -> None:
        store, connection = transaction.store, transaction.connection
        if self._identifier_key(store, connection) is not None:
            return
        statement = sa.text(
            "INSERT INTO profile_key (ledger_id, key_id, wrapped_key) VALUES (:ledger_id, :key_id, :wrapped_key) "
            "ON CONFLICT (ledger_id) DO NOTHING"  # another process may make one at the same time
        )
        wrapped = self._keys.wrap(_IDENTIFIERS, self._keys.new_key())
        values = {"ledger_id": store.ledger_id, "key_id": self._keys.key_id, "wrapped_key": wrapped}
        connection.execute(statement, values)

    # Replacing the profile key

    def count_foreign(self, store: Store) -> int:
        """How many members' keys are wrapped with another than the first of the profile keys."""
        query = sa.select(sa.func.count()).where(
            PROFILE.c.ledger_id == store.ledger_id, PROFILE.c.key_id != self._keys.key_id
        )
        with store.read() as connection:
            return int(connection.execute(query).scalar_one())

    def rewrap(self, store: Store, told: Callable[[int], object] = lambda _: None) -> int:
        """Wrap with the first key what another has wrapped; how many keys there were. Servers may go on meanwhile.

        Killed in between, it is run again. ``told`` hears how many were wrapped, time and again. Raise
        :class:`ProfileKeyError` when something was wrapped with a key that is not among these.
        """
        done = 0
        while True:
            with store.write() as transaction, _overwriting(transaction.connection):
                count = self._rewrap_some(transaction)
            if not count:
                break
            done += count
            told(done)
        with store.write() as transaction, _overwriting(transaction.connection):
            done += self._rewrap_identifier_key(transaction)
        scrub(store)
        return done

    def _rewrap_some(self, transaction: WriteTransaction) -> int:
        ledger_id = transaction.store.ledger_id
        query = (
            sa.select(PROFILE.c.account, PROFILE.c.key_id, PROFILE.c.wrapped_key)
            .where(PROFILE.c.ledger_id == ledger_id, PROFILE.c.key_id != self._keys.key_id)
            .order_by(PROFILE.c.account)
            .limit(REWRAP_CHUNK)
            .with_for_update()
        )
        rows = transaction.connection.execute(query).all()
        changed = [
            {
                "of_account": account,
                "key_id": self._keys.key_id,
                "wrapped_key": self._keys.wrap(account, self._keys.unwrap(account, key_id, bytes(wrapped))),
            }
            for account, key_id, wrapped in rows
        ]
        if changed:
            statement = sa.update(PROFILE).where(
                PROFILE.c.ledger_id == ledger_id, PROFILE.c.account == sa.bindparam("of_account")
            )
            transaction.connection.execute(statement, changed)
        return len(changed)

    def _rewrap_identifier_key(self, transaction: WriteTransaction) -> int:
        key = self._identifier_key(transaction.store, transaction.connection)
        if key is None:
            return 0
        of_ledger = PROFILE_KEY.c.ledger_id == transaction.store.ledger_id
        statement = sa.update(PROFILE_KEY).where(of_ledger, PROFILE_KEY.c.key_id != self._keys.key_id)
        wrapped = self._keys.wrap(_IDENTIFIERS, key)
        return transaction.connection.execute(statement.values(key_id=self._keys.key_id, wrapped_key=wrapped)).rowcount

    def _identifier_key(self, store: Store, connection: Connection) -> bytes | None:
        query = sa.select(PROFILE_KEY.c.key_id, PROFILE_KEY.c.wrapped_key)
        row = connection.execute(query.where(PROFILE_KEY.c.ledger_id == store.ledger_id)).one_or_none()
        return None if row is None else self._keys.unwrap(_IDENTIFIERS, row.key_id, bytes(row.wrapped_key))

    def _opened(self, key: bytes, account: str, row: _Row) -> Profile:
        return _profiles.decode(self._keys.open(key, account, f"profile {row.revision}", row.sealed))

    def _identifiers(self, store: Store, connection: Connection, key: bytes, account: str) -> Iterator[Identifier]:
        query = sa.select(IDENTIFIER).where(*_of(IDENTIFIER, store, account))
        for row in connection.execute(query.order_by(IDENTIFIER.c.added_at_ms, IDENTIFIER.c.identifier)):
            bound = _sealed_as(row.identifier, row.merchant, row.kind)
            yield Identifier(
                identifier=row.identifier,
                merchant=row.merchant,
                kind=row.kind,
                value=self._keys.open(key, account, bound, bytes(row.sealed)).decode(),
                added_by=row.added_by,
                added_at_ms=row.added_at_ms,
            )


def lock_account(transaction: WriteTransaction, account: str) -> None:
    """Let nobody else change an account, whose it is or what is kept of it, until the transaction ends."""
    own = sa.select(ACCOUNT.c.account).where(*_of(ACCOUNT, transaction.store, account))
    transaction.connection.execute(own.with_for_update())  # SQLite has no row locks: its one writer has all


def remove_identifier(
    transaction: WriteTransaction, identifier: str, *, account: str | None = None, merchant: str | None = None
) -> str | None:
    """Delete an identifier, if it is the ``account``'s or the ``merchant``'s; whose it was."""
    found = IDENTIFIER.c.account == account if account is not None else IDENTIFIER.c.merchant == merchant
    with _overwriting(transaction.connection):
        statement = sa.delete(IDENTIFIER).where(
            IDENTIFIER.c.ledger_id == transaction.store.ledger_id, IDENTIFIER.c.identifier == identifier, found
        )
        return transaction.connection.execute(statement.returning(IDENTIFIER.c.account)).scalar()


def scrub(store: Store) -> bool:
    """Take what was deleted out of SQLite's write-ahead log, where former versions of pages stay until it is reused.

    Whether that was possible within a second: somebody who still reads an older snapshot prevents it, and then the next
    one to call this does it. On PostgreSQL there is nothing to do: its server removes dead rows and old segments by its
    own settings.
    """
    if store.is_postgres:
        return True
    connection = store.engine.raw_connection()
    try:
        cursor = connection.cursor()
        waited = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout={_SCRUB_WAIT_MS}")
        busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout={waited}")
        return not busy
    finally:
        connection.close()


@contextmanager
def _overwriting(connection: Connection) -> Iterator[None]:
    """Have SQLite overwrite what is deleted with zeros. For the whole ledger that would cost every batch some pages."""
    if connection.dialect.name != "sqlite":
        yield
        return
    before = connection.exec_driver_sql("PRAGMA secure_delete").scalar()
    connection.exec_driver_sql("PRAGMA secure_delete=ON")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA secure_delete={before}")


def _of(table: sa.Table, store: Store, account: str) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return table.c.ledger_id == store.ledger_id, table.c.account == account


def _row(store: Store, connection: Connection, account: str) -> _Row | None:
    columns = [PROFILE.c[name] for name in _Row.__struct_fields__]
    row: Any = connection.execute(sa.select(*columns).where(*_of(PROFILE, store, account))).one_or_none()
    if row is None:
        return None
    values = dict(row._mapping)
    born = values["birthday_hash"]
    values["birthday_hash"] = None if born is None else bytes(born)
    return _Row(**values | {name: bytes(values[name]) for name in ("wrapped_key", "sealed")})


def _write(transaction: WriteTransaction, account: str, row: _Row) -> None:
    """Write the row of a locked account in place of the one that is there."""
    where = _of(PROFILE, transaction.store, account)
    if transaction.connection.execute(sa.update(PROFILE).where(*where).values(**structs.asdict(row))).rowcount:
        return
    values = {"ledger_id": transaction.store.ledger_id, "account": account, **structs.asdict(row)}
    transaction.connection.execute(sa.insert(PROFILE).values(**values))


def _sealed_as(identifier: str, merchant: str, kind: str) -> str:
    return f"identifier {identifier} {merchant} {kind}"


def _new_id(random_bytes: RandomBytes) -> str:
    return "idf_" + base64.b32encode(random_bytes(16)).decode().lower().rstrip("=")


_profiles = msgspec.json.Decoder(Profile)
