"""Vesting: the points of purchases that were promised for a later day, and are issued from then on."""

from ledger.earning import Gain, gains_of, issue
from ledger.movements import Movement
from ledger.operations import Vest
from ledger.refusals import check_issuer_or_operator
from ledger.state import Code, Decision, Pending, Rejection, Request


def admit_vest(ask: Request[Vest]) -> Decision:
    """Decide ``vest``: purchases without points that are due by now are passed over."""
    state, op = ask.state, ask.op
    if refusal := check_issuer_or_operator(state, op.asset, ask.actor, "issues vested points of"):
        return refusal
    move = Movement(state, ask.time)
    gains: list[Gain] = []
    due = [pending for pending in _promised(move, op) if pending.vests_on <= move.today(op.asset)]
    for pending in due:
        program = state.programs[op.asset][pending.version - 1].program
        gains += gains_of(move, pending, program, ask.time)
        move.remove("pending", pending.merchant, pending.order)
    if not due:
        message = f"no points of {op.asset} of these purchases are due"
        return Rejection(Code.NOTHING_DUE, message, ("purchases",))
    return issue(move, op.asset, gains, ("purchases",)) or move.admission(op.actor)


def _promised(move: Movement, op: Vest) -> list[Pending]:
    """What has not been issued yet of the purchases named, in their order."""
    found = (move.get("pending", each.merchant, each.order) for each in op.purchases)
    return [pending for pending in found if pending is not None and pending.asset == op.asset]
