"""Movements: what an operation does, in the making.

A decision builds a :class:`Movement` leg by leg on top of a state that it does not change: what it has moved so far is
seen by what follows. When a step is refused the movement is thrown away. Its :meth:`Movement.admission` is the result.

Steps that can be refused return a :class:`~ledger.state.Rejection`, the others nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from msgspec.structs import replace

from ledger.encoding import MAX_INTEGER
from ledger.entries import NO_LAST_DAY, Posting, lot_posting
from ledger.program_terms import ExpiresAfterInactivity, Limit
from ledger.programs import ProgramVersion, add_months, last_day, local_date, round_ratio
from ledger.state import (
    NOT_NETTED,
    SUPPLY_ACCOUNTS,
    SYS_HELD,
    SYS_ISSUED,
    SYS_SPENT,
    Admission,
    Change,
    Claim,
    Code,
    Earning,
    Key,
    Obligation,
    Part,
    PointsHold,
    Progress,
    Rejection,
    State,
    Usage,
)
from ledger.terms import Cap, ClaimTerms, Fee

ALL_HOLDERS = "*"
"""The account of a usage that counts what all holders do."""

MAX_REDATED_LOTS = 50
"""How many lots of an account get another last day at a time: an entry is bounded, and must not be too large for it.

There are more only where lots were of another program version, or received; whatever the account does next moves them.
"""

_PERIOD_LENGTH = {"day": 10, "month": 7, "year": 4}


def spendable(lots: Mapping[str, int], today: str) -> int:
    """Points that can be used on a local date: those whose last day has not passed, less a debt."""
    return max(sum(points for day, points in lots.items() if day >= today), 0)


def has_lapsed(hold: PointsHold, time: str) -> bool:
    """Whether a hold has ended by itself at a time, though no entry says so yet."""
    return hold.status == "open" and time > hold.until


def lapsed_holds(state: State, account: str, asset: str, time: str) -> list[PointsHold]:
    """The holds of an account that have ended by themselves, in the order in which they return."""
    holds = [hold for hold in state.holds.group(account, asset) if has_lapsed(hold, time)]
    return sorted(holds, key=lambda hold: (hold.until, hold.hold))


def claim_for(terms: ClaimTerms | None, points: int) -> int:
    """Minor units owed for points; 0 without terms."""
    return 0 if terms is None else round_ratio(points * terms.amount, terms.points, terms.round)


def fee_for(fee: Fee | None, points: int) -> int:
    """Minor units that moving points costs; 0 without a fee."""
    if fee is None or points == 0:
        return 0
    amount = fee.fixed + round_ratio(points * fee.amount, fee.points, fee.round)
    return amount if fee.maximum is None else min(amount, fee.maximum)


def period_of(cap: Cap | Limit, day: str) -> str:
    """The period of a cap or limit that a local date is in: ``2026``, ``2026-11``, ``2026-11-22`` or ``ever``."""
    return day[: _PERIOD_LENGTH[cap.period]] if cap.period != "ever" else "ever"


def split(parts: Sequence[Part], amount: int) -> tuple[list[Part], list[Part]]:
    """The first ``amount`` points of some parts, and the rest."""
    taken: list[Part] = []
    rest: list[Part] = []
    for day, points in parts:
        now = min(points, amount)
        amount -= now
        if now:
            taken.append((day, now))
        if points > now:
            rest.append((day, points - now))
    return taken, rest


def usable_lots(lots: Mapping[str, int], today: str) -> list[Part]:
    """The lots that can be used on a local date, earliest last day first; a debt is none."""
    return [(day, points) for day, points in sorted(lots.items()) if day >= today and points > 0]


def choose_lots(
    lots: Mapping[str, int], today: str, asset: str, amount: int, path: tuple[str, ...]
) -> list[Part] | Rejection:
    """Which lots so many points come from on a local date: those that can be used, earliest last day first."""
    if len(lots) == 1:  # as it often is
        ((day, points),) = lots.items()
        if day >= today and points >= amount:
            return [(day, amount)]
    available = spendable(lots, today)
    if available < amount:
        return insufficient_points(asset, amount, available, path)
    return split(usable_lots(lots, today), amount)[0]


def lot_at(version: ProgramVersion | None, time: str, joined_on: str | None = None) -> str:
    """The last day of points that a program version gives at a time; they have none without a program.

    ``joined_on`` is the day on which who receives them became a member; absent, it is this one.
    """
    if version is None:
        return NO_LAST_DAY
    return last_day(version.program.expiry, local_date(time, version.program.time_zone), joined_on)


def insufficient_points(asset: str, amount: int, available: int, path: tuple[str, ...]) -> Rejection:
    """An account has fewer points that can be used than are needed."""
    message = f"{amount} points of {asset} needed, {available} available"
    details: dict[str, int | str] = {"required_points": amount, "available_points": available}
    return Rejection(Code.INSUFFICIENT_POINTS, message, path, details)


class Movement:
    """What an operation recorded at a time does, so far."""

    def __init__(self, state: State, time: str) -> None:
        self.state = state
        self.time = time
        self.legs: list[Posting] = []
        self.earnings: list[Earning] = []
        self._changes: dict[tuple[str, Key], Any] = {}
        self._references: list[tuple[str, str, str]] = []
        self._parties: list[str] = []
        self._lots: dict[tuple[str, str], dict[str, int]] = {}
        self._counts: dict[tuple[str, str, str], dict[str, int]] = {}
        self._claims = 0

    def admission(self, actor: str) -> Admission:
        """All of it, for an operation of this actor."""
        known = {actor, *(leg.account for leg in self.legs)}
        changes: tuple[Change, ...] = tuple((name, key, record) for (name, key), record in self._changes.items())
        return Admission(
            tuple(self.legs),
            tuple(self.earnings),
            changes=changes,
            references=tuple(self._references),
            parties=tuple(dict.fromkeys(account for account in self._parties if account not in known)),
        )

    # Records

    def get(self, name: str, *key: Any) -> Any:
        """The record with a key, as it is by now."""
        return self._changes[name, key] if (name, key) in self._changes else self.state.records(name).get(*key)

    def put(self, name: str, record: Any) -> None:
        """Write a record in place of the one with its key."""
        self._changes[name, self.state.records(name).key_of(record)] = record

    def remove(self, name: str, *key: Any) -> None:
        """Remove the record with a key."""
        self._changes[name, key] = None

    def refer(self, merchant: str, scope: str, reference: str) -> None:
        """Use up a reference."""
        self._references.append((merchant, scope, reference))

    def concern(self, accounts: Iterable[str]) -> None:
        """Note accounts that the entry is about, though they may have no leg in it."""
        self._parties += accounts

    # Legs

    def lots(self, account: str, asset: str) -> dict[str, int]:
        """Points of an account by last day, as they are by now; not to be changed."""
        lots = self._lots.get((account, asset))
        if lots is None:
            lots = self._lots[account, asset] = dict(self.state.lots_of(account, asset))
        return lots

    def balance(self, account: str, asset: str) -> int:
        """All points of an account, or what it is owed less what it owes."""
        return sum(self.lots(account, asset).values())

    def today(self, asset: str) -> str:
        """The local date for an asset."""
        return self.state.today(asset, self.time)

    def leg(self, account: str, asset: str, amount: int, day: str = NO_LAST_DAY) -> None:
        """Post an amount; nothing when it is 0."""
        if amount == 0:
            return
        lots = self.lots(account, asset)
        lots[day] = lots.get(day, 0) + amount
        if lots[day] == 0:
            del lots[day]
        self.legs.append(lot_posting(account, asset, amount, day))

    def give(self, account: str, asset: str, parts: Iterable[Part]) -> None:
        """Post points to lots of an account."""
        for day, points in parts:
            self.leg(account, asset, points, day)

    def take(self, account: str, asset: str, parts: Iterable[Part]) -> None:
        """Post points out of lots of an account that has them."""
        for day, points in parts:
            self.leg(account, asset, -points, day)

    def return_lapsed(self, account: str, asset: str) -> None:
        """Give an account back what it had on holds that have ended by themselves."""
        for hold in lapsed_holds(self.state, account, asset, self.time):
            if self.get("holds", hold.hold) is hold:
                self.close(hold, "lapsed")

    def close(self, hold: PointsHold, status: str) -> None:
        """Give its holder back what is left of a hold."""
        self.leg(SYS_HELD, hold.asset, -hold.remaining)
        self.give(hold.account, hold.asset, hold.parts)
        self.put("holds", replace(hold, parts=(), status=status))

    def spend(self, account: str, asset: str, amount: int, path: tuple[str, ...]) -> list[Part] | Rejection:
        """Take points from lots that can be used, earliest last day first; what was taken, in that order."""
        self.return_lapsed(account, asset)
        parts = choose_lots(self.lots(account, asset), self.today(asset), asset, amount, path)
        if not isinstance(parts, Rejection):
            self.take(account, asset, parts)
        return parts

    def circulating(self, asset: str) -> int:
        """Points in circulation: issued less spent less expired."""
        return -sum(self.balance(account, asset) for account in SUPPLY_ACCOUNTS)

    def check_issue(self, asset: str, amount: int, path: tuple[str, ...]) -> Rejection | None:
        """Why so many points more cannot be issued: the range of integers, and the supply cap."""
        issued = -self.balance(SYS_ISSUED, asset)
        if issued + amount > MAX_INTEGER:
            return Rejection(Code.POINTS_OVERFLOW, f"{amount} points would pass 2^53-1 points issued of {asset}", path)
        return self.check_cap(asset, amount, path)

    def check_cap(self, asset: str, amount: int, path: tuple[str, ...]) -> Rejection | None:
        """Why so many points more cannot circulate."""
        cap = self.state.assets[asset].supply_cap
        circulating = self.circulating(asset) if cap is not None else 0
        if cap is None or circulating + amount <= cap:
            return None
        message = f"{circulating} of at most {cap} points of {asset} are in circulation; {amount} more do not fit"
        details: dict[str, int | str] = {"supply_cap": cap, "circulating_points": circulating}
        return Rejection(Code.SUPPLY_EXCEEDED, message, path, details)

    def earn(self, account: str, asset: str, amount: int, day: str) -> None:
        """Post points to a lot of an account; a debt, which is a negative undated lot, is repaid first."""
        debt = -min(self.lots(account, asset).get(NO_LAST_DAY, 0), 0)
        repaid = min(debt, amount) if day != NO_LAST_DAY else 0
        self.leg(account, asset, repaid)
        self.leg(account, asset, amount - repaid, day)

    def lot_for(self, account: str, asset: str, time: str | None = None) -> str:
        """The last day of points of an asset that come to an account now, or came by the rules of another time."""
        at = self.time if time is None else time
        membership = self.get("memberships", asset, account)
        joined_on = None if membership is None else membership.joined_on
        return lot_at(self.state.program_at(asset, at), at, joined_on)

    def refresh(self, account: str, asset: str, day: str) -> None:
        """Note that an account earned or spent points of an asset on a local date.

        Where points end by inactivity, all of its points that can be used get the last day that follows from that date,
        unless they have a later one; of very many lots the earliest.
        """
        version = self.state.program_at(asset, self.time)
        if version is None or not isinstance(version.program.expiry, ExpiresAfterInactivity):
            return
        new = add_months(date.fromisoformat(day), version.program.expiry.months).isoformat()
        usable = usable_lots(self.lots(account, asset), self.today(asset))
        lots = [part for part in usable if part[0] < new][:MAX_REDATED_LOTS]
        self.take(account, asset, lots)
        self.leg(account, asset, sum(points for _, points in lots), new)

    def receive(self, merchant: str, asset: str, parts: Sequence[Part], received: str) -> None:
        """Post spent points to who receives them: out of circulation, or kept in their lots."""
        if received == "kept":
            self.give(merchant, asset, parts)
        else:
            self.leg(SYS_SPENT, asset, sum(points for _, points in parts))

    # Progress

    def counts(self, account: str, asset: str, basis: str) -> Mapping[str, int]:
        """How much of what tiers count an account has done in each period, as it is by now."""
        counts = self._counts.get((account, asset, basis))
        if counts is None:
            done: list[Progress] = self.state.progress.group(asset, account)
            counts = {progress.period: progress.count for progress in done if progress.basis == basis}
            self._counts[account, asset, basis] = counts
        return counts

    def count(self, account: str, asset: str, basis: str, period: str, amount: int) -> Rejection | None:
        """Count what an account did in a period, or what was undone; a count of nothing has no record."""
        if amount == 0:
            return None
        counts = dict(self.counts(account, asset, basis))
        total = counts.get(period, 0) + amount
        if total > MAX_INTEGER:
            message = f"{account} would pass 2^53-1 of what tiers of {asset} count in {period}"
            return Rejection(Code.AMOUNT_OVERFLOW, message)
        counts[period] = total
        if total:
            progress = Progress(asset=asset, account=account, basis=basis, period=period, count=total)
            self.put("progress", progress)
        else:
            del counts[period]
            self.remove("progress", asset, account, basis, period)
        self._counts[account, asset, basis] = counts
        return None

    # Money

    def claim(
        self, debtor: str, creditor: str, currency: str, amount: int, agreement: str | None = None
    ) -> Rejection | None:
        """Book that one account owes another an amount; nothing when it is 0, or the account itself."""
        if amount == 0 or debtor == creditor:
            return None
        day = self.time[:10]
        if refusal := self._check_money(debtor, currency, -amount) or self._check_money(creditor, currency, amount):
            return refusal
        if refusal := self._check_obligation(debtor, creditor, currency, amount, day=day):
            return refusal
        self.leg(debtor, currency, -amount)
        self.leg(creditor, currency, amount)
        claim = Claim(
            seq=self.state.size,
            index=self._claims,
            debtor=debtor,
            creditor=creditor,
            currency=currency,
            amount=amount,
            day=day,
            agreement=agreement,
        )
        self._claims += 1
        self.put("claims", claim)
        self.owe(debtor, creditor, currency, amount, day=day)
        return None

    def owe(
        self, debtor: str, creditor: str, currency: str, amount: int, *, day: str, netting: int = NOT_NETTED
    ) -> None:
        """Change what one account owes another, of a day or a netting, by an amount."""
        key = (currency, debtor, creditor, netting, day)
        owed: Obligation | None = self.get("obligations", *key)
        total = amount if owed is None else owed.amount + amount
        if total == 0:
            self.remove("obligations", *key)
            return
        obligation = Obligation(
            currency=currency, debtor=debtor, creditor=creditor, netting=netting, day=day, amount=total
        )
        self.put("obligations", obligation)

    def _check_obligation(
        self, debtor: str, creditor: str, currency: str, amount: int, *, day: str
    ) -> Rejection | None:
        owed: Obligation | None = self.get("obligations", currency, debtor, creditor, NOT_NETTED, day)
        if owed is None or owed.amount + amount <= MAX_INTEGER:
            return None
        message = f"{debtor} would owe {creditor} more than 2^53-1 minor units of {currency} for {day}"
        return Rejection(Code.AMOUNT_OVERFLOW, message)

    def move_money(self, payer: str, payee: str, currency: str, amount: int) -> Rejection | None:
        """Post that an account was paid what it was owed."""
        if refusal := self._check_money(payee, currency, -amount) or self._check_money(payer, currency, amount):
            return refusal
        self.leg(payee, currency, -amount)
        self.leg(payer, currency, amount)
        return None

    def _check_money(self, account: str, currency: str, amount: int) -> Rejection | None:
        if abs(amount) <= MAX_INTEGER and abs(self.balance(account, currency) + amount) <= MAX_INTEGER:
            return None
        message = f"{abs(amount)} minor units of {currency} would pass 2^53-1 for {account}"
        return Rejection(Code.AMOUNT_OVERFLOW, message)

    # Bounds

    def use(
        self, cap: Cap | None, scope: str, account: str, amount: int, *, asset: str, path: tuple[str, ...]
    ) -> Rejection | None:
        """Count points under a cap, if there is one."""
        if cap is None:
            return None
        period = period_of(cap, self.today(asset))
        used = self.used(scope, account, period)
        if used + amount > cap.points:
            whose = "all together" if account == ALL_HOLDERS else account
            span = "in all are used" if cap.period == "ever" else f"a {cap.period} are used in {period}"
            message = f"{whose}: {used} of {cap.points} points {span}; {amount} more do not fit"
            details: dict[str, int | str] = {"cap_points": cap.points, "used_points": used, "period": cap.period}
            return Rejection(Code.CAP_EXCEEDED, message, path, details)
        self.put("usages", Usage(scope=scope, account=account, period=period, points=used + amount))
        return None

    def used(self, scope: str, account: str, period: str) -> int:
        """How much was counted under a bound in a period, as it is by now."""
        usage: Usage | None = self.get("usages", scope, account, period)
        return 0 if usage is None else usage.points

    def change_use(self, scope: str, account: str, period: str, amount: int) -> None:
        """Count something under a bound that has been looked at, or what was undone; nothing has no record."""
        total = self.used(scope, account, period) + amount
        if total:
            self.put("usages", Usage(scope=scope, account=account, period=period, points=total))
        elif amount:
            self.remove("usages", scope, account, period)


def check_bounds(
    amount: int, *, step: int, minimum: int, maximum: int | None, path: tuple[str, ...]
) -> Rejection | None:
    """Why an amount of points is not one that terms allow."""
    if amount % step:
        return Rejection(Code.OFF_STEP, f"{amount} is no multiple of {step} points", path, {"step": step})
    if amount < minimum:
        message = f"at least {minimum} points at a time"
        return Rejection(Code.BELOW_MINIMUM, message, path, {"minimum": minimum})
    if maximum is not None and amount > maximum:
        message = f"at most {maximum} points at a time"
        return Rejection(Code.ABOVE_MAXIMUM, message, path, {"maximum": maximum})
    return None


def check_fee(amount: int, maximum: int, currency: str) -> Rejection | None:
    """Why a fee is more than was agreed to."""
    if amount <= maximum:
        return None
    message = f"the fee is {amount} minor units of {currency}: sign a maximum_fee of as much"
    if amount > MAX_INTEGER:
        message = f"the fee is {amount} minor units of {currency}, more than can be owed: move fewer points"
    details: dict[str, int | str] = {"fee_amount": min(amount, MAX_INTEGER), "currency": currency}
    return Rejection(Code.FEE_ABOVE_LIMIT, message, ("maximum_fee",), details)
