"""What partner merchants have with each other, as clients see it: agreements, quotes, claims, allotments, refunds.

What merchants agreed on for holders (rates, bounds, fees, dates, who) is public. What they owe each other for it is
told to the two of them, auditors and the operator. Who is told what is settled where these are made.
"""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any, cast

import strawberry

from api.fields import ApiInfo, Node, field, resolved
from api.input_parts import EarningBilling, MoneyRounding, OffStep, ReceivedPoints
from api.paging import After, Before, Connection, First, Last, Window
from api.rejections import UserError, user_error
from api.scalars import Date, MinorUnits, Points, Time, UInt53
from api.types import Cap, Fee, Lot
from ledger import agreements, clearing, partner_queries, queries, state, terms
from ledger.encoding import format_time, parse_time
from ledger.entries import Posting
from ledger.partner_queries import NettingPayments, PurchaseOriginal
from ledger.queries import Sight
from ledger.state import NOT_NETTED, Rejection, Spending

# Agreements


@strawberry.enum(description="What an agreement is about.")
class AgreementType(Enum):
    """Types, with the names they have in documents as values."""

    EXCHANGE = strawberry.enum_value("exchange", description="Points of one asset become points of another.")
    ACCEPTANCE = strawberry.enum_value(
        "acceptance", description="Points are spent at a merchant that does not issue them, or donated."
    )
    EARNING = strawberry.enum_value("earning", description="A merchant gives points that another one issues.")


@strawberry.enum(description="How a version of an agreement stands now.")
class AgreementStatus(Enum):
    """States of a version at a time."""

    UPCOMING = strawberry.enum_value("upcoming", description="It has not started.")
    IN_FORCE = strawberry.enum_value("in_force", description="It is the version that counts.")
    SUPERSEDED = strawberry.enum_value("superseded", description="A later version has started.")
    ENDED = strawberry.enum_value("ended", description="It has ended, and none has taken its place.")


@strawberry.type(description="A fee of an exchange, and who receives it from the holder.")
class KeptFee(Fee):
    """A fee of an agreement; the core's record stands for it."""

    kept_by: strawberry.ID = strawberry.field(name="keptById", description="The party that receives it.")


@strawberry.type(
    description="What one party of an agreement owes the other: `amount` minor units for every `points` points."
)
class ClaimTerms:
    """The terms of claims; the core's record stands for them."""

    amount: MinorUnits = field("Minor units for every `points` points.")
    currency: str = field("A settlement currency.")
    debtor: strawberry.ID = strawberry.field(name="debtorId", description="The party that owes; the other is owed.")
    points: Points = field("Points for which `amount` is owed.")
    round: MoneyRounding = field("How `amount` times the points, divided by `points`, is rounded.")


@strawberry.type(description="A rate: for every `give` points of one asset, `get` points of the other.")
class Rate:
    """A rate of exchange; the core's record stands for it."""

    get: Points = field("Points received; a fraction of a point is dropped.")
    give: Points = field("Points given.")


@strawberry.type(description="A bonus: `points` points more for every whole `block` points given.")
class Bonus:
    """A bonus per block; the core's record stands for it."""

    block: Points = field("Points given that earn the bonus, once for each whole block.")
    points: Points = field("Points received on top.")


_CLAIM = (
    "What one party owes the other for it; null for nothing. Told to the two parties, auditors and the operator, null "
    "for everybody else; who spends points sees, in the entry of it, the claim that it made."
)


@strawberry.interface(description="What merchants agreed on.")
class AgreementTerms:
    """The terms of an agreement."""

    asset: str = field("The code of the asset it is about.")
    claim: ClaimTerms | None = field(_CLAIM)
    total_cap: Cap | None = field("The most in a period, by all together; null for no cap.")


