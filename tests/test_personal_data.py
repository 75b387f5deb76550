"""Normal forms of what is kept of a person, and refusals that repeat nothing of it."""

from datetime import date

import pytest

from ledger.personal_data import (
    IdentifierKind,
    PersonalDataError,
    PostalAddress,
    Profile,
    normal_identifier,
    normal_language,
    normal_profile,
    shown_characters,
)

TODAY = date(2026, 3, 2)


@pytest.mark.parametrize(
    ("kind", "value", "normal"),
    [
        ("phone", "+49 30 1234-567", "+49301234567"),
        ("phone", "0049 (0)30/1234.567", "+49301234567"),
        ("phone", "＋４９　３０　１２３４５６７", "+49301234567"),
        ("email", " Ada@EXAMPLE.Org", "Ada@example.org"),
        ("email", "jose\u0301@Bu\u0308cher.example", "jos\u00e9@b\u00fccher.example"),
        ("card", "6001 2345-6789", "600123456789"),
        ("card", "0000", "0000"),
        ("external", " K\u00f6ln/7 ", "K\u00f6ln/7"),
        ("external", "K", "K"),
    ],
)
def test_spellings_of_one_identifier_are_one_value(kind: IdentifierKind, value: str, normal: str) -> None:
    """And a normal form is its own."""
    assert normal_identifier(kind, value) == normal
    assert normal_identifier(kind, normal) == normal


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("phone", "030 1234567"),
        ("phone", "+0301234567"),
        ("phone", "+49"),
        ("phone", "+4930123456789012"),
        ("phone", "+49301234x67"),
        ("phone", "+4930" + " " * 200),
        ("email", "ada"),
        ("email", "@example.org"),
        ("email", "ada@localhost"),
        ("email", "ada@-example.org"),
        ("email", "a da@example.org"),
        ("email", "a..da@example.org"),
        ("email", "ada@exa_mple..org"),
        ("email", "a\u0000@example.org"),
        ("email", f"{'a' * 65}@example.org"),
        ("email", f"a@{'b.' * 130}org"),
        ("card", "123"),
        ("card", "1234a"),
        ("card", "1" * 33),
        ("external", " "),
        ("external", "a\nb"),
        ("external", "x" * 65),
        ("external", "\ud800"),
    ],
)
def test_what_is_no_identifier_is_refused_without_repeating_it(kind: IdentifierKind, value: str) -> None:
    """Errors end in logs."""
    with pytest.raises(PersonalDataError) as refused:
        normal_identifier(kind, value)
    assert refused.value.path == ("value",)
    if len(value.strip()) > 3 and value != "@example.org":
        assert value not in str(refused.value)


@pytest.mark.parametrize(
    ("tag", "normal"),
    [
        ("DE", "de"),
        ("EN-gb", "en-GB"),
        ("ZH-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("de-ch-1996", "de-CH-1996"),
        ("zh-cmn-hans-cn", "zh-cmn-Hans-CN"),
        ("en-u-ca-buddhist-x-ABCD", "en-u-ca-buddhist-x-abcd"),
        ("sl-rozaj-biske", "sl-rozaj-biske"),
    ],
)
def test_languages_are_written_as_bcp_47_recommends(tag: str, normal: str) -> None:
    """RFC 5646 section 2.1.1, whose examples are among these."""
    assert normal_language(tag) == normal


@pytest.mark.parametrize("tag", ["", "d", "german1", "de_DE", "de-", "de--CH", "en-u", "x", "\u00e4\u00f6", "e" * 70])
def test_what_is_no_language_is_refused(tag: str) -> None:
    with pytest.raises(PersonalDataError, match="BCP 47"):
        normal_language(tag)


def test_profile_is_kept_in_normal_form() -> None:
    given = Profile(
        name=" Zo\u0065\u0308 ",
        email="z@EXAMPLE.org",
        phone="+41 44 668 18 00",
        birthday="2026-03-02",
        language="de-ch",
        time_zone="Europe/Zurich",
        address=PostalAddress(lines=(" Bahnhofstrasse 1 ",), postal_code="8001", city="Z\u00fcrich", country="CH"),
    )
    kept = normal_profile(given, TODAY)
    assert kept == Profile(
        name="Zo\u00eb",
        email="z@example.org",
        phone="+41446681800",
        birthday="2026-03-02",
        language="de-CH",
        time_zone="Europe/Zurich",
        address=PostalAddress(lines=("Bahnhofstrasse 1",), postal_code="8001", city="Z\u00fcrich", country="CH"),
    )
    assert normal_profile(kept, TODAY) == kept
    assert normal_profile(Profile(), TODAY) == Profile()


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        (Profile(name=""), ("name",)),
        (Profile(name="x" * 201), ("name",)),
        (Profile(email="x"), ("email",)),
        (Profile(phone="1"), ("phone",)),
        (Profile(birthday="2026-03-03"), ("birthday",)),
        (Profile(birthday="1869-12-31"), ("birthday",)),
        (Profile(birthday="2.3.1990"), ("birthday",)),
        (Profile(language="german!"), ("language",)),
        (Profile(time_zone="Europe/Nowhere"), ("time_zone",)),
        (Profile(address=PostalAddress(lines=("x",) * 6)), ("address", "lines")),
        (Profile(address=PostalAddress(lines=("a\tb",))), ("address", "lines")),
        (Profile(address=PostalAddress(city="")), ("address", "city")),
        (Profile(address=PostalAddress(postal_code="1" * 21)), ("address", "postal_code")),
        (Profile(address=PostalAddress(country="de")), ("address", "country")),
    ],
)
def test_refusal_names_the_field(profile: Profile, path: tuple[str, ...]) -> None:
    with pytest.raises(PersonalDataError) as refused:
        normal_profile(profile, TODAY)
    assert refused.value.path == path


@pytest.mark.parametrize(("value", "shown"), [("+49301234567", "4567"), ("123456", "56"), ("12", ""), ("K-1", "1")])
def test_list_shows_little_of_an_identifier(value: str, shown: str) -> None:
    """Never more than a third, so that a short one is not told whole."""
    assert shown_characters(value) == shown
