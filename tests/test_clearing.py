"""Clearing: what merchants owe is netted into few payments, settled, and disputed, and every amount comes out."""

import random
from collections import Counter, deque
from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.clearing import MAX_EXACT_MERCHANTS, positions_of, propose_payments
from ledger.encoding import MAX_INTEGER
from ledger.state import NOT_NETTED, Admission, Code, Netting, Obligation, Rejection
from ledger.terms import Payment
from tests.rulebook import Book, acceptance, claim
from tests.town import Town

NOBODY = "mer_" + "z" * 26


class Street(Book):
    """Merchants that owe each other: A, B, C and so on."""

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.merchants = [self.merchant(chr(ord("A") + i)) for i in range(count)]

    def today(self) -> str:
        return self.time[:10]

    def net(self, *payments: tuple[str, str, int], **fields: Any) -> dict[str, Any]:
        """The fields of a netting of all merchants through today; payments are debtor, creditor, amount."""
        known = {"actor": self.operator, "currency": "USD", "merchants": self.merchants, "through": self.today()}
        listed = [{"amount": amount, "creditor": creditor, "debtor": debtor} for debtor, creditor, amount in payments]
        return {**known, "payments": listed, **fields}

    def settle(self, debtor: str, creditor: str, amount: int, payment: str = "bank-1", **fields: Any) -> dict[str, Any]:
        """The fields of a settlement."""
        return {"actor": creditor, "amount": amount, "currency": "USD", "debtor": debtor, "payment": payment, **fields}

    def obligations(self, currency: str = "USD") -> list[tuple[str, str, int, str, int]]:
        """All that is owed: debtor, creditor, the netting or -1, the day, the amount."""
        found = [owed for owed in self.state.obligations if owed.currency == currency]
        return sorted((owed.debtor, owed.creditor, owed.netting, owed.day, owed.amount) for owed in found)


def reference(seq: int, index: int = 0) -> dict[str, int]:
    return {"index": index, "seq": seq}


# Proposing payments


def pays(positions: Mapping[str, int], payments: tuple[Payment, ...]) -> None:
    """Check that payments go from who owes to who is owed, one at most between two, and bring about the positions."""
    paid = Counter(dict.fromkeys(positions, 0))
    for payment in payments:
        assert payment.amount >= 1
        assert positions[payment.debtor] < 0 < positions[payment.creditor]
        paid[payment.debtor] -= payment.amount
        paid[payment.creditor] += payment.amount
    assert paid == Counter(positions)
    parties = [(payment.debtor, payment.creditor) for payment in payments]
    assert parties == sorted(set(parties))


def naive_fewest(positions: Mapping[str, int]) -> int:
    """The fewest payments that lead from positions to nothing, by trying all, one more at a time."""
    start = tuple(positions.values())
    seen, queue = {start}, deque([(start, 0)])
    while queue:
        now, count = queue.popleft()
        if not any(now):
            return count
        for payer, payee in permutations(range(len(now)), 2):
            for amount in range(1, min(-now[payer], now[payee]) + 1):
                then = list(now)
                then[payer] += amount
                then[payee] -= amount
                if tuple(then) not in seen:
                    seen.add(tuple(then))
                    queue.append((tuple(then), count + 1))
    raise AssertionError("positions that do not sum to zero")


def positions_from(amounts: list[int]) -> dict[str, int]:
    """Positions with these amounts, and one more that makes them sum to zero."""
    return {f"mer_{i:02}": amount for i, amount in enumerate([*amounts, -sum(amounts)])}


@given(st.lists(st.integers(-4, 4), max_size=5).map(positions_from))
def test_proposal_has_the_fewest_payments(positions: dict[str, int]) -> None:
    """As many as trying everything finds."""
    payments = propose_payments(positions)
    pays(positions, payments)
    assert len(payments) == naive_fewest(positions)


@given(st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=3), min_size=1, max_size=3), st.data())
def test_merchants_that_can_settle_among_themselves_do(groups: list[list[int]], data: st.DataObject) -> None:
    """Each group of which one owes all the others costs no more than one payment each, however they are named."""
    amounts = data.draw(st.permutations([amount for group in groups for amount in (*group, -sum(group))]))
    positions = {f"mer_{i:02}": amount for i, amount in enumerate(amounts)}
    payments = propose_payments(positions)
    pays(positions, payments)
    assert len(payments) <= sum(len(group) for group in groups)


