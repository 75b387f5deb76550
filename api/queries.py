"""Queries: what can be read, by whom.

Every resolver reads a snapshot of its own in a reader's thread, because sibling fields are resolved concurrently.
Public: the ledger, its checkpoint, assets with their supply, programs. Everything else asks for a session; see
:mod:`api.access` for who sees what and how a refusal is told.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, cast

import strawberry
from sqlalchemy.engine import Connection as Snapshot
from strawberry import UNSET

from api.access import (
    may_see_entry,
    parties,
    require_points_of,
    require_session,
    sees_recovery,
    sight_of,
    visible_assets,
)
from api.accounting import AccountingQueries
from api.context import Context, Service
from api.due import DueQueries
from api.errors import BadInputError, ForbiddenError
from api.explanations import EVENT_SHAPE, Earning, cut, explained_page
from api.fields import ApiInfo, Node, argument, field, resolved
from api.ids import (
    ACCOUNT_ID,
    ASSET_CODE,
    ASSET_ID,
    ENTRY_ID,
    PROGRAM_ID,
    VOUCHER_ID,
    require_account_id,
    require_asset_code,
)
from api.input_parts import AccountRole
from api.inputs import OperationPreviewInput, Unsigned, as_given, unsigned_document
from api.insight import InsightQueries
from api.paging import After, Before, Connection, First, Last, Window
from api.partners import PartnerQueries, partner_node
from api.profiles import ProfileQueries
from api.program_simulation import SimulationQueries
from api.programs import ProgramQueries, voucher_seen
from api.proofs import RECEIPT, ConsistencyProof, InclusionProof, consistency_proof, inclusion_proof, receipt_of
from api.rejections import UserError, user_error
from api.scalars import Date, Hash, MinorUnits, Points, Time, UInt53
from api.sessions import Viewer
from api.types import (
    Account,
    Asset,
    Checkpoint,
    Entry,
    Ledger,
    OperationKind,
    Posting,
    Program,
    Witnessing,
    account_of,
    asset_of,
    checkpoint_of,
    entry_of,
    ledger_of,
    program_of,
    witnessing_of,
)
from api.webhooks import WebhookQueries, webhook_node
from ledger import queries
from ledger.checkpoint import WitnessPolicy
from ledger.cosignatures import read_cosignatures
from ledger.encoding import EncodingError, encode_base64url, encode_canonical, format_time
from ledger.entries import Entry as RecordedEntry
from ledger.entries import decode_entry
from ledger.operations import AnyOperation, FormPool, Refund, operation_id, signed_message
from ledger.program_queries import GIVING_KINDS, Event
from ledger.queries import EntryFilter, EntryKey, Page, Sight, StatementKey
from ledger.sequencer import Preview, read_unsigned
from ledger.state import Account as StoredAccount
from ledger.state import Code, Rejection
from ledger.store import Store

MAX_NODES = 100


@strawberry.input(description="Which entry: exactly one of the ways to name it.", one_of=True)
class EntryBy:
    """A way to name an entry."""

    seq: UInt53 | None = strawberry.field(description="By its sequence number.", default=UNSET)
    hash: Hash | None = strawberry.field(description="By its leaf hash.", default=UNSET)
    operation_id: Hash | None = strawberry.field(description="By the id of its operation.", default=UNSET)


@strawberry.input(description="Which version of a program: exactly one of the ways to name it.", one_of=True)
class ProgramBy:
    """A way to name a program version."""

    version: int | None = strawberry.field(description="By its number.", default=UNSET)
    at: Time | None = strawberry.field(description="The one in force at a time.", default=UNSET)


@strawberry.input(description="Which entries; all conditions that are given must hold.")
class EntryFilterInput:
    """A filter of entries."""

    account: strawberry.ID | None = strawberry.field(
        description=(
            "Entries that touch this account, as far as this session is told that they do: a posting, a purchase that "
            "earned nothing, its own act, its opening, its recovery, what it is a party of (an agreement, a hold, a "
            "dispute)."
        ),
        default=UNSET,
    )
    asset: str | None = strawberry.field(
        description=(
            "Entries with a posting in this asset, or that define it or publish its program; of an account also "
            "purchases that earned it nothing."
        ),
        default=UNSET,
    )
    kind: OperationKind | None = strawberry.field(description="Entries of this kind.", default=UNSET)


@strawberry.type(description="A challenge to sign. It is good for 2 minutes and for one account.")
class SessionChallenge:
    """A challenge."""

    challenge: str = field("The challenge, to be given back to `sessionOpen`.")
    message: str = field('The exact bytes to sign, in base64url: `"guerdon session v1\\n"` and the challenge.')
    expires_at: Time = field("Until when it can be answered.")


@strawberry.type(description="What an operation would do if it were recorded now. Nothing is recorded or reserved.")
class OperationPreview:
    """A preview."""

    document: str | None = field("The canonical bytes of the document, as text; null when it is malformed.")
    message: str | None = field('The exact bytes to sign, in base64url: `"guerdon operation v1\\n"` and the document.')
    operation_id: Hash | None = field("The id the operation would have.")
    postings: list[Posting] | None = field(
        "What it would move, nothing when it is recorded already; legs with a negative amount are the lots it uses. "
        "Null when this session is not told."
    )
    balance: Points | None = field(
        "Points of the asset the actor would have left, where the actor spends; null when it is recorded already."
    )
    replayed: bool = field(
        "Whether it is recorded already: submitted again, it would be answered with its entry and move nothing. False "
        "when this session is not told."
    )
    seq: UInt53 | None = field("Sequence number of the entry that records it, when it is recorded already.")
    user_errors: list[UserError] = field(
        "The first reason for which it would be refused, signatures aside; when this session is not told more, only "
        "whether it is well formed."
    )


@strawberry.type(description="A movement of a statement, and the balance after it.")
class StatementLine:
    """A line of a statement."""

    entry_id: strawberry.ID = field("The entry it belongs to.")
    leg: int = field("Which of the entry's postings it is, from 0.")
    time: Time = field("When it was recorded.")
    at: Time = field("When it happened.")
    kind: OperationKind = field("What the operation did.")
    amount: Points = field("Points in (positive) or out (negative).")
    last_day: Date | None = field("The last day these points can be used; null when they never expire.")
    balance: Points = field("All points after this line.")
    account: strawberry.Private[str]

    @resolved(
        "The purchases, activities and invitations for which the entry gave the account points, with why each gave so "
        "many; none where the line takes points away. Lines of one entry have the same."
    )
    async def earnings(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Earning]:
        """A page of what is behind the line."""
        names = [self.entry_id, self.account]
        window = Window("lineEarnings", names, EVENT_SHAPE, first=first, after=after, last=last, before=before)
        events: list[Event] = []
        if self.amount > 0 and cast(str, self.kind) in GIVING_KINDS:
            seq = int(self.entry_id.removeprefix("ent_"))
            events = await info.context.loaders.events_behind.load((seq, self.account))
        return await explained_page(info.context, window, cut(events, window.page))


@strawberry.type(description="An account's points of one asset over a span of recording time.")
class Statement(Connection[StatementLine]):
    """A statement: a connection of lines, with the balances around them."""

    opening_balance: Points = field("All points before the span.")
    closing_balance: Points = field("All points at the end of the span.")


_AMOUNT = (
    "What the purchases came to, in minor units. Null, with the error VALUE_OUT_OF_RANGE, when that is beyond 2^53-1."
)


@strawberry.type(description="What a member earned in a month, by purchases and grants.")
class MonthPoints:
    """Points of a member in a month; the core's record stands for it."""

    account: strawberry.ID = strawberry.field(name="accountId", description="The member.")
    month: str = field("The month, `YYYY-MM`, in the program's time zone.")
    points: Points = field("Points earned.")
    purchases: UInt53 = field("Purchases among the events.")
    amount: MinorUnits | None = field(_AMOUNT)


