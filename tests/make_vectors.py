"""Vectors of the ledger's own format, made by a naive reference that shares no code with the implementation.

    python -m tests.make_vectors            list the files that are out of date
    python -m tests.make_vectors --write    write tests/vectors/guerdon_*.json

Nothing of `ledger` or `api` is imported, here or by what is imported here: expectations come from tests/naive.py and
tests/reference_verifier.py, which are written from ledger/FORMAT.md and the RFCs, and every case that is to be refused
is refused by them for the reason its author meant. Everything is determined: keys are SHA-256 of their names, nonces of
their numbers. tests/vectors/README.md describes the files for whoever has another implementation.
"""

import base64
import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests import naive
from tests import reference_verifier as reference
from tests.program_stories import programs_story
from tests.stories import (
    ORIGIN,
    OTHER_ORIGIN,
    UNKNOWN_MEMBER,
    Case,
    Document,
    Story,
    base64url,
    key,
    key_text,
    key_texts,
    keys_story,
    log_key,
    partners_story,
    points_story,
    refusal,
    signatures,
)

FOLDER = Path(__file__).parent / "vectors"


def entry_text(i: int) -> bytes:
    """What stands in for entry i where only the tree matters."""
    return f"guerdon vector entry {i}".encode()


@cache
def tree_leaves() -> list[bytes]:
    return [naive.hash_leaf(entry_text(i)) for i in range(300)]


# Merkle trees and proofs


def merkle_vectors() -> dict[str, Any]:
    leaves = tree_leaves()
    inclusion = [case for index, size in INCLUDED for case in _inclusion_cases(index, size)]
    consistency = [case for old, new in CONSISTENT for case in _consistency_cases(old, new)]
    return {
        "about": "Leaf i is SHA-256(0x00 || ASCII 'guerdon vector entry ' and i in decimal). roots[n] is of n leaves.",
        "roots": [naive.naive_root(leaves[:size]).hex() for size in range(301)],
        "inclusion": inclusion,
        "consistency": consistency,
    }


INCLUDED = [(0, 1), (0, 2), (1, 2), (2, 3), (0, 5), (4, 5), (6, 7), (7, 8), (8, 9), (11, 14), (99, 100)]
INCLUDED += [(0, 255), (254, 255), (255, 256), (256, 257), (128, 257), (299, 300), (200, 300)]
CONSISTENT = [(0, 0), (0, 1), (0, 7), (1, 1), (1, 2), (1, 8), (2, 3), (3, 4), (3, 7), (4, 7), (6, 8), (7, 8), (8, 9)]
CONSISTENT += [(14, 21), (64, 100), (100, 100), (127, 128), (128, 255), (255, 257), (256, 257), (256, 300), (257, 300)]


def _inclusion_cases(index: int, size: int) -> Iterator[Case]:
    leaves = tree_leaves()[:size]
    proof, root = naive.naive_inclusion(index, leaves), naive.naive_root(leaves)
    honest = {"index": index, "size": size, "leaf": leaves[index], "root": root, "proof": proof}
    changes: list[tuple[str, dict[str, Any]]] = [("honest", {})]
    changes += [(f"proof {how}", {"proof": changed}) for how, changed in _changed_proofs(proof)]
    changes += [
        ("leaf with a flipped bit", {"leaf": _flip(leaves[index])}),
        ("root with a flipped bit", {"root": _flip(root)}),
        ("root in place of the leaf", {"leaf": root}),
        ("index one more", {"index": index + 1}),
        ("index is the size", {"index": size}),
        ("size one more", {"size": size + 1}),
        ("size one less", {"size": size - 1}),
        ("size doubled", {"size": 2 * size}),
    ]
    if index:
        changes.append(("index one less", {"index": index - 1}))
    for how, change in changes:
        case = {**honest, **change}
        valid = naive.is_included(case["leaf"], case["index"], case["size"], case["proof"], case["root"])
        yield {"name": f"{index} of {size}: {how}", **_hexed(case), "valid": valid}


def _consistency_cases(old: int, new: int) -> Iterator[Case]:
    leaves = tree_leaves()
    old_root, new_root = naive.naive_root(leaves[:old]), naive.naive_root(leaves[:new])
    proof = naive.naive_consistency(old, leaves[:new])
    honest = {"old_size": old, "new_size": new, "old_root": old_root, "new_root": new_root, "proof": proof}
    changes: list[tuple[str, dict[str, Any]]] = [("honest", {})]
    changes += [(f"proof {how}", {"proof": changed}) for how, changed in _changed_proofs(proof)]
    changes += [
        ("old root with a flipped bit", {"old_root": _flip(old_root)}),
        ("new root with a flipped bit", {"new_root": _flip(new_root)}),
        ("sizes exchanged", {"old_size": new, "new_size": old}),
        ("old size one more", {"old_size": old + 1}),
        ("new size one more", {"new_size": new + 1}),
    ]
    if old:
        changes.append(("old size one less", {"old_size": old - 1}))
    if old_root != new_root:
        changes.append(("roots exchanged", {"old_root": new_root, "new_root": old_root}))
    for how, change in changes:
        case = {**honest, **change}
        roots = (case["old_root"], case["new_root"])
        valid = naive.is_consistent(case["old_size"], case["new_size"], case["proof"], *roots)
        yield {"name": f"{old} to {new}: {how}", **_hexed(case), "valid": valid}


