"""Ed25519, strictly: which signatures and keys are valid, for every verifier and for ever."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import EncodingError, encode_base64url
from ledger.keys import (
    OPERATION_CONTEXT,
    SESSION_CONTEXT,
    decode_public_key,
    encode_public_key,
    sign,
    verify,
    verify_raw,
)

WYCHEPROOF: dict[str, Any] = json.loads(
    Path(__file__).with_name("vectors").joinpath("wycheproof_ed25519.json").read_text("utf-8")
)

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

# The points whose order divides 8, as RFC 8032 encodes them: (order, encoding).
SMALL_ORDER = [
    (1, "0100000000000000000000000000000000000000000000000000000000000000"),
    (2, "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    (4, "0000000000000000000000000000000000000000000000000000000000000000"),
    (4, "0000000000000000000000000000000000000000000000000000000000000080"),
    (8, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    (8, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    (8, "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    (8, "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
]

# Other encodings of the first two that lax verifiers read: x is 0, yet its sign bit is set.
NEGATIVE_ZERO = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]

# Every encoding of a y that is not reduced modulo p, with either sign.
UNREDUCED = [(y | sign << 255).to_bytes(32, "little").hex() for y in range(P, 2**255) for sign in (0, 1)]

SEED = bytes(range(32))
KEY = Ed25519PrivateKey.from_private_bytes(SEED)
PUBLIC = encode_public_key(KEY)
MESSAGE = OPERATION_CONTEXT + b'{"guerdon":1}'
SIGNATURE = KEY.sign(MESSAGE)

Point = tuple[int, int]


def add(one: Point, other: Point) -> Point:
    """Affine addition on edwards25519 (RFC 8032 section 5.1.4)."""
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def point_of(encoding: str) -> Point:
    """Decode a point leniently: any square root of the right sign."""
    number = int.from_bytes(bytes.fromhex(encoding), "little")
    y, sign_bit = number % 2**255 % P, number >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return (P - x if x % 2 != sign_bit and x else x, y)


def text_of(encoding: str) -> str:
    return encode_base64url(bytes.fromhex(encoding))


def flips(data: bytes) -> list[bytes]:
    """All byte strings one bit away."""
    return [data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :] for i in range(len(data)) for bit in range(8)]


def test_every_wycheproof_case_is_decided_as_published() -> None:
    """150 cases, no difference: there is no room for one, since each is marked plainly valid or invalid."""
    results = {"valid": 0, "invalid": 0}
    for group in WYCHEPROOF["testGroups"]:
        key = text_of(group["publicKey"]["pk"])
        for case in group["tests"]:
            valid = verify(key, text_of(case["sig"]), bytes.fromhex(case["msg"]))
            assert valid == (case["result"] == "valid"), case
            results[case["result"]] += 1
    assert results == {"valid": 88, "invalid": 63}


def test_wycheproof_signatures_of_64_bytes_are_decided_alike_without_the_text_form() -> None:
    """What is refused is refused for its curve arithmetic, not only because its text is no signature."""
    refused = 0
    for group in WYCHEPROOF["testGroups"]:
        key = decode_public_key(text_of(group["publicKey"]["pk"]))
        for case in group["tests"]:
            if len(case["sig"]) == 128:
                valid = verify_raw(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                assert valid == (case["result"] == "valid"), case
                refused += not valid
    assert refused >= 20


def test_signature_is_the_one_of_rfc_8032() -> None:
    """Test 1 of RFC 8032 section 7.1: key, message and signature."""
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    assert encode_public_key(key) == text_of("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert sign(key, b"") == text_of(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary())
def test_signature_is_valid_for_its_key_and_message_only(seed: bytes, other_seed: bytes, message: bytes) -> None:
    """What a key signed verifies under it, and under no other key and for no other message."""
    key, other = Ed25519PrivateKey.from_private_bytes(seed), Ed25519PrivateKey.from_private_bytes(other_seed)
    signature = sign(key, message)
    assert verify(encode_public_key(key), signature, message)
    assert verify(encode_public_key(other), signature, message) == (seed == other_seed)
    assert not verify(encode_public_key(key), signature, message + b"\0")


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32))
def test_public_key_is_read_back(seed: bytes) -> None:
    """43 characters name a key, and the key writes them again, from its private and its public half."""
    text = encode_public_key(Ed25519PrivateKey.from_private_bytes(seed))
    assert len(text) == 43
    assert encode_public_key(decode_public_key(text)) == text


def test_flipped_bit_of_a_signature_is_refused() -> None:
    """None of the 512 signatures one bit away is valid."""
    assert verify(PUBLIC, encode_base64url(SIGNATURE), MESSAGE)
    assert not any(verify(PUBLIC, encode_base64url(changed), MESSAGE) for changed in flips(SIGNATURE))


def test_flipped_bit_of_a_key_is_refused() -> None:
    """Under none of the 256 keys one bit away is the signature valid."""
    keys = [encode_base64url(changed) for changed in flips(KEY.public_key().public_bytes_raw())]
    assert not any(verify(key, encode_base64url(SIGNATURE), MESSAGE) for key in keys)


def test_flipped_bit_of_a_message_is_refused() -> None:
    """The signature covers every bit of the message."""
    assert not any(verify(PUBLIC, encode_base64url(SIGNATURE), changed) for changed in flips(MESSAGE))


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63])
def test_truncated_signature_is_refused(size: int) -> None:
    """A part of a signature is none."""
    assert not verify(PUBLIC, encode_base64url(SIGNATURE[:size]), MESSAGE)
    assert not verify(PUBLIC, encode_base64url(SIGNATURE)[:size], MESSAGE)
    assert not verify_raw(KEY.public_key(), SIGNATURE[:size], MESSAGE)


@pytest.mark.parametrize("extra", [b"\0", b"\n", bytes(32), SIGNATURE])
def test_extended_signature_is_refused(extra: bytes) -> None:
    """Bytes after a signature make it another text, and that is none."""
    assert not verify(PUBLIC, encode_base64url(SIGNATURE + extra), MESSAGE)
    assert not verify_raw(KEY.public_key(), SIGNATURE + extra, MESSAGE)


@pytest.mark.parametrize("size", [0, 1, 16, 31, 33, 64])
def test_key_of_another_size_is_refused(size: int) -> None:
    """A public key is exactly 32 bytes."""
    with pytest.raises(EncodingError):
        decode_public_key(encode_base64url((KEY.public_key().public_bytes_raw() * 2)[:size]))


@pytest.mark.parametrize("suffix", ["\n", " ", "=", "A", "\0"])
def test_text_after_a_key_or_signature_is_refused(suffix: str) -> None:
    """Keys and signatures are compared as text elsewhere, so each has one spelling."""
    with pytest.raises(EncodingError):
        decode_public_key(PUBLIC + suffix)
    assert not verify(PUBLIC + suffix, encode_base64url(SIGNATURE), MESSAGE)
    assert not verify(PUBLIC, encode_base64url(SIGNATURE) + suffix, MESSAGE)


@pytest.mark.parametrize("times", range(1, 16))
def test_signature_with_the_group_order_added_is_refused(times: int) -> None:
    """S + n·L solves the same equation; only the S below L is a signature (RFC 8032 section 5.1.7)."""
    s = int.from_bytes(SIGNATURE[32:], "little") + times * L
    assert s < 2**256
    assert not verify(PUBLIC, encode_base64url(SIGNATURE[:32] + s.to_bytes(32, "little")), MESSAGE)


def test_list_of_small_order_points_is_complete() -> None:
    """The eight encodings are eight points of the curve of the orders stated, closed under addition."""
    points = [point_of(encoding) for _, encoding in SMALL_ORDER]
    assert {add(one, other) for one in points for other in points} == set(points)
    for (order, encoding), point in zip(SMALL_ORDER, points, strict=True):
        assert (point[1] | (point[0] & 1) << 255).to_bytes(32, "little").hex() == encoding
        multiples = [point]
        while multiples[-1] != (0, 1):
            multiples.append(add(multiples[-1], point))
        assert len(multiples) == order
    assert len(set(points)) == 8


@pytest.mark.parametrize("encoding", [encoding for _, encoding in SMALL_ORDER] + NEGATIVE_ZERO)
def test_small_order_key_is_refused(encoding: str) -> None:
    """No point whose order divides 8 is a key, in any of its encodings."""
    with pytest.raises(EncodingError, match="small order"):
        decode_public_key(text_of(encoding))


@pytest.mark.parametrize("encoding", UNREDUCED)
def test_unreduced_key_is_refused(encoding: str) -> None:
    """A y from p to 2^255-1 would be a second encoding of y - p."""
    with pytest.raises(EncodingError, match="not reduced"):
        decode_public_key(text_of(encoding))


def test_small_order_key_would_have_one_signature_for_every_message() -> None:
    """Why they are refused: under the neutral point R = 0, S = 0 fits any message, says the library below us."""
    neutral = bytes.fromhex(SMALL_ORDER[0][1])
    signature = neutral + bytes(32)
    for message in (b"one", b"two"):
        Ed25519PublicKey.from_public_bytes(neutral).verify(signature, message)
        assert not verify(encode_base64url(neutral), encode_base64url(signature), message)


@given(st.text(max_size=90), st.text(max_size=90))
def test_text_that_is_no_key_or_signature_is_not_valid(key: str, sig: str) -> None:
    """Whatever stands there, verification answers and does not raise."""
    assert not verify(key, encode_base64url(SIGNATURE), MESSAGE)
    assert not verify(PUBLIC, sig, MESSAGE)


def test_contexts_cannot_be_taken_for_one_another() -> None:
    """No context begins another, so no message under one is a message under the other."""
    assert not OPERATION_CONTEXT.startswith(SESSION_CONTEXT)
    assert not SESSION_CONTEXT.startswith(OPERATION_CONTEXT)
    signature = sign(KEY, SESSION_CONTEXT + b'{"guerdon":1}')
    assert verify(PUBLIC, signature, SESSION_CONTEXT + b'{"guerdon":1}')
    assert not verify(PUBLIC, signature, MESSAGE)
