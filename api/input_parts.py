"""Parts of the mutations' inputs, named and divided as :mod:`ledger.terms` divides documents.

Where a document has one of several parts, told apart by a tag, the input has a ``@oneOf`` with a field for each: see
:data:`api.inputs.TAGS`. Enumerations have the names that documents use as values, so records of the core need no
translation.
"""

from enum import Enum
from typing import Any

import strawberry
from strawberry import UNSET

from api.scalars import Hash, MinorUnits, Points, Time, UInt53


def required(description: str) -> Any:
    """A required field of an input."""
    return strawberry.field(description=description)


def optional(description: str) -> Any:
    """A field that may be left out of the input, and then is absent from the document."""
    return strawberry.field(description=description, default=UNSET)


@strawberry.enum(description="What an account is for.")
class AccountRole(Enum):
    """Roles, with the names they have in documents as values."""

    MEMBER = strawberry.enum_value("member", description="Holds, sends and spends points.")
    MERCHANT = strawberry.enum_value("merchant", description="Issues and accepts points.")
    BENEFICIARY = strawberry.enum_value("beneficiary", description="Receives donations of points: a charity or school.")
    AUDITOR = strawberry.enum_value("auditor", description="Sees everything and verifies the chain.")
    OPERATOR = strawberry.enum_value("operator", description="Runs the ledger; opened by genesis, never over the API.")


@strawberry.enum(description="How a sum that is no whole number of points is rounded, once per purchase.")
class PointsRounding(Enum):
    """Rounding modes of points."""

    DOWN = strawberry.enum_value("down", description="Towards zero.")
    HALF_UP = strawberry.enum_value("half_up", description="To the nearest; halves go up.")
    HALF_EVEN = strawberry.enum_value("half_even", description="To the nearest; halves go to the even neighbour.")
    UP = strawberry.enum_value("up", description="Up to the next whole point.")


@strawberry.enum(description="What happens to a purchase's amount before rates are applied.")
class AmountRounding(Enum):
    """Rounding modes of amounts."""

    NONE = strawberry.enum_value("none", description="Nothing.")
    WHOLE_UNITS = strawberry.enum_value("whole_units", description="The fraction of the currency's unit is dropped.")


@strawberry.enum(description="How a sum that is no whole number of minor units is rounded.")
class MoneyRounding(Enum):
    """Rounding modes of money."""

    DOWN = strawberry.enum_value("down", description="Towards zero.")
    HALF_UP = strawberry.enum_value("half_up", description="To the nearest; halves go up.")
    HALF_EVEN = strawberry.enum_value("half_even", description="To the nearest; halves go to the even neighbour.")
    UP = strawberry.enum_value("up", description="Up to the next whole minor unit.")


@strawberry.enum(description="What happens when a refund takes back more points than the member has left.")
class RefundPolicy(Enum):
    """Policies of a program about the points that are missing."""

    CAP = strawberry.enum_value("cap", description="The missing points are forgiven.")
    NEGATIVE = strawberry.enum_value(
        "negative", description="The balance goes below zero; points earned later repay that first."
    )
    OWE = strawberry.enum_value(
        "owe", description="The member owes the merchant their worth in money, by the asset's value."
    )


@strawberry.enum(description="The calendar period in which a cap counts points, by the local dates of their asset.")
class CapPeriod(Enum):
    """Periods of caps."""

    DAY = strawberry.enum_value("day", description="Each day.")
    MONTH = strawberry.enum_value("month", description="Each calendar month.")
    YEAR = strawberry.enum_value("year", description="Each calendar year.")
    EVER = strawberry.enum_value("ever", description="All time: what is used up never comes back.")


@strawberry.enum(description="What becomes of the points that a partner receives.")
class ReceivedPoints(Enum):
    """Uses of received points."""

    KEPT = strawberry.enum_value("kept", description="The partner holds them, with their last days.")
    RETIRED = strawberry.enum_value("retired", description="They are spent: out of circulation.")


@strawberry.enum(description="What becomes of an amount that is not a multiple of an exchange's step.")
class OffStep(Enum):
    """Treatments of an amount off the step."""

    REFUSE = strawberry.enum_value("refuse", description="It is refused.")
    DOWN = strawberry.enum_value("down", description="As much of it is exchanged as is a multiple.")


@strawberry.enum(description="How a partner pays for the points it gives to those who buy from it.")
class EarningBilling(Enum):
    """Ways of billing."""

    POSTPAID = strawberry.enum_value("postpaid", description="It owes for each point as it is issued.")
    PREPAID = strawberry.enum_value(
        "prepaid", description="It buys blocks of points beforehand, and issuing stops when they are used up."
    )


