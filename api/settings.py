"""Settings of the service, from environment variables into one frozen object.

Every variable begins with ``GUERDON_``. A value that cannot be used raises :class:`SettingsError` whose message names
the variable. Keys and passphrases are read from files; the one setting that may hold a secret is a database URL with a
password in it, for which libpq's ``PGPASSFILE`` is the better place. No message shows a key, a passphrase or that URL.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from ledger.checkpoint import CheckpointError, WitnessKey, decode_witness_key

MEBIBYTE = 1024 * 1024
MAX_WITNESSES = 32
"""A note has at most 64 signatures, and the log's own are among them."""

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class SettingsError(ValueError):
    """A setting that cannot be used; the message names the environment variable."""


class WitnessAddress(Struct, frozen=True, kw_only=True):
    """A witness that is asked for cosignatures: its key, and the submission prefix that ``add-checkpoint`` is under."""

    key: WitnessKey
    url: str


class Settings(Struct, frozen=True, kw_only=True):
    """What an operator decides about a server. Limits are per request.

    ``origin`` is the ledger to serve; without it, the only ledger in the database. ``max_body_bytes`` has room for
    1,000 operations in one ``operationsSubmit``. ``max_tokens``, ``max_depth``, ``max_aliases`` and ``max_cost`` bound
    a GraphQL document before any of it is executed, the last by counting each field once for every item of the pages
    around it; ``readers`` is the number of threads, and connections, for reading. ``public_entries`` shows everybody
    every entry under ``/log/``, which otherwise auditors and the operator see. ``other_log_key_files`` are keys the log
    had before the one in ``log_key_file``, or will have after it: needed while the log's key is replaced.
    ``witnesses`` are asked for cosignatures of the newest checkpoint, at most every ``witness_interval_s`` seconds; one
    that ``witness_quorum`` of them have cosigned counts as witnessed.
    """

    data: Path
    database_url: str
    log_key_file: Path
    other_log_key_files: tuple[Path, ...] = ()
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
    witnesses: tuple[WitnessAddress, ...] = ()
    witness_quorum: int = 0
    witness_interval_s: int = 10

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read ``GUERDON_*``; raise :class:`SettingsError` for a value that cannot be used. Files are not opened."""
        data = Path(environ.get("GUERDON_DATA") or ".guerdon")
        passphrase_file = environ.get("GUERDON_KEY_PASSPHRASE_FILE")
        witnesses = _witnesses(environ, "GUERDON_WITNESSES")
        return cls(
            data=data,
            database_url=environ.get("GUERDON_DATABASE_URL") or f"sqlite:///{data / 'ledger.sqlite'}",
            log_key_file=Path(environ.get("GUERDON_LOG_KEY_FILE") or data / "keys" / "log.pem"),
            other_log_key_files=_paths(environ, "GUERDON_OTHER_LOG_KEY_FILES"),
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
            witnesses=witnesses,
            witness_quorum=_quorum(environ, "GUERDON_WITNESS_QUORUM", len(witnesses)),
            witness_interval_s=_integer(environ, "GUERDON_WITNESS_INTERVAL_S", 10, 1, 3_600),
        )


def _paths(environ: Mapping[str, str], name: str) -> tuple[Path, ...]:
    text = environ.get(name, "").strip()
    if not text:
        return ()
    parts = text.split(":")
    if not all(parts):
        raise SettingsError(f"{name} is {text!r}: use paths with one : between them")
    return tuple(Path(part) for part in parts)


# A name may have an @ in it and an address too, but base64 has none: the first one behind it divides.
_WITNESS = re.compile(r"(?P<key>[^+]+\+[0-9a-f]+\+[A-Za-z0-9+/=]+)@(?P<url>.+)")


def _witnesses(environ: Mapping[str, str], name: str) -> tuple[WitnessAddress, ...]:
    witnesses = tuple(_witness(text, name) for text in environ.get(name, "").split())
    if len(witnesses) > MAX_WITNESSES:
        raise SettingsError(f"{name} has {len(witnesses)} witnesses: use at most {MAX_WITNESSES}")
    names = {witness.key.name for witness in witnesses}
    keys = {witness.key.public_key.public_bytes_raw() for witness in witnesses}
    # Cosignatures are kept by name; and one key is one witness, whatever its names.
    if not len(names) == len(keys) == len(witnesses):
        raise SettingsError(f"{name} has two witnesses of one name or key: use each once")
    return witnesses


def _witness(text: str, name: str) -> WitnessAddress:
    match = _WITNESS.fullmatch(text)
    if match is None:
        raise SettingsError(f"{name} is {text!r}: use <verifier key>@<address>, with a space between witnesses")
    try:
        key = decode_witness_key(match["key"])
    except CheckpointError as error:
        raise SettingsError(f"{name} is {text!r}: use a witness's verifier key ({error})") from error
    if not _is_prefix(match["url"]):
        raise SettingsError(f"{name} is {text!r}: use an address like https://witness.example/prefix behind the @")
    return WitnessAddress(key=key, url=match["url"])


def _is_prefix(url: str) -> bool:
    """Whether ``/add-checkpoint`` can be put behind a URL. One with a password would be shown in logs."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not any(c in url for c in "?#@\\")
    return usable and plain and parts.scheme in {"http", "https"} and bool(parts.hostname)


def _quorum(environ: Mapping[str, str], name: str, witnesses: int) -> int:
    if witnesses:
        return _integer(environ, name, witnesses // 2 + 1, 1, witnesses)
    if environ.get(name, "").strip():
        raise SettingsError(f"{name} is {environ[name]!r}: use it with GUERDON_WITNESSES")
    return 0


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
