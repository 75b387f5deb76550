"""Receipts: what they prove, to someone with nothing but the file and the log's key, and everything that is refused."""

import base64

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    Checkpoint,
    Cosignature,
    LogKey,
    WitnessPolicy,
    cosign_checkpoint,
    decode_verifier_key,
    decode_witness_key,
    encode_verifier_key,
    encode_witness_key,
    sign_checkpoint,
)
from ledger.merkle import hash_leaf, prove_inclusion
from ledger.receipt import (
    MAX_RECEIPT_CHARACTERS,
    Receipt,
    ReceiptError,
    decode_receipt,
    encode_receipt,
    verify_receipt,
)
from tests.format_examples import KEYS, ORIGIN, example_ledger
from tests.naive import naive_root

LEDGER = example_ledger()
SIZE = 14
"""The ledger before the log changed its key: one line signs, so that every change of a note is a change that counts."""
LOG_KEY = decode_verifier_key(encode_verifier_key(ORIGIN, KEYS["log"]))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
WITNESS_SECRETS = [Ed25519PrivateKey.from_private_bytes(bytes([100 + i]) * 32) for i in range(4)]
WITNESSES = [
    decode_witness_key(encode_witness_key(f"witness.example/w{i}", key)) for i, key in enumerate(WITNESS_SECRETS)
]
TIME_S = 1_795_000_000


def make_receipt(seq: int, size: int = SIZE, leaves: list[bytes] | None = None, **changes: object) -> Receipt:
    """The receipt of an entry of the example ledger when it had ``size`` entries, unless changed."""
    hashes = leaves or [hash_leaf(data) for data in LEDGER.data[:size]]
    proof = prove_inclusion(seq, size, lambda nodes: [naive_root(hashes[i << h : (i + 1) << h]) for h, i in nodes])
    fields = {"data": LEDGER.data[seq], "seq": seq, "proof": tuple(proof), "note": LEDGER.checkpoints[size - 1]}
    return Receipt(**fields | changes)  # type: ignore[arg-type]


def trusting(*keys: LogKey) -> WitnessPolicy:
    """What someone asks who trusts these logs, and knows no witness."""
    return WitnessPolicy(log_keys=keys)


def refuses(text: str, *, keys: tuple[LogKey, ...] = (LOG_KEY,)) -> bool:
    try:
        verify_receipt(text, trusting(*keys))
    except ReceiptError:
        return True
    return False


TEXT = encode_receipt(make_receipt(11))
SIGNED_PART, _, SIGNATURES = TEXT.rpartition("\n\n")


def test_receipt_is_the_lines_of_the_specification() -> None:
    """Version, extra, index, the leaf's sibling first, an empty line, the checkpoint as it was signed."""
    lines = TEXT.split("\n")
    leaves = [hash_leaf(data) for data in LEDGER.data]
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + base64.b64encode(LEDGER.data[11]).decode()
    assert lines[2] == "index 11"
    assert lines[3] == base64.b64encode(leaves[10]).decode()
    assert lines[4] == base64.b64encode(naive_root(leaves[8:10])).decode()
    assert TEXT.split("\n\n", 1)[1] == LEDGER.checkpoints[SIZE - 1]


@pytest.mark.parametrize("size", range(1, SIZE + 1))
def test_every_receipt_of_every_size_verifies(size: int) -> None:
    """Each entry, proven in each history that has it."""
    for seq in range(size):
        receipt = make_receipt(seq, size)
        text = encode_receipt(receipt)
        assert decode_receipt(text) == receipt
        proven = verify_receipt(text, trusting(LOG_KEY))
        assert (proven.seq, proven.data, proven.leaf_hash) == (seq, LEDGER.data[seq], LEDGER.leaves[seq])
        assert (proven.entry.seq, proven.checkpoint.size, proven.checkpoint.origin) == (seq, size, ORIGIN)
        assert proven.signers == (LOG_KEY,)


def test_receipt_of_the_only_entry_has_no_hashes() -> None:
    """In a tree of one leaf, the leaf is the root."""
    text = encode_receipt(make_receipt(0, 1))
    assert text.split("\n")[3] == ""
    assert verify_receipt(text, trusting(LOG_KEY)).checkpoint.size == 1


def test_every_truncation_is_refused() -> None:
    """Wherever the file ends too early, even by its last newline."""
    for end in range(len(TEXT)):
        assert refuses(TEXT[:end]), end


def test_every_flipped_bit_is_refused() -> None:
    """Every bit of every byte of the file."""
    data = TEXT.encode()
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                text = changed.decode()
            except UnicodeDecodeError:
                continue
            assert refuses(text), (at, bit)


@pytest.mark.parametrize("line", ["", " ", "extra AA==", "index 0", "x", base64.b64encode(bytes(32)).decode()])
def test_every_surplus_line_is_refused(line: str) -> None:
    """Wherever it is put."""
    lines = TEXT.split("\n")
    for at in range(len(lines)):
        assert refuses("\n".join([*lines[:at], line, *lines[at:]])), at


