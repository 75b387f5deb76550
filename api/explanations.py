"""Why points were given, as clients see it: every step from what was bought to the points, and the same in words.

Nothing of it is stored: it is reckoned anew from the purchase, from the circumstances noted with it, and from the
version of the program that it was under. All three are in the ledger, so whoever reads the entries can check it.
"""

from collections.abc import Sequence
from enum import Enum
from typing import cast

import strawberry

from api.context import Context
from api.fields import field
from api.input_parts import PointsRounding
from api.paging import Connection, Window
from api.scalars import Date, MinorUnits, Points
from ledger import calculation
from ledger.calculation import Exact
from ledger.program_queries import Event, EventKey, ExplainedEvent, event_key
from ledger.queries import Page
from ledger.state import INVITATION_SCOPE, ORDER_SCOPE


@strawberry.type(description="An exact number: a fraction in lowest terms, of integers that may be beyond 2^53-1.")
class ExactNumber:
    """An exact number; text, since no number of JSON is exact."""

    numerator: str = field("The numerator, in decimal digits.")
    denominator: str = field("The denominator, in decimal digits: 1 for a whole number.")


@strawberry.type(description="What one band of a program's rates gave.")
class BandShare:
    """A band's part."""

    from_amount: MinorUnits = strawberry.field(name="from", description="Where the band begins.")
    amount: MinorUnits = field("How much of what was bought lies in it: minor units, or a quantity.")
    rate: Points = field("Points for every `per`.")
    per: MinorUnits = field("Minor units, or so much of a quantity, for which `rate` is given.")
    points: ExactNumber = field("What that is, not rounded.")


@strawberry.type(description="What the points of a line of a purchase were multiplied by.")
class LineFactor:
    """A line's factor."""

    line: int | None = field("Which line, from 0; null for all of a purchase whose lines are not told apart.")
    amount: MinorUnits = field("Its amount.")
    factor: ExactNumber = field("What it counts: 1 where no multiplier holds.")
    multipliers: list[str] = field("Names of the multipliers that make the factor.")
    passed_over: list[str] = field("Names of those that hold too, where the best counts alone.")


@strawberry.type(description="Points that a bonus added.")
class BonusShare:
    """A bonus's part; the core's record stands for it."""

    bonus: str = field("Its name.")
    points: Points = field("Points.")


@strawberry.type(description="How the points of a purchase were reckoned when it was recorded, step by step.")
class Calculation:
    """A calculation."""

    earning_amount: MinorUnits = field("What earned, in minor units.")
    excluded_amount: MinorUnits = field("What did not, since its category is excluded.")
    formula: str | None = field("The formula that the member chose; null for the program's own rates.")
    quantity: str | None = field("The quantity that earned, by that formula; null for the amount.")
    base_amount: MinorUnits = field("What the rates were applied to: minor units, or the quantity.")
    bands: list[BandShare] = field("What each band gave.")
    base: ExactNumber = field("Their sum: base points.")
    lines: list[LineFactor] = field("The factor of each line; none where no multiplier holds for any.")
    multiplied: ExactNumber = field("Base points times the mean of the factors, weighted by the lines' amounts.")
    rounding: PointsRounding = field("How that was rounded.")
    rounded: Points = field("What it was rounded to.")
    bonuses: list[BonusShare] = field("What bonuses added.")
    room: Points | None = field("Points for which there was room under the earning cap; null where there is no cap.")
    cut: Points = field("Points that were more than that, and not given.")
    points: Points = field("Points given.")
    status_points: Points = field("Base points, rounded, that count for status; 0 where none do.")


@strawberry.enum(description="What points were given for.")
class EarningType(Enum):
    """What gives points."""

    PURCHASE = strawberry.enum_value("purchase", description="A purchase.")
    ACTIVITY = strawberry.enum_value("activity", description="An activity that a merchant granted points for.")
    INVITATION = strawberry.enum_value(
        "invitation", description="The first purchase of a member that this one invited."
    )


@strawberry.type(description="Why points were given.")
class Explanation:
    """An explanation."""

    sentence: str = field("All of it in words.")
    steps: list[str] = field("The same, one sentence for each step that did something.")
    calculation: Calculation | None = field("The steps as data; null where the points are of no purchase.")


