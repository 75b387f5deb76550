"""Vouchers: rewards that members have for their points, by choice or by themselves, and what becomes of them.

How many of a reward were had is counted for all, since its stock is that of all versions of a program, and for each
member where the reward is limited. What is given back is counted off again, in the period in which it was had.
"""

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec.structs import replace

from ledger.calculation import Bought, plan_on, when_holds
from ledger.entries import NO_LAST_DAY
from ledger.movements import ALL_HOLDERS, Movement, choose_lots, period_of, spendable, usable_lots
from ledger.operations import Redeem, UseVoucher
from ledger.participation import membership_of, tier_in, tiers_now
from ledger.program_terms import Reward
from ledger.programs import ProgramVersion, version_at
from ledger.refusals import check_not_frozen, program_in_force
from ledger.state import (
    SYS_SPENT,
    Circumstances,
    Code,
    Decision,
    Rejection,
    Request,
    Spending,
    State,
    Voucher,
    reward_scope,
)

MAX_AT_A_TIME = 100
"""How many of a reward an account can have by one entry."""

MAX_BY_THEMSELVES = 1_000
"""How many of an automatic reward all accounts of an entry have together: a writer stores every voucher."""

MAX_LOTS_AT_A_TIME = 100
"""From how many of an account's lots, the earliest, an automatic reward takes points by one entry.

An entry is bounded: who has points in very many lots could not earn any more if all of them went into a reward.
"""


def check_reward(move: Movement, op: Redeem) -> Reward | Rejection:
    """The reward that a redemption is for, which its actor may have so many of; otherwise why not."""
    version = program_in_force(move.state, op.asset, move.time)
    rewards = () if isinstance(version, Rejection) else version.program.rewards
    reward = next((each for each in rewards if each.reward == op.reward), None)
    if reward is None or op.merchant != move.state.assets[op.asset].issuer:
        known = ", ".join(each.reward for each in rewards) or "none"
        message = f"there is no reward {op.reward} at {op.merchant} now (the issuer of {op.asset} has: {known})"
        return Rejection(Code.UNKNOWN_REWARD, message, ("reward",))
    if not _is_available(move, reward, op.asset, op.actor):
        message = f"the reward {op.reward} is not for {op.actor} today: see the program for whom and when it is"
        return Rejection(Code.REWARD_UNAVAILABLE, message, ("reward",))
    number, rest = divmod(op.amount, reward.price)
    if rest or not 1 <= number <= MAX_AT_A_TIME:
        message = f"one {op.reward} is {reward.price} points: give that for each, at most {MAX_AT_A_TIME} at a time"
        return Rejection(Code.PRICE_MISMATCH, message, ("amount",), {"price": reward.price})
    return _check_left(move, reward, op, number) or reward


def _check_left(move: Movement, reward: Reward, op: Redeem, number: int) -> Rejection | None:
    if reward.limit is not None and number > _left_of_limit(move, reward, op.asset, op.actor):
        limit = reward.limit
        message = f"{op.actor} may have {limit.count} of {op.reward} {_per(limit.period)}"
        return Rejection(Code.LIMIT_REACHED, message, ("reward",), {"count": limit.count, "period": limit.period})
    left = _left_in_stock(move, reward, op.asset)
    if left is not None and number > left:
        return Rejection(Code.OUT_OF_STOCK, f"{left} of {op.reward} are left", ("reward",), {"left": left})
    return None


def _per(period: str) -> str:
    return "in all" if period == "ever" else f"a {period}"


def _is_available(move: Movement, reward: Reward, asset: str, account: str) -> bool:
    """Whether what a reward asks of a member and of the day is so now."""
    if reward.when is None:
        return True
    today, member = move.today(asset), membership_of(move, asset, account)
    circumstances = Circumstances(
        formula=None if member is None else member.formula,
        invited=member is not None and member.invited_by is not None,
        joined_on=None if member is None else member.joined_on,
        plan=plan_on(member, today),
        tier=tier_in(move, tiers_now(move, asset), asset, account, today),
    )
    issuer = move.state.assets[asset].issuer
    return when_holds(reward.when, Bought(amount=0, merchant=issuer, earned_on=today, circumstances=circumstances))


def _left_of_limit(move: Movement, reward: Reward, asset: str, account: str) -> int:
    assert reward.limit is not None
    period = period_of(reward.limit, move.today(asset))
    return max(reward.limit.count - move.used(reward_scope(asset, reward.reward), account, period), 0)


def _left_in_stock(move: Movement, reward: Reward, asset: str) -> int | None:
    if reward.stock is None:
        return None
    return max(reward.stock - move.used(reward_scope(asset, reward.reward), ALL_HOLDERS, "ever"), 0)


def give_vouchers(move: Movement, reward: Reward, *, asset: str, account: str, number: int, first: int = 0) -> None:
    """Let an account have vouchers of a reward, numbered in their entry from ``first`` on, and count them."""
    today = move.today(asset)
    last_day = NO_LAST_DAY
    if reward.valid_days is not None:
        last_day = (date.fromisoformat(today) + timedelta(days=reward.valid_days)).isoformat()
    for index in range(first, first + number):
        voucher = Voucher(
            seq=move.state.size,
            index=index,
            account=account,
            asset=asset,
            merchant=move.state.assets[asset].issuer,
            reward=reward.reward,
            price=reward.price,
            worth=reward.worth,
            last_day=last_day,
        )
        move.put("vouchers", voucher)
    scope = reward_scope(asset, reward.reward)
    move.change_use(scope, ALL_HOLDERS, "ever", number)
    if reward.limit is not None:
        move.change_use(scope, account, period_of(reward.limit, today), number)