def test_every_missing_doubled_or_exchanged_line_is_refused() -> None:
    """No line can be left out or moved. A signature line that stands there twice says nothing new, and is ignored."""
    lines = TEXT.split("\n")
    for at in range(len(lines) - 1):
        assert refuses("\n".join([*lines[:at], *lines[at + 1 :]])), at
        if not lines[at].startswith("—"):
            assert refuses("\n".join([*lines[:at], lines[at], *lines[at:]])), at
        assert refuses("\n".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])), at


@given(st.integers(0, len(TEXT)), st.text(min_size=1, max_size=4))
def test_inserted_text_is_refused(at: int, more: str) -> None:
    """Anything at all, anywhere."""
    assert refuses(TEXT[:at] + more + TEXT[at:])


@given(st.integers(0, len(TEXT)), st.integers(1, 60))
def test_removed_text_is_refused(at: int, count: int) -> None:
    """Any run of characters, unless it is none."""
    changed = TEXT[:at] + TEXT[at + count :]
    assert changed == TEXT or refuses(changed)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("index 11", "index 011"),
        ("index 11", "index +11"),
        ("index 11", "index -11"),
        ("index 11", "index  11"),
        ("index 11", "index 11 "),
        ("index 11", "index ١١"),
        ("index 11", "Index 11"),
        ("index 11", "index 9007199254740992"),
        ("@v1\n", "@v2\n"),
        ("@v1\n", "@v1 \n"),
        ("extra ", "extra"),
        ("extra ", "extra  "),
        ("extra ", "extra\t"),
        ("\n", "\r\n"),
        ("=", ""),
    ],
)
def test_other_spellings_are_refused(written: str, instead: str) -> None:
    """A receipt has one spelling."""
    assert written in TEXT
    assert refuses(TEXT.replace(written, instead))


