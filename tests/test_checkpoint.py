"""Checkpoints and signed notes: the published vector, and every way to tamper with one."""

import base64
import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    MAX_TIMESTAMP_S,
    Checkpoint,
    CheckpointError,
    Cosignature,
    LogKey,
    QuorumError,
    SignatureError,
    WitnessKey,
    WitnessPolicy,
    check_key_name,
    cosign_checkpoint,
    decode_checkpoint,
    decode_note,
    decode_verifier_key,
    decode_witness_key,
    encode_checkpoint,
    encode_verifier_key,
    encode_witness_key,
    key_id,
    sign_checkpoint,
    verify_checkpoint,
    verify_cosignatures,
    verify_note,
    verify_witnessed,
)
from ledger.encoding import MAX_INTEGER
from ledger.merkle import EMPTY_ROOT

ORIGIN = "ledger.example/coalition"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
THIRD_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(2, 34)))
LOG_KEY = decode_verifier_key(encode_verifier_key(ORIGIN, KEY))
CHECKPOINT = Checkpoint(origin=ORIGIN, size=70_000, root=hashlib.sha256(b"root").digest())
NOTE = sign_checkpoint(CHECKPOINT, KEY)

# The example of the C2SP signed-note specification.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_TEXT = "This is an example message.\n"
EXAMPLE_SIGNATURE = "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
EXAMPLE_NOTE = f"{EXAMPLE_TEXT}\n— example.com/foo {EXAMPLE_SIGNATURE}\n"


def sign_note(text: str, *signers: tuple[str, Ed25519PrivateKey]) -> str:
    """A signed note, put together by hand."""
    lines = []
    for name, key in signers:
        public = key.public_key().public_bytes_raw()
        number = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
        lines.append(f"— {name} {base64.b64encode(number + key.sign(text.encode())).decode()}\n")
    return text + "\n" + "".join(lines)


def log_key(name: str, key: Ed25519PrivateKey) -> LogKey:
    return decode_verifier_key(encode_verifier_key(name, key))


def test_published_note_verifies() -> None:
    """The example of the specification is valid under its key, whose text we would write alike."""
    key = decode_verifier_key(EXAMPLE_KEY)
    assert verify_note(EXAMPLE_NOTE, [key]) == (EXAMPLE_TEXT, [key])
    assert (key.name, key.key_id.hex()) == ("example.com/foo", "530d903a")
    assert encode_verifier_key(key.name, key.public_key) == EXAMPLE_KEY


@pytest.mark.parametrize("note", [EXAMPLE_NOTE, NOTE], ids=["published", "ours"])
def test_any_changed_character_of_a_note_is_refused(note: str) -> None:
    """One character replaced by another, anywhere in the note, and it does not verify."""
    keys = [decode_verifier_key(EXAMPLE_KEY), LOG_KEY]
    assert verify_note(note, keys)
    for i, c in enumerate(note):
        for other in "A \n+—\0\u00e9":
            if other != c:
                with pytest.raises(CheckpointError):
                    verify_note(note[:i] + other + note[i + 1 :], keys)


def test_truncated_note_is_refused() -> None:
    """No part of a note that ends early, or begins late, verifies."""
    for i in range(1, len(NOTE)):
        with pytest.raises(CheckpointError):
            verify_note(NOTE[:-i], [LOG_KEY])
        with pytest.raises(CheckpointError):
            verify_note(NOTE[i:], [LOG_KEY])


@pytest.mark.parametrize("extra", ["\n", " ", "x", "— \n", "—\n", "x\n", "\n\n", "— a AAAA\n", "— a AAAAAA==\n— b\n"])
def test_extended_note_is_refused(extra: str) -> None:
    """Nothing but well-formed signature lines may follow."""
    with pytest.raises(CheckpointError):
        verify_note(NOTE + extra, [LOG_KEY])
    with pytest.raises(CheckpointError):
        verify_note(extra + NOTE, [LOG_KEY])


