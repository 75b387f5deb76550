"""Receipts and proofs in GraphQL: they verify offline at once, and a receipt is for whoever may see its entry whole."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.checkpoint import WitnessPolicy, decode_verifier_key, verify_checkpoint
from ledger.merkle import verify_consistency, verify_inclusion
from ledger.operations import Redeem, Transfer
from ledger.receipt import Proven, ReceiptError, verify_receipt
from ledger.terms import Recipient
from ledger.wallet import Wallet
from tests.service import Service, running
from tests.test_feed import add_auditor, log_key
from tests.worlds import World, pay

RECEIPT = "query($seq: UInt53!) { receipt(seq: $seq) }"
INCLUSION = """query($seq: UInt53!, $size: UInt53) {
  inclusionProof(seq: $seq, size: $size) { seq size leafHash hashes } checkpoint { size note } }"""
CONSISTENCY = """query($from: UInt53!, $to: UInt53) {
  consistencyProof(fromSize: $from, toSize: $to) { fromSize toSize hashes } checkpoint { note } }"""


@pytest.fixture
def service(world: World, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


class Shop:
    """A merchant with an asset, three members of whom the first has points, and an outsider."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.merchant = world.add_merchant()
        world.add_asset(self.merchant, "STAR")
        self.alice, self.bob, self.carol, self.outsider = world.add_members(4)
        world.grant(self.merchant, "STAR", self.alice, 500)


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def verify(world: World, text: str) -> Proven:
    """Offline: the file and the log's key alone."""
    return verify_receipt(text, WitnessPolicy(log_keys=(decode_verifier_key(log_key(world)),)))


def test_receipt_of_a_transfers_own_response_verifies_at_once(service: Service, shop: Shop) -> None:
    """Nothing has to be waited for or asked again: the payload's receipt proves the entry beside it."""
    payload = service.submit(pay(shop.alice, "STAR", 20, shop.bob), "receipt balance")
    proven = verify(shop.world, payload["receipt"])
    assert (proven.seq, proven.leaf_hash.hex()) == (payload["entry"]["seq"], payload["entry"]["hash"])
    assert proven.data.decode() == payload["entry"]["document"]
    assert isinstance(proven.entry.op, Transfer)
    assert proven.checkpoint.size > proven.seq
    assert payload["balance"] == 480


def test_receipt_of_a_redemption_and_of_a_replay(service: Service, shop: Shop) -> None:
    """Spending has one too; whoever lost the answer submits again and gets a newer receipt of the same entry."""
    redeem = shop.alice.sign(Redeem, asset="STAR", amount=30, merchant=str(shop.merchant.account))
    first = service.submit(redeem, "receipt")
    shop.world.add_members(3)
    again = service.submit(redeem, "receipt")
    assert again["replayed"]
    old, new = verify(shop.world, first["receipt"]), verify(shop.world, again["receipt"])
    assert (old.seq, old.data) == (new.seq, new.data)
    assert new.checkpoint.size > old.checkpoint.size


def test_no_receipt_of_what_was_refused(service: Service, shop: Shop) -> None:
    """A refusal leaves nothing behind, and proves nothing."""
    payload = service.submit(pay(shop.bob, "STAR", 20, shop.alice), "receipt")
    assert (payload["entry"], payload["receipt"]) == (None, None)
    assert payload["userErrors"]