@given(st.lists(st.integers(-(10**12), 10**12) | st.integers(-9, 9), max_size=99).map(positions_from))
def test_proposal_for_many_merchants_pays_everyone(positions: dict[str, int]) -> None:
    """With fewer payments than there are merchants that owe or are owed."""
    payments = propose_payments(positions)
    pays(positions, payments)
    assert len(payments) <= max(sum(amount != 0 for amount in positions.values()) - 1, 0)


@given(st.lists(st.integers(-50, 50), max_size=30).map(positions_from), st.randoms(use_true_random=False))
def test_proposal_depends_on_the_positions_alone(positions: dict[str, int], order: random.Random) -> None:
    """Not on the order in which they are listed."""
    shuffled = list(positions.items())
    order.shuffle(shuffled)
    assert propose_payments(dict(shuffled)) == propose_payments(positions)


def test_merchants_that_cancel_are_paired_before_anything_is_left_to_a_heuristic() -> None:
    """Forty pairs pay one payment each; from the largest down, the last three would have spoilt it for all."""
    pairs = {f"mer_{i}{side}": sign * i for i in range(10, 50) for side, sign in (("a", 1), ("b", -1))}
    positions = {**pairs, "mer_x": 60, "mer_y": -33, "mer_z": -27}
    assert len(positions) > MAX_EXACT_MERCHANTS
    payments = propose_payments(positions)
    pays(positions, payments)
    assert len(payments) == 40 + 2


@pytest.mark.parametrize(
    ("positions", "payments"),
    [
        ({}, []),
        ({"A": 0, "B": 0}, []),
        ({"A": -70, "B": 70}, [("A", "B", 70)]),
        ({"A": -10, "B": -20, "C": 30}, [("A", "C", 10), ("B", "C", 20)]),
        (  # the one that owes most would not pay the one that is owed most
            {"A": 9, "B": 7, "C": -6, "D": -5, "E": -4, "F": -1},
            [("C", "B", 6), ("D", "A", 5), ("E", "A", 4), ("F", "B", 1)],
        ),
        (
            {"A": -5, "B": -4, "C": 3, "D": 6, "E": -2, "F": 2},
            [("A", "D", 5), ("B", "C", 3), ("B", "D", 1), ("E", "F", 2)],
        ),
    ],
)
def test_examples_of_proposals(positions: dict[str, int], payments: list[tuple[str, str, int]]) -> None:
    """Two merchants are no special case."""
    found = [(payment.debtor, payment.creditor, payment.amount) for payment in propose_payments(positions)]
    assert found == payments


def test_positions_that_do_not_sum_to_zero_are_a_mistake() -> None:
    """What one is owed another owes."""
    with pytest.raises(ValueError, match="sum to zero"):
        propose_payments({"A": -1, "B": 2})


def test_positions_count_what_is_not_netted_among_the_merchants_through_the_day() -> None:
    """Not what others owe, what is due later, or what a netting made."""

    def owed(debtor: str, creditor: str, amount: int, day: str = "2026-03-02", netting: int = NOT_NETTED) -> Obligation:
        parties = {"debtor": debtor, "creditor": creditor}
        return Obligation(currency="USD", **parties, netting=netting, day=day, amount=amount)

    obligations = [
        owed("A", "B", 30),
        owed("B", "C", 50, "2026-01-01"),
        owed("C", "A", 20),
        owed("A", "D", 1_000),
        owed("A", "B", 2_000, "2026-03-03"),
        owed("A", "B", 4_000, netting=7),
    ]
    assert positions_of(obligations, ["A", "B", "C"], "2026-03-02") == {"A": -10, "B": -20, "C": 30}


# Netting


