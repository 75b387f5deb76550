"""Canonical bytes: one spelling for each value, and no other is read."""

import base64
import calendar
import json
import math
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ledger.encoding import (
    MAX_INTEGER,
    EncodingError,
    OpId,
    account_id,
    decode_base64url,
    decode_canonical,
    decode_hash,
    encode_base64url,
    encode_canonical,
    format_time,
    parse_date,
    parse_moment,
    parse_time,
)

JCS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("vectors").joinpath("jcs.json").read_text("utf-8"))

# Published pairs outside of our subset, and why.
JCS_OUTSIDE = {"french": "keys that are not ASCII", "values": "floats", "weird": "keys that are not ASCII"}

INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=0x7F))
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)

NAMED_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

FIRST_MS = -2_208_988_800_000  # 1900-01-01T00:00:00.000Z
LAST_MS = 32_503_679_999_999  # 2999-12-31T23:59:59.999Z
TIMES_MS = st.integers(FIRST_MS, LAST_MS)


def write_text(text: str) -> str:
    """RFC 8785 section 3.2.2.2, character by character."""
    parts = [NAMED_ESCAPES.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 else c) for c in text]
    return '"' + "".join(parts) + '"'


def write_canonical(value: Any) -> str:
    """RFC 8785 for the subset without floats, written out naively."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return write_text(value)
    if isinstance(value, list):
        return "[" + ",".join(write_canonical(item) for item in value) + "]"
    return "{" + ",".join(write_text(key) + ":" + write_canonical(value[key]) for key in sorted(value)) + "}"


def places_between_tokens(text: str) -> list[int]:
    """Offsets at which JSON allows white space: everywhere but inside strings, numbers and words."""
    places, in_string, escaped = [0], False, False
    for i, c in enumerate(text):
        if in_string:
            in_string = escaped or c != '"'
            escaped = not escaped and c == "\\"
        else:
            in_string = c == '"'
        inside = in_string or (i + 1 < len(text) and c not in '{}[],:"' and text[i + 1] not in '{}[],:"')
        if not inside:
            places.append(i + 1)
    return places


@given(VALUES)
def test_value_is_written_as_rfc_8785_says(value: Any) -> None:
    """Every value of the subset has the bytes a naive reading of the RFC gives it."""
    assert encode_canonical(value) == write_canonical(value).encode()


@given(VALUES)
def test_value_is_read_back(value: Any) -> None:
    """Reading canonical bytes gives the value they were written from, booleans and integers told apart."""
    read = decode_canonical(encode_canonical(value))
    assert read == value
    assert repr(read) == repr(json.loads(write_canonical(value)))


@pytest.mark.parametrize("name", sorted(set(JCS) - set(JCS_OUTSIDE)))
def test_published_jcs_output_is_canonical(name: str) -> None:
    """The output of a published pair is read, and written again byte for byte."""
    output = JCS[name]["output"].encode()
    assert encode_canonical(decode_canonical(output)) == output
    assert encode_canonical(json.loads(output)) == output


@pytest.mark.parametrize("name", sorted(JCS_OUTSIDE))
def test_published_jcs_output_outside_the_subset_is_refused(name: str) -> None:
    """Floats and keys that are not ASCII are canonical JSON for others, and neither read nor written here."""
    output = JCS[name]["output"].encode()
    with pytest.raises(EncodingError, match=r"float at|is not ASCII"):
        decode_canonical(output)
    with pytest.raises(EncodingError, match=r"float at|is not ASCII"):
        encode_canonical(json.loads(output))


@pytest.mark.parametrize("name", sorted(JCS))
def test_published_jcs_input_is_refused(name: str) -> None:
    """No input of a published pair is canonical, so none is read."""
    with pytest.raises(EncodingError):
        decode_canonical(JCS[name]["input"].encode())


def test_published_jcs_strings_are_escaped_alike() -> None:
    """The strings of the pair with floats, without its floats, come out as published."""
    value = json.loads(JCS["values"]["input"])
    del value["numbers"]
    published = JCS["values"]["output"]
    start, end = published.index('"numbers"'), published.index('"string"')
    assert encode_canonical(value).decode() == published[:start] + published[end:]


@given(VALUES, st.data())
def test_changed_byte_never_reads_as_the_same_value(value: Any, data: st.DataObject) -> None:
    """One byte replaced: refused, or the canonical bytes of another value; never a second spelling."""
    canonical = encode_canonical(value)
    at = data.draw(st.integers(0, len(canonical) - 1))
    changed = canonical[:at] + bytes([canonical[at] ^ data.draw(st.integers(1, 255))]) + canonical[at + 1 :]
    try:
        read = decode_canonical(changed)
    except EncodingError:
        return
    assert encode_canonical(read) == changed
    assert write_canonical(read) != write_canonical(value)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever arrives, reading raises nothing but EncodingError."""
    try:
        value = decode_canonical(data)
    except EncodingError:
        return
    assert encode_canonical(value) == data


