"""Simulation of a program in GraphQL: what a draft would have given, before anybody publishes it.

It is the asset's issuer's to ask, and auditors' and the operator's, who all may read what the asset's members earned.
Nothing is recorded, and a draft is told to nobody. What is computed, and by which rules, is in
:mod:`ledger.program_simulation`; a history that is too long for a request is left to the command line.
"""

from collections.abc import Mapping
from typing import Annotated, Any, cast

import msgspec
import strawberry
from sqlalchemy.engine import Connection as Snapshot
from strawberry.utils.str_converters import to_camel_case

from api.access import require_session
from api.accounting import PointPriceInput, days_of, price_of, readable_asset
from api.errors import BadInputError
from api.fields import ApiInfo, argument, field, resolved
from api.ids import require_asset_code
from api.inputs import rules_document
from api.json_files import check_rules
from api.program_inputs import ProgramRulesInput
from api.scalars import Date, MinorUnits, Points, UInt53
from api.sessions import Viewer
from ledger.operations import MalformedError, malformed
from ledger.program_simulation import (
    MAX_CHANGES,
    Example,
    Given,
    MemberChange,
    Month,
    Side,
    Simulation,
    SimulationError,
    TooLongError,
    Wanted,
    simulate,
)
from ledger.program_terms import Program
from ledger.store import Store

MAX_EVENTS = 50_000
"""Purchases, activities and refunds that one request looks at."""


@strawberry.type(description="Points that purchases of a simulation gave, by one program or as they were recorded.")
class SimulatedPoints:
    """Points of one of the programs."""

    for_purchases: Points = field("Points for purchases, those that have yet to vest included.")
    for_invitations: Points = field("Points for members who invited others, by these purchases.")
    taken_back: Points = field("Of both, what refunds of these purchases took back since, as far as they were earned.")
    net: Points = field("What is left: forPurchases + forInvitations - takenBack.")
    cost: MinorUnits | None = field(
        "What they cost in minor units of the program's currency, rounded half up: net points at the asset's value, "
        "or at the `cost` of the question. Null where nothing says what a point costs, and by month."
    )


@strawberry.type(description="Purchases that were made in a month, and what they gave.")
class SimulatedMonth:
    """A month of a simulation."""

    month: str = field("The month, `YYYY-MM`.")
    purchases: UInt53 = field("How many purchases.")
    amount: MinorUnits = field("What they came to, in minor units, before refunds.")
    recorded: SimulatedPoints = field("What was really given.")
    now: SimulatedPoints = field("What the program in force gives.")
    draft: SimulatedPoints = field("What the draft gives.")


@strawberry.type(description="How many members are in a tier at the end of a simulation, or in none.")
class SimulatedTier:
    """Members of a tier."""

    tier: str | None = field("The tier's name, of either program; null for members in none.")
    now: UInt53 = field("Members by the program in force.")
    draft: UInt53 = field("Members by the draft.")


@strawberry.type(description="Members who would be in another tier, or are in the same, at the end of a simulation.")
class SimulatedTierMove:
    """From a tier to a tier."""

    now: str | None = field("The tier by the program in force; null for none.")
    draft: str | None = field("The tier by the draft; null for none.")
    members: UInt53 = field("How many members.")


@strawberry.type(description="A purchase that shows why a member has more or less: that with the greatest difference.")
class SimulatedPurchase:
    """An example."""

    merchant_id: strawberry.ID = field("The merchant that recorded it.")
    order: str = field("The merchant's number of it.")
    earned_on: Date = field("Its local date.")
    amount: MinorUnits = field("Its amount in minor units.")
    now: Points = field("Points by the program in force.")
    draft: Points = field("Points by the draft.")
    now_why: list[str] = field("Why so many by the program in force, in English, one sentence for each step.")
    draft_why: list[str] = field("Why so many by the draft, likewise.")


