"""What members have in programs, in GraphQL: memberships, benefits, what points buy, vouchers at the counter.

A member is told its own, so is its custodian; an asset's issuer is told of its members, auditors and the operator of
all. A voucher is found by its code by the merchant at which it is good and nobody else; that is not taken by GET, since
URLs are logged. The root of the schema takes its fields from :class:`ProgramQueries`.
"""

from enum import Enum
from typing import Annotated, cast

import strawberry
from msgspec import structs
from sqlalchemy.engine import Connection as Snapshot
from strawberry import UNSET

from api.access import require_points_of, require_session, sight_of
from api.context import Context
from api.errors import BadInputError, ForbiddenError
from api.fields import ApiInfo, argument, field, resolved
from api.ids import require_account_id, require_asset_code
from api.input_parts import PurchaseLineInput
from api.paging import After, Before, Connection, First, Last, Window
from api.program_rules import Reward
from api.program_types import (
    MemberBenefit,
    Membership,
    Voucher,
    VoucherStatus,
    membership_of,
    voucher_of,
    vouchers_seen,
)
from api.scalars import MinorUnits, UInt53
from api.sessions import Viewer
from ledger import program_queries, state
from ledger.calculation import Bought
from ledger.program_queries import MemberNow, RewardOffer, VoucherFilter, VoucherState
from ledger.state import Circumstances
from ledger.store import Store
from ledger.terms import PurchaseLine
from ledger.voucher_codes import VoucherCodes

MAX_LINES = 100
"""Lines of a purchase, as in its document."""


@strawberry.enum(description="Why a member cannot have a reward now: the first reason that there is, in this order.")
class RewardUnavailable(Enum):
    """Reasons, in the order in which a redemption is refused."""

    NOT_FOR_MEMBER = strawberry.enum_value(
        "unavailable", description="It is not for this member today: see for whom and when it is."
    )
    LIMIT_REACHED = strawberry.enum_value("limit_reached", description="The member has had as many as it may.")
    OUT_OF_STOCK = strawberry.enum_value("out_of_stock", description="None are left.")
    INSUFFICIENT_POINTS = strawberry.enum_value(
        "insufficient_points", description="The member has too few points that it can use."
    )


@strawberry.type(
    name="RewardOffer",
    description="A reward as a member can have it now. What is left may be gone by the time that it is asked for.",
)
class RewardOfferType:
    """An offer; the core's record stands for it."""

    reward: Reward = field("The reward.")
    left_in_stock: UInt53 | None = field("How many are left for all; null where there is no end to them.")
    left_of_limit: UInt53 | None = field(
        "How many the member may still have in the current period; null where that is not limited."
    )
    number: int = field("How many the member can have now, with the points that it can use.")
    why_not: RewardUnavailable | None = field("Why it can have none; null where it can.")


@strawberry.input(description="A purchase that is asked about. Nothing of it is recorded.")
class BenefitPurchaseInput:
    """A purchase that may be made."""

    amount: MinorUnits = strawberry.field(description="What is to be paid, in minor units.")
    channel: str | None = strawberry.field(description="Where it is made, such as `web`.", default=UNSET)
    tender: str | None = strawberry.field(description="How it is paid, such as `gift_card`.", default=UNSET)
    lines: list[PurchaseLineInput] | None = strawberry.field(
        description=f"Its parts, at most {MAX_LINES}, which add up to the amount.", default=UNSET
    )
    merchant: strawberry.ID | None = strawberry.field(
        description="The merchant that would record it; the asset's issuer when left out.", default=UNSET
    )


def _bought(given: BenefitPurchaseInput | None, member: MemberNow) -> Bought:
    """What is asked about: a purchase by the member today, or none."""
    if given is None:
        return Bought(amount=0, merchant=member.issuer, earned_on=member.today, circumstances=member.circumstances)
    said = {name: value for name in ("channel", "tender") if (value := getattr(given, name)) is not UNSET}
    circumstances: Circumstances = structs.replace(member.circumstances, lines=_lines(given), **said)
    return Bought(
        amount=given.amount,
        merchant=given.merchant or member.issuer,
        earned_on=member.today,
        circumstances=circumstances,
    )


