"""Calculation: what a purchase gives under a program, and why.

Pure functions of the program's document, of the purchase, and of the circumstances that were noted when it was
recorded; a refund asks them again with less of the amount. All arithmetic is exact, and rounded once:

1. *Eligible* lines are those whose category is not excluded; a purchase without lines is one line. ``E`` is their
   sum.
2. Base points ``B``: the bands' marginal rates, of ``E`` (whole units only, where the program says so) or of a
   quantity.
3. Each eligible line has a factor from the multipliers that hold for it; the base is multiplied by their mean, weighted
   by the lines' amounts.
4. That is rounded. Status points are the base rounded, without any multiplier.
5. Bonuses are added, and what the earning cap has no room for is left out.

Worked example (1 point per 1.00 from 50.00, 2 from 100.00; tier vip 5/4; whole units): 120.75 → 50·1 + 20·2 = 90;
90·5/4 = 112.5 → 112 rounded down.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import lru_cache

from msgspec import Struct

from ledger.amounts import format_amount
from ledger.encoding import MAX_INTEGER
from ledger.program_terms import (
    WEEKDAYS,
    Band,
    ExpiresAfterInactivity,
    ExpiresAtMembershipYearEnd,
    Formula,
    Multiplier,
    Program,
    PurchaseBonus,
    Ratio,
    Stacking,
    When,
)
from ledger.programs import round_ratio
from ledger.state import Circumstances, Membership
from ledger.terms import Purchase, Rounding


class Bought(Struct, frozen=True, kw_only=True, gc=False):
    """What is asked about: ``amount`` minor units bought, recorded by ``merchant``, on the local date ``earned_on``.

    Where there is no purchase, as when a reward is had, the amount is 0 and the circumstances are the member's.
    """

    amount: int
    merchant: str
    earned_on: str
    circumstances: Circumstances


class Exact(Struct, frozen=True, gc=False):
    """An exact number of points or an exact factor, in lowest terms. Neither part is bounded by 2^53-1."""

    numerator: int
    denominator: int


class BandShare(Struct, frozen=True, gc=False):
    """``amount`` of what was bought lies in a band, from ``from_amount`` on, and gives ``rate`` per ``per``.

    ``points`` is what that is, not rounded. Amounts are minor units, or a quantity.
    """

    from_amount: int
    amount: int
    rate: int
    per: int
    points: Exact


class LineFactor(Struct, frozen=True, gc=False):
    """What the points of a line are multiplied by: of ``multipliers``; ``passed_over`` hold too, but are not the best.

    ``line`` is its place in the purchase, from 0; ``None`` for all of a purchase whose lines are not told apart.
    ``amount`` is in minor units.
    """

    line: int | None
    amount: int
    factor: Exact
    multipliers: tuple[str, ...]
    passed_over: tuple[str, ...]


class BonusShare(Struct, frozen=True, gc=False):
    """``points`` that a bonus adds."""

    bonus: str
    points: int


class Calculation(Struct, frozen=True, kw_only=True, gc=False):
    """What a purchase gives, and every step to it.

    ``points`` are given, ``status_points`` too where they count; ``earning_amount`` minor units earned them, while
    ``excluded_amount`` did not. ``formula`` is the one the member chose, ``None`` for the program's bands. ``bands``
    were applied to ``base_amount``: minor units, or the ``quantity`` of that name. Of a purchase refunded in part
    ``remaining`` is the part of a quantity's points that is left. ``base`` is what results, ``multiplied`` that by the
    factors of ``lines`` (empty: none holds anywhere), ``rounded`` that as ``rounding`` says. ``cut`` points were more
    than the ``room`` under the earning cap.
    """

    points: int
    status_points: int
    earning_amount: int
    excluded_amount: int
    formula: str | None
    quantity: str | None
    base_amount: int
    bands: tuple[BandShare, ...]
    remaining: Exact | None
    base: Exact
    lines: tuple[LineFactor, ...]
    multiplied: Exact
    rounding: Rounding
    rounded: int
    bonuses: tuple[BonusShare, ...]
    room: int | None
    cut: int


ONE, ZERO = Exact(1, 1), Exact(0, 1)


@lru_cache(maxsize=1024)
def is_special(program: Program) -> bool:
    """Whether what a purchase gives depends on more than its amount, or leaves more behind than points."""
    return any(
        (
            program.bonuses,
            program.earning_cap,
            program.excluded_categories,
            program.formulas,
            program.multipliers,
            program.plans,
            program.referral,
            program.status_asset,
            program.tiers,
            program.vesting_days,
            any(reward.automatic for reward in program.rewards),
            isinstance(program.expiry, ExpiresAtMembershipYearEnd | ExpiresAfterInactivity),
        )
    )


def said_by(purchase: Purchase) -> Circumstances | None:
    """The circumstances that a purchase's own document tells; ``None`` if it tells none."""
    if not (purchase.channel or purchase.lines or purchase.quantities or purchase.tender):
        return None
    return Circumstances(
        channel=purchase.channel, lines=purchase.lines, quantities=purchase.quantities, tender=purchase.tender
    )