@strawberry.type(description="A member that would have more or fewer points.")
class SimulatedMember:
    """A member's change."""

    account_id: strawberry.ID = field("The member's account.")
    now: Points = field("Points by the program in force, net.")
    draft: Points = field("Points by the draft, net.")
    example: SimulatedPurchase | None = field(
        "The purchase that makes the greatest difference; null where only invitations or refunds make one."
    )


@strawberry.type(description="Members who would have fewer points by the draft, or those who would have more.")
class SimulatedChange:
    """Those who lose, or gain."""

    members: UInt53 = field("How many members.")
    points: UInt53 = field("How many points fewer, or more, they have together.")
    most: list[SimulatedMember] = field("Those with the greatest difference, as many as were asked for.")


@strawberry.type(
    description=(
        "A draft of a program, run over the purchases that an asset has on record, beside the program in force, both "
        "as if they had always been in force, by the calculation that decides what is recorded. Nobody buys more or "
        "less for it; what activities gave, what members chose and when they joined is as it was recorded."
    )
)
class ProgramSimulation:
    """A simulation."""

    asset: str = field("The asset's code.")
    version: int = field("The version in force, which the draft is compared with.")
    currency: str = field("The currency of amounts and costs.")
    first_day: Date | None = field("The first day asked about, or that of the first purchase; null without any.")
    last_day: Date | None = field("The last day asked about, or that of the last purchase; null without any.")
    purchases: UInt53 = field("How many purchases were made between the two days.")
    amount: MinorUnits = field("What they came to, in minor units, before refunds.")
    recorded: SimulatedPoints = field("What was really given, by whichever version was in force then.")
    now: SimulatedPoints = field("What the program in force gives.")
    draft: SimulatedPoints = field("What the draft gives.")
    months: list[SimulatedMonth] = field("By month of the purchase, the earliest first; months without any are none.")
    members: UInt53 = field("Members that bought, did an activity or invited others, also before the first day.")
    unchanged: UInt53 = field("Members that have as many points by either program.")
    losing: SimulatedChange = field("Members that have fewer points by the draft.")
    gaining: SimulatedChange = field("Members that have more points by the draft.")
    tiers_on: Date = field(
        "The day of `tiers` and `tierMoves`: `lastDay`, or today where there is none or it is still to come."
    )
    tiers: list[SimulatedTier] = field(
        "Members by tier, those in none first, then the lowest tier first; empty where neither program has any."
    )
    tier_moves: list[SimulatedTierMove] = field("Members by pair of tiers, the most members first.")


@strawberry.type
class SimulationQueries:
    """The query of simulation, mixed into the root of queries."""

    @resolved(
        "What a draft of a program would have given for the purchases on record, who would lose and who would gain: "
        "for the asset's issuer, auditors and the operator, FORBIDDEN for others. Null when there is no such asset. "
        f"Looks at up to {MAX_EVENTS:,} events; the command `guerdon program simulate` at any number. "
        "Counts as 5,000 fields."
    )
    async def program_simulate(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str, argument("The asset's code.")],
        program: Annotated[ProgramRulesInput, argument("The draft.")],
        from_: Annotated[
            Date | None,
            strawberry.argument(
                name="from",
                description="The first day of purchases that are told, in the program's time zone; since ever when "
                "left out. What came before still counts for tiers, caps and first purchases.",
            ),
        ] = None,
        through: Annotated[Date | None, argument("The last day; until now when left out.")] = None,
        cost: Annotated[PointPriceInput | None, argument("What points cost; the asset's value when left out.")] = None,
        members: Annotated[
            int, argument(f"How many to name of those who lose most, and of those who gain most: 0 to {MAX_CHANGES}.")
        ] = 10,
    ) -> ProgramSimulation | None:
        """A simulation."""
        viewer = require_session(info.context.viewer)
        require_asset_code(asset)
        if not 0 <= members <= MAX_CHANGES:
            raise BadInputError(f"members is from 0 to {MAX_CHANGES}")
        if from_ is not None and through is not None:
            days_of(from_, through)
        given: dict[str, Any] = {
            "draft": _draft(rules_document(program)),
            "first": from_,
            "last": through,
            "cost": None if cost is None else price_of(cost),
            "members": members,
            "most": MAX_EVENTS,
            "now": info.context.now(),
            "scales": info.context.scales,
        }
        found = await info.context.read(_simulated, viewer, asset, given)
        return None if found is None else _simulation(asset, found)


