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

A witness that saw the ledger only ever grow adds a line of its own, a *cosignature* (C2SP tlog-cosignature, v1). It is
made at a time, which it states, so what is signed is two lines before the checkpoint's three::

    cosignature/v1
    time 1679315147
    ledger.example/coalition
    2
    5gTCPeMOSW7+HBFgEVKAJ5mSKlhp8SMcTKnMQMEcEY8=

and what the line carries is key id (4 bytes), the time in seconds (8 bytes, big-endian), signature (64 bytes). The key
id has algorithm 0x04, so that no key's cosignature passes for a log's signature, nor the other way round.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NewType, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.encoding import MAX_INTEGER, EncodingError, encode_base64url
from ledger.keys import decode_public_key
from ledger.merkle import HASH_SIZE

VerifierKey = NewType("VerifierKey", str)
"""A key's public half as text: ``name+<8 hex of key id>+<base64 of algorithm byte and public key>``."""

_ED25519 = b"\x01"
_COSIGNATURE_V1 = b"\x04"
_MAX_SIGNATURES = 64
_COSIGNATURE_SIZE = 8 + 64
MAX_TIMESTAMP_S = 2**63 - 1
"""The latest time a cosignature may state (C2SP tlog-cosignature)."""

_SIZE = re.compile(r"^(0|[1-9][0-9]{0,15})\Z")
_VERIFIER_KEY = re.compile(r"^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)\Z")


class CheckpointError(ValueError):
    """A note or checkpoint that is malformed, or not signed by the key it must be signed by."""


class SignatureError(CheckpointError):
    """A well-formed note whose signatures do not do: a known key's is not valid, or no known key signed."""


class QuorumError(SignatureError):
    """A checkpoint that is the log's, but cosigned by fewer witnesses than a policy asks for."""

    def __init__(self, cosignatures: "tuple[Cosignature, ...]", threshold: int) -> None:
        names = ", ".join(cosignature.witness for cosignature in cosignatures) or "none"
        super().__init__(f"cosigned by {len(cosignatures)} of the {threshold} witnesses it takes: {names}")
        self.cosignatures = cosignatures
        self.threshold = threshold


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


class WitnessKey(msgspec.Struct, frozen=True, kw_only=True):
    """A named Ed25519 key that can check a witness's cosignatures, but no log's signature."""

    name: str
    key_id: bytes
    public_key: Ed25519PublicKey


class NoteSignature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature line of a note, as read: nothing is known of its worth yet. ``data`` is what follows the key id."""

    name: str
    key_id: bytes
    data: bytes


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A signed note, as read: the text that is signed, with its final newline, and the signature lines."""

    text: str
    signatures: tuple[NoteSignature, ...]


class Cosignature(msgspec.Struct, frozen=True, kw_only=True):
    """That a witness had seen the ledger only grow, up to a checkpoint, at ``timestamp_s`` seconds since 1970."""

    witness: str
    timestamp_s: int


class WitnessedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that satisfied a policy: which of its log keys signed, and which of its witnesses cosigned when."""

    checkpoint: Checkpoint
    signers: tuple[LogKey, ...]
    cosignatures: tuple[Cosignature, ...]


class WitnessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks of a checkpoint: the log's signature, and cosignatures of ``threshold`` of these witnesses.

    ``log_keys`` are the keys of the logs one trusts, of which a log may have several over time: any of them that bears
    the checkpoint's origin will do. A cosignature does not cover the witness's name, so one key under two names would
    be counted twice, and a log's own key is no witness of the log: both raise :class:`CheckpointError`, as does a
    threshold nobody can reach.
    """

    log_keys: tuple[LogKey, ...]
    witnesses: tuple[WitnessKey, ...] = ()
    threshold: int = 0

    def __post_init__(self) -> None:
        own = {key.public_key.public_bytes_raw() for key in self.witnesses}
        logs = {key.public_key.public_bytes_raw() for key in self.log_keys}
        if len(own) != len(self.witnesses) or own & logs:
            raise CheckpointError("each witness has a key of its own, and not the log's")
        if not 0 <= self.threshold <= len(self.witnesses):
            raise CheckpointError(f"{self.threshold} of {len(self.witnesses)} witnesses cannot cosign")


_Key = TypeVar("_Key", LogKey, WitnessKey)


def encode_checkpoint(checkpoint: Checkpoint) -> str:
    """The three lines that are signed, each with its newline."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{encode_hash(checkpoint.root)}\n"


def decode_checkpoint(text: str) -> Checkpoint:
    """Read the three lines; raise :class:`CheckpointError` for extension lines or any other form."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "" or not lines[0]:
        raise CheckpointError("a checkpoint is exactly three lines: origin, size, root")
    checkpoint = Checkpoint(origin=lines[0], size=decode_size(lines[1]), root=decode_hash(lines[2]))
    assert encode_checkpoint(checkpoint) == text
    return checkpoint


def decode_size(text: str) -> int:
    """Read a number of entries in decimal; raise :class:`CheckpointError` for any other spelling, or above 2^53-1."""
    if not _SIZE.match(text) or int(text) > MAX_INTEGER:
        raise CheckpointError(f"{text!r} is not a size")
    return int(text)


