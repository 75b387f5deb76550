"""What is kept of a person: its fields, their normal forms, and the identifiers a person is found by.

Two spellings of one phone number, address or card are one value here, so that whoever types it at a till finds what
somebody else has typed elsewhere. What has no such form is refused with :class:`PersonalDataError`, which names the
field and never repeats the value: errors end in logs.

Pure functions of text. Keeping, encrypting and finding are left to :mod:`ledger.profiles`.
"""

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Literal

from msgspec import Struct, structs

from ledger.encoding import EncodingError, parse_date
from ledger.terms import time_zones

MAX_NAME = 200
MAX_EMAIL_BYTES = 254
"""RFC 5321 section 4.5.3.1.3: a path of 256 octets with its brackets."""

MAX_LOCAL_BYTES = 64
MAX_ADDRESS_LINES = 5
MAX_ADDRESS_LINE = 200
MAX_POSTAL_CODE = 20
MAX_LANGUAGE = 64
MAX_EXTERNAL = 64
SHOWN_CHARACTERS = 4
"""Characters of an identifier that a list shows, at most, and never more than a third of it."""

IdentifierKind = Literal["card", "phone", "email", "external"]


class PersonalDataError(ValueError):
    """A value that has no normal form. The message says what to do, and has nothing of the value in it."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(message)
        self.path = path


class PostalAddress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where post is sent to. ``lines`` are street, house and what else; ``country`` is of ISO 3166-1, two letters."""

    lines: tuple[str, ...] = ()
    postal_code: str | None = None
    city: str | None = None
    region: str | None = None
    country: str | None = None


class Profile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person, as far as known. ``phone`` is in E.164, ``language`` of BCP 47, ``time_zone`` a name of the IANA's."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None
    birthday: str | None = None
    language: str | None = None
    time_zone: str | None = None
    address: PostalAddress | None = None


def normal_profile(profile: Profile, today: date) -> Profile:
    """A profile with every field in its normal form; raise :class:`PersonalDataError` naming the first that has none.

    ``today`` is the latest day that a birthday may be: one may be born tomorrow by a calendar further east.
    """
    name, address = profile.name, profile.address
    return Profile(
        name=None if name is None else _normal_text(name, MAX_NAME, "name"),
        email=_normal(normal_email, profile.email, "email"),
        phone=_normal(normal_phone, profile.phone, "phone"),
        birthday=None if profile.birthday is None else _normal_birthday(profile.birthday, today),
        language=_normal(normal_language, profile.language, "language"),
        time_zone=_normal(_normal_time_zone, profile.time_zone, "time_zone"),
        address=None if address is None else normal_address(address),
    )


def normal_address(address: PostalAddress) -> PostalAddress:
    """An address in its normal form; raise :class:`PersonalDataError` with the path below ``address``."""
    if len(address.lines) > MAX_ADDRESS_LINES:
        raise PersonalDataError(f"an address has at most {MAX_ADDRESS_LINES} lines", "address", "lines")
    lines = (_normal_text(line, MAX_ADDRESS_LINE, "address", "lines") for line in address.lines)
    rest = {
        field: None if (text := getattr(address, field)) is None else _normal_text(text, most, "address", field)
        for field, most in (("postal_code", MAX_POSTAL_CODE), ("city", MAX_NAME), ("region", MAX_NAME))
    }
    if address.country is not None and not re.fullmatch(r"[A-Z]{2}", address.country):
        raise PersonalDataError("a country is two capital letters (ISO 3166-1): DE", "address", "country")
    return structs.replace(address, lines=tuple(lines), **rest)


def normal_identifier(kind: IdentifierKind, value: str) -> str:
    """An identifier in the form it is found by; raise :class:`PersonalDataError` for what can be none."""
    try:
        return _IDENTIFIERS[kind](value)
    except PersonalDataError as error:
        raise PersonalDataError(str(error), "value") from None


