"""Accounts in GraphQL: how points moved and what they cost, deferred revenue, and settlement statements.

The books of an asset are its issuer's to read, what an account owes and is owed that account's; auditors and the
operator read all. What follows from the record is computed by :mod:`ledger.books` and :mod:`ledger.settlement`; what a
merchant expects of the future is given with the question, and told with the answer.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Literal, cast

import strawberry
from msgspec import Struct
from sqlalchemy.engine import Connection as Snapshot

from api.access import require_money_of, require_points_of, require_session, sight_of
from api.errors import BadInputError
from api.fields import ApiInfo, argument, field, resolved
from api.ids import require_account_id, require_asset_code
from api.paging import After, Before, Connection, First, Last, Window
from api.scalars import Date, MinorUnits, Points, UInt53
from api.sessions import Viewer
from api.types import OperationKind
from ledger import books, queries
from ledger.accounting import EstimateError, Period, Recognition, breakage_rate, liability, recognise, rounded
from ledger.books import DayPoints, EndedLots, PointsMoved, Sales, Span
from ledger.encoding import parse_date
from ledger.entries import NO_LAST_DAY
from ledger.programs import local_date
from ledger.queries import Page
from ledger.settlement import Clearing, SettlementKey, scales
from ledger.settlement import SettlementLine as DrawnLine
from ledger.settlement import Turnover as DrawnTurnover
from ledger.state import Asset
from ledger.store import Store

MAX_PERIODS = 24
"""Periods of one question about deferred revenue."""

MAX_DENOMINATOR = 1_000_000
"""The finest share that can be expected: a millionth."""

STATEMENTS = "/statements"
"""Where statements are given as files."""

Form = Literal["csv", "pdf"]

_DECIMALS = 6
_FIRST_DAY = "1900-01-01"


# Inputs


@strawberry.input(description="A share, as two integers: 95 of 100. From 0 to 1.")
class RatioInput:
    """A ratio from 0 to 1."""

    numerator: UInt53 = strawberry.field(description="How many.")
    denominator: UInt53 = strawberry.field(description=f"Of how many: 1 to {MAX_DENOMINATOR:,}.")


@strawberry.input(description="What points are worth or cost: an amount of money for a number of points.")
class PointPriceInput:
    """A price of points."""

    amount: MinorUnits = strawberry.field(
        description="Minor units of the currency in which purchases of the asset are recorded: 0 or more."
    )
    points: Points = strawberry.field(description="For how many points: 1 or more.")


@strawberry.input(description="A period of deferred revenue, and what was expected at its end.")
class RevenuePeriodInput:
    """A period that ends on a day."""

    through: Date = strawberry.field(
        description=(
            "Its last day, in the time zone of the asset's program. It begins after the last day of the period before; "
            "the first one with the ledger."
        )
    )
    expected_redemption: RatioInput = strawberry.field(
        description=(
            "The share of all points issued so far, less those taken back, that is expected at its end to be redeemed "
            "in all, those redeemed already included."
        )
    )


# Answers


@strawberry.type(description="A share, as two integers and as a decimal.")
class Ratio:
    """A ratio of 0 or more."""

    numerator: UInt53 = field("How many.")
    denominator: UInt53 = field("Of how many.")
    decimal: str = field(f"The same with {_DECIMALS} decimal places, rounded half up: `0.950000`.")


@strawberry.type(description="Points of one last day.")
class PointsOnDay:
    """Points of all holders by last day."""

    last_day: Date | None = field(
        "The last day they can be used; null for those that never expire, less the points that members owe."
    )
    points: Points = field("How many.")


@strawberry.type(
    description=(
        "How the points of an asset moved over the period. Opening balance, issued, returned, less taken back, "
        "redeemed and expired is the closing balance."
    )
)
class PointsMovement:
    """A roll-forward of points; the core's record stands for it."""

    opening: Points = field("Points in circulation before the period: issued, and neither redeemed nor expired.")
    closing: Points = field("Points in circulation at its end. Those on hold, and those overdue, are among them.")
    on_hold: Points = field("Points on hold at its end.")
    issued: Points = field("Points issued.")
    issued_by_purchases: Points = field(
        "Issued for purchases, those that partners recorded included. Points that vest are issued when they do; what "
        "an inviter gets for a first purchase is among them."
    )
    issued_by_grants: Points = field("Issued for activities.")
    issued_by_exchanges: Points = field("Issued for points of other assets.")
    issued_by_corrections: Points = field("Issued by hand.")
    taken_back: Points = field("Points that were issued before and were retired unspent.")
    taken_back_by_refunds: Points = field("Taken back as purchases and exchanges were refunded.")
    taken_back_by_corrections: Points = field("Taken back by hand.")
    redeemed: Points = field(
        "Points spent, at the issuer and elsewhere, and exchanged, where that retired them. Points that a partner "
        "keeps are redeemed when the partner spends them."
    )
    converted: Points = field("Redeemed points that an automatic reward turned into vouchers.")
    returned: Points = field("Redeemed points that came back as redemptions and exchanges were refunded.")
    expired: Points = field("Points retired after their last day.")