def test_refusals_of_net_come_in_their_order() -> None:
    """A document that is wrong in every way, put right one thing at a time."""
    book = Street()
    a, b, c = book.merchants
    book.owe(a, b, 30)
    member = book.member()
    book.advance(days=1)
    book.owe(b, c, 50)
    fields = book.net((a, b, 1), actor=a, currency="XXX", merchants=[a, b, member], through="2026-03-04")
    put_right: list[tuple[dict[str, Any], Code, tuple[str, ...]]] = [
        ({}, Code.NOT_PERMITTED, ("actor",)),
        ({"actor": book.operator}, Code.UNKNOWN_CURRENCY, ("currency",)),
        ({"currency": "EUR"}, Code.UNKNOWN_ACCOUNT, ("merchants[2]",)),
        ({"merchants": [a, NOBODY, b]}, Code.UNKNOWN_ACCOUNT, ("merchants[1]",)),
        ({"merchants": [a, c, b]}, Code.NOT_YET_DUE, ("through",)),
        ({"through": "2026-03-03"}, Code.NOTHING_DUE, ("through",)),
        ({"currency": "USD", "through": "2026-03-01"}, Code.NOTHING_DUE, ("through",)),
        ({"through": "2026-03-02"}, Code.NETTING_MISMATCH, ("payments",)),
    ]
    for right, code, path in put_right:
        fields |= right
        refusal = book.refused("net", **fields)
        assert (refusal.code, refusal.path) == (code, path)
    book.do("net", **fields | {"payments": [{"amount": 30, "creditor": b, "debtor": a}]})


def test_payments_take_the_place_of_what_was_owed() -> None:
    """Three debts become two payments; no points and no balances move, and all merchants find the entry."""
    book = Street()
    a, b, c = book.merchants
    for debtor, creditor, amount in ((a, b, 30), (b, c, 50), (c, a, 20)):
        book.owe(debtor, creditor, amount)
    day = book.today()
    book.advance(days=1)
    book.owe(a, b, 7)
    balances = [book.balance(merchant, "USD") for merchant in book.merchants]
    admission = book.do("net", **book.net((a, c, 10), (b, c, 20), through=day))
    assert (admission.postings, sorted(admission.parties)) == ((), sorted(book.merchants))
    assert book.obligations() == sorted(
        [(a, c, book.seq, day, 10), (b, c, book.seq, day, 20), (a, b, NOT_NETTED, book.today(), 7)]
    )
    assert [book.balance(merchant, "USD") for merchant in book.merchants] == balances
    netting = Netting(seq=book.seq, currency="USD", through=day, merchants=tuple(book.merchants))
    assert list(book.state.nettings) == [netting]


def test_debts_that_cancel_are_netted_to_nothing() -> None:
    """Without any payment; then nothing is due any more."""
    book = Street(2)
    a, b = book.merchants
    book.owe(a, b, 30)
    book.owe(b, a, 30)
    book.do("net", **book.net())
    assert book.obligations() == []
    assert book.refused("net", **book.net()).code is Code.NOTHING_DUE


def test_netting_of_some_merchants_leaves_the_others_alone() -> None:
    """And what they owe in other currencies."""
    book = Street()
    a, b, c = book.merchants
    book.owe(a, b, 30)
    book.owe(b, c, 50)
    book.owe(a, b, 11, "EUR")
    book.do("net", **book.net((a, b, 30), merchants=[b, a]))
    day = book.today()
    assert book.obligations() == sorted([(a, b, book.seq, day, 30), (b, c, NOT_NETTED, day, 50)])
    assert book.obligations("EUR") == [(a, b, NOT_NETTED, day, 11)]


def test_what_is_owed_after_a_netting_of_the_same_day_waits_for_the_next() -> None:
    """A day can be netted while it lasts."""
    book = Street(2)
    a, b = book.merchants
    book.owe(a, b, 30)
    book.do("net", **book.net((a, b, 30)))
    first = book.seq
    book.owe(a, b, 5)
    book.do("net", **book.net((a, b, 5)))
    assert book.obligations() == [(a, b, first, book.today(), 30), (a, b, book.seq, book.today(), 5)]


