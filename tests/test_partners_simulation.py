"""A simulation of partners: every kind of operation by several merchants and members, against the reference verifier.

The reference (:mod:`tests.reference_verifier`) is written from FORMAT.md and shares no code with the rules. Operations
gather until they are handed in together, so batches mix kinds. Each outcome must be the reference's: the same postings,
or a refusal with the same code. After every hand-in the stored balances, holds, refunds and claims must hold together
(:meth:`Partners.check_books`), and a replay of all entries must give what is stored.
"""

import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ledger.clearing import positions_of, propose_payments
from ledger.encoding import format_time
from ledger.entries import NO_LAST_DAY
from ledger.operations import (
    Agree,
    Allot,
    Capture,
    Correct,
    Dispute,
    EndAgreement,
    Exchange,
    Expire,
    Freeze,
    Grant,
    Hold,
    Net,
    Operation,
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
from ledger.program_terms import Band, ExpiresAfterDays, NeverExpires
from ledger.sequencer import Recorded
from ledger.state import NOT_NETTED, PointsHold, Rejection, State
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
    Terms,
    TransferTerms,
    Value,
)
from ledger.wallet import Wallet
from tests import reference_verifier as reference
from tests.reference import check_projections, check_record
from tests.worlds import World, make_program

ORIGINS = itertools.count()
ASSETS = ("STAR", "BEAN", "MILE")
SYSTEM = ("sys_issued", "sys_spent", "sys_expired", "sys_held")

# What refunds do when the points are gone, what returned lots may do, and when points expire, by asset.
PROGRAMS = {
    "STAR": make_program(expiry=ExpiresAfterDays(count=20), returned_lot_days=5, approval_above=900),
    "BEAN": make_program(refunds="negative", expiry=NeverExpires()),
    "MILE": make_program(
        refunds="owe", expiry=ExpiresAfterDays(count=3), bands=(Band(from_amount=0, points=3, per=200),)
    ),
}
TRANSFER_TERMS = TransferTerms(
    step=10,
    minimum=20,
    maximum=400,
    out_cap=Cap(points=600, period="month"),
    in_cap=Cap(points=900, period="month"),
    fee=Fee(amount=1, points=1, fixed=30, maximum=250, currency="USD", round="down"),
)

ACCEPTED = (("STAR", 0), ("STAR", 1), ("BEAN", 1), ("BEAN", 2), ("MILE", 2), ("STAR", 1), ("BEAN", 2), ("MILE", 0))
"""Where points are spent: at their issuers, at partners, and once where they are not accepted."""

EXCHANGED = (("STAR", "BEAN"), ("BEAN", "STAR"), ("STAR", "MILE"), ("STAR", "BEAN"), ("STAR", "MILE"), ("MILE", "BEAN"))
"""What becomes what, and once what does not."""

picks = st.integers(0, 10**6)
amounts = st.sampled_from([1, 7, 10, 20, 50, 99, 100, 120, 250, 1_000])
rounds = st.sampled_from(["down", "half_up", "half_even", "up"])


def pick(among: Any, number: int) -> Any:
    """One of several, by a number of any size."""
    among = list(among)
    return among[number % len(among)]