@given(VALUES, st.sampled_from([" ", "\t", "\n", "\r"]), st.data())
def test_white_space_is_refused_between_any_tokens(value: Any, space: str, data: st.DataObject) -> None:
    """One blank at any place where JSON allows it makes the bytes unreadable."""
    text = write_canonical(value)
    at = data.draw(st.sampled_from(places_between_tokens(text)))
    spaced = text[:at] + space + text[at:]
    assert json.loads(spaced) == value
    with pytest.raises(EncodingError, match="not canonical"):
        decode_canonical(spaced.encode())


@given(st.dictionaries(KEYS, INTEGERS, min_size=1), st.data())
def test_duplicate_key_is_refused(value: dict[str, int], data: st.DataObject) -> None:
    """A key that is there twice is refused, whichever value it has and wherever it stands."""
    members = [f"{write_text(key)}:{value[key]}" for key in sorted(value)]
    again = data.draw(st.sampled_from(sorted(value)))
    at = data.draw(st.integers(0, len(members)))
    members.insert(at, f"{write_text(again)}:{data.draw(INTEGERS)}")
    with pytest.raises(EncodingError, match="not canonical"):
        decode_canonical(("{" + ",".join(members) + "}").encode())


@given(st.dictionaries(KEYS, INTEGERS, min_size=2), st.randoms(use_true_random=False))
def test_keys_out_of_order_are_refused(value: dict[str, int], random: Any) -> None:
    """Of all orders of an object's members only the ascending one is read."""
    order = list(value)
    random.shuffle(order)
    assume(order != sorted(order))
    text = "{" + ",".join(f"{write_text(key)}:{value[key]}" for key in order) + "}"
    with pytest.raises(EncodingError, match="not canonical"):
        decode_canonical(text.encode())


@given(TEXTS, st.data())
def test_needless_escape_is_refused(text: str, data: st.DataObject) -> None:
    r"""A character written as \uXXXX is refused unless that is its only spelling."""
    assume(text)
    at = data.draw(st.integers(0, len(text) - 1))
    escaped = json.dumps(text[at])[1:-1] if ord(text[at]) > 0x7E else f"\\u{ord(text[at]):04X}"
    spelled = write_text(text[:at])[:-1] + escaped + write_text(text[at + 1 :])[1:]
    assume(spelled != write_text(text))
    with pytest.raises(EncodingError, match="not canonical"):
        decode_canonical(spelled.encode())


@given(st.floats())
def test_float_is_refused(number: float) -> None:
    """No float is read or written, whole or not, finite or not."""
    with pytest.raises(EncodingError, match="float at"):
        encode_canonical({"amount": number})
    if math.isfinite(number):
        with pytest.raises(EncodingError):
            decode_canonical(json.dumps(number).encode())