@pytest.mark.parametrize(
    "payments",
    [
        pytest.param([("A", "C", 10), ("B", "C", 19)], id="one gets too little"),
        pytest.param([("A", "C", 11), ("B", "C", 19)], id="one pays too much"),
        pytest.param([("A", "B", 10), ("B", "C", 30)], id="one passes money on"),
        pytest.param([("A", "C", 10), ("B", "C", 20), ("D", "A", 1)], id="one owes nothing"),
        pytest.param([], id="nobody pays"),
    ],
)
def test_payments_that_do_not_come_to_the_positions_are_refused(payments: list[tuple[str, str, int]]) -> None:
    """Every merchant ends up where it was, by payments from those that owe to those that are owed."""
    book = Street(4)
    names = dict(zip("ABCD", book.merchants, strict=True))
    for debtor, creditor, amount in (("A", "B", 30), ("B", "C", 50), ("C", "A", 20)):
        book.owe(names[debtor], names[creditor], amount)
    listed = [(names[debtor], names[creditor], amount) for debtor, creditor, amount in payments]
    assert book.refused("net", **book.net(*listed)).code is Code.NETTING_MISMATCH


Debts = st.lists(st.tuples(st.sampled_from(list(permutations(range(4), 2))), st.integers(1, 50)), max_size=8)


@settings(max_examples=40)
@given(Debts)
def test_proposal_is_what_the_ledger_takes(debts: list[tuple[tuple[int, int], int]]) -> None:
    """And what is settled afterwards leaves every merchant without claims."""
    book = Street(4)
    for (debtor, creditor), amount in debts:
        book.owe(book.merchants[debtor], book.merchants[creditor], amount)
    positions = positions_of(book.state.obligations, book.merchants, book.today())
    assert positions == {merchant: book.balance(merchant, "USD") for merchant in book.merchants}
    if not debts:
        return
    payments = propose_payments(positions)
    book.do("net", **book.net(*((payment.debtor, payment.creditor, payment.amount) for payment in payments)))
    for i, payment in enumerate(payments):
        book.do("settle", **book.settle(payment.debtor, payment.creditor, payment.amount, f"bank-{i}"))
    assert book.obligations() == []
    assert not any(book.balance(merchant, "USD") for merchant in book.merchants)


# Settling


def test_refusals_of_settle_come_in_their_order() -> None:
    """A currency, a debtor, a payment, an amount."""
    book = Street()
    a, b, _ = book.merchants
    book.owe(a, b, 30)
    book.owe(a, b, 9, "EUR")
    book.do("settle", **book.settle(a, b, 5, "bank-1"))
    first = book.seq
    fields = book.settle(NOBODY, b, 26, "bank-1", currency="XXX")
    put_right: list[tuple[dict[str, Any], Code, tuple[str, ...], dict[str, int]]] = [
        ({}, Code.UNKNOWN_CURRENCY, ("currency",), {}),
        ({"currency": "USD"}, Code.UNKNOWN_ACCOUNT, ("debtor",), {}),
        ({"debtor": a}, Code.REFERENCE_EXISTS, ("payment",), {"seq": first}),
        ({"payment": "bank-2"}, Code.SETTLED_TOO_MUCH, ("amount",), {"owed_amount": 25}),
    ]
    for right, code, path, details in put_right:
        fields |= right
        refusal = book.refused("settle", **fields)
        assert (refusal.code, refusal.path) == (code, path)
        assert refusal.details.items() >= details.items()
    book.do("settle", **fields | {"amount": 25})
    assert book.obligations() == []


def test_settling_moves_what_is_owed_back() -> None:
    """The creditor is owed less, the debtor owes less, and a payment's reference is the creditor's own."""
    book = Street()
    a, b, c = book.merchants
    book.owe(a, b, 30)
    book.owe(a, c, 30)
    admission = book.do("settle", **book.settle(a, b, 20))
    assert [(leg.account, leg.amount, leg.asset, leg.lot) for leg in admission.postings] == [
        (b, -20, "USD", None),
        (a, 20, "USD", None),
    ]
    assert (book.balance(b, "USD"), book.balance(a, "USD"), book.owed(a, b)) == (10, -40, 10)
    book.do("settle", **book.settle(a, c, 30))