def encode_hash(value: bytes) -> str:
    """A hash as checkpoints and proofs write it: standard base64, with padding."""
    return base64.b64encode(value).decode()


def decode_hash(text: str) -> bytes:
    """Read 32 bytes in standard base64; raise :class:`CheckpointError` for any other size or spelling."""
    data = decode_base64(text)
    if len(data) != HASH_SIZE:
        raise CheckpointError(f"{text!r} is not a hash: 32 bytes in canonical base64")
    return data


def key_id(name: str, public_key: Ed25519PublicKey, algorithm: bytes = _ED25519) -> bytes:
    """The 4 bytes that say which key signed a note, and as what."""
    return hashlib.sha256(name.encode() + b"\n" + algorithm + public_key.public_bytes_raw()).digest()[:4]


def encode_verifier_key(name: str, key: Ed25519PrivateKey | Ed25519PublicKey) -> VerifierKey:
    """The text an auditor is given to check this key's checkpoints."""
    return _encode_verifier_key(name, key, _ED25519)


def encode_witness_key(name: str, key: Ed25519PrivateKey | Ed25519PublicKey) -> VerifierKey:
    """The text a client is given to check this witness's cosignatures."""
    return _encode_verifier_key(name, key, _COSIGNATURE_V1)


def _encode_verifier_key(name: str, key: Ed25519PrivateKey | Ed25519PublicKey, algorithm: bytes) -> VerifierKey:
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    check_key_name(name)
    blob = base64.b64encode(algorithm + public.public_bytes_raw()).decode()
    return VerifierKey(f"{name}+{key_id(name, public, algorithm).hex()}+{blob}")


def decode_verifier_key(text: str) -> LogKey:
    """Read a log's verifier key; raise :class:`CheckpointError` when it is malformed or its key id does not fit."""
    name, stated_id, public = _decode_verifier_key(text, _ED25519)
    return LogKey(name=name, key_id=stated_id, public_key=public)


def decode_witness_key(text: str) -> WitnessKey:
    """Read a witness's verifier key; raise :class:`CheckpointError` when it is malformed or its key id does not fit."""
    name, stated_id, public = _decode_verifier_key(text, _COSIGNATURE_V1)
    return WitnessKey(name=name, key_id=stated_id, public_key=public)


def _decode_verifier_key(text: str, algorithm: bytes) -> tuple[str, bytes, Ed25519PublicKey]:
    match = _VERIFIER_KEY.match(text)
    if not match:
        raise CheckpointError("a verifier key is name+<8 hex digits>+<base64>")
    name, stated_id, blob = match[1], bytes.fromhex(match[2]), decode_base64(match[3])
    if len(blob) != 33 or blob[:1] != algorithm:
        whose = "an Ed25519 verifier key" if algorithm == _ED25519 else "a witness's Ed25519 verifier key"
        raise CheckpointError(f"not {whose} (algorithm byte 0x{algorithm.hex()} and 32 bytes)")
    try:
        public = decode_public_key(encode_base64url(blob[1:]))
    except EncodingError as error:
        raise CheckpointError(str(error)) from error
    if key_id(name, public, algorithm) != stated_id:
        raise CheckpointError("the key id does not fit the name and key")
    return name, stated_id, public


def check_key_name(name: str) -> None:
    """Refuse a name that a signed note cannot carry: empty, with spaces, control characters or a plus sign."""
    if not name or "+" in name or any(c.isspace() or ord(c) < 0x20 for c in name):
        raise CheckpointError(f"{name!r} cannot name a key: no spaces, no plus sign")


def sign_checkpoint(checkpoint: Checkpoint, *keys: Ed25519PrivateKey) -> str:
    """The signed note of a checkpoint under its origin's name, with a line for each key, in their order.

    A log whose key was replaced signs with the new key and the old, so that who knows only one of them can verify.
    """
    assert keys
    text = encode_checkpoint(checkpoint)
    lines = [_signature_line(checkpoint.origin, key, text) for key in keys]
    return f"{text}\n{''.join(lines)}"


def _signature_line(name: str, key: Ed25519PrivateKey, text: str) -> str:
    blob = key_id(name, key.public_key()) + key.sign(text.encode())
    return f"— {name} {base64.b64encode(blob).decode()}\n"


def cosign_checkpoint(note: str, key: Ed25519PrivateKey, name: str, timestamp_s: int) -> str:
    """A witness's signature line for a checkpoint, to stand behind the note's others.

    The caller has verified the note, and that the ledger only grew; ``timestamp_s`` is when it knew so.
    """
    check_key_name(name)
    message = _cosigned_message(timestamp_s, decode_note(note).text)
    number = key_id(name, key.public_key(), _COSIGNATURE_V1)
    blob = number + timestamp_s.to_bytes(8, "big") + key.sign(message)
    return f"— {name} {base64.b64encode(blob).decode()}\n"