def shown_characters(value: str) -> str:
    """The last characters of an identifier, by which its owner knows it among others."""
    shown = min(SHOWN_CHARACTERS, len(value) // 3)
    return value[-shown:] if shown else ""


# NFKC turns the digits that keyboards of other scripts have, and wide ones, into those of E.164.
_BETWEEN_DIGITS = re.compile(r"[\s().\-/\u2010-\u2015]")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_CARD = re.compile(r"[0-9]{4,32}\Z")


def normal_phone(text: str) -> str:
    """A phone number in E.164: a plus, the country's code and the number, at most 15 digits.

    Spaces, hyphens, points, slashes and brackets are left out; so is the national ``(0)``; 00 in front is a plus.
    """
    plain = unicodedata.normalize("NFKC", text[:100]).strip().replace("(0)", "")
    plain = _BETWEEN_DIGITS.sub("", plain)
    if plain.startswith("00"):
        plain = "+" + plain[2:]
    if len(text) > 100 or not _E164.match(plain):
        raise PersonalDataError("a phone number begins with + and the country's code (E.164): +49 30 1234567")
    return plain


_LABEL = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?\Z")


def normal_email(text: str) -> str:
    """An address in NFC with its domain in lower case. What stands before the @ is the receiver's to read: it stays."""
    plain = unicodedata.normalize("NFC", text[: 2 * MAX_EMAIL_BYTES]).strip()
    local, at, domain = plain.rpartition("@")
    domain = unicodedata.normalize("NFC", domain.lower())
    labels = domain.split(".")
    printable = plain.isprintable() and not any(c.isspace() or c in '<>(),;:"[]\\@' for c in local)
    fits = len(text) <= 2 * MAX_EMAIL_BYTES and printable
    fits = fits and len(plain.encode()) <= MAX_EMAIL_BYTES and len(local.encode()) <= MAX_LOCAL_BYTES
    dotted = local.startswith(".") or local.endswith(".") or ".." in local
    if not at or not local or dotted or not fits or len(labels) < 2 or not all(map(_LABEL.match, labels)):
        raise PersonalDataError("an e-mail address is of the form name@example.org")
    return f"{local}@{domain}"


def normal_card(text: str) -> str:
    """A card's number without its spaces and hyphens. Issuers number as they like: no check digit is asked for."""
    plain = re.sub(r"[\s\-]", "", unicodedata.normalize("NFKC", text[:100]))
    if len(text) > 100 or not _CARD.match(plain):
        raise PersonalDataError("a card's number is 4 to 32 digits")
    return plain


def normal_external(text: str) -> str:
    """A number or name that a merchant's own systems know somebody by, in NFC, as it is otherwise."""
    return _normal_text(text, MAX_EXTERNAL)


_IDENTIFIERS: dict[IdentifierKind, Callable[[str], str]] = {
    "card": normal_card,
    "phone": normal_phone,
    "email": normal_email,
    "external": normal_external,
}

# RFC 5646 section 2.1, without what was grandfathered: language, script, region, variants, extensions, private use.
_LANGUAGE = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*(?:-[0-9a-wy-z](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?\Z"
)


def normal_language(text: str) -> str:
    """A language tag of BCP 47 in the case that its section 2.1.1 recommends: ``de-Latn-CH``."""
    plain = text.lower() if text.isascii() else ""
    if len(text) > MAX_LANGUAGE or not _LANGUAGE.match(plain):
        raise PersonalDataError("a language is a tag of BCP 47: de, en-GB, zh-Hant")
    first, *rest = plain.split("-")
    tags, after_singleton = [first], False
    for tag in rest:
        after_singleton = after_singleton or len(tag) == 1
        keep = after_singleton or len(tag) not in {2, 4}
        tags.append(tag if keep else tag.upper() if len(tag) == 2 else tag.title())
    return "-".join(tags)


def _normal_time_zone(text: str) -> str:
    if text not in time_zones():
        raise PersonalDataError("a time zone is a name of the IANA's: Europe/Berlin")
    return text


def _normal_birthday(text: str, today: date) -> str:
    try:
        born = parse_date(text)
    except EncodingError:
        raise PersonalDataError("a birthday is a date of the form YYYY-MM-DD", "birthday") from None
    if not date(1870, 1, 1) <= born <= today:
        raise PersonalDataError("a birthday lies between 1870 and today", "birthday")
    return text


def _normal(form: Callable[[str], str], text: str | None, field: str) -> str | None:
    try:
        return None if text is None else form(text)
    except PersonalDataError as error:
        raise PersonalDataError(str(error), field) from None


def _normal_text(text: str, most: int, *path: str) -> str:
    plain = unicodedata.normalize("NFC", text[: 4 * most]).strip()
    if not plain or len(plain) > most or not plain.isprintable():
        raise PersonalDataError(f"1 to {most} characters, without line breaks or other controls", *path)
    return plain