def test_base64_with_spare_bits_is_refused() -> None:
    """The last character before the padding carries bits that decode to nothing: they must be zero."""
    line = TEXT.split("\n")[3]
    assert line.endswith("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(line[-2]) ^ 1]
    other = f"{line[:-2]}{last}="
    assert base64.b64decode(other) == base64.b64decode(line)
    assert refuses(TEXT.replace(line, other))


@pytest.mark.parametrize("other", [seq for seq in range(SIZE) if seq != 11])
def test_proof_of_one_entry_does_not_prove_another(other: int) -> None:
    """Neither another number, nor another entry, nor another entry's proof."""
    assert refuses(encode_receipt(msgspec.structs.replace(make_receipt(11), seq=other)))
    assert refuses(encode_receipt(make_receipt(11, data=LEDGER.data[other])))
    assert refuses(encode_receipt(make_receipt(11, proof=make_receipt(other).proof)))


@pytest.mark.parametrize("size", [size for size in range(1, SIZE) if size != SIZE])
def test_proof_for_one_checkpoint_does_not_do_for_another(size: int) -> None:
    """A proof leads to the root of its own size."""
    assert refuses(encode_receipt(make_receipt(11, note=LEDGER.checkpoints[size - 1])))


def test_other_keys_prove_nothing() -> None:
    """Without the log's key, or with a key of another name or another key of its name, nothing is proven."""
    renamed = decode_verifier_key(encode_verifier_key("ledger.example/else", KEYS["log"]))
    namesake = decode_verifier_key(encode_verifier_key(ORIGIN, OTHER))
    assert refuses(TEXT, keys=())
    assert refuses(TEXT, keys=(renamed,))
    assert refuses(TEXT, keys=(namesake,))
    assert not refuses(TEXT, keys=(namesake, renamed, LOG_KEY))


def test_a_trusted_log_does_not_speak_for_another() -> None:
    """A checkpoint that names this ledger, signed by another log one trusts, proves nothing of this ledger."""
    trusted = decode_verifier_key(encode_verifier_key("ledger.example/else", OTHER))
    note = LEDGER.checkpoints[SIZE - 1].partition("\n\n")[0] + "\n"
    blob = trusted.key_id + OTHER.sign(note.encode())
    forged = f"{note}\n— ledger.example/else {base64.b64encode(blob).decode()}\n"
    with pytest.raises(ReceiptError, match="no key of that name signed it"):
        verify_receipt(encode_receipt(make_receipt(11, note=forged)), trusting(trusted, LOG_KEY))


@pytest.mark.parametrize("place", ["beans\n14", "\n— ledger"])
def test_text_that_no_file_can_hold_is_refused(place: str) -> None:
    """A lone surrogate has no bytes: it is refused like any other change, not by an error of Python's."""
    assert refuses(TEXT.replace(place, f"\ud800{place}"))


def test_lines_of_unknown_keys_are_ignored() -> None:
    """Witnesses add their cosignatures behind the log's: C2SP signed-note says to ignore those one does not know."""
    line = f"— witness.example {base64.b64encode(bytes(76)).decode()}\n"
    assert not refuses(TEXT + line)
    assert refuses(TEXT + line.replace("—", "-"))
    assert refuses(TEXT + line[:-1])


def cosigned(*numbers: int, note: str = LEDGER.checkpoints[SIZE - 1]) -> str:
    """The receipt, with lines of these witnesses."""
    lines = (cosign_checkpoint(note, WITNESS_SECRETS[i], f"witness.example/w{i}", TIME_S + i) for i in numbers)
    return encode_receipt(make_receipt(11, note=note)) + "".join(lines)


def asking(threshold: int, *numbers: int) -> WitnessPolicy:
    """What someone asks who trusts the log, and these witnesses."""
    return WitnessPolicy(log_keys=(LOG_KEY,), witnesses=tuple(WITNESSES[i] for i in numbers), threshold=threshold)


@pytest.mark.parametrize("threshold", range(4))
@pytest.mark.parametrize("present", [(), (0,), (1, 2), (2, 0, 1), (3,), (3, 1)])
def test_receipt_is_proven_by_as_many_witnesses_as_one_asks_for(threshold: int, present: tuple[int, ...]) -> None:
    """Of witnesses 0 to 2; 3 is a stranger. Who cosigned, and when, is told."""
    text, policy = cosigned(*present), asking(threshold, 0, 1, 2)
    known = tuple(Cosignature(witness=f"witness.example/w{i}", timestamp_s=TIME_S + i) for i in present if i != 3)
    if len(known) >= threshold:
        assert verify_receipt(text, policy).cosignatures == known
    else:
        with pytest.raises(ReceiptError, match=f"cosigned by {len(known)} of the {threshold}"):
            verify_receipt(text, policy)


def test_cosignature_of_another_checkpoint_is_refused() -> None:
    """A witness's line on another size or root does not cover this one, and spoils the receipt."""
    other = cosigned(0, note=LEDGER.checkpoints[SIZE - 2]).rpartition("\n—")[2]
    with pytest.raises(ReceiptError, match="w0 is not valid"):
        verify_receipt(f"{TEXT}—{other}", asking(0, 0))


def test_every_changed_character_of_a_cosignature_is_refused() -> None:
    """When it is needed."""
    text = cosigned(0, 1)
    verify_receipt(text, asking(2, 0, 1))
    for at in range(len(TEXT), len(text)):
        for other in "A \n+—":
            if other != text[at]:
                with pytest.raises(ReceiptError):
                    verify_receipt(text[:at] + other + text[at + 1 :], asking(2, 0, 1))


def test_any_known_key_of_the_log_will_do() -> None:
    """A log that changes its key signs with the old and the new one: a client that knows one of them accepts it."""
    note = LEDGER.checkpoints[-1]
    keys = [decode_verifier_key(encode_verifier_key(ORIGIN, KEYS[name])) for name in ("log2", "log")]
    text = encode_receipt(make_receipt(11, len(LEDGER.data), note=note))
    for known in ([keys[0]], [keys[1]], keys):
        assert verify_receipt(text, trusting(*known)).signers == tuple(known)
    assert refuses(text, keys=(decode_verifier_key(encode_verifier_key(ORIGIN, OTHER)),))


def test_a_log_that_swallowed_something_else_proves_no_entry() -> None:
    """What the tree holds must be an entry of this ledger with this number, whatever the log signed."""
    for data, reason in (
        (b"not an entry", "is no entry"),
        (b" " + LEDGER.data[2], "is no entry"),
        (LEDGER.data[1], "says it is number 1"),
        (LEDGER.data[2].replace(b"ledger.example/beans", b"ledger.example/other"), "is of ledger.example/other"),
    ):
        leaves = [*LEDGER.leaves[:2], hash_leaf(data)]
        note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=3, root=naive_root(leaves)), KEYS["log"])
        with pytest.raises(ReceiptError, match=reason):
            verify_receipt(encode_receipt(make_receipt(2, 3, leaves, data=data, note=note)), trusting(LOG_KEY))


def test_endless_receipts_are_refused_before_they_are_read() -> None:
    """What no entry and no proof can need is not looked at."""
    with pytest.raises(ReceiptError, match="at most"):
        decode_receipt(TEXT + " " * MAX_RECEIPT_CHARACTERS)
    with pytest.raises(ReceiptError, match="hashes"):
        decode_receipt(encode_receipt(make_receipt(11, proof=(bytes(32),) * 64)))
    with pytest.raises(ReceiptError, match="bytes"):
        decode_receipt(encode_receipt(make_receipt(11, data=bytes(65_536))))


@given(st.binary(max_size=300), st.integers(0, 2**53 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63))
def test_any_receipt_is_read_as_it_was_written(data: bytes, seq: int, proof: list[bytes]) -> None:
    """Whatever it holds, and proves or does not."""
    receipt = Receipt(data=data, seq=seq, proof=tuple(proof), note=LEDGER.checkpoints[SIZE - 1])
    assert decode_receipt(encode_receipt(receipt)) == receipt


@given(st.text(max_size=200))
def test_whatever_is_read_is_written_the_same(text: str) -> None:
    """No text but a receipt's own is one."""
    for given_text in (text, f"c2sp.org/tlog-proof@v1\n{text}", f"{SIGNED_PART}{text}"):
        try:
            receipt = decode_receipt(given_text)
        except ReceiptError:
            continue
        assert encode_receipt(receipt) == given_text
