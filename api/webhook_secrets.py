"""Secrets of webhooks: made, kept encrypted, and used to sign, per Standard Webhooks.

A secret is 32 random bytes, told once, as ``whsec_`` and their base64. The database holds it encrypted with AES-256-GCM
under a key that HKDF derives from the log's private key: a copy of the database alone signs nothing. What is encrypted
is bound to its ledger and webhook, so that it cannot be moved to another.

The server encrypts with its first log key and decrypts with any that it has. So while the log's key is replaced, a
server with both (``GUERDON_OTHER_LOG_KEY_FILES``) encrypts everything anew when it begins to send
(:meth:`SecretBox.renewed`), after which the former key is no longer needed.
"""

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from standardwebhooks import Webhook as Signer

SECRET_BYTES = 32
"""As many as HMAC-SHA256 uses; Standard Webhooks asks for 24 to 64."""

_PREFIX = "whsec_"
_NONCE_BYTES = 12

RandomBytes = Callable[[int], bytes]


class SecretError(Exception):
    """A secret that none of the server's log keys decrypts. The message says what to do."""

    def __init__(self) -> None:
        super().__init__("this server cannot read the secret: rotate it, or give the server the log's former key")


def make_secret(random_bytes: RandomBytes) -> bytes:
    """A new secret."""
    return random_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """A secret as its owner is told it."""
    return _PREFIX + base64.b64encode(secret).decode()


def signed_headers(secrets: Sequence[bytes], message_id: str, now_ms: int, body: bytes) -> dict[str, str]:
    """The headers of a message, with a signature by each of the secrets that are in force."""
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    signatures = [Signer(secret).sign(message_id, now, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(now_ms // 1000),
        "webhook-signature": " ".join(signatures),
    }


class SecretBox:
    """Encrypts secrets of one ledger's webhooks with the first of the log keys, and decrypts with any."""

    def __init__(self, origin: str, log_keys: Sequence[Ed25519PrivateKey], random_bytes: RandomBytes) -> None:
        self._origin = origin
        self._keys = [AESGCM(_derive(key)) for key in log_keys]
        self._random_bytes = random_bytes

    def seal(self, webhook_id: str, secret: bytes) -> bytes:
        """A secret, encrypted for its webhook."""
        nonce = self._random_bytes(_NONCE_BYTES)
        return nonce + self._keys[0].encrypt(nonce, secret, self._bound_to(webhook_id))

    def open(self, webhook_id: str, sealed: bytes) -> bytes:
        """The secret; raise :class:`SecretError` when no log key of this server decrypts it."""
        return self._open(webhook_id, sealed)[0]

    def renewed(self, webhook_id: str, sealed: bytes) -> bytes | None:
        """The secret encrypted with the first log key; ``None`` when it is, or when nothing here decrypts it."""
        try:
            secret, key = self._open(webhook_id, sealed)
        except SecretError:
            return None
        return self.seal(webhook_id, secret) if key else None

    def _open(self, webhook_id: str, sealed: bytes) -> tuple[bytes, int]:
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        for number, key in enumerate(self._keys):
            try:
                return key.decrypt(nonce, text, self._bound_to(webhook_id)), number
            except (InvalidTag, ValueError):  # ValueError: it is too short to be one
                continue
        raise SecretError

    def _bound_to(self, webhook_id: str) -> bytes:
        return f"{self._origin}\n{webhook_id}".encode()


def _derive(key: Ed25519PrivateKey) -> bytes:
    info = b"guerdon webhook secrets v1"
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(key.private_bytes_raw())
