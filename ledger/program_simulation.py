"""Simulation: what a program would have given for the purchases that an asset has on record, beside the one in force.

Both programs are run over the same history in the order in which it was recorded, from its beginning, by the
calculation that decides what is recorded: who stands in which tier, what a cap has room for and whose purchase was the
first follow from what each program itself gave before. So the program in force is told as if it had always been; what
was really given, by whichever version was in force then, is told too. Where one version gave everything, that is the
same to the point.

What nobody can know stays as it was recorded: local dates, what each purchase's document says, which formula a member
chose, when it joined, who invited it, which plan it had paid for, what activities gave. That a purchase was recorded
late is not held against it, and nobody buys more or less for a program's sake. Points count as given when they are
promised, before they vest; how they expire, and what they are spent on, are no part of this.

Who may ask is not decided here, nor how answers look.
"""

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import groupby, islice
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger.accounting import rounded
from ledger.bulk import chunks_of
from ledger.calculation import Bought, Calculation, calculate, is_special, plan_on, sentences
from ledger.encoding import MAX_INTEGER, AccountId
from ledger.entries import decode_entry
from ledger.movements import period_of
from ledger.operations import RecordPurchases, Refund
from ledger.program_queries import memberships_of
from ledger.program_terms import Program
from ledger.programs import ProgramVersion, local_date, points_for
from ledger.standing import Standing, period_of_day, standing_at
from ledger.state import INVITATION_SCOPE, ORDER_SCOPE, Asset, Circumstances, Earning, Membership
from ledger.store import Store, StoreError, earning_of
from ledger.tables import EARNING, ENTRY, PURCHASE_REFUND
from ledger.terms import RefundedPurchase

MAX_CHANGES = 100
"""How many of the members that lose or gain most can be asked for, of either."""

_STREAMED = {"stream_results": True, "yield_per": 2_000}

_BATCH = 1_000
"""Entries whose members are looked up together."""

OrderKey = tuple[str, str]
"""A merchant and its number of a purchase."""


class SimulationError(StoreError):
    """A simulation that cannot be had. ``path`` names the part of the draft that is in the way, if it is one."""

    def __init__(self, message: str, *path: str) -> None:
        super().__init__(f"{'.'.join(path)}: {message}" if path else message)
        self.message = message
        self.path = path


class TooLongError(SimulationError):
    """The history has more events than are to be looked at."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What is asked: how a ``draft`` does beside the program of ``asset`` that is in force at the time ``now``.

    Of events on the local dates ``first`` to ``last``, both included; ``None``: since ever, or until now. ``cost`` is
    in minor units, for a number of points. ``members`` of those who lose most are named, and of those who gain most.
    ``scale`` is the decimal places of the currency. More than ``most`` events to look at are refused.
    """

    asset: Asset
    draft: Program
    now: str
    scale: int
    first: str | None = None
    last: str | None = None
    cost: tuple[int, int] | None = None
    members: int = 10
    most: int | None = None


class Given(Struct, kw_only=True):
    """Points: ``for_purchases``, ``for_invitations``, and of both what refunds of these purchases took back since."""

    for_purchases: int = 0
    for_invitations: int = 0
    taken_back: int = 0

    @property
    def net(self) -> int:
        """What is left."""
        return self.for_purchases + self.for_invitations - self.taken_back

    def add(self, purchase: int, invitation: int = 0, back: int = 0) -> None:
        """Count more of it."""
        self.for_purchases += purchase
        self.for_invitations += invitation
        self.taken_back += back


class Sums(Struct, kw_only=True):
    """Purchases, what they came to before refunds, and points: ``recorded``, by the program ``now``, by the draft."""

    purchases: int = 0
    amount: int = 0
    recorded: Given
    now: Given
    draft: Given

    @classmethod
    def nothing(cls) -> "Sums":
        """Sums of no purchases."""
        return cls(recorded=Given(), now=Given(), draft=Given())


class Month(Struct, frozen=True, kw_only=True):
    """Purchases that were made in a month ``YYYY-MM``."""

    month: str
    sums: Sums


class TierMembers(Struct, frozen=True, kw_only=True):
    """How many members are in a ``tier``, or in none, by each program; of one that it has not, none are."""

    tier: str | None
    now: int
    draft: int


class TierMove(Struct, frozen=True, kw_only=True):
    """``members`` who are in the tier ``now`` by the program in force and would be in ``draft`` by the other."""

    now: str | None
    draft: str | None
    members: int


