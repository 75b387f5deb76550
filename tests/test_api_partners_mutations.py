"""Mutations between merchants: agreements, exchange, holds, refunds, clearing and freezing over the API."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from ledger.encoding import account_id
from ledger.entries import decode_entry
from ledger.operations import (
    Agree,
    Allot,
    Capture,
    Correct,
    Dispute,
    EndAgreement,
    Exchange,
    Freeze,
    Grant,
    Hold,
    Net,
    RecordPurchases,
    Redeem,
    Refund,
    Release,
    ResolveDispute,
    Settle,
    SignedOperation,
    Transfer,
    Unfreeze,
)
from ledger.receipt import decode_receipt
from ledger.terms import (
    AcceptanceTerms,
    Bonus,
    Cap,
    ClaimRef,
    ClaimTerms,
    EarningTerms,
    ExchangeTerms,
    Fee,
    KeptFee,
    Payment,
    Purchase,
    Rate,
    Recipient,
    RefundedExchange,
    RefundedPurchase,
    RefundedRedemption,
    TransferTerms,
)
from ledger.wallet import Wallet
from tests.postgres import fresh_database
from tests.service import Service, running, signed_text
from tests.worlds import START, World, make_program, pay

SOON, TOMORROW = "2026-03-02T12:00:00.500Z", "2026-03-03T12:00:00.000Z"
LATER, SOONER = "2026-06-01T00:00:00.000Z", "2026-05-01T00:00:00.000Z"


class Partners:
    """A bakery that issues STAR and a cafe that issues BEAN, which take each other's points, and their customers.

    Alice has 100,000 STAR, of which 5,000 and 300 are on hold for the cafe; she has spent 1,000 there.
    """

    def __init__(self, world: World, service: Service) -> None:
        self.world, self.service = world, service
        self.bakery, self.cafe = world.add_merchant("Bakery"), world.add_merchant("Cafe")
        year = Cap(period="year", points=150_000)
        world.add_asset(
            self.bakery,
            "STAR",
            make_program(approval_above=1_000_000, refunds="negative", returned_lot_days=30),
            transfer_terms=TransferTerms(
                fee=Fee(amount=1, currency="USD", fixed=30, points=1, round="down"),
                in_cap=Cap(period="year", points=300_000),
                maximum=30_000,
                minimum=1_000,
                out_cap=year,
                step=1_000,
            ),
        )
        world.add_asset(self.cafe, "BEAN", make_program())
        self.alice, self.bob, self.carol, self.dave = world.add_members(4)
        world.grant(self.bakery, "STAR", self.alice, 100_000)
        world.grant(self.cafe, "BEAN", self.alice, 2_000)
        world.grant(self.bakery, "STAR", self.dave, 10)
        claim = ClaimTerms(amount=1, currency="USD", debtor=str(self.bakery.account), points=2, round="down")
        fee = KeptFee(
            amount=6, currency="USD", kept_by=str(self.bakery.account), maximum=9_900, points=100, round="half_up"
        )
        exchange = ExchangeTerms(
            asset="STAR",
            bonus=Bonus(block=60_000, points=5_000),
            claim=claim,
            fee=fee,
            into="BEAN",
            maximum=70_000,
            minimum=3_000,
            rate=Rate(get=1, give=3),
            received="retired",
            step=1_000,
            total_cap=Cap(period="ever", points=75_000),
        )
        acceptance = AcceptanceTerms(asset="STAR", claim=claim, received="retired")
        earning = EarningTerms(alert_below=10, asset="STAR", billing="prepaid")
        back = AcceptanceTerms(asset="BEAN", received="kept")
        terms = [(self.bakery, self.cafe, t) for t in (exchange, acceptance, earning)]
        terms.append((self.cafe, self.bakery, back))
        world.record(*(self.agree(issuer, partner, t) for issuer, partner, t in terms))
        world.record(self.allot(100, "block-1"))
        self.redemption = self.redeem(1_000)
        self.disputed = self.redeem(20)
        self.hold = self.place(5_000)
        self.other_hold = self.place(300)
        self.lapsed_hold = self.place(10, self.dave, until=SOON)
        first, second, *_ = world.record(self.redemption, self.disputed, self.hold, self.other_hold, self.lapsed_hold)
        self.claim, self.disputed_claim = (ClaimRef(index=0, seq=entry.seq) for entry in (first, second))
        world.record(
            self.dispute(self.disputed_claim),
            self.operator.sign(Freeze, account=self.carol.account, reason="lost_keys"),
            self.bakery.sign(
                RecordPurchases,
                asset="STAR",
                currency="USD",
                purchases=(Purchase(amount=50_000, at=START, member=str(self.bob.account), order="o1"),),
            ),
        )
        world.clock.advance(ms=1_000)
        self.exchanged, self.placed = self.exchange(60_000, 25_000, maximum_fee=3_600), self.place(40)

    @property
    def operator(self) -> Wallet:
        return self.world.operator

    def agree(self, issuer: Wallet, partner: Wallet, terms: Any, version: int = 1, **fields: Any) -> SignedOperation:
        """A version of an agreement, signed by both."""
        given = {"notice_days": 30, "partner": partner.account, "starts": START, "version": version, **fields}
        return issuer.sign(Agree, co_signers=partner.keys, terms=terms, **given)

    def allot(self, points: int, reference: str) -> SignedOperation:
        """Points of STAR sold to the cafe."""
        given = {"partner": self.cafe.account, "points": points, "reference": reference}
        return self.bakery.sign(Allot, co_signers=self.cafe.keys, asset="STAR", **given)

    def redeem(self, amount: int) -> SignedOperation:
        """STAR that alice spends at the cafe."""
        return self.alice.sign(Redeem, asset="STAR", amount=amount, merchant=self.cafe.account)

    def place(self, amount: int, holder: Wallet | None = None, until: str = TOMORROW) -> SignedOperation:
        """STAR that a holder, alice if none is named, sets aside for the cafe."""
        given: dict[str, Any] = {"amount": amount, "merchant": self.cafe.account, "until": until}
        return (holder or self.alice).sign(Hold, asset="STAR", **given)

    def exchange(self, amount: int, least: int = 1, **fields: Any) -> SignedOperation:
        """STAR that alice turns into BEAN."""
        given = {"maximum_fee": 9_900, **fields}
        return self.alice.sign(Exchange, asset="STAR", into="BEAN", amount=amount, minimum_out=least, **given)

    def held(self, placed: SignedOperation, status: str, amount: int, captured: int, remaining: int) -> dict[str, Any]:
        """A hold as payloads tell it."""
        return {
            "id": account_id("hld", placed.op_id),
            "status": status,
            "amount": amount,
            "captured": captured,
            "remaining": remaining,
        }

    def claimed(self, amount: int, debtor: Wallet, creditor: Wallet, agreement: str) -> dict[str, Any]:
        """A claim as payloads tell it."""
        parties = {"debtorId": debtor.account, "creditorId": creditor.account}
        return {**parties, "currency": "USD", "amount": amount, "agreement": agreement, "status": "OPEN"}

    def capture(self, amount: int, **fields: Any) -> SignedOperation:
        """STAR on hold that the cafe takes."""
        return self.cafe.sign(Capture, amount=amount, hold=account_id("hld", self.hold.op_id), **fields)

    def refund(self, of: Any, merchant: Wallet | None = None, reference: str = "refund-1") -> SignedOperation:
        """What a merchant, the cafe if none is named, gives back."""
        return (merchant or self.cafe).sign(Refund, asset="STAR", of=of, reference=reference)

    def settle(self, amount: int, payment: str) -> SignedOperation:
        """What the cafe received from the bakery."""
        return self.cafe.sign(Settle, amount=amount, currency="USD", debtor=self.bakery.account, payment=payment)

    def end(self, agreement: str, ends: str) -> SignedOperation:
        """The cafe's end of an agreement."""
        return self.cafe.sign(EndAgreement, agreement=agreement, ends=ends)

    def back(self, rate: Rate) -> ExchangeTerms:
        """Terms by which BEAN become STAR."""
        return ExchangeTerms(asset="BEAN", into="STAR", rate=rate, received="retired")

    def grant(self, amount: int) -> SignedOperation:
        """STAR that the cafe gives to alice."""
        given: dict[str, Any] = {
            "activity": "goodwill",
            "asset": "STAR",
            "member": self.alice.account,
            "reference": "g1",
        }
        return self.cafe.sign(Grant, amount=amount, **given)

    def dispute(self, claim: ClaimRef) -> SignedOperation:
        """The bakery's dispute of what it owes the cafe."""
        return self.bakery.sign(Dispute, claim=claim, reason="amount")

    def send(self, *amounts: int, **fields: Any) -> SignedOperation:
        """STAR that alice sends to bob and others."""
        receivers = (self.bob, self.carol)
        recipients = tuple(
            Recipient(amount=amount, to=str(receiver.account))
            for amount, receiver in zip(amounts, receivers, strict=False)
        )
        return self.alice.sign(Transfer, asset="STAR", recipients=recipients, **{"maximum_fee": 10**6, **fields})