def test_what_nettings_made_is_settled_first_then_the_oldest_days() -> None:
    """Whenever it was owed."""
    book = Street(2)
    a, b = book.merchants
    days, nettings = [], []
    for amount in (1, 2):
        book.owe(a, b, amount)
        book.do("net", **book.net((a, b, amount)))
        nettings.append(book.seq)
        days.append(book.today())
        book.advance(days=1)
    for amount in (4, 8):
        book.owe(a, b, amount)
        days.append(book.today())
        book.advance(days=1)
    keys = list(zip([*nettings, NOT_NETTED, NOT_NETTED], days, strict=True))
    left = dict(zip(keys, (1, 2, 4, 8), strict=True))
    for i, key in enumerate(keys):
        book.do("settle", **book.settle(a, b, left[key], f"bank-{i}"))
        del left[key]
        assert {(netting, day): amount for _, _, netting, day, amount in book.obligations()} == left


def test_nettings_are_settled_in_their_order_whatever_days_they_are_of() -> None:
    """The first that was agreed on is due first."""
    book = Street(2)
    a, b = book.merchants
    early = book.today()
    seq = book.owe(a, b, 1)
    book.do("dispute", actor=a, claim=reference(seq), reason="other")
    book.advance(days=1)
    book.owe(a, b, 2)
    book.do("net", **book.net((a, b, 2)))
    book.do("resolve_dispute", actor=a, claim=reference(seq), outcome="stands")
    book.do("net", **book.net((a, b, 1), through=early))
    book.do("settle", **book.settle(a, b, 2))
    assert book.obligations() == [(a, b, book.seq - 1, early, 1)]


def test_nobody_settles_what_others_are_owed() -> None:
    """Only the creditor says that it was paid, and only by that debtor."""
    book = Street()
    a, b, c = book.merchants
    book.owe(a, b, 30)
    for debtor, creditor in ((a, c), (b, a), (c, b)):
        refusal = book.refused("settle", **book.settle(debtor, creditor, 1))
        assert (refusal.code, refusal.details) == (Code.SETTLED_TOO_MUCH, {"owed_amount": 0})


# Disputes


def test_refusals_of_dispute_come_in_their_order() -> None:
    """No such claim, not one's own, disputed already, or closed."""
    book = Street()
    a, b, c = book.merchants
    seq = book.owe(a, b, 30)
    for actor, claimed in (
        (a, reference(seq, 1)),
        (a, reference(seq + 1)),
        (c, reference(seq)),
        (book.operator, reference(seq)),
    ):
        refusal = book.refused("dispute", actor=actor, claim=claimed, reason="amount")
        assert (refusal.code, refusal.path) == (Code.UNKNOWN_CLAIM, ("claim",))
    book.do("dispute", actor=a, claim=reference(seq), reason="amount")
    refusal = book.refused("dispute", actor=b, claim=reference(seq), reason="amount")
    assert (refusal.code, refusal.path) == (Code.DISPUTED, ("claim",))
    book.do("resolve_dispute", actor=b, claim=reference(seq), outcome="cancelled")
    refusal = book.refused("dispute", actor=a, claim=reference(seq), reason="amount")
    assert (refusal.code, refusal.path) == (Code.CLAIM_CLOSED, ("claim",))


@pytest.mark.parametrize("closed", ["netted", "settled"])
def test_claim_that_was_netted_or_settled_is_closed(closed: str) -> None:
    """It is undone by new claims, not by disputing old ones."""
    book = Street(2)
    a, b = book.merchants
    seq = book.owe(a, b, 30)
    if closed == "netted":
        book.do("net", **book.net((a, b, 30)))
    else:
        book.do("settle", **book.settle(a, b, 1))
    assert book.refused("dispute", actor=a, claim=reference(seq), reason="amount").code is Code.CLAIM_CLOSED


def test_disputed_claim_is_neither_netted_nor_settled() -> None:
    """What else is owed for the day is."""
    book = Street(2)
    a, b = book.merchants
    seq = book.owe(a, b, 30)
    book.owe(a, b, 4)
    admission = book.do("dispute", actor=b, claim=reference(seq), reason="duplicate")
    assert (admission.postings, admission.parties) == ((), (a,))
    found = book.state.claims.get(seq, 0)
    assert found is not None
    assert (found.status, found.disputed_by) == ("disputed", b)
    assert (book.owed(a, b), book.balance(b, "USD")) == (4, 34)
    assert book.refused("settle", **book.settle(a, b, 5)).details == {"owed_amount": 4}
    book.do("net", **book.net((a, b, 4)))