@strawberry.type(description="How points of one asset become points of another.")
class ExchangeTerms(AgreementTerms):
    """The terms of an exchange."""

    into: str = field("The code of the asset that holders receive.")
    rate: Rate = field("The rate.")
    bonus: Bonus | None = field("Points on top of the rate for large exchanges; null for none.")
    fee: KeptFee | None = field("What the holder owes for it; null for nothing.")
    holder_cap: Cap | None = field("The most one holder gives in a period; null for no cap.")
    minimum: Points = field("The fewest points given at a time.")
    maximum: Points | None = field("The most points given at a time; null for no limit.")
    step: Points = field("What is given is a multiple of this.")
    off_step: OffStep = field("What becomes of an amount that is not.")
    received: ReceivedPoints = field("What becomes of the points given.")


@strawberry.type(description="How points are spent at a merchant that does not issue them, or donated.")
class AcceptanceTerms(AgreementTerms):
    """The terms of an acceptance."""

    holder_cap: Cap | None = field("The most one holder spends in a period; null for no cap.")
    minimum: Points = field("The fewest points spent at a time.")
    maximum: Points | None = field("The most points spent at a time; null for no limit.")
    step: Points = field("What is spent is a multiple of this.")
    received: ReceivedPoints = field("What becomes of the points spent.")


@strawberry.type(description="How a partner gives points of an asset to those who buy from it.")
class EarningTerms(AgreementTerms):
    """The terms of earning."""

    billing: EarningBilling | None = field(
        "How the partner pays for the points. Told to the two parties, auditors and the operator; null for others."
    )
    alert_below: Points | None = field(
        "The parties are alerted when fewer points than this are left of those bought beforehand; null for never. Told "
        "to those to whom `billing` is."
    )


AGREEMENT_TERMS: tuple[type[AgreementTerms], ...] = (ExchangeTerms, AcceptanceTerms, EarningTerms)
"""The types behind the interface, which no field names."""


@strawberry.type(
    description=(
        "A version of the terms on which two merchants take each other's points, signed by both. The last version that "
        "has started is in force, unless it has ended. Public, but for what the merchants owe each other."
    )
)
class Agreement(Node):
    """A version of an agreement."""

    name: str = field("What it is about: `STAR>BEAN` an exchange, `STAR@mer_…` acceptance, `STAR+mer_…` earning.")
    version: int = field("Its number, from 1.")
    type: AgreementType = field("What it is about.")
    issuer_id: strawberry.ID = field("The merchant that issues the asset.")
    partner_id: strawberry.ID = field(
        "The other party: who issues the asset exchanged into, accepts the points, or gives them."
    )
    starts: Time = field("From when on it counts, until a later version starts.")
    ends: Time | None = field("When it ends; null while no end is known.")
    notice_days: int = field("The notice either party gives to end it, in days.")
    terms: AgreementTerms = field("The terms.")
    entry_id: strawberry.ID = field("The entry that published it.")

    @resolved("The public name of the merchant that issues the asset.")
    async def issuer_name(self, info: ApiInfo) -> str | None:
        """The issuer's name."""
        return await info.context.loaders.name.load(self.issuer_id)

    @resolved("The public name of the other party.")
    async def partner_name(self, info: ApiInfo) -> str | None:
        """The partner's name."""
        return await info.context.loaders.name.load(self.partner_id)

    @resolved("How it stands now.")
    async def status(self, info: ApiInfo) -> AgreementStatus:
        """The state now."""
        started = await info.context.loaders.started_version.load(self.name)
        return cast(AgreementStatus, _status_of(self, started, info.context.now()))

    @resolved("The earliest time at which it ends if a party gives notice now; never later than `ends`.")
    def ends_by(self, info: ApiInfo) -> Time:
        """The earliest end."""
        earliest = format_time(parse_time(info.context.now()) + self.notice_days * agreements.DAY_MS)
        return Time(earliest if self.ends is None else min(earliest, self.ends))


def _status_of(agreement: Agreement, started: int | None, now: str) -> str:
    """The state of a version, when ``started`` is the last version that has started."""
    if started is not None and started > agreement.version:
        return "superseded"
    if now < agreement.starts:
        return "upcoming"
    return "ended" if agreement.ends is not None and agreement.ends <= now else "in_force"