@strawberry.enum(description="Why a merchant corrects a member's points by hand.")
class CorrectionReason(Enum):
    """Reasons of corrections."""

    ERROR = strawberry.enum_value("error", description="Points were recorded wrongly.")
    FRAUD = strawberry.enum_value("fraud", description="Points were obtained by fraud.")
    GOODWILL = strawberry.enum_value("goodwill", description="The merchant makes up for something.")
    SYSTEM = strawberry.enum_value("system", description="A system that feeds the ledger failed.")
    OTHER = strawberry.enum_value("other", description="Another reason, known to who holds the reference.")


@strawberry.enum(description="Why a member's plan ends before its time.")
class PlanEndReason(Enum):
    """Reasons to end a plan."""

    REFUNDED = strawberry.enum_value("refunded", description="What the member paid for it was paid back.")
    OTHER = strawberry.enum_value("other", description="Another reason, known to the merchant.")


@strawberry.enum(description="Why an account is frozen.")
class FreezeReason(Enum):
    """Reasons to freeze."""

    COURT_ORDER = strawberry.enum_value("court_order", description="A court or authority ordered it.")
    DISPUTE = strawberry.enum_value("dispute", description="It is disputed whose account it is, or what it did.")
    FRAUD = strawberry.enum_value("fraud", description="It is suspected of fraud.")
    LOST_KEYS = strawberry.enum_value("lost_keys", description="Its keys were lost, or may be in other hands.")
    STOLEN_POINTS = strawberry.enum_value("stolen_points", description="It holds points that were stolen.")
    OTHER = strawberry.enum_value("other", description="Another reason, known to the operator.")


@strawberry.enum(description="Why a frozen account can act again.")
class UnfreezeReason(Enum):
    """Reasons to unfreeze."""

    MISTAKE = strawberry.enum_value("mistake", description="It should not have been frozen.")
    RESOLVED = strawberry.enum_value("resolved", description="What it was frozen for is over.")
    OTHER = strawberry.enum_value("other", description="Another reason, known to the operator.")


@strawberry.enum(description="What a merchant disputes about a claim.")
class DisputeReason(Enum):
    """Reasons of disputes."""

    AMOUNT = strawberry.enum_value("amount", description="The amount is wrong.")
    DUPLICATE = strawberry.enum_value("duplicate", description="It was claimed before.")
    NOT_OURS = strawberry.enum_value("not_ours", description="It is not between these two merchants.")
    OTHER = strawberry.enum_value("other", description="Another reason, told to the other party elsewhere.")


@strawberry.enum(description="How a dispute ends.")
class DisputeOutcome(Enum):
    """Outcomes of disputes."""

    CANCELLED = strawberry.enum_value("cancelled", description="The claim is void; its creditor or the operator says.")
    STANDS = strawberry.enum_value("stands", description="The claim is due again; who disputed or the operator says.")


@strawberry.input(description="What points are worth: `points` points stand for `amount` minor units of `currency`.")
class ValueInput:
    """A value in money."""

    amount: MinorUnits = required("Minor units of the currency.")
    currency: str = required("A settlement currency of the ledger, `USD`.")
    points: Points = required("Points that are worth the amount.")


@strawberry.input(description="A part of a purchase.")
class PurchaseLineInput:
    """A line of a purchase."""

    amount: MinorUnits = required("What was paid for it, in minor units.")
    category: str | None = optional("The category of goods; taxes are one, gift cards another.")
    product: str | None = optional("The merchant's number of the product.")


@strawberry.input(description="How much of something that is no money a purchase has, such as miles flown.")
class QuantityInput:
    """A quantity of a purchase."""

    name: str = required("Of what, as the program's formulas name it.")
    quantity: UInt53 = required("How much.")


@strawberry.input(description="One purchase.")
class PurchaseInput:
    """A purchase."""

    amount: MinorUnits = required("What was paid, in minor units.")
    at: Time = required("When it was made.")
    channel: str | None = optional("Where it was made, such as `web`, as the program's conditions name channels.")
    lines: list[PurchaseLineInput] | None = optional("Up to 100 parts of it, which add up to the amount.")
    member: strawberry.ID = required("The member's account.")
    order: str = required("The merchant's order reference, good once per merchant.")
    quantities: list[QuantityInput] | None = optional("Up to 8 quantities that are no money, each name once.")
    tender: str | None = optional("How it was paid, such as `gift_card`, as the program's conditions name tenders.")


