"""Partners on a small ledger: every kind of operation between merchants, and a row in every table they lead to.

:func:`trade` plays one story in a :class:`~tests.worlds.World`: a mint and a bakery agree that points of one become
points of the other, are spent at the other and given by the other; what they owe each other for it is disputed, netted
and settled; a purchase, a redemption and an exchange are refunded, and an account is frozen.
"""

from typing import Any

from ledger.clearing import positions_of, propose_payments
from ledger.encoding import account_id, format_time
from ledger.operations import (
    Agree,
    Allot,
    Capture,
    Correct,
    Dispute,
    EndAgreement,
    Exchange,
    Freeze,
    Hold,
    Net,
    RecordPurchases,
    Redeem,
    Refund,
    Release,
    ResolveDispute,
    Settle,
    SignedOperation,
    Unfreeze,
)
from ledger.program_terms import ExpiresAfterDays
from ledger.sequencer import Recorded
from ledger.state import Claim, Touches
from ledger.terms import (
    AcceptanceTerms,
    Cap,
    ClaimRef,
    ClaimTerms,
    EarningTerms,
    ExchangeTerms,
    Fee,
    KeptFee,
    Purchase,
    Rate,
    RefundedExchange,
    RefundedPurchase,
    RefundedRedemption,
    TransferTerms,
    Value,
)
from ledger.wallet import Wallet
from tests.worlds import World, make_program, pay

HOLD_MS = 3_600_000


def hold_of(recorded: Recorded) -> str:
    """The hold that an operation placed."""
    return account_id("hld", recorded.op_id)


def claims_of(world: World, seq: int) -> list[Claim]:
    """The claims that an entry made."""
    with world.store.read() as connection:
        needs = Touches.none()
        needs.records.update(("claims", (seq, index)) for index in range(10))
        return sorted(world.store.load_state(connection, needs).claims, key=lambda claim: claim.index)


def owe_usd(debtor: Wallet, amount: int = 1, points: int = 1) -> ClaimTerms:
    """What one partner owes the other: minor units for points."""
    return ClaimTerms(amount=amount, currency="USD", debtor=str(debtor.account), points=points, round="half_up")


def agree(world: World, issuer: Wallet, partner: Wallet, version: int = 1, **fields: Any) -> SignedOperation:
    """A version of an agreement in force from now on, signed by both."""
    fields = {"notice_days": 0, "starts": format_time(world.clock.now_ms), **fields}
    return issuer.sign(Agree, co_signers=partner.keys, partner=partner.account, version=version, **fields)


def net(world: World, *merchants: Wallet, currency: str = "USD") -> SignedOperation:
    """A netting of all that merchants owe each other by now."""
    through = format_time(world.clock.now_ms)[:10]
    accounts = tuple(str(merchant.account) for merchant in merchants)
    with world.store.read() as connection:
        needs = Touches.none()
        needs.groups.add(("obligations", (currency,)))
        obligations = list(world.store.load_state(connection, needs).obligations)
    payments = propose_payments(positions_of(obligations, accounts, through))
    return world.operator.sign(Net, currency=currency, merchants=accounts, payments=payments, through=through)


def buy(shop: Wallet, asset: str, member: Wallet, order: str, amount: int, **fields: Any) -> SignedOperation:
    """A purchase, in minor units of USD."""
    at = fields.get("at", shop.build(RecordPurchases, asset=asset, currency="USD", purchases=()).at)
    purchase = Purchase(amount=amount, at=at, member=str(member.account), order=order)
    return shop.sign(RecordPurchases, asset=asset, currency="USD", purchases=(purchase,))


