"""Opening what the settings name: the ledger in its database, and the keys of its log.

The server and the command share it.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.engine import Engine

from api.settings import Settings, SettingsError
from ledger import migrations, queries
from ledger.keyring import load_private_key, read_passphrase
from ledger.profiles import ProfileKeys, Profiles
from ledger.store import Store, StoreError, open_engine

_CONNECTIONS_BESIDE_READERS = 5


def system_clock() -> int:
    """Milliseconds since 1970-01-01T00:00:00Z, by this machine's clock."""
    return time.time_ns() // 1_000_000


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """The ledger the settings name; its connections are closed at the end."""
    store = open_store(settings)
    try:
        yield store
    finally:
        store.engine.dispose()


def open_store(settings: Settings, *, read_timeout_ms: int | None = None) -> Store:
    """The ledger the settings name, in a database at the newest revision; errors say what to do."""
    engine = open_engine(
        settings.database_url,
        pool_size=settings.readers + _CONNECTIONS_BESIDE_READERS,
        read_timeout_ms=read_timeout_ms,
    )
    try:
        migrations.check(engine)
        return Store(engine, settings.origin or only_origin(engine))
    except BaseException:
        engine.dispose()
        raise


def only_origin(engine: Engine) -> str:
    """The origin of the only ledger in a database; raise :class:`SettingsError` when one has to be chosen."""
    with engine.connect() as connection:
        origins = queries.origins(connection, limit=3)
    if not origins:
        raise StoreError("there is no ledger in this database: run guerdon init")
    if len(origins) > 1:
        raise SettingsError(f"GUERDON_ORIGIN: the database holds several ledgers ({', '.join(origins)}, …): choose one")
    return origins[0]


def load_log_key(settings: Settings) -> Ed25519PrivateKey:
    """The log key in the server's own file; raise :class:`KeyFileError` when it cannot be used."""
    return load_private_key(settings.log_key_file, key_passphrase(settings))


def load_log_keys(settings: Settings) -> list[Ed25519PrivateKey]:
    """The keys that sign checkpoints, the server's own first; raise :class:`KeyFileError` when one cannot be used."""
    passphrase = key_passphrase(settings)
    files = (settings.log_key_file, *settings.other_log_key_files)
    return [load_private_key(file, passphrase) for file in files]


def profile_key_file(settings: Settings) -> Path:
    """Where the profile key is, or would be: beside the log's when the settings do not say."""
    return settings.profile_key_file or settings.data / "keys" / "profile.pem"


def open_profiles(settings: Settings, store: Store) -> Profiles | None:
    """The profiles of a ledger; ``None`` when no key is named and there is none in the data folder.

    Raise :class:`KeyFileError` when a key cannot be used, :class:`ProfileKeyError` when it is not the one that the
    profiles are encrypted under.
    """
    if settings.profile_key_file is None and not profile_key_file(settings).exists():
        return None
    passphrase = key_passphrase(settings)
    files = (profile_key_file(settings), *settings.other_profile_key_files)
    keys = ProfileKeys(store.origin, [load_private_key(file, passphrase) for file in files], secrets.token_bytes)
    profiles = Profiles(keys, secrets.token_bytes)
    with store.read() as connection:
        profiles.check(store, connection)
    return profiles


def key_passphrase(settings: Settings) -> bytes | None:
    """The passphrase of the server's key files, if they have one."""
    return read_passphrase(settings.key_passphrase_file) if settings.key_passphrase_file is not None else None
