"""Three merchants with claims against each other, for tests of statements and journals.

Each issues an asset and accepts those of the two others for one minor unit of money a point, which the issuer owes. ::

    three = make_three(world)
    three.redeem(0, 1, 500)   # a member spends 500 points of the first at the second: the first owes 5.00
"""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from ledger.clearing import positions_of, propose_payments
from ledger.encoding import format_time
from ledger.operations import Agree, Dispute, Net, Redeem, ResolveDispute, Settle
from ledger.sequencer import Recorded
from ledger.state import Obligation
from ledger.tables import CLAIM, OBLIGATION
from ledger.terms import AcceptanceTerms, ClaimRef, ClaimTerms, Payment
from ledger.wallet import Wallet
from tests.worlds import DAY_MS, World

CODES = ("STAR", "BEAN", "LEAF")


class Three(Struct, kw_only=True):
    """Merchants by number, and a member who has points of all."""

    world: World
    merchants: list[Wallet]
    member: Wallet
    currency: str = "USD"
    used: int = 0

    def account(self, number: int) -> str:
        return str(self.merchants[number].account)

    def redeem(self, issuer: int, at: int, points: int, reference: str | None = None) -> Recorded:
        """The issuer owes the other merchant as many cents."""
        redemption = self.member.sign(
            Redeem, asset=CODES[issuer], amount=points, merchant=self.account(at), reference=reference
        )
        return self.world.record(redemption)[0]

    def net(self, through: str, *payments: tuple[int, int, int], merchants: Sequence[int] = (0, 1, 2)) -> Recorded:
        """A netting with payments of (debtor, creditor, amount)."""
        paid = tuple(Payment(debtor=self.account(a), creditor=self.account(b), amount=n) for a, b, n in payments)
        among = tuple(sorted(map(self.account, merchants)))
        signed = self.world.operator.sign(Net, currency=self.currency, merchants=among, payments=paid, through=through)
        return self.world.record(signed)[0]

    def settle(self, debtor: int, creditor: int, amount: int) -> Recorded:
        self.used += 1
        signed = self.merchants[creditor].sign(
            Settle, amount=amount, currency=self.currency, debtor=self.account(debtor), payment=f"wire-{self.used}"
        )
        return self.world.record(signed)[0]

    def dispute(self, by: int, claim: Recorded) -> Recorded:
        named = ClaimRef(seq=claim.seq, index=0)
        return self.world.record(self.merchants[by].sign(Dispute, claim=named, reason="amount"))[0]

    def resolve(self, by: int, claim: Recorded, outcome: str) -> Recorded:
        named = ClaimRef(seq=claim.seq, index=0)
        return self.world.record(self.merchants[by].sign(ResolveDispute, claim=named, outcome=outcome))[0]


def make_three(
    world: World, names: Sequence[str] = ("École “Süd” & Co", "Bean", "Leaf"), currency: str = "USD"
) -> Three:
    """Merchants, assets, agreements, and a member with 100,000 points of each asset."""
    merchants = [world.add_merchant(name) for name in names]
    member = world.add_member()
    for merchant, code in zip(merchants, CODES, strict=True):
        world.add_asset(merchant, code)
        world.grant(merchant, code, member, 100_000)
    for issuer, code in zip(merchants, CODES, strict=True):
        for partner in merchants:
            if partner is not issuer:
                claim = ClaimTerms(amount=1, currency=currency, debtor=str(issuer.account), points=1, round="half_up")
                terms = AcceptanceTerms(asset=code, claim=claim, received="retired")
                world.record(
                    issuer.sign(
                        Agree,
                        co_signers=partner.keys,
                        notice_days=30,
                        partner=partner.account,
                        starts=format_time(world.clock()),
                        terms=terms,
                        version=1,
                    )
                )
    return Three(world=world, merchants=merchants, member=member, currency=currency)