def test_checkpoint_is_written_as_specified() -> None:
    """Origin, size, base64 root, empty line, signature: as a reader of C2SP would put them together."""
    text = f"{ORIGIN}\n70000\n{base64.b64encode(CHECKPOINT.root).decode()}\n"
    assert encode_checkpoint(CHECKPOINT) == text
    assert sign_note(text, (ORIGIN, KEY)) == NOTE
    assert key_id(ORIGIN, KEY.public_key()) == base64.b64decode(NOTE.split()[-1])[:4]


def test_checkpoint_of_the_empty_tree() -> None:
    """Size 0 has the root SHA-256 of nothing."""
    checkpoint = Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT)
    text = f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert encode_checkpoint(checkpoint) == text
    assert decode_checkpoint(text) == checkpoint


@pytest.mark.parametrize("blank", [" ", "\n", "\u00a0", "\u2028"])
def test_blank_after_the_last_signature_is_refused(blank: str) -> None:
    """A note ends with the newline of its last line, and with nothing else."""
    with pytest.raises(CheckpointError):
        verify_note(NOTE + blank, [LOG_KEY])
    with pytest.raises(CheckpointError):
        verify_note(NOTE[:-1] + blank + "\n", [LOG_KEY])


@given(st.integers(0, MAX_INTEGER), st.binary(min_size=32, max_size=32))
def test_checkpoint_is_read_back(size: int, root: bytes) -> None:
    """Any size in range and any root survive signing and verifying."""
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root)
    assert verify_checkpoint(sign_checkpoint(checkpoint, KEY), LOG_KEY, ORIGIN) == checkpoint


@pytest.mark.parametrize(
    "size",
    ["", "00", "01", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "１", str(2**53), "9" * 16, "9" * 5_000, "1\r"],
)
def test_other_spelling_of_a_size_is_refused(size: str) -> None:
    """A size is decimal digits without leading zeros, at most 2^53-1."""
    with pytest.raises(CheckpointError, match="size"):
        decode_checkpoint(f"{ORIGIN}\n{size}\n{base64.b64encode(bytes(32)).decode()}\n")


@pytest.mark.parametrize(
    "root",
    [
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
        "A" * 43,
        "A" * 42 + "B=",  # stray bits
        "-" * 43 + "=",
        "_" * 43 + "=",
        "A" * 43 + "==",
        " " + "A" * 43 + "=",
        "A" * 43 + "= ",
        "é" * 43 + "=",
        "",
        "00" * 32,
    ],
)
def test_other_spelling_of_a_root_is_refused(root: str) -> None:
    """A root is 32 bytes of standard base64, with padding and in one spelling."""
    with pytest.raises(CheckpointError):
        decode_checkpoint(f"{ORIGIN}\n1\n{root}\n")