def _cosigned_message(timestamp_s: int, text: str) -> bytes:
    if not 0 <= timestamp_s <= MAX_TIMESTAMP_S:
        raise CheckpointError(f"{timestamp_s} is not a time in seconds that a cosignature can state")
    return f"cosignature/v1\ntime {timestamp_s}\n{text}".encode()


def decode_note(note: str) -> Note:
    """Read a signed note without verifying it; raise :class:`CheckpointError` when it is malformed."""
    if any(ord(c) < 0x20 and c != "\n" for c in note):
        raise CheckpointError("a note has no control characters but newlines")
    head, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise CheckpointError("a note is text, an empty line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > _MAX_SIGNATURES:
        raise CheckpointError(f"more than {_MAX_SIGNATURES} signatures")
    return Note(text=head + "\n", signatures=tuple(_parse_signature_line(line) for line in lines))


def verify_note(note: str, keys: list[LogKey]) -> tuple[str, list[LogKey]]:
    """Check a signed note's signatures; return its text and the keys that signed it.

    Signatures of unknown keys are ignored; a known key's signature that fails, or none that verifies, raises
    :class:`SignatureError` (C2SP signed-note).
    """
    read = decode_note(note)
    signers: list[LogKey] = []
    for key, data in _signatures_by(read, keys):
        _verify(key, data, read.text.encode())
        signers.append(key)
    if not signers:
        raise SignatureError("no signature of a known key")
    return read.text, signers


def verify_cosignatures(note: str, witnesses: Sequence[WitnessKey]) -> tuple[Cosignature, ...]:
    """The cosignatures of these witnesses on a note, in its order; perhaps none.

    Signatures of unknown keys are ignored; a known witness's that fails raises :class:`SignatureError`.
    """
    read = decode_note(note)
    found = []
    for key, data in _signatures_by(read, witnesses):
        timestamp_s = int.from_bytes(data[:8], "big")
        if len(data) != _COSIGNATURE_SIZE or timestamp_s > MAX_TIMESTAMP_S:
            raise SignatureError(f"the cosignature of {key.name} is not a time and an Ed25519 signature")
        _verify(key, data[8:], _cosigned_message(timestamp_s, read.text))
        found.append(Cosignature(witness=key.name, timestamp_s=timestamp_s))
    return tuple(found)


def verify_witnessed(note: str, policy: WitnessPolicy, origin: str | None = None) -> WitnessedCheckpoint:
    """Check that a note is a checkpoint as a policy wants it, and read it. With ``origin``, only that log's will do.

    Raise :class:`CheckpointError` when it is not the log's, :class:`SignatureError` when a known key's signature fails,
    :class:`QuorumError` when too few of the policy's witnesses cosigned it.
    """
    text, signers = verify_note(note, list(policy.log_keys))
    checkpoint = decode_checkpoint(text)
    if origin not in {None, checkpoint.origin}:
        raise CheckpointError(f"a checkpoint of {checkpoint.origin!r}, not of {origin!r}")
    if checkpoint.origin not in {key.name for key in signers}:
        raise SignatureError(f"the checkpoint is of {checkpoint.origin}, but no key of that name signed it")
    cosignatures = verify_cosignatures(note, policy.witnesses)
    if len(cosignatures) < policy.threshold:
        raise QuorumError(cosignatures, policy.threshold)
    return WitnessedCheckpoint(checkpoint=checkpoint, signers=tuple(signers), cosignatures=cosignatures)


def _signatures_by(note: Note, keys: Sequence[_Key]) -> Iterator[tuple[_Key, bytes]]:
    """The signatures of known keys, in the note's order. Of several by one key the first counts."""
    waiting = list(keys)
    for signature in note.signatures:
        for key in [key for key in waiting if (key.name, key.key_id) == (signature.name, signature.key_id)]:
            waiting.remove(key)
            yield key, signature.data


def _verify(key: LogKey | WitnessKey, signature: bytes, message: bytes) -> None:
    try:
        key.public_key.verify(signature, message)
    except InvalidSignature as error:
        raise SignatureError(f"the signature of {key.name} is not valid") from error


def verify_checkpoint(note: str, key: LogKey, origin: str) -> Checkpoint:
    """Check that a note is a checkpoint of ``origin`` signed by ``key``, and read it."""
    text, _ = verify_note(note, [key])
    checkpoint = decode_checkpoint(text)
    if checkpoint.origin != origin:
        raise CheckpointError(f"a checkpoint of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def _parse_signature_line(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—":
        raise CheckpointError(f"{line!r} is not a signature line")
    check_key_name(parts[1])
    blob = decode_base64(parts[2])
    if len(blob) < 5:
        raise CheckpointError("a signature is at least 5 bytes")
    return NoteSignature(name=parts[1], key_id=blob[:4], data=blob[4:])


def decode_base64(text: str) -> bytes:
    """Read base64 with padding in its one canonical spelling; raise :class:`CheckpointError` for any other."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{text!r} is not base64") from error
    if base64.b64encode(data).decode() != text:
        raise CheckpointError(f"{text!r} is not canonical base64")
    return data
