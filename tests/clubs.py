"""A shop with a program in which points depend on more than an amount, and what its members do.

    club = Club(tiers=Tiers(...), multipliers=(...))
    club.buy(10_000)
    club.refund(4_000)
    assert club.balance(club.alice, "STAR") == 60

Unless a test says otherwise a program gives 1 point for each whole dollar, and everything is Alice's.
"""

import itertools
from typing import Any

from ledger.program_terms import Program
from ledger.state import Admission, Membership, Pending
from ledger.terms import PurchaseLine
from tests.rulebook import Book, make_program


def line(amount: int, category: str | None = None, product: str | None = None) -> PurchaseLine:
    """A part of a purchase."""
    return PurchaseLine(amount=amount, category=category, product=product)


class Club(Book):
    """A shop that issues STAR and TIER, whose points count for status, a café, and two members, Alice and Bob."""

    def __init__(self, program: Program | None = None, *, asset: dict[str, Any] | None = None, **changes: Any) -> None:
        super().__init__()
        self.shop, self.cafe = self.merchant("Shop"), self.merchant("Café")
        self.alice, self.bob = self.member(), self.member()
        self._numbers_of_events = itertools.count(1)
        self.asset(self.shop, "TIER")
        self.asset(self.shop, "STAR", program or make_program(**changes), **(asset or {}))

    # Purchases and activities

    def purchase(self, amount: int, order: str | None = None, **fields: Any) -> dict[str, Any]:
        """A purchase by Alice, now."""
        order = order or f"order-{next(self._numbers_of_events)}"
        return {"amount": amount, "at": self.time, "member": self.alice, "order": order, **fields}

    def of(self, *purchases: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """The fields of their recording, by the shop unless said otherwise."""
        return {"actor": self.shop, "asset": "STAR", "currency": "USD", "purchases": list(purchases), **fields}

    def buy(self, amount: int, order: str | None = None, **fields: Any) -> Admission:
        """Record a purchase by Alice, now."""
        return self.do("record_purchases", **self.of(self.purchase(amount, order, **fields)))

    def grant(self, amount: int = 0, **fields: Any) -> dict[str, Any]:
        """The fields of a grant to Alice by the shop."""
        reference = f"reason-{next(self._numbers_of_events)}"
        known = {"activity": "goodwill", "actor": self.shop, "asset": "STAR", "member": self.alice}
        return {"amount": amount or None, "reference": reference, **known, **fields}

    def of_refund(self, amount: int, order: str = "A-1", lines: dict[int, int] | None = None, **fields: Any) -> Any:
        """The fields of the refund of a purchase by the shop, of so much of these lines."""
        of: dict[str, Any] = {"amount": amount, "order": order, "type": "purchase"}
        if lines is not None:
            of["lines"] = [{"amount": part, "line": number} for number, part in lines.items()]
        reference = f"refund-{next(self._numbers_of_events)}"
        return {"actor": self.shop, "asset": "STAR", "of": of, "reference": reference, **fields}

    def refund(self, amount: int, order: str = "A-1", lines: dict[int, int] | None = None, **fields: Any) -> Admission:
        """Refund part of a purchase."""
        return self.do("refund", **self.of_refund(amount, order, lines, **fields))

    def vest(self, *orders: str, **fields: Any) -> Admission:
        """Issue what is due of the shop's purchases."""
        return self.do("vest", **self.of_vest(*orders, **fields))

    def of_vest(self, *orders: str, **fields: Any) -> dict[str, Any]:
        """The fields of a vest by the shop."""
        purchases = [{"merchant": self.shop, "order": order} for order in orders]
        return {"actor": self.shop, "asset": "STAR", "purchases": purchases, **fields}

    # Members

    def invite(self, member: str, by: str) -> None:
        """Let a member say who invited it."""
        self.do("enroll", actor=member, asset="STAR", invited_by=by)

    def membership(self, account: str | None = None, asset: str = "STAR") -> Membership:
        """A membership there is."""
        membership = self.state.memberships.get(asset, account or self.alice)
        assert membership is not None
        return membership

    def progress(self, account: str | None = None) -> dict[tuple[str, str], int]:
        """What an account did, by basis and period."""
        done = self.state.progress.group("STAR", account or self.alice)
        return {(progress.basis, progress.period): progress.count for progress in done}

    def usages(self) -> dict[tuple[str, str, str], int]:
        """What was counted under bounds, by scope, account and period."""
        return {(usage.scope, usage.account, usage.period): usage.points for usage in self.state.usages}

    def pending(self, order: str = "A-1", merchant: str | None = None) -> Pending | None:
        """What was promised for a purchase and not issued yet."""
        return self.state.pending.get(merchant or self.shop, order)

    def stars(self, account: str | None = None, asset: str = "STAR") -> int:
        """The points an account has, usable or not."""
        return self.balance(account or self.alice, asset)

    def legs(self, admission: Admission) -> list[tuple[str, int, str, str | None]]:
        """The legs of an entry: who, how many, of what, of which lot."""
        names = {self.alice: "alice", self.bob: "bob", self.shop: "shop", self.cafe: "cafe"}
        return [(names.get(leg.account, leg.account), leg.amount, leg.asset, leg.lot) for leg in admission.postings]