def circumstances_of(
    purchase: Purchase, membership: Membership | None, tier: str | None, room: int | None, earned_on: str
) -> Circumstances:
    """All circumstances of a purchase made on a local date, as they are now.

    ``tier`` is the member's on that date, ``room`` what is left under the earning cap. Who has no membership joins
    by this purchase.
    """
    lines, quantities = purchase.lines, purchase.quantities
    channel, tender = purchase.channel, purchase.tender
    if membership is None:
        said = {"channel": channel, "lines": lines, "quantities": quantities, "tender": tender}
        return Circumstances(first=True, joined_on=earned_on, room=room, tier=tier, **said)  # type: ignore[arg-type]
    return Circumstances(
        channel=channel,
        first=membership.purchases == 0,
        formula=membership.formula,
        invited=membership.invited_by is not None,
        joined_on=membership.joined_on,
        lines=lines,
        plan=plan_on(membership, earned_on),
        quantities=quantities,
        room=room,
        tender=tender,
        tier=tier,
    )


def plan_on(membership: Membership | None, day: str) -> str | None:
    """The plan that a member has paid for on a local date."""
    if membership is None or membership.plan_from is None or membership.plan_until is None:
        return None
    return membership.plan if membership.plan_from <= day <= membership.plan_until else None


# Conditions


class _Facts(Struct, gc=False):
    """What conditions ask of a purchase as a whole."""

    circumstances: Circumstances
    merchant: str
    day: str
    amount: int


_Check = Callable[[_Facts], bool]


class _Condition(Struct, frozen=True):
    """A :class:`When`, made ready: what is asked of the whole, and of a line, if anything."""

    checks: tuple[_Check, ...]
    categories: frozenset[str]
    products: frozenset[str]
    asks_lines: bool

    def holds(self, facts: _Facts) -> bool:
        return all(check(facts) for check in self.checks) if self.checks else True

    def holds_for_line(self, category: str | None, product: str | None) -> bool:
        if self.categories and category not in self.categories:
            return False
        return not self.products or product in self.products


@lru_cache(maxsize=4_096)
def _condition(when: When | None) -> _Condition:
    if when is None:
        return _Condition((), frozenset(), frozenset(), False)
    categories, products = frozenset(when.categories), frozenset(when.products)
    return _Condition(tuple(_checks(when)), categories, products, bool(categories or products))


def _checks(when: When) -> list[_Check]:
    checks: list[_Check] = []
    if tiers := frozenset(when.tiers):
        checks.append(lambda facts: facts.circumstances.tier in tiers)
    if plans := frozenset(when.plans):
        checks.append(lambda facts: facts.circumstances.plan in plans)
    if tenders := frozenset(when.tenders):
        checks.append(lambda facts: facts.circumstances.tender in tenders)
    if channels := frozenset(when.channels):
        checks.append(lambda facts: facts.circumstances.channel in channels)
    if merchants := frozenset(when.merchants):
        checks.append(lambda facts: facts.merchant in merchants)
    if weekdays := frozenset(when.weekdays):
        checks.append(lambda facts: _weekday(facts.day) in weekdays)
    if when.from_day is not None or when.through_day is not None:
        first, last = when.from_day or "", when.through_day or "9999-12-31"
        checks.append(lambda facts: first <= facts.day <= last)
    if least := when.from_amount:
        checks.append(lambda facts: facts.amount >= least)
    if (days := when.within_days) is not None:
        checks.append(lambda facts: _is_within(facts, days))
    if when.first_purchase:
        checks.append(lambda facts: facts.circumstances.first)
    if when.invited:
        checks.append(lambda facts: facts.circumstances.invited)
    return checks


