"""Checkpoints: what the ledger commits to, signed (C2SP tlog-checkpoint over C2SP signed-note).

A checkpoint of a ledger of 2 entries, as served::

    ledger.example/coalition
    2
    5gTCPeMOSW7+HBFgEVKAJ5mSKlhp8SMcTKnMQMEcEY8=

    — ledger.example/coalition 1fQ0dXZ…

1. the origin: the ledger's name, fixed in genesis, and the name of the key that signs;
2. the size: how many entries, in decimal without leading zeros;
3. the root: Merkle tree hash of those entries, standard base64 with padding;
4. an empty line;
5. one line per signature: an em dash, a space, the key's name, a space, base64 of key id (4 bytes) and signature.

A signature covers the text up to and with the newline before the empty line. A key id is the first 4 bytes of
SHA-256(name || 0x0A || algorithm || public key), algorithm 0x01 being Ed25519.
"""

import base64
import binascii
import hashlib
import re
from typing import NewType

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.encoding import MAX_INTEGER, EncodingError, encode_base64url
from ledger.keys import decode_public_key
from ledger.merkle import HASH_SIZE

VerifierKey = NewType("VerifierKey", str)
"""A key's public half as text: ``name+<8 hex of key id>+<base64 of algorithm byte and public key>``."""

_ED25519 = b"\x01"
_MAX_SIGNATURES = 64
_SIZE = re.compile(r"^(0|[1-9][0-9]{0,15})\Z")
_VERIFIER_KEY = re.compile(r"^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\Z")


class CheckpointError(ValueError):
    """A note or checkpoint that is malformed, or not signed by the key it must be signed by."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Size and root of a ledger at one moment. ``size`` is a count of entries, ``root`` 32 bytes."""

    origin: str
    size: int
    root: bytes


class LogKey(msgspec.Struct, frozen=True, kw_only=True):
    """A named Ed25519 key that can check a ledger's checkpoints."""

    name: str
    key_id: bytes
    public_key: Ed25519PublicKey


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """The three lines that are signed, each with its newline."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"


def decode_checkpoint(text: str) -> Checkpoint:
    """Read the three lines; raise :class:`CheckpointError` for extension lines or any other form."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "" or not lines[0]:
        raise CheckpointError("a checkpoint is exactly three lines: origin, size, root")
    if not _SIZE.match(lines[1]) or int(lines[1]) > MAX_INTEGER:
        raise CheckpointError(f"{lines[1]!r} is not a size")
    checkpoint = Checkpoint(origin=lines[0], size=int(lines[1]), root=_decode_base64(lines[2]))
    if len(checkpoint.root) != HASH_SIZE or encode_checkpoint(checkpoint) != text:
        raise CheckpointError("the root is not 32 bytes in canonical base64")
    return checkpoint


def key_id(name: str, public_key: Ed25519PublicKey) -> bytes:
    """The 4 bytes that say which key signed a note."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key.public_bytes_raw()).digest()[:4]


def encode_verifier_key(name: str, key: Ed25519PrivateKey | Ed25519PublicKey) -> VerifierKey:
    """The text an auditor is given to check this key's checkpoints."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    check_key_name(name)
    blob = base64.b64encode(_ED25519 + public.public_bytes_raw()).decode()
    return VerifierKey(f"{name}+{key_id(name, public).hex()}+{blob}")


def decode_verifier_key(text: str) -> LogKey:
    """Read a verifier key; raise :class:`CheckpointError` when it is malformed or its key id does not fit."""
    match = _VERIFIER_KEY.match(text)
    if not match:
        raise CheckpointError("a verifier key is name+<8 hex digits>+<base64>")
    name, stated_id, blob = match[1], bytes.fromhex(match[2]), _decode_base64(match[3])
    if len(blob) != 33 or blob[:1] != _ED25519:
        raise CheckpointError("not an Ed25519 verifier key (algorithm byte 0x01 and 32 bytes)")
    try:
        public = decode_public_key(encode_base64url(blob[1:]))
    except EncodingError as error:
        raise CheckpointError(str(error)) from error
    if key_id(name, public) != stated_id:
        raise CheckpointError("the key id does not fit the name and key")
    return LogKey(name=name, key_id=stated_id, public_key=public)


def check_key_name(name: str) -> None:
    """Refuse a name that a signed note cannot carry: empty, with spaces, control characters or a plus sign."""
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise CheckpointError(f"{name!r} cannot name a key: no spaces, no plus sign")


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> str:
    """The signed note of a checkpoint under its origin's name."""
    text = encode_checkpoint(checkpoint)
    blob = key_id(checkpoint.origin, key.public_key()) + key.sign(text.encode())
    return f"{text}\n— {checkpoint.origin} {base64.b64encode(blob).decode()}\n"


def verify_note(note: str, keys: list[LogKey]) -> tuple[str, list[LogKey]]:
    """Check a signed note's signatures; return its text and the keys that signed it.

    Signatures of unknown keys are ignored; a known key's signature that fails, or none that verifies, raises
    :class:`CheckpointError` (C2SP signed-note).
    """
    if any(ord(c) < 0x20 and c != "\n" for c in note):
        raise CheckpointError("a note has no control characters but newlines")
    head, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise CheckpointError("a note is text, an empty line and signature lines")
    text = head + "\n"
    lines = tail[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise CheckpointError(f"more than {_MAX_SIGNATURES} signatures")
    signers: list[LogKey] = []
    for line in lines:
        name, blob = _parse_signature_line(line)
        for key in keys:
            if key.name != name or key.key_id != blob[:4] or key in signers:
                continue
            try:
                key.public_key.verify(blob[4:], text.encode())
            except InvalidSignature as error:
                raise CheckpointError(f"the signature of {name} is not valid") from error
            signers.append(key)
    if not signers:
        raise CheckpointError("no signature of a known key")
    return text, signers


def verify_checkpoint(note: str, key: LogKey, origin: str) -> Checkpoint:
    """Check that a note is a checkpoint of ``origin`` signed by ``key``, and read it."""
    text, _ = verify_note(note, [key])
    checkpoint = decode_checkpoint(text)
    if checkpoint.origin != origin:
        raise CheckpointError(f"a checkpoint of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def _parse_signature_line(line: str) -> tuple[str, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise CheckpointError(f"{line!r} is not a signature line")
    check_key_name(parts[1])
    blob = _decode_base64(parts[2])
    if len(blob) < 5:
        raise CheckpointError("a signature is at least 5 bytes")
    return parts[1], blob


def _decode_base64(text: str) -> bytes:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{text!r} is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise CheckpointError(f"{text!r} is not canonical base64")
    return data