@strawberry.type(
    description=(
        "An event that gave points, or promised some that vest later: a purchase, an activity, an invitation. Told to "
        "the member, its custodian, the asset's issuer, auditors and the operator."
    )
)
class Earning:
    """An earning."""

    type: EarningType = field("What it was.")
    merchant_id: strawberry.ID = field("The merchant that recorded it.")
    reference: str | None = field(
        "The merchant's reference, of a purchase its order; null of an invitation, whose order is the friend's."
    )
    activity: str | None = field("Name of the activity; null for others.")
    account_id: strawberry.ID = field("Who earned.")
    asset: str = field("The asset's code.")
    earned_on: Date = field("The local date of it.")
    amount: MinorUnits | None = field("What was paid, in minor units; null where it is no purchase.")
    currency: str = field("The currency of amounts.")
    points: Points = field("Points given for it, or promised, before any refund.")
    score: int | None = field("The member's answer, 0 to 10, where the activity is a survey.")
    program_version: int = field("The version of the program it was under.")
    entry_id: strawberry.ID = field("The entry that recorded it.")
    explanation: Explanation = field("Why it gave so many.")


def earning_of(found: ExplainedEvent) -> Earning:
    """An earning as clients see it."""
    event = found.earning
    return Earning(
        type=cast(EarningType, _TYPES.get(event.scope, "activity")),
        merchant_id=strawberry.ID(event.merchant),
        reference=event.reference if event.scope != INVITATION_SCOPE else None,
        activity=event.scope.partition(":")[2] or None,
        account_id=strawberry.ID(event.account),
        asset=found.asset,
        earned_on=Date(event.earned_on),
        amount=MinorUnits(event.amount) if event.amount is not None else None,
        currency=found.currency,
        points=Points(event.points),
        score=event.score,
        program_version=event.version,
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        explanation=Explanation(
            sentence=" ".join(found.sentences),
            steps=list(found.sentences),
            calculation=_calculation_of(found.calculation) if found.calculation is not None else None,
        ),
    )


_TYPES = {ORDER_SCOPE: "purchase", INVITATION_SCOPE: "invitation"}


def _calculation_of(found: calculation.Calculation) -> Calculation:
    return Calculation(
        earning_amount=MinorUnits(found.earning_amount),
        excluded_amount=MinorUnits(found.excluded_amount),
        formula=found.formula,
        quantity=found.quantity,
        base_amount=MinorUnits(found.base_amount),
        bands=[
            BandShare(
                from_amount=MinorUnits(band.from_amount),
                amount=MinorUnits(band.amount),
                rate=Points(band.rate),
                per=MinorUnits(band.per),
                points=_exact(band.points),
            )
            for band in found.bands
        ],
        base=_exact(found.base),
        lines=[
            LineFactor(
                line=line.line,
                amount=MinorUnits(line.amount),
                factor=_exact(line.factor),
                multipliers=list(line.multipliers),
                passed_over=list(line.passed_over),
            )
            for line in found.lines
        ],
        multiplied=_exact(found.multiplied),
        rounding=cast(PointsRounding, found.rounding),
        rounded=Points(found.rounded),
        bonuses=cast("list[BonusShare]", list(found.bonuses)),
        room=Points(found.room) if found.room is not None else None,
        cut=Points(found.cut),
        points=Points(found.points),
        status_points=Points(found.status_points),
    )


def _exact(number: Exact) -> ExactNumber:
    return ExactNumber(numerator=str(number.numerator), denominator=str(number.denominator))


EVENT_SHAPE = (str, str, str)
"""Types of the key of an event, for cursors."""


async def explained_page(context: Context, window: Window, events: Sequence[Event]) -> Connection[Earning]:
    """The events that the page of a window has fetched, explained."""
    found = await context.loaders.explained.load_many(events)
    return window.connection([event_key(event) for event in events], [earning_of(each) for each in found])


def cut(events: Sequence[Event], page: Page) -> list[Event]:
    """What a page asks for of all the events of a list, in ascending order."""

    def is_within(key: EventKey) -> bool:
        return (page.after is None or key > page.after) and (page.before is None or key < page.before)

    within = [event for event in events if is_within(event_key(event))]
    return within[-page.limit :] if page.from_end else within[: page.limit]
