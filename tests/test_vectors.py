"""The implementation against every case of tests/vectors/guerdon_*.json, and that none of them is left unread.

The files are made by `python -m tests.make_vectors --write` without the implementation. Here it reads each case; a
field of a case that no check looked at fails the check, and so does a section or a file that no check is for.
"""

import base64
import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
import pytest

from ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    WitnessPolicy,
    decode_note,
    decode_verifier_key,
    decode_witness_key,
    encode_checkpoint,
    verify_checkpoint,
    verify_witnessed,
)
from ledger.encoding import EncodingError, LeafHash, decode_canonical, encode_canonical
from ledger.entries import (
    MAX_ENTRY_BYTES,
    Posting,
    decode_entry,
    encode_entry,
    signed_operation_of,
)
from ledger.keys import verify
from ledger.merkle import (
    CompactRange,
    Node,
    ProofError,
    hash_leaf,
    prove_consistency,
    prove_inclusion,
    subtree_root,
    verify_consistency,
    verify_inclusion,
)
from ledger.operations import MalformedError, SignedOperation, decode_signed_operation, signed_message
from ledger.receipt import ReceiptError, verify_receipt
from ledger.replay import BrokenEntryError, FullReplay, LightReplay
from ledger.rules import account_at, admit, authority_of, log_key_for
from ledger.state import Admission
from ledger.tiles import TileError, decode_bundle, encode_bundle, parse_path, tiles_of
from tests.make_vectors import FOLDER, stale_files