def automatic_reward(version: ProgramVersion | None) -> Reward | None:
    """The reward of a program that members have by themselves, if there is one."""
    rewards = () if version is None else version.program.rewards
    return next((reward for reward in rewards if reward.automatic), None)


def have_automatic(move: Movement, asset: str, accounts: Iterable[str]) -> None:
    """Let each of the accounts, in their order, have what it can of the asset's automatic reward, if there is one.

    As many as the points of its earliest lots, the reward's limit and the stock allow; what is missing refuses nothing.
    Nothing is taken from a frozen account. To be called once for an entry, when all that it gives has been given.
    """
    reward = automatic_reward(move.state.program_at(asset, move.time))
    if reward is None:
        return
    first, today = 0, move.today(asset)
    for account in accounts:
        number = min(_number_to_have(move, reward, asset, account), MAX_BY_THEMSELVES - first)
        if number == 0:
            continue
        parts = choose_lots(move.lots(account, asset), today, asset, number * reward.price, ())
        assert not isinstance(parts, Rejection)
        move.take(account, asset, parts)
        move.leg(SYS_SPENT, asset, number * reward.price)
        give_vouchers(move, reward, asset=asset, account=account, number=number, first=first)
        first += number


def _number_to_have(move: Movement, reward: Reward, asset: str, account: str) -> int:
    lots, today = move.lots(account, asset), move.today(asset)
    points = sum(points for _, points in usable_lots(lots, today)[:MAX_LOTS_AT_A_TIME])
    bounds = [MAX_AT_A_TIME, min(points, spendable(lots, today)) // reward.price]
    if bounds[1] == 0 or move.state.accounts[account].frozen_seq is not None:
        return 0
    if reward.limit is not None:
        bounds.append(_left_of_limit(move, reward, asset, account))
    left = _left_in_stock(move, reward, asset)
    if left is not None:
        bounds.append(left)
    return min(bounds) if _is_available(move, reward, asset, account) else 0


def take_vouchers_back(move: Movement, spending: Spending, amount: int) -> Rejection | None:
    """Cancel the vouchers of a redemption that is refunded, none of which has been used; nothing without any."""
    if spending.reward is None:
        return None
    if amount != spending.amount:
        message = f"what a reward was had for is refunded whole: {spending.amount} points"
        return Rejection(Code.PRICE_MISMATCH, message, ("of", "amount"), {"price": spending.amount})
    vouchers: list[Voucher | None] = [move.get("vouchers", spending.seq, index) for index in range(spending.vouchers)]
    for voucher in vouchers:
        assert voucher is not None  # they are kept for good
        if voucher.status != "issued":
            message = f"voucher {voucher.index} of entry {voucher.seq} is {voucher.status}"
            return Rejection(Code.VOUCHER_CLOSED, message, ("of", "operation"), {"index": voucher.index})
        move.put("vouchers", replace(voucher, status="cancelled"))
    scope, number = reward_scope(spending.asset, spending.reward), spending.vouchers
    move.change_use(scope, ALL_HOLDERS, "ever", -number)
    period = period_had(move.state, spending)
    if period is not None:
        move.change_use(scope, spending.account, period, -min(number, move.used(scope, spending.account, period)))
    return None


def period_had(state: State, spending: Spending) -> str | None:
    """The period in which a redemption's reward was counted for its member; ``None`` where that was not limited.

    By the versions that there were: a later one may start a little before it was recorded.
    """
    known = [version for version in state.programs.get(spending.asset, ()) if version.seq < spending.seq]
    version = version_at(known, spending.time)
    rewards = () if version is None else version.program.rewards
    limit = next((each.limit for each in rewards if each.reward == spending.reward), None)
    return None if limit is None else period_of(limit, state.today(spending.asset, spending.time))


def admit_use_voucher(ask: Request[UseVoucher]) -> Decision:
    """Decide ``use_voucher``: at the merchant whose reward it is, through its last day, once."""
    state, op = ask.state, ask.op
    voucher = state.vouchers.get(op.voucher.seq, op.voucher.index)
    if voucher is None or voucher.merchant != op.actor:
        # Of a voucher for somebody else's reward it is not said that there is one.
        message = f"there is no voucher {op.voucher.index} of entry {op.voucher.seq} here"
        return Rejection(Code.UNKNOWN_VOUCHER, message, ("voucher",))
    if voucher.status != "issued":
        return Rejection(Code.VOUCHER_CLOSED, f"the voucher is {voucher.status}", ("voucher",))
    if voucher.last_day < state.today(voucher.asset, ask.time):
        message = f"the voucher was good through {voucher.last_day}"
        return Rejection(Code.VOUCHER_EXPIRED, message, ("voucher",), {"last_day": voucher.last_day})
    if refusal := check_not_frozen(state, voucher.account, ("voucher",)):
        return refusal
    move = Movement(state, ask.time)
    move.put("vouchers", replace(voucher, status="used", used_seq=state.size))
    move.concern((voucher.account,))
    return move.admission(op.actor)