Make = Callable[[Partners], SignedOperation]

CLAIMS = "claims { debtorId creditorId currency amount agreement status }"
HOLD = "hold { id status amount captured remaining }"
OPERATIONS: dict[str, tuple[Make, str, Callable[[Partners], dict[str, Any]]]] = {
    "exchange": (
        lambda c: c.exchanged,
        f"pointsGiven pointsOut feeAmount feeCurrency balance {CLAIMS}",
        lambda c: {
            "pointsGiven": 60_000,
            "pointsOut": 25_000,
            "feeAmount": 3_600,
            "feeCurrency": "USD",
            "balance": 33_680,
            "claims": [
                c.claimed(30_000, c.bakery, c.cafe, "STAR>BEAN"),
                c.claimed(3_600, c.alice, c.bakery, "STAR>BEAN"),
            ],
        },
    ),
    "hold": (
        lambda c: c.placed,
        f"balance {HOLD}",
        lambda c: {"balance": 33_640, "hold": c.held(c.placed, "OPEN", 40, 0, 40)},
    ),
    "capture": (
        lambda c: c.capture(2_000, reference="bill-1"),
        f"{HOLD} {CLAIMS}",
        lambda c: {
            "hold": c.held(c.hold, "OPEN", 5_000, 2_000, 3_000),
            "claims": [c.claimed(1_000, c.bakery, c.cafe, f"STAR@{c.cafe.account}")],
        },
    ),
    "refund": (
        lambda c: c.refund(RefundedRedemption(amount=400, operation=c.redemption.op_id.hex())),
        f"pointsReturned pointsTakenBack {CLAIMS}",
        lambda c: {
            "pointsReturned": 400,
            "pointsTakenBack": 0,
            "claims": [c.claimed(200, c.cafe, c.bakery, f"STAR@{c.cafe.account}")],
        },
    ),
    "refund of a purchase": (
        lambda c: c.refund(RefundedPurchase(amount=20_000, order="o1"), c.bakery),
        f"pointsReturned pointsTakenBack {CLAIMS}",
        lambda c: {"pointsReturned": 0, "pointsTakenBack": 200, "claims": []},
    ),
    "refund of an exchange": (
        lambda c: c.refund(RefundedExchange(amount=3_000, operation=c.exchanged.op_id.hex()), reference="refund-2"),
        f"pointsReturned pointsTakenBack {CLAIMS}",
        lambda c: {
            "pointsReturned": 3_000,
            "pointsTakenBack": 6_000,
            "claims": [
                c.claimed(1_500, c.cafe, c.bakery, "STAR>BEAN"),
                c.claimed(180, c.bakery, c.alice, "STAR>BEAN"),
            ],
        },
    ),
    "release": (
        lambda c: c.cafe.sign(Release, hold=account_id("hld", c.other_hold.op_id)),
        HOLD,
        lambda c: {"hold": c.held(c.other_hold, "RELEASED", 300, 0, 0)},
    ),
    "correct": (
        lambda c: c.cafe.sign(
            Correct, asset="BEAN", amount=-4, member=c.alice.account, reason="error", reference="fix-1"
        ),
        "claims { id }",
        lambda c: {"claims": []},
    ),
    "resolve_dispute": (
        lambda c: c.bakery.sign(ResolveDispute, claim=c.disputed_claim, outcome="stands"),
        "claim { id status disputedById }",
        lambda c: {
            "claim": {"id": f"clm_{c.disputed_claim.seq}_0", "status": "OPEN", "disputedById": c.bakery.account},
        },
    ),
    "dispute": (
        lambda c: c.dispute(c.claim),
        "claim { id status disputedById }",
        lambda c: {
            "claim": {"id": f"clm_{c.claim.seq}_0", "status": "DISPUTED", "disputedById": c.bakery.account},
        },
    ),
    "settle": (lambda c: c.settle(10, "bank-1"), "owedAmount", lambda _: {"owedAmount": 31_000}),
    "net": (
        lambda c: c.operator.sign(
            Net,
            currency="USD",
            merchants=(str(c.bakery.account), str(c.cafe.account)),
            payments=(Payment(amount=29_300, creditor=str(c.cafe.account), debtor=str(c.bakery.account)),),
            through=START[:10],
        ),
        "netting { through merchantIds payments { debtorId creditorId amount unpaid } }",
        lambda c: {
            "netting": {
                "through": START[:10],
                "merchantIds": [c.bakery.account, c.cafe.account],
                "payments": [
                    {
                        "debtorId": c.bakery.account,
                        "creditorId": c.cafe.account,
                        "amount": 29_300,
                        "unpaid": 29_300,
                    }
                ],
            }
        },
    ),
    "agree": (
        lambda c: c.agree(c.cafe, c.bakery, AcceptanceTerms(asset="BEAN", received="retired"), 2, ends=LATER),
        "agreement { name version ends terms { asset ... on AcceptanceTerms { received } } }",
        lambda c: {
            "agreement": {
                "name": f"BEAN@{c.bakery.account}",
                "version": 2,
                "ends": LATER,
                "terms": {"asset": "BEAN", "received": "RETIRED"},
            }
        },
    ),
    "end_agreement": (
        lambda c: c.end(f"BEAN@{c.bakery.account}", SOONER),
        "agreement { version ends }",
        lambda _: {"agreement": {"version": 2, "ends": SOONER}},
    ),
    "allot": (
        lambda c: c.allot(7, "block-2"),
        "allotment { allotted remaining alertBelow }",
        lambda _: {"allotment": {"allotted": 107, "remaining": 107, "alertBelow": 10}},
    ),
    "freeze": (
        lambda c: c.operator.sign(Freeze, account=c.bob.account, reason="stolen_points"),
        "account { frozen { reason } }",
        lambda _: {"account": {"frozen": {"reason": "STOLEN_POINTS"}}},
    ),
    "unfreeze": (
        lambda c: c.operator.sign(Unfreeze, account=c.carol.account, reason="resolved"),
        "account { frozen { reason } }",
        lambda _: {"account": {"frozen": None}},
    ),
}
"""An operation of each kind that is recorded, in an order in which they can be; what to ask of its payload, and get."""