def _lines(given: BenefitPurchaseInput) -> tuple[PurchaseLine, ...]:
    return tuple(
        PurchaseLine(amount=line.amount, category=line.category or None, product=line.product or None)
        for line in given.lines or ()
    )


def _check_purchase(given: BenefitPurchaseInput) -> None:
    """Refuse what can be no purchase; raise :class:`BadInputError`."""
    lines = given.lines or []
    if given.merchant:
        require_account_id(given.merchant)
    if len(lines) > MAX_LINES:
        raise BadInputError(f"a purchase has at most {MAX_LINES} lines")
    if given.amount < 0 or any(line.amount < 0 for line in lines):
        raise BadInputError("an amount is 0 or more minor units")
    if lines and sum(line.amount for line in lines) != given.amount:
        raise BadInputError("the lines add up to the amount")


def _member(store: Store, connection: Snapshot, viewer: Viewer, asset: str, account: str) -> MemberNow | None:
    """How an account stands to an asset's program now, if a viewer may know."""
    require_points_of(sight_of(store, connection, viewer, [account]), asset, account)
    return program_queries.member_now(store, connection, asset, account, viewer.time)


def _benefits(
    store: Store, connection: Snapshot, viewer: Viewer, named: tuple[str, str], purchase: BenefitPurchaseInput | None
) -> list[program_queries.MemberBenefit]:
    member = _member(store, connection, viewer, *named)
    if member is None:
        return []
    return program_queries.benefits(member.version.program, _bought(purchase, member))


def _offers(store: Store, connection: Snapshot, viewer: Viewer, named: tuple[str, str]) -> list[RewardOffer]:
    member = _member(store, connection, viewer, *named)
    return program_queries.reward_offers(store, connection, member, viewer.time) if member is not None else []


def _membership(
    store: Store, connection: Snapshot, viewer: Viewer, asset: str, account: str
) -> state.Membership | None:
    sight = sight_of(store, connection, viewer, [account])
    if not (sight.everything or asset in sight.assets or account in sight.accounts):
        return None
    return program_queries.membership(store, connection, asset, account)


def voucher_seen(store: Store, connection: Snapshot, viewer: Viewer, seq: int, index: int) -> Voucher | None:
    """The voucher with an id, if there is one and a viewer may see it."""
    found = program_queries.voucher(store, connection, seq, index)
    if found is None:
        return None
    sight = sight_of(store, connection, viewer, [found.account])
    told = {found.account, found.merchant}
    seen = sight.everything or found.asset in sight.assets or not told.isdisjoint(sight.accounts)
    return voucher_of(found) if seen else None


def _shown(store: Store, connection: Snapshot, viewer: Viewer, named: tuple[int, int]) -> Voucher | None:
    """The voucher that a code names, if it is good at the merchant that is signed in."""
    found = program_queries.voucher(store, connection, *named)
    return voucher_of(found) if found is not None and found.merchant == viewer.account else None


def _named(asset: str, account: str | None, viewer: Viewer) -> tuple[str, str]:
    """The asset and the account that a question is about; the session's own where it names none."""
    require_asset_code(asset)
    if account is not None:
        require_account_id(account)
    return asset, account or viewer.account


_ACCOUNT = "The member; the session's own account when left out."
_TO_WHOM = (
    "To the member, its custodian, the asset's issuer, auditors and the operator; FORBIDDEN otherwise. Empty where no "
    "program is in force."
)


