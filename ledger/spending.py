"""Spending: points on their way out of an account, by transfer, redemption, exchange or hold, or by their last day."""

from collections.abc import Sequence

from msgspec.structs import replace

from ledger.agreements import acceptance_name, claim_by, exchange_name, given_of, in_force, outcome, received_by
from ledger.encoding import account_id, format_time, parse_time
from ledger.entries import NO_LAST_DAY, Posting, lot_posting
from ledger.movements import (
    ALL_HOLDERS,
    Movement,
    check_bounds,
    check_fee,
    choose_lots,
    claim_for,
    fee_for,
    has_lapsed,
    split,
)
from ledger.operations import Capture, Exchange, Expire, Hold, Redeem, Release, Transfer
from ledger.pools import HeldPart, pool_of, spend_from_pool
from ledger.program_terms import ExpiresAfterInactivity
from ledger.refusals import (
    HOLDER_ROLES,
    check_holder,
    check_issuer_or_operator,
    check_not_frozen,
    unknown_account,
    unknown_asset,
)
from ledger.state import (
    SYS_EXPIRED,
    SYS_HELD,
    SYS_ISSUED,
    SYS_SPENT,
    Admission,
    Agreement,
    Asset,
    Code,
    Decision,
    Part,
    PointsHold,
    Rejection,
    Request,
    Spending,
    State,
    transfer_scopes,
)
from ledger.terms import EarningTerms, ExchangeTerms
from ledger.vouchers import check_reward, give_vouchers

MAX_OPEN_HOLDS = 100
"""How many holds of one asset an account can have open at a time; lapsed ones do not count."""

MAX_HOLD_DAYS = 366
MAX_HOLD_MS = MAX_HOLD_DAYS * 86_400_000
"""How long a hold lasts at most."""


def admit_transfer(ask: Request[Transfer]) -> Decision:
    """Decide ``transfer``."""
    state, op = ask.state, ask.op
    if refusal := check_holder(ask.actor):
        return refusal
    asset = state.assets.get(op.asset)
    if asset is None:
        return unknown_asset(op.asset)
    if not asset.transferable:
        return Rejection(Code.NOT_TRANSFERABLE, f"{op.asset} cannot be transferred between holders", ("asset",))
    total = 0
    for i, recipient in enumerate(op.recipients):
        account = state.accounts.get(recipient.to)
        if account is None:
            return unknown_account(recipient.to, (f"recipients[{i}]", "to"))
        if account.role not in HOLDER_ROLES:
            return Rejection(Code.NOT_A_HOLDER, f"the role {account.role} holds no points", (f"recipients[{i}]", "to"))
        total += recipient.amount
    bound = asset.transfer_terms is not None and op.actor != asset.issuer
    lots = state.lots_of(op.actor, op.asset)
    if len(lots) == 1 and not bound and lots.get(NO_LAST_DAY, 0) >= total and not _has_holds(state, op):
        return Admission(_move(op, [(NO_LAST_DAY, total)]))  # as most are
    move = Movement(state, ask.time)
    fee = 0
    if bound:
        fee_or_refusal = _check_terms(move, op, asset, total)
        if isinstance(fee_or_refusal, Rejection):
            return fee_or_refusal
        fee = fee_or_refusal
    parts = _spend(move, op.actor, op.asset, total, ("recipients",))
    if isinstance(parts, Rejection):
        return parts
    move.legs += _move(op, parts)[len(parts) :]
    if fee:
        assert asset.transfer_terms is not None
        assert asset.transfer_terms.fee is not None
        if refusal := move.claim(op.actor, asset.issuer, asset.transfer_terms.fee.currency, fee):
            return refusal
    return move.admission(op.actor)


def _has_holds(state: State, op: Transfer) -> bool:
    return bool(state.holds.group(op.actor, op.asset))


def _check_terms(move: Movement, op: Transfer, asset: Asset, total: int) -> int | Rejection:
    """The fee of a transfer that the asset's terms allow."""
    terms = asset.transfer_terms
    assert terms is not None
    for i, recipient in enumerate(op.recipients):
        each = (f"recipients[{i}]", "amount")
        if refusal := check_bounds(recipient.amount, step=terms.step, minimum=1, maximum=None, path=each):
            return refusal
    path = ("recipients",)
    if refusal := check_bounds(total, step=1, minimum=terms.minimum, maximum=terms.maximum, path=path):
        return refusal
    sent, received = transfer_scopes(op.asset)
    if refusal := move.use(terms.out_cap, sent, op.actor, total, asset=op.asset, path=path):
        return refusal
    for i, recipient in enumerate(op.recipients):
        if recipient.to == asset.issuer:
            continue
        each = (f"recipients[{i}]", "amount")
        if refusal := move.use(terms.in_cap, received, recipient.to, recipient.amount, asset=op.asset, path=each):
            return refusal
    fee = fee_for(terms.fee, total)
    if terms.fee is not None and (refusal := check_fee(fee, op.maximum_fee, terms.fee.currency)):
        return refusal
    return fee


