"""Partner merchants in GraphQL: what can be asked about agreements, exchanges, holds, refunds, claims and allotments.

Agreements and what points become by them are public, but for what merchants owe each other. Everything else asks for a
session: holds and refunds are for the holder, the merchants and the issuer to see, claims for debtor and creditor.
The root of queries takes its fields from :class:`PartnerQueries`.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, cast

import strawberry
from sqlalchemy.engine import Connection as Snapshot
from strawberry import UNSET

from api.access import is_concerned, require_money_of, require_session, sight_of
from api.context import Context
from api.errors import BadInputError, ForbiddenError
from api.fields import ApiInfo, Node, argument, resolved
from api.holds import Hold, HoldStatus, hold_of, holds_seen
from api.ids import (
    AGREEMENT_ID,
    AGREEMENT_NAME,
    CLAIM_ID,
    HOLD_ID,
    require_account_id,
    require_asset_code,
    require_currency,
)
from api.paging import DEFAULT_PAGE, MAX_PAGE, After, Before, Connection, First, Last, Window
from api.partner_types import (
    Agreement,
    AgreementType,
    Allotment,
    Claim,
    ClaimStatus,
    ExchangePaths,
    ExchangeQuote,
    Netting,
    NettingPosition,
    NettingProposal,
    Obligation,
    Refundable,
    agreement_of,
    allotment_of,
    claim_of,
    lots_used,
    netting_of,
    obligation_of,
    path_of,
    payment_of,
    purchase_left,
    quote_of,
    spending_left,
    takes_part,
)
from api.scalars import Date, Hash, MinorUnits, Points, Time
from api.sessions import Viewer
from ledger import clearing, partner_queries, state
from ledger.agreements import MAX_HOPS, Paths, Quote, best_paths, exchange_name, quote
from ledger.encoding import encode_base64url, encode_canonical, format_time
from ledger.operations import Exchange
from ledger.partner_queries import AgreementFilter, ClaimFilter, HoldFilter, ObligationFilter
from ledger.queries import Page, Sight
from ledger.sequencer import Preview
from ledger.state import Rejection
from ledger.store import Store
from ledger.terms import ROLE_PREFIXES

MAX_NETTED = 100
"""Merchants of one netting."""

_DEFAULT_HOPS = 4
_HOLDER_PREFIXES = tuple(ROLE_PREFIXES[role] for role in ("member", "merchant", "beneficiary"))
_CLEARED_PREFIXES = tuple(ROLE_PREFIXES[role] for role in ("merchant", "beneficiary"))


@strawberry.input(description="Which original: exactly one of the ways to name it.", one_of=True)
class RefundableBy:
    """A way to name an original."""

    order: str | None = strawberry.field(
        description="A purchase, by the order under which the merchant recorded it.", default=UNSET
    )
    operation_id: Hash | None = strawberry.field(
        description="A redemption, capture or exchange, by the id of its operation.", default=UNSET
    )


@strawberry.type
class PartnerQueries:
    """Queries about what partner merchants have with each other."""

    @resolved(
        "Versions of agreements, by name and version. Public, but for what the merchants owe each other: see "
        "`AgreementTerms`."
    )
    async def agreements(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only those about points of this asset.")] = None,
        into: Annotated[str | None, argument("Only exchanges into this asset.")] = None,
        partner: Annotated[strawberry.ID | None, argument("Only those with this partner.")] = None,
        party: Annotated[
            strawberry.ID | None, argument("Only those of this merchant, as the asset's issuer or as the partner.")
        ] = None,
        type: Annotated[AgreementType | None, argument("Only those of this type.")] = None,
        at: Annotated[Time | None, argument("Only the versions in force at this time.")] = None,
        active_only: Annotated[bool, argument("Only the versions in force now.")] = False,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Agreement]:
        """A page of agreements."""
        for code in (asset, into):
            if code is not None:
                require_asset_code(code)
        for account in (partner, party):
            if account is not None:
                require_account_id(account)
        if at is not None and active_only:
            raise BadInputError("give at or activeOnly, not both")
        kind = cast("str | None", type.value if type is not None else None)
        names = [asset, into, partner, party, kind, at, active_only]
        window = Window("agreements", names, (str, int), first=first, after=after, last=last, before=before)
        wanted = AgreementFilter(
            asset=asset,
            into=into,
            partner=partner,
            party=party,
            type=kind,
            in_force_at=info.context.now() if active_only else at,
        )
        found = await info.context.read(partner_queries.agreements_page, wanted, window.page)
        keys = [(each.agreement, each.version) for each in found]
        return window.connection(keys, [_agreement_of(info.context.viewer, each) for each in found])

    @resolved("A version of an agreement; null when there is none. Public, as `agreements` are.")
    async def agreement(
        self,
        info: ApiInfo,
        name: Annotated[str, argument("The agreement's name: `STAR>BEAN`, `STAR@mer_…`, `STAR+mer_…`.")],
        version: Annotated[int | None, argument("Which version; the one in force now when left out.")] = None,
    ) -> Agreement | None:
        """One version of an agreement."""
        if not AGREEMENT_NAME.fullmatch(name):
            return None
        if version is not None:
            return await info.context.read(_agreement, info.context.viewer, name, version)
        found = await info.context.loaders.agreement_in_force.load(name)
        return _agreement_of(info.context.viewer, found) if found is not None else None

    @resolved(
        "What points can become by the agreements in force, by one exchange or several in turn, each reckoned exactly "
        "for the amount. Public."
    )
    async def exchange_paths(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str, argument("The asset given.")],
        into: Annotated[
            str | None,
            argument("The asset wanted, with all ways to it. When left out, the best way to every asset there is."),
        ] = None,
        amount: Annotated[Points, argument("Points offered, at least 1.")],
        max_hops: Annotated[int, argument(f"The most exchanges of a path, 1 to {MAX_HOPS}.")] = _DEFAULT_HOPS,
        first: Annotated[int, argument(f"How many paths, 1 to {MAX_PAGE}.")] = DEFAULT_PAGE,
    ) -> ExchangePaths:
        """Paths of exchanges."""
        for code in (asset, into):
            if code is not None:
                require_asset_code(code)
        _require_amount(amount)
        if not 1 <= max_hops <= MAX_HOPS:
            raise BadInputError(f"maxHops is from 1 to {MAX_HOPS}")
        if not 1 <= first <= MAX_PAGE:
            raise BadInputError(f"first is from 1 to {MAX_PAGE}")
        found = await info.context.read(
            _paths, info.context.now(), asset=asset, into=into, amount=amount, max_hops=max_hops
        )
        paths = (
            found.paths if into is not None else tuple({path.into: path for path in found.paths[::-1]}.values())[::-1]
        )
        return ExchangePaths(
            paths=[path_of(path) for path in paths[:first]], complete=found.complete and len(paths) <= first
        )

    @resolved(
        "What an exchange would come to now, and what to sign for it. Public by the terms alone; with a session also "
        "by what the account has: its own, its member's for a custodian, any for auditors and the operator. FORBIDDEN "
        "for another's."
    )
    async def exchange_quote(
        self,
        info: ApiInfo,
        *,
        account: Annotated[
            strawberry.ID | None, argument("Whose points; the session's own account when left out, if it holds points.")
        ] = None,
        asset: Annotated[str, argument("The asset given.")],
        into: Annotated[str, argument("The asset wanted.")],
        amount: Annotated[Points, argument("Points offered, at least 1.")],
    ) -> ExchangeQuote:
        """A quote."""
        require_asset_code(asset)
        require_asset_code(into)
        _require_amount(amount)
        holder = await _holder(info.context, account)
        quoted = await info.context.read(
            _quote, info.context.now(), asset=asset, into=into, amount=amount, holder=holder
        )
        if holder is None or quoted.refusal is not None:
            return quote_of(quoted, refusal=quoted.refusal, lots=None)
        preview = await _preview(info.context, quoted, holder)
        refusal = preview if isinstance(preview, Rejection) else preview.rejection
        legs = () if isinstance(preview, Rejection) else preview.postings
        return quote_of(quoted, refusal=refusal, lots=None if refusal is not None else lots_used(legs, holder, asset))

    @resolved(
        "Holds of an account or for a merchant, in the order they were placed, as far as this session may see them: "
        "its own, those of its members, for it as the merchant, in the assets it issues; all for auditors and the "
        "operator."
    )
    async def holds(
        self,
        info: ApiInfo,
        *,
        account: Annotated[
            strawberry.ID | None, argument("Whose points. A session's own account when neither is given.")
        ] = None,
        merchant: Annotated[
            strawberry.ID | None, argument("For which merchant. A merchant's own when neither is given.")
        ] = None,
        asset: Annotated[str | None, argument("Only points of this asset.")] = None,
        status: Annotated[HoldStatus | None, argument("Only holds that stand so now.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Hold]:
        """A page of holds."""
        viewer = require_session(info.context.viewer)
        for named in (account, merchant):
            if named is not None:
                require_account_id(named)
        if asset is not None:
            require_asset_code(asset)
        if account is None and merchant is None:
            account, merchant = _own_holds(viewer)
        state_now = cast("str | None", status.value if status is not None else None)
        names = [account, merchant, asset, state_now]
        window = Window("holds", names, (int,), first=first, after=after, last=last, before=before)
        wanted = HoldFilter(account=account, merchant=merchant, asset=asset, status=state_now)
        found = await info.context.read(holds_seen, viewer, wanted, window.page)
        return window.connection([each.seq for each in found], [hold_of(each) for each in found])

    @resolved("The hold with an id; null when there is none or this session may not see it.")
    async def hold(self, info: ApiInfo, id: Annotated[strawberry.ID, argument("Its id, `hld_…`.")]) -> Hold | None:
        """One hold."""
        viewer = require_session(info.context.viewer)
        return await info.context.read(_hold, viewer, id) if HOLD_ID.fullmatch(id) else None

    @resolved(
        "Claims in the order they arose: an account's own, its members' for a custodian, all for auditors and the "
        "operator. FORBIDDEN otherwise."
    )
    async def claims(
        self,
        info: ApiInfo,
        *,
        account: Annotated[
            strawberry.ID | None,
            argument(
                "Who owes or is owed. The session's own account when left out; all for auditors and the operator."
            ),
        ] = None,
        counterparty: Annotated[strawberry.ID | None, argument("Only claims between it and this account.")] = None,
        currency: Annotated[str | None, argument("Only claims in this currency.")] = None,
        status: Annotated[ClaimStatus | None, argument("Only claims that stand so.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Claim]:
        """A page of claims."""
        viewer = require_session(info.context.viewer)
        account, counterparty = await _whose(info.context, viewer, account, counterparty)
        if currency is not None:
            require_currency(currency)
        wanted = cast("str | None", status.value if status is not None else None)
        names = [account, counterparty, currency, wanted]
        window = Window("claims", names, (int, int), first=first, after=after, last=last, before=before)
        coined = tuple(each.code for each in info.context.service.genesis.currencies)
        asked = ClaimFilter(
            account=account,
            counterparty=counterparty,
            currencies=coined if currency is None else (currency,),
            status=wanted,
        )
        found = await info.context.read(partner_queries.claims_page, asked, window.page)
        return window.connection([(each.seq, each.index) for each in found], [claim_of(each) for each in found])

    @resolved("The claim with an id; null when there is none or this session may not see it.")
    async def claim(self, info: ApiInfo, id: Annotated[strawberry.ID, argument("Its id, `clm_41_0`.")]) -> Claim | None:
        """One claim."""
        viewer = require_session(info.context.viewer)
        match = CLAIM_ID.fullmatch(id)
        return await info.context.read(_claim, viewer, int(match[1]), int(match[2])) if match else None

    @resolved(
        "What is owed now, by currency, debtor and creditor: what an account owes and is owed, all for auditors and "
        "the operator. FORBIDDEN otherwise."
    )
    async def obligations(
        self,
        info: ApiInfo,
        *,
        account: Annotated[
            strawberry.ID | None,
            argument(
                "Who owes or is owed. The session's own account when left out; all for auditors and the operator."
            ),
        ] = None,
        counterparty: Annotated[
            strawberry.ID | None, argument("Only what is owed between it and this account.")
        ] = None,
        currency: Annotated[str | None, argument("Only what is owed in this currency.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Obligation]:
        """A page of obligations."""
        viewer = require_session(info.context.viewer)
        account, counterparty = await _whose(info.context, viewer, account, counterparty)
        if currency is not None:
            require_currency(currency)
        names = [account, counterparty, currency]
        shape = (str, str, str, int, str)
        window = Window("obligations", names, shape, first=first, after=after, last=last, before=before)
        wanted = ObligationFilter(account=account, counterparty=counterparty, currency=currency)
        found = await info.context.read(partner_queries.obligations_page, wanted, window.page)
        keys = [(each.currency, each.debtor, each.creditor, each.netting, each.day) for each in found]
        return window.connection(keys, [obligation_of(each) for each in found])

    @resolved(
        "How what merchants owe each other could be netted, for the operator to record, and for auditors; to a "
        "merchant or beneficiary among them its own part. FORBIDDEN for others."
    )
    async def netting_proposal(
        self,
        info: ApiInfo,
        *,
        currency: Annotated[str, argument("The currency.")],
        merchants: Annotated[
            list[strawberry.ID] | None,
            argument(
                f"Between whom, 2 to {MAX_NETTED}. All that owe each other when left out, for auditors and the "
                "operator."
            ),
        ] = None,
        through: Annotated[Date, argument("The last UTC day whose claims are netted.")],
    ) -> NettingProposal:
        """A proposal of a netting."""
        viewer = require_session(info.context.viewer)
        require_currency(currency)
        _require_netted(merchants)
        return await info.context.read(_proposal, viewer, currency=currency, merchants=merchants, through=through)

    @resolved(
        "Nettings in the order recorded: all for auditors and the operator, to others those they were part of, and of "
        "these their own part."
    )
    async def nettings(
        self,
        info: ApiInfo,
        *,
        currency: Annotated[str | None, argument("Only nettings in this currency.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Netting]:
        """A page of nettings."""
        viewer = require_session(info.context.viewer)
        if currency is not None:
            require_currency(currency)
        window = Window("nettings", [currency], (int,), first=first, after=after, last=last, before=before)
        found = await info.context.read(_nettings, viewer, currency, window.page)
        return window.connection([each.seq for each in found], found)

    @resolved(
        "What prepaid partners bought and have left, by agreement: to the partner and the asset's issuer, and all to "
        "auditors and the operator."
    )
    async def allotments(
        self,
        info: ApiInfo,
        *,
        asset: Annotated[str | None, argument("Only of this asset.")] = None,
        partner: Annotated[strawberry.ID | None, argument("Only of this partner.")] = None,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
    ) -> Connection[Allotment]:
        """A page of allotments."""
        viewer = require_session(info.context.viewer)
        if asset is not None:
            require_asset_code(asset)
        if partner is not None:
            require_account_id(partner)
        window = Window("allotments", [asset, partner], (str,), first=first, after=after, last=last, before=before)
        found = await info.context.read(_allotments, viewer, window.page, asset=asset, partner=partner)
        return window.connection([each.agreement for each in found], [allotment_of(each) for each in found])

    @resolved(
        "What can still be refunded of a purchase, redemption, capture or exchange; null when there is none or this "
        "session may not see it."
    )
    async def refundable(
        self,
        info: ApiInfo,
        by: Annotated[RefundableBy, argument("Which original.")],
        merchant: Annotated[
            strawberry.ID | None,
            argument("Whose order it is, for a purchase; the session's own account when left out."),
        ] = None,
    ) -> Refundable | None:
        """What is left of an original."""
        viewer = require_session(info.context.viewer)
        if merchant is not None:
            require_account_id(merchant)
        if by.operation_id is not UNSET:
            return await info.context.read(_refundable_spending, viewer, cast(str, by.operation_id))
        order = cast(str, by.order)
        return await info.context.read(_refundable_purchase, viewer, merchant or viewer.account, order)


def partner_node(store: Store, connection: Snapshot, viewer: Viewer | None, node_id: str) -> Node | None:
    """The agreement, hold or claim with an id, if there is one for this viewer."""
    if match := AGREEMENT_ID.fullmatch(node_id):
        return _agreement(store, connection, viewer, match[1], int(match[2]))
    if viewer is None:
        return None
    if HOLD_ID.fullmatch(node_id):
        return _hold(store, connection, viewer, node_id)
    if match := CLAIM_ID.fullmatch(node_id):
        return _claim(store, connection, viewer, int(match[1]), int(match[2]))
    return None


def _agreement_of(viewer: Viewer | None, found: state.Agreement) -> Agreement:
    return agreement_of(found, told=is_concerned(viewer, found.issuer, found.partner))


def _agreement(store: Store, connection: Snapshot, viewer: Viewer | None, name: str, version: int) -> Agreement | None:
    found = partner_queries.agreement(store, connection, name, version)
    return _agreement_of(viewer, found) if found is not None else None


def _require_amount(amount: int) -> None:
    if amount < 1:
        raise BadInputError("an amount to exchange is at least 1 point")


def _paths(
    store: Store, connection: Snapshot, time: str, *, asset: str, into: str | None, amount: int, max_hops: int
) -> Paths:
    known = partner_queries.directory(store, connection, time)
    return best_paths(known, asset, into, amount, time, max_hops=max_hops)


async def _holder(context: Context, account: str | None) -> str | None:
    """For whom a quote is: an account that this session may look into, or nobody."""
    if account is None:
        viewer = context.viewer
        return viewer.account if viewer is not None and viewer.account.startswith(_HOLDER_PREFIXES) else None
    require_account_id(account)
    sight = await context.read(sight_of, require_session(context.viewer), [account])
    if not sight.everything and account not in sight.accounts:
        raise ForbiddenError("a quote by what an account has is for itself and its custodian: leave account out")
    return account


def _quote(
    store: Store, connection: Snapshot, time: str, *, asset: str, into: str, amount: int, holder: str | None
) -> Quote:
    names = [exchange_name(asset, into)]
    known = partner_queries.directory(store, connection, time, names=names, account=holder)
    for found in store.assets(connection, {asset, into} - known.assets.keys()):
        known.assets[found.code] = found  # so that it is the agreement which is missed, not the asset
    return quote(known, asset, into, amount, time, account=holder)


async def _preview(context: Context, quoted: Quote, holder: str) -> Preview | Rejection:
    """What the exchange of a quote would do to an account."""
    service = context.service
    document: dict[str, Any] = {
        "actor": holder,
        "amount": quoted.amount,
        "asset": quoted.asset,
        "at": format_time(service.clock()),
        "guerdon": 1,
        "into": quoted.into,
        "kind": Exchange.KIND,
        "ledger": service.store.origin,
        "minimum_out": quoted.out,
        "nonce": encode_base64url(service.random_bytes(16)),
    }
    if quoted.fee_amount:
        document["maximum_fee"] = quoted.fee_amount
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(service.readers, service.sequencer.preview, encode_canonical(document))


def _own_holds(viewer: Viewer) -> tuple[strawberry.ID | None, strawberry.ID | None]:
    """Whose holds are meant when nobody is named: a merchant's are those for it."""
    own = strawberry.ID(viewer.account)
    if viewer.role == "merchant":
        return None, own
    if not viewer.account.startswith(_HOLDER_PREFIXES):
        raise BadInputError("name an account or a merchant")
    return own, None