CHANGES: dict[str, Callable[[str], str]] = {
    "extension line": lambda text: text + "extension\n",
    "empty line at the end": lambda text: text + "\n",
    "empty line at the start": lambda text: "\n" + text,
    "last newline missing": lambda text: text[:-1],
    "other line ends": lambda text: text.replace("\n", "\r\n"),
    "size missing": lambda text: text.replace("70000\n", ""),
    "origin empty": lambda text: text.replace(ORIGIN, ""),
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("name", CHANGES)
def test_checkpoint_of_other_lines_is_refused(name: str) -> None:
    """Exactly three lines: extension lines, missing lines and other line ends are refused."""
    with pytest.raises(CheckpointError):
        decode_checkpoint(CHANGES[name](encode_checkpoint(CHECKPOINT)))


def test_signed_extension_line_is_refused() -> None:
    """A valid signature does not make a checkpoint with an extension line one of ours."""
    note = sign_note(encode_checkpoint(CHECKPOINT) + "extension\n", (ORIGIN, KEY))
    assert verify_note(note, [LOG_KEY])
    with pytest.raises(CheckpointError, match="three lines"):
        verify_checkpoint(note, LOG_KEY, ORIGIN)


def test_checkpoint_of_another_ledger_is_refused() -> None:
    """A key that signs for two origins cannot pass one ledger's checkpoint for the other's."""
    other = Checkpoint(origin="ledger.example/other", size=1, root=bytes(32))
    note = sign_note(encode_checkpoint(other), (ORIGIN, KEY))
    with pytest.raises(CheckpointError, match="not of"):
        verify_checkpoint(note, LOG_KEY, ORIGIN)


def test_unknown_signatures_are_ignored() -> None:
    """Other names, other keys and other algorithms may sign too; only the known key counts."""
    text = encode_checkpoint(CHECKPOINT)
    unknown = f"— witness.example {base64.b64encode(b'abcd' + bytes(72)).decode()}\n"
    note = sign_note(text, (ORIGIN, OTHER_KEY), ("other.example", KEY), (ORIGIN, KEY)) + unknown
    assert verify_note(note, [LOG_KEY]) == (text, [LOG_KEY])
    assert verify_checkpoint(note, LOG_KEY, ORIGIN) == CHECKPOINT


def test_note_without_a_known_signature_is_refused() -> None:
    """Signatures of strangers alone prove nothing; nor does the right name with another key."""
    text = encode_checkpoint(CHECKPOINT)
    for signer in ((ORIGIN, OTHER_KEY), ("other.example", KEY)):
        with pytest.raises(CheckpointError, match="no signature of a known key"):
            verify_note(sign_note(text, signer), [LOG_KEY])
    with pytest.raises(CheckpointError, match="no signature of a known key"):
        verify_note(NOTE, [])


def test_failed_signature_of_a_known_key_spoils_the_note() -> None:
    """One known key whose signature fails refuses the note, though another known key signed it well."""
    other = log_key("other.example", OTHER_KEY)
    text = encode_checkpoint(CHECKPOINT)
    bad = f"— other.example {base64.b64encode(other.key_id + bytes(64)).decode()}\n"
    for note in (NOTE + bad, text + "\n" + bad + NOTE.split("\n\n")[1]):
        assert verify_note(note, [LOG_KEY]) == (text, [LOG_KEY])
        with pytest.raises(CheckpointError, match="not valid"):
            verify_note(note, [LOG_KEY, other])


@pytest.mark.parametrize("size", [1, 32, 63, 65, 128])
def test_signature_of_another_size_is_refused(size: int) -> None:
    """A known key's signature that is not 64 bytes is a failed one."""
    blob = LOG_KEY.key_id + (base64.b64decode(NOTE.split()[-1])[4:] * 2)[:size]
    note = f"{encode_checkpoint(CHECKPOINT)}\n— {ORIGIN} {base64.b64encode(blob).decode()}\n"
    with pytest.raises(CheckpointError, match="not valid"):
        verify_note(note, [LOG_KEY])


def test_every_signer_is_named_once() -> None:
    """A key that signs twice counts once, so that signers can be counted."""
    other = log_key("other.example", OTHER_KEY)
    note = sign_note("text\n", (ORIGIN, KEY), (ORIGIN, KEY), ("other.example", OTHER_KEY))
    assert verify_note(note, [LOG_KEY, other]) == ("text\n", [LOG_KEY, other])


@given(st.permutations([KEY, OTHER_KEY, THIRD_KEY]))
def test_log_signs_with_several_keys(keys: list[Ed25519PrivateKey]) -> None:
    """One line for each, in their order, and each key alone is enough to verify the note."""
    note = sign_checkpoint(CHECKPOINT, *keys)
    known = [decode_verifier_key(encode_verifier_key(ORIGIN, key)) for key in keys]
    assert [signature.key_id for signature in decode_note(note).signatures] == [key.key_id for key in known]
    for key, one in zip(keys, known, strict=True):
        assert verify_checkpoint(note, one, ORIGIN) == CHECKPOINT
        assert sign_checkpoint(CHECKPOINT, key).splitlines()[-1] in note.splitlines()
    assert [signer.key_id for signer in verify_note(note, known[::-1])[1]] == [key.key_id for key in known]


def test_many_signatures_are_accepted_up_to_a_bound() -> None:
    """At least 16 (C2SP signed-note), here 64; a longer list is refused before anything is verified."""
    strangers = [(f"witness{i}.example", OTHER_KEY) for i in range(64)]
    assert verify_note(sign_note("text\n", *strangers[:15], (ORIGIN, KEY)), [LOG_KEY]) == ("text\n", [LOG_KEY])
    assert verify_note(sign_note("text\n", *strangers[:63], (ORIGIN, KEY)), [LOG_KEY]) == ("text\n", [LOG_KEY])
    with pytest.raises(CheckpointError, match="more than 64"):
        verify_note(sign_note("text\n", *strangers, (ORIGIN, KEY)), [LOG_KEY])


def test_text_ends_at_the_last_empty_line() -> None:
    """Empty lines inside the text belong to it."""
    text = "one\n\n— two AAAAAAA=\n\nthree\n"
    assert verify_note(sign_note(text, (ORIGIN, KEY)), [LOG_KEY]) == (text, [LOG_KEY])


@pytest.mark.parametrize("c", [chr(i) for i in range(0x20) if i != 0x0A])
def test_control_characters_are_refused(c: str) -> None:
    """No control character below U+0020 but the newline, though it be signed."""
    with pytest.raises(CheckpointError, match="control characters"):
        verify_note(sign_note(f"text{c}\n", (ORIGIN, KEY)), [LOG_KEY])


@pytest.mark.parametrize("name", [ORIGIN, "example.com", "a", "münchen.example", "a/b:80"])
def test_verifier_key_is_read_back(name: str) -> None:
    """Name, id and key survive the way through text."""
    key = decode_verifier_key(encode_verifier_key(name, KEY))
    assert (key.name, key.key_id, key.public_key) == (name, key_id(name, KEY.public_key()), KEY.public_key())


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\tb", "a\nb", "a\0", "a\u00a0b", "a\u2028", "\u3000"])
def test_name_that_a_note_cannot_carry_is_refused(name: str) -> None:
    """Key names have no spaces of any script, no plus sign and no control characters."""
    with pytest.raises(CheckpointError):
        check_key_name(name)
    with pytest.raises(CheckpointError):
        encode_verifier_key(name, KEY)


def test_any_changed_character_of_a_verifier_key_is_refused() -> None:
    """The key id binds the name and the key: no one-character change of the text is another key."""
    for i, c in enumerate(EXAMPLE_KEY):
        for other in "0aA+ \n/=":
            if other != c:
                with pytest.raises(CheckpointError):
                    decode_verifier_key(EXAMPLE_KEY[:i] + other + EXAMPLE_KEY[i + 1 :])


@pytest.mark.parametrize("suffix", ["\n", " ", "=", "A", "+", "\0"])
def test_text_around_a_verifier_key_is_refused(suffix: str) -> None:
    """Nothing stands before or after a verifier key, a newline neither."""
    with pytest.raises(CheckpointError):
        decode_verifier_key(EXAMPLE_KEY + suffix)
    with pytest.raises(CheckpointError):
        decode_verifier_key(suffix + EXAMPLE_KEY)


def make_verifier_key(name: str, blob: bytes) -> str:
    """A verifier key whose id fits whatever blob it carries."""
    number = hashlib.sha256(name.encode() + b"\n" + blob).hexdigest()[:8]
    return f"{name}+{number}+{base64.b64encode(blob).decode()}"


@pytest.mark.parametrize(
    "blob", [b"\x01" + bytes(31), b"\x01" + bytes(33), b"\x04" + bytes(32), b"\x02" + bytes(32), b""]
)
def test_verifier_key_of_another_algorithm_or_size_is_refused(blob: bytes) -> None:
    """Algorithm byte 0x01 and 32 bytes, or it is no key of ours, though its id fits."""
    with pytest.raises(CheckpointError):
        decode_verifier_key(make_verifier_key(ORIGIN, blob))


@pytest.mark.parametrize("public", [b"\x01" + bytes(31), bytes(32), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32])
def test_weak_verifier_key_is_refused(public: bytes) -> None:
    """A key of small order, under which one signature fits many checkpoints, can sign for no ledger."""
    assert decode_verifier_key(make_verifier_key(ORIGIN, b"\x01" + KEY.public_key().public_bytes_raw())) == LOG_KEY
    with pytest.raises(CheckpointError, match=r"small order|not reduced"):
        decode_verifier_key(make_verifier_key(ORIGIN, b"\x01" + public))


# Cosignatures and policies

WITNESS_SECRETS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 5)]
WITNESSES = [
    decode_witness_key(encode_witness_key(f"witness.example/w{i}", key)) for i, key in enumerate(WITNESS_SECRETS)
]
TIME_S = 1_795_000_000

