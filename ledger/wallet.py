"""Build and sign operations, the way a member's wallet or a merchant's back office does.

Randomness and the clock are passed in, so that the same wallet runs in a browser test, an import that must be
repeatable, and a simulation.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.encoding import encode_base64url, format_time
from ledger.keys import encode_public_key, sign
from ledger.operations import (
    MalformedError,
    Operation,
    ReplaceKeys,
    Signature,
    SignedOperation,
    encode_operation,
    encode_signed_operation,
    sign_with,
    signed_message,
)

RandomBytes = Callable[[int], bytes]


def sign_operation(op: Operation, keys: Sequence[Ed25519PrivateKey]) -> SignedOperation:
    """Sign an operation with every key given; raise :class:`MalformedError` when it is not well formed."""
    try:
        op_bytes = encode_operation(op)
    except ValueError as error:  # text with half a surrogate pair has no bytes
        raise MalformedError("MALFORMED", str(error)) from error
    message = signed_message(op_bytes)
    sigs = tuple(Signature(key=encode_public_key(key), sig=sign(key, message)) for key in keys)
    return sign_with(op_bytes, sigs)


def encode_document(signed: SignedOperation) -> bytes:
    """The canonical bytes to submit: the operation and its signatures."""
    return encode_signed_operation(signed.op_bytes, signed.sigs)


class Wallet:
    """Signs for one account with its keys (or as custodian for another). ``account`` is absent before it is opened."""

    def __init__(
        self,
        origin: str,
        account: str | None,
        keys: Sequence[Ed25519PrivateKey],
        clock: Callable[[], int],
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self.origin = origin
        self.account = account
        self.keys = list(keys)
        self._clock = clock
        self._random_bytes = random_bytes

    def build(self, kind: type[Operation], **fields: Any) -> Operation:
        """An operation of a kind: format, ledger, time and nonce are filled in, and the actor where the kind has one.

        ``at``, ``nonce`` and ``actor`` may be given; ``expires_in_ms`` sets ``expires`` from now.
        """
        now_ms = self._clock()
        expires_in_ms = fields.pop("expires_in_ms", None)
        if expires_in_ms is not None:
            fields["expires"] = format_time(now_ms + expires_in_ms)
        fields.setdefault("at", format_time(now_ms))
        fields.setdefault("nonce", encode_base64url(self._random_bytes(16)))
        if self.account is not None and "actor" in kind.__struct_fields__:
            fields.setdefault("actor", self.account)
        return kind(guerdon=1, ledger=self.origin, **fields)

    def sign(
        self, kind: type[Operation], *, co_signers: Sequence[Ed25519PrivateKey] = (), **fields: Any
    ) -> SignedOperation:
        """Build an operation and sign it with this wallet's keys and those of co-signers."""
        return sign_operation(self.build(kind, **fields), [*self.keys, *co_signers])

    def replace_keys(self, keys: Sequence[Ed25519PrivateKey], threshold: int = 1, **fields: Any) -> SignedOperation:
        """The operation that makes these the account's only keys, signed with those it has and with the new ones.

        This wallet keeps the keys it has: make another one with the new keys once the operation is recorded. So a
        custodian signs for an account in its custody, and hands it over to whoever has the new keys.
        """
        own = {encode_public_key(key) for key in self.keys}
        public = tuple(encode_public_key(key) for key in keys)
        new = [key for key, text in zip(keys, public, strict=True) if text not in own]
        return self.sign(ReplaceKeys, co_signers=new, keys=public, threshold=threshold, **fields)