def _hold(store: Store, connection: Snapshot, viewer: Viewer, hold_id: str) -> Hold | None:
    found = partner_queries.hold(store, connection, hold_id)
    if found is None:
        return None
    sight = sight_of(store, connection, viewer, [found.account])
    return hold_of(found) if _touches(sight, found.asset, found.account, found.merchant) else None


def _touches(sight: Sight, asset: str, *accounts: str) -> bool:
    """Whether a reader is told of what is between accounts, of an asset."""
    return sight.everything or asset in sight.assets or any(account in sight.accounts for account in accounts)


async def _whose(
    context: Context, viewer: Viewer, account: strawberry.ID | None, counterparty: strawberry.ID | None
) -> tuple[strawberry.ID | None, strawberry.ID | None]:
    """Of whom claims and debts are asked, which this session must be told of; nobody for who sees everything."""
    for named in (account, counterparty):
        if named is not None:
            require_account_id(named)
    sight = await context.read(sight_of, viewer, [account] if account is not None else [])
    if account is None and not sight.everything:
        account = strawberry.ID(viewer.account)
    if account is not None:
        require_money_of(sight, account)
    elif counterparty is not None:
        raise BadInputError("a counterparty is that of an account: give account too")
    return account, counterparty


def _claim(store: Store, connection: Snapshot, viewer: Viewer, seq: int, index: int) -> Claim | None:
    found = partner_queries.claim(store, connection, seq, index)
    if found is None:
        return None
    parties = (found.debtor, found.creditor)
    sight = sight_of(store, connection, viewer, parties)
    return claim_of(found) if sight.everything or not set(parties).isdisjoint(sight.accounts) else None


