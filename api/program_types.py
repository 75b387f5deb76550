"""Members of programs as clients see them: where they stand, what they have coming, what they had for their points.

A member is told its own, so is its custodian; the issuer is told what is of its program, auditors and the operator all.
What only the time decides, such as a tier of today or a voucher that has expired, is worked out when it is asked for.
"""

from enum import Enum
from typing import cast

import strawberry
from sqlalchemy.engine import Connection as Snapshot

from api.access import sight_of
from api.fields import ApiInfo, Node, field, resolved
from api.program_inputs import ReminderAbout, TierBasis
from api.scalars import Date, MinorUnits, Points, Time, UInt53
from api.sessions import Viewer
from ledger import program_queries, state
from ledger.entries import NO_LAST_DAY
from ledger.program_queries import MembershipFilter, ToldReminder, VoucherFilter
from ledger.queries import Page
from ledger.reminders import points_told
from ledger.store import Store


def day_of(day: str) -> Date | None:
    """A last day; ``None`` for the one that means for ever."""
    return None if day == NO_LAST_DAY else Date(day)


def _id(account: str | None) -> strawberry.ID | None:
    return strawberry.ID(account) if account is not None else None


def _minor_units(amount: int | None) -> MinorUnits | None:
    return MinorUnits(amount) if amount is not None else None


# Points that have not vested


@strawberry.type(description="Points of a purchase that are promised and will be issued once they vest.")
class PendingPoints:
    """Points that have not vested."""

    account_id: strawberry.ID = field("The member who bought.")
    asset: str = field("The asset's code.")
    merchant_id: strawberry.ID = field("The merchant that recorded the purchase.")
    order: str = field("The merchant's reference of the purchase.")
    points: Points = field("How many.")
    vests_on: Date = field("The local date from which on they can be issued.")
    last_day: Date | None = field("The last day they can be used then; null when they never expire.")
    status_points: Points = field("Points of the program's status asset that vest with them.")
    inviter_id: strawberry.ID | None = field("Who invited the member, where that is rewarded with this purchase.")
    inviter_points: Points = field("Points that whoever invited the member gets when they vest.")
    program_version: int = field("The version of the program that the purchase is under.")


def pending_of(found: state.Pending) -> PendingPoints:
    """Points that have not vested, as clients see them."""
    return PendingPoints(
        account_id=strawberry.ID(found.account),
        asset=found.asset,
        merchant_id=strawberry.ID(found.merchant),
        order=found.order,
        points=Points(found.points),
        vests_on=Date(found.vests_on),
        last_day=day_of(found.last_day),
        status_points=Points(found.status_points),
        inviter_id=_id(found.inviter),
        inviter_points=Points(found.inviter_points),
        program_version=found.version,
    )


# Vouchers


@strawberry.enum(description="What has become of a voucher.")
class VoucherStatus(Enum):
    """States, with the names they have in the ledger as values; a voucher expires by time alone."""

    ISSUED = strawberry.enum_value("issued", description="It can be used.")
    USED = strawberry.enum_value("used", description="It was used.")
    CANCELLED = strawberry.enum_value("cancelled", description="The points it was had for were refunded.")
    EXPIRED = strawberry.enum_value("expired", description="Its last day has passed, and it was not used.")


@strawberry.type(
    description=(
        "The right to a reward that a member had for its points. Told to the member, its custodian, the merchant at "
        "which it is good, auditors and the operator."
    )
)
class Voucher(Node):
    """A voucher; it expires by itself, so its state depends on the time."""

    seq: UInt53 = field("Sequence number of the entry that gave it.")
    index: int = field("Which of that entry's vouchers it is, from 0.")
    account_id: strawberry.ID = field("Whose it is.")
    asset: str = field("The asset it was paid for in.")
    merchant_id: strawberry.ID = field("The merchant at which it is good.")
    reward: str = field("Name of the reward.")
    price: Points = field("Points it was had for.")
    worth: MinorUnits | None = field(
        "Minor units of the program's currency that it stands for; null where it stands for no money."
    )
    last_day: Date | None = field("The last local date it can be used; null when it never expires.")
    entry_id: strawberry.ID = field("The entry that gave it.")
    used_entry_id: strawberry.ID | None = field("The entry in which it was used; null while it was not.")
    record: strawberry.Private[state.Voucher]

    @resolved("What has become of it by now.")
    async def status(self, info: ApiInfo) -> VoucherStatus:
        """The state now."""
        stands, last_day = self.record.status, self.record.last_day
        if stands == "issued" and last_day != NO_LAST_DAY:
            today = await info.context.loaders.today.load(self.asset)
            stands = "expired" if last_day < today else stands
        return cast(VoucherStatus, stands)

    @resolved(
        "What its holder shows to have it used: `voucherByCode` finds it by this. Told to the holder and its custodian "
        "only; null for others, and where the server has no GUERDON_PROFILE_KEY_FILE."
    )
    async def code(self, info: ApiInfo) -> str | None:
        """The code, if the viewer is the holder or has its account in custody."""
        profiles = info.context.service.profiles
        if profiles is None or not await info.context.loaders.is_own.load(self.account_id):
            return None
        return profiles.voucher_codes.encode(self.record.seq, self.record.index)


