"""Canonical bytes: the one way each value of the ledger is written.

Two programs that agree on a value must agree on its bytes, because hashes and signatures are taken over bytes.
Guerdon writes JSON in the canonical form of RFC 8785 (JCS), restricted to what every language reads alike:

* objects with ASCII keys, sorted; arrays; strings without lone surrogates; booleans; null;
* integers with ``|n| <= 2**53 - 1``. There are no floats: money is in minor units, ratios are two integers.

Decoding is strict. Bytes that do not encode back to themselves are refused, which leaves no room for duplicate keys,
white space, escapes that need not be, ``1.0`` or ``-0``.

The same strictness holds for the scalars inside: times, dates, base64url and hex each have exactly one spelling.
What the fields *mean* is not decided here: see :mod:`ledger.operations`.
"""

import base64
import binascii
import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NewType

import msgspec

OpId = NewType("OpId", bytes)
"""SHA-256 of an operation's canonical bytes: 32 bytes."""

LeafHash = NewType("LeafHash", bytes)
"""RFC 6962 leaf hash of an entry, which is also the chain link: 32 bytes."""

AccountId = NewType("AccountId", str)
"""A role's prefix, an underscore and 26 characters of base32, or the name of a system account."""

MAX_INTEGER = 2**53 - 1
"""The largest integer JSON carries exactly everywhere (RFC 8785, RFC 7493 section 2.2)."""

# Patterns end in \Z: a $ would also match before a newline at the end.
TIME_PATTERN = r"^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z\Z"
"""A time: UTC, milliseconds, years 1900 to 2999. Two times of this form compare as their text does."""

DATE_PATTERN = r"^(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}\Z"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(TIME_PATTERN)
_DATE = re.compile(DATE_PATTERN)
_encoder = msgspec.json.Encoder(order="sorted")


class EncodingError(ValueError):
    """Bytes or text that are not in the one form this module writes. The message says what is wrong and where.

    ``path`` is the place in a plain value that was to be written, ``$.purchases[0].amount``; ``$`` otherwise.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message)
        self.path = path


def encode_canonical(value: Any) -> bytes:
    """Write a value (plain JSON data or a :class:`msgspec.Struct`) as canonical bytes.

    Structs are trusted to hold what their types say; plain data is checked, so that a float, a large integer, a
    non-ASCII key or a lone surrogate raises :class:`EncodingError` instead of producing bytes nobody can verify.
    """
    try:
        if not isinstance(value, msgspec.Struct):
            _check_plain(value, "$")
        return _encoder.encode(value)
    except EncodingError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodingError(str(error)) from error


def decode_canonical(data: bytes) -> Any:
    """Read canonical bytes into plain JSON data; raise :class:`EncodingError` for anything not canonical."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EncodingError(f"not JSON: {error}") from error
    if encode_canonical(value) != data:
        raise EncodingError(describe_difference(data, _encoder.encode(value)))
    return value


def describe_difference(given: bytes, canonical: bytes) -> str:
    """Say where bytes leave the canonical form, for the message of a refusal."""
    at = next((i for i, (a, b) in enumerate(zip(given, canonical, strict=False)) if a != b), None)
    if at is None:
        at = min(len(given), len(canonical))
    found = given[at : at + 16].decode("utf-8", "replace")
    wanted = canonical[at : at + 16].decode("utf-8", "replace")
    return f"not canonical (RFC 8785): at byte {at} there is {found!r}, canonical is {wanted!r}"


def _check_plain(value: Any, path: str) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise EncodingError(f"integer beyond 2^53-1 at {path}", path)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise EncodingError(f"lone surrogate at {path}", path) from error
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_plain(item, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise EncodingError(f"object key {key!r} at {path} is not ASCII text", path)
            _check_plain(item, f"{path}.{key}")
    elif isinstance(value, msgspec.Struct):
        return
    else:
        raise EncodingError(
            f"{type(value).__name__} at {path}; only integers, text, booleans and null are allowed", path
        )


def encode_base64url(data: bytes) -> str:
    """Write bytes as base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str, size: int) -> bytes:
    """Read exactly ``size`` bytes of unpadded base64url; any other spelling of them raises :class:`EncodingError`."""
    try:
        if "+" in text or "/" in text:
            raise EncodingError("standard base64 where base64url is asked for")
        standard = text.replace("-", "+").replace("_", "/")
        data = binascii.a2b_base64(standard + "=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise EncodingError(f"not base64url: {error}") from error
    if len(data) != size or encode_base64url(data) != text:
        raise EncodingError(f"not {size} bytes in unpadded base64url")
    return data


def decode_hash(text: str) -> bytes:
    """Read 32 bytes of lower-case hex."""
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise EncodingError(f"not hex: {error}") from error
    if len(data) != 32 or data.hex() != text:
        raise EncodingError("not 64 characters of lower-case hex")
    return data


def account_id(prefix: str, op_id: OpId) -> AccountId:
    """Name the account an operation opens: its role's prefix and the first 16 bytes of the operation's id."""
    return AccountId(f"{prefix}_{base64.b32encode(op_id[:16]).rstrip(b'=').decode('ascii').lower()}")


def format_time(at_ms: int) -> str:
    """Write milliseconds since 1970-01-01T00:00:00Z as a time."""
    text = (_EPOCH + timedelta(milliseconds=at_ms)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{at_ms % 1000:03d}Z"


def parse_time(text: str) -> int:
    """Read a time as milliseconds since 1970-01-01T00:00:00Z; raise :class:`EncodingError` for any other spelling."""
    moment = _parse_moment(text)
    return round_ms(moment - _EPOCH)


def round_ms(span: timedelta) -> int:
    """Whole milliseconds of a span, by integer arithmetic."""
    return (span.days * 86_400 + span.seconds) * 1000 + span.microseconds // 1000


@lru_cache(maxsize=65_536)
def _parse_moment(text: str) -> datetime:
    if not _TIME.match(text):
        raise EncodingError(f"{text!r} is not a time of the form YYYY-MM-DDTHH:MM:SS.mmmZ")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise EncodingError(f"{text!r} is not a time: {error}") from error


def format_moment(moment: datetime) -> str:
    """Write an aware datetime as a time; what is finer than a millisecond is dropped."""
    return format_time(round_ms(moment - _EPOCH))


def parse_moment(text: str) -> datetime:
    """Read a time as an aware datetime in UTC."""
    return _parse_moment(text)


@lru_cache(maxsize=65_536)
def parse_date(text: str) -> date:
    """Read a date ``YYYY-MM-DD``; raise :class:`EncodingError` for any other spelling."""
    if not _DATE.match(text):
        raise EncodingError(f"{text!r} is not a date of the form YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise EncodingError(f"{text!r} is not a date: {error}") from error