class Example(Struct, frozen=True, kw_only=True):
    """The purchase that makes the greatest difference to a member, what it gives by each program, and why."""

    merchant: str
    order: str
    earned_on: str
    amount: int
    now: int
    draft: int
    now_why: tuple[str, ...]
    draft_why: tuple[str, ...]


class MemberChange(Struct, frozen=True, kw_only=True):
    """What a member has by each program; ``example`` is none where nothing but invitations or refunds differ."""

    account: str
    now: int
    draft: int
    example: Example | None


class Side(Struct, frozen=True, kw_only=True):
    """How many members have less, or more, by the draft; how many points in all; and those who have most of it."""

    members: int
    points: int
    most: tuple[MemberChange, ...]


class Simulation(Struct, frozen=True, kw_only=True):
    """What came of it. ``first`` and ``last`` are those asked about, or else of the first and last purchase found.

    ``version`` is that of the program now. Members are those who bought or did an activity; where they stand is of
    ``tiers_on``, the last day asked about or else that of the last purchase; without tiers in either program there are
    none. Costs are in minor units of ``currency``, half up; ``None`` where nothing says what a point costs.
    """

    version: int
    first: str | None
    last: str | None
    sums: Sums
    recorded_cost: int | None
    now_cost: int | None
    draft_cost: int | None
    currency: str
    months: tuple[Month, ...]
    members: int
    unchanged: int
    losing: Side
    gaining: Side
    tiers_on: str
    tiers: tuple[TierMembers, ...]
    moves: tuple[TierMove, ...]


def simulate(store: Store, connection: Connection, wanted: Wanted) -> Simulation:
    """Run a draft over an asset's history; raise :class:`SimulationError` where that cannot be.

    Memory grows with the members, not with their purchases.
    """
    version = _version_now(store, connection, wanted)
    _check_draft(wanted.draft, version.program)
    history = _History(store, connection, wanted, warm=is_special(version.program) or is_special(wanted.draft))
    history.check_length()
    return _Comparison(wanted, version, history).result()


def _version_now(store: Store, connection: Connection, wanted: Wanted) -> ProgramVersion:
    versions = store.programs(connection, [wanted.asset.code])
    started = [version for version in versions if version.starts <= wanted.now]
    if not started:
        raise SimulationError(f"{wanted.asset.code} has no program to compare with: publish one first")
    return started[-1]


def _check_draft(draft: Program, now: Program) -> None:
    """Refuse a draft that could not be published for this asset."""
    if draft.currency != now.currency:
        raise SimulationError(f"it is earned in {now.currency}; a version cannot change that", "currency")
    if draft.time_zone != now.time_zone:
        raise SimulationError(f"its days are those of {now.time_zone}; a version cannot change that", "time_zone")


# A program, run


class _Kept(Struct):
    """A purchase of which something is refunded later: what it gave, and what is undone of that."""

    bought: Bought
    points: int
    inviter: str | None
    refunded: int = 0
    lines: tuple[int, ...] = ()
    back: int = 0


class _Outcome(Struct, frozen=True, gc=False):
    """What a purchase gave: its member, and who invited it."""

    points: int
    bought: Bought
    inviter: str | None = None


class _Undone(Struct, frozen=True, gc=False):
    """What a refund takes back: of the member's points, and from who invited it."""

    points: int
    inviter: str | None = None


NOTHING_SAID = Circumstances()


