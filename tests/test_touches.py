"""What an operation touches is enough to decide it, and to write down what it does."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.entries import NO_LAST_DAY
from ledger.operations import KINDS, SignedOperation
from ledger.rules import admit, apply
from ledger.state import RECORDS, Admission, Decision, State, Touches
from ledger.touches import DEEP_KINDS, touches
from tests.rulebook import partial_state
from tests.town import Town


def stored(state: State, signed: SignedOperation, time: str, seq: int) -> tuple[Decision, list[int | None]] | None:
    """What an operation becomes on a state that it then changes, and the lots that would be stored.

    ``None`` when the state lacks what must be there.
    """
    try:
        decision = admit(state, signed, time, check_signers=bool(signed.sigs))
    except (AssertionError, KeyError):
        return None
    if not isinstance(decision, Admission):
        return decision, []
    apply(state, signed, decision, seq)
    legs = decision.postings
    return decision, [state.lots_of(leg.account, leg.asset).get(leg.lot or NO_LAST_DAY) for leg in legs]


class Comparison(Town):
    """A town in which each decision is also taken on what is loaded in fewer steps.

    ``lacking`` are the kinds for which that came to something else at least once.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self.steps = steps
        self.lacking: set[type] = set()
        self.decided: list[SignedOperation] = []
        super().__init__(random.Random(seed))

    def decide(self, signed: SignedOperation) -> Decision:
        self.decided.append(signed)
        parts = [partial_state(self.state, signed, self.time, steps=steps) for steps in (self.steps, 10)]
        fewer, all_of_it = (stored(part, signed, self.time, self.seq + 1) for part in parts)
        if fewer != all_of_it:
            self.lacking.add(type(signed.op))
        return super().decide(signed)

    def run(self, count: int) -> "Comparison":
        """Let so many operations be decided."""
        for _ in range(count):
            self.act()
        return self


@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_decision_on_what_is_touched_is_the_decision_on_everything(seed: int) -> None:
    """The same postings, changes and balances, or the same refusal: the town itself compares them each time."""
    town = Town(random.Random(seed))
    for _ in range(150):
        town.act()


def test_every_kind_has_been_compared_admitted_and_refused() -> None:
    """So that what the town does, and so what is compared, stays worth comparing."""
    town = Town(random.Random(6))
    for _ in range(3_000):
        town.act()
    everything = set(KINDS) - {"genesis"}
    assert {kind for kind, code in town.outcomes if code is None} == everything
    assert {kind for kind, code in town.outcomes if code is not None} == everything
    assert [name for name in RECORDS if not len(town.state.records(name))] == []


def test_only_deep_kinds_need_more_than_their_documents_name() -> None:
    """All of them do at times, and the others never: a writer asks for more only where it must."""
    assert Comparison(3, steps=1).run(3_000).lacking == DEEP_KINDS


def test_three_steps_find_all_that_is_touched() -> None:
    """Each is a round trip to the database: what is named, what follows from it, and who owes whom by that."""
    assert Comparison(2, steps=3).run(500).lacking == set()


def test_touches_of_a_batch_are_those_of_its_operations_together() -> None:
    """Gathering many adds up, and changes nothing of what was gathered before."""
    ops = [signed.op for signed in Comparison(4, steps=1).run(200).decided]
    gathered = Touches.none()
    for op in ops:
        assert touches(op, gathered) is gathered
    for name in Touches.__struct_fields__:
        assert getattr(gathered, name) == set().union(*(getattr(touches(op), name) for op in ops))