@strawberry.type(
    description=(
        "Breakage: the points of lots that ended which nobody spent. A lot has ended when its last day has passed; "
        "which lots, the field says that has this."
    )
)
class Breakage:
    """What became of ended lots."""

    issued: Points = field("Points that were issued into these lots, less those taken back.")
    expired: Points = field("Points of them that were retired.")
    overdue: Points = field("Points of them that are still there, for nobody to use.")
    rate: Ratio | None = field("(expired + overdue) / issued; null when no such lot was issued.")


@strawberry.type(
    description=(
        "What outstanding points are expected to cost: points × expectedRedemption × cost of one point, rounded half "
        "up to the minor unit."
    )
)
class PointsLiability:
    """A liability of an asset's issuer."""

    amount: MinorUnits = field("The liability.")
    currency: str = field("Its currency.")
    points: Points = field(
        "Points in circulation at the end of the period that can still be used: those overdue are not among them."
    )
    expected_redemption: Ratio = field("The share of them that is expected to be redeemed.")
    cost_amount: MinorUnits = field("What `costPoints` points cost, in minor units.")
    cost_points: Points = field("For how many points that is.")


@strawberry.type(
    description=(
        "The books of an asset over a period of days in the time zone of its program. An entry is of the day it was "
        "recorded on, so a period that is over never changes."
    )
)
class Accounting:
    """Books of a period."""

    asset: str = field("The asset's code.")
    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    first_seq: UInt53 = field("Its entries begin with this sequence number.")
    end_seq: UInt53 = field("They end before this one.")
    points: PointsMovement = field("How points moved.")
    redemption_rate: Ratio | None = field(
        "Points redeemed in the period, less returned ones, of those issued in it, less those taken back. Null when "
        "none were issued, or more came back than went."
    )
    breakage: Breakage = field("Of lots whose last day was in the period.")
    breakage_so_far: Breakage = field("Of all lots whose last day was in the period or before.")
    liability: PointsLiability | None = field(
        "What the outstanding points are expected to cost at the end of the period. Null where nothing says what a "
        "point costs, or how many are expected to be redeemed."
    )

    @resolved("Points in circulation at the end of the period by last day, those on hold left out.")
    async def outstanding(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[PointsOnDay]:
        """A page of outstanding points."""
        names = [self.asset, self.end_seq]
        window = Window("outstanding", names, (str,), first=first, after=after, last=last, before=before)
        found = await info.context.read(books.outstanding, self.asset, self.end_seq, window.page)
        keys = [each.last_day or NO_LAST_DAY for each in found]
        return window.connection(keys, [_points_on_day(each) for each in found])


@strawberry.type(description="Deferred revenue of one period, in minor units, and what it follows from.")
class DeferredRevenuePeriod:
    """A period of deferred revenue."""

    last_day: Date = field("Its last day.")
    first_seq: UInt53 = field("Its entries begin with this sequence number.")
    end_seq: UInt53 = field("They end before this one.")
    sales: MinorUnits = field("What the issuer's purchases recorded in it came to.")
    points_earned: Points = field("Points that these gave.")
    refunded_sales: MinorUnits = field("What was refunded in it of its purchases of any time.")
    points_taken_back: Points = field("Points that these refunds took back.")
    other_points: Points = field(
        "Points issued in it without a sale of the issuer (grants, exchanges, corrections, partners' purchases), less "
        "those taken back."
    )
    points_redeemed: Points = field("Points redeemed in it, less those that came back.")
    allocated_to_product: MinorUnits = field("The part of its sales that is for what was bought.")
    allocated_to_points: MinorUnits = field(
        "The part of its sales that is for points, and deferred: sales × worth / (sales + worth), where worth is "
        "points earned × expectedRedemption × stand-alone price; rounded half up. It is never allocated anew."
    )
    released: MinorUnits = field(
        "What refunds took out of deferred revenue again: the share of the points from purchases that they took back, "
        "rounded half up."
    )
    issued_so_far: Points = field("All points issued to its end, less those taken back.")
    redeemed_so_far: Points = field("All points redeemed to its end, less those that came back.")
    expected_points: Ratio = field("issuedSoFar × expectedRedemption: as many are expected to be redeemed in all.")
    revenue: MinorUnits = field("What it recognises: revenueSoFar less that of the period before; may be negative.")
    revenue_so_far: MinorUnits = field(
        "All that was deferred and not released × redeemedSoFar / expectedPoints, rounded half up; all of it when no "
        "more are expected to be redeemed."
    )
    liability: MinorUnits = field("What remains deferred at its end: the contract liability.")


@strawberry.type(
    description=(
        "Deferred revenue by IFRS 15 and ASC 606 (example 52): sales are allocated to products and points by relative "
        "stand-alone prices, and the points' part becomes revenue as points are redeemed. A changed estimate is a "
        "cumulative catch-up in its own period. All points of the asset are one pool. What partners pay for points is "
        "not in it."
    )
)
class DeferredRevenue:
    """Deferred revenue of an asset's issuer."""

    asset: str = field("The asset's code.")
    currency: str = field("The currency of the purchases.")
    periods: list[DeferredRevenuePeriod] = field("The periods asked about, in their order.")


@strawberry.enum(description="What a line of a settlement statement is.")
class SettlementLineType(Enum):
    """Types of lines, with the names they have in CSV as values."""

    CLAIM = strawberry.enum_value("claim", description="A claim was made by an entry.")
    SETTLEMENT = strawberry.enum_value("settlement", description="The creditor confirmed a payment.")
    CANCELLED_CLAIM = strawberry.enum_value("cancelled_claim", description="A disputed claim was cancelled.")
    NETTED = strawberry.enum_value(
        "netted", description="A netting cleared this debt; its payments take the place of all it cleared."
    )
    NETTING_PAYMENT = strawberry.enum_value(
        "netting_payment", description="A payment that a netting put in the place of debts: a debt of its own."
    )
    DISPUTED_CLAIM = strawberry.enum_value("disputed_claim", description="A claim was disputed. Moves nothing.")
    DISPUTE_ENDED = strawberry.enum_value(
        "dispute_ended", description="A disputed claim stands after all. Moves nothing."
    )


@strawberry.enum(description="What has become of a claim by the end of the statement.")
class SettlementClaimStatus(Enum):
    """States, with the names they have in CSV as values."""

    OPEN = strawberry.enum_value("open", description="It stands.")
    DISPUTED = strawberry.enum_value("disputed", description="It is in dispute.")
    CANCELLED = strawberry.enum_value("cancelled", description="It was cancelled.")


@strawberry.type(description="A line of a settlement statement.")
class SettlementLine:
    """A line, in the terms of the schema."""

    type: SettlementLineType = field("What it is.")
    day: Date = field("The day of the entry, in UTC.")
    entry_id: strawberry.ID = field("The entry.")
    part: int = field("Which of the entry's lines it is, from 0.")
    kind: OperationKind = field("What the entry's operation did.")
    counterparty_id: strawberry.ID | None = field("The other party.")
    counterparty_name: str | None = field("Its public name; null for a member.")
    claim_entry_id: strawberry.ID | None = field("The entry that made the claim, where it is about one.")
    claim_index: int | None = field("Which of that entry's claims it is, from 0.")
    agreement: str | None = field("The name of the agreement the claim comes from.")
    reference: str | None = field(
        "The reference of a payment, or of what made a claim, such as a bill; or why a claim is disputed."
    )
    amount: MinorUnits = field("How much it is about, also where it moves nothing.")
    debit: MinorUnits = field("In favour of this account.")
    credit: MinorUnits = field("In favour of the counterparty.")
    balance: MinorUnits = field("What the account is owed, less what it owes, after this line.")
    netted_by_id: strawberry.ID | None = field("The entry of the netting that covers the claim.")
    status: SettlementClaimStatus | None = field("What has become of the claim; null for other lines.")


@strawberry.type(description="The sum of a statement's lines of one type.")
class SettlementTurnover:
    """Sums of lines."""

    type: SettlementLineType = field("Which lines.")
    lines: UInt53 = field("How many.")
    debit: MinorUnits = field("In favour of the account.")
    credit: MinorUnits = field("In favour of others.")


@strawberry.type(
    description=(
        "What an account is owed and owes in a currency over days of UTC: a connection of lines, with the balances "
        "around them. A balance above 0 is owed to the account. Once its days are over a statement is the same for "
        "ever."
    )
)
class SettlementStatement(Connection[SettlementLine]):
    """A settlement statement."""

    opening_balance: MinorUnits = field("The balance before the first day.")
    closing_balance: MinorUnits = field("The balance after the last day.")
    disputed: MinorUnits = field("The part of the closing balance that is in dispute at the end.")
    turnovers: list[SettlementTurnover] = field("The sums of all lines, by type, those of other pages included.")
    csv_path: str = field("Where GET gives the whole statement as CSV, with the same session.")
    pdf_path: str = field("Where GET gives the whole statement as PDF, with the same session.")


# Questions


@strawberry.type
class AccountingQueries:
    """What of accounts can be read."""

    @resolved(
        "The books of an asset over a period: for its issuer, auditors and the operator, FORBIDDEN for others. Null "
        "when there is no such asset."
    )
    async def accounting(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str, argument("The asset's code.")],
        from_: Annotated[
            Date, strawberry.argument(name="from", description="The first day, in the time zone of its program.")
        ],
        through: Annotated[Date, argument("The last day, which must not lie in the future.")],
        expected_redemption: Annotated[
            RatioInput | None,
            argument(
                "The share of outstanding points that is expected to be redeemed, for the liability; when left out, 1 "
                "less the rate of `breakageSoFar`."
            ),
        ] = None,
        cost: Annotated[
            PointPriceInput | None, argument("What points cost, for the liability; the asset's value when left out.")
        ] = None,
    ) -> Accounting | None:
        """Books of a period."""
        viewer = require_session(info.context.viewer)
        require_asset_code(asset)
        days = days_of(from_, through)
        wanted = Expectation(
            asset=asset, expected=share_of(expected_redemption), cost=price_of(cost) if cost is not None else None
        )
        return await info.context.read(_accounting, viewer, wanted, days, now=info.context.now())

    @resolved(
        "Deferred revenue of an asset over periods that follow each other from the beginning of the ledger: for its "
        "issuer, auditors and the operator, FORBIDDEN for others. Null when there is no such asset, or it has no "
        "program."
    )
    async def deferred_revenue(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str, argument("The asset's code.")],
        stand_alone_price: Annotated[
            PointPriceInput, argument("What points would be sold for by themselves, if all of them were redeemed.")
        ],
        periods: Annotated[
            list[RevenuePeriodInput], argument(f"The periods, 1 to {MAX_PERIODS}, in the order of their last days.")
        ],
    ) -> DeferredRevenue | None:
        """Deferred revenue."""
        viewer = require_session(info.context.viewer)
        require_asset_code(asset)
        if not 1 <= len(periods) <= MAX_PERIODS:
            raise BadInputError(f"1 to {MAX_PERIODS} periods")
        ends = [(parse_date(each.through), cast(Fraction, share_of(each.expected_redemption))) for each in periods]
        if any(later <= earlier for (earlier, _), (later, _) in pairwise(ends)):
            raise BadInputError("each period ends on a later day than the one before")
        price = price_of(stand_alone_price)
        return await info.context.read(_deferred_revenue, viewer, asset, price=price, ends=ends, now=info.context.now())

    @resolved(
        "A settlement statement, by entry: of the session's own account or one in its custody, of any for auditors and "
        "the operator. FORBIDDEN otherwise."
    )
    async def settlement_statement(
        self,
        info: ApiInfo,
        *,
        account: Annotated[strawberry.ID, argument("The account: of a merchant, in most cases.")],
        currency: Annotated[str, argument("The settlement currency.")],
        from_: Annotated[Date, strawberry.argument(name="from", description="The first day, in UTC.")],
        through: Annotated[Date, argument("The last day, in UTC.")],
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> SettlementStatement:
        """A page of a settlement statement."""
        viewer = require_session(info.context.viewer)
        require_account_id(account)
        start, end = days_of(from_, through)
        key = SettlementKey(account=str(account), currency=currency, start=start, through=end)
        names = [account, currency, from_, through]
        window = Window("settlementStatement", names, (int, int), first=first, after=after, last=last, before=before)
        found = await info.context.read(_settlement, viewer, key, window.page)
        page = window.connection(
            [(line.seq, line.part) for line in found.lines], [_settlement_line(line) for line in found.lines]
        )
        return SettlementStatement(
            edges=page.edges,
            nodes=page.nodes,
            page_info=page.page_info,
            opening_balance=MinorUnits(found.opening),
            closing_balance=MinorUnits(found.closing),
            disputed=MinorUnits(found.disputed),
            turnovers=[_turnover(each) for each in found.turnovers],
            csv_path=statement_path(key, "csv"),
            pdf_path=statement_path(key, "pdf"),
        )


# Books


class Expectation(Struct, frozen=True, kw_only=True):
    """What books are to be of, and what is expected."""

    asset: str
    expected: Fraction | None
    cost: tuple[int, int] | None


def days_of(from_: str, through: str) -> tuple[date, date]:
    """The days asked about; refuse those in the wrong order."""
    if through < from_:
        raise BadInputError("through lies before from")
    return parse_date(from_), parse_date(through)


def share_of(given: RatioInput | None) -> Fraction | None:
    """The share that was given; refuse what is none."""
    if given is None:
        return None
    if not 1 <= given.denominator <= MAX_DENOMINATOR or given.numerator > given.denominator:
        raise BadInputError(f"a share is from 0 to 1, its denominator from 1 to {MAX_DENOMINATOR:,}")
    return Fraction(given.numerator, given.denominator)


def price_of(given: PointPriceInput) -> tuple[int, int]:
    """Minor units and points of a price; refuse what is none."""
    if given.amount < 0 or given.points < 1:
        raise BadInputError("a price is 0 or more minor units for 1 or more points")
    return given.amount, given.points


def readable_asset(store: Store, connection: Snapshot, viewer: Viewer, code: str) -> Asset | None:
    """An asset whose books a viewer may read, ``None`` when there is none; refuse who may not."""
    require_points_of(sight_of(store, connection, viewer), code, None)
    return queries.asset(store, connection, code)


def _accounting(
    store: Store, connection: Snapshot, viewer: Viewer, wanted: Expectation, days: tuple[date, date], *, now: str
) -> Accounting | None:
    asset = readable_asset(store, connection, viewer, wanted.asset)
    if asset is None:
        return None
    program = queries.program(store, connection, asset.code, 1)
    zone = program.program.time_zone if program is not None else "UTC"
    today = require_past(days[1], now, zone)
    span = books.span_of(store, connection, days[0], days[1], zone)
    # A lot has ended when its last day has passed: today's have not.
    ended = min(days[1], date.fromisoformat(today) - timedelta(days=1)).isoformat()
    in_period = books.ended_lots(store, connection, asset.code, (days[0].isoformat(), ended), span.end)
    so_far = books.ended_lots(store, connection, asset.code, (_FIRST_DAY, ended), span.end)
    moved = books.points_moved(store, connection, asset.code, span)
    return Accounting(
        asset=asset.code,
        first_day=Date(days[0].isoformat()),
        last_day=Date(days[1].isoformat()),
        first_seq=UInt53(span.first),
        end_seq=UInt53(span.end),
        points=cast(PointsMovement, moved),
        redemption_rate=redemption_rate_of(moved),
        breakage=breakage_of(in_period),
        breakage_so_far=breakage_of(so_far),
        liability=liability_of(
            asset,
            program.program.currency if program is not None else None,
            wanted,
            points=moved.closing - so_far.overdue,
            broken=breakage_rate(so_far.issued, so_far.unspent),
        ),
    )


def require_past(through: date, now: str, zone: str) -> str:
    """Today's date where it is; a period that is not there yet has no books."""
    today = local_date(now, zone)
    if through.isoformat() > today:
        raise BadInputError(f"it is {today}: through lies in the future")
    return today


def redemption_rate_of(moved: PointsMoved) -> Ratio | None:
    """Points redeemed, less those returned, of those issued, less those taken back."""
    issued, redeemed = moved.issued - moved.taken_back, moved.redeemed - moved.returned
    return ratio_of(redeemed, issued) if issued > 0 and redeemed >= 0 else None


def breakage_of(lots: EndedLots) -> Breakage:
    """Lots that ended, in the terms of the schema."""
    rate = breakage_rate(lots.issued, lots.unspent)
    return Breakage(
        issued=Points(lots.issued),
        expired=Points(lots.expired),
        overdue=Points(lots.overdue),
        rate=ratio_of(lots.unspent, lots.issued) if rate is not None else None,
    )


def liability_of(
    asset: Asset, currency: str | None, wanted: Expectation, *, points: int, broken: Fraction | None
) -> PointsLiability | None:
    """What so many points are expected to cost: what is expected is given, or else 1 less the rate of breakage."""
    expected = wanted.expected
    if expected is None and broken is not None:
        expected = max(1 - broken, Fraction(0))
    cost = wanted.cost
    if cost is None and asset.value is not None:
        cost, currency = (asset.value.amount, asset.value.points), asset.value.currency
    if cost is None or expected is None or currency is None:
        return None
    return PointsLiability(
        amount=MinorUnits(liability(points, expected, Fraction(*cost))),
        currency=currency,
        points=Points(points),
        expected_redemption=ratio_of(expected.numerator, expected.denominator),
        cost_amount=MinorUnits(cost[0]),
        cost_points=Points(cost[1]),
    )


def ratio_of(numerator: int, denominator: int) -> Ratio:
    """A ratio of 0 or more, with its decimal."""
    millionths = rounded(Fraction(numerator, denominator) * 10**_DECIMALS)
    whole, rest = divmod(millionths, 10**_DECIMALS)
    return Ratio(numerator=UInt53(numerator), denominator=UInt53(denominator), decimal=f"{whole}.{rest:0{_DECIMALS}d}")


def _points_on_day(found: DayPoints) -> PointsOnDay:
    return PointsOnDay(
        last_day=Date(found.last_day) if found.last_day is not None else None, points=Points(found.points)
    )


def _deferred_revenue(
    store: Store,
    connection: Snapshot,
    viewer: Viewer,
    code: str,
    *,
    price: tuple[int, int],
    ends: Sequence[tuple[date, Fraction]],
    now: str,
) -> DeferredRevenue | None:
    asset = readable_asset(store, connection, viewer, code)
    program = queries.program(store, connection, code, 1)
    if asset is None or program is None:
        return None
    zone = program.program.time_zone
    require_past(ends[-1][0], now, zone)
    spans, first = [], 0
    for through, _ in ends:
        span = books.span_of(store, connection, None, through, zone)
        spans.append(Span(first=first, end=span.end))
        first = span.end
    facts = [
        (books.sales(store, connection, asset, span), books.points_moved(store, connection, code, span))
        for span in spans
    ]
    periods = [_period(sold, moved, rate) for (sold, moved), (_, rate) in zip(facts, ends, strict=True)]
    try:
        recognised = recognise(periods, Fraction(*price))
    except EstimateError as error:
        raise BadInputError(f"periods[{error.period}].expectedRedemption: {error}") from None
    rows = zip(ends, spans, periods, recognised, strict=True)
    return DeferredRevenue(
        asset=code,
        currency=program.program.currency,
        periods=[_revenue_period(through, span, period, row) for (through, _), span, period, row in rows],
    )


def _period(sold: Sales, moved: PointsMoved, rate: Fraction) -> Period:
    """What was recorded in a period. What is not of the issuer's own sales was issued, or taken back, without one."""
    return Period(
        sales=sold.amount,
        earned=sold.points,
        refunded_sales=sold.refunded,
        taken_back=sold.taken_back,
        other_points=moved.issued - moved.taken_back - sold.points + sold.taken_back,
        redeemed=moved.redeemed - moved.returned,
        redemption_rate=rate,
    )


def _revenue_period(through: date, span: Span, period: Period, row: Recognition) -> DeferredRevenuePeriod:
    return DeferredRevenuePeriod(
        last_day=Date(through.isoformat()),
        first_seq=UInt53(span.first),
        end_seq=UInt53(span.end),
        sales=MinorUnits(period.sales),
        points_earned=Points(period.earned),
        refunded_sales=MinorUnits(period.refunded_sales),
        points_taken_back=Points(period.taken_back),
        other_points=Points(period.other_points),
        points_redeemed=Points(period.redeemed),
        allocated_to_product=MinorUnits(row.allocated.product),
        allocated_to_points=MinorUnits(row.allocated.points),
        released=MinorUnits(row.released),
        issued_so_far=Points(row.issued),
        redeemed_so_far=Points(row.redeemed),
        expected_points=ratio_of(row.expected.numerator, row.expected.denominator),
        revenue=MinorUnits(row.revenue),
        revenue_so_far=MinorUnits(row.revenue_so_far),
        liability=MinorUnits(row.liability),
    )


# Settlement


class _Drawn(Struct, frozen=True, kw_only=True):
    """A page of a statement."""

    opening: int
    closing: int
    disputed: int
    turnovers: tuple[DrawnTurnover, ...]
    lines: list[DrawnLine]


def statement_path(key: SettlementKey, form: Form) -> str:
    """Where a statement is given as a file, see :mod:`api.statement_files`."""
    return f"{STATEMENTS}/{key.account}/{key.currency}/{key.start}_{key.through}.{form}"


def readable_clearing(store: Store, connection: Snapshot, viewer: Viewer, key: SettlementKey) -> Clearing:
    """The clearing of an account that a viewer may read; refuse any other, and a currency that is none here."""
    require_money_of(sight_of(store, connection, viewer, [key.account]), key.account)
    if key.currency not in scales(store, connection):
        raise BadInputError("this is no settlement currency of the ledger")
    return Clearing(store, connection, key)


def _settlement(store: Store, connection: Snapshot, viewer: Viewer, key: SettlementKey, page: Page) -> _Drawn:
    clearing = readable_clearing(store, connection, viewer, key)
    return _Drawn(
        opening=clearing.opening,
        closing=clearing.closing,
        disputed=clearing.disputed,
        turnovers=clearing.turnovers(),
        lines=clearing.page(page),
    )


def _settlement_line(line: DrawnLine) -> SettlementLine:
    return SettlementLine(
        type=cast(SettlementLineType, line.what),
        day=Date(line.day),
        entry_id=_entry_id(line.seq),
        part=line.part,
        kind=cast(OperationKind, line.operation),
        counterparty_id=strawberry.ID(line.counterparty) if line.counterparty is not None else None,
        counterparty_name=line.counterparty_name,
        claim_entry_id=_entry_id(line.claim[0]) if line.claim is not None else None,
        claim_index=line.claim[1] if line.claim is not None else None,
        agreement=line.agreement,
        reference=line.reference,
        amount=MinorUnits(line.amount),
        debit=MinorUnits(line.debit),
        credit=MinorUnits(line.credit),
        balance=MinorUnits(line.balance),
        netted_by_id=_entry_id(line.netted_by) if line.netted_by is not None else None,
        status=cast("SettlementClaimStatus | None", line.status),
    )


def _entry_id(seq: int) -> strawberry.ID:
    return strawberry.ID(f"ent_{seq}")


def _turnover(found: DrawnTurnover) -> SettlementTurnover:
    return SettlementTurnover(
        type=cast(SettlementLineType, found.what),
        lines=UInt53(found.lines),
        debit=MinorUnits(found.debit),
        credit=MinorUnits(found.credit),
    )
