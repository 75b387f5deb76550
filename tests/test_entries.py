"""Entries: the bytes that are hashed, linked and stored."""

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import MAX_INTEGER, EncodingError, LeafHash
from ledger.entries import (
    FIRST_PREV,
    MAX_ENTRY_BYTES,
    NO_LAST_DAY,
    Posting,
    decode_entry,
    encode_entry,
    leaf_hash,
    signed_operation_of,
)
from ledger.operations import MalformedError, build_operation
from ledger.wallet import sign_operation

MEMBER, OTHER_MEMBER = "mem_" + "a" * 26, "mem_" + "b" * 26
TIME = "2026-11-22T10:15:31.000Z"
PREV = LeafHash(bytes(range(32)))

OPERATION: dict[str, Any] = {
    "actor": MEMBER,
    "asset": "STAR",
    "at": "2026-11-22T10:15:30.123Z",
    "guerdon": 1,
    "kind": "transfer",
    "ledger": "ledger.example/coalition",
    "nonce": "A" * 22,
    "recipients": [{"amount": 1250, "to": OTHER_MEMBER}],
}
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2)]
SIGNED = sign_operation(build_operation(OPERATION), KEYS)
POSTINGS = (
    Posting(account=MEMBER, amount=-1000, asset="STAR", lot="2027-11-22"),
    Posting(account=MEMBER, amount=-250, asset="STAR"),
    Posting(account=OTHER_MEMBER, amount=1000, asset="STAR", lot="2027-11-22"),
    Posting(account=OTHER_MEMBER, amount=250, asset="STAR"),
)
DOCUMENT: dict[str, Any] = {
    "op": OPERATION,
    "postings": [
        {"account": MEMBER, "amount": -1000, "asset": "STAR", "lot": "2027-11-22"},
        {"account": MEMBER, "amount": -250, "asset": "STAR"},
        {"account": OTHER_MEMBER, "amount": 1000, "asset": "STAR", "lot": "2027-11-22"},
        {"account": OTHER_MEMBER, "amount": 250, "asset": "STAR"},
    ],
    "prev": bytes(range(32)).hex(),
    "seq": 41,
    "sigs": [{"key": signature.key, "sig": signature.sig} for signature in SIGNED.sigs],
    "time": TIME,
}
ENTRY = encode_entry(SIGNED, POSTINGS, seq=41, prev=PREV, time=TIME)


def write(document: Any) -> bytes:
    """Canonical bytes, by the standard library."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_entry_is_canonical_as_a_stranger_writes_it() -> None:
    """Sorted fields, sorted postings' fields, lots only where there are any."""
    assert write(DOCUMENT) == ENTRY


def test_entry_embeds_the_submitted_bytes() -> None:
    """The operation stands in its entry byte for byte as it was signed."""
    assert ENTRY.startswith(b'{"op":' + SIGNED.op_bytes + b',"postings":')


def test_entry_is_read_back() -> None:
    """Operation, signatures, postings, place and time survive, and the operation keeps its id."""
    entry = decode_entry(ENTRY)
    assert (entry.seq, entry.prev, entry.time, entry.postings) == (41, PREV.hex(), TIME, POSTINGS)
    assert signed_operation_of(entry) == SIGNED


def test_entry_without_postings_is_read_back() -> None:
    """Opening an account moves nothing: the list is there and empty."""
    data = encode_entry(SIGNED, (), seq=0, prev=FIRST_PREV, time=TIME)
    assert data == write({**DOCUMENT, "postings": [], "seq": 0, "prev": "0" * 64})
    assert decode_entry(data).postings == ()


def test_leaf_hash_is_domain_separated() -> None:
    """SHA-256 of a zero byte and the stored bytes."""
    assert leaf_hash(ENTRY) == hashlib.sha256(b"\x00" + ENTRY).digest()


def test_constants_of_the_format() -> None:
    """What a reader of the format relies on: the first link, the bundle's bound, a day after all days."""
    assert FIRST_PREV.hex() == "0" * 64
    assert len(MAX_ENTRY_BYTES.to_bytes(2, "big")) == 2
    with pytest.raises(OverflowError):
        (MAX_ENTRY_BYTES + 1).to_bytes(2, "big")
    # 2999-12-31 and 100 years is the latest last day a program can give.
    assert NO_LAST_DAY > "3099-12-31"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([MEMBER, OTHER_MEMBER, "sys_issued"]),
            st.integers(-MAX_INTEGER, MAX_INTEGER),
            st.none() | st.dates().map(lambda day: day.isoformat()),
        ),
        max_size=5,
    ),
    st.integers(0, MAX_INTEGER),
    st.binary(min_size=32, max_size=32),
)
def test_any_entry_is_read_back(legs: list[tuple[str, int, str | None]], seq: int, prev: bytes) -> None:
    """Whatever the postings, the link and the number are, the bytes are canonical and come back."""
    postings = tuple(Posting(account=account, amount=amount, asset="STAR", lot=lot) for account, amount, lot in legs)
    data = encode_entry(SIGNED, postings, seq=seq, prev=LeafHash(prev), time=TIME)
    assert data == write(json.loads(data))
    entry = decode_entry(data)
    assert (entry.postings, entry.seq, entry.prev) == (postings, seq, prev.hex())