def agreement_of(found: state.Agreement, *, told: bool = False) -> Agreement:
    """A version of an agreement as clients see it, to someone who is ``told`` what its parties owe each other."""
    return Agreement(
        id=strawberry.ID(f"agr_{found.agreement}_{found.version}"),
        name=found.agreement,
        version=found.version,
        type=cast(AgreementType, _type_of(found.terms)),
        issuer_id=strawberry.ID(found.issuer),
        partner_id=strawberry.ID(found.partner),
        starts=Time(found.starts),
        ends=Time(found.ends) if found.ends is not None else None,
        notice_days=found.notice_days,
        terms=_terms_of(found.terms, told=told),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
    )


def _type_of(found: terms.Terms) -> str:
    tag = found.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def _terms_of(found: terms.Terms, *, told: bool) -> AgreementTerms:
    common: dict[str, Any] = {
        "asset": found.asset,
        "claim": found.claim if told else None,
        "total_cap": found.total_cap,
    }
    if isinstance(found, terms.EarningTerms):
        billing = cast("EarningBilling | None", found.billing if told else None)
        return EarningTerms(**common, billing=billing, alert_below=_points(found.alert_below) if told else None)
    common |= {
        "holder_cap": found.holder_cap,
        "minimum": found.minimum,
        "maximum": found.maximum,
        "step": found.step,
        "received": found.received,
    }
    if isinstance(found, terms.AcceptanceTerms):
        return AcceptanceTerms(**common)
    return ExchangeTerms(
        **common,
        into=found.into,
        rate=cast(Rate, found.rate),
        bonus=cast("Bonus | None", found.bonus),
        fee=cast("KeptFee | None", found.fee),
        off_step=cast(OffStep, found.off_step),
    )


def _points(amount: int | None) -> Points | None:
    return Points(amount) if amount is not None else None


# What points become


@strawberry.type(description="One exchange of a path, reckoned exactly.")
class ExchangeHop:
    """An exchange on a way."""

    agreement: str = field("The agreement's name.")
    agreement_version: int = field("The version of it in force.")
    asset: str = field("The asset given.")
    into: str = field("The asset received.")
    amount: Points = field("Points offered: what the exchange before it gives.")
    given: Points = field(
        "Points of these that are taken: the amount to sign. What is on no step of the terms stays with the holder."
    )
    out: Points = field("Points that come out.")
    fee_amount: MinorUnits = field("What the holder owes for it, in minor units; 0 for nothing.")
    fee_currency: str | None = field("The currency of the fee; null when the terms have none.")


@strawberry.type(description="A way from one asset to another, by one exchange or several in turn.")
class ExchangePath:
    """A way that points can go."""

    into: str = field("The asset it leads to.")
    out: Points = field("Points that come out last.")
    rate: Rate = field("Its effective rate for this amount, in lowest terms: `get` points for every `give` given.")
    hops: list[ExchangeHop] = field("Its exchanges, in order. Each is a document of its own to sign.")
    valid_until: Time | None = field(
        "When the terms of one of them are known to be in force no more; null when no end is known."
    )


@strawberry.type(description="What points can become.")
class ExchangePaths:
    """Ways that points can go."""

    paths: list[ExchangePath] = field("By the asset they lead to, the best first: most points, then fewest exchanges.")
    complete: bool = field("Whether these are all; false when there were more than could be tried, shortest first.")