def trade(world: World) -> dict[str, Any]:
    """The whole story; the entries and accounts of it, by what tests call them."""
    mint, bakery, cast = _found(world)
    ann, ben = cast["ann"], cast["ben"]
    names: dict[str, Any] = {"mint": mint.account, "bakery": bakery.account, "ann": ann.account, "ben": ben.account}
    names |= {"ann_keys": ann.keys, "ben_keys": ben.keys, "mint_keys": mint.keys, "bakery_keys": bakery.keys}
    names |= _agree(world, mint, bakery)
    (bought,) = world.record(buy(mint, "COIN", ann, "c-1", 100_000))
    (moved,) = world.record(pay(ann, "COIN", 20, ben, maximum_fee=10))
    names |= {"coin_purchase": bought.seq, "coin_transfer": moved.seq}
    names |= _spend(world, mint, bakery, ann)
    names |= _give(world, mint, bakery, ann)
    names |= _clear(world, mint, bakery, names)
    names |= _freeze(world, ann, ben)
    (ended,) = world.record(bakery.sign(EndAgreement, agreement=f"COIN+{bakery.account}", ends=in_days(world, 1)))
    return names | {"end_agreement": ended.seq}


def in_days(world: World, days: int) -> str:
    """The time so many days from now."""
    return format_time(world.clock.now_ms + days * 86_400_000)


def _found(world: World) -> tuple[Wallet, Wallet, dict[str, Wallet]]:
    """Two merchants with points of their own, one of which needs two keys for what matters, and two members."""
    mint, bakery = world.add_merchant("Mint"), world.add_merchant("Bakery")
    second = world.make_key()
    world.record(mint.replace_keys([*mint.keys, second], approval_threshold=2))
    mint = world.wallet(mint.account, *mint.keys, second)
    fee = Fee(amount=1, currency="USD", points=10, round="up")
    terms = TransferTerms(fee=fee, in_cap=Cap(period="year", points=500), out_cap=Cap(period="day", points=500))
    program = make_program(approval_above=5_000, refunds="negative", returned_lot_days=5)
    value = Value(amount=1, currency="USD", points=1)
    world.add_asset(mint, "COIN", program, transfer_terms=terms, value=value)
    world.add_asset(bakery, "BEAN", make_program(expiry=ExpiresAfterDays(count=10)))
    ann, ben = world.add_members(2)
    return mint, bakery, {"ann": ann, "ben": ben}


def _agree(world: World, mint: Wallet, bakery: Wallet) -> dict[str, Any]:
    keeper = str(bakery.account)
    exchange = ExchangeTerms(
        asset="COIN",
        claim=owe_usd(mint),
        fee=KeptFee(amount=1, currency="USD", kept_by=keeper, points=100, round="up"),
        holder_cap=Cap(period="month", points=10_000),
        into="BEAN",
        rate=Rate(get=1, give=2),
        received="retired",
        total_cap=Cap(period="ever", points=100_000),
    )
    acceptance = AcceptanceTerms(
        asset="COIN", claim=owe_usd(bakery), holder_cap=Cap(period="day", points=900), received="kept"
    )
    earning = EarningTerms(alert_below=50, asset="COIN", billing="prepaid", claim=owe_usd(bakery, 2))
    agreed = world.record(*(agree(world, mint, bakery, terms=terms) for terms in (exchange, acceptance, earning)))
    return {"agree": agreed[0].seq, "agree_acceptance": agreed[1].seq, "agree_earning": agreed[2].seq}


def _spend(world: World, mint: Wallet, bakery: Wallet, ann: Wallet) -> dict[str, Any]:
    """Exchange, redeem and hold; capture, release, let a hold lapse; refund what was spent."""
    (exchanged,) = world.record(
        ann.sign(Exchange, asset="COIN", amount=100, into="BEAN", maximum_fee=1, minimum_out=50)
    )
    (redeemed,) = world.record(ann.sign(Redeem, amount=80, asset="COIN", merchant=bakery.account, reference="bill-7"))
    until = format_time(world.clock.now_ms + HOLD_MS)
    fields: dict[str, Any] = {"asset": "COIN", "merchant": bakery.account, "until": until}
    held = world.record(*(ann.sign(Hold, amount=amount, reference="room", **fields) for amount in (40, 30, 20, 10)))
    captured, *_ = world.record(
        bakery.sign(Capture, amount=15, hold=hold_of(held[0])),
        bakery.sign(Capture, amount=5, final=True, hold=hold_of(held[1])),
        bakery.sign(Release, hold=hold_of(held[2])),
    )
    of = (
        RefundedRedemption(amount=30, operation=redeemed.op_id.hex()),
        RefundedExchange(amount=40, operation=exchanged.op_id.hex()),
    )
    refunds = [bakery.sign(Refund, asset="COIN", of=one, reference=f"back-{i}") for i, one in enumerate(of)]
    refunded, _ = world.record(*refunds)
    world.clock.advance(ms=HOLD_MS + 1)
    # What was on hold longer than it could be comes back with the next spending: the first hold's rest and the last's.
    (lapsed,) = world.record(ann.sign(Redeem, amount=1, asset="COIN", merchant=mint.account))
    return {
        "exchange": exchanged.seq,
        "redeem_kept": redeemed.seq,
        "hold": held[0].seq,
        "capture": captured.seq,
        "held": hold_of(held[0]),
        "spent": redeemed.op_id.hex(),
        "refund": refunded.seq,
        "lapse": lapsed.seq,
    }


