"""The wallet: documents built from a clock and randomness that are passed in, and signed."""

import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.encoding import parse_time
from ledger.keys import encode_public_key, verify
from ledger.operations import (
    Genesis,
    MalformedError,
    OpenAccount,
    Redeem,
    ReplaceKeys,
    Transfer,
    decode_operation,
    decode_signed_operation,
    signed_message,
)
from ledger.terms import Currency, Recipient
from ledger.wallet import Wallet, encode_document, sign_operation

ORIGIN = "ledger.example/coalition"
MEMBER, OTHER_MEMBER = "mem_" + "a" * 26, "mem_" + "b" * 26
NOW = "2026-11-22T10:15:30.123Z"
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 5)]


def make_wallet(account: str | None = MEMBER, *, keys: int = 1, seed: int = 0) -> Wallet:
    return Wallet(ORIGIN, account, KEYS[:keys], lambda: parse_time(NOW), random.Random(seed).randbytes)


def pay(amount: int = 5) -> dict[str, Any]:
    return {"asset": "STAR", "recipients": (Recipient(amount=amount, to=OTHER_MEMBER),)}


def test_common_fields_are_filled_in() -> None:
    """Format, ledger, time from the clock, and actor from the account; no expiry unless asked for."""
    op = make_wallet().build(Transfer, **pay())
    assert (op.guerdon, op.ledger, op.at, op.expires) == (1, ORIGIN, NOW, None)
    assert isinstance(op, Transfer)
    assert op.actor == MEMBER


def test_nonce_is_16_bytes_of_the_randomness_passed_in() -> None:
    """The same seed repeats a document exactly; the next document of a wallet has another nonce."""
    sizes: list[int] = []

    def random_bytes(size: int) -> bytes:
        sizes.append(size)
        return b"\xff" * size

    op = Wallet(ORIGIN, MEMBER, KEYS[:1], lambda: 0, random_bytes).build(Transfer, **pay())
    assert (op.nonce, sizes) == ("_" * 21 + "w", [16])
    wallet = make_wallet()
    first, second = wallet.sign(Transfer, **pay()), wallet.sign(Transfer, **pay())
    assert first.op_id != second.op_id
    assert first == make_wallet().sign(Transfer, **pay())


def test_default_randomness_does_not_repeat() -> None:
    """Without randomness passed in, two equal payments are two documents."""
    wallet = Wallet(ORIGIN, MEMBER, KEYS[:1], lambda: 0)
    assert wallet.build(Transfer, **pay()).nonce != wallet.build(Transfer, **pay()).nonce


def test_given_fields_are_kept() -> None:
    """An import sets the time, the nonce and the actor itself."""
    given = {"at": "1997-01-01T00:00:00.000Z", "nonce": "A" * 22, "actor": OTHER_MEMBER}
    op = make_wallet().build(Redeem, amount=1, asset="STAR", merchant="mer_" + "c" * 26, **given)
    assert isinstance(op, Redeem)
    assert {"at": op.at, "nonce": op.nonce, "actor": op.actor} == given


@pytest.mark.parametrize(
    ("expires_in_ms", "expires"),
    [(0, NOW), (877, "2026-11-22T10:15:31.000Z"), (86_400_000, "2026-11-23T10:15:30.123Z")],
)
def test_expiry_counts_from_now(expires_in_ms: int, expires: str) -> None:
    """The last recording time is the clock's, later by the given span, whatever `at` is."""
    op = make_wallet().build(Transfer, expires_in_ms=expires_in_ms, at="1997-01-01T00:00:00.000Z", **pay())
    assert op.expires == expires


def test_actor_is_left_out_where_there_is_none() -> None:
    """Genesis has no actor, and a wallet without an account names none."""
    key = encode_public_key(KEYS[0])
    genesis = make_wallet().sign(
        Genesis,
        clock_tolerance_ms=0,
        currencies=(Currency(code="USD", scale=2),),
        keys=(key,),
        log_key="",
        name="Operator",
    )
    opened = make_wallet(None).sign(OpenAccount, role="member", keys=(key,))
    for signed in (genesis, opened):
        assert b'"actor"' not in signed.op_bytes


def test_every_key_and_co_signer_signs() -> None:
    """Each signature verifies over the context and the canonical bytes, in the order of the keys."""
    signed = make_wallet(keys=2).sign(Transfer, co_signers=KEYS[2:], **pay())
    assert [signature.key for signature in signed.sigs] == [encode_public_key(key) for key in KEYS]
    for signature in signed.sigs:
        assert verify(signature.key, signature.sig, signed_message(signed.op_bytes))
        assert not verify(signature.key, signature.sig, signed.op_bytes)


def test_keys_are_replaced_with_every_signature_there_can_be() -> None:
    """Those the wallet has, one that is left out among them, and the new ones, each once; the wallet keeps its own."""
    wallet = make_wallet(keys=2)
    signed = wallet.replace_keys(KEYS[1:], threshold=2)
    assert isinstance(signed.op, ReplaceKeys)
    public = tuple(encode_public_key(key) for key in KEYS)
    assert (signed.op.actor, signed.op.keys, signed.op.threshold) == (MEMBER, public[1:], 2)
    assert tuple(signature.key for signature in signed.sigs) == public
    assert wallet.keys == KEYS[:2]


def test_document_to_submit_is_read_back() -> None:
    """What is submitted is read as exactly what was signed."""
    signed = make_wallet(keys=2).sign(Transfer, **pay())
    document = encode_document(signed)
    assert decode_signed_operation(document, len(document)) == signed
    assert decode_operation(signed.op_bytes) == signed.op


BAD_FIELDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "amount of nothing": (pay(0), ("recipients[0]", "amount")),
    "amount too large": (pay(2**53), ("recipients[0]", "amount")),
    "amount far too large": (pay(2**70), ("recipients[0]", "amount")),
    "float": (pay(1.5), ("recipients[0]", "amount")),  # type: ignore[arg-type]
    "time without form": ({**pay(), "at": "yesterday"}, ("at",)),
    "to oneself": ({**pay(), "actor": OTHER_MEMBER}, ("recipients[0]", "to")),
    "text with a newline": ({**pay(), "asset": "STAR\n"}, ("asset",)),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_malformed_document_is_not_signed(name: str) -> None:
    """A document the ledger would refuse as malformed gets no signature, and the refusal names the field."""
    fields, path = BAD_FIELDS[name]
    with pytest.raises(MalformedError) as caught:
        make_wallet().sign(Transfer, **fields)
    assert (caught.value.code, caught.value.path) == ("MALFORMED", path)


def test_text_that_cannot_be_written_is_malformed() -> None:
    """A lone surrogate has no bytes to sign: refused like any other malformed text."""
    with pytest.raises(MalformedError):
        make_wallet().sign(Transfer, **{**pay(), "asset": "\ud800"})


def test_same_key_twice_is_refused() -> None:
    """A key that is both the wallet's and a co-signer's would sign twice."""
    with pytest.raises(MalformedError) as caught:
        make_wallet().sign(Transfer, co_signers=KEYS[:1], **pay())
    assert caught.value.path == ("sigs",)


def test_operation_is_signed_without_a_wallet() -> None:
    """Signing a built operation with the same keys gives the same document."""
    op = make_wallet(keys=2).build(Transfer, **pay())
    assert sign_operation(op, KEYS[:2]) == make_wallet(keys=2).sign(Transfer, **pay())