# A checkpoint that a public log (Certificate Transparency's arche2025h1) signed and public witnesses cosigned.
PUBLIC_NOTE = (
    "arche2025h1.staging.ct.transparency.dev\n1432088532\nU7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n\n"
    "— arche2025h1.staging.ct.transparency.dev "
    "zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9"
    "MNL5zRNZ55lvGt0=\n"
    "— arche2025h1.staging.ct.transparency.dev "
    "ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— transparency.dev/DEV:witness-little-garden "
    "2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5"
    "BQ==\n"
    "— witness1.smartit.nu/witness1 "
    "pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsU"
    "AQ==\n"
    "— remora.n621.de "
    "2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWf"
    "Bw==\n"
    "— witness.stagemole.eu "
    "Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9D"
    "Ag==\n"
)
PUBLIC_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
PUBLIC_WITNESSES = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
]


def cosign(text: str, number: int, timestamp_s: int = TIME_S, *, signed_text: str = "") -> str:
    """A cosignature line, put together by hand; of another text where one is given."""
    name, key = f"witness.example/w{number}", WITNESS_SECRETS[number]
    public = key.public_key().public_bytes_raw()
    blob = hashlib.sha256(name.encode() + b"\n\x04" + public).digest()[:4]
    blob += timestamp_s.to_bytes(8, "big")
    blob += key.sign(b"cosignature/v1\ntime %d\n" % timestamp_s + (signed_text or text).encode())
    return f"— {name} {base64.b64encode(blob).decode()}\n"