def test_receipt_is_for_whoever_may_see_the_whole_entry(service: Service, shop: Shop) -> None:
    """Payer, the only payee, the issuer, auditor and operator; nobody else, and nobody learns what there is."""
    auditor = add_auditor(shop.world)
    (one,) = shop.world.record(pay(shop.alice, "STAR", 20, shop.bob))
    recipients = tuple(Recipient(amount=5, to=str(payee.account)) for payee in (shop.bob, shop.carol))
    (both,) = shop.world.record(shop.alice.sign(Transfer, asset="STAR", recipients=recipients))
    trusted = [shop.alice, shop.merchant, auditor, shop.world.operator]
    told: list[tuple[Wallet, int, bool]] = [(wallet, seq, True) for wallet in trusted for seq in (one.seq, both.seq)]
    told += [(shop.bob, one.seq, True), (shop.bob, both.seq, False), (shop.carol, both.seq, False)]
    told += [(shop.carol, one.seq, False), (shop.outsider, one.seq, False), (shop.outsider, both.seq, False)]
    tokens = {wallet.account: service.sign_in(wallet) for wallet, _, _ in told}
    for wallet, seq, whole in told:
        text = service.query(RECEIPT, {"seq": seq}, tokens[wallet.account])["receipt"]
        assert (text is not None) == whole, (wallet.account, seq)
        if whole:
            assert verify(shop.world, text).seq == seq
    nowhere = {"seq": 10_000}
    assert service.query(RECEIPT, nowhere, tokens[shop.alice.account]) == {"receipt": None}
    assert service.error_code(RECEIPT, {"seq": one.seq}) == service.error_code(RECEIPT, nowhere) == "UNAUTHENTICATED"


def test_receipt_of_another_ledger_proves_nothing_here(service: Service, shop: Shop) -> None:
    """Another ledger's key does not verify it."""
    payload = service.submit(pay(shop.alice, "STAR", 20, shop.bob), "receipt")
    with World(shop.world.url, origin="ledger.example/other", seed=5) as other, pytest.raises(ReceiptError):
        verify(other, payload["receipt"])


def test_inclusion_proofs_are_public_and_lead_to_the_checkpoint(service: Service, shop: Shop) -> None:
    """For every entry, now and at every size the ledger had, without a session."""
    key = decode_verifier_key(log_key(shop.world))
    size = service.query("{ ledger { size } }")["ledger"]["size"]
    for seq in range(size):
        answer = service.query(INCLUSION, {"seq": seq})
        proof = answer["inclusionProof"]
        assert (proof["seq"], proof["size"]) == (seq, answer["checkpoint"]["size"])
        root = verify_checkpoint(answer["checkpoint"]["note"], key, shop.world.origin).root
        hashes = [base64.b64decode(text) for text in proof["hashes"]]
        verify_inclusion(bytes.fromhex(proof["leafHash"]), seq, size, hashes, root)
    assert service.query(INCLUSION, {"seq": 0, "size": 1})["inclusionProof"]["hashes"] == []


def test_consistency_proofs_are_public_and_join_checkpoints(service: Service, shop: Shop) -> None:
    """A checkpoint kept from before is shown to be the beginning of the newest."""
    key = decode_verifier_key(log_key(shop.world))
    before = verify_checkpoint(service.query("{ checkpoint { note } }")["checkpoint"]["note"], key, shop.world.origin)
    shop.world.add_members(9)
    answer = service.query(CONSISTENCY, {"from": before.size})
    after = verify_checkpoint(answer["checkpoint"]["note"], key, shop.world.origin)
    proof = answer["consistencyProof"]
    assert (proof["fromSize"], proof["toSize"]) == (before.size, after.size)
    hashes = [base64.b64decode(text) for text in proof["hashes"]]
    verify_consistency(before.size, after.size, hashes, old_root=before.root, new_root=after.root)
    for same in ({"from": 0}, {"from": 3, "to": 3}):
        assert service.query(CONSISTENCY, same)["consistencyProof"]["hashes"] == []


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        (INCLUSION, {"seq": 10_000}),
        (INCLUSION, {"seq": 0, "size": 10_000}),
        (INCLUSION, {"seq": 1, "size": 1}),
        (INCLUSION, {"seq": 0, "size": 0}),
        (INCLUSION, {"seq": 2**53 - 1, "size": 2**53 - 1}),
        (CONSISTENCY, {"from": 10_000}),
        (CONSISTENCY, {"from": 1, "to": 10_000}),
        (CONSISTENCY, {"from": 2, "to": 1}),
    ],
)
def test_proof_of_what_is_not_there_is_an_error(document: str, variables: dict[str, int], service: Service) -> None:
    """Beyond the ledger's size, or backwards."""
    assert service.error_code(document, variables) == "BAD_USER_INPUT"