def voucher_of(found: state.Voucher) -> Voucher:
    """A voucher as clients see it."""
    return Voucher(
        id=strawberry.ID(f"vch_{found.seq}_{found.index}"),
        seq=UInt53(found.seq),
        index=found.index,
        account_id=strawberry.ID(found.account),
        asset=found.asset,
        merchant_id=strawberry.ID(found.merchant),
        reward=found.reward,
        price=Points(found.price),
        worth=_minor_units(found.worth),
        last_day=day_of(found.last_day),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        used_entry_id=strawberry.ID(f"ent_{found.used_seq}") if found.used_seq is not None else None,
        record=found,
    )


# Pools


@strawberry.type(
    description=(
        "Members who spend each other's points of an asset. Told to its members, their custodians, the asset's issuer, "
        "auditors and the operator."
    )
)
class Pool(Node):
    """A pool."""

    asset: str = field("The asset's code.")
    member_ids: list[strawberry.ID] = field("Its members, in the order in which they came.")

    @resolved("Points that its members can spend together now; those of accounts that are frozen are not among them.")
    async def spendable(self, info: ApiInfo) -> Points:
        """What can be spent from it."""
        return Points(await info.context.loaders.pool_points.load((self.asset, tuple(self.member_ids))))


def pool_of(found: state.Pool) -> Pool:
    """A pool as clients see it."""
    return Pool(
        id=strawberry.ID(found.pool),
        asset=found.asset,
        member_ids=[strawberry.ID(member) for member in found.members],
    )


# Memberships


@strawberry.type(description="What a member did in a period, of what tiers count.")
class PeriodProgress:
    """What was counted in a period."""

    period: str = field("The year, the month `YYYY-MM`, or the first day of a membership year.")
    count: UInt53 = field("How much.")


@strawberry.type(description="A tier above the one a member is in.")
class NextTier:
    """A tier that a member can reach."""

    tier: str = field("Its name.")
    from_count: UInt53 = strawberry.field(name="from", description="What has to be counted for it in all.")
    missing: UInt53 = field("How much of that is missing now.")


@strawberry.type(description="Where a member stands today.")
class TierStanding:
    """A tier, as of the local date."""

    tier: str | None = field("The tier's name; null below the lowest.")
    until: Date | None = field(
        "The last local date on which it lasts if nothing more is counted; null when it lasts for ever."
    )
    never_expires: bool = field("Whether points earned in it never expire.")
    basis: TierBasis = field("What is counted.")
    period: str = field("The current period.")
    counted: UInt53 = field("What counts now: the sum over `periods`.")
    periods: list[PeriodProgress] = field("The periods that count together now, the earliest first.")
    next: NextTier | None = field("The next tier above; null in the highest.")


@strawberry.type(description="A plan that a member paid for.")
class MembershipPlan:
    """A paid plan."""

    plan: str = field("Its name.")
    from_day: Date = strawberry.field(name="from", description="The first local date on which it holds.")
    until: Date = field("The last local date on which it holds.")
    is_active: bool = field("Whether it holds today.")


@strawberry.type(
    description=(
        "How an account takes part in a program. Told to the member, its custodian, the asset's issuer, auditors and "
        "the operator."
    )
)
class Membership:
    """A membership; what depends on the day is worked out when it is asked for."""

    asset: str = field("The asset whose program it is.")
    account_id: strawberry.ID = field("The member.")
    joined_on: Date = field("The local date on which it joined.")
    purchases: UInt53 = field("Its purchases that were not refunded whole.")
    formula: str | None = field("The formula it chose to earn by; null for the program's own rates.")
    invited_by_id: strawberry.ID | None = field("Who invited it, as it said itself; null for nobody.")
    noted_tier: str | None = field(
        "The tier that was noted last, which `tier` may have overtaken by time alone; null below the lowest."
    )
    record: strawberry.Private[state.Membership]

    @resolved("Where it stands today; null when the program in force has no tiers.")
    async def tier(self, info: ApiInfo) -> TierStanding | None:
        """Its standing now."""
        return cast("TierStanding | None", await info.context.loaders.standing.load(self.record))

    @resolved("The plan it paid for last, current or over; null for none.")
    async def plan(self, info: ApiInfo) -> MembershipPlan | None:
        """Its plan."""
        kept = self.record
        if kept.plan is None or kept.plan_from is None or kept.plan_until is None:
            return None
        today = await info.context.loaders.today.load(self.asset)
        return MembershipPlan(
            plan=kept.plan,
            from_day=Date(kept.plan_from),
            until=Date(kept.plan_until),
            is_active=kept.plan_from <= today <= kept.plan_until,
        )

    @resolved("The pool it is in; null for none.")
    async def pool(self, info: ApiInfo) -> Pool | None:
        """Its pool."""
        if self.record.pool is None:
            return None
        found = await info.context.loaders.pool.load(self.record.pool)
        return pool_of(found) if found is not None else None


