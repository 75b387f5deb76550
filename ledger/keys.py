"""Ed25519 keys and signatures, strictly (RFC 8032 section 5.1.7).

A signature scheme in a ledger needs one property beyond the usual: every verifier must agree, for ever, on which
signatures are valid. Libraries differ on encodings that are not canonical and on public keys of small order, for
which one signature fits many messages. Guerdon therefore fixes the answer:

* S below the group order and R compared as bytes (OpenSSL, behind ``cryptography``, does both);
* a public key whose ``y`` is not reduced, or whose point has small order, is not a key.

Keys and signatures are written in unpadded base64url: 43 and 86 characters. Keeping keys in files is not decided
here: see :mod:`ledger.keyring`.
"""

from functools import lru_cache
from typing import NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.encoding import EncodingError, decode_base64url, encode_base64url

PublicKey = NewType("PublicKey", str)
"""An Ed25519 public key: 32 bytes in unpadded base64url, 43 characters."""

OPERATION_CONTEXT = b"guerdon operation v1\n"
"""Stands before an operation's canonical bytes in what is signed, so that no other signature can be taken for one."""

SESSION_CONTEXT = b"guerdon session v1\n"
"""Stands before a session challenge in what is signed."""

_P = 2**255 - 19
_MAX_CACHED_KEYS = 65_536


def _small_order_encodings() -> frozenset[bytes]:
    """Encodings, sign bit cleared, of the y coordinates of the eight points whose order divides 8.

    y of order 1, 2 and 4 are 1, -1 and 0; the two y of order 8 are roots of d*y^4 + 2*y^2 = 1 (from the curve
    equation with x^2 = -y^2), d being the constant of edwards25519 (RFC 8032 section 5.1).
    """
    y8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
    return frozenset(y.to_bytes(32, "little") for y in (0, 1, _P - 1, y8, _P - y8))


_SMALL_ORDER = _small_order_encodings()


def decode_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key; raise :class:`EncodingError` when it is not 32 canonical bytes or has small order."""
    return _load(text)


@lru_cache(maxsize=_MAX_CACHED_KEYS)
def _load(text: str) -> Ed25519PublicKey:
    data = decode_base64url(text, 32)
    y = data[:31] + bytes([data[31] & 0x7F])
    if int.from_bytes(y, "little") >= _P:
        raise EncodingError("the public key's y coordinate is not reduced modulo p (RFC 8032 section 5.1.3)")
    if y in _SMALL_ORDER:
        raise EncodingError("the public key is a point of small order")
    return Ed25519PublicKey.from_public_bytes(data)


def encode_public_key(key: Ed25519PrivateKey | Ed25519PublicKey) -> PublicKey:
    """Write the public half of a key."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return PublicKey(encode_base64url(public.public_bytes_raw()))


def sign(key: Ed25519PrivateKey, message: bytes) -> str:
    """Sign a message; the caller puts its context first."""
    return encode_base64url(key.sign(message))


def verify(key: str, sig: str, message: bytes) -> bool:
    """Tell whether ``sig`` is a valid signature of ``message`` under ``key``, both in base64url.

    Text that is no key or no signature is simply not valid: there is nothing a caller would do differently.
    The elliptic-curve work releases the interpreter lock.
    """
    try:
        public = _load(key)
        signature = decode_base64url(sig, 64)
    except EncodingError:
        return False
    return verify_raw(public, signature, message)


def verify_raw(public: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Tell whether 64 bytes are a valid signature of ``message`` under a key :func:`decode_public_key` accepted."""
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True