NEWS = ["account", "agreement", "allotment", "claim", "hold", "netting", "owedAmount"]
"""Fields that tell what is so now."""


class Told(Struct, frozen=True):
    """A recorded operation and the payload of its typed mutation."""

    signed: SignedOperation
    payload: Any


class Recorded(Struct, frozen=True):
    """Partners after every operation of the table was recorded in it."""

    partners: Partners
    told: dict[str, Told]

    @property
    def service(self) -> Service:
        return self.partners.service


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """One on each kind of database for all tests here: nothing is recorded in it afterwards."""
    folder: Path = tmp_path_factory.mktemp("partners")
    with ExitStack() as stack:
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        world = stack.enter_context(World(url))
        service = stack.enter_context(running(world, folder))
        partners = Partners(world, service)
        told = {}
        for kind, (make, more, _) in OPERATIONS.items():
            signed = make(partners)
            told[kind] = Told(signed, service.submit(signed, f"receipt {more}"))
        yield Recorded(partners, told)


SUBMIT = """mutation($text: SignedOperation!) { operationSubmit(input: {operation: $text}) {
  entry { id seq hash operationId kind document } replayed userErrors { code path }
} }"""


@pytest.mark.parametrize("kind", OPERATIONS)
def test_typed_input_is_the_document_that_was_signed(kind: str, recorded: Recorded) -> None:
    """It is recorded as it was signed; sent again, typed or as text, it is answered with the same entry."""
    signed, payload = recorded.told[kind].signed, recorded.told[kind].payload
    assert payload["userErrors"] == []
    entry = payload["entry"]
    assert (entry["operationId"], entry["kind"]) == (signed.op_id.hex(), signed.op.KIND.upper())
    assert decode_entry(entry["document"].encode()).op == signed.op
    assert decode_receipt(payload["receipt"]).data == entry["document"].encode()
    again = recorded.service.submit(signed)
    as_text = recorded.service.query(SUBMIT, {"text": signed_text(signed)})["operationSubmit"]
    for answer in (again, as_text):
        assert (answer["replayed"], answer["entry"], answer["userErrors"]) == (True, entry, [])


