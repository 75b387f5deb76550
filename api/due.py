"""Due work in GraphQL: what time has made true, and no entry says yet.

The root of queries takes its field from :class:`DueQueries`. Finding it is :mod:`ledger.due`'s, doing it left to
``guerdon run-due`` and the server's scheduler, and to whoever signs ``expire`` and ``release``.
"""

from typing import Annotated

import strawberry
from sqlalchemy.engine import Connection as Snapshot

from api.access import require_session
from api.errors import ForbiddenError
from api.fields import ApiInfo, argument, field, resolved
from api.ids import require_asset_code
from api.paging import After, Before, Connection, First, Last, Window
from api.scalars import Date, Points, Time, UInt53
from api.sessions import Viewer
from ledger import due
from ledger.due import DueFilter, DueOfAsset
from ledger.queries import Page
from ledger.store import Store


@strawberry.type(
    description=(
        "What is due of an asset: lots whose last day is over in the time zone of its program, for `expirySubmit`, and "
        "holds that have lapsed, for `releaseSubmit`: neither can be spent nor captured any more, done or not. And "
        "points that vest, for `vestSubmit`, and tiers that have ended, for `reviewTiersSubmit`."
    )
)
class DueWork:
    """Due work of an asset."""

    asset: str = field("The asset's code.")
    through: Date = field("Yesterday in the time zone of its program: `through` of the expiry that is due.")
    lots: UInt53 = field("Lots whose last day is that or an earlier one; 0 when the issuer is somebody else.")
    points: Points = field("Points of these lots.")
    first_day: Date | None = field("The earliest last day among them; null when there are none.")
    lapsed_holds: UInt53 = field(
        "Holds whose time has passed. Told to the operator, auditors and the issuer: all; to others: those for them."
    )
    held_points: Points = field("Points that are left on these holds. They return by themselves when they are needed.")
    lapsed_since: Time | None = field("When the first of them lapsed; null when none has.")
    vesting_purchases: UInt53 = field("Purchases whose points vest by now; 0 when the issuer is somebody else.")
    vesting_points: Points = field("Points of these purchases, which are issued by that.")
    vests_since: Date | None = field("The earliest day on which some of them vest; null when there are none.")
    members_to_review: UInt53 = field("Members whose tier has ended; 0 when the issuer is somebody else.")
    tiers_until: Date | None = field("The earliest last day of these tiers; null when there are none.")


def _due_work_of(found: DueOfAsset) -> DueWork:
    return DueWork(
        asset=found.asset,
        through=Date(found.through),
        lots=UInt53(found.lots),
        points=Points(found.points),
        first_day=Date(found.first_day) if found.first_day is not None else None,
        lapsed_holds=UInt53(found.holds),
        held_points=Points(found.held_points),
        lapsed_since=Time(found.lapsed_since) if found.lapsed_since is not None else None,
        vesting_purchases=UInt53(found.vesting),
        vesting_points=Points(found.vesting_points),
        vests_since=Date(found.vests_since) if found.vests_since is not None else None,
        members_to_review=UInt53(found.members),
        tiers_until=Date(found.tiers_until) if found.tiers_until is not None else None,
    )


@strawberry.type
class DueQueries:
    """What of due work can be read."""

    @resolved(
        "What is due now, asset by asset, without those of which nothing is. To auditors and the operator all of it; "
        "to a merchant what it can do itself: lots of its assets, and lapsed holds of these and for it. FORBIDDEN for "
        "others."
    )
    async def due(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only this asset, by its code.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[DueWork]:
        """A page of due work."""
        viewer = require_session(info.context.viewer)
        if asset is not None:
            require_asset_code(asset)
        wanted = DueFilter(merchant=_merchant(viewer), assets=(asset,) if asset is not None else None)
        names = [viewer.account, asset]
        window = Window("due", names, (str,), first=first, after=after, last=last, before=before)
        found = await info.context.read(_due, wanted, viewer.time, window.page)
        return window.connection([each.asset for each in found], [_due_work_of(each) for each in found])


def _merchant(viewer: Viewer) -> str | None:
    """The merchant whose part a viewer sees; ``None`` for who sees everything."""
    if viewer.role == "merchant":
        return viewer.account
    if viewer.role in {"auditor", "operator"}:
        return None
    raise ForbiddenError("what is due is told to merchants, auditors and the operator")


def _due(store: Store, connection: Snapshot, wanted: DueFilter, time: str, page: Page) -> list[DueOfAsset]:
    return due.due_assets(store, connection, wanted, time, page)