class Run:
    """A program over a history, so far: what it has given, and what it counts for it.

    Everything is given in the order in which it was recorded. ``kept`` are the purchases of which a refund will come.
    """

    def __init__(self, program: Program, asset: Asset, unit: int, kept: frozenset[OrderKey] = frozenset()) -> None:
        self.program = program
        self._issuer = asset.issuer
        self._unit = unit
        self._special = is_special(program)
        self._keep = kept
        self._kept: dict[OrderKey, _Kept] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._earned: Counter[tuple[str, str]] = Counter()
        self._invited: Counter[tuple[str, str]] = Counter()
        self._purchases: Counter[str] = Counter()

    def standing(self, account: str, joined_on: str, day: str) -> Standing | None:
        """Where a member stands on a local date; ``None`` without tiers."""
        tiers = self.program.tiers
        return None if tiers is None else standing_at(tiers, self._counts.get(account, {}), joined_on, day)

    def purchase(self, event: Earning, member: Membership) -> _Outcome:
        """Give for a purchase of a member; ``member`` says what it had chosen, not what it has bought."""
        assert event.amount is not None
        inviter = None
        if self._special:
            bought = self._bought(event, member)
            found = calculate(self.program, bought, self._unit)
            points = found.points
            self._check(points)
            self._count(event, member, found, 1, points)
            inviter = self._inviter(event, member)
            self._purchases[event.account] += 1
        else:
            said = event.circumstances or NOTHING_SAID
            bought = Bought(amount=event.amount, merchant=event.merchant, earned_on=event.earned_on, circumstances=said)
            points = points_for(self.program, event.amount, self._unit)
            self._check(points)
        if (event.merchant, event.reference) in self._keep:
            lines = (0,) * len(bought.circumstances.lines)
            self._kept[event.merchant, event.reference] = _Kept(bought, points, inviter, lines=lines)
        return _Outcome(points, bought, inviter)

    def _check(self, points: int) -> None:
        if points > MAX_INTEGER:
            raise SimulationError("a purchase would give more than 2^53-1 points")

    def _bought(self, event: Earning, member: Membership) -> Bought:
        assert event.amount is not None
        account, day, cap = event.account, event.earned_on, self.program.earning_cap
        standing = self.standing(account, member.joined_on, day)
        room = None
        if cap is not None:
            room = max(0, cap.points - self._earned[account, period_of(cap, day)])
        said = event.circumstances or NOTHING_SAID
        circumstances = Circumstances(
            channel=said.channel,
            first=self._purchases[account] == 0,
            formula=member.formula,
            invited=member.invited_by is not None,
            joined_on=member.joined_on,
            lines=said.lines,
            plan=plan_on(member, day),
            quantities=said.quantities,
            room=room,
            tender=said.tender,
            tier=None if standing is None else standing.tier,
        )
        return Bought(amount=event.amount, merchant=event.merchant, earned_on=day, circumstances=circumstances)

    def _count(self, event: Earning, member: Membership, found: Calculation, visits: int, points: int) -> None:
        done = {"amount": found.earning_amount, "points": points, "status": found.status_points, "visits": visits}
        self._progress(event.account, member.joined_on, event.earned_on, done)
        if self.program.earning_cap is not None:
            self._earned[event.account, period_of(self.program.earning_cap, event.earned_on)] += points

    def _progress(self, account: str, joined_on: str, day: str, done: Mapping[str, int]) -> None:
        tiers = self.program.tiers
        amount = 0 if tiers is None else done.get(tiers.basis, 0)
        if tiers is None or not amount:
            return
        counts = self._counts.setdefault(account, {})
        period = period_of_day(tiers, joined_on, day)
        counts[period] = counts.get(period, 0) + amount
        if counts[period] > MAX_INTEGER:
            raise SimulationError(f"{account} would pass 2^53-1 of what tiers count in {period}")
        if not counts[period]:
            del counts[period]

    def _inviter(self, event: Earning, member: Membership) -> str | None:
        """Who is rewarded for having invited a member, by its first purchase."""
        referral, inviter = self.program.referral, member.invited_by
        first = self._purchases[event.account] == 0
        if referral is None or inviter is None or not first or event.merchant != self._issuer:
            return None
        if referral.limit is not None:
            key = inviter, period_of(referral.limit, event.earned_on)
            if self._invited[key] >= referral.limit.count:
                return None
            self._invited[key] += 1
        return inviter

    @property
    def invitation_points(self) -> int:
        """What an invitation gives."""
        return 0 if self.program.referral is None else self.program.referral.points

    def grant(self, event: Earning, joined_on: str) -> None:
        """Count what an activity gave, whatever the program says about it."""
        if self._special:
            self._progress(event.account, joined_on, event.earned_on, {"points": event.points})

    def refund(self, event: Earning, member: Membership, of: RefundedPurchase) -> _Undone:
        """Undo what a purchase gave for a part of it, as a refund does."""
        kept = self._kept[event.merchant, event.reference]
        before = kept.lines or kept.refunded
        kept.lines = refunded_lines(kept, of)
        kept.refunded += of.amount
        whole = kept.refunded == kept.bought.amount
        gave = calculate(self.program, kept.bought, self._unit, before)
        gives = calculate(self.program, kept.bought, self._unit, kept.lines or kept.refunded)
        back = max(kept.points - kept.back - gives.points, 0)
        kept.back += back
        if not self._special:
            return _Undone(back)
        done = {
            "amount": gives.earning_amount - gave.earning_amount,
            "points": -back,
            "status": gives.status_points - gave.status_points,
            "visits": -int(whole),
        }
        self._progress(event.account, member.joined_on, event.earned_on, done)
        if self.program.earning_cap is not None:
            self._earned[event.account, period_of(self.program.earning_cap, event.earned_on)] -= back
        if not whole:
            return _Undone(back)
        self._purchases[event.account] -= 1
        referral = self.program.referral
        if kept.inviter is not None and referral is not None and referral.limit is not None:
            self._invited[kept.inviter, period_of(referral.limit, event.earned_on)] -= 1
        return _Undone(back, kept.inviter)