def _give(world: World, mint: Wallet, bakery: Wallet, ann: Wallet) -> dict[str, Any]:
    """Points bought beforehand and given until few are left; a purchase refunded, and points given by hand."""
    allotment = mint.sign(
        Allot, co_signers=bakery.keys, asset="COIN", partner=bakery.account, points=100, reference="block-1"
    )
    (allotted,) = world.record(allotment)
    (given,) = world.record(buy(bakery, "COIN", ann, "b-1", 6_000))
    purchase = RefundedPurchase(amount=1_000, order="b-1")
    (returned,) = world.record(bakery.sign(Refund, asset="COIN", of=purchase, reference="b-1-back"))
    fields: dict[str, Any] = {"asset": "COIN", "member": ann.account}
    corrected, _ = world.record(
        mint.sign(Correct, amount=7, reason="goodwill", reference="sorry-1", **fields),
        mint.sign(Correct, amount=-3, reason="error", reference="sorry-2", **fields),
    )
    return {"allot": allotted.seq, "alert": given.seq, "refund_purchase": returned.seq, "correct": corrected.seq}


def _clear(world: World, mint: Wallet, bakery: Wallet, names: dict[str, Any]) -> dict[str, Any]:
    """Dispute three claims, of which one stands, one is cancelled and one is left; net the rest, and settle some."""
    claims = [ClaimRef(index=0, seq=names[name]) for name in ("exchange", "redeem_kept", "capture")]
    debtors = (mint, bakery, bakery)  # who keeps points pays for them
    signed = [debtor.sign(Dispute, claim=claim, reason="amount") for debtor, claim in zip(debtors, claims, strict=True)]
    disputed = world.record(*signed)
    world.record(
        mint.sign(ResolveDispute, claim=claims[0], outcome="stands"),
        mint.sign(ResolveDispute, claim=claims[1], outcome="cancelled"),
    )
    (netted,) = world.record(net(world, mint, bakery))
    world.record(buy(bakery, "COIN", world.wallet(names["ann"]), "b-2", 100))
    (payment,) = _payments(world)
    creditor = mint if payment.creditor == mint.account else bakery
    (settled,) = world.record(
        creditor.sign(Settle, amount=payment.amount - 1, currency="USD", debtor=payment.debtor, payment="bank-1")
    )
    return {
        "dispute": disputed[0].seq,
        "net": netted.seq,
        "settle": settled.seq,
        "creditor": payment.creditor,
        "open_dispute": claims[2].seq,
    }


def _payments(world: World) -> list[Any]:
    """What a netting left to be paid."""
    with world.store.read() as connection:
        needs = Touches.none()
        needs.groups.add(("obligations", ("USD",)))
        return [owed for owed in world.store.load_state(connection, needs).obligations if owed.netting >= 0]


def _freeze(world: World, ann: Wallet, ben: Wallet) -> dict[str, Any]:
    """Ben's account is frozen and has a recovery under way; Ann's was frozen by mistake."""
    operator = world.operator
    keys = [world.make_key(), world.make_key()]
    frozen, *_ = world.record(
        operator.sign(Freeze, account=ben.account, reason="stolen_points"),
        operator.sign(Freeze, account=ann.account, reason="fraud"),
        operator.sign(Unfreeze, account=ann.account, reason="mistake"),
        world.recover(ben, *keys, approval_threshold=2),
    )
    return {"freeze": frozen.seq}