@pytest.mark.parametrize(
    "text",
    [
        "1.0",
        "1.5",
        "-0",
        "-0.0",
        "0e0",
        "1e2",
        "1E2",
        "1e+2",
        "1e308",
        "1e400",
        "1e99999999999",
        "5e-324",
        "-1e-400",
        "01",
        "+1",
        "-",
        ".5",
        "1.",
        "0x1",
        "NaN",
        "Infinity",
        "-Infinity",
        "1_000",
        "１",
    ],
)
def test_number_that_is_no_plain_integer_is_refused(text: str) -> None:
    """Exponents, fractions, signs and leading zeros are refused, also where their value would be an integer."""
    with pytest.raises(EncodingError):
        decode_canonical(text.encode())


@pytest.mark.parametrize("number", [MAX_INTEGER, -MAX_INTEGER])
def test_largest_integers_are_exact(number: int) -> None:
    """2^53-1 and its negative are the last integers that are read and written."""
    assert decode_canonical(encode_canonical([number])) == [number]


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**63, 2**64, -(2**63) - 1, 10**30, -(10**100)])
def test_integer_beyond_the_range_is_refused(number: int) -> None:
    """From 2^53 on nothing is read or written."""
    with pytest.raises(EncodingError, match=r"integer beyond 2\^53-1 at \$\[0\]"):
        decode_canonical(f"[{number}]".encode())
    with pytest.raises(EncodingError, match=r"integer beyond 2\^53-1 at \$\[0\]"):
        encode_canonical([number])


@pytest.mark.parametrize("digits", [400, 4_299, 4_300, 4_301, 100_000])
def test_integer_with_very_many_digits_is_refused(digits: int) -> None:
    """Also where the interpreter itself refuses to convert between numbers and text."""
    with pytest.raises(EncodingError):
        decode_canonical(b"9" * digits)
    with pytest.raises(EncodingError):
        encode_canonical(10**digits)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbf1",
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b"1\x00",
        b"[1,]",
        b'{"a":1,}',
        b"[1]]",
        b"1 2",
        b"'a'",
        b"nul",
        b"True",
        b'"\x1f"',
        b'"\x00"',
        b"/**/1",
        b"{a:1}",
        b"{1:1}",
        b'"\\x41"',
        b'"\\u12"',
        b"[",
        b'"a',
    ],
)
def test_bytes_that_are_not_json_are_refused(data: bytes) -> None:
    """A byte order mark, broken UTF-8, raw control characters and loose syntax are refused."""
    with pytest.raises(EncodingError, match="not JSON"):
        decode_canonical(data)


@pytest.mark.parametrize("escape", [r"\ud800", r"\udfff", r"\ud800a", r"\ude02\ud83d", r"\ud800\u0041"])
def test_lone_surrogate_is_refused(escape: str) -> None:
    """Half of a surrogate pair is no character: neither read nor written."""
    with pytest.raises(EncodingError):
        decode_canonical(f'"{escape}"'.encode())
    with pytest.raises(EncodingError, match=r"lone surrogate at \$\.name"):
        encode_canonical({"name": json.loads(f'"{escape}"')})


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_read_or_refused(opening: str) -> None:
    """However deep, the answer is a value or EncodingError, also where the interpreter's limit lies between layers."""
    closing = {"[": "]", '{"a":': "}"}[opening]
    limit = sys.getrecursionlimit()
    refused = 0
    for depth in [*range(limit - 200, limit + 20), 100_000]:
        data = (opening * depth + "1" + closing * depth).encode()
        try:
            assert encode_canonical(decode_canonical(data)) == data
        except EncodingError:
            refused += 1
    assert refused > 0