@strawberry.input(description="Who receives how many points.")
class RecipientInput:
    """A recipient of a transfer."""

    amount: Points = required("Points, at least 1.")
    to: strawberry.ID = required("The receiving account.")


@strawberry.input(
    description=(
        "What moving points costs in money: `amount` minor units for every `points` points, plus `fixed`, at most "
        "`maximum`. Moving nothing costs nothing."
    )
)
class FeeInput:
    """A fee."""

    amount: MinorUnits = required("Minor units for every `points` points; 6 for 100 points is 0.0006 USD a point.")
    currency: str = required("A settlement currency of the ledger.")
    fixed: MinorUnits | None = optional("Minor units on top; 0 when left out.")
    maximum: MinorUnits | None = optional("The most it comes to, at least 1; no limit when left out.")
    points: Points = required("Points for which `amount` is due.")
    round: MoneyRounding = required("How `amount` times the points moved, divided by `points`, is rounded.")


@strawberry.input(description="A fee of an exchange, and who receives it from the holder.")
class KeptFeeInput(FeeInput):
    """A fee of an agreement."""

    kept_by: strawberry.ID = required("The party of the agreement that receives it.")


@strawberry.input(description="The most points in a period.")
class CapInput:
    """A cap."""

    period: CapPeriod = required("The period.")
    points: Points = required("The most points in each.")


@strawberry.input(
    description="What one party of an agreement owes the other: `amount` minor units for every `points` points."
)
class ClaimTermsInput:
    """The terms of claims."""

    amount: MinorUnits = required("Minor units for every `points` points, at least 1.")
    currency: str = required("A settlement currency of the ledger.")
    debtor: strawberry.ID = required("The party that owes; the other one is the creditor.")
    points: Points = required("Points for which `amount` is owed.")
    round: MoneyRounding = required("How `amount` times the points, divided by `points`, is rounded.")


@strawberry.input(
    description=(
        "Bounds and fee of transfers between holders, at least one of them; what the issuer sends or receives itself "
        "is not bound."
    )
)
class TransferTermsInput:
    """The terms of transfers."""

    fee: FeeInput | None = optional("What the sender owes the issuer for a transfer; nothing when left out.")
    in_cap: CapInput | None = optional("The most a holder receives in a period; no cap when left out.")
    maximum: Points | None = optional("The most points of one transfer; no limit when left out.")
    minimum: Points | None = optional("The fewest points of one transfer; 1 when left out.")
    out_cap: CapInput | None = optional("The most a holder sends in a period; no cap when left out.")
    step: Points | None = optional("Each recipient's points are a multiple of this; 1 when left out.")


@strawberry.input(description="A rate: for every `give` points of one asset, `get` points of the other.")
class RateInput:
    """A rate of exchange."""

    get: Points = required("Points received; a fraction of a point is dropped.")
    give: Points = required("Points given.")


@strawberry.input(description="A bonus: `points` points more for every whole `block` points given.")
class BonusInput:
    """A bonus per block."""

    block: Points = required("Points given that earn the bonus, once for each whole block.")
    points: Points = required("Points received on top.")


@strawberry.input(description="How points of one asset become points of another.")
class ExchangeTermsInput:
    """The terms of an exchange."""

    asset: str = required("The asset that holders give; the actor issues it.")
    bonus: BonusInput | None = optional("Points on top of the rate for large exchanges; none when left out.")
    claim: ClaimTermsInput | None = optional("What one party owes the other for it; nothing when left out.")
    fee: KeptFeeInput | None = optional("What the holder owes for it; nothing when left out.")
    holder_cap: CapInput | None = optional("The most one holder gives in a period; no cap when left out.")
    into: str = required("The asset that holders receive; the partner issues it.")
    maximum: Points | None = optional("The most points given at a time; no limit when left out.")
    minimum: Points | None = optional("The fewest points given at a time; 1 when left out.")
    off_step: OffStep | None = optional("What becomes of an amount off the step; `REFUSE` when left out.")
    rate: RateInput = required("The rate.")
    received: ReceivedPoints = required("What becomes of the points given.")
    step: Points | None = optional("What is given is a multiple of this; 1 when left out.")
    total_cap: CapInput | None = optional("The most that all holders give in a period; no cap when left out.")