def make_march(three: Three) -> dict[str, Recorded]:
    """Claims of one day, netted two days later with a claim in dispute, settled in part; then more of it."""
    world = three.world
    entries = {"a": three.redeem(0, 1, 500), "b": three.redeem(1, 0, 200), "c": three.redeem(1, 2, 100)}
    entries["disputed"] = three.redeem(0, 1, 40)
    entries["dispute"] = three.dispute(0, entries["disputed"])
    world.clock.advance(days=2)
    entries["net"] = three.net("2026-03-02", (0, 1, 200), (0, 2, 100))
    entries["settle"] = three.settle(0, 1, 150)
    entries["late"] = three.redeem(2, 1, 7)
    entries["stands"] = three.resolve(0, entries["disputed"], "stands")
    world.clock.advance(days=1)
    entries["settle_rest"] = three.settle(0, 1, 60)
    entries["wrong"] = three.redeem(0, 1, 9)
    entries["dispute_wrong"] = three.dispute(0, entries["wrong"])
    entries["cancelled"] = three.resolve(1, entries["wrong"], "cancelled")
    return entries


class Simulation:
    """A history of clearing that a seed decides: claims, disputes, payments and nettings among three merchants."""

    def __init__(self, three: Three, seed: int) -> None:
        self.three = three
        self.random = random.Random(seed)
        self.open: list[Recorded] = []
        self.disputed: list[Recorded] = []

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.random.choice(
                [self.claim, self.claim, self.claim, self.dispute, self.resolve, self.pay, self.net]
            )
            step()
            self.three.world.clock.advance(ms=self.random.choice([0, 3_600_000, 40_000_000, 90_000_000]))

    def claim(self) -> None:
        issuer, at = self.random.sample(range(3), 2)
        self.open.append(self.three.redeem(issuer, at, self.random.randint(1, 50)))

    def dispute(self) -> None:
        """Of a claim that may be closed by now: then nothing is recorded."""
        if self.open:
            claim = self.open.pop(self.random.randrange(len(self.open)))
            debtor = next(n for n in range(3) if claim_in(self.three, claim).debtor == self.three.account(n))
            named = ClaimRef(seq=claim.seq, index=0)
            signed = self.three.merchants[debtor].sign(Dispute, claim=named, reason="other")
            if isinstance(self.three.world.submit(signed)[0], Recorded):
                self.disputed.append(claim)

    def resolve(self) -> None:
        if self.disputed:
            claim = self.disputed.pop(self.random.randrange(len(self.disputed)))
            parties = [self.three.account(n) for n in range(3)]
            outcome = self.random.choice(["stands", "cancelled"])
            found = claim_in(self.three, claim)
            by = parties.index(found.debtor if outcome == "stands" else found.creditor)
            self.three.resolve(by, claim, outcome)
            if outcome == "stands":
                self.open.append(claim)

    def pay(self) -> None:
        owed = due(self.three)
        if owed:
            (debtor, creditor), amount = self.random.choice(sorted(owed.items()))
            accounts = [self.three.account(n) for n in range(3)]
            self.three.settle(accounts.index(debtor), accounts.index(creditor), self.random.randint(1, amount))

    def net(self) -> None:
        """What was claimed through yesterday or until now, where anything was."""
        world = self.three.world
        merchants = tuple(
            sorted(self.three.account(n) for n in self.random.sample(range(3), self.random.choice([2, 3])))
        )
        through = format_time(world.clock() - self.random.choice([0, DAY_MS]))[:10]
        with world.store.read() as connection:
            rows = connection.execute(sa.select(OBLIGATION)).all()
        obligations = [Obligation(**{k: v for k, v in row._mapping.items() if k != "ledger_id"}) for row in rows]
        payments = propose_payments(positions_of(obligations, merchants, through))
        world.submit(
            world.operator.sign(
                Net, currency=self.three.currency, merchants=merchants, payments=tuple(payments), through=through
            )
        )


def claim_in(three: Three, recorded: Recorded) -> Any:
    with three.world.store.read() as connection:
        return connection.execute(sa.select(CLAIM).where(CLAIM.c.seq == recorded.seq)).one()


def due(three: Three) -> dict[tuple[str, str], int]:
    """What the ledger's own table says is owed, by debtor and creditor."""
    owed: Counter[tuple[str, str]] = Counter()
    with three.world.store.read() as connection:
        for row in connection.execute(sa.select(OBLIGATION)):
            owed[row.debtor, row.creditor] += row.amount
    return dict(owed)