def refunded_lines(kept: _Kept, of: RefundedPurchase) -> tuple[int, ...]:
    """How much of each line is refunded by now: of those named, or else of the last ones."""
    refunded = list(kept.lines)
    for each in of.lines:
        refunded[each.line] += each.amount
    wanted = 0 if of.lines else of.amount
    for i in reversed(range(len(refunded))):
        part = min(kept.bought.circumstances.lines[i].amount - refunded[i], wanted)
        refunded[i] += part
        wanted -= part
    return tuple(refunded)


# What was recorded


class _Refunded(Struct, frozen=True):
    """How much of a purchase was refunded in all, and how many of its points were undone by that."""

    amount: int
    points: int


class _RefundMade(Struct, frozen=True):
    seq: int
    merchant: str
    of: RefundedPurchase


class _EventsMade(Struct, frozen=True):
    """The events of an entry, in the order of its document."""

    seq: int
    events: tuple[Earning, ...]


class _History:
    """An asset's purchases, activities and refunds, in the order in which they were recorded.

    ``warm``: what came before the first day matters, since a program remembers it.
    """

    def __init__(self, store: Store, connection: Connection, wanted: Wanted, *, warm: bool) -> None:
        self._store = store
        self._connection = connection
        self._wanted = wanted
        self._from = None if warm else wanted.first
        self.refunded = self._all_refunded()

    def _conditions(self) -> list[Any]:
        found = [EARNING.c.ledger_id == self._store.ledger_id, EARNING.c.asset == self._wanted.asset.code]
        if self._from is not None:
            found.append(EARNING.c.earned_on >= self._from)
        if self._wanted.last is not None:
            found.append(EARNING.c.earned_on <= self._wanted.last)
        return found

    def check_length(self) -> None:
        """Refuse a history that is longer than it may be, before any of it is looked at."""
        most = self._wanted.most
        if most is None:
            return
        events = sa.select(sa.literal(1)).where(*self._conditions()).limit(most + 1).subquery()
        refunds = sa.select(sa.literal(1)).where(*self._of_refunds()).limit(most + 1).subquery()
        for rows in (events, refunds) if self.refunded else (events,):
            if self._connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one() > most:
                raise TooLongError(f"more than {most:,} purchases, activities or refunds would have to be looked at")

    def _all_refunded(self) -> dict[OrderKey, _Refunded]:
        """All purchases of the asset that were refunded in part or whole."""
        of_asset = sa.and_(
            EARNING.c.ledger_id == PURCHASE_REFUND.c.ledger_id,
            EARNING.c.merchant == PURCHASE_REFUND.c.merchant,
            EARNING.c.scope == ORDER_SCOPE,
            EARNING.c.reference == PURCHASE_REFUND.c.reference,
        )
        columns = (PURCHASE_REFUND.c.merchant, PURCHASE_REFUND.c.reference)
        given = (PURCHASE_REFUND.c.amount, PURCHASE_REFUND.c.points)
        query = sa.select(*columns, *given).join_from(PURCHASE_REFUND, EARNING, of_asset).where(*self._conditions())
        if self._wanted.most is not None:
            query = query.limit(self._wanted.most)
        rows = self._connection.execute(query)
        return {(row.merchant, row.reference): _Refunded(row.amount, row.points) for row in rows}

    def items(self) -> Iterator[_EventsMade | _RefundMade]:
        """All of it."""
        refunds = self._refunds() if self.refunded else ()
        return heapq.merge(self._entries(), refunds, key=attrgetter("seq"))

    def _entries(self) -> Iterator[_EventsMade]:
        query = sa.select(EARNING).where(*self._conditions()).order_by(EARNING.c.seq)
        rows = self._connection.execute(query, execution_options=_STREAMED)
        for seq, group in groupby(rows, attrgetter("seq")):
            events = [earning_of(row) for row in group]
            yield _EventsMade(seq, tuple(self._in_order(seq, events) if _is_mixed(events) else events))

    def _in_order(self, seq: int, events: list[Earning]) -> list[Earning]:
        """The events of an entry as its document has them; a row does not tell."""
        op = decode_entry(self._store.entry_data(self._connection, [seq])[seq]).op
        assert isinstance(op, RecordPurchases)
        place = {purchase.order: i for i, purchase in enumerate(op.purchases)}
        return sorted(events, key=lambda event: (place[event.reference], event.scope == INVITATION_SCOPE))

    def _of_refunds(self) -> tuple[Any, ...]:
        return ENTRY.c.ledger_id == self._store.ledger_id, ENTRY.c.kind == Refund.KIND

    def _refunds(self) -> Iterator[_RefundMade]:
        query = sa.select(ENTRY.c.seq, ENTRY.c.data).where(*self._of_refunds()).order_by(ENTRY.c.seq)
        for row in self._connection.execute(query, execution_options=_STREAMED):
            op = decode_entry(row.data).op
            assert isinstance(op, Refund)
            if isinstance(op.of, RefundedPurchase) and (op.actor, op.of.order) in self.refunded:
                yield _RefundMade(row.seq, op.actor, op.of)

    def memberships(self, accounts: Iterable[str]) -> dict[str, Membership]:
        """The memberships there are of these accounts."""
        return {
            membership.account: membership
            for chunk in chunks_of(list(accounts))
            for membership in memberships_of(self._store, self._connection, self._wanted.asset.code, chunk)
        }


