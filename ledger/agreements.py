"""Agreements: the terms on which two merchants take each other's points, and what they make of an amount.

An agreement is known by what it is about: ``STAR>BEAN`` exchanges STAR for BEAN, ``STAR@mer_…`` lets that merchant (or
a beneficiary) accept STAR, ``STAR+mer_…`` lets it give STAR to its customers. Like a program it has versions, of which
the last that has started is in force, unless it has ended.

No loop of exchanges may pay: whoever goes round from an asset to itself must not come out with more than it took. Since
minimums, steps and rounding only take away, it is enough that the product of the best rates round a loop is at most 1.
An agreement that would open a paying loop at any time, by the versions recorded so far, is refused. As every loop is
looked at when its last version is recorded, there is never one among the agreements in force.

:func:`quote` says what an exchange would come to, :func:`best_paths` what points can become over several.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from ledger.encoding import MAX_INTEGER, format_time, parse_time
from ledger.movements import ALL_HOLDERS, Movement, check_bounds, check_fee, claim_for, fee_for
from ledger.operations import Agree, Allot, EndAgreement
from ledger.refusals import (
    check_issuer,
    check_not_frozen,
    check_reference,
    earliest_start,
    unknown_asset,
    unknown_currency,
)
from ledger.state import (
    ALLOTMENT_SCOPE,
    Account,
    Agreement,
    Allotment,
    Code,
    Decision,
    Rejection,
    Request,
    State,
)
from ledger.terms import AcceptanceTerms, EarningTerms, ExchangeTerms, Received, Terms

DAY_MS = 86_400_000
MAX_HOPS = 5
"""The most exchanges that a path may have."""

MAX_PATHS = 1_000
"""The most paths that are tried for one question."""


def exchange_name(asset: str, into: str) -> str:
    """The name of the agreement by which points of one asset become points of another."""
    return f"{asset}>{into}"


def acceptance_name(asset: str, partner: str) -> str:
    """The name of the agreement by which a partner accepts an asset."""
    return f"{asset}@{partner}"


def earning_name(asset: str, partner: str) -> str:
    """The name of the agreement by which a partner gives points of an asset."""
    return f"{asset}+{partner}"


def agreement_name(terms: Terms, partner: str) -> str:
    """The name of an agreement on these terms."""
    if isinstance(terms, ExchangeTerms):
        return exchange_name(terms.asset, terms.into)
    if isinstance(terms, AcceptanceTerms):
        return acceptance_name(terms.asset, partner)
    return earning_name(terms.asset, partner)


def in_force(state: State, name: str, time: str) -> Agreement | None:
    """The version of an agreement that is in force at a time: the last that has started, unless it has ended."""
    return version_of(state.agreements.group(name), time)


def version_of(versions: Sequence[Agreement], time: str) -> Agreement | None:
    """The one of an agreement's versions, in their order, that is in force at a time."""
    started = [version for version in versions if version.starts <= time]
    if not started or (started[-1].ends is not None and started[-1].ends <= time):
        return None
    return started[-1]


def given_of(terms: ExchangeTerms, amount: int) -> int:
    """Points that are taken when an amount is offered: all, or with ``off_step`` "down" what is on a step."""
    return amount - amount % terms.step if terms.off_step == "down" else amount


def outcome(terms: ExchangeTerms, given: int) -> int:
    """Points that come out for points given: by the rate, a fraction dropped, and a bonus for every whole block."""
    bonus = terms.bonus
    more = 0 if bonus is None else given // bonus.block * bonus.points
    return given * terms.rate.get // terms.rate.give + more