def _changed_proofs(proof: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    yield "with a surplus hash", [*proof, bytes(32)]
    yield "with a surplus hash before", [bytes(32), *proof]
    if not proof:
        return
    for i in sorted({0, len(proof) // 2, len(proof) - 1}):
        yield f"with a flipped bit in hash {i}", [*proof[:i], _flip(proof[i]), *proof[i + 1 :]]
    yield "without its last hash", proof[:-1]
    yield "without its first hash", proof[1:]
    yield "with a cut off hash", [*proof[:-1], proof[-1][:-1]]
    yield "with its last hash twice", [*proof, proof[-1]]
    if len(proof) > 1:
        yield "reversed", proof[::-1]


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 0x40])


def _hexed(case: Case) -> Case:
    def shown(value: Any) -> Any:
        if isinstance(value, list):
            return [shown(item) for item in value]
        return value.hex() if isinstance(value, bytes) else value

    return {name: shown(value) for name, value in case.items()}


# Tiles

TREE_SIZES = (1, 255, 256, 257, 512, 1_000, 70_000)
BUNDLES_SHOWN = 4

TILE_NAMES = {
    "0/000": True,
    "0/273.p/112": True,
    "0/x001/x234/067": True,
    "63/000": True,
    "1/999.p/255": True,
    "1/x001/000.p/1": True,
    "entries/000": True,
    "entries/x001/234.p/8": True,
    "64/000": False,
    "00/000": False,
    "-1/000": False,
    "+1/000": False,
    "0/0": False,
    "0/0000": False,
    "0/1000": False,
    "0/001/000": False,
    "0/x000/001": False,
    "0/x001": False,
    "0/X001/000": False,
    "0/000.p/0": False,
    "0/000.p/256": False,
    "0/000.p/007": False,
    "0/000.p/": False,
    "0/000.p": False,
    "0/000.P/1": False,
    "0/000/": False,
    "/0/000": False,
    "0//000": False,
    "0/00a": False,
    "0/٠٠٠": False,
    "0/000\n": False,
    "Entries/000": False,
    "entries/0": False,
    "checkpoint": False,
    "": False,
}


def tile_vectors() -> dict[str, Any]:
    return {
        "about": "Entry i is ASCII 'guerdon vector entry ' and i in decimal; digests are SHA-256 of a file's bytes. "
        "Every tile of each tree is listed, and its first and last bundles.",
        "names": [{"name": name, "valid": valid} for name, valid in TILE_NAMES.items()],
        "trees": [_tree_case(size) for size in TREE_SIZES],
    }


def _tree_case(size: int) -> Case:
    levels = [[naive.hash_leaf(entry_text(i)) for i in range(size)]]
    while len(levels[-1]) >= 256:
        below = levels[-1]
        levels.append([naive.naive_root(below[i : i + 256]) for i in range(0, len(below) // 256 * 256, 256)])
    tiles = {}
    for level, hashes in enumerate(levels):
        for index in range(-(-len(hashes) // 256)):
            tile = hashes[256 * index : 256 * (index + 1)]
            tiles[naive.tile_name(level, index, len(tile))] = hashlib.sha256(b"".join(tile)).hexdigest()
    bundles = {}
    indexes = range(-(-size // 256))
    for index in sorted({*indexes[:BUNDLES_SHOWN], *indexes[-BUNDLES_SHOWN:]}):
        entries = [entry_text(i) for i in range(256 * index, min(256 * (index + 1), size))]
        bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
        bundles[naive.tile_name("entries", index, len(entries))] = hashlib.sha256(bundle).hexdigest()
    root = naive.naive_root(levels[0])
    return {"name": f"tree of {size}", "size": size, "root": root.hex(), "tiles": tiles, "bundles": bundles}


# Checkpoints, cosignatures and receipts


def witness_key(name: str) -> str:
    return naive.verifier_key(f"{name}.example/witness", key(name), naive.COSIGNATURE)


OLD, NEW, STRANGER = log_key("log"), log_key("next log"), log_key("another log")
SIZE, ROOT = 21, naive.naive_root([naive.hash_leaf(entry_text(i)) for i in range(21)])
TEXT = naive.checkpoint_text(ORIGIN, SIZE, ROOT)
OLD_LINE, NEW_LINE = (naive.log_line(TEXT, ORIGIN, key(name)) for name in ("log", "next log"))
FORGED_OLD_LINE = naive.signature_line(ORIGIN, naive.key_id(ORIGIN, key("log")), key("log").sign(b"something else"))
STRANGER_LINE = naive.log_line(TEXT, "stranger.example", key("another log"))
BOTH = f"{TEXT}\n{NEW_LINE}{OLD_LINE}"
ONE = f"{TEXT}\n{OLD_LINE}"


def _signed(text: str) -> str:
    return f"{text}\n{naive.log_line(text, ORIGIN, key('log'))}"


NoteCase = tuple[str, str, list[str], bool]
"""Name, note, keys known, whether it is to be accepted."""


def _notes_by_signers() -> Iterator[NoteCase]:
    yield "one line of the key known", ONE, [OLD], True
    yield "two lines during a change, the old key known", BOTH, [OLD], True
    yield "two lines during a change, the new key known", BOTH, [NEW], True
    yield "two lines during a change, both keys known", BOTH, [OLD, NEW], True
    yield "one line, both keys known", ONE, [NEW, OLD], True
    yield "lines in the other order", f"{TEXT}\n{OLD_LINE}{NEW_LINE}", [NEW], True
    yield "an old key's forged line, only the new key known", f"{TEXT}\n{NEW_LINE}{FORGED_OLD_LINE}", [NEW], True
    yield "an old key's forged line, both keys known", f"{TEXT}\n{NEW_LINE}{FORGED_OLD_LINE}", [NEW, OLD], False
    yield "an unknown key's line before", f"{TEXT}\n{STRANGER_LINE}{OLD_LINE}", [OLD], True
    yield "64 lines", f"{TEXT}\n" + STRANGER_LINE * 63 + OLD_LINE, [OLD], True
    yield "65 lines", f"{TEXT}\n" + STRANGER_LINE * 64 + OLD_LINE, [OLD], False
    yield "a second line of a known key is not looked at", f"{TEXT}\n{OLD_LINE}{FORGED_OLD_LINE}", [OLD], True
    yield "the first line of a known key counts", f"{TEXT}\n{FORGED_OLD_LINE}{OLD_LINE}", [OLD], False
    yield "no line of a known key", f"{TEXT}\n{NEW_LINE}", [OLD], False
    yield "no line of a known key but one of its name", f"{TEXT}\n{NEW_LINE}{OLD_LINE}", [STRANGER], False
    yield "no key known", ONE, [], False
    yield "a known key of another name only", BOTH, [log_key("log", OTHER_ORIGIN)], False
    yield "signed by the key under another name", _renamed_line(), [log_key("log", "renamed.example")], False
    yield (
        "a changed root",
        ONE.replace(base64.b64encode(ROOT).decode(), base64.b64encode(bytes(32)).decode()),
        [OLD],
        False,
    )
    yield "a changed size", ONE.replace("\n21\n", "\n22\n"), [OLD], False
    yield (
        "a cosignature is no signature of the log",
        f"{TEXT}\n" + naive.cosignature_line(TEXT, ORIGIN, key("log"), 1),
        [OLD],
        False,
    )
    yield "another log's checkpoint", _of_another_log(), [OLD, log_key("log", OTHER_ORIGIN)], True
    yield "another log's checkpoint, unknown", _of_another_log(), [OLD], False


def _notes_by_text() -> Iterator[NoteCase]:
    yield "size with a leading zero", _signed(TEXT.replace("\n21\n", "\n021\n")), [OLD], False
    yield "size with a sign", _signed(TEXT.replace("\n21\n", "\n+21\n")), [OLD], False
    yield "size in other digits", _signed(TEXT.replace("\n21\n", "\n٢١\n")), [OLD], False
    yield "size 2^53-1", _signed(TEXT.replace("\n21\n", f"\n{2**53 - 1}\n")), [OLD], True
    yield "size 2^53", _signed(TEXT.replace("\n21\n", f"\n{2**53}\n")), [OLD], False
    yield "root of 31 bytes", _signed(naive.checkpoint_text(ORIGIN, SIZE, ROOT[:31])), [OLD], False
    yield "root of 33 bytes", _signed(naive.checkpoint_text(ORIGIN, SIZE, ROOT + b"\0")), [OLD], False
    yield "root without padding", _signed(TEXT.replace("=\n", "\n")), [OLD], False
    yield "root with set bits in its padding", _signed(_other_padding(TEXT)), [OLD], False
    yield "an extension line", _signed(TEXT + "more\n"), [OLD], False
    yield "an empty extension line", _signed(TEXT + "\n"), [OLD], False
    yield "two lines of text", _signed(f"{ORIGIN}\n{SIZE}\n"), [OLD], False
    yield "an empty origin", _signed(TEXT.removeprefix(ORIGIN)), [OLD], False
    yield "carriage returns", ONE.replace("\n", "\r\n"), [OLD], False
    yield "a tab", _signed(TEXT.replace("\n21\n", "\n21\t\n")), [OLD], False


def _notes_by_lines() -> Iterator[NoteCase]:
    yield "no signature lines", f"{TEXT}\n", [OLD], False
    yield "no empty line", TEXT + OLD_LINE, [OLD], False
    yield "no newline at the end", ONE[:-1], [OLD], False
    yield "an empty line at the end", ONE + "\n", [OLD], False
    yield "a hyphen for the dash", ONE.replace("—", "-"), [OLD], False
    yield "two spaces", ONE.replace("— ", "—  "), [OLD], False
    yield "a line without a signature", f"{TEXT}\n— {ORIGIN}\n{OLD_LINE}", [OLD], False
    padded = NEW_LINE.replace("=\n", "\n")
    yield "an unknown line without padding", f"{TEXT}\n{OLD_LINE}{padded}", [OLD], False
    yield "an unknown line of four bytes", f"{TEXT}\n{OLD_LINE}" + naive.signature_line("a", b"1234", b""), [OLD], False
    yield "an unknown line of five bytes", f"{TEXT}\n{OLD_LINE}" + naive.signature_line("a", b"1234", b"5"), [OLD], True
    yield (
        "an unknown key's name with a plus",
        f"{TEXT}\n{OLD_LINE}" + naive.signature_line("a+b", b"1234", b"5"),
        [OLD],
        False,
    )
    yield (
        "an unknown key's name with a no-break space",
        f"{TEXT}\n{OLD_LINE}" + naive.signature_line("a\u00a0b", b"1234", b"5"),
        [OLD],
        False,
    )
    short = naive.signature_line(ORIGIN, naive.key_id(ORIGIN, key("log")), key("log").sign(TEXT.encode())[:63])
    yield "a known key's signature of 63 bytes", f"{TEXT}\n{short}", [OLD], False


def _renamed_line() -> str:
    return f"{TEXT}\n" + naive.log_line(TEXT, "renamed.example", key("log"))


def _of_another_log() -> str:
    text = naive.checkpoint_text(OTHER_ORIGIN, SIZE, ROOT)
    return f"{text}\n" + naive.log_line(text, OTHER_ORIGIN, key("log"))


def _other_padding(text: str) -> str:
    """The same 32 bytes, but with a bit set that base64 does not use."""
    root = base64.b64encode(ROOT).decode()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return text.replace(root, root[:-2] + alphabet[alphabet.index(root[-2]) + 1] + "=")


def checkpoint_vectors() -> dict[str, Any]:
    cases = []
    for name, note, known, valid in (*_notes_by_signers(), *_notes_by_text(), *_notes_by_lines()):
        code = refusal(lambda note=note, known=known: reference.verify_cosigned(note, known, [], 0))  # type: ignore[misc]
        assert (code == "") is valid, (name, code)
        case = {"name": name, "note": note, "log_keys": known, "valid": valid}
        if valid:
            (origin, size, root), signers = reference.signed_lines(note, known)
            case |= {"origin": origin, "size": int(size), "root": base64.b64decode(root).hex()}
            case["signed_by"] = [known_key for known_key in known if known_key in signers]
        cases.append(case)
    return {
        "about": "Accepted are notes that are a checkpoint signed by a known log key whose name is the origin.",
        "verifier_keys": [_verifier_key_case(*case) for case in _verifier_keys()],
        "checkpoints": cases,
    }


def _verifier_keys() -> Iterator[tuple[str, str, str]]:
    """Name, text, and what it is a key of: of a log, of a witness, or nothing."""
    public, other = naive.public_bytes(key("log")), base64.b64encode(bytes(33)).decode()
    yield "a log's", OLD, "log"
    yield "a witness's", witness_key("w1"), "witness"
    yield "with a key id that does not fit", OLD.replace(OLD.split("+")[1], "00000000"), ""
    yield "with a key id in capitals", _with_id(OLD, str.upper), ""
    yield "without padding", OLD.rstrip("="), "log" if not OLD.endswith("=") else ""
    yield "without a name", OLD.removeprefix(ORIGIN), ""
    yield "with a space in the name", naive.verifier_key("a b", key("log")), ""
    yield "of two parts", "+".join(OLD.split("+")[:2]), ""
    yield "with a newline at the end", OLD + "\n", ""
    yield "of algorithm 2", naive.verifier_key(ORIGIN, key("log"), b"\x02"), ""
    yield "of 31 bytes", _encoded_key(b"\x01" + public[:31]), ""
    yield "of 33 bytes", _encoded_key(b"\x01" + public + b"\0"), ""
    yield "of small order", _encoded_key(b"\x01" + bytes(32)), ""
    yield "of y that is not reduced", _encoded_key(b"\x01" + (2**255 - 18).to_bytes(32, "little")), ""
    yield "of no point of the curve", _encoded_key(b"\x01" + (2).to_bytes(32, "little")), "log"
    yield "of zeros", f"{ORIGIN}+00000000+{other}", ""
    yield "empty", "", ""


def _with_id(text: str, change: Callable[[str], str]) -> str:
    name, key_id, blob = text.split("+", 2)
    assert key_id != change(key_id)
    return f"{name}+{change(key_id)}+{blob}"


def _encoded_key(blob: bytes) -> str:
    key_id = hashlib.sha256(ORIGIN.encode() + b"\n" + blob).hexdigest()[:8]
    return f"{ORIGIN}+{key_id}+{base64.b64encode(blob).decode()}"


def _verifier_key_case(name: str, text: str, of: str) -> Case:
    as_log = not refusal(lambda: reference.parse_verifier_key(text))
    as_witness = not refusal(lambda: reference.parse_verifier_key(text, reference.COSIGNATURE))
    assert (as_log, as_witness) == (of == "log", of == "witness"), name
    return {"name": name, "text": text, "log": as_log, "witness": as_witness}


W = [witness_key(f"w{i}") for i in range(4)]
SECONDS = 1_795_000_000


def _cosigned(*who: int, text: str = TEXT, at: int = SECONDS) -> str:
    return "".join(naive.cosignature_line(text, f"w{i}.example/witness", key(f"w{i}"), at + i) for i in who)


def _cosigned_cases() -> Iterator[tuple[str, str, list[str], int, bool]]:
    """Name, lines behind the log's, witnesses known, how many are wanted, whether it is to be accepted."""
    name, key_id = "w1.example/witness", naive.key_id("w1.example/witness", key("w1"), naive.COSIGNATURE)
    signature = key("w1").sign(f"cosignature/v1\ntime {SECONDS}\n{TEXT}".encode())
    at = SECONDS.to_bytes(8, "big")
    other = naive.checkpoint_text(ORIGIN, SIZE + 1, ROOT)
    yield "none wanted, none there", "", [], 0, True
    yield "none wanted, one there", _cosigned(1), W[1:2], 0, True
    yield "one of one", _cosigned(1), W[1:2], 1, True
    yield "two of three", _cosigned(1, 3), W[1:], 2, True
    yield "three of three, in another order", _cosigned(3, 1, 2), W[1:], 3, True
    yield "one of three where two are wanted", _cosigned(2), W[1:], 2, False
    yield "none of one", "", W[1:2], 1, False
    yield "an unknown witness does not count", _cosigned(0), W[1:2], 1, False
    yield "an unknown witness is ignored", _cosigned(0, 1), W[1:2], 1, True
    yield "the same witness twice counts once", _cosigned(1, 1), W[1:3], 2, False
    yield "the first of two times counts", _cosigned(1) + _cosigned(1, at=7), W[1:2], 1, True
    yield "a forged line of a known witness", _cosigned(1, text=other) + _cosigned(2), W[1:], 1, False
    yield "a forged line of an unknown witness", _cosigned(0, text=other) + _cosigned(2), W[1:], 1, True
    yield "second 0", naive.cosignature_line(TEXT, name, key("w1"), 0), W[1:2], 1, True
    yield "second 2^63-1", naive.cosignature_line(TEXT, name, key("w1"), 2**63 - 1), W[1:2], 1, True
    yield "second 2^63", naive.cosignature_line(TEXT, name, key("w1"), 2**63), W[1:2], 1, False
    yield (
        "a changed time",
        naive.signature_line(name, key_id, (SECONDS + 1).to_bytes(8, "big") + signature),
        W[1:2],
        1,
        False,
    )
    yield "without a time", naive.signature_line(name, key_id, signature), W[1:2], 1, False
    yield "with a surplus byte", naive.signature_line(name, key_id, at + signature + b"\0"), W[1:2], 1, False
    yield "a time in four bytes", naive.signature_line(name, key_id, at[4:] + signature), W[1:2], 1, False
    yield "signed as a log signs", naive.log_line(TEXT, name, key("w1")), W[1:2], 1, False
    yield (
        "the key id of a log's signature",
        naive.signature_line(name, naive.key_id(name, key("w1")), at + signature),
        W[1:2],
        1,
        False,
    )
    yield (
        "another witness's name",
        naive.cosignature_line(TEXT, "w2.example/witness", key("w1"), SECONDS),
        W[1:3],
        1,
        False,
    )


def cosignature_vectors() -> dict[str, Any]:
    cases = []
    for name, lines, witnesses, wanted, valid in _cosigned_cases():
        cases.append(_cosigned_case(name, ONE + lines, [OLD], witnesses, wanted, valid=valid))
    cases.append(
        _cosigned_case("two log keys and two witnesses", BOTH + _cosigned(1, 2), [OLD, NEW], W[1:], 2, valid=True)
    )
    unsigned = f"{TEXT}\n{_cosigned(1, 2)}"
    cases.append(_cosigned_case("witnesses without the log", unsigned, [OLD], W[1:], 2, valid=False))
    return {
        "about": "Accepted are checkpoints of a known log key that at least threshold of the witnesses cosigned.",
        "cosigned": cases,
        "policies": [_policy_case(*case) for case in _policies()],
    }


def _cosigned_case(
    name: str, note: str, log_keys: list[str], witnesses: list[str], wanted: int, *, valid: bool
) -> Case:
    code = refusal(lambda: reference.verify_cosigned(note, log_keys, witnesses, wanted))
    assert (code == "") is valid, (name, code)
    case: Case = {"name": name, "note": note, "log_keys": log_keys, "witnesses": witnesses}
    case |= {"threshold": wanted, "valid": valid}
    if valid:
        _, found = reference.verify_cosigned(note, log_keys, witnesses, wanted)
        case["cosignatures"] = [{"witness": witness, "timestamp_s": second} for witness, second in found]
    return case


def _policies() -> Iterator[tuple[str, list[str], list[str], int, bool]]:
    twin = naive.verifier_key("w9.example/witness", key("w1"), naive.COSIGNATURE)
    log_as_witness = naive.verifier_key("w9.example/witness", key("log"), naive.COSIGNATURE)
    yield "none of none", [OLD], [], 0, True
    yield "two of three", [OLD], W[1:], 2, True
    yield "two log keys", [OLD, NEW], W[1:], 3, True
    yield "more than there are", [OLD], W[1:], 4, False
    yield "fewer than none", [OLD], W[1:], -1, False
    yield "one key under two names", [OLD], [W[1], twin], 1, False
    yield "one witness twice", [OLD], [W[1], W[1]], 1, False
    yield "the log as its own witness", [OLD], [log_as_witness], 1, False
    yield "the log's other key as witness", [NEW, OLD], [log_as_witness], 0, False


def _policy_case(name: str, log_keys: list[str], witnesses: list[str], wanted: int, valid: bool) -> Case:
    assert (refusal(lambda: reference.check_policy(log_keys, witnesses, wanted)) == "") is valid, name
    return {"name": name, "log_keys": log_keys, "witnesses": witnesses, "threshold": wanted, "valid": valid}


# Canonical bytes

CANONICAL: dict[str, tuple[str | bytes, bool]] = {
    "an object": ('{"a":1,"b":[true,false,"x"]}', True),
    "keys sorted by bytes": ('{"10":1,"9":2,"A":3,"_":4,"a":5}', True),
    "empty": ('{"":[],"a":{}}', True),
    "the largest integers": ("[9007199254740991,-9007199254740991,0]", True),
    "text that stands for itself": ('["é€😀/\u007f\u2028\u2029\ufeff"]', True),
    "escapes": ('["\\b\\t\\n\\f\\r\\u0000\\u001f\\"\\\\"]', True),
    "text is not normalised": ('["e\u0301","é"]', True),
    "a string": ('"x"', True),
    "deep": ("[" * 40 + "]" * 40, True),
    "keys not sorted": ('{"b":1,"a":2}', False),
    "keys sorted by length": ('{"9":2,"10":1}', False),
    "a key twice": ('{"a":1,"a":1}', False),
    "a space": ('{"a": 1}', False),
    "a space after a comma": ("[1, 2]", False),
    "a newline at the end": ("[1]\n", False),
    "a space before": (" [1]", False),
    "a byte order mark": (b"\xef\xbb\xbf[1]", False),
    "a key that is not ASCII": ('{"é":1}', False),
    "a fraction": ("[1.0]", False),
    "an exponent": ("[1e3]", False),
    "minus zero": ("[-0]", False),
    "a leading zero": ("[01]", False),
    "a plus sign": ("[+1]", False),
    "2^53": ("[9007199254740992]", False),
    "-2^53": ("[-9007199254740992]", False),
    "a large integer": ("[1" + "0" * 400 + "]", False),
    "an escape that need not be": ('["\\u0041"]', False),
    "capitals in an escape": ('["\\u001F"]', False),
    "a long escape where a short one is": ('["\\u000a"]', False),
    "an escaped slash": ('["\\/"]', False),
    "an escaped pair": ('["\\ud83d\\ude00"]', False),
    "an escaped lone surrogate": ('["\\ud800"]', False),
    "a lone surrogate in UTF-8": (b'["\xed\xa0\x80"]', False),
    "an overlong encoding": (b'["\xc0\xaf"]', False),
    "bytes that are not UTF-8": (b'["\xff"]', False),
    "UTF-16": ('["x"]'.encode("utf-16-le"), False),
    "a raw newline in a string": ('["\n"]', False),
    "a raw control character": ('["\u0001"]', False),
    "NaN": ("[NaN]", False),
    "infinity": ("[-Infinity]", False),
    "a comma too many": ("[1,]", False),
    "single quotes": ("['x']", False),
    "cut off": ('{"a":1', False),
    "two values": ("1 2", False),
    "nothing": ("", False),
}


def canonical_vectors() -> dict[str, Any]:
    cases = []
    for name, (given, valid) in CANONICAL.items():
        data = given if isinstance(given, bytes) else given.encode()
        code = refusal(lambda data=data: reference.decode(data))  # type: ignore[misc]
        assert (code == "") is valid, (name, code)
        form = {"hex": given.hex()} if isinstance(given, bytes) else {"text": given}
        cases.append({"name": name, **form, "valid": valid})
    return {"about": "Whether bytes, given as text in UTF-8 or in hex, are canonical.", "canonical": cases}


# Operations


EITHER = "MALFORMED NOT_CANONICAL"
"""Both apply, so that either may be said (section 6.2 step 2): a field is written that says what its absence says."""


def operation_vectors() -> dict[str, Any]:
    return _document_vectors(_documents())


def partner_operation_vectors() -> dict[str, Any]:
    return _document_vectors(_partner_documents())


def program_operation_vectors() -> dict[str, Any]:
    return _document_vectors(_program_documents())


def _document_vectors(documents: Iterator[tuple[str, bytes, str]]) -> dict[str, Any]:
    cases = []
    for name, data, code in documents:
        found = refusal(lambda data=data: read_document(data))  # type: ignore[misc]
        assert found in (code.split() or [""]), (name, found)
        case: Case = {"name": name, "codes": code.split()}
        if len(data) > 20_000:
            assert data == data[:1] * len(data)
            case |= {"repeated": data[:1].decode(), "times": len(data)}
        else:
            case["document"] = data.decode()
        if not code:
            op_bytes = reference.encode(json.loads(data)["op"])
            case["op_id"] = hashlib.sha256(op_bytes).hexdigest()
            case["message"] = (b"guerdon operation v1\n" + op_bytes).decode()
        cases.append(case)
    return {
        "about": "Documents as submitted, and with which of codes they are refused before any state is looked at.",
        "documents": cases,
    }


def read_document(data: bytes) -> None:
    """Steps 1 to 3 of FORMAT.md section 6.2."""
    reference.require(len(data) <= reference.MAX_ENTRY_BYTES, "TOO_LARGE")
    document = reference.decode(data)
    reference.record({"op": reference.check_operation, "sigs": reference.SIGNATURES})(document)
    reference.check_signatures(reference.encode(document["op"]), document["sigs"])


def _documents() -> Iterator[tuple[str, bytes, str]]:
    yield "one byte too many", b"x" * 65_536, "TOO_LARGE"
    yield "as many bytes as may be", b"x" * 65_535, "MALFORMED"
    samples = _samples(points_story(), keys_story())
    for kind, (op, signers) in samples.items():
        yield kind, _document(op, signers), ""
        for name, changed, code in _malformed(op):
            yield f"{kind} {name}", _document(changed, signers), code
    for name, op, code in _further_forms(samples):
        yield name, _document(op, "ada"), code
    yield from _envelopes(samples["transfer"][0])


def _partner_documents() -> Iterator[tuple[str, bytes, str]]:
    """Of the kinds that the first two stories do not have, and of what else they may have in them."""
    old, samples = _samples(points_story(), keys_story()), _samples(partners_story())
    for kind, (op, signers) in samples.items():
        if kind not in old:
            yield kind, _document(op, signers), ""
            for name, changed, code in _malformed(op):
                yield f"{kind} {name}", _document(changed, signers), code
    for name, op, code in _partner_forms({kind: op for kind, (op, _) in samples.items()}):
        yield name, _document(op, "ada"), code


def _program_documents() -> Iterator[tuple[str, bytes, str]]:
    """Of the kinds that only programs need in which more than the amount counts, and of what these may have in them."""
    old, samples = _samples(points_story(), keys_story(), partners_story()), _samples(programs_story())
    assert {*old, *samples} == set(reference.KINDS)
    for kind, (op, signers) in samples.items():
        if kind not in old:
            yield kind, _document(op, signers), ""
            for name, changed, code in _malformed(op):
                yield f"{kind} {name}", _document(changed, signers), code
    op = {kind: sample for kind, (sample, _) in samples.items()}
    full = op["publish_program"]["program"]
    kept = {"bands", "currency", "excluded_categories", "expiry", "grants", "plans", "round_amount", "round_points"}
    parts = sorted(kept | {"tiers", "time_zone"})
    fewer = {name: full[name] for name in parts} | {"multipliers": full["multipliers"][:1]}
    for forms in (_language_forms, _tier_forms, _when_forms, _reward_forms):
        for name, program, code in forms(fewer):
            yield name, _document({**op["publish_program"], "program": program}, "shop"), code
    for name, document, code in _membership_forms(op):
        yield name, _document(document, "ada"), code


Forms = Iterator[tuple[str, Document, str]]


def _language_forms(program: Document) -> Forms:
    bad = "MALFORMED"
    some = [{"bonus": "a", "points": 1}]
    for name, changes, code in (
        ("a bonus for everybody", {"bonuses": some}, ""),
        ("a bonus twice", {"bonuses": some * 2}, bad),
        ("a bonus of nothing", {"bonuses": [{"bonus": "a", "points": 0}]}, bad),
        ("no bonuses, which are not written", {"bonuses": []}, EITHER),
        ("benefits of one name", {"benefits": [{"benefit": "a"}, {"benefit": "a"}]}, ""),
        ("a formula whose bands fall", {"formulas": [{"bands": program["bands"][::-1], "formula": "a"}]}, bad),
        ("a formula twice", {"formulas": [{"bands": program["bands"], "formula": "a"}] * 2}, bad),
        ("a category excluded twice", {"excluded_categories": ["tax", "tax"]}, bad),
        ("a factor of 0", {"multipliers": [_multiplier(0, 1)]}, ""),
        ("a factor over 0", {"multipliers": [_multiplier(1, 0)]}, bad),
        ("a factor of 1,000,001", {"multipliers": [_multiplier(1_000_001, 1)]}, bad),
        ("a multiplier twice", {"multipliers": [_multiplier(2, 1), _multiplier(3, 1)]}, bad),
        ("multipliers as a sum", {"stacking": "sum"}, ""),
        ("the best multiplier, which is not written", {"stacking": "best"}, EITHER),
        ("a cap of a week", {"earning_cap": {"period": "week", "points": 1}}, bad),
        ("a limit of 0", {"referral": {"limit": {"count": 0, "period": "year"}, "points": 1}}, bad),
        ("a referral without a limit", {"referral": {"points": 1}}, ""),
        ("a plan twice", {"plans": program["plans"] * 2}, bad),
        ("a plan of no days", {"plans": [{"days": 0, "plan": "club", "price": 0}]}, bad),
        ("reminders of nothing", {"reminders": {}}, bad),
        ("reminded twice of a day", {"reminders": {"expiring_days": [7, 7]}}, bad),
        ("reminded of today", {"reminders": {"expiring_days": [0]}}, bad),
        ("no reminder of tiers, which is not written", {"reminders": {"balance": "year", "new_tier": False}}, EITHER),
        ("a birthday nobody grants", {"birthday": {"activity": "party", "points": 1}}, bad),
        ("a birthday of too much", {"birthday": {"activity": "birthday", "points": 26}}, bad),
        ("a birthday to prove", {"birthday": {"activity": "recycled", "points": 1}}, bad),
        ("no proof, which is not written", {"grants": [{**program["grants"][0], "evidence": False}]}, EITHER),
        ("the asset as its status asset", {"status_asset": "STAR"}, bad),
        ("no vesting, which is not written", {"vesting_days": 0}, bad),
        ("bought today", {"purchase_within_days": 0}, ""),
    ):
        yield name, {**program, **changes}, code
    alone = {name: part for name, part in program.items() if name != "multipliers"}
    yield "a sum of no multipliers", {**alone, "stacking": "sum"}, bad
    for after, most in (("months_end", 1_200), ("membership_year_end", 100)):
        yield f"{most} {after}", {**program, "expiry": {"after": after, "count": most}}, ""
        yield f"{most + 1} {after}", {**program, "expiry": {"after": after, "count": most + 1}}, bad
    for months, code in ((0, bad), (1, ""), (1_200, ""), (1_201, bad)):
        yield f"{months} months of inactivity", {**program, "expiry": {"after": "inactivity", "months": months}}, code
    yield "inactivity with a count", {**program, "expiry": {"after": "inactivity", "count": 1}}, bad


def _multiplier(numerator: int, denominator: int) -> Document:
    return {"multiplier": "a", "times": {"denominator": denominator, "numerator": numerator}}


def _tier_forms(program: Document) -> Forms:
    bad = "MALFORMED"
    tiers = program["tiers"]
    bronze, silver, gold = tiers["levels"]
    for name, changes, code in (
        ("tiers that do not rise", {"levels": [bronze, silver, {**gold, "from": silver["from"]}]}, bad),
        ("a tier twice", {"levels": [bronze, silver, gold, {**silver, "from": 500}]}, bad),
        ("no tier", {"levels": []}, bad),
        ("a window of 1, which is not written", {"window": 1}, EITHER),
        ("kept for 0 periods, which is not written", {"kept": 0}, EITHER),
        ("dropped to what was earned, which is not written", {"drop": "to_earned"}, EITHER),
        (
            "a tier that expires, which is not written",
            {"levels": [bronze, silver, {**gold, "never_expires": False}]},
            EITHER,
        ),
        ("120 periods", {"window": 116}, ""),
        ("121 periods", {"window": 117}, bad),
        ("367 days of grace", {"grace_days": 367}, bad),
        ("tiers of weeks", {"period": "week"}, bad),
        ("tiers by money", {"basis": "money"}, bad),
    ):
        yield name, {**program, "tiers": {**tiers, **changes}}, code
    asked = [{**program["multipliers"][0], "when": {"tiers": ["silver"]}}]
    yield "a tier that there is", {**program, "multipliers": asked}, ""
    yield "a tier that is none", {**program, "multipliers": asked, "tiers": {**tiers, "levels": [bronze, gold]}}, bad


def _when_forms(program: Document) -> Forms:
    bad = "MALFORMED"
    for name, when, code in (
        ("nothing", {}, bad),
        ("a weekday", {"weekdays": ["sun"]}, ""),
        ("a weekday twice", {"weekdays": ["sun", "sun"]}, bad),
        ("a weekday in full", {"weekdays": ["sunday"]}, bad),
        ("one day", {"from_day": "2026-12-24", "through_day": "2026-12-24"}, ""),
        ("days that end before they begin", {"from_day": "2026-12-24", "through_day": "2026-12-23"}, bad),
        ("a 29 February that is none", {"from_day": "2026-02-29"}, bad),
        ("an unknown plan", {"plans": ["prime"]}, bad),
        ("a tier and a plan", {"plans": ["club"], "tiers": ["gold"]}, ""),
        ("an amount of 0, which is not written", {"from_amount": 0}, EITHER),
        ("another purchase, which is not written", {"first_purchase": False}, EITHER),
        ("no categories, which are not written", {"categories": []}, EITHER),
        ("65 categories", {"categories": [f"c{i}" for i in range(65)]}, bad),
        ("64 categories", {"categories": [f"c{i}" for i in range(64)]}, ""),
        ("no days from joining", {"within_days": 0}, bad),
        ("a member as a merchant", {"merchants": [UNKNOWN_MEMBER]}, ""),
        ("something else", {"weather": ["sun"]}, bad),
    ):
        yield f"a bonus that asks for {name}", {**program, "bonuses": [{"bonus": "a", "points": 1, "when": when}]}, code


def _reward_forms(program: Document) -> Forms:
    bad = "MALFORMED"
    cup = {"price": 1, "reward": "cup"}
    for name, rewards, code in (
        ("a reward for nothing", [{**cup, "price": 0}], bad),
        ("a reward twice", [cup, {**cup, "price": 2}], bad),
        ("a reward that is out of stock", [{**cup, "stock": 0}], ""),
        ("a reward for today, worth nothing", [{**cup, "valid_days": 0, "worth": 0}], ""),
        ("an automatic reward", [{**cup, "automatic": True}], ""),
        ("a reward that one asks for, which is not written", [{**cup, "automatic": False}], EITHER),
        ("two automatic rewards", [{**cup, "automatic": True}, {**cup, "automatic": True, "reward": "mug"}], bad),
        ("a reward for a weekday", [{**cup, "when": {"weekdays": ["mon"]}}], ""),
        ("a reward for a tender", [{**cup, "when": {"tenders": ["card"]}}], bad),
        ("a reward for a first purchase", [{**cup, "when": {"first_purchase": True}}], bad),
    ):
        yield name, {**program, "rewards": rewards}, code


def _membership_forms(op: dict[str, Document]) -> Forms:
    bad = "MALFORMED"
    sale, refund, grant = op["record_purchases"], op["refund"], op["grant"]
    lines = [{"amount": 5, "category": "tax"}, {"amount": 0}]
    yield "lines", _in_purchase(sale, amount=5, lines=lines), ""
    yield "lines of another amount", _in_purchase(sale, amount=6, lines=lines), bad
    yield "no lines, which are not written", _in_purchase(sale, amount=0, lines=[]), EITHER
    yield "a category in capitals", _in_purchase(sale, amount=5, lines=[{"amount": 5, "category": "Tax"}]), bad
    miles = {"name": "miles", "quantity": 3}
    yield "a quantity twice", _in_purchase(sale, quantities=[miles, miles]), bad
    yield "a quantity of less than nothing", _in_purchase(sale, quantities=[{**miles, "quantity": -1}]), bad
    of = {"amount": 5, "lines": [{"amount": 5, "line": 99}], "order": "A-1", "type": "purchase"}
    yield "a refund of line 99", {**refund, "of": of}, ""
    yield "a refund of line 100", {**refund, "of": {**of, "lines": [{"amount": 5, "line": 100}]}}, bad
    yield "a refund of lines of another amount", {**refund, "of": {**of, "amount": 6}}, bad
    twice = [{"amount": 2, "line": 0}, {"amount": 3, "line": 0}]
    yield "a refund of a line twice", {**refund, "of": {**of, "lines": twice}}, bad
    yield "a refund of a redemption's line", {**refund, "of": {**of, "operation": "0" * 64, "type": "redemption"}}, bad
    bare = {name: field for name, field in grant.items() if name not in ("amount", "evidence", "score")}
    yield "a grant of nothing", bare, ""
    yield "a grant of 0, which is not written", {**bare, "amount": 0}, EITHER
    for score, code in ((-1, bad), (0, ""), (10, ""), (11, bad)):
        yield f"a score of {score}", {**bare, "score": score}, code
    yield "a proof in capitals", {**bare, "evidence": "A" * 64}, bad
    yield "a redemption of one's own, which is not written", {**op["redeem"], "from_pool": False}, EITHER
    yield "a redemption of a pool", {**op["redeem"], "from_pool": True}, ""
    enroll, pool = op["enroll"], op["form_pool"]
    yield "invited by oneself", {**enroll, "invited_by": enroll["actor"]}, bad
    yield "a pool with oneself", {**pool, "members": [pool["actor"]]}, bad
    yield "a pool of one", {**pool, "members": []}, bad
    ref = op["vest"]["purchases"][0]
    yield "a purchase that vests twice", {**op["vest"], "purchases": [ref, ref]}, bad
    many = ["mem_" + f"{i:026b}".replace("0", "a").replace("1", "b") for i in range(401)]
    for kind, counts in (("review_tiers", (0, 1)), ("remind", (0, 1, 400, 401))):
        for count in counts:
            code = "" if 1 <= count <= 400 else bad
            yield f"{kind} of {count} members", {**op[kind], "members": many[:count]}, code
        yield f"{kind} of a member twice", {**op[kind], "members": many[:1] * 2}, bad
    yield "reminded of a birthday", {**op["remind"], "about": "birthday"}, bad
    yield "a plan ended for no reason", {**op["end_plan"], "reason": "why"}, bad
    yield "the 100,001st voucher", {**op["use_voucher"], "voucher": {"index": 100_000, "seq": 1}}, ""
    yield "the 100,002nd voucher", {**op["use_voucher"], "voucher": {"index": 100_001, "seq": 1}}, bad


def _document(op: Document, signers: str) -> bytes:
    return reference.encode({"op": op, "sigs": signatures(reference.encode(op), signers)})


def _samples(*stories: Story) -> dict[str, tuple[Document, str]]:
    """Of every kind the first operation there is, and who signed it."""
    found: dict[str, tuple[Document, str]] = {}
    names = {key_text(name): name for name in [*_all_names(), "bakery", "kiosk", "till", "boss"]}
    for story in stories:
        for data in story.data:
            entry = json.loads(data)
            signers = " ".join(names[item["key"]] for item in entry["sigs"])
            if entry["op"]["kind"] not in found:
                found[entry["op"]["kind"]] = (entry["op"], signers)
    return found


def _all_names() -> list[str]:
    people = "operator operator2 shop shop2 shop3 cafe ada ada2 ada3 ada4 bob bob2 school eve dora dora2 dora3 dora4"
    return f"{people} thief finn finn2 gus hal c1 c2 c3 c4".split()


def _malformed(op: Document) -> Iterator[tuple[str, Document, str]]:
    """Each field left out, null and of another type; a field too many."""
    required = {*reference.COMMON, *reference.KINDS[op["kind"]][0]} - {"kind"}
    for field in sorted(required):
        yield f"without {field}", {name: value for name, value in op.items() if name != field}, "MALFORMED"
    for field in sorted({*op, "expires"} - {"kind"}):
        another = 0 if isinstance(op.get(field, ""), str) else "0"
        yield f"with {field} of another type", {**op, field: another}, "MALFORMED"
        yield f"with {field} null", {**op, field: None}, "MALFORMED" if field in required else EITHER
    yield "with a field too many", {**op, "note": "hello"}, "MALFORMED"


def _further_forms(samples: dict[str, tuple[Document, str]]) -> Iterator[tuple[str, Document, str]]:
    bad = "MALFORMED"
    op = {kind: sample for kind, (sample, _) in samples.items()}
    opened, genesis, sale = op["open_account"], op["genesis"], op["record_purchases"]
    yield "an unknown kind", {**op["grant"], "kind": "gift"}, bad
    yield "version 2", {**op["grant"], "guerdon": 2}, bad
    yield "a 29 February that is none", {**op["grant"], "at": "2026-02-29T00:00:00.000Z"}, bad
    yield "an hour 24", {**op["grant"], "at": "2026-02-28T24:00:00.000Z"}, bad
    yield "a time without milliseconds", {**op["grant"], "at": "2026-02-28T00:00:00Z"}, bad
    yield "a date of the year 3000", {**op["expire"], "through": "3000-01-01"}, bad
    yield "a nonce with unused bits", {**op["grant"], "nonce": "A" * 21 + "B"}, bad
    yield "an origin with a scheme", {**op["grant"], "ledger": "https://vectors.example"}, bad
    yield "an origin of 129 characters", {**op["grant"], "ledger": "a" * 129}, bad
    yield "a system account", {**op["grant"], "member": "sys_issued"}, bad
    yield "an amount of 0", {**op["redeem"], "amount": 0}, bad
    yield "an amount of true", {**op["grant"], "amount": True}, bad
    yield "a reference of 65 characters", {**op["grant"], "reference": "r" * 65}, bad
    yield "an empty reference", {**op["redeem"], "reference": ""}, bad
    yield "no recipient", {**op["transfer"], "recipients": []}, bad
    twice = op["transfer"]["recipients"][:1] * 2
    yield "a recipient twice", {**op["transfer"], "recipients": twice}, bad
    yield "a transfer to oneself", {**op["transfer"], "recipients": [{"amount": 1, "to": op["transfer"]["actor"]}]}, bad
    most = [{"amount": 2**53 - 1, "to": opened["actor"]}, {"amount": 1, "to": sale["actor"].replace("mer_", "ben_")}]
    yield "a sum beyond 2^53-1", {**op["transfer"], "recipients": most}, bad
    yield "an order twice", {**sale, "purchases": sale["purchases"][:1] * 2}, bad
    yield "no purchase", {**sale, "purchases": []}, bad
    yield "a purchase of less than nothing", _in_purchase(sale, amount=-1), bad
    yield "a purchase with a field too many", _in_purchase(sale, note="x"), bad
    yield "a limit of 401", {**op["expire"], "limit": 401}, bad
    yield "points of scale 7", {**op["define_asset"], "scale": 7}, bad
    yield "a code in small letters", {**op["define_asset"], "asset": "star"}, bad
    yield "a name with a space at the end", {**op["define_asset"], "name": "Stars "}, bad
    yield "a name of 65 characters", {**op["define_asset"], "name": "é" * 65}, bad
    yield "a name of 64 characters", {**op["define_asset"], "name": "😀" * 64}, ""
    yield "a member with a name", {**opened, "role": "member"}, bad
    yield "a merchant without a name", {name: opened[name] for name in opened if name != "name"}, bad
    yield "a merchant without keys", {name: opened[name] for name in opened if name != "keys"}, bad
    yield "an operator is not opened", {**opened, "role": "operator"}, bad
    yield "currencies twice", {**genesis, "currencies": genesis["currencies"][:1] * 2}, bad
    yield "seven days are not written", {**genesis, "recovery_delay_ms": 604_800_000}, EITHER
    for delay, code in ((59_999, bad), (60_000, ""), (604_800_001, ""), (7_776_000_000, ""), (7_776_000_001, bad)):
        yield f"a recovery delay of {delay}", {**genesis, "recovery_delay_ms": delay}, code
    yield "a log key of 257 characters", {**op["replace_log_key"], "log_key": "k" * 257}, bad
    yield "a log key that is none is for the rules", {**op["replace_log_key"], "log_key": "k" * 256}, ""
    yield from _program_forms(op["publish_program"])
    for kind in ("genesis", "open_account", "replace_keys", "recover_keys"):
        for name, fields, code in _key_forms():
            yield f"{kind} with {name}", {**op[kind], **fields}, code


def _in_purchase(sale: Document, **changes: Any) -> Document:
    return {**sale, "purchases": [{**sale["purchases"][0], **changes}]}


def _program_forms(op: Document) -> Iterator[tuple[str, Document, str]]:
    def program(**changes: Any) -> Document:
        return {**op, "program": {**op["program"], **changes}}

    bad = "MALFORMED"
    yield "ends when it starts", {**op, "ends": op["starts"]}, bad
    yield "version 0", {**op, "version": 0}, bad
    yield "no bands", program(bands=[]), bad
    yield "bands that do not rise", program(bands=op["program"]["bands"][:1] * 2), bad
    yield "points per nothing", program(bands=[{"from": 0, "per": 0, "points": 1}]), bad
    yield "a band that gives nothing", program(bands=[{"from": 0, "per": 1, "points": 0}]), ""
    yield "no grants are not written", program(grants=[]), EITHER
    yield "a grant twice", program(grants=op["program"]["grants"] * 2), bad
    yield "an unknown zone", program(time_zone="Europe/Nowhere"), bad
    yield "a zone in small letters", program(time_zone="europe/berlin"), bad
    yield "an unknown rounding", program(round_points="half_down"), bad
    yield "never, with a count", program(expiry={"after": "never", "count": 1}), bad
    yield "days without a count", program(expiry={"after": "days"}), bad
    for after, most in (("days", 36_500), ("months", 1_200), ("year_end", 100)):
        yield f"{most} {after}", program(expiry={"after": after, "count": most}), ""
        yield f"{most + 1} {after}", program(expiry={"after": after, "count": most + 1}), bad


def _partner_forms(op: dict[str, Document]) -> Iterator[tuple[str, Document, str]]:
    bad = "MALFORMED"
    opened = {**op["open_account"], "keys": key_texts("shop till boss")}
    for threshold, approval, code in ((None, 2, ""), (None, 3, ""), (2, 3, ""), (2, 2, bad), (None, 4, bad)):
        fields = {"threshold": threshold, "approval_threshold": approval}
        changed = {**opened, **{name: value for name, value in fields.items() if value is not None}}
        changed = {name: value for name, value in changed.items() if fields.get(name, "") is not None}
        yield f"approved by {approval} of 3, threshold {threshold}", changed, code
    yield "approved by 1 of 3", {**opened, "approval_threshold": 1}, bad
    replaced = {"kind": "replace_keys", "keys": key_texts("c1 c2"), "approval_threshold": 2}
    kept = {name: op["transfer"][name] for name in ("actor", "at", "guerdon", "ledger", "nonce")}
    yield "keys of which two approve", {**kept, **replaced}, ""
    yield "keys of which three of two approve", {**kept, **replaced, "approval_threshold": 3}, bad
    recovered = {**kept, **replaced, "kind": "recover_keys", "account": UNKNOWN_MEMBER}
    yield "recovered keys of which two approve", recovered, ""
    yield "a transfer with a fee", {**op["transfer"], "maximum_fee": 1}, ""
    yield "a fee of nothing, which is not written", {**op["transfer"], "maximum_fee": 0}, EITHER
    yield from _definition_forms(op["define_asset"], op["publish_program"])
    yield from _movement_forms(op)
    yield from _terms_forms(op["agree"])
    yield from _clearing_forms(op)


def _definition_forms(asset: Document, program: Document) -> Iterator[tuple[str, Document, str]]:
    bad = "MALFORMED"
    asset = {**asset, "transferable": True}
    fee = {"amount": 0, "currency": "EUR", "points": 1, "round": "down"}
    for name, terms, code in (
        ("a fee of 0", {"fee": fee}, ""),
        ("a fee of 0 and 1", {"fee": {**fee, "fixed": 1, "maximum": 1}}, ""),
        ("a fixed fee of 0", {"fee": {**fee, "fixed": 0}}, EITHER),
        ("a fee of at most 0", {"fee": {**fee, "maximum": 0}}, bad),
        ("a fee for 0 points", {"fee": {**fee, "points": 0}}, bad),
        ("a fee that someone keeps", {"fee": {**fee, "kept_by": UNKNOWN_MEMBER}}, bad),
        ("nothing", {}, bad),
        ("a minimum of 2", {"minimum": 2}, ""),
        ("a minimum of 1", {"minimum": 1}, EITHER),
        ("a step of 1", {"step": 1}, EITHER),
        ("a step of 0", {"step": 0}, bad),
        ("a maximum at the minimum", {"minimum": 2, "maximum": 2}, ""),
        ("a maximum below the minimum", {"minimum": 3, "maximum": 2}, bad),
        ("a cap for ever", {"in_cap": {"period": "ever", "points": 1}}, ""),
        ("a cap of a week", {"out_cap": {"period": "week", "points": 1}}, bad),
        ("a cap of 0", {"out_cap": {"period": "day", "points": 0}}, bad),
    ):
        yield f"transfer terms of {name}", {**asset, "transfer_terms": terms}, code
    fixed = {**asset, "transferable": False, "transfer_terms": {"minimum": 2}}
    yield "transfer terms of what is not transferable", fixed, bad
    for field, value, code in (
        ("approval_above", 0, ""),
        ("approval_above", -1, bad),
        ("refunds", "negative", ""),
        ("refunds", "owe", ""),
        ("refunds", "cap", EITHER),
        ("refunds", "forgive", bad),
        ("returned_lot_days", 1, ""),
        ("returned_lot_days", 365, ""),
        ("returned_lot_days", 366, bad),
        ("returned_lot_days", 0, EITHER),
    ):
        yield f"a program of {field} {value}", {**program, "program": {**program["program"], field: value}}, code


def _movement_forms(op: dict[str, Document]) -> Iterator[tuple[str, Document, str]]:
    bad = "MALFORMED"
    for amount, code in ((-1, ""), (1 - 2**53, ""), (0, bad)):
        yield f"a correction by {amount}", {**op["correct"], "amount": amount}, code
    yield "a correction for fun", {**op["correct"], "reason": "fun"}, bad
    yield "an exchange into itself", {**op["exchange"], "into": op["exchange"]["asset"]}, bad
    yield "an exchange for nothing", {**op["exchange"], "minimum_out": 0}, bad
    yield "an exchange without a fee", {**op["exchange"], "maximum_fee": 0}, EITHER
    yield "a hold until a day that is none", {**op["hold"], "until": "2026-02-30T00:00:00.000Z"}, bad
    yield "a final capture", {**op["capture"], "final": True}, ""
    yield "a capture that is not final", {**op["capture"], "final": False}, EITHER
    yield "a capture of a hold in capitals", {**op["capture"], "hold": op["capture"]["hold"].upper()}, bad
    yield "a capture of a member", {**op["capture"], "hold": UNKNOWN_MEMBER}, bad
    refund, spending = op["refund"], {"amount": 1, "operation": "0" * 64}
    for of in ("redemption", "exchange"):
        yield f"a refund of a {of}", {**refund, "of": {"type": of, **spending}}, ""
        yield f"a refund of a {of} of nothing", {**refund, "of": {"type": of, **spending, "amount": 0}}, bad
        yield f"a refund of a {of} by its order", {**refund, "of": {**refund["of"], "type": of}}, bad
        yield f"a refund of a {of} in capitals", {**refund, "of": {"type": of, **spending, "operation": "F" * 64}}, bad
    yield "a refund of a gift", {**refund, "of": {"type": "gift", **spending}}, bad
    yield "a refund of nothing", {**refund, "of": {**refund["of"], "amount": 0}}, bad
    yield "an allotment to oneself", {**op["allot"], "partner": op["allot"]["actor"]}, bad
    yield "frozen for fun", {**op["freeze"], "reason": "fun"}, bad
    yield "unfrozen for a dispute", {**op["unfreeze"], "reason": "dispute"}, bad


def _terms_forms(op: Document) -> Iterator[tuple[str, Document, str]]:
    bad, exchange = "MALFORMED", op["terms"]
    acceptance = {name: exchange[name] for name in ("asset", "claim", "holder_cap", "maximum", "received", "total_cap")}
    acceptance |= {"type": "acceptance"}
    earning = {"type": "earning", "asset": "STAR", "billing": "prepaid"}
    claim, fee = exchange["claim"], exchange["fee"]
    paid = {**claim, "debtor": op["partner"]}
    plain = {name: exchange[name] for name in ("type", "asset", "into", "rate", "received")}
    for name, terms, code in (
        ("a plain exchange", plain, ""),
        ("an exchange of itself", {**plain, "into": plain["asset"]}, bad),
        ("an exchange at 0", {**plain, "rate": {"get": 0, "give": 1}}, bad),
        ("points that are lost", {**plain, "received": "lost"}, bad),
        ("a bonus of 0", {**plain, "bonus": {"block": 1, "points": 0}}, bad),
        ("a step, rounded down to", {**plain, "step": 2, "off_step": "down"}, ""),
        ("a step, rounded up to", {**plain, "step": 2, "off_step": "up"}, bad),
        ("no step to round down to", {**plain, "off_step": "down"}, bad),
        ("refusing off the step, which is not written", {**plain, "step": 2, "off_step": "refuse"}, EITHER),
        ("a minimum of 1", {**plain, "minimum": 1}, EITHER),
        ("a maximum below the minimum", {**plain, "minimum": 3, "maximum": 2}, bad),
        ("a claim on a stranger", {**plain, "claim": {**claim, "debtor": UNKNOWN_MEMBER}}, bad),
        ("a claim of 0", {**plain, "claim": {**claim, "amount": 0}}, bad),
        ("a claim with a maximum", {**plain, "claim": {**claim, "maximum": 1}}, bad),
        ("a fee for a stranger", {**plain, "fee": {**fee, "kept_by": UNKNOWN_MEMBER}}, bad),
        ("a fee for nobody", {**plain, "fee": {name: fee[name] for name in fee if name != "kept_by"}}, bad),
        ("a fee rounded to the nearest", {**plain, "fee": {**fee, "round": "nearest"}}, bad),
        ("an acceptance", acceptance, ""),
        ("an acceptance with a fee", {**acceptance, "fee": fee}, bad),
        ("an acceptance at a rate", {**acceptance, "rate": exchange["rate"]}, bad),
        ("an acceptance, rounded down", {**acceptance, "step": 2, "off_step": "down"}, bad),
        ("points bought ahead", earning, ""),
        ("points bought ahead, with an alert", {**earning, "alert_below": 1}, ""),
        ("points kept that the issuer pays for", {**plain, "received": "kept", "claim": claim}, bad),
        ("points kept that the partner pays for", {**plain, "received": "kept", "claim": paid}, ""),
        ("points kept at a till that the issuer pays for", {**acceptance, "received": "kept", "claim": claim}, bad),
        ("points kept at a till that the partner pays for", {**acceptance, "received": "kept", "claim": paid}, ""),
        ("points paid later", {**earning, "billing": "postpaid", "claim": paid}, ""),
        ("points paid later by their issuer", {**earning, "billing": "postpaid", "claim": claim}, bad),
        ("points bought ahead by their issuer", {**earning, "claim": claim}, ""),
        ("points paid never", {**earning, "billing": "postpaid"}, bad),
        ("an alert of what is paid later", {**earning, "billing": "postpaid", "claim": paid, "alert_below": 1}, bad),
        ("points kept of what is earned", {**earning, "received": "kept"}, bad),
        ("terms of no type", {name: plain[name] for name in plain if name != "type"}, bad),
        ("terms of another type", {**plain, "type": "gift"}, bad),
    ):
        yield f"agreed: {name}", {**op, "terms": terms}, code
    yield "agreed with oneself", {**op, "partner": op["actor"], "terms": plain}, bad
    yield "agreed until it starts", {**op, "ends": op["starts"]}, bad
    yield "agreed with a notice of 10 years", {**op, "notice_days": 3_650}, ""
    yield "agreed with a longer notice", {**op, "notice_days": 3_651}, bad


def _clearing_forms(op: dict[str, Document]) -> Iterator[tuple[str, Document, str]]:
    bad, end = "MALFORMED", op["end_agreement"]
    account = "mer_" + "a" * 26
    for name, code in (
        ("STAR>MUG", ""),
        (f"STAR@{account}", ""),
        (f"STAR@ben_{'a' * 26}", ""),
        (f"STAR+{account}", ""),
        (f"STAR+ben_{'a' * 26}", bad),
        (f"STAR@{UNKNOWN_MEMBER}", bad),
        (f"STAR>{account}", bad),
        ("STAR", bad),
        ("star>MUG", bad),
    ):
        yield f"the end of {name}", {**end, "agreement": name}, code
    net = op["net"]
    others = [account[:-1] + letter for letter in "abc"]
    payment = {"amount": 1, "creditor": others[0], "debtor": others[1]}
    merchants = {**net, "merchants": others}
    yield "no payment", {**merchants, "payments": []}, ""
    yield "one payment", {**merchants, "payments": [payment]}, ""
    yield (
        "there and back",
        {**merchants, "payments": [payment, {**payment, "creditor": others[1], "debtor": others[0]}]},
        "",
    )
    yield "a payment twice", {**merchants, "payments": [payment, {**payment, "amount": 2}]}, bad
    yield "a payment of nothing", {**merchants, "payments": [{**payment, "amount": 0}]}, bad
    yield "a payment to oneself", {**merchants, "payments": [{**payment, "creditor": others[1]}]}, bad
    yield "a payment to a stranger", {**merchants, "payments": [{**payment, "creditor": UNKNOWN_MEMBER}]}, bad
    yield "a merchant twice", {**merchants, "merchants": others[:1] * 2, "payments": []}, bad
    yield "a merchant alone", {**merchants, "merchants": others[:1], "payments": []}, bad
    yield "a settlement with oneself", {**op["settle"], "debtor": op["settle"]["actor"]}, bad
    yield "a settlement of nothing", {**op["settle"], "amount": 0}, bad
    for index, code in ((0, ""), (100, ""), (101, bad), (-1, bad)):
        yield f"a dispute about claim {index}", {**op["dispute"], "claim": {"index": index, "seq": 1}}, code
    yield "a dispute out of boredom", {**op["dispute"], "reason": "boredom"}, bad
    yield "a dispute that ends otherwise", {**op["resolve_dispute"], "outcome": "split"}, bad


def _key_forms() -> Iterator[tuple[str, Document, str]]:
    bad = "MALFORMED"
    names = _all_names()
    yield "no keys", {"keys": []}, EITHER
    yield "eight keys", {"keys": key_texts(" ".join(names[:8])), "threshold": 8}, ""
    yield "nine keys", {"keys": key_texts(" ".join(names[:9]))}, bad
    yield "a key twice", {"keys": key_texts("ada ada")}, bad
    yield "a threshold of 1, which is not written", {"keys": key_texts("ada bob"), "threshold": 1}, EITHER
    yield "a threshold of 0", {"keys": key_texts("ada bob"), "threshold": 0}, bad
    yield "a threshold of 3 of 2", {"keys": key_texts("ada bob"), "threshold": 3}, bad
    yield "a key of small order", {"keys": [base64url(bytes(32))]}, bad
    yield "a key of small order with its sign", {"keys": [base64url(bytes(31) + b"\x80")]}, bad
    yield "a key that is not reduced", {"keys": [base64url((2**255 - 18).to_bytes(32, "little"))]}, bad
    yield "a key of no point", {"keys": [base64url((2).to_bytes(32, "little"))]}, ""
    yield "a key with unused bits", {"keys": [_unused_bits(key_text("ada"))]}, bad
    yield "a padded key", {"keys": [key_text("ada") + "="]}, bad


def _unused_bits(text: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]


ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group that Ed25519 signs in (RFC 8032 section 5.1)."""


def _envelopes(op: Document) -> Iterator[tuple[str, bytes, str]]:
    """What is around an operation, and its signatures."""
    op_bytes = reference.encode(op)
    (good,) = signatures(op_bytes, "ada")
    raw = base64.urlsafe_b64decode(good["sig"] + "==")
    beyond = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    unprefixed = base64url(key("ada").sign(op_bytes))
    as_session = base64url(key("ada").sign(b"guerdon session v1\n" + op_bytes))
    cases: list[tuple[str, Any, str]] = [
        ("no signatures", [], ""),
        ("two signatures", [good, *signatures(op_bytes, "bob")], ""),
        ("two signatures in the other order", [*signatures(op_bytes, "bob"), good], ""),
        ("sixteen signatures", signatures(op_bytes, " ".join(_all_names()[:16])), ""),
        ("seventeen signatures", signatures(op_bytes, " ".join(_all_names()[:17])), "MALFORMED"),
        ("the same key twice", [good, good], "MALFORMED"),
        ("a signature with a field too many", [{**good, "alg": "Ed25519"}], "MALFORMED"),
        ("a signature without a key", [{"sig": good["sig"]}], "MALFORMED"),
        ("signatures null", None, "MALFORMED"),
        ("a flipped bit", [{**good, "sig": base64url(_flip(raw))}], "SIGNATURE_INVALID"),
        ("a flipped bit in R", [{**good, "sig": base64url(_flip(raw[:32]) + raw[32:])}], "SIGNATURE_INVALID"),
        ("another's key", [{**good, "key": key_text("bob")}], "SIGNATURE_INVALID"),
        ("S not below the group order", [{**good, "sig": base64url(beyond)}], "SIGNATURE_INVALID"),
        ("signed without the context", [{**good, "sig": unprefixed}], "SIGNATURE_INVALID"),
        ("signed as a session", [{**good, "sig": as_session}], "SIGNATURE_INVALID"),
        ("one of two is not valid", [good, {**good, "key": key_text("bob")}], "SIGNATURE_INVALID"),
        ("by a key of small order", [{"key": base64url(bytes(32)), "sig": base64url(bytes(64))}], "SIGNATURE_INVALID"),
        ("by a key of no point", [{**good, "key": base64url((2).to_bytes(32, "little"))}], "SIGNATURE_INVALID"),
        ("a short signature", [{**good, "sig": good["sig"][:-1]}], "MALFORMED"),
    ]
    for name, sigs, code in cases:
        yield name, reference.encode({"op": op, "sigs": sigs}), code
    document = {"op": op, "sigs": [good]}
    whole = reference.encode(document)
    yield "a field beside", reference.encode({**document, "time": op["at"]}), "MALFORMED"
    yield "only the operation", op_bytes, "MALFORMED"
    yield "an operation in text", reference.encode({**document, "op": op_bytes.decode()}), "MALFORMED"
    yield "nothing", b"", "MALFORMED"
    yield "cut off", whole[:-1], "MALFORMED"
    yield "a newline at the end", whole + b"\n", "NOT_CANONICAL"
    yield "a space in the operation", whole.replace(b'"guerdon":1', b'"guerdon": 1'), "NOT_CANONICAL"
    yield "sigs before op", b'{"sigs":%b,"op":%b}' % (reference.encode([good]), op_bytes), "NOT_CANONICAL"
    yield "an escape that need not be", whole.replace(b"STAR", b"\\u0053TAR"), "NOT_CANONICAL"


# Receipts


def receipt_file(data: bytes, index: int, proof: Sequence[bytes], note: str) -> str:
    """The file of a receipt (C2SP tlog-proof)."""
    hashes = [base64.b64encode(value).decode() for value in proof]
    extra = base64.b64encode(data).decode()
    return "\n".join(["c2sp.org/tlog-proof@v1", f"extra {extra}", f"index {index}", *hashes]) + f"\n\n{note}"


def receipt_vectors() -> dict[str, Any]:
    cases = []
    for name, file, known, valid in _receipt_cases():
        code = refusal(lambda file=file, known=known: reference.verify_receipt(file, known))  # type: ignore[misc]
        assert (code == "") is valid, (name, code)
        case: Case = {"name": name, "file": file, "log_keys": known, "valid": valid}
        if valid:
            lines = file.split("\n")
            size = int(file.partition("\n\n")[2].split("\n")[1])
            case |= {"index": int(lines[2].removeprefix("index ")), "size": size, "entry": lines[1][6:]}
        cases.append(case)
    return {
        "about": "Receipts of the ledger of guerdon_keys.json; entry is its bytes in base64, as in the file.",
        "receipts": cases,
    }


def _receipt_cases() -> Iterator[tuple[str, str, list[str], bool]]:
    """Name, file, keys known, whether it is to be accepted."""
    story = keys_story()
    leaves = [naive.hash_leaf(data) for data in story.data]
    old, new, last = (log_key(name, story.origin) for name in ("log", "next log", "last log"))

    def note(size: int, *signers: str) -> str:
        text = naive.checkpoint_text(story.origin, size, naive.naive_root(leaves[:size]))
        return f"{text}\n" + "".join(naive.log_line(text, story.origin, key(name)) for name in signers)

    def receipt(seq: int, size: int, *signers: str) -> str:
        return receipt_file(story.data[seq], seq, naive.naive_inclusion(seq, leaves[:size]), note(size, *signers))

    size = len(leaves)
    changed = story.replica.log_keys[1][0] + 1
    good = receipt(2, 6, "log")
    proof = naive.naive_inclusion(2, leaves[:6])
    yield "an entry", good, [old], True
    yield "the only entry", receipt(0, 1, "log"), [old], True
    yield "the first of all", receipt(0, size, "last log", "next log"), [last], True
    yield "the last of all", receipt(size - 1, size, "last log", "next log"), [new], True
    yield (
        "the new log key, shown to who knows the old one",
        receipt(changed - 1, changed, "next log", "log"),
        [old],
        True,
    )
    yield "an old key's line on a larger tree", receipt(2, size, "log"), [old], True
    yield "both keys known", receipt(2, changed, "next log", "log"), [new, old], True
    yield "a key that is not known", receipt(2, size, "last log"), [old], False
    yield "another log's key", good, [OLD], False
    yield "no key known", good, [], False
    yield "a key under another name", good, [log_key("log", "renamed.example")], False
    yield "another entry's bytes", receipt_file(story.data[3], 2, proof, note(6, "log")), [old], False
    yield "another index", good.replace("index 2", "index 3"), [old], False
    yield "an index beyond the tree", good.replace("index 2", "index 6"), [old], False
    yield "an index with a leading zero", good.replace("index 2", "index 02"), [old], False
    yield "a negative index", good.replace("index 2", "index -2"), [old], False
    yield "an index of 2^53", good.replace("index 2", f"index {2**53}"), [old], False
    yield "a proof without its last hash", receipt_file(story.data[2], 2, proof[:-1], note(6, "log")), [old], False
    yield "a surplus hash", receipt_file(story.data[2], 2, [*proof, bytes(32)], note(6, "log")), [old], False
    yield (
        "a flipped bit in the proof",
        receipt_file(story.data[2], 2, [_flip(proof[0]), *proof[1:]], note(6, "log")),
        [old],
        False,
    )
    yield (
        "a hash of 31 bytes",
        receipt_file(story.data[2], 2, [proof[0][:31], *proof[1:]], note(6, "log")),
        [old],
        False,
    )
    yield "64 hashes", receipt_file(story.data[2], 2, [bytes(32)] * 64, note(6, "log")), [old], False
    yield "another tree's checkpoint", receipt_file(story.data[2], 2, proof, note(7, "log")), [old], False
    yield "another version", good.replace("@v1", "@v2"), [old], False
    yield "without extra", good.replace(good.split("\n")[1] + "\n", "", 1), [old], False
    yield "extra twice", good.replace(good.split("\n")[1], "\n".join([good.split("\n")[1]] * 2), 1), [old], False
    yield "extra behind index", _exchanged(good, 1, 2), [old], False
    yield "two spaces", good.replace("index 2", "index  2"), [old], False
    yield "carriage returns", good.replace("\n", "\r\n"), [old], False
    yield "no empty line", good.replace("\n\n", "\n", 1), [old], False
    yield "an empty line before", "\n" + good, [old], False
    yield "a newline too many", good + "\n", [old], False
    yield "cut off", good[:-1], [old], False
    yield "bytes that are no entry", _receipt_of(b"hello"), [OLD], False
    yield "an entry with a space", _receipt_of(story.data[0].replace(b'"seq":0', b'"seq": 0')), [OLD], False
    yield "an entry with another number", _receipt_of(points_story().data[1]), [OLD], False
    yield "an entry of another ledger", _receipt_of(story.data[0]), [OLD], False
    yield "an empty file", "", [old], False


def _exchanged(text: str, i: int, j: int) -> str:
    lines = text.split("\n")
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def _receipt_of(data: bytes) -> str:
    """A receipt that proves bytes to be entry 0 of a tree of one that the log signed."""
    text = naive.checkpoint_text(ORIGIN, 1, naive.hash_leaf(data))
    return receipt_file(data, 0, [], _signed(text))


# Files

FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "guerdon_canonical.json": canonical_vectors,
    "guerdon_checkpoints.json": checkpoint_vectors,
    "guerdon_cosignatures.json": cosignature_vectors,
    "guerdon_keys.json": lambda: keys_story().vectors("A ledger in which keys change in every way, and with time."),
    "guerdon_merkle.json": merkle_vectors,
    "guerdon_operations.json": operation_vectors,
    "guerdon_partner_operations.json": partner_operation_vectors,
    "guerdon_partners.json": lambda: partners_story().vectors(
        "A ledger in which merchants agree, points cross from one to another, and money is owed.", every_posting=False
    ),
    "guerdon_points.json": lambda: points_story().vectors("A ledger in which points move in every way."),
    "guerdon_program_operations.json": program_operation_vectors,
    "guerdon_programs.json": lambda: programs_story().vectors(
        "A ledger of programs in which more than the amount counts, and of what members have by them.",
        every_posting=False,
    ),
    "guerdon_receipts.json": receipt_vectors,
    "guerdon_tiles.json": tile_vectors,
}


def file_text(name: str) -> str:
    """What a file of vectors has to hold: a case on a line, so that changes can be read."""
    sections = []
    for section, value in copy.deepcopy(FILES[name]()).items():
        if isinstance(value, list):
            items = ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in value)
            sections.append(f" {json.dumps(section)}: [\n{items}\n ]")
        else:
            sections.append(f" {json.dumps(section)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(sections) + "\n}\n"


def stale_files() -> list[str]:
    """Files that are not what they have to be, are missing, or are left over."""
    written = {path.name for path in FOLDER.glob("guerdon_*.json")}
    stale = [n for n in FILES if n not in written or (FOLDER / n).read_text("utf-8") != file_text(n)]
    return sorted({*stale, *(written - set(FILES))})


def _main() -> int:
    stale = stale_files()
    if "--write" in sys.argv[1:]:
        for name in stale:
            if name in FILES:
                (FOLDER / name).write_text(file_text(name), "utf-8")
            else:
                (FOLDER / name).unlink()
        return 0
    print("\n".join(stale) or "all vectors are up to date")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(_main())