def _require_netted(merchants: list[strawberry.ID] | None) -> None:
    if merchants is None:
        return
    for merchant in merchants:
        require_account_id(merchant)
    if not 2 <= len(set(merchants)) == len(merchants) <= MAX_NETTED:
        raise BadInputError(f"merchants are 2 to {MAX_NETTED} different accounts")


def _proposal(
    store: Store,
    connection: Snapshot,
    viewer: Viewer,
    *,
    currency: str,
    merchants: Sequence[str] | None,
    through: str,
) -> NettingProposal:
    sight = sight_of(store, connection, viewer)
    if not sight.everything and (merchants is None or viewer.account not in merchants):
        raise ForbiddenError("a netting is proposed to auditors, the operator, and a merchant that is named in it")
    owed = partner_queries.unnetted_through(store, connection, currency, merchants, through)
    if merchants is None:
        found = {account for each in owed for account in (each.debtor, each.creditor)}
        merchants = sorted(account for account in found if account.startswith(_CLEARED_PREFIXES))
        if len(merchants) > MAX_NETTED:
            raise BadInputError(f"more than {MAX_NETTED} merchants owe each other: name those to be netted")
    positions = clearing.positions_of(owed, merchants, through)
    payments = clearing.propose_payments(positions)
    return NettingProposal(
        currency=currency,
        through=Date(through),
        positions=[
            NettingPosition(account_id=strawberry.ID(merchant), amount=MinorUnits(amount))
            for merchant, amount in positions.items()
            if sight.everything or merchant in sight.accounts
        ],
        payments=[payment_of(payment, payment.amount) for payment in payments if takes_part(sight, payment)],
    )


