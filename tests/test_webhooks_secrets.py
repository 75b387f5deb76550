"""Secrets of webhooks: how they are kept, what they sign, and what becomes of them when the log's key changes."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from api.webhook_secrets import SecretBox, SecretError, make_secret, secret_text, signed_headers

ORIGIN = "ledger.example/test"
FORMER, KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
SECRET = bytes(range(32))
ONE, OTHER = "whk_" + "a" * 26, "whk_" + "b" * 26


def counting(size: int) -> bytes:
    return bytes(range(size))


def box(*keys: Ed25519PrivateKey, origin: str = ORIGIN) -> SecretBox:
    return SecretBox(origin, keys, counting)


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def test_secret_is_what_standard_webhooks_asks_for() -> None:
    """32 bytes, told as whsec_ and their base64."""
    assert make_secret(counting) == SECRET
    text = secret_text(SECRET)
    assert text.startswith("whsec_")
    assert base64.b64decode(text.removeprefix("whsec_"), validate=True) == SECRET


@given(st.text(st.characters(codec="utf-8")), st.binary(min_size=24, max_size=64))
def test_library_verifies_what_was_signed(text: str, secret: bytes) -> None:
    """Whatever the body is; and with no other secret, id or body."""
    headers = signed_headers([secret], "msg_1", now_ms(), text.encode())
    Webhook(secret_text(secret)).verify(text, headers, json_parse=False)
    for wrong, body, changed in (
        (bytes([secret[0] ^ 1]) + secret[1:], text, headers),
        (secret, text + "x", headers),
        (secret, text, headers | {"webhook-id": "msg_2"}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong).verify(body, changed, json_parse=False)


def test_signature_is_that_of_the_specification() -> None:
    """Its published example: secret, id, time and body give this signature."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330_000, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_in_force_signs() -> None:
    """During a rotation a receiver verifies with either."""
    secrets = [SECRET, SECRET[::-1]]
    headers = signed_headers(secrets, "msg_1", now_ms(), b"{}")
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert Webhook(secret).verify(b"{}", headers) == {}


def test_secret_is_kept_encrypted() -> None:
    sealed = box(KEY).seal(ONE, SECRET)
    assert SECRET not in sealed
    assert SECRET[:8] not in sealed[12:]
    assert box(KEY).open(ONE, sealed) == SECRET


def test_secret_cannot_be_read_elsewhere() -> None:
    """Not with another key, for another webhook or ledger, and not after a change of any byte."""
    sealed = box(KEY).seal(ONE, SECRET)
    for other, webhook in ((box(FORMER), ONE), (box(KEY), OTHER), (box(KEY, origin="ledger.example/other"), ONE)):
        with pytest.raises(SecretError, match="rotate it"):
            other.open(webhook, sealed)
    for i in range(len(sealed)):
        with pytest.raises(SecretError):
            box(KEY).open(ONE, sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :])
    for cut in (b"", sealed[:11], sealed[:-1]):
        with pytest.raises(SecretError):
            box(KEY).open(ONE, cut)


def test_secret_moves_to_the_log_keys_successor() -> None:
    """A server with both keys reads it, and encrypts it anew with its first; then the former is not needed."""
    sealed = box(FORMER).seal(ONE, SECRET)
    both = box(KEY, FORMER)
    assert both.open(ONE, sealed) == SECRET
    renewed = both.renewed(ONE, sealed)
    assert renewed is not None
    assert box(KEY).open(ONE, renewed) == SECRET
    assert both.renewed(ONE, renewed) is None
    assert box(KEY).renewed(ONE, sealed) is None
