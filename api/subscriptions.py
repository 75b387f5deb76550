"""Subscriptions: what is told as it is recorded.

Both fields tell entries in the order of their sequence numbers, each exactly once, from a number the client gives. What
they tell is what the query ``entries`` would answer: the same authorisation, read anew for every page in the same
snapshot as the entries, so that a session that is over, or a custody that has ended, ends the stream.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast

import strawberry
from msgspec import Struct
from sqlalchemy.engine import Connection as Snapshot

from api.access import require_session, sight_of, visible_assets
from api.context import Context
from api.errors import BadInputError, ForbiddenError, UnauthenticatedError
from api.fields import ApiInfo, argument, field
from api.ids import require_account_id
from api.queries import EntryFilterInput, entry_filter
from api.scalars import Points, UInt53
from api.sessions import SESSION_OVER, Session, TokenError, Viewer, viewer_at
from api.streams import PAGE, Interests
from api.types import Entry, entry_of
from ledger import queries
from ledger.entries import Posting, decode_entry
from ledger.queries import EntryFilter, Page, Sight
from ledger.store import Store

NARROW = 1_000
"""Entries behind the ledger's tail that are walked one by one; who is farther behind is read to by the indexes."""

After = Annotated[
    UInt53 | None,
    argument(
        "Only entries with a greater sequence number: the last one received, to go on after it without a gap. Entries "
        "recorded from now on when left out."
    ),
]


class SessionOverError(UnauthenticatedError):
    """The session of a stream has ended, while it ran or before."""


class _Told(Protocol):
    """What a stream tells: it knows the entry it is about."""

    @property
    def seq(self) -> int:
        """The entry's sequence number."""


F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=_Told)


class Found(Struct, Generic[T], frozen=True):
    """What a viewer is told of the entries of a page, in their order, and what may concern the stream later."""

    told: list[T]
    interests: Interests


Question = Callable[[Store, Snapshot, Viewer, Page], Found[T]]
"""What a stream asks for each page."""


class _Look(Struct, Generic[T], frozen=True, kw_only=True):
    """What was found in one snapshot: everything up to ``position``, when the ledger had ``size`` entries."""

    viewer: Viewer
    size: int
    position: int
    found: Found[T]


def streamed(description: str) -> Callable[[F], F]:
    """A subscription's field, and what it means."""
    return cast("Callable[[F], F]", strawberry.subscription(description=description))


async def follow(context: Context, after: int | None, question: Question[T]) -> AsyncGenerator[T, None]:
    """The stream of what a question finds; raise an :class:`ApiError` when it cannot begin."""
    session = require_session(context.viewer).session
    assert session is not None
    return _follow(context, session, question, await _look(context, session, question, after))


async def _follow(context: Context, session: Session, question: Question[T], look: _Look[T]) -> AsyncGenerator[T, None]:
    while True:
        for item in look.found.told:
            yield item
        position = look.position
        if position == look.size - 1:
            streams = context.service.streams
            position = await streams.news.wait(look.size, look.found.interests, streams.limits.ping_s) - 1
        look = await _look(context, session, question, position)


async def _look(context: Context, session: Session, question: Question[T], after: int | None) -> _Look[T]:
    """Read the next page, and who may read it now."""
    service = context.service
    if session.expires_at_ms <= service.clock():
        raise SessionOverError(SESSION_OVER)
    async with service.streams.turn:
        try:
            look = await context.read(_page, session, question, now=context.now(), after=after)
        except TokenError as error:
            raise SessionOverError(str(error)) from None
    context.viewer = look.viewer
    return look


def _page(
    store: Store, connection: Snapshot, session: Session, question: Question[T], *, now: str, after: int | None
) -> _Look[T]:
    viewer = viewer_at(session, queries.authority(store, connection, session.account, now))
    size = store.head(connection).size
    if after is None:
        after = size - 1
    if after >= size:
        raise BadInputError(f"the ledger has {size} entries: after is at most {size - 1}")
    page = Page(limit=PAGE, after=after, before=size, narrow=size - after <= NARROW)
    found = question(store, connection, viewer, page)
    position = found.told[-1].seq if len(found.told) == PAGE else size - 1
    return _Look(viewer=viewer, size=size, position=position, found=found)


def interests_of(wanted: EntryFilter, sight: Sight) -> Interests:
    """What each entry touches one of that matches a filter, as far as a reader is told of it."""
    if wanted.account is not None:
        return frozenset({wanted.account})
    if wanted.asset is not None:
        return frozenset({wanted.asset})
    return None if sight.everything else frozenset({*sight.accounts, *sight.assets})