def _nettings(store: Store, connection: Snapshot, viewer: Viewer, currency: str | None, page: Page) -> list[Netting]:
    sight = sight_of(store, connection, viewer)
    accounts = None if sight.everything else sight.accounts
    found = partner_queries.nettings_page(store, connection, accounts, currency, page)
    return [netting_of(each, sight) for each in found]


def _allotments(
    store: Store, connection: Snapshot, viewer: Viewer, page: Page, *, asset: str | None, partner: str | None
) -> list[state.Allotment]:
    sight = sight_of(store, connection, viewer)
    return partner_queries.allotments_page(store, connection, sight, page, asset=asset, partner=partner)


def _refundable_purchase(
    store: Store, connection: Snapshot, viewer: Viewer, merchant: str, order: str
) -> Refundable | None:
    found = partner_queries.purchase(store, connection, merchant, order)
    if found is None:
        return None
    sight = sight_of(store, connection, viewer, [found.earning.account])
    seen = _touches(sight, found.asset, merchant, found.earning.account)
    return purchase_left(merchant, found) if seen else None


def _refundable_spending(store: Store, connection: Snapshot, viewer: Viewer, operation: str) -> Refundable | None:
    found = partner_queries.spending(store, connection, operation)
    if found is None:
        return None
    sight = sight_of(store, connection, viewer, [found.account])
    return spending_left(found) if _touches(sight, found.asset, found.merchant, found.account) else None
