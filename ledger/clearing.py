"""Clearing: what merchants owe each other, netted and settled.

Claims add up by day to obligations between two merchants. A netting replaces those among a set of merchants by fewer
payments, and leaves each of them with what it was owed, less what it owed: its position. Money itself moves elsewhere;
a creditor that has it says so by settling. Who finds a claim wrong takes it out of all this by a dispute.

:func:`propose_payments` finds the payments; which ones are recorded is the operator's to say, as long as every position
comes out::

    obligations     A owes B 30, B owes C 50, C owes A 20
    positions       A -10, B -20, C +30
    payments        A pays C 10, B pays C 20
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations

from msgspec.structs import replace

from ledger.encoding import MAX_INTEGER
from ledger.movements import Movement
from ledger.operations import Dispute, Net, ResolveDispute, Settle
from ledger.refusals import check_operator, check_reference, unknown_account, unknown_currency
from ledger.state import (
    NOT_NETTED,
    PAYMENT_SCOPE,
    Claim,
    Code,
    Decision,
    Netting,
    Obligation,
    Rejection,
    Request,
    State,
)
from ledger.terms import Payment

CLEARED_ROLES = frozenset({"merchant", "beneficiary"})
"""Roles whose accounts are netted."""

MAX_EXACT_MERCHANTS = 14
"""Up to so many merchants with a position the fewest payments are found; the work doubles with each of them."""


def positions_of(obligations: Iterable[Obligation], merchants: Iterable[str], through: str) -> dict[str, int]:
    """Each merchant's position: what the others among them owe it through a day, less what it owes them.

    The obligations are all of one currency; those that a netting made are left out, and those with anyone else.
    Positions sum to zero.
    """
    positions = dict.fromkeys(merchants, 0)
    for owed in obligations:
        if (
            owed.netting == NOT_NETTED
            and owed.day <= through
            and owed.debtor in positions
            and owed.creditor in positions
        ):
            positions[owed.debtor] -= owed.amount
            positions[owed.creditor] += owed.amount
    return positions


def propose_payments(positions: Mapping[str, int]) -> tuple[Payment, ...]:
    """Few payments that give every merchant its position, each from one that owes to one that is owed.

    Merchants who settle among themselves alone need one payment fewer than they are, so the fewest payments are those
    of the most groups whose positions sum to zero. With up to :data:`MAX_EXACT_MERCHANTS` positions other than zero,
    once two that cancel each other have been paired off, the groups are found exactly. With more, which would take
    exponential time, the one that owes most pays the one that is owed most until so many are left; that still takes
    at most one payment fewer than there are merchants. The result depends on nothing but the positions.

    Raises :class:`ValueError` when the positions do not sum to zero.
    """
    if sum(positions.values()) != 0:
        raise ValueError("positions sum to zero: what one is owed another owes")
    rest = {merchant: amount for merchant, amount in sorted(positions.items()) if amount}
    payments: list[Payment] = []
    while rest:
        payments += _pair_off(rest)
        if len(rest) <= MAX_EXACT_MERCHANTS:
            for group in _most_groups(rest):
                payments += _settle_largest({merchant: rest[merchant] for merchant in group})
            break
        payments.append(_pay_largest(rest))
    return tuple(sorted(payments, key=lambda payment: (payment.debtor, payment.creditor)))


def _pair_off(rest: dict[str, int]) -> list[Payment]:
    """Settle two and two whose positions cancel, which some partition into the most groups always does."""
    creditors: dict[int, list[str]] = {}
    for merchant, amount in rest.items():
        if amount > 0:
            creditors.setdefault(amount, []).append(merchant)
    payments = []
    for debtor, amount in list(rest.items()):
        found = creditors.get(-amount)
        if amount < 0 and found:
            creditor = found.pop(0)
            payments.append(Payment(amount=-amount, creditor=creditor, debtor=debtor))
            del rest[debtor], rest[creditor]
    return payments


def _pay_largest(rest: dict[str, int]) -> Payment:
    """Let the one that owes most pay the one that is owed most all it can; one of them at least is then done."""
    debtor = min(rest, key=lambda merchant: (rest[merchant], merchant))
    creditor = min(rest, key=lambda merchant: (-rest[merchant], merchant))
    amount = min(-rest[debtor], rest[creditor])
    for merchant, change in ((debtor, amount), (creditor, -amount)):
        rest[merchant] += change
        if rest[merchant] == 0:
            del rest[merchant]
    return Payment(amount=amount, creditor=creditor, debtor=debtor)


def _settle_largest(rest: dict[str, int]) -> list[Payment]:
    payments = []
    while rest:
        payments.append(_pay_largest(rest))
    return payments


def _most_groups(positions: Mapping[str, int]) -> list[list[str]]:
    """Divide merchants into the most groups whose positions sum to zero.

    Dynamic programming over subsets, numbered by their bits: ``groups[subset]`` is the largest number of zero sums that
    one can meet on the way from nothing to the subset by adding a merchant at a time. The steps between two zero sums
    are a group.
    """
    merchants, amounts = list(positions), list(positions.values())
    sums, groups, added = [0], [0], [-1]
    for subset in range(1, 1 << len(merchants)):
        low = (subset & -subset).bit_length() - 1
        sums.append(sums[subset & (subset - 1)] + amounts[low])
        most, last = -1, low
        for i in range(len(merchants)):
            if subset >> i & 1 and groups[subset ^ (1 << i)] > most:
                most, last = groups[subset ^ (1 << i)], i
        groups.append(most + (sums[subset] == 0))
        added.append(last)
    found: list[list[str]] = []
    subset = (1 << len(merchants)) - 1
    while subset:
        if sums[subset] == 0:
            found.append([])
        found[-1].append(merchants[added[subset]])
        subset ^= 1 << added[subset]
    return found


def admit_net(ask: Request[Net]) -> Decision:
    """Decide ``net``: obligations of the merchants with each other go, the payments take their place."""
    state, op, time = ask.state, ask.op, ask.time
    if refusal := check_operator(ask.actor, "nets what merchants owe each other") or _check_currency(
        state, op.currency
    ):
        return refusal
    for i, merchant in enumerate(op.merchants):
        account = state.accounts.get(merchant)
        if account is None or account.role not in CLEARED_ROLES:
            message = f"there is no merchant or beneficiary {merchant}"
            return Rejection(Code.UNKNOWN_ACCOUNT, message, (f"merchants[{i}]",))
    if op.through > time[:10]:
        return Rejection(Code.NOT_YET_DUE, f"it is {time[:10]} UTC: name that day or an earlier one", ("through",))
    due = [
        owed
        for debtor, creditor in permutations(sorted(op.merchants), 2)
        for owed in state.obligations.group(op.currency, debtor, creditor)
        if owed.netting == NOT_NETTED and owed.day <= op.through
    ]
    if not due:
        message = f"nothing in {op.currency} is owed among these merchants through {op.through}"
        return Rejection(Code.NOTHING_DUE, message, ("through",))
    if refusal := _check_payments(op.payments, positions_of(due, op.merchants, op.through)):
        return refusal
    move = Movement(state, time)
    for owed in due:
        move.owe(owed.debtor, owed.creditor, owed.currency, -owed.amount, day=owed.day)
    for payment in op.payments:
        parties = (payment.debtor, payment.creditor)
        move.owe(*parties, op.currency, payment.amount, day=op.through, netting=state.size)
    move.put("nettings", Netting(seq=state.size, currency=op.currency, through=op.through, merchants=op.merchants))
    move.concern(op.merchants)
    return move.admission(op.actor)


def _check_payments(payments: Sequence[Payment], positions: Mapping[str, int]) -> Rejection | None:
    """Why payments do not bring about positions. One that passes money on would have others carry a risk not theirs."""
    paid = dict.fromkeys(positions, 0)
    for i, payment in enumerate(payments):
        if not positions[payment.debtor] < 0 < positions[payment.creditor]:
            message = (
                f"payment {i} is not from one that owes to one that is owed: {payment.debtor} is at "
                f"{positions[payment.debtor]}, {payment.creditor} at {positions[payment.creditor]}"
            )
            return Rejection(Code.NETTING_MISMATCH, message, ("payments",))
        paid[payment.debtor] -= payment.amount
        paid[payment.creditor] += payment.amount
    for merchant, position in positions.items():
        if paid[merchant] != position:
            message = f"the position of {merchant} is {position}, by the payments it comes to {paid[merchant]}"
            return Rejection(Code.NETTING_MISMATCH, message, ("payments",))
    return None


def admit_settle(ask: Request[Settle]) -> Decision:
    """Decide ``settle``: what nettings made is paid first, in their order, then what is not netted, by day."""
    state, op = ask.state, ask.op
    if refusal := _check_currency(state, op.currency):
        return refusal
    if op.debtor not in state.accounts:
        return unknown_account(op.debtor, ("debtor",))
    if refusal := check_reference(ask, PAYMENT_SCOPE, op.payment, ("payment",)):
        return refusal
    obligations = state.obligations.group(op.currency, op.debtor, op.actor)
    owed_amount = sum(owed.amount for owed in obligations)
    if op.amount > owed_amount:
        message = f"{op.debtor} owes {owed_amount} minor units of {op.currency}, no more"
        return Rejection(Code.SETTLED_TOO_MUCH, message, ("amount",), {"owed_amount": owed_amount})
    move = Movement(state, ask.time)
    rest = op.amount
    for owed in sorted(obligations, key=lambda owed: (owed.netting == NOT_NETTED, owed.netting, owed.day)):
        paid = min(owed.amount, rest)
        rest -= paid
        if paid:
            move.owe(owed.debtor, owed.creditor, owed.currency, -paid, day=owed.day, netting=owed.netting)
    move.refer(op.actor, PAYMENT_SCOPE, op.payment)
    if refusal := move.move_money(op.debtor, op.actor, op.currency, op.amount):
        return refusal
    return move.admission(op.actor)


def admit_dispute(ask: Request[Dispute]) -> Decision:
    """Decide ``dispute``: the claim is taken out of what is owed for its day, as long as that is there in full."""
    state, op = ask.state, ask.op
    claim = state.claims.get(op.claim.seq, op.claim.index)
    if claim is None or op.actor not in (claim.debtor, claim.creditor):
        return _unknown_claim(op)
    if claim.status == "disputed":
        return Rejection(Code.DISPUTED, f"{claim.disputed_by} disputes this claim already", ("claim",))
    if claim.disputed_by == op.actor and claim.status == "open":
        message = f"{op.actor} disputed this claim before and it stands: it is disputed once"
        return Rejection(Code.CLAIM_CLOSED, message, ("claim",))
    owed = _owed_that_day(state, claim)
    if claim.status == "cancelled" or owed < claim.amount:
        what = "was cancelled" if claim.status == "cancelled" else "is netted or settled already"
        return Rejection(Code.CLAIM_CLOSED, f"this claim {what}", ("claim",))
    move = Movement(state, ask.time)
    move.owe(claim.debtor, claim.creditor, claim.currency, -claim.amount, day=claim.day)
    move.put("claims", replace(claim, status="disputed", disputed_by=op.actor))
    move.concern([claim.debtor, claim.creditor])
    return move.admission(op.actor)


def admit_resolve_dispute(ask: Request[ResolveDispute]) -> Decision:
    """Decide ``resolve_dispute``: who disputed lets the claim stand, the creditor cancels it, the operator may both."""
    state, op = ask.state, ask.op
    claim = state.claims.get(op.claim.seq, op.claim.index)
    is_operator = ask.actor.role == "operator"
    if claim is None or not (is_operator or op.actor in (claim.debtor, claim.creditor)):
        return _unknown_claim(op)
    if claim.status != "disputed":
        return Rejection(Code.NOT_DISPUTED, f"this claim is {claim.status}, nobody disputes it", ("claim",))
    entitled = claim.disputed_by if op.outcome == "stands" else claim.creditor
    if not is_operator and op.actor != entitled:
        message = f"only {entitled} or the operator resolves the dispute this way"
        return Rejection(Code.NOT_PERMITTED, message, ("actor",))
    move = Movement(state, ask.time)
    refusal = _let_stand(move, claim) if op.outcome == "stands" else _cancel(move, claim)
    if refusal is not None:
        return refusal
    move.concern([claim.debtor, claim.creditor])
    return move.admission(op.actor)


def _let_stand(move: Movement, claim: Claim) -> Rejection | None:
    """Count a claim again, under its own day, even when what else was owed for that day has been netted since."""
    if _owed_that_day(move.state, claim) + claim.amount > MAX_INTEGER:
        message = f"{claim.debtor} would owe {claim.creditor} more than 2^53-1 minor units for {claim.day}"
        return Rejection(Code.AMOUNT_OVERFLOW, message)
    move.owe(claim.debtor, claim.creditor, claim.currency, claim.amount, day=claim.day)
    move.put("claims", replace(claim, status="open"))  # who disputed it cannot do so for ever
    return None


def _cancel(move: Movement, claim: Claim) -> Rejection | None:
    move.put("claims", replace(claim, status="cancelled"))
    return move.move_money(claim.debtor, claim.creditor, claim.currency, claim.amount)


def _owed_that_day(state: State, claim: Claim) -> int:
    owed = state.obligations.get(claim.currency, claim.debtor, claim.creditor, NOT_NETTED, claim.day)
    return 0 if owed is None else owed.amount


def _unknown_claim(op: Dispute | ResolveDispute) -> Rejection:
    message = f"{op.actor} has no claim {op.claim.index} of entry {op.claim.seq}"
    return Rejection(Code.UNKNOWN_CLAIM, message, ("claim",))


def _check_currency(state: State, code: str) -> Rejection | None:
    assert state.parameters is not None
    return None if code in state.parameters.units else unknown_currency(state, code, ("currency",))