def _spend(move: Movement, account: str, asset: str, amount: int, path: tuple[str, ...]) -> list[Part] | Rejection:
    """Take points that an account spends: which keeps all of its points alive where they end by inactivity."""
    move.return_lapsed(account, asset)
    move.refresh(account, asset, move.today(asset))
    return move.spend(account, asset, amount, path)


def _move(op: Transfer, parts: list[tuple[str, int]]) -> tuple[Posting, ...]:
    """Legs of a transfer: what each lot gives, then what each recipient gets of which lot, in the document's order."""
    legs = [lot_posting(op.actor, op.asset, -points, day) for day, points in parts]
    if len(parts) == 1 and len(op.recipients) == 1:
        legs.append(Posting(account=op.recipients[0].to, amount=parts[0][1], asset=op.asset, lot=legs[0].lot))
        return tuple(legs)
    rest = list(reversed(parts))
    for recipient in op.recipients:
        wanted = recipient.amount
        while wanted:
            day, points = rest.pop()
            taken = min(points, wanted)
            if points > taken:
                rest.append((day, points - taken))
            wanted -= taken
            legs.append(lot_posting(recipient.to, op.asset, taken, day))
    return tuple(legs)


def admit_redeem(ask: Request[Redeem]) -> Decision:
    """Decide ``redeem``: at the issuer, or by an agreement at whoever accepts the points."""
    state, op = ask.state, ask.op
    if refusal := check_holder(ask.actor):
        return refusal
    asset = state.assets.get(op.asset)
    if asset is None:
        return unknown_asset(op.asset)
    move = Movement(state, ask.time)
    agreement = _accept(move, op, asset)
    if isinstance(agreement, Rejection):
        return agreement
    if agreement is None and _is_simple(ask):
        return _redeem_at_issuer(ask)  # as most are
    reward = check_reward(move, op) if op.reward is not None else None
    if isinstance(reward, Rejection):
        return reward
    taken = _take_redeemed(move, op)
    if isinstance(taken, Rejection):
        return taken
    parts = [part for _, part in taken]
    move.receive(op.merchant, op.asset, parts, received_by(agreement))
    claimed = 0 if agreement is None else claim_for(agreement.terms.claim, op.amount)
    if agreement is not None and (refusal := claim_by(move, agreement, claimed)):
        return refusal
    spent = _under(_spent(ask, op.actor, op.merchant, op.asset, parts), agreement, claim_amount=claimed)
    if op.from_pool:
        spent = replace(spent, holders=tuple(holder for holder, _ in taken))
    if reward is not None:
        number = op.amount // reward.price
        give_vouchers(move, reward, asset=op.asset, account=op.actor, number=number)
        spent = replace(spent, reward=reward.reward, vouchers=number)
    move.put("spendings", spent)
    move.concern((op.merchant,))
    return move.admission(op.actor)


def _is_simple(ask: Request[Redeem]) -> bool:
    """Whether a redemption takes lots of the actor's and does nothing else."""
    state, op = ask.state, ask.op
    if op.reward is not None or op.from_pool or state.holds.group(op.actor, op.asset):
        return False
    version = state.program_at(op.asset, ask.time)
    return version is None or not isinstance(version.program.expiry, ExpiresAfterInactivity)


def _take_redeemed(move: Movement, op: Redeem) -> list[HeldPart] | Rejection:
    """Take the points of a redemption from its actor, or from all members of its pool."""
    if op.from_pool:
        pool = pool_of(move, op.asset, op.actor, ("from_pool",))
        return pool if isinstance(pool, Rejection) else spend_from_pool(move, pool, op.amount, ("amount",))
    parts = _spend(move, op.actor, op.asset, op.amount, ("amount",))
    return parts if isinstance(parts, Rejection) else [(op.actor, part) for part in parts]