CHANGES: dict[str, dict[str, Any]] = {
    "unknown field": {"memo": 1},
    "number below zero": {"seq": -1},
    "number out of range": {"seq": 2**53},
    "number far out of range": {"seq": 2**64},
    "number of a float": {"seq": 41.0},
    "number as text": {"seq": "41"},
    "link too short": {"prev": "0" * 63},
    "link in upper case": {"prev": "A" * 64},
    "link and newline": {"prev": "0" * 64 + "\n"},
    "time and newline": {"time": TIME + "\n"},
    "time without milliseconds": {"time": "2026-11-22T10:15:31Z"},
    "time after midnight": {"time": "2026-11-22T24:00:00.000Z"},
    "postings null": {"postings": None},
    "posting out of range": {"postings": [{"account": MEMBER, "amount": 2**53, "asset": "STAR"}]},
    "posting far below zero": {"postings": [{"account": MEMBER, "amount": -(2**53), "asset": "STAR"}]},
    "posting of a float": {"postings": [{"account": MEMBER, "amount": 1.5, "asset": "STAR"}]},
    "posting without amount": {"postings": [{"account": MEMBER, "asset": "STAR"}]},
    "posting with more": {"postings": [{"account": MEMBER, "amount": 1, "asset": "STAR", "memo": 1}]},
    "posting with a null lot": {"postings": [{"account": MEMBER, "amount": 1, "asset": "STAR", "lot": None}]},
    "operation null": {"op": None},
    "operation of another kind": {"op": {**OPERATION, "kind": "hold"}},
    "operation without asset": {"op": {k: v for k, v in OPERATION.items() if k != "asset"}},
    "operation with an absence spelled out": {"op": {**OPERATION, "expires": None}},
    "signature with more": {"sigs": [{**DOCUMENT["sigs"][0], "alg": 1}]},
}


@pytest.mark.parametrize("name", CHANGES)
def test_entry_of_another_form_is_refused(name: str) -> None:
    """Unknown fields, floats, numbers out of range and other spellings are no entry."""
    assert decode_entry(write(DOCUMENT)).seq == 41
    with pytest.raises(EncodingError):
        decode_entry(write({**DOCUMENT, **CHANGES[name]}))


@pytest.mark.parametrize("field", sorted(DOCUMENT))
def test_entry_without_a_field_is_refused(field: str) -> None:
    """All six fields are always there."""
    with pytest.raises(EncodingError, match=field):
        decode_entry(write({name: value for name, value in DOCUMENT.items() if name != field}))


@pytest.mark.parametrize(
    "data",
    [
        ENTRY + b"\n",
        b" " + ENTRY,
        ENTRY.replace(b":", b": ", 1),
        ENTRY[:-1],
        b"",
        b"null",
        b"\xff",
        ENTRY + ENTRY,
        ENTRY.replace(b'"seq":41', b'"seq":41,"seq":41'),
        json.dumps(DOCUMENT).encode(),
    ],
    ids=["newline", "blank", "inner blank", "cut", "empty", "null", "no text", "twice", "field twice", "unsorted"],
)
def test_other_bytes_of_an_entry_are_refused(data: bytes) -> None:
    """Stored bytes are read only in the one form they are written in."""
    with pytest.raises(EncodingError):
        decode_entry(data)


def test_nesting_without_end_is_refused() -> None:
    """Corrupt bytes raise EncodingError, never RecursionError."""
    for opening in (b"[", b'{"op":', b'{"postings":['):
        with pytest.raises(EncodingError):
            decode_entry(opening * 100_000)


@settings(max_examples=300)
@given(st.data())
def test_any_tampering_shows(data: st.DataObject) -> None:
    """Any part replaced by any bytes: refused, or read as these very bytes, whose leaf hash is another."""
    start = data.draw(st.integers(0, len(ENTRY)))
    end = data.draw(st.integers(start, min(start + 4, len(ENTRY))))
    changed = ENTRY[:start] + data.draw(st.binary(max_size=4)) + ENTRY[end:]
    if changed == ENTRY:
        return
    assert leaf_hash(changed) != leaf_hash(ENTRY)
    try:
        entry = decode_entry(changed)
    except EncodingError:
        return
    try:
        signed = signed_operation_of(entry)
    except MalformedError:
        return
    prev = LeafHash(bytes.fromhex(entry.prev))
    assert encode_entry(signed, entry.postings, seq=entry.seq, prev=prev, time=entry.time) == changed


def test_recorded_operation_is_checked_for_its_meaning() -> None:
    """An entry whose operation contradicts itself is no record of an operation, though its bytes are canonical."""
    twice = {**OPERATION, "recipients": [{"amount": 1, "to": MEMBER}]}
    entry = decode_entry(write({**DOCUMENT, "op": twice}))
    with pytest.raises(MalformedError, match="oneself"):
        signed_operation_of(entry)