def test_deep_plain_data_is_refused_when_written() -> None:
    """A value nested beyond the interpreter's limit raises EncodingError, not RecursionError."""
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    with pytest.raises(EncodingError):
        encode_canonical(value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, 1.5]}, "$.a[1]"),
        ({"a": {"b": 2**53}}, "$.a.b"),
        ([b"x"], "$[0]"),
        ({"a": {1, 2}}, "$.a"),
        ({"é": 1}, "$"),
        ({"a": {1: 1}}, "$.a"),
        ({"a": {None: 1}}, "$.a"),
        ({"a": [datetime(2026, 1, 1)]}, "$.a[0]"),  # noqa: DTZ001
    ],
)
def test_refusal_names_the_place(value: Any, path: str) -> None:
    """Plain data that cannot be written is refused with the path of what is wrong."""
    with pytest.raises(EncodingError) as caught:
        encode_canonical(value)
    assert caught.value.path == path
    assert path in str(caught.value)


def test_difference_is_described_by_its_byte() -> None:
    """The message says where the bytes leave the canonical form, and what should stand there."""
    with pytest.raises(EncodingError, match=r"at byte 2 there is 'b\":1.*', canonical is 'a\":2"):
        decode_canonical(b'{"b":1,"a":2}')
    with pytest.raises(EncodingError, match=r"at byte 3 there is ' ', canonical is ''"):
        decode_canonical(b"[1] ")


@given(st.binary(min_size=1, max_size=70))
def test_base64url_is_rfc_4648_section_5_without_padding(data: bytes) -> None:
    """Bytes are written in the URL alphabet without padding, and read back at their exact size."""
    text = encode_base64url(data)
    assert text == base64.b64encode(data).decode().translate(str.maketrans("+/", "-_")).rstrip("=")
    assert decode_base64url(text, len(data)) == data
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(EncodingError):
            decode_base64url(text, size)


@given(st.binary(min_size=32, max_size=32), st.data())
def test_base64url_has_one_spelling(data: bytes, draw: st.DataObject) -> None:
    """Padding, blanks, the standard alphabet and stray bits in the last character are refused."""
    text = encode_base64url(data)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    stray = alphabet[alphabet.index(text[-1]) + draw.draw(st.integers(1, 3))]
    assert base64.urlsafe_b64decode(text[:-1] + stray + "=") == data
    at = draw.draw(st.integers(0, len(text)))
    blank = draw.draw(st.sampled_from([" ", "\n", "\t", "\0", "é", "=", "+", "/"]))
    for other in (
        text[:-1] + stray,
        text + "=",
        text + "\n",
        text[:at] + blank + text[at:],
        text[:at] + blank + text[at + 1 :],
    ):
        if other != text:
            with pytest.raises(EncodingError):
                decode_base64url(other, 32)


def test_base64url_alphabet_is_not_the_standard_one() -> None:
    """Bytes whose standard base64 has + and / are read in the URL alphabet only."""
    data = b"\xfb\xff\xbf" * 10
    assert encode_base64url(data) == "-_-_" * 10
    assert decode_base64url("-_-_" * 10, 30) == data
    with pytest.raises(EncodingError, match="standard base64"):
        decode_base64url("+/+/" * 10, 30)


@given(st.binary(min_size=32, max_size=32))
def test_hash_is_lower_case_hex(data: bytes) -> None:
    """A hash is 64 lower-case digits; longer, shorter, spaced and upper-case text is refused."""
    text = data.hex()
    assert decode_hash(text) == data
    spaced = f"{text[:2]} {text[2:]}"
    for other in (text + "\n", " " + text, spaced, text[:-1], text[:-2], text + "00", "0x" + text[2:], "é" + text[1:]):
        with pytest.raises(EncodingError):
            decode_hash(other)
    if text.upper() != text:
        with pytest.raises(EncodingError):
            decode_hash(text.upper())


@given(TIMES_MS)
def test_time_is_written_and_read_exactly(at_ms: int) -> None:
    """Milliseconds survive the way through text, which says what the calendar says."""
    text = format_time(at_ms)
    assert parse_time(text) == at_ms
    seconds = calendar.timegm((int(text[:4]), *(int(text[i : i + 2]) for i in (5, 8, 11, 14, 17))))
    assert seconds * 1000 + int(text[20:23]) == at_ms
    assert len(text) == 24
    assert parse_moment(text).utcoffset() is not None


