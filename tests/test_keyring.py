"""Private keys in files: for their owner's eyes, never overwritten, and never in a message."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed448, x25519
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.keyring import KeyFileError, generate_private_key, load_private_key, read_passphrase, save_private_key

PASSPHRASE = b"correct horse battery staple"
PLAIN = serialization.NoEncryption()


def write_private(path: Path, data: bytes) -> Path:
    """A file only its owner can read."""
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def pem_of(key: ed448.Ed448PrivateKey | x25519.X25519PrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, PLAIN)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE, b"\x00\xff", b"p" * 1023])
def test_key_survives_the_round_trip(tmp_path: Path, passphrase: bytes | None) -> None:
    """What was generated is what is read back, encrypted or not."""
    path = tmp_path / "keys" / "deep" / "log.pem"
    key = generate_private_key(path, passphrase)
    assert load_private_key(path, passphrase).private_bytes_raw() == key.private_bytes_raw()
    encrypted = b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert encrypted == (passphrase is not None)


def test_generated_keys_differ(tmp_path: Path) -> None:
    """Two keys are two keys."""
    one, two = (generate_private_key(tmp_path / name, None) for name in ("one.pem", "two.pem"))
    assert one.private_bytes_raw() != two.private_bytes_raw()


def test_encrypted_file_does_not_hold_the_key_in_clear(tmp_path: Path) -> None:
    """Without the passphrase the file says nothing about the key."""
    path = tmp_path / "log.pem"
    key = generate_private_key(path, PASSPHRASE)
    clear = pem_of(key).splitlines()[1]
    assert clear not in path.read_bytes()
    assert PASSPHRASE not in path.read_bytes()


def test_only_the_owner_can_read_a_new_key(tmp_path: Path) -> None:
    """File and folder are closed to everyone else, whatever the umask."""
    path = tmp_path / "keys" / "log.pem"
    before = os.umask(0)
    try:
        generate_private_key(path, None)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777])
def test_key_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that may have been seen or replaced is not used, and the message says what to do."""
    path = tmp_path / "log.pem"
    generate_private_key(path, None)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600"):
        load_private_key(path, None)
    path.chmod(0o400)
    load_private_key(path, None)


@pytest.mark.parametrize("content", [b"", b"not a key", None])
def test_existing_file_is_never_overwritten(tmp_path: Path, content: bytes | None) -> None:
    """Whatever is at the path stays there, key or not, also when the path is a dangling link."""
    path = tmp_path / "log.pem"
    if content is None:
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(content)
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_private_key(path, None)
    assert not (tmp_path / "elsewhere").exists()
    assert content is None or path.read_bytes() == content


def test_key_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Where no folder can be made, the message names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyFileError, match=r"file/keys cannot be made"):
        generate_private_key(tmp_path / "file" / "keys" / "log.pem", None)
    with pytest.raises(KeyFileError, match="cannot be written"):
        generate_private_key(tmp_path / ("x" * 300), None)


@pytest.mark.parametrize(("passphrase", "message"), [(b"", "is empty"), (b"p" * 1024, "longer than 1023")])
def test_unusable_passphrase_is_refused_before_a_file_is_made(tmp_path: Path, passphrase: bytes, message: str) -> None:
    """An empty passphrase would leave the key in clear though one was asked for."""
    with pytest.raises(KeyFileError, match=message):
        generate_private_key(tmp_path / "log.pem", passphrase)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("saved_with", "read_with", "message"),
    [
        (PASSPHRASE, None, "is encrypted: give its passphrase"),
        (PASSPHRASE, b"wrong", "wrong passphrase"),
        (PASSPHRASE, b"", "the passphrase is empty"),
        (PASSPHRASE, PASSPHRASE + b"\n", "wrong passphrase"),
        (PASSPHRASE, b"p" * 5_000, "wrong passphrase"),
        (None, PASSPHRASE, "is not encrypted: give no passphrase"),
    ],
)
def test_wrong_passphrase_is_an_error_that_says_so(
    tmp_path: Path, saved_with: bytes | None, read_with: bytes | None, message: str
) -> None:
    """A locked key stays locked, and neither passphrase is in the message."""
    path = tmp_path / "log.pem"
    generate_private_key(path, saved_with)
    with pytest.raises(KeyFileError, match=message) as caught:
        load_private_key(path, read_with)
    assert PASSPHRASE.decode() not in str(caught.value)


KEY_FILES: list[tuple[str, Callable[[], bytes], str]] = [
    ("X25519", lambda: pem_of(x25519.X25519PrivateKey.generate()), "is not an Ed25519 key"),
    ("Ed448", lambda: pem_of(ed448.Ed448PrivateKey.generate()), "is not an Ed25519 key"),
    ("empty", lambda: b"", "cannot be unlocked"),
    ("garbage", lambda: b"\xff\x00" * 100, "cannot be unlocked"),
    ("huge", lambda: b"-----BEGIN PRIVATE KEY-----\n" + b"A" * 100_000, "cannot be unlocked"),
    ("cut", lambda: pem_of(Ed25519PrivateKey.generate())[:60], "cannot be unlocked"),
    (
        "damaged",
        lambda: pem_of(Ed25519PrivateKey.generate()).replace(b"MC4CAQAw", b"MC4CAQAx"),
        "cannot be unlocked",
    ),
    (
        "public",
        lambda: (
            Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        ),
        "cannot be unlocked",
    ),
]


@pytest.mark.parametrize(("kind", "make", "message"), KEY_FILES, ids=[row[0] for row in KEY_FILES])
def test_file_that_is_no_ed25519_key_is_refused(
    tmp_path: Path, kind: str, make: Callable[[], bytes], message: str
) -> None:
    """Other kinds of key and broken files are one error, which names the file and quotes nothing of it."""
    content = make()
    path = write_private(tmp_path / "log.pem", content)
    with pytest.raises(KeyFileError, match=message) as caught:
        load_private_key(path, None)
    assert str(path) in str(caught.value)
    lines = [line.decode() for line in content.splitlines()[1:-1] if line.isascii() and line]
    assert not any(line in str(caught.value) for line in lines)


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    """A path without a readable file says which and why."""
    with pytest.raises(KeyFileError, match=r"none\.pem cannot be read: No such file"):
        load_private_key(tmp_path / "none.pem", None)
    with pytest.raises(KeyFileError, match="cannot be read: Is a directory"):
        load_private_key(tmp_path, None)


def test_saving_a_given_key_keeps_it(tmp_path: Path) -> None:
    """A key made elsewhere is stored as it is."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    save_private_key(tmp_path / "log.pem", key, None)
    assert load_private_key(tmp_path / "log.pem", None).private_bytes_raw() == bytes(range(32))


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [(b"secret", b"secret"), (b"secret\n", b"secret"), (b"secret\r\n", b"secret"), (b" a b \n\n", b" a b \n")],
)
def test_passphrase_file_is_read_without_its_final_newline(tmp_path: Path, content: bytes, passphrase: bytes) -> None:
    """One line end is the editor's; anything else belongs to the passphrase."""
    path = write_private(tmp_path / "pass", content)
    assert read_passphrase(path) == passphrase


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", None])
def test_passphrase_file_without_a_passphrase_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """An empty or missing file is never taken for no passphrase."""
    path = tmp_path / "pass"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeyFileError, match=r"pass (is empty|cannot be read)"):
        read_passphrase(path)