@strawberry.type(description="What an exchange would come to if it were recorded now. Nothing is recorded or reserved.")
class ExchangeQuote:
    """A quote of an exchange."""

    asset: str = field("The asset given.")
    into: str = field("The asset received.")
    agreement: str | None = field("The agreement's name; null when none is in force.")
    agreement_version: int | None = field("The version of it in force.")
    given: Points | None = field("Points that are taken; fewer than offered where the terms round down to a step.")
    out: Points | None = field("Points that come out.")
    rate: Rate | None = field("The effective rate, in lowest terms; null when nothing comes out.")
    fee_amount: MinorUnits | None = field("What the holder owes for it, in minor units; 0 for nothing.")
    fee_currency: str | None = field("The currency of the fee; null when the terms have none.")
    minimum_out: Points | None = field("The `minimumOut` to sign, so that it is this outcome or nothing.")
    maximum_fee: MinorUnits | None = field("The `maximumFee` to sign; null to leave it out, when there is no fee.")
    lots: list[Lot] | None = field(
        "Points by last day that it would use of the account. Null without an account, and when it would be refused."
    )
    valid_until: Time | None = field("When these terms are known to be in force no more; null when no end is known.")
    user_errors: list[UserError] = field(
        "Why it would be refused; empty when it would not, as far as can be told without an account."
    )


def _hop_of(quote: agreements.Quote) -> ExchangeHop:
    assert quote.agreement is not None
    assert quote.version is not None
    return ExchangeHop(
        agreement=quote.agreement,
        agreement_version=quote.version,
        asset=quote.asset,
        into=quote.into,
        amount=Points(quote.amount),
        given=Points(quote.given),
        out=Points(quote.out),
        fee_amount=MinorUnits(quote.fee_amount),
        fee_currency=quote.fee_currency,
    )


def path_of(path: agreements.Path) -> ExchangePath:
    """A way that points can go, as clients see it."""
    return ExchangePath(
        into=path.into,
        out=Points(path.out),
        rate=_rate_of(path.out, path.hops[0].given),
        hops=[_hop_of(hop) for hop in path.hops],
        valid_until=Time(path.valid_until) if path.valid_until is not None else None,
    )