class Case(Mapping[str, Any]):
    """A case that knows which of its fields were read."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._unread = set(fields) - {"name"}

    def __getitem__(self, field: str) -> Any:
        self._unread.discard(field)
        return self._fields[field]

    def __contains__(self, field: object) -> bool:
        return field in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def check_all_read(self) -> None:
        assert self._unread == set(), f"no check looked at {sorted(self._unread)} of {self['name']}"


@cache
def read(file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / file).read_text("utf-8"))
    return content


def accepts(check: Callable[[], Any], *errors: type[Exception]) -> bool:
    """Whether a check passes; it may only fail with an error that is meant for this."""
    try:
        check()
    except errors:
        return False
    return True


# What each section's cases are held to


def check_root(size: int, root: str) -> None:
    """The compact range and the recursion over subtrees."""
    leaves = [hash_leaf(f"guerdon vector entry {i}".encode()) for i in range(size)]
    tree = CompactRange()
    for leaf in leaves:
        tree.append(leaf)
    assert tree.root().hex() == root


def _nodes(size: int) -> Callable[[Any], list[bytes]]:
    leaves = [hash_leaf(f"guerdon vector entry {i}".encode()) for i in range(size)]

    def read_nodes(nodes: list[Node]) -> list[bytes]:
        return [subtree_root(leaves[index << height : (index + 1) << height]) for height, index in nodes]

    return read_nodes


def check_inclusion(case: Case) -> None:
    """An honest proof is also what the implementation makes."""
    leaf, root = bytes.fromhex(case["leaf"]), bytes.fromhex(case["root"])
    index, size, proof = case["index"], case["size"], [bytes.fromhex(value) for value in case["proof"]]
    assert accepts(lambda: verify_inclusion(leaf, index, size, proof, root), ProofError) is case["valid"]
    if case["name"].endswith(": honest"):
        assert prove_inclusion(index, size, _nodes(size)) == proof


def check_consistency(case: Case) -> None:
    """An honest proof is also what the implementation makes."""
    old_root, new_root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
    old, new, proof = case["old_size"], case["new_size"], [bytes.fromhex(value) for value in case["proof"]]
    holds = accepts(lambda: verify_consistency(old, new, proof, old_root=old_root, new_root=new_root), ProofError)
    assert holds is case["valid"]
    if case["name"].endswith(": honest"):
        assert prove_consistency(old, new, _nodes(new)) == proof


def check_tile_name(case: Case) -> None:
    """A name has one spelling."""
    name = case["name"]
    assert accepts(lambda: parse_path(name), TileError) is case["valid"]
    if case["valid"]:
        tile, entries = parse_path(name)
        assert tile.path(entries=entries) == name


def check_tree(case: Case) -> None:
    """Every tile there is, by its bytes, level by level; and the bundles that are listed."""
    size = case["size"]
    data = [f"guerdon vector entry {i}".encode() for i in range(size)]
    levels = [[hash_leaf(entry) for entry in data]]
    digests, bundles = {}, {}
    for tile in tiles_of(size):
        if tile.level == len(levels):
            below = levels[-1]
            levels.append([subtree_root(below[i : i + 256]) for i in range(0, len(below) - 255, 256)])
        first = 256 * tile.index
        hashes = levels[tile.level][first : first + tile.width]
        digests[f"tile/{tile.path()}"] = hashlib.sha256(b"".join(hashes)).hexdigest()
        if tile.level == 0:
            bundle = encode_bundle(data[first : first + tile.width])
            assert decode_bundle(tile, bundle) == data[first : first + tile.width]
            bundles[f"tile/{tile.path(entries=True)}"] = hashlib.sha256(bundle).hexdigest()
    assert digests == case["tiles"]
    assert case["bundles"].items() <= bundles.items()
    tree = CompactRange()
    for leaf in levels[0]:
        tree.append(leaf)
    assert tree.root().hex() == case["root"]


def check_verifier_key(case: Case) -> None:
    """A log's key is not a witness's, nor the other way round."""
    text = case["text"]
    assert accepts(lambda: decode_verifier_key(text), CheckpointError) is case["log"]
    assert accepts(lambda: decode_witness_key(text), CheckpointError) is case["witness"]


def _policy(case: Case) -> WitnessPolicy:
    return WitnessPolicy(
        log_keys=tuple(map(decode_verifier_key, case["log_keys"])),
        witnesses=tuple(map(decode_witness_key, case["witnesses"])) if "witnesses" in case else (),
        threshold=case.get("threshold", 0),
    )


def check_checkpoint(case: Case) -> None:
    """Origin, size, root and signers come out as they are."""
    policy = _policy(case)
    assert accepts(lambda: verify_witnessed(case["note"], policy), CheckpointError) is case["valid"]
    if case["valid"]:
        found = verify_witnessed(case["note"], policy)
        checkpoint = Checkpoint(origin=case["origin"], size=case["size"], root=bytes.fromhex(case["root"]))
        assert found.checkpoint == checkpoint
        assert case["note"].startswith(encode_checkpoint(checkpoint) + "\n")
        signed = dict(zip(case["log_keys"], policy.log_keys, strict=True))
        assert {signed[text].key_id for text in case["signed_by"]} == {key.key_id for key in found.signers}


def check_cosigned(case: Case) -> None:
    """Who cosigned when."""
    policy = _policy(case)
    assert accepts(lambda: verify_witnessed(case["note"], policy), CheckpointError) is case["valid"]
    if case["valid"]:
        found = verify_witnessed(case["note"], policy).cosignatures
        assert [msgspec.structs.asdict(cosignature) for cosignature in found] == case["cosignatures"]


def check_policy(case: Case) -> None:
    """A policy that could be deceived, or never met, is none."""
    assert accepts(lambda: _policy(case), CheckpointError) is case["valid"]


def check_canonical(case: Case) -> None:
    """What is accepted is written back as it was."""
    data = bytes.fromhex(case["hex"]) if "hex" in case else case["text"].encode()
    assert accepts(lambda: decode_canonical(data), EncodingError) is case["valid"]
    if case["valid"]:
        assert encode_canonical(decode_canonical(data)) == data


def _refusal(data: bytes) -> tuple[str, SignedOperation | None]:
    try:
        signed = decode_signed_operation(data, MAX_ENTRY_BYTES)
    except MalformedError as error:
        return error.code, None
    message = signed_message(signed.op_bytes)
    if not all(verify(signature.key, signature.sig, message) for signature in signed.sigs):
        return "SIGNATURE_INVALID", None
    return "", signed


def check_document(case: Case) -> None:
    """Refused with one of the codes; or read, with this id and this message to sign."""
    data = (case["repeated"] * case["times"] if "repeated" in case else case["document"]).encode()
    code, signed = _refusal(data)
    assert code in (case["codes"] or [""])
    if signed is not None:
        assert signed.op_id.hex() == case["op_id"]
        assert signed_message(signed.op_bytes).decode() == case["message"]


def check_receipt(case: Case) -> None:
    """The entry, its number and the size of the tree come out as they are."""
    policy = _policy(case)
    assert accepts(lambda: verify_receipt(case["file"], policy), ReceiptError) is case["valid"]
    if case["valid"]:
        proven = verify_receipt(case["file"], policy)
        assert (proven.seq, proven.checkpoint.size) == (case["index"], case["size"])
        assert proven.data == base64.b64decode(case["entry"])


# Ledgers


def _must_fit(seq: int, key: str, sig: str, message: bytes) -> None:
    if not verify(key, sig, message):
        raise BrokenEntryError("signatures", f"a signature of entry {seq} does not fit")


_KEPT: dict[tuple[str, type[LightReplay]], tuple[int, LightReplay]] = {}


def replayed(file: str, size: int, kind: type[LightReplay] = FullReplay) -> LightReplay:
    """The ledger of a file after so many entries, replayed by the rules or light. It is not to be changed."""
    have, replay = _KEPT.get((file, kind), (0, None))
    if replay is None or have > size:
        have, replay = 0, kind(read(file)["origin"], _must_fit)
    for entry in read(file)["entries"][have:size]:
        replay.add(entry["bytes"].encode())
    _KEPT[file, kind] = (size, replay)
    return replay


def check_entries(file: str, cases: list[Case]) -> None:
    """All entries, one after the other, with the ids and leaf hashes that they have; light as well as in full."""
    replays = [kind(read(file)["origin"], _must_fit) for kind in (FullReplay, LightReplay)]
    for case in cases:
        for replay in replays:
            found = replay.add(case["bytes"].encode())
            assert (found.op_id.hex(), found.leaf_hash.hex()) == (case["op_id"], case["leaf_hash"])
    full, light = replays
    assert (full.state.log_keys, full.range.root()) == (light.state.log_keys, light.range.root())


def check_entry_bytes(case: Case) -> None:
    """Entries are written as they are read."""
    data = case["bytes"].encode()
    entry = decode_entry(data)
    signed = signed_operation_of(entry)
    prev = LeafHash(bytes.fromhex(entry.prev))
    assert encode_entry(signed, entry.postings, seq=entry.seq, prev=prev, time=entry.time) == data


def check_forged(file: str, case: Case) -> None:
    """An entry of which something was changed is not taken in after those before it, by light replay where it must."""
    for kind in (FullReplay, LightReplay) if case["light"] else (FullReplay,):
        replay = copy.deepcopy(replayed(file, case["seq"], kind))
        assert not accepts(lambda replay=replay: replay.add(case["bytes"].encode()), BrokenEntryError), kind  # type: ignore[misc]


def check_decision(file: str, case: Case) -> None:
    """Postings, or the code of the refusal."""
    code, signed = _refusal(case["document"].encode())
    assert signed is not None, code
    decision = admit(replayed(file, case["after"]).state, signed, case["time"])
    if isinstance(decision, Admission):
        assert case["code"] == ""
        assert decision.postings == msgspec.convert(case["postings"], tuple[Posting, ...])
    else:
        assert decision.code == case["code"]


def check_keys_in_force(file: str, case: Case) -> None:
    """Whose keys act for an account at a time, and what the account is by then."""
    state = replayed(file, case["after"]).state
    account = state.accounts[case["account"]]
    authority = authority_of(state, account, case["time"])
    assert (list(authority.keys), authority.threshold) == (case["acting"], case["threshold"])
    current = account_at(account, case["time"])
    assert (current.custodian is not None) is (not current.keys) is case["in_custody"]
    assert (current.recovery is not None) is case["recovery_pending"]


def check_ledger_checkpoint(file: str, case: Case) -> None:
    """Size, root, and the log key in force, whose line is the first, then that of the one before."""
    log_keys = replayed(file, len(read(file)["entries"])).state.log_keys
    assert log_key_for(log_keys, case["size"]) == case["log_key_in_force"]
    lines = decode_note(case["note"]).signatures
    assert lines[0].key_id == decode_verifier_key(case["log_key_in_force"]).key_id
    replay = replayed(file, case["size"])
    for text in [text for seq, text in log_keys if seq < case["size"]][-2:]:
        checkpoint = verify_checkpoint(case["note"], decode_verifier_key(text), replay.state.origin)
        assert (checkpoint.size, checkpoint.root) == (case["size"], replay.range.root())
    assert replay.range.root().hex() == case["root"]


CHECKS: dict[str, dict[str, Callable[[Case], None]]] = {
    "guerdon_canonical.json": {"canonical": check_canonical},
    "guerdon_checkpoints.json": {"verifier_keys": check_verifier_key, "checkpoints": check_checkpoint},
    "guerdon_cosignatures.json": {"cosigned": check_cosigned, "policies": check_policy},
    "guerdon_merkle.json": {"inclusion": check_inclusion, "consistency": check_consistency},
    "guerdon_operations.json": {"documents": check_document},
    "guerdon_partner_operations.json": {"documents": check_document},
    "guerdon_program_operations.json": {"documents": check_document},
    "guerdon_receipts.json": {"receipts": check_receipt},
    "guerdon_tiles.json": {"names": check_tile_name, "trees": check_tree},
}
"""What the cases of a section are held to, one by one."""

LEDGER_CHECKS: dict[str, Callable[[str, Case], None]] = {
    "forged": check_forged,
    "decisions": check_decision,
    "keys_in_force": check_keys_in_force,
    "checkpoints": check_ledger_checkpoint,
}
LEDGERS = ("guerdon_keys.json", "guerdon_partners.json", "guerdon_points.json", "guerdon_programs.json")
READ_AS_A_WHOLE = {"guerdon_merkle.json": {"roots"}} | {name: {"origin", "entries"} for name in LEDGERS}

ALONE = [(file, section) for file, sections in CHECKS.items() for section in sections]


@pytest.mark.parametrize(("file", "section"), ALONE, ids=[f"{file[8:-5]}-{section}" for file, section in ALONE])
def test_every_case_of_a_section_comes_out_as_it_says(file: str, section: str) -> None:
    for fields in read(file)[section]:
        case = Case(fields)
        CHECKS[file][section](case)
        case.check_all_read()


@pytest.mark.parametrize("section", LEDGER_CHECKS)
@pytest.mark.parametrize("file", LEDGERS)
def test_every_case_of_a_ledger_comes_out_as_it_says(file: str, section: str) -> None:
    for fields in read(file)[section]:
        case = Case(fields)
        LEDGER_CHECKS[section](file, case)
        case.check_all_read()


@pytest.mark.parametrize("file", LEDGERS)
def test_ledgers_replay(file: str) -> None:
    cases = [Case(fields) for fields in read(file)["entries"]]
    check_entries(file, cases)
    for case in cases:
        check_entry_bytes(case)
        case.check_all_read()


def test_roots_of_small_trees_are_right() -> None:
    for size, root in enumerate(read("guerdon_merkle.json")["roots"]):
        check_root(size, root)


def test_no_file_and_no_section_is_left_unread() -> None:
    """And none is so small that a check would see little."""
    assert {path.name for path in FOLDER.glob("guerdon_*.json")} == {*CHECKS, *LEDGERS}
    for file in (*CHECKS, *LEDGERS):
        checked = {*CHECKS.get(file, {}), *(LEDGER_CHECKS if file in LEDGERS else ()), *READ_AS_A_WHOLE.get(file, ())}
        assert set(read(file)) == {"about", *checked}, file
        for section in checked - {"origin"}:
            assert len(read(file)[section]) >= 2, (file, section)


def test_cases_of_a_section_have_names_of_their_own() -> None:
    """So that a case can be spoken of."""
    for file in (*CHECKS, *LEDGERS):
        for section, cases in read(file).items():
            if isinstance(cases, list) and section != "roots":
                names = [case["name"] for case in cases]
                assert [name for name in names if names.count(name) > 1] == [], (file, section)


@pytest.mark.parametrize("file", [*CHECKS, *LEDGERS])
def test_sections_have_cases_to_accept_and_to_refuse(file: str) -> None:
    """A check that accepts all, or nothing, passes none of them."""
    for section in set(read(file)) - {"trees", "roots", "entries", "checkpoints", "keys_in_force", "forged"}:
        cases = read(file)[section]
        if not isinstance(cases, list):
            continue
        verdicts = {case.get("valid", case.get("log", not case.get("codes", case.get("code")))) for case in cases}
        assert verdicts == {True, False}, (file, section)


def test_decisions_have_every_code_that_rules_give() -> None:
    """All but those of documents' bytes and of a service."""
    codes = {case["code"] for file in LEDGERS for case in read(file)["decisions"]}
    files = [file for file, sections in CHECKS.items() if "documents" in sections]
    documents = {code for file in files for case in read(file)["documents"] for code in case["codes"]}
    table = (FOLDER.parent.parent / "ledger" / "FORMAT.md").read_text("utf-8").split("### 6.3")[1].split("## 7.")[0]
    listed = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert listed - codes - documents == {"OVERLOADED", "UNAVAILABLE"}
    assert codes - listed == {""}


def test_vectors_are_what_their_maker_makes() -> None:
    """`python -m tests.make_vectors --write` brings them up to date."""
    assert stale_files() == []


def test_maker_knows_nothing_of_the_implementation() -> None:
    """Neither it nor anything that it imports."""
    program = "import sys, tests.make_vectors; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=FOLDER.parent.parent, capture_output=True, check=True)
    modules = {name.split(".")[0] for name in done.stdout.decode().split()}
    assert "cryptography" in modules
    assert not modules & {"ledger", "api"}


def test_readme_of_the_vectors_names_every_file_section_and_field() -> None:
    """Whoever has another implementation reads the files by it."""
    text = (FOLDER / "README.md").read_text("utf-8")
    for file in (*CHECKS, *LEDGERS):
        assert f"`{file}`" in text
        for section, cases in read(file).items():
            fields = {field for case in cases for field in case} if isinstance(cases[0], dict) else set()
            assert {word for word in {section, *fields} - {"about"} if f"`{word}`" not in text} == set(), file