@pytest.mark.parametrize("kind", OPERATIONS)
def test_payload_tells_what_came_of_it(kind: str, recorded: Recorded) -> None:
    """What a till, a wallet or a back office wants to know at once, and the money that is owed by it."""
    expected = OPERATIONS[kind][2](recorded.partners)
    payload = recorded.told[kind].payload
    assert {name: payload[name] for name in expected} == expected


@pytest.mark.parametrize("kind", OPERATIONS)
def test_old_document_is_told_nothing_of_now(kind: str, recorded: Recorded) -> None:
    """Sent again, it is answered with what is in its entry, and with nothing of what became of it."""
    more = OPERATIONS[kind][1]
    first, again = recorded.told[kind].payload, recorded.service.submit(recorded.told[kind].signed, more)
    for name in set(first) - {"entry", "receipt", "replayed", "userErrors"}:
        kept = name not in {*NEWS, "balance", "claims"}
        assert again[name] == (first[name] if kept else [] if name == "claims" else None)


REFUSALS: dict[str, tuple[Make, str, list[str], dict[str, Any]]] = {
    "OFF_STEP": (lambda c: c.exchange(3_500), "OffStepError", ["amount"], {"step": 1_000}),
    "OFF_STEP of a transfer": (
        lambda c: c.send(1_000, 1_500),
        "OffStepError",
        ["recipients", "1", "amount"],
        {"step": 1_000},
    ),
    "BELOW_MINIMUM": (lambda c: c.exchange(2_000), "BelowMinimumError", ["amount"], {"minimum": 3_000}),
    "ABOVE_MAXIMUM": (lambda c: c.exchange(71_000), "AboveMaximumError", ["amount"], {"maximum": 70_000}),
    "ABOVE_MAXIMUM of a transfer": (
        lambda c: c.send(16_000, 15_000),
        "AboveMaximumError",
        ["recipients"],
        {"maximum": 30_000},
    ),
    "CAP_EXCEEDED": (
        lambda c: c.exchange(16_000),
        "CapExceededError",
        ["amount"],
        {"capPoints": 75_000, "usedPoints": 60_000, "period": "EVER"},
    ),
    "OUTCOME_TOO_SMALL": (
        lambda c: c.exchange(3_000, 1_001),
        "OutcomeTooSmallError",
        ["minimumOut"],
        {"outcomePoints": 1_000},
    ),
    "FEE_ABOVE_LIMIT": (
        lambda c: c.exchange(3_000, maximum_fee=179),
        "FeeAboveLimitError",
        ["maximumFee"],
        {"feeAmount": 180, "currency": "USD"},
    ),
    "FEE_ABOVE_LIMIT of a transfer": (
        lambda c: c.send(1_000, maximum_fee=0),
        "FeeAboveLimitError",
        ["maximumFee"],
        {"feeAmount": 1_030, "currency": "USD"},
    ),
    "ALLOTMENT_USED_UP": (
        lambda c: c.grant(108),
        "AllotmentUsedUpError",
        ["amount"],
        {"requiredPoints": 108, "remainingPoints": 107},
    ),
    "HOLD_EXCEEDED": (lambda c: c.capture(3_001), "HoldExceededError", ["amount"], {"remainingPoints": 3_000}),
    "HOLD_LAPSED": (
        lambda c: c.cafe.sign(Capture, amount=1, hold=account_id("hld", c.lapsed_hold.op_id)),
        "HoldLapsedError",
        ["hold"],
        {"until": SOON},
    ),
    "REFUND_TOO_LARGE": (
        lambda c: c.refund(RefundedRedemption(amount=601, operation=c.redemption.op_id.hex()), reference="refund-3"),
        "RefundTooLargeError",
        ["of", "redemption", "amount"],
        {"refundablePoints": 600, "refundableAmount": None},
    ),
    "REFUND_TOO_LARGE of a purchase": (
        lambda c: c.refund(RefundedPurchase(amount=30_001, order="o1"), c.bakery, "refund-2"),
        "RefundTooLargeError",
        ["of", "purchase", "amount"],
        {"refundablePoints": None, "refundableAmount": 30_000},
    ),
    "SETTLED_TOO_MUCH": (
        lambda c: c.settle(29_301, "bank-2"),
        "SettledTooMuchError",
        ["amount"],
        {"owedAmount": 29_300},
    ),
    "NOTICE_TOO_SHORT": (
        lambda c: c.end(f"STAR@{c.cafe.account}", "2026-04-01T12:00:00.999Z"),
        "NoticeTooShortError",
        ["ends"],
        {"earliestEnd": "2026-04-01T12:00:01.000Z"},
    ),
    "PAYING_LOOP": (
        lambda c: c.agree(c.cafe, c.bakery, c.back(Rate(get=13, give=5))),
        "PayingLoopError",
        ["terms", "exchange", "rate"],
        {"loop": ["BEAN", "STAR", "BEAN"]},
    ),
    "REFERENCE_EXISTS": (lambda c: c.settle(1, "bank-1"), "ReferenceUsedError", ["payment"], {}),
    "VERSION_CONFLICT": (
        lambda c: c.agree(c.cafe, c.bakery, c.back(Rate(get=1, give=1)), 2),
        "VersionConflictError",
        ["version"],
        {"nextVersion": 1},
    ),
    "NO_AGREEMENT": (
        lambda c: c.alice.sign(Exchange, asset="BEAN", into="STAR", amount=1, minimum_out=1),
        "OperationRefusedError",
        ["into"],
        {},
    ),
    "ACCOUNT_FROZEN": (
        lambda c: pay(c.bob, "STAR", 1, c.alice),
        "OperationRefusedError",
        ["actor"],
        {},
    ),
    "ALREADY_FROZEN": (
        lambda c: c.operator.sign(Freeze, account=c.bob.account, reason="fraud"),
        "OperationRefusedError",
        ["account"],
        {},
    ),
    "UNKNOWN_ORIGINAL": (
        lambda c: c.refund(RefundedExchange(amount=1, operation="0" * 64)),
        "OperationRefusedError",
        ["of", "exchange", "operation"],
        {},
    ),
    "CLAIM_CLOSED": (lambda c: c.dispute(c.disputed_claim), "OperationRefusedError", ["claim"], {}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal_tells_its_details(name: str, recorded: Recorded) -> None:
    """The type, the field in the input's own spelling, and what a program needs to do better."""
    make, kind, path, details = REFUSALS[name]
    signed = make(recorded.partners)
    size = recorded.service.query("{ ledger { size } }")
    payload = recorded.service.submit(signed)
    assert payload["entry"] is None
    (error,) = payload["userErrors"]
    assert (error["code"], error["__typename"], error["path"]) == (name.partition(" ")[0], kind, ["input", *path])
    assert {field: error[field] for field in details} == details
    assert recorded.service.query("{ ledger { size } }") == size


def test_path_of_a_document_has_no_way(recorded: Recorded) -> None:
    """Submitted as text, the refusal's path is the document's own."""
    signed = REFUSALS["REFUND_TOO_LARGE"][0](recorded.partners)
    (error,) = recorded.service.query(SUBMIT, {"text": signed_text(signed)})["operationSubmit"]["userErrors"]
    assert error == {"code": "REFUND_TOO_LARGE", "path": ["of", "amount"]}


PREVIEW = """query($input: OperationPreviewInput!) { operationPreview(input: $input) {
  document balance postings { asset amount } userErrors { code path }
} }"""


def test_preview_tells_what_an_exchange_would_do(recorded: Recorded) -> None:
    """Points of both assets, the claim and the fee."""
    c = recorded.partners
    fields = {"actor": c.alice.account, "asset": "STAR", "into": "BEAN", "amount": 3_000, "minimumOut": 1_000}
    token = c.service.sign_in(c.alice)
    answer = c.service.query(PREVIEW, {"input": {"exchange": {**fields, "maximumFee": 180}}}, token)["operationPreview"]
    assert answer["userErrors"] == []
    assert answer["balance"] == 34_340
    moved = {(leg["asset"], leg["amount"]) for leg in answer["postings"]}
    claims = {("USD", -1_500), ("USD", 1_500), ("USD", -180), ("USD", 180)}
    assert moved == {("STAR", -3_000), ("STAR", 3_000), ("BEAN", -1_000), ("BEAN", 1_000)} | claims
    answer = c.service.query(PREVIEW, {"input": {"exchange": fields}}, token)["operationPreview"]
    assert answer["userErrors"] == [{"code": "FEE_ABOVE_LIMIT", "path": ["input", "maximumFee"]}]


def test_preview_names_the_way_that_was_chosen(recorded: Recorded) -> None:
    """As the mutation does."""
    c = recorded.partners
    of = {"redemption": {"amount": 601, "operation": c.redemption.op_id.hex()}}
    fields = {"actor": c.cafe.account, "asset": "STAR", "of": of, "reference": "refund-9"}
    answer = c.service.query(PREVIEW, {"input": {"refund": fields}}, c.service.sign_in(c.cafe))["operationPreview"]
    assert answer["userErrors"] == [{"code": "REFUND_TOO_LARGE", "path": ["input", "of", "redemption", "amount"]}]


def test_preview_of_anothers_refund_is_not_told(recorded: Recorded) -> None:
    """Nor to the issuer of the asset it names: what an exchange gave, and would take back, is the other's asset."""
    c = recorded.partners
    of = {"exchange": {"amount": 3_000, "operation": c.exchanged.op_id.hex()}}
    fields = {"actor": c.cafe.account, "asset": "STAR", "of": of, "reference": "refund-10"}
    told = {}
    for wallet in (c.bakery, c.cafe):
        variables = {"input": {"refund": fields}}
        told[wallet.account] = c.service.query(PREVIEW, variables, c.service.sign_in(wallet))["operationPreview"]
    assert told[c.bakery.account]["postings"] is None
    assert told[c.bakery.account]["userErrors"] == []
    assert told[c.cafe.account]["postings"] or told[c.cafe.account]["userErrors"]


ASSET = """query { asset(code: "STAR") {
  transferTerms { fee { amount fixed maximum points round currency } inCap { period points } maximum minimum step }
  program { approvalAbove refunds returnedLotDays }
} }"""


def test_asset_tells_its_terms(recorded: Recorded) -> None:
    """Those of transfers, and what its program says about approval and refunds."""
    asset = recorded.service.query(ASSET)["asset"]
    fee = {"amount": 1, "fixed": 30, "maximum": None, "points": 1, "round": "DOWN", "currency": "USD"}
    assert asset["transferTerms"] == {
        "fee": fee,
        "inCap": {"period": "YEAR", "points": 300_000},
        "maximum": 30_000,
        "minimum": 1_000,
        "step": 1_000,
    }
    assert asset["program"] == {"approvalAbove": 1_000_000, "refunds": "NEGATIVE", "returnedLotDays": 30}


def test_account_tells_those_concerned_that_it_is_frozen(recorded: Recorded) -> None:
    """Itself and the operator, with the entry; not a merchant whose customer it is."""
    c = recorded.partners
    query = f"""{{ account(id: "{c.bob.account}") {{ frozen {{ reason entryId }} approvalThreshold }} }}"""
    frozen = {"reason": "STOLEN_POINTS", "entryId": recorded.told["freeze"].payload["entry"]["id"]}
    for wallet, told in ((c.bob, frozen), (c.operator, frozen), (c.bakery, None)):
        account = c.service.query(query, token=c.service.sign_in(wallet))["account"]
        assert account == {"frozen": told, "approvalThreshold": None}