def _redeem_at_issuer(ask: Request[Redeem]) -> Decision:
    """The issuer retires its own points: no terms, no money, nothing that a leg depends on."""
    state, op = ask.state, ask.op
    lots = state.lots_of(op.actor, op.asset)
    parts = choose_lots(lots, state.today(op.asset, ask.time), op.asset, op.amount, ("amount",))
    if isinstance(parts, Rejection):
        return parts
    legs = [lot_posting(op.actor, op.asset, -points, day) for day, points in parts]
    legs.append(Posting(account=SYS_SPENT, amount=op.amount, asset=op.asset))
    spent = _spent(ask, op.actor, op.merchant, op.asset, parts)
    return Admission(
        tuple(legs),
        changes=(("spendings", (spent.operation,), spent),),
        parties=(op.merchant,) if op.merchant != op.actor else (),
    )


def _accept(move: Movement, op: Redeem | Hold, asset: Asset) -> Agreement | Rejection | None:
    """The agreement by which a merchant takes points, counted under its caps; ``None`` at their issuer."""
    roles: tuple[str, ...] = ("merchant", "beneficiary") if isinstance(op, Redeem) else ("merchant",)
    merchant = move.state.accounts.get(op.merchant)
    if merchant is None or merchant.role not in roles:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no {' or '.join(roles)} {op.merchant}", ("merchant",))
    agreement = None
    if merchant.id != asset.issuer:
        agreement = in_force(move.state, acceptance_name(op.asset, op.merchant), move.time)
        if agreement is None:
            message = f"no agreement lets {op.merchant} take {op.asset} now; its issuer {asset.issuer} does"
            return Rejection(Code.NOT_ACCEPTED, message, ("merchant",))
    if refusal := check_not_frozen(move.state, op.merchant, ("merchant",)):
        return refusal
    if agreement is not None and (refusal := _check_amount(move, agreement, op.actor, op.amount)):
        return refusal
    return agreement


def _check_amount(move: Movement, agreement: Agreement, account: str, amount: int) -> Rejection | None:
    """Why an account cannot give so many points by an agreement; otherwise they are counted under its caps."""
    terms, name, path = agreement.terms, agreement.agreement, ("amount",)
    assert not isinstance(terms, EarningTerms)
    if refusal := check_bounds(amount, step=terms.step, minimum=terms.minimum, maximum=terms.maximum, path=path):
        return refusal
    if refusal := move.use(terms.holder_cap, name, account, amount, asset=terms.asset, path=path):
        return refusal
    return move.use(terms.total_cap, name, ALL_HOLDERS, amount, asset=terms.asset, path=path)


def _spent(
    ask: Request[Redeem] | Request[Exchange] | Request[Capture],
    account: str,
    merchant: str,
    asset: str,
    parts: Sequence[Part],
) -> Spending:
    """What an operation spends, for refunds; of the asset's issuer, see :func:`_under` for others."""
    return Spending(
        operation=ask.op_id.hex(),
        seq=ask.state.size,
        kind=ask.op.KIND,
        time=ask.time,
        account=account,
        asset=asset,
        amount=sum(points for _, points in parts),
        merchant=merchant,
        agreement=None,
        version=None,
        parts=tuple(parts),
    )


def _under(spent: Spending, agreement: Agreement | None, **amounts: int) -> Spending:
    """What was spent by an agreement, and what came of it."""
    if agreement is None:
        return spent
    return replace(spent, agreement=agreement.agreement, version=agreement.version, **amounts)


def admit_exchange(ask: Request[Exchange]) -> Decision:
    """Decide ``exchange``."""
    state, op = ask.state, ask.op
    if refusal := check_holder(ask.actor):
        return refusal
    agreement = _exchange_agreement(ask)
    if isinstance(agreement, Rejection):
        return agreement
    move, terms = Movement(state, ask.time), agreement.terms
    assert isinstance(terms, ExchangeTerms)
    given = given_of(terms, op.amount)
    if refusal := _check_amount(move, agreement, op.actor, given):
        return refusal
    out, fee = outcome(terms, given), fee_for(terms.fee, given)
    if refusal := _check_outcome(op, terms, given, out=out, fee=fee):
        return refusal
    parts = _spend(move, op.actor, op.asset, given, ("amount",))
    if isinstance(parts, Rejection):
        return parts
    if refusal := move.check_issue(op.into, out, ("into",)):
        return refusal
    move.receive(agreement.partner, op.asset, parts, terms.received)
    move.leg(SYS_ISSUED, op.into, -out)
    move.leg(op.actor, op.into, out, move.lot_for(op.actor, op.into))
    claimed = claim_for(terms.claim, given)
    if terms.fee is not None and terms.fee.kept_by == op.actor:
        fee = 0  # nobody owes itself
    if refusal := claim_by(move, agreement, claimed) or _owe_fee(move, agreement, op.actor, fee):
        return refusal
    spent = _spent(ask, op.actor, agreement.partner, op.asset, parts)
    move.put("spendings", _under(spent, agreement, out_points=out, claim_amount=claimed, fee_amount=fee))
    return move.admission(op.actor)