@given(TIMES_MS, TIMES_MS)
def test_times_compare_as_their_text(one_ms: int, other_ms: int) -> None:
    """The rules compare times as text; that is the order of the moments."""
    assert (one_ms < other_ms) == (format_time(one_ms) < format_time(other_ms))


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("1900-01-01T00:00:00.000Z", FIRST_MS),
        ("2999-12-31T23:59:59.999Z", LAST_MS),
        ("2000-02-29T00:00:00.001Z", 951_782_400_001),
        ("2038-01-19T03:14:08.000Z", 2**31 * 1000),
    ],
)
def test_known_times(text: str, at_ms: int) -> None:
    """Moments whose milliseconds are well known, among them the first and the last one allowed."""
    assert parse_time(text) == at_ms
    assert format_time(at_ms) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T24:00:00.000Z",  # newer Pythons read it as the next midnight
        "2016-12-31T23:59:60.000Z",  # a leap second
        "2026-01-01T00:60:00.000Z",
        "2026-02-29T00:00:00.000Z",
        "2100-02-29T00:00:00.000Z",
        "2026-04-31T00:00:00.000Z",
        "2026-00-01T00:00:00.000Z",
        "2026-13-01T00:00:00.000Z",
        "2026-01-00T00:00:00.000Z",
        "1899-12-31T23:59:59.999Z",
        "3000-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.000Z\n",
        "\n2026-01-01T00:00:00.000Z",
        " 2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:00.000z",
        "2026-01-01t00:00:00.000Z",
        "2026-01-01 00:00:00.000Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.00Z",
        "2026-01-01T00:00:00.0000Z",
        "2026-01-01T00:00:00,000Z",
        "2026-01-01T00:00:00.000",
        "2026-01-01T00:00:00.000+00:00",
        "2026-W01-1T00:00:00.000Z",
        "20260101T000000.000Z",
        "2026-01-01",
        "２026-01-01T00:00:00.000Z",  # a full-width digit
        "2026-01-01T00:00:0٠.000Z",  # an Arabic digit
        "",
    ],
)
def test_other_spelling_of_a_time_is_refused(text: str) -> None:
    """A time has one spelling, and only moments of the calendar have one."""
    with pytest.raises(EncodingError):
        parse_time(text)
    with pytest.raises(EncodingError):
        parse_moment(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29",
        "2100-02-29",
        "2026-04-31",
        "2026-13-01",
        "2026-00-10",
        "2026-01-00",
        "1899-12-31",
        "3000-01-01",
        "2026-01-01\n",
        " 2026-01-01",
        "2026-1-01",
        "20260101",
        "2026-W01-1",
        "2026-001",
        "２026-01-01",
        "26-01-01",
        "",
    ],
)
def test_other_spelling_of_a_date_is_refused(text: str) -> None:
    """A date has one spelling, and only days of the calendar have one."""
    with pytest.raises(EncodingError):
        parse_date(text)


@pytest.mark.parametrize("text", ["1900-01-01", "2024-02-29", "2000-02-29", "2999-12-31"])
def test_date_is_read(text: str) -> None:
    """Leap days and the first and last day allowed are days."""
    assert parse_date(text).isoformat() == text


@given(st.binary(min_size=32, max_size=32))
def test_account_id_is_base32_of_half_the_operation_id(data: bytes) -> None:
    """Five bits a character, highest first, lower-case RFC 4648 alphabet; the last character carries three bits."""
    bits = int.from_bytes(data[:16], "big") << 2
    naive = "".join("abcdefghijklmnopqrstuvwxyz234567"[bits >> shift & 31] for shift in range(125, -1, -5))
    assert account_id("mem", OpId(data)) == f"mem_{naive}"
