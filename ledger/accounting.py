"""What points cost and earn in a merchant's books: allocation, deferred revenue, breakage, liability, open claims.

Pure functions of what a ledger recorded (:mod:`ledger.books` gathers that) and of what its merchant expects. They
decide nothing in the ledger. Ratios are exact (:class:`fractions.Fraction`); money is an integer of minor units and is
rounded once, half up, where each function says so.

**Deferred revenue** (IFRS 15 and ASC 606-10-55, example 52). Who buys also buys the right to spend points later. The
price is divided between both by their stand-alone prices, once (:func:`allocate`); the points' part becomes revenue as
points are spent, of all that are expected ever to be spent (:func:`recognise`)::

    sales 100,000; 10,000 points of price 1, of which 9,500 are expected to be spent: they are worth 9,500
    points  100,000 ×   9,500 / 109,500 =  8,675.8 →  8,676
    product 100,000 −   8,676            = 91,324
    period 1: 4,500 spent, 9,500 expected   8,676 × 4,500 / 9,500 = 4,109.7 → 4,110 revenue, 4,566 still owed
    period 2: 8,500 spent, 9,700 expected   8,676 × 8,500 / 9,700 = 7,602.7 → 7,603 − 4,110 = 3,493 revenue, 1,073 owed

A changed estimate changes the revenue of the period it is made in and of no other (a cumulative catch-up); what was
allocated is never allocated again.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from msgspec import Struct

from ledger.encoding import format_moment
from ledger.entries import Posting
from ledger.programs import round_ratio
from ledger.state import NOT_NETTED


class EstimateError(ValueError):
    """An expectation that contradicts what was recorded. ``period`` says of which period, from 0."""

    def __init__(self, period: int, message: str) -> None:
        super().__init__(message)
        self.period = period


def day_start(day: date, time_zone: str) -> str:
    """The first moment of a calendar day in a time zone, as a time in UTC: what was recorded before is of earlier days.

    Where clocks skip midnight, that is the moment they do so.
    """
    if time_zone == "UTC":
        return f"{day.isoformat()}T00:00:00.000Z"
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone))
    return format_moment(midnight.astimezone(UTC))


def rounded(amount: Fraction) -> int:
    """An amount of 0 or more as an integer, half up."""
    return round_ratio(amount.numerator, amount.denominator, "half_up")


# Liability and breakage


def liability(points: int, redemption_rate: Fraction, cost_per_point: Fraction) -> int:
    """What outstanding points will cost, in minor units, half up: points × share expected to be spent × cost of one."""
    return rounded(max(points, 0) * redemption_rate * cost_per_point)


def breakage_rate(issued: int, unspent: int) -> Fraction | None:
    """The share of the points of ended lots that nobody spent; ``None`` when no lot has ended."""
    return Fraction(unspent, issued) if issued > 0 else None


# Deferred revenue


class Allocation(Struct, frozen=True, kw_only=True):
    """A price divided between what was bought and the points given with it, in minor units."""

    product: int
    points: int


def allocate(sales: int, points: int, redemption_rate: Fraction, price_per_point: Fraction) -> Allocation:
    """Divide sales by relative stand-alone prices; the points' part is rounded half up, the product has the rest.

    The product's stand-alone price is what it was sold for. That of the points is ``price_per_point`` for each that is
    expected to be spent.
    """
    worth = points * redemption_rate * price_per_point
    if sales == 0 or worth == 0:
        return Allocation(product=sales, points=0)
    part = rounded(sales * worth / (sales + worth))
    return Allocation(product=sales - part, points=part)


class Period(Struct, frozen=True, kw_only=True):
    """What was recorded in a period, and what share of all points ever issued is expected, at its end, to be spent.

    ``sales`` and ``refunded_sales`` are of purchases, in minor units, with the ``earned`` points they gave and the
    ``taken_back`` points of refunds; ``other_points`` is what was issued without a sale, less what was corrected;
    ``redeemed`` is what was spent, less what came back.
    """

    sales: int
    earned: int
    refunded_sales: int = 0
    taken_back: int = 0
    other_points: int = 0
    redeemed: int
    redemption_rate: Fraction


class Recognition(Struct, frozen=True, kw_only=True):
    """Deferred revenue of a period, in minor units, and what it follows from.

    ``allocated`` is what the sales of the period deferred and ``released`` what refunds took out of that again;
    ``revenue`` is what the period recognises, which a changed estimate can make negative, and ``liability`` what
    remains deferred at its end. ``issued``, ``redeemed`` and ``expected`` count points from the beginning: issued less
    taken back, spent, and expected to be spent in all.
    """

    allocated: Allocation
    released: int
    issued: int
    redeemed: int
    expected: Fraction
    revenue: int
    revenue_so_far: int
    liability: int


def recognise(periods: Sequence[Period], price_per_point: Fraction) -> list[Recognition]:
    """Deferred revenue of periods that follow each other from the beginning of the points.

    Points are one pool (the portfolio of IFRS 15.4): which purchase gave a spent point is not asked, so the revenue so
    far is the deferred total × spent / expected to be spent, over all points issued, rounded half up. Refunds release
    deferred revenue at the average at which the points of purchases were deferred. Raises :class:`EstimateError` for a
    rate that is not between 0 and 1, or by which fewer points would be spent than were.
    """
    pool = _Pool()
    return [pool.close(number, period, price_per_point) for number, period in enumerate(periods)]


class _Pool:
    """All points since the beginning."""

    def __init__(self) -> None:
        self._deferred = 0
        self._earned = 0
        self._issued = 0
        self._redeemed = 0
        self._revenue = 0

    def close(self, number: int, period: Period, price_per_point: Fraction) -> Recognition:
        """Add a period and recognise its revenue."""
        if not 0 <= period.redemption_rate <= 1:
            raise EstimateError(number, "a share of points is a number from 0 to 1")
        allocated = allocate(period.sales, period.earned, period.redemption_rate, price_per_point)
        self._deferred += allocated.points
        self._earned += period.earned
        released = self._release(period.taken_back)
        self._issued += period.earned - period.taken_back + period.other_points
        self._redeemed += period.redeemed
        expected = self._issued * period.redemption_rate
        if expected < self._redeemed:
            message = f"{self._redeemed} points of {self._issued} were spent: expect at least as many to be"
            raise EstimateError(number, message)
        so_far = self._deferred
        if expected > self._redeemed:
            so_far = rounded(self._deferred * self._redeemed / expected)
        revenue, self._revenue = so_far - self._revenue, so_far
        return Recognition(
            allocated=allocated,
            released=released,
            issued=self._issued,
            redeemed=self._redeemed,
            expected=expected,
            revenue=revenue,
            revenue_so_far=so_far,
            liability=self._deferred - so_far,
        )

    def _release(self, taken_back: int) -> int:
        if not taken_back or not self._earned:
            return 0
        released = rounded(self._deferred * Fraction(taken_back, self._earned))
        self._deferred -= released
        self._earned -= taken_back
        return released


# Lapsed holds


def returned_by_lapse(legs: Iterable[Posting], held_account: str) -> Counter[str]:
    """Points by lot that lapsed holds gave back at the beginning of an entry, before what the entry is about.

    They come as runs: a leg that takes from ``held_account``, then those that give as much. Without a ``lot`` the key
    is the empty text.
    """
    returned: Counter[str] = Counter()
    rest = 0
    for leg in legs:
        if leg.account == held_account and leg.amount < 0 and rest == 0:
            rest = -leg.amount
        elif rest > 0:
            returned[leg.lot or ""] += leg.amount
            rest -= leg.amount
        else:
            break
    return returned


# Open claims


class Owed(Struct, frozen=True):
    """An amount that one account owes another."""

    debtor: str
    creditor: str
    amount: int


class OpenClaims:
    """What accounts owe each other in one currency, as claims, settlements, nettings and disputes leave it.

    It follows the ledger's record of clearing, in the order of the entries, to say what each netting took the place of.
    A debt is kept by the netting that made it (:data:`NOT_NETTED` for claims) and by day, the order in which it is
    settled.
    """

    def __init__(self) -> None:
        self._owed: dict[tuple[str, str], Counter[tuple[int, str]]] = {}

    def claim(self, debtor: str, creditor: str, day: str, amount: int) -> None:
        """A claim of a day arises, or one that was disputed stands; a negative amount takes it out of what is due."""
        parts = self._owed.setdefault((debtor, creditor), Counter())
        parts[NOT_NETTED, day] += amount
        if not parts[NOT_NETTED, day]:
            del parts[NOT_NETTED, day]

    def settle(self, debtor: str, creditor: str, amount: int) -> None:
        """Take what was paid from the debts that nettings made, the oldest first, then from those of claims by day."""
        parts = self._owed.get((debtor, creditor), Counter())
        for key in sorted(parts, key=lambda key: (key[0] == NOT_NETTED, key)):
            taken = min(amount, parts[key])
            amount -= taken
            parts[key] -= taken
            if not parts[key]:
                del parts[key]

    def net(self, seq: int, merchants: Iterable[str], through: str, payments: Iterable[Owed]) -> list[Owed]:
        """Put payments in the place of what merchants owe each other from days through one; return what that was."""
        among = set(merchants)
        cleared = []
        for (debtor, creditor), parts in self._owed.items():
            if debtor not in among or creditor not in among:
                continue
            due = [key for key in parts if key[0] == NOT_NETTED and key[1] <= through]
            amount = sum(parts.pop(key) for key in due)
            if amount:
                cleared.append(Owed(debtor, creditor, amount))
        for payment in payments:
            parts = self._owed.setdefault((payment.debtor, payment.creditor), Counter())
            parts[seq, through] += payment.amount
        return sorted(cleared, key=lambda owed: (owed.debtor, owed.creditor))

    def __iter__(self) -> Iterator[Owed]:
        """What everyone owes now, by debtor and creditor."""
        for debtor, creditor in sorted(self._owed):
            amount = sum(self._owed[debtor, creditor].values())
            if amount:
                yield Owed(debtor, creditor, amount)