@strawberry.type
class ProgramQueries:
    """Queries about members of programs."""

    @resolved(
        "How an account takes part in the program of an asset; null when it does not, or this session may not see it."
    )
    async def membership(
        self,
        info: ApiInfo,
        asset: Annotated[str, argument("The asset's code.")],
        account: Annotated[strawberry.ID | None, argument(_ACCOUNT)] = None,
    ) -> Membership | None:
        """One membership."""
        viewer = require_session(info.context.viewer)
        found = await info.context.read(_membership, viewer, *_named(asset, account, viewer))
        return membership_of(found) if found is not None else None

    @resolved(
        "The benefits of the program in force, such as free shipping, and which of them a member has today, with a "
        "purchase or without one. " + _TO_WHOM
    )
    async def benefits(
        self,
        info: ApiInfo,
        asset: Annotated[str, argument("The asset's code.")],
        account: Annotated[strawberry.ID | None, argument(_ACCOUNT)] = None,
        purchase: Annotated[
            BenefitPurchaseInput | None, argument("The purchase; without one, those that need none.")
        ] = None,
    ) -> list[MemberBenefit]:
        """What a member has beside points."""
        viewer = require_session(info.context.viewer)
        if purchase is not None:
            _check_purchase(purchase)
        found = await info.context.read(_benefits, viewer, _named(asset, account, viewer), purchase)
        return cast("list[MemberBenefit]", found)

    @resolved(
        "What points buy under the program in force: what is left of each reward, and whether the member can have it "
        "now. " + _TO_WHOM
    )
    async def rewards(
        self,
        info: ApiInfo,
        asset: Annotated[str, argument("The asset's code.")],
        account: Annotated[strawberry.ID | None, argument(_ACCOUNT)] = None,
    ) -> list[RewardOfferType]:
        """The catalogue, for a member."""
        viewer = require_session(info.context.viewer)
        found = await info.context.read(_offers, viewer, _named(asset, account, viewer))
        return cast("list[RewardOfferType]", found)

    @resolved(
        "The voucher that a code is of, for the merchant at which it is good; null for whatever else there is. "
        "FORBIDDEN for all but merchants, and not by GET, since URLs are logged. Counts as 1,000 fields."
    )
    async def voucher_by_code(
        self, info: ApiInfo, code: Annotated[str, argument("The code, as its holder shows it.")]
    ) -> Voucher | None:
        """A voucher at the counter."""
        context = info.context
        viewer = require_session(context.viewer)
        if viewer.role != "merchant":
            raise ForbiddenError("vouchers are found by the merchants that take them")
        if context.in_url:
            raise BadInputError("send this by POST: who has a code has the voucher, and URLs are logged")
        named = _codes(context).decode(code)
        return await context.read(_shown, viewer, named) if named is not None else None

    @resolved(
        "Vouchers that are good at a merchant, in the order in which members had them. To the merchant, auditors and "
        "the operator; FORBIDDEN otherwise. Those of a member are in `account`."
    )
    async def vouchers(
        self,
        info: ApiInfo,
        *,
        merchant: Annotated[
            strawberry.ID | None, argument("The merchant; the session's own account when left out.")
        ] = None,
        asset: Annotated[str | None, argument("Only those paid for in this asset.")] = None,
        status: Annotated[VoucherStatus | None, argument("Only those that stand so now.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Voucher]:
        """A page of a merchant's vouchers."""
        viewer = require_session(info.context.viewer)
        if merchant is not None:
            require_account_id(merchant)
        if asset is not None:
            require_asset_code(asset)
        whose = merchant or viewer.account
        sight = await info.context.read(sight_of, viewer)
        if not sight.everything and whose != viewer.account:
            raise ForbiddenError("this session may read the vouchers that are good at its own account")
        stands = cast("VoucherState | None", status.value if status is not None else None)
        names = [whose, asset, stands]
        window = Window("vouchers", names, (int, int), first=first, after=after, last=last, before=before)
        wanted = VoucherFilter(merchant=whose, assets=None if asset is None else (asset,), status=stands)
        found = await info.context.read(vouchers_seen, viewer, wanted, window.page)
        return window.connection([(each.seq, each.index) for each in found], [voucher_of(each) for each in found])


def _codes(context: Context) -> VoucherCodes:
    """The codes of this server; raise what a request is refused with where it has none."""
    profiles = context.service.profiles
    if profiles is None:
        raise ForbiddenError("this server makes no codes: its operator has to give it GUERDON_PROFILE_KEY_FILE")
    return profiles.voucher_codes