def membership_of(found: state.Membership) -> Membership:
    """A membership as clients see it."""
    return Membership(
        asset=found.asset,
        account_id=strawberry.ID(found.account),
        joined_on=Date(found.joined_on),
        purchases=UInt53(found.purchases),
        formula=found.formula,
        invited_by_id=_id(found.invited_by),
        noted_tier=found.tier,
        record=found,
    )


# Reminders


@strawberry.type(
    description=(
        "What a member was reminded of, as it was then. Told to the member, its custodian, the asset's issuer, "
        "auditors and the operator."
    )
)
class Reminder:
    """A reminder."""

    seq: UInt53 = field("Sequence number of the entry that reminded the member.")
    entry_id: strawberry.ID = field("That entry.")
    time: Time = field("When it was recorded.")
    account_id: strawberry.ID = field("The member.")
    asset: str = field("The asset's code.")
    about: ReminderAbout = field("What of.")
    points: Points | None = field("Points that the member could use, or that will expire soon; null for a tier.")
    day: Date | None = field(
        "The last local date on which the first of those points can be used; null where it is not about expiry."
    )
    tier: str | None = field("The tier the member had come into; null for none, and where it is not about a tier.")
    sentence: str = field("The same in words, to the member.")


def reminder_of(found: ToldReminder) -> Reminder:
    """A reminder as clients see it."""
    each = found.reminder
    return Reminder(
        seq=UInt53(each.seq),
        entry_id=strawberry.ID(f"ent_{each.seq}"),
        time=Time(found.time),
        account_id=strawberry.ID(each.account),
        asset=each.asset,
        about=cast(ReminderAbout, each.about),
        points=cast("Points | None", points_told(each)),
        day=Date(each.day) if each.day is not None else None,
        tier=each.tier,
        sentence=found.sentence,
    )


# Activities and benefits


@strawberry.type(description="An activity that a member did, as a merchant has granted it.")
class Achievement:
    """An activity of a member; the core's record stands for it."""

    asset: str = field("The asset whose program lists the activity.")
    activity: str = field("Name of the activity.")
    count: UInt53 = field("How often.")
    first_day: Date = field("The local date on which it was done first.")
    last_day: Date = field("The local date on which it was done last.")
    points: Points = field("Points granted for it in all.")


@strawberry.type(
    description="Something that is no points, such as free shipping, and whether a purchase would have it."
)
class MemberBenefit:
    """A benefit, as of now."""

    benefit: str = field("Its name.")
    holds: bool = field("Whether the member has it, for the purchase that was asked about.")


# What a viewer is told


def memberships_seen(
    store: Store, connection: Snapshot, viewer: Viewer, wanted: MembershipFilter, page: Page
) -> list[state.Membership]:
    """A page of the memberships that a viewer may see."""
    sight = sight_of(store, connection, viewer, [wanted.account] if wanted.account is not None else [])
    return program_queries.memberships_page(store, connection, wanted, sight, page)


def vouchers_seen(
    store: Store, connection: Snapshot, viewer: Viewer, wanted: VoucherFilter, page: Page
) -> list[state.Voucher]:
    """A page of the vouchers that a viewer may see."""
    sight = sight_of(store, connection, viewer, [wanted.account] if wanted.account is not None else [])
    return program_queries.vouchers_page(store, connection, wanted, sight, page, time=viewer.time)


def pending_seen(
    store: Store, connection: Snapshot, viewer: Viewer, account: str, page: Page, *, asset: str | None
) -> list[state.Pending]:
    """A page of an account's points to come, of the assets that a viewer may see them of."""
    assets = _assets_seen(store, connection, viewer, account, asset)
    return program_queries.pending_page(store, connection, account, assets, page) if assets != () else []


def reminders_seen(
    store: Store, connection: Snapshot, viewer: Viewer, account: str, page: Page, *, asset: str | None
) -> list[ToldReminder]:
    """A page of what an account was reminded of, of the assets that a viewer may see that of."""
    assets = _assets_seen(store, connection, viewer, account, asset)
    return program_queries.reminders_page(store, connection, account, assets, page) if assets != () else []


def pools_seen(store: Store, connection: Snapshot, viewer: Viewer, account: str) -> list[state.Pool]:
    """The pools of an account, of the assets that a viewer may see them of."""
    assets = _assets_seen(store, connection, viewer, account, None)
    return program_queries.pools_of(store, connection, account, assets) if assets != () else []


def achievements_seen(
    store: Store, connection: Snapshot, viewer: Viewer, account: str, asset: str
) -> list[program_queries.Achievement]:
    """What an account did, if a viewer may see it."""
    if _assets_seen(store, connection, viewer, account, asset) == ():
        return []
    return program_queries.achievements(store, connection, asset, account)


def _assets_seen(
    store: Store, connection: Snapshot, viewer: Viewer, account: str, asset: str | None
) -> tuple[str, ...] | None:
    """The assets, of all or of one, in which a viewer is told of an account; ``None`` for all."""
    sight = sight_of(store, connection, viewer, [account])
    if sight.everything or account in sight.accounts:
        return None if asset is None else (asset,)
    return tuple(code for code in sight.assets if asset in {None, code})