def cosigned_by(*numbers: int) -> str:
    """The note of the test's checkpoint with cosignatures of these witnesses."""
    return NOTE + "".join(cosign(encode_checkpoint(CHECKPOINT), number, TIME_S + number) for number in numbers)


def policy(threshold: int, *numbers: int) -> WitnessPolicy:
    return WitnessPolicy(log_keys=(LOG_KEY,), witnesses=tuple(WITNESSES[i] for i in numbers), threshold=threshold)


def test_public_cosignatures_verify() -> None:
    """What others' witnesses cosigned is valid here, at the time they state, and under keys we would write alike."""
    log = decode_verifier_key(PUBLIC_LOG)
    witnesses = tuple(decode_witness_key(text) for text in PUBLIC_WITNESSES)
    wanted = WitnessPolicy(log_keys=(log,), witnesses=witnesses, threshold=3)
    found = verify_witnessed(PUBLIC_NOTE, wanted, log.name)
    assert found.checkpoint.size == 1_432_088_532
    assert found.cosignatures == tuple(Cosignature(witness=key.name, timestamp_s=1_779_573_024) for key in witnesses)
    assert [encode_witness_key(key.name, key.public_key) for key in witnesses] == PUBLIC_WITNESSES
    with pytest.raises(SignatureError, match="not valid"):
        verify_witnessed(PUBLIC_NOTE.replace("1432088532", "1432088533"), wanted, log.name)