def _draft(document: Mapping[str, Any]) -> Program:
    """The draft as it would be published; refuse one that is not well formed, with the place."""
    try:
        try:
            return check_rules(msgspec.convert(document, Program))
        except msgspec.ValidationError as error:
            raise malformed(error) from error
    except MalformedError as error:
        raise BadInputError(_said(error.path, error.message)) from error


def _said(path: tuple[str, ...], message: str) -> str:
    return f"{'.'.join(['program', *map(to_camel_case, path)])}: {message}"


def _simulated(
    store: Store, connection: Snapshot, viewer: Viewer, code: str, given: Mapping[str, Any]
) -> Simulation | None:
    asset = readable_asset(store, connection, viewer, code)
    if asset is None:
        return None
    wanted = dict(given)
    scales: dict[str, int] = wanted.pop("scales")
    draft: Program = wanted["draft"]
    if draft.currency not in scales:
        raise BadInputError(f"program.currency: this ledger does not settle in {draft.currency}")
    try:
        return simulate(store, connection, Wanted(asset=asset, scale=scales[draft.currency], **wanted))
    except TooLongError as error:
        raise BadInputError(f"{error}: choose days, or use guerdon program simulate") from error
    except SimulationError as error:
        raise BadInputError(_said(error.path, error.message) if error.path else error.message) from error


def _simulation(asset: str, found: Simulation) -> ProgramSimulation:
    sums = found.sums
    return ProgramSimulation(
        asset=asset,
        version=found.version,
        currency=found.currency,
        first_day=cast("Date | None", found.first),
        last_day=cast("Date | None", found.last),
        purchases=UInt53(sums.purchases),
        amount=MinorUnits(sums.amount),
        recorded=_points(sums.recorded, found.recorded_cost),
        now=_points(sums.now, found.now_cost),
        draft=_points(sums.draft, found.draft_cost),
        months=[_month(month) for month in found.months],
        members=UInt53(found.members),
        unchanged=UInt53(found.unchanged),
        losing=_change(found.losing),
        gaining=_change(found.gaining),
        tiers_on=Date(found.tiers_on),
        tiers=cast("list[SimulatedTier]", list(found.tiers)),
        tier_moves=cast("list[SimulatedTierMove]", list(found.moves)),
    )


def _points(given: Given, cost: int | None = None) -> SimulatedPoints:
    return SimulatedPoints(
        for_purchases=Points(given.for_purchases),
        for_invitations=Points(given.for_invitations),
        taken_back=Points(given.taken_back),
        net=Points(given.net),
        cost=None if cost is None else MinorUnits(cost),
    )


def _month(found: Month) -> SimulatedMonth:
    sums = found.sums
    return SimulatedMonth(
        month=found.month,
        purchases=UInt53(sums.purchases),
        amount=MinorUnits(sums.amount),
        recorded=_points(sums.recorded),
        now=_points(sums.now),
        draft=_points(sums.draft),
    )


def _change(found: Side) -> SimulatedChange:
    return SimulatedChange(
        members=UInt53(found.members), points=UInt53(found.points), most=[_member(each) for each in found.most]
    )


def _member(found: MemberChange) -> SimulatedMember:
    return SimulatedMember(
        account_id=strawberry.ID(found.account),
        now=Points(found.now),
        draft=Points(found.draft),
        example=_purchase(found.example),
    )


def _purchase(found: Example | None) -> SimulatedPurchase | None:
    if found is None:
        return None
    return SimulatedPurchase(
        merchant_id=strawberry.ID(found.merchant),
        order=found.order,
        earned_on=Date(found.earned_on),
        amount=MinorUnits(found.amount),
        now=Points(found.now),
        draft=Points(found.draft),
        now_why=list(found.now_why),
        draft_why=list(found.draft_why),
    )