@strawberry.input(
    description="How points are spent at a merchant that does not issue them, or donated to a beneficiary."
)
class AcceptanceTermsInput:
    """The terms of an acceptance."""

    asset: str = required("The asset that is accepted; the actor issues it.")
    claim: ClaimTermsInput | None = optional("What one party owes the other for it; nothing when left out.")
    holder_cap: CapInput | None = optional("The most one holder spends in a period; no cap when left out.")
    maximum: Points | None = optional("The most points spent at a time; no limit when left out.")
    minimum: Points | None = optional("The fewest points spent at a time; 1 when left out.")
    received: ReceivedPoints = required("What becomes of the points spent.")
    step: Points | None = optional("What is spent is a multiple of this; 1 when left out.")
    total_cap: CapInput | None = optional("The most that all holders spend in a period; no cap when left out.")


@strawberry.input(description="How a partner gives points of an asset to those who buy from it.")
class EarningTermsInput:
    """The terms of earning."""

    alert_below: Points | None = optional(
        "The parties are alerted when fewer points than this are left of those bought beforehand; for `PREPAID` only."
    )
    asset: str = required("The asset that is given; the actor issues it.")
    billing: EarningBilling = required("How the partner pays for the points.")
    claim: ClaimTermsInput | None = optional(
        "What is owed: for each issue of points when `POSTPAID`, which needs it; for each block bought when `PREPAID`."
    )
    total_cap: CapInput | None = optional("The most the partner issues in a period; no cap when left out.")


@strawberry.input(description="What merchants agree on: exactly one.", one_of=True)
class AgreementTermsInput:
    """The terms of an agreement."""

    exchange: ExchangeTermsInput | None = optional("Points of the actor become points of the partner.")
    acceptance: AcceptanceTermsInput | None = optional("Points of the actor are spent at, or donated to, the partner.")
    earning: EarningTermsInput | None = optional("The partner gives points of the actor to those who buy from it.")


@strawberry.input(description="A line of a purchase, or part of it, to be refunded.")
class RefundedLineInput:
    """A refunded line."""

    amount: MinorUnits = required("What is paid back of it, in minor units, at least 1.")
    line: int = required("Which line of the purchase it is, from 0.")


@strawberry.input(description="A purchase, or part of it, to be refunded.")
class RefundedPurchaseInput:
    """A refunded purchase."""

    amount: MinorUnits = required("What is paid back, in minor units, at least 1.")
    lines: list[RefundedLineInput] | None = optional(
        "Of which lines, which add up to the amount; of the last lines when left out."
    )
    order: str = required("The order under which the merchant recorded the purchase.")


@strawberry.input(description="A redemption or capture, or part of it, to be refunded.")
class RefundedRedemptionInput:
    """A refunded redemption or capture."""

    amount: Points = required("Points that return to the holder, at least 1.")
    operation: Hash = required("The operation id of the redemption or capture.")


@strawberry.input(description="An exchange, or part of it, to be refunded.")
class RefundedExchangeInput:
    """A refunded exchange."""

    amount: Points = required("Points of the asset given that return to the holder, at least 1.")
    operation: Hash = required("The operation id of the exchange.")


@strawberry.input(description="What is refunded: exactly one.", one_of=True)
class RefundedInput:
    """What a refund undoes."""

    purchase: RefundedPurchaseInput | None = optional("A purchase: the points it gave are taken back.")
    redemption: RefundedRedemptionInput | None = optional("A redemption or capture: the points spent return.")
    exchange: RefundedExchangeInput | None = optional("An exchange: each party's points return.")


@strawberry.input(description="What one merchant is to pay another once their debts are netted.")
class PaymentInput:
    """A payment of a netting."""

    amount: MinorUnits = required("Minor units, at least 1.")
    creditor: strawberry.ID = required("Who receives it.")
    debtor: strawberry.ID = required("Who pays it.")


@strawberry.input(description="A claim: the `index`-th, from 0, that entry `seq` made.")
class ClaimInput:
    """A claim."""

    index: int = required("Which of the entry's claims it is, from 0.")
    seq: UInt53 = required("Sequence number of the entry that made it.")


@strawberry.input(description="A purchase: by the merchant that recorded it, and its order reference there.")
class PurchaseRefInput:
    """A purchase that is named."""

    merchant: strawberry.ID = required("The merchant.")
    order: str = required("The order.")


@strawberry.input(description="A voucher: the `index`-th, from 0, that entry `seq` gave.")
class VoucherInput:
    """A voucher that is named."""

    index: int = required("Which of the entry's vouchers it is, from 0.")
    seq: UInt53 = required("Sequence number of the entry that gave it.")
