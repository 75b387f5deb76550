"""Settings of the service, from environment variables into one frozen object.

Every variable begins with ``GUERDON_``. A value that cannot be used raises :class:`SettingsError` whose message names
the variable. Keys and passphrases are read from files; the one setting that may hold a secret is a database URL with a
password in it, for which libpq's ``PGPASSFILE`` is the better place. No message shows a key, a passphrase or that URL.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

MEBIBYTE = 1024 * 1024

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the environment variable."""


class Settings(Struct, frozen=True, kw_only=True):
    """What an operator decides about a server. Limits are per request.

    ``origin`` is the ledger to serve; without it, the only ledger in the database. ``max_body_bytes`` has room for
    1,000 operations in one ``operationsSubmit``. ``max_tokens``, ``max_depth``, ``max_aliases`` and ``max_cost`` bound
    a GraphQL document before any of it is executed, the last by counting each field once for every item of the pages
    around it; ``readers`` is the number of threads, and connections, for reading. ``public_entries`` shows everybody
    every entry under ``/log/``, which otherwise auditors and the operator see.
    """

    data: Path
    database_url: str
    log_key_file: Path
    origin: str | None = None
    key_passphrase_file: Path | None = None
    graphiql: bool = True
    max_body_bytes: int = 8 * MEBIBYTE
    max_tokens: int = 2_000
    max_depth: int = 15
    max_aliases: int = 30
    max_cost: int = 10_000
    readers: int = 4
    public_entries: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read ``GUERDON_*``; raise :class:`SettingsError` for a value that cannot be used. Files are not opened."""
        data = Path(environ.get("GUERDON_DATA") or ".guerdon")
        passphrase_file = environ.get("GUERDON_KEY_PASSPHRASE_FILE")
        return cls(
            data=data,
            database_url=environ.get("GUERDON_DATABASE_URL") or f"sqlite:///{data / 'ledger.sqlite'}",
            log_key_file=Path(environ.get("GUERDON_LOG_KEY_FILE") or data / "keys" / "log.pem"),
            origin=environ.get("GUERDON_ORIGIN") or None,
            key_passphrase_file=Path(passphrase_file) if passphrase_file else None,
            graphiql=_boolean(environ, "GUERDON_GRAPHIQL", default=True),
            max_body_bytes=_integer(environ, "GUERDON_MAX_BODY_BYTES", 8 * MEBIBYTE, 1024, 1024 * MEBIBYTE),
            max_tokens=_integer(environ, "GUERDON_MAX_TOKENS", 2_000, 100, 1_000_000),
            max_depth=_integer(environ, "GUERDON_MAX_DEPTH", 15, 5, 1_000),
            max_aliases=_integer(environ, "GUERDON_MAX_ALIASES", 30, 0, 10_000),
            max_cost=_integer(environ, "GUERDON_MAX_COST", 10_000, 100, 10_000_000),
            readers=_integer(environ, "GUERDON_READERS", 4, 1, 64),
            public_entries=_boolean(environ, "GUERDON_PUBLIC_ENTRIES", default=False),
        )


def _boolean(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise SettingsError(f"{name} is {text!r}: use true or false")
    return text in _TRUE


def _integer(environ: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}: use a whole number from {least} to {most}")
    return int(text)