def test_refusals_of_resolve_dispute_come_in_their_order() -> None:
    """No such claim, not one's own, not disputed, not one's to say."""
    book = Street()
    a, b, c = book.merchants
    seq = book.owe(a, b, 30)
    steps: list[tuple[str, dict[str, int], str, Code, tuple[str, ...]]] = [
        (a, reference(seq, 1), "stands", Code.UNKNOWN_CLAIM, ("claim",)),
        (c, reference(seq), "stands", Code.UNKNOWN_CLAIM, ("claim",)),
        (a, reference(seq), "stands", Code.NOT_DISPUTED, ("claim",)),
        (book.operator, reference(seq), "stands", Code.NOT_DISPUTED, ("claim",)),
    ]
    for actor, claimed, said, code, path in steps:
        refusal = book.refused("resolve_dispute", actor=actor, claim=claimed, outcome=said)
        assert (refusal.code, refusal.path) == (code, path)


@pytest.mark.parametrize(
    ("disputed_by", "said", "may"),
    [
        ("debtor", "stands", {"debtor", "operator"}),
        ("creditor", "stands", {"creditor", "operator"}),
        ("debtor", "cancelled", {"creditor", "operator"}),
        ("creditor", "cancelled", {"creditor", "operator"}),
    ],
)
def test_nobody_decides_a_dispute_for_itself(disputed_by: str, said: str, may: set[str]) -> None:
    """Who disputed may give in, who is owed may give up, and the operator decides."""
    book = Street(2)
    people = dict(zip(("debtor", "creditor", "operator"), (*book.merchants, book.operator), strict=True))
    seq = book.owe(people["debtor"], people["creditor"], 30)
    book.do("dispute", actor=people[disputed_by], claim=reference(seq), reason="other")
    for name, account in people.items():
        decision = book.ask("resolve_dispute", actor=account, claim=reference(seq), outcome=said)
        assert isinstance(decision, Admission) == (name in may)
        if isinstance(decision, Rejection):
            assert (decision.code, decision.path) == (Code.NOT_PERMITTED, ("actor",))


def test_claim_that_stands_is_owed_again_for_its_day() -> None:
    """Even when the day was netted meanwhile; the next netting has it, and the other party can dispute it."""
    book = Street(2)
    a, b = book.merchants
    seq = book.owe(a, b, 30)
    book.owe(a, b, 4)
    day = book.today()
    book.do("dispute", actor=a, claim=reference(seq), reason="amount")
    book.do("net", **book.net((a, b, 4)))
    netting = book.seq
    book.advance(days=3)
    admission = book.do("resolve_dispute", actor=book.operator, claim=reference(seq), outcome="stands")
    assert (admission.postings, sorted(admission.parties)) == ((), sorted([a, b]))
    found = book.state.claims.get(seq, 0)
    assert found is not None
    assert (found.status, found.disputed_by) == ("open", a)
    assert book.obligations() == [(a, b, NOT_NETTED, day, 30), (a, b, netting, day, 4)]
    book.do("dispute", actor=b, claim=reference(seq), reason="other")
    book.do("resolve_dispute", actor=b, claim=reference(seq), outcome="stands")
    book.do("net", **book.net((a, b, 30)))
    assert book.owed(a, b) == 34


@pytest.mark.parametrize("who", ["operator", "debtor"])
def test_claim_that_stands_is_not_disputed_by_the_same_party_again(who: str) -> None:
    """Or a debtor would keep it out of netting for ever, whatever the operator says."""
    book = Street(2)
    a, b = book.merchants
    seq = book.owe(a, b, 30)
    dispute = {"actor": a, "claim": reference(seq), "reason": "amount"}
    book.do("dispute", **dispute)
    said = book.operator if who == "operator" else a
    book.do("resolve_dispute", actor=said, claim=reference(seq), outcome="stands")
    refusal = book.refused("dispute", **dispute)
    assert (refusal.code, refusal.path) == (Code.CLAIM_CLOSED, ("claim",))
    book.do("net", **book.net((a, b, 30)))


