"""Private keys in files.

A key file is PKCS #8 in PEM (RFC 5958, RFC 7468), encrypted when a passphrase is given, readable by its owner only.
A file that others can read is refused, as ``ssh`` refuses it: a key that was exposed once is not a secret any more.
"""

import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_KEY_FILE_BYTES = 16_384
_MAX_PASSPHRASE_BYTES = 1023  # what OpenSSL takes


class KeyFileError(Exception):
    """A key file that cannot be used; the message says what to do and never contains key material."""


def generate_private_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Make a new key and keep it in a new file of mode 0600; an existing file is never overwritten."""
    key = Ed25519PrivateKey.generate()
    save_private_key(path, key, passphrase)
    return key


def save_private_key(path: Path, key: Ed25519PrivateKey, passphrase: bytes | None) -> None:
    """Write a key to a new file of mode 0600, encrypted if there is a passphrase."""
    _refuse_empty(passphrase)
    if passphrase is not None and len(passphrase) > _MAX_PASSPHRASE_BYTES:
        raise KeyFileError(f"the passphrase is longer than {_MAX_PASSPHRASE_BYTES} bytes: shorten it")
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFileError(f"{path.parent} cannot be made: {error.strerror}") from error
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists: choose another name, keys are never overwritten") from error
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _refuse_empty(passphrase: bytes | None) -> None:
    if passphrase is not None and not passphrase:
        raise KeyFileError("the passphrase is empty: give one, or none at all")


def load_private_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """Read a key; raise :class:`KeyFileError` when it is missing, readable by others, locked or not Ed25519."""
    _refuse_empty(passphrase)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(_MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise KeyFileError(f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 it")
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:
        needs = "is encrypted: give its passphrase" if passphrase is None else "is not encrypted: give no passphrase"
        raise KeyFileError(f"{path} {needs}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} cannot be unlocked: wrong passphrase, or not a PEM key file") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is not an Ed25519 key")
    return key


def read_passphrase(path: Path) -> bytes:
    """Read a passphrase from a file, without its final newline."""
    try:
        passphrase = path.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    if not passphrase:
        raise KeyFileError(f"{path} is empty: it should hold a passphrase")
    return passphrase