@lru_cache(maxsize=4_096)
def _weekday(day: str) -> str:
    return WEEKDAYS[date.fromisoformat(day).weekday()]


def _is_within(facts: _Facts, days: int) -> bool:
    joined_on = facts.circumstances.joined_on
    return joined_on is not None and 0 <= _days_between(joined_on, facts.day) < days


@lru_cache(maxsize=4_096)
def _days_between(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def when_holds(when: When | None, bought: Bought, excluded_categories: Sequence[str] = ()) -> bool:
    """Whether a condition holds: of some line of a purchase that earns, and of the whole.

    Without a purchase (its amount is 0) nothing about categories, products, channels, tenders or amounts holds.
    """
    left = _eligible(frozenset(excluded_categories), bought, ())
    condition = _condition(when)
    facts = _Facts(bought.circumstances, bought.merchant, bought.earned_on, left.earning)
    return condition.holds(facts) and _some_line(condition, left.lines)


def benefits_of(program: Program, bought: Bought) -> tuple[str, ...]:
    """The benefits that a member has with a purchase, or without one (its amount is 0), each once."""
    excluded = program.excluded_categories
    held = (each.benefit for each in program.benefits if when_holds(each.when, bought, excluded))
    return tuple(dict.fromkeys(held))


# Lines


class _Line(Struct, frozen=True, gc=False):
    """An eligible line of which something is left."""

    line: int | None
    amount: int
    category: str | None
    product: str | None


_Lines = tuple[_Line, ...]


class _Left(Struct, frozen=True, gc=False):
    """What is left of a purchase: the lines that earn and their sum, and that before any refund."""

    lines: _Lines
    earning: int
    original: int


def _eligible(excluded: frozenset[str], bought: Bought, refunded: tuple[int, ...]) -> _Left:
    """What is left of a purchase after refunds of each line; one line of nothing where no line that earns is left."""
    if not bought.circumstances.lines:
        amount = bought.amount - (refunded[0] if refunded else 0)
        return _Left((_Line(None, amount, None, None),), amount, bought.amount)
    found, left, original = [], 0, 0
    for i, line in enumerate(bought.circumstances.lines):
        if line.category is not None and line.category in excluded:
            continue
        amount = line.amount - (refunded[i] if refunded else 0)
        original += line.amount
        left += amount
        if amount:
            found.append(_Line(i, amount, line.category, line.product))
    return _Left(tuple(found) or (_Line(None, 0, None, None),), left, original)


def _some_line(condition: _Condition, lines: _Lines) -> bool:
    if not condition.asks_lines:
        return True
    return any(condition.holds_for_line(line.category, line.product) for line in lines)


# Base


class _Rates(Struct, frozen=True):
    """Bands as (from, to, rate), with every rate over one denominator."""

    steps: tuple[tuple[int, int, int], ...]
    bands: tuple[Band, ...]
    denominator: int


def _rates(bands: tuple[Band, ...]) -> _Rates:
    denominator = math.lcm(*(band.per for band in bands))
    ends = [*(band.from_amount for band in bands[1:]), MAX_INTEGER + 1]
    steps = zip(bands, ends, strict=True)
    rated = tuple((band.from_amount, end, band.points * (denominator // band.per)) for band, end in steps)
    return _Rates(rated, bands, denominator)


def _exact(numerator: int, denominator: int) -> Exact:
    common = math.gcd(numerator, denominator)
    return Exact(numerator // common, denominator // common)


class _Ready(Struct, frozen=True):
    """What follows from a program alone."""

    rates: _Rates
    formulas: dict[str, tuple[Formula, _Rates]]
    excluded: frozenset[str]
    multipliers: tuple[tuple[_Condition, Multiplier], ...]
    asks_lines: bool
    bonuses: tuple[tuple[_Condition, PurchaseBonus], ...]
    has_status: bool


@lru_cache(maxsize=1024)
def _ready(program: Program) -> _Ready:
    multipliers = tuple((_condition(each.when), each) for each in program.multipliers)
    basis = None if program.tiers is None else program.tiers.basis
    return _Ready(
        rates=_rates(program.bands),
        formulas={each.formula: (each, _rates(each.bands)) for each in program.formulas},
        excluded=frozenset(program.excluded_categories),
        multipliers=multipliers,
        asks_lines=any(condition.asks_lines for condition, _ in multipliers),
        bonuses=tuple((_condition(each.when), each) for each in program.bonuses),
        has_status=program.status_asset is not None or basis == "status",
    )


class _Base(Struct, frozen=True, gc=False):
    """Base points, as a ratio of integers that may have common factors; and whether a bonus can be added to them."""

    numerator: int
    denominator: int
    formula: str | None
    quantity: str | None
    amount: int
    shares: tuple[BandShare, ...]
    remaining: Exact | None
    earns: bool


def _base(program: Program, ready: _Ready, circumstances: Circumstances, unit: int, left: _Left) -> _Base:
    """Base points of what is left of a purchase, by the formula that the member chose, if there still is one."""
    formula, rates = ready.formulas.get(circumstances.formula or "", (None, ready.rates))
    name = None if formula is None else formula.formula
    if formula is None or formula.quantity is None:
        amount = left.earning - left.earning % unit if program.round_amount == "whole_units" else left.earning
        points, shares = _points(rates, amount)
        return _Base(points, rates.denominator, name, None, amount, shares, None, left.earning > 0)
    amount = next((each.quantity for each in circumstances.quantities if each.name == formula.quantity), 0)
    points, shares = _points(rates, amount)
    if left.earning == left.original:
        earns = left.earning > 0 or amount > 0
        return _Base(points, rates.denominator, name, formula.quantity, amount, shares, None, earns)
    part = _exact(left.earning, left.original)
    points, denominator = points * part.numerator, rates.denominator * part.denominator
    return _Base(points, denominator, name, formula.quantity, amount, shares, part, left.earning > 0)


def _points(rates: _Rates, amount: int) -> tuple[int, tuple[BandShare, ...]]:
    """Points of an amount, over the rates' denominator, and what each band has of them."""
    total = 0
    shares = []
    for (start, end, rate), band in zip(rates.steps, rates.bands, strict=True):
        if amount <= start:
            break
        inside = min(amount, end) - start
        total += inside * rate
        shares.append(BandShare(start, inside, band.points, band.per, _exact(inside * band.points, band.per)))
    return total, tuple(shares)


# Factors


def _factor(
    ready: _Ready, stacking: Stacking, holding: Sequence[tuple[_Condition, Multiplier]], line: _Line
) -> LineFactor:
    """What a line is multiplied by, of the multipliers that hold for the whole purchase."""
    held = [each for condition, each in holding if condition.holds_for_line(line.category, line.product)]
    place = line.line if ready.asks_lines else None
    if not held:
        return LineFactor(place, line.amount, ONE, (), ())
    if stacking == "best":
        best = held[0]
        for each in held[1:]:
            if each.times.numerator * best.times.denominator > best.times.numerator * each.times.denominator:
                best = each
        passed_over = tuple(each.multiplier for each in held if each is not best) if len(held) > 1 else ()
        factor = _exact(best.times.numerator, best.times.denominator)
        return LineFactor(place, line.amount, factor, (best.multiplier,), passed_over)
    factor = _stack(stacking, [each.times for each in held])
    return LineFactor(place, line.amount, factor, tuple(each.multiplier for each in held), ())


def _stack(stacking: Stacking, times: Sequence[Ratio]) -> Exact:
    """The product of ratios, or 1 plus what each adds to 1, but no less than 0."""
    if stacking == "product":
        return _exact(math.prod(each.numerator for each in times), math.prod(each.denominator for each in times))
    denominator = math.lcm(*(each.denominator for each in times))
    added = sum((each.numerator - each.denominator) * (denominator // each.denominator) for each in times)
    return _exact(max(0, denominator + added), denominator)


def _factors(
    ready: _Ready, stacking: Stacking, facts: _Facts, lines: _Lines
) -> tuple[tuple[LineFactor, ...], int, int]:
    """The factor of each line (none: there is none anywhere), and their mean by amounts as a ratio of two integers."""
    holding = [each for each in ready.multipliers if each[0].holds(facts)]
    if not holding:
        return (), 1, 1
    if not ready.asks_lines:  # all lines have the same
        whole = _factor(ready, stacking, holding, _Line(None, facts.amount, None, None))
        return (whole,), whole.factor.numerator, whole.factor.denominator
    found = tuple(_factor(ready, stacking, holding, line) for line in lines)
    if not any(each.multipliers for each in found):
        return (), 1, 1
    if len(found) == 1:
        return found, found[0].factor.numerator, found[0].factor.denominator
    denominator = math.lcm(*{each.factor.denominator for each in found})
    weighted = sum(each.amount * each.factor.numerator * (denominator // each.factor.denominator) for each in found)
    return found, weighted, denominator * facts.amount


# All of it


def calculate(program: Program, bought: Bought, unit: int, refunded: int | tuple[int, ...] = 0) -> Calculation:
    """What a purchase gives, or what it would have given for what is left of it.

    ``unit`` is the minor units in one unit of the currency. ``refunded`` is in minor units: of each line where the
    purchase has lines, of the whole otherwise. Points may be more than 2^53-1: whoever gives them looks.
    """
    ready, circumstances = _ready(program), bought.circumstances
    back = _per_line(bought, refunded)
    remains = bought.amount - sum(back)
    if remains < 0:
        raise ValueError("no more than all of a purchase can be refunded")
    if remains == 0 < bought.amount:
        return _nothing(program.round_points)
    left = _eligible(ready.excluded, bought, back)
    base = _base(program, ready, circumstances, unit, left)
    facts = _Facts(circumstances, bought.merchant, bought.earned_on, left.earning)
    factors, times, per = _factors(ready, program.stacking, facts, left.lines) if ready.multipliers else ((), 1, 1)
    exact = _exact(base.numerator, base.denominator)
    multiplied = _exact(base.numerator * times, base.denominator * per) if factors else exact
    rounded = round_ratio(multiplied.numerator, multiplied.denominator, program.round_points)
    bonuses = _bonuses(ready, facts, left.lines) if ready.bonuses and base.earns else ()
    points = rounded + sum([each.points for each in bonuses])
    room = circumstances.room if program.earning_cap is not None else None
    cut = 0 if room is None else max(0, points - room)
    return Calculation(
        points=points - cut,
        status_points=round_ratio(exact.numerator, exact.denominator, program.round_points) if ready.has_status else 0,
        earning_amount=left.earning,
        excluded_amount=remains - left.earning,
        formula=base.formula,
        quantity=base.quantity,
        base_amount=base.amount,
        bands=base.shares,
        remaining=base.remaining,
        base=exact,
        lines=factors,
        multiplied=multiplied,
        rounding=program.round_points,
        rounded=rounded,
        bonuses=bonuses,
        room=room,
        cut=cut,
    )


def _bonuses(ready: _Ready, facts: _Facts, lines: _Lines) -> tuple[BonusShare, ...]:
    return tuple(
        BonusShare(each.bonus, each.points)
        for condition, each in ready.bonuses
        if condition.holds(facts) and _some_line(condition, lines)
    )


def _per_line(bought: Bought, refunded: int | tuple[int, ...]) -> tuple[int, ...]:
    """What was refunded of each line; nothing at all is the empty tuple."""
    if isinstance(refunded, tuple):
        if refunded and len(refunded) != max(1, len(bought.circumstances.lines)):
            raise ValueError("refunded has one amount for each line")
        return refunded
    if refunded and bought.circumstances.lines:
        raise ValueError("of a purchase with lines it must be known which were refunded")
    return (refunded,) if refunded else ()


def _nothing(rounding: Rounding) -> Calculation:
    """What a purchase gives that was refunded whole."""
    return Calculation(
        points=0,
        status_points=0,
        earning_amount=0,
        excluded_amount=0,
        formula=None,
        quantity=None,
        base_amount=0,
        bands=(),
        remaining=None,
        base=ZERO,
        lines=(),
        multiplied=ZERO,
        rounding=rounding,
        rounded=0,
        bonuses=(),
        room=None,
        cut=0,
    )


# In words


def sentences(calculation: Calculation, scale: int, points_scale: int = 0) -> tuple[str, ...]:
    """A calculation in plain English, one sentence for each step that did something.

    ``scale`` is the decimal places of the currency's amounts, ``points_scale`` those of points. Lines of the purchase
    are named by their place, from 0, as in its document.
    """
    return tuple(_sentences(calculation, scale, points_scale))


def _sentences(found: Calculation, scale: int, points_scale: int) -> Iterator[str]:
    def points(number: Exact | int) -> str:
        return _number(number, points_scale)

    yield f"{format_amount(found.earning_amount, scale)} earns {points(found.points)} points."
    if found.excluded_amount:
        yield f"{format_amount(found.excluded_amount, scale)} more earns nothing: its category is excluded."
    yield from _base_sentences(found, scale, points_scale)
    for each in found.lines:
        amount = format_amount(each.amount, scale)
        what = f"All {amount}" if each.line is None else f"Line {each.line + 1}, of {amount},"
        if each.multipliers:
            over = f"; {_listed(each.passed_over)} would hold, but the best counts alone" if each.passed_over else ""
            yield f"{what} counts {_number(each.factor, 0)} times, for {_listed(each.multipliers)}{over}."
        else:
            yield f"{what} counts once."
    if found.lines:
        yield f"Multiplied, the {points(found.base)} points are {points(found.multiplied)}."
    if found.multiplied.denominator != 1:
        how = found.rounding.replace("_", " ")
        yield f"{points(found.multiplied)} is rounded {how} to {points(found.rounded)}."
    for bonus in found.bonuses:
        yield f"{points(bonus.points)} points more for {bonus.bonus}."
    if found.cut:
        yield f"{points(found.cut)} points are cut: there was room for {points(found.room or 0)} under the earning cap."
    if found.status_points:
        yield f"{points(found.status_points)} status points count, which nothing multiplies."


def _base_sentences(found: Calculation, scale: int, points_scale: int) -> Iterator[str]:
    """The bands, and what the member chose instead of the program's."""
    unit_scale = scale if found.quantity is None else 0
    if found.quantity is not None:
        yield f"By the formula {found.formula} it is {found.base_amount} {found.quantity} that earn."
    elif found.formula is not None:
        yield f"The formula is {found.formula}."
    if found.quantity is None and found.base_amount != found.earning_amount:
        yield f"Only whole units count: {format_amount(found.base_amount, scale)}."
    for band in found.bands:
        amount, start, per = (format_amount(each, unit_scale) for each in (band.amount, band.from_amount, band.per))
        rate = f"{_number(band.rate, points_scale)} per {per}"
        yield f"{_number(band.points, points_scale)} points are of {amount} from {start} on, at {rate}."
    if found.remaining is not None:
        points = _number(found.base, points_scale)
        yield f"{_number(found.remaining, 0)} of that is left after refunds: {points} points."


_MORE_PLACES = 6


def _number(number: Exact | int, scale: int) -> str:
    """A number of units with so many decimal places, and the few more it may need; as a fraction if those are many."""
    if isinstance(number, int):
        return format_amount(number, scale)
    for more in range(_MORE_PLACES + 1):
        units, rest = divmod(number.numerator * 10**more, number.denominator)
        if rest == 0:
            return format_amount(units, scale + more)
    reduced = _exact(number.numerator, number.denominator * 10**scale)
    return f"{reduced.numerator}/{reduced.denominator}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