def _exchange_agreement(ask: Request[Exchange]) -> Agreement | Rejection:
    """The agreement by which the issuers of two assets exchange them now."""
    state, op = ask.state, ask.op
    assets = {name: state.assets.get(code) for name, code in (("asset", op.asset), ("into", op.into))}
    for name, asset in assets.items():
        if asset is None:
            return unknown_asset(getattr(op, name), (name,))
    agreement = in_force(state, exchange_name(op.asset, op.into), ask.time)
    if agreement is None:
        return Rejection(Code.NO_AGREEMENT, f"no agreement makes {op.into} of {op.asset} now", ("into",))
    for name, asset in assets.items():
        if asset is not None and (refusal := check_not_frozen(state, asset.issuer, (name,))):
            return refusal
    return agreement


def _check_outcome(op: Exchange, terms: ExchangeTerms, given: int, *, out: int, fee: int) -> Rejection | None:
    """Why what comes out, and what it costs, is not what the holder agreed to."""
    if out < op.minimum_out:
        message = f"{given} points of {op.asset} become {out} of {op.into}, fewer than minimum_out"
        return Rejection(Code.OUTCOME_TOO_SMALL, message, ("minimum_out",), {"outcome_points": out})
    if terms.fee is None:
        return None
    return check_fee(fee, op.maximum_fee, terms.fee.currency)


def _owe_fee(move: Movement, agreement: Agreement, account: str, amount: int) -> Rejection | None:
    assert isinstance(agreement.terms, ExchangeTerms)
    fee = agreement.terms.fee
    if fee is None:
        return None
    return move.claim(account, fee.kept_by, fee.currency, amount, agreement.agreement)


def admit_hold(ask: Request[Hold]) -> Decision:
    """Decide ``hold``: points are counted under caps when they are set aside, and stay so if they return."""
    state, op, time = ask.state, ask.op, ask.time
    if refusal := check_holder(ask.actor):
        return refusal
    asset = state.assets.get(op.asset)
    if asset is None:
        return unknown_asset(op.asset)
    move = Movement(state, time)
    agreement = _accept(move, op, asset)
    if isinstance(agreement, Rejection):
        return agreement
    if not time < op.until <= format_time(parse_time(time) + MAX_HOLD_MS):
        message = f"a hold lasts longer than {time} and at most {MAX_HOLD_DAYS} days"
        return Rejection(Code.UNTIL_OUT_OF_RANGE, message, ("until",))
    if sum(not has_lapsed(hold, time) for hold in state.holds.group(op.actor, op.asset)) >= MAX_OPEN_HOLDS:
        message = f"{MAX_OPEN_HOLDS} holds of {op.asset} are open: let one be captured or released first"
        return Rejection(Code.TOO_MANY_HOLDS, message, ("asset",))
    parts = _spend(move, op.actor, op.asset, op.amount, ("amount",))
    if isinstance(parts, Rejection):
        return parts
    move.leg(SYS_HELD, op.asset, op.amount)
    hold = PointsHold(
        hold=account_id("hld", ask.op_id),
        account=op.actor,
        asset=op.asset,
        merchant=op.merchant,
        amount=op.amount,
        captured=0,
        parts=tuple(parts),
        agreement=None if agreement is None else agreement.agreement,
        version=None if agreement is None else agreement.version,
        until=op.until,
        reference=op.reference,
        seq=state.size,
        status="open",
    )
    move.put("holds", hold)
    move.concern((op.merchant,))
    return move.admission(op.actor)