def _is_mixed(events: list[Earning]) -> bool:
    """Whether it matters in which order the events of an entry are: of one member, or of who invited whom."""
    accounts = {event.account for event in events}
    return len(accounts) < len(events) or any(event.scope == INVITATION_SCOPE for event in events)


# Both, side by side


class _Member(Struct):
    """A member of the history, and its points by either program within the days asked about.

    Who only invited others so far has no ``membership``, unless the ledger has one.
    """

    membership: Membership | None
    now: int = 0
    draft: int = 0
    greatest: int = 0
    example: tuple[Earning, _Outcome, _Outcome] | None = None


class _Comparison:
    """Both programs over a history, and what differs."""

    def __init__(self, wanted: Wanted, version: ProgramVersion, history: _History) -> None:
        self._wanted = wanted
        self._version = version
        self._history = history
        unit, kept = 10**wanted.scale, frozenset(history.refunded)
        self._now = Run(version.program, wanted.asset, unit, kept)
        self._draft = Run(wanted.draft, wanted.asset, unit, kept)
        self._members: dict[str, _Member] = {}
        self._months: dict[str, Sums] = {}
        self._sums = Sums.nothing()
        self._first: str | None = None
        self._last: str | None = None
        self._refundable: dict[OrderKey, Earning] = {}

    def result(self) -> Simulation:
        """All of it."""
        items = self._history.items()
        while batch := list(islice(items, _BATCH)):
            self._meet(batch)
            for item in batch:
                if isinstance(item, _RefundMade):
                    self._refund(item)
                else:
                    self._events(item.events)
        self._check_range()
        sums, day = self._sums, self._tiers_on()
        stands = self._stands(day)
        return Simulation(
            version=self._version.version,
            first=self._wanted.first or self._first,
            last=self._wanted.last or self._last,
            sums=sums,
            recorded_cost=self._cost(sums.recorded),
            now_cost=self._cost(sums.now),
            draft_cost=self._cost(sums.draft),
            currency=self._version.program.currency,
            months=tuple(Month(month=month, sums=found) for month, found in sorted(self._months.items())),
            members=len(self._members),
            unchanged=sum(member.now == member.draft for member in self._members.values()),
            losing=self._side(-1),
            gaining=self._side(1),
            tiers_on=day,
            tiers=self._tiers(stands),
            moves=tuple(
                TierMove(now=now, draft=draft, members=count)
                for (now, draft), count in sorted(stands.items(), key=lambda item: (-item[1], str(item[0])))
            ),
        )

    # Events

    def _meet(self, batch: list[_EventsMade | _RefundMade]) -> None:
        """Read the memberships of whoever comes up for the first time."""
        accounts = {event.account for item in batch if isinstance(item, _EventsMade) for event in item.events}
        unknown = accounts - self._members.keys()
        memberships = self._history.memberships(sorted(unknown)) if unknown else {}
        for account in unknown:
            self._members[account] = _Member(memberships.get(account))

    def _joined(self, event: Earning) -> Membership:
        """The membership of an event's member, which begins with it if there is none."""
        member = self._members[event.account]
        if member.membership is None:
            code = self._wanted.asset.code
            member.membership = Membership(asset=code, account=event.account, joined_on=event.earned_on)
        return member.membership

    def _events(self, events: tuple[Earning, ...]) -> None:
        for event in events:
            if event.scope == ORDER_SCOPE:
                self._purchase(event)
            elif event.scope == INVITATION_SCOPE:
                self._invitation(event)
            else:
                joined_on = self._joined(event).joined_on
                self._now.grant(event, joined_on)
                self._draft.grant(event, joined_on)

    def _purchase(self, event: Earning) -> None:
        member = self._members[event.account]
        chosen = as_recorded(self._joined(event), event)
        now, draft = self._now.purchase(event, chosen), self._draft.purchase(event, chosen)
        key = event.merchant, event.reference
        refunded = self._history.refunded.get(key)
        if refunded is not None:
            self._refundable[key] = event
        if not self._is_asked_about(event.earned_on):
            return
        self._first = min(self._first or event.earned_on, event.earned_on)
        self._last = max(self._last or event.earned_on, event.earned_on)
        for sums in self._sums_of(event):
            sums.purchases += 1
            sums.amount += event.amount or 0
            sums.recorded.add(event.points, 0, 0 if refunded is None else refunded.points)
            sums.now.add(now.points, 0 if now.inviter is None else self._now.invitation_points)
            sums.draft.add(draft.points, 0 if draft.inviter is None else self._draft.invitation_points)
        member.now += now.points
        member.draft += draft.points
        difference = abs(draft.points - now.points)
        if difference > member.greatest:
            member.greatest, member.example = difference, (event, now, draft)
        self._pay(now.inviter, self._now.invitation_points, 0)
        self._pay(draft.inviter, 0, self._draft.invitation_points)

    def _invitation(self, event: Earning) -> None:
        """Count what was really given for an invitation, and taken back since."""
        if not self._is_asked_about(event.earned_on):
            return
        key = event.merchant, event.reference
        refunded, purchase = self._history.refunded.get(key), self._refundable.get(key)
        whole = refunded is not None and purchase is not None and refunded.amount == purchase.amount
        for sums in self._sums_of(event):
            sums.recorded.add(0, event.points, event.points if whole else 0)

    def _refund(self, refund: _RefundMade) -> None:
        event = self._refundable[refund.merchant, refund.of.order]
        member = self._members[event.account]
        joined = self._joined(event)
        now, draft = self._now.refund(event, joined, refund.of), self._draft.refund(event, joined, refund.of)
        if not self._is_asked_about(event.earned_on):
            return
        of_now = 0 if now.inviter is None else self._now.invitation_points
        of_draft = 0 if draft.inviter is None else self._draft.invitation_points
        for sums in self._sums_of(event):
            sums.now.add(0, 0, now.points + of_now)
            sums.draft.add(0, 0, draft.points + of_draft)
        member.now -= now.points
        member.draft -= draft.points
        self._pay(now.inviter, -of_now, 0)
        self._pay(draft.inviter, 0, -of_draft)

    def _pay(self, inviter: str | None, now: int, draft: int) -> None:
        """Count points of who invited somebody; such a one may have bought nothing itself."""
        if inviter is None:
            return
        member = self._members.get(inviter)
        if member is None:
            member = self._members[inviter] = _Member(self._history.memberships([inviter]).get(inviter))
        member.now += now
        member.draft += draft

    def _is_asked_about(self, day: str) -> bool:
        return self._wanted.first is None or day >= self._wanted.first

    def _sums_of(self, event: Earning) -> tuple[Sums, Sums]:
        month = event.earned_on[:7]
        found = self._months.get(month)
        if found is None:
            found = self._months[month] = Sums.nothing()
        return self._sums, found

    # Results

    def _check_range(self) -> None:
        sums = self._sums
        if max(sums.amount, *(given.for_purchases + given.for_invitations for given in (sums.now, sums.draft))) > (
            MAX_INTEGER
        ):
            raise SimulationError("all of it together is more than 2^53-1")

    def _cost(self, given: Given) -> int | None:
        price = self._wanted.cost
        if price is None:
            value = self._wanted.asset.value
            if value is None or value.currency != self._version.program.currency:
                return None
            price = value.amount, value.points
        cost = rounded(Fraction(given.net * price[0], price[1]))
        if cost > MAX_INTEGER:
            raise SimulationError("the cost is more than 2^53-1 minor units")
        return cost

    def _side(self, sign: int) -> Side:
        """Those who have less (-1) or more (1) by the draft."""
        most: list[tuple[int, str, _Member]] = []
        members = points = 0
        for account, member in self._members.items():
            change = (member.draft - member.now) * sign
            if change <= 0:
                continue
            members += 1
            points += change
            if len(most) < self._wanted.members or (most and (-change, account) < most[-1][:2]):
                insort(most, (-change, account, member), key=lambda each: each[:2])
                del most[self._wanted.members :]
        return Side(
            members=members, points=points, most=tuple(self._change(account, each) for _, account, each in most)
        )

    def _change(self, account: str, member: _Member) -> MemberChange:
        example = None if member.example is None else self._explained(*member.example)
        return MemberChange(account=account, now=member.now, draft=member.draft, example=example)

    def _explained(self, event: Earning, now: _Outcome, draft: _Outcome) -> Example:
        return Example(
            merchant=event.merchant,
            order=event.reference,
            earned_on=event.earned_on,
            amount=event.amount or 0,
            now=now.points,
            draft=draft.points,
            now_why=self._words(self._version.program, now.bought),
            draft_why=self._words(self._wanted.draft, draft.bought),
        )

    def _words(self, program: Program, bought: Bought) -> tuple[str, ...]:
        found = calculate(program, bought, 10**self._wanted.scale)
        tier = bought.circumstances.tier
        words = sentences(found, self._wanted.scale, self._wanted.asset.scale)
        return words if tier is None else (f"The member is {tier}.", *words)

    def _tiers_on(self) -> str:
        today = local_date(self._wanted.now, self._version.program.time_zone)
        return min(self._wanted.last or self._last or today, today)

    def _stands(self, day: str) -> Counter[tuple[str | None, str | None]]:
        """How many members are in each pair of tiers on a local date; nothing where neither program has any."""
        found: Counter[tuple[str | None, str | None]] = Counter()
        if self._version.program.tiers is None and self._wanted.draft.tiers is None:
            return found
        for account, member in self._members.items():
            joined_on = day if member.membership is None else member.membership.joined_on
            stands = (run.standing(account, joined_on, day) for run in (self._now, self._draft))
            now, draft = (None if standing is None else standing.tier for standing in stands)
            found[now, draft] += 1
        return found

    def _tiers(self, stands: Counter[tuple[str | None, str | None]]) -> tuple[TierMembers, ...]:
        """Tiers of both programs, the lowest first as each has them, and who is in none before them."""
        if not stands:
            return ()
        names: dict[str | None, None] = {None: None}
        for program in (self._version.program, self._wanted.draft):
            names.update((level.tier, None) for level in (program.tiers.levels if program.tiers is not None else ()))
        return tuple(
            TierMembers(
                tier=name,
                now=sum(count for (now, _), count in stands.items() if now == name),
                draft=sum(count for (_, draft), count in stands.items() if draft == name),
            )
            for name in names
        )


def as_recorded(membership: Membership, event: Earning) -> Membership:
    """A membership with what its member had chosen when a purchase was recorded, as far as that was noted then."""
    said = event.circumstances
    if said is None or said.joined_on is None:
        return membership
    same = (membership.formula, membership.invited_by is not None, plan_on(membership, event.earned_on))
    if same == (said.formula, said.invited, said.plan):
        return membership
    day = event.earned_on
    return Membership(
        asset=membership.asset,
        account=AccountId(membership.account),
        joined_on=said.joined_on,
        formula=said.formula,
        invited_by=membership.invited_by if said.invited else None,
        plan=said.plan,
        plan_from=None if said.plan is None else day,
        plan_until=None if said.plan is None else day,
    )
