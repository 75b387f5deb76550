"""Settings of the service, from environment variables into one frozen object.

Every variable begins with ``GUERDON_``. A value that cannot be used raises :class:`SettingsError` whose message names
the variable. Keys and passphrases are read from files; the one setting that may hold a secret is a database URL with a
password in it, for which libpq's ``PGPASSFILE`` is the better place. No message shows a key, a passphrase or that URL.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from ledger.checkpoint import CheckpointError, WitnessKey, decode_witness_key
from ledger.terms import ACCOUNT_PATTERN

MEBIBYTE = 1024 * 1024
MAX_WITNESSES = 32
"""A note has at most 64 signatures, and the log's own are among them."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

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
    1,000 operations in one ``operationsSubmit``. ``max_tokens``, ``max_depth``, ``max_aliases``, ``max_directives``,
    ``max_root_fields`` and ``max_cost`` bound a GraphQL document before any of it is executed, the last by counting
    each field once for every item of the pages around it. ``rate_cost`` and ``rate_operations`` are what one client may
    ask and submit in a minute, without end when 0; a client's address is what one of ``trusted_proxies`` says it is.
    A body has ``body_timeout_s`` seconds to arrive, a query ``query_timeout_s`` to be answered, and so has each
    statement of the database that only reads. ``documents_file`` lists documents that clients may name by their hash;
    with ``only_listed_documents`` they may use no others. ``introspection`` shows the schema to everybody.

    A server process has at most ``max_subscriptions`` at once, ``max_subscriptions_per_account`` of one account. A
    stream without news shows a sign of life every ``stream_ping_s`` seconds; a client that takes nothing for
    ``stream_timeout_s`` is cut off.

    ``readers`` is the number of threads, and connections, for reading. ``public_entries`` shows everybody
    every entry under ``/log/``, which otherwise auditors and the operator see. ``other_log_key_files`` are keys the log
    had before the one in ``log_key_file``, or will have after it: needed while the log's key is replaced.
    ``profile_key_file`` is the key that profiles are encrypted under; when it is not named, ``keys/profile.pem`` in the
    data folder, and without that there are none. ``other_profile_key_files`` are keys they were encrypted under before,
    needed until ``guerdon keys rewrap-profiles`` is done.
    ``witnesses`` are asked for cosignatures of the newest checkpoint, at most every ``witness_interval_s`` seconds; one
    that ``witness_quorum`` of them have cosigned counts as witnessed.

    Webhooks are sent to the public network and to ``webhook_networks``, over https unless ``webhook_http``; one that
    has failed for ``webhook_disable_after_days`` is told nothing more.

    Due work is done every ``due_interval_s`` seconds, signed for ``due_account`` (the operator without one) with the
    keys in ``due_key_files``; not at all without keys, or with 0 seconds.
    """

    data: Path
    database_url: str
    log_key_file: Path
    other_log_key_files: tuple[Path, ...] = ()
    profile_key_file: Path | None = None
    other_profile_key_files: tuple[Path, ...] = ()
    origin: str | None = None
    key_passphrase_file: Path | None = None
    graphiql: bool = True
    introspection: bool = True
    only_listed_documents: bool = False
    documents_file: Path | None = None
    max_body_bytes: int = 8 * MEBIBYTE
    max_tokens: int = 2_000
    max_depth: int = 15
    max_aliases: int = 30
    max_directives: int = 30
    max_root_fields: int = 30
    max_cost: int = 10_000
    rate_cost: int = 3_000_000
    rate_operations: int = 600_000
    trusted_proxies: tuple[Network, ...] = ()
    body_timeout_s: int = 60
    query_timeout_s: int = 10
    max_subscriptions: int = 1_000
    max_subscriptions_per_account: int = 20
    stream_ping_s: int = 15
    stream_timeout_s: int = 30
    readers: int = 4
    public_entries: bool = False
    witnesses: tuple[WitnessAddress, ...] = ()
    witness_quorum: int = 0
    witness_interval_s: int = 10
    webhook_networks: tuple[Network, ...] = ()
    webhook_http: bool = False
    webhook_disable_after_days: int = 5
    due_account: str | None = None
    due_key_files: tuple[Path, ...] = ()
    due_interval_s: int = 300

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
            profile_key_file=Path(profile_key) if (profile_key := environ.get("GUERDON_PROFILE_KEY_FILE")) else None,
            other_profile_key_files=_paths(environ, "GUERDON_OTHER_PROFILE_KEY_FILES"),
            origin=environ.get("GUERDON_ORIGIN") or None,
            key_passphrase_file=Path(passphrase_file) if passphrase_file else None,
            graphiql=_boolean(environ, "GUERDON_GRAPHIQL", default=True),
            introspection=_boolean(environ, "GUERDON_INTROSPECTION", default=True),
            only_listed_documents=_only_listed(environ, "GUERDON_DOCUMENTS"),
            documents_file=Path(documents) if (documents := environ.get("GUERDON_DOCUMENTS_FILE")) else None,
            max_body_bytes=_integer(environ, "GUERDON_MAX_BODY_BYTES", 8 * MEBIBYTE, 1024, 1024 * MEBIBYTE),
            max_tokens=_integer(environ, "GUERDON_MAX_TOKENS", 2_000, 100, 1_000_000),
            max_depth=_integer(environ, "GUERDON_MAX_DEPTH", 15, 5, 1_000),
            max_aliases=_integer(environ, "GUERDON_MAX_ALIASES", 30, 0, 10_000),
            max_directives=_integer(environ, "GUERDON_MAX_DIRECTIVES", 30, 0, 10_000),
            max_root_fields=_integer(environ, "GUERDON_MAX_ROOT_FIELDS", 30, 1, 1_000),
            max_cost=_integer(environ, "GUERDON_MAX_COST", 10_000, 100, 10_000_000),
            rate_cost=_integer(environ, "GUERDON_RATE_COST_PER_MINUTE", 3_000_000, 0, 10**12),
            rate_operations=_integer(environ, "GUERDON_RATE_OPERATIONS_PER_MINUTE", 600_000, 0, 10**12),
            trusted_proxies=_networks(environ, "GUERDON_TRUSTED_PROXIES"),
            body_timeout_s=_integer(environ, "GUERDON_BODY_TIMEOUT_S", 60, 1, 3_600),
            query_timeout_s=_integer(environ, "GUERDON_QUERY_TIMEOUT_S", 10, 1, 3_600),
            max_subscriptions=_integer(environ, "GUERDON_MAX_SUBSCRIPTIONS", 1_000, 0, 100_000),
            max_subscriptions_per_account=_integer(environ, "GUERDON_MAX_SUBSCRIPTIONS_PER_ACCOUNT", 20, 0, 100_000),
            stream_ping_s=_integer(environ, "GUERDON_STREAM_PING_S", 15, 1, 3_600),
            stream_timeout_s=_integer(environ, "GUERDON_STREAM_TIMEOUT_S", 30, 1, 3_600),
            readers=_integer(environ, "GUERDON_READERS", 4, 1, 64),
            public_entries=_boolean(environ, "GUERDON_PUBLIC_ENTRIES", default=False),
            witnesses=witnesses,
            witness_quorum=_quorum(environ, "GUERDON_WITNESS_QUORUM", len(witnesses)),
            witness_interval_s=_integer(environ, "GUERDON_WITNESS_INTERVAL_S", 10, 1, 3_600),
            webhook_networks=_networks(environ, "GUERDON_WEBHOOK_NETWORKS"),
            webhook_http=_boolean(environ, "GUERDON_WEBHOOK_HTTP", default=False),
            webhook_disable_after_days=_integer(environ, "GUERDON_WEBHOOK_DISABLE_AFTER_DAYS", 5, 1, 365),
            due_account=_account(environ, "GUERDON_DUE_ACCOUNT"),
            due_key_files=_paths(environ, "GUERDON_DUE_KEY_FILE"),
            due_interval_s=_integer(environ, "GUERDON_DUE_INTERVAL_S", 300, 0, 86_400),
        )


def _only_listed(environ: Mapping[str, str], name: str) -> bool:
    text = environ.get(name, "").strip().lower() or "open"
    if text not in {"open", "allowlist"}:
        raise SettingsError(f"{name} is {text!r}: use open or allowlist")
    if text == "allowlist" and not environ.get("GUERDON_DOCUMENTS_FILE"):
        raise SettingsError(f"{name} is {text!r}: use it with GUERDON_DOCUMENTS_FILE")
    return text == "allowlist"


def _networks(environ: Mapping[str, str], name: str) -> tuple[Network, ...]:
    text = environ.get(name, "").strip()
    try:
        return tuple(ipaddress.ip_network(part) for part in text.split())
    except ValueError as error:
        message = f"{name} is {text!r}: use addresses and networks like 10.0.0.0/8 with a space between them ({error})"
        raise SettingsError(message) from error


def _paths(environ: Mapping[str, str], name: str) -> tuple[Path, ...]:
    text = environ.get(name, "").strip()
    if not text:
        return ()
    parts = text.split(":")
    if not all(parts):
        raise SettingsError(f"{name} is {text!r}: use paths with one : between them")
    return tuple(Path(part) for part in parts)


def _account(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name, "").strip() or None
    if text is not None and not re.fullmatch(ACCOUNT_PATTERN, text):
        raise SettingsError(f"{name} is {text!r}: use an account's id, such as opr_…")
    return text


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