def admit_capture(ask: Request[Capture]) -> Decision:
    """Decide ``capture``: under the terms that were in force when the points were set aside."""
    state, op = ask.state, ask.op
    hold = _hold_to_capture(ask)
    if isinstance(hold, Rejection):
        return hold
    agreement = None if hold.agreement is None else state.agreements.get(hold.agreement, hold.version)
    move = Movement(state, ask.time)
    taken, rest = split(hold.parts, op.amount)
    returned = rest if op.final else []
    move.leg(SYS_HELD, hold.asset, -op.amount - sum(points for _, points in returned))
    move.receive(hold.merchant, hold.asset, taken, received_by(agreement))
    move.give(hold.account, hold.asset, returned)
    captured = hold.captured + op.amount
    claimed = 0
    if agreement is not None:
        # Rounded over all captures, so that many small ones are owed what one large one is.
        claim = agreement.terms.claim
        claimed = claim_for(claim, captured) - claim_for(claim, hold.captured)
        if refusal := claim_by(move, agreement, claimed):
            return refusal
    left = () if op.final else tuple(rest)
    move.put("holds", replace(hold, captured=captured, parts=left, status="open" if left else "captured"))
    spent = _spent(ask, hold.account, hold.merchant, hold.asset, taken)
    move.put("spendings", _under(spent, agreement, claim_amount=claimed))
    move.concern((hold.account,))
    return move.admission(op.actor)


def _hold_to_capture(ask: Request[Capture]) -> PointsHold | Rejection:
    state, op = ask.state, ask.op
    hold = state.holds.get(op.hold)
    if hold is None or hold.merchant != op.actor:
        return _unknown_hold(op.hold)
    if hold.status != "open":
        return _closed_hold(hold)
    if has_lapsed(hold, ask.time):
        message = f"the hold ended by itself at {hold.until}: its points are {hold.account}'s again"
        return Rejection(Code.HOLD_LAPSED, message, ("hold",), {"until": hold.until})
    if refusal := check_not_frozen(state, hold.account, ("hold",)):
        return refusal
    if op.amount > hold.remaining:
        message = f"{hold.remaining} points are on hold, {op.amount} are to be captured"
        return Rejection(Code.HOLD_EXCEEDED, message, ("amount",), {"remaining_points": hold.remaining})
    return hold


def admit_release(ask: Request[Release]) -> Decision:
    """Decide ``release``."""
    state, op = ask.state, ask.op
    hold = state.holds.get(op.hold)
    if hold is None:
        return _unknown_hold(op.hold)
    if hold.status != "open":
        return _closed_hold(hold)
    lapsed = has_lapsed(hold, ask.time)
    if op.actor != hold.merchant and not lapsed:
        message = f"until {hold.until} only {hold.merchant} releases the hold"
        return Rejection(Code.NOT_PERMITTED, message, ("actor",), {"until": hold.until})
    move = Movement(state, ask.time)
    move.close(hold, "lapsed" if lapsed else "released")
    move.concern((hold.account, hold.merchant))
    return move.admission(op.actor)


def _unknown_hold(hold: str) -> Rejection:
    # Of a hold for somebody else it is not said that there is one.
    return Rejection(Code.UNKNOWN_HOLD, f"there is no hold {hold} here", ("hold",))


def _closed_hold(hold: PointsHold) -> Rejection:
    return Rejection(Code.HOLD_CLOSED, f"the hold is {hold.status}: nothing of it is left", ("hold",))


def admit_expire(ask: Request[Expire]) -> Decision:
    """Decide ``expire``: points on hold are in no lot, so they are left alone."""
    state, op = ask.state, ask.op
    if refusal := check_issuer_or_operator(state, op.asset, ask.actor, "expires"):
        return refusal
    today = state.today(op.asset, ask.time)
    if op.through >= today:
        message = f"points can be used through their last day and it is {today}: name an earlier day"
        return Rejection(Code.NOT_YET_DUE, message, ("through",))
    due = due_lots(state, op.asset, op.through, op.limit)
    if not due:
        return Rejection(Code.NOTHING_DUE, f"no lot of {op.asset} is due through {op.through}", ("through",))
    legs = [
        Posting(account=account, amount=-state.lots[(account, op.asset)][day], asset=op.asset, lot=day)
        for day, account in due
    ]
    legs.append(Posting(account=SYS_EXPIRED, amount=-sum(leg.amount for leg in legs), asset=op.asset))
    return Admission(tuple(legs))


def due_lots(state: State, asset: str, through: str, limit: int) -> list[tuple[str, str]]:
    """The first ``limit`` lots (last day, account) whose last day is ``through`` or earlier, in that order."""
    due: list[tuple[str, str]] = []
    days = state.dated.get(asset, {})
    for day in sorted(day for day in days if day <= through):
        due += [(day, account) for account in sorted(days[day])[: limit - len(due)]]
        if len(due) == limit:
            break
    return due
