"""A town's whole history, against the reference verifier and against a writer over a database.

Everything is signed, and points come by entries alone. The reference (:mod:`tests.reference_verifier`) is written from
FORMAT.md and shares no code with the rules: it must make the same postings, and refuse with the same code.
"""

import random
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.encoding import LeafHash
from ledger.entries import encode_entry
from ledger.keys import encode_public_key
from ledger.operations import SignedOperation
from ledger.rules import authority_of
from ledger.sequencer import Outcome, Sequencer, create_ledger
from ledger.state import Admission, Code, Decision, Rejection
from ledger.store import Store, open_engine
from tests import reference_verifier as reference
from tests.migrated import make_tables
from tests.reference import check_record
from tests.rulebook import ORIGIN, make_key
from tests.town import Town
from tests.worlds import Clock


class Signed(Town):
    """A town in which everything is signed by all who must; ``decided`` has each, with its time and what became of it.

    Its clock moves after every ``moves_every`` operations, so that others were decided at one moment.
    """

    def __init__(self, seed: int, *, moves_every: int = 1) -> None:
        self.decided: list[tuple[int, SignedOperation, Decision]] = []
        self.verifier = reference.Verifier()
        self.keys_by_text: dict[str, Ed25519PrivateKey] = {}
        self._moves_every, self._moves = moves_every, 0
        super().__init__(random.Random(seed))

    def make_key(self) -> Ed25519PrivateKey:
        key = super().make_key()
        self.keys_by_text[encode_public_key(key)] = key
        return key

    def advance(self, *, days: int = 0, ms: int = 0) -> Self:
        self._moves += 1
        return super().advance(days=days, ms=ms) if self._moves % self._moves_every == 0 else self

    def build(self, kind: str, *, signers: Iterable[Ed25519PrivateKey] = (), **fields: Any) -> SignedOperation:
        public = set(fields.get("keys") or ())
        for party in (fields.get("actor"), fields.get("partner"), *(fields["members"] if kind == "form_pool" else ())):
            if party in self.state.accounts and (party != fields.get("partner") or kind in ("agree", "allot")):
                public |= set(authority_of(self.state, self.state.accounts[party], self.time).keys)
        return super().build(kind, signers=[self.keys_by_text[key] for key in sorted(public)], **fields)

    def give(self, account: str, asset: str, points: Any) -> None:
        if self.state.programs.get(asset):
            event = {"activity": "goodwill", "member": account, "reference": f"gift-{self.seq}"}
            self.do("grant", actor=self.state.assets[asset].issuer, amount=points, asset=asset, **event)

    def decide(self, signed: SignedOperation) -> Decision:
        decision = super().decide(signed)
        self.decided.append((self.now_ms, signed, decision))
        if isinstance(decision, Rejection):
            assert self._refused_by_reference(signed) == decision.code, (signed.op, decision)
        return decision

    def _refused_by_reference(self, signed: SignedOperation) -> str | None:
        try:
            signers = {signature.key for signature in signed.sigs}
            self.verifier.replica.decide(reference.decode(signed.op_bytes), signers, self.time)
        except reference.RefusedError as error:
            return error.code
        return None

    def record(self, signed: SignedOperation, admission: Admission) -> None:
        prev = LeafHash(bytes.fromhex(self.verifier.prev))
        self.verifier.add(encode_entry(signed, admission.postings, seq=self.seq + 1, prev=prev, time=self.time))
        super().record(signed, admission)


@settings(max_examples=3)
@given(st.integers(0, 2**32))
def test_reference_decides_everything_alike(seed: int) -> None:
    """Whoever follows FORMAT.md comes to the same entries and the same refusals: the town asks it each time."""
    town = Signed(seed)
    for _ in range(250):
        town.act()
    assert town.verifier.size == town.seq + 1


def test_writer_over_a_database_decides_alike(database_url: str) -> None:
    """In batches, on what it loads of the database and what those before in the batch have changed of that."""
    town, clock = Signed(3, moves_every=5), Clock()
    for _ in range(400):
        town.act()
    (clock.now_ms, genesis, _), *rest = town.decided
    engine = open_engine(database_url)
    make_tables(engine)
    store = Store(engine, ORIGIN)
    create_ledger(store, genesis, make_key(1), clock)
    with Sequencer(store, list(town.keys_by_text.values()), clock) as sequencer:
        for now_ms, batch in groupby(rest, key=lambda decided: decided[0]):
            clock.now_ms = now_ms
            _, signed, decisions = zip(*batch, strict=True)
            outcomes = sequencer.submit(signed).result(60)
            assert [code_of(outcome) for outcome in outcomes] == [code_of(decision) for decision in decisions]
    check_record(store)
    engine.dispose()


def code_of(outcome: Decision | Outcome) -> Code | None:
    return outcome.code if isinstance(outcome, Rejection) else None