@pytest.mark.parametrize("timestamp_s", [0, 1, TIME_S, MAX_TIMESTAMP_S])
def test_cosignature_is_written_as_specified(timestamp_s: int) -> None:
    """Key id of algorithm 0x04, time in 8 bytes, and a signature over time and checkpoint."""
    line = cosign_checkpoint(NOTE, WITNESS_SECRETS[1], "witness.example/w1", timestamp_s)
    assert line == cosign(encode_checkpoint(CHECKPOINT), 1, timestamp_s)
    found = (Cosignature(witness="witness.example/w1", timestamp_s=timestamp_s),)
    assert verify_cosignatures(NOTE + line, WITNESSES) == found
    assert verify_checkpoint(NOTE + line, LOG_KEY, ORIGIN) == CHECKPOINT


@pytest.mark.parametrize("timestamp_s", [-1, MAX_TIMESTAMP_S + 1, 2**64])
def test_time_that_cannot_be_stated_is_refused(timestamp_s: int) -> None:
    with pytest.raises(CheckpointError, match="time in seconds"):
        cosign_checkpoint(NOTE, WITNESS_SECRETS[1], "witness.example/w1", timestamp_s)


def test_cosigner_needs_a_name_and_a_note() -> None:
    for note, name in ((NOTE, "a b"), (NOTE, ""), (NOTE[:-1], "w"), ("", "w")):
        with pytest.raises(CheckpointError):
            cosign_checkpoint(note, WITNESS_SECRETS[1], name, TIME_S)


def test_any_changed_character_of_a_cosignature_is_refused() -> None:
    """One character replaced, and there are not two cosignatures any more, or the note is refused."""
    note = cosigned_by(0, 1)
    wanted = policy(2, 0, 1)
    assert len(verify_witnessed(note, wanted, ORIGIN).cosignatures) == 2
    for i in range(len(NOTE), len(note)):
        for other in "A \n+—":
            if other != note[i]:
                with pytest.raises(CheckpointError):
                    verify_witnessed(note[:i] + other + note[i + 1 :], wanted, ORIGIN)


def test_time_is_part_of_what_is_cosigned() -> None:
    """The same signature under another time is not valid."""
    blob = bytearray(base64.b64decode(cosign(encode_checkpoint(CHECKPOINT), 0).split()[2]))
    blob[11] ^= 1
    with pytest.raises(SignatureError, match="not valid"):
        verify_cosignatures(f"{NOTE}— witness.example/w0 {base64.b64encode(blob).decode()}\n", WITNESSES)


@pytest.mark.parametrize("size", [1, 8, 64, 71, 73, 136])
def test_cosignature_of_another_size_is_refused(size: int) -> None:
    """A known witness's line that is not a time and 64 bytes refuses the note."""
    blob = base64.b64decode(cosign(encode_checkpoint(CHECKPOINT), 0).split()[2])
    line = f"— witness.example/w0 {base64.b64encode(blob[:4] + (blob[4:] * 2)[:size]).decode()}\n"
    with pytest.raises(SignatureError, match="not a time"):
        verify_cosignatures(NOTE + line, WITNESSES)


def test_time_beyond_63_bits_is_refused() -> None:
    """Though it be signed."""
    line = cosign(encode_checkpoint(CHECKPOINT), 0, MAX_TIMESTAMP_S + 1)
    with pytest.raises(SignatureError, match="not a time"):
        verify_cosignatures(NOTE + line, WITNESSES)