@strawberry.type(description="By how much an entry changed an account's points of one asset.")
class Movement:
    """A movement: the account's postings in an entry, summed by asset."""

    asset: str = field("The asset's code.")
    amount: Points = field("Points in (positive) or out (negative), over all lots; 0 when they changed lots alone.")
    balance: Points = field("All points of the asset in the account after the entry.")


@strawberry.type(description="An entry that concerns an account, and what it did to its points.")
class AccountActivity:
    """An entry, and the account's movements."""

    entry: Entry = field("The entry, as far as this session may see it.")
    movements: list[Movement] = field(
        "Changes of the account's points, by asset; to a merchant that follows another's account, in its own assets."
    )

    @property
    def seq(self) -> int:
        """The entry's sequence number."""
        return self.entry.seq


class _Activity:
    """The question of an account's activity. It counts the account's points along, from one page to the next."""

    def __init__(self, account: str, currencies: frozenset[str]) -> None:
        self._account = account
        self._currencies = currencies
        self._points: dict[str, int] | None = None

    def __call__(self, store: Store, connection: Snapshot, viewer: Viewer, page: Page) -> Found[AccountActivity]:
        """A page of the account's activity."""
        sight = sight_of(store, connection, viewer, [self._account])
        account = queries.account(store, connection, self._account, viewer.time)
        if account is None and sight.everything:
            raise BadInputError("there is no such account")
        assets = visible_assets(store, connection, sight, account) if account is not None else ()
        if assets == ():
            raise ForbiddenError("this session may follow its own account, its members' and its assets' holders'")
        if self._points is None:
            self._points = queries.points_after(store, connection, self._account, page.after)
        found = queries.entries(store, connection, EntryFilter(account=self._account), sight, page)
        told = [
            AccountActivity(
                entry=entry_of(stored, sight),
                movements=self._moved(decode_entry(stored.data).postings, assets, self._points),
            )
            for stored in found
        ]
        return Found(told, frozenset({self._account}))

    def _moved(
        self, postings: tuple[Posting, ...], assets: tuple[str, ...] | None, points: dict[str, int]
    ) -> list[Movement]:
        """What postings change of the account's points of some assets, or of all; the points are counted along."""
        amounts: dict[str, int] = {}
        for leg in postings:
            if leg.account != self._account or leg.asset in self._currencies:
                continue
            if assets is None or leg.asset in assets:
                amounts[leg.asset] = amounts.get(leg.asset, 0) + leg.amount
        movements = []
        for asset, amount in amounts.items():
            balance = points[asset] = points.get(asset, 0) + amount
            movements.append(Movement(asset=asset, amount=Points(amount), balance=Points(balance)))
        return movements


@strawberry.type(description="What is told as it is recorded: each entry once, in order, from any sequence number on.")
class Subscription:
    """The root of subscriptions."""

    @streamed("Entries as they are recorded, as far as this session may see them: what the query `entries` would list.")
    async def entry_recorded(
        self,
        info: ApiInfo,
        filter: Annotated[EntryFilterInput | None, argument("Which entries.")] = None,
        after: After = None,
    ) -> AsyncGenerator[Entry, None]:
        """Entries."""
        wanted = entry_filter(filter)

        def question(store: Store, connection: Snapshot, viewer: Viewer, page: Page) -> Found[Entry]:
            sight = sight_of(store, connection, viewer, [wanted.account] if wanted.account is not None else [])
            found = queries.entries(store, connection, wanted, sight, page)
            return Found([entry_of(stored, sight) for stored in found], interests_of(wanted, sight))

        return await follow(info.context, after, question)

    @streamed(
        "What concerns an account, with its points after each entry: its own, to a merchant also that of a member "
        "in its custody or a holder of its assets, any to auditors and the operator. FORBIDDEN otherwise."
    )
    async def account_activity(
        self,
        info: ApiInfo,
        account: Annotated[strawberry.ID | None, argument("Whose; the session's own when left out.")] = None,
        after: After = None,
    ) -> AsyncGenerator[AccountActivity, None]:
        """Activity of an account."""
        if account is not None:
            require_account_id(account)
        whose = cast(str, account) or require_session(info.context.viewer).account
        currencies = frozenset(each.code for each in info.context.service.genesis.currencies)
        return await follow(info.context, after, _Activity(whose, currencies))