def effective_rate(terms: ExchangeTerms, amount: int) -> tuple[int, int] | None:
    """What an amount really gets: points out and points given, in lowest terms; ``None`` when none are given.

    With 3 : 1 and 5,000 more for each 60,000, an amount of 60,000 gets 5 for 12.
    """
    given = given_of(terms, amount)
    out = outcome(terms, given)
    common = math.gcd(out, given)
    return (out // common, given // common) if common else None


def best_rate(terms: ExchangeTerms) -> Fraction:
    """The most that a point can become by an exchange, which no amount gets more than: rate and whole blocks."""
    rate = Fraction(terms.rate.get, terms.rate.give)
    return rate if terms.bonus is None else rate + Fraction(terms.bonus.points, terms.bonus.block)


def parties_of_claim(agreement: Agreement) -> tuple[str, str]:
    """Who owes whom by the claim of an agreement that has one: debtor and creditor."""
    claim = agreement.terms.claim
    assert claim is not None
    other = agreement.partner if claim.debtor == agreement.issuer else agreement.issuer
    return claim.debtor, other


def received_by(agreement: Agreement | None) -> Received:
    """What becomes of points that are spent by an agreement; an issuer retires its own."""
    if agreement is None:
        return "retired"
    assert not isinstance(agreement.terms, EarningTerms)
    return agreement.terms.received


def claim_by(move: Movement, agreement: Agreement, amount: int) -> Rejection | None:
    """Book an amount of money that an agreement's claim came to; nothing when it is 0."""
    if agreement.terms.claim is None:
        return None
    debtor, creditor = parties_of_claim(agreement)
    return move.claim(debtor, creditor, agreement.terms.claim.currency, amount, agreement.agreement)


def admit_agree(ask: Request[Agree]) -> Decision:
    """Decide ``agree``: the next version of an agreement."""
    state, op, time = ask.state, ask.op, ask.time
    if refusal := _check_parties(state, op, ask.actor) or _check_currencies(state, op.terms):
        return refusal
    name = agreement_name(op.terms, op.partner)
    next_version = len(state.agreements.group(name)) + 1
    if op.version != next_version:
        message = f"the next version of {name} is {next_version}"
        return Rejection(Code.VERSION_CONFLICT, message, ("version",), {"next_version": next_version})
    if op.starts < earliest_start(state, time):
        return Rejection(Code.STARTS_IN_PAST, f"terms cannot start in the past (before {time})", ("starts",))
    agreement = Agreement(
        agreement=name,
        version=op.version,
        issuer=op.actor,
        partner=op.partner,
        starts=op.starts,
        ends=op.ends,
        notice_days=op.notice_days,
        terms=op.terms,
        seq=state.size,
    )
    if refusal := _check_loops(state, agreement):
        return refusal
    move = Movement(state, time)
    move.put("agreements", agreement)
    move.concern([op.partner])
    return move.admission(op.actor)


def _check_parties(state: State, op: Agree, actor: Account) -> Rejection | None:
    """Why these two do not make these terms: the asset's issuer does, with a merchant that can do its part."""
    terms, partner = op.terms, state.accounts[op.partner]
    if actor.role != "merchant":
        return Rejection(Code.NOT_PERMITTED, "only a merchant makes agreements", ("actor",))
    accepting = isinstance(terms, AcceptanceTerms) and partner.role == "beneficiary"
    if partner.role != "merchant" and not accepting:
        return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no merchant {op.partner}", ("partner",))
    if terms.asset not in state.assets:
        return unknown_asset(terms.asset, ("terms", "asset"))
    if refusal := check_issuer(state, terms.asset, actor):
        return refusal
    if not isinstance(terms, ExchangeTerms):
        return None
    into = state.assets.get(terms.into)
    if into is None:
        return unknown_asset(terms.into, ("terms", "into"))
    if into.issuer != op.partner:
        message = f"{terms.into} is issued by {into.issuer}: it is the partner for an exchange into it"
        return Rejection(Code.NOT_PERMITTED, message, ("partner",))
    return None


def _check_currencies(state: State, terms: Terms) -> Rejection | None:
    assert state.parameters is not None
    fee = terms.fee if isinstance(terms, ExchangeTerms) else None
    for part, name in ((fee, "fee"), (terms.claim, "claim")):
        if part is not None and part.currency not in state.parameters.units:
            return unknown_currency(state, part.currency, ("terms", name, "currency"))
    return None


def _check_loops(state: State, new: Agreement) -> Rejection | None:
    """Why an exchange cannot be agreed to: at some time, by the versions known, a loop through it would pay.

    Loops change only when a version starts. One that ends opens none, for then nothing is in force.
    """
    if not isinstance(new.terms, ExchangeTerms):
        return None
    exchanges = _on_the_way(_exchanges(state), new.terms.into, new.terms.asset)
    starts = {new.starts} | {version.starts for versions in exchanges.values() for version in versions}
    for moment in sorted(start for start in starts if new.starts <= start and (new.ends is None or start < new.ends)):
        rates = {
            asset: [(terms.into, best_rate(terms)) for _, terms in ways]
            for asset, ways in _onward(exchanges, moment).items()
        }
        way = _best_way(rates, new.terms.into, new.terms.asset)
        if way is None:
            continue
        rate, back = way
        product = rate * best_rate(new.terms)
        if product > 1:
            return _paying_loop(product, (new.terms.asset, *back), moment)
    return None


def _on_the_way(exchanges: Mapping[str, list[Agreement]], start: str, goal: str) -> dict[str, list[Agreement]]:
    """The exchanges that can be part of a way between two assets at any time, so that no others need be looked at.

    A way ends at its goal, so none that leads on from there is.
    """
    pairs = {name: name.split(">") for name in exchanges}
    onward = [(asset, into) for asset, into in pairs.values() if asset != goal]
    after = _reached(onward, start)
    before = _reached([(into, asset) for asset, into in onward], goal)
    return {
        name: exchanges[name]
        for name, (asset, into) in pairs.items()
        if asset != goal and asset in after and into in before
    }


def _reached(edges: Iterable[tuple[str, str]], start: str) -> set[str]:
    """All that edges lead to from somewhere, itself included."""
    onward: dict[str, list[str]] = {}
    for here, there in edges:
        onward.setdefault(here, []).append(there)
    reached, queue = {start}, [start]
    while queue:
        found = [there for there in onward.get(queue.pop(), ()) if there not in reached]
        reached.update(found)
        queue += found
    return reached


def _paying_loop(product: Fraction, assets: Sequence[str], moment: str) -> Rejection:
    loop = ">".join(assets)
    message = f"the loop {loop} would pay from {moment} on: {product.denominator} points become {product.numerator}"
    return Rejection(Code.PAYING_LOOP, message, ("terms", "rate"), {"loop": loop})


def _exchanges(state: State) -> dict[str, list[Agreement]]:
    """All exchange agreements by name, each with its versions in order."""
    names = {version.agreement for version in state.agreements if isinstance(version.terms, ExchangeTerms)}
    return {name: state.agreements.group(name) for name in sorted(names)}


Onward = Mapping[str, Sequence[tuple[Agreement, ExchangeTerms]]]
"""The exchanges that are in force at a time, by the asset they take, in the order of their names."""


def _onward(exchanges: Mapping[str, Sequence[Agreement]], time: str) -> Onward:
    onward: dict[str, list[tuple[Agreement, ExchangeTerms]]] = {}
    for name in sorted(exchanges):
        agreement = version_of(exchanges[name], time)
        if agreement is not None and isinstance(agreement.terms, ExchangeTerms):
            onward.setdefault(agreement.terms.asset, []).append((agreement, agreement.terms))
    return onward


def _best_way(
    rates: Mapping[str, Sequence[tuple[str, Fraction]]], start: str, goal: str
) -> tuple[Fraction, tuple[str, ...]] | None:
    """The way between two assets with the largest product of best rates, and that product.

    This is the algorithm of Bellman and Ford with products for sums: among agreements that have no paying loop, no way
    gains by visiting an asset again, so it ends after as many rounds as the best way has exchanges.
    """
    best: dict[str, tuple[Fraction, tuple[str, ...]]] = {start: (Fraction(1), (start,))}
    changed = [start]
    while changed:
        better: dict[str, None] = {}
        for here in changed:
            so_far, way = best[here]
            for there, rate in rates.get(here, ()) if here != goal else ():
                if there in way:
                    continue
                product = so_far * rate
                if there not in best or product > best[there][0]:
                    best[there] = (product, (*way, there))
                    better[there] = None
        changed = list(better)
    return best.get(goal)


def admit_end_agreement(ask: Request[EndAgreement]) -> Decision:
    """Decide ``end_agreement``: every version that would last longer ends then."""
    state, op, time = ask.state, ask.op, ask.time
    versions = state.agreements.group(op.agreement)
    if not versions or op.actor not in (versions[-1].issuer, versions[-1].partner):
        message = f"{op.actor} has no agreement {op.agreement}"
        return Rejection(Code.UNKNOWN_AGREEMENT, message, ("agreement",))
    current = version_of(versions, time) or versions[-1]
    earliest = format_time(parse_time(time) + current.notice_days * DAY_MS)
    if op.ends < earliest:
        message = f"notice of {current.notice_days} days is agreed: end it at {earliest} or later"
        return Rejection(Code.NOTICE_TOO_SHORT, message, ("ends",), {"earliest_end": earliest})
    lasting = [version for version in versions if version.ends is None or version.ends > op.ends]
    if not lasting:
        return Rejection(Code.AGREEMENT_ENDED, f"{op.agreement} ends no later than that already", ("ends",))
    move = Movement(state, time)
    for version in lasting:
        move.put("agreements", replace(version, ends=op.ends))
    move.concern([current.issuer, current.partner])
    return move.admission(op.actor)


def admit_allot(ask: Request[Allot]) -> Decision:
    """Decide ``allot``: points that a prepaid partner may give, on top of those it has left."""
    state, op, time = ask.state, ask.op, ask.time
    if refusal := check_issuer(state, op.asset, ask.actor):
        return refusal
    name = earning_name(op.asset, op.partner)
    agreement = in_force(state, name, time)
    if agreement is None or not isinstance(agreement.terms, EarningTerms) or agreement.terms.billing != "prepaid":
        message = f"{op.partner} has no agreement in force to give {op.asset} out of points bought beforehand"
        return Rejection(Code.NO_AGREEMENT, message, ("partner",))
    if refusal := check_reference(ask, ALLOTMENT_SCOPE, op.reference, ("reference",)):
        return refusal
    before = state.allotments.get(name) or Allotment(agreement=name, allotted=0, remaining=0)
    allotted, remaining = before.allotted + op.points, before.remaining + op.points
    if allotted > MAX_INTEGER:  # more than that are never left, then
        message = f"{before.allotted} points were allotted so far; {op.points} more would pass 2^53-1"
        return Rejection(Code.POINTS_OVERFLOW, message, ("points",))
    move = Movement(state, time)
    move.put("allotments", replace(before, allotted=allotted, remaining=remaining))
    move.refer(op.actor, ALLOTMENT_SCOPE, op.reference)
    move.concern([op.partner])
    if refusal := claim_by(move, agreement, claim_for(agreement.terms.claim, op.points)):
        return refusal
    return move.admission(op.actor)


# What can be known before anything is signed


class Quote(Struct, frozen=True, kw_only=True):
    """What exchanging ``amount`` points would come to at a time, or the ``refusal`` it would meet.

    ``given`` points are taken and ``out`` come out. The holder owes ``fee_amount`` minor units to whom the terms name,
    and one of the two issuers owes the other ``claim_amount``. The terms are known to hold until ``valid_until``, when
    this version ends or a later one starts; ``None`` when neither is recorded. Without an agreement in force,
    ``agreement`` and ``version`` are absent.
    """

    asset: str
    into: str
    amount: int
    agreement: str | None = None
    version: int | None = None
    given: int = 0
    out: int = 0
    fee_amount: int = 0
    fee_currency: str | None = None
    claim_amount: int = 0
    claim_currency: str | None = None
    valid_until: str | None = None
    refusal: Rejection | None = None


class Path(Struct, frozen=True, kw_only=True):
    """A way from one asset to another: what each exchange gives is what the next is offered. ``out`` comes out last."""

    into: str
    out: int
    hops: tuple[Quote, ...]
    valid_until: str | None


class Paths(Struct, frozen=True, kw_only=True):
    """Ways that points can go. When not ``complete``, there were more than could be tried; short ones are tried first.

    They are in the order of the asset they lead to, then the most points, the fewest exchanges, the agreements' names.
    """

    paths: tuple[Path, ...]
    complete: bool


def quote(state: State, asset: str, into: str, amount: int, time: str, *, account: str | None = None) -> Quote:
    """What an exchange of ``amount`` points, 1 or more, would come to by the terms in force at a time.

    The state must hold what the exchange touches. Refusals come in the order of the exchange itself. ``minimum_out``
    and ``maximum_fee`` are the holder's to choose, so an outcome of nothing is the only one that is too small; points
    the holder does not have are not looked at, and ``holder_cap`` only for the ``account`` given.
    """
    for code, path in ((asset, ("asset",)), (into, ("into",))):
        if code not in state.assets:
            return Quote(asset=asset, into=into, amount=amount, refusal=unknown_asset(code, path))
    agreement = in_force(state, exchange_name(asset, into), time)
    if agreement is None or not isinstance(agreement.terms, ExchangeTerms):
        refusal = Rejection(Code.NO_AGREEMENT, f"no agreement to exchange {asset} into {into} is in force", ("into",))
        return Quote(asset=asset, into=into, amount=amount, refusal=refusal)
    return _quote(Movement(state, time), agreement, agreement.terms, amount, account)


def valid_until(state: State, agreement: Agreement) -> str | None:
    """When the terms of a version in force are known to be in force no more: it ends, or a later one starts."""
    versions = state.agreements.group(agreement.agreement)
    ends = [version.starts for version in versions if version.version > agreement.version]
    return min(ends if agreement.ends is None else [*ends, agreement.ends], default=None)


def _quote(move: Movement, agreement: Agreement, terms: ExchangeTerms, amount: int, account: str | None) -> Quote:
    given = given_of(terms, amount)
    quoted = Quote(
        asset=terms.asset,
        into=terms.into,
        amount=amount,
        agreement=agreement.agreement,
        version=agreement.version,
        given=given,
        out=outcome(terms, given),
        fee_amount=fee_for(terms.fee, given),
        fee_currency=None if terms.fee is None else terms.fee.currency,
        claim_amount=claim_for(terms.claim, given),
        claim_currency=None if terms.claim is None else terms.claim.currency,
        valid_until=valid_until(move.state, agreement),
    )
    return replace(quoted, refusal=_check_exchange(move, agreement, terms, quoted, account))


def _check_exchange(
    move: Movement, agreement: Agreement, terms: ExchangeTerms, quoted: Quote, account: str | None
) -> Rejection | None:
    """Why an exchange would be refused, whoever asks."""
    path, given, name = ("amount",), quoted.given, agreement.agreement
    if refusal := check_not_frozen(move.state, agreement.issuer, ("asset",)):
        return refusal
    if refusal := check_not_frozen(move.state, agreement.partner, ("into",)):
        return refusal
    if refusal := check_bounds(given, step=terms.step, minimum=terms.minimum, maximum=terms.maximum, path=path):
        return refusal
    if account is not None and (
        refusal := move.use(terms.holder_cap, name, account, given, asset=terms.asset, path=path)
    ):
        return refusal
    if refusal := move.use(terms.total_cap, name, ALL_HOLDERS, given, asset=terms.asset, path=path):
        return refusal
    if quoted.out == 0:
        message, details = f"{given} points of {terms.asset} become nothing: offer more", {"outcome_points": 0}
        return Rejection(Code.OUTCOME_TOO_SMALL, message, ("minimum_out",), details)
    if terms.fee is not None and (refusal := check_fee(quoted.fee_amount, MAX_INTEGER, terms.fee.currency)):
        return refusal
    if refusal := move.check_issue(terms.into, quoted.out, ("into",)):
        return refusal
    if quoted.claim_amount > MAX_INTEGER:
        return Rejection(Code.AMOUNT_OVERFLOW, f"a claim of {quoted.claim_amount} minor units passes 2^53-1")
    return None


def best_paths(
    state: State,
    asset: str,
    into: str | None,
    amount: int,
    time: str,
    *,
    max_hops: int = 4,
    account: str | None = None,
) -> Paths:
    """All that an amount of points can become at a time, or only one asset, by up to ``max_hops`` exchanges in turn.

    Each exchange is reckoned exactly, rounding and bounds included, for as many points as its step allows; one that
    would be refused leads nowhere. No asset is visited twice. At most :data:`MAX_PATHS` paths are tried. The state must
    hold all agreements and what each exchange touches. Raises :class:`ValueError` for ``max_hops`` that are not 1 to
    :data:`MAX_HOPS`.
    """
    if not 1 <= max_hops <= MAX_HOPS:
        raise ValueError(f"a path has 1 to {MAX_HOPS} exchanges, not {max_hops}")
    onward = _onward(_exchanges(state), time)
    steps = None if into is None else _steps_to(onward, into)
    found: list[tuple[Quote, ...]] = []
    queue: deque[tuple[Quote, ...]] = deque([()])
    tried = 0
    while queue:
        hops = queue.popleft()
        here, points = (hops[-1].into, hops[-1].out) if hops else (asset, amount)
        visited = {asset, *(hop.into for hop in hops)}
        for agreement, terms in onward.get(here, ()):
            rest = 0 if steps is None else steps.get(terms.into, MAX_HOPS)
            if terms.into in visited or len(hops) + 1 + rest > max_hops:
                continue
            if tried == MAX_PATHS:
                return Paths(paths=_sorted_paths(found), complete=False)
            tried += 1
            offered = points - points % terms.step  # the rest stays: each exchange is signed for what it takes
            hop = replace(_quote(Movement(state, time), agreement, terms, offered, account), amount=points)
            if hop.refusal is not None:
                continue
            if into is None or terms.into == into:
                found.append((*hops, hop))
            if terms.into != into:
                queue.append((*hops, hop))
    return Paths(paths=_sorted_paths(found), complete=True)


def _steps_to(onward: Onward, goal: str) -> dict[str, int]:
    """How many exchanges each asset is from another, at least; those from which it cannot be reached are left out."""
    before: dict[str, list[str]] = {}
    for asset, ways in onward.items():
        for _, terms in ways:
            before.setdefault(terms.into, []).append(asset)
    steps, queue = {goal: 0}, deque([goal])
    while queue:
        there = queue.popleft()
        for here in before.get(there, ()):
            if here not in steps:
                steps[here] = steps[there] + 1
                queue.append(here)
    return steps


def _sorted_paths(found: Iterable[tuple[Quote, ...]]) -> tuple[Path, ...]:
    paths = [
        Path(
            into=hops[-1].into,
            out=hops[-1].out,
            hops=hops,
            valid_until=min((hop.valid_until for hop in hops if hop.valid_until is not None), default=None),
        )
        for hops in found
    ]
    paths.sort(key=lambda path: (path.into, -path.out, len(path.hops), [hop.agreement for hop in path.hops]))
    return tuple(paths)