class Partners(RuleBasedStateMachine):
    """Three merchants, each with an asset of its own, and four members; see the module."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.url, origin=f"ledger.example/partners-{next(ORIGINS)}", seed=2)
        self.verifier = reference.Verifier()
        self.pending: list[SignedOperation] = []
        self.orders: list[tuple[int, str, str]] = []
        self.spent: list[tuple[str, Any]] = []
        self.numbers = itertools.count()
        self.state = State("")

    def teardown(self) -> None:
        try:
            self.hand_in()
            check_record(self.world.store)
        finally:
            self.world.close()

    # Setting up

    @initialize(rounding=rounds, prepaid=st.booleans())
    def found(self, rounding: Any, prepaid: bool) -> None:
        world = self.world
        self.merchants = [world.add_merchant(f"Shop {i}") for i in range(3)]
        self.members = world.add_members(4)
        value = Value(amount=2, points=3, currency="USD")
        for merchant, code in zip(self.merchants, ASSETS, strict=True):
            terms = TRANSFER_TERMS if code == "MILE" else None
            world.add_asset(merchant, code, PROGRAMS[code], value=value, transfer_terms=terms, supply_cap=30_000)
            for member in self.members:
                world.grant(merchant, code, member, 900)
        self.catch_up()
        a, b, c = (str(merchant.account) for merchant in self.merchants)
        self.agree(0, 1, self.exchange_terms("STAR", "BEAN", 5, 3, a, rounding, "retired"))
        self.agree(1, 0, self.exchange_terms("BEAN", "STAR", 3, 2, a, rounding, "kept"))
        self.agree(0, 2, self.exchange_terms("STAR", "MILE", 10, 3, c, rounding, "retired", bonus=True))
        self.agree(1, 2, AcceptanceTerms(asset="BEAN", received="retired", claim=self.owed(b, rounding), minimum=5))
        self.agree(0, 1, AcceptanceTerms(asset="STAR", received="kept", claim=self.owed(b, rounding), step=10))
        billing: Any = {"billing": "prepaid", "alert_below": 50} if prepaid else {"billing": "postpaid"}
        self.agree(0, 2, EarningTerms(asset="STAR", claim=self.owed(c, rounding), **billing))
        self.hand_in()

    @staticmethod
    def owed(debtor: str, rounding: Any) -> ClaimTerms:
        return ClaimTerms(amount=2, points=3, currency="USD", debtor=debtor, round=rounding)

    def exchange_terms(  # noqa: PLR0917
        self,
        asset: str,
        into: str,
        give: int,
        get: int,
        debtor: str,
        rounding: Any,
        received: Any,
        *,
        bonus: bool = False,
    ) -> ExchangeTerms:
        return ExchangeTerms(
            asset=asset,
            into=into,
            rate=Rate(give=give, get=get),
            bonus=Bonus(block=100, points=5) if bonus else None,
            received=received,
            claim=self.owed(debtor, rounding),
            fee=KeptFee(amount=3, points=50, currency="EUR", round="half_up", kept_by=debtor) if bonus else None,
            holder_cap=Cap(points=700, period="day") if bonus else None,
            step=10 if bonus else 1,
            off_step="down" if bonus else "refuse",
        )

    def agree(self, issuer: int, partner: int, terms: Terms, version: int = 1, **fields: Any) -> None:
        merchant, other = self.merchants[issuer], self.merchants[partner]
        fields = {"notice_days": 1, "starts": format_time(self.world.clock.now_ms), **fields}
        self.add(
            merchant.sign(
                Agree, co_signers=other.keys, partner=str(other.account), terms=terms, version=version, **fields
            )
        )

    # Handing in

    def add(self, signed: SignedOperation) -> SignedOperation:
        self.pending.append(signed)
        if len(self.pending) >= 6:
            self.hand_in()
        return signed

    def sign(self, wallet: Wallet, kind: type[Operation], **fields: Any) -> SignedOperation:
        return self.add(wallet.sign(kind, **fields))

    def catch_up(self) -> None:
        """Tell the reference of entries that were recorded while the world was set up."""
        with self.world.store.read() as connection:
            size = self.world.store.head(connection).size
            data = self.world.store.entry_data(connection, range(self.verifier.size, size))
        for seq in sorted(data):
            self.verifier.add(data[seq])

    @rule()
    def hand_in(self) -> None:
        """Submit what is pending; every outcome must be the reference's."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        outcomes = self.world.submit(*pending)
        for signed, outcome in zip(pending, outcomes, strict=True):
            if isinstance(outcome, Recorded):
                if not outcome.replayed:
                    self.verifier.add(outcome.data)
                continue
            assert isinstance(outcome, Rejection), outcome
            assert self.code_of(signed) == outcome.code, (signed.op, outcome)
        self.state = check_projections(self.world.store)
        self.check_books()

    def code_of(self, signed: SignedOperation) -> str:
        """The code with which the reference refuses an operation now."""
        time = max(format_time(self.world.clock.now_ms), self.verifier.time)
        try:
            postings = self.verifier.replica.decide(
                reference.decode(signed.op_bytes), {signature.key for signature in signed.sigs}, time
            )
        except reference.RefusedError as refused:
            return refused.code
        return f"the reference admits it with {postings}"

    # Invariants

    def check_books(self) -> None:
        """What must hold whatever happened: of the state that replay gives, which is what is stored."""
        state = self.state
        totals: dict[str, int] = defaultdict(int)
        held: dict[str, int] = defaultdict(int)
        money: dict[tuple[str, str], int] = defaultdict(int)
        for (account, asset), lots in state.lots.items():
            totals[asset] += sum(lots.values())
            for day, points in lots.items():
                if account in SYSTEM or asset not in ASSETS or points > 0:
                    continue
                assert asset in {"STAR", "BEAN"}, f"{account} is left with {points} of {asset}"  # others owe money
                assert day == NO_LAST_DAY
        assert not any(totals.values())
        for hold in state.holds:
            assert 0 <= hold.captured <= hold.amount
            assert hold.remaining + hold.captured <= hold.amount
            assert (hold.remaining == 0) == (hold.status != "open")
            held[hold.asset] += hold.remaining
        assert all(state.balance("sys_held", asset) == held[asset] for asset in ASSETS)
        assert all(0 <= spending.refunded <= spending.amount for spending in state.spendings)
        for refund in state.purchase_refunds:
            _, earning = state.earnings[refund.merchant, "order", refund.reference]
            assert earning.amount is not None
            assert 0 < refund.amount <= earning.amount
            assert 0 <= refund.points <= earning.points
        for owed in [*state.obligations, *(claim for claim in state.claims if claim.status == "disputed")]:
            assert owed.amount > 0
            money[owed.creditor, owed.currency] += owed.amount
            money[owed.debtor, owed.currency] -= owed.amount
        for (account, asset), lots in state.lots.items():
            if asset not in ASSETS:
                assert sum(lots.values()) == money.pop((account, asset), 0)
        assert not any(money.values())
        for merchant in ASSETS:
            assert state.balance("sys_issued", merchant) <= 0

    # What people do

    @rule(number=picks, who=picks, amount=st.sampled_from([0, 999, 5_000, 12_075]), days=st.integers(0, 4))
    def purchase(self, number: int, who: int, amount: int, days: int) -> None:
        """Merchants record purchases in their own asset, and the third also gives points of the first."""
        merchant, asset = pick([(0, "STAR"), (1, "BEAN"), (2, "MILE"), (2, "STAR"), (1, "STAR")], number)
        order = f"order-{next(self.numbers)}"
        at = format_time(self.world.clock.now_ms - days * 86_400_000)
        purchase = Purchase(member=str(pick(self.members, who).account), amount=amount, at=at, order=order)
        self.sign(self.merchants[merchant], RecordPurchases, asset=asset, currency="USD", purchases=(purchase,))
        self.orders.append((merchant, asset, order))

    @rule(points=amounts)
    def allot(self, points: int) -> None:
        issuer, partner = self.merchants[0], self.merchants[2]
        fields = {"asset": "STAR", "partner": str(partner.account), "points": points}
        reference_ = f"block-{next(self.numbers)}"
        self.add(issuer.sign(Allot, co_signers=partner.keys, reference=reference_, **fields))

    @rule(number=picks, who=picks, points=amounts, sign=st.sampled_from([1, -1]))
    def correct(self, number: int, who: int, points: int, sign: int) -> None:
        merchant = number % 3
        fields = {"asset": ASSETS[merchant], "member": str(pick(self.members, who).account), "reason": "error"}
        reference_ = f"correction-{next(self.numbers)}"
        self.sign(self.merchants[merchant], Correct, amount=sign * points, reference=reference_, **fields)

    @rule(number=picks, who=picks, points=amounts)
    def grant(self, number: int, who: int, points: int) -> None:
        merchant = number % 3
        fields = {"asset": ASSETS[merchant], "member": str(pick(self.members, who).account), "activity": "goodwill"}
        self.sign(self.merchants[merchant], Grant, amount=points, reference=f"g-{next(self.numbers)}", **fields)

    @rule(number=picks, who=picks, whom=picks, points=amounts, fee=st.sampled_from([0, 40, 1_000]))
    def transfer(self, number: int, who: int, whom: int, points: int, fee: int) -> None:
        payer, payee = pick([*self.members, self.merchants[2]], who), pick(self.members, whom)
        if payer is payee:
            return
        recipients = (Recipient(to=str(payee.account), amount=points),)
        self.sign(payer, Transfer, asset=pick(ASSETS, number), recipients=recipients, maximum_fee=fee)

    @rule(number=picks, who=picks, points=amounts)
    def redeem(self, number: int, who: int, points: int) -> None:
        asset, where = pick(ACCEPTED, number)
        fields = {"asset": asset, "amount": points, "merchant": str(self.merchants[where].account)}
        signed = self.sign(pick([*self.members, self.merchants[1]], who), Redeem, **fields)
        self.spent.append(("redemption", signed))

    @rule(number=picks, who=picks, points=amounts, out=st.sampled_from([1, 1, 1, 60]), fee=st.sampled_from([0, 100]))
    def exchange(self, number: int, who: int, points: int, out: int, fee: int) -> None:
        asset, into = pick(EXCHANGED, number)
        fields = {"asset": asset, "into": into, "amount": points, "minimum_out": out, "maximum_fee": fee}
        self.spent.append(("exchange", self.sign(pick(self.members, who), Exchange, **fields)))

    @rule(number=picks, who=picks, points=amounts, days=st.sampled_from([1, 2, 2, 30, 30, 30, -1, 400]))
    def hold(self, number: int, who: int, points: int, days: int) -> None:
        asset, where = pick(ACCEPTED, number)
        until = format_time(self.world.clock.now_ms + days * 86_400_000)
        fields = {"asset": asset, "amount": points, "merchant": str(self.merchants[where].account), "until": until}
        self.sign(pick(self.members, who), Hold, **fields)

    def some_hold(self, number: int) -> PointsHold | None:
        """A hold, mostly one that is open."""
        holds = sorted(self.state.holds, key=lambda hold: (hold.status != "open", hold.seq))
        return pick(holds[: max(len(holds) // 2, 3)], number) if holds else None

    @rule(number=picks, part=st.sampled_from([1, 2, 2, 3]), final=st.booleans(), stranger=st.integers(0, 9))
    def capture(self, number: int, part: int, final: bool, stranger: int) -> None:
        """Capture some of what is left, and sometimes more, or as another merchant."""
        self.hand_in()
        hold = self.some_hold(number)
        if hold is not None:
            merchant = self.owner(hold.merchant) if stranger else self.merchants[0]
            amount = max(hold.remaining // part, 1) + (stranger == 1)
            self.spent.append(("redemption", self.sign(merchant, Capture, hold=hold.hold, amount=amount, final=final)))

    @rule(number=picks, who=picks)
    def release(self, number: int, who: int) -> None:
        hold = self.some_hold(number)
        if hold is not None:
            self.sign(pick([self.owner(hold.merchant), *self.members[:2]], who), Release, hold=hold.hold)

    def owner(self, account: str) -> Wallet:
        """The wallet of an account."""
        return next(each for each in [*self.merchants, *self.members] if each.account == account)

    @rule(number=picks, amount=st.sampled_from([1, 500, 999, 5_000, 12_075]))
    def refund_purchase(self, number: int, amount: int) -> None:
        if self.orders:
            merchant, asset, order = pick(self.orders[-8:], number)
            of = RefundedPurchase(order=order, amount=amount)
            self.sign(self.merchants[merchant], Refund, asset=asset, of=of, reference=f"r-{next(self.numbers)}")

    @rule(number=picks, points=amounts, whole=st.booleans())
    def refund_spending(self, number: int, points: int, whole: bool) -> None:
        if not self.spent:
            return
        self.hand_in()
        what, signed = pick(self.spent[-8:], number)
        found = self.state.spendings.get(signed.op_id.hex())
        left = 0 if found is None else found.amount - found.refunded
        points = left if whole and left else points
        of: Any = RefundedRedemption if what == "redemption" else RefundedExchange
        asset = "STAR" if found is None else found.asset
        account = self.merchants[0].account if found is None else found.merchant
        merchant = self.owner(str(account))
        document = of(operation=signed.op_id.hex(), amount=points)
        self.sign(merchant, Refund, asset=asset, of=document, reference=f"r-{next(self.numbers)}")

    @rule(number=picks, part=st.sampled_from([1, 1, 2, 3]), over=st.sampled_from([0, 0, 0, 1]))
    def settle(self, number: int, part: int, over: int) -> None:
        """Confirm that some of what is owed was paid, and sometimes more than that."""
        self.hand_in()
        if len(self.state.obligations):
            owed = pick(self.state.obligations, number)
            fields = {"currency": owed.currency, "debtor": owed.debtor, "amount": max(owed.amount // part, 1) + over}
            self.sign(self.owner(owed.creditor), Settle, payment=f"bank-{next(self.numbers)}", **fields)

    @rule(number=picks, count=st.integers(2, 3), days=st.sampled_from([0, 0, 0, -1, 1]), wrong=st.integers(0, 5))
    def net(self, number: int, count: int, days: int, wrong: int) -> None:
        """Replace what some merchants owe each other by the payments proposed, or once in a while by others."""
        self.hand_in()
        accounts = tuple(
            str(merchant.account) for merchant in pick(itertools.combinations(self.merchants, count), number)
        )
        through = format_time(self.world.clock.now_ms + days * 86_400_000)[:10]
        owed = [each for each in self.state.obligations if each.currency == "USD" and each.netting == NOT_NETTED]
        payments = tuple(propose_payments(positions_of(owed, accounts, through)))
        if wrong == 0 and payments:
            first = payments[0]
            payments = (Payment(creditor=first.creditor, debtor=first.debtor, amount=first.amount + 1), *payments[1:])
        self.sign(self.world.operator, Net, currency="USD", merchants=accounts, payments=payments, through=through)

    @rule(number=picks, who=picks)
    def dispute(self, number: int, who: int) -> None:
        if len(self.state.claims):
            claim = pick(list(self.state.claims)[-8:], number)
            actor = pick([self.owner(claim.creditor), self.owner(claim.debtor), *self.merchants], who)
            self.sign(actor, Dispute, claim=ClaimRef(seq=claim.seq, index=claim.index), reason="amount")

    @rule(number=picks, who=picks, outcome=st.sampled_from(["stands", "cancelled"]))
    def resolve_dispute(self, number: int, who: int, outcome: Any) -> None:
        self.hand_in()
        among = [claim for claim in self.state.claims if claim.status == "disputed"] or list(self.state.claims)[-3:]
        if among:
            claim = pick(among, number)
            actor = pick([self.owner(claim.creditor), self.owner(claim.debtor), self.world.operator], who)
            self.sign(actor, ResolveDispute, claim=ClaimRef(seq=claim.seq, index=claim.index), outcome=outcome)

    @rule(who=picks, frozen=st.booleans())
    def freeze(self, who: int, frozen: bool) -> None:
        account = str(pick([*self.members[:2], self.merchants[2]], who).account)
        if frozen:
            self.sign(self.world.operator, Freeze, account=account, reason="fraud")
        else:
            self.sign(self.world.operator, Unfreeze, account=account, reason="resolved")

    @rule()
    def unfreeze_all(self) -> None:
        for wallet in [*self.members, *self.merchants]:
            account = self.state.accounts.get(str(wallet.account))
            if account is not None and account.frozen_seq is not None:
                self.sign(self.world.operator, Unfreeze, account=account.id, reason="mistake")

    @rule(number=picks, give=st.integers(1, 12), get=st.integers(1, 12), days=st.sampled_from([-1, 0, 1]))
    def agree_anew(self, number: int, give: int, get: int, days: int) -> None:
        """Another version of an exchange: a loop that would pay is refused."""
        asset, into = pick(itertools.permutations(ASSETS, 2), number)
        issuer, partner = ASSETS.index(asset), ASSETS.index(into)
        versions = self.state.agreements.group(f"{asset}>{into}")
        starts = format_time(self.world.clock.now_ms + days * 86_400_000)
        terms = ExchangeTerms(asset=asset, into=into, rate=Rate(give=give, get=get), received="retired")
        self.agree(issuer, partner, terms, version=len(versions) + 1, starts=starts)

    @rule(number=picks, who=picks, days=st.integers(0, 3))
    def end_agreement(self, number: int, who: int, days: int) -> None:
        names = sorted({agreement.agreement for agreement in self.state.agreements})
        if names and number % 5 == 0:
            ends = format_time(self.world.clock.now_ms + days * 86_400_000)
            self.sign(pick(self.merchants, who), EndAgreement, agreement=pick(names, number), ends=ends)

    @rule(number=picks)
    def expire(self, number: int) -> None:
        through = format_time(self.world.clock.now_ms - 86_400_000)[:10]
        self.sign(self.world.operator, Expire, asset=pick(ASSETS, number), through=through, limit=50)

    @rule(hours=st.sampled_from([1, 20, 30, 100]))
    def time_passes(self, hours: int) -> None:
        self.hand_in()
        self.world.clock.advance(ms=hours * 3_600_000)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a failure is made smaller for up to 5 minutes before it is shown
def test_partners_do_what_the_reference_says(database_url: str) -> None:
    """Whatever merchants and members do, in whatever batches: outcomes are the reference's, and the books agree."""
    simulation = type("Simulation", (Partners,), {"url": database_url})
    run_state_machine_as_test(
        simulation,
        settings=settings(
            max_examples=20 if database_url.startswith("sqlite") else 8,
            stateful_step_count=50,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