@strawberry.type(description="What members earned in a month, or in all, by purchases and grants.")
class EarningTotal:
    """Points of all members, or of one; the core's record stands for it."""

    points: Points = field("Points earned.")
    purchases: UInt53 = field("Purchases among the events.")
    members: UInt53 = field("Members with at least one event.")
    amount: MinorUnits | None = field(_AMOUNT)


@strawberry.type(description="What members earned in one month.")
class MonthTotal(EarningTotal):
    """Points of all members, or of one, in a month."""

    month: str = field("The month, `YYYY-MM`, in the program's time zone.")


@strawberry.type(description="What all members, or one, earned of an asset.")
class PointsTotals:
    """Totals of an asset."""

    total: EarningTotal = field("Over all months.")
    months: list[MonthTotal] = field("By month, the earliest first.")


@strawberry.type(description="Everything that can be read.")
class Query(
    AccountingQueries,
    DueQueries,
    InsightQueries,
    PartnerQueries,
    ProfileQueries,
    ProgramQueries,
    SimulationQueries,
    WebhookQueries,
):
    """The root of queries."""

    @resolved("The ledger. Public.")
    async def ledger(self, info: ApiInfo) -> Ledger:
        """The ledger."""
        return await ledger_now(info.context)

    @resolved("The newest checkpoint, witnessed or not. Public.")
    async def checkpoint(self, info: ApiInfo) -> Checkpoint:
        """The checkpoint."""
        return await info.context.read(_newest_checkpoint, info.context.service.policy)

    @resolved("Who watches that this ledger only grows, and how far they are. Public.")
    async def witnessing(self, info: ApiInfo) -> Witnessing:
        """The witnesses."""
        return witnessing_of(await info.context.read(read_cosignatures, info.context.service.policy))

    @resolved("The asset with a code; null when there is none. Public.")
    async def asset(self, info: ApiInfo, code: Annotated[str, argument("Its code.")]) -> Asset | None:
        """One asset."""
        return await info.context.read(_asset, code) if ASSET_CODE.fullmatch(code) else None

    @resolved("All assets, by code. Public.")
    async def assets(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Asset]:
        """A page of assets."""
        window = Window("assets", [], (str,), first=first, after=after, last=last, before=before)
        found = await info.context.read(queries.assets_page, window.page)
        return window.connection([asset.code for asset in found], [asset_of(asset) for asset in found])

    @resolved("A version of an asset's program; null when there is none. Public.")
    async def program(
        self,
        info: ApiInfo,
        asset: Annotated[str, argument("The asset's code.")],
        by: Annotated[ProgramBy, argument("Which version.")],
    ) -> Program | None:
        """One program version."""
        if not ASSET_CODE.fullmatch(asset):
            return None
        if by.version is not UNSET and by.version is not None:
            return await info.context.read(_program, asset, by.version)
        found = await info.context.read(queries.program_at, asset, cast(str, by.at))
        return program_of(found) if found is not None else None

    @resolved("The account that is signed in; null without a session.")
    async def viewer(self, info: ApiInfo) -> Account | None:
        """The session's account."""
        viewer = info.context.viewer
        return await info.context.read(_account, viewer, viewer.account) if viewer is not None else None

    @resolved(
        "The account with an id; null when there is none or this session may not see it. A merchant sees "
        "whoever held its assets."
    )
    async def account(self, info: ApiInfo, id: Annotated[strawberry.ID, argument("Its id.")]) -> Account | None:
        """One account."""
        viewer = require_session(info.context.viewer)
        return await info.context.read(_account, viewer, id) if ACCOUNT_ID.fullmatch(id) else None

    @resolved(
        "Accounts in the order they were opened: all for auditors and the operator, to a merchant those "
        "that held its assets or that it has in custody. FORBIDDEN for others."
    )
    async def accounts(
        self,
        info: ApiInfo,
        *,
        role: Annotated[AccountRole | None, argument("Only accounts of this role.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Account]:
        """A page of accounts."""
        viewer = require_session(info.context.viewer)
        wanted = cast(str, role.value) if role is not None else None
        window = Window("accounts", [wanted], (int,), first=first, after=after, last=last, before=before)
        found = await info.context.read(_accounts, viewer, wanted, window.page)
        return window.connection([seq for seq, _ in found], [account for _, account in found])

    @resolved(
        "The entry with a sequence number, leaf hash or operation id; null when there is none or this "
        "session may not see it."
    )
    async def entry(self, info: ApiInfo, by: Annotated[EntryBy, argument("Which entry.")]) -> Entry | None:
        """One entry."""
        viewer = require_session(info.context.viewer)
        return await info.context.read(_entry, viewer, _entry_key(by))

    @resolved(RECEIPT + " Null when there is no such entry or this session may not see the whole of it.")
    async def receipt(
        self, info: ApiInfo, seq: Annotated[UInt53, argument("The entry's sequence number.")]
    ) -> str | None:
        """The receipt of an entry."""
        viewer = require_session(info.context.viewer)
        return await receipt_of(info.context, await info.context.read(_entry, viewer, EntryKey(seq=seq)))

    @resolved("The proof that an entry is in the ledger as it was at a size. Public.")
    async def inclusion_proof(
        self,
        info: ApiInfo,
        seq: Annotated[UInt53, argument("The entry's sequence number.")],
        size: Annotated[
            UInt53 | None, argument("How many entries the ledger had; as many as now when left out.")
        ] = None,
    ) -> InclusionProof:
        """An inclusion proof."""
        return await info.context.read(inclusion_proof, seq, size)

    @resolved("The proof that the ledger at one size begins with the ledger at a smaller one. Public.")
    async def consistency_proof(
        self,
        info: ApiInfo,
        from_size: Annotated[UInt53, argument("How many entries it had before.")],
        to_size: Annotated[UInt53 | None, argument("How many it had after; as many as now when left out.")] = None,
    ) -> ConsistencyProof:
        """A consistency proof."""
        return await info.context.read(consistency_proof, from_size, to_size)

    @resolved(
        "Entries in the order recorded, as far as this session may see them: its own account's, a "
        "merchant's also those of its assets and, when the filter names one, of a member in its custody, all for "
        "auditors and the operator."
    )
    async def entries(
        self,
        info: ApiInfo,
        *,
        filter: Annotated[EntryFilterInput | None, argument("Which entries.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Entry]:
        """A page of entries."""
        viewer = require_session(info.context.viewer)
        wanted = entry_filter(filter)
        names = [wanted.account, wanted.asset, wanted.kind]
        window = Window("entries", names, (int,), first=first, after=after, last=last, before=before)
        found = await info.context.read(_entries, viewer, wanted, window.page)
        return window.connection([entry.seq for entry in found], found)

    @resolved(
        "An account's statement in one asset: its own, its asset's holders' for the issuer, its members' for their "
        "custodian, any for auditors and the operator. FORBIDDEN otherwise."
    )
    async def statement(
        self,
        info: ApiInfo,
        *,
        account: Annotated[strawberry.ID, argument("Whose.")],
        asset: Annotated[str, argument("The asset's code.")],
        from_: Annotated[
            Time | None, strawberry.argument(name="from", description="Recorded at this time or later.")
        ] = None,
        to: Annotated[Time | None, argument("Recorded before this time.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Statement:
        """A statement."""
        viewer = require_session(info.context.viewer)
        require_account_id(account)
        require_asset_code(asset)
        if from_ is not None and to is not None and to < from_:
            raise BadInputError("to lies before from")
        window = Window(
            "statement", [account, asset, from_, to], (int, int), first=first, after=after, last=last, before=before
        )
        wanted = StatementKey(account=account, asset=asset, start=from_, end=to)
        found = await info.context.read(_statement, viewer, wanted, window.page)
        page = window.connection(
            [(line.seq, line.leg) for line in found.lines], [_statement_line(line, account) for line in found.lines]
        )
        return Statement(
            edges=page.edges,
            nodes=page.nodes,
            page_info=page.page_info,
            opening_balance=Points(found.opening),
            closing_balance=Points(found.closing),
        )

    @resolved(
        "Points earned per member and month, by account and month: a member's own, its members' for the "
        "asset's issuer and for their custodian, all for auditors and the operator. FORBIDDEN otherwise."
    )
    async def points_by_month(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str, argument("The asset's code.")],
        account: Annotated[strawberry.ID | None, argument("Only this member; a member's own when left out.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[MonthPoints]:
        """A page of points by member and month."""
        viewer = require_session(info.context.viewer)
        _require_earnings(asset, account)
        window = Window(
            "pointsByMonth", [asset, account], (str, str), first=first, after=after, last=last, before=before
        )
        found = await info.context.read(_points_by_month, viewer, window.page, asset=asset, account=account)
        return window.connection([(row.account, row.month) for row in found], cast("list[MonthPoints]", found))

    @resolved(
        "Points earned of an asset, by month and in total, by all members or by one: a member's own, its members' "
        "for the asset's issuer and for their custodian, all for auditors and the operator. FORBIDDEN otherwise."
    )
    async def points_totals(
        self,
        info: ApiInfo,
        asset: Annotated[str, argument("The asset's code.")],
        account: Annotated[strawberry.ID | None, argument("Only this member; a member's own when left out.")] = None,
    ) -> PointsTotals:
        """Totals of an asset."""
        viewer = require_session(info.context.viewer)
        _require_earnings(asset, account)
        total, months = await info.context.read(_points_totals, viewer, asset=asset, account=account)
        return PointsTotals(total=cast(EarningTotal, total), months=cast("list[MonthTotal]", months))

    @resolved(
        "Whatever has an id (account, entry, asset, program version, agreement version, hold, claim, voucher, webhook, "
        "delivery); null when there is nothing or this session may not see it."
    )
    async def node(self, info: ApiInfo, id: Annotated[strawberry.ID, argument("Its id.")]) -> Node | None:
        """One node."""
        return await info.context.read(_node, info.context.viewer, id)

    @resolved("Whatever has these ids, at most 100, in their order; null as for `node`.")
    async def nodes(
        self, info: ApiInfo, ids: Annotated[list[strawberry.ID], argument("Their ids.")]
    ) -> list[Node | None]:
        """Several nodes, read from one snapshot."""
        if len(ids) > MAX_NODES:
            raise BadInputError(f"at most {MAX_NODES} ids")
        return await info.context.read(_nodes, info.context.viewer, ids)

    @resolved("What to sign to open a session for an account. The answer is the same whether or not it exists.")
    def session_challenge(
        self, info: ApiInfo, account: Annotated[strawberry.ID, argument("The account to sign in as.")]
    ) -> SessionChallenge:
        """A challenge."""
        require_account_id(account)
        service = info.context.service
        challenge = service.sessions.challenge(account, service.clock())
        return SessionChallenge(
            challenge=challenge.text,
            message=encode_base64url(challenge.message),
            expires_at=Time(format_time(challenge.expires_at_ms)),
        )

    @resolved(
        "What an operation would do now, and the bytes to sign for it. Needs no session for the bytes; what "
        "it would move is told only to a session of the actor or its custodian, of the asset's issuer, an auditor or "
        "the operator."
    )
    async def operation_preview(
        self, info: ApiInfo, input: Annotated[OperationPreviewInput, argument("The operation.")]
    ) -> OperationPreview:
        """A preview."""
        return await _preview(info.context, input)


async def ledger_now(context: Context) -> Ledger:
    """The ledger as it is now."""
    return await context.read(_ledger, context.service)


def _ledger(store: Store, connection: Snapshot, service: Service) -> Ledger:
    head, log_keys = store.head(connection), store.log_keys(connection)
    checkpoint = _newest_checkpoint(store, connection, service.policy)
    return ledger_of(head, service.genesis, service.operator, log_keys, checkpoint)


def _newest_checkpoint(store: Store, connection: Snapshot, policy: WitnessPolicy) -> Checkpoint:
    said = read_cosignatures(store, connection, policy)
    return checkpoint_of(said.on(store.head(connection).checkpoint), policy)


def _asset(store: Store, connection: Snapshot, code: str) -> Asset | None:
    found = queries.asset(store, connection, code)
    return asset_of(found) if found is not None else None


def _program(store: Store, connection: Snapshot, code: str, version: int) -> Program | None:
    found = queries.program(store, connection, code, version)
    return program_of(found) if found is not None else None


def _account(store: Store, connection: Snapshot, viewer: Viewer, account_id: str) -> Account | None:
    found = queries.account(store, connection, account_id, viewer.time)
    if found is None:
        return None
    sight = sight_of(store, connection, viewer)
    visible = visible_assets(store, connection, sight, found)
    return account_of(found, visible, with_recovery=sees_recovery(sight, found)) if visible != () else None


def _accounts(
    store: Store, connection: Snapshot, viewer: Viewer, role: str | None, page: Page
) -> list[tuple[int, Account]]:
    sight = sight_of(store, connection, viewer)
    if not sight.everything and viewer.role != "merchant":
        raise ForbiddenError("accounts are listed for merchants, auditors and the operator")
    found = queries.accounts(store, connection, sight, role, page, time=viewer.time)
    return [(account.seq, _listed(sight, account)) for account in found]


def _listed(sight: Sight, account: StoredAccount) -> Account:
    everything = sees_recovery(sight, account)
    return account_of(account, None if everything else sight.assets, with_recovery=everything)


def _entry(
    store: Store,
    connection: Snapshot,
    viewer: Viewer,
    key: EntryKey,
) -> Entry | None:
    stored = queries.entry_by(store, connection, key)
    if stored is None:
        return None
    recorded = decode_entry(stored.data)
    own = queries.account(store, connection, viewer.account, viewer.time)
    opened_seq = own.seq if own is not None else None
    sight = sight_of(store, connection, viewer, _accounts_of(recorded, stored.concerned))
    return entry_of(stored, sight) if may_see_entry(sight, recorded, opened_seq, stored.concerned) else None


def _accounts_of(entry: RecordedEntry, concerned: Sequence[str]) -> set[str]:
    actor = getattr(entry.op, "actor", None)
    return parties(entry, concerned) | ({actor} if actor is not None else set())


def _entry_key(by: EntryBy) -> EntryKey:
    if by.seq is not UNSET:
        return EntryKey(seq=by.seq)
    if by.hash is not UNSET:
        return EntryKey(leaf_hash=bytes.fromhex(cast(str, by.hash)))
    return EntryKey(op_id=bytes.fromhex(cast(str, by.operation_id)))


def _entries(store: Store, connection: Snapshot, viewer: Viewer, wanted: EntryFilter, page: Page) -> list[Entry]:
    sight = sight_of(store, connection, viewer, [wanted.account] if wanted.account is not None else [])
    return [entry_of(stored, sight) for stored in queries.entries(store, connection, wanted, sight, page)]


def entry_filter(given: EntryFilterInput | None) -> EntryFilter:
    """The filter that a client gives; raise :class:`BadInputError` for one that cannot be."""
    if given is None:
        return EntryFilter()
    if given.account:
        require_account_id(given.account)
    if given.asset:
        require_asset_code(given.asset)
    return EntryFilter(
        account=given.account or None,
        asset=given.asset or None,
        kind=cast(str, given.kind.value) if given.kind else None,
    )


def _statement(
    store: Store,
    connection: Snapshot,
    viewer: Viewer,
    wanted: StatementKey,
    page: Page,
) -> queries.Statement:
    require_points_of(sight_of(store, connection, viewer, [wanted.account]), wanted.asset, wanted.account)
    return queries.statement(store, connection, wanted, page)


def _statement_line(line: queries.StatementLine, account: str) -> StatementLine:
    return StatementLine(
        entry_id=strawberry.ID(f"ent_{line.seq}"),
        leg=line.leg,
        time=Time(line.time),
        at=Time(line.at),
        kind=cast(OperationKind, line.kind),
        amount=Points(line.amount),
        last_day=Date(line.last_day) if line.last_day is not None else None,
        balance=Points(line.balance),
        account=account,
    )


def _points_by_month(
    store: Store, connection: Snapshot, viewer: Viewer, page: Page, *, asset: str, account: str | None
) -> list[queries.MonthPoints]:
    account = _whose_earnings(store, connection, viewer, asset, account)
    return queries.points_by_month(store, connection, asset, account, page)


def _points_totals(
    store: Store, connection: Snapshot, viewer: Viewer, *, asset: str, account: str | None
) -> tuple[queries.MonthTotal, list[queries.MonthTotal]]:
    account = _whose_earnings(store, connection, viewer, asset, account)
    return queries.points_totals(store, connection, asset, account)


def _require_earnings(asset: str, account: str | None) -> None:
    require_asset_code(asset)
    if account is not None:
        require_account_id(account)


def _whose_earnings(store: Store, connection: Snapshot, viewer: Viewer, asset: str, account: str | None) -> str | None:
    """Whose earnings a reader is told who asked for an account's or for all (``None``): a member's own, at most."""
    if account is None and viewer.role == "member":
        account = viewer.account
    sight = sight_of(store, connection, viewer, [account] if account is not None else [])
    require_points_of(sight, asset, account)
    return account


def _node(store: Store, connection: Snapshot, viewer: Viewer | None, node_id: str) -> Node | None:
    if match := ASSET_ID.fullmatch(node_id):
        return _asset(store, connection, match[1])
    if match := PROGRAM_ID.fullmatch(node_id):
        return _program(store, connection, match[1], int(match[2]))
    if viewer is None:
        return partner_node(store, connection, None, node_id)
    if match := ENTRY_ID.fullmatch(node_id):
        return _entry(store, connection, viewer, EntryKey(seq=int(match[1])))
    if ACCOUNT_ID.fullmatch(node_id):
        return _account(store, connection, viewer, node_id)
    if match := VOUCHER_ID.fullmatch(node_id):
        return voucher_seen(store, connection, viewer, int(match[1]), int(match[2]))
    found = partner_node(store, connection, viewer, node_id)
    return found if found is not None else webhook_node(store, connection, viewer, node_id)


def _nodes(store: Store, connection: Snapshot, viewer: Viewer | None, ids: list[strawberry.ID]) -> list[Node | None]:
    return [_node(store, connection, viewer, node_id) for node_id in ids]


async def _preview(context: Context, given: OperationPreviewInput) -> OperationPreview:
    service = context.service
    chosen = next(value for value in vars(given).values() if value is not UNSET)
    fields = chosen if isinstance(chosen, Unsigned) else None
    try:
        op_bytes = chosen.encode() if fields is None else _op_bytes(service, fields)
    except EncodingError as error:
        return _no_preview(Rejection(Code.MALFORMED, str(error)), fields)
    op = read_unsigned(op_bytes)
    if isinstance(op, Rejection):
        return _no_preview(op, fields)
    preview = None
    if await _may_preview(context, op):
        loop = asyncio.get_running_loop()
        preview = await loop.run_in_executor(service.readers, service.sequencer.preview, op_bytes)
    return _preview_of(op_bytes, preview, fields)


def _op_bytes(service: Service, fields: Unsigned) -> bytes:
    """The canonical bytes of what is to be previewed."""
    return encode_canonical(unsigned_document(fields, service.store.origin, service.clock(), service.random_bytes))


async def _may_preview(context: Context, op: AnyOperation) -> bool:
    """Whether this session may learn what an operation would move: it tells the actor's balance."""
    actor, asset = getattr(op, "actor", None), getattr(op, "asset", None)
    if actor is None:
        return True
    if context.viewer is None:
        return False
    # Whether somebody else is in a pool is told to who signs with it, and a preview asks for no signatures.
    asked = [actor, *(op.members if isinstance(op, FormPool) else ())]
    sight = await context.read(sight_of, context.viewer, asked)
    if len(asked) > 1 and not sight.everything and asset not in sight.assets:
        return set(asked) <= set(sight.accounts)
    # A refund takes back what an exchange gave, so it tells a balance in an asset that it does not name.
    return sight.everything or actor in sight.accounts or (asset in sight.assets and not isinstance(op, Refund))


def _error(refusal: Rejection, fields: Unsigned | None) -> UserError:
    if fields is None:
        return user_error(refusal)
    return user_error(as_given(refusal, fields), inside=("input",), camel=True)


def _no_preview(refusal: Rejection, fields: Unsigned | None) -> OperationPreview:
    return OperationPreview(
        document=None,
        message=None,
        operation_id=None,
        postings=None,
        balance=None,
        replayed=False,
        seq=None,
        user_errors=[_error(refusal, fields)],
    )


def _preview_of(op_bytes: bytes, preview: Preview | Rejection | None, fields: Unsigned | None) -> OperationPreview:
    if isinstance(preview, Rejection):
        return _no_preview(preview, fields)
    refusal = preview.rejection if preview is not None else None
    return OperationPreview(
        document=op_bytes.decode(),
        message=encode_base64url(signed_message(op_bytes)),
        operation_id=Hash(operation_id(op_bytes).hex()),
        postings=cast("list[Posting]", preview.postings) if preview is not None else None,
        balance=Points(preview.balance) if preview is not None and preview.balance is not None else None,
        replayed=preview is not None and preview.seq is not None,
        seq=UInt53(preview.seq) if preview is not None and preview.seq is not None else None,
        user_errors=[_error(refusal, fields)] if refusal else [],
    )