def _rate_of(get: int, give: int) -> Rate:
    common = math.gcd(get, give)
    return Rate(get=Points(get // common), give=Points(give // common))


def quote_of(quote: agreements.Quote, *, refusal: Rejection | None, lots: list[Lot] | None) -> ExchangeQuote:
    """A quote as clients see it, with why the exchange would be refused, or the lots it would use, if that is known."""
    known = quote.agreement is not None
    return ExchangeQuote(
        asset=quote.asset,
        into=quote.into,
        agreement=quote.agreement,
        agreement_version=quote.version,
        given=Points(quote.given) if known else None,
        out=Points(quote.out) if known else None,
        rate=_rate_of(quote.out, quote.given) if quote.out and quote.given else None,
        fee_amount=MinorUnits(quote.fee_amount) if known else None,
        fee_currency=quote.fee_currency,
        minimum_out=Points(quote.out) if quote.out else None,
        maximum_fee=MinorUnits(quote.fee_amount) if quote.fee_amount else None,
        lots=lots,
        valid_until=Time(quote.valid_until) if quote.valid_until is not None else None,
        user_errors=[user_error(refusal, camel=True)] if refusal is not None else [],
    )


def lots_used(postings: Sequence[Posting], account: str, asset: str) -> list[Lot]:
    """What an exchange takes of an account: legs that give. Holds that lapsed come back by legs that do not."""
    used = [leg for leg in postings if leg.account == account and leg.asset == asset and leg.amount < 0]
    return cast("list[Lot]", [queries.Lot(last_day=leg.lot, points=-leg.amount, is_spendable=True) for leg in used])


# Claims and clearing


@strawberry.enum(description="How a claim stands.")
class ClaimStatus(Enum):
    """States, with the names they have in the ledger as values."""

    OPEN = strawberry.enum_value("open", description="It counts: it is owed, or was netted or settled.")
    DISPUTED = strawberry.enum_value("disputed", description="It is neither netted nor settled until that is resolved.")
    CANCELLED = strawberry.enum_value("cancelled", description="A dispute ended with it being void.")


@strawberry.type(
    description=(
        "Money that one account owes another by an entry, such as the price of points spent at a partner. Told to the "
        "two of them, auditors and the operator."
    )
)
class Claim(Node):
    """A claim."""

    seq: UInt53 = field("Sequence number of the entry that made it.")
    index: int = field("Which of the entry's claims it is, from 0.")
    debtor_id: strawberry.ID = field("Who owes.")
    creditor_id: strawberry.ID = field("Who is owed.")
    currency: str = field("The currency.")
    amount: MinorUnits = field("How much, in minor units.")
    day: Date = field("The UTC day on which it was recorded, by which it is netted.")
    agreement: str | None = field("The agreement it follows from; null for a fee of a transfer and the like.")
    status: ClaimStatus = field("How it stands.")
    disputed_by_id: strawberry.ID | None = field("Who disputed it last; null when nobody did.")
    entry_id: strawberry.ID = field("The entry that made it.")
    record: strawberry.Private[state.Claim]

    @resolved("The entry of the netting that replaced it by payments; null when there is none.")
    async def netted_by_id(self, info: ApiInfo) -> strawberry.ID | None:
        """The netting."""
        seq = await info.context.loaders.netting.load(self.record)
        return strawberry.ID(f"ent_{seq}") if seq is not None else None

    @resolved("Whether it can no longer be disputed: it was cancelled, netted or settled, wholly or in part.")
    async def is_closed(self, info: ApiInfo) -> bool:
        """Whether less is left to be netted of its day than it came to."""
        if self.record.status != "open":
            return self.record.status == "cancelled"
        left = await info.context.loaders.unnetted.load(
            (self.record.currency, self.record.debtor, self.record.creditor, self.record.day)
        )
        return left < self.record.amount


def claim_of(found: state.Claim) -> Claim:
    """A claim as clients see it."""
    return Claim(
        id=strawberry.ID(f"clm_{found.seq}_{found.index}"),
        seq=UInt53(found.seq),
        index=found.index,
        debtor_id=strawberry.ID(found.debtor),
        creditor_id=strawberry.ID(found.creditor),
        currency=found.currency,
        amount=MinorUnits(found.amount),
        day=Date(found.day),
        agreement=found.agreement,
        status=cast(ClaimStatus, found.status),
        disputed_by_id=strawberry.ID(found.disputed_by) if found.disputed_by is not None else None,
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        record=found,
    )


@strawberry.type(description="What one account owes another: of the claims of a day, or by a payment of a netting.")
class Obligation:
    """An obligation."""

    debtor_id: strawberry.ID = field("Who owes.")
    creditor_id: strawberry.ID = field("Who is owed.")
    currency: str = field("The currency.")
    amount: MinorUnits = field("What is left to be paid, in minor units. Disputed claims are not in it.")
    day: Date = field("The UTC day of the claims; of a netting, the day through which it netted.")
    netting_entry_id: strawberry.ID | None = field("The entry of the netting; null for claims that are not netted.")


def obligation_of(found: state.Obligation) -> Obligation:
    """What is owed, as clients see it."""
    return Obligation(
        debtor_id=strawberry.ID(found.debtor),
        creditor_id=strawberry.ID(found.creditor),
        currency=found.currency,
        amount=MinorUnits(found.amount),
        day=Date(found.day),
        netting_entry_id=strawberry.ID(f"ent_{found.netting}") if found.netting != NOT_NETTED else None,
    )


@strawberry.type(description="What the others of a netting owe a merchant, less what it owes them.")
class NettingPosition:
    """A position."""

    account_id: strawberry.ID = field("The merchant or beneficiary.")
    amount: MinorUnits = field("In minor units; below zero when it owes more.")


@strawberry.type(description="A payment that takes the place of what was owed.")
class NettingPayment:
    """A payment of a netting, proposed or recorded."""

    debtor_id: strawberry.ID = field("Who pays.")
    creditor_id: strawberry.ID = field("Who is paid.")
    amount: MinorUnits = field("How much, in minor units.")
    unpaid: MinorUnits = field("What its creditor has not confirmed to have received.")


_OWN_PART = "A merchant is told only its own part"


@strawberry.type(
    description=(
        "How what merchants owe each other could be netted: few payments that leave each of them with its position. "
        f"{_OWN_PART}."
    )
)
class NettingProposal:
    """A proposal, to be recorded by ``nettingSubmit``."""

    currency: str = field("The currency.")
    through: Date = field("The last UTC day whose claims are netted.")
    positions: list[NettingPosition] = field("The merchants and where they stand.")
    payments: list[NettingPayment] = field(
        f"The fewest payments, found exactly for up to {clearing.MAX_EXACT_MERCHANTS} merchants that owe or are owed "
        "once those that cancel each other are paired off; never as many as there are merchants."
    )


@strawberry.type(description=f"A netting that the operator recorded. {_OWN_PART}.")
class Netting:
    """A recorded netting."""

    entry_id: strawberry.ID = field("The entry that recorded it.")
    seq: UInt53 = field("Sequence number of that entry.")
    currency: str = field("The currency.")
    through: Date = field("The last UTC day whose claims it netted.")
    merchant_ids: list[strawberry.ID] | None = field(
        "Who was netted, in the order of the document. Told to auditors and the operator; null for others."
    )
    payments: list[NettingPayment] = field("The payments that took the place of what was owed.")


def netting_of(found: NettingPayments, sight: Sight) -> Netting:
    """A netting, as far as a reader is told of it."""
    netting = found.netting
    return Netting(
        entry_id=strawberry.ID(f"ent_{netting.seq}"),
        seq=UInt53(netting.seq),
        currency=netting.currency,
        through=Date(netting.through),
        merchant_ids=[strawberry.ID(merchant) for merchant in netting.merchants] if sight.everything else None,
        payments=[
            payment_of(payment, unpaid)
            for payment, unpaid in zip(found.payments, found.left, strict=True)
            if takes_part(sight, payment)
        ],
    )


def payment_of(payment: terms.Payment, unpaid: int) -> NettingPayment:
    """A payment of a netting, of which so much is unpaid, as clients see it."""
    return NettingPayment(
        debtor_id=strawberry.ID(payment.debtor),
        creditor_id=strawberry.ID(payment.creditor),
        amount=MinorUnits(payment.amount),
        unpaid=MinorUnits(unpaid),
    )


def takes_part(sight: Sight, payment: terms.Payment) -> bool:
    """Whether a reader is told of a payment."""
    return sight.everything or payment.debtor in sight.accounts or payment.creditor in sight.accounts


# Allotments


@strawberry.type(description="That an entry left a prepaid partner with few points.")
class AllotmentAlert:
    """An alert."""

    entry_id: strawberry.ID = field("The entry.")
    seq: UInt53 = field("Sequence number of the entry.")
    remaining: Points = field("Points the partner had left after it.")


@strawberry.type(
    description=(
        "Points that a partner bought beforehand, to give to those who buy from it. Told to the two merchants, "
        "auditors and the operator."
    )
)
class Allotment:
    """An allotment."""

    agreement: str = field("The agreement's name, `STAR+mer_…`.")
    asset: str = field("The asset's code.")
    partner_id: strawberry.ID = field("Who gives the points.")
    allotted: Points = field("Points it has bought in all.")
    remaining: Points = field("Points it can still give.")

    @resolved("The bound below which the parties are alerted, by the version in force; null when there is none.")
    async def alert_below(self, info: ApiInfo) -> Points | None:
        """The bound of the terms in force."""
        found = await info.context.loaders.agreement_in_force.load(self.agreement)
        return _points(_alert_below(found))

    @resolved("Whether fewer points than that are left.")
    async def is_low(self, info: ApiInfo) -> bool:
        """Whether little is left."""
        bound = _alert_below(await info.context.loaders.agreement_in_force.load(self.agreement))
        return bound is not None and self.remaining < bound

    @resolved("The entries that brought it below that bound, the first first.")
    async def alerts(
        self, info: ApiInfo, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[AllotmentAlert]:
        """A page of alerts."""
        window = Window("allotmentAlerts", [self.agreement], (int,), first=first, after=after, last=last, before=before)
        found = await info.context.read(partner_queries.alerts_page, self.agreement, window.page)
        return window.connection([each.seq for each in found], [_alert_of(each) for each in found])


def _alert_below(agreement: state.Agreement | None) -> int | None:
    if agreement is None or not isinstance(agreement.terms, terms.EarningTerms):
        return None
    return agreement.terms.alert_below


def _alert_of(found: state.AllotmentAlert) -> AllotmentAlert:
    return AllotmentAlert(
        entry_id=strawberry.ID(f"ent_{found.seq}"), seq=UInt53(found.seq), remaining=Points(found.remaining)
    )


def allotment_of(found: state.Allotment) -> Allotment:
    """An allotment, as its parties see it."""
    asset, _, partner = found.agreement.partition("+")
    return Allotment(
        agreement=found.agreement,
        asset=asset,
        partner_id=strawberry.ID(partner),
        allotted=Points(found.allotted),
        remaining=Points(found.remaining),
    )


# Refunds


@strawberry.enum(description="What can be refunded.")
class OriginalKind(Enum):
    """Kinds of originals of refunds."""

    PURCHASE = strawberry.enum_value("purchase", description="A purchase: the points it gave are taken back.")
    REDEMPTION = strawberry.enum_value("redeem", description="A redemption: the points spent return.")
    CAPTURE = strawberry.enum_value("capture", description="A capture of a hold: the points spent return.")
    EXCHANGE = strawberry.enum_value("exchange", description="An exchange: each party's points return.")


@strawberry.type(
    description=(
        "What can still be refunded of a purchase, redemption, capture or exchange. Told to the merchant that can "
        "refund it, the holder, the asset's issuer, auditors and the operator."
    )
)
class Refundable:
    """What is left of an original."""

    kind: OriginalKind = field("What it is.")
    entry_id: strawberry.ID = field("The entry that recorded it.")
    merchant_id: strawberry.ID = field("The merchant that can refund it.")
    account_id: strawberry.ID = field("Whose points they are.")
    asset: str = field("The asset; of an exchange, the one given.")
    amount: MinorUnits | None = field("What a purchase came to, in minor units; null for the others.")
    refunded_amount: MinorUnits | None = field("What was refunded of that; null for what is no purchase.")
    refundable_amount: MinorUnits | None = field("What can still be refunded of that; null for what is no purchase.")
    points: Points = field("Points that a purchase earned, or that were spent or given.")
    refunded_points: Points = field("Points that its refunds so far came to.")
    refundable_points: Points = field("Points of these that are left.")


def purchase_left(merchant: str, found: PurchaseOriginal) -> Refundable:
    """What can still be refunded of a purchase that a merchant recorded."""
    earning, refund = found.earning, found.refund
    amount, points = earning.amount or 0, earning.points
    refunded_amount, refunded_points = (0, 0) if refund is None else (refund.amount, refund.points)
    return Refundable(
        kind=cast(OriginalKind, "purchase"),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        merchant_id=strawberry.ID(merchant),
        account_id=strawberry.ID(earning.account),
        asset=found.asset,
        amount=MinorUnits(amount),
        refunded_amount=MinorUnits(refunded_amount),
        refundable_amount=MinorUnits(amount - refunded_amount),
        points=Points(points),
        refunded_points=Points(refunded_points),
        refundable_points=Points(points - refunded_points),
    )


def spending_left(found: Spending) -> Refundable:
    """What can still be refunded of a redemption, capture or exchange."""
    return Refundable(
        kind=cast(OriginalKind, found.kind),
        entry_id=strawberry.ID(f"ent_{found.seq}"),
        merchant_id=strawberry.ID(found.merchant),
        account_id=strawberry.ID(found.account),
        asset=found.asset,
        amount=None,
        refunded_amount=None,
        refundable_amount=None,
        points=Points(found.amount),
        refunded_points=Points(found.refunded),
        refundable_points=Points(found.amount - found.refunded),
    )
