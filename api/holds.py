"""Holds as clients see them: points that their owner set aside for a merchant."""

from enum import Enum
from typing import cast

import strawberry
from sqlalchemy.engine import Connection as Snapshot

from api.access import sight_of
from api.fields import ApiInfo, Node, field, resolved
from api.scalars import Date, Points, Time
from api.sessions import Viewer
from ledger import partner_queries
from ledger.entries import NO_LAST_DAY
from ledger.movements import has_lapsed
from ledger.partner_queries import HoldFilter
from ledger.queries import Page
from ledger.state import PointsHold
from ledger.store import Store


@strawberry.enum(description="What has become of a hold.")
class HoldStatus(Enum):
    """States, with the names they have in the ledger as values."""

    OPEN = strawberry.enum_value("open", description="Its points can be captured, and used for nothing else.")
    CAPTURED = strawberry.enum_value("captured", description="They were captured; what was left has returned.")
    RELEASED = strawberry.enum_value("released", description="They were given back.")
    LAPSED = strawberry.enum_value(
        "lapsed", description="Its time has passed: what was not captured is the holder's to spend again."
    )


@strawberry.type(description="Points of one last day that are on hold.")
class HeldLot:
    """A part of a hold."""

    last_day: Date | None = field(
        "The last day they can be used once they are off hold, where they do not expire; null when they never do."
    )
    points: Points = field("How many.")


@strawberry.type(
    description=(
        "Points that their owner set aside for a merchant, until they are captured, released or `until` has passed. "
        "Told to the holder, the merchant, the asset's issuer, auditors and the operator."
    )
)
class Hold(Node):
    """A hold; it lapses by itself, so its state depends on the time."""

    account_id: strawberry.ID = field("Whose points.")
    asset: str = field("The asset's code.")
    merchant_id: strawberry.ID = field("Who can capture them.")
    amount: Points = field("Points that were set aside.")
    captured: Points = field("Points captured so far.")
    until: Time = field("Until when they can be captured.")
    reference: str | None = field("The reference it was placed under, such as an order; null for none.")
    agreement: str | None = field("The agreement by which the merchant accepts the asset; null for its own.")
    agreement_version: int | None = field("The version of it that counts, also for later captures.")
    entry_id: strawberry.ID = field("The entry that placed it.")
    record: strawberry.Private[PointsHold]

    @resolved("What has become of it by now.")
    def status(self, info: ApiInfo) -> HoldStatus:
        """The state now."""
        return cast(HoldStatus, _status(self.record, info.context.now()))

    @resolved("Points that can still be captured.")
    def remaining(self, info: ApiInfo) -> Points:
        """Points on hold now."""
        return Points(self.record.remaining if _is_open(self.record, info.context.now()) else 0)

    @resolved("The points that can still be captured by last day, in the order in which captures take them.")
    def lots(self, info: ApiInfo) -> list[HeldLot]:
        """Lots on hold now."""
        parts = self.record.parts if _is_open(self.record, info.context.now()) else ()
        return [
            HeldLot(last_day=None if day == NO_LAST_DAY else Date(day), points=Points(points)) for day, points in parts
        ]


def _is_open(hold: PointsHold, now: str) -> bool:
    return hold.status == "open" and not has_lapsed(hold, now)


def _status(hold: PointsHold, now: str) -> str:
    return "lapsed" if has_lapsed(hold, now) else hold.status


def hold_of(found: PointsHold) -> Hold:
    """A hold as clients see it."""
    return Hold(
        id=strawberry.ID(found.hold),
        account_id=strawberry.ID(found.account),
        asset=found.asset,
        merchant_id=strawberry.ID(found.merchant),
        amount=Points(found.amount),
        captured=Points(found.captured),
        until=Time(found.until),
        reference=found.reference,
        agreement=found.agreement,
        agreement_version=found.version,
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        record=found,
    )


def holds_seen(store: Store, connection: Snapshot, viewer: Viewer, wanted: HoldFilter, page: Page) -> list[PointsHold]:
    """A page of the holds that a viewer may see."""
    sight = sight_of(store, connection, viewer, [wanted.account] if wanted.account is not None else [])
    return partner_queries.holds_page(store, connection, wanted, sight, page, time=viewer.time)