def test_log_signature_is_no_cosignature_and_the_reverse() -> None:
    """One key in both roles has two key ids, and what it signed as one does not count as the other."""
    as_witness = decode_witness_key(encode_witness_key(ORIGIN, KEY))
    assert as_witness.key_id != LOG_KEY.key_id
    assert verify_cosignatures(NOTE, [as_witness]) == ()
    cosigned = NOTE.split("\n\n")[0] + "\n\n" + cosign_checkpoint(NOTE, KEY, ORIGIN, TIME_S)
    with pytest.raises(SignatureError, match="no signature of a known key"):
        verify_checkpoint(cosigned, LOG_KEY, ORIGIN)
    assert len(verify_cosignatures(cosigned, [as_witness])) == 1


def test_log_and_witness_keys_do_not_pass_for_each_other() -> None:
    with pytest.raises(CheckpointError, match="0x01"):
        decode_verifier_key(encode_witness_key(ORIGIN, KEY))
    with pytest.raises(CheckpointError, match="0x04"):
        decode_witness_key(encode_verifier_key(ORIGIN, KEY))


@pytest.mark.parametrize("public", [b"\x01" + bytes(31), bytes(32), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xff" * 32])
def test_weak_witness_key_is_refused(public: bytes) -> None:
    """A key under which one cosignature fits many checkpoints witnesses nothing."""
    with pytest.raises(CheckpointError, match=r"small order|not reduced"):
        decode_witness_key(make_verifier_key("witness.example", b"\x04" + public))


def test_any_changed_character_of_a_witness_key_is_refused() -> None:
    for text in PUBLIC_WITNESSES:
        for i, c in enumerate(text):
            for other in "0aA+ \n/=":
                if other != c:
                    with pytest.raises(CheckpointError):
                        decode_witness_key(text[:i] + other + text[i + 1 :])


@pytest.mark.parametrize("threshold", range(4))
@pytest.mark.parametrize("present", [(), (0,), (2,), (0, 1), (1, 2), (2, 0, 1), (3,), (0, 3), (3, 0, 1, 2)])
def test_policy_counts_its_witnesses(threshold: int, present: tuple[int, ...]) -> None:
    """Of witnesses 0 to 2, ``threshold`` have to be there; 3 is a stranger. Who, and when, is told either way."""
    known = tuple(
        Cosignature(witness=f"witness.example/w{i}", timestamp_s=TIME_S + i) for i in present if i in {0, 1, 2}
    )
    if len(known) >= threshold:
        found = verify_witnessed(cosigned_by(*present), policy(threshold, 0, 1, 2), ORIGIN)
        assert (found.checkpoint, found.cosignatures) == (CHECKPOINT, known)
    else:
        with pytest.raises(QuorumError) as refused:
            verify_witnessed(cosigned_by(*present), policy(threshold, 0, 1, 2), ORIGIN)
        assert (refused.value.cosignatures, refused.value.threshold) == (known, threshold)


def test_witness_that_cosigned_twice_counts_once() -> None:
    """The same line again, or another at another time: the first counts."""
    text = encode_checkpoint(CHECKPOINT)
    for again in (cosign(text, 0), cosign(text, 0, TIME_S + 60)):
        note = NOTE + cosign(text, 0) + again
        assert verify_cosignatures(note, WITNESSES) == (Cosignature(witness="witness.example/w0", timestamp_s=TIME_S),)
        with pytest.raises(QuorumError, match="1 of the 2"):
            verify_witnessed(note, policy(2, 0, 1), ORIGIN)


def test_failed_cosignature_of_a_known_witness_spoils_the_note() -> None:
    """Even where the others are enough; of a witness that the policy does not know it means nothing."""
    note = cosigned_by(0, 1) + cosign("", 2, signed_text=encode_checkpoint(CHECKPOINT).replace("70000", "70001"))
    assert len(verify_witnessed(note, policy(2, 0, 1), ORIGIN).cosignatures) == 2
    for threshold in range(4):
        with pytest.raises(SignatureError, match=r"w2 is not valid"):
            verify_witnessed(note, policy(threshold, 0, 1, 2), ORIGIN)


def test_policy_asks_for_the_log_first() -> None:
    """Witnesses alone make no checkpoint; nor does the right log's of another origin."""
    text = encode_checkpoint(CHECKPOINT)
    with pytest.raises(SignatureError, match="no signature of a known key"):
        verify_witnessed(text + "\n" + cosign(text, 0) + cosign(text, 1), policy(2, 0, 1), ORIGIN)
    with pytest.raises(CheckpointError, match="not of"):
        verify_witnessed(cosigned_by(0, 1), policy(2, 0, 1), "ledger.example/other")


def test_policy_nobody_can_satisfy_is_refused() -> None:
    for threshold in (-1, 3):
        with pytest.raises(CheckpointError, match="cannot cosign"):
            policy(threshold, 0, 1)


def test_one_key_is_one_witness() -> None:
    """A cosignature does not cover the name, so a key under two names would count twice; the log's own counts never."""
    alias = WitnessKey(name="alias.example", key_id=b"abcd", public_key=WITNESSES[0].public_key)
    log = decode_witness_key(encode_witness_key("other.example", KEY))
    for witnesses in ((WITNESSES[0], alias), (WITNESSES[0], WITNESSES[0]), (log,)):
        with pytest.raises(CheckpointError, match="a key of its own"):
            WitnessPolicy(log_keys=(LOG_KEY,), witnesses=witnesses, threshold=1)


def test_policy_takes_any_key_of_the_log_and_none_of_another() -> None:
    """A log may change its key; another log one trusts does not speak for it, nor spoil it."""
    second = Ed25519PrivateKey.from_private_bytes(bytes([77]) * 32)
    keys = [LOG_KEY, decode_verifier_key(encode_verifier_key(ORIGIN, second))]
    both = NOTE + sign_checkpoint(CHECKPOINT, second).split("\n\n")[1] + cosign(encode_checkpoint(CHECKPOINT), 0)
    for known in ([keys[0]], [keys[1]], keys):
        wanted = WitnessPolicy(log_keys=tuple(known), witnesses=tuple(WITNESSES[:1]), threshold=1)
        for origin in (ORIGIN, None):
            found = verify_witnessed(both, wanted, origin)
            assert (found.checkpoint, list(found.signers), len(found.cosignatures)) == (CHECKPOINT, known, 1)
    elsewhere = decode_verifier_key(encode_verifier_key("ledger.example/other", second))
    blob = base64.b64encode(elsewhere.key_id + second.sign(encode_checkpoint(CHECKPOINT).encode())).decode()
    with pytest.raises(SignatureError, match="no key of that name signed it"):
        verify_witnessed(
            f"{encode_checkpoint(CHECKPOINT)}\n— ledger.example/other {blob}\n",
            WitnessPolicy(log_keys=(LOG_KEY, elsewhere)),
        )
    assert verify_witnessed(NOTE, WitnessPolicy(log_keys=(LOG_KEY, elsewhere))).signers == (LOG_KEY,)


def test_policy_refuses_each_key_of_the_log_as_a_witness() -> None:
    own = decode_witness_key(encode_witness_key("own.example", KEY))
    second = decode_verifier_key(encode_verifier_key(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes([77]) * 32)))
    with pytest.raises(CheckpointError, match="a key of its own"):
        WitnessPolicy(log_keys=(second, LOG_KEY), witnesses=(own,), threshold=1)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever arrives, reading raises nothing but CheckpointError."""
    for read in (
        decode_checkpoint,
        decode_verifier_key,
        decode_witness_key,
        lambda note: verify_note(note, [LOG_KEY]),
        lambda note: verify_cosignatures(note, WITNESSES),
    ):
        with pytest.raises(CheckpointError):
            read(text)
