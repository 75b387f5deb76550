"""Insight in GraphQL: what an asset's program does for its merchant, by day, month or year.

It is its issuer's to read, and auditors' and the operator's. Each field of :class:`Insight` is a page of periods,
months, merchants or rewards, computed when it is asked for, by :mod:`ledger.insight`; what points cost is computed as
in :mod:`api.accounting`. Every number has its definition in its description.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from enum import Enum
from typing import Annotated, cast

import strawberry
from msgspec import Struct
from sqlalchemy.engine import Connection as Snapshot

from api.access import require_session
from api.accounting import (
    Breakage,
    Expectation,
    PointPriceInput,
    PointsLiability,
    PointsMovement,
    Ratio,
    RatioInput,
    breakage_of,
    days_of,
    liability_of,
    price_of,
    ratio_of,
    readable_asset,
    redemption_rate_of,
    require_past,
    share_of,
)
from api.errors import BadInputError
from api.fields import ApiInfo, argument, field, resolved
from api.ids import require_asset_code
from api.paging import After, Before, Connection, First, Last, Window
from api.scalars import Date, MinorUnits, Points, UInt53
from api.sessions import Viewer
from ledger import insight, queries
from ledger.accounting import breakage_rate
from ledger.insight import MAX_DAYS, RETENTION_MONTHS, By, Cohort, Period, Subject
from ledger.programs import local_date
from ledger.state import Asset
from ledger.store import Store

ACTIVE_DAYS = 90
"""How long earning or spending keeps a member active, unless the question says otherwise."""

MAX_ACTIVE_DAYS = 3_660


@strawberry.enum(description="How time is cut into periods, in the time zone of the asset's program.")
class InsightInterval(Enum):
    """Lengths of periods, with the names they have on the command line as values."""

    DAY = strawberry.enum_value("day", description="Calendar days.")
    MONTH = strawberry.enum_value("month", description="Calendar months; the first and last may be parts of one.")
    YEAR = strawberry.enum_value("year", description="Calendar years; the first and last may be parts of one.")


@strawberry.type(
    description=(
        "Points of an asset over a period. An entry is of the day it was recorded on, so a period that is over never "
        "changes."
    )
)
class InsightPoints:
    """Points of a period."""

    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    movement: PointsMovement = field(
        "How points moved: issued, by purchases, activities (granted), exchanges (in) and corrections; taken back; "
        "redeemed; returned by refunds; expired. `closing` is what is outstanding at the end of the period."
    )
    redeemed_at_issuer: Points = field(
        "Points spent at the issuer, before what was refunded. What an automatic reward takes is not among them, but "
        "`converted` of `movement`."
    )
    redeemed_at_partners: Points = field(
        "Points spent at others, before what was refunded. Those a partner keeps go on circulating, and count again "
        "when it spends them."
    )
    exchanged_out: Points = field("Points given for points of other assets, before what was refunded.")
    redemption_rate: Ratio | None = field(
        "Redemption rate: points redeemed in the period, less returned ones, of those issued in it, less those taken "
        "back. Null when none were issued, or more came back than went."
    )
    breakage: Breakage = field("Breakage of lots whose last day was in the period.")
    breakage_so_far: Breakage = field("Breakage of all lots whose last day was in the period or before.")
    liability: PointsLiability | None = field(
        "What the outstanding points are expected to cost at the end of the period. Null where nothing says what a "
        "point costs, or how many are expected to be redeemed."
    )


@strawberry.type(
    description=(
        "Members at the end of a period. To earn is to have a purchase or an activity recorded, also one that gave no "
        "points or whose points have yet to vest, or to get points for somebody one invited; to spend is to redeem "
        "points, also by a capture, or to exchange them, whatever was refunded since. Each is of the day it happened, "
        "so what is recorded late changes a period that is over."
    )
)
class InsightMembers:
    """Members at the end of a period."""

    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    members: UInt53 = field("Members with any earning, by the end of the period.")
    new: UInt53 = field("Of these, those who first earned in the period.")
    active: UInt53 = field(
        "Active members: those who earned or spent within N days, of which the period's last is the last; N is "
        "`activeDays` of the question."
    )
    churned: UInt53 = field(
        "Churned members: those who had earned or spent by the end of the period, but not within the last N days of it."
    )
    churn: Ratio | None = field(
        "Churn: the share with no earning or spending in N days, of all who had ever earned or spent. Null when nobody "
        "had."
    )


@strawberry.type(
    description=(
        "Purchases that were made in a period, of whichever merchant recorded them for the asset, before what was "
        "refunded. A purchase is of its own day, not of the day it was recorded on."
    )
)
class InsightSales:
    """Purchases of a period."""

    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    purchases: UInt53 = field("How many purchases.")
    amount: MinorUnits = field("What they came to, in minor units of the program's currency.")
    points: Points = field("Points that they gave, those that have yet to vest included.")
    buyers: UInt53 = field("How many members made them.")
    average_basket: Ratio | None = field("amount / purchases, in minor units; null without purchases.")


@strawberry.type(
    description=(
        "Purchases in a period by members who were in a tier when they were recorded, or in none; as in `sales`."
    )
)
class InsightTierSales:
    """Purchases of a tier."""

    tier: str | None = field("The tier's name in the program of then; null for those in none.")
    purchases: UInt53 = field("How many purchases.")
    amount: MinorUnits = field("What they came to, in minor units of the program's currency.")
    points: Points = field("Points that they gave, those that have yet to vest included.")
    buyers: UInt53 = field("How many members made them in this tier.")
    average_basket: Ratio = field("amount / purchases, in minor units.")


@strawberry.type(description="Purchases of a period by tier.")
class InsightSalesByTier:
    """Purchases of a period by tier."""

    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    tiers: list[InsightTierSales] = field("By the tiers in which anything was bought, by name, none first.")


@strawberry.type(
    description=(
        "How many members are in a tier, as it was noted when they last earned or were reviewed. Only what is noted "
        "now is kept; of the past, `salesByTier` tells in which tier members bought."
    )
)
class InsightTier:
    """Members of a tier."""

    tier: str | None = field("The tier's name; null for members who are in none.")
    members: UInt53 = field("How many members.")
    due: UInt53 = field("How many of them have to be reviewed: the day through which they had the tier has passed.")


@strawberry.type(
    description=(
        "Answers to surveys, from 0 to 10, that were given in a period: of the day they were given, not of that they "
        "were recorded on. Of a member who answered several times each answer counts."
    )
)
class InsightPromoters:
    """Answers of a period."""

    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    answers: UInt53 = field("How many answers.")
    promoters: UInt53 = field("Answers of 9 or 10.")
    passives: UInt53 = field("Answers of 7 or 8.")
    detractors: UInt53 = field("Answers of 0 to 6.")
    promoter_score: int | None = field(
        "Net promoter score: the share of promoters less that of detractors, in hundredths of a percent, -10000 to "
        "10000, rounded towards 0. Null without answers."
    )


@strawberry.type(description="A number of vouchers, the points they were had for, and what they are worth.")
class InsightVoucherCount:
    """A number of vouchers."""

    vouchers: UInt53 = field("How many vouchers.")
    points: Points = field("Points they were had for.")
    worth: MinorUnits = field(
        "What they are worth together, in minor units of the program's currency; vouchers that stand for no money "
        "count nothing."
    )


@strawberry.type(
    description=(
        "Vouchers of a period. To have one and to use one is of the day it was recorded on. A reward that is had by "
        "itself is had like any other."
    )
)
class InsightVouchers:
    """Vouchers of a period."""

    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    had: InsightVoucherCount = field("Vouchers that members had for points in the period, before what was refunded.")
    cancelled: UInt53 = field("How many of these were given back since, as their points were refunded.")
    used: InsightVoucherCount = field("Vouchers that were used in the period.")
    expired: InsightVoucherCount = field("Vouchers whose last day was in the period and has passed, and nobody used.")


@strawberry.type(description="A reward, and the vouchers that members had for it.")
class InsightReward:
    """Vouchers of a reward."""

    reward: str = field("The reward's name in the program.")
    had: InsightVoucherCount = field("Vouchers that members had for points, before what was refunded.")
    cancelled: UInt53 = field("How many of these were given back since, as their points were refunded.")
    used: UInt53 = field("How many of these were used since.")


@strawberry.type(description="A month's newcomers, and how many of them came back.")
class InsightCohort:
    """Who first earned in a month."""

    month: str = field("The month, `YYYY-MM`.")
    members: UInt53 = field("Members who first earned in it.")
    active: list[UInt53] = field(
        "How many of them earned or spent 0, 1, 2 … calendar months later, the first being the month itself; at most "
        f"{RETENTION_MONTHS} later, and not beyond that of the last day. Retention after k months is `active[k]` of "
        "`members`."
    )


@strawberry.type(description="A merchant or beneficiary at which points were spent.")
class InsightSpentAt:
    """Where points were spent."""

    merchant_id: strawberry.ID = field("Its account.")
    name: str | None = field("Its public name.")
    points: Points = field("Points redeemed there, or given to it in exchange, before what was refunded.")
    operations: UInt53 = field("In how many operations.")
    accounts: UInt53 = field("By how many accounts.")


class Question(Struct, frozen=True, kw_only=True):
    """What insight is asked for, and the local date of the question."""

    asset: Asset
    time_zone: str
    currency: str | None
    whole: Period
    by: By
    active_days: int
    today: str

    @property
    def subject(self) -> Subject:
        """The asset, as queries want it."""
        return Subject(asset=self.asset, time_zone=self.time_zone)

    @property
    def periods(self) -> list[Period]:
        """All periods asked about."""
        return insight.periods(self.whole.first, self.whole.last, self.by)

    @property
    def filters(self) -> list[str]:
        """What cursors into its lists are good for."""
        return [self.asset.code, self.whole.first.isoformat(), self.whole.last.isoformat(), self.by]


@strawberry.type(
    description=(
        "What an asset's program does for its merchant, by period. Everything is counted from the ledger, in integers; "
        "a rate is two of them."
    )
)
class Insight:
    """Insight into an asset."""

    question: strawberry.Private[Question]
    asset: str = field("The asset's code.")
    first_day: Date = field("The first day.")
    last_day: Date = field("The last day.")
    time_zone: str = field("The time zone that the days are in: that of the asset's program.")
    active_days: int = field("How many days N earning or spending keeps a member active.")

    @resolved("Points by period, the earliest first.")
    async def points(
        self,
        info: ApiInfo,
        *,
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
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[InsightPoints]:
        """A page of points by period."""
        expected = Expectation(
            asset=self.asset,
            expected=share_of(expected_redemption),
            cost=price_of(cost) if cost is not None else None,
        )
        window = self._window("points", (str,), first=first, after=after, last=last, before=before)
        wanted = insight.page_of(self.question.periods, window.page)
        found = await info.context.read(points_in, self.question, wanted, expected)
        return window.connection([str(each.first_day) for each in found], found)

    @resolved("Members by period, the earliest first: how many, how many of them new, active and churned.")
    async def activity(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightMembers]:
        """A page of members by period."""
        window = self._window("activity", (str,), first=first, after=after, last=last, before=before)
        wanted = insight.page_of(self.question.periods, window.page)
        found = await info.context.read(members_in, self.question, wanted)
        return window.connection([str(each.first_day) for each in found], found)

    @resolved("Purchases and the average basket by period, the earliest first.")
    async def sales(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightSales]:
        """A page of sales by period."""
        window = self._window("sales", (str,), first=first, after=after, last=last, before=before)
        wanted = insight.page_of(self.question.periods, window.page)
        found = await info.context.read(sales_in, self.question, wanted)
        return window.connection([str(each.first_day) for each in found], found)

    @resolved(
        "Newcomers by month of first earning, the earliest first, and how many of them came back: of the months, or "
        "parts of months, between the first day and the last. Months without newcomers are left out."
    )
    async def cohorts(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightCohort]:
        """A page of cohorts."""
        window = self._window("cohorts", (str,), first=first, after=after, last=last, before=before)
        found = await info.context.read(insight.cohorts, self.question.subject, self.question.whole, window.page)
        return window.connection([each.month for each in found], [_cohort(each) for each in found])

    @resolved("Merchants and beneficiaries at which points were spent between the two days, most points first.")
    async def spent_at(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightSpentAt]:
        """A page of where points were spent."""
        window = self._window("spentAt", (int, str), first=first, after=after, last=last, before=before)
        found = await info.context.read(insight.spent_at, self.question.subject, self.question.whole, window.page)
        return window.connection([(-each.points, each.merchant) for each in found], [_spent_at(each) for each in found])

    @resolved("Purchases by period, the earliest first, and by the tier that members were in.")
    async def sales_by_tier(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightSalesByTier]:
        """A page of sales by tier."""
        window = self._window("salesByTier", (str,), first=first, after=after, last=last, before=before)
        wanted = insight.page_of(self.question.periods, window.page)
        found = await info.context.read(sales_by_tier_in, self.question, wanted)
        return window.connection([str(each.first_day) for each in found], found)

    @resolved(
        "Members by the tier they are in now, by name, those in none first. Members are who takes part in a program "
        "that has more than bands; there are none in others."
    )
    async def tiers(self, info: ApiInfo) -> list[InsightTier]:
        """How many members each tier has."""
        return await info.context.read(tiers_in, self.question)

    @resolved("Answers to surveys by period, the earliest first, with the net promoter score.")
    async def promoters(
        self,
        info: ApiInfo,
        *,
        activity: Annotated[
            str | None, argument("Answers to this survey alone, by the name of its activity; to all when left out.")
        ] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[InsightPromoters]:
        """A page of answers by period."""
        name = f"promoters:{activity}" if activity is not None else "promoters"
        window = self._window(name, (str,), first=first, after=after, last=last, before=before)
        wanted = insight.page_of(self.question.periods, window.page)
        found = await info.context.read(promoters_in, self.question, wanted, activity)
        return window.connection([str(each.first_day) for each in found], found)

    @resolved("Vouchers by period, the earliest first: had, used and expired.")
    async def vouchers(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightVouchers]:
        """A page of vouchers by period."""
        window = self._window("vouchers", (str,), first=first, after=after, last=last, before=before)
        wanted = insight.page_of(self.question.periods, window.page)
        found = await info.context.read(vouchers_in, self.question, wanted)
        return window.connection([str(each.first_day) for each in found], found)

    @resolved("Rewards that members had vouchers for between the two days, most vouchers first.")
    async def rewards(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[InsightReward]:
        """A page of rewards."""
        window = self._window("rewards", (int, str), first=first, after=after, last=last, before=before)
        found = await info.context.read(insight.rewards, self.question.subject, self.question.whole, window.page)
        return window.connection(
            [(-each.had.vouchers, each.reward) for each in found], [_reward(each) for each in found]
        )

    def _window(self, name: str, shape: tuple[type, ...], **page: int | str | None) -> Window:
        return Window(f"insight.{name}", self.question.filters, shape, **page)  # type: ignore[arg-type]


@strawberry.type
class InsightQueries:
    """Queries of insight, mixed into the root of queries."""

    @resolved(
        "What an asset's program does, by period: for its issuer, auditors and the operator, FORBIDDEN for others. "
        "Null when there is no such asset."
    )
    async def insight(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str, argument("The asset's code.")],
        from_: Annotated[
            Date, strawberry.argument(name="from", description="The first day, in the time zone of its program.")
        ],
        through: Annotated[
            Date, argument(f"The last day, which must not lie in the future; at most {MAX_DAYS:,} days in all.")
        ],
        by: Annotated[InsightInterval, argument("How time is cut into periods.")] = InsightInterval.MONTH,
        active_days: Annotated[
            int, argument(f"For how many days N earning or spending keeps a member active: 1 to {MAX_ACTIVE_DAYS:,}.")
        ] = ACTIVE_DAYS,
    ) -> Insight | None:
        """Insight into an asset."""
        viewer = require_session(info.context.viewer)
        require_asset_code(asset)
        days = days_of(from_, through)
        if not 1 <= active_days <= MAX_ACTIVE_DAYS:
            raise BadInputError(f"activeDays is from 1 to {MAX_ACTIVE_DAYS:,}")
        now = info.context.now()
        found = await info.context.read(
            _question, viewer, asset, days, by=cast(By, by.value), active_days=active_days, now=now
        )
        return _insight(found) if found is not None else None


def _question(
    store: Store,
    connection: Snapshot,
    viewer: Viewer,
    code: str,
    days: tuple[date, date],
    *,
    by: By,
    active_days: int,
    now: str,
) -> Question | None:
    asset = readable_asset(store, connection, viewer, code)
    if asset is None:
        return None
    return question_of(store, connection, asset, days, by=by, active_days=active_days, now=now)


def question_of(
    store: Store, connection: Snapshot, asset: Asset, days: tuple[date, date], *, by: By, active_days: int, now: str
) -> Question:
    """What is asked about an asset whose insight may be read; refuse days that have not come, or too many."""
    program = queries.program(store, connection, asset.code, 1)
    time_zone = program.program.time_zone if program is not None else "UTC"
    require_past(days[1], now, time_zone)
    if days[1] - days[0] >= timedelta(days=MAX_DAYS):
        raise BadInputError(f"at most {MAX_DAYS:,} days")
    return Question(
        asset=asset,
        time_zone=time_zone,
        currency=program.program.currency if program is not None else None,
        whole=Period(first=days[0], last=days[1]),
        by=by,
        active_days=active_days,
        today=local_date(now, time_zone),
    )


def _insight(question: Question) -> Insight:
    return Insight(
        question=question,
        asset=question.asset.code,
        first_day=Date(question.whole.first.isoformat()),
        last_day=Date(question.whole.last.isoformat()),
        time_zone=question.time_zone,
        active_days=question.active_days,
    )


def points_in(
    store: Store, connection: Snapshot, question: Question, wanted: Sequence[Period], expected: Expectation
) -> list[InsightPoints]:
    """Points of periods that follow each other, with what they are expected to cost."""
    found = insight.points_by_period(store, connection, question.subject, wanted, today=question.today)
    rows = []
    for each in found:
        so_far = each.ended_so_far
        rows.append(
            InsightPoints(
                first_day=Date(each.period.first.isoformat()),
                last_day=Date(each.period.last.isoformat()),
                movement=cast(PointsMovement, each.moved),
                redeemed_at_issuer=Points(each.redeemed_at_issuer),
                redeemed_at_partners=Points(each.redeemed_at_partners),
                exchanged_out=Points(each.exchanged_out),
                redemption_rate=redemption_rate_of(each.moved),
                breakage=breakage_of(each.ended),
                breakage_so_far=breakage_of(so_far),
                liability=liability_of(
                    question.asset,
                    question.currency,
                    expected,
                    points=each.moved.closing - so_far.overdue,
                    broken=breakage_rate(so_far.issued, so_far.unspent),
                ),
            )
        )
    return rows


def members_in(
    store: Store, connection: Snapshot, question: Question, wanted: Sequence[Period]
) -> list[InsightMembers]:
    """Members at the ends of periods that follow each other."""
    days = question.active_days
    found = insight.members_by_period(store, connection, question.subject, wanted, active_days=days)
    return [
        InsightMembers(
            first_day=Date(each.period.first.isoformat()),
            last_day=Date(each.period.last.isoformat()),
            members=UInt53(each.members),
            new=UInt53(each.new),
            active=UInt53(each.active),
            churned=UInt53(each.churned),
            churn=_share_of(each.churned, each.active + each.churned),
        )
        for each in found
    ]


def sales_in(store: Store, connection: Snapshot, question: Question, wanted: Sequence[Period]) -> list[InsightSales]:
    """Purchases of periods that follow each other."""
    found = insight.sales_by_period(store, connection, question.subject, wanted, question.by)
    return [
        InsightSales(
            first_day=Date(each.period.first.isoformat()),
            last_day=Date(each.period.last.isoformat()),
            purchases=UInt53(each.purchases),
            amount=MinorUnits(each.amount),
            points=Points(each.points),
            buyers=UInt53(each.buyers),
            average_basket=_share_of(each.amount, each.purchases),
        )
        for each in found
    ]


def sales_by_tier_in(
    store: Store, connection: Snapshot, question: Question, wanted: Sequence[Period]
) -> list[InsightSalesByTier]:
    """Purchases in periods that follow each other, by tier."""
    found = insight.sales_by_tier(store, connection, question.subject, wanted, question.by)
    return [
        InsightSalesByTier(
            first_day=Date(period.first.isoformat()),
            last_day=Date(period.last.isoformat()),
            tiers=[
                InsightTierSales(
                    tier=each.tier,
                    purchases=UInt53(each.purchases),
                    amount=MinorUnits(each.amount),
                    points=Points(each.points),
                    buyers=UInt53(each.buyers),
                    average_basket=ratio_of(each.amount, each.purchases),
                )
                for each in tiers
            ],
        )
        for period, tiers in zip(wanted, found, strict=True)
    ]


def tiers_in(store: Store, connection: Snapshot, question: Question) -> list[InsightTier]:
    """How many members each tier has now."""
    found = insight.tier_counts(store, connection, question.subject, today=question.today)
    return [InsightTier(tier=each.tier, members=UInt53(each.members), due=UInt53(each.due)) for each in found]


def promoters_in(
    store: Store, connection: Snapshot, question: Question, wanted: Sequence[Period], activity: str | None = None
) -> list[InsightPromoters]:
    """Answers in periods that follow each other, to all surveys or to one."""
    found = insight.answers_by_period(store, connection, question.subject, wanted, question.by, activity=activity)
    return [
        InsightPromoters(
            first_day=Date(each.period.first.isoformat()),
            last_day=Date(each.period.last.isoformat()),
            answers=UInt53(each.answers),
            promoters=UInt53(each.promoters),
            passives=UInt53(each.answers - each.promoters - each.detractors),
            detractors=UInt53(each.detractors),
            promoter_score=each.promoter_score,
        )
        for each in found
    ]


def vouchers_in(
    store: Store, connection: Snapshot, question: Question, wanted: Sequence[Period]
) -> list[InsightVouchers]:
    """Vouchers of periods that follow each other."""
    found = insight.vouchers_by_period(store, connection, question.subject, wanted, today=question.today)
    return [
        InsightVouchers(
            first_day=Date(each.period.first.isoformat()),
            last_day=Date(each.period.last.isoformat()),
            had=_counted(each.had),
            cancelled=UInt53(each.had.cancelled),
            used=_counted(each.used),
            expired=_counted(each.expired),
        )
        for each in found
    ]


def _counted(found: insight.Vouchers) -> InsightVoucherCount:
    return InsightVoucherCount(
        vouchers=UInt53(found.vouchers), points=Points(found.points), worth=MinorUnits(found.worth)
    )


def _reward(found: insight.RewardInsight) -> InsightReward:
    return InsightReward(
        reward=found.reward,
        had=_counted(found.had),
        cancelled=UInt53(found.had.cancelled),
        used=UInt53(found.used),
    )


def _share_of(part: int, whole: int) -> Ratio | None:
    return ratio_of(part, whole) if whole else None


def _cohort(found: Cohort) -> InsightCohort:
    return InsightCohort(
        month=found.month,
        members=UInt53(found.members),
        active=[UInt53(count) for count in found.active],
    )


def _spent_at(found: insight.SpentAt) -> InsightSpentAt:
    return InsightSpentAt(
        merchant_id=strawberry.ID(found.merchant),
        name=found.name,
        points=Points(found.points),
        operations=UInt53(found.operations),
        accounts=UInt53(found.accounts),
    )