def test_cancelled_claim_is_owed_no_more() -> None:
    """Its legs are undone."""
    book = Street(2)
    a, b = book.merchants
    seq = book.owe(a, b, 30)
    book.do("dispute", actor=a, claim=reference(seq), reason="not_ours")
    admission = book.do("resolve_dispute", actor=b, claim=reference(seq), outcome="cancelled")
    assert [(leg.account, leg.amount, leg.asset) for leg in admission.postings] == [(b, -30, "USD"), (a, 30, "USD")]
    assert (book.balance(a, "USD"), book.balance(b, "USD"), book.obligations()) == (0, 0, [])
    found = book.state.claims.get(seq, 0)
    assert found is not None
    assert found.status == "cancelled"
    refusal = book.refused("resolve_dispute", actor=b, claim=reference(seq), outcome="cancelled")
    assert refusal.code is Code.NOT_DISPUTED


# The largest amounts


def test_claim_that_stands_again_cannot_pass_the_largest_amount_of_its_day() -> None:
    """Balances may cancel where one day's debts between two do not."""
    book = Street(2)
    a, b = book.merchants
    seq = book.owe(a, b, MAX_INTEGER)
    book.do("dispute", actor=a, claim=reference(seq), reason="amount")
    book.owe(b, a, MAX_INTEGER)
    book.owe(a, b, 1)
    refusal = book.refused("resolve_dispute", actor=a, claim=reference(seq), outcome="stands")
    assert refusal.code is Code.AMOUNT_OVERFLOW


@pytest.mark.parametrize("ending", ["settle", "cancel"])
def test_balances_stay_in_range_when_debts_are_taken_back(ending: str) -> None:
    """A creditor that owes others all it can cannot be owed less."""
    book = Street()
    a, b, c = book.merchants
    seq = book.owe(a, b, 1)
    if ending == "cancel":
        book.do("dispute", actor=a, claim=reference(seq), reason="amount")
    book.owe(b, c, MAX_INTEGER)
    book.owe(b, a, 1)
    if ending == "settle":
        refusal = book.refused("settle", **book.settle(a, b, 1))
    else:
        refusal = book.refused("resolve_dispute", actor=b, claim=reference(seq), outcome="cancelled")
    assert refusal.code is Code.AMOUNT_OVERFLOW


def test_claims_of_one_day_add_up() -> None:
    """By agreement or by fee; each is a claim of its own, all of a day one obligation."""
    book = Street(2)
    shop, bakery = book.merchants
    book.asset(shop, "STAR")
    alice = book.member()
    book.give(alice, "STAR", 100)
    book.agree(shop, bakery, acceptance("STAR", claim=claim(shop, 3)))
    seqs = []
    for amount in (10, 20):
        book.do("redeem", actor=alice, amount=amount, asset="STAR", merchant=bakery)
        seqs.append(book.seq)
    found = [book.state.claims.get(seq, 0) for seq in seqs]
    assert [(one.amount, one.agreement) for one in found if one] == [(30, f"STAR@{bakery}"), (60, f"STAR@{bakery}")]
    assert book.obligations() == [(shop, bakery, NOT_NETTED, book.today(), 90)]


@settings(max_examples=10)
@given(st.integers(0, 2**32))
def test_balances_are_what_is_owed_and_what_is_disputed(seed: int) -> None:
    """Whatever a whole coalition does: nothing is owed that no claim made, and nothing netted or settled is lost."""
    town = Town(random.Random(seed))
    for _ in range(200):
        town.act()
    expected: Counter[tuple[str, str]] = Counter()
    disputed = [claim for claim in town.state.claims if claim.status == "disputed"]
    for owed in (*town.state.obligations, *disputed):
        expected[owed.creditor, owed.currency] += owed.amount
        expected[owed.debtor, owed.currency] -= owed.amount
    for account in town.state.accounts:
        for currency in ("EUR", "USD"):
            assert town.balance(account, currency) == expected[account, currency]
    assert all(owed.amount > 0 for owed in town.state.obligations)
