"""Pools: members who spend each other's points of an asset.

Every member signs when a pool is formed, and whoever is in it can spend what all of them have, until it leaves. What is
spent is taken from each in proportion to the points that it can use, so that nobody's go first; in whole points, the
greatest remainders are rounded up. A frozen member gives nothing. Points that come back return to whose they were.

Worked example: of 100 points, members who have 300, 200 and 0 give 60, 40 and 0. Of 10, who have 50 each give 4, 3, 3.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from ledger.encoding import account_id
from ledger.membership import join
from ledger.movements import Movement, insufficient_points, spendable
from ledger.operations import FormPool, LeavePool
from ledger.participation import membership_of
from ledger.refusals import check_member, unknown_asset, unknown_member
from ledger.state import Code, Decision, Part, Pool, Rejection, Request

HeldPart = tuple[str, Part]
"""Points of one lot, and whose they are."""


def admit_form_pool(ask: Request[FormPool]) -> Decision:
    """Decide ``form_pool``: that all members have signed has been seen to."""
    state, op = ask.state, ask.op
    if refusal := check_member(ask.actor):
        return refusal
    for i, account in enumerate(op.members):
        if state.accounts[account].role != "member":
            return unknown_member(account, (f"members[{i}]",))
    if op.asset not in state.assets:
        return unknown_asset(op.asset)
    move = Movement(state, ask.time)
    pool = Pool(pool=account_id("pol", ask.op_id), asset=op.asset, members=(op.actor, *op.members))
    paths = ["actor", *(f"members[{i}]" for i in range(len(op.members)))]
    for account, path in zip(pool.members, paths, strict=True):
        member = membership_of(move, op.asset, account) or join(move, op.asset, account)
        if member.pool is not None:
            message = f"{account} is in a pool of {op.asset} already: it must leave that first"
            return Rejection(Code.ALREADY_POOLED, message, (path,))
        move.put("memberships", replace(member, pool=pool.pool))
    move.put("pools", pool)
    move.concern((*op.members, state.assets[op.asset].issuer))
    return move.admission(op.actor)


def admit_leave_pool(ask: Request[LeavePool]) -> Decision:
    """Decide ``leave_pool``: one's own points are one's own again; of what others spent nothing comes back."""
    state, op = ask.state, ask.op
    if op.asset not in state.assets:
        return unknown_asset(op.asset)
    move = Movement(state, ask.time)
    pool = pool_of(move, op.asset, op.actor, ("asset",))
    if isinstance(pool, Rejection):
        return pool
    rest = tuple(member for member in pool.members if member != op.actor)
    _free(move, op.asset, op.actor)
    if len(rest) == 1:
        _free(move, op.asset, rest[0])
        move.remove("pools", pool.pool)
    else:
        move.put("pools", replace(pool, members=rest))
    move.concern((*rest, state.assets[op.asset].issuer))
    return move.admission(op.actor)


def _free(move: Movement, asset: str, account: str) -> None:
    member = membership_of(move, asset, account)
    assert member is not None
    move.put("memberships", replace(member, pool=None))


def pool_of(move: Movement, asset: str, account: str, path: tuple[str, ...]) -> Pool | Rejection:
    """The pool of an asset that an account is in."""
    member = membership_of(move, asset, account)
    if member is None or member.pool is None:
        return Rejection(Code.NO_POOL, f"{account} is in no pool of {asset}", path)
    pool: Pool | None = move.get("pools", member.pool)
    assert pool is not None  # as long as somebody is in it
    return pool


def spend_from_pool(move: Movement, pool: Pool, amount: int, path: tuple[str, ...]) -> list[HeldPart] | Rejection:
    """Take points from all members of a pool; what was taken, each member's earliest last day first."""
    asset, today = pool.asset, move.today(pool.asset)
    sharers = [account for account in pool.members if move.state.accounts[account].frozen_seq is None]
    for account in sharers:
        move.return_lapsed(account, asset)
    available = [spendable(move.lots(account, asset), today) for account in sharers]
    if sum(available) < amount:
        return insufficient_points(asset, amount, sum(available), path)
    taken: list[HeldPart] = []
    for account, share in zip(sharers, shares(amount, available), strict=True):
        if share:
            move.refresh(account, asset, today)
            parts = move.spend(account, asset, share, path)
            assert not isinstance(parts, Rejection)
            taken += [(account, part) for part in parts]
            move.concern((account,))
    return taken


def shares(amount: int, available: Sequence[int]) -> list[int]:
    """How many of so many points each gives, in proportion to what it has; together they have as many.

    Each gives the whole points of its share, and those with the greatest remainders one more, the first before others.
    """
    total = sum(available)
    whole = [amount * points // total for points in available]
    remainders = [amount * points % total for points in available]
    first = sorted(range(len(available)), key=lambda i: -remainders[i])
    for i in first[: amount - sum(whole)]:
        whole[i] += 1
    return whole
